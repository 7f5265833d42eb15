//! Who is an ancestor of whom, without walking far.
//!
//! Every node has a *floor*: the smallest position that is neither it nor below it. Positions under the floor need no
//! walk. What is left is the part of the history that stands beside the change, and that is walked from the newest down,
//! no further than the question needs, at most [`ANCESTRY_WALK_MAX`] nodes.

use std::collections::{BTreeSet, HashSet};

use super::node;
use crate::gate::{GateError, Rule};
use crate::id::DocumentId;
use crate::limits::{ANCESTRY_WALK_MAX, FLOOR_WALK_MAX};
use crate::store::{ReadTx, StoreError};

/// What is above the floor and below some changes, found out as far as was asked.
#[derive(Debug, Default, Clone)]
pub(super) struct Ancestry {
    /// The changes it is about, ascending.
    tips: Vec<u64>,
    floor: u64,
    /// Ancestors still to visit; every one of them is below the tips.
    frontier: BTreeSet<u64>,
    visited: HashSet<u64>,
}

impl Ancestry {
    /// Begins with the changes at these positions and their floors.
    fn of(tips: Vec<u64>, floor: u64) -> Self {
        let frontier = tips.iter().copied().filter(|tip| *tip >= floor).collect();
        Self { tips, floor, frontier, visited: HashSet::new() }
    }

    /// Says whether this is about the same changes.
    fn is_of(&self, tips: &[u64]) -> bool {
        self.tips == tips
    }

    /// Goes on to a change that was put on top of exactly these tips.
    pub(super) fn extend(&mut self, position: u64, floor: u64) {
        self.tips = vec![position];
        self.floor = self.floor.max(floor);
        self.visited.insert(position);
        if self.visited.len() > ANCESTRY_WALK_MAX {
            // Start anew rather than grow: the next question builds what it needs.
            *self = Self::of(vec![position], floor);
        }
    }

    /// Says whether the change at `position` is one of the tips or below one.
    fn holds(
        &mut self,
        tx: &(impl ReadTx + ?Sized),
        document: &DocumentId,
        position: u64,
    ) -> Result<Result<bool, GateError>, StoreError> {
        if position < self.floor || self.frontier.contains(&position) {
            return Ok(Ok(true));
        }
        while self.frontier.last().is_some_and(|last| *last > position) {
            if self.visited.len() >= ANCESTRY_WALK_MAX {
                return Ok(Err(Rule::HistoryTooWide.found(self.visited.len() as u64 + 1, ANCESTRY_WALK_MAX as u64)));
            }
            self.step(tx, document)?;
        }
        Ok(Ok(self.frontier.contains(&position) || self.visited.contains(&position)))
    }

    /// Visits the newest node of the frontier.
    fn step(&mut self, tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<(), StoreError> {
        let Some(position) = self.frontier.pop_last() else { return Ok(()) };
        self.visited.insert(position);
        let floor = self.floor;
        let deps = node(tx, document, position)?.deps;
        self.frontier.extend(deps.into_iter().filter(|dep| *dep >= floor && !self.visited.contains(dep)));
        Ok(())
    }
}

/// Answers for one document, and remembers the last history it looked at: the changes of an upload stand on each other.
#[derive(Debug, Default)]
pub(super) struct Ancestors {
    last: Option<Ancestry>,
}

/// The place of a change: on top of these changes.
pub(super) struct Place<'p> {
    /// Their positions, ascending.
    pub(super) deps: &'p [u64],
    /// Whether they are all the heads: then everything is below.
    pub(super) all_heads: bool,
}

impl Ancestors {
    /// Says whether the change at `position` is among the dependencies or below one; refuses to walk too far.
    pub(super) fn holds(
        &mut self,
        tx: &(impl ReadTx + ?Sized),
        document: &DocumentId,
        place: &Place<'_>,
        position: u64,
    ) -> Result<Result<bool, GateError>, StoreError> {
        if place.all_heads || place.deps.contains(&position) {
            return Ok(Ok(true));
        }
        if !self.last.as_ref().is_some_and(|last| last.is_of(place.deps)) {
            let mut floor = 0;
            for dep in place.deps {
                floor = floor.max(node(tx, document, *dep)?.floor);
            }
            self.last = Some(Ancestry::of(place.deps.to_vec(), floor));
        }
        match &mut self.last {
            Some(last) => last.holds(tx, document, position),
            None => Ok(Ok(false)),
        }
    }

    /// Learns that a change was appended at `position`, and returns its floor.
    pub(super) fn append(
        &mut self,
        tx: &(impl ReadTx + ?Sized),
        document: &DocumentId,
        place: &Place<'_>,
        position: u64,
    ) -> Result<u64, StoreError> {
        if place.all_heads {
            return Ok(position + 1);
        }
        let floor = floor(tx, document, place.deps, position)?;
        if let Some(last) = &mut self.last
            && last.is_of(place.deps)
        {
            last.extend(position, floor);
        }
        Ok(floor)
    }
}

/// Returns the floor of a new change, or a smaller one where finding it would take long.
fn floor(tx: &(impl ReadTx + ?Sized), document: &DocumentId, deps: &[u64], position: u64) -> Result<u64, StoreError> {
    let mut floor = 0;
    for dep in deps {
        floor = floor.max(node(tx, document, *dep)?.floor);
    }
    let mut below = Ancestry::of(deps.to_vec(), floor);
    if deps.len() > 1 {
        // The floor rises only where dependencies fill each other's gaps. What single dependencies lack stays lacking.
        while !below.frontier.is_empty() && below.visited.len() < FLOOR_WALK_MAX {
            below.step(tx, document)?;
        }
        if below.frontier.is_empty() {
            while below.visited.contains(&floor) {
                floor += 1;
            }
        }
    }
    Ok(if floor == position { position + 1 } else { floor })
}
