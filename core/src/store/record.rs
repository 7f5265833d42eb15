//! How records are written inside keys and values: fixed-width big-endian in keys, LEB128 in values.
//!
//! What is read here was written by us, so a record that does not decode means a damaged file, never a hostile peer; it
//! is still read with every length checked. Whoever keeps rows of its own beside the engine's, as the relay does, writes them
//! the same way.

use automerge::{ActorId, ChangeHash};

use super::StoreError;
use crate::id::DocumentId;

/// What counts changes, bytes or positions here is at most this: nobody stores so many, and the sum of two is still a number.
pub(crate) const COUNT_MAX: u64 = i64::MAX.cast_unsigned();

/// Returns `(document, position)` as a key.
pub(crate) fn position_key(document: &DocumentId, position: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(document.as_bytes());
    key[16..].copy_from_slice(&position.to_be_bytes());
    key
}

/// Reads the position back out of a `(document, position)` key: at most [`COUNT_MAX`].
pub(crate) fn position_of_key(key: &[u8]) -> Result<u64, StoreError> {
    let bytes = key.get(16..24).and_then(|bytes| bytes.try_into().ok());
    let position = bytes.map(u64::from_be_bytes).filter(|position| *position <= COUNT_MAX);
    position.ok_or(StoreError::Damaged { what: "a position key" })
}

/// Returns `(document, tail)` as a key.
pub(crate) fn tail_key(document: &DocumentId, tail: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(16 + tail.len());
    key.extend_from_slice(document.as_bytes());
    key.extend_from_slice(tail);
    key
}

/// Returns the first key that is greater than every key beginning with `prefix`.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // Every byte was 0xff: no key we write is longer than a document, an object and a map key together.
    vec![u8::MAX; crate::limits::KEY_BYTES_MAX + 256]
}

/// Appends an unsigned LEB128.
pub fn put_uint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let byte = (value & 0x7f).to_le_bytes()[0];
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

/// Appends a signed number, folded so that small magnitudes are short (zigzag).
pub(crate) fn put_int(out: &mut Vec<u8>, value: i64) {
    put_uint(out, (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned());
}

/// Appends bytes with their length before them.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads a record from front to back. Whatever is not there is [`StoreError::Damaged`], named as the record is.
#[derive(Debug)]
pub struct Reader<'r> {
    rest: &'r [u8],
    what: &'static str,
}

impl<'r> Reader<'r> {
    /// Begins to read a record; `what` names it in errors.
    pub fn new(bytes: &'r [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    /// Returns the error that this record is damaged.
    pub fn damaged(&self) -> StoreError {
        StoreError::Damaged { what: self.what }
    }

    /// Reads a byte.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if it is not there.
    pub fn byte(&mut self) -> Result<u8, StoreError> {
        let (first, rest) = self.rest.split_first().ok_or_else(|| self.damaged())?;
        self.rest = rest;
        Ok(*first)
    }

    /// Reads an unsigned LEB128.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if it is not there.
    pub fn uint(&mut self) -> Result<u64, StoreError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.damaged())
    }

    /// Reads an unsigned LEB128 that counts something: at most [`COUNT_MAX`].
    pub(crate) fn count(&mut self) -> Result<u64, StoreError> {
        self.uint().and_then(|count| if count <= COUNT_MAX { Ok(count) } else { Err(self.damaged()) })
    }

    pub(crate) fn int(&mut self) -> Result<i64, StoreError> {
        let folded = self.uint()?;
        Ok((folded >> 1).cast_signed() ^ -(folded & 1).cast_signed())
    }

    /// Reads this many bytes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if it is not there.
    pub fn take(&mut self, length: usize) -> Result<&'r [u8], StoreError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| self.damaged())?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads bytes that have their length before them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if it is not there.
    pub fn bytes(&mut self) -> Result<&'r [u8], StoreError> {
        let length = usize::try_from(self.uint()?).map_err(|_| self.damaged())?;
        self.take(length)
    }

    /// Reads UTF-8 that has its length before it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if it is not there.
    pub fn text(&mut self) -> Result<&'r str, StoreError> {
        let what = self.what;
        std::str::from_utf8(self.bytes()?).map_err(|_| StoreError::Damaged { what })
    }

    /// Reads an array.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if it is not there.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| self.damaged())
    }

    pub(crate) fn hash(&mut self) -> Result<ChangeHash, StoreError> {
        self.array().map(ChangeHash)
    }

    pub(crate) fn actor(&mut self) -> Result<ActorId, StoreError> {
        self.bytes().map(ActorId::from)
    }

    /// Says whether nothing is left.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Returns all that is left.
    pub fn rest(self) -> &'r [u8] {
        self.rest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(uint: u64, int: i64) {
            let mut out = Vec::new();
            put_uint(&mut out, uint);
            put_int(&mut out, int);
            let mut reader = Reader::new(&out, "test");
            prop_assert_eq!(reader.uint().expect("just written"), uint);
            prop_assert_eq!(reader.int().expect("just written"), int);
            prop_assert!(reader.rest.is_empty());
        }

        #[test]
        fn prefix_end_is_above_every_key_with_the_prefix(prefix in proptest::collection::vec(any::<u8>(), 1..20), tail: Vec<u8>) {
            let mut key = prefix.clone();
            key.extend(tail);
            prop_assert!(prefix_end(&prefix) > key);
        }
    }
}
