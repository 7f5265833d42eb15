//! The log: on a relay, the gapless order in which the changes of each space became durable.
//!
//! A position of a space, from 1 on, is a change of one of its documents, or that a document was deleted everywhere. An
//! entry says where the change is in the ledger and holds none of its bytes. Changes of one document that follow one
//! another share a row, so that a history that comes at once costs as much as one change.
//!
//! Entries follow the ledger: [`append`] takes whatever a document has that is not logged yet, in the ledger's order. Thus
//! every entry comes after those it depends on, and nothing is logged twice or left out.
//!
//! A store keeps a log once it has an [`epoch`] or [`backfill`] has begun. From then on deletions are logged by themselves;
//! changes are by whoever appends them, in the same transaction, so that a crash leaves neither without the other.
//!
//! What was deleted leaves its entries behind: they count, and readers skip them. A document that comes back afterwards is
//! logged anew.

use super::{spaces, state, tombstone};
use crate::deletion::DeletionKind;
use crate::id::{DocumentId, Epoch, SpaceId};
use crate::store::record::{self, Reader, position_of_key, prefix_end};
use crate::store::{ReadTx, StoreError, Table, WriteTx};

mod backfill;
mod check;
mod read;
#[cfg(test)]
mod tests;

pub use backfill::backfill;

pub(crate) use check::{Broken, check, mend};
pub use read::{Entry, EntryVisitor, What, read};

const LOG: &str = "log-1";
const LOGGED: &str = "logged-1";

/// The key of the epoch in [`Table::Meta`].
pub(crate) const EPOCH_KEY: &[u8] = b"log-epoch";

/// What [`append`] put into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logged {
    /// In which space.
    pub space: SpaceId,
    /// The position of the first entry; the others follow it.
    pub first: u64,
    /// Where its change is in the ledger.
    pub ledger_first: u64,
    /// How many entries, at least 1.
    pub count: u64,
}

impl Logged {
    /// Returns the position of the last entry.
    pub fn last(&self) -> u64 {
        self.first + self.count - 1
    }

    /// Returns the position of a change's entry, or `None` if it is not among these.
    pub fn position(&self, ledger_position: u64) -> Option<u64> {
        ledger_position.checked_sub(self.ledger_first).filter(|at| *at < self.count).map(|at| self.first + at)
    }
}

/// What happened at the positions of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// How many changes; 0 for a deletion, which takes one position too.
    changes: u64,
    document: DocumentId,
    /// The first change's place in the ledger.
    ledger_first: u64,
}

impl Run {
    /// How many positions it takes.
    fn positions(&self) -> u64 {
        self.changes.max(1)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        record::put_uint(&mut out, self.changes);
        out.extend_from_slice(self.document.as_bytes());
        if self.changes > 0 {
            record::put_uint(&mut out, self.ledger_first);
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut reader = Reader::new(bytes, LOG);
        let changes = reader.count()?;
        let document = reader.take(16)?.try_into().map_err(|_| reader.damaged())?;
        let ledger_first = if changes > 0 { reader.count()? } else { 0 };
        Ok(Self { changes, document: DocumentId::from_bytes(document), ledger_first })
    }
}

/// How much of a document is in the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Standing {
    /// Entries below this position are of a former life of the document, or tell of a deletion that a later one repeats: they
    /// mean nothing any more.
    void_below: u64,
    /// How many of the document's changes are logged: its first ones.
    count: u64,
    /// Which deletion is logged, and holds.
    deletion: Option<DeletionKind>,
}

/// Logs what a document has that is not logged yet, at the end of its space. Returns `None` if there is nothing. Call it in
/// the transaction that appends to the ledger.
///
/// Cost: five lookups and two or three small rows, however many changes.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used; the transaction must then be given up.
pub fn append(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId) -> Result<Option<Logged>, StoreError> {
    let Some(state) = state(tx, document)? else { return Ok(None) };
    let mut standing = standing(tx, document)?.unwrap_or_default();
    let Some(count) = state.count.checked_sub(standing.count).filter(|count| *count > 0) else { return Ok(None) };
    let space = spaces::of(tx, document)?;
    let end = end(tx, &space)?;
    let ledger_first = standing.count;
    let mut run = Run { changes: count, document: *document, ledger_first };
    if let Some(last) = run_ending_at(tx, &space, end)?
        && last.changes > 0
        && last.document == *document
        && last.ledger_first + last.changes == ledger_first
    {
        tx.delete(Table::Log, &run_key(&space, end))?;
        run = Run { changes: last.changes + count, ..last };
    }
    put_run(tx, &space, end + count, &run)?;
    (standing.count, standing.deletion) = (state.count, None);
    put_standing(tx, document, &standing)?;
    Ok(Some(Logged { space, first: end + 1, ledger_first, count }))
}

/// Logs all that a document has once more, at the end of its space, in the place of its entries before: for readers who passed those
/// over while it was put aside. Returns `None` if nothing of it is logged. Cost: as [`append`].
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used; the transaction must then be given up.
pub fn repeat(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId) -> Result<Option<Logged>, StoreError> {
    let standing = standing(tx, document)?.filter(|standing| standing.deletion.is_none() && standing.count > 0);
    let Some(standing) = standing else { return Ok(None) };
    let void_below = end(tx, &spaces::of(tx, document)?)? + 1;
    put_standing(tx, document, &Standing { void_below, count: 0, ..standing })?;
    append(tx, document)
}

/// Returns the last position of a space; 0 if there is none. Cost: one lookup.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn end(tx: &(impl ReadTx + ?Sized), space: &SpaceId) -> Result<u64, StoreError> {
    tx.get(Table::Log, space.as_bytes())?.map_or(Ok(0), |bytes| Reader::new(&bytes, LOG).count())
}

/// Returns the epoch of this store's log, or `None` if it has none yet.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn epoch(tx: &(impl ReadTx + ?Sized)) -> Result<Option<Epoch>, StoreError> {
    let Some(bytes) = tx.get(Table::Meta, EPOCH_KEY)? else { return Ok(None) };
    bytes.try_into().map(|bytes| Some(Epoch::from_bytes(bytes))).map_err(|_| StoreError::Damaged { what: "the epoch" })
}

/// Gives the log an epoch: random bytes, that no log had before. Cursors of the one before it are worth nothing then.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn set_epoch(tx: &mut (impl WriteTx + ?Sized), epoch: &Epoch) -> Result<(), StoreError> {
    tx.put(Table::Meta, EPOCH_KEY, epoch.as_bytes())
}

/// Takes the epoch away: for copies, which may lack what the original told. Whoever opens the copy gives it one.
#[cfg(feature = "redb")]
pub(crate) fn forget_epoch(tx: &mut (impl WriteTx + ?Sized)) -> Result<(), StoreError> {
    tx.delete(Table::Meta, EPOCH_KEY)
}

/// Deletes the log of every space with its epoch: for one that is damaged. [`backfill`] makes it again, and the new epoch makes
/// everybody compare. Cost: all its rows in one transaction.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn reset(tx: &mut (impl WriteTx + ?Sized)) -> Result<(), StoreError> {
    let end = prefix_end(&[u8::MAX]);
    tx.delete_range(Table::Log, &[]..&end)?;
    tx.delete_range(Table::Logged, &[]..&end)?;
    tx.delete(Table::Meta, EPOCH_KEY)?;
    tx.delete(Table::Meta, backfill::FILLED_KEY)
}

/// Returns which life of a document this is, as a number that rises when it is deleted: 0 if it was not. Positions in the
/// ledger mean the same for as long as it stands. Cost: one lookup.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub(crate) fn life(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<u64, StoreError> {
    Ok(standing(tx, document)?.map_or(0, |standing| standing.void_below))
}

/// Reads which life it is from a row of [`Table::Logged`], as [`life`] does.
#[cfg(feature = "redb")]
pub(crate) fn life_of(value: &[u8]) -> Result<u64, StoreError> {
    Ok(decode_standing(value)?.void_below)
}

/// Returns how many of a document's changes are logged: its first ones. Cost: one lookup.
#[cfg(feature = "redb")]
pub(crate) fn logged(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<u64, StoreError> {
    Ok(standing(tx, document)?.map_or(0, |standing| standing.count))
}

/// Reads how many positions a row of [`Table::Log`] takes, at least 1.
#[cfg(feature = "redb")]
pub(crate) fn positions_of(value: &[u8]) -> Result<u64, StoreError> {
    Ok(Run::decode(value)?.positions())
}

/// Says whether deletions are logged here.
fn is_kept(tx: &(impl ReadTx + ?Sized)) -> Result<bool, StoreError> {
    Ok(tx.contains(Table::Meta, EPOCH_KEY)? || tx.contains(Table::Meta, backfill::FILLED_KEY)?)
}

/// Says whether the log knows of a document.
pub(super) fn is_logged(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<bool, StoreError> {
    tx.contains(Table::Logged, document.as_bytes())
}

/// Says whether a document is in the log, or will be when it is filled with what was here before.
pub(super) fn holds(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<bool, StoreError> {
    if is_logged(tx, document)? {
        return Ok(true);
    }
    Ok(is_kept(tx)? && state(tx, document)?.is_some_and(|state| state.count > 0))
}

/// Voids a document's entries: its changes are being deleted. Returns whether the log knows of it.
pub(super) fn void(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId) -> Result<bool, StoreError> {
    let Some(standing) = standing(tx, document)? else { return Ok(false) };
    if standing.deletion.is_some() {
        // Nothing is left to void, and the deletion holds.
        return Ok(true);
    }
    let void_below = end(tx, &spaces::of(tx, document)?)? + 1;
    put_standing(tx, document, &Standing { void_below, count: 0, ..standing })?;
    Ok(true)
}

/// Logs that a document was deleted everywhere, if this store keeps a log and has not logged it. Returns the entry's
/// position.
pub(super) fn bury(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId) -> Result<Option<u64>, StoreError> {
    let Some(tombstone) = tombstone::get(tx, document)? else { return Ok(None) };
    if !is_kept(tx)? || standing(tx, document)?.is_some_and(|standing| standing.deletion >= Some(tombstone.kind)) {
        return Ok(None);
    }
    let space = spaces::of(tx, document)?;
    let position = end(tx, &space)? + 1;
    put_run(tx, &space, position, &Run { changes: 0, document: *document, ledger_first: 0 })?;
    put_standing(tx, document, &Standing { void_below: position, count: 0, deletion: Some(tombstone.kind) })?;
    Ok(Some(position))
}

/// Notes that a document's tombstone is gone: when it is deleted again, that is logged again.
pub(super) fn unbury(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId) -> Result<(), StoreError> {
    match standing(tx, document)? {
        Some(standing) => put_standing(tx, document, &Standing { deletion: None, ..standing }),
        None => Ok(()),
    }
}

/// Puts a run at the end of a space.
fn put_run(tx: &mut (impl WriteTx + ?Sized), space: &SpaceId, last: u64, run: &Run) -> Result<(), StoreError> {
    tx.put(Table::Log, &run_key(space, last), &run.encode())?;
    let mut end = Vec::with_capacity(10);
    record::put_uint(&mut end, last);
    tx.put(Table::Log, space.as_bytes(), &end)
}

fn run_ending_at(tx: &(impl ReadTx + ?Sized), space: &SpaceId, last: u64) -> Result<Option<Run>, StoreError> {
    tx.get(Table::Log, &run_key(space, last))?.map(|bytes| Run::decode(&bytes)).transpose()
}

/// Reads the runs of a space that end above a position, with their last positions: at most `count`.
fn runs_after(
    tx: &(impl ReadTx + ?Sized),
    space: &SpaceId,
    after: u64,
    count: usize,
) -> Result<Vec<(u64, Run)>, StoreError> {
    let Some(first) = after.checked_add(1) else { return Ok(Vec::new()) };
    let mut runs = Vec::new();
    let mut failed = None;
    tx.scan(Table::Log, &run_key(space, first)..&prefix_end(space.as_bytes()), &mut |key, value| {
        match position_of_key(key).and_then(|last| Ok((last, Run::decode(value)?))) {
            Ok(run) => runs.push(run),
            Err(error) => failed = Some(error),
        }
        let go_on = failed.is_none() && runs.len() < count;
        if go_on { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) }
    })?;
    failed.map_or(Ok(runs), Err)
}

fn run_key(space: &SpaceId, last: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(space.as_bytes());
    key[16..].copy_from_slice(&last.to_be_bytes());
    key
}

fn standing(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<Option<Standing>, StoreError> {
    tx.get(Table::Logged, document.as_bytes())?.map(|bytes| decode_standing(&bytes)).transpose()
}

fn decode_standing(bytes: &[u8]) -> Result<Standing, StoreError> {
    let mut reader = Reader::new(bytes, LOGGED);
    let (void_below, count) = (reader.count()?, reader.count()?);
    let deletion = match reader.byte()? {
        0 => None,
        1 => Some(DeletionKind::Deleted),
        2 => Some(DeletionKind::Purged),
        _ => return Err(reader.damaged()),
    };
    Ok(Standing { void_below, count, deletion })
}

fn put_standing(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    standing: &Standing,
) -> Result<(), StoreError> {
    let mut out = Vec::with_capacity(12);
    record::put_uint(&mut out, standing.void_below);
    record::put_uint(&mut out, standing.count);
    out.push(match standing.deletion {
        None => 0,
        Some(DeletionKind::Deleted) => 1,
        Some(DeletionKind::Purged) => 2,
    });
    tx.put(Table::Logged, document.as_bytes(), &out)
}
