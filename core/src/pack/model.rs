//! What is expected of the next operation, so that only what is not expected takes space.
//!
//! Each number is stored as how it differs from an expectation that both directions form from the operations before it.

use std::collections::HashMap;
use std::hash::Hash;

use super::PackError;
use super::rows::{Id, Key, Row, Rows};
use super::tape::{Stream, Tape, damaged};
use crate::limits::{PACK_BYTES_MAX, PACK_ROWS_MAX};

/// The type of a value is in the low four bits of its metadata.
const TEXT: u64 = 6;

/// The types of values that are numbers: two integers, float, counter, timestamp.
const NUMBERS: [u64; 5] = [3, 4, 5, 8, 9];

/// Everything of an operation that takes one of few forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    flags: u64,
    action: u64,
    meta: u64,
    preds: u64,
}

const HAS_OBJECT: u64 = 1;
const IS_NAMED: u64 = 2;
const IS_ELEMENT: u64 = 4;
const INSERTS: u64 = 8;
const EXPANDS: u64 = 16;
const IS_MARK: u64 = 32;

impl Shape {
    fn of(row: &Row<'_>) -> Self {
        let flag = |flag, holds| if holds { flag } else { 0 };
        let flags = flag(HAS_OBJECT, row.object.is_some())
            | flag(IS_NAMED, matches!(row.key, Key::Name(_)))
            | flag(IS_ELEMENT, matches!(row.key, Key::Element(_)))
            | flag(INSERTS, row.insert)
            | flag(EXPANDS, row.expand)
            | flag(IS_MARK, row.mark.is_some());
        Self { flags, action: row.action, meta: row.meta, preds: row.preds }
    }

    fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    fn value_stream(&self) -> Stream {
        match self.meta & 0x0f {
            TEXT => Stream::Text,
            kind if NUMBERS.contains(&kind) => Stream::Numbers,
            _ => Stream::Blobs,
        }
    }
}

/// Things that were met before, by number.
struct Dictionary<T> {
    known: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Dictionary<T> {
    fn default() -> Self {
        Self { known: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Copy + Eq + Hash> Dictionary<T> {
    /// Passes a thing's number through: 0 for the next new one, which is then passed through itself.
    fn pass<'a, P: Tape<'a>>(
        &mut self,
        tape: &mut P,
        stream: Stream,
        value: T,
        define: impl FnOnce(&mut P) -> Result<T, PackError>,
    ) -> Result<(u32, T), PackError> {
        let code = tape.unsigned(stream, || self.numbers.get(&value).map_or(0, |number| u64::from(*number) + 1))?;
        if let Some(index) = code.checked_sub(1) {
            let number = u32::try_from(index).map_err(|_| damaged("the number of a known thing"))?;
            let known = usize::try_from(index).ok().and_then(|index| self.known.get(index));
            return Ok((number, *known.ok_or_else(|| damaged("the number of a known thing"))?));
        }
        let value = define(tape)?;
        let number = u32::try_from(self.known.len()).map_err(|_| damaged("too many things"))?;
        self.known.push(value);
        self.numbers.insert(value, number);
        Ok((number, value))
    }
}

/// The expectations.
pub(super) struct Model<'a> {
    actors: usize,
    shapes: Dictionary<Shape>,
    objects: Dictionary<Id>,
    names: Dictionary<&'a [u8]>,
    /// The last operation that set a field: object (0 for the root, else its number + 1), name.
    fields: HashMap<(u32, u32), Id>,
    /// The last operation that set an element, if it is not the one that inserted it.
    elements: HashMap<Id, Id>,
    /// Where each actor is expected to edit a list or text next.
    cursors: Vec<Id>,
}

impl<'a> Model<'a> {
    pub(super) fn new(actors: usize) -> Self {
        let cursors = vec![Id::default(); actors];
        Self {
            actors,
            shapes: Dictionary::default(),
            objects: Dictionary::default(),
            names: Dictionary::default(),
            fields: HashMap::new(),
            elements: HashMap::new(),
            cursors,
        }
    }

    /// Passes the operations of one change through. What is played replaces what was in `rows`.
    ///
    /// Cost: O(rows + predecessors), each at most [`PACK_ROWS_MAX`]. What is played can be written in
    /// [`PACK_BYTES_MAX`] bytes.
    pub(super) fn pass<P: Tape<'a>>(
        &mut self,
        tape: &mut P,
        author: u32,
        start_op: u64,
        rows: &mut Rows<'a>,
    ) -> Result<(), PackError> {
        let (mut at, mut bytes) = (0usize, 0usize);
        let mut previous = Key::Head;
        for index in 0..rows.rows.len() {
            let own = Id { actor: author, counter: start_op.wrapping_add(index as u64) };
            let row = rows.rows[index];
            let (shape, mut row, expected) = self.pass_key(tape, own, row)?;
            // A name that repeats is written once, as a run.
            if row.key != previous
                && let Key::Name(name) = row.key
            {
                bytes = bytes.saturating_add(name.len());
            }
            previous = row.key;
            bytes = bytes.saturating_add(row.mark.map_or(0, <[u8]>::len));
            if bytes > PACK_BYTES_MAX {
                return Err(damaged("the names of a change"));
            }
            row.value = tape.bytes(shape.value_stream(), row.value, shape.meta >> 4)?;
            row.preds = shape.preds;
            for _ in 0..shape.preds {
                let given = rows.preds.get(at).copied().unwrap_or_default();
                let pred = self.pass_pred(tape, own, expected, given)?;
                match rows.preds.get_mut(at) {
                    Some(slot) => *slot = pred,
                    None if at < PACK_ROWS_MAX => rows.preds.push(pred),
                    None => return Err(damaged("the predecessors of a change")),
                }
                at += 1;
            }
            rows.rows[index] = row;
        }
        Ok(())
    }

    /// Passes all of a row through but its value and predecessors; returns what its first predecessor should be.
    fn pass_key<P: Tape<'a>>(
        &mut self,
        tape: &mut P,
        own: Id,
        mut row: Row<'a>,
    ) -> Result<(Shape, Row<'a>, Id), PackError> {
        let (_, shape) = self.shapes.pass(tape, Stream::Shape, Shape::of(&row), |tape| {
            let shape = Shape::of(&row);
            let mut part = |part| tape.unsigned(Stream::Shapes, || part);
            Ok(Shape {
                flags: part(shape.flags)?,
                action: part(shape.action)?,
                meta: part(shape.meta)?,
                preds: part(shape.preds)?,
            })
        })?;
        let mut object = 0;
        row.object = if shape.has(HAS_OBJECT) {
            let given = row.object.unwrap_or_default();
            let actors = self.actors;
            let (number, id) = self.objects.pass(tape, Stream::Object, given, |tape| {
                let actor = pass_actor(tape, Stream::Objects, own.actor, given.actor, actors)?;
                Ok(Id { actor, counter: pass_counter(tape, Stream::Objects, own.counter, given.counter)? })
            })?;
            object = number.saturating_add(1);
            Some(id)
        } else {
            None
        };
        (row.insert, row.expand, row.action, row.meta) =
            (shape.has(INSERTS), shape.has(EXPANDS), shape.action, shape.meta);
        let nobody = Id { actor: own.actor, counter: own.counter };
        let mut expected = nobody;
        if shape.has(IS_NAMED) {
            let given = if let Key::Name(name) = row.key { name } else { &[] };
            let (number, name) = self.pass_name(tape, given)?;
            row.key = Key::Name(name);
            let last = self.fields.entry((object, number)).or_insert(nobody);
            expected = *last;
            if sets(shape.action) {
                *last = own;
            }
        } else if shape.has(IS_ELEMENT) {
            let given = if let Key::Element(id) = row.key { id } else { Id::default() };
            let element = self.pass_element(tape, own, given)?;
            row.key = Key::Element(element);
            expected = self.elements.get(&element).copied().unwrap_or(element);
            if sets(shape.action) && !shape.has(INSERTS) {
                self.elements.insert(element, own);
            }
            self.move_cursor(own, element, &shape);
        } else {
            row.key = Key::Head;
            self.move_cursor(own, own, &shape);
        }
        row.mark = if shape.has(IS_MARK) { Some(self.pass_name(tape, row.mark.unwrap_or_default())?.1) } else { None };
        Ok((shape, row, expected))
    }

    fn pass_name<P: Tape<'a>>(&mut self, tape: &mut P, name: &'a [u8]) -> Result<(u32, &'a [u8]), PackError> {
        self.names.pass(tape, Stream::Name, name, |tape| tape.prefixed(Stream::NameLength, Stream::Names, name))
    }

    fn pass_element<P: Tape<'a>>(&mut self, tape: &mut P, own: Id, given: Id) -> Result<Id, PackError> {
        let cursor = self.cursor(own.actor);
        let actor = pass_actor(tape, Stream::ElementActor, cursor.actor, given.actor, self.actors)?;
        Ok(Id { actor, counter: pass_counter(tape, Stream::ElementCounter, cursor.counter, given.counter)? })
    }

    fn cursor(&self, actor: u32) -> Id {
        usize::try_from(actor).ok().and_then(|actor| self.cursors.get(actor)).copied().unwrap_or_default()
    }

    /// What is typed follows what was typed; behind a deleted element stands, most often, the one made before it.
    fn move_cursor(&mut self, own: Id, element: Id, shape: &Shape) {
        let next = if shape.has(INSERTS) {
            own
        } else if sets(shape.action) {
            element
        } else {
            Id { actor: element.actor, counter: element.counter.wrapping_sub(1) }
        };
        if let Some(cursor) = usize::try_from(own.actor).ok().and_then(|actor| self.cursors.get_mut(actor)) {
            *cursor = next;
        }
    }

    /// Passes a predecessor through. No operation precedes itself, so "own" stands in where nothing is expected.
    fn pass_pred<P: Tape<'a>>(&self, tape: &mut P, own: Id, expected: Id, given: Id) -> Result<Id, PackError> {
        let actor = pass_actor(tape, Stream::PredActor, expected.actor, given.actor, self.actors)?;
        let back = own.counter.wrapping_sub(expected.counter);
        let swap = |code: u64| match code {
            0 => back,
            code if code == back => 0,
            code => code,
        };
        let code = tape.unsigned(Stream::PredCounter, || swap(own.counter.wrapping_sub(given.counter)))?;
        Ok(Id { actor, counter: own.counter.wrapping_sub(swap(code)) })
    }
}

/// Whether an action leaves something for the next one to overwrite: not a delete, an increment, or a mark.
fn sets(action: u64) -> bool {
    !matches!(action, 3 | 5 | 7)
}

fn pass_actor<'a, P: Tape<'a>>(
    tape: &mut P,
    stream: Stream,
    expected: u32,
    given: u32,
    actors: usize,
) -> Result<u32, PackError> {
    let code = tape.unsigned(stream, || if given == expected { 0 } else { u64::from(given) + 1 })?;
    let actor = match code.checked_sub(1) {
        None => expected,
        Some(actor) => u32::try_from(actor).map_err(|_| damaged("the number of an actor"))?,
    };
    if usize::try_from(actor).is_ok_and(|actor| actor < actors) {
        Ok(actor)
    } else {
        Err(damaged("the number of an actor"))
    }
}

fn pass_counter<'a, P: Tape<'a>>(tape: &mut P, stream: Stream, expected: u64, given: u64) -> Result<u64, PackError> {
    let code = tape.signed(stream, || expected.wrapping_sub(given).cast_signed())?;
    Ok(expected.wrapping_sub(code.cast_unsigned()))
}
