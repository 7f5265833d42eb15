//! A store as a device leaves it after some weeks, and all that must be found in it.
//!
//! What must be found is asked of Automerge, not of the store, so that a store and its reader cannot err together. Only
//! what Automerge does not know (outbox, shared heads, storage id) is noted where it is put in.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use automerge::transaction::{CommitOptions, Transactable, Transaction};
use automerge::{ActorId, Automerge, Change, ChangeHash, ObjId, ObjType, ROOT, ReadDoc, ScalarValue, TextEncoding};
use rejoin::document::Materialised;
use rejoin::engine::{self, Origin};
use rejoin::fields::{self, Author, Edit, EditAction, FieldValue, ObjectId};
use rejoin::gate::CheckedChange;
use rejoin::ledger::{self, Appended, outbox, shared};
use rejoin::store::{ReadTx, Store, StoreExt};
use rejoin::{DocumentId, OpId, StorageId, Value};
use serde_json::{Value as Json, json};

const PEERS: [StorageId; 2] = [StorageId::from_bytes([0xa1; 16]), StorageId::from_bytes([0xa2; 16])];

/// Where the fixture of a format stands, without its extension.
pub(crate) fn path(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/format-{format}"))
}

/// Unpacks a kept store to a path.
pub(crate) fn unpack(format: u32, to: &Path) {
    let packed = fs::read(path(format).with_extension("redb.zlib")).unwrap();
    let mut bytes = Vec::new();
    flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
    fs::write(to, bytes).unwrap();
}

/// Keeps a closed store and what must be found in it.
pub(crate) fn pack(format: u32, from: &Path, expected: &Json) {
    let mut packer = flate2::read::ZlibEncoder::new(fs::File::open(from).unwrap(), flate2::Compression::best());
    let mut packed = Vec::new();
    packer.read_to_end(&mut packed).unwrap();
    assert!(packed.len() < 60_000, "{} bytes are too many for a fixture", packed.len());
    fs::write(path(format).with_extension("redb.zlib"), packed).unwrap();
    fs::write(path(format).with_extension("json"), format!("{expected:#}\n")).unwrap();
}

/// What must be found in a kept store.
pub(crate) fn expected(format: u32) -> Json {
    serde_json::from_slice(&fs::read(path(format).with_extension("json")).unwrap()).unwrap()
}

/// One document: the store's device is the first of three.
struct World<'s> {
    document: DocumentId,
    store: &'s dyn Store,
    devices: Vec<Automerge>,
    /// Every change of the store, in its order.
    order: Vec<ChangeHash>,
    waiting: Vec<u64>,
}

impl<'s> World<'s> {
    fn new(store: &'s dyn Store, document: u8) -> Self {
        let document = DocumentId::from_bytes([document; 16]);
        store.write_with(|tx| ledger::create(tx, &document)).unwrap();
        let device = |number: u8| {
            Automerge::new_with_encoding(TextEncoding::Utf16CodeUnit).with_actor(ActorId::from(&[number; 16]))
        };
        Self { document, store, devices: (1..=3).map(device).collect(), order: Vec::new(), waiting: Vec::new() }
    }

    /// Writes fields of the root here, without the document.
    fn write(&mut self, edits: &[Edit]) -> Vec<(usize, ObjectId)> {
        let author = Author { actor: &self.devices[0].get_actor().clone(), time_seconds: 1_790_000_000, message: None };
        let written = self.store.write_with(|tx| fields::write(tx, &self.document, &author, edits)).unwrap();
        let written = written.unwrap().unwrap();
        self.order.push(written.change.hash());
        self.waiting.push(written.position);
        self.devices[0].apply_changes([Change::from_bytes(written.change.bytes().to_vec()).unwrap()]).unwrap();
        written.made
    }

    /// Edits the document on a device.
    fn edit(&mut self, device: usize, edit: impl FnOnce(&mut Transaction<'_>)) {
        let mut tx = self.devices[device].transaction();
        edit(&mut tx);
        let options = CommitOptions::default().with_time(1_790_000_001).with_message(format!("device {device}"));
        let (hash, _) = tx.commit_with(options);
        if device == 0 {
            let bytes = self.devices[0].get_change_by_hash(&hash.unwrap()).unwrap().raw_bytes().to_vec();
            self.accept(vec![CheckedChange::parse(&bytes).unwrap()], Origin::Local);
        }
    }

    /// Lets a device know what another one does.
    fn tell(&mut self, from: usize, to: usize) {
        let heads = self.devices[to].get_heads();
        let known: Vec<_> =
            heads.into_iter().filter(|hash| self.devices[from].get_change_by_hash(hash).is_some()).collect();
        let to_heads: Vec<ChangeHash> = self.devices[to].get_changes(&[]).iter().map(Change::hash).collect();
        let news: Vec<Change> = self.devices[from].get_changes(&known);
        let news: Vec<Change> = news.into_iter().filter(|change| !to_heads.contains(&change.hash())).collect();
        self.devices[to].apply_changes(news.clone()).unwrap();
        if to == 0 {
            let news = news.iter().map(|change| CheckedChange::parse(change.raw_bytes()).unwrap()).collect();
            self.accept(news, Origin::Remote);
        }
    }

    fn accept(&mut self, changes: Vec<CheckedChange>, origin: Origin) {
        let accepted = self.store.write_with(|tx| engine::accept(tx, self.document, changes, origin)).unwrap();
        for (change, appended) in accepted.results {
            let Appended::Stored { position } = appended else { unreachable!("{appended:?}") };
            self.order.push(change.hash());
            assert_eq!(self.order.len() as u64, position + 1);
            if origin == Origin::Local {
                self.waiting.push(position);
            }
        }
    }

    /// A relay has everything that is here now.
    fn acknowledge(&mut self) {
        let heads = self.devices[0].get_heads();
        self.store.write_with(|tx| outbox::acknowledge(tx, &self.document, &heads)).unwrap();
        self.store.write_with(|tx| shared::put(tx, &self.document, &PEERS[0], &heads)).unwrap();
        self.waiting.clear();
    }

    /// What must be found of this document.
    fn expected(&self, shared_heads: &BTreeMap<String, Vec<String>>) -> Json {
        let here = &self.devices[0];
        let changes = here.get_changes(&[]);
        let bytes: usize = changes.iter().map(|change| change.raw_bytes().len()).sum();
        let mut objects = BTreeMap::new();
        describe(here, &ROOT, ObjType::Map, &mut objects);
        assert_eq!(changes.len(), self.order.len());
        json!({
            "count": changes.len(),
            "bytes": bytes,
            "max_op": changes.iter().map(Change::max_op).max(),
            "actors": changes.iter().map(|change| (change.actor_id().to_hex_string(), change.seq())).collect::<BTreeMap<_, _>>(),
            "heads": hex(&here.get_heads()),
            "changes": hex(&self.order),
            "objects": objects,
            "waiting": self.waiting,
            "shared": shared_heads,
        })
    }
}

fn hex(hashes: &[ChangeHash]) -> Vec<String> {
    hashes.iter().map(ToString::to_string).collect()
}

/// Writes down an object and what can be reached from it, every value of every field, the winner first.
fn describe(doc: &Automerge, object: &ObjId, kind: ObjType, into: &mut BTreeMap<String, Json>) {
    let values = |at: Vec<(automerge::Value<'_>, ObjId)>, into: &mut BTreeMap<String, Json>| {
        let mut found = BTreeMap::new();
        for (value, id) in at {
            let text = match &value {
                automerge::Value::Scalar(scalar) => scalar_text(scalar),
                automerge::Value::Object(kind) => {
                    describe(doc, &id, *kind, into);
                    format!("{kind:?}").to_lowercase()
                }
            };
            found.insert(op_id(&id), text);
        }
        found.into_iter().rev().map(|(id, value)| json!([id.to_string(), value])).collect::<Vec<_>>()
    };
    let described = match kind {
        ObjType::Map | ObjType::Table => {
            let keys: Vec<String> = doc.keys(object).collect();
            let fields = keys.into_iter().map(|key| {
                let values = values(doc.get_all(object, key.as_str()).unwrap(), into);
                (key, values)
            });
            json!({ "fields": fields.collect::<BTreeMap<_, _>>() })
        }
        ObjType::List => {
            let items = (0..doc.length(object)).map(|at| values(doc.get_all(object, at).unwrap(), into));
            json!({ "items": items.collect::<Vec<_>>() })
        }
        ObjType::Text => json!({ "text": doc.text(object).unwrap() }),
    };
    into.insert(object.to_string(), described);
}

fn op_id(id: &ObjId) -> OpId {
    let ObjId::Id(counter, actor, _) = id else { unreachable!("nothing makes the root") };
    OpId { counter: *counter, actor: actor.clone() }
}

fn scalar_text(scalar: &ScalarValue) -> String {
    match scalar {
        ScalarValue::Null => "null".to_owned(),
        ScalarValue::Boolean(value) => format!("bool {value}"),
        ScalarValue::Uint(value) => format!("uint {value}"),
        ScalarValue::Int(value) => format!("int {value}"),
        ScalarValue::F64(value) => format!("float {value:?}"),
        ScalarValue::Str(value) => format!("text {value}"),
        ScalarValue::Bytes(value) => format!("bytes {value:?}"),
        ScalarValue::Counter(value) => format!("counter {}", i64::from(value)),
        ScalarValue::Timestamp(value) => format!("timestamp {value}"),
        ScalarValue::Unknown { type_code, bytes } => format!("unknown {type_code} {bytes:?}"),
    }
}

/// Fills a new store, and returns what must be found in it.
pub(crate) fn fill(store: &dyn Store) -> Json {
    let storage = rejoin::store::storage_id(store, [0x5a; 16]).unwrap();
    let mut notebook = World::new(store, 0xd1);
    fill_notebook(&mut notebook);
    let mut list = World::new(store, 0xd2);
    fill_list(&mut list);
    let empty = World::new(store, 0xd3);
    let here = notebook.devices[0].get_heads();
    store.write_with(|tx| shared::put(tx, &notebook.document, &PEERS[1], &here)).unwrap();
    let worlds = [notebook, list, empty];
    let documents: BTreeMap<String, Json> = worlds
        .iter()
        .map(|world| {
            let peers = PEERS.iter().map(|peer| {
                let heads = shared::get(store.read().unwrap().as_ref(), &world.document, peer).unwrap();
                (peer.to_string(), hex(&heads))
            });
            (world.document.to_string(), world.expected(&peers.collect()))
        })
        .collect();
    json!({ "storage_id": storage.to_string(), "documents": documents })
}

/// Fields of every type, nested maps, overwritten and deleted ones, counters and conflicts.
fn fill_notebook(world: &mut World<'_>) {
    let nested =
        Value::from_json(json!({ "street": "Elm Street 5", "city": { "name": "Basel", "zip": 4051 } })).unwrap();
    world.write(&[Edit::set("title", "Notebook"), Edit::set("address", nested), Edit::set("count", Value::counter(3))]);
    world.write(&[Edit::set("done", false), Edit::set("half", 0.5), Edit::set("nothing", ScalarValue::Null)]);
    world.edit(0, |tx| {
        tx.put(ROOT, "when", ScalarValue::Timestamp(1_790_000_000_000)).unwrap();
        tx.put(ROOT, "raw", vec![0_u8, 255, 7]).unwrap();
        tx.put(ROOT, "many", u64::MAX).unwrap();
        tx.put(ROOT, "strange", ScalarValue::Unknown { type_code: 13, bytes: vec![1, 2] }).unwrap();
        tx.put(ROOT, "", "the key is empty").unwrap();
    });
    world.tell(0, 1);
    world.tell(0, 2);
    for round in 0..4_i64 {
        world.write(&[Edit::set("title", format!("Notebook {round}")), Edit::increment("count", round)]);
        for device in [1, 2] {
            world.edit(device, |tx| {
                tx.put(ROOT, "title", format!("Title {round} of device {device}")).unwrap();
                tx.increment(ROOT, "count", 10).unwrap();
            });
            world.edit(device, |tx| {
                let made = tx.put_object(ROOT, "settings", ObjType::Map).unwrap();
                tx.put(&made, "by", i64::try_from(device).unwrap()).unwrap();
                let (_, address) = tx.get(ROOT, "address").unwrap().unwrap();
                tx.put(&address, format!("floor {round}"), "third").unwrap();
            });
        }
        world.tell(1, 0);
        if round == 1 {
            world.acknowledge();
        }
        world.tell(2, 0);
        if round < 3 {
            world.tell(0, 1);
            world.tell(0, 2);
        }
    }
    world.write(&[Edit::delete("half"), Edit::new(ObjectId::Root, "body", EditAction::MakeText)]);
    // Two counters stand in one field, each with its own increments.
    world.edit(0, |tx| tx.put(ROOT, "score", ScalarValue::counter(1)).unwrap());
    world.edit(1, |tx| tx.put(ROOT, "score", ScalarValue::counter(100)).unwrap());
    world.tell(1, 0);
    world.write(&[Edit::increment("score", 5)]);
    // The last word is a conflict, and two heads.
    world.edit(2, |tx| tx.put(ROOT, "done", true).unwrap());
    world.edit(0, |tx| tx.put(ROOT, "done", "perhaps").unwrap());
    world.tell(2, 0);
}

/// A text and a list of maps, edited by three at once.
fn fill_list(world: &mut World<'_>) {
    let made = world.write(&[
        Edit::new(ObjectId::Root, "body", EditAction::MakeText),
        Edit::new(ObjectId::Root, "items", EditAction::MakeList),
    ]);
    assert_eq!(made.len(), 2);
    world.acknowledge();
    world.tell(0, 1);
    world.tell(0, 2);
    let object = |doc: &Transaction<'_>, key: &str| doc.get(ROOT, key).unwrap().unwrap().1;
    for round in 0..6 {
        for device in 0..3 {
            world.edit(device, |tx| {
                let body = object(tx, "body");
                let length = tx.length(&body);
                tx.splice_text(&body, length.min(round * 3), 0, &format!("{device}😀{round} ")).unwrap();
                if round == 4 {
                    tx.splice_text(&body, 2, 3, "").unwrap();
                }
            });
        }
        world.edit(round % 3, |tx| {
            let items = object(tx, "items");
            let item = tx.insert_object(&items, 0, ObjType::Map).unwrap();
            tx.put(&item, "what", format!("thing {round}")).unwrap();
            tx.insert(&items, 1, i64::try_from(round).unwrap()).unwrap();
        });
        for device in [1, 2] {
            world.tell(device, 0);
        }
        for device in [1, 2] {
            world.tell(0, device);
        }
    }
    for device in 0..3 {
        world.edit(device, |tx| {
            let items = object(tx, "items");
            let (_, item) = tx.get(&items, 0).unwrap().unwrap();
            tx.put(&item, "done", format!("by {device}")).unwrap();
        });
        world.tell(device, 0);
    }
}

/// Reads everything out of a store, in the shape of [`expected`].
pub(crate) fn found(store: &dyn Store) -> Json {
    let tx = store.read().unwrap();
    let storage = rejoin::store::storage_id(store, [0; 16]).unwrap();
    let mut documents = BTreeMap::new();
    for document in ledger::documents(tx.as_ref()).unwrap() {
        documents.insert(document.to_string(), found_document(tx.as_ref(), document));
    }
    json!({ "storage_id": storage.to_string(), "documents": documents })
}

fn found_document(tx: &dyn ReadTx, document: DocumentId) -> Json {
    let state = ledger::state(tx, &document).unwrap().unwrap();
    let mut loaded = Materialised::new(document, ActorId::from(&[9; 16]));
    loaded.catch_up(tx).unwrap();
    let mut objects = BTreeMap::new();
    describe(loaded.automerge(), &ROOT, ObjType::Map, &mut objects);
    // The fields are read from the registers; what the document says of them is not asked.
    for (name, object) in &mut objects {
        if let Some(fields) = object.get_mut("fields") {
            *fields = found_fields(tx, &document, name);
        }
    }
    let mut hashes = Vec::new();
    ledger::export(tx, &document, 0, &mut |bytes| {
        hashes.push(CheckedChange::parse(bytes).unwrap().hash());
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    let mut actors = BTreeMap::new();
    for (position, hash) in (0..state.count).zip(&hashes) {
        let node = ledger::node(tx, &document, position).unwrap();
        assert_eq!(node.hash, *hash);
        assert_eq!(ledger::position(tx, &document, hash).unwrap(), Some(position));
        let last = ledger::last_seq(tx, &document, &node.actor).unwrap();
        actors.insert(node.actor.to_hex_string(), last);
    }
    let peers = PEERS.iter().map(|peer| (peer.to_string(), hex(&shared::get(tx, &document, peer).unwrap())));
    json!({
        "count": state.count,
        "bytes": state.bytes,
        "max_op": if state.count == 0 { Json::Null } else { state.max_op.into() },
        "actors": actors,
        "heads": hex(&state.head_hashes()),
        "changes": hex(&hashes),
        "objects": objects,
        "waiting": outbox::pending(tx, &document).unwrap(),
        "shared": peers.collect::<BTreeMap<_, _>>(),
    })
}

fn found_fields(tx: &dyn ReadTx, document: &DocumentId, name: &str) -> Json {
    let object = match name.split_once('@') {
        None => ObjectId::Root,
        Some((counter, actor)) => {
            let actor = ActorId::try_from(actor).unwrap();
            ObjectId::Made(OpId { counter: counter.parse().unwrap(), actor })
        }
    };
    let mut found = BTreeMap::new();
    for key in fields::keys(tx, document, &object).unwrap() {
        let values = fields::get_all(tx, document, &object, &key).unwrap();
        let values = values.iter().map(|(id, value)| match value {
            FieldValue::Scalar(scalar) => json!([id.to_string(), scalar_text(scalar)]),
            FieldValue::Object(kind, _) => json!([id.to_string(), format!("{kind:?}").to_lowercase()]),
        });
        found.insert(key, values.collect::<Vec<_>>());
    }
    json!(found)
}
