//! Upkeep: the work that nobody waits for. One thread packs old changes and unfolds documents that arrived whole.

use std::collections::HashMap;
use std::ops::ControlFlow;

use tokio::sync::{broadcast, mpsc};

use super::events::{self, Event, EventKind};
use super::whole::{self, Weak};
use super::{Inner, RepoError, now_seconds};
use crate::id::DocumentId;
use crate::ledger::{base, receipts, requests};
use crate::limits::PACK_CHANGES_MIN;
use crate::runtime;
use crate::store::record::prefix_end;
use crate::store::{StoreError, StoreExt, Table};

/// How many documents are swept in one transaction: bounds how long writes wait for it.
const SWEEP_DOCUMENTS: usize = 256;

/// Starts the thread. It ends with the repo, and drops `ended` last of all.
pub(super) fn start(repo: Weak, events: broadcast::Receiver<Event>, ended: mpsc::Sender<()>) -> Result<(), RepoError> {
    runtime::start("rejoin-upkeep", async move {
        run(&repo, events).await;
        drop(ended);
    })?;
    Ok(())
}

async fn run(repo: &Weak, mut events: broadcast::Receiver<Event>) {
    unfold_all(repo);
    if let Some(inner) = repo.upgrade()
        && let Err(error) = sweep(&inner)
    {
        tracing::warn!(%error, "failed to sweep the receipts");
    }
    // How many changes a document got since it was looked at.
    let mut grown: HashMap<DocumentId, u64> = HashMap::new();
    loop {
        match events.recv().await {
            Ok(event) => match event.kind {
                EventKind::Changed => {
                    let count = grown.entry(event.document).or_default();
                    *count += event.changes;
                    if *count >= PACK_CHANGES_MIN as u64 {
                        *count = 0;
                        attend(repo, "pack", event.document, |inner| whole::pack(inner, event.document));
                    }
                }
                EventKind::Arrived => unfold(repo, event.document),
                EventKind::Deleted => drop(grown.remove(&event.document)),
                _ => {}
            },
            Err(broadcast::error::RecvError::Lagged(_)) => unfold_all(repo),
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

fn unfold_all(repo: &Weak) {
    let folded = repo.upgrade().and_then(|inner| base::folded(inner.store.read().ok()?.as_ref()).ok());
    for document in folded.unwrap_or_default() {
        unfold(repo, document);
    }
}

fn unfold(repo: &Weak, document: DocumentId) {
    attend(repo, "unfold", document, |inner| {
        let unfolded = inner.unfold(document);
        if unfolded.is_err() {
            events::publish(&inner.events, Event::stays_folded(document));
        }
        unfolded
    });
}

/// Drops what need not be known of receipts any more. Documents that are written to do it by themselves, so once for each
/// opening is enough.
fn sweep(inner: &Inner) -> Result<(), StoreError> {
    if has_rows(inner, Table::Request)? {
        inner.store.write_with(|tx| requests::sweep(tx, now_seconds()))?;
    }
    let mut any = has_rows(inner, Table::Receipt)?;
    let mut after = None;
    while any {
        after = inner.store.write_with(|tx| receipts::sweep(tx, after.as_ref(), SWEEP_DOCUMENTS))?;
        any = after.is_some();
    }
    Ok(())
}

fn has_rows(inner: &Inner, table: Table) -> Result<bool, StoreError> {
    let mut any = false;
    inner.store.read()?.scan(table, &[]..&prefix_end(&[u8::MAX]), &mut |_, _| {
        any = true;
        ControlFlow::Break(())
    })?;
    Ok(any)
}

/// Does a piece of work if the repo is still there. What fails is tried again another time.
fn attend(
    repo: &Weak,
    what: &str,
    document: DocumentId,
    work: impl FnOnce(&std::sync::Arc<Inner>) -> Result<(), RepoError>,
) {
    let Some(inner) = repo.upgrade() else { return };
    if let Err(error) = work(&inner) {
        tracing::warn!(document = %document.label(), %error, "failed to {what} the history of a document");
    }
}
