//! Receipts: how far a write has come. It is safe on this device when the call that made it returns; then a relay has it, then
//! another device.

use std::sync::{Arc, Weak};
use std::time::Duration;

use automerge::ChangeHash;
use tokio::sync::watch;

use super::{Inner, Repo, RepoError};
use crate::id::{DocumentId, SpaceId};
use crate::ledger::receipts::{self, Receipt};
use crate::ledger::rejected::{self, Row};
use crate::ledger::{self, tombstone};
use crate::runtime;
use crate::store::{ReadTx, StoreError};

/// A write that was made, to ask how far it has come. Drop it if that does not matter; it keeps nothing open.
///
/// To ask after a restart, keep [`Written::document`] and [`Written::change`] and call [`Repo::receipt`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), rejoin::RepoError> {
/// use rejoin::Repo;
/// use rejoin::repo::Receipt;
///
/// let repo = Repo::in_memory()?;
/// let note = repo.create().await?;
/// let written = note.set("title", "Groceries").await?;
/// // There is no relay: it is on this device only.
/// assert_eq!(written.stage().await?, Receipt::Local);
/// assert_eq!(repo.pending_of(note.id()), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Written {
    repo: Weak<Inner>,
    document: DocumentId,
    change: Option<ChangeHash>,
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Written")
            .field("document", &self.document)
            .field("change", &self.change)
            .finish_non_exhaustive()
    }
}

impl Written {
    pub(super) fn new(repo: &Repo, document: DocumentId, change: Option<ChangeHash>) -> Self {
        Self { repo: Arc::downgrade(&repo.inner), document, change }
    }

    /// Returns the document that was written.
    pub fn document(&self) -> DocumentId {
        self.document
    }

    /// Returns the change that was made, or `None` if there was nothing to change.
    pub fn change(&self) -> Option<ChangeHash> {
        self.change
    }

    /// Returns how far the write has come. One that changed nothing is as far as what was written to the document before.
    /// Cost: a few lookups.
    ///
    /// # Errors
    ///
    /// [`RepoError::Rejected`] if a relay refused it for good, [`RepoError::Gone`] if it was taken out of the document since;
    /// [`RepoError::Closed`] if the repo is not there any more.
    pub async fn stage(&self) -> Result<Receipt, RepoError> {
        let repo = Repo { inner: self.repo.upgrade().ok_or(RepoError::Closed)? };
        let document = self.document;
        let Some(change) = self.change else {
            let waits = repo.read(move |tx| waits(tx, &document)).await?;
            return Ok(if waits { Receipt::Local } else { Receipt::Seen });
        };
        let change = repo.inner.pending.name(document, change);
        let found = repo.read(move |tx| {
            let Some(position) = ledger::position(tx, &document, &change)? else { return Ok(None) };
            Ok(Some((receipts::get(tx, &document, position)?, refusal(tx, &document, position)?)))
        });
        match found.await? {
            Some((_, Some(rejection))) => Err(RepoError::Rejected { code: rejection.code, text: rejection.text }),
            Some((Some(receipt), None)) => Ok(receipt),
            _ => Err(RepoError::Gone),
        }
    }

    /// Waits until the write has come this far. [`Receipt::Seen`] takes a relay that speaks `rejoin.v1`, and another device
    /// that is online.
    ///
    /// # Errors
    ///
    /// [`RepoError::Timeout`] if it takes longer: the write stands, and goes on its way. Otherwise as [`Written::stage`].
    pub async fn wait(&self, stage: Receipt, limit: Duration) -> Result<(), RepoError> {
        let mut bell = self.repo.upgrade().ok_or(RepoError::Closed)?.pending.bell(self.document);
        // What is so already is no question of time.
        if self.stage().await? >= stage {
            return Ok(());
        }
        let reached = async {
            while self.stage().await? < stage {
                bell.changed().await.map_err(|_| RepoError::Closed)?;
            }
            Ok(())
        };
        runtime::timeout(limit, reached).await.map_err(|_| RepoError::Timeout)?
    }
}

/// A subscription to what a relay says about what waits: that it was made durable, or refused.
#[derive(Debug)]
pub struct PendingNews(watch::Receiver<u64>);

impl PendingNews {
    /// Waits for news; what came since the last call is one. Returns false when the repo is gone.
    pub async fn next(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

impl Repo {
    /// Returns how far a change has come that was made on this device, or `None` if the document has no such change: it was
    /// deleted, taken out, or written again under another name in a former run. Cost: a few lookups.
    ///
    /// One that was rejected is local; see [`Repo::rejected`]. Of one that was made elsewhere the answer means nothing.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read.
    pub async fn receipt(&self, document: DocumentId, change: ChangeHash) -> Result<Option<Receipt>, RepoError> {
        let change = self.inner.pending.name(document, change);
        let read = self.read(move |tx| match ledger::position(tx, &document, &change)? {
            Some(position) => receipts::get(tx, &document, position),
            None => Ok(None),
        });
        read.await
    }

    /// Returns a write that was made on this device, to ask how far it has come. Cost: none; whether there is such a write shows
    /// when it is asked.
    pub fn written(&self, document: DocumentId, change: ChangeHash) -> Written {
        Written::new(self, document, Some(change))
    }

    /// Returns how many local changes and deletions no relay has acknowledged yet, without those that were
    /// [rejected](Repo::rejected). Cost: one visit for each deletion that waits.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read.
    pub async fn pending(&self) -> Result<u64, RepoError> {
        Ok(self.inner.pending.total() + self.read(|tx| tombstone::waiting(tx)).await?)
    }

    /// Returns how many local changes of a document no relay has acknowledged yet. Cost: none, they are counted.
    pub fn pending_of(&self, document: DocumentId) -> u64 {
        self.inner.pending.of_document(&document)
    }

    /// Returns how many local changes of a space's documents no relay has acknowledged yet. Cost: none, they are counted.
    pub fn pending_in(&self, space: SpaceId) -> u64 {
        self.inner.pending.of_space(&space)
    }

    /// Returns the documents with local changes that no relay has acknowledged yet, and how many each has. Cost: a copy.
    pub fn pending_documents(&self) -> Vec<(DocumentId, u64)> {
        self.inner.pending.documents()
    }

    /// Subscribes to whatever a relay says about what waits.
    pub fn pending_news(&self) -> PendingNews {
        PendingNews(self.inner.acknowledged.subscribe())
    }

    /// Waits until every local change and deletion was acknowledged by a relay. Those that were [rejected](Repo::rejected) are
    /// not waited for.
    ///
    /// # Errors
    ///
    /// [`RepoError::Timeout`] if some still wait then; they stay in the outbox. [`RepoError`] if the store cannot be read.
    pub async fn wait_synced(&self, limit: Duration) -> Result<(), RepoError> {
        let mut news = self.inner.acknowledged.subscribe();
        if self.pending().await? == 0 {
            return Ok(());
        }
        let emptied = async {
            while self.pending().await? > 0 {
                news.changed().await.map_err(|_| RepoError::Closed)?;
            }
            Ok(())
        };
        runtime::timeout(limit, emptied).await.map_err(|_| RepoError::Timeout)?
    }

    /// Counts the outbox again: after work on the store that did not go through the writer.
    pub(super) async fn recount(&self) -> Result<(), RepoError> {
        let pending = Arc::clone(&self.inner.pending);
        let tell = move |tally: &receipts::Tally| pending.reset(tally.clone());
        self.inner.writer.write(|tx| receipts::Tally::read(tx), tell).await.map(drop)
    }
}

/// Says whether anything of a document waits.
fn waits(tx: &dyn ReadTx, document: &DocumentId) -> Result<bool, StoreError> {
    Ok(!ledger::outbox::pending(tx, document)?.is_empty() || rejected::any(tx, document)?)
}

/// Returns why a change is held back, if it is.
fn refusal(tx: &dyn ReadTx, document: &DocumentId, position: u64) -> Result<Option<rejected::Rejection>, StoreError> {
    let row = match rejected::get(tx, document, position)? {
        Some(Row::Blocked(by)) => rejected::get(tx, document, by)?,
        row => row,
    };
    Ok(match row {
        Some(Row::Refused(rejection)) => Some(rejection),
        _ => None,
    })
}
