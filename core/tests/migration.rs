//! Stores of every released format are opened, and everything in them is found.
#![cfg(all(feature = "client", feature = "redb"))]
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "migration/fixture.rs"]
mod fixture;

use rejoin::Repo;
use rejoin::migrate::{self, Migrated, Step};
use rejoin::store::{self, FORMAT_VERSION, RedbOptions, RedbStore, Store, StoreError, Table};
use tempfile::TempDir;

/// Run by hand, once for each format and never again: `cargo test --test migration -- --ignored keep`.
#[test]
#[ignore = "it writes the fixture of this version's format"]
fn keep_a_store_of_this_format() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
    let expected = fixture::fill(&store);
    similar(&fixture::found(&store), &expected);
    drop(store);
    assert!(!fixture::path(FORMAT_VERSION).with_extension("json").exists(), "a kept store is kept for ever");
    fixture::pack(FORMAT_VERSION, &path, &expected);
}

#[test]
fn store_of_each_older_format_is_opened_with_everything_in_it() {
    for format in 1..FORMAT_VERSION {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("store.redb");
        fixture::unpack(format, &path);
        let expected = fixture::expected(format);
        for from in [format, FORMAT_VERSION] {
            let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
            assert_eq!(migrate::migrate(&store).unwrap(), Migrated { from, to: FORMAT_VERSION });
            similar(&fixture::found(&store), &expected);
            let old = [Table::NodeV1, Table::ActorV1, Table::OutboxV1];
            assert!(rows(&store).iter().all(|(table, ..)| !old.contains(table)));
        }
    }
}

#[tokio::test]
async fn repo_opens_a_store_of_each_older_format() {
    for format in 1..FORMAT_VERSION {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("store.redb");
        fixture::unpack(format, &path);
        let repo = Repo::open(&path).await.unwrap();
        assert_eq!(repo.storage_id().to_string(), fixture::expected(format)["storage_id"]);
        for document in repo.list().await.unwrap() {
            let handle = repo.find(document).await.unwrap().unwrap();
            handle.set("opened", true).await.unwrap();
            assert_eq!(handle.get("opened").await.unwrap().unwrap().as_bool(), Some(true));
        }
        repo.close().await;
        let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
        assert_eq!(store::format(store.read().unwrap().as_ref()).unwrap(), FORMAT_VERSION);
    }
}

/// A format that will never be: it moves the outbox elsewhere.
const MOVE: Step = Step {
    what: "moving the outbox",
    work: |tx| {
        let mut keys = Vec::new();
        tx.scan(Table::OutboxV1, &[]..&[u8::MAX; 32], &mut |key, _| {
            keys.push(key.to_vec());
            std::ops::ControlFlow::Continue(())
        })?;
        assert_eq!(keys.len(), 15);
        keys.iter().try_for_each(|key| tx.put(Table::Snapshot, key, b"waits"))?;
        tx.delete_range(Table::OutboxV1, &[]..&[u8::MAX; 32])
    },
};

const FAIL: Step = Step {
    what: "failing half-way",
    work: |tx| {
        (MOVE.work)(tx)?;
        Err(StoreError::Io(std::io::ErrorKind::StorageFull.into()))
    },
};

#[test]
fn failed_migration_leaves_a_store_that_the_older_version_reads() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    fixture::unpack(1, &path);
    let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
    let before = rows(&store);
    assert!(matches!(migrate::run(&store, &[FAIL]), Err(StoreError::Io(_))));
    drop(store);
    let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
    assert_eq!(store::format(store.read().unwrap().as_ref()).unwrap(), 1);
    assert!(rows(&store) == before);
    // What hindered it is gone: the next opening migrates.
    assert_eq!(migrate::run(&store, &[MOVE]).unwrap(), Migrated { from: 1, to: 2 });
    assert!(matches!(migrate::run(&store, &[]), Err(StoreError::Newer { found: 2, supported: 1 })));
}

/// Every row of every table.
fn rows(store: &dyn Store) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let tx = store.read().unwrap();
    let mut rows = Vec::new();
    for table in Table::ALL {
        tx.scan(table, &[]..&[u8::MAX; 32], &mut |key, value| {
            rows.push((table, key.to_vec(), value.to_vec()));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    }
    rows
}

/// Compares part by part, so that a failure shows the part and not the whole.
#[track_caller]
fn similar(found: &serde_json::Value, expected: &serde_json::Value) {
    assert_eq!(found["storage_id"], expected["storage_id"]);
    let documents = |of: &serde_json::Value| of["documents"].as_object().unwrap().clone();
    assert_eq!(documents(found).keys().collect::<Vec<_>>(), documents(expected).keys().collect::<Vec<_>>());
    for (document, expected) in documents(expected) {
        for (part, expected) in expected.as_object().unwrap() {
            assert_eq!(found["documents"][&document][part], *expected, "{part} of {document}");
        }
    }
}
