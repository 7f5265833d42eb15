//! Deletions on a connection: telling the relay of ours, carrying out those that it tells of.

use std::sync::Arc;

use super::Driver;
use crate::deletion::Tombstone;
use crate::id::DocumentId;
use crate::ledger::tombstone;
use crate::repo::{Burial, RepoError};

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
        let mut all = Vec::new();
        for Burying { document, tombstone, outcome } in std::mem::take(&mut self.burying) {
            let buried = outcome.wait()?;
            self.session.handle_deleted(document, &tombstone);
            all.push((document, buried, tombstone.kind));
        }
        let were_any = !all.is_empty();
        self.inner.settle_buried(all)?;
        Ok(were_any)
    }
}
