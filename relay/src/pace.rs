//! Pace: how often the same thing is told to everybody who follows it.
//!
//! The first time it is told at once. What happens to it within an interval after that is told together, when that is over. So
//! a lone change waits for nothing, and many that come one after the other are one frame for each reader. Nothing here delays a
//! commit, nor the answer to whoever wrote.
//!
//! What is told costs a frame for each reader, so the more there are, the longer an interval is.
//!
//! Whoever was left out when it was told first, because it came from there, does not wait for what others do within that interval: it was
//! told of nothing. So two who write to the same document at the same time hear of each other at once.
//!
//! Who tells is a task: the thread that commits wakes it once, where to wake each reader would cost it a system call for each.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until};

use crate::hub::ConnectionId;

/// Who is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    All,
    /// All but who brought it.
    AllBut(ConnectionId),
    Only(ConnectionId),
}

impl Whom {
    /// All but one, if there is one to leave out.
    pub(crate) fn all_but(except: Option<ConnectionId>) -> Self {
        except.map_or(Self::All, Self::AllBut)
    }

    /// Says whether a connection is among them.
    pub(crate) fn includes(self, connection: ConnectionId) -> bool {
        match self {
            Self::All => true,
            Self::AllBut(other) => other != connection,
            Self::Only(one) => one == connection,
        }
    }

    /// Returns what belongs to those of some connections.
    pub(crate) fn of<T>(self, all: &HashMap<ConnectionId, Arc<T>>) -> Vec<Arc<T>> {
        if let Self::Only(one) = self {
            return all.get(&one).into_iter().map(Arc::clone).collect();
        }
        all.iter().filter(|(id, _)| self.includes(**id)).map(|(_, of)| Arc::clone(of)).collect()
    }

    fn and(self, other: Self) -> Self {
        if self == other { self } else { Self::All }
    }
}

/// What is to be told of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    /// How far it is.
    pub(crate) end: u64,
    pub(crate) whom: Whom,
    /// When the oldest commit of it was made.
    pub(crate) since: std::time::Instant,
}

impl Told {
    /// Makes what is told of a commit that was made now.
    pub(crate) fn now(end: u64, whom: Whom) -> Self {
        Self { end, whom, since: std::time::Instant::now() }
    }

    fn and(self, later: Self) -> Self {
        Self { end: self.end.max(later.end), whom: self.whom.and(later.whom), since: self.since }
    }
}

/// How long after something was told it is told again, at least.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interval {
    /// However few readers there are.
    pub(crate) least: Duration,
    /// For each reader.
    pub(crate) each: Duration,
    /// However many there are.
    pub(crate) most: Duration,
}

impl Interval {
    fn for_readers(self, readers: usize, most: Duration) -> Duration {
        let readers = u32::try_from(readers).unwrap_or(u32::MAX);
        self.each.saturating_mul(readers).max(self.least).min(most)
    }
}

/// When what was told last, and what is to be told.
#[derive(Debug)]
pub(crate) struct Pace<K> {
    interval: Interval,
    /// However many readers there are, in microseconds: [`Interval::most`] or less.
    most: AtomicU64,
    intervals: Mutex<Intervals<K>>,
    bell: Notify,
}

/// One for each thing that was told a moment ago: as many as commits touched within an interval.
#[derive(Debug)]
struct Intervals<K> {
    /// What is to be told of those that are to be told now, and of those whose interval lasts.
    held: HashMap<K, Held>,
    /// What is to be told now, the first first.
    now: VecDeque<K>,
    /// What is to be told now to one who was left out before: once in an interval at most.
    apart: VecDeque<(K, Told)>,
    /// When the intervals of the others end, the first first; numbered, since several may end at the same time.
    ends: BTreeMap<(Instant, u64), K>,
    last_number: u64,
    /// What was told last had waited for its interval: it is the turn of what is to be told now.
    was_over: bool,
}

/// What is to be told when an interval is over.
#[derive(Debug)]
struct Held {
    told: Option<Told>,
    /// How long the next interval is.
    interval: Duration,
    /// Who was not told when the interval began.
    left_out: Option<ConnectionId>,
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl<K: Copy + Eq + Hash> Pace<K> {
    /// Makes a pace at which the same thing is told once in an interval at most.
    pub(crate) fn new(interval: Interval) -> Self {
        let (now, apart, ends) = Default::default();
        let intervals = Intervals { held: HashMap::new(), now, apart, ends, last_number: 0, was_over: false };
        let most = AtomicU64::new(micros(interval.most));
        Self { interval, most, intervals: Mutex::new(intervals), bell: Notify::new() }
    }

    /// Sets how long an interval is at most, from the next on: no longer than it was made with.
    pub(crate) fn set_most(&self, most: Duration) {
        self.most.store(micros(most.min(self.interval.most)), Ordering::Relaxed);
    }

    /// Notes that something is to be told to so many readers: [`Pace::due`] returns it, now or when its interval is over.
    pub(crate) fn tell(&self, of: K, told: Told, readers: usize) {
        let most = Duration::from_micros(self.most.load(Ordering::Relaxed));
        if self.intervals().add(of, told, self.interval.for_readers(readers, most)) {
            self.bell.notify_one();
        }
    }

    /// Takes back what is to be told of something: it is told otherwise.
    pub(crate) fn withdraw(&self, of: &K) {
        let mut intervals = self.intervals();
        intervals.apart.retain(|(other, _)| other != of);
        if let Some(held) = intervals.held.get_mut(of) {
            held.told = None;
        }
    }

    /// Waits until something is to be told, and returns it. May be given up at any time.
    pub(crate) async fn due(&self) -> (K, Told) {
        loop {
            // Where there is always something to tell, others have their turn on this thread.
            consume_budget().await;
            let end = {
                let mut intervals = self.intervals();
                if let Some(due) = intervals.take_due(Instant::now()) {
                    return due;
                }
                intervals.ends.first_key_value().map(|((end, _), _)| *end)
            };
            let bell = self.bell.notified();
            match end {
                Some(end) => tokio::select! {
                    () = bell => {}
                    () = sleep_until(end) => {}
                },
                None => bell.await,
            }
        }
    }

    /// Ends all intervals, and returns what was to be told: where no task waits for [`Pace::due`], and no time passes.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn end_all(&self) -> Vec<(K, Told)> {
        let mut intervals = self.intervals();
        let ended = std::mem::take(&mut intervals.ends).into_values();
        let all: Vec<K> = std::mem::take(&mut intervals.now).into_iter().chain(ended).collect();
        let all = all.into_iter().filter_map(|of| Some((of, intervals.held.remove(&of)?.told?))).collect::<Vec<_>>();
        std::mem::take(&mut intervals.apart).into_iter().chain(all).collect()
    }

    fn intervals(&self) -> MutexGuard<'_, Intervals<K>> {
        // Nothing that runs under the lock panics half-way through a change.
        self.intervals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash> Intervals<K> {
    /// Adds what is to be told. Says whether that is now, and the first.
    fn add(&mut self, of: K, told: Told, interval: Duration) -> bool {
        let was_empty = self.now.is_empty() && self.apart.is_empty();
        match self.held.entry(of) {
            Entry::Occupied(held) => {
                let held = held.into_mut();
                if let Some(one) = held.left_out.filter(|one| told.whom.includes(*one)) {
                    held.left_out = None;
                    self.apart.push_back((of, Told { whom: Whom::Only(one), ..told }));
                }
                held.told = Some(held.told.map_or(told, |before| before.and(told)));
                held.interval = interval;
            }
            Entry::Vacant(none) => {
                none.insert(Held { told: Some(told), interval, left_out: None });
                self.now.push_back(of);
            }
        }
        was_empty && !(self.now.is_empty() && self.apart.is_empty())
    }

    /// Returns something that is to be told, and begins an interval of it if all are to be told.
    fn take_due(&mut self, now: Instant) -> Option<(K, Told)> {
        if let Some(apart) = self.apart.pop_front() {
            return Some(apart);
        }
        loop {
            let is_nows_turn = self.was_over && !self.now.is_empty();
            let is_over = !is_nows_turn && self.ends.first_key_value().is_some_and(|((end, _), _)| *end <= now);
            self.was_over = is_over;
            let over = if is_over { self.ends.pop_first().map(|(_, of)| of) } else { None };
            let of = over.or_else(|| self.now.pop_front())?;
            if let Some(held) = self.held.get_mut(&of)
                && let Some(told) = held.told.take()
            {
                held.left_out = if let Whom::AllBut(one) = told.whom { Some(one) } else { None };
                self.last_number += 1;
                self.ends.insert((now + held.interval, self.last_number), of);
                return Some((of, told));
            }
            // Nothing happened to it meanwhile, or that was withdrawn.
            self.held.remove(&of);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use tokio::time::timeout;

    use super::*;
    use crate::hub::Hub;

    const INTERVAL: Duration = Duration::from_millis(20);

    /// For two readers.
    const PACE: Interval =
        Interval { least: Duration::from_millis(15), each: Duration::from_millis(10), most: Duration::from_millis(35) };

    /// What is due within two intervals, and how many tenths of one it took.
    async fn due(pace: &Pace<u8>) -> Option<(u8, Told, u128)> {
        let since = Instant::now();
        let (of, told) = timeout(2 * INTERVAL, pace.due()).await.ok()?;
        Some((of, told, since.elapsed().as_micros() * 10 / INTERVAL.as_micros()))
    }

    #[tokio::test(start_paused = true)]
    async fn first_is_told_at_once_and_what_follows_it_together() {
        let pace = Pace::new(PACE);
        let tell = |of, end| pace.tell(of, Told::now(end, Whom::All), 2);
        let told = async |wanted: Option<(u8, u64, u128)>| {
            assert_eq!(due(&pace).await.map(|(of, told, tenths)| (of, told.end, tenths)), wanted);
        };
        [(2, 1), (1, 1)].into_iter().for_each(|(of, end)| tell(of, end));
        told(Some((2, 1, 0))).await;
        told(Some((1, 1, 0))).await;
        [3, 2].into_iter().for_each(|end| tell(1, end));
        told(Some((1, 3, 10))).await;
        // That was a new beginning for the one, and not for the other.
        [(1, 4), (2, 5)].into_iter().for_each(|(of, end)| tell(of, end));
        told(Some((2, 5, 0))).await;
        told(Some((1, 4, 10))).await;
        told(None).await;
        tell(1, 6);
        told(Some((1, 6, 0))).await;
        for of in [1, 3] {
            // Whether it would be told now or later.
            tell(of, 7);
            pace.withdraw(&of);
        }
        told(None).await;
        let intervals = pace.intervals();
        assert!(intervals.held.is_empty() && intervals.ends.is_empty() && intervals.now.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_are_more_readers_less_often() {
        let pace = Pace::new(PACE);
        let readers = [3, 0, usize::MAX, 2, 1];
        for end in 0..2 {
            (0..).zip(readers).for_each(|(of, readers)| pace.tell(of, Told::now(end, Whom::All), readers));
            let since = Instant::now();
            let mut told = Vec::new();
            for _ in readers {
                let (of, Told { end: found, .. }, _) = due(&pace).await.unwrap();
                assert_eq!(found, end);
                told.push((of, since.elapsed().as_millis()));
            }
            match end {
                0 => assert_eq!(told, [0, 1, 2, 3, 4].map(|of| (of, 0))),
                _ => assert_eq!(told, [(1, 15), (4, 15), (3, 20), (0, 30), (2, 35)]),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_is_set() {
        let pace = Pace::new(PACE);
        for (most, waited) in [(5, 5), (17, 17), (1_000, 35)] {
            pace.set_most(Duration::from_millis(most));
            let since = Instant::now();
            for end in 0..2 {
                pace.tell(1, Told::now(end, Whom::All), 9);
                due(&pace).await.unwrap();
            }
            assert_eq!(since.elapsed().as_millis(), waited);
            assert!(due(&pace).await.is_none(), "the interval is over");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_while_others_wait_is_told_before_them() {
        let pace = Pace::new(PACE);
        pace.tell(1, Told::now(1, Whom::All), 2);
        due(&pace).await.unwrap();
        pace.tell(1, Told::now(2, Whom::All), 2);
        let (first, ()) = tokio::join!(due(&pace), async {
            tokio::time::sleep(INTERVAL / 2).await;
            pace.tell(2, Told::now(1, Whom::All), 2);
        });
        assert_eq!(first.map(|(of, _, tenths)| (of, tenths)), Some((2, 5)));
        assert_eq!(due(&pace).await.map(|(of, _, tenths)| (of, tenths)), Some((1, 5)));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_wrote_all_of_it_is_left_out_and_nobody_else() {
        let (pace, hub) = (Pace::new(PACE), Hub::default());
        let [alice, bob] = [hub.next_id(), hub.next_id()].map(Whom::AllBut);
        for (from, wanted) in [(vec![alice, alice], alice), (vec![alice, bob, alice], Whom::All)] {
            pace.tell(1, Told::now(0, Whom::All), 2);
            due(&pace).await.unwrap();
            let first = Told::now(0, from[0]);
            pace.tell(1, first, 2);
            from[1..].iter().for_each(|whom| pace.tell(1, Told::now(0, *whom), 2));
            let (_, told, _) = due(&pace).await.unwrap();
            assert_eq!((told.whom, told.since), (wanted, first.since));
            assert!(due(&pace).await.is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_was_left_out_does_not_wait_for_what_others_do() {
        let (pace, hub) = (Pace::new(PACE), Hub::default());
        let [alice, bob] = [hub.next_id(), hub.next_id()];
        let tell = |end, from| pace.tell(1, Told::now(end, Whom::AllBut(from)), 2);
        let told = async |wanted: Option<(u64, Whom, u128)>| {
            assert_eq!(due(&pace).await.map(|(_, told, tenths)| (told.end, told.whom, tenths)), wanted);
        };
        tell(1, alice);
        told(Some((1, Whom::AllBut(alice), 0))).await;
        // Her own next change is nothing that she waits for.
        tell(2, alice);
        tell(3, bob);
        told(Some((3, Whom::Only(alice), 0))).await;
        // From now on she waits like the others.
        [4, 5].into_iter().for_each(|end| tell(end, bob));
        told(Some((5, Whom::All, 10))).await;
        tell(6, bob);
        told(Some((6, Whom::AllBut(bob), 10))).await;
        tell(7, alice);
        pace.withdraw(&1);
        told(None).await;
        let intervals = pace.intervals();
        assert!(intervals.held.is_empty() && intervals.now.is_empty() && intervals.apart.is_empty());
    }
}
