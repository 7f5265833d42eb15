//! Restoring: writing a historic state back as new edits, changing only what differs.

use automerge::marks::UpdateSpansConfig;
use automerge::transaction::{Transactable, Transaction};
use automerge::{Automerge, ChangeHash, ObjId, ObjType, Prop, ROOT, ReadDoc, ScalarValue, Value};

use super::{DocumentError, Reader};
use crate::limits::JSON_DEPTH_MAX;

/// A historic state, read before anything is written.
pub(crate) struct Past {
    root: Vec<(String, Slot)>,
}

/// A value with the operation that put it there.
struct Slot {
    id: ObjId,
    value: PastValue,
}

enum PastValue {
    Scalar(ScalarValue),
    Map(Vec<(String, Slot)>),
    List(Vec<Slot>),
    Text { spans: Vec<automerge::Span>, is_plain: bool },
}

/// Reads the state at some heads and returns the edit that brings it back. Cost: O(document).
///
/// Objects that are still there are changed in place, so that what others write to them merges; those that are gone come
/// back as new ones. A counter that was not replaced gets the difference.
pub(crate) fn restore(
    automerge: &Automerge,
    heads: &[ChangeHash],
) -> Result<impl FnOnce(&mut Transaction<'_>) -> Result<(), DocumentError> + use<>, DocumentError> {
    let reader = Reader::at(automerge, heads)?;
    let past = Past { root: read_map(&reader, &ROOT, 0)? };
    Ok(move |tx: &mut Transaction<'_>| restore_map(tx, &ROOT, &past.root))
}

fn read_map(reader: &Reader<'_>, object: &ObjId, depth: usize) -> Result<Vec<(String, Slot)>, DocumentError> {
    let heads = reader.heads().unwrap_or_default();
    let items = reader.automerge().map_range_at(object, .., heads);
    let fields = items.map(|item| {
        let slot = read_slot(reader, item.id(), item.value.clone().into_value(), depth)?;
        Ok((item.key.to_string(), slot))
    });
    fields.collect()
}

fn read_slot(reader: &Reader<'_>, id: ObjId, value: Value<'_>, depth: usize) -> Result<Slot, DocumentError> {
    let depth = depth + 1;
    if depth > JSON_DEPTH_MAX {
        return Err(DocumentError::TooDeep);
    }
    let heads = reader.heads().unwrap_or_default();
    let value = match value {
        Value::Scalar(scalar) => PastValue::Scalar(scalar.into_owned()),
        Value::Object(ObjType::Map | ObjType::Table) => PastValue::Map(read_map(reader, &id, depth)?),
        Value::Object(ObjType::List) => {
            let items = reader.automerge().list_range_at(&id, .., heads);
            let slots = items.map(|item| read_slot(reader, item.id(), item.value.clone().into_value(), depth));
            PastValue::List(slots.collect::<Result<_, _>>()?)
        }
        Value::Object(ObjType::Text) => {
            let spans = reader.raw_spans(&id)?;
            let is_plain = spans.iter().all(|span| matches!(span, automerge::Span::Text { marks: None, .. }));
            PastValue::Text { spans, is_plain }
        }
    };
    Ok(Slot { id, value })
}

fn restore_map(tx: &mut Transaction<'_>, object: &ObjId, past: &[(String, Slot)]) -> Result<(), DocumentError> {
    let gone: Vec<String> =
        tx.keys(object).filter(|key| past.binary_search_by(|(known, _)| known.cmp(key)).is_err()).collect();
    for key in gone {
        tx.delete(object, key)?;
    }
    for (key, slot) in past {
        let now = tx.get(object, key.as_str())?.map(|(value, id)| (value.into_owned(), id));
        if !restore_in_place(tx, object, Prop::Map(key.clone()), slot, now)? {
            create(tx, object, Prop::Map(key.clone()), slot, false)?;
        }
    }
    Ok(())
}

/// Brings a value back where the same object or an equal scalar still stands; says whether that was so.
fn restore_in_place(
    tx: &mut Transaction<'_>,
    object: &ObjId,
    prop: Prop,
    slot: &Slot,
    now: Option<(Value<'static>, ObjId)>,
) -> Result<bool, DocumentError> {
    let Some((now, id)) = now else { return Ok(false) };
    match (&slot.value, now) {
        (PastValue::Scalar(ScalarValue::Counter(past)), Value::Scalar(scalar)) if id == slot.id => {
            if let ScalarValue::Counter(counter) = scalar.as_ref() {
                let by = i64::from(past).wrapping_sub(i64::from(counter));
                if by != 0 {
                    tx.increment(object, prop, by)?;
                }
            }
        }
        (PastValue::Scalar(past), Value::Scalar(scalar)) if scalar.as_ref() == past => {}
        (PastValue::Map(fields), Value::Object(ObjType::Map)) if id == slot.id => restore_map(tx, &id, fields)?,
        (PastValue::List(slots), Value::Object(ObjType::List)) if id == slot.id => restore_list(tx, &id, slots)?,
        (PastValue::Text { spans, is_plain }, Value::Object(ObjType::Text)) if id == slot.id => {
            restore_text(tx, &id, spans, *is_plain)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Keeps the elements at both ends that are the same, and replaces those between.
fn restore_list(tx: &mut Transaction<'_>, list: &ObjId, past: &[Slot]) -> Result<(), DocumentError> {
    let items = tx.list_range(list, ..);
    let now: Vec<(Value<'static>, ObjId)> =
        items.map(|item| (item.value.clone().into_value().into_owned(), item.id())).collect();
    let same = |(value, id): &(Value<'static>, ObjId), slot: &Slot| match (&slot.value, value) {
        (PastValue::Scalar(past), Value::Scalar(scalar)) => *id == slot.id || scalar.as_ref() == past,
        _ => *id == slot.id,
    };
    let front = now.iter().zip(past).take_while(|(now, slot)| same(now, slot)).count();
    let back = now[front..].iter().rev().zip(past[front..].iter().rev());
    let back = back.take_while(|(now, slot)| same(now, slot)).count();
    for index in (front..now.len() - back).rev() {
        tx.delete(list, index)?;
    }
    for (index, slot) in past.iter().enumerate().take(past.len() - back).skip(front) {
        create(tx, list, Prop::Seq(index), slot, true)?;
    }
    let kept = (0..front).chain(past.len() - back..past.len());
    for index in kept {
        let found = tx.get(list, index)?.map(|(value, id)| (value.into_owned(), id));
        restore_in_place(tx, list, Prop::Seq(index), &past[index], found)?;
    }
    Ok(())
}

fn restore_text(
    tx: &mut Transaction<'_>,
    text: &ObjId,
    spans: &[automerge::Span],
    is_plain: bool,
) -> Result<(), DocumentError> {
    let plain_now = || -> Result<bool, DocumentError> {
        Ok(tx.marks(text)?.is_empty() && !tx.spans(text)?.any(|span| matches!(span, automerge::Span::Block(_))))
    };
    if is_plain && plain_now()? {
        let past: String = spans.iter().filter_map(text_of).collect();
        return Ok(tx.update_text(text, past)?);
    }
    Ok(tx.update_spans(text, UpdateSpansConfig::default(), spans.iter().cloned())?)
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
        PastValue::Scalar(scalar) => match (prop, insert) {
            (Prop::Seq(index), true) => tx.insert(object, index, scalar.clone())?,
            (prop, _) => tx.put(object, prop, scalar.clone())?,
        },
        PastValue::Map(fields) => {
            let map = make(ObjType::Map)?;
            for (key, slot) in fields {
                create(tx, &map, Prop::Map(key.clone()), slot, false)?;
            }
        }
        PastValue::List(slots) => {
            let list = make(ObjType::List)?;
            for (index, slot) in slots.iter().enumerate() {
                create(tx, &list, Prop::Seq(index), slot, true)?;
            }
        }
        PastValue::Text { spans, is_plain } => {
            let text = make(ObjType::Text)?;
            restore_text(tx, &text, spans, *is_plain)?;
        }
    }
    Ok(())
}
