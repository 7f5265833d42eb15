//! The directory with a clock that stands still unless it is moved.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rejoin::codec::v1::Access;
use rejoin::store::{MemoryStore, Store};
use rejoin::{DocumentId, SpaceId};
use serde_json::{Value, json};

use super::*;

mod jwts;
mod links;
mod records;
mod rights;
mod tokens;

/// When every test begins.
const NOW: u64 = 1_800_000_000;
const NOTES: SpaceId = SpaceId::from_bytes([1; 16]);
const TEAM: SpaceId = SpaceId::from_bytes([2; 16]);
const PAGE: DocumentId = DocumentId::from_bytes([3; 16]);

struct World {
    store: Arc<dyn Store>,
    clock: Arc<AtomicU64>,
    directory: Arc<Directory>,
}

impl World {
    fn new(config: &AuthConfig) -> Self {
        Self::of(Arc::new(MemoryStore::new()), config)
    }

    fn of(store: Arc<dyn Store>, config: &AuthConfig) -> Self {
        let clock = Arc::new(AtomicU64::new(NOW * 1_000));
        let hand = Arc::clone(&clock);
        let tell = Box::new(move || Duration::from_millis(hand.load(Ordering::Relaxed)));
        let directory = Directory::open_with(Arc::clone(&store), config, tell).unwrap();
        Self { store, clock, directory }
    }

    /// The same store, as the next start of the relay finds it.
    fn reopened(&self, config: &AuthConfig) -> Self {
        Self::of(Arc::clone(&self.store), config)
    }

    fn pass(&self, seconds: u64) {
        self.clock.fetch_add(seconds * 1_000, Ordering::Relaxed);
    }

    fn admit(&self, token: &str) -> Result<Permit, Refusal> {
        self.directory.admit(Some(token))
    }

    /// Writes a principal down, and grants it something.
    fn grant(&self, name: &str, target: Target, access: Access) -> PrincipalId {
        let principal = id(name);
        self.directory.put_principal(principal.clone(), None, false).unwrap();
        self.directory.put_grant(Grant { principal: principal.clone(), target, access, until: None }).unwrap();
        principal
    }

    fn token(&self, principal: &PrincipalId, scope: Option<Vec<Scope>>) -> (TokenId, String) {
        let new = NewToken { principal: principal.clone(), label: None, expires: None, scope };
        let (record, text) = self.directory.create_token(new).unwrap();
        (record.id, text.expose().to_owned())
    }

    fn share(&self, permit: &Permit, target: Target, access: Access) -> Result<(TokenId, String), ShareError> {
        let space = match target {
            Target::Space(space) => space,
            _ => NOTES,
        };
        let new = NewShare { target, space, access, expires_in_seconds: Some(1_000), label: None };
        let (record, text) = self.directory.share(permit, new)?;
        Ok((record.id, text.expose().to_owned()))
    }

    fn failures(&self, reason: Reason) -> u64 {
        self.directory.failures(reason)
    }
}

fn id(name: &str) -> PrincipalId {
    PrincipalId::new(name).unwrap()
}

/// Waits for the end of a permit: far longer than it may take, so that a test that fails also ends.
async fn ended(permit: &Permit) -> Ended {
    tokio::time::timeout(Duration::from_secs(60), permit.ended()).await.unwrap()
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/auth/fixtures").join(name)).unwrap()
}

fn public_key(id: Option<&str>, algorithm: KeyAlgorithm, name: &str) -> KeyConfig {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/auth/fixtures").join(name);
    KeyConfig { id: id.map(str::to_owned), algorithm, source: KeySource::File(path) }
}

/// A relay that takes tokens of one key, Ed25519.
fn with_ed_key() -> AuthConfig {
    AuthConfig { keys: vec![public_key(Some("a"), KeyAlgorithm::EdDsa, "eddsa-public.pem")], ..AuthConfig::default() }
}

fn signed(algorithm: Algorithm, key: &EncodingKey, kid: Option<&str>, claims: &Value) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, claims, key).unwrap()
}

fn ed_key() -> EncodingKey {
    EncodingKey::from_ed_pem(&fixture("eddsa-private.pem")).unwrap()
}

/// A token that [`with_ed_key`] takes, but for what is changed in its claims.
fn ed_token(change: impl FnOnce(&mut Value)) -> String {
    let mut claims = json!({ "sub": "ada", "exp": NOW + 600 });
    change(&mut claims);
    signed(Algorithm::EdDSA, &ed_key(), Some("a"), &claims)
}
