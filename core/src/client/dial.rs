//! Where sockets come from: the operating system, a browser, or an application's own.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Sink, Stream};

use crate::runtime::{BoxFuture, MaybeSend};

/// Makes sockets to one relay.
pub trait Dial: MaybeSend + Sync + 'static {
    /// Connects once, and asks for these subprotocols; with none of them if there are none. It may be dropped half-way.
    fn dial<'a>(&'a self, subprotocols: &'a [&'static str]) -> BoxFuture<'a, Result<Dialed, DialError>>;
}

/// A socket that was made: both its ends, which are used at the same time.
pub struct Dialed {
    /// The subprotocol that the server named, if it named one.
    pub subprotocol: Option<String>,
    /// Whether a ping can be sent and its answer be heard. Where it cannot, silence says nothing.
    pub has_pings: bool,
    /// What comes. Frames beyond [`FRAME_BYTES_MAX`](crate::limits::FRAME_BYTES_MAX) are an error.
    pub incoming: Incoming,
    /// Where frames are sent.
    pub outgoing: Outgoing,
}

impl std::fmt::Debug for Dialed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialed").field("subprotocol", &self.subprotocol).finish_non_exhaustive()
    }
}

/// What comes from a relay. It ends when the relay closes the connection; an error says in words why it broke.
#[cfg(not(target_family = "wasm"))]
pub type Incoming = Pin<Box<dyn Stream<Item = Result<Heard, String>> + Send>>;
/// What comes from a relay. It ends when the relay closes the connection; an error says in words why it broke.
#[cfg(target_family = "wasm")]
pub type Incoming = Pin<Box<dyn Stream<Item = Result<Heard, String>>>>;

/// Where frames to a relay are sent. It is ready when the relay reads.
#[cfg(not(target_family = "wasm"))]
pub type Outgoing = Pin<Box<dyn Sink<Said, Error = String> + Send>>;
/// Where frames to a relay are sent. It is ready when the relay reads.
#[cfg(target_family = "wasm")]
pub type Outgoing = Pin<Box<dyn Sink<Said, Error = String>>>;

/// What a relay sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A binary frame.
    Frame(Bytes),
    /// A text frame, which means nothing here.
    Text,
    /// A ping or its answer.
    SignOfLife,
    /// It closes the connection.
    Close {
        /// The WebSocket close code.
        code: u16,
        /// Why.
        reason: String,
    },
}

/// What is sent to a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A binary frame.
    Frame(Bytes),
    /// Asks for a sign of life. Only where there are pings.
    Ping,
    /// The last thing that is sent.
    Close {
        /// The WebSocket close code.
        code: u16,
        /// Why; what a close frame cannot hold of it is cut off.
        reason: String,
    },
}

/// Why there is no socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The server speaks none of the subprotocols.
    #[error("the server speaks another protocol")]
    NotSpoken,
    /// Anything else, in words.
    #[error("{0}")]
    Failed(String),
}
