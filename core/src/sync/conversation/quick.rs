//! The quick way through a conversation in which both sides have the same: one look into the store for what is sent, none
//! for the answer.
//!
//! That is how a reader spends its day. A change is committed, and everybody who has the heads before it is sent the same
//! message; each answers with the heads that it has now. Whatever is not exactly so goes the long way.

use std::sync::Arc;

use super::*;
use crate::codec::classic::encode_sync;
use crate::id::PeerId;
use crate::limits::UNANSWERED_MAX;
use crate::sync::recent::{self, Recent, RecentChanges};

impl Conversation {
    /// Returns the frame with what was committed since the peer's heads, if that is all there is to say.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub(in crate::sync) fn poll_recent(
        &mut self,
        source: &dyn RecentChanges,
        tx: &dyn ReadTx,
        sender: &PeerId,
        target: &PeerId,
    ) -> Result<Option<Bytes>, StoreError> {
        if !self.is_quiet() || self.whole.peer_is_read_only() || self.peer_has.is_empty() {
            return Ok(None);
        }
        let found: Vec<Arc<Recent>> = source.since(&self.document, &self.peer_has);
        let Some(last) = found.last() else { return Ok(None) };
        let heads = last.heads();
        // The store decides: the document may have been deleted, or have more by now.
        if ledger::state(tx, &self.document)?.is_none_or(|state| !state.heads.iter().map(|head| &head.hash).eq(heads)) {
            return Ok(None);
        }
        self.peer_has = heads.to_vec();
        self.last_sent = Some(heads.to_vec());
        self.expect_answer();
        Ok(Some(match found.as_slice() {
            [single] => single.frame(sender, target, &self.document),
            several => encode_sync(sender, target, &self.document.to_string(), &recent::joined(several).encode()),
        }))
    }

    /// Takes in a message that says no more than that what we sent has arrived, and returns the peer's heads. Any other
    /// message stays as it is.
    ///
    /// Nothing is to be said to it: whatever else was committed meanwhile has been announced by itself.
    pub(in crate::sync) fn handle_answer(&mut self, message: &mut SyncMessage) -> Option<Vec<ChangeHash>> {
        let plain = message.changes.is_empty()
            && message.need.is_empty()
            && !message
                .flags
                .is_some_and(|flags| flags.contains(Flags::SYNC_RESET) || flags.contains(Flags::READ_ONLY))
            // So speaks who begins afresh.
            && message.have != [Have::default()];
        let [head] = message.heads.as_slice() else { return None };
        let index = self.unanswered.iter().position(|sent| sent == head)?;
        if !plain || !self.is_quiet() {
            return None;
        }
        // The answers to the earlier ones do not come any more, or say nothing new.
        self.unanswered.drain(..=index);
        self.whole.hear(message.flags);
        let heads = message.heads.clone();
        self.theirs = Some(Theirs { heads: heads.clone(), have: std::mem::take(&mut message.have) });
        Some(heads)
    }

    /// Notes the heads that the peer is going to answer with.
    pub(super) fn expect_answer(&mut self) {
        if let [head] = self.peer_has.as_slice() {
            if self.unanswered.len() >= UNANSWERED_MAX {
                self.unanswered.pop_front();
            }
            self.unanswered.push_back(*head);
        }
    }

    /// Says whether nothing is open between the two sides: no question, no guess, nothing left to take in, nothing held and
    /// nothing refused.
    fn is_quiet(&self) -> bool {
        self.exact
            && !self.in_flight
            && self.resets == 0
            && self.wanted.is_empty()
            && self.intake.is_empty()
            && self.refused.is_empty()
            && self.orphans.is_empty()
            && self.theirs.is_some()
    }
}

#[cfg(test)]
mod tests;
