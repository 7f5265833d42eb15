//! A presence value's bytes: one CBOR value, as classic clients expect it, and JSON for whoever needs no more.

use bytes::Bytes;
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use serde_json::{Map, Value as Json};

use crate::limits::JSON_DEPTH_MAX;

/// What a presence value holds: one CBOR value. Made from JSON, or from bytes that are CBOR already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceData(Bytes);

impl PresenceData {
    /// Returns the CBOR bytes.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl From<Bytes> for PresenceData {
    fn from(cbor: Bytes) -> Self {
        Self(cbor)
    }
}

impl From<Vec<u8>> for PresenceData {
    fn from(cbor: Vec<u8>) -> Self {
        Self(cbor.into())
    }
}

impl From<Json> for PresenceData {
    fn from(json: Json) -> Self {
        let mut encoder = Encoder::new(Vec::new());
        // A vector takes everything.
        let encoded: Result<(), Never> = encode(&mut encoder, &json);
        drop(encoded);
        Self(encoder.into_writer().into())
    }
}

type Never = minicbor::encode::Error<std::convert::Infallible>;

fn encode(encoder: &mut Encoder<Vec<u8>>, json: &Json) -> Result<(), Never> {
    match json {
        Json::Null => drop(encoder.null()?),
        Json::Bool(value) => drop(encoder.bool(*value)?),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => drop(encoder.u64(number)?),
            (None, Some(number)) => drop(encoder.i64(number)?),
            (None, None) => drop(encoder.f64(number.as_f64().unwrap_or(f64::NAN))?),
        },
        Json::String(text) => drop(encoder.str(text)?),
        Json::Array(values) => {
            encoder.array(values.len() as u64)?;
            values.iter().try_for_each(|value| encode(encoder, value))?;
        }
        Json::Object(values) => {
            encoder.map(values.len() as u64)?;
            for (key, value) in values {
                encoder.str(key)?;
                encode(encoder, value)?;
            }
        }
    }
    Ok(())
}

/// Reads CBOR as JSON; `None` if it is broken, or holds what JSON has not: bytes, or keys that are no text.
pub(super) fn to_json(cbor: &[u8]) -> Option<Json> {
    let mut decoder = Decoder::new(cbor);
    let json = decode(&mut decoder, JSON_DEPTH_MAX)?;
    (decoder.position() == cbor.len()).then_some(json)
}

fn decode(decoder: &mut Decoder<'_>, depth: usize) -> Option<Json> {
    let depth = depth.checked_sub(1)?;
    Some(match decoder.datatype().ok()? {
        Type::Null => decoder.null().map(|()| Json::Null).ok()?,
        Type::Undefined => decoder.undefined().map(|()| Json::Null).ok()?,
        Type::Bool => decoder.bool().ok()?.into(),
        Type::F16 | Type::F32 | Type::F64 => float(decoder)?.into(),
        Type::String => decoder.str().ok()?.into(),
        Type::StringIndef => text(decoder)?.into(),
        Type::Array | Type::ArrayIndef => array(decoder, depth)?,
        Type::Map | Type::MapIndef => map(decoder, depth)?,
        Type::Tag => {
            decoder.tag().ok()?;
            decode(decoder, depth)?
        }
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => decoder.u64().ok()?.into(),
        Type::I8 | Type::I16 | Type::I32 | Type::I64 => decoder.i64().ok()?.into(),
        _ => return None,
    })
}

fn float(decoder: &mut Decoder<'_>) -> Option<f64> {
    match decoder.datatype().ok()? {
        Type::F64 => decoder.f64().ok(),
        Type::F32 => decoder.f32().ok().map(f64::from),
        _ => half(decoder),
    }
}

/// Reads a float of two bytes, which the decoder offers only with a library of its own.
fn half(decoder: &mut Decoder<'_>) -> Option<f64> {
    let at = decoder.position();
    let bits = decoder.input().get(at + 1..at + 3)?;
    let bits = u16::from_be_bytes(bits.try_into().ok()?);
    decoder.set_position(at + 3);
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    };
    Some(if bits >> 15 == 1 { -size } else { size })
}

fn text(decoder: &mut Decoder<'_>) -> Option<String> {
    decoder.str_iter().ok()?.collect::<Result<String, _>>().ok()
}

fn array(decoder: &mut Decoder<'_>, depth: usize) -> Option<Json> {
    let length = decoder.array().ok()?;
    let mut values = Vec::new();
    while goes_on(decoder, length, values.len() as u64)? {
        values.push(decode(decoder, depth)?);
    }
    Some(Json::Array(values))
}

fn map(decoder: &mut Decoder<'_>, depth: usize) -> Option<Json> {
    let length = decoder.map().ok()?;
    let mut values = Map::new();
    let mut count = 0;
    while goes_on(decoder, length, count)? {
        let key = match decoder.datatype().ok()? {
            Type::String => decoder.str().ok()?.to_owned(),
            Type::StringIndef => text(decoder)?,
            _ => return None,
        };
        values.insert(key, decode(decoder, depth)?);
        count += 1;
    }
    Some(Json::Object(values))
}

/// Says whether another element comes. Each costs at least a byte of what is there, whatever the length says.
fn goes_on(decoder: &mut Decoder<'_>, length: Option<u64>, count: u64) -> Option<bool> {
    match length {
        Some(length) => Some(count < length),
        None if decoder.datatype().ok()? == Type::Break => {
            decoder.set_position(decoder.position() + 1);
            Some(false)
        }
        None => Some(true),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    #[test]
    fn json_comes_back_as_it_was() {
        let values = [
            json!(null),
            json!(true),
            json!([0, 23, 24, 1_000_000, u64::MAX, -1, i64::MIN, 1.5, -0.25]),
            json!({ "name": "Ada", "at": [3, 4], "more": { "": "\u{1f600}" } }),
        ];
        for value in values {
            let data = PresenceData::from(value.clone()).into_bytes();
            assert_eq!(to_json(&data), Some(value));
        }
    }

    #[test]
    fn what_other_encoders_write_is_read_and_what_json_has_not_is_none() {
        assert_eq!(to_json(&[0xf9, 0x3e, 0x00]), Some(json!(1.5)));
        assert_eq!(to_json(&[0xf9, 0x80, 0x01]), Some(json!(-(2f64.powi(-24)))));
        assert_eq!(to_json(&[0x9f, 0x01, 0xf7, 0xff]), Some(json!([1, null])));
        assert_eq!(to_json(&[0xbf, 0x7f, 0x61, b'a', 0x61, b'b', 0xff, 0xc1, 0x02, 0xff]), Some(json!({ "ab": 2 })));
        for broken in [&[][..], &[0x41, 1], &[0xa1, 1, 1], &[0x01, 0x01], &[0x82, 1], &[0x9b; 9], &[0x9f], &[0xff]] {
            assert_eq!(to_json(broken), None, "{broken:x?}");
        }
        assert_eq!(to_json(&[0x81; 100_000]), None);
        assert_eq!(to_json(&[0xc1; 100_000]), None);
    }
}
