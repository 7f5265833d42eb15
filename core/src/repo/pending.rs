//! What waits for a relay, counted in memory, and who waits for news of it.
//!
//! The writer tells every commit, in the order of the commits, so that the counts are never behind for somebody whose write
//! has returned.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use automerge::ChangeHash;
use tokio::sync::watch;

use crate::id::{DocumentId, SpaceId};
use crate::ledger::receipts::Tally;
use crate::ledger::spaces;
use crate::store::{Store, StoreError};

/// The counts, and the bells.
pub(crate) struct Pending {
    store: Arc<dyn Store>,
    tally: Mutex<Tally>,
    /// Rings for whatever a relay told: for those who wait for everything.
    news: watch::Sender<u64>,
    /// Rings for one document each; only those that somebody waits for.
    bells: Mutex<HashMap<DocumentId, watch::Sender<u64>>>,
    /// What changes are called that were written again: for receipts asked by the former name.
    renamed: Mutex<HashMap<(DocumentId, ChangeHash), ChangeHash>>,
    /// How many sign-outs are under way.
    leaving: AtomicUsize,
}

impl Pending {
    /// Counts the outbox.
    pub(super) fn read(store: Arc<dyn Store>, news: watch::Sender<u64>) -> Result<Self, StoreError> {
        let tally = Mutex::new(Tally::read(store.read()?.as_ref())?);
        let (bells, renamed) = (Mutex::default(), Mutex::default());
        Ok(Self { store, tally, news, bells, renamed, leaving: AtomicUsize::new(0) })
    }

    pub(super) fn of_document(&self, document: &DocumentId) -> u64 {
        lock(&self.tally).of_document(document)
    }

    pub(super) fn of_space(&self, space: &SpaceId) -> u64 {
        lock(&self.tally).of_space(space)
    }

    pub(super) fn documents(&self) -> Vec<(DocumentId, u64)> {
        lock(&self.tally).documents().collect()
    }

    pub(super) fn total(&self) -> u64 {
        lock(&self.tally).total()
    }

    /// Notes by how many more of a document's changes wait after a commit, or fewer. For the writer's thread, right after
    /// the commit.
    pub(crate) fn note(&self, document: DocumentId, more: i64) {
        if more == 0 {
            return;
        }
        let mut tally = lock(&self.tally);
        let count = tally.of_document(&document);
        if more < 0 {
            tally.take(document, more.unsigned_abs());
        } else if !tally.grow(document, more.unsigned_abs()) {
            // The first one that waits: only then somebody has to look up the space.
            let space = self.store.read().and_then(|tx| spaces::of(tx.as_ref(), &document));
            let space = space.unwrap_or_else(|error| {
                tracing::warn!(document = %document.label(), %error, "failed to look up the space of a document: counted in the default one");
                SpaceId::DEFAULT
            });
            tally.set(document, space, count + more.unsigned_abs());
        }
    }

    /// Notes that a document is gone.
    pub(crate) fn forget(&self, document: DocumentId) {
        lock(&self.tally).set(document, SpaceId::DEFAULT, 0);
        self.tell(document);
    }

    /// Puts counts that were taken in a transaction of the writer in the place of these.
    pub(super) fn reset(&self, tally: Tally) {
        *lock(&self.tally) = tally;
        self.tell_all();
    }

    /// Wakes those who wait for news of a document.
    pub(crate) fn tell(&self, document: DocumentId) {
        ring(&mut lock(&self.bells), &document);
        self.tell_some();
    }

    /// Wakes everybody.
    pub(crate) fn tell_all(&self) {
        let mut bells = lock(&self.bells);
        let all: Vec<DocumentId> = bells.keys().copied().collect();
        all.iter().for_each(|document| ring(&mut bells, document));
        drop(bells);
        self.tell_some();
    }

    /// Wakes those who wait for all documents.
    fn tell_some(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// Returns what wakes whoever waits for news of a document.
    pub(super) fn bell(&self, document: DocumentId) -> watch::Receiver<u64> {
        lock(&self.bells).entry(document).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// Notes that changes were written again.
    pub(super) fn note_renamed(&self, document: DocumentId, names: &[(ChangeHash, ChangeHash)]) {
        lock(&self.renamed).extend(names.iter().map(|(old, new)| ((document, *old), *new)));
    }

    /// Returns what a change is called now.
    pub(super) fn name(&self, document: DocumentId, mut hash: ChangeHash) -> ChangeHash {
        let renamed = lock(&self.renamed);
        while let Some(new) = renamed.get(&(document, hash)) {
            hash = *new;
        }
        hash
    }

    /// Says whether nothing may be written because this device is signing out.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire) > 0
    }

    /// Refuses writes until the door is dropped.
    pub(super) fn leave(self: &Arc<Self>) -> Door {
        self.leaving.fetch_add(1, Ordering::AcqRel);
        Door(Arc::clone(self))
    }
}

/// While this is there, nothing is written.
pub(super) struct Door(Arc<Pending>);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.leaving.fetch_sub(1, Ordering::AcqRel);
    }
}

fn ring(bells: &mut HashMap<DocumentId, watch::Sender<u64>>, document: &DocumentId) {
    if let Some(bell) = bells.get(document) {
        if bell.receiver_count() == 0 {
            bells.remove(document);
        } else {
            bell.send_modify(|count| *count += 1);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind it is whole at every moment: whoever panicked while holding it left nothing half-done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
