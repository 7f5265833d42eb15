//! The document: Automerge in memory, made from the ledger when text, lists or history are asked for, dropped afterwards.
//!
//! Indices count UTF-16 code units on every platform, as JavaScript does, so that a position means the same everywhere.

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::transaction::{CommitOptions, Transaction};
use automerge::{ActorId, Automerge, AutomergeError, Change, ChangeHash, PatchLog, ReadDoc, TextEncoding};

use crate::gate::{CheckedChange, GateError};
use crate::id::DocumentId;
use crate::ledger::{self, snapshot};
use crate::limits::QUARANTINE_CULPRITS_MAX;
use crate::store::{ReadTx, StoreError};

mod at;
pub mod json;
mod patch;
mod path;
mod quarantine;
mod read;
mod restore;
mod rich;
mod salvage;
pub mod whole;
pub mod write;

pub use at::base_of;
pub use patch::{Patch, PatchAction, diff};
pub use path::{FieldPath, Step};
pub use quarantine::Quarantined;
pub use read::Reader;
pub use restore::restore;
pub use rich::{Cursor, CursorMove, Expand, Mark, ParseCursorError, Span};
pub use salvage::{Lost, Salvaged, salvage};
pub use write::Element;

/// Who makes a change, when, and why.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The message, for the history.
    pub message: Option<String>,
    /// Seconds since the Unix epoch, for display only: no merge depends on it.
    pub time_seconds: i64,
}

/// Sees every step of a document in memory, with the document as it is after the step, until it returns false.
///
/// The patches of one step lead from the state before it to the state after it. Patches of a map, list or text come before
/// those of what is inside it.
pub type Observer = Box<dyn FnMut(&Automerge, Vec<automerge::Patch>) -> bool + Send>;

/// A document in memory.
///
/// It holds no transaction of the store: [`Materialised::catch_up`] takes in what the ledger has gained since.
pub struct Materialised {
    document: DocumentId,
    automerge: Automerge,
    /// Everything below this position of the ledger is in, or in quarantine.
    upto: u64,
    /// Changes made here that the ledger may not show yet, oldest first.
    own: VecDeque<ChangeHash>,
    /// Changes of the ledger that are left out, in its order.
    quarantine: Vec<Quarantined>,
    observer: Option<Observer>,
}

impl std::fmt::Debug for Materialised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Materialised")
            .field("document", &self.document)
            .field("upto", &self.upto)
            .finish_non_exhaustive()
    }
}

impl Materialised {
    /// Makes an empty document that [`Materialised::catch_up`] fills. Edits will be `actor`'s.
    ///
    /// The actor must be new to the document, or its own last user: one that another process uses too breaks both.
    pub fn new(document: DocumentId, actor: ActorId) -> Self {
        let automerge = Automerge::new_with_encoding(TextEncoding::Utf16CodeUnit).with_actor(actor);
        Self { document, automerge, upto: 0, own: VecDeque::new(), quarantine: Vec::new(), observer: None }
    }

    /// Says whether nothing was taken in yet.
    pub fn is_new(&self) -> bool {
        self.upto == 0 && self.own.is_empty()
    }

    /// Begins with the store's own copy of the first changes, where there is one that loads. For a document made by
    /// [`Materialised::new`]; faster than taking the changes in one by one, and the only way while they are folded.
    ///
    /// # Errors
    ///
    /// [`DocumentError::Store`] if the store cannot be read.
    pub fn begin(&mut self, tx: &dyn ReadTx) -> Result<(), DocumentError> {
        let Some(info) = snapshot::info(tx, &self.document)? else { return Ok(()) };
        let Some(chunk) = snapshot::chunk(tx, &self.document)? else { return Ok(()) };
        let actor = self.automerge.get_actor().clone();
        match guarded(|| whole::load(&chunk)) {
            Ok(Ok(automerge)) if automerge.get_heads() == info.heads => {
                self.automerge = automerge.with_actor(actor);
                self.upto = info.count;
            }
            // The changes are there, unless they are folded; then catching up says so.
            _ => tracing::warn!(document = %self.document.label(), "a snapshot does not load"),
        }
        Ok(())
    }

    /// Begins with a document that was just taken in whole, all its changes below position `count`.
    pub(crate) fn adopt(document: DocumentId, automerge: Automerge, count: u64) -> Self {
        Self { document, automerge, upto: count, own: VecDeque::new(), quarantine: Vec::new(), observer: None }
    }

    /// Leaves these changes out, and whatever depends on them: what [`Materialised::quarantined`] told of an earlier one.
    #[must_use]
    pub fn without(mut self, quarantine: Vec<Quarantined>) -> Self {
        self.quarantine = quarantine;
        self
    }

    /// Returns the document as Automerge has it.
    pub fn automerge(&self) -> &Automerge {
        &self.automerge
    }

    /// Returns the changes that are stored and left out, because Automerge cannot take them.
    pub fn quarantined(&self) -> &[Quarantined] {
        &self.quarantine
    }

    /// Has every later step of this document observed, by this observer instead of an earlier one. It goes with the document:
    /// one that is made anew from the ledger has none.
    pub fn observe(&mut self, observer: Observer) {
        self.observer = Some(observer);
    }

    /// Takes in the changes that the ledger has gained. Cost: those changes.
    ///
    /// They are applied to the document itself, not to a copy, which would cost O(document) for each keystroke that
    /// arrives. That is safe because a document on which this failed is never read again.
    ///
    /// # Errors
    ///
    /// [`DocumentError`] if the store cannot be read or Automerge refuses a change; the document must then be dropped and
    /// made anew, it may be half-way. [`Materialised::catch_up_isolating`] finds the change that did it.
    pub fn catch_up(&mut self, tx: &dyn ReadTx) -> Result<(), DocumentError> {
        let (changes, upto) = self.news(tx)?;
        if !changes.is_empty() {
            self.take_in(changes)?;
        }
        self.upto = upto;
        Ok(())
    }

    /// Applies changes as one step, and shows it to the observer.
    fn take_in(&mut self, changes: Vec<Change>) -> Result<(), DocumentError> {
        let mut log = PatchLog::new(self.observer.is_some());
        guarded(|| self.automerge.apply_changes_log_patches(changes, &mut log))??;
        self.tell(|automerge| automerge.make_patches(&mut log))
    }

    /// Shows a step to the observer, if there is one.
    fn tell(&mut self, patches: impl FnOnce(&Automerge) -> Vec<automerge::Patch>) -> Result<(), DocumentError> {
        let Some(mut observer) = self.observer.take() else { return Ok(()) };
        let automerge = &self.automerge;
        if guarded(|| observer(automerge, patches(automerge)))? {
            self.observer = Some(observer);
        }
        Ok(())
    }

    /// Takes in the changes of the ledger and leaves out those that Automerge cannot take, with all that depend on them.
    ///
    /// For a document made by [`Materialised::new`] after [`Materialised::catch_up`] failed. Each step is applied to a
    /// copy, and the step that fails is halved until one change is left. Cost: O(document x log(changes)) for each such
    /// change, and an author can bring in one at most, for the next ones of the same author depend on it.
    ///
    /// # Errors
    ///
    /// [`DocumentError::Store`] if the store cannot be read. [`DocumentError::Refused`] beyond
    /// [`QUARANTINE_CULPRITS_MAX`].
    pub fn catch_up_isolating(&mut self, tx: &dyn ReadTx) -> Result<(), DocumentError> {
        let (changes, upto) = self.news(tx)?;
        let mut apply = |automerge: &mut Automerge, changes: &[Change]| Ok(automerge.apply_changes(changes.to_vec())?);
        let (automerge, mut culprits) = quarantine::isolate(&self.automerge, &changes, &mut apply)?;
        self.automerge = automerge;
        self.quarantine.append(&mut culprits);
        self.upto = upto;
        Ok(())
    }

    /// Takes in the changes of the ledger one at a time, and tells of each before: for where no panic can be caught.
    ///
    /// # Errors
    ///
    /// As [`Materialised::catch_up`].
    pub fn catch_up_singly(&mut self, tx: &dyn ReadTx, tell: &mut dyn FnMut(ChangeHash)) -> Result<(), DocumentError> {
        let (changes, upto) = self.news(tx)?;
        for change in changes {
            tell(change.hash());
            self.take_in(vec![change])?;
        }
        self.upto = upto;
        Ok(())
    }

    /// Reads the changes that the ledger has gained, without those that are in already or must stay out.
    fn news(&mut self, tx: &dyn ReadTx) -> Result<(Vec<Change>, u64), DocumentError> {
        let count = ledger::state(tx, &self.document)?.map_or(0, |state| state.count);
        if count <= self.upto {
            return Ok((Vec::new(), self.upto));
        }
        let mut changes = Vec::new();
        let mut failed = None;
        let mut position = self.upto;
        let mut own = std::mem::take(&mut self.own);
        let mut out: HashSet<ChangeHash> = self.quarantine.iter().map(|left_out| left_out.hash).collect();
        let mut left_out = Vec::new();
        ledger::export(tx, &self.document, self.upto, &mut |bytes| {
            let here = position;
            position += 1;
            // A change of our own comes back: it is in already. A chunk's checksum is the beginning of its hash.
            let ours = own.front().filter(|hash| bytes.get(4..8) == Some(&hash.0[..4]));
            if ours.is_some_and(|hash| matches!(ledger::position(tx, &self.document, hash), Ok(Some(at)) if at == here))
            {
                own.pop_front();
                return ControlFlow::Continue(());
            }
            match guarded(|| Change::from_bytes(bytes.to_vec())) {
                Ok(Ok(change)) if out.contains(&change.hash()) => {}
                Ok(Ok(change)) => match Quarantined::follower(&change, &out) {
                    Some(follower) => {
                        out.insert(follower.hash);
                        left_out.push(follower);
                    }
                    None => changes.push(change),
                },
                refused => match ledger::node(tx, &self.document, here) {
                    Ok(node) if out.insert(node.hash) => left_out.push(Quarantined::undecodable(node.hash, refused)),
                    Ok(_) => {}
                    Err(error) => failed = Some(error),
                },
            }
            if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        self.own = own;
        self.quarantine.append(&mut left_out);
        failed.map_or(Ok((changes, position)), |error| Err(error.into()))
    }

    /// Runs an edit and commits it as one change; `None` when nothing was changed.
    ///
    /// The change is in this document at once, and must be appended to the ledger before any later one of this document.
    ///
    /// # Errors
    ///
    /// What the edit returned: nothing was changed then. [`DocumentError::Panicked`] if Automerge panicked: drop the
    /// document then.
    pub fn edit<T, E: From<DocumentError>>(
        &mut self,
        commit: &Commit,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<(T, Option<CheckedChange>), E> {
        self.edit_at(commit, None, edit)
    }

    /// Runs an edit as [`Materialised::edit`] does, on the document as it was at some heads: indices mean what they meant
    /// there, and the change merges with what came since. [`base_of`] finds such heads; `None` is the document as it is.
    ///
    /// Where the actor itself wrote something since, the change is another actor's, whose name is the actor's with a number
    /// behind it: the changes of one actor follow upon each other. Cost: with an observer, O(document).
    ///
    /// # Errors
    ///
    /// As [`Materialised::edit`].
    pub fn edit_at<T, E: From<DocumentError>>(
        &mut self,
        commit: &Commit,
        base: Option<&[ChangeHash]>,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<(T, Option<CheckedChange>), E> {
        let mut options = CommitOptions::default().with_time(commit.time_seconds);
        if let Some(message) = &commit.message {
            options.set_message(message.clone());
        }
        let before = base.map(|_| self.automerge.get_heads());
        let log = PatchLog::new(self.observer.is_some() && base.is_none());
        let automerge = &mut self.automerge;
        let outcome = guarded(|| {
            let transaction = match base {
                Some(heads) => automerge.transaction_at(log, heads),
                None => automerge.transaction_log_patches(log),
            };
            // A log that was just made belongs to every document.
            let mut transaction = transaction.map_err(|_| DocumentError::Panicked)?;
            match edit(&mut transaction) {
                Ok(value) => {
                    let (hash, log) = transaction.commit_with(options);
                    let change = hash.map(|hash| automerge.get_change_by_hash(&hash).ok_or(DocumentError::Panicked));
                    Ok((value, change.transpose()?, log))
                }
                Err(error) => {
                    transaction.rollback();
                    Err(error)
                }
            }
        });
        let (value, change, mut log) = outcome??;
        let Some(change) = change else { return Ok((value, None)) };
        self.tell(|automerge| match before {
            Some(before) => automerge.diff(&before, &automerge.get_heads()),
            None => automerge.make_patches(&mut log),
        })?;
        let change = CheckedChange::parse(change.raw_bytes()).map_err(DocumentError::Gate)?;
        self.own.push_back(change.hash());
        Ok((value, Some(change)))
    }
}

/// Runs a piece of Automerge; a panic in it becomes an error. What it changed must then never be read again.
///
/// # Errors
///
/// [`DocumentError::Panicked`].
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, DocumentError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| DocumentError::Panicked)
}

/// What can go wrong with a document in memory. The stored changes are safe in every case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Automerge says no: a wrong index, a wrong type of object, a value that does not fit.
    #[error("failed to edit the document: {0}")]
    Automerge(#[from] AutomergeError),
    /// A stored change is refused by Automerge.
    #[error("failed to load the document: a change does not decode: {0}")]
    Refused(String),
    /// The edit makes a change that no relay would take.
    #[error("failed to edit the document: {0}")]
    Gate(GateError),
    /// The path does not lead to what the edit needs.
    #[error("failed to edit the document: there is no {wanted} at {path}")]
    Path {
        /// The path.
        path: FieldPath,
        /// What should be there.
        wanted: &'static str,
    },
    /// The index is beyond the end.
    #[error("failed to use the document: index {index} is beyond the end, {length}")]
    Index {
        /// The index; in a text, in UTF-16 code units.
        index: usize,
        /// How long the list or text is.
        length: usize,
    },
    /// The range is empty, turned round, or reaches beyond the end.
    #[error("failed to edit the document: the range {}..{} is empty or reaches beyond the end, {length}", .range.start, .range.end)]
    Range {
        /// The range, in UTF-16 code units.
        range: std::ops::Range<usize>,
        /// How long the text is.
        length: usize,
    },
    /// The cursor stands at nothing in this text or list.
    #[error("failed to find the cursor: it is of another text, or of a change that is not here yet")]
    Cursor,
    /// A text's index holds a character, not a block.
    #[error("failed to edit the document: no block begins at index {index} of the text")]
    NoBlock {
        /// The index, in UTF-16 code units.
        index: usize,
    },
    /// Values are nested beyond [`crate::limits::JSON_DEPTH_MAX`].
    #[error("failed to use the document: more than {} levels are nested", crate::limits::JSON_DEPTH_MAX)]
    TooDeep,
    /// The document does not hold the state that was asked for.
    #[error("failed to look back: {} of the heads are no changes of this document, or are in quarantine", .missing.len())]
    UnknownHeads {
        /// The hashes that are not there.
        missing: Vec<ChangeHash>,
    },
    /// Automerge panicked; the document was dropped and will be made anew.
    #[error("failed to use the document: Automerge panicked; it is loaded afresh the next time")]
    Panicked,
}

#[cfg(test)]
mod tests {
    use automerge::transaction::Transactable;
    use automerge::{ObjType, ROOT, ReadDoc};

    use super::*;
    use crate::store::{MemoryStore, Store, StoreExt};

    const DOCUMENT: DocumentId = DocumentId::from_bytes([1; 16]);
    const COMMIT: Commit = Commit { message: None, time_seconds: 7 };

    fn append(store: &MemoryStore, change: &CheckedChange) {
        store
            .write_with(|tx| {
                let mut appender = ledger::Appender::begin(tx, DOCUMENT)?;
                let appended = appender.append(tx, change)?;
                assert!(matches!(appended, ledger::Appended::Stored { .. }), "{appended:?}");
                appender.finish(tx)
            })
            .expect("memory does not fail");
    }

    fn text(materialised: &Materialised) -> String {
        let (_, text) = materialised.automerge().get(ROOT, "text").expect("root is a map").expect("was set");
        materialised.automerge().text(&text).expect("is a text")
    }

    #[test]
    fn indices_count_utf16_and_edits_come_back_from_the_ledger() -> Result<(), DocumentError> {
        let store = MemoryStore::new();
        let mut here = Materialised::new(DOCUMENT, ActorId::from(&[1; 16]));
        let (object, change) =
            here.edit(&COMMIT, |tx| Ok::<_, DocumentError>(tx.put_object(ROOT, "text", ObjType::Text)?))?;
        append(&store, &change.expect("an object was made"));
        let ((), change) = here.edit(&COMMIT, |tx| Ok::<_, DocumentError>(tx.splice_text(&object, 0, 0, "a😀b")?))?;
        append(&store, &change.expect("text was put in"));
        let ((), change) = here.edit(&COMMIT, |tx| Ok::<_, DocumentError>(tx.splice_text(&object, 3, 0, "!")?))?;
        append(&store, &change.expect("text was put in"));
        here.catch_up(store.read()?.as_ref())?;
        assert_eq!(text(&here), "a😀!b");
        assert!(here.own.is_empty());

        let mut there = Materialised::new(DOCUMENT, ActorId::from(&[2; 16]));
        there.catch_up(store.read()?.as_ref())?;
        assert_eq!(text(&there), "a😀!b");
        Ok(())
    }

    #[test]
    fn failed_and_empty_edits_change_nothing() -> Result<(), DocumentError> {
        let mut here = Materialised::new(DOCUMENT, ActorId::from(&[1; 16]));
        let failed = here.edit(&COMMIT, |tx| {
            tx.put(ROOT, "a", 1)?;
            tx.splice_text(ROOT, 0, 0, "no text")?;
            Ok::<_, DocumentError>(())
        });
        assert!(matches!(failed, Err(DocumentError::Automerge(_))));
        assert!(here.automerge().get_heads().is_empty());
        let ((), change) = here.edit(&COMMIT, |_| Ok::<_, DocumentError>(()))?;
        assert!(change.is_none());
        Ok(())
    }

    #[test]
    fn panic_inside_an_edit_is_an_error() {
        let mut here = Materialised::new(DOCUMENT, ActorId::from(&[1; 16]));
        let panicked = here.edit(&COMMIT, |_| -> Result<(), DocumentError> { unreachable!("as Automerge might") });
        assert!(matches!(panicked, Err(DocumentError::Panicked)));
    }
}
