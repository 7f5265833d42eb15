//! Peers that are gone without a word, and peers that take nothing: how long the relay keeps them, and what it keeps for them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use rejoin::codec::v1::{ClientMessage, Presence};
use rejoin::store::MemoryStore;
use rejoin_relay::limits::PRESENCE_QUEUE_BYTES_MAX;
use rejoin_relay::metrics::Metrics;
use tokio::time::timeout;

use crate::client::{Client, PATIENCE, Raw, document, peer};
use crate::limits::change;
use crate::metrics::series;
use crate::relay::Relay;
use crate::v1::client::{TEAM, V1, chain};

const PING: Duration = Duration::from_millis(100);
const DEAD: Duration = Duration::from_secs(3);

/// Reads one series of the metrics.
fn count(metrics: &Metrics, name: &str) -> f64 {
    series(&metrics.text())[name]
}

/// Waits until something holds.
async fn until(mut holds: impl FnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.expect("what is waited for does not happen");
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_that_answers_no_ping_is_closed_and_one_that_does_stays() {
    let metrics = Arc::new(Metrics::new());
    let relay = Relay::start_counting(Arc::new(MemoryStore::new()), Arc::clone(&metrics), |config| {
        config.limits.ping_seconds = PING;
        config.limits.dead_after_seconds = DEAD;
    })
    .await;
    // They are there, and nobody reads what comes: so nobody answers.
    let silent = (Raw::join(&relay.url(), "silent").await, V1::follow(&relay.url(), "mute", TEAM).await);
    let mut alive = Raw::join(&relay.url(), "alive").await;
    let answering = tokio::spawn(async move {
        // Pings are answered by whoever reads.
        while let Some(Ok(_)) = alive.socket.next().await {}
    });
    until(|| count(&metrics, "rejoin_relay_silent_peers_closed_total") >= 2.0).await;
    until(|| count(&metrics, "rejoin_relay_connections{protocol=\"v1\"}") == 0.0).await;
    // As long again, and a little.
    tokio::time::sleep(DEAD + 5 * PING).await;
    assert_eq!(count(&metrics, "rejoin_relay_connections{protocol=\"classic\"}"), 1.0);
    assert_eq!(count(&metrics, "rejoin_relay_silent_peers_closed_total"), 2.0);
    assert!(!answering.is_finished());
    drop(silent);
    relay.stop().await;
    answering.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_reader_that_reads_nothing_is_bounded_and_it_catches_up() {
    const BOUND: usize = 256 << 10;
    let metrics = Arc::new(Metrics::new());
    let relay = Relay::start_counting(Arc::new(MemoryStore::new()), Arc::clone(&metrics), |config| {
        config.limits.outbound_queue_bytes_max = BOUND;
    })
    .await;
    let mut alice = V1::follow(&relay.url(), "alice", TEAM).await;
    alice.store(TEAM, chain(document(1), "alice", 1, "k")).await;
    let mut bob = V1::follow(&relay.url(), "bob", TEAM).await;
    let value = |sequence| Presence {
        author: peer("alice"),
        document: document(1),
        key: "cursor".to_owned(),
        sequence,
        ttl_ms: 30_000,
        data: vec![7; 200 << 10].into(),
    };
    let mut most = 0.0_f64;
    for sequence in 1..=200 {
        // Far more than sockets hold on the way, while bob reads nothing.
        alice.send(&ClientMessage::Presence { space: TEAM, values: vec![value(sequence)] }).await;
        alice
            .store(TEAM, chain(document(2), "alice", sequence, "k").split_off(usize::try_from(sequence).unwrap() - 1))
            .await;
        most = most.max(count(&metrics, "rejoin_relay_backlog_bytes"));
    }
    // What others show has a queue of its own; a message more than both bounds may wait, of the 40 MB that were sent.
    let bound = BOUND + PRESENCE_QUEUE_BYTES_MAX + (200 << 10) + 4_096;
    assert!(most > 0.0 && most <= bound as f64, "{most} bytes waited");
    let mut read = bob.changes(200).await;
    read.sort_by_key(|(position, _)| *position);
    assert_eq!(read.iter().map(|(position, _)| *position).collect::<Vec<_>>(), (2..=201).collect::<Vec<_>>());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reader_that_takes_nothing_is_closed_in_either_protocol_and_others_are_served() {
    let metrics = Arc::new(Metrics::new());
    let relay = Relay::start_counting(Arc::new(MemoryStore::new()), Arc::clone(&metrics), |config| {
        config.limits.write_stall_seconds = Duration::from_millis(500);
        config.limits.bytes_per_second = 0;
        config.limits.append_bytes_per_second = 0;
    })
    .await;
    let closed = || count(&metrics, "rejoin_relay_slow_consumers_closed_total");
    let mut alice = V1::follow(&relay.url(), "alice", TEAM).await;
    let mut stalled = V1::follow(&relay.url(), "bob", TEAM).await;
    // It lets come whatever there is, and reads none of it.
    stalled.send(&ClientMessage::Credit { bytes: 1 << 29 }).await;
    // More than sockets hold on the way.
    for number in 1..=64 {
        alice.store(TEAM, vec![change(document(number), 1 << 20)]).await;
    }
    until(|| closed() == 1.0).await;
    drop(stalled);

    let mut ann = Client::connect(&relay.url(), "ann").await;
    ann.set(document(100), "k", 1);
    ann.open(document(100));
    ann.until(|ann| ann.is_acknowledged(document(100))).await;
    let mut stalled = Client::connect(&relay.url(), "ben").await;
    stalled.open(document(100));
    stalled.until(|stalled| stalled.count(document(100)) == 1).await;
    let data = vec![7; 1 << 20].into();
    let mut number = 0;
    // The oldest of what waits makes room for the newest, so it is said until the socket takes nothing any more.
    let saying = async {
        while closed() < 2.0 {
            number += 1;
            ann.echo(document(100), &peer("ann"), number, &data);
            ann.send_all().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, saying).await.expect("nobody is closed");
    until(|| count(&metrics, "rejoin_relay_connections{protocol=\"classic\"}") == 1.0).await;
    ann.set(document(100), "k", 2);
    ann.until(|ann| ann.is_acknowledged(document(100))).await;
    alice.store(TEAM, vec![change(document(101), 10)]).await;
    assert_eq!(closed(), 2.0);
    relay.stop().await;
}
