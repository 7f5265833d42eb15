//! The gate: the bounded check that every change from a network passes before anything else touches it.
//!
//! Whoever may write can craft a change of 61 bytes that no Automerge ever loads again, or one of 69 bytes that claims
//! 20 million operations. So the gate reads a change itself, over byte slices: it never panics, it costs O(bytes) until
//! the run totals have bounded the rows, and it allocates no more than the change's own bytes and names.
//!
//! Three steps, each knows more than the one before:
//!
//! 1. [`chunks`] splits a stream and verifies checksums.
//! 2. [`CheckedChange::parse`] checks all that a change's own bytes can tell. Its form must be the one Automerge writes:
//!    Automerge stores operations, not bytes, and a change that it builds anew with another hash cannot be loaded.
//! 3. [`admit`] checks the change against the history it wants to continue.
//!
//! [`encode`] goes the other way: from operations to the bytes that Automerge would have written.

mod change;
pub(crate) mod chunk;
pub(crate) mod columns;
mod document;
pub(crate) mod encode;
mod error;
pub(crate) mod leb;
mod op;
mod op_rules;
mod rules;
pub(crate) mod runs;
mod stored;
#[cfg(test)]
pub(crate) mod tests;

pub use change::CheckedChange;
pub use chunk::{Chunk, ChunkKind, Chunks, chunks};
pub use document::DocumentHeader;
pub use encode::{ChangeDraft, DraftObject, DraftOp, encode};
pub use error::{GateError, Rule};
pub use op::{Action, KeyRef, ObjectRef, Op, OpRef, Ops, Preds, ValueRef};
pub use rules::{Facts, admit};
pub(crate) use stored::{Shape, StoredChange};
