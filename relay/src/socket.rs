//! The socket below HTTP and WebSocket: notices when the other side says nothing and when it takes nothing.
//!
//! Both are judged by bytes, not by messages. A client on a slow line may take minutes for one message of 27 MB, and it
//! is alive all the while. The bytes are those below TLS.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::Config;
use crate::door::{Door, Share};
use crate::limits::TLS_HANDSHAKE_DEADLINE;
use crate::tls;
use crate::unfinished::Unfinished;

/// How long to wait when no socket can be accepted, which mostly means that there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Accepts sockets, as many as the door lets in.
#[derive(Debug)]
pub(crate) struct Accept {
    pub(crate) listener: TcpListener,
    pub(crate) door: Arc<Door>,
    pub(crate) config: watch::Receiver<Arc<Config>>,
    /// What TLS is spoken with, if it is.
    pub(crate) tls: tls::Current,
}

impl Accept {
    /// Accepts sockets beside the public ones, without TLS and under bounds of their own.
    pub(crate) fn beside(listener: TcpListener, mut config: Config, sockets_max: usize, deadline: Duration) -> Self {
        let limits = &mut config.limits;
        (limits.connections_max, limits.connections_per_address_max) = (sockets_max, sockets_max);
        (limits.sockets_spare, limits.upgrades_per_second, limits.handshake_seconds) = (0, 0, deadline);
        let config = watch::Sender::new(Arc::new(config)).subscribe();
        Self { listener, door: Door::new(config.clone()), config, tls: watch::Sender::new(None).subscribe() }
    }
}

impl Listener for Accept {
    type Io = Socket;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Socket, SocketAddr) {
        loop {
            let (tcp, address) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    tracing::error!(%error, "failed to accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Beyond the bounds not even a refusal is affordable: the socket is closed.
            let Some((share, unfinished)) = self.door.accept(address.ip(), Instant::now()) else { continue };
            if let Err(error) = tcp.set_nodelay(true) {
                tracing::debug!(%error, "failed to switch Nagle's algorithm off");
            }
            let config = Arc::clone(&self.config.borrow());
            let activity = Activity::new(address, unfinished);
            let watched = Watched::new(tcp, activity, config.limits.write_stall_seconds);
            let activity = watched.activity.clone();
            let wire = match &*self.tls.borrow() {
                Some(tls) => Wire::greeting(TlsAcceptor::from(Arc::clone(tls)).accept(watched)),
                None => Wire::Plain(watched),
            };
            let deadline = Some(Box::pin(sleep(config.limits.handshake_seconds)));
            return (Socket { wire, activity, deadline, _share: share }, address);
        }
    }

    fn local_addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn is_of_one_connection(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

/// A connection as HTTP has it: plain or through TLS, and not for ever without an answer.
#[derive(Debug)]
pub(crate) struct Socket {
    wire: Wire,
    activity: Activity,
    /// Runs until the first byte of an answer.
    deadline: Option<Pin<Box<Sleep>>>,
    _share: Share,
}

impl Socket {
    fn written(&mut self, outcome: &Poll<Result<usize>>) {
        if outcome.is_ready() {
            self.deadline = None;
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
            && !self.activity.is_patient()
        {
            return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "no request in time")));
        }
        ready!(self.wire.poll_ready(cx))?;
        let before = buffer.filled().len();
        let outcome = match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Wire::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
            Wire::Greeting(..) => Poll::Pending,
        };
        let bytes = buffer.filled().len() - before;
        if bytes > 0 && !self.activity.unfinished().add(bytes) {
            let address = self.activity.address();
            tracing::info!(%address, "too much of messages that are not whole: a connection is closed");
            return Poll::Ready(Err(Error::new(ErrorKind::QuotaExceeded, "too much of a message that is not whole")));
        }
        outcome
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        ready!(self.wire.poll_ready(cx))?;
        let outcome = match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Wire::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
            Wire::Greeting(..) => Poll::Pending,
        };
        self.written(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        ready!(self.wire.poll_ready(cx))?;
        let outcome = match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, parts),
            Wire::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, parts),
            Wire::Greeting(..) => Poll::Pending,
        };
        self.written(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Wire::Tls(tls) => Pin::new(tls).poll_flush(cx),
            // Nothing was written yet.
            Wire::Greeting(..) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Wire::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Wire::Greeting(..) => Poll::Ready(Ok(())),
        }
    }
}

/// What bytes go through. The greeting of TLS happens when the first byte is wanted, in the task that serves the connection, so
/// that nobody else waits for it.
enum Wire {
    Plain(Watched),
    Greeting(Box<tokio_rustls::Accept<Watched>>, Pin<Box<Sleep>>),
    Tls(Box<TlsStream<Watched>>),
}

impl Wire {
    fn greeting(accept: tokio_rustls::Accept<Watched>) -> Self {
        Self::Greeting(Box::new(accept), Box::pin(sleep(TLS_HANDSHAKE_DEADLINE)))
    }

    /// Greets, if that is still to be done.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Self::Greeting(accept, deadline) = self else { return Poll::Ready(Ok(())) };
        if let Poll::Ready(greeted) = Pin::new(&mut **accept).poll(cx) {
            *self = Self::Tls(Box::new(greeted?));
            return Poll::Ready(Ok(()));
        }
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "no TLS in time")))
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Greeting(..) => "Greeting",
            Self::Tls(_) => "Tls",
        })
    }
}

/// A TCP connection under watch.
#[derive(Debug)]
struct Watched {
    tcp: TcpStream,
    activity: Activity,
    /// How long the other side may take nothing.
    stall_after: Duration,
    /// Runs while it takes nothing.
    stall: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    fn new(tcp: TcpStream, activity: Activity, stall_after: Duration) -> Self {
        Self { tcp, activity, stall_after, stall: None }
    }

    /// Notes what became of a write, and fails one that has waited for too long.
    fn written(&mut self, outcome: Poll<Result<usize>>, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &outcome {
            self.activity.wrote(*bytes);
        }
        if outcome.is_ready() {
            self.stall = None;
            return outcome;
        }
        let stall_after = self.stall_after;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(stall_after)));
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the other side takes nothing")))
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.tcp).poll_read(cx, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            self.activity.touch(bytes);
        }
        outcome
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let outcome = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.written(outcome, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let outcome = Pin::new(&mut self.tcp).poll_write_vectored(cx, parts);
        self.written(outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// When a socket last heard from the other side, which that is, and how much went each way; shared with whoever serves it.
#[derive(Debug, Clone)]
pub(crate) struct Activity {
    start: Instant,
    address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct Counts {
    /// Milliseconds since `start`.
    heard_millis: AtomicU64,
    is_patient: AtomicBool,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    unfinished: Unfinished,
}

impl Activity {
    pub(crate) fn new(address: SocketAddr, unfinished: Unfinished) -> Self {
        let (heard_millis, is_patient, read_bytes, written_bytes) = Default::default();
        let counts = Counts { heard_millis, is_patient, read_bytes, written_bytes, unfinished };
        Self { start: Instant::now(), address, counts: Arc::new(counts) }
    }

    fn touch(&self, bytes: usize) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.counts.heard_millis.store(millis, Ordering::Relaxed);
        self.counts.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn wrote(&self, bytes: usize) {
        self.counts.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Lets the other side send for longer than a request may otherwise take: whoever reads looks that it goes on.
    pub(crate) fn be_patient(&self) {
        self.counts.is_patient.store(true, Ordering::Relaxed);
        self.counts.unfinished.exempt();
    }

    /// Returns what has come of a message that is not whole.
    pub(crate) fn unfinished(&self) -> &Unfinished {
        &self.counts.unfinished
    }

    fn is_patient(&self) -> bool {
        self.counts.is_patient.load(Ordering::Relaxed)
    }

    /// The same, of a client that a proxy in front of the relay speaks for.
    pub(crate) fn of_client(mut self, address: IpAddr) -> Self {
        if self.address.ip() != address {
            // Which port the client has, the proxy does not say.
            self.address = SocketAddr::new(address, 0);
        }
        self
    }

    /// Returns where the other side is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how many bytes were read and written.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let Counts { read_bytes, written_bytes, .. } = &*self.counts;
        (read_bytes.load(Ordering::Relaxed), written_bytes.load(Ordering::Relaxed))
    }

    /// Returns when the last bytes came.
    pub(crate) fn heard(&self) -> Instant {
        self.start + Duration::from_millis(self.counts.heard_millis.load(Ordering::Relaxed))
    }
}

impl Connected<IncomingStream<'_, Accept>> for Activity {
    fn connect_info(stream: IncomingStream<'_, Accept>) -> Self {
        stream.io().activity.clone()
    }
}

#[cfg(test)]
mod tests;
