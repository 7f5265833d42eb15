//! Reading fields: one look-up for one field, one scan for a map.

use std::ops::ControlFlow;

use super::record::{Content, RegisterReader, decode_object_kind, field_of_key, object_key, set_register_key};
use super::values::Values;
use super::{FieldValue, ObjectId, ObjectKind};
use crate::id::{DocumentId, OpId};
use crate::limits::FIELD_VALUES_MAX;
use crate::store::record::prefix_end;
use crate::store::{ReadTx, StoreError, Table};

/// Returns what stands in a field: the winner of its visible operations. Cost: one look-up.
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
    let Some(bytes) = register(tx, document, object, key)? else { return Ok(None) };
    winner(&bytes)
}

/// Returns what stands in a field with the operation that put it there, the winner first; more than one after concurrent
/// writes, and of those the greatest [`FIELD_VALUES_MAX`]. Cost: one look-up, and a scan where they are more than 64 or take
/// more than 16 KiB.
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
    let mut register_key = Vec::with_capacity(96);
    set_register_key(&mut register_key, document, object, key);
    let Some(row) = tx.get(Table::Register, &register_key)? else { return Ok(Vec::new()) };
    let mut values = Values::read(&register_key, &row)?;
    values.load_greatest(tx, FIELD_VALUES_MAX)?;
    let with_value = |(id, content): (OpId, Content)| {
        let value = content.into_value(&id);
        (id, value)
    };
    Ok(values.ops.into_iter().rev().map(with_value).collect())
}

/// Returns the keys of a map that hold something, sorted by their bytes. Cost: one visit a key.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn keys(tx: &(impl ReadTx + ?Sized), document: &DocumentId, object: &ObjectId) -> Result<Vec<String>, StoreError> {
    scan(tx, document, object, |key, _| Ok(key))
}

/// Returns the fields of a map and what stands in them, sorted by key. Cost: one visit a field.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn entries(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    object: &ObjectId,
) -> Result<Vec<(String, FieldValue)>, StoreError> {
    scan(tx, document, object, |key, bytes| {
        let value = winner(bytes)?.ok_or(StoreError::Damaged { what: "register-1" })?;
        Ok((key, value))
    })
}

/// Returns the object at the end of a path of keys from the root, through whichever maps win; `None` if a key holds no
/// object. The last object may be of any kind. Cost: one look-up a key.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn resolve(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    path: &[&str],
) -> Result<Option<ObjectId>, StoreError> {
    let mut at = ObjectId::Root;
    let mut kind = ObjectKind::Map;
    for key in path {
        if !kind.is_map() {
            return Ok(None);
        }
        match get(tx, document, &at, key)? {
            Some(FieldValue::Object(next_kind, next)) => (kind, at) = (next_kind, next),
            _ => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// Returns what kind of object an id names, `None` if the document has no such object. Cost: one look-up.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn object_kind(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    object: &ObjectId,
) -> Result<Option<ObjectKind>, StoreError> {
    if *object == ObjectId::Root {
        return Ok(Some(ObjectKind::Map));
    }
    let found = tx.get(Table::Object, &object_key(document, object))?;
    found.map(|bytes| decode_object_kind(&bytes)).transpose()
}

fn register(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    object: &ObjectId,
    key: &str,
) -> Result<Option<Vec<u8>>, StoreError> {
    let mut register_key = Vec::with_capacity(96);
    set_register_key(&mut register_key, document, object, key);
    tx.get(Table::Register, &register_key)
}

fn winner(bytes: &[u8]) -> Result<Option<FieldValue>, StoreError> {
    #[cfg(all(feature = "repo", feature = "testing", not(target_family = "wasm")))]
    if crate::runtime::simulated::is_broken(crate::runtime::simulated::Broken::LoserWins) {
        let last = RegisterReader::new(bytes)?.last().transpose()?;
        return Ok(last.map(|(id, content)| content.into_value(&id)));
    }
    let Some(first) = RegisterReader::new(bytes)?.next() else { return Ok(None) };
    let (id, content) = first?;
    Ok(Some(content.into_value(&id)))
}

fn scan<T>(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    object: &ObjectId,
    mut read: impl FnMut(String, &[u8]) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let prefix = object_key(document, object);
    let mut found = Vec::new();
    let mut failed = None;
    tx.scan(Table::Register, &prefix..&prefix_end(&prefix), &mut |key, bytes| {
        match field_of_key(key).and_then(|field| read(field.key, bytes)) {
            Ok(item) => found.push(item),
            Err(error) => {
                failed = Some(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    failed.map_or(Ok(found), Err)
}
