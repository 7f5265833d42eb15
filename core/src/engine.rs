//! One logical write, one transaction: what must change together is changed together here.
//!
//! A change that is accepted touches the ledger, the registers and, when it was made here, the outbox. These functions do
//! all of it inside the caller's transaction, so that a store never shows one without the others.

use automerge::ChangeHash;

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
    let mut accepted = Accepted::default();
    let mut appender = Appender::begin(tx, document)?;
    let mut projector = Projector::begin(document);
    for change in changes {
        let appended = match origin {
            Origin::Local => projector.append_own(tx, &mut appender, &change)?,
            Origin::Remote => projector.append(tx, &mut appender, &change)?,
        };
        if let Appended::Stored { position } = appended {
            accepted.stored += 1;
            if origin == Origin::Local {
                outbox::push(tx, &document, position)?;
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
