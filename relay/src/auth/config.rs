//! What an operator decides about authentication: who signs tokens, and how long things last.

use std::path::PathBuf;

use super::secret::SecretText;
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
    /// For how long after a backup was restored devices may bring back what others wrote, in days. Default: 7.
    pub restored_grace_days: u64,
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
            restored_grace_days: 7,
        }
    }
}

impl AuthConfig {
    /// The configuration of a relay where everybody may do everything, with every other default.
    pub fn open() -> Self {
        Self { open: true, ..Self::default() }
    }
}

/// A key whose JWTs are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyConfig {
    /// The key's id: a token with a `kid` needs a key with the same one. Default: none; such a key is tried for tokens without a
    /// `kid`.
    pub id: Option<String>,
    /// What the key signs with. The key decides it, whatever a token says.
    pub algorithm: KeyAlgorithm,
    /// Where the key is.
    pub source: KeySource,
}

/// Where a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In a file: a public key in PEM, or for HS256 the secret's bytes; one newline at their end does not count.
    File(PathBuf),
    /// In the configuration, in the same form.
    Inline(SecretText),
}

/// What a key signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// RSA (PKCS #1 1.5) with SHA-256, 2,048 to 8,192 bits.
    Rs256,
    /// HMAC with SHA-256, of a secret of 32 bytes or more.
    Hs256,
}

impl KeyAlgorithm {
    /// Every one of them.
    pub const ALL: [Self; 4] = [Self::EdDsa, Self::Es256, Self::Rs256, Self::Hs256];

    /// Returns its name, as in a token's `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::Hs256 => "HS256",
        }
    }

    /// Returns the one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}
