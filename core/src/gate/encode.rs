//! From operations on map fields to the bytes that Automerge would have written for the same change.
//!
//! The result goes through the same check as a change from a network, so nothing leaves here that a gate would refuse.

use automerge::{ActorId, ChangeHash, ScalarValue};

use super::chunk::frame;
use super::columns::number;
use super::leb::{signed_bytes, unsigned_bytes, write_signed, write_unsigned};
use super::op::Action;
use super::{CheckedChange, GateError, Rule};
use crate::id::OpId;

/// The object that a drafted operation is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DraftObject {
    /// The document's root map.
    Root,
    /// The map that this operation made.
    Op(OpId),
}

/// An operation on one field of a map, to be encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct DraftOp {
    /// The map.
    pub object: DraftObject,
    /// The field.
    pub key: String,
    /// What is done to it.
    pub action: Action,
    /// The scalar of a [`Action::Put`] or [`Action::Increment`]; left out for every other action.
    pub value: ScalarValue,
    /// The visible operations of the field that this one overwrites, in any order.
    pub preds: Vec<OpId>,
}

/// A change to be encoded. The counter of each operation is `start_op` plus its index.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeDraft<'a> {
    /// The author.
    pub actor: ActorId,
    /// How many changes the author made, this one included.
    pub seq: u64,
    /// The counter of the first operation.
    pub start_op: u64,
    /// Seconds since the epoch.
    pub timestamp: i64,
    /// The commit message; an empty one is none.
    pub message: Option<&'a str>,
    /// The heads that the author knew, in any order.
    pub deps: Vec<ChangeHash>,
    /// What is done.
    pub ops: Vec<DraftOp>,
}

/// Encodes a change, byte for byte as Automerge does.
///
/// Cost: about 1 us for one operation, the hash and the check included.
///
/// # Errors
///
/// The [`Rule`](super::Rule) that the change would break at a gate: a limit, a reference to a later operation, an
/// increment by something else than an [`ScalarValue::Int`], a delete without predecessors.
pub fn encode(draft: &ChangeDraft<'_>) -> Result<CheckedChange, GateError> {
    let typed =
        |op: &DraftOp| !matches!(op.value, ScalarValue::Unknown { type_code, .. } if !(10..16).contains(&type_code));
    Rule::Value.require(draft.ops.iter().all(typed))?;
    let rows = Rows::new(draft);
    let mut body = Vec::with_capacity(128 + 32 * draft.deps.len() + 32 * draft.ops.len());
    write_header(draft, &rows.others, &mut body);
    rows.write(&draft.ops, &mut body);
    let (bytes, hash) = frame(&body, None)?;
    CheckedChange::from_hashed(bytes.into(), hash)
}

fn write_header(draft: &ChangeDraft<'_>, others: &[&ActorId], out: &mut Vec<u8>) {
    write_unsigned(out, draft.deps.len() as u64);
    let start = out.len();
    for dep in &draft.deps {
        out.extend_from_slice(&dep.0);
    }
    if !draft.deps.is_sorted() {
        out[start..].as_chunks_mut::<32>().0.sort_unstable();
    }
    write_prefixed(out, draft.actor.to_bytes());
    write_unsigned(out, draft.seq);
    write_unsigned(out, draft.start_op);
    write_signed(out, draft.timestamp);
    write_prefixed(out, draft.message.unwrap_or_default().as_bytes());
    write_unsigned(out, others.len() as u64);
    for actor in others {
        write_prefixed(out, actor.to_bytes());
    }
}

pub(crate) fn write_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    write_unsigned(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The ids of a draft with their actors turned into indices.
struct Rows<'a> {
    /// The other actors, sorted.
    others: Vec<&'a ActorId>,
    /// The predecessors of all operations one after another: actor index, counter.
    preds: Vec<(u64, u64)>,
    author: &'a ActorId,
}

impl<'a> Rows<'a> {
    fn new(draft: &'a ChangeDraft<'_>) -> Self {
        let mut others = Vec::new();
        for op in &draft.ops {
            if let DraftObject::Op(id) = &op.object {
                others.push(&id.actor);
            }
            others.extend(op.preds.iter().map(|pred| &pred.actor));
        }
        others.retain(|actor| **actor != draft.actor);
        others.sort_unstable();
        others.dedup();
        let mut rows = Self { others, preds: Vec::new(), author: &draft.actor };
        let mut sorted: Vec<&OpId> = Vec::new();
        for op in &draft.ops {
            sorted.clear();
            sorted.extend(&op.preds);
            sorted.sort_unstable();
            for pred in &sorted {
                let actor = rows.actor_index(&pred.actor);
                rows.preds.push((actor, pred.counter));
            }
        }
        rows
    }

    fn actor_index(&self, actor: &ActorId) -> u64 {
        if actor == self.author {
            return 0;
        }
        // Every actor that is asked for was collected.
        self.others.binary_search(&actor).map_or(0, |index| index as u64 + 1)
    }

    /// Writes the column table and the columns.
    fn write(&self, ops: &[DraftOp], out: &mut Vec<u8>) {
        let mut columns = ColumnWriter::default();
        let count = ops.len();
        let object = |index: usize| match &ops[index].object {
            DraftObject::Root => None,
            DraftObject::Op(id) => Some(id),
        };
        columns.runs(number::OBJECT_ACTOR, count, |i| object(i).map(|id| self.actor_index(&id.actor)), write_unsigned);
        columns.runs(number::OBJECT_COUNTER, count, |i| object(i).map(|id| id.counter), write_unsigned);
        columns.runs(number::KEY_TEXT, count, |i| Some(ops[i].key.as_bytes()), write_prefixed);
        // No operation on a map inserts: one count of `false`.
        if count > 0 {
            columns.column(number::INSERT, |data| write_unsigned(data, count as u64));
        }
        columns.runs(number::ACTION, count, |i| Some(ops[i].action.code()), write_unsigned);
        columns.runs(number::VALUE_META, count, |i| Some(value_meta(value_of(&ops[i]))), write_unsigned);
        columns.column(number::VALUE, |data| ops.iter().for_each(|op| write_value(data, value_of(op))));
        columns.runs(number::PRED_COUNT, count, |i| Some(ops[i].preds.len() as u64), write_unsigned);
        let preds = &self.preds;
        columns.runs(number::PRED_ACTOR, preds.len(), |i| Some(preds[i].0), write_unsigned);
        let delta = |i: usize| {
            let previous = if i == 0 { 0 } else { preds[i - 1].1 };
            Some(preds[i].1.wrapping_sub(previous).cast_signed())
        };
        columns.runs(number::PRED_COUNTER, preds.len(), delta, write_signed);
        columns.finish(out);
    }
}

/// Collects columns; empty ones are left out.
#[derive(Default)]
pub(crate) struct ColumnWriter {
    count: u64,
    table: Vec<u8>,
    data: Vec<u8>,
}

impl ColumnWriter {
    pub(crate) fn column(&mut self, number: u64, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.data.len();
        write(&mut self.data);
        let length = self.data.len() - start;
        if length > 0 {
            self.count += 1;
            write_unsigned(&mut self.table, number);
            write_unsigned(&mut self.table, length as u64);
        }
    }

    pub(crate) fn runs<T: Copy + PartialEq>(
        &mut self,
        number: u64,
        rows: usize,
        at: impl Fn(usize) -> Option<T>,
        write: impl Fn(&mut Vec<u8>, T),
    ) {
        self.column(number, |data| write_runs(data, rows, at, write));
    }

    pub(crate) fn finish(self, out: &mut Vec<u8>) {
        write_unsigned(out, self.count);
        out.extend_from_slice(&self.table);
        out.extend_from_slice(&self.data);
    }
}

/// Writes rows in their one canonical form: every two or more equal neighbours are a run, what lies between is literal.
fn write_runs<T: Copy + PartialEq>(
    out: &mut Vec<u8>,
    rows: usize,
    at: impl Fn(usize) -> Option<T>,
    write: impl Fn(&mut Vec<u8>, T),
) {
    let run_end = |start: usize, value: Option<T>| (start..rows).find(|&i| at(i) != value).unwrap_or(rows);
    let mut row = 0;
    while row < rows {
        let value = at(row);
        let end = run_end(row + 1, value);
        match value {
            // A column of nothing but nulls is empty.
            None if row == 0 && end == rows => return,
            None => {
                write_signed(out, 0);
                write_unsigned(out, (end - row) as u64);
                row = end;
            }
            Some(value) if end - row > 1 => {
                write_signed(out, signed_length(end - row));
                write(out, value);
                row = end;
            }
            Some(_) => {
                let literal_ends = |i: &usize| at(*i).is_none() || (*i + 1 < rows && at(*i) == at(*i + 1));
                let end = (row + 1..rows).find(literal_ends).unwrap_or(rows);
                write_signed(out, -signed_length(end - row));
                (row..end).filter_map(&at).for_each(|value| write(out, value));
                row = end;
            }
        }
    }
}

/// A length in memory is at most `isize::MAX`.
fn signed_length(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// The value that is written: only two actions carry one.
fn value_of(op: &DraftOp) -> &ScalarValue {
    match op.action {
        Action::Put | Action::Increment => &op.value,
        _ => &ScalarValue::Null,
    }
}

/// A value's length in bytes and its type.
fn value_meta(value: &ScalarValue) -> u64 {
    let (length, code) = match value {
        ScalarValue::Null => (0, 0),
        ScalarValue::Boolean(false) => (0, 1),
        ScalarValue::Boolean(true) => (0, 2),
        ScalarValue::Uint(value) => (unsigned_bytes(*value), 3),
        ScalarValue::Int(value) => (signed_bytes(*value), 4),
        ScalarValue::F64(_) => (8, 5),
        ScalarValue::Str(text) => (text.len() as u64, 6),
        ScalarValue::Bytes(bytes) => (bytes.len() as u64, 7),
        ScalarValue::Counter(counter) => (signed_bytes(counter.into()), 8),
        ScalarValue::Timestamp(value) => (signed_bytes(*value), 9),
        ScalarValue::Unknown { type_code, bytes } => (bytes.len() as u64, u64::from(*type_code)),
    };
    length << 4 | code
}

fn write_value(out: &mut Vec<u8>, value: &ScalarValue) {
    match value {
        ScalarValue::Null | ScalarValue::Boolean(_) => {}
        ScalarValue::Uint(value) => write_unsigned(out, *value),
        ScalarValue::Int(value) | ScalarValue::Timestamp(value) => write_signed(out, *value),
        ScalarValue::F64(value) => out.extend_from_slice(&value.to_le_bytes()),
        ScalarValue::Str(text) => out.extend_from_slice(text.as_bytes()),
        ScalarValue::Bytes(bytes) | ScalarValue::Unknown { bytes, .. } => out.extend_from_slice(bytes),
        ScalarValue::Counter(counter) => write_signed(out, counter.into()),
    }
}
