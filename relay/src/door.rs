//! The door: how many sockets and connections there are, in all and of each address, and how fast new ones may come.
//!
//! A socket is judged twice. When it is accepted, before any work is done for it, it is closed without a word if there are far too
//! many; that costs a stranger as much as it costs us. When it asks for a WebSocket, it is told to come back later.
//!
//! IPv6 addresses of one /64 are one: whoever has one has them all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::config::{Config, LimitsConfig};
use crate::limits::{ADDRESSES_KEPT, SOCKETS_PER_UPGRADE, SOCKETS_SPARE_PER_ADDRESS};
use crate::metrics::RefusedConnection;
use crate::unfinished::{Tally, Unfinished};

/// Why a WebSocket is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There are as many connections as may be.
    Full,
    /// There are as many of its address as may be.
    FullForAddress,
    /// Its address asks too often.
    TooFast,
}

impl Refused {
    /// Returns what the client is told.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Full => "too many connections\n",
            Self::FullForAddress => "too many connections from your address\n",
            Self::TooFast => "too many new connections from your address\n",
        }
    }
}

impl From<Refused> for RefusedConnection {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::Full,
            Refused::FullForAddress => Self::Address,
            Refused::TooFast => Self::Rate,
        }
    }
}

/// Counts who is in.
pub(crate) struct Door {
    config: watch::Receiver<Arc<Config>>,
    counts: Mutex<Counts>,
    /// Told when the last connection ends.
    empty: Notify,
    /// What all sockets have of messages that are not whole.
    unfinished: Arc<Tally>,
}

#[derive(Default)]
struct Counts {
    sockets: usize,
    connections: usize,
    addresses: HashMap<IpAddr, Visitor>,
    /// How many addresses there were when those that are gone were last forgotten.
    swept: usize,
}

/// What is known of one address.
struct Visitor {
    sockets: usize,
    connections: usize,
    accepted: Allowance,
    upgraded: Allowance,
    unfinished: Arc<Tally>,
}

/// How much of a rate is left: a bucket that fills up in a second.
struct Allowance {
    left: f64,
    since: Instant,
}

impl Allowance {
    fn full(rate: u32, now: Instant) -> Self {
        Self { left: rate.into(), since: now }
    }

    /// Takes one. A rate of 0 is no bound.
    fn take(&mut self, rate: u32, now: Instant) -> bool {
        if rate == 0 {
            return true;
        }
        self.left += now.duration_since(self.since).as_secs_f64() * f64::from(rate);
        self.left = self.left.min(rate.into());
        self.since = now;
        let may = self.left >= 1.0;
        self.left -= f64::from(u8::from(may));
        may
    }

    /// Says whether it is as good as new.
    fn is_full(&self, now: Instant) -> bool {
        now.duration_since(self.since) > Duration::from_secs(1)
    }
}

impl Door {
    pub(crate) fn new(config: watch::Receiver<Arc<Config>>) -> Arc<Self> {
        Arc::new(Self { config, counts: Mutex::default(), empty: Notify::new(), unfinished: Tally::of_all() })
    }

    /// Lets a socket in that was just accepted, or not: then it is closed. What it has of messages that are not whole counts with the
    /// others'.
    pub(crate) fn accept(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<(Share, Unfinished)> {
        let config = Arc::clone(&self.config.borrow());
        let limits = &config.limits;
        let mut counts = self.counts();
        if counts.sockets >= limits.connections_max.saturating_add(limits.sockets_spare) {
            return None;
        }
        let mut tallies = vec![Arc::clone(&self.unfinished)];
        // Behind a proxy there are many clients, who are told apart by what it says about each.
        if !limits.trusted_proxies.contains(&address.to_canonical()) {
            let visitor = counts.visitor(network(address), limits, now);
            let is_full =
                visitor.sockets >= limits.connections_per_address_max.saturating_add(SOCKETS_SPARE_PER_ADDRESS);
            if is_full || !visitor.accepted.take(limits.upgrades_per_second.saturating_mul(SOCKETS_PER_UPGRADE), now) {
                return None;
            }
            tallies.push(Arc::clone(&visitor.unfinished));
        }
        counts.sockets += 1;
        counts.visitor(network(address), limits, now).sockets += 1;
        let share = Share { door: Arc::clone(self), address: network(address), is_connection: false };
        Some((share, Unfinished::new(tallies)))
    }

    /// Lets a connection in.
    pub(crate) fn connect(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Share, Refused> {
        let config = Arc::clone(&self.config.borrow());
        let limits = &config.limits;
        let mut counts = self.counts();
        let is_full = counts.connections >= limits.connections_max;
        let visitor = counts.visitor(network(address), limits, now);
        if !visitor.upgraded.take(limits.upgrades_per_second, now) {
            return Err(Refused::TooFast);
        }
        if is_full {
            return Err(Refused::Full);
        }
        if visitor.connections >= limits.connections_per_address_max {
            return Err(Refused::FullForAddress);
        }
        visitor.connections += 1;
        counts.connections += 1;
        Ok(Share { door: Arc::clone(self), address: network(address), is_connection: true })
    }

    /// Returns how many connections there are.
    pub(crate) fn connections(&self) -> usize {
        self.counts().connections
    }

    /// Waits until there is no connection.
    pub(crate) async fn emptied(&self) {
        loop {
            let mut emptied = pin!(self.empty.notified());
            emptied.as_mut().enable();
            if self.connections() == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

impl Counts {
    fn visitor(&mut self, network: IpAddr, limits: &LimitsConfig, now: Instant) -> &mut Visitor {
        if self.addresses.len() > ADDRESSES_KEPT.max(2 * self.swept) {
            self.addresses.retain(|_, visitor| !visitor.is_gone(now));
            self.swept = self.addresses.len();
        }
        self.addresses.entry(network).or_insert_with(|| Visitor {
            sockets: 0,
            connections: 0,
            accepted: Allowance::full(limits.upgrades_per_second.saturating_mul(SOCKETS_PER_UPGRADE), now),
            upgraded: Allowance::full(limits.upgrades_per_second, now),
            unfinished: Tally::of_address(),
        })
    }
}

impl Visitor {
    fn is_gone(&self, now: Instant) -> bool {
        self.sockets == 0 && self.connections == 0 && self.accepted.is_full(now) && self.upgraded.is_full(now)
    }
}

/// A place inside, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    door: Arc<Door>,
    address: IpAddr,
    is_connection: bool,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.door.counts();
        let visitor = counts.addresses.get_mut(&self.address);
        if self.is_connection {
            visitor.into_iter().for_each(|visitor| visitor.connections -= 1);
            counts.connections -= 1;
            if counts.connections == 0 {
                self.door.empty.notify_waiters();
            }
        } else {
            visitor.into_iter().for_each(|visitor| visitor.sockets -= 1);
            counts.sockets -= 1;
        }
    }
}

/// Returns what counts as one address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

/// Returns the client's address: that of the socket, or what a proxy says that the operator trusts. Of several the nearest that is no
/// such proxy counts: what stands before it anybody can write.
pub(crate) fn client_address(socket: IpAddr, headers: &HeaderMap, limits: &LimitsConfig) -> IpAddr {
    let mut address = socket.to_canonical();
    let said = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let said: Vec<_> = said.flat_map(|value| value.split(',')).collect();
    for text in said.iter().rev() {
        if !limits.trusted_proxies.contains(&address) {
            break;
        }
        let Some(before) = forwarded(text.trim()) else { break };
        address = before.to_canonical();
    }
    address
}

/// Reads an address with or without a port.
fn forwarded(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    text.parse().ok().or_else(with_port).or_else(in_brackets)
}

/// Says whether the page that a browser names may connect. Who is no browser names none.
pub(crate) fn may_connect_from(headers: &HeaderMap, config: &Config) -> bool {
    let Some(origin) = headers.get(axum::http::header::ORIGIN) else { return true };
    config.origins.is_empty() || config.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn door(change: impl FnOnce(&mut Config)) -> (watch::Sender<Arc<Config>>, Arc<Door>) {
        let mut config = Config::new("", "127.0.0.1:0".parse().expect("an address"));
        change(&mut config);
        let (sender, receiver) = watch::channel(Arc::new(config));
        (sender, Door::new(receiver))
    }

    #[test]
    fn connections_are_bounded_in_all_and_for_each_address() {
        let now = Instant::now();
        let (config, door) = door(|config| {
            config.limits.connections_max = 3;
            config.limits.connections_per_address_max = 2;
        });
        let first = door.connect(address("192.0.2.1"), now);
        let second = door.connect(address("::ffff:192.0.2.1"), now);
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(door.connect(address("192.0.2.1"), now).err(), Some(Refused::FullForAddress));
        let other = door.connect(address("192.0.2.2"), now);
        assert_eq!(door.connect(address("192.0.2.3"), now).err(), Some(Refused::Full));
        let mut raised = Config::clone(&config.borrow());
        raised.limits.connections_max = 4;
        config.send_replace(Arc::new(raised));
        assert!(door.connect(address("192.0.2.3"), now).is_ok(), "a reload applies");
        assert_eq!(door.connections(), 3);
        drop((first, second, other));
        assert_eq!(door.connections(), 0);
        assert!(door.connect(address("192.0.2.1"), now).is_ok());
    }

    #[test]
    fn network_of_ipv6_is_one_address() {
        let now = Instant::now();
        let (_config, door) = door(|config| config.limits.connections_per_address_max = 1);
        let first = door.connect(address("2001:db8:1:2::1"), now);
        assert_eq!(door.connect(address("2001:db8:1:2:ffff::9"), now).err(), Some(Refused::FullForAddress));
        assert!(door.connect(address("2001:db8:1:3::1"), now).is_ok());
        drop(first);
    }

    #[test]
    fn address_that_asks_too_often_waits_and_others_do_not() {
        let mut now = Instant::now();
        let (_config, door) = door(|config| config.limits.upgrades_per_second = 2);
        for _ in 0..2 {
            assert!(door.connect(address("192.0.2.1"), now).is_ok());
        }
        assert_eq!(door.connect(address("192.0.2.1"), now).err(), Some(Refused::TooFast));
        assert!(door.connect(address("192.0.2.2"), now).is_ok());
        now += Duration::from_millis(500);
        assert!(door.connect(address("192.0.2.1"), now).is_ok());
        assert_eq!(door.connect(address("192.0.2.1"), now).err(), Some(Refused::TooFast));
    }

    #[test]
    fn address_that_came_often_while_there_was_no_bound_is_let_in_when_there_is_one() {
        let now = Instant::now();
        let (config, door) = door(|config| config.limits.upgrades_per_second = 0);
        assert!((0..1_000).all(|_| door.connect(address("192.0.2.1"), now).is_ok()));
        let mut bounded = Config::clone(&config.borrow());
        bounded.limits.upgrades_per_second = 64;
        config.send_replace(Arc::new(bounded));
        assert!(door.connect(address("192.0.2.1"), now + Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn sockets_beyond_the_bounds_are_not_even_accepted() {
        let now = Instant::now();
        let (_config, door) = door(|config| {
            config.limits.connections_max = 1;
            config.limits.sockets_spare = 1;
            config.limits.upgrades_per_second = 1;
        });
        let kept = [door.accept(address("192.0.2.1"), now), door.accept(address("192.0.2.2"), now)];
        assert!(kept.iter().all(Option::is_some) && door.accept(address("192.0.2.3"), now).is_none());
        drop(kept);
        for _ in 0..SOCKETS_PER_UPGRADE {
            assert!(door.accept(address("192.0.2.4"), now).is_some());
        }
        assert!(door.accept(address("192.0.2.4"), now).is_none(), "too many in a second");
        // Whoever the operator trusts to speak for others is not counted as one.
        for _ in 0..10 {
            assert!(door.accept(address("127.0.0.1"), now).is_some());
        }
    }

    #[test]
    fn addresses_that_are_gone_are_forgotten() {
        let mut now = Instant::now();
        let (_config, door) = door(|_| ());
        for number in 0..u32::try_from(3 * ADDRESSES_KEPT).expect("a small number") {
            if number % 1_024 == 0 {
                now += Duration::from_secs(2);
            }
            drop(door.accept(std::net::Ipv4Addr::from_bits(number).into(), now));
        }
        assert!(door.counts().addresses.len() <= ADDRESSES_KEPT + 1);
    }

    #[test]
    fn proxy_is_believed_if_it_is_trusted_and_nobody_else() {
        let limits = LimitsConfig::default();
        let said = |socket: &str, header: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in header {
                headers.append("x-forwarded-for", value.parse().expect("a header"));
            }
            client_address(address(socket), &headers, &limits)
        };
        assert_eq!(said("127.0.0.1", &["192.0.2.1"]), address("192.0.2.1"));
        assert_eq!(said("127.0.0.1", &["6.6.6.6, 192.0.2.1"]), address("192.0.2.1"));
        assert_eq!(said("127.0.0.1", &["6.6.6.6", "192.0.2.1:4711, ::1"]), address("192.0.2.1"));
        assert_eq!(said("::ffff:127.0.0.1", &["[2001:db8::1]:80"]), address("2001:db8::1"));
        assert_eq!(said("192.0.2.9", &["192.0.2.1"]), address("192.0.2.9"));
        assert_eq!(said("127.0.0.1", &["unknown"]), address("127.0.0.1"));
        assert_eq!(said("127.0.0.1", &[]), address("127.0.0.1"));
    }
}
