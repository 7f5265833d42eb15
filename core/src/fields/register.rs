//! One register: its visible operations, winner first, and how they are stored.

use automerge::ScalarValue;

use super::object::{ObjectId, ObjectKind};
use crate::id::{DocumentId, OpId};
use crate::store::record::{self, Reader};
use crate::store::{ReadTx, StoreError, Table, WriteTx};

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    /// A scalar. A counter shows its current value.
    Scalar(ScalarValue),
    /// An object: what it is and its name, to read its own fields.
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

/// A visible operation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Visible {
    pub(super) op: OpId,
    pub(super) value: Held,
}

/// What a visible operation holds; an object's name is the operation itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Held {
    Scalar(ScalarValue),
    Object(ObjectKind),
}

impl Visible {
    pub(super) fn field_value(&self) -> FieldValue {
        match &self.value {
            Held::Scalar(scalar) => FieldValue::Scalar(scalar.clone()),
            Held::Object(kind) => FieldValue::Object(*kind, ObjectId::Made(self.op.clone())),
        }
    }

    pub(super) fn counter(&self) -> Option<i64> {
        match &self.value {
            Held::Scalar(ScalarValue::Counter(counter)) => Some(i64::from(counter)),
            _ => None,
        }
    }
}

/// The visible operations of one key, winner first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Register {
    pub(super) visible: Vec<Visible>,
}

impl Register {
    /// Makes an operation visible.
    pub(super) fn insert(&mut self, op: OpId, value: Held) {
        let index = self.visible.partition_point(|other| other.op > op);
        self.visible.insert(index, Visible { op, value });
    }

    /// Hides an operation for ever.
    pub(super) fn remove(&mut self, op: &OpId) {
        self.visible.retain(|visible| visible.op != *op);
    }

    /// Adds to a counter. Whatever else has the increment as its successor is hidden by it, as by any other operation.
    pub(super) fn increment(&mut self, op: &OpId, by: i64) {
        let Some(index) = self.visible.iter().position(|visible| visible.op == *op) else { return };
        match self.visible[index].counter() {
            Some(value) => self.visible[index].value = Held::Scalar(ScalarValue::counter(value.wrapping_add(by))),
            None => {
                self.visible.remove(index);
            }
        }
    }

    /// Reads a register; one that is not there is empty.
    pub(super) fn load(
        tx: &(impl ReadTx + ?Sized),
        document: &DocumentId,
        object: &ObjectId,
        key: &str,
    ) -> Result<Self, StoreError> {
        let bytes = tx.get(Table::Register, &object.field_key(document, key))?;
        bytes.map_or_else(|| Ok(Self::default()), |bytes| Self::decode(&bytes))
    }

    /// Writes the register, or deletes it when nothing is visible.
    pub(super) fn store(
        &self,
        tx: &mut (impl WriteTx + ?Sized),
        document: &DocumentId,
        object: &ObjectId,
        key: &str,
    ) -> Result<(), StoreError> {
        let table_key = object.field_key(document, key);
        if self.visible.is_empty() {
            return tx.delete(Table::Register, &table_key);
        }
        tx.put(Table::Register, &table_key, &self.encode())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut reader = Reader::new(bytes, "register-1");
        let mut visible = Vec::new();
        for _ in 0..reader.uint()? {
            let op = OpId { counter: reader.uint()?, actor: reader.actor()? };
            visible.push(Visible { op, value: Held::read(&mut reader)? });
        }
        Ok(Self { visible })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48 * self.visible.len() + 2);
        record::put_uint(&mut out, self.visible.len() as u64);
        for visible in &self.visible {
            record::put_uint(&mut out, visible.op.counter);
            record::put_bytes(&mut out, visible.op.actor.to_bytes());
            visible.value.write(&mut out);
        }
        out
    }
}

impl Held {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Scalar(ScalarValue::Null) => out.push(0),
            Self::Scalar(ScalarValue::Boolean(value)) => out.push(1 + u8::from(*value)),
            Self::Scalar(ScalarValue::Uint(value)) => {
                out.push(3);
                record::put_uint(out, *value);
            }
            Self::Scalar(ScalarValue::Int(value)) => put_tagged_int(out, 4, *value),
            Self::Scalar(ScalarValue::F64(value)) => {
                out.push(5);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Self::Scalar(ScalarValue::Str(text)) => {
                out.push(6);
                record::put_bytes(out, text.as_bytes());
            }
            Self::Scalar(ScalarValue::Bytes(bytes)) => {
                out.push(7);
                record::put_bytes(out, bytes);
            }
            Self::Scalar(ScalarValue::Counter(counter)) => put_tagged_int(out, 8, i64::from(counter)),
            Self::Scalar(ScalarValue::Timestamp(value)) => put_tagged_int(out, 9, *value),
            Self::Scalar(ScalarValue::Unknown { type_code, bytes }) => {
                out.extend_from_slice(&[10, *type_code]);
                record::put_bytes(out, bytes);
            }
            Self::Object(kind) => out.extend_from_slice(&[11, kind.code()]),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, StoreError> {
        Ok(Self::Scalar(match reader.byte()? {
            0 => ScalarValue::Null,
            1 => ScalarValue::Boolean(false),
            2 => ScalarValue::Boolean(true),
            3 => ScalarValue::Uint(reader.uint()?),
            4 => ScalarValue::Int(reader.int()?),
            5 => {
                let bytes = reader.take(8)?.try_into().map_err(|_| reader.damaged())?;
                ScalarValue::F64(f64::from_le_bytes(bytes))
            }
            6 => ScalarValue::Str(reader.text()?.into()),
            7 => ScalarValue::Bytes(reader.bytes()?.to_vec()),
            8 => ScalarValue::counter(reader.int()?),
            9 => ScalarValue::Timestamp(reader.int()?),
            10 => {
                let type_code = reader.byte()?;
                ScalarValue::Unknown { type_code, bytes: reader.bytes()?.to_vec() }
            }
            11 => return Ok(Self::Object(ObjectKind::read(reader)?)),
            _ => return Err(reader.damaged()),
        }))
    }
}

fn put_tagged_int(out: &mut Vec<u8>, tag: u8, value: i64) {
    out.push(tag);
    record::put_int(out, value);
}
