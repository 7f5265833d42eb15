//! Walks over the graph. They begin at the newest changes and stop when only common history is left, so they cost what
//! differs, not what is stored.

use std::collections::BTreeMap;

use automerge::ChangeHash;

use super::{DocumentState, node, position};
use crate::id::DocumentId;
use crate::store::{ReadTx, StoreError};

/// Returns the positions, ascending, of all changes that are neither in `have` nor ancestors of one in `have`.
///
/// Hashes of `have` that the document lacks count as nothing. Cost: the changes since the last common ones, plus those
/// accepted after them.
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
    let mut shared = Vec::with_capacity(have.len());
    for hash in have {
        let head = state.heads.iter().find(|head| head.hash == *hash).map(|head| head.position);
        if let Some(found) = head.map_or_else(|| position(tx, document, hash), |found| Ok(Some(found)))? {
            shared.push(found);
        }
    }
    if shared.is_empty() {
        return Ok((0..state.count).collect());
    }
    let heads = state.heads.iter().map(|head| head.position);
    not_below(tx, document, heads, shared)
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
///
/// The frontier holds the positions still to visit, greatest first: when a position is taken, everything that could
/// reach it was taken before, so its colour is final.
pub(super) fn not_below(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    from: impl Iterator<Item = u64>,
    shared: Vec<u64>,
) -> Result<Vec<u64>, StoreError> {
    let mut frontier: BTreeMap<u64, bool> = from.map(|position| (position, false)).collect();
    for position in shared {
        frontier.insert(position, true);
    }
    let mut open = frontier.values().filter(|is_shared| !**is_shared).count();
    let mut found = Vec::new();
    while open > 0 {
        let Some((position, is_shared)) = frontier.pop_last() else { break };
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
    Ok(found)
}
