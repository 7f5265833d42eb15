//! What the operations of a history refer to: objects, elements and predecessors, and whether their author can know them.

use std::collections::{BTreeMap, HashMap};

use rejoin::OpId;
use rejoin::gate::{Action, CheckedChange, KeyRef, ObjectRef, Op, OpRef, ValueRef};

/// Counts of what was found, by name.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

/// What honest authors never write. Everything else that is counted is only told.
pub(crate) const NEVER: [&str; 22] = [
    "start: above one more than the history before it",
    "value beside the same change's last one",
    "mark: end at the head or beside its begin",
    "object: no such operation",
    "object: makes no object",
    "object: not an ancestor",
    "object: kind does not fit the key",
    "element: no such operation",
    "element: not an insert",
    "element: of another object",
    "element: not an ancestor",
    "pred: no such operation",
    "pred: not an ancestor",
    "pred: an increment of another change",
    "pred: a delete",
    "pred: a mark",
    "pred: of another object",
    "pred: of another key or element",
    "pred: hidden by the same change",
    "increment: neither a counter nor one of its own increments among the preds",
    "insert: with preds",
    "mark: with preds",
];

/// The place an operation works on: its object, and its key or element.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Place {
    Key(String),
    Element(OpId),
}

/// How an operation hides its predecessors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hides {
    Overwrites,
    /// An increment of what is no counter.
    Increments,
}

struct Known {
    change: usize,
    object: Option<OpId>,
    place: Place,
    insert: bool,
    action: Action,
    counter: bool,
    /// Which changes overwrote or deleted it, and which incremented it though it is no counter.
    hidden_by: Vec<(usize, Hides)>,
}

/// Reads histories change by change, in an order in which every change follows its ancestors.
#[derive(Default)]
pub(crate) struct References {
    ops: HashMap<OpId, Known>,
    positions: HashMap<rejoin::ChangeHash, usize>,
    /// For every change which changes are its ancestors, itself included; one bit each.
    ancestors: Vec<Vec<u64>>,
    /// The greatest counter of each change and its ancestors.
    max_ops: Vec<u64>,
    /// The operation before, if it gives a value.
    last_value: Option<(OpRef, String)>,
    last_begin: Option<String>,
    pub(crate) counts: Counts,
}

impl References {
    pub(crate) fn read(&mut self, change: &CheckedChange) {
        let position = self.ancestors.len();
        let mut ancestors = vec![0; position / 64 + 1];
        for dep in change.deps() {
            let dep = &self.ancestors[self.positions[dep]];
            ancestors.iter_mut().zip(dep).for_each(|(ours, theirs)| *ours |= theirs);
        }
        ancestors[position / 64] |= 1 << (position % 64);
        self.ancestors.push(ancestors);
        self.positions.insert(change.hash(), position);
        self.count("changes", true);
        let below = change.deps().iter().map(|dep| self.max_ops[self.positions[dep]]).max().unwrap_or(0);
        self.count("start: above one more than its ancestors", change.start_op() > below + 1);
        let before = self.max_ops.iter().max().copied().unwrap_or(0);
        self.count("start: above one more than the history before it", change.start_op() > before + 1);
        self.max_ops.push(change.max_op());
        self.last_value = None;
        for op in change.ops() {
            self.read_op(change, position, &op);
        }
    }

    fn count(&mut self, name: &'static str, holds: bool) {
        *self.counts.entry(name).or_default() += u64::from(holds);
    }

    fn is_ancestor(&self, of: usize, change: usize) -> bool {
        self.ancestors[of].get(change / 64).is_some_and(|bits| bits >> (change % 64) & 1 == 1)
    }

    fn read_op(&mut self, change: &CheckedChange, position: usize, op: &Op<'_>) {
        let id_of = |op: OpRef| OpId { counter: op.counter, actor: change.actors()[op.actor_index as usize].clone() };
        let id = OpId { counter: op.id_counter, actor: change.actor().clone() };
        self.count("operations", true);
        self.check_neighbour(op);
        let object = match op.object {
            ObjectRef::Root => None,
            ObjectRef::Op(object) => Some(id_of(object)),
        };
        self.check_object(position, object.as_ref(), matches!(op.key, KeyRef::Map(_)));
        let place = match op.key {
            KeyRef::Map(key) => Place::Key(key.to_owned()),
            KeyRef::Head => Place::Element(id.clone()),
            KeyRef::Element(element) => {
                let element = id_of(element);
                self.check_element(position, &element, object.as_ref());
                Place::Element(if op.insert { id.clone() } else { element })
            }
        };
        let mut counters = 0;
        let is_mark = matches!(op.action, Action::MarkBegin | Action::MarkEnd);
        self.count("insert: with preds", op.insert && op.preds.len() > 0);
        self.count("mark: with preds", is_mark && op.preds.len() > 0);
        self.count(
            "put on an element without preds",
            !op.insert && matches!(op.key, KeyRef::Element(_)) && op.preds.len() == 0,
        );
        for pred in op.preds {
            counters += u64::from(self.check_pred(position, &id_of(pred), object.as_ref(), &place, op.action));
        }
        if op.action == Action::Increment {
            self.count("increments", true);
            self.count("increment: neither a counter nor one of its own increments among the preds", counters == 0);
            self.count("increment of several counters", counters > 1);
        }
        self.count("marks", is_mark);
        let counter = matches!((op.action, op.value), (Action::Put, ValueRef::Counter(_)));
        let known =
            Known { change: position, object, place, insert: op.insert, action: op.action, counter, hidden_by: vec![] };
        self.ops.insert(id, known);
    }

    /// Holds an operation against the one before it in its change.
    fn check_neighbour(&mut self, op: &Op<'_>) {
        let place = format!("{:?} {:?}", op.object, op.key);
        if let Some((last, last_place)) = self.last_value.take()
            && last_place == place
            && !op.insert
        {
            let names = op.preds.into_iter().any(|pred| pred == last);
            self.count("value beside the same change's last one", !names);
            self.count("value over the same change's last one", names);
        }
        if !op.insert && (op.action == Action::Put || op.action.is_make()) {
            self.last_value = Some((OpRef { actor_index: 0, counter: op.id_counter }, place.clone()));
        }
        let begin = self.last_begin.take();
        if op.action == Action::MarkEnd {
            let beside = begin.is_some_and(|begin| begin == place);
            self.count("mark: end at the head or beside its begin", beside || op.key == KeyRef::Head);
        }
        if op.action == Action::MarkBegin {
            self.last_begin = Some(place);
        }
    }

    fn check_object(&mut self, position: usize, object: Option<&OpId>, is_key: bool) {
        let Some(object) = object else { return self.count("object: kind does not fit the key", !is_key) };
        let Some(known) = self.ops.get(object) else { return self.count("object: no such operation", true) };
        let is_map = matches!(known.action, Action::MakeMap | Action::MakeTable);
        let is_table = known.action == Action::MakeTable;
        let (makes, ancestor) = (known.action.is_make(), self.is_ancestor(position, known.change));
        self.count("object: makes no object", !makes);
        self.count("object: not an ancestor", !ancestor);
        self.count("object: kind does not fit the key", makes && is_map != is_key);
        self.count("operations in a table", is_table);
    }

    fn check_element(&mut self, position: usize, element: &OpId, object: Option<&OpId>) {
        self.count("elements referred to", true);
        let Some(known) = self.ops.get(element) else { return self.count("element: no such operation", true) };
        let (insert, other) = (known.insert, known.object.as_ref() != object);
        let ancestor = self.is_ancestor(position, known.change);
        let mark = matches!(known.action, Action::MarkBegin | Action::MarkEnd);
        self.count("element: not an insert", !insert);
        self.count("element: of another object", other);
        self.count("element: not an ancestor", !ancestor);
        self.count("element that is a mark", mark);
    }

    /// Returns whether the predecessor is a counter, or stands for one.
    fn check_pred(
        &mut self,
        position: usize,
        pred: &OpId,
        object: Option<&OpId>,
        place: &Place,
        action: Action,
    ) -> bool {
        self.count("preds", true);
        let Some(known) = self.ops.get(pred) else {
            self.count("pred: no such operation", true);
            return false;
        };
        let (of, made_by) = (known.action, known.change);
        let counter = known.counter || (of == Action::Increment && made_by == position);
        let other_object = known.object.as_ref() != object;
        let other_place = known.place != *place;
        let ancestor = self.is_ancestor(position, known.change);
        let hidden = |how| {
            known.hidden_by.iter().any(|&(by, hides)| by != position && hides == how && self.is_ancestor(position, by))
        };
        let (overwritten, incremented) = (hidden(Hides::Overwrites), hidden(Hides::Increments));
        let hidden_here = known.hidden_by.iter().any(|&(by, _)| by == position);
        self.count("pred: not an ancestor", !ancestor);
        // The previews of JavaScript's 1.0 name the increment where they mean the counter, within one change.
        self.count("pred: an increment of another change", of == Action::Increment && made_by != position);
        self.count("pred that is an increment of the same change", of == Action::Increment && made_by == position);
        self.count("pred: a delete", of == Action::Delete);
        self.count("pred: a mark", matches!(of, Action::MarkBegin | Action::MarkEnd));
        self.count("pred: of another object", other_object);
        self.count("pred: of another key or element", other_place);
        // The previews of JavaScript's 1.0 delete an element of a list twice now and then. Up to 3.2 it goes on showing what
        // an increment has hidden, until the document is loaded again. So a predecessor need not be visible to its author.
        self.count("pred that was overwritten or deleted in its author's past", overwritten);
        self.count("pred that an increment hid in its author's past", incremented && !overwritten);
        self.count("pred: hidden by the same change", hidden_here);
        self.count("pred of an increment that is no counter", action == Action::Increment && !counter);
        if !(action == Action::Increment && counter)
            && let Some(known) = self.ops.get_mut(pred)
        {
            let hides = if action == Action::Increment { Hides::Increments } else { Hides::Overwrites };
            known.hidden_by.push((position, hides));
        }
        counter
    }
}
