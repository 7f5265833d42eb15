//! How far a connection is with bringing everything here that the relay has.

/// How much of the first sync of a connection is done.
///
/// What is to come is the relay's estimate, which may be off while others write. With the classic protocol a server tells
/// nothing of what it has, so there the documents of this device count, and bytes do not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// How many documents are in step with the relay's.
    pub documents_done: u64,
    /// Of how many.
    pub documents_total: u64,
    /// How many bytes came.
    pub bytes_done: u64,
    /// Of how many.
    pub bytes_total: u64,
    /// Whether all that the relay had is here; from now on changes come as they happen.
    pub is_caught_up: bool,
}

impl Progress {
    /// Returns how many documents are left.
    pub fn documents_left(&self) -> u64 {
        self.documents_total.saturating_sub(self.documents_done)
    }
}
