//! The permission matrix: random principals, grants, revocations and operations over both protocols and HTTP, against a model.
//!
//! The model is a few lines of its own ([`model`]); it asks nothing of the relay's. After each step the relay's documents, heads and
//! owners are what the model says, and those who have been connected for long have heard what they may and no more.
//!
//! `REJOIN_SEED=...` replays one history, `REJOIN_HISTORIES=1000` runs more of them, `REJOIN_FIRST_SEED=...` begins elsewhere.
#![allow(clippy::print_stderr, reason = "a failing history prints what replays it")]

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rejoin::codec::v1::Access;
use rejoin::gate::CheckedChange;
use rejoin::ledger::{self, owners, spaces, tombstone};
use rejoin::store::Store;
use rejoin::{ChangeHash, DocumentId, SpaceId};
use rejoin_relay::auth::{KeyAlgorithm, KeyConfig, KeySource, SecretText};
use serde_json::{Value as Json, json};

mod classic;
mod http;
mod model;
mod modern;
mod operations;
mod orders;
mod watch;

use http::Relay;
use model::{Document, JUDY, Kind, Model, PRINCIPALS, Scopes, Target, Token};
use watch::Watcher;

/// How many histories every run of the tests sees, and how long each is.
const HISTORIES: u64 = 12;
const STEPS: u64 = 80;

const SPACES: [SpaceId; 4] = [
    SpaceId::DEFAULT,
    SpaceId::from_bytes([0xa1; 16]),
    SpaceId::from_bytes([0xa2; 16]),
    SpaceId::from_bytes([0xa3; 16]),
];
const SLOTS: usize = 8;
const SECRET: &str = "a secret that only this test knows";
const PUBLIC_PEM: &str = include_str!("../../src/auth/fixtures/eddsa-public.pem");
const PRIVATE_PEM: &[u8] = include_bytes!("../../src/auth/fixtures/eddsa-private.pem");

/// Random numbers that a seed repeats: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    /// True so many times of a hundred.
    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Something that those who may read a document hear of.
#[derive(Debug, Clone, Copy)]
enum Event {
    Change(usize, ChangeHash),
    Deleted(usize),
    Presence(usize, u64),
    /// Something was said of a document that nobody may hear.
    Unheard(usize, u64),
}

struct World {
    relay: Relay,
    model: Model,
    random: Random,
    /// The documents that things happen to.
    slots: Vec<usize>,
    watchers: Vec<Watcher>,
    /// Numbers contents, presence and fresh actors.
    count: u64,
}

impl World {
    async fn new(seed: u64) -> Self {
        let inline = |text: &str| KeySource::Inline(SecretText::new(text));
        let keys = vec![
            KeyConfig { id: None, algorithm: KeyAlgorithm::Hs256, source: inline(SECRET) },
            KeyConfig { id: None, algorithm: KeyAlgorithm::EdDsa, source: inline(PUBLIC_PEM) },
        ];
        let relay = Relay::start(|config| {
            config.open = false;
            config.auth.keys = keys;
            config.limits.connections_per_principal_max = 10_000;
        })
        .await;
        let (random, slots) = (Random(seed), Vec::new());
        let mut world = Self { relay, model: Model::default(), random, slots, watchers: Vec::new(), count: 0 };
        for space in &SPACES[1..] {
            world.admin("POST /v1/spaces", Some(json!({ "id": space.to_string() })), 201).await;
        }
        for principal in &PRINCIPALS[..JUDY] {
            world.admin("POST /v1/principals", Some(json!({ "id": principal })), 201).await;
        }
        for _ in 0..SLOTS {
            let document = world.new_document();
            world.slots.push(document);
        }
        for principal in 0..JUDY {
            world.create_token(principal, false).await;
        }
        for _ in 0..2 {
            world.sign_token();
        }
        // Somebody has to be able to begin.
        for (principal, space, access) in [(0, 1, Access::Admin), (0, 0, Access::Write), (1, 1, Access::Read)] {
            world.put_grant(principal, Target::Space(SPACES[space]), access, None).await;
        }
        world
    }

    async fn admin(&mut self, what: &str, body: Option<Json>, expected: u16) -> Json {
        let (status, answer) = self.relay.administer(what, body.as_ref()).await;
        assert_eq!(status, expected, "{what} {body:?}: {answer}");
        answer
    }

    fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn new_document(&mut self) -> usize {
        let id = (u128::from(self.random.next()) << 64) | u128::from(self.random.next());
        let canary = format!("canary {:016x}", self.random.next());
        let id = DocumentId::from_bytes(id.to_be_bytes());
        self.model.documents.push(Document { id, canary, home: None, deleted: false, owners: Default::default() });
        self.model.documents.len() - 1
    }

    /// Picks a document; one that was deleted mostly makes room for another.
    fn document(&mut self) -> usize {
        let slot = self.random.below(SLOTS);
        if self.model.documents[self.slots[slot]].deleted && self.random.percent(40) {
            self.slots[slot] = self.new_document();
        }
        self.slots[slot]
    }

    /// Picks a space: mostly the one where a document is.
    fn space_for(&mut self, document: usize) -> SpaceId {
        match self.model.documents[document].home {
            Some(home) if self.random.percent(80) => home,
            _ => self.random.pick(&SPACES),
        }
    }

    /// Picks a token: mostly one that is good.
    fn token(&mut self) -> usize {
        let good: Vec<_> = (0..self.model.tokens.len()).filter(|token| !self.model.is_over(*token)).collect();
        if good.is_empty() || self.random.percent(10) {
            self.random.below(self.model.tokens.len())
        } else {
            self.random.pick(&good)
        }
    }

    fn target(&mut self) -> Target {
        match self.random.below(20) {
            0 => Target::Everything,
            1..=9 => Target::Space(self.random.pick(&SPACES)),
            _ => {
                let document = self.document();
                Target::Document(self.model.documents[document].id)
            }
        }
    }

    fn access(&mut self) -> Access {
        self.random.pick(&[Access::Read, Access::Write, Access::Write, Access::Admin])
    }

    fn scopes(&mut self) -> Scopes {
        (0..=self.random.below(3)).map(|_| (self.target(), self.access())).collect()
    }

    /// Signs a JWT for the one who comes with these.
    fn sign_token(&mut self) {
        let claims = self.scopes();
        let grant = |(target, access): &(Target, Access)| match target {
            Target::Everything => json!({ "space": "*", "access": access_text(*access) }),
            Target::Space(space) => json!({ "space": space_text(space), "access": access_text(*access) }),
            Target::Document(document) => json!({ "document": document.to_string(), "access": access_text(*access) }),
        };
        let grants: Vec<_> = claims.iter().map(grant).collect();
        let says = json!({ "sub": PRINCIPALS[JUDY], "exp": now() + 3_600, "rejoin": { "grants": grants } });
        let (algorithm, key) = if self.random.percent(50) {
            (Algorithm::HS256, EncodingKey::from_secret(SECRET.as_bytes()))
        } else {
            (Algorithm::EdDSA, EncodingKey::from_ed_pem(PRIVATE_PEM).unwrap())
        };
        let text = encode(&Header::new(algorithm), &says, &key).unwrap();
        let (id, name) = (String::new(), PRINCIPALS[JUDY].to_owned());
        let kind = Kind::Jwt { claims };
        self.model.tokens.push(Token { id, text, principal: JUDY, name, kind, revoked: false, replaced: false });
    }

    async fn run(mut self) {
        for step in 0..STEPS {
            let event = self.step(step).await;
            self.settle(event).await;
            self.compare();
        }
        drop(self.watchers);
        self.relay.stop().await;
    }

    async fn step(&mut self, step: u64) -> Option<Event> {
        // There has to be something to have rights to.
        let dice = if step < 8 { 60 } else { self.random.below(100) };
        match dice {
            0..=37 => {
                self.order(dice).await;
                None
            }
            38..=45 => {
                self.share().await;
                None
            }
            46..=48 => {
                self.unshare().await;
                None
            }
            49..=76 => self.modern().await,
            77..=89 => self.classic().await,
            90..=98 => self.presence().await,
            _ => {
                self.knock().await;
                None
            }
        }
    }

    /// Sees to it that those who are connected are told what they may be told, and that there are some.
    async fn settle(&mut self, event: Option<Event>) {
        let mut stay = Vec::new();
        for mut watcher in std::mem::take(&mut self.watchers) {
            if watcher.settle(&self.model, event).await && !self.random.percent(3) {
                stay.push(watcher);
            }
        }
        self.watchers = stay;
        while self.watchers.len() < 4 {
            let token = self.token();
            if self.model.is_over(token) {
                return;
            }
            let watcher = self.watch(token).await;
            self.watchers.push(watcher);
        }
    }

    /// What is in the relay's store is what the model says.
    fn compare(&self) {
        let tx = self.relay.store.read().unwrap();
        for (number, document) in self.model.documents.iter().enumerate() {
            let id = &document.id;
            assert_eq!(ledger::heads(&*tx, id).unwrap(), self.model.heads(number), "the heads of {document:?}");
            assert_eq!(tombstone::is_buried(&*tx, id).unwrap(), document.deleted, "{document:?}");
            assert_eq!(spaces::of(&*tx, id).unwrap(), document.place(), "{document:?}");
            for actor in &self.model.actors {
                let owner = owners::get(&*tx, id, actor).unwrap();
                assert_eq!(owner.as_ref(), document.owners.get(actor), "{actor} in {document:?}");
            }
        }
    }

    fn is_stored(&self, document: usize, change: &CheckedChange) -> bool {
        let (tx, id) = (self.relay.store.read().unwrap(), self.model.documents[document].id);
        ledger::position(&*tx, &id, &change.hash()).unwrap().is_some()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn space_text(space: &SpaceId) -> String {
    if *space == SpaceId::DEFAULT { "default".to_owned() } else { space.to_string() }
}

fn access_text(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::Write => "write",
        Access::Admin => "admin",
    }
}

/// Names the seed if the history under way fails.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with: REJOIN_SEED={} cargo test -p rejoin-relay --test relay matrix", self.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_does_reads_or_learns_more_than_was_granted() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (first, count) = match number("REJOIN_SEED") {
        Some(seed) => (seed, 1),
        None => (number("REJOIN_FIRST_SEED").unwrap_or(0), number("REJOIN_HISTORIES").unwrap_or(HISTORIES)),
    };
    for seed in first..first + count {
        let _replay = Replay(seed);
        Box::pin(async move { World::new(seed).await.run().await }).await;
    }
}
