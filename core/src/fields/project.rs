//! Projecting: applying the operations of accepted changes to the registers.

use super::record::Content;
use super::registers::{Effect, Registers};
use super::{ObjectId, ObjectKind, Touched};
use crate::gate::{Action, CheckedChange, KeyRef, ObjectRef, Op, OpRef, ValueRef};
use crate::id::{DocumentId, OpId};
use crate::ledger::{Appended, Appender};
use crate::limits::PROJECT_BYTES_MAX;
use crate::store::{StoreError, WriteTx};

/// Applies accepted changes of one document to its registers, inside one transaction.
///
/// Keeps working copies between changes, so that a batch reads and writes each register once however often it is
/// overwritten. Call [`Projector::finish`], or the registers fall behind the ledger. Until then reads in the same
/// transaction may see the registers as they were before.
#[derive(Debug)]
pub struct Projector {
    registers: Registers,
    touched: Touched,
}

impl Projector {
    /// Begins a batch.
    pub fn begin(document: DocumentId) -> Self {
        Self { registers: Registers::new(document), touched: Touched::default() }
    }

    /// Appends one change to the ledger and, if it is stored, applies it: the way of a change from a network.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be used; a change that breaks a rule is not an error but
    /// [`Appended::Rejected`].
    pub fn append(
        &mut self,
        tx: &mut (impl WriteTx + ?Sized),
        appender: &mut Appender,
        change: &CheckedChange,
    ) -> Result<Appended, StoreError> {
        let appended = appender.append(tx, change)?;
        if matches!(appended, Appended::Stored { .. }) {
            self.project(tx, change)?;
        }
        Ok(appended)
    }

    /// Appends and applies a change that this process made from what it read in the same store: what it refers to is there.
    ///
    /// # Errors
    ///
    /// As [`Projector::append`].
    pub(crate) fn append_own(
        &mut self,
        tx: &mut (impl WriteTx + ?Sized),
        appender: &mut Appender,
        change: &CheckedChange,
    ) -> Result<Appended, StoreError> {
        let appended = appender.append_own(tx, change)?;
        if matches!(appended, Appended::Stored { .. }) {
            self.project(tx, change)?;
        }
        Ok(appended)
    }

    /// Applies one change, which the ledger has just stored: once, and in the ledger's order.
    ///
    /// Cost: one read for each field it touches first, O(log) for each operation and predecessor. Working copies beyond
    /// [`PROJECT_BYTES_MAX`] are written out in between.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be used; the transaction must then be given up.
    pub fn project(&mut self, tx: &mut (impl WriteTx + ?Sized), change: &CheckedChange) -> Result<(), StoreError> {
        for op in change.ops() {
            let made = kind_of(op.action);
            if let Some(kind) = made {
                let object = ObjectId::Made(own_id(change, &op));
                self.registers.make(object, kind, object_of(change, op.object));
            }
            match op.key {
                KeyRef::Map(key) => self.project_field(tx, change, &op, key, made)?,
                KeyRef::Head | KeyRef::Element(_) => self.touched.elements = true,
            }
            if self.registers.bytes() > PROJECT_BYTES_MAX {
                self.registers.flush(tx, &mut self.touched)?;
            }
        }
        Ok(())
    }

    /// Ends the batch: writes the registers, and says what changed.
    ///
    /// # Errors
    ///
    /// As [`Projector::project`].
    pub fn finish(mut self, tx: &mut (impl WriteTx + ?Sized)) -> Result<Touched, StoreError> {
        self.registers.flush(tx, &mut self.touched)?;
        Ok(self.touched)
    }

    fn project_field(
        &mut self,
        tx: &(impl WriteTx + ?Sized),
        change: &CheckedChange,
        op: &Op<'_>,
        key: &str,
        made: Option<ObjectKind>,
    ) -> Result<(), StoreError> {
        let effect = match (op.action, op.value) {
            (Action::Put, value) => Effect::Put(Content::Scalar(value.to_scalar())),
            (Action::Delete, _) => Effect::Delete,
            (Action::Increment, ValueRef::Int(by)) => Effect::Increment(by),
            _ => match made {
                Some(kind) => Effect::Put(Content::Object(kind)),
                // The gate lets no mark stand on a map's key, and no increment by anything but an integer.
                None => return Ok(()),
            },
        };
        if let ValueRef::Str(text) = op.value {
            self.registers.add_bytes(text.len());
        } else if let ValueRef::Bytes(bytes) | ValueRef::Unknown { bytes, .. } = op.value {
            self.registers.add_bytes(bytes.len());
        }
        self.registers.add_bytes(size_of::<(OpId, Content)>());
        let object = object_of(change, op.object);
        let register = self.registers.open(tx, &object, key, false)?;
        let mut loaded = 0;
        if register.values.has_more() {
            for pred in op.preds {
                loaded += register.values.load(tx, &id_of(change, pred))?;
            }
        }
        register.apply(own_id(change, op), effect, op.preds.map(|pred| id_of(change, pred)));
        self.registers.add_bytes(loaded);
        Ok(())
    }
}

/// Applies one accepted change to the registers of its document: a [`Projector`] for a batch of one.
///
/// # Errors
///
/// As [`Projector::project`].
pub fn project(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    change: &CheckedChange,
) -> Result<Touched, StoreError> {
    let mut projector = Projector::begin(*document);
    projector.project(tx, change)?;
    projector.finish(tx)
}

fn id_of(change: &CheckedChange, op: OpRef) -> OpId {
    // The gate has checked that every index is in range.
    let actor = usize::try_from(op.actor_index).ok().and_then(|index| change.actors().get(index));
    OpId { counter: op.counter, actor: actor.unwrap_or(change.actor()).clone() }
}

fn own_id(change: &CheckedChange, op: &Op<'_>) -> OpId {
    OpId { counter: op.id_counter, actor: change.actor().clone() }
}

fn object_of(change: &CheckedChange, object: ObjectRef) -> ObjectId {
    match object {
        ObjectRef::Root => ObjectId::Root,
        ObjectRef::Op(op) => ObjectId::Made(id_of(change, op)),
    }
}

fn kind_of(action: Action) -> Option<ObjectKind> {
    match action {
        Action::MakeMap => Some(ObjectKind::Map),
        Action::MakeTable => Some(ObjectKind::Table),
        Action::MakeList => Some(ObjectKind::List),
        Action::MakeText => Some(ObjectKind::Text),
        _ => None,
    }
}
