//! Presence values that wait for the socket: few, and always the newest.

use std::collections::VecDeque;

use crate::codec::v1::{ClientMessage, Presence};
use crate::id::SpaceId;
use crate::limits::{
    PRESENCE_BYTES_MAX, PRESENCE_KEY_BYTES_MAX, PRESENCE_QUEUE_MAX, PRESENCE_TTL_MS_MAX, PRESENCE_VALUES_MAX,
};

/// What waits, oldest first.
#[derive(Debug, Default)]
pub(super) struct PresenceQueue {
    values: VecDeque<(SpaceId, Presence)>,
    bytes: usize,
}

impl PresenceQueue {
    /// Adds values; each stands in the place of an older one with the same document and key. What no relay takes is left out.
    pub(super) fn push(&mut self, space: SpaceId, values: Vec<Presence>) {
        for value in values {
            let is_sound = value.data.len() <= PRESENCE_BYTES_MAX
                && value.key.len() <= PRESENCE_KEY_BYTES_MAX
                && value.ttl_ms <= PRESENCE_TTL_MS_MAX;
            if !is_sound {
                continue;
            }
            let same = |(of, old): &(SpaceId, Presence)| {
                *of == space && (old.document, &old.key) == (value.document, &value.key)
            };
            if let Some(index) = self.values.iter().position(same) {
                self.remove(index);
            }
            self.bytes += value.data.len();
            self.values.push_back((space, value));
            while self.values.len() > PRESENCE_QUEUE_MAX || self.bytes > PRESENCE_BYTES_MAX {
                self.remove(0);
            }
        }
    }

    /// Takes a message of values of one space, with at most so many bytes of data.
    pub(super) fn next(&mut self, bytes_max: u64) -> Option<ClientMessage> {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(PRESENCE_BYTES_MAX);
        let mut taken = Vec::new();
        let (mut bytes, mut space) = (0, None);
        while taken.len() < PRESENCE_VALUES_MAX {
            let Some((of, value)) = self.values.front() else { break };
            let (of, length) = (*of, value.data.len());
            if length > bytes_max {
                // This relay takes none so long.
                self.remove(0);
                continue;
            }
            if space.is_some_and(|space| space != of) || bytes + length > bytes_max {
                break;
            }
            space = Some(of);
            bytes += length;
            taken.extend(self.remove(0));
        }
        space.map(|space| ClientMessage::Presence { space, values: taken })
    }

    fn remove(&mut self, index: usize) -> Option<Presence> {
        let (_, value) = self.values.remove(index)?;
        self.bytes -= value.data.len();
        Some(value)
    }
}
