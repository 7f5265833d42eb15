//! Changes that are small and take long to look up: each stands on the end of a long history beside a root that nobody merges, and
//! its author's last change is at the history's beginning.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use rejoin::codec::classic::Frame;
use rejoin::codec::v1::{
    ClientMessage, Content, DocumentHeads, Mode, Outcome, RelayMessage, Start, Subscription, Write,
};
use rejoin::gate::{Action, ChangeDraft, DraftObject, DraftOp, encode};
use rejoin::{ActorId, ChangeHash, DocumentId, PeerId, ScalarValue, SpaceId};
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::hostile::message::{RawSync, bloom};
use crate::load;
use crate::raw::RawClient;

/// How many changes of the history are in one push, and how many of these are under way.
const PUSH: usize = 50;
const UNDER_WAY: usize = 32;

/// How many of the changes on top of it are in one push.
const COSTLY_PUSH: usize = 4;

/// The history, and who wrote at its beginning.
#[derive(Debug)]
pub struct Wide {
    document: DocumentId,
    writers: u64,
    length: u64,
    first: Option<ChangeHash>,
    last: Option<ChangeHash>,
}

impl Wide {
    /// Plans a history of so many changes behind those of so many writers.
    pub fn new(document: DocumentId, writers: u64, length: u64) -> Self {
        Self { document, writers, length, first: None, last: None }
    }

    /// Makes the history.
    pub fn history(&mut self) -> Vec<Write> {
        let mut history = vec![self.change(&actor(u64::MAX), 1, 1, None)];
        for (counter, writer) in (1..).zip(0..self.writers) {
            let next = self.change(&actor(writer), 1, counter, self.last);
            history.push(self.on_top(next));
        }
        for seq in 1..=self.length {
            let next = self.change(&actor(u64::MAX - 1), seq, self.writers + seq, self.last);
            history.push(self.on_top(next));
        }
        history.into_iter().map(|(_, write)| write).collect()
    }

    /// Makes the second change of a writer, on top of the history.
    pub fn after(&self, writer: u64) -> Write {
        self.change(&actor(writer), 2, self.writers + self.length + 1, self.last).1
    }

    fn on_top(&mut self, next: (ChangeHash, Write)) -> (ChangeHash, Write) {
        self.first = self.first.or(Some(next.0));
        self.last = Some(next.0);
        next
    }

    fn change(&self, actor: &ActorId, seq: u64, start_op: u64, dep: Option<ChangeHash>) -> (ChangeHash, Write) {
        let (key, value, preds) = ("k".to_owned(), ScalarValue::Null, Vec::new());
        let draft = ChangeDraft {
            actor: actor.clone(),
            seq,
            start_op,
            timestamp: 0,
            message: None,
            deps: dep.into_iter().collect(),
            ops: vec![DraftOp { object: DraftObject::Root, key, action: Action::Put, value, preds }],
        };
        let change = encode(&draft).expect("an honest change");
        let content = Content::Change(change.bytes().clone());
        (change.hash(), Write { document: self.document, content })
    }
}

fn actor(number: u64) -> ActorId {
    ActorId::from([&[0xa7; 8][..], &number.to_be_bytes()].concat())
}

/// Writes such a history, and then, over so many connections at once, a change of each of its writers until all are stored or it is
/// told to stop. `ready` hears when the history stands; returns how many of those changes were stored.
pub async fn attack(
    to: SocketAddr,
    space: SpaceId,
    (connections, each, length): (u64, u64, u64),
    ready: impl FnOnce(),
    stop: &AtomicBool,
) -> u64 {
    let mut wide = Wide::new(load::document(u32::MAX - 3), connections * each, length);
    let url = format!("ws://{to}");
    upload(&url, space, wide.history()).await;
    ready();
    let (wide, all) = (&wide, AtomicU64::new(0));
    let attacks = (0..connections).map(|connection| {
        let (url, all) = (&url, &all);
        async move {
            let mut client = RawClient::connect(url, &format!("abuser {connection}"), Vec::new()).await;
            let writes: Vec<Write> = (0..each).map(|number| wide.after(connection * each + number)).collect();
            for some in writes.chunks(COSTLY_PUSH) {
                client.push(space, some.to_vec()).await;
            }
            let mut left = writes.len().div_ceil(COSTLY_PUSH);
            while left > 0 && !stop.load(Ordering::Relaxed) {
                let Ok(message) = timeout(Duration::from_millis(50), client.next()).await else { continue };
                if let Some(stored) = stored(&message) {
                    left -= 1;
                    all.fetch_add(stored, Ordering::Relaxed);
                }
            }
        }
    });
    join_all(attacks).await;
    all.into_inner()
}

async fn upload(url: &str, space: SpaceId, history: Vec<Write>) {
    let mut client = RawClient::connect(url, "abuser", Vec::new()).await;
    let mut under_way = 0;
    for some in history.chunks(PUSH) {
        client.push(space, some.to_vec()).await;
        under_way += 1;
        while under_way == UNDER_WAY {
            under_way -= usize::from(stored(&client.next().await).is_some());
        }
    }
    while under_way > 0 {
        under_way -= usize::from(stored(&client.next().await).is_some());
    }
}

/// Writes a history of so many changes, and then has so many connections ask for what comes behind its beginning, take the first answer
/// and ask again, until it is told to stop. Returns how often they asked.
pub async fn ask(
    to: SocketAddr,
    space: SpaceId,
    (connections, length): (u64, u64),
    ready: impl FnOnce(),
    stop: &AtomicBool,
) -> u64 {
    let document = load::document(u32::MAX - 4);
    let mut wide = Wide::new(document, 1, length);
    let url = format!("ws://{to}");
    upload(&url, space, wide.history()).await;
    ready();
    let (heads, asked) = (Vec::from_iter(wide.first), AtomicU64::new(0));
    let asks = (0..connections).map(|connection| {
        let (url, heads, asked) = (&url, &heads, &asked);
        async move {
            let subscription = Subscription { space, mode: Mode::Chosen, start: Start::Beginning };
            let mut client = RawClient::connect(url, &format!("abuser {connection}"), vec![subscription]).await;
            while !stop.load(Ordering::Relaxed) {
                let documents = vec![DocumentHeads { document, heads: heads.clone() }];
                client.send(&ClientMessage::Open { space, documents }).await;
                loop {
                    let Ok(message) = timeout(Duration::from_millis(500), client.next()).await else { break };
                    if matches!(message, RelayMessage::Fill { .. } | RelayMessage::Opened { .. }) {
                        break;
                    }
                }
                client.send(&ClientMessage::Close { space, documents: vec![document] }).await;
                asked.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    join_all(asks).await;
    asked.into_inner()
}

/// Has so many classic connections compare that document with what nobody has, so that each answer needs a filter over all of it, until
/// it is told to stop. Returns how often they were answered.
pub async fn ask_classic(to: SocketAddr, connections: u32, stop: &AtomicBool) -> u64 {
    let answered = AtomicU64::new(0);
    let asks = (0..connections).map(|number| {
        let answered = &answered;
        async move {
            let (mut socket, _) = connect_async(format!("ws://{to}/")).await.expect("it is let in");
            let own = PeerId::new(format!("abuser {number}")).expect("it is short");
            let versions = vec!["1".to_owned()];
            let join = Frame::Join { sender_id: own.clone(), metadata: Default::default(), versions };
            socket.send(Message::Binary(join.encode())).await.expect("it is let in");
            let Some(Ok(Message::Binary(frame))) = socket.next().await else { return };
            let Ok(Frame::Peer { sender_id: relay, .. }) = Frame::decode(&frame) else { return };
            for turn in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let mut head = [0x11; 32];
                head[..8].copy_from_slice(&turn.to_be_bytes());
                // A filter that seems to hold everything.
                let have = vec![(Vec::new(), bloom(1, 10, 7, &[0xff; 2]))];
                let sync = RawSync { heads: vec![head], have, ..RawSync::default() };
                let (sender_id, target_id) = (own.clone(), relay.clone());
                let document = load::document(u32::MAX - 4);
                let frame = Frame::Sync { sender_id, target_id, document, data: sync.encode().into() };
                if socket.send(Message::Binary(frame.encode())).await.is_err() {
                    break;
                }
                while let Ok(Some(Ok(message))) = timeout(Duration::from_millis(500), socket.next()).await {
                    if message.len() > 10_000 {
                        answered.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                }
            }
        }
    });
    join_all(asks).await;
    answered.into_inner()
}

/// Returns how many changes an acknowledgement says are stored.
fn stored(message: &RelayMessage) -> Option<u64> {
    let RelayMessage::Ack { results, .. } = message else { return None };
    let stored = results.iter().filter(|run| matches!(run.outcome, Outcome::Stored { .. } | Outcome::Duplicate));
    Some(stored.map(|run| run.count).sum())
}
