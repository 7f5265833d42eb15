//! Fields: every key of every map is a last-writer-wins register, kept in the store and never in memory.
//!
//! A register holds the operations that are visible on its key: those that nothing has overwritten or deleted. More than
//! one means that several devices wrote without knowing of each other; the greatest operation id wins, the others stay
//! readable as conflicts. Because changes arrive after everything they depend on, an operation that once was overwritten
//! never comes back, so a register needs no history.
//!
//! [`project`] brings the registers up to date with a received change; [`fn@write`] makes a change from edits. Neither loads
//! a document, and both leave the registers as Automerge would show the same changes.

mod object;
mod project;
mod read;
mod register;
mod write;

pub use object::{ObjectId, ObjectKind};
pub use project::{Touched, project};
pub use read::{entries, get, get_all, keys, resolve, to_json};
pub use register::FieldValue;
pub use write::{Author, Edit, EditAction, FieldError, Written, write};
