//! The messages of the automerge-repo protocol, version "1": one CBOR map in one binary WebSocket message.
//!
//! Reading is lenient where real peers differ (map headers of any width, keys in any order, unknown keys, `undefined`
//! for what is absent, floats for counts, tagged byte strings) and strict where a difference would lose data. Writing
//! keeps to what both the JavaScript library and samod read: definite lengths, no 64-bit integers, no `undefined`.
//!
//! The exact format, with golden bytes, is in `docs/protocol.md`.

mod cbor;
mod decode;
mod encode;
#[cfg(test)]
mod tests;

use automerge::ChangeHash;
use bytes::Bytes;

pub use encode::{FanOut, encode_doc_unavailable, encode_sync};

use super::Fault;
use crate::deletion::Tombstone;
use crate::id::{DocumentId, Epoch, ParseIdError, PeerId};
use crate::limits::CBOR_DEPTH_MAX;

/// The only version of the protocol there is.
pub const PROTOCOL_VERSION: &str = "1";

/// The additions of ours that this version speaks: see [`PeerMetadata::rejoin`].
pub const REJOIN_LEVEL: u32 = 1;

/// One message.
///
/// `sender_id` is the peer on the other end of the connection, except in [`Frame::Ephemeral`], where it is the author.
/// `target_id` is the next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame {
    /// The connecting side's first message.
    Join {
        /// Who connects.
        sender_id: PeerId,
        /// What it says of itself.
        metadata: PeerMetadata,
        /// The versions it speaks. A `join` that names none speaks "1".
        versions: Vec<String>,
    },
    /// The accepting side's answer to a join.
    Peer {
        /// Who accepts.
        sender_id: PeerId,
        /// Who connected.
        target_id: PeerId,
        /// What the accepting side says of itself.
        metadata: PeerMetadata,
        /// The version that is spoken from now on.
        selected_version: String,
    },
    /// The sender found an error and will close the connection.
    Error {
        /// Who found it; samod leaves it out.
        sender_id: Option<PeerId>,
        /// Whom it tells; samod leaves it out.
        target_id: Option<PeerId>,
        /// What was wrong, cut to [`crate::limits::PEER_ERROR_BYTES_MAX`].
        message: String,
    },
    /// The sender is about to close the connection. Nobody sends it, samod reads it.
    Leave {
        /// Who leaves.
        sender_id: PeerId,
    },
    /// A sync message from a peer that lacks the document and wants to hear if we lack it too.
    Request {
        /// Who asks.
        sender_id: PeerId,
        /// Whom it asks.
        target_id: PeerId,
        /// About which document.
        document: DocumentId,
        /// An Automerge sync message, not empty.
        data: Bytes,
    },
    /// A sync message.
    Sync {
        /// Who sends it.
        sender_id: PeerId,
        /// Who gets it.
        target_id: PeerId,
        /// About which document.
        document: DocumentId,
        /// An Automerge sync message, not empty.
        data: Bytes,
    },
    /// An application's message to everybody who has the document open. Never stored.
    Ephemeral {
        /// The author. It stays the same on every hop, and nothing proves it.
        sender_id: PeerId,
        /// The next hop.
        target_id: PeerId,
        /// About which document.
        document: DocumentId,
        /// The author's running number within its session.
        count: u64,
        /// The author's session: a text it chose when it started.
        session_id: String,
        /// A CBOR value of the application, which we do not look into. Not empty.
        data: Bytes,
    },
    /// The sender does not have the document, nor does anybody it asked.
    DocUnavailable {
        /// Who lacks it.
        sender_id: PeerId,
        /// Who asked.
        target_id: PeerId,
        /// Which document.
        document: DocumentId,
    },
    /// The sender wants to hear of other heads than before.
    RemoteSubscriptionChange {
        /// Who wants to hear.
        sender_id: PeerId,
        /// Who is to tell.
        target_id: PeerId,
        /// Storage ids to add.
        add: Vec<String>,
        /// Storage ids to remove.
        remove: Vec<String>,
    },
    /// The sender knows that a document was deleted everywhere, or has taken note of it. Between Rejoin peers only: see
    /// [`PeerMetadata::rejoin`].
    Delete {
        /// Who tells.
        sender_id: PeerId,
        /// Who is told.
        target_id: PeerId,
        /// Which document.
        document: DocumentId,
        /// How, when and by whom.
        tombstone: Tombstone,
        /// Whether this is the answer: the sender has taken durable note.
        is_ack: bool,
    },
    /// What heads other stores were seen to have.
    RemoteHeadsChanged {
        /// Who tells.
        sender_id: PeerId,
        /// Who subscribed.
        target_id: PeerId,
        /// Of which document.
        document: DocumentId,
        /// One entry a store.
        new_heads: Vec<RemoteHeads>,
    },
}

/// What a peer says of itself in the handshake.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerMetadata {
    /// Names its store, if it has one.
    pub storage_id: Option<String>,
    /// Whether its store will not be there next time, so that nothing about it needs to be kept.
    pub is_ephemeral: bool,
    /// Which additions of ours to the protocol it speaks: 0 for none, as every other implementation; 1 for
    /// [`Frame::Delete`]. A higher number includes the lower ones.
    pub rejoin: u32,
    /// Which life a relay's log has, if it has one: another one after it was restored from a backup. Only with `rejoin`.
    pub epoch: Option<Epoch>,
}

/// The heads that one store was seen to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteHeads {
    /// Which store.
    pub storage_id: String,
    /// Its heads, in the order they came.
    pub heads: Vec<ChangeHash>,
    /// When it was seen, in milliseconds since 1970 by the clock of who saw it.
    pub timestamp_ms: u64,
}

impl Frame {
    /// Reads one binary WebSocket message. `data` is a slice of it, so it keeps the message alive.
    ///
    /// Costs one pass and allocates less than the input. Of a key that comes twice, the last counts.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; ask [`DecodeError::is_fatal`] whether the connection can go on.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        decode::frame(bytes)
    }

    /// Returns the binary WebSocket message.
    ///
    /// Costs one allocation and one copy of `data`. To send the same message to many targets, use [`FanOut`].
    pub fn encode(&self) -> Bytes {
        FanOut::new(self).whole(self.target_id())
    }

    /// Returns the name of the message's type, as in its `type` field.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Join { .. } => "join",
            Self::Peer { .. } => "peer",
            Self::Error { .. } => "error",
            Self::Leave { .. } => "leave",
            Self::Request { .. } => "request",
            Self::Sync { .. } => "sync",
            Self::Ephemeral { .. } => "ephemeral",
            Self::DocUnavailable { .. } => "doc-unavailable",
            Self::RemoteSubscriptionChange { .. } => "remote-subscription-change",
            Self::RemoteHeadsChanged { .. } => "remote-heads-changed",
            Self::Delete { .. } => "rejoin-delete",
        }
    }

    /// Returns who sent it, or for an ephemeral message who wrote it.
    pub fn sender_id(&self) -> Option<&PeerId> {
        match self {
            Self::Error { sender_id, .. } => sender_id.as_ref(),
            Self::Join { sender_id, .. }
            | Self::Peer { sender_id, .. }
            | Self::Leave { sender_id }
            | Self::Request { sender_id, .. }
            | Self::Sync { sender_id, .. }
            | Self::Ephemeral { sender_id, .. }
            | Self::DocUnavailable { sender_id, .. }
            | Self::RemoteSubscriptionChange { sender_id, .. }
            | Self::Delete { sender_id, .. }
            | Self::RemoteHeadsChanged { sender_id, .. } => Some(sender_id),
        }
    }

    /// Returns whom it is for. `join` and `leave` name nobody.
    pub fn target_id(&self) -> Option<&PeerId> {
        match self {
            Self::Join { .. } | Self::Leave { .. } => None,
            Self::Error { target_id, .. } => target_id.as_ref(),
            Self::Peer { target_id, .. }
            | Self::Request { target_id, .. }
            | Self::Sync { target_id, .. }
            | Self::Ephemeral { target_id, .. }
            | Self::DocUnavailable { target_id, .. }
            | Self::RemoteSubscriptionChange { target_id, .. }
            | Self::Delete { target_id, .. }
            | Self::RemoteHeadsChanged { target_id, .. } => Some(target_id),
        }
    }

    /// Returns which document it is about, if it is about one.
    pub fn document(&self) -> Option<DocumentId> {
        match self {
            Self::Request { document, .. }
            | Self::Sync { document, .. }
            | Self::Ephemeral { document, .. }
            | Self::DocUnavailable { document, .. }
            | Self::Delete { document, .. }
            | Self::RemoteHeadsChanged { document, .. } => Some(*document),
            _ => None,
        }
    }
}

/// Why a WebSocket message is no frame that we take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not well-formed CBOR, or cut off.
    #[error("not well-formed cbor at byte {at}: {reason}")]
    Cbor {
        /// Where, in bytes from the start of the message.
        at: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// Values nested deeper than any message needs.
    #[error("cbor nested deeper than {CBOR_DEPTH_MAX} levels at byte {at}")]
    TooDeep {
        /// Where the first level too many begins.
        at: usize,
    },
    /// Something follows the message.
    #[error("{found} bytes follow the message")]
    TrailingBytes {
        /// How many.
        found: usize,
    },
    /// The message is no map.
    #[error("a message is a cbor map, this one is not")]
    NotAMap,
    /// A field that this type of message must have is absent.
    #[error("field {field} is missing")]
    MissingField {
        /// Which one.
        field: &'static str,
    },
    /// A field holds another kind of value.
    #[error("field {field} does not hold {expected}")]
    WrongFieldType {
        /// Which one.
        field: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
    /// A field is longer than its limit.
    #[error("field {field} has {found} {unit}, the limit is {limit}")]
    LimitExceeded {
        /// Which one.
        field: &'static str,
        /// How long it is.
        found: u64,
        /// The most we take.
        limit: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// `data` has no bytes.
    #[error("field data is empty")]
    EmptyData,
    /// A number that is negative, broken, or more than a JavaScript number holds exactly.
    #[error("field {field} is no whole number from 0 to 2^53")]
    NumberOutOfRange {
        /// Which one.
        field: &'static str,
    },
    /// A type of message that we do not know. Ignore the message.
    #[error("unknown message type {0:?}")]
    UnknownType(
        /// The type, cut to [`crate::limits::UNKNOWN_TYPE_BYTES_MAX`].
        String,
    ),
    /// A document id that is no 16 bytes in bs58check. Answer with [`encode_doc_unavailable`], or ignore the message.
    #[error("document id {document:?} of a {kind} message is not supported: {reason}")]
    UnsupportedDocumentId {
        /// The type of the message.
        kind: &'static str,
        /// Who sent it.
        sender_id: PeerId,
        /// The id as it came.
        document: String,
        /// What is wrong with it.
        reason: ParseIdError,
    },
    /// A head in `remote-heads-changed` that is no 32 bytes in bs58check. Ignore the message: it is a hint.
    #[error("a head is no change hash in bs58check")]
    UnsupportedHead,
}

impl DecodeError {
    /// Tells whether the connection has to be closed.
    ///
    /// A lost sync message makes two peers disagree for ever about what the other has; so a message that may have been
    /// one is fatal. What is only newer than we are, or only a hint, is not.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::UnknownType(_) | Self::UnsupportedDocumentId { .. } | Self::UnsupportedHead)
    }

    /// Says which side has to change.
    pub fn fault(&self) -> Fault {
        if self.is_fatal() { Fault::Misbehaved } else { Fault::Incompatible }
    }

    /// Returns the stable name of the error, for logs and for the peer.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Cbor { .. } | Self::TooDeep { .. } | Self::TrailingBytes { .. } => "frame-malformed",
            Self::LimitExceeded { .. } => "frame-limit",
            Self::UnknownType(_) => "frame-unknown-type",
            Self::UnsupportedDocumentId { .. } => "frame-document-id",
            Self::UnsupportedHead => "frame-head",
            _ => "frame-invalid",
        }
    }

    /// Returns the WebSocket close code for a fatal error: 1007 for bytes that are no CBOR, 1009 for what is too big,
    /// 1002 for what is no message of this protocol.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::Cbor { .. } | Self::TooDeep { .. } | Self::TrailingBytes { .. } => 1007,
            Self::LimitExceeded { .. } => 1009,
            _ => 1002,
        }
    }
}
