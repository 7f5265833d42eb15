//! The order of a register's values: by counter, then by actor, whoever brought them in which order, so that there is one
//! winner and everybody agrees on it.

use std::cmp::Ordering;

use proptest::prelude::*;
use rejoin::engine::{self, Origin};
use rejoin::fields::{self, Author, Edit, EditAction, FieldValue, ObjectId};
use rejoin::gate::CheckedChange;
use rejoin::ledger;
use rejoin::store::{MemoryStore, Store, StoreExt};
use rejoin::value::Value;
use rejoin::{ActorId, DocumentId, OpId, ScalarValue};

use crate::histories;
use crate::world::DOCUMENT;

/// An op id whose parts are few, so that they are often alike; actors of any length, also one the beginning of another.
fn op_id() -> impl Strategy<Value = OpId> {
    let actor = prop::collection::vec(prop::sample::select(vec![0u8, 1, 0x7f, 0xff]), 1..5);
    (prop::sample::select(vec![1u64, 2, 3, 255, 256, 1 << 20]), actor)
        .prop_map(|(counter, actor)| OpId { counter, actor: ActorId::from(&actor[..]) })
}

/// The order in words: the greater counter, then the greater actor byte by byte, a longer one after its beginning.
fn by_the_book(one: &OpId, other: &OpId) -> Ordering {
    let counters = one.counter.cmp(&other.counter);
    counters.then_with(|| one.actor.to_bytes().cmp(other.actor.to_bytes()))
}

/// What one writer sets a field to, after so many other writes.
#[derive(Debug, Clone)]
struct Writer {
    actor: Vec<u8>,
    writes_before: usize,
    value: i64,
    kind: u8,
}

fn writer() -> impl Strategy<Value = Writer> {
    let actor = prop::collection::vec(any::<u8>(), 1..18);
    (actor, 0..4usize, -2..3i64, 0..4u8).prop_map(|(actor, writes_before, value, kind)| Writer {
        actor,
        writes_before,
        value,
        kind,
    })
}

impl Writer {
    fn edit(&self) -> Edit {
        let value = match self.kind {
            0 => Value::from(ScalarValue::counter(self.value)),
            1 => Value::Map(Default::default()),
            2 => ScalarValue::Timestamp(self.value).into(),
            _ => ScalarValue::Int(self.value).into(),
        };
        Edit::new(ObjectId::Root, "field", EditAction::Set(value))
    }
}

const WRITTEN: DocumentId = DocumentId::from_bytes([0x77; 16]);

/// Lets a writer alone, on top of what all have, and returns its changes.
fn alone(base: &[CheckedChange], writer: &Writer) -> Vec<CheckedChange> {
    let store = with(&[base]);
    let actor = ActorId::from(&writer.actor[..]);
    let author = Author { actor: &actor, time_seconds: 1, message: None };
    let mut edits: Vec<_> =
        (0..writer.writes_before).map(|number| Edit::set(format!("other {number}"), writer.value)).collect();
    edits.push(writer.edit());
    let write = |edit: &Edit| {
        let written = store.write_with(|tx| fields::write(tx, &WRITTEN, &author, std::slice::from_ref(edit)));
        written.unwrap().unwrap().unwrap().change
    };
    edits.iter().map(write).collect()
}

fn with(parts: &[&[CheckedChange]]) -> MemoryStore {
    let store = MemoryStore::new();
    store.write_with(|tx| ledger::create(tx, &WRITTEN)).unwrap();
    for part in parts {
        let accepted = store.write_with(|tx| engine::accept(tx, WRITTEN, part.to_vec(), Origin::Remote)).unwrap();
        assert_eq!(accepted.stored, part.len(), "{:?}", accepted.results);
    }
    store
}

fn values(store: &MemoryStore) -> Vec<(OpId, FieldValue)> {
    fields::get_all(&*store.read().unwrap(), &WRITTEN, &ObjectId::Root, "field").unwrap()
}

fn winner(parts: &[&[CheckedChange]]) -> OpId {
    values(&with(parts))[0].0.clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn order_of_op_ids_is_total_and_transitive(one in op_id(), two in op_id(), three in op_id()) {
        prop_assert_eq!(one.cmp(&two), by_the_book(&one, &two));
        prop_assert_eq!(one.cmp(&two), two.cmp(&one).reverse());
        prop_assert_eq!(one.cmp(&two) == Ordering::Equal, one == two);
        if one <= two && two <= three {
            prop_assert!(one <= three);
        }
        // One of three is the greatest, whichever two are compared first.
        let greatest = [&one, &two, &three].into_iter().max().unwrap();
        prop_assert_eq!(std::cmp::max(&one, std::cmp::max(&two, &three)), greatest);
        prop_assert_eq!(std::cmp::max(std::cmp::max(&one, &two), &three), greatest);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn winner_of_many_is_the_winner_of_all_pairs(
        first in writer(),
        mut writers in prop::collection::vec(writer(), 2..5),
        turns in any::<prop::sample::Index>(),
    ) {
        // Nobody is two writers, and nobody writes what is there already, which would be no change.
        for (writer, number) in writers.iter_mut().zip(1u8..) {
            writer.actor.push(number);
            writer.value += 10 * i64::from(number);
        }
        let base = alone(&[], &first);
        let parts: Vec<_> = writers.iter().map(|writer| alone(&base, writer)).collect();
        let own: Vec<_> = parts.iter().map(|part| winner(&[&base, part])).collect();
        for (at, one) in parts.iter().enumerate() {
            for (other_at, other) in parts.iter().enumerate().filter(|(other, _)| *other != at) {
                let wins = winner(&[&base, one, other]);
                prop_assert_eq!(&wins, &winner(&[&base, other, one]), "the order of arrival decides");
                prop_assert_eq!(&wins, std::cmp::max(&own[at], &own[other_at]));
            }
        }
        let mut all: Vec<_> = parts.iter().map(|part| &part[..]).collect();
        all.rotate_left(turns.index(parts.len()));
        all.insert(0, &base);
        let shown = values(&with(&all));
        prop_assert_eq!(shown.len(), parts.len(), "whoever wrote apart is shown");
        prop_assert_eq!(&shown[0].0, own.iter().max().unwrap());
        prop_assert!(shown.is_sorted_by(|(one, _), (next, _)| one > next), "{:?}", shown);
    }

    #[test]
    fn every_register_of_any_history_is_in_order(seed in 0..1_000_000u64) {
        // Counters, increments, deletions and nested maps are in these.
        let (replica, _) = histories::play(seed);
        let tx = replica.store.read().unwrap();
        for object in replica.objects() {
            for key in fields::keys(&*tx, &DOCUMENT, object).unwrap() {
                let all = fields::get_all(&*tx, &DOCUMENT, object, &key).unwrap();
                prop_assert!(!all.is_empty(), "a key without a value");
                let in_order = |one: &(OpId, FieldValue), next: &(OpId, FieldValue)| {
                    by_the_book(&one.0, &next.0) == Ordering::Greater
                };
                prop_assert!(all.is_sorted_by(in_order), "{} {:?}: {:?}", object, key, all);
            }
        }
    }
}
