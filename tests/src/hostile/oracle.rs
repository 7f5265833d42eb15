//! The two judges of a stored document: real Automerge, and an independent reading of the rules about references.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once, PoisonError};

use automerge::transaction::Transactable;
use automerge::{Automerge, Change, ObjId, ROOT, ReadDoc};
use bytes::Bytes;
use rejoin::fields::{self, FieldValue, ObjectId, ObjectKind};
use rejoin::gate::{Action, CheckedChange, KeyRef, ObjectRef, OpRef};
use rejoin::store::{MemoryStore, Store};
use rejoin::{DocumentId, OpId, ScalarValue, ledger};

/// What is wrong with a document that the engine took.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Complaint {
    /// Its class: two documents with the same class have the same fault.
    pub class: String,
    /// More about this one.
    pub detail: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail: String = self.detail.chars().take(300).collect();
        write!(f, "{}: {detail}", self.class)
    }
}

fn complain<T>(class: &str, detail: impl fmt::Display) -> Result<T, Complaint> {
    Err(Complaint { class: class.to_owned(), detail: detail.to_string() })
}

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

static UNEXPECTED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Listens to every panic of the process from now on; those that nobody expects are kept for [`unexpected_panics`].
pub fn listen_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let location = info.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
            let text = info.payload_as_str().unwrap_or("a panic without words");
            if EXPECTED.get() {
                LAST.set(format!("{} {}", short(&location), text));
            } else {
                let thread = std::thread::current().name().unwrap_or("?").to_owned();
                UNEXPECTED.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{thread}: {location}: {text}"));
                before(info);
            }
        }));
    });
}

/// Returns the panics that nobody expected, of any thread.
pub fn unexpected_panics() -> Vec<String> {
    UNEXPECTED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Leaves out where the registry is.
fn short(location: &str) -> &str {
    location.find("automerge-0").or_else(|| location.find("hexane-")).map_or(location, |at| &location[at..])
}

/// Runs something that may panic, quietly.
fn quietly<T>(stage: &str, work: impl FnOnce() -> Result<T, Complaint>) -> Result<T, Complaint> {
    listen_for_panics();
    EXPECTED.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    EXPECTED.set(false);
    outcome.unwrap_or_else(|_| {
        let last = LAST.take();
        let place = last.split_whitespace().next().unwrap_or_default().to_owned();
        complain(&format!("panic in {stage} at {place}"), last)
    })
}

/// Asks Automerge about a document: every change applies, the heads are ours, a save loads again and is the same, an
/// edit can be made and reaches a fresh replica, and every field is what our registers say (where they are given).
///
/// # Errors
///
/// The first [`Complaint`].
pub fn check(chunks: &[Bytes], heads: &[automerge::ChangeHash]) -> Result<Automerge, Complaint> {
    let changes = quietly("decode", || {
        let parsed: Result<Vec<_>, _> = chunks.iter().map(|chunk| Change::from_bytes(chunk.to_vec())).collect();
        parsed.or_else(|error| complain("automerge does not decode a change", error))
    })?;
    let document = quietly("apply", || {
        let mut document = Automerge::new();
        document.apply_changes(changes).or_else(|error| complain("automerge does not apply a change", error))?;
        Ok(document)
    })?;
    let mut found = document.get_heads();
    found.sort_unstable();
    if found != heads {
        return complain("automerge has other heads", format!("{found:?}, not {heads:?}"));
    }
    let saved = quietly("save", || Ok(document.save()))?;
    let loaded = quietly("load", || Automerge::load(&saved).or_else(|error| does_not_load(&error)))?;
    let mut found = loaded.get_heads();
    found.sort_unstable();
    if found != heads {
        return complain("a save loads with other heads", format!("{found:?}, not {heads:?}"));
    }
    let again = quietly("second save", || Ok(loaded.save()))?;
    if again != saved {
        return complain("a save of a loaded save differs", again.len());
    }
    quietly("edit", || edit(&loaded, chunks))?;
    Ok(document)
}

/// The reason is part of the class, without the numbers in it.
fn does_not_load<T>(error: &automerge::AutomergeError) -> Result<T, Complaint> {
    let text = error.to_string();
    let why = text.strip_prefix("error inflating document chunk ops: ").unwrap_or(&text);
    let why = why.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default();
    complain(&format!("a save does not load: {why}"), text.clone())
}

/// Makes an honest edit, and lets a fresh replica take everything.
fn edit(document: &Automerge, chunks: &[Bytes]) -> Result<(), Complaint> {
    let mut document = document.clone();
    let mut tx = document.transaction();
    tx.put(&ROOT, "edited by the oracle", 1).or_else(|error| complain("a field cannot be set", error))?;
    tx.commit();
    let changes = document.get_changes(&[]);
    if changes.len() != chunks.len() + 1 {
        return complain("automerge has another number of changes", changes.len());
    }
    let known: HashSet<_> = chunks.iter().map(|chunk| &chunk[..]).collect();
    if changes.iter().filter(|change| known.contains(change.raw_bytes())).count() != chunks.len() {
        return complain("automerge rebuilds a change with other bytes", "");
    }
    let mut fresh = Automerge::new();
    fresh.apply_changes(changes).or_else(|error| complain("a fresh replica takes not all", error))?;
    let (mut left, mut right) = (fresh.get_heads(), document.get_heads());
    left.sort_unstable();
    right.sort_unstable();
    if left == right { Ok(()) } else { complain("a fresh replica has other heads", "") }
}

/// Compares every field of every map with the registers.
///
/// # Errors
///
/// The first difference.
pub fn compare_registers(store: &dyn Store, id: DocumentId, document: &Automerge) -> Result<usize, Complaint> {
    let tx = store.read().unwrap();
    let mut objects = vec![ObjectId::Root];
    for chunk in export_of(store, id) {
        let change = CheckedChange::parse(&chunk).unwrap();
        let own = |counter| OpId { counter, actor: change.actor().clone() };
        objects.extend(change.ops().filter(|op| op.action.is_make()).map(|op| ObjectId::Made(own(op.id_counter))));
    }
    let mut compared = 0;
    for object in objects {
        let exid = match &object {
            ObjectId::Root => ROOT,
            ObjectId::Made(made) => ObjId::Id(made.counter, made.actor.clone(), 0),
        };
        let ours = fields::object_kind(&*tx, &id, &object).unwrap();
        let kind = quietly("object_type", || Ok(document.object_type(&exid)))?;
        match (ours, kind) {
            // Automerge shows that there is a table, but does not open it.
            (Some(ObjectKind::Table), _) => continue,
            (Some(ours), Ok(kind)) if ours == to_kind(kind) => {}
            (ours, kind) => return complain("registers know another object", format!("{object}: {ours:?} {kind:?}")),
        }
        if ours == Some(ObjectKind::Map) {
            compared += compare_map(store, id, document, &object, &exid)?;
        }
    }
    Ok(compared)
}

fn compare_map(
    store: &dyn Store,
    id: DocumentId,
    document: &Automerge,
    object: &ObjectId,
    exid: &ObjId,
) -> Result<usize, Complaint> {
    let tx = store.read().unwrap();
    let expected: Vec<String> = quietly("keys", || Ok(document.keys(exid).collect()))?;
    let keys = fields::keys(&*tx, &id, object).unwrap();
    if keys != expected {
        return complain("registers have other keys", format!("{object}: {keys:?}, automerge {expected:?}"));
    }
    for key in &keys {
        let ours = fields::get_all(&*tx, &id, object, key).unwrap();
        let theirs = quietly("get_all", || {
            let all = document.get_all(exid, key.as_str());
            all.or_else(|error| complain("automerge does not read a field", error))
        })?;
        // Automerge shows the winner last.
        let same = |(ours, (value, theirs)): (&(OpId, FieldValue), &(automerge::Value<'_>, ObjId))| {
            let ObjId::Id(counter, actor, _) = theirs else { return false };
            ours.0.counter == *counter && ours.0.actor == *actor && same_value(&ours.1, value)
        };
        if ours.len() != theirs.len() || !ours.iter().zip(theirs.iter().rev()).all(same) {
            return complain("registers differ", format!("{object} {key:?}: {ours:?}, automerge {theirs:?}"));
        }
    }
    Ok(keys.len())
}

fn same_value(ours: &FieldValue, theirs: &automerge::Value<'_>) -> bool {
    match (ours, theirs) {
        (FieldValue::Scalar(ScalarValue::F64(left)), automerge::Value::Scalar(right)) => {
            right.as_f64().is_some_and(|right| right.to_bits() == left.to_bits())
        }
        (FieldValue::Scalar(left), automerge::Value::Scalar(right)) => left == right.as_ref(),
        (FieldValue::Object(kind, _), automerge::Value::Object(theirs)) => *kind == to_kind(*theirs),
        _ => false,
    }
}

fn to_kind(kind: automerge::ObjType) -> ObjectKind {
    match kind {
        automerge::ObjType::Map => ObjectKind::Map,
        automerge::ObjType::Table => ObjectKind::Table,
        automerge::ObjType::List => ObjectKind::List,
        automerge::ObjType::Text => ObjectKind::Text,
    }
}

/// Checks a memory store's document with both Automerge and the registers.
///
/// # Errors
///
/// The first [`Complaint`].
pub fn check_store(store: &MemoryStore, document: DocumentId) -> Result<(), Complaint> {
    let heads = ledger::heads(&*store.read().unwrap(), &document).unwrap();
    let automerge = check(&export_of(store, document), &heads)?;
    compare_registers(store, document, &automerge)?;
    Ok(())
}

fn export_of(store: &dyn Store, document: DocumentId) -> Vec<Bytes> {
    super::session::export(store, document)
}

/// What an operation is, for those that refer to it.
#[derive(Clone)]
struct Known {
    object: Option<OpId>,
    /// The key, or the element it makes or is about.
    key: Place,
    insert: bool,
    action: Action,
    /// The change it stands in, by position.
    change: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Key(String),
    Element(OpId),
}

/// Reads the rules about references anew, slowly and simply: every object, element and predecessor that a change names
/// is in one of its ancestors or earlier in itself, and is of the kind that fits.
#[derive(Clone, Default)]
pub struct References {
    ops: HashMap<OpId, Known>,
    hashes: HashMap<automerge::ChangeHash, usize>,
    ancestors: Vec<HashSet<usize>>,
}

impl References {
    /// Takes the next change of a history in a topological order, and says what it names that it must not name.
    ///
    /// # Errors
    ///
    /// In a few words, the first fault. The change is part of the history all the same.
    pub fn take(&mut self, change: &CheckedChange) -> Result<(), &'static str> {
        let position = self.ancestors.len();
        let mut ancestors = HashSet::from([position]);
        for dep in change.deps() {
            let Some(dep) = self.hashes.get(dep) else { return Err("a dependency is missing") };
            ancestors.extend(&self.ancestors[*dep]);
        }
        self.ancestors.push(ancestors);
        self.hashes.insert(change.hash(), position);
        let id = |op: OpRef| OpId {
            counter: op.counter,
            actor: change.actors()[usize::try_from(op.actor_index).unwrap()].clone(),
        };
        let mut fault = Ok(());
        for op in change.ops() {
            let own = OpId { counter: op.id_counter, actor: change.actor().clone() };
            let object = match op.object {
                ObjectRef::Root => None,
                ObjectRef::Op(made) => Some(id(made)),
            };
            let key = match op.key {
                KeyRef::Map(key) => Place::Key(key.to_owned()),
                KeyRef::Element(element) if !op.insert => Place::Element(id(element)),
                _ => Place::Element(own.clone()),
            };
            let reference = match op.key {
                KeyRef::Element(element) => Some(id(element)),
                _ => None,
            };
            let known = Known { object, key, insert: op.insert, action: op.action, change: position };
            let judged = self.judge(position, &known, reference, op.preds.map(id));
            fault = fault.and(judged);
            self.ops.insert(own, known);
        }
        fault
    }

    /// Says whether a change is part of the history.
    pub fn knows(&self, hash: &automerge::ChangeHash) -> bool {
        self.hashes.contains_key(hash)
    }

    fn judge(
        &self,
        position: usize,
        op: &Known,
        reference: Option<OpId>,
        preds: impl Iterator<Item = OpId>,
    ) -> Result<(), &'static str> {
        let find = |id: &OpId| self.ops.get(id).filter(|known| self.ancestors[position].contains(&known.change));
        let kind = match &op.object {
            None => Action::MakeMap,
            Some(object) => find(object).ok_or("the object is not there")?.action,
        };
        let fits = match (kind, &op.key) {
            (Action::MakeMap, Place::Key(_)) => true,
            (Action::MakeList | Action::MakeText, Place::Element(_)) => true,
            (Action::MakeMap | Action::MakeTable | Action::MakeList | Action::MakeText, _) => {
                return Err("the object is of another kind");
            }
            _ => return Err("the object is none"),
        };
        debug_assert!(fits);
        if let Some(reference) = reference {
            let element = find(&reference).ok_or("the element is not there")?;
            if !element.insert || element.object != op.object {
                return Err("the element is none of this list");
            }
        }
        for pred in preds {
            let pred = find(&pred).ok_or("a predecessor is not there")?;
            if pred.object != op.object || pred.key != op.key {
                return Err("a predecessor is of another field");
            }
            // Automerge's previews of 1.0 named an increment where they meant its counter, in the same change.
            let is_own_increment = pred.action == Action::Increment && pred.change == position;
            if matches!(pred.action, Action::Delete | Action::Increment) && !is_own_increment {
                return Err("a predecessor sets nothing");
            }
        }
        Ok(())
    }
}
