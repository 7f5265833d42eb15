//! Power is cut at every single I/O operation of a store's life: its making, its commits, its closing.
//!
//! A disk that loses power keeps what was synced, and of the rest any selection of sectors, in any order. So each cut is
//! tried with several such selections, and half of them with a second cut during the recovery. What must hold: the store
//! opens, everything acknowledged is there, nothing is there by half, and it can be written again.
#![cfg(feature = "redb")]
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::print_stdout, reason = "the counts tell what was tried")]

use rejoin::store::testing::disk::{Chance, CutDisk, Kept};
use rejoin::store::{RedbOptions, RedbStore, Store, StoreError, StoreExt, Table, WriteTx};

const COMMITS: u64 = 6;

/// What the transaction of this number does: it touches several tables and takes back a part of the one before.
fn step(tx: &mut dyn WriteTx, number: u64) -> Result<(), StoreError> {
    let size = usize::try_from(number * 1_500).unwrap();
    tx.put(Table::Document, b"count", &number.to_be_bytes())?;
    tx.put(Table::Change, &number.to_be_bytes(), &vec![number.to_be_bytes()[7]; size])?;
    tx.put(Table::Outbox, &number.to_be_bytes(), b"")?;
    tx.delete(Table::Outbox, &(number - 1).to_be_bytes())
}

/// Opens a store and writes to it until the power fails. Returns how many commits were acknowledged.
fn live(disk: &CutDisk, options: &RedbOptions) -> u64 {
    let Ok(store) = RedbStore::open_backend(disk.clone(), options.clone()) else { return 0 };
    let start = check(&store);
    for number in start + 1..=start + COMMITS {
        if store.write_with(|tx| step(tx, number)).is_err() {
            return number - 1;
        }
    }
    start + COMMITS
}

/// Checks that the store is as one of the commits left it, and returns which.
fn check(store: &RedbStore) -> u64 {
    let read = store.read().unwrap();
    let count = read.get(Table::Document, b"count").unwrap();
    let count = count.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
    for number in 1..=count + 1 {
        let change = read.get(Table::Change, &number.to_be_bytes()).unwrap();
        let size = usize::try_from(number * 1_500).unwrap();
        let expected = (number <= count).then(|| vec![number.to_be_bytes()[7]; size]);
        assert!(change == expected, "commit {count} is there by half: change {number}");
        assert_eq!(read.contains(Table::Outbox, &number.to_be_bytes()).unwrap(), number == count, "outbox {number}");
    }
    count
}

fn survives_every_cut(options: &RedbOptions) {
    let whole = CutDisk::new();
    assert_eq!(live(&whole, options), COMMITS);
    for cut in 0..whole.operations() {
        let disk = CutDisk::new();
        disk.cut_after(cut);
        let acknowledged = live(&disk, options);
        let mut chance = Chance::new(cut as u64);
        for kept in Kept::ALL {
            let mut image = disk.image(kept, &mut chance);
            let mut acknowledged = acknowledged;
            if chance.coin() {
                let again = CutDisk::from_image(image);
                again.cut_after(chance.below(24));
                acknowledged = acknowledged.max(live(&again, options));
                image = again.image(kept, &mut chance);
            }
            let store = RedbStore::open_backend(CutDisk::from_image(image), options.clone())
                .unwrap_or_else(|error| unreachable!("cut at {cut}, kept {kept:?}: {error}"));
            let found = check(&store);
            assert!(found >= acknowledged, "cut at {cut}, kept {kept:?}: {found} of {acknowledged} commits");
            store.write_with(|tx| step(tx, found + 1)).unwrap();
            assert_eq!(check(&store), found + 1);
        }
    }
    let cuts = whole.operations();
    println!("crash images, store: {cuts} cuts, {} images", cuts * Kept::ALL.len());
}

#[test]
fn acknowledged_writes_survive_a_power_cut_at_any_operation() {
    survives_every_cut(&RedbOptions::new());
}

#[test]
fn acknowledged_writes_survive_a_power_cut_with_quick_repair() {
    survives_every_cut(&RedbOptions::new().quick_repair(true));
}

/// The disk fails for a moment in the middle of a commit: the store says so, and goes on when it works again. Whether the
/// write is there as a whole or not at all shows only then.
#[test]
fn failed_commit_is_whole_or_absent_and_the_next_write_goes_on() {
    let whole = CutDisk::new();
    let store = RedbStore::open_backend(whole.clone(), RedbOptions::new()).unwrap();
    store.write_with(|tx| step(tx, 1)).unwrap();
    let before = whole.operations();
    store.write_with(|tx| step(tx, 2)).unwrap();
    let operations = whole.operations() - before;
    assert!(operations > 3);
    for (left, forgetful) in (0..operations).flat_map(|left| [(left, false), (left, true)]) {
        let disk = CutDisk::new();
        disk.set_forgetful(forgetful);
        let store = RedbStore::open_backend(disk.clone(), RedbOptions::new()).unwrap();
        store.write_with(|tx| step(tx, 1)).unwrap();
        disk.cut_after(left);
        let error = store.write_with(|tx| step(tx, 2)).unwrap_err();
        assert!(matches!(error, StoreError::Io(_)), "{error}");
        assert!(store.write_with(|tx| step(tx, 2)).is_err(), "the power is still off");
        let seen = check(&store);
        assert_eq!(seen, 1, "it can be read all the same, without what may be lost");
        disk.cut_after(usize::MAX);
        store.write_with(|tx| step(tx, seen + 1)).unwrap();
        assert_eq!(check(&store), seen + 1);
        drop(store);
        let image = disk.image(Kept::None, &mut Chance::new(1));
        let store = RedbStore::open_backend(CutDisk::from_image(image), RedbOptions::new()).unwrap();
        assert_eq!(check(&store), seen + 1, "what was acknowledged then is on the disk, {left} operations before");
    }
}
