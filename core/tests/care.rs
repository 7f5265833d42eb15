//! Backups, checks, repairs and statistics of a store.
#![cfg(feature = "redb")]
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "migration/fixture.rs"]
#[allow(dead_code, reason = "the fixture's files are for another test")]
mod fixture;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rejoin::care::{
    self, Advice, BackupError, BackupOptions, CopyId, Fault, Loader, Progress, Registers, RepairError, Report,
    VerifyOptions,
};
use rejoin::fields::{self, Author, Edit};
use rejoin::gate::CheckedChange;
use rejoin::ledger::cursor::{self, Cursor};
use rejoin::ledger::{self, Appender, spaces};
use rejoin::store::{
    MemoryStore, ReadTx, RedbOptions, RedbStore, Store, StoreError, StoreExt, Table, WriteTx, storage_id,
};
use rejoin::{ActorId, DocumentId, Epoch, SpaceId, StorageId};
use tempfile::TempDir;

/// The fixture's documents: fields, a text and a list, nothing.
const NOTEBOOK: DocumentId = DocumentId::from_bytes([0xd1; 16]);
const LIST: DocumentId = DocumentId::from_bytes([0xd2; 16]);

fn verify(store: &dyn Store) -> Report {
    care::verify(store, &VerifyOptions::new(Registers::Kept), &mut |_| ()).unwrap()
}

fn names(report: &Report) -> Vec<&'static str> {
    let mut names: Vec<_> = report.findings.iter().map(|finding| finding.fault.name()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn key(document: DocumentId, tail: &[u8]) -> Vec<u8> {
    [document.as_bytes(), tail].concat()
}

fn rows(tx: &(impl ReadTx + ?Sized), table: Table, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let end = [prefix, &[0xff; 200]].concat();
    tx.scan(table, prefix..&end, &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })
    .unwrap();
    rows
}

#[test]
fn sound_stores_have_no_findings() {
    let store = MemoryStore::new();
    fixture::fill(&store);
    let mut last = Progress::default();
    let report = care::verify(&store, &VerifyOptions::new(Registers::Kept), &mut |progress| last = progress).unwrap();
    assert!(report.is_sound(), "{report}");
    assert_eq!((report.documents, report.changes), (3, 57));
    assert_eq!(last, Progress { documents: 3, rows: 57, bytes: report.bytes });
    assert!(report.to_string().ends_with("all sound"));

    let relay = relay_store(&store);
    let report = care::verify(&relay, &VerifyOptions::new(Registers::Absent), &mut |_| ()).unwrap();
    assert!(report.is_sound(), "{report}");
    assert!(verify(&MemoryStore::new()).is_sound());
}

/// A store that has what a relay would have: the ledgers alone.
fn relay_store(from: &dyn Store) -> MemoryStore {
    let relay = MemoryStore::new();
    let tx = from.read().unwrap();
    for document in ledger::documents(tx.as_ref()).unwrap() {
        let mut changes = Vec::new();
        ledger::export(tx.as_ref(), &document, 0, &mut |bytes| {
            changes.push(CheckedChange::parse(bytes).unwrap());
            ControlFlow::Continue(())
        })
        .unwrap();
        relay
            .write_with(|tx| {
                let mut appender = Appender::begin(tx, document)?;
                for change in &changes {
                    appender.append(tx, change)?;
                }
                appender.finish(tx)
            })
            .unwrap();
    }
    relay
}

type Damage = fn(&mut dyn WriteTx) -> Result<(), StoreError>;

/// Damage that the changes tell how to undo, and what is found of it.
const REPAIRABLE: [(&str, Damage, &[&str]); 25] = [
    ("owner of nothing", |tx| tx.put(Table::Owner, &key(NOTEBOOK, &[7; 16]), b"alice"), &["owner"]),
    (
        "owner without a name",
        |tx| {
            // After the document and the length that only this table's keys have.
            let (key_of_actor, _) = rows(tx, Table::Actor, NOTEBOOK.as_bytes()).swap_remove(0);
            let length = usize::from(key_of_actor[16]);
            tx.put(Table::Owner, &key(NOTEBOOK, &key_of_actor[17..17 + length]), &[0xff])
        },
        &["owner"],
    ),
    ("floor too high", raise_a_floor, &["node"]),
    (
        "snapshot cut",
        |tx| {
            put_snapshot(tx)?;
            let (key, value) = rows(tx, Table::Snapshot, NOTEBOOK.as_bytes()).swap_remove(1);
            tx.put(Table::Snapshot, &key, &value[..value.len() / 2])
        },
        &["snapshot"],
    ),
    (
        "snapshot of other bytes",
        |tx| {
            put_snapshot(tx)?;
            let (key, mut value) = rows(tx, Table::Snapshot, NOTEBOOK.as_bytes()).swap_remove(1);
            *value.last_mut().unwrap() ^= 1;
            tx.put(Table::Snapshot, &key, &value)
        },
        &["snapshot"],
    ),
    (
        "snapshot of a longer history",
        |tx| {
            put_snapshot(tx)?;
            let (key, mut value) = rows(tx, Table::Snapshot, NOTEBOOK.as_bytes()).swap_remove(0);
            // After the version: how many changes it has.
            value[1] += 1;
            tx.put(Table::Snapshot, &key, &value)
        },
        &["snapshot"],
    ),
    ("no record", |tx| tx.delete(Table::Document, NOTEBOOK.as_bytes()), &["no-record"]),
    ("record that does not decode", |tx| tx.put(Table::Document, NOTEBOOK.as_bytes(), &[9]), &["record"]),
    (
        "record of another document",
        |tx| {
            let other = tx.get(Table::Document, LIST.as_bytes())?.unwrap();
            tx.put(Table::Document, NOTEBOOK.as_bytes(), &other)
        },
        &["record"],
    ),
    ("no node", |tx| tx.delete(Table::Node, &key(NOTEBOOK, &3_u64.to_be_bytes())), &["node"]),
    ("nodes exchanged", |tx| swap(tx, Table::Node, &3_u64.to_be_bytes(), &4_u64.to_be_bytes()), &["node"]),
    ("node cut", |tx| cut(tx, Table::Node, 5), &["node"]),
    ("no index", |tx| tx.delete_range(Table::Hash, NOTEBOOK.as_bytes()..LIST.as_bytes()), &["index", "row"]),
    ("index elsewhere", |tx| put_first(tx, Table::Hash, &[200, 1]), &["index", "row"]),
    ("index of nothing", |tx| tx.put(Table::Hash, &key(NOTEBOOK, &[7; 32]), &[1]), &["row"]),
    ("no actors", |tx| tx.delete_range(Table::Actor, NOTEBOOK.as_bytes()..LIST.as_bytes()), &["actor", "row"]),
    ("register with another value", |tx| put_first(tx, Table::Register, &[1, 1, 1, 7, 0]), &["row"]),
    ("no registers", |tx| tx.delete_range(Table::Register, NOTEBOOK.as_bytes()..LIST.as_bytes()), &["row"]),
    ("register of nothing", |tx| tx.put(Table::Register, &key(NOTEBOOK, b"\0ghost"), &[1, 1, 1, 7, 0]), &["row"]),
    ("no objects", |tx| tx.delete_range(Table::Object, NOTEBOOK.as_bytes()..LIST.as_bytes()), &["row"]),
    ("outbox of nothing", |tx| tx.put(Table::Outbox, &key(NOTEBOOK, &960_u64.to_be_bytes()), &[0x80; 8]), &["outbox"]),
    ("outbox cut", |tx| tx.put(Table::Outbox, &key(NOTEBOOK, &960_u64.to_be_bytes()), &[1; 7]), &["outbox"]),
    (
        "refusal of nothing",
        |tx| tx.put(Table::Rejected, &key(NOTEBOOK, &999_u64.to_be_bytes()), &[1, 2]),
        &["rejected"],
    ),
    (
        "held back for no reason",
        |tx| {
            let waiting = ledger::outbox::first(tx, &NOTEBOOK)?.unwrap();
            let row = key(NOTEBOOK, &(waiting - waiting % 64).to_be_bytes());
            let bits = u64::from_be_bytes(tx.get(Table::Outbox, &row)?.unwrap().try_into().unwrap());
            tx.put(Table::Outbox, &row, &(bits & !(1 << (waiting % 64))).to_be_bytes())?;
            tx.put(Table::Rejected, &key(NOTEBOOK, &waiting.to_be_bytes()), &[1, 2])
        },
        &["rejected"],
    ),
    ("shared with nobody", |tx| put_first(tx, Table::Shared, &[[1].as_slice(), &[7; 32]].concat()), &["shared"]),
];

fn swap(tx: &mut dyn WriteTx, table: Table, one: &[u8], two: &[u8]) -> Result<(), StoreError> {
    let (one, two) = (key(NOTEBOOK, one), key(NOTEBOOK, two));
    let (first, second) = (tx.get(table, &one)?.unwrap(), tx.get(table, &two)?.unwrap());
    tx.put(table, &one, &second)?;
    tx.put(table, &two, &first)
}

fn cut(tx: &mut dyn WriteTx, table: Table, position: u64) -> Result<(), StoreError> {
    let key = key(NOTEBOOK, &position.to_be_bytes());
    let value = tx.get(table, &key)?.unwrap();
    tx.put(table, &key, &value[..value.len() / 2])
}

fn put_first(tx: &mut dyn WriteTx, table: Table, value: &[u8]) -> Result<(), StoreError> {
    let (key, _) = rows(tx, table, NOTEBOOK.as_bytes()).swap_remove(0);
    tx.put(table, &key, value)
}

/// Says of a change beside others that everything before it is below it.
fn raise_a_floor(tx: &mut dyn WriteTx) -> Result<(), StoreError> {
    let beside = rows(tx, Table::Node, NOTEBOOK.as_bytes()).into_iter().find_map(|(key, mut value)| {
        // The hash, the number of dependencies, as many of them, and how far the floor is down: all small numbers here.
        let lag = 33 + usize::from(value[32]);
        (value[lag] > 1).then(|| {
            value[lag] = 1;
            (key, value)
        })
    });
    let (key, value) = beside.unwrap();
    tx.put(Table::Node, &key, &value)
}

fn put_snapshot(tx: &mut dyn WriteTx) -> Result<(), StoreError> {
    let mut bytes = Vec::new();
    ledger::export(tx, &NOTEBOOK, 0, &mut |change| {
        bytes.extend_from_slice(change);
        ControlFlow::Continue(())
    })?;
    let document = automerge::Automerge::load(&bytes).unwrap();
    let count = document.get_changes(&[]).len() as u64;
    assert!(ledger::snapshot::put(tx, &NOTEBOOK, count, &document.get_heads(), &document.save())?);
    Ok(())
}

#[test]
fn what_can_be_computed_is_found_and_repaired() {
    let whole = MemoryStore::new();
    fixture::fill(&whole);
    let whole = fixture::found(&whole);
    for (what, damage, expected) in REPAIRABLE {
        let store = MemoryStore::new();
        fixture::fill(&store);
        store.write_with(|tx| damage(tx)).unwrap();
        let report = verify(&store);
        assert_eq!(names(&report), expected, "{what}: {report}");
        assert!(report.findings.iter().all(|finding| finding.document == Some(NOTEBOOK)), "{what}: {report}");
        assert!(report.findings.iter().all(|finding| finding.fault.advice() == Advice::Repair), "{what}: {report}");
        assert_eq!(report.repairable(), [NOTEBOOK], "{what}");
        let repaired = care::repair(&store, NOTEBOOK, Registers::Kept).unwrap();
        assert_eq!((repaired.changes, repaired.waiting), (29, 6), "{what}");
        let report = verify(&store);
        assert!(report.is_sound(), "{what}: {report}");
        let mut found = fixture::found(&store);
        if what == "shared with nobody" {
            // What was lost is a hint.
            found["documents"][&NOTEBOOK.to_string()]["shared"] =
                whole["documents"][&NOTEBOOK.to_string()]["shared"].clone();
        }
        assert!(found == whole, "{what}: it is as it was");
    }
}

#[test]
fn what_waited_in_a_damaged_row_is_compared_with_every_relay() {
    let store = MemoryStore::new();
    fixture::fill(&store);
    let relay = StorageId::from_bytes([7; 16]);
    let (space, elsewhere) = (SpaceId::from_bytes([8; 16]), SpaceId::from_bytes([9; 16]));
    let cursor = Cursor { epoch: Epoch::from_bytes([1; 16]), position: 5 };
    let damage = |tx: &mut dyn WriteTx| {
        spaces::put(tx, &NOTEBOOK, &space)?;
        cursor::put(tx, &relay, &space, &cursor)?;
        cursor::put(tx, &relay, &elsewhere, &cursor)?;
        tx.put(Table::Outbox, &key(NOTEBOOK, &0_u64.to_be_bytes()), &[1; 7])
    };
    store.write_with(damage).unwrap();
    let waiting = |store: &MemoryStore| ledger::outbox::counts(store.read().unwrap().as_ref()).unwrap();
    // Nobody may believe that all is on a relay.
    assert!(waiting(&store).contains(&(NOTEBOOK, 1)));
    let report = verify(&store);
    assert_eq!(names(&report), ["outbox"], "{report}");
    let repaired = care::repair(&store, NOTEBOOK, Registers::Kept).unwrap();
    assert_eq!((repaired.changes, repaired.waiting), (29, 0));
    assert!(verify(&store).is_sound());
    let tx = store.read().unwrap();
    assert_eq!(cursor::get(tx.as_ref(), &relay, &space).unwrap(), None);
    assert_eq!(cursor::get(tx.as_ref(), &relay, &elsewhere).unwrap(), Some(cursor));
}

#[test]
fn outbox_of_an_older_dump_is_rewritten() {
    let store = MemoryStore::new();
    let mut loader = Loader::new(&store).unwrap();
    loader.put(Table::OutboxV1, &key(NOTEBOOK, &70_u64.to_be_bytes()), &[]).unwrap();
    loader.finish(&Epoch::from_bytes([1; 16]), &StorageId::from_bytes([7; 16]), 0).unwrap();
    let tx = store.read().unwrap();
    assert_eq!(ledger::outbox::pending(tx.as_ref(), &NOTEBOOK).unwrap(), [70]);
    assert_eq!(rows(tx.as_ref(), Table::OutboxV1, &[]), []);
}

/// Damage to the changes themselves.
const LOSSES: [(&str, Damage, &[&str]); 6] = [
    ("change cut", |tx| cut(tx, Table::Change, 5), &["change"]),
    (
        "one bit",
        |tx| {
            let key = key(NOTEBOOK, &5_u64.to_be_bytes());
            let mut value = tx.get(Table::Change, &key)?.unwrap();
            *value.last_mut().unwrap() ^= 1;
            tx.put(Table::Change, &key, &value)
        },
        &["change"],
    ),
    ("change missing", |tx| tx.delete(Table::Change, &key(NOTEBOOK, &5_u64.to_be_bytes())), &["changes-missing"]),
    (
        "last changes missing",
        |tx| tx.delete_range(Table::Change, &key(NOTEBOOK, &20_u64.to_be_bytes())..LIST.as_bytes()),
        &["changes-missing", "outbox"],
    ),
    (
        "changes exchanged",
        |tx| swap(tx, Table::Change, &1_u64.to_be_bytes(), &2_u64.to_be_bytes()),
        &["changes-missing", "index", "node"],
    ),
    (
        "change of another document",
        |tx| {
            let other = tx.get(Table::Change, &key(LIST, &9_u64.to_be_bytes()))?.unwrap();
            tx.put(Table::Change, &key(NOTEBOOK, &9_u64.to_be_bytes()), &other)
        },
        &["dependency", "index", "node"],
    ),
];

#[test]
fn lost_changes_are_found_and_not_made_up() {
    for (what, damage, expected) in LOSSES {
        let store = MemoryStore::new();
        fixture::fill(&store);
        store.write_with(|tx| damage(tx)).unwrap();
        let report = verify(&store);
        assert_eq!(names(&report), expected, "{what}: {report}");
        assert!(report.findings.iter().any(|finding| finding.fault.advice() == Advice::Refetch), "{what}: {report}");
        assert_eq!(report.repairable(), [], "{what}");
        let before = rows(store.read().unwrap().as_ref(), Table::Register, &[]);
        let refused = care::repair(&store, NOTEBOOK, Registers::Kept);
        assert!(matches!(refused, Err(RepairError::Change { .. })), "{what}: {refused:?}");
        assert!(rows(store.read().unwrap().as_ref(), Table::Register, &[]) == before, "{what}: nothing was changed");
    }
    let missing = care::repair(&MemoryStore::new(), NOTEBOOK, Registers::Kept);
    assert!(matches!(missing, Err(RepairError::NotFound)));
}

#[test]
fn findings_are_counted_beyond_what_is_listed() {
    let store = MemoryStore::new();
    fixture::fill(&store);
    store.write_with(|tx| tx.delete_range(Table::Register, &[]..&[0xff; 20])).unwrap();
    store.write_with(|tx| tx.put(Table::Object, b"short", b"")).unwrap();
    let report = care::verify(&store, &VerifyOptions::new(Registers::Kept).findings_max(3), &mut |_| ()).unwrap();
    assert_eq!(report.findings.len(), 3);
    assert!(report.found > 20);
    assert!(matches!(&report.findings[0].fault, Fault::ForeignKey { table: Table::Object, .. }));
    let json = report.to_json();
    assert_eq!(json["findings"][0]["fault"], "foreign-key");
    assert_eq!(json["findings"][1]["document"], NOTEBOOK.to_string());
    assert_eq!((json["found"].as_u64(), json["sound"].as_bool()), (Some(report.found), Some(false)));
    assert!(report.to_string().contains("not listed"), "{report}");
    // Without replay the ledger alone is looked at.
    let quick = VerifyOptions::new(Registers::Kept).replay(false);
    assert_eq!(care::verify(&store, &quick, &mut |_| ()).unwrap().found, 1);
}

#[test]
fn store_of_another_format_is_not_judged() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    fixture::unpack(1, &path);
    let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
    let refused = care::verify(&store, &VerifyOptions::new(Registers::Kept), &mut |_| ());
    assert!(matches!(refused, Err(StoreError::Older { found: 1, .. })));
    assert!(matches!(care::stats(&store), Err(StoreError::Older { .. })));
    rejoin::migrate::migrate(&store).unwrap();
    let report = verify(&store);
    assert!(report.is_sound(), "{report}");
}

/// A document of 2,400 changes by three actors, most of them packed.
fn packed_store() -> MemoryStore {
    let store = MemoryStore::new();
    store.write_with(|tx| ledger::create(tx, &NOTEBOOK)).unwrap();
    for number in 0..2_400_u16 {
        let actor = ActorId::from(&[number.to_le_bytes()[0] % 3; 16]);
        let author = Author { actor: &actor, time_seconds: 7, message: None };
        let edits = [Edit::set(format!("field {}", number % 50), i64::from(number))];
        store.write_with(|tx| fields::write(tx, &NOTEBOOK, &author, &edits)).unwrap().unwrap();
    }
    let packed = store.write_with(|tx| ledger::compact(tx, &NOTEBOOK, 100)).unwrap();
    assert_eq!(packed, 2_300);
    store
}

#[test]
fn packed_changes_are_checked_and_repaired_too() {
    let store = packed_store();
    let report = verify(&store);
    assert!(report.is_sound(), "{report}");
    assert_eq!(report.changes, 2_400);
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("copy.redb");
    backup(&store, &path).unwrap();
    assert!(verify(&RedbStore::open(&path, RedbOptions::new()).unwrap()).is_sound());

    let before = ledger::heads(store.read().unwrap().as_ref(), &NOTEBOOK).unwrap();
    store.write_with(|tx| tx.delete_range(Table::Register, &[]..&[0xff; 20])).unwrap();
    assert_eq!(names(&verify(&store)), ["row"]);
    let repaired = care::repair(&store, NOTEBOOK, Registers::Kept).unwrap();
    assert_eq!((repaired.changes, repaired.waiting), (2_400, 2_400));
    assert!(verify(&store).is_sound());
    assert_eq!(ledger::heads(store.read().unwrap().as_ref(), &NOTEBOOK).unwrap(), before);
}

#[test]
fn damaged_packs_are_found() {
    let damages: [Damage; 4] = [
        |tx| {
            let (key, mut value) = rows(tx, Table::Pack, &[]).swap_remove(0);
            let middle = value.len() / 2;
            value[middle] ^= 1;
            tx.put(Table::Pack, &key, &value)
        },
        |tx| {
            let (key, value) = rows(tx, Table::Pack, &[]).swap_remove(0);
            tx.put(Table::Pack, &key, &value[..value.len() / 2])
        },
        |tx| tx.delete_range(Table::Pack, &[]..&[0xff; 20]),
        |tx| tx.delete_range(Table::PackIndex, &[]..&[0xff; 20]),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let store = packed_store();
        store.write_with(|tx| damage(tx)).unwrap();
        let report = verify(&store);
        assert!(!report.is_sound(), "damage {number}");
        assert_eq!(report.repairable(), [], "damage {number}: {report}");
        assert!(care::repair(&store, NOTEBOOK, Registers::Kept).is_err(), "damage {number}");
    }
}

fn backup(store: &dyn Store, into: &Path) -> Result<care::BackedUp, BackupError> {
    care::backup(store, into, &BackupOptions::new(CopyId::New([7; 16])), &mut |_| ())
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn backup_holds_everything_under_an_id_of_its_own() {
    let directory = TempDir::new().unwrap();
    let store = RedbStore::open(directory.path().join("store.redb"), RedbOptions::new()).unwrap();
    let expected = fixture::fill(&store);
    let path = directory.path().join("copy.redb");
    let done = backup(&store, &path).unwrap();
    assert_eq!(entries(directory.path()), ["copy.redb", "store.redb"]);
    let copy = RedbStore::open(&path, RedbOptions::new()).unwrap();
    let mut found = fixture::found(&copy);
    assert_ne!(found["storage_id"], expected["storage_id"]);
    found["storage_id"] = expected["storage_id"].clone();
    assert!(found == expected);
    assert!(verify(&copy).is_sound());
    let total: usize = Table::ALL.iter().map(|table| rows(store.read().unwrap().as_ref(), *table, &[]).len()).sum();
    assert_eq!(done.rows, total as u64);

    let moved = directory.path().join("moved.redb");
    care::backup(&store, &moved, &BackupOptions::new(CopyId::Same), &mut |_| ()).unwrap();
    let moved = RedbStore::open(&moved, RedbOptions::new()).unwrap();
    assert_eq!(fixture::found(&moved), expected);
}

#[test]
fn backup_overwrites_nothing_and_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let store = MemoryStore::new();
    let path = directory.path().join("copy.redb");
    fs::write(&path, b"precious").unwrap();
    assert!(matches!(backup(&store, &path), Err(BackupError::Exists { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    fs::remove_file(&path).unwrap();

    // What a killed backup left is removed; one that is under way is not.
    let temporary = directory.path().join("copy.redb.rejoin-backup");
    fs::write(&temporary, b"half of a copy").unwrap();
    backup(&store, &path).unwrap();
    assert_eq!(entries(directory.path()), ["copy.redb"]);
    fs::remove_file(&path).unwrap();
    let other = RedbStore::open(&temporary, RedbOptions::new()).unwrap();
    assert!(matches!(backup(&store, &path), Err(BackupError::Busy { .. })));
    drop(other);

    let error = backup(&store, &directory.path().join("nowhere").join("copy.redb")).unwrap_err();
    assert!(matches!(&error, BackupError::Target { .. }) && error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn backup_of_a_busy_store_is_one_moment_of_it() {
    let directory = TempDir::new().unwrap();
    let store = RedbStore::open(directory.path().join("store.redb"), RedbOptions::new()).unwrap();
    let document = DocumentId::from_bytes([1; 16]);
    store.write_with(|tx| ledger::create(tx, &document)).unwrap();
    storage_id(&store, [1; 16]).unwrap();
    let done = AtomicBool::new(false);
    let actor = ActorId::from(&[1; 16]);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let author = Author { actor: &actor, time_seconds: 0, message: None };
            let mut count = 0_i64;
            while !done.load(Ordering::Relaxed) || count == 0 {
                count += 1;
                let edits = [Edit::set("count", count), Edit::set(format!("key {count}"), "x".repeat(50))];
                store.write_with(|tx| fields::write(tx, &document, &author, &edits)).unwrap().unwrap();
            }
            count
        });
        for round in 0..4 {
            let path = directory.path().join(format!("copy-{round}.redb"));
            care::backup(&store, &path, &BackupOptions::new(CopyId::Same), &mut |_| ()).unwrap();
            let copy = RedbStore::open(&path, RedbOptions::new()).unwrap();
            let report = verify(&copy);
            assert!(report.is_sound(), "{report}");
        }
        done.store(true, Ordering::Relaxed);
        let count = writer.join().unwrap();
        let state = ledger::state(store.read().unwrap().as_ref(), &document).unwrap().unwrap();
        assert_eq!(state.count, count.unsigned_abs());
    });
}

#[test]
fn statistics_count_what_is_there() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
    let expected = fixture::fill(&store);
    let stats = care::stats(&store).unwrap();
    assert_eq!((stats.documents, stats.changes, stats.outbox), (3, 57, 15));
    let bytes = |document: DocumentId| expected["documents"][&document.to_string()]["bytes"].as_u64().unwrap();
    assert_eq!(stats.change_bytes, bytes(NOTEBOOK) + bytes(LIST));
    let largest: Vec<_> = stats.largest.iter().map(|one| (one.document, one.changes)).collect();
    assert_eq!(largest[..2], [(NOTEBOOK, 29), (LIST, 28)]);
    for one in &stats.tables {
        let rows = rows(store.read().unwrap().as_ref(), one.table, &[]);
        let bytes: usize = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert_eq!((one.rows, one.bytes), (rows.len() as u64, bytes as u64), "{:?}", one.table);
    }
    assert_eq!(stats.file_bytes, Some(fs::metadata(&path).unwrap().len()));
    assert_eq!(stats.to_json()["tables"]["outbox-2"]["rows"], 2);
    assert!(stats.to_string().starts_with("3 documents, 57 changes, "), "{stats}");
}

/// A page of the file is damaged after a clean close: redb stumbles over it where it stands.
#[test]
fn damaged_page_is_a_finding_or_a_refusal_and_never_a_panic() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
    fixture::fill(&store);
    drop(store);
    let whole = fs::read(&path).unwrap();
    let (mut findings, mut refusals) = (0, 0);
    for page in (1..whole.len() / 4_096).filter(|page| whole[page * 4_096..].iter().take(4_096).any(|byte| *byte != 0))
    {
        let mut damaged = whole.clone();
        damaged[page * 4_096..(page + 1) * 4_096].fill(0xa5);
        fs::write(&path, &damaged).unwrap();
        let checked = RedbStore::open(&path, RedbOptions::new())
            .and_then(|store| care::verify(&store, &VerifyOptions::new(Registers::Kept), &mut |_| ()));
        match checked {
            Ok(report) => findings += usize::from(!report.is_sound()),
            Err(StoreError::Damaged { .. } | StoreError::Foreign { .. }) => refusals += 1,
            Err(error) => unreachable!("page {page}: {error:?}"),
        }
    }
    // Of so small a file redb needs nearly every page to open it.
    assert!(findings + refusals > 5, "{findings} findings, {refusals} refusals");
}

#[test]
fn compacting_makes_the_file_small_and_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.redb");
    let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
    fixture::fill(&store);
    let actor = ActorId::from([7; 16]);
    store
        .write_with(|tx| {
            for value in 0..3_000_i64 {
                let author = Author { actor: &actor, time_seconds: 0, message: None };
                fields::write(tx, &NOTEBOOK, &author, &[Edit::set("count", value)])?.unwrap();
            }
            Ok(())
        })
        .unwrap();
    let changes = |store: &RedbStore| {
        let tx = store.read().unwrap();
        let mut bytes = Vec::new();
        ledger::export(tx.as_ref(), &NOTEBOOK, 0, &mut |change| {
            bytes.push(change.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
        bytes
    };
    let before = (changes(&store), fs::metadata(&path).unwrap().len());
    let mut told = Vec::new();
    let done = care::compact(&store, &mut |progress| told.push(progress)).unwrap();
    assert!(done.packed >= 3_000 && done.packed == told.last().unwrap().rows, "{done:?}");
    assert_eq!((done.bytes_before, done.bytes_after), (before.1, fs::metadata(&path).unwrap().len()));
    assert!(done.bytes_after < done.bytes_before / 4, "{done:?}");
    assert_eq!(changes(&store), before.0);
    assert!(verify(&store).is_sound());
    // And again: nothing is left to pack, and it is written on.
    assert_eq!(care::compact(&store, &mut |_| ()).unwrap().packed, 0);
    let author = Author { actor: &actor, time_seconds: 0, message: None };
    store.write_with(|tx| fields::write(tx, &NOTEBOOK, &author, &[Edit::set("count", 1_i64)])).unwrap().unwrap();
    assert!(verify(&store).is_sound());
    // One that is in no file has no size.
    let memory = MemoryStore::new();
    fixture::fill(&memory);
    assert_eq!(care::compact(&memory, &mut |_| ()).unwrap().bytes_after, 0);
}
