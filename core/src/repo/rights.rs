//! What relays say that this device may do in a space.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::spaces::SpaceHandle;
use super::{Inner, Repo};
use crate::codec::v1::Access;
use crate::id::SpaceId;

/// What is known of this device's rights in a space. It is what the relay said last, since the repo was opened: whatever it is,
/// everything may be done here, and what a relay does not take is listed by [`Repo::rejected`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpaceRights {
    /// No relay has said anything yet.
    #[default]
    Unknown,
    /// A relay does not give the space, or has no such space: it does not say which.
    Denied,
    /// A relay gives the space, to do this much in it.
    Given(Access),
}

/// What relays said of spaces.
#[derive(Debug, Default)]
pub(super) struct KnownRights {
    spaces: Mutex<HashMap<SpaceId, SpaceRights>>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
}

impl KnownRights {
    fn spaces(&self) -> MutexGuard<'_, HashMap<SpaceId, SpaceRights>> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells that rights changed, see [`Repo::rights_news`].
#[derive(Debug)]
pub struct RightsNews {
    changes: watch::Receiver<u64>,
}

impl RightsNews {
    /// Waits until rights in any space have changed since the last time; says no when the repo is gone.
    pub async fn next(&mut self) -> bool {
        self.changes.changed().await.is_ok()
    }
}

impl Inner {
    /// Notes what a relay says about a space that this device follows.
    pub(crate) fn note_rights(&self, space: SpaceId, rights: SpaceRights) {
        let before = self.rights.spaces().insert(space, rights);
        if before != Some(rights) {
            self.rights.changes.send_modify(|count| *count += 1);
        }
    }
}

impl Repo {
    /// Returns what tells when rights in a space have changed.
    pub fn rights_news(&self) -> RightsNews {
        RightsNews { changes: self.inner.rights.changes.subscribe() }
    }

    /// Returns the spaces of which a relay has said what may be done in them, and what. Cost: a copy.
    pub fn known_rights(&self) -> HashMap<SpaceId, SpaceRights> {
        self.inner.rights.spaces().clone()
    }
}

impl SpaceHandle {
    /// Returns what a relay said last that this device may do in the space. Cost: none.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), rejoin::RepoError> {
    /// use rejoin::repo::SpaceRights;
    ///
    /// let repo = rejoin::Repo::in_memory()?;
    /// assert_eq!(repo.create_space().rights(), SpaceRights::Unknown);
    /// # Ok(())
    /// # }
    /// ```
    pub fn rights(&self) -> SpaceRights {
        self.repo().inner.rights.spaces().get(&self.id()).copied().unwrap_or_default()
    }
}
