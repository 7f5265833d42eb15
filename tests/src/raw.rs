//! A client of `rejoin.v1` that keeps nothing: for benchmarks that measure the relay and not the client.

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};
use rejoin::codec::v1::{ClientMessage, Entry, Hello, RelayMessage, Subscription, Token, Welcome, Write};
use rejoin::{PeerId, SpaceId, StorageId};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{WebSocketStream, client_async};

/// How many bytes the relay may send ahead.
const CREDIT: u64 = 16 << 20;

/// One connection.
pub struct RawClient {
    socket: WebSocketStream<TcpStream>,
    /// What the relay said first.
    pub welcome: Welcome,
    batch: u64,
    /// Bytes that were received and for which no credit was given yet.
    owed: u64,
}

impl RawClient {
    /// Connects and says hello.
    pub async fn connect(url: &str, peer: &str, subscriptions: Vec<Subscription>) -> Self {
        let address = url.strip_prefix("ws://").unwrap().trim_end_matches('/');
        Self::over(TcpStream::connect(address).await.unwrap(), peer, Token::default(), subscriptions).await
    }

    /// Says hello over a socket of the caller's, and shows a token.
    pub async fn over(stream: TcpStream, peer: &str, token: Token, subscriptions: Vec<Subscription>) -> Self {
        stream.set_nodelay(true).unwrap();
        let mut request = format!("ws://{}/", stream.peer_addr().unwrap()).into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("rejoin.v1"));
        let mut socket = client_async(request, stream).await.unwrap().0;
        let hello = Hello {
            lowest: 1,
            highest: 1,
            peer: PeerId::new(peer).unwrap(),
            storage: Some(storage(peer)),
            takes_snapshots: true,
            token,
            credit: CREDIT,
            subscriptions,
        };
        socket.send(Message::Binary(ClientMessage::Hello(hello).encode())).await.unwrap();
        let RelayMessage::Welcome(welcome) = RelayMessage::decode(&next(&mut socket).await).unwrap() else {
            panic!("no welcome")
        };
        Self { socket, welcome, batch: 0, owed: 0 }
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &ClientMessage) {
        self.socket.send(Message::Binary(message.encode())).await.unwrap();
    }

    /// Pushes writes, and returns the number of the batch.
    pub async fn push(&mut self, space: SpaceId, writes: Vec<Write>) -> u64 {
        self.batch += 1;
        let batch = self.batch;
        self.send(&ClientMessage::Push { batch, space, writes }).await;
        batch
    }

    /// Waits for the next message, which is no error. Gives credit back as it goes. May be given up at any time.
    pub async fn next(&mut self) -> RelayMessage {
        let message = self.try_next().await.expect("the relay goes on");
        assert!(!matches!(message, RelayMessage::Error(_)), "the relay says {message:?}");
        message
    }

    /// Waits for the next message, whatever it is; `None` when the relay has closed.
    pub async fn try_next(&mut self) -> Option<RelayMessage> {
        let frame = loop {
            match self.socket.try_next().await {
                Ok(Some(Message::Binary(frame))) => break frame,
                Ok(Some(Message::Close(_)) | None) | Err(_) => return None,
                Ok(Some(_)) => {}
            }
        };
        let message = RelayMessage::decode(&frame).unwrap();
        if message.costs_credit() {
            self.owed += frame.len() as u64;
        }
        if self.owed > CREDIT / 2 {
            let bytes = std::mem::take(&mut self.owed);
            self.send(&ClientMessage::Credit { bytes }).await;
        }
        Some(message)
    }

    /// Waits until a space is caught up, and returns how many writes came until then, and in how many messages.
    pub async fn caught_up(&mut self) -> (usize, usize) {
        let (mut writes, mut messages) = (0, 0);
        loop {
            messages += 1;
            match self.next().await {
                RelayMessage::Entries { entries, .. } => writes += count(&entries),
                RelayMessage::CaughtUp { .. } => return (writes, messages),
                _ => {}
            }
        }
    }
}

/// Counts the writes of a stretch of the log.
pub fn count(entries: &[Entry]) -> usize {
    entries.iter().filter(|entry| matches!(entry, Entry::Write(_))).count()
}

async fn next(socket: &mut WebSocketStream<TcpStream>) -> Bytes {
    loop {
        if let Message::Binary(frame) = socket.try_next().await.unwrap().expect("the relay goes on") {
            return frame;
        }
    }
}

/// Makes a store's id of a name.
fn storage(peer: &str) -> StorageId {
    let mut id = [0x5a; 16];
    let length = peer.len().min(16);
    id[..length].copy_from_slice(&peer.as_bytes()[..length]);
    StorageId::from_bytes(id)
}
