//! How long a write waits until the relay says that it is durable, with 100 writers that write 1,000 changes a second together,
//! against one commit of the same store on the same disk.
//!
//! Each writer has a connection and a document of its own, and writes every 100 ms. A commit is about ten small rows, as many as
//! a few changes are, written alone: before the writers come, and again when they are gone. It is as durable as the relay's, whose
//! store opens at once after a crash (`RedbOptions::quick_repair`); what one without that takes is shown too, and one of what a
//! relay commits for ten changes: the next change of each of ten documents, with its places in the ledger and in the log.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints what it measured and fails by panicking"
)]

use std::path::Path;
use std::time::Duration;

use automerge::transaction::Transactable;
use automerge::{Automerge, AutomergeError, ROOT};
use rejoin::SpaceId;
use rejoin::codec::v1::{Content, RelayMessage, Write};
use rejoin::gate::CheckedChange;
use rejoin::ledger::{Appender, log, spaces};
use rejoin::store::{RedbOptions, RedbStore, StoreExt, Table, WriteTx};
use rejoin_tests::load::{cpu_seconds, document, percentile, verdict};
use rejoin_tests::raw::RawClient;
use rejoin_tests::relay::RelayProcess;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

const SPACE: SpaceId = SpaceId::from_bytes([7; 16]);
const WRITERS: u32 = 100;
/// Writes of each writer.
const WRITES: u32 = 100;
/// How far apart they are.
const INTERVAL: Duration = Duration::from_millis(100);
const COMMITS: usize = 200;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let mut commits = commit_millis(&folder.path().join("before.redb"), true);
    let mut groups = group_millis(&folder.path().join("group.redb"));
    let mut plain = commit_millis(&folder.path().join("plain.redb"), false);
    let relay = RelayProcess::start_crowded(&folder.path().join("relay"));
    let mut writers = JoinSet::new();
    let mut clients = Vec::new();
    for number in 0..WRITERS {
        clients.push(RawClient::connect(&relay.url(), &format!("writer-{number}"), Vec::new()).await);
    }
    let (start, before) = (Instant::now() + Duration::from_millis(200), cpu_seconds(relay.pid()));
    for (number, client) in (0..).zip(clients) {
        writers.spawn(write(client, number, start + INTERVAL * number / WRITERS));
    }
    let mut waits = writers.join_all().await.concat();
    let cpu = cpu_seconds(relay.pid()) - before;
    drop(relay);
    commits.extend(commit_millis(&folder.path().join("after.redb"), true));
    let (commit, half, most) = (percentile(&mut commits, 50), percentile(&mut waits, 50), percentile(&mut waits, 99));
    println!("| {} writes by {WRITERS} writers | ms | / one commit (at most 2.0) |", waits.len());
    println!("|---|---|---|");
    println!("| one redb commit alone, p50 | {commit:.2} | 1.00 |");
    let (plain, group) = (percentile(&mut plain, 50), percentile(&mut groups, 50));
    println!("| the same without quick repair, p50 | {plain:.2} | {:.2} |", plain / commit);
    println!(
        "| a commit of ten changes alone, p50 | {group:.2} | {:.2} (push to ack / this: {:.2}) |",
        group / commit,
        half / group
    );
    println!("| push to ack, p50 | {half:.2} | {:.2} {} |", half / commit, verdict(half <= 2.0 * commit));
    println!("| push to ack, p99 | {most:.2} | {:.2} |", most / commit);
    println!("| relay's processor for each write | {:.3} | |", cpu * 1e3 / waits.len() as f64);
}

/// Writes at a steady rate, and returns how long each write waited for its answer, in milliseconds.
async fn write(mut client: RawClient, number: u32, start: Instant) -> Vec<f64> {
    let mut document_now = Automerge::new();
    let mut waits = Vec::new();
    for turn in 0..WRITES {
        let bytes = edit(&mut document_now, turn);
        let write = Write { document: document(number), content: Content::Change(bytes.into()) };
        sleep_until(start + INTERVAL * turn).await;
        let sent = Instant::now();
        client.push(SPACE, vec![write]).await;
        while !matches!(client.next().await, RelayMessage::Ack { .. }) {}
        waits.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    waits
}

/// Makes the next change of a document.
fn edit(document: &mut Automerge, turn: u32) -> Vec<u8> {
    let put = |tx: &mut automerge::transaction::Transaction<'_>| tx.put(ROOT, "n", i64::from(turn));
    document.transact::<_, _, AutomergeError>(put).unwrap();
    document.get_last_local_change().unwrap().raw_bytes().to_vec()
}

/// Returns how long commits of ten changes take, as a relay makes them, in milliseconds.
fn group_millis(path: &Path) -> Vec<f64> {
    let store = RedbStore::open(path, RedbOptions::new().quick_repair(true)).unwrap();
    let mut documents: Vec<Automerge> = (0..WRITERS).map(|_| Automerge::new()).collect();
    let mut millis = Vec::new();
    for commit in 0..5 * WRITERS {
        let group = (0..10).map(|number| (commit * 10 + number) % WRITERS);
        let edits = group.map(|number| (document(number), edit(&mut documents[number as usize], commit)));
        let changes: Vec<_> = edits.map(|(id, bytes)| (id, CheckedChange::parse(&bytes).unwrap())).collect();
        let put = |tx: &mut dyn WriteTx| {
            for (document, change) in &changes {
                spaces::put(tx, document, &SPACE)?;
                let mut appender = Appender::begin(tx, *document)?;
                appender.append(tx, change)?;
                appender.finish(tx)?;
                log::append(tx, document)?;
            }
            Ok(())
        };
        let start = Instant::now();
        store.write_with(put).unwrap();
        millis.push(start.elapsed().as_secs_f64() * 1e3);
    }
    millis
}

/// Returns how long commits of ten small rows take, in milliseconds.
fn commit_millis(path: &Path, repairs_quickly: bool) -> Vec<f64> {
    let store = RedbStore::open(path, RedbOptions::new().quick_repair(repairs_quickly)).unwrap();
    let mut millis = Vec::new();
    for commit in 0..COMMITS {
        let put = |tx: &mut dyn WriteTx| {
            for row in 0..10 {
                tx.put(Table::Meta, format!("bench {commit} {row}").as_bytes(), &[7; 100])?;
            }
            Ok(())
        };
        let start = Instant::now();
        store.write_with(put).unwrap();
        millis.push(start.elapsed().as_secs_f64() * 1e3);
    }
    millis
}
