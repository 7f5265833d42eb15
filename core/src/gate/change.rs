//! A change that passed every check that needs nothing but its own bytes.

use std::sync::Arc;

use automerge::{ActorId, ChangeHash};
use bytes::Bytes;

use super::chunk::{Chunk, ChunkKind};
use super::columns::{Columns, Span};
use super::leb::Reader;
use super::op::{OpReader, Ops};
use super::op_rules::OpRules;
use super::{GateError, Rule};
use crate::limits::{
    ACTOR_BYTES_MAX, CHANGE_ACTORS_MAX, CHANGE_BYTES_MAX, CHANGE_DEPS_MAX, CHANGE_EXTRA_BYTES_MAX,
    CHANGE_MESSAGE_BYTES_MAX, OP_COUNTER_MAX, TIMESTAMP_ABS_MAX,
};

/// What a hash takes.
pub(super) const HASH_BYTES: u64 = 32;

/// The extra section that starts with this byte names the author of all changes of the actor.
const AUTHOR_FOOTER: u8 = 1;

/// A change that is well-formed in itself: Automerge decodes it, and building it anew gives the same bytes.
///
/// Whether it fits a document's history is for [`admit`](super::admit). Cheap to clone; it holds its own bytes.
#[derive(Clone)]
pub struct CheckedChange {
    inner: Arc<Inner>,
}

struct Inner {
    bytes: Bytes,
    hash: ChangeHash,
    deps: Vec<ChangeHash>,
    /// The author, then the others.
    actors: Vec<ActorId>,
    seq: u64,
    start_op: u64,
    op_count: u64,
    timestamp: i64,
    message: Span,
    columns: Columns,
    extra: Span,
}

impl CheckedChange {
    /// Checks exactly one chunk, a change or a compressed change.
    ///
    /// Cost: about 1 us for a change of one operation; O(bytes) up to the run totals, then O(operations + predecessors),
    /// which the totals bound. Allocates the change's own bytes, its dependencies and its actors.
    ///
    /// # Errors
    ///
    /// The first [`Rule`] that is broken.
    ///
    /// ```
    /// use rejoin::gate::{Action, ChangeDraft, CheckedChange, DraftObject, DraftOp, KeyRef, Rule, encode};
    ///
    /// let draft = ChangeDraft {
    ///     actor: rejoin::ActorId::from(&[7; 16][..]),
    ///     seq: 1,
    ///     start_op: 1,
    ///     timestamp: 0,
    ///     message: None,
    ///     deps: vec![],
    ///     ops: vec![DraftOp {
    ///         object: DraftObject::Root,
    ///         key: "title".into(),
    ///         action: Action::Put,
    ///         value: "Rejoin".into(),
    ///         preds: vec![],
    ///     }],
    /// };
    /// let bytes = encode(&draft)?.bytes().clone();
    /// let change = CheckedChange::parse(&bytes)?;
    /// assert!(change.ops().all(|op| op.key == KeyRef::Map("title")));
    ///
    /// let cut = CheckedChange::parse(&bytes[..bytes.len() - 1]);
    /// assert_eq!(cut.map_err(|error| error.rule()), Err(Rule::Truncated));
    /// # Ok::<(), rejoin::gate::GateError>(())
    /// ```
    pub fn parse(chunk: &[u8]) -> Result<Self, GateError> {
        Self::from_chunk(&Chunk::parse(chunk)?)
    }

    /// Checks a chunk that [`chunks`](super::chunks) split off, without hashing it again.
    ///
    /// # Errors
    ///
    /// As [`CheckedChange::parse`].
    pub fn from_chunk(chunk: &Chunk<'_>) -> Result<Self, GateError> {
        match (chunk.kind(), chunk.hash()) {
            (ChunkKind::Change, Some(hash)) => Self::from_hashed(Bytes::copy_from_slice(chunk.raw()), hash),
            (ChunkKind::Compressed, _) => {
                let (bytes, hash) = chunk.inflate()?;
                Self::from_hashed(bytes.into(), hash)
            }
            _ => Err(Rule::ChunkType.error()),
        }
    }

    /// Checks the body of an uncompressed chunk whose header is sound and whose hash is known.
    pub(crate) fn from_hashed(bytes: Bytes, hash: ChangeHash) -> Result<Self, GateError> {
        let mut reader = Reader::new(&bytes);
        // Magic, checksum and type.
        reader.take(9)?;
        Rule::ChangeTooLarge.at_most(reader.unsigned()?, CHANGE_BYTES_MAX as u64)?;
        let deps = read_deps(&mut reader)?;
        let author = read_actor(&mut reader)?;
        let seq = reader.unsigned()?;
        Rule::SeqZero.require(seq > 0)?;
        Rule::SeqTooLarge.at_most(seq, OP_COUNTER_MAX)?;
        let start_op = reader.unsigned()?;
        Rule::StartOp.require(start_op > 0)?;
        let timestamp = reader.signed()?;
        Rule::Timestamp.at_most(timestamp.unsigned_abs(), TIMESTAMP_ABS_MAX.unsigned_abs())?;
        let message = read_message(&mut reader, bytes.len())?;
        let actors = read_actors(&mut reader, author)?;
        let columns = Columns::parse(&mut reader, bytes.len())?;
        let extra = Span::new(bytes.len() - reader.len(), bytes.len())?;
        check_extra(reader, seq)?;
        let op_count = check_totals(&columns, &bytes, actors.len())?;
        // An empty change's last counter is the one before its first.
        let max_op = start_op.saturating_add(op_count) - 1;
        Rule::OpCounter.at_most(max_op, OP_COUNTER_MAX)?;
        check_ops(OpReader::new(&columns, &bytes, start_op, op_count), &actors)?;
        let inner = Inner { bytes, hash, deps, actors, seq, start_op, op_count, timestamp, message, columns, extra };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns the hash that names the change.
    pub fn hash(&self) -> ChangeHash {
        self.inner.hash
    }

    /// Returns the changes it follows, sorted.
    pub fn deps(&self) -> &[ChangeHash] {
        &self.inner.deps
    }

    /// Returns the author.
    pub fn actor(&self) -> &ActorId {
        &self.inner.actors[0]
    }

    /// Returns the other actors that the operations refer to, sorted.
    pub fn other_actors(&self) -> &[ActorId] {
        &self.inner.actors[1..]
    }

    /// Returns the author and then the others: what [`OpRef::actor_index`](super::OpRef::actor_index) points into.
    pub fn actors(&self) -> &[ActorId] {
        &self.inner.actors
    }

    /// Returns how many changes the author made in the document, this one included; from 1.
    pub fn seq(&self) -> u64 {
        self.inner.seq
    }

    /// Returns the counter of the first operation; from 1.
    pub fn start_op(&self) -> u64 {
        self.inner.start_op
    }

    /// Returns the counter of the last operation; for an empty change the one before [`CheckedChange::start_op`].
    pub fn max_op(&self) -> u64 {
        self.inner.start_op + self.inner.op_count - 1
    }

    /// Returns the number of operations.
    pub fn op_count(&self) -> u64 {
        self.inner.op_count
    }

    /// Returns when the author says it was made, in seconds since the epoch (some programs write milliseconds).
    pub fn timestamp(&self) -> i64 {
        self.inner.timestamp
    }

    /// Returns the commit message, if there is one.
    pub fn message(&self) -> Option<&str> {
        let text = std::str::from_utf8(self.inner.message.of(&self.inner.bytes)).ok()?;
        (!text.is_empty()).then_some(text)
    }

    /// Returns the section after the columns.
    pub fn extra_bytes(&self) -> &[u8] {
        self.inner.extra.of(&self.inner.bytes)
    }

    /// Returns the uncompressed chunk.
    pub fn bytes(&self) -> &Bytes {
        &self.inner.bytes
    }

    /// Returns where the columns are in [`CheckedChange::bytes`].
    pub(crate) fn columns(&self) -> &Columns {
        &self.inner.columns
    }

    /// Walks the operations without allocating.
    pub fn ops(&self) -> Ops<'_> {
        Ops::new(&self.inner.columns, &self.inner.bytes, self.inner.start_op, self.inner.op_count)
    }
}

impl PartialEq for CheckedChange {
    fn eq(&self, other: &Self) -> bool {
        self.inner.hash == other.inner.hash
    }
}

impl Eq for CheckedChange {}

impl std::fmt::Debug for CheckedChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckedChange")
            .field("hash", &self.inner.hash)
            .field("actor", self.actor())
            .field("seq", &self.inner.seq)
            .field("start_op", &self.inner.start_op)
            .field("op_count", &self.inner.op_count)
            .field("bytes", &self.inner.bytes.len())
            .finish_non_exhaustive()
    }
}

fn read_deps(reader: &mut Reader<'_>) -> Result<Vec<ChangeHash>, GateError> {
    let count = reader.unsigned()?;
    Rule::TooManyDeps.at_most(count, CHANGE_DEPS_MAX as u64)?;
    let (hashes, _) = reader.take(count * HASH_BYTES)?.as_chunks::<32>();
    let deps: Vec<_> = hashes.iter().copied().map(ChangeHash).collect();
    Rule::DepsOrder.require(deps.is_sorted_by(|left, right| left < right))?;
    Ok(deps)
}

pub(super) fn read_actor(reader: &mut Reader<'_>) -> Result<ActorId, GateError> {
    let bytes = reader.prefixed()?;
    if bytes.is_empty() || bytes.len() > ACTOR_BYTES_MAX {
        return Err(Rule::ActorLength.found(bytes.len() as u64, ACTOR_BYTES_MAX as u64));
    }
    Ok(ActorId::from(bytes))
}

fn read_message(reader: &mut Reader<'_>, chunk_bytes: usize) -> Result<Span, GateError> {
    let text = reader.prefixed()?;
    Rule::MessageTooLong.at_most(text.len() as u64, CHANGE_MESSAGE_BYTES_MAX as u64)?;
    Rule::Text.require(std::str::from_utf8(text).is_ok())?;
    let end = chunk_bytes - reader.len();
    Span::new(end - text.len(), end)
}

/// Reads the other actors behind the author.
pub(super) fn read_actors(reader: &mut Reader<'_>, author: ActorId) -> Result<Vec<ActorId>, GateError> {
    let count = reader.unsigned()?;
    Rule::TooManyActors.at_most(count, CHANGE_ACTORS_MAX as u64)?;
    let mut actors = vec![author];
    for index in 0..count {
        let actor = read_actor(reader)?;
        let ascends = index == 0 || actors.last() < Some(&actor);
        Rule::ActorOrder.require(ascends && actor != actors[0])?;
        actors.push(actor);
    }
    Ok(actors)
}

/// Checks what follows the columns: nothing, an author footer, or the footer of a later version.
///
/// Automerge takes an author only with an actor's first change, and reads the footer more loosely than it writes it.
fn check_extra(mut reader: Reader<'_>, seq: u64) -> Result<(), GateError> {
    Rule::ExtraTooLong.at_most(reader.len() as u64, CHANGE_EXTRA_BYTES_MAX as u64)?;
    if reader.is_empty() {
        return Ok(());
    }
    let first = reader.byte()?;
    if first & 0x7f == AUTHOR_FOOTER {
        let sound = first == AUTHOR_FOOTER && seq == 1 && reader.prefixed().is_ok() && reader.is_empty();
        Rule::Author.require(sound)?;
    }
    Ok(())
}

/// Checks the columns' totals, that every actor index is in range, and that every actor is referred to.
fn check_totals(columns: &Columns, chunk: &[u8], actors: usize) -> Result<u64, GateError> {
    // One actor is the rule, a few are common: they need no allocation.
    let mut few = [false; 16];
    let mut many;
    let used = match few.get_mut(..actors) {
        Some(used) => used,
        None => {
            many = vec![false; actors];
            &mut many[..]
        }
    };
    used[0] = true;
    let ops = columns.check_totals(chunk, |index| {
        let slot = usize::try_from(index).ok().and_then(|index| used.get_mut(index));
        *slot.ok_or_else(|| Rule::ActorIndex.found(index, actors as u64 - 1))? = true;
        Ok(())
    })?;
    Rule::ActorUnused.require(used.iter().all(|used| *used))?;
    Ok(ops)
}

fn check_ops(mut reader: OpReader<'_>, actors: &[ActorId]) -> Result<(), GateError> {
    let mut rules = OpRules::new(actors);
    while let Some(op) = reader.next_op()? {
        rules.check(&op)?;
    }
    Ok(())
}
