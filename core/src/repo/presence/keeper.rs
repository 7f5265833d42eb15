//! Keeps the values of others while they live and sends our own before they run out.
//!
//! A thread does it, and only while the application holds a handle: a value may be taken back where there is no runtime, and a
//! thread needs none. It sleeps until the next value ends or is due.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use super::board::Board;
use super::own::{Due, Own, Owner};
use super::{PresenceError, PresenceValue};
use crate::engine::Origin;
use crate::id::{DocumentId, PeerId};
use crate::limits::PRESENCE_JITTER_MS;
use crate::repo::events::Ephemeral;
use crate::repo::random_bytes;
use crate::runtime::{self, Bell, Instant, UNIX_EPOCH};

/// Ephemeral messages that were made or came at once.
pub(crate) type Ephemerals = Arc<[Ephemeral]>;

/// The presence of a repo. When it goes, whoever listens is told that it did.
pub(crate) struct Presences(Arc<Keeper>);

/// What the repo, the application's handles and the thread share.
pub(super) struct Keeper {
    state: Mutex<State>,
    /// Wakes the thread.
    bell: Bell,
    /// Counts what can be seen.
    changes: watch::Sender<u64>,
    outgoing: broadcast::Sender<Ephemerals>,
    peer: PeerId,
    /// The last number that was given to a value or an ephemeral message of ours.
    sequence: AtomicU64,
}

#[derive(Default)]
struct State {
    board: Board,
    own: Own,
    /// How many handles and subscriptions there are.
    users: usize,
    /// How many handles there were.
    owners: u64,
    is_running: bool,
    is_closed: bool,
    /// Until when the thread sleeps; `None` is until it is woken.
    sleeps_until: Option<Instant>,
}

impl Presences {
    /// Begins with nobody there. Numbers begin at the milliseconds since 1970, so that they rise over restarts.
    pub(crate) fn new(peer: PeerId, outgoing: broadcast::Sender<Ephemerals>) -> Self {
        let since = runtime::clock().duration_since(UNIX_EPOCH).unwrap_or_default();
        let sequence = AtomicU64::new(u64::try_from(since.as_millis()).unwrap_or(0));
        let (state, bell, changes) = (Mutex::default(), Bell::default(), watch::Sender::new(0));
        Self(Arc::new(Keeper { state, bell, changes, outgoing, peer, sequence }))
    }

    /// Returns the number of the next value or message of ours.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.0.next_sequence()
    }

    /// Takes in what others sent, and passes it on to those who listen to ephemeral messages.
    pub(crate) fn hear(&self, messages: Vec<Ephemeral>) {
        if messages.is_empty() {
            return;
        }
        self.0.hear(&messages);
        // That nobody listens is no fault.
        let _ = self.0.outgoing.send(messages.into());
    }

    /// Sends all own values anew: a connection is there that knows none of them.
    pub(crate) fn renew_all(&self) {
        let mut state = self.0.lock();
        state.own.renew_all(runtime::now());
        self.0.wake(&mut state);
    }

    /// Sends the own values about a document anew, which has come: of one that is not here, nobody is told.
    pub(crate) fn renew(&self, document: DocumentId) {
        let mut state = self.0.lock();
        if state.own.renew(document, runtime::now()) {
            self.0.wake(&mut state);
        }
    }

    pub(super) fn keeper(&self) -> &Arc<Keeper> {
        &self.0
    }
}

impl Drop for Presences {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.bell.ring();
        self.0.changes.send_modify(|count| *count += 1);
    }
}

impl Keeper {
    /// Takes in another handle.
    pub(super) fn enter(&self) -> Owner {
        let mut state = self.lock();
        state.users += 1;
        state.owners += 1;
        Owner(state.owners)
    }

    /// Takes back what a handle set.
    pub(super) fn leave(&self, owner: Owner) {
        let mut state = self.lock();
        let before = state.own.version();
        let gone = state.own.release(owner);
        // Those here saw values too that the others were not sent yet.
        if state.own.version() != before {
            self.send(gone);
            self.tell();
        }
        self.forget_user(state);
    }

    /// Begins to listen.
    pub(super) fn listen(&self) -> watch::Receiver<u64> {
        self.lock().users += 1;
        self.changes.subscribe()
    }

    /// Listens no more.
    pub(super) fn stop_listening(&self) {
        self.forget_user(self.lock());
    }

    pub(super) fn set(self: &Arc<Self>, owner: Owner, what: Due) -> Result<(), PresenceError> {
        let mut state = self.lock();
        state.own.set(owner, what, runtime::now(), runtime::clock())?;
        self.run_on(&mut state);
        self.tell();
        Ok(())
    }

    pub(super) fn clear(&self, document: DocumentId, key: &str) {
        let mut state = self.lock();
        let gone = state.own.clear(document, key);
        self.send(gone.into_iter().collect());
        self.tell();
    }

    /// Sees to it that the thread runs: values end while somebody looks.
    pub(super) fn run(self: &Arc<Self>) {
        self.run_on(&mut self.lock());
    }

    /// Returns what is shown about a document, by author and key, with the numbers of the values' data; `None` if it is what it
    /// was at this version.
    pub(super) fn look(
        &self,
        document: &DocumentId,
        seen: Option<Version>,
    ) -> Option<(Version, Vec<(PresenceValue, u64)>)> {
        let state = self.lock();
        let version = Version(state.board.version(document), state.own.version());
        if seen == Some(version) {
            return None;
        }
        let mut values = state.board.values(document, runtime::now());
        values.extend(state.own.values(document, &self.peer));
        drop(state);
        values.sort_unstable_by(|(one, _), (other, _)| (&one.author, &one.key).cmp(&(&other.author, &other.key)));
        Some((version, values))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    pub(super) fn peer(&self) -> &PeerId {
        &self.peer
    }

    fn hear(&self, messages: &[Ephemeral]) {
        let (now, clock) = (runtime::now(), runtime::clock());
        let mut state = self.lock();
        let mut is_change = state.board.expire(now);
        for message in messages {
            // What we said comes back where a relay is connected to twice.
            if message.sender == self.peer {
                continue;
            }
            let heard = state.board.hear(message, now, clock);
            is_change |= heard.is_change;
            if heard.is_new_author {
                state.own.answer(message.document, now, jitter());
            }
        }
        self.wake(&mut state);
        drop(state);
        if is_change {
            self.tell();
        }
    }

    fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Sends values in one go. Under the lock, so that those of one key go in the order of their numbers.
    fn send(&self, due: Vec<Due>) {
        if due.is_empty() {
            return;
        }
        let messages = due.into_iter().map(|Due { document, key, data, ttl_ms }| Ephemeral {
            document,
            sender: self.peer.clone(),
            data,
            count: self.next_sequence(),
            origin: Origin::Local,
            key,
            ttl_ms,
        });
        // That there is no connection is no fault.
        let _ = self.outgoing.send(messages.collect());
    }

    fn tell(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn forget_user(&self, mut state: MutexGuard<'_, State>) {
        state.users -= 1;
        if state.users == 0 {
            self.bell.ring();
        }
    }

    /// Wakes the thread, or starts it.
    fn run_on(self: &Arc<Self>, state: &mut State) {
        if state.is_running || state.is_closed {
            return self.wake(state);
        }
        let keeper = Arc::clone(self);
        match runtime::start("rejoin-presence", async move { keeper.keep().await }) {
            Ok(()) => state.is_running = true,
            // The next call tries again.
            Err(error) => tracing::error!(%error, "presence values are not sent: the system gives no thread"),
        }
    }

    /// Wakes the thread if something is to be done before it would wake by itself.
    fn wake(&self, state: &mut State) {
        let next = state.next();
        if next.is_some() && state.sleeps_until.is_none_or(|until| next < Some(until)) {
            state.sleeps_until = next;
            self.bell.ring();
        }
    }

    /// What the thread does.
    async fn keep(&self) {
        while let Some(until) = self.look_after() {
            self.bell.wait_until(until).await;
        }
    }

    /// Does what is due, and returns until when nothing is; `None` when nobody needs it any more.
    fn look_after(&self) -> Option<Option<Instant>> {
        let mut state = self.lock();
        if state.users == 0 || state.is_closed {
            state.is_running = false;
            return None;
        }
        let now = runtime::now();
        if state.board.expire(now) {
            self.tell();
        }
        let due = state.own.take_due(now);
        self.send(due);
        state.sleeps_until = state.next();
        Some(state.sleeps_until)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// When something is to be done next.
    fn next(&self) -> Option<Instant> {
        self.board.next_end().into_iter().chain(self.own.next_due()).min()
    }
}

/// How far what is shown about a document has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Version(u64, u64);

/// A place among those who listen. It does not keep the repo open.
pub(super) struct Listening(pub(super) Weak<Keeper>);

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(keeper) = self.0.upgrade() {
            keeper.stop_listening();
        }
    }
}

fn jitter() -> Duration {
    let random = u64::from(u16::from_le_bytes(random_bytes()));
    Duration::from_millis(random % PRESENCE_JITTER_MS)
}
