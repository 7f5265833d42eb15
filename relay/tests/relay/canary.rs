//! Secrets and contents stay where they belong: whatever happens, no line of the real relay's log holds any of them.
//!
//! Each secret holds the same rare word. Everything that a stranger can make the relay say is made to be said, at the finest level
//! and in both formats, and the word is looked for in all that came out: lines, errors, close reasons, answers.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use futures_util::SinkExt;
use rejoin::codec::classic::Frame;
use rejoin::codec::v1::{ClientMessage, Code, Content, ErrorMessage, Presence, Start, Token, Write};
use rejoin::gate::{Action, ChangeDraft, DraftObject, DraftOp, encode};
use rejoin::ledger::{self, Appender};
use rejoin::store::{MemoryStore, Store, StoreExt};
use rejoin::{ActorId, DocumentId, ScalarValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::client::{Client, Raw, document, peer};
use crate::process::Process;
use crate::v1::client::{HOME, TEAM, V1, all_of, hello};

/// The word. It is no part of any other.
const CANARY: &str = "xyzzycanary";

/// Writes a change whose field, value and message are secret.
fn write_secret(store: &MemoryStore, document: DocumentId) {
    let (key, value) = (format!("{CANARY}-key"), format!("{CANARY}-value"));
    let message = format!("{CANARY}-message");
    let actor = ActorId::from(b"secretive".as_slice());
    let put = |tx: &mut dyn rejoin::store::WriteTx| {
        let mut appender = Appender::begin(tx, document)?;
        let state = appender.state();
        let op = DraftOp {
            object: DraftObject::Root,
            key: key.clone(),
            action: Action::Put,
            value: ScalarValue::Str(value.as_str().into()),
            preds: Vec::new(),
        };
        let change = encode(&ChangeDraft {
            seq: ledger::last_seq(tx, &document, &actor)? + 1,
            start_op: state.max_op + 1,
            timestamp: 0,
            message: Some(message.as_str()),
            deps: state.head_hashes(),
            ops: vec![op],
            actor: actor.clone(),
        });
        appender.append(tx, &change.unwrap())?;
        appender.finish(tx)
    };
    store.write_with(put).unwrap();
}

fn secret_write(document: DocumentId) -> Write {
    let store = MemoryStore::new();
    write_secret(&store, document);
    let change = ledger::change(&*store.read().unwrap(), &document, 0).unwrap();
    Write { document, content: Content::Change(change.into()) }
}

/// Everything that was said by the relay, where somebody outside hears it.
#[derive(Default)]
struct Heard(Vec<String>);

impl Heard {
    fn note(&mut self, what: impl std::fmt::Debug) {
        self.0.push(format!("{what:?}"));
    }
}

async fn speak_classic(url: &str, heard: &mut Heard) {
    let mut alice = Client::connect(url, "alice").await;
    write_secret(&alice.store, document(1));
    alice.open(document(1));
    alice.until(|alice| alice.is_acknowledged(document(1))).await;
    let mut bob = Client::connect(url, "bob").await;
    bob.open(document(1));
    bob.until(|bob| bob.count(document(1)) == 1).await;
    let junk = format!("\u{42}{CANARY}");
    let frames = [
        Bytes::from(format!("\u{a1}{CANARY}").into_bytes()),
        Bytes::from([b"\xa1\x64type\x6b".as_slice(), CANARY.as_bytes()].concat()),
        Bytes::from([b"\xa2\x64type\x65error\x67message\x6b".as_slice(), CANARY.as_bytes()].concat()),
    ];
    for frame in frames {
        let mut mallory = Raw::join(url, "mallory").await;
        mallory.send(frame).await;
        let _ = mallory.socket.close(None).await;
        heard.note(mallory.closed().await);
    }
    let mut mallory = Raw::join(url, "mallory").await;
    let relay = mallory.relay.clone().unwrap();
    let data = Bytes::from(junk.into_bytes());
    let sync = Frame::Sync { sender_id: peer("mallory"), target_id: relay, document: document(2), data };
    mallory.send(sync.encode()).await;
    heard.note(mallory.closed().await);
    let mut mallory = Raw::connect(url).await;
    let versions = vec![CANARY.to_owned()];
    mallory.send(Frame::Join { sender_id: peer("mallory"), metadata: Default::default(), versions }.encode()).await;
    heard.note(mallory.closed().await);
    let mut mallory = Raw::join(url, "mallory").await;
    mallory.socket.send(Message::text(CANARY)).await.unwrap();
    heard.note(mallory.closed().await);
    let mut mallory = Raw::join(url, "mallory").await;
    let close = CloseFrame { code: CloseCode::Policy, reason: CANARY.into() };
    mallory.socket.close(Some(close)).await.unwrap();
    let _ = mallory.closed().await;
}

async fn speak_v1(url: &str, heard: &mut Heard) {
    let mut alice = V1::follow(url, "alice", TEAM).await;
    let mut bob = V1::follow(url, "bob", TEAM).await;
    alice.store(TEAM, vec![secret_write(document(3))]).await;
    bob.changes(1).await;
    let mut broken = secret_write(document(4));
    if let Content::Change(bytes) = &mut broken.content {
        let mut cut = bytes.to_vec();
        cut.truncate(cut.len() - 1);
        *bytes = cut.into();
    }
    let text = Content::Change(Bytes::from_static(CANARY.as_bytes()));
    let junk = Write { document: document(4), content: text };
    heard.note(alice.store(TEAM, vec![broken, junk, secret_write(document(1))]).await);
    heard.note(alice.store(HOME, vec![secret_write(document(3))]).await);
    let data = Bytes::from_static(CANARY.as_bytes());
    let (author, key) = (peer("alice"), format!("{CANARY}-key"));
    let values = vec![Presence { author, document: document(3), key, sequence: 1, ttl_ms: 1_000, data }];
    alice.send(&ClientMessage::Presence { space: TEAM, values }).await;
    let about = rejoin::codec::v1::About::Connection;
    let error = ErrorMessage { code: Code::Internal, text: CANARY.to_owned(), is_fatal: false, about };
    alice.send(&ClientMessage::Error(error)).await;
    alice.send_bytes([b"\x7f".as_slice(), CANARY.as_bytes()].concat()).await;
    heard.note(alice.closed().await);
    let mut mallory = V1::connect(url).await;
    let mut hello = hello("mallory", vec![all_of(TEAM, Start::Beginning)]);
    hello.token = Token::new(format!("{CANARY}-token"));
    mallory.send(&ClientMessage::Hello(hello)).await;
    mallory.send_bytes(CANARY.as_bytes().to_vec()).await;
    heard.note(mallory.closed().await);
}

async fn knock_with_tokens(url: &str, heard: &mut Heard) {
    let token = format!("rjt_0011223344556677_{CANARY}");
    let mut by_header = url.into_client_request().unwrap();
    by_header.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    by_header.headers_mut().insert("x-forwarded-for", CANARY.parse().unwrap());
    let mut by_protocol = url.into_client_request().unwrap();
    by_protocol
        .headers_mut()
        .insert("sec-websocket-protocol", format!("rejoin.v1, rejoin.bearer.{token}").parse().unwrap());
    let base = url.split('?').next().unwrap().to_owned();
    let by_ticket = format!("{base}?ticket=rjk_{CANARY}").into_client_request().unwrap();
    let by_url = format!("{base}?token={token}").into_client_request().unwrap();
    for request in [by_header, by_protocol, by_ticket, by_url] {
        match connect_async(request).await {
            Ok((mut socket, response)) => {
                let names: Vec<_> = response.headers().keys().cloned().collect();
                heard.note(names);
                let _ = socket.send(Message::Binary(Bytes::from_static(CANARY.as_bytes()))).await;
                let _ = socket.close(None).await;
            }
            Err(error) => heard.note(error),
        }
    }
    let address = base.trim_start_matches("ws://").split('/').next().unwrap().to_owned();
    for request in [
        format!("GET /{CANARY}?ticket={CANARY} HTTP/1.1\r\nhost: relay\r\ncookie: {CANARY}\r\n\r\n"),
        format!("POST /ticket HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer {token}\r\ncontent-length: 0\r\n\r\n"),
        format!(
            "POST /share HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer {token}\r\ncontent-length: 11\r\n\r\n{CANARY}"
        ),
        format!("{CANARY} / HTTP/9\r\n\r\n"),
    ] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        heard.note(String::from_utf8_lossy(&answer));
    }
}

/// Asks the admin API with one secret and another. Returns those that were made here, which are nobody's business either.
fn administer(address: &str, data: &Path, url: &str, heard: &mut Heard) -> Vec<String> {
    let admin = std::fs::read_to_string(data.join(rejoin_relay::admin::TOKEN_FILE)).unwrap().trim().to_owned();
    let config = ureq::config::Config::builder().http_status_as_error(false);
    let agent = config.build().new_agent();
    let ask = |token: &str, method: &str, path: &str, body: String| {
        let request = ureq::http::Request::builder().method(method).uri(format!("http://{address}{path}"));
        let request = request.header("authorization", format!("Bearer {token}"));
        let answer = agent.run(request.header("content-type", "application/json").body(body).unwrap());
        let text = answer.unwrap().body_mut().read_to_string().unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap_or_default()
    };
    heard.note(ask(CANARY, "GET", "/v1/spaces", String::new()));
    heard.note(ask(&admin, "GET", &format!("/v1/tokens?limit={CANARY}"), String::new())["code"].as_str());
    heard.note(ask(&admin, "POST", "/v1/tokens", format!("{{\"secret\":\"{CANARY}\"}}"))["code"].as_str());
    assert_eq!(ask(&admin, "POST", "/v1/principals", r#"{"id":"ada"}"#.to_owned())["id"], "ada");
    let made = ask(&admin, "POST", "/v1/tokens", r#"{"principal":"ada"}"#.to_owned());
    let (id, secret) = (made["token"]["id"].as_str().unwrap(), made["secret"].as_str().unwrap().to_owned());
    let turned = ask(&admin, "POST", &format!("/v1/tokens/{id}/rotate"), r#"{"grace_seconds":60}"#.to_owned());
    let turned = turned["secret"].as_str().unwrap().to_owned();
    // What its holder does after it was taken back is refused, and says nothing of it either.
    for is_revoked in [false, true] {
        if is_revoked {
            ask(&admin, "DELETE", &format!("/v1/tokens/{id}"), String::new());
        }
        let http = url.replacen("ws://", "http://", 1);
        let base = http.split("/any").next().unwrap();
        let request = agent.post(format!("{base}/ticket")).header("authorization", format!("Bearer {secret}"));
        let status = request.send_empty().unwrap().status().as_u16();
        assert_eq!(status, if is_revoked { 401 } else { 200 });
    }
    vec![admin, secret, turned]
}

/// Runs the real relay at its most talkative, and returns what it said, and more secrets than [`CANARY`].
async fn run(data: &Path, arguments: &[&str]) -> (String, Heard, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rejoin-relay"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(arguments);
    command.env("RUST_LOG", "trace").env("REJOIN_RELAY_ADMIN_LISTEN", "127.0.0.1:0").env("RUST_BACKTRACE", "1");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    // Where the admin API is, the log says.
    let admin = loop {
        let begin = text.len();
        assert_ne!(stderr.read_line(&mut text).unwrap(), 0, "it ended: {text}");
        if let Some((_, rest)) = text[begin..].split_once("127.0.0.1:").filter(|_| text[begin..].contains("admin API"))
        {
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            break format!("127.0.0.1:{port}");
        }
    };
    let log = std::thread::spawn(move || {
        stderr.read_to_string(&mut text).unwrap();
        text
    });
    let process = Process::of(child);
    let url = format!("{}/any/path?and=query", process.url);
    let mut heard = Heard::default();
    if arguments.contains(&"--open") {
        speak_classic(&url, &mut heard).await;
        speak_v1(&url, &mut heard).await;
    }
    knock_with_tokens(&url, &mut heard).await;
    let secrets = tokio::task::block_in_place(|| administer(&admin, data, &url, &mut heard));
    process.end();
    (log.join().unwrap(), heard, secrets)
}

fn assert_clean(log: &str, heard: &Heard, secrets: &[String]) {
    let leaks = |line: &&str| line.contains(CANARY) || secrets.iter().any(|secret| line.contains(secret.as_str()));
    let leaks: Vec<_> = log.lines().chain(heard.0.iter().map(String::as_str)).filter(leaks).collect();
    assert!(leaks.is_empty(), "{} lines hold a secret, the first: {}", leaks.len(), leaks[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_of_an_open_relays_log_holds_a_secret() {
    for format in ["human", "json"] {
        let folder = tempfile::tempdir().unwrap();
        let (log, heard, secrets) = run(folder.path(), &["--open", "--log-format", format]).await;
        assert_clean(&log, &heard, &secrets);
        for said in ["a connection ended", "a connection is closed", "a peer reports an error"] {
            assert!(log.contains(said), "{said} is not in the log, so the test shows nothing: {log}");
        }
        if format == "json" {
            assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_of_a_closed_relays_log_holds_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let (log, heard, secrets) = run(folder.path(), &["--log-format", "json"]).await;
    assert_clean(&log, &heard, &secrets);
}
