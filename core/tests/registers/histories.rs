//! Random histories: several devices write the same few fields apart, in every way there is, and meet now and then.

use automerge::transaction::{CommitOptions, Transactable, Transaction};
use automerge::{ObjId, ObjType, ReadDoc, ScalarValue};
use rejoin::fields::{Edit, EditAction, ObjectId, ObjectKind, Target};
use rejoin::value::Value;

use crate::world::{Dice, Replica, doc_object};

/// Few keys, so that writers meet; they sort across each other, and one is empty.
const KEYS: [&str; 5] = ["a", "b", "ab", "é", ""];

/// Runs one history; returns how many fields were compared.
pub(crate) fn run(seed: u64) -> usize {
    let mut dice = Dice::new(seed);
    let count = 3 + dice.roll(4);
    // Actors of different lengths: their order is by bytes, not by length.
    let mut replicas: Vec<Replica> = (0..count)
        .map(|index| {
            let index = u8::try_from(index).unwrap();
            Replica::new(&vec![index ^ 0x55; 1 + usize::from(index) * 7])
        })
        .collect();
    let writers: Vec<bool> = (0..count).map(|index| index == 0 || dice.roll(2) == 0).collect();
    let mut compared = 0;
    for _ in 0..20 + dice.roll(40) {
        let at = dice.roll(count);
        match dice.roll(10) {
            0..5 if writers[at] => write_fields(&mut replicas[at], &mut dice),
            0..5 => edit_document(&mut replicas[at], &mut dice),
            _ => deliver(&mut replicas, at, &mut dice),
        }
        compared += replicas[at].assert_agrees();
    }
    // In the end everybody learns everything, and all agree.
    let mut heads = Vec::new();
    for at in 0..count {
        for from in 0..count {
            let changes = replicas[from].changes();
            replicas[at].receive(&changes, true);
        }
        compared += replicas[at].assert_agrees();
        heads.push(replicas[at].doc.get_heads());
    }
    assert!(heads.iter().all(|other| *other == heads[0]), "replicas did not converge");
    compared
}

/// Gives one replica some of what another knows; a change whose dependency was left out stays out too.
fn deliver(replicas: &mut [Replica], to: usize, dice: &mut Dice) {
    let from = dice.roll(replicas.len());
    let mut changes = replicas[from].changes();
    let loss = *dice.pick(&[0, 0, 1, 5]);
    changes.retain(|_| dice.roll(10) >= loss);
    replicas[to].receive(&changes, dice.roll(2) == 0);
}

fn write_fields(replica: &mut Replica, dice: &mut Dice) {
    let count = *dice.pick(&[1, 1, 1, 2, 6]);
    let edits: Vec<Edit> = (0..count).map(|_| any_edit(replica, dice)).collect();
    // A refusal is compared with Automerge's own; what is left of the edits is another history.
    drop(replica.write(&edits));
}

fn any_edit(replica: &Replica, dice: &mut Dice) -> Edit {
    let target = match dice.roll(5) {
        0 | 1 => Target::default(),
        2 => Target::Path((0..dice.roll(3)).map(|_| (*dice.pick(&KEYS)).to_owned()).collect()),
        _ => dice.pick(&replica.objects()).clone().into(),
    };
    let action = match dice.roll(10) {
        0 | 1 => EditAction::Delete,
        2 | 3 => EditAction::Increment(i64::try_from(dice.roll(5)).unwrap() - 2),
        4 => EditAction::MakeList,
        5 => EditAction::MakeText,
        6 => EditAction::Set(any_map(dice, 0)),
        _ => EditAction::Set(any_scalar(dice).into()),
    };
    Edit::new(target, *dice.pick(&KEYS), action)
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
fn edit_document(replica: &mut Replica, dice: &mut Dice) {
    if dice.roll(15) == 0 {
        let mut doc = replica.doc.clone().with_actor(replica.actor.clone());
        let hash = doc.empty_commit(CommitOptions::default());
        replica.receive_change(doc.get_change_by_hash(&hash).unwrap());
        return;
    }
    let objects = replica.objects();
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
