//! The store: named ordered tables of bytes, read by snapshots and changed by transactions.
//!
//! The engine above knows what stands in each table (`core/docs/storage.md`); a store only keeps it. That makes a store
//! small (five verbs) and lets one conformance suite prove any of them.
//!
//! # Laws
//!
//! 1. **Atomic**: after [`Store::write`] returns `Ok`, all its puts and deletes are visible to every later transaction;
//!    after `Err`, or a panic of the work, none is.
//! 2. **Durable**: what [`Store::write`] returned `Ok` for survives a power loss, for stores that outlive the process.
//! 3. **Isolated**: a read transaction sees one committed state for as long as it lives, whatever is written meanwhile.
//! 4. **Own writes**: a write transaction sees its own puts and deletes.
//! 5. **Ordered**: [`ReadTx::scan`] visits keys in ascending byte order, each once, within the bounds, and stops when told.
//!    A range whose end is not above its start holds nothing.
//! 6. **One writer**: writes are executed one after the other; a second one waits.
//! 7. **Whole**: keys and values of any length from 0 (value) or 1 (key) up to the change limit come back as they were put.

use std::ops::{ControlFlow, Range};

#[cfg(feature = "redb")]
pub(crate) mod batches;
mod delta;
mod memory;
pub mod record;
#[cfg(feature = "redb")]
mod redb;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use memory::MemoryStore;
#[cfg(feature = "redb")]
pub use redb::{RedbOptions, RedbStore};

use crate::id::StorageId;

/// The format this version writes, and the newest it reads: 4. It stands in every store, under `format` in
/// [`Table::Meta`].
pub const FORMAT_VERSION: u32 = 4;

/// The key of the format version in [`Table::Meta`].
const FORMAT_KEY: &[u8] = b"format";

/// The key of the storage id in [`Table::Meta`].
const STORAGE_ID_KEY: &[u8] = b"storage-id";

/// The key in [`Table::Meta`] that is there while a scrub is asked for.
const SCRUB_KEY: &[u8] = b"scrub";

/// The tables. A table's name in the file carries the version of its format; see `core/docs/storage.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum Table {
    /// Format version, storage id.
    Meta = 0,
    /// document -> heads, counts, greatest op.
    Document = 1,
    /// (document, position) -> the change's bytes, an uncompressed chunk.
    Change = 2,
    /// (document, position) -> hash, dependencies, floor, actor, seq, start op, op count, bytes.
    Node = 3,
    /// (document, hash) -> position.
    Hash = 4,
    /// (document, actor, start op and seq descending) -> position, op count.
    Actor = 5,
    /// (document, object, key) -> visible operations.
    Register = 6,
    /// (document, object) -> what kind of object, where it hangs.
    Object = 7,
    /// document -> the changes below a position, as one document chunk; document, 1 byte -> that chunk, failures.
    Snapshot = 8,
    /// (document, first of 64 positions) -> a bit for each: a local change that no relay has acknowledged.
    Outbox = 9,
    /// (document, peer's storage id) -> the heads both have.
    Shared = 10,
    /// (document, first position) -> a run of old changes, packed.
    Pack = 11,
    /// (document, first position) -> how many changes a pack holds, whose, and a filter of their hashes.
    PackIndex = 12,
    /// document -> when and by whom it was deleted everywhere; document, a relay's storage id -> nothing: it has that too.
    Tombstone = 13,
    /// Format 1's form of [`Table::Node`]; only a migration reads it.
    NodeV1 = 14,
    /// Format 1's form of [`Table::Actor`]; only a migration reads it.
    ActorV1 = 15,
    /// document -> the space it is in, unless that is the default one.
    Space = 16,
    /// (space, document) -> nothing: the documents of each space but the default one.
    Member = 17,
    /// space -> the last position; (space, last position of a run) -> what happened at those positions.
    Log = 18,
    /// document -> how much of it is in the log.
    Logged = 19,
    /// (relay's storage id, space) -> epoch, position: where to resume.
    Cursor = 20,
    /// (document, position, epoch) -> a log position; document -> below which position everything was seen.
    Receipt = 21,
    /// (epoch, space) -> the greatest position that another device has passed.
    Seen = 22,
    /// (document, position) -> why a relay refused this local change, or on which refused one it stands.
    Rejected = 23,
    /// (document, number) -> what was dropped, and why; (document, number, index) -> one of its changes.
    Branch = 24,
    /// (session, number) -> when a numbered write of an application was done, and the change it made.
    Request = 25,
    /// A relay's: (kind, id) -> who may come in, with which tokens, and what is known of spaces.
    Directory = 26,
    /// A relay's: (principal, kind, space or document) -> what was granted, until when.
    Grant = 27,
    /// A relay's: (document, actor) -> the principal that introduced the actor.
    Owner = 28,
    /// A relay's: number -> an act of an administrator, or a write that was refused.
    Audit = 29,
    /// Format 1's and 2's form of [`Table::Outbox`]; only a migration reads it.
    OutboxV1 = 30,
}

impl Table {
    /// Every table, in the order of their numbers.
    pub const ALL: [Table; 31] = [
        Table::Meta,
        Table::Document,
        Table::Change,
        Table::Node,
        Table::Hash,
        Table::Actor,
        Table::Register,
        Table::Object,
        Table::Snapshot,
        Table::Outbox,
        Table::Shared,
        Table::Pack,
        Table::PackIndex,
        Table::Tombstone,
        Table::NodeV1,
        Table::ActorV1,
        Table::Space,
        Table::Member,
        Table::Log,
        Table::Logged,
        Table::Cursor,
        Table::Receipt,
        Table::Seen,
        Table::Rejected,
        Table::Branch,
        Table::Request,
        Table::Directory,
        Table::Grant,
        Table::Owner,
        Table::Audit,
        Table::OutboxV1,
    ];

    /// The table's name in a store's file. Once released, a name means the same for ever.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta-1",
            Table::Document => "document-1",
            Table::Change => "change-1",
            Table::Node => "node-2",
            Table::Hash => "hash-1",
            Table::Actor => "actor-2",
            Table::Register => "register-1",
            Table::Object => "object-1",
            Table::Snapshot => "snapshot-1",
            Table::Outbox => "outbox-2",
            Table::Shared => "shared-1",
            Table::Pack => "pack-1",
            Table::PackIndex => "pack-index-1",
            Table::Tombstone => "tombstone-1",
            Table::NodeV1 => "node-1",
            Table::ActorV1 => "actor-1",
            Table::Space => "space-1",
            Table::Member => "member-1",
            Table::Log => "log-1",
            Table::Logged => "logged-1",
            Table::Cursor => "cursor-1",
            Table::Receipt => "receipt-1",
            Table::Seen => "seen-1",
            Table::Rejected => "rejected-1",
            Table::Branch => "branch-1",
            Table::Request => "request-1",
            Table::Directory => "directory-1",
            Table::Grant => "grant-1",
            Table::Owner => "owner-1",
            Table::Audit => "audit-1",
            Table::OutboxV1 => "outbox-1",
        }
    }

    /// Says whether every key begins with a document, whose row goes when the document does.
    pub(crate) const fn is_of_documents(self) -> bool {
        !matches!(
            self,
            Table::Meta
                | Table::Tombstone
                | Table::Space
                | Table::Member
                | Table::Log
                | Table::Logged
                | Table::Cursor
                | Table::Seen
                | Table::Request
                | Table::Directory
                | Table::Grant
                | Table::Audit
        )
    }

    /// The table's place in [`Table::ALL`].
    const fn index(self) -> usize {
        self as usize
    }
}

/// What a scan hands to its visitor: a key and its value. Break to stop.
pub type Visitor<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// A consistent view of the store. See the laws above.
pub trait ReadTx {
    /// Returns the value of a key, or `None`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Visits the keys of a half-open range in ascending order.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read; what was visited before stands.
    fn scan(&self, table: Table, range: Range<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), StoreError>;

    /// Says whether a key is there. The same as `get(..).is_some()`, without the copy.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    fn contains(&self, table: Table, key: &[u8]) -> Result<bool, StoreError>;
}

/// A transaction under way: reads see its own writes.
pub trait WriteTx: ReadTx {
    /// Sets a key to a value.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be written; the transaction must then be given up.
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError>;

    /// Deletes a key; nothing happens if it is not there.
    ///
    /// # Errors
    ///
    /// As [`WriteTx::put`].
    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError>;

    /// Deletes every key of a half-open range.
    ///
    /// # Errors
    ///
    /// As [`WriteTx::put`].
    fn delete_range(&mut self, table: Table, range: Range<&[u8]>) -> Result<(), StoreError>;
}

/// Where documents are kept. Implementations must hold the laws above; `store::testing::run` checks them.
pub trait Store: Send + Sync + 'static {
    /// Opens a consistent view.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    fn read(&self) -> Result<Box<dyn ReadTx + '_>, StoreError>;

    /// Runs `work` in a transaction, and commits it durably if it returns `Ok`; otherwise nothing of it remains.
    ///
    /// `work` is called at most once. Most callers want the [`StoreExt::write_with`] form, which can return a value.
    ///
    /// # Errors
    ///
    /// What `work` returned, or [`StoreError`] if the commit failed.
    fn write(&self, work: &mut dyn FnMut(&mut dyn WriteTx) -> Result<(), StoreError>) -> Result<(), StoreError>;

    /// Returns how many bytes the store takes where it is kept, or `None` if it cannot say. Default: `None`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    fn size_bytes(&self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    /// Sees to it that nothing is left of what was deleted before, where the store is kept. Returns whether that is so now;
    /// if not, it can only be done when the store is opened the next time. Default: `false`.
    ///
    /// Writes wait for its end. Cost: what is there is written once more, so it needs room for a second copy of it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be done now: everything is as it was.
    fn scrub(&self) -> Result<bool, StoreError> {
        Ok(false)
    }
}

/// Conveniences over [`Store`] that its object-safe form cannot have.
pub trait StoreExt: Store {
    /// Runs `work` in a transaction as [`Store::write`] does, and returns what it returned.
    ///
    /// # Errors
    ///
    /// What `work` returned, or [`StoreError`] if the commit failed.
    fn write_with<T>(&self, work: impl FnOnce(&mut dyn WriteTx) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut work = Some(work);
        let mut out = None;
        self.write(&mut |tx| {
            let work = work.take().ok_or(StoreError::CalledTwice)?;
            out = Some(work(tx)?);
            Ok(())
        })?;
        out.ok_or(StoreError::NotCalled)
    }
}

impl<S: Store + ?Sized> StoreExt for S {}

/// Returns the store's own id, and gives it one made of `random` if it has none yet.
///
/// A copy of a store's file carries the same id as the original: two running copies would confuse a peer that remembers
/// what it shares with each.
///
/// # Errors
///
/// [`StoreError::Damaged`] if the id that stands there has not 16 bytes; otherwise what the store reports.
pub fn storage_id(store: &dyn Store, random: [u8; 16]) -> Result<StorageId, StoreError> {
    let parse = |bytes: Vec<u8>| match bytes.try_into() {
        Ok(bytes) => Ok(StorageId::from_bytes(bytes)),
        Err(_) => Err(StoreError::Damaged { what: "the storage id" }),
    };
    if let Some(bytes) = store.read()?.get(Table::Meta, STORAGE_ID_KEY)? {
        return parse(bytes);
    }
    store.write_with(|tx| {
        // Another thread may have been first since the look above.
        if let Some(bytes) = tx.get(Table::Meta, STORAGE_ID_KEY)? {
            return parse(bytes);
        }
        let id = StorageId::from_random_bytes(random);
        tx.put(Table::Meta, STORAGE_ID_KEY, id.as_bytes())?;
        Ok(id)
    })
}

/// Returns the store's own id, if it has one.
#[cfg(feature = "redb")]
pub(crate) fn known_storage_id(tx: &(impl ReadTx + ?Sized)) -> Result<Option<StorageId>, StoreError> {
    let Some(bytes) = tx.get(Table::Meta, STORAGE_ID_KEY)? else { return Ok(None) };
    let id = bytes.try_into().map_err(|_| StoreError::Damaged { what: "the storage id" })?;
    Ok(Some(StorageId::from_bytes(id)))
}

/// Says whether a key of [`Table::Meta`] is about this very store and its file, and so nothing for another one.
#[cfg(feature = "redb")]
pub(crate) fn is_own_meta(key: &[u8]) -> bool {
    [FORMAT_KEY, STORAGE_ID_KEY, SCRUB_KEY].contains(&key) || key == crate::ledger::log::EPOCH_KEY
}

/// Gives a store another id: for copies.
#[cfg(feature = "redb")]
pub(crate) fn put_storage_id(tx: &mut (impl WriteTx + ?Sized), id: &StorageId) -> Result<(), StoreError> {
    tx.put(Table::Meta, STORAGE_ID_KEY, id.as_bytes())
}

/// Asks that nothing be left of what was deleted, at the latest when the store is opened the next time: [`Store::scrub`].
pub(crate) fn ask_for_scrub(tx: &mut (impl WriteTx + ?Sized)) -> Result<(), StoreError> {
    tx.put(Table::Meta, SCRUB_KEY, &[])
}

/// Says whether a scrub was asked for and has not been made yet.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn is_scrub_due(tx: &(impl ReadTx + ?Sized)) -> Result<bool, StoreError> {
    tx.contains(Table::Meta, SCRUB_KEY)
}

/// Returns the number of the format that a store has.
///
/// # Errors
///
/// [`StoreError::Damaged`] if there is no such number; otherwise what the store reports.
pub fn format(tx: &(impl ReadTx + ?Sized)) -> Result<u32, StoreError> {
    let bytes = tx.get(Table::Meta, FORMAT_KEY)?.and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    bytes.filter(|format| *format > 0).ok_or(StoreError::Damaged { what: "the format version" })
}

/// Writes the format number over itself, durably: shows whether the store takes writes.
///
/// # Errors
///
/// What the store reports when it does not.
pub fn probe(store: &(impl Store + ?Sized)) -> Result<(), StoreError> {
    store.write_with(|tx| {
        let format = format(tx)?;
        set_format(tx, format)
    })
}

/// Sets the number of the format: for [`crate::migrate`].
pub(crate) fn set_format(tx: &mut (impl WriteTx + ?Sized), format: u32) -> Result<(), StoreError> {
    tx.put(Table::Meta, FORMAT_KEY, &format.to_le_bytes())
}

/// What can go wrong with a store. The data already committed is safe in every case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system or the disk said no.
    #[error("failed to use the store: {0}")]
    Io(#[from] std::io::Error),
    /// No space is left on the disk, or for this user.
    #[error("failed to write the store: {0}: free some space and try again; nothing that was acknowledged is lost")]
    Full(std::io::Error),
    /// The store can be read, and not written.
    #[error(
        "failed to write the store ({detail}): check who may write there and whether the file system is mounted \
         read-only; it can still be opened for reading"
    )]
    ReadOnly {
        /// What the operating system said.
        detail: String,
    },
    /// The file failed under another transaction, and the store was opened again. Begin anew.
    #[error("failed to go on: the store's file failed meanwhile; begin again")]
    Interrupted,
    /// Another process, or another `Repo` of this one, has the store open.
    #[error("the store {path} is in use by another process: stop that one first, or open another store")]
    Locked {
        /// Which store.
        path: String,
    },
    /// The file is no store of ours.
    #[error("{path} is not a Rejoin store ({detail}): check the path; nothing was changed")]
    Foreign {
        /// Which file.
        path: String,
        /// What was found instead.
        detail: String,
    },
    /// The store was written by a newer version of Rejoin.
    #[error("the store has format {found}, this version reads up to {supported}: upgrade Rejoin; nothing was changed")]
    Newer {
        /// The format found.
        found: u32,
        /// The newest format this version reads.
        supported: u32,
    },
    /// The store was written by an older version of Rejoin, and nobody has migrated it yet.
    #[error("the store has format {found}, and {supported} is needed: open it for use once, which migrates it")]
    Older {
        /// The format found.
        found: u32,
        /// The format needed.
        supported: u32,
    },
    /// A record does not decode: the file was damaged after it was written.
    #[error(
        "the store is damaged: {what} does not decode; restore a backup, or fetch the documents again from a relay"
    )]
    Damaged {
        /// Which record.
        what: &'static str,
    },
    /// The history that is asked for is still inside the document's snapshot; see [`crate::ledger::base`].
    #[error("the document's history is still being unfolded: try again in a moment")]
    Folded,
    /// The storage engine reported an error of its own.
    #[error("failed to use the store: {0}")]
    Engine(String),
    /// A `Store` implementation called the transaction's work twice: it breaks the trait's contract.
    #[error("the store called a transaction twice: its implementation is broken")]
    CalledTwice,
    /// A `Store` implementation reported success without calling the transaction's work.
    #[error("the store never called a transaction: its implementation is broken")]
    NotCalled,
}
