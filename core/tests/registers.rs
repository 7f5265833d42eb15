//! Registers against Automerge: random histories of several actors, compared key by key after every step.
//!
//! `REJOIN_HISTORIES` says how many histories to try, `REJOIN_SEED` replays one.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test")]

use std::collections::BTreeSet;

use automerge::transaction::Transactable;
use automerge::{ActorId, Automerge, Change, ChangeHash, ObjType, ROOT, ReadDoc, ScalarValue};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rejoin::fields::{self, Author, Edit, FieldError, FieldValue, ObjectId, ObjectKind};
use rejoin::gate::CheckedChange;
use rejoin::ledger::{self, Appended, Appender};
use rejoin::store::{MemoryStore, Store, StoreExt};
use rejoin::{DocumentId, OpId, Value};

const DOCUMENT: DocumentId = DocumentId::from_bytes([9; 16]);
const KEYS: [&str; 4] = ["a", "b", "c", "ä"];

/// How many histories are tried unless the environment says otherwise.
const HISTORIES: u64 = 2_000;

/// A device twice over: its registers in a store, and a document that gets the same changes.
struct Device {
    store: MemoryStore,
    automerge: Automerge,
    actor: ActorId,
    /// Edits on the document are another actor's than edits on the registers.
    has: BTreeSet<usize>,
}

struct History {
    devices: Vec<Device>,
    /// Every change made anywhere, in the order made, so that dependencies come first.
    changes: Vec<CheckedChange>,
    random: StdRng,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let devices = (0..random.random_range(2..=6_u8)).map(|index| {
            let store = MemoryStore::new();
            store.write_with(|tx| ledger::create(tx, &DOCUMENT)).unwrap();
            let automerge = Automerge::new().with_actor(ActorId::from(&[index, 1]));
            Device { store, automerge, actor: ActorId::from(&[index, 0]), has: BTreeSet::new() }
        });
        Self { devices: devices.collect(), changes: Vec::new(), random }
    }

    fn step(&mut self) {
        let index = self.random.random_range(0..self.devices.len());
        match self.random.random_range(0..10) {
            0..5 => self.write_field(index),
            5..7 => self.edit_document(index),
            _ => self.deliver(index),
        }
        compare(&self.devices[index]);
    }

    /// A random map of the device, by a path of winners.
    fn path(&mut self, index: usize) -> Vec<String> {
        let device = &self.devices[index];
        let tx = device.store.read().unwrap();
        let mut path = Vec::new();
        let mut object = ObjectId::Root;
        while self.random.random_bool(0.6) {
            let entries = fields::entries(tx.as_ref(), &DOCUMENT, &object).unwrap();
            let maps: Vec<_> = entries
                .into_iter()
                .filter_map(|(key, value)| match value {
                    FieldValue::Object(ObjectKind::Map, id) => Some((key, id)),
                    _ => None,
                })
                .collect();
            let Some((key, id)) = maps.choose(&mut self.random).cloned() else { break };
            path.push(key);
            object = id;
        }
        path.push((*KEYS.choose(&mut self.random).unwrap()).to_owned());
        path
    }

    fn value(&mut self) -> Value {
        match self.random.random_range(0..9) {
            0 => Value::counter(self.random.random_range(-3..3)),
            1 => Value::null(),
            2 => self.random.random_range(0..3_i64).into(),
            3 => "text".into(),
            4 => Value::timestamp_ms(self.random.random_range(0..9)),
            5 => vec![1_u8, 2].into(),
            6 => 0.5.into(),
            7 => self.random.random_bool(0.5).into(),
            _ => Value::Map(vec![("a".to_owned(), Value::counter(1)), ("b".to_owned(), Value::Map(vec![]))]),
        }
    }

    fn write_field(&mut self, index: usize) {
        let mut edits = Vec::new();
        for _ in 0..self.random.random_range(1..=3) {
            let path = self.path(index);
            edits.push(match self.random.random_range(0..6) {
                0 => Edit::delete(path),
                1..3 => Edit::increment(path, self.random.random_range(-2..5)),
                _ => Edit::set(path, self.value()),
            });
        }
        let device = &mut self.devices[index];
        let author = Author { actor: device.actor.clone(), time_seconds: 7, message: None };
        let written = device.store.write_with(|tx| fields::write(tx, &DOCUMENT, &author, &edits)).unwrap();
        let written = match written {
            Ok(Some(written)) => written,
            // An earlier edit of the same change may have taken a later one's counter or map away.
            Ok(None) | Err(FieldError::NotACounter { .. } | FieldError::NotAMap { .. }) => return,
            Err(error) => panic!("{error}"),
        };
        let change = Change::from_bytes(written.change.bytes().to_vec()).expect("Automerge decodes what we make");
        assert_eq!(change.hash(), written.change.hash());
        device.automerge.apply_changes([change]).expect("Automerge takes what we make");
        device.has.insert(self.changes.len());
        self.changes.push(written.change);
    }

    fn edit_document(&mut self, index: usize) {
        let key = *KEYS.choose(&mut self.random).unwrap();
        let (kind, number) = (self.random.random_range(0..9), self.random.random_range(0..4_i64));
        let device = &mut self.devices[index];
        let mut maps: Vec<_> = objects(&device.automerge);
        maps.retain(|(_, kind)| *kind == ObjType::Map);
        let object = maps.choose(&mut self.random).unwrap().0.clone();
        let mut tx = device.automerge.transaction();
        let _ = match kind {
            0 => tx.put(&object, key, ScalarValue::counter(number)),
            1..3 => tx.increment(&object, key, number),
            3 => tx.delete(&object, key),
            4 => tx.put_object(&object, key, ObjType::Map).map(|_| ()),
            5 => tx.put_object(&object, key, ObjType::Text).and_then(|text| tx.splice_text(&text, 0, 0, "hello")),
            6 => tx.put_object(&object, key, ObjType::List).and_then(|list| {
                let map = tx.insert_object(&list, 0, ObjType::Map)?;
                tx.put(&map, "a", ScalarValue::counter(1))?;
                tx.increment(&map, "a", 2)?;
                tx.insert(&list, 1, number)
            }),
            _ => tx.put(&object, key, number),
        };
        if tx.commit().0.is_none() {
            return;
        }
        let change = device.automerge.get_last_local_change().unwrap();
        let change = CheckedChange::parse(change.raw_bytes()).expect("the gate takes honest changes");
        receive(&device.store, &change);
        device.has.insert(self.changes.len());
        self.changes.push(change);
    }

    /// Brings a device some changes that others have, each with everything before it that it needs.
    fn deliver(&mut self, index: usize) {
        let from = self.random.random_range(0..self.devices.len());
        let lacking: Vec<usize> = self.devices[from].has.difference(&self.devices[index].has).copied().collect();
        let count = self.random.random_range(0..=lacking.len());
        for change in &lacking[..count] {
            let device = &mut self.devices[index];
            receive(&device.store, &self.changes[*change]);
            let theirs = Change::from_bytes(self.changes[*change].bytes().to_vec()).unwrap();
            device.automerge.apply_changes([theirs]).unwrap();
            device.has.insert(*change);
        }
    }
}

fn receive(store: &MemoryStore, change: &CheckedChange) {
    let appended = store.write_with(|tx| {
        let mut appender = Appender::begin(tx, DOCUMENT)?;
        let appended = appender.append(tx, change)?;
        appender.finish(tx)?;
        fields::project(tx, &DOCUMENT, change)?;
        Ok(appended)
    });
    assert!(matches!(appended, Ok(Appended::Stored { .. })), "{appended:?}");
}

/// Every object that can be reached, conflicts included.
fn objects(automerge: &Automerge) -> Vec<(automerge::ObjId, ObjType)> {
    let mut found = vec![(ROOT, ObjType::Map)];
    let mut next = 0;
    while let Some((object, kind)) = found.get(next).cloned() {
        next += 1;
        let mut children = Vec::new();
        match kind {
            ObjType::Map => {
                for key in automerge.keys(&object) {
                    children.extend(automerge.get_all(&object, key.as_str()).unwrap());
                }
            }
            ObjType::List => {
                for index in 0..automerge.length(&object) {
                    children.extend(automerge.get_all(&object, index).unwrap());
                }
            }
            _ => {}
        }
        found.extend(children.into_iter().filter_map(|(value, id)| value.to_objtype().map(|kind| (id, kind))));
    }
    found
}

fn op_id(id: &automerge::ObjId) -> OpId {
    match id {
        automerge::ObjId::Id(counter, actor, _) => OpId { counter: *counter, actor: actor.clone() },
        automerge::ObjId::Root => panic!("the root is no operation"),
    }
}

fn compare(device: &Device) {
    let tx = device.store.read().unwrap();
    let heads: Vec<ChangeHash> = device.automerge.get_heads();
    assert_eq!(ledger::heads(tx.as_ref(), &DOCUMENT).unwrap(), heads, "heads");
    for (object, kind) in objects(&device.automerge) {
        if kind != ObjType::Map {
            continue;
        }
        let ours = if object == ROOT { ObjectId::Root } else { ObjectId::Made(op_id(&object)) };
        let keys: Vec<String> = device.automerge.keys(&object).collect();
        assert_eq!(fields::keys(tx.as_ref(), &DOCUMENT, &ours).unwrap(), keys, "keys of {ours}");
        for key in KEYS {
            let mut theirs = device.automerge.get_all(&object, key).unwrap();
            theirs.reverse();
            let theirs: Vec<_> = theirs
                .into_iter()
                .map(|(value, id)| match value {
                    automerge::Value::Scalar(scalar) => (op_id(&id), FieldValue::Scalar(scalar.into_owned())),
                    automerge::Value::Object(kind) => {
                        let kind = match kind {
                            ObjType::Map => ObjectKind::Map,
                            ObjType::Table => ObjectKind::Table,
                            ObjType::List => ObjectKind::List,
                            ObjType::Text => ObjectKind::Text,
                        };
                        (op_id(&id), FieldValue::Object(kind, ObjectId::Made(op_id(&id))))
                    }
                })
                .collect();
            let found = fields::get_all(tx.as_ref(), &DOCUMENT, &ours, key).unwrap();
            assert_eq!(found, theirs, "{key:?} of {ours}");
        }
    }
}

fn run(seed: u64) {
    let mut history = History::new(seed);
    for _ in 0..history.random.random_range(5..40) {
        history.step();
    }
    for index in 0..history.devices.len() {
        for change in 0..history.changes.len() {
            if history.devices[index].has.insert(change) {
                receive(&history.devices[index].store, &history.changes[change]);
                let theirs = Change::from_bytes(history.changes[change].bytes().to_vec()).unwrap();
                history.devices[index].automerge.apply_changes([theirs]).unwrap();
            }
        }
        compare(&history.devices[index]);
    }
}

#[test]
fn registers_agree_with_automerge_in_random_histories() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("REJOIN_SEED") {
        return run(seed);
    }
    let histories = number("REJOIN_HISTORIES").unwrap_or(HISTORIES);
    for seed in 0..histories {
        let outcome = std::panic::catch_unwind(|| run(seed));
        if let Err(cause) = outcome {
            eprintln!("replay with: REJOIN_SEED={seed} cargo test -p rejoin --test registers");
            std::panic::resume_unwind(cause);
        }
    }
    eprintln!("{histories} histories, seeds 0 to {}", histories - 1);
}

#[test]
fn increment_that_overwrites_no_counter_hides_what_it_names() {
    // The rule that is easiest to miss: an increment is a successor like any other where there is no counter.
    let (counter, text) = (ActorId::from(&[1]), ActorId::from(&[2]));
    let mut first = Automerge::new().with_actor(counter);
    first.transact::<_, _, automerge::AutomergeError>(|tx| tx.put(ROOT, "a", ScalarValue::counter(1))).unwrap();
    let mut second = Automerge::new().with_actor(text);
    second.transact::<_, _, automerge::AutomergeError>(|tx| tx.put(ROOT, "a", "text")).unwrap();
    first.merge(&mut second).unwrap();
    first.transact::<_, _, automerge::AutomergeError>(|tx| tx.increment(ROOT, "a", 5)).unwrap();

    let store = MemoryStore::new();
    for change in first.get_changes(&[]) {
        receive(&store, &CheckedChange::parse(change.raw_bytes()).unwrap());
    }
    let values = fields::get_all(store.read().unwrap().as_ref(), &DOCUMENT, &ObjectId::Root, "a").unwrap();
    let values: Vec<_> = values.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, [FieldValue::Scalar(ScalarValue::counter(6))]);
    let theirs = first.get_all(ROOT, "a").unwrap();
    assert_eq!(theirs.len(), 1);
}
