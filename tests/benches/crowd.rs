//! What a connection costs that says nothing: 15,000 of them, of each kind, and what the relay's process keeps in memory for each.
//!
//! `CROWD` says how many there are. More than 20,000 need a higher limit of open files, for the relay and for this program.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::time::{Duration, Instant};

use rejoin_tests::crowd::{Kind, connect_all, resident_kilobytes};
use rejoin_tests::relay::RelayProcess;

/// How long the relay rests before its memory is measured.
const REST: Duration = Duration::from_secs(3);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let count: u32 = std::env::var("CROWD").ok().and_then(|count| count.parse().ok()).unwrap_or(15_000);
    println!("| {count} idle connections | connected in | refused | resident | each |");
    println!("|---|---|---|---|---|");
    let kinds = [
        (Kind::Bare, "rejoin.v1, nothing open"),
        (Kind::WithDocument, "rejoin.v1, a document open"),
        (Kind::WithSpace, "rejoin.v1, a space followed"),
        (Kind::Classic, "classic"),
    ];
    for (kind, name) in kinds {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let relay = RelayProcess::start_crowded(folder.path());
        // What the first connections set up for all is no part of what one costs.
        let first = count / 20;
        let (mut sockets, mut refused) = connect_all(relay.address(), kind, 0..first).await;
        tokio::time::sleep(REST).await;
        let before = resident_kilobytes(relay.pid());
        let start = Instant::now();
        let (more, others) = connect_all(relay.address(), kind, first..count).await;
        let took = start.elapsed();
        sockets.extend(more);
        refused.extend(others);
        tokio::time::sleep(REST).await;
        let after = resident_kilobytes(relay.pid());
        println!(
            "| {name} | {:.1} s | {} | {:.0} MB | {:.1} kB |",
            took.as_secs_f64(),
            refused.len(),
            after as f64 / 1e3,
            (after as f64 - before as f64) / f64::from(count - first),
        );
        if let Some(why) = refused.first() {
            println!("(one was refused: {why})");
        }
        drop(sockets);
    }
}
