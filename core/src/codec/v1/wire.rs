//! How fields are read and written: numbers, texts, byte strings, lists and ids.

use automerge::ChangeHash;
use bytes::Bytes;

use super::DecodeError;
use crate::codec::leb::{Cursor, ReadError, push_length, push_number};
use crate::deletion::{DeletionKind, Tombstone};
use crate::id::{DocumentId, SpaceId};
use crate::limits::{DELETED_BY_BYTES_MAX, DOCUMENT_HEADS_MAX, V1_FRAME_BYTES_MAX, V1_NUMBER_MAX};

/// Reads a message field by field. Every length is checked against its limit and the bytes that are left before anything
/// is allocated.
pub(super) struct Reader<'b> {
    whole: &'b Bytes,
    cursor: Cursor<'b>,
}

impl<'b> Reader<'b> {
    /// Begins to read a message.
    pub(super) fn new(whole: &'b Bytes) -> Result<Self, DecodeError> {
        at_most("message", whole.len() as u64, V1_FRAME_BYTES_MAX as u64)?;
        Ok(Self { whole, cursor: Cursor::new(whole) })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cursor.remaining() == 0
    }

    /// Refuses what follows the last field.
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        match self.cursor.remaining() {
            0 => Ok(()),
            found => Err(DecodeError::TrailingBytes { found }),
        }
    }

    fn read<T>(
        &mut self,
        field: &'static str,
        step: impl FnOnce(&mut Cursor<'b>) -> Result<T, ReadError>,
    ) -> Result<T, DecodeError> {
        let at = self.cursor.position();
        step(&mut self.cursor).map_err(|error| match error {
            ReadError::Truncated => DecodeError::Truncated { field, at },
            ReadError::Number => DecodeError::Number { field, at },
        })
    }

    pub(super) fn byte(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.read(field, Cursor::byte)
    }

    pub(super) fn flag(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.byte(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid { field, expected: "0 or 1" }),
        }
    }

    /// Reads any number of the protocol.
    pub(super) fn number(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let at = self.cursor.position();
        let found = self.read(field, Cursor::number)?;
        if found > V1_NUMBER_MAX { Err(DecodeError::Number { field, at }) } else { Ok(found) }
    }

    /// Reads a number that has a limit of its own.
    pub(super) fn number_up_to(&mut self, field: &'static str, limit: u64) -> Result<u64, DecodeError> {
        let found = self.number(field)?;
        at_most(field, found, limit)?;
        Ok(found)
    }

    /// Reads a number that is not zero.
    pub(super) fn positive(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        match self.number(field)? {
            0 => Err(DecodeError::Invalid { field, expected: "1 or more" }),
            found => Ok(found),
        }
    }

    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.read(field, |cursor| cursor.take(N as u64))?);
        Ok(array)
    }

    pub(super) fn space(&mut self) -> Result<SpaceId, DecodeError> {
        self.array("space").map(SpaceId::from_bytes)
    }

    pub(super) fn document(&mut self) -> Result<DocumentId, DecodeError> {
        self.array("document").map(DocumentId::from_bytes)
    }

    fn slice(&mut self, field: &'static str, limit: usize) -> Result<&'b [u8], DecodeError> {
        let length = self.number_up_to(field, limit as u64)?;
        self.read(field, |cursor| cursor.take(length))
    }

    /// Reads a byte string as a slice of the message, without a copy.
    pub(super) fn bytes(&mut self, field: &'static str, limit: usize) -> Result<Bytes, DecodeError> {
        self.slice(field, limit).map(|slice| self.whole.slice_ref(slice))
    }

    pub(super) fn text(&mut self, field: &'static str, limit: usize) -> Result<String, DecodeError> {
        let text = std::str::from_utf8(self.slice(field, limit)?);
        text.map(str::to_owned).map_err(|_| DecodeError::Invalid { field, expected: "utf-8" })
    }

    /// Reads a list whose items have at least `bytes_each` bytes, so that its length alone never makes us allocate.
    pub(super) fn list<T>(
        &mut self,
        field: &'static str,
        limit: usize,
        bytes_each: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let at = self.cursor.position();
        let found = self.number_up_to(field, limit as u64)?;
        let count = usize::try_from(found).unwrap_or(usize::MAX);
        if count.saturating_mul(bytes_each) > self.cursor.remaining() {
            return Err(DecodeError::Truncated { field, at });
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// Reads a hash list, which is sorted and names nothing twice.
    pub(super) fn heads(&mut self) -> Result<Vec<ChangeHash>, DecodeError> {
        let heads = self.list("heads", DOCUMENT_HEADS_MAX, 32, |reader| reader.array("heads").map(ChangeHash))?;
        if heads.is_sorted_by(|one, next| one < next) {
            Ok(heads)
        } else {
            Err(DecodeError::Invalid { field: "heads", expected: "sorted without repetition" })
        }
    }

    pub(super) fn tombstone(&mut self) -> Result<Tombstone, DecodeError> {
        let kind = if self.flag("purge")? { DeletionKind::Purged } else { DeletionKind::Deleted };
        let time_seconds = self.number("deletion time")?;
        Ok(Tombstone { kind, time_seconds, by: self.text("deleted by", DELETED_BY_BYTES_MAX)? })
    }
}

/// Refuses a number above its limit.
pub(super) fn at_most(field: &'static str, found: u64, limit: u64) -> Result<(), DecodeError> {
    if found > limit { Err(DecodeError::LimitExceeded { field, found, limit }) } else { Ok(()) }
}

/// Writes a message into one buffer.
pub(super) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Begins a message. `capacity` is a guess of its length in bytes.
    pub(super) fn new(kind: u8, capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity.max(16));
        out.push(kind);
        Self { out }
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.out.into()
    }

    pub(super) fn byte(&mut self, byte: u8) -> &mut Self {
        self.out.push(byte);
        self
    }

    pub(super) fn flag(&mut self, flag: bool) -> &mut Self {
        self.byte(flag.into())
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        push_number(&mut self.out, number);
        self
    }

    /// Writes bytes whose length the reader knows.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }

    pub(super) fn space(&mut self, space: &SpaceId) -> &mut Self {
        self.raw(space.as_bytes())
    }

    pub(super) fn document(&mut self, document: &DocumentId) -> &mut Self {
        self.raw(document.as_bytes())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        push_length(&mut self.out, bytes.len());
        self.raw(bytes)
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    pub(super) fn list<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) -> &mut Self {
        push_length(&mut self.out, items.len());
        items.iter().for_each(|one| item(self, one));
        self
    }

    /// Writes a hash list, sorted.
    pub(super) fn heads(&mut self, heads: &[ChangeHash]) -> &mut Self {
        let write = |writer: &mut Self, heads: &[ChangeHash]| {
            writer.list(heads, |writer, hash| {
                writer.raw(&hash.0);
            });
        };
        if heads.is_sorted() {
            write(self, heads);
        } else {
            let mut sorted = heads.to_vec();
            sorted.sort_unstable();
            write(self, &sorted);
        }
        self
    }

    pub(super) fn tombstone(&mut self, tombstone: &Tombstone) -> &mut Self {
        self.flag(tombstone.kind == DeletionKind::Purged).number(tombstone.time_seconds).text(&tombstone.by)
    }
}
