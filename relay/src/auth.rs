//! Authentication and grants: who somebody is, and what that one may do.
//!
//! ```text
//! token, ticket or nothing -> Directory::admit -> Permit -> asked at every append, read, listing and presence
//! ```
//!
//! A [`Permit`] is what a connection or a request was let in with. It is asked anew each time, so that a right that is taken away
//! ends at once; [`Permit::ended`] tells when all of it is over.
//!
//! * [`Directory`] keeps principals, tokens, grants and what is known of spaces, in the store and in memory.
//! * `jwt` believes JSON Web Tokens of `keys` that the operator trusts; `secret` has the tokens that are stored here, `ticket` what
//!   they are exchanged for, `share` what their holders make of them.
//! * `access` is the door, where tokens are taken from requests; `http` answers those that are about tokens.
//! * `rights` evaluates grants; `state` says from which of them a permit's rights come.

use std::fmt;
use std::sync::Arc;

use rejoin::store::{ReadTx, StoreError};

use crate::limits::PRINCIPAL_BYTES_MAX;

mod access;
mod acts;
mod config;
mod directory;
mod encoding;
mod http;
mod jwt;
mod keys;
mod limiter;
mod permit;
mod record;
mod refusal;
mod rights;
mod secret;
mod share;
mod state;
#[cfg(test)]
mod tests;
mod ticket;

pub(crate) use access::Credentials;
pub use config::{AuthConfig, KeyAlgorithm, KeyConfig, KeySource};
pub use directory::{Directory, DirectoryError};
pub(crate) use http::routes;
pub use permit::{Ended, Permit};
pub use record::{
    Grant, NewShare, NewToken, ParseTokenIdError, Principal, Scope, SpaceRecord, Target, TokenId, TokenKind,
    TokenRecord,
};
pub use refusal::{Reason, Refusal};
pub use secret::SecretText;
pub use share::ShareError;
pub use ticket::Ticket;

/// Says whether the directory's records can be read, all of them. Cost: a scan of both its tables.
///
/// # Errors
///
/// [`StoreError::Damaged`] if one does not decode.
pub(crate) fn check(tx: &dyn ReadTx) -> Result<(), StoreError> {
    state::State::read(tx).map(drop)
}

/// What the names of share links begin with. Nobody else may have such a name.
const LINK_PREFIX: &str = "link:";

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

    /// Returns the name of who comes with a share link.
    pub(crate) fn of_link(id: TokenId) -> Self {
        Self(format!("{LINK_PREFIX}{id}").into())
    }

    /// Says whether it is the name of who comes with a share link.
    pub(crate) fn is_link(&self) -> bool {
        self.0.starts_with(LINK_PREFIX)
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
