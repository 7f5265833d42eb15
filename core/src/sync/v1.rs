//! Sessions of our own protocol, `rejoin.v1`: `docs/protocol-v1.md` tells who says what when.
//!
//! - [`ClientSession`]: the side that has the documents and follows a relay's logs.

mod client;

pub use client::{Applied, ClientIdentity, ClientOutput, ClientSession, Delivery, Progress};
