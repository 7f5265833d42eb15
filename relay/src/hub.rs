//! The hub: who takes part in which document, and how the others learn that something happened.
//!
//! What it passes on about changes are hints, never bytes: a set of documents for each connection, in which a document
//! stands once however often it changed. A connection that is slow to look finds the newest state in the store. So a
//! connection's memory is bounded by the documents it takes part in.
//!
//! Ephemeral messages are bytes that nobody stores. Their queue is short and drops the oldest: a cursor's last position
//! is worth more than where it was before.
//!
//! A document that nobody takes part in leaves no trace here.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rejoin::limits::EPHEMERAL_SESSIONS_MAX;
use rejoin::sync::Recent;
use rejoin::{DocumentId, PeerId, SpaceId};
use tokio::sync::Notify;

use crate::followers::Followers;
use crate::limits::{CLASSIC_NEWS_INTERVAL, EPHEMERAL_AUTHORS_MAX, EPHEMERAL_QUEUE_BYTES_MAX, EPHEMERAL_QUEUE_MAX};
use crate::metrics::Backlog;
use crate::pace::{Pace, Told, Whom};
use crate::recent::RecentCommits;

/// Names a connection for as long as the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionId(u64);

impl ConnectionId {
    /// Returns the number that an operator sees.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// An ephemeral message on its way to the others.
#[derive(Debug)]
pub(crate) struct Ephemeral {
    pub(crate) document: DocumentId,
    pub(crate) sender: PeerId,
    pub(crate) session_id: String,
    pub(crate) count: u64,
    pub(crate) data: Bytes,
}

/// Who takes part in which document.
#[derive(Debug)]
pub(crate) struct Hub {
    topics: Mutex<Topics>,
    /// Keys the hashes by which authors of ephemeral messages are remembered: nobody outside can make two collide.
    key: RandomState,
    connections: AtomicU64,
    /// What was committed a moment ago.
    recent: RecentCommits,
    /// Who follows whole spaces.
    followers: Followers,
    /// How often those who take part in a document are told of it.
    pace: Pace<DocumentId>,
    /// Counts what waits for connections.
    backlog: Arc<Backlog>,
}

/// The documents that somebody takes part in.
#[derive(Debug, Default)]
struct Topics {
    by_document: HashMap<DocumentId, Topic>,
    /// In which documents authors were heard for the first time, the oldest first.
    heard: VecDeque<DocumentId>,
}

/// One document that somebody takes part in.
#[derive(Debug, Default)]
struct Topic {
    members: HashMap<ConnectionId, Arc<Mailbox>>,
    /// The last count of each author and session, both in one hash: 16 bytes instead of two texts from a stranger.
    counts: HashMap<u64, u64>,
    /// The same keys, oldest first.
    order: VecDeque<u64>,
}

/// What waits for one connection.
#[derive(Debug)]
pub(crate) struct Mailbox {
    waiting: Mutex<Waiting>,
    notify: Notify,
    backlog: Arc<Backlog>,
}

#[derive(Debug, Default)]
struct Waiting {
    changed: HashSet<DocumentId>,
    /// When the oldest of them was committed.
    since: Option<Instant>,
    ephemeral: VecDeque<Arc<Ephemeral>>,
    ephemeral_bytes: usize,
}

/// A connection's place in the hub. Dropping it ends every participation.
#[derive(Debug)]
pub(crate) struct Member {
    hub: Arc<Hub>,
    id: ConnectionId,
    mailbox: Arc<Mailbox>,
    documents: HashSet<DocumentId>,
}

#[cfg(any(test, feature = "testing"))]
impl Default for Hub {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Hub {
    /// Makes a hub that nobody takes part in, and that counts what waits there.
    pub(crate) fn new(backlog: Arc<Backlog>) -> Self {
        Self {
            topics: Mutex::default(),
            key: RandomState::new(),
            connections: AtomicU64::new(0),
            recent: RecentCommits::default(),
            followers: Followers::default(),
            pace: Pace::new(CLASSIC_NEWS_INTERVAL),
            backlog,
        }
    }

    /// Sets how long those who read along wait for news at most, after they were told of some.
    pub(crate) fn set_news_interval_max(&self, most: Duration) {
        self.followers.set_interval_max(most);
        self.pace.set_most(most);
    }

    /// Returns what counts what waits for connections.
    pub(crate) fn backlog(&self) -> &Arc<Backlog> {
        &self.backlog
    }

    /// Takes a new connection in. It takes part in nothing yet.
    pub(crate) fn enter(self: &Arc<Self>) -> Member {
        let backlog = Arc::clone(&self.backlog);
        let mailbox = Arc::new(Mailbox { waiting: Mutex::default(), notify: Notify::new(), backlog });
        Member { hub: Arc::clone(self), id: self.next_id(), mailbox, documents: HashSet::new() }
    }

    /// Names a connection.
    pub(crate) fn next_id(&self) -> ConnectionId {
        ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Returns who follows which space.
    pub(crate) fn followers(&self) -> &Followers {
        &self.followers
    }

    /// Returns the last commits.
    pub(crate) fn recent(&self) -> &RecentCommits {
        &self.recent
    }

    /// Has everybody who takes part in a document told that it changed, except the connection that changed it, no more often than
    /// [`CLASSIC_NEWS_INTERVAL`] says. What the commit brought is kept for them.
    pub(crate) fn publish(&self, document: DocumentId, except: ConnectionId, recent: Recent) {
        let members = self.topics().by_document.get(&document).map_or(0, |topic| topic.readers(except));
        if members > 0 {
            self.recent.keep(document, recent);
            self.pace.tell(document, Told::now(0, Whom::AllBut(except)), members);
        }
    }

    fn tell(&self, document: DocumentId, told: Told) {
        for mailbox in self.others(&document, told.whom) {
            mailbox.changed(document, told.since);
        }
    }

    /// Tells all that is to be told, due or not: where no time passes.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn tell_held(&self) {
        self.pace.end_all().into_iter().for_each(|(document, told)| self.tell(document, told));
        self.followers.tell_held();
    }

    /// Tells what is to be told when it is due, to those who take part in documents and to those who follow spaces. Does not end.
    pub(crate) async fn keep_telling(&self) {
        let documents = async {
            loop {
                let (document, told) = self.pace.due().await;
                self.tell(document, told);
            }
        };
        tokio::join!(documents, self.followers.keep_telling(), self.followers.keep_telling_seen());
    }

    /// Tells everybody else that a document was deleted; of its last commits nothing is kept.
    pub(crate) fn publish_deleted(&self, document: DocumentId, except: ConnectionId) {
        self.recent.forget(&document);
        // Whoever is told of the deletion need not be told of what came before.
        self.pace.withdraw(&document);
        let now = Instant::now();
        for mailbox in self.others(&document, Whom::AllBut(except)) {
            mailbox.changed(document, now);
        }
    }

    /// Forgets the last commits of a document that was put aside, and of its space.
    pub(crate) fn forget(&self, space: &SpaceId, document: &DocumentId) {
        self.recent.forget(document);
        self.followers.live().forget_document(document);
        self.followers.live().forget(space);
    }

    /// Tells everybody who takes part in a document or follows its space that it is there again; `end` says how far the space's log
    /// is now.
    pub(crate) fn come_back(&self, document: &DocumentId, end: Option<(SpaceId, u64)>) {
        let nobody = self.next_id();
        for mailbox in self.others(document, Whom::All) {
            mailbox.changed(*document, Instant::now());
        }
        if let Some((space, end)) = end {
            self.followers.publish_document(&space, document, Vec::new, nobody);
            self.followers.publish_end(&space, end);
        }
    }

    /// Hands an ephemeral message to everybody else who takes part in its document, and returns it.
    ///
    /// A message that was here before is dropped: clients send what they receive back to where it came from. So is one
    /// about a document that its connection takes no part in.
    pub(crate) fn forward(&self, message: Ephemeral, from: ConnectionId) -> Option<Arc<Ephemeral>> {
        self.pass_on(message, from, |topic| topic.members.contains_key(&from))
    }

    /// Hands an ephemeral message of one who follows the document's space to everybody who takes part in it.
    pub(crate) fn announce(&self, message: Ephemeral, from: ConnectionId) {
        // If it was here before, nobody waits for it.
        drop(self.pass_on(message, from, |_| true));
    }

    /// Says whether anybody takes part in a document.
    pub(crate) fn has_members(&self, document: &DocumentId) -> bool {
        self.topics().by_document.contains_key(document)
    }

    fn pass_on(
        &self,
        message: Ephemeral,
        from: ConnectionId,
        may: impl FnOnce(&Topic) -> bool,
    ) -> Option<Arc<Ephemeral>> {
        let author = self.key.hash_one((message.sender.as_str(), &message.session_id));
        let mailboxes = {
            let mut topics = self.topics();
            let topic = topics.by_document.get_mut(&message.document)?;
            let authors = topic.counts.len();
            if !may(topic) || !topic.is_news(author, message.count) {
                return None;
            }
            let (others, is_new) = (topic.others(Whom::AllBut(from)), topic.counts.len() > authors);
            if is_new {
                topics.note_author(message.document);
            }
            others
        };
        let message = Arc::new(message);
        for mailbox in mailboxes {
            mailbox.ephemeral(Arc::clone(&message));
        }
        Some(message)
    }

    fn others(&self, document: &DocumentId, whom: Whom) -> Vec<Arc<Mailbox>> {
        // The mailboxes' own locks are taken only after this one is given back.
        self.topics().by_document.get(document).map(|topic| topic.others(whom)).unwrap_or_default()
    }

    fn topics(&self) -> MutexGuard<'_, Topics> {
        // Nothing that runs under the lock panics half-way through a change.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Topics {
    /// Notes that an author was heard in a document for the first time. Of too many in all documents, the oldest is forgotten.
    fn note_author(&mut self, document: DocumentId) {
        self.heard.push_back(document);
        if self.heard.len() > EPHEMERAL_AUTHORS_MAX
            && let Some(oldest) = self.heard.pop_front()
            && let Some(topic) = self.by_document.get_mut(&oldest)
        {
            topic.forget_oldest();
        }
    }
}

impl Topic {
    fn others(&self, whom: Whom) -> Vec<Arc<Mailbox>> {
        whom.of(&self.members)
    }

    /// Returns how many take part besides one.
    fn readers(&self, except: ConnectionId) -> usize {
        self.members.len() - usize::from(self.members.contains_key(&except))
    }

    /// Says whether an author's message is newer than its last one, and remembers it. The oldest author is forgotten for
    /// a new one at the bound.
    fn is_news(&mut self, author: u64, count: u64) -> bool {
        match self.counts.entry(author) {
            Entry::Occupied(mut last) => {
                let is_news = count > *last.get();
                if is_news {
                    last.insert(count);
                }
                return is_news;
            }
            Entry::Vacant(entry) => entry.insert(count),
        };
        self.order.push_back(author);
        if self.order.len() > EPHEMERAL_SESSIONS_MAX {
            self.forget_oldest();
        }
        true
    }

    /// Forgets the author that is known for longest. What it sent last may be passed on once more.
    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.order.pop_front() {
            self.counts.remove(&oldest);
        }
        if self.order.is_empty() {
            // Their memory too.
            (self.counts, self.order) = Default::default();
        }
    }
}

impl Mailbox {
    /// Waits until something is put in.
    pub(crate) async fn notified(&self) {
        self.notify.notified().await;
    }

    /// Takes the documents that changed out, with the time of the oldest commit that changed one.
    pub(crate) fn take_changed(&self) -> (HashSet<DocumentId>, Option<Instant>) {
        let mut waiting = self.waiting();
        let (changed, since) = (std::mem::take(&mut waiting.changed), waiting.since.take());
        (changed, since)
    }

    /// Takes the oldest ephemeral message out.
    pub(crate) fn take_ephemeral(&self) -> Option<Arc<Ephemeral>> {
        let mut waiting = self.waiting();
        let message = waiting.ephemeral.pop_front()?;
        waiting.ephemeral_bytes -= message.data.len();
        self.backlog.fewer_bytes(message.data.len());
        Some(message)
    }

    fn changed(&self, document: DocumentId, now: Instant) {
        let mut waiting = self.waiting();
        if waiting.changed.insert(document) {
            waiting.since.get_or_insert(now);
            drop(waiting);
            self.notify.notify_one();
        }
    }

    fn ephemeral(&self, message: Arc<Ephemeral>) {
        let mut waiting = self.waiting();
        self.backlog.more_bytes(message.data.len());
        waiting.ephemeral_bytes += message.data.len();
        waiting.ephemeral.push_back(message);
        while waiting.ephemeral.len() > EPHEMERAL_QUEUE_MAX || waiting.ephemeral_bytes > EPHEMERAL_QUEUE_BYTES_MAX {
            let Some(oldest) = waiting.ephemeral.pop_front() else { break };
            waiting.ephemeral_bytes -= oldest.data.len();
            self.backlog.fewer_bytes(oldest.data.len());
        }
        drop(waiting);
        self.notify.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        let waiting = self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.backlog.fewer_bytes(waiting.ephemeral_bytes);
    }
}

impl Member {
    /// Returns the connection's name.
    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    /// Returns what waits for the connection.
    pub(crate) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// Returns in how many documents the connection takes part.
    pub(crate) fn count(&self) -> usize {
        self.documents.len()
    }

    /// Takes part in a document from now on.
    pub(crate) fn subscribe(&mut self, document: DocumentId) {
        if self.documents.insert(document) {
            let mut topics = self.hub.topics();
            topics.by_document.entry(document).or_default().members.insert(self.id, Arc::clone(&self.mailbox));
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        for document in &self.documents {
            // One lock a document: a connection with 100,000 of them holds nobody up when it goes.
            let mut topics = self.hub.topics();
            if let Entry::Occupied(mut topic) = topics.by_document.entry(*document) {
                topic.get_mut().members.remove(&self.id);
                if topic.get().members.is_empty() {
                    topic.remove();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: DocumentId = DocumentId::from_bytes([7; 16]);

    fn message(sender: &str, count: u64, bytes: usize) -> Ephemeral {
        Ephemeral {
            document: DOCUMENT,
            sender: PeerId::new(sender).expect("it is short"),
            session_id: "session".to_owned(),
            count,
            data: vec![0; bytes].into(),
        }
    }

    fn two_members() -> (Arc<Hub>, Member, Member) {
        let hub = Arc::new(Hub::default());
        let (mut alice, mut bob) = (hub.enter(), hub.enter());
        alice.subscribe(DOCUMENT);
        bob.subscribe(DOCUMENT);
        (hub, alice, bob)
    }

    #[tokio::test(start_paused = true)]
    async fn change_is_one_hint_however_often_it_happens() {
        let (hub, alice, bob) = two_members();
        let publish = |from: &Member| hub.publish(DOCUMENT, from.id(), Recent::new(Vec::new(), Vec::new(), Vec::new()));
        let tells = |tenths: u32| tokio::time::timeout(CLASSIC_NEWS_INTERVAL.least * tenths / 10, hub.keep_telling());
        let takes = |member: &Member| {
            let (changed, since) = member.mailbox().take_changed();
            assert_eq!(member.mailbox().take_changed(), (HashSet::new(), None));
            assert_eq!(changed.is_empty(), since.is_none());
            changed.len()
        };
        for (tenths, told) in [(1, 1), (8, 0), (1, 1)] {
            (0..3).for_each(|_| publish(&alice));
            drop(tells(tenths).await);
            assert_eq!((takes(&alice), takes(&bob)), (0, told), "the first is told at once, and the others together");
        }
        drop(tells(20).await);
        assert_eq!((takes(&alice), takes(&bob)), (0, 0));
        [&alice, &alice, &bob].into_iter().for_each(publish);
        drop(tells(20).await);
        assert_eq!((takes(&alice), takes(&bob)), (1, 1));
    }

    #[test]
    fn document_without_members_leaves_no_trace() {
        let (hub, alice, bob) = two_members();
        drop(alice);
        hub.forward(message("bob", 1, 1), bob.id());
        assert_eq!(hub.topics().by_document.len(), 1);
        drop(bob);
        assert!(hub.topics().by_document.is_empty());
    }

    #[test]
    fn ephemeral_message_is_forwarded_once_and_its_echo_is_dropped() {
        let (hub, alice, bob) = two_members();
        hub.forward(message("alice", 1, 1), alice.id());
        hub.forward(message("alice", 1, 1), bob.id());
        hub.forward(message("alice", 1, 1), alice.id());
        assert_eq!(bob.mailbox().take_ephemeral().map(|message| message.count), Some(1));
        assert!(bob.mailbox().take_ephemeral().is_none());
        assert!(alice.mailbox().take_ephemeral().is_none());
    }

    #[test]
    fn outsiders_message_goes_nowhere() {
        let (hub, alice, _bob) = two_members();
        let stranger = hub.enter();
        hub.forward(message("stranger", 1, 1), stranger.id());
        assert!(alice.mailbox().take_ephemeral().is_none());
    }

    #[test]
    fn full_ephemeral_queue_drops_the_oldest() {
        let (hub, alice, bob) = two_members();
        let sent = EPHEMERAL_QUEUE_MAX as u64 + 1;
        for count in 1..=sent {
            hub.forward(message("alice", count, 1), alice.id());
        }
        assert_eq!(bob.mailbox().take_ephemeral().map(|message| message.count), Some(2));
        for count in 1..=3 {
            hub.forward(message("alice", sent + count, EPHEMERAL_QUEUE_BYTES_MAX / 2), alice.id());
        }
        let waiting = std::iter::from_fn(|| bob.mailbox().take_ephemeral()).map(|message| message.count);
        assert_eq!(waiting.collect::<Vec<_>>(), [sent + 2, sent + 3]);
        assert_eq!(bob.mailbox().waiting().ephemeral_bytes, 0);
    }

    #[test]
    fn authors_beyond_the_bound_replace_the_oldest() {
        let mut topic = Topic::default();
        for author in 0..=EPHEMERAL_SESSIONS_MAX as u64 {
            assert!(topic.is_news(author, 1));
        }
        assert_eq!((topic.counts.len(), topic.order.len()), (EPHEMERAL_SESSIONS_MAX, EPHEMERAL_SESSIONS_MAX));
        assert!(!topic.is_news(1, 1));
        assert!(topic.is_news(0, 1));
    }

    #[test]
    fn authors_of_all_documents_have_one_bound() {
        let hub = Arc::new(Hub::default());
        let (mut alice, bob) = (hub.enter(), hub.enter());
        let document = |number: usize| DocumentId::from_bytes((number as u128).to_le_bytes());
        let documents = EPHEMERAL_AUTHORS_MAX / EPHEMERAL_SESSIONS_MAX + 9;
        for number in 0..documents {
            alice.subscribe(document(number));
            for author in 0..EPHEMERAL_SESSIONS_MAX {
                let said = Ephemeral { document: document(number), ..message(&format!("author-{author}"), 1, 1) };
                hub.announce(said, bob.id());
            }
        }
        let topics = hub.topics();
        let known = |number: usize| topics.by_document[&document(number)].counts.len();
        assert_eq!((0..documents).map(known).sum::<usize>(), EPHEMERAL_AUTHORS_MAX);
        assert_eq!(
            (topics.heard.len(), known(0), known(documents - 1)),
            (EPHEMERAL_AUTHORS_MAX, 0, EPHEMERAL_SESSIONS_MAX)
        );
    }
}
