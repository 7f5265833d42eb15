//! What a field can be set to, and how values look as JSON.
//!
//! | document | JSON |
//! |---|---|
//! | null, boolean, text | the same |
//! | integer, counter | number |
//! | float | number; not finite: `null` |
//! | timestamp | `{"$date": milliseconds since 1970}` |
//! | bytes | `{"$bytes": "hexadecimal"}` |
//! | map | object |
//! | list, text object | array, string (these need the document: a field write cannot make them) |
//!
//! Dates and bytes survive the way to JSON and back; a counter comes back as an integer.

use automerge::ScalarValue;
use serde_json::{Map, Number, Value as Json, json};

const DATE: &str = "$date";
const BYTES: &str = "$bytes";

/// A value for a field: a scalar, or a map of values.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A scalar.
    Scalar(ScalarValue),
    /// A new map with these entries.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// Returns a counter: concurrent increments of it add up.
    pub fn counter(start: i64) -> Self {
        Self::Scalar(ScalarValue::counter(start))
    }

    /// Returns a point in time, in milliseconds since 1970: a `Date` in JavaScript.
    pub fn timestamp_ms(milliseconds: i64) -> Self {
        Self::Scalar(ScalarValue::Timestamp(milliseconds))
    }

    /// Returns the null value. To remove a field, delete it instead.
    pub fn null() -> Self {
        Self::Scalar(ScalarValue::Null)
    }

    /// Reads a value from JSON, as the table above says.
    ///
    /// # Errors
    ///
    /// [`ValueError`] for an array, and for `$date` or `$bytes` with something else than a number or hexadecimal text.
    pub fn from_json(json: Json) -> Result<Self, ValueError> {
        Ok(match json {
            Json::Null => Self::null(),
            Json::Bool(value) => value.into(),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(int), _) => int.into(),
                (None, Some(uint)) => uint.into(),
                (None, None) => number.as_f64().unwrap_or(f64::NAN).into(),
            },
            Json::String(text) => text.into(),
            Json::Array(_) => return Err(ValueError::Array),
            Json::Object(map) => return Self::from_object(map),
        })
    }

    fn from_object(map: Map<String, Json>) -> Result<Self, ValueError> {
        if map.len() == 1 {
            if let Some(date) = map.get(DATE) {
                return date.as_i64().map(Self::timestamp_ms).ok_or(ValueError::Date);
            }
            if let Some(bytes) = map.get(BYTES) {
                return bytes.as_str().and_then(from_hex).map(Self::from).ok_or(ValueError::Bytes);
            }
        }
        let entries = map.into_iter().map(|(key, value)| Ok((key, Self::from_json(value)?)));
        entries.collect::<Result<_, _>>().map(Self::Map)
    }
}

/// Why JSON does not become a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Lists are not fields.
    #[error("a field cannot be set to an array: edit lists through the document (DocHandle::change)")]
    Array,
    /// `$date` without a whole number.
    #[error("$date needs a whole number of milliseconds since 1970")]
    Date,
    /// `$bytes` without hexadecimal text.
    #[error("$bytes needs hexadecimal text")]
    Bytes,
}

/// Returns a scalar as JSON, as the table above says.
pub fn scalar_to_json(scalar: &ScalarValue) -> Json {
    match scalar {
        ScalarValue::Null => Json::Null,
        ScalarValue::Boolean(value) => Json::Bool(*value),
        ScalarValue::Int(value) => json!(value),
        ScalarValue::Uint(value) => json!(value),
        ScalarValue::F64(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
        ScalarValue::Str(text) => Json::String(text.to_string()),
        ScalarValue::Counter(counter) => json!(i64::from(counter)),
        ScalarValue::Timestamp(milliseconds) => json!({ DATE: milliseconds }),
        ScalarValue::Bytes(bytes) | ScalarValue::Unknown { bytes, .. } => json!({ BYTES: to_hex(bytes) }),
    }
}

fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let nibbles: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|nibble| u8::try_from(nibble).ok())).collect();
    let (pairs, rest) = nibbles.as_deref()?.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Conversions of what a scalar can be made from.
macro_rules! scalars {
    ($($from:ty => |$value:ident| $scalar:expr,)+) => {
        $(impl From<$from> for Value {
            fn from($value: $from) -> Self {
                Self::Scalar($scalar)
            }
        })+
    };
}

scalars! {
    ScalarValue => |value| value,
    bool => |value| ScalarValue::Boolean(value),
    i32 => |value| ScalarValue::Int(i64::from(value)),
    i64 => |value| ScalarValue::Int(value),
    u32 => |value| ScalarValue::Uint(u64::from(value)),
    u64 => |value| ScalarValue::Uint(value),
    f64 => |value| ScalarValue::F64(value),
    &str => |value| ScalarValue::Str(value.into()),
    &String => |value| ScalarValue::Str(value.as_str().into()),
    String => |value| ScalarValue::Str(value.into()),
    Vec<u8> => |value| ScalarValue::Bytes(value),
    &[u8] => |value| ScalarValue::Bytes(value.to_vec()),
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or_else(Self::null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_comes_back() {
        let json = json!({
            "null": null, "yes": true, "int": -3, "uint": u64::MAX, "float": 0.5, "text": "a",
            "date": { "$date": 1_700_000_000_000_i64 }, "bytes": { "$bytes": "00ff10" }, "map": { "inner": 1 },
        });
        let value = Value::from_json(json.clone()).expect("every form of the table");
        assert_eq!(to_json(&value), json);
    }

    fn to_json(value: &Value) -> Json {
        match value {
            Value::Scalar(scalar) => scalar_to_json(scalar),
            Value::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), to_json(value))).collect(),
        }
    }

    #[test]
    fn what_a_field_cannot_hold_is_refused() {
        assert_eq!(Value::from_json(json!([1])), Err(ValueError::Array));
        assert_eq!(Value::from_json(json!({ "$date": "today" })), Err(ValueError::Date));
        assert_eq!(Value::from_json(json!({ "$bytes": "f" })), Err(ValueError::Bytes));
        assert_eq!(Value::from_json(json!({ "$bytes": "xx" })), Err(ValueError::Bytes));
    }

    #[test]
    fn numbers_that_json_lacks_are_null() {
        assert_eq!(scalar_to_json(&ScalarValue::F64(f64::NAN)), Json::Null);
    }
}
