//! What waits to be sent on one connection, and how it gets into the socket.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::ready;
use std::time::Instant;

use axum::extract::ws::{CloseFrame, Message};
use bytes::Bytes;
use futures_util::Sink;

use crate::limits::{SEND_BATCH_BYTES, SEND_QUEUE_FRAMES_MAX};
use crate::metrics::{Direction, Metrics, Protocol};

/// A WebSocket close reason has at most this many bytes.
const CLOSE_REASON_BYTES_MAX: usize = 123;

/// Frames that the socket has not taken yet.
#[derive(Debug)]
pub(crate) struct Outbound {
    metrics: Arc<Metrics>,
    protocol: Protocol,
    queue: VecDeque<Waiting>,
    queue_bytes: usize,
    /// Handed to the socket, but perhaps not written yet.
    unflushed: bool,
    closing: bool,
}

/// A message, and what is to be measured when the socket takes it.
#[derive(Debug)]
struct Waiting {
    message: Message,
    timed: Option<Timed>,
}

/// Since when something was to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Timed {
    /// A peer waits for its answer.
    Answer(Instant),
    /// A commit waits for being told.
    News(Instant),
}

impl Outbound {
    /// Makes a queue without anything in it, whose frames are counted.
    pub(crate) fn new(metrics: Arc<Metrics>, protocol: Protocol) -> Self {
        let queue = VecDeque::new();
        Self { metrics, protocol, queue, queue_bytes: 0, unflushed: false, closing: false }
    }

    /// Queues a frame; after a close it is dropped.
    pub(crate) fn push(&mut self, frame: Bytes) {
        self.push_timed(frame, None);
    }

    /// Queues a frame for which it is measured how long it took until the socket had it.
    pub(crate) fn push_timed(&mut self, frame: Bytes, timed: Option<Timed>) {
        if !self.closing {
            self.queue_bytes += frame.len();
            self.metrics.backlog().more_bytes(frame.len());
            self.queue.push_back(Waiting { message: Message::Binary(frame), timed });
        }
    }

    /// Queues a ping, unless something waits: then the peer is going to hear from us anyway.
    pub(crate) fn ping(&mut self) {
        if self.is_idle() {
            self.push_message(Message::Ping(Bytes::new()));
        }
    }

    /// Queues a close, the last thing that is sent.
    pub(crate) fn close(&mut self, code: u16, reason: &str) {
        let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)];
        self.push_message(Message::Close(Some(CloseFrame { code, reason: reason.into() })));
        self.closing = true;
    }

    fn push_message(&mut self, message: Message) {
        if !self.closing {
            self.queue.push_back(Waiting { message, timed: None });
        }
    }

    /// Says whether the socket has taken everything.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.unflushed
    }

    /// Says whether frames should be made for the socket.
    pub(crate) fn has_room(&self) -> bool {
        !self.closing && !self.unflushed && self.queue_bytes < SEND_BATCH_BYTES
    }

    /// Says whether more waits than should.
    pub(crate) fn is_full(&self) -> bool {
        self.queue.len() >= SEND_QUEUE_FRAMES_MAX
    }

    /// Returns how many bytes of frames the socket has not taken.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queue_bytes
    }

    /// Says whether the connection is to be closed when everything is sent.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Writes everything that is queued. It may be given up at any time, and goes on with the next call.
    ///
    /// # Errors
    ///
    /// What the socket reports.
    pub(crate) async fn pump<S>(&mut self, mut sink: Pin<&mut S>) -> Result<(), S::Error>
    where
        S: Sink<Message>,
    {
        poll_fn(move |cx| {
            while !self.queue.is_empty() {
                ready!(sink.as_mut().poll_ready(cx))?;
                let Some(Waiting { message, timed }) = self.queue.pop_front() else { break };
                if let Message::Binary(frame) = &message {
                    self.queue_bytes -= frame.len();
                    self.metrics.backlog().fewer_bytes(frame.len());
                    self.metrics.frame(self.protocol, Direction::Out, frame.len());
                }
                sink.as_mut().start_send(message)?;
                match timed {
                    Some(Timed::Answer(since)) => self.metrics.acknowledged(self.protocol, since.elapsed()),
                    Some(Timed::News(since)) => self.metrics.delivered(self.protocol, since.elapsed()),
                    None => {}
                }
                self.unflushed = true;
            }
            ready!(sink.as_mut().poll_flush(cx))?;
            self.unflushed = false;
            std::task::Poll::Ready(Ok(()))
        })
        .await
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        self.metrics.backlog().fewer_bytes(self.queue_bytes);
    }
}
