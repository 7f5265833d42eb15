//! Which positions an `ack` told, so that they are not told again.

use std::collections::BTreeMap;

use crate::limits::OWN_RANGES_MAX;

/// Ranges of positions that the reader wrote itself and has not come to yet.
#[derive(Debug, Default)]
pub(super) struct OwnRanges {
    /// The last position of each by its first; they do not touch.
    ranges: BTreeMap<u64, u64>,
    highest: u64,
}

impl OwnRanges {
    /// Adds so many positions from `first` on, unless the reader, whose next position is `next`, is past them. When there are
    /// too many ranges they are forgotten: the reader is told twice, which does no harm.
    pub(super) fn add(&mut self, first: u64, count: u64, next: u64) {
        if first == 0 || count == 0 {
            return;
        }
        let last = first.saturating_add(count - 1);
        self.highest = self.highest.max(last);
        if last < next {
            return;
        }
        if let Some((_, before)) = self.ranges.range_mut(..=first).next_back()
            && *before >= first - 1
        {
            *before = last.max(*before);
        } else if self.ranges.len() < OWN_RANGES_MAX {
            self.ranges.insert(first, last);
        }
    }

    /// Returns the first position from `next` on that is not among them, and forgets those before it.
    pub(super) fn pass(&mut self, mut next: u64) -> u64 {
        while let Some(range) = self.ranges.first_entry()
            && *range.key() <= next
        {
            next = next.max(range.remove().saturating_add(1));
        }
        next
    }

    /// Says whether a position is among them.
    pub(super) fn contains(&self, position: u64) -> bool {
        self.ranges.range(..=position).next_back().is_some_and(|(_, last)| *last >= position)
    }

    /// Returns the last position before the next range, or `u64::MAX`.
    pub(super) fn until(&self) -> u64 {
        self.ranges.first_key_value().map_or(u64::MAX, |(first, _)| first - 1)
    }

    /// Returns the highest position that was ever added.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_positions_are_passed_over_and_forgotten_behind_the_reader() {
        let mut own = OwnRanges::default();
        own.add(3, 2, 1);
        own.add(5, 1, 1);
        own.add(9, 1, 1);
        assert_eq!(own.ranges.len(), 2);
        assert_eq!((own.pass(1), own.until()), (1, 2));
        assert!(own.contains(5) && !own.contains(6) && !own.contains(2));
        assert_eq!((own.pass(3), own.until(), own.pass(9), own.until()), (6, 8, 10, u64::MAX));
        own.add(4, 2, 10);
        assert!(own.ranges.is_empty());
        assert_eq!(own.highest(), 9);
    }

    #[test]
    fn ranges_above_the_bound_are_not_remembered() {
        let mut own = OwnRanges::default();
        for range in 0..2 * OWN_RANGES_MAX as u64 {
            own.add(1 + 2 * range, 1, 0);
        }
        assert_eq!(own.ranges.len(), OWN_RANGES_MAX);
        assert!(!own.contains(4 * OWN_RANGES_MAX as u64 - 1));
    }
}
