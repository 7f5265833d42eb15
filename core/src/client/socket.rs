//! One socket: made, served until it ends, and watched for signs of life.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{ProtocolError, SubProtocolError};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use super::backoff::Backoff;
use super::driver::{self, Surroundings};
use super::mailbox::{self, Mailbox};
use super::{ConnectOptions, ConnectionState, Protocol, Shown, tls, v1};
use crate::codec::v1::{SUBPROTOCOL, Token};
use crate::limits::FRAME_BYTES_MAX;
use crate::repo::{Inner, Source};

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

/// What a server is asked for. Some name the first of whatever they are asked for: that must not be ours.
const SUBPROTOCOLS: &str = "automerge-repo, rejoin.v1";

/// Where the relay is, and how it is reached.
pub(super) struct Relay {
    url: String,
    /// `None` for TLS with the public authorities.
    connector: Option<Connector>,
    token: Token,
    only: Option<Protocol>,
}

/// A connection that was made.
struct Reached {
    socket: Socket,
    protocol: Protocol,
}

impl Relay {
    pub(super) fn new(url: &str, options: &ConnectOptions) -> Self {
        Self {
            url: url.to_owned(),
            connector: options.connector(),
            token: options.shown_token().clone(),
            only: options.only_protocol(),
        }
    }

    /// Makes one connection and serves it until it ends; returns why it did.
    pub(super) async fn connect_once(&self, inner: &Arc<Inner>, shown: &Shown, backoff: &mut Backoff) -> String {
        let Reached { socket, protocol } = match self.reach().await {
            Ok(reached) => reached,
            Err(reason) => return reason,
        };
        let (outgoing, frames) = mpsc::channel(OUTGOING_FRAMES_MAX);
        let mailbox = Arc::new(Mailbox::new(OUTGOING_FRAMES_MAX));
        // When this future is dropped, the guard closes the mailbox and the thread ends.
        let guard = mailbox::CloseOnDrop(Arc::clone(&mailbox));
        let source = Source(inner.connections.fetch_add(1, Ordering::Relaxed));
        let surroundings = Surroundings {
            inner: Arc::clone(inner),
            mailbox: Arc::clone(&mailbox),
            outgoing,
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
            return self.open(None).await.map_err(|error| failed(&error));
        }
        let asked = if self.only.is_some() { SUBPROTOCOL } else { SUBPROTOCOLS };
        match self.open(Some(asked)).await {
            Err(error) if is_not_spoken(&error) && self.only.is_none() => {
                self.open(None).await.map_err(|error| failed(&error))
            }
            Err(error) if is_not_spoken(&error) => Err("the server does not speak rejoin.v1".to_owned()),
            opened => opened.map_err(|error| failed(&error)),
        }
    }

    async fn open(&self, subprotocols: Option<&'static str>) -> Result<Reached, Error> {
        let mut config = WebSocketConfig::default();
        config.max_message_size = Some(FRAME_BYTES_MAX);
        config.max_frame_size = Some(FRAME_BYTES_MAX);
        config.read_buffer_size = SOCKET_BUFFER_BYTES;
        config.write_buffer_size = SOCKET_BUFFER_BYTES;
        config.max_write_buffer_size = 2 * FRAME_BYTES_MAX;
        let mut request = self.url.as_str().into_client_request()?;
        if let Some(subprotocols) = subprotocols {
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocols));
        }
        let connect = connect_async_tls_with_config(request, Some(config), true, self.connector.clone());
        let Ok(connected) = timeout(CONNECT_TIMEOUT, connect).await else {
            let late = std::io::Error::new(std::io::ErrorKind::TimedOut, "the relay did not answer in time");
            return Err(Error::Io(late));
        };
        let (socket, response) = connected?;
        let is_v1 = response.headers().get(SEC_WEBSOCKET_PROTOCOL).is_some_and(|named| named == SUBPROTOCOL);
        let protocol = if is_v1 { Protocol::RejoinV1 } else { Protocol::Classic };
        Ok(Reached { socket, protocol })
    }
}

fn failed(error: &Error) -> String {
    format!("failed to connect: {}", tls::reason(error))
}

/// Says whether a server answered that it speaks another protocol.
fn is_not_spoken(error: &Error) -> bool {
    matches!(
        error,
        Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(
            SubProtocolError::NoSubProtocol | SubProtocolError::InvalidSubProtocol
        ))
    )
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
                    mailbox.put_while();
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
