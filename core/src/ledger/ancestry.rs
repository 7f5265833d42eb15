//! Who is an ancestor of whom, without walking far.
//!
//! Every node has a *floor*: the smallest position that is neither it nor below it. Positions under the floor need no
//! walk. What is left is the part of the history that stands beside the change, and that is walked from the newest down,
//! no further than the question needs, and no further than there is [`Reach`].

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use super::node;
use super::walk::runs;
use crate::gate::{GateError, Rule};
use crate::id::DocumentId;
use crate::limits::{ANCESTRIES_KEPT, ANCESTRY_FRONTIERS_MAX, ANCESTRY_WALK_MAX, FLOOR_WALK_MAX, RELAY_WALK_MAX};
use crate::store::{ReadTx, StoreError};

/// A set of positions of which nearly all above the first are there: a bit for each.
#[derive(Debug, Default, Clone)]
struct Bits {
    /// The position of the first bit, a multiple of 64.
    first: u64,
    words: Vec<u64>,
}

impl Bits {
    fn from(floor: u64) -> Self {
        Self { first: floor / 64 * 64, words: Vec::new() }
    }

    fn place(&self, position: u64) -> Option<(usize, u64)> {
        let at = position.checked_sub(self.first)?;
        Some((usize::try_from(at / 64).ok()?, 1 << (at % 64)))
    }

    fn insert(&mut self, position: u64) {
        // What is below the floor is known without it.
        let Some((word, bit)) = self.place(position) else { return };
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= bit;
    }

    fn contains(&self, position: u64) -> bool {
        self.place(position).is_some_and(|(word, bit)| self.words.get(word).is_some_and(|found| found & bit != 0))
    }

    /// Says whether more than so many positions above one are in it.
    fn has_more_above(&self, position: u64, most: usize) -> bool {
        let end = self.first + 64 * self.words.len() as u64;
        if end.saturating_sub(position) <= most as u64 {
            return false;
        }
        let above = position.saturating_add(1).max(self.first);
        let Some((word, bit)) = self.place(above) else { return false };
        let Some((first, rest)) = self.words.get(word..).and_then(<[u64]>::split_first) else { return false };
        // Those from the bit on.
        let count = |word: &u64| word.count_ones() as usize;
        count(&(first & !(bit - 1))) + rest.iter().map(count).sum::<usize>() > most
    }

    /// Adds another set, as far as it is not below the floor.
    fn merge(&mut self, other: &Self) {
        let (mine, theirs) = (self.first.saturating_sub(other.first) / 64, other.first.saturating_sub(self.first) / 64);
        let from = usize::try_from(mine).unwrap_or(usize::MAX).min(other.words.len());
        let to = usize::try_from(theirs).unwrap_or(usize::MAX);
        let other = &other.words[from..];
        if self.words.len() < to.saturating_add(other.len()) {
            self.words.resize(to + other.len(), 0);
        }
        self.words[to..].iter_mut().zip(other).for_each(|(word, more)| *word |= more);
    }

    /// Forgets what is below a floor.
    fn raise(&mut self, floor: u64) {
        let Some((words, _)) = self.place(floor) else { return };
        let words = words.min(self.words.len());
        self.words.drain(..words);
        self.first += 64 * words as u64;
    }
}

/// What is above the floor and below some changes, found out as far as was asked.
#[derive(Debug, Clone)]
struct Ancestry {
    /// The changes it is about, ascending.
    tips: Vec<u64>,
    floor: u64,
    /// Ancestors still to visit; every one of them is below the tips.
    frontier: BTreeSet<u64>,
    visited: Bits,
}

impl Ancestry {
    /// Begins with the changes at these positions, ascending.
    fn at(tx: &(impl ReadTx + ?Sized), document: &DocumentId, tips: &[u64]) -> Result<Self, StoreError> {
        let floor = floor_of(tx, document, tips)?;
        let frontier = tips.iter().copied().filter(|tip| *tip >= floor).collect();
        Ok(Self { tips: tips.to_vec(), floor, frontier, visited: Bits::from(floor) })
    }

    /// Says whether this is about the same changes.
    fn is_of(&self, tips: &[u64]) -> bool {
        self.tips == tips
    }

    /// Returns the same about a change that was put on top of exactly these tips.
    fn extended(&self, position: u64, floor: u64) -> Self {
        let mut next = Self { tips: vec![position], ..self.clone() };
        next.visited.insert(position);
        next.rise(floor);
        next
    }

    /// Says whether the change at `position` is one of the tips or below one.
    fn holds(
        &mut self,
        tx: &(impl ReadTx + ?Sized),
        document: &DocumentId,
        position: u64,
        (reach, kept): (&mut Reach, &VecDeque<Self>),
    ) -> Result<Result<bool, GateError>, StoreError> {
        if position < self.floor {
            return Ok(Ok(true));
        }
        let too_wide = Rule::HistoryTooWide.found(reach.max as u64 + 1, reach.max as u64);
        while self.frontier.last().is_some_and(|last| *last > position) {
            if reach.left == 0 {
                return Ok(Err(too_wide));
            }
            reach.left -= 1;
            self.step(tx, document, kept)?;
        }
        if position < self.floor {
            return Ok(Ok(true));
        }
        // What was found out for changes before it spares visits, and must not let pass what alone would not.
        if self.visited.has_more_above(position, reach.max) {
            return Ok(Err(too_wide));
        }
        Ok(Ok(self.frontier.contains(&position) || self.visited.contains(position)))
    }

    /// Visits the newest node of the frontier, and with it what is known to be below it.
    fn step(
        &mut self,
        tx: &(impl ReadTx + ?Sized),
        document: &DocumentId,
        kept: &VecDeque<Self>,
    ) -> Result<(), StoreError> {
        let Some(position) = self.frontier.pop_last() else { return Ok(()) };
        self.visited.insert(position);
        let known = kept.iter().find(|kept| kept.is_of(&[position]) && kept.visited.contains(position));
        let Some(known) = known else {
            let deps = node(tx, document, position)?.deps;
            let floor = self.floor;
            self.frontier.extend(deps.into_iter().filter(|dep| *dep >= floor && !self.visited.contains(*dep)));
            return Ok(());
        };
        self.visited.merge(&known.visited);
        self.frontier.extend(&known.frontier);
        self.frontier.retain(|position| !self.visited.contains(*position));
        self.rise(known.floor);
        Ok(())
    }

    /// Visits all there is, if that takes no more visits; says whether it did.
    fn finish(
        &mut self,
        tx: &(impl ReadTx + ?Sized),
        document: &DocumentId,
        visits_max: usize,
    ) -> Result<bool, StoreError> {
        let mut left = visits_max;
        while left > 0 && !self.frontier.is_empty() {
            left -= 1;
            self.step(tx, document, &VecDeque::new())?;
        }
        Ok(self.frontier.is_empty())
    }

    /// Learns that everything below a position is below the tips.
    fn rise(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        self.visited.raise(self.floor);
        self.frontier = self.frontier.split_off(&self.floor);
    }
}

/// How many changes may be visited for each: whether one is taken must not depend on what comes with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    max: usize,
    left: usize,
}

impl Reach {
    /// [`ANCESTRY_WALK_MAX`].
    pub(super) const DEVICE: Self = Self::of(ANCESTRY_WALK_MAX);

    /// [`RELAY_WALK_MAX`].
    pub(super) const RELAY: Self = Self::of(RELAY_WALK_MAX);

    const fn of(max: usize) -> Self {
        Self { max, left: max }
    }

    fn begin_change(&mut self) {
        self.left = self.max;
    }
}

/// Answers for one document, and remembers the histories it looked at last: the changes of an upload stand on each other.
#[derive(Debug)]
pub(super) struct Ancestors {
    /// The last one first, [`ANCESTRIES_KEPT`] at most.
    kept: VecDeque<Ancestry>,
    reach: Reach,
}

/// The place of a change: on top of these changes.
pub(super) struct Place<'p> {
    /// Their positions, ascending.
    pub(super) deps: &'p [u64],
    /// Whether they are all the heads: then everything is below.
    pub(super) all_heads: bool,
}

impl Ancestors {
    pub(super) fn new(reach: Reach) -> Self {
        Self { kept: VecDeque::new(), reach }
    }

    /// Begins with the next change.
    pub(super) fn begin_change(&mut self) {
        self.reach.begin_change();
    }

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
        let kept = self.kept.iter().position(|kept| kept.is_of(place.deps)).and_then(|at| self.kept.remove(at));
        let mut asked = match kept {
            Some(kept) => kept,
            None => Ancestry::at(tx, document, place.deps)?,
        };
        let holds = asked.holds(tx, document, position, (&mut self.reach, &self.kept));
        self.keep(asked);
        holds
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
        let below = self.kept.iter().find(|kept| kept.is_of(place.deps));
        if let Some(below) = below.filter(|below| below.frontier.len() <= ANCESTRY_FRONTIERS_MAX / ANCESTRIES_KEPT) {
            // The other stays: somebody else may have written on top of the same.
            self.keep(below.extended(position, floor));
        }
        Ok(floor)
    }

    /// Keeps one, and forgets what was not asked for longest.
    fn keep(&mut self, ancestry: Ancestry) {
        self.kept.truncate(ANCESTRIES_KEPT - 1);
        self.kept.push_front(ancestry);
        let mut frontiers = 0;
        let fits = self.kept.iter().take_while(|kept| {
            frontiers += kept.frontier.len();
            frontiers <= ANCESTRY_FRONTIERS_MAX
        });
        // The change that is looked at asks for the first one again.
        let fits = fits.count().max(1);
        self.kept.truncate(fits);
    }
}

/// Returns the runs of positions below `count` that are neither among the tips, which ascend, nor below one; `None` if that takes more
/// visits. What comes behind the last tip is below none.
pub(super) fn beside(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    tips: &[u64],
    count: u64,
    visits_max: usize,
) -> Result<Option<Vec<Range<u64>>>, StoreError> {
    // Each tip is one.
    if tips.len() > visits_max {
        return Ok(None);
    }
    let end = tips.last().map_or(0, |last| last + 1);
    let mut below = Ancestry::at(tx, document, tips)?;
    if !below.finish(tx, document, visits_max)? {
        return Ok(None);
    }
    let mut found = runs((below.floor..end).filter(|position| !below.visited.contains(*position)));
    match found.last_mut() {
        Some(last) if last.end == end => last.end = count,
        _ if end < count => found.push(end..count),
        _ => {}
    }
    Ok(Some(found))
}

/// Returns from where on changes together do not know everything, as far as their own floors tell.
fn floor_of(tx: &(impl ReadTx + ?Sized), document: &DocumentId, tips: &[u64]) -> Result<u64, StoreError> {
    tips.iter().try_fold(0, |floor, tip| Ok(node(tx, document, *tip)?.floor.max(floor)))
}

/// Returns the floor of a new change, or a smaller one where finding it would take long.
fn floor(tx: &(impl ReadTx + ?Sized), document: &DocumentId, deps: &[u64], position: u64) -> Result<u64, StoreError> {
    // The floor rises only where dependencies fill each other's gaps. What single dependencies lack stays lacking.
    let floor = if deps.len() > 1 {
        let mut below = Ancestry::at(tx, document, deps)?;
        let is_whole = below.finish(tx, document, FLOOR_WALK_MAX)?;
        let mut floor = below.floor;
        while is_whole && below.visited.contains(floor) {
            floor += 1;
        }
        floor
    } else {
        floor_of(tx, document, deps)?
    };
    Ok(if floor == position { position + 1 } else { floor })
}
