//! Filling a new store with what was dumped from a relay's: the other half of [`dump`](super::dump).
//!
//! First all of a store, and then, as often as there is more, what came after it. Every change that came after goes through the gate
//! and the ledger as if a peer had sent it, and at the end every document has to have the changes and heads that it had. What was
//! loaded begins a new epoch, because the log may lack what the original told.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::dump::SMALL;
use super::require_format;
use crate::gate::CheckedChange;
use crate::id::{DocumentId, Epoch, SpaceId, StorageId};
use crate::ledger::{self, Appended, Appender, base, log};
use crate::limits::BACKUP_BATCH_BYTES;
use crate::store::record::{position_of_key, prefix_end};
use crate::store::{self, ReadTx, Store, StoreError, StoreExt, Table, WriteTx};

/// The key in [`Table::Meta`] that says when a store was restored: seconds since 1970, u64, little-endian.
const RESTORED_AT_KEY: &[u8] = b"restored-at";

/// The most rows of a batch. A row costs two allocations, and a document that is appended to some hundred bytes.
const BATCH_ROWS_MAX: usize = 16_384;

/// Returns when a store was restored from a backup, in seconds since 1970, or `None` if it was not. Cost: one look-up.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn restored_at(tx: &(impl ReadTx + ?Sized)) -> Result<Option<u64>, StoreError> {
    let Some(bytes) = tx.get(Table::Meta, RESTORED_AT_KEY)? else { return Ok(None) };
    bytes
        .try_into()
        .map(|bytes| Some(u64::from_le_bytes(bytes)))
        .map_err(|_| StoreError::Damaged { what: "restored-at" })
}

/// Notes when a store was restored.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn set_restored_at(tx: &mut (impl WriteTx + ?Sized), seconds: u64) -> Result<(), StoreError> {
    tx.put(Table::Meta, RESTORED_AT_KEY, &seconds.to_le_bytes())
}

/// Why a dump cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The store cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row is none that a dump has.
    #[error("a row of {} is none that a backup has", table.name())]
    Foreign {
        /// Of which table.
        table: Table,
    },
    /// The changes of a document do not follow those that are there.
    #[error(
        "document {document} has {here} changes, and its next one is of position {found}: an earlier backup is missing"
    )]
    Gap {
        /// Which.
        document: DocumentId,
        /// How many there are.
        here: u64,
        /// Where the next one belongs.
        found: u64,
    },
    /// A change is refused.
    #[error("the change of document {document} at position {position} is refused: {reason}")]
    Refused {
        /// Whose.
        document: DocumentId,
        /// Where.
        position: u64,
        /// Why.
        reason: String,
    },
    /// A document is not what it was.
    #[error("document {document} does not come to have the changes that it had")]
    Different {
        /// Which.
        document: DocumentId,
    },
}

/// Whether a dump is all of a store, or what came since another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadMode {
    /// All of a store, into an empty one.
    Whole,
    /// What came since what is there.
    Since,
}

/// Loads dumps into a store that nobody uses yet. If it fails, or is given up, the store is of no use.
#[derive(Debug)]
pub struct Loader<'s, S: Store + ?Sized> {
    store: &'s S,
    mode: LoadMode,
    rows: Vec<(Table, Vec<u8>, Vec<u8>)>,
    bytes: usize,
    /// The last document whose record was held against what is there.
    compared: Option<DocumentId>,
}

impl<'s, S: Store + ?Sized> Loader<'s, S> {
    /// Begins with all of a store, into an empty one of this version's format.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if the store is of another format.
    pub fn new(store: &'s S) -> Result<Self, LoadError> {
        require_format(store.read()?.as_ref())?;
        Ok(Self { store, mode: LoadMode::Whole, rows: Vec::new(), bytes: 0, compared: None })
    }

    /// Ends a dump and begins the next one, which tells what came since.
    ///
    /// # Errors
    ///
    /// [`LoadError`].
    pub fn next_dump(&mut self) -> Result<(), LoadError> {
        self.end()?;
        (self.mode, self.compared) = (LoadMode::Since, None);
        let end = prefix_end(&[u8::MAX]);
        self.store.write_with(|tx| {
            // What comes whole replaces what is there.
            SMALL.into_iter().try_for_each(|table| tx.delete_range(table, &[]..&end))?;
            let mut keys = Vec::new();
            tx.scan(Table::Meta, &[]..&end, &mut |key, _| {
                keys.push(key.to_vec());
                ControlFlow::Continue(())
            })?;
            keys.iter().filter(|key| !store::is_own_meta(key)).try_for_each(|key| tx.delete(Table::Meta, key))
        })?;
        Ok(())
    }

    /// Takes a row.
    ///
    /// # Errors
    ///
    /// [`LoadError`].
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), LoadError> {
        if key.is_empty() {
            return Err(LoadError::Foreign { table });
        }
        self.bytes += key.len() + value.len();
        self.rows.push((table, key.to_vec(), value.to_vec()));
        if self.bytes >= BACKUP_BATCH_BYTES || self.rows.len() >= BATCH_ROWS_MAX { self.flush() } else { Ok(()) }
    }

    /// Ends loading: the store gets an epoch of its own and this storage id, and notes when it was restored.
    ///
    /// # Errors
    ///
    /// [`LoadError`].
    pub fn finish(mut self, epoch: &Epoch, storage: &StorageId, seconds: u64) -> Result<(), LoadError> {
        self.end()?;
        self.store.write_with(|tx| {
            // A dump of format 2 may have an outbox of that form; otherwise they are alike.
            ledger::from_2_to_3(tx)?;
            log::set_epoch(tx, epoch)?;
            store::put_storage_id(tx, storage)?;
            set_restored_at(tx, seconds)
        })?;
        Ok(())
    }

    fn end(&mut self) -> Result<(), LoadError> {
        self.flush()?;
        if self.mode == LoadMode::Since {
            let compared = self.compared;
            write(self.store, |tx| clear_between(tx, compared.as_ref(), None))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LoadError> {
        let (rows, mode, mut compared) = (std::mem::take(&mut self.rows), self.mode, self.compared);
        self.bytes = 0;
        if !rows.is_empty() {
            write(self.store, |tx| match mode {
                LoadMode::Whole => rows.iter().try_for_each(|(table, key, value)| put_whole(tx, *table, key, value)),
                LoadMode::Since => put_since(tx, &rows, &mut compared),
            })?;
        }
        self.compared = compared;
        Ok(())
    }
}

/// Writes in one transaction, with errors of loading.
fn write<S: Store + ?Sized>(
    store: &S,
    work: impl FnOnce(&mut dyn WriteTx) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
    let mut failure = None;
    let outcome = store.write_with(|tx| {
        work(tx).map_err(|error| match error {
            LoadError::Store(error) => error,
            error => {
                failure = Some(error);
                // Any error takes the transaction back; the reason is told above.
                StoreError::NotCalled
            }
        })
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(outcome?),
    }
}

fn put_whole(tx: &mut dyn WriteTx, table: Table, key: &[u8], value: &[u8]) -> Result<(), LoadError> {
    // What names the store is not copied, nor that its file had something to be scrubbed.
    if table != Table::Meta || !store::is_own_meta(key) {
        tx.put(table, key, value)?;
    }
    Ok(())
}

fn put_since(
    tx: &mut dyn WriteTx,
    rows: &[(Table, Vec<u8>, Vec<u8>)],
    compared: &mut Option<DocumentId>,
) -> Result<(), LoadError> {
    let mut appenders = BTreeMap::new();
    for (table, key, value) in rows {
        if *table != Table::Change {
            finish_all(tx, &mut appenders)?;
        }
        match table {
            Table::Change => append(tx, &mut appenders, key, value)?,
            Table::Logged => put_logged(tx, key, value)?,
            Table::Log => put_log(tx, key, value)?,
            Table::Document => compare(tx, key, value, compared)?,
            table if *table == Table::Meta || SMALL.contains(table) => put_whole(tx, *table, key, value)?,
            table => return Err(LoadError::Foreign { table: *table }),
        }
    }
    finish_all(tx, &mut appenders)
}

fn finish_all(tx: &mut dyn WriteTx, appenders: &mut BTreeMap<DocumentId, Appender>) -> Result<(), LoadError> {
    for (_, appender) in std::mem::take(appenders) {
        appender.finish(tx)?;
    }
    Ok(())
}

/// Appends a change where it was.
fn append(
    tx: &mut dyn WriteTx,
    appenders: &mut BTreeMap<DocumentId, Appender>,
    key: &[u8],
    bytes: &[u8],
) -> Result<(), LoadError> {
    let document = document_of(Table::Change, key)?;
    let found = position_of_key(key)?;
    let appender = match appenders.entry(document) {
        std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
        std::collections::btree_map::Entry::Vacant(room) => room.insert(Appender::begin(tx, document)?),
    };
    let here = appender.state().count;
    let refused = |reason| LoadError::Refused { document, position: found, reason };
    let change = CheckedChange::parse(bytes).map_err(|error| refused(error.to_string()))?;
    if here != found {
        // What was logged only after the earlier backup comes again.
        let again = found < here && ledger::position(tx, &document, &change.hash())? == Some(found);
        return if again { Ok(()) } else { Err(LoadError::Gap { document, here, found }) };
    }
    match appender.append(tx, &change)? {
        Appended::Stored { .. } => Ok(()),
        Appended::Rejected(error) => Err(refused(error.to_string())),
        Appended::Duplicate => Err(refused("it is there already".to_owned())),
        Appended::Missing { .. } | Appended::Folded => Err(refused("a change it depends on is not there".to_owned())),
        Appended::Deleted => Err(refused("its document was deleted".to_owned())),
    }
}

/// Notes how much of a document is in the log. If that is another life of it, what is there goes.
fn put_logged(tx: &mut dyn WriteTx, key: &[u8], value: &[u8]) -> Result<(), LoadError> {
    let document = document_of(Table::Logged, key)?;
    if tx.contains(Table::Logged, key)? && log::life(tx, &document)? != log::life_of(value)? {
        forget(tx, &document)?;
    }
    Ok(tx.put(Table::Logged, key, value)?)
}

/// Puts a row of the log in the place of those that it has grown out of.
fn put_log(tx: &mut dyn WriteTx, key: &[u8], value: &[u8]) -> Result<(), LoadError> {
    if key.len() == 24 {
        let last = position_of_key(key)?;
        let first = last.checked_sub(log::positions_of(value)? - 1).ok_or(LoadError::Foreign { table: Table::Log })?;
        let mut from = [0; 24];
        from.copy_from_slice(key);
        from[16..].copy_from_slice(&first.to_be_bytes());
        tx.delete_range(Table::Log, &from..key)?;
    }
    Ok(tx.put(Table::Log, key, value)?)
}

/// Holds a document's record against what is there. Documents between it and the last one went without a trace.
fn compare(tx: &mut dyn WriteTx, key: &[u8], value: &[u8], compared: &mut Option<DocumentId>) -> Result<(), LoadError> {
    let document = document_of(Table::Document, key)?;
    clear_between(tx, compared.as_ref(), Some(&document))?;
    *compared = Some(document);
    let expected = ledger::decode_state(value)?;
    let here = match ledger::state(tx, &document)? {
        None if expected.count == 0 => {
            ledger::create(tx, &document)?;
            return Ok(());
        }
        here => here.unwrap_or_default(),
    };
    let same = here.count == expected.count
        && here.bytes == expected.bytes
        && here.max_op == expected.max_op
        && here.heads == expected.heads;
    if same { Ok(()) } else { Err(LoadError::Different { document }) }
}

/// Deletes the documents between two others: they are no more.
fn clear_between(
    tx: &mut dyn WriteTx,
    after: Option<&DocumentId>,
    before: Option<&DocumentId>,
) -> Result<(), LoadError> {
    let start = after.map_or_else(Vec::new, |after| prefix_end(after.as_bytes()));
    let end = before.map_or_else(|| prefix_end(&[u8::MAX]), |before| before.as_bytes().to_vec());
    let mut gone = Vec::new();
    tx.scan(Table::Document, &start..&end, &mut |key, _| {
        gone.extend(key.first_chunk::<16>().map(|id| DocumentId::from_bytes(*id)));
        ControlFlow::Continue(())
    })?;
    Ok(gone.iter().try_for_each(|document| forget(tx, document))?)
}

/// Deletes what there is of a document itself. What is noted about it comes with the dump.
fn forget(tx: &mut dyn WriteTx, document: &DocumentId) -> Result<(), StoreError> {
    base::forget(tx, document)?;
    // Owners come whole, and may have come already.
    ledger::clear(tx, document, |table| table != Table::Owner)
}

fn document_of(table: Table, key: &[u8]) -> Result<DocumentId, LoadError> {
    key.first_chunk::<16>().map(|id| DocumentId::from_bytes(*id)).ok_or(LoadError::Foreign { table })
}

/// What a store should be after it was loaded: what was counted when it was dumped.
///
/// # Errors
///
/// What differs, in words; [`StoreError`] if the store cannot be read.
pub fn compare_standpoint(tx: &dyn ReadTx, expected: &super::Standpoint) -> Result<Result<(), String>, StoreError> {
    let found = super::standpoint(tx)?;
    let counted = [
        ("documents", expected.documents, found.documents),
        ("changes", expected.changes, found.changes),
        ("bytes of changes", expected.change_bytes, found.change_bytes),
        ("tombstones", expected.tombstones, found.tombstones),
        ("spaces with a log", expected.ends.len() as u64, found.ends.len() as u64),
    ];
    for (what, expected, found) in counted {
        if expected != found {
            return Ok(Err(format!("{expected} {what} were backed up, and {found} are there")));
        }
    }
    let elsewhere = |(space, end): (&SpaceId, &u64)| (found.ends.get(space) != Some(end)).then_some(*space);
    match expected.ends.iter().find_map(elsewhere) {
        Some(space) => Ok(Err(format!("the log of space {space} does not end where it ended"))),
        None => Ok(Ok(())),
    }
}
