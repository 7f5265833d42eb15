//! A set of positions, kept as ranges.

use std::collections::BTreeMap;

use crate::limits::ACKED_RANGES_MAX;

/// Positions that were told ahead of those before them. What does not fit is forgotten, which costs a comparison.
#[derive(Debug, Default, Clone)]
pub(super) struct Ranges {
    /// First position -> last position. No two touch.
    ranges: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Adds the positions from `first` to `last`.
    pub(super) fn insert(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        let (mut first, mut last) = (first, last);
        while let Some((start, end)) = self.touching(first, last) {
            self.ranges.remove(&start);
            first = first.min(start);
            last = last.max(end);
        }
        self.ranges.insert(first, last);
        if self.ranges.len() > ACKED_RANGES_MAX {
            self.ranges.pop_last();
        }
    }

    /// Returns up to where all is told if all up to `told` is, and forgets what is below that.
    pub(super) fn advance(&mut self, told: u64) -> u64 {
        let mut told = told;
        while let Some(entry) = self.ranges.first_entry() {
            if *entry.key() > told.saturating_add(1) {
                break;
            }
            told = told.max(entry.remove());
        }
        told
    }

    /// Tells whether a position is in the set.
    pub(super) fn contains(&self, position: u64) -> bool {
        self.ranges.range(..=position).next_back().is_some_and(|(_, last)| *last >= position)
    }

    /// Returns the greatest position, or 0.
    pub(super) fn greatest(&self) -> u64 {
        self.ranges.last_key_value().map_or(0, |(_, last)| *last)
    }

    fn touching(&self, first: u64, last: u64) -> Option<(u64, u64)> {
        let (start, end) = self.ranges.range(..=last.saturating_add(1)).next_back()?;
        (end.saturating_add(1) >= first).then_some((*start, *end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_told_once_those_before_them_are() {
        let mut ranges = Ranges::default();
        for (first, last) in [(7, 8), (3, 3), (5, 5), (4, 4), (20, 30), (25, 40)] {
            ranges.insert(first, last);
        }
        assert!(ranges.contains(4) && !ranges.contains(6) && ranges.contains(40) && !ranges.contains(41));
        assert_eq!(ranges.greatest(), 40);
        assert_eq!(ranges.advance(1), 1);
        assert_eq!(ranges.advance(2), 5);
        assert_eq!(ranges.advance(6), 8);
        assert_eq!(ranges.advance(50), 50);
        assert_eq!(ranges.greatest(), 0);
    }

    #[test]
    fn too_many_ranges_are_forgotten_from_the_end() {
        let mut ranges = Ranges::default();
        for position in 0..2 * ACKED_RANGES_MAX as u64 {
            ranges.insert(position * 2 + 1, position * 2 + 1);
        }
        assert_eq!(ranges.ranges.len(), ACKED_RANGES_MAX);
        assert!(ranges.contains(1));
    }
}
