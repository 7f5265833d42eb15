//! A world of replicas that each hold one document twice: as registers in a store, and as an Automerge document.

use std::collections::BTreeSet;

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ActorId, Automerge, Change, ExpandedChange, ObjId, ObjType, ROOT, ReadDoc, ScalarValue};
use rejoin::fields::{self, Author, Edit, EditAction, FieldError, FieldValue, ObjectId, ObjectKind, Target, Written};
use rejoin::gate::CheckedChange;
use rejoin::ledger::{self, Appended, Appender};
use rejoin::store::{MemoryStore, ReadTx, Store, StoreError, StoreExt};
use rejoin::value::Value;
use rejoin::{DocumentId, OpId};

pub(crate) const DOCUMENT: DocumentId = DocumentId::from_bytes([0xd0; 16]);

/// A small generator of our own: a seed replays for ever, whatever happens to other crates.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            dice.roll(2);
        }
        dice
    }

    pub(crate) fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % below.max(1)
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.roll(from.len())]
    }
}

/// One device: what it knows stands in `store` and in `doc`, and must be the same.
pub(crate) struct Replica {
    pub(crate) actor: ActorId,
    pub(crate) store: MemoryStore,
    pub(crate) doc: Automerge,
    /// Every object it has ever seen made.
    objects: BTreeSet<ObjectId>,
}

impl Replica {
    pub(crate) fn new(actor: &[u8]) -> Self {
        let actor = ActorId::from(actor);
        let store = MemoryStore::new();
        store.write_with(|tx| ledger::create(tx, &DOCUMENT)).unwrap();
        let doc = Automerge::new().with_actor(actor.clone());
        Self { actor, store, doc, objects: BTreeSet::from([ObjectId::Root]) }
    }

    /// Writes fields through the registers, checks that Automerge would have written the very same bytes, and lets the
    /// document know. An edit that Automerge refuses must be refused here too.
    pub(crate) fn write(&mut self, edits: &[Edit]) -> Result<Option<Written>, FieldError> {
        let author = Author { actor: &self.actor, time_seconds: 7, message: None };
        let written = self.store.write_with(|tx| fields::write(tx, &DOCUMENT, &author, edits)).unwrap();
        let twin = self.write_twin(edits);
        match &written {
            Err(_) => assert!(twin.is_none(), "Automerge takes what the registers refuse: {written:?}"),
            Ok(None) => assert!(twin.expect("Automerge refuses").is_empty(), "Automerge sees a change to make"),
            Ok(Some(written)) => {
                let twin = twin.expect("Automerge refuses what the registers take");
                let change = Change::from_bytes(written.change.bytes().to_vec()).unwrap();
                if change.raw_bytes() != twin {
                    self.assert_differs_in_own_dependency(&change, twin);
                }
                self.learn_objects(&written.change);
                self.doc.apply_changes([change]).unwrap();
            }
        }
        written
    }

    /// Automerge names the author's previous change among the dependencies even where the heads cover it.
    fn assert_differs_in_own_dependency(&self, change: &Change, twin: Vec<u8>) {
        let previous =
            self.doc.get_changes(&[]).iter().filter(|other| other.actor_id() == &self.actor).last().unwrap().hash();
        assert!(!self.doc.get_heads().contains(&previous), "Automerge would write other bytes");
        let mut twin = ExpandedChange::from(&Change::from_bytes(twin).unwrap());
        let mut change = ExpandedChange::from(change);
        twin.deps.retain(|dep| *dep != previous);
        (twin.hash, change.hash) = (None, None);
        assert_eq!(twin, change, "Automerge would write another change");
    }

    /// Lets Automerge make the same edits on a copy: the change's bytes, empty if there is none, `None` on refusal.
    fn write_twin(&self, edits: &[Edit]) -> Option<Vec<u8>> {
        let mut twin = self.doc.clone().with_actor(self.actor.clone());
        let mut tx = twin.transaction();
        for edit in edits {
            let object = match &edit.object {
                Target::Object(object) => tx_object(&tx, object)?,
                Target::Path(path) => path.iter().try_fold(ROOT, |at, key| match tx.get(&at, key.as_str()) {
                    Ok(Some((automerge::Value::Object(ObjType::Map | ObjType::Table), next))) => Some(next),
                    _ => None,
                })?,
            };
            let key = edit.key.as_str();
            match &edit.action {
                EditAction::Set(value) => put_twin(&mut tx, &object, key, value)?,
                EditAction::Delete => tx.delete(&object, key).ok()?,
                EditAction::Increment(by) => tx.increment(&object, key, *by).ok()?,
                EditAction::MakeList => drop(tx.put_object(&object, key, ObjType::List).ok()?),
                EditAction::MakeText => drop(tx.put_object(&object, key, ObjType::Text).ok()?),
                _ => unreachable!("every action is named above"),
            }
        }
        let (hash, _) = tx.commit_with(CommitOptions::default().with_time(7));
        Some(hash.map_or(Vec::new(), |hash| twin.get_change_by_hash(&hash).unwrap().raw_bytes().to_vec()))
    }

    /// Takes changes in, one after the other in one transaction, and leaves out what lacks a dependency.
    pub(crate) fn receive(&mut self, changes: &[CheckedChange], batch: bool) {
        let taken = self.store.write_with(|tx| {
            let mut appender = Appender::begin(tx, DOCUMENT)?;
            let mut projector = fields::Projector::begin(DOCUMENT);
            let mut taken = Vec::new();
            for change in changes {
                match projector.append(tx, &mut appender, change)? {
                    Appended::Stored { .. } if batch => {}
                    Appended::Stored { .. } => {
                        let full = std::mem::replace(&mut projector, fields::Projector::begin(DOCUMENT));
                        full.finish(tx)?;
                    }
                    Appended::Missing { .. } | Appended::Duplicate => continue,
                    other => panic!("an honest change was refused: {other:?}"),
                }
                taken.push(Change::from_bytes(change.bytes().to_vec()).unwrap());
                self.objects.extend(made_by(change));
            }
            projector.finish(tx)?;
            appender.finish(tx)?;
            Ok::<_, StoreError>(taken)
        });
        self.doc.apply_changes(taken.unwrap()).unwrap();
    }

    /// Edits the document itself, as an application that uses Automerge does, and lets the registers know.
    pub(crate) fn edit_document(&mut self, edit: impl FnOnce(&mut automerge::transaction::Transaction<'_>)) {
        let mut doc = self.doc.clone().with_actor(self.actor.clone());
        let mut tx = doc.transaction();
        edit(&mut tx);
        let (Some(hash), _) = tx.commit_with(CommitOptions::default().with_time(9)) else { return };
        self.receive_change(doc.get_change_by_hash(&hash).unwrap());
    }

    /// Takes in one change of Automerge's.
    pub(crate) fn receive_change(&mut self, change: Change) {
        self.receive(&[CheckedChange::parse(change.raw_bytes()).unwrap()], false);
    }

    pub(crate) fn changes(&self) -> Vec<CheckedChange> {
        let mut changes = Vec::new();
        let tx = self.store.read().unwrap();
        ledger::export(&*tx, &DOCUMENT, 0, &mut |bytes| {
            changes.push(CheckedChange::parse(bytes).unwrap());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        changes
    }

    pub(crate) fn objects(&self) -> Vec<ObjectId> {
        self.objects.iter().cloned().collect()
    }

    /// Asserts that registers and document agree on everything: objects, keys, values, conflicts, their order, heads.
    /// Returns how many fields were compared.
    pub(crate) fn assert_agrees(&self) -> usize {
        let tx = self.store.read().unwrap();
        let mut heads = self.doc.get_heads();
        heads.sort();
        assert_eq!(ledger::heads(&*tx, &DOCUMENT).unwrap(), heads, "heads");
        assert_registers_agree(&*tx, &self.doc, &self.objects)
    }

    fn learn_objects(&mut self, change: &CheckedChange) {
        self.objects.extend(made_by(change));
    }
}

/// Asserts that registers show what the document shows of these objects. Returns how many fields were compared.
pub(crate) fn assert_registers_agree(tx: &dyn ReadTx, doc: &Automerge, objects: &BTreeSet<ObjectId>) -> usize {
    let mut compared = 0;
    for object in objects {
        let found = fields::object_kind(tx, &DOCUMENT, object).unwrap();
        let Some((exid, kind)) = doc_object(doc, object) else {
            // Automerge 0.12 shows that there is a table, but does not open it.
            assert_eq!(found, Some(ObjectKind::Table), "the document has no {object}");
            continue;
        };
        assert_eq!(found, Some(kind), "kind of {object}");
        if kind.is_map() {
            compared += assert_map_agrees(tx, doc, object, &exid);
        }
    }
    compared
}

fn assert_map_agrees(tx: &dyn ReadTx, doc: &Automerge, object: &ObjectId, exid: &ObjId) -> usize {
    let expected: Vec<String> = doc.keys(exid).collect();
    assert_eq!(fields::keys(tx, &DOCUMENT, object).unwrap(), expected, "keys of {object}");
    for key in &expected {
        let found = fields::get_all(tx, &DOCUMENT, object, key).unwrap();
        let mut expected: Vec<_> = doc.get_all(exid, key.as_str()).unwrap();
        // Automerge shows the winner last.
        expected.reverse();
        let expected: Vec<_> = expected.into_iter().map(|(value, id)| from_automerge(&value, &id)).collect();
        let same = |((left, one), (right, other)): (&(OpId, FieldValue), &(OpId, FieldValue))| {
            left == right && same_value(one, other)
        };
        assert!(
            found.len() == expected.len() && found.iter().zip(&expected).all(same),
            "{object} {key:?}:\nregisters {found:?}\n document {expected:?}"
        );
        let winner = fields::get(tx, &DOCUMENT, object, key).unwrap().expect("a key that holds something");
        assert!(same_value(&winner, &found[0].1), "{object} {key:?}: get is not the first of get_all");
    }
    expected.len()
}

pub(crate) fn made_by(change: &CheckedChange) -> Vec<ObjectId> {
    let makes = change.ops().filter(|op| op.action.is_make());
    makes.map(|op| ObjectId::Made(OpId { counter: op.id_counter, actor: change.actor().clone() })).collect()
}

fn put_twin(tx: &mut automerge::transaction::Transaction<'_>, object: &ObjId, key: &str, value: &Value) -> Option<()> {
    match value {
        Value::Scalar(scalar) => tx.put(object, key, scalar.clone()).ok(),
        Value::Map(entries) => {
            let map = tx.put_object(object, key, ObjType::Map).ok()?;
            entries.iter().try_for_each(|(key, value)| put_twin(tx, &map, key, value))
        }
        _ => unreachable!("every value is named above"),
    }
}

fn to_kind(kind: ObjType) -> ObjectKind {
    match kind {
        ObjType::Map => ObjectKind::Map,
        ObjType::Table => ObjectKind::Table,
        ObjType::List => ObjectKind::List,
        ObjType::Text => ObjectKind::Text,
    }
}

fn to_object(id: &ObjId) -> ObjectId {
    match id {
        ObjId::Root => ObjectId::Root,
        ObjId::Id(counter, actor, _) => ObjectId::Made(OpId { counter: *counter, actor: actor.clone() }),
    }
}

fn to_exid(object: &ObjectId) -> ObjId {
    match object {
        ObjectId::Root => ROOT,
        ObjectId::Made(id) => ObjId::Id(id.counter, id.actor.clone(), 0),
    }
}

/// Finds an object inside a transaction; only a map has fields.
pub(crate) fn tx_object(tx: &automerge::transaction::Transaction<'_>, object: &ObjectId) -> Option<ObjId> {
    let id = to_exid(object);
    let kind = tx.object_type(&id).ok()?;
    matches!(kind, ObjType::Map | ObjType::Table).then_some(id)
}

pub(crate) fn doc_object(doc: &impl ReadDoc, object: &ObjectId) -> Option<(ObjId, ObjectKind)> {
    let id = to_exid(object);
    doc.object_type(&id).ok().map(|kind| (id, to_kind(kind)))
}

fn from_automerge(value: &automerge::Value<'_>, id: &ObjId) -> (OpId, FieldValue) {
    let ObjectId::Made(op) = to_object(id) else { panic!("a value never has the root's id") };
    let value = match value {
        automerge::Value::Object(kind) => FieldValue::Object(to_kind(*kind), ObjectId::Made(op.clone())),
        automerge::Value::Scalar(scalar) => FieldValue::Scalar(scalar.clone().into_owned()),
    };
    (op, value)
}

fn same_value(left: &FieldValue, right: &FieldValue) -> bool {
    match (left, right) {
        (FieldValue::Scalar(ScalarValue::F64(left)), FieldValue::Scalar(ScalarValue::F64(right))) => {
            left.to_bits() == right.to_bits()
        }
        _ => left == right,
    }
}
