//! Rejected writes: what a relay refused for good. The application reads why, and tries again or takes it out.

use std::sync::Arc;

use automerge::ChangeHash;

use super::events::{self, Event};
use super::{Inner, Repo, RepoError, now_seconds};
use crate::codec::v1::Code;
use crate::engine::{self, Rewritten, Unwritable};
use crate::id::DocumentId;
use crate::ledger::rejected::{Noted, Rejection};
use crate::ledger::{self, branches, rejected};
use crate::store::{StoreError, WriteTx};

/// A write that a relay refused for good. It is in the document on this device and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RejectedWrite {
    /// Which document was written.
    pub document: DocumentId,
    /// The change.
    pub change: ChangeHash,
    /// Why it was refused, for a program.
    pub code: Code,
    /// The relay's words, for a person.
    pub text: String,
    /// When it was refused, in seconds since the Unix epoch.
    pub time_seconds: u64,
    /// How many later writes stand on it, and are held back with it.
    pub blocked: u64,
}

impl RejectedWrite {
    fn of(noted: Noted) -> Self {
        let Noted { document, rejection, blocked, .. } = noted;
        let Rejection { hash, code, text, time_seconds } = rejection;
        Self { document, change: hash, code: Code::from_number(code), text, time_seconds, blocked }
    }
}

/// Work that was taken out of a document, and is kept beside it on this device until it is forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Branch {
    /// Of which document.
    pub document: DocumentId,
    /// Which one of that document.
    pub number: u64,
    /// The write that was refused.
    pub change: ChangeHash,
    /// Why it was refused, for a program.
    pub code: Code,
    /// The relay's words, for a person.
    pub text: String,
    /// When it was taken out, in seconds since the Unix epoch.
    pub time_seconds: u64,
    /// How many changes were taken out: the refused one and those that stood on it.
    pub changes: u64,
}

impl Branch {
    fn of(document: DocumentId, branch: branches::Branch) -> Self {
        let branches::Branch { number, rejection, time_seconds, changes } = branch;
        let Rejection { hash, code, text, .. } = rejection;
        Self { document, number, change: hash, code: Code::from_number(code), text, time_seconds, changes }
    }
}

impl Repo {
    /// Returns every write that a relay refused for good, by document and age. Everything else flows on: a refused write holds
    /// back only what stands on it, which is what was written to the same document after it. Cost: one visit for each write
    /// that is held back.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read.
    pub async fn rejected(&self) -> Result<Vec<RejectedWrite>, RepoError> {
        let listed = self.read(|tx| rejected::list(tx, None)).await?;
        Ok(listed.into_iter().map(RejectedWrite::of).collect())
    }

    /// Puts a rejected write back into the outbox, with what stands on it: for when the reason is gone, say a right was granted.
    /// Returns how many writes wait again: none, if it stands on another rejected one.
    ///
    /// # Errors
    ///
    /// [`RepoError::Gone`] if it is not rejected any more. [`RepoError`] if the store cannot be written.
    pub async fn retry(&self, write: &RejectedWrite) -> Result<u64, RepoError> {
        let (document, change) = (write.document, write.change);
        let (events, pending) = (self.inner.events.clone(), Arc::clone(&self.inner.pending));
        let tell = move |waiting: &Option<u64>| {
            if let Some(waiting) = waiting {
                pending.note(document, waiting.cast_signed());
                pending.tell(document);
                events::publish(&events, Event::retried(document));
            }
        };
        let waiting = self.inner.writer.write(move |tx| rejected::retry(tx, &document, &change), tell).await?;
        waiting.ok_or(RepoError::Gone)
    }

    /// Takes a rejected write out of its document, with what stands on it: the document is as if they had never been made, and
    /// they are kept as a [`Branch`]. Subscribers get [`EventKind::Rewritten`](super::EventKind::Rewritten). One that was tried
    /// again shortly before may be on its way: if the relay takes it, it comes back from there, beside what was written since.
    ///
    /// Cost: as if all changes of the document were received once more; other writes wait meanwhile.
    ///
    /// # Errors
    ///
    /// [`RepoError::Gone`] if it is not rejected any more. [`RepoError::TakeOut`] if somebody else has it already, through
    /// another relay; nothing was changed then. [`RepoError`] if the store cannot be used.
    pub async fn drop_rejected(&self, write: &RejectedWrite) -> Result<Branch, RepoError> {
        let (document, change) = (write.document, write.change);
        let time_seconds = now_seconds();
        let inner = Arc::clone(&self.inner);
        let work = move |tx: &mut dyn WriteTx| {
            if is_folded(tx, &document)? {
                return Ok(Err(while_folded()));
            }
            let rewriting = inner.begin_rewriting(document);
            Ok(match engine::drop_rejected(tx, document, &change, time_seconds)? {
                Ok(Some((branch, rewritten))) => Ok((Branch::of(document, branch), rewritten, rewriting)),
                Ok(None) => Err(RepoError::Gone),
                Err(error) => Err(cannot(&error)),
            })
        };
        let inner = Arc::clone(&self.inner);
        let tell = move |outcome: &Result<_, RepoError>| {
            if let Ok((_, rewritten, _)) = outcome {
                inner.tell_rewritten(document, rewritten);
            }
        };
        Ok(self.inner.writer.write(work, tell).await??.0)
    }

    /// Returns what was taken out of a document, the oldest first. Cost: one visit for each change of it.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read.
    pub async fn branches(&self, document: DocumentId) -> Result<Vec<Branch>, RepoError> {
        let found = self.read(move |tx| branches::list(tx, &document)).await?;
        Ok(found.into_iter().map(|branch| Branch::of(document, branch)).collect())
    }

    /// Returns the document as it was with a branch's work, as the bytes of an `.automerge` file: one chunk for each change,
    /// which every Automerge loads, as [`Repo::import`] does. What others wrote meanwhile is not in it.
    /// Cost: reads what the branch stands on.
    ///
    /// # Errors
    ///
    /// [`RepoError::Gone`] if it was forgotten, or its document deleted. [`RepoError`] if the store cannot be read.
    pub async fn export_branch(&self, branch: &Branch) -> Result<Vec<u8>, RepoError> {
        let (document, number) = (branch.document, branch.number);
        self.read(move |tx| branches::export(tx, &document, number)).await?.ok_or(RepoError::Gone)
    }

    /// Deletes a branch for good. Returns whether it was there.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be written.
    pub async fn forget_branch(&self, branch: &Branch) -> Result<bool, RepoError> {
        let (document, number) = (branch.document, branch.number);
        self.inner.writer.write(move |tx| branches::forget(tx, &document, number), |_: &bool| {}).await
    }
}

impl Inner {
    /// Begins to replace a document's changes, inside the transaction that does it: what memory holds of it is worth nothing,
    /// and the numbers of our actor in it are used up.
    pub(super) fn begin_rewriting(&self, document: DocumentId) -> super::documents::Rewriting {
        self.actors.forget(&document);
        self.documents.begin_rewriting(document)
    }

    /// Tells of a document whose changes were replaced, after the commit.
    pub(super) fn tell_rewritten(&self, document: DocumentId, rewritten: &Rewritten) {
        self.pending.note(document, rewritten.waiting);
        self.pending.tell(document);
        events::publish(&self.events, Event::rewritten(document, &rewritten.heads, rewritten.renamed.len()));
    }
}

/// Says whether a document's history is still to be unfolded. Nothing can be taken out of it then, which is its own matter alone: an error
/// would undo what else is in the transaction.
pub(super) fn is_folded(tx: &dyn WriteTx, document: &DocumentId) -> Result<bool, StoreError> {
    Ok(ledger::state(tx, document)?.is_some_and(|state| state.folded > 0))
}

/// Says that to the application.
pub(super) fn while_folded() -> RepoError {
    RepoError::TakeOut { reason: "its history is not taken apart yet: try again in a moment".to_owned() }
}

/// Says to the application why a write cannot be taken out.
pub(super) fn cannot(error: &Unwritable) -> RepoError {
    match error {
        Unwritable::Unknown => RepoError::Gone,
        error => RepoError::TakeOut { reason: error.to_string() },
    }
}
