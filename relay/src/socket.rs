//! The socket below HTTP and WebSocket: notices when the other side says nothing and when it takes nothing.
//!
//! Both are judged by bytes, not by messages. A client on a slow line may take minutes for one message of 27 MB, and it
//! is alive all the while.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use crate::limits::WRITE_STALL;

/// How long to wait when no socket can be accepted, which mostly means that there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Accepts sockets, a bounded number at once.
#[derive(Debug)]
pub(crate) struct Accept {
    pub(crate) listener: TcpListener,
    /// How many more sockets may be open.
    pub(crate) room: Arc<Semaphore>,
    /// How long a new socket may take until the first byte of an answer to it.
    pub(crate) deadline: Duration,
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
            // Beyond the bound not even a refusal is affordable: the socket is closed.
            let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else { continue };
            if let Err(error) = tcp.set_nodelay(true) {
                tracing::debug!(%error, "failed to switch Nagle's algorithm off");
            }
            return (Socket::new(tcp, address, self.deadline, room), address);
        }
    }

    fn local_addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn is_of_one_connection(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

/// A TCP connection under watch.
#[derive(Debug)]
pub(crate) struct Socket {
    tcp: TcpStream,
    activity: Activity,
    /// Runs until the first byte of an answer.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Runs while the other side takes nothing.
    stall: Option<Pin<Box<Sleep>>>,
    _room: OwnedSemaphorePermit,
}

impl Socket {
    fn new(tcp: TcpStream, address: SocketAddr, deadline: Duration, room: OwnedSemaphorePermit) -> Self {
        let deadline = Some(Box::pin(sleep(deadline)));
        Self { tcp, activity: Activity::new(address), deadline, stall: None, _room: room }
    }

    /// Notes what became of a write, and fails one that has waited for too long.
    fn written(&mut self, outcome: Poll<Result<usize>>, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &outcome {
            self.activity.wrote(*bytes);
        }
        if outcome.is_ready() {
            self.deadline = None;
            self.stall = None;
            return outcome;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(WRITE_STALL)));
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the other side takes nothing")))
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "no request in time")));
        }
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.tcp).poll_read(cx, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            self.activity.touch(bytes);
        }
        outcome
    }
}

impl AsyncWrite for Socket {
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

#[derive(Debug, Default)]
struct Counts {
    /// Milliseconds since `start`.
    heard_millis: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

impl Activity {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { start: Instant::now(), address, counts: Arc::default() }
    }

    fn touch(&self, bytes: usize) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.counts.heard_millis.store(millis, Ordering::Relaxed);
        self.counts.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn wrote(&self, bytes: usize) {
        self.counts.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
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
