//! A reader that never reads, while 1 GiB is written into the space that it follows: what the relay's process keeps in memory, with
//! such readers and without any. `SLOW_MB` says how much is written.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rejoin::SpaceId;
use rejoin_tests::crowd::{deaf, resident_kilobytes, watch_memory, write_bytes};
use rejoin_tests::relay::RelayProcess;

const SPACE: SpaceId = SpaceId::from_bytes([0xe1; 16]);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let megabytes: u64 = std::env::var("SLOW_MB").ok().and_then(|count| count.parse().ok()).unwrap_or(1_024);
    println!("| {megabytes} MiB written beside | took | resident at the start | at most |");
    println!("|---|---|---|---|");
    for readers in [0_u32, 1, 20] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let relay = RelayProcess::start_crowded(folder.path());
        let mut sockets = Vec::new();
        for number in 0..readers {
            sockets.push(deaf(relay.address(), SPACE, number).await.expect("the relay takes it"));
        }
        let before = resident_kilobytes(relay.pid());
        let stop = AtomicBool::new(false);
        let start = Instant::now();
        let (most, ()) = tokio::join!(watch_memory(relay.pid(), &stop), async {
            write_bytes(&relay.url(), SPACE, megabytes << 20).await;
            stop.store(true, Ordering::Relaxed);
        });
        println!(
            "| {readers} readers that never read | {:.0} s | {:.0} MB | {:.0} MB |",
            start.elapsed().as_secs_f64(),
            before as f64 / 1e3,
            most as f64 / 1e3
        );
        drop(sockets);
    }
}
