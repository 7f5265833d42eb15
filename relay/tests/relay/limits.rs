//! Limits, as a client at one of them and the others beside it see them.

use std::net::SocketAddr;
use std::sync::Arc;

use rejoin::codec::v1::{
    AckRun, ClientMessage, Code, Content, DocumentHeads, Mode, Outcome, Presence, RelayMessage, SUBPROTOCOL, Start,
    Subscription, Write,
};
use rejoin::gate::{Action, ChangeDraft, DraftObject, DraftOp, encode};
use rejoin::ledger;
use rejoin::store::{MemoryStore, Store};
use rejoin::{ActorId, DocumentId, ScalarValue, SpaceId};
use rejoin_relay::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, client_async};

use crate::client::{Client, PATIENCE, document, peer};
use crate::process::Process;
use crate::relay::Relay;
use crate::v1::client::{HOME, TEAM, V1, all_of, chain, hello, stored};

/// Connects from one of the machine's own addresses: 127.0.0.x.
async fn connect_from(address: SocketAddr, last: u8) -> Result<V1, Error> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
    let stream = MaybeTlsStream::Plain(socket.connect(address).await.unwrap());
    let mut request = format!("ws://{address}").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
    client_async(request, stream).await.map(|(socket, _)| V1::of(socket))
}

/// Connects from there and says hello.
async fn greet_from(address: SocketAddr, last: u8, name: &str, space: SpaceId, mode: Mode) -> V1 {
    let mut client = connect_from(address, last).await.unwrap();
    let subscription = Subscription { space, mode, start: Start::Beginning };
    client.send(&ClientMessage::Hello(hello(name, vec![subscription]))).await;
    client.until(|message| matches!(message, RelayMessage::CaughtUp { .. }).then_some(())).await;
    client
}

/// Makes the first change of a document, with a value so long.
pub fn change(document: DocumentId, bytes: usize) -> Write {
    change_to(document, vec![7; bytes])
}

/// Makes the first change of a document, which sets this value.
pub fn change_to(document: DocumentId, value: Vec<u8>) -> Write {
    let draft = ChangeDraft {
        actor: ActorId::from(&b"alice"[..]),
        seq: 1,
        start_op: 1,
        timestamp: 0,
        message: None,
        deps: Vec::new(),
        ops: vec![DraftOp {
            object: DraftObject::Root,
            key: "k".to_owned(),
            action: Action::Put,
            value: ScalarValue::Bytes(value),
            preds: Vec::new(),
        }],
    };
    Write { document, content: Content::Change(encode(&draft).unwrap().bytes().clone()) }
}

fn length_of(write: &Write) -> usize {
    let Content::Change(bytes) = &write.content else { panic!("no change") };
    bytes.len()
}

fn count(store: &MemoryStore, document: DocumentId) -> u64 {
    ledger::state(&*store.read().unwrap(), &document).unwrap().map_or(0, |state| state.count)
}

/// Returns the code of the only result.
fn refusal(results: &[AckRun]) -> Code {
    let [AckRun { outcome: Outcome::Rejected(reject), .. }] = results else { panic!("{results:?}") };
    reject.code
}

fn document_of(number: u16) -> DocumentId {
    let mut bytes = [9; 16];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    DocumentId::from_bytes(bytes)
}

fn open(numbers: std::ops::Range<u16>) -> ClientMessage {
    let documents = numbers.map(|number| DocumentHeads { document: document_of(number), heads: Vec::new() });
    ClientMessage::Open { space: HOME, documents: documents.collect() }
}

async fn opened(client: &mut V1, mut count: usize) {
    while count > 0 {
        let opened = client.until(|message| match message {
            RelayMessage::Opened { documents, .. } => Some(documents.len()),
            RelayMessage::Error(error) => panic!("{error:?}"),
            _ => None,
        });
        count -= opened.await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_is_told_the_limits_and_held_to_them() {
    let large = change(document(1), 3_000);
    for (change_bytes_max, is_taken) in
        [(length_of(&large) - 1, false), (length_of(&large), true), (length_of(&large) + 1, true)]
    {
        let relay = Relay::start_with(Arc::new(MemoryStore::new()), |config| {
            config.limits.change_bytes_max = change_bytes_max;
            config.limits.batch_entries_max = 3;
            config.limits.frame_bytes_max = 64 << 10;
            config.limits.presence_bytes_max = 2_000;
        })
        .await;
        let (mut client, welcome) = V1::greet(&relay.url(), "alice", vec![all_of(TEAM, Start::Beginning)]).await;
        let limits = welcome.limits;
        assert_eq!((limits.change_bytes, limits.batch_entries), (change_bytes_max as u64, 3));
        assert_eq!((limits.frame_bytes, limits.presence_bytes), (64 << 10, 2_000));
        let results = client.store(TEAM, vec![large.clone()]).await;
        if is_taken {
            assert_eq!(results, stored(1, 1));
        } else {
            assert_eq!(refusal(&results), Code::ChangeLimit);
        }
        relay.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_batches_and_presence_above_their_limits_end_the_connection() {
    let relay = Relay::start_with(Arc::new(MemoryStore::new()), |config| {
        config.limits.batch_entries_max = 3;
        config.limits.frame_bytes_max = 64 << 10;
        config.limits.presence_bytes_max = 2_000;
    })
    .await;
    let presence = |bytes: usize| {
        let (author, key, data) = (peer("alice"), "k".to_owned(), vec![1; bytes].into());
        let value = Presence { author, document: document(1), key, sequence: 1, ttl_ms: 1_000, data };
        ClientMessage::Presence { space: TEAM, values: vec![value] }
    };
    let push = |writes| ClientMessage::Push { batch: 1, space: TEAM, writes };
    let writes = chain(document(1), "alice", 4, "k");
    for (within, above) in [
        (push(writes[..3].to_vec()), push(writes.clone())),
        (push(vec![change(document(2), 60_000)]), push(vec![change(document(3), 70_000)])),
        (presence(2_000), presence(2_001)),
    ] {
        let mut client = V1::follow(&relay.url(), "alice", TEAM).await;
        client.send(&within).await;
        // It is still heard: the next push is the second or the first.
        let number = if matches!(within, ClientMessage::Push { .. }) { 2 } else { 1 };
        let again = ClientMessage::Push { batch: number, space: TEAM, writes: writes[..1].to_vec() };
        client.send(&again).await;
        client
            .until(|message| match message {
                RelayMessage::Ack { batch, .. } => (batch == number).then_some(()),
                RelayMessage::Error(error) => panic!("{error:?}"),
                _ => None,
            })
            .await;
        let mut client = V1::follow(&relay.url(), "alice", TEAM).await;
        client.send(&above).await;
        let (said, close) = client.closed().await;
        assert_eq!(said.map(|error| error.code), Some(Code::FrameLimit));
        assert_eq!(close.map(|close| u16::from(close.code)), Some(1009));
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_and_open_documents_are_bounded_on_each_connection() {
    let relay = Relay::start_with(Arc::new(MemoryStore::new()), |config| {
        config.limits.subscriptions_max = 2;
        config.limits.open_documents_max = 3;
    })
    .await;
    let space = |number: u8| SpaceId::from_bytes([number; 16]);
    let subscriptions = (1..=3).map(|number| all_of(space(number), Start::Beginning)).collect();
    let (mut client, _) = V1::greet(&relay.url(), "alice", subscriptions).await;
    let refused = client.until(|message| match message {
        RelayMessage::Error(error) => Some((error.code, error.is_fatal)),
        RelayMessage::Subscribed { space: of, .. } => {
            assert_ne!(of, space(3));
            None
        }
        _ => None,
    });
    assert_eq!(refused.await, (Code::TooMany, false));
    let mut chooser = greet_from(relay.address, 1, "bob", HOME, Mode::Chosen).await;
    chooser.send(&open(0..3)).await;
    opened(&mut chooser, 3).await;
    chooser.send(&open(3..4)).await;
    let refused = chooser.until(|message| match message {
        RelayMessage::Error(error) => Some((error.code, error.is_fatal)),
        _ => None,
    });
    assert_eq!(refused.await, (Code::TooMany, false));
    chooser.send(&ClientMessage::Close { space: HOME, documents: vec![document_of(0)] }).await;
    chooser.send(&open(3..4)).await;
    opened(&mut chooser, 1).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abuser_is_held_back_beside_an_honest_writer_and_loses_nothing() {
    let store = Arc::new(MemoryStore::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut config = Config::new("", address);
    config.limits.appends_per_second = 1;
    config.limits.appends_burst = 50;
    let (reload, changing) = watch::channel(Arc::new(config.clone()));
    let (stop, stopped) = oneshot::channel::<()>();
    let served = Arc::clone(&store);
    let running = tokio::spawn(async move {
        rejoin_relay::server::run_reloading(listener, served, changing, std::sync::Arc::default(), async {
            let _ = stopped.await;
        })
        .await
    });
    let mut abuser = greet_from(address, 2, "mallory", TEAM, Mode::Everything).await;
    let mut honest = greet_from(address, 3, "alice", TEAM, Mode::Everything).await;
    // Ten times what it may, as fast as the socket takes it.
    let flood = chain(document(2), "mallory", 500, "k");
    let mut batches = Vec::new();
    for writes in flood.chunks(10) {
        batches.push(abuser.push(TEAM, writes.to_vec()).await);
    }
    for write in chain(document(1), "alice", 40, "k") {
        let results = honest.store(TEAM, vec![write]).await;
        assert!(matches!(results[..], [AckRun { outcome: Outcome::Stored { .. }, .. }]), "{results:?}");
    }
    assert_eq!(count(&store, document(1)), 40);
    // One a second, beside the burst: minutes would have to pass for the rest.
    let taken = count(&store, document(2));
    assert!((50..500).contains(&taken), "{taken}");
    // Once the operator allows it, what waited in its socket is taken, in order, and nothing of it is lost.
    config.limits.appends_per_second = 0;
    reload.send(Arc::new(config)).unwrap();
    for batch in batches {
        let results = abuser.ack(batch).await;
        assert!(results.iter().all(|run| matches!(run.outcome, Outcome::Stored { .. })), "{results:?}");
    }
    assert_eq!(count(&store, document(2)), 500);
    drop((abuser, honest));
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_ids_is_cut_and_refused_and_an_honest_opener_is_not() {
    let configure = |config: &mut Config| config.limits.misses_per_minute = 30;
    let relay = Relay::start_with(Arc::new(MemoryStore::new()), configure).await;
    let mut honest = greet_from(relay.address, 4, "alice", HOME, Mode::Chosen).await;
    let mut guesser = greet_from(relay.address, 5, "mallory", HOME, Mode::Chosen).await;
    // 300 at once, and 150 more within what is borne.
    honest.send(&open(0..290)).await;
    opened(&mut honest, 290).await;
    guesser.send(&open(0..600)).await;
    let (said, close) = guesser.closed().await;
    assert_eq!(said.map(|error| (error.code, error.is_fatal)), Some((Code::Busy, true)));
    assert_eq!(close.map(|close| u16::from(close.code)), Some(1013));
    let Err(Error::Http(refused)) = connect_from(relay.address, 5).await else { panic!("it is let in") };
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers().get("retry-after").and_then(|value| value.to_str().ok()), Some("300"));
    let write = change(document_of(7), 10);
    assert_eq!(honest.store(HOME, vec![write]).await, stored(1, 1));
    let late = greet_from(relay.address, 4, "bob", HOME, Mode::Chosen).await;
    drop((late, honest));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_document_takes_no_more_over_either_protocol_and_others_do() {
    let writes = chain(document(1), "alice", 3, "k");
    let room: usize = writes[..2].iter().map(length_of).sum();
    let store = Arc::new(MemoryStore::new());
    let relay = Relay::start_with(Arc::clone(&store) as Arc<dyn Store>, |config| {
        config.quota.document_bytes_max = u64::try_from(room).unwrap();
    })
    .await;
    let mut client = V1::follow(&relay.url(), "alice", TEAM).await;
    let results = client.store(TEAM, writes).await;
    assert_eq!(results[0], stored(1, 2).remove(0));
    assert_eq!(refusal(&results[1..]), Code::Quota);
    // Over the classic protocol what is above is dropped, and the connection goes on.
    let mut classic = Client::connect(&relay.url(), "bob").await;
    for value in 0..6 {
        classic.set(document(2), "k", value);
    }
    classic.open(document(2));
    classic.set(document(3), "k", 1);
    classic.open(document(3));
    classic.until(|classic| classic.is_acknowledged(document(3))).await;
    assert!(count(&store, document(2)) < 6 && !classic.is_acknowledged(document(2)));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_dribbles_is_cut_and_others_are_served_meanwhile() {
    let deadline = std::time::Duration::from_millis(300);
    let relay =
        Relay::start_with(Arc::new(MemoryStore::new()), |config| config.limits.handshake_seconds = deadline).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(relay.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: relay\r\nx-dribble: ").await.unwrap();
        slow.push(stream);
    }
    let dribbling = slow.into_iter().map(|mut stream| {
        tokio::spawn(async move {
            // Until the relay has had enough; it says nothing, or resets.
            while stream.write_all(b"a").await.is_ok() {
                let mut byte = [0; 1];
                let pause = std::time::Duration::from_millis(20);
                if let Ok(read) = timeout(pause, stream.read(&mut byte)).await {
                    return assert!(matches!(read, Ok(0) | Err(_)), "it is answered");
                }
            }
        })
    });
    let dribbling: Vec<_> = dribbling.collect();
    let mut honest = V1::follow(&relay.url(), "alice", TEAM).await;
    assert_eq!(honest.store(TEAM, vec![change(document(1), 10)]).await, stored(1, 1));
    for dribble in dribbling {
        timeout(PATIENCE, dribble).await.expect("it is not cut").unwrap();
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_never_read_take_no_memory() {
    const BYTES: usize = 1 << 20;
    const WRITES: u16 = 48;
    let directory = tempfile::tempdir().unwrap();
    let relay = Process::start(directory.path());
    let mut stalled = Vec::new();
    for _ in 0..12 {
        stalled.push(V1::follow(&relay.url, "stalled", TEAM).await);
    }
    // They do not read what comes, but let it come.
    for client in &mut stalled {
        client.send(&ClientMessage::Credit { bytes: 1 << 29 }).await;
    }
    let mut writer = V1::greet(&relay.url, "alice", Vec::new()).await.0;
    let before = relay.resident_bytes();
    for number in 0..WRITES {
        let results = writer.store(TEAM, vec![change(document_of(number), BYTES)]).await;
        assert_eq!(results, stored(u64::from(number) + 1, 1));
    }
    // 576 MiB would wait for them. What the store and the last entries keep of 48 MiB is there, and one message for each.
    let grown = relay.resident_bytes().saturating_sub(before);
    assert!(grown < 280 << 20, "{} MiB", grown >> 20);
    drop(stalled);
}
