//! Sessions of our own protocol, `rejoin.v1`: one connection, many spaces.
//!
//! `docs/protocol-v1.md` says who says what when. A session holds positions and names, never a queue of changes: what a peer
//! is to get is read from the store, or taken from frames that all readers share, in the moment in which there is room and
//! credit for it.
//!
//! - [`ClientSession`]: the side that has the documents and follows a relay's logs.
//! - [`RelaySession`]: the side that keeps the logs.

mod client;
mod credit;
mod relay;

pub use client::{Applied, ClientIdentity, ClientOutput, ClientSession, Delivery, Progress};
pub use relay::{
    Grants, LiveFrame, LiveFrames, NoLiveFrames, Offered, OfferedWrite, RelayIdentity, RelayOutput, RelaySession,
};
