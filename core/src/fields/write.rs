//! Writing fields: the Automerge change is made from the registers and the ledger alone.
//!
//! First everything is planned on working copies, so that a write that fails leaves the transaction as it was. Then the
//! change, its place in the ledger, the registers and the outbox are put into the store.

use automerge::{ActorId, ScalarValue};

use super::record::Content;
use super::registers::{Effect, Register, Registers};
use super::{ObjectId, ObjectKind, Touched};
use crate::gate::{Action, ChangeDraft, CheckedChange, DraftObject, DraftOp, GateError, encode};
use crate::id::{DocumentId, OpId};
use crate::ledger::{Appended, Appender, outbox};
use crate::limits::{JSON_DEPTH_MAX, KEY_BYTES_MAX};
use crate::store::{ReadTx, StoreError, WriteTx};
use crate::value::Value;

/// Who writes, and what the change says about it.
#[derive(Debug, Clone, Copy)]
pub struct Author<'a> {
    /// The actor: no other process may write with it, or changes are lost.
    pub actor: &'a ActorId,
    /// When it is written, in seconds since the Unix epoch.
    pub time_seconds: i64,
    /// Why; an empty text is none.
    pub message: Option<&'a str>,
}

/// The map that an edit is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// By its id.
    Object(ObjectId),
    /// By the keys that lead to it from the root, through whichever maps win; empty for the root itself.
    Path(Vec<String>),
}

impl Default for Target {
    fn default() -> Self {
        Self::Object(ObjectId::Root)
    }
}

impl From<ObjectId> for Target {
    fn from(object: ObjectId) -> Self {
        Self::Object(object)
    }
}

impl From<&[&str]> for Target {
    fn from(path: &[&str]) -> Self {
        Self::Path(path.iter().map(|&key| key.to_owned()).collect())
    }
}

/// One edit of one field.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// The map.
    pub object: Target,
    /// The key.
    pub key: String,
    /// What to do.
    pub action: EditAction,
}

impl Edit {
    /// Makes an edit.
    pub fn new(object: impl Into<Target>, key: impl Into<String>, action: EditAction) -> Self {
        Self { object: object.into(), key: key.into(), action }
    }

    /// Makes an edit that sets a field of the root map.
    pub fn set(key: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(ObjectId::Root, key, EditAction::Set(value.into()))
    }

    /// Makes an edit that deletes a field of the root map.
    pub fn delete(key: impl Into<String>) -> Self {
        Self::new(ObjectId::Root, key, EditAction::Delete)
    }

    /// Makes an edit that adds to a counter in the root map.
    pub fn increment(key: impl Into<String>, by: i64) -> Self {
        Self::new(ObjectId::Root, key, EditAction::Increment(by))
    }
}

/// What to do with a field.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum EditAction {
    /// Sets it. A scalar that is there already changes nothing; where it only won over others, they are removed.
    Set(Value),
    /// Deletes it; nothing happens if it holds nothing.
    Delete,
    /// Adds to the counters among its values, and hides its other values.
    Increment(i64),
    /// Makes an empty list, to be filled through the document.
    MakeList,
    /// Makes an empty text, to be filled through the document.
    MakeText,
}

/// A write that was made.
#[derive(Debug, Clone)]
pub struct Written {
    /// The change.
    pub change: CheckedChange,
    /// Its position in the ledger.
    pub position: u64,
    /// Whether it waits for a relay: not if it stands on a rejected change.
    pub waits: bool,
    /// What it changed.
    pub touched: Touched,
    /// For every edit that made an object: the edit's index and the object.
    pub made: Vec<(usize, ObjectId)>,
}

/// Why a write was not made, or a read has no answer. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// There is no such document here.
    #[error("there is no document {document} in this store: create it, or wait until it has arrived")]
    NoDocument {
        /// Which.
        document: DocumentId,
    },
    /// The document has no such object.
    #[error("the document has no object {object}: take ids from reads of the same document")]
    NoObject {
        /// Which.
        object: ObjectId,
    },
    /// A key on the way holds nothing.
    #[error("the field {key:?} of {object} holds nothing, so no path leads through it: set it to a map first")]
    NoPath {
        /// The map where the path ends.
        object: ObjectId,
        /// The key that holds nothing.
        key: String,
    },
    /// A key on the way holds something else than a map.
    #[error("the field {key:?} of {object} holds no map, so no path leads through it: set it to a map first")]
    NoMapOnPath {
        /// The map that has the field.
        object: ObjectId,
        /// Its key.
        key: String,
    },
    /// The object is a list or text, or one of the tables of old documents, which Automerge shows but no longer opens.
    #[error("the object {object} is no map and has no fields to write: edit lists and texts through the document")]
    NotAMap {
        /// Which.
        object: ObjectId,
    },
    /// The key is above its bound.
    #[error("the key has {found} bytes, at most {KEY_BYTES_MAX} are allowed: put long data into the value")]
    KeyTooLong {
        /// How many bytes it has.
        found: usize,
    },
    /// There is no counter to increment.
    #[error("the field {key:?} of {object} holds no counter: set it to one before incrementing it")]
    NotACounter {
        /// The map that has the field.
        object: ObjectId,
        /// Its key.
        key: String,
    },
    /// Maps inside maps beyond the bound.
    #[error("more than {JSON_DEPTH_MAX} maps are nested: make them flatter")]
    TooDeep,
    /// Every peer would refuse the change.
    #[error("failed to write a change that others accept: {0}; write less at once")]
    Refused(GateError),
}

/// Makes one change of all edits, in their order: a later edit sees the earlier ones. Returns `None` if nothing was left
/// to change.
///
/// Cost: a few microseconds and about twelve store operations for one field; the document is not loaded.
///
/// # Errors
///
/// [`FieldError`] if an edit does not fit: then nothing at all was put into the transaction. [`StoreError`] if the store
/// cannot be used: then the transaction must be given up.
pub fn write(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    author: &Author<'_>,
    edits: &[Edit],
) -> Result<Result<Option<Written>, FieldError>, StoreError> {
    match write_or_fail(tx, document, author, edits) {
        Ok(written) => Ok(Ok(written)),
        Err(Failure::Field(error)) => Ok(Err(error)),
        Err(Failure::Store(error)) => Err(error),
    }
}

/// Either kind of failure, so that `?` serves both.
enum Failure {
    Field(FieldError),
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<FieldError> for Failure {
    fn from(error: FieldError) -> Self {
        Self::Field(error)
    }
}

fn write_or_fail(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    author: &Author<'_>,
    edits: &[Edit],
) -> Result<Option<Written>, Failure> {
    let mut appender = Appender::begin(tx, *document)?;
    if !appender.exists() {
        return Err(FieldError::NoDocument { document: *document }.into());
    }
    let start_op = appender.state().max_op + 1;
    let mut plan = Plan::new(*document, author.actor, start_op);
    for (index, edit) in edits.iter().enumerate() {
        if let Some(object) = plan.edit(tx, edit)? {
            plan.made.push((index, object));
        }
    }
    if plan.ops.all.is_empty() {
        return Ok(None);
    }
    let draft = ChangeDraft {
        actor: author.actor.clone(),
        seq: appender.last_of(tx, author.actor)?.map_or(0, |last| last.seq) + 1,
        start_op,
        timestamp: author.time_seconds,
        message: author.message,
        // Automerge also names the author's previous change where it is no head; the heads cover it, so it says nothing.
        deps: appender.state().head_hashes(),
        ops: plan.ops.all,
    };
    let change = encode(&draft).map_err(FieldError::Refused)?;
    let position = match appender.append_own(tx, &change)? {
        Appended::Stored { position } => position,
        Appended::Rejected(error) => return Err(FieldError::Refused(error).into()),
        // Its dependencies are the heads, and its sequence number is new.
        // That the document is there was looked up above.
        Appended::Missing { .. } | Appended::Folded | Appended::Duplicate | Appended::Deleted => {
            return Err(StoreError::Damaged { what: "document-1" }.into());
        }
    };
    appender.finish(tx)?;
    let mut touched = Touched::default();
    plan.registers.flush(tx, &mut touched)?;
    let waits = outbox::push(tx, document, position)?;
    Ok(Some(Written { change, position, waits, touched, made: plan.made }))
}

/// A change that is being made, and the registers as they will be.
struct Plan<'a> {
    ops: Ops<'a>,
    made: Vec<(usize, ObjectId)>,
    registers: Registers,
}

/// The change's operations.
struct Ops<'a> {
    actor: &'a ActorId,
    start_op: u64,
    all: Vec<DraftOp>,
}

/// A map whose fields are being written, and whether this change makes it.
#[derive(Clone)]
struct Place {
    object: ObjectId,
    fresh: bool,
}

impl<'a> Plan<'a> {
    fn new(document: DocumentId, actor: &'a ActorId, start_op: u64) -> Self {
        Self { ops: Ops { actor, start_op, all: Vec::new() }, made: Vec::new(), registers: Registers::new(document) }
    }

    /// Plans one edit; returns the object if it makes one.
    fn edit(&mut self, tx: &(impl ReadTx + ?Sized), edit: &Edit) -> Result<Option<ObjectId>, Failure> {
        let place = self.place(tx, &edit.object)?;
        check_key(&edit.key)?;
        match &edit.action {
            EditAction::Set(value) => self.set(tx, &place, &edit.key, value, 0),
            EditAction::Delete => self.delete(tx, &place, &edit.key).map(|()| None),
            EditAction::Increment(by) => self.increment(tx, &place, &edit.key, *by).map(|()| None),
            EditAction::MakeList => self.make(tx, &place, &edit.key, ObjectKind::List).map(Some),
            EditAction::MakeText => self.make(tx, &place, &edit.key, ObjectKind::Text).map(Some),
        }
    }

    /// Finds the map that an edit is about.
    fn place(&mut self, tx: &(impl ReadTx + ?Sized), target: &Target) -> Result<Place, Failure> {
        let path = match target {
            Target::Object(ObjectId::Root) => return Ok(Place { object: ObjectId::Root, fresh: false }),
            Target::Object(object) => {
                let object = object.clone();
                return match self.registers.kind(tx, &object)? {
                    None => Err(FieldError::NoObject { object }.into()),
                    Some((kind, _)) if kind != ObjectKind::Map => Err(FieldError::NotAMap { object }.into()),
                    Some((_, fresh)) => Ok(Place { object, fresh }),
                };
            }
            Target::Path(path) => path,
        };
        let mut place = Place { object: ObjectId::Root, fresh: false };
        for key in path {
            check_key(key)?;
            let register = self.registers.open(tx, &place.object, key, place.fresh)?;
            let object = match register.values.ops.last_key_value() {
                Some((id, Content::Object(ObjectKind::Map))) => ObjectId::Made(id.clone()),
                Some(_) => return Err(FieldError::NoMapOnPath { object: place.object, key: key.clone() }.into()),
                None => return Err(FieldError::NoPath { object: place.object, key: key.clone() }.into()),
            };
            place = Place { fresh: self.registers.is_new(&object), object };
        }
        Ok(place)
    }

    fn set(
        &mut self,
        tx: &(impl ReadTx + ?Sized),
        place: &Place,
        key: &str,
        value: &Value,
        depth: usize,
    ) -> Result<Option<ObjectId>, Failure> {
        match value {
            Value::Scalar(scalar) => self.put(tx, place, key, scalar).map(|()| None),
            Value::Map(entries) => {
                if depth >= JSON_DEPTH_MAX {
                    return Err(FieldError::TooDeep.into());
                }
                let object = self.make(tx, place, key, ObjectKind::Map)?;
                let inner = Place { object, fresh: true };
                for (key, value) in entries {
                    check_key(key)?;
                    self.set(tx, &inner, key, value, depth + 1)?;
                }
                Ok(Some(inner.object))
            }
        }
    }

    fn put(
        &mut self,
        tx: &(impl ReadTx + ?Sized),
        place: &Place,
        key: &str,
        scalar: &ScalarValue,
    ) -> Result<(), Failure> {
        let register = self.registers.open_to_write(tx, &place.object, key, place.fresh)?;
        let mut preds: Vec<OpId> = register.values.ops.keys().cloned().collect();
        let winner = register.values.ops.last_key_value();
        if winner.is_some_and(|(_, content)| matches!(content, Content::Scalar(found) if found == scalar)) {
            // It is there already: only the values it won over go.
            preds.pop();
            if !preds.is_empty() {
                self.ops.push(register, place, key, (Action::Delete, ScalarValue::Null), Effect::Delete, preds);
            }
            return Ok(());
        }
        let effect = Effect::Put(Content::Scalar(scalar.clone()));
        self.ops.push(register, place, key, (Action::Put, scalar.clone()), effect, preds);
        Ok(())
    }

    fn delete(&mut self, tx: &(impl ReadTx + ?Sized), place: &Place, key: &str) -> Result<(), Failure> {
        let register = self.registers.open_to_write(tx, &place.object, key, place.fresh)?;
        let preds: Vec<OpId> = register.values.ops.keys().cloned().collect();
        if !preds.is_empty() {
            self.ops.push(register, place, key, (Action::Delete, ScalarValue::Null), Effect::Delete, preds);
        }
        Ok(())
    }

    fn increment(&mut self, tx: &(impl ReadTx + ?Sized), place: &Place, key: &str, by: i64) -> Result<(), Failure> {
        let register = self.registers.open_to_write(tx, &place.object, key, place.fresh)?;
        let is_counter = |content: &Content| matches!(content, Content::Scalar(ScalarValue::Counter(_)));
        if !register.values.ops.values().any(is_counter) {
            return Err(FieldError::NotACounter { object: place.object.clone(), key: key.to_owned() }.into());
        }
        let preds = register.values.ops.keys().cloned().collect();
        self.ops.push(register, place, key, (Action::Increment, ScalarValue::Int(by)), Effect::Increment(by), preds);
        Ok(())
    }

    fn make(
        &mut self,
        tx: &(impl ReadTx + ?Sized),
        place: &Place,
        key: &str,
        kind: ObjectKind,
    ) -> Result<ObjectId, Failure> {
        let register = self.registers.open_to_write(tx, &place.object, key, place.fresh)?;
        let preds = register.values.ops.keys().cloned().collect();
        let action = match kind {
            ObjectKind::Map => Action::MakeMap,
            ObjectKind::Table => Action::MakeTable,
            ObjectKind::List => Action::MakeList,
            ObjectKind::Text => Action::MakeText,
        };
        let effect = Effect::Put(Content::Object(kind));
        let object = ObjectId::Made(self.ops.push(register, place, key, (action, ScalarValue::Null), effect, preds));
        self.registers.make(object.clone(), kind, place.object.clone());
        Ok(object)
    }
}

impl Ops<'_> {
    /// Adds an operation to the change and applies it to the field's working copy; returns its id.
    fn push(
        &mut self,
        register: &mut Register,
        place: &Place,
        key: &str,
        (action, value): (Action, ScalarValue),
        effect: Effect,
        preds: Vec<OpId>,
    ) -> OpId {
        let id = OpId { counter: self.start_op + self.all.len() as u64, actor: self.actor.clone() };
        register.apply(id.clone(), effect, preds.iter().cloned());
        let object = match &place.object {
            ObjectId::Root => DraftObject::Root,
            ObjectId::Made(id) => DraftObject::Op(id.clone()),
        };
        self.all.push(DraftOp { object, key: key.to_owned(), action, value, preds });
        id
    }
}

fn check_key(key: &str) -> Result<(), FieldError> {
    if key.len() > KEY_BYTES_MAX { Err(FieldError::KeyTooLong { found: key.len() }) } else { Ok(()) }
}
