//! The rules that are easy to get wrong, one by one. Each history is also held against Automerge.

use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::transaction::Transactable;
use automerge::{ObjId, ObjType, ROOT, ScalarValue};
use rejoin::fields::{self, Edit, EditAction, FieldError, FieldRef, FieldValue, ObjectId, ObjectKind, Target};
use rejoin::gate::{Action, ChangeDraft, DraftObject, DraftOp, encode};
use rejoin::ledger::{Appended, Appender};
use rejoin::limits::{JSON_DEPTH_MAX, KEY_BYTES_MAX};
use rejoin::store::{MemoryStore, Store, StoreExt, Table};
use rejoin::value::Value;
use serde_json::json;

use crate::world::{DOCUMENT, Replica};

/// Lets every replica learn what every other knows, and asserts that all agree.
fn meet(replicas: &mut [&mut Replica]) {
    for at in 0..replicas.len() {
        for from in 0..replicas.len() {
            let changes = replicas[from].changes();
            replicas[at].receive(&changes, at % 2 == 0);
        }
    }
    for replica in replicas {
        replica.assert_agrees();
    }
}

/// The values of a root field, the winner first.
fn values(replica: &Replica, key: &str) -> Vec<FieldValue> {
    let tx = replica.store.read().unwrap();
    let all = fields::get_all(&*tx, &DOCUMENT, &ObjectId::Root, key).unwrap();
    all.into_iter().map(|(_, value)| value).collect()
}

fn scalars<T: Into<ScalarValue>>(expected: impl IntoIterator<Item = T>) -> Vec<FieldValue> {
    expected.into_iter().map(|value| FieldValue::Scalar(value.into())).collect()
}

fn counter(value: i64) -> FieldValue {
    FieldValue::Scalar(ScalarValue::counter(value))
}

/// Two replicas that share one first write.
fn pair(first: Edit) -> (Replica, Replica) {
    let (mut a, mut b) = (Replica::new(b"a"), Replica::new(b"b"));
    a.write(&[first]).unwrap();
    meet(&mut [&mut a, &mut b]);
    (a, b)
}

#[test]
fn greatest_actor_wins_among_equal_counters_and_a_later_write_replaces_all() {
    let (mut a, mut b, mut c) = (Replica::new(b"a"), Replica::new(b"bb"), Replica::new(b"b"));
    for (replica, value) in [(&mut a, "from a"), (&mut b, "from bb"), (&mut c, "from b")] {
        replica.write(&[Edit::set("k", value)]).unwrap();
    }
    meet(&mut [&mut a, &mut b, &mut c]);
    assert_eq!(values(&a, "k"), scalars(["from bb", "from b", "from a"]));
    c.write(&[Edit::set("k", "all")]).unwrap();
    meet(&mut [&mut a, &mut b, &mut c]);
    assert_eq!(values(&a, "k"), scalars(["all"]));
}

#[test]
fn higher_counter_wins_over_a_greater_actor() {
    let (mut a, mut b) = (Replica::new(b"a"), Replica::new(b"b"));
    a.write(&[Edit::set("other", 1), Edit::set("k", "from a")]).unwrap();
    b.write(&[Edit::set("k", "from b")]).unwrap();
    meet(&mut [&mut a, &mut b]);
    assert_eq!(values(&a, "k"), scalars(["from a", "from b"]));
}

#[test]
fn setting_the_winner_again_removes_the_others() {
    let (mut a, mut b) = (Replica::new(b"a"), Replica::new(b"b"));
    a.write(&[Edit::set("k", 1)]).unwrap();
    b.write(&[Edit::set("k", 2)]).unwrap();
    meet(&mut [&mut a, &mut b]);
    let written = a.write(&[Edit::set("k", 2)]).unwrap().unwrap();
    assert_eq!(written.touched.fields, [FieldRef { object: ObjectId::Root, key: "k".into() }]);
    assert_eq!(values(&a, "k"), scalars([2]));
    assert_eq!(a.write(&[Edit::set("k", 2)]).unwrap().map(drop), None);
    meet(&mut [&mut a, &mut b]);
}

#[test]
fn put_survives_a_concurrent_delete() {
    let (mut a, mut b) = pair(Edit::set("k", 1));
    a.write(&[Edit::delete("k")]).unwrap();
    b.write(&[Edit::set("k", 2)]).unwrap();
    meet(&mut [&mut a, &mut b]);
    assert_eq!(values(&a, "k"), scalars([2]));
}

#[test]
fn concurrent_increments_add_up() {
    let (mut a, mut b) = pair(Edit::set("k", Value::counter(10)));
    a.write(&[Edit::increment("k", 5), Edit::increment("k", 1)]).unwrap();
    b.write(&[Edit::increment("k", -2)]).unwrap();
    meet(&mut [&mut a, &mut b]);
    assert_eq!(values(&a, "k"), [counter(14)]);
}

#[test]
fn counter_wraps_around_where_automerge_does() {
    let (mut a, mut b) = pair(Edit::set("k", Value::counter(i64::MAX)));
    a.write(&[Edit::increment("k", 1)]).unwrap();
    b.write(&[Edit::increment("k", i64::MAX)]).unwrap();
    meet(&mut [&mut a, &mut b]);
    assert_eq!(values(&a, "k"), [counter(i64::MAX.wrapping_add(1).wrapping_add(i64::MAX))]);
}

#[test]
fn concurrent_put_stands_beside_an_incremented_counter() {
    let (mut a, mut b) = pair(Edit::set("k", Value::counter(10)));
    a.write(&[Edit::increment("k", 5)]).unwrap();
    b.write(&[Edit::set("k", "text")]).unwrap();
    meet(&mut [&mut a, &mut b]);
    // The put has overwritten the counter; an increment of what is gone brings nothing back.
    assert_eq!(values(&a, "k"), scalars(["text"]));
}

#[test]
fn increment_hides_values_that_are_no_counter() {
    let (mut a, mut b) = (Replica::new(b"a"), Replica::new(b"b"));
    a.write(&[Edit::set("k", Value::counter(1))]).unwrap();
    b.write(&[Edit::set("k", "wins")]).unwrap();
    meet(&mut [&mut a, &mut b]);
    assert_eq!(values(&a, "k"), [scalars(["wins"]), vec![counter(1)]].concat());
    a.write(&[Edit::increment("k", 4)]).unwrap();
    assert_eq!(values(&a, "k"), [counter(5)]);
    meet(&mut [&mut a, &mut b]);
    assert_eq!(values(&b, "k"), [counter(5)]);
}

#[test]
fn increment_of_several_counters_reaches_each() {
    let (mut a, mut b) = (Replica::new(b"a"), Replica::new(b"b"));
    a.write(&[Edit::set("k", Value::counter(1))]).unwrap();
    b.write(&[Edit::set("k", Value::counter(100))]).unwrap();
    meet(&mut [&mut a, &mut b]);
    b.write(&[Edit::increment("k", 1)]).unwrap();
    meet(&mut [&mut a, &mut b]);
    assert_eq!(values(&a, "k"), [counter(101), counter(2)]);
}

#[test]
fn maps_made_apart_stand_side_by_side_and_only_the_winner_is_on_a_path() {
    let (mut a, mut b) = (Replica::new(b"a"), Replica::new(b"b"));
    let map = |value: i64| Edit::set("m", Value::Map(vec![("x".into(), value.into())]));
    let lost = a.write(&[map(1)]).unwrap().unwrap().made[0].1.clone();
    let won = b.write(&[map(2)]).unwrap().unwrap().made[0].1.clone();
    meet(&mut [&mut a, &mut b]);
    let kind = ObjectKind::Map;
    assert_eq!(values(&a, "m"), [FieldValue::Object(kind, won.clone()), FieldValue::Object(kind, lost.clone())]);
    let tx = a.store.read().unwrap();
    assert_eq!(fields::resolve(&*tx, &DOCUMENT, &["m"]).unwrap(), Some(won));
    assert_eq!(fields::get(&*tx, &DOCUMENT, &lost, "x").unwrap(), Some(FieldValue::Scalar(1.into())));
    assert_eq!(fields::to_json(&*tx, &DOCUMENT).unwrap().unwrap(), Some(json!({ "m": { "x": 2 } })));
    assert_eq!(fields::resolve(&*tx, &DOCUMENT, &["m", "x"]).unwrap(), None);
    assert_eq!(fields::resolve(&*tx, &DOCUMENT, &["none"]).unwrap(), None);
}

#[test]
fn later_edits_of_a_change_see_the_earlier_ones() {
    let mut a = Replica::new(b"a");
    let inner = |key: &str, value: i64| {
        let path = Target::from(&["m", "n"][..]);
        Edit::new(path, key, EditAction::Set(value.into()))
    };
    let nested = Value::Map(vec![("n".into(), Value::Map(vec![("x".into(), 1.into())]))]);
    let written = a.write(&[Edit::set("m", nested), inner("x", 2), inner("y", 3), inner("y", 3)]).unwrap().unwrap();
    assert_eq!(written.change.op_count(), 5);
    a.assert_agrees();
    let tx = a.store.read().unwrap();
    assert_eq!(fields::to_json(&*tx, &DOCUMENT).unwrap().unwrap(), Some(json!({ "m": { "n": { "x": 2, "y": 3 } } })));
}

#[test]
fn field_that_is_set_and_deleted_again_leaves_no_register() {
    let mut a = Replica::new(b"a");
    a.write(&[Edit::set("k", 1)]).unwrap();
    a.write(&[Edit::delete("k")]).unwrap();
    assert_eq!(a.write(&[Edit::delete("k")]).unwrap().map(drop), None);
    let mut records = 0;
    let tx = a.store.read().unwrap();
    tx.scan(Table::Register, &[][..]..&[u8::MAX; 99][..], &mut |_, _| {
        records += 1;
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(records, 0);
}

#[test]
fn ten_thousand_operations_on_one_key_are_one_register() {
    let (mut a, mut b) = (Replica::new(b"a"), Replica::new(b"b"));
    let edits: Vec<_> = (0..10_000).map(|value| Edit::set("k", i64::from(value))).collect();
    let written = a.write(&edits).unwrap().unwrap();
    assert_eq!(written.touched.fields.len(), 1);
    meet(&mut [&mut a, &mut b]);
    assert_eq!(values(&b, "k"), scalars([9_999]));
}

#[test]
fn maps_inside_lists_are_found() {
    let mut a = Replica::new(b"a");
    let mut made = ROOT;
    a.edit_document(|tx| {
        let list = tx.put_object(ROOT, "list", ObjType::List).unwrap();
        made = tx.insert_object(&list, 0, ObjType::Map).unwrap();
        tx.put(&made, "x", 1).unwrap();
    });
    let automerge::ObjId::Id(counter, actor, _) = made else { panic!("the map has no id") };
    let map = ObjectId::Made(rejoin::OpId { counter, actor });
    a.write(&[Edit::new(map, "x", EditAction::Set(2.into()))]).unwrap().unwrap();
    a.assert_agrees();
    let tx = a.store.read().unwrap();
    assert_eq!(fields::to_json(&*tx, &DOCUMENT).unwrap().unwrap(), None);
}

#[test]
fn refused_edits_write_nothing_and_say_why() {
    let mut a = Replica::new(b"a");
    let list = a.write(&[Edit::new(ObjectId::Root, "list", EditAction::MakeList)]).unwrap().unwrap().made[0].1.clone();
    a.write(&[Edit::set("k", 1)]).unwrap();
    let root = || ObjectId::Root;
    let through = |path: &[&str]| Edit::new(path, "x", EditAction::Delete);
    let deep = (0..=JSON_DEPTH_MAX).fold(Value::NULL, |inner, _| Value::Map(vec![("m".into(), inner)]));
    let nowhere = ObjectId::Made(rejoin::OpId { counter: 77, actor: a.actor.clone() });
    let cases = [
        (Edit::increment("k", 1), FieldError::NotACounter { object: root(), key: "k".into() }),
        (Edit::increment("none", 1), FieldError::NotACounter { object: root(), key: "none".into() }),
        (through(&["none"]), FieldError::NoPath { object: root(), key: "none".into() }),
        (through(&["k"]), FieldError::NoMapOnPath { object: root(), key: "k".into() }),
        (through(&["list"]), FieldError::NoMapOnPath { object: root(), key: "list".into() }),
        (Edit::new(list.clone(), "x", EditAction::Delete), FieldError::NotAMap { object: list }),
        (Edit::new(nowhere.clone(), "x", EditAction::Delete), FieldError::NoObject { object: nowhere }),
    ];
    let before = a.doc().get_heads();
    for (edit, expected) in cases {
        let refused = a.write(&[Edit::set("before", 1), edit]).unwrap_err();
        assert_eq!(refused, expected);
    }
    a.assert_agrees();
    assert_eq!(a.doc().get_heads(), before);

    // Automerge has no such bounds, so these are not held against it.
    let author = fields::Author { actor: &a.actor, time_seconds: 0, message: None };
    let write = |edit: Edit| a.store.write_with(|tx| fields::write(tx, &DOCUMENT, &author, &[edit])).unwrap();
    assert_eq!(write(Edit::set("deep", deep)).unwrap_err(), FieldError::TooDeep);
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    assert_eq!(write(Edit::set(long, 1)).unwrap_err(), FieldError::KeyTooLong { found: KEY_BYTES_MAX + 1 });
    let huge = vec![0_u8; rejoin::limits::CHANGE_BYTES_MAX];
    let refused = write(Edit::set("huge", huge)).unwrap_err();
    assert!(matches!(refused, FieldError::Refused(_)), "{refused}");
    assert!(write(Edit::set("k".repeat(KEY_BYTES_MAX), 1)).is_ok());
}

#[test]
fn missing_document_is_named() {
    let author = fields::Author { actor: &rejoin::ActorId::from(b"a"), time_seconds: 0, message: None };
    let store = MemoryStore::new();
    let refused = store.write_with(|tx| fields::write(tx, &DOCUMENT, &author, &[Edit::set("k", 1)])).unwrap();
    assert_eq!(refused.unwrap_err(), FieldError::NoDocument { document: DOCUMENT });
}

#[test]
fn deepest_json_is_read_and_one_deeper_is_refused() {
    let mut a = Replica::new(b"a");
    let deepest = (0..JSON_DEPTH_MAX).fold(Value::NULL, |inner, _| Value::Map(vec![("m".into(), inner)]));
    a.write(&[Edit::set("m", deepest)]).unwrap();
    let path = vec!["m".to_owned(); JSON_DEPTH_MAX];
    let deeper = Edit::new(Target::Path(path), "m", EditAction::Set(Value::Map(vec![])));
    let json = |a: &Replica| fields::to_json(&*a.store.read().unwrap(), &DOCUMENT).unwrap();
    assert!(json(&a).is_ok_and(|json| json.is_some()));
    a.write(&[deeper]).unwrap();
    assert_eq!(json(&a), Err(FieldError::TooDeep));
    a.assert_agrees();
}

#[test]
fn counter_beyond_64_bits_wraps_around() {
    // Automerge would panic on reading it, so registers alone are looked at.
    let store = MemoryStore::new();
    let author = fields::Author { actor: &rejoin::ActorId::from(b"a"), time_seconds: 0, message: None };
    let edits = [Edit::set("k", Value::counter(i64::MAX)), Edit::increment("k", 1)];
    store.write_with(|tx| rejoin::ledger::create(tx, &DOCUMENT)).unwrap();
    store.write_with(|tx| fields::write(tx, &DOCUMENT, &author, &edits)).unwrap().unwrap();
    let found = fields::get(&*store.read().unwrap(), &DOCUMENT, &ObjectId::Root, "k").unwrap();
    assert_eq!(found, Some(counter(i64::MIN)));
}

#[test]
fn local_write_waits_in_the_outbox() {
    let mut a = Replica::new(b"a");
    a.write(&[Edit::set("k", 1)]).unwrap();
    a.write(&[Edit::set("k", 2)]).unwrap();
    let tx = a.store.read().unwrap();
    assert_eq!(rejoin::ledger::outbox::pending(&*tx, &DOCUMENT).unwrap(), [0, 1]);
}

/// What becomes of a change by another actor with one operation, after `a` made a list, a text, a table and a map.
fn verdict_on(object: &str, key: &str) -> (Appended, bool) {
    let mut a = Replica::new(b"a");
    let mut made = std::collections::BTreeMap::new();
    a.edit_document(|tx| {
        for (name, kind) in [("list", ObjType::List), ("table", ObjType::Table), ("map", ObjType::Map)] {
            made.insert(name, tx.put_object(ROOT, name, kind).unwrap());
        }
    });
    let none = ObjId::Id(100, a.actor.clone(), 0);
    let ObjId::Id(counter, actor, _) = made.remove(object).unwrap_or(none) else { panic!("no id") };
    let draft = ChangeDraft {
        actor: rejoin::ActorId::from(b"b"),
        seq: 1,
        start_op: 200,
        timestamp: 0,
        message: None,
        deps: a.doc().get_heads(),
        ops: vec![DraftOp {
            object: DraftObject::Op(rejoin::OpId { counter, actor }),
            key: key.into(),
            action: Action::Put,
            value: 1.into(),
            preds: vec![],
        }],
    };
    let change = encode(&draft).unwrap();
    let appended = a.store.write_with(|tx| {
        let mut appender = Appender::begin(tx, DOCUMENT)?;
        fields::Projector::begin(DOCUMENT).append(tx, &mut appender, &change)
    });
    let change = automerge::Change::from_bytes(change.bytes().to_vec()).unwrap();
    let applies = catch_unwind(AssertUnwindSafe(|| a.doc().apply_changes([change]))).is_ok_and(|done| done.is_ok());
    (appended.unwrap(), applies)
}

#[test]
fn change_on_an_object_that_was_never_made_is_refused_before_automerge_panics() {
    let refusal = |object| match verdict_on(object, "k") {
        (Appended::Rejected(error), applies) => (error.rule().code(), applies),
        (other, _) => panic!("{object}: {other:?}"),
    };
    assert!(matches!(verdict_on("map", "k"), (Appended::Stored { .. }, true)));
    assert_eq!(refusal("none"), ("unknown-object", false));
    assert_eq!(refusal("table"), ("object-kind", false));
    assert_eq!(refusal("list").0, "object-kind");
}

/// What becomes of a change by another actor that puts something into the root, after `a` set `k` twice.
fn verdict_on_put(key: &str, preds: &[u64], action: Action) -> Option<&'static str> {
    let mut a = Replica::new(b"a");
    a.write(&[Edit::set("k", 1)]).unwrap();
    a.write(&[Edit::set("k", 2)]).unwrap();
    a.write(&[Edit::delete("k")]).unwrap();
    let draft = ChangeDraft {
        actor: rejoin::ActorId::from(b"b"),
        seq: 1,
        start_op: 9,
        timestamp: 0,
        message: None,
        deps: a.doc().get_heads(),
        ops: vec![DraftOp {
            object: DraftObject::Root,
            key: key.into(),
            action,
            value: if action == Action::Delete { automerge::ScalarValue::Null } else { 2.into() },
            preds: preds.iter().map(|counter| rejoin::OpId { counter: *counter, actor: a.actor.clone() }).collect(),
        }],
    };
    let change = encode(&draft).unwrap();
    let appended = a.store.write_with(|tx| Appender::begin(tx, DOCUMENT)?.append(tx, &change));
    match appended.unwrap() {
        Appended::Rejected(error) => Some(error.rule().code()),
        Appended::Stored { .. } => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn predecessors_must_be_values_of_the_same_field() {
    // Automerge would take the operation away from its field, and then neither save nor export the document soundly.
    assert_eq!(verdict_on_put("other", &[1], Action::Put), Some("reference"));
    assert_eq!(verdict_on_put("k", &[1], Action::Put), None);
    assert_eq!(verdict_on_put("k", &[1, 2], Action::Delete), None);
    // Operation 3 is the delete, which is no value; operation 4 was never made.
    assert_eq!(verdict_on_put("k", &[3], Action::Put), Some("reference"));
    assert_eq!(verdict_on_put("k", &[4], Action::Put), Some("reference"));
}
