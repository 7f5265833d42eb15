//! One hot path, over and over, for a profiler that counts instructions: they are the same whatever else the machine does.
//!
//! ```sh
//! CARGO_PROFILE_BENCH_DEBUG=1 cargo bench -p rejoin --bench hot --no-run
//! valgrind --tool=callgrind --toggle-collect='*hot_accept*' target/release/deps/hot-* accept
//! ```
//!
//! `write`: 3,000 times one field of a stored document of 1,000. `accept`: 3,000 received changes of such a document. Each set in
//! one transaction, without the flush.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use automerge::transaction::Transactable;
use automerge::{ActorId, Automerge, AutomergeError, ROOT};
use rejoin::engine::{self, Origin};
use rejoin::fields::{self, Author, Edit};
use rejoin::gate::CheckedChange;
use rejoin::ledger;
use rejoin::store::{RedbOptions, RedbStore, StoreExt};
use rejoin::{DocumentId, Value};

const DOCUMENT: DocumentId = DocumentId::from_bytes([5; 16]);
const FIELDS: i64 = 1_000;
const TIMES: i64 = 3_000;

fn main() {
    let path = std::env::args().find(|argument| argument == "write" || argument == "accept");
    let folder = tempfile::tempdir().unwrap();
    let store = RedbStore::open(folder.path().join("hot.redb"), RedbOptions::new()).unwrap();
    match path.as_deref() {
        Some("write") => write(&store),
        Some(_) => accept(&store),
        None => {}
    }
}

fn key(number: i64) -> String {
    format!("field {}", number % FIELDS)
}

fn write(store: &RedbStore) {
    let actor = ActorId::from(&[1; 16]);
    let author = Author { actor: &actor, time_seconds: 0, message: None };
    let edits: Vec<Edit> = (0..FIELDS).map(|number| Edit::set(key(number), Value::from(number))).collect();
    let filled = store.write_with(|tx| {
        ledger::create(tx, &DOCUMENT)?;
        fields::write(tx, &DOCUMENT, &author, &edits)
    });
    filled.unwrap().unwrap().unwrap();
    hot_write(store, &author);
}

#[inline(never)]
fn hot_write(store: &RedbStore, author: &Author<'_>) {
    let written = store.write_with(|tx| {
        for number in FIELDS..FIELDS + TIMES {
            fields::write(tx, &DOCUMENT, author, &[Edit::set(key(number), Value::from(number))])?.unwrap();
        }
        Ok(())
    });
    written.unwrap();
}

fn accept(store: &RedbStore) {
    let mut author = Automerge::new();
    let put = |author: &mut Automerge, numbers: std::ops::Range<i64>| {
        let before = author.get_heads();
        author
            .transact::<_, _, AutomergeError>(|tx| numbers.into_iter().try_for_each(|n| tx.put(ROOT, key(n), n)))
            .unwrap();
        author.get_changes(&before).iter().map(|change| change.raw_bytes().to_vec()).collect::<Vec<_>>()
    };
    let base = put(&mut author, 0..FIELDS);
    hot_accept(store, &base);
    let changes: Vec<_> = (FIELDS..FIELDS + TIMES).flat_map(|number| put(&mut author, number..number + 1)).collect();
    hot_accept(store, &changes);
}

#[inline(never)]
fn hot_accept(store: &RedbStore, changes: &[Vec<u8>]) {
    let accepted = store.write_with(|tx| {
        for bytes in changes {
            let change = CheckedChange::parse(bytes).unwrap();
            engine::accept(tx, DOCUMENT, vec![change], Origin::Remote)?;
        }
        Ok(())
    });
    accepted.unwrap();
}
