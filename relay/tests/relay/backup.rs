//! A relay that is backed up while it is used, lost, and restored: by the library, and by its commands.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rejoin::ledger::{self, log};
use rejoin::store::{MemoryStore, Store, StoreExt, Table};
use rejoin::{ConnectOptions, Connection, DocHandle, Protocol, Receipt, Repo};
use rejoin_relay::backup::{self, Manifest, RestoreOptions};

use crate::care::run;
use crate::client::{Client, PATIENCE, document, set};
use crate::relay::{Relay, open_store};

fn connect(repo: &Repo, relay: &Relay) -> Connection {
    repo.connect_with(&relay.url(), &ConnectOptions::new().protocol(Protocol::RejoinV1)).unwrap()
}

/// Backs a store up beside the runtime's threads.
async fn back_up(store: &Arc<dyn Store>, to: PathBuf, since: Option<Manifest>) -> Manifest {
    let store = Arc::clone(store);
    let made = tokio::task::spawn_blocking(move || {
        backup::online(&*store, &to, since.as_ref(), &mut |_| ControlFlow::Continue(()))
    });
    made.await.unwrap().unwrap()
}

/// Waits until a device and the relay's store have the same of a document.
async fn relay_agrees(store: &Arc<dyn Store>, handle: &DocHandle) {
    for _ in 0..3_000 {
        let here = ledger::heads(store.read().unwrap().as_ref(), &handle.id()).unwrap();
        if !here.is_empty() && here == handle.heads().await.unwrap() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the relay does not come to have what the device has");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_backed_up_while_it_is_used_gets_back_by_both_protocols_what_the_backup_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let store: Arc<dyn Store> = Arc::new(open_store(&path("relay.redb")));
    let relay = Relay::start_with(Arc::clone(&store), |_| ()).await;
    let ada = Repo::in_memory().unwrap();
    let adas = connect(&ada, &relay);
    let team = ada.create_space();
    let note = team.create().await.unwrap();
    note.set("first", 0).await.unwrap().wait(Receipt::Relayed, PATIENCE).await.unwrap();
    let mut ben = Client::connect(&relay.url(), "ben").await;
    ben.open(document(1));
    ben.set(document(1), "first", 0);
    ben.until(|ben| ben.is_acknowledged(document(1))).await;

    // Ada writes on while backups are made.
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, busy) = (Arc::clone(&stop), note.clone());
    let writer = tokio::spawn(async move {
        let mut count = 0;
        while !stopped.load(Ordering::Relaxed) {
            busy.set("count", count).await.unwrap();
            count += 1;
            tokio::task::yield_now().await;
        }
    });
    let full = back_up(&store, path("full"), None).await;
    ben.set(document(1), "second", 1);
    ben.until(|ben| ben.is_acknowledged(document(1))).await;
    let since = back_up(&store, path("since"), Some(full)).await;
    assert!(since.changes >= 3);
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();

    // What no backup has, by both protocols.
    let late = team.create().await.unwrap();
    late.set("late", 1).await.unwrap().wait(Receipt::Relayed, PATIENCE).await.unwrap();
    ada.wait_synced(PATIENCE).await.unwrap();
    ben.set(document(1), "late", 2);
    ben.open(document(2));
    ben.set(document(2), "late", 3);
    ben.until(|ben| ben.is_acknowledged(document(1)) && ben.is_acknowledged(document(2))).await;
    let former = log::epoch(store.read().unwrap().as_ref()).unwrap();
    adas.disconnect().await;
    let bens = std::mem::replace(&mut ben.store, MemoryStore::new());
    drop(ben);
    relay.stop().await;
    drop(store);

    let data = path("restored");
    let chain = [path("full"), path("since")];
    let restored =
        backup::restore(&chain, &data, &RestoreOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(restored.backups, 2);
    let store: Arc<dyn Store> = Arc::new(open_store(&data.join("relay.redb")));
    assert!(ledger::heads(store.read().unwrap().as_ref(), &document(2)).unwrap().is_empty());
    let relay = Relay::start_with(Arc::clone(&store), |_| ()).await;
    let epoch = log::epoch(store.read().unwrap().as_ref()).unwrap();
    assert!(epoch == Some(restored.epoch) && epoch != former);
    let adas = connect(&ada, &relay);
    let mut ben = Client::connect_with(&relay.url(), "ben", bens).await;
    ben.open(document(1));
    ben.open(document(2));
    ben.until(|ben| ben.is_acknowledged(document(1)) && ben.is_acknowledged(document(2))).await;
    relay_agrees(&store, &note).await;
    relay_agrees(&store, &late).await;
    for number in 1..=2 {
        assert_eq!(
            ledger::heads(store.read().unwrap().as_ref(), &document(number)).unwrap(),
            ben.heads(document(number))
        );
    }
    // And everything goes on.
    note.set("again", 1).await.unwrap().wait(Receipt::Relayed, PATIENCE).await.unwrap();
    adas.disconnect().await;
    drop(ben);
    relay.stop().await;
    drop(store);
    let said = run(&["verify"], &data);
    assert_eq!(said.code, 0, "{}{}", said.out, said.error);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn commands_back_up_check_and_restore() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (data, full, since, copy) = (path("data"), path("full"), path("since"), path("copy"));
    std::fs::create_dir(&data).unwrap();
    let fill = |value| {
        let store = open_store(&data.join("relay.redb"));
        store
            .write_with(|tx| {
                if log::epoch(tx)?.is_none() {
                    log::set_epoch(tx, &rejoin::Epoch::from_bytes([1; 16]))?;
                }
                Ok(())
            })
            .unwrap();
        for number in 1..=2 {
            set(&store, document(number), "alice", "a", value);
            store.write_with(|tx| log::append(tx, &document(number)).map(drop)).unwrap();
        }
    };
    fill(1);
    let said = run(&["backup", "--to-dir", text(&full)], &data);
    assert_eq!((said.code, said.error.as_str()), (0, ""), "{}", said.out);
    assert!(said.out.starts_with("backed up everything: "), "{}", said.out);
    fill(2);
    let said = run(&["backup", "--to-dir", text(&since), "--since", text(&full)], &data);
    assert!(said.code == 0 && said.out.starts_with("backed up what came since: "), "{}{}", said.out, said.error);
    let said = run(&["backup", "--to-dir", text(&since)], &data);
    assert!(said.code == 1 && said.error.contains("exists already"), "{}", said.error);

    let said = run(&["verify", "--from", text(&full), text(&since), "--quick"], &data);
    assert!(said.code == 0 && said.out.starts_with("2 documents, 4 changes: "), "{}{}", said.out, said.error);
    let said = run(&["verify", "--from", text(&full), text(&since), "--scratch", text(folder.path())], &data);
    assert!(said.code == 0 && said.out.trim_end().ends_with("all sound"), "{}{}", said.out, said.error);

    let said = run(&["restore", "--from", text(&full), "--from", text(&since)], &copy);
    assert_eq!((said.code, said.error.as_str()), (0, ""));
    assert!(said.out.starts_with("restored 2 documents, 4 changes, "), "{}", said.out);
    assert_eq!(run(&["verify"], &copy).code, 0);
    let said = run(&["restore", "--from", text(&full)], &copy);
    assert!(said.code == 1 && said.error.contains("is not empty"), "{}", said.error);
    let said = run(&["restore", "--from", text(&since)], &path("other"));
    assert!(said.code == 1 && said.error.contains("is not a full backup"), "{}", said.error);
    let said = run(&["restore", "--json", "--from", text(&full)], &path("third"));
    assert!(said.out.contains("\"changes\":2"), "{}", said.out);

    // A directory that cannot be read is a finding.
    let store = open_store(&copy.join("relay.redb"));
    store.write_with(|tx| tx.put(Table::Directory, &[1, b'x'], &[200])).unwrap();
    drop(store);
    let said = run(&["verify"], &copy);
    assert!(said.code == 1 && said.out.contains("directory-1 cannot be read"), "{}", said.out);
}
