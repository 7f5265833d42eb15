//! How a store comes into being: whole, or not at all.
//!
//! redb writes a new database in several steps, and a crash between them leaves a file that it refuses ever after. So a
//! new store is made in memory, with its tables and its format version, and the finished image is put down: everything
//! but the first sector, sync, the first sector, sync. An interrupted making therefore always begins with zeros.
//!
//! A file is moreover written under a temporary name beside the target and renamed over it. What a crash leaves behind
//! under that name is taken over by the next making, or removed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::ops::Bound;
#[cfg(unix)]
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use redb::StorageBackend;
use redb::backends::{FileBackend, InMemoryBackend};

use super::super::{FORMAT_KEY, FORMAT_VERSION, StoreError, Table};
use super::{definition, error, with_suffix};

/// What every redb database begins with.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

/// The first sector, which makes an image valid: written last. Disks write sectors of 512 bytes whole or not at all,
/// and redb's header has 320.
const SECTOR_BYTES: usize = 512;

/// What is added to a store's file name while it is made.
const TEMPORARY_SUFFIX: &str = ".rejoin-new";

/// Sees to it that the path holds something that begins as a redb database, making a store if nothing is there.
pub(super) fn prepare_file(path: &Path) -> Result<(), StoreError> {
    let temporary = with_suffix(path, TEMPORARY_SUFFIX);
    if is_vacant(path)? {
        return make_file(path, &temporary);
    }
    remove_leftover(&temporary);
    check_beginning(path)
}

/// Checks that the path holds something that begins as a redb database. Writes nothing.
pub(super) fn check_file(path: &Path) -> Result<(), StoreError> {
    if is_vacant(path)? {
        let text = format!("failed to open {}: there is no store", path.display());
        return Err(StoreError::Io(io::Error::new(io::ErrorKind::NotFound, text)));
    }
    check_beginning(path)
}

fn check_beginning(path: &Path) -> Result<(), StoreError> {
    let mut start = Vec::with_capacity(SECTOR_BYTES);
    File::open(path)
        .and_then(|file| file.take(SECTOR_BYTES as u64).read_to_end(&mut start))
        .map_err(|error| with_path(error, "open", path))?;
    check_start(&start, &path.display().to_string())
}

/// Sees to it that the backend holds something that begins as a redb database, making a store if it is empty.
pub(super) fn prepare_backend(backend: &impl StorageBackend, name: &str) -> Result<(), StoreError> {
    let len = backend.len()?;
    let mut start = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(SECTOR_BYTES)];
    backend.read(0, &mut start)?;
    if start.iter().any(|byte| *byte != 0) {
        return check_start(&start, name);
    }
    let image = image()?;
    if len > image.len() as u64 {
        return Err(StoreError::Damaged { what: "the header of the file" });
    }
    // A backend without locks cannot be shared, so there is nobody to keep out.
    let everything = (Bound::Unbounded, Bound::Unbounded);
    match backend.try_lock_range(everything.0, everything.1) {
        Ok(true) => {}
        Ok(false) => return Err(StoreError::Locked { path: name.to_owned() }),
        Err(redb::BackendError::Unsupported) => return put_image(backend, &image),
        Err(error) => return Err(StoreError::Io(error.into())),
    }
    let outcome = put_image(backend, &image);
    backend.unlock_range(everything.0, everything.1).map_err(|error| StoreError::Io(error.into()))?;
    outcome
}

/// Says whether there is nothing at the path yet, or an empty file.
fn is_vacant(path: &Path) -> Result<bool, StoreError> {
    let foreign = |detail: &str| StoreError::Foreign { path: path.display().to_string(), detail: detail.to_owned() };
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(foreign("it is a directory, and a store is one file")),
        // Opening a pipe would wait for ever.
        Ok(found) if !found.is_file() => Err(foreign("it is no regular file")),
        Ok(found) => Ok(found.len() == 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(with_path(error, "open", path)),
    }
}

/// Makes a store under the temporary name and renames it into place.
fn make_file(path: &Path, temporary: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    // What is in it is its owner's alone. Whoever shares the file with others says so by its permissions, which it keeps.
    #[cfg(unix)]
    options.mode(0o600);
    let file = options.open(temporary).map_err(|error| explain_create_error(error, path))?;
    // The lock is on the file that is renamed, so whoever holds it and still sees no target is alone. Another one that
    // opened the temporary file before the rename gets the lock after it, and then finds the target there.
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path: path.display().to_string() }),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(TryLockError::Error(error)) => return Err(with_path(error, "lock", temporary)),
    }
    if !is_vacant(path)? {
        remove_leftover(temporary);
        return Ok(());
    }
    let backend = FileBackend::new(file).map_err(|error| error::open_error(error, &path.display().to_string()))?;
    put_image(&backend, &image()?)?;
    fs::rename(temporary, path).map_err(|error| with_path(error, "rename into place", path))?;
    sync_directory(path)
}

/// Removes what an interrupted making left under the temporary name, now that the target is there.
pub(super) fn remove_leftover(temporary: &Path) {
    if let Err(error) = fs::remove_file(temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        // A store that can be opened should be: the leftover takes space, nothing else.
        tracing::warn!(path = %temporary.display(), %error, "failed to remove what an interrupted making left");
    }
}

/// Puts a finished store down, in an order that leaves zeros at the beginning until all the rest is on the disk.
fn put_image(backend: &impl StorageBackend, image: &[u8]) -> Result<(), StoreError> {
    let (first, rest) = image.split_at_checked(SECTOR_BYTES).ok_or(StoreError::Damaged { what: "a new store" })?;
    backend.set_len(0)?;
    backend.set_len(image.len() as u64)?;
    backend.write(SECTOR_BYTES as u64, rest)?;
    backend.sync_data()?;
    backend.write(0, first)?;
    backend.sync_data()?;
    Ok(())
}

/// The bytes of a new store: every table, empty but for the format version. About 1 MB, nearly all zeros.
fn image() -> Result<Vec<u8>, StoreError> {
    let memory = Arc::new(InMemoryBackend::new());
    let database = redb::Builder::new()
        .create_with_backend(SharedBackend(Arc::clone(&memory)))
        .map_err(|error| error::open_error(error, "a new store"))?;
    let transaction = database.begin_write().map_err(error::transaction_error)?;
    for table in Table::ALL {
        let mut table_of_file = transaction.open_table(definition(table)).map_err(error::table_error)?;
        if table == Table::Meta {
            let format = FORMAT_VERSION.to_le_bytes();
            table_of_file.insert(FORMAT_KEY, format.as_slice()).map(drop).map_err(error::storage_error)?;
        }
    }
    transaction.commit().map_err(error::commit_error)?;
    // Closing writes down that nothing is under way.
    drop(database);
    let len = memory.len()?;
    let mut image = vec![0; usize::try_from(len).map_err(|_| StoreError::Damaged { what: "a new store" })?];
    memory.read(0, &mut image)?;
    Ok(image)
}

/// Tells a redb database from anything else by its first bytes.
fn check_start(start: &[u8], name: &str) -> Result<(), StoreError> {
    if start.len() >= SECTOR_BYTES && start.starts_with(&MAGIC) {
        return Ok(());
    }
    if start.starts_with(&MAGIC) || MAGIC.starts_with(start) {
        return Err(StoreError::Damaged { what: "the header of the file, which was cut off," });
    }
    let detail = "it does not begin as a redb database does".to_owned();
    Err(StoreError::Foreign { path: name.to_owned(), detail })
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes the rename itself survive a power loss. Only Unix lets a program sync a directory, and needs it.
pub(super) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    if cfg!(unix) {
        let parent = parent(path);
        File::open(parent)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| with_path(error, "sync the directory", parent))?;
    }
    Ok(())
}

fn explain_create_error(error: io::Error, path: &Path) -> StoreError {
    let parent = parent(path);
    let text = match error.kind() {
        io::ErrorKind::NotFound => format!("the directory {} does not exist: create it first", parent.display()),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            format!("a store cannot be made in {} ({error}): check who may write there", parent.display())
        }
        _ => return with_path(error, "create", path),
    };
    StoreError::Io(io::Error::new(error.kind(), text))
}

fn with_path(error: io::Error, verb: &str, path: &Path) -> StoreError {
    StoreError::Io(io::Error::new(error.kind(), format!("failed to {verb} {}: {error}", path.display())))
}

/// Memory that is still there when redb is done with it.
#[derive(Debug)]
struct SharedBackend(Arc<InMemoryBackend>);

impl StorageBackend for SharedBackend {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write(offset, data)
    }
}
