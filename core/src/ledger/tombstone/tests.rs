//! Tombstones win, stay, wait for relays, and go when an operator says so.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::engine::{self, Origin};
use crate::gate::tests::field_draft;
use crate::gate::{CheckedChange, encode};
use crate::id::SpaceId;
use crate::ledger::base::{self, BaseError, FoldedChange, FoldedHistory};
use crate::ledger::{self, Appended, Appender, outbox, shared, snapshot};
use crate::store::{MemoryStore, Store, StoreExt, is_scrub_due};

const DOCUMENT: DocumentId = DocumentId::from_bytes([0xff; 16]);
const OTHER: DocumentId = DocumentId::from_bytes([0xfe; 16]);
const RELAY: StorageId = StorageId::from_bytes([5; 16]);
const TEAM: SpaceId = SpaceId::from_bytes([0xe1; 16]);

fn change(seq: u64, deps: &[CheckedChange]) -> CheckedChange {
    let deps = deps.iter().map(CheckedChange::hash).collect();
    encode(&field_draft(&[7; 16], seq, seq, deps)).unwrap()
}

fn tombstone(kind: DeletionKind, time_seconds: u64) -> Tombstone {
    Tombstone { kind, time_seconds, by: "somebody".to_owned() }
}

/// A store with two documents that have a row in every table that documents have rows in.
fn filled() -> MemoryStore {
    let store = MemoryStore::new();
    for document in [DOCUMENT, OTHER] {
        let first = change(1, &[]);
        let work = |tx: &mut dyn WriteTx| {
            engine::accept(tx, document, vec![first.clone(), change(2, &[first])], Origin::Local)?;
            shared::put(tx, &document, &RELAY, &ledger::heads(tx, &document)?)?;
            snapshot::note_failure(tx, &document, 2)?;
            spaces::put(tx, &document, &TEAM)?;
            let rows = [Table::Object, Table::Pack, Table::PackIndex, Table::NodeV1, Table::ActorV1, Table::Receipt];
            let rows = rows.into_iter().chain([Table::Rejected, Table::Branch, Table::Owner, Table::OutboxV1]);
            rows.into_iter().try_for_each(|table| tx.put(table, &tail_key(&document, b"row"), b"row"))?;
            tx.put(Table::Meta, &[&b"folded/"[..], document.as_bytes()].concat(), &[])
        };
        store.write_with(work).unwrap();
    }
    store
}

/// Every key of every table that holds a document's id.
fn traces(store: &MemoryStore, document: &DocumentId) -> Vec<(Table, Vec<u8>)> {
    let tx = store.read().unwrap();
    let mut found = Vec::new();
    for table in Table::ALL {
        tx.scan(table, &[]..&prefix_end(&[u8::MAX]), &mut |key, _| {
            if key.windows(16).any(|window| window == document.as_bytes()) {
                found.push((table, key.to_vec()));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    found
}

#[test]
fn deleting_here_leaves_no_trace_in_any_table() {
    let store = filled();
    let tables: std::collections::BTreeSet<_> = traces(&store, &DOCUMENT).iter().map(|trace| trace.0).collect();
    assert_eq!(
        tables.len(),
        Table::ALL.len() - 9,
        "all but tombstones, log, logged, cursors, seen, requests, directory, grants and audit trail: {tables:?}"
    );
    let others = traces(&store, &OTHER);
    store.write_with(|tx| ledger::delete(tx, &DOCUMENT)).unwrap();
    assert_eq!(traces(&store, &DOCUMENT), []);
    assert_eq!(traces(&store, &OTHER), others);
}

#[test]
fn burying_leaves_the_tombstone_alone_and_nothing_brings_the_document_back() {
    let store = filled();
    let deleted = tombstone(DeletionKind::Deleted, 7);
    let buried = store.write_with(|tx| bury(tx, &DOCUMENT, &deleted)).unwrap();
    assert_eq!(buried, Buried { existed: true, is_news: true });
    let only = [Table::Tombstone, Table::Space].map(|table| (table, DOCUMENT.as_bytes().to_vec()));
    assert_eq!(traces(&store, &DOCUMENT), only);
    assert_eq!(get(&*store.read().unwrap(), &DOCUMENT).unwrap(), Some(deleted.clone()));

    let first = change(1, &[]);
    store
        .write_with(|tx| {
            assert!(!ledger::create(tx, &DOCUMENT)?);
            for origin in [Origin::Local, Origin::Remote] {
                let late = vec![first.clone(), change(2, std::slice::from_ref(&first))];
                let accepted = engine::accept(tx, DOCUMENT, late, origin)?;
                assert_eq!(accepted.stored, 0);
                assert!(accepted.results.iter().all(|(_, appended)| *appended == Appended::Deleted));
            }
            let mut appender = Appender::begin(tx, DOCUMENT)?;
            assert_eq!(appender.append(tx, &first)?, Appended::Deleted);
            assert_eq!(appender.append_own(tx, &first)?, Appended::Deleted);
            assert!(!appender.exists());
            appender.finish(tx)?;
            let folded =
                FoldedChange { hash: first.hash(), deps: &[], actor: first.actor(), seq: 1, start_op: 1, max_op: 1 };
            let history = FoldedHistory::of(&[first.hash()], || std::iter::once(folded)).unwrap();
            assert_eq!(base::install(tx, &DOCUMENT, &history)?, Err(BaseError::Deleted));
            snapshot::note_failure(tx, &DOCUMENT, 9)?;
            assert_eq!(outbox::acknowledge(tx, &DOCUMENT, &[first.hash()])?, 0);
            assert_eq!(engine::accept_known(tx, DOCUMENT, vec![first.clone()])?.stored, 0);
            // To delete it here too does not make it forget.
            ledger::delete(tx, &DOCUMENT)
        })
        .unwrap();
    assert_eq!(traces(&store, &DOCUMENT), only);
    let again = store.write_with(|tx| bury(tx, &DOCUMENT, &tombstone(DeletionKind::Deleted, 9))).unwrap();
    assert_eq!(again, Buried { existed: false, is_news: false });
    assert_eq!(get(&*store.read().unwrap(), &DOCUMENT).unwrap(), Some(deleted), "the first one stays");
}

#[test]
fn transaction_that_fails_leaves_the_document_and_no_tombstone() {
    let store = filled();
    let before = traces(&store, &DOCUMENT);
    let failed = store.write_with(|tx| {
        bury(tx, &DOCUMENT, &tombstone(DeletionKind::Purged, 7))?;
        wait(tx, &DOCUMENT)?;
        Err::<(), _>(StoreError::Interrupted)
    });
    assert!(failed.is_err());
    assert_eq!(traces(&store, &DOCUMENT), before);
    assert!(!is_scrub_due(&*store.read().unwrap()).unwrap());
}

#[test]
fn changes_for_a_document_that_is_not_here_are_not_taken_where_it_has_to_be() {
    let store = MemoryStore::new();
    let accepted = store.write_with(|tx| engine::accept_known(tx, DOCUMENT, vec![change(1, &[])])).unwrap();
    assert_eq!((accepted.stored, &accepted.results[0].1), (0, &Appended::Deleted));
    assert_eq!(traces(&store, &DOCUMENT), []);
}

#[test]
fn relay_whose_log_begins_another_life_is_told_of_all_again() {
    let store = filled();
    let other_relay = StorageId::from_bytes([6; 16]);
    let [first, second] = [[1; 16], [2; 16]].map(Epoch::from_bytes);
    store
        .write_with(|tx| {
            note_epoch(tx, &other_relay, &first)?;
            bury(tx, &DOCUMENT, &tombstone(DeletionKind::Deleted, 7))?;
            for relay in [&RELAY, &other_relay] {
                acknowledge(tx, &DOCUMENT, DeletionKind::Deleted, Some(relay))?;
            }
            // Told before its life was noted, and in it.
            note_epoch(tx, &RELAY, &first)?;
            note_epoch(tx, &RELAY, &first)?;
            assert!(is_of_epoch(tx, &RELAY, &first)? && untold(tx, Some(&RELAY))?.is_empty());
            note_epoch(tx, &RELAY, &second)?;
            assert_eq!(untold(tx, Some(&RELAY))?, [DOCUMENT]);
            assert!(untold(tx, Some(&other_relay))?.is_empty());
            // Nothing of it waits for a relay as what was deleted here does.
            assert_eq!(waiting(tx)?, 0);
            acknowledge(tx, &DOCUMENT, DeletionKind::Deleted, Some(&RELAY))?;
            assert!(untold(tx, Some(&RELAY))?.is_empty());
            Ok(())
        })
        .unwrap();
}

#[test]
fn tombstone_waits_until_a_relay_has_it_and_each_relay_is_told_once() {
    let store = filled();
    let other_relay = StorageId::from_bytes([6; 16]);
    store
        .write_with(|tx| {
            for document in [DOCUMENT, OTHER] {
                bury(tx, &document, &tombstone(DeletionKind::Deleted, 7))?;
                wait(tx, &document)?;
            }
            assert_eq!((waiting(tx)?, untold(tx, Some(&RELAY))?), (2, vec![OTHER, DOCUMENT]));
            acknowledge(tx, &OTHER, DeletionKind::Deleted, Some(&RELAY))?;
            assert_eq!((waiting(tx)?, untold(tx, Some(&RELAY))?), (1, vec![DOCUMENT]));
            assert!(is_told(tx, &OTHER, Some(&RELAY))? && !is_told(tx, &OTHER, Some(&other_relay))?);
            assert_eq!(untold(tx, Some(&other_relay))?, [OTHER, DOCUMENT]);
            // A relay without a store's name is told every time.
            acknowledge(tx, &DOCUMENT, DeletionKind::Deleted, None)?;
            assert_eq!((waiting(tx)?, untold(tx, None)?), (0, vec![OTHER, DOCUMENT]));

            // More thorough than before: told again, and what was acknowledged was the other one.
            assert!(bury(tx, &OTHER, &tombstone(DeletionKind::Purged, 8))?.is_news);
            wait(tx, &OTHER)?;
            acknowledge(tx, &OTHER, DeletionKind::Deleted, Some(&RELAY))?;
            assert_eq!((waiting(tx)?, untold(tx, Some(&RELAY))?.len()), (1, 2));
            acknowledge(tx, &OTHER, DeletionKind::Purged, Some(&RELAY))?;
            assert_eq!(waiting(tx)?, 0);
            assert!(!bury(tx, &OTHER, &tombstone(DeletionKind::Deleted, 9))?.is_news);
            // What has no tombstone has nothing to acknowledge.
            acknowledge(tx, &DocumentId::from_bytes([1; 16]), DeletionKind::Purged, Some(&RELAY))
        })
        .unwrap();
    assert!(is_scrub_due(&*store.read().unwrap()).unwrap());
    assert!(store.scrub().unwrap());
    assert!(!is_scrub_due(&*store.read().unwrap()).unwrap());
}

#[test]
fn old_tombstones_expire_when_asked_unless_no_relay_has_them() {
    let store = filled();
    let third = DocumentId::from_bytes([1; 16]);
    store
        .write_with(|tx| {
            for (document, time) in [(DOCUMENT, 100), (OTHER, 99), (third, 50)] {
                bury(tx, &document, &tombstone(DeletionKind::Deleted, time))?;
            }
            acknowledge(tx, &OTHER, DeletionKind::Deleted, Some(&RELAY))?;
            wait(tx, &third)?;
            assert_eq!(expire(tx, 100)?, 1);
            assert_eq!(expire(tx, 100)?, 0);
            assert!(is_buried(tx, &DOCUMENT)? && is_buried(tx, &third)? && !is_buried(tx, &OTHER)?);
            // From now on it can come back: that is the danger.
            assert!(ledger::create(tx, &OTHER)?);
            acknowledge(tx, &third, DeletionKind::Deleted, None)?;
            assert_eq!(expire(tx, u64::MAX)?, 2);
            Ok(())
        })
        .unwrap();
    assert_eq!(traces(&store, &DOCUMENT), []);
    assert_eq!(traces(&store, &third), []);
}

#[test]
fn record_is_as_it_is_drawn_and_damage_is_seen() {
    let store = MemoryStore::new();
    let purged = Tombstone { kind: DeletionKind::Purged, time_seconds: 300, by: "me".to_owned() };
    store.write_with(|tx| bury(tx, &DOCUMENT, &purged)).unwrap();
    let record = store.read().unwrap().get(Table::Tombstone, DOCUMENT.as_bytes()).unwrap().unwrap();
    assert_eq!(record, [1, 1, 0xac, 2, 2, b'm', b'e']);
    for damaged in [&record[..6], &[2, 1, 0, 0], &[1, 2, 0, 0], &[]] {
        store.write_with(|tx| tx.put(Table::Tombstone, OTHER.as_bytes(), damaged)).unwrap();
        assert!(matches!(get(&*store.read().unwrap(), &OTHER), Err(StoreError::Damaged { .. })), "{damaged:?}");
    }
    // Longer than it may be: cut between characters.
    let long = Tombstone { by: format!("x{}", "é".repeat(DELETED_BY_BYTES_MAX)), ..purged };
    let third = DocumentId::from_bytes([1; 16]);
    store.write_with(|tx| bury(tx, &third, &long)).unwrap();
    let by = get(&*store.read().unwrap(), &third).unwrap().unwrap().by;
    assert_eq!(by.len(), DELETED_BY_BYTES_MAX - 1);
}
