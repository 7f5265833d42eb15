//! What is known of a document that was deleted everywhere.

/// How thoroughly a document is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeletionKind {
    /// Its rows are deleted. Its bytes may stay in a store's file until they are written over.
    Deleted,
    /// Its bytes must be gone from every store's file too.
    Purged,
}

/// That a document was deleted everywhere, when and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// How thoroughly.
    pub kind: DeletionKind,
    /// When, in seconds since 1970, by the clock of who did it.
    pub time_seconds: u64,
    /// Who did it, by its own word: a peer or storage id, at most [`crate::limits::DELETED_BY_BYTES_MAX`] long.
    pub by: String,
}
