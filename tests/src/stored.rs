//! Stores that already hold a document when a scenario begins.

use automerge::Automerge;
use rejoin::DocumentId;
use rejoin::gate::CheckedChange;
use rejoin::ledger::Appender;
use rejoin::store::{Store, StoreExt};

/// Appends all changes of a document that the store does not have yet.
pub fn append(store: &impl Store, document: DocumentId, automerge: &Automerge) {
    store
        .write_with(|tx| {
            let mut appender = Appender::begin(tx, document)?;
            for change in automerge.get_changes(&[]) {
                appender.append(tx, &CheckedChange::parse(change.raw_bytes()).unwrap())?;
            }
            appender.finish(tx)
        })
        .unwrap();
}
