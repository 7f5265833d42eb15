//! What the load benchmarks do, in small: bad peers beside an honest client. Nothing is asserted about time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rejoin::SpaceId;
use rejoin_tests::crowd::{
    ABUSE_PUSH, Honest, Kind, abuse, connect_all, deaf, drip, flood, guess, resident_kilobytes, settings_with_quota,
    watch_memory, write_bytes,
};
use rejoin_tests::relay::RelayProcess;
use rejoin_tests::wide;

const SPACE: SpaceId = SpaceId::from_bytes([0xe1; 16]);
const OTHER: SpaceId = SpaceId::from_bytes([0xe2; 16]);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_client_is_served_beside_crowds_floods_drips_and_guesses() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start_crowded(folder.path());
    let (url, address) = (relay.url(), relay.address());
    let honest = Honest::start(url.clone(), SPACE, Duration::from_millis(10));

    let mut crowd = Vec::new();
    for (kind, first) in [(Kind::Bare, 0), (Kind::WithDocument, 100), (Kind::WithSpace, 200), (Kind::Classic, 300)] {
        let (sockets, refused) = connect_all(address, kind, first..first + 100).await;
        assert_eq!(refused, Vec::<String>::new(), "{kind:?}");
        crowd.extend(sockets);
    }
    assert_eq!(crowd.len(), 400);

    // Whoever sends a byte a second is closed long before the patience of the test ends.
    let dripping = 20;
    let stop = AtomicBool::new(false);
    let (closed, stored, ()) = tokio::join!(
        drip(address, 1_000..1_000 + dripping, Duration::from_secs(120)),
        flood(address, OTHER, &stop),
        async {
            guess(address, 2_000, Duration::from_secs(10)).await;
            stop.store(true, Ordering::Relaxed);
        }
    );
    assert_eq!(closed, u64::from(dripping));
    assert!(stored > 0, "a flood is stored as far as it may be");

    let waits = tokio::task::spawn_blocking(|| honest.finish()).await.unwrap();
    assert!(waits.len() > 100, "the honest client wrote all the while: {}", waits.len());
}

/// The relay reads no more of him than he may write, and the honest client is no worse served than its own pace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abuser_at_ten_times_the_quota_writes_no_more_than_it() {
    const QUOTA: u32 = 200;
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start_with(folder.path(), &settings_with_quota(QUOTA));
    let honest = Honest::start(relay.url(), SPACE, Duration::from_millis(20));
    let (start, stop) = (Instant::now(), AtomicBool::new(false));
    let (abuse, ()) = tokio::join!(abuse(relay.address(), OTHER, 10 * QUOTA, &stop), async {
        // Until it is clear that he is held back.
        while start.elapsed() < Duration::from_secs(4) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stop.store(true, Ordering::Relaxed);
    });
    let quota = u64::from(QUOTA);
    let allowed = quota + ABUSE_PUSH + u64::try_from(start.elapsed().as_millis()).unwrap() * quota / 1_000;
    assert!(abuse.stored > 0 && abuse.stored <= allowed, "{abuse:?}, allowed {allowed}");
    assert!(abuse.wanted > 2 * allowed, "{abuse:?}, allowed {allowed}");

    let waits = tokio::task::spawn_blocking(|| honest.finish()).await.unwrap();
    assert!(waits.len() > 20, "the honest client wrote all the while: {}", waits.len());
}

/// 64 MiB for 8 readers that never read would be 512 MiB if they waited in memory. What the relay needs for itself is most of the
/// bound: its store's cache takes up to 256 MiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_never_read_cost_no_memory() {
    const MIB: u64 = 1_024;
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start_crowded(folder.path());
    let mut readers = Vec::new();
    for number in 0..8 {
        readers.push(deaf(relay.address(), SPACE, number).await.unwrap());
    }
    let before = resident_kilobytes(relay.pid());
    let stop = AtomicBool::new(false);
    let (most, ()) = tokio::join!(watch_memory(relay.pid(), &stop), async {
        write_bytes(&relay.url(), SPACE, 64 << 20).await;
        stop.store(true, Ordering::Relaxed);
    });
    assert!(most - before < 350 * MIB, "{} MiB more than before", (most - before) / MIB);
    drop(readers);
}

/// Each commit does a part of what takes long, and whoever waits beside it is in the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_take_long_to_look_up_keep_nobody_waiting() {
    const CONNECTIONS: u64 = 16;
    const EACH: u64 = 60;
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start_crowded(folder.path());
    let (stop, ready) = (AtomicBool::new(false), tokio::sync::Notify::new());
    let attack = wide::attack(relay.address(), OTHER, (CONNECTIONS, EACH, 20_000), || ready.notify_one(), &stop);
    let (stored, waits) = tokio::join!(attack, async {
        ready.notified().await;
        let honest = Honest::start(relay.url(), SPACE, Duration::ZERO);
        while honest.written() < 40 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.store(true, Ordering::Relaxed);
        tokio::task::spawn_blocking(|| honest.finish()).await.unwrap()
    });
    assert!(stored < CONNECTIONS * EACH / 2, "{stored} beside {} honest writes", waits.len());
}
