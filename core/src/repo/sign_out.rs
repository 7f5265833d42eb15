//! Signing out safely: to know that nothing is lost when this device's store is deleted.

use std::time::Duration;

use super::pending::Door;
use super::{Repo, RepoError};
use crate::ledger::{rejected, tombstone};

/// That everything written on this device is on a relay. As long as this is there, nothing more can be written, so that it
/// stays true: delete the store now, or drop this to go on as before.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), rejoin::RepoError> {
/// use std::time::Duration;
///
/// use rejoin::{Repo, RepoError};
///
/// let repo = Repo::in_memory()?;
/// let note = repo.create().await?;
/// note.set("title", "Groceries").await?;
/// // There is no relay, so the note is nowhere else.
/// let refused = repo.sign_out(Duration::ZERO).await.map(drop);
/// assert!(matches!(refused, Err(RepoError::NotSynced { changes: 1, .. })));
///
/// repo.delete(note.id()).await?;
/// let signed_out = repo.sign_out(Duration::ZERO).await?;
/// drop((repo, note));
/// signed_out.close().await; // and then delete the file
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it allows writing again"]
pub struct SignOut {
    repo: Repo,
    door: Door,
}

impl std::fmt::Debug for SignOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignOut").finish_non_exhaustive()
    }
}

impl SignOut {
    /// Closes the repo as [`Repo::close`] does: afterwards its store may be deleted.
    pub async fn close(self) {
        let Self { repo, door } = self;
        drop(door);
        repo.close().await;
    }
}

impl Repo {
    /// Waits until a relay has everything that was written on this device, and refuses what is written from now on with
    /// [`RepoError::SigningOut`], until the returned guard is dropped.
    ///
    /// # Errors
    ///
    /// [`RepoError::NotSynced`] counts what is only here when the time is up, or at once what a relay rejected, if nothing else
    /// is left; writing goes on then. [`RepoError`] if the store cannot be used.
    pub async fn sign_out(&self, limit: Duration) -> Result<SignOut, RepoError> {
        let door = self.inner.pending.leave();
        // What was written before the door was shut goes through first.
        self.inner.writer.write(|_| Ok(()), |(): &()| {}).await?;
        match self.wait_synced(limit).await {
            Ok(()) | Err(RepoError::Timeout) => {}
            Err(error) => return Err(error),
        }
        let (deletions, rejected) = self.read(|tx| Ok((tombstone::waiting(tx)?, rejected::count(tx)?))).await?;
        let changes = self.inner.pending.total();
        if changes + deletions + rejected > 0 {
            return Err(RepoError::NotSynced { changes, deletions, rejected });
        }
        Ok(SignOut { repo: self.clone(), door })
    }
}
