//! What stands in a change before and around its columns.

use std::collections::HashMap;

use automerge::{ActorId, ChangeHash};

use super::PackError;
use super::tape::{Stream, Tape, damaged, usize_of};
use crate::gate::CheckedChange;
use crate::limits::{ACTOR_BYTES_MAX, CHANGE_DEPS_MAX, CHANGE_OPS_MAX, OP_COUNTER_MAX};

/// The start of a change, with actors by their number in the pack.
#[derive(Default)]
pub(super) struct Header<'a> {
    /// How many changes back each dependency is, if it is in the pack, and its hash.
    pub(super) deps: Vec<(u64, ChangeHash)>,
    pub(super) author: u32,
    pub(super) seq: u64,
    pub(super) start_op: u64,
    pub(super) time: i64,
    pub(super) message: &'a [u8],
    pub(super) extra: &'a [u8],
    pub(super) op_count: u64,
    /// Whether the columns are stored as they are.
    pub(super) is_raw: bool,
}

/// What the headers before tell of the next one.
pub(super) struct Headers {
    /// Of each change so far its hash and its greatest counter.
    done: Vec<(ChangeHash, u64)>,
    outside: Vec<ChangeHash>,
    outside_numbers: HashMap<ChangeHash, u64>,
    /// The last sequence number of each actor.
    seqs: Vec<u64>,
    time: i64,
}

impl Headers {
    pub(super) fn new(actors: usize) -> Self {
        let (done, outside) = (Vec::new(), Vec::new());
        Self { done, outside, outside_numbers: HashMap::new(), seqs: vec![0; actors], time: 0 }
    }

    /// Notes the change whose header was passed last.
    pub(super) fn push(&mut self, hash: ChangeHash, header: &Header<'_>) {
        self.done.push((hash, header.start_op.saturating_add(header.op_count).saturating_sub(1)));
    }

    /// Passes a header through. What is played replaces what was in it.
    pub(super) fn pass<'a, P: Tape<'a>>(&mut self, tape: &mut P, header: &mut Header<'a>) -> Result<(), PackError> {
        self.pass_deps(tape, &mut header.deps)?;
        let author = tape.unsigned(Stream::Author, || u64::from(header.author))?;
        header.author = u32::try_from(author).map_err(|_| damaged("the number of an author"))?;
        let seq = self.seqs.get_mut(usize_of(author)?).ok_or_else(|| damaged("the number of an author"))?;
        header.seq = pass_relative(tape, Stream::Seq, seq.wrapping_add(1), header.seq)?;
        *seq = header.seq;
        let expected = self.expected_start(&header.deps);
        header.start_op = pass_relative(tape, Stream::StartOp, expected, header.start_op)?;
        let time = pass_relative(tape, Stream::Time, self.time.cast_unsigned(), header.time.cast_unsigned())?;
        (header.time, self.time) = (time.cast_signed(), time.cast_signed());
        header.message = tape.prefixed(Stream::MessageLength, Stream::Message, header.message)?;
        header.extra = tape.prefixed(Stream::ExtraLength, Stream::Extra, header.extra)?;
        let form = tape.unsigned(Stream::Form, || header.op_count * 2 + u64::from(header.is_raw))?;
        (header.op_count, header.is_raw) = (form / 2, form % 2 == 1);
        let counters = header.seq <= OP_COUNTER_MAX && header.start_op <= OP_COUNTER_MAX;
        let sound = counters && header.start_op > 0 && header.op_count <= CHANGE_OPS_MAX;
        if sound { Ok(()) } else { Err(damaged("a counter of a change")) }
    }

    fn pass_deps<'a, P: Tape<'a>>(&mut self, tape: &mut P, deps: &mut Vec<(u64, ChangeHash)>) -> Result<(), PackError> {
        let count = tape.unsigned(Stream::DepCount, || deps.len() as u64)?;
        if count > CHANGE_DEPS_MAX as u64 {
            return Err(damaged("the number of dependencies"));
        }
        let given = std::mem::take(deps);
        for index in 0..usize_of(count)? {
            let (back, hash) = given.get(index).copied().unwrap_or((0, ChangeHash([0; 32])));
            let back = tape.unsigned(Stream::Dep, || back)?;
            let hash = if back == 0 { self.pass_outside(tape, hash)? } else { self.back(back)?.0 };
            deps.push((back, hash));
        }
        Ok(())
    }

    fn pass_outside<'a, P: Tape<'a>>(&mut self, tape: &mut P, hash: ChangeHash) -> Result<ChangeHash, PackError> {
        let code = tape.unsigned(Stream::Outside, || self.outside_numbers.get(&hash).copied().unwrap_or(0))?;
        if let Some(number) = code.checked_sub(1) {
            let known = self.outside.get(usize_of(number)?).copied();
            return known.ok_or_else(|| damaged("the number of a dependency"));
        }
        let mut passed = [0; 32];
        for (byte, given) in passed.iter_mut().zip(hash.0) {
            // A byte at a time, because the hash is no part of the played streams' lifetime.
            *byte = tape.byte(Stream::Hashes, given)?;
        }
        let hash = ChangeHash(passed);
        self.outside.push(hash);
        self.outside_numbers.insert(hash, self.outside.len() as u64);
        Ok(hash)
    }

    fn back(&self, distance: u64) -> Result<(ChangeHash, u64), PackError> {
        let index = self.done.len().checked_sub(usize_of(distance)?);
        index.and_then(|index| self.done.get(index)).copied().ok_or_else(|| damaged("the place of a dependency"))
    }

    /// The counter after the greatest of the dependencies, or after that of the change before.
    fn expected_start(&self, deps: &[(u64, ChangeHash)]) -> u64 {
        let inside = deps.iter().filter(|(back, _)| *back > 0).filter_map(|(back, _)| self.back(*back).ok());
        let last = || self.done.last().map_or(0, |(_, max_op)| *max_op);
        inside.map(|(_, max_op)| max_op).max().unwrap_or_else(last).wrapping_add(1)
    }
}

impl<'a> Header<'a> {
    /// Reads a change's header. `places` are the places of the changes before it, `position` is its own.
    pub(super) fn read(
        &mut self,
        change: &'a CheckedChange,
        author: u32,
        position: u64,
        places: &HashMap<ChangeHash, u64>,
    ) {
        let back = |hash: &ChangeHash| places.get(hash).map_or(0, |place| position - place);
        self.deps.clear();
        self.deps.extend(change.deps().iter().map(|hash| (back(hash), *hash)));
        // Sorted by hash they look random; by distance they look alike.
        self.deps.sort_unstable();
        self.author = author;
        self.seq = change.seq();
        self.start_op = change.start_op();
        self.time = change.timestamp();
        self.message = change.message().unwrap_or_default().as_bytes();
        self.extra = change.extra_bytes();
        self.op_count = change.op_count();
    }
}

/// Passes the actors of a pack through.
pub(super) fn pass_actors<'a, P: Tape<'a>>(tape: &mut P, given: &'a [ActorId]) -> Result<Vec<ActorId>, PackError> {
    let count = tape.unsigned(Stream::Actors, || given.len() as u64)?;
    let mut actors = Vec::new();
    for index in 0..usize_of(count)? {
        let given = given.get(index).map_or(&[][..], ActorId::to_bytes);
        let bytes = tape.prefixed(Stream::Actors, Stream::Actors, given)?;
        if bytes.is_empty() || bytes.len() > ACTOR_BYTES_MAX {
            return Err(damaged("the length of an actor"));
        }
        actors.push(ActorId::from(bytes));
    }
    Ok(actors)
}

fn pass_relative<'a, P: Tape<'a>>(tape: &mut P, stream: Stream, expected: u64, given: u64) -> Result<u64, PackError> {
    let code = tape.signed(stream, || given.wrapping_sub(expected).cast_signed())?;
    Ok(expected.wrapping_add(code.cast_unsigned()))
}
