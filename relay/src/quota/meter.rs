//! A connection's meter: what it sent, and whether it is to be read from.
//!
//! A connection that sends faster than it may is not read from until there is room: its socket fills, and its own sending
//! waits. Nothing is lost, nothing is refused, and nobody else notices.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::bucket::Bucket;
use super::party::{Name, Party, Verdict};
use super::{Kind, Quota, Rates};
use crate::auth::PrincipalId;

/// What one connection sent, and to whose account.
#[derive(Debug)]
pub(crate) struct Meter {
    quota: Arc<Quota>,
    address: Place,
    principal: Option<Place>,
    frames: Bucket,
    bytes: Bucket,
    /// It is not read from before this moment.
    held_until: Option<Duration>,
    /// Why it is to be closed.
    cut: Option<Kind>,
}

/// A connection's place among those of a party, given back when it is dropped.
#[derive(Debug)]
struct Place(Arc<Party>);

impl Drop for Place {
    fn drop(&mut self) {
        let mut account = self.0.account();
        account.connections = account.connections.saturating_sub(1);
    }
}

impl Meter {
    /// Takes in a new connection from an address.
    ///
    /// # Errors
    ///
    /// The address is refused for a time.
    pub(crate) fn enter(quota: &Arc<Quota>, address: IpAddr) -> Result<Self, Kind> {
        Self::enter_at(quota, address, quota.now())
    }

    fn enter_at(quota: &Arc<Quota>, address: IpAddr, now: Duration) -> Result<Self, Kind> {
        let party = quota.parties.get(Name::of(address), now);
        let is_refused = {
            let mut account = party.account();
            let is_refused = account.is_refused(now);
            account.connections += usize::from(!is_refused);
            is_refused
        };
        if is_refused {
            quota.reject(Kind::Refused);
            return Err(Kind::Refused);
        }
        Ok(Self {
            quota: Arc::clone(quota),
            address: Place(party),
            principal: None,
            frames: Bucket::default(),
            bytes: Bucket::default(),
            held_until: None,
            cut: None,
        })
    }

    /// Learns whose connection it is: what it writes and misses goes to that one's account from now on, and if that one is refused
    /// for a time, the connection is closed.
    pub(crate) fn set_principal(&mut self, principal: Option<&PrincipalId>) {
        if let Some(principal) = principal {
            self.set_principal_at(principal, self.quota.now());
        }
    }

    fn set_principal_at(&mut self, principal: &PrincipalId, now: Duration) {
        let party = self.quota.parties.get(Name::Principal(principal.clone()), now);
        let rates = self.quota.rates();
        let verdict = {
            let mut account = party.account();
            account.connections += 1;
            account.judge(now, &rates)
        };
        self.principal = Some(Place(party));
        self.settle(now, verdict, &rates);
    }

    /// Takes in that a message was read.
    pub(crate) fn read(&mut self, bytes: usize) {
        self.read_at(bytes, self.quota.now());
    }

    fn read_at(&mut self, bytes: usize, now: Duration) {
        let rates = self.quota.rates();
        self.frames.take(now, 1, &rates.frames);
        self.bytes.take(now, wide(bytes), &rates.bytes);
        self.settle(now, Verdict::Fine, &rates);
    }

    /// Takes in that changes were brought.
    pub(crate) fn appended(&mut self, changes: usize, bytes: usize) {
        self.appended_at(changes, bytes, self.quota.now());
    }

    fn appended_at(&mut self, changes: usize, bytes: usize, now: Duration) {
        let rates = self.quota.rates();
        let verdict = self.party().account().append(now, wide(changes), wide(bytes), &rates);
        self.settle(now, verdict, &rates);
    }

    /// Takes in that something was asked for that is not there, or not for who asked: how often, in tenths.
    pub(crate) fn missed(&mut self, tenths: u64) {
        if tenths > 0 {
            self.missed_at(tenths, self.quota.now());
        }
    }

    fn missed_at(&mut self, tenths: u64, now: Duration) {
        let rates = self.quota.rates();
        let verdict = self.party().account().miss(now, tenths, &rates);
        self.settle(now, verdict, &rates);
    }

    /// Says whether the connection is not to be read from.
    pub(crate) fn is_held(&self) -> bool {
        self.held_until.is_some() || self.cut.is_some()
    }

    /// Waits until it may be read from again, for ever if it may be already or never again. May be given up and begun anew at any
    /// time.
    pub(crate) async fn room(&mut self) {
        while let Some(until) = self.held_until {
            sleep_until(self.quota.start + until).await;
            self.look(self.quota.now());
            if self.held_until.is_none() {
                return;
            }
        }
        std::future::pending().await
    }

    /// Says why the connection is to be closed, if it is.
    pub(crate) fn cut(&self) -> Option<Kind> {
        self.cut
    }

    /// Looks whether there is room again. Others of the same party may have used it up meanwhile.
    fn look(&mut self, now: Duration) {
        self.held_until = None;
        let rates = self.quota.rates();
        let verdict = self.party().account().judge(now, &rates);
        self.settle(now, verdict, &rates);
    }

    fn party(&self) -> &Party {
        &self.principal.as_ref().unwrap_or(&self.address).0
    }

    /// Notes what comes of what was taken, by the connection's own rates and by its party's.
    fn settle(&mut self, now: Duration, verdict: Verdict, rates: &Rates) {
        let own = [(self.frames.room_at(&rates.frames), Kind::Frames), (self.bytes.room_at(&rates.bytes), Kind::Bytes)];
        let own = own.into_iter().filter(|(room_at, _)| *room_at > now);
        let of_party = match verdict {
            Verdict::Fine => None,
            Verdict::Held(until, kind) => Some((until, kind)),
            Verdict::Cut(kind) => {
                if self.cut.is_none() {
                    self.cut = Some(kind);
                    self.quota.reject(kind);
                }
                return;
            }
        };
        let Some((until, kind)) = own.chain(of_party).max_by_key(|(until, _)| *until) else { return };
        if self.held_until.is_none() {
            self.quota.reject(kind);
        }
        self.held_until = self.held_until.max(Some(until));
    }
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Quota {
    /// Returns how long the relay runs.
    pub(super) fn now(&self) -> Duration {
        Instant::now().saturating_duration_since(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{BUSY_AFTER, MISSES_REFUSED_FOR};
    use crate::quota::Bounds;
    use crate::quota::bucket::Rate;
    use crate::quota::tests::{SECOND, rates};

    const HOME: [u8; 4] = [192, 0, 2, 1];
    const AWAY: [u8; 4] = [192, 0, 2, 2];

    fn meter(quota: &Arc<Quota>, address: [u8; 4]) -> Meter {
        Meter::enter_at(quota, address.into(), SECOND).expect("there is room")
    }

    /// Reads messages while the connection is read from; returns how many.
    fn read_all(meter: &mut Meter, bytes: usize, now: Duration) -> usize {
        let mut count = 0;
        if meter.is_held() {
            meter.look(now);
        }
        while !meter.is_held() && count < 10_000 {
            meter.read_at(bytes, now);
            count += 1;
        }
        count
    }

    #[test]
    fn frames_and_bytes_of_a_connection_are_reached_and_not_passed() {
        let rates = Rates { frames: Rate::per_second(10, 100), bytes: Rate::per_second(1_000, 50_000), ..rates() };
        let quota = Arc::new(Quota::new(rates, Bounds::default()));
        let mut small = meter(&quota, HOME);
        assert_eq!(read_all(&mut small, 1, SECOND), 100);
        assert_eq!(read_all(&mut small, 1, SECOND * 2), 10);
        let mut large = meter(&quota, HOME);
        assert_eq!(read_all(&mut large, 5_000, SECOND), 10);
        assert_eq!(read_all(&mut large, 5_000, SECOND * 2), 1, "one more, above what there is room for");
        assert_eq!(read_all(&mut large, 5_000, SECOND * 5), 0);
        assert_eq!(read_all(&mut large, 5_000, SECOND * 7), 1);
        assert_eq!((quota.rejected(Kind::Frames), quota.rejected(Kind::Bytes)), (2, 4));
        assert!(large.cut().is_none());
    }

    #[test]
    fn connections_of_one_principal_share_its_account_wherever_they_come_from() {
        let quota = Arc::new(Quota::new(Rates { appends: Rate::per_second(10, 100), ..rates() }, Bounds::default()));
        let alice = PrincipalId::new("alice").expect("a name");
        let [mut one, mut other, mut bob] = [HOME, AWAY, HOME].map(|address| meter(&quota, address));
        one.set_principal_at(&alice, SECOND);
        other.set_principal_at(&alice, SECOND);
        one.appended_at(99, 0, SECOND);
        assert!(!one.is_held());
        other.appended_at(1, 0, SECOND);
        assert!(other.is_held());
        bob.appended_at(99, 0, SECOND);
        assert!(!bob.is_held(), "the address is another account");
        // The first one is held with its next change, and both have to wait for what either did.
        one.appended_at(20, 0, SECOND);
        assert!(one.is_held());
        other.look(SECOND * 2);
        assert!(other.is_held());
        other.look(SECOND * 4);
        assert!(!other.is_held());
    }

    #[test]
    fn honest_opener_beside_a_guesser_notices_nothing() {
        let quota = Arc::new(Quota::new(Rates::default(), Bounds::default()));
        let (mut honest, mut guesser) = (meter(&quota, HOME), meter(&quota, AWAY));
        // A few hundred documents that are not there yet, ten times over: whoever reconnects asks again.
        for _ in 0..10 {
            honest.missed_at(10 * 500, SECOND);
        }
        assert!(!honest.is_held() && honest.cut().is_none());
        let mut guessed: u64 = 0;
        let mut now = SECOND;
        while guesser.cut().is_none() {
            if let Some(until) = guesser.held_until {
                now = until;
                guesser.look(now);
            }
            guesser.missed_at(10, now);
            guessed += 1;
        }
        // The burst, then the rate for as long as is borne.
        let rate = u64::from(crate::limits::MISSES_PER_MINUTE_DEFAULT);
        let most = rate * (crate::limits::MISSES_BURST_MINUTES + BUSY_AFTER.as_secs() / 60) + 1;
        assert!((most - 10..=most).contains(&guessed), "{guessed} of {most}");
        assert_eq!(guesser.cut(), Some(Kind::Refused));
        drop(guesser);
        assert_eq!(Meter::enter_at(&quota, AWAY.into(), now).err(), Some(Kind::Refused));
        assert!(Meter::enter_at(&quota, HOME.into(), now).is_ok());
        assert!(Meter::enter_at(&quota, AWAY.into(), now + MISSES_REFUSED_FOR).is_ok());
    }

    #[test]
    fn who_brings_documents_that_are_nowhere_yet_is_no_guesser() {
        let quota = Arc::new(Quota::new(Rates::default(), Bounds::default()));
        let mut device = meter(&quota, HOME);
        // 50,000 documents that were made offline, each asked for with heads: a tenth.
        device.missed_at(50_000, SECOND);
        assert!(!device.is_held());
    }

    #[test]
    fn principal_that_is_refused_gets_no_further_from_anywhere_else() {
        let quota = Arc::new(Quota::new(rates(), Bounds::default()));
        let alice = PrincipalId::new("alice").expect("a name");
        let mut guesser = meter(&quota, HOME);
        guesser.set_principal_at(&alice, SECOND);
        guesser.missed_at(10_000, SECOND);
        assert_eq!(guesser.cut(), Some(Kind::Refused));
        let mut elsewhere = meter(&quota, AWAY);
        elsewhere.set_principal_at(&alice, SECOND);
        assert_eq!(elsewhere.cut(), Some(Kind::Refused));
        // The others at her address are not to blame.
        let mut bob = meter(&quota, HOME);
        bob.set_principal_at(&PrincipalId::new("bob").expect("a name"), SECOND);
        assert!(bob.cut().is_none());
        drop((guesser, elsewhere));
        assert_eq!(quota.parties.get(Name::Principal(alice), SECOND).account().connections, 0);
    }

    #[tokio::test]
    async fn held_connection_goes_on_by_itself() {
        let quota = Arc::new(Quota::new(Rates { frames: Rate::per_second(100, 1), ..rates() }, Bounds::default()));
        let mut meter = Meter::enter(&quota, HOME.into()).expect("there is room");
        for _ in 0..3 {
            meter.read(1);
        }
        assert!(meter.is_held());
        meter.room().await;
        assert!(!meter.is_held());
        assert!(quota.now() >= SECOND / 100 * 3, "it waited for all that was read");
    }
}
