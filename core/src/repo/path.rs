//! Where a field stands: the keys from the root down.

/// The way to a field through nested maps: one key, or several.
///
/// ```
/// use rejoin::FieldPath;
///
/// let title = FieldPath::from("title");
/// let city = FieldPath::from(["address", "city"]);
/// assert_eq!(city.keys(), ["address", "city"]);
/// # let _ = title;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldPath(Vec<String>);

impl FieldPath {
    /// Returns the path of the root map itself.
    pub fn root() -> Self {
        Self(Vec::new())
    }

    /// Returns the keys, from the root down.
    pub fn keys(&self) -> &[String] {
        &self.0
    }

    /// Splits off the last key.
    pub(super) fn split_last(mut self) -> Option<(Vec<String>, String)> {
        let last = self.0.pop()?;
        Some((self.0, last))
    }
}

impl From<&str> for FieldPath {
    fn from(key: &str) -> Self {
        Self(vec![key.to_owned()])
    }
}

impl From<String> for FieldPath {
    fn from(key: String) -> Self {
        Self(vec![key])
    }
}

impl<const N: usize> From<[&str; N]> for FieldPath {
    fn from(keys: [&str; N]) -> Self {
        Self(keys.iter().map(|key| (*key).to_owned()).collect())
    }
}

impl From<&[&str]> for FieldPath {
    fn from(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| (*key).to_owned()).collect())
    }
}

impl From<Vec<String>> for FieldPath {
    fn from(keys: Vec<String>) -> Self {
        Self(keys)
    }
}
