//! Refusals: why somebody was not let in, said to them shortly and counted exactly.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why somebody was not let in, as far as they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// There is no token, and the relay is not open.
    #[error("a token is needed")]
    Missing,
    /// The token is not one that this relay knows or believes.
    #[error("the token is not one that this relay takes")]
    Unknown,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It was taken back.
    #[error("the token was revoked")]
    Revoked,
    /// Its principal is disabled.
    #[error("the token's principal is disabled")]
    Disabled,
    /// Too many bad tokens came from this address.
    #[error("too many bad tokens from here, try again in a minute")]
    Throttled,
}

impl Refusal {
    /// Returns its stable code, as HTTP answers name it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "token-missing",
            Self::Unknown => "token-unknown",
            Self::Expired => "token-expired",
            Self::Revoked => "token-revoked",
            Self::Disabled => "principal-disabled",
            Self::Throttled => "too-many-attempts",
        }
    }
}

/// Why somebody was not let in, as far as an operator is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// There was no token.
    Missing = 0,
    /// The token has no form that this relay knows.
    Malformed = 1,
    /// A JWT of a key that is not known, or of another algorithm than its key's.
    UnknownKey = 2,
    /// A JWT or ticket with a wrong signature.
    BadSignature = 3,
    /// A JWT whose claims are missing or make no sense.
    BadClaims = 4,
    /// A JWT for somebody else.
    WrongAudience = 5,
    /// A JWT of another issuer.
    WrongIssuer = 6,
    /// A JWT that is not valid yet.
    NotYet = 7,
    /// A JWT that lasts longer than is allowed.
    TooLong = 8,
    /// A stored token that is not here, or with a wrong secret.
    UnknownToken = 9,
    /// Its time is over.
    Expired = 10,
    /// It was taken back.
    Revoked = 11,
    /// Its principal is disabled.
    Disabled = 12,
    /// Too many bad tokens came from its address.
    Throttled = 13,
}

impl Reason {
    /// Every one of them, in the order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::Missing,
        Self::Malformed,
        Self::UnknownKey,
        Self::BadSignature,
        Self::BadClaims,
        Self::WrongAudience,
        Self::WrongIssuer,
        Self::NotYet,
        Self::TooLong,
        Self::UnknownToken,
        Self::Expired,
        Self::Revoked,
        Self::Disabled,
        Self::Throttled,
    ];

    /// Returns its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown-key",
            Self::BadSignature => "bad-signature",
            Self::BadClaims => "bad-claims",
            Self::WrongAudience => "wrong-audience",
            Self::WrongIssuer => "wrong-issuer",
            Self::NotYet => "not-yet",
            Self::TooLong => "too-long",
            Self::UnknownToken => "unknown-token",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Disabled => "disabled",
            Self::Throttled => "throttled",
        }
    }

    /// Returns what the other side is told.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Missing => Refusal::Missing,
            Self::Expired => Refusal::Expired,
            Self::Revoked => Refusal::Revoked,
            Self::Disabled => Refusal::Disabled,
            Self::Throttled => Refusal::Throttled,
            _ => Refusal::Unknown,
        }
    }

    /// Says whether it may be an attempt to guess: a token that was good once is none.
    pub(super) fn may_be_a_guess(self) -> bool {
        self.refusal() == Refusal::Unknown
    }
}

/// How often each reason was met.
#[derive(Debug, Default)]
pub(super) struct Failures([AtomicU64; Reason::ALL.len()]);

impl Failures {
    pub(super) fn note(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }
}
