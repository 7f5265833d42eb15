//! Quarantine: documents that an operator has put aside. Nobody is sent anything of them and nobody writes to them until they are
//! released; nothing of them is lost.
//!
//! What is in quarantine stands in the store, and in memory for those who ask at every frame.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rejoin::DocumentId;
use rejoin::store::{ReadTx, Store, StoreError, StoreExt, Table};
use serde::{Deserialize, Serialize};

/// The first byte of its keys in [`Table::Directory`]; 16 bytes of the document follow.
const KIND: u8 = b'q';

/// Why and since when a document is in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// Since when, in seconds since 1970.
    pub(crate) since_seconds: u64,
    /// Why, by the operator's word.
    pub(crate) reason: String,
}

/// Says whether a document is in quarantine, by the store. Cost: one look-up.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub(crate) fn is_held(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<bool, StoreError> {
    tx.contains(Table::Directory, &key(document))
}

/// The documents in quarantine.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    held: RwLock<BTreeMap<DocumentId, Held>>,
    /// How many there are: mostly none, and then nobody needs the lock.
    count: AtomicUsize,
}

impl Quarantine {
    /// Reads what is in quarantine. Cost: one row each.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read, or such a row does not decode.
    pub(crate) fn open(store: &dyn Store) -> Result<Self, StoreError> {
        let mut held = BTreeMap::new();
        let mut is_damaged = false;
        store.read()?.scan(Table::Directory, &[KIND]..&[KIND + 1], &mut |key, value| {
            let document = key.get(1..).and_then(|id| id.try_into().ok()).map(DocumentId::from_bytes);
            match (document, serde_json::from_slice(value)) {
                (Some(document), Ok(one)) => drop(held.insert(document, one)),
                _ => is_damaged = true,
            }
            if is_damaged { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if is_damaged {
            return Err(StoreError::Damaged { what: "a quarantine in directory-1" });
        }
        Ok(Self { count: AtomicUsize::new(held.len()), held: RwLock::new(held) })
    }

    /// Says whether a document is in quarantine. Cost: one load while none is.
    pub(crate) fn is_quarantined(&self, document: &DocumentId) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.read().contains_key(document)
    }

    /// Returns how many there are.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Says why a document is in quarantine, if it is.
    pub(crate) fn get(&self, document: &DocumentId) -> Option<Held> {
        self.read().get(document).cloned()
    }

    /// Lists those behind `after`, at most `limit`, by id.
    pub(crate) fn list(&self, after: Option<&DocumentId>, limit: usize) -> Vec<(DocumentId, Held)> {
        let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(*after));
        let held = self.read();
        held.range((from, Bound::Unbounded)).take(limit).map(|(id, held)| (*id, held.clone())).collect()
    }

    /// Puts a document into quarantine, durably.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing changes then.
    pub(crate) fn put(&self, store: &dyn Store, document: &DocumentId, held: Held) -> Result<(), StoreError> {
        let row = serde_json::to_vec(&held).map_err(|error| StoreError::Engine(error.to_string()))?;
        store.write_with(|tx| tx.put(Table::Directory, &key(document), &row))?;
        let mut all = self.write();
        all.insert(*document, held);
        self.count.store(all.len(), Ordering::Release);
        Ok(())
    }

    /// Releases a document, durably. Says whether it was in quarantine.
    ///
    /// # Errors
    ///
    /// As [`Quarantine::put`].
    pub(crate) fn release(&self, store: &dyn Store, document: &DocumentId) -> Result<bool, StoreError> {
        store.write_with(|tx| tx.delete(Table::Directory, &key(document)))?;
        let mut all = self.write();
        let was_held = all.remove(document).is_some();
        self.count.store(all.len(), Ordering::Release);
        Ok(was_held)
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<DocumentId, Held>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<DocumentId, Held>> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(document: &DocumentId) -> [u8; 17] {
    let mut key = [KIND; 17];
    key[1..].copy_from_slice(document.as_bytes());
    key
}

#[cfg(test)]
mod tests {
    use rejoin::store::MemoryStore;

    use super::*;

    #[test]
    fn quarantine_outlives_the_process_until_it_is_released() {
        let store = MemoryStore::new();
        let quarantine = Quarantine::open(&store).expect("nothing is wrong");
        let document = DocumentId::from_bytes([7; 16]);
        let held = Held { since_seconds: 5, reason: "looks odd".to_owned() };
        quarantine.put(&store, &document, held.clone()).expect("it can be written");
        assert!(quarantine.is_quarantined(&document) && !quarantine.is_quarantined(&DocumentId::from_bytes([8; 16])));
        let again = Quarantine::open(&store).expect("nothing is wrong");
        assert_eq!(again.list(None, 9), [(document, held)]);
        assert_eq!(again.list(Some(&document), 9), []);
        assert!(again.release(&store, &document).expect("it can be written"));
        assert!(!again.release(&store, &document).expect("it can be written"));
        assert!(!again.is_quarantined(&document) && again.get(&document).is_none());
        assert_eq!(Quarantine::open(&store).expect("nothing is wrong").list(None, 9), []);
    }
}
