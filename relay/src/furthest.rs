//! How far devices have each space, as much of it as matters to the others.
//!
//! Who wrote something wants to know whether another device has it: how far the furthest other one is. So of each space the
//! two furthest devices are remembered, and a cursor that is behind both is no news to anybody. That also keeps a space with
//! many readers quiet, who all move their cursors after each commit.
//!
//! Memory only: after a start, devices tell their cursors when they come back.

use std::collections::{HashMap, VecDeque};

use rejoin::{SpaceId, StorageId};

use crate::limits::FURTHEST_SPACES_MAX;

/// The two furthest devices of each space. Of too many spaces, the one that is known for longest is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Furthest {
    spaces: HashMap<SpaceId, Vec<(StorageId, u64)>>,
    order: VecDeque<SpaceId>,
}

impl Furthest {
    /// Notes how far a device has a space. Returns whether that is news to any other.
    pub(crate) fn note(&mut self, space: &SpaceId, storage: &StorageId, position: u64) -> bool {
        if !self.spaces.contains_key(space) {
            if self.order.len() >= FURTHEST_SPACES_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.spaces.remove(&oldest);
            }
            self.order.push_back(*space);
        }
        let devices = self.spaces.entry(*space).or_default();
        let before = devices.clone();
        match devices.iter_mut().find(|(known, _)| known == storage) {
            Some((_, known)) => *known = position.max(*known),
            None => devices.push((*storage, position)),
        }
        // Of two that are equally far the one stays that was there first.
        devices.sort_by_key(|(_, position)| std::cmp::Reverse(*position));
        devices.truncate(2);
        *devices != before
    }

    /// Returns the furthest devices of a space, at most two.
    pub(crate) fn of(&self, space: &SpaceId) -> Vec<(StorageId, u64)> {
        self.spaces.get(space).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: SpaceId = SpaceId::from_bytes([1; 16]);

    fn device(number: u8) -> StorageId {
        StorageId::from_bytes([number; 16])
    }

    #[test]
    fn third_device_that_comes_to_the_same_place_is_no_news() {
        let mut furthest = Furthest::default();
        assert!(furthest.note(&SPACE, &device(1), 5));
        assert!(furthest.note(&SPACE, &device(2), 5));
        assert!(!furthest.note(&SPACE, &device(3), 5));
        assert!(!furthest.note(&SPACE, &device(1), 4));
        assert!(furthest.note(&SPACE, &device(3), 6));
        assert_eq!(furthest.of(&SPACE), [(device(3), 6), (device(1), 5)]);
        // For the third device itself the second-furthest counts.
        assert!(furthest.note(&SPACE, &device(2), 6));
    }

    #[test]
    fn spaces_known_for_longest_are_forgotten_first() {
        let mut furthest = Furthest::default();
        let space = |number: usize| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            SpaceId::from_bytes(bytes)
        };
        assert!((0..=FURTHEST_SPACES_MAX).all(|number| furthest.note(&space(number), &device(1), 1)));
        assert_eq!(furthest.of(&space(0)), []);
        assert_eq!(furthest.of(&space(1)), [(device(1), 1)]);
        assert_eq!(furthest.spaces.len(), FURTHEST_SPACES_MAX);
    }
}
