//! Taking local changes out of a document again, all that stands on them with them, as if they had never been made.
//!
//! Only what no relay has can be taken out; what others have comes back, and its actor's numbers are used up. The other changes keep
//! their order, so each is accepted once more; registers and indices are made from them anew. All of it is made aside first, and
//! put in place of the old rows when nothing can fail any more.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use automerge::ChangeHash;

use super::take_out::local;
use super::{Origin, accept};
use crate::gate::CheckedChange;
use crate::id::{DocumentId, StorageId};
use crate::ledger::{self, Appended, log, outbox, receipts, rejected, shared, snapshot};
use crate::limits::REPLAY_CHANGES;
use crate::store::record::prefix_end;
use crate::store::{MemoryStore, ReadTx, Store, StoreError, StoreExt, Table, WriteTx};

/// What was done to a document.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Rewritten {
    /// By how many more local changes wait for a relay than before; fewer, if it is negative.
    pub waiting: i64,
    /// What changes are called that were written again: the former name, then the new one, each after those it depends on.
    pub renamed: Vec<(ChangeHash, ChangeHash)>,
    /// The document's heads afterwards.
    pub heads: Vec<ChangeHash>,
}

/// Why a document was left as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unwritable {
    /// There is nothing to take out.
    #[error("the change is not in the document")]
    Unknown,
    /// A change that would have to go is not ours alone.
    #[error("change {hash} stands on it, and others have that one already")]
    Shared {
        /// Which.
        hash: ChangeHash,
    },
    /// The changes cannot be written anew.
    #[error("the changes cannot be written again: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
}

/// What is there when some changes are out.
#[derive(Debug)]
pub(super) struct Kept {
    /// Those that are taken out, in order.
    pub(super) taken: Vec<CheckedChange>,
    /// Local changes that stay, and those taken out may stand on: no relay has them.
    pub(super) unsent: Vec<CheckedChange>,
}

/// Takes the changes at `roots` out of a document with all that stand on them, and puts in what `replace` makes of them, as
/// local changes.
///
/// Cost: as if all changes of the document were received once more, in memory.
///
/// # Errors
///
/// [`Unwritable`] if it cannot be done: nothing was written then. [`StoreError::Folded`] while the document's history is
/// being unfolded, and otherwise what the store reports.
pub(super) fn rewrite(
    tx: &mut dyn WriteTx,
    document: DocumentId,
    roots: &BTreeSet<u64>,
    replace: impl FnOnce(&Kept) -> Result<Vec<CheckedChange>, String>,
) -> Result<Result<(Kept, Rewritten), Unwritable>, StoreError> {
    let Some(state) = ledger::state(tx, &document)? else { return Ok(Err(Unwritable::Unknown)) };
    if roots.is_empty() || roots.last().is_some_and(|last| *last >= state.count) {
        return Ok(Err(Unwritable::Unknown));
    }
    let out = rejected::standing_on(tx, &document, roots)?;
    let local = local(tx, &document)?;
    if let Some(other) = out.difference(&local).next() {
        return Ok(Err(Unwritable::Shared { hash: ledger::node(tx, &document, *other)?.hash }));
    }
    let (kept, mut stay) = split(tx, &document, &out, &local)?;
    let added = match replace(&kept) {
        Ok(added) => added,
        Err(reason) => return Ok(Err(Unwritable::Refused { reason })),
    };
    let aside = MemoryStore::new();
    let count = stay.len() as u64;
    stay.extend(added.iter().cloned());
    if let Err(reason) = aside.write_with(|tx| fill(tx, document, stay))? {
        return Ok(Err(Unwritable::Refused { reason }));
    }
    let waiting = exchange(tx, &document, &out, aside.read()?.as_ref(), count..count + added.len() as u64)?;
    let heads = ledger::heads(tx, &document)?;
    let renamed = kept.taken.iter().zip(&added).map(|(old, new)| (old.hash(), new.hash())).collect();
    Ok(Ok((kept, Rewritten { waiting, renamed, heads })))
}

/// Reads all changes, and parts those that go from those that stay.
fn split(
    tx: &dyn ReadTx,
    document: &DocumentId,
    out: &BTreeSet<u64>,
    local: &BTreeSet<u64>,
) -> Result<(Kept, Vec<CheckedChange>), StoreError> {
    let mut kept = Kept { taken: Vec::new(), unsent: Vec::new() };
    let mut stay = Vec::new();
    let mut position = 0;
    let mut damaged = false;
    ledger::export(tx, document, 0, &mut |bytes| {
        match CheckedChange::parse(bytes) {
            Ok(change) if out.contains(&position) => kept.taken.push(change),
            Ok(change) => {
                if local.contains(&position) {
                    kept.unsent.push(change.clone());
                }
                stay.push(change);
            }
            Err(_) => damaged = true,
        }
        position += 1;
        if damaged { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if damaged { Err(StoreError::Damaged { what: "change-1" }) } else { Ok((kept, stay)) }
}

/// Makes a document of changes.
fn fill(
    tx: &mut dyn WriteTx,
    document: DocumentId,
    mut changes: Vec<CheckedChange>,
) -> Result<Result<(), String>, StoreError> {
    ledger::create(tx, &document)?;
    let mut from = 0_u64;
    while !changes.is_empty() {
        let rest = changes.split_off(changes.len().min(REPLAY_CHANGES));
        let some = std::mem::replace(&mut changes, rest);
        let accepted = accept(tx, document, some, Origin::Remote)?;
        for (change, fate) in accepted.results {
            match fate {
                Appended::Stored { position } if position == from => from += 1,
                Appended::Rejected(error) => return Ok(Err(error.to_string())),
                _ => return Ok(Err(format!("change {} has no place", change.hash()))),
            }
        }
    }
    Ok(Ok(()))
}

/// Puts rows that were made aside in the place of a document's own, and what was noted of its changes where they are now.
/// Returns by how many more changes wait.
fn exchange(
    tx: &mut dyn WriteTx,
    document: &DocumentId,
    out: &BTreeSet<u64>,
    aside: &dyn ReadTx,
    added: std::ops::Range<u64>,
) -> Result<i64, StoreError> {
    let removed: Vec<u64> = out.iter().copied().collect();
    let moved = |position: u64| position - removed.partition_point(|at| *at < position) as u64;
    let pending = outbox::pending(tx, document)?;
    let held_back = rejected::rows(tx, document)?;
    let shared = shared_rows(tx, document)?;
    // The snapshot is of the first changes, and those are the same unless one of them goes.
    let keeps_snapshot = snapshot::info(tx, document)?.is_some_and(|info| out.first() >= Some(&info.count));
    receipts::renumber(tx, document, &removed)?;
    ledger::clear(tx, document, |table| match table {
        Table::Receipt | Table::Branch => false,
        Table::Snapshot => !keeps_snapshot,
        _ => true,
    })?;
    copy(tx, document, aside)?;
    for (position, row) in held_back.into_iter().filter(|(position, _)| !out.contains(position)) {
        let row = match row {
            rejected::Row::Blocked(by) => rejected::Row::Blocked(moved(by)),
            refused => refused,
        };
        rejected::put(tx, document, moved(position), &row)?;
    }
    let mut waiting = 0;
    for position in
        pending.iter().filter(|position| !out.contains(position)).map(|position| moved(*position)).chain(added)
    {
        waiting += i64::from(outbox::push(tx, document, position)?);
    }
    for (peer, heads) in shared {
        let mut known = Vec::with_capacity(heads.len());
        for hash in heads {
            known.extend(ledger::position(tx, document, &hash)?.map(|_| hash));
        }
        if !known.is_empty() {
            shared::put(tx, document, &peer, &known)?;
        }
    }
    log::mend(tx, document)?;
    Ok(waiting - i64::try_from(pending.len()).unwrap_or(i64::MAX))
}

/// Copies all rows of a document.
fn copy(tx: &mut dyn WriteTx, document: &DocumentId, from: &dyn ReadTx) -> Result<(), StoreError> {
    let end = prefix_end(document.as_bytes());
    for table in Table::ALL.into_iter().filter(|table| table.is_of_documents()) {
        let mut failed = None;
        from.scan(table, document.as_bytes()..&end, &mut |key, value| match tx.put(table, key, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failed.map_or(Ok(()), Err)?;
    }
    Ok(())
}

/// Reads with whom which heads are shared.
fn shared_rows(tx: &dyn WriteTx, document: &DocumentId) -> Result<Vec<(StorageId, Vec<ChangeHash>)>, StoreError> {
    let mut peers = Vec::new();
    let end = prefix_end(document.as_bytes());
    tx.scan(Table::Shared, document.as_bytes()..&end, &mut |key, _| {
        peers.extend(key.get(16..).and_then(|id| id.try_into().ok()).map(StorageId::from_bytes));
        ControlFlow::Continue(())
    })?;
    peers.into_iter().map(|peer| Ok((peer, shared::get(tx, document, &peer)?))).collect()
}
