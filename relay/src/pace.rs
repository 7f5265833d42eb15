//! Pace: how often the same thing is told to everybody who follows it.
//!
//! The first time it is told at once. What happens to it within [`NEWS_INTERVAL`] after that is told together, when that is over. So
//! a lone change waits for nothing, and many that come one after the other are one frame for each reader. Nothing here delays a
//! commit, nor the answer to whoever wrote.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::hub::ConnectionId;
use crate::limits::NEWS_INTERVAL;

/// What is to be told of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    /// How far it is.
    pub(crate) end: u64,
    /// Who need not be told, because all of it comes from there.
    pub(crate) except: Option<ConnectionId>,
    /// When the oldest commit of it was made.
    pub(crate) since: std::time::Instant,
}

impl Told {
    /// Makes what is told of a commit that was made now.
    pub(crate) fn now(end: u64, except: Option<ConnectionId>) -> Self {
        Self { end, except, since: std::time::Instant::now() }
    }

    fn and(self, later: Self) -> Self {
        let except = self.except.filter(|except| later.except == Some(*except));
        Self { end: self.end.max(later.end), except, since: self.since }
    }
}

/// When what was told last, and what is held back.
#[derive(Debug)]
pub(crate) struct Pace<K> {
    intervals: Mutex<Intervals<K>>,
    begins: Notify,
}

/// One for each thing that was told a moment ago: as many as commits touched within [`NEWS_INTERVAL`].
#[derive(Debug)]
struct Intervals<K> {
    held: HashMap<K, Option<Told>>,
    /// When they end, the first first.
    ends: VecDeque<(Instant, K)>,
}

impl<K> Default for Pace<K> {
    fn default() -> Self {
        let intervals = Intervals { held: HashMap::new(), ends: VecDeque::new() };
        Self { intervals: Mutex::new(intervals), begins: Notify::new() }
    }
}

impl<K: Copy + Eq + Hash> Pace<K> {
    /// Says whether something is to be told now; else it is held back until [`Pace::due`] returns it.
    pub(crate) fn is_now(&self, of: K, told: Told) -> bool {
        let mut intervals = self.intervals();
        if let Some(held) = intervals.held.get_mut(&of) {
            *held = Some(held.map_or(told, |before| before.and(told)));
            return false;
        }
        intervals.begin(of);
        drop(intervals);
        self.begins.notify_one();
        true
    }

    /// Takes back what is held back of something: it is told otherwise.
    pub(crate) fn withdraw(&self, of: &K) {
        if let Some(held) = self.intervals().held.get_mut(of) {
            *held = None;
        }
    }

    /// Waits until something that was held back is to be told, and returns it. May be given up at any time.
    pub(crate) async fn due(&self) -> (K, Told) {
        loop {
            let first = self.intervals().ends.front().map(|(end, _)| *end);
            let Some(first) = first else {
                self.begins.notified().await;
                continue;
            };
            sleep_until(first).await;
            if let Some(due) = self.intervals().end_first() {
                return due;
            }
        }
    }

    /// Ends all intervals, and returns what was held back: where no task waits for [`Pace::due`], and no time passes.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn end_all(&self) -> Vec<(K, Told)> {
        let mut intervals = self.intervals();
        let ended: Vec<K> = std::mem::take(&mut intervals.ends).into_iter().map(|(_, of)| of).collect();
        ended.into_iter().filter_map(|of| Some((of, intervals.held.remove(&of)??))).collect()
    }

    fn intervals(&self) -> MutexGuard<'_, Intervals<K>> {
        // Nothing that runs under the lock panics half-way through a change.
        self.intervals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash> Intervals<K> {
    fn begin(&mut self, of: K) {
        self.held.insert(of, None);
        self.ends.push_back((Instant::now() + NEWS_INTERVAL, of));
    }

    /// Ends the first interval. What was held back in it begins the next.
    fn end_first(&mut self) -> Option<(K, Told)> {
        let (_, of) = self.ends.pop_front()?;
        let told = self.held.remove(&of)??;
        self.begin(of);
        Some((of, told))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::hub::Hub;

    /// What is due within an interval, and how many tenths of one it took.
    async fn due(pace: &Pace<u8>) -> Option<(u8, Told, u128)> {
        let since = Instant::now();
        let (of, told) = timeout(2 * NEWS_INTERVAL, pace.due()).await.ok()?;
        Some((of, told, since.elapsed().as_micros() * 10 / NEWS_INTERVAL.as_micros()))
    }

    #[tokio::test(start_paused = true)]
    async fn first_is_told_at_once_and_what_follows_it_together() {
        let pace = Pace::default();
        let told = |end| Told::now(end, None);
        assert!(pace.is_now(2, told(1)) && pace.is_now(1, told(1)));
        assert!(!pace.is_now(1, told(3)) && !pace.is_now(1, told(2)));
        let (of, first, tenths) = due(&pace).await.unwrap();
        assert_eq!((of, first.end, tenths), (1, 3, 10));
        // That was a new beginning for the one, and not for the other.
        assert!(!pace.is_now(1, told(4)) && pace.is_now(2, told(5)));
        let (of, second, tenths) = due(&pace).await.unwrap();
        assert_eq!((of, second.end, tenths), (1, 4, 10));
        assert!(due(&pace).await.is_none());
        assert!(pace.is_now(1, told(6)), "nothing was held back");
        assert!(!pace.is_now(1, told(7)));
        pace.withdraw(&1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(due(&pace).await.is_none());
        let intervals = pace.intervals();
        assert!(intervals.held.is_empty() && intervals.ends.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_wrote_all_of_it_is_left_out_and_nobody_else() {
        let (pace, hub) = (Pace::default(), Hub::default());
        let [alice, bob] = [hub.next_id(), hub.next_id()];
        for (excepts, wanted) in [(vec![alice, alice], Some(alice)), (vec![alice, bob, alice], None)] {
            assert!(pace.is_now(1, Told::now(0, Some(bob))));
            let first = Told::now(0, Some(excepts[0]));
            assert!(!pace.is_now(1, first));
            excepts[1..].iter().for_each(|except| assert!(!pace.is_now(1, Told::now(0, Some(*except)))));
            let (_, told, _) = due(&pace).await.unwrap();
            assert_eq!((told.except, told.since), (wanted, first.since));
            assert!(due(&pace).await.is_none());
        }
    }
}
