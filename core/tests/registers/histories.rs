//! Random histories: several devices write the same few fields apart, in every way there is, and meet now and then.

use std::rc::Rc;

use automerge::marks::{ExpandMark, Mark};
use automerge::transaction::{Transactable, Transaction};
use automerge::{ObjId, ObjType, ReadDoc, ScalarValue};
use rejoin::fields::{Edit, EditAction, ObjectId, ObjectKind, Target};
use rejoin::value::Value;

use crate::historic::{self, Moment};
use crate::world::{Both, Dice, Replica, doc_object, tables_of};

/// Few keys, so that writers meet; they sort across each other, and one is empty.
const KEYS: [&str; 5] = ["a", "b", "ab", "é", ""];

/// What was done and seen, so that a run which saw nothing of interest does not pass for a proof.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) histories: u64,
    /// Fields compared with Automerge's `get_all`.
    pub(crate) compared: usize,
    /// Fields compared with Automerge's `get_all_at` earlier heads.
    pub(crate) compared_at: usize,
    /// Changes made by the registers, and by Automerge.
    pub(crate) synthesised: usize,
    pub(crate) ordinary: usize,
    /// Fields with five or more visible values.
    pub(crate) deep_conflicts: usize,
    /// Values of all kinds, and counters among them, in fields with more than one.
    pub(crate) conflicts: usize,
    pub(crate) counter_conflicts: usize,
    /// Fields in objects that no path leads to any more.
    pub(crate) lost: usize,
    pub(crate) restarts: usize,
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Self) {
        self.histories += other.histories;
        self.compared += other.compared;
        self.compared_at += other.compared_at;
        self.synthesised += other.synthesised;
        self.ordinary += other.ordinary;
        self.deep_conflicts += other.deep_conflicts;
        self.conflicts += other.conflicts;
        self.counter_conflicts += other.counter_conflicts;
        self.lost += other.lost;
        self.restarts += other.restarts;
    }
}

/// A history under way.
struct Play {
    dice: Dice,
    replicas: Vec<Replica>,
    /// Which of them write through the registers; the others edit the document.
    writers: Vec<bool>,
    moments: Vec<Moment>,
    seen: Seen,
}

/// Runs one history.
pub(crate) fn run(seed: u64) -> Seen {
    play(seed).1
}

/// Runs one history and returns the replica that was asked last, with what was seen.
pub(crate) fn play(seed: u64) -> (Replica, Seen) {
    let mut play = Play::new(seed);
    for _ in 0..2 + play.dice.roll(3) {
        play.apart();
        play.meet();
    }
    play.finish()
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let count = 5 + dice.roll(3);
        let replicas = (0..count).map(|index| Replica::new(&actor(index, 0))).collect();
        let writers = (0..count).map(|index| index == 0 || dice.roll(2) == 0).collect();
        let seen = Seen { histories: 1, ..Seen::default() };
        Self { dice, replicas, writers, moments: vec![], seen }
    }

    /// Everybody edits, and hears of the others now and then.
    fn apart(&mut self) {
        let count = self.replicas.len();
        for _ in 0..2 * count + self.dice.roll(count) {
            let at = self.dice.roll(count);
            match self.dice.roll(12) {
                0..7 => self.edit(at),
                7 if self.dice.roll(6) == 0 => self.restart(at),
                _ => deliver(&mut self.replicas, at, &mut self.dice),
            }
            if self.dice.roll(8) == 0 {
                self.seen.compared += self.replicas[at].assert_agrees();
                self.moments.push(Moment::of(&self.replicas[at]));
            }
        }
        // All write one field at once: that is how conflicts get deep.
        if self.dice.roll(2) == 0 {
            let edit = any_edit(&self.replicas[0], &mut self.dice);
            for at in 0..count {
                let action = any_action(&mut self.dice);
                let edit = Edit { action, ..edit.clone() };
                self.seen.synthesised += usize::from(matches!(self.replicas[at].write_alone(&[edit]), Ok(Some(_))));
            }
        }
    }

    fn edit(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        let before = replica.log.len();
        if self.writers[at] != (self.dice.roll(8) == 0) {
            write_fields(replica, &mut self.dice);
            self.seen.synthesised += replica.log.len() - before;
        } else {
            edit_document(replica, &mut self.dice);
            self.seen.ordinary += replica.log.len() - before;
        }
    }

    fn restart(&mut self, at: usize) {
        self.seen.restarts += 1;
        let actor = actor(at, self.seen.restarts);
        self.replicas[at].restart(&actor, self.dice.roll(2) == 0);
    }

    /// Most learn most of what the others know.
    fn meet(&mut self) {
        for to in 0..self.replicas.len() {
            for _ in 0..self.dice.roll(3) {
                deliver(&mut self.replicas, to, &mut self.dice);
            }
        }
    }

    /// In the end everybody learns everything, and all agree.
    fn finish(mut self) -> (Replica, Seen) {
        let (last, others) = self.replicas.split_last_mut().unwrap();
        for other in &*others {
            let news = other.news_for(last);
            last.take(news.into_iter(), true);
        }
        self.seen.compared += last.assert_agrees();
        last.count_conflicts(&mut self.seen);
        let (tables, heads) = (tables_of(&last.store), last.doc().get_heads());
        // The same changes in another order make the same registers, to the last byte.
        for other in &mut *others {
            let mut news = last.news_for(other);
            if self.dice.roll(2) == 0 {
                shuffle_soundly(&mut news, other, &mut self.dice);
            }
            other.take_into_store(&news, self.dice.roll(2) == 0);
            assert_eq!(other.heads(), heads, "replicas did not converge");
            assert_eq!(tables_of(&other.store), tables, "replicas came to other registers");
        }
        if self.dice.roll(3) == 0 {
            self.seen.compared_at += historic::assert_agrees(last, &self.moments, &mut self.dice);
        }
        (self.replicas.pop().unwrap(), self.seen)
    }
}

/// Actors of different lengths: their order is by bytes, not by length. Each process has its own.
fn actor(index: usize, restarts: usize) -> Vec<u8> {
    let index = u8::try_from(index).unwrap();
    let mut actor = vec![index ^ 0x55; 1 + usize::from(index) * 7];
    if restarts > 0 {
        actor.push(u8::try_from(restarts).unwrap());
    }
    actor
}

/// Gives one replica some of what another knows; a change whose dependency was left out stays out too.
fn deliver(replicas: &mut [Replica], to: usize, dice: &mut Dice) {
    let from = dice.roll(replicas.len());
    let mut news = replicas[from].news_for(&replicas[to]);
    let loss = *dice.pick(&[0, 0, 1, 5]);
    news.retain(|_| dice.roll(10) >= loss);
    if dice.roll(4) == 0 {
        shuffle(&mut news, dice);
    }
    replicas[to].take(news.into_iter(), dice.roll(2) == 0);
}

fn shuffle(changes: &mut [Rc<Both>], dice: &mut Dice) {
    for at in 1..changes.len() {
        changes.swap(at, dice.roll(at + 1));
    }
}

/// Puts changes into another order in which every change still follows its dependencies.
fn shuffle_soundly(changes: &mut Vec<Rc<Both>>, to: &Replica, dice: &mut Dice) {
    shuffle(changes, dice);
    let mut left = std::mem::take(changes);
    let mut there: std::collections::HashSet<_> = to.log.iter().map(|both| both.checked.hash()).collect();
    while !left.is_empty() {
        let before = left.len();
        left.retain(|both| {
            let ready = both.checked.deps().iter().all(|dep| there.contains(dep));
            if ready {
                there.insert(both.checked.hash());
                changes.push(Rc::clone(both));
            }
            !ready
        });
        assert!(left.len() < before, "a change has a dependency that nobody has");
    }
}

pub(crate) fn write_fields(replica: &mut Replica, dice: &mut Dice) {
    let count = *dice.pick(&[1, 1, 1, 2, 6]);
    let edits: Vec<Edit> = (0..count).map(|_| any_edit(replica, dice)).collect();
    // A refusal is compared with Automerge's own; what is left of the edits is another history.
    if dice.roll(4) == 0 { drop(replica.write(&edits)) } else { drop(replica.write_alone(&edits)) }
}

fn any_edit(replica: &Replica, dice: &mut Dice) -> Edit {
    let target = match dice.roll(5) {
        0 | 1 => Target::default(),
        2 => Target::Path((0..dice.roll(3)).map(|_| (*dice.pick(&KEYS)).to_owned()).collect()),
        _ => dice.pick(replica.objects()).clone().into(),
    };
    Edit::new(target, *dice.pick(&KEYS), any_action(dice))
}

fn any_action(dice: &mut Dice) -> EditAction {
    match dice.roll(10) {
        0 | 1 => EditAction::Delete,
        2 | 3 => EditAction::Increment(i64::try_from(dice.roll(5)).unwrap() - 2),
        4 => EditAction::MakeList,
        5 => EditAction::MakeText,
        6 => EditAction::Set(any_map(dice, 0)),
        _ => EditAction::Set(any_scalar(dice).into()),
    }
}

fn any_map(dice: &mut Dice, depth: usize) -> Value {
    let entries = (0..dice.roll(4)).map(|_| {
        let value = if depth < 2 && dice.roll(3) == 0 { any_map(dice, depth + 1) } else { any_scalar(dice).into() };
        ((*dice.pick(&KEYS)).to_owned(), value)
    });
    Value::Map(entries.collect())
}

/// Few values, so that the same one is set again.
fn any_scalar(dice: &mut Dice) -> ScalarValue {
    let number = i64::try_from(dice.roll(3)).unwrap();
    match dice.roll(12) {
        0 => ScalarValue::Null,
        1 => ScalarValue::Boolean(number > 0),
        2 => ScalarValue::Uint(number.unsigned_abs()),
        3 => ScalarValue::Int(number - 1),
        4 => ScalarValue::F64([0.0, -0.0, f64::INFINITY][dice.roll(3)]),
        5 => ScalarValue::Str(["", "x", "longer than what fits into the value itself"][dice.roll(3)].into()),
        6 => ScalarValue::Bytes(vec![7; dice.roll(3)]),
        7 => ScalarValue::Timestamp(number),
        8 => ScalarValue::Unknown { type_code: 10, bytes: vec![1; dice.roll(3)] },
        _ => ScalarValue::counter(number),
    }
}

/// Edits the Automerge document: fields, lists and texts, anywhere.
pub(crate) fn edit_document(replica: &mut Replica, dice: &mut Dice) {
    if dice.roll(15) == 0 {
        replica.commit_nothing();
        return;
    }
    let objects = replica.objects().to_vec();
    let count = *dice.pick(&[1, 1, 2, 8]);
    replica.edit_document(|tx| {
        for _ in 0..count {
            // A table is an object that the document does not open.
            let Some((object, kind)) = doc_object(tx, dice.pick(&objects)) else { continue };
            // An edit that does not fit is no edit.
            drop(if kind.is_map() { edit_map(tx, &object, dice) } else { edit_sequence(tx, &object, kind, dice) });
        }
    });
}

fn edit_map(tx: &mut Transaction<'_>, map: &ObjId, dice: &mut Dice) -> Result<(), automerge::AutomergeError> {
    let key = *dice.pick(&KEYS);
    match dice.roll(8) {
        0 => tx.delete(map, key),
        1 | 2 => tx.increment(map, key, i64::try_from(dice.roll(5)).unwrap() - 2),
        3 => {
            let made = tx.put_object(map, key, any_kind(dice))?;
            if let Some((_, ObjectKind::Map)) = doc_object(tx, &rejoin_id(&made)) {
                tx.put(&made, *dice.pick(&KEYS), any_scalar(dice))?;
            }
            Ok(())
        }
        _ => tx.put(map, key, any_scalar(dice)),
    }
}

fn edit_sequence(
    tx: &mut Transaction<'_>,
    object: &ObjId,
    kind: ObjectKind,
    dice: &mut Dice,
) -> Result<(), automerge::AutomergeError> {
    let length = tx.length(object);
    let index = dice.roll(length + 1);
    match (kind, dice.roll(6)) {
        (ObjectKind::Text, 0) => tx.splice_text(object, dice.roll(length), isize::from(length > 0), ""),
        (ObjectKind::Text, 1) => tx.split_block(object, index).map(drop),
        (ObjectKind::Text, 2) if length > 1 => {
            let mark = Mark::new("bold".into(), any_scalar(dice), dice.roll(length - 1), length);
            tx.mark(object, mark, *dice.pick(&[ExpandMark::None, ExpandMark::Both, ExpandMark::After]))
        }
        (ObjectKind::Text, _) => tx.splice_text(object, index, 0, "añ𝄞"),
        (_, 0) => tx.delete(object, dice.roll(length)),
        (_, 1) => tx.put(object, dice.roll(length), any_scalar(dice)),
        (_, 2) => tx.increment(object, dice.roll(length), 1),
        (_, 3) => {
            let made = tx.insert_object(object, index, any_kind(dice))?;
            if let Some((_, ObjectKind::Map)) = doc_object(tx, &rejoin_id(&made)) {
                tx.put(&made, *dice.pick(&KEYS), any_scalar(dice))?;
            }
            Ok(())
        }
        (_, 4) => tx.put_object(object, dice.roll(length), any_kind(dice)).map(drop),
        _ => tx.insert(object, index, any_scalar(dice)),
    }
}

fn any_kind(dice: &mut Dice) -> ObjType {
    *dice.pick(&[ObjType::Map, ObjType::Map, ObjType::List, ObjType::Text, ObjType::Table])
}

fn rejoin_id(id: &ObjId) -> ObjectId {
    match id {
        ObjId::Root => ObjectId::Root,
        ObjId::Id(counter, actor, _) => ObjectId::Made(rejoin::OpId { counter: *counter, actor: actor.clone() }),
    }
}
