//! Attacks through references: objects, elements and predecessors that are not there or do not fit.
//!
//! In the changes here, actor 0 is the attacker, 1 is [`FIRST`](crate::hostile::base::FIRST) and 2 is
//! [`SECOND`](crate::hostile::base::SECOND).

use super::Attack;
use crate::hostile::base::{self, NEXT_OP};
use crate::hostile::change::{RawChange, RawKey, RawOp, action};

/// The base's map, list, text and counter.
const MAP: (u64, u64) = (1, 2);
const LIST: (u64, u64) = (1, 4);
const TEXT: (u64, u64) = (1, 7);
const COUNT: (u64, u64) = (1, 10);

/// One change on top of everything with these operations.
fn change(others: usize, ops: Vec<RawOp>) -> Vec<Vec<u8>> {
    let mut change = base::next(others);
    change.ops = ops;
    vec![change.chunk()]
}

/// An attack of one operation that names only the first author.
fn op(name: &'static str, rule: &'static str, make: fn() -> RawOp) -> Attack {
    Attack::changes(name, move || change(1, vec![make()])).breaks(&[rule])
}

fn element(counter: u64) -> RawKey {
    RawKey::Element((1, counter))
}

/// A change of the attacker's that knows only the first author's two changes.
fn beside(ops: Vec<RawOp>) -> Vec<Vec<u8>> {
    let mut change = base::next(2);
    (change.deps, change.start_op) = (vec![base::changes()[1].hash()], NEXT_OP);
    // Actor 1 is then the second author, whose change is not an ancestor.
    change.others.remove(0);
    change.ops = ops;
    vec![change.chunk()]
}

pub(super) fn attacks() -> Vec<Attack> {
    let mut all = objects();
    all.extend(elements());
    all.extend(preds());
    all.extend(marks());
    all
}

fn objects() -> Vec<Attack> {
    vec![
        op("object-missing", "unknown-object", || RawOp::put("k", "v").in_object((1, 12))),
        op("object-is-a-scalar", "unknown-object", || RawOp::put("k", "v").in_object((1, 1))),
        op("field-of-a-list", "object-kind", || RawOp::put("k", "v").in_object(LIST)),
        op("element-of-a-map", "object-kind", || RawOp::insert(MAP, RawKey::Head, "v")),
        op("object-in-the-future", "reference", || RawOp::put("k", "v").in_object((1, NEXT_OP + 5))),
        Attack::changes("object-not-an-ancestor", || {
            // The second author makes a map that the attacker cannot know of, and the attacker writes into it.
            let mut made = RawChange::new(&base::SECOND);
            (made.deps, made.seq, made.start_op) = (vec![base::changes()[2].hash()], 2, NEXT_OP);
            made.ops = vec![RawOp::new("hidden", action::MAKE_MAP)];
            let mut chunks = beside(vec![RawOp::put("a", ""), RawOp::put("k", "v").in_object((1, NEXT_OP))]);
            chunks.insert(0, made.chunk());
            chunks
        })
        .breaks(&["unknown-object"])
        .stores(1),
    ]
}

fn elements() -> Vec<Attack> {
    vec![
        op("element-missing", "reference", || RawOp::insert(LIST, element(12), "v")),
        op("element-of-another-list", "reference", || RawOp::insert(LIST, element(8), "v")),
        op("element-not-an-insert", "reference", || RawOp::insert(LIST, element(10), "v")),
        op("element-in-the-future", "reference", || RawOp::insert(LIST, RawKey::Element((0, NEXT_OP + 1)), "v")),
        op("element-of-the-root", "operation", || RawOp { object: None, ..RawOp::insert(LIST, element(5), "v") }),
        Attack::changes("element-not-an-ancestor", || {
            let mut made = RawChange::new(&base::SECOND);
            (made.deps, made.seq, made.start_op) = (vec![base::changes()[2].hash()], 2, NEXT_OP);
            made.others = vec![base::FIRST.to_vec()];
            made.ops = vec![RawOp::insert(LIST, RawKey::Head, "hidden")];
            let mut change = base::next(2);
            (change.deps, change.start_op) = (vec![base::changes()[1].hash()], NEXT_OP);
            change.ops = vec![RawOp::put("a", ""), RawOp::insert(LIST, RawKey::Element((2, NEXT_OP)), "v")];
            vec![made.chunk(), change.chunk()]
        })
        .breaks(&["reference"])
        .stores(1),
    ]
}

fn preds() -> Vec<Attack> {
    vec![
        op("pred-of-another-field", "reference", || RawOp::put("k", "v").over(&[COUNT])),
        op("pred-of-another-object", "reference", || RawOp::put("k", "v").over(&[(1, 3)])),
        op("pred-missing", "reference", || RawOp::put("title", "v").over(&[(1, 12)])),
        op("pred-in-the-future", "reference", || RawOp::put("title", "v").over(&[(1, NEXT_OP + 7)])),
        op("pred-itself", "reference", || RawOp::put("title", "v").over(&[(1, NEXT_OP)])),
        op("pred-zero", "reference", || RawOp::put("title", "v").over(&[(1, 0)])),
        op("pred-twice", "pred-order", || RawOp::put("title", "v").over(&[(1, 11), (1, 11)])),
        op("pred-of-another-element", "reference", || {
            RawOp { insert: false, ..RawOp::insert(LIST, element(5), "v") }.over(&[(1, 6)])
        }),
        op("pred-of-an-insert", "operation", || RawOp::insert(TEXT, element(8), "v").over(&[(1, 9)])),
        Attack::changes("delete-of-nothing", || change(0, vec![RawOp::new("title", action::DELETE)]))
            .breaks(&["operation"]),
        op("increment-by-a-text", "value", || {
            RawOp { action: action::INCREMENT, ..RawOp::put("count", "x") }.over(&[COUNT])
        }),
        // Sound: Automerge lets an increment of something else hide it, and the registers do the same.
        Attack::changes("increment-of-a-text", || {
            change(1, vec![RawOp::new("title", action::INCREMENT).number(4, 1).over(&[(1, 11)])])
        })
        .stores(1),
        Attack::changes("pred-not-an-ancestor", || beside(vec![RawOp::put("title", "v").over(&[(1, 11)])]))
            .breaks(&["reference"]),
        Attack::changes("pred-of-an-increment", || {
            let mut first = base::next(1);
            first.ops = vec![RawOp::new("count", action::INCREMENT).number(4, 1).over(&[COUNT])];
            let mut second = base::next(0);
            (second.deps, second.seq, second.start_op) = (vec![first.hash()], 2, NEXT_OP + 1);
            second.ops = vec![RawOp::put("count", "v").over(&[(0, NEXT_OP)])];
            vec![first.chunk(), second.chunk()]
        })
        .breaks(&["reference"])
        .stores(1),
        // Automerge's previews of 1.0 wrote this, and meant the counter.
        Attack::changes("pred-of-its-own-increment", || {
            let by = RawOp::new("count", action::INCREMENT).number(4, 1).over(&[COUNT]);
            change(1, vec![by, RawOp::put("count", "v").over(&[(0, NEXT_OP)])])
        })
        .stores(1),
    ]
}

/// A mark in the base's text that begins after the first of these elements and ends after the second.
fn mark(begin: RawKey, end: RawKey) -> Vec<Vec<u8>> {
    let op = |key| RawOp { action: action::MARK, value_type: 0, value: Vec::new(), ..RawOp::insert(TEXT, key, "") };
    change(1, vec![RawOp { mark: Some("bold".to_owned()), value_type: 2, ..op(begin) }, op(end)])
}

/// Automerge writes a document whose mark ends before it begins, and then does not load what it wrote.
fn marks() -> Vec<Attack> {
    vec![
        Attack::changes("mark-over-one-letter", || mark(element(8), element(9))).stores(1),
        Attack::changes("mark-end-before-its-begin", || mark(element(9), element(8))).breaks(&["mark-order"]),
        Attack::changes("mark-end-at-the-head", || mark(element(9), RawKey::Head)).breaks(&["mark-order"]),
        Attack::changes("mark-end-beside-its-begin", || mark(element(8), element(8))).breaks(&["mark-order"]),
    ]
}
