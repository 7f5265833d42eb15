//! How long to wait before the next try.

use std::time::Duration;

/// The first wait, at most.
const FIRST: Duration = Duration::from_millis(250);
/// Every wait, at most.
const LONGEST: Duration = Duration::from_secs(30);

/// Doubles the bound with every failure and draws the wait below it at random, so that the clients of a relay that was
/// restarted do not all come back in the same moment.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Returns the next wait: between half of the bound and the bound.
    pub(super) fn next_delay(&mut self, random: u64) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures += 1;
        let half = bound / 2;
        let spread = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_millis(random % spread)
    }

    /// Begins anew: the relay was reached.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_anew() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..40).map(|index| backoff.next_delay(index * 7_919)).collect();
        assert!(waits[0] >= FIRST / 2 && waits[0] <= FIRST);
        assert!(waits.iter().all(|wait| *wait <= LONGEST));
        assert!(waits[20..].iter().all(|wait| *wait >= LONGEST / 2));
        backoff.reset();
        assert!(backoff.next_delay(1) <= FIRST);
    }
}
