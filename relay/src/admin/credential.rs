//! The credential of the admin API: a secret in a file, compared in constant time; wrong ones are limited.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::limits::{ADMIN_ADDRESSES_MAX, ADMIN_ATTEMPTS_MAX, ADMIN_ATTEMPTS_WINDOW, ADMIN_TOKEN_BYTES_MIN};

/// The credential's file in the directory of the data.
pub const TOKEN_FILE: &str = "admin-token";

/// What stands before a credential that the relay makes.
const PREFIX: &str = "rja_";

/// Why there is no credential. The text completes "failed to ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The file cannot be read or made.
    #[error("use the admin credential in {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// What is in the file is too short to be a secret.
    #[error("use the admin credential in {}: it has less than {ADMIN_TOKEN_BYTES_MIN} characters", path.display())]
    Short {
        /// Which.
        path: PathBuf,
    },
    /// The operating system gives no random bytes.
    #[error("get random bytes from the operating system: {0}")]
    Entropy(getrandom::Error),
}

/// The credential, as far as it is kept.
pub(super) struct Credential {
    hash: [u8; 32],
    attempts: Mutex<HashMap<IpAddr, Attempts>>,
}

#[derive(Debug, Clone, Copy)]
struct Attempts {
    since: Instant,
    count: u32,
}

/// What is thought of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Welcome,
    Wrong,
    /// So many were wrong that none is looked at.
    TooMany,
}

impl Credential {
    /// Reads the credential; where `is_ours` and there is none, makes one that only this user may read.
    pub(super) fn open(path: &Path, is_ours: bool) -> Result<Self, CredentialError> {
        let file = |source| CredentialError::File { path: path.to_owned(), source };
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && is_ours => {
                let text = random_token().map_err(CredentialError::Entropy)?;
                let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
                let written = made.and_then(|mut made| {
                    made.write_all(format!("{text}\n").as_bytes())?;
                    made.sync_all()
                });
                written.map_err(file)?;
                tracing::info!(path = %path.display(), "made a credential for the admin API");
                text
            }
            read => read.map_err(file)?,
        };
        let token = text.trim();
        if token.len() < ADMIN_TOKEN_BYTES_MIN {
            return Err(CredentialError::Short { path: path.to_owned() });
        }
        Ok(Self { hash: Sha256::digest(token).into(), attempts: Mutex::default() })
    }

    /// Judges what came in a request. An address with too many wrong ones is not listened to for a while.
    pub(super) fn judge(&self, token: Option<&str>, address: IpAddr) -> Verdict {
        let now = Instant::now();
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |attempts: &Attempts| now.saturating_duration_since(attempts.since) < ADMIN_ATTEMPTS_WINDOW;
        if attempts.get(&address).is_some_and(|one| is_recent(one) && one.count >= ADMIN_ATTEMPTS_MAX) {
            return Verdict::TooMany;
        }
        // Hashes of the same length are compared whole, so that the time says nothing.
        let is_good = token.is_some_and(|token| {
            let found: [u8; 32] = Sha256::digest(token).into();
            found.iter().zip(&self.hash).fold(0, |differences, (one, other)| differences | (one ^ other)) == 0
        });
        if is_good {
            attempts.remove(&address);
            return Verdict::Welcome;
        }
        if attempts.len() >= ADMIN_ADDRESSES_MAX && !attempts.contains_key(&address) {
            attempts.retain(|_, one| is_recent(one));
            // Full of recent ones: all of them get a new chance, which costs less than a list without end.
            if attempts.len() >= ADMIN_ADDRESSES_MAX {
                attempts.clear();
            }
        }
        let one = attempts.entry(address).or_insert(Attempts { since: now, count: 0 });
        if !is_recent(one) {
            *one = Attempts { since: now, count: 0 };
        }
        // To come without any is how one asks whether one is needed.
        one.count += u32::from(token.is_some());
        Verdict::Wrong
    }
}

fn random_token() -> Result<String, getrandom::Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random)))
}

// A guess has 256 bits to find; this bounds the noise that guessing makes.
const _: () = assert!(ADMIN_ATTEMPTS_WINDOW.as_secs() >= Duration::from_secs(1).as_secs());

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn credential_is_made_once_for_this_user_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(TOKEN_FILE);
        let first = Credential::open(&path, true).expect("it is made");
        assert_eq!(std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).expect("it is there");
        let second = Credential::open(&path, true).expect("it is read");
        for credential in [first, second] {
            assert_eq!(credential.judge(Some(text.trim()), HERE), Verdict::Welcome);
            assert_eq!(credential.judge(Some("rja_wrong"), HERE), Verdict::Wrong);
            assert_eq!(credential.judge(None, HERE), Verdict::Wrong);
        }
    }

    #[test]
    fn file_of_the_operator_has_to_be_there_and_long_enough() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("mine");
        assert!(matches!(Credential::open(&path, false), Err(CredentialError::File { .. })));
        std::fs::write(&path, "hunter2\n").expect("it is written");
        assert!(matches!(Credential::open(&path, false), Err(CredentialError::Short { .. })));
    }

    #[test]
    fn address_with_too_many_wrong_ones_is_not_listened_to_and_others_are() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(TOKEN_FILE);
        let credential = Credential::open(&path, true).expect("it is made");
        let text = std::fs::read_to_string(&path).expect("it is there");
        for _ in 0..ADMIN_ATTEMPTS_MAX {
            assert_eq!(credential.judge(Some("wrong"), HERE), Verdict::Wrong);
        }
        assert_eq!(credential.judge(Some(text.trim()), HERE), Verdict::TooMany);
        let there = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(credential.judge(Some(text.trim()), there), Verdict::Welcome);
        for address in 0..2 * u32::try_from(ADMIN_ADDRESSES_MAX).expect("it is small") {
            credential.judge(Some("wrong"), IpAddr::from(address.to_be_bytes()));
        }
        assert!(credential.attempts.lock().expect("nobody panics").len() <= ADMIN_ADDRESSES_MAX);
    }
}
