//! Documents that are deleted everywhere, and what those see who were away, who speak the classic protocol alone, or who
//! never knew.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use rejoin::codec::classic::Frame;
use rejoin::codec::sync_message::SyncMessage;
use rejoin::deletion::{DeletionKind, Tombstone};
use rejoin::ledger::{self, tombstone};
use rejoin::store::{MemoryStore, RedbOptions, RedbStore, Store};
use rejoin::{DocumentId, PeerId};

use crate::client::{Client, Raw, document, peer, set};
use crate::relay::{Relay, open_store};

fn is_buried(store: &dyn Store, document: DocumentId) -> bool {
    let tx = store.read().unwrap();
    let buried = tombstone::is_buried(&*tx, &document).unwrap();
    assert!(!buried || ledger::state(&*tx, &document).unwrap().is_none(), "both at once");
    buried
}

/// Writes a document and waits until the relay has it.
async fn share(client: &mut Client, document: DocumentId) {
    client.set(document, "a", 1);
    client.open(document);
    client.until(|client| client.is_acknowledged(document)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_loses_the_copy_and_the_late_edits_and_brings_nothing_back() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let relay = Relay::start_with(Arc::clone(&store), |_| ()).await;
    let mut alice = Client::connect(&relay.url(), "alice").await;
    let mut bob = Client::connect(&relay.url(), "bob").await;
    share(&mut alice, document(1)).await;
    share(&mut alice, document(2)).await;
    bob.open(document(1));
    bob.until(|bob| bob.count(document(1)) == 1).await;
    // Bob goes away and writes on.
    let away = std::mem::take(&mut bob.store);
    drop(bob);
    set(&away, document(1), "bob", "late", 2);
    alice.bury(document(1), DeletionKind::Deleted);
    alice.until(|alice| alice.acknowledged == [(document(1), DeletionKind::Deleted)]).await;
    assert!(is_buried(&*store, document(1)) && !is_buried(&*store, document(2)));
    drop(alice);
    relay.stop().await;

    let relay = Relay::start_with(Arc::clone(&store), |_| ()).await;
    let mut bob = Client::connect_with(&relay.url(), "bob", away).await;
    bob.open(document(1));
    bob.until(|bob| !bob.deleted.is_empty()).await;
    let (id, told) = &bob.deleted[0];
    assert_eq!((*id, told.kind, told.by.as_str()), (document(1), DeletionKind::Deleted, "alice"));
    assert!(is_buried(&bob.store, document(1)));
    // A third one, who has nothing and asks, is told too.
    let mut carol = Client::connect(&relay.url(), "carol").await;
    carol.open(document(1));
    carol.until(|carol| !carol.deleted.is_empty()).await;
    assert_eq!(carol.unavailable, []);
    // And the rest goes on.
    carol.open(document(2));
    carol.until(|carol| carol.count(document(2)) == 1).await;
    relay.stop().await;
    assert!(is_buried(&*store, document(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_part_is_told_at_once_and_who_does_not_is_not() {
    let relay = Relay::start().await;
    let mut alice = Client::connect(&relay.url(), "alice").await;
    let mut bob = Client::connect(&relay.url(), "bob").await;
    let mut carol = Client::connect(&relay.url(), "carol").await;
    for number in 1..=2 {
        share(&mut alice, document(number)).await;
        bob.open(document(number));
        bob.until(|bob| bob.count(document(number)) == 1).await;
    }
    carol.open(document(2));
    carol.until(|carol| carol.count(document(2)) == 1).await;
    alice.bury(document(1), DeletionKind::Deleted);
    alice.until(|alice| alice.acknowledged.len() == 1).await;
    bob.until(|bob| bob.deleted.len() == 1).await;
    // More thorough: told once more, to the same.
    alice.bury(document(1), DeletionKind::Purged);
    alice.until(|alice| alice.acknowledged.len() == 2).await;
    bob.until(|bob| bob.deleted.len() == 2).await;
    assert_eq!(bob.deleted[1].1.kind, DeletionKind::Purged);
    // What comes after it on the same connection is there, so it would be too.
    alice.set(document(2), "b", 2);
    alice.send_all().await;
    carol.until(|carol| carol.count(document(2)) == 2).await;
    assert_eq!(carol.deleted, []);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousand_deletions_at_once_are_all_acknowledged() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let relay = Relay::start_with(Arc::clone(&store), |_| ()).await;
    let mut alice = Client::connect(&relay.url(), "alice").await;
    let documents: Vec<_> = (0..1_000_u128).map(|number| DocumentId::from_bytes(number.to_be_bytes())).collect();
    for document in &documents {
        alice.bury(*document, DeletionKind::Deleted);
    }
    alice.until(|alice| alice.acknowledged.len() == documents.len()).await;
    assert!(documents.iter().all(|document| is_buried(&*store, *document)));
    relay.stop().await;
}

/// A sync message with everything that a store has of a document.
fn everything(store: &dyn Store, document: DocumentId) -> Bytes {
    let tx = store.read().unwrap();
    let mut changes = Vec::new();
    ledger::export(&*tx, &document, 0, &mut |change| {
        changes.push(Bytes::copy_from_slice(change));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    let heads = ledger::heads(&*tx, &document).unwrap();
    SyncMessage { heads, changes, ..SyncMessage::default() }.encode().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_peer_reads_that_the_document_is_unavailable_and_its_edits_go_nowhere() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let relay = Relay::start_with(Arc::clone(&store), |_| ()).await;
    let mut alice = Client::connect(&relay.url(), "alice").await;
    share(&mut alice, document(1)).await;
    let theirs = MemoryStore::new();
    set(&theirs, document(1), "stock", "late", 2);
    let mut stock = Raw::join(&relay.url(), "stock").await;
    let to: PeerId = stock.relay.clone().unwrap();
    let (sender_id, target_id) = (peer("stock"), to);
    let sync = Frame::Sync {
        sender_id: sender_id.clone(),
        target_id: target_id.clone(),
        document: document(1),
        data: everything(&theirs, document(1)),
    };
    // It takes part while the document is there, and is told nothing it could not read when it is deleted.
    stock.send(sync.encode()).await;
    assert!(matches!(stock.frame().await, Some(Frame::Sync { .. })));
    alice.bury(document(1), DeletionKind::Deleted);
    alice.until(|alice| !alice.acknowledged.is_empty()).await;
    loop {
        match stock.frame().await.unwrap() {
            Frame::Sync { .. } => {}
            Frame::DocUnavailable { document: id, .. } => break assert_eq!(id, document(1)),
            other => panic!("{other:?}"),
        }
    }
    // It writes on: refused without a word, and not passed on. It asks: the same answer each time.
    stock.send(sync.encode()).await;
    for _ in 0..2 {
        let (sender_id, target_id) = (sender_id.clone(), target_id.clone());
        let data = SyncMessage::default().encode().into();
        let request = Frame::Request { sender_id, target_id, document: document(1), data };
        stock.send(request.encode()).await;
        assert!(matches!(stock.frame().await, Some(Frame::DocUnavailable { .. })));
    }
    // One that did not say that it speaks of deletions cannot delete.
    let tombstone = Tombstone { kind: DeletionKind::Deleted, time_seconds: 1, by: "stock".to_owned() };
    share(&mut alice, document(2)).await;
    let (sender_id, target_id) = (sender_id.clone(), target_id.clone());
    let delete = Frame::Delete { sender_id, target_id, document: document(2), tombstone, is_ack: false };
    stock.send(delete.encode()).await;
    share(&mut alice, document(3)).await;
    assert!(is_buried(&*store, document(1)) && !is_buried(&*store, document(2)));
    assert_eq!(alice.deleted, []);
    relay.stop().await;
}

/// A field's name that is looked for in files.
const CANARY: &str = "canary-9b1d22aa-that-nobody-must-find";

fn holds_canary(path: &Path) -> bool {
    let bytes = std::fs::read(path).unwrap();
    bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
}

fn fill(path: &Path) -> RedbStore {
    let store = open_store(path);
    for number in 0..200 {
        set(&store, document(1), "alice", CANARY, number);
        set(&store, document(2), "alice", "kept", number);
    }
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_purges_a_document_and_devices_hear_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.redb");
    drop(fill(&path));
    assert!(holds_canary(&path));
    let purge = |id: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rejoin-relay"));
        command.arg("purge").arg("--data").arg(directory.path()).args(["--document", id]).env_remove("RUST_LOG");
        let said = command.output().unwrap();
        (said.status.success(), String::from_utf8(said.stdout).unwrap(), String::from_utf8(said.stderr).unwrap())
    };
    let (fine, out, error) = purge(&document(1).to_string());
    assert!(fine && out.contains("its bytes are gone") && error.is_empty(), "{out}{error}");
    assert!(!holds_canary(&path));
    assert!(!purge("no-id").0);

    let store: Arc<dyn Store> = Arc::new(open_store(&path));
    let (fine, _, error) = purge(&document(2).to_string());
    assert!(!fine && error.contains("in use by another process"), "{error}");
    let relay = Relay::start_with(store, |_| ()).await;
    let mut alice = Client::connect(&relay.url(), "alice").await;
    alice.set(document(1), CANARY, 1);
    alice.open(document(1));
    alice.until(|alice| !alice.deleted.is_empty()).await;
    assert_eq!(alice.deleted[0].1.kind, DeletionKind::Purged);
    alice.open(document(2));
    alice.until(|alice| alice.count(document(2)) == 200).await;
    drop(alice);
    relay.stop().await;
    assert!(!holds_canary(&path));
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_by_a_device_reaches_the_relays_file_when_it_starts_again_or_by_a_call() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.redb");
    let store: Arc<dyn Store> = Arc::new(fill(&path));
    let relay = Relay::start_with(Arc::clone(&store), |_| ()).await;
    let mut alice = Client::connect(&relay.url(), "alice").await;
    alice.bury(document(1), DeletionKind::Purged);
    alice.until(|alice| !alice.acknowledged.is_empty()).await;
    assert!(is_buried(&*store, document(1)) && holds_canary(&path));
    // On the store in use, as an operator's live call will do it.
    set(&*store, document(3), "alice", CANARY, 1);
    assert!(rejoin_relay::purge(&*store, &document(3), "operator").unwrap());
    assert!(!holds_canary(&path));
    alice.set(document(4), "after", 1);
    alice.open(document(4));
    alice.until(|alice| alice.is_acknowledged(document(4))).await;
    let canaries: Vec<_> = (10..40).collect();
    for number in &canaries {
        set(&*store, document(*number), "alice", CANARY, 1);
        alice.bury(document(*number), DeletionKind::Purged);
    }
    alice.until(|alice| alice.acknowledged.len() == 1 + canaries.len()).await;
    drop(alice);
    relay.stop().await;
    drop(store);
    drop(RedbStore::open(&path, RedbOptions::new()).unwrap());
    assert!(!holds_canary(&path));
}
