//! What was logged a moment ago, encoded once for all who follow the space.
//!
//! A commit leaves one frame of `entries` for each space that somebody follows, or several if it is long; commits of which nobody
//! was told yet share one. In the same way it leaves `fill` for each document that somebody opened where nothing else is
//! told, by its places in the ledger. Whoever is at the position before it gets those very bytes. Who wrote a part of it, or stopped
//! in the middle, gets a frame of the rest, made when it is asked for: from the changes, which are kept beside the frame.
//!
//! One bound holds for all spaces together. A reader who lacks what has left finds it in the store.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use rejoin::codec::v1::{Content, EntriesBuilder, Write, WritesBuilder};
use rejoin::limits::{BATCH_BYTES, BATCH_ENTRIES_MAX};
use rejoin::sync::v1::{LiveFrame, LiveFrames};
use rejoin::{DocumentId, SpaceId};

use crate::limits::{LIVE_BYTES_MAX, LIVE_ENTRY_BYTES};

/// Something new at one position of a space.
#[derive(Debug, Clone)]
pub(crate) struct LiveEntry {
    pub(crate) position: u64,
    /// Where a change is in its document's ledger; 0 for a deletion.
    pub(crate) ledger_position: u64,
    pub(crate) write: Write,
}

/// Of what entries are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Of {
    /// By their positions in the log.
    Space(SpaceId),
    /// By their positions in the ledger.
    Document(DocumentId),
}

/// The last entries of the spaces that are followed, and of the documents that are.
#[derive(Debug, Default)]
pub(crate) struct Live {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    stretches: HashMap<Of, VecDeque<Arc<Stretch>>>,
    /// Whose newest stretch grows: nobody was told of it yet.
    growing: HashSet<Of>,
    /// Whose stretch is the oldest, the second oldest and so on.
    order: VecDeque<Of>,
    bytes: usize,
}

/// Entries that follow one another and fit a frame.
#[derive(Debug)]
struct Stretch {
    of: Of,
    space: SpaceId,
    first: u64,
    /// One at each position; never empty.
    writes: Vec<Write>,
    /// Bounds what they take in a frame.
    frame_bytes: usize,
    /// How much memory it counts as, with its frame.
    memory_bytes: usize,
    frame: OnceLock<Bytes>,
}

impl Live {
    /// Keeps what a commit brought to a space, in the order of its positions. If a document was deleted, what was kept of its
    /// space goes: nothing of it is to be passed on any more.
    pub(crate) fn keep(&self, space: &SpaceId, entries: Vec<LiveEntry>) {
        let deletes = entries.iter().any(|entry| matches!(entry.write.content, Content::Deleted(_)));
        let of = Of::Space(*space);
        self.keep_of(of, space, entries, deletes);
    }

    /// Keeps what a commit brought to a document. If it was deleted, what was kept of it goes.
    pub(crate) fn keep_document(&self, space: &SpaceId, document: &DocumentId, mut entries: Vec<LiveEntry>) {
        let before = entries.len();
        entries.retain(|entry| matches!(entry.write.content, Content::Change(_)));
        let deletes = entries.len() < before;
        entries.iter_mut().for_each(|entry| entry.position = entry.ledger_position);
        self.keep_of(Of::Document(*document), space, entries, deletes);
    }

    fn keep_of(&self, of: Of, space: &SpaceId, mut entries: Vec<LiveEntry>, deletes: bool) {
        let mut kept = self.kept();
        if deletes {
            kept.forget(&of);
        }
        kept.extend_last(&of, space, &mut entries);
        for stretch in cut(of, space, entries) {
            if stretch.memory_bytes > LIVE_BYTES_MAX / 4 {
                // It would push many others out, for readers who can read it from the store.
                continue;
            }
            kept.bytes += stretch.memory_bytes;
            kept.order.push_back(of);
            kept.stretches.entry(of).or_default().push_back(Arc::new(stretch));
            kept.growing.insert(of);
        }
        while kept.bytes > LIVE_BYTES_MAX && kept.drop_oldest() {}
    }

    /// Ends the newest frame of a space: somebody is told of it, or begins there.
    pub(crate) fn end_frame(&self, space: &SpaceId) {
        self.kept().growing.remove(&Of::Space(*space));
    }

    /// Ends the newest frame of a document.
    pub(crate) fn end_document_frame(&self, document: &DocumentId) {
        self.kept().growing.remove(&Of::Document(*document));
    }

    /// Forgets a space: nobody follows it any more.
    pub(crate) fn forget(&self, space: &SpaceId) {
        self.kept().forget(&Of::Space(*space));
    }

    /// Forgets a document: nobody has it open any more, or it was deleted.
    pub(crate) fn forget_document(&self, document: &DocumentId) {
        self.kept().forget(&Of::Document(*document));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing that runs under the lock panics half-way through a change.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveFrames for Live {
    fn frame(&self, space: &SpaceId, first: u64, until: u64) -> Option<LiveFrame> {
        self.kept().find(&Of::Space(*space), first)?.frame(first, until)
    }

    fn fill(&self, space: &SpaceId, document: &DocumentId, first: u64, until: u64) -> Option<LiveFrame> {
        let stretch = self.kept().find(&Of::Document(*document), first)?;
        (stretch.space == *space).then(|| stretch.frame(first, until)).flatten()
    }
}

impl Kept {
    fn find(&mut self, of: &Of, position: u64) -> Option<Arc<Stretch>> {
        // What follows is in a frame of its own: who has this one asks for that alone, as all the others do.
        self.growing.remove(of);
        let stretches = self.stretches.get(of)?;
        let found = stretches.get(stretches.partition_point(|stretch| stretch.last() < position))?;
        (found.first <= position).then(|| Arc::clone(found))
    }

    /// Adds entries to the newest stretch, as many as it takes: none if somebody was told of it.
    fn extend_last(&mut self, of: &Of, space: &SpaceId, entries: &mut Vec<LiveEntry>) {
        if !self.growing.contains(of) {
            return;
        }
        let last = self.stretches.get_mut(of).and_then(VecDeque::back_mut).and_then(Arc::get_mut);
        let Some(last) = last.filter(|last| last.space == *space) else { return };
        let (before, mut taken) = (last.memory_bytes, 0);
        while let Some(entry) = entries.get(taken).filter(|entry| last.takes(entry)) {
            last.push(entry.write.clone());
            taken += 1;
        }
        self.bytes += last.memory_bytes - before;
        drop(entries.drain(..taken));
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(of) = self.order.pop_front() else { return false };
        if let Some(stretches) = self.stretches.get_mut(&of) {
            self.bytes -= stretches.pop_front().map_or(0, |oldest| oldest.memory_bytes);
            if stretches.is_empty() {
                self.stretches.remove(&of);
                self.growing.remove(&of);
            }
        }
        true
    }

    fn forget(&mut self, of: &Of) {
        self.growing.remove(of);
        if let Some(stretches) = self.stretches.remove(of) {
            self.bytes -= stretches.iter().map(|stretch| stretch.memory_bytes).sum::<usize>();
            self.order.retain(|other| other != of);
        }
    }
}

impl Stretch {
    fn new(of: Of, space: &SpaceId, first: u64) -> Self {
        let (writes, memory_bytes) = (Vec::new(), LIVE_ENTRY_BYTES);
        Self { of, space: *space, first, writes, frame_bytes: 0, memory_bytes, frame: OnceLock::new() }
    }

    fn push(&mut self, write: Write) {
        let bytes = wire_bytes(&write);
        self.frame_bytes += bytes;
        // The change, and its copy in the frame.
        self.memory_bytes += 2 * bytes + LIVE_ENTRY_BYTES;
        self.writes.push(write);
    }

    fn last(&self) -> u64 {
        (self.first + self.writes.len() as u64).saturating_sub(1)
    }

    /// Says whether an entry follows the last one, and a frame of both is not too long.
    fn takes(&self, entry: &LiveEntry) -> bool {
        entry.position == self.first + self.writes.len() as u64
            && self.frame_bytes + wire_bytes(&entry.write) <= BATCH_BYTES
            && self.writes.len() < BATCH_ENTRIES_MAX
    }

    /// Cost: nothing for the whole stretch, once its frame was made; else one copy of its bytes.
    fn frame(&self, first: u64, until: u64) -> Option<LiveFrame> {
        let last = self.last().min(until);
        if last < first {
            return None;
        }
        let is_whole = first == self.first && last == self.last();
        let bytes = if is_whole {
            self.frame.get_or_init(|| self.encode(first, last)).clone()
        } else {
            self.encode(first, last)
        };
        Some(LiveFrame { last, bytes })
    }

    fn encode(&self, first: u64, last: u64) -> Bytes {
        let skipped = usize::try_from(first - self.first).unwrap_or(usize::MAX);
        let count = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
        let writes = self.writes.iter().skip(skipped).take(count);
        match self.of {
            Of::Space(_) => self.encode_entries(first, writes),
            Of::Document(_) => self.encode_fill(writes),
        }
    }

    fn encode_fill<'w>(&self, writes: impl Iterator<Item = &'w Write>) -> Bytes {
        let mut builder = WritesBuilder::fill_with_budget(&self.space, usize::MAX);
        for write in writes {
            let was_taken = match &write.content {
                Content::Change(bytes) | Content::PassedOn(bytes) => builder.change(&write.document, bytes),
                Content::Deleted(tombstone) => builder.deleted(&write.document, tombstone),
            };
            debug_assert!(was_taken, "a stretch fits a frame");
        }
        builder.finish()
    }

    fn encode_entries<'w>(&self, first: u64, writes: impl Iterator<Item = &'w Write>) -> Bytes {
        let mut builder = EntriesBuilder::with_budget(&self.space, first, usize::MAX);
        for write in writes {
            let was_taken = match &write.content {
                Content::Change(bytes) | Content::PassedOn(bytes) => builder.change(&write.document, bytes),
                Content::Deleted(tombstone) => builder.deleted(&write.document, tombstone),
            };
            debug_assert!(was_taken, "a stretch fits a frame");
        }
        builder.finish()
    }
}

/// Cuts entries into stretches that fit a frame each.
fn cut(of: Of, space: &SpaceId, entries: Vec<LiveEntry>) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for entry in entries {
        if stretches.last().is_none_or(|stretch| !stretch.takes(&entry)) {
            stretches.push(Stretch::new(of, space, entry.position));
        }
        if let Some(stretch) = stretches.last_mut() {
            stretch.push(entry.write);
        }
    }
    stretches
}

/// Bounds what a write takes in a frame.
fn wire_bytes(write: &Write) -> usize {
    let own = match &write.content {
        Content::Change(bytes) | Content::PassedOn(bytes) => bytes.len(),
        Content::Deleted(tombstone) => tombstone.by.len(),
    };
    own + 48
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use rejoin::codec::v1::{Entry, RelayMessage};
    use rejoin::deletion::{DeletionKind, Tombstone};

    use super::*;

    const SPACE: SpaceId = SpaceId::from_bytes([5; 16]);

    fn entry(position: u64, bytes: usize) -> LiveEntry {
        let content = Content::Change(vec![u8::try_from(position % 251).unwrap(); bytes].into());
        let document = DocumentId::from_bytes([7; 16]);
        LiveEntry { position, ledger_position: position + 100, write: Write { document, content } }
    }

    fn entries(positions: std::ops::RangeInclusive<u64>) -> Vec<LiveEntry> {
        positions.map(|position| entry(position, 10)).collect()
    }

    /// Reads a frame: its first and last position.
    fn read(frame: &Bytes) -> (u64, u64) {
        let RelayMessage::Entries { space, first, entries } = RelayMessage::decode(frame).unwrap() else { panic!() };
        assert_eq!(space, SPACE);
        for (position, entry) in (first..).zip(&entries) {
            let Entry::Write(Write { content: Content::Change(bytes), .. }) = entry else { continue };
            assert_eq!(u64::from(bytes[0]), position % 251);
        }
        (first, first + entries.iter().map(Entry::positions).sum::<u64>() - 1)
    }

    fn asked(live: &Live, first: u64, until: u64) -> Option<(u64, u64)> {
        let frame = live.frame(&SPACE, first, until)?;
        let found = read(&frame.bytes);
        assert_eq!(found, (first, frame.last));
        Some(found)
    }

    #[test]
    fn commit_is_one_frame_whose_bytes_all_readers_share() {
        let live = Live::default();
        live.keep(&SPACE, entries(11..=15));
        assert_eq!(asked(&live, 11, 17), Some((11, 15)));
        live.keep(&SPACE, entries(16..=17));
        assert_eq!(asked(&live, 11, 17), Some((11, 15)), "its frame is made");
        assert_eq!(asked(&live, 16, 17), Some((16, 17)));
        let [one, other] = [15, 99].map(|until| live.frame(&SPACE, 11, until).unwrap().bytes);
        assert_eq!(one.as_ptr(), other.as_ptr());
        assert_eq!((asked(&live, 10, 17), asked(&live, 18, 20)), (None, None));
        assert!(live.frame(&SpaceId::DEFAULT, 11, 15).is_none());
    }

    #[test]
    fn commits_of_which_nobody_was_told_share_one() {
        let live = Live::default();
        (0..4).for_each(|commit| live.keep(&SPACE, entries(commit * 5 + 1..=commit * 5 + 5)));
        let before = live.kept().bytes;
        assert_eq!((asked(&live, 1, 12), asked(&live, 1, 20)), (Some((1, 12)), Some((1, 20))));
        live.keep(&SPACE, entries(21..=22));
        live.end_frame(&SPACE);
        live.keep(&SPACE, entries(23..=23));
        // One after a gap stands alone, and so does what has no room.
        live.keep(&SPACE, entries(25..=25));
        live.keep(&SPACE, vec![entry(26, BATCH_BYTES)]);
        assert_eq!([1, 21, 23, 25, 26].map(|first| asked(&live, first, 99).unwrap().1), [20, 22, 23, 25, 26]);
        let kept = live.kept();
        assert_eq!((kept.order.len(), kept.stretches[&Of::Space(SPACE)].len(), kept.growing.len()), (5, 5, 0));
        let bytes = kept.stretches.values().flatten().map(|stretch| stretch.memory_bytes).sum::<usize>();
        assert!(kept.bytes == bytes && bytes > before);
    }

    #[test]
    fn readers_that_have_a_part_of_a_frame_share_the_next() {
        let live = Live::default();
        live.keep(&SPACE, entries(1..=5));
        assert_eq!(asked(&live, 5, 5), Some((5, 5)));
        live.keep(&SPACE, entries(6..=6));
        let [one, other] = [6, 99].map(|until| live.frame(&SPACE, 6, until).unwrap().bytes);
        assert_eq!(one.as_ptr(), other.as_ptr());
    }

    #[test]
    fn what_a_reader_wrote_itself_can_be_left_out() {
        let live = Live::default();
        live.keep(&SPACE, entries(1..=9));
        assert_eq!(asked(&live, 1, 3), Some((1, 3)));
        assert_eq!(asked(&live, 6, 20), Some((6, 9)));
        assert_eq!(asked(&live, 6, 5), None);
    }

    #[test]
    fn long_commit_and_one_with_a_gap_are_several_frames() {
        let live = Live::default();
        let long = (1..=5).map(|position| entry(position, BATCH_BYTES / 2 - 100));
        live.keep(&SPACE, long.chain([entry(6, BATCH_BYTES * 2), entry(9, 10)]).collect());
        assert_eq!(asked(&live, 1, 9), Some((1, 2)));
        assert_eq!(asked(&live, 5, 9), Some((5, 5)));
        assert_eq!(asked(&live, 6, 9), Some((6, 6)));
        assert_eq!((asked(&live, 7, 9), asked(&live, 9, 9)), (None, Some((9, 9))));
    }

    #[test]
    fn deletion_and_the_last_followers_leaving_take_what_was_kept() {
        let live = Live::default();
        live.keep(&SPACE, entries(1..=5));
        let tombstone = Tombstone { kind: DeletionKind::Purged, time_seconds: 1, by: "alice".to_owned() };
        let write = Write { document: DocumentId::from_bytes([7; 16]), content: Content::Deleted(tombstone) };
        live.keep(&SPACE, vec![LiveEntry { position: 6, ledger_position: 0, write }]);
        assert_eq!((asked(&live, 1, 6), asked(&live, 6, 6)), (None, Some((6, 6))));
        live.forget(&SPACE);
        let kept = live.kept();
        assert_eq!((kept.bytes, kept.order.len(), kept.stretches.len()), (0, 0, 0));
    }

    #[test]
    fn commit_to_an_open_document_is_one_fill_by_its_places_in_the_ledger() {
        let live = Live::default();
        let document = DocumentId::from_bytes([7; 16]);
        live.keep_document(&SPACE, &document, entries(11..=15));
        let asked = |first, until| {
            let frame = live.fill(&SPACE, &document, first, until)?;
            let RelayMessage::Fill { space: SPACE, writes } = RelayMessage::decode(&frame.bytes).unwrap() else {
                panic!()
            };
            assert_eq!(writes.len() as u64, frame.last + 1 - first);
            Some((frame.last, frame.bytes.as_ptr()))
        };
        assert_eq!(asked(111, 115), asked(111, 999));
        assert_eq!((asked(111, 999).unwrap().0, asked(113, 114).unwrap().0), (115, 114));
        assert_eq!((asked(110, 115), asked(116, 120), asked(11, 15)), (None, None, None));
        assert!(live.fill(&SpaceId::DEFAULT, &document, 111, 115).is_none());
        live.forget_document(&document);
        assert_eq!(asked(111, 115), None);
        let kept = live.kept();
        assert_eq!((kept.bytes, kept.order.len()), (0, 0));
    }

    #[test]
    fn memory_stays_within_its_bound_and_the_newest_stay() {
        let live = Live::default();
        let count = 4 * LIVE_BYTES_MAX as u64 / 100_000;
        (1..=count).for_each(|position| live.keep(&SPACE, vec![entry(position, 50_000)]));
        assert_eq!((asked(&live, 1, count), asked(&live, count, count)), (None, Some((count, count))));
        assert!(live.kept().bytes <= LIVE_BYTES_MAX);
    }
}
