//! Credit: how many bytes of the messages that cost one side may send.

use crate::limits::CREDIT_BYTES_MAX;

/// What the other side lets us send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spending {
    /// Below zero after a message that was longer than what was left.
    left: i64,
}

impl Spending {
    /// Begins with what the other side gives first, at most [`CREDIT_BYTES_MAX`].
    pub(super) fn new(bytes: u64) -> Self {
        Self { left: signed(bytes.min(CREDIT_BYTES_MAX)) }
    }

    /// Says whether one more message may be sent, however long it is.
    pub(super) fn may_send(self) -> bool {
        self.left > 0
    }

    /// Takes the bytes of a message off.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(signed(bytes as u64));
    }

    /// Adds what the other side gives. Returns `false` if that is more than may be given: the other side breaks the rules.
    #[must_use]
    pub(super) fn add(&mut self, bytes: u64) -> bool {
        self.left = self.left.saturating_add(signed(bytes));
        self.left <= signed(CREDIT_BYTES_MAX)
    }
}

/// What we let the other side send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Giving {
    left: i64,
    /// So much is worked off and not given back yet.
    done: u64,
    /// When so much is worked off, it is given back: half of what there is.
    half: u64,
}

impl Giving {
    /// Begins with what we give first.
    pub(super) fn new(bytes: u64) -> Self {
        let bytes = bytes.min(CREDIT_BYTES_MAX);
        Self { left: signed(bytes), done: 0, half: bytes.div_ceil(2).max(1) }
    }

    /// Takes the bytes of a message off. Returns `false` if nothing was left: the other side breaks the rules.
    #[must_use]
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let had_credit = self.left > 0;
        self.left = self.left.saturating_sub(signed(bytes as u64));
        had_credit
    }

    /// Notes that a message is worked off: it takes no memory any more.
    pub(super) fn work_off(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
    }

    /// Returns how many bytes to give back now, if it is time to.
    #[must_use]
    pub(super) fn give_back(&mut self) -> Option<u64> {
        if self.done < self.half {
            return None;
        }
        let bytes = std::mem::take(&mut self.done).min(CREDIT_BYTES_MAX);
        self.left = self.left.saturating_add(signed(bytes));
        Some(bytes)
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_longer_than_all_credit_goes_through_and_the_next_waits() {
        let mut spending = Spending::new(10);
        assert!(spending.may_send());
        spending.spend(1_000);
        assert!(!spending.may_send());
        assert!(spending.add(990));
        assert!(!spending.may_send());
        assert!(spending.add(1));
        assert!(spending.may_send());
        assert!(!spending.add(CREDIT_BYTES_MAX));
    }

    #[test]
    fn credit_is_given_back_when_half_is_worked_off() {
        let mut giving = Giving::new(100);
        assert!(giving.take(60) && giving.take(40) && !giving.take(1));
        giving.work_off(49);
        assert_eq!(giving.give_back(), None);
        giving.work_off(1);
        assert_eq!(giving.give_back(), Some(50));
        assert_eq!(giving.give_back(), None);
        assert!(giving.take(1));
    }
}
