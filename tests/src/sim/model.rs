//! What must be true: every write that was made, what was promised of it, and what may excuse that it is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use automerge::ChangeHash;
use rejoin::ledger::{self, tombstone};
use rejoin::store::testing::disk::{CutFiles, Images};
use rejoin::store::{ReadTx, RedbOptions, Store, StoreError};
use rejoin::{ActorId, DocumentId, SpaceId};

/// Names a write: it stands in its change's message, whatever becomes of the rest.
pub type Tag = u64;

/// A write.
#[derive(Debug, Clone)]
pub struct Write {
    /// Which device made it.
    pub node: usize,
    /// Of which document.
    pub document: DocumentId,
    /// The device's word that it is durable there.
    pub is_acknowledged: bool,
    /// The change, as it was made first.
    pub change: Option<ChangeHash>,
    /// Why it may be gone.
    pub excuse: Option<&'static str>,
}

/// What must be true.
#[derive(Default)]
pub struct Model {
    /// All writes.
    pub writes: BTreeMap<Tag, Write>,
    /// Documents, with their spaces.
    pub documents: BTreeMap<DocumentId, SpaceId>,
    /// Documents that somebody tried to delete everywhere, and whether a device said that it is durable.
    pub deleted: BTreeMap<DocumentId, bool>,
    /// What a device may write on a relay.
    pub grants: BTreeMap<(usize, usize, SpaceId), bool>,
    /// Devices that ever lost a right.
    pub revoked: BTreeSet<usize>,
    /// Whether numbers of actors were used twice.
    pub has_twins: bool,
    /// Whether somebody hostile took part.
    pub has_mallory: bool,
    /// Whether a relay was restored.
    pub was_restored: bool,
    /// Whether a device went back to an old copy of its disk.
    pub has_restored: bool,
    /// What the messages of changes say, once read.
    tags: BTreeMap<ChangeHash, Option<Tag>>,
    /// Whose changes are whose.
    pub actors: BTreeMap<ActorId, usize>,
}

/// What a store has.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The changes of each document.
    pub changes: BTreeMap<DocumentId, BTreeSet<ChangeHash>>,
    /// The writes in them.
    pub tags: BTreeSet<Tag>,
    /// Documents that are deleted everywhere.
    pub buried: BTreeSet<DocumentId>,
}

impl Model {
    /// Notes a write that is about to be made, and returns the message it carries.
    pub fn begin(&mut self, node: usize, document: DocumentId) -> (Tag, String) {
        let tag = self.writes.len() as Tag;
        self.writes.insert(tag, Write { node, document, is_acknowledged: false, change: None, excuse: None });
        (tag, format!("w{tag}"))
    }

    /// Reads what a store has.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be read.
    pub fn look(&mut self, store: &dyn Store) -> Result<Holding, StoreError> {
        let tx = store.read()?;
        let mut holding = Holding::default();
        for document in ledger::documents(&*tx)? {
            let hashes = ledger::hashes(&*tx, &document)?;
            if hashes.iter().any(|hash| !self.tags.contains_key(hash)) {
                self.read(&*tx, &document)?;
            }
            holding.tags.extend(hashes.iter().filter_map(|hash| self.tags.get(hash).copied().flatten()));
            if !hashes.is_empty() {
                holding.changes.insert(document, hashes.into_iter().collect());
            }
        }
        for document in self.documents.keys() {
            if tombstone::is_buried(&*tx, document)? {
                holding.buried.insert(*document);
            }
        }
        Ok(holding)
    }

    /// Reads what a copy of a disk has: whoever is to run on it may not come up for a while. `None` if it does not open.
    pub fn look_at_image(&mut self, image: &Images) -> Option<Holding> {
        let store = CutFiles::from_images(image.clone()).open(RedbOptions::new()).ok()?;
        self.look(&store).ok()
    }

    /// Reads the messages of a document's changes.
    fn read(&mut self, tx: &dyn ReadTx, document: &DocumentId) -> Result<(), StoreError> {
        let tags = &mut self.tags;
        ledger::export(tx, document, 0, &mut |bytes| {
            if let Ok(change) = automerge::Change::from_bytes(bytes.to_vec()) {
                let tag = change.message().and_then(|message| message.strip_prefix('w')?.parse().ok());
                tags.insert(change.hash(), tag);
            }
            ControlFlow::Continue(())
        })
    }

    /// Excuses what was there before and is not now, where nobody else has it.
    pub fn excuse(&mut self, before: &Holding, after: &Holding, others: &[Holding], why: &'static str) {
        let is_kept = |tag: &Tag| after.tags.contains(tag) || others.iter().any(|other| other.tags.contains(tag));
        for tag in before.tags.iter().filter(|tag| !is_kept(tag)) {
            if let Some(write) = self.writes.get_mut(tag) {
                write.excuse = Some(why);
            }
        }
        for document in before.buried.iter().filter(|document| !after.buried.contains(document)) {
            if !others.iter().any(|other| other.buried.contains(document)) {
                self.deleted.insert(*document, false);
                // What the deletion took with it is not there to be compared, and does not come back with the document.
                let of_it = self.writes.iter_mut().filter(|(tag, write)| write.document == *document && !is_kept(tag));
                of_it.for_each(|(_, write)| write.excuse = Some(why));
            }
        }
    }

    /// Says whether a device may write a space on a relay.
    pub fn may_write(&self, relay: usize, node: usize, space: SpaceId) -> bool {
        self.grants.get(&(relay, node, space)).copied().unwrap_or(false)
    }
}
