//! From a change's operations to the registers, and the working copies that both directions share.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::object::{ObjectId, ObjectKind, op_id};
use super::register::{Held, Register};
use crate::gate::{Action, CheckedChange, KeyRef, Op, ValueRef};
use crate::id::{DocumentId, OpId};
use crate::store::record;
use crate::store::{ReadTx, StoreError, Table, WriteTx};

/// A field whose visible operations changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Touched {
    /// The map.
    pub object: ObjectId,
    /// The key.
    pub key: String,
}

/// Brings a document's registers up to date with a change that was just appended to its ledger.
///
/// Returns the fields it changed, in no particular order, each once. Cost: one read and one write a field.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used.
pub fn project(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    change: &CheckedChange,
) -> Result<Vec<Touched>, StoreError> {
    let mut working = Working::default();
    for op in change.ops() {
        let object = ObjectId::of(change, op.object);
        if let Some(kind) = ObjectKind::made_by(op.action) {
            let made = OpId { counter: op.id_counter, actor: change.actor().clone() };
            working.made.push((ObjectId::Made(made), kind, object.clone()));
        }
        if let KeyRef::Map(key) = op.key {
            apply(working.register(tx, document, &object, key)?, change, &op);
        }
    }
    working.store(tx, document)
}

fn apply(register: &mut Register, change: &CheckedChange, op: &Op<'_>) {
    if op.action == Action::Increment {
        let by = match op.value {
            ValueRef::Int(by) => by,
            // The gate lets nothing else pass.
            _ => 0,
        };
        for pred in op.preds {
            register.increment(&op_id(change, pred), by);
        }
        return;
    }
    for pred in op.preds {
        register.remove(&op_id(change, pred));
    }
    let held = match ObjectKind::made_by(op.action) {
        Some(kind) => Held::Object(kind),
        None if op.action == Action::Put => Held::Scalar(op.value.to_scalar()),
        None => return,
    };
    register.insert(OpId { counter: op.id_counter, actor: change.actor().clone() }, held);
}

/// Registers under change, read once and written once, however many operations touch them.
#[derive(Default)]
pub(super) struct Working {
    registers: HashMap<ObjectId, HashMap<String, Register>>,
    /// Objects made: itself, its kind, the object it hangs in.
    pub(super) made: Vec<(ObjectId, ObjectKind, ObjectId)>,
}

impl Working {
    /// Returns a register's working copy.
    pub(super) fn register(
        &mut self,
        tx: &(impl ReadTx + ?Sized),
        document: &DocumentId,
        object: &ObjectId,
        key: &str,
    ) -> Result<&mut Register, StoreError> {
        if !self.registers.contains_key(object) {
            self.registers.insert(object.clone(), HashMap::new());
        }
        let of_object = self.registers.entry(object.clone()).or_default();
        match of_object.entry(key.to_owned()) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                // A map made by the same change has no register in the store yet.
                let is_new = self.made.iter().rev().any(|(made, ..)| made == object);
                let register =
                    if is_new { Register::default() } else { Register::load(tx, document, object, entry.key())? };
                Ok(entry.insert(register))
            }
        }
    }

    /// Writes every working copy and every object made.
    pub(super) fn store(
        self,
        tx: &mut (impl WriteTx + ?Sized),
        document: &DocumentId,
    ) -> Result<Vec<Touched>, StoreError> {
        for (object, kind, parent) in &self.made {
            let mut value = vec![kind.code()];
            let mut parent_key = Vec::with_capacity(32);
            parent.write_key(&mut parent_key);
            record::put_bytes(&mut value, &parent_key);
            tx.put(Table::Object, &object.key(document), &value)?;
        }
        let mut touched = Vec::new();
        for (object, registers) in self.registers {
            for (key, register) in registers {
                register.store(tx, document, &object, &key)?;
                touched.push(Touched { object: object.clone(), key });
            }
        }
        Ok(touched)
    }
}
