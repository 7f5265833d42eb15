//! What relays tell of our own writes: taken, seen by another device, refused, or made by an actor that somebody else used.
//! For connections, from threads that may wait.

use std::collections::BTreeSet;
use std::sync::Arc;

use automerge::{ActorId, ChangeHash};

use super::events::{self, Event};
use super::{Inner, RepoError, now_seconds, random_actor};
use crate::engine;
use crate::id::{DocumentId, Epoch, SpaceId};
use crate::ledger::receipts::{self, Acknowledged};
use crate::ledger::rejected::{self, Rejection};
use crate::ledger::{self, outbox};
use crate::store::{ReadTx, StoreError, WriteTx};

/// How it is known that somebody else wrote with an actor of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reused {
    /// A relay refused this change of ours: it has another one with its number.
    Refused(ChangeHash),
    /// A change arrived that has the number of one of ours.
    Arrived {
        /// Whose.
        actor: ActorId,
        /// The number.
        seq: u64,
    },
}

impl Inner {
    /// Notes that a relay has changes durably, in its log of this epoch. Nobody waits for it: what is lost is acknowledged
    /// again.
    pub(crate) fn note_acknowledged(
        &self,
        epoch: Epoch,
        acknowledged: Vec<(DocumentId, Vec<Acknowledged>)>,
    ) -> Result<(), RepoError> {
        let work = move |tx: &mut dyn WriteTx| {
            let take = |(document, changes): (DocumentId, Vec<Acknowledged>)| {
                Ok((document, receipts::acknowledge(tx, &document, &epoch, &changes)?))
            };
            acknowledged.into_iter().map(take).collect::<Result<Vec<_>, StoreError>>()
        };
        let pending = Arc::clone(&self.pending);
        let tell = move |taken: &Vec<(DocumentId, i64)>| {
            for (document, taken) in taken {
                pending.note(*document, -taken);
                pending.tell(*document);
            }
        };
        self.writer.write_from_thread(work, tell).map(drop)
    }

    /// Takes out of the outbox what a relay has shown to have by its heads.
    pub(crate) fn note_heads_acknowledged(
        &self,
        document: DocumentId,
        relay_heads: Vec<ChangeHash>,
    ) -> Result<(), RepoError> {
        let work = move |tx: &mut dyn WriteTx| {
            let before = outbox::pending(tx, &document)?.len() as u64;
            Ok(outbox::acknowledge(tx, &document, &relay_heads)?.cast_signed() - before.cast_signed())
        };
        let pending = Arc::clone(&self.pending);
        let tell = move |more: &i64| {
            pending.note(document, *more);
            pending.tell(document);
        };
        self.writer.write_from_thread(work, tell).map(drop)
    }

    /// Notes up to where another device has a space, in the log of this epoch. Never pass on this device's own cursor.
    pub(crate) fn note_seen(&self, epoch: Epoch, space: SpaceId, position: u64) -> Result<(), RepoError> {
        if receipts::seen(self.store.read()?.as_ref(), &epoch, &space)? >= position {
            return Ok(());
        }
        let pending = Arc::clone(&self.pending);
        let tell = move |is_news: &bool| {
            if *is_news {
                pending.tell_all();
            }
        };
        let work = move |tx: &mut dyn WriteTx| receipts::note_seen(tx, &epoch, &space, position);
        self.writer.write_from_thread(work, tell).map(drop)
    }

    /// Notes that a relay refused a change for good.
    pub(crate) fn note_rejected(
        &self,
        document: DocumentId,
        hash: ChangeHash,
        code: u16,
        text: &str,
    ) -> Result<(), RepoError> {
        let time_seconds = u64::try_from(now_seconds()).unwrap_or(0);
        let rejection = Rejection { hash, code, text: text.to_owned(), time_seconds };
        let (events, pending) = (self.events.clone(), Arc::clone(&self.pending));
        let tell = move |left: &u64| {
            if *left > 0 {
                pending.note(document, -left.cast_signed());
                pending.tell(document);
                events::publish(&events, Event::rejected(document));
            }
        };
        let work = move |tx: &mut dyn WriteTx| rejected::note(tx, &document, &rejection);
        self.writer.write_from_thread(work, tell).map(drop)
    }

    /// Writes again, under a fresh actor, what no relay has of an actor that somebody else used too, from where both differ, and
    /// all that stands on it. Returns how many changes that were. Waits for the commit.
    ///
    /// Afterwards the other's changes are welcome here, and ours there: offer both again. If it is zero, nothing of that actor waits here.
    ///
    /// # Errors
    ///
    /// [`RepoError::TakeOut`] if somebody has some of it already, or Automerge does not write it again: note it as rejected
    /// then. [`RepoError`] if the store cannot be used.
    pub(crate) fn replay_under_fresh_actor(
        self: &Arc<Self>,
        document: DocumentId,
        reused: Reused,
    ) -> Result<usize, RepoError> {
        let inner = Arc::clone(self);
        let work = move |tx: &mut dyn WriteTx| {
            let Some(at) = fork(tx, &document, &reused)? else { return Ok(Ok(None)) };
            let rewriting = inner.begin_rewriting(document);
            let replace = |kept: &engine::Kept| engine::under_fresh_actors(&kept.taken, &mut random_actor);
            let done = engine::rewrite(tx, document, &BTreeSet::from([at]), replace)?;
            Ok(match done {
                Ok((rewritten, kept)) => Ok(Some((rewritten, kept, rewriting))),
                Err(error) => Err(super::rejected::cannot(&error)),
            })
        };
        let inner = Arc::clone(self);
        let tell = move |outcome: &Result<Option<(engine::Rewritten, engine::Kept, _)>, RepoError>| {
            if let Ok(Some((rewritten, kept, _))) = outcome {
                let names = kept.taken.iter().zip(&rewritten.added).map(|(old, new)| (old.hash(), new.hash()));
                inner.pending.note_renamed(document, names);
                inner.tell_rewritten(document, rewritten);
            }
        };
        let outcome = self.writer.write_from_thread(work, tell)?.blocking_recv().map_err(|_| RepoError::Closed)??;
        Ok(outcome?.map_or(0, |(rewritten, ..)| rewritten.added.len()))
    }
}

/// Finds the first change of ours that differs from what somebody else wrote with its actor: only among those that no relay
/// has.
fn fork(tx: &dyn ReadTx, document: &DocumentId, reused: &Reused) -> Result<Option<u64>, StoreError> {
    let mut local: BTreeSet<u64> = outbox::pending(tx, document)?.into_iter().collect();
    local.extend(rejected::rows(tx, document)?.into_keys());
    match reused {
        Reused::Refused(hash) => Ok(ledger::position(tx, document, hash)?.filter(|at| local.contains(at))),
        Reused::Arrived { actor, seq } => {
            for position in local {
                let node = ledger::node(tx, document, position)?;
                if node.actor == *actor && node.seq >= *seq {
                    return Ok(Some(position));
                }
            }
            Ok(None)
        }
    }
}
