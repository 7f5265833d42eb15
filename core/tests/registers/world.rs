//! A world of replicas that each hold one document twice: as registers in a store, and as an Automerge document.

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ActorId, Automerge, Change, ChangeHash, ExpandedChange, ObjId, ObjType, ROOT, ReadDoc, ScalarValue};
use rejoin::engine::{Origin, accept};
use rejoin::fields::{self, Author, Edit, EditAction, FieldError, FieldValue, ObjectId, ObjectKind, Target, Written};
use rejoin::gate::CheckedChange;
use rejoin::ledger::{self, Appended, Appender};
use rejoin::store::{MemoryStore, ReadTx, Store, StoreError, StoreExt, Table};
use rejoin::value::Value;
use rejoin::{DocumentId, OpId};

use crate::histories::Seen;

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

/// One change in both forms.
pub(crate) struct Both {
    pub(crate) checked: CheckedChange,
    automerge: Change,
}

impl Both {
    fn new(checked: CheckedChange) -> Rc<Self> {
        let automerge = Change::from_bytes(checked.bytes().to_vec()).unwrap();
        Rc::new(Self { checked, automerge })
    }
}

/// One device: what it knows stands in `store` and in `doc`, and must be the same.
pub(crate) struct Replica {
    pub(crate) actor: ActorId,
    pub(crate) store: MemoryStore,
    doc: Automerge,
    /// How much of the log the document has.
    caught_up: usize,
    /// Every change it knows, in the order of its ledger.
    pub(crate) log: Vec<Rc<Both>>,
    known: HashSet<ChangeHash>,
    /// Every object it has ever seen made.
    objects: BTreeSet<ObjectId>,
    objects_list: Vec<ObjectId>,
}

impl Replica {
    pub(crate) fn new(actor: &[u8]) -> Self {
        let actor = ActorId::from(actor);
        let store = MemoryStore::new();
        store.write_with(|tx| ledger::create(tx, &DOCUMENT)).unwrap();
        let doc = Automerge::new().with_actor(actor.clone());
        let objects = BTreeSet::from([ObjectId::Root]);
        Self {
            actor,
            store,
            doc,
            caught_up: 0,
            log: vec![],
            known: HashSet::new(),
            objects,
            objects_list: vec![ObjectId::Root],
        }
    }

    /// Returns the document, with everything that the replica knows.
    pub(crate) fn doc(&mut self) -> &mut Automerge {
        if self.caught_up < self.log.len() {
            let news = self.log[self.caught_up..].iter().map(|both| both.automerge.clone());
            self.doc.apply_changes(news).unwrap();
            self.caught_up = self.log.len();
        }
        &mut self.doc
    }

    /// Ends the process and begins another: a new actor, the document loaded from what was saved.
    ///
    /// With `rebuild` the store is made anew from the ledger too, and must come out the same to the last byte.
    pub(crate) fn restart(&mut self, actor: &[u8], rebuild: bool) {
        self.actor = ActorId::from(actor);
        let mut doc = Automerge::load(&self.doc().save()).unwrap();
        doc.set_actor(self.actor.clone());
        self.doc = doc;
        if rebuild {
            let store = MemoryStore::new();
            store.write_with(|tx| ledger::create(tx, &DOCUMENT)).unwrap();
            let changes = self.changes();
            let accepted = store.write_with(|tx| accept(tx, DOCUMENT, changes, Origin::Remote)).unwrap();
            assert_eq!(accepted.stored, self.log.len(), "a ledger does not take its own export");
            assert_eq!(tables_of(&store), tables_of(&self.store), "registers that are made anew from the ledger");
            self.store = store;
        }
    }

    /// Writes fields through the registers, checks that Automerge would have written the very same bytes, and lets the
    /// document know. An edit that Automerge refuses must be refused here too.
    pub(crate) fn write(&mut self, edits: &[Edit]) -> Result<Option<Written>, FieldError> {
        let twin = self.write_twin(edits);
        let before = self.doc().get_heads();
        let written = self.write_alone(edits);
        match &written {
            Err(_) => assert!(twin.is_none(), "Automerge takes what the registers refuse: {written:?}"),
            Ok(None) => assert!(twin.expect("Automerge refuses").is_empty(), "Automerge sees a change to make"),
            Ok(Some(written)) => {
                let twin = twin.expect("Automerge refuses what the registers take");
                if written.change.bytes()[..] != twin {
                    let change = Change::from_bytes(written.change.bytes().to_vec()).unwrap();
                    self.assert_differs_in_own_dependency(&change, twin, &before);
                }
            }
        }
        written
    }

    /// Writes fields through the registers and lets the document know.
    pub(crate) fn write_alone(&mut self, edits: &[Edit]) -> Result<Option<Written>, FieldError> {
        let author = Author { actor: &self.actor, time_seconds: 7, message: None };
        let written = self.store.write_with(|tx| fields::write(tx, &DOCUMENT, &author, edits)).unwrap();
        if let Ok(Some(written)) = &written {
            let both = Both::new(written.change.clone());
            self.learn(both);
        }
        written
    }

    /// Automerge names the author's previous change among the dependencies even where the heads cover it.
    fn assert_differs_in_own_dependency(&self, change: &Change, twin: Vec<u8>, heads: &[ChangeHash]) {
        let own = self.log.iter().rev().map(|both| both.checked.clone()).filter(|other| other.actor() == &self.actor);
        let previous = own.skip(1).map(|change| change.hash()).next().unwrap();
        assert!(!heads.contains(&previous), "Automerge would write other bytes");
        let mut twin = ExpandedChange::from(&Change::from_bytes(twin).unwrap());
        let mut change = ExpandedChange::from(change);
        twin.deps.retain(|dep| *dep != previous);
        (twin.hash, change.hash) = (None, None);
        assert_eq!(twin, change, "Automerge would write another change");
    }

    /// Lets Automerge make the same edits on a copy: the change's bytes, empty if there is none, `None` on refusal.
    fn write_twin(&mut self, edits: &[Edit]) -> Option<Vec<u8>> {
        let mut twin = self.doc().clone().with_actor(self.actor.clone());
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
        let changes: Vec<_> = changes.iter().filter(|change| !self.known.contains(&change.hash())).collect();
        self.take(changes.into_iter().map(|change| Both::new(change.clone())), batch);
    }

    /// Takes some of what another replica knows, in the order given.
    pub(crate) fn take(&mut self, changes: impl Iterator<Item = Rc<Both>>, batch: bool) {
        let taken = self.append(changes, batch);
        taken.into_iter().for_each(|both| self.learn(both));
    }

    /// As [`Replica::take`], but the log is left behind: the replica is of no use any more.
    pub(crate) fn take_into_store(&mut self, changes: &[Rc<Both>], batch: bool) {
        let taken = self.append(changes.iter().cloned(), batch);
        assert_eq!(taken.len(), changes.len(), "a change in sound order was left out");
    }

    /// Returns what the store says of the heads.
    pub(crate) fn heads(&self) -> Vec<ChangeHash> {
        ledger::heads(&*self.store.read().unwrap(), &DOCUMENT).unwrap()
    }

    fn append(&mut self, changes: impl Iterator<Item = Rc<Both>>, batch: bool) -> Vec<Rc<Both>> {
        let taken = self.store.write_with(|tx| {
            let mut appender = Appender::begin(tx, DOCUMENT)?;
            let mut projector = fields::Projector::begin(DOCUMENT);
            let mut taken = Vec::new();
            for both in changes {
                match projector.append(tx, &mut appender, &both.checked)? {
                    Appended::Stored { .. } if batch => {}
                    Appended::Stored { .. } => {
                        let full = std::mem::replace(&mut projector, fields::Projector::begin(DOCUMENT));
                        full.finish(tx)?;
                    }
                    Appended::Missing { .. } | Appended::Duplicate => continue,
                    other => panic!("an honest change was refused: {other:?}"),
                }
                taken.push(both);
            }
            projector.finish(tx)?;
            appender.finish(tx)?;
            Ok::<_, StoreError>(taken)
        });
        taken.unwrap()
    }

    fn learn(&mut self, both: Rc<Both>) {
        for object in made_by(&both.checked) {
            self.objects_list.push(object.clone());
            self.objects.insert(object);
        }
        self.known.insert(both.checked.hash());
        self.log.push(both);
    }

    /// Returns what this replica knows and another does not, in the order of its ledger.
    pub(crate) fn news_for(&self, other: &Self) -> Vec<Rc<Both>> {
        self.log.iter().filter(|both| !other.known.contains(&both.checked.hash())).cloned().collect()
    }

    /// Edits the document itself, as an application that uses Automerge does, and lets the registers know.
    pub(crate) fn edit_document(&mut self, edit: impl FnOnce(&mut automerge::transaction::Transaction<'_>)) {
        let mut tx = self.doc().transaction();
        edit(&mut tx);
        let (Some(hash), _) = tx.commit_with(CommitOptions::default().with_time(9)) else { return };
        self.receive_own(hash);
    }

    /// Commits a change without operations.
    pub(crate) fn commit_nothing(&mut self) {
        let hash = self.doc().empty_commit(CommitOptions::default());
        self.receive_own(hash);
    }

    /// Lets the registers know of a change that the document has made.
    fn receive_own(&mut self, hash: ChangeHash) {
        let change = self.doc.get_change_by_hash(&hash).unwrap();
        let both = Both::new(CheckedChange::parse(change.raw_bytes()).unwrap());
        self.take(std::iter::once(both), false);
        self.caught_up = self.log.len();
        assert!(self.known.contains(&hash), "an own change was not taken");
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

    /// Every object it has ever seen made, in the order it saw them.
    pub(crate) fn objects(&self) -> &[ObjectId] {
        &self.objects_list
    }

    /// Counts the fields with several values, and those that no path leads to.
    pub(crate) fn count_conflicts(&self, seen: &mut Seen) {
        let tx = self.store.read().unwrap();
        let mut reachable = BTreeSet::from([ObjectId::Root]);
        let objects = self.objects_list.iter();
        let fields = objects.map(|object| (object, fields::keys(&*tx, &DOCUMENT, object).unwrap()));
        // An object stands after the one it was made in.
        for (object, keys) in fields {
            for key in keys {
                let all = fields::get_all(&*tx, &DOCUMENT, object, &key).unwrap();
                if let (true, FieldValue::Object(_, child)) = (reachable.contains(object), &all[0].1) {
                    reachable.insert(child.clone());
                }
                seen.lost += usize::from(!reachable.contains(object));
                seen.deep_conflicts += usize::from(all.len() >= 5);
                if all.len() > 1 {
                    let is_counter = |value: &FieldValue| matches!(value, FieldValue::Scalar(ScalarValue::Counter(_)));
                    seen.conflicts += all.len();
                    seen.counter_conflicts += all.iter().filter(|(_, value)| is_counter(value)).count();
                }
            }
        }
    }

    /// Asserts that registers and document agree on everything: objects, keys, values, conflicts, their order, heads.
    /// Returns how many fields were compared.
    pub(crate) fn assert_agrees(&mut self) -> usize {
        self.doc();
        let tx = self.store.read().unwrap();
        let mut heads = self.doc.get_heads();
        heads.sort();
        assert_eq!(ledger::heads(&*tx, &DOCUMENT).unwrap(), heads, "heads");
        assert_registers_agree(&*tx, &self.doc, &self.objects)
    }
}

/// Everything that a store says of the document's fields, to the last byte.
pub(crate) fn tables_of(store: &MemoryStore) -> Vec<(Vec<u8>, Vec<u8>)> {
    let tx = store.read().unwrap();
    let mut found = Vec::new();
    for table in [Table::Register, Table::Object] {
        tx.scan(table, DOCUMENT.as_bytes()..&[0xd1], &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    }
    found
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
    let mut expected: Vec<String> = doc.keys(exid).collect();
    // After some increments of conflicting counters Automerge 0.12 lists their key twice, until it is loaded again.
    expected.dedup();
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

pub(crate) fn from_automerge(value: &automerge::Value<'_>, id: &ObjId) -> (OpId, FieldValue) {
    let ObjectId::Made(op) = to_object(id) else { panic!("a value never has the root's id") };
    let value = match value {
        automerge::Value::Object(kind) => FieldValue::Object(to_kind(*kind), ObjectId::Made(op.clone())),
        automerge::Value::Scalar(scalar) => FieldValue::Scalar(scalar.clone().into_owned()),
    };
    (op, value)
}

pub(crate) fn same_value(left: &FieldValue, right: &FieldValue) -> bool {
    match (left, right) {
        (FieldValue::Scalar(ScalarValue::F64(left)), FieldValue::Scalar(ScalarValue::F64(right))) => {
            left.to_bits() == right.to_bits()
        }
        _ => left == right,
    }
}
