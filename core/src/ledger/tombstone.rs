//! Tombstones: what is left of a document that was deleted everywhere.
//!
//! A tombstone and a document's rows are never there together: [`bury`] takes the rows and puts the tombstone in one
//! transaction, and from then on the ledger refuses every change to the document. So a tombstone wins over whatever a
//! device still wrote that had not heard of it. It travels as changes do: it waits until a relay has it, the relay keeps it,
//! and whoever speaks of the document is told.
//!
//! A store remembers which relays have a tombstone, so that each is told once.

use std::ops::ControlFlow;

use super::{delete, log, spaces};
pub use crate::deletion::{DeletionKind, Tombstone};
use crate::id::{DocumentId, Epoch, StorageId};
use crate::limits::DELETED_BY_BYTES_MAX;
use crate::store::record::{self, Reader, prefix_end, tail_key};
use crate::store::{self, ReadTx, StoreError, Table, WriteTx};

/// The first byte of a tombstone.
const VERSION: u8 = 1;

/// The names under which tombstones that no relay has stand in [`Table::Meta`] begin so.
const UNTOLD: &[u8] = b"untold/";

/// The names under which it stands there which life the log of a relay had begin so.
const EPOCH: &[u8] = b"told-epoch/";

/// What [`bury`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buried {
    /// The document was here until now.
    pub existed: bool,
    /// The tombstone is new, or more thorough than the one that stood there.
    pub is_news: bool,
}

/// Returns a document's tombstone, or `None` if it was not deleted everywhere. Cost: one lookup.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn get(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<Option<Tombstone>, StoreError> {
    tx.get(Table::Tombstone, document.as_bytes())?.map(|bytes| decode(&bytes)).transpose()
}

/// Says whether a document was deleted everywhere. Cost: one lookup.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn is_buried(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<bool, StoreError> {
    tx.contains(Table::Tombstone, document.as_bytes())
}

/// Deletes a document with all that belongs to it, and puts a tombstone in its place. It need not have been here.
///
/// Of two tombstones the more thorough one stays; of two alike the one that was first here. If it is
/// [`DeletionKind::Purged`], the store is asked to leave nothing of what was deleted in its file: call
/// [`Store::scrub`](crate::store::Store::scrub) after the commit, or it happens when the file is opened the next time.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn bury(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    tombstone: &Tombstone,
) -> Result<Buried, StoreError> {
    let here = get(tx, document)?;
    let existed = here.is_none() && super::state(tx, document)?.is_some();
    if here.as_ref().is_some_and(|here| here.kind >= tombstone.kind) {
        return Ok(Buried { existed, is_news: false });
    }
    if here.is_none() {
        let space = spaces::noted(tx, document)?;
        spaces::unlist(tx, document)?;
        delete(tx, document)?;
        // Whoever follows the space it was in has to hear of this.
        space.map_or(Ok(()), |space| spaces::note(tx, document, &space))?;
    }
    // Who had the milder one has to hear of this one too.
    tx.delete_range(Table::Tombstone, document.as_bytes()..&prefix_end(document.as_bytes()))?;
    tx.put(Table::Tombstone, document.as_bytes(), &encode(tombstone))?;
    if tombstone.kind == DeletionKind::Purged {
        store::ask_for_scrub(tx)?;
    }
    log::bury(tx, document)?;
    Ok(Buried { existed, is_news: true })
}

/// Notes that a tombstone was made here and waits for a relay.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn wait(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId) -> Result<(), StoreError> {
    tx.put(Table::Meta, &untold_key(document), &[])
}

/// Notes that a relay has a document's tombstone of this kind durably: it waits no more. Nothing happens if there is none,
/// or a more thorough one by now.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn acknowledge(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    kind: DeletionKind,
    relay: Option<&StorageId>,
) -> Result<(), StoreError> {
    if get(tx, document)?.is_none_or(|here| here.kind > kind) {
        return Ok(());
    }
    tx.delete(Table::Meta, &untold_key(document))?;
    match relay {
        Some(relay) => tx.put(Table::Tombstone, &tail_key(document, relay.as_bytes()), &[]),
        // One that cannot be remembered is told again on every connection.
        None => Ok(()),
    }
}

/// Says whether a relay's log is known to have this life.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn is_of_epoch(tx: &(impl ReadTx + ?Sized), relay: &StorageId, epoch: &Epoch) -> Result<bool, StoreError> {
    Ok(tx.get(Table::Meta, &epoch_key(relay))?.as_deref() == Some(epoch.as_bytes()))
}

/// Notes which life a relay's log has. If it had another one before, the relay was restored from a backup, which may hold documents
/// that were deleted since: it counts as told of no deletion, and is told of all again. Cost: one visit a tombstone then.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used.
pub fn note_epoch(tx: &mut (impl WriteTx + ?Sized), relay: &StorageId, epoch: &Epoch) -> Result<(), StoreError> {
    if is_of_epoch(tx, relay, epoch)? {
        return Ok(());
    }
    let key = epoch_key(relay);
    let mut told = Vec::new();
    if tx.contains(Table::Meta, &key)? {
        visit(tx, &mut |document, mark, _| {
            if mark == Some(relay.as_bytes()) {
                told.push(document);
            }
        })?;
    }
    told.iter().try_for_each(|document| tx.delete(Table::Tombstone, &tail_key(document, relay.as_bytes())))?;
    tx.put(Table::Meta, &key, epoch.as_bytes())
}

/// Says whether a relay is known to have a document's tombstone.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn is_told(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    relay: Option<&StorageId>,
) -> Result<bool, StoreError> {
    relay.map_or(Ok(false), |relay| tx.contains(Table::Tombstone, &tail_key(document, relay.as_bytes())))
}

/// Returns how many tombstones wait for a relay. Cost: one visit for each.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn waiting(tx: &(impl ReadTx + ?Sized)) -> Result<u64, StoreError> {
    let mut count = 0;
    tx.scan(Table::Meta, UNTOLD..&prefix_end(UNTOLD), &mut |_, _| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(count)
}

/// Returns the documents whose tombstones a relay is not known to have. Cost: one visit a tombstone.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn untold(tx: &(impl ReadTx + ?Sized), relay: Option<&StorageId>) -> Result<Vec<DocumentId>, StoreError> {
    let mut found: Vec<DocumentId> = Vec::new();
    visit(tx, &mut |document, mark, _| match (mark, relay) {
        (None, _) => found.push(document),
        (Some(mark), Some(relay)) if mark == relay.as_bytes() => drop(found.pop()),
        _ => {}
    })?;
    Ok(found)
}

/// Removes tombstones older than a moment, in seconds since 1970; returns how many. One that no relay has yet stays.
///
/// **Danger**: without its tombstone a document comes back whole as soon as a device connects that still has it, or a backup
/// that holds it is restored. Remove only what is older than the longest time a device may have been away, and keep in mind
/// that each time is by the clock of who deleted. A tombstone takes about 60 bytes: most operators never need this.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used.
pub fn expire(tx: &mut (impl WriteTx + ?Sized), before_seconds: u64) -> Result<u64, StoreError> {
    let mut old = Vec::new();
    let mut failed = None;
    visit(tx, &mut |document, mark, value| {
        if mark.is_some() {
            return;
        }
        match decode(value) {
            Ok(tombstone) if tombstone.time_seconds < before_seconds => old.push(document),
            Ok(_) => {}
            Err(error) => failed = Some(error),
        }
    })?;
    failed.map_or(Ok(()), Err)?;
    let mut expired = 0;
    for document in old {
        if !tx.contains(Table::Meta, &untold_key(&document))? {
            tx.delete_range(Table::Tombstone, document.as_bytes()..&prefix_end(document.as_bytes()))?;
            log::unbury(tx, &document)?;
            if !log::is_logged(tx, &document)? {
                spaces::forget(tx, &document)?;
            }
            expired += 1;
        }
    }
    Ok(expired)
}

/// Is shown a document, which relay's mark it is unless it is the tombstone itself, and the record.
type Visit<'v> = dyn FnMut(DocumentId, Option<&[u8]>, &[u8]) + 'v;

/// Visits every tombstone, and after each the ids of the relays that have it.
fn visit(tx: &(impl ReadTx + ?Sized), visit: &mut Visit<'_>) -> Result<(), StoreError> {
    tx.scan(Table::Tombstone, &[]..&prefix_end(&[u8::MAX]), &mut |key, value| {
        if let Some((document, mark)) = key.split_first_chunk::<16>() {
            visit(DocumentId::from_bytes(*document), Some(mark).filter(|mark| !mark.is_empty()), value);
        }
        ControlFlow::Continue(())
    })
}

fn epoch_key(relay: &StorageId) -> Vec<u8> {
    [EPOCH, relay.as_bytes()].concat()
}

fn untold_key(document: &DocumentId) -> Vec<u8> {
    [UNTOLD, document.as_bytes()].concat()
}

fn encode(tombstone: &Tombstone) -> Vec<u8> {
    let by = &tombstone.by[..tombstone.by.floor_char_boundary(DELETED_BY_BYTES_MAX)];
    let mut out = vec![VERSION, u8::from(tombstone.kind == DeletionKind::Purged)];
    record::put_uint(&mut out, tombstone.time_seconds);
    record::put_bytes(&mut out, by.as_bytes());
    out
}

fn decode(bytes: &[u8]) -> Result<Tombstone, StoreError> {
    let mut reader = Reader::new(bytes, "tombstone-1");
    let (version, kind) = (reader.byte()?, reader.byte()?);
    if version != VERSION {
        return Err(reader.damaged());
    }
    let kind = match kind {
        0 => DeletionKind::Deleted,
        1 => DeletionKind::Purged,
        _ => return Err(reader.damaged()),
    };
    Ok(Tombstone { kind, time_seconds: reader.uint()?, by: reader.text()?.to_owned() })
}

#[cfg(test)]
mod tests;
