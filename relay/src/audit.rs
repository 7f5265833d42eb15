//! The audit trail: every act of an administrator, and every write that was refused. Never what a document holds, and no token.
//!
//! One thread writes it, many records in one transaction. A write that is refused is put into a queue that is bounded; where it
//! is full the record is lost and counted, so that nobody ever waits for the trail who stores changes. An act of an
//! administrator waits until it is durable.
//!
//! Both kinds are numbered together and kept apart, the oldest go first: whoever has many writes refused cannot wash the acts
//! out of the trail.
//!
//! ```text
//! audit-1:  kind (1 byte: 1 an act, 2 a refusal), number (8 bytes, big-endian) -> the record, a JSON object
//!           0                                      -> next number, acts, refusals (8 bytes each, little-endian)
//! ```

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rejoin::store::{ReadTx, Store, StoreError, StoreExt, Table, WriteTx};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use utoipa::ToSchema;

use crate::clock::now_seconds;
use crate::limits::{AUDIT_BATCH_MAX, AUDIT_INTERVAL, AUDIT_QUEUE_MAX, AUDIT_ROWS_MAX_DEFAULT, AUDIT_TRIM_ROWS};

mod read;
mod refusals;

pub(crate) use refusals::Refusals;

pub(crate) use read::{Filter, Page, check, read, read_last};

/// Who acts on the data of a stopped relay: whoever may write the file.
const COMMAND_LINE: &str = "command line";

const HEADER_KEY: &[u8] = &[0];

/// What kind of thing was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// An act of an administrator.
    Act,
    /// A write that was refused.
    Refusal,
}

impl Kind {
    const ALL: [Kind; 2] = [Kind::Act, Kind::Refusal];

    fn byte(self) -> u8 {
        match self {
            Self::Act => 1,
            Self::Refusal => 2,
        }
    }
}

/// What is on record of one act or refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// When, in seconds since 1970.
    pub(crate) time_seconds: u64,
    pub(crate) kind: Kind,
    /// Who: the name of the administrator's credential, or the principal whose write was refused; empty for nobody.
    pub(crate) who: String,
    /// What was done, as `space.create`; `append` for a refusal.
    pub(crate) action: String,
    /// To what: `space/<id>`, `principal/<id>`, `document/<id>` and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
    /// How it ended: `ok` or the code of an error.
    pub(crate) outcome: String,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    /// The first of the refused changes, by its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) change: Option<String>,
    /// How many changes were refused together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<u64>,
}

impl Record {
    /// Makes a record of now, about nothing in particular and from nowhere.
    pub(crate) fn new(kind: Kind, who: &str, action: &str, outcome: &str) -> Self {
        Self {
            time_seconds: now_seconds(),
            kind,
            who: who.to_owned(),
            action: action.to_owned(),
            target: None,
            outcome: outcome.to_owned(),
            address: None,
            change: None,
            count: None,
        }
    }
}

/// Puts on record what was done to the data of a stopped relay. Nothing is taken away for it: the relay does that when it runs.
pub(crate) fn record_offline(store: &dyn Store, action: &str, target: Option<String>) -> Result<(), StoreError> {
    let record = Record { target, ..Record::new(Kind::Act, COMMAND_LINE, action, "ok") };
    store.write_with(|tx| append(tx, std::slice::from_ref(&record), u64::MAX))
}

/// Takes records in.
#[derive(Debug)]
pub(crate) struct Audit {
    queue: mpsc::Sender<Job>,
    rows_max: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Job {
    Record(Record, Option<oneshot::Sender<()>>),
    /// Answers when all that was queued before is written.
    Flush(oneshot::Sender<()>),
    Stop,
}

impl Audit {
    /// Starts the thread that writes.
    ///
    /// # Errors
    ///
    /// What the operating system says when it grants no thread.
    pub(crate) fn start(store: Arc<dyn Store>) -> std::io::Result<Self> {
        let (queue, inbox) = mpsc::channel(AUDIT_QUEUE_MAX);
        let rows_max = Arc::new(AtomicUsize::new(AUDIT_ROWS_MAX_DEFAULT));
        let lost = Arc::default();
        let writer = Writer { store, inbox, rows_max: Arc::clone(&rows_max), lost: Arc::clone(&lost) };
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run())?;
        Ok(Self { queue, rows_max, lost, thread: Mutex::new(Some(thread)) })
    }

    /// Sets how many records of each kind are kept.
    pub(crate) fn set_rows_max(&self, count: usize) {
        self.rows_max.store(count.max(1), Ordering::Relaxed);
    }

    /// Records an act, and returns when that is durable.
    pub(crate) async fn act(&self, record: Record) {
        let (done, written) = oneshot::channel();
        if self.queue.send(Job::Record(record, Some(done))).await.is_err() || written.await.is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records a write that was refused. Never waits.
    pub(crate) fn refused(&self, record: Record) {
        if self.queue.try_send(Job::Record(record, None)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all that was recorded before can be read.
    pub(crate) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.queue.send(Job::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }

    /// Returns how many records were lost because the queue was full or the store could not be written.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Writes what is queued, and takes nothing more.
    pub(crate) async fn finish(&self) {
        // An error means that the thread is gone already.
        let _ = self.queue.send(Job::Stop).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// The thread that writes.
struct Writer {
    store: Arc<dyn Store>,
    inbox: mpsc::Receiver<Job>,
    rows_max: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self) {
        while let Some(first) = self.inbox.blocking_recv() {
            let mut batch = Batch::default();
            batch.take(first, &mut self.inbox);
            let until = Instant::now() + AUDIT_INTERVAL;
            while batch.records.len() < AUDIT_BATCH_MAX {
                match self.inbox.try_recv() {
                    Ok(job) => batch.take(job, &mut self.inbox),
                    Err(_) if batch.is_urgent || Instant::now() >= until => break,
                    // Each commit is one the changes wait for: refusals share theirs.
                    Err(_) => std::thread::sleep(LOOK),
                }
            }
            self.write(batch);
        }
    }

    fn write(&self, batch: Batch) {
        let rows_max = self.rows_max.load(Ordering::Relaxed) as u64;
        let Batch { records, waiting, .. } = batch;
        let outcome =
            if records.is_empty() { Ok(()) } else { self.store.write_with(|tx| append(tx, &records, rows_max)) };
        if let Err(error) = outcome {
            self.lost.fetch_add(records.len() as u64, Ordering::Relaxed);
            tracing::error!(%error, records = records.len(), "failed to write the audit trail");
            // What was done is done, and somebody was told so: then the log is where it stands.
            for Record { who, action, target, outcome, address, .. } in records.iter().filter(|it| it.kind == Kind::Act)
            {
                tracing::error!(who, action, target, outcome, address, "not in the audit trail");
            }
        }
        for done in waiting {
            // Whoever waited may have gone.
            let _ = done.send(());
        }
    }
}

/// How often it is looked whether more has come.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    waiting: Vec<oneshot::Sender<()>>,
    /// Somebody waits, or the relay stops.
    is_urgent: bool,
}

impl Batch {
    fn take(&mut self, job: Job, inbox: &mut mpsc::Receiver<Job>) {
        match job {
            Job::Record(record, done) => {
                self.is_urgent |= done.is_some();
                self.records.push(record);
                self.waiting.extend(done);
            }
            Job::Flush(done) => {
                self.is_urgent = true;
                self.waiting.push(done);
            }
            Job::Stop => {
                self.is_urgent = true;
                inbox.close();
            }
        }
    }
}

/// How the trail stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Header {
    /// The number of the next record, from 1 on.
    next: u64,
    counts: [u64; 2],
}

impl Header {
    fn read(tx: &(impl ReadTx + ?Sized)) -> Result<Self, StoreError> {
        let Some(bytes) = tx.get(Table::Audit, HEADER_KEY)? else { return Ok(Self { next: 1, counts: [0; 2] }) };
        let mut numbers = bytes.chunks_exact(8).filter_map(|chunk| Some(u64::from_le_bytes(chunk.try_into().ok()?)));
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(next), Some(acts), Some(refusals)) if next > 0 => Ok(Self { next, counts: [acts, refusals] }),
            _ => Err(StoreError::Damaged { what: "the header of audit-1" }),
        }
    }

    fn put(&self, tx: &mut (impl WriteTx + ?Sized)) -> Result<(), StoreError> {
        let bytes: Vec<u8> = [self.next, self.counts[0], self.counts[1]].iter().flat_map(|n| n.to_le_bytes()).collect();
        tx.put(Table::Audit, HEADER_KEY, &bytes)
    }
}

/// Writes records, and takes the oldest away where more than `rows_max` of a kind are there: at most
/// [`AUDIT_TRIM_ROWS`] and as many as were written.
fn append(tx: &mut dyn WriteTx, records: &[Record], rows_max: u64) -> Result<(), StoreError> {
    let mut header = Header::read(tx)?;
    for record in records {
        let row = serde_json::to_vec(record).map_err(|error| StoreError::Engine(error.to_string()))?;
        tx.put(Table::Audit, &key(record.kind, header.next), &row)?;
        header.next += 1;
        header.counts[usize::from(record.kind.byte() - 1)] += 1;
    }
    for kind in Kind::ALL {
        let count = &mut header.counts[usize::from(kind.byte() - 1)];
        let surplus = count.saturating_sub(rows_max).min((AUDIT_TRIM_ROWS + records.len()) as u64);
        *count -= trim(tx, kind, surplus)?;
    }
    header.put(tx)
}

fn trim(tx: &mut dyn WriteTx, kind: Kind, surplus: u64) -> Result<u64, StoreError> {
    if surplus == 0 {
        return Ok(0);
    }
    let (mut count, mut end) = (0, Vec::new());
    tx.scan(Table::Audit, &[kind.byte()]..&[kind.byte() + 1], &mut |key, _| {
        if count == surplus {
            end = key.to_vec();
            return std::ops::ControlFlow::Break(());
        }
        count += 1;
        std::ops::ControlFlow::Continue(())
    })?;
    let end = if end.is_empty() { vec![kind.byte() + 1] } else { end };
    tx.delete_range(Table::Audit, &[kind.byte()]..&end)?;
    Ok(count)
}

fn key(kind: Kind, number: u64) -> [u8; 9] {
    let mut key = [kind.byte(); 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

#[cfg(test)]
mod tests;
