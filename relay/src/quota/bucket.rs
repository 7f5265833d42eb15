//! A token bucket that knows no clock: whoever asks says what time it is.
//!
//! It remembers one moment: when all that was taken has flowed off again. So it takes 16 bytes, nothing has to be refilled, and
//! the rate may change at any time. More may be taken than there is room for; then it takes so much longer until there is.

use std::time::Duration;

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// So often in `per`; 0 is no bound.
    count: u64,
    per: Duration,
    /// So often at once.
    burst: u64,
}

impl Rate {
    /// So often a second, and so often at once after it was quiet. A count of 0 is no bound.
    pub(crate) const fn per_second(count: u64, burst: u64) -> Self {
        Self { count, per: Duration::from_secs(1), burst }
    }

    /// So often a minute, and so often at once after it was quiet.
    pub(crate) const fn per_minute(count: u64, burst: u64) -> Self {
        Self { count, per: Duration::from_secs(60), burst }
    }

    /// How long it takes until so much has flowed off.
    fn span(&self, amount: u64) -> Duration {
        if self.count == 0 {
            return Duration::ZERO;
        }
        let nanos = u128::from(amount) * self.per.as_nanos() / u128::from(self.count);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// How much of a rate was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// When all has flowed off.
    clear_at: Duration,
}

impl Bucket {
    /// Takes an amount, whether there is room for it or not. Times are since any moment, the same for all calls.
    pub(crate) fn take(&mut self, now: Duration, amount: u64, rate: &Rate) {
        self.clear_at = self.clear_at.max(now).saturating_add(rate.span(amount));
    }

    /// Returns when there is room for one more: at once, if that is not above now.
    pub(crate) fn room_at(&self, rate: &Rate) -> Duration {
        if rate.count == 0 {
            return Duration::ZERO;
        }
        self.clear_at.saturating_add(rate.span(1)).saturating_sub(rate.span(rate.burst.max(1)))
    }

    /// Says whether nothing is left of what was taken.
    pub(crate) fn is_clear(&self, now: Duration) -> bool {
        self.clear_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Takes one at a time while there is room, and returns how many that were.
    fn taken_at(bucket: &mut Bucket, now: Duration, rate: &Rate) -> u64 {
        let mut count = 0;
        while bucket.room_at(rate) <= now && count < 1_000_000 {
            bucket.take(now, 1, rate);
            count += 1;
        }
        count
    }

    #[test]
    fn burst_is_reached_and_not_passed_and_comes_back_at_the_rate() {
        let rate = Rate::per_second(10, 25);
        let mut bucket = Bucket::default();
        assert_eq!(taken_at(&mut bucket, SECOND, &rate), 25);
        // A tenth of a second is one, and a moment less is none.
        let tenth = SECOND + SECOND / 10;
        assert_eq!(taken_at(&mut bucket, tenth.saturating_sub(Duration::from_nanos(1)), &rate), 0);
        assert_eq!(taken_at(&mut bucket, tenth, &rate), 1);
        assert_eq!(taken_at(&mut bucket, SECOND * 2, &rate), 9);
        // However long it was quiet, it is one burst and no more.
        assert_eq!(taken_at(&mut bucket, SECOND * 1_000, &rate), 25);
    }

    #[test]
    fn what_is_taken_above_the_burst_is_waited_for() {
        let rate = Rate::per_minute(60, 10);
        let mut bucket = Bucket::default();
        bucket.take(SECOND, 9, &rate);
        assert_eq!(bucket.room_at(&rate), SECOND);
        bucket.take(SECOND, 1, &rate);
        assert_eq!(bucket.room_at(&rate), SECOND * 2);
        bucket.take(SECOND, 100, &rate);
        assert_eq!(bucket.room_at(&rate), SECOND * 102);
        assert!(!bucket.is_clear(SECOND * 110) && bucket.is_clear(SECOND * 111));
    }

    #[test]
    fn rate_may_change_at_any_time() {
        let mut bucket = Bucket::default();
        bucket.take(SECOND, 100, &Rate::per_second(10, 1));
        assert_eq!(bucket.room_at(&Rate::per_second(10, 1)), SECOND * 11);
        assert!(bucket.room_at(&Rate::per_second(0, 1)).is_zero());
        assert_eq!(bucket.room_at(&Rate::per_second(1, 11)), SECOND);
    }

    #[test]
    fn nothing_overflows() {
        let rate = Rate::per_minute(1, u64::MAX);
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            bucket.take(Duration::MAX, u64::MAX, &rate);
        }
        assert!(!bucket.is_clear(SECOND));
        bucket.room_at(&rate);
        assert_eq!(taken_at(&mut Bucket::default(), SECOND, &Rate::per_second(0, 0)), 1_000_000);
        assert_eq!(taken_at(&mut Bucket::default(), SECOND, &Rate::per_second(5, 0)), 1);
    }
}
