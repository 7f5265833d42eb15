//! Upkeep: the work that nobody waits for. One thread packs old changes and unfolds documents that arrived whole. Where there are no
//! threads, packing waits for a lull: a fifth of what a burst of writes costs.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};

use super::events::{self, Event, EventKind};
use super::whole::{self, Packed, Weak};
use super::{Inner, RepoError, now_seconds};
use crate::id::DocumentId;
use crate::ledger::{base, receipts, requests};
use crate::limits::{PACK_CHANGES_MIN, PACK_CHANGES_WORTH, UNFOLD_AGAIN, UNFOLD_AGAIN_MAX};
use crate::runtime::{self, Instant};
use crate::store::record::prefix_end;
use crate::store::{StoreError, StoreExt, Table};

/// How many documents are swept in one transaction: bounds how long writes wait for it.
const SWEEP_DOCUMENTS: usize = 256;

/// How many changes a document gets before what it had before is asked for: a first sync of many small ones asks for none.
const ASK_AFTER: u64 = PACK_CHANGES_WORTH as u64;

/// How many changes of a document wait for a lull to be packed in. Who writes without one is held up by it, once for these.
const WAITING_MAX: u64 = 4 * PACK_CHANGES_MIN as u64;

/// Starts the thread. It ends with the repo, and drops `ended` last of all.
pub(super) fn start(repo: Weak, events: broadcast::Receiver<Event>, ended: mpsc::Sender<()>) -> Result<(), RepoError> {
    runtime::start("rejoin-upkeep", async move {
        run(&repo, events).await;
        drop(ended);
    })?;
    Ok(())
}

async fn run(repo: &Weak, mut events: broadcast::Receiver<Event>) {
    let mut folded = Folded::default();
    folded.unfold_all(repo);
    if let Some(inner) = repo.upgrade()
        && let Err(error) = sweep(&inner)
    {
        tracing::warn!(%error, "failed to sweep the receipts");
    }
    let mut grown = Grown::default();
    loop {
        folded.unfold_due(repo);
        let event = if grown.due.is_empty() {
            let Ok(event) = runtime::wait_until(folded.next(), events.recv()).await else { continue };
            event
        } else if let Ok(event) = runtime::lull(events.recv()).await {
            event
        } else {
            if let Some(&document) = grown.due.front() {
                grown.pack(repo, document);
            }
            continue;
        };
        match event {
            Ok(event) => match event.kind {
                EventKind::Changed => grown.note(repo, event.document, event.changes),
                EventKind::Arrived => folded.unfold(repo, event.document),
                EventKind::Deleted => {
                    grown.forget(&event.document);
                    folded.forget(&event.document);
                }
                _ => {}
            },
            Err(broadcast::error::RecvError::Lagged(_)) => {
                folded.unfold_all(repo);
                // What was missed is in the store: it is looked for there with the next change.
                grown.documents.values_mut().for_each(|growth| growth.is_whole = false);
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// What was written since it was packed.
#[derive(Debug, Default)]
struct Grown {
    documents: HashMap<DocumentId, Growth>,
    /// Those with enough of it, the first first.
    due: VecDeque<DocumentId>,
}

#[derive(Debug, Default)]
struct Growth {
    changes: u64,
    /// How many of them came since some were packed.
    since: u64,
    /// Whether what was there before is among them.
    is_whole: bool,
}

impl Grown {
    /// Notes changes of a document, and packs it if it cannot wait.
    fn note(&mut self, repo: &Weak, document: DocumentId, changes: u64) {
        let growth = self.documents.entry(document).or_default();
        let before = growth.changes;
        growth.changes += changes;
        growth.since += changes;
        if !growth.is_whole && growth.changes >= ASK_AFTER {
            growth.is_whole = true;
            let left = repo.upgrade().and_then(|inner| whole::unpacked(&*inner.store.read().ok()?, &document).ok());
            growth.changes = growth.changes.max(left.unwrap_or(0));
        }
        let enough = PACK_CHANGES_MIN as u64;
        if before < enough && growth.changes >= enough {
            self.due.push_back(document);
        }
        if growth.since >= WAITING_MAX {
            self.pack(repo, document);
        }
    }

    /// Makes one pack. Where there is enough for another, others get a turn before that.
    fn pack(&mut self, repo: &Weak, document: DocumentId) {
        self.due.retain(|due| *due != document);
        let mut packed = Packed::default();
        attend(repo, "pack", document, |inner| {
            packed = whole::pack(inner, document)?;
            Ok(())
        });
        let Some(growth) = self.documents.get_mut(&document) else { return };
        let is_enough = packed.left >= PACK_CHANGES_MIN as u64;
        if is_enough && packed.any {
            self.due.push_back(document);
        }
        // Changes that the store was seen to have before they were told of counted twice: those that were too few for a
        // pack wait for more. Where enough are left and none was packed, that failed: it is tried again after as many.
        growth.changes = if is_enough && !packed.any { 0 } else { packed.left };
        growth.since = 0;
    }

    fn forget(&mut self, document: &DocumentId) {
        self.due.retain(|due| due != document);
        self.documents.remove(document);
    }
}

/// Documents that could not be unfolded because the store could not be written, to be tried again. Until one is unfolded, what others
/// write to it waits, and with it all that comes behind that in its space.
#[derive(Debug, Default)]
struct Folded {
    again: Vec<Again>,
}

/// When a document is tried again, and how long after the last try that is.
#[derive(Debug, Clone, Copy)]
struct Again {
    document: DocumentId,
    at: Instant,
    pause: Duration,
}

impl Folded {
    /// Returns when the next document is due.
    fn next(&self) -> Option<Instant> {
        self.again.iter().map(|again| again.at).min()
    }

    fn forget(&mut self, document: &DocumentId) -> Option<Again> {
        let found = self.again.iter().position(|again| again.document == *document)?;
        Some(self.again.swap_remove(found))
    }

    fn unfold_all(&mut self, repo: &Weak) {
        let folded = repo.upgrade().and_then(|inner| base::folded(inner.store.read().ok()?.as_ref()).ok());
        for document in folded.unwrap_or_default() {
            self.unfold(repo, document);
        }
    }

    fn unfold_due(&mut self, repo: &Weak) {
        while let Some(due) = self.again.iter().find(|again| again.at <= runtime::now()) {
            self.unfold(repo, due.document);
        }
    }

    fn unfold(&mut self, repo: &Weak, document: DocumentId) {
        let before = self.forget(&document);
        attend(repo, "unfold", document, |inner| {
            let unfolded = inner.unfold(document);
            if let Err(error) = &unfolded {
                if !whole::is_refusal(error) {
                    let pause = before.map_or(UNFOLD_AGAIN, |before| (before.pause * 2).min(UNFOLD_AGAIN_MAX));
                    self.again.push(Again { document, at: runtime::now() + pause, pause });
                }
                events::publish(&inner.events, Event::stays_folded(document));
            }
            unfolded
        });
    }
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

#[cfg(test)]
mod tests;
