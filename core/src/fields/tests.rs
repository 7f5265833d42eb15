//! Records, and what only shows inside the crate. The rules of registers are in `tests/registers.rs`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use automerge::{ActorId, ScalarValue};
use proptest::prelude::*;

use super::record::{
    Content, RegisterReader, VisibleOps, decode_object_kind, encode_object, encode_register, field_of_key, object_key,
    set_register_key, value_key, values_prefix,
};
use super::{FieldValue, ObjectId, ObjectKind, Projector, get};
use crate::gate::{Action, ChangeDraft, DraftObject, DraftOp, encode};
use crate::id::{DocumentId, OpId};
use crate::limits::TOUCHED_FIELDS_MAX;
use crate::store::{MemoryStore, Store, StoreExt};

const DOCUMENT: DocumentId = DocumentId::from_bytes([7; 16]);

const KINDS: [ObjectKind; 4] = [ObjectKind::Map, ObjectKind::Table, ObjectKind::List, ObjectKind::Text];

fn any_op() -> impl Strategy<Value = OpId> {
    (any::<u64>(), prop::collection::vec(any::<u8>(), 1..65))
        .prop_map(|(counter, actor)| OpId { counter, actor: ActorId::from(actor) })
}

fn any_object() -> impl Strategy<Value = ObjectId> {
    prop_oneof![Just(ObjectId::Root), any_op().prop_map(ObjectId::Made)]
}

fn any_content() -> impl Strategy<Value = Content> {
    let scalar = prop_oneof![
        Just(ScalarValue::Null),
        any::<bool>().prop_map(ScalarValue::Boolean),
        any::<u64>().prop_map(ScalarValue::Uint),
        any::<i64>().prop_map(ScalarValue::Int),
        any::<f64>().prop_filter("unequal to itself", |value| !value.is_nan()).prop_map(ScalarValue::F64),
        any::<String>().prop_map(|text| ScalarValue::Str(text.into())),
        any::<Vec<u8>>().prop_map(ScalarValue::Bytes),
        any::<i64>().prop_map(ScalarValue::counter),
        any::<i64>().prop_map(ScalarValue::Timestamp),
        (10_u8..16, any::<Vec<u8>>()).prop_map(|(type_code, bytes)| ScalarValue::Unknown { type_code, bytes }),
    ];
    prop_oneof![scalar.prop_map(Content::Scalar), (0..4_usize).prop_map(|kind| Content::Object(KINDS[kind]))]
}

proptest! {
    #[test]
    fn registers_come_back_with_the_winner_first(ops in prop::collection::btree_map(any_op(), any_content(), 0..5)) {
        let bytes = encode_register(&ops, false);
        let read: Vec<_> = RegisterReader::new(&bytes).unwrap().collect::<Result<_, _>>().unwrap();
        let expected: Vec<_> = ops.clone().into_iter().rev().collect();
        prop_assert_eq!(&read, &expected);
        let back: VisibleOps = read.into_iter().collect();
        prop_assert_eq!(back, ops);
    }

    #[test]
    fn damaged_registers_are_errors(bytes: Vec<u8>) {
        if let Ok(reader) = RegisterReader::new(&bytes) {
            prop_assert!(reader.take(1_000).filter(Result::is_err).count() <= 1);
        }
        drop(field_of_key(&bytes));
        drop(decode_object_kind(&bytes));
    }

    #[test]
    fn register_keys_come_back_and_no_object_hides_another(one in any_object(), other in any_object(), key: String) {
        let mut bytes = Vec::new();
        set_register_key(&mut bytes, &DOCUMENT, &one, &key);
        let field = field_of_key(&bytes).unwrap();
        prop_assert_eq!((&field.object, &field.key), (&one, &key));
        prop_assert!(one == other || !bytes.starts_with(&object_key(&DOCUMENT, &other)));
    }

    #[test]
    fn object_records_keep_their_kind(kind in 0..4_usize, parent in any_object()) {
        prop_assert_eq!(decode_object_kind(&encode_object(KINDS[kind], &parent)).unwrap(), KINDS[kind]);
    }
}

#[test]
fn register_has_these_very_bytes() {
    let id = |counter, actor: &[u8]| OpId { counter, actor: ActorId::from(actor) };
    let ops = VisibleOps::from([
        (id(1, b"a"), Content::Scalar("hi".into())),
        (id(300, b"bc"), Content::Object(ObjectKind::Text)),
        (id(300, b"b"), Content::Scalar(ScalarValue::Int(-1))),
    ]);
    let expected = b"\x03\xac\x02\x02bc\x0b\x03\xac\x02\x01b\x04\x01\x01\x01a\x06\x02hi";
    assert_eq!(encode_register(&ops, false), expected);
    assert_eq!(encode_register(&ops, true), [&expected[..], b"\x01"].concat());
    let mut key = Vec::new();
    set_register_key(&mut key, &DOCUMENT, &ObjectId::Made(id(258, b"ab")), "k");
    assert_eq!(key, [&[7; 16][..], b"\x01\0\0\0\0\0\0\x01\x02\x02abk"].concat());
    set_register_key(&mut key, &DOCUMENT, &ObjectId::Root, "k");
    assert_eq!(key, [&[7; 16][..], b"\0k"].concat());
    let prefix = values_prefix(&key);
    assert_eq!(prefix, [&[7; 16][..], b"\x02\0\0\0\x02\0k"].concat());
    let behind = value_key(&prefix, &id(258, b"a\0"));
    assert_eq!(behind, [&prefix[..], b"\xff\xff\xff\xff\xff\xff\xfe\xfd\x9e\xff\0\xff\xff"].concat());
    let record = encode_object(ObjectKind::List, &ObjectId::Root);
    assert_eq!(record, b"\x02\x01\0");
}

/// A change that puts `value` into every one of `keys`.
fn puts(
    seq: u64,
    start_op: u64,
    keys: impl Iterator<Item = String>,
    value: &ScalarValue,
) -> crate::gate::CheckedChange {
    let ops = keys.map(|key| DraftOp {
        object: DraftObject::Root,
        key,
        action: Action::Put,
        value: value.clone(),
        preds: vec![],
    });
    let actor = ActorId::from(b"a");
    let ops = ops.collect();
    encode(&ChangeDraft { actor, seq, start_op, timestamp: 0, message: None, deps: vec![], ops }).unwrap()
}

#[test]
fn touched_fields_are_named_up_to_their_bound() {
    for (count, more) in [(TOUCHED_FIELDS_MAX - 1, false), (TOUCHED_FIELDS_MAX, false), (TOUCHED_FIELDS_MAX + 1, true)]
    {
        let change = puts(1, 1, (0..count).map(|index| index.to_string()), &ScalarValue::Null);
        let touched = MemoryStore::new().write_with(|tx| super::project(tx, &DOCUMENT, &change)).unwrap();
        assert_eq!((touched.fields.len(), touched.more), (count.min(TOUCHED_FIELDS_MAX), more));
    }
}

#[test]
fn batch_beyond_its_memory_is_written_out_in_between() {
    let store = MemoryStore::new();
    let large = ScalarValue::Bytes(vec![1; 7 << 20]);
    let touched = store.write_with(|tx| {
        let mut projector = Projector::begin(DOCUMENT);
        for seq in 1..=6 {
            // One key of its own, and one that every change sets: it stays whole across the write-outs.
            projector.project(tx, &puts(seq, seq * 10, std::iter::once(format!("k{seq}")), &large))?;
            projector.project(tx, &puts(seq, seq * 10 + 1, std::iter::once("all".into()), &ScalarValue::Null))?;
        }
        projector.finish(tx)
    });
    assert_eq!(touched.unwrap().fields.iter().filter(|field| field.key.starts_with('k')).count(), 6);
    let tx = store.read().unwrap();
    assert_eq!(get(&*tx, &DOCUMENT, &ObjectId::Root, "k1").unwrap(), Some(FieldValue::Scalar(large)));
    assert_eq!(super::get_all(&*tx, &DOCUMENT, &ObjectId::Root, "all").unwrap().len(), 6);
}
