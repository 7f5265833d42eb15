//! One logical write, one transaction: what must change together is changed together here.
//!
//! A change that is accepted touches the ledger, the registers and, when it was made here, the outbox. These functions do
//! all of it inside the caller's transaction, so that a store never shows one without the others.

use automerge::ChangeHash;

mod rename;
mod rewrite;
mod take_out;

pub use rewrite::{Rewritten, Unwritable};
pub use take_out::{Reused, drop_rejected, replay};

use crate::fields::{Projector, Touched};
use crate::gate::CheckedChange;
use crate::id::DocumentId;
use crate::ledger::{self, Appended, Appender, outbox};
use crate::store::{StoreError, WriteTx};

/// What became of a batch of changes.
#[derive(Debug, Default)]
pub struct Accepted {
    /// Each change with its fate, in the order they were offered.
    pub results: Vec<(CheckedChange, Appended)>,
    /// What changed, for those who watch.
    pub touched: Touched,
    /// The document's heads afterwards.
    pub heads: Vec<ChangeHash>,
    /// How many changes were stored.
    pub stored: usize,
    /// The document's heads before.
    pub before: Vec<ChangeHash>,
    /// How many of them wait for a relay: local ones, unless they stand on a rejected one.
    pub waiting: u64,
}

/// Where a change comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Made by this process.
    Local,
    /// Received from a peer, or imported.
    Remote,
}

/// Appends changes to a document, updates its registers, and puts local ones into the outbox.
///
/// A change that is refused or lacks its dependencies does not stop the others.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used; the transaction must then be given up.
pub fn accept(
    tx: &mut dyn WriteTx,
    document: DocumentId,
    changes: Vec<CheckedChange>,
    origin: Origin,
) -> Result<Accepted, StoreError> {
    take(tx, document, changes, origin, Projector::append)
}

/// Appends changes from a peer as [`accept`] does, to a document that is here: if it is not, it was deleted, and they do
/// not bring it back.
///
/// # Errors
///
/// As [`accept`].
pub fn accept_known(
    tx: &mut dyn WriteTx,
    document: DocumentId,
    changes: Vec<CheckedChange>,
) -> Result<Accepted, StoreError> {
    if ledger::state(tx, &document)?.is_some() {
        return accept(tx, document, changes, Origin::Remote);
    }
    let results = changes.into_iter().map(|change| (change, Appended::Deleted)).collect();
    Ok(Accepted { results, ..Accepted::default() })
}

/// Appends a change that this process made on the document as the same store has it, and puts it into the outbox.
///
/// What it refers to is there, so nobody looks; otherwise as [`accept`].
///
/// # Errors
///
/// As [`accept`].
pub(crate) fn accept_own(
    tx: &mut dyn WriteTx,
    document: DocumentId,
    change: CheckedChange,
) -> Result<Accepted, StoreError> {
    take(tx, document, vec![change], Origin::Local, Projector::append_own)
}

type Append<'t> =
    fn(&mut Projector, &mut (dyn WriteTx + 't), &mut Appender, &CheckedChange) -> Result<Appended, StoreError>;

fn take<'t>(
    tx: &mut (dyn WriteTx + 't),
    document: DocumentId,
    changes: Vec<CheckedChange>,
    origin: Origin,
    append: Append<'t>,
) -> Result<Accepted, StoreError> {
    let mut appender = Appender::begin(tx, document)?;
    let mut accepted = Accepted { before: appender.state().head_hashes(), ..Accepted::default() };
    let mut projector = Projector::begin(document);
    for change in changes {
        let appended = append(&mut projector, tx, &mut appender, &change)?;
        if let Appended::Stored { position } = appended {
            accepted.stored += 1;
            if origin == Origin::Local {
                accepted.waiting += u64::from(outbox::push(tx, &document, position)?);
            }
        }
        accepted.results.push((change, appended));
    }
    // Refused changes alone must not bring a document into being.
    if accepted.stored > 0 {
        accepted.heads = appender.finish(tx)?.head_hashes();
    } else {
        accepted.heads = ledger::heads(tx, &document)?;
    }
    accepted.touched = projector.finish(tx)?;
    Ok(accepted)
}
