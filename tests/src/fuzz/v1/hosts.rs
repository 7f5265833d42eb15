//! Both ends of a connection of `rejoin.v1` without sockets: stores in memory, and drivers that carry out at once what their
//! session says.

use bytes::Bytes;
use rejoin::codec::v1::{Access, Code, Limits, Mode, Outcome, Presence, Reject, Start, Token};
use rejoin::deletion::{DeletionKind, Tombstone};
use rejoin::engine::{self, Origin};
use rejoin::fields::{self, Author, Edit};
use rejoin::gate::CheckedChange;
use rejoin::ledger::receipts::{self, Acknowledged, Relayed};
use rejoin::ledger::spaces::Placed;
use rejoin::ledger::{self, Appended, cursor, log, spaces, tombstone};
use rejoin::store::{MemoryStore, Store, StoreError, StoreExt, WriteTx};
use rejoin::sync::v1::{
    Applied, ClientIdentity, ClientOutput, ClientSession, Delivery, Grants, NoLiveFrames, Offered, OfferedWrite,
    RelayIdentity, RelayOutput, RelaySession,
};
use rejoin::{ActorId, DocumentId, Epoch, PeerId, SpaceId, StorageId};

use crate::hostile::base;
use crate::hostile::record::DOCUMENT;
use crate::hostile::session::fork;

/// The relay's store and the life of its logs.
pub const RELAY: StorageId = StorageId::from_bytes([0x4e; 16]);
/// The life of its logs.
pub const EPOCH: Epoch = Epoch::from_bytes([0xa1; 16]);
/// A space that is followed as a whole; [`DOCUMENT`] is in it.
pub const TEAM: SpaceId = SpaceId::from_bytes([0x5a; 16]);
/// A document in the default space.
pub const LONELY: DocumentId = DocumentId::from_bytes([0xd1; 16]);
/// A document of the team that was deleted.
pub const BURIED: DocumentId = DocumentId::from_bytes([0xd2; 16]);

/// More messages than any honest answer has: a session that makes more of them in a row never ends.
const ANSWERS_MAX: usize = 20_000;

/// Everything is allowed in the two spaces that there are.
struct Both;

impl Grants for Both {
    fn access(&self, space: &SpaceId) -> Option<Access> {
        [TEAM, SpaceId::DEFAULT].contains(space).then_some(Access::Admin)
    }
}

/// What a host made of what it was fed.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub struct Made {
    /// The WebSocket close code, if it closed.
    pub close: Option<u16>,
    /// How many changes were stored.
    pub stored: usize,
    /// Why something was not taken, each reason once.
    pub refused: Vec<String>,
    /// What it sent.
    pub sent: Vec<Bytes>,
}

impl Made {
    fn refuse(&mut self, why: &str) {
        if !self.refused.iter().any(|known| known == why) {
            self.refused.push(why.to_owned());
        }
    }
}

/// Makes the store of a relay: the documents above, all in its log.
pub fn relay_store() -> MemoryStore {
    let store = MemoryStore::new();
    let fill = |tx: &mut dyn WriteTx| {
        log::set_epoch(tx, &EPOCH)?;
        for (document, space) in [(DOCUMENT, TEAM), (BURIED, TEAM), (LONELY, SpaceId::DEFAULT)] {
            for chunk in base::chunks() {
                let what = OfferedWrite::Change(CheckedChange::parse(&chunk).unwrap());
                let outcome = take_one(tx, &space, Offered { document, what })?;
                assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
            }
        }
        let tombstone = Tombstone { kind: DeletionKind::Deleted, time_seconds: 5, by: "me".to_owned() };
        take_one(tx, &TEAM, Offered { document: BURIED, what: OfferedWrite::Deleted(tombstone) })?;
        Ok(())
    };
    store.write_with(fill).unwrap();
    store
}

/// Makes the store of a client: empty (0), with the beginning of the team's document and writes of its own (1), or the same
/// with a cursor (2).
pub fn client_store(variant: u8) -> MemoryStore {
    let store = MemoryStore::new();
    if variant == 0 {
        return store;
    }
    let fill = |tx: &mut dyn WriteTx| {
        spaces::put(tx, &DOCUMENT, &TEAM)?;
        let changes = base::chunks()[..2].iter().map(|chunk| CheckedChange::parse(chunk).unwrap()).collect();
        engine::accept(tx, DOCUMENT, changes, Origin::Remote)?;
        if variant == 2 {
            cursor::put(tx, &RELAY, &TEAM, &cursor::Cursor { epoch: EPOCH, position: 2 })?;
        }
        for (document, space) in [(DOCUMENT, TEAM), (LONELY, SpaceId::DEFAULT)] {
            spaces::put(tx, &document, &space)?;
            ledger::create(tx, &document)?;
            let actor = ActorId::from(&[0x77; 16][..]);
            let author = Author { actor: &actor, time_seconds: 1, message: None };
            for number in 0..3i64 {
                fields::write(tx, &document, &author, &[Edit::set("mine", number)])?.unwrap();
            }
        }
        Ok(())
    };
    store.write_with(fill).unwrap();
    store
}

/// Stores and logs one write as a relay does.
fn take_one(tx: &mut dyn WriteTx, space: &SpaceId, write: Offered) -> Result<Outcome, StoreError> {
    let document = write.document;
    if spaces::put(tx, &document, space)? != Placed::There {
        return Ok(Outcome::Rejected(Reject::new(Code::DocumentElsewhere)));
    }
    let before = log::end(tx, space)?;
    match write.what {
        OfferedWrite::Deleted(tombstone) | OfferedWrite::DeletedElsewhere(tombstone) => {
            tombstone::bury(tx, &document, &tombstone)?;
            if log::end(tx, space)? == before {
                return Ok(Outcome::Duplicate);
            }
        }
        OfferedWrite::Change(change) | OfferedWrite::PassedOn(change) => {
            let results = engine::accept(tx, document, vec![change], Origin::Remote)?.results;
            match &results[0].1 {
                Appended::Stored { .. } => drop(log::append(tx, &document)?),
                Appended::Duplicate => return Ok(Outcome::Duplicate),
                Appended::Missing { .. } => return Ok(Outcome::Rejected(Reject::new(Code::ChangeMissing))),
                Appended::Deleted => return Ok(Outcome::Rejected(Reject::new(Code::DocumentDeleted))),
                Appended::Rejected(error) => {
                    return Ok(Outcome::Rejected(Reject::new(Code::of_rule(error.rule()))));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    Ok(Outcome::Stored { first: log::end(tx, space)? })
}

/// A relay with one connection.
pub struct RelayHost {
    /// What it keeps.
    pub store: MemoryStore,
    /// What it made of its client.
    pub made: Made,
    session: RelaySession,
}

impl RelayHost {
    /// Begins a connection to a copy of a relay.
    pub fn new(store: &MemoryStore) -> Self {
        let limits =
            Limits { frame_bytes: 1 << 24, change_bytes: 1 << 23, batch_entries: 1 << 14, presence_bytes: 1 << 20 };
        let identity = RelayIdentity { storage: RELAY, epoch: EPOCH, limits, credit: 1 << 20 };
        Self { store: fork(store), made: Made::default(), session: RelaySession::new(identity) }
    }

    /// Feeds it a message, as far as it wants any.
    pub fn feed(&mut self, frame: &Bytes) {
        if self.session.wants_frames() {
            self.session.handle_frame(frame, &*self.store.read().unwrap()).unwrap();
        }
        self.carry_out();
        assert!(self.session.is_closed() || self.session.wants_frames(), "nothing is under way, and it hears nothing");
    }

    /// Does what the session says until it has nothing more to say.
    fn carry_out(&mut self) {
        for _ in 0..ANSWERS_MAX {
            while let Some(output) = self.session.poll_output() {
                self.obey(output);
            }
            let message = self.session.poll_transmit(&*self.store.read().unwrap(), &NoLiveFrames).unwrap();
            let Some(message) = message else { return };
            self.made.sent.push(message);
        }
        panic!("the relay answers without end");
    }

    fn obey(&mut self, output: RelayOutput) {
        match output {
            RelayOutput::Send(message) => self.made.sent.push(message),
            RelayOutput::Hello { .. } => {
                self.session.handle_admitted(Box::new(Both), 60, &*self.store.read().unwrap()).unwrap();
            }
            RelayOutput::Renew { token } if token.as_str().len() % 2 == 0 => {
                self.session.handle_renewed(Box::new(Both), 60);
            }
            RelayOutput::Renew { .. } => self.session.handle_renewal_refused("not this one"),
            RelayOutput::Follow { space } => {
                let end = log::end(&*self.store.read().unwrap(), &space).unwrap();
                self.session.handle_end_changed(&space, end);
            }
            RelayOutput::Append { batch, space, writes } => self.append(batch, &space, writes),
            RelayOutput::Refused { code, .. } => self.made.refuse(code.name()),
            RelayOutput::PeerError { code, .. } => self.made.refuse(code.name()),
            RelayOutput::Presence { space, frame, .. } => self.session.handle_presence(&space, frame),
            RelayOutput::Cursor { space, position, .. } => {
                self.session.handle_seen(&space, StorageId::from_bytes([9; 16]), position);
            }
            RelayOutput::Close { code, .. } => self.made.close = Some(code),
            _ => {}
        }
    }

    fn append(&mut self, batch: u64, space: &SpaceId, writes: Vec<Offered>) {
        let documents: Vec<_> = writes.iter().map(|write| write.document).collect();
        let take = |tx: &mut dyn WriteTx| {
            let outcomes = writes.iter().map(|write| take_one(tx, space, write.clone()));
            outcomes.collect::<Result<Vec<_>, _>>()
        };
        let outcomes: Vec<Outcome> = self.store.write_with(take).unwrap();
        for outcome in &outcomes {
            match outcome {
                Outcome::Stored { .. } => self.made.stored += 1,
                Outcome::Duplicate => self.made.refuse("duplicate"),
                Outcome::Rejected(reject) => self.made.refuse(reject.code.name()),
            }
        }
        let tx = self.store.read().unwrap();
        self.session.handle_appended(batch, outcomes, &*tx).unwrap();
        self.session.handle_end_changed(space, log::end(&*tx, space).unwrap());
        documents.iter().for_each(|document| self.session.handle_document_changed(document));
    }
}

/// A device with one connection.
pub struct ClientHost {
    /// What it keeps.
    pub store: MemoryStore,
    /// What it made of its relay.
    pub made: Made,
    session: ClientSession,
    start: Start,
}

impl ClientHost {
    /// Begins a connection of a copy of a device. `start` says from where on it wants the team's space.
    pub fn new(store: &MemoryStore, start: u8) -> Self {
        let identity = ClientIdentity {
            peer: PeerId::new("device").unwrap(),
            storage: Some(StorageId::from_bytes([0x77; 16])),
            token: Token::default(),
            takes_snapshots: true,
        };
        let start = match start % 3 {
            0 => Start::Beginning,
            1 => Start::Compare,
            _ => Start::Cursor { epoch: EPOCH, position: 2 },
        };
        let session = ClientSession::new(identity);
        let mut host = Self { store: fork(store), made: Made::default(), session, start };
        host.carry_out();
        host
    }

    /// Feeds it a message.
    pub fn feed(&mut self, frame: &Bytes) {
        self.session.handle_frame(frame, &*self.store.read().unwrap()).unwrap();
        self.carry_out();
    }

    /// Does what the session says until it has nothing more to say.
    fn carry_out(&mut self) {
        for _ in 0..ANSWERS_MAX {
            while let Some(output) = self.session.poll_output() {
                self.obey(output);
            }
            let message = self.session.poll_transmit(&*self.store.read().unwrap()).unwrap();
            let Some(message) = message else { return };
            self.made.sent.push(message);
        }
        panic!("the client answers without end");
    }

    fn obey(&mut self, output: ClientOutput) {
        match output {
            ClientOutput::Send(message) => self.made.sent.push(message),
            ClientOutput::Welcomed { .. } => {
                self.session.subscribe(TEAM, Mode::Everything, self.start);
                self.session.subscribe(SpaceId::DEFAULT, Mode::Chosen, Start::Beginning);
                self.session.open(SpaceId::DEFAULT, LONELY);
                let key = "cursor".to_owned();
                let presence = Presence {
                    author: PeerId::new("device").unwrap(),
                    document: DOCUMENT,
                    key,
                    sequence: 1,
                    ttl_ms: 30_000,
                    data: Bytes::from_static(b"\x03"),
                };
                self.session.send_presence(TEAM, vec![presence]);
            }
            ClientOutput::Apply(delivery) => self.apply(delivery),
            // What a chunk may do is fuzzed by itself; here it is not wanted or taken, by its length.
            ClientOutput::Snapshot { document, chunk, .. } => {
                self.session.handle_snapshot_taken(document, chunk.len() % 2 == 0);
            }
            ClientOutput::Acknowledged { epoch, acknowledged, .. } => {
                let note = |tx: &mut dyn WriteTx| {
                    acknowledged.iter().try_for_each(|(document, some)| {
                        let found = Relayed::find(tx, document, some)?;
                        receipts::acknowledge(tx, document, &epoch, &found).map(drop)
                    })
                };
                self.store.write_with(note).unwrap();
            }
            ClientOutput::DeletionAcknowledged { document, kind } => {
                self.store.write_with(|tx| tombstone::acknowledge(tx, &document, kind, Some(&RELAY))).unwrap();
            }
            ClientOutput::Seen { space, epoch, position, .. } => {
                self.store.write_with(|tx| receipts::note_seen(tx, &epoch, &space, position)).unwrap();
            }
            ClientOutput::Rejected { reject, .. } | ClientOutput::DeletionRejected { reject, .. } => {
                self.made.refuse(reject.code.name());
            }
            ClientOutput::Denied { code, .. } => self.made.refuse(code.name()),
            ClientOutput::Refused { .. } => self.made.refuse("refused"),
            ClientOutput::Close { code, .. } => self.made.close = Some(code),
            _ => {}
        }
    }

    fn apply(&mut self, delivery: Delivery) {
        let id = delivery.id;
        let applied = self.store.write_with(|tx| apply(tx, delivery)).unwrap();
        for (_, appended) in applied.results.iter().flat_map(|(_, results)| results) {
            match appended {
                Appended::Stored { .. } => self.made.stored += 1,
                Appended::Rejected(error) => self.made.refuse(error.rule().code()),
                _ => {}
            }
        }
        self.session.handle_applied(id, applied, &*self.store.read().unwrap()).unwrap();
    }
}

/// Applies a delivery as a driver does.
fn apply(tx: &mut dyn WriteTx, delivery: Delivery) -> Result<Applied, StoreError> {
    let mut applied = Applied::default();
    for (document, changes) in delivery.changes {
        if spaces::put(tx, &document, &delivery.space)? == Placed::There {
            applied.results.push((document, engine::accept(tx, document, changes, Origin::Remote)?.results));
        }
    }
    for (document, tombstone) in &delivery.deletions {
        spaces::put(tx, document, &delivery.space)?;
        tombstone::bury(tx, document, tombstone)?;
        tombstone::acknowledge(tx, document, tombstone.kind, Some(&RELAY))?;
    }
    for (document, hash, log_position) in &delivery.own {
        if let Some(position) = ledger::position(tx, document, hash)? {
            let acknowledged = [Acknowledged { position, log_position: *log_position }];
            receipts::acknowledge(tx, document, &EPOCH, &acknowledged)?;
        }
    }
    if let Some(cursor) = &delivery.cursor {
        cursor::put(tx, &RELAY, &delivery.space, cursor)?;
    }
    Ok(applied)
}
