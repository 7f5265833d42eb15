//! Objects: what they are called in memory and in keys.

use std::fmt;

use crate::gate::{Action, CheckedChange, ObjectRef, OpRef};
use crate::id::{DocumentId, OpId};
use crate::store::StoreError;
use crate::store::record::Reader;

/// Names an object of a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectId {
    /// The map that every document begins with.
    Root,
    /// The object that this operation made.
    Made(OpId),
}

impl fmt::Display for ObjectId {
    /// Writes `_root` or `counter@actor`, Automerge's own text forms.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("_root"),
            Self::Made(op) => op.fmt(f),
        }
    }
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// A map: its keys are fields.
    Map,
    /// A list.
    List,
    /// A text.
    Text,
    /// A map of an older kind.
    Table,
}

const ROOT_TAG: u8 = 0;
const MADE_TAG: u8 = 1;

impl ObjectId {
    /// Appends the object as it stands in keys: all keys of one object are neighbours.
    pub(super) fn write_key(&self, out: &mut Vec<u8>) {
        match self {
            Self::Root => out.push(ROOT_TAG),
            Self::Made(op) => {
                out.push(MADE_TAG);
                out.extend_from_slice(&op.counter.to_be_bytes());
                let actor = op.actor.to_bytes();
                // The gate bounds an actor by 64 bytes.
                out.push(u8::try_from(actor.len()).unwrap_or(u8::MAX));
                out.extend_from_slice(actor);
            }
        }
    }

    /// Returns the key of the object itself in a document.
    pub(super) fn key(&self, document: &DocumentId) -> Vec<u8> {
        let mut key = Vec::with_capacity(48);
        key.extend_from_slice(document.as_bytes());
        self.write_key(&mut key);
        key
    }

    /// Returns the key of one of its fields.
    pub(super) fn field_key(&self, document: &DocumentId, field: &str) -> Vec<u8> {
        let mut key = Vec::with_capacity(48 + field.len());
        key.extend_from_slice(document.as_bytes());
        self.write_key(&mut key);
        key.extend_from_slice(field.as_bytes());
        key
    }

    /// Returns the object that an operation of a change is about.
    pub(super) fn of(change: &CheckedChange, object: ObjectRef) -> Self {
        match object {
            ObjectRef::Root => Self::Root,
            ObjectRef::Op(op) => Self::Made(op_id(change, op)),
        }
    }
}

/// Returns the id of an operation that a change refers to.
pub(super) fn op_id(change: &CheckedChange, op: OpRef) -> OpId {
    // The gate has checked that the index is one of the change's actors.
    let index = usize::try_from(op.actor_index).unwrap_or(0);
    let actor = change.actors().get(index).unwrap_or(change.actor()).clone();
    OpId { counter: op.counter, actor }
}

impl ObjectKind {
    /// Returns what an operation makes, if it makes an object.
    pub(super) fn made_by(action: Action) -> Option<Self> {
        match action {
            Action::MakeMap => Some(Self::Map),
            Action::MakeList => Some(Self::List),
            Action::MakeText => Some(Self::Text),
            Action::MakeTable => Some(Self::Table),
            _ => None,
        }
    }

    /// Says whether its keys are fields.
    pub fn has_fields(self) -> bool {
        matches!(self, Self::Map | Self::Table)
    }

    pub(super) fn code(self) -> u8 {
        match self {
            Self::Map => 1,
            Self::List => 2,
            Self::Text => 3,
            Self::Table => 4,
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, StoreError> {
        Ok(match reader.byte()? {
            1 => Self::Map,
            2 => Self::List,
            3 => Self::Text,
            4 => Self::Table,
            _ => return Err(reader.damaged()),
        })
    }
}
