//! What a store on disk says to a file that is not what it should be: a clear error, and never a panic.
#![cfg(feature = "redb")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;

use redb::StorageBackend;
use redb::backends::FileBackend;
use rejoin::store::{FORMAT_VERSION, RedbOptions, RedbStore, Store, StoreError, StoreExt, Table};
use tempfile::TempDir;

const META: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("meta-1");
const OTHER: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("scores");

fn open(path: &Path) -> Result<RedbStore, StoreError> {
    RedbStore::open(path, RedbOptions::new())
}

fn open_error(path: &Path) -> StoreError {
    open(path).map(|_| "a store").unwrap_err()
}

/// A directory and a path in it where a store could be.
fn place() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    (directory, path)
}

fn names(directory: &TempDir) -> Vec<String> {
    fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The bytes of a store with 300 changes of 3,000 bytes, as they are after a clean close and after a kill.
fn filled(path: &Path, closed: bool) -> Vec<u8> {
    let store = open(path).unwrap();
    for at in 0..300_u64 {
        store.write_with(|tx| tx.put(Table::Change, &at.to_be_bytes(), &[7; 3_000])).unwrap();
    }
    if closed {
        drop(store);
        return fs::read(path).unwrap();
    }
    fs::read(path).unwrap()
}

/// Opens the store and touches everything in it. Returns how many changes were found.
fn use_store(path: &Path) -> Result<usize, StoreError> {
    let store = open(path)?;
    let mut count = 0;
    let read = store.read()?;
    for table in Table::ALL {
        read.scan(table, b""..b"\xff\xff", &mut |_, _| {
            count += usize::from(table == Table::Change);
            ControlFlow::Continue(())
        })?;
    }
    drop(read);
    store.write_with(|tx| tx.delete_range(Table::Change, &[0; 8]..&[0, 0, 0, 0, 0, 0, 0, 9]))?;
    Ok(count)
}

#[test]
fn open_store_is_locked_until_it_is_dropped() {
    let (_directory, path) = place();
    let store = open(&path).unwrap();
    let error = open_error(&path);
    assert!(matches!(&error, StoreError::Locked { path: found } if *found == path.display().to_string()), "{error}");
    drop(store);
    open(&path).unwrap();
}

#[test]
fn reader_held_over_a_failed_opening_goes_on() {
    let (_directory, path) = place();
    let store = open(&path).unwrap();
    store.write_with(|tx| tx.put(Table::Change, b"key", b"value")).unwrap();
    let read = store.read().unwrap();
    assert!(matches!(open_error(&path), StoreError::Locked { .. }));
    assert_eq!(read.get(Table::Change, b"key").unwrap().as_deref(), Some(&b"value"[..]));
}

#[test]
fn many_openers_of_a_new_path_make_one_store() {
    for _ in 0..20 {
        let (directory, path) = place();
        let start = Barrier::new(4);
        let won = thread::scope(|scope| {
            let opener = || {
                start.wait();
                match open(&path) {
                    Ok(store) => {
                        store.write_with(|tx| tx.put(Table::Change, b"winner", b"here")).unwrap();
                        1
                    }
                    Err(StoreError::Locked { .. }) => 0,
                    Err(error) => unreachable!("{error}"),
                }
            };
            let openers: Vec<_> = (0..4).map(|_| scope.spawn(opener)).collect();
            openers.into_iter().map(|opener| opener.join().unwrap()).sum::<usize>()
        });
        let store = open(&path).unwrap();
        assert_eq!(store.read().unwrap().contains(Table::Change, b"winner").unwrap(), won > 0);
        assert_eq!(names(&directory), ["store.redb"], "nothing else is left behind");
    }
}

#[test]
fn foreign_files_are_refused_and_left_alone() {
    let noise: Vec<u8> = (0..10_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    for bytes in [&noise[..], b"Dear diary,\n", b"x", b"SQLite format 3\0", &[0; 5_000]] {
        let (directory, path) = place();
        fs::write(&path, bytes).unwrap();
        let error = open_error(&path);
        assert!(matches!(&error, StoreError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains("check the path"), "{error}");
        assert!(fs::read(&path).unwrap() == bytes, "a foreign file is left alone");
        assert_eq!(names(&directory), ["store.redb"]);
    }
}

#[test]
fn database_of_another_program_is_refused_and_left_alone() {
    let (_directory, path) = place();
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(OTHER).unwrap().insert("ada", 7).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let before = fs::read(&path).unwrap();
    let error = open_error(&path);
    assert!(matches!(&error, StoreError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("another program"), "{error}");
    assert!(fs::read(&path).unwrap() == before, "a foreign database is left alone");
}

#[test]
fn directory_is_refused() {
    let directory = TempDir::new().unwrap();
    let error = open_error(directory.path());
    assert!(matches!(&error, StoreError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("directory"), "{error}");
}

#[test]
#[cfg(unix)]
fn socket_is_refused() {
    let (_directory, path) = place();
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(matches!(open_error(&path), StoreError::Foreign { .. }));
}

#[test]
fn missing_directory_is_named() {
    let (directory, _) = place();
    let error = open_error(&directory.path().join("missing").join("store.redb"));
    assert!(matches!(&error, StoreError::Io(error) if error.kind() == std::io::ErrorKind::NotFound), "{error}");
    assert!(error.to_string().contains("missing does not exist: create it first"), "{error}");
    let error = open_error(&directory.path().join("a\0b"));
    assert!(matches!(error, StoreError::Io(_)), "{error}");
}

#[test]
#[cfg(unix)]
fn directory_that_refuses_writes_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, path) = place();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o500)).unwrap();
    // To root every directory is writable: then there is nothing to refuse, and the store is made.
    let outcome = open(&path);
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    if let Err(error) = outcome {
        assert!(error.to_string().contains("check who may write there"), "{error}");
    }
}

#[test]
fn cut_files_are_damaged_at_every_length() {
    for closed in [true, false] {
        let (_directory, path) = place();
        let bytes = filled(&path, closed);
        let spread = (1..=60).map(|part| bytes.len() * part / 61 + part * 37 % 4_096);
        let edges = [1, 8, 9, 10, 319, 320, 511, 512, 513, 4_095, 4_096, 4_097, bytes.len() - 4_096, bytes.len() - 1];
        for length in spread.chain(edges) {
            fs::write(&path, &bytes[..length]).unwrap();
            let error = use_store(&path).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "cut at {length}, closed {closed}: {error}");
        }
        fs::write(&path, &bytes).unwrap();
        assert_eq!(use_store(&path).unwrap(), 300, "the whole file is fine, closed {closed}");
    }
}

#[test]
fn altered_files_never_panic() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |bound: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % bound as u64).unwrap()
    };
    for closed in [true, false] {
        let (_directory, path) = place();
        let bytes = filled(&path, closed);
        let mut refused = 0;
        for trial in 0..60 {
            let mut altered = bytes.clone();
            let page = next(bytes.len() / 4_096) * 4_096;
            match trial % 4 {
                0 => altered[next(320)] ^= 1 << next(8),
                1 => altered[next(bytes.len())] ^= 1 << next(8),
                2 => altered[page..page + 4_096].fill(0),
                _ => altered[page..page + 4_096].fill_with(|| next(256).to_le_bytes()[0]),
            }
            fs::write(&path, &altered).unwrap();
            // Whatever it says, it says it: a page that nobody uses may well be altered unnoticed.
            refused += usize::from(use_store(&path).is_err());
        }
        assert!(refused > 0, "the alterations hit something, closed {closed}");
    }
}

fn set_format(path: &Path, bytes: Option<&[u8]>) {
    drop(open(path).unwrap());
    let database = redb::Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut meta = transaction.open_table(META).unwrap();
    match bytes {
        Some(bytes) => drop(meta.insert(b"format".as_slice(), bytes).unwrap()),
        None => drop(meta.remove(b"format".as_slice()).unwrap()),
    }
    drop(meta);
    transaction.commit().unwrap();
}

#[test]
fn newer_format_is_refused_and_left_alone() {
    let (_directory, path) = place();
    set_format(&path, Some(&(FORMAT_VERSION + 1).to_le_bytes()));
    let before = fs::read(&path).unwrap();
    let error = open_error(&path);
    let expected = FORMAT_VERSION + 1;
    assert!(matches!(error, StoreError::Newer { found, supported: FORMAT_VERSION } if found == expected), "{error}");
    assert!(fs::read(&path).unwrap() == before, "a newer store is left alone");
}

#[test]
fn format_that_cannot_be_is_damage_or_foreign() {
    for bytes in [&[0; 4][..], &[1], &[], &[1, 0, 0, 0, 0]] {
        let (_directory, path) = place();
        set_format(&path, Some(bytes));
        assert!(matches!(open_error(&path), StoreError::Damaged { .. }), "{bytes:?}");
    }
    let (_directory, path) = place();
    set_format(&path, None);
    assert!(matches!(open_error(&path), StoreError::Foreign { .. }));
}

#[test]
fn empty_file_becomes_a_store() {
    let (directory, path) = place();
    fs::write(&path, b"").unwrap();
    assert_eq!(use_store(&path).unwrap(), 0);
    assert_eq!(names(&directory), ["store.redb"]);
}

/// A kill at any moment of the making leaves either no target and something under the temporary name, or both, or the
/// finished target.
#[test]
fn leftover_of_an_interrupted_making_is_taken_over_or_removed() {
    let leftovers = [&b""[..], &[0; 100_000], b"redb\x1a\x0a\xa9\x0d\x0a", &[0xff; 2_000_000]];
    for leftover in leftovers {
        let (directory, path) = place();
        let temporary = directory.path().join("store.redb.rejoin-new");
        fs::write(&temporary, leftover).unwrap();
        assert_eq!(use_store(&path).unwrap(), 0, "a leftover does not hinder the next making");
        assert_eq!(names(&directory), ["store.redb"]);
        fs::write(&temporary, leftover).unwrap();
        open(&path).unwrap();
        assert_eq!(names(&directory), ["store.redb"], "a leftover beside a store is removed");
    }
}

#[test]
fn backend_whose_making_was_interrupted_is_made_again() {
    let (_directory, path) = place();
    drop(open(&path).unwrap());
    let new = fs::read(&path).unwrap();
    let file_backend = || FileBackend::new(fs::File::options().read(true).write(true).open(&path).unwrap()).unwrap();
    let mut without_first_sector = new.clone();
    without_first_sector[..512].fill(0);
    for bytes in [&b""[..], &[0; 9], &[0; 700_000], &without_first_sector] {
        fs::write(&path, bytes).unwrap();
        let store = RedbStore::open_backend(file_backend(), RedbOptions::new()).unwrap();
        store.write_with(|tx| tx.put(Table::Change, b"key", b"value")).unwrap();
        drop(store);
        let store = RedbStore::open_backend(file_backend(), RedbOptions::new()).unwrap();
        assert!(store.read().unwrap().contains(Table::Change, b"key").unwrap());
    }
}

#[test]
fn backend_that_lost_its_header_is_not_made_again() {
    let (_directory, path) = place();
    let mut bytes = filled(&path, true);
    bytes[..512].fill(0);
    fs::write(&path, &bytes).unwrap();
    let backend = FileBackend::new(fs::File::options().read(true).write(true).open(&path).unwrap()).unwrap();
    assert_eq!(backend.len().unwrap(), bytes.len() as u64);
    let error = RedbStore::open_backend(backend, RedbOptions::new()).map(|_| "a store").unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(fs::read(&path).unwrap() == bytes, "what may be rescued is left alone");
}
