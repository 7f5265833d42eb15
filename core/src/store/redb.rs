//! The store on disk: one redb database, in a file or over any [`redb::StorageBackend`].
//!
//! This and the files below it are the only ones that know redb. Every write is one redb transaction that has reached
//! the disk when it returns; every read is one of its snapshots. How a store comes into being, so that no crash leaves
//! half of one, is in `redb/create.rs`; what stands in the tables is in `core/docs/storage.md`.
//!
//! redb verifies its checksums only when it recovers. A page that was altered on the disk after a clean close makes it
//! panic where it stumbles over it, so every call into it is contained and reports [`StoreError::Damaged`] instead.

use std::cell::OnceCell;
use std::ops::{ControlFlow, Range};
use std::path::Path;

use redb::{Builder, Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction};

use super::{FORMAT_KEY, FORMAT_VERSION, ReadTx, Store, StoreError, Table, Visitor, WriteTx};

mod create;
mod error;

use error::{contained, open_error, storage_error, table_error};

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
}

impl RedbOptions {
    /// How much of the file is kept in memory unless an option says otherwise: 64 MiB.
    ///
    /// redb's own default is 1 GiB, more than a phone has to spare. 64 MiB hold the inner pages of a store of several
    /// gigabytes: a branch page of 4 KiB names some 50 pages below it.
    pub const CACHE_BYTES_DEFAULT: usize = 64 << 20;

    /// The options of a device: a cache of [`RedbOptions::CACHE_BYTES_DEFAULT`], no quick repair.
    pub fn new() -> Self {
        Self { cache_bytes: Self::CACHE_BYTES_DEFAULT, quick_repair: false }
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
/// When a *commit* fails because the disk does, law 1 is weaker than it reads: the transaction is there as a whole or not
/// at all, but which of the two shows only when the store is opened again. Until then it refuses every further write.
#[derive(Debug)]
pub struct RedbStore {
    database: Database,
    options: RedbOptions,
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
        let database = contained(|| {
            let database = options.builder().open(path).map_err(|error| open_error(error, &name))?;
            check_format(&database, &name)?;
            Ok(database)
        })?;
        Ok(Self { database, options })
    }

    /// Opens the store in a backend of the caller's, and makes it if the backend is empty.
    ///
    /// A backend that begins with zeros and is not longer than a new store is one whose making was interrupted: nothing
    /// was ever written to it, so it is made again.
    ///
    /// # Errors
    ///
    /// As [`RedbStore::open`].
    pub fn open_backend(backend: impl redb::StorageBackend, options: RedbOptions) -> Result<Self, StoreError> {
        let name = "of this backend";
        create::prepare_backend(&backend, name)?;
        let database = contained(|| {
            let database = options.builder().create_with_backend(backend).map_err(|error| open_error(error, name))?;
            check_format(&database, name)?;
            Ok(database)
        })?;
        Ok(Self { database, options })
    }
}

impl Store for RedbStore {
    fn read(&self) -> Result<Box<dyn ReadTx + '_>, StoreError> {
        let transaction = contained(|| self.database.begin_read().map_err(error::transaction_error))?;
        Ok(Box::new(Reading { transaction, tables: Default::default() }))
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn WriteTx) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let mut transaction = contained(|| self.database.begin_write().map_err(error::transaction_error))?;
        transaction.set_durability(Durability::Immediate).map_err(|error| StoreError::Engine(error.to_string()))?;
        transaction.set_quick_repair(self.options.quick_repair);
        let outcome = work(&mut Writing { transaction: &transaction, tables: Default::default() });
        match outcome {
            Ok(()) => contained(|| transaction.commit().map_err(error::commit_error)),
            Err(error) => {
                if let Err(abort) = contained(|| transaction.abort().map_err(storage_error)) {
                    // The work's own error says why; this one would hide it. Nothing was committed in either case.
                    tracing::warn!(error = %abort, "failed to roll a transaction back");
                }
                Err(error)
            }
        }
    }
}

type Definition = redb::TableDefinition<'static, &'static [u8], &'static [u8]>;
type ReadTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;
type WriteTable<'txn> = redb::Table<'txn, &'static [u8], &'static [u8]>;

const fn definition(table: Table) -> Definition {
    Definition::new(table.name())
}

struct Reading {
    transaction: ReadTransaction,
    /// Each table is opened when it is first asked for, and once: opening is a lookup of its own. `None` inside is a
    /// table that the file has not, because an older version made the file: it reads as empty.
    tables: [OnceCell<Option<ReadTable>>; Table::ALL.len()],
}

impl Reading {
    fn table(&self, table: Table) -> Result<Option<&ReadTable>, StoreError> {
        let cell = &self.tables[table.index()];
        if let Some(opened) = cell.get() {
            return Ok(opened.as_ref());
        }
        let opened = contained(|| match self.transaction.open_table(definition(table)) {
            Ok(opened) => Ok(Some(opened)),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(table_error(error)),
        })?;
        Ok(cell.get_or_init(|| opened).as_ref())
    }
}

impl ReadTx for Reading {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.table(table)?.map_or(Ok(None), |table| get(table, key))
    }

    fn scan(&self, table: Table, range: Range<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        self.table(table)?.map_or(Ok(()), |table| scan(table, range, visit))
    }

    fn contains(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        self.table(table)?.map_or(Ok(false), |table| contains(table, key))
    }
}

struct Writing<'txn> {
    transaction: &'txn WriteTransaction,
    /// Opened when first asked for; redb makes a table that is not there.
    tables: [OnceCell<WriteTable<'txn>>; Table::ALL.len()],
}

impl<'txn> Writing<'txn> {
    fn table(&self, table: Table) -> Result<&WriteTable<'txn>, StoreError> {
        let cell = &self.tables[table.index()];
        if let Some(opened) = cell.get() {
            return Ok(opened);
        }
        let opened = contained(|| self.transaction.open_table(definition(table)).map_err(table_error))?;
        Ok(cell.get_or_init(|| opened))
    }

    fn table_mut(&mut self, table: Table) -> Result<&mut WriteTable<'txn>, StoreError> {
        self.table(table)?;
        Ok(self.tables[table.index()].get_mut().expect("the line above opened it"))
    }
}

impl ReadTx for Writing<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        get(self.table(table)?, key)
    }

    fn scan(&self, table: Table, range: Range<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        scan(self.table(table)?, range, visit)
    }

    fn contains(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        contains(self.table(table)?, key)
    }
}

impl WriteTx for Writing<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let table = self.table_mut(table)?;
        contained(|| table.insert(key, value).map(drop).map_err(storage_error))
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        let table = self.table_mut(table)?;
        contained(|| table.remove(key).map(drop).map_err(storage_error))
    }

    fn delete_range(&mut self, table: Table, range: Range<&[u8]>) -> Result<(), StoreError> {
        if range.start >= range.end {
            return Ok(());
        }
        let table = self.table_mut(table)?;
        contained(|| table.retain_in(range, |_, _| false).map_err(storage_error))
    }
}

fn get(table: &impl ReadableTable<&'static [u8], &'static [u8]>, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    contained(|| Ok(table.get(key).map_err(storage_error)?.map(|value| value.value().to_vec())))
}

fn contains(table: &impl ReadableTable<&'static [u8], &'static [u8]>, key: &[u8]) -> Result<bool, StoreError> {
    // The guard lends the page's bytes: nothing is copied.
    contained(|| Ok(table.get(key).map_err(storage_error)?.is_some()))
}

fn scan(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    range: Range<&[u8]>,
    visit: &mut Visitor<'_>,
) -> Result<(), StoreError> {
    if range.start >= range.end {
        return Ok(());
    }
    let mut pairs = contained(|| table.range(range).map_err(storage_error))?;
    // Only redb's part is contained: a panic of the visitor is the caller's own and goes back to it.
    while let Some((key, value)) = contained(|| pairs.next().transpose().map_err(storage_error))? {
        let (key, value) = contained(|| Ok((key.value(), value.value())))?;
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
    let bytes = get(&meta, FORMAT_KEY)?.ok_or_else(foreign)?;
    let found =
        bytes.try_into().map(u32::from_le_bytes).map_err(|_| StoreError::Damaged { what: "the format version" })?;
    match found {
        0 => Err(StoreError::Damaged { what: "the format version" }),
        // An older one is for `crate::migrate`, which needs the store open.
        1..=FORMAT_VERSION => Ok(()),
        _ => Err(StoreError::Newer { found, supported: FORMAT_VERSION }),
    }
}
