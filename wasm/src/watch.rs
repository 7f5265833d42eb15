//! Open documents: what pages show of them, and the patches that lead from there to now.
//!
//! A document of maps only is never loaded: what changed since the shown heads is read off the changes themselves, and the
//! values from the registers. One with lists or texts is loaded, and each step of it is turned into patches as it happens (its
//! trail), so that a keystroke in a long text costs what it changes. Where the trail is gone, because the document was dropped
//! from memory, the two states are compared.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use automerge::{Automerge, ChangeHash, ReadDoc};
use rejoin::document::{DocumentError, Observer, Step};
use rejoin::fields::{self, FieldValue, ObjectId};
use rejoin::gate::{Action, CheckedChange, KeyRef, ObjectRef};
use rejoin::store::{ReadTx, StoreError};
use rejoin::{DocumentId, OpId, Repo, ledger};
use serde_json::{Value as Json, json};

use crate::errors::Failure;
use crate::patches::convert;
use crate::requests::path_to_json;
use crate::tree::{Look, Parents, Stop, field, map_of_fields};

/// Beyond so many changes at once a document is sent whole: reading it is cheaper then than following each.
const CHANGES_MAX: usize = 1_000;

/// Beyond so many patches that nobody took, a trail is given up: 10,000 patches of 100 bytes are a megabyte.
const TRAIL_PATCHES_MAX: usize = 10_000;

/// A document as it was at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The state's name.
    pub heads: Vec<ChangeHash>,
    /// All of it.
    pub value: Json,
    /// How to go on from there.
    pub source: Source,
}

/// Where the patches of an open document come from.
#[derive(Debug)]
pub enum Source {
    /// From the registers. The maps of the document and where they stand; some may be gone since.
    Fields(Parents),
    /// From the loaded document.
    Loaded(Trail),
}

/// What happened to an open document since it was shown last.
#[derive(Debug)]
pub enum News {
    /// It is not here any more.
    Gone,
    /// These patches lead to these heads.
    Patches(Vec<Json>, Vec<ChangeHash>, Source),
    /// It is to be shown afresh.
    All(Snapshot),
}

/// The patches of a loaded document that were not sent yet.
#[derive(Debug, Default, Clone)]
pub struct Trail(Arc<Mutex<Steps>>);

#[derive(Debug, Default)]
struct Steps {
    patches: Vec<Json>,
    is_lost: bool,
}

impl Trail {
    fn lock(&self) -> MutexGuard<'_, Steps> {
        lock(&self.0)
    }

    /// Takes what has come together; `None` if steps may be missing.
    fn take(&self) -> Option<Vec<Json>> {
        // The document in memory holds the other end. It is gone when that is.
        let is_there = Arc::weak_count(&self.0) > 0;
        let mut steps = self.lock();
        (is_there && !steps.is_lost).then(|| std::mem::take(&mut steps.patches))
    }

    /// Makes the end that a document in memory holds.
    fn observer(&self) -> Observer {
        let steps = Arc::downgrade(&self.0);
        Box::new(move |automerge, patches| follow(&steps, automerge, patches))
    }
}

fn lock(steps: &Mutex<Steps>) -> MutexGuard<'_, Steps> {
    // Whoever panicked while holding it left patches that lack a step at most, and its document was given up with it.
    steps.lock().unwrap_or_else(PoisonError::into_inner)
}

fn follow(steps: &Weak<Mutex<Steps>>, automerge: &Automerge, patches: Vec<automerge::Patch>) -> bool {
    let Some(steps) = steps.upgrade() else { return false };
    let mut steps = lock(&steps);
    match convert(&Look { automerge, heads: None }, patches) {
        Ok(patches) if steps.patches.len() + patches.len() <= TRAIL_PATCHES_MAX => steps.patches.extend(patches),
        _ => {
            steps.is_lost = true;
            steps.patches = Vec::new();
        }
    }
    !steps.is_lost
}

/// Returns a document as it is; `None` if it is not here. Loads it if it holds a list or a text.
///
/// # Errors
///
/// [`Failure`] if it cannot be read.
pub async fn snapshot(repo: &Repo, document: DocumentId) -> Result<Option<Snapshot>, Failure> {
    let read = repo.look(move |tx| {
        let Some(state) = ledger::state(tx, &document)? else { return Ok(None) };
        let mut parents = Parents::new();
        let heads = state.head_hashes();
        match map_of_fields(tx, &document, &ObjectId::Root, 0, &mut parents) {
            Ok(value) => Ok(Some(Some(Snapshot { heads, value, source: Source::Fields(parents) }))),
            Err(Stop::Store(error)) => Err(error),
            // The document itself says what is too deep.
            Err(Stop::Sequence | Stop::TooDeep) => Ok(Some(None)),
        }
    });
    match read.await? {
        None => Ok(None),
        Some(Some(snapshot)) => Ok(Some(snapshot)),
        Some(None) => {
            let Some(handle) = repo.find(document).await? else { return Ok(None) };
            Ok(Some(handle.observe(|automerge| load(automerge)).await??))
        }
    }
}

/// Reads a loaded document whole, and begins its trail.
fn load(automerge: &Automerge) -> (Result<Snapshot, DocumentError>, Option<Observer>) {
    let trail = Trail::default();
    let observer = trail.observer();
    let value = Look { automerge, heads: None }.root();
    (value.map(|value| Snapshot { heads: heads_of(automerge), value, source: Source::Loaded(trail) }), Some(observer))
}

/// Returns the document's heads, in the order in which the ledger gives them.
fn heads_of(automerge: &Automerge) -> Vec<ChangeHash> {
    let mut heads = automerge.get_heads();
    heads.sort_unstable();
    heads
}

/// Returns what happened to a document since it was at `shown`.
///
/// # Errors
///
/// [`Failure`] if it cannot be read; then nothing was taken, except from the trail: show it afresh.
pub async fn news(repo: &Repo, document: DocumentId, shown: Vec<ChangeHash>, source: Source) -> Result<News, Failure> {
    let trail = match source {
        Source::Loaded(trail) => Some(trail),
        Source::Fields(parents) => {
            let known = shown.clone();
            let read = repo.look(move |tx| match from_fields(tx, &document, &known, parents) {
                Ok(news) => Ok(Some(news)),
                Err(Stop::Sequence | Stop::TooDeep | Stop::Store(StoreError::Folded)) => Ok(None),
                Err(Stop::Store(error)) => Err(error),
            });
            if let Some(news) = read.await? {
                return Ok(news);
            }
            None
        }
    };
    let Some(handle) = repo.find(document).await? else { return Ok(News::Gone) };
    let read = handle.observe(move |automerge| match from_trail(automerge, &shown, trail) {
        Ok((news, observer)) => (Ok(news), observer),
        // A state that is no more, as when changes were taken out.
        Err(DocumentError::UnknownHeads { .. }) => {
            let (snapshot, observer) = load(automerge);
            (snapshot.map(News::All), observer)
        }
        Err(error) => (Err(error), None),
    });
    Ok(read.await??)
}

/// Takes the news of a loaded document from its trail, or compares the two states if there is none.
fn from_trail(
    automerge: &Automerge,
    shown: &[ChangeHash],
    trail: Option<Trail>,
) -> Result<(News, Option<Observer>), DocumentError> {
    let heads = heads_of(automerge);
    if let Some(trail) = trail
        && let Some(patches) = trail.take()
    {
        return Ok((News::Patches(patches, heads, Source::Loaded(trail)), None));
    }
    let missing = automerge.get_missing_deps(shown);
    if !missing.is_empty() {
        return Err(DocumentError::UnknownHeads { missing });
    }
    let trail = Trail::default();
    let observer = trail.observer();
    let patches = convert(&Look { automerge, heads: None }, automerge.diff(shown, &heads))?;
    Ok((News::Patches(patches, heads, Source::Loaded(trail)), Some(observer)))
}

/// Reads the news of a document of maps off the changes since `shown` and the registers, in one look.
fn from_fields(
    tx: &dyn ReadTx,
    document: &DocumentId,
    shown: &[ChangeHash],
    mut parents: Parents,
) -> Result<News, Stop> {
    let Some(state) = ledger::state(tx, document)? else { return Ok(News::Gone) };
    let heads = state.head_hashes();
    if heads == shown {
        return Ok(News::Patches(Vec::new(), heads, Source::Fields(parents)));
    }
    let is_known = shown.iter().map(|hash| ledger::position(tx, document, hash).map(|found| found.is_some()));
    let is_known = is_known.collect::<Result<Vec<_>, _>>()?.into_iter().all(|known| known);
    let changes = if is_known { ledger::missing(tx, document, &state, shown)? } else { Vec::new() };
    if !is_known || changes.len() > CHANGES_MAX {
        parents.clear();
        let value = map_of_fields(tx, document, &ObjectId::Root, 0, &mut parents)?;
        return Ok(News::All(Snapshot { heads, value, source: Source::Fields(parents) }));
    }
    let mut touched = BTreeSet::new();
    for position in changes {
        let bytes = ledger::change(tx, document, position)?;
        let change = CheckedChange::parse(&bytes).map_err(|_| StoreError::Damaged { what: "change-1" })?;
        touch(&change, &mut touched)?;
    }
    let mut reading = Reading { tx, document, parents: &mut parents, whole: HashSet::new(), patches: Vec::new() };
    reading.read(touched)?;
    let patches = reading.patches;
    Ok(News::Patches(patches, heads, Source::Fields(parents)))
}

/// Collects the fields that a change touches.
fn touch(change: &CheckedChange, touched: &mut BTreeSet<(ObjectId, String)>) -> Result<(), Stop> {
    for op in change.ops() {
        let KeyRef::Map(key) = op.key else { return Err(Stop::Sequence) };
        if matches!(op.action, Action::MakeList | Action::MakeText) {
            return Err(Stop::Sequence);
        }
        let object = match op.object {
            ObjectRef::Root => ObjectId::Root,
            ObjectRef::Op(made) => {
                // The gate has checked that the index is one of the change's actors.
                let index = usize::try_from(made.actor_index).unwrap_or(0);
                let actor = change.actors().get(index).unwrap_or(change.actor()).clone();
                ObjectId::Made(OpId { counter: made.counter, actor })
            }
        };
        touched.insert((object, key.to_owned()));
    }
    Ok(())
}

/// Reads touched fields from the registers.
struct Reading<'a> {
    tx: &'a dyn ReadTx,
    document: &'a DocumentId,
    parents: &'a mut Parents,
    /// Maps that were sent whole.
    whole: HashSet<ObjectId>,
    patches: Vec<Json>,
}

impl Reading<'_> {
    fn read(&mut self, touched: BTreeSet<(ObjectId, String)>) -> Result<(), Stop> {
        let mut found = Vec::with_capacity(touched.len());
        for (object, key) in touched {
            if let Some(path) = self.path(&object)? {
                found.push((path, object, key));
            }
        }
        // What is sent whole comes before what is inside it.
        found.sort_by_key(|(path, ..)| path.len());
        for (mut path, object, key) in found {
            if self.is_sent(&object) {
                continue;
            }
            let values = fields::get_all(self.tx, self.document, &object, &key)?;
            let has_conflict = values.len() > 1;
            path.push(Step::Key(key.clone()));
            let path_json = path_to_json(&path);
            match values.into_iter().next() {
                None => self.patches.push(json!(["delete", path_json])),
                Some((_, value)) => {
                    let value = self.value((&object, &key), value, path.len())?;
                    self.patches.push(json!(["set", path_json, value]));
                }
            }
            if has_conflict {
                self.patches.push(json!(["conflict", path_to_json(&path)]));
            }
        }
        Ok(())
    }

    /// Says whether a map is in what was sent whole.
    fn is_sent(&self, object: &ObjectId) -> bool {
        let mut at = object;
        while !self.whole.contains(at) {
            match self.parents.get(at) {
                Some((parent, _)) => at = parent,
                None => return false,
            }
        }
        true
    }

    fn value(&mut self, place: (&ObjectId, &str), value: FieldValue, depth: usize) -> Result<Json, Stop> {
        let mut inside = Parents::new();
        let json = field(self.tx, self.document, place, value, depth, &mut inside)?;
        self.whole.extend(inside.keys().cloned());
        self.parents.extend(inside);
        Ok(json)
    }

    /// Returns where a map stands; `None` if the root does not lead to it now.
    fn path(&self, object: &ObjectId) -> Result<Option<Vec<Step>>, StoreError> {
        let mut path = Vec::new();
        let mut at = object;
        while *at != ObjectId::Root {
            let Some((parent, key)) = self.parents.get(at) else { return Ok(None) };
            match fields::get(self.tx, self.document, parent, key)? {
                Some(FieldValue::Object(_, winner)) if winner == *at => {}
                _ => return Ok(None),
            }
            path.push(Step::Key(key.clone()));
            at = parent;
        }
        path.reverse();
        Ok(Some(path))
    }
}

/// A document that pages have open.
#[derive(Debug, Default)]
pub struct Watched {
    /// Who has it open, and the greatest id of an edit of theirs that was done.
    pub viewers: HashMap<String, u64>,
    /// What they were shown last.
    pub shown: Vec<ChangeHash>,
    /// How many patches were sent.
    pub count: u64,
    /// How to go on; taken away while that is done.
    pub source: Option<Source>,
    /// Whether something happened since, and whether all of it was done here.
    pub dirty: Option<bool>,
    /// Whether an edit of a viewer was done that no patch has told yet.
    pub has_done: bool,
}

impl Watched {
    /// Notes that something happened.
    pub fn touch(&mut self, is_local: bool) {
        self.dirty = Some(self.dirty.unwrap_or(true) && is_local);
    }
}
