//! What the relay tells: its entries become deliveries, and applied deliveries become cursors and credit.

use std::collections::{BTreeMap, HashMap, VecDeque};

use automerge::ChangeHash;
use bytes::Bytes;

use super::space::{Answer, Answered};
use super::{Applied, CLOSE_NORMAL, ClientOutput, ClientSession, Delivery};
use crate::codec::v1::{Code, Content, Entry, Listed, Mode, Write};
use crate::deletion::Tombstone;
use crate::gate::CheckedChange;
use crate::id::{DocumentId, SpaceId};
use crate::ledger::cursor::Cursor;
use crate::ledger::{self, Appended, outbox, rejected, spaces};
use crate::store::{ReadTx, StoreError};

/// Deliveries that are not applied yet.
#[derive(Debug, Default)]
pub(super) struct Intake {
    last_id: u64,
    under_way: BTreeMap<u64, UnderWay>,
    /// What waits in each space until its snapshots are taken. The relay's credit bounds it.
    queues: BTreeMap<SpaceId, Queue>,
}

/// What is remembered of a delivery.
#[derive(Debug)]
struct UnderWay {
    space: SpaceId,
    generation: u64,
    cursor: Option<u64>,
    bytes: u64,
    documents: u64,
}

#[derive(Debug, Default)]
struct Queue {
    /// The snapshots that are being taken, and what their messages cost.
    snapshots: BTreeMap<DocumentId, u64>,
    held: VecDeque<ClientOutput>,
}

impl Intake {
    /// Drops what waits in a space; returns how many bytes that gives back.
    fn drop_queue(&mut self, space: &SpaceId) -> u64 {
        let Some(queue) = self.queues.remove(space) else { return 0 };
        let mut bytes: u64 = queue.snapshots.values().sum();
        for output in queue.held {
            if let ClientOutput::Apply(delivery) = output {
                self.under_way.remove(&delivery.id);
                bytes = bytes.saturating_add(delivery.bytes);
            }
        }
        bytes
    }

    /// Tells whether a delivery of a space is under way that moves its cursor. What an older subscription brought moves
    /// none: nothing would be said when it is applied.
    fn moves_cursor(&self, space: &SpaceId, generation: u64) -> bool {
        let moves = |one: &UnderWay| one.space == *space && one.generation == generation && one.cursor.is_some();
        self.under_way.values().any(moves)
    }
}

/// What a message brings, sorted out.
#[derive(Default)]
struct Parcel {
    changes: Vec<(DocumentId, Vec<CheckedChange>)>,
    deletions: Vec<(DocumentId, Tombstone)>,
    own: Vec<(DocumentId, ChangeHash, u64)>,
    places: HashMap<DocumentId, Place>,
}

/// What was looked up of a document for one message.
#[derive(Clone, Copy)]
struct Place {
    /// Whether it is in another space here.
    is_elsewhere: bool,
    /// Whether something of it waits in the outbox, or was refused.
    waits: bool,
    /// Where its changes are in the parcel.
    index: Option<usize>,
}

impl Place {
    fn of(tx: &dyn ReadTx, space: &SpaceId, document: &DocumentId) -> Result<Self, StoreError> {
        let here = spaces::of(tx, document)?;
        let is_elsewhere =
            here != *space && (here != SpaceId::DEFAULT || ledger::state(tx, document)?.is_some_and(|it| it.count > 0));
        let waits = !outbox::pending_after(tx, document, None, 1)?.is_empty() || rejected::any(tx, document)?;
        Ok(Self { is_elsewhere, waits, index: None })
    }
}

impl ClientSession {
    /// Drops what waits in a space that is subscribed to differently from now on.
    pub(super) fn drop_queue(&mut self, space: &SpaceId) {
        self.worked_off = self.worked_off.saturating_add(self.intake.drop_queue(space));
    }

    pub(super) fn handle_subscribed(&mut self, space: SpaceId, answer: Answer) {
        match self.spaces.answer(&space, &answer, &self.epoch()) {
            Answered::Stale => {}
            Answered::Unexpected => self.close_for(Code::Unexpected, "subscribed answers nothing that was asked"),
            Answered::Gap => self.compare_anew(&space),
            Answered::Live => {
                let Answer { access, is_compared, documents, bytes, .. } = answer;
                self.opens.say_again(&space);
                self.outputs.push_back(ClientOutput::Subscribed { space, access, is_compared, documents, bytes });
            }
        }
    }

    /// Subscribes by comparing, because something was left out.
    pub(super) fn compare_anew(&mut self, space: &SpaceId) {
        self.drop_queue(space);
        if self.spaces.compare_anew(space) {
            self.send_subscriptions();
        } else {
            self.close_for(Code::Unexpected, "the relay leaves out positions again and again");
        }
    }

    pub(super) fn handle_entries(
        &mut self,
        space: SpaceId,
        first: u64,
        entries: Vec<Entry>,
        bytes: u64,
        tx: &dyn ReadTx,
    ) -> Result<(), StoreError> {
        let Some(mode) = self.spaces.mode(&space).filter(|_| self.spaces.is_live(&space)) else {
            self.worked_off = self.worked_off.saturating_add(bytes);
            return Ok(());
        };
        let mut parcel = Parcel::default();
        let mut position = first;
        for entry in entries {
            let positions = entry.positions();
            match entry {
                // What was told before is as if it had not come.
                Entry::Write(_) if mode == Mode::Everything && self.spaces.is_told(&space, position) => {}
                Entry::Write(write) => self.sort_out(&mut parcel, &space, write, Some(position), tx)?,
                Entry::Skipped { .. } => {}
            }
            position = position.saturating_add(positions);
        }
        if mode == Mode::Everything && !self.spaces.tell(&space, first, position.saturating_sub(1)) {
            self.worked_off = self.worked_off.saturating_add(bytes);
            self.compare_anew(&space);
            return Ok(());
        }
        let cursor = if mode == Mode::Everything { self.cursor_to_put(&space) } else { None };
        self.deliver(space, parcel, cursor, bytes);
        Ok(())
    }

    pub(super) fn handle_fill(
        &mut self,
        space: SpaceId,
        writes: Vec<Write>,
        bytes: u64,
        tx: &dyn ReadTx,
    ) -> Result<(), StoreError> {
        let mut parcel = Parcel::default();
        if self.spaces.is_live(&space) {
            // Where documents are chosen no entries come, and what the relay tells it has: no later than at its last position.
            let is_chosen = self.spaces.mode(&space) == Some(Mode::Chosen);
            let position = is_chosen.then(|| self.spaces.highest(&space));
            for write in writes {
                self.sort_out(&mut parcel, &space, write, position, tx)?;
            }
            self.deliver(space, parcel, None, bytes);
        } else {
            self.worked_off = self.worked_off.saturating_add(bytes);
        }
        Ok(())
    }

    pub(super) fn handle_snapshot(
        &mut self,
        space: SpaceId,
        document: DocumentId,
        heads: Vec<ChangeHash>,
        chunk: Bytes,
        bytes: u64,
        tx: &dyn ReadTx,
    ) -> Result<(), StoreError> {
        if !self.identity.takes_snapshots {
            self.close_for(Code::Unexpected, "the relay sends a snapshot to one who takes none");
            return Ok(());
        }
        let queue = self.intake.queues.get(&space);
        let is_taken = queue.is_some_and(|queue| queue.snapshots.contains_key(&document));
        let place = Place::of(tx, &space, &document)?;
        if !self.spaces.is_live(&space) || is_taken || place.is_elsewhere {
            self.worked_off = self.worked_off.saturating_add(bytes);
            return Ok(());
        }
        self.intake.queues.entry(space).or_default().snapshots.insert(document, bytes);
        self.outputs.push_back(ClientOutput::Snapshot { space, document, heads, chunk });
        Ok(())
    }

    /// Takes note of what became of a snapshot. What waited for it is delivered.
    ///
    /// One that could not be taken ends the connection: the next is made without snapshots, and gets that history as changes.
    /// Nothing is lost by it, because no cursor has passed what the snapshot holds.
    pub fn handle_snapshot_taken(&mut self, document: DocumentId, is_taken: bool) {
        let holds = |queue: &Queue| queue.snapshots.contains_key(&document);
        let Some(space) = self.intake.queues.iter().find(|(_, queue)| holds(queue)).map(|(space, _)| *space) else {
            return;
        };
        if !is_taken {
            self.is_snapshot_refused = true;
            self.close_silently(CLOSE_NORMAL, "a snapshot could not be taken: connect again without them");
            return;
        }
        let Some(queue) = self.intake.queues.get_mut(&space) else { return };
        let bytes = queue.snapshots.remove(&document).unwrap_or(0);
        if queue.snapshots.is_empty()
            && let Some(queue) = self.intake.queues.remove(&space)
        {
            self.outputs.extend(queue.held);
        }
        self.worked_off = self.worked_off.saturating_add(bytes);
        if let Some(live) = self.spaces.live_mut(&space) {
            live.count(1, bytes);
        }
    }

    pub(super) fn handle_caught_up(
        &mut self,
        space: SpaceId,
        position: u64,
        tx: &dyn ReadTx,
    ) -> Result<(), StoreError> {
        let mode = self.spaces.mode(&space);
        let Some(live) = self.spaces.live_mut(&space) else { return Ok(()) };
        if live.is_compared && !(live.is_compare_sent && live.is_lacking_known) {
            self.close_for(Code::Unexpected, "the relay is caught up before it compared");
            return Ok(());
        }
        if mode != Some(Mode::Everything) {
            live.told = live.told.max(position);
        } else if !self.spaces.tell(&space, position.saturating_add(1), position) {
            self.compare_anew(&space);
            return Ok(());
        }
        if let Some(live) = self.spaces.live_mut(&space) {
            live.is_caught_up = true;
        }
        self.settle_duplicates(&space, tx)?;
        self.move_cursor(&space);
        self.spaces.say_cursor(&space);
        self.emit(&space, ClientOutput::CaughtUp { space });
        Ok(())
    }

    pub(super) fn handle_listing(&mut self, space: SpaceId, position: u64, documents: Vec<Listed>, bytes: u64) {
        self.worked_off = self.worked_off.saturating_add(bytes);
        let mode = self.spaces.mode(&space);
        let Some(live) = self.spaces.live_mut(&space) else { return };
        if mode != Some(Mode::Listing) {
            self.close_for(Code::Unexpected, "the relay lists a space that was not to be listed");
            return;
        }
        // Without a cursor, or behind one that the relay does not know, everything is listed.
        let is_whole = !live.is_listed && !live.is_caught_up && live.put.is_none();
        live.is_listed = true;
        live.count(u64::try_from(documents.len()).unwrap_or(u64::MAX), bytes);
        let is_caught_up = live.is_caught_up;
        if is_caught_up {
            live.told = live.told.max(position);
        }
        self.emit(&space, ClientOutput::Listed { space, documents, is_whole });
        if is_caught_up {
            self.move_cursor(&space);
        }
    }

    /// Takes note of what became of a delivery: credit is given back, and the cursor is said.
    ///
    /// A change that lacks one it stands on is not lost: the space is compared. So what could not be judged yet, because the
    /// document's history is folded, is better offered to the ledger again before this.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub fn handle_applied(&mut self, id: u64, applied: Applied, _tx: &dyn ReadTx) -> Result<(), StoreError> {
        let Some(delivery) = self.intake.under_way.remove(&id) else { return Ok(()) };
        self.worked_off = self.worked_off.saturating_add(delivery.bytes);
        let space = delivery.space;
        let mut lacks = false;
        for (document, results) in applied.results {
            for (change, became) in results {
                match became {
                    Appended::Rejected(error) => {
                        let reason = format!("change {}: {error}", change.hash());
                        self.outputs.push_back(ClientOutput::Refused { space, document, reason });
                    }
                    Appended::Missing { .. } | Appended::Folded => lacks = true,
                    Appended::Stored { .. } | Appended::Duplicate | Appended::Deleted => {}
                }
            }
        }
        if self.spaces.generation(&space) != delivery.generation {
            return Ok(());
        }
        let Some(live) = self.spaces.live_mut(&space) else { return Ok(()) };
        live.count(delivery.documents, delivery.bytes);
        if delivery.cursor.is_some() {
            live.durable = live.durable.max(delivery.cursor);
            self.spaces.say_cursor(&space);
        }
        if lacks {
            self.fetch_lacking(&space);
        } else {
            self.move_cursor(&space);
        }
        Ok(())
    }

    /// Gets what a change stands on and is not here. If it was refused here, comparing does not help: then it stays away.
    fn fetch_lacking(&mut self, space: &SpaceId) {
        let mode = self.spaces.mode(space);
        if self.is_closed() || !self.spaces.compare_anew(space) {
            return;
        }
        self.drop_queue(space);
        if mode != Some(Mode::Everything) {
            self.opens.say_again(space);
        }
        self.send_subscriptions();
    }

    /// Checks one write and puts it into the parcel.
    fn sort_out(
        &mut self,
        parcel: &mut Parcel,
        space: &SpaceId,
        write: Write,
        position: Option<u64>,
        tx: &dyn ReadTx,
    ) -> Result<(), StoreError> {
        let document = write.document;
        let mut place = match parcel.places.get(&document) {
            Some(place) => *place,
            None => Place::of(tx, space, &document)?,
        };
        if place.is_elsewhere {
            if parcel.places.insert(document, place).is_none() {
                self.refuse(space, document, "it is in another space here".to_owned());
            }
            return Ok(());
        }
        match write.content {
            Content::Deleted(tombstone) => parcel.deletions.push((document, tombstone)),
            Content::Change(bytes) | Content::PassedOn(bytes) => match CheckedChange::parse(&bytes) {
                Err(error) => self.refuse(space, document, error.to_string()),
                Ok(change) => {
                    if let Some(position) = position
                        && place.waits
                        && let Some(here) = ledger::position(tx, &document, &change.hash())?
                        && outbox::is_unacknowledged(tx, &document, here)?
                    {
                        parcel.own.push((document, change.hash(), position));
                    }
                    self.pushes.note_arrived(&document);
                    let index = *place.index.get_or_insert(parcel.changes.len());
                    match parcel.changes.get_mut(index) {
                        Some((_, changes)) => changes.push(change),
                        None => parcel.changes.push((document, vec![change])),
                    }
                }
            },
        }
        parcel.places.insert(document, place);
        Ok(())
    }

    fn refuse(&mut self, space: &SpaceId, document: DocumentId, reason: String) {
        self.outputs.push_back(ClientOutput::Refused { space: *space, document, reason });
    }

    /// Returns the cursor that goes with what was told now, if there is one yet.
    fn cursor_to_put(&mut self, space: &SpaceId) -> Option<Cursor> {
        let (epoch, mode) = (self.epoch(), self.spaces.mode(space)?);
        let live = self.spaces.live_mut(space)?;
        let needs_caught_up = live.is_compared || mode == Mode::Listing;
        if !live.has_cursor || (needs_caught_up && !live.is_caught_up) || live.put == Some(live.told) {
            return None;
        }
        live.put = Some(live.told);
        Some(Cursor { epoch, position: live.told })
    }

    /// Moves the cursor where nothing else brings it along: our own pushes were told, or there was nothing to tell.
    pub(super) fn move_cursor(&mut self, space: &SpaceId) {
        if self.intake.moves_cursor(space, self.spaces.generation(space)) {
            return;
        }
        let Some(live) = self.spaces.live(space) else { return };
        // A first cursor says that all was told: not before it was.
        if live.put.is_none() && !live.is_caught_up {
            return;
        }
        if let Some(cursor) = self.cursor_to_put(space) {
            self.deliver(*space, Parcel::default(), Some(cursor), 0);
        }
    }

    fn deliver(&mut self, space: SpaceId, parcel: Parcel, cursor: Option<Cursor>, bytes: u64) {
        let Parcel { changes, deletions, own, .. } = parcel;
        if changes.is_empty() && deletions.is_empty() && cursor.is_none() {
            self.worked_off = self.worked_off.saturating_add(bytes);
            return;
        }
        self.intake.last_id += 1;
        let id = self.intake.last_id;
        let under_way = UnderWay {
            space,
            generation: self.spaces.generation(&space),
            cursor: cursor.map(|cursor| cursor.position),
            bytes,
            documents: u64::try_from(changes.len()).unwrap_or(u64::MAX),
        };
        self.intake.under_way.insert(id, under_way);
        let delivery = Delivery { id, space, changes, deletions, own, cursor, bytes };
        self.emit(&space, ClientOutput::Apply(delivery));
    }

    /// Delivers a document's deletion that the relay answered to a push.
    pub(super) fn deliver_deletion(&mut self, space: SpaceId, document: DocumentId, tombstone: Tombstone) {
        let parcel = Parcel { deletions: vec![(document, tombstone)], ..Parcel::default() };
        self.deliver(space, parcel, None, 0);
    }

    /// Puts something out behind the snapshots of its space that are being taken.
    pub(super) fn emit(&mut self, space: &SpaceId, output: ClientOutput) {
        match self.intake.queues.get_mut(space) {
            Some(queue) => queue.held.push_back(output),
            None => self.outputs.push_back(output),
        }
    }
}
