//! What an operator decides about authentication, as far as the directory needs it: who signs tokens, and how long things last.

use std::path::PathBuf;

use crate::config::{Config, KeyConfig};
use crate::limits::SHARES_PER_PRINCIPAL_MAX_DEFAULT;

/// How authentication is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// Whether anybody may do everything without a token. Default: no. Who shows a token all the same has what it says.
    pub open: bool,
    /// The keys whose JWTs are taken. Default: none.
    pub keys: Vec<KeyConfig>,
    /// A file with a JSON Web Key Set, whose keys are taken too. It is read again when it changes. Default: none.
    pub jwks_file: Option<PathBuf>,
    /// The `iss` that a JWT must have one of; empty: it may have any or none. Default: empty.
    pub issuer: Vec<String>,
    /// The `aud` that a JWT must have one of; empty: it must have none, since one for somebody else is not for us. Default: empty.
    pub audience: Vec<String>,
    /// The longest that a JWT may still last when it is shown, in seconds. Default: 86,400, a day.
    pub jwt_lifetime_max_seconds: u64,
    /// How long a ticket may be used, in seconds. Default: 60.
    pub ticket_seconds: u64,
    /// How long a share link lasts at most, in seconds. Default: 2,592,000, thirty days.
    pub share_lifetime_max_seconds: u64,
    /// How many share links one principal may have at once. Default: [`SHARES_PER_PRINCIPAL_MAX_DEFAULT`].
    pub shares_per_principal_max: usize,
    /// By how much the clock of who signs a JWT may differ from the relay's, in seconds. Default: 30.
    pub leeway_seconds: u64,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            open: false,
            keys: Vec::new(),
            jwks_file: None,
            issuer: Vec::new(),
            audience: Vec::new(),
            jwt_lifetime_max_seconds: 86_400,
            ticket_seconds: 60,
            share_lifetime_max_seconds: 30 * 86_400,
            shares_per_principal_max: SHARES_PER_PRINCIPAL_MAX_DEFAULT,
            leeway_seconds: 30,
        }
    }
}

impl AuthConfig {
    /// The configuration of a relay where everybody may do everything, with every other default.
    pub fn open() -> Self {
        Self { open: true, ..Self::default() }
    }
}

impl From<&Config> for AuthConfig {
    fn from(config: &Config) -> Self {
        let auth = &config.auth;
        Self {
            open: config.open,
            keys: auth.keys.clone(),
            jwks_file: auth.jwks_file.clone(),
            issuer: auth.issuer.iter().cloned().collect(),
            audience: auth.audience.iter().cloned().collect(),
            jwt_lifetime_max_seconds: auth.jwt_lifetime_max_seconds.as_secs(),
            ticket_seconds: auth.ticket_seconds.as_secs(),
            share_lifetime_max_seconds: auth.share_lifetime_max_seconds.as_secs(),
            shares_per_principal_max: auth.shares_per_principal_max,
            leeway_seconds: auth.leeway_seconds.as_secs(),
        }
    }
}
