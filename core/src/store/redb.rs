//! The store on disk: one redb database, in a file or over any [`redb::StorageBackend`].
//!
//! This and the files below it are the only ones that know redb. Every write has reached the disk when it returns: as pages, by a
//! transaction of redb's, or in the journal (`redb/journal.rs`), and then its rows stand in memory in front of the database until a
//! transaction brings them there. Every read is a snapshot of both (`redb/view.rs`). How a store comes into being, so that no
//! crash leaves half of one, is in `redb/create.rs`; what stands in the tables is in `core/docs/storage.md`.
//!
//! redb verifies its checksums only when it recovers. A page that was altered on the disk after a clean close makes it
//! panic where it stumbles over it, so every call into it is contained and reports [`StoreError::Damaged`] instead.

use std::cell::OnceCell;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use redb::backends::FileBackend;
use redb::{Builder, Database, Durability, ReadableDatabase, WriteTransaction};

use super::delta::Delta;
use super::{FORMAT_KEY, FORMAT_VERSION, ReadTx, Store, StoreError, Table, WriteTx};
use crate::limits::JOURNAL_MEMORY_BYTES_MAX;

mod create;
mod error;
mod journal;
mod recovery;
mod scrub;
mod source;
mod view;
mod writing;

use error::{contained, open_error, storage_error};
use journal::{Journal, Record};
use recovery::{put_generation, recover};
use source::{Direct, Overlay, Source};
use view::{Layers, Reading, Snapshot, View, get};
use writing::{Transaction, Writing};

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
    /// changed. Its rows are kept in memory, and go into the database once the journal has [`JOURNAL_BYTES_MAX`](crate::limits::JOURNAL_BYTES_MAX) bytes, and when
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
    /// The file was exchanged, and the disk may not know the new one by its name yet.
    is_name_unsynced: AtomicBool,
}

/// The database that is open now.
#[derive(Debug)]
struct Opened {
    source: Arc<Source>,
    /// A commit changes it under the lock before it returns, so whoever reads after a write has returned sees that write.
    visible: Mutex<Visible>,
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

/// What readers see.
#[derive(Debug, Default)]
struct Visible {
    /// What is in the journal alone, in front of the database. Empty for a store without a journal.
    layers: Layers,
    /// What the database has. Made by the first reader, and kept until the database has something else: to begin a read and to open its
    /// tables costs more than most reads.
    snapshot: Option<Arc<Snapshot>>,
    /// Both, for all readers until the next commit.
    view: Option<Arc<View>>,
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
        let (readers, broken, visible) = Default::default();
        Self { source, visible, database: Closing(database), readers, read_only, broken }
    }

    fn visible(&self) -> MutexGuard<'_, Visible> {
        // What is done under the lock calls nothing that panics but redb, and that is contained.
        self.visible.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what readers see now, or `None` if the database is of no use any more.
    fn view(&self) -> Option<Result<Arc<View>, StoreError>> {
        let mut visible = self.visible();
        if self.usable().is_some()
            && let Some(view) = &visible.view
        {
            return Some(Ok(Arc::clone(view)));
        }
        let snapshot = match self.snapshot(&mut visible)? {
            Ok(snapshot) => snapshot,
            Err(error) => return Some(Err(error)),
        };
        let view = Arc::new(View { snapshot, layers: visible.layers.clone() });
        visible.view = Some(Arc::clone(&view));
        Some(Ok(view))
    }

    fn snapshot(&self, visible: &mut Visible) -> Option<Result<Arc<Snapshot>, StoreError>> {
        let database = self.usable()?;
        if let Some(snapshot) = &visible.snapshot {
            return Some(Ok(Arc::clone(snapshot)));
        }
        let begun = watched(&self.broken, || database.begin_read().map_err(error::transaction_error));
        Some(begun.map(|transaction| {
            let snapshot = Snapshot::new(transaction, Arc::clone(&self.broken), Arc::clone(&self.readers));
            Arc::clone(visible.snapshot.insert(Arc::new(snapshot)))
        }))
    }

    /// Makes visible what a commit into the journal did.
    fn publish(&self, delta: Delta) {
        let mut visible = self.visible();
        // What nobody reads any more is not copied.
        visible.view = None;
        visible.layers.push(delta);
    }

    fn usable(&self) -> Option<&Database> {
        self.database.0.as_ref().filter(|_| !self.broken.load(Ordering::Acquire))
    }

    fn writable(&self) -> Option<&Database> {
        self.usable().filter(|_| !self.read_only)
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
        Ok(Self {
            opened,
            writer,
            retired,
            journal: Mutex::new(journal),
            options,
            name,
            path: None,
            is_name_unsynced: AtomicBool::new(false),
        })
    }

    fn journal(&self) -> MutexGuard<'_, Option<Journal>> {
        // It is whole at every moment: what is written last is counted last.
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a read in the database that is open, or returns `None` if it is of no use any more.
    fn try_read(&self) -> Option<Result<Reading, StoreError>> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        Some(opened.view()?.map(Reading))
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
        *opened.visible() = Visible::default();
        let source = Arc::clone(&opened.source);
        let database = open_database(&source, self.journal().as_mut(), &self.options, &self.name, read_only)?;
        *opened = Opened::new(source, Some(database), read_only);
        tracing::warn!(store = %self.name, read_only, "opened the store again after its disk failed");
        Ok(())
    }

    /// Begins a write, after opening the database again if need be. Returns with it what is in the journal alone. The caller holds
    /// the writer's turn.
    fn begin_write(&self) -> Result<(Transaction, Layers), StoreError> {
        self.drop_retired();
        self.sync_name()?;
        let (source, fit) = {
            let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
            (Arc::clone(&opened.source), opened.writable().is_some())
        };
        if !source.is_writable() {
            return Err(StoreError::ReadOnly { detail: "it was opened for reading only".to_owned() });
        }
        if !fit {
            source.rewrite_unsynced().map_err(error::io_error)?;
            self.reopen(false)?;
        }
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        // A reader may have put one in its place meanwhile that keeps nothing of what is written.
        let database = opened.writable().ok_or(StoreError::Interrupted)?;
        let broken = Arc::clone(&opened.broken);
        let inner = watched(&broken, || database.begin_write().map_err(error::transaction_error))?;
        let layers = opened.visible().layers.clone();
        Ok((Transaction { inner, broken }, layers))
    }

    /// Returns what a transaction sees that goes into the journal; `None` if the next one has to go into the database.
    fn view_for_journal(&self) -> Option<Arc<View>> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        // One that cannot be written is opened again for the next write, or the journal would stand in front of it for ever.
        opened.writable()?;
        let is_ready = self.journal().as_ref().is_some_and(Journal::is_ready);
        if is_ready { opened.view()?.ok() } else { None }
    }

    /// Brings what a transaction did to the disk, into the journal if there is room, and then makes it visible.
    fn finish(&self, delta: Delta) -> Result<(), StoreError> {
        if delta.is_empty() {
            return Ok(());
        }
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        let bytes = opened.visible().layers.bytes() + delta.bytes();
        // Kept until the record counts: who opens the database again meanwhile waits, and takes it in.
        let mut journal = self.journal();
        if let (Some(journal), Some(mut record)) = (&mut *journal, Record::of(&delta))
            && bytes <= JOURNAL_MEMORY_BYTES_MAX
            && journal.append(&mut record)?
        {
            opened.publish(delta);
            journal.advance(&record);
            return Ok(());
        }
        drop((journal, opened));
        self.checkpoint(&delta)
    }

    /// Brings all that is in the journal alone into the database, and what a transaction did.
    fn checkpoint(&self, delta: &Delta) -> Result<(), StoreError> {
        let transaction = OnceCell::new();
        let filled = writing::open(self, &transaction, delta).map(drop);
        self.settle(filled, transaction.into_inner())
    }

    /// Commits the database's transaction if all went well, and takes it back if not.
    fn settle(&self, outcome: Result<(), StoreError>, transaction: Option<Transaction>) -> Result<(), StoreError> {
        match (outcome, transaction) {
            (Ok(()), Some(transaction)) => self.commit(transaction),
            (outcome, transaction) => {
                transaction.into_iter().for_each(Transaction::roll_back);
                outcome
            }
        }
    }

    /// Keeps what the database has now for those who read until it has something else, if anything stands in front of it.
    fn pin(&self) -> Result<bool, StoreError> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        let mut visible = opened.visible();
        if visible.layers.is_empty() {
            return Ok(false);
        }
        opened.snapshot(&mut visible).unwrap_or(Err(StoreError::Interrupted)).map(|_| true)
    }

    /// Commits to the disk, with all that was in the journal alone.
    fn commit(&self, transaction: Transaction) -> Result<(), StoreError> {
        let has_layers = match self.pin() {
            Ok(has_layers) => has_layers,
            Err(error) => {
                transaction.roll_back();
                return Err(error);
            }
        };
        let Transaction { inner: mut transaction, broken } = transaction;
        let begins = self.journal().as_mut().filter(|_| self.options.journal).map(Journal::pause);
        let committed = set_durability(&mut transaction, Durability::Immediate).and_then(|()| {
            transaction.set_quick_repair(self.options.quick_repair);
            let generation = begins.map(|()| journal::new_generation()).transpose()?;
            watched(&broken, || {
                generation.iter().try_for_each(|generation| put_generation(&transaction, generation))?;
                transaction.commit().map_err(error::commit_error)
            })?;
            Ok(generation)
        });
        if committed.is_err() && has_layers {
            // It may be there, and what is in the journal would then hide some of it. The generation tells, when it is opened again.
            broken.store(true, Ordering::Release);
            return committed.map(drop);
        }
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&opened.broken, &broken) {
            // A read failed while the last sync was under way, and the next reader opened the state before this one.
            opened.broken.store(true, Ordering::Release);
            return committed.map(drop);
        }
        // Even if it failed: it may be there.
        *opened.visible() = Visible::default();
        let generation = committed?;
        if let (Some(journal), Some(generation)) = (&mut *self.journal(), generation) {
            journal.begin(generation);
        }
        Ok(())
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
        let is_fit = self.opened.read().unwrap_or_else(PoisonError::into_inner).writable().is_some();
        let committed = is_fit.then(|| self.checkpoint(&Delta::default()));
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
        let transaction = OnceCell::new();
        let mut writing = Writing::begin(self, self.view_for_journal(), &transaction)?;
        let outcome = work(&mut writing).and_then(|()| writing.into_delta());
        match outcome {
            Ok(Some(delta)) => self.finish(delta),
            outcome => self.settle(outcome.map(drop), transaction.into_inner()),
        }
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

const fn definition(table: Table) -> Definition {
    Definition::new(table.name())
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
