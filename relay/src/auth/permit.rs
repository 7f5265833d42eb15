//! Permits: what somebody was let in with, asked anew each time.

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rejoin::codec::v1::Access;
use rejoin::{DocumentId, SpaceId};
use tokio::time::sleep;

use super::rights::Rights;
use super::state::Origin;
use super::{Directory, PrincipalId};
use crate::limits::PERMIT_LOOK;

/// Why a permit is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its time is over.
    Expired,
    /// It was taken back: the token, the principal, or what it was made from.
    Revoked,
}

/// What somebody was let in with.
///
/// Cheap to clone. Asking costs a few look-ups; what was granted is gathered anew only when something has changed that may
/// concern it.
#[derive(Debug, Clone)]
pub struct Permit {
    /// Nothing where nobody keeps a directory and everybody may do everything.
    held: Option<Arc<Held>>,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) directory: Arc<Directory>,
    pub(super) principal: Option<PrincipalId>,
    pub(super) origin: Origin,
    /// The directory's generation when it came to be.
    pub(super) admitted: u64,
    /// Which group of principals it is told of.
    pub(super) group: usize,
    pub(super) gathered: Mutex<Gathered>,
}

/// The rights as of one state of the directory.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) generation: u64,
    pub(super) rights: Result<Arc<Rights>, Ended>,
}

impl Permit {
    /// The permit of who comes without a token to a relay that is open to everybody.
    pub fn anyone() -> Self {
        Self { held: None }
    }

    pub(super) fn new(held: Held) -> Self {
        Self { held: Some(Arc::new(held)) }
    }

    pub(super) fn held(&self) -> Option<&Held> {
        self.held.as_deref()
    }

    /// Returns who it is; nobody in particular where everybody may come in.
    pub fn principal(&self) -> Option<&PrincipalId> {
        self.held.as_ref()?.principal.as_ref()
    }

    /// Returns when it ends by itself, in seconds since 1970.
    pub fn expires(&self) -> Option<u64> {
        self.held.as_ref()?.rights().ok()?.expires
    }

    /// Returns what may be done in all of a space, or `None` if its holder may not even know that there is one.
    pub fn space(&self, space: &SpaceId) -> Option<Access> {
        match &self.held {
            Some(held) => held.ask(|rights, now| rights.space(space, now)).flatten(),
            None => Some(Access::Admin),
        }
    }

    /// Returns what may be done with one document that is in this space: what may be done in the space, or what was granted for
    /// the document alone, if that is more.
    pub fn document(&self, space: &SpaceId, document: &DocumentId) -> Option<Access> {
        match &self.held {
            Some(held) => held.ask(|rights, now| rights.document(space, document, now)).flatten(),
            None => Some(Access::Admin),
        }
    }

    /// Says whether anything is granted in a space, be it the whole or single documents: who has only these may choose them.
    ///
    /// A document's grant does not say in which space it is, so who has one may choose in every space, and finds nothing in most.
    pub fn knows(&self, space: &SpaceId) -> bool {
        match &self.held {
            Some(held) => held.ask(|rights, now| rights.knows(space, now)).unwrap_or(false),
            None => true,
        }
    }

    /// Says whether it is over.
    ///
    /// # Errors
    ///
    /// Why it is over.
    pub fn check(&self) -> Result<(), Ended> {
        match &self.held {
            Some(held) => held.remaining().map(|_| ()),
            None => Ok(()),
        }
    }

    /// Waits until it is over: for ever if it never ends. Wakes within a second of a revocation. May be given up and begun anew
    /// at any time.
    pub async fn ended(&self) -> Ended {
        let Some(held) = &self.held else { return pending().await };
        let mut ends = held.directory.ends(held.group);
        loop {
            let remaining = match held.remaining() {
                Ok(remaining) => remaining.unwrap_or(Duration::MAX),
                Err(ended) => return ended,
            };
            tokio::select! {
                () = sleep(remaining.min(PERMIT_LOOK)) => {}
                // The directory is held by this permit, so it still tells.
                _ = ends.changed() => {}
            }
        }
    }
}

impl Held {
    /// Returns the rights as of now, or that it is over for another reason than its time.
    pub(super) fn rights(&self) -> Result<Arc<Rights>, Ended> {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken before the state is looked at: what changes meanwhile is looked at again.
        let generation = self.directory.generation(self.group);
        if gathered.generation != generation {
            gathered.rights = self.directory.gather(self.principal.as_ref(), &self.origin, self.admitted);
            gathered.generation = generation;
        }
        gathered.rights.clone()
    }

    /// Returns how long it still lasts, or that it is over.
    pub(super) fn remaining(&self) -> Result<Option<Duration>, Ended> {
        let Some(expires) = self.rights()?.expires else { return Ok(None) };
        match Duration::from_secs(expires).checked_sub(self.directory.now()) {
            None | Some(Duration::ZERO) => Err(Ended::Expired),
            Some(remaining) => Ok(Some(remaining)),
        }
    }

    /// Asks the rights, if it is not over.
    fn ask<T>(&self, ask: impl FnOnce(&Rights, u64) -> T) -> Option<T> {
        let (rights, now_seconds) = (self.rights().ok()?, self.directory.now().as_secs());
        let lasts = rights.expires.is_none_or(|expires| now_seconds < expires);
        lasts.then(|| ask(&rights, now_seconds))
    }
}
