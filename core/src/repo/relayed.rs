//! What relays tell of our own writes: taken, seen by another device, refused, or made by an actor that somebody else used.
//! For connections, from threads that may wait.

use std::sync::Arc;

use automerge::ChangeHash;

use super::events::{self, Event, Source};
use super::rejected::{cannot, is_folded, while_folded};
use super::writer::{Answer, Note};
use super::{Inner, RepoError, now_seconds, random_actor};
use crate::engine::{self, Accepted, Reused, Rewritten};
use crate::id::{DocumentId, Epoch, SpaceId};
use crate::ledger::outbox;
use crate::ledger::receipts::{self, Acknowledged, Relayed};
use crate::ledger::rejected::{self, Rejection};
use crate::store::{StoreError, WriteTx};

/// What became of a document's outbox by an acknowledgement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// By how many fewer wait.
    fewer: i64,
    /// Whether something that another relay had refused is refused no more: what stood on it waits again.
    is_freed: bool,
}

/// Notes that a relay has changes of a document durably.
pub(crate) fn acknowledge(
    tx: &mut dyn WriteTx,
    document: &DocumentId,
    epoch: &Epoch,
    acknowledged: &[Acknowledged],
) -> Result<Taken, StoreError> {
    take(tx, document, |tx| receipts::acknowledge(tx, document, epoch, acknowledged))
}

/// Notes what became of the outbox and of what was refused by an acknowledgement that returns by how many fewer wait.
fn take(
    tx: &mut dyn WriteTx,
    document: &DocumentId,
    acknowledge: impl FnOnce(&mut dyn WriteTx) -> Result<i64, StoreError>,
) -> Result<Taken, StoreError> {
    let refused = rejected::list(tx, Some(document))?.len();
    let fewer = acknowledge(tx)?;
    let is_freed = refused > 0 && rejected::list(tx, Some(document))?.len() < refused;
    Ok(Taken { fewer, is_freed })
}

impl Inner {
    /// Notes that a relay has changes durably, in its log of this epoch. If that fails, the next connection is told again.
    pub(crate) fn note_acknowledged(
        self: &Arc<Self>,
        epoch: Epoch,
        acknowledged: Vec<(DocumentId, Vec<Relayed>)>,
    ) -> Result<Note, RepoError> {
        let work = move |tx: &mut dyn WriteTx| {
            let take = |(document, changes): (DocumentId, Vec<Relayed>)| {
                let found = Relayed::find(tx, &document, &changes)?;
                Ok((document, acknowledge(tx, &document, &epoch, &found)?))
            };
            acknowledged.into_iter().map(take).collect::<Result<Vec<_>, StoreError>>()
        };
        let inner = Arc::clone(self);
        let tell = move |taken: &Vec<(DocumentId, Taken)>| {
            taken.iter().for_each(|(document, taken)| inner.tell_acknowledged(*document, *taken));
        };
        self.writer.write_from_thread(work, tell).map(Answer::noted)
    }

    /// Tells those who wait what a connection brought, right after the commit.
    pub(crate) fn tell_received(&self, document: DocumentId, accepted: &Accepted, source: Source) {
        events::publish_received(&self.events, document, accepted, source);
        if accepted.stored > 0 && accepted.before.is_empty() {
            self.presences.renew(document);
        }
    }

    /// Tells those who wait what was acknowledged, right after the commit.
    pub(crate) fn tell_acknowledged(&self, document: DocumentId, taken: Taken) {
        self.pending.note(document, -taken.fewer);
        self.pending.tell(document);
        if taken.is_freed {
            events::publish(&self.events, Event::retried(document));
        }
    }

    /// Takes out of the outbox what a relay has shown to have by its heads. What another one refused is refused no more.
    pub(crate) fn note_heads_acknowledged(
        self: &Arc<Self>,
        document: DocumentId,
        relay_heads: Vec<ChangeHash>,
    ) -> Result<Note, RepoError> {
        let work = move |tx: &mut dyn WriteTx| {
            take(tx, &document, |tx| {
                let before = outbox::pending(tx, &document)?.len() as u64;
                Ok(before.cast_signed() - outbox::acknowledge(tx, &document, &relay_heads)?.cast_signed())
            })
        };
        let inner = Arc::clone(self);
        let tell = move |taken: &Taken| inner.tell_acknowledged(document, *taken);
        self.writer.write_from_thread(work, tell).map(Answer::noted)
    }

    /// Notes up to where another device has a space, in the log of this epoch. Never pass on this device's own cursor.
    pub(crate) fn note_seen(&self, epoch: Epoch, space: SpaceId, position: u64) -> Result<Option<Note>, RepoError> {
        if receipts::seen(self.store.read()?.as_ref(), &epoch, &space)? >= position {
            return Ok(None);
        }
        let pending = Arc::clone(&self.pending);
        let tell = move |is_news: &bool| {
            if *is_news {
                pending.tell_all();
            }
        };
        let work = move |tx: &mut dyn WriteTx| receipts::note_seen(tx, &epoch, &space, position);
        self.writer.write_from_thread(work, tell).map(Answer::noted).map(Some)
    }

    /// Notes that a relay refused a change for good.
    pub(crate) fn note_rejected(
        &self,
        document: DocumentId,
        hash: ChangeHash,
        code: u16,
        text: &str,
    ) -> Result<Note, RepoError> {
        let time_seconds = now_seconds();
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
        self.writer.write_from_thread(work, tell).map(Answer::noted)
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
            if is_folded(tx, &document)? {
                return Ok(Err(while_folded()));
            }
            let rewriting = inner.begin_rewriting(document);
            Ok(match engine::replay(tx, document, &reused, &mut random_actor)? {
                Ok(rewritten) => Ok((rewritten, rewriting)),
                Err(error) => Err(cannot(&error)),
            })
        };
        let inner = Arc::clone(self);
        let tell = move |outcome: &Result<(Option<Rewritten>, _), RepoError>| {
            if let Ok((Some(rewritten), _)) = outcome {
                inner.pending.note_renamed(document, &rewritten.renamed);
                inner.tell_rewritten(document, rewritten);
            }
        };
        let outcome = self.writer.write_from_thread(work, tell)?.wait()?;
        Ok(outcome?.0.map_or(0, |rewritten| rewritten.renamed.len()))
    }
}
