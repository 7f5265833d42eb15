//! Earlier states: what the ledger exports, materialised and asked for earlier heads, is what the registers were then.

use std::collections::HashSet;

use automerge::{ActorId, Automerge, ChangeHash, ReadDoc};
use rejoin::OpId;
use rejoin::document::Materialised;
use rejoin::engine::{Origin, accept};
use rejoin::fields::{self, FieldValue, ObjectId};
use rejoin::store::{MemoryStore, ReadTx, Store, StoreExt};

use crate::world::{DOCUMENT, Dice, Replica, doc_object, from_automerge, same_value};

/// How many earlier states of one history are looked at.
const MOMENTS: usize = 3;

/// One field with all its values, the winner first.
type Field = (ObjectId, String, Vec<(OpId, FieldValue)>);

/// What the registers showed once.
pub(crate) struct Moment {
    heads: Vec<ChangeHash>,
    objects: Vec<ObjectId>,
    fields: Vec<Field>,
}

impl Moment {
    /// Writes down what a replica shows now.
    pub(crate) fn of(replica: &Replica) -> Self {
        let objects = replica.objects().to_vec();
        let tx = replica.store.read().unwrap();
        Self { heads: replica.heads(), fields: fields_of(&*tx, &objects), objects }
    }
}

fn fields_of(tx: &dyn ReadTx, objects: &[ObjectId]) -> Vec<Field> {
    let mut found = Vec::new();
    for object in objects {
        for key in fields::keys(tx, &DOCUMENT, object).unwrap() {
            let all = fields::get_all(tx, &DOCUMENT, object, &key).unwrap();
            found.push((object.clone(), key, all));
        }
    }
    found
}

/// Asserts that a replica's ledger shows at earlier heads what the registers showed then. Returns how many fields were
/// compared.
pub(crate) fn assert_agrees(replica: &Replica, moments: &[Moment], dice: &mut Dice) -> usize {
    let mut materialised = Materialised::new(DOCUMENT, ActorId::from(&[0xee; 16]));
    materialised.catch_up(&*replica.store.read().unwrap()).unwrap();
    let doc = materialised.automerge();
    let mut compared = 0;
    for _ in 0..MOMENTS.min(moments.len()) {
        let moment = dice.pick(moments);
        compared += assert_moment(doc, moment);
        // A fork at these heads is that document.
        if dice.roll(3) == 0 {
            let fork = doc.fork_at(&moment.heads).unwrap();
            assert_eq!(sorted(fork.get_heads()), moment.heads, "heads of a fork");
            compared += assert_moment_in(&fork, None, moment);
        }
    }
    if replica.log.is_empty() {
        return compared;
    }
    // Heads that nobody ever had: one or two changes with all their ancestors.
    let picked: Vec<ChangeHash> = (0..1 + dice.roll(2)).map(|_| dice.pick(&replica.log).checked.hash()).collect();
    compared + assert_moment(doc, &moment_at(replica, &picked))
}

/// Takes these changes and their ancestors into registers of their own.
fn moment_at(replica: &Replica, picked: &[ChangeHash]) -> Moment {
    let mut wanted: HashSet<ChangeHash> = picked.iter().copied().collect();
    let mut changes = Vec::new();
    for both in replica.log.iter().rev() {
        if wanted.contains(&both.checked.hash()) {
            wanted.extend(both.checked.deps());
            changes.push(both.checked.clone());
        }
    }
    changes.reverse();
    let count = changes.len();
    let objects: Vec<_> =
        std::iter::once(ObjectId::Root).chain(changes.iter().flat_map(crate::world::made_by)).collect();
    let store = MemoryStore::new();
    let accepted = store.write_with(|tx| accept(tx, DOCUMENT, changes, Origin::Remote)).unwrap();
    assert_eq!(accepted.stored, count, "a change was refused without the changes beside it");
    let tx = store.read().unwrap();
    Moment { heads: accepted.heads, fields: fields_of(&*tx, &objects), objects }
}

fn assert_moment(doc: &Automerge, moment: &Moment) -> usize {
    assert_moment_in(doc, Some(&moment.heads), moment)
}

/// Holds every field of a moment against the document at these heads, or as it is now.
fn assert_moment_in(doc: &Automerge, heads: Option<&[ChangeHash]>, moment: &Moment) -> usize {
    let mut recorded = moment.fields.iter().peekable();
    for object in &moment.objects {
        // Automerge does not open a table, and nothing stands in one.
        let Some((exid, kind)) = doc_object(doc, object) else { continue };
        if !kind.is_map() {
            continue;
        }
        let mut keys: Vec<String> = match heads {
            Some(heads) => doc.keys_at(&exid, heads).collect(),
            None => doc.keys(&exid).collect(),
        };
        // As in the world: it may list a key twice.
        keys.dedup();
        for key in keys {
            let expected = match heads {
                Some(heads) => doc.get_all_at(&exid, key.as_str(), heads).unwrap(),
                None => doc.get_all(&exid, key.as_str()).unwrap(),
            };
            let expected: Vec<_> = expected.iter().rev().map(|(value, id)| from_automerge(value, id)).collect();
            let found = recorded.next().unwrap_or_else(|| panic!("{object} {key:?} was not there: {expected:?}"));
            let same = (&found.0, &found.1) == (object, &key)
                && found.2.len() == expected.len()
                && found.2.iter().zip(&expected).all(|(one, other)| one.0 == other.0 && same_value(&one.1, &other.1));
            assert!(same, "{object} {key:?}:\nregisters then {found:?}\n document at {expected:?}");
        }
    }
    assert!(recorded.peek().is_none(), "the document does not show {:?}", recorded.peek());
    moment.fields.len()
}

fn sorted(mut heads: Vec<ChangeHash>) -> Vec<ChangeHash> {
    heads.sort();
    heads
}
