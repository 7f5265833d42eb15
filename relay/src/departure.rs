//! Departures: what somebody showed is taken back when the connection it was shown over has ended, or left the space.
//!
//! Without that it would be the silence that tells, after as much as an hour. A value is taken back with its own number
//! (`core/docs/protocol-v1.md`), and only after [`PRESENCE_DEPARTURE_GRACE`]: whoever comes back within it and shows the value again,
//! with a greater number, never seemed to be gone; and whoever comes back later has the last word too.
//!
//! What is remembered for that is bounded for each connection, and so is what waits for all of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rejoin::codec::v1::Presence;
use rejoin::limits::PRESENCE_TTL_MS_MAX;
use rejoin::{DocumentId, PeerId, SpaceId};

use crate::limits::{PRESENCE_DEPARTING_MAX, PRESENCE_DEPARTURE_GRACE, PRESENCE_SHOWN_MAX};
use crate::presence;
use crate::shared::Shared;

/// What one connection showed of its peer, as far as it lives.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// By space, document and key.
    values: HashMap<(SpaceId, DocumentId, String), Value>,
    author: Option<PeerId>,
}

#[derive(Debug)]
struct Value {
    sequence: u64,
    ends: Instant,
}

impl Shown {
    /// Remembers that a value was passed on, or taken back. What does not fit, or is of another author than the first, is not
    /// remembered: it runs out by itself. Cost: one look-up; at the bound, one look at each value.
    pub(crate) fn note(&mut self, space: &SpaceId, value: &Presence, now: Instant) {
        let Presence { author, document, key, sequence, ttl_ms, .. } = value;
        if self.author.get_or_insert_with(|| author.clone()) != author {
            return;
        }
        let place = (*space, *document, key.clone());
        if self.values.get(&place).is_some_and(|known| known.sequence > *sequence) {
            return;
        }
        self.values.remove(&place);
        if *ttl_ms == 0 {
            return;
        }
        if self.values.len() >= PRESENCE_SHOWN_MAX {
            self.values.retain(|_, value| value.ends > now);
        }
        if self.values.len() < PRESENCE_SHOWN_MAX {
            let ends = now + Duration::from_millis((*ttl_ms).min(PRESENCE_TTL_MS_MAX));
            self.values.insert(place, Value { sequence: *sequence, ends });
        }
    }

    /// Forgets what was shown in some spaces, and returns what takes back those values that live, space by space.
    pub(crate) fn take_back(&mut self, is_left: impl Fn(&SpaceId) -> bool, now: Instant) -> Departing {
        let mut departing = Departing::default();
        let Some(author) = &self.author else { return departing };
        let left = self.values.extract_if(|(space, ..), _| is_left(space)).filter(|(_, value)| value.ends > now);
        for ((space, document, key), Value { sequence, .. }) in left {
            let value = Presence { author: author.clone(), document, key, sequence, ttl_ms: 0, data: Bytes::new() };
            departing.entry(space).or_default().push(value);
        }
        departing
    }
}

/// What takes values back, by their spaces.
pub(crate) type Departing = HashMap<SpaceId, Vec<Presence>>;

/// How many values wait until they are taken back.
#[derive(Debug, Default)]
pub(crate) struct Waiting(AtomicUsize);

/// A place among those that wait.
struct Place(Arc<Shared>, usize);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.departing.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// Tells everybody after a while that values are taken back; at once if too many wait for that already.
pub(crate) fn tell(shared: &Arc<Shared>, departing: Departing) {
    // Of a relay that stops everybody takes leave.
    if departing.is_empty() || *shared.draining.borrow() {
        return;
    }
    let count = departing.values().map(Vec::len).sum();
    let waiting = shared.departing.0.fetch_add(count, Ordering::Relaxed).saturating_add(count);
    let place = Place(Arc::clone(shared), count);
    if waiting > PRESENCE_DEPARTING_MAX {
        return tell_now(shared, departing);
    }
    tokio::spawn(async move {
        let mut draining = place.0.draining.clone();
        tokio::select! {
            () = tokio::time::sleep(PRESENCE_DEPARTURE_GRACE) => tell_now(&place.0, departing),
            // Nothing of the relay is kept alive by this.
            () = crate::shared::drained(&mut draining) => {}
        }
    });
}

fn tell_now(shared: &Shared, departing: Departing) {
    for (space, values) in departing {
        if let Err(error) = presence::take_back(shared, &space, &values) {
            tracing::error!(%error, "failed to read the store");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: SpaceId = SpaceId::from_bytes([5; 16]);
    const OTHER: SpaceId = SpaceId::from_bytes([6; 16]);

    fn value(author: &str, key: usize, sequence: u64, ttl_ms: u64) -> Presence {
        let (author, document) = (PeerId::new(author).expect("it is short"), DocumentId::from_bytes([7; 16]));
        Presence { author, document, key: key.to_string(), sequence, ttl_ms, data: Bytes::from_static(b"1") }
    }

    /// What is taken back in one space, by key, with its number.
    fn taken_back(shown: &mut Shown, space: SpaceId, now: Instant) -> Vec<(String, u64)> {
        let mut departing = shown.take_back(|left| *left == space, now);
        let values = departing.remove(&space).unwrap_or_default();
        assert!(departing.is_empty());
        assert!(
            values.iter().all(|value| value.ttl_ms == 0 && value.data.is_empty() && value.author.as_str() == "ada")
        );
        let mut taken: Vec<_> = values.into_iter().map(|value| (value.key, value.sequence)).collect();
        taken.sort();
        taken
    }

    #[test]
    fn what_lives_is_taken_back_once_with_its_own_number() {
        let (mut shown, now) = (Shown::default(), Instant::now());
        shown.note(&SPACE, &value("ada", 1, 10, 60_000), now);
        shown.note(&SPACE, &value("ada", 1, 12, 60_000), now);
        shown.note(&SPACE, &value("ada", 1, 11, 60_000), now);
        shown.note(&SPACE, &value("ada", 2, 13, 1_000), now);
        shown.note(&SPACE, &value("ada", 3, 14, 60_000), now);
        shown.note(&SPACE, &value("ada", 3, 15, 0), now);
        shown.note(&SPACE, &value("ben", 4, 16, 60_000), now);
        shown.note(&OTHER, &value("ada", 5, 17, 60_000), now);
        let later = now + Duration::from_secs(2);
        assert_eq!(taken_back(&mut shown, SPACE, later), [("1".to_owned(), 12)]);
        assert_eq!(taken_back(&mut shown, SPACE, later), []);
        assert_eq!(taken_back(&mut shown, OTHER, later), [("5".to_owned(), 17)]);
    }

    #[test]
    fn values_beyond_the_bound_run_out_and_those_that_ended_make_room() {
        let (mut shown, now) = (Shown::default(), Instant::now());
        for key in 0..=PRESENCE_SHOWN_MAX {
            let ttl_ms = if key == 0 { 1_000 } else { 60_000 };
            shown.note(&SPACE, &value("ada", key, 1, ttl_ms), now);
        }
        assert_eq!(shown.values.len(), PRESENCE_SHOWN_MAX);
        // One that is known is renewed all the same.
        shown.note(&SPACE, &value("ada", 1, 2, 60_000), now);
        let later = now + Duration::from_secs(2);
        shown.note(&SPACE, &value("ada", 1_000, 3, 60_000), later);
        let taken = taken_back(&mut shown, SPACE, later);
        assert_eq!(taken.len(), PRESENCE_SHOWN_MAX);
        assert!(taken.contains(&("1000".to_owned(), 3)) && taken.contains(&("1".to_owned(), 2)));
        assert!(!taken.contains(&(PRESENCE_SHOWN_MAX.to_string(), 1)));
    }
}
