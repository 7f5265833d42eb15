//! Restoring: writing a historic state back as new edits, changing only what differs.
//!
//! Both states are read first, then compared while the edits are made: in a transaction Automerge reads the blocks of a text
//! by recursion, and only outside of it can they be measured before.

use automerge::marks::UpdateSpansConfig;
use automerge::transaction::{Transactable, Transaction};
use automerge::{Automerge, ChangeHash, ObjId, ObjType, Prop, ROOT, ReadDoc, ScalarValue, Value};

use super::{DocumentError, Reader};
use crate::limits::JSON_DEPTH_MAX;

/// A value with the operation that put it there.
struct Slot {
    id: ObjId,
    value: State,
}

/// A value as it was, or is.
enum State {
    Scalar(ScalarValue),
    /// Fields, sorted by key.
    Map(Vec<(String, Slot)>),
    List(Vec<Slot>),
    Text(Vec<automerge::Span>),
}

/// Reads the state at some heads and returns the edit that brings it back. Cost: O(document).
///
/// Objects that are still there are changed in place, so that what others write to them merges; those that are gone come
/// back as new ones. A counter that was not replaced gets the difference.
///
/// # Errors
///
/// [`DocumentError::UnknownHeads`]; [`DocumentError::TooDeep`] if one of both states is.
pub fn restore(
    automerge: &Automerge,
    heads: &[ChangeHash],
) -> Result<impl FnOnce(&mut Transaction<'_>) -> Result<(), DocumentError> + use<>, DocumentError> {
    let past = read_map(&Reader::at(automerge, heads)?, &ROOT, 0)?;
    let present_heads = automerge.get_heads();
    let present = read_map(&Reader::at(automerge, &present_heads)?, &ROOT, 0)?;
    Ok(move |tx: &mut Transaction<'_>| restore_map(tx, &ROOT, &past, &present))
}

fn read_map(reader: &Reader<'_>, object: &ObjId, depth: usize) -> Result<Vec<(String, Slot)>, DocumentError> {
    let items = reader.automerge().map_range_at(object, .., reader.heads().unwrap_or_default());
    let fields = items.map(|item| {
        let slot = read_slot(reader, item.id(), item.value.clone().into_value(), depth)?;
        Ok((item.key.to_string(), slot))
    });
    let mut fields = fields.collect::<Result<Vec<_>, DocumentError>>()?;
    fields.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(fields)
}

fn read_slot(reader: &Reader<'_>, id: ObjId, value: Value<'_>, depth: usize) -> Result<Slot, DocumentError> {
    let depth = depth + 1;
    if depth > JSON_DEPTH_MAX {
        return Err(DocumentError::TooDeep);
    }
    let value = match value {
        Value::Scalar(scalar) => State::Scalar(scalar.into_owned()),
        Value::Object(ObjType::Map | ObjType::Table) => State::Map(read_map(reader, &id, depth)?),
        Value::Object(ObjType::List) => {
            let items = reader.automerge().list_range_at(&id, .., reader.heads().unwrap_or_default());
            let slots = items.map(|item| read_slot(reader, item.id(), item.value.clone().into_value(), depth));
            State::List(slots.collect::<Result<_, _>>()?)
        }
        Value::Object(ObjType::Text) => State::Text(reader.raw_spans(&id)?),
    };
    Ok(Slot { id, value })
}

impl State {
    /// Says whether two values look the same, whoever put them there.
    fn looks_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(left), Self::Scalar(right)) => left == right,
            (Self::Text(left), Self::Text(right)) => left == right,
            (Self::List(left), Self::List(right)) => {
                left.len() == right.len()
                    && left.iter().zip(right).all(|(left, right)| left.value.looks_like(&right.value))
            }
            (Self::Map(left), Self::Map(right)) => {
                left.len() == right.len()
                    && left
                        .iter()
                        .zip(right)
                        .all(|(left, right)| left.0 == right.0 && left.1.value.looks_like(&right.1.value))
            }
            _ => false,
        }
    }
}

impl Slot {
    /// Says whether it can become the other one without being replaced.
    fn is_same(&self, other: &Self) -> bool {
        let is_kept = self.id == other.id
            && match (&self.value, &other.value) {
                (State::Scalar(left), State::Scalar(right)) => left == right || both_counters(left, right),
                (left, right) => std::mem::discriminant(left) == std::mem::discriminant(right),
            };
        is_kept || self.value.looks_like(&other.value)
    }
}

fn both_counters(left: &ScalarValue, right: &ScalarValue) -> bool {
    matches!((left, right), (ScalarValue::Counter(_), ScalarValue::Counter(_)))
}

fn restore_map(
    tx: &mut Transaction<'_>,
    object: &ObjId,
    past: &[(String, Slot)],
    present: &[(String, Slot)],
) -> Result<(), DocumentError> {
    let find =
        |fields: &[(String, Slot)], key: &str| fields.binary_search_by(|(known, _)| known.as_str().cmp(key)).ok();
    for (key, _) in present {
        if find(past, key).is_none() {
            tx.delete(object, key.as_str())?;
        }
    }
    for (key, slot) in past {
        match find(present, key).map(|index| &present[index].1) {
            Some(now) if slot.is_same(now) => restore_slot(tx, object, Prop::Map(key.clone()), slot, now)?,
            _ => create(tx, object, Prop::Map(key.clone()), slot, false)?,
        }
    }
    Ok(())
}

/// Makes what stands in a place look as it did, where [`Slot::is_same`].
fn restore_slot(
    tx: &mut Transaction<'_>,
    object: &ObjId,
    prop: Prop,
    past: &Slot,
    now: &Slot,
) -> Result<(), DocumentError> {
    match (&past.value, &now.value) {
        (past, now) if past.looks_like(now) => Ok(()),
        (State::Scalar(ScalarValue::Counter(past)), State::Scalar(ScalarValue::Counter(now))) => {
            let by = i64::from(past).wrapping_sub(i64::from(now));
            Ok(tx.increment(object, prop, by)?)
        }
        (State::Map(past), State::Map(fields)) => restore_map(tx, &now.id, past, fields),
        (State::List(past), State::List(slots)) => restore_list(tx, &now.id, past, slots),
        (State::Text(past), State::Text(spans)) => write_text(tx, &now.id, past, spans),
        // Values of different kinds are not the same.
        _ => Ok(()),
    }
}

/// Keeps the elements at both ends that are the same, and replaces those between.
fn restore_list(tx: &mut Transaction<'_>, list: &ObjId, past: &[Slot], present: &[Slot]) -> Result<(), DocumentError> {
    let front = past.iter().zip(present).take_while(|(past, now)| past.is_same(now)).count();
    let back = past[front..].iter().rev().zip(present[front..].iter().rev());
    let back = back.take_while(|(past, now)| past.is_same(now)).count();
    let (past_end, present_end) = (past.len() - back, present.len() - back);
    for index in (front..present_end).rev() {
        tx.delete(list, index)?;
    }
    for (index, slot) in past.iter().enumerate().take(past_end).skip(front) {
        create(tx, list, Prop::Seq(index), slot, true)?;
    }
    for index in 0..front {
        restore_slot(tx, list, Prop::Seq(index), &past[index], &present[index])?;
    }
    for (offset, (past, now)) in past[past_end..].iter().zip(&present[present_end..]).enumerate() {
        restore_slot(tx, list, Prop::Seq(past_end + offset), past, now)?;
    }
    Ok(())
}

fn write_text(
    tx: &mut Transaction<'_>,
    text: &ObjId,
    past: &[automerge::Span],
    present: &[automerge::Span],
) -> Result<(), DocumentError> {
    if past.iter().chain(present).all(is_plain) {
        let text_then: String = past.iter().filter_map(text_of).collect();
        return Ok(tx.update_text(text, text_then)?);
    }
    Ok(tx.update_spans(text, UpdateSpansConfig::default(), past.iter().cloned())?)
}

/// Says whether a span has no marks and is no block.
fn is_plain(span: &automerge::Span) -> bool {
    match span {
        automerge::Span::Text { marks, .. } => marks.as_ref().is_none_or(|marks| marks.is_empty()),
        automerge::Span::Block(_) => false,
    }
}

fn text_of(span: &automerge::Span) -> Option<&str> {
    match span {
        automerge::Span::Text { text, .. } => Some(text),
        automerge::Span::Block(_) => None,
    }
}

/// Makes a value anew.
fn create(
    tx: &mut Transaction<'_>,
    object: &ObjId,
    prop: Prop,
    slot: &Slot,
    insert: bool,
) -> Result<(), DocumentError> {
    let mut make = |kind| match (&prop, insert) {
        (Prop::Seq(index), true) => tx.insert_object(object, *index, kind),
        _ => tx.put_object(object, prop.clone(), kind),
    };
    match &slot.value {
        State::Scalar(scalar) => match (prop, insert) {
            (Prop::Seq(index), true) => tx.insert(object, index, scalar.clone())?,
            (prop, _) => tx.put(object, prop, scalar.clone())?,
        },
        State::Map(fields) => {
            let map = make(ObjType::Map)?;
            for (key, slot) in fields {
                create(tx, &map, Prop::Map(key.clone()), slot, false)?;
            }
        }
        State::List(slots) => {
            let list = make(ObjType::List)?;
            for (index, slot) in slots.iter().enumerate() {
                create(tx, &list, Prop::Seq(index), slot, true)?;
            }
        }
        State::Text(spans) => {
            let text = make(ObjType::Text)?;
            write_text(tx, &text, spans, &[])?;
        }
    }
    Ok(())
}
