//! A store with a journal beside it: what stands in which file, and what counts when the two are found again.
#![cfg(feature = "redb")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::{fmt, fs, io};

use redb::StorageBackend;
use rejoin::limits::{JOURNAL_BYTES_MAX, JOURNAL_RECORD_BYTES_MAX, JOURNAL_STEP_BYTES};
use rejoin::store::testing::disk::CutDisk;
use rejoin::store::testing::{FailingDisk, Failure};
use rejoin::store::{self, RedbOptions, RedbStore, Store, StoreError, StoreExt, Table, WriteTx};
use tempfile::TempDir;

fn options() -> RedbOptions {
    RedbOptions::new().journal(true)
}

/// Writes the row of this number, and deletes the one before.
fn write(store: &RedbStore, number: u64) {
    try_write(store, number).unwrap();
}

fn try_write(store: &RedbStore, number: u64) -> Result<(), StoreError> {
    store.write_with(|tx| {
        tx.put(Table::Node, &number.to_be_bytes(), &[number.to_be_bytes()[7]; 100])?;
        tx.delete(Table::Outbox, &(number - 1).to_be_bytes())?;
        tx.put(Table::Outbox, &number.to_be_bytes(), b"waits")
    })
}

/// Returns how many rows there are: all up to that number, each as it was written.
fn count(store: &RedbStore) -> u64 {
    let tx = store.read().unwrap();
    let mut number = 0_u64;
    while let Some(value) = tx.get(Table::Node, &(number + 1).to_be_bytes()).unwrap() {
        number += 1;
        assert_eq!(value, [number.to_be_bytes()[7]; 100]);
    }
    for row in 1..=number {
        assert_eq!(tx.contains(Table::Outbox, &row.to_be_bytes()).unwrap(), row == number, "outbox {row}");
    }
    number
}

fn journal_of(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.rejoin-journal", path.display()))
}

/// Copies both files, as a process that is killed leaves them.
fn kill(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
    fs::copy(journal_of(from), journal_of(to)).unwrap();
}

#[test]
fn what_is_in_the_journal_alone_is_found_again_with_and_without_the_option() {
    let folder = TempDir::new().unwrap();
    let (path, copy) = (folder.path().join("store.redb"), folder.path().join("copy.redb"));
    let store = RedbStore::open(&path, options()).unwrap();
    (1..=5).for_each(|number| write(&store, number));
    for reopened in [options(), RedbOptions::new(), RedbOptions::new().quick_repair(true)] {
        kill(&path, &copy);
        let alone = folder.path().join("alone.redb");
        fs::copy(&path, &alone).unwrap();
        assert_eq!(
            count(&RedbStore::open(&alone, options()).unwrap()),
            1,
            "the first write is a checkpoint, the others are not"
        );

        // Who only reads leaves both as they are.
        let before = (fs::read(&copy).unwrap(), fs::read(journal_of(&copy)).unwrap());
        assert_eq!(count(&RedbStore::open_read_only(&copy, reopened.clone()).unwrap()), 5);
        assert!((fs::read(&copy).unwrap(), fs::read(journal_of(&copy)).unwrap()) == before);

        let again = RedbStore::open(&copy, reopened).unwrap();
        assert_eq!(count(&again), 5);
        assert!(!journal_of(&copy).exists(), "it is in the database now");
        write(&again, 6);
        drop(again);
        assert_eq!(count(&RedbStore::open(&copy, RedbOptions::new()).unwrap()), 6);
    }
}

#[test]
fn store_that_was_closed_is_one_file_with_everything_in_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.redb");
    let store = RedbStore::open(&path, options()).unwrap();
    assert_eq!(store.size_bytes().unwrap().unwrap(), fs::metadata(&path).unwrap().len());
    (1..=3).for_each(|number| write(&store, number));
    let both = fs::metadata(&path).unwrap().len() + fs::metadata(journal_of(&path)).unwrap().len();
    assert_eq!(store.size_bytes().unwrap().unwrap(), both);
    drop(store);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
    assert_eq!(count(&store), 3);
    write(&store, 4);
    assert!(!journal_of(&path).exists(), "nobody asked for one");
}

#[test]
#[cfg(unix)]
fn journal_is_for_those_who_may_read_the_store() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.redb");
    let store = RedbStore::open(&path, options()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    (1..=2).for_each(|number| write(&store, number));
    assert_eq!(fs::metadata(journal_of(&path)).unwrap().permissions().mode() & 0o777, 0o600);
}

/// An older version looks for the format in the file alone. And whoever asks whether the store can be written is told of the file.
#[test]
fn format_is_never_in_the_journal_alone() {
    let (disk, journal) = (FailingDisk::new(), FailingDisk::new());
    let store = RedbStore::open_backends(disk.clone(), journal.clone(), options()).unwrap();
    (1..=2).for_each(|number| write(&store, number));
    let before = (copy(&disk), copy(&journal));
    store::probe(&store).unwrap();
    assert!(copy(&journal) == before.1 && copy(&disk) != before.0);
    write(&store, 3);
    disk.fail_after(0, Failure::Full);
    write(&store, 4);
    assert!(matches!(store::probe(&store).unwrap_err(), StoreError::Full(_)));
    assert_eq!(count(&store), 4);
}

#[test]
fn journal_stays_within_its_bounds_and_everything_is_there_after_many_rounds_of_it() {
    let (disk, journal) = (CutDisk::new(), CutDisk::new());
    let open = |disk: &CutDisk, journal: &CutDisk| RedbStore::open_backends(disk.clone(), journal.clone(), options());
    let store = open(&disk, &journal).unwrap();
    let filler = vec![9; JOURNAL_STEP_BYTES - 1_000];
    let (mut rounds, mut last) = (0, Vec::new());
    for number in 1..=100 {
        write(&store, number);
        store.write_with(|tx| tx.put(Table::Snapshot, b"filler", &filler)).unwrap();
        assert!(journal.len().unwrap() <= JOURNAL_BYTES_MAX as u64);
        // What a kill would leave now.
        let killed = open(&CutDisk::from_image(disk.contents()), &CutDisk::from_image(journal.contents())).unwrap();
        assert_eq!(count(&killed), number);
        let database = disk.contents();
        rounds += u32::from(database != last);
        last = database;
    }
    assert!((3..50).contains(&rounds), "{rounds}: most writes leave the database as it is");
    // Too long for a record: it goes into the database, and all before it.
    store.write_with(|tx| tx.put(Table::Snapshot, b"filler", &vec![8; JOURNAL_RECORD_BYTES_MAX])).unwrap();
    let killed = RedbStore::open_backend(CutDisk::from_image(disk.contents()), options()).unwrap();
    assert_eq!(count(&killed), 100);
}

#[test]
fn journal_of_another_store_or_of_another_state_counts_for_nothing() {
    let folder = TempDir::new().unwrap();
    let [path, older, newer, other, mixed] =
        ["store", "older", "newer", "other", "mixed"].map(|name| folder.path().join(name));
    let store = RedbStore::open(&path, options()).unwrap();
    (1..=7).for_each(|number| write(&store, number));
    kill(&path, &older);
    // A checkpoint: the journal is begun anew.
    store.write_with(|tx| tx.put(Table::Snapshot, b"large", &vec![8; JOURNAL_RECORD_BYTES_MAX])).unwrap();
    write(&store, 8);
    kill(&path, &newer);
    drop(store);
    let store = RedbStore::open(&path, options()).unwrap();
    write(&store, 9);
    write(&store, 10);
    kill(&path, &other);
    let mix = |database: &Path, journal: &Path| {
        fs::copy(database, &mixed).unwrap();
        fs::copy(journal_of(journal), journal_of(&mixed)).unwrap();
    };
    // Where the journal was begun anew since, some of the older records are still there, and those before them are not.
    mix(&older, &newer);
    let error = RedbStore::open(&mixed, options()).map(|_| "a store").unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    for (database, journal, rows) in [
        (&older, &older, 7),
        (&older, &other, 1),
        (&newer, &newer, 8),
        (&newer, &older, 7),
        (&other, &other, 10),
        (&other, &newer, 9),
    ] {
        mix(database, journal);
        let store = RedbStore::open(&mixed, options()).unwrap();
        assert_eq!(count(&store), rows);
        assert!(!journal_of(&mixed).exists(), "whether it counted or not");
    }
}

/// Where the records begin, found by the row that each of them puts.
fn record_starts(journal: &[u8], rows: std::ops::RangeInclusive<u64>) -> Vec<usize> {
    let at = |number: u64| {
        let key = [&[8], number.to_be_bytes().as_slice()].concat();
        // Before the key with its length: checksum, length, number, generation, and what is done with which table.
        journal.windows(key.len()).position(|found| found == key).unwrap() - 28 - 2
    };
    rows.map(at).collect()
}

#[test]
fn torn_last_record_was_never_acknowledged_and_a_damaged_one_before_it_is_told() {
    let (disk, journal) = (CutDisk::new(), CutDisk::new());
    let store = RedbStore::open_backends(disk.clone(), journal.clone(), options()).unwrap();
    (1..=5).for_each(|number| write(&store, number));
    let (database, records) = (disk.contents(), journal.contents());
    let open = |records: Vec<u8>| {
        RedbStore::open_backends(CutDisk::from_image(database.clone()), CutDisk::from_image(records), options())
    };
    assert_eq!(count(&open(records.clone()).unwrap()), 5);
    let starts = record_starts(&records, 2..=5);
    assert_eq!(starts[0], 0);
    let end = starts[3] + (starts[3] - starts[2]);
    // Every byte of the last record: without it, four are there.
    for at in starts[3]..end {
        let mut records = records.clone();
        records[at] ^= 0x10;
        assert_eq!(count(&open(records).unwrap()), 4, "byte {at}");
    }
    for cut in starts[3]..end {
        assert_eq!(count(&open(records[..cut].to_vec()).unwrap()), 4, "cut at {cut}");
    }
    // Every byte of those before: what comes behind them shows that they were acknowledged.
    for at in 0..starts[3] {
        let mut records = records.clone();
        records[at] ^= 0x10;
        let error = open(records).map(|_| "a store").unwrap_err();
        assert!(matches!(error, StoreError::Damaged { what: "the store's journal" }), "byte {at}: {error}");
    }
}

#[test]
fn scrub_leaves_nothing_in_the_journal() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.redb");
    let store = RedbStore::open(&path, options()).unwrap();
    let canary = b"the canary that sings in journals";
    let sings =
        |path: &Path| fs::read(path).is_ok_and(|bytes| bytes.windows(canary.len()).any(|found| found == canary));
    write(&store, 1);
    store.write_with(|tx| tx.put(Table::Change, b"secret", canary)).unwrap();
    store.write_with(|tx| tx.delete(Table::Change, b"secret")).unwrap();
    assert!(sings(&journal_of(&path)), "otherwise this shows nothing");
    assert!(store.scrub().unwrap());
    for _ in 0..2 {
        assert!(!sings(&path) && !sings(&journal_of(&path)));
        write(&store, count(&store) + 1);
    }
    let killed = folder.path().join("killed.redb");
    kill(&path, &killed);
    assert_eq!(count(&RedbStore::open(&killed, options()).unwrap()), 3);
    drop(store);
    assert_eq!(count(&RedbStore::open(&path, options()).unwrap()), 3);
}

#[test]
fn journal_without_room_is_done_without() {
    let disk = FailingDisk::new();
    let journal = disk.beside();
    let store = RedbStore::open_backends(disk.clone(), journal.clone(), options()).unwrap();
    // A journal of its own disk, which is full: each write is a checkpoint.
    let full = FailingDisk::new();
    let other = RedbStore::open_backends(FailingDisk::new(), full.clone(), options()).unwrap();
    full.fail_after(0, Failure::Full);
    (1..=4).for_each(|number| write(&other, number));
    assert_eq!(count(&other), 4);
    full.heal();
    (5..=6).for_each(|number| write(&other, number));
    assert_eq!((count(&other), full.len().unwrap()), (6, JOURNAL_STEP_BYTES as u64));

    // The disk fills up; what the journal has cannot be brought into the database when the store is opened again.
    (1..=4).for_each(|number| write(&store, number));
    let big =
        |tx: &mut dyn WriteTx| (0..8_u64).try_for_each(|at| tx.put(Table::Change, &at.to_be_bytes(), &[7; 30_000]));
    (0..2).for_each(|_| store.write_with(big).unwrap());
    let (database, records) = (copy(&disk), copy(&journal));
    let disk = FailingDisk::new();
    let journal = disk.beside();
    paste(&disk, &database);
    paste(&journal, &records);
    disk.fail_after(40_000, Failure::Full);
    let store = RedbStore::open_backends(disk.clone(), journal, options()).unwrap();
    assert_eq!(count(&store), 4);
    assert!(store.read().unwrap().contains(Table::Change, &7_u64.to_be_bytes()).unwrap());
    assert!(matches!(try_write(&store, 5).unwrap_err(), StoreError::Full(_)));
    assert_eq!(count(&store), 4);
    disk.heal();
    write(&store, 5);
    assert_eq!(count(&store), 5);
}

fn copy(disk: &FailingDisk) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(disk.len().unwrap()).unwrap()];
    disk.read(0, &mut bytes).unwrap();
    bytes
}

fn paste(disk: &FailingDisk, bytes: &[u8]) {
    disk.set_len(bytes.len() as u64).unwrap();
    disk.write(0, bytes).unwrap();
}

type Hook = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// A disk that does something else at its next sync, and can refuse to be read.
#[derive(Clone, Default)]
struct HookedDisk {
    disk: FailingDisk,
    at_sync: Arc<Mutex<Option<Hook>>>,
    refuses_reads: Arc<AtomicBool>,
}

impl fmt::Debug for HookedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookedDisk")
    }
}

impl StorageBackend for HookedDisk {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.refuses_reads.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk cannot be read"));
        }
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let hook = self.at_sync.lock().unwrap().take();
        hook.map_or(Ok(()), |hook| hook())?;
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write(offset, data)
    }
}

#[test]
fn commit_that_was_under_way_when_a_read_failed_is_seen_and_built_upon() {
    for has_journal in [false, true] {
        let disk = HookedDisk::default();
        let options = RedbOptions::new().cache_bytes(1 << 20).journal(has_journal);
        let open = |disk: &HookedDisk| RedbStore::open_backends(disk.clone(), FailingDisk::new(), options.clone());
        let store = Arc::new(open(&disk).unwrap());
        // Too much for the journal. The file grows now, and has one sync in a commit from here on.
        let big = vec![7; JOURNAL_RECORD_BYTES_MAX];
        for row in 0..20_u8 {
            store.write_with(|tx| tx.put(Table::Change, &[row], &big)).unwrap();
        }
        (1..=2).for_each(|number| write(&store, number));
        let reader = Arc::clone(&store);
        // As long as somebody reads, nothing is freed behind the commit, for which redb would look whether the disk failed.
        let held = store.read().unwrap();
        let (refuses_reads, is_reopened) = (Arc::clone(&disk.refuses_reads), Arc::new(AtomicBool::new(false)));
        let reopened = Arc::clone(&is_reopened);
        *disk.at_sync.lock().unwrap() = Some(Box::new(move || {
            let before = reader.read().unwrap();
            refuses_reads.store(true, Ordering::SeqCst);
            let failed = (0..20_u8).find_map(|row| before.get(Table::Change, &[row]).err());
            refuses_reads.store(false, Ordering::SeqCst);
            assert!(matches!(failed, Some(StoreError::Io(_))), "{failed:?}");
            assert_eq!(count(&reader), 2, "what is not on the disk for certain is not seen");
            reopened.store(true, Ordering::SeqCst);
            Ok(())
        }));
        let outcome = store.write_with(|tx| {
            tx.put(Table::Change, &[20], &big)?;
            tx.put(Table::Node, &3_u64.to_be_bytes(), &[3; 100])?;
            tx.delete(Table::Outbox, &2_u64.to_be_bytes())?;
            tx.put(Table::Outbox, &3_u64.to_be_bytes(), b"waits")
        });
        assert!(is_reopened.load(Ordering::SeqCst));
        outcome.unwrap();
        drop(held);
        assert_eq!(count(&store), 3);
        (4..=6).for_each(|number| write(&store, number));
        assert_eq!(count(&store), 6);
        assert!(store.read().unwrap().contains(Table::Change, &[20]).unwrap());
        drop(store);
        assert_eq!(count(&open(&disk).unwrap()), 6);
    }
}

#[test]
fn first_record_that_failed_to_reach_the_disk_does_not_appear_after_closing() {
    let (disk, journal) = (FailingDisk::new(), HookedDisk::default());
    let open = || RedbStore::open_backends(disk.clone(), journal.clone(), options()).unwrap();
    let store = open();
    write(&store, 1);
    *journal.at_sync.lock().unwrap() = Some(Box::new(|| Err(io::Error::other("the disk failed"))));
    assert!(try_write(&store, 2).is_err());
    assert_eq!(count(&store), 1);
    drop(store);
    assert_eq!(count(&open()), 1);
}

#[test]
fn write_that_goes_on_after_a_row_failed_is_taken_back() {
    let disk = HookedDisk::default();
    let store = RedbStore::open_backends(disk.clone(), FailingDisk::new(), options().cache_bytes(0)).unwrap();
    write(&store, 1);
    let big = vec![7; 2 * JOURNAL_RECORD_BYTES_MAX];
    let outcome = store.write_with(|tx| {
        disk.refuses_reads.store(true, Ordering::SeqCst);
        assert!(tx.get(Table::Change, b"nothing").is_err() || tx.get(Table::Node, b"nothing").is_err());
        assert!(
            tx.put(Table::Change, b"big", &big).is_err(),
            "it is too much for the journal, and the database is of no use"
        );
        disk.refuses_reads.store(false, Ordering::SeqCst);
        tx.put(Table::Node, &2_u64.to_be_bytes(), &[2; 100])
    });
    assert!(matches!(outcome, Err(StoreError::Interrupted)), "{outcome:?}");
    assert_eq!(count(&store), 1);
    write(&store, 2);
    assert_eq!(count(&store), 2);
}
