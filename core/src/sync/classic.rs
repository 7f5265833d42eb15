//! Sessions of the classic automerge-repo protocol, both roles: one connection, many documents.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use automerge::ChangeHash;
use bytes::Bytes;

use super::orphans::OrphanBudget;
use super::{Conversation, RecentChanges, WholeDocument, WholeDocuments};
use crate::codec::classic::{DecodeError, Frame, PeerMetadata, REJOIN_LEVEL, encode_doc_unavailable, encode_sync};
use crate::codec::sync_message::SyncMessage;
use crate::codec::v1::Access;
use crate::deletion::{DeletionKind, Tombstone};
use crate::gate::{CheckedChange, GateError};
use crate::id::{DocumentId, Epoch, PeerId, StorageId};
use crate::ledger::{self, Appended};
use crate::limits::{MISS_TENTHS, MISS_WITH_HEADS_TENTHS, SESSION_DOCUMENTS_MAX};
use crate::store::{ReadTx, StoreError};

mod deletion;
mod long;
mod orphans;
mod rights;

use deletion::{Deletions, Telling};
pub use long::Polled;
use rights::Rights;

/// The one protocol version there is.
const VERSION: &str = "1";

/// Which end of the connection a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opened the connection: says `join` first, and announces its documents.
    Client,
    /// Accepted it: answers `peer`, and speaks of a document when the other side has.
    Server,
}

/// Who we are on this connection.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Our peer id.
    pub peer: PeerId,
    /// Our store's id, if the other side may remember us by it.
    pub storage: Option<StorageId>,
    /// Which life our log has, if we are a relay with one: a client tells one that was restored of deletions again.
    pub epoch: Option<Epoch>,
}

/// What the driver must do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Output {
    /// Send this frame before any that [`ClassicSession::poll_transmit`] makes.
    Send(Bytes),
    /// The handshake is done.
    Established {
        /// Who the other side is.
        peer: PeerId,
        /// Its store's id, if it keeps one.
        storage: Option<StorageId>,
        /// Which life its log has, if it is a relay of ours.
        epoch: Option<Epoch>,
    },
    /// The other side takes part in this document from now on: tell the session when its heads change.
    Subscribe {
        /// Which.
        document: DocumentId,
    },
    /// Append these changes durably, then call [`ClassicSession::handle_appended`].
    Append {
        /// To which document.
        document: DocumentId,
        /// The changes, checked as far as their own bytes go.
        changes: Vec<CheckedChange>,
    },
    /// Append what is in this whole-document chunk, then call [`ClassicSession::handle_appended`]; with nothing if it cannot
    /// be taken apart. The chunk may be anything: only where a panic hurts nobody may it be loaded.
    ///
    /// Comes only if the session was told to take whole documents, and if the chunk names heads that are unknown here.
    Snapshot {
        /// To which document.
        document: DocumentId,
        /// The chunk.
        chunk: Bytes,
        /// The heads that the chunk says it ends with.
        heads: Vec<ChangeHash>,
    },
    /// The other side has shown that it has these heads, which are all known here.
    PeerHas {
        /// Of which document.
        document: DocumentId,
        /// The heads.
        heads: Vec<ChangeHash>,
    },
    /// The other side says that a document was deleted everywhere. Carry it out durably, then call
    /// [`ClassicSession::handle_deleted`]; or do nothing if it has no right to delete.
    Delete {
        /// Which.
        document: DocumentId,
        /// What to put in its place.
        tombstone: Tombstone,
    },
    /// The other side has taken durable note of a deletion.
    DeleteAcknowledged {
        /// Of which document.
        document: DocumentId,
        /// Of which kind.
        kind: DeletionKind,
    },
    /// The other side says that it does not have a document we asked for.
    Unavailable {
        /// Which.
        document: DocumentId,
    },
    /// An ephemeral message, for whoever has the document open. The sender is its author, not the other side.
    Ephemeral {
        /// About which document.
        document: DocumentId,
        /// Who made it, by its own word.
        sender: PeerId,
        /// The author's session.
        session_id: String,
        /// The author's count in that session.
        count: u64,
        /// An application's value in CBOR.
        data: Bytes,
    },
    /// A change from the other side was refused; worth a line in the log and nothing more.
    Refused {
        /// In which document.
        document: DocumentId,
        /// Which rule, and by how much.
        error: GateError,
    },
    /// The other side has no right to what it brought of a document, and it was dropped. Comes once for what is written to each
    /// document, and for each deletion; worth a line in the log and nothing more.
    Forbidden {
        /// Which document.
        document: DocumentId,
        /// Whether it was a deletion.
        is_deletion: bool,
    },
    /// The other side did something we do not understand, and it does no harm.
    Ignored {
        /// What.
        reason: String,
    },
    /// Send what is queued, then close.
    Close {
        /// The WebSocket close code.
        code: u16,
        /// What was wrong, for the log and the close frame.
        reason: String,
    },
}

/// WebSocket close code: the protocol was broken.
pub const CLOSE_PROTOCOL_ERROR: u16 = 1002;
/// WebSocket close code: a kind of frame that is not spoken here.
pub const CLOSE_UNSUPPORTED: u16 = 1003;
/// WebSocket close code: a bound was exceeded.
pub const CLOSE_POLICY: u16 = 1008;

/// One connection that speaks the classic protocol. See [`crate::sync`] for how to drive it.
#[derive(Debug)]
pub struct ClassicSession {
    role: Role,
    identity: Identity,
    peer: Option<PeerId>,
    peer_storage: Option<StorageId>,
    closed: bool,
    conversations: HashMap<DocumentId, Conversation>,
    /// What the orphans of all conversations take together.
    orphan_budget: OrphanBudget,
    /// What is done with whole documents in conversations that begin from now on.
    whole_documents: WholeDocuments,
    /// Documents we said `request` for instead of `sync`.
    requests: HashSet<DocumentId>,
    /// Documents with something to say, in the order they came to have it.
    dirty: VecDeque<DocumentId>,
    dirty_set: BTreeSet<DocumentId>,
    deletions: Deletions,
    rights: Rights,
    outputs: VecDeque<Output>,
    documents_max: usize,
    /// How often the peer asked for what is not there, in tenths.
    missed_tenths: u64,
}

impl ClassicSession {
    /// Begins a session. A client's first output is its `join`.
    pub fn new(role: Role, identity: Identity) -> Self {
        let mut session = Self {
            role,
            identity,
            peer: None,
            peer_storage: None,
            closed: false,
            conversations: HashMap::new(),
            orphan_budget: OrphanBudget::default(),
            whole_documents: WholeDocuments::default(),
            requests: HashSet::new(),
            dirty: VecDeque::new(),
            dirty_set: BTreeSet::new(),
            deletions: Deletions::default(),
            rights: Rights::default(),
            outputs: VecDeque::new(),
            documents_max: SESSION_DOCUMENTS_MAX,
            missed_tenths: 0,
        };
        if role == Role::Client {
            let join = Frame::Join {
                sender_id: session.identity.peer.clone(),
                metadata: session.metadata(),
                versions: vec![VERSION.to_owned()],
            };
            session.outputs.push_back(Output::Send(join.encode()));
        }
        session
    }

    /// Sets what is done with whole documents, in conversations that begin from now on. Default:
    /// [`WholeDocuments::Refused`].
    pub fn set_whole_documents(&mut self, policy: WholeDocuments) {
        self.whole_documents = policy;
    }

    /// Sets how many documents the peer may talk about, below [`SESSION_DOCUMENTS_MAX`]: that is the default.
    pub fn set_documents_max(&mut self, documents_max: usize) {
        self.documents_max = documents_max.min(SESSION_DOCUMENTS_MAX);
    }

    /// Returns how often the peer has asked, since this was last called, for a document that is not there or not for it, in tenths:
    /// [`MISS_TENTHS`] for one that it looks for, [`MISS_WITH_HEADS_TENTHS`] for one that it may have.
    pub fn take_missed_tenths(&mut self) -> u64 {
        std::mem::take(&mut self.missed_tenths)
    }

    /// Sets what is done with whole forms of one document, in a conversation that has begun. Peers remember what they were
    /// told before.
    pub fn set_whole_documents_of(&mut self, document: &DocumentId, policy: WholeDocuments) {
        if let Some(conversation) = self.conversations.get_mut(document) {
            conversation.set_whole_documents(policy);
        }
    }

    /// Returns who the other side is, once the handshake is done.
    pub fn peer(&self) -> Option<&PeerId> {
        self.peer.as_ref()
    }

    /// Says whether the session has ended; whatever is handed in then is dropped.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes in a binary frame.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read. Whatever the frame holds is never an error: it becomes an output.
    pub fn handle_frame(&mut self, frame: &Bytes, tx: &dyn ReadTx) -> Result<(), StoreError> {
        if self.closed {
            return Ok(());
        }
        let frame = match Frame::decode(frame) {
            Ok(frame) => frame,
            Err(error) => {
                self.undecodable(&error);
                return Ok(());
            }
        };
        match (&self.peer, frame) {
            (None, Frame::Join { sender_id, metadata, versions }) if self.role == Role::Server => {
                self.joined(sender_id, &metadata, &versions);
            }
            (None, Frame::Peer { sender_id, metadata, selected_version, .. }) if self.role == Role::Client => {
                self.met(sender_id, &metadata, &selected_version);
            }
            (_, Frame::Error { message, .. }) => {
                // The other side closes by itself when it means it.
                let reason = match self.role {
                    // A stranger's words are nothing for the log of a relay: they may be about anything.
                    Role::Server => format!("the peer reports an error, in {} bytes", message.len()),
                    Role::Client => format!("the peer reports an error: {message:?}"),
                };
                self.outputs.push_back(Output::Ignored { reason });
            }
            (None, _) => self.fail(CLOSE_PROTOCOL_ERROR, "the first frame must be a join".to_owned()),
            (Some(_), Frame::Join { .. } | Frame::Peer { .. }) => {
                self.fail(CLOSE_PROTOCOL_ERROR, "a second handshake on one connection".to_owned());
            }
            (Some(_), frame) => self.handle_spoken(frame, tx)?,
        }
        Ok(())
    }

    /// Takes in a text frame: the classic protocol has none.
    pub fn handle_text(&mut self) {
        self.fail(CLOSE_UNSUPPORTED, "text frames are not spoken here: send CBOR in binary frames".to_owned());
    }

    /// Begins to talk about a document: announces it if there is anything, asks for it otherwise.
    ///
    /// `shared` are heads that the peer's store is known to have from earlier. Returns whether the talk is new.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub fn open(&mut self, document: DocumentId, shared: Vec<ChangeHash>, tx: &dyn ReadTx) -> Result<bool, StoreError> {
        if self.closed || self.conversations.contains_key(&document) {
            return Ok(false);
        }
        if ledger::state(tx, &document)?.is_none_or(|state| state.count == 0) {
            self.requests.insert(document);
        }
        self.begin(document, shared);
        self.mark(document);
        Ok(true)
    }

    /// Ends the talk about a document; the other side is not told.
    pub fn forget(&mut self, document: &DocumentId) {
        self.conversations.remove(document);
        self.requests.remove(document);
        self.rights.forget(document);
    }

    /// Learns that a document's heads changed here, by whomever.
    pub fn handle_heads_changed(&mut self, document: DocumentId) {
        if self.conversations.contains_key(&document) {
            self.mark(document);
        }
    }

    /// Learns what became of an [`Output::Append`], after it was made durable.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub fn handle_appended(
        &mut self,
        document: DocumentId,
        results: Vec<(CheckedChange, Appended)>,
        tx: &dyn ReadTx,
    ) -> Result<(), StoreError> {
        if results.iter().any(|(_, appended)| *appended == Appended::Deleted) {
            if let Some(conversation) = self.conversations.get_mut(&document) {
                conversation.handle_deleted();
            }
            self.refused_as_deleted(document);
            return Ok(());
        }
        let Some(conversation) = self.conversations.get_mut(&document) else { return Ok(()) };
        for (_, appended) in &results {
            if let Appended::Rejected(error) = appended {
                self.outputs.push_back(Output::Refused { document, error: error.clone() });
            }
        }
        let released = conversation.handle_appended(results);
        if !released.is_empty() && self.hand_out(document, released, Vec::new(), tx)? {
            return Ok(());
        }
        let Some(conversation) = self.conversations.get_mut(&document) else { return Ok(()) };
        let (changes, errors) = conversation.poll_changes();
        if self.hand_out(document, changes, errors, tx)? {
            return Ok(());
        }
        self.settle(document, tx)
    }

    /// Learns that changes of an [`Output::Append`] were not taken for a reason of the driver's own: they are not asked for again on
    /// this connection. Call it before [`ClassicSession::handle_appended`] with the others.
    pub fn refuse(&mut self, document: &DocumentId, changes: &[CheckedChange]) {
        if let Some(conversation) = self.conversations.get_mut(document) {
            conversation.refuse(changes);
        }
    }

    /// Learns that a document's history is unfolded: what could not be judged or answered until then is taken up again.
    pub fn handle_unfolded(&mut self, document: DocumentId) {
        let Some(conversation) = self.conversations.get_mut(&document) else { return };
        let changes = conversation.handle_unfolded();
        if !changes.is_empty() {
            self.outputs.push_back(Output::Append { document, changes });
        }
        self.mark(document);
    }

    /// Sends an ephemeral message to the other side, if it takes part in the document and may read it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub fn send_ephemeral(
        &mut self,
        document: DocumentId,
        sender: &PeerId,
        session_id: &str,
        count: u64,
        data: &Bytes,
        tx: &dyn ReadTx,
    ) -> Result<(), StoreError> {
        let Some(target_id) = self.peer.clone() else { return Ok(()) };
        if self.closed || !self.conversations.contains_key(&document) || self.access(&document, tx)?.is_none() {
            return Ok(());
        }
        let frame = Frame::Ephemeral {
            sender_id: sender.clone(),
            target_id,
            document,
            count,
            session_id: session_id.to_owned(),
            data: data.clone(),
        };
        self.outputs.push_back(Output::Send(frame.encode()));
        Ok(())
    }

    /// Returns the next thing the driver must do.
    #[must_use = "an output that is not carried out leaves the other side waiting"]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns the next frame with changes or heads, or `None` until something happens again.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    #[must_use = "a frame that is not sent leaves the other side waiting"]
    pub fn poll_transmit(&mut self, tx: &dyn ReadTx) -> Result<Option<Bytes>, StoreError> {
        self.poll_transmit_from(&(), tx)
    }

    /// Does what [`ClassicSession::poll_transmit`] does, and takes changes from `recent` where that leads to what the store
    /// holds.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    #[must_use = "a frame that is not sent leaves the other side waiting"]
    pub fn poll_transmit_from(
        &mut self,
        recent: &dyn RecentChanges,
        tx: &dyn ReadTx,
    ) -> Result<Option<Bytes>, StoreError> {
        Ok(match self.poll(recent, tx, false)? {
            Polled::Frame(frame) => Some(frame),
            Polled::Nothing | Polled::Long => None,
        })
    }

    /// As [`ClassicSession::poll_transmit_from`]; `defers_long` leaves a frame that takes long to make.
    fn poll(&mut self, recent: &dyn RecentChanges, tx: &dyn ReadTx, defers_long: bool) -> Result<Polled, StoreError> {
        if self.peer.is_none() {
            return Ok(Polled::Nothing);
        }
        while let Some(document) = self.dirty.pop_front() {
            self.dirty_set.remove(&document);
            if self.access(&document, tx)?.is_none() {
                // Nothing more is said of it; who asks for it again is answered.
                self.forget(&document);
                self.deletions.telling.remove(&document);
                continue;
            }
            let Some(peer) = &self.peer else { return Ok(Polled::Nothing) };
            if self.deletions.telling.remove(&document) {
                match self.deletions.tell(&self.identity.peer, peer, document, tx)? {
                    Telling::Nothing => {}
                    Telling::Told => continue,
                    Telling::Frame(frame) => return Ok(Polled::Frame(frame)),
                }
            }
            let Some(conversation) = self.conversations.get_mut(&document) else { continue };
            if let Some(frame) = conversation.poll_recent(recent, tx, &self.identity.peer, peer)? {
                return Ok(Polled::Frame(frame));
            }
            if defers_long && conversation.is_long(tx)? {
                if self.dirty_set.insert(document) {
                    self.dirty.push_front(document);
                }
                return Ok(Polled::Long);
            }
            let outgoing = match conversation.poll_message(tx) {
                Ok(outgoing) => outgoing,
                // Whoever unfolds the history marks the document again.
                Err(StoreError::Folded) => None,
                Err(error) => return Err(error),
            };
            if conversation.is_absent() {
                match self.deletions.tell(&self.identity.peer, peer, document, tx)? {
                    Telling::Nothing => {}
                    Telling::Told => continue,
                    Telling::Frame(frame) => return Ok(Polled::Frame(frame)),
                }
            }
            let Some(outgoing) = outgoing else { continue };
            let data = outgoing.message.encode();
            // To ask is to send an empty sync message under another name.
            let frame = if outgoing.message.heads.is_empty() && self.requests.contains(&document) {
                Frame::Request {
                    sender_id: self.identity.peer.clone(),
                    target_id: peer.clone(),
                    document,
                    data: data.into(),
                }
                .encode()
            } else {
                self.requests.remove(&document);
                encode_sync(&self.identity.peer, peer, &document.to_string(), &data)
            };
            if outgoing.more && self.dirty_set.insert(document) {
                // Behind the others: a long document does not hold up short ones.
                self.dirty.push_back(document);
            }
            return Ok(Polled::Frame(frame));
        }
        Ok(Polled::Nothing)
    }

    fn metadata(&self) -> PeerMetadata {
        let storage_id = self.identity.storage.map(|id| id.to_string());
        PeerMetadata { storage_id, is_ephemeral: false, rejoin: REJOIN_LEVEL, epoch: self.identity.epoch }
    }

    fn begin(&mut self, document: DocumentId, shared: Vec<ChangeHash>) {
        let mut conversation = Conversation::within(document, shared, self.orphan_budget.clone());
        conversation.set_whole_documents(self.whole_documents);
        self.conversations.insert(document, conversation);
    }

    fn mark(&mut self, document: DocumentId) {
        if self.dirty_set.insert(document) {
            self.dirty.push_back(document);
        }
    }

    fn undecodable(&mut self, error: &DecodeError) {
        if error.is_fatal() {
            self.fail(error.close_code(), format!("failed to decode a frame: {error}"));
        } else {
            self.answer_unsupported(error);
            let reason = match self.role {
                // As with the words of an error.
                Role::Server => "a message of an unknown type".to_owned(),
                Role::Client => error.to_string(),
            };
            self.outputs.push_back(Output::Ignored { reason });
        }
    }

    /// Tells a peer that asks for a document whose id is not 16 bytes that there is none.
    fn answer_unsupported(&mut self, error: &DecodeError) {
        let (Some(peer), DecodeError::UnsupportedDocumentId { kind, document, .. }) = (&self.peer, error) else {
            return;
        };
        if matches!(*kind, "sync" | "request") {
            let frame = encode_doc_unavailable(&self.identity.peer, peer, document);
            self.outputs.push_back(Output::Send(frame));
        }
    }

    /// Tells the other side what is wrong, and ends the session.
    fn fail(&mut self, code: u16, reason: String) {
        if self.closed {
            return;
        }
        let error = Frame::Error {
            sender_id: Some(self.identity.peer.clone()),
            target_id: self.peer.clone(),
            message: reason.clone(),
        };
        self.outputs.push_back(Output::Send(error.encode()));
        self.outputs.push_back(Output::Close { code, reason });
        self.closed = true;
        self.conversations.clear();
        self.dirty.clear();
        self.dirty_set.clear();
        self.deletions.clear();
    }

    fn joined(&mut self, sender: PeerId, metadata: &PeerMetadata, versions: &[String]) {
        if !versions.iter().any(|version| version == VERSION) {
            self.peer = Some(sender);
            self.fail(CLOSE_PROTOCOL_ERROR, "unsupported protocol version: this relay speaks version 1".to_owned());
            return;
        }
        let answer = Frame::Peer {
            sender_id: self.identity.peer.clone(),
            target_id: sender.clone(),
            metadata: self.metadata(),
            selected_version: VERSION.to_owned(),
        };
        self.outputs.push_back(Output::Send(answer.encode()));
        self.establish(sender, metadata);
    }

    fn met(&mut self, sender: PeerId, metadata: &PeerMetadata, version: &str) {
        if version != VERSION {
            self.fail(CLOSE_PROTOCOL_ERROR, format!("the relay chose protocol version {version:?}, not 1"));
            return;
        }
        self.establish(sender, metadata);
    }

    fn establish(&mut self, peer: PeerId, metadata: &PeerMetadata) {
        let storage = metadata.storage_id.as_deref().and_then(|text| text.parse().ok());
        let storage = storage.filter(|_| !metadata.is_ephemeral);
        self.peer_storage = storage;
        self.note_level(metadata.rejoin);
        self.peer = Some(peer.clone());
        let epoch = metadata.epoch;
        self.outputs.push_back(Output::Established { peer, storage, epoch });
    }

    fn handle_spoken(&mut self, frame: Frame, tx: &dyn ReadTx) -> Result<(), StoreError> {
        match frame {
            Frame::Request { target_id, document, data, .. } => self.handle_sync(&target_id, document, &data, true, tx),
            Frame::Sync { target_id, document, data, .. } => self.handle_sync(&target_id, document, &data, false, tx),
            Frame::Ephemeral { target_id, sender_id, document, count, session_id, data } => {
                let is_heard = self.is_for_us(&target_id) && sender_id != self.identity.peer;
                if is_heard && self.access(&document, tx)?.is_some() {
                    let sender = sender_id;
                    self.outputs.push_back(Output::Ephemeral { document, sender, session_id, count, data });
                }
                Ok(())
            }
            Frame::DocUnavailable { target_id, document, .. } => {
                if self.is_for_us(&target_id)
                    && let Some(conversation) = self.conversations.get_mut(&document)
                {
                    conversation.handle_unavailable();
                    // There may be something here by now.
                    self.mark(document);
                    self.outputs.push_back(Output::Unavailable { document });
                }
                Ok(())
            }
            Frame::Leave { .. } => {
                self.closed = true;
                self.outputs.push_back(Output::Close { code: 1000, reason: "the peer left".to_owned() });
                Ok(())
            }
            Frame::Delete { target_id, document, tombstone, is_ack, .. } => {
                self.hear_deletion(&target_id, document, tombstone, is_ack, tx)
            }
            // Gossip about other stores' heads is not spoken here; a peer that offers it does without.
            _ => Ok(()),
        }
    }

    fn is_for_us(&mut self, target: &PeerId) -> bool {
        if *target == self.identity.peer {
            return true;
        }
        self.outputs.push_back(Output::Ignored { reason: "a frame for another peer".to_owned() });
        false
    }

    fn handle_sync(
        &mut self,
        target: &PeerId,
        document: DocumentId,
        data: &Bytes,
        is_request: bool,
        tx: &dyn ReadTx,
    ) -> Result<(), StoreError> {
        if *target != self.identity.peer {
            // To drop a sync message silently would leave both sides wrong about each other for ever.
            self.fail(CLOSE_PROTOCOL_ERROR, "a sync message for another peer".to_owned());
            return Ok(());
        }
        let mut message = match SyncMessage::decode(data) {
            Ok(message) => message,
            Err(error) => {
                self.fail(CLOSE_PROTOCOL_ERROR, format!("failed to decode a sync message: {error}"));
                return Ok(());
            }
        };
        if self.access(&document, tx)?.is_none() {
            self.deny(document, is_request);
            return Ok(());
        }
        if !self.conversations.contains_key(&document) {
            if self.role == Role::Client && ledger::state(tx, &document)?.is_none() {
                return self.handle_unsolicited(document, is_request, tx);
            }
            if self.conversations.len() >= self.documents_max {
                self.fail(CLOSE_POLICY, format!("more than {} documents on one connection", self.documents_max));
                return Ok(());
            }
            if ledger::state(tx, &document)?.is_none() {
                self.missed_tenths += MISS_WITH_HEADS_TENTHS;
            }
            self.begin(document, Vec::new());
            self.outputs.push_back(Output::Subscribe { document });
        }
        let Some(conversation) = self.conversations.get_mut(&document) else { return Ok(()) };
        // A client's readers are few, and its store may be folded.
        if self.role == Role::Server
            && !is_request
            && let Some(heads) = conversation.handle_answer(&mut message)
        {
            self.outputs.push_back(Output::PeerHas { document, heads });
            return Ok(());
        }
        let (changes, errors) = conversation.handle_message(message);
        if self.hand_out(document, changes, errors, tx)? {
            return Ok(());
        }
        if is_request && ledger::state(tx, &document)?.is_none_or(|state| state.count == 0) {
            if !self.answers_deleted(document, tx)? {
                self.say_unavailable(document);
            }
            return Ok(());
        }
        self.settle(document, tx)
    }

    /// Hands out what came out of a message. Says whether there is something to wait for before it is answered.
    fn hand_out(
        &mut self,
        document: DocumentId,
        changes: Vec<CheckedChange>,
        errors: Vec<GateError>,
        tx: &dyn ReadTx,
    ) -> Result<bool, StoreError> {
        self.outputs.extend(errors.into_iter().map(|error| Output::Refused { document, error }));
        let Some(conversation) = self.conversations.get_mut(&document) else { return Ok(false) };
        let whole = conversation.take_document(tx)?;
        if (whole.is_some() || !changes.is_empty()) && !self.access(&document, tx)?.is_some_and(Access::may_write) {
            self.drop_changes(document);
            return Ok(false);
        }
        let is_taking_in = self.conversations.get(&document).is_some_and(Conversation::is_taking_in);
        let waits = whole.is_some() || !changes.is_empty() || is_taking_in;
        if let Some(WholeDocument { chunk, heads }) = whole {
            self.outputs.push_back(Output::Snapshot { document, chunk, heads });
        }
        if !changes.is_empty() {
            self.outputs.push_back(Output::Append { document, changes });
        }
        Ok(waits)
    }

    /// The conversation stays: whoever asked is told when the document arrives.
    fn say_unavailable(&mut self, document: DocumentId) {
        let Some(target_id) = self.peer.clone() else { return };
        self.missed_tenths += MISS_TENTHS;
        let frame = Frame::DocUnavailable { sender_id: self.identity.peer.clone(), target_id, document };
        self.outputs.push_back(Output::Send(frame.encode()));
    }

    /// After a message was taken in whole: note what the peer has, and answer.
    fn settle(&mut self, document: DocumentId, tx: &dyn ReadTx) -> Result<(), StoreError> {
        if let Some(conversation) = self.conversations.get(&document)
            && conversation.knows_their_heads(tx)?
        {
            let heads = conversation.their_heads().unwrap_or_default().to_vec();
            self.outputs.push_back(Output::PeerHas { document, heads });
        }
        self.mark(document);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
