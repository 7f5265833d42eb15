//! The catalogue of attacks: what is sent, and what must become of it.

mod change;
mod frame;
mod graph;
mod reference;
mod sync;

use std::collections::HashSet;

use bytes::Bytes;
use rejoin::codec::classic::Frame;
use rejoin::codec::sync_message::SyncMessage;
use rejoin::sync::classic::Role;
use rejoin::{ChangeHash, DocumentId};

use super::message::{Cbor, RawSync};

/// Attacks whose expectation does not hold yet, because a rule is still being written. They are sent all the same; what
/// becomes of them is printed and not asserted, and the oracle's complaints about their documents are printed too.
///
/// When the rules are there, this list becomes empty and nothing else changes.
pub const PENDING: &[&str] = &[];

/// Complaints of Automerge's that wait for a rule, by how they begin: the mutation run prints them and goes on.
pub const PENDING_COMPLAINTS: &[&str] = &[];

/// Between whom and about what an attack happens.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The attacked document; it holds [`base`](super::base).
    pub document: DocumentId,
    /// The attacker's peer id.
    pub attacker: String,
    /// The victim's peer id.
    pub victim: String,
    /// Which end the victim is.
    pub victim_role: Role,
}

/// One WebSocket message.
#[derive(Debug, Clone)]
pub enum Sent {
    /// A binary message.
    Binary(Bytes),
    /// A text message.
    Text(&'static str),
}

/// When an attack begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// After an honest handshake.
    Joined,
    /// Instead of one.
    Fresh,
}

/// What must become of an attack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expect {
    /// The WebSocket close code, if the victim closes.
    pub close: Option<u16>,
    /// The codes of the rules that its changes break, each once, in their order.
    pub rules: Vec<&'static str>,
    /// How many of its changes are stored, because each is sound in itself.
    pub stored: u64,
}

type Make = dyn Fn(&Scene) -> Vec<Sent> + Send + Sync;

/// One attack.
pub struct Attack {
    /// Its name: what is wrong.
    pub name: &'static str,
    /// When it begins.
    pub opening: Opening,
    /// What must become of it.
    pub expect: Expect,
    /// Whether the engine must not be asked to materialise the document afterwards in this process: what it stores is
    /// within every limit, and heavy.
    pub is_heavy: bool,
    /// Whether real Automerge takes all memory there is when it applies what is stored: it must never be asked to.
    pub is_deadly: bool,
    make: Box<Make>,
}

impl Attack {
    fn new(name: &'static str, make: impl Fn(&Scene) -> Vec<Sent> + Send + Sync + 'static) -> Self {
        Self {
            name,
            opening: Opening::Joined,
            expect: Expect::default(),
            is_heavy: false,
            is_deadly: false,
            make: Box::new(make),
        }
    }

    /// Offers changes in one sync message.
    fn changes(name: &'static str, make: impl Fn() -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self::new(name, move |scene| vec![scene.sync(&RawSync::offer(make()))])
    }

    /// Sends one sync message.
    fn sync(name: &'static str, make: impl Fn() -> RawSync + Send + Sync + 'static) -> Self {
        Self::new(name, move |scene| vec![scene.sync(&make())])
    }

    /// Sends one frame.
    fn frame(name: &'static str, make: impl Fn(&Scene) -> Bytes + Send + Sync + 'static) -> Self {
        Self::new(name, move |scene| vec![Sent::Binary(make(scene))])
    }

    fn closes(mut self, code: u16) -> Self {
        self.expect.close = Some(code);
        self
    }

    fn breaks(mut self, rules: &[&'static str]) -> Self {
        self.expect.rules = rules.to_vec();
        self
    }

    fn stores(mut self, changes: u64) -> Self {
        self.expect.stored = changes;
        self
    }

    fn fresh(mut self) -> Self {
        self.opening = Opening::Fresh;
        self
    }

    fn heavy(mut self) -> Self {
        self.is_heavy = true;
        self
    }

    /// A WebSocket message above the bound: only a socket can refuse it, so it is not in the catalogue.
    pub fn above_the_frame_bound() -> Self {
        Self::frame("frame-above-the-bound", |_| vec![0; rejoin::limits::FRAME_BYTES_MAX + 1].into()).closes(1009)
    }

    /// Makes what is sent.
    pub fn make(&self, scene: &Scene) -> Vec<Sent> {
        (self.make)(scene)
    }

    /// Says whether its expectation is not to be asserted yet.
    pub fn is_pending(&self) -> bool {
        PENDING.contains(&self.name)
    }
}

/// Returns every attack.
pub fn all() -> Vec<Attack> {
    let mut all = frame::attacks();
    all.extend(sync::attacks());
    all.extend(change::attacks());
    all.extend(graph::attacks());
    all.extend(reference::attacks());
    let mut names: Vec<_> = all.iter().map(|attack| attack.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all.len(), "every attack has its own name");
    assert!(PENDING.iter().all(|name| names.binary_search(name).is_ok()), "PENDING names attacks that exist");
    all
}

/// Returns the hashes of all changes that frames offer and that can be named at all.
pub fn offered(frames: &[Sent]) -> HashSet<ChangeHash> {
    let mut offered = HashSet::new();
    for sent in frames {
        let Sent::Binary(frame) = sent else { continue };
        let Ok(Frame::Sync { data, .. }) = Frame::decode(frame) else { continue };
        let Ok(message) = SyncMessage::decode(&data) else { continue };
        for bytes in &message.changes {
            let chunks = rejoin::gate::chunks(bytes).filter_map(Result::ok);
            offered.extend(chunks.filter_map(|chunk| chunk.hash()));
        }
    }
    offered
}

impl Scene {
    /// The attacker's honest part of the handshake.
    pub fn hello(&self, version: &str) -> Bytes {
        let metadata = Cbor::Map(vec![("isEphemeral", Cbor::Bool(true))]);
        match self.victim_role {
            Role::Server => Cbor::Map(vec![
                ("type", Cbor::text("join")),
                ("senderId", Cbor::text(&self.attacker)),
                ("peerMetadata", metadata),
                ("supportedProtocolVersions", Cbor::Array(vec![Cbor::text(version)])),
            ]),
            Role::Client => Cbor::Map(vec![
                ("type", Cbor::text("peer")),
                ("senderId", Cbor::text(&self.attacker)),
                ("peerMetadata", metadata),
                ("selectedProtocolVersion", Cbor::text(version)),
                ("targetId", Cbor::text(&self.victim)),
            ]),
        }
        .encode()
    }

    /// A frame about a document, with whatever else.
    pub fn about(&self, kind: &str, document: DocumentId, data: Vec<u8>) -> Bytes {
        Cbor::Map(vec![
            ("type", Cbor::text(kind)),
            ("senderId", Cbor::text(&self.attacker)),
            ("documentId", Cbor::text(&document.to_string())),
            ("data", Cbor::Bytes(data)),
            ("targetId", Cbor::text(&self.victim)),
        ])
        .encode()
    }

    /// A sync message about the attacked document.
    pub fn sync(&self, message: &RawSync) -> Sent {
        Sent::Binary(self.about("sync", self.document, message.encode()))
    }

    /// A request that is answered with `doc-unavailable` once everything before it was dealt with.
    pub fn barrier(&self, number: u64) -> (DocumentId, Bytes) {
        let mut id = [0xba; 16];
        id[8..].copy_from_slice(&number.to_be_bytes());
        let document = DocumentId::from_bytes(id);
        (document, self.about("request", document, b"\x42\x00\x00\x01\x00\x00\x00\x02\x02\x84".to_vec()))
    }
}
