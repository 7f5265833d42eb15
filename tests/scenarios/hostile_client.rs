//! Every attack of the catalogue by a hostile relay against a native client: no panic, nothing stored that was refused, and
//! the application goes on reading and writing as if it were offline.

#![expect(clippy::print_stdout, reason = "what an attack costs is there to be read")]

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use rejoin::codec::classic::Frame;
use rejoin::store::MemoryStore;
use rejoin::sync::classic::Role;
use rejoin::{ChangeHash, ConnectOptions, DocHandle, DocumentId, Protocol, Repo, ledger};
use rejoin_tests::hostile::attacks::offered;
use rejoin_tests::hostile::measure::Measure;
use rejoin_tests::hostile::session::export;
use rejoin_tests::hostile::{Attack, Opening, Scene, attacks, base, oracle, peer};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

use crate::{PATIENCE, eventually};

/// An application's repo, and the port where its hostile relay listens.
struct World {
    listener: TcpListener,
    repo: Repo,
    store: Arc<MemoryStore>,
    /// A document that nobody attacks.
    other: DocHandle,
    edits: i64,
}

impl World {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let store = Arc::new(MemoryStore::new());
        let repo = Repo::with_store(Arc::clone(&store) as _).unwrap();
        let other = repo.create().await.unwrap();
        Self { listener, repo, store, other, edits: 0 }
    }

    /// Tries one attack; returns what was not as expected.
    async fn attack(&mut self, attack: &Attack) -> Vec<String> {
        let same = self.repo.import(base::file()).await.unwrap();
        let url = format!("ws://{}", self.listener.local_addr().unwrap());
        let classic = ConnectOptions::new().protocol(Protocol::Classic);
        let connection = self.repo.connect_with(&url, &classic).unwrap();
        let (mut socket, scene) = self.accept(attack.opening, same.id()).await;
        let frames = attack.make(&scene);
        let offered = offered(&frames);
        let measure = Measure::start();
        let reaction = peer::attack(&mut socket, &scene, attack, &frames).await;
        let cost = measure.stop();
        // The answer to the question may come before the commit: what must be stored is waited for.
        let expected = if attack.is_pending() { 0 } else { attack.expect.stored };
        eventually(attack.name, async || self.stored(&scene, &offered) >= expected).await;
        let close = reaction.close;
        connection.disconnect().await;
        let mut wrong = Vec::new();
        // Its write goes through the same queue as what came from the relay: after it, nothing more comes.
        self.go_on(attack, &same, &mut wrong).await;
        let stored = self.stored(&scene, &offered);
        println!("{:<34} {cost} {:>9} B out  close {close:?} stored {stored}", attack.name, reaction.bytes);
        // A message above the bound is never read: the socket is gone before a close could be said.
        if close != attack.expect.close && (close.is_some() || attack.expect.close != Some(1009)) {
            wrong.push(format!("closed with {close:?}, not {:?}", attack.expect.close));
        }
        if stored != attack.expect.stored {
            wrong.push(format!("stored {stored}, not {}", attack.expect.stored));
        }
        self.repo.delete(same.id()).await.unwrap();
        wrong
    }

    /// Returns how many of the offered changes are in the attacked document, beyond the base.
    fn stored(&self, scene: &Scene, offered: &HashSet<ChangeHash>) -> u64 {
        let base: HashSet<_> = base::changes().iter().map(|change| ChangeHash(change.hash())).collect();
        let kept = export(&*self.store, scene.document);
        let kept = kept.iter().map(|chunk| ChangeHash(rejoin_tests::hostile::bytes::hash(chunk)));
        kept.filter(|hash| offered.contains(hash) && !base.contains(hash)).count() as u64
    }

    /// The application reads and writes, the attacked document too.
    async fn go_on(&mut self, attack: &Attack, same: &DocHandle, wrong: &mut Vec<String>) {
        self.edits += 1;
        self.other.set("n", self.edits).await.unwrap();
        assert_eq!(self.other.to_json().await.unwrap()["n"], self.edits, "{}", attack.name);
        assert_eq!(self.other.get("n").await.unwrap().unwrap().as_i64(), Some(self.edits));
        same.set("n", self.edits).await.unwrap();
        assert_eq!(same.get("n").await.unwrap().unwrap().as_i64(), Some(self.edits), "{}", attack.name);
        // Whether it is too deep to be shown or not, it is answered. It is Automerge that is asked.
        if !attack.is_deadly && !attack.is_pending() {
            let _ = same.to_json().await;
        }
        if attack.is_heavy || attack.is_pending() {
            return;
        }
        let text = same.text("text").await.unwrap();
        assert_eq!(text.as_deref(), Some("ab"), "{}", attack.name);
        same.splice_text("text", 2, 0, "c").await.unwrap();
        let (heads, chunks) = {
            let tx = rejoin::store::Store::read(&*self.store).unwrap();
            (ledger::heads(&*tx, &same.id()).unwrap(), export(&*self.store, same.id()))
        };
        if let Err(complaint) = oracle::check(&chunks, &heads) {
            wrong.push(complaint.to_string());
        }
    }

    /// Takes the client's connection as a relay, with or without an honest handshake.
    async fn accept(&self, opening: Opening, document: DocumentId) -> (WebSocketStream<TcpStream>, Scene) {
        let accepted = async {
            let (stream, _) = self.listener.accept().await.unwrap();
            let mut socket = accept_async(stream).await.unwrap();
            let victim = loop {
                if let Message::Binary(frame) = socket.next().await.unwrap().unwrap() {
                    let Ok(Frame::Join { sender_id, .. }) = Frame::decode(&frame) else { panic!("no join: {frame:?}") };
                    break sender_id.as_str().to_owned();
                }
            };
            (socket, victim)
        };
        let (mut socket, victim) = tokio::time::timeout(PATIENCE, accepted).await.unwrap();
        let scene = Scene { document, attacker: "hostile-relay".to_owned(), victim, victim_role: Role::Client };
        if opening == Opening::Joined {
            socket.send(Message::Binary(scene.hello("1"))).await.unwrap();
        }
        (socket, scene)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_survives_every_attack_of_its_relay() {
    oracle::listen_for_panics();
    let only = std::env::var("REJOIN_HOSTILE_ONLY").unwrap_or_default();
    let mut world = World::start().await;
    let mut wrong = Vec::new();
    let all = attacks::all();
    let above = Attack::above_the_frame_bound();
    for attack in all.iter().chain([&above]).filter(|attack| attack.name.contains(&only)) {
        for line in world.attack(attack).await {
            if attack.is_pending() {
                println!("    pending: {line}");
            } else {
                wrong.push(format!("{}: {line}", attack.name));
            }
        }
    }
    let World { repo, other, .. } = world;
    drop(other);
    repo.close().await;
    let panics = oracle::unexpected_panics();
    assert!(panics.is_empty(), "{}", panics.join("\n"));
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
