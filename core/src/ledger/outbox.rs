//! The outbox: local changes that no relay has acknowledged yet.
//!
//! What was written at one time has neighbouring positions, so a row stands for 64 of them with a bit for each: most writes change
//! eight bytes where they stand, and 64 acknowledgements are the end of one row.

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};

use automerge::ChangeHash;

use super::walk::not_below;
use super::{position, rejected};
use crate::id::DocumentId;
use crate::store::record::{position_key, position_of_key, prefix_end};
use crate::store::{ReadTx, StoreError, Table, WriteTx};

const OUTBOX: &str = "outbox-2";

/// How many positions a row stands for: one for each bit of its value.
const ROW_POSITIONS: u64 = 64;

/// Which of the positions from `first` on wait.
#[derive(Debug, Clone, Copy)]
struct Row {
    first: u64,
    bits: u64,
}

impl Row {
    fn decode(key: &[u8], value: &[u8]) -> Result<Self, StoreError> {
        let first = position_of_key(key)?;
        match value.try_into().map(u64::from_be_bytes) {
            Ok(bits) if bits != 0 && first.is_multiple_of(ROW_POSITIONS) && key.len() == 24 => Ok(Self { first, bits }),
            _ => Err(StoreError::Damaged { what: OUTBOX }),
        }
    }

    /// The row that has a position.
    fn of(tx: &(impl ReadTx + ?Sized), document: &DocumentId, position: u64) -> Result<Self, StoreError> {
        let first = position - position % ROW_POSITIONS;
        let key = position_key(document, first);
        tx.get(Table::Outbox, &key)?.map_or(Ok(Self { first, bits: 0 }), |value| Self::decode(&key, &value))
    }

    fn bit(&self, position: u64) -> u64 {
        1 << (position - self.first)
    }

    fn put(self, tx: &mut (impl WriteTx + ?Sized), document: &DocumentId) -> Result<(), StoreError> {
        let key = position_key(document, self.first);
        if self.bits == 0 {
            tx.delete(Table::Outbox, &key)
        } else {
            tx.put(Table::Outbox, &key, &self.bits.to_be_bytes())
        }
    }

    /// The positions that wait, ascending.
    fn positions(self) -> impl Iterator<Item = u64> {
        (0..ROW_POSITIONS).filter(move |bit| self.bits >> bit & 1 == 1).map(move |bit| self.first + bit)
    }
}

/// Notes that a local change, which is in the ledger, waits for its acknowledgement. Returns whether it does: one that
/// stands on a [`rejected`] change is held back with it.
///
/// Cost: two lookups and one small row, if nothing of the document was rejected.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn push(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId, position: u64) -> Result<bool, StoreError> {
    if let Some(by) = rejected::blocked_by(tx, document, position)? {
        rejected::block(tx, document, position, by)?;
        return Ok(false);
    }
    insert(tx, document, position)?;
    Ok(true)
}

/// Puts a change in, whatever was refused.
pub(super) fn insert(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId, position: u64) -> Result<(), StoreError> {
    let mut row = Row::of(tx, document, position)?;
    row.bits |= row.bit(position);
    row.put(tx, document)
}

/// Takes a change out; returns whether it waited.
pub(super) fn remove(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    position: u64,
) -> Result<bool, StoreError> {
    let mut row = Row::of(tx, document, position)?;
    let bit = row.bit(position);
    if row.bits & bit == 0 {
        return Ok(false);
    }
    row.bits &= !bit;
    row.put(tx, document).map(|()| true)
}

/// Visits rows, those that do not decode too. Break to stop.
fn visit(
    tx: &(impl ReadTx + ?Sized),
    range: Range<&[u8]>,
    mut visitor: impl FnMut(DocumentId, Result<Row, StoreError>) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    tx.scan(Table::Outbox, range, &mut |key, value| match key.first_chunk::<16>() {
        Some(document) => visitor(DocumentId::from_bytes(*document), Row::decode(key, value)),
        None => ControlFlow::Continue(()),
    })
}

/// Returns the positions of a document's waiting changes, in order.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn pending(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<Vec<u64>, StoreError> {
    pending_after(tx, document, None, usize::MAX)
}

/// Returns the positions of a document's waiting changes as far as rows are readable, and whether all are.
pub(crate) fn readable(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<(Vec<u64>, bool), StoreError> {
    let (mut positions, mut are_all) = (Vec::new(), true);
    visit(tx, document.as_bytes()..&prefix_end(document.as_bytes()), |_, row| {
        are_all &= row.is_ok();
        positions.extend(row.into_iter().flat_map(Row::positions));
        ControlFlow::Continue(())
    })?;
    Ok((positions, are_all))
}

/// Returns the position of a document's first waiting change. Cost: one visit.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn first(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<Option<u64>, StoreError> {
    Ok(pending_after(tx, document, None, 1)?.pop())
}

/// Returns the positions of a document's waiting changes behind `after`, in order, at most `positions_max`. Cost: one visit
/// for 64 of them.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn pending_after(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    after: Option<u64>,
    positions_max: usize,
) -> Result<Vec<u64>, StoreError> {
    let mut positions = Vec::new();
    if positions_max == 0 {
        return Ok(positions);
    }
    let from = after.map_or(0, |after| after.saturating_add(1));
    let start = position_key(document, from - from % ROW_POSITIONS);
    let mut failed = None;
    visit(tx, &start..&prefix_end(document.as_bytes()), |_, row| {
        match row {
            Ok(row) => {
                let left = positions_max - positions.len();
                positions.extend(row.positions().filter(|position| *position >= from).take(left));
            }
            Err(error) => failed = Some(error),
        }
        let is_done = failed.is_some() || positions.len() >= positions_max;
        if is_done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    failed.map_or(Ok(positions), Err)
}

/// Says whether a change waits for its acknowledgement. Cost: one lookup.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn is_pending(tx: &(impl ReadTx + ?Sized), document: &DocumentId, position: u64) -> Result<bool, StoreError> {
    let row = Row::of(tx, document, position)?;
    Ok(row.bits & row.bit(position) != 0)
}

/// Says whether no relay is known to have a local change: it waits, or it is held back because a relay refused it, and
/// another one may take it. Cost: two lookups.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn is_unacknowledged(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    position: u64,
) -> Result<bool, StoreError> {
    Ok(is_pending(tx, document, position)? || tx.contains(Table::Rejected, &position_key(document, position))?)
}

/// Returns the documents behind `after` that have changes waiting, in the order of their ids, at most `documents_max`. To go
/// on later, pass the last one. Cost: one lookup a document.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn documents(
    tx: &(impl ReadTx + ?Sized),
    after: Option<&DocumentId>,
    documents_max: usize,
) -> Result<Vec<DocumentId>, StoreError> {
    let mut found: Vec<DocumentId> = Vec::new();
    let end = prefix_end(&[u8::MAX]);
    while found.len() < documents_max {
        let start = found.last().or(after).map_or_else(Vec::new, |last| prefix_end(last.as_bytes()));
        let mut next = None;
        tx.scan(Table::Outbox, &start..&end, &mut |key, _| {
            next = key.first_chunk::<16>().map(|bytes| DocumentId::from_bytes(*bytes));
            ControlFlow::Break(())
        })?;
        let Some(next) = next else { break };
        found.push(next);
    }
    Ok(found)
}

/// Returns each document with changes that wait, and how many. Cost: one visit for 64 changes or less of one document.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn counts(tx: &(impl ReadTx + ?Sized)) -> Result<Vec<(DocumentId, u64)>, StoreError> {
    let mut counts: Vec<(DocumentId, u64)> = Vec::new();
    visit(tx, &[]..&prefix_end(&[u8::MAX]), |document, row| {
        // Of one that is damaged nobody knows, so it counts: who asks whether nothing waits must not hear that.
        let count = row.map_or(1, |row| u64::from(row.bits.count_ones()));
        match counts.last_mut() {
            Some((last, sum)) if *last == document => *sum += count,
            _ => counts.push((document, count)),
        }
        ControlFlow::Continue(())
    })?;
    Ok(counts)
}

/// Returns how many changes of all documents wait. Cost: as [`counts`].
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn count(tx: &(impl ReadTx + ?Sized)) -> Result<u64, StoreError> {
    Ok(counts(tx)?.iter().map(|(_, count)| count).sum())
}

/// Takes out what a relay has, judged by the heads it showed; returns how many changes still wait. What was
/// [`rejected`] and is there now is taken too.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used.
pub fn acknowledge(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    relay_heads: &[ChangeHash],
) -> Result<u64, StoreError> {
    let mut waiting = pending(tx, document)?;
    let held_back = rejected::rows(tx, document)?;
    if waiting.is_empty() && held_back.is_empty() {
        return Ok(0);
    }
    let left_over = waiting.len() as u64;
    waiting.extend(held_back.keys());
    waiting.sort_unstable();
    let mut heads = Vec::with_capacity(relay_heads.len());
    for hash in relay_heads {
        heads.extend(position(tx, document, hash)?);
    }
    // One walk tells for all of them: what it reaches above the relay's heads is what the relay lacks.
    let lacking: BTreeSet<u64> = match not_below(tx, document, waiting.iter().copied(), heads) {
        Ok(lacking) => lacking.into_iter().collect(),
        // Nobody knows yet what the relay's heads cover; it shows them again.
        Err(StoreError::Folded) => return Ok(left_over),
        Err(error) => return Err(error),
    };
    let mut left = left_over;
    for position in waiting.into_iter().filter(|position| !lacking.contains(position)) {
        left += rejected::settle(tx, document, position)?;
        left -= u64::from(remove(tx, document, position)?);
    }
    Ok(left)
}

#[cfg(test)]
mod tests;
