//! Clients converge through the relay, and hear of each other.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::SinkExt;
use rejoin::codec::classic::{Frame, encode_sync};
use rejoin::codec::sync_message::{SyncMessage, Version};
use rejoin::ledger;
use rejoin::store::{MemoryStore, RedbOptions, RedbStore, Store};
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, Raw, document, peer, set};
use crate::relay::Relay;

#[tokio::test(flavor = "multi_thread")]
async fn handshake_gives_the_relays_stable_name_and_store() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut names = Vec::new();
    for _ in 0..2 {
        let relay = Relay::start_with(Arc::clone(&store), |_| ()).await;
        let mut raw = Raw::connect(&relay.url()).await;
        let join = Frame::Join { sender_id: peer("alice"), metadata: Default::default(), versions: vec!["1".into()] };
        raw.send(join.encode()).await;
        let Some(Frame::Peer { sender_id, target_id, metadata, selected_version }) = raw.frame().await else {
            panic!("no peer frame");
        };
        assert_eq!((target_id, selected_version.as_str()), (peer("alice"), "1"));
        assert_eq!(sender_id.as_str(), format!("relay-{}", metadata.storage_id.unwrap()));
        assert!(!metadata.is_ephemeral);
        names.push(sender_id);
        drop(raw);
        relay.stop().await;
    }
    assert_eq!(names[0], names[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_that_wrote_apart_converge() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path().join("relay.redb"), RedbOptions::new().quick_repair(true)).unwrap();
    let relay = Relay::start_with(Arc::new(store), |_| ()).await;
    let mut alice = Client::connect(&relay.url(), "alice").await;
    let mut bob = Client::connect(&relay.url(), "bob").await;
    for number in 1..=3 {
        alice.set(document(number), "a", 1);
        bob.set(document(number), "b", 2);
        alice.open(document(number));
        bob.open(document(number));
    }
    for number in 1..=3 {
        alice.until_beside(&mut bob, |alice| alice.count(document(number)) == 2).await;
        bob.until_beside(&mut alice, |bob| bob.count(document(number)) == 2).await;
        assert_eq!(alice.heads(document(number)), bob.heads(document(number)));
    }
    // And from now on at once.
    bob.set(document(2), "c", 3);
    bob.send_all().await;
    alice.until(|alice| alice.heads(document(2)) == bob.heads(document(2))).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_history_reaches_a_new_client_whole() {
    let relay = Relay::start().await;
    let mut alice = Client::connect(&relay.url(), "alice").await;
    let mut store = MemoryStore::new();
    let changes = 3_000;
    for number in 0..changes {
        set(&store, document(1), "alice", &"k".repeat(1_000), number);
    }
    std::mem::swap(&mut alice.store, &mut store);
    alice.open(document(1));
    let mut bob = Client::connect(&relay.url(), "bob").await;
    bob.open(document(1));
    alice.send_all().await;
    let expected = alice.heads(document(1));
    bob.until_beside(&mut alice, |bob| bob.heads(document(1)) == expected).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asked_in_vain_is_told_when_the_document_arrives() {
    let relay = Relay::start().await;
    let mut bob = Client::connect(&relay.url(), "bob").await;
    bob.open(document(1));
    bob.until(|bob| bob.unavailable == [document(1)]).await;
    let mut alice = Client::connect(&relay.url(), "alice").await;
    alice.set(document(1), "a", 1);
    alice.open(document(1));
    alice.send_all().await;
    bob.until_beside(&mut alice, |bob| bob.count(document(1)) == 1).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ephemeral_message_arrives_once_and_is_not_echoed() {
    let store = Arc::new(MemoryStore::new());
    set(&*store, document(1), "founder", "a", 1);
    let relay = Relay::start_with(Arc::clone(&store) as Arc<dyn Store>, |_| ()).await;
    let mut clients = Vec::new();
    for name in ["alice", "bob", "carol"] {
        let mut client = Client::connect(&relay.url(), name).await;
        client.open(document(1));
        client.until(|client| client.count(document(1)) == 1).await;
        clients.push(client);
    }
    let [mut alice, mut bob, mut carol] = <[Client; 3]>::try_from(clients).ok().unwrap();
    alice.say(document(1), 1, b"hello");
    alice.send_all().await;
    bob.until(|bob| !bob.ephemeral.is_empty()).await;
    let (author, count, data) = bob.ephemeral[0].clone();
    assert_eq!((author.as_str(), count, &data[..]), ("alice", 1, &b"hello"[..]));
    bob.echo(document(1), &author, count, &data);
    bob.say(document(1), 7, b"mine");
    bob.send_all().await;
    // What bob sent after the echo is there, so the echo would be too.
    alice.until(|alice| !alice.ephemeral.is_empty()).await;
    carol.until(|carol| carol.ephemeral.len() >= 2).await;
    assert_eq!(alice.ephemeral.iter().map(|(_, count, _)| *count).collect::<Vec<_>>(), [7]);
    assert_eq!(carol.ephemeral.iter().map(|(_, count, _)| *count).collect::<Vec<_>>(), [1, 7]);
    relay.stop().await;
    // Presence is never stored.
    assert_eq!(ledger::state(&*store.read().unwrap(), &document(1)).unwrap().unwrap().count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn change_that_arrived_before_its_peer_went_is_stored() {
    let relay = Relay::start().await;
    let mut raw = Raw::join(&relay.url(), "hasty").await;
    raw.send(one_change(&raw, "hasty")).await;
    raw.socket.close(None).await.unwrap();
    drop(raw);
    let mut reader = Client::connect(&relay.url(), "reader").await;
    reader.open(document(1));
    reader.until(|reader| reader.count(document(1)) == 1).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frame_behind_changes_is_answered_after_their_commit() {
    // What breaks the protocol does not take back what came before it either.
    for breaks in [false, true] {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let relay = Relay::start_with(Arc::clone(&store), |_| ()).await;
        let mut raw = Raw::join(&relay.url(), "hasty").await;
        let (sender_id, target_id) = (peer("hasty"), raw.relay.clone().unwrap());
        let data = empty_message().encode().into();
        let behind = match breaks {
            false => Frame::Request { sender_id, target_id, document: document(2), data }.encode(),
            true => Bytes::from_static(b"not CBOR"),
        };
        // One write, so that both are there when the relay reads.
        raw.socket.feed(Message::Binary(one_change(&raw, "hasty"))).await.unwrap();
        raw.socket.feed(Message::Binary(behind)).await.unwrap();
        raw.socket.flush().await.unwrap();
        while let Some(frame) = raw.frame().await {
            if matches!(frame, Frame::DocUnavailable { .. } | Frame::Error { .. }) {
                break;
            }
        }
        let state = ledger::state(&*store.read().unwrap(), &document(1)).unwrap();
        assert_eq!(state.map(|state| state.count), Some(1), "{breaks}");
        relay.stop().await;
    }
}

fn empty_message() -> SyncMessage {
    SyncMessage {
        version: Version::V1,
        heads: Vec::new(),
        need: Vec::new(),
        have: Vec::new(),
        changes: Vec::new(),
        flags: None,
    }
}

/// Makes a frame that brings the first change of a document.
fn one_change(raw: &Raw, name: &str) -> Bytes {
    let store = MemoryStore::new();
    set(&store, document(1), name, "k", 1);
    let tx = store.read().unwrap();
    let change = ledger::change(&*tx, &document(1), 0).unwrap();
    let heads = ledger::heads(&*tx, &document(1)).unwrap();
    let message = SyncMessage { heads, changes: vec![change.into()], ..empty_message() };
    encode_sync(&peer(name), raw.relay.as_ref().unwrap(), &document(1).to_string(), &message.encode())
}
