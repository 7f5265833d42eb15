//! Folding: long histories made into snapshots, for peers that have nothing, one at a time beside everything else.
//!
//! One thread waits for documents that may have grown enough, reads their changes, hands them to a child process
//! ([`rejoin::fold`]) and stores what comes back. No transaction is open while the child works. What a document does to
//! its child is nobody else's affair: it fails, is noted, and goes out as changes as before. Old changes are packed on the way.
//!
//! While somebody writes changes, what is stored here takes half a percent of the time, so that it shows to none of them. One that
//! writes alone, and a thousand or two a second, is not given way to: what it wrote would not be packed as fast as it comes.
//!
//! The queue is short and forgets what does not fit: a document that goes on growing comes again, and so does one that
//! somebody asks for.

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use rejoin::fold::{FoldCommand, FoldError, Folder, Input};
use rejoin::gate::CheckedChange;
use rejoin::ledger::{self, Appended, snapshot};
use rejoin::limits::{FOLD_CHANGES_MIN, PACK_KEEP};
use rejoin::store::{Store, StoreError, StoreExt, WriteTx};
use rejoin::{ChangeHash, DocumentId};
use tokio::sync::Semaphore;

use crate::limits::{
    FOLD_CHECK_EVERY, FOLD_LOOK, FOLD_NOTICED_FOR, FOLD_QUEUE_MAX, FOLD_REST_FACTOR, FOLD_REST_MAX,
    FOLD_STARTS_FAILED_MAX, UNFOLD_CPU_SECONDS, UNFOLD_REFUSED_MAX, UNFOLD_TIMEOUT, UNFOLDS_AT_ONCE,
};
use crate::metrics::{FoldResult, Metrics};

/// Folds documents in the background, and takes whole documents apart.
#[derive(Debug)]
pub(crate) struct Folding {
    folder: Arc<Folder>,
    /// The same, for work that strangers set.
    unfolder: Arc<Folder>,
    queue: Mutex<Option<SyncSender<DocumentId>>>,
    /// What is in the queue, so that it is there once.
    queued: Arc<Mutex<HashSet<DocumentId>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    unfolds: Semaphore,
    /// Documents of which a whole form could not be taken apart: nobody is asked for one again.
    refused: Mutex<HashSet<DocumentId>>,
    /// When somebody wrote last who would notice what keeps the store.
    noticed: Arc<Mutex<Option<Instant>>>,
    metrics: Arc<Metrics>,
}

/// The thread that folds.
struct Worker {
    store: Arc<dyn Store>,
    folder: Arc<Folder>,
    inbox: Receiver<DocumentId>,
    queued: Arc<Mutex<HashSet<DocumentId>>>,
    starts_failed: u32,
    noticed: Arc<Mutex<Option<Instant>>>,
    metrics: Arc<Metrics>,
}

/// A document's changes, read for a fold.
struct Reading {
    input: Input,
    count: u64,
    heads: Vec<ChangeHash>,
}

impl Folding {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// What the operating system says when it grants no thread.
    pub(crate) fn start(store: Arc<dyn Store>, command: FoldCommand, metrics: Arc<Metrics>) -> io::Result<Self> {
        let (sender, inbox) = sync_channel(FOLD_QUEUE_MAX);
        let mut hasty = command.clone();
        hasty.cpu_seconds = hasty.cpu_seconds.min(UNFOLD_CPU_SECONDS);
        hasty.timeout = hasty.timeout.min(UNFOLD_TIMEOUT);
        let (folder, unfolder) = (Arc::new(Folder::new(command)), Arc::new(Folder::new(hasty)));
        let queued = Arc::<Mutex<HashSet<_>>>::default();
        let noticed = Arc::<Mutex<_>>::default();
        let worker = Worker {
            store,
            folder: Arc::clone(&folder),
            inbox,
            queued: Arc::clone(&queued),
            starts_failed: 0,
            noticed: Arc::clone(&noticed),
            metrics: Arc::clone(&metrics),
        };
        let thread = std::thread::Builder::new().name("fold".to_owned()).spawn(move || worker.run())?;
        Ok(Self {
            folder,
            unfolder,
            queue: Mutex::new(Some(sender)),
            queued,
            thread: Mutex::new(Some(thread)),
            unfolds: Semaphore::new(UNFOLDS_AT_ONCE),
            refused: Mutex::default(),
            noticed,
            metrics,
        })
    }

    /// Learns what was appended to a document. Every so many changes it is looked at. Cost: a glance at each.
    pub(crate) fn appended<'a>(&self, document: DocumentId, mut results: impl Iterator<Item = &'a Appended>) {
        let is_time = |appended: &Appended| match appended {
            Appended::Stored { position } => (position + 1).is_multiple_of(FOLD_CHECK_EVERY),
            _ => false,
        };
        if results.any(is_time) {
            self.look_at(document);
        }
    }

    /// Learns that somebody writes who would notice what keeps the store.
    pub(crate) fn give_way(&self, now: Instant) {
        *lock(&self.noticed) = Some(now);
    }

    /// Learns that somebody takes part in a document of this many changes.
    pub(crate) fn subscribed(&self, document: DocumentId, count: u64) {
        if count >= FOLD_CHANGES_MIN {
            self.look_at(document);
        }
    }

    /// Queues a document, unless it is queued or the queue is full.
    fn look_at(&self, document: DocumentId) {
        if !lock(&self.queued).insert(document) {
            return;
        }
        let sent = lock(&self.queue).as_ref().map(|queue| queue.try_send(document));
        if !matches!(sent, Some(Ok(()))) {
            if let Some(Err(TrySendError::Full(_))) = sent {
                tracing::debug!("the queue of documents to fold is full");
            }
            lock(&self.queued).remove(&document);
        }
    }

    /// Takes a whole document apart into its changes, as far as they pass the gate; none if it cannot be done.
    pub(crate) async fn unfold(&self, document: DocumentId, chunk: Bytes) -> Option<Vec<CheckedChange>> {
        if !self.may_ask_for(&document) {
            return None;
        }
        // The semaphore is never closed.
        let _turn = self.unfolds.acquire().await.ok()?;
        let folder = Arc::clone(&self.unfolder);
        let bytes = chunk.len();
        let begun = Instant::now();
        let outcome = tokio::task::spawn_blocking(move || {
            let changes = folder.unfold(&chunk)?;
            let checked = changes.into_iter().map(|change| CheckedChange::parse(&change));
            Ok::<_, FoldError>(checked.collect::<Vec<_>>())
        });
        let outcome = outcome.await;
        let ms = begun.elapsed().as_millis();
        match outcome {
            Ok(Ok(changes)) => {
                let found = changes.len();
                let changes: Vec<_> = changes.into_iter().filter_map(Result::ok).collect();
                let refused = found - changes.len();
                self.metrics.unfolded(FoldResult::Done);
                tracing::info!(document = %document.label(), changes = found, refused, bytes, ms, "a whole document came");
                Some(changes)
            }
            Ok(Err(error)) => {
                result_of(&error).into_iter().for_each(|result| self.metrics.unfolded(result));
                let text = words(&error);
                tracing::warn!(document = %document.label(), bytes, error = text, "a whole document was refused");
                if error.is_about_the_document() {
                    self.refuse(document);
                }
                None
            }
            // It panicked, and said so itself.
            Err(_) => None,
        }
    }

    /// Says whether peers may be asked for a document as a whole.
    pub(crate) fn may_ask_for(&self, document: &DocumentId) -> bool {
        !lock(&self.refused).contains(document)
    }

    fn refuse(&self, document: DocumentId) {
        let mut refused = lock(&self.refused);
        if refused.len() >= UNFOLD_REFUSED_MAX {
            refused.clear();
        }
        refused.insert(document);
    }

    /// Kills the children under way, and starts no other.
    pub(crate) fn stop(&self) {
        self.folder.stop();
        self.unfolder.stop();
        lock(&self.queue).take();
    }

    /// Waits for the end of the thread, after [`Folding::stop`].
    pub(crate) async fn finish(&self) {
        self.stop();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // Its panic, if there was one, was reported by itself.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Worker {
    fn run(mut self) {
        while let Ok(document) = self.inbox.recv() {
            lock(&self.queued).remove(&document);
            if self.folder.is_stopped() {
                return;
            }
            if let Err(error) = self.fold(document) {
                tracing::error!(document = %document.label(), %error, "failed to read or write a snapshot");
            }
            if let Err(error) = self.pack(document) {
                tracing::error!(document = %document.label(), %error, "failed to pack old changes");
            }
            if self.starts_failed >= FOLD_STARTS_FAILED_MAX {
                tracing::error!(
                    "child processes do not start: nothing is folded any more, documents go out as changes"
                );
                return;
            }
        }
    }

    fn fold(&mut self, document: DocumentId) -> Result<(), StoreError> {
        let Some(reading) = self.read(&document)? else { return Ok(()) };
        let Reading { input, count, heads } = reading;
        let (bytes_before, begun) = (input.bytes(), Instant::now());
        match self.folder.fold(input, &heads) {
            Ok(folded) => {
                self.starts_failed = 0;
                let put =
                    |tx: &mut dyn WriteTx| snapshot::put(tx, &document, folded.count, &folded.heads, &folded.chunk);
                let kept = self.write(put)?;
                self.metrics.folded(FoldResult::Done);
                let (bytes_after, ms) = (folded.chunk.len(), begun.elapsed().as_millis());
                tracing::info!(
                    document = %document.label(), changes = count, bytes_before, bytes_after, ms, kept,
                    "a document was folded"
                );
                Ok(())
            }
            Err(error) => self.failed(document, count, &error),
        }
    }

    /// Packs the document's old changes, each pack in a transaction of its own, between those of the connections.
    fn pack(&self, document: DocumentId) -> Result<(), StoreError> {
        while !self.folder.is_stopped() {
            let packing = ledger::prepare_packing(&*self.store.read()?, &document, PACK_KEEP)?;
            let Some(packing) = packing else { break };
            // None are packed if the document became another one meanwhile: it comes again.
            if self.write(|tx| ledger::put_packing(tx, &packing))? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Writes to the store, and then leaves it to others for many times as long as that took, if there are any.
    fn write<T>(&self, work: impl FnOnce(&mut dyn WriteTx) -> Result<T, StoreError>) -> Result<T, StoreError> {
        // What it waits for its turn is others' time.
        let mut begun = Instant::now();
        let outcome = self.store.write_with(|tx| {
            begun = Instant::now();
            work(tx)
        });
        let rest = (begun.elapsed() * FOLD_REST_FACTOR).min(FOLD_REST_MAX);
        let ended = Instant::now();
        while !self.folder.is_stopped()
            && self.is_noticed()
            && let Some(left) = rest.checked_sub(ended.elapsed()).filter(|left| !left.is_zero())
        {
            std::thread::sleep(left.min(FOLD_LOOK));
        }
        outcome
    }

    /// Says whether somebody has just written who would notice.
    fn is_noticed(&self) -> bool {
        lock(&self.noticed).is_some_and(|at| at.elapsed() < FOLD_NOTICED_FOR)
    }

    fn failed(&mut self, document: DocumentId, count: u64, error: &FoldError) -> Result<(), StoreError> {
        if matches!(error, FoldError::Stopped) {
            return Ok(());
        }
        result_of(error).into_iter().for_each(|result| self.metrics.folded(result));
        let text = words(error);
        tracing::warn!(document = %document.label(), changes = count, error = text, "a document was not folded");
        if error.is_about_the_document() {
            self.starts_failed = 0;
            return self.store.write_with(|tx| snapshot::note_failure(tx, &document, count));
        }
        self.starts_failed += 1;
        Ok(())
    }

    /// Reads a document's changes if it is time to fold it.
    fn read(&self, document: &DocumentId) -> Result<Option<Reading>, StoreError> {
        let tx = self.store.read()?;
        let Some(state) = ledger::state(&*tx, document)? else { return Ok(None) };
        if !snapshot::is_due(&*tx, document, &state)? {
            return Ok(None);
        }
        let mut input = Input::new();
        let mut fits = true;
        ledger::export(&*tx, document, 0, &mut |change| {
            fits = input.push(change).is_ok();
            if fits { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        // A snapshot of a document whose count and changes disagree would be wrong for ever.
        let is_whole = fits && input.count() == state.count;
        Ok(is_whole.then(|| Reading { input, count: state.count, heads: state.head_hashes() }))
    }
}

/// Says as what a failure is counted; one that was called off is none.
fn result_of(error: &FoldError) -> Option<FoldResult> {
    match error {
        FoldError::Stopped => None,
        FoldError::Start(_) => Some(FoldResult::NotStarted),
        FoldError::Crashed { .. } => Some(FoldResult::Crashed),
        FoldError::TimedOut { .. } => Some(FoldResult::TimedOut),
        _ => Some(FoldResult::Refused),
    }
}

/// Says in our own words what went wrong: those of the child may hold what is in the document.
fn words(error: &FoldError) -> String {
    match error {
        FoldError::Crashed { status, .. } => format!("the child process ended early ({status})"),
        FoldError::Refused { .. } => "the child process refuses".to_owned(),
        error => error.to_string(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that runs under these locks panics half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
