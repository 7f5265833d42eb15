//! The rules of single operations: what an honest author never writes, and Automerge could not build anew.

use automerge::ActorId;

use super::op::{Action, KeyRef, ObjectRef, Op, OpRef, ValueRef};
use super::{GateError, Rule};

/// Checks the operations of one change in their order.
pub(crate) struct OpRules {
    /// How many of the other actors sort before the author: the author stands first in the table but not in the order.
    author_rank: u32,
    /// The object in which the previous operation began a mark.
    mark: Option<ObjectRef>,
}

impl OpRules {
    pub(crate) fn new(actors: &[ActorId]) -> Self {
        let before = actors.iter().skip(1).take_while(|actor| **actor < actors[0]).count();
        Self { author_rank: u32::try_from(before).unwrap_or(u32::MAX), mark: None }
    }

    /// Checks one operation. Cost: O(its predecessors).
    #[inline]
    pub(crate) fn check(&mut self, op: &Op<'_>) -> Result<(), GateError> {
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
        for pred in op.preds {
            earlier(pred)?;
            let order = (pred.counter, self.rank(pred.actor_index));
            Rule::PredOrder.require(last < Some(order))?;
            last = Some(order);
        }
        // An insert makes an element that nobody can have seen before.
        Rule::Operation.require(!op.insert || last.is_none())?;
        self.check_action(op, last.is_some())
    }

    fn check_action(&mut self, op: &Op<'_>, has_preds: bool) -> Result<(), GateError> {
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
                self.mark = Some(op.object);
                Rule::Operation.require(op.insert)
            }
            Action::MarkEnd => {
                Rule::Operation.require(op.insert)?;
                Rule::MarkPair.require(began == Some(op.object))?;
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
