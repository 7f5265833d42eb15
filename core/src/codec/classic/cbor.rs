//! Just enough CBOR: find the values of a map's keys without looking into them, then read the ones that are wanted.
//!
//! Nothing here recurses, and the depth of what is skipped is bounded.

use minicbor::Decoder;
use minicbor::data::{Tag, Type};

use super::DecodeError;
use crate::limits::{CBOR_DEPTH_MAX, CLASSIC_INTEGER_MAX};

/// The tag of a JavaScript `Uint8Array` (RFC 8746), which some encoders put before byte strings.
const TAG_UINT8_ARRAY: u64 = 64;

/// One well-formed value inside a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'b> {
    message: &'b [u8],
    start: usize,
    end: usize,
}

impl<'b> Value<'b> {
    /// Finds the end of the value that starts the message.
    pub(super) fn first(message: &'b [u8]) -> Result<Self, DecodeError> {
        next(&mut Decoder::new(message))
    }

    /// Returns how many bytes of the message follow the value.
    pub(super) fn bytes_after(&self) -> usize {
        self.message.len() - self.end
    }

    /// Tells whether the value stands for an absent one: `null` or `undefined`.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self.message.get(self.start), Some(0xf6 | 0xf7))
    }

    /// Reads a text of definite length, at most `limit` bytes long.
    pub(super) fn text(&self, field: &'static str, limit: usize) -> Result<&'b str, DecodeError> {
        let text = self.unbounded_text(field)?;
        within(field, "bytes", text.len() as u64, limit)?;
        Ok(text)
    }

    /// Reads a text of definite length.
    pub(super) fn unbounded_text(&self, field: &'static str) -> Result<&'b str, DecodeError> {
        self.decoder().str().map_err(|_| DecodeError::WrongFieldType { field, expected: "text" })
    }

    /// Reads a byte string of definite length, tagged as `Uint8Array` or not.
    pub(super) fn bytes(&self, field: &'static str) -> Result<&'b [u8], DecodeError> {
        let wrong = |_| DecodeError::WrongFieldType { field, expected: "a byte string" };
        let mut decoder = self.decoder();
        if decoder.datatype().map_err(wrong)? == Type::Tag && decoder.tag().map_err(wrong)? != Tag::new(TAG_UINT8_ARRAY)
        {
            return Err(DecodeError::WrongFieldType { field, expected: "a byte string" });
        }
        decoder.bytes().map_err(wrong)
    }

    /// Reads a boolean.
    pub(super) fn boolean(&self, field: &'static str) -> Result<bool, DecodeError> {
        self.decoder().bool().map_err(|_| DecodeError::WrongFieldType { field, expected: "a boolean" })
    }

    /// Reads a whole number from 0 to 2^53, from an integer or a float.
    pub(super) fn whole_number(&self, field: &'static str) -> Result<u64, DecodeError> {
        let wrong = |_| DecodeError::WrongFieldType { field, expected: "a number" };
        let out_of_range = DecodeError::NumberOutOfRange { field };
        let mut decoder = self.decoder();
        let number = match decoder.datatype().map_err(wrong)? {
            Type::F32 => decoder.f32().map(f64::from).map_err(wrong)?,
            Type::F64 => decoder.f64().map_err(wrong)?,
            Type::I8 | Type::I16 | Type::I32 | Type::I64 | Type::Int => return Err(out_of_range),
            _ => {
                let number = decoder.u64().map_err(wrong)?;
                return if number <= CLASSIC_INTEGER_MAX { Ok(number) } else { Err(out_of_range) };
            }
        };
        if !(0.0..=CLASSIC_INTEGER_MAX as f64).contains(&number) {
            return Err(out_of_range);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 2^53, checked above")]
        let whole = number.trunc() as u64;
        Ok(whole)
    }

    /// Visits the entries of a map, definite or not. A key that is no text comes as `None`.
    pub(super) fn each_entry(
        &self,
        field: &'static str,
        mut visit: impl FnMut(Option<&'b str>, Value<'b>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let mut decoder = self.decoder();
        let length = decoder.map().map_err(|_| DecodeError::WrongFieldType { field, expected: "a map" })?;
        let mut visited = 0;
        while !at_end(&decoder, length, visited) {
            let key = next(&mut decoder)?;
            let value = next(&mut decoder)?;
            visit(key.decoder().str().ok(), value)?;
            visited += 1;
        }
        Ok(())
    }

    /// Visits the items of an array, definite or not, if there are at most `limit`.
    pub(super) fn each_item(
        &self,
        field: &'static str,
        limit: usize,
        mut visit: impl FnMut(Value<'b>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let mut decoder = self.decoder();
        let length = decoder.array().map_err(|_| DecodeError::WrongFieldType { field, expected: "an array" })?;
        let mut visited = 0;
        while !at_end(&decoder, length, visited) {
            visited += 1;
            within(field, "entries", length.unwrap_or(visited), limit)?;
            visit(next(&mut decoder)?)?;
        }
        Ok(())
    }

    /// Returns a decoder at the value that cannot see beyond it, and counts from the start of the message.
    fn decoder(&self) -> Decoder<'b> {
        let mut decoder = Decoder::new(&self.message[..self.end]);
        decoder.set_position(self.start);
        decoder
    }
}

/// Refuses what is longer than its limit.
pub(super) fn within(field: &'static str, unit: &'static str, found: u64, limit: usize) -> Result<(), DecodeError> {
    let limit = limit as u64;
    if found > limit { Err(DecodeError::LimitExceeded { field, found, limit, unit }) } else { Ok(()) }
}

/// Tells whether a map or an array has no more entries. The value was found well-formed before, so it has an end.
fn at_end(decoder: &Decoder<'_>, length: Option<u64>, visited: u64) -> bool {
    match length {
        Some(length) => visited >= length,
        None => !matches!(decoder.datatype(), Ok(kind) if kind != Type::Break),
    }
}

/// Takes the next value whole.
fn next<'b>(decoder: &mut Decoder<'b>) -> Result<Value<'b>, DecodeError> {
    let start = decoder.position();
    skip(decoder)?;
    Ok(Value { message: decoder.input(), start, end: decoder.position() })
}

/// Moves over one value, with at most [`CBOR_DEPTH_MAX`] open arrays, maps and tags.
///
/// minicbor's own skip keeps an entry for each open level, 16 bytes for one byte of a peer's; this one refuses.
fn skip(decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
    // How many values each open array or map still lacks; `None` for one that a break ends.
    let mut open = [Some(0u64); CBOR_DEPTH_MAX];
    let mut depth = 0;
    loop {
        let at = decoder.position();
        let opened = skip_head(decoder, depth > 0 && open[depth - 1].is_none())
            .map_err(|reason| DecodeError::Cbor { at, reason })?;
        match opened {
            Head::Open(Some(0)) | Head::Whole => {}
            Head::Open(lacking) => {
                *open.get_mut(depth).ok_or(DecodeError::TooDeep { at })? = lacking;
                depth += 1;
                continue;
            }
            Head::Break => depth -= 1,
        }
        // A value is complete; so is every definite array or map for which it was the last.
        loop {
            let Some(level) = depth.checked_sub(1) else { return Ok(()) };
            let Some(lacking) = open[level].as_mut() else { break };
            *lacking -= 1;
            if *lacking > 0 {
                break;
            }
            depth = level;
        }
    }
}

/// What one head was.
enum Head {
    /// A value without others inside, read whole.
    Whole,
    /// The start of an array, a map or a tagged value that lacks this many values.
    Open(Option<u64>),
    /// The end of the innermost indefinite array or map.
    Break,
}

/// Reads one head, and its content if that holds no other values.
fn skip_head(decoder: &mut Decoder<'_>, may_break: bool) -> Result<Head, &'static str> {
    let cut_off = |_| "cut off or damaged";
    match decoder.datatype().map_err(cut_off)? {
        Type::Bytes => drop(decoder.bytes().map_err(cut_off)?),
        Type::BytesIndef => {
            for chunk in decoder.bytes_iter().map_err(cut_off)? {
                chunk.map_err(cut_off)?;
            }
        }
        Type::String => drop(decoder.str().map_err(|_| "text that is cut off or not utf-8")?),
        Type::StringIndef => {
            for chunk in decoder.str_iter().map_err(cut_off)? {
                chunk.map_err(cut_off)?;
            }
        }
        Type::Array | Type::ArrayIndef => return decoder.array().map(Head::Open).map_err(cut_off),
        Type::Map | Type::MapIndef => {
            let entries = decoder.map().map_err(cut_off)?;
            return Ok(Head::Open(entries.map(|entries| entries.saturating_mul(2))));
        }
        Type::Tag => {
            decoder.tag().map_err(cut_off)?;
            return Ok(Head::Open(Some(1)));
        }
        Type::Break if may_break => {
            decoder.set_position(decoder.position() + 1);
            return Ok(Head::Break);
        }
        Type::Break => return Err("a break where nothing is open"),
        Type::F16 => skip_bytes(decoder, 3)?,
        Type::F32 => skip_bytes(decoder, 5)?,
        Type::F64 => skip_bytes(decoder, 9)?,
        Type::Bool | Type::Null | Type::Undefined => skip_bytes(decoder, 1)?,
        Type::Simple => drop(decoder.simple().map_err(cut_off)?),
        Type::Unknown(_) => return Err("a reserved byte"),
        _ => drop(decoder.int().map_err(cut_off)?),
    }
    Ok(Head::Whole)
}

/// Moves over a value of a fixed length.
fn skip_bytes(decoder: &mut Decoder<'_>, count: usize) -> Result<(), &'static str> {
    let end = decoder.position() + count;
    if end > decoder.input().len() {
        return Err("cut off or damaged");
    }
    decoder.set_position(end);
    Ok(())
}
