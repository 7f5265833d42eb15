//! How many changes wait, at hand.

use std::collections::HashMap;

use crate::id::{DocumentId, SpaceId};
use crate::ledger::{outbox, spaces};
use crate::store::{ReadTx, StoreError};

/// How many changes no relay has acknowledged: of each document, of each space, and in all.
///
/// The outbox alone is the truth, and no count of it is stored: a tally is read from it once, when the store is opened, and
/// told of every transaction after it was committed. So a write costs nothing for it, and no crash makes it wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Only those with changes that wait.
    documents: HashMap<DocumentId, (SpaceId, u64)>,
    spaces: HashMap<SpaceId, u64>,
    total: u64,
}

impl Tally {
    /// Counts the outbox. Cost: one row for 64 changes that wait, one row or lookup for each of their documents.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub fn read(tx: &(impl ReadTx + ?Sized)) -> Result<Self, StoreError> {
        let counts = outbox::counts(tx)?;
        let mut tally = Self::default();
        spaces::of_each(tx, &counts, |document, space, count| tally.set(document, space, count))?;
        Ok(tally)
    }

    /// Returns how many changes of a document wait.
    pub fn of_document(&self, document: &DocumentId) -> u64 {
        self.documents.get(document).map_or(0, |(_, count)| *count)
    }

    /// Returns how many changes of a space's documents wait.
    pub fn of_space(&self, space: &SpaceId) -> u64 {
        self.spaces.get(space).copied().unwrap_or(0)
    }

    /// Returns each document with changes that wait, and how many.
    pub fn documents(&self) -> impl Iterator<Item = (DocumentId, u64)> {
        self.documents.iter().map(|(document, (_, count))| (*document, *count))
    }

    /// Returns how many changes wait.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Notes that changes were committed that wait.
    pub fn add(&mut self, document: DocumentId, space: SpaceId, count: u64) {
        self.set(document, space, self.of_document(&document).saturating_add(count));
    }

    /// Notes that more changes of a document wait of which some do already; returns whether it is one.
    pub fn grow(&mut self, document: DocumentId, count: u64) -> bool {
        match self.documents.get(&document).copied() {
            Some((space, before)) => {
                self.set(document, space, before.saturating_add(count));
                true
            }
            None => false,
        }
    }

    /// Notes that changes wait no more.
    pub fn take(&mut self, document: DocumentId, count: u64) {
        if let Some((space, before)) = self.documents.get(&document).copied() {
            self.set(document, space, before.saturating_sub(count));
        }
    }

    /// Notes how many changes of a document wait: 0 when it was deleted.
    pub fn set(&mut self, document: DocumentId, space: SpaceId, count: u64) {
        if let Some((space, before)) = self.documents.remove(&document) {
            self.total -= before;
            if let Some(sum) = self.spaces.get_mut(&space) {
                *sum -= before;
                if *sum == 0 {
                    self.spaces.remove(&space);
                }
            }
        }
        if count > 0 {
            self.documents.insert(document, (space, count));
            *self.spaces.entry(space).or_default() += count;
            self.total += count;
        }
    }
}
