//! Unsigned LEB128 numbers, read as Automerge reads them, and a cursor over the bytes that hold them.

use automerge::ChangeHash;

/// Reads a byte slice from the front and knows how far it came.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

/// Why the next value could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadError {
    /// The bytes end before the value does.
    Truncated,
    /// A number with needless zero groups, or of more than 64 bits.
    Number,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Returns how many bytes were read.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Returns how many bytes are left.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// Reads one byte.
    pub(super) fn byte(&mut self) -> Result<u8, ReadError> {
        let byte = *self.bytes.get(self.position).ok_or(ReadError::Truncated)?;
        self.position += 1;
        Ok(byte)
    }

    /// Reads `count` bytes. A count beyond the end costs nothing.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], ReadError> {
        let end = usize::try_from(count)
            .ok()
            .and_then(|count| self.position.checked_add(count))
            .ok_or(ReadError::Truncated)?;
        let taken = self.bytes.get(self.position..end).ok_or(ReadError::Truncated)?;
        self.position = end;
        Ok(taken)
    }

    /// Reads a 32-byte change hash.
    pub(super) fn hash(&mut self) -> Result<ChangeHash, ReadError> {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.take(32)?);
        Ok(ChangeHash(hash))
    }

    /// Reads a number, at most 10 bytes. As in Automerge, the last group of several must not be zero.
    pub(super) fn number(&mut self) -> Result<u64, ReadError> {
        let mut value = 0u64;
        for group in 0..10u32 {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if group == 9 && bits > 1 {
                return Err(ReadError::Number);
            }
            value |= bits << (7 * group);
            if byte & 0x80 == 0 {
                return if group > 0 && byte == 0 { Err(ReadError::Number) } else { Ok(value) };
            }
        }
        Err(ReadError::Number)
    }
}

/// Appends a number.
pub(super) fn push_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Appends how long a list is.
pub(super) fn push_length(out: &mut Vec<u8>, length: usize) {
    // A usize has at most 64 bits on every target.
    push_number(out, length as u64);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_reads_back(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            push_number(&mut bytes, value);
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(cursor.number(), Ok(value));
            prop_assert_eq!(cursor.remaining(), 0);
        }
    }

    #[test]
    fn overlong_and_oversized_numbers_are_refused() {
        assert_eq!(Cursor::new(&[0x80, 0x00]).number(), Err(ReadError::Number));
        assert_eq!(Cursor::new(&[0xff; 11]).number(), Err(ReadError::Number));
        assert_eq!(Cursor::new(&[0x80]).number(), Err(ReadError::Truncated));
        let mut two_to_the_64 = [0x80; 10];
        two_to_the_64[9] = 2;
        assert_eq!(Cursor::new(&two_to_the_64).number(), Err(ReadError::Number));
    }

    #[test]
    fn a_length_beyond_the_end_is_truncated() {
        let mut cursor = Cursor::new(&[1, 2, 3]);
        assert_eq!(cursor.take(u64::MAX), Err(ReadError::Truncated));
        assert_eq!(cursor.take(4), Err(ReadError::Truncated));
        assert_eq!(cursor.take(3), Ok(&[1, 2, 3][..]));
    }
}
