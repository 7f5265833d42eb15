//! Secrets: made of random bytes, kept as hashes, compared in constant time, and never shown.

use std::fmt;
use std::hint::black_box;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::record::{TokenId, TokenKind};

/// A text that must not show in logs, errors or `Debug`: a token, or a key.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Takes a text as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for the one who is to have it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// What stands before a ticket.
pub(super) const TICKET_PREFIX: &str = "rjk_";

/// The SHA-256 hash of a token's secret: 32 random bytes, so nobody finds a secret to a hash, salt or not.
#[derive(Clone, Copy)]
pub(super) struct SecretHash([u8; 32]);

impl SecretHash {
    pub(super) fn of(secret: &[u8; 32]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Says whether two are the same, in a time that does not depend on where they differ.
    pub(super) fn is(&self, other: &Self) -> bool {
        let differs = self.0.iter().zip(other.0).fold(0, |differs, (a, b)| black_box(differs | (a ^ b)));
        differs == 0
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

/// Writes a stored token as its holder shows it: `rjt_<id>_<secret>`, or `rjs_` for a share link.
pub(super) fn write_token(kind: TokenKind, id: TokenId, secret: &[u8; 32]) -> SecretText {
    SecretText::new(format!("{}{id}_{}", kind.prefix(), URL_SAFE_NO_PAD.encode(secret)))
}

/// Reads what [`write_token`] wrote: which token it is said to be, and the hash of its secret.
pub(super) fn read_token(text: &str) -> Option<(TokenKind, TokenId, SecretHash)> {
    let kind = TokenKind::ALL.into_iter().find(|kind| text.starts_with(kind.prefix()))?;
    let (id, secret) = text.strip_prefix(kind.prefix())?.split_once('_')?;
    // 32 bytes are 43 characters; a longer text is not even decoded.
    if secret.len() != 43 {
        return None;
    }
    let secret: [u8; 32] = URL_SAFE_NO_PAD.decode(secret).ok()?.try_into().ok()?;
    Some((kind, id.parse().ok()?, SecretHash::of(&secret)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn token_reads_as_it_was_written_and_nothing_else_does() {
        let id = TokenId::from_bytes([0xab; 8]);
        let text = write_token(TokenKind::Api, id, &[7; 32]);
        let (kind, read, hash) = read_token(text.expose()).unwrap();
        assert_eq!((kind, read), (TokenKind::Api, id));
        assert!(hash.is(&SecretHash::of(&[7; 32])) && !hash.is(&SecretHash::of(&[8; 32])));
        for damaged in ["", "rjt_", "rjt_abab", "rjx_abababababababab_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"] {
            assert!(read_token(damaged).is_none(), "{damaged}");
        }
        assert!(read_token(&text.expose()[..text.expose().len() - 1]).is_none());
        assert!(read_token(&format!("{}A", text.expose())).is_none());
        assert!(read_token(&text.expose().replace("abab", "ABAB")).is_none(), "one text for each token");
    }

    #[test]
    fn secrets_do_not_show() {
        let secret = SecretText::new("hunter2");
        assert!(!format!("{secret:?} {:?}", SecretHash::of(&[7; 32])).contains("hunter2"));
    }
}
