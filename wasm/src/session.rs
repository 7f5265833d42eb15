//! A page's session: which of its requests were done, and what its edits made.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use automerge::ChangeHash;
use rejoin::{DocumentId, Presence};
use tokio::sync::Notify;

use crate::engine::Answer;
use crate::errors::Failure;

/// How many edits are remembered after their answers arrived: a page may still name them as what its view stands on.
pub(crate) const MADE_KEPT: u64 = 1_000;

/// How many edits of an engine before this one are looked up for one edit; beyond it they count as contained in what is stored.
const LOOKED_UP_MAX: usize = 16_384;

/// What the edits of a session made, by their ids; none if nothing, or not yet. Shared with where edits run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Made(Arc<Mutex<BTreeMap<u64, Option<ChangeHash>>>>);

impl Made {
    /// Notes what an edit made.
    pub(crate) fn note(&self, id: u64, change: Option<ChangeHash>) {
        self.with(|made| {
            let noted = made.entry(id).or_default();
            *noted = change.or(*noted);
        });
    }

    /// Returns the changes of these edits; `None` if one of them is not known. Cost: O(known edits), however long the rows.
    pub(crate) fn changes(&self, ids: &[RangeInclusive<u64>]) -> Option<Vec<ChangeHash>> {
        self.with(|made| {
            let mut changes = Vec::new();
            for ids in ids {
                let Some(others) = ids.end().checked_sub(*ids.start()) else { continue };
                let known = changes_in(made, ids.clone(), &mut changes);
                if u64::try_from(known).is_ok_and(|known| known <= others) {
                    return None;
                }
            }
            Some(changes)
        })
    }

    /// Returns which of these edits are not known, as many as are worth looking up.
    pub(crate) fn unknown(&self, ids: &[RangeInclusive<u64>]) -> Vec<u64> {
        self.with(|made| {
            let unknown = ids.iter().cloned().flatten().filter(|id| !made.contains_key(id));
            unknown.take(LOOKED_UP_MAX).collect()
        })
    }

    fn forget(&self, acked: u64) {
        self.with(|made| *made = made.split_off(&acked.saturating_sub(MADE_KEPT)));
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<u64, Option<ChangeHash>>) -> T) -> T {
        // Each step leaves the map whole.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Collects the changes of a row of edits, and says how many of those edits are known.
fn changes_in(
    made: &BTreeMap<u64, Option<ChangeHash>>,
    ids: RangeInclusive<u64>,
    changes: &mut Vec<ChangeHash>,
) -> usize {
    let known = made.range(ids).inspect(|(_, change)| changes.extend(**change));
    known.count()
}

/// A request that is done once, however often it is sent.
#[derive(Debug, Clone)]
pub(crate) enum Once {
    /// It is being done: wait, and look again.
    UnderWay(Rc<Notify>),
    /// This came of it.
    Done(Result<Answer, Failure>),
}

/// A page's session.
#[derive(Debug, Default)]
pub(crate) struct Session {
    once: BTreeMap<u64, Once>,
    pub(crate) made: Made,
    /// Up to where the store has forgotten.
    forgotten: u64,
    /// What the page shows of itself.
    pub(crate) presences: HashMap<DocumentId, Presence>,
}

impl Session {
    /// Looks up a request that is done once. Kept in memory: another engine does not know it.
    pub(crate) fn once(&self, id: u64) -> Option<Once> {
        self.once.get(&id).cloned()
    }

    /// Notes how a request stands.
    pub(crate) fn set_once(&mut self, id: u64, once: Once) {
        self.once.insert(id, once);
    }

    /// Forgets a request that was given up half-way.
    pub(crate) fn give_up(&mut self, id: u64) {
        if matches!(self.once.get(&id), Some(Once::UnderWay(_))) {
            self.once.remove(&id);
        }
    }

    /// Says whether it is time that the store forgets requests up to this one: each time costs a write.
    pub(crate) fn must_forget(&mut self, acked: u64) -> bool {
        let is_time = acked >= self.forgotten + MADE_KEPT;
        if is_time {
            self.forgotten = acked;
        }
        is_time
    }

    /// Forgets requests whose answers arrived.
    pub(crate) fn forget(&mut self, acked: u64) {
        if self.once.first_key_value().is_some_and(|(id, _)| *id <= acked) {
            self.once = self.once.split_off(&(acked + 1));
            self.made.forget(acked);
        }
    }
}
