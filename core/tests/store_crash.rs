//! Power is cut at every single I/O operation of a store's life: its making, its commits, its closing.
//!
//! A disk that loses power keeps what was synced, and of the rest any selection of sectors, in any order. So each cut is
//! tried with several such selections, and half of them with a second cut during the recovery. What must hold: the store
//! opens, everything acknowledged is there, nothing is there by half, and it can be written again.
#![cfg(feature = "redb")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;
use rejoin::store::{RedbOptions, RedbStore, Store, StoreError, StoreExt, Table, WriteTx};

const SECTOR_BYTES: usize = 512;
const COMMITS: u64 = 6;

/// An operation that has not been synced.
#[derive(Debug, Clone)]
enum Pending {
    Length(usize),
    Write { at: usize, bytes: Vec<u8> },
}

#[derive(Debug, Default)]
struct State {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
    /// How many operations the power lasts for.
    operations_left: usize,
    /// A sync that fails drops what it should have brought to the disk, as operating systems do: they go on showing it,
    /// and the next sync knows nothing of it.
    forgetful: bool,
}

/// A disk in memory whose power can be cut.
#[derive(Debug, Clone)]
struct Disk(Arc<Mutex<State>>);

impl Disk {
    fn new(bytes: Vec<u8>, operations_left: usize) -> Self {
        let (live, durable) = (bytes.clone(), bytes);
        Self(Arc::new(Mutex::new(State { live, durable, pending: Vec::new(), operations_left, forgetful: false })))
    }

    fn operate(&self, operate: impl FnOnce(&mut State)) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.operations_left = state.operations_left.checked_sub(1).ok_or(io::Error::other("the power is cut"))?;
        operate(&mut state);
        Ok(())
    }

    fn operations_left(&self) -> usize {
        self.0.lock().unwrap().operations_left
    }

    /// What may be found on the disk when the power is back.
    fn image(&self, kept: Kept, chance: &mut Chance) -> Vec<u8> {
        let state = self.0.lock().unwrap();
        let mut image = state.durable.clone();
        let last = state.pending.len().saturating_sub(1);
        for (number, pending) in state.pending.iter().enumerate() {
            match pending {
                Pending::Length(length) => {
                    if kept != Kept::None && (kept != Kept::Some || chance.coin()) {
                        image.resize(*length, 0);
                    }
                }
                Pending::Write { at, bytes } => {
                    let mut at = *at;
                    for sector in bytes.chunks(SECTOR_BYTES) {
                        let keep = match kept {
                            Kept::None => false,
                            Kept::All => true,
                            Kept::Some => chance.coin(),
                            Kept::HeaderOnly => at < SECTOR_BYTES,
                            Kept::AllButHeader => at >= SECTOR_BYTES,
                            Kept::LastTorn => number < last || chance.coin(),
                        };
                        if keep {
                            write_at(&mut image, at, sector);
                        }
                        at += sector.len();
                    }
                }
            }
        }
        image
    }
}

fn write_at(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[at..end].copy_from_slice(bytes);
}

/// Which of the operations that were not synced reached the disk.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kept {
    None,
    All,
    Some,
    HeaderOnly,
    AllButHeader,
    LastTorn,
}

const KEPT: [Kept; 7] =
    [Kept::None, Kept::All, Kept::Some, Kept::Some, Kept::HeaderOnly, Kept::AllButHeader, Kept::LastTorn];

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        let found = state.live.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap();
        self.operate(|state| {
            state.live.resize(len, 0);
            state.pending.push(Pending::Length(len));
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.forgetful && state.operations_left == 0 {
            state.pending.clear();
        }
        drop(state);
        self.operate(|state| {
            for pending in std::mem::take(&mut state.pending) {
                match pending {
                    Pending::Length(length) => state.durable.resize(length, 0),
                    Pending::Write { at, bytes } => write_at(&mut state.durable, at, &bytes),
                }
            }
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.operate(|state| {
            write_at(&mut state.live, at, data);
            state.pending.push(Pending::Write { at, bytes: data.to_vec() });
        })
    }
}

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 0
    }
}

/// What the transaction of this number does: it touches several tables and takes back a part of the one before.
fn step(tx: &mut dyn WriteTx, number: u64) -> Result<(), StoreError> {
    let size = usize::try_from(number * 1_500).unwrap();
    tx.put(Table::Document, b"count", &number.to_be_bytes())?;
    tx.put(Table::Change, &number.to_be_bytes(), &vec![number.to_be_bytes()[7]; size])?;
    tx.put(Table::Outbox, &number.to_be_bytes(), b"")?;
    tx.delete(Table::Outbox, &(number - 1).to_be_bytes())
}

/// Opens a store and writes to it until the power fails. Returns how many commits were acknowledged.
fn live(disk: &Disk, options: &RedbOptions) -> u64 {
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
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    let whole = Disk::new(Vec::new(), usize::MAX);
    assert_eq!(live(&whole, options), COMMITS);
    let operations = usize::MAX - whole.operations_left();
    for cut in 0..operations {
        let disk = Disk::new(Vec::new(), cut);
        let acknowledged = live(&disk, options);
        for kept in KEPT {
            let mut image = disk.image(kept, &mut chance);
            let mut acknowledged = acknowledged;
            if chance.coin() {
                let again = Disk::new(image, usize::try_from(chance.next() % 24).unwrap());
                acknowledged = acknowledged.max(live(&again, options));
                image = again.image(kept, &mut chance);
            }
            let store = RedbStore::open_backend(Disk::new(image, usize::MAX), options.clone())
                .unwrap_or_else(|error| unreachable!("cut at {cut}, kept {kept:?}: {error}"));
            let found = check(&store);
            assert!(found >= acknowledged, "cut at {cut}, kept {kept:?}: {found} of {acknowledged} commits");
            store.write_with(|tx| step(tx, found + 1)).unwrap();
            assert_eq!(check(&store), found + 1);
        }
    }
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
    let whole = Disk::new(Vec::new(), usize::MAX);
    let store = RedbStore::open_backend(whole.clone(), RedbOptions::new()).unwrap();
    store.write_with(|tx| step(tx, 1)).unwrap();
    let before = whole.operations_left();
    store.write_with(|tx| step(tx, 2)).unwrap();
    let operations = before - whole.operations_left();
    assert!(operations > 3);
    for (left, forgetful) in (0..operations).flat_map(|left| [(left, false), (left, true)]) {
        let disk = Disk::new(Vec::new(), usize::MAX);
        disk.0.lock().unwrap().forgetful = forgetful;
        let store = RedbStore::open_backend(disk.clone(), RedbOptions::new()).unwrap();
        store.write_with(|tx| step(tx, 1)).unwrap();
        disk.0.lock().unwrap().operations_left = left;
        let error = store.write_with(|tx| step(tx, 2)).unwrap_err();
        assert!(matches!(error, StoreError::Io(_)), "{error}");
        assert!(store.write_with(|tx| step(tx, 2)).is_err(), "the power is still off");
        let seen = check(&store);
        assert!([1, 2].contains(&seen), "it can be read all the same");
        disk.0.lock().unwrap().operations_left = usize::MAX;
        store.write_with(|tx| step(tx, seen + 1)).unwrap();
        assert_eq!(check(&store), seen + 1);
        drop(store);
        let image = disk.image(Kept::None, &mut Chance(1));
        let store = RedbStore::open_backend(Disk::new(image, usize::MAX), RedbOptions::new()).unwrap();
        assert_eq!(check(&store), seen + 1, "what was acknowledged then is on the disk, {left} operations before");
    }
}
