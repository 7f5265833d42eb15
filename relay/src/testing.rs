//! A relay without sockets, threads and time: for simulations, which drive it step by step.
//!
//! What a connection does between its socket and its session is done here once more, with the same pieces in the same order, but
//! for what has to do with time and load: rates, pings, the folding of histories, presence. Everything else is what serves:
//! the sessions, the queue and the commit of the log, the hub and its followers, the directory and its permits.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::extract::ws::Message;
use bytes::Bytes;
use futures_util::{FutureExt, Sink};
use rejoin::codec::v1::Access;
use rejoin::limits::CREDIT_BYTES;
use rejoin::store::Store;
use rejoin::sync::classic::Identity;
use rejoin::sync::v1::{Grants, RelayIdentity};
use rejoin::{ChangeHash, DocumentId, Epoch, PeerId, SpaceId, StorageId};

use crate::auth::{AuthConfig, Directory, DirectoryError, Permit, PrincipalId};
use crate::config::Config;
use crate::hub::Hub;
use crate::log::{self, GroupCommit, Writer};
use crate::metrics::Metrics;
use crate::outbound::Outbound;
use crate::quarantine::Quarantine;
use crate::quota::Quota;
use crate::rights::Allowed;

mod classic;
mod modern;

pub use classic::Classic;
pub use modern::Modern;

/// A relay that does what it is told to, and nothing by itself.
pub struct Relay {
    parts: Arc<Parts>,
    writer: Writer,
}

/// What the connections of a relay share.
struct Parts {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    log: Arc<GroupCommit>,
    metrics: Arc<Metrics>,
    directory: Arc<Directory>,
    quarantine: Arc<Quarantine>,
    classic: Identity,
    v1: RelayIdentity,
    /// It remembers rights as they were: a fault, to see whether it is found.
    is_deaf: bool,
}

/// What a relay sends on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// A binary frame.
    Frame(Bytes),
    /// The last thing that is sent.
    Close {
        /// The WebSocket close code.
        code: u16,
        /// Why.
        reason: String,
    },
}

/// A write that a session let through to the log: its client had the right to it at that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// To which document.
    pub document: DocumentId,
    /// Which change; `None` for a deletion.
    pub change: Option<ChangeHash>,
    /// In which space, if the client said so.
    pub space: Option<SpaceId>,
    /// For whom.
    pub principal: Option<PrincipalId>,
}

impl Relay {
    /// Opens a relay on a store that is closed to whoever shows no token. The bytes name its store and the life of its log, if
    /// they have no names yet. `is_deaf`: rights that are taken away stay with those who had them, which is a fault.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] if the store cannot be used.
    pub fn open(
        store: Arc<dyn Store>,
        storage: [u8; 16],
        epoch: [u8; 16],
        is_deaf: bool,
    ) -> Result<Self, DirectoryError> {
        let storage = rejoin::store::storage_id(&*store, storage)?;
        let peer = PeerId::new(format!("relay-{storage}")).expect("six characters and a UUID are within the bound");
        let metrics = Arc::<Metrics>::default();
        let hub = Arc::new(Hub::new(Arc::clone(metrics.backlog())));
        let epoch = log::open(&*store, epoch)?;
        let directory = Directory::open(Arc::clone(&store), &AuthConfig::default())?;
        let quarantine = Arc::new(Quarantine::open(&*store)?);
        let quota = Arc::new(Quota::without_bounds());
        let (written, counted) = (Arc::clone(&store), Arc::clone(&metrics));
        let (log, writer) = GroupCommit::make(written, Arc::clone(&hub), None, quota, None, counted, standing)?;
        let limits = Config::new("", ([127, 0, 0, 1], 0).into()).limits.of_v1();
        let parts = Parts {
            store,
            hub,
            log: Arc::new(log),
            metrics,
            directory,
            quarantine,
            classic: Identity { peer, storage: Some(storage), epoch: Some(epoch) },
            v1: RelayIdentity { storage, epoch, limits, credit: CREDIT_BYTES },
            is_deaf,
        };
        Ok(Self { parts: Arc::new(parts), writer })
    }

    /// Returns who may come in.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.parts.directory
    }

    /// Returns its store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.parts.store
    }

    /// Returns the name of its store and the life of its log.
    pub fn name(&self) -> (StorageId, Epoch) {
        (self.parts.v1.storage, self.parts.v1.epoch)
    }

    /// Takes in a connection that speaks `rejoin.v1`.
    pub fn connect(&self) -> Modern {
        Modern::new(Arc::clone(&self.parts))
    }

    /// Takes in a connection that speaks the classic protocol, by the token that its upgrade showed. `None` if it is not good.
    pub fn connect_classic(&self, token: &str) -> Option<Classic> {
        let permit = self.parts.directory.admit(Some(token)).ok()?;
        Some(Classic::new(Arc::clone(&self.parts), permit))
    }

    /// Says whether something waits to be committed.
    pub fn wants_commit(&self) -> bool {
        !self.writer.is_idle()
    }

    /// Commits what waits, as much as fits one commit. Says whether anything did.
    pub fn commit(&mut self) -> bool {
        self.writer.turn()
    }
}

/// A clock that stands: whose turn it is must not depend on how fast a simulation runs.
fn standing() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

impl Parts {
    fn allowed(&self, permit: &Permit) -> Box<dyn Grants> {
        let allowed = Allowed { permit: permit.clone(), quarantine: Arc::clone(&self.quarantine) };
        if self.is_deaf { Box::new(Remembered(allowed)) } else { Box::new(allowed) }
    }
}

/// Rights that are never taken away again.
struct Remembered(Allowed);

impl Grants for Remembered {
    fn access(&self, _: &SpaceId) -> Option<Access> {
        Some(Access::Write)
    }

    fn is_held(&self, document: &DocumentId) -> bool {
        self.0.is_held(document)
    }
}

/// Takes what a socket would be handed, one message or none.
#[derive(Default)]
struct One(Option<Message>);

impl Sink<Message> for One {
    type Error = ();

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        if self.0.is_none() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), ()> {
        self.0 = Some(message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }
}

/// Takes the next message out of a queue.
fn take_sent(outbound: &mut Outbound) -> Option<Sent> {
    let mut one = One::default();
    // What is behind the first message waits for a socket that has no room.
    let _ = outbound.pump(Pin::new(&mut one)).now_or_never();
    match one.0? {
        Message::Binary(frame) => Some(Sent::Frame(frame)),
        Message::Close(close) => {
            let (code, reason) = close.map(|close| (close.code, close.reason.to_string())).unwrap_or_default();
            Some(Sent::Close { code, reason })
        }
        Message::Text(_) | Message::Ping(_) | Message::Pong(_) => None,
    }
}

/// What sessions let through, until somebody looks.
type Offers = VecDeque<Offer>;
