//! What is known of the spaces of one connection: their subscriptions, and up to where their logs were told.

use std::collections::{BTreeMap, BTreeSet};

use super::Progress;
use super::ranges::Ranges;
use crate::codec::v1::{Access, Mode, Start, Subscription};
use crate::id::{DocumentId, Epoch, SpaceId};
use crate::limits::{COMPARED_ANEW_MAX, SUBSCRIPTIONS_MAX, V1_NUMBER_MAX};

/// What `subscribed` says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) access: Access,
    pub(super) is_compared: bool,
    pub(super) after: u64,
    pub(super) end: u64,
    pub(super) documents: u64,
    pub(super) bytes: u64,
}

/// What to do about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// The subscription stands.
    Live,
    /// It answers what was asked before, or nobody wants the space any more.
    Stale,
    /// Entries would be left out: subscribe by comparing.
    Gap,
    /// The relay answers what was not asked.
    Unexpected,
}

/// A subscription that was answered.
#[derive(Debug)]
pub(super) struct Live {
    /// Whether the two sides compare, or compared.
    pub(super) is_compared: bool,
    /// Whether all that we have was named.
    pub(super) is_compare_sent: bool,
    /// The last document that was named.
    pub(super) compared: Option<DocumentId>,
    /// Whether the relay has said all that it lacks.
    pub(super) is_lacking_known: bool,
    /// Whether the relay has told all that was there.
    pub(super) is_caught_up: bool,
    /// Whether there is a cursor to move: not where documents are chosen one by one.
    pub(super) has_cursor: bool,
    /// Whether a part of the listing came before.
    pub(super) is_listed: bool,
    /// Everything up to here was told.
    pub(super) told: u64,
    /// Up to where a cursor was given out to be stored; `None` if none is stored.
    pub(super) put: Option<u64>,
    /// Up to where it is stored.
    pub(super) durable: Option<u64>,
    /// What the relay was heard to have.
    end: u64,
    progress: Progress,
}

#[derive(Debug)]
struct Space {
    mode: Mode,
    start: Start,
    /// Whether it is subscribed to, or only waits for answers that belong to the past.
    is_wanted: bool,
    is_said: bool,
    /// How many answers are still to come. All but the last belong to the past.
    awaited: u32,
    /// Changes with each subscription, so that what belongs to an older one is known.
    generation: u64,
    compared_anew: u32,
    /// The last position that was said as our cursor.
    said: Option<u64>,
    live: Option<Live>,
}

/// All spaces of a connection.
#[derive(Debug, Default)]
pub(super) struct Spaces {
    spaces: BTreeMap<SpaceId, Space>,
    /// The positions of our own pushes that are ahead of what was told. They may come before a subscription does.
    acked: BTreeMap<SpaceId, Ranges>,
    /// Whose cursors are to be said.
    due: BTreeSet<SpaceId>,
    generations: u64,
}

impl Live {
    fn new(answer: &Answer, start: &Start) -> Self {
        let stored = match start {
            Start::Cursor { .. } if !answer.is_compared => Some(answer.after),
            _ => None,
        };
        let progress = Progress { documents_total: answer.documents, bytes_total: answer.bytes, ..Progress::default() };
        Self {
            is_compared: answer.is_compared,
            is_compare_sent: !answer.is_compared,
            compared: None,
            is_lacking_known: !answer.is_compared,
            is_caught_up: false,
            has_cursor: true,
            is_listed: false,
            told: answer.after,
            put: stored,
            durable: stored,
            end: answer.end,
            progress,
        }
    }

    /// Counts what was applied.
    pub(super) fn count(&mut self, documents: u64, bytes: u64) {
        self.progress.bytes_done = self.progress.bytes_done.saturating_add(bytes);
        self.progress.documents_done = self.progress.documents_done.saturating_add(documents);
    }

    fn progress(&self) -> Progress {
        let mut progress = self.progress;
        let is_durable = !self.has_cursor || self.durable.is_some_and(|durable| durable >= self.told);
        progress.is_caught_up = self.is_caught_up && is_durable;
        if progress.is_caught_up {
            progress.documents_done = progress.documents_total;
            progress.bytes_done = progress.bytes_total;
        } else {
            progress.documents_done = progress.documents_done.min(progress.documents_total);
            progress.bytes_done = progress.bytes_done.min(progress.bytes_total);
        }
        progress
    }
}

impl Spaces {
    /// Wants a space, in the place of how it was wanted before.
    pub(super) fn want(&mut self, space: SpaceId, mode: Mode, start: Start) {
        self.generations += 1;
        let fresh = Space {
            mode,
            start,
            is_wanted: true,
            is_said: false,
            awaited: 0,
            generation: self.generations,
            compared_anew: 0,
            said: None,
            live: None,
        };
        let entry = self.spaces.entry(space).or_insert(fresh);
        (entry.mode, entry.start, entry.generation) = (mode, start, self.generations);
        (entry.is_wanted, entry.is_said, entry.live) = (true, false, None);
        self.due.remove(&space);
    }

    /// Wants a space by comparing, because something of it is lacking. Returns `false` if that was done too often.
    pub(super) fn compare_anew(&mut self, space: &SpaceId) -> bool {
        let Some(entry) = self.spaces.get_mut(space).filter(|entry| entry.is_wanted) else { return true };
        if entry.compared_anew >= COMPARED_ANEW_MAX {
            return false;
        }
        entry.compared_anew += 1;
        let mode = entry.mode;
        self.want(*space, mode, Start::Compare);
        true
    }

    /// Leaves a space, and tells whether the relay has to hear of it.
    pub(super) fn leave(&mut self, space: &SpaceId) -> bool {
        self.due.remove(space);
        let Some(entry) = self.spaces.get_mut(space) else { return false };
        let was_said = entry.is_said && entry.is_wanted;
        (entry.is_wanted, entry.live) = (false, None);
        if entry.awaited == 0 {
            self.spaces.remove(space);
        }
        was_said
    }

    /// Returns the subscriptions to be said now, in as many messages as they take.
    pub(super) fn take_unsaid(&mut self) -> Vec<Vec<Subscription>> {
        let mut unsaid = Vec::new();
        for (space, entry) in self.spaces.iter_mut().filter(|(_, entry)| entry.is_wanted && !entry.is_said) {
            entry.is_said = true;
            entry.awaited += 1;
            unsaid.push(Subscription { space: *space, mode: entry.mode, start: entry.start });
        }
        unsaid.chunks(SUBSCRIPTIONS_MAX).map(<[Subscription]>::to_vec).collect()
    }

    /// Takes the answer to a subscription.
    pub(super) fn answer(&mut self, space: &SpaceId, answer: &Answer, epoch: &Epoch) -> Answered {
        let Some(entry) = self.spaces.get_mut(space) else { return Answered::Stale };
        if entry.awaited == 0 {
            return Answered::Unexpected;
        }
        entry.awaited -= 1;
        if entry.awaited > 0 {
            return Answered::Stale;
        }
        if !entry.is_wanted {
            self.spaces.remove(space);
            return Answered::Stale;
        }
        let judged = match (entry.mode, entry.start) {
            (Mode::Listing | Mode::Chosen, _) if answer.is_compared => Answered::Unexpected,
            (Mode::Listing | Mode::Chosen, _) => Answered::Live,
            (Mode::Everything, _) if answer.is_compared => Answered::Live,
            (Mode::Everything, Start::Compare) => Answered::Unexpected,
            (Mode::Everything, Start::Cursor { epoch: of, .. }) if of != *epoch => Answered::Unexpected,
            (Mode::Everything, Start::Cursor { position, .. }) if answer.after > position => Answered::Gap,
            (Mode::Everything, Start::Beginning) if answer.after > 0 => Answered::Gap,
            (Mode::Everything, _) => Answered::Live,
        };
        if judged == Answered::Live {
            let mut live = Live::new(answer, &entry.start);
            live.has_cursor = entry.mode != Mode::Chosen;
            entry.live = Some(live);
            self.advance(space);
        }
        judged
    }

    /// Takes note that the relay does not give a space, and tells whether it is wanted.
    pub(super) fn deny(&mut self, space: &SpaceId) -> bool {
        let Some(entry) = self.spaces.get_mut(space) else { return false };
        entry.awaited = entry.awaited.saturating_sub(1);
        if entry.awaited > 0 {
            return false;
        }
        let was_wanted = entry.is_wanted;
        self.spaces.remove(space);
        self.due.remove(space);
        was_wanted
    }

    /// Takes note of positions that an answer to a push told.
    pub(super) fn acked(&mut self, space: &SpaceId, first: u64, last: u64) {
        self.acked.entry(*space).or_default().insert(first, last);
        self.advance(space);
    }

    /// Tells whether a position was told before.
    pub(super) fn is_told(&self, space: &SpaceId, position: u64) -> bool {
        let told = self.live(space).map_or(0, |live| live.told);
        position <= told || self.acked.get(space).is_some_and(|acked| acked.contains(position))
    }

    /// Takes note that positions were told, and tells whether none was left out before them.
    pub(super) fn tell(&mut self, space: &SpaceId, first: u64, last: u64) -> bool {
        self.advance(space);
        let Some(live) = self.live_mut(space) else { return true };
        if first > live.told.saturating_add(1) {
            return false;
        }
        live.told = live.told.max(last);
        live.end = live.end.max(last);
        self.advance(space);
        true
    }

    fn advance(&mut self, space: &SpaceId) {
        let Some(entry) = self.spaces.get_mut(space) else { return };
        if let (Some(live), Mode::Everything, Some(acked)) = (&mut entry.live, entry.mode, self.acked.get_mut(space)) {
            live.told = acked.advance(live.told);
        }
    }

    /// Returns a position that nothing stored until now is above, as far as was heard.
    pub(super) fn highest(&self, space: &SpaceId) -> u64 {
        let acked = self.acked.get(space).map_or(0, Ranges::greatest);
        // Where nothing is known of a log, or not all, nobody must seem to have passed a position of it.
        let live = self.live(space).filter(|live| live.has_cursor);
        live.map_or(V1_NUMBER_MAX, |live| live.told.max(live.end).max(acked))
    }

    /// Takes note of how far a log is.
    pub(super) fn hint(&mut self, space: &SpaceId, end: u64) {
        if let Some(live) = self.live_mut(space) {
            live.end = live.end.max(end);
        }
    }

    /// Tells whether writes of a space may be pushed: not before it is known what the relay has, where that is in doubt.
    pub(super) fn may_push(&self, space: &SpaceId, epoch: &Epoch) -> bool {
        let Some(entry) = self.spaces.get(space).filter(|entry| entry.is_wanted) else { return true };
        match (&entry.live, entry.mode, entry.start) {
            (Some(live), _, _) => live.is_lacking_known,
            (None, Mode::Everything, Start::Compare) => false,
            (None, Mode::Everything, Start::Cursor { epoch: of, .. }) => of == *epoch,
            (None, _, _) => true,
        }
    }

    pub(super) fn live(&self, space: &SpaceId) -> Option<&Live> {
        self.spaces.get(space).and_then(|entry| entry.live.as_ref())
    }

    pub(super) fn live_mut(&mut self, space: &SpaceId) -> Option<&mut Live> {
        self.spaces.get_mut(space).and_then(|entry| entry.live.as_mut())
    }

    pub(super) fn is_live(&self, space: &SpaceId) -> bool {
        self.live(space).is_some()
    }

    /// Tells whether a space is subscribed to, answered or not.
    pub(super) fn is_wanted(&self, space: &SpaceId) -> bool {
        self.spaces.get(space).is_some_and(|entry| entry.is_wanted)
    }

    /// Tells whether an answer to a subscription is still to come.
    pub(super) fn is_awaited(&self, space: &SpaceId) -> bool {
        self.spaces.get(space).is_some_and(|entry| entry.awaited > 0)
    }

    pub(super) fn mode(&self, space: &SpaceId) -> Option<Mode> {
        self.spaces.get(space).map(|entry| entry.mode)
    }

    pub(super) fn generation(&self, space: &SpaceId) -> u64 {
        self.spaces.get(space).map_or(0, |entry| entry.generation)
    }

    /// Returns a live space that has not named all that it has yet.
    pub(super) fn comparing(&self) -> Option<SpaceId> {
        let comparing = |entry: &Space| entry.live.as_ref().is_some_and(|live| !live.is_compare_sent);
        self.spaces.iter().find(|(_, entry)| comparing(entry)).map(|(space, _)| *space)
    }

    /// Wants the cursor of a space to be said.
    pub(super) fn say_cursor(&mut self, space: &SpaceId) {
        self.due.insert(*space);
    }

    /// Takes the next cursor to be said: one that is above the last.
    pub(super) fn next_cursor(&mut self) -> Option<(SpaceId, u64)> {
        while let Some(space) = self.due.pop_first() {
            let Some(entry) = self.spaces.get_mut(&space) else { continue };
            let Some(durable) = entry.live.as_ref().and_then(|live| live.durable) else { continue };
            if Some(durable) > entry.said {
                entry.said = Some(durable);
                return Some((space, durable));
            }
        }
        None
    }

    pub(super) fn progress(&self) -> Progress {
        let mut all = Progress { is_caught_up: true, ..Progress::default() };
        for entry in self.spaces.values().filter(|entry| entry.is_wanted) {
            let Some(live) = &entry.live else {
                all.is_caught_up = false;
                continue;
            };
            let one = live.progress();
            all.documents_done = all.documents_done.saturating_add(one.documents_done);
            all.documents_total = all.documents_total.saturating_add(one.documents_total);
            all.bytes_done = all.bytes_done.saturating_add(one.bytes_done);
            all.bytes_total = all.bytes_total.saturating_add(one.bytes_total);
            all.is_caught_up = all.is_caught_up && one.is_caught_up;
        }
        all
    }
}
