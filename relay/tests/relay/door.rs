//! Who is let in, and how the relay parts from its guests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rejoin::store::MemoryStore;
use rejoin_relay::metrics::Metrics;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::client::Raw;
use crate::metrics::series;
use crate::relay::Relay;
use crate::v1::client::V1;

/// Asks for a WebSocket with a header; returns it, or the status of the refusal and when to come back.
async fn knock(relay: &Relay, name: &'static str, value: &str) -> Result<impl Sized + use<>, (u16, Option<String>)> {
    let mut request = relay.url().into_client_request().unwrap();
    request.headers_mut().insert(name, value.parse().unwrap());
    match connect_async(request).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(refusal)) => {
            let after = refusal.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
            Err((refusal.status().as_u16(), after))
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pages_of_listed_origins_may_connect_and_programs_may() {
    let metrics = Arc::new(Metrics::new());
    let relay = Relay::start_counting(Arc::new(MemoryStore::new()), Arc::clone(&metrics), |config| {
        config.origins = vec!["https://app.example.org".to_owned()];
    })
    .await;
    assert!(knock(&relay, "origin", "https://app.example.org").await.is_ok());
    for foreign in ["https://evil.example.org", "https://app.example.org.evil.net", "http://app.example.org", "null"] {
        assert_eq!(knock(&relay, "origin", foreign).await.err(), Some((403, None)), "{foreign}");
    }
    drop(Raw::join(&relay.url(), "program").await);
    assert_eq!(series(&metrics.text())["rejoin_relay_connections_refused_total{reason=\"origin\"}"], 4.0);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn address_with_too_many_connections_harms_no_other() {
    let relay = Relay::start_with(Arc::new(MemoryStore::new()), |config| {
        config.limits.connections_per_address_max = 2;
    })
    .await;
    let _kept =
        [knock(&relay, "x-forwarded-for", "192.0.2.1").await, knock(&relay, "x-forwarded-for", "192.0.2.1").await];
    let (status, after) = knock(&relay, "x-forwarded-for", "192.0.2.1").await.err().unwrap();
    assert_eq!(status, 503);
    assert!(after.unwrap().parse::<u32>().unwrap() > 0);
    assert!(knock(&relay, "x-forwarded-for", "192.0.2.2").await.is_ok());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn address_that_knocks_too_often_is_told_to_wait() {
    let relay = Relay::start_with(Arc::new(MemoryStore::new()), |config| config.limits.upgrades_per_second = 1).await;
    let mut refused = None;
    while refused.is_none() {
        refused = knock(&relay, "x-forwarded-for", "2001:db8::1").await.err();
    }
    assert_eq!(refused.map(|(status, _)| status), Some(503));
    assert!(knock(&relay, "x-forwarded-for", "2001:db8:0:1::1").await.is_ok());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_relay_tells_clients_of_both_protocols_when_to_come_back() {
    let relay = Relay::start().await;
    let mut classic = Raw::join(&relay.url(), "classic").await;
    let (mut device, _) = V1::greet(&relay.url(), "device", Vec::new()).await;
    let (_, (_, close), (said, v1_close)) = tokio::join!(relay.stop(), classic.closed(), device.closed());
    let (close, v1_close) = (close.unwrap(), v1_close.unwrap());
    assert_eq!((u16::from(close.code), u16::from(v1_close.code)), (1001, 1001));
    assert!(close.reason.starts_with("reconnect-after="), "{}", close.reason);
    assert!(said.unwrap().text.starts_with("reconnect-after="));
    assert!(v1_close.reason.contains("reconnect-after="), "{}", v1_close.reason);
}

/// Reads after how many seconds a client is to come back.
fn seconds(text: &str) -> u64 {
    let (_, after) = text.split_once("reconnect-after=").unwrap();
    after.split(';').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_relay_spreads_those_who_come_back_over_the_time_that_it_has_for_them() {
    const EACH: usize = 150;
    // A hundred come back in a second, unless the operator says that they are to come sooner.
    for (max_seconds, last) in [(30, 3), (2, 2), (0, 0)] {
        let relay = Relay::start_with(Arc::new(MemoryStore::new()), |config| {
            config.limits.connections_per_address_max = 2 * EACH;
            config.limits.upgrades_per_second = 0;
            config.drain.reconnect_after_max_seconds = Duration::from_secs(max_seconds);
        })
        .await;
        let (mut classic, mut modern) = (Vec::new(), Vec::new());
        for number in 0..EACH {
            classic.push(Raw::join(&relay.url(), &format!("classic {number}")).await);
            modern.push(V1::greet(&relay.url(), &format!("device {number}"), Vec::new()).await.0);
        }
        let classic = join_all(classic.iter_mut().map(async |raw| seconds(&raw.closed().await.1.unwrap().reason)));
        let modern = join_all(modern.iter_mut().map(async |device| {
            let (said, close) = device.closed().await;
            let after = seconds(&said.unwrap().text);
            assert_eq!(seconds(&close.unwrap().reason), after);
            after
        }));
        let (classic, modern, ()) = tokio::join!(classic, modern, relay.stop());
        for delays in [classic, modern] {
            let mut counts = BTreeMap::new();
            delays.iter().for_each(|delay| *counts.entry(*delay).or_insert(0) += 1);
            assert_eq!(counts.keys().copied().collect::<Vec<_>>(), (0..=last).collect::<Vec<_>>(), "{counts:?}");
            // With fair dice fewer than a fifth of what is due come once in 10^10 runs.
            let due = EACH / counts.len();
            assert!(counts.values().all(|count| *count > due / 5), "{counts:?}");
        }
    }
}
