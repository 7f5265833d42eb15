//! Edits: the operations of a request, as field writes where those suffice, else in one transaction of the document.

use automerge::marks::Mark;
use automerge::transaction::{Transactable, Transaction};
use automerge::{ObjType, ReadDoc, ScalarValue};
use rejoin::document::write::{self, fill_block, find, find_or_make, require, require_block};
use rejoin::document::{DocumentError, Element, Expand, FieldPath};
use rejoin::fields::{Edit, EditAction, FieldValue, ObjectKind, Target};
use rejoin::store::{ReadTx, StoreError};
use rejoin::{DocumentId, RepoError, Value, fields};
use serde_json::Value as Json;

use crate::errors::Failure;
use crate::requests::Args;
use crate::values;

/// One operation of an edit.
#[derive(Debug, Clone, PartialEq)]
pub struct Op {
    path: FieldPath,
    what: What,
}

#[derive(Debug, Clone, PartialEq)]
enum What {
    Set(Element),
    Delete,
    Increment(i64),
    Insert(usize, Vec<Element>),
    Remove(usize, usize),
    Splice(usize, usize, String),
    Update(String),
    Mark { start: usize, end: usize, name: String, value: ScalarValue, expand: Expand },
    Split(usize, Vec<(String, Element)>),
    Join(usize),
    Block(usize, Vec<(String, Element)>),
}

/// Reads the operations of an edit.
///
/// # Errors
///
/// `bad_argument` or `bad_value`.
pub fn parse(ops: Vec<Json>) -> Result<Vec<Op>, Failure> {
    ops.into_iter().map(parse_one).collect()
}

fn parse_one(op: Json) -> Result<Op, Failure> {
    let Json::Array(op) = op else { return Err(Failure::argument("an operation is no list")) };
    let mut args = Args::of(op);
    let name = args.string()?;
    let path = args.path()?;
    let what = match name.as_str() {
        "set" => What::Set(values::from_json(args.json())?),
        "delete" => What::Delete,
        "increment" => What::Increment(args.integer()?),
        "insert" => {
            let index = args.index()?;
            let elements = args.list()?.into_iter().map(values::from_json);
            What::Insert(index, elements.collect::<Result<_, _>>()?)
        }
        "remove" => What::Remove(args.index()?, args.index()?),
        "splice" => What::Splice(args.index()?, args.index()?, args.string()?),
        "update" => What::Update(args.string()?),
        "mark" => {
            let (start, end, name, value) = (args.index()?, args.index()?, args.string()?, scalar(args.json())?);
            What::Mark { start, end, name, value, expand: expand(&mut args)? }
        }
        "unmark" => {
            let (start, end, name) = (args.index()?, args.index()?, args.string()?);
            What::Mark { start, end, name, value: ScalarValue::Null, expand: expand(&mut args)? }
        }
        "split" => What::Split(args.index()?, block(args.json())?),
        "join" => What::Join(args.index()?),
        "block" => What::Block(args.index()?, block(args.json())?),
        other => return Err(Failure::new("unsupported", format!("there is no operation {other:?}"))),
    };
    if path.steps().is_empty() {
        return Err(Failure::new("wrong_path", "the path of an operation is empty: name a field of the document"));
    }
    Ok(Op { path, what })
}

fn scalar(json: Json) -> Result<ScalarValue, Failure> {
    match values::from_json(json)? {
        Element::Value(Value::Scalar(scalar)) => Ok(scalar),
        _ => Err(Failure::new("bad_value", "a mark's value is no list or map")),
    }
}

fn expand(args: &mut Args) -> Result<Expand, Failure> {
    Ok(match args.string_or_null()?.as_deref() {
        Some("none") => Expand::None,
        Some("before") => Expand::Before,
        Some("both") => Expand::Both,
        None | Some("after") => Expand::After,
        Some(_) => return Err(Failure::argument("expand is one of none, before, after and both")),
    })
}

fn block(json: Json) -> Result<Vec<(String, Element)>, Failure> {
    match values::from_json(json)? {
        Element::Map(fields) => Ok(fields),
        _ => Err(Failure::new("bad_value", "a block is a map")),
    }
}

/// Turns the operations into field writes; gives them back if they need the document.
///
/// # Errors
///
/// The operations themselves.
pub fn as_fields(ops: Vec<Op>) -> Result<Vec<Edit>, Vec<Op>> {
    let is_field = |op: &Op| match &op.what {
        What::Set(element) => op.path.is_keys() && values::into_value(element.clone()).is_ok(),
        What::Delete | What::Increment(_) => op.path.is_keys(),
        _ => false,
    };
    if !ops.iter().all(is_field) {
        return Err(ops);
    }
    let edits = ops.into_iter().filter_map(|op| {
        let (parents, key) = op.path.split_last_key()?;
        let action = match op.what {
            What::Set(element) => EditAction::Set(values::into_value(element).ok()?),
            What::Delete => EditAction::Delete,
            What::Increment(by) => EditAction::Increment(by),
            _ => return None,
        };
        Some(Edit::new(Target::Path(parents), key, action))
    });
    Ok(edits.collect())
}

/// Says whether an operation sets a string where a text may stand.
pub fn sets_string(ops: &[Op]) -> bool {
    ops.iter().any(|op| matches!(&op.what, What::Set(Element::Value(Value::Scalar(ScalarValue::Str(_))))))
}

/// Says whether a string is to be set where a text stands: that updates the text. Cost: one look-up a key.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn meets_text(tx: &dyn ReadTx, document: &DocumentId, ops: &[Op]) -> Result<bool, StoreError> {
    for op in ops {
        if !sets_string(std::slice::from_ref(op)) {
            continue;
        }
        let keys = op.path.keys();
        let Some((last, parents)) = keys.split_last() else { continue };
        let Some(object) = fields::resolve(tx, document, parents)? else { continue };
        if let Some(FieldValue::Object(ObjectKind::Text, _)) = fields::get(tx, document, &object, last)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Applies the operations in their order.
///
/// # Errors
///
/// [`RepoError::Document`] if one does not fit: give the transaction up then.
pub fn apply(tx: &mut Transaction<'_>, ops: &[Op]) -> Result<(), RepoError> {
    ops.iter().try_for_each(|op| apply_one(tx, op)).map_err(RepoError::from)
}

fn apply_one(tx: &mut Transaction<'_>, op: &Op) -> Result<(), DocumentError> {
    let path = &op.path;
    match &op.what {
        What::Set(element) => {
            if let Element::Value(Value::Scalar(ScalarValue::Str(new))) = element
                && let Some(text) = find(tx, path.steps(), |kind| kind == ObjType::Text)?
            {
                return Ok(tx.update_text(&text, new.as_str())?);
            }
            write::set(tx, path, element)
        }
        What::Delete => write::delete(tx, path),
        What::Increment(by) => write::increment(tx, path, *by),
        What::Insert(index, elements) => write::insert(tx, path, Some(*index), elements),
        What::Remove(index, count) => {
            let list = require(tx, path, ObjType::List)?;
            within(*index, *count, tx.length(&list))?;
            (0..*count).try_for_each(|_| Ok(tx.delete(&list, *index)?))
        }
        What::Splice(index, delete, insert) => {
            let text = find_or_make(tx, path, ObjType::Text)?;
            within(*index, *delete, tx.length(&text))?;
            let delete = isize::try_from(*delete).unwrap_or(isize::MAX);
            Ok(tx.splice_text(&text, *index, delete, insert)?)
        }
        What::Update(new) => {
            let text = find_or_make(tx, path, ObjType::Text)?;
            Ok(tx.update_text(&text, new)?)
        }
        What::Mark { start, end, name, value, expand } => {
            let text = require(tx, path, ObjType::Text)?;
            let length = tx.length(&text);
            if start >= end || *end > length {
                return Err(DocumentError::Range { range: *start..*end, length });
            }
            if matches!(value, ScalarValue::Null) {
                return Ok(tx.unmark(&text, name, *start, *end, expand.to_automerge())?);
            }
            let mark = Mark::new(name.clone(), value.clone(), *start, *end);
            Ok(tx.mark(&text, mark, expand.to_automerge())?)
        }
        What::Split(index, fields) => {
            let text = require(tx, path, ObjType::Text)?;
            within(*index, 0, tx.length(&text))?;
            let block = tx.split_block(&text, *index)?;
            fill_block(tx, &block, fields)
        }
        What::Join(index) => {
            let text = require(tx, path, ObjType::Text)?;
            require_block(tx, &text, *index)?;
            Ok(tx.join_block(&text, *index)?)
        }
        What::Block(index, fields) => {
            let text = require(tx, path, ObjType::Text)?;
            require_block(tx, &text, *index)?;
            let block = tx.replace_block(&text, *index)?;
            fill_block(tx, &block, fields)
        }
    }
}

fn within(index: usize, count: usize, length: usize) -> Result<(), DocumentError> {
    match index.checked_add(count) {
        Some(end) if end <= length => Ok(()),
        _ => Err(DocumentError::Index { index: index.saturating_add(count), length }),
    }
}
