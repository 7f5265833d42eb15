//! What the directory keeps: principals, tokens, grants, and what is known of spaces.

use std::fmt;
use std::str::FromStr;

use rejoin::codec::v1::Access;
use rejoin::{DocumentId, SpaceId};

use super::PrincipalId;

/// Somebody who may come in, as an administrator wrote it down. Who comes with a JWT needs no such record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Who.
    pub id: PrincipalId,
    /// What people call it.
    pub label: Option<String>,
    /// Whether all of its tokens are refused, JWTs too.
    pub disabled: bool,
    /// When it was written down, in seconds since 1970.
    pub created_seconds: u64,
}

/// Names a stored token: 8 random bytes, shown as 16 hexadecimal digits. It is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId([u8; 8]);

impl TokenId {
    /// Takes 8 random bytes as a token id.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Returns the 8 bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Not a token id: 16 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a token id: it has 16 lower-case hexadecimal digits")]
pub struct ParseTokenIdError;

impl FromStr for TokenId {
    type Err = ParseTokenIdError;

    fn from_str(text: &str) -> Result<Self, ParseTokenIdError> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(ParseTokenIdError),
        };
        let pairs: &[u8; 16] = text.as_bytes().try_into().map_err(|_| ParseTokenIdError)?;
        let mut id = [0; 8];
        for (byte, pair) in id.iter_mut().zip(pairs.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(id))
    }
}

/// What kind a stored token is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// An API token, made by an administrator: `rjt_`.
    Api,
    /// A share link, made by who may do what it allows: `rjs_`.
    Link,
}

impl TokenKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Api, Self::Link];

    /// Returns what stands before such a token.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Api => "rjt_",
            Self::Link => "rjs_",
        }
    }
}

/// What something is granted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Every space there is and will be.
    Everything,
    /// A space, with every document in it.
    Space(SpaceId),
    /// A single document, whatever space it is in.
    Document(DocumentId),
}

/// What a token allows at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// For what.
    pub target: Target,
    /// How much.
    pub access: Access,
}

/// What is known of a stored token. Its secret is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Names it.
    pub id: TokenId,
    /// Of what kind it is.
    pub kind: TokenKind,
    /// Whose it is; of a share link, who made it. Nobody if it was made without a token, where the relay was open.
    pub principal: Option<PrincipalId>,
    /// What people call it.
    pub label: Option<String>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it ends by itself, in seconds since 1970.
    pub expires: Option<u64>,
    /// Whether it was taken back.
    pub revoked: bool,
    /// What it allows at most; `None` for all that its principal may. A share link has one entry.
    pub scope: Option<Vec<Scope>>,
}

/// What is asked for when an API token is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Whose it is to be: a principal that is written down.
    pub principal: PrincipalId,
    /// What people call it.
    pub label: Option<String>,
    /// When it is to end, in seconds since 1970; `None`: when it is revoked.
    pub expires: Option<u64>,
    /// What it allows at most; `None` for all that its principal may.
    pub scope: Option<Vec<Scope>>,
}

/// What is asked for when a share link is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewShare {
    /// What is shared: a space or a document.
    pub target: Target,
    /// In which space the document is; of a space, that space.
    pub space: SpaceId,
    /// How much of it: read or write.
    pub access: Access,
    /// For how long, in seconds; `None` for the longest that is allowed. What is longer is shortened to that.
    pub expires_in_seconds: Option<u64>,
    /// What people call it.
    pub label: Option<String>,
}

/// What a principal may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who: written down or not, since a JWT may name it.
    pub principal: PrincipalId,
    /// For what.
    pub target: Target,
    /// How much.
    pub access: Access,
    /// Until when, in seconds since 1970; `None`: until it is removed.
    pub until: Option<u64>,
}

/// What is known of a space beside its documents. A space without a record is one that nobody named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceRecord {
    /// Which.
    pub id: SpaceId,
    /// What people call it.
    pub name: Option<String>,
    /// Whether nobody may write to it any more.
    pub archived: bool,
    /// When it was written down, in seconds since 1970.
    pub created_seconds: u64,
    /// How many bytes of changes it may have; `None`: as many as the configuration says.
    pub bytes_max: Option<u64>,
}

/// A token as it is stored.
#[derive(Debug, Clone)]
pub(super) struct StoredToken {
    pub(super) record: TokenRecord,
    pub(super) hash: super::secret::SecretHash,
    /// The stored token that a share link was made with: the link ends with it.
    pub(super) parent: Option<TokenId>,
    /// Whether a share link's maker had the right from the claims of a JWT, which are not there any more to be asked.
    pub(super) claimed: bool,
    /// In which space a share link's document is, or the space that it shares.
    pub(super) home: Option<SpaceId>,
}
