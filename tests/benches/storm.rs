//! An honest client that writes as soon as it was answered, at most 200 times a second, alone and beside storms: 5,000 connections at
//! once, a flood of pushes, 5,000 that come back after the relay was started again, 1,000 that send a byte a second, guesses of
//! document ids, and somebody who sends ten times what he may.
//!
//! `STORM` says how many connections a storm has, and `STORM_PART` in which parts (a part of their names) besides the first. The peers of
//! the storm use the same processors, which counts against the relay.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rejoin::SpaceId;
use rejoin_tests::crowd::{Abuse, Honest, Kind, abuse, connect_all, drip, flood, guess, settings_with_quota};
use rejoin_tests::load::percentile;
use rejoin_tests::relay::RelayProcess;
use tokio::time::sleep;

const SPACE: SpaceId = SpaceId::from_bytes([0xe1; 16]);
const OTHER: SpaceId = SpaceId::from_bytes([0xe2; 16]);
const INTERVAL: Duration = Duration::from_millis(5);
/// How long a part lasts at least, so that there are 99th percentiles.
const PART: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let count: u32 = std::env::var("STORM").ok().and_then(|count| count.parse().ok()).unwrap_or(5_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut relay = RelayProcess::start_crowded(folder.path());
    let (url, address) = (relay.url(), relay.address());
    println!("| beside an honest client | ack p50 | p99 | of alone, p99 | |");
    println!("|---|---|---|---|---|");
    let alone = part(&url, "nothing", None, async { String::new() }).await;

    let mut sockets = Vec::new();
    part(&url, "a storm of connections", Some(alone), async {
        let start = Instant::now();
        let (crowd, refused) = connect_all(address, Kind::WithSpace, 0..count).await;
        sockets = crowd;
        format!("{count} in {:.1} s, {} refused", start.elapsed().as_secs_f64(), refused.len())
    })
    .await;
    part(&url, "that crowd, idle", Some(alone), async { String::new() }).await;

    let stop = AtomicBool::new(false);
    part(&url, "a flood of pushes", Some(alone), async {
        let (acknowledged, ()) = tokio::join!(flood(address, OTHER, &stop), async {
            sleep(PART).await;
            stop.store(true, Ordering::Relaxed);
        });
        format!("{acknowledged} changes of the flood stored")
    })
    .await;

    part(&url, "1,000 that send a byte a second", Some(alone), async {
        let closed = drip(address, 100_000..101_000, Duration::from_secs(60)).await;
        format!("{closed} closed within a minute")
    })
    .await;

    part(&url, "guesses of document ids", Some(alone), async {
        format!("{} of 20,000 answered in {} s", guess(address, 20_000, PART).await, PART.as_secs())
    })
    .await;

    abuser(alone).await;

    drop(sockets);
    relay.stop();
    relay.restart();
    part(&url, "all come back after a restart", Some(alone), async {
        let start = Instant::now();
        let (crowd, refused) = connect_all(address, Kind::WithSpace, 0..count).await;
        drop(crowd);
        format!("{count} in {:.1} s, {} refused", start.elapsed().as_secs_f64(), refused.len())
    })
    .await;
}

/// Somebody who sends ten times what one may write, at a relay of its own, where that is 1,000 changes a second.
async fn abuser(alone: f64) {
    const QUOTA: u32 = 1_000;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let relay = RelayProcess::start_with(folder.path(), &settings_with_quota(QUOTA));
    let stop = AtomicBool::new(false);
    part(&relay.url(), "an abuser at 10 x quota", Some(alone), async {
        let (abuse, ()) = tokio::join!(abuse(relay.address(), OTHER, 10 * QUOTA, &stop), async {
            sleep(PART).await;
            stop.store(true, Ordering::Relaxed);
        });
        let Abuse { wanted, stored, .. } = abuse;
        format!("{wanted} changes ready in {} s, {stored} stored, {QUOTA} a second allowed", PART.as_secs())
    })
    .await;
}

/// Measures the honest client while something happens, if that is wanted, and returns its 99th percentile.
async fn part(url: &str, name: &str, alone: Option<f64>, storm: impl Future<Output = String>) -> f64 {
    let wanted = std::env::var("STORM_PART").unwrap_or_default();
    if alone.is_some() && !name.contains(&wanted) {
        return 0.0;
    }
    let honest = Honest::start(url.to_owned(), SPACE, INTERVAL);
    let start = Instant::now();
    let said = storm.await;
    sleep(PART.saturating_sub(start.elapsed())).await;
    let mut waits = tokio::task::spawn_blocking(|| honest.finish()).await.expect("the honest client ends");
    let (half, most) = (percentile(&mut waits, 50), percentile(&mut waits, 99));
    println!("| {name} | {half:.1} ms | {most:.1} ms | {:.2} | {said} |", most / alone.unwrap_or(most));
    most
}
