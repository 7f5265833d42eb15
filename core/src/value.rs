//! What a field can be set to, and how scalars and maps look in JSON.
//!
//! Lists and texts merge element by element, so they are no field values: they are made empty and filled through the
//! document. Everything else maps to JSON and back:
//!
//! | value | JSON |
//! |---|---|
//! | null, truth value, text, map | the same |
//! | signed and unsigned integer, counter | number |
//! | float | number; infinities and NaN, which JSON lacks, become null |
//! | date, in milliseconds since the epoch | `{"$date": 1700000000000}` |
//! | bytes | `{"$bytes": "00ff"}`, in hexadecimal |
//! | a type of a later version | `{"$type": 10, "$bytes": "00ff"}` |
//!
//! Back from JSON, an integer becomes signed if it fits and unsigned otherwise; a number written with a fraction or an
//! exponent becomes a float. A counter comes back as an integer: JSON cannot tell them apart. A map may itself have a
//! key `$date`, `$bytes` or `$type`; such a key is written with one more `$` in front, and read back without it.

use std::borrow::Cow;

use automerge::ScalarValue;
use serde_json::{Map, Value as Json};

use crate::limits::JSON_DEPTH_MAX;

/// The keys that give a JSON object a meaning of its own.
const TAGS: [&str; 3] = ["date", "bytes", "type"];

/// What a field can be set to.
///
/// ```
/// use rejoin::value::Value;
///
/// let value = Value::from_json(serde_json::json!({ "title": "Buy milk", "due": { "$date": 0 } }))?;
/// assert_eq!(
///     value,
///     Value::Map(vec![("due".into(), Value::timestamp_ms(0)), ("title".into(), "Buy milk".into())])
/// );
/// # Ok::<(), rejoin::value::ValueError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A scalar: the whole of it is replaced by the next write.
    Scalar(ScalarValue),
    /// A new map with these fields. Of two entries with one key, the later stands.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// The absence of a value, as a value.
    pub const NULL: Self = Self::Scalar(ScalarValue::Null);

    /// Makes a counter that starts at `start`. Increments by several devices add up.
    pub fn counter(start: i64) -> Self {
        Self::Scalar(ScalarValue::counter(start))
    }

    /// Makes a date, in milliseconds since the Unix epoch.
    pub fn timestamp_ms(milliseconds: i64) -> Self {
        Self::Scalar(ScalarValue::Timestamp(milliseconds))
    }

    /// Reads a value from JSON, as the module's table says. Cost: O(size).
    ///
    /// # Errors
    ///
    /// [`ValueError`] for a list, a damaged `$date`, `$bytes` or `$type`, or more than [`JSON_DEPTH_MAX`] maps inside
    /// each other.
    pub fn from_json(json: Json) -> Result<Self, ValueError> {
        Self::from_json_at(json, 0)
    }

    fn from_json_at(json: Json, depth: usize) -> Result<Self, ValueError> {
        Ok(Self::Scalar(match json {
            Json::Null => ScalarValue::Null,
            Json::Bool(value) => ScalarValue::Boolean(value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => ScalarValue::Int(value),
                (None, Some(value)) => ScalarValue::Uint(value),
                // Without the feature for arbitrary precision, every other number is a float.
                (None, None) => ScalarValue::F64(number.as_f64().ok_or(ValueError::Number)?),
            },
            Json::String(text) => ScalarValue::Str(text.into()),
            Json::Array(_) => return Err(ValueError::List),
            Json::Object(map) => {
                if map.keys().any(|key| is_tag(key)) {
                    tagged(&map)?
                } else {
                    return Self::from_json_map(map, depth);
                }
            }
        }))
    }

    fn from_json_map(map: Map<String, Json>, depth: usize) -> Result<Self, ValueError> {
        if depth >= JSON_DEPTH_MAX {
            return Err(ValueError::TooDeep);
        }
        let entries = map.into_iter().map(|(key, json)| {
            let key = if is_escaped(&key) { key[1..].to_owned() } else { key };
            Ok((key, Self::from_json_at(json, depth + 1)?))
        });
        entries.collect::<Result<_, _>>().map(Self::Map)
    }
}

/// Writes a scalar as JSON, as the module's table says.
pub fn scalar_to_json(scalar: &ScalarValue) -> Json {
    let tag = |name: &str, value: Json| Json::Object([(name.to_owned(), value)].into_iter().collect());
    match scalar {
        ScalarValue::Null => Json::Null,
        ScalarValue::Boolean(value) => Json::Bool(*value),
        ScalarValue::Uint(value) => Json::from(*value),
        ScalarValue::Int(value) => Json::from(*value),
        // A float that is not finite becomes null.
        ScalarValue::F64(value) => Json::from(*value),
        ScalarValue::Str(text) => Json::from(text.as_str()),
        ScalarValue::Counter(counter) => Json::from(i64::from(counter)),
        ScalarValue::Timestamp(milliseconds) => tag("$date", Json::from(*milliseconds)),
        ScalarValue::Bytes(bytes) => tag("$bytes", Json::from(to_hex(bytes))),
        ScalarValue::Unknown { type_code, bytes } => {
            let entries = [("$type", Json::from(*type_code)), ("$bytes", Json::from(to_hex(bytes)))];
            Json::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
        }
    }
}

/// Writes a map's key as JSON: one that would be taken for a tag gets one more `$`.
pub(crate) fn key_to_json(key: &str) -> Cow<'_, str> {
    if is_tag(key) || is_escaped(key) { Cow::Owned(format!("${key}")) } else { Cow::Borrowed(key) }
}

/// Why JSON is no value for a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// A list: it would not merge as a field's value.
    #[error("a list is no field value: make an empty list, then fill it through the document")]
    List,
    /// A number that no type holds.
    #[error("a number has too many digits: write it as a text")]
    Number,
    /// An object with a tag that does not fit the table above.
    #[error(
        "an object with the key {tag} must be {{\"$date\": integer}}, {{\"$bytes\": hex}} or {{\"$type\": 10 to 15, \
         \"$bytes\": hex}}; if you mean a map with that key, write it with one more $"
    )]
    Tag {
        /// The first such key.
        tag: String,
    },
    /// Maps inside maps beyond the bound.
    #[error("more than {JSON_DEPTH_MAX} maps are nested: make them flatter")]
    TooDeep,
}

fn is_tag(key: &str) -> bool {
    key.strip_prefix('$').is_some_and(|name| TAGS.contains(&name))
}

/// Two or more `$` and then a tag's name.
fn is_escaped(key: &str) -> bool {
    let name = key.trim_start_matches('$');
    key.len() - name.len() >= 2 && TAGS.contains(&name)
}

fn tagged(map: &Map<String, Json>) -> Result<ScalarValue, ValueError> {
    let bytes = || map.get("$bytes").and_then(Json::as_str).and_then(from_hex);
    let found = match (map.len(), map.get("$date"), map.get("$type")) {
        (1, Some(date), None) => date.as_i64().map(ScalarValue::Timestamp),
        (1, None, None) => bytes().map(ScalarValue::Bytes),
        (2, None, Some(code)) => code
            .as_u64()
            .and_then(|code| u8::try_from(code).ok())
            .filter(|code| (10..16).contains(code))
            .and_then(|type_code| Some(ScalarValue::Unknown { type_code, bytes: bytes()? })),
        _ => None,
    };
    found.ok_or_else(|| ValueError::Tag { tag: map.keys().find(|key| is_tag(key)).cloned().unwrap_or_default() })
}

/// Writes bytes in hexadecimal, in small letters.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// Reads bytes from hexadecimal, small letters or capitals; `None` if it is no such text.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

impl From<ScalarValue> for Value {
    fn from(value: ScalarValue) -> Self {
        Self::Scalar(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    /// Takes `None` as null.
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::NULL, Into::into)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Scalar(ScalarValue::Bytes(value.to_vec()))
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Scalar(ScalarValue::Bytes(value))
    }
}

/// Takes each type as the scalar that holds it.
macro_rules! from_scalars {
    ($($source:ty => $variant:ident,)+) => {
        $(impl From<$source> for Value {
            fn from(value: $source) -> Self {
                Self::Scalar(ScalarValue::$variant(value.into()))
            }
        })+
    };
}

from_scalars! {
    &str => Str,
    String => Str,
    bool => Boolean,
    i32 => Int,
    i64 => Int,
    u32 => Uint,
    u64 => Uint,
    f64 => F64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn to_json(value: &Value) -> Json {
        match value {
            Value::Scalar(scalar) => scalar_to_json(scalar),
            Value::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| (key_to_json(key).into_owned(), to_json(value)));
                Json::Object(entries.collect())
            }
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(ScalarValue::Null),
            any::<bool>().prop_map(ScalarValue::Boolean),
            any::<i64>().prop_map(ScalarValue::Int),
            // Smaller ones come back as signed.
            (1_u64 << 63..=u64::MAX).prop_map(ScalarValue::Uint),
            any::<f64>().prop_filter("JSON has none", |value| value.is_finite()).prop_map(ScalarValue::F64),
            any::<String>().prop_map(|text| ScalarValue::Str(text.into())),
            any::<Vec<u8>>().prop_map(ScalarValue::Bytes),
            any::<i64>().prop_map(ScalarValue::Timestamp),
            (10_u8..16, any::<Vec<u8>>()).prop_map(|(type_code, bytes)| ScalarValue::Unknown { type_code, bytes }),
        ];
        let key = prop_oneof![any::<String>(), "\\$*(date|bytes|type|dat)"];
        scalar.prop_map(Value::Scalar).prop_recursive(4, 20, 4, move |inner| {
            prop::collection::btree_map(key.clone(), inner, 0..4).prop_map(|map| Value::Map(map.into_iter().collect()))
        })
    }

    proptest! {
        #[test]
        fn values_come_back_from_json(value in any_value()) {
            let mut back = Value::from_json(to_json(&value)).unwrap();
            sort(&mut back);
            prop_assert_eq!(back, value);
        }
    }

    /// An escaped key may stand elsewhere than the key itself.
    fn sort(value: &mut Value) {
        if let Value::Map(entries) = value {
            entries.sort_by(|left, right| left.0.cmp(&right.0));
            entries.iter_mut().for_each(|(_, value)| sort(value));
        }
    }

    #[test]
    fn json_looks_as_documented() {
        assert_eq!(to_json(&Value::counter(-3)), json!(-3));
        assert_eq!(to_json(&Value::from(u64::MAX)), json!(u64::MAX));
        assert_eq!(to_json(&Value::from(f64::NAN)), json!(null));
        assert_eq!(to_json(&Value::timestamp_ms(1_700_000_000_000)), json!({ "$date": 1_700_000_000_000_i64 }));
        assert_eq!(to_json(&Value::from(&[0, 255][..])), json!({ "$bytes": "00ff" }));
        let later = ScalarValue::Unknown { type_code: 10, bytes: vec![0, 255] };
        assert_eq!(to_json(&later.into()), json!({ "$type": 10, "$bytes": "00ff" }));
        let map = Value::Map(vec![("$date".into(), 1.into()), ("$ref".into(), 2.into())]);
        assert_eq!(to_json(&map), json!({ "$$date": 1, "$ref": 2 }));
        assert_eq!(Value::from(None::<i64>), Value::NULL);
    }

    #[test]
    fn what_is_no_value_is_refused() {
        let tag = |tag: &str| Err(ValueError::Tag { tag: tag.to_owned() });
        let cases = [
            (json!([]), Err(ValueError::List)),
            (json!({ "a": { "b": [1] } }), Err(ValueError::List)),
            (json!({ "$date": "yesterday" }), tag("$date")),
            (json!({ "$date": 1, "more": 2 }), tag("$date")),
            (json!({ "$bytes": "0" }), tag("$bytes")),
            (json!({ "$bytes": "+1" }), tag("$bytes")),
            (json!({ "$type": 9, "$bytes": "" }), tag("$bytes")),
            (json!({ "$type": 10 }), tag("$type")),
        ];
        for (json, expected) in cases {
            assert_eq!(Value::from_json(json.clone()), expected, "{json}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!({ "m": inner }));
        for depth in [JSON_DEPTH_MAX - 1, JSON_DEPTH_MAX] {
            assert!(Value::from_json(nested(depth)).is_ok());
        }
        assert_eq!(Value::from_json(nested(JSON_DEPTH_MAX + 1)), Err(ValueError::TooDeep));
    }
}
