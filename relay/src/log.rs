//! The log: makes writes durable, in one order for each space, and answers only then.
//!
//! Whoever writes goes through [`Log`]. Reading needs no trait: sessions read the log of a space, heads and snapshots from the
//! store's transactions ([`rejoin::ledger`]), and the hub tells them that there is something to read. The one engine so far is
//! [`GroupCommit`], for a store that belongs to this process alone.

use futures_util::future::BoxFuture;
use rejoin::codec::v1::{Code, Outcome, Reject};
use rejoin::deletion::Tombstone;
use rejoin::gate::CheckedChange;
use rejoin::ledger::Appended;
use rejoin::sync::v1::Offered;
use rejoin::{DocumentId, SpaceId};
use tokio::sync::oneshot;

use crate::auth::{Permit, PrincipalId};
use crate::hub::ConnectionId;
use crate::quota::Kind;

mod commit;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod cuts;
mod entrance;
#[cfg(test)]
mod fairness;
mod group_commit;
mod inbox;
mod opening;
mod owners;
mod queue;
#[cfg(test)]
mod room;
#[cfg(test)]
mod tests;

pub(crate) use group_commit::GroupCommit;
#[cfg(feature = "testing")]
pub(crate) use group_commit::Writer;
pub(crate) use opening::{epoch_since, open};

/// Whose writes they are.
#[derive(Debug, Clone)]
pub(crate) struct Author {
    /// Over which connection they came: what they bring is news to all others.
    pub(crate) connection: ConnectionId,
    /// Who it is; nobody in particular on a relay that is open.
    pub(crate) principal: Option<PrincipalId>,
    /// What it may do, where that is asked at the commit: for writes that name no space, since a document may have come to be in
    /// another one since they were let through.
    pub(crate) permit: Option<Permit>,
}

/// Who shares a turn with whom: all connections of a principal, or one of nobody in particular alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum AuthorKey {
    Principal(PrincipalId),
    Connection(ConnectionId),
}

impl Author {
    fn key(&self) -> AuthorKey {
        match &self.principal {
            Some(principal) => AuthorKey::Principal(principal.clone()),
            None => AuthorKey::Connection(self.connection),
        }
    }
}

impl From<ConnectionId> for Author {
    fn from(connection: ConnectionId) -> Self {
        Self { connection, principal: None, permit: None }
    }
}

/// What became of the changes of a request.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// What the ledger says of them, in their order.
    pub(crate) appended: Vec<(CheckedChange, Appended)>,
    /// Those that were not offered to it, because their actors belong to somebody else.
    pub(crate) owned: Vec<CheckedChange>,
    /// Those that there is no room for.
    pub(crate) full: Vec<CheckedChange>,
}

/// Waits for what became of a push, each of its writes.
pub(crate) type Pushed = oneshot::Receiver<Result<Vec<Outcome>, AppendError>>;

/// Makes writes durable.
///
/// Laws: what was answered as stored survives a loss of power, and so does its position. A space's positions have no gaps and
/// grow in the order in which they can be read. What a connection pushes is stored and answered in its order. One bad write
/// takes no other with it, except those of its document that stand on it.
pub(crate) trait Log: Send + Sync {
    /// Appends changes to a document wherever it is; an unknown one comes to be in the default space. Returns when they are
    /// durable. Waits while too much is queued.
    ///
    /// # Errors
    ///
    /// [`AppendError`]; the connection cannot go on then, because its peer takes them for delivered.
    fn append(
        &self,
        author: Author,
        document: DocumentId,
        changes: Vec<CheckedChange>,
    ) -> BoxFuture<'static, Result<Results, AppendError>>;

    /// Queues writes to documents of a space, which an unknown document comes to be in. Waits while too much is queued; the
    /// next push may then be begun.
    ///
    /// # Errors
    ///
    /// [`AppendError::Stopped`].
    fn push(
        &self,
        author: Author,
        space: SpaceId,
        writes: Vec<Offered>,
    ) -> BoxFuture<'static, Result<Pushed, AppendError>>;

    /// Deletes a document everywhere, as far as this relay goes, and returns when that is durable.
    ///
    /// # Errors
    ///
    /// [`AppendError`]; the document may be deleted all the same. Trying again does no harm.
    fn delete(
        &self,
        author: Author,
        document: DocumentId,
        tombstone: Tombstone,
    ) -> BoxFuture<'static, Result<(), AppendError>>;

    /// Says whether the last commit went well.
    fn is_writable(&self) -> bool;

    /// Finds out whether the store takes writes: by the last commits, or by a write of its own if they were long ago. It takes
    /// as long as the commit under way.
    ///
    /// Without it a relay that shows itself as not ready, and so gets no changes, would never find out that it is again.
    fn probe(&self) -> BoxFuture<'static, bool>;

    /// Finishes what is queued, and takes nothing more.
    fn finish(&self) -> BoxFuture<'_, ()>;
}

/// Why changes were not appended. Some of them may have been; offering them again does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AppendError {
    /// The relay is stopping.
    #[error("the relay is stopping")]
    Stopped,
    /// The document is by now where their author may not write to it.
    #[error("the document came to be in another space")]
    Moved,
    /// They came as a whole document that cannot be taken apart.
    #[error("the document cannot be taken apart")]
    Whole,
    /// The store refused; the log has the reason.
    #[error("the store cannot be written")]
    Store,
}

/// What became of one write.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Written {
    /// What the ledger says of a change, and where in the log it is if it is stored.
    Change(Appended, Option<u64>),
    /// The document is deleted: from this position of the log on, or was before.
    Deleted(Option<u64>),
    /// Its actor belongs to somebody else.
    Owned,
    /// There is no room for it in its document or its space.
    Full(Kind),
    /// The document is in another space.
    Elsewhere,
    /// It is where its author, who named no space, may not write to it.
    Moved,
    /// The store refused.
    Failed,
}

impl Written {
    /// Returns the code of why it was refused, if it was and whoever pushed it can do something about it.
    fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Failed | Self::Deleted(_) => None,
            Self::Change(Appended::Stored { .. } | Appended::Duplicate, _) => None,
            written => match written.clone().into_outcome() {
                Outcome::Rejected(reject) => Some(reject.code.name()),
                _ => None,
            },
        }
    }

    /// Says it to who pushed it.
    fn into_outcome(self) -> Outcome {
        let code = match self {
            Self::Change(Appended::Stored { .. }, Some(first)) | Self::Deleted(Some(first)) => {
                return Outcome::Stored { first };
            }
            Self::Change(Appended::Duplicate, _) | Self::Deleted(None) => return Outcome::Duplicate,
            Self::Change(Appended::Rejected(error), _) => return Outcome::Rejected(Reject::from(&error)),
            Self::Change(Appended::Missing { .. }, _) => {
                let text = "dependency: a dependency of the change is missing".to_owned();
                return Outcome::Rejected(Reject { code: Code::ChangeMissing, text });
            }
            Self::Change(Appended::Deleted, _) => Code::DocumentDeleted,
            Self::Owned => Code::ActorOwned,
            Self::Moved => Code::ReadOnly,
            Self::Full(kind) => {
                let what = if kind == Kind::SpaceBytes { "space" } else { "document" };
                let text = format!("{}: there is no room for the change in its {what}", kind.name());
                return Outcome::Rejected(Reject { code: Code::Quota, text });
            }
            Self::Elsewhere => Code::DocumentElsewhere,
            // A relay folds no history away, and logs what it stores.
            _ => Code::NotStored,
        };
        Outcome::Rejected(Reject::new(code))
    }
}
