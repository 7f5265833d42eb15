//! Fields: the keys of a document's maps, kept as registers in the store and never needing the document in memory.
//!
//! A register holds the *visible* operations of one key: those that set it and that no other operation has overwritten
//! or deleted yet. After concurrent writes there are several; the one with the greatest operation id wins and the
//! others stay readable as conflicts. That is all Automerge knows of the key too, so registers and document agree
//! always (a differential test holds that), and:
//!
//! - reading a field is one look-up ([`get`], [`get_all`]);
//! - writing one makes the Automerge change from the register and the ledger alone ([`write()`]);
//! - receiving a change applies its operations to the registers they name ([`Projector::append`], [`project()`]).
//!
//! Lists and texts are not here: their elements need the document. What is here is which objects there are, so that
//! their maps are found too.
//!
//! All functions work inside the caller's transaction.
//!
//! ```
//! use rejoin::fields::{self, Author, Edit, FieldValue, ObjectId};
//! use rejoin::store::{MemoryStore, StoreExt};
//! use rejoin::{ActorId, DocumentId, ledger};
//!
//! let document = DocumentId::from_bytes([7; 16]);
//! let actor = ActorId::from(&[1; 16]);
//! let author = Author { actor: &actor, time_seconds: 0, message: None };
//! let title = MemoryStore::new().write_with(|tx| {
//!     ledger::create(tx, &document)?;
//!     let written = fields::write(tx, &document, &author, &[Edit::set("title", "Buy milk")])?;
//!     assert!(written.is_ok_and(|change| change.is_some()));
//!     fields::get(tx, &document, &ObjectId::Root, "title")
//! })?;
//! assert_eq!(title, Some(FieldValue::Scalar("Buy milk".into())));
//! # Ok::<(), rejoin::store::StoreError>(())
//! ```

use std::fmt;

use automerge::ScalarValue;

use crate::id::OpId;

mod json;
mod project;
mod read;
mod record;
mod registers;
mod restore;
#[cfg(test)]
mod tests;
mod values;
mod write;

pub use json::to_json;
pub use project::{Projector, project};
pub use read::{entries, get, get_all, keys, object_kind, resolve};
pub use restore::{ShownField, restore};
pub use write::{Author, Edit, EditAction, FieldError, Target, Written, write};

/// Names an object of a document: the root map, or what an operation made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ObjectId {
    /// The document's root map.
    #[default]
    Root,
    /// What this operation made.
    Made(OpId),
}

impl fmt::Display for ObjectId {
    /// Writes `_root` or `counter@actor`, Automerge's own text forms.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("_root"),
            Self::Made(id) => id.fmt(f),
        }
    }
}

/// What kind of object an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// A map of fields.
    Map,
    /// A map that old documents call a table: rows by id. It can be read, but not written any more.
    Table,
    /// A list, whose elements are in the document.
    List,
    /// A text, whose characters are in the document.
    Text,
}

impl ObjectKind {
    /// Whether its keys are fields that can be read.
    pub const fn is_map(self) -> bool {
        matches!(self, Self::Map | Self::Table)
    }
}

/// What stands in a field.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    /// A scalar; a counter with all its increments.
    Scalar(ScalarValue),
    /// An object, to be read by its id.
    Object(ObjectKind, ObjectId),
}

impl FieldValue {
    /// Returns the text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Scalar(ScalarValue::Str(text)) => Some(text.as_str()),
            _ => None,
        }
    }

    /// Returns the integer, if it is one or a counter.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Scalar(ScalarValue::Int(value)) => Some(*value),
            Self::Scalar(ScalarValue::Uint(value)) => i64::try_from(*value).ok(),
            Self::Scalar(ScalarValue::Counter(counter)) => Some(i64::from(counter)),
            _ => None,
        }
    }

    /// Returns the truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Scalar(ScalarValue::Boolean(value)) => Some(*value),
            _ => None,
        }
    }
}

/// Names a field of a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldRef {
    /// The map.
    pub object: ObjectId,
    /// The key.
    pub key: String,
}

/// What one or more changes changed, for those who watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// The fields whose values changed, at most [`crate::limits::TOUCHED_FIELDS_MAX`]. Each stands here once, but after a
    /// very large batch some may stand here again.
    pub fields: Vec<FieldRef>,
    /// Whether more fields changed than are named.
    pub more: bool,
    /// Whether an element of a list or text changed: those are not named.
    pub elements: bool,
}
