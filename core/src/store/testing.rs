//! The conformance suite: what proves that a store keeps the laws.
//!
//! Call [`run`] from a test with a way to make an empty store, and [`run_durable`] with a way to open the same one again.
//! Both panic with the law's name when it is broken. The randomised parts are seeded, so a failure repeats.
//!
//! ```
//! use rejoin::store::{MemoryStore, testing};
//!
//! testing::run(MemoryStore::new);
//! ```
#![expect(clippy::unwrap_used, reason = "this is test code, for the tests of other crates too")]

#[cfg(feature = "redb")]
pub mod disk;
mod model;
#[cfg(test)]
mod tests;

use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

#[cfg(feature = "redb")]
pub use disk::{FailingDisk, Failure};

use super::{FORMAT_KEY, FORMAT_VERSION, ReadTx, Store, StoreError, StoreExt, Table, WriteTx, storage_id};
use crate::limits::CHANGE_BYTES_MAX;

/// How many writes the concurrent part makes while others read.
const CONCURRENT_WRITES: u64 = 100;

/// How many seeds the model test runs.
const MODEL_SEEDS: u64 = 4;

/// Checks every law but durability, as far as the target has threads and panics that unwind. Takes a few seconds on a
/// disk.
///
/// # Panics
///
/// If the store breaks a law.
pub fn run<S: Store>(make: impl Fn() -> S) {
    new_store_holds_its_format_and_nothing_else(&make());
    storage_id_is_given_once(&make());
    committed_write_is_visible(&make());
    failed_write_leaves_nothing(&make());
    // Where a panic ends the program there is nothing left to look at.
    if cfg!(panic = "unwind") {
        panicking_write_leaves_nothing(&make());
    }
    write_returns_what_its_work_returned(&make());
    reader_sees_one_state_for_life(&make());
    writer_sees_its_own_writes(&make());
    scan_keeps_order_and_bounds(&make());
    scan_stops_when_told(&make());
    delete_range_keeps_bounds(&make());
    tables_are_separate(&make());
    any_length_comes_back(&make());
    any_byte_comes_back(&make());
    // A browser's worker is alone with its memory.
    if cfg!(not(target_family = "wasm")) {
        readers_never_see_half_a_write(make());
        writers_take_turns(make());
    }
    for seed in 1..=MODEL_SEEDS {
        model::agrees_with_a_map(&make(), seed);
    }
}

/// Checks durability, as far as a process can without pulling the plug. `reopen` opens the same store each time; the one
/// before it has been dropped by then.
///
/// # Panics
///
/// If the store forgets what was committed, or remembers what was not.
pub fn run_durable<S: Store>(mut reopen: impl FnMut() -> S) {
    let store = reopen();
    let id = storage_id(&store, [1; 16]).unwrap();
    store.write_with(|tx| tx.put(Table::Change, b"kept", b"one")).unwrap();
    let refused = store.write_with(|tx| {
        tx.put(Table::Change, b"rolled back", b"two")?;
        tx.delete(Table::Change, b"kept")?;
        Err::<(), _>(refusal())
    });
    assert!(refused.is_err(), "law 1: an Err of the work is returned");
    drop(store);

    let store = reopen();
    assert_eq!(
        all(&*store.read().unwrap(), Table::Change),
        [pair(b"kept", b"one")],
        "law 2: commits outlive the process"
    );
    assert_eq!(storage_id(&store, [2; 16]).unwrap(), id, "law 2: the storage id outlives the process");
    let big = vec![0xab; CHANGE_BYTES_MAX];
    for round in 0..20_u64 {
        store.write_with(|tx| tx.put(Table::Node, &round.to_be_bytes(), &big[..1 << round])).unwrap();
    }
    store.write_with(|tx| tx.put(Table::Snapshot, b"big", &big)).unwrap();
    drop(store);

    let store = reopen();
    let read = store.read().unwrap();
    for round in 0..20_u64 {
        let found = read.get(Table::Node, &round.to_be_bytes()).unwrap();
        assert_eq!(
            found.as_deref(),
            Some(&big[..1 << round]),
            "law 2: a value of 2^{round} bytes outlives the process"
        );
    }
    assert!(read.get(Table::Snapshot, b"big").unwrap().as_deref() == Some(&big[..]), "law 2: the largest value too");
    drop(read);
    store.write_with(|tx| tx.delete_range(Table::Node, &[]..&[0xff])).unwrap();
    drop(store);

    let store = reopen();
    assert_eq!(count(&*store.read().unwrap(), Table::Node), 0, "law 2: deletes outlive the process");
    drop(store);
    for seed in 1..=MODEL_SEEDS {
        model::survives_reopening(&mut reopen, seed);
    }
}

fn new_store_holds_its_format_and_nothing_else(store: &impl Store) {
    let read = store.read().unwrap();
    for table in Table::ALL {
        let expected =
            if table == Table::Meta { vec![pair(FORMAT_KEY, &FORMAT_VERSION.to_le_bytes())] } else { vec![] };
        assert_eq!(all(&*read, table), expected, "a new store's {}", table.name());
        assert_eq!(read.get(table, b"nothing").unwrap(), None);
        assert!(!read.contains(table, b"nothing").unwrap());
    }
}

fn storage_id_is_given_once(store: &impl Store) {
    let first = storage_id(store, [1; 16]).unwrap();
    assert_eq!(storage_id(store, [2; 16]).unwrap(), first, "a storage id stays");
    store.write_with(|tx| tx.put(Table::Meta, b"storage-id", b"short")).unwrap();
    assert!(matches!(storage_id(store, [3; 16]), Err(StoreError::Damaged { .. })), "a short storage id is damage");
}

fn committed_write_is_visible(store: &impl Store) {
    let before = store.read().unwrap();
    store
        .write_with(|tx| {
            for table in Table::ALL {
                tx.put(table, b"key", table.name().as_bytes())?;
            }
            Ok(())
        })
        .unwrap();
    let after = store.read().unwrap();
    for table in Table::ALL {
        assert_eq!(before.get(table, b"key").unwrap(), None, "law 3: {}", table.name());
        assert_eq!(
            after.get(table, b"key").unwrap().as_deref(),
            Some(table.name().as_bytes()),
            "law 1: {}",
            table.name()
        );
        assert!(after.contains(table, b"key").unwrap(), "law 1: {}", table.name());
    }
}

fn failed_write_leaves_nothing(store: &impl Store) {
    store.write_with(|tx| tx.put(Table::Register, b"kept", b"old")).unwrap();
    let outcome = store.write_with(|tx| {
        tx.put(Table::Register, b"kept", b"new")?;
        tx.put(Table::Register, b"added", b"new")?;
        tx.put(Table::Object, b"elsewhere", b"new")?;
        tx.delete_range(Table::Meta, b"a"..b"z")?;
        Err::<(), _>(refusal())
    });
    assert!(
        matches!(outcome, Err(StoreError::Engine(text)) if text == "refused"),
        "law 1: the work's own error comes back"
    );
    let read = store.read().unwrap();
    assert_eq!(all(&*read, Table::Register), [pair(b"kept", b"old")], "law 1: nothing of a failed write remains");
    assert_eq!(count(&*read, Table::Object), 0, "law 1: nothing of a failed write remains");
    assert!(read.contains(Table::Meta, FORMAT_KEY).unwrap(), "law 1: nothing of a failed write remains");
}

fn panicking_write_leaves_nothing(store: &impl Store) {
    let hook = std::panic::AssertUnwindSafe(|| {
        store.write_with(|tx| {
            tx.put(Table::Register, b"key", b"value")?;
            // Unwinds without the message that a panic would print into the test's output.
            std::panic::resume_unwind(Box::new("the work gave up"));
            #[expect(unreachable_code, reason = "it gives the closure its type")]
            Ok(())
        })
    });
    assert!(std::panic::catch_unwind(hook).is_err(), "law 1: a panic of the work is passed on");
    assert_eq!(count(&*store.read().unwrap(), Table::Register), 0, "law 1: nothing of a panicked write remains");
    store.write_with(|tx| tx.put(Table::Register, b"next", b"value")).unwrap();
    assert_eq!(count(&*store.read().unwrap(), Table::Register), 1, "law 6: the next writer has its turn");
}

fn write_returns_what_its_work_returned(store: &impl Store) {
    assert_eq!(store.write_with(|_| Ok(7)).unwrap(), 7);
    let store: &dyn Store = store;
    assert_eq!(store.write_with(|tx| tx.get(Table::Node, b"none")).unwrap(), None, "the object-safe form works alike");
}

fn reader_sees_one_state_for_life(store: &impl Store) {
    let key = b"key".as_slice();
    let mut readers = Vec::new();
    for generation in 0..10_u8 {
        store
            .write_with(|tx| {
                tx.put(Table::Document, key, &[generation])?;
                tx.put(Table::Document, &[generation], b"")
            })
            .unwrap();
        readers.push(store.read().unwrap());
    }
    store.write_with(|tx| tx.delete_range(Table::Document, &[]..&[0xff])).unwrap();
    for (generation, read) in (0_u8..).zip(&readers) {
        assert_eq!(read.get(Table::Document, key).unwrap(), Some(vec![generation]), "law 3: get");
        assert_eq!(count(&**read, Table::Document), usize::from(generation) + 2, "law 3: scan");
    }
    assert_eq!(count(&*store.read().unwrap(), Table::Document), 0, "law 1: a new reader sees the newest state");
}

fn writer_sees_its_own_writes(store: &impl Store) {
    store.write_with(|tx| put_keys(tx, &[b"a", b"c", b"e"])).unwrap();
    store
        .write_with(|tx| {
            tx.put(Table::Hash, b"b", b"new")?;
            tx.put(Table::Hash, b"c", b"changed")?;
            tx.delete(Table::Hash, b"e")?;
            tx.delete(Table::Hash, b"never there")?;
            assert_eq!(tx.get(Table::Hash, b"c")?.as_deref(), Some(&b"changed"[..]), "law 4: get");
            assert!(tx.contains(Table::Hash, b"b")? && !tx.contains(Table::Hash, b"e")?, "law 4: contains");
            let expected = [pair(b"a", b"a"), pair(b"b", b"new"), pair(b"c", b"changed")];
            assert_eq!(all(tx, Table::Hash), expected, "law 4: scan");
            tx.delete_range(Table::Hash, b"b"..b"c")?;
            assert_eq!(all(tx, Table::Hash), [pair(b"a", b"a"), pair(b"c", b"changed")], "law 4: delete_range");
            tx.put(Table::Hash, b"b", b"again")?;
            assert_eq!(tx.get(Table::Hash, b"b")?.as_deref(), Some(&b"again"[..]), "law 4: put after delete_range");
            let outside = store.read()?;
            assert!(!outside.contains(Table::Hash, b"b")?, "law 3: nobody sees a write before its commit");
            assert!(outside.contains(Table::Hash, b"e")?, "law 3: nobody sees a delete before its commit");
            Ok(())
        })
        .unwrap();
    let expected = [pair(b"a", b"a"), pair(b"b", b"again"), pair(b"c", b"changed")];
    assert_eq!(all(&*store.read().unwrap(), Table::Hash), expected, "law 1");
}

/// The keys that order, prefixes and bounds can go wrong with, in ascending byte order.
const KEYS: [&[u8]; 9] = [b"\x00", b"\x00\x00", b"\x00\xff", b"a", b"a\x00", b"aa", b"b", b"\xff", b"\xff\xff"];

/// Bounds that hit keys, miss them, hold nothing, or are the wrong way round.
const RANGES: [Range<&[u8]>; 10] = [
    b""..b"\xff\xff\xff",
    b""..b"\x00",
    b"\x00"..b"\x00\x00",
    b"a"..b"b",
    b"a\x00"..b"a\x01",
    b"aaa"..b"az",
    b"b"..b"b",
    b"b"..b"a",
    b"\xff\xff\xff"..b"",
    b"\xff"..b"\xff\xff\xff",
];

fn expected_in(range: &Range<&[u8]>) -> Vec<(Vec<u8>, Vec<u8>)> {
    KEYS.iter().filter(|key| range.contains(*key)).map(|key| pair(key, key)).collect()
}

fn scan_keeps_order_and_bounds(store: &impl Store) {
    store
        .write_with(|tx| {
            // Put in an order that is not theirs.
            let (odd, even): (Vec<&[u8]>, Vec<&[u8]>) = KEYS.iter().partition(|key| key.len() % 2 == 1);
            put_keys(tx, &even)?;
            put_keys(tx, &odd.into_iter().rev().collect::<Vec<_>>())?;
            for range in RANGES {
                assert_eq!(
                    collect(tx, Table::Hash, range.clone()),
                    expected_in(&range),
                    "law 5, own writes: {range:?}"
                );
            }
            Ok(())
        })
        .unwrap();
    let read = store.read().unwrap();
    for range in RANGES {
        assert_eq!(collect(&*read, Table::Hash, range.clone()), expected_in(&range), "law 5: {range:?}");
    }
}

fn scan_stops_when_told(store: &impl Store) {
    store.write_with(|tx| put_keys(tx, &KEYS)).unwrap();
    let check = |tx: &dyn ReadTx| {
        for stop_after in 1..=KEYS.len() {
            let mut seen = 0;
            tx.scan(Table::Hash, b""..b"\xff\xff\xff", &mut |_, _| {
                seen += 1;
                if seen == stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap();
            assert_eq!(seen, stop_after, "law 5: a scan stops when told");
        }
    };
    check(&*store.read().unwrap());
    store
        .write_with(|tx| {
            tx.delete(Table::Hash, KEYS[0])?;
            tx.put(Table::Hash, KEYS[0], b"again")?;
            check(tx);
            Ok(())
        })
        .unwrap();
}

fn delete_range_keeps_bounds(store: &impl Store) {
    for range in RANGES {
        store.write_with(|tx| put_keys(tx, &KEYS)).unwrap();
        store.write_with(|tx| tx.delete_range(Table::Hash, range.clone())).unwrap();
        let mut expected: Vec<_> = KEYS.iter().map(|key| pair(key, key)).collect();
        expected.retain(|(key, _)| !range.contains(&key.as_slice()));
        assert_eq!(all(&*store.read().unwrap(), Table::Hash), expected, "delete_range {range:?}");
    }
}

fn tables_are_separate(store: &impl Store) {
    store.write_with(|tx| Table::ALL.iter().try_for_each(|table| tx.put(*table, b"key", &[1]))).unwrap();
    for table in Table::ALL {
        store.write_with(|tx| tx.delete(table, b"key")).unwrap();
        let read = store.read().unwrap();
        for other in Table::ALL {
            assert_eq!(read.contains(other, b"key").unwrap(), other > table, "a delete touches its own table only");
        }
    }
}

fn any_length_comes_back(store: &impl Store) {
    let lengths = [0, 1, 2, 255, 256, 4_095, 4_096, 4_097, 65_535, 65_536, 1 << 20, CHANGE_BYTES_MAX];
    let value: Vec<u8> = (0..CHANGE_BYTES_MAX).map(|at| at.to_le_bytes()[at % 3]).collect();
    for length in lengths {
        let key = [b"k".as_slice(), &length.to_be_bytes()].concat();
        store.write_with(|tx| tx.put(Table::Change, &key, &value[..length])).unwrap();
    }
    for length in [1, 2, 300, 5_000, 70_000] {
        store.write_with(|tx| tx.put(Table::Register, &value[..length], b"long key")).unwrap();
    }
    let read = store.read().unwrap();
    for length in lengths {
        let key = [b"k".as_slice(), &length.to_be_bytes()].concat();
        let found = read.get(Table::Change, &key).unwrap();
        assert!(found.as_deref() == Some(&value[..length]), "law 7: a value of {length} bytes");
    }
    for length in [1, 2, 300, 5_000, 70_000] {
        assert!(read.contains(Table::Register, &value[..length]).unwrap(), "law 7: a key of {length} bytes");
    }
    assert_eq!(count(&*read, Table::Register), 5, "law 7: keys that are prefixes of each other");
    drop(read);
    store.write_with(|tx| tx.put(Table::Change, b"k", b"")).unwrap();
    let read = store.read().unwrap();
    assert_eq!(read.get(Table::Change, b"k").unwrap(), Some(Vec::new()), "law 7: empty is not absent");
}

fn any_byte_comes_back(store: &impl Store) {
    let bytes: Vec<u8> = (0..=255).collect();
    store.write_with(|tx| bytes.iter().rev().try_for_each(|byte| tx.put(Table::Node, &[*byte], &[*byte, 0]))).unwrap();
    let expected: Vec<_> = bytes.iter().map(|byte| pair(&[*byte], &[*byte, 0])).collect();
    assert_eq!(collect(&*store.read().unwrap(), Table::Node, b""..b"\xff\x00"), expected, "law 7: every byte");
}

/// One thread moves a token from key to key, others look: there is always exactly one.
fn readers_never_see_half_a_write(store: impl Store) {
    let store = Arc::new(store);
    store.write_with(|tx| tx.put(Table::Outbox, &0_u64.to_be_bytes(), b"token")).unwrap();
    let (done, start) = (AtomicBool::new(false), Barrier::new(4));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                start.wait();
                let mut newest = 0;
                while !done.load(Ordering::Relaxed) {
                    let read = store.read().unwrap();
                    let found = all(&*read, Table::Outbox);
                    assert_eq!(found.len(), 1, "law 3: a reader sees a write whole or not at all");
                    assert_eq!(all(&*read, Table::Outbox), found, "law 3: a reader sees one state for life");
                    let at = u64::from_be_bytes(found[0].0.clone().try_into().unwrap());
                    assert!(at >= newest, "law 1: time does not run backwards");
                    newest = at;
                }
            });
        }
        start.wait();
        for at in 0..CONCURRENT_WRITES {
            let moved = store.write_with(|tx| {
                tx.delete(Table::Outbox, &at.to_be_bytes())?;
                tx.put(Table::Outbox, &(at + 1).to_be_bytes(), b"token")
            });
            moved.unwrap();
            let seen = store.read().unwrap().contains(Table::Outbox, &(at + 1).to_be_bytes()).unwrap();
            assert!(seen, "law 1: a committed write is visible to the next reader");
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Four threads count up one number: no step is lost.
fn writers_take_turns(store: impl Store) {
    let each = CONCURRENT_WRITES / 4;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..each {
                    store.write_with(|tx| increment(tx)).unwrap();
                }
            });
        }
    });
    let found = store.read().unwrap().get(Table::Actor, b"count").unwrap().unwrap();
    assert_eq!(u64::from_le_bytes(found.try_into().unwrap()), each * 4, "law 6: one writer at a time");
}

fn increment(tx: &mut dyn WriteTx) -> Result<(), StoreError> {
    let count = tx.get(Table::Actor, b"count")?.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
    tx.put(Table::Actor, b"count", &(count + 1).to_le_bytes())
}

fn put_keys(tx: &mut dyn WriteTx, keys: &[&[u8]]) -> Result<(), StoreError> {
    keys.iter().try_for_each(|key| tx.put(Table::Hash, key, key))
}

fn pair(key: &[u8], value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (key.to_vec(), value.to_vec())
}

fn collect(tx: &(impl ReadTx + ?Sized), table: Table, range: Range<&[u8]>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    tx.scan(table, range, &mut |key, value| {
        found.push(pair(key, value));
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

fn all(tx: &(impl ReadTx + ?Sized), table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    // Above every key of the suite: none begins with this many.
    collect(tx, table, &[]..&[0xff; 32])
}

fn count(tx: &(impl ReadTx + ?Sized), table: Table) -> usize {
    all(tx, table).len()
}

fn refusal() -> StoreError {
    StoreError::Engine("refused".to_owned())
}
