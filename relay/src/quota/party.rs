//! Parties: who is held to account together, be it a principal with all its connections or an address where nobody is named.
//!
//! What is known of a party is kept while it has a connection or anything that was taken has not flowed off. There is room for
//! [`PARTIES_MAX`]; those beyond share one account, so that inventing parties wins nothing but a share of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::bucket::Bucket;
use super::{Kind, Rates};
use crate::auth::PrincipalId;
use crate::limits::{BUSY_AFTER, MISSES_FORGIVEN_AFTER, MISSES_REFUSED_FOR, PARTIES_MAX, PARTIES_SWEPT_EVERY};

/// Names a party.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Name {
    Principal(PrincipalId),
    Network(IpAddr),
}

impl Name {
    /// The network an address belongs to: an IPv4 address alone, or the /64 that one customer has of IPv6.
    pub(super) fn of(address: IpAddr) -> Self {
        Self::Network(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                [a, b, c, d, 0, 0, 0, 0].into()
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// What one party used.
#[derive(Debug, Default)]
pub(super) struct Party(Mutex<Account>);

#[derive(Debug, Default)]
pub(super) struct Account {
    appends: Bucket,
    append_bytes: Bucket,
    misses: Bucket,
    /// Since when it misses more than it may, without a pause.
    missing_since: Option<Duration>,
    /// Nothing is taken from it until then.
    refused_until: Duration,
    pub(super) connections: usize,
}

/// What comes of what a party did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may go on.
    Fine,
    /// Its connections are not read from before this moment.
    Held(Duration, Kind),
    /// Its connections are closed.
    Cut(Kind),
}

impl Party {
    pub(super) fn account(&self) -> MutexGuard<'_, Account> {
        // Nothing that runs under the lock panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// Takes in that changes were brought.
    pub(super) fn append(&mut self, now: Duration, changes: u64, bytes: u64, rates: &Rates) -> Verdict {
        self.appends.take(now, changes, &rates.appends);
        self.append_bytes.take(now, bytes, &rates.append_bytes);
        self.judge(now, rates)
    }

    /// Takes in that something was asked for that is not there.
    pub(super) fn miss(&mut self, now: Duration, amount: u64, rates: &Rates) -> Verdict {
        let rested = self.misses.room_at(&rates.misses).saturating_add(MISSES_FORGIVEN_AFTER);
        if rested <= now {
            self.missing_since = None;
        }
        self.misses.take(now, amount, &rates.misses);
        let room_at = self.misses.room_at(&rates.misses);
        if room_at > now {
            let since = *self.missing_since.get_or_insert(now);
            if room_at.saturating_sub(since) > BUSY_AFTER {
                // When it may come back it begins anew, with what has flowed off until then.
                self.missing_since = None;
                self.refused_until = now.saturating_add(MISSES_REFUSED_FOR);
            }
        }
        self.judge(now, rates)
    }

    /// Says whether nothing is taken from it now.
    pub(super) fn is_refused(&self, now: Duration) -> bool {
        self.refused_until > now
    }

    /// Says what comes of what was taken so far.
    pub(super) fn judge(&self, now: Duration, rates: &Rates) -> Verdict {
        if self.is_refused(now) {
            return Verdict::Cut(Kind::Refused);
        }
        let buckets = [
            (&self.appends, &rates.appends, Kind::Appends),
            (&self.append_bytes, &rates.append_bytes, Kind::AppendBytes),
            (&self.misses, &rates.misses, Kind::Misses),
        ];
        let rooms = buckets.map(|(bucket, rate, kind)| (bucket.room_at(rate), kind));
        match rooms.into_iter().max_by_key(|(room_at, _)| *room_at) {
            Some((room_at, _)) if room_at.saturating_sub(now) > BUSY_AFTER => Verdict::Cut(Kind::Busy),
            Some((room_at, kind)) if room_at > now => Verdict::Held(room_at, kind),
            _ => Verdict::Fine,
        }
    }

    /// Says whether there is nothing to remember.
    fn is_idle(&self, now: Duration) -> bool {
        let buckets = [&self.appends, &self.append_bytes, &self.misses];
        let is_clear = buckets.into_iter().all(|bucket| bucket.is_clear(now));
        is_clear && !self.is_refused(now) && self.connections == 0
    }
}

/// All parties that there is something to remember of.
#[derive(Debug, Default)]
pub(super) struct Parties {
    known: Mutex<Known>,
    /// The account of those for whom there is no room.
    others: Arc<Party>,
}

#[derive(Debug, Default)]
struct Known {
    parties: HashMap<Name, Arc<Party>>,
    swept_at: Option<Duration>,
}

impl Parties {
    /// Returns the party of a name. Cost: a lookup; at the bound, once in [`PARTIES_SWEPT_EVERY`], a look at all of them.
    pub(super) fn get(&self, name: Name, now: Duration) -> Arc<Party> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(party) = known.parties.get(&name) {
            return Arc::clone(party);
        }
        if known.parties.len() >= PARTIES_MAX {
            let is_due = known.swept_at.is_none_or(|swept_at| now >= swept_at.saturating_add(PARTIES_SWEPT_EVERY));
            if is_due {
                known.swept_at = Some(now);
                // Who holds a share of it counts on finding it again.
                known.parties.retain(|_, party| Arc::strong_count(party) > 1 || !party.account().is_idle(now));
            }
            if known.parties.len() >= PARTIES_MAX {
                return Arc::clone(&self.others);
            }
        }
        Arc::clone(known.parties.entry(name).or_default())
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).parties.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::bucket::Rate;
    use crate::quota::tests::{SECOND, rates};

    fn name(number: u32) -> Name {
        Name::of(IpAddr::from(number.to_be_bytes()))
    }

    #[test]
    fn addresses_of_one_customer_are_one_party() {
        let name = |text: &str| Name::of(text.parse().expect("an address"));
        assert_eq!(name("2001:db8:1:2::1"), name("2001:db8:1:2:ffff::9"));
        assert_ne!(name("2001:db8:1:2::1"), name("2001:db8:1:3::1"));
        assert_eq!(name("::ffff:192.0.2.1"), name("192.0.2.1"));
        assert_ne!(name("192.0.2.1"), name("192.0.2.2"));
    }

    #[test]
    fn parties_beyond_the_bound_share_an_account_and_idle_ones_make_room() {
        let (parties, rates) = (Parties::default(), rates());
        let parties_max = u32::try_from(PARTIES_MAX).expect("it is small");
        for number in 0..parties_max {
            // Half of them have something to be remembered for.
            let amount = if number % 2 == 0 { 1_000 } else { 0 };
            parties.get(name(number), SECOND).account().append(SECOND, amount, 0, &rates);
        }
        let held = parties.get(name(1), SECOND);
        let newcomers = [u32::MAX, u32::MAX - 1].map(|number| parties.get(name(number), SECOND));
        assert_eq!(parties.count(), PARTIES_MAX / 2 + 3, "the idle ones went, but for the one that is in use");
        assert!(Arc::ptr_eq(&held, &parties.get(name(1), SECOND)));
        assert!(!Arc::ptr_eq(&newcomers[0], &newcomers[1]));
        // Once all have something to be remembered for, newcomers share.
        for number in 0..2 * parties_max {
            parties.get(name(number), SECOND).account().append(SECOND, 1_000, 0, &rates);
        }
        assert_eq!(parties.count(), PARTIES_MAX);
        let [one, other] = [3 << 30, 4 << 29].map(|number| parties.get(name(number), SECOND * 3));
        assert!(Arc::ptr_eq(&one, &other) && Arc::ptr_eq(&one, &parties.others));
        // Nobody is remembered for ever.
        let late = SECOND * 1_000;
        parties.get(name(3 << 30), late);
        assert!(parties.count() < 8, "{}", parties.count());
    }

    #[test]
    fn guesser_is_held_first_and_refused_when_it_goes_on() {
        // 60 a minute, 10 at once: one a second.
        let rates = Rates { misses: Rate::per_minute(60, 10), ..rates() };
        let mut account = Account::default();
        for _ in 0..9 {
            assert_eq!(account.miss(SECOND, 1, &rates), Verdict::Fine);
        }
        let mut now = SECOND;
        let mut held = 0;
        let cut_at = loop {
            match account.miss(now, 1, &rates) {
                Verdict::Held(until, Kind::Misses) => {
                    held += 1;
                    now = until;
                }
                Verdict::Cut(Kind::Refused) => break now,
                verdict => unreachable!("{verdict:?}"),
            }
        };
        // At one a second it goes on for as long as is borne.
        assert_eq!((cut_at, held), (SECOND + BUSY_AFTER, BUSY_AFTER.as_secs()));
        assert!(account.is_refused(now));
        let over = now + MISSES_REFUSED_FOR;
        assert!(account.is_refused(over.saturating_sub(Duration::from_nanos(1))) && !account.is_refused(over));
        assert_eq!(account.miss(over, 1, &rates), Verdict::Fine);
    }

    #[test]
    fn who_pauses_is_not_taken_for_a_guesser() {
        let rates = Rates { misses: Rate::per_minute(60, 10), ..rates() };
        let mut account = Account::default();
        let mut now = SECOND;
        for _ in 0..100 {
            // All at once, and some too many; then it does something else.
            for _ in 0..12 {
                account.miss(now, 1, &rates);
            }
            assert!(!account.is_refused(now));
            now += SECOND * 12 + MISSES_FORGIVEN_AFTER;
        }
    }

    #[test]
    fn guessing_in_one_message_is_cut_at_once() {
        let rates = Rates { misses: Rate::per_minute(60, 10), ..rates() };
        let long = BUSY_AFTER.as_secs() + 9;
        assert!(matches!(Account::default().miss(SECOND, long, &rates), Verdict::Held(..)));
        assert_eq!(Account::default().miss(SECOND, long + 1, &rates), Verdict::Cut(Kind::Refused));
    }

    #[test]
    fn who_brings_far_more_than_it_may_is_told_that_the_relay_is_busy() {
        let rates = Rates { appends: Rate::per_second(10, 100), ..rates() };
        let mut account = Account::default();
        assert_eq!(account.append(SECOND, 99, 0, &rates), Verdict::Fine);
        assert_eq!(account.append(SECOND, 1, 0, &rates), Verdict::Held(SECOND + SECOND / 10, Kind::Appends));
        let most = BUSY_AFTER.as_secs() * 10 - 1;
        assert_eq!(account.append(SECOND, most, 0, &rates), Verdict::Held(SECOND + BUSY_AFTER, Kind::Appends));
        assert_eq!(account.append(SECOND, 1, 0, &rates), Verdict::Cut(Kind::Busy));
        // It may connect all the same, and is served when it has calmed down.
        assert!(!account.is_refused(SECOND));
        assert_eq!(account.judge(SECOND + BUSY_AFTER + SECOND / 10, &rates), Verdict::Fine);
    }
}
