//! A store that is copied while nobody uses it, as a restored disk image is: both copies think that they are the same
//! device, go on with edits of their own, and come to the same.

use std::path::Path;

use rejoin::{ConnectOptions, Connection, Protocol, Receipt, Repo};
use rejoin_tests::relay::RelayProcess;

use crate::{PATIENCE, eventually, heads};

/// How many times each copy edits in each stretch.
const EDITS: i64 = 10;

async fn open(path: &Path, relay: &RelayProcess) -> (Repo, Connection) {
    let repo = Repo::open(path).await.unwrap();
    let connection = repo.connect_with(&relay.url(), &ConnectOptions::new().protocol(Protocol::RejoinV1)).unwrap();
    (repo, connection)
}

/// Has both copies of a device edit, and a third device look on. `is_offline`: the edits are made before they connect.
async fn both_go_on(is_offline: bool) {
    let folder = tempfile::tempdir().unwrap();
    let (original, copy) = (folder.path().join("original.redb"), folder.path().join("copy.redb"));
    let relay = RelayProcess::start(&folder.path().join("relay"));
    let (ada, connection) = open(&original, &relay).await;
    let team = ada.create_space().id();
    let note = ada.space(team).create().await.unwrap();
    let (id, sent) = (note.id(), note.set("sent", true).await.unwrap());
    note.splice_text("text", 0, 0, ".").await.unwrap();
    sent.wait(Receipt::Relayed, PATIENCE).await.unwrap();
    ada.wait_synced(PATIENCE).await.unwrap();
    ada.set_offline(true);
    connection.disconnect().await;
    // Both copies have this one to send, the same change.
    note.set("unsent", true).await.unwrap();
    drop(note);
    ada.close().await;
    std::fs::copy(&original, &copy).unwrap();

    let (look_on, _looking) = open(&folder.path().join("ben.redb"), &relay).await;
    look_on.space(team).follow().await.unwrap();
    let mut devices = Vec::new();
    for (name, path) in [("original", &original), ("copy", &copy)] {
        let repo = Repo::open(path).await.unwrap();
        repo.set_offline(is_offline);
        let options = ConnectOptions::new().protocol(Protocol::RejoinV1);
        let connection = repo.connect_with(&relay.url(), &options).unwrap();
        let handle = repo.find(id).await.unwrap().unwrap();
        devices.push((name, repo, connection, handle));
    }
    let mut written = Vec::new();
    for number in 0..EDITS {
        for (name, _, _, handle) in &devices {
            written.push(handle.set(*name, number).await.unwrap());
            written.push(handle.splice_text("text", 0, 0, &name[..1]).await.unwrap());
        }
    }
    devices.iter().for_each(|(_, repo, _, _)| repo.set_offline(false));
    for one in &written {
        one.wait(Receipt::Seen, PATIENCE).await.unwrap();
    }
    for (name, repo, _, handle) in &devices {
        repo.wait_synced(PATIENCE).await.unwrap();
        assert_eq!(repo.rejected().await.unwrap().len(), 0);
        handle.set(format!("{name} goes on"), true).await.unwrap();
    }
    eventually("the third device has it", || async { look_on.find(id).await.unwrap().is_some() }).await;
    let third = look_on.find(id).await.unwrap().unwrap();
    let (one, other) = (&devices[0].3, &devices[1].3);
    eventually("everything of both is everywhere", || async {
        let value = third.to_json().await.unwrap();
        let all = heads(&third).await;
        value["original goes on"] == true
            && value["copy goes on"] == true
            && all == heads(one).await
            && all == heads(other).await
    })
    .await;
    let value = third.to_json().await.unwrap();
    assert_eq!(one.to_json().await.unwrap(), value);
    assert_eq!(other.to_json().await.unwrap(), value);
    assert_eq!((&value["sent"], &value["unsent"]), (&true.into(), &true.into()));
    assert_eq!((&value["original"], &value["copy"]), (&(EDITS - 1).into(), &(EDITS - 1).into()));
    let text = third.text("text").await.unwrap().unwrap_or_default();
    for letter in ["o", "c"] {
        assert_eq!(i64::try_from(text.matches(letter).count()).unwrap(), EDITS, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_a_device_that_edit_while_connected_come_to_the_same() {
    both_go_on(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_a_device_that_edit_offline_come_to_the_same() {
    both_go_on(true).await;
}
