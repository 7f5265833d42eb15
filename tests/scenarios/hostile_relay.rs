//! Every attack of the catalogue against a running relay, while two honest clients go on editing the attacked document and
//! another one: nobody else notices, nothing that was refused is stored or passed on, and what is stored is sound.

#![expect(clippy::print_stdout, reason = "what an attack costs is there to be read")]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rejoin::codec::classic::Frame;
use rejoin::limits::{DOCUMENT_HEADS_MAX, RELAY_HEADS_MAX};
use rejoin::store::{MemoryStore, Store};
use rejoin::sync::classic::Role;
use rejoin::{ChangeHash, Connection, ConnectionState, DocHandle, DocumentId, Repo, ledger};
use rejoin_relay::Config;
use rejoin_tests::hostile::attacks::offered;
use rejoin_tests::hostile::measure::Measure;
use rejoin_tests::hostile::peer::{self, Reaction};
use rejoin_tests::hostile::session::export;
use rejoin_tests::hostile::{Attack, Opening, Scene, Sent, attacks, base, oracle};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::{PATIENCE, eventually};

/// How many connections a flood has.
const FLOOD: usize = 300;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A relay in this process, whose store can be looked into.
struct Relay {
    address: SocketAddr,
    store: Arc<MemoryStore>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), rejoin_relay::RunError>>,
}

impl Relay {
    async fn start() -> Self {
        rejoin_tests::said::listen();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let store = Arc::new(MemoryStore::new());
        let (stop, stopped) = oneshot::channel();
        let shared: Arc<dyn Store> = Arc::clone(&store) as _;
        let running = tokio::spawn(async move {
            let mut config = Config::new("", address);
            // What one address may do is not what is looked at here: the attackers and the others share theirs.
            config.limits.connections_per_address_max = 10_000;
            config.limits.upgrades_per_second = 0;
            config.limits.misses_per_minute = 0;
            config.limits.frames_per_second = 0;
            config.limits.bytes_per_second = 0;
            rejoin_relay::run(listener, shared, &config, async { drop(stopped.await) }).await
        });
        Self { address, store, stop, running }
    }

    fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.running.await.unwrap().unwrap();
    }
}

/// A client that takes part, with its store.
struct Honest {
    repo: Repo,
    store: Arc<MemoryStore>,
    _connection: Connection,
}

impl Honest {
    async fn join(relay: &Relay) -> Self {
        let store = Arc::new(MemoryStore::new());
        let repo = Repo::with_store(Arc::clone(&store) as _).unwrap();
        let mut connection = repo.connect(&relay.url()).unwrap();
        connection.wait_for(|state| *state == ConnectionState::Connected).await;
        Self { repo, store, _connection: connection }
    }

    async fn fetch(&self, document: DocumentId) -> DocHandle {
        let handle = self.repo.open_or_fetch(document).await.unwrap();
        handle.wait_for_content(PATIENCE).await.unwrap();
        handle
    }
}

/// The two honest clients, each with its handle of a document.
struct Pair {
    alice: DocHandle,
    bob: DocHandle,
    edits: i64,
}

impl Pair {
    /// Both write, at the same time.
    async fn edit(&mut self) {
        self.edits += 1;
        let (alice, bob) = tokio::join!(self.alice.set("alice", self.edits), self.bob.set("bob", self.edits));
        alice.unwrap();
        bob.unwrap();
    }

    /// Waits until both and the relay have the same, which includes what both last wrote.
    async fn converge(&self, what: &str, relay: &Relay) {
        eventually(what, async || {
            let (left, right) = (self.alice.heads().await.unwrap(), self.bob.heads().await.unwrap());
            left == right && left == heads_of(&relay.store, self.alice.id())
        })
        .await;
        for handle in [&self.alice, &self.bob] {
            for key in ["alice", "bob"] {
                let value = handle.get(key).await.unwrap().unwrap().as_i64();
                assert_eq!(value, Some(self.edits), "{what}: {key}");
            }
        }
    }
}

fn heads_of(store: &MemoryStore, document: DocumentId) -> Vec<ChangeHash> {
    ledger::heads(&*store.read().unwrap(), &document).unwrap()
}

fn hashes(store: &MemoryStore, document: DocumentId) -> HashSet<ChangeHash> {
    export(store, document).iter().map(|chunk| ChangeHash(rejoin_tests::hostile::bytes::hash(chunk))).collect()
}

struct World {
    relay: Relay,
    alice: Honest,
    bob: Honest,
    /// A document that nobody attacks.
    other: Pair,
}

impl World {
    async fn start() -> Self {
        let relay = Relay::start().await;
        let (alice, bob) = (Honest::join(&relay).await, Honest::join(&relay).await);
        let mut other = share(&alice, &bob).await;
        other.edit().await;
        other.converge("an honest pair", &relay).await;
        Self { relay, alice, bob, other }
    }

    /// Tries one attack; returns what was not as expected.
    async fn attack(&mut self, attack: &Attack) -> Vec<String> {
        let mut same = share(&self.alice, &self.bob).await;
        same.edit().await;
        let (mut socket, scene) = self.connect(attack.opening, same.alice.id()).await;
        let frames = attack.make(&scene);
        let offered = offered(&frames);
        let measure = Measure::start();
        let (reaction, ()) = tokio::join!(peer::attack(&mut socket, &scene, attack, &frames), async {
            for _ in 0..3 {
                self.other.edit().await;
                same.edit().await;
            }
        });
        let cost = measure.stop();
        let known: HashSet<_> = base::changes().iter().map(|change| ChangeHash(change.hash())).collect();
        let stored: HashSet<_> = hashes(&self.relay.store, scene.document).intersection(&offered).copied().collect();
        let stored = stored.difference(&known).count() as u64;
        let close = reaction.close;
        println!("{:<34} {cost} {:>9} B out  close {close:?} stored {stored}", attack.name, reaction.bytes);
        let mut wrong = self.judge(attack, &reaction, stored);
        self.still_work(attack, &mut same, &mut wrong).await;
        wrong.extend(self.not_passed_on(&scene, &offered));
        // What cannot be acknowledged any more must not be waited for in the next attack.
        for honest in [&self.alice, &self.bob] {
            honest.repo.delete(scene.document).await.unwrap();
        }
        wrong
    }

    fn judge(&self, attack: &Attack, reaction: &Reaction, stored: u64) -> Vec<String> {
        let mut wrong = Vec::new();
        if reaction.close != attack.expect.close {
            wrong.push(format!("closed with {:?}, not {:?}", reaction.close, attack.expect.close));
        }
        if reaction.close.is_some() && reaction.error.is_none() {
            wrong.push("closed without a word".to_owned());
        }
        // A relay takes fewer heads than a device, and how many the honest pair has at that moment is up to the two.
        let is_heads = attack.expect.rules == ["too-many-heads"];
        let (fewer, slack) = if is_heads { ((DOCUMENT_HEADS_MAX - RELAY_HEADS_MAX) as u64, 4) } else { (0, 0) };
        let expected = attack.expect.stored - fewer;
        if stored.abs_diff(expected) > slack {
            wrong.push(format!("stored {stored}, not {expected}"));
        }
        wrong
    }

    /// The honest clients go on, and what the relay keeps is sound.
    async fn still_work(&mut self, attack: &Attack, same: &mut Pair, wrong: &mut Vec<String>) {
        self.other.edit().await;
        self.other.converge(attack.name, &self.relay).await;
        // What the relay takes and its clients refuse keeps their heads apart: that is what the missing rules are for.
        if attack.is_pending() {
            return;
        }
        same.edit().await;
        same.converge(attack.name, &self.relay).await;
        self.alice.repo.wait_synced(PATIENCE).await.unwrap();
        self.bob.repo.wait_synced(PATIENCE).await.unwrap();
        if !attack.is_heavy {
            let (document, store) = (same.alice.id(), &self.relay.store);
            if let Err(complaint) = oracle::check(&export(&**store, document), &heads_of(store, document)) {
                wrong.push(complaint.to_string());
            }
        }
    }

    fn not_passed_on(&self, scene: &Scene, offered: &HashSet<ChangeHash>) -> Vec<String> {
        let kept = hashes(&self.relay.store, scene.document);
        let mut wrong = Vec::new();
        for (name, honest) in [("alice", &self.alice), ("bob", &self.bob)] {
            let passed_on = hashes(&honest.store, scene.document);
            let count = passed_on.intersection(offered).filter(|hash| !kept.contains(*hash)).count();
            if count > 0 {
                wrong.push(format!("{count} refused changes reached {name}"));
            }
        }
        wrong
    }

    /// Connects as the attacker, with or without an honest handshake.
    async fn connect(&self, opening: Opening, document: DocumentId) -> (Socket, Scene) {
        let (mut socket, _) = connect_async(self.relay.url()).await.unwrap();
        let mut scene =
            Scene { document, attacker: "mallory".to_owned(), victim: "relay".to_owned(), victim_role: Role::Server };
        if opening == Opening::Joined {
            scene.victim = join(&mut socket, &scene).await;
        }
        (socket, scene)
    }
}

/// Shares a new document that holds the base.
async fn share(alice: &Honest, bob: &Honest) -> Pair {
    let handle = alice.repo.import(base::file()).await.unwrap();
    let bob = bob.fetch(handle.id()).await;
    Pair { alice: handle, bob, edits: 0 }
}

/// Joins, and returns the relay's name.
async fn join(socket: &mut Socket, scene: &Scene) -> String {
    socket.send(Message::Binary(scene.hello("1"))).await.unwrap();
    let answer = async {
        loop {
            if let Message::Binary(frame) = socket.next().await.unwrap().unwrap() {
                return frame;
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, answer).await.unwrap();
    let Ok(Frame::Peer { sender_id, .. }) = Frame::decode(&answer) else { panic!("no peer frame: {answer:?}") };
    sender_id.as_str().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_survives_every_attack_and_honest_clients_notice_nothing() {
    oracle::listen_for_panics();
    let only = std::env::var("REJOIN_HOSTILE_ONLY").unwrap_or_default();
    let mut world = World::start().await;
    let mut wrong = Vec::new();
    for attack in attacks::all().iter().filter(|attack| attack.name.contains(&only)) {
        for line in world.attack(attack).await {
            if attack.is_pending() {
                println!("    pending: {line}");
            } else {
                wrong.push(format!("{}: {line}", attack.name));
            }
        }
    }
    world.relay.stop().await;
    let panics = oracle::unexpected_panics();
    assert!(panics.is_empty(), "{}", panics.join("\n"));
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_of_joins_and_half_open_sockets_leaves_the_others_alone() {
    let mut world = World::start().await;
    let document = world.other.alice.id();
    let measure = Measure::start();
    let mut sockets = Vec::new();
    for number in 0..FLOOD {
        // All under one name; every third says nothing at all, every third only half of a frame's header.
        let opening = if number % 3 == 0 { Opening::Joined } else { Opening::Fresh };
        let (mut socket, scene) = world.connect(opening, document).await;
        if number % 3 == 1
            && let MaybeTlsStream::Plain(plain) = socket.get_mut()
        {
            tokio::io::AsyncWriteExt::write_all(plain, &[0x82, 0xff, 0, 0]).await.unwrap();
        }
        let sync = scene.about("sync", document, rejoin_tests::hostile::message::RawSync::default().encode());
        if number % 3 == 0 {
            socket.send(Message::Binary(sync)).await.unwrap();
        }
        sockets.push(socket);
    }
    println!("{FLOOD} sockets: {}", measure.stop());
    world.other.edit().await;
    world.other.converge("during the flood", &world.relay).await;
    drop(sockets);
    world.other.edit().await;
    world.other.converge("after the flood", &world.relay).await;
    world.alice.repo.wait_synced(Duration::from_secs(60)).await.unwrap();
    world.relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_above_the_bound_is_never_read() {
    let mut world = World::start().await;
    let (mut socket, scene) = world.connect(Opening::Joined, world.other.alice.id()).await;
    let attack = Attack::above_the_frame_bound();
    let frames: Vec<Sent> = attack.make(&scene);
    let measure = Measure::start();
    let reaction = peer::attack(&mut socket, &scene, &attack, &frames).await;
    println!("{:<34} {} close {:?}", attack.name, measure.stop(), reaction.close);
    assert!(!reaction.answered && matches!(reaction.close, None | Some(1009)), "{reaction:?}");
    world.other.edit().await;
    world.other.converge(attack.name, &world.relay).await;
    world.relay.stop().await;
}
