//! From edits to a change: synthesised from the stored state, byte for byte what Automerge would write.

use std::sync::Arc;

use automerge::{ActorId, ScalarValue};

use super::object::{ObjectId, ObjectKind};
use super::project::{Touched, Working};
use super::register::{Held, Register};
use crate::gate::{Action, ChangeDraft, CheckedChange, DraftObject, DraftOp, GateError, encode};
use crate::id::{DocumentId, OpId};
use crate::ledger::{self, Appended, Appender, outbox};
use crate::limits::{JSON_DEPTH_MAX, KEY_BYTES_MAX};
use crate::store::{ReadTx, StoreError, WriteTx};
use crate::value::Value;

/// Who writes, when, and why.
#[derive(Debug, Clone)]
pub struct Author {
    /// The writer's actor in this document: random, and used by no other process.
    pub actor: ActorId,
    /// Seconds since the Unix epoch, for display only.
    pub time_seconds: i64,
    /// The message, for the history.
    pub message: Option<String>,
}

/// One edit of one field.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// The keys from the root down; the last one is the field.
    pub path: Vec<String>,
    /// What to do with it.
    pub action: EditAction,
}

/// What to do with a field.
#[derive(Debug, Clone, PartialEq)]
pub enum EditAction {
    /// Set it. Setting what it already holds, without a conflict, writes nothing.
    Set(Value),
    /// Remove it. Removing what is not there writes nothing.
    Delete,
    /// Add to a counter.
    Increment(i64),
}

impl Edit {
    /// Returns an edit that sets a field.
    pub fn set(path: Vec<String>, value: Value) -> Self {
        Self { path, action: EditAction::Set(value) }
    }

    /// Returns an edit that removes a field.
    pub fn delete(path: Vec<String>) -> Self {
        Self { path, action: EditAction::Delete }
    }

    /// Returns an edit that adds to a counter.
    pub fn increment(path: Vec<String>, by: i64) -> Self {
        Self { path, action: EditAction::Increment(by) }
    }
}

/// What a write made.
#[derive(Debug, Clone)]
pub struct Written {
    /// The change.
    pub change: CheckedChange,
    /// Its position in the ledger.
    pub position: u64,
    /// The fields whose values changed.
    pub touched: Vec<Touched>,
}

/// Why a field cannot be written or read like that. Nothing was written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// There is no such document here.
    #[error("the document is not on this device")]
    NoDocument,
    /// The path has no key.
    #[error("the path is empty: name the field")]
    EmptyPath,
    /// A key on the way holds no map.
    #[error("there is no map at {key:?}: set it to a map first")]
    NotAMap {
        /// The first key that leads nowhere.
        key: String,
    },
    /// The field is no counter.
    #[error("the field {key:?} is no counter: set it to one first")]
    NotACounter {
        /// The field.
        key: String,
    },
    /// The key is too long.
    #[error("the key has {found} bytes, more than {KEY_BYTES_MAX}")]
    KeyTooLong {
        /// How many bytes it has.
        found: usize,
    },
    /// Maps are nested too deep.
    #[error("maps are nested deeper than {JSON_DEPTH_MAX}")]
    TooDeep,
    /// The change would break a rule at every gate: it is too large, most likely.
    #[error("the change cannot be made: {0}")]
    Refused(GateError),
    /// The store failed while the document was read.
    #[error(transparent)]
    Store(Arc<StoreError>),
}

impl From<StoreError> for FieldError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// Makes one change of several edits, appends it and puts it into the outbox; `None` if nothing had to be written.
///
/// An edit sees those before it. The change, the registers, the graph and the outbox are written in the caller's
/// transaction. Cost: the fields touched, whatever the document's size.
///
/// # Errors
///
/// The outer [`StoreError`] if the store failed: give the transaction up. The inner [`FieldError`] if the edits make no
/// sense: nothing was written then, and the transaction may go on.
pub fn write(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    author: &Author,
    edits: &[Edit],
) -> Result<Result<Option<Written>, FieldError>, StoreError> {
    let mut appender = Appender::begin(tx, *document)?;
    if !appender.exists() {
        return Ok(Err(FieldError::NoDocument));
    }
    let start_op = appender.state().max_op + 1;
    let mut drafter = Drafter { tx, document, author, start_op, working: Working::default(), ops: Vec::new() };
    for edit in edits {
        match drafter.edit(edit) {
            Ok(()) => {}
            Err(FieldError::Store(error)) => return Err(unshared(error)),
            Err(error) => return Ok(Err(error)),
        }
    }
    let Drafter { working, ops, .. } = drafter;
    if ops.is_empty() {
        return Ok(Ok(None));
    }
    let draft = ChangeDraft {
        actor: author.actor.clone(),
        seq: ledger::last_seq(tx, document, &author.actor)? + 1,
        start_op,
        timestamp: author.time_seconds,
        message: author.message.as_deref(),
        deps: appender.state().head_hashes(),
        ops,
    };
    let change = match encode(&draft) {
        Ok(change) => change,
        Err(error) => return Ok(Err(FieldError::Refused(error))),
    };
    let position = match appender.append(tx, &change)? {
        Appended::Stored { position } => position,
        Appended::Rejected(error) => return Ok(Err(FieldError::Refused(error))),
        // The dependencies are our own heads, and no change has this author and number yet.
        Appended::Missing { .. } | Appended::Duplicate => return Err(StoreError::Damaged { what: "document-1" }),
    };
    appender.finish(tx)?;
    let touched = working.store(tx, document)?;
    outbox::push(tx, document, position)?;
    Ok(Ok(Some(Written { change, position, touched })))
}

/// Takes the error out of its sharing: it was wrapped a moment ago and nobody else holds it.
fn unshared(error: Arc<StoreError>) -> StoreError {
    Arc::try_unwrap(error).unwrap_or_else(|error| StoreError::Engine(error.to_string()))
}

/// Turns edits into operations against working copies of the registers.
struct Drafter<'w, T: ?Sized> {
    tx: &'w T,
    document: &'w DocumentId,
    author: &'w Author,
    start_op: u64,
    working: Working,
    ops: Vec<DraftOp>,
}

impl<T: ReadTx + ?Sized> Drafter<'_, T> {
    fn edit(&mut self, edit: &Edit) -> Result<(), FieldError> {
        let (key, parents) = edit.path.split_last().ok_or(FieldError::EmptyPath)?;
        let object = self.resolve(parents)?;
        match &edit.action {
            EditAction::Set(value) => self.set(&object, key, value, JSON_DEPTH_MAX),
            EditAction::Delete => self.delete(&object, key),
            EditAction::Increment(by) => self.increment(&object, key, *by),
        }
    }

    fn resolve(&mut self, path: &[String]) -> Result<ObjectId, FieldError> {
        let mut object = ObjectId::Root;
        for key in path {
            let register = self.register(&object, key)?;
            object = match register.visible.first() {
                Some(visible) if matches!(visible.value, Held::Object(kind) if kind.has_fields()) => {
                    ObjectId::Made(visible.op.clone())
                }
                _ => return Err(FieldError::NotAMap { key: key.clone() }),
            };
        }
        Ok(object)
    }

    fn set(&mut self, object: &ObjectId, key: &str, value: &Value, depth: usize) -> Result<(), FieldError> {
        if key.len() > KEY_BYTES_MAX {
            return Err(FieldError::KeyTooLong { found: key.len() });
        }
        match value {
            Value::Scalar(scalar) => self.put(object, key, scalar),
            Value::Map(entries) => {
                let depth = depth.checked_sub(1).ok_or(FieldError::TooDeep)?;
                let preds = self.visible(object, key)?;
                let op = self.push(object, key, Action::MakeMap, ScalarValue::Null, preds);
                let made = ObjectId::Made(op.clone());
                self.working.made.push((made.clone(), ObjectKind::Map, object.clone()));
                self.replace(object, key, op, Held::Object(ObjectKind::Map))?;
                for (key, value) in entries {
                    self.set(&made, key, value, depth)?;
                }
                Ok(())
            }
        }
    }

    fn put(&mut self, object: &ObjectId, key: &str, scalar: &ScalarValue) -> Result<(), FieldError> {
        let register = self.register(object, key)?;
        let is_same = register.visible.first().is_some_and(|winner| winner.value == Held::Scalar(scalar.clone()));
        // Setting a counter starts it afresh, whatever it shows: concurrent increments of the old one must not count.
        if is_same && !matches!(scalar, ScalarValue::Counter(_)) {
            // The value stands; what is left to do is to settle the conflict.
            let losers: Vec<OpId> = register.visible.drain(1..).map(|visible| visible.op).collect();
            if !losers.is_empty() {
                self.push(object, key, Action::Delete, ScalarValue::Null, losers);
            }
            return Ok(());
        }
        let preds = register.visible.iter().map(|visible| visible.op.clone()).collect();
        let op = self.push(object, key, Action::Put, scalar.clone(), preds);
        self.replace(object, key, op, Held::Scalar(scalar.clone()))
    }

    fn delete(&mut self, object: &ObjectId, key: &str) -> Result<(), FieldError> {
        let preds = self.visible(object, key)?;
        if preds.is_empty() {
            return Ok(());
        }
        self.push(object, key, Action::Delete, ScalarValue::Null, preds);
        self.register(object, key)?.visible.clear();
        Ok(())
    }

    fn increment(&mut self, object: &ObjectId, key: &str, by: i64) -> Result<(), FieldError> {
        let register = self.register(object, key)?;
        if register.visible.iter().all(|visible| visible.counter().is_none()) {
            return Err(FieldError::NotACounter { key: key.to_owned() });
        }
        let preds: Vec<OpId> = register.visible.iter().map(|visible| visible.op.clone()).collect();
        for pred in &preds {
            register.increment(pred, by);
        }
        self.push(object, key, Action::Increment, ScalarValue::Int(by), preds);
        Ok(())
    }

    fn register(&mut self, object: &ObjectId, key: &str) -> Result<&mut Register, StoreError> {
        self.working.register(self.tx, self.document, object, key)
    }

    fn visible(&mut self, object: &ObjectId, key: &str) -> Result<Vec<OpId>, StoreError> {
        Ok(self.register(object, key)?.visible.iter().map(|visible| visible.op.clone()).collect())
    }

    /// Makes an operation the only visible one.
    fn replace(&mut self, object: &ObjectId, key: &str, op: OpId, value: Held) -> Result<(), FieldError> {
        let register = self.register(object, key)?;
        register.visible.clear();
        register.insert(op, value);
        Ok(())
    }

    fn push(&mut self, object: &ObjectId, key: &str, action: Action, value: ScalarValue, preds: Vec<OpId>) -> OpId {
        let op = OpId { counter: self.start_op + self.ops.len() as u64, actor: self.author.actor.clone() };
        let object = match object {
            ObjectId::Root => DraftObject::Root,
            ObjectId::Made(op) => DraftObject::Op(op.clone()),
        };
        self.ops.push(DraftOp { object, key: key.to_owned(), action, value, preds });
        op
    }
}
