//! The rules that need a document's history: a pure function over facts that the ledger looks up.

use automerge::ActorId;

use super::{CheckedChange, GateError, Rule};
use crate::limits::START_OP_JUMP_MAX;

/// What the ledger knows about the place where a change wants to go. All its dependencies are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The greatest `max_op` among the direct dependencies, 0 if there are none.
    pub deps_max_op: u64,
    /// The sequence number of the last change of the same actor, 0 if there is none.
    pub own_last_seq: u64,
    /// Whether that last change is among the change's ancestors; without meaning if there is none.
    pub own_last_is_ancestor: bool,
    /// The first of the change's other actors that made no change in the document.
    pub first_unknown_actor: Option<ActorId>,
    /// The greatest `max_op` in the document.
    pub document_max_op: u64,
}

/// Decides whether a change continues a document's history.
///
/// A change that is already there would be refused as a reuse: the ledger looks hashes up first.
///
/// # Errors
///
/// `seq-gap`, `seq-reused` (equivocation: another change has that number), `own-dependency`, `start-op-low`,
/// `start-op-jump`, `unknown-actor`. All but `seq-gap` are final: waiting for more changes does not heal them.
pub fn admit(change: &CheckedChange, facts: &Facts) -> Result<(), GateError> {
    let seq_next = facts.own_last_seq.saturating_add(1);
    if change.seq() < seq_next {
        return Err(Rule::SeqReused.found(change.seq(), seq_next));
    }
    if change.seq() > seq_next {
        return Err(Rule::SeqGap.found(change.seq(), seq_next));
    }
    Rule::OwnDependency.require(facts.own_last_seq == 0 || facts.own_last_is_ancestor)?;
    if change.start_op() <= facts.deps_max_op {
        return Err(Rule::StartOpLow.found(change.start_op(), facts.deps_max_op));
    }
    // Automerge stores an empty change without its start and takes it for the one after the dependencies.
    if change.op_count() == 0 {
        Rule::StartOpJump.at_most(change.start_op(), facts.deps_max_op.saturating_add(1))?;
    }
    let known = facts.deps_max_op.max(facts.document_max_op);
    Rule::StartOpJump.at_most(change.start_op(), known.saturating_add(1 + START_OP_JUMP_MAX))?;
    Rule::UnknownActor.require(facts.first_unknown_actor.is_none())
}
