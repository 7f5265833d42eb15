//! A device: its disk, and the process that runs on it, if one does.

use std::collections::BTreeSet;
use std::sync::Arc;

use rejoin::simulation::{Place, Simulation};
use rejoin::store::testing::disk::{CutFiles, Images};
use rejoin::store::{RedbOptions, Store, StoreError};
use rejoin::{ConnectOptions, Connection, DocumentId, Protocol, Repo, SpaceId};

use super::wire::{Phone, Wires};

/// The space that all devices follow.
pub const TEAM: SpaceId = SpaceId::from_bytes([0xe1; 16]);

/// How much of a store is kept in memory beside the disk, which is there too.
const CACHE_BYTES: usize = 1 << 18;

/// A device.
pub struct Node {
    /// Which one it is.
    pub number: usize,
    /// Its disk.
    pub disk: CutFiles,
    /// What runs.
    pub process: Option<Process>,
    /// What it speaks.
    pub speaks: Protocol,
    /// Which relays it connects to, and with which tokens.
    pub tokens: Vec<(usize, String)>,
    /// Copies of its disk.
    pub images: Vec<Image>,
    /// Documents that it made, or was told of and asked for.
    pub documents: BTreeSet<DocumentId>,
    /// From which seed the chance of its process began.
    pub seed: u64,
}

/// A process on a device.
pub struct Process {
    /// The store.
    pub store: Arc<dyn Store>,
    /// What the application has.
    pub repo: Repo,
    /// To the relays.
    pub connections: Vec<Connection>,
}

/// A copy of a disk.
pub struct Image {
    /// What is on it.
    pub bytes: Images,
    /// From which seed the chance of the process began that ran then.
    pub seed: u64,
}

impl Node {
    /// Returns where its process runs.
    pub fn place(&self) -> Place {
        Place(self.number as u64 + 1)
    }

    /// Returns the repo, if a process runs.
    pub fn repo(&self) -> Option<&Repo> {
        self.process.as_ref().map(|process| &process.repo)
    }

    /// Returns the store, if a process runs.
    pub fn store(&self) -> Option<&Arc<dyn Store>> {
        self.process.as_ref().map(|process| &process.store)
    }

    /// Starts a process on what is on the disk.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn begin(
        &mut self,
        simulation: &Simulation,
        wires: &Wires,
        seed: u64,
        skew_seconds: i64,
    ) -> Result<(), StoreError> {
        let place = self.place();
        self.seed = seed;
        simulation.settle(place, seed, skew_seconds);
        let options = RedbOptions::new().cache_bytes(CACHE_BYTES).journal(self.number % 2 == 1);
        let store: Arc<dyn Store> = Arc::new(self.disk.open(options)?);
        let repo = simulation.at(place, || Repo::with_store(Arc::clone(&store)));
        let repo = repo.map_err(|error| StoreError::Io(std::io::Error::other(error.to_string())))?;
        let connect = |(relay, token): &(usize, String)| {
            let options = ConnectOptions::new().protocol(self.speaks);
            let options = if self.speaks == Protocol::RejoinV1 { options.token(token) } else { options };
            let dial = Arc::new(Phone::new(wires, self.number, *relay));
            simulation.at(place, || repo.connect_by(dial, &options))
        };
        let connections = self.tokens.iter().map(connect).collect();
        if self.speaks == Protocol::RejoinV1 {
            let team = repo.space(TEAM);
            simulation.start(place, async move {
                // If the disk takes nothing now, the next process follows it.
                let _ = team.follow().await;
            });
        }
        self.process = Some(Process { store, repo, connections });
        Ok(())
    }

    /// Ends the process as it is. The disk stays as it is too, but for what the end of a process in good order writes.
    pub fn end(&mut self, simulation: &Simulation) {
        let place = self.place();
        let process = self.process.take();
        simulation.kill(place);
        simulation.at(place, || drop(process));
        // Whatever the last handles started goes too.
        simulation.kill(place);
    }
}
