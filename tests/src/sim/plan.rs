//! What happens in a run, by its seed: who takes part, and one act after the other, each with chance of its own. So acts can be
//! left out and the others stay what they are, which is how a failing run is made small.

use std::collections::BTreeSet;
use std::fmt;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// How many acts a run has unless it is told otherwise.
pub const ACTS_DEFAULT: usize = 48;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident $name:literal $weight:literal,)+) => {
        /// Something that is done to the world.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl Kind {
            /// All of them.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$kind),+];

            /// Returns its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }

            /// Returns how often it comes, beside the others.
            fn weight(self) -> u32 {
                match self {
                    $(Self::$kind => $weight,)+
                }
            }
        }
    };
}

kinds! {
    /// A field is set.
    Set "set" 26,
    /// A map in a map is set, or a field in it.
    Nest "nest" 8,
    /// A counter is made or counted on.
    Count "count" 8,
    /// A field is deleted.
    Remove "remove" 6,
    /// A text is edited, in the document in memory.
    Text "text" 8,
    /// A document is made.
    Create "create" 6,
    /// A document that others made is opened.
    Fetch "fetch" 8,
    /// A document is deleted everywhere.
    Delete "delete" 1,
    /// A connection is cut; what was on its way is lost.
    Cut "cut" 6,
    /// A connection goes dead, and neither end is told.
    HalfOpen "half-open" 3,
    /// A device cannot reach a relay for a while.
    Partition "partition" 3,
    /// A connection carries nothing for a while, and then all of it.
    Stall "stall" 3,
    /// A connection carries little from now on.
    Slow "slow" 2,
    /// A device's process ends in good order and begins again.
    Restart "restart" 3,
    /// A device's process is killed.
    Kill "kill" 3,
    /// A device loses power while it writes; what was not synced is torn or lost.
    PowerLoss "power-loss" 4,
    /// A device's disk is full for a while.
    Full "full" 2,
    /// A device's disk is copied.
    Backup "backup" 2,
    /// A device goes on with an old copy of its disk.
    Restore "restore" 2,
    /// A device goes on with an old copy of its disk and of what it drew by chance then, as a copied machine does: it writes
    /// once more with numbers that it has used.
    Replay "replay" 2,
    /// A device may write a space no more.
    Revoke "revoke" 2,
    /// It may again.
    Grant "grant" 1,
    /// A relay loses power while it writes.
    RelayPowerLoss "relay-power-loss" 3,
    /// A relay's process ends in good order and begins again.
    RelayRestart "relay-restart" 2,
    /// A relay's disk is full for a while.
    RelayFull "relay-full" 1,
    /// A relay is backed up.
    RelayBackup "relay-backup" 2,
    /// A relay is restored from its backup: its log begins another life.
    RelayRestore "relay-restore" 1,
    /// Somebody with a good token sends damaged frames and hostile changes.
    Mallory "mallory" 3,
}

impl Kind {
    /// Returns the one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Says whether it is an application's own doing, and no fault.
    pub fn is_work(self) -> bool {
        self <= Self::Delete
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is broken on purpose, to see whether the checkers find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    /// The relay's disk says that it has synced, and has not: acknowledgements come before what they promise.
    EarlyAck,
    /// The device's disk does.
    LyingDisk,
    /// The relay remembers rights as they were.
    DeafRelay,
    /// A device's cursor moves past what it did not apply.
    CursorAhead,
    /// Of two writes to one field the other one wins in the registers.
    LoserWins,
}

impl Canary {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::EarlyAck, Self::LyingDisk, Self::DeafRelay, Self::CursorAhead, Self::LoserWins];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::EarlyAck => "early-ack",
            Self::LyingDisk => "lying-disk",
            Self::DeafRelay => "deaf-relay",
            Self::CursorAhead => "cursor-ahead",
            Self::LoserWins => "loser-wins",
        }
    }

    /// Returns the one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|canary| canary.name() == name)
    }
}

/// One act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Act {
    /// Which one it is.
    pub number: usize,
    /// When, in milliseconds since the world began.
    pub at_ms: u64,
    /// What.
    pub kind: Kind,
    /// From which its chance begins.
    pub seed: u64,
}

/// A run: everything that is not chance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Everything else follows from it.
    pub seed: u64,
    /// How many acts there are.
    pub acts: usize,
    /// How many devices; nothing for as many as the seed says.
    pub clients: Option<usize>,
    /// How many relays; nothing for as many as the seed says.
    pub relays: Option<usize>,
    /// The acts that are done; nothing for all of them.
    pub only: Option<BTreeSet<usize>>,
    /// Kinds that are left out.
    pub without: BTreeSet<Kind>,
    /// What is broken.
    pub canary: Option<Canary>,
}

impl Plan {
    /// The run of a seed.
    pub fn of(seed: u64) -> Self {
        Self {
            seed,
            acts: ACTS_DEFAULT,
            clients: None,
            relays: None,
            only: None,
            without: BTreeSet::new(),
            canary: None,
        }
    }

    /// Returns how many devices and relays take part.
    pub fn cast(&self) -> (usize, usize) {
        let mut chance = SmallRng::seed_from_u64(self.seed ^ 0xca57);
        let (clients, relays) = (chance.random_range(3..=5), if chance.random_range(0..4) == 0 { 2 } else { 1 });
        (self.clients.unwrap_or(clients), self.relays.unwrap_or(relays))
    }

    /// Returns the acts, in their order.
    pub fn acts(&self) -> Vec<Act> {
        let mut chance = SmallRng::seed_from_u64(self.seed ^ 0xac75);
        let all: u32 = Kind::ALL.iter().map(|kind| kind.weight()).sum();
        let mut at_ms = 0;
        let mut acts = Vec::with_capacity(self.acts);
        for number in 0..self.acts {
            // Bursts, with pauses in which timers ring.
            at_ms += match chance.random_range(0..10) {
                0 => chance.random_range(1_000..30_000),
                1..=4 => chance.random_range(0..20),
                _ => chance.random_range(20..800),
            };
            let mut left = chance.random_range(0..all);
            let kind = Kind::ALL.into_iter().find(|kind| match left.checked_sub(kind.weight()) {
                Some(rest) => {
                    left = rest;
                    false
                }
                None => true,
            });
            let act = Act { number, at_ms, kind: kind.unwrap_or(Kind::Set), seed: chance.random() };
            // What is left out takes its chance with it, and leaves the others theirs.
            if self.only.as_ref().is_none_or(|only| only.contains(&number)) && !self.without.contains(&act.kind) {
                acts.push(act);
            }
        }
        acts
    }

    /// Returns the command that does this run again and shows what happens.
    pub fn command(&self) -> String {
        let mut command = format!(
            "cargo run -p rejoin-tests --bin rejoin-tests-simulate -- --seed {} --acts {}",
            self.seed, self.acts
        );
        if let Some(clients) = self.clients {
            command += &format!(" --clients {clients}");
        }
        if let Some(relays) = self.relays {
            command += &format!(" --relays {relays}");
        }
        if let Some(only) = &self.only {
            command += &format!(" --only {}", list(only.iter()));
        }
        if !self.without.is_empty() {
            command += &format!(" --without {}", list(self.without.iter()));
        }
        if let Some(canary) = self.canary {
            command += &format!(" --canary {}", canary.name());
        }
        command
    }
}

fn list<T: fmt::Display>(all: impl Iterator<Item = T>) -> String {
    all.map(|one| one.to_string()).collect::<Vec<_>>().join(",")
}
