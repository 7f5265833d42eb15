//! One socket: made, served until it ends, and watched for signs of life.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;

use super::backoff::Backoff;
use super::dial::{Dial, DialError, Dialed, Heard, Incoming, Outgoing, Said};
use super::driver::{self, Surroundings};
use super::mailbox::{self, Mailbox, Outbox};
use super::{ConnectOptions, ConnectionState, Protocol, Shown, v1};
use crate::codec::v1::{SUBPROTOCOL, Token};
use crate::repo::{Inner, Source};
use crate::runtime::{self, Instant};

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
/// How many wait, those included that answer what came: they wait for no room where there are no threads.
#[cfg(not(target_family = "wasm"))]
const OUTGOING_ALL_MAX: usize = OUTGOING_FRAMES_MAX;
#[cfg(target_family = "wasm")]
const OUTGOING_ALL_MAX: usize = 1_024;

/// What a server is asked for. Some name the first of whatever they are asked for: that must not be ours.
const SUBPROTOCOLS: &[&str] = &["automerge-repo", SUBPROTOCOL];

/// A relay, and what it is shown.
pub(super) struct Relay {
    dial: Arc<dyn Dial>,
    token: Token,
    only: Option<Protocol>,
}

/// A connection that was made.
struct Reached {
    socket: Dialed,
    protocol: Protocol,
}

impl Relay {
    pub(super) fn new(dial: Arc<dyn Dial>, options: &ConnectOptions) -> Self {
        Self { dial, token: options.shown_token().clone(), only: options.only_protocol() }
    }

    /// Makes one connection and serves it until it ends; returns why it did.
    pub(super) async fn connect_once(&self, inner: &Arc<Inner>, shown: &Shown, backoff: &mut Backoff) -> String {
        let Reached { socket, protocol } = match self.reach().await {
            Ok(reached) => reached,
            Err(reason) => return reason,
        };
        let (outgoing, frames) = mpsc::channel(OUTGOING_ALL_MAX);
        let mailbox = Arc::new(Mailbox::new(OUTGOING_FRAMES_MAX));
        // When this future is dropped, the guard closes the mailbox and the driver ends.
        let guard = mailbox::CloseOnDrop(Arc::clone(&mailbox));
        let source = Source(inner.connections.fetch_add(1, Ordering::Relaxed));
        let surroundings = Surroundings {
            inner: Arc::clone(inner),
            mailbox: Arc::clone(&mailbox),
            outgoing: Outbox(outgoing),
            progress: shown.progress.clone(),
            source,
        };
        let mut established = shown.progress.subscribe();
        // Subscribed before the session can ask for the list of documents: nothing falls between the two.
        let pump = driver::pump_events(inner, &mailbox, source);
        let started = match protocol {
            Protocol::RejoinV1 => v1::Driver::new(surroundings, self.token.clone()).start(),
            Protocol::Classic => driver::Driver::new(surroundings).start(),
        };
        if let Err(error) = started {
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
                    shown.protocol.send_replace(Some(protocol));
                    shown.state.send_replace(ConnectionState::Connected);
                }
            }
        };
        drop(guard);
        reason
    }

    /// Connects, and finds out what is spoken.
    async fn reach(&self) -> Result<Reached, String> {
        if self.only == Some(Protocol::Classic) {
            return self.open(&[]).await.map_err(|error| failed(&error));
        }
        let asked = if self.only.is_some() { &[SUBPROTOCOL][..] } else { SUBPROTOCOLS };
        match self.open(asked).await {
            Err(DialError::NotSpoken) if self.only.is_none() => self.open(&[]).await.map_err(|error| failed(&error)),
            Err(DialError::NotSpoken) => Err("the server does not speak rejoin.v1".to_owned()),
            opened => opened.map_err(|error| failed(&error)),
        }
    }

    async fn open(&self, subprotocols: &[&'static str]) -> Result<Reached, DialError> {
        let Ok(dialed) = runtime::timeout(CONNECT_TIMEOUT, self.dial.dial(subprotocols)).await else {
            return Err(DialError::Failed("the relay did not answer in time".to_owned()));
        };
        let socket = dialed?;
        let is_v1 = socket.subprotocol.as_deref() == Some(SUBPROTOCOL);
        let protocol = if is_v1 { Protocol::RejoinV1 } else { Protocol::Classic };
        Ok(Reached { socket, protocol })
    }
}

fn failed(error: &DialError) -> String {
    format!("failed to connect: {error}")
}

/// Moves frames between the socket and the driver until either ends.
async fn serve(socket: Dialed, frames: mpsc::Receiver<driver::Outgoing>, mailbox: &Mailbox) -> String {
    let Dialed { has_pings, incoming, outgoing, .. } = socket;
    let life = Life::default();
    tokio::select! {
        reason = read(incoming, &life, mailbox) => reason,
        reason = write(outgoing, frames, has_pings.then_some(&life), mailbox) => reason,
    }
}

async fn read(mut incoming: Incoming, life: &Life, mailbox: &Mailbox) -> String {
    loop {
        match incoming.next().await {
            Some(Ok(Heard::Frame(frame))) => {
                life.shown();
                mailbox.put_frame(Some(frame)).await;
            }
            Some(Ok(Heard::Text)) => mailbox.put_frame(None).await,
            Some(Ok(Heard::SignOfLife)) => life.shown(),
            Some(Ok(Heard::Close { code, reason })) if !reason.is_empty() => {
                return format!("the relay closed the connection: {reason} ({code})");
            }
            Some(Ok(Heard::Close { .. })) | None => return "the relay closed the connection".to_owned(),
            Some(Err(error)) => return format!("the connection broke: {error}"),
        }
    }
}

/// Writes what the driver says. Where silence means something, `life` is watched.
async fn write(
    mut outgoing: Outgoing,
    mut frames: mpsc::Receiver<driver::Outgoing>,
    life: Option<&Life>,
    mailbox: &Mailbox,
) -> String {
    let mut pinged = Instant::now();
    loop {
        let (said, ends) = tokio::select! {
            frame = frames.recv() => match frame {
                Some(driver::Outgoing::Frame(frame)) => (Said::Frame(frame), None),
                Some(driver::Outgoing::Close { code, reason }) => {
                    (Said::Close { code, reason: reason.clone() }, Some(reason))
                }
                None => return "the session ended".to_owned(),
            },
            () = runtime::sleep(PING_INTERVAL.saturating_sub(pinged.elapsed())) => {
                pinged = Instant::now();
                mailbox.put_while();
                match life {
                    Some(life) if life.elapsed() > DEAD_AFTER => return "the relay gave no sign of life".to_owned(),
                    Some(_) => (Said::Ping, None),
                    None => continue,
                }
            }
        };
        let is_frame = matches!(said, Said::Frame(_));
        match runtime::timeout(STALLED_AFTER, outgoing.send(said)).await {
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
}

/// When the relay last gave a sign of life.
struct Life(Mutex<Instant>);

impl Default for Life {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Life {
    fn shown(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn elapsed(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}
