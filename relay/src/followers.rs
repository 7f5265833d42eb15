//! Followers: who follows which space by `rejoin.v1`, and how they learn that something happened there.
//!
//! A follower is told how far a space's log is: one number for each space, however much happened. What it lacks it takes from
//! what is kept of the last commits ([`Live`]), or reads from the log. So a reader that is slow costs a few numbers.
//!
//! Where a client chooses documents it follows those instead, and is told which of them changed: each stands there once, however
//! often it did.
//!
//! Cursors of others are numbers too. Presence frames are bytes that nobody stores; their queue is short and drops the oldest.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rejoin::{DocumentId, SpaceId, StorageId};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::furthest::Furthest;
use crate::hub::{ConnectionId, Hub};
use crate::limits::{NEWS_INTERVAL, PRESENCE_QUEUE_BYTES_MAX, PRESENCE_QUEUE_MAX, SEEN_INTERVAL, SEEN_WAITING_MAX};
use crate::live::{Live, LiveEntry};
use crate::metrics::Backlog;
use crate::pace::{Pace, Told, Whom};

/// Who follows which space.
#[derive(Debug)]
pub(crate) struct Followers {
    spaces: Mutex<HashMap<SpaceId, HashMap<ConnectionId, Arc<Inbox>>>>,
    documents: Mutex<HashMap<DocumentId, HashMap<ConnectionId, Arc<Inbox>>>>,
    /// How many spaces and documents are followed.
    followed: AtomicUsize,
    live: Live,
    furthest: Mutex<Furthest>,
    /// How far devices are that the others were not told of yet, and on which connection they said so.
    unsaid: Mutex<HashMap<(SpaceId, StorageId), (u64, ConnectionId)>>,
    has_unsaid: Notify,
    pace: Pace<Followed>,
}

/// What is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Followed {
    Space(SpaceId),
    Document(DocumentId),
}

/// What waits for one follower.
#[derive(Debug)]
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    notify: Notify,
    backlog: Arc<Backlog>,
}

#[derive(Debug, Default)]
struct Waiting {
    ends: HashMap<SpaceId, u64>,
    changed: HashSet<DocumentId>,
    /// When the oldest commit of what waits above was made.
    since: Option<Instant>,
    seen: HashMap<(SpaceId, StorageId), u64>,
    presence: VecDeque<(SpaceId, Bytes)>,
    presence_bytes: usize,
}

/// What was committed.
#[derive(Debug)]
pub(crate) struct News {
    /// How far the spaces are.
    pub(crate) ends: HashMap<SpaceId, u64>,
    /// Which documents changed.
    pub(crate) changed: HashSet<DocumentId>,
    /// When the oldest of these commits was made.
    pub(crate) since: Option<Instant>,
}

/// A connection's place among the followers. Dropping it ends all following.
#[derive(Debug)]
pub(crate) struct Follower {
    hub: Arc<Hub>,
    id: ConnectionId,
    inbox: Arc<Inbox>,
    spaces: HashSet<SpaceId>,
    documents: HashSet<DocumentId>,
}

impl Default for Followers {
    fn default() -> Self {
        Self {
            spaces: Mutex::default(),
            documents: Mutex::default(),
            followed: AtomicUsize::new(0),
            live: Live::default(),
            furthest: Mutex::default(),
            unsaid: Mutex::default(),
            has_unsaid: Notify::new(),
            pace: Pace::new(NEWS_INTERVAL),
        }
    }
}

impl Followers {
    /// Says whether any space or document is followed. What would be told to nobody need not be made.
    pub(crate) fn are_there(&self) -> bool {
        self.followed.load(Ordering::Relaxed) > 0
    }

    /// Sets how long those who follow wait for news at most, after they were told of some.
    pub(crate) fn set_interval_max(&self, most: Duration) {
        self.pace.set_most(most);
    }

    /// Returns what is kept of the last commits.
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    /// Keeps what a commit brought to a space, if somebody follows it.
    pub(crate) fn keep(&self, space: &SpaceId, entries: Vec<LiveEntry>) {
        // Under the lock, so that nothing is kept of a space that its last follower leaves meanwhile.
        let spaces = self.spaces();
        if spaces.contains_key(space) {
            self.live.keep(space, entries);
        }
    }

    /// Tells everybody who follows a space how far its log is, no more often than [`NEWS_INTERVAL`]
    /// says. Whoever wrote has to be answered before.
    pub(crate) fn publish_end(&self, space: &SpaceId, end: u64) {
        let readers = self.spaces().get(space).map(HashMap::len);
        if let Some(readers) = readers {
            self.pace.tell(Followed::Space(*space), Told::now(end, Whom::All), readers);
        }
    }

    fn tell(&self, of: Followed, told: Told) {
        let inboxes = match of {
            Followed::Space(space) => {
                self.live.end_frame(&space);
                self.of(&space, told.whom)
            }
            Followed::Document(document) => {
                let inboxes = self.of_document(&document, told.whom);
                // For one who does not read along here, nothing need be divided.
                if !(inboxes.is_empty() && matches!(told.whom, Whom::Only(_))) {
                    self.live.end_document_frame(&document);
                }
                inboxes
            }
        };
        for inbox in inboxes {
            inbox.tell(|waiting| {
                waiting.since.get_or_insert(told.since);
                match of {
                    Followed::Space(space) => {
                        let known = waiting.ends.entry(space).or_default();
                        *known = told.end.max(*known);
                    }
                    Followed::Document(document) => drop(waiting.changed.insert(document)),
                }
            });
        }
    }

    /// Tells all that was held back, due or not.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn tell_held(&self) {
        self.pace.end_all().into_iter().for_each(|(of, told)| self.tell(of, told));
    }

    /// Tells what was held back when it is due. Does not end.
    pub(crate) async fn keep_telling(&self) {
        loop {
            let (of, told) = self.pace.due().await;
            self.tell(of, told);
        }
    }

    /// Returns how far the furthest devices have a space, as far as they said.
    pub(crate) fn furthest(&self, space: &SpaceId) -> Vec<(StorageId, u64)> {
        self.furthest.lock().unwrap_or_else(PoisonError::into_inner).of(space)
    }

    /// Tells everybody else who follows a document what a commit brought to it, or that it was deleted, as often as of a space.
    /// Whoever wrote it has it.
    pub(crate) fn publish_document(
        &self,
        space: &SpaceId,
        document: &DocumentId,
        entries: impl FnOnce() -> Vec<LiveEntry>,
        except: ConnectionId,
    ) {
        let readers = {
            let documents = self.documents();
            let Some(followers) = documents.get(document) else { return };
            // Under the lock, so that nothing is kept of a document that its last follower leaves meanwhile.
            self.live.keep_document(space, document, entries());
            if followers.keys().all(|id| *id == except) {
                return;
            }
            followers.len()
        };
        self.pace.tell(Followed::Document(*document), Told::now(0, Whom::AllBut(except)), readers);
    }

    /// Says whether anybody follows a document.
    pub(crate) fn has_document(&self, document: &DocumentId) -> bool {
        self.documents().contains_key(document)
    }

    /// Hands a presence frame that is about one document to everybody else who follows it.
    pub(crate) fn publish_presence_about(
        &self,
        space: &SpaceId,
        document: &DocumentId,
        frame: &Bytes,
        except: Option<ConnectionId>,
    ) {
        for inbox in self.of_document(document, Whom::all_but(except)) {
            inbox.tell(|waiting| waiting.presence(*space, frame.clone()));
        }
    }

    /// Notes how far a device has a space's log. If that is news to any of the others who follow it, they are told with the next
    /// [`Followers::tell_seen`].
    pub(crate) fn note_seen(&self, space: &SpaceId, storage: &StorageId, position: u64, by: ConnectionId) {
        if !self.furthest.lock().unwrap_or_else(PoisonError::into_inner).note(space, storage, position) {
            return;
        }
        let is_full = {
            let mut unsaid = self.unsaid();
            let known = unsaid.entry((*space, *storage)).or_insert((position, by));
            *known = (position.max(known.0), by);
            unsaid.len() >= SEEN_WAITING_MAX
        };
        if is_full {
            self.tell_seen();
        } else {
            self.has_unsaid.notify_one();
        }
    }

    /// Tells everybody else who follows a space how far devices have its log now.
    pub(crate) fn tell_seen(&self) {
        let unsaid = std::mem::take(&mut *self.unsaid());
        for (key, (position, by)) in unsaid {
            // Who is one of the furthest no more is no news either; of a space that was forgotten that is not known.
            let furthest = self.furthest(&key.0);
            if !furthest.is_empty() && !furthest.iter().any(|(storage, _)| *storage == key.1) {
                continue;
            }
            for inbox in self.of(&key.0, Whom::AllBut(by)) {
                inbox.tell(|waiting| {
                    if waiting.seen.len() >= SEEN_WAITING_MAX && !waiting.seen.contains_key(&key) {
                        // The device's next cursor is told again, perhaps to a reader that reads.
                        return;
                    }
                    let known = waiting.seen.entry(key).or_default();
                    *known = position.max(*known);
                });
            }
        }
    }

    /// Tells how far devices are: at once if nothing was told for [`SEEN_INTERVAL`], and otherwise all together then. Does not end.
    pub(crate) async fn keep_telling_seen(&self) {
        loop {
            self.has_unsaid.notified().await;
            self.tell_seen();
            sleep(SEEN_INTERVAL).await;
        }
    }

    /// Hands a presence frame to everybody else who follows the space.
    pub(crate) fn publish_presence(&self, space: &SpaceId, frame: &Bytes, except: Option<ConnectionId>) {
        for inbox in self.of(space, Whom::all_but(except)) {
            inbox.tell(|waiting| waiting.presence(*space, frame.clone()));
        }
    }

    fn of(&self, space: &SpaceId, whom: Whom) -> Vec<Arc<Inbox>> {
        // The inboxes' own locks are taken only after this one is given back.
        self.spaces().get(space).map(|followers| whom.of(followers)).unwrap_or_default()
    }

    fn of_document(&self, document: &DocumentId, whom: Whom) -> Vec<Arc<Inbox>> {
        self.documents().get(document).map(|followers| whom.of(followers)).unwrap_or_default()
    }

    fn unsaid(&self) -> MutexGuard<'_, HashMap<(SpaceId, StorageId), (u64, ConnectionId)>> {
        self.unsaid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn documents(&self) -> MutexGuard<'_, HashMap<DocumentId, HashMap<ConnectionId, Arc<Inbox>>>> {
        // Nothing that runs under the lock panics half-way through a change.
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spaces(&self) -> MutexGuard<'_, HashMap<SpaceId, HashMap<ConnectionId, Arc<Inbox>>>> {
        // Nothing that runs under the lock panics half-way through a change.
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox {
    /// Waits until something is put in.
    pub(crate) async fn notified(&self) {
        self.notify.notified().await;
    }

    /// Takes out how far the spaces are and which documents changed.
    pub(crate) fn take_news(&self) -> News {
        let mut waiting = self.waiting();
        News {
            ends: std::mem::take(&mut waiting.ends),
            changed: std::mem::take(&mut waiting.changed),
            since: waiting.since.take(),
        }
    }

    /// Takes out how far other devices are.
    pub(crate) fn take_seen(&self) -> HashMap<(SpaceId, StorageId), u64> {
        std::mem::take(&mut self.waiting().seen)
    }

    /// Takes out the oldest presence frame.
    pub(crate) fn take_presence(&self) -> Option<(SpaceId, Bytes)> {
        let mut waiting = self.waiting();
        let (space, frame) = waiting.presence.pop_front()?;
        waiting.presence_bytes -= frame.len();
        self.backlog.fewer_bytes(frame.len());
        Some((space, frame))
    }

    fn tell(&self, change: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.waiting();
        let before = waiting.presence_bytes;
        change(&mut waiting);
        self.backlog.more_bytes(waiting.presence_bytes.saturating_sub(before));
        self.backlog.fewer_bytes(before.saturating_sub(waiting.presence_bytes));
        drop(waiting);
        self.notify.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let waiting = self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.backlog.fewer_bytes(waiting.presence_bytes);
    }
}

impl Waiting {
    fn presence(&mut self, space: SpaceId, frame: Bytes) {
        self.presence_bytes += frame.len();
        self.presence.push_back((space, frame));
        while self.presence.len() > PRESENCE_QUEUE_MAX || self.presence_bytes > PRESENCE_QUEUE_BYTES_MAX {
            let Some((_, oldest)) = self.presence.pop_front() else { break };
            self.presence_bytes -= oldest.len();
        }
    }
}

impl Follower {
    /// Takes a connection in. It follows nothing yet.
    pub(crate) fn new(hub: &Arc<Hub>) -> Self {
        let (spaces, documents) = (HashSet::new(), HashSet::new());
        let backlog = Arc::clone(hub.backlog());
        let inbox = Arc::new(Inbox { waiting: Mutex::default(), notify: Notify::new(), backlog });
        Self { hub: Arc::clone(hub), id: hub.next_id(), inbox, spaces, documents }
    }

    /// Returns the connection's name.
    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    /// Returns what waits for the connection.
    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Returns how many spaces and documents it follows.
    pub(crate) fn count(&self) -> usize {
        self.spaces.len() + self.documents.len()
    }

    /// Follows a space from now on. What happened before is not told.
    pub(crate) fn follow(&mut self, space: SpaceId) {
        if self.spaces.insert(space) {
            let followers = self.hub.followers();
            let mut spaces = followers.spaces();
            let followed = spaces.entry(space).or_default();
            followers.followed.fetch_add(usize::from(followed.is_empty()), Ordering::Relaxed);
            followed.insert(self.id, Arc::clone(&self.inbox));
            followers.live.end_frame(&space);
        }
    }

    /// Follows documents from now on. What happened before is not told.
    pub(crate) fn open(&mut self, documents: Vec<DocumentId>) {
        let followers = self.hub.followers();
        for document in documents {
            if self.documents.insert(document) {
                // One lock a document: who opens 100,000 of them holds nobody up.
                let mut all = followers.documents();
                let followed = all.entry(document).or_default();
                followers.followed.fetch_add(usize::from(followed.is_empty()), Ordering::Relaxed);
                followed.insert(self.id, Arc::clone(&self.inbox));
                followers.live.end_document_frame(&document);
            }
        }
    }

    /// Follows documents no more. One of them may still wait as changed.
    pub(crate) fn close(&mut self, documents: &[DocumentId]) {
        for document in documents {
            if self.documents.remove(document) {
                self.leave_document(document);
            }
        }
    }

    fn leave_document(&self, document: &DocumentId) {
        let followers = self.hub.followers();
        let mut documents = followers.documents();
        if let Entry::Occupied(mut followed) = documents.entry(*document) {
            followed.get_mut().remove(&self.id);
            if followed.get().is_empty() {
                followed.remove();
                followers.followed.fetch_sub(1, Ordering::Relaxed);
                followers.live.forget_document(document);
            }
        }
    }

    /// Follows a space no more. Something may still wait that is about it.
    pub(crate) fn unfollow(&mut self, space: &SpaceId) {
        if self.spaces.remove(space) {
            self.leave(space);
        }
    }

    fn leave(&self, space: &SpaceId) {
        let followers = self.hub.followers();
        let mut spaces = followers.spaces();
        if let Entry::Occupied(mut followed) = spaces.entry(*space) {
            followed.get_mut().remove(&self.id);
            if followed.get().is_empty() {
                followed.remove();
                followers.followed.fetch_sub(1, Ordering::Relaxed);
                followers.live.forget(space);
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.spaces.iter().for_each(|space| self.leave(space));
        self.documents.iter().for_each(|document| self.leave_document(document));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: SpaceId = SpaceId::from_bytes([5; 16]);

    fn two() -> (Arc<Hub>, Follower, Follower) {
        let hub = Arc::new(Hub::default());
        let (mut alice, mut bob) = (Follower::new(&hub), Follower::new(&hub));
        alice.follow(SPACE);
        bob.follow(SPACE);
        (hub, alice, bob)
    }

    /// Lets the hub tell for so many tenths of an interval.
    async fn told(hub: &Hub, tenths: u32) {
        let _ = tokio::time::timeout(NEWS_INTERVAL.least * tenths / 10, hub.keep_telling()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn however_much_happens_what_waits_is_a_number() {
        let (hub, alice, bob) = two();
        hub.followers().publish_end(&SPACE, 1);
        told(&hub, 1).await;
        for follower in [&alice, &bob] {
            assert_eq!(follower.inbox().take_news().ends, HashMap::from([(SPACE, 1)]), "the first is told at once");
        }
        for end in 2..=1_000 {
            hub.followers().publish_end(&SPACE, end);
            hub.followers().note_seen(&SPACE, &StorageId::from_bytes([1; 16]), end, alice.id());
        }
        hub.followers().tell_seen();
        hub.followers().publish_end(&SPACE, 999);
        hub.followers().publish_end(&SpaceId::DEFAULT, 7);
        told(&hub, 8).await;
        assert!([&alice, &bob].iter().all(|follower| follower.inbox().take_news().ends.is_empty()));
        told(&hub, 2).await;
        for follower in [&alice, &bob] {
            assert_eq!(follower.inbox().take_news().ends, HashMap::from([(SPACE, 1_000)]));
            assert!(follower.inbox().take_news().ends.is_empty());
        }
        assert!(alice.inbox().take_seen().is_empty());
        assert_eq!(bob.inbox().take_seen().into_values().collect::<Vec<_>>(), [1_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn first_cursor_is_told_at_once_and_what_follows_it_together() {
        let (hub, alice, bob) = two();
        let device = StorageId::from_bytes([1; 16]);
        let telling = hub.followers().keep_telling_seen();
        tokio::pin!(telling);
        let mut told = Vec::new();
        let since = tokio::time::Instant::now();
        for position in 1..=50 {
            hub.followers().note_seen(&SPACE, &device, position, alice.id());
            let _ = tokio::time::timeout(SEEN_INTERVAL / 10, &mut telling).await;
            told.extend(bob.inbox().take_seen().into_values());
        }
        assert_eq!(since.elapsed(), SEEN_INTERVAL * 5);
        assert_eq!(told, [1, 10, 20, 30, 40, 50]);
        let _ = tokio::time::timeout(SEEN_INTERVAL * 10, &mut telling).await;
        assert!(bob.inbox().take_seen().is_empty());
    }

    #[test]
    fn presence_goes_to_the_others_and_the_oldest_is_dropped_for_the_newest() {
        let (hub, alice, bob) = two();
        let frame = Bytes::from(vec![7; PRESENCE_QUEUE_BYTES_MAX / 2]);
        for _ in 0..3 {
            hub.followers().publish_presence(&SPACE, &frame, Some(alice.id()));
        }
        hub.followers().publish_presence(&SPACE, &Bytes::from_static(b"newest"), None);
        assert_eq!(alice.inbox().take_presence(), Some((SPACE, Bytes::from_static(b"newest"))));
        let waiting = std::iter::from_fn(|| bob.inbox().take_presence()).map(|(_, frame)| frame.len());
        assert_eq!(waiting.collect::<Vec<_>>(), [frame.len(), 6]);
        assert_eq!(bob.inbox().waiting().presence_bytes, 0);
    }

    fn numbered(number: usize) -> [u8; 16] {
        let mut bytes = [1; 16];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        bytes
    }

    #[test]
    fn cursors_beyond_the_bound_are_left_out() {
        let (hub, alice, mut bob) = two();
        for number in 0..=SEEN_WAITING_MAX {
            let space = SpaceId::from_bytes(numbered(number));
            bob.follow(space);
            hub.followers().note_seen(&space, &StorageId::from_bytes([1; 16]), 1, alice.id());
        }
        assert_eq!(bob.inbox().take_seen().len(), SEEN_WAITING_MAX, "as many as may wait were told at once");
        hub.followers().tell_seen();
        assert_eq!(bob.inbox().take_seen().len(), 1);
        for number in 0..=SEEN_WAITING_MAX {
            let space = SpaceId::from_bytes(numbered(number));
            hub.followers().note_seen(&space, &StorageId::from_bytes([1; 16]), 2, alice.id());
        }
        hub.followers().tell_seen();
        assert_eq!(bob.inbox().take_seen().len(), SEEN_WAITING_MAX);
    }

    #[test]
    fn of_many_devices_the_two_furthest_are_told() {
        let (hub, alice, bob) = two();
        for number in 1..=100 {
            hub.followers().note_seen(&SPACE, &StorageId::from_bytes(numbered(number)), number as u64, alice.id());
        }
        hub.followers().tell_seen();
        let mut told: Vec<u64> = bob.inbox().take_seen().into_values().collect();
        told.sort_unstable();
        assert_eq!(told, [99, 100]);
    }

    #[tokio::test(start_paused = true)]
    async fn change_of_an_open_document_is_told_once_to_the_others_who_opened_it() {
        let (hub, mut alice, mut bob) = two();
        let [one, other] = [7, 8].map(|number| DocumentId::from_bytes([number; 16]));
        alice.open(vec![one, other]);
        bob.open(vec![one, one]);
        let publish = |document| hub.followers().publish_document(&SPACE, &document, Vec::new, alice.id());
        for tenths in [1, 10] {
            (0..3).for_each(|_| publish(one));
            publish(other);
            told(&hub, tenths).await;
            assert!(alice.inbox().take_news().changed.is_empty());
            assert_eq!(bob.inbox().take_news().changed, HashSet::from([one]));
        }
        hub.followers().publish_presence_about(&SPACE, &other, &Bytes::from_static(b"x"), None);
        assert!(bob.inbox().take_presence().is_none() && alice.inbox().take_presence().is_some());
        bob.close(&[one, other]);
        publish(one);
        told(&hub, 20).await;
        assert!(bob.inbox().take_news().changed.is_empty());
        drop((alice, bob));
        assert!(!hub.followers().are_there() && hub.followers().documents().is_empty());
    }

    #[test]
    fn space_without_followers_leaves_no_trace() {
        let (hub, mut alice, bob) = two();
        assert!(hub.followers().are_there());
        alice.unfollow(&SPACE);
        hub.followers().publish_end(&SPACE, 1);
        assert!(alice.inbox().take_news().ends.is_empty());
        drop(bob);
        assert!(!hub.followers().are_there());
        assert!(hub.followers().spaces().is_empty());
    }
}
