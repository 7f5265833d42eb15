//! Changes that arrived before their dependencies, or before these were unfolded, held in bounded memory until then.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use automerge::ChangeHash;

use crate::gate::CheckedChange;
use crate::limits::{CONNECTION_ORPHAN_BYTES_MAX, FOLDED_WAITING_MAX, ORPHAN_BYTES_MAX, ORPHANS_MAX};

/// How many bytes the orphans of one connection take: shared by all its conversations, each of which gives back what it
/// took, at the latest when it ends.
#[derive(Debug, Clone, Default)]
pub(super) struct OrphanBudget(Arc<AtomicUsize>);

impl OrphanBudget {
    /// Takes bytes. Says no, and takes none, when they do not fit.
    fn take(&self, bytes: usize) -> bool {
        let taken = |used: usize| used.checked_add(bytes).filter(|used| *used <= CONNECTION_ORPHAN_BYTES_MAX);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The orphans of one conversation, each filed under one change it waits for.
#[derive(Debug)]
pub(super) struct Orphans {
    waiting: HashMap<ChangeHash, Vec<CheckedChange>>,
    held: HashMap<ChangeHash, Vec<ChangeHash>>,
    /// What waits for the history to be unfolded, in the order it came.
    folded: Vec<CheckedChange>,
    /// What both hold together; as much of the budget is taken.
    bytes: usize,
    budget: OrphanBudget,
}

impl Drop for Orphans {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

impl Orphans {
    /// Holds none yet; what it will hold is taken from this budget.
    pub(super) fn within(budget: OrphanBudget) -> Self {
        Self { waiting: HashMap::new(), held: HashMap::new(), folded: Vec::new(), bytes: 0, budget }
    }

    /// Takes room for a change, if there is any here and on the connection.
    fn take_room(&mut self, bytes: usize) -> bool {
        let fits = self.bytes + bytes <= ORPHAN_BYTES_MAX && self.budget.take(bytes);
        if fits {
            self.bytes += bytes;
        }
        fits
    }

    fn give_back(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.budget.give_back(bytes);
    }

    /// Holds a change that waits for `missing`. Says no when a bound is reached; the change is then dropped.
    pub(super) fn hold(&mut self, change: CheckedChange, missing: ChangeHash) -> bool {
        if self.held.contains_key(&change.hash()) {
            return true;
        }
        if self.held.len() >= ORPHANS_MAX || !self.take_room(change.bytes().len()) {
            return false;
        }
        self.held.insert(change.hash(), change.deps().to_vec());
        self.waiting.entry(missing).or_default().push(change);
        true
    }

    /// Returns what the held ones wait for that is not held itself, at most so many: the rest follows when these come.
    pub(super) fn roots(&self, most: usize) -> Vec<ChangeHash> {
        self.waiting.keys().filter(|hash| !self.held.contains_key(hash)).take(most).copied().collect()
    }

    /// Says whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.folded.is_empty()
    }

    /// Takes out what waits for these changes, and what waits for that in turn, dependencies first.
    pub(super) fn release(&mut self, arrived: impl Iterator<Item = ChangeHash>) -> Vec<CheckedChange> {
        let mut released = Vec::new();
        let mut arrived: Vec<_> = arrived.collect();
        while let Some(hash) = arrived.pop() {
            for change in self.waiting.remove(&hash).unwrap_or_default() {
                self.held.remove(&change.hash());
                self.give_back(change.bytes().len());
                arrived.push(change.hash());
                released.push(change);
            }
        }
        released
    }

    /// Holds a change that waits for the history to be unfolded. Says no when a bound is reached; it is then dropped.
    pub(super) fn hold_folded(&mut self, change: CheckedChange) -> bool {
        if self.folded.len() >= FOLDED_WAITING_MAX || !self.take_room(change.bytes().len()) {
            return false;
        }
        self.folded.push(change);
        true
    }

    /// Takes out what waits for the history to be unfolded, in the order it came.
    pub(super) fn take_folded(&mut self) -> Vec<CheckedChange> {
        let folded = std::mem::take(&mut self.folded);
        self.give_back(folded.iter().map(|change| change.bytes().len()).sum());
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use automerge::ScalarValue;

    use super::*;
    use crate::gate::encode;
    use crate::gate::tests::field_draft;

    const ABSENT: ChangeHash = ChangeHash([9; 32]);

    /// Makes a change of so many bytes, of which there is one for each seq.
    fn change_of(bytes: usize, seq: u64) -> CheckedChange {
        let with_value = |length: usize| {
            let mut draft = field_draft(b"alice", seq, 1, vec![ABSENT]);
            draft.ops[0].value = ScalarValue::Bytes(vec![7; length]);
            encode(&draft).unwrap()
        };
        let excess = with_value(bytes).bytes().len() - bytes;
        let change = with_value(bytes - excess);
        assert_eq!(change.bytes().len(), bytes);
        change
    }

    #[test]
    fn orphans_of_a_connection_are_bounded_together_to_the_byte() {
        let budget = OrphanBudget::default();
        let halves = [1, 2].map(|seq| change_of(ORPHAN_BYTES_MAX / 2, seq));
        let mut full: Vec<_> = (0..3).map(|_| Orphans::within(budget.clone())).collect();
        for orphans in &mut full {
            assert!(halves.iter().all(|change| orphans.hold(change.clone(), ABSENT)));
            assert!(!orphans.hold(change_of(1_000, 3), ABSENT), "the conversation is full");
        }
        let (mut last, mut small) = (Orphans::within(budget.clone()), Orphans::within(budget));
        assert!(last.hold_folded(halves[0].clone()) && last.hold(change_of(ORPHAN_BYTES_MAX / 2 - 1_000, 3), ABSENT));
        // 1,000 bytes are left.
        assert!(!small.hold(change_of(1_001, 4), ABSENT) && !small.hold_folded(change_of(1_001, 4)));
        assert!(small.hold(change_of(999, 4), ABSENT));
        assert!(!last.hold(change_of(1_000, 4), ABSENT), "its own bound alone would let it in");
        assert_eq!(small.release([ABSENT].into_iter()).len(), 1);
        assert!(small.hold(change_of(1_000, 4), ABSENT));
        assert!(!small.hold(change_of(300, 5), ABSENT), "the connection is full");
        // What is released, unfolded or ended makes room again, once.
        assert_eq!(last.take_folded().len(), 1);
        assert!(small.hold(change_of(ORPHAN_BYTES_MAX / 2, 5), ABSENT));
        assert!(!small.hold(change_of(300, 6), ABSENT));
        drop(full.pop());
        assert!(small.hold(change_of(ORPHAN_BYTES_MAX / 2 - 1_000, 6), ABSENT));
        assert!(!small.hold(change_of(300, 7), ABSENT), "now the conversation is full, not the connection");
        assert!(last.hold_folded(change_of(300, 7)));
    }
}
