//! Making durable what the relay delivered: changes, deletions, acknowledgements and the cursor, in one transaction.

use std::collections::VecDeque;

use automerge::ActorId;

use super::{
    Applied, Applying, Arc, Delivery, DocumentId, Driver, Epoch, HashSet, Inner, Mutex, PoisonError, RepoError,
    SpaceId, StorageId, WriteTx, spaces,
};
use crate::deletion::DeletionKind;
use crate::engine::{self, Accepted, Origin, Reused};
use crate::gate::{CheckedChange, Rule};
use crate::ledger::receipts::Acknowledged;
use crate::ledger::spaces::Placed;
use crate::ledger::tombstone::{self, Buried};
use crate::ledger::{self, Appended, cursor};
use crate::repo::{self, Source, now_seconds};
#[cfg(all(feature = "testing", not(target_family = "wasm")))]
use crate::runtime;
use crate::store::StoreError;

/// What became of a delivery.
pub(super) enum Outcome {
    Applied(Taken),
    /// It waits for a document to be unfolded; what of it could be stored is.
    Held {
        delivery: Delivery,
        stored: Vec<(DocumentId, Accepted)>,
    },
    /// A change of it has the number of one of ours, which is to be written again first; the rest of it is stored.
    Reused {
        delivery: Delivery,
        document: DocumentId,
        actor: ActorId,
        seq: u64,
        stored: Vec<(DocumentId, Accepted)>,
        replayed: Replayed,
    },
}

/// Of which documents our changes under which actors were written again for a delivery: each once.
type Replayed = Vec<(DocumentId, ActorId)>;

/// What a delivery brought.
pub(super) struct Taken {
    pub(super) id: u64,
    /// What became of the changes, by document.
    pub(super) accepted: Vec<(DocumentId, Accepted)>,
    pub(super) buried: Vec<(DocumentId, Buried, DeletionKind)>,
    /// What of our own it acknowledges, by document.
    acknowledged: Vec<(DocumentId, repo::Taken)>,
}

impl Driver {
    /// Begins to apply a delivery. Those of one round share a commit.
    pub(super) fn apply(&mut self, delivery: Delivery) -> Result<Option<Applying>, RepoError> {
        if let Some(held) = self.held.get_mut(&delivery.space) {
            held.push_back(delivery);
            return Ok(None);
        }
        self.begin_apply(delivery, Replayed::new()).map(Some)
    }

    fn begin_apply(&self, delivery: Delivery, replayed: Replayed) -> Result<Applying, RepoError> {
        let Some((relay, epoch)) = self.relay else { return Err(RepoError::Closed) };
        let (held, placed) = (Arc::clone(&self.held_spaces), Arc::clone(&self.placed_spaces));
        let work = move |tx: &mut dyn WriteTx| carry_in(tx, delivery, (&relay, &epoch), (&held, &placed), replayed);
        let (inner, source) = (Arc::clone(&self.inner), self.source);
        let tell = move |outcome: &Outcome| tell(&inner, outcome, source);
        self.inner.writer.write_from_thread(work, tell)
    }

    /// Waits for deliveries, and tells the session what became of them. Says whether any was applied.
    pub(super) fn finish_applying(&mut self, applying: Vec<Applying>) -> Result<bool, RepoError> {
        let mut any = false;
        let mut applying = VecDeque::from(applying);
        while let Some(outcome) = applying.pop_front() {
            match outcome.wait()? {
                Outcome::Applied(taken) => {
                    any = true;
                    self.applied(taken)?;
                }
                Outcome::Held { delivery, .. } => self.held.entry(delivery.space).or_default().push_back(delivery),
                Outcome::Reused { delivery, document, actor, seq, mut replayed, .. } => {
                    any = true;
                    self.write_ours_again(document, Reused::Arrived { actor: actor.clone(), seq })?;
                    replayed.push((document, actor));
                    applying.push_front(self.begin_apply(delivery, replayed)?);
                }
            }
        }
        Ok(any)
    }

    /// Writes our changes again under a fresh actor, because somebody else wrote with theirs.
    fn write_ours_again(&mut self, document: DocumentId, reused: Reused) -> Result<(), RepoError> {
        tracing::warn!(document = %document.label(), "another device wrote with this one's actor: was its disk or its memory copied?");
        match self.inner.replay_under_fresh_actor(document, reused) {
            Ok(_) | Err(RepoError::TakeOut { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn applied(&mut self, taken: Taken) -> Result<(), RepoError> {
        let Taken { id, accepted, buried, .. } = taken;
        self.inner.settle_buried(buried)?;
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
            applying.push(self.begin_apply(delivery, Replayed::new())?);
        }
        self.finish_applying(applying)?;
        Ok(())
    }
}

/// Puts a delivery into the store.
fn carry_in(
    tx: &mut dyn WriteTx,
    delivery: Delivery,
    (relay, epoch): (&StorageId, &Epoch),
    (held_spaces, placed_spaces): (&Mutex<HashSet<SpaceId>>, &Mutex<HashSet<SpaceId>>),
    replayed: Replayed,
) -> Result<Outcome, StoreError> {
    let space = delivery.space;
    if held_spaces.lock().unwrap_or_else(PoisonError::into_inner).contains(&space) {
        return Ok(Outcome::Held { delivery, stored: Vec::new() });
    }
    let mut taken = Taken { id: delivery.id, accepted: Vec::new(), buried: Vec::new(), acknowledged: Vec::new() };
    let mut has_gap = false;
    for (document, changes) in &delivery.changes {
        #[cfg(all(feature = "testing", not(target_family = "wasm")))]
        if runtime::simulated::is_broken(runtime::simulated::Broken::CursorAhead) && cursor_is_late(&delivery) {
            continue;
        }
        if !is_wanted(tx, document, &space)? {
            continue;
        }
        let accepted = engine::accept(tx, *document, changes.clone(), Origin::Remote)?;
        if accepted.results.iter().any(|(_, appended)| *appended == Appended::Folded) {
            held_spaces.lock().unwrap_or_else(PoisonError::into_inner).insert(space);
            taken.accepted.push((*document, accepted));
            return Ok(Outcome::Held { delivery, stored: taken.accepted });
        }
        let is_twin = |(change, appended): &&(CheckedChange, Appended)| {
            matches!(appended, Appended::Rejected(error) if error.rule() == Rule::SeqReused)
                && !replayed.iter().any(|(of, actor)| of == document && actor == change.actor())
        };
        if let Some((change, _)) = accepted.results.iter().find(is_twin) {
            let (document, actor, seq) = (*document, change.actor().clone(), change.seq());
            taken.accepted.push((document, accepted));
            return Ok(Outcome::Reused { document, actor, seq, delivery, stored: taken.accepted, replayed });
        }
        has_gap |= accepted.results.iter().any(|(_, appended)| matches!(appended, Appended::Missing { .. }));
        taken.accepted.push((*document, accepted));
    }
    for (document, tombstone) in &delivery.deletions {
        // Where it was is noted first: a tombstone is told to those who follow its space.
        spaces::put(tx, document, &space)?;
        let mut tombstone = tombstone.clone();
        if tombstone.time_seconds == 0 {
            // The relay only said that it is deleted.
            tombstone.time_seconds = now_seconds();
        }
        let buried = tombstone::bury(tx, document, &tombstone)?;
        tombstone::acknowledge(tx, document, tombstone.kind, Some(relay))?;
        taken.buried.push((*document, buried, tombstone.kind));
    }
    for (document, hash, log_position) in &delivery.own {
        if let Some(position) = ledger::position(tx, document, hash)? {
            let acknowledged = [Acknowledged { position, log_position: *log_position }];
            taken.acknowledged.push((*document, repo::acknowledge(tx, document, epoch, &acknowledged)?));
        }
    }
    put_cursor(tx, relay, &delivery, has_gap, &mut placed_spaces.lock().unwrap_or_else(PoisonError::into_inner))?;
    Ok(Outcome::Applied(taken))
}

/// Notes how far the relay's log is taken in, unless something before that is not. `placed` are the spaces that had a place on this
/// connection: one that has none any more was forgotten because something is wanted again, and waits to be compared.
fn put_cursor(
    tx: &mut dyn WriteTx,
    relay: &StorageId,
    delivery: &Delivery,
    has_gap: bool,
    placed: &mut HashSet<SpaceId>,
) -> Result<(), StoreError> {
    let space = &delivery.space;
    if has_gap {
        placed.insert(*space);
        return cursor::forget(tx, relay, space);
    }
    let Some(cursor) = &delivery.cursor else { return Ok(()) };
    if !placed.insert(*space) && cursor::get(tx, relay, space)?.is_none() {
        return Ok(());
    }
    cursor::put(tx, relay, space, cursor)
}

/// Chooses the deliveries that are lost where that is broken.
#[cfg(all(feature = "testing", not(target_family = "wasm")))]
fn cursor_is_late(delivery: &Delivery) -> bool {
    delivery.cursor.is_some_and(|cursor| cursor.position % 5 == 0)
}

/// Says whether a document of a space is taken in: not if it is in another one here, or was deleted from this device.
fn is_wanted(tx: &mut dyn WriteTx, document: &DocumentId, space: &SpaceId) -> Result<bool, StoreError> {
    if let Some(here) = ledger::state(tx, document)? {
        return spaces::settle(tx, document, here.count == 0, space);
    }
    if tombstone::is_buried(tx, document)? || *space == SpaceId::DEFAULT || spaces::is_dismissed(tx, document)? {
        return Ok(false);
    }
    Ok(spaces::put(tx, document, space)? == Placed::There)
}

/// Tells the application.
fn tell(inner: &Arc<Inner>, outcome: &Outcome, source: Source) {
    // What is tried again is a duplicate then, and told by nobody.
    let (Outcome::Applied(Taken { accepted: stored, .. })
    | Outcome::Held { stored, .. }
    | Outcome::Reused { stored, .. }) = outcome;
    for (document, accepted) in stored {
        inner.tell_received(*document, accepted, source);
    }
    let Outcome::Applied(taken) = outcome else { return };
    for (document, buried, _) in &taken.buried {
        inner.tell_buried(*document, buried, Some(source));
    }
    for (document, acknowledged) in &taken.acknowledged {
        inner.tell_acknowledged(*document, *acknowledged);
    }
}
