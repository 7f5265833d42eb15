//! A change that passed the gate long ago, opened again to look at single operations of it.
//!
//! The columns are run-length encoded, so a change of a few bytes can hold a million operations. Looking one up passes
//! over runs, not over operations: the cost is that of the bytes, and each look-up goes on where the last one stopped.

use automerge::ActorId;

use super::change::{HASH_BYTES, read_actor, read_actors};
use super::columns::Columns;
use super::leb::Reader;
use super::op::{Action, KeyRef, ObjectRef, Places};
use super::runs::{Booleans, Runs};
use super::{GateError, Rule};

/// What kind of operation another one refers to: enough to say whether it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape<'a> {
    pub(crate) object: ObjectRef,
    pub(crate) key: KeyRef<'a>,
    pub(crate) insert: bool,
    /// A mark shows as [`Action::MarkBegin`], whichever end it is.
    pub(crate) action: Action,
}

/// The bytes of a stored change, taken apart without checking them again.
#[derive(Debug, Clone)]
pub(crate) struct StoredChange<'a> {
    chunk: &'a [u8],
    actors: Vec<ActorId>,
    start_op: u64,
    columns: Columns,
}

impl<'a> StoredChange<'a> {
    /// Takes an uncompressed chunk apart. Cost: O(dependencies + actors + columns).
    pub(crate) fn open(chunk: &'a [u8]) -> Result<Self, GateError> {
        let mut reader = Reader::new(chunk);
        // Magic, checksum, type and length.
        reader.take(9)?;
        reader.unsigned()?;
        let deps = reader.unsigned()?;
        reader.take(deps.saturating_mul(HASH_BYTES))?;
        let author = read_actor(&mut reader)?;
        let (_seq, start_op) = (reader.unsigned()?, reader.unsigned()?);
        reader.signed()?;
        reader.prefixed()?;
        let actors = read_actors(&mut reader, author)?;
        let columns = Columns::parse(&mut reader, chunk.len())?;
        Ok(Self { chunk, actors, start_op, columns })
    }

    /// Returns the author and then the others.
    pub(crate) fn actors(&self) -> &[ActorId] {
        &self.actors
    }

    /// Begins to look at operations.
    pub(crate) fn shapes(&self) -> Shapes<'a> {
        let columns = &self.columns;
        Shapes {
            next: self.start_op,
            places: Places::new(columns, self.chunk),
            insert: Booleans::new(columns.insert.of(self.chunk)),
            action: Runs::new(columns.action.of(self.chunk)),
        }
    }
}

/// Looks operations of a stored change up, by ascending counter.
#[derive(Debug, Clone)]
pub(crate) struct Shapes<'a> {
    next: u64,
    places: Places<'a>,
    insert: Booleans<'a>,
    action: Runs<'a, u64>,
}

impl<'a> Shapes<'a> {
    /// Returns the operation with this counter, which must be above the last one asked for and in the change.
    pub(crate) fn at(&mut self, counter: u64) -> Result<Shape<'a>, GateError> {
        let skip = counter.checked_sub(self.next).ok_or_else(|| Rule::Reference.error())?;
        if skip > 0 {
            self.places.skip_rows(skip)?;
            self.insert.skip_rows(skip)?;
            self.action.skip_rows(skip)?;
        }
        self.next = counter + 1;
        let (object, key) = self.places.next_row()?;
        let insert = self.insert.next_row()?;
        let code = self.action.next_row()?.ok_or_else(|| Rule::ColumnLength.error())?;
        Ok(Shape { object, key, insert, action: Action::from_code(code, true)? })
    }
}
