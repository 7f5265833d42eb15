//! Every store against the conformance suite, and what only a store on disk can get wrong.
#![expect(clippy::unwrap_used, reason = "tests")]

use rejoin::store::{RedbOptions, RedbStore, Store, StoreExt, Table};

#[test]
fn smoke() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.redb");
    let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
    eprintln!("{}", std::fs::metadata(&path).unwrap().len());
    store.write_with(|tx| tx.put(Table::Change, b"k", b"v")).unwrap();
    drop(store);
    let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
    assert_eq!(store.read().unwrap().get(Table::Change, b"k").unwrap().unwrap(), b"v");
    let store = RedbStore::open_backend(redb::backends::InMemoryBackend::new(), RedbOptions::new()).unwrap();
    store.write_with(|tx| tx.put(Table::Change, b"k", b"v")).unwrap();
}
