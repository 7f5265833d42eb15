//! What differs between two states of a document, as a list of small steps.

use std::collections::BTreeMap;

use automerge::{Automerge, ChangeHash, ObjId, Prop, ScalarValue};

use super::read::{check_heads, field_value};
use super::rich::{Mark, marks_of};
use super::{DocumentError, FieldPath, Step};
use crate::fields::FieldValue;

/// One step from one state of a document to another. Steps are applied in order: indices count what came before them.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Patch {
    /// Where: the field, element or text position that changed; the text itself for [`PatchAction::Mark`].
    pub path: FieldPath,
    /// What happened there.
    pub action: PatchAction,
}

/// What happened at a path.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum PatchAction {
    /// A field or an element got this value. An object is empty at first: patches with longer paths fill it.
    Put {
        /// The value.
        value: FieldValue,
        /// Whether other values lost against it.
        conflict: bool,
    },
    /// Elements came into a list, or a block into a text, before the element at the index.
    Insert {
        /// The new elements.
        values: Vec<FieldValue>,
    },
    /// Text came in before the index, in UTF-16 code units.
    InsertText {
        /// The text.
        text: String,
        /// Its marks by name.
        marks: BTreeMap<String, ScalarValue>,
    },
    /// A field was deleted.
    DeleteField,
    /// Elements, or UTF-16 code units of a text, were deleted from the index on.
    Delete {
        /// How many.
        length: usize,
    },
    /// A counter went up or down.
    Increment {
        /// By how much.
        by: i64,
    },
    /// Other values have come in beside the winner: read them with `get_all`.
    Conflict,
    /// Marks of a text were set or taken away; those that were taken away have the value null.
    Mark {
        /// The marks.
        marks: Vec<Mark>,
    },
}

/// Returns the steps that lead from one state to another, in any direction. Cost: O(document).
///
/// # Errors
///
/// [`DocumentError::UnknownHeads`].
pub fn diff(automerge: &Automerge, from: &[ChangeHash], to: &[ChangeHash]) -> Result<Vec<Patch>, DocumentError> {
    check_heads(automerge, from)?;
    check_heads(automerge, to)?;
    Ok(automerge.diff(from, to).into_iter().map(Patch::from).collect())
}

impl From<automerge::Patch> for Patch {
    fn from(patch: automerge::Patch) -> Self {
        let object = FieldPath::from(patch.path.into_iter().map(|(_, prop)| step(prop)).collect::<Vec<_>>());
        let (last, action) = action(patch.action);
        let path = match last {
            Some(Step::Key(key)) => object.key(key),
            Some(Step::Index(index)) => object.index(index),
            None => object,
        };
        Self { path, action }
    }
}

/// Returns the step below the object, and what happened there.
fn action(action: automerge::PatchAction) -> (Option<Step>, PatchAction) {
    use automerge::PatchAction as Theirs;
    match action {
        Theirs::PutMap { key, value, conflict } => {
            (Some(Step::Key(key)), PatchAction::Put { value: value_of(&value), conflict })
        }
        Theirs::PutSeq { index, value, conflict } => {
            (Some(Step::Index(index)), PatchAction::Put { value: value_of(&value), conflict })
        }
        Theirs::Insert { index, values } => {
            let values = values.iter().map(|(value, id, _)| value_of(&(value.clone(), id.clone()))).collect();
            (Some(Step::Index(index)), PatchAction::Insert { values })
        }
        Theirs::SpliceText { index, value, marks } => {
            let marks = marks.map(|marks| marks_of(&marks)).unwrap_or_default();
            (Some(Step::Index(index)), PatchAction::InsertText { text: value.make_string(), marks })
        }
        Theirs::Increment { prop, value } => (Some(step(prop)), PatchAction::Increment { by: value }),
        Theirs::Conflict { prop } => (Some(step(prop)), PatchAction::Conflict),
        Theirs::DeleteMap { key } => (Some(Step::Key(key)), PatchAction::DeleteField),
        Theirs::DeleteSeq { index, length } => (Some(Step::Index(index)), PatchAction::Delete { length }),
        Theirs::Mark { marks } => (None, PatchAction::Mark { marks: marks.into_iter().map(Mark::from).collect() }),
    }
}

fn step(prop: Prop) -> Step {
    match prop {
        Prop::Map(key) => Step::Key(key),
        Prop::Seq(index) => Step::Index(index),
    }
}

fn value_of((value, id): &(automerge::Value<'static>, ObjId)) -> FieldValue {
    // Only the root has no operation, and the root is never put anywhere.
    field_value(value, id).map_or(FieldValue::Scalar(ScalarValue::Null), |(_, value)| value)
}
