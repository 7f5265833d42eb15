//! The way to the thread that writes: what waits for a commit, and what does not.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rejoin::DocumentId;
use rejoin::deletion::Tombstone;
use tokio::sync::oneshot;

use super::queue::{Job, Lanes, Slice};
use super::{AppendError, Author};

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
    /// How much was ever added.
    added: u64,
}

/// What waits, for who decides when the next commit begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Glance {
    /// Something waits for a commit.
    pub(super) has_jobs: bool,
    /// Requests come so fast that a commit need not wait for more of them.
    pub(super) is_busy: bool,
    pub(super) is_closed: bool,
    added: u64,
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
        let state = State { lanes: Lanes::new(clock()), urgent: VecDeque::new(), is_closed: false, added: 0 };
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

    /// Adds a request.
    ///
    /// # Errors
    ///
    /// [`AppendError::Stopped`].
    pub(super) fn push(&self, job: Job) -> Result<(), AppendError> {
        self.add(|state| state.lanes.push(job))
    }

    /// Adds what does not wait.
    ///
    /// # Errors
    ///
    /// [`AppendError::Stopped`].
    pub(super) fn tell(&self, urgent: Urgent) -> Result<(), AppendError> {
        self.add(|state| state.urgent.push_back(urgent))
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
            state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
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
        let (has_jobs, is_busy) = (!state.lanes.is_empty(), state.lanes.is_busy(now));
        Glance { has_jobs, is_busy, is_closed: state.is_closed, added: state.added }
    }

    /// Waits until something was added since a glance, or for so long.
    pub(super) fn wait_for_more(&self, glance: Glance, longest: Duration) {
        let is_same = |state: &mut State| state.added == glance.added && !state.is_closed;
        let waited = self.bell.wait_timeout_while(self.state(), longest, is_same);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes out what the next commit holds.
    pub(super) fn take(&self, now: Instant) -> Turn {
        let mut state = self.state();
        let slices = state.lanes.take(now);
        let is_noticed = state.lanes.is_noticed(&slices, now);
        Turn { slices, is_left: !state.lanes.is_empty(), is_noticed }
    }

    /// Puts back what is not finished, in the order in which it was taken out.
    pub(super) fn put_back(&self, unfinished: Vec<Job>) {
        let (mut state, now) = (self.state(), self.now());
        unfinished.into_iter().rev().for_each(|job| state.lanes.put_back(job, now));
    }

    fn add(&self, change: impl FnOnce(&mut State)) -> Result<(), AppendError> {
        let mut state = self.state();
        if state.is_closed {
            return Err(AppendError::Stopped);
        }
        change(&mut state);
        state.added += 1;
        drop(state);
        self.bell.notify_one();
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
