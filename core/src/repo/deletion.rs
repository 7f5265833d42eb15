//! Deleting: from this device, everywhere, or everywhere down to the last byte.

use std::sync::Arc;

use super::events::{self, Event};
use super::writer::Note;
use super::{Answer, Inner, Repo, RepoError, now_seconds};
use crate::engine::Origin;
use crate::id::{DocumentId, StorageId};
use crate::ledger::tombstone::{Buried, DeletionKind, Tombstone};
use crate::ledger::{self, spaces, tombstone};
use crate::runtime;

use crate::store::{StoreError, WriteTx};

/// Where the outcome of a burial will arrive.
pub(crate) type Burial = Answer<Buried>;

impl Repo {
    /// Deletes a document from this device. Other devices and the relay keep theirs.
    ///
    /// It does not come back by itself, whatever a relay still sends, also after a restart: only [`Repo::open_or_fetch`]
    /// brings it back. Changes that no relay has acknowledged are lost.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be written.
    pub async fn delete(&self, document: DocumentId) -> Result<(), RepoError> {
        let (events, pending) = (self.inner.events.clone(), Arc::clone(&self.inner.pending));
        let tell = move |(): &()| {
            pending.forget(document);
            events::publish(&events, Event::deleted(document, Origin::Local));
        };
        let work = move |tx: &mut dyn WriteTx| {
            let space = spaces::of(tx, &document)?;
            ledger::delete(tx, &document)?;
            spaces::dismiss(tx, &document, &space)
        };
        self.inner.writer.write(work, tell).await?;
        self.inner.actors.forget(&document);
        self.inner.documents.evict(document).await
    }

    /// Deletes a document everywhere: here at once, on every relay and device when it hears of it. It cannot be undone.
    ///
    /// What others write meanwhile is lost: the deletion wins over every edit, also one made on a device that has been
    /// away. The document need not be here. The deletion waits for a relay as a change does (see [`Repo::pending`]); a
    /// server that is no Rejoin relay cannot be told, and keeps its copy.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be written.
    pub async fn delete_everywhere(&self, document: DocumentId) -> Result<(), RepoError> {
        self.bury(document, DeletionKind::Deleted).await?;
        Ok(())
    }

    /// Deletes a document everywhere as [`Repo::delete_everywhere`] does, and leaves none of its bytes in this store's file;
    /// other devices do the same when they hear of it, a relay when it is started the next time or told so by its operator.
    ///
    /// Cost: writes the whole store once more. Handles and views of the application, and its own copies and backups, are not
    /// reached.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be written. The document is deleted all the same if only the last step failed, for
    /// want of space say; it is made up for when the store is opened the next time.
    pub async fn purge(&self, document: DocumentId) -> Result<(), RepoError> {
        self.bury(document, DeletionKind::Purged).await?;
        let store = Arc::clone(&self.inner.store);
        let scrubbed = runtime::unblock(move || store.scrub()).await??;
        if !scrubbed {
            tracing::warn!("the store cannot be scrubbed while it is open: what was purged may still be in it");
        }
        Ok(())
    }

    /// Returns what is known of a document's deletion everywhere, or `None` if it was not. Cost: one lookup.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read.
    pub async fn deletion(&self, document: DocumentId) -> Result<Option<Tombstone>, RepoError> {
        self.read(move |tx| tombstone::get(tx, &document)).await
    }

    async fn bury(&self, document: DocumentId, kind: DeletionKind) -> Result<(), RepoError> {
        let time_seconds = now_seconds();
        let tombstone = Tombstone { kind, time_seconds, by: self.inner.storage.to_string() };
        let pending = Arc::clone(&self.inner.pending);
        let work = move |tx: &mut dyn WriteTx| {
            if pending.is_leaving() {
                return Ok(None);
            }
            let buried = tombstone::bury(tx, &document, &tombstone)?;
            if buried.is_news {
                tombstone::wait(tx, &document)?;
            }
            Ok(Some(buried))
        };
        let (channel, pending) = (self.inner.events.clone(), Arc::clone(&self.inner.pending));
        // Told even if the document was not here: connections pass it on.
        let tell = move |buried: &Option<Buried>| {
            if buried.is_some() {
                pending.forget(document);
                events::publish(&channel, Event::deleted(document, Origin::Local));
            }
        };
        self.inner.writer.write(work, tell).await?.ok_or(RepoError::SigningOut)?;
        self.inner.actors.forget(&document);
        self.inner.documents.evict(document).await
    }

    /// Says why a document is not here.
    pub(super) async fn absent(&self, document: DocumentId) -> RepoError {
        match self.deletion(document).await {
            Ok(None) => RepoError::NotFound,
            Ok(Some(_)) => RepoError::Deleted,
            Err(error) => error,
        }
    }
}

impl Inner {
    /// Takes in a tombstone that a relay sent, from a thread that may wait.
    pub(crate) fn bury_from_thread(
        self: &Arc<Self>,
        document: DocumentId,
        tombstone: Tombstone,
        relay: Option<StorageId>,
    ) -> Result<Burial, RepoError> {
        let work = move |tx: &mut dyn WriteTx| {
            let buried = tombstone::bury(tx, &document, &tombstone)?;
            tombstone::acknowledge(tx, &document, tombstone.kind, relay.as_ref())?;
            Ok::<_, StoreError>(buried)
        };
        let inner = Arc::clone(self);
        self.writer.write_from_thread(work, move |buried: &Buried| inner.tell_buried(document, buried, None))
    }

    /// Drops what memory holds of documents that relays told to be deleted, once that is durable, and scrubs the store if one was
    /// purged. From a thread that may wait.
    pub(crate) fn settle_buried(
        &self,
        all: impl IntoIterator<Item = (DocumentId, Buried, DeletionKind)>,
    ) -> Result<(), RepoError> {
        let mut is_purged = false;
        for (document, buried, kind) in all {
            is_purged |= buried.is_news && kind == DeletionKind::Purged;
            if buried.existed {
                self.actors.forget(&document);
                self.documents.evict_from_thread(document)?;
            }
        }
        if is_purged && let Err(error) = self.store.scrub() {
            tracing::error!(%error, "failed to scrub the store of what was purged: tried again when it is next opened");
        }
        Ok(())
    }

    /// Notes that a relay has a deletion: it waits no more. Nobody waits for it: if it fails, the deletion is told again and
    /// acknowledged again.
    pub(crate) fn note_deletion_told(
        &self,
        document: DocumentId,
        kind: DeletionKind,
        relay: Option<StorageId>,
    ) -> Result<Note, RepoError> {
        let work = move |tx: &mut dyn WriteTx| tombstone::acknowledge(tx, &document, kind, relay.as_ref());
        let pending = Arc::clone(&self.pending);
        self.writer.write_from_thread(work, move |(): &()| pending.tell(document)).map(Answer::noted)
    }
}
