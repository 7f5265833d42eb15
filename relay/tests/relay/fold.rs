//! A relay that folds: who has nothing gets a document in one frame, and whatever becomes of the child, the relay goes on.

use std::sync::Arc;
use std::time::Duration;

use automerge::sync::{self, SyncDoc};
use automerge::{Automerge, ChangeHash};
use rejoin::codec::classic::Frame;
use rejoin::codec::sync_message::{SyncMessage, Version};
use rejoin::fold::FoldCommand;
use rejoin::gate::CheckedChange;
use rejoin::ledger::{self, Appender, snapshot};
use rejoin::limits::{FOLD_CHANGES_MIN, FOLD_FAILURES_MAX};
use rejoin::store::{MemoryStore, Store, StoreExt};
use rejoin::sync::WholeDocuments;
use rejoin_relay::Config;
use rejoin_relay::metrics::Metrics;

use crate::client::{Client, Raw, document, peer, set};
use crate::folder::{command, script, typed};
use crate::metrics::series;
use crate::relay::Relay;

fn folding(command: FoldCommand) -> impl FnOnce(&mut Config) {
    move |config| config.fold = Some(command)
}

fn taking(command: FoldCommand) -> impl FnOnce(&mut Config) {
    move |config| {
        config.fold = Some(command);
        config.whole_documents = WholeDocuments::Taken;
    }
}

/// Puts what an Automerge document holds into a store.
fn append(store: &MemoryStore, automerge: &Automerge) {
    let work = |tx: &mut dyn rejoin::store::WriteTx| {
        let mut appender = Appender::begin(tx, document(1))?;
        for change in automerge.get_changes(&[]) {
            appender.append(tx, &CheckedChange::parse(change.raw_bytes()).unwrap())?;
        }
        appender.finish(tx)
    };
    store.write_with(work).unwrap();
}

fn heads(store: &MemoryStore) -> Vec<ChangeHash> {
    ledger::heads(&*store.read().unwrap(), &document(1)).unwrap()
}

fn folded(store: &MemoryStore) -> u64 {
    snapshot::info(&*store.read().unwrap(), &document(1)).unwrap().map_or(0, |snapshot| snapshot.count)
}

fn failures(store: &MemoryStore) -> u64 {
    snapshot::failures(&*store.read().unwrap(), &document(1)).unwrap().0
}

/// Waits for something that must come.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

/// Automerge's own sync over a socket: what any automerge-repo client does.
struct Stock {
    raw: Raw,
    automerge: Automerge,
    state: sync::State,
    /// Of each sync message: how its changes are cut, and how many bytes they have.
    received: Vec<(Version, usize)>,
    /// The same of those it sent.
    sent: Vec<(Version, usize)>,
}

fn measure(message: &[u8]) -> (Version, usize) {
    let message = SyncMessage::decode(&message.to_vec().into()).unwrap();
    (message.version, message.changes.iter().map(|change| change.len()).sum())
}

impl Stock {
    async fn connect(relay: &Relay, name: &str, automerge: Automerge) -> Self {
        let raw = Raw::join(&relay.url(), name).await;
        let mut stock = Self { raw, automerge, state: sync::State::new(), received: Vec::new(), sent: Vec::new() };
        stock.send(name).await;
        stock
    }

    async fn send(&mut self, name: &str) {
        while let Some(message) = self.automerge.generate_sync_message(&mut self.state) {
            let (sender_id, target_id) = (peer(name), self.raw.relay.clone().unwrap());
            let data = message.encode();
            self.sent.push(measure(&data));
            let data = data.into();
            let frame = if self.automerge.get_heads().is_empty() {
                Frame::Request { sender_id, target_id, document: document(1), data }
            } else {
                Frame::Sync { sender_id, target_id, document: document(1), data }
            };
            self.raw.send(frame.encode()).await;
            if self.state.in_flight {
                return;
            }
        }
    }

    /// Takes a frame in and answers. Returns whether there was one.
    async fn step(&mut self, name: &str) -> bool {
        let Some(frame) = self.raw.frame().await else { return false };
        let Frame::Sync { data, .. } = frame else { return true };
        self.received.push(measure(&data));
        let message = sync::Message::decode(&data).unwrap();
        self.automerge.receive_sync_message(&mut self.state, message).unwrap();
        self.send(name).await;
        true
    }

    async fn until(&mut self, name: &str, wanted: &[ChangeHash]) {
        while self.automerge.get_heads() != wanted {
            assert!(self.step(name).await, "the relay closed");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_peer_gets_one_snapshot_and_the_tail() {
    let store = Arc::new(MemoryStore::new());
    let long = typed(3_000);
    append(&store, &long);
    let relay = Relay::start_with(Arc::clone(&store) as Arc<dyn Store>, folding(command())).await;
    // Somebody asks: it is folded, too late for this one.
    let mut first = Stock::connect(&relay, "first", Automerge::new()).await;
    first.until("first", &heads(&store)).await;
    eventually("it is folded", || folded(&store) == 3_000).await;

    let mut longer = long;
    for value in 0..5 {
        let edit = |tx: &mut automerge::transaction::Transaction<'_>| {
            automerge::transaction::Transactable::put(tx, automerge::ROOT, "k", value)
        };
        longer.transact::<_, _, automerge::AutomergeError>(edit).unwrap();
    }
    append(&store, &longer);
    let mut fresh = Stock::connect(&relay, "fresh", Automerge::new()).await;
    fresh.until("fresh", &heads(&store)).await;
    assert_eq!(fresh.received.len(), 2, "{:?}", fresh.received);
    assert_eq!((fresh.received[0].0, fresh.received[1].0), (Version::V2, Version::V1));
    let bytes: usize = fresh.received.iter().map(|(_, bytes)| bytes).sum();
    assert!(bytes < 10_000, "{bytes}");

    // Our own client, which does not ask for it, gets changes.
    let mut ours = Client::connect(&relay.url(), "ours").await;
    ours.open(document(1));
    ours.until(|ours| ours.heads(document(1)) == heads(&store)).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_grows_is_folded_again() {
    let store = Arc::new(MemoryStore::new());
    let relay = Relay::start_with(Arc::clone(&store) as Arc<dyn Store>, folding(command())).await;
    let mut alice = Client::connect(&relay.url(), "alice").await;
    for number in 0..FOLD_CHANGES_MIN {
        alice.set(document(1), &format!("k{number}"), 1);
    }
    alice.open(document(1));
    alice.until(|alice| alice.is_acknowledged(document(1))).await;
    eventually("it is folded", || folded(&store) == FOLD_CHANGES_MIN).await;
    let more = FOLD_CHANGES_MIN / 4;
    for number in 0..more {
        alice.set(document(1), &format!("k{number}"), 2);
    }
    alice.until(|alice| alice.is_acknowledged(document(1))).await;
    eventually("it is folded again", || folded(&store) == FOLD_CHANGES_MIN + more).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn document_whose_fold_fails_goes_out_as_changes_and_is_left_alone() {
    let store = Arc::new(MemoryStore::new());
    let changes = FOLD_CHANGES_MIN + 10;
    for number in 0..changes {
        set(&*store, document(1), "alice", &format!("k{number}"), 1);
    }
    let relay = Relay::start_with(Arc::clone(&store) as Arc<dyn Store>, folding(script("exit 3"))).await;
    for attempt in 1..=FOLD_FAILURES_MAX + 2 {
        let name = format!("bob{attempt}");
        let mut bob = Stock::connect(&relay, &name, Automerge::new()).await;
        bob.until(&name, &heads(&store)).await;
        assert!(bob.received.iter().all(|(version, _)| *version == Version::V1));
        eventually("the attempt failed", || failures(&store) == attempt.min(FOLD_FAILURES_MAX)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(failures(&store), FOLD_FAILURES_MAX);
    for number in 0..changes {
        set(&*store, document(1), "alice", &format!("k{number}"), 2);
    }
    let _last = Stock::connect(&relay, "last", Automerge::new()).await;
    eventually("it is tried once more", || failures(&store) == FOLD_FAILURES_MAX + 1).await;
    assert_eq!(folded(&store), 0);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_relay_does_not_wait_for_a_child() {
    let store = Arc::new(MemoryStore::new());
    append(&store, &typed(2_000));
    let relay = Relay::start_with(Arc::clone(&store) as Arc<dyn Store>, folding(script("sleep 100"))).await;
    let _asking = Stock::connect(&relay, "asking", Automerge::new()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    tokio::time::timeout(Duration::from_secs(60), relay.stop()).await.unwrap();
    assert_eq!(failures(&store), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_document_is_taken_apart_where_peers_are_asked_for_it() {
    let store = Arc::new(MemoryStore::new());
    let ask = |config: &mut Config| {
        config.fold = Some(command());
        config.whole_documents = WholeDocuments::AskedFor;
    };
    let relay = Relay::start_with(Arc::clone(&store) as Arc<dyn Store>, ask).await;
    let mut alice = Stock::connect(&relay, "alice", typed(300)).await;
    let wanted = alice.automerge.get_heads();
    while heads(&store) != wanted {
        tokio::select! {
            goes_on = alice.step("alice") => assert!(goes_on, "the relay closed"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
    assert_eq!(ledger::state(&*store.read().unwrap(), &document(1)).unwrap().unwrap().count, 300);
    assert!(alice.sent.iter().any(|(version, _)| *version == Version::V2));
    assert!(alice.sent.iter().all(|(_, bytes)| *bytes < 3_000), "{:?}", alice.sent);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_document_that_comes_unasked_is_taken_apart_too() {
    let store = Arc::new(MemoryStore::new());
    let relay = Relay::start_with(Arc::clone(&store) as Arc<dyn Store>, taking(command())).await;
    let full = typed(50);
    send_whole(&relay, &full).await;
    eventually("it is stored", || heads(&store) == full.get_heads()).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_document_that_cannot_be_taken_apart_leaves_the_connection_open() {
    let store = Arc::new(MemoryStore::new());
    let relay = Relay::start_with(Arc::clone(&store) as Arc<dyn Store>, taking(script("exit 3"))).await;
    let full = typed(50);
    let mut raw = send_whole(&relay, &full).await;
    let Some(Frame::Sync { data, .. }) = raw.frame().await else { panic!("no answer") };
    let answer = SyncMessage::decode(&data).unwrap();
    assert_eq!((answer.need, answer.flags), (full.get_heads(), None));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_asked_for_a_whole_document_in_vain_is_asked_for_changes_on_its_next_connection() {
    let store = Arc::new(MemoryStore::new());
    let ask = |config: &mut Config| {
        config.fold = Some(script("exit 3"));
        config.whole_documents = WholeDocuments::AskedFor;
    };
    let relay = Relay::start_with(Arc::clone(&store) as Arc<dyn Store>, ask).await;
    let full = typed(50);
    let mut first = Stock::connect(&relay, "alice", full.clone()).await;
    while first.step("alice").await {}
    let mut second = Stock::connect(&relay, "alice", full.clone()).await;
    while heads(&store) != full.get_heads() {
        assert!(second.step("alice").await, "the relay closed");
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_document_is_refused_where_the_configuration_says_so() {
    let store = Arc::new(MemoryStore::new());
    let refuse = |config: &mut Config| {
        config.fold = Some(command());
        config.whole_documents = WholeDocuments::Refused;
    };
    let relay = Relay::start_with(Arc::clone(&store) as Arc<dyn Store>, refuse).await;
    let full = typed(50);
    let mut raw = send_whole(&relay, &full).await;
    let Some(Frame::Sync { data, .. }) = raw.frame().await else { panic!("no answer") };
    assert_eq!(SyncMessage::decode(&data).unwrap().need, full.get_heads());
    assert!(heads(&store).is_empty());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_documents_are_counted_by_what_became_of_them() {
    let missing = FoldCommand::new("/nonexistent/rejoin-relay", "fold-child");
    let cases = [
        (command(), "done", 0.0),
        (script("cat > /dev/null; echo nonsense"), "refused", 0.0),
        (script("kill -9 $$"), "crashed", 1.0),
        (missing, "not_started", 0.0),
    ];
    for (command, result, crashes) in cases {
        let metrics = Arc::new(Metrics::new());
        let store = Arc::new(MemoryStore::new());
        let relay = Relay::start_counting(store, Arc::clone(&metrics), taking(command)).await;
        // The answer comes when it is known what became of it.
        assert!(send_whole(&relay, &typed(50)).await.frame().await.is_some());
        let found = series(&metrics.text());
        let unfolds: Vec<_> =
            found.iter().filter(|(name, _)| name.starts_with("rejoin_relay_unfolds_total{")).collect();
        for (name, value) in &unfolds {
            let expected = if name.contains(&format!("\"{result}\"")) { 1.0 } else { 0.0 };
            assert_eq!(**value, expected, "{result}: {unfolds:?}");
        }
        assert_eq!(unfolds.len(), 5, "{unfolds:?}");
        assert_eq!(found["rejoin_relay_child_crashes_total"], crashes, "{result}");
        relay.stop().await;
    }
}

/// Sends a document as one chunk, which nobody asked for.
async fn send_whole(relay: &Relay, full: &Automerge) -> Raw {
    let mut raw = Raw::join(&relay.url(), "odd").await;
    let message = SyncMessage {
        version: Version::V2,
        heads: full.get_heads(),
        changes: vec![full.save().into()],
        ..SyncMessage::default()
    };
    let (sender_id, target_id) = (peer("odd"), raw.relay.clone().unwrap());
    let frame = Frame::Sync { sender_id, target_id, document: document(1), data: message.encode().into() };
    raw.send(frame.encode()).await;
    raw
}
