//! Numbered writes, for those between whom and the repo an answer may be lost: see [`ChangeOptions::request`].
//!
//! [`ChangeOptions::request`]: super::ChangeOptions::request

use super::{Repo, RepoError};
use crate::ledger::requests::{self, RequestId};

impl Repo {
    /// Forgets a session's numbered writes up to this one, because their answers have arrived. What is never forgotten like
    /// this is after a week.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be written.
    pub async fn forget_requests(&self, last: RequestId) -> Result<(), RepoError> {
        self.inner.writer.write(move |tx| requests::forget(tx, &last), |(): &()| {}).await
    }
}
