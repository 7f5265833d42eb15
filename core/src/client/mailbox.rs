//! What the driver thread waits on: frames that came, documents that changed, room to send.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use automerge::ChangeHash;
use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::driver::Outgoing;
use crate::codec::v1::Token;
use crate::id::DocumentId;
use crate::limits::PRESENCE_QUEUE_MAX;
use crate::repo::Ephemeral;
use crate::runtime::{self, Bell, Instant};

/// How many bytes of received frames wait for the driver before the socket is read no further. One frame always fits.
const INCOMING_BYTES_MAX: usize = 4 << 20;
/// How many received frames wait.
const INCOMING_FRAMES_MAX: usize = 256;
/// How many ephemeral messages wait to be sent; the oldest goes when one more comes.
const EPHEMERALS_MAX: usize = PRESENCE_QUEUE_MAX;

/// What the driver takes out in one go.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Received frames; `None` is a text frame.
    pub(super) frames: VecDeque<Option<Bytes>>,
    /// Documents that changed or came into being.
    pub(super) changed: BTreeSet<DocumentId>,
    /// Documents that changed by another way than by hand or by this connection, with their heads before.
    pub(super) elsewhere: BTreeMap<DocumentId, Vec<ChangeHash>>,
    /// Documents that were deleted.
    pub(super) deleted: BTreeSet<DocumentId>,
    /// Documents whose history was folded and is no longer.
    pub(super) unfolded: BTreeSet<DocumentId>,
    /// Documents whose refused changes are to be offered again, or are gone.
    pub(super) retried: BTreeSet<DocumentId>,
    /// What is followed changed.
    pub(super) follows: bool,
    /// A while has passed since the last one.
    pub(super) a_while: bool,
    /// Some news were missed: look at every document.
    pub(super) look_at_all: bool,
    /// Another token for the relay.
    pub(super) token: Option<Token>,
    /// Ephemeral messages to send.
    pub(super) ephemerals: VecDeque<Ephemeral>,
    /// How many more frames the socket takes than when this was last asked.
    pub(super) room: usize,
    frame_bytes: usize,
    closed: bool,
}

impl Batch {
    /// Takes everything out.
    #[cfg(not(target_family = "wasm"))]
    fn take_some(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Takes everything out but later frames: in a browser others have to wait for what is done with them.
    #[cfg(target_family = "wasm")]
    fn take_some(&mut self) -> Self {
        let mut taken = std::mem::take(self);
        if taken.frames.len() > 1 {
            self.frames = taken.frames.split_off(1);
            self.frame_bytes = self.frames.iter().flatten().map(Bytes::len).sum();
        }
        taken
    }

    fn is_empty(&self) -> bool {
        self.frames.is_empty()
            && self.changed.is_empty()
            && self.deleted.is_empty()
            && self.unfolded.is_empty()
            && self.retried.is_empty()
            && self.ephemerals.is_empty()
            && self.token.is_none()
            && !self.look_at_all
            && !self.follows
            && !self.a_while
            && self.room == 0
    }
}

/// The mailbox: async at one end, a thread at the other.
#[derive(Debug)]
pub(super) struct Mailbox {
    batch: Mutex<Batch>,
    bell: Bell,
    taken: Notify,
}

impl Mailbox {
    /// Makes a mailbox whose socket takes `room` frames to begin with.
    pub(super) fn new(room: usize) -> Self {
        let batch = Batch { room, ..Batch::default() };
        Self { batch: Mutex::new(batch), bell: Bell::default(), taken: Notify::new() }
    }

    /// Waits for something, and takes all of it: nothing if the time comes first. `None` when the mailbox was closed.
    pub(super) async fn take(&self, until: Option<Instant>) -> Option<Batch> {
        loop {
            if let Some(taken) = self.take_now() {
                return taken;
            }
            if until.is_some_and(|until| runtime::now() >= until) {
                return Some(Batch::default());
            }
            self.bell.wait_until(until).await;
        }
    }

    /// Takes what is there; `None` if nothing is, and `Some(None)` when the mailbox was closed.
    pub(super) fn take_now(&self) -> Option<Option<Batch>> {
        let mut batch = self.lock();
        if batch.closed {
            return Some(None);
        }
        let taken = (!batch.is_empty()).then(|| Some(batch.take_some()))?;
        self.taken.notify_one();
        Some(taken)
    }

    /// Hands in a received frame, and waits while too much is there already.
    pub(super) async fn put_frame(&self, frame: Option<Bytes>) {
        let bytes = frame.as_ref().map_or(0, Bytes::len);
        loop {
            {
                let mut batch = self.lock();
                let fits = batch.frame_bytes + bytes <= INCOMING_BYTES_MAX && batch.frames.len() < INCOMING_FRAMES_MAX;
                if fits || batch.frames.is_empty() || batch.closed {
                    batch.frame_bytes += bytes;
                    batch.frames.push_back(frame);
                    self.bell.ring();
                    return;
                }
            }
            self.taken.notified().await;
        }
    }

    /// Says that a document changed.
    pub(super) fn put_changed(&self, document: DocumentId) {
        self.change(|batch| {
            batch.changed.insert(document);
        });
    }

    /// Says that a document changed by another way than by hand or by this connection.
    pub(super) fn put_elsewhere(&self, document: DocumentId, before: &[ChangeHash]) {
        self.change(|batch| {
            batch.changed.insert(document);
            // Of several, what was before the first is below them all.
            batch.elsewhere.entry(document).or_insert_with(|| before.to_vec());
        });
    }

    /// Says that a document was deleted.
    pub(super) fn put_deleted(&self, document: DocumentId) {
        self.change(|batch| {
            batch.changed.remove(&document);
            batch.elsewhere.remove(&document);
            batch.deleted.insert(document);
        });
    }

    /// Says that a document's history was unfolded.
    pub(super) fn put_unfolded(&self, document: DocumentId) {
        self.change(|batch| {
            batch.unfolded.insert(document);
        });
    }

    /// Says that any document may have changed.
    pub(super) fn put_look_at_all(&self) {
        self.change(|batch| batch.look_at_all = true);
    }

    /// Says that refused changes of a document are to be offered again, or are gone.
    pub(super) fn put_retried(&self, document: DocumentId) {
        self.change(|batch| {
            batch.changed.insert(document);
            batch.retried.insert(document);
        });
    }

    /// Hands in another token for the relay.
    pub(super) fn put_token(&self, token: Token) {
        self.change(|batch| batch.token = Some(token));
    }

    /// Says that a while has passed: what was put off may be tried again.
    pub(super) fn put_while(&self) {
        self.change(|batch| batch.a_while = true);
    }

    /// Says that other spaces are followed, or differently.
    pub(super) fn put_follows(&self) {
        self.change(|batch| batch.follows = true);
    }

    /// Hands in ephemeral messages to send, all at once: the driver takes them together.
    pub(super) fn put_ephemerals(&self, ephemerals: &[Ephemeral]) {
        self.change(|batch| {
            for ephemeral in ephemerals {
                if batch.ephemerals.len() >= EPHEMERALS_MAX {
                    batch.ephemerals.pop_front();
                }
                batch.ephemerals.push_back(ephemeral.clone());
            }
        });
    }

    /// Says that the socket took a frame.
    pub(super) fn add_room(&self) {
        self.change(|batch| batch.room += 1);
    }

    fn change(&self, change: impl FnOnce(&mut Batch)) {
        change(&mut self.lock());
        self.bell.ring();
    }

    fn lock(&self) -> MutexGuard<'_, Batch> {
        // A batch is whole at every moment: whoever panicked while holding it left nothing half-done.
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the driver puts frames for the socket.
#[derive(Debug, Clone)]
pub(super) struct Outbox(pub(super) mpsc::Sender<Outgoing>);

impl Outbox {
    /// Queues a frame, and waits while there is no room; says whether the socket is still there.
    #[cfg(not(target_family = "wasm"))]
    pub(super) fn send(&self, outgoing: Outgoing) -> bool {
        runtime::send_and_wait(&self.0, outgoing, "task")
    }

    /// Queues a frame. Nobody would make room while this waits: without room the socket counts as gone.
    #[cfg(target_family = "wasm")]
    pub(super) fn send(&self, outgoing: Outgoing) -> bool {
        self.0.try_send(outgoing).is_ok()
    }
}

/// Closes a mailbox when it goes.
#[derive(Debug)]
pub(super) struct CloseOnDrop(pub(super) Arc<Mailbox>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.change(|batch| batch.closed = true);
    }
}
