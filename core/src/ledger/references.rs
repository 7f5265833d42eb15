//! What the operations of a change refer to: objects, elements and predecessors must be there, below the change, and fit.
//!
//! Automerge looks none of this up when it takes a change in. An operation on an object that was never made panics later; a
//! predecessor of another field hides a value and makes a save that does not load again.
//!
//! References are gathered, sorted by what they refer to, and looked up together, so that every change that is referred to
//! is read once and passed over once, in its encoded form.

use std::collections::HashMap;

use automerge::ActorId;

use super::actors::{self, ActorChange};
use super::ancestry::{Ancestors, Place};
use super::mark_order;
use crate::gate::{Action, CheckedChange, GateError, KeyRef, ObjectRef, OpRef, Rule, Shape, StoredChange};
use crate::id::{DocumentId, OpId};
use crate::limits::{OBJECT_KINDS_CACHED, REFERENCED_BYTES_MAX, REFERENCES_BATCH};
use crate::store::{ReadTx, StoreError};

type Judged = Result<Result<(), GateError>, StoreError>;

/// What an operation wants of another one.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Want<'c> {
    /// It made the object that this one is about.
    Object {
        /// A list or text, not a map.
        elements: bool,
    },
    /// It inserted the element that this one is about.
    Element { object: ObjectRef },
    /// It gave the value that this one replaces.
    Value { object: ObjectRef, key: KeyRef<'c> },
}

#[derive(Debug, Clone, Copy)]
struct Reference<'c> {
    to: OpRef,
    want: Want<'c>,
}

/// An object's kind, and the change that made it.
#[derive(Debug, Clone, Copy)]
struct Made {
    action: Action,
    position: u64,
}

/// Checks references for one document, and remembers its objects.
#[derive(Debug, Default)]
pub(super) struct References {
    made: HashMap<OpId, Made>,
}

/// Where references of one change are looked up.
struct Lookup<'l, T: ReadTx + ?Sized> {
    tx: &'l T,
    document: &'l DocumentId,
    change: &'l CheckedChange,
    place: &'l Place<'l>,
    ancestors: &'l mut Ancestors,
    /// How many bytes of other changes were read.
    bytes: usize,
}

impl References {
    /// Checks every reference of a change whose dependencies are there.
    ///
    /// Cost: O(references log references) plus the bytes of the changes referred to, at most [`REFERENCED_BYTES_MAX`].
    pub(super) fn check(
        &mut self,
        tx: &(impl ReadTx + ?Sized),
        document: &DocumentId,
        change: &CheckedChange,
        place: &Place<'_>,
        ancestors: &mut Ancestors,
    ) -> Judged {
        let mut lookup = Lookup { tx, document, change, place, ancestors, bytes: 0 };
        let mut gathered = Vec::new();
        let mut last_object = None;
        for op in change.ops() {
            if let ObjectRef::Op(to) = op.object {
                let want = Want::Object { elements: !matches!(op.key, KeyRef::Map(_)) };
                if last_object != Some((to, want)) {
                    last_object = Some((to, want));
                    gathered.push(Reference { to, want });
                }
            }
            if let KeyRef::Element(to) = op.key {
                gathered.push(Reference { to, want: Want::Element { object: op.object } });
            }
            let want = Want::Value { object: op.object, key: op.key };
            for to in op.preds {
                gathered.push(Reference { to, want });
                if gathered.len() >= REFERENCES_BATCH {
                    let judged = self.look_up(&mut lookup, &mut gathered)?;
                    if judged.is_err() {
                        return Ok(judged);
                    }
                }
            }
            if gathered.len() >= REFERENCES_BATCH {
                let judged = self.look_up(&mut lookup, &mut gathered)?;
                if judged.is_err() {
                    return Ok(judged);
                }
            }
        }
        let judged = self.look_up(&mut lookup, &mut gathered)?;
        if judged.is_err() {
            return Ok(judged);
        }
        mark_order::check(tx, document, change)
    }

    /// Looks up what was gathered, one change that is referred to after the other.
    fn look_up<T: ReadTx + ?Sized>(&mut self, lookup: &mut Lookup<'_, T>, gathered: &mut Vec<Reference<'_>>) -> Judged {
        gathered.sort_unstable_by_key(|reference| (reference.to.actor_index, reference.to.counter));
        let mut rest = gathered.as_slice();
        while let Some(first) = rest.first() {
            if let Some(judged) = self.known_object(lookup, first)? {
                if judged.is_err() {
                    return Ok(judged);
                }
                rest = &rest[1..];
                continue;
            }
            let target = match lookup.target(first)? {
                Ok(target) => target,
                Err(error) => return Ok(Err(error)),
            };
            let same = rest.partition_point(|reference| {
                reference.to.actor_index == first.to.actor_index
                    && match &target {
                        Some(target) => target.holds(reference.to.counter),
                        None => reference.to.counter >= lookup.change.start_op(),
                    }
            });
            let (here, after) = rest.split_at(same);
            rest = after;
            let judged = match target {
                None => self.check_target(lookup, None, lookup.change.bytes(), here),
                Some(target) => {
                    let bytes = super::change(lookup.tx, lookup.document, target.position)?;
                    lookup.bytes = lookup.bytes.saturating_add(bytes.len());
                    if lookup.bytes > REFERENCED_BYTES_MAX {
                        let error = Rule::TooManyReferences.found(lookup.bytes as u64, REFERENCED_BYTES_MAX as u64);
                        return Ok(Err(error));
                    }
                    self.check_target(lookup, Some(target.position), &bytes, here)
                }
            };
            if judged.is_err() {
                return Ok(judged);
            }
        }
        gathered.clear();
        Ok(Ok(()))
    }

    /// Answers for an object that was looked up before; `None` if it was not, or that is not the question.
    fn known_object<T: ReadTx + ?Sized>(
        &self,
        lookup: &mut Lookup<'_, T>,
        reference: &Reference<'_>,
    ) -> Result<Option<Result<(), GateError>>, StoreError> {
        let Want::Object { elements } = reference.want else { return Ok(None) };
        if self.made.is_empty() {
            return Ok(None);
        }
        let actor = lookup.actor(reference.to)?.clone();
        let Some(made) = self.made.get(&OpId { counter: reference.to.counter, actor }) else { return Ok(None) };
        if let Err(error) = lookup.require_below(reference, made.position, Rule::UnknownObject)? {
            return Ok(Some(Err(error)));
        }
        Ok(Some(fits_object(made.action, elements)))
    }

    /// Holds references against the change they refer to, in the order of its operations.
    fn check_target<T: ReadTx + ?Sized>(
        &mut self,
        lookup: &Lookup<'_, T>,
        position: Option<u64>,
        bytes: &[u8],
        references: &[Reference<'_>],
    ) -> Result<(), GateError> {
        let stored = StoredChange::open(bytes)?;
        let mut shapes = stored.shapes();
        let mut at: Option<(u64, Shape<'_>)> = None;
        let actors = lookup.change.actors();
        for reference in references {
            let counter = reference.to.counter;
            let shape = match at {
                Some((found, shape)) if found == counter => shape,
                _ => shapes.at(counter)?,
            };
            at = Some((counter, shape));
            let same_object = |object| same(object, actors, shape.object, stored.actors());
            match reference.want {
                Want::Object { elements } => {
                    fits_object(shape.action, elements)?;
                    if let Some(position) = position {
                        self.remember(lookup, reference.to, Made { action: shape.action, position });
                    }
                }
                Want::Element { object } => Rule::Reference.require(shape.insert && same_object(object))?,
                Want::Value { object, key } => {
                    let same_key = match (key, shape.key) {
                        (KeyRef::Map(key), KeyRef::Map(other)) => key == other,
                        (KeyRef::Element(key), _) if shape.insert => key == reference.to,
                        (KeyRef::Element(key), KeyRef::Element(other)) => {
                            same(ObjectRef::Op(key), actors, ObjectRef::Op(other), stored.actors())
                        }
                        _ => false,
                    };
                    // Automerge's previews of 1.0 named an increment where they meant its counter, in the same change.
                    let own_increment = position.is_none() && shape.action == Action::Increment;
                    let gives_value = shape.action == Action::Put || shape.action.is_make() || own_increment;
                    Rule::Reference.require(same_key && gives_value && same_object(object))?;
                }
            }
        }
        Ok(())
    }

    fn remember<T: ReadTx + ?Sized>(&mut self, lookup: &Lookup<'_, T>, object: OpRef, made: Made) {
        if self.made.len() >= OBJECT_KINDS_CACHED {
            self.made.clear();
        }
        if let Ok(actor) = lookup.actor(object) {
            self.made.insert(OpId { counter: object.counter, actor: actor.clone() }, made);
        }
    }
}

impl<T: ReadTx + ?Sized> Lookup<'_, T> {
    /// Finds the change that a reference refers to; `None` for the change itself.
    fn target(&mut self, reference: &Reference<'_>) -> Result<Result<Option<ActorChange>, GateError>, StoreError> {
        let OpRef { actor_index, counter } = reference.to;
        if actor_index == 0 && counter >= self.change.start_op() {
            return Ok(Ok(None));
        }
        let rule = match reference.want {
            Want::Object { .. } => Rule::UnknownObject,
            _ => Rule::Reference,
        };
        let found = actors::holding(self.tx, self.document, self.actor(reference.to)?, counter)?;
        let Some(found) = found else { return Ok(Err(rule.error())) };
        let below = self.require_below(reference, found.position, rule)?;
        Ok(below.map(|()| Some(found)))
    }

    /// Requires that the change at `position`, which has what the reference refers to, is below this one.
    fn require_below(&mut self, reference: &Reference<'_>, position: u64, rule: Rule) -> Judged {
        // The author's last change was found to be below, and stands on all that the author wrote before.
        if reference.to.actor_index == 0 {
            return Ok(Ok(()));
        }
        let below = self.ancestors.holds(self.tx, self.document, self.place, position)?;
        Ok(below.and_then(|below| rule.require(below)))
    }

    fn actor(&self, op: OpRef) -> Result<&ActorId, StoreError> {
        // The gate has checked that every index is in range.
        actor_of(op, self.change.actors()).ok_or(StoreError::Damaged { what: "a checked change" })
    }
}

/// A table holds nothing that Automerge still opens: it is neither.
fn fits_object(action: Action, elements: bool) -> Result<(), GateError> {
    Rule::UnknownObject.require(action.is_make())?;
    let fits = if elements { matches!(action, Action::MakeList | Action::MakeText) } else { action == Action::MakeMap };
    Rule::ObjectKind.require(fits)
}

/// Says whether two names mean the same object, each read with the actors of its own change.
fn same(left: ObjectRef, left_actors: &[ActorId], right: ObjectRef, right_actors: &[ActorId]) -> bool {
    match (left, right) {
        (ObjectRef::Root, ObjectRef::Root) => true,
        (ObjectRef::Op(left), ObjectRef::Op(right)) => {
            left.counter == right.counter && actor_of(left, left_actors) == actor_of(right, right_actors)
        }
        _ => false,
    }
}

fn actor_of(op: OpRef, actors: &[ActorId]) -> Option<&ActorId> {
    usize::try_from(op.actor_index).ok().and_then(|index| actors.get(index))
}
