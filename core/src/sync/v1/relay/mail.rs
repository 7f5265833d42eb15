//! What may be lost and costs no credit: presence, and how far other devices are. What a slow reader has not taken is dropped,
//! the oldest first.

use std::collections::VecDeque;

use bytes::Bytes;

use super::output::Grants;
use super::rights::Rights;
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

    /// Returns the next message that the client may read by now, and drops those before it.
    pub(super) fn pop(&mut self, grants: &dyn Grants) -> Option<Bytes> {
        while let Some(Seen { space, storage, position }) = self.seen.pop_front() {
            if grants.access(&space).is_some() {
                return Some(RelayMessage::Seen { space, storage, position }.encode());
            }
        }
        while let Some((space, frame)) = self.pop_presence() {
            if may_read(&Rights::new(grants, &space), &frame) {
                return Some(frame);
            }
        }
        None
    }

    fn pop_presence(&mut self) -> Option<(SpaceId, Bytes)> {
        let (space, frame) = self.presence.pop_front()?;
        self.presence_bytes -= frame.len();
        Some((space, frame))
    }
}

/// Says whether the client may read every document that a `presence` message is about. Where it was granted only some, those who
/// chose them get messages about single ones.
fn may_read(rights: &Rights<'_>, frame: &Bytes) -> bool {
    rights.sees_all()
        || matches!(RelayMessage::decode(frame), Ok(RelayMessage::Presence { values, .. })
            if values.iter().all(|value| rights.may_read(&value.document)))
}
