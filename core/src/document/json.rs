//! A document as JSON, lists and text included. The mapping of scalars is that of [`crate::value`].

use automerge::{Automerge, ObjId, ObjType, ReadDoc, Value};
use serde_json::{Map, Value as Json};

use super::{DocumentError, Reader};
use crate::limits::JSON_DEPTH_MAX;
use crate::value::{key_to_json, scalar_to_json};

/// Returns the whole document as JSON.
///
/// # Errors
///
/// [`DocumentError`] if it is nested deeper than [`JSON_DEPTH_MAX`].
pub fn to_json(automerge: &Automerge) -> Result<Json, DocumentError> {
    Reader::now(automerge).to_json()
}

/// Returns one object with all that is in it, as the reader sees it.
pub(super) fn object_to_json(reader: &Reader<'_>, object: &ObjId, kind: ObjType) -> Result<Json, DocumentError> {
    // The root, then as many levels as the registers' JSON has.
    nested(reader, object, kind, JSON_DEPTH_MAX + 1)
}

fn nested(reader: &Reader<'_>, object: &ObjId, kind: ObjType, depth: usize) -> Result<Json, DocumentError> {
    let depth = depth.checked_sub(1).ok_or(DocumentError::TooDeep)?;
    let automerge = reader.automerge();
    Ok(match kind {
        ObjType::Map | ObjType::Table => {
            let mut map = Map::new();
            let items = match reader.heads() {
                Some(heads) => automerge.map_range_at(object, .., heads),
                None => automerge.map_range(object, ..),
            };
            for item in items {
                let value = item.value.clone().into_value();
                map.insert(key_to_json(&item.key).into_owned(), value_to_json(reader, &item.id(), &value, depth)?);
            }
            Json::Object(map)
        }
        ObjType::List => {
            let mut list = Vec::new();
            let items = match reader.heads() {
                Some(heads) => automerge.list_range_at(object, .., heads),
                None => automerge.list_range(object, ..),
            };
            for item in items {
                let value = item.value.clone().into_value();
                list.push(value_to_json(reader, &item.id(), &value, depth)?);
            }
            Json::Array(list)
        }
        ObjType::Text => Json::String(reader.text_of(object)?),
    })
}

fn value_to_json(reader: &Reader<'_>, id: &ObjId, value: &Value<'_>, depth: usize) -> Result<Json, DocumentError> {
    match value {
        Value::Object(kind) => nested(reader, id, *kind, depth),
        Value::Scalar(scalar) => Ok(scalar_to_json(scalar)),
    }
}
