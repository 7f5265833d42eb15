//! Requests: a JSON array of arguments, read one by one.

use std::cell::RefCell;

use automerge::ChangeHash;
use rejoin::document::{FieldPath, Step};
use rejoin::value::from_hex;
use rejoin::{DocumentId, SpaceId};
use serde_json::Value as Json;

use crate::errors::Failure;

/// The arguments of a request, taken in their order.
#[derive(Debug)]
pub struct Args(std::vec::IntoIter<Json>);

impl Args {
    /// Reads a JSON array.
    ///
    /// # Errors
    ///
    /// `bad_argument` if it is none.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        match serde_json::from_str(text) {
            Ok(Json::Array(values)) => Ok(Self::of(values)),
            _ => Err(Failure::argument("the arguments are no JSON array")),
        }
    }

    /// Takes values as arguments.
    pub fn of(values: Vec<Json>) -> Self {
        Self(values.into_iter())
    }

    /// Takes the next one; null if there are no more.
    pub fn json(&mut self) -> Json {
        self.0.next().unwrap_or(Json::Null)
    }

    /// Takes a string.
    ///
    /// # Errors
    ///
    /// `bad_argument`, as for all of them.
    pub fn string(&mut self) -> Result<String, Failure> {
        match self.json() {
            Json::String(text) => Ok(text),
            other => Err(wrong("a string", &other)),
        }
    }

    /// Takes a string or null.
    pub fn string_or_null(&mut self) -> Result<Option<String>, Failure> {
        match self.json() {
            Json::Null => Ok(None),
            Json::String(text) => Ok(Some(text)),
            other => Err(wrong("a string or null", &other)),
        }
    }

    /// Takes a truth value.
    pub fn bool(&mut self) -> bool {
        self.json() == Json::Bool(true)
    }

    /// Takes a whole number from 0.
    pub fn number(&mut self) -> Result<u64, Failure> {
        let json = self.json();
        json.as_u64().ok_or_else(|| wrong("a whole number", &json))
    }

    /// Takes an index or a length.
    pub fn index(&mut self) -> Result<usize, Failure> {
        usize::try_from(self.number()?).map_err(|_| Failure::argument("an index is too large"))
    }

    /// Takes a whole number.
    pub fn integer(&mut self) -> Result<i64, Failure> {
        let json = self.json();
        json.as_i64().ok_or_else(|| wrong("a whole number", &json))
    }

    /// Takes a list.
    pub fn list(&mut self) -> Result<Vec<Json>, Failure> {
        match self.json() {
            Json::Array(values) => Ok(values),
            other => Err(wrong("a list", &other)),
        }
    }

    /// Takes a document's id.
    pub fn document(&mut self) -> Result<DocumentId, Failure> {
        thread_local! {
            /// The last one. To decode an id and its checksum costs as much as to read a field, and many requests are about one document.
            static LAST: RefCell<Option<(String, DocumentId)>> = const { RefCell::new(None) };
        }
        let text = self.string()?;
        LAST.with_borrow_mut(|last| match last {
            Some((known, document)) if *known == text => Ok(*document),
            _ => match text.parse() {
                Ok(document) => {
                    *last = Some((text, document));
                    Ok(document)
                }
                Err(error) => Err(Failure::argument(&format!("{text:?} is no document id: {error}"))),
            },
        })
    }

    /// Takes a document's id or null.
    pub fn document_or_null(&mut self) -> Result<Option<DocumentId>, Failure> {
        match self.0.as_slice().first() {
            None | Some(Json::Null) => {
                self.0.next();
                Ok(None)
            }
            Some(_) => self.document().map(Some),
        }
    }

    /// Takes a space's id or null.
    pub fn space_or_null(&mut self) -> Result<Option<SpaceId>, Failure> {
        self.string_or_null()?.map(|text| space(&text)).transpose()
    }

    /// Takes a space's id.
    pub fn space(&mut self) -> Result<SpaceId, Failure> {
        space(&self.string()?)
    }

    /// Takes a path: a list of keys and indices.
    pub fn path(&mut self) -> Result<FieldPath, Failure> {
        let steps = self.list()?.into_iter().map(|step| match step {
            Json::String(key) => Ok(Step::Key(key)),
            other => {
                let index = other.as_u64().and_then(|index| usize::try_from(index).ok());
                index.map(Step::Index).ok_or_else(|| wrong("a key or an index", &other))
            }
        });
        Ok(FieldPath::from(steps.collect::<Result<Vec<_>, _>>()?))
    }

    /// Takes a change's hash.
    pub fn hash(&mut self) -> Result<ChangeHash, Failure> {
        let json = self.json();
        hash(&json)
    }

    /// Takes a list of hashes.
    pub fn hashes(&mut self) -> Result<Vec<ChangeHash>, Failure> {
        self.list()?.iter().map(hash).collect()
    }

    /// Takes a list of hashes or null.
    pub fn hashes_or_null(&mut self) -> Result<Option<Vec<ChangeHash>>, Failure> {
        match self.json() {
            Json::Null => Ok(None),
            Json::Array(hashes) => hashes.iter().map(hash).collect::<Result<_, _>>().map(Some),
            other => Err(wrong("a list or null", &other)),
        }
    }

    /// Takes milliseconds.
    pub fn duration(&mut self) -> Result<std::time::Duration, Failure> {
        let json = self.json();
        // JavaScript's `Infinity` becomes null in JSON.
        let milliseconds = if json.is_null() { Some(u64::from(u32::MAX)) } else { json.as_f64().map(whole) };
        milliseconds.map(std::time::Duration::from_millis).ok_or_else(|| wrong("milliseconds", &json))
    }
}

/// Rounds up to a whole number; beyond 49 days they are 49 days.
fn whole(milliseconds: f64) -> u64 {
    let bounded = milliseconds.clamp(0.0, f64::from(u32::MAX)).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 32 bits above")]
    let whole = bounded as u64;
    whole
}

fn wrong(wanted: &str, found: &Json) -> Failure {
    let mut shown = found.to_string();
    if shown.chars().count() > 40 {
        shown = shown.chars().take(40).chain("...".chars()).collect();
    }
    Failure::argument(&format!("{wanted} is expected, not {shown}"))
}

/// Reads a change's hash: 64 hexadecimal digits.
pub fn hash(json: &Json) -> Result<ChangeHash, Failure> {
    let bytes = json.as_str().and_then(from_hex).and_then(|bytes| bytes.try_into().ok());
    bytes.map(ChangeHash).ok_or_else(|| wrong("a hash of 64 digits", json))
}

fn space(text: &str) -> Result<SpaceId, Failure> {
    let hex = from_hex(text).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    match hex {
        Some(bytes) => Ok(SpaceId::from_bytes(bytes)),
        None => text.parse().map_err(|error| Failure::argument(&format!("{text:?} is no space id: {error}"))),
    }
}

/// Writes hashes.
pub fn hashes_to_json(hashes: &[ChangeHash]) -> Json {
    hashes.iter().map(|hash| Json::from(hash.to_string())).collect()
}

/// Writes a path.
pub fn path_to_json(path: &[Step]) -> Json {
    let steps = path.iter().map(|step| match step {
        Step::Key(key) => Json::from(key.as_str()),
        Step::Index(index) => Json::from(*index),
    });
    steps.collect()
}
