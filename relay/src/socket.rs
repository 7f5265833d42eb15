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
            return (Socket::new(tcp, address.ip(), self.deadline, room), address);
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
    fn new(tcp: TcpStream, address: IpAddr, deadline: Duration, room: OwnedSemaphorePermit) -> Self {
        let deadline = Some(Box::pin(sleep(deadline)));
        Self { tcp, activity: Activity::new(address), deadline, stall: None, _room: room }
    }

    /// Notes what became of a write, and fails one that has waited for too long.
    fn written(&mut self, outcome: Poll<Result<usize>>, cx: &mut Context<'_>) -> Poll<Result<usize>> {
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
        if buffer.filled().len() > before {
            self.activity.touch();
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

/// When a socket last heard from the other side; shared with whoever serves it.
#[derive(Debug, Clone)]
pub(crate) struct Activity {
    address: IpAddr,
    start: Instant,
    /// Milliseconds since `start`.
    heard_millis: Arc<AtomicU64>,
}

impl Activity {
    fn new(address: IpAddr) -> Self {
        Self { address, start: Instant::now(), heard_millis: Arc::default() }
    }

    /// Returns the address of the other side, which may be a proxy.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    fn touch(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_millis.store(millis, Ordering::Relaxed);
    }

    /// Returns when the last bytes came.
    pub(crate) fn heard(&self) -> Instant {
        self.start + Duration::from_millis(self.heard_millis.load(Ordering::Relaxed))
    }
}

impl Connected<IncomingStream<'_, Accept>> for Activity {
    fn connect_info(stream: IncomingStream<'_, Accept>) -> Self {
        stream.io().activity.clone()
    }
}
