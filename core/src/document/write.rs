//! Writing into a document in memory: elements of lists, fields of maps inside lists, texts, blocks.
//!
//! All functions work inside the caller's transaction; see [`super::Materialised::edit`].

use automerge::transaction::{Transactable, Transaction};
use automerge::{ObjId, ObjType, Prop, ROOT, ReadDoc, ScalarValue};

use super::read::prop_in;
use super::{DocumentError, FieldPath, Step};
use crate::limits::JSON_DEPTH_MAX;
use crate::value::Value;

/// What a list can hold: a field's value, or another list or text.
///
/// ```
/// use rejoin::document::Element;
///
/// let row = Element::List(vec![1.into(), "two".into(), Element::Text("three, to be edited together".into())]);
/// # let _ = row;
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Element {
    /// A scalar or a map.
    Value(Value),
    /// A new map with these fields, which may hold lists and texts. Of two entries with one key, the later stands.
    Map(Vec<(String, Element)>),
    /// A new list with these elements.
    List(Vec<Element>),
    /// A new text that merges character by character; a scalar string is replaced as a whole.
    Text(String),
}

impl<T: Into<Value>> From<T> for Element {
    fn from(value: T) -> Self {
        Self::Value(value.into())
    }
}

/// Finds the object of a wanted kind at a path, through whichever values win.
///
/// # Errors
///
/// [`DocumentError::Automerge`] if Automerge refuses.
pub fn find(
    tx: &impl ReadDoc,
    path: &[Step],
    wanted: impl Fn(ObjType) -> bool,
) -> Result<Option<ObjId>, DocumentError> {
    let mut at = (ROOT, ObjType::Map);
    for step in path {
        let Some(prop) = prop_in(at.1, step) else { return Ok(None) };
        match tx.get(&at.0, prop)? {
            Some((automerge::Value::Object(kind), id)) => at = (id, kind),
            _ => return Ok(None),
        }
    }
    Ok(wanted(at.1).then_some(at.0))
}

/// Finds a text or list, or makes an empty one where a map's field is free.
///
/// # Errors
///
/// [`DocumentError::Path`] if something else stands there, or no map leads there.
pub fn find_or_make(tx: &mut Transaction<'_>, path: &FieldPath, kind: ObjType) -> Result<ObjId, DocumentError> {
    if let Some(found) = find(tx, path.steps(), |found| found == kind)? {
        return Ok(found);
    }
    check_level(path.steps().len())?;
    let wrong = || DocumentError::Path { path: path.clone(), wanted: kind_name(kind) };
    let Some((Step::Key(key), parents)) = path.steps().split_last() else { return Err(wrong()) };
    let parent = find(tx, parents, is_map)?.ok_or_else(wrong)?;
    if tx.get(&parent, key.as_str())?.is_some() {
        return Err(wrong());
    }
    Ok(tx.put_object(&parent, key.as_str(), kind)?)
}

/// Finds a text or list that must be there.
///
/// # Errors
///
/// [`DocumentError::Path`] if it is not.
pub fn require(tx: &impl ReadDoc, path: &FieldPath, kind: ObjType) -> Result<ObjId, DocumentError> {
    let found = find(tx, path.steps(), |found| found == kind)?;
    found.ok_or_else(|| DocumentError::Path { path: path.clone(), wanted: kind_name(kind) })
}

/// Finds what holds the last step of a path, and Automerge's word for that step.
fn slot(tx: &impl ReadDoc, path: &FieldPath) -> Result<(ObjId, Prop), DocumentError> {
    let wrong = |wanted| DocumentError::Path { path: path.clone(), wanted };
    let (last, parents) = path.steps().split_last().ok_or_else(|| wrong("field"))?;
    let (wanted, kind) = match last {
        Step::Key(_) => ("map", ObjType::Map),
        Step::Index(_) => ("list", ObjType::List),
    };
    let object = find(tx, parents, |found| found == kind)?.ok_or_else(|| wrong(wanted))?;
    let prop = prop_in(kind, last).ok_or_else(|| wrong(wanted))?;
    if let Prop::Seq(index) = prop {
        let length = tx.length(&object);
        if index >= length {
            return Err(DocumentError::Index { index, length });
        }
    }
    Ok((object, prop))
}

/// Sets the field or element at a path. A scalar that is there already, without conflicts, changes nothing.
///
/// # Errors
///
/// [`DocumentError::Path`] or [`DocumentError::Index`] if there is no such place; [`DocumentError::TooDeep`].
pub fn set(tx: &mut Transaction<'_>, path: &FieldPath, element: &Element) -> Result<(), DocumentError> {
    let (object, prop) = slot(tx, path)?;
    if let Element::Value(Value::Scalar(scalar)) = element
        && !matches!(scalar, ScalarValue::Counter(_))
        && let [(automerge::Value::Scalar(found), _)] = tx.get_all(&object, prop.clone())?.as_slice()
        && found.as_ref() == scalar
    {
        return Ok(());
    }
    put(tx, &object, prop, element, false, path.steps().len())
}

/// Deletes the field or element at a path; a field that is not there is deleted already.
///
/// # Errors
///
/// [`DocumentError::Path`] or [`DocumentError::Index`] if there is no such place.
pub fn delete(tx: &mut Transaction<'_>, path: &FieldPath) -> Result<(), DocumentError> {
    let (object, prop) = slot(tx, path)?;
    if tx.get(&object, prop.clone())?.is_some() {
        tx.delete(&object, prop)?;
    }
    Ok(())
}

/// Adds to the counter at a path.
///
/// # Errors
///
/// As [`delete`]; also if no counter is there.
pub fn increment(tx: &mut Transaction<'_>, path: &FieldPath, by: i64) -> Result<(), DocumentError> {
    let (object, prop) = slot(tx, path)?;
    let is_counter = |value: &automerge::Value<'_>| matches!(value, automerge::Value::Scalar(scalar) if matches!(scalar.as_ref(), ScalarValue::Counter(_)));
    if !tx.get(&object, prop.clone())?.is_some_and(|(value, _)| is_counter(&value)) {
        return Err(DocumentError::Path { path: path.clone(), wanted: "counter" });
    }
    Ok(tx.increment(&object, prop, by)?)
}

/// Puts elements into a list before an index, or at its end. The list is made where a map's field is free.
///
/// # Errors
///
/// As [`find_or_make`]; [`DocumentError::Index`] beyond the end; [`DocumentError::TooDeep`].
pub fn insert(
    tx: &mut Transaction<'_>,
    path: &FieldPath,
    index: Option<usize>,
    elements: &[Element],
) -> Result<(), DocumentError> {
    let list = find_or_make(tx, path, ObjType::List)?;
    let length = tx.length(&list);
    let index = index.unwrap_or(length);
    if index > length {
        return Err(DocumentError::Index { index, length });
    }
    for (offset, element) in elements.iter().enumerate() {
        put(tx, &list, Prop::Seq(index + offset), element, true, path.steps().len() + 1)?;
    }
    Ok(())
}

/// Checks how many objects are around a new one, itself included: as many as JSON of the whole document can show.
fn check_level(level: usize) -> Result<(), DocumentError> {
    if level > JSON_DEPTH_MAX { Err(DocumentError::TooDeep) } else { Ok(()) }
}

/// Puts an element into an object, as a new element of a list or over what is there.
fn put(
    tx: &mut Transaction<'_>,
    object: &ObjId,
    prop: Prop,
    element: &Element,
    insert: bool,
    level: usize,
) -> Result<(), DocumentError> {
    if !matches!(element, Element::Value(Value::Scalar(_))) {
        check_level(level)?;
    }
    let mut make = |kind| match (&prop, insert) {
        (Prop::Seq(index), true) => tx.insert_object(object, *index, kind),
        _ => tx.put_object(object, prop.clone(), kind),
    };
    match element {
        Element::Value(Value::Map(fields)) => {
            let map = make(ObjType::Map)?;
            for (key, value) in fields {
                put_value(tx, &map, key, value, level + 1)?;
            }
        }
        Element::Map(fields) => {
            let map = make(ObjType::Map)?;
            for (key, element) in fields {
                put(tx, &map, Prop::Map(key.clone()), element, false, level + 1)?;
            }
        }
        Element::List(elements) => {
            let list = make(ObjType::List)?;
            for (index, element) in elements.iter().enumerate() {
                put(tx, &list, Prop::Seq(index), element, true, level + 1)?;
            }
        }
        Element::Text(text) => {
            let object = make(ObjType::Text)?;
            tx.splice_text(&object, 0, 0, text)?;
        }
        Element::Value(Value::Scalar(scalar)) => match (prop, insert) {
            (Prop::Seq(index), true) => tx.insert(object, index, scalar.clone())?,
            (prop, _) => tx.put(object, prop, scalar.clone())?,
        },
    }
    Ok(())
}

fn put_value(
    tx: &mut Transaction<'_>,
    map: &ObjId,
    key: &str,
    value: &Value,
    level: usize,
) -> Result<(), DocumentError> {
    match value {
        Value::Scalar(scalar) => Ok(tx.put(map, key, scalar.clone())?),
        Value::Map(fields) => {
            check_level(level)?;
            let object = tx.put_object(map, key, ObjType::Map)?;
            fields.iter().try_for_each(|(key, value)| put_value(tx, &object, key, value, level + 1))
        }
    }
}

/// Fills a new block with its fields.
///
/// # Errors
///
/// [`DocumentError::TooDeep`].
pub fn fill_block(tx: &mut Transaction<'_>, block: &ObjId, fields: &[(String, Element)]) -> Result<(), DocumentError> {
    fields.iter().try_for_each(|(key, element)| put(tx, block, Prop::Map(key.clone()), element, false, 1))
}

/// Checks that a block stands at an index of a text: Automerge would delete whatever stands there.
///
/// # Errors
///
/// [`DocumentError::NoBlock`] if none does.
pub fn require_block(tx: &impl ReadDoc, text: &ObjId, index: usize) -> Result<(), DocumentError> {
    match tx.get(text, index)? {
        Some((automerge::Value::Object(ObjType::Map), _)) => Ok(()),
        _ => Err(DocumentError::NoBlock { index }),
    }
}

fn is_map(kind: ObjType) -> bool {
    kind == ObjType::Map
}

fn kind_name(kind: ObjType) -> &'static str {
    match kind {
        ObjType::Map => "map",
        ObjType::Table => "table",
        ObjType::List => "list",
        ObjType::Text => "text",
    }
}
