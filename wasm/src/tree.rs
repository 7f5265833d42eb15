//! Reading documents as tagged JSON: from the register table as long as there are only maps, else from the loaded document.

use std::collections::HashMap;

use automerge::{Automerge, ChangeHash, ObjId, ObjType, Prop, ROOT, ReadDoc, Value};
use rejoin::DocumentId;
use rejoin::document::{DocumentError, FieldPath, Step};
use rejoin::fields::{self, FieldValue, ObjectId};
use rejoin::limits::JSON_DEPTH_MAX;
use rejoin::store::{ReadTx, StoreError};
use serde_json::{Map, Value as Json};

use crate::values::{key_to_json, scalar_to_json};

/// Where each map stands: in which field of which other map.
pub type Parents = HashMap<ObjectId, (ObjectId, String)>;

/// Why the register table alone has no answer.
#[derive(Debug)]
pub enum Stop {
    /// The store failed.
    Store(StoreError),
    /// There is a list or a text: only the document itself can tell.
    Sequence,
    /// The document is nested too deep.
    TooDeep,
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Returns a map with all that is in it, and notes where each map in it stands. Cost: one scan a map.
///
/// # Errors
///
/// [`Stop`].
pub fn map_of_fields(
    tx: &dyn ReadTx,
    document: &DocumentId,
    object: &ObjectId,
    depth: usize,
    parents: &mut Parents,
) -> Result<Json, Stop> {
    if depth > JSON_DEPTH_MAX {
        return Err(Stop::TooDeep);
    }
    let mut map = Map::new();
    for (key, value) in fields::entries(tx, document, object)? {
        let json = field(tx, document, (object, &key), value, depth, parents)?;
        map.insert(key_to_json(&key).into_owned(), json);
    }
    Ok(Json::Object(map))
}

/// Returns what stands in a field, as [`map_of_fields`] does.
///
/// # Errors
///
/// [`Stop`].
pub fn field(
    tx: &dyn ReadTx,
    document: &DocumentId,
    (object, key): (&ObjectId, &str),
    value: FieldValue,
    depth: usize,
    parents: &mut Parents,
) -> Result<Json, Stop> {
    match value {
        FieldValue::Scalar(scalar) => Ok(scalar_to_json(&scalar)),
        FieldValue::Object(kind, _) if !kind.is_map() => Err(Stop::Sequence),
        FieldValue::Object(_, child) => {
            let json = map_of_fields(tx, document, &child, depth + 1, parents)?;
            parents.insert(child, (object.clone(), key.to_owned()));
            Ok(json)
        }
    }
}

/// Returns what stands at a path of keys; `None` if nothing does.
///
/// # Errors
///
/// [`Stop`].
pub fn path_of_fields(tx: &dyn ReadTx, document: &DocumentId, path: &FieldPath) -> Result<Option<Json>, Stop> {
    let keys = path.keys();
    let Some((last, parents)) = keys.split_last() else {
        return map_of_fields(tx, document, &ObjectId::Root, 0, &mut Parents::new()).map(Some);
    };
    let Some(object) = fields::resolve(tx, document, parents)? else { return Ok(None) };
    let Some(value) = fields::get(tx, document, &object, last)? else { return Ok(None) };
    field(tx, document, (&object, last), value, keys.len(), &mut Parents::new()).map(Some)
}

/// A look at a loaded document, now or at some heads that it holds.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// The document.
    pub automerge: &'a Automerge,
    /// At which heads, if not now.
    pub heads: Option<&'a [ChangeHash]>,
}

impl Look<'_> {
    /// Returns the whole document.
    ///
    /// # Errors
    ///
    /// [`DocumentError::TooDeep`], as for the others.
    pub fn root(&self) -> Result<Json, DocumentError> {
        self.object(&ROOT, ObjType::Map, JSON_DEPTH_MAX + 1)
    }

    /// Returns a value with all that is in it; `id` is the operation that put it there.
    ///
    /// # Errors
    ///
    /// [`DocumentError::TooDeep`].
    pub fn value(&self, value: &Value<'_>, id: &ObjId) -> Result<Json, DocumentError> {
        self.nested(value, id, JSON_DEPTH_MAX + 1)
    }

    fn nested(&self, value: &Value<'_>, id: &ObjId, depth: usize) -> Result<Json, DocumentError> {
        match value {
            Value::Object(kind) => self.object(id, *kind, depth),
            Value::Scalar(scalar) => Ok(scalar_to_json(scalar)),
        }
    }

    fn object(&self, object: &ObjId, kind: ObjType, depth: usize) -> Result<Json, DocumentError> {
        let depth = depth.checked_sub(1).ok_or(DocumentError::TooDeep)?;
        Ok(match kind {
            ObjType::Map | ObjType::Table => {
                let items = match self.heads {
                    Some(heads) => self.automerge.map_range_at(object, .., heads),
                    None => self.automerge.map_range(object, ..),
                };
                let fields = items.map(|item| {
                    let value = self.nested(&item.value.clone().into_value(), &item.id(), depth)?;
                    Ok((key_to_json(&item.key).into_owned(), value))
                });
                Json::Object(fields.collect::<Result<_, DocumentError>>()?)
            }
            ObjType::List => {
                let items = match self.heads {
                    Some(heads) => self.automerge.list_range_at(object, .., heads),
                    None => self.automerge.list_range(object, ..),
                };
                let values = items.map(|item| self.nested(&item.value.clone().into_value(), &item.id(), depth));
                Json::Array(values.collect::<Result<_, _>>()?)
            }
            ObjType::Text => Json::String(self.text(object)?),
        })
    }

    /// Returns a text.
    ///
    /// # Errors
    ///
    /// [`DocumentError::Automerge`] if it is none.
    pub fn text(&self, text: &ObjId) -> Result<String, DocumentError> {
        Ok(match self.heads {
            Some(heads) => self.automerge.text_at(text, heads)?,
            None => self.automerge.text(text)?,
        })
    }

    /// Returns everything at a path, the winner first.
    ///
    /// # Errors
    ///
    /// [`DocumentError`].
    pub fn all(&self, path: &[Step]) -> Result<Vec<(ObjId, Json)>, DocumentError> {
        let Some((last, parents)) = path.split_last() else { return Ok(vec![(ROOT, self.root()?)]) };
        let mut at = (ROOT, ObjType::Map);
        for step in parents {
            match self.get_all(&at, step)?.pop() {
                Some((Value::Object(kind), id)) => at = (id, kind),
                _ => return Ok(Vec::new()),
            }
        }
        let found = self.get_all(&at, last)?.into_iter().rev();
        found.map(|(value, id)| self.value(&value, &id).map(|json| (id, json))).collect()
    }

    fn get_all(&self, at: &(ObjId, ObjType), step: &Step) -> Result<Vec<(Value<'_>, ObjId)>, DocumentError> {
        let prop = match (at.1, step) {
            (ObjType::Map | ObjType::Table, Step::Key(key)) => Prop::Map(key.clone()),
            (ObjType::List, Step::Index(index)) => Prop::Seq(*index),
            _ => return Ok(Vec::new()),
        };
        Ok(match self.heads {
            Some(heads) => self.automerge.get_all_at(&at.0, prop, heads)?,
            None => self.automerge.get_all(&at.0, prop)?,
        })
    }
}
