//! Codecs: bytes of the wire to values and back. They parse what peers send, so they are bounded and never panic.

pub mod bloom;
pub mod classic;
pub mod sync_message;
