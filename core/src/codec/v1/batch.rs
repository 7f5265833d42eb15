//! Batches of changes and deletions: what `push`, `entries` and `fill` carry.
//!
//! Such a batch runs to the end of its message and has no count, so that it is written in one pass while it is still open
//! how much fits. A document is named where it first comes, and by its place among those named after that: a batch of
//! keystrokes in one document costs 2 bytes a keystroke beside the changes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::wire::{Reader, Writer};
use super::{DecodeError, kind};
use crate::deletion::Tombstone;
use crate::id::{DocumentId, SpaceId};
use crate::limits::{BATCH_BYTES, BATCH_ENTRIES_MAX, CHANGE_BYTES_MAX, V1_NUMBER_MAX};

/// The shortest chunk: 4 bytes of magic, 4 of checksum, its type and a length.
const CHUNK_BYTES_MIN: usize = 10;

/// Marks positions that hold nothing.
const SKIPPED: u64 = 0;

/// In its place in a `push`: what follows is others', or is not any more.
const TURN: u64 = 0;

/// A change of a document, or its deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which document.
    pub document: DocumentId,
    /// What happens to it.
    pub content: Content,
}

/// What happens to a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// One change chunk, compressed or not. A slice of the message that brought it; nothing has looked into it.
    Change(Bytes),
    /// The same in a `push`, of what the client did not write itself and has from elsewhere: its actor is not the client's by that.
    /// In other messages it is a change like any.
    PassedOn(Bytes),
    /// It is deleted everywhere.
    Deleted(Tombstone),
}

/// One or more positions of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// One position.
    Write(Write),
    /// So many positions that hold nothing for this reader: what was deleted since, or what it has.
    Skipped {
        /// How many, 1 or more.
        count: u64,
    },
}

impl Entry {
    /// Returns how many positions it stands for.
    pub fn positions(&self) -> u64 {
        match self {
            Self::Write(_) => 1,
            Self::Skipped { count } => *count,
        }
    }
}

/// Writes an `entries` message change by change, up to a budget of bytes.
///
/// ```
/// use rejoin::codec::v1::{EntriesBuilder, RelayMessage};
/// use rejoin::{DocumentId, SpaceId};
///
/// let mut builder = EntriesBuilder::new(&SpaceId::DEFAULT, 8);
/// assert!(builder.change(&DocumentId::from_bytes([7; 16]), b"0123456789"));
/// builder.skip(3);
/// assert_eq!(builder.next_position(), 12);
/// let frame = builder.finish();
/// assert!(matches!(RelayMessage::decode(&frame), Ok(RelayMessage::Entries { first: 8, .. })));
/// ```
pub struct EntriesBuilder {
    batch: BatchWriter,
    next: u64,
    skipped: u64,
}

impl EntriesBuilder {
    /// Begins a message whose first entry is at position `first`, with [`BATCH_BYTES`] as its budget.
    pub fn new(space: &SpaceId, first: u64) -> Self {
        Self::with_budget(space, first, BATCH_BYTES)
    }

    /// Begins a message with a budget in bytes of its own. One entry is taken however long it is.
    pub fn with_budget(space: &SpaceId, first: u64, budget_bytes: usize) -> Self {
        let mut batch = BatchWriter::new(kind::ENTRIES, budget_bytes);
        batch.writer.space(space).number(first);
        Self { batch, next: first, skipped: 0 }
    }

    /// Adds the change at the next position and tells whether it was taken. If not, the message is full.
    ///
    /// Costs one copy of the bytes and one look-up among the documents named so far.
    #[must_use = "a change that was not taken belongs into the next message"]
    pub fn change(&mut self, document: &DocumentId, bytes: &[u8]) -> bool {
        if !self.batch.has_room(bytes.len()) {
            return false;
        }
        self.write_skipped();
        self.batch.change(document, bytes, false);
        self.next += 1;
        true
    }

    /// Adds the deletion of a document at the next position and tells whether it was taken.
    #[must_use = "a deletion that was not taken belongs into the next message"]
    pub fn deleted(&mut self, document: &DocumentId, tombstone: &Tombstone) -> bool {
        if !self.batch.has_room(tombstone.by.len()) {
            return false;
        }
        self.write_skipped();
        self.batch.deleted(document, tombstone);
        self.next += 1;
        true
    }

    /// Says that the next `count` positions hold nothing. There is always room for it.
    pub fn skip(&mut self, count: u64) {
        self.next = self.next.saturating_add(count);
        self.skipped = self.skipped.saturating_add(count);
    }

    /// Returns the position of what is added next.
    pub fn next_position(&self) -> u64 {
        self.next
    }

    /// Tells whether nothing was added. Such a message is not to be sent.
    pub fn is_empty(&self) -> bool {
        self.batch.count == 0 && self.skipped == 0
    }

    /// Returns the message.
    pub fn finish(mut self) -> Bytes {
        self.write_skipped();
        self.batch.writer.into_bytes()
    }

    /// Writes the positions that were skipped as one entry: a reader refuses two that adjoin.
    fn write_skipped(&mut self) {
        if self.skipped > 0 {
            self.batch.count += 1;
            self.batch.writer.number(SKIPPED).number(self.skipped);
            self.skipped = 0;
        }
    }
}

/// Writes a `push` or `fill` message write by write, up to a budget of bytes.
pub struct WritesBuilder {
    batch: BatchWriter,
}

impl WritesBuilder {
    /// Begins a `push` with [`BATCH_BYTES`] as its budget.
    pub fn push(batch: u64, space: &SpaceId) -> Self {
        Self::push_with_budget(batch, space, BATCH_BYTES)
    }

    /// Begins a `push` with a budget in bytes of its own. One write is taken however long it is.
    pub fn push_with_budget(batch: u64, space: &SpaceId, budget_bytes: usize) -> Self {
        let mut writer = BatchWriter { turns: true, ..BatchWriter::new(kind::PUSH, budget_bytes) };
        writer.writer.number(batch).space(space);
        Self { batch: writer }
    }

    /// Begins a `fill` with [`BATCH_BYTES`] as its budget.
    pub fn fill(space: &SpaceId) -> Self {
        Self::fill_with_budget(space, BATCH_BYTES)
    }

    /// Begins a `fill` with a budget in bytes of its own. One write is taken however long it is.
    pub fn fill_with_budget(space: &SpaceId, budget_bytes: usize) -> Self {
        let mut batch = BatchWriter::new(kind::FILL, budget_bytes);
        batch.writer.space(space);
        Self { batch }
    }

    /// Adds a change and tells whether it was taken. If not, the message is full.
    #[must_use = "a change that was not taken belongs into the next message"]
    pub fn change(&mut self, document: &DocumentId, bytes: &[u8]) -> bool {
        self.change_of(document, bytes, false)
    }

    /// Adds a change that somebody else wrote to a `push` and tells whether it was taken. In a `fill` it is one like any.
    #[must_use = "a change that was not taken belongs into the next message"]
    pub fn passed_on(&mut self, document: &DocumentId, bytes: &[u8]) -> bool {
        self.change_of(document, bytes, true)
    }

    fn change_of(&mut self, document: &DocumentId, bytes: &[u8], is_passed_on: bool) -> bool {
        let has_room = self.batch.has_room(bytes.len());
        if has_room {
            self.batch.change(document, bytes, is_passed_on);
        }
        has_room
    }

    /// Adds the deletion of a document and tells whether it was taken.
    #[must_use = "a deletion that was not taken belongs into the next message"]
    pub fn deleted(&mut self, document: &DocumentId, tombstone: &Tombstone) -> bool {
        let has_room = self.batch.has_room(tombstone.by.len());
        if has_room {
            self.batch.deleted(document, tombstone);
        }
        has_room
    }

    /// Returns how many writes were taken.
    pub fn count(&self) -> usize {
        self.batch.count
    }

    /// Returns the message. One without writes is not to be sent.
    pub fn finish(self) -> Bytes {
        self.batch.writer.into_bytes()
    }
}

/// Writes entries behind the fields that a message begins with.
struct BatchWriter {
    writer: Writer,
    /// Where each document was named: the how many-th, from 1.
    named: BTreeMap<DocumentId, u64>,
    budget_bytes: usize,
    count: usize,
    /// Whether the message says whose changes are.
    turns: bool,
    /// Whether those that come now are others'.
    is_passing_on: bool,
}

impl BatchWriter {
    fn new(kind: u8, budget_bytes: usize) -> Self {
        let writer = Writer::new(kind, budget_bytes.min(4 << 10));
        Self { writer, named: BTreeMap::new(), budget_bytes, count: 0, turns: false, is_passing_on: false }
    }

    /// Tells whether an entry with so many bytes of its own fits. A gap before it may take an entry too.
    fn has_room(&self, bytes: usize) -> bool {
        // A reference or id, a length and a gap or a turn are at most 10 + 16 + 10 + 11 bytes.
        let end = self.writer.len().saturating_add(bytes).saturating_add(48);
        self.count == 0 || (self.count + 3 <= BATCH_ENTRIES_MAX && end <= self.budget_bytes)
    }

    fn change(&mut self, document: &DocumentId, bytes: &[u8], is_passed_on: bool) {
        self.turn(is_passed_on);
        self.head(document, 0);
        self.writer.bytes(bytes);
    }

    /// Says whose the changes are that follow, if that is said at all and is news.
    fn turn(&mut self, is_passing_on: bool) {
        if self.turns && self.is_passing_on != is_passing_on {
            self.is_passing_on = is_passing_on;
            self.writer.number(TURN);
        }
    }

    fn deleted(&mut self, document: &DocumentId, tombstone: &Tombstone) {
        self.head(document, 1);
        self.writer.tombstone(tombstone);
    }

    /// Writes what an entry is and of which document, which it names if it comes first.
    fn head(&mut self, document: &DocumentId, deletion: u64) {
        self.count += 1;
        let next = self.named.len() as u64 + 1;
        let place = *self.named.entry(*document).or_insert(next);
        if place == next {
            self.writer.number(1 + deletion).document(document);
        } else {
            self.writer.number(1 + 2 * place + deletion);
        }
    }

    fn entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Write(write) => self.write(write),
            Entry::Skipped { count } => {
                self.count += 1;
                self.writer.number(SKIPPED).number(*count);
            }
        }
    }

    fn write(&mut self, write: &Write) {
        match &write.content {
            Content::Change(bytes) => self.change(&write.document, bytes, false),
            Content::PassedOn(bytes) => self.change(&write.document, bytes, true),
            Content::Deleted(tombstone) => self.deleted(&write.document, tombstone),
        }
    }
}

/// Returns a whole `push` message.
pub(super) fn encode_push(batch: u64, space: &SpaceId, writes: &[Write]) -> Bytes {
    let mut builder = WritesBuilder::push_with_budget(batch, space, usize::MAX);
    writes.iter().for_each(|write| builder.batch.write(write));
    builder.finish()
}

/// Returns a whole `fill` message.
pub(super) fn encode_fill(space: &SpaceId, writes: &[Write]) -> Bytes {
    let mut builder = WritesBuilder::fill_with_budget(space, usize::MAX);
    writes.iter().for_each(|write| builder.batch.write(write));
    builder.finish()
}

/// Returns a whole `entries` message.
pub(super) fn encode_entries(space: &SpaceId, first: u64, entries: &[Entry]) -> Bytes {
    let mut builder = EntriesBuilder::with_budget(space, first, usize::MAX);
    entries.iter().for_each(|entry| builder.batch.entry(entry));
    builder.finish()
}

/// Reads the writes of a `push` or `fill`, to the end of the message. Only a `push` has turns.
pub(super) fn read_writes(reader: &mut Reader<'_>, may_turn: bool) -> Result<Vec<Write>, DecodeError> {
    let mut named = Vec::new();
    let mut writes = Vec::new();
    let mut is_passing_on = false;
    while !reader.is_empty() {
        full_at(writes.len())?;
        let mut head = reader.number("entry")?;
        if head == TURN {
            if !may_turn {
                return Err(DecodeError::Invalid { field: "entry", expected: "a change or a deletion" });
            }
            is_passing_on = !is_passing_on;
            // There is one way to say it: before a change that it is about.
            head = reader.number("entry")?;
            if head.is_multiple_of(2) {
                return Err(DecodeError::Invalid { field: "entry", expected: "a change behind a turn" });
            }
        }
        let mut write = read_write(reader, &mut named, head)?;
        if is_passing_on && let Content::Change(bytes) = write.content {
            write.content = Content::PassedOn(bytes);
        }
        writes.push(write);
    }
    at_least_one(writes.len())?;
    Ok(writes)
}

/// Reads the entries behind the position of the first, to the end of the message.
pub(super) fn read_entries(reader: &mut Reader<'_>, first: u64) -> Result<Vec<Entry>, DecodeError> {
    let mut named = Vec::new();
    let mut entries: Vec<Entry> = Vec::new();
    let mut next = first;
    while !reader.is_empty() {
        full_at(entries.len())?;
        let entry = match reader.number("entry")? {
            SKIPPED if matches!(entries.last(), Some(Entry::Skipped { .. })) => {
                return Err(DecodeError::Invalid { field: "entry", expected: "one gap where two adjoin" });
            }
            SKIPPED => Entry::Skipped { count: reader.positive("skipped positions")? },
            head => Entry::Write(read_write(reader, &mut named, head)?),
        };
        // Neither is above 2^53, so this does not overflow, and what is next never is above 2^53 either.
        next += entry.positions();
        super::wire::at_most("last position", next - 1, V1_NUMBER_MAX)?;
        entries.push(entry);
    }
    at_least_one(entries.len())?;
    Ok(entries)
}

fn read_write(reader: &mut Reader<'_>, named: &mut Vec<DocumentId>, head: u64) -> Result<Write, DecodeError> {
    let (place, is_deletion) = ((head - 1) / 2, head.is_multiple_of(2));
    let document = if place == 0 {
        let document = reader.document()?;
        named.push(document);
        document
    } else {
        let index = usize::try_from(place - 1).unwrap_or(usize::MAX);
        let unknown = DecodeError::Invalid { field: "entry", expected: "about a document that was named before" };
        *named.get(index).ok_or(unknown)?
    };
    let content = if is_deletion {
        Content::Deleted(reader.tombstone()?)
    } else {
        let bytes = reader.bytes("change", CHANGE_BYTES_MAX)?;
        if bytes.len() < CHUNK_BYTES_MIN {
            return Err(DecodeError::Invalid { field: "change", expected: "as long as a chunk, 10 bytes or more" });
        }
        Content::Change(bytes)
    };
    Ok(Write { document, content })
}

fn full_at(count: usize) -> Result<(), DecodeError> {
    super::wire::at_most("entries", count as u64 + 1, BATCH_ENTRIES_MAX as u64)
}

fn at_least_one(count: usize) -> Result<(), DecodeError> {
    if count == 0 { Err(DecodeError::Truncated { field: "entries", at: 0 }) } else { Ok(()) }
}
