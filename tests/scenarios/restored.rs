//! A relay that is restored from a backup: it has lost what came after it, and its clients bring it back.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rejoin::store::{RedbOptions, RedbStore, Store};
use rejoin::{
    ConnectOptions, Connection, ConnectionState, DocHandle, Epoch, Protocol, Receipt, Repo, SpaceId, Written, ledger,
};
use rejoin_tests::relay::RelayProcess;

use crate::{PATIENCE, eventually, fetch, heads};

fn connect(repo: &Repo, relay: &RelayProcess) -> Connection {
    repo.connect_with(&relay.url(), &ConnectOptions::new().protocol(Protocol::RejoinV1)).unwrap()
}

/// Returns the epoch of a stopped relay; `None` in a backup that no relay was started on yet.
fn epoch(file: &Path) -> Option<Epoch> {
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(file, RedbOptions::new()).unwrap());
    ledger::log::epoch(&*store.read().unwrap()).unwrap()
}

/// Backs up a stopped relay with its own command.
fn back_up(data: &Path, to: &Path) {
    let mut command = Command::new(rejoin_tests::binary("rejoin-relay"));
    let done = command.arg("backup").arg("--data").arg(data).arg("--to").arg(to).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

async fn write(handle: &DocHandle, key: &str, value: i64, stage: Receipt) -> Written {
    let written = handle.set(key, value).await.unwrap();
    written.wait(stage, PATIENCE).await.unwrap();
    written
}

/// Waits until both have the same of a document.
async fn agree(one: &DocHandle, other: &DocHandle) {
    eventually("both have the same", || async { heads(one).await == heads(other).await }).await;
    assert_eq!(one.to_json().await.unwrap(), other.to_json().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_restored_from_a_backup_gets_back_what_it_lost_and_no_receipt_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let (data, copy) = (folder.path().join("relay"), folder.path().join("copy.redb"));
    let mut relay = RelayProcess::start(&data);
    let ada = Repo::open(folder.path().join("ada.redb")).await.unwrap();
    let ben = Repo::open(folder.path().join("ben.redb")).await.unwrap();
    let (mut ada_connection, _ben_connection) = (connect(&ada, &relay), connect(&ben, &relay));
    let team = ada.create_space();
    ben.space(team.id()).follow().await.unwrap();

    // Before the backup: one document of each space.
    let (early, open) = (team.create().await.unwrap(), ada.create().await.unwrap());
    let mut written =
        vec![write(&early, "before", 1, Receipt::Seen).await, write(&open, "before", 1, Receipt::Relayed).await];
    let bens = fetch(&ben, &open.url()).await;
    relay.kill();
    back_up(&data, &copy);
    let former = epoch(&data.join("relay.redb"));
    assert!(former.is_some() && epoch(&copy).is_none());
    relay.restart();

    // After it: both go on, there are new documents, one goes, and one device is cut off with a write that nobody has.
    let (late, gone) = (team.create().await.unwrap(), team.create().await.unwrap());
    written.push(write(&early, "after", 1, Receipt::Seen).await);
    written.push(write(&late, "after", 1, Receipt::Seen).await);
    written.push(write(&open, "after", 1, Receipt::Relayed).await);
    write(&gone, "after", 1, Receipt::Seen).await;
    let copied = ben.find(early.id()).await.unwrap().unwrap();
    written.push(write(&copied, "by ben", 1, Receipt::Seen).await);
    written.push(write(&bens, "by ben", 1, Receipt::Relayed).await);
    agree(&open, &bens).await;
    ada.delete_everywhere(gone.id()).await.unwrap();
    eventually("it is gone there too", || async { ben.deletion(gone.id()).await.unwrap().is_some() }).await;
    ada.wait_synced(PATIENCE).await.unwrap();
    ada.set_offline(true);
    ada_connection.wait_for(|state| *state == ConnectionState::Offline).await;
    let alone = early.set("alone", 1).await.unwrap();
    let stages = stages(&written).await;

    relay.kill();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::create_dir(&data).unwrap();
    std::fs::rename(&copy, data.join("relay.redb")).unwrap();
    relay.restart();
    // Ben alone brings back what was lost: he has it all, though most of it is not his own.
    let mut fresh = Fresh::connect(&relay, team.id()).await;
    let late_copy = fresh.wait_for(&late).await;
    agree(&late_copy, &ben.find(late.id()).await.unwrap().unwrap()).await;
    fresh.agrees(&copied).await;
    agree(&fetch(&fresh.repo, &open.url()).await, &bens).await;
    ada.set_offline(false);
    alone.wait(Receipt::Seen, PATIENCE).await.unwrap();
    // What is written now is relayed and seen in the new log.
    let again = write(&early, "again", 1, Receipt::Seen).await;
    for (handle, other) in [(&early, &copied), (&open, &bens)] {
        agree(handle, other).await;
    }
    fresh.agrees(&early).await;
    agree(&late, &late_copy).await;
    eventually("the deletion came back too", || async { fresh.repo.deletion(gone.id()).await.unwrap().is_some() })
        .await;
    written.extend([alone, again]);
    for (one, before) in written.iter().zip(&stages) {
        assert!(one.stage().await.unwrap() >= *before, "{one:?} was {before:?}");
    }
    ada.wait_synced(PATIENCE).await.unwrap();
    ben.wait_synced(PATIENCE).await.unwrap();
    relay.kill();
    let now = epoch(&data.join("relay.redb"));
    assert!(now.is_some() && now != former);
}

async fn stages(written: &[Written]) -> Vec<Receipt> {
    let mut stages = Vec::new();
    for one in written {
        stages.push(one.stage().await.unwrap());
    }
    stages
}

/// A device that has nothing, and gets everything from the relay.
struct Fresh {
    repo: Repo,
    _connection: Connection,
}

impl Fresh {
    async fn connect(relay: &RelayProcess, space: SpaceId) -> Self {
        let repo = Repo::in_memory().unwrap();
        repo.space(space).follow().await.unwrap();
        let _connection = connect(&repo, relay);
        Self { repo, _connection }
    }

    /// Waits until a document is here.
    async fn wait_for(&mut self, wanted: &DocHandle) -> DocHandle {
        eventually("it comes to a fresh client", || async { self.repo.find(wanted.id()).await.unwrap().is_some() })
            .await;
        self.repo.find(wanted.id()).await.unwrap().unwrap()
    }

    /// Waits until a document is here as it is there.
    async fn agrees(&mut self, wanted: &DocHandle) {
        agree(&self.wait_for(wanted).await, wanted).await;
    }
}
