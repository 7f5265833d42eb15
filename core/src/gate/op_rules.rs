//! The rules of single operations: what an honest author never writes, and Automerge could not build anew.

use automerge::ActorId;

use super::op::{Action, KeyRef, ObjectRef, Op, OpRef, ValueRef};
use super::{GateError, Rule};
use crate::limits::OWN_CONFLICTS_MAX;

/// Checks the operations of one change in their order.
pub(crate) struct OpRules<'a> {
    /// How many of the other actors sort before the author: the author stands first in the table but not in the order.
    author_rank: u32,
    /// The mark that the previous operation began: its object and the place it was inserted at.
    mark: Option<(ObjectRef, KeyRef<'a>)>,
    /// The place to which the previous operation gave a value.
    value: Option<(ObjectRef, KeyRef<'a>)>,
    /// How many values the change left standing beside one of its own.
    own_conflicts: u64,
}

impl<'a> OpRules<'a> {
    pub(crate) fn new(actors: &[ActorId]) -> Self {
        let before = actors.iter().skip(1).take_while(|actor| **actor < actors[0]).count();
        Self { author_rank: u32::try_from(before).unwrap_or(u32::MAX), mark: None, value: None, own_conflicts: 0 }
    }

    /// Checks one operation. Cost: O(its predecessors).
    #[inline]
    pub(crate) fn check(&mut self, op: &Op<'a>) -> Result<(), GateError> {
        let earlier = |id: OpRef| {
            let holds = id.counter > 0 && id.counter < op.id_counter;
            if holds { Ok(()) } else { Err(Rule::Reference.found(id.counter, op.id_counter - 1)) }
        };
        if let ObjectRef::Op(object) = op.object {
            earlier(object)?;
        }
        match op.key {
            KeyRef::Map(_) => Rule::Operation.require(!op.insert)?,
            KeyRef::Head => Rule::Operation.require(op.insert && op.object != ObjectRef::Root)?,
            KeyRef::Element(element) => {
                earlier(element)?;
                Rule::Operation.require(op.object != ObjectRef::Root)?;
            }
        }
        let mut last = None;
        let mut names_previous = false;
        for pred in op.preds {
            earlier(pred)?;
            names_previous |= pred == OpRef { actor_index: 0, counter: op.id_counter - 1 };
            let order = (pred.counter, self.rank(pred.actor_index));
            Rule::PredOrder.require(last < Some(order))?;
            last = Some(order);
        }
        // An insert makes an element that nobody can have seen before.
        Rule::Operation.require(!op.insert || last.is_none())?;
        self.check_conflict(op, names_previous)?;
        self.check_action(op, last.is_some())
    }

    /// Counts the values that the change leaves standing though its next operation works on the same place.
    ///
    /// An honest author sees its own value there and names it. Only neighbours are compared: what stands between others
    /// takes bytes, and it is the runs of a few bytes that make a million values.
    #[inline]
    fn check_conflict(&mut self, op: &Op<'a>, names_previous: bool) -> Result<(), GateError> {
        let place = (op.object, op.key);
        if !op.insert && !names_previous && self.value == Some(place) {
            self.own_conflicts += 1;
            Rule::OwnConflict.at_most(self.own_conflicts, OWN_CONFLICTS_MAX)?;
        }
        let gives_value = !op.insert && (op.action == Action::Put || op.action.is_make());
        self.value = gives_value.then_some(place);
        Ok(())
    }

    fn check_action(&mut self, op: &Op<'a>, has_preds: bool) -> Result<(), GateError> {
        let began = self.mark.take();
        let is_mark = matches!(op.action, Action::MarkBegin | Action::MarkEnd);
        Rule::Operation.require(is_mark || (!op.expand && op.mark_name.is_none()))?;
        match op.action {
            Action::Put => Ok(()),
            Action::MakeMap | Action::MakeList | Action::MakeText | Action::MakeTable => require_null(op),
            Action::Delete => {
                // A delete is kept only as a mark on what it deletes; without that it would vanish.
                Rule::Operation.require(has_preds && !op.insert)?;
                require_null(op)
            }
            Action::Increment => {
                Rule::Operation.require(has_preds && !op.insert)?;
                Rule::Value.require(matches!(op.value, ValueRef::Int(_)))
            }
            Action::MarkBegin => {
                self.mark = Some((op.object, op.key));
                Rule::Operation.require(op.insert)
            }
            Action::MarkEnd => {
                Rule::Operation.require(op.insert)?;
                let (object, key) = began.ok_or_else(|| Rule::MarkPair.error())?;
                Rule::MarkPair.require(object == op.object)?;
                // What is inserted later at the same place stands first, and at the head before everything.
                Rule::MarkOrder.require(op.key != key && op.key != KeyRef::Head)?;
                require_null(op)
            }
        }
    }

    /// Returns where an actor stands among the actors of the change, sorted by their bytes.
    #[inline]
    fn rank(&self, actor_index: u32) -> u32 {
        match actor_index {
            0 => self.author_rank,
            other if other > self.author_rank => other,
            other => other - 1,
        }
    }
}

fn require_null(op: &Op<'_>) -> Result<(), GateError> {
    Rule::Value.require(op.value == ValueRef::Null)
}
