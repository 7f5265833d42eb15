//! The way to the thread that writes: what waits for a commit, and what does not.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rejoin::DocumentId;
use rejoin::deletion::Tombstone;
use tokio::sync::oneshot;

use super::commit::Watch;
use super::queue::{Job, Lanes, Left, Slice};
use super::{AppendError, Author, AuthorKey};

/// What waits for the thread.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    /// Wakes the thread.
    bell: Condvar,
    clock: fn() -> Instant,
}

#[derive(Debug)]
struct State {
    lanes: Lanes,
    urgent: VecDeque<Urgent>,
    is_closed: bool,
    /// How much that does not wait was ever added.
    told: u64,
    sleep: Sleep,
}

/// What the thread is to be woken for. To wake it costs more than to add a request, so it sleeps through what it has to wait with anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sleep {
    /// It is awake, and looks before it sleeps.
    Awake,
    /// Nothing is to be done: for all.
    Idle,
    /// The next commit waits for its time, or for enough: for what does not wait, and when enough is there.
    Gathering,
    /// It waits for its time alone: for what does not wait.
    Resting,
}

/// What waits, for who decides when the next commit begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Glance {
    /// Requests come so fast that a commit need not wait for more of them.
    pub(super) is_busy: bool,
    pub(super) is_closed: bool,
    told: u64,
}

/// What does not wait for a commit. Whoever asks has one at a time, so there are no more of them than of those.
#[derive(Debug)]
pub(super) enum Urgent {
    /// Say whether the store can be written.
    Probe(oneshot::Sender<bool>),
    Delete(Deletion),
}

/// A deletion on its way to the thread.
#[derive(Debug)]
pub(super) struct Deletion {
    pub(super) author: Author,
    pub(super) document: DocumentId,
    pub(super) tombstone: Tombstone,
    pub(super) answer: oneshot::Sender<Result<(), AppendError>>,
}

/// What the next commit holds.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) slices: Vec<Slice>,
    /// There was more than fits it.
    pub(super) is_left: bool,
    /// Whoever wrote it would notice what keeps the store: several write, or one writes little.
    pub(super) is_noticed: bool,
}

impl Inbox {
    pub(super) fn new(clock: fn() -> Instant) -> Self {
        let (lanes, urgent) = (Lanes::new(clock()), VecDeque::new());
        let state = State { lanes, urgent, is_closed: false, told: 0, sleep: Sleep::Awake };
        Self { state: Mutex::new(state), bell: Condvar::new(), clock }
    }

    /// Returns the time by which requests take turns.
    pub(super) fn now(&self) -> Instant {
        (self.clock)()
    }

    /// Says whether nothing waits.
    #[cfg(feature = "testing")]
    pub(super) fn is_idle(&self) -> bool {
        self.state().is_idle()
    }

    /// Says whether the thread sleeps until enough is there for a commit.
    #[cfg(test)]
    pub(super) fn is_gathering(&self) -> bool {
        self.state().sleep == Sleep::Gathering
    }

    /// Adds a request.
    ///
    /// # Errors
    ///
    /// [`AppendError::Stopped`].
    pub(super) fn push(&self, job: Job) -> Result<(), AppendError> {
        let since = job.since;
        self.add(|state| {
            state.lanes.push(job);
            match state.sleep {
                Sleep::Idle => true,
                Sleep::Gathering => state.lanes.is_busy(since),
                Sleep::Awake | Sleep::Resting => false,
            }
        })
    }

    /// Adds what does not wait.
    ///
    /// # Errors
    ///
    /// [`AppendError::Stopped`].
    pub(super) fn tell(&self, urgent: Urgent) -> Result<(), AppendError> {
        self.add(|state| {
            state.urgent.push_back(urgent);
            state.told += 1;
            true
        })
    }

    /// Takes nothing more in. What waits is still to be done.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.bell.notify_all();
    }

    /// Takes nothing more in, and forgets what waits: whoever waits for it is told so.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let (jobs, urgent) = (state.lanes.clear(), std::mem::take(&mut state.urgent));
        drop(state);
        drop((jobs, urgent));
    }

    /// Waits until there is something to do; says whether there ever will be.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.state();
        while state.is_idle() && !state.is_closed {
            state.sleep = Sleep::Idle;
            state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.sleep = Sleep::Awake;
        !state.is_idle()
    }

    /// Takes the oldest of what does not wait.
    pub(super) fn pop_urgent(&self) -> Option<Urgent> {
        self.state().urgent.pop_front()
    }

    /// Says whether anything waits for a commit.
    pub(super) fn has_jobs(&self) -> bool {
        !self.state().lanes.is_empty()
    }

    /// Returns what waits now.
    pub(super) fn glance(&self, now: Instant) -> Glance {
        let state = self.state();
        Glance { is_busy: state.lanes.is_busy(now), is_closed: state.is_closed, told: state.told }
    }

    /// Waits until what a glance showed has changed so that the next commit may begin earlier, or for so long.
    pub(super) fn wait_for_more(&self, glance: Glance, longest: Duration) {
        let state = self.state();
        let sleep = if glance.is_busy { Sleep::Resting } else { Sleep::Gathering };
        let is_same = |state: &mut State| {
            let is_as_busy = glance.is_busy || !state.lanes.is_busy(self.now());
            let is_same = state.told == glance.told && !state.is_closed && is_as_busy;
            // Whoever woke it may have seen more in less time: the next one wakes it again.
            state.sleep = sleep;
            is_same
        };
        let waited = self.bell.wait_timeout_while(state, longest, is_same);
        waited.unwrap_or_else(PoisonError::into_inner).0.sleep = Sleep::Awake;
    }

    /// Takes out what the next commit holds.
    pub(super) fn take(&self, now: Instant) -> Turn {
        let mut state = self.state();
        let slices = state.lanes.take(now);
        let is_noticed = state.lanes.is_noticed(&slices, now);
        Turn { slices, is_left: !state.lanes.is_empty(), is_noticed }
    }

    /// Returns what tells a commit when to end.
    pub(super) fn watch(&self) -> Watch {
        Watch::new(self.clock, self.state().lanes.longest(self.now()))
    }

    /// Puts back what is not finished, in the order in which it was taken out, and notes who owes how much for the commit.
    pub(super) fn put_back(&self, unfinished: Vec<Left>, owing: Vec<(AuthorKey, usize)>) {
        let (mut state, now) = (self.state(), self.now());
        state.lanes.put_back(unfinished, now);
        owing.into_iter().for_each(|(author, bytes)| state.lanes.owe(author, bytes));
    }

    /// Adds something that says whether the thread is to be woken for it.
    fn add(&self, change: impl FnOnce(&mut State) -> bool) -> Result<(), AppendError> {
        let mut state = self.state();
        if state.is_closed {
            return Err(AppendError::Stopped);
        }
        let wakes = change(&mut state);
        if wakes {
            // The next one need not wake it again.
            state.sleep = Sleep::Awake;
        }
        drop(state);
        if wakes {
            self.bell.notify_one();
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.lanes.is_empty() && self.urgent.is_empty()
    }
}
