//! Deletions in a session: hearing of them, telling of them, and keeping deleted documents from coming back.
//!
//! The store decides what is told, when a frame is made: whatever marks a document that has a tombstone, the other side is
//! told of the tombstone instead of changes. One that does not speak our additions reads that the document is unavailable,
//! once, and again whenever it asks.

use std::collections::HashSet;

use bytes::Bytes;

use super::{ClassicSession, Output, Role};
use crate::codec::classic::{Frame, REJOIN_LEVEL};
use crate::deletion::Tombstone;
use crate::id::{DocumentId, PeerId};
use crate::ledger::tombstone;
use crate::store::{ReadTx, StoreError};

/// What a session knows of deletions beyond the store.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    /// The other side reads `rejoin-delete`.
    pub(super) spoken: bool,
    /// Documents whose tombstone is to be told.
    pub(super) telling: HashSet<DocumentId>,
    /// Documents that were called unavailable because they were deleted.
    called_unavailable: HashSet<DocumentId>,
}

/// What there is to say of a document.
pub(super) enum Telling {
    /// It was not deleted.
    Nothing,
    /// It was deleted, and the other side has heard so.
    Told,
    Frame(Bytes),
}

impl Deletions {
    /// Makes the frame that tells of a document's deletion, if it was deleted.
    pub(super) fn tell(
        &mut self,
        sender_id: &PeerId,
        target_id: &PeerId,
        document: DocumentId,
        tx: &dyn ReadTx,
    ) -> Result<Telling, StoreError> {
        let Some(tombstone) = tombstone::get(tx, &document)? else { return Ok(Telling::Nothing) };
        let (sender_id, target_id) = (sender_id.clone(), target_id.clone());
        if self.spoken {
            let frame = Frame::Delete { sender_id, target_id, document, tombstone, is_ack: false };
            return Ok(Telling::Frame(frame.encode()));
        }
        if !self.called_unavailable.insert(document) {
            return Ok(Telling::Told);
        }
        Ok(Telling::Frame(Frame::DocUnavailable { sender_id, target_id, document }.encode()))
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl ClassicSession {
    /// Says whether the other side can be told of deletions. Known once the handshake is done.
    pub fn speaks_rejoin(&self) -> bool {
        self.deletions.spoken
    }

    /// Ends the talk about a document that was deleted everywhere, and tells the other side if it can be told.
    pub fn tell_deleted(&mut self, document: DocumentId) {
        self.forget(&document);
        if self.deletions.spoken && !self.closed {
            self.deletions.telling.insert(document);
            self.mark(document);
        }
    }

    /// Learns that an [`Output::Delete`] was carried out durably, and tells the other side so.
    pub fn handle_deleted(&mut self, document: DocumentId, tombstone: &Tombstone) {
        if self.closed {
            return;
        }
        if self.role == Role::Client {
            self.forget(&document);
        }
        let Some(target_id) = self.peer.clone() else { return };
        let sender_id = self.identity.peer.clone();
        let frame = Frame::Delete { sender_id, target_id, document, tombstone: tombstone.clone(), is_ack: true };
        self.outputs.push_back(Output::Send(frame.encode()));
    }

    /// Notes what the other side's handshake says of our additions.
    pub(super) fn note_level(&mut self, level: u32) {
        self.deletions.spoken = level >= REJOIN_LEVEL;
    }

    pub(super) fn hear_deletion(
        &mut self,
        target: &PeerId,
        document: DocumentId,
        tombstone: Tombstone,
        is_ack: bool,
        tx: &dyn ReadTx,
    ) -> Result<(), StoreError> {
        if !self.is_for_us(target) {
            return Ok(());
        }
        if !self.deletions.spoken {
            let reason = "a rejoin-delete from a peer that did not say it speaks so".to_owned();
            self.outputs.push_back(Output::Ignored { reason });
        } else if is_ack {
            self.outputs.push_back(Output::DeleteAcknowledged { document, kind: tombstone.kind });
        } else if self.may_delete(&document, tx)? {
            self.outputs.push_back(Output::Delete { document, tombstone });
        } else {
            self.outputs.push_back(Output::Forbidden { document, is_deletion: true });
        }
        Ok(())
    }

    /// Learns that changes were not taken because the document was deleted, here or everywhere.
    pub(super) fn refused_as_deleted(&mut self, document: DocumentId) {
        if self.role == Role::Client {
            self.forget(&document);
        }
        self.deletions.telling.insert(document);
        self.mark(document);
    }

    /// Answers who asks for a document that was deleted everywhere, if it can be told so. Says whether that was the case.
    pub(super) fn answers_deleted(&mut self, document: DocumentId, tx: &dyn ReadTx) -> Result<bool, StoreError> {
        let tells = self.deletions.spoken && tombstone::is_buried(tx, &document)?;
        if tells {
            self.deletions.telling.insert(document);
            self.mark(document);
        }
        Ok(tells)
    }

    /// Takes in a message about a document that a client does not have. It may have been deleted here, while the other side
    /// still takes us to have it: unless it was deleted everywhere, only who asks is answered, so that the other side need
    /// not send it again.
    pub(super) fn handle_unsolicited(
        &mut self,
        document: DocumentId,
        is_request: bool,
        tx: &dyn ReadTx,
    ) -> Result<(), StoreError> {
        if tombstone::is_buried(tx, &document)? {
            self.deletions.telling.insert(document);
            self.mark(document);
        } else if is_request {
            self.say_unavailable(document);
        }
        Ok(())
    }
}
