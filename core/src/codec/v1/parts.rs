//! What messages of `rejoin.v1` are made of.

use std::fmt;

use automerge::ChangeHash;
use bytes::Bytes;

use super::{Code, Reject};
use crate::deletion::Tombstone;
use crate::id::{DocumentId, Epoch, PeerId, SpaceId, StorageId};

/// A client's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The lowest version it speaks.
    pub lowest: u64,
    /// The highest version it speaks.
    pub highest: u64,
    /// Who connects, by its own word.
    pub peer: PeerId,
    /// Names its store. Without one nothing is remembered of it, and nobody learns what it has seen.
    pub storage: Option<StorageId>,
    /// Whether it takes `snapshot` messages. If not, a history comes as changes.
    pub takes_snapshots: bool,
    /// What proves its rights, or an empty text.
    pub token: Token,
    /// How many bytes the relay may send before more credit comes.
    pub credit: u64,
    /// The spaces it wants from the start.
    pub subscriptions: Vec<Subscription>,
}

/// A relay's answer to `hello`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The version that is spoken from now on.
    pub version: u64,
    /// Names the relay's store.
    pub storage: StorageId,
    /// Names the life of its log: positions of another epoch mean nothing here.
    pub epoch: Epoch,
    /// What it takes.
    pub limits: Limits,
    /// How many bytes the client may send before more credit comes.
    pub credit: u64,
    /// After how many seconds what the token permits ends, 0 if it does not.
    pub permit_seconds: u64,
}

/// What a relay takes. Never more than what this version of the protocol allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest message in bytes.
    pub frame_bytes: u64,
    /// The longest change in bytes, uncompressed.
    pub change_bytes: u64,
    /// The most writes in one `push`.
    pub batch_entries: u64,
    /// The most bytes of the presence values of one message.
    pub presence_bytes: u64,
}

/// A secret text that proves rights. It does not show itself in logs.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Token(String);

impl Token {
    /// Takes a text as a token, at most [`crate::limits::TOKEN_BYTES_MAX`] bytes long.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Token(none)" } else { "Token(..)" })
    }
}

/// What a client wants of a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// Which space.
    pub space: SpaceId,
    /// How much of it.
    pub mode: Mode,
    /// From where on.
    pub start: Start,
}

/// How much of a space a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Every change of every document.
    Everything,
    /// That a document exists, and its heads. Changes come of those that it opens.
    Listing,
    /// Nothing by itself. Changes come of the documents that it opens, whose ids it has from elsewhere.
    Chosen,
}

/// From where on a client wants a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Start {
    /// From the first entry of the log: it has nothing.
    Beginning,
    /// From behind what it has.
    Cursor {
        /// The epoch in which the position was given.
        epoch: Epoch,
        /// It has everything up to here durably.
        position: u64,
    },
    /// By comparing heads: it has documents, but not from this relay.
    Compare,
}

/// What a client may do in a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Read it.
    Read,
    /// Read it, write to it and delete in it.
    Write,
    /// Grant it to others too.
    Admin,
}

impl Access {
    /// Says whether it is more than to read.
    pub fn may_write(self) -> bool {
        self >= Self::Write
    }
}

/// A document and the heads that somebody has of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentHeads {
    /// Which document.
    pub document: DocumentId,
    /// The heads, sorted. None means that nothing is there.
    pub heads: Vec<ChangeHash>,
}

impl DocumentHeads {
    /// Returns how many bytes it takes in a message, to fill one up to a budget.
    pub fn wire_bytes(&self) -> usize {
        16 + 2 + 32 * self.heads.len()
    }
}

/// What a listing says of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which document.
    pub document: DocumentId,
    /// What is known of it.
    pub state: ListedState,
}

/// How a listed document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListedState {
    /// It is there.
    Present {
        /// Its heads, sorted, one or more.
        heads: Vec<ChangeHash>,
        /// How many changes it has.
        changes: u64,
        /// How many bytes they have together.
        bytes: u64,
    },
    /// It was deleted everywhere.
    Deleted(Tombstone),
}

impl Listed {
    /// Returns at most how many bytes it takes in a message, to fill one up to a budget.
    pub fn wire_bytes(&self) -> usize {
        match &self.state {
            ListedState::Present { heads, .. } => 16 + 1 + 2 + 32 * heads.len() + 2 * 8,
            ListedState::Deleted(tombstone) => 16 + 1 + 1 + 8 + 2 + tombstone.by.len(),
        }
    }
}

/// What became of consecutive writes of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckRun {
    /// Of how many writes, 1 or more.
    pub count: u64,
    /// What became of them.
    pub outcome: Outcome,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable, at this position. Of several, each is at the next one.
    Stored {
        /// The position of the first.
        first: u64,
    },
    /// It was durable before; where, the entries of the log tell.
    Duplicate,
    /// It is not taken. Other writes are not touched by it.
    Rejected(Reject),
}

/// An ephemeral value of an author, about a document. Never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Whose it is: the peer id of who sent it first.
    pub author: PeerId,
    /// About which document.
    pub document: DocumentId,
    /// Names one value of several that the author has about the document.
    pub key: String,
    /// Rises with each value that the author sends under any key. A receiver drops a value that is not above the last.
    pub sequence: u64,
    /// How long it is good for, in milliseconds from its arrival. 0 takes it back.
    pub ttl_ms: u64,
    /// The value. We do not look into it.
    pub data: Bytes,
}

/// An error, or a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorMessage {
    /// What is wrong, for a program.
    pub code: Code,
    /// What is wrong, for a person, cut to [`crate::limits::PEER_ERROR_BYTES_MAX`] bytes.
    pub text: String,
    /// Whether the sender closes the connection.
    pub is_fatal: bool,
    /// What it is about.
    pub about: About,
}

impl From<&super::DecodeError> for ErrorMessage {
    fn from(error: &super::DecodeError) -> Self {
        Self { code: error.code(), text: error.to_string(), is_fatal: error.is_fatal(), about: About::Connection }
    }
}

/// What an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum About {
    /// The connection.
    Connection,
    /// A space.
    Space(
        /// Which one.
        SpaceId,
    ),
    /// A document.
    Document(
        /// In which space.
        SpaceId,
        /// Which one.
        DocumentId,
    ),
    /// A push as a whole.
    Batch(
        /// Its number.
        u64,
    ),
}
