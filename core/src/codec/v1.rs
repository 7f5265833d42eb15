//! The messages of our own protocol, `rejoin.v1`: one message in one binary WebSocket message.
//!
//! A message is one byte of kind and then its fields, without names or padding. What is read is bounded before anything is
//! allocated, and changes stay slices of the message they came in. The exact format, the rules of who says what when, and
//! golden bytes are in `docs/protocol-v1.md`.
//!
//! - [`ClientMessage`] and [`RelayMessage`]: what either side says.
//! - [`EntriesBuilder`] and [`WritesBuilder`] write batches of changes up to a budget, without a list of them first.
//! - [`Code`] and [`Reject`]: what is said of what goes wrong.

mod batch;
mod client;
mod error;
mod parts;
mod relay;
mod shared;
#[cfg(test)]
mod tests;
mod wire;

use bytes::Bytes;

pub use batch::{Content, EntriesBuilder, Entry, Write, WritesBuilder};
pub use error::{Code, DecodeError, Reject};
pub use parts::{
    About, Access, AckRun, DocumentHeads, ErrorMessage, Hello, Limits, Listed, ListedState, Mode, Outcome, Presence,
    Start, Subscription, Token, Welcome,
};

use crate::id::{DocumentId, SpaceId, StorageId};

/// The WebSocket subprotocol by which a connection asks for these messages.
pub const SUBPROTOCOL: &str = "rejoin.v1";

/// The version that is spoken here, the only one there is.
pub const VERSION: u64 = 1;

/// The first byte of each message. A number is never used for another message.
pub(crate) mod kind {
    /// From here on a message that is not known is ignored as a whole.
    pub(crate) const IGNORABLE: u8 = 0x80;

    pub(crate) const HELLO: u8 = 0x01;
    pub(crate) const WELCOME: u8 = 0x02;
    pub(crate) const ERROR: u8 = 0x03;
    pub(crate) const CREDIT: u8 = 0x04;
    pub(crate) const SUBSCRIBE: u8 = 0x05;
    pub(crate) const SUBSCRIBED: u8 = 0x06;
    pub(crate) const UNSUBSCRIBE: u8 = 0x07;
    pub(crate) const PUSH: u8 = 0x08;
    pub(crate) const ACK: u8 = 0x09;
    pub(crate) const ENTRIES: u8 = 0x0a;
    pub(crate) const CAUGHT_UP: u8 = 0x0b;
    pub(crate) const CURSOR: u8 = 0x0c;
    pub(crate) const COMPARE: u8 = 0x0d;
    pub(crate) const LACKING: u8 = 0x0e;
    pub(crate) const FILL: u8 = 0x0f;
    pub(crate) const SNAPSHOT: u8 = 0x10;
    pub(crate) const OPEN: u8 = 0x11;
    pub(crate) const OPENED: u8 = 0x12;
    pub(crate) const CLOSE: u8 = 0x13;
    pub(crate) const LISTING: u8 = 0x14;
    pub(crate) const RENEW: u8 = 0x15;
    pub(crate) const RENEWED: u8 = 0x16;

    pub(crate) const PRESENCE: u8 = 0x80;
    pub(crate) const SEEN: u8 = 0x81;
    pub(crate) const HINT: u8 = 0x82;
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientMessage {
    /// Who it is, what it speaks and what it wants. The first message.
    Hello(Hello),
    /// It wants more spaces, or a space differently.
    Subscribe {
        /// Which ones, one or more.
        subscriptions: Vec<Subscription>,
    },
    /// It wants nothing more of these spaces.
    Unsubscribe {
        /// Which ones.
        spaces: Vec<SpaceId>,
    },
    /// Changes and deletions, to be made durable in this order.
    Push {
        /// The client's number for it on this connection: 1, then always the next.
        batch: u64,
        /// In which space.
        space: SpaceId,
        /// One or more.
        writes: Vec<Write>,
    },
    /// The client has everything up to here durably.
    Cursor {
        /// Of which space.
        space: SpaceId,
        /// The last position.
        position: u64,
    },
    /// What the client has, so that both sides can fill in what the other lacks.
    Compare {
        /// Of which space.
        space: SpaceId,
        /// The documents it has. May be none in the last message.
        documents: Vec<DocumentHeads>,
        /// Whether this was all.
        is_last: bool,
    },
    /// The client wants changes of these documents in a space of which it gets a listing.
    Open {
        /// In which space.
        space: SpaceId,
        /// Which documents, and what it has of them.
        documents: Vec<DocumentHeads>,
    },
    /// It wants no more changes of these documents.
    Close {
        /// In which space.
        space: SpaceId,
        /// Which documents.
        documents: Vec<DocumentId>,
    },
    /// The relay may send so many bytes more.
    Credit {
        /// How many.
        bytes: u64,
    },
    /// Ephemeral values of this client.
    Presence {
        /// In which space.
        space: SpaceId,
        /// The values, one or more.
        values: Vec<Presence>,
    },
    /// A new token in the place of that of `hello`, before what it permits ends.
    Renew {
        /// What proves its rights from now on.
        token: Token,
    },
    /// Something is wrong.
    Error(ErrorMessage),
}

/// What a relay says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayMessage {
    /// The answer to `hello`. The first message.
    Welcome(Welcome),
    /// What will come of a space, the answer to each subscription.
    Subscribed {
        /// Which space.
        space: SpaceId,
        /// What the client may do in it.
        access: Access,
        /// Whether the client is to compare first: it asked to, or its cursor is of another epoch or its entries are gone.
        is_compared: bool,
        /// Entries begin behind this position.
        after: u64,
        /// The last position of the log at this moment.
        end: u64,
        /// How many documents have something to come until then, by estimate.
        documents: u64,
        /// How many bytes will come until then, by estimate.
        bytes: u64,
    },
    /// A stretch of the log.
    Entries {
        /// Of which space.
        space: SpaceId,
        /// The position of the first entry, 1 or more.
        first: u64,
        /// One or more.
        entries: Vec<Entry>,
    },
    /// Everything up to here was sent; what follows happens now.
    CaughtUp {
        /// Of which space.
        space: SpaceId,
        /// The last position, 0 if the log is empty.
        position: u64,
    },
    /// What became of a push, sent when it is durable.
    Ack {
        /// The client's number of the push.
        batch: u64,
        /// What became of its writes, in their order.
        results: Vec<AckRun>,
    },
    /// Writes that the client lacks, outside of the log's order: part of the answer to `compare` or `open`.
    Fill {
        /// In which space.
        space: SpaceId,
        /// One or more, each after those it stands on.
        writes: Vec<Write>,
    },
    /// A document's history up to a position, as one chunk.
    Snapshot {
        /// In which space.
        space: SpaceId,
        /// Which document.
        document: DocumentId,
        /// What the document's entries up to this position say is in it.
        position: u64,
        /// The heads of what it holds, one or more, sorted.
        heads: Vec<automerge::ChangeHash>,
        /// An Automerge document chunk. Nothing has looked into it.
        chunk: Bytes,
    },
    /// What the client has and the relay lacks: the rest of the answer to `compare`.
    Lacking {
        /// Of which space.
        space: SpaceId,
        /// The documents and the heads that the relay has of them, none if it has nothing.
        documents: Vec<DocumentHeads>,
        /// Whether all was compared.
        is_last: bool,
    },
    /// The client has these documents, and gets their changes from now on: the rest of the answer to `open`.
    Opened {
        /// In which space.
        space: SpaceId,
        /// Up to where the log is in what was sent of them.
        position: u64,
        /// The documents and the heads that the relay has of them, none if it has nothing.
        documents: Vec<DocumentHeads>,
    },
    /// Documents of a space, or those of them that changed.
    Listing {
        /// Of which space.
        space: SpaceId,
        /// Up to where the log is in it.
        position: u64,
        /// The documents, one or more.
        documents: Vec<Listed>,
    },
    /// The client may send so many bytes more.
    Credit {
        /// How many.
        bytes: u64,
    },
    /// Ephemeral values of others.
    Presence {
        /// In which space.
        space: SpaceId,
        /// The values, one or more.
        values: Vec<Presence>,
    },
    /// Another device has everything up to here durably.
    Seen {
        /// Of which space.
        space: SpaceId,
        /// Whose store it is.
        storage: StorageId,
        /// The last position.
        position: u64,
    },
    /// There is more than the client has granted credit for.
    Hint {
        /// Of which space.
        space: SpaceId,
        /// The last position of the log.
        end: u64,
    },
    /// The answer to `renew`: the new token is in the place of the old one.
    Renewed {
        /// After how many seconds what it permits ends, 0 if it does not.
        seconds: u64,
    },
    /// Something is wrong.
    Error(ErrorMessage),
}

impl ClientMessage {
    /// Reads one binary WebSocket message. Changes and presence values are slices of it, so they keep it alive.
    ///
    /// Costs one pass; allocates at most 6 times the input and 2 MiB.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; ask [`DecodeError::is_fatal`] whether the connection can go on.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        client::decode(bytes)
    }

    /// Returns the binary WebSocket message.
    ///
    /// Limits are the caller's to keep: the receiver refuses what is above them. To write a push up to a budget, use
    /// [`WritesBuilder`].
    pub fn encode(&self) -> Bytes {
        client::encode(self)
    }

    /// Tells whether the message's bytes are taken off the credit that the relay gave.
    pub fn costs_credit(&self) -> bool {
        matches!(self, Self::Push { .. } | Self::Compare { .. })
    }

    /// Returns the name of the message's kind, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Subscribe { .. } => "subscribe",
            Self::Unsubscribe { .. } => "unsubscribe",
            Self::Push { .. } => "push",
            Self::Cursor { .. } => "cursor",
            Self::Compare { .. } => "compare",
            Self::Open { .. } => "open",
            Self::Close { .. } => "close",
            Self::Credit { .. } => "credit",
            Self::Presence { .. } => "presence",
            Self::Renew { .. } => "renew",
            Self::Error(_) => "error",
        }
    }
}

impl RelayMessage {
    /// Reads one binary WebSocket message. Changes, chunks and presence values are slices of it, so they keep it alive.
    ///
    /// Costs one pass; allocates at most 6 times the input and 2 MiB.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; ask [`DecodeError::is_fatal`] whether the connection can go on.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        relay::decode(bytes)
    }

    /// Returns the binary WebSocket message. It holds nothing about who gets it, so the same bytes may go to many.
    ///
    /// Limits are the caller's to keep: the receiver refuses what is above them. To write entries or a fill up to a
    /// budget, use [`EntriesBuilder`] or [`WritesBuilder`].
    pub fn encode(&self) -> Bytes {
        relay::encode(self)
    }

    /// Tells whether the message's bytes are taken off the credit that the client gave.
    pub fn costs_credit(&self) -> bool {
        matches!(
            self,
            Self::Entries { .. }
                | Self::Fill { .. }
                | Self::Snapshot { .. }
                | Self::Lacking { .. }
                | Self::Opened { .. }
                | Self::Listing { .. }
        )
    }

    /// Returns the name of the message's kind, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Welcome(_) => "welcome",
            Self::Subscribed { .. } => "subscribed",
            Self::Entries { .. } => "entries",
            Self::CaughtUp { .. } => "caught-up",
            Self::Ack { .. } => "ack",
            Self::Fill { .. } => "fill",
            Self::Snapshot { .. } => "snapshot",
            Self::Lacking { .. } => "lacking",
            Self::Opened { .. } => "opened",
            Self::Listing { .. } => "listing",
            Self::Credit { .. } => "credit",
            Self::Presence { .. } => "presence",
            Self::Seen { .. } => "seen",
            Self::Hint { .. } => "hint",
            Self::Renewed { .. } => "renewed",
            Self::Error(_) => "error",
        }
    }
}

/// Cuts a text to at most so many bytes, between two characters.
fn cut(text: &mut String, bytes_max: usize) {
    text.truncate(text.floor_char_boundary(bytes_max));
}
