//! A document as JSON, lists and text included. The mapping of scalars is that of [`crate::value`].

use automerge::{Automerge, ObjId, ObjType, ROOT, ReadDoc, Value};
use serde_json::{Map, Value as Json};

use super::DocumentError;
use crate::limits::JSON_DEPTH_MAX;
use crate::value::scalar_to_json;

/// Returns the whole document as JSON.
///
/// # Errors
///
/// [`DocumentError`] if it is nested deeper than [`JSON_DEPTH_MAX`].
pub fn to_json(automerge: &Automerge) -> Result<Json, DocumentError> {
    object_to_json(automerge, &ROOT, ObjType::Map, JSON_DEPTH_MAX)
}

fn object_to_json(automerge: &Automerge, object: &ObjId, kind: ObjType, depth: usize) -> Result<Json, DocumentError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(DocumentError::Refused(format!("it is nested deeper than {JSON_DEPTH_MAX} levels")));
    };
    Ok(match kind {
        ObjType::Map | ObjType::Table => {
            let mut map = Map::new();
            for item in automerge.map_range(object, ..) {
                let value = item.value.clone().into_value();
                map.insert(item.key.to_string(), value_to_json(automerge, &item.id(), &value, depth)?);
            }
            Json::Object(map)
        }
        ObjType::List => {
            let mut list = Vec::new();
            for item in automerge.list_range(object, ..) {
                let value = item.value.clone().into_value();
                list.push(value_to_json(automerge, &item.id(), &value, depth)?);
            }
            Json::Array(list)
        }
        ObjType::Text => Json::String(automerge.text(object)?),
    })
}

fn value_to_json(automerge: &Automerge, id: &ObjId, value: &Value<'_>, depth: usize) -> Result<Json, DocumentError> {
    match value {
        Value::Object(kind) => object_to_json(automerge, id, *kind, depth),
        Value::Scalar(scalar) => Ok(scalar_to_json(scalar)),
    }
}
