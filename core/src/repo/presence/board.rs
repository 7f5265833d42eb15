//! What others show: their living values, in bounded memory. No clock: time is an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::runtime::{Instant, SystemTime};

use bytes::Bytes;

use super::PresenceValue;
use crate::engine::Origin;
use crate::id::{DocumentId, PeerId};
use crate::limits::{
    PRESENCE_AUTHORS_MAX, PRESENCE_GONE_MS, PRESENCE_KEPT_BYTES_MAX, PRESENCE_KEPT_VALUE_BYTES, PRESENCE_KEY_BYTES_MAX,
    PRESENCE_KEYS_MAX, PRESENCE_TTL_MS_MAX, PRESENCE_VALUE_BYTES_MAX,
};
use crate::repo::Ephemeral;

/// The living values of others, of all documents.
#[derive(Default)]
pub(super) struct Board {
    rooms: HashMap<DocumentId, Room>,
    /// Which value was heard when: the least is the one that was not renewed for longest.
    heard: BTreeMap<u64, Place>,
    /// When each ends.
    ends: BTreeSet<(Instant, u64)>,
    bytes: usize,
    /// Rises with everything that is heard or ends.
    ticket: u64,
}

/// What is shown about one document.
#[derive(Default)]
struct Room {
    authors: HashMap<PeerId, BTreeMap<String, Kept>>,
    /// The ticket of the last change that can be seen.
    version: u64,
}

/// A value, or that it was taken back.
struct Kept {
    data: Option<Bytes>,
    sequence: u64,
    since: SystemTime,
    /// The ticket at which its data became what it is.
    revision: u64,
    ends: Instant,
    ticket: u64,
}

#[derive(Clone)]
struct Place {
    document: DocumentId,
    author: PeerId,
    key: String,
}

/// What became of a value that was heard.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// Something can be seen to be different.
    pub(super) is_change: bool,
    /// Its author showed nothing about this document before.
    pub(super) is_new_author: bool,
}

impl Board {
    /// Takes in a value of somebody else. One that is longer than what is kept is passed over. Cost: some lookups; where a bound
    /// is reached, one look at each author or key of the document.
    pub(super) fn hear(&mut self, message: &Ephemeral, now: Instant, clock: SystemTime) -> Heard {
        let Ephemeral { document, sender, key, count, data, ttl_ms, .. } = message;
        if data.len() > PRESENCE_VALUE_BYTES_MAX || key.len() > PRESENCE_KEY_BYTES_MAX {
            return Heard::default();
        }
        let of_author = self.rooms.get(document).and_then(|room| room.authors.get(sender));
        let old = of_author.and_then(|values| values.get(key));
        // A relay takes a value back with the value's own number, so that it means that one and none that came after it.
        let is_late =
            |old: &Kept| old.sequence >= *count && (*ttl_ms > 0 || old.sequence > *count || old.data.is_none());
        if old.is_some_and(is_late) {
            return Heard::default();
        }
        let is_known = of_author.is_some_and(|values| values.values().any(|kept| kept.data.is_some()));
        let is_alive = *ttl_ms > 0;
        let shown = old.and_then(|old| old.data.as_ref().map(|data| (data, old.since, old.revision)));
        let is_change = match &shown {
            Some((shown, ..)) => !is_alive || *shown != data,
            None => is_alive,
        };
        let ticket = self.ticket + 1;
        let (since, revision) = match &shown {
            Some((_, since, revision)) => (*since, if is_change { ticket } else { *revision }),
            None => (clock, ticket),
        };
        let lives_ms = if is_alive { (*ttl_ms).min(PRESENCE_TTL_MS_MAX) } else { PRESENCE_GONE_MS };
        let kept = Kept {
            // A slice would keep the whole message in memory.
            data: is_alive.then(|| Bytes::copy_from_slice(data)),
            sequence: *count,
            since,
            revision,
            ends: now + Duration::from_millis(lives_ms),
            ticket,
        };
        self.ticket = ticket;
        let place = Place { document: *document, author: sender.clone(), key: key.clone() };
        let before = self.version(document);
        self.remove(&place);
        let made_room = self.make_room(&place, place.bytes(&kept));
        self.put(place, kept, if is_change { ticket } else { before });
        Heard { is_change: is_change || made_room, is_new_author: is_alive && !is_known }
    }

    /// Ends what is over. Says whether something can be seen to be different.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let mut is_change = false;
        while let Some((ends, ticket)) = self.ends.first().copied()
            && ends <= now
        {
            is_change |= self.drop_ticket(ticket);
        }
        is_change
    }

    /// Returns when the next value ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.ends.first().map(|(ends, _)| *ends)
    }

    /// Returns a number that is another one when what is shown about a document is different.
    pub(super) fn version(&self, document: &DocumentId) -> u64 {
        self.rooms.get(document).map_or(0, |room| room.version)
    }

    /// Returns the living values about a document with the numbers of their data, in no order.
    pub(super) fn values(&self, document: &DocumentId, now: Instant) -> Vec<(PresenceValue, u64)> {
        let Some(room) = self.rooms.get(document) else { return Vec::new() };
        let mut values = Vec::new();
        for (author, of_author) in &room.authors {
            for (key, kept) in of_author {
                if let Some(data) = &kept.data
                    && kept.ends > now
                {
                    let (author, key, data, since) = (author.clone(), key.clone(), data.clone(), kept.since);
                    values.push((PresenceValue { author, key, data, since, origin: Origin::Remote }, kept.revision));
                }
            }
        }
        values
    }

    /// Drops what was not renewed for longest until one more value fits. Says whether that can be seen.
    fn make_room(&mut self, place: &Place, bytes: usize) -> bool {
        let mut is_change = false;
        if let Some(room) = self.rooms.get(&place.document) {
            let latest = |values: &BTreeMap<String, Kept>| values.values().map(|kept| kept.ticket).max();
            match room.authors.get(&place.author) {
                Some(values) if values.len() >= PRESENCE_KEYS_MAX => {
                    let oldest = values.values().map(|kept| kept.ticket).min();
                    is_change |= oldest.is_some_and(|ticket| self.drop_ticket(ticket));
                }
                None if room.authors.len() >= PRESENCE_AUTHORS_MAX => {
                    let unheard = room.authors.values().min_by_key(|values| latest(values));
                    let tickets: Vec<u64> = unheard.into_iter().flatten().map(|(_, kept)| kept.ticket).collect();
                    for ticket in tickets {
                        is_change |= self.drop_ticket(ticket);
                    }
                }
                _ => {}
            }
        }
        while self.bytes + bytes > PRESENCE_KEPT_BYTES_MAX
            && let Some(ticket) = self.heard.keys().next().copied()
        {
            is_change |= self.drop_ticket(ticket);
        }
        is_change
    }

    fn put(&mut self, place: Place, kept: Kept, version: u64) {
        self.bytes += place.bytes(&kept);
        self.ends.insert((kept.ends, kept.ticket));
        self.heard.insert(kept.ticket, place.clone());
        let Place { document, author, key } = place;
        let room = self.rooms.entry(document).or_default();
        // The room may have been empty for a moment, or something else may have gone from it.
        room.version = room.version.max(version);
        room.authors.entry(author).or_default().insert(key, kept);
    }

    /// Drops a value. Says whether it could be seen.
    fn drop_ticket(&mut self, ticket: u64) -> bool {
        let Some(place) = self.heard.get(&ticket).cloned() else { return false };
        let was_alive = self.remove(&place);
        if was_alive {
            self.ticket += 1;
            if let Some(room) = self.rooms.get_mut(&place.document) {
                room.version = self.ticket;
            }
        }
        was_alive
    }

    fn remove(&mut self, place: &Place) -> bool {
        let Some(room) = self.rooms.get_mut(&place.document) else { return false };
        let Some(values) = room.authors.get_mut(&place.author) else { return false };
        let Some(kept) = values.remove(&place.key) else { return false };
        if values.is_empty() {
            room.authors.remove(&place.author);
        }
        if room.authors.is_empty() {
            self.rooms.remove(&place.document);
        }
        self.heard.remove(&kept.ticket);
        self.ends.remove(&(kept.ends, kept.ticket));
        self.bytes -= place.bytes(&kept);
        kept.data.is_some()
    }
}

impl Place {
    /// What a value here takes in memory: its names are there twice.
    fn bytes(&self, kept: &Kept) -> usize {
        let names = 2 * (self.author.as_str().len() + self.key.len());
        PRESENCE_KEPT_VALUE_BYTES + names + kept.data.as_ref().map_or(0, Bytes::len)
    }
}

#[cfg(test)]
mod tests;
