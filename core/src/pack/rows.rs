//! A change's columns as rows, and back.
//!
//! The gate lets only columns pass that are written in their one canonical form. So the rows tell the bytes.

use automerge::ActorId;

use super::PackError;
use super::tape::damaged;
use crate::gate::CheckedChange;
use crate::gate::columns::number;
use crate::gate::encode::{ColumnWriter, write_prefixed};
use crate::gate::leb::{Reader, write_signed, write_unsigned};
use crate::gate::runs::{Booleans, Deltas, Runs};
use crate::limits::PACK_ROWS_MAX;

/// An operation's id; the actor by its number in the pack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Id {
    pub(super) actor: u32,
    pub(super) counter: u64,
}

/// Where in its object an operation works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key<'a> {
    Name(&'a [u8]),
    Head,
    Element(Id),
}

/// One operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) object: Option<Id>,
    pub(super) key: Key<'a>,
    pub(super) insert: bool,
    pub(super) expand: bool,
    pub(super) action: u64,
    pub(super) meta: u64,
    pub(super) value: &'a [u8],
    pub(super) preds: u64,
    pub(super) mark: Option<&'a [u8]>,
}

impl Default for Row<'_> {
    fn default() -> Self {
        Self {
            object: None,
            key: Key::Head,
            insert: false,
            expand: false,
            action: 0,
            meta: 0,
            value: &[],
            preds: 0,
            mark: None,
        }
    }
}

/// The operations of one change.
#[derive(Default)]
pub(super) struct Rows<'a> {
    pub(super) rows: Vec<Row<'a>>,
    /// The predecessors of all operations, one after another.
    pub(super) preds: Vec<Id>,
}

impl<'a> Rows<'a> {
    /// Whether a change is small enough to be taken apart. Cost: O(rows that are allowed).
    pub(super) fn fit(change: &CheckedChange) -> bool {
        if change.op_count() > PACK_ROWS_MAX as u64 {
            return false;
        }
        let mut counts = Runs::<u64>::new(change.columns().pred_count.of(change.bytes()));
        let preds = (0..change.op_count()).map(|_| counts.next_row().ok().flatten().unwrap_or(0));
        preds.fold(0, u64::saturating_add) <= PACK_ROWS_MAX as u64
    }

    /// Takes a change apart. `actors` are the numbers of its actors in the pack.
    pub(super) fn read(&mut self, change: &'a CheckedChange, actors: &[u32]) -> Result<(), PackError> {
        self.rows.clear();
        self.preds.clear();
        let (columns, data) = (change.columns(), &change.bytes()[..]);
        let actor = |index: u64| {
            let actor = usize::try_from(index).ok().and_then(|index| actors.get(index));
            actor.copied().ok_or_else(|| damaged("an actor index"))
        };
        let mut object_actor = Runs::<u64>::new(columns.object_actor.of(data));
        let mut object_counter = Runs::<u64>::new(columns.object_counter.of(data));
        let mut key_actor = Runs::<u64>::new(columns.key_actor.of(data));
        let mut key_counter = Deltas::new(columns.key_counter.of(data));
        let mut key_text = Runs::<&str>::new(columns.key_text.of(data));
        let mut insert = Booleans::new(columns.insert.of(data));
        let mut action = Runs::<u64>::new(columns.action.of(data));
        let mut value_meta = Runs::<u64>::new(columns.value_meta.of(data));
        let mut value = Reader::new(columns.value.of(data));
        let mut pred_count = Runs::<u64>::new(columns.pred_count.of(data));
        let mut pred_actor = Runs::<u64>::new(columns.pred_actor.of(data));
        let mut pred_counter = Deltas::new(columns.pred_counter.of(data));
        let mut expand = Booleans::new(columns.expand.of(data));
        let mut mark_name = Runs::<&str>::new(columns.mark_name.of(data));
        for _ in 0..change.op_count() {
            let id = |index: Option<u64>, counter: Option<u64>| match (index, counter) {
                (Some(index), Some(counter)) => Ok(Some(Id { actor: actor(index)?, counter })),
                _ => Ok::<_, PackError>(None),
            };
            let object = id(object_actor.next_row()?, object_counter.next_row()?)?;
            let element = id(key_actor.next_row()?, key_counter.next_row()?)?;
            let key = match (key_text.next_row()?, element) {
                (Some(name), _) => Key::Name(name.as_bytes()),
                (None, Some(element)) => Key::Element(element),
                (None, None) => Key::Head,
            };
            let meta = value_meta.next_row()?.unwrap_or(0);
            let preds = pred_count.next_row()?.unwrap_or(0);
            for _ in 0..preds {
                let pred = id(pred_actor.next_row()?, pred_counter.next_row()?)?;
                self.preds.push(pred.ok_or_else(|| damaged("a predecessor"))?);
            }
            self.rows.push(Row {
                object,
                key,
                insert: insert.next_row()?,
                expand: expand.next_row()?,
                action: action.next_row()?.unwrap_or(0),
                meta,
                value: value.take(meta >> 4)?,
                preds,
                mark: mark_name.next_row()?.map(str::as_bytes),
            });
        }
        Ok(())
    }

    /// Appends the other actors, the column table and the columns, as Automerge writes them.
    pub(super) fn write(&self, author: u32, actors: &[ActorId], out: &mut Vec<u8>) {
        let table = ActorIndices::new(self, author, actors);
        write_unsigned(out, table.others.len() as u64);
        for actor in &table.others {
            write_prefixed(out, table.name(*actor));
        }
        let (rows, count) = (&self.rows, self.rows.len());
        let mut columns = ColumnWriter::default();
        let actor = |id: Id| table.index(id.actor);
        let element = |i: usize| match rows[i].key {
            Key::Element(id) => Some(id),
            Key::Name(_) | Key::Head => None,
        };
        columns.runs(number::OBJECT_ACTOR, count, |i| rows[i].object.map(actor), write_unsigned);
        columns.runs(number::OBJECT_COUNTER, count, |i| rows[i].object.map(|id| id.counter), write_unsigned);
        columns.runs(number::KEY_ACTOR, count, |i| element(i).map(actor), write_unsigned);
        let counters = deltas(rows.iter().map(|row| match row.key {
            Key::Element(id) => Some(id.counter),
            Key::Head => Some(0),
            Key::Name(_) => None,
        }));
        columns.runs(number::KEY_COUNTER, count, |i| counters[i], write_signed);
        let name = |i: usize| match rows[i].key {
            Key::Name(name) => Some(name),
            Key::Head | Key::Element(_) => None,
        };
        columns.runs(number::KEY_TEXT, count, name, write_prefixed);
        columns.column(number::INSERT, |data| write_booleans(data, rows.iter().map(|row| row.insert)));
        columns.runs(number::ACTION, count, |i| Some(rows[i].action), write_unsigned);
        columns.runs(number::VALUE_META, count, |i| Some(rows[i].meta), write_unsigned);
        columns.column(number::VALUE, |data| rows.iter().for_each(|row| data.extend_from_slice(row.value)));
        columns.runs(number::PRED_COUNT, count, |i| Some(rows[i].preds), write_unsigned);
        let preds = &self.preds;
        columns.runs(number::PRED_ACTOR, preds.len(), |i| Some(actor(preds[i])), write_unsigned);
        let counters = deltas(preds.iter().map(|pred| Some(pred.counter)));
        columns.runs(number::PRED_COUNTER, preds.len(), |i| counters[i], write_signed);
        if rows.iter().any(|row| row.expand) {
            columns.column(number::EXPAND, |data| write_booleans(data, rows.iter().map(|row| row.expand)));
        }
        columns.runs(number::MARK_NAME, count, |i| rows[i].mark, write_prefixed);
        columns.finish(out);
    }
}

/// The actors of one change: the author, then the others that its operations name, sorted.
struct ActorIndices<'r> {
    author: u32,
    others: Vec<u32>,
    actors: &'r [ActorId],
}

impl<'r> ActorIndices<'r> {
    fn new(rows: &Rows<'_>, author: u32, actors: &'r [ActorId]) -> Self {
        let keys = rows.rows.iter().filter_map(|row| match row.key {
            Key::Element(id) => Some(id),
            Key::Name(_) | Key::Head => None,
        });
        let objects = rows.rows.iter().filter_map(|row| row.object);
        let ids = objects.chain(keys).chain(rows.preds.iter().copied());
        let mut table = Self { author, others: Vec::new(), actors };
        table.others.extend(ids.map(|id| id.actor).filter(|actor| *actor != author));
        table.others.sort_unstable_by_key(|actor| name_of(actors, *actor));
        table.others.dedup();
        table
    }

    fn name(&self, actor: u32) -> &'r [u8] {
        name_of(self.actors, actor)
    }

    fn index(&self, actor: u32) -> u64 {
        if actor == self.author {
            return 0;
        }
        let found = self.others.binary_search_by_key(&self.name(actor), |other| self.name(*other));
        // Every actor that is asked for was collected.
        found.map_or(0, |index| index as u64 + 1)
    }
}

fn name_of(actors: &[ActorId], actor: u32) -> &[u8] {
    usize::try_from(actor).ok().and_then(|actor| actors.get(actor)).map_or(&[], ActorId::to_bytes)
}

/// Turns counters into the differences that are stored; rows without one do not count.
fn deltas(counters: impl Iterator<Item = Option<u64>>) -> Vec<Option<i64>> {
    let mut previous = 0u64;
    let delta = |counter: Option<u64>| {
        counter.map(|counter| counter.wrapping_sub(std::mem::replace(&mut previous, counter)).cast_signed())
    };
    counters.map(delta).collect()
}

/// Writes the lengths of the runs of `false` and `true` in turn, beginning with `false`.
fn write_booleans(out: &mut Vec<u8>, values: impl Iterator<Item = bool>) {
    let (mut current, mut length) = (false, 0u64);
    let mut any = false;
    for value in values {
        any = true;
        if value != current {
            write_unsigned(out, length);
            (current, length) = (value, 0);
        }
        length += 1;
    }
    if any {
        write_unsigned(out, length);
    }
}
