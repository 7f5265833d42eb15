//! What changed, told to whoever subscribed.

use std::sync::Arc;

use automerge::ChangeHash;
use bytes::Bytes;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::engine::{Accepted, Origin};
use crate::fields::Touched;
use crate::id::{DocumentId, PeerId};

/// One committed write to one document.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Event {
    /// Which document.
    pub document: DocumentId,
    /// Who made it.
    pub origin: Origin,
    /// What happened.
    pub kind: EventKind,
    /// The fields whose values changed, and whether elements of lists or texts did.
    pub touched: Arc<Touched>,
    /// The document's heads after it.
    pub heads: Arc<[ChangeHash]>,
    /// How many changes it brought.
    pub changes: u64,
    /// The document's heads before it.
    pub(crate) before: Arc<[ChangeHash]>,
    /// Which connection it came by.
    pub(crate) source: Option<Source>,
}

/// Names a connection of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source(pub(crate) u64);

/// What happened to a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// It changed.
    Changed,
    /// It was created, or opened to be fetched: it is empty until somebody writes it.
    Opened,
    /// It was deleted from this device; if the origin is remote, somebody deleted it everywhere.
    Deleted,
    /// It arrived whole: everything in it can be used. Its history follows.
    Arrived,
    /// The history of a document that arrived whole is here now, change by change.
    Unfolded,
    /// The history of a document that arrived whole could not be taken apart, for want of space say, or because the relay
    /// made it up: the log says which. It can be used as it is; that is tried again when the repo is opened.
    StaysFolded,
    /// Changes made here were taken out of it, or written again by another actor: read it afresh.
    Rewritten,
    /// Changes made here that a relay had rejected shall be offered again, or another relay took them.
    Retried,
    /// A relay refused changes made here for good: see [`Repo::rejected`](super::Repo::rejected).
    Rejected,
}

impl Event {
    /// Says whether it brought the first changes of a document that came from elsewhere.
    pub fn is_arrival(&self) -> bool {
        self.origin == Origin::Remote
            && match self.kind {
                EventKind::Changed => self.before.is_empty(),
                kind => kind == EventKind::Arrived,
            }
    }

    pub(super) fn opened(document: DocumentId) -> Self {
        Self::bare(document, EventKind::Opened)
    }

    pub(super) fn deleted(document: DocumentId, origin: Origin) -> Self {
        Self { origin, ..Self::bare(document, EventKind::Deleted) }
    }

    pub(super) fn deleted_by(document: DocumentId, source: Option<Source>) -> Self {
        Self { source, ..Self::deleted(document, Origin::Remote) }
    }

    pub(super) fn arrived(document: DocumentId, heads: &[ChangeHash], changes: u64) -> Self {
        let touched = Arc::new(Touched { more: true, elements: true, ..Touched::default() });
        let heads = heads.into();
        let bare = Self::bare(document, EventKind::Arrived);
        Self { origin: Origin::Remote, touched, heads, changes, ..bare }
    }

    pub(super) fn unfolded(document: DocumentId) -> Self {
        Self::bare(document, EventKind::Unfolded)
    }

    pub(super) fn stays_folded(document: DocumentId) -> Self {
        Self::bare(document, EventKind::StaysFolded)
    }

    pub(super) fn rewritten(document: DocumentId, heads: &[ChangeHash], changes: usize) -> Self {
        let touched = Arc::new(Touched { more: true, elements: true, ..Touched::default() });
        let heads = heads.into();
        Self { touched, heads, changes: changes as u64, ..Self::bare(document, EventKind::Rewritten) }
    }

    pub(super) fn retried(document: DocumentId) -> Self {
        Self::bare(document, EventKind::Retried)
    }

    pub(super) fn rejected(document: DocumentId) -> Self {
        Self { origin: Origin::Remote, ..Self::bare(document, EventKind::Rejected) }
    }

    fn bare(document: DocumentId, kind: EventKind) -> Self {
        Self {
            document,
            origin: Origin::Local,
            kind,
            touched: Arc::default(),
            heads: Arc::new([]),
            changes: 0,
            before: Arc::new([]),
            source: None,
        }
    }
}

/// An ephemeral message: a cursor, a selection, a sign of life. Never stored.
#[derive(Debug, Clone)]
pub struct Ephemeral {
    /// About which document.
    pub document: DocumentId,
    /// Who sent it, by its own word.
    pub sender: PeerId,
    /// The application's value, in CBOR.
    pub data: Bytes,
    /// Its number in the sender's session; ours too, when it is one of ours.
    pub count: u64,
    /// Whether it is from this repo.
    pub origin: Origin,
    /// Which of the author's values about the document it is: a later one with the same key stands in its place. Of classic
    /// peers, their session.
    pub key: String,
    /// How long it is good for, in milliseconds from its arrival; 0 takes it back.
    pub ttl_ms: u64,
}

/// A subscription. It keeps up to 4,096 events for a slow reader, then drops the oldest and says so.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
    document: Option<DocumentId>,
}

/// The subscriber was too slow, and this many events of all documents are gone: read the state afresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{missed} events were missed: read the documents afresh")]
pub struct Lagged {
    /// How many.
    pub missed: u64,
}

impl Events {
    pub(super) fn new(receiver: broadcast::Receiver<Event>, document: Option<DocumentId>) -> Self {
        Self { receiver, document }
    }

    /// Waits for the next event; `None` when the repo is gone.
    ///
    /// # Errors
    ///
    /// [`Lagged`] if this subscriber was too slow. The next call goes on.
    pub async fn next(&mut self) -> Option<Result<Event, Lagged>> {
        loop {
            match self.receiver.recv().await {
                Ok(event) if self.document.is_some_and(|document| document != event.document) => {}
                Ok(event) => return Some(Ok(event)),
                Err(RecvError::Lagged(missed)) => return Some(Err(Lagged { missed })),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Tells the subscribers. That there are none is no fault.
pub(crate) fn publish(events: &broadcast::Sender<Event>, event: Event) {
    let _ = events.send(event);
}

/// Tells the subscribers of a batch of changes, if any was stored.
pub(crate) fn publish_accepted(
    events: &broadcast::Sender<Event>,
    document: DocumentId,
    origin: Origin,
    accepted: &Accepted,
) {
    publish_from(events, document, origin, accepted, None);
}

/// Tells the subscribers of a batch of changes that a connection brought, if any was stored.
pub(super) fn publish_received(
    events: &broadcast::Sender<Event>,
    document: DocumentId,
    accepted: &Accepted,
    source: Source,
) {
    publish_from(events, document, Origin::Remote, accepted, Some(source));
}

fn publish_from(
    events: &broadcast::Sender<Event>,
    document: DocumentId,
    origin: Origin,
    accepted: &Accepted,
    source: Option<Source>,
) {
    if accepted.stored > 0 && events.receiver_count() > 0 {
        let touched = Arc::new(accepted.touched.clone());
        let heads = accepted.heads.as_slice().into();
        let before = accepted.before.as_slice().into();
        let changes = accepted.stored as u64;
        publish(events, Event { document, origin, kind: EventKind::Changed, touched, heads, changes, before, source });
    }
}
