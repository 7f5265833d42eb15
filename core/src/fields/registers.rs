//! Working copies of registers: what both a local write and a received change are applied to before the store sees it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use automerge::ScalarValue;

use super::record::{Content, encode_object, field_of_key, object_key, set_register_key};
use super::values::Values;
use super::{ObjectId, ObjectKind, Touched};
use crate::id::{DocumentId, OpId};
use crate::limits::{FIELD_VALUES_MAX, TOUCHED_FIELDS_MAX};
use crate::store::{ReadTx, StoreError, Table, WriteTx};

/// What an operation does to its field.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    Put(Content),
    Delete,
    Increment(i64),
}

/// One register in memory.
#[derive(Debug, Default)]
pub(super) struct Register {
    /// The values that are in memory: what is applied must name none that is not.
    pub(super) values: Values,
    changed: bool,
}

impl Register {
    /// Applies an operation. Cost: O(predecessors x log visible operations).
    ///
    /// A predecessor that is not visible was overwritten by another operation already: nothing brings it back.
    pub(super) fn apply(&mut self, id: OpId, effect: Effect, preds: impl IntoIterator<Item = OpId>) {
        for pred in preds {
            match (&effect, self.values.ops.get_mut(&pred)) {
                (_, None) => continue,
                (Effect::Increment(by), Some(Content::Scalar(ScalarValue::Counter(counter)))) => {
                    *counter = i64::from(&*counter).wrapping_add(*by).into();
                }
                // An increment hides whatever is no counter, as Automerge has it.
                _ => drop(self.values.ops.remove(&pred)),
            }
            self.changed = true;
        }
        if let Effect::Put(content) = effect {
            self.values.ops.insert(id, content);
            self.changed = true;
        }
    }
}

/// The registers of a document that a transaction works on, read once and written once each.
#[derive(Debug)]
pub(super) struct Registers {
    document: DocumentId,
    registers: BTreeMap<Vec<u8>, Register>,
    /// New objects: their kind and their parent.
    objects: BTreeMap<ObjectId, (ObjectKind, ObjectId)>,
    /// About how many bytes the working copies take.
    bytes: usize,
}

/// About what a working copy takes besides its record and key.
const REGISTER_OVERHEAD_BYTES: usize = 128;

impl Registers {
    pub(super) fn new(document: DocumentId) -> Self {
        Self { document, registers: BTreeMap::new(), objects: BTreeMap::new(), bytes: 0 }
    }

    /// About how many bytes the working copies take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes that the working copies grew.
    pub(super) fn add_bytes(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Returns a register's working copy, from the store if it was not asked for before.
    ///
    /// `fresh` says that the object was just made, so the store cannot know it.
    pub(super) fn open(
        &mut self,
        tx: &(impl ReadTx + ?Sized),
        object: &ObjectId,
        key: &str,
        fresh: bool,
    ) -> Result<&mut Register, StoreError> {
        let mut register_key = Vec::with_capacity(96);
        set_register_key(&mut register_key, &self.document, object, key);
        match self.registers.entry(register_key) {
            Entry::Occupied(found) => Ok(found.into_mut()),
            Entry::Vacant(place) => {
                let stored = if fresh { None } else { tx.get(Table::Register, place.key())? };
                let mut register = Register::default();
                if let Some(row) = &stored {
                    register.values = Values::read(place.key(), row)?;
                }
                self.bytes += REGISTER_OVERHEAD_BYTES + place.key().len() + stored.map_or(0, |bytes| bytes.len());
                Ok(place.insert(register))
            }
        }
    }

    /// Returns a register's working copy with all values that a write overwrites: the greatest [`FIELD_VALUES_MAX`].
    pub(super) fn open_to_write(
        &mut self,
        tx: &(impl ReadTx + ?Sized),
        object: &ObjectId,
        key: &str,
        fresh: bool,
    ) -> Result<&mut Register, StoreError> {
        let register = self.open(tx, object, key, fresh)?;
        register.values.load_greatest(tx, FIELD_VALUES_MAX)?;
        Ok(register)
    }

    /// Notes a new object.
    pub(super) fn make(&mut self, object: ObjectId, kind: ObjectKind, parent: ObjectId) {
        self.bytes += REGISTER_OVERHEAD_BYTES;
        self.objects.insert(object, (kind, parent));
    }

    /// Says whether an object was made since the last flush.
    pub(super) fn is_new(&self, object: &ObjectId) -> bool {
        self.objects.contains_key(object)
    }

    /// Returns the kind of an object, `None` if there is no such object, and whether it is new.
    pub(super) fn kind(
        &self,
        tx: &(impl ReadTx + ?Sized),
        object: &ObjectId,
    ) -> Result<Option<(ObjectKind, bool)>, StoreError> {
        match self.objects.get(object) {
            Some((kind, _)) => Ok(Some((*kind, true))),
            None => Ok(super::object_kind(tx, &self.document, object)?.map(|kind| (kind, false))),
        }
    }

    /// Writes what changed into the store, names it in `touched`, and begins anew.
    pub(super) fn flush(&mut self, tx: &mut (impl WriteTx + ?Sized), touched: &mut Touched) -> Result<(), StoreError> {
        for (key, register) in std::mem::take(&mut self.registers) {
            if !register.changed {
                continue;
            }
            register.values.write(tx, &key)?;
            if touched.fields.len() < TOUCHED_FIELDS_MAX {
                touched.fields.push(field_of_key(&key)?);
            } else {
                touched.more = true;
            }
        }
        for (object, (kind, parent)) in std::mem::take(&mut self.objects) {
            tx.put(Table::Object, &object_key(&self.document, &object), &encode_object(kind, &parent))?;
        }
        self.bytes = 0;
        Ok(())
    }
}
