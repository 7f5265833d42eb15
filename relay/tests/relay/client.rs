//! A small client: the engine's own session over a memory store and a WebSocket.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rejoin::codec::classic::Frame;
use rejoin::deletion::{DeletionKind, Tombstone};
use rejoin::gate::{Action, ChangeDraft, DraftObject, DraftOp, encode};
use rejoin::ledger::{self, Appender, tombstone};
use rejoin::store::{MemoryStore, Store, StoreError, StoreExt};
use rejoin::sync::classic::{ClassicSession, Identity, Output, Role};
use rejoin::{ActorId, ChangeHash, DocumentId, PeerId, ScalarValue};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Long enough for a loaded machine: nothing is asserted about time, it only ends a test that waits for ever.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A socket without a session, to send whatever one likes.
pub struct Raw {
    pub socket: Socket,
    pub relay: Option<PeerId>,
}

impl Raw {
    pub async fn connect(url: &str) -> Self {
        Self { socket: connect_async(url).await.unwrap().0, relay: None }
    }

    /// Connects with a token.
    pub async fn connect_as(url: &str, token: &str) -> Self {
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        Self { socket: connect_async(request).await.unwrap().0, relay: None }
    }

    /// Takes a socket that is connected already.
    pub fn of(socket: Socket) -> Self {
        Self { socket, relay: None }
    }

    /// Connects and joins under a name.
    pub async fn join(url: &str, name: &str) -> Self {
        let mut raw = Self::connect(url).await;
        let join = Frame::Join { sender_id: peer(name), metadata: Default::default(), versions: vec!["1".to_owned()] };
        raw.send(join.encode()).await;
        let Some(Frame::Peer { sender_id, .. }) = raw.frame().await else { panic!("no peer frame") };
        raw.relay = Some(sender_id);
        raw
    }

    pub async fn send(&mut self, frame: impl Into<Bytes>) {
        self.socket.send(Message::Binary(frame.into())).await.unwrap();
    }

    /// Returns the next frame, or `None` when the relay has closed.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("the relay says nothing");
            match message? {
                Ok(Message::Binary(frame)) => return Some(Frame::decode(&frame).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Waits for the close, and returns it with the error frame before it.
    pub async fn closed(&mut self) -> (Option<String>, Option<CloseFrame>) {
        let mut said = None;
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("the relay does not close") {
                Some(Ok(Message::Close(close))) => return (said, close),
                Some(Ok(Message::Binary(frame))) => {
                    if let Ok(Frame::Error { message, .. }) = Frame::decode(&frame) {
                        said = Some(message);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return (said, None),
            }
        }
    }
}

/// A client that takes part.
pub struct Client {
    raw: Raw,
    session: ClassicSession,
    pub store: MemoryStore,
    me: PeerId,
    pub unavailable: Vec<DocumentId>,
    pub ephemeral: Vec<(PeerId, u64, Bytes)>,
    /// The heads that the relay last showed to have, all known here.
    pub relay_heads: HashMap<DocumentId, Vec<ChangeHash>>,
    /// Deletions that the relay told of, and those that it acknowledged.
    pub deleted: Vec<(DocumentId, Tombstone)>,
    pub acknowledged: Vec<(DocumentId, DeletionKind)>,
    /// Every frame that came.
    pub frames: Vec<Bytes>,
}

impl Client {
    pub async fn connect(url: &str, name: &str) -> Self {
        Self::connect_with(url, name, MemoryStore::new()).await
    }

    pub async fn connect_with(url: &str, name: &str, store: MemoryStore) -> Self {
        Self::begin(Raw::connect(url).await, name, store).await
    }

    /// Connects with a token.
    pub async fn connect_as(url: &str, name: &str, token: &str) -> Self {
        Self::begin(Raw::connect_as(url, token).await, name, MemoryStore::new()).await
    }

    /// Joins on a socket that is connected already.
    pub async fn of(socket: Socket, name: &str) -> Self {
        Self::begin(Raw::of(socket), name, MemoryStore::new()).await
    }

    /// Waits for the close.
    pub async fn closed(&mut self) -> Option<CloseFrame> {
        self.raw.closed().await.1
    }

    async fn begin(raw: Raw, name: &str, store: MemoryStore) -> Self {
        let me = peer(name);
        let session = ClassicSession::new(Role::Client, Identity { peer: me.clone(), storage: None, epoch: None });
        let (unavailable, ephemeral) = (Vec::new(), Vec::new());
        let (deleted, acknowledged, relay_heads, frames) = (Vec::new(), Vec::new(), HashMap::new(), Vec::new());
        let mut client =
            Self { raw, session, store, me, unavailable, ephemeral, relay_heads, deleted, acknowledged, frames };
        client.until(|client| client.session.peer().is_some()).await;
        client
    }

    pub fn open(&mut self, document: DocumentId) {
        self.open_above(document, Vec::new());
    }

    /// Opens a document of which the relay has these heads already.
    pub fn open_above(&mut self, document: DocumentId, shared: Vec<ChangeHash>) {
        self.session.open(document, shared, &*self.store.read().unwrap()).unwrap();
    }

    /// Sets a field in a new change of this client's actor, on top of all that it has.
    pub fn set(&mut self, document: DocumentId, key: &str, value: i64) {
        set(&self.store, document, self.me.as_str(), key, value);
        self.session.handle_heads_changed(document);
    }

    /// Deletes a document everywhere.
    pub fn bury(&mut self, document: DocumentId, kind: DeletionKind) {
        let tombstone = Tombstone { kind, time_seconds: 1_795_240_300, by: self.me.to_string() };
        self.store.write_with(|tx| tombstone::bury(tx, &document, &tombstone)).unwrap();
        self.session.tell_deleted(document);
    }

    pub fn heads(&self, document: DocumentId) -> Vec<ChangeHash> {
        ledger::heads(&*self.store.read().unwrap(), &document).unwrap()
    }

    /// Says whether the relay has shown that it has all of a document.
    pub fn is_acknowledged(&self, document: DocumentId) -> bool {
        self.relay_heads.get(&document) == Some(&self.heads(document))
    }

    pub fn count(&self, document: DocumentId) -> u64 {
        ledger::state(&*self.store.read().unwrap(), &document).unwrap().map_or(0, |state| state.count)
    }

    pub fn say(&mut self, document: DocumentId, count: u64, data: &'static [u8]) {
        let me = self.me.clone();
        self.echo(document, &me, count, &Bytes::from_static(data));
    }

    /// Sends an ephemeral message of another author on, as automerge-repo does with what it receives.
    pub fn echo(&mut self, document: DocumentId, author: &PeerId, count: u64, data: &Bytes) {
        let tx = self.store.read().unwrap();
        self.session.send_ephemeral(document, author, "session", count, data, &*tx).unwrap();
    }

    /// Takes part until something holds.
    pub async fn until(&mut self, mut holds: impl FnMut(&Self) -> bool) {
        // Pings keep coming, so a single message is not what to wait for.
        timeout(PATIENCE, async {
            loop {
                self.send_all().await;
                if holds(self) {
                    return;
                }
                self.receive().await;
            }
        })
        .await
        .expect("what is waited for does not happen");
    }

    /// Takes part until something holds, while another client takes part too.
    pub async fn until_beside(&mut self, other: &mut Self, holds: impl FnMut(&Self) -> bool) {
        tokio::select! {
            () = self.until(holds) => {}
            () = other.until(|_| false) => {}
        }
    }

    /// Sends what there is to send.
    pub async fn send_all(&mut self) {
        loop {
            self.carry_out().await;
            let frame = self.session.poll_transmit(&*self.store.read().unwrap()).unwrap();
            match frame {
                Some(frame) => self.raw.send(frame).await,
                None => return,
            }
        }
    }

    async fn receive(&mut self) {
        let message = timeout(PATIENCE, self.raw.socket.next()).await.expect("the relay says nothing");
        if let Message::Binary(frame) = message.expect("the relay closed").unwrap() {
            self.frames.push(frame.clone());
            self.session.handle_frame(&frame, &*self.store.read().unwrap()).unwrap();
        }
    }

    async fn carry_out(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(frame) => self.raw.send(frame).await,
                Output::Append { document, changes } => {
                    let results = self.store.write_with(|tx| {
                        let mut appender = Appender::begin(tx, document)?;
                        let results = changes.into_iter().map(|change| {
                            let appended = appender.append(tx, &change)?;
                            Ok::<_, StoreError>((change, appended))
                        });
                        let results = results.collect::<Result<Vec<_>, StoreError>>()?;
                        appender.finish(tx)?;
                        Ok(results)
                    });
                    let tx = self.store.read().unwrap();
                    self.session.handle_appended(document, results.unwrap(), &*tx).unwrap();
                }
                Output::PeerHas { document, heads } => {
                    self.relay_heads.insert(document, heads);
                }
                Output::Delete { document, tombstone } => {
                    self.store.write_with(|tx| tombstone::bury(tx, &document, &tombstone)).unwrap();
                    self.session.handle_deleted(document, &tombstone);
                    self.deleted.push((document, tombstone));
                }
                Output::DeleteAcknowledged { document, kind } => self.acknowledged.push((document, kind)),
                Output::Unavailable { document } => self.unavailable.push(document),
                Output::Ephemeral { sender, count, data, .. } => self.ephemeral.push((sender, count, data)),
                Output::Refused { error, .. } => panic!("an honest change was refused: {error}"),
                Output::Close { reason, .. } => panic!("the session ended: {reason}"),
                _ => {}
            }
        }
    }
}

/// A content of documents, which no log may hold: the whole run's logs are searched for it.
const PLANTED: &str = "frobozzcontent";

/// Appends a change that sets a field, by an actor of this name.
pub fn set(store: &(impl Store + ?Sized), document: DocumentId, actor: &str, key: &str, value: i64) {
    let actor = ActorId::from(actor.as_bytes());
    store
        .write_with(|tx| {
            let mut appender = Appender::begin(tx, document)?;
            let state = appender.state();
            let change = encode(&ChangeDraft {
                seq: ledger::last_seq(tx, &document, &actor)? + 1,
                start_op: state.max_op + 1,
                timestamp: 0,
                message: Some(PLANTED),
                deps: state.head_hashes(),
                ops: vec![DraftOp {
                    object: DraftObject::Root,
                    key: key.to_owned(),
                    action: Action::Put,
                    value: ScalarValue::Int(value),
                    preds: Vec::new(),
                }],
                actor,
            });
            appender.append(tx, &change.unwrap())?;
            appender.finish(tx)
        })
        .unwrap();
}

pub fn peer(name: &str) -> PeerId {
    PeerId::new(name).unwrap()
}

pub fn document(number: u8) -> DocumentId {
    DocumentId::from_bytes([number; 16])
}
