//! The throttle: of each kind of line a burst, then a few in a time. What is finer than `info` is not throttled: whoever asks for it
//! wants it all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};

use crate::limits::{LOG_LINES_BURST, LOG_LINES_INTERVAL};

/// How many more lines of each kind may come.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// By the place in the code: there are not many.
    kinds: Mutex<HashMap<Identifier, Kind>>,
}

#[derive(Debug)]
struct Kind {
    what: &'static Metadata<'static>,
    /// How many may come now.
    left: u32,
    /// From when on `left` was counted.
    since: Instant,
    left_out: u64,
}

impl Kind {
    /// Says whether a line may come now, and counts it.
    fn admit(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.since).as_nanos() / LOG_LINES_INTERVAL.as_nanos();
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        if gained >= LOG_LINES_BURST - self.left {
            (self.left, self.since) = (LOG_LINES_BURST, now);
        } else {
            self.left += gained;
            self.since += LOG_LINES_INTERVAL * gained;
        }
        let may = self.left > 0;
        if may {
            self.left -= 1
        } else {
            self.left_out += 1
        }
        may
    }
}

impl Throttle {
    fn admit(&self, what: &'static Metadata<'static>, now: Instant) -> bool {
        let fresh = || Kind { what, left: LOG_LINES_BURST, since: now, left_out: 0 };
        self.kinds().entry(what.callsite()).or_insert_with(fresh).admit(now)
    }

    /// Returns how many lines of which kind were left out since the last time.
    pub(super) fn take_left_out(&self) -> Vec<(&'static Metadata<'static>, u64)> {
        let mut kinds = self.kinds();
        let left_out = kinds.values_mut().filter(|kind| kind.left_out > 0);
        left_out.map(|kind| (kind.what, std::mem::take(&mut kind.left_out))).collect()
    }

    fn kinds(&self) -> MutexGuard<'_, HashMap<Identifier, Kind>> {
        // Nothing that runs under the lock panics half-way through a change.
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets through what the throttle admits.
pub(super) struct Kept(pub(super) Arc<Throttle>);

impl<S: Subscriber> Filter<S> for Kept {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        *event.metadata().level() > Level::INFO || self.0.admit(event.metadata(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::{Layer, Registry};

    use super::*;

    #[derive(Clone, Default)]
    struct Counter(Arc<Mutex<u32>>);

    impl<S: Subscriber> Layer<S> for Counter {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            *self.0.lock().unwrap() += 1;
        }
    }

    #[test]
    fn kind_of_line_comes_in_a_burst_then_slowly_and_the_rest_is_counted() {
        let (throttle, counter) = (Arc::new(Throttle::default()), Counter::default());
        let subscriber = Registry::default().with(counter.clone().with_filter(Kept(Arc::clone(&throttle))));
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..LOG_LINES_BURST + 10 {
                tracing::info!(number, "one kind");
            }
            tracing::info!("another kind");
            (0..LOG_LINES_BURST + 10).for_each(|_| tracing::debug!("fine"));
        });
        let expected = LOG_LINES_BURST + 1 + LOG_LINES_BURST + 10;
        let seen = *counter.0.lock().unwrap();
        // A slow machine lets one or two more through.
        assert!((expected..expected + 10).contains(&seen), "{seen}");
        let left_out = throttle.take_left_out();
        assert_eq!(left_out.len(), 1);
        assert_eq!(left_out[0].1 + u64::from(seen), u64::from(expected) + 10);
        assert!(throttle.take_left_out().is_empty());
    }

    #[test]
    fn what_may_come_grows_with_time_up_to_a_burst() {
        let begun = Instant::now();
        tracing::subscriber::with_default(Registry::default(), || {
            let span = tracing::info_span!("any");
            let what = span.metadata().unwrap();
            let mut kind = Kind { what, left: 0, since: begun, left_out: 0 };
            assert!(!kind.admit(begun));
            assert!(kind.admit(begun + LOG_LINES_INTERVAL));
            assert!(!kind.admit(begun + LOG_LINES_INTERVAL));
            let later = begun + LOG_LINES_INTERVAL * 1_000_000;
            assert_eq!((0..2 * LOG_LINES_BURST).filter(|_| kind.admit(later)).count(), LOG_LINES_BURST as usize);
        });
    }
}
