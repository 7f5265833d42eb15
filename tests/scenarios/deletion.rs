//! Documents deleted on one device, or everywhere, with devices that are away and clients that know no deletion.

use std::sync::Arc;

use automerge::transaction::Transactable;
use automerge::{AutomergeError, ROOT};
use rejoin::engine::Origin;
use rejoin::repo::EventKind;
use rejoin::{DocHandle, Repo, RepoError};
use rejoin_tests::node::Node;
use rejoin_tests::relay::RelayProcess;
use samod::BackoffConfig;
use serde_json::json;

use crate::samod::WebSocketDialer;
use crate::{PATIENCE, eventually, fetch};

async fn is_deleted(repo: &Repo, handle: &DocHandle) -> bool {
    repo.deletion(handle.id()).await.unwrap().is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn document_deleted_everywhere_is_gone_from_a_device_that_was_away_with_unsent_edits() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = RelayProcess::start(&folder.path().join("relay"));
    let ada = Repo::open(folder.path().join("ada.redb")).await.unwrap();
    let ben = Repo::open(folder.path().join("ben.redb")).await.unwrap();
    let ada_connection = ada.connect(&relay.url()).unwrap();
    let ben_connection = ben.connect(&relay.url()).unwrap();
    let note = ada.create().await.unwrap();
    note.set("title", "a").await.unwrap();
    let kept = ada.create().await.unwrap();
    kept.set("title", "kept").await.unwrap();
    let copy = fetch(&ben, &note.url()).await;
    let kept_copy = fetch(&ben, &kept.url()).await;

    // Ben is away and writes on, in fields and in the document in memory.
    ben_connection.disconnect().await;
    copy.set("late", 1).await.unwrap();
    copy.splice_text("body", 0, 0, "late").await.unwrap();
    kept_copy.set("late", 1).await.unwrap();
    ada.delete_everywhere(note.id()).await.unwrap();
    ada.wait_synced(PATIENCE).await.unwrap();
    relay.kill();
    relay.restart();

    let mut events = copy.subscribe();
    let mut ben_connection = ben.connect(&relay.url()).unwrap();
    let event = loop {
        let event = events.next().await.unwrap().unwrap();
        if event.kind == EventKind::Deleted {
            break event;
        }
    };
    assert_eq!(event.origin, Origin::Remote);
    ben_connection.wait_caught_up(PATIENCE).await.unwrap();
    ben.wait_synced(PATIENCE).await.unwrap();
    assert_eq!(ben.list().await.unwrap(), [kept.id()]);
    eventually("the document is gone from memory", || async { copy.text("body").await.unwrap().is_none() }).await;
    assert!(matches!(copy.set("later", 2).await, Err(RepoError::Deleted)));
    assert!(matches!(ben.open_or_fetch(note.id()).await, Err(RepoError::Deleted)));
    assert_eq!(ben.deletion(note.id()).await.unwrap(), ada.deletion(note.id()).await.unwrap());

    // Nothing has come back, neither here nor to somebody new; the other document went its way.
    eventually("the late edit of the other one arrives", || async { kept.get("late").await.unwrap().is_some() }).await;
    assert_eq!(ada.list().await.unwrap(), [kept.id()]);
    let carol = Repo::in_memory().unwrap();
    let carol_connection = carol.connect(&relay.url()).unwrap();
    let asked = carol.open_or_fetch(note.id()).await.unwrap();
    eventually("who asks is told", || is_deleted(&carol, &asked)).await;
    for connection in [ada_connection, ben_connection, carol_connection] {
        connection.disconnect().await;
    }
    assert!(ben.verify().await.unwrap().is_sound());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_made_offline_travels_later_and_is_heard_at_once_by_who_is_connected() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(folder.path());
    let (ada, ben) = (Repo::in_memory().unwrap(), Repo::in_memory().unwrap());
    let ada_connection = ada.connect(&relay.url()).unwrap();
    let _ben_connection = ben.connect(&relay.url()).unwrap();
    let note = ada.create().await.unwrap();
    note.set("title", "a").await.unwrap();
    let copy = fetch(&ben, &note.url()).await;
    ada_connection.disconnect().await;
    ada.delete_everywhere(note.id()).await.unwrap();
    assert_eq!(ada.pending().await.unwrap(), 1);
    copy.set("meanwhile", 1).await.unwrap();
    ben.wait_synced(PATIENCE).await.unwrap();
    let _ada_connection = ada.connect(&relay.url()).unwrap();
    ada.wait_synced(PATIENCE).await.unwrap();
    eventually("it is gone there too", || is_deleted(&ben, &copy)).await;
    assert!(ben.list().await.unwrap().is_empty() && ada.list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn document_deleted_here_stays_away_until_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(&folder.path().join("relay"));
    let path = folder.path().join("ben.redb");
    let ada = Repo::in_memory().unwrap();
    let _ada_connection = ada.connect(&relay.url()).unwrap();
    let note = ada.create().await.unwrap();
    note.set("n", 0).await.unwrap();
    let signal = ada.create().await.unwrap();
    signal.set("n", 0).await.unwrap();

    let mut ben = Repo::open(&path).await.unwrap();
    for round in 1..=2 {
        let connection = ben.connect(&relay.url()).unwrap();
        if round == 1 {
            fetch(&ben, &note.url()).await;
            fetch(&ben, &signal.url()).await;
            ben.delete(note.id()).await.unwrap();
        }
        // The relay still takes it to be here, and sends each change.
        for n in 0..20 {
            note.set("n", round * 100 + n).await.unwrap();
        }
        signal.set("n", round).await.unwrap();
        let seen = ben.find(signal.id()).await.unwrap().unwrap();
        eventually("what was written after it arrives", || async {
            seen.get("n").await.unwrap().and_then(|value| value.as_i64()) == Some(round)
        })
        .await;
        assert_eq!(ben.list().await.unwrap(), [signal.id()]);
        if round == 1 {
            // And after a restart.
            connection.disconnect().await;
            drop(seen);
            ben.close().await;
            ben = Repo::open(&path).await.unwrap();
            continue;
        }
        // Asked for, it comes whole, also on a connection on which it was deleted.
        for _ in 0..2 {
            let again = fetch(&ben, &note.url()).await;
            eventually("all of it comes", || async { again.heads().await.unwrap() == note.heads().await.unwrap() })
                .await;
            assert_eq!(again.to_json().await.unwrap(), json!({ "n": 219 }));
            ben.delete(note.id()).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_know_no_deletion_keep_their_copy_to_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(folder.path());
    let repo = Repo::in_memory().unwrap();
    let mut connection = repo.connect(&relay.url()).unwrap();
    let mut javascript = Node::connected(&relay.url()).await;
    let samod = samod::Repo::build_tokio().load().await;
    let dialer = Arc::new(WebSocketDialer(relay.url().parse().unwrap()));
    samod.dial(BackoffConfig::default(), dialer).unwrap().established().await.unwrap();
    let note = repo.create().await.unwrap();
    note.set("title", "a").await.unwrap();
    let kept = repo.create().await.unwrap();
    kept.set("n", 0).await.unwrap();
    repo.wait_synced(PATIENCE).await.unwrap();
    for handle in [&note, &kept] {
        javascript.find(&handle.url()).await;
    }
    let theirs = samod.find(note.id().to_string().parse().unwrap()).await.unwrap().expect("the relay has it");

    repo.delete_everywhere(note.id()).await.unwrap();
    repo.wait_synced(PATIENCE).await.unwrap();
    // Both write on, and talk about something else afterwards: their connections live.
    javascript.change(&note.url(), json!([{ "do": "set", "path": ["late"], "value": 1 }])).await;
    theirs.with_document(|document| {
        document.transact::<_, _, AutomergeError>(|tx| tx.put(ROOT, "late", 2)).unwrap();
    });
    javascript.change(&kept.url(), json!([{ "do": "set", "path": ["n"], "value": 7 }])).await;
    eventually("the other document goes on", || async {
        kept.get("n").await.unwrap().and_then(|value| value.as_i64()) == Some(7)
    })
    .await;
    let found = samod.find(kept.id().to_string().parse().unwrap()).await.unwrap();
    assert!(found.is_some(), "the samod client is still connected");
    assert!(is_deleted(&repo, &note).await && repo.find(note.id()).await.unwrap().is_none());

    // Who asks for it in the old tongue reads that nobody has it.
    let mut late = Node::connected(&relay.url()).await;
    let found = late.call("find", json!({ "url": note.url() })).await;
    assert_eq!(found["state"], "unavailable");
    // And when both come back with their copies, nothing changes.
    javascript.call("disconnect", json!({})).await;
    javascript.call("connect", json!({ "url": relay.url() })).await;
    javascript.change(&kept.url(), json!([{ "do": "set", "path": ["n"], "value": 8 }])).await;
    eventually("the other document goes on", || async {
        kept.get("n").await.unwrap().and_then(|value| value.as_i64()) == Some(8)
    })
    .await;
    connection.wait_caught_up(PATIENCE).await.unwrap();
    assert_eq!(repo.list().await.unwrap(), [kept.id()]);
    samod.stop().await;
}
