//! A field of many values, held against a map of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use automerge::{ActorId, ScalarValue};
use proptest::prelude::*;

use std::collections::BTreeMap;

use super::super::record::{set_register_key, value_key};
use super::super::registers::{Effect, Registers};
use super::super::{FieldValue, ObjectId, Projector, Touched, get, get_all, keys};
use super::*;
use crate::gate::{Action, ChangeDraft, CheckedChange, DraftObject, DraftOp, encode};
use crate::id::DocumentId;
use crate::ledger::{Appended, Appender};
use crate::limits::FIELD_VALUES_MAX;
use crate::store::{MemoryStore, Store, StoreExt};
use automerge::ChangeHash;

const DOCUMENT: DocumentId = DocumentId::from_bytes([7; 16]);

const KEY: &str = "field";

#[derive(Debug, Clone)]
enum Step {
    /// Puts so many values of a length beside those that are there: bytes, or counters where it is 0.
    Put {
        ids: Vec<(u64, Vec<u8>)>,
        length: usize,
    },
    /// Overwrites one of those that are there, or so many from the greatest on.
    Overwrite {
        at: prop::sample::Index,
        greatest: usize,
    },
    Increment {
        at: prop::sample::Index,
    },
    /// Overwrites what is not there.
    Miss,
    /// Writes the working copies out.
    Flush,
}

fn any_step() -> impl Strategy<Value = Step> {
    let id = (1..2_000_u64, prop::collection::vec(prop_oneof![Just(0_u8), Just(255), any::<u8>()], 1..4));
    let ids = prop::collection::vec(id, 1..100);
    let length = prop_oneof![3 => Just(0_usize), 3 => 1..50_usize, 1 => 1_000..40_000_usize];
    let at = any::<prop::sample::Index>();
    prop_oneof![
        4 => (ids, length).prop_map(|(ids, length)| Step::Put { ids, length }),
        2 => at.clone().prop_map(|at| Step::Overwrite { at, greatest: 0 }),
        2 => (at.clone(), 1..150_usize).prop_map(|(at, greatest)| Step::Overwrite { at, greatest }),
        2 => at.prop_map(|at| Step::Increment { at }),
        1 => Just(Step::Miss),
        3 => Just(Step::Flush),
    ]
}

/// Applies an operation as a change from a network is applied.
fn apply(registers: &mut Registers, tx: &dyn WriteTx, id: OpId, effect: Effect, preds: Vec<OpId>) {
    let register = registers.open(tx, &ObjectId::Root, KEY, false).unwrap();
    for pred in &preds {
        register.values.load(tx, pred).unwrap();
    }
    register.apply(id, effect, preds);
}

fn rows(store: &MemoryStore) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let scanned = store.read().unwrap().scan(Table::Register, &[][..]..&[u8::MAX; 17][..], &mut |key, row| {
        rows.push((key.to_vec(), row.to_vec()));
        ControlFlow::Continue(())
    });
    scanned.unwrap();
    rows
}

/// The rows that a store has to which these values come all at once.
fn rows_at_once(values: &BTreeMap<OpId, Content>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let store = MemoryStore::new();
    let mut key = Vec::new();
    set_register_key(&mut key, &DOCUMENT, &ObjectId::Root, KEY);
    store.write_with(|tx| Values::from_iter(values.clone()).write(tx, &key)).unwrap();
    rows(&store)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn field_shows_what_no_operation_overwrote_however_many(steps in prop::collection::vec(any_step(), 1..40)) {
        let store = MemoryStore::new();
        let mut expected = BTreeMap::<OpId, Content>::new();
        let mut steps = steps.into_iter().peekable();
        while steps.peek().is_some() {
            store.write_with(|tx| {
                let mut registers = Registers::new(DOCUMENT);
                for step in steps.by_ref() {
                    let made = OpId { counter: 1_000_000, actor: ActorId::from(b"other") };
                    let find = |at: &prop::sample::Index| {
                        (!expected.is_empty()).then(|| expected.keys().nth(at.index(expected.len())).unwrap().clone())
                    };
                    match step {
                        Step::Put { ids, length } => {
                            for (counter, actor) in ids {
                                let id = OpId { counter, actor: ActorId::from(actor) };
                                let scalar = if length == 0 { ScalarValue::counter(1) } else { ScalarValue::Bytes(vec![1; length]) };
                                if !expected.contains_key(&id) {
                                    expected.insert(id.clone(), Content::Scalar(scalar.clone()));
                                    apply(&mut registers, tx, id, Effect::Put(Content::Scalar(scalar)), vec![]);
                                }
                            }
                        }
                        Step::Overwrite { at, greatest } => {
                            let Some(found) = find(&at) else { continue };
                            let mut preds = vec![found];
                            if greatest > 0 {
                                preds = expected.keys().rev().take(greatest).cloned().collect();
                            }
                            expected.retain(|id, _| !preds.contains(id));
                            apply(&mut registers, tx, made, Effect::Delete, preds);
                        }
                        Step::Increment { at } => {
                            let Some(found) = find(&at) else { continue };
                            if let Some(Content::Scalar(ScalarValue::Counter(counter))) = expected.get_mut(&found) {
                                *counter = (i64::from(&*counter) + 5).into();
                            } else {
                                expected.remove(&found);
                            }
                            apply(&mut registers, tx, made, Effect::Increment(5), vec![found]);
                        }
                        Step::Miss => apply(&mut registers, tx, made.clone(), Effect::Delete, vec![made]),
                        Step::Flush => break,
                    }
                }
                registers.flush(tx, &mut Touched::default())
            }).unwrap();
            prop_assert!(rows(&store) == rows_at_once(&expected), "which rows there are depends on how they came to be");
            let tx = store.read().unwrap();
            let shown = |(id, content): (OpId, Content)| { let value = content.into_value(&id); (id, value) };
            let all: Vec<_> = expected.clone().into_iter().rev().map(shown).collect();
            prop_assert!(get_all(&*tx, &DOCUMENT, &ObjectId::Root, KEY).unwrap() == all);
            let winner = get(&*tx, &DOCUMENT, &ObjectId::Root, KEY).unwrap();
            prop_assert!(winner == all.first().map(|(_, value)| value.clone()));
            prop_assert_eq!(keys(&*tx, &DOCUMENT, &ObjectId::Root).unwrap().len(), usize::from(!all.is_empty()));
        }
    }

    #[test]
    fn keys_of_values_are_in_the_order_of_the_operations_from_the_greatest(
        one in (0..3_u64, prop::collection::vec(0..2_u8, 1..5)),
        other in (0..3_u64, prop::collection::vec(0..2_u8, 1..5)),
    ) {
        let id = |(counter, actor): (u64, Vec<u8>)| OpId { counter, actor: ActorId::from(actor) };
        let (one, other) = (id(one), id(other));
        let (one_key, other_key) = (value_key(b"p", &one), value_key(b"p", &other));
        prop_assert_eq!(other_key.cmp(&one_key), one.cmp(&other));
        prop_assert!(one == other || !one_key.starts_with(&other_key));
    }
}

#[test]
fn more_values_than_are_read_show_when_the_others_are_overwritten() {
    let store = MemoryStore::new();
    let id = |counter| OpId { counter, actor: ActorId::from(b"a") };
    let many = FIELD_VALUES_MAX as u64 + 10;
    let all = (1..=many).map(|counter| (id(counter), Content::Scalar(ScalarValue::Uint(counter))));
    let mut key = Vec::new();
    set_register_key(&mut key, &DOCUMENT, &ObjectId::Root, KEY);
    store.write_with(|tx| Values::from_iter(all).write(tx, &key)).unwrap();
    let read = get_all(&*store.read().unwrap(), &DOCUMENT, &ObjectId::Root, KEY).unwrap();
    assert_eq!((read.len(), read[0].0.clone()), (FIELD_VALUES_MAX, id(many)));

    // A write of this device overwrites what it can see.
    let written = store.write_with(|tx| {
        let mut registers = Registers::new(DOCUMENT);
        let register = registers.open_to_write(tx, &ObjectId::Root, KEY, false)?;
        let preds: Vec<_> = register.values.ops.keys().cloned().collect();
        register.apply(id(many + 1), Effect::Delete, preds.clone());
        registers.flush(tx, &mut Touched::default())?;
        Ok(preds.len())
    });
    assert_eq!(written.unwrap(), FIELD_VALUES_MAX);
    let tx = store.read().unwrap();
    let left = get_all(&*tx, &DOCUMENT, &ObjectId::Root, KEY).unwrap();
    assert_eq!((left.len(), left[0].0.clone()), (10, id(10)));
    assert_eq!(get(&*tx, &DOCUMENT, &ObjectId::Root, KEY).unwrap(), Some(FieldValue::Scalar(ScalarValue::Uint(10))));
}

/// A change of `actor` behind `last` that puts a number into the field, over `preds`.
fn change(actor: &ActorId, seq: u64, start_op: u64, last: Option<ChangeHash>, preds: Vec<OpId>) -> CheckedChange {
    let op = DraftOp {
        object: DraftObject::Root,
        key: KEY.to_owned(),
        action: Action::Put,
        value: ScalarValue::Uint(start_op),
        preds,
    };
    let deps = last.into_iter().collect();
    encode(&ChangeDraft { actor: actor.clone(), seq, start_op, timestamp: 0, message: None, deps, ops: vec![op] })
        .unwrap()
}

#[test]
fn changes_to_a_crowded_field_are_taken_in_whichever_order_they_come() {
    let (careless, careful) = (ActorId::from(b"a"), ActorId::from(b"b"));
    let (most, all) = (FIELD_VALUES_MAX as u64, FIELD_VALUES_MAX as u64 + 50);
    let mut changes: Vec<CheckedChange> = Vec::new();
    for seq in 1..=all {
        let last = changes.last().map(CheckedChange::hash);
        changes.push(change(&careless, seq, seq, last, vec![]));
    }
    let last = changes.get(FIELD_VALUES_MAX - 1).map(CheckedChange::hash);
    let seen = (1..=most).map(|counter| OpId { counter, actor: careless.clone() }).collect();
    let overwrites = change(&careful, 1, most + 1, last, seen);
    let stored = |order: Vec<&CheckedChange>| {
        let store = MemoryStore::new();
        store.write_with(|tx| crate::ledger::create(tx, &DOCUMENT)).unwrap();
        for batch in order.chunks(1_000) {
            let appended = store.write_with(|tx| {
                let (mut appender, mut projector) = (Appender::begin(tx, DOCUMENT)?, Projector::begin(DOCUMENT));
                for change in batch {
                    let appended = projector.append(tx, &mut appender, change)?;
                    assert!(matches!(appended, Appended::Stored { .. }), "{appended:?}");
                }
                projector.finish(tx)?;
                appender.finish(tx)
            });
            appended.unwrap();
        }
        rows(&store)
    };
    let (before, after) = changes.split_at(FIELD_VALUES_MAX);
    let early = stored(before.iter().chain([&overwrites]).chain(after).collect());
    let late = stored(changes.iter().chain([&overwrites]).collect());
    assert!(early == late, "the order in which changes came shows");
    assert_eq!(early.len(), 1, "51 values fit into one row");
}
