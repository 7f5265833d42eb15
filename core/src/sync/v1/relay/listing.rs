//! A space of which a client gets lists, and the bodies of the documents that it opens.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::Bytes;

use super::chosen::News;
use super::comparing::{Page, fill};
use super::filling::{Filling, Wrote};
use super::following::{At, Tail, pass_to};
use crate::codec::v1::{DocumentHeads, EntriesBuilder, Listed, ListedState, RelayMessage, WritesBuilder};
use crate::id::DocumentId;
use crate::ledger::log::{self, Entry, What};
use crate::ledger::{self, Compared, spaces, tombstone};
use crate::limits::{BATCH_BYTES, DOCUMENT_LIST_MAX, MISS_TENTHS, MISS_WITH_HEADS_TENTHS};
use crate::store::{ReadTx, StoreError};

/// How it stands with a document that the client opened.
enum Open {
    /// It is not filled in: its place in the queue.
    Waiting(u64),
    /// The client has it up to this position.
    From(u64),
}

/// What a client gets of a space besides the log.
#[derive(Default)]
pub(super) struct Listing {
    /// If nothing is listed: what is new of the documents that are open.
    news: Option<News>,
    /// Whether it is the turn of what is new.
    is_news_next: bool,
    /// The documents that are still to be listed, if all are.
    page: Option<Page>,
    open: BTreeMap<DocumentId, Open>,
    /// What is to be filled in, in the order in which it was opened.
    queue: BTreeMap<u64, DocumentHeads>,
    queued: u64,
    queued_heads: usize,
    /// A document that is being filled in, and its life when that began.
    filling: Option<(DocumentId, u64, Filling)>,
    /// What is filled in and was not said to be.
    opened: Vec<DocumentHeads>,
    opened_bytes: usize,
    /// Up to where all of those are.
    opened_position: u64,
    /// How often a document was opened that is not there, in tenths.
    missed_tenths: u64,
    /// The second of two messages that were made at once.
    next: Option<Bytes>,
}

/// Entries and a list that are made in one pass over the log.
#[derive(Default)]
struct Pass {
    entries: Option<EntriesBuilder>,
    documents: Vec<Listed>,
    bytes: usize,
    named: BTreeSet<DocumentId>,
}

impl Listing {
    /// Lists nothing: the client knows which documents it wants.
    pub(super) fn of_chosen() -> Self {
        Self { news: Some(News::default()), ..Self::default() }
    }

    /// Begins with a list of all documents.
    pub(super) fn of_all() -> Self {
        Self { page: Some(Page::default()), ..Self::default() }
    }

    /// Returns how many documents are open.
    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Returns how many heads of documents wait that are to be filled in.
    pub(super) fn queued_heads(&self) -> usize {
        self.queued_heads
    }

    /// Returns what is new of open documents, where nothing is listed.
    pub(super) fn news(&mut self) -> Option<&mut News> {
        self.news.as_mut()
    }

    /// Says whether nothing is listed.
    pub(super) fn is_chosen(&self) -> bool {
        self.news.is_some()
    }

    /// Returns the documents that are open.
    pub(super) fn documents(&self) -> impl Iterator<Item = &DocumentId> {
        self.open.keys()
    }

    /// Opens documents, or opens them anew. Returns those that were not open.
    pub(super) fn open(&mut self, documents: Vec<DocumentHeads>) -> Vec<DocumentId> {
        let mut fresh = Vec::new();
        for document in documents {
            if !self.close(&document.document) {
                fresh.push(document.document);
            }
            self.open.insert(document.document, Open::Waiting(self.queued));
            self.queued_heads += document.heads.len();
            self.queue.insert(self.queued, document);
            self.queued += 1;
        }
        fresh
    }

    /// Closes a document. Returns whether it was open.
    pub(super) fn close(&mut self, document: &DocumentId) -> bool {
        let Some(open) = self.open.remove(document) else { return false };
        if let Open::Waiting(place) = open
            && let Some(queued) = self.queue.remove(&place)
        {
            self.queued_heads -= queued.heads.len();
        }
        if self.filling.as_ref().is_some_and(|(filling, ..)| filling == document) {
            self.filling = None;
        }
        if let Some(news) = &mut self.news {
            news.close(document);
        }
        true
    }

    /// Says whether there is something to send before the log.
    pub(super) fn has_work(&self) -> bool {
        self.next.is_some()
            || self.is_opening()
            || self.page.is_some()
            || self.news.as_ref().is_some_and(News::has_work)
    }

    fn is_opening(&self) -> bool {
        self.filling.is_some() || !self.queue.is_empty() || !self.opened.is_empty()
    }

    /// Makes a message that comes before the log, if there is one. `position` is said of a list of all.
    pub(super) fn step(&mut self, at: &At<'_>, position: u64) -> Result<Option<Bytes>, StoreError> {
        if let Some(next) = self.next.take() {
            return Ok(Some(next));
        }
        // What happens now does not wait until everything is filled in, nor the other way round.
        self.is_news_next = !self.is_news_next;
        if self.is_news_next
            && let Some(message) = self.tell_news(at)?
        {
            return Ok(Some(message));
        }
        if self.is_opening()
            && let Some(message) = self.fill_in(at)?
        {
            return Ok(Some(message));
        }
        match self.tell_news(at)? {
            Some(message) => Ok(Some(message)),
            None => self.list(at, position),
        }
    }

    fn tell_news(&mut self, at: &At<'_>) -> Result<Option<Bytes>, StoreError> {
        self.news.as_mut().map_or(Ok(None), |news| news.step(at))
    }

    /// Sends what the client lacks of the documents it opened, and then that they are open.
    fn fill_in(&mut self, at: &At<'_>) -> Result<Option<Bytes>, StoreError> {
        let mut message = WritesBuilder::fill(at.space);
        while self.opened_bytes < BATCH_BYTES && self.opened.len() < DOCUMENT_LIST_MAX {
            if let Some((document, life, _)) = &self.filling
                && !at.rights.may_read(document)
            {
                // The right to it was taken away meanwhile.
                let (document, life) = (*document, *life);
                self.filling = None;
                self.note_opened(at, document, life)?;
            } else if let Some((document, life, filling)) = &mut self.filling {
                match filling.write(at.tx, at.space, &mut message)? {
                    Wrote::Full => return Ok(Some(message.finish())),
                    Wrote::Snapshot(message) => return Ok(Some(message)),
                    Wrote::All => {}
                }
                if filling.extend(at.tx)? {
                    let (document, life) = (*document, *life);
                    self.filling = None;
                    self.note_opened(at, document, life)?;
                }
            } else if let Some((_, DocumentHeads { document, heads })) = self.queue.pop_first() {
                self.queued_heads -= heads.len();
                let (life, has_heads) = (log::life(at.tx, &document)?, !heads.is_empty());
                match begin(at, document, heads)? {
                    Some(filling) => self.filling = Some((document, life, filling)),
                    None => {
                        self.note_opened(at, document, life)?;
                        self.note_missed(at, &document, has_heads)?;
                    }
                }
            } else {
                break;
            }
        }
        if message.count() > 0 {
            return Ok(Some(message.finish()));
        }
        if self.opened.is_empty() {
            return Ok(None);
        }
        self.opened_bytes = 0;
        let (space, position) = (*at.space, if at.rights.sees_all() { self.opened_position } else { 0 });
        let mut documents = std::mem::take(&mut self.opened);
        for opened in documents.iter_mut().filter(|opened| !at.rights.may_read(&opened.document)) {
            opened.heads = Vec::new();
        }
        Ok(Some(RelayMessage::Opened { space, position, documents }.encode()))
    }

    /// Notes that the client has all of a document that is here at this moment, if it is still in the life in which it was
    /// begun to be filled in.
    fn note_opened(&mut self, at: &At<'_>, document: DocumentId, life: u64) -> Result<(), StoreError> {
        // Where nothing is listed no position is told, and one is as good as another.
        let is_needed = self.opened.is_empty() || self.news.is_none();
        let position = if is_needed { log::end(at.tx, at.space)? } else { self.opened_position };
        let is_here = at.rights.may_read(&document) && spaces::of(at.tx, &document)? == *at.space;
        let heads = if is_here { ledger::heads(at.tx, &document)? } else { Vec::new() };
        if self.opened.is_empty() {
            self.opened_position = position;
        }
        self.open.insert(document, Open::From(position));
        if let Some(news) = &mut self.news {
            news.open(at, document, life)?;
        }
        let opened = DocumentHeads { document, heads };
        self.opened_bytes += opened.wire_bytes();
        self.opened.push(opened);
        Ok(())
    }

    /// Counts the document that was opened last, if it is not there. One that was deleted everywhere was there.
    fn note_missed(&mut self, at: &At<'_>, document: &DocumentId, has_heads: bool) -> Result<(), StoreError> {
        let is_missed = self.opened.last().is_some_and(|opened| opened.heads.is_empty());
        if is_missed && !tombstone::is_buried(at.tx, document)? {
            self.missed_tenths += if has_heads { MISS_WITH_HEADS_TENTHS } else { MISS_TENTHS };
        }
        Ok(())
    }

    /// Returns how often a document was opened that is not there, in tenths, since it was last asked.
    pub(super) fn take_missed_tenths(&mut self) -> u64 {
        std::mem::take(&mut self.missed_tenths)
    }

    /// Lists some more of all documents.
    fn list(&mut self, at: &At<'_>, position: u64) -> Result<Option<Bytes>, StoreError> {
        let Some(page) = &mut self.page else { return Ok(None) };
        let (mut documents, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES && documents.len() < DOCUMENT_LIST_MAX {
            let Some(document) = page.first(at)? else {
                self.page = None;
                break;
            };
            page.pop();
            if let Some(listed) = listed(at.tx, document)? {
                bytes += listed.wire_bytes();
                documents.push(listed);
            }
        }
        let is_empty = documents.is_empty();
        Ok((!is_empty).then(|| RelayMessage::Listing { space: *at.space, position, documents }.encode()))
    }

    /// Reads the log on: entries of open documents, and a list of all that changed.
    pub(super) fn read(&mut self, at: &At<'_>, tail: &mut Tail) -> Result<Option<Bytes>, StoreError> {
        let (mut pass, mut failed, mut stopped) = (Pass::default(), None, None);
        let read = log::read(at.tx, at.space, tail.next - 1, BATCH_BYTES as u64, &mut |entry| {
            let position = entry.position;
            match self.tell(at, tail, &entry, &mut pass) {
                Ok(true) => return ControlFlow::Continue(()),
                Ok(false) => stopped = Some(position - 1),
                Err(error) => failed = Some(error),
            }
            ControlFlow::Break(())
        })?;
        failed.map_or(Ok(()), Err)?;
        let position = stopped.unwrap_or(read);
        tail.next = tail.next.max(position + 1);
        tail.end = tail.end.max(position);
        let entries = pass.entries.map(EntriesBuilder::finish);
        let list = (!pass.documents.is_empty())
            .then(|| RelayMessage::Listing { space: *at.space, position, documents: pass.documents }.encode());
        Ok(match entries {
            Some(entries) => {
                self.next = list;
                Some(entries)
            }
            None => list,
        })
    }

    /// Takes an entry into what is said next. Returns whether there was room.
    fn tell(&self, at: &At<'_>, tail: &Tail, entry: &Entry<'_>, pass: &mut Pass) -> Result<bool, StoreError> {
        let document = entry.document;
        // Whoever puts it back logs it anew.
        if at.rights.is_held(&document) && !matches!(entry.what, What::Deleted) {
            return Ok(true);
        }
        let is_named = pass.named.contains(&document);
        let listed = if is_named { None } else { listed(at.tx, document)? };
        let bytes = listed.as_ref().map_or(0, Listed::wire_bytes);
        if pass.bytes > 0 && pass.bytes + bytes > BATCH_BYTES {
            return Ok(false);
        }
        if self.is_wanted(&document, entry.position) && !tail.own.contains(entry.position) {
            let tombstone = tombstone::get(at.tx, &document)?;
            let entries = pass.entries.get_or_insert_with(|| EntriesBuilder::new(at.space, entry.position));
            pass_to(entries, entry.position);
            let fits = match (entry.what, tombstone) {
                (What::Change { bytes, .. }, _) => entries.change(&document, bytes),
                (What::Deleted, Some(tombstone)) => entries.deleted(&document, &tombstone),
                _ => true,
            };
            if !fits {
                return Ok(false);
            }
        }
        pass.bytes += bytes;
        pass.named.insert(document);
        pass.documents.extend(listed);
        Ok(true)
    }

    fn is_wanted(&self, document: &DocumentId, position: u64) -> bool {
        matches!(self.open.get(document), Some(Open::From(from)) if position > *from)
    }
}

/// Returns how to fill in a document that was opened, or `None` if the client lacks nothing.
fn begin(at: &At<'_>, document: DocumentId, heads: Vec<automerge::ChangeHash>) -> Result<Option<Filling>, StoreError> {
    if !at.rights.may_read(&document) || spaces::of(at.tx, &document)? != *at.space {
        return Ok(None);
    }
    match ledger::compare(at.tx, &document, &heads)? {
        Compared::Same | Compared::WeLack => Ok(None),
        Compared::Deleted => Ok(Some(Filling::deletion(document))),
        Compared::TheyLack | Compared::Both => fill(at, document, heads),
    }
}

/// Returns what a list says of a document; nothing if it is not here.
fn listed(tx: &dyn ReadTx, document: DocumentId) -> Result<Option<Listed>, StoreError> {
    if let Some(state) = ledger::state(tx, &document)?.filter(|state| state.count > 0) {
        let (changes, bytes) = (state.count, state.bytes);
        return Ok(Some(Listed {
            document,
            state: ListedState::Present { heads: state.head_hashes(), changes, bytes },
        }));
    }
    let tombstone = tombstone::get(tx, &document)?;
    Ok(tombstone.map(|tombstone| Listed { document, state: ListedState::Deleted(tombstone) }))
}
