//! What upkeep does when the store cannot be written, and how much it does at a time.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use automerge::transaction::Transactable;
use automerge::{Automerge, AutomergeError, ROOT};

use super::Grown;
use crate::document::whole;
use crate::fields::{self, Author, Edit};
use crate::id::DocumentId;
use crate::ledger;
use crate::limits::{PACK_CHANGES_MAX, PACK_CHANGES_MIN, PACK_KEEP};
use crate::repo::{Repo, random_actor, whole as chunks};
use crate::store::{MemoryStore, ReadTx, Store, StoreError, StoreExt, WriteTx};

const DOCUMENT: DocumentId = DocumentId::from_bytes([1; 16]);

/// A store that is full for the first few writes of upkeep.
struct Full {
    inner: MemoryStore,
    refusals_left: Arc<AtomicUsize>,
}

impl Store for Full {
    fn read(&self) -> Result<Box<dyn ReadTx + '_>, StoreError> {
        self.inner.read()
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn WriteTx) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let left = |left: usize| left.checked_sub(1);
        if thread::current().name() == Some("rejoin-upkeep")
            && self.refusals_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok()
        {
            return Err(StoreError::Engine("no room".to_owned()));
        }
        self.inner.write(work)
    }
}

/// Puts a whole document into a store, folded.
fn install(store: &MemoryStore) {
    let mut document = Automerge::new();
    for value in 0..20 {
        document.transact::<_, _, AutomergeError>(|tx| tx.put(ROOT, "k", value)).unwrap();
    }
    let chunk = bytes::Bytes::from(document.save());
    let mut read = whole::read(&chunk).unwrap();
    let installed = store.write_with(|tx| {
        ledger::create(tx, &DOCUMENT)?;
        whole::install(tx, &DOCUMENT, &mut read, &chunk)
    });
    installed.unwrap().unwrap();
}

fn folded(store: &dyn Store) -> u64 {
    ledger::state(store.read().unwrap().as_ref(), &DOCUMENT).unwrap().unwrap().folded
}

#[test]
fn history_that_could_not_be_unfolded_is_tried_again_without_reopening() {
    let inner = MemoryStore::new();
    install(&inner);
    assert_eq!(folded(&inner), 20);
    let refusals_left = Arc::new(AtomicUsize::new(1));
    let store = Arc::new(Full { inner, refusals_left: Arc::clone(&refusals_left) });
    let repo = Repo::with_store(Arc::clone(&store) as Arc<dyn Store>).unwrap();
    let begun = Instant::now();
    while folded(&*store) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "it stays folded");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(refusals_left.load(Ordering::Relaxed), 0);
    drop(repo);
}

#[test]
fn others_get_a_turn_between_two_packs() {
    let repo = Repo::in_memory().unwrap();
    let store = &repo.inner().store;
    let most = PACK_CHANGES_MAX as u64;
    let changes = 2 * most + PACK_KEEP + PACK_CHANGES_MIN as u64 - 1;
    let actor = random_actor();
    store
        .write_with(|tx| {
            ledger::create(tx, &DOCUMENT)?;
            for value in 0..changes {
                let author = Author { actor: &actor, time_seconds: 0, message: None };
                fields::write(tx, &DOCUMENT, &author, &[Edit::set("k", value.cast_signed())])?.unwrap();
            }
            Ok(())
        })
        .unwrap();
    let unpacked = || chunks::unpacked(store.read().unwrap().as_ref(), &DOCUMENT).unwrap();
    let (weak, mut grown) = (Arc::downgrade(repo.inner()), Grown::default());
    // One change told of; what was there before it is found in the store.
    grown.note(&weak, DOCUMENT, super::ASK_AFTER);
    assert_eq!((unpacked(), grown.due.len()), (changes - PACK_KEEP, 1));
    for left in [most + PACK_CHANGES_MIN as u64 - 1, PACK_CHANGES_MIN as u64 - 1] {
        let due = *grown.due.front().unwrap();
        grown.pack(&weak, due);
        assert_eq!(unpacked(), left);
    }
    assert!(grown.due.is_empty(), "too few are left for a pack");
}
