//! Power is cut at every single I/O operation of a store's life: its making, its commits, its closing.
//!
//! A disk that loses power keeps what was synced, and of the rest any selection of sectors, in any order. So each cut is
//! tried with several such selections, and half of them with a second cut during the recovery. What must hold: the store
//! opens, everything acknowledged is there, nothing is there by half, and it can be written again.
//!
//! A store with a journal is two files, which fail at the same moment and keep what they keep one apart from the other.
#![cfg(feature = "redb")]
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::print_stdout, reason = "the counts tell what was tried")]

use rejoin::limits::{JOURNAL_BYTES_MAX, JOURNAL_RECORD_BYTES_MAX};
use rejoin::store::testing::disk::{Chance, CutFiles, Kept};
use rejoin::store::{RedbOptions, RedbStore, Store, StoreError, StoreExt, Table, WriteTx};

const COMMITS: u64 = 8;

/// What the transaction of this number does: it touches several tables and takes back a part of the one before.
fn step(tx: &mut dyn WriteTx, number: u64) -> Result<(), StoreError> {
    let size = usize::try_from(number * 1_500).unwrap();
    tx.put(Table::Document, b"count", &number.to_be_bytes())?;
    tx.put(Table::Change, &number.to_be_bytes(), &vec![number.to_be_bytes()[7]; size])?;
    tx.put(Table::Outbox, &number.to_be_bytes(), b"")?;
    tx.delete(Table::Outbox, &(number - 1).to_be_bytes())
}

/// Opens a store and writes to it until the power fails. Returns how many commits were acknowledged.
fn live(files: &CutFiles, options: &RedbOptions, more: usize) -> u64 {
    let Ok(store) = files.open(options.clone()) else { return 0 };
    let start = check(&store);
    for number in start + 1..=start + COMMITS {
        let work = |tx: &mut dyn WriteTx| {
            step(tx, number)?;
            tx.put(Table::Snapshot, b"more", &vec![7; more])
        };
        if store.write_with(work).is_err() {
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

/// Cuts the power at each operation of a store whose commits have so many more bytes.
fn survives_every_cut(options: &RedbOptions, more: usize) {
    let whole = CutFiles::new();
    assert_eq!(live(&whole, options, more), COMMITS);
    let cuts = whole.operations();
    for cut in 0..cuts {
        let files = CutFiles::new();
        files.cut_after(cut);
        let acknowledged = live(&files, options, more);
        let mut chance = Chance::new(cut as u64);
        for kept in Kept::ALL {
            let mut images = files.images(kept, &mut chance);
            let mut acknowledged = acknowledged;
            if chance.coin() {
                let again = CutFiles::from_images(images);
                again.cut_after(chance.below(24));
                acknowledged = acknowledged.max(live(&again, options, more));
                images = again.images(kept, &mut chance);
            }
            let store = CutFiles::from_images(images)
                .open(options.clone())
                .unwrap_or_else(|error| unreachable!("cut at {cut}, kept {kept:?}: {error}"));
            let found = check(&store);
            assert!(found >= acknowledged, "cut at {cut}, kept {kept:?}: {found} of {acknowledged} commits");
            store.write_with(|tx| step(tx, found + 1)).unwrap();
            assert_eq!(check(&store), found + 1);
        }
    }
    println!("crash images, store: {cuts} cuts, {} images", cuts * Kept::ALL.len());
}

#[test]
fn acknowledged_writes_survive_a_power_cut_at_any_operation() {
    survives_every_cut(&RedbOptions::new(), 0);
}

#[test]
fn acknowledged_writes_survive_a_power_cut_with_quick_repair() {
    survives_every_cut(&RedbOptions::new().quick_repair(true), 0);
}

#[test]
fn acknowledged_writes_survive_a_power_cut_with_a_journal() {
    survives_every_cut(&RedbOptions::new().journal(true), 0);
}

/// The journal is full after four records, so that it is begun anew, over what stands there.
#[test]
fn acknowledged_writes_survive_a_power_cut_at_checkpoints() {
    let fourth = JOURNAL_BYTES_MAX / 4 - 20_000;
    assert!(fourth + 20_000 <= JOURNAL_RECORD_BYTES_MAX, "otherwise each is a checkpoint");
    survives_every_cut(&RedbOptions::new().quick_repair(true).journal(true), fourth);
}

/// The disk fails for a moment in the middle of a commit: the store says so, and goes on when it works again. Whether the
/// write is there as a whole or not at all shows only then.
fn goes_on_after_a_failed_commit(options: &RedbOptions) {
    // Without a journal the second is as the third.
    let begin = |store: &RedbStore| (1..=2).try_for_each(|number| store.write_with(|tx| step(tx, number)));
    let whole = CutFiles::new();
    let store = whole.open(options.clone()).unwrap();
    begin(&store).unwrap();
    let before = whole.operations();
    store.write_with(|tx| step(tx, 3)).unwrap();
    let operations = whole.operations() - before;
    assert!(operations > 1);
    for (left, forgetful) in (0..operations).flat_map(|left| [(left, false), (left, true)]) {
        let files = CutFiles::new();
        files.set_forgetful(forgetful);
        let store = files.open(options.clone()).unwrap();
        begin(&store).unwrap();
        files.cut_after(left);
        let error = store.write_with(|tx| step(tx, 3)).unwrap_err();
        assert!(matches!(error, StoreError::Io(_)), "{error}");
        assert_eq!(check(&store), 2, "it can be read all the same, without what may be lost");
        assert!(store.write_with(|tx| step(tx, 3)).is_err(), "the power is still off");
        let seen = check(&store);
        assert_eq!(seen, 2, "it can be read all the same, without what may be lost");
        files.cut_after(usize::MAX);
        store.write_with(|tx| step(tx, seen + 1)).unwrap();
        assert_eq!(check(&store), seen + 1);
        let killed = files.images(Kept::None, &mut Chance::new(1));
        drop(store);
        let closed = files.images(Kept::None, &mut Chance::new(1));
        for images in [killed, closed] {
            let store = CutFiles::from_images(images).open(options.clone()).unwrap();
            assert_eq!(check(&store), seen + 1, "what was acknowledged then is on the disk, {left} operations before");
        }
    }
}

#[test]
fn failed_commit_is_whole_or_absent_and_the_next_write_goes_on() {
    goes_on_after_a_failed_commit(&RedbOptions::new());
}

#[test]
fn failed_commit_into_a_journal_is_whole_or_absent_and_the_next_write_goes_on() {
    goes_on_after_a_failed_commit(&RedbOptions::new().journal(true));
    goes_on_after_a_failed_commit(&RedbOptions::new().quick_repair(true).journal(true));
}
