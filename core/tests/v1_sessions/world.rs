//! A relay and devices with both ends of their connections, in memory; one generator decides who does something next.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rejoin::codec::v1::{Access, Code, Limits, Mode, Outcome, Reject, Start, Token};
use rejoin::deletion::{DeletionKind, Tombstone};
use rejoin::engine::{self, Origin};
use rejoin::fields::{self, Author, Edit};
use rejoin::gate::CheckedChange;
use rejoin::ledger::cursor::Cursor;
use rejoin::ledger::receipts::{self, Acknowledged, Relayed};
use rejoin::ledger::{self, Appended, cursor, log, spaces, tombstone};
use rejoin::store::{MemoryStore, Store, StoreError, StoreExt, WriteTx};
use rejoin::sync::v1::{
    Applied, ClientIdentity, ClientOutput, ClientSession, Delivery, Grants, NoLiveFrames, Offered, OfferedWrite,
    RelayIdentity, RelayOutput, RelaySession,
};
use rejoin::{ActorId, DocumentId, Epoch, PeerId, SpaceId, StorageId};

pub(crate) const RELAY: StorageId = StorageId::from_bytes([0x4e; 16]);
pub(crate) const EPOCH: Epoch = Epoch::from_bytes([0xa1; 16]);
/// The last one is followed document by document.
pub(crate) const SPACES: [SpaceId; 3] =
    [SpaceId::from_bytes([0xe1; 16]), SpaceId::from_bytes([0xe2; 16]), SpaceId::DEFAULT];
pub(crate) const DOCUMENTS: u8 = 12;

/// A document, and the space it is in.
pub(crate) fn document(number: u8) -> (DocumentId, SpaceId) {
    (DocumentId::from_bytes([number; 16]), SPACES[usize::from(number % 3)])
}

struct All;

impl Grants for All {
    fn access(&self, _: &SpaceId) -> Option<Access> {
        Some(Access::Admin)
    }
}

fn relay_session(credit: u64) -> RelaySession {
    let limits =
        Limits { frame_bytes: 1 << 24, change_bytes: 1 << 23, batch_entries: 1 << 14, presence_bytes: 1 << 20 };
    RelaySession::new(RelayIdentity { storage: RELAY, epoch: EPOCH, limits, credit })
}

/// A device, and both ends of its connection.
pub(crate) struct Client {
    pub(crate) number: u8,
    pub(crate) store: MemoryStore,
    pub(crate) session: ClientSession,
    pub(crate) relay: RelaySession,
    pub(crate) to_relay: VecDeque<Bytes>,
    pub(crate) to_client: VecDeque<Bytes>,
    appends: VecDeque<(u64, SpaceId, Vec<Offered>)>,
    /// The documents that the relay's driver tells this connection of.
    told: BTreeSet<DocumentId>,
}

impl Client {
    pub(crate) fn new(number: u8) -> Self {
        let identity = identity(number);
        Self {
            number,
            store: MemoryStore::new(),
            session: ClientSession::new(identity),
            relay: relay_session(1 << 20),
            to_relay: VecDeque::new(),
            to_client: VecDeque::new(),
            appends: VecDeque::new(),
            told: BTreeSet::new(),
        }
    }

    pub(crate) fn reconnect(&mut self, dice: &mut SmallRng) {
        let credit = dice.random_range(1..5_000);
        self.connect(credit, |cursor| match cursor {
            Some(cursor) => Start::Cursor { epoch: cursor.epoch, position: cursor.position },
            None if dice.random_range(0..2) == 0 => Start::Compare,
            None => Start::Beginning,
        });
    }

    /// Connects anew; `start` says from where on each space is wanted, by its cursor.
    pub(crate) fn connect(&mut self, credit: u64, mut start: impl FnMut(Option<Cursor>) -> Start) {
        self.session = ClientSession::new(identity(self.number));
        self.relay = relay_session(credit);
        (self.to_relay, self.to_client, self.appends, self.told) = Default::default();
        let tx = self.store.read().unwrap();
        self.session.subscribe(SpaceId::DEFAULT, Mode::Chosen, Start::Beginning);
        for (document, _) in (0..DOCUMENTS).map(document).filter(|(_, space)| *space == SpaceId::DEFAULT) {
            self.session.open(SpaceId::DEFAULT, document);
        }
        for space in &SPACES[..2] {
            let space = *space;
            let cursor = cursor::get(&*tx, &RELAY, &space).unwrap();
            self.session.subscribe(space, Mode::Everything, start(cursor));
        }
    }

    pub(crate) fn edit(&mut self, dice: &mut SmallRng) {
        let (document, space) = document(dice.random_range(0..DOCUMENTS));
        if tombstone::is_buried(&*self.store.read().unwrap(), &document).unwrap() {
            return;
        }
        if dice.random_range(0..50) == 0 {
            let tombstone = Tombstone { kind: DeletionKind::Deleted, time_seconds: 5, by: "me".to_owned() };
            let bury = |tx: &mut dyn WriteTx| {
                spaces::put(tx, &document, &space)?;
                tombstone::bury(tx, &document, &tombstone)?;
                tombstone::wait(tx, &document)
            };
            self.store.write_with(bury).unwrap();
            self.session.handle_deleted(document);
        } else {
            let actor = ActorId::from(&[self.number; 16][..]);
            let author = Author { actor: &actor, time_seconds: 1, message: None };
            let edit = Edit::set(format!("k{}", dice.random_range(0..4)), i64::from(dice.random::<u16>()));
            let write = |tx: &mut dyn WriteTx| {
                spaces::put(tx, &document, &space)?;
                ledger::create(tx, &document)?;
                fields::write(tx, &document, &author, std::slice::from_ref(&edit))?.unwrap();
                Ok(())
            };
            self.store.write_with(write).unwrap();
            self.session.handle_changed(document);
        }
    }

    /// Does something on the client's side; returns whether there was anything to do.
    fn step_client(&mut self) -> bool {
        if let Some(output) = self.session.poll_output() {
            self.carry_out(output);
            return true;
        }
        let tx = self.store.read().unwrap();
        match self.session.poll_transmit(&*tx).unwrap() {
            Some(message) => self.to_relay.push_back(message),
            None => match self.to_client.pop_front() {
                Some(frame) => self.session.handle_frame(&frame, &*tx).unwrap(),
                None => return false,
            },
        }
        true
    }

    fn carry_out(&mut self, output: ClientOutput) {
        match output {
            ClientOutput::Send(message) => self.to_relay.push_back(message),
            ClientOutput::Apply(delivery) => {
                let id = delivery.id;
                let applied = self.store.write_with(|tx| apply(tx, delivery)).unwrap();
                self.session.handle_applied(id, applied, &*self.store.read().unwrap()).unwrap();
            }
            ClientOutput::Acknowledged { epoch, acknowledged, .. } => {
                let acknowledge = |tx: &mut dyn WriteTx| {
                    for (document, some) in &acknowledged {
                        let found = Relayed::find(tx, document, some)?;
                        receipts::acknowledge(tx, document, &epoch, &found)?;
                    }
                    Ok(())
                };
                self.store.write_with(acknowledge).unwrap();
            }
            ClientOutput::DeletionAcknowledged { document, kind } => {
                self.store.write_with(|tx| tombstone::acknowledge(tx, &document, kind, Some(&RELAY))).unwrap();
            }
            ClientOutput::Seen { space, epoch, position, .. } => {
                self.store.write_with(|tx| receipts::note_seen(tx, &epoch, &space, position)).unwrap();
            }
            ClientOutput::Welcomed { .. }
            | ClientOutput::Subscribed { .. }
            | ClientOutput::Opened { .. }
            | ClientOutput::CaughtUp { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    /// Does something on the relay's side of the connection; what is to be stored waits.
    fn step_relay(&mut self, store: &MemoryStore, seen: &mut Vec<(SpaceId, StorageId, u64)>) -> bool {
        let tx = store.read().unwrap();
        if let Some(output) = self.relay.poll_output() {
            match output {
                RelayOutput::Send(message) => self.to_client.push_back(message),
                RelayOutput::Hello { .. } => self.relay.handle_admitted(Box::new(All), 0, &*tx).unwrap(),
                RelayOutput::Follow { space } => {
                    self.relay.handle_end_changed(&space, log::end(&*tx, &space).unwrap());
                }
                RelayOutput::Append { batch, space, writes } => self.appends.push_back((batch, space, writes)),
                RelayOutput::Cursor { space, storage, position } => seen.push((space, storage, position)),
                RelayOutput::OpenDocuments { documents } => self.told.extend(documents),
                RelayOutput::Unfollow { .. } => {}
                other => panic!("{other:?}"),
            }
            return true;
        }
        if let Some(message) = self.relay.poll_transmit(&*tx, &NoLiveFrames).unwrap() {
            self.to_client.push_back(message);
            return true;
        }
        if !self.relay.wants_frames() {
            return false;
        }
        let Some(frame) = self.to_relay.pop_front() else { return false };
        self.relay.handle_frame(&frame, &*tx).unwrap();
        true
    }

    /// Stores what waits, in which space it tells.
    fn commit(&mut self, store: &MemoryStore) -> Option<(SpaceId, BTreeSet<DocumentId>)> {
        let (batch, space, writes) = self.appends.pop_front()?;
        let documents = writes.iter().map(|write| write.document).collect();
        let take = |tx: &mut dyn WriteTx| writes.into_iter().map(|write| take_one(tx, &space, write)).collect();
        let outcomes: Vec<Outcome> = store.write_with(take).unwrap();
        self.relay.handle_appended(batch, outcomes, &*store.read().unwrap()).unwrap();
        Some((space, documents))
    }
}

fn identity(number: u8) -> ClientIdentity {
    ClientIdentity {
        peer: PeerId::new(format!("device {number}")).unwrap(),
        storage: Some(StorageId::from_bytes([number; 16])),
        token: Token::default(),
        takes_snapshots: false,
    }
}

/// Applies a delivery as a driver does.
fn apply(tx: &mut dyn WriteTx, delivery: Delivery) -> Result<Applied, StoreError> {
    let mut applied = Applied::default();
    for (document, hash, log_position) in &delivery.own {
        // The document may have been deleted since.
        let Some(position) = ledger::position(tx, document, hash)? else { continue };
        receipts::acknowledge(tx, document, &EPOCH, &[Acknowledged { position, log_position: *log_position }])?;
    }
    for (document, changes) in delivery.changes {
        spaces::put(tx, &document, &delivery.space)?;
        applied.results.push((document, engine::accept(tx, document, changes, Origin::Remote)?.results));
    }
    for (document, tombstone) in &delivery.deletions {
        spaces::put(tx, document, &delivery.space)?;
        tombstone::bury(tx, document, tombstone)?;
        tombstone::acknowledge(tx, document, tombstone.kind, Some(&RELAY))?;
    }
    if let Some(cursor) = &delivery.cursor {
        cursor::put(tx, &RELAY, &delivery.space, cursor)?;
    }
    Ok(applied)
}

/// Stores and logs one write as a relay does.
fn take_one(tx: &mut dyn WriteTx, space: &SpaceId, write: Offered) -> Result<Outcome, StoreError> {
    let document = write.document;
    spaces::put(tx, &document, space)?;
    let before = log::end(tx, space)?;
    match write.what {
        OfferedWrite::Deleted(tombstone) | OfferedWrite::DeletedElsewhere(tombstone) => {
            tombstone::bury(tx, &document, &tombstone)?;
            if log::end(tx, space)? == before {
                return Ok(Outcome::Duplicate);
            }
        }
        OfferedWrite::Change(change) | OfferedWrite::PassedOn(change) => match accept_one(tx, document, change)? {
            Appended::Stored { .. } => drop(log::append(tx, &document)?),
            Appended::Duplicate => return Ok(Outcome::Duplicate),
            Appended::Missing { .. } => return Ok(Outcome::Rejected(Reject::new(Code::ChangeMissing))),
            Appended::Deleted => return Ok(Outcome::Rejected(Reject::new(Code::DocumentDeleted))),
            other => panic!("{other:?}"),
        },
    }
    Ok(Outcome::Stored { first: log::end(tx, space)? })
}

fn accept_one(tx: &mut dyn WriteTx, document: DocumentId, change: CheckedChange) -> Result<Appended, StoreError> {
    let mut results = engine::accept(tx, document, vec![change], Origin::Remote)?.results;
    Ok(results.pop().unwrap().1)
}

/// The relay's store, and the devices.
pub(crate) struct World {
    pub(crate) store: MemoryStore,
    pub(crate) clients: Vec<Client>,
    pub(crate) dice: SmallRng,
}

impl World {
    pub(crate) fn step(&mut self, of: usize, what: u32) -> bool {
        let mut seen = Vec::new();
        let client = &mut self.clients[of];
        let moved = match what {
            0 => client.step_client(),
            1 => client.step_relay(&self.store, &mut seen),
            _ => match client.commit(&self.store) {
                None => false,
                Some((space, documents)) => {
                    let end = log::end(&*self.store.read().unwrap(), &space).unwrap();
                    self.clients.iter_mut().for_each(|client| client.relay.handle_end_changed(&space, end));
                    self.tell(of, &documents);
                    true
                }
            },
        };
        for (space, storage, position) in seen {
            self.clients.iter_mut().for_each(|client| client.relay.handle_seen(&space, storage, position));
        }
        moved
    }

    /// Tells everybody else who opened these documents that they changed.
    fn tell(&mut self, except: usize, documents: &BTreeSet<DocumentId>) {
        for (_, client) in self.clients.iter_mut().enumerate().filter(|(number, _)| *number != except) {
            let told = documents.intersection(&client.told).copied().collect::<Vec<_>>();
            told.iter().for_each(|document| client.relay.handle_document_changed(document));
        }
    }

    /// Lets three devices edit, be cut off and come back, so many steps long.
    pub(crate) fn play(seed: u64, steps: usize) -> Self {
        let mut dice = SmallRng::seed_from_u64(seed);
        let store = MemoryStore::new();
        store.write_with(|tx| log::set_epoch(tx, &EPOCH)).unwrap();
        let clients = (1..=3).map(Client::new).collect();
        let mut world = Self { store, clients, dice: SmallRng::seed_from_u64(seed) };
        world.clients.iter_mut().for_each(|client| client.reconnect(&mut dice));
        for _ in 0..steps {
            let of = world.dice.random_range(0..3);
            match world.dice.random_range(0..200) {
                0 => world.clients[of].reconnect(&mut dice),
                1..12 => world.clients[of].edit(&mut dice),
                what => drop(world.step(of, what % 3)),
            }
        }
        world
    }

    /// Goes on until nobody has anything to say.
    pub(crate) fn settle(&mut self) {
        for _ in 0..200_000 {
            let mut moved = false;
            for of in 0..self.clients.len() {
                for what in 0..3 {
                    moved |= self.step(of, what);
                }
            }
            if !moved {
                return;
            }
        }
        panic!("it goes on for ever");
    }
}
