//! Patches of a loaded document: Automerge's steps in the page's words, with whole values.
//!
//! Automerge puts an object empty and fills it by later steps. A page gets it whole at once, as it is after all the steps, and
//! the steps inside of it are left out. That is sound because steps of an object come before those of what is inside it.

use std::collections::HashSet;

use automerge::{ObjId, ObjType, Patch, PatchAction, Prop, ReadDoc, Value};
use rejoin::document::{DocumentError, Step};
use serde_json::{Value as Json, json};

use crate::requests::path_to_json;
use crate::tree::Look;
use crate::values::scalar_to_json;

/// Stands in a text for a block.
const BLOCK: &str = "\u{fffc}";

/// Turns steps into patches. `look` is at the state that they lead to.
///
/// # Errors
///
/// [`DocumentError`] if a new value cannot be read.
pub fn convert(look: &Look<'_>, steps: Vec<Patch>) -> Result<Vec<Json>, DocumentError> {
    let mut converter = Converter { look, whole: HashSet::new(), patches: Vec::with_capacity(steps.len()) };
    for step in steps {
        converter.step(step)?;
    }
    Ok(converter.patches)
}

struct Converter<'a> {
    look: &'a Look<'a>,
    /// Objects that were sent whole.
    whole: HashSet<ObjId>,
    patches: Vec<Json>,
}

impl Converter<'_> {
    fn step(&mut self, step: Patch) -> Result<(), DocumentError> {
        let Patch { obj, path, action } = step;
        if self.whole.contains(&obj) || path.iter().any(|(object, _)| self.whole.contains(object)) {
            self.skip(action);
            return Ok(());
        }
        let mut steps = Vec::with_capacity(path.len() + 1);
        for (object, prop) in path {
            // Inside a block: the page asks for spans where it shows them.
            if matches!(prop, Prop::Seq(_)) && self.kind(&object)? == ObjType::Text {
                self.patches.push(json!(["mark", path_to_json(&steps)]));
                return Ok(());
            }
            steps.push(step_of(prop));
        }
        match self.kind(&obj)? {
            ObjType::Text => self.text(obj, &steps, action),
            _ => self.object(steps, action),
        }
    }

    fn kind(&self, object: &ObjId) -> Result<ObjType, DocumentError> {
        Ok(self.look.automerge.object_type(object)?)
    }

    /// Leaves a step out, and notes the objects that came by it.
    fn skip(&mut self, action: PatchAction) {
        match action {
            PatchAction::PutMap { value, .. } | PatchAction::PutSeq { value, .. } => drop(self.whole.insert(value.1)),
            PatchAction::Insert { values, .. } => self.whole.extend(values.iter().map(|(_, id, _)| id.clone())),
            _ => {}
        }
    }

    fn value(&mut self, value: &Value<'_>, id: &ObjId) -> Result<Json, DocumentError> {
        match value {
            Value::Scalar(scalar) => Ok(scalar_to_json(scalar)),
            Value::Object(_) => {
                self.whole.insert(id.clone());
                self.look.value(value, id)
            }
        }
    }

    fn text(&mut self, text: ObjId, path: &[Step], action: PatchAction) -> Result<(), DocumentError> {
        let path = path_to_json(path);
        let patch = match action {
            PatchAction::SpliceText { index, value, .. } => json!(["splice", path, index, 0, value.make_string()]),
            PatchAction::DeleteSeq { index, length } => json!(["splice", path, index, length, ""]),
            PatchAction::Insert { index, values } => {
                self.whole.extend(values.iter().map(|(_, id, _)| id.clone()));
                json!(["splice", path, index, 0, BLOCK.repeat(values.len())])
            }
            PatchAction::Mark { .. } => json!(["mark", path]),
            PatchAction::Conflict { .. } | PatchAction::Increment { .. } => return Ok(()),
            // A character in another's place, which no editor writes: its width is not told.
            PatchAction::PutSeq { .. } | PatchAction::PutMap { .. } | PatchAction::DeleteMap { .. } => {
                let whole = self.look.text(&text)?;
                self.whole.insert(text);
                json!(["set", path, whole])
            }
        };
        self.patches.push(patch);
        Ok(())
    }

    fn object(&mut self, mut path: Vec<Step>, action: PatchAction) -> Result<(), DocumentError> {
        let mut at = |step: Step| {
            path.push(step);
            path_to_json(&path)
        };
        match action {
            PatchAction::PutMap { key, value, conflict } => {
                let path = at(Step::Key(key));
                self.put(path, &value, conflict)?;
            }
            PatchAction::PutSeq { index, value, conflict } => {
                let path = at(Step::Index(index));
                self.put(path, &value, conflict)?;
            }
            PatchAction::Insert { index, values } => {
                let list = path_to_json(&path);
                let mut new = Vec::with_capacity(values.len());
                for (value, id, _) in values.iter() {
                    new.push(self.value(value, id)?);
                }
                self.patches.push(json!(["insert", list, index, new]));
            }
            PatchAction::DeleteMap { key } => self.patches.push(json!(["delete", at(Step::Key(key))])),
            PatchAction::DeleteSeq { index, length } => {
                self.patches.push(json!(["remove", path_to_json(&path), index, length]));
            }
            PatchAction::Increment { prop, value } => {
                self.patches.push(json!(["increment", at(step_of(prop)), value]));
            }
            PatchAction::Conflict { prop } => self.patches.push(json!(["conflict", at(step_of(prop))])),
            PatchAction::SpliceText { .. } | PatchAction::Mark { .. } => {}
        }
        Ok(())
    }

    fn put(&mut self, path: Json, (value, id): &(Value<'_>, ObjId), conflict: bool) -> Result<(), DocumentError> {
        let value = self.value(value, id)?;
        let flag = conflict.then(|| json!(["conflict", path]));
        self.patches.push(json!(["set", path, value]));
        self.patches.extend(flag);
        Ok(())
    }
}

fn step_of(prop: Prop) -> Step {
    match prop {
        Prop::Map(key) => Step::Key(key),
        Prop::Seq(index) => Step::Index(index),
    }
}
