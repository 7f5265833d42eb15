//! Idle connections: each takes part in a document of its own, of one change, and then says nothing.
//!
//! Prints how long connecting took for the first, second and last part of them, and what the relay's process keeps in
//! memory for each. `IDLE_CONNECTIONS` says how many there are, 2,000 otherwise; more than about 9,000 need a higher limit
//! of the relay and of open files.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark prints what it measured and fails by panicking"
)]

use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use futures_util::{SinkExt, TryStreamExt};
use rejoin::codec::classic::{Frame, encode_sync};
use rejoin::codec::sync_message::{SyncMessage, Version};
use rejoin::gate::{Action, ChangeDraft, CheckedChange, DraftObject, DraftOp, encode};
use rejoin::{ActorId, DocumentId, PeerId, ScalarValue};
use rejoin_tests::relay::RelayProcess;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How many connect at once: as many as share a commit, roughly.
const AT_ONCE: usize = 50;
/// How long the relay rests before its memory is measured.
const REST: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() {
    let count: u32 = std::env::var("IDLE_CONNECTIONS").map_or(2_000, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start_crowded(folder.path());
    let url = relay.url();
    // What the first connections set up for all is no part of what one costs.
    let mut sockets = connect(&url, 0..count / 20).await;
    let before = resident_kilobytes(relay.pid());
    println!("| connections | connected in | each | resident | for each connection + document |");
    println!("|---|---|---|---|---|");
    let first = count / 20;
    let mut done = first;
    let mut connecting = Duration::ZERO;
    for end in [count / 4, count / 2, count] {
        let start = Instant::now();
        sockets.extend(connect(&url, done..end).await);
        connecting += start.elapsed();
        done = end;
        tokio::time::sleep(REST).await;
        let resident = resident_kilobytes(relay.pid());
        let connected = f64::from(end - first);
        println!(
            "| {end} | {:.0} ms | {:.2} ms | {resident:.0} kB | {:.1} kB |",
            connecting.as_secs_f64() * 1e3,
            connecting.as_secs_f64() * 1e3 / connected,
            (resident - before) / connected,
        );
    }
    drop(sockets);
}

/// Connects a range of clients.
async fn connect(url: &str, range: std::ops::Range<u32>) -> Vec<Socket> {
    let connecting = stream::iter(range.map(|number| connect_one(url, number)));
    connecting.buffer_unordered(AT_ONCE).collect().await
}

/// Connects, joins, uploads one change of a new document, and waits until the relay has shown that it has it.
async fn connect_one(url: &str, number: u32) -> Socket {
    let mut socket = connect_async(url).await.unwrap().0;
    let me = PeerId::new(format!("idle-{number}")).unwrap();
    let join = Frame::Join { sender_id: me.clone(), metadata: Default::default(), versions: vec!["1".to_owned()] };
    socket.send(Message::Binary(join.encode())).await.unwrap();
    let Frame::Peer { sender_id: relay, .. } = next(&mut socket).await else { panic!("no peer frame") };

    let mut id = [0x1d; 16];
    // Spread like random ids.
    id[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
    let change = change(number);
    let message = SyncMessage {
        version: Version::V1,
        heads: vec![change.hash()],
        need: Vec::new(),
        have: Vec::new(),
        changes: vec![change.bytes().to_vec().into()],
        flags: None,
    };
    let document = DocumentId::from_bytes(id).to_string();
    socket.send(Message::Binary(encode_sync(&me, &relay, &document, &message.encode()))).await.unwrap();
    let Frame::Sync { data, .. } = next(&mut socket).await else { panic!("no answer") };
    assert_eq!(SyncMessage::decode(&data).unwrap().heads, [change.hash()]);
    socket
}

async fn next(socket: &mut Socket) -> Frame {
    loop {
        if let Message::Binary(frame) = socket.try_next().await.unwrap().unwrap() {
            return Frame::decode(&frame).unwrap();
        }
    }
}

fn change(number: u32) -> CheckedChange {
    let op = DraftOp {
        object: DraftObject::Root,
        key: "title".to_owned(),
        action: Action::Put,
        value: ScalarValue::Uint(number.into()),
        preds: Vec::new(),
    };
    let draft = ChangeDraft {
        actor: ActorId::from(&number.to_be_bytes()[..]),
        seq: 1,
        start_op: 1,
        timestamp: 0,
        message: None,
        deps: Vec::new(),
        ops: vec![op],
    };
    encode(&draft).unwrap()
}

/// Returns how much of a process is in memory.
fn resident_kilobytes(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
