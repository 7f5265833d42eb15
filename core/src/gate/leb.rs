//! LEB128 integers and the cursor over bytes that everything in the gate reads with.
//!
//! Strict: an integer has one spelling, the shortest. A second spelling of the same change would have another hash than
//! the one Automerge computes when it builds the change anew from its operations.

use super::{GateError, Rule};

/// The most bytes a 64 bit integer takes: ceil(64 / 7).
const LEB_BYTES_MAX: u32 = 10;

/// A cursor over bytes; every read is bounded by what is left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns how many bytes are left.
    pub(crate) const fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether nothing is left.
    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes all that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Takes one byte.
    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, GateError> {
        let (first, rest) = self.rest.split_first().ok_or_else(truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    /// Takes `count` bytes without copying them.
    #[inline]
    pub(crate) fn take(&mut self, count: u64) -> Result<&'a [u8], GateError> {
        let count = usize::try_from(count).map_err(|_| truncated())?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes `N` bytes as an array.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], GateError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Reads an unsigned LEB128 integer in its shortest form.
    #[inline]
    pub(crate) fn unsigned(&mut self) -> Result<u64, GateError> {
        let mut byte = self.byte()?;
        if byte < 0x80 {
            return Ok(u64::from(byte));
        }
        let mut value = u64::from(byte & 0x7f);
        for index in 1..LEB_BYTES_MAX {
            byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte holds the one bit that is left of 64.
            if index == LEB_BYTES_MAX - 1 && bits > 1 {
                return Err(Rule::Integer.error());
            }
            value |= bits << (7 * index);
            if byte < 0x80 {
                return if byte == 0 { Err(Rule::Integer.error()) } else { Ok(value) };
            }
        }
        Err(Rule::Integer.error())
    }

    /// Reads a signed LEB128 integer in its shortest form.
    #[inline]
    pub(crate) fn signed(&mut self) -> Result<i64, GateError> {
        let mut value = 0u64;
        let mut previous = 0u8;
        for index in 0..LEB_BYTES_MAX {
            let byte = self.byte()?;
            // The tenth byte can only repeat the sign.
            if index == LEB_BYTES_MAX - 1 && byte != 0 && byte != 0x7f {
                return Err(Rule::Integer.error());
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                let sign_only = (byte == 0 && previous & 0x40 == 0) || (byte == 0x7f && previous & 0x40 != 0);
                if index > 0 && sign_only {
                    return Err(Rule::Integer.error());
                }
                if byte & 0x40 != 0 && index < LEB_BYTES_MAX - 1 {
                    value |= u64::MAX << (7 * (index + 1));
                }
                return Ok(value.cast_signed());
            }
            previous = byte;
        }
        Err(Rule::Integer.error())
    }

    /// Reads a length and takes that many bytes.
    pub(crate) fn prefixed(&mut self) -> Result<&'a [u8], GateError> {
        let length = self.unsigned()?;
        self.take(length)
    }
}

/// Appends an unsigned LEB128 integer in its shortest form.
#[inline]
pub(crate) fn write_unsigned(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Appends a signed LEB128 integer in its shortest form.
#[inline]
pub(crate) fn write_signed(out: &mut Vec<u8>, mut value: i64) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        let sign_seen = (value == 0 && low & 0x40 == 0) || (value == -1 && low & 0x40 != 0);
        if sign_seen {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Returns how many bytes [`write_unsigned`] appends.
pub(crate) fn unsigned_bytes(value: u64) -> u64 {
    u64::from((64 - value.leading_zeros()).max(1).div_ceil(7))
}

/// Returns how many bytes [`write_signed`] appends.
pub(crate) fn signed_bytes(value: i64) -> u64 {
    let magnitude = if value < 0 { !value } else { value };
    u64::from((65 - magnitude.leading_zeros()).div_ceil(7))
}

fn truncated() -> GateError {
    Rule::Truncated.error()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unsigned(bytes: &[u8]) -> Result<u64, &'static str> {
        Reader::new(bytes).unsigned().map_err(|error| error.rule().code())
    }

    fn signed(bytes: &[u8]) -> Result<i64, &'static str> {
        Reader::new(bytes).signed().map_err(|error| error.rule().code())
    }

    #[test]
    fn extremes_are_read() {
        assert_eq!(unsigned(&[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]), Ok(u64::MAX));
        assert_eq!(signed(&[255, 255, 255, 255, 255, 255, 255, 255, 255, 0]), Ok(i64::MAX));
        assert_eq!(signed(&[128, 128, 128, 128, 128, 128, 128, 128, 128, 0x7f]), Ok(i64::MIN));
    }

    #[test]
    fn second_spellings_and_overflows_are_refused() {
        for bytes in [&[0x81, 0][..], &[0x80, 0], &[255, 255, 255, 255, 255, 255, 255, 255, 255, 2], &[129; 12]] {
            assert_eq!(unsigned(bytes), Err("integer"), "{bytes:?}");
        }
        for bytes in [&[0xbf, 0][..], &[0x80, 0], &[0xff, 0x7f], &[0x81, 0xff, 0x7f], &[129; 12]] {
            assert_eq!(signed(bytes), Err("integer"), "{bytes:?}");
        }
        assert_eq!(signed(&[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]), Err("integer"));
        assert_eq!(unsigned(&[0x80]), Err("truncated"));
        assert_eq!(signed(&[]), Err("truncated"));
    }

    #[test]
    fn takes_never_pass_the_end() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert!(reader.take(4).is_err());
        assert!(reader.take(u64::MAX).is_err());
        assert_eq!(reader.take(2).map(<[u8]>::len), Ok(2));
        assert!(reader.array::<2>().is_err());
        assert_eq!(reader.len(), 1);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value: u64, signed_value: i64, shift in 0u32..64) {
            let (value, signed_value) = (value >> shift, signed_value >> shift);
            let mut out = Vec::new();
            write_unsigned(&mut out, value);
            prop_assert_eq!(out.len() as u64, unsigned_bytes(value));
            prop_assert_eq!(unsigned(&out), Ok(value));
            out.clear();
            write_signed(&mut out, signed_value);
            prop_assert_eq!(out.len() as u64, signed_bytes(signed_value));
            prop_assert_eq!(signed(&out), Ok(signed_value));
        }

        #[test]
        fn what_is_read_has_one_spelling(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut reader = Reader::new(&bytes);
            if let Ok(value) = reader.unsigned() {
                let mut out = Vec::new();
                write_unsigned(&mut out, value);
                prop_assert_eq!(&out[..], &bytes[..bytes.len() - reader.len()]);
            }
            let mut reader = Reader::new(&bytes);
            if let Ok(value) = reader.signed() {
                let mut out = Vec::new();
                write_signed(&mut out, value);
                prop_assert_eq!(&out[..], &bytes[..bytes.len() - reader.len()]);
            }
        }
    }
}
