//! How soon a connection is closed when its token is revoked, and how late when it ends by itself, while others are connected.
//!
//! A revocation is measured from sending the request to the admin API until the socket is closed; an end from the second that
//! the token names.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints what it measured")]

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rejoin::codec::v1::{RelayMessage, Token};
use rejoin_tests::load::percentile;
use rejoin_tests::raw::RawClient;
use rejoin_tests::relay::{RelayProcess, free_port};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How many tokens are revoked, and how many end by themselves.
const TOKENS: usize = 200;

struct Admin {
    address: String,
    credential: String,
}

impl Admin {
    async fn ask(&self, method: &str, path: &str, body: Option<Json>) -> Json {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.credential,
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_default()
    }

    /// Makes a token: its id, its text, and when it ends.
    async fn token(&self, expires_in_seconds: Option<u64>) -> (String, String, Option<u64>) {
        let asked = json!({ "principal": "app", "expires_in_seconds": expires_in_seconds });
        let made = self.ask("POST", "/v1/tokens", Some(asked)).await;
        let text = |value: &Json| value.as_str().unwrap().to_owned();
        (text(&made["token"]["id"]), text(&made["secret"]), made["token"]["expires_seconds"].as_u64())
    }
}

/// Connects with a token, and waits for the close: its time.
async fn connect(url: &str, token: String) -> tokio::task::JoinHandle<(Instant, SystemTime)> {
    let stream = TcpStream::connect(url.strip_prefix("ws://").unwrap()).await.unwrap();
    let mut client = RawClient::over(stream, "app", Token::new(token), Vec::new()).await;
    tokio::spawn(async move {
        while !matches!(client.try_next().await, None | Some(RelayMessage::Error(_))) {}
        (Instant::now(), SystemTime::now())
    })
}

fn show(name: &str, mut millis: Vec<f64>) {
    let most = millis.iter().copied().fold(f64::MIN, f64::max);
    let (half, late) = (percentile(&mut millis, 50), percentile(&mut millis, 99));
    println!("| {name} | {} | {half:.1} ms | {late:.1} ms | {most:.1} ms |", millis.len());
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let most = 4 * TOKENS;
    let arguments = [
        format!("--admin-listen={address}"),
        format!("--limits-connections-per-address-max={most}"),
        format!("--limits-connections-per-principal-max={most}"),
        "--limits-upgrades-per-second=0".to_owned(),
    ];
    let relay = RelayProcess::start_with(folder.path(), &arguments);
    let credential = std::fs::read_to_string(Path::join(folder.path(), "admin-token")).unwrap().trim().to_owned();
    let admin = Admin { address, credential };
    admin.ask("POST", "/v1/principals", Some(json!({ "id": "app" }))).await;

    let (_, bystanders, _) = admin.token(None).await;
    let mut others = JoinSet::new();
    for _ in 0..TOKENS {
        let closed = connect(&relay.url(), bystanders.clone()).await;
        others.spawn(closed);
    }
    println!("| {TOKENS} others are connected | tokens | median | 99 of 100 | longest |");
    println!("|---|---|---|---|---|");
    let mut revoked = Vec::new();
    for _ in 0..TOKENS {
        let (id, secret, _) = admin.token(None).await;
        let closed = connect(&relay.url(), secret).await;
        let asked = Instant::now();
        admin.ask("DELETE", &format!("/v1/tokens/{id}"), None).await;
        let (at, _) = closed.await.unwrap();
        revoked.push(at.saturating_duration_since(asked).as_secs_f64() * 1_000.0);
    }
    show("revoked", revoked);

    let mut ending = Vec::new();
    for _ in 0..TOKENS {
        let (_, secret, ends) = admin.token(Some(4)).await;
        ending.push((ends.unwrap(), connect(&relay.url(), secret).await));
    }
    let mut late = Vec::new();
    for (ends, closed) in ending {
        let (_, at) = closed.await.unwrap();
        let end = UNIX_EPOCH + Duration::from_secs(ends);
        // Less than nothing would be too early.
        let seconds =
            at.duration_since(end).map_or_else(|early| -early.duration().as_secs_f64(), |late| late.as_secs_f64());
        late.push(seconds * 1_000.0);
    }
    show("ended by itself", late);
    assert!(others.try_join_next().is_none(), "nobody else was closed");
}
