//! Attacks inside one change: bombs, forged headers, chunks of other types.

use super::Attack;
use crate::hostile::base::{self, FIRST, HOSTILE, NEXT_OP};
use crate::hostile::bytes::{chunk, compressed, compressed_change, deflated_zeros, prefixed, signed, unsigned};
use crate::hostile::change::{RawChange, RawOp, action, column};

/// Encodes a run of equal values.
fn run(length: i64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    signed(&mut out, length);
    out.extend_from_slice(value);
    out
}

/// Encodes one literal number.
fn one(value: u64) -> Vec<u8> {
    let mut out = vec![0x7f];
    unsigned(&mut out, value);
    out
}

/// Puts null into the field `k` as often as asked for, in one run.
fn puts(rows: i64) -> RawChange {
    let mut change = RawChange::new(&HOSTILE);
    let mut insert = Vec::new();
    unsigned(&mut insert, rows.cast_unsigned());
    change.columns = [
        (column::KEY_TEXT, run(rows, &[1, b'k'])),
        (column::INSERT, insert),
        (column::ACTION, run(rows, &[1])),
        (column::VALUE_META, run(rows, &[0])),
        (column::PRED_COUNT, run(rows, &[0])),
    ]
    .into();
    change
}

/// A sound change of one operation on top of the base, changed.
fn with(edit: impl Fn(&mut RawChange)) -> Vec<Vec<u8>> {
    let mut change = base::next(0);
    change.ops = vec![RawOp::put("k", "v")];
    edit(&mut change);
    vec![change.chunk()]
}

/// Maps inside each other, in one change.
fn nested(depth: u64) -> Vec<Vec<u8>> {
    let mut change = base::next(0);
    change.ops = (0..depth)
        .map(|level| {
            let op = RawOp::new("m", action::MAKE_MAP);
            if level == 0 { op } else { op.in_object((0, NEXT_OP + level - 1)) }
        })
        .collect();
    vec![change.chunk()]
}

pub(super) fn attacks() -> Vec<Attack> {
    let mut all = bombs();
    all.extend(headers());
    all.extend(chunks());
    all
}

fn bombs() -> Vec<Attack> {
    vec![
        Attack::changes("ops-20m-in-70-bytes", || vec![puts(20_000_000).chunk()]).breaks(&["too-many-ops"]),
        Attack::changes("ops-1m-in-64-bytes", || vec![puts(1_000_000).chunk()]).breaks(&["own-conflict"]),
        Attack::changes("preds-1e9", || {
            with(|change| {
                let columns = [
                    (column::PRED_COUNT, one(1_000_000_000)),
                    (column::PRED_ACTOR, run(1_000_000_000, &[0])),
                    (column::PRED_COUNTER, run(1_000_000_000, &[1])),
                ];
                change.columns.extend(columns);
            })
        })
        .breaks(&["too-many-preds"]),
        Attack::changes("rows-overflow-64-bits", || {
            with(|change| {
                let run = run(i64::MAX, &[1]);
                change.columns.insert(column::ACTION, [&run[..], &run[..], &run[..]].concat());
            })
        })
        .breaks(&["too-many-ops"]),
        Attack::changes("bundle-ids-1e9", || {
            // No dependencies, one actor, one column whose run claims 10^9 rows.
            let mut body = vec![0, 1];
            prefixed(&mut body, &HOSTILE);
            let ids = run(1_000_000_000, &[1]);
            body.extend_from_slice(&[1, 0x01]);
            prefixed(&mut body, &ids);
            vec![chunk(3, &body)]
        })
        .breaks(&["chunk-type"]),
        Attack::changes("deflate-100-mib", || vec![compressed([0; 4], &deflated_zeros(100))])
            .breaks(&["inflate-too-large"]),
        Attack::changes("deflate-1-gib", || vec![compressed([0; 4], &deflated_zeros(1 << 10))])
            .breaks(&["inflate-too-large"]),
        Attack::changes("deflate-20-times-100-mib", || vec![compressed([0; 4], &deflated_zeros(100)); 20])
            .breaks(&["inflate-too-large"]),
        Attack::changes("deflate-checksum", || {
            let mut change = compressed_change(&puts(1).body());
            change[4] ^= 1;
            vec![change]
        })
        .breaks(&["checksum"]),
        Attack::changes("deflate-7-mib-checksum", || vec![compressed([0; 4], &deflated_zeros(7))])
            .breaks(&["checksum"]),
        Attack::changes("nested-maps-300", || nested(300)).stores(1),
        Attack::changes("nested-maps-10k", || nested(10_000)).stores(1).heavy(),
        // Honest bytes: Automerge wraps as it is shipped, and panics if it is built with overflow checks.
        Attack::changes("counter-past-64-bits", || {
            with(|change| {
                let counter = RawOp::new("k", action::PUT).number(8, i64::MAX);
                let by_one = RawOp::new("k", action::INCREMENT).number(4, 1);
                change.ops = vec![counter, by_one.over(&[(0, NEXT_OP)])];
            })
        })
        .stores(1),
        Attack::changes("key-of-1-mib", || with(|change| change.ops = vec![RawOp::put(&"k".repeat(1 << 20), "")]))
            .stores(1),
        Attack::changes("key-of-1-mib-in-100k-ops", || {
            let mut change = puts(100_000);
            let mut key = Vec::new();
            prefixed(&mut key, &vec![b'k'; 1 << 20]);
            change.columns.insert(column::KEY_TEXT, run(100_000, &key));
            vec![change.chunk()]
        })
        .breaks(&["names-too-long"]),
    ]
}

fn headers() -> Vec<Attack> {
    let header =
        |name, rule: &'static str, edit: fn(&mut RawChange)| Attack::changes(name, move || with(edit)).breaks(&[rule]);
    vec![
        header("start-op-2^32-2", "op-counter", |change| change.start_op = (1 << 32) - 2),
        header("start-op-2^64", "op-counter", |change| change.start_op = u64::MAX),
        header("start-op-0", "start-op", |change| change.start_op = 0),
        header("start-op-jump-100m", "start-op-jump", |change| change.start_op = 100_000_000),
        header("seq-0", "seq-zero", |change| change.seq = 0),
        header("seq-2^64", "seq-too-large", |change| change.seq = u64::MAX),
        header("timestamp-min", "timestamp", |change| change.time = i64::MIN),
        header("actor-empty", "actor-length", |change| change.actor.clear()),
        header("actor-of-65-bytes", "actor-length", |change| change.actor = vec![1; 65]),
        header("actor-unused", "actor-unused", |change| change.others = vec![FIRST.to_vec()]),
        header("message-of-65-kib", "message-too-long", |change| change.message = vec![b'm'; 65 << 10]),
        header("message-not-utf8", "text", |change| change.message = vec![0xff]),
        header("deps-unsorted", "deps-order", |change| change.deps.reverse()),
        header("deps-1025", "too-many-deps", |change| {
            change.deps = (0..1_025u16)
                .map(|number| {
                    let mut hash = [0; 32];
                    hash[..2].copy_from_slice(&number.to_be_bytes());
                    hash
                })
                .collect();
        }),
        header("actors-4097", "too-many-actors", |change| {
            change.others = (0..4_097u16).map(|number| number.to_be_bytes().to_vec()).collect();
        }),
        header("extra-2-kib", "extra-too-long", |change| change.extra = vec![9; 2 << 10]),
        header("column-unknown", "columns", |change| drop(change.columns.insert(0xf6, vec![0x7f, 1]))),
        header("column-deflated", "columns", |change| drop(change.columns.insert(column::KEY_TEXT | 8, vec![3, 0]))),
        header("action-unknown", "action", |change| change.ops[0].action = 8),
        header("actor-index", "actor-index", |change| change.ops[0].preds = vec![(1, 5)]),
        header("object-actor-index", "actor-index", |change| change.ops[0].object = Some((7, 5))),
        header("value-length-2^40", "value", |change| {
            drop(change.columns.insert(column::VALUE_META, one(1 << 44 | 6)));
        }),
        header("mark-end-alone", "mark-pair", |change| {
            let op = RawOp::insert((0, 5), crate::hostile::change::RawKey::Head, "");
            change.ops = vec![RawOp { action: action::MARK, value_type: 0, ..op }];
        }),
    ]
}

fn chunks() -> Vec<Attack> {
    vec![
        Attack::changes("chunk-checksum", || {
            let mut chunk = with(|_| ()).remove(0);
            chunk[4] ^= 1;
            vec![chunk]
        })
        .breaks(&["checksum"]),
        Attack::changes("chunk-magic", || vec![vec![0; 64]]).breaks(&["magic"]),
        Attack::changes("chunk-type-9", || vec![chunk(9, &base::next(0).body())]).breaks(&["chunk-type"]),
        Attack::changes("chunk-length-2^63", || {
            let mut chunk = with(|_| ())[0][..9].to_vec();
            unsigned(&mut chunk, 1 << 63);
            chunk.extend([0; 20]);
            vec![chunk]
        })
        .breaks(&["change-too-large"]),
        Attack::changes("document-chunk", || vec![base::file()]).breaks(&["chunk-type"]),
        Attack::changes("document-chunks-mutated", || {
            let file = base::file();
            let body = crate::hostile::bytes::split(&file).unwrap().1.to_vec();
            let mutant = |at: usize| {
                let mut body = body.clone();
                body[at] ^= 0x41;
                chunk(0, &body)
            };
            (0..body.len()).map(mutant).collect()
        })
        .breaks(&["truncated", "actor-length", "chunk-type", "deps-order"]),
    ]
}
