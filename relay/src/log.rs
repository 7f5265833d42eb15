//! The log: makes changes durable, those of many connections in one commit, and answers only then.
//!
//! One thread writes. It takes what has gathered while the last commit was under way, puts it into one transaction, and
//! when that has reached the disk it answers every request and tells the hub which documents changed. A lone change is
//! committed at once. When changes come one after the other, commits begin [`COMMIT_INTERVAL`] apart: a commit costs the
//! same for one change as for ten, and whoever reads them gets those ten in one message.
//!
//! A request with more changes than fit a commit is carried out over several, between those of others.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use rejoin::DocumentId;
use rejoin::deletion::Tombstone;
use rejoin::gate::CheckedChange;
use rejoin::ledger::{Appended, Appender};
use rejoin::store::{self, Store, StoreError};
use rejoin::sync::Recent;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::deletion::{self, Deletion};
use crate::fold::Folding;
use crate::hub::{ConnectionId, Hub};
use crate::limits::{
    APPEND_OVERHEAD_BYTES, APPEND_QUEUE_BYTES_MAX, COMMIT_BYTES_MAX, COMMIT_CHANGES_MAX, COMMIT_INTERVAL,
    COMMIT_REQUESTS_MAX,
};

/// The queue's room is counted in these many bytes, so that the count fits 32 bits.
const ROOM_UNIT_BYTES: usize = 1 << 10;

/// What became of the changes of a request, in their order.
pub(crate) type Results = Vec<(CheckedChange, Appended)>;

/// Hands changes to the thread that writes.
#[derive(Debug)]
pub(crate) struct GroupCommit {
    requests: mpsc::Sender<Request>,
    /// How much more may wait.
    room: Arc<Semaphore>,
    writable: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Why changes were not appended. Some of them may have been; offering them again does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AppendError {
    /// The relay is stopping.
    #[error("the relay is stopping")]
    Stopped,
    /// They came as a whole document that cannot be taken apart.
    #[error("the document cannot be taken apart")]
    Whole,
    /// The store refused; the log has the reason.
    #[error("the store cannot be written")]
    Store,
}

enum Request {
    Append(Job),
    /// See whether the store can be written again.
    Probe,
    Delete(Deletion),
    /// Finish what is queued, then end.
    Stop,
}

/// A request under way.
struct Job {
    from: ConnectionId,
    document: DocumentId,
    changes: Vec<CheckedChange>,
    /// What became of the first changes; the rest is still to do.
    done: Vec<Appended>,
    answer: oneshot::Sender<Result<Results, AppendError>>,
    /// The request's room in the queue, given back when it is answered.
    _room: OwnedSemaphorePermit,
}

impl GroupCommit {
    /// Starts the thread that writes.
    ///
    /// # Errors
    ///
    /// What the operating system says when it grants no thread.
    pub(crate) fn start(store: Arc<dyn Store>, hub: Arc<Hub>, folding: Option<Arc<Folding>>) -> std::io::Result<Self> {
        let (requests, inbox) = mpsc::channel(COMMIT_REQUESTS_MAX);
        let writable = Arc::new(AtomicBool::new(true));
        let writer = Writer { store, hub, folding, inbox, jobs: VecDeque::new(), writable: Arc::clone(&writable) };
        let thread = std::thread::Builder::new().name("group-commit".to_owned()).spawn(move || writer.run())?;
        let room = Arc::new(Semaphore::new(APPEND_QUEUE_BYTES_MAX / ROOM_UNIT_BYTES));
        Ok(Self { requests, room, writable, thread: Mutex::new(Some(thread)) })
    }

    /// Appends changes to a document, and returns when they are durable. Waits while the queue is full.
    ///
    /// # Errors
    ///
    /// [`AppendError`]; the connection cannot go on then, because its peer takes them for delivered.
    pub(crate) async fn append(
        &self,
        from: ConnectionId,
        document: DocumentId,
        changes: Vec<CheckedChange>,
    ) -> Result<Results, AppendError> {
        let bytes: usize = changes.iter().map(|change| change.bytes().len() + APPEND_OVERHEAD_BYTES).sum();
        // A million tiny changes outgrow the queue by their overhead alone: they get all of it.
        let units = bytes.div_ceil(ROOM_UNIT_BYTES).min(APPEND_QUEUE_BYTES_MAX / ROOM_UNIT_BYTES);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(units).await.map_err(|_| AppendError::Stopped)?;
        let (answer, answered) = oneshot::channel();
        let done = Vec::with_capacity(changes.len());
        let job = Job { from, document, changes, done, answer, _room: room };
        self.requests.send(Request::Append(job)).await.map_err(|_| AppendError::Stopped)?;
        answered.await.map_err(|_| AppendError::Stopped)?
    }

    /// Deletes a document everywhere, as far as this relay goes, and returns when that is durable.
    ///
    /// # Errors
    ///
    /// [`AppendError`]; the document may be deleted all the same. Trying again does no harm.
    pub(crate) async fn delete(
        &self,
        from: ConnectionId,
        document: DocumentId,
        tombstone: Tombstone,
    ) -> Result<(), AppendError> {
        let (answer, answered) = oneshot::channel();
        let deletion = Deletion { from, document, tombstone, answer };
        self.requests.send(Request::Delete(deletion)).await.map_err(|_| AppendError::Stopped)?;
        answered.await.map_err(|_| AppendError::Stopped)?
    }

    /// Says whether the last commit went well.
    pub(crate) fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }

    /// Has the thread try whether the store can be written again, unless it has much to write anyway.
    ///
    /// Without it a relay that shows itself as not ready, and so gets no changes, would never find out.
    pub(crate) fn probe(&self) {
        let _ = self.requests.try_send(Request::Probe);
    }

    /// Finishes what is queued and ends the thread.
    pub(crate) async fn finish(&self) {
        // An error means that the thread is gone already.
        let _ = self.requests.send(Request::Stop).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Its panic, if there was one, was reported by itself, and `writable` shows it.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// The thread that writes.
struct Writer {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    /// Is told what grew.
    folding: Option<Arc<Folding>>,
    inbox: mpsc::Receiver<Request>,
    /// What is to be done, each in turn.
    jobs: VecDeque<Job>,
    writable: Arc<AtomicBool>,
}

/// A job and which of its changes go into the next commit.
struct Slice {
    job: Job,
    changes: Range<usize>,
}

/// What became of a slice.
struct Outcome {
    appended: Vec<Appended>,
    /// What is new, to be told once it is committed.
    recent: Option<Recent>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        // However the thread ends, nothing is written any more.
        self.writable.store(false, Ordering::Relaxed);
    }
}

impl Writer {
    fn run(mut self) {
        let mut next_commit = Instant::now();
        loop {
            if self.jobs.is_empty() {
                match self.inbox.blocking_recv() {
                    Some(request) => self.take(request),
                    None => return,
                }
                // What an earlier commit had no room for does not wait, nor does the relay's end.
                if !self.inbox.is_closed() {
                    std::thread::sleep(next_commit.saturating_duration_since(Instant::now()));
                }
            }
            next_commit = Instant::now() + COMMIT_INTERVAL;
            while self.jobs.len() < COMMIT_REQUESTS_MAX
                && let Ok(request) = self.inbox.try_recv()
            {
                self.take(request);
            }
            let slices = self.next_slices();
            self.carry_out(slices);
        }
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Append(job) => self.jobs.push_back(job),
            Request::Probe => self.probe(),
            Request::Delete(deletion) => self.delete(deletion),
            Request::Stop => self.inbox.close(),
        }
    }

    /// Deletes at once: of changes to the document that wait for their commit, none is taken any more.
    fn delete(&self, deletion: Deletion) {
        let Deletion { from, document, tombstone, answer } = deletion;
        let outcome = match deletion::bury(&*self.store, &document, &tombstone) {
            Ok(is_news) => {
                if is_news {
                    self.hub.publish_deleted(document, from);
                }
                Ok(())
            }
            Err(error) => {
                self.writable.store(false, Ordering::Relaxed);
                tracing::error!(%error, "failed to delete a document");
                Err(AppendError::Store)
            }
        };
        // Whoever asked may have gone; the document stays deleted.
        let _ = answer.send(outcome);
    }

    fn probe(&self) {
        // Of many that asked, the first has the answer.
        if self.writable.load(Ordering::Relaxed) {
            return;
        }
        match store::probe(&*self.store) {
            Ok(()) => {
                self.writable.store(true, Ordering::Relaxed);
                tracing::info!("the store can be written again");
            }
            Err(error) => tracing::warn!(%error, "the store still cannot be written"),
        }
    }

    /// Chooses what the next commit holds, first come first served, within its bounds and at least one change.
    fn next_slices(&mut self) -> Vec<Slice> {
        let mut slices = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        while let Some(job) = self.jobs.pop_front() {
            let start = job.done.len();
            let mut end = start;
            for change in &job.changes[start..] {
                bytes += change.bytes().len();
                if count > 0 && (count >= COMMIT_CHANGES_MAX || bytes > COMMIT_BYTES_MAX) {
                    break;
                }
                count += 1;
                end += 1;
            }
            if end == start && !job.changes.is_empty() {
                self.jobs.push_front(job);
                break;
            }
            slices.push(Slice { job, changes: start..end });
        }
        slices
    }

    /// Commits slices together. If that fails, one by one: what is wrong with one document is not the others' fault.
    fn carry_out(&mut self, slices: Vec<Slice>) {
        match self.commit(&slices) {
            Ok(results) => {
                for (slice, results) in slices.into_iter().zip(results) {
                    self.settle(slice, results);
                }
            }
            Err(error) if slices.len() == 1 => {
                self.writable.store(false, Ordering::Relaxed);
                tracing::error!(%error, "failed to append changes");
                for slice in slices {
                    // Whoever asked may have gone.
                    let _ = slice.job.answer.send(Err(AppendError::Store));
                }
            }
            Err(_) => {
                for slice in slices {
                    self.carry_out(vec![slice]);
                }
            }
        }
    }

    /// Appends slices in one transaction, and commits it if anything is new: what was there already needs no sync.
    fn commit(&self, slices: &[Slice]) -> Result<Vec<Outcome>, StoreError> {
        let mut results = Vec::with_capacity(slices.len());
        let mut nothing_new = false;
        let outcome = self.store.write(&mut |tx| {
            let mut stored = false;
            for slice in slices {
                let mut appender = Appender::begin(tx, slice.job.document)?;
                let before = appender.state().head_hashes();
                let mut appended = Vec::with_capacity(slice.changes.len());
                for change in &slice.job.changes[slice.changes.clone()] {
                    appended.push(appender.append(tx, change)?);
                }
                // A document of which nothing was accepted is not created.
                let mut recent = None;
                if appended.iter().any(is_stored) {
                    let heads = appender.finish(tx)?.head_hashes();
                    let changes = slice.job.changes[slice.changes.clone()].iter().zip(&appended);
                    let stored_bytes = changes.filter(|(_, appended)| is_stored(appended)).map(|(change, _)| change);
                    recent =
                        Some(Recent::new(before, heads, stored_bytes.map(|change| change.bytes().clone()).collect()));
                    stored = true;
                }
                results.push(Outcome { appended, recent });
            }
            nothing_new = !stored;
            // The transaction is empty: any error rolls it back and spares the disk.
            if nothing_new { Err(StoreError::NotCalled) } else { Ok(()) }
        });
        match outcome {
            Err(_) if nothing_new => Ok(results),
            Err(error) => Err(error),
            Ok(()) => {
                self.writable.store(true, Ordering::Relaxed);
                Ok(results)
            }
        }
    }

    /// After a commit: tells the others, and answers the request if it is done.
    fn settle(&mut self, slice: Slice, outcome: Outcome) {
        let mut job = slice.job;
        let Outcome { appended: results, recent } = outcome;
        if let Some(recent) = recent {
            self.hub.publish(job.document, job.from, recent);
            if let Some(folding) = &self.folding {
                folding.appended(job.document, &results);
            }
        }
        job.done.extend(results);
        if job.done.len() < job.changes.len() {
            self.jobs.push_back(job);
            return;
        }
        let results = job.changes.into_iter().zip(job.done).collect();
        // Whoever asked may have gone; what it brought stays.
        let _ = job.answer.send(Ok(results));
    }
}

fn is_stored(appended: &Appended) -> bool {
    matches!(appended, Appended::Stored { .. })
}

#[cfg(test)]
mod crash;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use rejoin::gate::{Action, ChangeDraft, DraftObject, DraftOp, encode};
    use rejoin::store::{MemoryStore, ReadTx, WriteTx};
    use rejoin::{ActorId, ScalarValue, ledger};

    use super::*;

    /// Counts the transactions that reached the disk, and refuses one document's.
    struct Watched {
        inner: MemoryStore,
        commits: AtomicUsize,
    }

    const POISON: DocumentId = DocumentId::from_bytes([0xff; 16]);

    impl Watched {
        fn new() -> Arc<Self> {
            Arc::new(Self { inner: MemoryStore::new(), commits: AtomicUsize::new(0) })
        }
    }

    impl Store for Watched {
        fn read(&self) -> Result<Box<dyn ReadTx + '_>, StoreError> {
            self.inner.read()
        }

        fn write(&self, work: &mut dyn FnMut(&mut dyn WriteTx) -> Result<(), StoreError>) -> Result<(), StoreError> {
            self.inner.write(&mut |tx| {
                work(tx)?;
                match ledger::state(tx, &POISON)? {
                    Some(_) => Err(StoreError::Damaged { what: "poison" }),
                    None => Ok(()),
                }
            })?;
            self.commits.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    /// Makes a chain of changes by one actor.
    fn chain(length: usize) -> Vec<CheckedChange> {
        let mut changes: Vec<CheckedChange> = Vec::with_capacity(length);
        for counter in 1..=length as u64 {
            let op = DraftOp {
                object: DraftObject::Root,
                key: "k".to_owned(),
                action: Action::Put,
                value: ScalarValue::Null,
                preds: Vec::new(),
            };
            let draft = ChangeDraft {
                actor: ActorId::from(&b"alice"[..]),
                seq: counter,
                start_op: counter,
                timestamp: 0,
                message: None,
                deps: changes.last().map(CheckedChange::hash).into_iter().collect(),
                ops: vec![op],
            };
            changes.push(encode(&draft).expect("an honest change"));
        }
        changes
    }

    fn document(number: u8) -> DocumentId {
        DocumentId::from_bytes([number; 16])
    }

    fn start(store: &Arc<Watched>) -> (GroupCommit, ConnectionId) {
        let hub = Arc::new(Hub::default());
        let log = GroupCommit::start(Arc::clone(store) as Arc<dyn Store>, Arc::clone(&hub), None).expect("a thread");
        (log, hub.enter().id())
    }

    #[tokio::test]
    async fn duplicates_and_orphans_cost_no_commit_and_make_no_document() {
        let store = Watched::new();
        let (log, from) = start(&store);
        let changes = chain(2);
        let stored = log.append(from, document(1), changes.clone()).await.expect("a sound store");
        assert!(stored.iter().all(|(_, appended)| is_stored(appended)));
        let again = log.append(from, document(1), changes.clone()).await.expect("a sound store");
        assert!(again.iter().all(|(_, appended)| *appended == Appended::Duplicate));
        let orphan = log.append(from, document(2), changes[1..].to_vec()).await.expect("a sound store");
        assert!(matches!(orphan[0].1, Appended::Missing { .. }));
        assert_eq!(store.commits.load(Ordering::Relaxed), 1);
        let state = ledger::state(&*store.read().expect("in memory"), &document(2)).expect("in memory");
        assert_eq!(state, None);
    }

    #[tokio::test]
    async fn request_above_a_commits_bound_takes_several() {
        let store = Watched::new();
        let (log, from) = start(&store);
        let changes = chain(COMMIT_CHANGES_MAX + 1);
        let results = log.append(from, document(1), changes).await.expect("a sound store");
        assert!(results.iter().all(|(_, appended)| is_stored(appended)));
        assert_eq!((results.len(), store.commits.load(Ordering::Relaxed)), (COMMIT_CHANGES_MAX + 1, 2));
    }

    #[tokio::test]
    async fn what_is_wrong_with_one_document_is_not_the_others_fault() {
        let store = Watched::new();
        let (log, from) = start(&store);
        let (good, bad, also_good) = tokio::join!(
            log.append(from, document(1), chain(1)),
            log.append(from, POISON, chain(1)),
            log.append(from, document(2), chain(1)),
        );
        assert!(good.is_ok() && also_good.is_ok());
        assert_eq!(bad.err(), Some(AppendError::Store));
    }

    #[tokio::test]
    async fn what_was_queued_before_the_end_is_still_committed() {
        let store = Watched::new();
        let (log, from) = start(&store);
        let (appended, ()) = tokio::join!(log.append(from, document(1), chain(3)), log.finish());
        assert_eq!(appended.map(|results| results.len()), Ok(3));
        assert!(!log.is_writable());
        assert_eq!(log.append(from, document(1), chain(4)).await.err(), Some(AppendError::Stopped));
    }
}
