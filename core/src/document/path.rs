//! Where a value stands: the keys and indices from the root down.

use std::fmt;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Into the field of a map.
    Key(String),
    /// To the element of a list, from 0.
    Index(usize),
}

/// The way to a field through nested maps and lists: one key, or several steps.
///
/// A path of keys alone is followed through the register table, without loading the document. A path with an index loads
/// it: which element is the third is known to the document only.
///
/// ```
/// use rejoin::FieldPath;
///
/// let title = FieldPath::from("title");
/// let city = FieldPath::from(["address", "city"]);
/// assert_eq!(city.keys(), ["address", "city"]);
///
/// let card = FieldPath::from(("cards", 3, "title"));
/// assert_eq!(card, FieldPath::from("cards").index(3).key("title"));
/// assert_eq!(card.to_string(), r#"["cards", 3, "title"]"#);
/// # let _ = title;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldPath(Vec<Step>);

impl FieldPath {
    /// Returns the path of the root map itself.
    pub fn root() -> Self {
        Self(Vec::new())
    }

    /// Returns this path with a key at its end.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.0.push(Step::Key(key.into()));
        self
    }

    /// Returns this path with a list's index at its end.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.0.push(Step::Index(index));
        self
    }

    /// Returns the steps, from the root down.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Returns the keys, from the root down. Indices are left out: see [`FieldPath::steps`].
    pub fn keys(&self) -> Vec<&str> {
        let keys = self.0.iter().filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        });
        keys.collect()
    }

    /// Says whether the path goes through no list, so that the register table can follow it.
    pub fn is_keys(&self) -> bool {
        self.0.iter().all(|step| matches!(step, Step::Key(_)))
    }

    /// Splits a path of keys before its last; `None` if there is none, or an index on the way.
    pub fn split_last_key(self) -> Option<(Vec<String>, String)> {
        let keys = self.0.into_iter().map(|step| match step {
            Step::Key(key) => Some(key),
            Step::Index(_) => None,
        });
        let mut keys: Vec<String> = keys.collect::<Option<_>>()?;
        let last = keys.pop()?;
        Some((keys, last))
    }
}

impl fmt::Display for FieldPath {
    /// Writes the steps as a list, keys in quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for step in &self.0 {
            match step {
                Step::Key(key) => list.entry(key),
                Step::Index(index) => list.entry(index),
            };
        }
        list.finish()
    }
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<String> for Step {
    fn from(key: String) -> Self {
        Self::Key(key)
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl From<&str> for FieldPath {
    fn from(key: &str) -> Self {
        Self(vec![key.into()])
    }
}

impl From<String> for FieldPath {
    fn from(key: String) -> Self {
        Self(vec![key.into()])
    }
}

impl<const N: usize> From<[&str; N]> for FieldPath {
    fn from(keys: [&str; N]) -> Self {
        Self(keys.into_iter().map(Step::from).collect())
    }
}

impl From<&[&str]> for FieldPath {
    fn from(keys: &[&str]) -> Self {
        Self(keys.iter().copied().map(Step::from).collect())
    }
}

impl From<Vec<String>> for FieldPath {
    fn from(keys: Vec<String>) -> Self {
        Self(keys.into_iter().map(Step::from).collect())
    }
}

impl From<Vec<Step>> for FieldPath {
    fn from(steps: Vec<Step>) -> Self {
        Self(steps)
    }
}

/// Takes tuples of keys and indices as paths.
macro_rules! from_tuples {
    ($(($($step:ident),+),)+) => {
        $(impl<$($step: Into<Step>),+> From<($($step,)+)> for FieldPath {
            #[expect(non_snake_case, reason = "each variable is named by its type")]
            fn from(($($step,)+): ($($step,)+)) -> Self {
                Self(vec![$($step.into()),+])
            }
        })+
    };
}

from_tuples! {
    (A, B),
    (A, B, C),
    (A, B, C, D),
    (A, B, C, D, E),
    (A, B, C, D, E, F),
}
