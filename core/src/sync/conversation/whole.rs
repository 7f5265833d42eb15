//! Whole documents in sync messages: one chunk that holds every change, a fraction of their size.
//!
//! To a peer that has nothing, and says that it reads such chunks, the ledger's snapshot goes out first, under the
//! snapshot's own heads; what came after it follows as changes, as to anybody who has those heads. It goes out once: a peer
//! that shows that it took nothing from it gets changes.
//!
//! The other way a chunk is handed to the driver, which has to take it apart, and only if its heads are not all known
//! here. Whether to *ask* for chunks is a choice: an Automerge peer remembers for the whole connection who reads them,
//! sends one whenever a third of the history seems to be lacking, and never sends again what it has sent in one. So only
//! who can take apart whatever comes should ask; nobody else gets one. Every Automerge peer sends one chunk unasked, an
//! empty document's, when it is asked for a document that it lacks; it holds no heads and is passed over.

use bytes::Bytes;

use super::*;
use crate::gate::{Chunk, DocumentHeader, Rule};
use crate::ledger::snapshot;
use crate::limits::SNAPSHOT_BYTES_MAX;

/// What is done with the whole documents that a peer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WholeDocuments {
    /// They are refused. The default.
    #[default]
    Refused,
    /// They are taken, and not asked for.
    Taken,
    /// They are taken, and peers are told so while nothing is here.
    AskedFor,
}

/// A whole-document chunk from the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeDocument {
    /// The chunk. Nothing but its checksum and its beginning was checked: it may hold anything.
    pub chunk: Bytes,
    /// The heads it says it ends with.
    pub heads: Vec<ChangeHash>,
}

/// A conversation's memory about whole documents.
#[derive(Debug, Default)]
pub(super) struct Whole {
    policy: WholeDocuments,
    peer_reads: bool,
    peer_is_read_only: bool,
    sent: bool,
    arrived: Vec<WholeDocument>,
}

impl Whole {
    /// Learns what a message says about its sender. A message without flags says nothing.
    pub(super) fn hear(&mut self, flags: Option<Flags>) {
        if let Some(flags) = flags {
            self.peer_reads = true;
            self.peer_is_read_only = flags.contains(Flags::READ_ONLY);
        }
    }

    /// Says whether the peer applies nothing that is sent to it.
    pub(super) fn peer_is_read_only(&self) -> bool {
        self.peer_is_read_only
    }

    /// Takes in a document chunk out of `message`.
    pub(super) fn take(&mut self, chunk: &Chunk<'_>, message: &Bytes) -> Result<(), GateError> {
        let header = DocumentHeader::of(chunk)?;
        if header.heads.is_empty() {
            return Ok(());
        }
        Rule::ChunkType.require(self.policy != WholeDocuments::Refused)?;
        // Nobody sends two; the last one is the newest.
        self.arrived = vec![WholeDocument { chunk: message.slice_ref(chunk.raw()), heads: header.heads }];
        Ok(())
    }

    /// Returns what to say about ourselves: that we read whole documents, while they could only bring news.
    pub(super) fn flags(&self, state: &DocumentState) -> Option<Flags> {
        (self.policy == WholeDocuments::AskedFor && state.count == 0).then(Flags::default)
    }
}

impl Conversation {
    /// Sets what is done with whole documents from the peer. Default: [`WholeDocuments::Refused`].
    pub fn set_whole_documents(&mut self, policy: WholeDocuments) {
        self.whole.policy = policy;
    }

    /// Takes out the whole document that the last message brought, if it has heads that are unknown here.
    ///
    /// The driver appends its changes and calls [`Conversation::handle_appended`], with nothing if it could not.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub fn take_document(&mut self, tx: &dyn ReadTx) -> Result<Option<WholeDocument>, StoreError> {
        let Some(whole) = self.whole.arrived.pop() else { return Ok(None) };
        let known = self.known(tx, &whole.heads)?;
        Ok((known.len() < whole.heads.len()).then_some(whole))
    }

    /// Makes the message that carries the snapshot, if the peer has nothing at all and can read it.
    pub(super) fn snapshot_message(
        &mut self,
        tx: &dyn ReadTx,
        state: &DocumentState,
    ) -> Result<Option<Outgoing>, StoreError> {
        let Some(theirs) = &self.theirs else { return Ok(None) };
        let has_nothing = theirs.heads.is_empty()
            && self.peer_has.is_empty()
            && self.wanted.is_empty()
            && theirs.have.iter().all(|have| *have == Have::default());
        if !has_nothing || !self.whole.peer_reads || self.whole.peer_is_read_only || self.whole.sent {
            return Ok(None);
        }
        let Some(info) = snapshot::info(tx, &self.document)? else { return Ok(None) };
        if info.bytes > SNAPSHOT_BYTES_MAX as u64 {
            return Ok(None);
        }
        let Some(chunk) = snapshot::chunk(tx, &self.document)? else { return Ok(None) };
        self.whole.sent = true;
        self.last_sent = Some(info.heads.clone());
        self.peer_has.clone_from(&info.heads);
        let message = SyncMessage {
            version: Version::V2,
            // The peer has them as soon as it has read the message, and then sends just what it makes itself.
            have: vec![Have { last_sync: info.heads.clone(), bloom: Bloom::default() }],
            heads: info.heads,
            need: Vec::new(),
            changes: vec![Bytes::from(chunk)],
            flags: None,
        };
        Ok(Some(Outgoing { message, more: info.count < state.count }))
    }
}

#[cfg(test)]
mod tests;
