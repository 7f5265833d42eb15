//! Opening a store, by how many documents it holds. Prints medians, and how much longer the large one takes.
//!
//! The stores are as a relay has them (quick repair on). One is opened after a close in good order and one as a killed
//! process leaves it: a copy of the file, taken while the store was open.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints what it measured and fails by panicking"
)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rejoin::gate::{Action, ChangeDraft, DraftObject, DraftOp, encode};
use rejoin::ledger::{self, Appender};
use rejoin::store::{RedbOptions, RedbStore, Store, StoreExt};
use rejoin::{ActorId, DocumentId, ScalarValue};

const SAMPLES: usize = 15;
const FEW: u32 = 100;
const MANY: u32 = 100_000;
/// Documents made in one transaction.
const BATCH: u32 = 5_000;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let stores = [FEW, MANY].map(|count| fill(folder.path(), count));
    println!("| opened after | {FEW} documents | {MANY} documents | ratio |");
    println!("|---|---|---|---|");
    for (name, which) in [("a close in good order", 0), ("a killed process", 1)] {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..SAMPLES {
            for (store, times) in stores.iter().zip(&mut times) {
                times.push(open(&store[which], folder.path()));
            }
        }
        let [few, many] = times.map(|mut times| {
            times.sort_unstable_by(f64::total_cmp);
            times[SAMPLES / 2]
        });
        println!("| {name} | {few:.2} ms | {many:.2} ms | {:.2} |", many / few);
    }
}

fn options() -> RedbOptions {
    RedbOptions::new().quick_repair(true)
}

/// Makes a store with so many documents of one change; returns the files of one that was closed and one that was not.
fn fill(folder: &Path, count: u32) -> [PathBuf; 2] {
    let [closed, killed] = ["closed", "killed"].map(|name| folder.join(format!("{name}-{count}.redb")));
    let store = RedbStore::open(&closed, options()).unwrap();
    for start in (0..count).step_by(BATCH as usize) {
        store
            .write_with(|tx| {
                for number in start..(start + BATCH).min(count) {
                    let mut appender = Appender::begin(tx, document(number))?;
                    appender.append(tx, &change(number))?;
                    appender.finish(tx)?;
                }
                Ok(())
            })
            .unwrap();
    }
    std::fs::copy(&closed, &killed).unwrap();
    [closed, killed]
}

/// Opens a copy of a store, reads one document's state, and returns how many milliseconds that took.
fn open(file: &Path, folder: &Path) -> f64 {
    let copy = folder.join("opened.redb");
    std::fs::copy(file, &copy).unwrap();
    // Opening syncs the file: what the copy left to be written is not its work.
    File::open(&copy).unwrap().sync_all().unwrap();
    let start = Instant::now();
    let store = RedbStore::open(&copy, options()).unwrap();
    let state = ledger::state(&*store.read().unwrap(), &document(7)).unwrap();
    let took = start.elapsed().as_secs_f64() * 1e3;
    assert_eq!(state.unwrap().count, 1);
    took
}

fn document(number: u32) -> DocumentId {
    let mut id = [0x0d; 16];
    // Spread like random ids.
    id[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
    DocumentId::from_bytes(id)
}

fn change(number: u32) -> rejoin::gate::CheckedChange {
    let op = DraftOp {
        object: DraftObject::Root,
        key: "title".to_owned(),
        action: Action::Put,
        value: ScalarValue::Uint(number.into()),
        preds: Vec::new(),
    };
    let draft = ChangeDraft {
        actor: ActorId::from(&number.to_be_bytes()[..]),
        seq: 1,
        start_op: 1,
        timestamp: 0,
        message: None,
        deps: Vec::new(),
        ops: vec![op],
    };
    encode(&draft).unwrap()
}
