//! The log of a store that had documents before it had a log.

use std::ops::ControlFlow;

use super::{append, bury};
use crate::id::DocumentId;
use crate::store::record::prefix_end;
use crate::store::{ReadTx, StoreError, Table, WriteTx};

/// The key in [`Table::Meta`] that says how far the log was filled with what was there before it.
pub(super) const FILLED_KEY: &[u8] = b"log-filled";

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Documents,
    Tombstones,
    Done,
}

/// Logs what was here before the log, at most `documents_max` documents or tombstones of it: call it, each time in a
/// transaction of its own, until it returns that all is done. How far it is stands in the store, so it goes on after a
/// crash, and the relay may serve meanwhile.
///
/// The order is always the same: the documents by their ids, each one's changes in the ledger's order, and then the deletions.
/// Cost: one row a document; when all is done, one lookup.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used; the transaction must then be given up.
pub fn backfill(tx: &mut (impl WriteTx + ?Sized), documents_max: usize) -> Result<bool, StoreError> {
    let (phase, start) = progress(tx)?;
    let table = match phase {
        Phase::Documents => Table::Document,
        Phase::Tombstones => Table::Tombstone,
        Phase::Done => return Ok(true),
    };
    let some = documents_from(tx, table, &start, documents_max.max(1))?;
    // Deletions are logged from the first step on.
    let (phase, next) = match (some.last(), phase) {
        (Some(last), phase) => (phase, prefix_end(last.as_bytes())),
        (None, Phase::Documents) => (Phase::Tombstones, Vec::new()),
        (None, _) => (Phase::Done, Vec::new()),
    };
    put_progress(tx, phase, &next)?;
    for document in &some {
        match table {
            Table::Document => drop(append(tx, document)?),
            _ => drop(bury(tx, document)?),
        }
    }
    Ok(phase == Phase::Done)
}

/// Collects documents from a key on.
fn documents_from(
    tx: &(impl ReadTx + ?Sized),
    table: Table,
    start: &[u8],
    count: usize,
) -> Result<Vec<DocumentId>, StoreError> {
    let mut found = Vec::new();
    tx.scan(table, start..&prefix_end(&[u8::MAX]), &mut |key, _| {
        // Behind a tombstone stand the relays that have it.
        found.extend(key.try_into().ok().map(DocumentId::from_bytes));
        if found.len() < count { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}

fn progress(tx: &(impl ReadTx + ?Sized)) -> Result<(Phase, Vec<u8>), StoreError> {
    let Some(bytes) = tx.get(Table::Meta, FILLED_KEY)? else { return Ok((Phase::Documents, Vec::new())) };
    let phase = match bytes.first() {
        Some(0) => Phase::Documents,
        Some(1) => Phase::Tombstones,
        Some(2) => Phase::Done,
        _ => return Err(StoreError::Damaged { what: "how far the log was filled" }),
    };
    Ok((phase, bytes.get(1..).unwrap_or_default().to_vec()))
}

fn put_progress(tx: &mut (impl WriteTx + ?Sized), phase: Phase, next: &[u8]) -> Result<(), StoreError> {
    let phase = match phase {
        Phase::Documents => 0,
        Phase::Tombstones => 1,
        Phase::Done => 2,
    };
    tx.put(Table::Meta, FILLED_KEY, &[&[phase], next].concat())
}
