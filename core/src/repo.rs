//! The repo: an application's documents on this device, for async Rust.
//!
//! A [`Repo`] is a cheap handle that can be cloned and shared between threads. Writes go through one thread that commits
//! many at once, documents in memory live on another; no call blocks an async thread on the disk. Every write that
//! returned is durable: it survives a power loss on this device, with or without a network.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use automerge::ActorId;
use tokio::sync::{broadcast, mpsc, watch};

use crate::id::{DocumentId, PeerId, SpaceId, StorageId};
use crate::ledger;
use crate::limits::EPHEMERALS_BEHIND_MAX;
use crate::migrate;
use crate::runtime::{self, UNIX_EPOCH};
use crate::store::{self, MemoryStore, ReadTx, Store, StoreError};

mod actors;
mod care;
mod deletion;
mod documents;
mod error;
mod events;
mod files;
mod following;
mod handle;
mod pending;
mod precautions;
mod presence;
mod receipts;
mod rejected;
mod relayed;
mod requests;
mod rights;
mod sign_out;
mod spaces;
#[cfg(feature = "testing")]
pub mod testing;
mod upkeep;
mod whole;
mod writer;

pub(crate) use writer::{Answer, Notes};

pub(crate) use deletion::Burial;
pub use documents::LoadedDocument;
pub use error::RepoError;
pub(crate) use events::Source;
pub use events::{Ephemeral, Event, EventKind, Events, Lagged};
pub use files::Rescued;
pub use handle::{ChangeOptions, DocHandle, DocView, Ephemerals, HistoryEntry};
pub(crate) use pending::Pending;
pub use precautions::{Precautions, Working};
pub(crate) use presence::{EphemeralBatch, Presences};
pub use presence::{Presence, PresenceData, PresenceError, PresenceEvent, PresenceEvents, PresenceValue};
pub use receipts::{PendingNews, Written};
pub use rejected::{Branch, RejectedWrite};
pub(crate) use relayed::{Taken, acknowledge};
pub use rights::{RightsNews, SpaceRights};
pub use sign_out::SignOut;
pub use spaces::SpaceHandle;

pub use crate::codec::v1::Access;
pub use crate::document::{FieldPath, Step};
pub use crate::ledger::receipts::Receipt;
pub use crate::ledger::requests::RequestId;

use actors::Actors;
use documents::Documents;
use writer::Writer;

/// How many events a subscriber may fall behind before it is told that it missed some.
const EVENTS_MAX: usize = 4_096;

/// An application's documents on this device.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), rejoin::RepoError> {
/// use rejoin::Repo;
///
/// let repo = Repo::in_memory()?;
/// let note = repo.create().await?;
/// note.set("title", "Groceries").await?;
/// assert_eq!(note.to_json().await?, serde_json::json!({ "title": "Groceries" }));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Repo {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) writer: Writer,
    documents: Documents,
    /// Who is told at what Automerge works.
    precautions: Precautions,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) ephemerals: broadcast::Sender<EphemeralBatch>,
    /// Who is here, about which document.
    pub(crate) presences: Presences,
    pub(crate) storage: StorageId,
    actors: Actors,
    /// Our name on every connection, new in each process.
    pub(crate) peer: PeerId,
    /// Ends when the threads have ended and the store is released.
    ended: Mutex<mpsc::Receiver<()>>,
    /// Counts acknowledgements, so that one can wait for the next.
    pub(crate) acknowledged: watch::Sender<u64>,
    /// Counts changes of what is followed.
    pub(crate) follows: watch::Sender<u64>,
    /// What relays said of rights in spaces.
    rights: rights::KnownRights,
    /// Whether a relay sent a snapshot that could not be taken.
    pub(crate) snapshot_refused: AtomicBool,
    /// How many connections there were.
    pub(crate) connections: AtomicU64,
    /// Whether connections are to stay away from the network.
    pub(crate) offline: watch::Sender<bool>,
    /// Tells connections that wait to try again at once.
    pub(crate) hurried: watch::Sender<()>,
    /// Counts what waits for a relay.
    pub(crate) pending: Arc<Pending>,
    /// Dropped last of all, behind the store: the last handle may be with the thread of a connection, and whoever waits for
    /// the end of the others would open a store that is only being released.
    _alive: mpsc::Sender<()>,
}

impl std::fmt::Debug for Repo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repo").field("storage", &self.inner.storage).finish_non_exhaustive()
    }
}

impl Repo {
    /// Opens the store at a path, and makes it if it is not there. Reads and writes the disk: call it once, at the start.
    ///
    /// # Errors
    ///
    /// [`RepoError::Store`] says whether the store is in use, not ours, damaged, or of a newer version, and what to do.
    #[cfg(feature = "redb")]
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, RepoError> {
        let path = path.as_ref().to_owned();
        let opened = runtime::unblock(move || {
            let store = store::RedbStore::open(path, store::RedbOptions::new())?;
            Self::with_store(Arc::new(store))
        });
        opened.await?
    }

    /// Makes a repo that forgets everything when it is dropped.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the system gives no thread.
    pub fn in_memory() -> Result<Self, RepoError> {
        Self::with_store(Arc::new(MemoryStore::new()))
    }

    /// Makes a repo on any store. One of an older format is migrated.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be used, or the system gives no thread.
    pub fn with_store(store: Arc<dyn Store>) -> Result<Self, RepoError> {
        Self::with_precautions(store, Precautions::default())
    }

    /// Makes a repo as [`Repo::with_store`] does, where a panic cannot be caught.
    ///
    /// # Errors
    ///
    /// As [`Repo::with_store`].
    pub fn with_precautions(store: Arc<dyn Store>, precautions: Precautions) -> Result<Self, RepoError> {
        migrate::migrate(store.as_ref())?;
        let storage = store::storage_id(store.as_ref(), random_bytes())?;
        let (threads, ended) = mpsc::channel(1);
        let acknowledged = watch::Sender::new(0);
        let peer = PeerId::random(random_bytes());
        let ephemerals = broadcast::Sender::new(EPHEMERALS_BEHIND_MAX);
        let inner = Inner {
            writer: Writer::start(Arc::clone(&store), threads.clone())?,
            snapshot_refused: AtomicBool::new(precautions.suspect.is_some()),
            documents: Documents::start(Arc::clone(&store), precautions.clone(), threads.clone())?,
            precautions,
            ended: Mutex::new(ended),
            events: broadcast::Sender::new(EVENTS_MAX),
            presences: Presences::new(peer.clone(), ephemerals.clone()),
            ephemerals,
            actors: Actors::default(),
            pending: Arc::new(Pending::read(Arc::clone(&store), acknowledged.clone())?),
            peer,
            follows: watch::Sender::new(0),
            rights: rights::KnownRights::default(),
            connections: AtomicU64::new(0),
            offline: watch::Sender::new(false),
            hurried: watch::Sender::new(()),
            acknowledged,
            storage,
            store,
            _alive: threads.clone(),
        };
        let inner = Arc::new(inner);
        upkeep::start(Arc::downgrade(&inner), inner.events.subscribe(), threads)?;
        Ok(Self { inner })
    }

    /// Creates an empty document under a new random id.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be written.
    pub async fn create(&self) -> Result<DocHandle, RepoError> {
        self.create_in(SpaceId::DEFAULT).await
    }

    /// Returns a document of this device, or `None` if it is not here or was deleted everywhere. Cost: one lookup.
    ///
    /// To wait for one that a relay has, connect and use [`Repo::open_or_fetch`].
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read.
    pub async fn find(&self, document: DocumentId) -> Result<Option<DocHandle>, RepoError> {
        let found = self.read(move |tx| Ok(ledger::state(tx, &document)?.is_some())).await?;
        Ok(found.then(|| self.handle(document)))
    }

    /// Returns a handle to a document whether it is here or not.
    ///
    /// If it is not, it is created empty, and every connection asks its relay for it: its contents appear when they come.
    /// Use [`DocHandle::wait_for_content`] to wait.
    ///
    /// # Errors
    ///
    /// [`RepoError::Deleted`] if it was deleted everywhere; [`RepoError`] if the store cannot be written.
    pub async fn open_or_fetch(&self, document: DocumentId) -> Result<DocHandle, RepoError> {
        let inner = Arc::clone(&self.inner);
        let created = move |tx: &mut dyn store::WriteTx| {
            let is_new = ledger::state(tx, &document)?.is_none();
            if !ledger::create(tx, &document)? {
                return Ok(None);
            }
            Ok(Some((is_new, spaces::recall(tx, &document)?)))
        };
        let tell = move |opened: &Option<(bool, bool)>| {
            if let Some((is_new, is_recalled)) = opened {
                inner.tell_opened(document, *is_new, *is_recalled);
            }
        };
        match self.inner.writer.write(created, tell).await? {
            Some(_) => Ok(self.handle(document)),
            None => Err(RepoError::Deleted),
        }
    }

    /// Returns every document of this device, by id. Cost: one visit a document.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read.
    pub async fn list(&self) -> Result<Vec<DocumentId>, RepoError> {
        self.read(|tx| ledger::documents(tx)).await
    }

    /// Closes the repo: waits until its store is released, so that it can be opened again at once.
    ///
    /// Waits for every other handle too: drop the documents and disconnect the connections first.
    pub async fn close(self) {
        let (_, never) = mpsc::channel(1);
        let mut ended = {
            let mut slot = self.inner.ended.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *slot, never)
        };
        drop(self);
        // Nothing is ever sent: this returns when all threads have let go of the store.
        ended.recv().await;
    }

    /// Subscribes to everything that changes in any document from now on.
    pub fn subscribe(&self) -> Events {
        Events::new(self.inner.events.subscribe(), None)
    }

    /// Returns the id of this device's store.
    pub fn storage_id(&self) -> StorageId {
        self.inner.storage
    }

    /// Returns a handle to a document without looking whether it is here: calls say so then. Cost: none.
    pub fn handle(&self, document: DocumentId) -> DocHandle {
        DocHandle::new(self.clone(), document)
    }

    /// Looks into the store itself, as it is at one moment: for [`crate::fields`] and [`crate::ledger`]. Writing goes on.
    ///
    /// # Errors
    ///
    /// [`RepoError::Store`] if the store cannot be read.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn ReadTx) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, RepoError> {
        self.read(look).await
    }

    /// Reads from the store on a thread that may wait for the disk.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn ReadTx) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, RepoError> {
        let store = Arc::clone(&self.inner.store);
        Ok(runtime::unblock(move || work(store.read()?.as_ref())).await??)
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

/// Queues a message at once if there is room, so that calls run in the order of their first polls: an async send alone
/// may be put off by the runtime's scheduling and overtaken.
pub(crate) async fn in_order<T>(queue: &mpsc::Sender<T>, message: T) -> Result<(), RepoError> {
    match queue.try_send(message) {
        Ok(()) => Ok(()),
        Err(mpsc::error::TrySendError::Full(message)) => queue.send(message).await.map_err(|_| RepoError::Closed),
        Err(mpsc::error::TrySendError::Closed(_)) => Err(RepoError::Closed),
    }
}

/// Returns random bytes from the operating system.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[cfg(all(feature = "testing", not(target_family = "wasm")))]
    if runtime::simulated::fill(&mut bytes) {
        return bytes;
    }
    getrandom::fill(&mut bytes).expect("the operating system has randomness; without it no id would be safe");
    bytes
}

/// Returns an actor that no other process has.
pub(crate) fn random_actor() -> ActorId {
    ActorId::from(&random_bytes::<16>())
}

/// Returns the seconds since the Unix epoch, for display in histories.
pub(crate) fn now_seconds() -> u64 {
    runtime::clock().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
