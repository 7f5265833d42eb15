//! Every store against the conformance suite.
#![cfg(feature = "redb")]
#![expect(clippy::unwrap_used, reason = "tests")]

use redb::backends::InMemoryBackend;
use rejoin::store::{MemoryStore, RedbOptions, RedbStore, testing};
use tempfile::TempDir;

#[test]
fn memory_store_conforms() {
    testing::run(MemoryStore::new);
}

#[test]
fn redb_store_in_a_file_conforms() {
    let directory = TempDir::new().unwrap();
    let count = std::cell::Cell::new(0);
    testing::run(|| {
        count.set(count.get() + 1);
        RedbStore::open(directory.path().join(format!("{}.redb", count.get())), RedbOptions::new()).unwrap()
    });
}

#[test]
fn redb_store_over_a_backend_conforms() {
    testing::run(|| RedbStore::open_backend(InMemoryBackend::new(), RedbOptions::new()).unwrap());
}

#[test]
fn redb_store_with_quick_repair_conforms() {
    let options = RedbOptions::new().quick_repair(true);
    testing::run(|| RedbStore::open_backend(InMemoryBackend::new(), options.clone()).unwrap());
}

#[test]
fn redb_store_with_a_journal_conforms() {
    let options = RedbOptions::new().journal(true);
    testing::run(|| RedbStore::open_backends(InMemoryBackend::new(), InMemoryBackend::new(), options.clone()).unwrap());
    let directory = TempDir::new().unwrap();
    let count = std::cell::Cell::new(0);
    testing::run(|| {
        count.set(count.get() + 1);
        RedbStore::open(directory.path().join(format!("{}.redb", count.get())), options.clone()).unwrap()
    });
}

#[test]
fn redb_store_with_hardly_any_cache_conforms() {
    let options = RedbOptions::new().cache_bytes(64 << 10);
    testing::run(|| RedbStore::open_backend(InMemoryBackend::new(), options.clone()).unwrap());
}

#[test]
fn redb_store_outlives_the_process() {
    let journal = RedbOptions::new().journal(true);
    for options in [RedbOptions::new(), RedbOptions::new().quick_repair(true), journal] {
        let directory = TempDir::new().unwrap();
        testing::run_durable(|| RedbStore::open(directory.path().join("store.redb"), options.clone()).unwrap());
    }
}
