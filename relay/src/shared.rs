//! What the connections of both protocols share, and do alike.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::StreamExt;
use futures_util::sink::SinkExt;
use futures_util::stream::SplitStream;
use rejoin::store::Store;
use rejoin::sync::WholeDocuments;
use rejoin::sync::classic::Identity;
use rejoin::sync::v1::RelayIdentity;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep, timeout};
use tracing::Instrument as _;

use crate::audit::{Audit, Refusals};
use crate::auth::{Directory, Permit};
use crate::config::Config;
use crate::departure;
use crate::fold::Folding;
use crate::hub::{ConnectionId, Hub};
use crate::limits::{CLOSE_WAIT, RECONNECTS_PER_SECOND};
use crate::log::Log;
use crate::metrics::Metrics;
use crate::outbound::Outbound;
use crate::quarantine::Quarantine;
use crate::quota::{Kind, Progress, Quota};
use crate::registry::{Registry, Spoken};
use crate::rights::Allowed;
use crate::show::Foreign;
use crate::socket::Activity;

/// WebSocket close code: the relay is going away.
pub(crate) const CLOSE_GOING_AWAY: u16 = 1001;
/// WebSocket close code: a message is too long.
pub(crate) const CLOSE_TOO_BIG: u16 = 1009;
/// WebSocket close code: it may go better the next time.
pub(crate) const CLOSE_TRY_AGAIN: u16 = 1013;
/// WebSocket close code: the fault is ours.
pub(crate) const CLOSE_INTERNAL: u16 = 1011;

/// What a peer reads whose connection an operator ends.
pub(crate) const KICKED: &str = "an operator closed this connection";

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) metrics: Arc<Metrics>,
    /// The directory of the data.
    pub(crate) data: PathBuf,
    /// Makes snapshots, and takes whole documents apart.
    pub(crate) folding: Option<Arc<Folding>>,
    pub(crate) whole_documents: WholeDocuments,
    /// Who the relay is in the classic protocol.
    pub(crate) identity: Identity,
    /// Who it is in `rejoin.v1`.
    pub(crate) v1: RelayIdentity,
    /// What everybody is held to.
    pub(crate) quota: Arc<Quota>,
    /// The configuration, which may change: what can be reloaded is read where it is used.
    pub(crate) config: watch::Receiver<Arc<Config>>,
    /// Who may come in, and what they may do.
    pub(crate) directory: Arc<Directory>,
    /// Every connection.
    pub(crate) registry: Arc<Registry>,
    /// What administrators did, and what was refused.
    pub(crate) audit: Arc<Audit>,
    /// How the latter get there.
    pub(crate) refusals: Refusals,
    /// What nobody is sent and nobody writes to.
    pub(crate) quarantine: Arc<Quarantine>,
    /// How many connections there were when the relay was told to stop.
    pub(crate) crowd: AtomicUsize,
    /// Becomes true when the relay is to stop.
    pub(crate) draining: watch::Receiver<bool>,
    /// What waits to be taken back of those who are gone.
    pub(crate) departing: departure::Waiting,
}

impl Shared {
    /// Holds those who keep something of the configuration to it.
    pub(crate) fn hold_to(&self, config: &Config) {
        self.registry.set_principal_max(config.limits.connections_per_principal_max);
        self.audit.set_rows_max(config.admin.audit_rows_max);
        self.quota.reload(config);
        self.hub.set_news_interval_max(Duration::from_millis(config.limits.news_interval_max_milliseconds.into()));
    }

    /// Returns what sessions ask about rights.
    pub(crate) fn allowed(&self, permit: &Permit) -> Box<Allowed> {
        Box::new(Allowed { permit: permit.clone(), quarantine: Arc::clone(&self.quarantine) })
    }

    /// Returns the configuration of now.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// Says to one client of a stopping relay why, and after how many seconds it is to come back: few clients at once, many over
    /// as long a time as is configured.
    pub(crate) fn goodbye(&self) -> String {
        let crowd = self.crowd.load(Ordering::Relaxed);
        let spread = u64::try_from(crowd.div_ceil(RECONNECTS_PER_SECOND)).unwrap_or(u64::MAX);
        let spread = spread.min(self.config.borrow().drain.reconnect_after_max_seconds.as_secs());
        // Without chance all come back at once, as they would without the hint.
        let seconds = getrandom::u64().unwrap_or_default() % spread.saturating_add(1);
        format!("reconnect-after={seconds}; the relay is stopping")
    }
}

/// What a client is told that brings or asks for far more than it may.
pub(crate) const TOO_MUCH: &str =
    "too much came from you or your address: connect again later, and send less at a time";

/// Returns how many bytes of a message were sent.
pub(crate) fn bytes_of(message: &Message) -> usize {
    match message {
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Text(text) => text.len(),
        Message::Close(_) => 0,
    }
}

/// What a socket's reading half yields.
pub(crate) type Received = Option<Result<Message, axum::Error>>;

/// Whether a connection goes on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Continue,
    End,
}

/// Tells when to ping a peer, and when it counts as gone.
pub(crate) struct Pulse {
    activity: Activity,
    config: watch::Receiver<Arc<Config>>,
    was_listening: bool,
    /// Since when we have been listening: what was not read cannot count as silence.
    listening_since: Instant,
    next_ping: Instant,
    start: Instant,
    progress: Progress,
    quota: Arc<Quota>,
    metrics: Arc<Metrics>,
}

impl Pulse {
    pub(crate) fn new(activity: Activity, shared: &Shared) -> Self {
        let (now, config) = (Instant::now(), shared.config.clone());
        let (quota, metrics) = (Arc::clone(&shared.quota), Arc::clone(&shared.metrics));
        let next_ping = now + config.borrow().limits.ping_seconds;
        let mut progress = Progress::default();
        progress.message(activity.bytes().0);
        activity.unfinished().finish();
        let (was_listening, listening_since, start) = (true, now, now);
        Self { activity, config, was_listening, listening_since, next_ping, start, progress, quota, metrics }
    }

    /// Learns that the client was let in.
    pub(crate) fn admitted(&self) {
        self.activity.unfinished().admit();
    }

    /// Learns that a message came.
    pub(crate) fn heard(&mut self, message: &Message) {
        let (read_bytes, _) = self.activity.bytes();
        match message {
            Message::Ping(bytes) | Message::Pong(bytes) => {
                self.progress.control(read_bytes);
                self.activity.unfinished().control(bytes.len());
            }
            _ => {
                self.progress.message(read_bytes);
                self.activity.unfinished().finish();
            }
        }
    }

    /// Notes whether frames are read now.
    pub(crate) fn note(&mut self, listening: bool) {
        if listening && !self.was_listening {
            self.listening_since = Instant::now();
            self.progress.pause();
        }
        self.was_listening = listening;
    }

    /// Looks at the clock: ends with a peer that was silent for too long, pings one when it is time, and sets the timer anew.
    pub(crate) fn tick(&mut self, outbound: &mut Outbound, timer: Pin<&mut Sleep>) -> Next {
        let now = Instant::now();
        if self.was_listening && now >= self.gone_at() {
            tracing::debug!("a peer is silent and counts as gone");
            self.metrics.silent_peer_closed();
            return Next::End;
        }
        let since_start = now.saturating_duration_since(self.start);
        if self.was_listening && self.progress.is_too_slow(since_start, self.activity.bytes().0) {
            self.quota.reject(Kind::SlowFrame);
            tracing::info!("a message comes too slowly: its connection is closed");
            return Next::End;
        }
        if now >= self.next_ping {
            self.next_ping = now + self.config.borrow().limits.ping_seconds;
            outbound.ping();
        }
        timer.reset(self.next());
        Next::Continue
    }

    /// Returns when to look at the clock again. The peer may be heard meanwhile, then it is a look too many.
    pub(crate) fn next(&self) -> Instant {
        if self.was_listening { self.next_ping.min(self.gone_at()) } else { self.next_ping }
    }

    fn gone_at(&self) -> Instant {
        self.activity.heard().max(self.listening_since) + self.config.borrow().limits.dead_after_seconds
    }
}

/// Runs work that takes long so that other connections are served meanwhile.
///
/// Frames from [`LARGE_FRAME_BYTES`](crate::limits::LARGE_FRAME_BYTES) on hold hundreds of changes to check.
pub(crate) fn beside<T>(is_long: bool, work: impl FnOnce() -> T) -> T {
    let can_move = Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if is_long && can_move { tokio::task::block_in_place(work) } else { work() }
}

/// Runs work that takes long for few bytes, as a filter over a long history does: beside what else there is to do, and one after the
/// other, so that however many ask for it they take one processor, and one thread.
pub(crate) async fn alone<T>(work: impl FnOnce() -> T) -> T {
    static TURN: Semaphore = Semaphore::const_new(1);
    // Nobody closes it.
    let _turn = TURN.acquire().await;
    beside(true, work)
}

/// Reads the next message: the one that was read too early, or what the socket yields.
pub(crate) async fn read(unread: &mut Option<Received>, stream: &mut SplitStream<Box<WebSocket>>) -> Received {
    match unread.take() {
        Some(message) => message,
        None => stream.next().await,
    }
}

/// Says whether a socket cannot be read because of a message above its bound.
pub(crate) fn is_too_long(error: &axum::Error) -> bool {
    // The library's error for it is not reachable by type through the layers between.
    error.to_string().contains("too long")
}

/// Says whether a socket cannot be written because the other side takes nothing.
fn is_stalled(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Takes note of why nothing more can be sent to a peer.
pub(crate) fn note_unsendable(error: &axum::Error, metrics: &Metrics) {
    if is_stalled(error) {
        metrics.slow_consumer_closed();
    }
    tracing::debug!(error = %Foreign(&error.to_string()), "failed to send to a peer");
}

/// Runs a connection to its end; it returns how much was wrong with what it heard.
///
/// By reference: futures that are handed on are kept once more in each that holds them, which is what most of an idle connection's
/// memory was.
pub(crate) async fn in_span(id: ConnectionId, spoken: Spoken, connection: Pin<&mut impl Future<Output = u64>>) {
    let span = tracing::info_span!("connection", id = id.number(), protocol = spoken.short());
    let run = async {
        tracing::debug!("a connection begins");
        let complaints = connection.await;
        tracing::debug!(complaints, "a connection ended");
    };
    run.instrument(span).await;
}

/// Waits until the relay is to stop.
pub(crate) async fn drained(draining: &mut watch::Receiver<bool>) {
    // The sender gone means the relay is gone.
    let _ = draining.wait_for(|draining| *draining).await;
}

/// Closes a connection and waits a little for the other side to do so too: a socket that is closed with bytes unread is
/// reset, and the peer would never read why. Who still sends what is not going to be read is left all of that time.
pub(crate) async fn linger<S, T>(mut sink: Pin<&mut S>, mut stream: T, is_overrun: bool)
where
    S: futures_util::Sink<Message, Error = axum::Error>,
    T: futures_util::Stream<Item = Result<Message, axum::Error>> + Unpin,
{
    let closing = async {
        let closed = sink.close().await;
        if is_overrun {
            // The library reads no more from such a socket, so there is no end to wait for.
            return std::future::pending().await;
        }
        if closed.is_ok() {
            while let Some(Ok(_)) = stream.next().await {}
        }
    };
    // Past the deadline the socket is dropped, whatever the other side does.
    let _ = timeout(CLOSE_WAIT, closing).await;
}

#[cfg(test)]
mod tests {
    use crate::{connection, v1};

    /// The size of what an async function of five arguments returns.
    fn bytes_of<A, B, C, D, E, F: Future>(_: impl Fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn connections_hold_nothing_twice() {
        // Each is some 3,640 bytes, with 1,380 of state and a loop of 1,180; in a future it is kept whole once for every hand it goes through.
        let (classic, v1) = (bytes_of(connection::serve), bytes_of(v1::serve));
        assert!(classic <= 4 << 10, "a classic connection is {classic} bytes");
        assert!(v1 <= 4 << 10, "a connection of rejoin.v1 is {v1} bytes");
    }
}
