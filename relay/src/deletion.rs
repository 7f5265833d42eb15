//! Deletions that clients tell of, and the purge of a document by the operator.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;

use rejoin::DocumentId;
use rejoin::deletion::{DeletionKind, Tombstone};
use rejoin::ledger::tombstone;
use rejoin::store::{Store, StoreError, StoreExt};

use crate::clock::now_seconds;
use crate::log::{AppendError, Author};
use crate::shared::Shared;

/// Puts a document's tombstone into the store, with the deletion of its rows; says whether it is news.
fn bury(store: &dyn Store, document: &DocumentId, tombstone: &Tombstone) -> Result<bool, StoreError> {
    // What was there already needs no sync of the disk.
    if tombstone::get(&*store.read()?, document)?.is_some_and(|here| here.kind >= tombstone.kind) {
        return Ok(false);
    }
    let buried = store.write_with(|tx| tombstone::bury(tx, document, tombstone))?;
    if buried.is_news {
        let (existed, purge) = (buried.existed, tombstone.kind == DeletionKind::Purged);
        tracing::info!(document = %document.label(), existed, purge, "a document was deleted everywhere");
    }
    Ok(buried.is_news)
}

/// Deletes a document everywhere and leaves none of its bytes in the store's file, which may be in use by this process.
/// Returns whether the bytes are gone: a store that is in no file says no, and makes up for it when it is opened next.
///
/// The log's connections that take part in the document are not told by this; they learn it when they speak of it.
///
/// # Errors
///
/// [`StoreError`]. If only the last step fails, the document is deleted all the same, and its bytes go when the store is
/// opened the next time.
pub fn purge(store: &dyn Store, document: &DocumentId, by: &str) -> Result<bool, StoreError> {
    let tombstone = Tombstone { kind: DeletionKind::Purged, time_seconds: now_seconds(), by: by.to_owned() };
    bury(store, document, &tombstone)?;
    store.scrub()
}

type Outcome = (DocumentId, Tombstone, Result<(), AppendError>);

/// A connection's deletions, carried out one after the other.
#[derive(Default)]
pub(crate) struct Deletions {
    waiting: VecDeque<(DocumentId, Tombstone)>,
    under_way: Option<Pin<Box<dyn Future<Output = Outcome> + Send>>>,
}

impl Deletions {
    pub(crate) fn push(&mut self, document: DocumentId, tombstone: Tombstone) {
        self.waiting.push_back((document, tombstone));
    }

    /// Says whether nothing waits and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_none()
    }

    /// Begins the next one, if none is under way.
    pub(crate) fn begin(&mut self, shared: &Arc<Shared>, author: Author) {
        if self.under_way.is_some() {
            return;
        }
        let Some((document, tombstone)) = self.waiting.pop_front() else { return };
        let shared = Arc::clone(shared);
        self.under_way = Some(Box::pin(async move {
            let outcome = shared.log.delete(author, document, tombstone.clone()).await;
            (document, tombstone, outcome)
        }));
    }

    /// Waits for the one under way, for ever if there is none.
    pub(crate) async fn finished(&mut self) -> Outcome {
        let Some(under_way) = &mut self.under_way else { return pending().await };
        let outcome = under_way.await;
        self.under_way = None;
        outcome
    }
}
