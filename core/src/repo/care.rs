//! Care for the repo's store: see [`crate::care`]. All of it runs on threads that may wait for the disk.

use std::sync::Arc;

use super::{Repo, RepoError};
use crate::care::{self, Compacted, Registers, Repaired, Report, Stats, VerifyOptions};
use crate::id::DocumentId;
use crate::runtime;
use crate::store::Store;

impl Repo {
    /// Copies everything into a new file, as it is at this moment; writing goes on. The copy has a storage id of its own.
    ///
    /// To restore it, close the repo and put the file in the place of the store's. Cost: reads and writes everything once.
    ///
    /// # Errors
    ///
    /// [`RepoError::Backup`] if something stands there already, or the copy cannot be written.
    #[cfg(feature = "redb")]
    pub async fn backup(&self, into: impl AsRef<std::path::Path>) -> Result<care::BackedUp, RepoError> {
        let into = into.as_ref().to_owned();
        let options = care::BackupOptions::new(care::CopyId::New(super::random_bytes()));
        Ok(self.tend(move |store| care::backup(store, into, &options, &mut |_| ())).await??)
    }

    /// Checks everything in the store, and lists what is wrong; writing goes on. Cost: see [`care::verify()`].
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read at all. Damage is no error, it is in the report.
    pub async fn verify(&self) -> Result<Report, RepoError> {
        let options = VerifyOptions::new(Registers::Kept);
        Ok(self.tend(move |store| care::verify(store, &options, &mut |_| ())).await??)
    }

    /// Computes everything about a document anew from its changes: for what [`Repo::verify`] advises to repair.
    ///
    /// Its history, its place in the outbox (as far as that can be read; see [`care::repair`]) and its open handles stay as they are. Other writes wait meanwhile.
    ///
    /// # Errors
    ///
    /// [`RepoError::Repair`] if changes were lost; nothing was changed then.
    pub async fn repair(&self, document: DocumentId) -> Result<Repaired, RepoError> {
        let repaired = self.tend(move |store| care::repair(store, document, Registers::Kept)).await??;
        self.recount().await?;
        Ok(repaired)
    }

    /// Makes the store as small as it gets. Documents are packed without being asked, so this is seldom of use; see
    /// [`care::compact()`].
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be used; nothing is lost then.
    pub async fn compact(&self) -> Result<Compacted, RepoError> {
        Ok(self.tend(|store| care::compact(store, &mut |_| ())).await??)
    }

    /// Counts what is in the store. Cost: reads all of it once.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read.
    pub async fn stats(&self) -> Result<Stats, RepoError> {
        Ok(self.tend(care::stats).await??)
    }

    async fn tend<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store) -> T + Send + 'static,
    ) -> Result<T, RepoError> {
        let store = Arc::clone(&self.inner().store);
        runtime::unblock(move || work(store.as_ref())).await
    }
}
