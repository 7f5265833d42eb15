//! How long an honest client waits for its acknowledgements beside connections whose changes are small and take long to look up: each
//! makes the relay visit 60,000 others.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rejoin::SpaceId;
use rejoin_tests::crowd::Honest;
use rejoin_tests::relay::RelayProcess;
use rejoin_tests::wide;
use tokio::sync::Notify;

const SPACE: SpaceId = SpaceId::from_bytes([0xe1; 16]);
const OTHER: SpaceId = SpaceId::from_bytes([0xe2; 16]);

/// How many connections attack, with how many changes each, behind how long a history.
const ATTACK: (u64, u64, u64) = (32, 30, 60_000);

/// How many connections ask for a document of how many changes.
const ASK: (u64, u64) = (8, 300_000);

/// For how long the honest client writes in each phase.
const PHASE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let relay = RelayProcess::start_crowded(folder.path());
    println!("| | writes | median | p99 | longest |");
    println!("|---|---|---|---|---|");
    tell("alone", write(&relay).await);
    let (stop, ready) = (AtomicBool::new(false), Notify::new());
    let attack = wide::attack(relay.address(), OTHER, ATTACK, || ready.notify_one(), &stop);
    let stored = beside("attacked", &relay, attack, (&ready, &stop)).await;
    let (stop, ready) = (AtomicBool::new(false), Notify::new());
    let ask = wide::ask(relay.address(), OTHER, ASK, || ready.notify_one(), &stop);
    let asked = beside("asked", &relay, ask, (&ready, &stop)).await;
    let (stop, ready) = (AtomicBool::new(false), Notify::new());
    ready.notify_one();
    let compare = wide::ask_classic(relay.address(), 8, &stop);
    let compared = beside("compared", &relay, compare, (&ready, &stop)).await;
    println!("\n{stored} of {} hostile changes were stored", ATTACK.0 * ATTACK.1);
    println!(
        "{asked} questions for what comes behind the beginning were answered, {compared} comparisons by the classic protocol"
    );
}

/// Lets the honest client write from when an attack is ready, and then stops it; returns what came of it.
async fn beside(
    name: &str,
    relay: &RelayProcess,
    attack: impl Future<Output = u64>,
    (ready, stop): (&Notify, &AtomicBool),
) -> u64 {
    let honest = async {
        ready.notified().await;
        let waits = write(relay).await;
        stop.store(true, Ordering::Relaxed);
        waits
    };
    let (count, waits) = tokio::join!(attack, honest);
    tell(name, waits);
    count
}

async fn write(relay: &RelayProcess) -> Vec<f64> {
    let honest = Honest::start(relay.url(), SPACE, Duration::from_millis(20));
    tokio::time::sleep(PHASE).await;
    tokio::task::spawn_blocking(|| honest.finish()).await.expect("the honest client is served")
}

fn tell(name: &str, mut waits: Vec<f64>) {
    waits.sort_by(f64::total_cmp);
    let at = |part: usize| waits.get(waits.len().saturating_sub(1) * part / 100).copied().unwrap_or_default();
    println!("| {name} | {} | {:.1} ms | {:.1} ms | {:.1} ms |", waits.len(), at(50), at(99), at(100));
}
