//! A client without a session: it says what a test has it say, and reads what the relay answers.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rejoin::codec::v1::{
    AckRun, ClientMessage, Content, DocumentHeads, Entry, ErrorMessage, Hello, Mode, Outcome, RelayMessage,
    SUBPROTOCOL, Start, Subscription, Token, Welcome, Write,
};
use rejoin::ledger;
use rejoin::limits::CREDIT_BYTES;
use rejoin::store::{MemoryStore, Store};
use rejoin::{DocumentId, SpaceId, StorageId};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::client::{PATIENCE, document, peer, set};

/// The space of classic documents.
pub const HOME: SpaceId = SpaceId::DEFAULT;
pub const TEAM: SpaceId = SpaceId::from_bytes([0xe1; 16]);

pub struct V1 {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    batches: u64,
}

/// Connects and asks for these subprotocols.
pub async fn connect(url: &str, protocols: &str) -> (WebSocketStream<MaybeTlsStream<TcpStream>>, Response) {
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
    connect_async(request).await.unwrap()
}

pub fn hello(name: &str, subscriptions: Vec<Subscription>) -> Hello {
    let storage = StorageId::from_bytes([name.as_bytes()[0]; 16]);
    Hello {
        lowest: 1,
        highest: 1,
        peer: peer(name),
        storage: Some(storage),
        takes_snapshots: false,
        token: Token::default(),
        credit: CREDIT_BYTES,
        subscriptions,
    }
}

pub fn all_of(space: SpaceId, start: Start) -> Subscription {
    Subscription { space, mode: Mode::Everything, start }
}

impl V1 {
    /// Takes a socket that is connected already.
    pub fn of(socket: WebSocketStream<MaybeTlsStream<TcpStream>>) -> Self {
        Self { socket, batches: 0 }
    }

    pub async fn connect(url: &str) -> Self {
        Self { socket: connect(url, SUBPROTOCOL).await.0, batches: 0 }
    }

    /// Connects and says hello.
    pub async fn greet(url: &str, name: &str, subscriptions: Vec<Subscription>) -> (Self, Welcome) {
        let mut client = Self::connect(url).await;
        client.send(&ClientMessage::Hello(hello(name, subscriptions))).await;
        let RelayMessage::Welcome(welcome) = client.next().await else { panic!("no welcome") };
        (client, welcome)
    }

    /// Connects and chooses documents of the default space, until all of them are open. Returns what they held.
    pub async fn choose(url: &str, name: &str, numbers: &[u8]) -> (Self, Vec<Write>) {
        Self::connect(url).await.choosing(name, numbers).await
    }

    /// Does so on a socket that is connected already.
    pub async fn choosing(mut self, name: &str, numbers: &[u8]) -> (Self, Vec<Write>) {
        let wanted = Subscription { space: HOME, mode: Mode::Chosen, start: Start::Beginning };
        self.send(&ClientMessage::Hello(hello(name, vec![wanted]))).await;
        let mut client = self;
        let documents = numbers.iter().map(|number| DocumentHeads { document: document(*number), heads: Vec::new() });
        client.send(&ClientMessage::Open { space: HOME, documents: documents.collect() }).await;
        let (mut held, mut opened) = (Vec::new(), 0);
        while opened < numbers.len() {
            match client.next().await {
                RelayMessage::Fill { writes, .. } => held.extend(writes),
                RelayMessage::Opened { documents, .. } => opened += documents.len(),
                RelayMessage::Error(error) => panic!("{error:?}"),
                _ => {}
            }
        }
        (client, held)
    }

    /// Reads what comes of open documents until there are so many writes.
    pub async fn filled(&mut self, count: usize) -> Vec<Write> {
        let mut found = Vec::new();
        while found.len() < count {
            let fill = self.until(|message| match message {
                RelayMessage::Fill { space: HOME, writes } => Some(writes),
                RelayMessage::Error(error) => panic!("{error:?}"),
                _ => None,
            });
            found.extend(fill.await);
        }
        found
    }

    /// Connects and follows a space from its beginning, until it is caught up.
    pub async fn follow(url: &str, name: &str, space: SpaceId) -> Self {
        let mut client = Self::greet(url, name, vec![all_of(space, Start::Beginning)]).await.0;
        client.until(|message| matches!(message, RelayMessage::CaughtUp { .. }).then_some(())).await;
        client
    }

    /// Connects and says hello with a token.
    pub async fn greet_as(url: &str, name: &str, token: &str, subscriptions: Vec<Subscription>) -> (Self, Welcome) {
        let mut client = Self::connect(url).await;
        let token = Token::new(token);
        client.send(&ClientMessage::Hello(Hello { token, ..hello(name, subscriptions) })).await;
        let RelayMessage::Welcome(welcome) = client.next().await else { panic!("no welcome") };
        (client, welcome)
    }

    pub async fn send(&mut self, message: &ClientMessage) {
        self.send_bytes(message.encode()).await;
    }

    pub async fn send_bytes(&mut self, bytes: impl Into<Bytes>) {
        self.socket.send(Message::Binary(bytes.into())).await.unwrap();
    }

    /// Sends a push without waiting for its answer, and returns its number.
    pub async fn push(&mut self, space: SpaceId, writes: Vec<Write>) -> u64 {
        self.batches += 1;
        let batch = self.batches;
        self.send(&ClientMessage::Push { batch, space, writes }).await;
        batch
    }

    /// Pushes and waits for the answer.
    pub async fn store(&mut self, space: SpaceId, writes: Vec<Write>) -> Vec<AckRun> {
        let batch = self.push(space, writes).await;
        self.ack(batch).await
    }

    pub async fn ack(&mut self, batch: u64) -> Vec<AckRun> {
        self.until(|message| match message {
            RelayMessage::Ack { batch: answered, results } => {
                assert_eq!(answered, batch, "answers come in the order of the pushes");
                Some(results)
            }
            RelayMessage::Error(error) => panic!("{error:?}"),
            _ => None,
        })
        .await
    }

    /// Returns the next message; credit is given back as it is used.
    pub async fn next(&mut self) -> RelayMessage {
        // Pings keep coming, so a single frame is not what to wait for.
        let frame = timeout(PATIENCE, async {
            loop {
                let message = self.socket.next().await.expect("the relay closed").unwrap();
                if let Message::Binary(frame) = message {
                    return frame;
                }
            }
        });
        let frame = frame.await.expect("the relay says nothing");
        let message = RelayMessage::decode(&frame).unwrap();
        if message.costs_credit() {
            self.send(&ClientMessage::Credit { bytes: frame.len() as u64 }).await;
        }
        message
    }

    /// Reads until a message is what is waited for.
    pub async fn until<T>(&mut self, mut wanted: impl FnMut(RelayMessage) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.next().await) {
                return found;
            }
        }
    }

    /// Reads changes of entries until there are so many, with their positions.
    pub async fn changes(&mut self, count: usize) -> Vec<(u64, Write)> {
        let mut found = Vec::new();
        while found.len() < count {
            let (mut position, entries) = self
                .until(|message| match message {
                    RelayMessage::Entries { first, entries, .. } => Some((first, entries)),
                    RelayMessage::Error(error) => panic!("{error:?}"),
                    _ => None,
                })
                .await;
            for entry in entries {
                let positions = entry.positions();
                if let Entry::Write(write) = entry {
                    found.push((position, write));
                }
                position += positions;
            }
        }
        found
    }

    /// Waits for the close, and returns it with the error before it.
    pub async fn closed(&mut self) -> (Option<ErrorMessage>, Option<CloseFrame>) {
        let mut said = None;
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("the relay does not close") {
                Some(Ok(Message::Close(close))) => return (said, close),
                Some(Ok(Message::Binary(frame))) => {
                    if let Ok(RelayMessage::Error(error)) = RelayMessage::decode(&frame) {
                        said = Some(error);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return (said, None),
            }
        }
    }
}

/// Makes a chain of changes of a document by one actor, each with a value so long.
pub fn chain(document: DocumentId, actor: &str, count: u64, key: &str) -> Vec<Write> {
    let store = MemoryStore::new();
    (0..count).for_each(|value| set(&store, document, actor, key, i64::try_from(value).unwrap()));
    let tx = store.read().unwrap();
    let change = |position| ledger::change(&*tx, &document, position).unwrap();
    (0..count).map(|position| Write { document, content: Content::Change(change(position).into()) }).collect()
}

/// Says that all of a push was stored from a position on.
pub fn stored(first: u64, count: u64) -> Vec<AckRun> {
    vec![AckRun { count, outcome: Outcome::Stored { first } }]
}
