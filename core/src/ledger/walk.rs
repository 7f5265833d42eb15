//! Walks over the graph. They begin at the newest changes and stop when only common history is left, so they cost what
//! differs, not what is stored.

use std::collections::BTreeMap;
use std::ops::Range;

use automerge::ChangeHash;

use super::{DocumentState, ancestry, node, position};
use crate::id::DocumentId;
use crate::limits::WALK_VISITS;
use crate::store::{ReadTx, StoreError};

/// Returns the positions, ascending, of all changes that are neither in `have` nor ancestors of one in `have`.
///
/// Hashes of `have` that the document lacks count as nothing. Cost: that of [`missing_runs`], and what is found.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn missing(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    state: &DocumentState,
    have: &[ChangeHash],
) -> Result<Vec<u64>, StoreError> {
    Ok(missing_runs(tx, document, state, have)?.into_iter().flatten().collect())
}

/// Returns what [`missing`] does as runs of positions, ascending and none empty.
///
/// Cost: what is found, or what stands beside `have`, whichever is less: whoever has everything up to a change lacks what came
/// after it, however much that is.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn missing_runs(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    state: &DocumentState,
    have: &[ChangeHash],
) -> Result<Vec<Range<u64>>, StoreError> {
    let mut shared = Vec::with_capacity(have.len());
    for hash in have {
        let head = state.heads.iter().find(|head| head.hash == *hash).map(|head| head.position);
        if let Some(found) = head.map_or_else(|| position(tx, document, hash), |found| Ok(Some(found)))? {
            shared.push(found);
        }
    }
    if shared.is_empty() {
        return Ok(Vec::from_iter(Some(0..state.count).filter(|all| !all.is_empty())));
    }
    shared.sort_unstable();
    shared.dedup();
    let mut visits_max = WALK_VISITS;
    loop {
        // What is folded has no nodes to walk over.
        if state.folded == 0
            && let Some(found) = ancestry::beside(tx, document, &shared, state.count, visits_max)?
        {
            return Ok(found);
        }
        let heads = state.heads.iter().map(|head| head.position);
        if let Some(found) = not_below_within(tx, document, heads, &shared, visits_max)? {
            return Ok(runs(found.into_iter()));
        }
        visits_max = visits_max.saturating_mul(4);
    }
}

/// Puts ascending positions together that follow one another.
pub(super) fn runs(positions: impl Iterator<Item = u64>) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for position in positions {
        match runs.last_mut() {
            Some(last) if last.end == position => last.end += 1,
            _ => runs.push(position..position + 1),
        }
    }
    runs
}

/// Says whether every change at `positions` is among `heads` or an ancestor of one.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn covers(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    heads: &[u64],
    positions: &[u64],
) -> Result<bool, StoreError> {
    if positions.iter().all(|position| heads.contains(position)) {
        return Ok(true);
    }
    Ok(not_below(tx, document, positions.iter().copied(), heads.to_vec())?.iter().all(|left| !positions.contains(left)))
}

/// Returns what is reachable from `from` but not from `shared`, ascending.
pub(super) fn not_below(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    from: impl Iterator<Item = u64>,
    shared: Vec<u64>,
) -> Result<Vec<u64>, StoreError> {
    Ok(not_below_within(tx, document, from, &shared, usize::MAX)?.unwrap_or_default())
}

/// Returns what is reachable from `from` but not from `shared`, ascending; `None` if that takes more visits.
///
/// The frontier holds the positions still to visit, greatest first: when a position is taken, everything that could
/// reach it was taken before, so its colour is final.
fn not_below_within(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    from: impl Iterator<Item = u64>,
    shared: &[u64],
    visits_max: usize,
) -> Result<Option<Vec<u64>>, StoreError> {
    let mut frontier: BTreeMap<u64, bool> = from.map(|position| (position, false)).collect();
    for position in shared {
        frontier.insert(*position, true);
    }
    let mut open = frontier.values().filter(|is_shared| !**is_shared).count();
    let mut found = Vec::new();
    let mut left = visits_max;
    while open > 0 {
        let Some((position, is_shared)) = frontier.pop_last() else { break };
        if left == 0 {
            return Ok(None);
        }
        left -= 1;
        if !is_shared {
            open -= 1;
            found.push(position);
        }
        for dep in node(tx, document, position)?.deps {
            match frontier.insert(dep, is_shared) {
                None if !is_shared => open += 1,
                Some(false) if is_shared => open -= 1,
                Some(true) if !is_shared => {
                    frontier.insert(dep, true);
                }
                _ => {}
            }
        }
    }
    found.reverse();
    Ok(Some(found))
}
