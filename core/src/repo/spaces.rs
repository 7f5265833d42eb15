//! Spaces: named sets of documents that are synced and granted together.

use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use super::files::new_document;
use super::{DocHandle, Inner, Repo, RepoError, events, random_bytes};
use crate::id::{DocumentId, SpaceId};
use crate::ledger::follow::{self, Following};
use crate::ledger::{self, cursor, spaces, tombstone};
use crate::repo::Event;
use crate::store::{StoreError, WriteTx};

/// A space, as this device knows it: the documents that are here, and those that are only known to be in it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), rejoin::RepoError> {
/// let repo = rejoin::Repo::in_memory()?;
/// let team = repo.create_space();
/// let note = team.create().await?;
/// assert_eq!(team.list().await?, [note.id()]);
/// assert_eq!(note.space().await?, team.id());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct SpaceHandle {
    repo: Repo,
    space: SpaceId,
}

impl Repo {
    /// Makes a space with a random id. It is on a relay when a document of it is, and if the relay grants that.
    pub fn create_space(&self) -> SpaceHandle {
        self.space(SpaceId::from_random_bytes(random_bytes()))
    }

    /// Returns a space by its id. [`SpaceId::DEFAULT`] has the documents that were put into no other. Cost: none.
    pub fn space(&self, space: SpaceId) -> SpaceHandle {
        SpaceHandle { repo: self.clone(), space }
    }

    /// Creates an empty document in a space under a new random id. It stays in that space.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be written.
    pub async fn create_in(&self, space: SpaceId) -> Result<DocHandle, RepoError> {
        self.create_as(space, new_document()).await
    }

    /// Creates an empty document in a space under an id that the caller made, of 16 random bytes. One that is here already is
    /// left as it is and where it is, so that this can be tried again.
    ///
    /// # Errors
    ///
    /// [`RepoError::Deleted`] if it was deleted everywhere; [`RepoError::Elsewhere`] if it is known to be in another space and not
    /// here; [`RepoError`] if the store cannot be written.
    pub async fn create_as(&self, space: SpaceId, document: DocumentId) -> Result<DocHandle, RepoError> {
        let pending = Arc::clone(&self.inner.pending);
        let work = move |tx: &mut dyn WriteTx| {
            if pending.is_leaving() {
                return Ok(Err(RepoError::SigningOut));
            }
            create(tx, &document, &space)
        };
        let telling = Telling::of(self);
        let tell = move |created: &Result<Created, RepoError>| {
            if let Ok(created) = created {
                telling.tell(created, document);
            }
        };
        self.inner.writer.write(work, tell).await??;
        Ok(self.handle(document))
    }
}

/// What came of creating a document.
#[derive(Default)]
pub(super) struct Created {
    pub(super) is_new: bool,
    /// Its space is followed from now on.
    follows: bool,
    /// It was known to be in the space, and whether it was not wanted on this device.
    noted: bool,
    was_dismissed: bool,
}

/// Tells what creating a document changed.
pub(super) struct Telling {
    follows: watch::Sender<u64>,
    pub(super) events: broadcast::Sender<Event>,
}

impl Telling {
    pub(super) fn of(repo: &Repo) -> Self {
        Self { follows: repo.inner.follows.clone(), events: repo.inner.events.clone() }
    }

    pub(super) fn tell(&self, created: &Created, document: DocumentId) {
        if created.follows {
            self.follows.send_modify(|count| *count += 1);
        }
        if created.is_new {
            // Whoever is told its id may write before this device does.
            events::publish(&self.events, Event::opened(document));
        }
    }
}

/// Creates an empty document in a space, unless it is here already.
pub(super) fn create(
    tx: &mut dyn WriteTx,
    document: &DocumentId,
    space: &SpaceId,
) -> Result<Result<Created, RepoError>, StoreError> {
    if ledger::state(tx, document)?.is_some() {
        return Ok(Ok(Created::default()));
    }
    let noted = match spaces::noted(tx, document)? {
        Some(other) if other != *space && !tombstone::is_buried(tx, document)? => {
            return Ok(Err(RepoError::Elsewhere { space: other }));
        }
        noted => noted.is_some(),
    };
    let was_dismissed = spaces::is_dismissed(tx, document)?;
    if !ledger::create(tx, document)? {
        return Ok(Err(RepoError::Deleted));
    }
    spaces::put(tx, document, space)?;
    let follows = *space != SpaceId::DEFAULT && follow::get(tx, space)?.is_none();
    if follows {
        follow::follow(tx, space, Following::Everything)?;
    }
    Ok(Ok(Created { is_new: true, follows, noted, was_dismissed }))
}

/// Takes back in the same transaction what [`create`] did.
pub(super) fn take_back(
    tx: &mut dyn WriteTx,
    document: &DocumentId,
    space: &SpaceId,
    created: &Created,
) -> Result<(), StoreError> {
    if created.follows {
        follow::unfollow(tx, space)?;
    }
    if !created.is_new {
        return Ok(());
    }
    ledger::delete(tx, document)?;
    if created.noted {
        spaces::put(tx, document, space)?;
    }
    if created.was_dismissed {
        spaces::dismiss(tx, document, space)?;
    }
    Ok(())
}

/// Notes that a document is wanted that is not here. One that was deleted from this device comes back: it belongs to its space again,
/// which is compared with relays, whose logs told of it long ago. Says whether it was deleted.
pub(super) fn recall(tx: &mut dyn WriteTx, document: &DocumentId) -> Result<bool, StoreError> {
    let is_dismissed = spaces::is_dismissed(tx, document)?;
    if is_dismissed && let Some(space) = spaces::noted(tx, document)? {
        spaces::put(tx, document, &space)?;
        cursor::forget_everywhere(tx, &space)?;
    }
    Ok(is_dismissed)
}

impl Inner {
    /// Tells of a document that was opened: that it is here, if it was not, and that its space is to be compared, if it was deleted here.
    pub(super) fn tell_opened(&self, document: DocumentId, is_new: bool, is_recalled: bool) {
        if is_recalled {
            self.follows.send_modify(|count| *count += 1);
        }
        if is_new {
            events::publish(&self.events, Event::opened(document));
        }
    }
}

impl SpaceHandle {
    pub(super) fn repo(&self) -> &Repo {
        &self.repo
    }

    /// Returns the space's id, for other devices.
    pub fn id(&self) -> SpaceId {
        self.space
    }

    /// Creates an empty document in the space, as [`Repo::create_in`] does.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be written.
    pub async fn create(&self) -> Result<DocHandle, RepoError> {
        self.repo.create_in(self.space).await
    }

    /// Takes a file in as [`Repo::import_as`] does, into this space.
    ///
    /// # Errors
    ///
    /// As [`Repo::import_as`]; [`RepoError::Elsewhere`] if the document is known to be in another space and not here.
    pub async fn import_as(&self, id: DocumentId, bytes: Vec<u8>) -> Result<DocHandle, RepoError> {
        self.repo.import_into(self.space, id, bytes).await
    }

    /// Returns a handle to a document of the space as [`Repo::open_or_fetch`] does. One that was not here is created empty, and
    /// its contents appear when they come.
    ///
    /// # Errors
    ///
    /// [`RepoError::Elsewhere`] if it is in another space; otherwise as [`Repo::open_or_fetch`].
    pub async fn open_or_fetch(&self, document: DocumentId) -> Result<DocHandle, RepoError> {
        let space = self.space;
        let work = move |tx: &mut dyn WriteTx| {
            let is_new = ledger::state(tx, &document)?.is_none();
            // A document that is here is where it is: others may follow it there.
            let found = if is_new { spaces::noted(tx, &document)? } else { Some(spaces::of(tx, &document)?) };
            if let Some(other) = found.filter(|found| *found != space) {
                return Ok(Err(RepoError::Elsewhere { space: other }));
            }
            if !ledger::create(tx, &document)? {
                return Ok(Err(RepoError::Deleted));
            }
            let is_recalled = recall(tx, &document)?;
            spaces::put(tx, &document, &space)?;
            Ok(Ok((is_new, is_recalled)))
        };
        let inner = Arc::clone(&self.repo.inner);
        let tell = move |opened: &Result<(bool, bool), RepoError>| {
            if let Ok((is_new, is_recalled)) = opened {
                inner.tell_opened(document, *is_new, *is_recalled);
            }
        };
        self.repo.inner.writer.write(work, tell).await??;
        Ok(self.repo.handle(document))
    }

    /// Returns the space's documents that are on this device, by id. Cost: a visit and a lookup for each; in the default
    /// space, one visit for each document of this device.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read.
    pub async fn list(&self) -> Result<Vec<DocumentId>, RepoError> {
        self.documents(true).await
    }

    /// Returns the documents that are known to be in the space and are not on this device, by id:
    /// [`SpaceHandle::open_or_fetch`] gets one. Cost: as [`SpaceHandle::list`].
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read.
    pub async fn unfetched(&self) -> Result<Vec<DocumentId>, RepoError> {
        self.documents(false).await
    }

    /// Returns how many local changes of the space's documents no relay has acknowledged yet. Cost: none, they are counted.
    pub fn pending(&self) -> u64 {
        self.repo.pending_in(self.space)
    }

    async fn documents(&self, here: bool) -> Result<Vec<DocumentId>, RepoError> {
        let space = self.space;
        let read = self.repo.read(move |tx| {
            let mut all = Vec::new();
            spaces::documents(tx, &space, None, &mut |document| {
                all.push(document);
                ControlFlow::Continue(())
            })?;
            let mut chosen = Vec::with_capacity(all.len());
            for document in all {
                if ledger::state(tx, &document)?.is_some() == here {
                    chosen.push(document);
                }
            }
            Ok(chosen)
        });
        read.await
    }
}

impl DocHandle {
    /// Returns the space the document is in. Cost: one lookup.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read.
    pub async fn space(&self) -> Result<SpaceId, RepoError> {
        let document = self.id();
        self.repo().read(move |tx| spaces::of(tx, &document)).await
    }
}
