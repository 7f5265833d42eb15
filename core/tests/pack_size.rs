//! What packs take, against a saved document of Automerge's own, and how long they take.
//!
//! `cargo test --release -p rejoin --test pack_size -- --ignored --nocapture` prints the table.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement prints, and one that cannot go on fails")]

use std::time::Instant;

use automerge::transaction::Transactable;
use automerge::{AutoCommit, ObjType, ROOT};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rejoin::gate::CheckedChange;
use rejoin::limits::PACK_CHANGES_MAX;
use rejoin::pack::{pack, unpack};

const CHANGES: usize = 50_000;

#[test]
#[ignore = "a measurement: minutes without --release"]
fn packs_against_a_saved_document() {
    println!("| history | changes | raw bytes | save() | packs | packs / save() | pack ns | unpack ns |");
    println!("|---|---|---|---|---|---|---|---|");
    measure("overwrites, small integers", overwrites(|random| random.random_range(0..100_i64).into()));
    measure("overwrites, 12 characters", overwrites(|random| text(random, 12).into()));
    measure("increments and flags, 3 a change", transactions());
    measure("keystrokes, one actor", keystrokes(1));
    measure("keystrokes, three actors that merge", keystrokes(3));
}

fn measure(name: &str, mut doc: AutoCommit) {
    let saved = doc.save().len();
    let changes: Vec<_> =
        doc.get_changes(&[]).iter().map(|change| CheckedChange::parse(change.raw_bytes()).unwrap()).collect();
    let raw: usize = changes.iter().map(|change| change.bytes().len()).sum();
    let start = Instant::now();
    let packs: Vec<_> = changes.chunks(PACK_CHANGES_MAX).map(|changes| pack(changes).unwrap()).collect();
    let pack_time = start.elapsed();
    let packed: usize = packs.iter().map(Vec::len).sum();
    let start = Instant::now();
    let unpacked: usize = packs.iter().map(|packed| unpack(packed).unwrap().len()).sum();
    let unpack_time = start.elapsed();
    assert_eq!(unpacked, changes.len());
    let per_change = |time: std::time::Duration| time.as_nanos() / unpacked as u128;
    println!(
        "| {name} | {unpacked} | {raw} | {saved} | {packed} | {:.2} | {} | {} |",
        packed as f64 / saved as f64,
        per_change(pack_time),
        per_change(unpack_time)
    );
}

fn overwrites(value: impl Fn(&mut StdRng) -> automerge::ScalarValue) -> AutoCommit {
    let mut random = StdRng::seed_from_u64(1);
    let mut doc = AutoCommit::new();
    let mut made = 0;
    while made < CHANGES {
        doc.put(ROOT, format!("field{}", random.random_range(0..10)), value(&mut random)).unwrap();
        // Setting what is there already makes no change.
        made += usize::from(doc.commit().is_some());
    }
    doc
}

fn text(random: &mut StdRng, length: usize) -> String {
    (0..length).map(|_| char::from(b'a' + random.random_range(0..26_u8))).collect()
}

/// A map of ten tasks; each change sets a flag and a time and counts.
fn transactions() -> AutoCommit {
    let mut random = StdRng::seed_from_u64(2);
    let mut doc = AutoCommit::new();
    let tasks: Vec<_> = (0..10).map(|i| doc.put_object(ROOT, format!("task{i}"), ObjType::Map).unwrap()).collect();
    doc.put(ROOT, "edits", automerge::ScalarValue::counter(0)).unwrap();
    for time in 0..50_000_i64 {
        let task = &tasks[random.random_range(0..10)];
        doc.put(task, "done", random.random_bool(0.5)).unwrap();
        doc.put(task, "at", 1_700_000_000 + time * 30).unwrap();
        doc.increment(ROOT, "edits", 1).unwrap();
        doc.commit();
    }
    doc
}

/// Runs of typing and backspacing at a cursor that jumps now and then.
fn keystrokes(actors: usize) -> AutoCommit {
    let mut random = StdRng::seed_from_u64(3);
    let mut first = AutoCommit::new();
    let object = first.put_object(ROOT, "text", ObjType::Text).unwrap();
    first.commit();
    let mut docs = vec![first];
    while docs.len() < actors {
        let fork = docs[0].fork();
        docs.push(fork);
    }
    let mut states = vec![(0_usize, 0_usize); actors];
    let (mut run, mut types, mut at) = (0, true, 0);
    for _ in 0..CHANGES {
        if run == 0 {
            run = random.random_range(1..40);
            types = states[at].1 < 50 || random.random_bool(0.7);
            at = random.random_range(0..actors);
            if actors > 1 {
                let mut other = docs[random.random_range(0..actors)].clone();
                docs[at].merge(&mut other).unwrap();
                states[at].1 = automerge::ReadDoc::length(&docs[at], &object);
            }
            if random.random_bool(0.2) {
                states[at].0 = random.random_range(0..=states[at].1);
            }
        }
        run -= 1;
        let (cursor, length) = &mut states[at];
        if types || *cursor == 0 {
            docs[at].splice_text(&object, *cursor, 0, &text(&mut random, 1)).unwrap();
            (*cursor, *length) = (*cursor + 1, *length + 1);
        } else {
            docs[at].splice_text(&object, *cursor - 1, 1, "").unwrap();
            (*cursor, *length) = (*cursor - 1, *length - 1);
        }
        docs[at].commit();
    }
    let (first, rest) = docs.split_first_mut().unwrap();
    for doc in rest {
        first.merge(doc).unwrap();
    }
    docs.swap_remove(0)
}
