//! The directory: who may come in, with which tokens, and what was granted to them.
//!
//! Everything stands in the store and in memory. What is written is in the store first, durably, then in memory, then told to
//! those whose permits it may end; only then is it answered.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rejoin::store::{Store, StoreError, StoreExt, Table, WriteTx};
use tokio::sync::watch;

use super::access::Guard;
use super::config::AuthConfig;
use super::jwt;
use super::keys::Keys;
use super::permit::{Gathered, Held};
use super::record::{TokenId, TokenKind};
use super::refusal::{Failures, Reason, Refusal};
use super::rights::Rights;
use super::secret::{TICKET_PREFIX, read_token};
use super::state::{Origin, State};
use super::ticket::TicketKey;
use super::{Ended, Permit, PrincipalId};
use crate::limits::PERMIT_GROUPS;

/// Tells the time since 1970. In tests it is a number.
pub(super) type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

/// Who may come in, with which tokens, and what was granted to them.
pub struct Directory {
    pub(super) store: Arc<dyn Store>,
    state: RwLock<State>,
    /// Held by who writes: the store and the memory change in the same order.
    writer: Mutex<()>,
    groups: Box<[Group]>,
    config: RwLock<Arc<AuthConfig>>,
    keys: RwLock<Arc<Keys>>,
    pub(super) tickets: TicketKey,
    pub(super) guard: Guard,
    failures: Failures,
    /// When share links that are over were removed last.
    pub(super) swept_seconds: AtomicU64,
    clock: Clock,
}

/// Some of the principals, and whether anything was changed for them.
#[derive(Default)]
struct Group {
    /// Grows when rights of one of them may have changed.
    generation: AtomicU64,
    /// Wakes those who wait for the end of their permits.
    ends: watch::Sender<()>,
}

/// What becomes of the permits of some principals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// They may allow something else from now on.
    Changed,
    /// They may be over.
    Ended,
}

/// What can go wrong with the directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gives no random bytes.
    #[error("failed to get random bytes from the operating system: {0}")]
    Entropy(getrandom::Error),
    /// A key cannot be used.
    #[error("failed to use {which}: {detail}")]
    Key {
        /// Which: a file, or its place in the configuration. Never the key itself.
        which: String,
        /// What is wrong with it.
        detail: String,
    },
    /// What is named is not there.
    #[error("there is no such {what}")]
    Unknown {
        /// What.
        what: &'static str,
    },
    /// What is asked for makes no sense.
    #[error("{what}")]
    Invalid {
        /// What is wrong with it.
        what: &'static str,
    },
    /// There is no room for more.
    #[error("there are {max} {what} already, and that is the most")]
    Full {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Directory(..)")
    }
}

impl Directory {
    /// Opens the directory that is in a store. Cost: reads all of it, a second or two for a million records.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] if the store cannot be read, or a key of the configuration cannot be used.
    pub fn open(store: Arc<dyn Store>, config: &AuthConfig) -> Result<Arc<Self>, DirectoryError> {
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::open_with(store, config, Box::new(clock))
    }

    pub(super) fn open_with(
        store: Arc<dyn Store>,
        config: &AuthConfig,
        clock: Clock,
    ) -> Result<Arc<Self>, DirectoryError> {
        let keys = Keys::load(config, clock())?;
        let state = State::read(&*store.read()?)?;
        let tickets = TicketKey::open(&*store)?;
        Ok(Arc::new(Self {
            store,
            state: RwLock::new(state),
            writer: Mutex::new(()),
            groups: (0..PERMIT_GROUPS).map(|_| Group::default()).collect(),
            config: RwLock::new(Arc::new(config.clone())),
            keys: RwLock::new(Arc::new(keys)),
            tickets,
            guard: Guard::default(),
            failures: Failures::default(),
            swept_seconds: AtomicU64::new(0),
            clock,
        }))
    }

    /// Lets somebody in who shows a token, or none.
    ///
    /// Cost: a look-up and a hash, or the check of a signature: 0.1 ms. It waits for nobody but those who write.
    ///
    /// # Errors
    ///
    /// [`Refusal`], which names nothing that the other side does not know.
    pub fn admit(self: &Arc<Self>, token: Option<&str>) -> Result<Permit, Refusal> {
        self.try_admit(token).map_err(|reason| self.note(reason))
    }

    /// Takes a new configuration: other keys, other times. Files of keys are read again.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Key`]: everything stays as it was.
    pub fn reload(&self, config: &AuthConfig) -> Result<(), DirectoryError> {
        let keys = Keys::load(config, self.now())?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config.clone());
        // Who came without a token may have to go.
        self.tell_all(Effect::Ended);
        Ok(())
    }

    /// Says whether who comes without a token may do everything.
    pub fn is_open(&self) -> bool {
        self.config().open
    }

    /// Returns how often somebody was not let in for this reason, since the start.
    pub fn failures(&self, reason: Reason) -> u64 {
        self.failures.of(reason)
    }

    /// Counts a refusal, and says what the other side is told.
    pub(super) fn note(&self, reason: Reason) -> Refusal {
        self.failures.note(reason);
        tracing::debug!(reason = reason.name(), "somebody was not let in");
        reason.refusal()
    }

    pub(super) fn try_admit(self: &Arc<Self>, token: Option<&str>) -> Result<Permit, Reason> {
        let now_seconds = self.now().as_secs();
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return if self.is_open() { self.permit(None, Origin::Nobody) } else { Err(Reason::Missing) };
        };
        if TokenKind::ALL.iter().any(|kind| token.starts_with(kind.prefix())) {
            return self.admit_stored(token, now_seconds);
        }
        if token.starts_with(TICKET_PREFIX) {
            return self.admit_by_ticket(token, now_seconds);
        }
        let keys = Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner));
        let verified = jwt::verify(token, &keys, &self.config(), self.now())?;
        let known = self.state().principals.contains_key(&verified.principal);
        let origin = Origin::Jwt { claims: verified.claims, expires: verified.expires, known };
        self.permit(Some(verified.principal), origin)
    }

    fn admit_stored(self: &Arc<Self>, token: &str, now_seconds: u64) -> Result<Permit, Reason> {
        let (kind, id, hash) = read_token(token).ok_or(Reason::Malformed)?;
        {
            let state = self.state();
            let stored = state.tokens.get(&id).filter(|stored| stored.record.kind == kind && stored.hash.is(&hash));
            let record = &stored.ok_or(Reason::UnknownToken)?.record;
            if record.revoked {
                return Err(Reason::Revoked);
            }
            if record.expires.is_some_and(|expires| expires <= now_seconds) {
                return Err(Reason::Expired);
            }
        }
        let principal = self.holder_of(id).ok_or(Reason::Revoked)?;
        self.permit(principal, Origin::Stored(id))
    }

    /// Makes a permit, unless it would be over already.
    pub(super) fn permit(self: &Arc<Self>, principal: Option<PrincipalId>, origin: Origin) -> Result<Permit, Reason> {
        let (admitted, group, is_disabled) = {
            let state = self.state();
            let root = match &origin {
                Origin::Stored(id) => state.root(*id),
                Origin::Jwt { .. } | Origin::Nobody => principal.as_ref(),
            };
            let known = principal.as_ref().and_then(|principal| state.principals.get(principal));
            (state.generation, group_of(root), known.is_some_and(|known| known.record.disabled))
        };
        if is_disabled {
            return Err(Reason::Disabled);
        }
        let generation = self.generation(group);
        let rights = self.gather(principal.as_ref(), &origin, admitted);
        let gathered = Mutex::new(Gathered { generation, rights });
        let permit = Permit::new(Held { directory: Arc::clone(self), principal, origin, admitted, group, gathered });
        match permit.check() {
            Ok(()) => Ok(permit),
            Err(Ended::Expired) => Err(Reason::Expired),
            Err(Ended::Revoked) => Err(Reason::Revoked),
        }
    }

    /// Gathers the rights of a permit anew.
    pub(super) fn gather(
        &self,
        principal: Option<&PrincipalId>,
        origin: &Origin,
        admitted: u64,
    ) -> Result<Arc<Rights>, Ended> {
        let is_open = self.is_open();
        self.state().rights(principal, origin, admitted, is_open).map(Arc::new)
    }

    pub(super) fn now(&self) -> Duration {
        (self.clock)()
    }

    pub(super) fn config(&self) -> Arc<AuthConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number that grows when rights in a group may have changed.
    pub(super) fn generation(&self, group: usize) -> u64 {
        self.groups[group].generation.load(Ordering::Acquire)
    }

    /// Returns what wakes who waits for the end of a permit in a group.
    pub(super) fn ends(&self, group: usize) -> watch::Receiver<()> {
        self.groups[group].ends.subscribe()
    }

    /// Returns who writes alone, for as long as it is held.
    pub(super) fn writing(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to the store, then to the memory, and returns what the latter says.
    pub(super) fn commit<T>(
        &self,
        _writing: &MutexGuard<'_, ()>,
        store: impl FnOnce(&mut dyn WriteTx) -> Result<(), StoreError>,
        memory: impl FnOnce(&mut State) -> T,
    ) -> Result<T, DirectoryError> {
        self.store.write_with(store)?;
        Ok(memory(&mut self.state.write().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Tells the permits of a principal, and those that stand on them, to look again.
    pub(super) fn tell(&self, principal: Option<&PrincipalId>, effect: Effect) {
        self.groups[group_of(principal)].tell(effect);
    }

    pub(super) fn tell_all(&self, effect: Effect) {
        self.groups.iter().for_each(|group| group.tell(effect));
    }

    /// Tells the permits of a stored token, and those that stand on it, that they may be over. To be asked while it is there.
    pub(super) fn root_of(&self, id: TokenId) -> Option<PrincipalId> {
        self.state().root(id).cloned()
    }
}

impl Group {
    fn tell(&self, effect: Effect) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        if effect == Effect::Ended {
            self.ends.send_replace(());
        }
    }
}

/// Puts a value, or deletes it.
pub(super) fn put(tx: &mut dyn WriteTx, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
    match value {
        Some(value) => tx.put(Table::Directory, key, value),
        None => tx.delete(Table::Directory, key),
    }
}

/// Says in which group a principal is. A simple sum of its bytes: who fills one group only wakes its own more often.
fn group_of(principal: Option<&PrincipalId>) -> usize {
    let bytes = principal.map_or(&[][..], |principal| principal.as_str().as_bytes());
    let sum = bytes.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    sum % PERMIT_GROUPS
}
