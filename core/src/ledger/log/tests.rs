//! The rows of the log, what deletions do to it, and what it costs.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests, and one that measures")]

use std::ops::ControlFlow;

use super::*;
use crate::care::{self, Registers, VerifyOptions};
use crate::deletion::Tombstone;
use crate::gate::encode;
use crate::gate::tests::field_draft;
use crate::ledger::{self, Appended, Appender, Compared, compare};
use crate::store::{MemoryStore, Store, StoreExt};

const ONE: DocumentId = DocumentId::from_bytes([0xd1; 16]);
const TWO: DocumentId = DocumentId::from_bytes([0xd2; 16]);
const TEAM: SpaceId = SpaceId::from_bytes([0xe1; 16]);
const EPOCH: Epoch = Epoch::from_bytes([0xa1; 16]);

/// Writes changes on top of a document, without logging them.
fn write(tx: &mut dyn WriteTx, document: &DocumentId, count: u64) {
    let mut appender = Appender::begin(tx, *document).unwrap();
    for _ in 0..count {
        let state = appender.state().clone();
        let draft = field_draft(&[5; 16], state.count + 1, state.max_op + 1, state.head_hashes());
        let appended = appender.append(tx, &encode(&draft).unwrap()).unwrap();
        assert!(matches!(appended, Appended::Stored { .. }), "{appended:?}");
    }
    appender.finish(tx).unwrap();
}

fn write_logged(tx: &mut dyn WriteTx, document: &DocumentId, count: u64) -> Logged {
    write(tx, document, count);
    append(tx, document).unwrap().unwrap()
}

fn tombstone_of(kind: DeletionKind) -> Tombstone {
    Tombstone { kind, time_seconds: 7, by: "me".to_owned() }
}

/// Every entry after a position: where, of which document, and the place in its ledger, or none for a deletion.
fn entries(tx: &dyn ReadTx, space: &SpaceId, after: u64) -> Vec<(u64, DocumentId, Option<u64>)> {
    let mut found = Vec::new();
    let at = read(tx, space, after, u64::MAX, &mut |entry| {
        let place = match entry.what {
            What::Change { ledger_position, bytes } => {
                assert_eq!(ledger::change(tx, &entry.document, ledger_position).unwrap(), bytes);
                Some(ledger_position)
            }
            What::Deleted => None,
            What::Lost => panic!("nothing is damaged"),
        };
        found.push((entry.position, entry.document, place));
        ControlFlow::Continue(())
    });
    assert_eq!(at.unwrap(), end(tx, space).unwrap());
    found
}

fn faults(store: &MemoryStore) -> Vec<String> {
    let report = care::verify(store, &VerifyOptions::new(Registers::Absent), &mut |_| ()).unwrap();
    report.findings.iter().map(|finding| finding.fault.to_string()).collect()
}

#[test]
fn rows_are_as_they_are_drawn() {
    let store = MemoryStore::new();
    store
        .write_with(|tx| {
            set_epoch(tx, &EPOCH)?;
            spaces::put(tx, &ONE, &TEAM)?;
            let logged = write_logged(tx, &ONE, 2);
            assert_eq!(logged, Logged { space: TEAM, first: 1, ledger_first: 0, count: 2 });
            assert_eq!((logged.last(), logged.position(1), logged.position(2)), (2, Some(2), None));
            assert_eq!(append(tx, &ONE)?, None);
            let logged = write_logged(tx, &ONE, 1);
            assert_eq!(logged, Logged { space: TEAM, first: 3, ledger_first: 2, count: 1 });
            tombstone::bury(tx, &ONE, &tombstone_of(DeletionKind::Purged)).map(drop)
        })
        .unwrap();
    let tx = store.read().unwrap();
    let rows = |table| {
        let mut rows = Vec::new();
        tx.scan(table, &[]..&prefix_end(&[u8::MAX]), &mut |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
        rows
    };
    let run = |last: u64, value: &[u8]| ([&[0xe1; 16], last.to_be_bytes().as_slice()].concat(), value.to_vec());
    let changes = [&[3], [0xd1; 16].as_slice(), &[0]].concat();
    let deletion = [&[0], [0xd1; 16].as_slice()].concat();
    assert_eq!(rows(Table::Log), [(vec![0xe1; 16], vec![4]), run(3, &changes), run(4, &deletion)]);
    assert_eq!(rows(Table::Logged), [(vec![0xd1; 16], vec![4, 0, 2])]);
    assert_eq!(rows(Table::Space), [(vec![0xd1; 16], vec![0xe1; 16])]);
    assert_eq!(rows(Table::Member), []);
    assert_eq!(tx.get(Table::Meta, b"log-epoch").unwrap(), Some(vec![0xa1; 16]));
    assert_eq!(entries(&*tx, &TEAM, 0), [(4, ONE, None)]);
}

#[test]
fn document_that_was_deleted_here_and_came_back_is_logged_anew() {
    let store = MemoryStore::new();
    store
        .write_with(|tx| {
            write_logged(tx, &ONE, 2);
            write_logged(tx, &TWO, 1);
            ledger::delete(tx, &ONE)?;
            assert_eq!(entries(tx, &SpaceId::DEFAULT, 0), [(3, TWO, Some(0))]);
            let logged = write_logged(tx, &ONE, 3);
            assert_eq!((logged.first, logged.ledger_first), (4, 0));
            Ok(())
        })
        .unwrap();
    let expected = [(3, TWO, Some(0)), (4, ONE, Some(0)), (5, ONE, Some(1)), (6, ONE, Some(2))];
    assert_eq!(entries(store.read().unwrap().as_ref(), &SpaceId::DEFAULT, 0), expected);
    assert_eq!(faults(&store), [""; 0]);
    // It stays where it is: who follows the default space would not hear that it left.
    let moved = store.write_with(|tx| spaces::put(tx, &ONE, &TEAM)).unwrap();
    assert_eq!(moved, spaces::Placed::Elsewhere(SpaceId::DEFAULT));
}

#[test]
fn store_without_a_log_gets_one_in_steps_while_it_is_used() {
    let store = MemoryStore::new();
    let document = |number: u8| DocumentId::from_bytes([number; 16]);
    store
        .write_with(|tx| {
            (1..=9).for_each(|number| write(tx, &document(number), u64::from(number)));
            spaces::put(tx, &document(4), &TEAM)?;
            tombstone::bury(tx, &document(5), &tombstone_of(DeletionKind::Deleted))?;
            tombstone::bury(tx, &document(77), &tombstone_of(DeletionKind::Purged)).map(drop)
        })
        .unwrap();
    let mut steps = 0;
    store.write_with(|tx| set_epoch(tx, &EPOCH)).unwrap();
    // Nobody takes a document into a space of his own because the log does not know it yet.
    let taken = store.write_with(|tx| spaces::put(tx, &document(3), &TEAM)).unwrap();
    assert_eq!(taken, spaces::Placed::Elsewhere(SpaceId::DEFAULT));
    while !store.write_with(|tx| backfill(tx, 2)).unwrap() {
        steps += 1;
        if steps == 2 {
            store
                .write_with(|tx| {
                    write_logged(tx, &document(9), 1);
                    write_logged(tx, &document(1), 1);
                    tombstone::bury(tx, &document(2), &tombstone_of(DeletionKind::Deleted)).map(drop)
                })
                .unwrap();
        }
    }
    assert!(store.write_with(|tx| backfill(tx, 2)).unwrap());
    let tx = store.read().unwrap();
    let mut next: std::collections::BTreeMap<DocumentId, u64> = std::collections::BTreeMap::new();
    let mut deleted = Vec::new();
    for space in [SpaceId::DEFAULT, TEAM] {
        for (_, document, place) in entries(&*tx, &space, 0) {
            let Some(place) = place else {
                deleted.push(document);
                continue;
            };
            let next = next.entry(document).or_default();
            assert_eq!(place, *next);
            *next += 1;
        }
    }
    deleted.sort_unstable();
    assert_eq!(deleted, [2, 5, 77].map(document));
    let counts: Vec<_> = next.into_iter().map(|(found, count)| (found.as_bytes()[0], count)).collect();
    assert_eq!(counts, [(1, 2), (3, 3), (4, 4), (6, 6), (7, 7), (8, 8), (9, 10)]);
    assert_eq!(faults(&store), [""; 0]);
    // Made again, it holds the same.
    let before = entries(&*tx, &SpaceId::DEFAULT, 0).len();
    store.write_with(|tx| reset(tx)).unwrap();
    while !store.write_with(|tx| backfill(tx, 100)).unwrap() {}
    assert_eq!(entries(store.read().unwrap().as_ref(), &SpaceId::DEFAULT, 0).len(), before);
    assert_eq!(faults(&store), [""; 0]);
}

#[test]
fn damaged_log_is_found_and_what_is_of_a_document_is_repaired() {
    let filled = || {
        let store = MemoryStore::new();
        store
            .write_with(|tx| {
                write_logged(tx, &ONE, 3);
                write_logged(tx, &TWO, 2);
                write_logged(tx, &ONE, 1);
                Ok(())
            })
            .unwrap();
        store
    };
    type Damage = fn(&mut dyn WriteTx) -> Result<(), StoreError>;
    let cases: [(Damage, &str, bool); 6] = [
        (|tx| tx.delete(Table::Log, &run_key(&SpaceId::DEFAULT, 5)), "has a gap", false),
        (|tx| tx.delete(Table::Log, SpaceId::DEFAULT.as_bytes()), "does not say where it ends", false),
        (|tx| tx.put(Table::Log, SpaceId::DEFAULT.as_bytes(), &[9]), "does not end where it says", false),
        (|tx| tx.put(Table::Logged, ONE.as_bytes(), &[0, 9, 0]), "has changes that are not there", true),
        (|tx| tx.put(Table::Logged, ONE.as_bytes(), &[0, 3, 0]), "has more or fewer changes", true),
        (
            |tx| {
                let run = Run { changes: 3, document: ONE, ledger_first: 1 };
                tx.put(Table::Log, &run_key(&SpaceId::DEFAULT, 3), &run.encode())
            },
            "in another order than the ledger",
            true,
        ),
    ];
    for (damage, expected, is_repairable) in cases {
        let store = filled();
        store.write_with(damage).unwrap();
        let found = faults(&store);
        assert!(found.iter().any(|fault| fault.contains(expected)), "{expected}: {found:?}");
        if is_repairable {
            care::repair(&store, ONE, Registers::Absent).unwrap();
            assert_eq!(faults(&store), [""; 0], "{expected}");
            let of_one = entries(store.read().unwrap().as_ref(), &SpaceId::DEFAULT, 0);
            let of_one: Vec<_> = of_one.iter().filter(|entry| entry.1 == ONE).map(|entry| entry.2).collect();
            assert_eq!(of_one, [Some(0), Some(1), Some(2), Some(3)], "{expected}");
        }
    }
    // Where nothing is wrong, a repair leaves every row as it is.
    let store = filled();
    let before = entries(store.read().unwrap().as_ref(), &SpaceId::DEFAULT, 0);
    care::repair(&store, ONE, Registers::Absent).unwrap();
    assert_eq!(entries(store.read().unwrap().as_ref(), &SpaceId::DEFAULT, 0), before);
}

#[test]
fn damaged_document_does_not_stop_the_readers_of_its_space() {
    let store = MemoryStore::new();
    store
        .write_with(|tx| {
            write_logged(tx, &ONE, 4);
            write_logged(tx, &TWO, 1);
            tx.delete(Table::Change, &crate::store::record::position_key(&ONE, 3))
        })
        .unwrap();
    let mut found = Vec::new();
    let tx = store.read().unwrap();
    read(tx.as_ref(), &SpaceId::DEFAULT, 0, u64::MAX, &mut |entry| {
        found.push((entry.position, entry.what == What::Lost));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(found, [(1, false), (2, false), (3, false), (4, true), (5, false)]);
}

#[test]
fn heads_tell_who_lacks_what() {
    let (store, ahead) = (MemoryStore::new(), MemoryStore::new());
    for (store, count) in [(&store, 3), (&ahead, 5)] {
        let filled = store.write_with(|tx| {
            write(tx, &ONE, count);
            Ok(())
        });
        filled.unwrap();
    }
    let heads = |store: &MemoryStore| ledger::heads(&*store.read().unwrap(), &ONE).unwrap();
    let compared = |document, heads: &[_]| compare(&*store.read().unwrap(), document, heads).unwrap();
    let first = ledger::node(&*store.read().unwrap(), &ONE, 0).unwrap().hash;
    assert_eq!(compared(&ONE, &heads(&store)), Compared::Same);
    assert_eq!(compared(&ONE, &[first]), Compared::TheyLack);
    assert_eq!(compared(&ONE, &[]), Compared::TheyLack);
    assert_eq!(compared(&ONE, &heads(&ahead)), Compared::Both);
    let both = [heads(&store), heads(&ahead)].concat();
    assert_eq!(compared(&ONE, &both), Compared::WeLack);
    assert_eq!((compared(&TWO, &[]), compared(&TWO, &[first])), (Compared::Same, Compared::WeLack));
    store.write_with(|tx| tombstone::bury(tx, &TWO, &tombstone_of(DeletionKind::Deleted))).unwrap();
    assert_eq!(compared(&TWO, &[first]), Compared::Deleted);
}

#[test]
fn document_that_was_put_aside_is_logged_once_more_and_its_entries_before_mean_nothing() {
    let store = MemoryStore::new();
    let repeated = store.write_with(|tx| {
        write_logged(tx, &ONE, 2);
        write_logged(tx, &TWO, 1);
        assert_eq!(repeat(tx, &DocumentId::from_bytes([9; 16]))?, None);
        repeat(tx, &ONE)
    });
    let repeated = repeated.unwrap().unwrap();
    assert_eq!((repeated.first, repeated.count, repeated.ledger_first), (4, 2, 0));
    let mut found = Vec::new();
    let tx = store.read().unwrap();
    read(&*tx, &SpaceId::DEFAULT, 0, u64::MAX, &mut |entry| {
        found.push((entry.position, entry.document));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(found, [(3, TWO), (4, ONE), (5, ONE)]);
    let mut broken = Vec::new();
    check(&*tx, &mut |one| broken.push(one.reason.to_owned())).unwrap();
    assert!(broken.is_empty(), "{broken:?}");
}

#[test]
fn log_takes_few_bytes_for_each_change() {
    let bytes = |batches: &[(DocumentId, u64)]| {
        let store = MemoryStore::new();
        let filled = store.write_with(|tx| {
            for (document, count) in batches {
                write_logged(tx, document, *count);
            }
            Ok(())
        });
        filled.unwrap();
        let (tx, mut bytes) = (store.read().unwrap(), 0);
        for table in [Table::Log, Table::Logged] {
            tx.scan(table, &[]..&prefix_end(&[u8::MAX]), &mut |key, value| {
                bytes += key.len() + value.len();
                ControlFlow::Continue(())
            })
            .unwrap();
        }
        bytes
    };
    let whole = bytes(&[(ONE, 1_000)]);
    let alone = bytes(&[(ONE, 1); 1_000]);
    let in_turn = bytes(&[(ONE, 1), (TWO, 1)].repeat(500));
    println!(
        "bytes of log rows for 1,000 changes: at once {whole}, one by one {alone}, two documents in turn {in_turn}"
    );
    assert_eq!(whole, alone);
    assert!(whole < 100 && in_turn < 1_000 * 46);
}

/// A row that says more than anybody stores is damaged: nothing counts on from there.
#[test]
fn positions_beyond_what_is_stored_are_damage() {
    let reads = |store: &MemoryStore| {
        let tx = store.read().unwrap();
        read(&*tx, &TEAM, 0, u64::MAX, &mut |_| ControlFlow::Continue(())).map_err(|error| error.to_string())
    };
    let logged = || {
        let store = MemoryStore::new();
        store
            .write_with(|tx| {
                set_epoch(tx, &EPOCH)?;
                spaces::put(tx, &ONE, &TEAM)?;
                write_logged(tx, &ONE, 2);
                Ok(())
            })
            .unwrap();
        store
    };
    assert_eq!(reads(&logged()), Ok(2));
    let run = |changes, ledger_first| Run { changes, document: ONE, ledger_first };
    for (last, run) in [
        (u64::MAX, run(1, 0)),
        (i64::MAX.cast_unsigned() + 1, run(0, 0)),
        (3, run(1, u64::MAX)),
        (3, run(1, i64::MAX.cast_unsigned() + 1)),
        (3, run(u64::MAX, 0)),
    ] {
        let store = logged();
        store.write_with(|tx| tx.put(Table::Log, &run_key(&TEAM, last), &run.encode())).unwrap();
        assert!(reads(&store).is_err_and(|error| error.contains("damaged")), "{last} {run:?}");
        assert_ne!(faults(&store), Vec::<String>::new(), "{last} {run:?}");
    }
    // The last position that there can be.
    let store = logged();
    store.write_with(|tx| tx.put(Table::Log, &run_key(&TEAM, i64::MAX.cast_unsigned()), &run(1, 0).encode())).unwrap();
    assert!(reads(&store).is_ok());
    // The end of a space.
    for end in [u64::MAX, i64::MAX.cast_unsigned() + 1] {
        let store = logged();
        let mut bytes = Vec::new();
        record::put_uint(&mut bytes, end);
        store.write_with(|tx| tx.put(Table::Log, TEAM.as_bytes(), &bytes)).unwrap();
        let failed = store.write_with(|tx| {
            write(tx, &ONE, 1);
            append(tx, &ONE).map(drop)
        });
        assert!(matches!(failed, Err(StoreError::Damaged { .. })), "{failed:?}");
    }
}
