//! The documents thread: holds the documents that are in memory, and runs every edit and view of them.
//!
//! To load a long document takes a while and to edit it needs it whole, so neither happens on an async thread nor in a
//! transaction of the store. One thread does it for all documents, in the order of the calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::sync::mpsc;

use super::{RepoError, random_actor};
use crate::document::{DocumentError, Materialised};
use crate::id::DocumentId;
use crate::store::Store;

/// The most calls that wait.
const QUEUE_CALLS_MAX: usize = 1_024;

/// The most documents in memory; the one used longest ago goes first.
const DOCUMENTS_MAX: usize = 32;

/// A call: gets the document, caught up, or why there is none.
type Call = Box<dyn FnOnce(Result<&mut Loaded, DocumentError>) + Send>;

/// A document in memory with what its users need to know.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) materialised: Materialised,
    /// Set when an edit did not reach the ledger: the document shows what is not stored, and must go.
    pub(crate) spoilt: Arc<AtomicBool>,
    used: u64,
}

/// A handle to the documents thread. The thread ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Documents {
    calls: mpsc::Sender<(DocumentId, Message)>,
}

enum Message {
    Call(Call),
    Drop,
}

impl Documents {
    /// Starts the thread. It drops `ended` last of all, when it no longer holds the store.
    pub(crate) fn start(store: Arc<dyn Store>, ended: mpsc::Sender<()>) -> Result<Self, RepoError> {
        let (calls, queue) = mpsc::channel(QUEUE_CALLS_MAX);
        thread::Builder::new().name("rejoin-documents".to_owned()).spawn(move || {
            run(store.as_ref(), queue);
            drop(store);
            drop(ended);
        })?;
        Ok(Self { calls })
    }

    /// Runs a call with a document.
    pub(crate) async fn call(
        &self,
        document: DocumentId,
        call: impl FnOnce(Result<&mut Loaded, DocumentError>) + Send + 'static,
    ) -> Result<(), RepoError> {
        self.calls.send((document, Message::Call(Box::new(call)))).await.map_err(|_| RepoError::Closed)
    }

    /// Drops a document from memory, after the calls before this one.
    pub(crate) async fn evict(&self, document: DocumentId) -> Result<(), RepoError> {
        self.calls.send((document, Message::Drop)).await.map_err(|_| RepoError::Closed)
    }
}

fn run(store: &dyn Store, mut queue: mpsc::Receiver<(DocumentId, Message)>) {
    let mut documents: HashMap<DocumentId, Loaded> = HashMap::new();
    let mut clock = 0;
    while let Some((document, message)) = queue.blocking_recv() {
        clock += 1;
        match message {
            Message::Drop => {
                documents.remove(&document);
            }
            Message::Call(call) => serve(store, &mut documents, document, clock, call),
        }
    }
}

fn serve(store: &dyn Store, documents: &mut HashMap<DocumentId, Loaded>, document: DocumentId, clock: u64, call: Call) {
    if documents.get(&document).is_some_and(|loaded| loaded.spoilt.load(Ordering::Acquire)) {
        documents.remove(&document);
    }
    if !documents.contains_key(&document) {
        make_room(documents);
    }
    let loaded = documents.entry(document).or_insert_with(|| Loaded {
        materialised: Materialised::new(document, random_actor()),
        spoilt: Arc::default(),
        used: clock,
    });
    loaded.used = clock;
    let caught_up = store.read().map_err(DocumentError::from).and_then(|tx| loaded.materialised.catch_up(tx.as_ref()));
    match caught_up {
        Ok(()) => call(Ok(loaded)),
        Err(error) => {
            documents.remove(&document);
            call(Err(error));
        }
    }
}

fn make_room(documents: &mut HashMap<DocumentId, Loaded>) {
    if documents.len() < DOCUMENTS_MAX {
        return;
    }
    let oldest = documents.iter().min_by_key(|(_, loaded)| loaded.used).map(|(document, _)| *document);
    if let Some(oldest) = oldest {
        documents.remove(&oldest);
    }
}
