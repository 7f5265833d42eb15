//! The client: the only place with a socket, a clock and entropy. Keeps a repo in step with a relay.
//!
//! A connection is three things. A task owns the socket and reconnects when it breaks. A thread drives the session,
//! because a session reads the store. Between them stand a mailbox and a queue, both bounded: the thread never waits for
//! the socket, so a relay that reads slowly cannot keep us from reading it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use crate::limits::FRAME_BYTES_MAX;
use crate::repo::{Inner, Repo, RepoError, random_bytes};

mod backoff;
mod driver;
mod mailbox;
mod tls;

pub use tls::ConnectOptions;

use backoff::Backoff;
use mailbox::Mailbox;

/// How long a connection may take to be made, TLS and upgrade included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a sign of life is sent.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long without one from the relay until the connection counts as dead.
const DEAD_AFTER: Duration = Duration::from_secs(45);
/// How long one frame may take to be written.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// How many frames wait to be written.
const OUTGOING_FRAMES_MAX: usize = 64;
/// The buffers of a socket: 4 KiB, since most frames are a few hundred bytes.
const SOCKET_BUFFER_BYTES: usize = 4 << 10;

/// How a connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Trying to reach the relay.
    Connecting,
    /// Connected and greeted: changes flow.
    Connected,
    /// Not connected; the next try comes by itself.
    Waiting {
        /// Why the last one ended, and what to do about it where that is known.
        reason: String,
        /// When the next one begins, from now.
        retry_in: Duration,
    },
    /// Ended by [`Connection::disconnect`] or because the repo is gone.
    Closed,
}

/// A connection to a relay. It reconnects by itself; dropping it disconnects.
#[derive(Debug)]
pub struct Connection {
    state: watch::Receiver<ConnectionState>,
    progress: watch::Receiver<Option<usize>>,
    stop: watch::Sender<bool>,
}

impl Connection {
    /// Returns how the connection stands now.
    pub fn state(&self) -> ConnectionState {
        self.state.borrow().clone()
    }

    /// Waits until the connection is in a state that `is_wanted` accepts, and returns that state.
    pub async fn wait_for(&mut self, mut is_wanted: impl FnMut(&ConnectionState) -> bool) -> ConnectionState {
        let found = self.state.wait_for(|state| is_wanted(state) || *state == ConnectionState::Closed).await;
        found.map_or(ConnectionState::Closed, |state| state.clone())
    }

    /// Returns how many documents were not compared with the relay's yet on this connection; `None` while not connected.
    pub fn documents_left(&self) -> Option<usize> {
        *self.progress.borrow()
    }

    /// Waits until every document of this device was compared with the relay's, and what the relay has is here.
    ///
    /// For the other direction see [`Repo::wait_synced`].
    ///
    /// # Errors
    ///
    /// [`RepoError::Timeout`] if it takes longer; syncing goes on.
    pub async fn wait_caught_up(&mut self, limit: Duration) -> Result<(), RepoError> {
        let caught_up = timeout(limit, self.progress.wait_for(|left| *left == Some(0))).await;
        caught_up.map_err(|_| RepoError::Timeout)?.map_err(|_| RepoError::Closed)?;
        Ok(())
    }

    /// Goes offline, and waits until the connection is closed. What was not sent waits for the next connection.
    pub async fn disconnect(mut self) {
        // Nobody listens any more when the connection has ended already.
        let _ = self.stop.send(true);
        self.wait_for(|state| *state == ConnectionState::Closed).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

impl Repo {
    /// Connects to a relay, or to any automerge-repo server: `ws://` or `wss://`. Call it inside a tokio runtime.
    ///
    /// Returns at once; [`Connection::state`] says how it goes. Every document of this device is kept in step, new ones
    /// too. Several connections may be open at the same time. `wss://` trusts relays that a public authority vouches for;
    /// for one with a certificate of its own see [`Repo::connect_with`].
    ///
    /// # Errors
    ///
    /// [`RepoError::Address`] if the address does not parse. That the relay cannot be reached is no error: it is tried
    /// again, more and more slowly, up to every 30 seconds.
    pub fn connect(&self, url: &str) -> Result<Connection, RepoError> {
        self.connect_with(url, &ConnectOptions::new())
    }

    /// Connects as [`Repo::connect`] does, with options.
    ///
    /// A relay whose certificate is not trusted is tried again like one that cannot be reached, since its certificate may
    /// be renewed meanwhile; [`ConnectionState::Waiting`] says what is wrong with it.
    ///
    /// # Errors
    ///
    /// As [`Repo::connect`].
    pub fn connect_with(&self, url: &str, options: &ConnectOptions) -> Result<Connection, RepoError> {
        let wrong = |reason: String| RepoError::Address { url: url.to_owned(), reason };
        let request = url.into_client_request().map_err(|error| wrong(error.to_string()))?;
        if !matches!(request.uri().scheme_str(), Some("ws" | "wss")) {
            return Err(wrong("it begins neither with ws:// nor with wss://".to_owned()));
        }
        // The one provider this crate is built with; if the application chose another first, that one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (state_sender, state) = watch::channel(ConnectionState::Connecting);
        let (stop, stopped) = watch::channel(false);
        let (progress_sender, progress) = watch::channel(None);
        let inner = Arc::clone(self.inner());
        let relay = Relay { url: url.to_owned(), connector: options.connector() };
        tokio::spawn(keep_connected(inner, relay, state_sender, progress_sender, stopped));
        Ok(Connection { state, progress, stop })
    }
}

/// Where the relay is, and how it is reached.
struct Relay {
    url: String,
    /// `None` for TLS with the public authorities.
    connector: Option<Connector>,
}

/// Connects, and connects again, until it is told to stop.
async fn keep_connected(
    inner: Arc<Inner>,
    relay: Relay,
    state: watch::Sender<ConnectionState>,
    progress: watch::Sender<Option<usize>>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut backoff = Backoff::default();
    loop {
        let attempt = connect_once(&inner, &relay, &state, &progress, &mut backoff);
        let reason = tokio::select! {
            reason = attempt => reason,
            () = told_to_stop(&mut stopped) => break,
        };
        progress.send_replace(None);
        let retry_in = backoff.next_delay(u64::from_le_bytes(random_bytes()));
        tracing::info!(%reason, ?retry_in, "the connection to the relay ended");
        state.send_replace(ConnectionState::Waiting { reason, retry_in });
        tokio::select! {
            () = tokio::time::sleep(retry_in) => {}
            () = told_to_stop(&mut stopped) => break,
        }
        state.send_replace(ConnectionState::Connecting);
    }
    state.send_replace(ConnectionState::Closed);
}

async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    // An error means that the handle is gone, which means the same.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Makes one connection and serves it until it ends; returns why it did.
async fn connect_once(
    inner: &Arc<Inner>,
    relay: &Relay,
    state: &watch::Sender<ConnectionState>,
    progress: &watch::Sender<Option<usize>>,
    backoff: &mut Backoff,
) -> String {
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(FRAME_BYTES_MAX);
    config.max_frame_size = Some(FRAME_BYTES_MAX);
    config.read_buffer_size = SOCKET_BUFFER_BYTES;
    config.write_buffer_size = SOCKET_BUFFER_BYTES;
    config.max_write_buffer_size = 2 * FRAME_BYTES_MAX;
    let connect = connect_async_tls_with_config(&relay.url, Some(config), true, relay.connector.clone());
    let socket = match timeout(CONNECT_TIMEOUT, connect).await {
        Ok(Ok((socket, _))) => socket,
        Ok(Err(error)) => return format!("failed to connect: {}", tls::reason(&error)),
        Err(_) => return "failed to connect: the relay did not answer in time".to_owned(),
    };
    let (outgoing, frames) = mpsc::channel(OUTGOING_FRAMES_MAX);
    let mailbox = Arc::new(Mailbox::new(OUTGOING_FRAMES_MAX));
    // When this future is dropped, the guard closes the mailbox and the thread ends.
    let guard = mailbox::CloseOnDrop(Arc::clone(&mailbox));
    let driver = driver::Driver::new(Arc::clone(inner), Arc::clone(&mailbox), outgoing, progress.clone());
    let mut established = progress.subscribe();
    // Subscribed before the session can ask for the list of documents: nothing falls between the two.
    let pump = driver::pump_events(inner.events.subscribe(), inner.ephemerals.subscribe(), &mailbox);
    if let Err(error) = driver.start() {
        return format!("failed to start a thread: {error}");
    }
    let served = serve(socket, frames, &mailbox);
    tokio::pin!(served);
    tokio::pin!(pump);
    let mut greeted = false;
    let reason = loop {
        tokio::select! {
            reason = &mut served => break reason,
            () = &mut pump => break "the repo is gone".to_owned(),
            Ok(_) = established.wait_for(Option::is_some), if !greeted => {
                greeted = true;
                backoff.reset();
                state.send_replace(ConnectionState::Connected);
            }
        }
    };
    drop(guard);
    reason
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Moves frames between the socket and the driver until either ends.
async fn serve(socket: Socket, mut frames: mpsc::Receiver<driver::Outgoing>, mailbox: &Mailbox) -> String {
    let (mut sink, mut stream) = socket.split();
    let heard = Heard::default();
    let read = async {
        loop {
            match stream.next().await {
                Some(Ok(Message::Binary(frame))) => {
                    heard.now();
                    mailbox.put_frame(Some(frame)).await;
                }
                Some(Ok(Message::Text(_))) => mailbox.put_frame(None).await,
                Some(Ok(Message::Close(frame))) => return closed_by_relay(frame.as_ref()),
                Some(Ok(_)) => heard.now(),
                Some(Err(error)) => return format!("the connection broke: {error}"),
                None => return "the relay closed the connection".to_owned(),
            }
        }
    };
    let write = async {
        let mut ping = interval(PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (message, ends) = tokio::select! {
                frame = frames.recv() => match frame {
                    Some(driver::Outgoing::Frame(frame)) => (Message::Binary(frame), None),
                    Some(driver::Outgoing::Close { code, reason }) => (close(code, &reason), Some(reason)),
                    None => return "the session ended".to_owned(),
                },
                _ = ping.tick() => {
                    if heard.elapsed() > DEAD_AFTER {
                        return "the relay gave no sign of life".to_owned();
                    }
                    (Message::Ping(Bytes::new()), None)
                }
            };
            let is_frame = matches!(message, Message::Binary(_));
            match timeout(STALLED_AFTER, sink.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return format!("the connection broke: {error}"),
                Err(_) => return "the relay stopped reading".to_owned(),
            }
            if let Some(reason) = ends {
                return reason;
            }
            if is_frame {
                mailbox.add_room();
            }
        }
    };
    tokio::select! {
        reason = read => reason,
        reason = write => reason,
    }
}

/// When the relay last gave a sign of life.
struct Heard(Mutex<Instant>);

impl Default for Heard {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Heard {
    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn elapsed(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

fn closed_by_relay(frame: Option<&CloseFrame>) -> String {
    match frame {
        Some(frame) => format!("the relay closed the connection: {} ({})", frame.reason, u16::from(frame.code)),
        None => "the relay closed the connection".to_owned(),
    }
}

fn close(code: u16, reason: &str) -> Message {
    // A close frame holds at most 123 bytes of text.
    let end = reason.char_indices().map(|(at, _)| at).take_while(|at| *at <= 120).last().unwrap_or(0);
    let reason = if reason.len() <= 120 { reason } else { &reason[..end] };
    Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: reason.into() }))
}
