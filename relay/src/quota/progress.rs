//! Whether a message that has begun comes as fast as it has to.
//!
//! Somebody who sends a byte now and then keeps a connection alive and what came of the message in memory. From when it is
//! first seen that a message is not whole, there are [`FRAME_GRACE`] and then [`FRAME_BYTES_PER_SECOND_MIN`].

use std::time::Duration;

use crate::limits::{FRAME_BYTES_PER_SECOND_MIN, FRAME_GRACE, FRAME_SLACK_BYTES};

/// Watches the messages of one socket.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// How many bytes had been read from the socket when the last message was whole.
    whole_at: u64,
    /// When it was seen that another has begun, and how many bytes had been read then.
    begun: Option<(Duration, u64)>,
}

impl Progress {
    /// Learns that a message is whole.
    pub(crate) fn message(&mut self, read_bytes: u64) {
        *self = Self { whole_at: read_bytes, begun: None };
    }

    /// Learns that a ping or pong came, which may do so between the parts of a message.
    pub(crate) fn control(&mut self, read_bytes: u64) {
        if read_bytes.saturating_sub(self.whole_at) <= FRAME_SLACK_BYTES {
            self.message(read_bytes);
        }
    }

    /// Learns that nothing was read for a while, for which the other side can do nothing.
    pub(crate) fn pause(&mut self) {
        self.begun = None;
    }

    /// Says whether a message comes too slowly. Times are since any moment, the same for all calls. Call it now and then: what
    /// begins between two calls counts from the second.
    pub(crate) fn is_too_slow(&mut self, now: Duration, read_bytes: u64) -> bool {
        if read_bytes.saturating_sub(self.whole_at) <= FRAME_SLACK_BYTES {
            self.begun = None;
            return false;
        }
        let (since, bytes_then) = *self.begun.get_or_insert((now, read_bytes));
        let counted = now.saturating_sub(since).saturating_sub(FRAME_GRACE);
        let needed = u128::from(FRAME_BYTES_PER_SECOND_MIN) * counted.as_millis() / 1_000;
        u128::from(read_bytes.saturating_sub(bytes_then)) < needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks every ten seconds at a message that comes at so many bytes a second; returns after how many it is too slow.
    fn cut_after(bytes_per_second: u64) -> Option<u64> {
        let mut progress = Progress::default();
        progress.message(100);
        let start = 100 + FRAME_SLACK_BYTES + 1;
        (0..=360).map(|look| look * 10).find(|seconds| {
            progress.is_too_slow(SECOND * u32::try_from(*seconds).unwrap_or(0), start + bytes_per_second * seconds)
        })
    }

    #[test]
    fn message_that_dribbles_is_noticed_and_one_on_a_slow_line_is_not() {
        assert_eq!(cut_after(1), Some(20));
        assert_eq!(cut_after(FRAME_BYTES_PER_SECOND_MIN / 2), Some(30));
        assert_eq!(cut_after(FRAME_BYTES_PER_SECOND_MIN - 16), Some(2_570), "the grace wears off");
        assert_eq!(cut_after(FRAME_BYTES_PER_SECOND_MIN), None);
    }

    #[test]
    fn who_says_nothing_or_only_pongs_is_not_slow() {
        let mut progress = Progress::default();
        for look in 0..1_000 {
            // 40 bytes each, with what encryption adds.
            progress.control(u64::from(look) * 40);
            assert!(!progress.is_too_slow(SECOND * 20 * look, u64::from(look) * 40));
        }
    }

    #[test]
    fn pongs_between_the_parts_of_a_message_win_nothing() {
        let mut progress = Progress::default();
        progress.message(0);
        let begun = FRAME_SLACK_BYTES + 1;
        assert!(!progress.is_too_slow(SECOND, begun));
        progress.control(begun + 6);
        assert!(progress.is_too_slow(SECOND + FRAME_GRACE + SECOND, begun + 12));
    }

    #[test]
    fn what_was_not_read_is_not_held_against_it() {
        let mut progress = Progress::default();
        assert!(!progress.is_too_slow(SECOND, 5_000));
        progress.pause();
        assert!(!progress.is_too_slow(SECOND * 500, 5_000));
        assert!(progress.is_too_slow(SECOND * 511, 5_000 + FRAME_BYTES_PER_SECOND_MIN - 1));
        assert!(!progress.is_too_slow(SECOND * 511, 5_000 + FRAME_BYTES_PER_SECOND_MIN));
    }
}
