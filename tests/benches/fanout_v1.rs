//! Fan-out by `rejoin.v1`: 1 writer and 50 readers of one space, against a server that only passes bytes on
//! (`rejoin-tests-broadcast`) and against the server of Yjs.
//!
//! What is measured is the processor time of the server's process, from the kernel's own account, for each change that
//! reached a reader. Ours is durable before it is told; the others keep nothing on disk. All are sent the same number of
//! edits, one field of a map each, as fast as a window of 10 unanswered changes allows, and 200 a second. The servers that are
//! not ours answer by sending a change back to who wrote it.
//!
//! The broadcast passes on the very messages that are pushed to ours, one by one, and as "gathering" with one write of all that
//! wait for a connection. `FANOUT_ONLY=ours` leaves the others out.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark prints what it measured and fails by panicking"
)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use automerge::transaction::Transactable;
use automerge::{Automerge, AutomergeError, ROOT};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use rejoin::SpaceId;
use rejoin::codec::v1::{ClientMessage, Content, Mode, RelayMessage, Start, Subscription, Write};
use rejoin_tests::load::{cpu_seconds, document, verdict};
use rejoin_tests::node::Node;
use rejoin_tests::raw::{RawClient, count};
use rejoin_tests::relay::RelayProcess;
use serde_json::Value as Json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

const SPACE: SpaceId = SpaceId::from_bytes([7; 16]);
const READERS: usize = 50;
const WINDOW: usize = 10;
/// Rounds; the median of each server counts. Servers take turns, so that a noisy machine is noisy to all.
const ROUNDS: usize = 3;

/// What is sent. Node gets a part of it: its own readers and the many more cycles of a change would take minutes.
struct Load {
    name: &'static str,
    documents: u32,
    changes: usize,
    changes_node: usize,
    /// Changes a second, of all documents together.
    rate: Option<u32>,
}

const LOADS: [Load; 4] = [
    Load { name: "1 document, window of 10", documents: 1, changes: 4_000, changes_node: 400, rate: None },
    Load { name: "1 document, 200 a second", documents: 1, changes: 1_000, changes_node: 400, rate: Some(200) },
    Load { name: "10 documents, window of 10", documents: 10, changes: 4_000, changes_node: 400, rate: None },
    Load { name: "10 documents, 200 a second", documents: 10, changes: 1_000, changes_node: 400, rate: Some(200) },
];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let is_only_ours = std::env::var("FANOUT_ONLY").is_ok_and(|only| only == "ours");
    println!(
        "| load, {READERS} readers | rejoin.v1, durable | broadcast | gathering | Yjs | ours / broadcast (at most 1.5) \
         | ours / gathering | ours / Yjs (at most 0.25) |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for load in &LOADS {
        let (mut ours, mut broadcast, mut gathering, mut yjs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(run_ours(load).await);
            if !is_only_ours {
                broadcast.push(run_broadcast(load, &[]).await);
                gathering.push(run_broadcast(load, &["--gather"]).await);
                yjs.push(run_yjs(load).await);
            }
        }
        let ours = median(&mut ours);
        if is_only_ours {
            println!("| {} | {ours:.2} µs |", load.name);
            continue;
        }
        let (broadcast, gathering, yjs) = (median(&mut broadcast), median(&mut gathering), median(&mut yjs));
        println!(
            "| {} | {ours:.2} µs | {broadcast:.2} µs | {gathering:.2} µs | {yjs:.2} µs | {:.2} {} | {:.2} | {:.3} {} |",
            load.name,
            ours / broadcast,
            verdict(ours <= 1.5 * broadcast),
            ours / gathering,
            ours / yjs,
            verdict(ours <= yjs / 4.0),
        );
    }
}

fn median(costs: &mut [f64]) -> f64 {
    costs.sort_unstable_by(f64::total_cmp);
    costs[costs.len() / 2]
}

/// Makes the changes of all documents, in turns: one field each.
fn writes(load: &Load) -> Vec<Write> {
    let mut documents: Vec<_> = (0..load.documents).map(|number| (document(number), Automerge::new())).collect();
    let mut writes = Vec::with_capacity(load.changes);
    for number in 0..load.changes {
        let turn = number % documents.len();
        let (id, document) = &mut documents[turn];
        let put = |tx: &mut automerge::transaction::Transaction<'_>| {
            tx.put(ROOT, format!("f{}", number % 10), i64::try_from(number).unwrap())
        };
        document.transact::<_, _, AutomergeError>(put).unwrap();
        let bytes = document.get_last_local_change().unwrap().raw_bytes().to_vec();
        writes.push(Write { document: *id, content: Content::Change(bytes.into()) });
    }
    writes
}

/// Waits until it is a change's turn.
async fn pace(load: &Load, start: Instant, number: usize) {
    if let Some(rate) = load.rate {
        let due = Duration::from_secs_f64(number as f64 / f64::from(rate));
        sleep_until(start + due).await;
    }
}

/// Returns the microseconds of the relay's processor for each delivered change.
async fn run_ours(load: &Load) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start_crowded(folder.path());
    let url = relay.url();
    let subscription = Subscription { space: SPACE, mode: Mode::Everything, start: Start::Beginning };
    let mut readers = JoinSet::new();
    for reader in 0..READERS {
        let mut client = RawClient::connect(&url, &format!("reader-{reader}"), vec![subscription]).await;
        client.caught_up().await;
        let changes = load.changes;
        readers.spawn(async move {
            let mut had = 0;
            while had < changes {
                if let RelayMessage::Entries { entries, .. } = client.next().await {
                    had += count(&entries);
                }
            }
            client
        });
    }
    let mut writer = RawClient::connect(&url, "writer", Vec::new()).await;
    let writes = writes(load);
    let before = cpu_seconds(relay.pid());
    let (start, mut unanswered) = (Instant::now(), 0);
    for (number, write) in writes.into_iter().enumerate() {
        pace(load, start, number).await;
        while unanswered >= WINDOW {
            unanswered -= usize::from(matches!(writer.next().await, RelayMessage::Ack { .. }));
        }
        writer.push(SPACE, vec![write]).await;
        unanswered += 1;
    }
    readers.join_all().await;
    (cpu_seconds(relay.pid()) - before) * 1e6 / (load.changes * READERS) as f64
}

/// The same for the server that passes bytes on.
async fn run_broadcast(load: &Load, arguments: &[&str]) -> f64 {
    let binary = rejoin_tests::binary("rejoin-tests-broadcast");
    let mut server = Command::new(binary).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = format!("ws://127.0.0.1:{}", line.trim());
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let mut socket = connect_async(&url).await.unwrap().0;
        let changes = load.changes;
        readers.spawn(async move {
            for _ in 0..changes {
                socket.next().await.unwrap().unwrap();
            }
            socket
        });
    }
    let mut writer = connect_async(&url).await.unwrap().0;
    // All have to be taken in before the first message goes out.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let frames: Vec<Bytes> = (1..).zip(writes(load)).map(|(batch, write)| push(batch, write)).collect();
    let before = cpu_seconds(server.id());
    let (start, mut unanswered) = (Instant::now(), 0);
    for (number, frame) in frames.into_iter().enumerate() {
        pace(load, start, number).await;
        while unanswered >= WINDOW {
            writer.try_next().await.unwrap().unwrap();
            unanswered -= 1;
        }
        writer.send(Message::Binary(frame)).await.unwrap();
        unanswered += 1;
    }
    readers.join_all().await;
    let cost = (cpu_seconds(server.id()) - before) * 1e6 / (load.changes * READERS) as f64;
    server.kill().unwrap();
    server.wait().unwrap();
    cost
}

fn push(batch: u64, write: Write) -> Bytes {
    ClientMessage::Push { batch, space: SPACE, writes: vec![write] }.encode()
}

/// The same for Yjs. A room is a document there, and has its own connections.
async fn run_yjs(load: &Load) -> f64 {
    let mut server = Node::start("yserver.mjs", &[]);
    let url = format!("ws://127.0.0.1:{}", server.line().await["port"]);
    let changes = load.changes_node / load.documents as usize;
    let output = Command::new("node")
        .args(["yfanout.mjs", "--url", &url, "--pid", &server.pid().to_string()])
        .args(["--documents", &load.documents.to_string(), "--readers", &READERS.to_string()])
        .args(["--changes", &changes.to_string(), "--window", &WINDOW.to_string()])
        .args(["--rate", &load.rate.unwrap_or(0).to_string()])
        .current_dir(rejoin_tests::package_dir().join("interop"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "the load failed: {}", String::from_utf8_lossy(&output.stdout));
    let result: Json = serde_json::from_slice(&output.stdout).unwrap();
    let number = |name: &str| result[name].as_f64().unwrap();
    number("server_cpu_ms") * 1e3 / number("delivered")
}
