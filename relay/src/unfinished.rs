//! What has arrived of messages that are not whole yet: memory that others fill, however little they have to say.
//!
//! It is counted for each socket, each address and all together. Where an address or all have too much of it, whoever has more than an
//! equal share is closed, and comes back with a smaller message or at another time. Before a client was let in it may send very little.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::limits::{
    UNADMITTED_BYTES_MAX, UNFINISHED_BYTES_FREE, UNFINISHED_BYTES_MAX, UNFINISHED_BYTES_PER_ADDRESS_MAX,
};

/// What a ping or pong of a client has besides its payload: two bytes and the mask.
const CONTROL_OVERHEAD_BYTES: usize = 6;

/// What several sockets have of it together.
#[derive(Debug)]
pub(crate) struct Tally {
    bytes_max: u64,
    bytes: AtomicU64,
    sockets: AtomicU64,
}

impl Tally {
    /// Of all sockets.
    pub(crate) fn of_all() -> Arc<Self> {
        Arc::new(Self::new(UNFINISHED_BYTES_MAX))
    }

    /// Of the sockets of one address.
    pub(crate) fn of_address() -> Arc<Self> {
        Arc::new(Self::new(UNFINISHED_BYTES_PER_ADDRESS_MAX))
    }

    fn new(bytes_max: u64) -> Self {
        Self { bytes_max, bytes: AtomicU64::new(0), sockets: AtomicU64::new(0) }
    }

    /// Says whether a socket has more than its share of what is too much.
    fn is_too_much(&self, own: u64) -> bool {
        let share = self.bytes_max / self.sockets.load(Ordering::Relaxed).max(1);
        self.bytes.load(Ordering::Relaxed) > self.bytes_max && own > share.max(UNFINISHED_BYTES_FREE)
    }
}

/// What one socket has of it. Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Unfinished {
    bytes: AtomicU64,
    is_admitted: AtomicBool,
    is_exempt: AtomicBool,
    /// Its address, if that is known, and all.
    tallies: Vec<Arc<Tally>>,
}

impl Unfinished {
    pub(crate) fn new(tallies: Vec<Arc<Tally>>) -> Self {
        for tally in &tallies {
            tally.sockets.fetch_add(1, Ordering::Relaxed);
        }
        let (bytes, is_admitted, is_exempt) = Default::default();
        Self { bytes, is_admitted, is_exempt, tallies }
    }

    /// Notes what was read. Says whether the socket may go on.
    pub(crate) fn add(&self, bytes: usize) -> bool {
        if self.is_exempt.load(Ordering::Relaxed) {
            return true;
        }
        let bytes = bytes as u64;
        let own = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        for tally in &self.tallies {
            tally.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        let is_too_early = own > UNADMITTED_BYTES_MAX && !self.is_admitted.load(Ordering::Relaxed);
        !is_too_early && !self.tallies.iter().any(|tally| tally.is_too_much(own))
    }

    /// Learns that a message is whole.
    pub(crate) fn finish(&self) {
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        for tally in &self.tallies {
            tally.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Learns that a ping or pong came, which may do so between the parts of a message.
    pub(crate) fn control(&self, payload: usize) {
        let bytes = (payload + CONTROL_OVERHEAD_BYTES) as u64;
        let before = self.bytes.load(Ordering::Relaxed);
        // One task reads and notes what it read: nobody else changes it meanwhile.
        let gone = bytes.min(before);
        self.bytes.store(before - gone, Ordering::Relaxed);
        for tally in &self.tallies {
            tally.bytes.fetch_sub(gone, Ordering::Relaxed);
        }
    }

    /// Learns that the client was let in.
    pub(crate) fn admit(&self) {
        self.is_admitted.store(true, Ordering::Relaxed);
    }

    /// Counts no more: what comes is not kept.
    pub(crate) fn exempt(&self) {
        self.is_exempt.store(true, Ordering::Relaxed);
        self.finish();
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.finish();
        for tally in &self.tallies {
            tally.sockets.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: usize = 4 << 10;

    /// Sends so many bytes; returns how many before it was closed.
    fn send(socket: &Unfinished, bytes: u64) -> u64 {
        let steps = bytes / STEP as u64;
        (0..steps).find(|_| !socket.add(STEP)).unwrap_or(steps) * STEP as u64
    }

    fn admitted(tallies: &[&Arc<Tally>]) -> Unfinished {
        let socket = Unfinished::new(tallies.iter().map(|tally| Arc::clone(tally)).collect());
        socket.admit();
        socket
    }

    #[test]
    fn stranger_may_send_little_until_let_in() {
        let socket = Unfinished::new(vec![Tally::of_all()]);
        assert_eq!(send(&socket, 1 << 20), UNADMITTED_BYTES_MAX);
        socket.finish();
        socket.admit();
        assert_eq!(send(&socket, 32 << 20), 32 << 20);
    }

    #[test]
    fn address_that_has_too_much_loses_those_with_most_of_it_and_others_go_on() {
        let (all, crowded, other) = (Tally::of_all(), Tally::of_address(), Tally::of_address());
        let crowd: Vec<_> = (0..256).map(|_| admitted(&[&crowded, &all])).collect();
        let share = UNFINISHED_BYTES_PER_ADDRESS_MAX / 256;
        crowd.iter().for_each(|socket| assert_eq!(send(socket, share), share));
        assert!(!crowd[0].add(STEP), "one byte more is too much");
        let alone = admitted(&[&other, &all]);
        assert_eq!(send(&alone, 32 << 20), 32 << 20);
        crowd[0].finish();
        assert!(crowd[1].add(STEP), "there is room again");
        drop((crowd, alone));
        for tally in [all, crowded, other] {
            assert_eq!((tally.bytes.load(Ordering::Relaxed), tally.sockets.load(Ordering::Relaxed)), (0, 0));
        }
    }

    #[test]
    fn all_addresses_together_have_no_more_than_shares() {
        let all = Tally::of_all();
        let sockets: Vec<_> = (0..10_000).map(|_| admitted(&[&Tally::of_address(), &all])).collect();
        let kept: u64 = sockets.iter().map(|socket| send(socket, 1 << 20)).sum();
        // Those that came first keep what they had; each other one has what is always free, and the read that was too much.
        let free = 10_000 * (UNFINISHED_BYTES_FREE + STEP as u64);
        assert!(kept <= UNFINISHED_BYTES_MAX + (1 << 20) + free, "{kept}");
        assert!(sockets.iter().all(|socket| socket.bytes.load(Ordering::Relaxed) > 0), "everybody may send a little");
    }

    #[test]
    fn pings_are_whole_and_end_no_message() {
        let all = Tally::of_all();
        let socket = admitted(&[&all]);
        for payload in [0, 125] {
            assert!(socket.add(STEP) && socket.add(payload + CONTROL_OVERHEAD_BYTES));
            socket.control(payload);
        }
        assert_eq!(all.bytes.load(Ordering::Relaxed), 2 * STEP as u64);
        socket.finish();
        socket.control(125);
        assert_eq!(all.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_not_kept_does_not_count() {
        let all = Tally::of_all();
        let upload = Unfinished::new(vec![Arc::clone(&all)]);
        assert!(upload.add(STEP));
        upload.exempt();
        assert_eq!(send(&upload, 1 << 30), 1 << 30);
        assert_eq!(all.bytes.load(Ordering::Relaxed), 0);
    }
}
