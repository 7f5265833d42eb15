//! What watches a relay sees while somebody reads a long copy of it, and while it stops.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::*;
use crate::http::ask_at;
use crate::limits::change_to;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks as often as it takes until an answer has some text, and returns that answer.
async fn until(admin: SocketAddr, request: &str, text: impl Fn(&str) -> bool) -> String {
    let asking = async {
        loop {
            let (_, answer) = ask_at(admin, request).await;
            if text(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("the answer comes")
}

/// Bytes that nothing makes shorter.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

fn get(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn age_of_an_export_that_nobody_takes_shows() {
    let relay = Administered::start().await;
    let mut alice = V1::follow(&relay.url(), "alice", TEAM).await;
    // More than sockets hold on the way; an export is compressed.
    for number in 1..=24 {
        alice.store(TEAM, vec![change_to(document(number), noise(1 << 20))]).await;
    }
    let metrics = get("/metrics", &relay.token);
    let age = |answer: &str| {
        let line = answer.lines().find_map(|line| line.strip_prefix("rejoin_relay_longest_read_seconds "));
        line.unwrap().parse::<f64>().unwrap()
    };
    until(relay.admin, &metrics, |answer| age(answer) == 0.0).await;
    let mut slow = TcpStream::connect(relay.admin).await.unwrap();
    slow.write_all(get(&format!("/v1/spaces/{TEAM}/export"), &relay.token).as_bytes()).await.unwrap();
    until(relay.admin, &metrics, |answer| age(answer) > 0.0).await;
    drop(slow);
    until(relay.admin, &metrics, |answer| age(answer) == 0.0).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_that_stops_says_so_to_who_watches_it() {
    let relay = Administered::start().await;
    // One who does not answer that it is to go.
    let silent = Raw::connect(&relay.url()).await;
    let Administered { admin, token, data, stop, running, .. } = relay;
    until(admin, &get("/readyz", &token), |answer| answer.starts_with("HTTP/1.1 200")).await;
    stop.send(()).unwrap();
    let answer = until(admin, &get("/readyz", &token), |answer| answer.starts_with("HTTP/1.1 503")).await;
    assert!(answer.contains("draining: the relay is stopping"), "{answer}");
    let answer = until(admin, &get("/metrics", &token), |answer| answer.contains("rejoin_relay_draining 1")).await;
    assert!(answer.contains("rejoin_relay_ready 0"), "{answer}");
    drop(silent);
    running.await.unwrap().unwrap();
    assert!(TcpStream::connect(admin).await.is_err());
    drop(data);
}
