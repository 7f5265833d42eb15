//! Keys whose JWTs are taken: from the configuration, and from a JSON Web Key Set that is read again when it changes.
//!
//! A key has one algorithm, and only that is ever tried with it: what a token says of its algorithm chooses among keys and never
//! what is done with one. So a public key can never be taken for a secret.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};

use super::config::{AuthConfig, KeyAlgorithm, KeyConfig, KeySource};
use super::directory::DirectoryError;
use crate::limits::{JWT_KEYS_MAX, KEY_FILE_BYTES_MAX, KEY_FILE_LOOK};

/// The shortest secret of an HS256 key, in bytes: as long as the hash.
const SECRET_BYTES_MIN: usize = 32;

/// How long the modulus of an RSA key may be, in bytes. Longer ones make every check of a token expensive.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;

/// One key.
#[derive(Clone)]
pub(super) struct Key {
    id: Option<String>,
    algorithm: KeyAlgorithm,
    key: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Key {
    /// Says whether a token with this algorithm and `kid` may be signed with it. One without a `kid` may be of any key.
    pub(super) fn fits(&self, algorithm: KeyAlgorithm, id: Option<&str>) -> bool {
        self.algorithm == algorithm && id.is_none_or(|id| self.id.as_deref() == Some(id))
    }

    /// Says whether it signed a message. `signature` is in base64url.
    pub(super) fn signed(&self, message: &str, signature: &str) -> bool {
        let algorithm = match self.algorithm {
            KeyAlgorithm::EdDsa => Algorithm::EdDSA,
            KeyAlgorithm::Es256 => Algorithm::ES256,
            KeyAlgorithm::Rs256 => Algorithm::RS256,
            KeyAlgorithm::Hs256 => Algorithm::HS256,
        };
        crypto::verify(signature, message.as_bytes(), &self.key, algorithm).unwrap_or(false)
    }
}

/// All keys whose tokens are taken.
#[derive(Debug)]
pub(super) struct Keys {
    configured: Vec<Key>,
    set: Option<KeySetFile>,
}

impl Keys {
    /// Reads the keys of a configuration.
    pub(super) fn load(config: &AuthConfig, now: Duration) -> Result<Self, DirectoryError> {
        if config.keys.len() > JWT_KEYS_MAX {
            return Err(DirectoryError::Full { what: "keys", max: JWT_KEYS_MAX });
        }
        let configured = config.keys.iter().map(read_key);
        let configured = configured.collect::<Result<_, _>>()?;
        let set = config.jwks_file.as_ref().map(|path| KeySetFile::open(path.clone(), now)).transpose()?;
        Ok(Self { configured, set })
    }

    /// Returns the keys that fit a token, after a look whether the file of keys has changed if it is time for one.
    pub(super) fn fitting(&self, algorithm: KeyAlgorithm, id: Option<&str>, now: Duration) -> Vec<Key> {
        let from_file = self.set.as_ref().map(|set| set.keys(now));
        let all = self.configured.iter().chain(from_file.iter().flat_map(|keys| keys.iter()));
        all.filter(|key| key.fits(algorithm, id)).cloned().collect()
    }

    /// Looks at once whether the file of keys has changed.
    pub(super) fn look(&self, now: Duration) {
        if let Some(set) = &self.set {
            set.look(now, Duration::ZERO);
        }
    }
}

/// A file with a JSON Web Key Set, and what stood in it.
#[derive(Debug)]
struct KeySetFile {
    path: PathBuf,
    keys: RwLock<Arc<Vec<Key>>>,
    looked: Mutex<Looked>,
}

/// When a file was looked at last, and how it was then.
#[derive(Debug)]
struct Looked {
    at: Duration,
    stamp: Option<Stamp>,
    /// It could not be used when it was so; that was said.
    failed: Option<Stamp>,
}

/// What changes when a file does: its time, length and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    seconds: i64,
    nanoseconds: i64,
    bytes: u64,
    inode: u64,
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self { seconds: file.mtime(), nanoseconds: file.mtime_nsec(), bytes: file.len(), inode: file.ino() }
    }
}

impl KeySetFile {
    fn open(path: PathBuf, now: Duration) -> Result<Self, DirectoryError> {
        let file = std::fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
        let keys = read_set(&path)?;
        let looked = Looked { at: now, stamp: Some(Stamp::of(&file)), failed: None };
        Ok(Self { path, keys: RwLock::new(Arc::new(keys)), looked: Mutex::new(looked) })
    }

    fn keys(&self, now: Duration) -> Arc<Vec<Key>> {
        self.look(now, KEY_FILE_LOOK);
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again if it changed, unless it was looked at less than `pause` ago, or is just being read. What cannot be
    /// used is said once, and the keys stay as they were.
    fn look(&self, now: Duration, pause: Duration) {
        let Ok(mut looked) = self.looked.try_lock() else { return };
        // A clock that was set back must not stop the looking.
        if now >= looked.at && now - looked.at < pause {
            return;
        }
        looked.at = now;
        let stamp = std::fs::metadata(&self.path).ok().as_ref().map(Stamp::of);
        if stamp.is_some() && stamp == looked.stamp {
            return;
        }
        match read_set(&self.path) {
            Ok(keys) => {
                tracing::info!(path = %self.path.display(), keys = keys.len(), "the file of keys has changed");
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
                (looked.stamp, looked.failed) = (stamp, None);
            }
            Err(_) if looked.failed.is_some() && looked.failed == stamp => {}
            Err(error) => {
                tracing::warn!(%error, "the keys stay as they were");
                looked.failed = stamp;
            }
        }
    }
}

/// Reads one key of the configuration.
fn read_key(config: &KeyConfig) -> Result<Key, DirectoryError> {
    let (which, bytes) = match &config.source {
        KeySource::File(path) => {
            (path.display().to_string(), read_file(path).map_err(|error| unreadable(path, &error))?)
        }
        KeySource::Inline(text) => (
            format!("the key {:?} of the configuration", config.id.as_deref().unwrap_or_default()),
            text.expose().as_bytes().to_vec(),
        ),
    };
    let unusable = |detail: &str| DirectoryError::Key { which: which.clone(), detail: detail.to_owned() };
    let key = match config.algorithm {
        KeyAlgorithm::Hs256 => Ok(DecodingKey::from_secret(secret_of(&bytes).map_err(unusable)?)),
        KeyAlgorithm::EdDsa => DecodingKey::from_ed_pem(&bytes),
        KeyAlgorithm::Es256 => DecodingKey::from_ec_pem(&bytes),
        KeyAlgorithm::Rs256 => DecodingKey::from_rsa_pem(&bytes),
    };
    // What the library says may quote the key.
    let key = key.map_err(|_| unusable(&format!("not a public {} key in PEM", config.algorithm.name())))?;
    let parts = Jwk::from_decoding_key(&key, None).map_err(|_| unusable("not a public key"))?;
    match look_at(&parts.algorithm) {
        Ok(algorithm) if algorithm == config.algorithm => Ok(Key { id: config.id.clone(), algorithm, key }),
        Ok(_) => Err(unusable("a key of another algorithm")),
        Err(detail) => Err(unusable(detail)),
    }
}

/// Takes bytes as an HMAC secret: without one newline at their end, and never what looks like a public key.
fn secret_of(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let secret = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    if secret.starts_with(b"-----BEGIN") {
        return Err("a key in PEM, where HS256 takes a secret that nobody else knows");
    }
    Ok(secret)
}

/// Reads a JSON Web Key Set. Keys of kinds that are not taken here are left out, as such files have keys for others too.
fn read_set(path: &Path) -> Result<Vec<Key>, DirectoryError> {
    #[derive(serde::Deserialize)]
    struct KeySet {
        keys: Vec<serde_json::Value>,
    }
    let unusable = |detail: &str| DirectoryError::Key { which: path.display().to_string(), detail: detail.to_owned() };
    let bytes = read_file(path).map_err(|error| unreadable(path, &error))?;
    let set: KeySet = serde_json::from_slice(&bytes).map_err(|_| unusable("not a JSON Web Key Set"))?;
    if set.keys.len() > JWT_KEYS_MAX {
        return Err(unusable("more keys than are taken"));
    }
    let mut keys = Vec::new();
    for (index, value) in set.keys.into_iter().enumerate() {
        match read_jwk(value) {
            Ok(key) => keys.push(key),
            Err(detail) => tracing::warn!(path = %path.display(), index, detail, "a key of the file is left out"),
        }
    }
    Ok(keys)
}

fn read_jwk(value: serde_json::Value) -> Result<Key, &'static str> {
    let jwk: Jwk = serde_json::from_value(value).map_err(|_| "it is no key, or of a kind that is not taken")?;
    if jwk.common.public_key_use.as_ref().is_some_and(|r#use| *r#use != PublicKeyUse::Signature) {
        return Err("its use is not sig");
    }
    if jwk.common.key_operations.as_ref().is_some_and(|operations| !operations.contains(&KeyOperations::Verify)) {
        return Err("its key_ops have no verify");
    }
    let algorithm = look_at(&jwk.algorithm)?;
    if jwk.common.key_algorithm.is_some_and(|named| named.to_string() != algorithm.name()) {
        return Err("its alg is not taken, or does not fit its kind");
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| "its parts do not decode")?;
    Ok(Key { id: jwk.common.key_id, algorithm, key })
}

/// Says for which algorithm the parts of a key are, if they are good enough.
fn look_at(parts: &AlgorithmParameters) -> Result<KeyAlgorithm, &'static str> {
    let length = |part: &str| URL_SAFE_NO_PAD.decode(part).map_or(0, |bytes| bytes.len());
    match parts {
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 && length(&key.x) == 32 => {
            Ok(KeyAlgorithm::EdDsa)
        }
        AlgorithmParameters::EllipticCurve(key)
            if key.curve == EllipticCurve::P256 && length(&key.x) == 32 && length(&key.y) == 32 =>
        {
            Ok(KeyAlgorithm::Es256)
        }
        AlgorithmParameters::RSA(key) if RSA_BYTES.contains(&length(&key.n)) && length(&key.e) <= 4 => {
            Ok(KeyAlgorithm::Rs256)
        }
        AlgorithmParameters::RSA(_) => Err("an RSA key has 2,048 to 8,192 bits"),
        AlgorithmParameters::OctetKey(key) if length(&key.value) >= SECRET_BYTES_MIN => Ok(KeyAlgorithm::Hs256),
        AlgorithmParameters::OctetKey(_) => Err("a secret has 32 bytes or more"),
        _ => Err("it is of a kind or curve that is not taken: Ed25519, P-256, RSA and oct are"),
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(KEY_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(path: &Path, error: &io::Error) -> DirectoryError {
    DirectoryError::Key { which: path.display().to_string(), detail: error.to_string() }
}
