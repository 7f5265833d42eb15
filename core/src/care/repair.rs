//! Repairing: computing from a document's changes everything that can be computed.

use super::replay::{Refusal, append, changes_of};
use super::{Registers, require_format};
use crate::id::{DocumentId, StorageId};
use crate::ledger::{self, base, cursor, log, outbox, rejected, shared, spaces};
use crate::limits::REPLAY_CHANGES;
use crate::store::record::prefix_end;
use crate::store::{Store, StoreError, StoreExt, Table, WriteTx};

/// What [`repair()`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repaired {
    /// How many changes the document has: as many as before.
    pub changes: u64,
    /// How many of them wait for their acknowledgement.
    pub waiting: u64,
}

/// Why a document was not repaired. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nothing of it.
    #[error("failed to find the document: nothing of it is in this store")]
    NotFound,
    /// Changes were lost: they cannot be computed.
    #[error(
        "failed to repair the document: the change at position {position} cannot be used ({reason}); \
         restore a backup, or delete the document here and fetch it again from another peer"
    )]
    Change {
        /// Where.
        position: u64,
        /// What is wrong with it.
        reason: String,
    },
}

impl From<Refusal> for RepairError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Change { position, reason } | Refusal::Refused { position, reason } => {
                Self::Change { position, reason }
            }
        }
    }
}

/// Computes everything about a document anew from its changes, in one transaction: its record, its graph, its indices,
/// and its registers if the store has them. Positions stay. What waits in the outbox goes on waiting; a position there,
/// or a shared head, that is not in the document is dropped. Where the outbox itself is damaged, the document's space is compared with
/// each relay the next time, which shows what they lack.
///
/// Cost: as if all changes were received once more; memory: a few times the document's changes.
///
/// # Errors
///
/// [`RepairError`]; nothing was changed then. [`StoreError::Folded`] while the document's history is being unfolded.
pub fn repair(store: &dyn Store, document: DocumentId, registers: Registers) -> Result<Repaired, RepairError> {
    require_format(store.read()?.as_ref())?;
    let mut failure = None;
    let outcome = store.write_with(|tx| {
        rebuild(tx, document, registers)?.map_err(|error| {
            failure = Some(error);
            // Any error takes the transaction back; the reason is told above.
            StoreError::NotCalled
        })
    });
    match (outcome, failure) {
        (Err(_), Some(error)) => Err(error),
        (outcome, _) => Ok(outcome?),
    }
}

fn rebuild(
    tx: &mut dyn WriteTx,
    document: DocumentId,
    registers: Registers,
) -> Result<Result<Repaired, RepairError>, StoreError> {
    if base::folded(tx)?.contains(&document) {
        return Err(StoreError::Folded);
    }
    let counted = match ledger::state(tx, &document) {
        Ok(state) => state.map(|state| state.count),
        Err(StoreError::Damaged { .. }) => {
            // What is to be repaired must not hinder reading the changes.
            tx.delete(Table::Document, document.as_bytes())?;
            Some(0)
        }
        Err(error) => return Err(error),
    };
    let mut changes = Vec::new();
    let parsed = changes_of(tx, &document, |some| {
        changes.extend(some);
        Ok(Ok(()))
    })?;
    if let Err(refusal) = parsed {
        return Ok(Err(refusal.into()));
    }
    let count = changes.len() as u64;
    match counted {
        None if count == 0 => return Ok(Err(RepairError::NotFound)),
        Some(counted) if counted > count => {
            let reason = format!("the document has {counted} changes, and {count} are there");
            return Ok(Err(RepairError::Change { position: count, reason }));
        }
        _ => {}
    }
    let (mut waiting, is_outbox_whole) = outbox::readable(tx, &document)?;
    waiting.retain(|at| *at < count);
    if !is_outbox_whole {
        cursor::forget_everywhere(tx, &spaces::of(tx, &document)?)?;
    }
    let shared = shared_rows(tx, &document)?;
    // Receipts and refusals, like the space and the log, speak of positions, and those stay. Branches and owners are nowhere else.
    let stays = |table| matches!(table, Table::Receipt | Table::Rejected | Table::Branch | Table::Owner);
    ledger::clear(tx, &document, |table| !stays(table))?;
    ledger::create(tx, &document)?;
    let mut from = 0;
    while !changes.is_empty() {
        let rest = changes.split_off(changes.len().min(REPLAY_CHANGES));
        let some = std::mem::replace(&mut changes, rest);
        let appended = some.len() as u64;
        if let Err(refusal) = append(tx, document, some, registers, from)? {
            return Ok(Err(refusal.into()));
        }
        from += appended;
    }
    rejected::mend(tx, &document)?;
    for position in waiting {
        outbox::push(tx, &document, position)?;
    }
    let waiting = outbox::pending(tx, &document)?.len() as u64;
    for (peer, heads) in shared {
        let mut known = Vec::with_capacity(heads.len());
        for hash in heads {
            known.extend(ledger::position(tx, &document, &hash)?.map(|_| hash));
        }
        if !known.is_empty() {
            shared::put(tx, &document, &peer, &known)?;
        }
    }
    drop_owners_of_nothing(tx, &document)?;
    log::mend(tx, &document)?;
    Ok(Ok(Repaired { changes: count, waiting }))
}

/// Deletes the owners of actors that have no change here, and those without a name.
fn drop_owners_of_nothing(tx: &mut dyn WriteTx, document: &DocumentId) -> Result<(), StoreError> {
    let mut owners = Vec::new();
    let end = prefix_end(document.as_bytes());
    tx.scan(Table::Owner, document.as_bytes()..&end, &mut |key, principal| {
        owners.push((key.to_vec(), !principal.is_empty() && std::str::from_utf8(principal).is_ok()));
        std::ops::ControlFlow::Continue(())
    })?;
    for (key, is_named) in owners {
        let actor = automerge::ActorId::from(key.get(16..).unwrap_or_default());
        if !is_named || ledger::last_seq(tx, document, &actor)? == 0 {
            tx.delete(Table::Owner, &key)?;
        }
    }
    Ok(())
}

type SharedRows = Vec<(StorageId, Vec<automerge::ChangeHash>)>;

/// Reads with whom which heads are shared; what does not decode is left out, it is a hint and no more.
fn shared_rows(tx: &dyn WriteTx, document: &DocumentId) -> Result<SharedRows, StoreError> {
    let mut peers = Vec::new();
    let end = prefix_end(document.as_bytes());
    tx.scan(Table::Shared, document.as_bytes()..&end, &mut |key, _| {
        peers.extend(key.get(16..).and_then(|id| id.try_into().ok()).map(StorageId::from_bytes));
        std::ops::ControlFlow::Continue(())
    })?;
    let rows = peers.into_iter().filter_map(|peer| match shared::get(tx, document, &peer) {
        Ok(heads) => Some(Ok((peer, heads))),
        Err(StoreError::Damaged { .. }) => None,
        Err(error) => Some(Err(error)),
    });
    rows.collect()
}
