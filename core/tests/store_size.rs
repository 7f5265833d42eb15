//! How large a store grows: the figures of `core/docs/storage.md`, from records of the sizes that stand there.
#![cfg(feature = "redb")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;

use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, Change, ROOT};
use rejoin::store::{RedbOptions, RedbStore, StoreError, StoreExt, Table, WriteTx};
use tempfile::TempDir;

const CHANGES: usize = 10_000;

/// Ten thousand writes of one device, each to one of a hundred fields.
fn small_changes() -> Vec<Change> {
    let mut document = AutoCommit::new().with_actor(ActorId::from([7; 16]));
    for at in 0..CHANGES {
        document.put(ROOT, format!("field-{:02}", at % 100), format!("value {at}")).unwrap();
        document.commit();
    }
    document.get_changes(&[]).into_iter().collect()
}

/// Puts the records of one local write, each as long as its layout makes it.
fn put_records(tx: &mut dyn WriteTx, position: u64, change: &mut Change) -> Result<(), StoreError> {
    let document = [9_u8; 16];
    let at = [document.as_slice(), &position.to_be_bytes()].concat();
    let hash = [document.as_slice(), change.hash().as_ref()].concat();
    let actor = [document.as_slice(), change.actor_id().to_bytes()].concat();
    let register = [document.as_slice(), &[0], format!("field-{:02}", position % 100).as_bytes()].concat();
    tx.put(Table::Change, &at, change.raw_bytes())?;
    // Hash, one dependency, 16 bytes of actor, and six numbers of one to three bytes.
    tx.put(Table::Node, &at, &[1; 32 + 2 + 17 + 9])?;
    tx.put(Table::Hash, &hash, &[1; 2])?;
    tx.put(Table::Actor, &actor, &[1; 4])?;
    tx.put(Table::Document, &document, &[1; 1 + 8 + 1 + 2 + 32])?;
    tx.put(Table::Register, &register, &[1; 1 + 2 + 17 + 12])?;
    let of_64 = [document.as_slice(), &(position - position % 64).to_be_bytes()].concat();
    tx.put(Table::Outbox, &of_64, &(u64::MAX >> (63 - position % 64)).to_be_bytes())
}

fn file_bytes_per_change(changes: &mut [Change], batch: usize) -> u64 {
    // The size does not depend on the disk, but ten thousand waits for a busy one take minutes.
    let directory = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    let path = directory.path().join("store.redb");
    let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
    let empty = fs::metadata(&path).unwrap().len();
    let mut position = 0;
    for part in changes.chunks_mut(batch) {
        let put = store.write_with(|tx| {
            for change in part {
                put_records(tx, position, change)?;
                position += 1;
            }
            Ok(())
        });
        put.unwrap();
    }
    drop(store);
    let full = fs::metadata(&path).unwrap().len();
    (full - empty) / u64::try_from(changes.len()).unwrap()
}

#[test]
fn small_change_takes_less_than_a_kilobyte_of_file() {
    let mut changes = small_changes();
    let chunk_bytes = changes.iter().map(|change| change.clone().raw_bytes().len()).sum::<usize>() / changes.len();
    for batch in [1, 50, CHANGES] {
        let bytes = file_bytes_per_change(&mut changes, batch);
        #[expect(clippy::print_stdout, reason = "the figures for the page")]
        {
            println!("{chunk_bytes} bytes of change, {batch} a transaction: {bytes} bytes of file");
        }
        assert!(bytes < 1_024, "{batch} a transaction: {bytes} bytes of file for a change of {chunk_bytes}");
    }
}
