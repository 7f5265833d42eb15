//! Packs come back as they were, and what is no pack is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use proptest::prelude::*;

use super::*;
use crate::gate::tests::{Forged, cases, honest_changes};
use crate::limits::PACK_STREAMS_BYTES_MAX;

fn checked(changes: &[automerge::Change]) -> Vec<CheckedChange> {
    changes.iter().map(|change| CheckedChange::parse(change.raw_bytes()).unwrap()).collect()
}

fn parsed(forged: &Forged) -> CheckedChange {
    CheckedChange::parse(&forged.chunk()).unwrap()
}

/// `pack` compares the bytes itself; this compares what else is said of a change.
fn assert_comes_back(changes: &[CheckedChange]) -> Vec<u8> {
    let packed = pack(changes).unwrap();
    let unpacked = unpack(&packed).unwrap();
    assert_eq!(unpacked.len(), changes.len());
    assert_eq!(unpacked.is_empty(), changes.is_empty());
    for (index, (found, change)) in unpacked.iter().zip(changes).enumerate() {
        assert_eq!(found.as_slice(), &change.bytes()[..]);
        assert_eq!(found.bytes(), unpacked.get(index).unwrap().bytes());
        assert_eq!(found.hash(), change.hash());
        assert_eq!(found.deps().collect::<Vec<_>>(), change.deps());
        assert_eq!(found.actor(), change.actor());
        assert_eq!((found.seq(), found.start_op()), (change.seq(), change.start_op()));
        assert_eq!((found.op_count(), found.max_op()), (change.op_count(), change.max_op()));
    }
    assert!(unpacked.get(changes.len()).is_none());
    packed
}

/// Gives bytes the check that fits them.
fn sealed(content: &[u8]) -> Vec<u8> {
    [content, &check_of(content)[..]].concat()
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn every_honest_history_comes_back(seed: u64, start in 0usize..30, length in 1usize..200) {
        let changes = checked(&honest_changes(seed));
        assert_comes_back(&changes);
        // A part of it depends on what is outside.
        let part = &changes[start.min(changes.len())..];
        assert_comes_back(&part[..length.min(part.len())]);
    }

    #[test]
    fn a_history_out_of_order_comes_back(seed: u64) {
        let mut changes = checked(&honest_changes(seed));
        changes.reverse();
        assert_comes_back(&changes);
    }

    #[test]
    fn a_damaged_pack_is_refused(seed: u64, at: prop::sample::Index, bit in 0u8..8, cut: prop::sample::Index) {
        let changes = checked(&honest_changes(seed));
        let packed = pack(&changes).unwrap();
        let mut flipped = packed.clone();
        flipped[at.index(packed.len())] ^= 1 << bit;
        prop_assert!(unpack(&flipped).is_err());
        prop_assert!(unpack(&packed[..cut.index(packed.len())]).is_err());
        prop_assert!(unpack(&[&packed[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_forged_pack_never_panics(
        seed: u64,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let changes = checked(&honest_changes(seed));
        let packed = pack(&changes).unwrap();
        let mut content = packed[..packed.len() - CHECK_BYTES].to_vec();
        for (at, value) in edits {
            let at = at.index(content.len());
            content[at] = value;
        }
        if let Some(cut) = cut {
            content.truncate(cut.index(content.len()));
        }
        drop(unpack(&sealed(&content)));
    }

    #[test]
    fn forged_streams_never_panic(
        seed: u64,
        edits in prop::collection::vec((0..Stream::COUNT, any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let changes = checked(&honest_changes(seed));
        let offered: Vec<_> = changes.iter().collect();
        let mut tape = record(&offered).unwrap();
        for (stream, at, value) in edits {
            tape.edit(stream, |bytes| if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = value;
            });
        }
        let mut content = vec![VERSION];
        write_unsigned(&mut content, changes.len() as u64);
        let bytes: usize = changes.iter().map(|change| change.bytes().len()).sum();
        write_unsigned(&mut content, bytes as u64);
        tape.finish(&mut content).unwrap();
        if let Ok(unpacked) = unpack(&sealed(&content)) {
            prop_assert_eq!(unpacked.iter().map(|change| change.as_slice().len()).sum::<usize>(), bytes);
            unpacked.iter().for_each(|change| drop((change.deps().count(), change.actor(), change.max_op())));
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(unpack(&bytes));
        drop(unpack(&sealed(&bytes)));
        drop(unpack(&sealed(&[&[VERSION, 1, 100][..], &bytes].concat())));
    }
}
