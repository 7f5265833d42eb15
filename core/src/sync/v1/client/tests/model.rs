//! Many clients against a relay that is a list of entries, with cuts at any moment and messages in any order that the
//! protocol allows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::device::RELAY;
use super::*;
use crate::codec::v1::{AckRun, Outcome};
use crate::ledger::receipts::{self, Receipt};
use crate::ledger::{self, Appended, Appender, tombstone};
use crate::store::{MemoryStore, StoreExt};

/// Changes of this document are never taken.
const REFUSED: u8 = 9;

/// The relay's store: all that outlives a connection.
struct Relay {
    store: MemoryStore,
    log: Vec<Write>,
}

/// The relay's end of one connection.
#[derive(Default)]
struct Connection {
    live: Option<Following>,
    own: BTreeSet<u64>,
    /// Pushes that were not looked at yet.
    waiting: VecDeque<(u64, Vec<Write>)>,
    to_say: VecDeque<RelayMessage>,
    cursor: u64,
}

struct Following {
    told: u64,
    is_caught_up: bool,
    /// What the client has named so far, while it compares.
    compared: Option<BTreeMap<DocumentId, Vec<ChangeHash>>>,
}

impl Relay {
    fn end(&self) -> u64 {
        self.log.len() as u64
    }

    fn take(&mut self, write: &Write) -> Outcome {
        let document = write.document;
        let stored = self.store.write_with(|tx| match &write.content {
            Content::Deleted(one) => {
                Ok(if tombstone::bury(tx, &document, one)?.is_news { None } else { Some(Outcome::Duplicate) })
            }
            Content::Change(_) | Content::PassedOn(_) if document == super::document(REFUSED) => {
                Ok(Some(Outcome::Rejected(Reject::new(Code::Quota))))
            }
            Content::Change(bytes) | Content::PassedOn(bytes) => {
                let mut appender = Appender::begin(tx, document)?;
                let appended = appender.append(tx, &CheckedChange::parse(bytes).unwrap())?;
                appender.finish(tx)?;
                Ok(match appended {
                    Appended::Stored { .. } => None,
                    Appended::Duplicate => Some(Outcome::Duplicate),
                    Appended::Deleted => Some(Outcome::Rejected(Reject::new(Code::DocumentDeleted))),
                    Appended::Missing { .. } => Some(Outcome::Rejected(Reject::new(Code::ChangeMissing))),
                    other => panic!("{other:?}"),
                })
            }
        });
        if let Some(outcome) = stored.unwrap() {
            return outcome;
        }
        self.log.push(write.clone());
        Outcome::Stored { first: self.end() }
    }

    /// What is told of a position: nothing, if the document was deleted since.
    fn entry(&self, position: u64) -> Entry {
        let write = self.log[position as usize - 1].clone();
        let is_gone = tombstone::is_buried(&*self.store.read().unwrap(), &write.document).unwrap();
        match write.content {
            Content::Change(_) | Content::PassedOn(_) if is_gone => Entry::Skipped { count: 1 },
            _ => Entry::Write(write),
        }
    }

    /// Both sides of a comparison.
    fn compare(&self, named: &BTreeMap<DocumentId, Vec<ChangeHash>>, out: &mut VecDeque<RelayMessage>) {
        let tx = self.store.read().unwrap();
        let mut documents: BTreeSet<DocumentId> = named.keys().copied().collect();
        documents.extend(self.log.iter().map(|write| write.document));
        let mut lacking = Vec::new();
        for document in documents {
            let mut writes = Vec::new();
            if let Some(one) = tombstone::get(&*tx, &document).unwrap() {
                writes.push(Write { document, content: Content::Deleted(one) });
            } else {
                let state = ledger::state(&*tx, &document).unwrap().unwrap_or_default();
                let theirs = named.get(&document).map_or(&[][..], Vec::as_slice);
                for position in ledger::missing(&*tx, &document, &state, theirs).unwrap() {
                    let bytes = ledger::change(&*tx, &document, position).unwrap();
                    writes.push(Write { document, content: Content::Change(bytes.into()) });
                }
                if theirs.iter().any(|hash| ledger::position(&*tx, &document, hash).unwrap().is_none()) {
                    lacking.push(DocumentHeads { document, heads: state.head_hashes() });
                }
            }
            if !writes.is_empty() {
                out.push_back(RelayMessage::Fill { space: TEAM, writes });
            }
        }
        out.push_back(RelayMessage::Lacking { space: TEAM, documents: lacking, is_last: true });
    }
}

impl Connection {
    /// Takes a message of the client.
    fn hear(&mut self, message: ClientMessage, relay: &Relay) {
        match message {
            ClientMessage::Hello(_) => self.to_say.push_back(welcome(CREDIT_BYTES)),
            ClientMessage::Subscribe { subscriptions } => {
                let is_compared = subscriptions[0].start == Start::Compare;
                let after = match subscriptions[0].start {
                    Start::Cursor { position, .. } => position,
                    Start::Beginning => 0,
                    Start::Compare => relay.end(),
                };
                self.to_say.push_back(subscribed(is_compared, after, relay.end()));
                let compared = is_compared.then(BTreeMap::new);
                self.live = Some(Following { told: after, is_caught_up: false, compared });
            }
            ClientMessage::Push { batch, writes, .. } => self.waiting.push_back((batch, writes)),
            ClientMessage::Cursor { position, .. } => {
                assert!(position >= self.cursor && position <= relay.end());
                self.cursor = position;
            }
            ClientMessage::Compare { documents, is_last, .. } => {
                let live = self.live.as_mut().unwrap();
                let named = live.compared.as_mut().unwrap();
                for one in documents {
                    assert!(named.last_key_value().is_none_or(|(last, _)| *last < one.document), "they rise");
                    named.insert(one.document, one.heads);
                }
                if is_last {
                    let named = live.compared.take().unwrap();
                    relay.compare(&named, &mut self.to_say);
                }
            }
            ClientMessage::Credit { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    /// Makes the pushes durable that wait, and answers the first.
    fn store(&mut self, relay: &mut Relay) {
        let Some((batch, writes)) = self.waiting.pop_front() else { return };
        let mut results = Vec::new();
        for write in &writes {
            let outcome = relay.take(write);
            if let Outcome::Stored { first } = outcome {
                self.own.insert(first);
            }
            results.push(AckRun { count: 1, outcome });
        }
        self.to_say.push_back(RelayMessage::Ack { batch, results });
    }

    /// Tells the next entries, leaving out what the client pushed.
    fn tell(&mut self, relay: &Relay, dice: &mut SmallRng) {
        let Some(live) = self.live.as_mut().filter(|live| live.compared.is_none()) else { return };
        while self.own.contains(&(live.told + 1)) {
            live.told += 1;
        }
        let first = live.told + 1;
        let mut some: Vec<Entry> = Vec::new();
        let most = dice.random_range(1..6);
        while live.told < relay.end() && some.len() < most && !self.own.contains(&(live.told + 1)) {
            live.told += 1;
            match (some.last_mut(), relay.entry(live.told)) {
                (Some(Entry::Skipped { count }), Entry::Skipped { .. }) => *count += 1,
                (_, entry) => some.push(entry),
            }
        }
        if !some.is_empty() {
            self.to_say.push_back(entries(first, some));
        } else if !live.is_caught_up && live.told == relay.end() {
            live.is_caught_up = true;
            self.to_say.push_back(caught_up(live.told));
        }
    }
}

/// A device with its connection.
struct Client {
    device: Device,
    session: ClientSession,
    connection: Connection,
}

impl Client {
    fn new(number: u8) -> Self {
        let device = Device::new(number);
        let session = device.connect();
        let mut client = Self { device, session, connection: Connection::default() };
        client.reconnect();
        client
    }

    fn reconnect(&mut self) {
        self.session = self.device.connect();
        self.session.subscribe(TEAM, Mode::Everything, self.device.start());
        self.connection = Connection::default();
    }

    fn step(&mut self, relay: &mut Relay, dice: &mut SmallRng) {
        match dice.random_range(0..4) {
            0 => {
                self.device.carry_out(&mut self.session);
                for message in self.device.take_sent() {
                    self.connection.hear(message, relay);
                }
            }
            1 => self.connection.store(relay),
            2 => self.connection.tell(relay, dice),
            _ => {
                if let Some(message) = self.connection.to_say.pop_front() {
                    // The driver may be in the middle of something: it carries out what it hears a little later.
                    let frame = message.encode();
                    self.session.handle_frame(&frame, &*self.device.store.read().unwrap()).unwrap();
                }
            }
        }
        assert!(!self.session.is_closed(), "{:?}", self.device.said);
    }

    fn edit(&mut self, dice: &mut SmallRng) {
        let one = document(dice.random_range(1..=REFUSED));
        if tombstone::is_buried(&*self.device.store.read().unwrap(), &one).unwrap() {
            return;
        }
        if dice.random_range(0..40) == 0 {
            self.device.bury(one);
            self.session.handle_deleted(one);
        } else {
            self.device.write(one);
            self.session.handle_changed(one);
        }
    }
}

fn run(seed: u64) {
    let mut dice = SmallRng::seed_from_u64(seed);
    let mut relay = Relay { store: MemoryStore::new(), log: Vec::new() };
    let mut clients = [Client::new(1), Client::new(2), Client::new(3)];
    for _ in 0..600 {
        let client = &mut clients[dice.random_range(0..3)];
        match dice.random_range(0..60) {
            0 => client.reconnect(),
            1..6 => client.edit(&mut dice),
            _ => client.step(&mut relay, &mut dice),
        }
    }
    for _ in 0..2_500 {
        for client in &mut clients {
            client.step(&mut relay, &mut dice);
        }
    }
    let theirs = relay.store.read().unwrap();
    for client in &clients {
        let tx = client.device.store.read().unwrap();
        for number in 1..REFUSED {
            let one = document(number);
            assert_eq!(client.device.heads(one), ledger::heads(&*theirs, &one).unwrap(), "{number}");
            let is_buried = |tx: &dyn ReadTx| tombstone::is_buried(tx, &one).unwrap();
            assert_eq!(is_buried(&*tx), is_buried(&*theirs));
            assert!(ledger::outbox::pending(&*tx, &one).unwrap().is_empty(), "{number}");
            let count = ledger::state(&*tx, &one).unwrap().map_or(0, |state| state.count);
            let known = |position| receipts::get(&*tx, &one, position).unwrap().unwrap();
            assert!((0..count).all(|position| known(position) >= Receipt::Relayed));
        }
        assert_eq!(client.device.cursor().unwrap().position, relay.end());
        assert_eq!(client.connection.cursor, relay.end());
        let progress = client.session.progress();
        assert!(progress.is_caught_up && progress.batches_in_flight == 0, "{progress:?}");
        assert!(tombstone::untold(&*tx, Some(&RELAY)).unwrap().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn clients_and_relay_come_to_have_the_same(seed: u64) {
        run(seed);
    }
}

/// A device deleted what it had never seen.
#[test]
fn seed_that_failed_once_passes() {
    run(3_689_216_421_660_326_087);
}

#[test]
fn mutated_messages_of_a_relay_never_panic() {
    let mut dice = SmallRng::seed_from_u64(7);
    let other = Device::new(2);
    let change = other.write(document(1));
    let named = vec![DocumentHeads { document: document(1), heads: vec![change.hash()] }];
    let frames: Vec<Bytes> = [
        welcome(1 << 20),
        subscribed(true, 3, 9),
        subscribed(false, 3, 9),
        entries(4, vec![entry(document(1), &change), Entry::Skipped { count: 2 }]),
        caught_up(6),
        RelayMessage::Fill { space: TEAM, writes: vec![write(document(1), &change)] },
        RelayMessage::Lacking { space: TEAM, documents: named.clone(), is_last: true },
        RelayMessage::Opened { space: TEAM, position: 5, documents: named },
        RelayMessage::Ack { batch: 1, results: vec![AckRun { count: 1, outcome: Outcome::Stored { first: 9 } }] },
        RelayMessage::Credit { bytes: 77 },
    ]
    .iter()
    .map(RelayMessage::encode)
    .collect();
    for round in 0..3_000 {
        let mut device = Device::new(1);
        device.write(document(3));
        let mut session = device.connect();
        let mode = if round % 3 == 0 { Mode::Listing } else { Mode::Everything };
        session.subscribe(TEAM, mode, Start::Compare);
        session.handle_frame(&frames[0], &*device.store.read().unwrap()).unwrap();
        for _ in 0..8 {
            let mut frame = frames[dice.random_range(0..frames.len())].to_vec();
            if dice.random_range(0..2) == 0 {
                let at = dice.random_range(0..frame.len());
                frame[at] = dice.random_range(0..=255);
            }
            if dice.random_range(0..8) == 0 {
                frame.truncate(dice.random_range(0..frame.len()));
            }
            session.handle_frame(&frame.into(), &*device.store.read().unwrap()).unwrap();
            device.carry_out(&mut session);
        }
    }
}
