//! Every store against the conformance suite.
#![cfg(feature = "redb")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicU32, Ordering};

use redb::backends::InMemoryBackend;
use rejoin::limits::JOURNAL_RECORD_BYTES_MAX;
use rejoin::store::{self, MemoryStore, ReadTx, RedbOptions, RedbStore, Store, StoreError, Table, WriteTx, testing};
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

/// Writes something in between that makes the next write a checkpoint now and then: what is read comes from the database, from the journal
/// or from both.
#[derive(Debug)]
struct Checkpointed {
    store: RedbStore,
    writes: AtomicU32,
}

impl Store for Checkpointed {
    fn read(&self) -> Result<Box<dyn ReadTx + '_>, StoreError> {
        self.store.read()
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn WriteTx) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        if number % 5 == 3 {
            // Finds out whether the store can be written, and asks the database for it.
            store::probe(&self.store)?;
        }
        if number % 7 != 6 {
            return self.store.write(work);
        }
        // Too long for the journal from its second row on: what it did before goes along.
        self.store.write(&mut |tx| {
            tx.put(Table::Audit, b"short", &[])?;
            tx.put(Table::Audit, b"long", &vec![1; JOURNAL_RECORD_BYTES_MAX * 2])?;
            tx.delete(Table::Audit, b"short")?;
            tx.delete(Table::Audit, b"long")?;
            work(tx)
        })
    }
}

#[test]
fn redb_store_with_a_journal_and_checkpoints_conforms() {
    let options = RedbOptions::new().journal(true);
    testing::run(|| {
        let (disk, journal) = (InMemoryBackend::new(), InMemoryBackend::new());
        let store = RedbStore::open_backends(disk, journal, options.clone()).unwrap();
        Checkpointed { store, writes: AtomicU32::new(0) }
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
