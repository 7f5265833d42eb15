//! A document, as the application holds it.
//!
//! Fields, text, lists and history are chapters of their own; here is what all of them stand on: running a view or an edit
//! on the loaded document, typed values, subscriptions, ephemeral messages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use automerge::transaction::Transaction;
use automerge::{Automerge, ChangeHash};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::documents::Loaded;
use super::events::{self, Ephemeral, EventKind, Events};
use super::spaces::{self, Created, Telling};
use super::{Answer, EphemeralBatch, Repo, RepoError, Written, now_seconds};
use crate::document::{Commit, DocumentError, Observer, base_of, guarded};
use crate::engine::{self, Accepted, Origin};
use crate::id::{DocumentId, PeerId, SpaceId};
use crate::ledger::requests::{self, RequestId};
use crate::ledger::{self, Appended};
use crate::runtime;
use crate::store::{StoreError, WriteTx};

mod fields;
mod history;
mod list;
mod text;

pub use history::{DocView, HistoryEntry};

/// A document on this device. Cheap to clone; holds nothing in memory by itself.
///
/// Fields (keys of maps) are read and written through the register table: the document is not loaded, however long its
/// history is. Text, lists, typed values and views load it, once, until others push it out.
#[derive(Debug, Clone)]
pub struct DocHandle {
    repo: Repo,
    document: DocumentId,
}

/// What a change says about itself, for the history. The default is no message and the time of now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeOptions {
    /// Why it is made.
    pub message: Option<String>,
    /// When, in seconds since the Unix epoch, if not now. For display only: no merge depends on it.
    pub time_seconds: Option<i64>,
    /// Names the write, so that it is done once even if it is handed in again after its answer was lost: then an edit of fields
    /// returns the first one's change, and one of the loaded document [`RepoError::Repeated`]. Default: none.
    pub request: Option<RequestId>,
    /// Creates the document in this space with the write, unless it is here already: it comes to be with what is written, or not at
    /// all. One that was deleted everywhere is [`RepoError::Deleted`], one that is known to be in another space and not here
    /// [`RepoError::Elsewhere`]. If the write turns out to change nothing, the document is created empty, behind what was handed in
    /// meanwhile. Default: a document that is not here is [`RepoError::NotFound`].
    pub creates_in: Option<SpaceId>,
}

impl ChangeOptions {
    fn into_commit(self) -> Commit {
        let now = || i64::try_from(now_seconds()).unwrap_or(0);
        Commit { message: self.message, time_seconds: self.time_seconds.unwrap_or_else(now) }
    }
}

impl DocHandle {
    pub(super) fn new(repo: Repo, document: DocumentId) -> Self {
        Self { repo, document }
    }

    pub(super) fn repo(&self) -> &Repo {
        &self.repo
    }

    /// Returns the document's id.
    pub fn id(&self) -> DocumentId {
        self.document
    }

    /// Returns the document's URL, `automerge:...`, for other devices.
    pub fn url(&self) -> String {
        self.document.to_url()
    }

    /// Looks at the document as Automerge has it: lists, text, marks, cursors, history. Loads it.
    ///
    /// The view runs on the thread of all loaded documents, and holds no transaction of the store.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the document cannot be loaded, or the view panics.
    pub async fn view<T: Send + 'static>(
        &self,
        view: impl FnOnce(&Automerge) -> T + Send + 'static,
    ) -> Result<T, RepoError> {
        self.call_loaded(|loaded| view(loaded.materialised.automerge())).await
    }

    /// Runs a look at the loaded document. A panic in it spoils the document in memory and nothing else.
    async fn call_loaded<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Loaded) -> T + Send + 'static,
    ) -> Result<T, RepoError> {
        let (reply, answer) = oneshot::channel();
        let call = move |loaded: Result<&mut Loaded, DocumentError>| {
            let seen = loaded.and_then(|loaded| {
                let spoilt = Arc::clone(&loaded.spoilt);
                guarded(|| look(loaded)).inspect_err(|_| spoilt.store(true, Ordering::Release))
            });
            // Whoever asked may have gone.
            let _ = reply.send(seen);
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
        self.change_with(ChangeOptions::default(), edit).await
    }

    /// Edits the document as [`DocHandle::change`] does, with a message or a time of the application's own.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::change`]; also if the message is longer than a change may carry.
    pub async fn change_with<T: Send + 'static>(
        &self,
        options: ChangeOptions,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<T, RepoError> + Send + 'static,
    ) -> Result<T, RepoError> {
        Ok(self.change_written(options, edit).await?.0)
    }

    /// Edits the document as [`DocHandle::change_with`] does, and returns its receipt with what the closure made.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::change_with`].
    pub async fn change_written<T: Send + 'static>(
        &self,
        options: ChangeOptions,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<T, RepoError> + Send + 'static,
    ) -> Result<(T, Written), RepoError> {
        self.change_planned(options, move |_: &Automerge| Ok((None, edit)), |_| {}).await
    }

    /// Edits the document as [`DocHandle::change_written`] does, on the state that holds the changes which `base` returns and
    /// what they stand on: indices mean what they meant there, and the change merges with what came since.
    ///
    /// `base` is asked when it is this edit's turn, so it may name changes of edits that were under way when this was called;
    /// `made` is told the change before the next edit's turn, and before it is durable.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::change_with`]; [`DocumentError::UnknownHeads`] if the document lacks one of the changes.
    pub async fn change_at<T: Send + 'static>(
        &self,
        options: ChangeOptions,
        base: impl FnOnce() -> Result<Vec<ChangeHash>, RepoError> + Send + 'static,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<T, RepoError> + Send + 'static,
        made: impl FnOnce(ChangeHash) + Send + 'static,
    ) -> Result<(T, Written), RepoError> {
        let plan = move |automerge: &Automerge| Ok((base_of(automerge, &base()?)?, edit));
        self.change_planned(options, plan, made).await
    }

    /// Looks at the loaded document, and has its later steps observed from there on if the look returns an observer.
    ///
    /// The observer is gone when the document was dropped from memory. It runs on the thread of all loaded documents, and sees
    /// edits before they are durable.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the document cannot be loaded, or the look panics.
    pub async fn observe<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Automerge) -> (T, Option<Observer>) + Send + 'static,
    ) -> Result<T, RepoError> {
        let look = |loaded: &mut Loaded| {
            let (seen, observer) = look(loaded.materialised.automerge());
            if let Some(observer) = observer {
                loaded.materialised.observe(observer);
            }
            seen
        };
        self.call_loaded(look).await
    }

    /// Makes an edit that returns nothing but its receipt.
    async fn apply(
        &self,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<(), RepoError> + Send + 'static,
    ) -> Result<Written, RepoError> {
        Ok(self.change_written(ChangeOptions::default(), edit).await?.1)
    }

    /// Looks at the document first, then edits it, with nothing in between. The look returns the heads to edit it at, if not at
    /// its own, and the edit; `made` is told the change.
    async fn change_planned<T: Send + 'static, E>(
        &self,
        options: ChangeOptions,
        plan: impl FnOnce(&Automerge) -> Result<(Option<Vec<ChangeHash>>, E), RepoError> + Send + 'static,
        made: impl FnOnce(ChangeHash) + Send + 'static,
    ) -> Result<(T, Written), RepoError>
    where
        E: FnOnce(&mut Transaction<'_>) -> Result<T, RepoError>,
    {
        let (request, creates_in) = (options.request, options.creates_in);
        if let Some(request) = request
            && let Some(change) = self.repo.read(move |tx| requests::done(tx, &request)).await?
        {
            return Err(RepoError::Repeated { change });
        }
        let (reply, answer) = oneshot::channel();
        let (repo, document) = (self.repo.clone(), self.document);
        let commit = options.into_commit();
        let call = move |loaded: Result<&mut Loaded, DocumentError>| {
            let edited = loaded.map_err(RepoError::from).and_then(|loaded| {
                let plan = guarded(|| plan(loaded.materialised.automerge()));
                let (base, edit) = plan.inspect_err(|_| loaded.spoilt.store(true, Ordering::Release))??;
                edit_loaded(&repo, document, loaded, (&commit, base.as_deref(), request, creates_in), edit, made)
            });
            // Whoever asked may have gone; the edit stands all the same.
            let _ = reply.send(edited);
        };
        self.repo.inner.documents.call(document, call).await?;
        let (value, stored) = answer.await.map_err(|_| RepoError::Closed)??;
        let Some(stored) = stored else {
            if let Some(space) = creates_in {
                self.repo.create_as(space, document).await?;
            }
            return Ok((value, Written::new(&self.repo, document, None)));
        };
        let accepted = match stored.arrived().await? {
            Err(RepoError::NotFound) => return Err(self.repo.absent(document).await),
            stored => stored?.1,
        };
        let change = accepted.results.first().map(|(change, _)| change.hash());
        Ok((value, Written::new(&self.repo, document, change)))
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
    pub async fn reconcile<T: autosurgeon::Reconcile + Send + 'static>(&self, value: T) -> Result<Written, RepoError> {
        let edit = move |tx: &mut Transaction<'_>| {
            autosurgeon::reconcile(tx, &value).map_err(|error| RepoError::Typed(error.to_string()))
        };
        self.apply(edit).await
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

    /// Subscribes to what changes in this document from now on.
    pub fn subscribe(&self) -> Events {
        Events::new(self.repo.inner.events.subscribe(), Some(self.document))
    }

    /// Waits until the document holds at least one change: until it has arrived from a relay.
    ///
    /// # Errors
    ///
    /// [`RepoError::Timeout`] if nothing came in time; the document may still come later. [`RepoError::Deleted`] or
    /// [`RepoError::NotFound`] if it is deleted meanwhile, everywhere or from this device.
    pub async fn wait_for_content(&self, timeout: Duration) -> Result<(), RepoError> {
        let mut events = self.subscribe();
        let arrived = async {
            while self.heads().await?.is_empty() {
                match events.next().await {
                    Some(Ok(event)) if event.kind == EventKind::Deleted => {
                        let is_buried = self.repo.deletion(self.document).await?.is_some();
                        return Err(if is_buried { RepoError::Deleted } else { RepoError::NotFound });
                    }
                    Some(_) => {}
                    None => return Err(RepoError::Closed),
                }
            }
            Ok(())
        };
        runtime::timeout(timeout, arrived).await.map_err(|_| RepoError::Timeout)?
    }

    /// Sends an ephemeral message to everyone who has this document open right now. It is stored nowhere.
    ///
    /// automerge-repo clients expect the bytes to be one CBOR value.
    pub fn broadcast(&self, cbor: impl Into<Bytes>) {
        let inner = &self.repo.inner;
        let count = inner.presences.next_sequence();
        let message = Ephemeral {
            document: self.document,
            sender: inner.peer.clone(),
            data: cbor.into(),
            count,
            origin: Origin::Local,
            key: inner.storage.to_string(),
            ttl_ms: crate::limits::CLASSIC_PRESENCE_TTL_MS,
        };
        // That nobody listens is no fault: the message is for those who are there.
        let _ = inner.ephemerals.send(Arc::new([message]));
    }

    /// Subscribes to the ephemeral messages that others send about this document.
    pub fn ephemerals(&self) -> Ephemerals {
        let receiver = self.repo.inner.ephemerals.subscribe();
        Ephemerals { receiver, document: self.document, ready: VecDeque::new() }
    }
}

/// A subscription to a document's ephemeral messages. A slow reader misses the oldest.
#[derive(Debug)]
pub struct Ephemerals {
    receiver: tokio::sync::broadcast::Receiver<EphemeralBatch>,
    document: DocumentId,
    ready: VecDeque<(PeerId, Bytes)>,
}

impl Ephemerals {
    /// Waits for the next message and returns its sender and its CBOR bytes; `None` when the repo is gone.
    pub async fn next(&mut self) -> Option<(PeerId, Bytes)> {
        use tokio::sync::broadcast::error::RecvError;
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            match self.receiver.recv().await {
                Ok(messages) => {
                    // A value that is taken back is no message.
                    let is_ours = |message: &&Ephemeral| {
                        message.document == self.document && message.origin == Origin::Remote && message.ttl_ms > 0
                    };
                    let found = messages.iter().filter(is_ours);
                    self.ready.extend(found.map(|message| (message.sender.clone(), message.data.clone())));
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

type Stored = Answer<Result<(Created, Accepted), RepoError>>;

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
    loaded: &mut Loaded,
    (commit, base, request, creates_in): (&Commit, Option<&[ChangeHash]>, Option<RequestId>, Option<SpaceId>),
    edit: impl FnOnce(&mut Transaction<'_>) -> Result<T, RepoError>,
    made: impl FnOnce(ChangeHash),
) -> Result<(T, Option<Stored>), RepoError> {
    let (value, change) = loaded.materialised.edit_at(commit, base, edit).inspect_err(|error| {
        if spoils(error) {
            loaded.spoilt.store(true, Ordering::Release);
        }
    })?;
    let Some(change) = change else { return Ok((value, None)) };
    made(change.hash());
    let mut guard = SpoilUnlessStored { spoilt: Arc::clone(&loaded.spoilt), stored: false };
    let pending = Arc::clone(&repo.inner.pending);
    let work = move |tx: &mut dyn WriteTx| {
        if pending.is_leaving() {
            return Ok(Err(RepoError::SigningOut));
        }
        write_creating(tx, &document, creates_in.as_ref(), |tx| {
            if ledger::state(tx, &document)?.is_none() {
                return Ok(Err(RepoError::NotFound));
            }
            let accepted = engine::accept_own(tx, document, change)?;
            let made = match accepted.results.first() {
                Some((change, Appended::Stored { .. } | Appended::Duplicate)) => change.hash(),
                Some((_, Appended::Rejected(error))) => return Ok(Err(DocumentError::Gate(error.clone()).into())),
                // An edit queued before this one did not reach the store, and this one stood on it.
                _ => return Ok(Err(DocumentError::Panicked.into())),
            };
            if let Some(request) = &request {
                requests::note(tx, request, Some(made), now_seconds())?;
            }
            Ok(Ok(accepted))
        })
    };
    let (telling, pending) = (Telling::of(repo), Arc::clone(&repo.inner.pending));
    let tell = move |accepted: &Result<(Created, Accepted), RepoError>| {
        if let Ok((created, accepted)) = accepted {
            telling.tell(created, document);
            guard.settle(accepted.stored == 1);
            pending.note(document, accepted.waiting.cast_signed());
            events::publish_accepted(&telling.events, document, Origin::Local, accepted);
        }
    };
    Ok((value, Some(repo.inner.writer.write_from_thread(work, tell)?)))
}

/// Writes to a document in the transaction, and creates it before if that is asked for. If what is written is not taken, it is not
/// created either.
fn write_creating<T>(
    tx: &mut dyn WriteTx,
    document: &DocumentId,
    creates_in: Option<&SpaceId>,
    write: impl FnOnce(&mut dyn WriteTx) -> Result<Result<T, RepoError>, StoreError>,
) -> Result<Result<(Created, T), RepoError>, StoreError> {
    let Some(space) = creates_in else { return Ok(write(tx)?.map(|written| (Created::default(), written))) };
    let created = match spaces::create(tx, document, space)? {
        Ok(created) => created,
        Err(error) => return Ok(Err(error)),
    };
    let written = write(tx)?;
    if written.is_err() {
        spaces::take_back(tx, document, space, &created)?;
    }
    Ok(written.map(|written| (created, written)))
}

/// Says whether the document in memory may differ from the stored one after this error. Others undid their edits.
fn spoils(error: &RepoError) -> bool {
    match error {
        RepoError::Document(error) => matches!(
            **error,
            DocumentError::Panicked | DocumentError::Gate(_) | DocumentError::Refused(_) | DocumentError::Store(_)
        ),
        _ => false,
    }
}
