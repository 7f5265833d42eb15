//! Field writes, field reads and received changes, against Automerge doing the same. Prints a table of medians and ratios.
//!
//! Ours and theirs alternate sample by sample, so that a noisy machine is noisy to both. No flush is counted: all writes
//! of a sample share one transaction.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints what it measured and fails by panicking"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use automerge::transaction::Transactable;
use automerge::{ActorId, Automerge, AutomergeError, Change, ROOT, ReadDoc};
use rejoin::engine::{self, Origin};
use rejoin::fields::{self, Author, Edit, ObjectId};
use rejoin::gate::CheckedChange;
use rejoin::ledger;
use rejoin::store::{MemoryStore, RedbOptions, RedbStore, Store, StoreExt};
use rejoin::{DocumentId, Value};

const DOCUMENT: DocumentId = DocumentId::from_bytes([5; 16]);
const SAMPLES: usize = 15;
/// Writes of one sample.
const WRITES: i64 = 1_000;
/// Fields of the stored document.
const FIELDS: i64 = 1_000;
/// Changes of the history that a read does not care about.
const HISTORY: i64 = 10_000;

fn main() {
    println!("| work | ours, median µs | Automerge, median µs | Automerge / ours |");
    println!("|---|---|---|---|");
    let folder = tempfile::tempdir().unwrap();
    let redb = RedbStore::open(folder.path().join("bench.redb"), RedbOptions::new()).unwrap();
    let redb: Arc<dyn Store> = Arc::new(redb);
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    for (name, store) in [("redb", &redb), ("memory", &memory)] {
        set_a_field(name, store.as_ref());
    }
    read_a_field(&redb);
    accept_a_change(redb.as_ref());
}

/// Runs two works in turn and prints their medians, each divided by how often it did the thing.
fn compare(work: &str, times: i64, mut ours: impl FnMut(usize) -> Duration, mut theirs: impl FnMut(usize) -> Duration) {
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    for sample in 0..SAMPLES {
        our_times.push(ours(sample));
        their_times.push(theirs(sample));
    }
    let median = |times_taken: &mut Vec<Duration>| {
        times_taken.sort_unstable();
        times_taken[SAMPLES / 2].as_secs_f64() * 1e6 / f64::from(i32::try_from(times).unwrap())
    };
    let (ours, theirs) = (median(&mut our_times), median(&mut their_times));
    println!("| {work} | {ours:.2} | {theirs:.2} | {:.1} |", theirs / ours);
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    black_box(work());
    start.elapsed()
}

fn key(number: i64) -> String {
    format!("field {}", number % FIELDS)
}

/// A document of 1,000 fields, made in one change.
fn fill(store: &dyn Store, document: DocumentId, actor: &ActorId) {
    let edits: Vec<Edit> = (0..FIELDS).map(|number| Edit::set(key(number), Value::from(number))).collect();
    let author = Author { actor, time_seconds: 0, message: None };
    let written = store.write_with(|tx| {
        ledger::create(tx, &document)?;
        fields::write(tx, &document, &author, &edits)
    });
    written.unwrap().unwrap().unwrap();
}

fn automerge_with_fields() -> Automerge {
    let mut automerge = Automerge::new();
    let fill = |tx: &mut automerge::transaction::Transaction<'_>| {
        (0..FIELDS).try_for_each(|number| tx.put(ROOT, key(number), number))
    };
    automerge.transact::<_, _, AutomergeError>(fill).unwrap();
    automerge
}

fn set_a_field(name: &str, store: &dyn Store) {
    let actor = ActorId::from(&[1; 16]);
    fill(store, DOCUMENT, &actor);
    let mut automerge = automerge_with_fields();
    let author = Author { actor: &actor, time_seconds: 0, message: None };
    let ours = |sample: usize| {
        let base = i64::try_from(sample).unwrap() * WRITES + FIELDS;
        let mut taken = Duration::ZERO;
        let write = |tx: &mut dyn rejoin::store::WriteTx| {
            taken = timed(|| {
                for number in 0..WRITES {
                    let edit = [Edit::set(key(number), Value::from(base + number))];
                    fields::write(tx, &DOCUMENT, &author, &edit).unwrap().unwrap();
                }
            });
            Ok(())
        };
        store.write_with(write).unwrap();
        taken
    };
    let theirs = |sample: usize| {
        let base = i64::try_from(sample).unwrap() * WRITES + FIELDS;
        timed(|| {
            for number in 0..WRITES {
                let put = |tx: &mut automerge::transaction::Transaction<'_>| tx.put(ROOT, key(number), base + number);
                automerge.transact::<_, _, AutomergeError>(put).unwrap();
            }
        })
    };
    compare(
        &format!("set one field of a stored document of 1,000 ({name}; no flush) / put + commit on a loaded one"),
        WRITES,
        ours,
        theirs,
    );
}

fn read_a_field(store: &Arc<dyn Store>) {
    let document = DocumentId::from_bytes([6; 16]);
    let mut automerge = Automerge::new();
    for number in 0..HISTORY {
        let put =
            |tx: &mut automerge::transaction::Transaction<'_>| tx.put(ROOT, format!("field {}", number % 10), number);
        automerge.transact::<_, _, AutomergeError>(put).unwrap();
    }
    let changes = automerge.get_changes(&[]);
    let changes = changes.iter().map(|change| CheckedChange::parse(change.raw_bytes()).unwrap()).collect();
    let accepted = store.write_with(|tx| engine::accept(tx, document, changes, Origin::Remote)).unwrap();
    assert_eq!(i64::try_from(accepted.stored).unwrap(), HISTORY);
    let saved = automerge.save();
    let ours = |_| {
        timed(|| {
            for _ in 0..100 {
                let tx = store.read().unwrap();
                black_box(fields::get(tx.as_ref(), &document, &ObjectId::Root, "field 3").unwrap().unwrap());
            }
        }) / 100
    };
    let theirs = |_| {
        timed(|| Automerge::load(&saved).unwrap().get(ROOT, "field 3").unwrap().map(|(value, _)| value.into_owned()))
    };
    compare("read one field of a stored document, 10,000 changes of history / load + get", 1, ours, theirs);
}

fn accept_a_change(store: &dyn Store) {
    let mut author = automerge_with_fields();
    let base = author.get_changes(&[]);
    let rounds: Vec<Vec<Vec<u8>>> = (0..SAMPLES)
        .map(|sample| {
            let before = author.get_heads();
            for number in 0..WRITES {
                let value = i64::try_from(sample).unwrap() * WRITES + number + FIELDS;
                let put = |tx: &mut automerge::transaction::Transaction<'_>| tx.put(ROOT, key(number), value);
                author.transact::<_, _, AutomergeError>(put).unwrap();
            }
            author.get_changes(&before).iter().map(|change| change.raw_bytes().to_vec()).collect()
        })
        .collect();
    let document = DocumentId::from_bytes([7; 16]);
    let first = base.iter().map(|change| CheckedChange::parse(change.raw_bytes()).unwrap()).collect();
    store.write_with(|tx| engine::accept(tx, document, first, Origin::Remote)).unwrap();
    let mut receiver = Automerge::new();
    receiver.apply_changes(base).unwrap();
    let ours = |sample: usize| {
        let mut taken = Duration::ZERO;
        let accept = |tx: &mut dyn rejoin::store::WriteTx| {
            taken = timed(|| {
                // One call each: as they come from a network, not as a batch.
                for bytes in &rounds[sample] {
                    let change = CheckedChange::parse(bytes).unwrap();
                    engine::accept(tx, document, vec![change], Origin::Remote).unwrap();
                }
            });
            Ok(())
        };
        store.write_with(accept).unwrap();
        taken
    };
    let theirs = |sample: usize| {
        timed(|| {
            for bytes in &rounds[sample] {
                let change = Change::from_bytes(bytes.clone()).unwrap();
                receiver.apply_changes([change]).unwrap();
            }
        })
    };
    compare(
        "accept one received change: gate + ledger + registers (redb; no flush) / apply_changes",
        WRITES,
        ours,
        theirs,
    );
}
