//! What may be lost and costs no credit: presence, and how far other devices are. What a slow reader has not taken is dropped,
//! the oldest first.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::codec::v1::RelayMessage;
use crate::id::{SpaceId, StorageId};
use crate::limits::{PRESENCE_WAITING_BYTES_MAX, PRESENCE_WAITING_MAX, SEEN_WAITING_MAX};

struct Seen {
    space: SpaceId,
    storage: StorageId,
    position: u64,
}

/// What waits for a reader.
#[derive(Default)]
pub(super) struct Mail {
    /// The last position of each store, one entry a store and space.
    seen: VecDeque<Seen>,
    presence: VecDeque<(SpaceId, Bytes)>,
    presence_bytes: usize,
}

impl Mail {
    /// Adds how far a device is, in the place of what was said of it before. Cost: one look at each that waits.
    pub(super) fn add_seen(&mut self, space: SpaceId, storage: StorageId, position: u64) {
        if let Some(seen) = self.seen.iter_mut().find(|seen| seen.storage == storage && seen.space == space) {
            seen.position = seen.position.max(position);
            return;
        }
        if self.seen.len() == SEEN_WAITING_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(Seen { space, storage, position });
    }

    /// Adds a `presence` message.
    pub(super) fn add_presence(&mut self, space: SpaceId, frame: Bytes) {
        self.presence_bytes += frame.len();
        self.presence.push_back((space, frame));
        while self.presence.len() > PRESENCE_WAITING_MAX
            || (self.presence_bytes > PRESENCE_WAITING_BYTES_MAX && self.presence.len() > 1)
        {
            self.pop_presence();
        }
    }

    /// Forgets what is about a space.
    pub(super) fn forget(&mut self, space: &SpaceId) {
        self.seen.retain(|seen| seen.space != *space);
        self.presence.retain(|(of, _)| of != space);
        self.presence_bytes = self.presence.iter().map(|(_, frame)| frame.len()).sum();
    }

    /// Returns the next message.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        match self.seen.pop_front() {
            Some(Seen { space, storage, position }) => Some(RelayMessage::Seen { space, storage, position }.encode()),
            None => self.pop_presence(),
        }
    }

    fn pop_presence(&mut self) -> Option<Bytes> {
        let (_, frame) = self.presence.pop_front()?;
        self.presence_bytes -= frame.len();
        Some(frame)
    }
}
