//! Reading a document in memory, as it is now or as it was at some heads, by the same words.

use std::collections::BTreeMap;

use automerge::{Automerge, ChangeHash, MoveCursor, ObjId, ObjType, Prop, ROOT, ReadDoc, ScalarValue, Value};

use super::rich::{Cursor, CursorMove, Mark, Span, marks_of};
use super::{DocumentError, FieldPath, Step, guarded, json};
use crate::fields::{FieldValue, ObjectId, ObjectKind};
use crate::id::OpId;

/// A look at a document: now, or at some heads.
///
/// Paths go through whichever values win. What a path does not lead to is `None` or empty, not an error.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    automerge: &'a Automerge,
    heads: Option<&'a [ChangeHash]>,
}

impl<'a> Reader<'a> {
    /// Looks at the document as it is.
    pub fn now(automerge: &'a Automerge) -> Self {
        Self { automerge, heads: None }
    }

    /// Looks at the document as it was at some heads; at none, it is empty.
    ///
    /// # Errors
    ///
    /// [`DocumentError::UnknownHeads`] names those that the document lacks.
    pub fn at(automerge: &'a Automerge, heads: &'a [ChangeHash]) -> Result<Self, DocumentError> {
        check_heads(automerge, heads)?;
        Ok(Self { automerge, heads: Some(heads) })
    }

    /// Finds the object at a path.
    pub(crate) fn object(&self, path: &[Step]) -> Result<Option<(ObjId, ObjType)>, DocumentError> {
        let mut at = (ROOT, ObjType::Map);
        for step in path {
            let Some(prop) = prop_in(at.1, step) else { return Ok(None) };
            match self.get_prop(&at.0, prop)? {
                Some((Value::Object(kind), id)) => at = (id, kind),
                _ => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    fn text_object(&self, path: &FieldPath) -> Result<Option<ObjId>, DocumentError> {
        let found = self.object(path.steps())?;
        Ok(found.filter(|(_, kind)| *kind == ObjType::Text).map(|(id, _)| id))
    }

    fn get_prop(&self, object: &ObjId, prop: Prop) -> Result<Option<(Value<'_>, ObjId)>, DocumentError> {
        Ok(match self.heads {
            Some(heads) => self.automerge.get_at(object, prop, heads)?,
            None => self.automerge.get(object, prop)?,
        })
    }

    /// Returns everything that stands at a path, the winner first: more than one after concurrent writes.
    ///
    /// # Errors
    ///
    /// [`DocumentError`] if Automerge refuses.
    pub fn get_all(&self, path: &FieldPath) -> Result<Vec<(OpId, FieldValue)>, DocumentError> {
        let Some((last, parents)) = path.steps().split_last() else { return Ok(Vec::new()) };
        let Some((object, kind)) = self.object(parents)? else { return Ok(Vec::new()) };
        let Some(prop) = prop_in(kind, last) else { return Ok(Vec::new()) };
        let found = match self.heads {
            Some(heads) => self.automerge.get_all_at(&object, prop, heads)?,
            None => self.automerge.get_all(&object, prop)?,
        };
        // Automerge sorts them the other way round.
        Ok(found.into_iter().rev().filter_map(|(value, id)| field_value(&value, &id)).collect())
    }

    /// Returns what stands at a path: the winner.
    ///
    /// # Errors
    ///
    /// As [`Reader::get_all`].
    pub fn get(&self, path: &FieldPath) -> Result<Option<FieldValue>, DocumentError> {
        Ok(self.get_all(path)?.into_iter().next().map(|(_, value)| value))
    }

    /// Returns the keys of a map, sorted.
    ///
    /// # Errors
    ///
    /// As [`Reader::get_all`].
    pub fn keys(&self, path: &FieldPath) -> Result<Vec<String>, DocumentError> {
        Ok(match (self.object(path.steps())?, self.heads) {
            (Some((object, ObjType::Map | ObjType::Table)), Some(heads)) => {
                self.automerge.keys_at(object, heads).collect()
            }
            (Some((object, ObjType::Map | ObjType::Table)), None) => self.automerge.keys(object).collect(),
            _ => Vec::new(),
        })
    }

    /// Returns how many elements a list has; `None` if there is no list.
    ///
    /// # Errors
    ///
    /// As [`Reader::get_all`].
    pub fn list_len(&self, path: &FieldPath) -> Result<Option<usize>, DocumentError> {
        Ok(match self.object(path.steps())? {
            Some((object, ObjType::List)) => Some(self.len_of(&object)),
            _ => None,
        })
    }

    fn len_of(&self, object: &ObjId) -> usize {
        match self.heads {
            Some(heads) => self.automerge.length_at(object, heads),
            None => self.automerge.length(object),
        }
    }

    /// Returns the whole document as JSON; [`crate::value`] says how.
    ///
    /// # Errors
    ///
    /// [`DocumentError::TooDeep`].
    pub fn to_json(&self) -> Result<serde_json::Value, DocumentError> {
        json::object_to_json(self, &ROOT, ObjType::Map)
    }

    /// Returns what stands at a path as JSON, or `None`.
    ///
    /// # Errors
    ///
    /// As [`Reader::to_json`].
    pub fn json_of(&self, path: &FieldPath) -> Result<Option<serde_json::Value>, DocumentError> {
        if path.steps().is_empty() {
            return self.to_json().map(Some);
        }
        if let Some((object, kind)) = self.object(path.steps())? {
            return json::object_to_json(self, &object, kind).map(Some);
        }
        Ok(self.get(path)?.and_then(|value| match value {
            FieldValue::Scalar(scalar) => Some(crate::value::scalar_to_json(&scalar)),
            FieldValue::Object(..) => None,
        }))
    }

    /// Returns a text, or `None` if there is none at that path. Blocks stand in it as U+FFFC.
    ///
    /// # Errors
    ///
    /// As [`Reader::get_all`].
    pub fn text(&self, path: &FieldPath) -> Result<Option<String>, DocumentError> {
        self.text_object(path)?.map(|object| self.text_of(&object)).transpose()
    }

    pub(crate) fn text_of(&self, object: &ObjId) -> Result<String, DocumentError> {
        Ok(match self.heads {
            Some(heads) => self.automerge.text_at(object, heads)?,
            None => self.automerge.text(object)?,
        })
    }

    /// Returns the marks of a text, by where they begin; `None` if there is no text.
    ///
    /// # Errors
    ///
    /// As [`Reader::get_all`].
    pub fn marks(&self, path: &FieldPath) -> Result<Option<Vec<Mark>>, DocumentError> {
        let Some(object) = self.text_object(path)? else { return Ok(None) };
        let marks = match self.heads {
            Some(heads) => self.automerge.marks_at(&object, heads)?,
            None => self.automerge.marks(&object)?,
        };
        let mut marks: Vec<Mark> = marks.into_iter().map(Mark::from).collect();
        marks.sort_by(|left, right| {
            (left.range.start, left.range.end, &left.name).cmp(&(right.range.start, right.range.end, &right.name))
        });
        Ok(Some(marks))
    }

    /// Returns the marks on the character at an index, by name; `None` if there is no text. Cost: O(text).
    ///
    /// # Errors
    ///
    /// [`DocumentError::Index`] beyond the end.
    pub fn marks_at(
        &self,
        path: &FieldPath,
        index: usize,
    ) -> Result<Option<BTreeMap<String, ScalarValue>>, DocumentError> {
        let Some(object) = self.text_object(path)? else { return Ok(None) };
        let length = self.len_of(&object);
        if index >= length {
            return Err(DocumentError::Index { index, length });
        }
        // Automerge 0.12 has `get_marks` for this, which counts characters whatever the document's encoding is.
        let marks = self.marks(path)?.unwrap_or_default();
        let here = marks.into_iter().filter(|mark| mark.range.contains(&index));
        Ok(Some(here.map(|mark| (mark.name, mark.value)).collect()))
    }

    /// Returns a text as runs of equally marked text and blocks; `None` if there is no text.
    ///
    /// # Errors
    ///
    /// [`DocumentError::TooDeep`] if a block is nested beyond the bound.
    pub fn spans(&self, path: &FieldPath) -> Result<Option<Vec<Span>>, DocumentError> {
        let Some(object) = self.text_object(path)? else { return Ok(None) };
        let spans = self.raw_spans(&object)?;
        // Automerge gives each block's contents, but not its identity: JSON is made from the document, block by block.
        let mut blocks = self.blocks(&object)?.into_iter();
        let spans = spans.into_iter().filter_map(|span| match span {
            automerge::Span::Text { text, marks } => {
                let marks = marks.map(|marks| marks_of(&marks)).unwrap_or_default();
                Some(Span::Text { text, marks })
            }
            automerge::Span::Block(_) => blocks.next().map(Span::Block),
        });
        Ok(Some(spans.collect()))
    }

    /// Returns Automerge's own spans, when no block is nested beyond the bound.
    ///
    /// Automerge reads blocks by recursion: 300 nested maps fit into a change of half a kilobyte and overflow a stack,
    /// which no `catch_unwind` catches. So the blocks are measured first.
    pub(crate) fn raw_spans(&self, object: &ObjId) -> Result<Vec<automerge::Span>, DocumentError> {
        self.blocks(object)?;
        Ok(match self.heads {
            Some(heads) => self.automerge.spans_at(object, heads)?.collect(),
            None => self.automerge.spans(object)?.collect(),
        })
    }

    /// Returns the blocks of a text as JSON, in their order.
    fn blocks(&self, object: &ObjId) -> Result<Vec<serde_json::Map<String, serde_json::Value>>, DocumentError> {
        let items = match self.heads {
            Some(heads) => self.automerge.list_range_at(object, .., heads),
            None => self.automerge.list_range(object, ..),
        };
        let mut blocks = Vec::new();
        for item in items {
            if let Value::Object(kind @ (ObjType::Map | ObjType::Table)) = item.value.clone().into_value()
                && let serde_json::Value::Object(block) = json::object_to_json(self, &item.id(), kind)?
            {
                blocks.push(block);
            }
        }
        Ok(blocks)
    }

    /// Returns a cursor to the element at an index of a text or list; the end is a place too. `None` if there is neither.
    ///
    /// # Errors
    ///
    /// [`DocumentError::Index`] beyond the end.
    pub fn cursor(&self, path: &FieldPath, index: usize, moving: CursorMove) -> Result<Option<Cursor>, DocumentError> {
        let Some((object, ObjType::List | ObjType::Text)) = self.object(path.steps())? else { return Ok(None) };
        let length = self.len_of(&object);
        if index > length {
            return Err(DocumentError::Index { index, length });
        }
        if index == length {
            return Ok(Some(Cursor::END));
        }
        let moving = match moving {
            CursorMove::Before => MoveCursor::Before,
            CursorMove::After => MoveCursor::After,
        };
        Ok(Some(Cursor::new(self.automerge.get_cursor_moving(&object, index, self.heads, moving)?)))
    }

    /// Returns the index where a cursor is now; `None` if there is no text or list at the path.
    ///
    /// # Errors
    ///
    /// [`DocumentError::Cursor`] if the cursor is of another text, or of a change that is not here yet.
    pub fn cursor_position(&self, path: &FieldPath, cursor: &Cursor) -> Result<Option<usize>, DocumentError> {
        let Some((object, ObjType::List | ObjType::Text)) = self.object(path.steps())? else { return Ok(None) };
        // Automerge 0.12 panics on a cursor of another object instead of saying so, and a cursor may come from anybody. It
        // only reads here and has no interior mutability, so the document is as it was.
        let position = guarded(|| self.automerge.get_cursor_position(&object, cursor.as_automerge(), self.heads));
        position.ok().and_then(Result::ok).map(Some).ok_or(DocumentError::Cursor)
    }

    pub(super) fn automerge(&self) -> &'a Automerge {
        self.automerge
    }

    pub(super) fn heads(&self) -> Option<&'a [ChangeHash]> {
        self.heads
    }
}

/// Checks that the document holds all of these changes.
pub(crate) fn check_heads(automerge: &Automerge, heads: &[ChangeHash]) -> Result<(), DocumentError> {
    // Nothing waits for its dependencies in a document made from a ledger, so what is missing is among the heads.
    let missing = automerge.get_missing_deps(heads);
    if missing.is_empty() { Ok(()) } else { Err(DocumentError::UnknownHeads { missing }) }
}

/// Returns Automerge's word for a step, if an object of this kind has such steps.
pub(crate) fn prop_in(kind: ObjType, step: &Step) -> Option<Prop> {
    match (kind, step) {
        (ObjType::Map | ObjType::Table, Step::Key(key)) => Some(Prop::Map(key.clone())),
        (ObjType::List, Step::Index(index)) => Some(Prop::Seq(*index)),
        _ => None,
    }
}

/// Returns our word for a value of Automerge with the operation that put it there.
pub(crate) fn field_value(value: &Value<'_>, id: &ObjId) -> Option<(OpId, FieldValue)> {
    let ObjId::Id(counter, actor, _) = id else { return None };
    let id = OpId { counter: *counter, actor: actor.clone() };
    let value = match value {
        Value::Scalar(scalar) => FieldValue::Scalar(scalar.as_ref().clone()),
        Value::Object(kind) => FieldValue::Object(kind_of(*kind), ObjectId::Made(id.clone())),
    };
    Some((id, value))
}

pub(super) fn kind_of(kind: ObjType) -> ObjectKind {
    match kind {
        ObjType::Map => ObjectKind::Map,
        ObjType::Table => ObjectKind::Table,
        ObjType::List => ObjectKind::List,
        ObjType::Text => ObjectKind::Text,
    }
}
