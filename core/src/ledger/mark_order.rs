//! Whether a mark ends behind its begin: a document in which one does not is saved by Automerge and never loaded again.
//!
//! Elements are a tree: each hangs below the one it was inserted after, and of those below the same one the newest stands
//! first. Both ends of a mark are newer than all that their author knew, so the order of the two is that of the elements
//! they were inserted after; it never changes, whatever arrives later.

use std::collections::HashMap;

use automerge::ActorId;

use super::actors;
use crate::gate::{Action, CheckedChange, GateError, KeyRef, OpRef, Rule, StoredChange};
use crate::id::DocumentId;
use crate::limits::{MARK_WALK_MAX, MARK_WALK_OPENING};
use crate::store::{ReadTx, StoreError};

/// Checks the order of a change's marks, whose references were found to be sound.
///
/// A mark whose ends are further apart than [`MARK_WALK_MAX`] passes, and so does one whose elements are folded: they have
/// passed a relay.
///
/// Cost: one pass over the operations if there are marks, and the walk.
pub(super) fn check(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    change: &CheckedChange,
) -> Result<Result<(), GateError>, StoreError> {
    if change.columns().mark_name.of(change.bytes()).is_empty() {
        return Ok(Ok(()));
    }
    let mut walk = Walk { tx, document, change, opened: HashMap::new(), left: MARK_WALK_MAX };
    let mut begin = None;
    for op in change.ops() {
        match (op.action, op.key, begin.take()) {
            (Action::MarkBegin, KeyRef::Element(place), _) => begin = Some((op.id_counter, place)),
            (Action::MarkEnd, KeyRef::Element(end), Some((id_counter, begin)))
                if end != (OpRef { actor_index: 0, counter: id_counter }) =>
            {
                match walk.follows(end, begin) {
                    Ok(Some(true)) => {}
                    Ok(Some(false)) => return Ok(Err(Rule::MarkOrder.error())),
                    Ok(None) | Err(StoreError::Folded) => return Ok(Ok(())),
                    Err(error) => return Err(error),
                }
            }
            _ => {}
        }
    }
    Ok(Ok(()))
}

/// An element; ordered by age, as Automerge does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Element {
    counter: u64,
    actor: ActorId,
}

/// The elements of one change.
struct Opened {
    actors: Vec<ActorId>,
    start_op: u64,
    /// What each operation's key names, if it is an element.
    keys: Vec<Option<OpRef>>,
}

struct Walk<'w, T: ReadTx + ?Sized> {
    tx: &'w T,
    document: &'w DocumentId,
    change: &'w CheckedChange,
    /// By position; the change itself has none.
    opened: HashMap<Option<u64>, Opened>,
    /// How many operations may still be looked at.
    left: u64,
}

/// Where a walk down has come to, and over which element it came there.
struct Side {
    /// No element is the head.
    at: Option<Element>,
    from: Option<Element>,
}

impl<T: ReadTx + ?Sized> Walk<'_, T> {
    /// Says whether one element stands behind another in their list or text; `None` if that is too far to see.
    fn follows(&mut self, one: OpRef, other: OpRef) -> Result<Option<bool>, StoreError> {
        let side = |op| Ok::<_, StoreError>(Side { at: Some(element(self.change.actors(), op)?), from: None });
        let (mut one, mut other) = (side(one)?, side(other)?);
        while one.at != other.at {
            // What an element hangs below is older, so the younger of two cannot be above the other.
            let younger = if one.at > other.at { &mut one } else { &mut other };
            let Some(at) = younger.at.take() else { break };
            let Some(below) = self.below(&at)? else { return Ok(None) };
            *younger = Side { at: below, from: Some(at) };
        }
        Ok(Some(match (one.from, other.from) {
            // It is the other one, or the other one hangs below it.
            (None, _) => false,
            (Some(_), None) => true,
            (Some(one), Some(other)) => one < other,
        }))
    }

    /// Returns what an element hangs below; `None` if that is too far to see.
    fn below(&mut self, at: &Element) -> Result<Option<Option<Element>>, StoreError> {
        let position = if at.actor == *self.change.actor() && at.counter >= self.change.start_op() {
            None
        } else {
            let found = actors::holding(self.tx, self.document, &at.actor, at.counter)?;
            Some(found.ok_or(StoreError::Damaged { what: "an element" })?.position)
        };
        if !self.opened.contains_key(&position) {
            let Some(opened) = self.open(position)? else { return Ok(None) };
            self.opened.insert(position, opened);
        }
        let opened = self.opened.get(&position).ok_or(StoreError::Damaged { what: "an element" })?;
        let index = usize::try_from(at.counter.saturating_sub(opened.start_op)).unwrap_or(usize::MAX);
        let key = opened.keys.get(index).ok_or(StoreError::Damaged { what: "an element" })?;
        Ok(Some(match key {
            Some(key) => Some(element(&opened.actors, *key)?),
            None => None,
        }))
    }

    /// Reads the elements of a change; `None` if that is too much.
    fn open(&mut self, position: Option<u64>) -> Result<Option<Opened>, StoreError> {
        let (node, bytes);
        let (start_op, op_count, bytes) = match position {
            None => (self.change.start_op(), self.change.op_count(), &self.change.bytes()[..]),
            Some(position) => {
                node = super::node(self.tx, self.document, position)?;
                bytes = super::change(self.tx, self.document, position)?;
                (node.start_op, node.op_count, &bytes[..])
            }
        };
        let Some(left) = self.left.checked_sub(op_count + MARK_WALK_OPENING) else { return Ok(None) };
        self.left = left;
        let damaged = |_| StoreError::Damaged { what: "change-1" };
        let stored = StoredChange::open(bytes).map_err(damaged)?;
        let mut shapes = stored.shapes();
        let mut keys = Vec::with_capacity(usize::try_from(op_count).unwrap_or_default());
        for counter in start_op..start_op + op_count {
            keys.push(match shapes.at(counter).map_err(damaged)?.key {
                KeyRef::Element(element) => Some(element),
                KeyRef::Head | KeyRef::Map(_) => None,
            });
        }
        Ok(Some(Opened { actors: stored.actors().to_vec(), start_op, keys }))
    }
}

fn element(actors: &[ActorId], op: OpRef) -> Result<Element, StoreError> {
    let actor = usize::try_from(op.actor_index).ok().and_then(|index| actors.get(index));
    let actor = actor.ok_or(StoreError::Damaged { what: "a checked change" })?.clone();
    Ok(Element { counter: op.counter, actor })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests;
