//! Comparing a space by heads: a merge of the documents that a client names, in rising order, with those that are here, in the
//! same order. So neither side is ever held as a whole.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::filling::{Filling, Wrote};
use super::following::At;
use crate::codec::v1::{DocumentHeads, RelayMessage, WritesBuilder};
use crate::id::{DocumentId, SpaceId};
use crate::ledger::{self, Compared, spaces, tombstone};
use crate::limits::{BATCH_BYTES, COMPARE_PAGE_DOCUMENTS, DOCUMENT_LIST_MAX};
use crate::store::StoreError;

/// What a step of a comparison made.
pub(super) enum Step {
    /// A message.
    Message(Bytes),
    /// The last message of all.
    Last(Bytes),
    /// Nothing before the client names more.
    Waits,
}

/// A comparison under way.
#[derive(Default)]
pub(super) struct Comparing {
    /// What the client named and nobody has looked at.
    named: VecDeque<DocumentHeads>,
    /// How many of those are left of each message, and its bytes.
    messages: VecDeque<(usize, u64)>,
    /// Bytes of messages that were worked off since they were last asked for.
    done_bytes: u64,
    highest: Option<DocumentId>,
    has_all: bool,
    page: Page,
    filling: Option<Filling>,
    lacking: Vec<DocumentHeads>,
    lacking_bytes: usize,
}

impl Comparing {
    /// Takes in a `compare` message of so many bytes. Returns what is wrong with it, for the client.
    pub(super) fn handle(
        &mut self,
        documents: Vec<DocumentHeads>,
        is_last: bool,
        bytes: u64,
    ) -> Result<(), &'static str> {
        if self.has_all {
            return Err("a compare after the one that was marked as the last: subscribe again to compare once more");
        }
        for document in &documents {
            if self.highest.is_some_and(|highest| highest >= document.document) {
                return Err(
                    "compare has to name documents in the order of their ids, each once, over all its messages",
                );
            }
            self.highest = Some(document.document);
        }
        self.has_all = is_last;
        self.messages.push_back((documents.len(), bytes));
        self.named.extend(documents);
        self.release();
        Ok(())
    }

    /// Returns how many bytes of messages were worked off since it was last asked.
    pub(super) fn take_done_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.done_bytes)
    }

    /// Returns how many bytes of messages are waiting or were worked off, when the comparison is given up.
    pub(super) fn all_bytes(&self) -> u64 {
        self.done_bytes + self.messages.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }

    /// Says whether a step would do anything.
    pub(super) fn has_work(&self) -> bool {
        self.filling.is_some() || !self.lacking.is_empty() || !self.named.is_empty() || self.has_all
    }

    /// Makes one message. Cost: besides what it sends, a few lookups for each document that is the same on both sides, of
    /// which the client's credit lets it name some 40,000 at a time.
    pub(super) fn step(&mut self, at: &At<'_>) -> Result<Step, StoreError> {
        let mut fill = WritesBuilder::fill(at.space);
        loop {
            if let Some(filling) = &mut self.filling {
                match filling.write(at.tx, at.space, &mut fill)? {
                    Wrote::All => self.filling = None,
                    Wrote::Full => return Ok(Step::Message(fill.finish())),
                    Wrote::Snapshot(message) => return Ok(Step::Message(message)),
                }
            }
            let is_full = self.lacking_bytes >= BATCH_BYTES || self.lacking.len() >= DOCUMENT_LIST_MAX;
            if is_full || !self.advance(at)? {
                break;
            }
        }
        if fill.count() > 0 {
            return Ok(Step::Message(fill.finish()));
        }
        let is_last = self.has_all && self.named.is_empty() && self.page.is_over();
        if !is_last && self.lacking.is_empty() {
            return Ok(Step::Waits);
        }
        self.lacking_bytes = 0;
        let documents = std::mem::take(&mut self.lacking);
        let message = RelayMessage::Lacking { space: *at.space, documents, is_last }.encode();
        Ok(if is_last { Step::Last(message) } else { Step::Message(message) })
    }

    /// Looks at one more document. Returns `false` if there is none to look at now.
    fn advance(&mut self, at: &At<'_>) -> Result<bool, StoreError> {
        if self.named.is_empty() && !self.has_all {
            return Ok(false);
        }
        let ours = self.page.first(at)?;
        let theirs = self.named.front().map(|named| named.document);
        match (theirs, ours) {
            (None, None) => return Ok(false),
            (Some(theirs), Some(ours)) if theirs == ours => {
                self.page.pop();
                self.look(at, true)?;
            }
            (Some(theirs), ours) if ours.is_none_or(|ours| theirs < ours) => self.look(at, false)?,
            (_, Some(ours)) => {
                self.page.pop();
                self.filling = if at.rights.is_held(&ours) { None } else { unnamed(at, ours)? };
            }
            (Some(_), None) => self.look(at, false)?,
        }
        Ok(true)
    }

    /// Looks at the next document that the client named.
    fn look(&mut self, at: &At<'_>, is_listed: bool) -> Result<(), StoreError> {
        let Some(named) = self.named.pop_front() else { return Ok(()) };
        if let Some((left, _)) = self.messages.front_mut() {
            *left = left.saturating_sub(1);
        }
        self.release();
        let DocumentHeads { document, heads } = named;
        if at.rights.is_held(&document) {
            return Ok(());
        }
        if !is_listed && spaces::of(at.tx, &document)? != *at.space {
            // Whether it is elsewhere, the client learns when it pushes it.
            if !heads.is_empty() {
                self.lack(document, Vec::new());
            }
            return Ok(());
        }
        match ledger::compare(at.tx, &document, &heads)? {
            Compared::Same => {}
            Compared::Deleted => self.filling = Some(Filling::deletion(document)),
            Compared::TheyLack => self.filling = fill(at, document, heads)?,
            Compared::WeLack => self.lack(document, ledger::heads(at.tx, &document)?),
            Compared::Both => {
                self.lack(document, ledger::heads(at.tx, &document)?);
                self.filling = fill(at, document, heads)?;
            }
        }
        Ok(())
    }

    fn lack(&mut self, document: DocumentId, heads: Vec<automerge::ChangeHash>) {
        let lacking = DocumentHeads { document, heads };
        self.lacking_bytes += lacking.wire_bytes();
        self.lacking.push(lacking);
    }

    /// Notes the messages of which every document was looked at.
    fn release(&mut self) {
        while let Some((0, bytes)) = self.messages.front() {
            self.done_bytes += bytes;
            self.messages.pop_front();
        }
    }
}

/// Returns how to fill in a document that the client did not name, if there is anything of it.
fn unnamed(at: &At<'_>, document: DocumentId) -> Result<Option<Filling>, StoreError> {
    let state = ledger::state(at.tx, &document)?;
    let Some(state) = state.filter(|state| state.count > 0) else { return Ok(None) };
    Filling::whole(at.tx, document, state.count, at.takes_snapshots).map(Some)
}

/// Returns how to fill in what a client lacks of a document of which it has these heads.
pub(super) fn fill(
    at: &At<'_>,
    document: DocumentId,
    heads: Vec<automerge::ChangeHash>,
) -> Result<Option<Filling>, StoreError> {
    if !heads.is_empty() {
        return Ok(Some(Filling::above(document, heads)));
    }
    if tombstone::is_buried(at.tx, &document)? {
        return Ok(Some(Filling::deletion(document)));
    }
    unnamed(at, document)
}

/// The documents of a space, some at a time.
#[derive(Default)]
pub(super) struct Page {
    documents: VecDeque<DocumentId>,
    after: Option<DocumentId>,
    is_last: bool,
}

impl Page {
    /// Returns the next document without taking it.
    pub(super) fn first(&mut self, at: &At<'_>) -> Result<Option<DocumentId>, StoreError> {
        if self.documents.is_empty() && !self.is_last {
            self.read(at.tx, at.space)?;
        }
        Ok(self.documents.front().copied())
    }

    pub(super) fn pop(&mut self) {
        self.documents.pop_front();
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_last && self.documents.is_empty()
    }

    fn read(&mut self, tx: &dyn crate::store::ReadTx, space: &SpaceId) -> Result<(), StoreError> {
        let documents = &mut self.documents;
        spaces::documents(tx, space, self.after.as_ref(), &mut |document| {
            documents.push_back(document);
            if documents.len() < COMPARE_PAGE_DOCUMENTS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        self.is_last = documents.len() < COMPARE_PAGE_DOCUMENTS;
        self.after = documents.back().copied().or(self.after);
        Ok(())
    }
}
