//! Attacks that were measured against Automerge, each stopped before it costs anything.

use super::*;
use crate::limits::{CHANGE_NAME_BYTES_MAX, CHANGE_OPS_MAX, INFLATED_BYTES_MAX};

/// Encodes a run of equal values.
fn run(length: i64, value: &[u8]) -> Vec<u8> {
    let mut column = Vec::new();
    write_signed(&mut column, length);
    column.extend_from_slice(value);
    column
}

#[test]
fn twenty_million_operations_in_seventy_bytes() {
    let bomb = Forged::puts(20_000_000).chunk();
    assert!(bomb.len() <= 80, "{}", bomb.len());
    let error = CheckedChange::parse(&bomb).unwrap_err();
    assert_eq!(error.rule(), Rule::TooManyOps);
    assert_eq!((error.found(), error.limit()), (Some(20_000_000), Some(CHANGE_OPS_MAX)));
}

#[test]
fn runs_whose_sum_overflows() {
    let mut column = run(i64::MAX, &[1]);
    column.extend(run(i64::MAX, &[3]));
    column.extend(run(i64::MAX, &[1]));
    assert_eq!(Forged::puts(1).column(number::ACTION, &column).verdict(), "too-many-ops");
    // Literals take a byte each, so their claim ends with the bytes.
    assert_eq!(Forged::puts(1).column(number::ACTION, &run(i64::MIN, &[1])).verdict(), "truncated");
    assert_eq!(Forged::puts(1).column(number::KEY_TEXT, &run(i64::MIN, &[1])).verdict(), "column-length");
    let mut nulls = vec![0];
    write_unsigned(&mut nulls, u64::MAX);
    assert_eq!(Forged::puts(1).column(number::MARK_NAME, &nulls).verdict(), "column-length");
    let mut booleans = Vec::new();
    (0..3).for_each(|_| write_unsigned(&mut booleans, u64::MAX));
    assert_eq!(Forged::puts(1).column(number::INSERT, &booleans).verdict(), "column-length");
}

#[test]
fn billion_predecessors() {
    let mut count = vec![0x7f];
    write_unsigned(&mut count, 1_000_000_000);
    let one_op = Forged::with(|forged| forged.start_op = 7)
        .column(number::PRED_COUNT, &count)
        .column(number::PRED_ACTOR, &run(1_000_000_000, &[0]))
        .column(number::PRED_COUNTER, &run(1_000_000_000, &[1]));
    assert_eq!(one_op.verdict(), "too-many-preds");
    let mut each = run(1_000_000, &[]);
    write_unsigned(&mut each, 1_000_000);
    assert_eq!(Forged::puts(1_000_000).column(number::PRED_COUNT, &each).verdict(), "too-many-preds");
    let mut most = run(2, &[]);
    write_unsigned(&mut most, u64::MAX);
    assert_eq!(Forged::puts(2).column(number::PRED_COUNT, &most).verdict(), "too-many-preds");
}

#[test]
fn keys_are_counted_as_often_as_they_stand() {
    let mut key = Vec::new();
    write_unsigned(&mut key, 1 << 20);
    key.resize(key.len() + (1 << 20), b'k');
    let ops_max = CHANGE_NAME_BYTES_MAX >> 20;
    for (ops, verdict) in [(ops_max, "ok"), (ops_max + 1, "names-too-long"), (CHANGE_OPS_MAX, "names-too-long")] {
        let forged = Forged::puts(ops).column(number::KEY_TEXT, &run(ops.cast_signed(), &key));
        assert_eq!(forged.verdict(), verdict, "{ops} operations");
    }
}

#[test]
fn deflate_bomb_stops_at_the_cap() {
    let mut deflated = Vec::new();
    let zeros = std::io::repeat(0).take(100 << 20);
    let mut encoder = flate2::read::DeflateEncoder::new(zeros, flate2::Compression::best());
    encoder.read_to_end(&mut deflated).unwrap();
    assert!(deflated.len() < 200_000);
    let error = CheckedChange::parse(&compressed_chunk(&[0; 4], &deflated)).unwrap_err();
    assert_eq!(error.rule(), Rule::InflateTooLarge);
    assert_eq!(error.found(), Some(INFLATED_BYTES_MAX as u64));
}

#[test]
fn damaged_deflate_is_refused() {
    let good = compressed_chunk_of(&Forged::puts(1).body());
    assert_eq!(verdict(&good), "ok");
    let body = body_of(&good).to_vec();
    let checksum = &good[4..8];
    assert_eq!(verdict(&compressed_chunk(&[0; 4], &body)), "checksum");
    assert_eq!(verdict(&compressed_chunk(checksum, &body[..body.len() - 1])), "inflate");
    assert_eq!(verdict(&compressed_chunk(checksum, &[&body[..], &[0]].concat())), "inflate");
    assert_eq!(verdict(&compressed_chunk(checksum, &[])), "inflate");
    assert_eq!(verdict(&compressed_chunk(checksum, &[0xff; 40])), "inflate");
}

#[test]
fn forged_header_fields_are_refused() {
    assert_eq!(Forged::with(|forged| forged.seq = 0).verdict(), "seq-zero");
    assert_eq!(Forged::with(|forged| forged.seq = u64::MAX).verdict(), "seq-too-large");
    assert_eq!(Forged::with(|forged| forged.start_op = 0).verdict(), "start-op");
    assert_eq!(Forged::with(|forged| forged.start_op = (1 << 32) - 2).verdict(), "op-counter");
    assert_eq!(Forged::with(|forged| forged.start_op = u64::MAX).verdict(), "op-counter");
    assert_eq!(Forged::with(|forged| forged.time = i64::MIN).verdict(), "timestamp");
    assert_eq!(Forged::with(|forged| forged.actor.clear()).verdict(), "actor-length");
    assert_eq!(Forged::with(|forged| forged.message = vec![0xff]).verdict(), "text");
    assert_eq!(Forged::with(|forged| forged.deps = vec![[2; 32], [1; 32]]).verdict(), "deps-order");
    assert_eq!(Forged::with(|forged| forged.deps = vec![[2; 32], [2; 32]]).verdict(), "deps-order");
    assert_eq!(Forged::with(|forged| forged.others = vec![vec![1]]).verdict(), "actor-unused");
    assert_eq!(Forged::with(|forged| forged.others = vec![vec![9; 16]]).verdict(), "actor-order");
    assert_eq!(Forged::with(|forged| forged.others = vec![vec![2], vec![1]]).verdict(), "actor-order");
}

#[test]
fn chunk_headers_are_strict() {
    let good = Forged::puts(1).chunk();
    let with = |at: usize, byte: u8| {
        let mut chunk = good.clone();
        chunk[at] = byte;
        verdict(&chunk)
    };
    assert_eq!(verdict(&good), "ok");
    assert_eq!(with(0, 0), "magic");
    assert_eq!(with(4, !good[4]), "checksum");
    assert_eq!(with(8, 0), "checksum");
    assert_eq!(with(8, 4), "chunk-type");
    assert_eq!(with(good.len() - 1, 3), "checksum");
    assert_eq!(verdict(&good[..good.len() - 1]), "truncated");
    assert_eq!(verdict(&[&good[..], &[0]].concat()), "trailing");
    assert_eq!(verdict(&[]), "truncated");
}

#[test]
fn actor_index_out_of_range_is_refused() {
    let with_pred = |actor: u8| {
        let forged = Forged::with(|forged| forged.start_op = 7);
        let forged = forged.column(number::PRED_COUNT, &[0x7f, 1]).column(number::PRED_ACTOR, &[0x7f, actor]);
        forged.column(number::PRED_COUNTER, &[0x7f, 5]).verdict()
    };
    assert_eq!(with_pred(0), "ok");
    assert_eq!(with_pred(1), "actor-index");
    let with_object = |actor: &[u8]| {
        let forged = Forged::with(|forged| forged.start_op = 7).column(number::OBJECT_COUNTER, &[0x7f, 5]);
        forged.column(number::OBJECT_ACTOR, &[&[0x7f], actor].concat()).verdict()
    };
    assert_eq!(with_object(&[0]), "ok");
    assert_eq!(with_object(&[1]), "actor-index");
    assert_eq!(with_object(&[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]), "actor-index");
}
