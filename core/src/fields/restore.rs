//! Restoring: registers from what a document shows, instead of from its operations.

use super::record::{Content, encode_object, object_key, set_register_key};
use super::values::Values;
use super::{FieldValue, ObjectId, ObjectKind};
use crate::id::{DocumentId, OpId};
use crate::store::{StoreError, Table, WriteTx};

/// A field with its values, the winner first: its map, its key.
pub type ShownField = (ObjectId, String, Vec<(OpId, FieldValue)>);

/// Writes the registers and objects of a document that has none yet. Cost: one put for each.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn restore(
    tx: &mut dyn WriteTx,
    document: &DocumentId,
    fields: Vec<ShownField>,
    objects: &[(ObjectId, ObjectKind, ObjectId)],
) -> Result<(), StoreError> {
    let mut register_key = Vec::with_capacity(96);
    for (object, key, values) in fields {
        let content = |value| match value {
            FieldValue::Scalar(scalar) => Content::Scalar(scalar),
            FieldValue::Object(kind, _) => Content::Object(kind),
        };
        set_register_key(&mut register_key, document, &object, &key);
        Values::from_iter(values.into_iter().map(|(id, value)| (id, content(value)))).write(tx, &register_key)?;
    }
    for (object, kind, parent) in objects {
        tx.put(Table::Object, &object_key(document, object), &encode_object(*kind, parent))?;
    }
    Ok(())
}
