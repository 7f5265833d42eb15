//! Comparing a space by heads, and opening documents of a listing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::Bytes;

use super::{ClientOutput, ClientSession};
use crate::codec::v1::{ClientMessage, Code, DocumentHeads, Mode};
use crate::id::{DocumentId, SpaceId};
use crate::ledger::{self, spaces};
use crate::limits::{BATCH_BYTES, DOCUMENT_HEADS_MAX, DOCUMENT_LIST_MAX};
use crate::store::{ReadTx, StoreError};

/// How many documents are looked at for one message that compares. Each costs a lookup.
const COMPARED_AT_ONCE: usize = 4_096;

/// The documents that are open in spaces that are listed.
#[derive(Debug, Default)]
pub(super) struct Opens {
    open: BTreeMap<SpaceId, BTreeSet<DocumentId>>,
    unsaid: BTreeMap<SpaceId, BTreeSet<DocumentId>>,
    unsaid_closed: BTreeMap<SpaceId, BTreeSet<DocumentId>>,
}

impl Opens {
    /// Opens a document, and tells whether it was not open.
    pub(super) fn open(&mut self, space: SpaceId, document: DocumentId) -> bool {
        let is_new = self.open.entry(space).or_default().insert(document);
        if is_new {
            self.unsaid.entry(space).or_default().insert(document);
        }
        is_new
    }

    pub(super) fn close(&mut self, space: SpaceId, document: DocumentId) {
        let was_open = self.open.get_mut(&space).is_some_and(|open| open.remove(&document));
        let was_unsaid = self.unsaid.get_mut(&space).is_some_and(|unsaid| unsaid.remove(&document));
        if was_open && !was_unsaid {
            self.unsaid_closed.entry(space).or_default().insert(document);
        }
    }

    /// Opens everything again in a subscription that begins.
    pub(super) fn say_again(&mut self, space: &SpaceId) {
        if let Some(open) = self.open.get(space) {
            self.unsaid.insert(*space, open.clone());
        }
        self.unsaid_closed.remove(space);
    }

    /// Closes everything with the subscription.
    pub(super) fn forget_space(&mut self, space: &SpaceId) {
        self.open.remove(space);
        self.unsaid.remove(space);
        self.unsaid_closed.remove(space);
    }

    fn is_open(&self, space: &SpaceId, document: &DocumentId) -> bool {
        self.open.get(space).is_some_and(|open| open.contains(document))
    }

    /// Takes documents of one space that was answered, until told to stop.
    fn take(
        waiting: &mut BTreeMap<SpaceId, BTreeSet<DocumentId>>,
        is_live: impl Fn(&SpaceId) -> bool,
    ) -> Option<(SpaceId, Vec<DocumentId>)> {
        waiting.retain(|_, documents| !documents.is_empty());
        let (space, documents) = waiting.iter_mut().find(|(space, _)| is_live(space))?;
        let some: Vec<DocumentId> = documents.iter().take(COMPARED_AT_ONCE).copied().collect();
        documents.retain(|document| some.last().is_some_and(|last| document > last));
        Some((*space, some))
    }
}

impl ClientSession {
    /// Makes a message that opens or closes documents.
    pub(super) fn next_open(&mut self, tx: &dyn ReadTx) -> Result<Option<Bytes>, StoreError> {
        let lists = |space: &SpaceId| self.spaces.is_live(space) && self.spaces.mode(space) != Some(Mode::Everything);
        if let Some((space, documents)) = Opens::take(&mut self.opens.unsaid_closed, lists) {
            return Ok(Some(ClientMessage::Close { space, documents }.encode()));
        }
        let Some((space, documents)) = Opens::take(&mut self.opens.unsaid, lists) else { return Ok(None) };
        let mut named = Vec::with_capacity(documents.len());
        let mut bytes = 0;
        for document in documents {
            if bytes >= BATCH_BYTES {
                self.opens.unsaid.entry(space).or_default().insert(document);
                continue;
            }
            let one = heads_here(tx, document)?;
            bytes += one.wire_bytes();
            named.push(one);
        }
        Ok(Some(ClientMessage::Open { space, documents: named }.encode()))
    }

    /// Makes the next message that compares: documents rise by their ids, so that the relay can go through its own beside.
    pub(super) fn next_compare(&mut self, tx: &dyn ReadTx) -> Result<Option<Bytes>, StoreError> {
        let Some(space) = self.spaces.comparing() else { return Ok(None) };
        let Some(live) = self.spaces.live_mut(&space) else { return Ok(None) };
        let mut some = Vec::new();
        spaces::documents(tx, &space, live.compared.as_ref(), &mut |document| {
            some.push(document);
            if some.len() < COMPARED_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let mut is_last = some.len() < COMPARED_AT_ONCE;
        let mut documents = Vec::new();
        let mut bytes = 0;
        for document in some {
            if bytes >= BATCH_BYTES || documents.len() >= DOCUMENT_LIST_MAX {
                is_last = false;
                break;
            }
            let one = heads_here(tx, document)?;
            live.compared = Some(document);
            // Of what is only noted, nothing is here.
            if !one.heads.is_empty() {
                bytes += one.wire_bytes();
                documents.push(one);
            }
        }
        live.is_compare_sent = is_last;
        Ok(Some(ClientMessage::Compare { space, documents, is_last }.encode()))
    }

    pub(super) fn handle_lacking(&mut self, space: SpaceId, documents: Vec<DocumentHeads>, is_last: bool, bytes: u64) {
        let Some(live) = self.spaces.live_mut(&space) else {
            self.worked_off = self.worked_off.saturating_add(bytes);
            return;
        };
        let is_expected = live.is_compared && !live.is_lacking_known && (live.is_compare_sent || !is_last);
        if !is_expected {
            self.close_for(Code::Unexpected, "the relay says what it lacks and was not asked");
            return;
        }
        live.is_lacking_known = is_last;
        self.take_offers(documents, bytes);
    }

    pub(super) fn handle_opened(&mut self, space: SpaceId, documents: Vec<DocumentHeads>, bytes: u64) {
        if !self.spaces.is_live(&space) {
            self.worked_off = self.worked_off.saturating_add(bytes);
            return;
        }
        let is_open = |one: &DocumentHeads| self.opens.is_open(&space, &one.document);
        let documents: Vec<DocumentHeads> = documents.into_iter().filter(is_open).collect();
        let opened = documents.iter().map(|one| (one.document, !one.heads.is_empty())).collect();
        self.emit(&space, ClientOutput::Opened { space, documents: opened });
        self.take_offers(documents, bytes);
    }

    /// Pushes what is above these heads; the message's credit comes back when that is done.
    fn take_offers(&mut self, documents: Vec<DocumentHeads>, bytes: u64) {
        let count = documents.len();
        if count == 0 {
            self.worked_off = self.worked_off.saturating_add(bytes);
        }
        for (index, one) in documents.into_iter().enumerate() {
            let bytes = if index + 1 == count { bytes } else { 0 };
            self.pushes.offer(one.document, one.heads, bytes);
        }
    }
}

/// Returns a document and the heads that are here, as many as a message may name.
fn heads_here(tx: &dyn ReadTx, document: DocumentId) -> Result<DocumentHeads, StoreError> {
    let mut heads = ledger::heads(tx, &document)?;
    heads.truncate(DOCUMENT_HEADS_MAX);
    Ok(DocumentHeads { document, heads })
}
