//! A client that has everything of a space comes back, and a few documents were changed meanwhile: what goes over the wire.
//!
//! By `rejoin.v1` with 100,000 documents, 10 of them changed: once with a raw client that has a cursor and keeps nothing, and
//! once with a `Repo` on a file that holds them all. Beside it what automerge-repo moves for 1,000 documents, 10 of them
//! changed, against the same relay. All go through a proxy that counts.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark prints what it measured and fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rejoin::codec::v1::{ClientMessage, Content, Mode, RelayMessage, Start, Subscription, Write};
use rejoin::gate::{Action, ChangeDraft, CheckedChange, DraftObject, DraftOp, encode};
use rejoin::ledger::cursor::{self, Cursor};
use rejoin::ledger::follow::{self, Following};
use rejoin::ledger::log;
use rejoin::store::{StoreExt, WriteTx, storage_id};
use rejoin::{ActorId, ConnectOptions, Epoch, Protocol, Repo, ScalarValue, SpaceId, StorageId};
use rejoin_tests::load::{document, fill, first_change, verdict};
use rejoin_tests::node::Node;
use rejoin_tests::proxy::{Proxy, Traffic};
use rejoin_tests::raw::RawClient;
use rejoin_tests::relay::RelayProcess;
use serde_json::json;

const SPACE: SpaceId = SpaceId::from_bytes([7; 16]);
const EPOCH: Epoch = Epoch::from_bytes([9; 16]);
const DOCUMENTS: u32 = 100_000;
const CHANGED: u32 = 10;
const BYTES_MAX: u64 = 20_000;
/// Documents of the JavaScript client.
const DOCUMENTS_CLASSIC: u32 = 1_000;
/// How long nothing is said when all is said.
const QUIET: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let storage = fill_relay(&folder.path().join("relay"));
    let client = folder.path().join("client.redb");
    fill_client(&client, &storage);
    let relay = RelayProcess::start(&folder.path().join("relay"));
    change(&relay).await;

    println!("| documents, {CHANGED} changed | client | messages | bytes both ways | time |");
    println!("|---|---|---|---|---|");
    let proxy = Proxy::start(&relay.url()).await;
    let (raw_bytes, round_trips) = raw(&proxy).await;
    let native_bytes = native(&proxy, client).await;
    drop(relay);
    classic(&folder.path().join("classic")).await;
    let bytes = raw_bytes.max(native_bytes);
    println!(
        "at most {bytes} bytes, handshakes and all (below {BYTES_MAX}: {}), {round_trips} round trip after welcome (1: {})",
        verdict(bytes < BYTES_MAX),
        verdict(round_trips == 1),
    );
}

fn show(documents: u32, client: &str, traffic: &Traffic, time: Duration) {
    println!(
        "| {documents} | {client} | {} up, {} down | {} | {:.1} ms |",
        traffic.up_messages,
        traffic.down_messages,
        traffic.bytes(),
        time.as_secs_f64() * 1e3,
    );
}

fn fill_relay(data: &Path) -> StorageId {
    std::fs::create_dir(data).unwrap();
    let store = fill(&data.join("relay.redb"), &SPACE, DOCUMENTS, true);
    store.write_with(|tx: &mut dyn WriteTx| log::set_epoch(tx, &EPOCH)).unwrap();
    storage_id(&store, [3; 16]).unwrap()
}

/// Makes the file of a client that has had everything from the relay.
fn fill_client(path: &Path, relay: &StorageId) {
    let store = fill(path, &SPACE, DOCUMENTS, false);
    let remember = |tx: &mut dyn WriteTx| {
        follow::follow(tx, &SPACE, Following::Everything)?;
        follow::note_relay(tx, relay)?;
        cursor::put(tx, relay, &SPACE, &Cursor { epoch: EPOCH, position: DOCUMENTS.into() })
    };
    store.write_with(remember).unwrap();
}

/// Changes some documents while nobody looks.
async fn change(relay: &RelayProcess) {
    let mut writer = RawClient::connect(&relay.url(), "writer", Vec::new()).await;
    let writes = (0..CHANGED).map(|number| number * (DOCUMENTS / CHANGED)).map(|number| Write {
        document: document(number),
        content: Content::Change(second_change(number).bytes().clone()),
    });
    writer.push(SPACE, writes.collect()).await;
    let RelayMessage::Ack { results, .. } = writer.next().await else { panic!("no ack") };
    assert_eq!(results.iter().map(|run| run.count).sum::<u64>(), u64::from(CHANGED));
}

fn second_change(number: u32) -> CheckedChange {
    let op = DraftOp {
        object: DraftObject::Root,
        key: "done".to_owned(),
        action: Action::Put,
        value: ScalarValue::Boolean(true),
        preds: Vec::new(),
    };
    let draft = ChangeDraft {
        actor: ActorId::from(&[8; 16][..]),
        seq: 1,
        start_op: 2,
        timestamp: 0,
        message: None,
        deps: vec![first_change(number).hash()],
        ops: vec![op],
    };
    encode(&draft).unwrap()
}

/// Comes back with a cursor; returns all bytes, and how many round trips it took after welcome.
async fn raw(proxy: &Proxy) -> (u64, u64) {
    let begin = Instant::now();
    let mut client = RawClient::connect(&proxy.url(), "raw", Vec::new()).await;
    let welcomed = Instant::now();
    let handshake = proxy.take();
    let start = Start::Cursor { epoch: client.welcome.epoch, position: DOCUMENTS.into() };
    let subscription = Subscription { space: SPACE, mode: Mode::Everything, start };
    client.send(&ClientMessage::Subscribe { subscriptions: vec![subscription] }).await;
    let (writes, _) = client.caught_up().await;
    let after = proxy.take();
    assert_eq!(writes, CHANGED as usize);
    show(DOCUMENTS, "rejoin.v1, raw: connecting to welcome", &handshake, welcomed - begin);
    show(DOCUMENTS, "rejoin.v1, raw: from welcome on", &after, welcomed.elapsed());
    // All that is said before the client is caught up goes out at once: each message of its own is a round trip at most.
    (handshake.bytes() + after.bytes(), after.up_messages)
}

/// Comes back with a file that holds everything; returns all bytes.
async fn native(proxy: &Proxy, path: PathBuf) -> u64 {
    let repo = Repo::open(path).await.unwrap();
    proxy.take();
    let start = Instant::now();
    let mut connection = repo.connect_with(&proxy.url(), &ConnectOptions::new().protocol(Protocol::RejoinV1)).unwrap();
    connection.wait_caught_up(PATIENCE).await.unwrap();
    let time = start.elapsed();
    proxy.quiet(QUIET).await;
    let traffic = proxy.take();
    let changed = repo.find(document(0)).await.unwrap().unwrap();
    assert_eq!(changed.to_json().await.unwrap()["done"], true);
    show(DOCUMENTS, "rejoin.v1, native, all of it", &traffic, time);
    drop((changed, connection));
    repo.close().await;
    traffic.bytes()
}

/// The same with automerge-repo in Node and far fewer documents.
async fn classic(data: &Path) {
    let relay = RelayProcess::start(data);
    let proxy = Proxy::start(&relay.url()).await;
    let mut client = Node::connected(&proxy.url()).await;
    let mut urls = Vec::new();
    for number in 0..DOCUMENTS_CLASSIC {
        let value = json!({ "value": { "title": format!("a small document, number {number}") } });
        urls.push(client.call("create", value).await["url"].as_str().unwrap().to_owned());
    }
    proxy.quiet(QUIET * 2).await;
    client.call("disconnect", json!({})).await;

    let other = Proxy::start(&relay.url()).await;
    let mut writer = Node::connected(&other.url()).await;
    let changed: Vec<&String> = urls.iter().step_by((DOCUMENTS_CLASSIC / CHANGED) as usize).collect();
    let mut heads = Vec::new();
    for url in &changed {
        writer.find(url).await;
        writer.change(url, json!([{ "do": "set", "path": ["done"], "value": true }])).await;
        heads.push(writer.call("heads", json!({ "url": url })).await["heads"].clone());
    }
    other.quiet(QUIET).await;
    proxy.take();
    let start = Instant::now();
    client.call("connect", json!({ "url": proxy.url() })).await;
    for (url, heads) in changed.iter().zip(&heads) {
        client.call("waitHeads", json!({ "url": url, "heads": heads, "timeout_ms": 60_000 })).await;
    }
    let time = start.elapsed();
    let settled = proxy.quiet(QUIET).await - start;
    let traffic = proxy.take();
    show(DOCUMENTS_CLASSIC, "classic, automerge-repo: until the changes are there", &traffic, time);
    println!(
        "| {DOCUMENTS_CLASSIC} | classic, automerge-repo: until nothing more is said | | | {:.1} ms |",
        settled.as_secs_f64() * 1e3
    );
}
