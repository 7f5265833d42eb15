//! What this process shows: its own values, when each is sent next, and who set it. No clock: time is an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::runtime::{Instant, SystemTime};

use bytes::Bytes;

use super::{PresenceError, PresenceValue};
use crate::engine::Origin;
use crate::id::{DocumentId, PeerId};
use crate::limits::{
    PRESENCE_ANSWER_MS, PRESENCE_BATCH_MS, PRESENCE_KEY_BYTES_MAX, PRESENCE_KEYS_MAX, PRESENCE_OWN_BYTES_MAX,
    PRESENCE_OWN_MAX, PRESENCE_RENEWAL_MS_MAX, PRESENCE_TTL_MS_MAX, PRESENCE_TTL_MS_MIN, PRESENCE_VALUE_BYTES_MAX,
};

/// How long values of one document are gathered.
const BATCH: Duration = Duration::from_millis(PRESENCE_BATCH_MS);

/// One handle of the application: what it set ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner(pub(super) u64);

/// A value that is to be sent, or taken back when its time to live is 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) document: DocumentId,
    pub(super) key: String,
    pub(super) data: Bytes,
    pub(super) ttl_ms: u64,
}

/// The own values of all documents.
#[derive(Default)]
pub(super) struct Own {
    values: BTreeMap<(DocumentId, String), Held>,
    bytes: usize,
    /// When the values of a document were, or will be, sent again because somebody came.
    answers: HashMap<DocumentId, Instant>,
    /// Rises with everything that is set or taken back.
    version: u64,
}

struct Held {
    data: Bytes,
    ttl: Duration,
    owner: Owner,
    since: SystemTime,
    revision: u64,
    due: Instant,
    was_sent: bool,
}

impl Own {
    /// Sets a value; it is due shortly.
    pub(super) fn set(
        &mut self,
        owner: Owner,
        what: Due,
        now: Instant,
        clock: SystemTime,
    ) -> Result<(), PresenceError> {
        let Due { document, key, data, ttl_ms } = what;
        check(&key, &data, ttl_ms)?;
        let place = (document, key);
        let ttl = Duration::from_millis(ttl_ms);
        if let Some(old) = self.values.get_mut(&place)
            && old.data == data
            && old.ttl == ttl
        {
            // Nothing is new but who shows it.
            old.owner = owner;
            return Ok(());
        }
        let old = self.values.get(&place);
        let old_bytes = old.map_or(0, |old| bytes_of(&place, &old.data));
        let bytes = self.bytes - old_bytes + bytes_of(&place, &data);
        let of_document = self.of(&document).count();
        if bytes > PRESENCE_OWN_BYTES_MAX
            || old.is_none() && (of_document >= PRESENCE_KEYS_MAX || self.values.len() >= PRESENCE_OWN_MAX)
        {
            return Err(PresenceError::TooMany);
        }
        let (since, due, was_sent) = match old {
            Some(old) => (old.since, old.due.min(now + BATCH), old.was_sent),
            None => (clock, now + BATCH, false),
        };
        self.version += 1;
        self.bytes = bytes;
        self.values.insert(place, Held { data, ttl, owner, since, revision: self.version, due, was_sent });
        Ok(())
    }

    /// Takes a value back. Returns what to tell the others at once, if they may know of it.
    pub(super) fn clear(&mut self, document: DocumentId, key: &str) -> Option<Due> {
        let place = (document, key.to_owned());
        let held = self.values.remove(&place)?;
        self.bytes -= bytes_of(&place, &held.data);
        self.version += 1;
        if self.of(&document).next().is_none() {
            self.answers.remove(&document);
        }
        held.was_sent.then_some(Due { document, key: place.1, data: Bytes::new(), ttl_ms: 0 })
    }

    /// Takes back what a handle set. Returns what to tell the others at once.
    pub(super) fn release(&mut self, owner: Owner) -> Vec<Due> {
        let set_by = self.values.iter().filter(|(_, held)| held.owner == owner);
        let places: Vec<(DocumentId, String)> = set_by.map(|(place, _)| place.clone()).collect();
        places.into_iter().filter_map(|(document, key)| self.clear(document, &key)).collect()
    }

    /// Sees to it that everything about a document is sent soon, because somebody came who may not know it.
    pub(super) fn answer(&mut self, document: DocumentId, now: Instant, jitter: Duration) {
        if self.of(&document).next().is_none() {
            return;
        }
        let at = match self.answers.get(&document) {
            // It is under way already.
            Some(last) if *last > now => return,
            Some(last) => (now + jitter).max(*last + Duration::from_millis(PRESENCE_ANSWER_MS)),
            None => now + jitter,
        };
        self.answers.insert(document, at);
        for (_, held) in self.of_mut(&document) {
            held.due = held.due.min(at);
        }
    }

    /// Sees to it that everything about a document is sent soon: before it was here, nobody was told. Says whether there is anything.
    pub(super) fn renew(&mut self, document: DocumentId, now: Instant) -> bool {
        let mut any = false;
        for (_, held) in self.of_mut(&document) {
            held.due = held.due.min(now + BATCH);
            any = true;
        }
        any
    }

    /// Sees to it that everything is sent soon: a connection is there that knows none of it.
    pub(super) fn renew_all(&mut self, now: Instant) {
        self.values.values_mut().for_each(|held| held.due = held.due.min(now + BATCH));
    }

    /// Takes out what is due: of each document that has something due, all that would be within the time of a batch. Cost: a look
    /// at each own value, 1,024 at most.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Due> {
        let is_due = |(_, held): &(_, &Held)| held.due <= now;
        let documents: BTreeSet<DocumentId> = self.values.iter().filter(is_due).map(|((of, _), _)| *of).collect();
        let mut taken = Vec::new();
        for document in documents {
            for (key, held) in self.of_mut(&document).filter(|(_, held)| held.due <= now + BATCH) {
                let ttl_ms = u64::try_from(held.ttl.as_millis()).unwrap_or(PRESENCE_TTL_MS_MAX);
                taken.push(Due { document, key: key.clone(), data: held.data.clone(), ttl_ms });
                held.due = now + renewal(held.ttl);
                held.was_sent = true;
            }
        }
        taken
    }

    /// Returns when something is due next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.values.values().map(|held| held.due).min()
    }

    /// Returns a number that is another one when something was set or taken back.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Returns the values about a document with the numbers of their data.
    pub(super) fn values(&self, document: &DocumentId, author: &PeerId) -> Vec<(PresenceValue, u64)> {
        let shown = self.of(document).map(|(key, held)| {
            let (author, key, data) = (author.clone(), key.clone(), held.data.clone());
            (PresenceValue { author, key, data, since: held.since, origin: Origin::Local }, held.revision)
        });
        shown.collect()
    }

    fn of(&self, document: &DocumentId) -> impl Iterator<Item = (&String, &Held)> {
        let (document, first) = (*document, (*document, String::new()));
        let from = self.values.range(first..);
        from.take_while(move |((of, _), _)| *of == document).map(|((_, key), held)| (key, held))
    }

    fn of_mut(&mut self, document: &DocumentId) -> impl Iterator<Item = (&String, &mut Held)> {
        let (document, first) = (*document, (*document, String::new()));
        let from = self.values.range_mut(first..);
        from.take_while(move |((of, _), _)| *of == document).map(|((_, key), held)| (key, held))
    }
}

/// How long after it was sent a value is sent again: a lost one, or two, do not end it.
fn renewal(ttl: Duration) -> Duration {
    (ttl / 3).min(Duration::from_millis(PRESENCE_RENEWAL_MS_MAX))
}

fn bytes_of(place: &(DocumentId, String), data: &Bytes) -> usize {
    place.1.len() + data.len()
}

fn check(key: &str, data: &Bytes, ttl_ms: u64) -> Result<(), PresenceError> {
    if key.len() > PRESENCE_KEY_BYTES_MAX {
        return Err(PresenceError::KeyTooLong { found: key.len() });
    }
    if data.is_empty() {
        return Err(PresenceError::Empty);
    }
    if data.len() > PRESENCE_VALUE_BYTES_MAX {
        return Err(PresenceError::TooLong { found: data.len() });
    }
    if !(PRESENCE_TTL_MS_MIN..=PRESENCE_TTL_MS_MAX).contains(&ttl_ms) {
        return Err(PresenceError::TimeToLive { found_ms: ttl_ms });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
