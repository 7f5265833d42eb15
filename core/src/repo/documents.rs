//! The documents thread: holds the documents that are in memory, and runs every edit and view of them.
//!
//! To load a long document takes a while and to edit it needs it whole, so neither happens on an async thread nor in a
//! transaction of the store. One thread does it for all documents, in the order of the calls. Those used longest ago are
//! dropped when all together take more than they may.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::precautions::working_at;
use super::{Precautions, Repo, RepoError, in_order, random_actor};
use crate::document::{DocumentError, Materialised, Quarantined, guarded};
use crate::id::DocumentId;
use crate::ledger::{self, DocumentState};
use crate::limits::{LOADED_BYTES_MAX, LOADED_CHANGE_BYTES, LOADED_DOCUMENT_BYTES, LOADED_OP_BYTES};
use crate::runtime;
use crate::store::{ReadTx, Store};

/// The most calls that wait.
const QUEUE_CALLS_MAX: usize = 1_024;

/// A call: gets the document, caught up, or why there is none.
type Call = Box<dyn FnOnce(Result<&mut Loaded, DocumentError>) + Send>;

/// A document in memory with what its users need to know.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) materialised: Materialised,
    /// Set when an edit did not reach the ledger: the document shows what is not stored, and must go.
    pub(crate) spoilt: Arc<AtomicBool>,
    used: u64,
    bytes: u64,
}

/// A document that is in memory now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadedDocument {
    /// Which one.
    pub document: DocumentId,
    /// How much memory it takes, estimated from its changes and operations, in bytes.
    pub estimated_bytes: u64,
}

impl Repo {
    /// Returns the documents that are in memory now, the one used last first.
    ///
    /// # Errors
    ///
    /// [`RepoError::Closed`] if the repo is going down.
    pub async fn loaded_documents(&self) -> Result<Vec<LoadedDocument>, RepoError> {
        let (reply, answer) = oneshot::channel();
        in_order(&self.inner().documents.calls, Message::List(reply)).await?;
        answer.await.map_err(|_| RepoError::Closed)
    }

    /// Bounds the memory that loaded documents take together, by estimate. Default: [`LOADED_BYTES_MAX`].
    ///
    /// Those used longest ago are dropped first, when the next document is used; one that is larger than the bound is kept
    /// alone.
    pub fn set_loaded_bytes_max(&self, bytes: u64) {
        self.inner().documents.bytes_max.store(bytes, Ordering::Relaxed);
    }
}

/// A handle to the documents thread. The thread ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Documents {
    calls: mpsc::Sender<Message>,
    bytes_max: Arc<AtomicU64>,
    rewritten: Marks,
}

/// Documents whose stored changes are being replaced, and whether that is committed: what memory holds of them is worth
/// nothing. A mark is set before the commit, so whoever sees the new changes sees it too.
type Marks = Arc<Mutex<HashMap<DocumentId, bool>>>;

/// Marks a document from inside the transaction that replaces its changes, until that has ended.
pub(super) struct Rewriting {
    marks: Marks,
    document: DocumentId,
}

impl Drop for Rewriting {
    fn drop(&mut self) {
        // Committed or not, the next user loads it afresh, once.
        lock(&self.marks).insert(self.document, true);
    }
}

fn lock(marks: &Marks) -> MutexGuard<'_, HashMap<DocumentId, bool>> {
    // The map is whole at every moment: whoever panicked while holding it left nothing half-done.
    marks.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Message {
    Call(DocumentId, Call),
    Adopt(DocumentId, Box<Materialised>),
    Drop(DocumentId),
    List(oneshot::Sender<Vec<LoadedDocument>>),
}

impl Documents {
    /// Starts the thread. It drops `ended` last of all, when it no longer holds the store.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        precautions: Precautions,
        ended: mpsc::Sender<()>,
    ) -> Result<Self, RepoError> {
        let (calls, queue) = mpsc::channel(QUEUE_CALLS_MAX);
        let bytes_max = Arc::new(AtomicU64::new(LOADED_BYTES_MAX));
        let rewritten = Marks::default();
        let cache = Cache::new(Arc::clone(&bytes_max), Arc::clone(&rewritten), precautions);
        runtime::start("rejoin-documents", async move {
            run(store.as_ref(), cache, queue).await;
            drop(store);
            drop(ended);
        })?;
        Ok(Self { calls, bytes_max, rewritten })
    }

    /// Marks a document whose changes are about to be replaced. Call it in the transaction that does it, and hold on to the
    /// result until that is committed.
    pub(super) fn begin_rewriting(&self, document: DocumentId) -> Rewriting {
        lock(&self.rewritten).insert(document, false);
        Rewriting { marks: Arc::clone(&self.rewritten), document }
    }

    /// Runs a call with a document.
    pub(crate) async fn call(
        &self,
        document: DocumentId,
        call: impl FnOnce(Result<&mut Loaded, DocumentError>) + Send + 'static,
    ) -> Result<(), RepoError> {
        in_order(&self.calls, Message::Call(document, Box::new(call))).await
    }

    /// Takes over a document that was just loaded elsewhere, from a thread that may wait.
    pub(crate) fn adopt(&self, document: DocumentId, materialised: Materialised) -> Result<(), RepoError> {
        self.send_from_thread(Message::Adopt(document, Box::new(materialised)))
    }

    /// Drops a document from memory as [`Documents::evict`] does, from a thread that may wait.
    pub(crate) fn evict_from_thread(&self, document: DocumentId) -> Result<(), RepoError> {
        // As good as dropped, should there be no room to say it.
        drop(self.begin_rewriting(document));
        self.send_from_thread(Message::Drop(document))
    }

    #[cfg(not(target_family = "wasm"))]
    fn send_from_thread(&self, message: Message) -> Result<(), RepoError> {
        runtime::send_and_wait(&self.calls, message, "rejoin-documents").then_some(()).ok_or(RepoError::Closed)
    }

    /// Where there is one thread, nobody would make room meanwhile: then the document is loaded again when it is used.
    #[cfg(target_family = "wasm")]
    fn send_from_thread(&self, message: Message) -> Result<(), RepoError> {
        match self.calls.try_send(message) {
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(RepoError::Closed),
        }
    }

    /// Drops a document from memory, after the calls before this one.
    pub(crate) async fn evict(&self, document: DocumentId) -> Result<(), RepoError> {
        self.calls.send(Message::Drop(document)).await.map_err(|_| RepoError::Closed)
    }
}

async fn run(store: &dyn Store, mut cache: Cache, mut queue: mpsc::Receiver<Message>) {
    while let Some(message) = queue.recv().await {
        match message {
            Message::Call(document, call) => cache.serve(store, document, call),
            Message::Adopt(document, materialised) => cache.adopt(document, *materialised),
            Message::Drop(document) => {
                cache.remove(&document);
                cache.quarantined.remove(&document);
            }
            // Whoever asked may have gone.
            Message::List(reply) => drop(reply.send(cache.list())),
        }
    }
}

/// The documents in memory.
struct Cache {
    documents: HashMap<DocumentId, Loaded>,
    /// The estimates of all of them together.
    bytes: u64,
    bytes_max: Arc<AtomicU64>,
    /// Counts the calls, for what was used longest ago.
    clock: u64,
    /// What had to be left out of documents, so that the next load need not search for it again.
    quarantined: HashMap<DocumentId, Vec<Quarantined>>,
    rewritten: Marks,
    precautions: Precautions,
}

impl Cache {
    fn new(bytes_max: Arc<AtomicU64>, rewritten: Marks, precautions: Precautions) -> Self {
        let quarantined = precautions.left_out();
        Self { documents: HashMap::new(), bytes: 0, bytes_max, clock: 0, quarantined, rewritten, precautions }
    }

    /// Drops a document whose stored changes are others now.
    fn drop_rewritten(&mut self, document: &DocumentId) {
        let mut marks = lock(&self.rewritten);
        let Some(is_committed) = marks.get(document).copied() else { return };
        if is_committed {
            marks.remove(document);
        }
        drop(marks);
        self.remove(document);
        self.quarantined.remove(document);
    }

    /// Brings a document up to the ledger and runs a call with it. The transaction has ended when the call runs.
    fn serve(&mut self, store: &dyn Store, document: DocumentId, call: Call) {
        working_at(self.precautions.working, document, || self.serve_watched(store, document, call));
    }

    fn serve_watched(&mut self, store: &dyn Store, document: DocumentId, call: Call) {
        self.clock += 1;
        if self.documents.get(&document).is_some_and(|loaded| loaded.spoilt.load(Ordering::Acquire)) {
            self.remove(&document);
        }
        let caught_up = store.read().map_err(DocumentError::from).and_then(|tx| {
            // After the view is open: changes that it shows were marked before.
            self.drop_rewritten(&document);
            self.load(tx.as_ref(), document)
        });
        let loaded = match caught_up {
            Ok(()) => self.documents.get_mut(&document).ok_or(DocumentError::Panicked),
            Err(error) => {
                self.remove(&document);
                Err(error)
            }
        };
        // Calls guard themselves. This thread serves all documents, so it trusts no one to.
        if guarded(|| call(loaded)).is_err() {
            self.remove(&document);
        }
    }

    /// Keeps a document that was loaded elsewhere, unless something stands in its place. What it takes is counted when it is
    /// used.
    fn adopt(&mut self, document: DocumentId, materialised: Materialised) {
        self.clock += 1;
        let used = self.clock;
        let loaded = || Loaded { materialised, spoilt: Arc::default(), used, bytes: 0 };
        self.documents.entry(document).or_insert_with(loaded);
    }

    fn load(&mut self, tx: &dyn ReadTx, document: DocumentId) -> Result<(), DocumentError> {
        let bytes = ledger::state(tx, &document)?.map_or(LOADED_DOCUMENT_BYTES, |state| estimate(&state));
        self.make_room(&document, bytes);
        let known = self.documents.get(&document).map_or(0, |loaded| loaded.materialised.quarantined().len());
        let clock = self.clock;
        let quarantined = &self.quarantined;
        let loaded = self.documents.entry(document).or_insert_with(|| Loaded {
            materialised: fresh(document, quarantined),
            spoilt: Arc::default(),
            used: clock,
            bytes: 0,
        });
        loaded.used = clock;
        let is_suspect = self.precautions.suspect == Some(document);
        if loaded.bytes == 0 && loaded.materialised.is_new() && !is_suspect {
            loaded.materialised.begin(tx)?;
        }
        self.bytes = self.bytes - loaded.bytes + bytes;
        loaded.bytes = bytes;
        let working = self.precautions.working;
        let caught_up = if is_suspect {
            let caught_up = loaded.materialised.catch_up_singly(tx, &mut |hash| working(Some((document, Some(hash)))));
            working(Some((document, None)));
            caught_up
        } else {
            loaded.materialised.catch_up(tx)
        };
        match caught_up {
            Ok(()) => {}
            Err(error @ DocumentError::Store(_)) => return Err(error),
            Err(error) => {
                tracing::warn!(document = %document.label(), %error, "failed to load a document; searching for the change that does it");
                // The old one is never read again, and its actor never used: its last changes may still be on their way.
                loaded.materialised = fresh(document, quarantined);
                loaded.spoilt = Arc::default();
                loaded.materialised.catch_up_isolating(tx)?;
            }
        }
        let left_out = loaded.materialised.quarantined();
        if left_out.len() > known {
            for one in &left_out[known..] {
                tracing::warn!(document = %document.label(), hash = %one.hash, why = one.why, "left a change out of a document");
            }
            self.quarantined.insert(document, left_out.to_vec());
        }
        Ok(())
    }

    /// Drops those used longest ago until a document of this size fits, or is alone.
    fn make_room(&mut self, document: &DocumentId, bytes: u64) {
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        let own = self.documents.get(document).map_or(0, |loaded| loaded.bytes);
        while self.bytes - own + bytes > bytes_max {
            let others = self.documents.iter().filter(|(other, _)| *other != document);
            let Some(oldest) = others.min_by_key(|(_, loaded)| loaded.used).map(|(other, _)| *other) else { return };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, document: &DocumentId) {
        if let Some(loaded) = self.documents.remove(document) {
            self.bytes -= loaded.bytes;
        }
    }

    fn list(&self) -> Vec<LoadedDocument> {
        let mut loaded: Vec<_> = self.documents.iter().collect();
        loaded.sort_by_key(|(_, loaded)| std::cmp::Reverse(loaded.used));
        let list = loaded
            .into_iter()
            .map(|(document, loaded)| LoadedDocument { document: *document, estimated_bytes: loaded.bytes });
        list.collect()
    }
}

/// Makes an empty document with an actor that nothing was written with yet.
fn fresh(document: DocumentId, quarantined: &HashMap<DocumentId, Vec<Quarantined>>) -> Materialised {
    Materialised::new(document, random_actor()).without(quarantined.get(&document).cloned().unwrap_or_default())
}

/// Estimates what a document takes in memory.
///
/// The greatest operation counter stands for the number of operations: concurrent ones share counters, but each change's
/// own bytes are counted too.
fn estimate(state: &DocumentState) -> u64 {
    let per_change = state.count.saturating_mul(LOADED_CHANGE_BYTES);
    let per_op = state.max_op.saturating_mul(LOADED_OP_BYTES);
    LOADED_DOCUMENT_BYTES.saturating_add(state.bytes).saturating_add(per_change).saturating_add(per_op)
}
