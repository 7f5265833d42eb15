//! The outbox: local changes that no relay has acknowledged yet.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use automerge::ChangeHash;

use super::walk::not_below;
use super::{position, rejected};
use crate::id::DocumentId;
use crate::store::record::{position_key, position_of_key, prefix_end};
use crate::store::{ReadTx, StoreError, Table, WriteTx};

/// Notes that a local change, which is in the ledger, waits for its acknowledgement. Returns whether it does: one that
/// stands on a [`rejected`] change is held back with it.
///
/// Cost: one lookup and one row, if nothing of the document was rejected.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn push(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId, position: u64) -> Result<bool, StoreError> {
    if let Some(by) = rejected::blocked_by(tx, document, position)? {
        rejected::block(tx, document, position, by)?;
        return Ok(false);
    }
    tx.put(Table::Outbox, &position_key(document, position), &[])?;
    Ok(true)
}

/// Returns the positions of a document's waiting changes, in order.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn pending(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<Vec<u64>, StoreError> {
    let mut positions = Vec::new();
    let mut damaged = None;
    tx.scan(Table::Outbox, document.as_bytes()..&prefix_end(document.as_bytes()), &mut |key, _| {
        match position_of_key(key) {
            Ok(position) => positions.push(position),
            Err(error) => damaged = Some(error),
        }
        ControlFlow::Continue(())
    })?;
    damaged.map_or(Ok(positions), Err)
}

/// Returns the positions of a document's waiting changes behind `after`, in order, at most `positions_max`. Cost: one visit
/// for each.
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
    let mut damaged = None;
    let start = position_key(document, after.map_or(0, |after| after.saturating_add(1)));
    tx.scan(Table::Outbox, &start..&prefix_end(document.as_bytes()), &mut |key, _| {
        if positions.len() >= positions_max {
            return ControlFlow::Break(());
        }
        match position_of_key(key) {
            Ok(position) => positions.push(position),
            Err(error) => damaged = Some(error),
        }
        ControlFlow::Continue(())
    })?;
    damaged.map_or(Ok(positions), Err)
}

/// Says whether a change waits for its acknowledgement. Cost: one lookup.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn is_pending(tx: &(impl ReadTx + ?Sized), document: &DocumentId, position: u64) -> Result<bool, StoreError> {
    tx.contains(Table::Outbox, &position_key(document, position))
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

/// Returns how many changes of all documents wait. Cost: one visit for each.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn count(tx: &(impl ReadTx + ?Sized)) -> Result<u64, StoreError> {
    let mut count = 0;
    tx.scan(Table::Outbox, &[]..&prefix_end(&[u8::MAX]), &mut |_, _| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(count)
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
        if tx.contains(Table::Outbox, &position_key(document, position))? {
            tx.delete(Table::Outbox, &position_key(document, position))?;
            left -= 1;
        }
    }
    Ok(left)
}
