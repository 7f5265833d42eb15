//! Changes that were made durable a moment ago, still in memory, for peers that stand right before them.
//!
//! When many peers follow a document they nearly always have the same heads, so all of them lack the same changes. Who
//! commits changes may keep them for a while; a session then takes them from there instead of from the store, and the
//! sync message is encoded once for all.

use std::sync::{Arc, OnceLock};

use automerge::ChangeHash;
use bytes::Bytes;

use crate::codec::bloom::Bloom;
use crate::codec::classic::FanOut;
use crate::codec::sync_message::{Have, SyncMessage, Version};
use crate::id::{DocumentId, PeerId};

/// What one commit added to one document. It is made after the commit: what it holds may be told.
#[derive(Debug)]
pub struct Recent {
    before: Vec<ChangeHash>,
    heads: Vec<ChangeHash>,
    changes: Vec<Bytes>,
    /// The frame for every peer, made for the first one that needs it.
    frame: OnceLock<FanOut>,
}

impl Recent {
    /// Takes the document's heads before the commit and after it, both sorted, and the changes between, oldest first.
    ///
    /// It serves sessions of one identity.
    pub fn new(before: Vec<ChangeHash>, heads: Vec<ChangeHash>, changes: Vec<Bytes>) -> Self {
        Self { before, heads, changes, frame: OnceLock::new() }
    }

    /// Returns the heads before the commit.
    pub fn before(&self) -> &[ChangeHash] {
        &self.before
    }

    /// Returns the heads after the commit.
    pub fn heads(&self) -> &[ChangeHash] {
        &self.heads
    }

    /// Returns about how much memory it takes, in bytes: the changes twice, because the frame holds them too.
    pub fn memory_bytes(&self) -> usize {
        let changes: usize = self.changes.iter().map(Bytes::len).sum();
        // An allocation each, and the frame's other fields.
        512 + self.changes.len() * 64
            + changes * 2
            + (self.before.len() + self.heads.len() * 3) * size_of::<ChangeHash>()
    }

    /// Returns the frame for one peer of the session.
    pub(super) fn frame(&self, sender: &PeerId, target: &PeerId, document: &DocumentId) -> Bytes {
        let frame = self.frame.get_or_init(|| {
            let data = message(self.heads.clone(), self.changes.clone()).encode();
            FanOut::sync(sender, &document.to_string(), &data)
        });
        frame.to(target)
    }
}

/// Where a session looks for recent changes.
pub trait RecentChanges {
    /// Returns what brings a peer with these heads to the newest: each begins with the heads the one before ended with.
    /// Empty if that is not known. Together at most [`SYNC_MESSAGE_BYTES`](crate::limits::SYNC_MESSAGE_BYTES).
    fn since(&self, document: &DocumentId, heads: &[ChangeHash]) -> Vec<Arc<Recent>>;
}

/// Nothing is kept.
impl RecentChanges for () {
    fn since(&self, _: &DocumentId, _: &[ChangeHash]) -> Vec<Arc<Recent>> {
        Vec::new()
    }
}

/// Makes one message of several commits that follow each other.
pub(super) fn joined(recent: &[Arc<Recent>]) -> SyncMessage {
    let heads = recent.last().map_or_else(Vec::new, |last| last.heads.clone());
    message(heads, recent.iter().flat_map(|recent| recent.changes.iter().cloned()).collect())
}

/// The peer has these heads as soon as it has read the message: it is told to send what is above them.
fn message(heads: Vec<ChangeHash>, changes: Vec<Bytes>) -> SyncMessage {
    let have = vec![Have { last_sync: heads.clone(), bloom: Bloom::default() }];
    SyncMessage { version: Version::V1, heads, need: Vec::new(), have, changes, flags: None }
}
