//! How documents and spaces stand in a log: by a label that only this process understands.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use super::{DocumentId, SpaceId};

/// What a document or a space is called in a log: 16 hexadecimal digits. Whoever knows the id of a document may be able to fetch
/// it, and logs go to many places, so the id itself stays out of them. A label is the same for as long as the process lives,
/// which is enough to follow a document through its lines, and nobody finds an id by it.
///
/// ```
/// use rejoin::DocumentId;
///
/// let id = DocumentId::from_bytes([7; 16]);
/// assert_eq!(id.label(), id.label());
/// println!("{} was opened", id.label());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label(u64);

impl Label {
    fn of(bytes: &[u8; 16]) -> Self {
        static KEY: OnceLock<RandomState> = OnceLock::new();
        Self(KEY.get_or_init(RandomState::new).hash_one(bytes))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl DocumentId {
    /// Returns what the document is called in this process's log.
    pub fn label(&self) -> Label {
        Label::of(self.as_bytes())
    }
}

impl SpaceId {
    /// Returns what the space is called in this process's log.
    pub fn label(&self) -> Label {
        Label::of(self.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_follows_a_document_without_naming_it() {
        let (one, other) = (DocumentId::from_bytes([7; 16]), DocumentId::from_bytes([8; 16]));
        assert_eq!(one.label(), one.label());
        assert_ne!(one.label(), other.label());
        let shown = one.label().to_string();
        assert_eq!(shown.len(), 16);
        assert!(!one.to_string().contains(&shown));
    }
}
