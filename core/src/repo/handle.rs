//! A document, as the application holds it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use automerge::transaction::{Transactable, Transaction};
use automerge::{ActorId, Automerge, ChangeHash, ObjId, ObjType, ROOT, ReadDoc};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::events::{self, Ephemeral, Events};
use super::{FieldPath, Repo, RepoError, now_seconds};
use crate::document::{self, Commit, DocumentError};
use crate::engine::{self, Accepted, Origin};
use crate::fields::{self, Author, Edit, EditAction, FieldValue, ObjectId, Target};
use crate::gate::CheckedChange;
use crate::id::{DocumentId, OpId, PeerId};
use crate::ledger::{self, Appended};
use crate::store::StoreError;
use crate::value::Value;

/// A document on this device. Cheap to clone; holds nothing in memory by itself.
///
/// Fields (keys of maps) are read and written through the register table: the document is not loaded, however long its
/// history is. Text, lists, typed values and views load it, once, until others push it out.
#[derive(Debug, Clone)]
pub struct DocHandle {
    repo: Repo,
    document: DocumentId,
}

/// One change of a document's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The change.
    pub hash: ChangeHash,
    /// Who made it: an actor is one document in one process.
    pub actor: ActorId,
    /// Which change of that actor it is, from 1.
    pub seq: u64,
    /// When its author says it was made, in seconds since the Unix epoch.
    pub time_seconds: i64,
    /// Its message, if it has one.
    pub message: Option<String>,
    /// How many operations it holds.
    pub op_count: u64,
}

impl DocHandle {
    pub(super) fn new(repo: Repo, document: DocumentId) -> Self {
        Self { repo, document }
    }

    /// Returns the document's id.
    pub fn id(&self) -> DocumentId {
        self.document
    }

    /// Returns the document's URL, `automerge:...`, for other devices.
    pub fn url(&self) -> String {
        self.document.to_url()
    }

    /// Reads a field: the winner, or `None`. Cost: one lookup a key of the path.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read.
    pub async fn get(&self, path: impl Into<FieldPath>) -> Result<Option<FieldValue>, RepoError> {
        Ok(self.get_all(path).await?.into_iter().next().map(|(_, value)| value))
    }

    /// Reads a field with its conflicts: the winner first, then the values that lost against it.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read.
    pub async fn get_all(&self, path: impl Into<FieldPath>) -> Result<Vec<(OpId, FieldValue)>, RepoError> {
        let Some((parents, key)) = path.into().split_last() else { return Ok(Vec::new()) };
        let document = self.document;
        let read = self.repo.read(move |tx| {
            let Some(object) = resolve(tx, &document, &parents)? else { return Ok(Vec::new()) };
            fields::get_all(tx, &document, &object, &key)
        });
        read.await
    }

    /// Returns the keys of a map, sorted; of the root with [`FieldPath::root`].
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read.
    pub async fn keys(&self, path: impl Into<FieldPath>) -> Result<Vec<String>, RepoError> {
        let (document, path) = (self.document, path.into());
        let read = self.repo.read(move |tx| {
            let Some(object) = resolve(tx, &document, path.keys())? else { return Ok(Vec::new()) };
            fields::keys(tx, &document, &object)
        });
        read.await
    }

    /// Returns the whole document as JSON; [`crate::value`] says how. Loads it only if it holds a list or a text.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read or the document not be loaded.
    pub async fn to_json(&self) -> Result<serde_json::Value, RepoError> {
        let document = self.document;
        let from_fields = self.repo.read(move |tx| fields::to_json(tx, &document)).await?;
        match from_fields? {
            Some(json) => Ok(json),
            None => self.view(document::json::to_json).await?.map_err(RepoError::from),
        }
    }

    /// Sets a field. Returns when that survives a power loss on this device; the network follows when there is one.
    ///
    /// # Errors
    ///
    /// [`RepoError::Field`] if the path does not lead to a map; [`RepoError::Store`] if the store cannot be written.
    pub async fn set(&self, path: impl Into<FieldPath>, value: impl Into<Value>) -> Result<(), RepoError> {
        self.edit(vec![edit_at(path.into(), EditAction::Set(value.into()))?]).await
    }

    /// Deletes a field; nothing happens if it is not there.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::set`].
    pub async fn delete(&self, path: impl Into<FieldPath>) -> Result<(), RepoError> {
        self.edit(vec![edit_at(path.into(), EditAction::Delete)?]).await
    }

    /// Adds to a counter. Concurrent additions add up.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::set`]; also if the field is no counter: set it to [`Value::counter`] first.
    pub async fn increment(&self, path: impl Into<FieldPath>, by: i64) -> Result<(), RepoError> {
        self.edit(vec![edit_at(path.into(), EditAction::Increment(by))?]).await
    }

    /// Makes several field writes as one change: all of them, or none.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::set`].
    pub async fn edit(&self, edits: Vec<Edit>) -> Result<(), RepoError> {
        let document = self.document;
        let actor = self.repo.actor(document);
        let work = move |tx: &mut dyn crate::store::WriteTx| {
            let author = Author { actor: &actor, time_seconds: now_seconds(), message: None };
            let written = fields::write(tx, &document, &author, &edits)?;
            let heads = ledger::heads(tx, &document)?;
            Ok((written, heads))
        };
        let channel = self.repo.inner().events.clone();
        let tell = move |(written, heads): &(Result<Option<fields::Written>, fields::FieldError>, Vec<ChangeHash>)| {
            if let Ok(Some(written)) = written {
                let accepted = Accepted {
                    touched: written.touched.clone(),
                    heads: heads.clone(),
                    stored: 1,
                    ..Accepted::default()
                };
                events::publish_accepted(&channel, document, Origin::Local, &accepted);
            }
        };
        let (written, _) = self.repo.inner().writer.write(work, tell).await?;
        match written {
            Ok(_) => Ok(()),
            Err(fields::FieldError::NoDocument { .. }) => Err(RepoError::NotFound),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks at the document as Automerge has it: lists, text, marks, cursors, history. Loads it.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the document cannot be loaded.
    pub async fn view<T: Send + 'static>(
        &self,
        view: impl FnOnce(&Automerge) -> T + Send + 'static,
    ) -> Result<T, RepoError> {
        let (reply, answer) = oneshot::channel();
        let call = move |loaded: Result<&mut super::documents::Loaded, DocumentError>| {
            // Whoever asked may have gone.
            let _ = reply.send(loaded.map(|loaded| view(loaded.materialised.automerge())));
        };
        self.repo.inner.documents.call(self.document, call).await?;
        Ok(answer.await.map_err(|_| RepoError::Closed)??)
    }

    /// Edits the document through an Automerge transaction: lists, text, marks. All edits become one change.
    ///
    /// Returns when the change survives a power loss. Calls run in the order they were first polled, so many of them can
    /// be under way at once and share a flush. Return an error from the closure to undo its edits.
    ///
    /// # Errors
    ///
    /// What the closure returned, or [`RepoError`] if the document cannot be loaded or the store not be written.
    pub async fn change<T: Send + 'static>(
        &self,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<T, RepoError> + Send + 'static,
    ) -> Result<T, RepoError> {
        let (reply, answer) = oneshot::channel();
        let (repo, document) = (self.repo.clone(), self.document);
        let call = move |loaded: Result<&mut super::documents::Loaded, DocumentError>| {
            // Whoever asked may have gone; the edit stands all the same.
            let _ = reply.send(edit_loaded(&repo, document, loaded, edit));
        };
        self.repo.inner.documents.call(document, call).await?;
        let (value, stored) = answer.await.map_err(|_| RepoError::Closed)??;
        let Some(stored) = stored else { return Ok(value) };
        let Some(accepted) = stored.await.map_err(|_| RepoError::Closed)?? else { return Err(RepoError::NotFound) };
        match accepted.results.into_iter().next() {
            Some((_, Appended::Stored { .. } | Appended::Duplicate)) => Ok(value),
            Some((_, Appended::Rejected(error))) => Err(DocumentError::Gate(error).into()),
            // An edit queued before this one did not reach the store, and this one stood on it.
            _ => Err(DocumentError::Panicked.into()),
        }
    }

    /// Returns a text, or `None` if there is none at that path. Loads the document.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the document cannot be loaded.
    pub async fn text(&self, path: impl Into<FieldPath>) -> Result<Option<String>, RepoError> {
        let path = path.into();
        let text = self.view(move |automerge| match find_object(automerge, path.keys(), ObjType::Text)? {
            Some(object) => automerge.text(&object).map(Some),
            None => Ok(None),
        });
        Ok(text.await??)
    }

    /// Replaces `delete` UTF-16 code units at `index` of a text by `insert`. The text is made if the field is not there.
    ///
    /// # Errors
    ///
    /// [`RepoError::Document`] if the index is beyond the end or the field holds something else; as [`DocHandle::change`].
    pub async fn splice_text(
        &self,
        path: impl Into<FieldPath>,
        index: usize,
        delete: usize,
        insert: impl Into<String>,
    ) -> Result<(), RepoError> {
        let (path, insert) = (path.into(), insert.into());
        let edit = move |tx: &mut Transaction<'_>| {
            let delete = isize::try_from(delete).unwrap_or(isize::MAX);
            let object = match find_object(tx, path.keys(), ObjType::Text)? {
                Some(object) => object,
                None => make_text(tx, path.keys())?,
            };
            Ok(tx.splice_text(&object, index, delete, &insert)?)
        };
        self.change(edit).await
    }

    /// Reads the document as a typed value, by autosurgeon. Loads it.
    ///
    /// # Errors
    ///
    /// [`RepoError::Typed`] if the document has another shape.
    pub async fn hydrate<T: autosurgeon::Hydrate + Send + 'static>(&self) -> Result<T, RepoError> {
        self.view(autosurgeon::hydrate).await?.map_err(|error| RepoError::Typed(error.to_string()))
    }

    /// Makes the document equal to a typed value, by autosurgeon: only what differs is written.
    ///
    /// # Errors
    ///
    /// [`RepoError::Typed`] if the value cannot be stored; as [`DocHandle::change`].
    pub async fn reconcile<T: autosurgeon::Reconcile + Send + 'static>(&self, value: T) -> Result<(), RepoError> {
        let edit = move |tx: &mut Transaction<'_>| {
            autosurgeon::reconcile(tx, &value).map_err(|error| RepoError::Typed(error.to_string()))
        };
        self.change(edit).await
    }

    /// Returns the document as the bytes of an `.automerge` file. Loads it.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the document cannot be loaded.
    pub async fn export(&self) -> Result<Vec<u8>, RepoError> {
        self.view(Automerge::save).await
    }

    /// Returns the hashes that name the document's state, sorted. Cost: one lookup.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read.
    pub async fn heads(&self) -> Result<Vec<ChangeHash>, RepoError> {
        let document = self.document;
        self.repo.read(move |tx| ledger::heads(tx, &document)).await
    }

    /// Returns every change of the document, oldest first. Does not load it. Cost: reads all its changes.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read.
    pub async fn history(&self) -> Result<Vec<HistoryEntry>, RepoError> {
        let document = self.document;
        let read = self.repo.read(move |tx| {
            let mut history = Ok(Vec::new());
            ledger::export(tx, &document, 0, &mut |bytes| match (&mut history, CheckedChange::parse(bytes)) {
                (Ok(entries), Ok(change)) => {
                    entries.push(HistoryEntry::of(&change));
                    ControlFlow::Continue(())
                }
                _ => {
                    history = Err(StoreError::Damaged { what: "change-1" });
                    ControlFlow::Break(())
                }
            })?;
            history
        });
        read.await
    }

    /// Subscribes to what changes in this document from now on.
    pub fn subscribe(&self) -> Events {
        Events::new(self.repo.inner.events.subscribe(), Some(self.document))
    }

    /// Waits until the document holds at least one change: until it has arrived from a relay.
    ///
    /// # Errors
    ///
    /// [`RepoError::Timeout`] if nothing came in time. The document may still come later.
    pub async fn wait_for_content(&self, timeout: Duration) -> Result<(), RepoError> {
        let mut events = self.subscribe();
        let arrived = async {
            while self.heads().await?.is_empty() {
                if events.next().await.is_none() {
                    return Err(RepoError::Closed);
                }
            }
            Ok(())
        };
        tokio::time::timeout(timeout, arrived).await.map_err(|_| RepoError::Timeout)?
    }

    /// Sends an ephemeral message to everyone who has this document open right now. It is stored nowhere.
    ///
    /// automerge-repo clients expect the bytes to be one CBOR value.
    pub fn broadcast(&self, cbor: impl Into<Bytes>) {
        let inner = &self.repo.inner;
        let count = inner.ephemeral_count.fetch_add(1, Ordering::Relaxed) + 1;
        let message = Ephemeral {
            document: self.document,
            sender: inner.peer.clone(),
            data: cbor.into(),
            count,
            origin: Origin::Local,
        };
        // That nobody listens is no fault: the message is for those who are there.
        let _ = inner.ephemerals.send(message);
    }

    /// Subscribes to the ephemeral messages that others send about this document.
    pub fn ephemerals(&self) -> Ephemerals {
        Ephemerals { receiver: self.repo.inner.ephemerals.subscribe(), document: self.document }
    }
}

/// A subscription to a document's ephemeral messages. A slow reader misses the oldest.
#[derive(Debug)]
pub struct Ephemerals {
    receiver: tokio::sync::broadcast::Receiver<Ephemeral>,
    document: DocumentId,
}

impl Ephemerals {
    /// Waits for the next message and returns its sender and its CBOR bytes; `None` when the repo is gone.
    pub async fn next(&mut self) -> Option<(PeerId, Bytes)> {
        use tokio::sync::broadcast::error::RecvError;
        loop {
            match self.receiver.recv().await {
                Ok(message) if message.document == self.document && message.origin == Origin::Remote => {
                    return Some((message.sender, message.data));
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

impl HistoryEntry {
    fn of(change: &CheckedChange) -> Self {
        Self {
            hash: change.hash(),
            actor: change.actor().clone(),
            seq: change.seq(),
            time_seconds: change.timestamp(),
            message: change.message().map(str::to_owned),
            op_count: change.op_count(),
        }
    }
}

type Stored = oneshot::Receiver<Result<Option<Accepted>, RepoError>>;

/// Marks a document in memory as spoilt when it is dropped, unless its change was stored before.
struct SpoilUnlessStored {
    spoilt: Arc<AtomicBool>,
    stored: bool,
}

impl SpoilUnlessStored {
    fn settle(&mut self, stored: bool) {
        self.stored = stored;
    }
}

impl Drop for SpoilUnlessStored {
    fn drop(&mut self) {
        if !self.stored {
            self.spoilt.store(true, Ordering::Release);
        }
    }
}

/// Runs an edit on the documents thread and queues its change for the writer.
fn edit_loaded<T>(
    repo: &Repo,
    document: DocumentId,
    loaded: Result<&mut super::documents::Loaded, DocumentError>,
    edit: impl FnOnce(&mut Transaction<'_>) -> Result<T, RepoError>,
) -> Result<(T, Option<Stored>), RepoError> {
    let loaded = loaded?;
    let commit = Commit { message: None, time_seconds: now_seconds() };
    let (value, change) = loaded.materialised.edit(&commit, edit).inspect_err(|error| {
        if !matches!(error, RepoError::Document(error) if matches!(**error, DocumentError::Automerge(_))) {
            // After a panic or a refusal the document in memory may differ from the stored one.
            loaded.spoilt.store(true, Ordering::Release);
        }
    })?;
    let Some(change) = change else { return Ok((value, None)) };
    let mut guard = SpoilUnlessStored { spoilt: Arc::clone(&loaded.spoilt), stored: false };
    let work = move |tx: &mut dyn crate::store::WriteTx| {
        if ledger::state(tx, &document)?.is_none() {
            return Ok(None);
        }
        engine::accept(tx, document, vec![change], Origin::Local).map(Some)
    };
    let channel = repo.inner.events.clone();
    let tell = move |accepted: &Option<Accepted>| {
        if let Some(accepted) = accepted {
            guard.settle(accepted.stored == 1);
            events::publish_accepted(&channel, document, Origin::Local, accepted);
        }
    };
    Ok((value, Some(repo.inner.writer.write_from_thread(work, tell)?)))
}

/// Makes an edit of the field at the end of a path.
fn edit_at(path: FieldPath, action: EditAction) -> Result<Edit, RepoError> {
    let (parents, key) = path.split_last().ok_or_else(|| RepoError::Typed("the path is empty".to_owned()))?;
    Ok(Edit::new(Target::Path(parents), key, action))
}

fn resolve(
    tx: &dyn crate::store::ReadTx,
    document: &DocumentId,
    path: &[String],
) -> Result<Option<ObjectId>, StoreError> {
    let keys: Vec<&str> = path.iter().map(String::as_str).collect();
    fields::resolve(tx, document, &keys)
}

/// Walks the winners down a path to an object of a kind.
fn find_object(
    automerge: &impl ReadDoc,
    path: &[String],
    kind: ObjType,
) -> Result<Option<ObjId>, automerge::AutomergeError> {
    let mut object = ROOT;
    let mut found = ObjType::Map;
    for key in path {
        match automerge.get(&object, key.as_str())? {
            Some((automerge::Value::Object(kind), id)) => (object, found) = (id, kind),
            _ => return Ok(None),
        }
    }
    Ok((found == kind).then_some(object))
}

fn make_text(tx: &mut Transaction<'_>, path: &[String]) -> Result<ObjId, RepoError> {
    let wrong = || RepoError::Typed("there is no map at this path to make a text in".to_owned());
    let (key, parents) = path.split_last().ok_or_else(wrong)?;
    let parent = find_object(tx, parents, ObjType::Map)?.ok_or_else(wrong)?;
    if tx.get(&parent, key.as_str())?.is_some() {
        return Err(RepoError::Typed(format!("the field {key:?} holds something else than a text")));
    }
    Ok(tx.put_object(&parent, key.as_str(), ObjType::Text)?)
}
