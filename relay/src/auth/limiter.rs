//! How much may come from one address: a bucket for each that leaks with time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::limits::ADDRESSES_REMEMBERED_MAX;

/// Counts what comes from each address, and forgets it with time. Bounded: an address more than fit makes it forget all, which
/// costs no more than a bucket full from each.
#[derive(Debug)]
pub(super) struct AddressLimiter {
    /// How much may come at once.
    at_once: u32,
    /// After how long one is forgotten.
    interval: Duration,
    /// When each address's bucket will be empty.
    empty_at: Mutex<HashMap<IpAddr, Duration>>,
}

impl AddressLimiter {
    pub(super) fn new(at_once: u32, interval: Duration) -> Self {
        Self { at_once, interval, empty_at: Mutex::default() }
    }

    /// Says whether one more may come.
    pub(super) fn has_room(&self, address: IpAddr, now: Duration) -> bool {
        let empty_at = self.empty_at.lock().unwrap_or_else(PoisonError::into_inner);
        self.level(empty_at.get(&group(address)).copied(), now) + self.interval <= self.full()
    }

    /// Counts one more.
    pub(super) fn count(&self, address: IpAddr, now: Duration) {
        let mut all = self.empty_at.lock().unwrap_or_else(PoisonError::into_inner);
        let address = group(address);
        let level = self.level(all.get(&address).copied(), now);
        if all.len() >= ADDRESSES_REMEMBERED_MAX && !all.contains_key(&address) {
            all.retain(|_, empty_at| *empty_at > now);
            if all.len() > ADDRESSES_REMEMBERED_MAX / 2 {
                all.clear();
            }
        }
        all.insert(address, now + (level + self.interval).min(self.full()));
    }

    /// Counts one more if it may come, and says so.
    pub(super) fn take(&self, address: IpAddr, now: Duration) -> bool {
        let has_room = self.has_room(address, now);
        if has_room {
            self.count(address, now);
        }
        has_room
    }

    /// How full a bucket is, in time. More than full it can only be by a clock that was set back.
    fn level(&self, empty_at: Option<Duration>, now: Duration) -> Duration {
        let level = empty_at.map_or(Duration::ZERO, |empty_at| empty_at.saturating_sub(now));
        if level > self.full() { Duration::ZERO } else { level }
    }

    fn full(&self) -> Duration {
        self.interval * self.at_once
    }
}

/// Returns what counts as one address: of IPv6 a /64, which is what one customer has at least.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    fn limiter() -> AddressLimiter {
        AddressLimiter::new(3, Duration::from_secs(1))
    }

    fn v6(network: u16, host: u16) -> IpAddr {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host))
    }

    #[test]
    fn bucket_fills_and_leaks() {
        let (limiter, address) = (limiter(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        for _ in 0..3 {
            assert!(limiter.take(address, NOW));
        }
        assert!(!limiter.take(address, NOW));
        assert!(!limiter.has_room(address, NOW + Duration::from_millis(999)));
        assert!(limiter.take(address, NOW + Duration::from_secs(1)));
        assert!(!limiter.take(address, NOW + Duration::from_secs(1)));
        assert!(
            limiter.has_room(address, NOW - Duration::from_secs(500)),
            "a clock that was set back locks nobody out"
        );
    }

    #[test]
    fn neighbours_in_one_network_share_a_bucket_and_others_do_not() {
        let limiter = limiter();
        for host in 0..3 {
            assert!(limiter.take(v6(1, host), NOW));
        }
        assert!(!limiter.take(v6(1, 9), NOW));
        assert!(limiter.take(v6(2, 9), NOW));
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        assert_eq!(group(mapped), IpAddr::V4(Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn addresses_without_end_take_bounded_memory() {
        let limiter = limiter();
        for number in 0..=u32::try_from(ADDRESSES_REMEMBERED_MAX).unwrap_or(u32::MAX) {
            limiter.count(IpAddr::V4(Ipv4Addr::from(number)), NOW);
        }
        assert!(limiter.empty_at.lock().map_or(0, |all| all.len()) <= ADDRESSES_REMEMBERED_MAX);
    }
}
