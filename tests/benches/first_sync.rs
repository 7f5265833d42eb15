//! The first sync of 10,000 small documents, of one change each: messages on the wire, and time until all is there.
//!
//! By `rejoin.v1` the documents are those of a space, and come by themselves. By the classic protocol they are in the default
//! space, and the client knows their ids: that protocol has no list of documents. A native client is a `Repo` with a file, with
//! everything it does with a change; the raw one counts what comes and keeps nothing. All go through a proxy that counts.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints what it measured and fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use rejoin::codec::v1::{Mode, Start, Subscription};
use rejoin::{ConnectOptions, Protocol, Repo, SpaceId};
use rejoin_tests::load::{cpu_seconds, document, fill, verdict};
use rejoin_tests::proxy::{Proxy, Traffic};
use rejoin_tests::raw::RawClient;
use rejoin_tests::relay::RelayProcess;

const SPACE: SpaceId = SpaceId::from_bytes([7; 16]);
const DOCUMENTS: u32 = 10_000;
const PATIENCE: Duration = Duration::from_secs(300);
/// How many documents the classic client asks for at once.
const AT_ONCE: usize = 1_000;
/// Rounds; the median of each counts. They take turns, so that a noisy machine is noisy to all.
const ROUNDS: usize = 3;

/// What one way of getting everything took.
struct Run {
    name: &'static str,
    traffic: Traffic,
    seconds: f64,
    relay_seconds: f64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let v1 = start(&folder.path().join("v1"), &SPACE);
    let classic = start(&folder.path().join("classic"), &SpaceId::DEFAULT);
    let mut runs = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        let file = |name: &str| folder.path().join(format!("{name}-{round}.redb"));
        runs[0].push(run("rejoin.v1, raw", &v1, raw).await);
        runs[1].push(run("rejoin.v1, native", &v1, |url| native_v1(url, file("v1"))).await);
        runs[2].push(run("classic, native", &classic, |url| native_classic(url, file("classic"))).await);
    }
    let runs = runs.map(|mut runs| {
        runs.sort_unstable_by(|one, other| f64::total_cmp(&one.seconds, &other.seconds));
        runs.swap_remove(ROUNDS / 2)
    });
    println!("| {DOCUMENTS} small documents | messages | bytes | time | relay's processor |");
    println!("|---|---|---|---|---|");
    for Run { name, traffic, seconds, relay_seconds } in &runs {
        println!(
            "| {name} | {} up, {} down | {} kB | {seconds:.2} s | {relay_seconds:.2} s |",
            traffic.up_messages,
            traffic.down_messages,
            traffic.bytes() / 1_000,
        );
    }
    let [_, ours, classic] = &runs;
    let fewer = classic.traffic.messages() as f64 / ours.traffic.messages() as f64;
    let faster = classic.seconds / ours.seconds;
    println!(
        "native against native: {fewer:.0} x fewer messages (at least 20: {}), {faster:.1} x less time (at least 5: {})",
        verdict(fewer >= 20.0),
        verdict(faster >= 5.0)
    );
}

/// Starts a relay that has everything.
fn start(data: &Path, space: &SpaceId) -> RelayProcess {
    std::fs::create_dir(data).unwrap();
    drop(fill(&data.join("relay.redb"), space, DOCUMENTS, true));
    RelayProcess::start(data)
}

async fn run<F: Future<Output = Instant>>(
    name: &'static str,
    relay: &RelayProcess,
    get: impl FnOnce(String) -> F,
) -> Run {
    let proxy = Proxy::start(&relay.url()).await;
    let (before, start) = (cpu_seconds(relay.pid()), Instant::now());
    let seconds = (get(proxy.url()).await - start).as_secs_f64();
    Run { name, traffic: proxy.take(), seconds, relay_seconds: cpu_seconds(relay.pid()) - before }
}

/// As the others, returns when all was there.
async fn raw(url: String) -> Instant {
    let subscription = Subscription { space: SPACE, mode: Mode::Everything, start: Start::Beginning };
    let mut client = RawClient::connect(&url, "fresh", vec![subscription]).await;
    assert_eq!(client.caught_up().await.0, DOCUMENTS as usize);
    Instant::now()
}

async fn native_v1(url: String, path: PathBuf) -> Instant {
    let repo = Repo::open(path).await.unwrap();
    repo.space(SPACE).follow().await.unwrap();
    let mut connection = repo.connect_with(&url, &ConnectOptions::new().protocol(Protocol::RejoinV1)).unwrap();
    connection.wait_caught_up(PATIENCE).await.unwrap();
    let there = Instant::now();
    assert_eq!(repo.space(SPACE).list().await.unwrap().len(), DOCUMENTS as usize);
    drop(connection);
    repo.close().await;
    there
}

async fn native_classic(url: String, path: PathBuf) -> Instant {
    let repo = Repo::open(path).await.unwrap();
    let connection = repo.connect_with(&url, &ConnectOptions::new().protocol(Protocol::Classic)).unwrap();
    let all = stream::iter(0..DOCUMENTS).map(|number| {
        let repo = repo.clone();
        async move {
            let handle = repo.open_or_fetch(document(number)).await.unwrap();
            handle.wait_for_content(PATIENCE).await.unwrap();
        }
    });
    assert_eq!(all.buffer_unordered(AT_ONCE).count().await, DOCUMENTS as usize);
    let there = Instant::now();
    drop(connection);
    repo.close().await;
    there
}
