//! What waits here becomes batches.
//!
//! A document's writes are pushed in the order of their positions, so one number says up to where that was done. What a
//! relay is known to lack beyond the outbox is an *offer*: it takes everything above the heads that the relay showed.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use automerge::ChangeHash;
use bytes::Bytes;

use super::ClientSession;
use crate::codec::v1::{Code, Limits, Reject, WritesBuilder};
use crate::deletion::DeletionKind;
use crate::id::{DocumentId, SpaceId};
use crate::ledger::{self, outbox, spaces, tombstone};
use crate::limits::{BATCH_BYTES, BATCH_ENTRIES_MAX, OUTBOX_DOCUMENTS_AT_ONCE, PUSHES_MAX};
use crate::store::{ReadTx, StoreError};

/// How many positions of one document are looked up at a time.
const POSITIONS_AT_ONCE: usize = 1_024;

/// What a push takes beside its changes, at most.
const ENVELOPE_BYTES: usize = 96;

/// What waits, what is under way, and what became of it on this connection.
#[derive(Debug, Default)]
pub(super) struct Pushes {
    walk: Walk,
    /// Documents with something new, not looked at yet.
    fresh: VecDeque<DocumentId>,
    /// Documents with an offer, not looked at yet.
    offered: VecDeque<DocumentId>,
    deleted: VecDeque<DocumentId>,
    /// Documents that stand in `fresh` or in a space's `changed`.
    queued: HashSet<DocumentId>,
    queues: BTreeMap<SpaceId, Queue>,
    /// The space that had its turn last.
    turn: Option<SpaceId>,
    pub(super) documents: HashMap<DocumentId, Document>,
    pub(super) batches: BTreeMap<u64, Batch>,
    pub(super) last_batch: u64,
    /// Documents with changes that the relay takes of nobody but their actor's owner: what waits of them waits for the owner.
    pub(super) owned: HashSet<DocumentId>,
    /// What the relay had before, until it is known where.
    pub(super) duplicates: BTreeMap<SpaceId, Vec<(DocumentId, ChangeHash)>>,
    /// What the relay's messages that were worked off here cost.
    worked_off: u64,
}

/// How far the outbox was searched, which happens once.
#[derive(Debug, Default)]
enum Walk {
    #[default]
    Waiting,
    Begun,
    After(Option<DocumentId>),
    Done,
}

/// What of one space waits for a batch.
#[derive(Debug, Default)]
struct Queue {
    deleted: VecDeque<DocumentId>,
    offered: VecDeque<DocumentId>,
    changed: VecDeque<DocumentId>,
}

/// One document that something was pushed of, or is to be.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// Everything of the outbox up to here was pushed.
    pushed: Option<u64>,
    /// What waits for its answer, and where it was.
    in_flight: BTreeMap<u64, ChangeHash>,
    /// Nothing more is pushed until the application says so.
    pub(super) is_held: bool,
    /// The first change that was refused for a reason of its own.
    pub(super) refused: Option<ChangeHash>,
    /// The last batch before everything was offered, because the relay lacked what nobody knew it lacked.
    pub(super) healed: Option<u64>,
    /// From which position on something may be missing there that was not taken, or not pushed meanwhile.
    missed: Option<u64>,
    offer: Option<Offer>,
    /// What was here before more came from elsewhere, while an offer was on its way.
    next: Option<Vec<ChangeHash>>,
}

/// What the relay lacks.
#[derive(Debug)]
struct Offer {
    above: Above,
    /// The credit that comes back when this is pushed.
    bytes: u64,
    /// The positions to push, once they were looked up.
    positions: Option<VecDeque<u64>>,
}

/// Where what the relay lacks begins.
#[derive(Debug)]
enum Above {
    /// It has what these heads have.
    Heads(Vec<ChangeHash>),
    /// It has everything before this position.
    Position(u64),
}

impl Offer {
    fn above(heads: Vec<ChangeHash>) -> Self {
        Self { above: Above::Heads(heads), bytes: 0, positions: None }
    }
}

/// A push that waits for its answer.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) space: SpaceId,
    pub(super) writes: Vec<Sent>,
}

/// One write of it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sent {
    Change { document: DocumentId, position: u64, hash: ChangeHash },
    Deletion { document: DocumentId, kind: DeletionKind },
}

/// What became of putting a document into a batch.
enum Put {
    /// All that it has is in.
    All,
    /// The batch is full.
    Full,
}

/// A batch that is being made.
struct Draft {
    builder: WritesBuilder,
    writes: Vec<Sent>,
    limits: Limits,
    /// Changes that are longer than this relay takes.
    too_long: Vec<(DocumentId, u64, ChangeHash)>,
}

impl Draft {
    /// Adds a change, and tells whether there was room.
    fn change(
        &mut self,
        tx: &dyn ReadTx,
        (document, position): (DocumentId, u64),
        whose: Whose,
    ) -> Result<Added, StoreError> {
        if self.is_full() {
            return Ok(Added::Full);
        }
        let bytes = ledger::change(tx, &document, position)?;
        let hash = ledger::node(tx, &document, position)?.hash;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let room = self.limits.frame_bytes.saturating_sub(u64::try_from(ENVELOPE_BYTES).unwrap_or(0));
        if length > self.limits.change_bytes.min(room) {
            self.too_long.push((document, position, hash));
            return Ok(Added::TooLong);
        }
        let was_taken = match whose {
            Whose::Ours => self.builder.change(&document, &bytes),
            Whose::Others => self.builder.passed_on(&document, &bytes),
        };
        if !was_taken {
            return Ok(Added::Full);
        }
        self.writes.push(Sent::Change { document, position, hash });
        Ok(Added::Taken(hash))
    }

    fn is_full(&self) -> bool {
        let most = usize::try_from(self.limits.batch_entries).unwrap_or(usize::MAX).min(BATCH_ENTRIES_MAX - 3);
        self.writes.len() >= most
    }
}

/// Who wrote a change, as far as the relay is to know: whose its actor is there.
#[derive(Clone, Copy)]
enum Whose {
    Ours,
    Others,
}

#[derive(PartialEq, Eq)]
enum Added {
    Taken(ChangeHash),
    Full,
    TooLong,
}

impl Pushes {
    /// The relay answered: what waits from before is looked for.
    pub(super) fn begin(&mut self) {
        self.walk = Walk::Begun;
    }

    pub(super) fn batches_in_flight(&self) -> usize {
        self.batches.len()
    }

    pub(super) fn changed(&mut self, document: DocumentId) {
        if self.queued.insert(document) {
            self.fresh.push_back(document);
        }
        if self.documents.get(&document).is_some_and(|known| known.offer.is_some()) {
            self.offered.push_back(document);
        }
    }

    pub(super) fn deleted(&mut self, document: DocumentId) {
        self.deleted.push_back(document);
    }

    /// Pushes what is above these heads, after what is under way of the document. The relay showed them: it knows better than
    /// what was to be offered before.
    pub(super) fn offer(&mut self, document: DocumentId, heads: Vec<ChangeHash>, bytes: u64) {
        let known = self.documents.entry(document).or_default();
        let before = known.offer.take();
        let bytes = before.map_or(0, |before| before.bytes).saturating_add(bytes);
        known.offer = Some(Offer { bytes, ..Offer::above(heads) });
        known.next = None;
        self.offered.push_back(document);
    }

    /// Pushes what came from elsewhere to these heads. An offer that waits takes it along; one on its way is followed by another.
    pub(super) fn pass_on(&mut self, document: DocumentId, before: Vec<ChangeHash>) {
        let known = self.documents.entry(document).or_default();
        match &known.offer {
            None => known.offer = Some(Offer::above(before)),
            Some(Offer { positions: Some(_), .. }) => drop(known.next.get_or_insert(before)),
            Some(_) => {}
        }
        self.offered.push_back(document);
    }

    pub(super) fn hold(&mut self, document: DocumentId, refused: Option<ChangeHash>) {
        let known = self.documents.entry(document).or_default();
        known.is_held = true;
        known.refused = known.refused.or(refused);
    }

    /// Takes note that the relay did not take what is at a position.
    pub(super) fn missed(&mut self, document: DocumentId, position: u64) {
        let known = self.documents.entry(document).or_default();
        known.missed = Some(known.missed.map_or(position, |before| before.min(position)));
    }

    pub(super) fn retry(&mut self, document: DocumentId) {
        if let Some(known) = self.documents.get_mut(&document) {
            (known.is_held, known.refused, known.healed, known.pushed) = (false, None, None, None);
        }
        self.changed(document);
    }

    /// Pushes again as [`Pushes::retry`] does, and what waits in the outbox no more because another relay took it.
    pub(super) fn resume(&mut self, document: DocumentId) {
        let known = self.documents.entry(document).or_default();
        if let Some(missed) = known.missed.take() {
            let (mut first, mut bytes) = (missed, 0);
            if let Some(before) = known.offer.take() {
                bytes = before.bytes;
                let left = before.positions.and_then(|positions| positions.front().copied());
                match before.above {
                    Above::Heads(heads) if left.is_none() => drop(known.next.get_or_insert(heads)),
                    Above::Heads(_) => first = left.map_or(missed, |left| left.min(missed)),
                    Above::Position(position) => first = left.unwrap_or(position).min(missed),
                }
            }
            known.offer = Some(Offer { above: Above::Position(first), bytes, positions: None });
            self.offered.push_back(document);
        }
        self.retry(document);
    }

    /// Takes note that the relay takes a change from its actor's owner alone, who is somebody else.
    pub(super) fn wait_for_owner(&mut self, document: DocumentId, hash: ChangeHash) {
        let known = self.documents.entry(document).or_default();
        known.refused = known.refused.or(Some(hash));
        self.owned.insert(document);
    }

    /// Takes note that changes of a document came: they may be what others brought of what it waits for.
    pub(super) fn note_arrived(&mut self, document: &DocumentId) {
        if !self.owned.is_empty() && self.owned.remove(document) {
            self.resume(*document);
        }
    }

    /// Takes note that a write was answered.
    pub(super) fn answered(&mut self, document: DocumentId, position: u64, hash: &ChangeHash) {
        let Some(known) = self.documents.get_mut(&document) else { return };
        if known.in_flight.get(&position) == Some(hash) {
            known.in_flight.remove(&position);
        }
        if known.in_flight.is_empty() && known.offer.is_some() {
            self.offered.push_back(document);
        }
    }

    /// Returns the credit that comes back.
    pub(super) fn take_worked_off(&mut self) -> u64 {
        std::mem::take(&mut self.worked_off)
    }

    /// Sorts what is new by its spaces.
    fn sort(&mut self, tx: &dyn ReadTx) -> Result<(), StoreError> {
        while let Some(document) = self.deleted.pop_front() {
            self.queue(tx, &document)?.deleted.push_back(document);
        }
        while let Some(document) = self.offered.pop_front() {
            self.queue(tx, &document)?.offered.push_back(document);
        }
        for _ in 0..OUTBOX_DOCUMENTS_AT_ONCE {
            let Some(document) = self.fresh.pop_front() else { break };
            self.queue(tx, &document)?.changed.push_back(document);
        }
        Ok(())
    }

    fn queue(&mut self, tx: &dyn ReadTx, document: &DocumentId) -> Result<&mut Queue, StoreError> {
        Ok(self.queues.entry(spaces::of(tx, document)?).or_default())
    }

    /// Searches the next part of the outbox.
    fn search(&mut self, tx: &dyn ReadTx) -> Result<(), StoreError> {
        let Walk::After(after) = &self.walk else { return Ok(()) };
        let documents = outbox::documents(tx, after.as_ref(), OUTBOX_DOCUMENTS_AT_ONCE)?;
        self.walk = match documents.last() {
            Some(last) if documents.len() == OUTBOX_DOCUMENTS_AT_ONCE => Walk::After(Some(*last)),
            _ => Walk::Done,
        };
        documents.into_iter().for_each(|document| self.changed(document));
        Ok(())
    }

    /// Chooses the space whose turn it is, of those with something to push.
    fn choose(&mut self, may_push: impl Fn(&SpaceId) -> bool) -> Option<SpaceId> {
        self.queues
            .retain(|_, queue| !(queue.deleted.is_empty() && queue.offered.is_empty() && queue.changed.is_empty()));
        let has_work = |(space, queue): &(&SpaceId, &Queue)| {
            !queue.deleted.is_empty() || !queue.offered.is_empty() || may_push(space)
        };
        let later = self.queues.iter().filter(has_work).find(|(space, _)| self.turn.is_none_or(|turn| **space > turn));
        let chosen = later.or_else(|| self.queues.iter().find(has_work)).map(|(space, _)| *space);
        self.turn = chosen;
        chosen
    }

    /// Fills a batch with what waits in a space.
    fn fill(&mut self, draft: &mut Draft, space: &SpaceId, may_push: bool, tx: &dyn ReadTx) -> Result<(), StoreError> {
        let Some(mut queue) = self.queues.remove(space) else { return Ok(()) };
        let filled = self.fill_from(&mut queue, draft, may_push, tx);
        self.queues.insert(*space, queue);
        filled
    }

    fn fill_from(
        &mut self,
        queue: &mut Queue,
        draft: &mut Draft,
        may_push: bool,
        tx: &dyn ReadTx,
    ) -> Result<(), StoreError> {
        while let Some(document) = queue.deleted.front().copied() {
            if let Some(tombstone) = tombstone::get(tx, &document)? {
                if draft.is_full() || !draft.builder.deleted(&document, &tombstone) {
                    return Ok(());
                }
                draft.writes.push(Sent::Deletion { document, kind: tombstone.kind });
            }
            queue.deleted.pop_front();
        }
        while let Some(document) = queue.offered.front().copied() {
            match self.put_offer(document, draft, tx) {
                Ok(Put::All) => {}
                Ok(Put::Full) => return Ok(()),
                // It is kept until the document is unfolded; the relay need not wait for its credit.
                Err(StoreError::Folded) => {
                    let offer = self.documents.get_mut(&document).and_then(|known| known.offer.as_mut());
                    let bytes = offer.map_or(0, |offer| std::mem::take(&mut offer.bytes));
                    self.worked_off = self.worked_off.saturating_add(bytes);
                }
                Err(error) => return Err(error),
            }
            queue.offered.pop_front();
        }
        while may_push && let Some(document) = queue.changed.front().copied() {
            match self.put_waiting(document, draft, tx) {
                // A document that is not unfolded yet waits until it is said to have changed.
                Ok(Put::All) | Err(StoreError::Folded) => {}
                Ok(Put::Full) => return Ok(()),
                Err(error) => return Err(error),
            }
            self.queued.remove(&document);
            queue.changed.pop_front();
        }
        Ok(())
    }

    /// Puts what the relay lacks of a document into a batch.
    fn put_offer(&mut self, document: DocumentId, draft: &mut Draft, tx: &dyn ReadTx) -> Result<Put, StoreError> {
        let Some(known) = self.documents.get_mut(&document) else { return Ok(Put::All) };
        let Some(offer) = &mut known.offer else { return Ok(Put::All) };
        if known.is_held {
            // What it would have pushed is pushed when the document is held no more.
            let lacking = match &offer.above {
                Above::Heads(heads) => lacking(tx, &document, heads)?.front().copied(),
                Above::Position(position) => Some(*position),
            };
            known.missed = known.missed.into_iter().chain(lacking).min();
        } else {
            if offer.positions.is_none() && !known.in_flight.is_empty() {
                // Its answer may change what is to be pushed. It brings the document back here.
                return Ok(Put::All);
            }
            // The document may have been deleted since.
            let count = ledger::state(tx, &document)?.map_or(0, |state| state.count);
            let found = match (offer.positions.take(), &offer.above) {
                (Some(positions), _) if positions.back().is_none_or(|last| *last < count) => positions,
                (_, Above::Position(position)) => (*position..count).collect(),
                (_, Above::Heads(heads)) => lacking(tx, &document, heads)?,
            };
            let positions = offer.positions.insert(found);
            while let Some(position) = positions.front().copied() {
                // What another relay took is passed on, even if it is ours: nobody owns its actor by that.
                let is_ours = outbox::is_unacknowledged(tx, &document, position)?;
                let whose = if is_ours { Whose::Ours } else { Whose::Others };
                match draft.change(tx, (document, position), whose)? {
                    Added::Full => return Ok(Put::Full),
                    Added::TooLong => {
                        known.is_held = true;
                        break;
                    }
                    Added::Taken(hash) => {
                        known.in_flight.insert(position, hash);
                        known.pushed = known.pushed.max(Some(position));
                        positions.pop_front();
                    }
                }
            }
        }
        self.worked_off = self.worked_off.saturating_add(offer.bytes);
        known.offer = known.next.take().map(Offer::above);
        if known.offer.is_some() {
            self.offered.push_back(document);
        }
        // What was written since then waits in the outbox.
        self.changed(document);
        Ok(Put::All)
    }

    /// Puts what waits in a document's outbox into a batch.
    fn put_waiting(&mut self, document: DocumentId, draft: &mut Draft, tx: &dyn ReadTx) -> Result<Put, StoreError> {
        loop {
            let known = self.documents.get(&document);
            if known.is_some_and(|known| known.is_held || known.offer.is_some()) {
                return Ok(Put::All);
            }
            let after = known.and_then(|known| known.pushed);
            let positions = outbox::pending_after(tx, &document, after, POSITIONS_AT_ONCE)?;
            let Some(last) = positions.last().copied() else {
                let count = ledger::state(tx, &document)?.map_or(0, |state| state.count);
                match self.documents.get_mut(&document) {
                    // It was deleted here and fetched anew: its positions begin again.
                    Some(known) if known.pushed.is_some_and(|pushed| pushed >= count) => {
                        (known.pushed, known.missed) = (None, None);
                    }
                    _ => return Ok(Put::All),
                }
                if count == 0 {
                    return Ok(Put::All);
                }
                continue;
            };
            let known = self.documents.entry(document).or_default();
            for position in positions {
                // Where something is under way there may be something else by now.
                let is_under_way = match known.in_flight.get(&position) {
                    Some(hash) => ledger::node(tx, &document, position)?.hash == *hash,
                    None => false,
                };
                if !is_under_way {
                    match draft.change(tx, (document, position), Whose::Ours)? {
                        Added::Full => return Ok(Put::Full),
                        Added::TooLong => {
                            known.is_held = true;
                            return Ok(Put::All);
                        }
                        Added::Taken(hash) => {
                            known.in_flight.insert(position, hash);
                        }
                    }
                }
                known.pushed = Some(position);
            }
            known.pushed = known.pushed.max(Some(last));
        }
    }
}

impl ClientSession {
    /// Makes the next push, if something waits and not too much is under way.
    pub(super) fn next_push(&mut self, limits: &Limits, tx: &dyn ReadTx) -> Result<Option<Bytes>, StoreError> {
        if self.pushes.batches.len() >= PUSHES_MAX {
            return Ok(None);
        }
        let epoch = self.epoch();
        if matches!(self.pushes.walk, Walk::Begun) {
            let relay = self.relay().map(|(relay, _)| relay);
            self.pushes.deleted.extend(tombstone::untold(tx, relay.as_ref())?);
            self.pushes.walk = Walk::After(None);
        }
        loop {
            if self.pushes.queued.len() < OUTBOX_DOCUMENTS_AT_ONCE {
                self.pushes.search(tx)?;
            }
            self.pushes.sort(tx)?;
            let Some(space) = self.pushes.choose(|space| self.spaces.may_push(space, &epoch)) else {
                if self.pushes.fresh.is_empty() && self.is_search_over() {
                    return Ok(None);
                }
                continue;
            };
            let number = self.pushes.last_batch + 1;
            let budget = usize::try_from(limits.frame_bytes).unwrap_or(usize::MAX).min(BATCH_BYTES);
            let mut draft = Draft {
                builder: WritesBuilder::push_with_budget(number, &space, budget),
                writes: Vec::new(),
                limits: *limits,
                too_long: Vec::new(),
            };
            let may_push = self.spaces.may_push(&space, &epoch);
            self.pushes.fill(&mut draft, &space, may_push, tx)?;
            self.worked_off = self.worked_off.saturating_add(self.pushes.take_worked_off());
            for (document, position, hash) in std::mem::take(&mut draft.too_long) {
                self.report_rejected(space, document, position, hash, Reject::new(Code::ChangeLimit), None);
            }
            if !draft.writes.is_empty() {
                self.pushes.last_batch = number;
                self.pushes.batches.insert(number, Batch { space, writes: draft.writes });
                return Ok(Some(draft.builder.finish()));
            }
        }
    }

    /// Tells whether there is nothing more to search for now: what waits for a comparison must not be piled up.
    fn is_search_over(&self) -> bool {
        matches!(self.pushes.walk, Walk::Done) || self.pushes.queued.len() >= OUTBOX_DOCUMENTS_AT_ONCE
    }
}

/// Returns the positions of all changes above these heads, and of what waits in the outbox: of that the relay is to say
/// itself that it has it.
fn lacking(tx: &dyn ReadTx, document: &DocumentId, heads: &[ChangeHash]) -> Result<VecDeque<u64>, StoreError> {
    let Some(state) = ledger::state(tx, document)? else { return Ok(VecDeque::new()) };
    let mut positions = ledger::missing(tx, document, &state, heads)?;
    positions.extend(outbox::pending(tx, document)?);
    positions.sort_unstable();
    positions.dedup();
    Ok(positions.into())
}
