//! Whatever Automerge writes passes, and is read as Automerge reads it.

use automerge::ExpandedChange;
use proptest::prelude::*;

use super::*;

fn assert_agrees(automerge: &Change, gate: &CheckedChange) {
    assert_eq!(gate.hash(), automerge.hash());
    assert_eq!(gate.deps(), automerge.deps());
    assert_eq!(gate.actor(), automerge.actor_id());
    assert_eq!(gate.other_actors(), automerge.other_actor_ids());
    assert_eq!(gate.seq(), automerge.seq());
    assert_eq!(gate.start_op(), automerge.start_op().get());
    assert_eq!(gate.max_op(), automerge.max_op());
    assert_eq!(gate.op_count(), automerge.len() as u64);
    assert_eq!(gate.timestamp(), automerge.timestamp());
    // In memory Automerge tells an empty message from none; the bytes do not.
    assert_eq!(gate.message(), automerge.message().filter(|text| !text.is_empty()));
    assert_eq!(gate.extra_bytes(), automerge.extra_bytes());
    assert_eq!(&gate.bytes()[..], automerge.raw_bytes());
    let expanded = ExpandedChange::from(automerge);
    let ops: Vec<_> = gate.ops().map(|op| to_legacy(gate, &op)).collect();
    assert_eq!(ops, expanded.operations);
    let counters: Vec<_> = gate.ops().map(|op| op.id_counter).collect();
    assert_eq!(counters, (gate.start_op()..=gate.max_op()).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn every_honest_change_passes_and_reads_the_same(seed: u64) {
        for mut change in honest_changes(seed) {
            let checked = CheckedChange::parse(change.raw_bytes()).unwrap();
            assert_agrees(&change, &checked);
            let compressed = change.bytes().into_owned();
            let compressed = CheckedChange::parse(&compressed).unwrap();
            assert_agrees(&change, &compressed);
            prop_assert_eq!(checked, compressed);
        }
    }

    #[test]
    fn a_stream_of_chunks_is_split_where_it_was_joined(seed: u64) {
        let mut changes = honest_changes(seed);
        let mut stream = Vec::new();
        for change in &mut changes {
            stream.extend_from_slice(&change.bytes());
        }
        let split: Vec<_> = chunks(&stream).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(split.len(), changes.len());
        for (chunk, change) in split.iter().zip(&mut changes) {
            prop_assert_eq!(CheckedChange::from_chunk(chunk).unwrap().hash(), change.hash());
            prop_assert_eq!(chunk.raw(), &change.bytes()[..]);
        }
    }
}

#[test]
fn documents_are_split_off_but_are_no_changes() {
    let mut doc = AutoCommit::new();
    doc.put(ROOT, "k", 1).unwrap();
    let mut stream = doc.save();
    stream.extend_from_slice(doc.get_last_local_change().unwrap().raw_bytes());
    let kinds: Vec<_> = chunks(&stream).map(|chunk| chunk.unwrap().kind()).collect();
    assert_eq!(kinds, [ChunkKind::Document, ChunkKind::Change]);
    assert_eq!(verdict(&doc.save()), "chunk-type");
    assert_eq!(verdict(&stream), "trailing");
}

#[test]
fn splitter_stops_at_the_first_fault() {
    let mut doc = AutoCommit::new();
    doc.put(ROOT, "k", 1).unwrap();
    let chunk = doc.get_last_local_change().unwrap().raw_bytes().to_vec();
    let mut stream = [&chunk[..], &chunk[..], &chunk[..]].concat();
    stream[chunk.len() + 5] ^= 1;
    let codes: Vec<_> = chunks(&stream).map(|chunk| chunk.map_or_else(|error| error.rule().code(), |_| "ok")).collect();
    assert_eq!(codes, ["ok", "checksum"]);
}

#[test]
fn pasted_book_passes() {
    let mut doc = AutoCommit::new();
    let text = doc.put_object(ROOT, "t", ObjType::Text).unwrap();
    doc.splice_text(&text, 0, 0, &"Call me Ishmael. ".repeat(3_000)).unwrap();
    let mut change = doc.get_last_local_change().unwrap().clone();
    let compressed = change.bytes().into_owned();
    assert!(compressed.len() < 10_000, "the test sees no compressed change");
    assert_agrees(&change, &CheckedChange::parse(&compressed).unwrap());
}

#[test]
fn author_footer_passes_on_the_first_change() {
    let author = automerge::Author::from(vec![1, 2, 3]);
    let mut doc = AutoCommit::new();
    doc.set_author(Some(author));
    for value in 0..3 {
        doc.put(ROOT, "k", value).unwrap();
        doc.commit();
    }
    let changes = doc.get_changes(&[]);
    assert!(changes.iter().any(|change| !change.extra_bytes().is_empty()), "the test sees no footer");
    for change in changes {
        assert_agrees(&change, &CheckedChange::parse(change.raw_bytes()).unwrap());
    }
}
