//! What can go wrong in a repo.

use std::sync::Arc;

use automerge::ChangeHash;

#[cfg(feature = "redb")]
use crate::care::BackupError;
use crate::care::RepairError;
use crate::document::DocumentError;
use crate::fields::FieldError;
use crate::id::SpaceId;
use crate::store::StoreError;

/// Why a call failed. What was stored before is safe in every case.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RepoError {
    /// The store failed.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// A field cannot be written like that.
    #[error(transparent)]
    Field(Arc<FieldError>),
    /// A document cannot be loaded or edited like that.
    #[error(transparent)]
    Document(Arc<DocumentError>),
    /// The document was deleted from this device, or never was here.
    #[error("failed to find the document: it is not on this device (use open_or_fetch to ask the relay)")]
    NotFound,
    /// The document was deleted everywhere.
    #[error("failed to find the document: it was deleted everywhere, and cannot come back")]
    Deleted,
    /// The bytes are no Automerge document, or one that breaks a rule.
    #[error("failed to import the file: {reason}")]
    Import {
        /// What is wrong with it.
        reason: String,
    },
    /// A change of another document breaks a rule in this one.
    #[error("failed to merge the documents: {reason}")]
    Merge {
        /// Why the first of them was not taken.
        reason: String,
    },
    /// The store cannot be backed up.
    #[cfg(feature = "redb")]
    #[error(transparent)]
    Backup(Arc<BackupError>),
    /// A document cannot be repaired.
    #[error(transparent)]
    Repair(Arc<RepairError>),
    /// A typed value does not fit the document, or cannot be stored in one.
    #[error("failed to map the document to its type: {0}")]
    Typed(String),
    /// The address of a relay does not parse.
    #[error(
        "failed to read the relay's address {url:?}: {reason} (it looks like wss://relay.example or ws://127.0.0.1:3030)"
    )]
    Address {
        /// The address as it was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The root certificates for a relay cannot be used.
    #[error("failed to read the root certificates: {reason} (they are expected as PEM: -----BEGIN CERTIFICATE-----)")]
    Certificates {
        /// What is wrong with them.
        reason: String,
    },
    /// The write was done before, and its answer lost: see [`ChangeOptions::request`](super::ChangeOptions::request).
    #[error("this write was done before")]
    Repeated {
        /// The change that it made then, if there was anything to change.
        change: Option<ChangeHash>,
    },
    /// No relay answered in time.
    #[error("failed to sync in time: no relay answered; what was written is safe on this device")]
    Timeout,
    /// A relay refused the write for good. It is in [`Repo::rejected`](super::Repo::rejected).
    #[error("failed to relay the write: the relay refused it, or what it stands on, with code {code}: {text}")]
    Rejected {
        /// The number of the relay's code; see [`crate::codec::v1::Code`].
        code: u16,
        /// The relay's words.
        text: String,
    },
    /// The write is not in the document any more.
    #[error("failed to find the write: it was taken out of the document again, see its branches")]
    Gone,
    /// A write cannot be taken out of its document.
    #[error("failed to take the write out of the document: {reason}")]
    TakeOut {
        /// Why.
        reason: String,
    },
    /// Not everything that was written here is on a relay.
    #[error(
        "failed to sign out: {changes} changes and {deletions} deletions are only on this device, and {rejected} more were \
         rejected by the relay; nothing was changed"
    )]
    NotSynced {
        /// How many changes wait for a relay.
        changes: u64,
        /// How many deletions do.
        deletions: u64,
        /// How many changes a relay refused, with those that stand on them: see [`Repo::rejected`](super::Repo::rejected).
        rejected: u64,
    },
    /// This device is signing out: see [`Repo::sign_out`](super::Repo::sign_out).
    #[error("failed to write: this device is signing out")]
    SigningOut,
    /// The document is in another space.
    #[error("failed to find the document in this space: it is in space {space}")]
    Elsewhere {
        /// Which one.
        space: SpaceId,
    },
    /// A presence value cannot be shown.
    #[error(transparent)]
    Presence(super::PresenceError),
    /// The repo's threads have ended; the process is going down.
    #[error("failed to reach the repo: it was closed")]
    Closed,
}

impl From<StoreError> for RepoError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

#[cfg(feature = "redb")]
impl From<BackupError> for RepoError {
    fn from(error: BackupError) -> Self {
        Self::Backup(Arc::new(error))
    }
}

impl From<RepairError> for RepoError {
    fn from(error: RepairError) -> Self {
        Self::Repair(Arc::new(error))
    }
}

impl From<FieldError> for RepoError {
    fn from(error: FieldError) -> Self {
        Self::Field(Arc::new(error))
    }
}

impl From<DocumentError> for RepoError {
    fn from(error: DocumentError) -> Self {
        Self::Document(Arc::new(error))
    }
}

impl From<automerge::AutomergeError> for RepoError {
    fn from(error: automerge::AutomergeError) -> Self {
        DocumentError::from(error).into()
    }
}

impl From<std::io::Error> for RepoError {
    fn from(error: std::io::Error) -> Self {
        StoreError::from(error).into()
    }
}
