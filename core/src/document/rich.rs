//! Rich text: marks on ranges of a text, blocks between its characters, cursors that move along with it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use automerge::ScalarValue;
use automerge::marks::{ExpandMark, MarkSet};

use crate::limits::{ACTOR_BYTES_MAX, OP_COUNTER_MAX};

/// A mark: a name and a value on a range of a text, such as `bold` or a link's target.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Where it stands, in UTF-16 code units.
    pub range: Range<usize>,
    /// Its name. A character has one value for each name.
    pub name: String,
    /// Its value.
    pub value: ScalarValue,
}

impl From<automerge::marks::Mark> for Mark {
    fn from(mark: automerge::marks::Mark) -> Self {
        Self { range: mark.start..mark.end, name: mark.name.to_string(), value: mark.value }
    }
}

/// Whether text that is put in at the edge of a mark becomes marked too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Expand {
    /// At neither edge: a link.
    None,
    /// Before its beginning.
    Before,
    /// After its end: bold text, that goes on as it is typed. The default.
    #[default]
    After,
    /// At both edges.
    Both,
}

impl Expand {
    /// Returns Automerge's word for it.
    pub fn to_automerge(self) -> ExpandMark {
        match self {
            Self::None => ExpandMark::None,
            Self::Before => ExpandMark::Before,
            Self::After => ExpandMark::After,
            Self::Both => ExpandMark::Both,
        }
    }
}

/// A piece of a rich text.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Span {
    /// Text with the same marks throughout.
    Text {
        /// The text.
        text: String,
        /// Its marks by name.
        marks: BTreeMap<String, ScalarValue>,
    },
    /// A block: a paragraph, heading or list item begins here. It takes one index of the text.
    Block(serde_json::Map<String, serde_json::Value>),
}

/// Returns a set of marks by name, without those that were taken away.
pub(super) fn marks_of(marks: &MarkSet) -> BTreeMap<String, ScalarValue> {
    let marks = marks.iter().filter(|(_, value)| !matches!(value, ScalarValue::Null));
    marks.map(|(name, value)| (name.to_owned(), value.clone())).collect()
}

/// Where a cursor goes when the character it stands on is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CursorMove {
    /// To the character before.
    Before,
    /// To the character after. The default.
    #[default]
    After,
}

/// A place in a text or list that stays at its character while others write before and after it.
///
/// Its text form, which Automerge's libraries for other languages read too, can be stored and sent.
///
/// ```
/// use rejoin::document::Cursor;
///
/// let cursor: Cursor = "7@0a0b".parse()?;
/// assert_eq!(cursor.to_string(), "7@0a0b");
/// assert!("7@".parse::<Cursor>().is_err());
/// # Ok::<(), rejoin::document::ParseCursorError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Cursor(automerge::Cursor);

impl Cursor {
    /// The beginning of any text: it stays there.
    pub const START: Self = Self(automerge::Cursor::Start);

    /// The end of any text: it stays there.
    pub const END: Self = Self(automerge::Cursor::End);

    pub(super) fn new(cursor: automerge::Cursor) -> Self {
        Self(cursor)
    }

    pub(super) fn as_automerge(&self) -> &automerge::Cursor {
        &self.0
    }
}

impl fmt::Display for Cursor {
    /// Writes `counter@actor`, with `-` before it if it moves to the character before; `s` and `e` are start and end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is no cursor: `s`, `e`, or `counter@actor` with or without `-` before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: it looks like 7@0a0b0c, where 0a0b0c is an actor in hexadecimal")]
pub struct ParseCursorError;

impl FromStr for Cursor {
    type Err = ParseCursorError;

    /// Reads a cursor's text form. The text may come from anywhere: Automerge sees only what has the right form.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !matches!(text, "s" | "e") {
            let id = text.strip_prefix('-').unwrap_or(text);
            let (counter, actor) = id.split_once('@').ok_or(ParseCursorError)?;
            let fits = counter.bytes().all(|byte| byte.is_ascii_digit())
                && counter.parse::<u64>().is_ok_and(|counter| (1..=OP_COUNTER_MAX).contains(&counter))
                && !actor.is_empty()
                && actor.len() <= 2 * ACTOR_BYTES_MAX
                && actor.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !fits {
                return Err(ParseCursorError);
            }
        }
        automerge::Cursor::try_from(text).map(Self).map_err(|_| ParseCursorError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_from_text_and_nothing_else_is_taken() {
        for text in ["s", "e", "1@00", "-7@0a0b", "2147483647@ff"] {
            assert_eq!(text.parse::<Cursor>().map(|cursor| cursor.to_string()), Ok(text.to_owned()));
        }
        for text in
            ["", "-", "@", "@-1", "1@", "é", "é@00", "1@é", "+1@00", "0@00", "1@0", "2147483648@00", "--1@00", "x"]
        {
            assert_eq!(text.parse::<Cursor>(), Err(ParseCursorError), "{text}");
        }
    }
}
