//! Making durable what the relay delivered: changes, deletions, acknowledgements and the cursor, in one transaction.

use super::{
    Applied, Applying, Arc, Delivery, DocumentId, Driver, HashSet, Inner, Mutex, PoisonError, RepoError, SpaceId, StorageId,
    WriteTx, spaces,
};
use crate::deletion::DeletionKind;
use crate::engine::{self, Accepted, Origin};
use crate::ledger::receipts::{self, Acknowledged};
use crate::ledger::spaces::Placed;
use crate::ledger::tombstone::{self, Buried};
use crate::ledger::{self, Appended, cursor};
use crate::repo::{Source, publish_received};
use crate::store::StoreError;

/// What became of a delivery.
pub(super) enum Outcome {
    Applied(Taken),
    /// It waits for a document to be unfolded; what of it could be stored is.
    Held(Delivery),
}

/// What a delivery brought.
pub(super) struct Taken {
    pub(super) id: u64,
    pub(super) space: SpaceId,
    /// What became of the changes, by document.
    pub(super) accepted: Vec<(DocumentId, Accepted)>,
    pub(super) buried: Vec<(DocumentId, Buried, DeletionKind)>,
    /// How many of our own changes it acknowledges, by document.
    acknowledged: Vec<(DocumentId, u64)>,
}

impl Driver {
    /// Begins to apply a delivery. Those of one round share a commit.
    pub(super) fn apply(&mut self, delivery: Delivery) -> Result<Option<Applying>, RepoError> {
        if let Some(held) = self.held.get_mut(&delivery.space) {
            held.push_back(delivery);
            return Ok(None);
        }
        self.begin_apply(delivery).map(Some)
    }

    fn begin_apply(&self, delivery: Delivery) -> Result<Applying, RepoError> {
        let Some((relay, _)) = self.relay else { return Err(RepoError::Closed) };
        let held_spaces = Arc::clone(&self.held_spaces);
        let work = move |tx: &mut dyn WriteTx| carry_in(tx, delivery, &relay, &held_spaces);
        let (inner, source) = (Arc::clone(&self.inner), self.source);
        let tell = move |outcome: &Outcome| tell(&inner, outcome, source);
        self.inner.writer.write_from_thread(work, tell)
    }

    /// Waits for deliveries, and tells the session what became of them. Says whether any was applied.
    pub(super) fn finish_applying(&mut self, applying: Vec<Applying>) -> Result<bool, RepoError> {
        let mut any = false;
        for outcome in applying {
            match outcome.blocking_recv().map_err(|_| RepoError::Closed)?? {
                Outcome::Applied(taken) => {
                    any = true;
                    self.applied(taken)?;
                }
                Outcome::Held(delivery) => self.held.entry(delivery.space).or_default().push_back(delivery),
            }
        }
        Ok(any)
    }

    fn applied(&mut self, taken: Taken) -> Result<(), RepoError> {
        let Taken { id, accepted, buried, .. } = taken;
        let mut is_purged = false;
        for (document, buried, kind) in buried {
            is_purged |= buried.is_news && kind == DeletionKind::Purged;
            if buried.existed {
                self.inner.forget_from_thread(document)?;
            }
        }
        if is_purged && let Err(error) = self.inner.store.scrub() {
            tracing::error!(%error, "failed to scrub the store of what was purged: tried again when it is next opened");
        }
        let results = accepted.into_iter().map(|(document, accepted)| (document, accepted.results)).collect();
        let store = Arc::clone(&self.inner.store);
        self.session.handle_applied(id, Applied { results }, store.read()?.as_ref())?;
        Ok(())
    }

    /// Tries the deliveries again that waited for a document to be unfolded.
    pub(super) fn apply_held(&mut self) -> Result<(), RepoError> {
        self.held_spaces.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let mut applying = Vec::new();
        for delivery in std::mem::take(&mut self.held).into_values().flatten() {
            applying.push(self.begin_apply(delivery)?);
        }
        self.finish_applying(applying)?;
        Ok(())
    }
}

/// Puts a delivery into the store.
fn carry_in(
    tx: &mut dyn WriteTx,
    delivery: Delivery,
    relay: &StorageId,
    held_spaces: &Mutex<HashSet<SpaceId>>,
) -> Result<Outcome, StoreError> {
    let space = delivery.space;
    if held_spaces.lock().unwrap_or_else(PoisonError::into_inner).contains(&space) {
        return Ok(Outcome::Held(delivery));
    }
    let mut taken =
        Taken { id: delivery.id, space, accepted: Vec::new(), buried: Vec::new(), acknowledged: Vec::new() };
    for (document, changes) in &delivery.changes {
        if !is_wanted(tx, document, &space)? {
            continue;
        }
        let accepted = engine::accept(tx, *document, changes.clone(), Origin::Remote)?;
        if accepted.results.iter().any(|(_, appended)| *appended == Appended::Folded) {
            held_spaces.lock().unwrap_or_else(PoisonError::into_inner).insert(space);
            return Ok(Outcome::Held(delivery));
        }
        taken.accepted.push((*document, accepted));
    }
    for (document, tombstone) in &delivery.deletions {
        // Where it was is noted first: a tombstone is told to those who follow its space.
        spaces::put(tx, document, &space)?;
        let buried = tombstone::bury(tx, document, tombstone)?;
        tombstone::acknowledge(tx, document, tombstone.kind, Some(relay))?;
        taken.buried.push((*document, buried, tombstone.kind));
    }
    if let Some(cursor) = &delivery.cursor {
        for (document, hash, log_position) in &delivery.own {
            if let Some(position) = ledger::position(tx, document, hash)? {
                let acknowledged = [Acknowledged { position, log_position: *log_position }];
                let count = receipts::acknowledge(tx, document, &cursor.epoch, &acknowledged)?;
                taken.acknowledged.push((*document, count));
            }
        }
        cursor::put(tx, relay, &space, cursor)?;
    }
    Ok(Outcome::Applied(taken))
}

/// Says whether a document of a space is taken in: not if it is in another one here, or was deleted from this device.
fn is_wanted(tx: &mut dyn WriteTx, document: &DocumentId, space: &SpaceId) -> Result<bool, StoreError> {
    if ledger::state(tx, document)?.is_some() {
        return Ok(spaces::of(tx, document)? == *space);
    }
    if tombstone::is_buried(tx, document)? || *space == SpaceId::DEFAULT || spaces::is_dismissed(tx, document)? {
        return Ok(false);
    }
    Ok(spaces::put(tx, document, space)? == Placed::There)
}

/// Tells the application.
fn tell(inner: &Arc<Inner>, outcome: &Outcome, source: Source) {
    let Outcome::Applied(taken) = outcome else { return };
    for (document, accepted) in &taken.accepted {
        publish_received(&inner.events, *document, accepted, source);
    }
    for (document, buried, _) in &taken.buried {
        inner.tell_buried(*document, buried, source);
    }
    for (document, count) in &taken.acknowledged {
        inner.tell_acknowledged(*document, *count);
    }
}
