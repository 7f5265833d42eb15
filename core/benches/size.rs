//! What a store takes on the disk after 50,000 overwrites of 10 fields, against Automerge's own save of the same document.
//!
//! The store's whole file is counted: graph, packs, registers, and pages that are free. Once as it is when everything was
//! written, acknowledged and packed by the way, and once after `compact`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints what it measured and fails by panicking"
)]

use automerge::{ActorId, Automerge};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rejoin::care;
use rejoin::fields::{self, Author, Edit};
use rejoin::ledger::{self, outbox};
use rejoin::limits::PACK_KEEP;
use rejoin::store::{RedbOptions, RedbStore, Store, StoreExt};
use rejoin::{DocumentId, Value};

const DOCUMENT: DocumentId = DocumentId::from_bytes([5; 16]);
const OVERWRITES: usize = 50_000;
const FIELDS: usize = 10;
/// Overwrites of one transaction.
const BATCH: usize = 500;

fn main() {
    println!("| values | save(), kB | file, kB | compacted, kB | compacted / save() |");
    println!("|---|---|---|---|---|");
    measure("small integers", |random| Value::from(random.random_range(0..100_i64)));
    measure("12 random characters", |random| {
        Value::from((0..12).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect::<String>())
    });
}

fn measure(name: &str, value: impl Fn(&mut StdRng) -> Value) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let actor = ActorId::from([7; 16]);
    store.write_with(|tx| ledger::create(tx, &DOCUMENT)).unwrap();
    for _ in 0..OVERWRITES / BATCH {
        let edits: Vec<Edit> = (0..BATCH)
            .map(|_| Edit::set(format!("field{}", random.random_range(0..FIELDS)), value(&mut random)))
            .collect();
        let written = store.write_with(|tx| {
            for edit in &edits {
                let author = Author { actor: &actor, time_seconds: 0, message: None };
                if let Err(error) = fields::write(tx, &DOCUMENT, &author, std::slice::from_ref(edit))? {
                    return Ok(Err(error));
                }
            }
            let heads = ledger::heads(tx, &DOCUMENT)?;
            outbox::acknowledge(tx, &DOCUMENT, &heads)?;
            ledger::compact(tx, &DOCUMENT, PACK_KEEP)?;
            Ok(Ok(()))
        });
        written.unwrap().unwrap();
    }
    let automerge = loaded(&store);
    let saved = automerge.save().len();
    let file = store.size_bytes().unwrap().unwrap();
    let compacted = care::compact(&store, &mut |_| ()).unwrap().bytes_after;
    println!(
        "| {name} | {:.0} | {:.0} | {:.0} | {:.2} |",
        saved as f64 / 1e3,
        file as f64 / 1e3,
        compacted as f64 / 1e3,
        compacted as f64 / saved as f64
    );
}

/// The same document, as Automerge has it.
fn loaded(store: &RedbStore) -> Automerge {
    let mut bytes = Vec::new();
    let tx = store.read().unwrap();
    ledger::export(tx.as_ref(), &DOCUMENT, 0, &mut |change| {
        bytes.extend_from_slice(change);
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    Automerge::load(&bytes).unwrap()
}
