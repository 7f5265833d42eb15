//! The answers to pushes: receipts, and refusals.

use std::collections::BTreeMap;

use automerge::ChangeHash;

use super::push::{Batch, Sent};
use super::{ClientOutput, ClientSession};
use crate::codec::v1::{AckRun, Code, Outcome, Reject};
use crate::deletion::{DeletionKind, Tombstone};
use crate::id::{DocumentId, SpaceId};
use crate::ledger::receipts::Relayed;
use crate::ledger::{self, outbox};
use crate::store::{ReadTx, StoreError};

/// What a batch's answer acknowledges, by document.
type Receipts = BTreeMap<DocumentId, Vec<Relayed>>;

/// Says whether a change that was pushed is here still, and no relay was known to have it.
fn is_unacknowledged(tx: &dyn ReadTx, document: &DocumentId, hash: &ChangeHash) -> Result<bool, StoreError> {
    match ledger::position(tx, document, hash)? {
        Some(position) => outbox::is_unacknowledged(tx, document, position),
        None => Ok(false),
    }
}

impl ClientSession {
    pub(super) fn handle_ack(&mut self, number: u64, results: Vec<AckRun>, tx: &dyn ReadTx) -> Result<(), StoreError> {
        let Some(batch) = self.pushes.batches.remove(&number) else {
            self.close_for(Code::Unexpected, "an ack answers no push");
            return Ok(());
        };
        let count = results.iter().fold(0u64, |count, run| count.saturating_add(run.count));
        if count != u64::try_from(batch.writes.len()).unwrap_or(u64::MAX) {
            self.close_for(Code::Unexpected, "an ack answers another number of writes");
            return Ok(());
        }
        let Batch { space, writes } = batch;
        let mut writes = writes.into_iter();
        let mut receipts = Receipts::new();
        for run in results {
            let some = writes.by_ref().take(usize::try_from(run.count).unwrap_or(usize::MAX));
            match run.outcome {
                Outcome::Stored { first } => {
                    for (position, sent) in (first..).zip(some) {
                        self.take_stored(sent, position, &mut receipts, tx)?;
                    }
                    self.spaces.acked(&space, first, first.saturating_add(run.count - 1));
                }
                Outcome::Duplicate => {
                    for sent in some {
                        self.take_duplicate(space, sent, &mut receipts, tx)?;
                    }
                }
                Outcome::Rejected(reject) => {
                    for sent in some {
                        self.take_rejected(number, space, sent, &reject, tx)?;
                    }
                }
            }
        }
        self.acknowledge(space, receipts);
        self.move_cursor(&space);
        Ok(())
    }

    /// Takes an error about a push: none of it was taken.
    pub(super) fn handle_batch_error(
        &mut self,
        number: u64,
        reject: &Reject,
        tx: &dyn ReadTx,
    ) -> Result<(), StoreError> {
        let Some(batch) = self.pushes.batches.remove(&number) else {
            self.close_for(Code::Unexpected, "an error is about a push that waits for no answer");
            return Ok(());
        };
        for sent in batch.writes {
            self.take_rejected(number, batch.space, sent, reject, tx)?;
        }
        Ok(())
    }

    /// Acknowledges what the relay had before at the greatest position it can have: that was told by now.
    pub(super) fn settle_duplicates(&mut self, space: &SpaceId, tx: &dyn ReadTx) -> Result<(), StoreError> {
        let Some(duplicates) = self.pushes.duplicates.remove(space) else { return Ok(()) };
        let log_position = self.spaces.highest(space);
        let mut receipts = Receipts::new();
        for (document, hash) in duplicates {
            if is_unacknowledged(tx, &document, &hash)? {
                receipts.entry(document).or_default().push(Relayed { hash, log_position });
            }
        }
        self.acknowledge(*space, receipts);
        Ok(())
    }

    /// Acknowledges duplicates of spaces of which no entries come any more.
    pub(super) fn settle_left(&mut self, tx: &dyn ReadTx) -> Result<(), StoreError> {
        let left = self.pushes.duplicates.keys().copied().filter(|space| !self.is_told_later(space));
        for space in left.collect::<Vec<SpaceId>>() {
            self.settle_duplicates(&space, tx)?;
        }
        Ok(())
    }

    fn acknowledge(&mut self, space: SpaceId, receipts: Receipts) {
        if !receipts.is_empty() {
            let acknowledged = receipts.into_iter().collect();
            let output = ClientOutput::Acknowledged { space, epoch: self.epoch(), acknowledged };
            // A delivery that waits may tell the exact position: it goes first.
            self.emit(&space, output);
        }
    }

    fn take_stored(
        &mut self,
        sent: Sent,
        log_position: u64,
        receipts: &mut Receipts,
        tx: &dyn ReadTx,
    ) -> Result<(), StoreError> {
        match sent {
            Sent::Deletion { document, kind } => {
                self.outputs.push_back(ClientOutput::DeletionAcknowledged { document, kind });
            }
            Sent::Change { document, position, hash } => {
                self.pushes.answered(document, position, &hash);
                // Of what others wrote, and we only passed on, there are no receipts.
                if is_unacknowledged(tx, &document, &hash)? {
                    receipts.entry(document).or_default().push(Relayed { hash, log_position });
                }
            }
        }
        Ok(())
    }

    fn take_duplicate(
        &mut self,
        space: SpaceId,
        sent: Sent,
        receipts: &mut Receipts,
        tx: &dyn ReadTx,
    ) -> Result<(), StoreError> {
        match sent {
            Sent::Change { document, position, hash } if self.is_told_later(&space) => {
                self.pushes.answered(document, position, &hash);
                if is_unacknowledged(tx, &document, &hash)? {
                    self.pushes.duplicates.entry(space).or_default().push((document, hash));
                }
                Ok(())
            }
            sent => {
                let log_position = self.spaces.highest(&space);
                self.take_stored(sent, log_position, receipts, tx)
            }
        }
    }

    /// Tells whether entries are still to come that may tell where something is.
    fn is_told_later(&self, space: &SpaceId) -> bool {
        match self.spaces.live(space) {
            Some(live) => !live.is_caught_up,
            None => self.spaces.is_wanted(space),
        }
    }

    fn take_rejected(
        &mut self,
        number: u64,
        space: SpaceId,
        sent: Sent,
        reject: &Reject,
        tx: &dyn ReadTx,
    ) -> Result<(), StoreError> {
        match sent {
            Sent::Deletion { document, kind } if reject.code == Code::DocumentDeleted => {
                self.outputs.push_back(ClientOutput::DeletionAcknowledged { document, kind });
            }
            Sent::Deletion { document, .. } => {
                self.outputs.push_back(ClientOutput::DeletionRejected { document, reject: reject.clone() });
            }
            Sent::Change { document, position, hash } => {
                self.pushes.answered(document, position, &hash);
                match reject.code {
                    Code::DocumentDeleted => self.take_deleted(space, document),
                    // What others wrote its owner brings, and nobody here need know.
                    Code::ActorOwned if !is_unacknowledged(tx, &document, &hash)? => {
                        self.pushes.wait_for_owner(document, hash);
                    }
                    Code::ChangeMissing => self.take_missing(number, space, (document, position, hash), reject),
                    _ => self.report_rejected(space, document, position, hash, reject.clone(), None),
                }
            }
        }
        Ok(())
    }

    /// The document was deleted everywhere: so it is here. The log tells by whom and when; if we follow it, it did.
    fn take_deleted(&mut self, space: SpaceId, document: DocumentId) {
        let known = self.pushes.documents.entry(document).or_default();
        if !std::mem::replace(&mut known.is_held, true) {
            let by = self.relay().map(|(relay, _)| relay.to_string()).unwrap_or_default();
            let tombstone = Tombstone { kind: DeletionKind::Deleted, time_seconds: 0, by };
            self.deliver_deletion(space, document, tombstone);
        }
    }

    /// A change stands on one that the relay lacks: one that was refused, or else one that it was believed to have. Then
    /// the whole document is offered, once.
    fn take_missing(
        &mut self,
        number: u64,
        space: SpaceId,
        (document, position, hash): (DocumentId, u64, ChangeHash),
        reject: &Reject,
    ) {
        let last_batch = self.pushes.last_batch;
        let known = self.pushes.documents.entry(document).or_default();
        match (known.refused, known.healed) {
            (Some(refused), _) => {
                self.report_rejected(space, document, position, hash, reject.clone(), Some(refused));
            }
            (None, None) if !known.is_held => {
                known.healed = Some(last_batch);
                self.pushes.offer(document, Vec::new(), 0);
            }
            // It went out before the offer, which holds it too.
            (None, Some(until)) if number <= until => {}
            _ => self.report_rejected(space, document, position, hash, reject.clone(), None),
        }
    }

    /// Reports that a change was not taken, and holds its document back.
    pub(super) fn report_rejected(
        &mut self,
        space: SpaceId,
        document: DocumentId,
        position: u64,
        hash: ChangeHash,
        reject: Reject,
        stands_on: Option<ChangeHash>,
    ) {
        self.pushes.hold(document, Some(hash));
        self.pushes.missed(document, position);
        self.outputs.push_back(ClientOutput::Rejected { space, document, position, hash, reject, stands_on });
    }
}
