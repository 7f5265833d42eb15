//! Reading fields: lookups in the register table.

use std::ops::ControlFlow;

use serde_json::{Map, Value as Json};

use super::object::ObjectId;
use super::register::{FieldValue, Register};
use super::write::FieldError;
use crate::id::{DocumentId, OpId};
use crate::limits::JSON_DEPTH_MAX;
use crate::store::record::prefix_end;
use crate::store::{ReadTx, StoreError, Table};
use crate::value::scalar_to_json;

/// Returns a field's value: the winner, or `None`. Cost: one lookup.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn get(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    object: &ObjectId,
    key: &str,
) -> Result<Option<FieldValue>, StoreError> {
    Ok(Register::load(tx, document, object, key)?.visible.first().map(super::register::Visible::field_value))
}

/// Returns a field's visible values: the winner first, then its conflicts. Cost: one lookup.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn get_all(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    object: &ObjectId,
    key: &str,
) -> Result<Vec<(OpId, FieldValue)>, StoreError> {
    let register = Register::load(tx, document, object, key)?;
    Ok(register.visible.into_iter().map(|visible| (visible.op.clone(), visible.field_value())).collect())
}

/// Returns a map's fields with their winners, by key. Cost: one visit each.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn entries(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    object: &ObjectId,
) -> Result<Vec<(String, FieldValue)>, StoreError> {
    let prefix = object.key(document);
    let mut entries = Ok(Vec::new());
    tx.scan(Table::Register, &prefix..&prefix_end(&prefix), &mut |key, value| {
        let entry = Register::decode(value).and_then(|register| {
            let key =
                std::str::from_utf8(&key[prefix.len()..]).map_err(|_| StoreError::Damaged { what: "register-1" })?;
            Ok(register.visible.first().map(|visible| (key.to_owned(), visible.field_value())))
        });
        match (&mut entries, entry) {
            (Ok(entries), Ok(entry)) => {
                entries.extend(entry);
                ControlFlow::Continue(())
            }
            (_, Err(error)) => {
                entries = Err(error);
                ControlFlow::Break(())
            }
            (Err(_), Ok(_)) => ControlFlow::Break(()),
        }
    })?;
    entries
}

/// Returns a map's keys, sorted. Cost: one visit each.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn keys(tx: &(impl ReadTx + ?Sized), document: &DocumentId, object: &ObjectId) -> Result<Vec<String>, StoreError> {
    Ok(entries(tx, document, object)?.into_iter().map(|(key, _)| key).collect())
}

/// Walks the winners down a path of keys to a map; `None` if one of them is no map.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn resolve(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    path: &[&str],
) -> Result<Option<ObjectId>, StoreError> {
    let mut object = ObjectId::Root;
    for key in path {
        match get(tx, document, &object, key)? {
            Some(FieldValue::Object(kind, id)) if kind.has_fields() => object = id,
            _ => return Ok(None),
        }
    }
    Ok(Some(object))
}

/// Returns a document as JSON, or `None` if it shows a list or a text: those need the document itself.
///
/// # Errors
///
/// [`FieldError::TooDeep`] if maps are nested deeper than [`JSON_DEPTH_MAX`], [`FieldError::Store`] if the store cannot
/// be read.
pub fn to_json(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<Option<Json>, FieldError> {
    object_to_json(tx, document, &ObjectId::Root, JSON_DEPTH_MAX)
}

fn object_to_json(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    object: &ObjectId,
    depth: usize,
) -> Result<Option<Json>, FieldError> {
    let Some(depth) = depth.checked_sub(1) else { return Err(FieldError::TooDeep) };
    let mut map = Map::new();
    for (key, value) in entries(tx, document, object)? {
        let json = match value {
            FieldValue::Scalar(scalar) => scalar_to_json(&scalar),
            FieldValue::Object(kind, id) if kind.has_fields() => match object_to_json(tx, document, &id, depth)? {
                Some(json) => json,
                None => return Ok(None),
            },
            FieldValue::Object(..) => return Ok(None),
        };
        map.insert(key, json);
    }
    Ok(Some(Json::Object(map)))
}
