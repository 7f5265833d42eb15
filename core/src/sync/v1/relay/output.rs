//! What a relay's session and its driver say to each other.

use bytes::Bytes;

use crate::codec::v1::{Access, Code, Limits, Presence, Token};
use crate::deletion::Tombstone;
use crate::gate::{CheckedChange, Rule};
use crate::id::{DocumentId, Epoch, PeerId, SpaceId, StorageId};

/// Who the relay is, on every connection.
#[derive(Debug, Clone, Copy)]
pub struct RelayIdentity {
    /// Names its store.
    pub storage: StorageId,
    /// Names the life of its log.
    pub epoch: Epoch,
    /// What it takes, never above what the protocol allows.
    pub limits: Limits,
    /// How many bytes a client may send before it gets more credit.
    pub credit: u64,
}

/// What the peer of one connection may do. It is asked anew for each batch and each frame, so that a right that is taken
/// away ends at once.
pub trait Grants: Send {
    /// Returns what the peer may do in a space, or `None` if it may not even know that there is one.
    fn access(&self, space: &SpaceId) -> Option<Access>;

    /// Returns what the peer may do with one document of a space: as much as in the whole space, or what it was granted for the
    /// document alone.
    fn document(&self, space: &SpaceId, document: &DocumentId) -> Option<Access> {
        let _ = document;
        self.access(space)
    }

    /// Says whether a document is put aside at this moment: nobody reads or writes it, whatever was granted. Default: no.
    fn is_held(&self, document: &DocumentId) -> bool {
        let _ = document;
        false
    }

    /// Says whether the peer may know that there is a space, because anything in it was granted. Who was granted single
    /// documents may choose them, and nothing else.
    fn knows(&self, space: &SpaceId) -> bool {
        self.access(space).is_some()
    }
}

/// The last commits of each space, encoded once for all their readers.
pub trait LiveFrames {
    /// Returns the largest `entries` message that begins exactly at `first` and ends at or below `until`, if there is one.
    fn frame(&self, space: &SpaceId, first: u64, until: u64) -> Option<LiveFrame>;

    /// Returns the largest `fill` message with the changes of a document that are in its ledger from exactly `first` on and end
    /// at or below `until`, if there is one: for those who opened it in a space of which nothing else is told.
    fn fill(&self, space: &SpaceId, document: &DocumentId, first: u64, until: u64) -> Option<LiveFrame> {
        let _ = (space, document, first, until);
        None
    }
}

/// No frames: everything is read from the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLiveFrames;

impl LiveFrames for NoLiveFrames {
    fn frame(&self, _: &SpaceId, _: u64, _: u64) -> Option<LiveFrame> {
        None
    }
}

/// An `entries` or `fill` message that many readers get.
#[derive(Debug, Clone)]
pub struct LiveFrame {
    /// The position of its last entry: in the log, or of a `fill` in the document's ledger.
    pub last: u64,
    /// The message.
    pub bytes: Bytes,
}

/// A write that a client offers, checked as far as its own bytes go.
#[derive(Debug, Clone, PartialEq)]
pub struct Offered {
    /// To which document.
    pub document: DocumentId,
    /// What it is.
    pub what: OfferedWrite,
}

impl Offered {
    /// Returns how many bytes it brings: those of the change, or of the words of a deletion.
    pub fn bytes(&self) -> usize {
        match &self.what {
            OfferedWrite::Change(change) | OfferedWrite::PassedOn(change) => change.bytes().len(),
            OfferedWrite::Deleted(tombstone) | OfferedWrite::DeletedElsewhere(tombstone) => tombstone.by.len(),
        }
    }
}

/// What a client offers.
#[derive(Debug, Clone, PartialEq)]
pub enum OfferedWrite {
    /// A change.
    Change(CheckedChange),
    /// One that its author does not say to have written: take it as another, but its actor is nobody's by that.
    PassedOn(CheckedChange),
    /// That the document is deleted everywhere.
    Deleted(Tombstone),
    /// The same of a document that is in another space than the batch says, where its author may delete too: a device that knows
    /// no more of it than the id cannot say where it is. Answer it as a duplicate: its position is another log's.
    DeletedElsewhere(Tombstone),
}

/// What the driver must do.
#[derive(Debug)]
#[non_exhaustive]
pub enum RelayOutput {
    /// Send this message before any that [`RelaySession::poll_transmit`](super::RelaySession::poll_transmit) makes later.
    Send(Bytes),
    /// A client says who it is. Decide, then call [`RelaySession::handle_admitted`](super::RelaySession::handle_admitted) or
    /// [`RelaySession::handle_refused`](super::RelaySession::handle_refused).
    Hello {
        /// Who, by its own word.
        peer: PeerId,
        /// Its store's id, if it has one.
        storage: Option<StorageId>,
        /// What proves its rights.
        token: Token,
    },
    /// The client shows another token, to go on when what it has ends. If it is good and of the same principal, call
    /// [`RelaySession::handle_renewed`](super::RelaySession::handle_renewed), else
    /// [`RelaySession::handle_renewal_refused`](super::RelaySession::handle_renewal_refused).
    Renew {
        /// What proves its rights from now on.
        token: Token,
    },
    /// Writes were refused without being offered, for want of a right or by the gate: for whoever keeps a record of that. Those
    /// that follow one another, are of one document and refused for one reason are told together.
    Refused {
        /// Of which document.
        document: DocumentId,
        /// Why.
        code: Code,
        /// Which rule of the gate they break, if it is that.
        rule: Option<Rule>,
        /// How many writes.
        count: u64,
    },
    /// Tell the session from now on of what happens in this space, and at once where its log ends. A space of which the client
    /// chooses documents is not followed.
    Follow {
        /// Which.
        space: SpaceId,
    },
    /// Tell it no more.
    Unfollow {
        /// Which.
        space: SpaceId,
    },
    /// Tell the session from now on of each commit that changes one of these documents or deletes it, with
    /// [`RelaySession::handle_document_changed`](super::RelaySession::handle_document_changed), and of presence about them in
    /// their space. What was committed before is read with the next message.
    OpenDocuments {
        /// Which.
        documents: Vec<DocumentId>,
    },
    /// Tell it no more.
    CloseDocuments {
        /// Which.
        documents: Vec<DocumentId>,
    },
    /// Make these writes durable in this order, then call
    /// [`RelaySession::handle_appended`](super::RelaySession::handle_appended) with what became of each, or
    /// [`RelaySession::handle_append_failed`](super::RelaySession::handle_append_failed).
    ///
    /// A batch that takes much memory comes in several of these, one after the other. Answer them in the order in which they
    /// came.
    Append {
        /// The client's number of the batch.
        batch: u64,
        /// In which space.
        space: SpaceId,
        /// One or more.
        writes: Vec<Offered>,
    },
    /// The client has everything up to here durably: tell the other followers with
    /// [`RelaySession::handle_seen`](super::RelaySession::handle_seen).
    Cursor {
        /// Of which space.
        space: SpaceId,
        /// Whose store it is.
        storage: StorageId,
        /// The last position.
        position: u64,
    },
    /// Ephemeral values: pass the message on as it is to the other followers, with
    /// [`RelaySession::handle_presence`](super::RelaySession::handle_presence).
    Presence {
        /// In which space.
        space: SpaceId,
        /// The whole message.
        frame: Bytes,
        /// The values in it.
        values: Vec<Presence>,
    },
    /// The client says that something is wrong; worth a line in the log.
    PeerError {
        /// What, for a program.
        code: Code,
        /// What, for a person.
        text: String,
        /// Whether the client closes the connection.
        is_fatal: bool,
    },
    /// Send what is queued, then close.
    Close {
        /// The WebSocket close code.
        code: u16,
        /// What was wrong, for the log and the close frame.
        reason: String,
    },
}
