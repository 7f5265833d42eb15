//! The registry: every WebSocket of the relay, who is behind it and what it costs, for an operator to see and to end.
//!
//! A connection is entered when it begins and leaves when its [`Registered`] is dropped, however it ends. What changes all the
//! time is counted in atomics, so that nobody waits for whoever lists them.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::auth::PrincipalId;
use crate::clock::now_seconds;
use crate::hub::ConnectionId;
use crate::show::Foreign;
use crate::socket::Activity;

/// Which protocol a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    Classic,
    V1,
}

impl Spoken {
    /// Returns its name in logs.
    pub(crate) fn short(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::V1 => "v1",
        }
    }

    /// Returns its name in listings.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::V1 => "rejoin.v1",
        }
    }
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Registry {
    entries: Mutex<Entries>,
    /// How many one principal may have.
    principal_max: AtomicUsize,
}

#[derive(Debug, Default)]
struct Entries {
    by_number: BTreeMap<u64, Arc<Entry>>,
    by_principal: HashMap<PrincipalId, usize>,
}

/// One connection, as others see it.
#[derive(Debug)]
struct Entry {
    number: u64,
    protocol: Spoken,
    since_seconds: u64,
    activity: Activity,
    who: Mutex<Who>,
    subscriptions: AtomicU64,
    is_kicked: AtomicBool,
    kick: Notify,
}

#[derive(Debug, Default)]
struct Who {
    principal: Option<PrincipalId>,
    /// Escaped and cut: it is the peer's own word.
    peer: String,
}

/// What is told of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) number: u64,
    pub(crate) principal: Option<PrincipalId>,
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Spoken,
    pub(crate) since_seconds: u64,
    /// The name that the peer gave itself, escaped and cut; empty before it said any.
    pub(crate) peer: String,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) subscriptions: u64,
}

/// A principal has as many connections as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

/// A connection's place in the registry. Dropping it takes the connection out.
#[derive(Debug)]
pub(crate) struct Registered {
    registry: Arc<Registry>,
    entry: Arc<Entry>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { entries: Mutex::default(), principal_max: AtomicUsize::new(usize::MAX) }
    }
}

impl Registry {
    /// Enters a connection. Nobody is known to be behind it yet.
    pub(crate) fn enter(self: &Arc<Self>, id: ConnectionId, protocol: Spoken, activity: &Activity) -> Registered {
        let entry = Arc::new(Entry {
            number: id.number(),
            protocol,
            since_seconds: now_seconds(),
            activity: activity.clone(),
            who: Mutex::default(),
            subscriptions: AtomicU64::new(0),
            is_kicked: AtomicBool::new(false),
            kick: Notify::new(),
        });
        self.entries().by_number.insert(entry.number, Arc::clone(&entry));
        Registered { registry: Arc::clone(self), entry }
    }

    /// Sets how many connections a principal may have from now on. Those that are there stay.
    pub(crate) fn set_principal_max(&self, count: usize) {
        self.principal_max.store(count, Ordering::Relaxed);
    }

    /// Returns how many there are.
    pub(crate) fn count(&self) -> usize {
        self.entries().by_number.len()
    }

    /// Lists connections by number, those behind `after`, at most `limit`; of one principal only if one is named. Cost: one
    /// visit a connection.
    pub(crate) fn list(&self, principal: Option<&PrincipalId>, after: u64, limit: usize) -> Vec<Listed> {
        let entries = self.entries();
        let Some(first) = after.checked_add(1) else { return Vec::new() };
        let some = entries.by_number.range(first..).map(|(_, entry)| entry.listed());
        some.filter(|one| principal.is_none() || one.principal.as_ref() == principal).take(limit).collect()
    }

    /// Returns one connection.
    pub(crate) fn get(&self, number: u64) -> Option<Listed> {
        self.entries().by_number.get(&number).map(|entry| entry.listed())
    }

    /// Says where a connection comes from. `None` if it is gone.
    pub(crate) fn address(&self, id: ConnectionId) -> Option<SocketAddr> {
        self.entries().by_number.get(&id.number()).map(|entry| entry.activity.address())
    }

    /// Ends a connection. Says whether it was there.
    pub(crate) fn kick(&self, number: u64) -> bool {
        let entry = self.entries().by_number.get(&number).map(Arc::clone);
        entry.is_some_and(|entry| {
            entry.kick();
            true
        })
    }

    /// Ends all connections of a principal, and returns how many.
    pub(crate) fn kick_all(&self, principal: &PrincipalId) -> usize {
        let entries: Vec<_> = self.entries().by_number.values().map(Arc::clone).collect();
        let theirs = entries.iter().filter(|entry| entry.who().principal.as_ref() == Some(principal));
        theirs.map(|entry| entry.kick()).count()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Nothing that runs under the lock panics half-way through a change.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn kick(&self) {
        self.is_kicked.store(true, Ordering::Release);
        self.kick.notify_one();
    }

    fn who(&self) -> MutexGuard<'_, Who> {
        self.who.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listed(&self) -> Listed {
        let who = self.who();
        let (bytes_in, bytes_out) = self.activity.bytes();
        Listed {
            number: self.number,
            principal: who.principal.clone(),
            address: self.activity.address(),
            protocol: self.protocol,
            since_seconds: self.since_seconds,
            peer: who.peer.clone(),
            bytes_in,
            bytes_out,
            subscriptions: self.subscriptions.load(Ordering::Relaxed),
        }
    }
}

impl Registered {
    /// Notes who is behind the connection; another one than before only counts from now on.
    ///
    /// # Errors
    ///
    /// [`TooMany`] if the principal has as many as it may; the connection then stays nobody's.
    pub(crate) fn admit(&self, principal: Option<&PrincipalId>) -> Result<(), TooMany> {
        let max = self.registry.principal_max.load(Ordering::Relaxed);
        let mut entries = self.registry.entries();
        let mut who = self.entry.who();
        if who.principal.as_ref() == principal {
            return Ok(());
        }
        if let Some(principal) = principal {
            let count = entries.by_principal.get(principal).copied().unwrap_or_default();
            if count >= max {
                return Err(TooMany);
            }
            entries.by_principal.insert(principal.clone(), count + 1);
        }
        if let Some(before) = std::mem::replace(&mut who.principal, principal.cloned()) {
            entries.leave(&before);
        }
        Ok(())
    }

    /// Notes the name that the peer gives itself.
    pub(crate) fn set_peer(&self, peer: &str) {
        self.entry.who().peer = Foreign(peer).to_string();
    }

    /// Notes in how many documents and spaces it takes part.
    pub(crate) fn set_subscriptions(&self, count: usize) {
        self.entry.subscriptions.store(count as u64, Ordering::Relaxed);
    }

    /// Waits until somebody ends the connection.
    pub(crate) async fn kicked(&self) {
        while !self.entry.is_kicked.load(Ordering::Acquire) {
            self.entry.kick.notified().await;
        }
    }
}

impl Entries {
    fn leave(&mut self, principal: &PrincipalId) {
        if let Some(count) = self.by_principal.get_mut(principal) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_principal.remove(principal);
            }
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut entries = self.registry.entries();
        entries.by_number.remove(&self.entry.number);
        if let Some(principal) = self.entry.who().principal.take() {
            entries.leave(&principal);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::hub::Hub;
    use crate::unfinished::Unfinished;

    fn enter(registry: &Arc<Registry>, hub: &Hub) -> Registered {
        let activity = Activity::new(SocketAddr::from(([127, 0, 0, 1], 1)), Unfinished::new(Vec::new()));
        registry.enter(hub.next_id(), Spoken::V1, &activity)
    }

    fn alice() -> PrincipalId {
        PrincipalId::new("alice").expect("it is short")
    }

    #[test]
    fn connection_is_listed_for_as_long_as_it_lives() {
        let (registry, hub) = (Arc::new(Registry::default()), Hub::default());
        let (one, two) = (enter(&registry, &hub), enter(&registry, &hub));
        one.admit(Some(&alice())).expect("there is room");
        one.set_peer("a\nb");
        one.set_subscriptions(3);
        let listed = registry.list(None, 0, 10);
        assert_eq!((listed.len(), listed[0].peer.as_str(), listed[0].subscriptions), (2, "a\\nb", 3));
        assert_eq!(registry.list(Some(&alice()), 0, 10).len(), 1);
        assert_eq!(registry.list(None, listed[0].number, 10), registry.list(None, 0, 10)[1..]);
        assert_eq!(registry.list(None, u64::MAX, 10), []);
        drop((one, two));
        assert_eq!((registry.count(), registry.entries().by_principal.len()), (0, 0));
    }

    #[test]
    fn principal_has_no_more_connections_than_it_may() {
        let (registry, hub) = (Arc::new(Registry::default()), Hub::default());
        registry.set_principal_max(1);
        let (one, two) = (enter(&registry, &hub), enter(&registry, &hub));
        assert_eq!(one.admit(Some(&alice())), Ok(()));
        assert_eq!(one.admit(Some(&alice())), Ok(()));
        assert_eq!(two.admit(Some(&alice())), Err(TooMany));
        assert_eq!(two.admit(None), Ok(()));
        drop(one);
        assert_eq!(two.admit(Some(&alice())), Ok(()));
    }

    #[test]
    fn kick_is_heard_by_who_waits_and_by_who_waits_later() {
        let (registry, hub) = (Arc::new(Registry::default()), Hub::default());
        let (one, two) = (enter(&registry, &hub), enter(&registry, &hub));
        one.admit(Some(&alice())).expect("there is room");
        assert!(one.kicked().now_or_never().is_none());
        assert_eq!(registry.kick_all(&alice()), 1);
        assert!(one.kicked().now_or_never().is_some());
        assert!(two.kicked().now_or_never().is_none());
        assert!(registry.kick(two.entry.number) && two.kicked().now_or_never().is_some());
        assert!(!registry.kick(999));
    }
}
