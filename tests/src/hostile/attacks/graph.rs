//! Attacks on the history: orphans, roots, equivocation, forged numbers, counters.

use rejoin::limits::{DOCUMENT_HEADS_MAX, OP_COUNTER_MAX, START_OP_JUMP_MAX};

use super::Attack;
use crate::hostile::base::{self, FIRST, HOSTILE, NEXT_OP, SECOND};
use crate::hostile::change::{RawChange, RawOp};
use crate::hostile::message::RawSync;

fn put(mut change: RawChange, value: &str) -> RawChange {
    change.ops = vec![RawOp::put("k", value)];
    change
}

/// An actor of its own for each number.
fn actor(number: u64) -> Vec<u8> {
    [&[0xe0; 8][..], &number.to_be_bytes()].concat()
}

/// A change whose dependency never comes.
fn orphan(number: u64) -> Vec<u8> {
    let mut change = put(RawChange::new(&actor(number)), "orphan");
    let mut dep = [0xdd; 32];
    dep[..8].copy_from_slice(&number.to_be_bytes());
    (change.deps, change.start_op) = (vec![dep], 2);
    change.chunk()
}

/// Changes that each start 2^20 above the one before, until no counter is left.
fn ladder() -> Vec<Vec<u8>> {
    const STEP: u64 = 1 << 20;
    let mut chunks = Vec::new();
    let (mut deps, mut start_op, mut seq) = (base::heads(), NEXT_OP + STEP, 1);
    while start_op <= OP_COUNTER_MAX {
        let mut change = put(RawChange::new(&HOSTILE), "up");
        (change.deps, change.start_op, change.seq) = (deps, start_op, seq);
        deps = vec![change.hash()];
        chunks.push(change.chunk());
        (start_op, seq) = (start_op + STEP, seq + 1);
    }
    chunks
}

pub(super) fn attacks() -> Vec<Attack> {
    let mut all = numbers();
    all.extend(graphs());
    all
}

fn numbers() -> Vec<Attack> {
    let two = |edit: fn(&RawChange, &mut RawChange)| {
        move || {
            let first = put(base::next(0), "first");
            let mut second = put(base::next(0), "second");
            edit(&first, &mut second);
            vec![first.chunk(), second.chunk()]
        }
    };
    vec![
        Attack::changes("first-change-with-seq-5", || vec![RawChange { seq: 5, ..put(base::next(0), "five") }.chunk()])
            .breaks(&["seq-gap"]),
        Attack::changes(
            "seq-1-then-5",
            two(|first, second| {
                (second.seq, second.start_op, second.deps) = (5, first.start_op + 1, vec![first.hash()]);
            }),
        )
        .breaks(&["seq-gap"])
        .stores(1),
        Attack::changes("equivocation", two(|_, _| ())).breaks(&["seq-reused"]).stores(1),
        Attack::changes("own-change-not-an-ancestor", two(|_, second| second.seq = 2))
            .breaks(&["own-dependency"])
            .stores(1),
        Attack::changes("equivocation-of-a-victim", || {
            let mut change = put(RawChange::new(&SECOND), "forged");
            (change.deps, change.start_op) = (vec![base::changes()[0].hash()], 11);
            vec![change.chunk()]
        })
        .breaks(&["seq-reused"]),
        // Nothing in a change proves who wrote it: this waits for grants that bind an actor to a principal.
        Attack::changes("next-seq-of-a-victim", || {
            let mut change = put(base::next(0), "forged");
            (change.actor, change.seq) = (SECOND.to_vec(), 2);
            vec![change.chunk()]
        })
        .stores(1),
        Attack::changes("start-op-of-a-dependency", || {
            vec![RawChange { start_op: NEXT_OP - 1, ..put(base::next(0), "reused") }.chunk()]
        })
        .breaks(&["start-op-low"]),
        Attack::changes("start-op-1", || vec![RawChange { start_op: 1, ..put(base::next(0), "reused") }.chunk()])
            .breaks(&["start-op-low"]),
        Attack::changes("lamport-jump-at-the-bound", || {
            vec![RawChange { start_op: NEXT_OP + START_OP_JUMP_MAX, ..put(base::next(0), "far") }.chunk()]
        })
        .stores(1),
        Attack::changes("lamport-jump-above-the-bound", || {
            vec![RawChange { start_op: NEXT_OP + START_OP_JUMP_MAX + 1_000, ..put(base::next(0), "far") }.chunk()]
        })
        .breaks(&["start-op-jump"]),
        Attack::changes("lamport-ladder-to-2^31", ladder).breaks(&["start-op-jump"]),
        Attack::changes("actor-unknown", || {
            let mut change = base::next(0);
            change.others = vec![vec![0x77; 16]];
            change.ops = vec![RawOp::put("k", "v").over(&[(1, 5)])];
            vec![change.chunk()]
        })
        .breaks(&["unknown-actor"]),
        Attack::changes("empty-change-far-ahead", || {
            vec![RawChange { start_op: NEXT_OP + 5, ..base::next(0) }.chunk()]
        })
        .breaks(&["start-op-jump"]),
    ]
}

fn graphs() -> Vec<Attack> {
    vec![
        Attack::new("orphans-8192-one-at-a-time", |scene| {
            (0..8_192).map(|number| scene.sync(&RawSync::offer(vec![orphan(number)]))).collect()
        }),
        Attack::changes("orphans-100k-at-once", || (0..100_000).map(orphan).collect()),
        Attack::changes("orphans-350k-fill-a-frame", || (0..350_000).map(orphan).collect()),
        Attack::changes("orphan-chain-8192-backwards", || {
            // Each waits for the next one in the message; the last waits for ever.
            let mut chunks = Vec::new();
            let mut deps = vec![[0xcc; 32]];
            for number in 0..8_192 {
                let mut change = put(RawChange::new(&actor(number)), "chain");
                (change.deps, change.start_op) = (deps, number + 2);
                deps = vec![change.hash()];
                chunks.push(change.chunk());
            }
            chunks.reverse();
            chunks
        }),
        Attack::changes("roots-20k", || {
            (0..20_000).map(|number| put(RawChange::new(&actor(number)), "root").chunk()).collect()
        })
        .breaks(&["too-many-heads"])
        .stores(DOCUMENT_HEADS_MAX as u64 - 2),
        // As many heads as are allowed; then an honest author who was offline comes with an edit beside them. That the
        // edit is refused is the price of the bound, until roots are bound to principals.
        Attack::changes("roots-lock-out-a-late-author", || {
            let roots = DOCUMENT_HEADS_MAX as u64 + 8;
            let mut chunks: Vec<_> =
                (0..roots).map(|number| put(RawChange::new(&actor(number)), "root").chunk()).collect();
            let mut late = put(RawChange::new(&[0x33; 16]), "late");
            (late.deps, late.start_op) = (vec![base::changes()[0].hash()], 11);
            chunks.push(late.chunk());
            chunks
        })
        .breaks(&["too-many-heads"])
        .stores(DOCUMENT_HEADS_MAX as u64 - 2),
        Attack::changes("itself-1000-times", || vec![put(base::next(0), "again").chunk(); 1_000]).stores(1),
        Attack::changes("base-changes-as-strangers", || {
            // The victim's own first change under another time: the same number, another hash.
            let mut change = base::changes().remove(0);
            change.time = 1;
            vec![change.chunk()]
        })
        .breaks(&["seq-reused"]),
        Attack::changes("dependency-on-half-a-graph", || {
            // The author claims to know only the first change, and so cannot be the one who made the second.
            let mut change = put(RawChange::new(&FIRST), "fork");
            (change.deps, change.seq, change.start_op) = (vec![base::changes()[0].hash()], 3, 11);
            vec![change.chunk()]
        })
        .breaks(&["own-dependency"]),
    ]
}
