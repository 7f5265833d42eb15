//! Rates and quotas: how much one client may send, ask for and store, so that none harms the others.
//!
//! ```text
//! connection -> Meter -> what it sent: frames and bytes a second      above it: not read from until there is room
//!                  \---> its party: changes and bytes it wrote,       above it: the same; far above it: `busy`
//!                        documents it asked for that are not there    above it: the same; for long: refused for a time
//! commit -----> Budget -> bytes of a document and of a space          above it: the write is refused by `quota`
//! ```
//!
//! A party is a principal, or an address where nobody is named. Nothing that is held back is lost: it waits in its sender's
//! socket, and what was not acknowledged its sender has still. [`Kind`] says what happened how often.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rejoin::SpaceId;
use tokio::time::Instant;

use crate::auth::Directory;
use crate::config::Config;

mod bucket;
mod budget;
mod meter;
mod party;
mod progress;
mod rates;

pub(crate) use budget::{Bounds, Budget, document_bytes};
pub(crate) use meter::Meter;
pub(crate) use progress::Progress;
pub(crate) use rates::Rates;

use party::Parties;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident $name:literal,)+) => {
        /// Why something was held back or refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Kind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl Kind {
            /// All of them.
            pub(crate) const ALL: [Self; [$($name),+].len()] = [$(Self::$kind),+];

            /// Returns its name in metrics and logs.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }
        }
    };
}

kinds! {
    /// A connection sends frames faster than it may, and is held.
    Frames "frames",
    /// It sends bytes faster than it may, and is held.
    Bytes "bytes",
    /// A party writes changes faster than it may; a connection of it is held.
    Appends "appends",
    /// It writes bytes faster than it may; a connection of it is held.
    AppendBytes "append-bytes",
    /// It asks for what is not there more often than it may; a connection of it is held.
    Misses "misses",
    /// It is so far above what it may that a connection of it is closed with `busy`.
    Busy "busy",
    /// It is refused for a time, because it did not stop asking for what is not there.
    Refused "refused",
    /// A message comes slower than it may.
    SlowFrame "slow-frame",
    /// A write is refused because its document is full.
    DocumentBytes "document-bytes",
    /// A write is refused because its document has too many operations for its bytes.
    DocumentOps "document-ops",
    /// A write is refused because its space is full.
    SpaceBytes "space-bytes",
}

/// What all connections are held to.
#[derive(Debug)]
pub(crate) struct Quota {
    start: Instant,
    held_to: RwLock<(Rates, Bounds)>,
    /// Knows the spaces with a bound of their own.
    directory: Option<Arc<Directory>>,
    parties: Parties,
    rejected: [AtomicU64; Kind::ALL.len()],
}

impl Quota {
    /// Begins with these rates and bounds. Nobody used anything yet.
    pub(crate) fn new(rates: Rates, bounds: Bounds) -> Self {
        Self {
            start: Instant::now(),
            held_to: RwLock::new((rates, bounds)),
            directory: None,
            parties: Parties::default(),
            rejected: Default::default(),
        }
    }

    /// Begins with rates as they are by default, and any amount may be stored.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn without_bounds() -> Self {
        Self::new(Rates::default(), Bounds::default())
    }

    /// Begins with what the configuration says.
    pub(crate) fn of(config: &Config, directory: Arc<Directory>) -> Self {
        let directory = Some(directory);
        Self { directory, ..Self::new(Rates::from(&config.limits), Bounds::from(&config.quota)) }
    }

    /// Holds everybody to what the configuration says by now.
    pub(crate) fn reload(&self, config: &Config) {
        self.set(Rates::from(&config.limits), Bounds::from(&config.quota));
    }

    fn set(&self, rates: Rates, bounds: Bounds) {
        *self.held_to.write().unwrap_or_else(PoisonError::into_inner) = (rates, bounds);
    }

    fn rates(&self) -> Rates {
        self.held_to.read().unwrap_or_else(PoisonError::into_inner).0
    }

    fn bounds(&self) -> Bounds {
        self.held_to.read().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Returns the bound of its own that a space has, in bytes.
    fn space_bytes_max(&self, space: &SpaceId) -> Option<u64> {
        self.directory.as_ref().and_then(|directory| directory.space(space)).and_then(|record| record.bytes_max)
    }

    /// Counts that something was held back or refused.
    pub(crate) fn reject(&self, kind: Kind) {
        self.rejected[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how often something was held back or refused for this reason since the relay runs.
    pub(crate) fn rejected(&self, kind: Kind) -> u64 {
        self.rejected[kind as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::bucket::Rate;
    use super::*;

    pub(super) const SECOND: Duration = Duration::from_secs(1);

    /// Small numbers for what a test does not look at, and no bound for most.
    pub(super) fn rates() -> Rates {
        let free = Rate::per_second(0, 1);
        Rates {
            frames: free,
            bytes: free,
            appends: Rate::per_second(10, 100),
            append_bytes: free,
            misses: Rate::per_minute(60, 10),
        }
    }

    #[test]
    fn each_kind_has_its_own_name_and_count() {
        let quota = Quota::new(rates(), Bounds::default());
        for (times, kind) in Kind::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| quota.reject(kind));
        }
        for (times, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(quota.rejected(kind), times as u64, "{}", kind.name());
            assert_eq!(Kind::ALL.iter().filter(|other| other.name() == kind.name()).count(), 1);
        }
    }
}
