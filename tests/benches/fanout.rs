//! Fan-out on the classic protocol: 10 documents, each with 1 writer and 5 readers, against three servers.
//!
//! The load is the same program for all (`tests/interop/fanout.mjs`); what is measured is the processor time of the
//! server's process, from the kernel's own account, for each change that reached a reader.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints what it measured and fails by panicking"
)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use rejoin_tests::node::Node;
use rejoin_tests::relay::RelayProcess;
use serde_json::Value as Json;

/// Rounds; the median of each server counts. Servers take turns, so that a noisy machine is noisy to all.
const ROUNDS: usize = 3;
/// The kernel counts processor time in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

#[tokio::main]
async fn main() {
    let mut costs = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        let relay = RelayProcess::start(folder.path());
        costs[0].push(measure(&relay.url(), relay.pid()));
        drop(relay);
        costs[1].push(samod());
        let mut server = Node::start("server.mjs", &[]);
        let url = format!("ws://127.0.0.1:{}", server.line().await["port"]);
        costs[2].push(measure(&url, server.pid()));
    }
    let medians = costs.map(|mut costs| {
        costs.sort_unstable_by(f64::total_cmp);
        costs[ROUNDS / 2]
    });
    println!("| server | stores | server CPU a delivered change, µs, median | against ours |");
    println!("|---|---|---|---|");
    let names = [
        ("rejoin-relay", "redb, durable before told"),
        ("samod 0.16", "memory"),
        ("automerge-repo 2.5.6 on Node", "memory"),
    ];
    for ((name, stores), cost) in names.into_iter().zip(medians) {
        println!("| {name} | {stores} | {cost:.1} | {:.1} |", cost / medians[0]);
    }
}

fn samod() -> f64 {
    let mut server =
        Command::new(rejoin_tests::binary("rejoin-tests-samod-server")).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let cost = measure(&format!("ws://127.0.0.1:{}", line.trim()), server.id());
    server.kill().unwrap();
    server.wait().unwrap();
    cost
}

/// Runs the load and returns the server's microseconds of processor time for each delivered change.
fn measure(url: &str, pid: u32) -> f64 {
    let before = cpu_seconds(pid);
    let output = Command::new("node")
        .args(["fanout.mjs", "--url", url, "--documents", "10", "--readers", "5", "--changes", "200", "--window", "10"])
        .current_dir(rejoin_tests::package_dir().join("interop"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "the load failed: {}", String::from_utf8_lossy(&output.stdout));
    let spent = cpu_seconds(pid) - before;
    let result: Json = serde_json::from_slice(&output.stdout).unwrap();
    spent * 1e6 / result["delivered"].as_f64().unwrap()
}

/// Returns the processor time that a process has used, user and system.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = after_name.split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS_PER_SECOND
}
