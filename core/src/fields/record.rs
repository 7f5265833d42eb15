//! How registers and objects are written in the store; see `core/docs/storage.md`.

use std::collections::BTreeMap;

use automerge::{ActorId, ScalarValue};

use super::{FieldRef, FieldValue, ObjectId, ObjectKind};
use crate::id::{DocumentId, OpId};
use crate::store::StoreError;
use crate::store::record::{Reader, put_bytes, put_int, put_uint};

/// The bytes of a document id before every key.
const DOCUMENT_BYTES: usize = 16;

const WHAT: &str = "register-1";

/// What a visible operation put into its field.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Scalar(ScalarValue),
    /// The object has the operation's own id.
    Object(ObjectKind),
}

impl Content {
    pub(super) fn into_value(self, id: &OpId) -> FieldValue {
        match self {
            Self::Scalar(scalar) => FieldValue::Scalar(scalar),
            Self::Object(kind) => FieldValue::Object(kind, ObjectId::Made(id.clone())),
        }
    }
}

/// The visible operations of a field, ascending: the winner is the last.
pub(super) type VisibleOps = BTreeMap<OpId, Content>;

impl ObjectKind {
    const ALL: [Self; 4] = [Self::Map, Self::Table, Self::List, Self::Text];

    pub(super) fn to_byte(self) -> u8 {
        match self {
            Self::Map => 0,
            Self::Table => 1,
            Self::List => 2,
            Self::Text => 3,
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}

/// Appends an object's id as it stands in keys. No id's form is the beginning of another's.
fn put_object(out: &mut Vec<u8>, object: &ObjectId) {
    match object {
        ObjectId::Root => out.push(0),
        ObjectId::Made(id) => {
            let actor = id.actor.to_bytes();
            out.push(1);
            out.extend_from_slice(&id.counter.to_be_bytes());
            // The gate bounds actors to 64 bytes; a longer one never gets here, and would only make a key of its own.
            out.push(u8::try_from(actor.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(actor);
        }
    }
}

fn read_object(reader: &mut Reader<'_>) -> Result<ObjectId, StoreError> {
    match reader.byte()? {
        0 => Ok(ObjectId::Root),
        1 => {
            let counter = reader.take(8)?.try_into().map_err(|_| reader.damaged())?;
            let length = usize::from(reader.byte()?);
            let actor = ActorId::from(reader.take(length)?);
            Ok(ObjectId::Made(OpId { counter: u64::from_be_bytes(counter), actor }))
        }
        _ => Err(reader.damaged()),
    }
}

/// Returns `(document, object)` as a key: an object's own, and the beginning of its registers'.
pub(super) fn object_key(document: &DocumentId, object: &ObjectId) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    put_object_key(&mut out, document, object);
    out
}

fn put_object_key(out: &mut Vec<u8>, document: &DocumentId, object: &ObjectId) {
    out.extend_from_slice(document.as_bytes());
    put_object(out, object);
}

/// Writes `(document, object, key)` into `out`, over whatever it held.
pub(super) fn set_register_key(out: &mut Vec<u8>, document: &DocumentId, object: &ObjectId, key: &str) {
    out.clear();
    put_object_key(out, document, object);
    out.extend_from_slice(key.as_bytes());
}

/// Reads the field back out of a register's key.
pub(super) fn field_of_key(key: &[u8]) -> Result<FieldRef, StoreError> {
    let mut reader = Reader::new(key.get(DOCUMENT_BYTES..).unwrap_or_default(), "a register key");
    let object = read_object(&mut reader)?;
    let name = std::str::from_utf8(reader.rest()).map_err(|_| StoreError::Damaged { what: "a register key" })?;
    Ok(FieldRef { object, key: name.to_owned() })
}

/// Encodes an object's record.
pub(super) fn encode_object(kind: ObjectKind, parent: &ObjectId) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(32);
    put_object(&mut encoded, parent);
    let mut out = Vec::with_capacity(34);
    out.push(kind.to_byte());
    put_bytes(&mut out, &encoded);
    out
}

pub(super) fn decode_object_kind(bytes: &[u8]) -> Result<ObjectKind, StoreError> {
    let kind = bytes.first().and_then(|byte| ObjectKind::from_byte(*byte));
    kind.ok_or(StoreError::Damaged { what: "object-1" })
}

/// Encodes a register, the winner first, so that reading it needs no more than the first bytes. `more` says that the values
/// below these have rows of their own.
pub(super) fn encode_register(ops: &VisibleOps, more: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(ops.len() * 32 + 8);
    put_uint(&mut out, ops.len() as u64);
    for (id, content) in ops.iter().rev() {
        put_value(&mut out, id, content);
    }
    if more {
        out.push(MORE);
    }
    out
}

/// What follows the values of a register's row if there are more of them in rows of their own.
const MORE: u8 = 1;

/// Appends a value as it stands in a register's row, and alone in a row of its own.
pub(super) fn put_value(out: &mut Vec<u8>, id: &OpId, content: &Content) {
    put_uint(out, id.counter);
    put_bytes(out, id.actor.to_bytes());
    put_content(out, content);
}

/// Reads a value that stands alone in a row of its own.
pub(super) fn read_value(bytes: &[u8]) -> Result<(OpId, Content), StoreError> {
    RegisterReader { reader: Reader::new(bytes, WHAT), left: 1 }.read()
}

/// What the keys of a field's values begin with that have rows of their own, by the key of its register.
///
/// The byte behind the document is none that an object's id begins with, so no map's fields are mixed with them.
pub(super) fn values_prefix(register_key: &[u8]) -> Vec<u8> {
    let (document, field) = register_key.split_at(DOCUMENT_BYTES.min(register_key.len()));
    let mut out = Vec::with_capacity(register_key.len() + 96);
    out.extend_from_slice(document);
    out.push(2);
    // The gate bounds keys to 64 KiB.
    out.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(field);
    out
}

/// The key of a value that has a row of its own. The greatest operation comes first.
pub(super) fn value_key(prefix: &[u8], id: &OpId) -> Vec<u8> {
    let mut out = Vec::with_capacity(prefix.len() + 80);
    out.extend_from_slice(prefix);
    out.extend_from_slice(&(!id.counter).to_be_bytes());
    // Upside down, and so that no actor's form is the beginning of another's: a zero is told from the end by what follows.
    for byte in id.actor.to_bytes() {
        out.push(!byte);
        if *byte == 0 {
            out.push(0);
        }
    }
    out.extend_from_slice(&[u8::MAX, u8::MAX]);
    out
}

fn put_content(out: &mut Vec<u8>, content: &Content) {
    match content {
        Content::Scalar(ScalarValue::Null) => out.push(0),
        Content::Scalar(ScalarValue::Boolean(value)) => out.push(1 + u8::from(*value)),
        Content::Scalar(ScalarValue::Uint(value)) => {
            out.push(3);
            put_uint(out, *value);
        }
        Content::Scalar(ScalarValue::Int(value)) => {
            out.push(4);
            put_int(out, *value);
        }
        Content::Scalar(ScalarValue::F64(value)) => {
            out.push(5);
            out.extend_from_slice(&value.to_le_bytes());
        }
        Content::Scalar(ScalarValue::Str(text)) => {
            out.push(6);
            put_bytes(out, text.as_bytes());
        }
        Content::Scalar(ScalarValue::Bytes(bytes)) => {
            out.push(7);
            put_bytes(out, bytes);
        }
        Content::Scalar(ScalarValue::Counter(counter)) => {
            out.push(8);
            put_int(out, counter.into());
        }
        Content::Scalar(ScalarValue::Timestamp(value)) => {
            out.push(9);
            put_int(out, *value);
        }
        Content::Scalar(ScalarValue::Unknown { type_code, bytes }) => {
            out.extend_from_slice(&[10, *type_code]);
            put_bytes(out, bytes);
        }
        Content::Object(kind) => out.extend_from_slice(&[11, kind.to_byte()]),
    }
}

/// Walks a register's operations, the winner first.
pub(super) struct RegisterReader<'r> {
    reader: Reader<'r>,
    left: u64,
}

impl<'r> RegisterReader<'r> {
    pub(super) fn new(bytes: &'r [u8]) -> Result<Self, StoreError> {
        let mut reader = Reader::new(bytes, WHAT);
        let left = reader.uint()?;
        Ok(Self { reader, left })
    }

    /// Says, after the last operation, whether there are more in rows of their own.
    pub(super) fn has_more(&self) -> bool {
        self.left == 0 && !self.reader.is_at_end()
    }

    fn read(&mut self) -> Result<(OpId, Content), StoreError> {
        let id = OpId { counter: self.reader.uint()?, actor: self.reader.actor()? };
        Ok((id, read_content(&mut self.reader)?))
    }
}

impl Iterator for RegisterReader<'_> {
    type Item = Result<(OpId, Content), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let item = self.read();
        // After a fault nothing can be found any more.
        self.left = if item.is_ok() { self.left - 1 } else { 0 };
        Some(item)
    }
}

fn read_content(reader: &mut Reader<'_>) -> Result<Content, StoreError> {
    let scalar = match reader.byte()? {
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
        10 => ScalarValue::Unknown { type_code: reader.byte()?, bytes: reader.bytes()?.to_vec() },
        11 => {
            let kind = ObjectKind::from_byte(reader.byte()?);
            return kind.map(Content::Object).ok_or_else(|| reader.damaged());
        }
        _ => return Err(reader.damaged()),
    };
    Ok(Content::Scalar(scalar))
}
