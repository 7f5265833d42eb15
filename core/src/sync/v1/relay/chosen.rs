//! What is new of the documents that a client opened where nothing is listed.
//!
//! The log is not read for it: a document's changes stand in its ledger in the order in which they came, so that a count says
//! what the client has. A document that was not named as changed costs nothing.

use std::collections::{BTreeMap, VecDeque};

use automerge::ChangeHash;
use bytes::Bytes;

use super::filling::write_run;
use super::following::At;
use crate::codec::v1::WritesBuilder;
use crate::deletion::DeletionKind;
use crate::id::DocumentId;
use crate::ledger::{self, log, spaces, tombstone};
use crate::limits::OWN_RANGES_MAX;
use crate::store::StoreError;

/// Documents that are open and filled in, and which of them changed.
#[derive(Default)]
pub(super) struct News {
    documents: BTreeMap<DocumentId, Have>,
    /// Those with something new, in the order in which it is their turn.
    changed: BTreeMap<u64, DocumentId>,
    last_place: u64,
    /// What the client pushed, with the numbers of the batches, until that is answered.
    pushed: VecDeque<(u64, DocumentId, ChangeHash)>,
    /// How many changes are remembered as the client's own.
    own_count: usize,
}

/// How much of a document a client has.
struct Have {
    /// Which life of the document: one that was deleted and made again begins anew.
    life: u64,
    /// Its first so many changes.
    count: u64,
    /// The deletion that it was told.
    deletion: Option<DeletionKind>,
    /// Where it stands among those with something new.
    place: Option<u64>,
    /// Changes that the client pushed itself and that were not passed yet.
    own: Vec<ChangeHash>,
}

/// What became of telling about a document.
enum Told {
    /// The client has all of it that is here.
    All,
    /// The message is full.
    Full,
    /// This message brings something that others get too. The flag says whether that is all.
    Shared(Bytes, bool),
}

impl News {
    /// Begins to tell what is new of a document that was filled in from its state at this moment. `begun_in` is its life when
    /// that began: if it is another one by now, all of it is new.
    pub(super) fn open(&mut self, at: &At<'_>, document: DocumentId, begun_in: u64) -> Result<(), StoreError> {
        let life = log::life(at.tx, &document)?;
        let may_read = at.rights.may_read(&document);
        let is_same = may_read && life == begun_in && spaces::of(at.tx, &document)? == *at.space;
        let mut have = Have { life, count: 0, deletion: None, place: None, own: Vec::new() };
        if is_same {
            have.count = ledger::state(at.tx, &document)?.map_or(0, |state| state.count);
            have.deletion = tombstone::get(at.tx, &document)?.map(|tombstone| tombstone.kind);
        }
        self.close(&document);
        self.documents.insert(document, have);
        if !is_same {
            self.change(&document);
        }
        Ok(())
    }

    /// Tells nothing more of a document.
    pub(super) fn close(&mut self, document: &DocumentId) {
        let Some(have) = self.documents.remove(document) else { return };
        self.own_count -= have.own.len();
        if let Some(place) = have.place {
            self.changed.remove(&place);
        }
    }

    /// Learns that a document changed. One that is not open yet is read when it is filled in.
    pub(super) fn change(&mut self, document: &DocumentId) {
        let Some(have) = self.documents.get_mut(document).filter(|have| have.place.is_none()) else { return };
        self.last_place += 1;
        have.place = Some(self.last_place);
        self.changed.insert(self.last_place, *document);
    }

    /// Says whether something may be new.
    pub(super) fn has_work(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Learns that the client pushes a change. What is not remembered comes back to it, which does no harm.
    pub(super) fn push(&mut self, batch: u64, document: DocumentId, hash: ChangeHash) {
        if self.own_count < OWN_RANGES_MAX && self.documents.contains_key(&document) {
            self.own_count += 1;
            self.pushed.push_back((batch, document, hash));
        }
    }

    /// Learns that a batch was answered, and all before it.
    pub(super) fn answer(&mut self, batch: u64) {
        while let Some((of, document, hash)) = self.pushed.front().copied()
            && of <= batch
        {
            self.pushed.pop_front();
            match self.documents.get_mut(&document) {
                Some(have) => have.own.push(hash),
                None => self.own_count -= 1,
            }
            self.change(&document);
        }
    }

    /// Makes the next message. Cost: two lookups for each document that was named as changed, and what is sent, of which the
    /// part that others get too is not read.
    pub(super) fn step(&mut self, at: &At<'_>) -> Result<Option<Bytes>, StoreError> {
        let mut message = WritesBuilder::fill(at.space);
        while let Some((place, document)) = self.changed.first_key_value().map(|(place, of)| (*place, *of)) {
            let Some(have) = self.documents.get_mut(&document) else {
                self.changed.remove(&place);
                continue;
            };
            // A commit may be there to read before all of its batches are answered.
            let pushed = self.pushed.iter().filter(|(_, of, _)| *of == document).map(|(_, _, hash)| *hash).collect();
            let told = match have.tell(at, &document, pushed, &mut message) {
                // What was written before is not lost; the error comes again.
                Err(_) if message.count() > 0 => Told::Full,
                told => told?,
            };
            have.place = None;
            self.changed.remove(&place);
            match told {
                Told::All => self.own_count -= std::mem::take(&mut have.own).len(),
                Told::Full => {
                    // The others have their turn first.
                    self.change(&document);
                    return Ok(Some(message.finish()));
                }
                Told::Shared(frame, is_all) => {
                    if is_all {
                        self.own_count -= std::mem::take(&mut have.own).len();
                    } else {
                        self.change(&document);
                    }
                    return Ok(Some(frame));
                }
            }
        }
        Ok((message.count() > 0).then(|| message.finish()))
    }
}

impl Have {
    fn tell(
        &mut self,
        at: &At<'_>,
        document: &DocumentId,
        pushed: Vec<ChangeHash>,
        message: &mut WritesBuilder,
    ) -> Result<Told, StoreError> {
        // Who may read it again gets what came meanwhile with the next change.
        if !at.rights.may_read(document) {
            return Ok(Told::All);
        }
        let life = log::life(at.tx, document)?;
        if life != self.life {
            (self.life, self.count) = (life, 0);
        }
        let count = ledger::state(at.tx, document)?.map_or(0, |state| state.count);
        // One that is somewhere stays there for as long as it lives.
        if self.count == 0 && spaces::of(at.tx, document)? != *at.space {
            return Ok(Told::All);
        }
        if count == 0 {
            self.count = 0;
            return self.tell_deletion(at, document, message);
        }
        self.deletion = None;
        let own = self.own_positions(at, document, &pushed)?;
        self.tell_changes(at, document, count, &own, message)
    }

    fn tell_deletion(
        &mut self,
        at: &At<'_>,
        document: &DocumentId,
        message: &mut WritesBuilder,
    ) -> Result<Told, StoreError> {
        let Some(tombstone) = tombstone::get(at.tx, document)? else { return Ok(Told::All) };
        if self.deletion < Some(tombstone.kind) {
            if !message.deleted(document, &tombstone) {
                return Ok(Told::Full);
            }
            self.deletion = Some(tombstone.kind);
        }
        Ok(Told::All)
    }

    /// Tells of the first so many changes what the client does not have and did not push.
    fn tell_changes(
        &mut self,
        at: &At<'_>,
        document: &DocumentId,
        count: u64,
        own: &[u64],
        message: &mut WritesBuilder,
    ) -> Result<Told, StoreError> {
        let mut own = own.iter().copied().filter(|position| *position < count).peekable();
        while self.count < count {
            if own.next_if_eq(&self.count).is_some() {
                self.count += 1;
                continue;
            }
            let end = own.peek().copied().unwrap_or(count);
            if let Some(frame) = at.live.fill(at.space, document, self.count, end - 1)
                && (self.count..end).contains(&frame.last)
            {
                if message.count() > 0 {
                    return Ok(Told::Full);
                }
                self.count = frame.last + 1;
                return Ok(Told::Shared(frame.bytes, self.count == count));
            }
            let taken = match write_run(at.tx, document, self.count..end, message) {
                // What is damaged is left out with all that stands on it.
                Err(StoreError::Damaged { .. }) => count,
                taken => taken?,
            };
            if taken < end && message.count() > 0 {
                self.count = taken;
                return Ok(Told::Full);
            }
            // A first change is always taken: what was not is not there.
            self.count = if taken < end { count } else { taken };
        }
        Ok(Told::All)
    }

    /// Returns where the changes are that the client pushed, ascending.
    fn own_positions(&self, at: &At<'_>, document: &DocumentId, pushed: &[ChangeHash]) -> Result<Vec<u64>, StoreError> {
        let mut positions = Vec::new();
        for hash in self.own.iter().chain(pushed) {
            positions.extend(ledger::position(at.tx, document, hash)?.filter(|position| *position >= self.count));
        }
        positions.sort_unstable();
        positions.dedup();
        Ok(positions)
    }
}
