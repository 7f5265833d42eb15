//! What this device follows, and what connections bring of it.

use std::sync::Arc;

use super::events::{self, Event, Source};
use super::{Inner, Repo, RepoError, SpaceHandle};
use crate::codec::v1::{Listed, ListedState};
use crate::deletion::DeletionKind;
use crate::id::{DocumentId, Epoch, SpaceId, StorageId};
use crate::ledger::follow::{self, Following};
use crate::ledger::spaces::Placed;
use crate::ledger::tombstone::{self, Buried};
use crate::ledger::{self, cursor, spaces};
use crate::store::WriteTx;

impl SpaceHandle {
    /// Follows the space: every document of it comes to this device from every relay that speaks `rejoin.v1`, and stays in
    /// step, also after a restart. A space in which a document was created here is followed already.
    ///
    /// The default space is not followed: of it come the documents that are opened by their ids.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be written.
    pub async fn follow(&self) -> Result<(), RepoError> {
        self.repo().follow(self.id(), Some(Following::Everything)).await
    }

    /// Follows which documents the space has, and only those that were opened here with their contents: the others are
    /// [`unfetched`](SpaceHandle::unfetched).
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be written.
    pub async fn follow_listing(&self) -> Result<(), RepoError> {
        self.repo().follow(self.id(), Some(Following::Listing)).await
    }

    /// Follows the space no more. What is here stays, and what is written here is still sent.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be written.
    pub async fn unfollow(&self) -> Result<(), RepoError> {
        self.repo().follow(self.id(), None).await
    }

    /// Returns how the space is followed, or `None` if it is not.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read.
    pub async fn following(&self) -> Result<Option<Following>, RepoError> {
        let space = self.id();
        self.repo().read(move |tx| follow::get(tx, &space)).await
    }
}

impl Repo {
    async fn follow(&self, space: SpaceId, how: Option<Following>) -> Result<(), RepoError> {
        if space == SpaceId::DEFAULT {
            return Ok(());
        }
        let follows = self.inner().follows.clone();
        let work = move |tx: &mut dyn WriteTx| {
            if follow::get(tx, &space)? == Some(Following::Listing) && how != Some(Following::Listing) {
                // What was listed did not come, and the place in the log is behind it.
                cursor::forget_everywhere(tx, &space)?;
            }
            match how {
                Some(how) => follow::follow(tx, &space, how),
                None => follow::unfollow(tx, &space),
            }
        };
        self.inner().writer.write(work, move |(): &()| follows.send_modify(|count| *count += 1)).await
    }
}

impl Inner {
    /// Notes that this store syncs with a relay; from a thread that may wait.
    pub(crate) fn note_relay(&self, relay: StorageId) -> Result<(), RepoError> {
        self.writer.write_from_thread(move |tx| follow::note_relay(tx, &relay), |_: &bool| {}).map(drop)
    }

    /// Notes which life a relay's log has, before it is told of deletions; from a thread that may wait.
    pub(crate) fn note_epoch(&self, relay: StorageId, epoch: Epoch) -> Result<(), RepoError> {
        if tombstone::is_of_epoch(self.store.read()?.as_ref(), &relay, &epoch)? {
            return Ok(());
        }
        let noted = self.writer.write_from_thread(move |tx| tombstone::note_epoch(tx, &relay, &epoch), |(): &()| {})?;
        noted.wait()
    }

    /// Notes which documents a space has.
    pub(crate) fn note_listed(self: &Arc<Self>, space: SpaceId, documents: Vec<Listed>) -> Result<(), RepoError> {
        let work = move |tx: &mut dyn WriteTx| {
            let mut deleted = Vec::new();
            for Listed { document, state } in documents {
                match state {
                    ListedState::Present { .. } if spaces::is_dismissed(tx, &document)? => {}
                    ListedState::Present { .. } => drop(spaces::put(tx, &document, &space)?),
                    ListedState::Deleted(tombstone) => {
                        spaces::put(tx, &document, &space)?;
                        deleted.push((document, tombstone::bury(tx, &document, &tombstone)?, tombstone.kind));
                    }
                }
            }
            Ok(deleted)
        };
        let inner = Arc::clone(self);
        let tell = move |deleted: &Vec<(DocumentId, Buried, DeletionKind)>| {
            deleted.iter().for_each(|(document, buried, _)| inner.tell_buried(*document, buried, None));
        };
        let deleted = self.writer.write_from_thread(work, tell)?.wait()?;
        self.settle_buried(deleted)
    }

    /// Makes an empty document of a space for a whole one that a relay sent. Says whether it is wanted.
    pub(crate) fn make_room_for_whole(&self, document: DocumentId, space: SpaceId) -> Result<bool, RepoError> {
        let work = move |tx: &mut dyn WriteTx| {
            if let Some(here) = ledger::state(tx, &document)? {
                return spaces::settle(tx, &document, here.count == 0, &space);
            }
            if space == SpaceId::DEFAULT || spaces::is_dismissed(tx, &document)? {
                return Ok(false);
            }
            Ok(spaces::put(tx, &document, &space)? == Placed::There && ledger::create(tx, &document)?)
        };
        self.writer.write_from_thread(work, |_: &bool| {})?.wait()
    }

    /// Tells that somebody deleted a document everywhere.
    pub(crate) fn tell_buried(&self, document: DocumentId, buried: &Buried, source: Option<Source>) {
        if buried.existed {
            self.pending.forget(document);
        }
        // Other relays are to hear of one that was not here, too.
        if buried.existed || buried.is_news && source.is_some() {
            events::publish(&self.events, Event::deleted_by(document, source));
        }
    }
}
