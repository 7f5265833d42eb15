//! One socket: made, served until it ends, and watched for signs of life.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::{mpsc, watch};

use super::backoff::Backoff;
use super::dial::{Dial, DialError, Dialed, Heard, Incoming, Outgoing, Said};
use super::driver::{self, Surroundings};
use super::mailbox::{self, Mailbox, Outbox};
use super::options::Provider;
use super::{ConnectOptions, ConnectionState, Protocol, Shown, hint, permit, v1};
use crate::codec::v1::{Code, SUBPROTOCOL, Token};
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
/// So long a connection lasts at least for the relay to count as reached.
const LASTED: Duration = Duration::from_secs(1);
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
    tokens: watch::Receiver<Token>,
    provider: Option<Provider>,
    only: Option<Protocol>,
}

/// Why a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) reason: String,
    /// What the relay said is wrong.
    pub(super) code: Option<Code>,
    /// After how long it asked to come back.
    pub(super) after: Option<Duration>,
}

impl From<String> for Ended {
    fn from(reason: String) -> Self {
        Self { reason, code: None, after: None }
    }
}

impl From<&str> for Ended {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

/// A connection that was made.
struct Reached {
    socket: Dialed,
    protocol: Protocol,
}

impl Relay {
    pub(super) fn new(dial: Arc<dyn Dial>, options: &ConnectOptions, tokens: watch::Receiver<Token>) -> Self {
        Self { dial, tokens, provider: options.provider().cloned(), only: options.only_protocol() }
    }

    /// Makes one connection and serves it until it ends; returns why it did.
    pub(super) async fn connect_once(&self, inner: &Arc<Inner>, shown: &Shown, backoff: &mut Backoff) -> Ended {
        // Before the socket is made: a relay does not wait long for the first message.
        let token = match self.token().await {
            Ok(token) => token,
            Err(reason) => return format!("failed to get a token: {reason}").into(),
        };
        let mut tokens = self.tokens.clone();
        tokens.mark_unchanged();
        let Reached { socket, protocol } = match self.reach().await {
            Ok(reached) => reached,
            Err(reason) => return reason.into(),
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
            permit: shown.permit.clone(),
            source,
        };
        let mut established = shown.progress.subscribe();
        // Subscribed before the session can ask for the list of documents: nothing falls between the two.
        let pump = driver::pump_events(inner, &mailbox, source);
        let started = match protocol {
            Protocol::RejoinV1 => v1::Driver::new(surroundings, token).start(),
            Protocol::Classic => driver::Driver::new(surroundings).start(),
        };
        if let Err(error) = started {
            return format!("failed to start a thread: {error}").into();
        }
        let served = serve(socket, frames, &mailbox);
        let renewed = permit::keep_renewed(self.provider.as_ref(), shown.permit.subscribe(), tokens, &mailbox);
        tokio::pin!(served);
        tokio::pin!(renewed);
        tokio::pin!(pump);
        let mut greeted = None;
        let ended = loop {
            runtime::select! {
                ended = &mut served => break ended,
                () = &mut pump => break "the repo is gone".into(),
                () = &mut renewed => {}
                Ok(_) = established.wait_for(Option::is_some), if greeted.is_none() => {
                    greeted = Some(runtime::now());
                    shown.protocol.send_replace(Some(protocol));
                    shown.state.send_replace(ConnectionState::Connected);
                }
            }
        };
        drop(guard);
        // One that ends at once is as good as none: the store may take nothing, say.
        if greeted.is_some_and(|greeted| runtime::now().saturating_duration_since(greeted) >= LASTED) {
            backoff.reset();
        }
        ended
    }

    /// Returns the token to show.
    async fn token(&self) -> Result<Token, String> {
        match &self.provider {
            Some(provider) if self.only != Some(Protocol::Classic) => provider.ask().await,
            _ => Ok(self.tokens.borrow().clone()),
        }
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

/// Reads what a close frame says: 3000 is registered for a peer that did not show who it is, 4401 is a usual one of proxies,
/// and our relays begin the reason with the name of a code.
fn meaning(code: u16, reason: &str) -> Option<Code> {
    if matches!(code, 3000 | 4401) {
        return Some(Code::Unauthenticated);
    }
    let (name, _) = reason.split_once(':')?;
    Code::ALL.iter().copied().find(|code| code.name() == name)
}

/// Moves frames between the socket and the driver until either ends.
async fn serve(socket: Dialed, frames: mpsc::Receiver<driver::Outgoing>, mailbox: &Mailbox) -> Ended {
    let Dialed { has_pings, incoming, outgoing, .. } = socket;
    let life = Life::default();
    runtime::select! {
        ended = read(incoming, &life, mailbox) => ended,
        ended = write(outgoing, frames, has_pings.then_some(&life), mailbox) => ended,
    }
}

async fn read(mut incoming: Incoming, life: &Life, mailbox: &Mailbox) -> Ended {
    loop {
        match incoming.next().await {
            Some(Ok(Heard::Frame(frame))) => {
                life.shown();
                mailbox.put_frame(Some(frame)).await;
            }
            Some(Ok(Heard::Text)) => mailbox.put_frame(None).await,
            Some(Ok(Heard::SignOfLife)) => life.shown(),
            Some(Ok(Heard::Close { code, reason })) => {
                let meant = meaning(code, &reason);
                let told = if reason.is_empty() { String::new() } else { format!(": {reason} ({code})") };
                let after = hint::reconnect_after(&reason);
                return Ended { reason: format!("the relay closed the connection{told}"), code: meant, after };
            }
            None => return "the relay closed the connection".into(),
            Some(Err(error)) => return format!("the connection broke: {error}").into(),
        }
    }
}

/// Writes what the driver says. Where silence means something, `life` is watched.
async fn write(
    mut outgoing: Outgoing,
    mut frames: mpsc::Receiver<driver::Outgoing>,
    life: Option<&Life>,
    mailbox: &Mailbox,
) -> Ended {
    let mut pinged = runtime::now();
    loop {
        let (said, ends) = runtime::select! {
            frame = frames.recv() => match frame {
                Some(driver::Outgoing::Frame(frame)) => (Said::Frame(frame), None),
                Some(driver::Outgoing::Close { code, reason, told }) => {
                    // A session that closes because it was told why says so itself.
                    let after = told.and_then(|_| hint::reconnect_after(&reason));
                    (Said::Close { code, reason: reason.clone() }, Some(Ended { reason, code: told, after }))
                }
                None => return "the session ended".into(),
            },
            () = runtime::sleep(PING_INTERVAL.saturating_sub(runtime::now().saturating_duration_since(pinged))) => {
                pinged = runtime::now();
                mailbox.put_while();
                match life {
                    Some(life) if life.elapsed() > DEAD_AFTER => return "the relay gave no sign of life".into(),
                    Some(_) => (Said::Ping, None),
                    None => continue,
                }
            }
        };
        let is_frame = matches!(said, Said::Frame(_));
        match runtime::timeout(STALLED_AFTER, outgoing.send(said)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return format!("the connection broke: {error}").into(),
            Err(_) => return "the relay stopped reading".into(),
        }
        if let Some(ended) = ends {
            return ended;
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
        Self(Mutex::new(runtime::now()))
    }
}

impl Life {
    fn shown(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = runtime::now();
    }

    fn elapsed(&self) -> Duration {
        runtime::now().saturating_duration_since(*self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
