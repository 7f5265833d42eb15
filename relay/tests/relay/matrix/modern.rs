//! A client of `rejoin.v1` that looks at every byte it is sent.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rejoin::codec::v1::{
    About, ClientMessage, Code, Content, DocumentHeads, Entry, ErrorMessage, Hello, ListedState, Mode, Outcome,
    RelayMessage, SUBPROTOCOL, Start, Subscription, Token, Write,
};
use rejoin::gate::CheckedChange;
use rejoin::{ChangeHash, DocumentId, SpaceId};
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::http::Relay;
use super::model::Model;
use crate::client::PATIENCE;
use crate::v1::client::hello;

/// A space where nothing was ever.
pub const GHOST: SpaceId = SpaceId::from_bytes([0xee; 16]);

/// What somebody was told.
#[derive(Debug, Default)]
pub struct Heard {
    pub changes: BTreeMap<DocumentId, BTreeSet<ChangeHash>>,
    pub heads: BTreeMap<DocumentId, Vec<ChangeHash>>,
    pub deleted: BTreeSet<DocumentId>,
    pub opened: BTreeMap<DocumentId, Vec<ChangeHash>>,
    pub presence: BTreeSet<(DocumentId, u64)>,
    /// Subscriptions that ended.
    pub lost: BTreeSet<SpaceId>,
}

pub struct Modern {
    socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
    pub token: usize,
    pub name: String,
    batches: u64,
    pub heard: Heard,
}

/// What comes next.
pub enum Next {
    Message(RelayMessage, Bytes),
    Closed(Option<u16>),
}

impl Modern {
    /// Connects, and comes in if that is allowed: the token is in the first message or beside it.
    pub async fn enter(relay: &Relay, model: &Model, token: usize, in_hello: bool) -> Option<Self> {
        let text = &model.tokens[token].text;
        let mut request = relay.ws_url("").into_client_request().unwrap();
        let protocols = if in_hello { SUBPROTOCOL.to_owned() } else { format!("{SUBPROTOCOL}, rejoin.bearer.{text}") };
        request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
        request.headers_mut().insert("x-forwarded-for", relay.address().parse().unwrap());
        let may_enter = !model.is_over(token);
        let socket = match connect_async(request).await {
            Ok((socket, _)) => socket,
            Err(tokio_tungstenite::tungstenite::Error::Http(refusal)) => {
                assert!(!may_enter && !in_hello, "{}: {:?}", refusal.status(), model.tokens[token]);
                assert_eq!(refusal.status().as_u16(), 401);
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        assert!(in_hello || may_enter, "let in: {:?}", model.tokens[token]);
        let name = relay.peer_name();
        let mut client = Self { socket, token, name, batches: 0, heard: Heard::default() };
        let said = if in_hello { Token::new(text.clone()) } else { Token::default() };
        let greeting = Hello { token: said, ..hello(&client.name, Vec::new()) };
        client.send(&ClientMessage::Hello(greeting)).await;
        if !may_enter {
            client.ended(model).await;
            return None;
        }
        let Next::Message(RelayMessage::Welcome(_), _) = client.next(model).await else {
            panic!("no welcome: {:?}", model.tokens[token])
        };
        Some(client)
    }

    pub async fn send(&mut self, message: &ClientMessage) {
        self.socket.send(Message::Binary(message.encode())).await.unwrap();
    }

    /// Reads the next message, looks whether its reader may read it, and takes note of it.
    pub async fn next(&mut self, model: &Model) -> Next {
        // Pings keep coming, so a single frame is not what to wait for.
        let socket = &mut self.socket;
        let read = timeout(PATIENCE, async {
            loop {
                match socket.next().await {
                    Some(Ok(Message::Binary(frame))) => return Ok(frame),
                    Some(Ok(Message::Close(close))) => return Err(close.map(|close| close.code.into())),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err(None),
                }
            }
        });
        let frame = match read.await.expect("the relay says nothing") {
            Ok(frame) => frame,
            Err(code) => return Next::Closed(code),
        };
        let message = RelayMessage::decode(&frame).unwrap();
        self.look_at(model, &frame, &message);
        self.note(&message);
        if message.costs_credit() {
            self.send(&ClientMessage::Credit { bytes: frame.len() as u64 }).await;
        }
        Next::Message(message, frame)
    }

    /// Nothing that may not be read is anywhere in a message; but what was asked for by name may be said not to be there.
    fn look_at(&self, model: &Model, frame: &[u8], message: &RelayMessage) {
        for (number, document) in model.documents.iter().enumerate() {
            if model.may_read(self.token, number) {
                continue;
            }
            let names_it = holds(frame, document.id.as_bytes());
            let is_answer = match message {
                RelayMessage::Opened { documents, .. } => {
                    documents.iter().all(|opened| opened.document != document.id || opened.heads.is_empty())
                }
                _ => false,
            };
            let tells = names_it && !is_answer || holds(frame, document.canary.as_bytes());
            assert!(!tells, "{:?} is told of {document:?}: {message:?}", model.tokens[self.token]);
        }
    }

    fn note(&mut self, message: &RelayMessage) {
        let heard = &mut self.heard;
        let mut take = |write: &Write| match &write.content {
            Content::Change(bytes) | Content::PassedOn(bytes) => {
                let hash = CheckedChange::parse(bytes).unwrap().hash();
                heard.changes.entry(write.document).or_default().insert(hash);
            }
            Content::Deleted(_) => {
                heard.deleted.insert(write.document);
            }
        };
        match message {
            RelayMessage::Fill { writes, .. } => writes.iter().for_each(take),
            RelayMessage::Entries { entries, .. } => {
                entries
                    .iter()
                    .filter_map(|entry| if let Entry::Write(write) = entry { Some(write) } else { None })
                    .for_each(&mut take);
            }
            RelayMessage::Listing { documents, .. } => {
                for listed in documents {
                    match &listed.state {
                        ListedState::Present { heads, .. } => {
                            heard.heads.insert(listed.document, heads.clone());
                        }
                        ListedState::Deleted(_) => {
                            heard.deleted.insert(listed.document);
                        }
                    }
                }
            }
            RelayMessage::Opened { documents, .. } => {
                heard.opened.extend(documents.iter().map(|opened| (opened.document, opened.heads.clone())));
            }
            RelayMessage::Presence { values, .. } => {
                heard.presence.extend(values.iter().map(|value| (value.document, value.sequence)));
            }
            RelayMessage::Error(ErrorMessage { code: Code::Forbidden, about: About::Space(space), .. }) => {
                heard.lost.insert(*space);
            }
            _ => {}
        }
    }

    /// Reads until something holds.
    pub async fn until(&mut self, model: &Model, what: &str, holds: impl Fn(&Heard) -> bool) {
        while !holds(&self.heard) {
            match self.next(model).await {
                Next::Message(RelayMessage::Error(error), _) if error.is_fatal => panic!("{what}: {error:?}"),
                Next::Message(..) => {}
                Next::Closed(code) => panic!("{what}: closed with {code:?}"),
            }
        }
    }

    /// Reads until everything has come that was under way: what the relay heard before it answers twice.
    pub async fn barrier(&mut self, model: &Model) {
        for _ in 0..2 {
            self.send(&ClientMessage::Cursor { space: GHOST, position: 0 }).await;
            loop {
                match self.next(model).await {
                    Next::Message(RelayMessage::Error(error), _) if error.code == Code::NotSubscribed => break,
                    Next::Message(RelayMessage::Error(error), _) if error.is_fatal => panic!("{error:?}"),
                    Next::Message(..) => {}
                    Next::Closed(code) => panic!("closed with {code:?}: {:?}", model.tokens[self.token]),
                }
            }
        }
    }

    /// Waits until the relay has said that the token is over, and has closed.
    pub async fn ended(&mut self, model: &Model) {
        let mut said = None;
        loop {
            match self.next(model).await {
                Next::Message(RelayMessage::Error(error), _) if error.is_fatal => said = Some(error.code),
                Next::Message(..) => {}
                Next::Closed(code) => {
                    assert_eq!((said, code), (Some(Code::Unauthenticated), Some(1008)));
                    return;
                }
            }
        }
    }

    /// Subscribes, and returns the first answer that is about the space, with its bytes.
    pub async fn subscribe(&mut self, model: &Model, space: SpaceId, mode: Mode) -> (RelayMessage, Bytes) {
        self.heard = Heard::default();
        let subscriptions = vec![Subscription { space, mode, start: Start::Beginning }];
        self.send(&ClientMessage::Subscribe { subscriptions }).await;
        loop {
            match self.next(model).await {
                Next::Message(message @ RelayMessage::Subscribed { .. }, frame) => {
                    let is_caught_up = |message: &RelayMessage| matches!(message, RelayMessage::CaughtUp { .. });
                    while !matches!(self.next(model).await, Next::Message(message, _) if is_caught_up(&message)) {}
                    return (message, frame);
                }
                Next::Message(RelayMessage::Error(error), frame) if error.about == About::Space(space) => {
                    return (RelayMessage::Error(error), frame);
                }
                Next::Message(..) => {}
                Next::Closed(code) => panic!("closed with {code:?}"),
            }
        }
    }

    /// Opens documents of a space that it chooses from.
    pub async fn open(&mut self, model: &Model, space: SpaceId, documents: &[DocumentId]) {
        let wanted = documents.iter().map(|document| DocumentHeads { document: *document, heads: Vec::new() });
        self.send(&ClientMessage::Open { space, documents: wanted.collect() }).await;
        let is_open = |heard: &Heard| documents.iter().all(|document| heard.opened.contains_key(document));
        self.until(model, "opening documents", is_open).await;
    }

    /// Pushes one write, and returns what became of it.
    pub async fn push(&mut self, model: &Model, space: SpaceId, write: Write) -> String {
        self.batches += 1;
        let batch = self.batches;
        self.send(&ClientMessage::Push { batch, space, writes: vec![write] }).await;
        loop {
            match self.next(model).await {
                Next::Message(RelayMessage::Ack { batch: answered, results }, _) => {
                    assert!(answered == batch && results.len() == 1, "{results:?}");
                    return match &results[0].outcome {
                        Outcome::Stored { .. } => "stored".to_owned(),
                        Outcome::Duplicate => "duplicate".to_owned(),
                        Outcome::Rejected(reject) => reject.code.name().to_owned(),
                    };
                }
                Next::Message(RelayMessage::Error(error), _) if error.is_fatal => panic!("{error:?}"),
                Next::Message(..) => {}
                Next::Closed(code) => panic!("closed with {code:?}"),
            }
        }
    }
}

/// Says whether some bytes are among others.
pub fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
