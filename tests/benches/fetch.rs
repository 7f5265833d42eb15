//! A fresh client fetches a long paper's keystroke trace from a warm relay, against `Automerge::load` of the snapshot alone.
//!
//! Measured from the moment the client has a store and nothing else, until it has read the text: connecting, the
//! handshake, the snapshot on its way and everything the client does with it before it can be used. Then, for
//! information, how long it takes until the history is unfolded too, with every change checked and filed.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints what it measured and fails by panicking"
)]

use std::time::{Duration, Instant};

use automerge::transaction::Transactable;
use automerge::{Automerge, AutomergeError, ObjType, ROOT, ReadDoc};
use rejoin::gate::CheckedChange;
use rejoin::ledger::{self, Appender, snapshot};
use rejoin::repo::EventKind;
use rejoin::store::{RedbOptions, RedbStore, StoreExt, WriteTx};
use rejoin::{DocumentId, Repo};
use rejoin_tests::relay::RelayProcess;
use rejoin_tests::trace::{EDITS, Keystroke, keystrokes};

const DOCUMENT: DocumentId = DocumentId::from_bytes([6; 16]);
const SAMPLES: usize = 7;
/// Changes of one transaction while the relay's store is made.
const BATCH: usize = 4_096;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let paper = paper();
    let saved = paper.save();
    let folder = tempfile::tempdir().unwrap();
    fill(&folder.path().join("relay.redb"), &paper, &saved);
    let characters = paper.text(&paper.get(ROOT, "text").unwrap().unwrap().1).unwrap().chars().count();
    drop(paper);
    let relay = RelayProcess::start(folder.path());
    // Once without the clock: the relay's own first look.
    fetch(&relay, Repo::in_memory().unwrap(), characters).await;

    let (mut loads, mut memory, mut disk, mut unfolded) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for sample in 0..SAMPLES {
        let start = Instant::now();
        drop(std::hint::black_box(Automerge::load(&saved).unwrap()));
        loads.push(start.elapsed());
        memory.push(fetch(&relay, Repo::in_memory().unwrap(), characters).await.0);
        let repo = Repo::open(folder.path().join(format!("fresh-{sample}.redb"))).await.unwrap();
        let (used, complete) = fetch(&relay, repo, characters).await;
        disk.push(used);
        unfolded.push(complete);
    }
    let load = median(&mut loads);
    println!("{EDITS} keystrokes, snapshot of {} kB, median of {SAMPLES}", saved.len() / 1_000);
    println!("| work | ms | / Automerge::load |");
    println!("|---|---|---|");
    println!("| Automerge::load of the snapshot | {:.0} | 1.00 |", load * 1e3);
    let rows = [
        ("fresh client in memory, until the text is read", &mut memory),
        ("fresh client with a file, until the text is read", &mut disk),
        ("the same, until every change is checked and filed", &mut unfolded),
    ];
    for (name, times) in rows {
        let time = median(times);
        println!("| {name} | {:.0} | {:.2} |", time * 1e3, time / load);
    }
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

/// The trace as a document, a change for each keystroke.
fn paper() -> Automerge {
    let mut document = Automerge::new();
    let make = |tx: &mut automerge::transaction::Transaction<'_>| tx.put_object(ROOT, "text", ObjType::Text);
    let text = document.transact::<_, _, AutomergeError>(make).unwrap().result;
    for keystroke in keystrokes(1, EDITS) {
        let (at, delete, insert) = match keystroke {
            Keystroke::Insert(at, character) => (at, 0, character.to_string()),
            Keystroke::Delete(at) => (at, 1, String::new()),
        };
        let edit = |tx: &mut automerge::transaction::Transaction<'_>| tx.splice_text(&text, at, delete, &insert);
        document.transact::<_, _, AutomergeError>(edit).unwrap();
    }
    document
}

/// Makes the store of a relay that has the document, packed and folded.
fn fill(path: &std::path::Path, paper: &Automerge, saved: &[u8]) {
    let store = RedbStore::open(path, RedbOptions::new()).unwrap();
    let changes = paper.get_changes(&[]);
    for part in changes.chunks(BATCH) {
        let append = |tx: &mut dyn WriteTx| {
            let mut appender = Appender::begin(tx, DOCUMENT)?;
            for change in part {
                appender.append(tx, &CheckedChange::parse(change.raw_bytes()).unwrap())?;
            }
            appender.finish(tx)?;
            ledger::compact_fully(tx, &DOCUMENT)
        };
        store.write_with(append).unwrap();
    }
    let put = |tx: &mut dyn WriteTx| snapshot::put(tx, &DOCUMENT, changes.len() as u64, &paper.get_heads(), saved);
    assert!(store.write_with(put).unwrap());
}

/// Fetches the document, and returns how long it took until its text was read, and until its history was unfolded.
async fn fetch(relay: &RelayProcess, repo: Repo, characters: usize) -> (Duration, Duration) {
    let start = Instant::now();
    let connection = repo.connect(&relay.url()).unwrap();
    let document = repo.open_or_fetch(DOCUMENT).await.unwrap();
    let mut events = document.subscribe();
    document.wait_for_content(Duration::from_secs(60)).await.unwrap();
    let text = document.text("text").await.unwrap().unwrap();
    let used = start.elapsed();
    assert_eq!(text.chars().count(), characters);
    while events.next().await.unwrap().unwrap().kind != EventKind::Unfolded {}
    let complete = start.elapsed();
    drop((document, events, connection));
    repo.close().await;
    (used, complete)
}
