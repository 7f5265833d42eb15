//! One space that a client follows: what it was told and what comes next.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::chosen::News;
use super::comparing::{self, Comparing};
use super::filling;
use super::listing::Listing;
use super::output::LiveFrames;
use super::own::OwnRanges;
use super::rights::Rights;
use crate::codec::v1::{DocumentHeads, EntriesBuilder, RelayMessage};
use crate::id::{DocumentId, SpaceId};
use crate::ledger::log::{self, Entry, What};
use crate::ledger::snapshot::SnapshotInfo;
use crate::ledger::tombstone;
use crate::limits::{BATCH_BYTES, SNAPSHOTS_UNDER_WAY_MAX};
use crate::store::{ReadTx, StoreError};

/// What a step works with.
pub(super) struct At<'a> {
    pub(super) tx: &'a dyn ReadTx,
    pub(super) live: &'a dyn LiveFrames,
    pub(super) space: &'a SpaceId,
    pub(super) takes_snapshots: bool,
    /// Whether the client has credit.
    pub(super) may_spend: bool,
    /// What the client may read.
    pub(super) rights: Rights<'a>,
}

/// What a step made.
pub(super) enum Step {
    /// A message that costs credit.
    Costs(Bytes),
    /// One that costs none.
    Free(Bytes),
    /// There is something to say, and no credit for it, or not with this transaction.
    Later,
    /// There is nothing to say until something happens.
    Idle,
}

/// What is sent before the log.
pub(super) enum Stage {
    /// Nothing: every entry of the log goes to the client.
    Everything,
    /// Both sides compare, then every entry goes.
    Comparing(Box<Comparing>),
    /// The client gets lists, and entries of the documents it opens.
    Listing(Box<Listing>),
}

/// A space that a client follows.
pub(super) struct Following {
    pub(super) stage: Stage,
    pub(super) tail: Tail,
    /// Where the log ended when the client came: when it was told all up to there, it is caught up.
    target: u64,
    is_caught_up: bool,
    /// It stands in the queue of those with something to say.
    pub(super) is_queued: bool,
    is_hinted: bool,
    /// Bytes of a comparison that is over, for which no credit was given back yet.
    done_bytes: u64,
    /// The last position that the client said it has.
    pub(super) cursor: u64,
}

impl Following {
    /// Begins behind a position. `is_fresh` says that the client has nothing of the space.
    pub(super) fn new(stage: Stage, after: u64, end: u64, is_fresh: bool) -> Self {
        let tail = Tail { next: after + 1, end, own: OwnRanges::default(), snapshots: BTreeMap::new(), is_fresh };
        Self {
            stage,
            tail,
            target: end,
            is_caught_up: false,
            is_queued: false,
            is_hinted: false,
            done_bytes: 0,
            cursor: 0,
        }
    }

    /// Returns what is new of open documents, where nothing is listed.
    pub(super) fn news(&mut self) -> Option<&mut News> {
        match &mut self.stage {
            Stage::Listing(listing) => listing.news(),
            _ => None,
        }
    }

    /// Says whether its log is read.
    pub(super) fn reads_log(&self) -> bool {
        !matches!(&self.stage, Stage::Listing(listing) if listing.is_chosen())
    }

    /// Returns the highest position that the client was told of, or has by its own word.
    pub(super) fn told(&self) -> u64 {
        let told = match &self.stage {
            Stage::Comparing(_) => 0,
            Stage::Listing(_) if !self.is_caught_up => 0,
            Stage::Listing(_) => self.tail.next - 1,
            Stage::Everything => (self.tail.next - 1).max(self.tail.own.highest()),
        };
        told.max(self.cursor)
    }

    /// Learns that the client has credit again.
    pub(super) fn unblock(&mut self) {
        self.is_hinted = false;
    }

    /// Returns how many bytes of `compare` messages were worked off since it was last asked.
    pub(super) fn take_done_bytes(&mut self) -> u64 {
        match &mut self.stage {
            Stage::Comparing(comparing) => comparing.take_done_bytes(),
            _ => std::mem::take(&mut self.done_bytes),
        }
    }

    /// Returns how often documents were opened that are not there, in tenths, since it was last asked.
    pub(super) fn take_missed_tenths(&mut self) -> u64 {
        match &mut self.stage {
            Stage::Listing(listing) => listing.take_missed_tenths(),
            _ => 0,
        }
    }

    /// Returns how many bytes of `compare` messages it holds or has worked off, when it is given up.
    pub(super) fn all_bytes(&self) -> u64 {
        match &self.stage {
            Stage::Comparing(comparing) => comparing.all_bytes(),
            _ => self.done_bytes,
        }
    }

    /// Makes one message.
    pub(super) fn step(&mut self, at: &At<'_>) -> Result<Step, StoreError> {
        if let Stage::Listing(listing) = &mut self.stage
            && listing.is_chosen()
        {
            // The log is none of this reader's business.
            if !self.is_caught_up {
                self.is_caught_up = true;
                let position = self.target;
                return Ok(Step::Free(RelayMessage::CaughtUp { space: *at.space, position }.encode()));
            }
            if !listing.has_work() {
                return Ok(Step::Idle);
            }
            if !at.may_spend {
                return Ok(Step::Later);
            }
            return Ok(listing.step(at, self.target)?.map_or(Step::Idle, Step::Costs));
        }
        if let Stage::Listing(listing) = &mut self.stage
            && listing.has_work()
        {
            if !at.may_spend {
                return Ok(self.hint(at));
            }
            if let Some(message) = listing.step(at, self.target)? {
                return Ok(Step::Costs(message));
            }
        }
        if let Stage::Comparing(comparing) = &mut self.stage {
            if !comparing.has_work() {
                return Ok(Step::Idle);
            }
            if !at.may_spend {
                return Ok(self.hint(at));
            }
            return Ok(match comparing.step(at)? {
                comparing::Step::Message(message) => Step::Costs(message),
                comparing::Step::Last(message) => {
                    self.done_bytes = comparing.all_bytes();
                    self.stage = Stage::Everything;
                    Step::Costs(message)
                }
                comparing::Step::Waits => Step::Idle,
            });
        }
        loop {
            self.tail.pass_own();
            if !self.is_caught_up && self.tail.next > self.target {
                self.is_caught_up = true;
                let position = self.tail.next - 1;
                return Ok(Step::Free(RelayMessage::CaughtUp { space: *at.space, position }.encode()));
            }
            if self.tail.next > self.tail.end {
                return Ok(Step::Idle);
            }
            if !at.may_spend {
                return Ok(self.hint(at));
            }
            let before = self.tail.next;
            let message = match &mut self.stage {
                Stage::Listing(listing) => listing.read(at, &mut self.tail)?,
                _ => self.tail.step(at)?,
            };
            if let Some(message) = message {
                return Ok(Step::Costs(message));
            }
            // What is passed over without a message may have been the rest. Else the transaction is older than the end.
            if self.tail.next == before {
                return Ok(Step::Later);
            }
        }
    }

    /// Says once in a while without credit how far the log is.
    fn hint(&mut self, at: &At<'_>) -> Step {
        if self.is_hinted || self.tail.end == 0 {
            return Step::Later;
        }
        self.is_hinted = true;
        Step::Free(RelayMessage::Hint { space: *at.space, end: self.tail.end }.encode())
    }

    /// Takes in a `compare`; says what is wrong with it.
    pub(super) fn handle_compare(
        &mut self,
        documents: Vec<DocumentHeads>,
        is_last: bool,
        bytes: u64,
    ) -> Result<(), &'static str> {
        match &mut self.stage {
            Stage::Comparing(comparing) => comparing.handle(documents, is_last, bytes),
            _ => Err("a compare where none was asked for: send one only after a subscribed that says compared"),
        }
    }
}

/// A reader of the log.
pub(super) struct Tail {
    /// The position that is told next.
    pub(super) next: u64,
    /// Where the log ends.
    pub(super) end: u64,
    /// What an `ack` told.
    pub(super) own: OwnRanges,
    /// Documents that were sent as a snapshot and whose entries in it are not all passed: by document, the position of
    /// the first entry, and how many changes the snapshot holds.
    snapshots: BTreeMap<DocumentId, (u64, u64)>,
    /// The client had nothing when it began.
    is_fresh: bool,
}

/// What is to be done with an entry.
enum Told {
    /// It was written, or says that it holds nothing.
    Taken,
    /// The message is full.
    Full,
    /// This document goes as a snapshot first.
    Snapshot(DocumentId, SnapshotInfo),
}

impl Tail {
    /// Passes over what an `ack` told.
    pub(super) fn pass_own(&mut self) {
        self.next = self.own.pass(self.next);
    }

    /// Makes the next `entries` message: one that others get too, or one read from the log.
    fn step(&mut self, at: &At<'_>) -> Result<Option<Bytes>, StoreError> {
        let until = self.own.until().min(self.end);
        if self.snapshots.is_empty()
            && let Some(frame) = at.live.frame(at.space, self.next, until)
            && (self.next..=until).contains(&frame.last)
        {
            self.next = frame.last + 1;
            return Ok(Some(frame.bytes));
        }
        self.read(at)
    }

    fn read(&mut self, at: &At<'_>) -> Result<Option<Bytes>, StoreError> {
        let mut entries = EntriesBuilder::new(at.space, self.next);
        let (mut failed, mut stopped) = (None, None);
        let read = log::read(at.tx, at.space, self.next - 1, BATCH_BYTES as u64, &mut |entry| {
            let position = entry.position;
            match self.tell(at, &entry, &mut entries) {
                Ok(Told::Taken) => return ControlFlow::Continue(()),
                Ok(Told::Full) => stopped = Some((position, None)),
                Ok(Told::Snapshot(document, info)) => stopped = Some((position, Some((document, info)))),
                Err(error) => failed = Some(error),
            }
            ControlFlow::Break(())
        })?;
        failed.map_or(Ok(()), Err)?;
        // What was passed over without a word is told to hold nothing.
        pass_to(&mut entries, stopped.as_ref().map_or(read + 1, |(position, _)| *position));
        if let Some((position, Some((document, info)))) = stopped
            && entries.is_empty()
        {
            return self.send_snapshot(at, document, &info, position);
        }
        if entries.is_empty() {
            return Ok(None);
        }
        self.next = entries.next_position();
        self.end = self.end.max(self.next - 1);
        Ok(Some(entries.finish()))
    }

    /// Sends a snapshot in the place of a document's first entries; those are passed over when they come.
    fn send_snapshot(
        &mut self,
        at: &At<'_>,
        document: DocumentId,
        info: &SnapshotInfo,
        position: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        let message = filling::read_snapshot(at.tx, at.space, &document, info, position)?;
        let covered = if message.is_some() { info.count } else { 0 };
        self.snapshots.insert(document, (position, covered));
        match message {
            Some(message) => Ok(Some(message)),
            None => self.read(at),
        }
    }

    fn tell(&mut self, at: &At<'_>, entry: &Entry<'_>, entries: &mut EntriesBuilder) -> Result<Told, StoreError> {
        let document = &entry.document;
        let fits = match entry.what {
            _ if self.own.contains(entry.position) => return Ok(Told::Taken),
            // Whoever puts it back logs it anew.
            What::Change { .. } if at.rights.is_held(document) => return Ok(Told::Taken),
            What::Change { ledger_position, bytes } => {
                if self.is_covered(entry.position, document, ledger_position) {
                    return Ok(Told::Taken);
                }
                if ledger_position == 0
                    && let Some(info) = self.snapshot_of(at, document, entry.position)?
                {
                    return Ok(Told::Snapshot(*document, info));
                }
                pass_to(entries, entry.position);
                entries.change(document, bytes)
            }
            What::Deleted => match tombstone::get(at.tx, document)? {
                Some(tombstone) => {
                    pass_to(entries, entry.position);
                    entries.deleted(document, &tombstone)
                }
                None => true,
            },
            What::Lost => true,
        };
        Ok(if fits { Told::Taken } else { Told::Full })
    }

    /// Says whether a snapshot that was sent holds a change.
    fn is_covered(&mut self, position: u64, document: &DocumentId, ledger_position: u64) -> bool {
        let Some((first, count)) = self.snapshots.get(document).copied() else { return false };
        // A document that was deleted and made again begins anew.
        let is_same = ledger_position > 0 || position == first;
        let is_covered = is_same && ledger_position < count;
        if !is_same || (ledger_position + 1 >= count && ledger_position > 0) {
            self.snapshots.remove(document);
        }
        is_covered
    }

    /// Returns the snapshot to send before a document's first entry, if there is one and it was not tried.
    fn snapshot_of(
        &self,
        at: &At<'_>,
        document: &DocumentId,
        position: u64,
    ) -> Result<Option<SnapshotInfo>, StoreError> {
        let is_possible = self.is_fresh && at.takes_snapshots && self.snapshots.len() < SNAPSHOTS_UNDER_WAY_MAX;
        if !is_possible || self.snapshots.get(document).is_some_and(|(first, _)| *first == position) {
            return Ok(None);
        }
        filling::usable(at.tx, document)
    }
}

/// Says that the positions before this one, from the last that was told, hold nothing.
pub(super) fn pass_to(entries: &mut EntriesBuilder, position: u64) {
    entries.skip(position.saturating_sub(entries.next_position()));
}
