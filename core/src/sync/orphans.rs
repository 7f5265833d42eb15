//! Changes that arrived before their dependencies, or before these were unfolded, held in bounded memory until then.

use std::collections::{HashMap, HashSet};

use automerge::ChangeHash;

use crate::gate::CheckedChange;
use crate::limits::{FOLDED_WAITING_MAX, ORPHAN_BYTES_MAX, ORPHANS_MAX};

/// The orphans of one conversation, each filed under one change it waits for.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    waiting: HashMap<ChangeHash, Vec<CheckedChange>>,
    held: HashMap<ChangeHash, Vec<ChangeHash>>,
    /// What waits for the history to be unfolded, in the order it came.
    folded: Vec<CheckedChange>,
    bytes: usize,
}

impl Orphans {
    /// Holds a change that waits for `missing`. Says no when the bound is reached; the change is then dropped.
    pub(super) fn hold(&mut self, change: CheckedChange, missing: ChangeHash) -> bool {
        if self.held.contains_key(&change.hash()) {
            return true;
        }
        let bytes = change.bytes().len();
        if self.held.len() >= ORPHANS_MAX || self.bytes + bytes > ORPHAN_BYTES_MAX {
            return false;
        }
        self.bytes += bytes;
        self.held.insert(change.hash(), change.deps().to_vec());
        self.waiting.entry(missing).or_default().push(change);
        true
    }

    /// Takes out what waits for these changes, and what waits for that in turn, dependencies first.
    pub(super) fn release(&mut self, arrived: impl Iterator<Item = ChangeHash>) -> Vec<CheckedChange> {
        let mut released = Vec::new();
        let mut arrived: Vec<_> = arrived.collect();
        while let Some(hash) = arrived.pop() {
            for change in self.waiting.remove(&hash).unwrap_or_default() {
                self.held.remove(&change.hash());
                self.bytes -= change.bytes().len();
                arrived.push(change.hash());
                released.push(change);
            }
        }
        released
    }

    /// Holds a change that waits for the history to be unfolded. Says no when the bound is reached; it is then dropped.
    pub(super) fn hold_folded(&mut self, change: CheckedChange) -> bool {
        let bytes = change.bytes().len();
        if self.folded.len() >= FOLDED_WAITING_MAX || self.bytes + bytes > ORPHAN_BYTES_MAX {
            return false;
        }
        self.bytes += bytes;
        self.folded.push(change);
        true
    }

    /// Takes out what waits for the history to be unfolded, in the order it came.
    pub(super) fn take_folded(&mut self) -> Vec<CheckedChange> {
        let folded = std::mem::take(&mut self.folded);
        self.bytes -= folded.iter().map(|change| change.bytes().len()).sum::<usize>();
        folded
    }

    /// Returns what the heads need that is neither known nor held: the changes to ask for.
    pub(super) fn lacking(
        &self,
        heads: &[ChangeHash],
        mut known: impl FnMut(&ChangeHash) -> Result<bool, crate::store::StoreError>,
    ) -> Result<Vec<ChangeHash>, crate::store::StoreError> {
        let mut lacking = Vec::new();
        let mut seen: HashSet<ChangeHash> = heads.iter().copied().collect();
        let mut open: Vec<ChangeHash> = heads.to_vec();
        while let Some(hash) = open.pop() {
            if let Some(deps) = self.held.get(&hash) {
                open.extend(deps.iter().filter(|dep| seen.insert(**dep)));
            } else if !known(&hash)? {
                lacking.push(hash);
            }
        }
        lacking.sort_unstable();
        Ok(lacking)
    }
}
