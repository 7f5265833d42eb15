//! A disk that is full, or refuses writes: nothing acknowledged is lost, reading goes on, and so does writing afterwards.
#![cfg(feature = "redb")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rejoin::DocumentId;
use rejoin::care::{self, Registers, VerifyOptions};
use rejoin::fields::{self, Author, Edit};
use rejoin::ledger;
use rejoin::store::testing::{FailingDisk, Failure};
use rejoin::store::{RedbOptions, RedbStore, Store, StoreError, StoreExt, Table, WriteTx};
use tempfile::TempDir;

const DOCUMENT: DocumentId = DocumentId::from_bytes([1; 16]);

/// Writes one field, about 2 kB of it.
fn write(store: &dyn Store, number: u64) -> Result<(), StoreError> {
    let actor = rejoin::ActorId::from(&[1; 16]);
    let author = Author { actor: &actor, time_seconds: 0, message: None };
    let edits = [Edit::set(format!("field {number}"), "x".repeat(2_000))];
    store.write_with(|tx| {
        ledger::create(tx, &DOCUMENT)?;
        fields::write(tx, &DOCUMENT, &author, &edits)?.map(drop).map_err(|error| StoreError::Engine(error.to_string()))
    })
}

fn count(store: &dyn Store) -> u64 {
    ledger::state(store.read().unwrap().as_ref(), &DOCUMENT).unwrap().map_or(0, |state| state.count)
}

fn assert_sound(store: &dyn Store) {
    let report = care::verify(store, &VerifyOptions::new(Registers::Kept), &mut |_| ()).unwrap();
    assert!(report.is_sound(), "{report}");
}

fn is_told(error: &StoreError, failure: Failure) -> bool {
    match failure {
        Failure::Full => matches!(error, StoreError::Full(_)) && error.to_string().contains("free some space"),
        Failure::ReadOnly => {
            matches!(error, StoreError::ReadOnly { .. }) && error.to_string().contains("mounted read-only")
        }
        Failure::Broken => matches!(error, StoreError::Io(_)),
    }
}

/// Fills the disk at many moments of a store's life: in the data, in the header, in the growing of the file.
fn goes_on_after(failure: Failure, options: &RedbOptions) {
    for room in (0..60).map(|step| step * 7_919) {
        let disk = FailingDisk::new();
        let journal = disk.beside();
        let open = || RedbStore::open_backends(disk.clone(), journal.clone(), options.clone()).unwrap();
        let store = open();
        write(&store, 0).unwrap();
        disk.fail_after(room, failure);
        let mut acknowledged = 1;
        let error = loop {
            match write(&store, acknowledged) {
                Ok(()) => acknowledged += 1,
                Err(error) => break error,
            }
        };
        assert!(is_told(&error, failure), "room {room}: {error:?}");
        // Reading goes on, and shows what was acknowledged, at most with the write that failed.
        for _ in 0..3 {
            let found = count(&store);
            assert!(found == acknowledged || found == acknowledged + 1, "room {room}: {found} of {acknowledged}");
            assert_sound(&store);
            let error = write(&store, 1_000).unwrap_err();
            assert!(is_told(&error, failure), "room {room}: {error:?}");
        }
        let found = count(&store);
        disk.heal();
        write(&store, 2_000).unwrap();
        assert_eq!(count(&store), found + 1, "room {room}");
        assert_sound(&store);
        drop(store);
        let store = open();
        assert_eq!(count(&store), found + 1, "room {room}");
        assert_sound(&store);
    }
}

#[test]
fn full_disk_loses_nothing_and_is_overcome() {
    goes_on_after(Failure::Full, &RedbOptions::new());
}

#[test]
fn full_disk_loses_nothing_with_quick_repair() {
    goes_on_after(Failure::Full, &RedbOptions::new().quick_repair(true));
}

#[test]
fn full_disk_loses_nothing_with_a_journal() {
    for failure in [Failure::Full, Failure::ReadOnly, Failure::Broken] {
        goes_on_after(failure, &RedbOptions::new().quick_repair(true).journal(true));
    }
}

#[test]
fn disk_that_becomes_read_only_loses_nothing_and_is_overcome() {
    goes_on_after(Failure::ReadOnly, &RedbOptions::new());
}

#[test]
fn failing_disk_loses_nothing_and_is_overcome() {
    goes_on_after(Failure::Broken, &RedbOptions::new());
}

#[test]
fn full_disk_in_the_middle_of_a_large_write_is_told_to_its_work() {
    let disk = FailingDisk::new();
    // The cache is smaller than the write, so the disk is met before the commit.
    let store = RedbStore::open_backend(disk.clone(), RedbOptions::new().cache_bytes(64 << 10)).unwrap();
    disk.fail_after(100_000, Failure::Full);
    let big =
        |tx: &mut dyn WriteTx| (0..400_u64).try_for_each(|at| tx.put(Table::Change, &at.to_be_bytes(), &[7; 5_000]));
    let error = store.write_with(big).unwrap_err();
    assert!(matches!(error, StoreError::Full(_)), "{error:?}");
    assert!(!store.read().unwrap().contains(Table::Change, &0_u64.to_be_bytes()).unwrap());
    disk.heal();
    store.write_with(big).unwrap();
    let mut found = 0;
    store
        .read()
        .unwrap()
        .scan(Table::Change, &[]..&[0xff; 9], &mut |_, _| {
            found += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(found, 400);
}

/// With a journal a write goes into the database when it has become too long, and may meet the disk there.
#[test]
fn work_that_goes_on_after_the_disk_failed_it_commits_nothing() {
    let (disk, options) = (FailingDisk::new(), RedbOptions::new().cache_bytes(64 << 10).journal(true));
    let store = RedbStore::open_backends(disk.clone(), disk.beside(), options).unwrap();
    store.write_with(|tx| tx.put(Table::Node, b"kept", b"old")).unwrap();
    store.write_with(|tx| tx.put(Table::Node, b"kept", b"new")).unwrap();
    disk.fail_after(50_000, Failure::Full);
    let mut failed = 0;
    let outcome = store.write_with(|tx| {
        tx.put(Table::Node, b"kept", b"lost")?;
        for at in 0..400_u64 {
            failed += u32::from(tx.put(Table::Change, &at.to_be_bytes(), &[7; 5_000]).is_err());
        }
        Ok(())
    });
    assert!(failed > 0 && outcome.is_err(), "{failed}: {outcome:?}");
    for heals in [false, true] {
        let tx = store.read().unwrap();
        assert_eq!(tx.get(Table::Node, b"kept").unwrap().as_deref(), Some(&b"new"[..]));
        assert!(!tx.contains(Table::Change, &0_u64.to_be_bytes()).unwrap());
        drop(tx);
        if heals {
            disk.heal();
            store.write_with(|tx| tx.delete(Table::Node, b"kept")).unwrap();
            assert!(!store.read().unwrap().contains(Table::Node, b"kept").unwrap());
        }
    }
}

/// Readers of many threads while the disk fills up and empties again: they see whole states or are told to begin again.
#[test]
fn readers_go_on_while_the_disk_comes_and_goes() {
    for journal in [false, true] {
        readers_go_on(&RedbOptions::new().journal(journal));
    }
}

fn readers_go_on(options: &RedbOptions) {
    let disk = FailingDisk::new();
    let store = RedbStore::open_backends(disk.clone(), disk.beside(), options.clone()).unwrap();
    write(&store, 0).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut newest = 0;
                while !done.load(Ordering::Relaxed) {
                    let read = store.read().unwrap();
                    match ledger::state(read.as_ref(), &DOCUMENT) {
                        Ok(state) => {
                            let count = state.unwrap().count;
                            assert!(count >= newest, "time does not run backwards");
                            newest = count;
                        }
                        Err(StoreError::Interrupted | StoreError::Full(_)) => {}
                        Err(error) => unreachable!("{error:?}"),
                    }
                }
            });
        }
        let mut acknowledged = 1;
        for round in 0..30 {
            disk.fail_after(round * 3_000, Failure::Full);
            while write(&store, acknowledged).is_ok() {
                acknowledged += 1;
            }
            disk.heal();
            write(&store, 10_000 + round).unwrap();
            acknowledged = count(&store);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_sound(&store);
}

fn filled(path: &Path) {
    let store = RedbStore::open(path, RedbOptions::new()).unwrap();
    (0..5).for_each(|number| write(&store, number).unwrap());
}

#[test]
fn read_only_opening_leaves_the_file_as_it_is() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    let missing = RedbStore::open_read_only(&path, RedbOptions::new()).map(|_| "a store").unwrap_err();
    assert!(matches!(&missing, StoreError::Io(error) if error.kind() == io::ErrorKind::NotFound), "{missing:?}");
    assert!(!path.exists());
    filled(&path);
    // One that was closed in good order, and one that was not.
    for closed in [true, false] {
        if !closed {
            let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
            write(&store, 5).unwrap();
            let torn = fs::read(&path).unwrap();
            drop(store);
            fs::write(&path, torn).unwrap();
        }
        let before = fs::read(&path).unwrap();
        let store = RedbStore::open_read_only(&path, RedbOptions::new()).unwrap();
        let second = RedbStore::open_read_only(&path, RedbOptions::new()).unwrap();
        assert_eq!(count(&second), if closed { 5 } else { 6 });
        assert_sound(&store);
        let error = write(&store, 9).unwrap_err();
        assert!(matches!(&error, StoreError::ReadOnly { .. }), "{error:?}");
        let locked = RedbStore::open(&path, RedbOptions::new()).map(|_| "a store").unwrap_err();
        assert!(matches!(locked, StoreError::Locked { .. }), "{locked:?}");
        drop((store, second));
        assert!(fs::read(&path).unwrap() == before, "closed {closed}");
    }
    let writer = RedbStore::open(&path, RedbOptions::new()).unwrap();
    let locked = RedbStore::open_read_only(&path, RedbOptions::new()).map(|_| "a store").unwrap_err();
    assert!(matches!(locked, StoreError::Locked { .. }), "{locked:?}");
    drop(writer);
}

#[test]
#[cfg(unix)]
fn file_that_refuses_writes_is_named_and_can_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    filled(&path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    // To root every file is writable.
    if let Err(error) = RedbStore::open(&path, RedbOptions::new()) {
        assert!(matches!(&error, StoreError::ReadOnly { .. }), "{error:?}");
        assert!(error.to_string().contains("store.redb") && error.to_string().contains("check who"), "{error}");
    }
    let store = RedbStore::open_read_only(&path, RedbOptions::new()).unwrap();
    assert_eq!(count(&store), 5);
}
