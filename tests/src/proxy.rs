//! A TCP proxy before a relay that counts what goes by, bytes both ways and WebSocket messages, and that behaves as bad
//! networks do if it is told to.

mod fault;

pub use fault::{Fault, Way};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use fault::Faults;

/// What went by in one direction.
#[derive(Debug, Default)]
struct Counted {
    bytes: AtomicU64,
    messages: AtomicU64,
    /// Milliseconds since the proxy began.
    last: AtomicU64,
}

/// What went by, from the client and to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes on the wire from the client: HTTP, WebSocket headers and all.
    pub up_bytes: u64,
    /// Bytes to the client.
    pub down_bytes: u64,
    /// Binary and text messages from the client.
    pub up_messages: u64,
    /// Messages to the client.
    pub down_messages: u64,
}

impl Traffic {
    /// Bytes both ways.
    pub fn bytes(&self) -> u64 {
        self.up_bytes + self.down_bytes
    }

    /// Messages both ways.
    pub fn messages(&self) -> u64 {
        self.up_messages + self.down_messages
    }
}

/// A running proxy.
pub struct Proxy {
    port: u16,
    start: Instant,
    ways: Arc<[Counted; 2]>,
    faults: Faults,
}

impl Proxy {
    /// Listens on a free port, and connects whoever comes to the server at a `ws://` address.
    pub async fn start(url: &str) -> Self {
        let server = url.trim_start_matches("ws://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (start, ways) = (Instant::now(), Arc::new(<[Counted; 2]>::default()));
        let (counted, faults) = (Arc::clone(&ways), Faults::default());
        let told = faults.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // The server may be away: whoever came hears that by the end of the connection.
                let server = if told.refuses() { continue } else { TcpStream::connect(&server).await };
                let Ok(server) = server else { continue };
                if client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).is_err() {
                    continue;
                }
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                for (way, from, to) in [(Way::Up, from_client, to_server), (Way::Down, from_server, to_client)] {
                    let (counted, faults) = (Arc::clone(&counted), told.clone());
                    tokio::spawn(async move {
                        let mut cut = faults.cuts();
                        tokio::select! {
                            () = pass(from, to, counted, way, start, &faults) => {}
                            _ = cut.changed() => {}
                        }
                    });
                }
            }
        });
        Self { port, start, ways, faults }
    }

    /// Does this to all connections from now on, until it is told otherwise; `None` for nothing.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.faults.set(fault);
    }

    /// Ends every connection at once.
    pub fn cut(&self) {
        self.faults.cut();
    }

    /// Returns the WebSocket address.
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// Returns what went by since it was last asked.
    pub fn take(&self) -> Traffic {
        let [up, down] = &*self.ways;
        Traffic {
            up_bytes: up.bytes.swap(0, Ordering::Relaxed),
            down_bytes: down.bytes.swap(0, Ordering::Relaxed),
            up_messages: up.messages.swap(0, Ordering::Relaxed),
            down_messages: down.messages.swap(0, Ordering::Relaxed),
        }
    }

    /// Waits until nothing went by for so long, and returns when the last byte did.
    pub async fn quiet(&self, pause: Duration) -> Instant {
        loop {
            let last = self.ways.iter().map(|way| way.last.load(Ordering::Relaxed)).max().unwrap_or(0);
            let last = self.start + Duration::from_millis(last);
            if last.elapsed() >= pause {
                return last;
            }
            tokio::time::sleep(pause.saturating_sub(last.elapsed())).await;
        }
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    ways: Arc<[Counted; 2]>,
    way: Way,
    start: Instant,
    faults: &Faults,
) {
    let mut frames = Frames::default();
    let mut buffer = vec![0; 64 << 10];
    let counted = &ways[way as usize];
    while let Ok(length) = from.read(&mut buffer).await {
        counted.last.store(u64::try_from(start.elapsed().as_millis()).unwrap(), Ordering::Relaxed);
        if faults.swallow(way) {
            return fault::stay_half_open(from, to).await;
        }
        if length == 0 || faults.carry(&buffer[..length], &mut to).await.is_err() {
            break;
        }
        counted.bytes.fetch_add(length as u64, Ordering::Relaxed);
        counted.messages.fetch_add(frames.count(&buffer[..length]), Ordering::Relaxed);
    }
    let _ = to.shutdown().await;
}

/// Finds the frames of a WebSocket in what goes by, behind the end of the HTTP header.
#[derive(Debug, Default)]
struct Frames {
    is_open: bool,
    /// The end of the HTTP header, or the frame header, as far as it came.
    header: Vec<u8>,
    /// So much of a frame's content is still to come.
    content: u64,
}

impl Frames {
    /// Counts the binary and text messages that begin here.
    fn count(&mut self, mut bytes: &[u8]) -> u64 {
        let mut messages = 0;
        while !bytes.is_empty() {
            let passed = usize::try_from(self.content).unwrap().min(bytes.len());
            self.content -= passed as u64;
            bytes = &bytes[passed..];
            let Some((byte, rest)) = bytes.split_first() else { break };
            self.header.push(*byte);
            bytes = rest;
            if !self.is_open {
                self.is_open = self.header.ends_with(b"\r\n\r\n");
                if self.is_open {
                    self.header.clear();
                }
            } else if let Some(length) = frame_length(&self.header) {
                messages += u64::from(matches!(self.header[0] & 0x0f, 1 | 2));
                self.content = length;
                self.header.clear();
            }
        }
        messages
    }
}

/// Returns how long a frame's content is with its mask, once enough of the header is there.
fn frame_length(header: &[u8]) -> Option<u64> {
    let second = *header.get(1)?;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let length = match second & 0x7f {
        126 => u16::from_be_bytes(header.get(2..4)?.try_into().ok()?).into(),
        127 => u64::from_be_bytes(header.get(2..10)?.try_into().ok()?),
        short => short.into(),
    };
    Some(length + mask)
}
