//! A whole document as JSON, as far as fields alone can tell it.

use serde_json::{Map, Value as Json};

use super::{FieldError, FieldValue, ObjectId, entries};
use crate::id::DocumentId;
use crate::limits::JSON_DEPTH_MAX;
use crate::store::{ReadTx, StoreError};
use crate::value::{key_to_json, scalar_to_json};

/// Returns a document as JSON, `None` if a list or text can be reached: then only the document itself can tell.
///
/// Every field shows its winner; see [`crate::value`] for dates and bytes. A document that is not there is an empty map,
/// as one without fields is. Cost: one scan a map.
///
/// # Errors
///
/// [`FieldError::TooDeep`] if more than [`JSON_DEPTH_MAX`] maps are nested; [`StoreError`] if the store cannot be read.
pub fn to_json(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
) -> Result<Result<Option<Json>, FieldError>, StoreError> {
    Ok(match map_to_json(tx, document, &ObjectId::Root, 0)? {
        Walked::Json(json) => Ok(Some(json)),
        Walked::Sequence => Ok(None),
        Walked::TooDeep => Err(FieldError::TooDeep),
    })
}

enum Walked {
    Json(Json),
    Sequence,
    TooDeep,
}

fn map_to_json(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    object: &ObjectId,
    depth: usize,
) -> Result<Walked, StoreError> {
    if depth > JSON_DEPTH_MAX {
        return Ok(Walked::TooDeep);
    }
    let mut map = Map::new();
    for (key, value) in entries(tx, document, object)? {
        let json = match value {
            FieldValue::Scalar(scalar) => scalar_to_json(&scalar),
            FieldValue::Object(kind, _) if !kind.is_map() => return Ok(Walked::Sequence),
            FieldValue::Object(_, child) => match map_to_json(tx, document, &child, depth + 1)? {
                Walked::Json(json) => json,
                other => return Ok(other),
            },
        };
        map.insert(key_to_json(&key).into_owned(), json);
    }
    Ok(Walked::Json(Json::Object(map)))
}
