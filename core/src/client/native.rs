//! Sockets of the operating system.

use std::sync::Arc;

use futures_util::future::ready;
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{ProtocolError, SubProtocolError};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error};
use tokio_tungstenite::{Connector, connect_async_tls_with_config};

use super::dial::{Dial, DialError, Dialed, Heard, Said};
use super::{ConnectOptions, Connection, tls};
use crate::limits::FRAME_BYTES_MAX;
use crate::repo::{Repo, RepoError};
use crate::runtime::BoxFuture;

/// The buffers of a socket: 4 KiB, since most frames are a few hundred bytes.
const SOCKET_BUFFER_BYTES: usize = 4 << 10;

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
    /// be renewed meanwhile; [`ConnectionState::Waiting`](super::ConnectionState::Waiting) says what is wrong with it.
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
        Ok(self.connect_by(Arc::new(Native { url: url.to_owned(), connector: options.connector() }), options))
    }
}

/// Where the relay is, and how it is reached.
struct Native {
    url: String,
    /// `None` for TLS with the public authorities.
    connector: Option<Connector>,
}

impl Dial for Native {
    fn dial<'a>(&'a self, subprotocols: &'a [&'static str]) -> BoxFuture<'a, Result<Dialed, DialError>> {
        Box::pin(async move {
            self.open(subprotocols).await.map_err(|error| {
                if is_not_spoken(&error) { DialError::NotSpoken } else { DialError::Failed(tls::reason(&error)) }
            })
        })
    }
}

impl Native {
    async fn open(&self, subprotocols: &[&'static str]) -> Result<Dialed, Error> {
        let mut config = WebSocketConfig::default();
        config.max_message_size = Some(FRAME_BYTES_MAX);
        config.max_frame_size = Some(FRAME_BYTES_MAX);
        config.read_buffer_size = SOCKET_BUFFER_BYTES;
        config.write_buffer_size = SOCKET_BUFFER_BYTES;
        config.max_write_buffer_size = 2 * FRAME_BYTES_MAX;
        let mut request = self.url.as_str().into_client_request()?;
        if let Ok(names) = HeaderValue::from_str(&subprotocols.join(", "))
            && !subprotocols.is_empty()
        {
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, names);
        }
        let connect = connect_async_tls_with_config(request, Some(config), true, self.connector.clone());
        let (socket, response) = connect.await?;
        let named = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
        let subprotocol = named.and_then(|named| named.to_str().ok()).map(str::to_owned);
        let (sink, stream) = socket.split();
        let incoming = Box::pin(stream.map_ok(heard).map_err(|error| error.to_string()));
        let outgoing = Box::pin(sink.sink_map_err(|error| error.to_string()).with(|said| ready(Ok(message(said)))));
        Ok(Dialed { subprotocol, has_pings: true, incoming, outgoing })
    }
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

fn heard(message: Message) -> Heard {
    match message {
        Message::Binary(frame) => Heard::Frame(frame),
        Message::Text(_) => Heard::Text,
        Message::Close(Some(CloseFrame { code, reason })) => {
            Heard::Close { code: u16::from(code), reason: reason.as_str().to_owned() }
        }
        Message::Close(None) => Heard::Close { code: u16::from(CloseCode::Status), reason: String::new() },
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Heard::SignOfLife,
    }
}

fn message(said: Said) -> Message {
    match said {
        Said::Frame(frame) => Message::Binary(frame),
        Said::Ping => Message::Ping(Bytes::new()),
        Said::Close { code, reason } => {
            // A close frame holds at most 123 bytes of text.
            let end = reason.char_indices().map(|(at, _)| at).take_while(|at| *at <= 120).last().unwrap_or(0);
            let reason = if reason.len() <= 120 { reason.as_str() } else { &reason[..end] };
            Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: reason.into() }))
        }
    }
}
