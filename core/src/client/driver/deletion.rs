//! Deletions on a connection: telling the relay of ours, carrying out those that it tells of.

use std::sync::Arc;

use super::Driver;
use crate::deletion::{DeletionKind, Tombstone};
use crate::id::DocumentId;
use crate::ledger::tombstone;
use crate::repo::{Burial, RepoError};
use crate::store::WriteTx;

/// A deletion on its way through the writer.
pub(super) struct Burying {
    document: DocumentId,
    tombstone: Tombstone,
    outcome: Burial,
}

impl Driver {
    /// Tells the relay of every deletion that it is not known to have.
    pub(super) fn tell_all_deleted(&mut self) -> Result<(), RepoError> {
        if !self.session.speaks_rejoin() {
            return Ok(());
        }
        for document in tombstone::untold(self.inner.store.read()?.as_ref(), self.relay.as_ref())? {
            self.session.tell_deleted(document);
        }
        Ok(())
    }

    /// Tells the relay of a deletion, if it was one everywhere and the relay is not known to have it.
    pub(super) fn tell_deleted(&mut self, document: DocumentId) -> Result<(), RepoError> {
        let store = Arc::clone(&self.inner.store);
        let tx = store.read()?;
        if self.session.speaks_rejoin()
            && tombstone::is_buried(tx.as_ref(), &document)?
            && !tombstone::is_told(tx.as_ref(), &document, self.relay.as_ref())?
        {
            self.session.tell_deleted(document);
        }
        Ok(())
    }

    /// Begins to carry out a deletion that the relay tells of. Those of one round share a commit.
    pub(super) fn bury(&mut self, document: DocumentId, tombstone: Tombstone) -> Result<(), RepoError> {
        self.settle(&document);
        self.shared.remove(&document);
        let outcome = self.inner.bury_from_thread(document, tombstone.clone(), self.relay)?;
        self.burying.push(Burying { document, tombstone, outcome });
        Ok(())
    }

    /// Waits for the deletions under way, and tells the relay that they are durable. Says whether there were any.
    pub(super) fn finish_burying(&mut self) -> Result<bool, RepoError> {
        let mut is_purged = false;
        let burying = std::mem::take(&mut self.burying);
        let were_any = !burying.is_empty();
        for Burying { document, tombstone, outcome } in burying {
            let buried = outcome.blocking_recv().map_err(|_| RepoError::Closed)??;
            is_purged |= buried.is_news && tombstone.kind == DeletionKind::Purged;
            if buried.existed {
                self.inner.forget_from_thread(document)?;
            }
            self.session.handle_deleted(document, &tombstone);
        }
        if is_purged && let Err(error) = self.inner.store.scrub() {
            tracing::error!(%error, "failed to scrub the store of what was purged: tried again when it is next opened");
        }
        Ok(were_any)
    }

    /// Notes that the relay has a deletion: it waits no more.
    pub(super) fn note_acknowledged(&mut self, document: DocumentId, kind: DeletionKind) -> Result<(), RepoError> {
        let relay = self.relay;
        let work = move |tx: &mut dyn WriteTx| tombstone::acknowledge(tx, &document, kind, relay.as_ref());
        let acknowledged = self.inner.acknowledged.clone();
        let tell = move |(): &()| acknowledged.send_modify(|count| *count += 1);
        // Nobody waits for it: if it fails, the deletion is told again and acknowledged again.
        drop(self.inner.writer.write_from_thread(work, tell)?);
        Ok(())
    }
}
