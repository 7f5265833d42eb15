//! What the relay answers to HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rejoin::DocumentId;
use rejoin::store::testing::{FailingDisk, Failure};
use rejoin::store::{MemoryStore, ReadTx, RedbOptions, RedbStore, Store, StoreError, WriteTx};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;

use crate::client::{Client, Raw, document};
use crate::relay::Relay;

pub async fn get(relay: &Relay, path: &str) -> (u16, String) {
    ask(relay, &format!("GET {path} HTTP/1.1\r\nhost: relay\r\n\r\n")).await
}

/// Sends a request as it is.
pub async fn ask(relay: &Relay, request: &str) -> (u16, String) {
    ask_at(relay.address, request).await
}

/// Sends a request to a listener.
pub async fn ask_at(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_few_and_say_what_to_do() {
    let relay = Relay::start().await;
    assert_eq!(get(&relay, "/livez").await.0, 200);
    assert_eq!(get(&relay, "/readyz").await.0, 200);
    let (status, home) = get(&relay, "/").await;
    assert_eq!(status, 200);
    assert!(home.contains(env!("CARGO_PKG_VERSION")) && home.contains("ws://"));
    assert_eq!(get(&relay, "/secret").await.0, 404);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn web_application_is_served_beside_the_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let (root, outside) = (folder.path().join("dist"), folder.path().join("outside.txt"));
    std::fs::create_dir_all(root.join("assets")).unwrap();
    std::fs::write(root.join("index.html"), "<!doctype html>the demo").unwrap();
    std::fs::write(root.join("assets/engine-1a2b.wasm"), [0, 97, 115, 109]).unwrap();
    std::fs::write(outside, "a secret").unwrap();
    let relay = Relay::start_with(Arc::new(MemoryStore::new()), |config| config.demo = Some(root)).await;
    let (status, page) = get(&relay, "/").await;
    assert!(status == 200 && page.ends_with("the demo"), "{page}");
    assert!(page.contains("cache-control: no-cache") && page.contains("content-type: text/html"), "{page}");
    let (status, engine) = get(&relay, "/assets/engine-1a2b.wasm").await;
    assert!(status == 200 && engine.contains("content-type: application/wasm"), "{engine}");
    assert!(engine.contains("immutable"), "{engine}");
    for path in ["/absent", "/../outside.txt", "/%2e%2e/outside.txt", "/assets/../../outside.txt", "//etc/passwd"] {
        let (status, answer) = get(&relay, path).await;
        assert!(
            matches!(status, 400 | 404) && !answer.contains("secret") && !answer.contains("root:"),
            "{path}: {answer}"
        );
        assert!(!answer.contains("immutable"), "{answer}");
    }
    assert_eq!(get(&relay, "/livez").await.0, 200);
    drop(Raw::join(&relay.url(), "classic").await);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_above_the_maximum_is_asked_to_come_back() {
    let relay = Relay::start_with(Arc::new(MemoryStore::new()), |config| config.limits.connections_max = 1).await;
    let first = Raw::join(&relay.url(), "first").await;
    let Err(Error::Http(refusal)) = connect_async(relay.url()).await else { panic!("a second connection") };
    assert_eq!(refusal.status(), 503);
    assert!(refusal.headers().contains_key("retry-after"));
    assert_eq!(get(&relay, "/readyz").await.0, 200);
    drop(first);
    // The relay notices that the first is gone in its own time.
    while connect_async(relay.url()).await.is_err() {
        tokio::task::yield_now().await;
    }
    relay.stop().await;
}

/// A store whose disk fills up once it has its name.
struct FullDisk(MemoryStore);

impl Store for FullDisk {
    fn read(&self) -> Result<Box<dyn ReadTx + '_>, StoreError> {
        self.0.read()
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn WriteTx) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.0.write(&mut |tx| {
            work(tx)?;
            Err(StoreError::Io(std::io::ErrorKind::StorageFull.into()))
        })
    }
}

/// A real store on a disk that fills up and is emptied again.
#[tokio::test(flavor = "multi_thread")]
async fn relay_on_a_full_disk_acknowledges_nothing_and_recovers() {
    let disk = FailingDisk::new();
    let store = RedbStore::open_backend(disk.clone(), RedbOptions::new().quick_repair(true)).unwrap();
    crate::client::set(&store, document(1), "founder", "a", 1);
    let relay = Relay::start_with(Arc::new(store), |_| ()).await;
    let mut writer = Client::connect(&relay.url(), "first").await;
    writer.set(document(3), "a", 1);
    writer.open(document(3));
    writer.until(|writer| writer.is_acknowledged(document(3))).await;
    disk.fail_after(3_000, Failure::Full);
    let mut refused = Raw::join(&relay.url(), "writer").await;
    send_change(&mut refused, document(2)).await;
    let (_, close) = refused.closed().await;
    assert_eq!(u16::from(close.unwrap().code), 1011);
    assert_eq!(get(&relay, "/readyz").await.0, 503);
    assert_eq!(get(&relay, "/livez").await.0, 200);
    let mut reader = Client::connect(&relay.url(), "reader").await;
    for number in [1, 3] {
        reader.open(document(number));
        reader.until(|reader| reader.count(document(number)) == 1).await;
    }
    disk.heal();
    // Asking is enough: nobody has to write.
    while get(&relay, "/readyz").await.0 != 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    writer.set(document(4), "a", 1);
    writer.open(document(4));
    writer.until(|writer| writer.is_acknowledged(document(4))).await;
    relay.stop().await;
}

/// Offers a document of one change.
async fn send_change(writer: &mut Raw, document: DocumentId) {
    let store = MemoryStore::new();
    crate::client::set(&store, document, "writer", "a", 1);
    let change = rejoin::ledger::change(&*store.read().unwrap(), &document, 0).unwrap();
    let message = rejoin::codec::sync_message::SyncMessage {
        version: rejoin::codec::sync_message::Version::V1,
        heads: rejoin::ledger::heads(&*store.read().unwrap(), &document).unwrap(),
        need: Vec::new(),
        have: Vec::new(),
        changes: vec![change.into()],
        flags: None,
    };
    let (me, relay) = (crate::client::peer("writer"), writer.relay.clone().unwrap());
    writer.send(rejoin::codec::classic::encode_sync(&me, &relay, &document.to_string(), &message.encode())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_is_told_and_leaves_reading_alone() {
    let memory = MemoryStore::new();
    rejoin::store::storage_id(&memory, [1; 16]).unwrap();
    crate::client::set(&memory, document(1), "founder", "a", 1);
    let relay = Relay::start_with(Arc::new(FullDisk(memory)), |_| ()).await;
    let mut writer = Raw::join(&relay.url(), "writer").await;
    send_change(&mut writer, document(2)).await;
    let (_, close) = writer.closed().await;
    assert_eq!(u16::from(close.unwrap().code), 1011);
    assert_eq!(get(&relay, "/readyz").await.0, 503);
    assert_eq!(get(&relay, "/livez").await.0, 200);
    let mut reader = Client::connect(&relay.url(), "reader").await;
    reader.open(document(1));
    reader.until(|reader| reader.count(document(1)) == 1).await;
    relay.stop().await;
}
