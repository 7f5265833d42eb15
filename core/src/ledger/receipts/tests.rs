//! Receipts against what really happened, and how little is kept of them.

#![expect(clippy::unwrap_used, reason = "tests")]

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::engine::{self, Origin};
use crate::gate::encode;
use crate::gate::tests::field_draft;
use crate::store::{MemoryStore, Store, StoreExt};

const DOCUMENT: DocumentId = DocumentId::from_bytes([3; 16]);
const TEAM: SpaceId = SpaceId::from_bytes([0xe1; 16]);
const FIRST: Epoch = Epoch::from_bytes([0xa1; 16]);
const SECOND: Epoch = Epoch::from_bytes([0xa2; 16]);

/// Writes a change on top of all others.
fn write(tx: &mut dyn WriteTx, origin: Origin) -> u64 {
    let state = state(tx, &DOCUMENT).unwrap().unwrap_or_default();
    let draft = field_draft(&[5; 16], state.count + 1, state.max_op + 1, state.head_hashes());
    let change = encode(&draft).unwrap();
    assert_eq!(engine::accept(tx, DOCUMENT, vec![change], origin).unwrap().stored, 1);
    state.count
}

fn one(position: u64, log_position: u64) -> [Acknowledged; 1] {
    [Acknowledged { position, log_position }]
}

fn of(store: &MemoryStore, position: u64) -> Option<Receipt> {
    get(&*store.read().unwrap(), &DOCUMENT, position).unwrap()
}

fn rows(store: &MemoryStore) -> usize {
    let mut count = 0;
    let end = prefix_end(&[u8::MAX]);
    let visit = &mut |_: &[u8], _: &[u8]| {
        count += 1;
        ControlFlow::Continue(())
    };
    store.read().unwrap().scan(Table::Receipt, &[]..&end, visit).unwrap();
    count
}

#[test]
fn change_is_local_then_relayed_then_seen() {
    let store = MemoryStore::new();
    store
        .write_with(|tx| {
            spaces::put(tx, &DOCUMENT, &TEAM)?;
            for _ in 0..3 {
                write(tx, Origin::Local);
            }
            Ok(())
        })
        .unwrap();
    assert_eq!((of(&store, 0), of(&store, 3)), (Some(Receipt::Local), None));
    assert_eq!(store.write_with(|tx| acknowledge(tx, &DOCUMENT, &FIRST, &one(0, 10))).unwrap(), 1);
    assert_eq!(store.write_with(|tx| acknowledge(tx, &DOCUMENT, &FIRST, &one(0, 10))).unwrap(), 0);
    let golden = row_key(&DOCUMENT, 0, &FIRST);
    assert_eq!(store.read().unwrap().get(Table::Receipt, &golden).unwrap(), Some(vec![10]));
    assert_eq!((of(&store, 0), of(&store, 1)), (Some(Receipt::Relayed), Some(Receipt::Local)));
    // Neither a cursor below it, nor one of another space or another life of the log.
    store
        .write_with(|tx| {
            assert!(note_seen(tx, &FIRST, &TEAM, 9)?);
            assert!(!note_seen(tx, &FIRST, &TEAM, 8)?);
            assert!(note_seen(tx, &FIRST, &SpaceId::DEFAULT, 99)?);
            note_seen(tx, &SECOND, &TEAM, 99)
        })
        .unwrap();
    assert_eq!(of(&store, 0), Some(Receipt::Relayed));
    store.write_with(|tx| note_seen(tx, &FIRST, &TEAM, 10)).unwrap();
    assert_eq!((of(&store, 0), of(&store, 1)), (Some(Receipt::Seen), Some(Receipt::Local)));
    // Another relay's acknowledgement takes nothing back.
    store.write_with(|tx| acknowledge(tx, &DOCUMENT, &SECOND, &[one(0, 200)[0], one(1, 201)[0]])).unwrap();
    store.write_with(|tx| acknowledge(tx, &DOCUMENT, &FIRST, &one(2, 12))).unwrap();
    let all = || [0, 1, 2].map(|position| of(&store, position).unwrap());
    assert_eq!(all(), [Receipt::Seen, Receipt::Relayed, Receipt::Relayed]);
    store.write_with(|tx| note_seen(tx, &FIRST, &TEAM, 12)).unwrap();
    assert_eq!(all(), [Receipt::Seen; 3]);
    assert_eq!(store.write_with(|tx| sweep(tx, None, 10)).unwrap(), None);
    assert_eq!((all(), rows(&store)), ([Receipt::Seen; 3], 1));
    let golden = store.read().unwrap().get(Table::Receipt, DOCUMENT.as_bytes()).unwrap();
    assert_eq!(golden, Some(vec![3]));
    store.write_with(|tx| crate::ledger::delete(tx, &DOCUMENT)).unwrap();
    assert_eq!((of(&store, 0), rows(&store)), (None, 0));
}

#[test]
fn no_receipt_is_ever_said_too_early_nor_taken_back_and_few_rows_are_kept() {
    let mut rows_max = 0;
    for seed in 0..40 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let store = MemoryStore::new();
        // The log's position of every change, and up to where another device is.
        let (mut relayed, mut said): (Vec<Option<u64>>, Vec<Option<Receipt>>) = (Vec::new(), Vec::new());
        let (mut log_end, mut cursor) = (0, 0);
        let mut tally = Tally::default();
        for _ in 0..400 {
            match rng.random_range(0..10) {
                0..5 => {
                    let origin = if rng.random_bool(0.8) { Origin::Local } else { Origin::Remote };
                    store.write_with(|tx| Ok(write(tx, origin))).unwrap();
                    relayed.push((origin == Origin::Remote).then_some(0));
                    said.push((origin == Origin::Local).then_some(Receipt::Local));
                    tally.add(DOCUMENT, SpaceId::DEFAULT, u64::from(origin == Origin::Local));
                }
                5..8 => {
                    let waits = (0..relayed.len()).filter(|at| relayed[*at].is_none());
                    // Not always in the order in which they were written.
                    let some: Vec<_> = waits.filter(|_| rng.random_bool(0.7)).take(3).collect();
                    let mut acknowledged = Vec::new();
                    for at in some {
                        log_end += rng.random_range(1..4);
                        relayed[at] = Some(log_end);
                        acknowledged.push(Acknowledged { position: at as u64, log_position: log_end });
                    }
                    let taken = store.write_with(|tx| acknowledge(tx, &DOCUMENT, &FIRST, &acknowledged)).unwrap();
                    let taken = u64::try_from(taken).unwrap();
                    assert_eq!(taken, acknowledged.len() as u64);
                    tally.take(DOCUMENT, taken);
                }
                _ => {
                    cursor = rng.random_range(cursor..=log_end);
                    store.write_with(|tx| note_seen(tx, &FIRST, &SpaceId::DEFAULT, cursor)).unwrap();
                }
            }
            for at in 0..relayed.len() {
                let Some(before) = said[at] else { continue };
                let now = of(&store, at as u64).unwrap();
                let true_now = match relayed[at] {
                    None => Receipt::Local,
                    Some(position) if position > cursor => Receipt::Relayed,
                    Some(_) => Receipt::Seen,
                };
                assert!(now >= before && now <= true_now, "seed {seed}, {at}: {before:?}, {now:?}, {true_now:?}");
                assert!(now == true_now || now == Receipt::Relayed, "seed {seed}, {at}");
                said[at] = Some(now);
            }
            rows_max = rows_max.max(rows(&store));
            assert_eq!(Tally::read(&*store.read().unwrap()).unwrap(), tally, "seed {seed}");
        }
        store.write_with(|tx| note_seen(tx, &FIRST, &SpaceId::DEFAULT, log_end)).unwrap();
        for at in (0..relayed.len()).filter(|at| relayed[*at].is_some() && said[*at].is_some()) {
            assert_eq!(of(&store, at as u64), Some(Receipt::Seen), "seed {seed}, {at}");
        }
    }
    // A few more than the bound, where acknowledgements come out of order.
    assert!(rows_max <= 3 * RECEIPT_ROWS_MAX, "{rows_max} rows");
}

#[test]
fn tally_sums_documents_and_spaces() {
    let mut tally = Tally::default();
    let other = DocumentId::from_bytes([4; 16]);
    tally.add(DOCUMENT, TEAM, 3);
    tally.add(other, TEAM, 2);
    tally.take(DOCUMENT, 1);
    assert_eq!((tally.of_document(&DOCUMENT), tally.of_space(&TEAM), tally.total()), (2, 4, 4));
    tally.set(other, TEAM, 0);
    tally.take(DOCUMENT, 2);
    assert_eq!(tally, Tally::default());
}
