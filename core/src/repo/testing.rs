//! For tests: what a relay would tell a repo, told without one, and actors that are not random.

use automerge::{ActorId, ChangeHash};

use super::{Repo, RepoError};
use crate::document::Materialised;
use crate::engine::{self, Accepted, Origin, Reused};
use crate::gate::CheckedChange;
use crate::id::{DocumentId, Epoch, SpaceId};
use crate::ledger;
use crate::ledger::receipts::{Acknowledged, Relayed};
use crate::runtime;
use crate::store::{StoreError, WriteTx};

/// Tells a repo what a relay would.
#[derive(Debug, Clone)]
pub struct ToldBy(Repo);

impl ToldBy {
    /// Makes a teller for a repo.
    pub fn new(repo: &Repo) -> Self {
        Self(repo.clone())
    }

    /// Tells that changes are in a relay's log.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the repo is closed.
    pub async fn acknowledge(
        &self,
        epoch: Epoch,
        document: DocumentId,
        changes: Vec<Acknowledged>,
    ) -> Result<(), RepoError> {
        let acknowledge = move |repo: &Repo| {
            let tx = repo.inner.store.read()?;
            let named = changes.into_iter().map(|Acknowledged { position, log_position }| {
                Ok(Relayed { hash: ledger::node(tx.as_ref(), &document, position)?.hash, log_position })
            });
            let named = named.collect::<Result<_, StoreError>>()?;
            drop(tx);
            repo.inner.note_acknowledged(epoch, vec![(document, named)]).map(drop)
        };
        self.run(acknowledge).await
    }

    /// Tells that a relay showed these heads.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the repo is closed.
    pub async fn show_heads(&self, document: DocumentId, heads: Vec<ChangeHash>) -> Result<(), RepoError> {
        self.run(move |repo| repo.inner.note_heads_acknowledged(document, heads).map(drop)).await
    }

    /// Tells that another device has passed a position.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the repo is closed.
    pub async fn see(&self, epoch: Epoch, space: SpaceId, position: u64) -> Result<(), RepoError> {
        self.run(move |repo| repo.inner.note_seen(epoch, space, position).map(drop)).await
    }

    /// Tells that a change was refused.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the repo is closed.
    pub async fn reject(&self, document: DocumentId, hash: ChangeHash, code: u16) -> Result<(), RepoError> {
        self.run(move |repo| repo.inner.note_rejected(document, hash, code, "refused by a test").map(drop)).await
    }

    /// Tells that a change was refused because its actor wrote another one. Returns how many changes were written again.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if they cannot be.
    pub async fn refuse_as_reused(&self, document: DocumentId, hash: ChangeHash) -> Result<usize, RepoError> {
        self.run(move |repo| repo.inner.replay_under_fresh_actor(document, Reused::Refused(hash))).await
    }

    /// Tells that a change arrived with a number that is taken. Returns how many changes were written again.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if they cannot be.
    pub async fn arrive_as_reused(&self, document: DocumentId, actor: ActorId, seq: u64) -> Result<usize, RepoError> {
        self.run(move |repo| repo.inner.replay_under_fresh_actor(document, Reused::Arrived { actor, seq })).await
    }

    /// Hands in changes as a relay does.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be written.
    pub async fn deliver(&self, document: DocumentId, changes: Vec<CheckedChange>) -> Result<Accepted, RepoError> {
        let events = self.0.inner.events.clone();
        let work = move |tx: &mut dyn WriteTx| engine::accept_known(tx, document, changes);
        let tell =
            move |accepted: &Accepted| super::events::publish_accepted(&events, document, Origin::Remote, accepted);
        self.0.inner.writer.write(work, tell).await
    }

    /// Makes a repo write a document's fields with this actor from now on.
    pub fn set_actor(&self, document: DocumentId, actor: ActorId) {
        self.0.inner.actors.set(document, actor);
    }

    /// Makes a repo edit a loaded document with this actor from now on, until it is dropped from memory.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the repo is closed.
    pub async fn load_as(&self, document: DocumentId, actor: ActorId) -> Result<(), RepoError> {
        self.0.inner.documents.evict(document).await?;
        self.run(move |repo| repo.inner.documents.adopt(document, Materialised::new(document, actor))).await
    }

    /// Runs what a connection's thread does, and waits until what it queued is committed.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Repo) -> Result<T, RepoError> + Send + 'static,
    ) -> Result<T, RepoError> {
        let repo = self.0.clone();
        let done = runtime::unblock(move || work(&repo)).await??;
        self.0.inner.writer.write(|_| Ok(()), |(): &()| {}).await?;
        Ok(done)
    }
}
