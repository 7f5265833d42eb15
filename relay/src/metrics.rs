//! Metrics: what a relay counts and measures, in the text that Prometheus and its kin read.
//!
//! Every relay has its own [`Metrics`]. Counting is an atomic addition, without a lock and without memory: what has labels has
//! all of its counters from the start. What would cost something to keep up to date (memory, file descriptors, the disk) is
//! looked up when somebody asks.
//!
//! `relay/docs/observe.md` says of each what it means and what to do when it moves.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use rejoin::codec::v1::Code;
use rejoin::gate::Rule;
use rejoin::store::Store;

mod labels;
pub(crate) mod panics;
pub(crate) mod process;
mod series;

pub use labels::{AppendResult, Direction, FoldResult, Protocol, RefusedConnection};
pub use panics::watch_panics;

use crate::auth::{Directory, Reason};
use crate::clock::now_seconds;
use crate::quota::{Kind, Quota};
use labels::{QuotaLabel, ReasonLabel, RuleLabel, Way};
use series::{Counters, Gauges, Histogram, Histograms};

/// What an answer with metrics is, for `Content-Type`.
pub const CONTENT_TYPE_OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A counter of whole numbers.
type Count = Counter<u64, AtomicU64>;
/// A number that goes up and down.
type Level = Gauge<i64, AtomicI64>;

/// What one relay counts and measures.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    connections: Gauges<Protocol>,
    connections_opened: Counters<Protocol>,
    connections_behind: Gauges<Protocol>,
    connections_refused: Counters<RefusedConnection>,
    auth_failures: Counters<ReasonLabel>,
    frames: Counters<Way>,
    frame_bytes: Counters<Way>,
    appends: Counters<AppendResult>,
    gate_rejects: Counters<RuleLabel>,
    equivocations: Count,
    deletions: Count,
    commit_seconds: Histogram,
    commit_changes: Histogram,
    commits_failed: Count,
    ack_seconds: Histograms<Protocol>,
    deliver_lag_seconds: Histograms<Protocol>,
    backlog: Arc<Backlog>,
    slow_consumers_closed: Count,
    silent_peers_closed: Count,
    quota_rejects: Counters<QuotaLabel>,
    folds: Counters<FoldResult>,
    unfolds: Counters<FoldResult>,
    child_crashes: Count,
    panics: Count,
    log_lines_left_out: Count,
    looked_up: LookedUp,
    sources: OnceLock<Sources>,
    long_reads: Mutex<LongReads>,
}

/// What waits for peers that do not read as fast as others write.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Frames that no socket has taken, and ephemeral values.
    bytes: AtomicI64,
}

impl Backlog {
    /// Notes that more bytes wait.
    pub(crate) fn more_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Notes that fewer bytes wait.
    pub(crate) fn fewer_bytes(&self, bytes: usize) {
        self.bytes.fetch_sub(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

/// What is looked up when somebody asks.
#[derive(Debug, Default)]
struct LookedUp {
    backlog_bytes: Level,
    store_bytes: Level,
    disk_free_bytes: Level,
    disk_size_bytes: Level,
    longest_read_seconds: Gauge<f64, AtomicU64>,
    draining: Level,
    ready: Level,
    epoch_age_seconds: Level,
    resident_bytes: Level,
    open_fds: Level,
    max_fds: Level,
    cpu_seconds: Counter<f64, AtomicU64>,
}

/// Where a running relay's numbers come from. Nothing is kept alive by being watched.
pub(crate) struct Sources {
    pub(crate) store: Weak<dyn Store>,
    /// Counts who was not let in.
    pub(crate) directory: Weak<Directory>,
    /// Counts what was held back.
    pub(crate) quota: Weak<Quota>,
    /// The directory of the data; empty if the store is in no file.
    pub(crate) data: PathBuf,
    pub(crate) draining: tokio::sync::watch::Receiver<bool>,
    /// When the log's life began, in seconds since 1970.
    pub(crate) epoch_since: Option<u64>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("data", &self.data).finish_non_exhaustive()
    }
}

/// The long reads under way, by their number.
#[derive(Debug, Default)]
struct LongReads {
    begun: BTreeMap<u64, Instant>,
    next: u64,
}

/// A long read under way: as long as it lives, old pages of the store are kept for it.
#[derive(Debug)]
pub struct LongRead {
    metrics: Arc<Metrics>,
    number: u64,
}

impl Drop for LongRead {
    fn drop(&mut self) {
        self.metrics.long_reads().begun.remove(&self.number);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Makes the metrics of one relay, all at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            connections: Gauges::default(),
            connections_opened: Counters::default(),
            connections_behind: Gauges::default(),
            connections_refused: Counters::default(),
            auth_failures: Counters::default(),
            frames: Counters::default(),
            frame_bytes: Counters::default(),
            appends: Counters::default(),
            gate_rejects: Counters::default(),
            equivocations: Count::default(),
            deletions: Count::default(),
            commit_seconds: Histogram::of_times(),
            commit_changes: Histogram::of_counts(),
            commits_failed: Count::default(),
            ack_seconds: Histograms::of_times(),
            deliver_lag_seconds: Histograms::of_times(),
            backlog: Arc::default(),
            slow_consumers_closed: Count::default(),
            silent_peers_closed: Count::default(),
            quota_rejects: Counters::default(),
            folds: Counters::default(),
            unfolds: Counters::default(),
            child_crashes: Count::default(),
            panics: Count::default(),
            log_lines_left_out: Count::default(),
            looked_up: LookedUp::default(),
            sources: OnceLock::new(),
            long_reads: Mutex::default(),
        };
        let mut registry = Registry::default();
        metrics.register_traffic(registry.sub_registry_with_prefix("rejoin_relay"));
        metrics.register_log(registry.sub_registry_with_prefix("rejoin_relay"));
        metrics.register_state(registry.sub_registry_with_prefix("rejoin_relay"));
        metrics.register_process(registry.sub_registry_with_prefix("process"));
        metrics.registry = registry;
        metrics
    }

    fn register_traffic(&self, to: &mut Registry) {
        to.register("connections", "WebSocket connections that are open", self.connections.clone());
        let help = "WebSocket connections that were taken";
        to.register("connections_opened", help, self.connections_opened.clone());
        let help = "Connections that were not taken, or shown out before they had said who they are";
        to.register("connections_refused", help, self.connections_refused.clone());
        to.register("auth_failures", "Tokens, or their lack, that let nobody in", self.auth_failures.clone());
        to.register("frames", "Messages of the protocol", self.frames.clone());
        let help = "Bytes of messages of the protocol";
        to.register_with_unit("frame", help, Unit::Bytes, self.frame_bytes.clone());
        let help = "From the arrival of a push until its answer is handed to the socket";
        to.register_with_unit("ack", help, Unit::Seconds, self.ack_seconds.clone());
        let help = "From a commit until a frame with it is handed to the socket of somebody who waits for it";
        to.register_with_unit("deliver_lag", help, Unit::Seconds, self.deliver_lag_seconds.clone());
        let help = "Connections with news that their socket has no room for";
        to.register("connections_behind", help, self.connections_behind.clone());
        let help = "Bytes of frames and ephemeral values that wait for the sockets of their readers";
        to.register_with_unit("backlog", help, Unit::Bytes, self.looked_up.backlog_bytes.clone());
        let help = "Connections that were closed because their peer took nothing for too long";
        to.register("slow_consumers_closed", help, self.slow_consumers_closed.clone());
        let help = "Connections that were closed because nothing came from their peer for too long";
        to.register("silent_peers_closed", help, self.silent_peers_closed.clone());
        let help = "What was held back or refused because somebody has used up what he was given";
        to.register("quota_rejects", help, self.quota_rejects.clone());
    }

    fn register_log(&self, to: &mut Registry) {
        to.register("appends", "Changes that peers brought", self.appends.clone());
        to.register("gate_rejects", "Changes that break a rule of the gate", self.gate_rejects.clone());
        let help = "Changes by an actor that wrote something else at the same place";
        to.register("equivocations", help, self.equivocations.clone());
        to.register("deletions", "Documents that were deleted everywhere", self.deletions.clone());
        let help = "Time that a transaction took, to the disk and back";
        to.register_with_unit("commit", help, Unit::Seconds, self.commit_seconds.clone());
        to.register("commit_changes", "Changes and deletions in a transaction", self.commit_changes.clone());
        to.register("commits_failed", "Transactions that could not be committed", self.commits_failed.clone());
        to.register("folds", "Long histories that were to be made into snapshots", self.folds.clone());
        to.register(
            "unfolds",
            "Whole documents that peers brought and that were to be taken apart",
            self.unfolds.clone(),
        );
        let help = "Child processes that ended early: out of memory, of processor time, or by a fault";
        to.register("child_crashes", help, self.child_crashes.clone());
    }

    fn register_state(&self, to: &mut Registry) {
        let state = &self.looked_up;
        to.register_with_unit("store", "Length of the store's file", Unit::Bytes, state.store_bytes.clone());
        let help = "Room that is left on the disk of the data";
        to.register_with_unit("disk_free", help, Unit::Bytes, state.disk_free_bytes.clone());
        to.register_with_unit("disk_size", "Size of the disk of the data", Unit::Bytes, state.disk_size_bytes.clone());
        let help = "Age of the oldest backup or export under way, for which old pages of the store are kept";
        to.register_with_unit("longest_read", help, Unit::Seconds, state.longest_read_seconds.clone());
        to.register("draining", "1 while the relay is stopping", state.draining.clone());
        to.register("ready", "1 if the last look found the relay ready", state.ready.clone());
        let help = "Time since the log began a life of its own: the first start, or the last restore";
        to.register_with_unit("epoch_age", help, Unit::Seconds, state.epoch_age_seconds.clone());
        to.register("panics", "Faults of the relay's own code", self.panics.clone());
        let help = "Log lines that were left out because too many like them came";
        to.register("log_lines_left_out", help, self.log_lines_left_out.clone());
        let version = vec![("version", env!("CARGO_PKG_VERSION")), ("store_format", STORE_FORMAT)];
        to.register("build", "What is running", Info::new(version));
    }

    fn register_process(&self, to: &mut Registry) {
        let state = &self.looked_up;
        let help = "Memory that the process has in use";
        to.register_with_unit("resident_memory", help, Unit::Bytes, state.resident_bytes.clone());
        to.register("open_fds", "File descriptors that are open", state.open_fds.clone());
        to.register("max_fds", "File descriptors that may be open", state.max_fds.clone());
        to.register_with_unit("cpu", "Processor time that was used", Unit::Seconds, state.cpu_seconds.clone());
        let help = "When the process began, in seconds since 1970";
        let start: Gauge<u64, AtomicU64> = Gauge::default();
        start.set(now_seconds());
        to.register_with_unit("start_time", help, Unit::Seconds, start);
    }

    /// Looks at a running relay from now on. Only the first relay that says so is looked at.
    pub(crate) fn watch(&self, sources: Sources) {
        // A second relay with the same metrics is a mistake of its maker, and does no harm.
        let _ = self.sources.set(sources);
    }

    /// Returns everything as text, after a look at what is not counted. It reads files, so it may block for some milliseconds.
    pub fn text(&self) -> String {
        self.look_up();
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    fn look_up(&self) {
        let found = &self.looked_up;
        let set = |level: &Level, value: Option<u64>| {
            if let Some(value) = value {
                level.set(i64::try_from(value).unwrap_or(i64::MAX));
            }
        };
        found.backlog_bytes.set(self.backlog.bytes.load(Ordering::Relaxed));
        set(&found.resident_bytes, process::resident_bytes());
        set(&found.open_fds, process::open_fds());
        set(&found.max_fds, process::max_fds());
        if let Some(seconds) = process::cpu_seconds() {
            found.cpu_seconds.inner().store(seconds.to_bits(), Ordering::Relaxed);
        }
        let oldest = self.long_reads().begun.values().next().copied();
        found.longest_read_seconds.set(oldest.map_or(0.0, |begun| begun.elapsed().as_secs_f64()));
        let Some(sources) = self.sources.get() else { return };
        if let Some(directory) = sources.directory.upgrade() {
            Reason::ALL
                .iter()
                .for_each(|reason| self.auth_failures.set(ReasonLabel(*reason), directory.failures(*reason)));
        }
        if let Some(quota) = sources.quota.upgrade() {
            Kind::ALL.iter().for_each(|kind| self.quota_rejects.set(QuotaLabel(*kind), quota.rejected(*kind)));
        }
        found.draining.set(i64::from(*sources.draining.borrow()));
        let store = sources.store.upgrade();
        set(&found.store_bytes, store.and_then(|store| store.size_bytes().ok().flatten()));
        let disk = process::disk(&sources.data);
        set(&found.disk_free_bytes, disk.map(|disk| disk.free_bytes));
        set(&found.disk_size_bytes, disk.map(|disk| disk.size_bytes));
        set(&found.epoch_age_seconds, sources.epoch_since.map(|since| now_seconds().saturating_sub(since)));
    }

    fn long_reads(&self) -> std::sync::MutexGuard<'_, LongReads> {
        // Nothing that runs under the lock panics half-way through a change.
        self.long_reads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a read begins which may take long: a backup, an export. It ends when what is returned is dropped.
    pub fn long_read(self: &Arc<Self>) -> LongRead {
        let mut reads = self.long_reads();
        let number = reads.next;
        reads.next += 1;
        reads.begun.insert(number, Instant::now());
        drop(reads);
        LongRead { metrics: Arc::clone(self), number }
    }
}

/// The store's format, as text.
const STORE_FORMAT: &str = "4";
const _: () = assert!(rejoin::store::FORMAT_VERSION == 4, "STORE_FORMAT says the same");

/// What happens is told here: each is an atomic addition or two.
impl Metrics {
    /// Notes that a connection was taken. It lasts until what is returned is dropped.
    pub(crate) fn connected(self: &Arc<Self>, protocol: Protocol) -> Connected {
        self.connections.add(protocol, 1);
        self.connections_opened.add(protocol, 1);
        Connected { metrics: Arc::clone(self), protocol, is_behind: false }
    }

    /// Notes that a connection was not taken.
    pub fn connection_refused(&self, reason: RefusedConnection) {
        self.connections_refused.add(reason, 1);
    }

    /// Notes a message of the protocol.
    pub(crate) fn frame(&self, protocol: Protocol, direction: Direction, bytes: usize) {
        self.frames.add(Way(protocol, direction), 1);
        self.frame_bytes.add(Way(protocol, direction), u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Notes what became of a change.
    pub(crate) fn appended(&self, result: AppendResult) {
        self.appends.add(result, 1);
    }

    /// Notes that a change breaks a rule; of one that a principal's actor wrote twice, that too.
    pub(crate) fn gate_rejected(&self, rule: Rule) {
        self.appended(AppendResult::Rejected);
        self.gate_rejects.add(RuleLabel(rule), 1);
        if rule == Rule::SeqReused {
            self.equivocations.inc();
        }
    }

    /// Notes that a session refused so many writes before they came to the log.
    pub(crate) fn refused(&self, code: Code, rule: Option<Rule>, count: u64) {
        let result = match code {
            Code::ReadOnly | Code::DeleteForbidden => AppendResult::ReadOnly,
            Code::Quota => AppendResult::Quota,
            _ => AppendResult::Rejected,
        };
        self.appends.add(result, count);
        if let Some(rule) = rule {
            self.gate_rejects.add(RuleLabel(rule), count);
        }
    }

    /// Notes that a document was deleted everywhere.
    pub(crate) fn deleted(&self) {
        self.deletions.inc();
    }

    /// Notes a transaction that was committed.
    pub(crate) fn committed(&self, took: Duration, changes: usize) {
        self.commit_seconds.observe_time(took);
        self.commit_changes.observe(u64::try_from(changes).unwrap_or(u64::MAX));
    }

    /// Notes a transaction that could not be committed.
    pub fn commit_failed(&self) {
        self.commits_failed.inc();
    }

    /// Notes how long a peer waited for its answer.
    pub(crate) fn acknowledged(&self, protocol: Protocol, took: Duration) {
        self.ack_seconds.observe_time(protocol, took);
    }

    /// Notes how long after its commit something was on its way to a reader.
    pub(crate) fn delivered(&self, protocol: Protocol, lag: Duration) {
        self.deliver_lag_seconds.observe_time(protocol, lag);
    }

    /// Returns what counts what waits for readers.
    pub(crate) fn backlog(&self) -> &Arc<Backlog> {
        &self.backlog
    }

    /// Notes that a peer took nothing for too long.
    pub fn slow_consumer_closed(&self) {
        self.slow_consumers_closed.inc();
    }

    /// Notes that nothing came from a peer for too long.
    pub fn silent_peer_closed(&self) {
        self.silent_peers_closed.inc();
    }

    /// Notes what became of a document that was to be folded.
    pub(crate) fn folded(&self, result: FoldResult) {
        self.folds.add(result, 1);
        self.note_crash(result);
    }

    /// Notes what became of a whole document that was to be taken apart.
    pub fn unfolded(&self, result: FoldResult) {
        self.unfolds.add(result, 1);
        self.note_crash(result);
    }

    fn note_crash(&self, result: FoldResult) {
        if result == FoldResult::Crashed {
            self.child_crashes.inc();
        }
    }

    /// Notes what a look at the relay's health found.
    pub(crate) fn found_ready(&self, is_ready: bool) {
        self.looked_up.ready.set(i64::from(is_ready));
    }

    /// Notes a fault of our own.
    pub(crate) fn panicked(&self) {
        self.panics.inc();
    }

    /// Notes that log lines were left out.
    pub fn log_lines_left_out(&self, count: u64) {
        self.log_lines_left_out.inc_by(count);
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub(crate) struct Connected {
    metrics: Arc<Metrics>,
    protocol: Protocol,
    is_behind: bool,
}

impl Connected {
    /// Notes whether there is news that its socket has no room for.
    pub(crate) fn behind(&mut self, is_behind: bool) {
        if is_behind != self.is_behind {
            self.metrics.connections_behind.add(self.protocol, if is_behind { 1 } else { -1 });
            self.is_behind = is_behind;
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.behind(false);
        self.metrics.connections.add(self.protocol, -1);
    }
}

/// Answers `GET /metrics`.
pub async fn render(metrics: Arc<Metrics>) -> Response {
    // It reads files and a directory, beside the runtime's threads.
    match tokio::task::spawn_blocking(move || metrics.text()).await {
        Ok(text) => ([(CONTENT_TYPE, CONTENT_TYPE_OPENMETRICS)], text).into_response(),
        Err(_) => axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
