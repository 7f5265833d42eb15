//! The codecs: what the bytes of the wire mean, and nothing of what to do about them.
//!
//! Each chapter turns bytes of a peer into a value or into an error that names what was wrong. None keeps state, none
//! panics, and none allocates more than a small multiple of the bytes it was given. The formats are written down in
//! `docs/protocol.md` and `docs/protocol-v1.md`.
//!
//! - [`classic`]: the messages of the automerge-repo protocol, version "1", in CBOR.
//! - [`sync_message`]: the Automerge sync message that such a message carries.
//! - [`bloom`]: the Bloom filter inside a sync message.
//! - [`v1`]: the messages of our own protocol, `rejoin.v1`.

pub mod bloom;
pub mod classic;
mod leb;
pub mod sync_message;
pub mod v1;

/// Says which side has to change when bytes could not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The peer broke the protocol or one of our limits.
    Misbehaved,
    /// The peer speaks correctly, but of something that this version does not know.
    Incompatible,
}
