//! The files of a store, on disks that lose their power together.

use super::{Chance, CutDisk, Kept};
use crate::store::{RedbOptions, RedbStore, StoreError};

/// What is on the disks: the store's file, and its journal.
pub type Images = [Vec<u8>; 2];

/// The files of a store, on disks in memory that are cut at the same moment: what one of them keeps says nothing of what the
/// other one does. Clones are the same files.
#[derive(Debug, Clone)]
pub struct CutFiles {
    store: CutDisk,
    journal: CutDisk,
}

impl CutFiles {
    /// Makes empty files on disks with power.
    pub fn new() -> Self {
        Self::from_images([Vec::new(), Vec::new()])
    }

    /// Makes files that hold these bytes.
    pub fn from_images([store, journal]: Images) -> Self {
        let store = CutDisk::from_image(store);
        Self { journal: store.beside(journal), store }
    }

    /// Opens the store, with a journal if the options say so.
    ///
    /// # Errors
    ///
    /// As [`RedbStore::open_backends`].
    pub fn open(&self, options: RedbOptions) -> Result<RedbStore, StoreError> {
        RedbStore::open_backends(self.store.clone(), self.journal.clone(), options)
    }

    /// Cuts the power after this many more operations on any of the files; `usize::MAX` gives it back.
    pub fn cut_after(&self, operations: usize) {
        self.store.cut_after(operations);
    }

    /// Says whether the power is cut.
    pub fn is_cut(&self) -> bool {
        self.store.is_cut()
    }

    /// Returns how many operations were done.
    pub fn operations(&self) -> usize {
        self.store.operations()
    }

    /// As [`CutDisk::set_forgetful`].
    pub fn set_forgetful(&self, on: bool) {
        self.both().for_each(|disk| disk.set_forgetful(on));
    }

    /// As [`CutDisk::set_lying`].
    pub fn set_lying(&self, on: bool) {
        self.both().for_each(|disk| disk.set_lying(on));
    }

    /// As [`CutDisk::set_full`].
    pub fn set_full(&self, on: bool) {
        self.both().for_each(|disk| disk.set_full(on));
    }

    /// Says whether no space is left.
    pub fn is_full(&self) -> bool {
        self.store.is_full()
    }

    /// Says whether there was no space left at any time.
    pub fn is_troubled(&self) -> bool {
        self.store.is_troubled()
    }

    /// Returns what is in the files as long as the power is there, as a process that is killed leaves them.
    pub fn contents(&self) -> Images {
        [self.store.contents(), self.journal.contents()]
    }

    /// Returns what may be found when the power is back.
    pub fn images(&self, kept: Kept, chance: &mut Chance) -> Images {
        let other = if kept == Kept::None || chance.coin() { kept } else { Kept::ALL[chance.below(Kept::ALL.len())] };
        [self.store.image(kept, chance), self.journal.image(other, chance)]
    }

    fn both(&self) -> impl Iterator<Item = &CutDisk> {
        [&self.store, &self.journal].into_iter()
    }
}

impl Default for CutFiles {
    fn default() -> Self {
        Self::new()
    }
}
