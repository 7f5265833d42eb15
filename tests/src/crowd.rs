//! Many connections from one process, good and bad ones, and an honest client beside them.
//!
//! Everything is bounded in count and time, goes to the loopback address, and ends by itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use futures_util::{SinkExt, TryStreamExt};
use rejoin::codec::classic::Frame;
use rejoin::codec::v1::{
    ClientMessage, Content, DocumentHeads, Hello, Mode, RelayMessage, Start, Subscription, Token, Write,
};
use rejoin::gate::{Action, ChangeDraft, DraftObject, DraftOp, encode};
use rejoin::{ActorId, ChangeHash, DocumentId, PeerId, ScalarValue, SpaceId, StorageId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::load;
use crate::raw::RawClient;
use crate::relay::CROWDED;

/// How long anything may take before a run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns [`CROWDED`] for a relay where one may write so many changes a second.
pub fn settings_with_quota(changes_per_second: u32) -> Vec<String> {
    let limits = ["per-second", "burst"].map(|limit| format!("--limits-appends-{limit}={changes_per_second}"));
    CROWDED.into_iter().map(str::to_owned).chain(limits).collect()
}

/// How many connect at once.
const AT_ONCE: usize = 64;

/// A connection with buffers as small as they get: 15,000 of them fit beside the relay.
pub type Small = WebSocketStream<TcpStream>;

/// What kind of peer a connection is, and what it takes part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `rejoin.v1`: hello, and nothing more.
    Bare,
    /// `rejoin.v1`, and a document that it has opened.
    WithDocument,
    /// `rejoin.v1`, and a space that it follows.
    WithSpace,
    /// The classic protocol: join, and nothing more.
    Classic,
}

/// Connects a TCP socket from one of several loopback addresses, so that neither ports nor a bound for one address run out.
pub async fn tcp(to: SocketAddr, number: u32) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let [_, _, high, low] = (number % 50_000).to_be_bytes();
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 1, high, low.max(1)), 0)))?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects from an address of its own, so that what it uses up is its own.
async fn stranger(to: SocketAddr, number: u32) -> TcpStream {
    tcp(to, number).await.expect("the relay takes a socket")
}

/// Connects, shakes hands and takes part.
///
/// # Errors
///
/// What the relay or the operating system says.
pub async fn connect(to: SocketAddr, kind: Kind, number: u32) -> Result<Small, String> {
    timeout(PATIENCE, connect_patiently(to, kind, number)).await.map_err(|_| "no answer in time".to_owned())?
}

async fn connect_patiently(to: SocketAddr, kind: Kind, number: u32) -> Result<Small, String> {
    let stream = tcp(to, number).await.map_err(|error| error.to_string())?;
    let mut request = format!("ws://{to}/").into_client_request().map_err(|error| error.to_string())?;
    if kind != Kind::Classic {
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("rejoin.v1"));
    }
    let config = WebSocketConfig::default().read_buffer_size(1 << 10).write_buffer_size(0);
    let connected = client_async_with_config(request, stream, Some(config)).await;
    let (mut socket, _) = connected.map_err(|error| error.to_string())?;
    let name = PeerId::new(format!("crowd-{number}")).expect("it is short");
    if kind == Kind::Classic {
        let join = Frame::Join { sender_id: name, metadata: Default::default(), versions: vec!["1".to_owned()] };
        send(&mut socket, join.encode()).await?;
        return match Frame::decode(&next(&mut socket).await?) {
            Ok(Frame::Peer { .. }) => Ok(socket),
            other => Err(format!("no peer frame: {other:?}")),
        };
    }
    let subscription = match kind {
        Kind::WithDocument => Some((SpaceId::DEFAULT, Mode::Chosen)),
        Kind::WithSpace => Some((SpaceId::from_bytes(*load::document(number).as_bytes()), Mode::Everything)),
        Kind::Bare | Kind::Classic => None,
    };
    let subscriptions = subscription.map(|(space, mode)| Subscription { space, mode, start: Start::Beginning });
    send(&mut socket, hello(name, number, subscriptions.into_iter().collect()).encode()).await?;
    if kind == Kind::WithDocument {
        let document = DocumentHeads { document: load::document(number), heads: Vec::new() };
        send(&mut socket, ClientMessage::Open { space: SpaceId::DEFAULT, documents: vec![document] }.encode()).await?;
    }
    loop {
        let message = RelayMessage::decode(&next(&mut socket).await?).map_err(|error| error.to_string())?;
        match (kind, message) {
            (_, RelayMessage::Error(error)) => return Err(error.text),
            (Kind::Bare, RelayMessage::Welcome(_))
            | (Kind::WithDocument, RelayMessage::Opened { .. })
            | (Kind::WithSpace, RelayMessage::CaughtUp { .. }) => return Ok(socket),
            _ => {}
        }
    }
}

fn hello(peer: PeerId, number: u32, subscriptions: Vec<Subscription>) -> ClientMessage {
    ClientMessage::Hello(Hello {
        lowest: 1,
        highest: 1,
        peer,
        storage: Some(StorageId::from_bytes(*load::document(number).as_bytes())),
        takes_snapshots: false,
        token: Token::default(),
        credit: 1 << 16,
        subscriptions,
    })
}

async fn send(socket: &mut Small, bytes: Bytes) -> Result<(), String> {
    socket.send(Message::Binary(bytes)).await.map_err(|error| error.to_string())
}

async fn next(socket: &mut Small) -> Result<Bytes, String> {
    loop {
        match socket.try_next().await {
            Ok(Some(Message::Binary(frame))) => return Ok(frame),
            Ok(Some(Message::Close(close))) => return Err(format!("closed: {close:?}")),
            Ok(Some(_)) => {}
            Ok(None) => return Err("closed".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Connects many at once. Returns those that were let in, and why the others were not.
pub async fn connect_all(to: SocketAddr, kind: Kind, numbers: std::ops::Range<u32>) -> (Vec<Small>, Vec<String>) {
    let connecting = stream::iter(numbers.map(|number| connect(to, kind, number))).buffer_unordered(AT_ONCE);
    let (mut sockets, mut refused) = (Vec::new(), Vec::new());
    for outcome in connecting.collect::<Vec<_>>().await {
        match outcome {
            Ok(socket) => sockets.push(socket),
            Err(error) => refused.push(error),
        }
    }
    (sockets, refused)
}

/// An honest client that writes at a steady pace on a thread of its own, for as long as it is there.
pub struct Honest {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: JoinHandle<Vec<f64>>,
}

impl Honest {
    /// Lets it write into a space, one change at a time, so far apart.
    pub fn start(url: String, space: SpaceId, interval: Duration) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&written));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(write_steadily(&url, space, interval, (&stopped, &counted)))
        });
        Self { stop, written, thread }
    }

    /// Returns how many of its writes were answered by now.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Ends it, and returns how long each of its writes waited for its answer, in milliseconds. All were answered.
    pub fn finish(self) -> Vec<f64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("every write of the honest client is acknowledged")
    }
}

async fn write_steadily(
    url: &str,
    space: SpaceId,
    interval: Duration,
    (stopped, written): (&AtomicBool, &AtomicU64),
) -> Vec<f64> {
    let mut client = RawClient::connect(url, "honest", Vec::new()).await;
    // One that starts anew goes on with another document.
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let mut chain = Chain::new(load::document(u32::MAX - 16 - number), 1);
    let mut waits = Vec::new();
    let start = Instant::now();
    for turn in 0_u32.. {
        if stopped.load(Ordering::Relaxed) {
            break;
        }
        sleep_until(start + interval * turn).await;
        let write = chain.next(&[]);
        let sent = Instant::now();
        client.push(space, vec![write]).await;
        loop {
            if let RelayMessage::Ack { results, .. } = client.next().await {
                let stored =
                    matches!(&results[..], [run] if matches!(run.outcome, rejoin::codec::v1::Outcome::Stored { .. }));
                assert!(stored, "the honest client's write is stored: {results:?}");
                break;
            }
        }
        waits.push(sent.elapsed().as_secs_f64() * 1e3);
        written.fetch_add(1, Ordering::Relaxed);
    }
    waits
}

/// Changes of one document by one actor, each on top of the last.
pub struct Chain {
    document: DocumentId,
    actor: ActorId,
    seq: u64,
    head: Option<ChangeHash>,
}

impl Chain {
    /// Begins a document.
    pub fn new(document: DocumentId, actor: u8) -> Self {
        Self { document, actor: ActorId::from(&[actor; 16][..]), seq: 0, head: None }
    }

    /// Makes the next change: a field with these bytes.
    pub fn next(&mut self, value: &[u8]) -> Write {
        self.seq += 1;
        let draft = ChangeDraft {
            actor: self.actor.clone(),
            seq: self.seq,
            start_op: self.seq,
            timestamp: 0,
            message: None,
            deps: self.head.into_iter().collect(),
            ops: vec![DraftOp {
                object: DraftObject::Root,
                key: format!("field {}", self.seq % 16),
                action: Action::Put,
                value: ScalarValue::Bytes(value.to_vec()),
                preds: Vec::new(),
            }],
        };
        let change = encode(&draft).expect("an honest change");
        self.head = Some(change.hash());
        Write { document: self.document, content: Content::Change(change.bytes().clone()) }
    }
}

/// What became of connections that send one byte a second.
#[derive(Debug, Default)]
pub struct Dripping {
    /// How many the relay closed.
    pub closed: AtomicU64,
}

/// Opens connections that send one byte a second: of a request, or of a frame after a good handshake. Ends when the relay has
/// closed all of them, or after this long. Returns how many it closed.
pub async fn drip(to: SocketAddr, numbers: std::ops::Range<u32>, longest: Duration) -> u64 {
    let dripping = Arc::new(Dripping::default());
    let tasks = numbers.map(|number| {
        let dripping = Arc::clone(&dripping);
        tokio::spawn(async move {
            let outcome = timeout(longest, drip_one(to, number)).await;
            if outcome.is_ok() {
                dripping.closed.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        let _ = task.await;
    }
    dripping.closed.load(Ordering::Relaxed)
}

async fn drip_one(to: SocketAddr, number: u32) {
    let Ok(mut stream) = tcp(to, number).await else { return };
    let upgrade = format!(
        "GET / HTTP/1.1\r\nHost: {to}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: rejoin.v1\r\n\r\n"
    );
    let mut bytes = upgrade.as_bytes();
    if number % 2 == 1 {
        // A whole handshake, then a frame of 1 MiB that never comes.
        if stream.write_all(bytes).await.is_err() {
            return;
        }
        let mut answer = [0; 1_024];
        if stream.read(&mut answer).await.is_err() {
            return;
        }
        bytes = &[0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];
    }
    let mut byte = [0; 256];
    for next in bytes.iter().cycle() {
        if stream.write_all(std::slice::from_ref(next)).await.is_err() {
            return;
        }
        // What the relay says, or that it closes.
        if let Ok(Ok(0) | Err(_)) = timeout(Duration::from_secs(1), stream.read(&mut byte)).await {
            return;
        }
    }
}

/// Asks for documents that are not there, as fast as the relay answers, for at most so long. Returns how many it answered.
pub async fn guess(to: SocketAddr, count: u32, longest: Duration) -> u32 {
    let subscription = Subscription { space: SpaceId::DEFAULT, mode: Mode::Chosen, start: Start::Beginning };
    let mut client = RawClient::over(stranger(to, 40_001).await, "guesser", Token::default(), vec![subscription]).await;
    let mut answered = 0;
    let guessing = async {
        for first in (0..count).step_by(100) {
            let documents = (first..count.min(first + 100))
                .map(|number| DocumentHeads { document: load::document(0x8000_0000 | number), heads: Vec::new() });
            let documents: Vec<DocumentHeads> = documents.collect();
            let wanted = documents.iter().map(|document| document.document).collect();
            client.send(&ClientMessage::Open { space: SpaceId::DEFAULT, documents }).await;
            let Some(opened) = opened(&mut client).await else { return };
            answered += opened;
            client.send(&ClientMessage::Close { space: SpaceId::DEFAULT, documents: wanted }).await;
        }
    };
    let _ = timeout(longest, guessing).await;
    answered
}

async fn opened(client: &mut RawClient) -> Option<u32> {
    loop {
        match client.try_next().await? {
            RelayMessage::Opened { documents, .. } => return u32::try_from(documents.len()).ok(),
            RelayMessage::Error(_) => return None,
            _ => {}
        }
    }
}

/// Returns how many changes a message answers.
fn acknowledged_by(message: &RelayMessage) -> u64 {
    match message {
        RelayMessage::Ack { results, .. } => results.iter().map(|run| run.count).sum(),
        _ => 0,
    }
}

/// Pushes without a pause until it is told to stop. Returns how many changes were acknowledged.
pub async fn flood(to: SocketAddr, space: SpaceId, stop: &AtomicBool) -> u64 {
    let mut client = RawClient::over(stranger(to, 40_002).await, "abuser", Token::default(), Vec::new()).await;
    let mut chain = Chain::new(load::document(u32::MAX - 1), 2);
    let mut acknowledged = 0;
    let mut under_way = 0;
    while !stop.load(Ordering::Relaxed) {
        while under_way < 32 {
            let writes = (0..50).map(|_| chain.next(&[0x55; 64])).collect();
            client.push(space, writes).await;
            under_way += 1;
        }
        // A flood that the relay holds back waits here, and has to notice its end.
        match timeout(Duration::from_millis(200), client.try_next()).await {
            Ok(Some(message @ RelayMessage::Ack { .. })) => {
                acknowledged += acknowledged_by(&message);
                under_way -= 1;
            }
            Ok(Some(RelayMessage::Error(_)) | None) => break,
            Ok(Some(_)) | Err(_) => {}
        }
    }
    acknowledged
}

/// How many changes [`abuse`] sends in one push, which is taken whole or not at all.
pub const ABUSE_PUSH: u64 = 50;

/// What became of changes that somebody sent without asking whether they may.
#[derive(Debug, Default, Clone, Copy)]
pub struct Abuse {
    /// How many it had ready, at the pace it wished for.
    pub wanted: u64,
    /// How many the relay has read, or has still before it.
    pub sent: u64,
    /// How many were acknowledged.
    pub stored: u64,
}

/// Pushes so many changes a second whatever is answered, until it is told to stop: as fast as the relay reads where that is less.
pub async fn abuse(to: SocketAddr, space: SpaceId, per_second: u32, stop: &AtomicBool) -> Abuse {
    let mut client = RawClient::over(stranger(to, 40_003).await, "abuser", Token::default(), Vec::new()).await;
    let mut chain = Chain::new(load::document(u32::MAX - 2), 4);
    let (mut abuse, start) = (Abuse::default(), Instant::now());
    let wanted = || u64::try_from(start.elapsed().as_millis()).unwrap() * u64::from(per_second) / 1_000;
    while !stop.load(Ordering::Relaxed) {
        if abuse.sent + ABUSE_PUSH <= wanted() {
            let writes = (0..ABUSE_PUSH).map(|_| chain.next(&[0x55; 64])).collect();
            client.push(space, writes).await;
            abuse.sent += ABUSE_PUSH;
        }
        match timeout(Duration::from_millis(1), client.try_next()).await {
            Ok(Some(RelayMessage::Error(_)) | None) => break,
            Ok(Some(message)) => abuse.stored += acknowledged_by(&message),
            Err(_) => {}
        }
    }
    abuse.wanted = wanted();
    // What was answered while the relay did not read.
    while let Ok(Some(message)) = timeout(Duration::from_millis(20), client.try_next()).await {
        abuse.stored += acknowledged_by(&message);
    }
    abuse
}

/// Follows a space with all the credit there is, and never reads. It lasts as long as what is returned.
pub async fn deaf(to: SocketAddr, space: SpaceId, number: u32) -> Result<Small, String> {
    let mut socket = connect(to, Kind::Bare, number).await?;
    send(&mut socket, ClientMessage::Credit { bytes: 1 << 29 }.encode()).await?;
    let subscription = Subscription { space, mode: Mode::Everything, start: Start::Beginning };
    send(&mut socket, ClientMessage::Subscribe { subscriptions: vec![subscription] }.encode()).await?;
    Ok(socket)
}

/// Writes so many bytes into a space, in changes of 64 KiB that do not compress.
pub async fn write_bytes(url: &str, space: SpaceId, bytes: u64) {
    let mut client = RawClient::connect(url, "writer", Vec::new()).await;
    let mut value = vec![0_u8; 64 << 10];
    let mut chains: Vec<Chain> = (0..16).map(|number| Chain::new(load::document(0x4000_0000 | number), 3)).collect();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let (mut written, mut under_way) = (0, 0);
    while written < bytes || under_way > 0 {
        if written < bytes && under_way < 3 {
            let writes = chains.iter_mut().take(4).map(|chain| {
                for word in value.chunks_exact_mut(8) {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    word.copy_from_slice(&seed.to_le_bytes());
                }
                chain.next(&value)
            });
            let writes: Vec<Write> = writes.collect();
            written += writes.len() as u64 * value.len() as u64;
            chains.rotate_left(4);
            client.push(space, writes).await;
            under_way += 1;
        } else if let RelayMessage::Ack { .. } = client.next().await {
            under_way -= 1;
        }
    }
}

/// Returns how much of a process is in memory, in kB.
pub fn resident_kilobytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// Looks at a process's memory until it is told to stop, and returns the most that it saw, in kB.
pub async fn watch_memory(pid: u32, stop: &AtomicBool) -> u64 {
    let mut most = 0;
    while !stop.load(Ordering::Relaxed) {
        most = most.max(resident_kilobytes(pid));
        sleep(Duration::from_millis(50)).await;
    }
    most
}
