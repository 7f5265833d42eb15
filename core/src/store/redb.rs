//! The store on disk: one redb database, in a file or over any [`redb::StorageBackend`].
//!
//! This and the files below it are the only ones that know redb. Every write is one redb transaction that has reached
//! the disk when it returns, as pages or in the journal (`redb/journal.rs`); every read is one of its snapshots. How a
//! store comes into being, so that no crash leaves half of one, is in `redb/create.rs`; what stands in the tables is in
//! `core/docs/storage.md`.
//!
//! redb verifies its checksums only when it recovers. A page that was altered on the disk after a clean close makes it
//! panic where it stumbles over it, so every call into it is contained and reports [`StoreError::Damaged`] instead.

use std::cell::OnceCell;
use std::fs::{File, OpenOptions};
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};

use redb::backends::FileBackend;
use redb::{Builder, Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction};

use super::{FORMAT_KEY, FORMAT_VERSION, ReadTx, Store, StoreError, Table, Visitor, WriteTx};

mod create;
mod error;
mod journal;
mod recovery;
mod scrub;
mod source;

use error::{contained, open_error, storage_error, table_error};
use journal::{Journal, Record};
use recovery::{put_generation, recover};
use source::{Direct, Overlay, Source};

/// How a [`RedbStore`] is opened.
///
/// ```
/// use rejoin::store::RedbOptions;
///
/// let relay = RedbOptions::new().cache_bytes(256 << 20).quick_repair(true);
/// # let _ = relay;
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct RedbOptions {
    cache_bytes: usize,
    quick_repair: bool,
    journal: bool,
}

impl RedbOptions {
    /// How much of the file is kept in memory unless an option says otherwise: 64 MiB.
    ///
    /// redb's own default is 1 GiB, more than a phone has to spare. 64 MiB hold the inner pages of a store of several
    /// gigabytes: a branch page of 4 KiB names some 50 pages below it.
    pub const CACHE_BYTES_DEFAULT: usize = 64 << 20;

    /// The options of a device: a cache of [`RedbOptions::CACHE_BYTES_DEFAULT`], no quick repair, no journal.
    pub fn new() -> Self {
        Self { cache_bytes: Self::CACHE_BYTES_DEFAULT, quick_repair: false, journal: false }
    }

    /// Sets how many bytes of the file may be kept in memory. Default: [`RedbOptions::CACHE_BYTES_DEFAULT`].
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Sets whether a store opens at once after a crash, whatever its size. Default: `false`.
    ///
    /// Every commit then writes down which pages are free, and syncs twice (two-phase commit, which redb also asks for
    /// where strangers choose the values): right for a relay, which commits in batches. Without it a commit is about
    /// half as expensive, and opening after a crash reads the whole file: half a second for a million small records.
    pub fn quick_repair(mut self, on: bool) -> Self {
        self.quick_repair = on;
        self
    }

    /// Sets whether small writes are brought to the disk by a journal beside the store's file. Default: `false`.
    ///
    /// A write is as durable with it, and takes a third of the time: one record is appended and synced, instead of all pages that
    /// changed. They are written once the journal has [`JOURNAL_BYTES_MAX`](crate::limits::JOURNAL_BYTES_MAX) bytes, and when
    /// the store is closed. Until then the store is two files: a copy of the first alone lacks the last writes. The second has
    /// `.rejoin-journal` behind the name of the first, and is gone when the store is closed. A store that was not closed takes
    /// in what stands there when it is opened, with this option or without it.
    pub fn journal(mut self, on: bool) -> Self {
        self.journal = on;
        self
    }

    fn builder(&self) -> Builder {
        let mut builder = Builder::new();
        builder.set_cache_size(self.cache_bytes);
        builder
    }
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Keeps everything in one redb database.
///
/// A write must not start another write from within: there is one writer at a time, so it would wait for itself.
///
/// # A disk that fails
///
/// When the disk is full, or refuses writes for another reason, the write that met it returns [`StoreError::Full`],
/// [`StoreError::ReadOnly`] or [`StoreError::Io`], and nothing of it is promised. Reads that were under way fail with
/// [`StoreError::Interrupted`]; new ones see every acknowledged write, for as long as the file can be read. Each further
/// write first tries whether the disk takes writes again, and then goes on as if nothing had been.
///
/// When a *commit* fails, law 1 is weaker than it reads: the transaction is there as a whole or not at all. Which it
/// is shows only when the disk takes writes again: until then nobody reads what may be lost.
#[derive(Debug)]
pub struct RedbStore {
    opened: RwLock<Opened>,
    /// Held for as long as a write lasts, so that the database is not exchanged under it.
    writer: Mutex<()>,
    /// Databases whose file was exchanged, for those who still read in them.
    retired: Mutex<Vec<Retired>>,
    /// `None` for a backend without one. Locked for a moment, and after `opened` if both are.
    journal: Mutex<Option<Journal>>,
    options: RedbOptions,
    name: String,
    /// The file, if it is one and may be exchanged.
    path: Option<PathBuf>,
}

/// The database that is open now.
#[derive(Debug)]
struct Opened {
    source: Arc<Source>,
    /// What readers share until the next commit: to begin a read, and to open its tables, costs more than most reads.
    ///
    /// A reader makes it under the lock, and a commit takes it away under the lock before it returns. So whoever reads
    /// after a write has returned sees that write.
    snapshot: Mutex<Option<Arc<Snapshot>>>,
    /// `None` when opening it again has failed.
    database: Closing,
    /// Shared with every reader in it.
    readers: Arc<()>,
    /// It is over an overlay: what it writes is lost.
    read_only: bool,
    /// Set at the first operation of the file that fails: redb refuses all others from then on. Each database has its
    /// own, so that a late reader of an older one does no harm.
    broken: Arc<AtomicBool>,
}

/// A database that is closed as it is called into: redb then writes down which pages are free, and panics where a damaged page
/// says what cannot be.
#[derive(Debug)]
struct Closing(Option<Database>);

impl Drop for Closing {
    fn drop(&mut self) {
        let database = self.0.take();
        // Whoever opens the file again is told that it is damaged; there is nobody to tell now but the log, which was told.
        let _ = contained(|| {
            drop(database);
            Ok(())
        });
    }
}

/// A database that is read in to the end and takes no new readers.
#[derive(Debug)]
struct Retired {
    readers: Weak<()>,
    _database: Closing,
}

impl Opened {
    fn new(source: Arc<Source>, database: Option<Database>, read_only: bool) -> Self {
        let (readers, broken, snapshot) = Default::default();
        Self { source, snapshot, database: Closing(database), readers, read_only, broken }
    }

    fn snapshot(&self) -> MutexGuard<'_, Option<Arc<Snapshot>>> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usable(&self) -> Option<&Database> {
        self.database.0.as_ref().filter(|_| !self.broken.load(Ordering::Acquire))
    }
}

impl RedbStore {
    /// Opens the store in a file, and makes it if there is none (or an empty file) at that path.
    ///
    /// The file is locked for as long as the store lives. A store that was not closed is recovered.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] if somebody has it open, [`StoreError::Foreign`] if the file is something else,
    /// [`StoreError::Newer`] if a newer version wrote it, [`StoreError::Damaged`] if it was cut or altered,
    /// [`StoreError::Io`] if the directory is missing or the operating system refuses. A foreign or newer file that was
    /// closed in good order stays as it is to the byte.
    pub fn open(path: impl AsRef<Path>, options: RedbOptions) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        create::prepare_file(path)?;
        // A look without the right to write comes first, so that another program's database stays as it is to the byte.
        // It is refused for a store that was not closed: that one must be recovered before anything can be read.
        contained(|| match options.builder().open_read_only(path) {
            Ok(database) => check_format(&database, &name),
            Err(redb::DatabaseError::RepairAborted) => Ok(()),
            Err(error) => Err(open_error(error, &name)),
        })?;
        let file =
            OpenOptions::new().read(true).write(true).open(path).map_err(|error| error::file_error(error, path))?;
        let backend = FileBackend::new(file).map_err(|error| open_error(error, &name))?;
        let path = path.canonicalize().map_err(|error| error::file_error(error, path))?;
        let mut store = Self::open_source(Source::new(backend, true), Some(Journal::beside(&path)), options, name)?;
        store.path = Some(path);
        store.scrub_if_due();
        Ok(store)
    }

    /// Opens the store in a file for reading alone: the file is not written to, not even to recover it, so it may stand
    /// where nothing can be written. It is shared with others that only read it. Writes return [`StoreError::ReadOnly`].
    ///
    /// Recovering a store that was not closed takes memory: a few percent of the file.
    ///
    /// # Errors
    ///
    /// As [`RedbStore::open`]; a file that is not there is not made.
    pub fn open_read_only(path: impl AsRef<Path>, options: RedbOptions) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        create::check_file(path)?;
        let file = File::open(path).map_err(|error| error::file_error(error, path))?;
        let backend = FileBackend::new(file).map_err(|error| open_error(error, &name))?;
        let path = path.canonicalize().map_err(|error| error::file_error(error, path))?;
        Self::open_source(Source::new(backend, false), Some(Journal::beside(&path)), options, name)
    }

    /// Opens the store in a backend of the caller's, and makes it if the backend is empty. One that had a journal when it was open and
    /// was not closed needs it again ([`RedbStore::open_backends`]): its last writes are nowhere else.
    ///
    /// A backend that begins with zeros and is not longer than a new store is one whose making was interrupted: nothing
    /// was ever written to it, so it is made again.
    ///
    /// # Errors
    ///
    /// As [`RedbStore::open`].
    pub fn open_backend(backend: impl redb::StorageBackend, options: RedbOptions) -> Result<Self, StoreError> {
        create::prepare_backend(&backend, BACKEND_NAME)?;
        Self::open_source(Source::new(backend, true), None, options, BACKEND_NAME.to_owned())
    }

    /// Opens the store in two backends of the caller's: the second is for the journal ([`RedbOptions::journal`]). Both belong to
    /// the store alone, and are given again when it is opened again.
    ///
    /// # Errors
    ///
    /// As [`RedbStore::open`].
    pub fn open_backends(
        backend: impl redb::StorageBackend,
        journal: impl redb::StorageBackend,
        options: RedbOptions,
    ) -> Result<Self, StoreError> {
        create::prepare_backend(&backend, BACKEND_NAME)?;
        let (source, journal) = (Source::new(backend, true), Journal::in_backend(journal));
        Self::open_source(source, Some(journal), options, BACKEND_NAME.to_owned())
    }

    fn open_source(
        source: Arc<Source>,
        mut journal: Option<Journal>,
        options: RedbOptions,
        name: String,
    ) -> Result<Self, StoreError> {
        let mut read_only = !source.is_writable();
        let database = match open_database(&source, journal.as_mut(), &options, &name, read_only) {
            // What the journal has may need room that there is not. It can be read all the same.
            Err(StoreError::Full(error)) if !read_only => {
                tracing::error!(store = %name, %error, "the disk is full: the store is opened for reading, until a write finds room");
                read_only = true;
                open_database(&source, journal.as_mut(), &options, &name, read_only)
            }
            outcome => outcome,
        }?;
        let opened = RwLock::new(Opened::new(source, Some(database), read_only));
        let (writer, retired) = (Mutex::default(), Mutex::default());
        Ok(Self { opened, writer, retired, journal: Mutex::new(journal), options, name, path: None })
    }

    fn journal(&self) -> MutexGuard<'_, Option<Journal>> {
        // It is whole at every moment: what is written last is counted last.
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a read in the database that is open, or returns `None` if it is of no use any more.
    fn try_read(&self) -> Option<Result<Reading, StoreError>> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        let database = opened.usable()?;
        let mut shared = opened.snapshot();
        if let Some(snapshot) = &*shared {
            return Some(Ok(Reading(Arc::clone(snapshot))));
        }
        let broken = Arc::clone(&opened.broken);
        let begun = watched(&broken, || database.begin_read().map_err(error::transaction_error));
        let readers = Arc::clone(&opened.readers);
        Some(begun.map(|transaction| {
            let snapshot = Snapshot { transaction, tables: Default::default(), broken, _reader: readers };
            Reading(Arc::clone(shared.insert(Arc::new(snapshot))))
        }))
    }

    /// Puts a new database in the place of one that is of no use any more. Readers of the old one fail.
    fn reopen(&self, read_only: bool) -> Result<(), StoreError> {
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        if opened.usable().is_some() && (read_only || !opened.read_only) {
            // Somebody else was first.
            return Ok(());
        }
        // The old one must be gone before the new one opens the same file.
        opened.database = Closing(None);
        *opened.snapshot() = None;
        let source = Arc::clone(&opened.source);
        let database = open_database(&source, self.journal().as_mut(), &self.options, &self.name, read_only)?;
        *opened = Opened::new(source, Some(database), read_only);
        tracing::warn!(store = %self.name, read_only, "opened the store again after its disk failed");
        Ok(())
    }

    /// Begins a write, after opening the database again if need be. The caller holds the writer's turn.
    fn begin_write(&self) -> Result<(WriteTransaction, Arc<AtomicBool>), StoreError> {
        self.drop_retired();
        let (source, fit) = {
            let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
            (Arc::clone(&opened.source), !opened.read_only && opened.usable().is_some())
        };
        if !source.is_writable() {
            return Err(StoreError::ReadOnly { detail: "it was opened for reading only".to_owned() });
        }
        if !fit {
            source.rewrite_unsynced().map_err(error::io_error)?;
            self.reopen(false)?;
        }
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        let database = opened.usable().ok_or(StoreError::Interrupted)?;
        let broken = Arc::clone(&opened.broken);
        let transaction = watched(&broken, || database.begin_write().map_err(error::transaction_error))?;
        Ok((transaction, broken))
    }

    /// Brings a transaction to the disk, and then makes it visible.
    fn finish(
        &self,
        mut transaction: WriteTransaction,
        broken: &AtomicBool,
        record: Option<Record>,
    ) -> Result<(), StoreError> {
        // Kept until the record counts: who opens the database again meanwhile waits, and takes it in.
        let mut guard = self.journal();
        if let (Some(journal), Some(mut record)) = (&mut *guard, record) {
            match journal.append(&mut record) {
                Ok(true) => {
                    let committed = set_durability(&mut transaction, Durability::None)
                        .and_then(|()| watched(broken, || transaction.commit().map_err(error::commit_error)));
                    match committed {
                        Ok(()) => journal.advance(&record),
                        Err(_) => journal.pause(),
                    }
                    return committed;
                }
                Ok(false) => {}
                Err(error) => {
                    roll_back(transaction, broken);
                    return Err(error);
                }
            }
        }
        drop(guard);
        self.commit(transaction, broken)
    }

    /// Commits to the disk, and with it all that is in the journal alone: a checkpoint.
    fn commit(&self, mut transaction: WriteTransaction, broken: &AtomicBool) -> Result<(), StoreError> {
        let begins = self.journal().as_mut().filter(|_| self.options.journal).map(Journal::pause);
        let committed = set_durability(&mut transaction, Durability::Immediate).and_then(|()| {
            transaction.set_quick_repair(self.options.quick_repair);
            let generation = begins.map(|()| journal::new_generation()).transpose()?;
            watched(broken, || {
                generation.iter().try_for_each(|generation| put_generation(&transaction, generation))?;
                transaction.commit().map_err(error::commit_error)
            })?;
            Ok(generation)
        });
        committed.map(|generation| {
            if let (Some(journal), Some(generation)) = (&mut *self.journal(), generation) {
                journal.begin(generation);
            }
        })
    }

    /// Brings what is in the journal alone to the disk, and removes the journal. What cannot be brought there is taken in when the
    /// store is opened again.
    fn close_journal(&self) {
        if !self.journal().as_ref().is_some_and(Journal::has_records) {
            if let Some(journal) = self.journal().as_mut().filter(|journal| journal.is_ready()) {
                journal.discard();
            }
            return;
        }
        let is_fit = {
            let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
            !opened.read_only && opened.usable().is_some()
        };
        let committed = is_fit.then(|| {
            let (transaction, broken) = self.begin_write()?;
            self.commit(transaction, &broken)
        });
        match (committed, &mut *self.journal()) {
            (Some(Ok(())), Some(journal)) => journal.discard(),
            (Some(Err(error)), _) => tracing::warn!(store = %self.name, %error, "failed to empty the store's journal"),
            _ => {}
        }
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        self.close_journal();
    }
}

/// Takes a transaction back. What it failed for says why; an error here would hide that.
fn roll_back(transaction: WriteTransaction, broken: &AtomicBool) {
    if let Err(error) = watched(broken, || transaction.abort().map_err(storage_error)) {
        tracing::warn!(%error, "failed to roll a transaction back");
    }
}

fn set_durability(transaction: &mut WriteTransaction, durability: Durability) -> Result<(), StoreError> {
    transaction.set_durability(durability).map_err(|error| StoreError::Engine(error.to_string()))
}

/// What a store in a backend is called in errors.
const BACKEND_NAME: &str = "of this backend";

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// How often a read opens the database again that writes break: 16 times. Each takes a write that fails at that moment.
const REOPENS_MAX: usize = 16;

/// Opens the database in a source: to be written, or over an overlay that leaves the source as it is.
fn open_database(
    source: &Arc<Source>,
    journal: Option<&mut Journal>,
    options: &RedbOptions,
    name: &str,
    read_only: bool,
) -> Result<Database, StoreError> {
    let database = contained(|| {
        let builder = options.builder();
        let database = if read_only {
            builder.create_with_backend(Overlay::new(Arc::clone(source)).map_err(error::io_error)?)
        } else {
            builder.create_with_backend(Direct(Arc::clone(source)))
        };
        let database = database.map_err(|error| open_error(error, name))?;
        check_format(&database, name)?;
        Ok(database)
    })?;
    if let Some(journal) = journal {
        recover(&database, journal, options, name, read_only)?;
    }
    Ok(database)
}

/// Calls into redb, and notes when it is of no use any more.
fn watched<T>(broken: &AtomicBool, call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    contained(call).inspect_err(|error| {
        if matches!(
            error,
            StoreError::Io(_) | StoreError::Full(_) | StoreError::ReadOnly { .. } | StoreError::Interrupted
        ) {
            broken.store(true, Ordering::Release);
        }
    })
}

impl Store for RedbStore {
    fn read(&self) -> Result<Box<dyn ReadTx + '_>, StoreError> {
        let mut outcome = self.try_read();
        for _ in 0..REOPENS_MAX {
            if let Some(Ok(_)) = outcome {
                break;
            }
            // Without writing: whether that works again, only a write has to know. One that finds out that it does not takes
            // the database away again that was opened here.
            self.reopen(true)?;
            outcome = self.try_read();
        }
        Ok(Box::new(outcome.unwrap_or(Err(StoreError::Interrupted))?))
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn WriteTx) -> Result<(), StoreError>) -> Result<(), StoreError> {
        // A work that panicked left nothing half done: its transaction is taken back.
        let _turn = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (transaction, broken) = self.begin_write()?;
        let record = self.journal().as_ref().filter(|journal| journal.is_ready()).map(|_| Record::new());
        let mut writing = Writing::new(&transaction, Arc::clone(&broken), record);
        let outcome = work(&mut writing);
        let record = writing.into_record();
        if let Err(error) = outcome {
            roll_back(transaction, &broken);
            return Err(error);
        }
        let committed = self.finish(transaction, &broken, record);
        // Even if it failed: it may be there.
        *self.opened.read().unwrap_or_else(PoisonError::into_inner).snapshot() = None;
        committed
    }

    fn size_bytes(&self) -> Result<Option<u64>, StoreError> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        let journal = self.journal().as_ref().map_or(0, Journal::len) as u64;
        opened.source.len().map(|len| Some(len + journal)).map_err(error::io_error)
    }

    fn scrub(&self) -> Result<bool, StoreError> {
        self.exchange_file()
    }
}

type Definition = redb::TableDefinition<'static, &'static [u8], &'static [u8]>;
type ReadTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;
type WriteTable<'txn> = redb::Table<'txn, &'static [u8], &'static [u8]>;

const fn definition(table: Table) -> Definition {
    Definition::new(table.name())
}

/// One committed state, for all who read it.
#[derive(Debug)]
struct Snapshot {
    transaction: ReadTransaction,
    /// Each table is opened when it is first asked for, and once: opening is a lookup of its own. `None` inside is a
    /// table that the file has not, because an older version made the file: it reads as empty.
    tables: [OnceLock<Option<ReadTable>>; Table::ALL.len()],
    broken: Arc<AtomicBool>,
    /// Keeps the database open after its file was exchanged.
    _reader: Arc<()>,
}

struct Reading(Arc<Snapshot>);

impl Snapshot {
    fn table(&self, table: Table) -> Result<Option<&ReadTable>, StoreError> {
        let cell = &self.tables[table.index()];
        if let Some(opened) = cell.get() {
            return Ok(opened.as_ref());
        }
        let opened = watched(&self.broken, || match self.transaction.open_table(definition(table)) {
            Ok(opened) => Ok(Some(opened)),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(table_error(error)),
        })?;
        Ok(cell.get_or_init(|| opened).as_ref())
    }
}

impl ReadTx for Reading {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.table(table)?.map_or(Ok(None), |table| get(&self.0.broken, table, key))
    }

    fn scan(&self, table: Table, range: Range<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        self.0.table(table)?.map_or(Ok(()), |table| scan(&self.0.broken, table, range, visit))
    }

    fn contains(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        self.0.table(table)?.map_or(Ok(false), |table| contains(&self.0.broken, table, key))
    }
}

struct Writing<'txn> {
    transaction: &'txn WriteTransaction,
    /// Opened when first asked for; redb makes a table that is not there.
    tables: [OnceCell<WriteTable<'txn>>; Table::ALL.len()],
    broken: Arc<AtomicBool>,
    /// What goes into the journal, if that is where it goes.
    record: Option<Record>,
}

impl<'txn> Writing<'txn> {
    fn new(transaction: &'txn WriteTransaction, broken: Arc<AtomicBool>, record: Option<Record>) -> Self {
        Self { transaction, tables: Default::default(), broken, record }
    }

    /// Ends it: the tables are closed.
    fn into_record(self) -> Option<Record> {
        self.record
    }

    fn table(&self, table: Table) -> Result<&WriteTable<'txn>, StoreError> {
        let cell = &self.tables[table.index()];
        if let Some(opened) = cell.get() {
            return Ok(opened);
        }
        let opened = watched(&self.broken, || self.transaction.open_table(definition(table)).map_err(table_error))?;
        Ok(cell.get_or_init(|| opened))
    }

    fn table_mut(&mut self, table: Table) -> Result<&mut WriteTable<'txn>, StoreError> {
        self.table(table)?;
        Ok(self.tables[table.index()].get_mut().expect("the line above opened it"))
    }
}

impl ReadTx for Writing<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        get(&self.broken, self.table(table)?, key)
    }

    fn scan(&self, table: Table, range: Range<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        scan(&self.broken, self.table(table)?, range, visit)
    }

    fn contains(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        contains(&self.broken, self.table(table)?, key)
    }
}

impl WriteTx for Writing<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let broken = Arc::clone(&self.broken);
        // What format the file has, the file says: an older version looks for it nowhere else.
        if table == Table::Meta && key == FORMAT_KEY {
            self.record = None;
        }
        if let Some(record) = &mut self.record {
            record.put(table, key, value);
        }
        let table = self.table_mut(table)?;
        watched(&broken, || table.insert(key, value).map(drop).map_err(storage_error))
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        let broken = Arc::clone(&self.broken);
        if let Some(record) = &mut self.record {
            record.delete(table, key);
        }
        let table = self.table_mut(table)?;
        watched(&broken, || table.remove(key).map(drop).map_err(storage_error))
    }

    fn delete_range(&mut self, table: Table, range: Range<&[u8]>) -> Result<(), StoreError> {
        if range.start >= range.end {
            return Ok(());
        }
        let broken = Arc::clone(&self.broken);
        if let Some(record) = &mut self.record {
            record.delete_range(table, range.start, range.end);
        }
        let table = self.table_mut(table)?;
        watched(&broken, || table.retain_in(range, |_, _| false).map_err(storage_error))
    }
}

fn get(
    broken: &AtomicBool,
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<Option<Vec<u8>>, StoreError> {
    watched(broken, || Ok(table.get(key).map_err(storage_error)?.map(|value| value.value().to_vec())))
}

fn contains(
    broken: &AtomicBool,
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<bool, StoreError> {
    // The guard lends the page's bytes: nothing is copied.
    watched(broken, || Ok(table.get(key).map_err(storage_error)?.is_some()))
}

fn scan(
    broken: &AtomicBool,
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    range: Range<&[u8]>,
    visit: &mut Visitor<'_>,
) -> Result<(), StoreError> {
    // To begin a range costs as much as a look-up, even in an empty table, and many a table is. Cost otherwise: a look at the root.
    if range.start >= range.end || watched(broken, || table.is_empty().map_err(storage_error))? {
        return Ok(());
    }
    // Damaged pages lead anywhere: back to where one came from, or out of the range. Who goes on behind the last key it was shown
    // would never end, so law 5 is held to here. Cost: one comparison and a short copy a row.
    let mut last = range.start.to_vec();
    let mut is_first = true;
    let mut pairs = watched(broken, || table.range(range).map_err(storage_error))?;
    // Only redb's part is contained: a panic of the visitor is the caller's own and goes back to it.
    while let Some((key, value)) = watched(broken, || pairs.next().transpose().map_err(storage_error))? {
        let (key, value) = watched(broken, || Ok((key.value(), value.value())))?;
        if key < last.as_slice() || (key == last && !is_first) {
            return Err(StoreError::Damaged { what: "the order of a table" });
        }
        is_first = false;
        last.clear();
        last.extend_from_slice(key);
        if visit(key, value) == ControlFlow::Break(()) {
            break;
        }
    }
    Ok(())
}

/// Refuses a database that is not ours, or newer than we are.
fn check_format(database: &impl ReadableDatabase, name: &str) -> Result<(), StoreError> {
    let foreign =
        || StoreError::Foreign { path: name.to_owned(), detail: "a redb database of another program".to_owned() };
    let transaction = database.begin_read().map_err(error::transaction_error)?;
    let meta = match transaction.open_table(definition(Table::Meta)) {
        Ok(meta) => meta,
        Err(redb::TableError::Storage(error)) => return Err(storage_error(error)),
        Err(_) => return Err(foreign()),
    };
    let bytes = get(&AtomicBool::new(false), &meta, FORMAT_KEY)?.ok_or_else(foreign)?;
    let found =
        bytes.try_into().map(u32::from_le_bytes).map_err(|_| StoreError::Damaged { what: "the format version" })?;
    match found {
        0 => Err(StoreError::Damaged { what: "the format version" }),
        // An older one is for `crate::migrate`, which needs the store open.
        1..=FORMAT_VERSION => Ok(()),
        _ => Err(StoreError::Newer { found, supported: FORMAT_VERSION }),
    }
}
