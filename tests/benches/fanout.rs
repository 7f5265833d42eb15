//! Fan-out: 10 documents, each with 1 writer and 5 readers, against the servers of automerge-repo, samod and Yjs.
//!
//! The load is the same program for all that speak the classic protocol (`tests/interop/fanout.mjs`), and the same documents,
//! readers and changes for Yjs (`yfanout.mjs`). What is measured is the processor time of the server's process, from the
//! kernel's own account, for each change that reached a reader; a load that misses one delivery fails.
//!
//! Each server meets three loads, because batching shows only in some: as fast as the window of 10 unacknowledged changes a
//! document allows, with readers that keep Automerge documents and with readers that keep none (they leave the processor to
//! the server), and 200 changes a second, evenly.

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

const SERVERS: [(&str, &str); 4] = [
    ("rejoin-relay", "redb, durable before told"),
    ("samod 0.16", "memory"),
    ("automerge-repo 2.5.6 on Node", "memory"),
    ("@y/websocket-server 0.1.1 on Node", "memory"),
];

/// A load's name, and its arguments. Yjs has no light readers.
const LOADS: [(&str, &[&str]); 3] = [
    ("window of 10, full readers", &["--changes", "200", "--window", "10"]),
    ("window of 10, light readers", &["--changes", "200", "--window", "10", "--light"]),
    ("200 changes a second", &["--changes", "100", "--rate", "200"]),
];

/// What one run showed.
#[derive(Clone, Copy)]
struct Run {
    delivered: f64,
    server_seconds: f64,
    latency_p50_ms: f64,
}

impl Run {
    fn cost_micros(&self) -> f64 {
        self.server_seconds * 1e6 / self.delivered
    }
}

#[tokio::main]
async fn main() {
    println!("| load | server | stores | delivered | server CPU | a delivered change | against ours | latency p50 |");
    println!("|---|---|---|---|---|---|---|---|");
    for (load, arguments) in LOADS {
        let mut runs = SERVERS.map(|_| Vec::new());
        for _ in 0..ROUNDS {
            for (server, runs) in runs.iter_mut().enumerate() {
                runs.push(run(server, arguments).await);
            }
        }
        let medians = runs.map(|mut runs| {
            runs.sort_unstable_by(|a, b| f64::total_cmp(&a.cost_micros(), &b.cost_micros()));
            runs[ROUNDS / 2]
        });
        for ((name, stores), run) in SERVERS.into_iter().zip(medians) {
            println!(
                "| {load} | {name} | {stores} | {} | {:.2} s | {:.1} µs | {:.2} | {:.1} ms |",
                run.delivered,
                run.server_seconds,
                run.cost_micros(),
                run.cost_micros() / medians[0].cost_micros(),
                run.latency_p50_ms,
            );
        }
    }
}

/// Starts a server, runs the load against it and ends it.
async fn run(server: usize, arguments: &[&str]) -> Run {
    match server {
        0 => {
            let folder = tempfile::tempdir().unwrap();
            let relay = RelayProcess::start_crowded(folder.path());
            measure("fanout.mjs", &relay.url(), relay.pid(), arguments)
        }
        1 => samod(arguments),
        2 => node("server.mjs", "fanout.mjs", arguments).await,
        _ => node("yserver.mjs", "yfanout.mjs", arguments).await,
    }
}

async fn node(server: &str, driver: &str, arguments: &[&str]) -> Run {
    let mut server = Node::start(server, &[]);
    let url = format!("ws://127.0.0.1:{}", server.line().await["port"]);
    measure(driver, &url, server.pid(), arguments)
}

fn samod(arguments: &[&str]) -> Run {
    let mut server =
        Command::new(rejoin_tests::binary("rejoin-tests-samod-server")).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let run = measure("fanout.mjs", &format!("ws://127.0.0.1:{}", line.trim()), server.id(), arguments);
    server.kill().unwrap();
    server.wait().unwrap();
    run
}

/// Runs a load and checks that every change reached every reader.
fn measure(driver: &str, url: &str, pid: u32, arguments: &[&str]) -> Run {
    let output = Command::new("node")
        .args([driver, "--url", url, "--pid", &pid.to_string(), "--documents", "10", "--readers", "5"])
        .args(arguments)
        .current_dir(rejoin_tests::package_dir().join("interop"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "the load failed: {}", String::from_utf8_lossy(&output.stdout));
    let result: Json = serde_json::from_slice(&output.stdout).unwrap();
    let number = |name: &str| result[name].as_f64().unwrap();
    assert_eq!(number("delivered"), number("documents") * number("readers") * number("changes"));
    Run {
        delivered: number("delivered"),
        server_seconds: number("server_cpu_ms") / 1e3,
        latency_p50_ms: number("latency_p50_ms"),
    }
}
