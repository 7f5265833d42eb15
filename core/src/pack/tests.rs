//! Packs come back as they were, and what is no pack is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use proptest::prelude::*;

use super::*;
use crate::gate::columns::number;
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
            unpacked.iter().for_each(|change| assert!(change.deps().count() < bytes && change.max_op() < u64::MAX && !change.actor().to_bytes().is_empty()));
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(unpack(&bytes));
        drop(unpack(&sealed(&bytes)));
        drop(unpack(&sealed(&[&[VERSION, 1, 100][..], &bytes].concat())));
    }
}

/// The pack that the module's page draws.
#[test]
fn golden_pack() {
    let first = parsed(&Forged::with(|forged| forged.actor = vec![1, 2, 3, 4]));
    let second = parsed(&Forged::with(|forged| {
        forged.actor = vec![1, 2, 3, 4];
        (forged.seq, forged.start_op) = (2, 2);
        forged.deps = vec![first.hash().0];
        forged.columns.insert(number::PRED_COUNT, vec![0x7f, 1]);
        forged.columns.insert(number::PRED_ACTOR, vec![0x7f, 0]);
        forged.columns.insert(number::PRED_COUNTER, vec![0x7f, 1]);
    }));
    let packed = assert_comes_back(&[first, second]);
    let drawn: &[&[u8]] = &[
        &[0x01, 0x02, 0x7c, 0x11],
        &[0x00, 0x06, 0x04, 0x02, 0x08, 0x01],
        &[0x14, 0x02, 0x18, 0x02, 0x1c, 0x02, 0x20, 0x02],
        &[0x24, 0x02, 0x2c, 0x02, 0x34, 0x02],
        &[0x38, 0x02, 0x3c, 0x08],
        &[0x48, 0x02, 0x4c, 0x01, 0x50, 0x01],
        &[0x5c, 0x01, 0x60, 0x01, 0x27],
        &[0x01, 0x04, 0x01, 0x02, 0x03, 0x04],
        &[0x00, 0x01, 0x01],
        &[0x00; 8],
        &[0x00, 0x00, 0x00, 0x00, 0x02, 0x02],
        &[0x00, 0x00, 0x02, 0x01, 0x00, 0x00, 0x02, 0x01, 0x00, 0x01],
        &[0x00, 0x01, 0x01, 0x6b, 0x00, 0x00],
        &[0xff, 0xc2, 0xca, 0x78, 0x7a, 0x3c, 0xcf, 0x5a],
    ];
    assert_eq!(packed, drawn.concat());
}

#[test]
fn no_change_is_a_pack_too() {
    let packed = assert_comes_back(&[]);
    assert!(packed.len() < 20, "{} bytes", packed.len());
}

#[test]
fn actors_of_every_length_come_back() {
    for length in [1, 2, 16, 63, 64] {
        let change = parsed(&Forged::with(|forged| forged.actor = vec![7; length]));
        assert_comes_back(&[change]);
    }
}

#[test]
fn many_heads_inside_and_outside_come_back() {
    let lone = |byte: u8| parsed(&Forged::with(|forged| forged.actor = vec![byte; 16]));
    let mut changes: Vec<_> = (0..200).map(lone).collect();
    let mut deps: Vec<_> = changes.iter().map(|change| change.hash().0).collect();
    deps.extend((0..100).map(|byte| [byte; 32]));
    deps.sort_unstable();
    for actor in [250, 251] {
        changes.push(parsed(&Forged::with(|forged| {
            forged.actor = vec![actor; 16];
            forged.start_op = 2;
            forged.deps.clone_from(&deps);
        })));
    }
    let packed = assert_comes_back(&changes);
    // The hundred outside are stored once, the two hundred inside not at all.
    assert!(packed.len() < 100 * 32 + 200 * 8, "{} bytes", packed.len());
}

#[test]
fn changes_without_operations_come_back() {
    let empty = |seq, message: &str| {
        parsed(&Forged::with(|forged| {
            (forged.seq, forged.start_op) = (seq, 900 - seq);
            forged.message = message.into();
            forged.time = i64::try_from(seq).unwrap() * -1_000_000;
            forged.columns.clear();
            forged.extra = if seq == 1 { vec![1, 2, 8, 8] } else { vec![2, 3] };
        }))
    };
    assert_comes_back(&[empty(1, ""), empty(2, "why"), empty(700, "é")]);
}

/// The first changes of a pack that starts late follow nothing that is known.
#[test]
fn counters_at_their_extremes_come_back() {
    use crate::limits::{OP_COUNTER_MAX, TIMESTAMP_ABS_MAX};
    let at = |actor: u8, seq, start_op, time| {
        parsed(&Forged::with(|forged| {
            forged.actor = vec![actor; 16];
            (forged.seq, forged.start_op, forged.time) = (seq, start_op, time);
        }))
    };
    assert_comes_back(&[
        at(1, OP_COUNTER_MAX, OP_COUNTER_MAX, TIMESTAMP_ABS_MAX),
        at(2, 1, 1, -TIMESTAMP_ABS_MAX),
        at(1, 1, OP_COUNTER_MAX, 0),
        at(1, 1, OP_COUNTER_MAX, 0),
    ]);
}

#[test]
fn changes_around_the_row_limit_come_back() {
    let limit = PACK_ROWS_MAX as u64;
    let sizes = [limit - 1, limit, limit + 1, 100_000];
    let changes = sizes.map(|rows| parsed(&Forged::overwrites(rows)));
    assert_eq!(changes.each_ref().map(Rows::fit), [true, true, false, false]);
    assert_comes_back(&changes);
    // One operation with as many predecessors.
    let changes = sizes.map(|preds| {
        parsed(&Forged::with(|forged| {
            forged.start_op = 1_000_000;
            let column = |head: u64, value: u64| {
                let mut column = Vec::new();
                write_signed(&mut column, if head == 1 { -1 } else { head.cast_signed() });
                write_unsigned(&mut column, value);
                column
            };
            forged.columns.insert(number::PRED_COUNT, column(1, preds));
            forged.columns.insert(number::PRED_ACTOR, column(preds, 0));
            forged.columns.insert(number::PRED_COUNTER, column(preds, 1));
        }))
    });
    assert_eq!(changes.each_ref().map(Rows::fit), [true, true, false, false]);
    assert_comes_back(&changes);
}

#[test]
fn a_pack_holds_so_many_changes_and_no_more() {
    let changes: Vec<_> = (0..=PACK_CHANGES_MAX as u64)
        .map(|index| parsed(&Forged::with(|forged| (forged.seq, forged.start_op) = (index + 1, index + 1))))
        .collect();
    assert_comes_back(&changes[..PACK_CHANGES_MAX - 1]);
    assert_comes_back(&changes[..PACK_CHANGES_MAX]);
    let error = PackError::TooManyChanges { found: PACK_CHANGES_MAX + 1, limit: PACK_CHANGES_MAX };
    assert_eq!(pack(&changes), Err(error));
}

/// A change whose chunk has so many bytes.
fn change_of(bytes: usize) -> CheckedChange {
    let with = |length: usize| {
        Forged::with(|forged| {
            let mut meta = vec![0x7f];
            write_unsigned(&mut meta, (length as u64) << 4 | 7);
            forged.columns.insert(number::VALUE_META, meta);
            forged.columns.insert(number::VALUE, vec![5; length]);
        })
    };
    let around = with(bytes).chunk().len() - bytes;
    let change = parsed(&with(bytes - around));
    assert_eq!(change.bytes().len(), bytes);
    change
}

#[test]
fn a_pack_holds_so_many_bytes_and_no_more() {
    let half = PACK_BYTES_MAX / 2;
    let first = change_of(half);
    for second in [half - 1, half] {
        let packed = assert_comes_back(&[first.clone(), change_of(second)]);
        assert!(packed.len() < 1_000, "{} bytes", packed.len());
    }
    let error = PackError::TooLarge { found: PACK_BYTES_MAX + 1, limit: PACK_BYTES_MAX };
    assert_eq!(pack(&[first, change_of(half + 1)]), Err(error));
}

#[test]
fn claims_above_the_limits_are_refused_before_anything_is_allocated() {
    let claims = |changes: usize, bytes: usize, stream: usize| {
        let mut content = vec![VERSION];
        write_unsigned(&mut content, changes as u64);
        write_unsigned(&mut content, bytes as u64);
        // One stream, the actors, of one repeated byte.
        content.extend_from_slice(&[1, 1]);
        write_unsigned(&mut content, stream as u64);
        content.push(0);
        match unpack(&sealed(&content)) {
            Err(PackError::Damaged { what }) => what,
            other => other.map_or("another error", |_| "ok"),
        }
    };
    assert_eq!(claims(0, 0, 1), "ok");
    for below in [PACK_CHANGES_MAX - 1, PACK_CHANGES_MAX] {
        assert_eq!(claims(below, 0, 1), "a number, or its end");
    }
    assert_eq!(claims(PACK_CHANGES_MAX + 1, 0, 1), "its length");
    for below in [PACK_BYTES_MAX - 1, PACK_BYTES_MAX] {
        assert_eq!(claims(0, below, 1), "the length of the changes");
    }
    assert_eq!(claims(0, PACK_BYTES_MAX + 1, 1), "its length");
    for below in [PACK_STREAMS_BYTES_MAX - 1, PACK_STREAMS_BYTES_MAX] {
        assert_eq!(claims(0, 0, below), "a stream that is too long");
    }
    assert_eq!(claims(0, 0, PACK_STREAMS_BYTES_MAX + 1), "the length of the streams");
    assert_eq!(claims(usize::MAX, usize::MAX, usize::MAX), "its length");
}

#[test]
fn streams_above_their_limit_are_not_written() {
    for (more, fits) in [(0, true), (1, true), (2, false)] {
        let zeros = vec![0; PACK_STREAMS_BYTES_MAX - 1 + more];
        let mut tape = Recorder::default();
        tape.bytes(Stream::Raw, &zeros, zeros.len() as u64).unwrap();
        assert_eq!(tape.finish(&mut Vec::new()).is_ok(), fits);
    }
}

#[test]
fn a_later_version_is_named() {
    assert_eq!(unpack(&sealed(&[2, 0, 0])).unwrap_err(), PackError::Version { found: 2 });
    assert!(matches!(unpack(&[]), Err(PackError::Damaged { .. })));
}

/// Names are shared, so a few bytes can claim a long one often: 64 times in a change, if runs do not join them.
#[test]
fn names_that_grow_beyond_the_pack_are_refused() {
    let mut tape = Recorder::default();
    let name = vec![b'n'; PACK_BYTES_MAX - 100];
    let actors = [ActorId::from(&[1][..])];
    pass_actors(&mut tape, &actors).unwrap();
    let mut header = Header { seq: 1, start_op: 1, op_count: 4, ..Header::default() };
    Headers::new(1).pass(&mut tape, &mut header).unwrap();
    let mut rows = Rows::default();
    for name in [&name[..], b"x", &name, b"x"] {
        rows.rows.push(rows::Row { key: rows::Key::Name(name), action: 1, ..rows::Row::default() });
    }
    assert!(Model::new(1).pass(&mut tape, 0, 1, &mut rows).is_err());
    let mut content = vec![VERSION, 1];
    write_unsigned(&mut content, PACK_BYTES_MAX as u64);
    tape.finish(&mut content).unwrap();
    assert_eq!(unpack(&sealed(&content)).unwrap_err(), damaged("the names of a change"));
}
