//! Values as tagged JSON, both ways, so that nothing of a document is lost on the way to a page and back.
//!
//! | value | JSON |
//! |---|---|
//! | null, truth value, string, map, list | the same |
//! | signed integer, small enough for a JavaScript number | number |
//! | signed or unsigned integer beyond that | `{"$int": "decimal"}`, `{"$uint": "decimal"}` |
//! | float | number; `{"$float": "NaN"}`, `"Infinity"` or `"-Infinity"` where JSON has none |
//! | date | `{"$date": milliseconds}` |
//! | bytes | `{"$bytes": "00ff"}` |
//! | counter | `{"$counter": n}`, with `n` as a decimal string beyond a JavaScript number |
//! | text | string; to be made, `{"$text": "..."}` |
//! | a type of a later version | `{"$type": 10, "$bytes": "00ff"}` |
//!
//! A map's own key that is a tag, or a tag with more `$` in front, gets one more `$`.

use std::borrow::Cow;

use automerge::ScalarValue;
use rejoin::Value;
use rejoin::document::Element;
use rejoin::limits::JSON_DEPTH_MAX;
use rejoin::value::{from_hex, to_hex};
use serde_json::{Map, Value as Json};

use crate::errors::Failure;

/// The keys that give an object a meaning of its own.
const TAGS: [&str; 8] = ["date", "bytes", "counter", "text", "int", "uint", "float", "type"];

/// The greatest integer that a JavaScript number holds exactly with all smaller ones: 2^53 - 1.
const SAFE_MAX: u64 = (1 << 53) - 1;

/// 2^53 - 1 again, for floats.
const SAFE_FLOAT_MAX: f64 = 9_007_199_254_740_991.0;

/// Writes a scalar.
pub fn scalar_to_json(scalar: &ScalarValue) -> Json {
    match scalar {
        ScalarValue::Null => Json::Null,
        ScalarValue::Boolean(value) => Json::Bool(*value),
        ScalarValue::Str(text) => Json::from(text.as_str()),
        ScalarValue::Int(value) => match safe(*value) {
            true => Json::from(*value),
            false => tag("$int", value.to_string()),
        },
        ScalarValue::Uint(value) if *value <= SAFE_MAX => Json::from(*value),
        ScalarValue::Uint(value) => tag("$uint", value.to_string()),
        ScalarValue::F64(value) if value.is_finite() => Json::from(*value),
        ScalarValue::F64(value) if value.is_nan() => tag("$float", "NaN"),
        ScalarValue::F64(value) => tag("$float", if *value > 0.0 { "Infinity" } else { "-Infinity" }),
        ScalarValue::Counter(counter) => {
            let value = i64::from(counter);
            if safe(value) { tag("$counter", value) } else { tag("$counter", value.to_string()) }
        }
        ScalarValue::Timestamp(milliseconds) => tag("$date", *milliseconds),
        ScalarValue::Bytes(bytes) => tag("$bytes", to_hex(bytes)),
        ScalarValue::Unknown { type_code, bytes } => {
            let mut map = Map::new();
            map.insert("$type".to_owned(), Json::from(*type_code));
            map.insert("$bytes".to_owned(), Json::from(to_hex(bytes)));
            Json::Object(map)
        }
    }
}

fn safe(value: i64) -> bool {
    value.unsigned_abs() <= SAFE_MAX
}

fn tag(name: &str, value: impl Into<Json>) -> Json {
    let mut map = Map::new();
    map.insert(name.to_owned(), value.into());
    Json::Object(map)
}

/// Writes a map's key: one that would be taken for a tag gets one more `$`.
pub fn key_to_json(key: &str) -> Cow<'_, str> {
    if is_tag(key, 1) { Cow::Owned(format!("${key}")) } else { Cow::Borrowed(key) }
}

/// Says whether a key is a tag's name after at least so many `$`.
fn is_tag(key: &str, least: usize) -> bool {
    let name = key.trim_start_matches('$');
    key.len() - name.len() >= least && TAGS.contains(&name)
}

/// Reads a value that is to be written. Cost: O(size).
///
/// # Errors
///
/// `bad_value` for a damaged tag; `too_large` beyond [`JSON_DEPTH_MAX`] objects inside each other.
pub fn from_json(json: Json) -> Result<Element, Failure> {
    element(json, 0)
}

fn element(json: Json, depth: usize) -> Result<Element, Failure> {
    let too_deep = || Failure::new("too_large", format!("more than {JSON_DEPTH_MAX} objects are nested"));
    match json {
        Json::Array(_) | Json::Object(_) if depth >= JSON_DEPTH_MAX => Err(too_deep()),
        Json::Array(values) => {
            let values = values.into_iter().map(|value| element(value, depth + 1));
            Ok(Element::List(values.collect::<Result<_, _>>()?))
        }
        Json::Object(map) if map.keys().any(|key| key.starts_with('$') && TAGS.contains(&&key[1..])) => tagged(&map),
        Json::Object(map) => {
            let fields = map.into_iter().map(|(key, value)| {
                let key = if is_tag(&key, 2) { key[1..].to_owned() } else { key };
                Ok((key, element(value, depth + 1)?))
            });
            Ok(Element::Map(fields.collect::<Result<_, Failure>>()?))
        }
        scalar => Ok(Element::Value(Value::Scalar(match scalar {
            Json::Bool(value) => ScalarValue::Boolean(value),
            Json::String(text) => ScalarValue::Str(text.into()),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(value), _) => ScalarValue::Int(value),
                (None, Some(value)) => float(value),
                (None, None) => return Err(bad_value("a number has too many digits")),
            },
            _ => ScalarValue::Null,
        }))),
    }
}

/// Takes a JavaScript number for what it means: an integer where it is one.
fn float(value: f64) -> ScalarValue {
    if value.fract() == 0.0 && value.abs() <= SAFE_FLOAT_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
        return ScalarValue::Int(value as i64);
    }
    ScalarValue::F64(value)
}

fn tagged(map: &Map<String, Json>) -> Result<Element, Failure> {
    let entry = |name: &str| map.get(name);
    let text = |name: &str| entry(name).and_then(Json::as_str);
    let integer = |name: &str| entry(name).and_then(|json| json.as_i64().or_else(|| json.as_str()?.parse().ok()));
    let bytes = || text("$bytes").and_then(from_hex);
    if let (1, Some(text)) = (map.len(), text("$text")) {
        return Ok(Element::Text(text.to_owned()));
    }
    let scalar = match (map.len(), map.keys().next().map(String::as_str)) {
        (1, Some("$date")) => integer("$date").map(ScalarValue::Timestamp),
        (1, Some("$bytes")) => bytes().map(ScalarValue::Bytes),
        (1, Some("$counter")) => integer("$counter").map(ScalarValue::counter),
        (1, Some("$int")) => integer("$int").map(ScalarValue::Int),
        (1, Some("$uint")) => text("$uint").and_then(|text| text.parse().ok()).map(ScalarValue::Uint),
        // Rust reads `NaN` and `Infinity` as JavaScript writes them.
        (1, Some("$float")) => text("$float").and_then(|text| text.parse().ok()).map(ScalarValue::F64),
        (2, _) => entry("$type")
            .and_then(Json::as_u64)
            .and_then(|code| u8::try_from(code).ok())
            .filter(|code| (10..16).contains(code))
            .and_then(|type_code| Some(ScalarValue::Unknown { type_code, bytes: bytes()? })),
        _ => None,
    };
    let scalar = scalar.ok_or_else(|| bad_value("an object has a key such as $date and does not hold such a value"))?;
    Ok(Element::Value(Value::Scalar(scalar)))
}

fn bad_value(what: &str) -> Failure {
    Failure::new("bad_value", format!("failed to read the value: {what}"))
}

/// Returns the value as one that a field can be set to without the document; gives it back if it holds a list or text.
///
/// # Errors
///
/// The element itself.
pub fn into_value(element: Element) -> Result<Value, Element> {
    if !is_value(&element) {
        return Err(element);
    }
    match element {
        Element::Value(value) => Ok(value),
        Element::Map(fields) => {
            let fields = fields.into_iter().map(|(key, field)| Ok((key, into_value(field)?)));
            fields.collect::<Result<_, _>>().map(Value::Map)
        }
        other => Err(other),
    }
}

fn is_value(element: &Element) -> bool {
    match element {
        Element::Value(_) => true,
        Element::Map(fields) => fields.iter().all(|(_, field)| is_value(field)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    fn round(json: &Json) -> Json {
        fn back(element: &Element) -> Json {
            match element {
                Element::Value(Value::Scalar(scalar)) => scalar_to_json(scalar),
                Element::Map(fields) => Json::Object(
                    fields.iter().map(|(key, value)| (key_to_json(key).into_owned(), back(value))).collect(),
                ),
                Element::List(values) => values.iter().map(back).collect(),
                Element::Text(text) => json!({ "$text": text }),
                other => panic!("{other:?}"),
            }
        }
        back(&from_json(json.clone()).unwrap())
    }

    #[test]
    fn every_kind_of_value_comes_back() {
        let all = json!([
            null, true, "text", 1, -1, 1.5, 9_007_199_254_740_991_i64, { "$int": "9007199254740993" },
            { "$int": "-9223372036854775808" }, { "$uint": "18446744073709551615" }, { "$float": "NaN" },
            { "$float": "Infinity" }, { "$float": "-Infinity" }, { "$date": 0 }, { "$bytes": "00ff" }, { "$counter": 3 },
            { "$counter": "9007199254740993" }, { "$type": 10, "$bytes": "00ff" }, { "$text": "text" },
            { "a": { "b": [[], {}] }, "$ref": 1, "$$date": 2, "$$$date": 3, "$$text": { "$date": 4 } },
        ]);
        assert_eq!(round(&all), all);
    }

    #[test]
    fn numbers_are_what_javascript_means_by_them() {
        let scalar = |json: Json| match from_json(json).unwrap() {
            Element::Value(Value::Scalar(scalar)) => scalar,
            other => panic!("{other:?}"),
        };
        assert_eq!(scalar(json!(1.0)), ScalarValue::Int(1));
        assert_eq!(scalar(json!(-3)), ScalarValue::Int(-3));
        assert_eq!(scalar(json!(1e300)), ScalarValue::F64(1e300));
        assert_eq!(scalar(json!(10_000_000_000_000_000_000_u64)), ScalarValue::F64(1e19));
        assert_eq!(scalar(json!({ "$float": "1" })), ScalarValue::F64(1.0));
        assert_eq!(scalar(json!({ "$uint": "1" })), ScalarValue::Uint(1));
        assert_eq!(scalar_to_json(&ScalarValue::Uint(1)), json!(1));
        assert_eq!(scalar_to_json(&ScalarValue::Int(1 << 53)), json!({ "$int": "9007199254740992" }));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for json in [
            json!({ "$date": "yesterday" }),
            json!({ "$date": 1, "more": 2 }),
            json!({ "$bytes": "0" }),
            json!({ "$int": "1.5" }),
            json!({ "$uint": 1 }),
            json!({ "$type": 9, "$bytes": "" }),
            json!({ "$text": 1 }),
        ] {
            assert_eq!(from_json(json.clone()).unwrap_err().code, "bad_value", "{json}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        for depth in [JSON_DEPTH_MAX - 1, JSON_DEPTH_MAX] {
            assert!(from_json(nested(depth)).is_ok());
        }
        assert_eq!(from_json(nested(JSON_DEPTH_MAX + 1)).unwrap_err().code, "too_large");
    }
}
