//! History: who changed what, how the document was, forks and merges between documents.

use std::collections::HashSet;
use std::ops::ControlFlow;

use automerge::{ActorId, ChangeHash};

use super::{ChangeOptions, DocHandle};
use crate::document::{self, DocumentError, FieldPath, Mark, Patch, Quarantined, Reader, Span};
use crate::fields::FieldValue;
use crate::gate::CheckedChange;
use crate::gate::leb;
use crate::id::{DocumentId, OpId, SpaceId};
use crate::ledger;
use crate::repo::files::new_document;
use crate::repo::{RepoError, Written};
use crate::store::{ReadTx, StoreError};

/// The first byte of a change's author footer.
const AUTHOR_FOOTER: u8 = 1;

/// One change of a document's history.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryEntry {
    /// The change.
    pub hash: ChangeHash,
    /// The changes it follows: the heads its author knew.
    pub deps: Vec<ChangeHash>,
    /// Who made it: an actor is one document in one process.
    pub actor: ActorId,
    /// The person or account behind the actor, in bytes of the application's choice. Automerge writes it into the first
    /// change of an actor, so it stands in that entry only.
    pub author: Option<Vec<u8>>,
    /// Which change of that actor it is, from 1.
    pub seq: u64,
    /// When its author says it was made, in seconds since the Unix epoch.
    pub time_seconds: i64,
    /// Its message, if it has one.
    pub message: Option<String>,
    /// How many operations it holds.
    pub op_count: u64,
}

impl HistoryEntry {
    fn of(change: &CheckedChange) -> Self {
        Self {
            hash: change.hash(),
            deps: change.deps().to_vec(),
            actor: change.actor().clone(),
            author: author(change.extra_bytes()),
            seq: change.seq(),
            time_seconds: change.timestamp(),
            message: change.message().map(str::to_owned),
            op_count: change.op_count(),
        }
    }
}

/// Reads an author footer: its type byte, then the author's bytes with their length before them.
fn author(extra: &[u8]) -> Option<Vec<u8>> {
    let mut reader = leb::Reader::new(extra);
    if reader.byte().ok()? != AUTHOR_FOOTER {
        return None;
    }
    let length = reader.unsigned().ok()?;
    Some(reader.take(length).ok()?.to_vec())
}

impl DocHandle {
    /// Returns every change of the document, oldest first. Does not load it. Cost: reads all its changes.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read.
    pub async fn history(&self) -> Result<Vec<HistoryEntry>, RepoError> {
        let document = self.document;
        let read = self.repo.read(move |tx| {
            let mut entries = Vec::new();
            visit_changes(tx, &document, &mut |_, change| entries.push(HistoryEntry::of(&change)))?;
            Ok(entries)
        });
        read.await
    }

    /// Looks back: returns the document as it was at some heads. Hold on to [`DocHandle::heads`] to come back to a state.
    ///
    /// Cost: one lookup a head; reading from it loads the document.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), rejoin::RepoError> {
    /// use rejoin::repo::ChangeOptions;
    /// use rejoin::{Edit, Repo};
    ///
    /// let note = Repo::in_memory()?.create().await?;
    /// note.edit_with(ChangeOptions::message("first draft"), vec![Edit::set("title", "Groceries")]).await?;
    /// let draft = note.heads().await?;
    /// note.set("title", "Shopping").await?;
    ///
    /// let then = note.at(&draft).await?;
    /// assert_eq!(then.get("title").await?.unwrap().as_str(), Some("Groceries"));
    /// assert_eq!(note.history().await?[0].message.as_deref(), Some("first draft"));
    ///
    /// note.restore(&draft).await?;
    /// assert_eq!(note.get("title").await?.unwrap().as_str(), Some("Groceries"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RepoError::Document`] with [`DocumentError::UnknownHeads`] if the document lacks one of them.
    pub async fn at(&self, heads: &[ChangeHash]) -> Result<DocView, RepoError> {
        let (document, asked) = (self.document, heads.to_vec());
        let missing = self.repo.read(move |tx| unknown(tx, &document, &asked)).await?;
        if !missing.is_empty() {
            return Err(DocumentError::UnknownHeads { missing }.into());
        }
        Ok(DocView { handle: self.clone(), heads: heads.to_vec() })
    }

    /// Returns the steps that lead from one state to another, forwards or backwards; no heads are the empty document.
    /// Loads the document. Cost: O(document).
    ///
    /// # Errors
    ///
    /// As [`DocHandle::at`].
    pub async fn diff(&self, from: &[ChangeHash], to: &[ChangeHash]) -> Result<Vec<Patch>, RepoError> {
        let (from, to) = (from.to_vec(), to.to_vec());
        Ok(self.view(move |automerge| document::diff(automerge, &from, &to)).await??)
    }

    /// Makes a new document in this one's space, with its history: a branch, to be merged back with [`DocHandle::merge_from`].
    ///
    /// Does not load the document. Cost: reads and writes all its changes.
    ///
    /// # Errors
    ///
    /// [`RepoError::NotFound`] if the document is not here; [`RepoError`] if the store cannot be read or written.
    pub async fn fork(&self) -> Result<DocHandle, RepoError> {
        let heads = self.heads().await?;
        self.fork_at(&heads).await
    }

    /// Makes a new document with this one's history up to some heads. Cost: as [`DocHandle::fork`].
    ///
    /// # Errors
    ///
    /// As [`DocHandle::fork`] and [`DocHandle::at`].
    pub async fn fork_at(&self, heads: &[ChangeHash]) -> Result<DocHandle, RepoError> {
        self.fork_as(new_document(), heads).await
    }

    /// Makes a new document as [`DocHandle::fork_at`] does, under an id that the caller made. One that is there already takes
    /// in what it lacks. Cost: as [`DocHandle::fork`].
    ///
    /// # Errors
    ///
    /// As [`DocHandle::fork_at`]; [`RepoError::Deleted`] if a document of that id was deleted everywhere; [`RepoError::Elsewhere`] if
    /// it is known to be in another space and not here.
    pub async fn fork_as(&self, id: DocumentId, heads: &[ChangeHash]) -> Result<DocHandle, RepoError> {
        let (space, changes) = self.changes_at(heads).await?;
        self.repo.store_as(space, id, changes).await
    }

    /// Reads the document's space and its changes up to some heads.
    async fn changes_at(&self, heads: &[ChangeHash]) -> Result<(SpaceId, Vec<CheckedChange>), RepoError> {
        let (document, asked) = (self.document, heads.to_vec());
        let changes = self.repo.read(move |tx| {
            let Some(state) = ledger::state(tx, &document)? else { return Ok(Err(RepoError::NotFound)) };
            let missing = unknown(tx, &document, &asked)?;
            if !missing.is_empty() {
                return Ok(Err(DocumentError::UnknownHeads { missing }.into()));
            }
            let later: HashSet<u64> = ledger::missing(tx, &document, &state, &asked)?.into_iter().collect();
            let mut changes = Vec::new();
            visit_changes(tx, &document, &mut |position, change| {
                if !later.contains(&position) {
                    changes.push(change);
                }
            })?;
            Ok(Ok((ledger::spaces::of(tx, &document)?, changes)))
        });
        match changes.await? {
            Err(RepoError::NotFound) => Err(self.repo.absent(document).await),
            changes => changes,
        }
    }

    /// Takes in all changes of another document that this one lacks, and returns how many there were. The other one may be
    /// of another repo; it should have a part of its history in common, or the two root maps are merged field by field.
    ///
    /// Does not load either document. Cost: those changes.
    ///
    /// # Errors
    ///
    /// [`RepoError::Merge`] if one of them breaks a rule here, as when an actor wrote in both apart; the others are in.
    /// [`RepoError::NotFound`] if this document is not here.
    pub async fn merge_from(&self, other: &DocHandle) -> Result<usize, RepoError> {
        let have = self.heads().await?;
        let source = other.document;
        let changes = other.repo.read(move |tx| {
            let Some(state) = ledger::state(tx, &source)? else { return Ok(None) };
            let positions = ledger::missing(tx, &source, &state, &have)?;
            let changes = positions.into_iter().map(|position| parse(&ledger::change(tx, &source, position)?));
            changes.collect::<Result<Vec<_>, StoreError>>().map(Some)
        });
        let Some(changes) = changes.await? else { return Err(other.repo.absent(source).await) };
        if changes.is_empty() {
            return Ok(0);
        }
        let accepted = self.repo.store_into(self.document, None, changes).await?;
        match accepted.refused {
            Some(reason) => Err(RepoError::Merge { reason }),
            None => Ok(accepted.stored),
        }
    }

    /// Writes a historic state back, as one new change that says what differs: nothing of the history is lost. Objects
    /// that are still there are changed in place, so that what others write to them merges. Loads the document.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::at`] and [`DocHandle::change`].
    pub async fn restore(&self, heads: &[ChangeHash]) -> Result<Written, RepoError> {
        self.restore_with(ChangeOptions::default(), heads).await
    }

    /// Writes a historic state back as [`DocHandle::restore`] does, and says why or when.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::restore`].
    pub async fn restore_with(&self, options: ChangeOptions, heads: &[ChangeHash]) -> Result<Written, RepoError> {
        let heads = heads.to_vec();
        let plan = move |automerge: &automerge::Automerge| {
            let write = document::restore(automerge, &heads)?;
            Ok((None, move |tx: &mut automerge::transaction::Transaction<'_>| Ok(write(tx)?)))
        };
        Ok(self.change_planned(options, plan, |_| {}).await?.1)
    }

    /// Returns the changes that are stored and synced but left out of the document, because Automerge cannot take them or
    /// they depend on one that it cannot take. Loads the document.
    ///
    /// Fields are not affected by it: the register table holds what these changes wrote to them. A field that is written
    /// after such a change arrived depends on it, as every write does on all that is stored: the register shows it, the
    /// document does not.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the document cannot be loaded.
    pub async fn quarantined(&self) -> Result<Vec<Quarantined>, RepoError> {
        self.call_loaded(|loaded| loaded.materialised.quarantined().to_vec()).await
    }
}

/// A document as it was at some heads. Cheap to clone; each reading goes to the loaded document.
///
/// All readings return [`RepoError::Document`] if the document cannot be loaded, or no longer holds those heads.
#[derive(Debug, Clone)]
pub struct DocView {
    handle: DocHandle,
    heads: Vec<ChangeHash>,
}

impl DocView {
    /// Returns the heads that are looked at.
    pub fn heads(&self) -> &[ChangeHash] {
        &self.heads
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader<'_>) -> Result<T, DocumentError> + Send + 'static,
    ) -> Result<T, RepoError> {
        let heads = self.heads.clone();
        Ok(self.handle.view(move |automerge| read(&Reader::at(automerge, &heads)?)).await??)
    }

    /// Reads a field or element: the winner at that time, or `None`.
    ///
    /// # Errors
    ///
    /// As all readings of [`DocView`].
    pub async fn get(&self, path: impl Into<FieldPath>) -> Result<Option<FieldValue>, RepoError> {
        let path = path.into();
        self.read(move |reader| reader.get(&path)).await
    }

    /// Reads a field or element with its conflicts, the winner first.
    ///
    /// # Errors
    ///
    /// As all readings of [`DocView`].
    pub async fn get_all(&self, path: impl Into<FieldPath>) -> Result<Vec<(OpId, FieldValue)>, RepoError> {
        let path = path.into();
        self.read(move |reader| reader.get_all(&path)).await
    }

    /// Returns the keys of a map, sorted.
    ///
    /// # Errors
    ///
    /// As all readings of [`DocView`].
    pub async fn keys(&self, path: impl Into<FieldPath>) -> Result<Vec<String>, RepoError> {
        let path = path.into();
        self.read(move |reader| reader.keys(&path)).await
    }

    /// Returns how many elements a list had, or `None` if there was no list.
    ///
    /// # Errors
    ///
    /// As all readings of [`DocView`].
    pub async fn list_len(&self, path: impl Into<FieldPath>) -> Result<Option<usize>, RepoError> {
        let path = path.into();
        self.read(move |reader| reader.list_len(&path)).await
    }

    /// Returns a text, or `None` if there was none.
    ///
    /// # Errors
    ///
    /// As all readings of [`DocView`].
    pub async fn text(&self, path: impl Into<FieldPath>) -> Result<Option<String>, RepoError> {
        let path = path.into();
        self.read(move |reader| reader.text(&path)).await
    }

    /// Returns the marks of a text, or `None` if there was no text.
    ///
    /// # Errors
    ///
    /// As all readings of [`DocView`].
    pub async fn marks(&self, path: impl Into<FieldPath>) -> Result<Option<Vec<Mark>>, RepoError> {
        let path = path.into();
        self.read(move |reader| reader.marks(&path)).await
    }

    /// Returns a text as runs of equally marked text and blocks, or `None` if there was no text.
    ///
    /// # Errors
    ///
    /// As all readings of [`DocView`].
    pub async fn spans(&self, path: impl Into<FieldPath>) -> Result<Option<Vec<Span>>, RepoError> {
        let path = path.into();
        self.read(move |reader| reader.spans(&path)).await
    }

    /// Returns the whole document as JSON.
    ///
    /// # Errors
    ///
    /// As all readings of [`DocView`].
    pub async fn to_json(&self) -> Result<serde_json::Value, RepoError> {
        self.read(|reader| reader.to_json()).await
    }

    /// Returns what stood at a path as JSON, or `None`.
    ///
    /// # Errors
    ///
    /// As all readings of [`DocView`].
    pub async fn json_of(&self, path: impl Into<FieldPath>) -> Result<Option<serde_json::Value>, RepoError> {
        let path = path.into();
        self.read(move |reader| reader.json_of(&path)).await
    }
}

impl ChangeOptions {
    /// Makes options with a message for the history.
    pub fn message(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..Self::default() }
    }
}

/// Returns those hashes that are no changes of the document.
fn unknown(tx: &dyn ReadTx, document: &DocumentId, hashes: &[ChangeHash]) -> Result<Vec<ChangeHash>, StoreError> {
    let mut missing = Vec::new();
    for hash in hashes {
        if ledger::position(tx, document, hash)?.is_none() {
            missing.push(*hash);
        }
    }
    Ok(missing)
}

/// Visits all changes with their positions, oldest first.
fn visit_changes(
    tx: &dyn ReadTx,
    document: &DocumentId,
    visit: &mut dyn FnMut(u64, CheckedChange),
) -> Result<(), StoreError> {
    let mut position = 0;
    let mut failed = None;
    ledger::export(tx, document, 0, &mut |bytes| {
        match parse(bytes) {
            Ok(change) => visit(position, change),
            Err(error) => failed = Some(error),
        }
        position += 1;
        if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    failed.map_or(Ok(()), Err)
}

/// Reads a change that the gate let into the store: what does not parse was damaged there.
fn parse(bytes: &[u8]) -> Result<CheckedChange, StoreError> {
    CheckedChange::parse(bytes).map_err(|_| StoreError::Damaged { what: "change-1" })
}
