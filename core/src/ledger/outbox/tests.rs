#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::store::{MemoryStore, Store, StoreExt};

const DOCUMENT: DocumentId = DocumentId::from_bytes([5; 16]);
const OTHER: DocumentId = DocumentId::from_bytes([6; 16]);

/// Where rows begin and end, and everything around it.
fn position() -> impl Strategy<Value = u64> {
    prop_oneof![0..200_u64, Just(63), Just(64), Just(crate::store::record::COUNT_MAX)]
}

proptest! {
    #[test]
    fn outbox_is_a_set_of_positions(
        steps in proptest::collection::vec((any::<bool>(), position()), 0..150),
        after in proptest::option::of(position()),
        most in 0..100_usize,
    ) {
        let store = MemoryStore::new();
        let mut expected = BTreeSet::new();
        let work = |tx: &mut dyn WriteTx| {
            for (is_put, position) in &steps {
                if *is_put {
                    insert(tx, &DOCUMENT, *position)?;
                    expected.insert(*position);
                } else {
                    assert_eq!(remove(tx, &DOCUMENT, *position)?, expected.remove(position));
                }
            }
            insert(tx, &OTHER, 7)
        };
        store.write_with(work).unwrap();
        let tx = store.read().unwrap();
        let waiting: Vec<u64> = expected.iter().copied().collect();
        prop_assert_eq!(pending(&*tx, &DOCUMENT).unwrap(), waiting.clone());
        prop_assert_eq!(readable(&*tx, &DOCUMENT).unwrap(), (waiting, true));
        prop_assert_eq!(first(&*tx, &DOCUMENT).unwrap(), expected.first().copied());
        let behind = expected.iter().copied().filter(|one| after.is_none_or(|after| *one > after));
        prop_assert_eq!(pending_after(&*tx, &DOCUMENT, after, most).unwrap(), behind.take(most).collect::<Vec<_>>());
        for (_, position) in &steps {
            prop_assert_eq!(is_pending(&*tx, &DOCUMENT, *position).unwrap(), expected.contains(position));
        }
        let of_document = (!expected.is_empty()).then_some((DOCUMENT, expected.len() as u64));
        prop_assert_eq!(counts(&*tx).unwrap(), of_document.into_iter().chain([(OTHER, 1)]).collect::<Vec<_>>());
        prop_assert_eq!(count(&*tx).unwrap(), expected.len() as u64 + 1);
        let rows: BTreeSet<u64> = expected.iter().map(|position| position / ROW_POSITIONS).collect();
        let mut found = 0;
        visit(&*tx, DOCUMENT.as_bytes()..OTHER.as_bytes(), |_, _| {
            found += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
        prop_assert_eq!(found, rows.len(), "a row goes with its last bit");
    }
}

#[test]
fn damaged_row_is_told_of_counts_and_hides_nothing_else() {
    let key = |first| position_key(&DOCUMENT, first).to_vec();
    let long = [key(64), vec![0]].concat();
    let damages =
        [(key(64), vec![1; 7]), (key(64), vec![0; 8]), (key(65), vec![1; 8]), (key(u64::MAX - 63), vec![1; 8])];
    for (key, value) in damages.into_iter().chain([(long, vec![1; 8])]) {
        let store = MemoryStore::new();
        let work = |tx: &mut dyn WriteTx| {
            insert(tx, &DOCUMENT, 3)?;
            tx.put(Table::Outbox, &key, &value)?;
            insert(tx, &DOCUMENT, 200)
        };
        store.write_with(work).unwrap();
        let tx = store.read().unwrap();
        let outcome = pending(&*tx, &DOCUMENT);
        assert!(matches!(outcome, Err(StoreError::Damaged { .. })), "{key:?}: {outcome:?}");
        assert_eq!(readable(&*tx, &DOCUMENT).unwrap(), (vec![3, 200], false), "{key:?}");
        assert_eq!((counts(&*tx).unwrap(), count(&*tx).unwrap()), (vec![(DOCUMENT, 3)], 3), "{key:?}");
    }
}
