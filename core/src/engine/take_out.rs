//! Why local changes are taken out of a document again: because the application drops them, or because they have to be written
//! under another actor.

use std::collections::BTreeSet;

use automerge::{ActorId, ChangeHash};

use super::rename::under_fresh_actors;
use super::rewrite::{Kept, Rewritten, Unwritable, rewrite};
use crate::gate::CheckedChange;
use crate::id::DocumentId;
use crate::ledger::branches::{self, Branch};
use crate::ledger::rejected::{self, Row};
use crate::ledger::{self, outbox};
use crate::store::{ReadTx, StoreError, WriteTx};

/// How it is known that somebody else wrote with an actor of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reused {
    /// A relay refused this change of ours: it has another one with its number.
    Refused(ChangeHash),
    /// A change arrived that has the number of one of ours.
    Arrived {
        /// Whose.
        actor: ActorId,
        /// The number.
        seq: u64,
    },
}

/// Takes a rejected change out of a document, with all that stand on it, and keeps them as a branch. `None` if no such
/// change is rejected.
///
/// The numbers of those changes' actors are free again here and may be used up elsewhere: write with other actors from then on. Cost:
/// as if all changes of the document were received once more, in memory.
///
/// # Errors
///
/// [`Unwritable`] if it cannot be done: nothing was written then. [`StoreError::Folded`] while the document's history is
/// being unfolded; otherwise what the store reports, and the transaction must be given up.
pub fn drop_rejected(
    tx: &mut dyn WriteTx,
    document: DocumentId,
    change: &ChangeHash,
    time_seconds: u64,
) -> Result<Result<Option<(Branch, Rewritten)>, Unwritable>, StoreError> {
    let Some(at) = ledger::position(tx, &document, change)? else { return Ok(Ok(None)) };
    let Some(Row::Refused(rejection)) = rejected::get(tx, &document, at)? else { return Ok(Ok(None)) };
    let (kept, rewritten) = match rewrite(tx, document, &BTreeSet::from([at]), |_| Ok(Vec::new()))? {
        Ok(done) => done,
        Err(error) => return Ok(Err(error)),
    };
    let number = branches::put(tx, &document, &rejection, time_seconds, &below(&kept), &kept.taken)?;
    let changes = kept.taken.len() as u64;
    Ok(Ok(Some((Branch { number, rejection, time_seconds, changes }, rewritten))))
}

/// Writes again, under fresh actors, what no relay has of an actor that somebody else used too: from where both differ, with
/// all that stands on it. `None` if nothing of that waits here.
///
/// What both have in common stays as it is, acknowledged or not, so nothing is there twice. Afterwards the other's changes are
/// welcome here, and ours there. `fresh` gives an actor that nobody ever used, each time it is called. Cost: as
/// [`drop_rejected`].
///
/// # Errors
///
/// As [`drop_rejected`].
pub fn replay(
    tx: &mut dyn WriteTx,
    document: DocumentId,
    reused: &Reused,
    fresh: &mut dyn FnMut() -> ActorId,
) -> Result<Result<Option<Rewritten>, Unwritable>, StoreError> {
    let Some(at) = fork(tx, &document, reused)? else { return Ok(Ok(None)) };
    let replace = |kept: &Kept| under_fresh_actors(&kept.taken, fresh);
    let done = rewrite(tx, document, &BTreeSet::from([at]), replace)?;
    Ok(done.map(|(_, rewritten)| Some(rewritten)))
}

/// Finds the first change of ours that differs from what somebody else wrote with its actor: only among those that no relay
/// has.
fn fork(tx: &dyn WriteTx, document: &DocumentId, reused: &Reused) -> Result<Option<u64>, StoreError> {
    let local = local(tx, document)?;
    match reused {
        Reused::Refused(hash) => Ok(ledger::position(tx, document, hash)?.filter(|at| local.contains(at))),
        Reused::Arrived { actor, seq } => {
            for position in local {
                let node = ledger::node(tx, document, position)?;
                if node.actor == *actor && node.seq >= *seq {
                    return Ok(Some(position));
                }
            }
            Ok(None)
        }
    }
}

/// Returns the positions of all changes that no relay has.
pub(super) fn local(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<BTreeSet<u64>, StoreError> {
    let mut local: BTreeSet<u64> = outbox::pending(tx, document)?.into_iter().collect();
    local.extend(rejected::rows(tx, document)?.into_keys());
    Ok(local)
}

/// Returns those that no relay has and that the taken ones stand on.
fn below(kept: &Kept) -> Vec<CheckedChange> {
    let mut wanted: BTreeSet<ChangeHash> = kept.taken.iter().flat_map(|change| change.deps()).copied().collect();
    let mut below = Vec::new();
    for change in kept.unsent.iter().rev() {
        if wanted.contains(&change.hash()) {
            wanted.extend(change.deps());
            below.push(change.clone());
        }
    }
    below.reverse();
    below
}
