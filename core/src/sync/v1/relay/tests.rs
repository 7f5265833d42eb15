//! A session on a store in memory, driven by encoded messages: the harness, the handshake, and the rules of subscriptions.

#![expect(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests, with small numbers")]

use super::*;
use crate::codec::v1::{Access, Entry, Hello, Limits, Mode, Start, Token};
use crate::gate::encode;
use crate::gate::tests::field_draft;
use crate::id::{DocumentId, Epoch};
use crate::ledger::{self, Appended, Appender, log, spaces, tombstone};
use crate::limits::*;
use crate::store::{MemoryStore, Store, StoreExt, WriteTx};

mod chosen;
mod comparing;
mod listing;
mod pushing;
mod random;
mod reading;
mod rights;

const TEAM: SpaceId = SpaceId::from_bytes([0xe1; 16]);
const OTHER: SpaceId = SpaceId::from_bytes([0xe2; 16]);
const HIDDEN: SpaceId = SpaceId::from_bytes([0xe9; 16]);
const READABLE: SpaceId = SpaceId::from_bytes([0xe8; 16]);
const EPOCH: Epoch = Epoch::from_bytes([0xa1; 16]);
const PHONE: StorageId = StorageId::from_bytes([0xb1; 16]);
const LAPTOP: StorageId = StorageId::from_bytes([0xb2; 16]);

fn document(number: u8) -> DocumentId {
    DocumentId::from_bytes([number; 16])
}

struct ByName;

impl Grants for ByName {
    fn access(&self, space: &SpaceId) -> Option<Access> {
        match *space {
            HIDDEN => None,
            READABLE => Some(Access::Read),
            _ => Some(Access::Write),
        }
    }
}

fn identity() -> RelayIdentity {
    let limits = Limits {
        frame_bytes: V1_FRAME_BYTES_MAX as u64,
        change_bytes: CHANGE_BYTES_MAX as u64,
        batch_entries: BATCH_ENTRIES_MAX as u64,
        presence_bytes: PRESENCE_BYTES_MAX as u64,
    };
    RelayIdentity { storage: StorageId::from_bytes([0x4e; 16]), epoch: EPOCH, limits, credit: CREDIT_BYTES }
}

fn hello(subscriptions: Vec<Subscription>) -> Hello {
    Hello {
        lowest: 1,
        highest: 1,
        peer: PeerId::new("alice").unwrap(),
        storage: Some(PHONE),
        takes_snapshots: false,
        token: Token::new("secret"),
        credit: CREDIT_BYTES,
        subscriptions,
    }
}

fn want(space: SpaceId, mode: Mode, start: Start) -> Subscription {
    Subscription { space, mode, start }
}

fn everything(space: SpaceId) -> Subscription {
    want(space, Mode::Everything, Start::Beginning)
}

fn behind(space: SpaceId, position: u64) -> Subscription {
    want(space, Mode::Everything, Start::Cursor { epoch: EPOCH, position })
}

/// Writes changes of an actor to a document and logs them; returns their bytes.
fn write(tx: &mut dyn WriteTx, space: &SpaceId, document: DocumentId, actor: &[u8], count: usize) -> Vec<Bytes> {
    assert_eq!(spaces::put(tx, &document, space).unwrap(), spaces::Placed::There);
    let mut appender = Appender::begin(tx, document).unwrap();
    let mut made = Vec::new();
    for _ in 0..count {
        let seq = appender.last_of(tx, &crate::ActorId::from(actor)).unwrap().map_or(0, |last| last.seq) + 1;
        let state = appender.state();
        let change = encode(&field_draft(actor, seq, state.max_op + 1, state.head_hashes())).unwrap();
        assert!(matches!(appender.append(tx, &change).unwrap(), Appended::Stored { .. }));
        made.push(change.bytes().clone());
    }
    appender.finish(tx).unwrap();
    log::append(tx, &document).unwrap();
    made
}

/// A relay with one connection.
struct Rig {
    store: MemoryStore,
    session: RelaySession,
    /// What the driver was told to do, but for sending.
    asked: Vec<String>,
    closed: Option<u16>,
    /// Appends are answered by the test.
    holds_appends: bool,
    held: Vec<(u64, SpaceId, Vec<Offered>)>,
}

impl Rig {
    fn new() -> Self {
        let store = MemoryStore::new();
        store.write_with(|tx| log::set_epoch(tx, &EPOCH)).unwrap();
        let session = RelaySession::new(identity());
        Self { store, session, asked: Vec::new(), closed: None, holds_appends: false, held: Vec::new() }
    }

    /// A connection that said hello and was let in, with what it was answered.
    fn greeted(hello: Hello, prepare: impl FnOnce(&mut dyn WriteTx)) -> (Self, Vec<RelayMessage>) {
        let mut rig = Self::new();
        rig.store
            .write_with(|tx| {
                prepare(tx);
                Ok(())
            })
            .unwrap();
        let answers = rig.say(ClientMessage::Hello(hello));
        (rig, answers)
    }

    fn subscribed(
        subscriptions: Vec<Subscription>,
        prepare: impl FnOnce(&mut dyn WriteTx),
    ) -> (Self, Vec<RelayMessage>) {
        let (rig, mut answers) = Self::greeted(hello(subscriptions), prepare);
        assert!(matches!(answers.remove(0), RelayMessage::Welcome(_)));
        (rig, answers)
    }

    fn say(&mut self, message: ClientMessage) -> Vec<RelayMessage> {
        self.hand_in(&message.encode());
        self.hear()
    }

    fn hand_in(&mut self, frame: &Bytes) {
        let tx = self.store.read().unwrap();
        self.session.handle_frame(frame, tx.as_ref()).unwrap();
    }

    /// Does what the session asks for and returns what the client gets.
    fn hear(&mut self) -> Vec<RelayMessage> {
        self.hear_with(&NoLiveFrames)
    }

    fn hear_with(&mut self, live: &dyn LiveFrames) -> Vec<RelayMessage> {
        let mut got = Vec::new();
        loop {
            self.serve(&mut got);
            let tx = self.store.read().unwrap();
            let Some(message) = self.session.poll_transmit(tx.as_ref(), live).unwrap() else {
                drop(tx);
                let before = got.len();
                self.serve(&mut got);
                if got.len() == before {
                    return got;
                }
                continue;
            };
            assert!(message.len() <= V1_FRAME_BYTES_MAX);
            got.push(RelayMessage::decode(&message).unwrap());
        }
    }

    fn serve(&mut self, got: &mut Vec<RelayMessage>) {
        while let Some(output) = self.session.poll_output() {
            match output {
                RelayOutput::Send(message) => got.push(RelayMessage::decode(&message).unwrap()),
                RelayOutput::Hello { peer, storage, token } => {
                    assert_eq!((peer.as_str(), storage, token.as_str()), ("alice", Some(PHONE), "secret"));
                    let tx = self.store.read().unwrap();
                    self.session.handle_admitted(Box::new(ByName), 0, tx.as_ref()).unwrap();
                }
                RelayOutput::Renew { token } => self.asked.push(format!("renew {}", token.as_str())),
                RelayOutput::Append { batch, space, writes } if self.holds_appends => {
                    self.held.push((batch, space, writes))
                }
                RelayOutput::Append { batch, space, writes } => self.append(batch, space, writes),
                RelayOutput::Follow { space } => self.asked.push(format!("follow {:x}", space.as_bytes()[0])),
                RelayOutput::Unfollow { space } => self.asked.push(format!("unfollow {:x}", space.as_bytes()[0])),
                RelayOutput::Cursor { space, storage, position } => {
                    assert_eq!(storage, PHONE);
                    self.asked.push(format!("cursor {:x} {position}", space.as_bytes()[0]));
                }
                RelayOutput::OpenDocuments { documents } => self.asked.push(format!("open {}", documents.len())),
                RelayOutput::CloseDocuments { documents } => self.asked.push(format!("close {}", documents.len())),
                RelayOutput::Presence { values, .. } => self.asked.push(format!("presence {}", values.len())),
                RelayOutput::PeerError { code, text, .. } => self.asked.push(format!("{code}: {text}")),
                RelayOutput::Refused { .. } => {}
                RelayOutput::Close { code, .. } => self.closed = Some(code),
            }
        }
    }

    /// Does what a relay does: appends, logs, answers, and then tells how far the log is.
    fn append(&mut self, batch: u64, space: SpaceId, writes: Vec<Offered>) {
        let stored = |tx: &mut dyn WriteTx| Ok(writes.into_iter().map(|write| store_one(tx, &space, write)).collect());
        let outcomes: Vec<Outcome> = self.store.write_with(stored).unwrap();
        let tx = self.store.read().unwrap();
        self.session.handle_appended(batch, outcomes, tx.as_ref()).unwrap();
        self.session.handle_end_changed(&space, log::end(tx.as_ref(), &space).unwrap());
    }

    /// Lets others write.
    fn others(&mut self, space: SpaceId, number: u8, count: usize) -> Vec<Bytes> {
        let made = self.store.write_with(|tx| Ok(write(tx, &space, document(number), b"bob", count))).unwrap();
        self.tell_end(space);
        self.session.handle_document_changed(&document(number));
        made
    }

    fn bury(&mut self, space: SpaceId, number: u8) {
        self.store.write_with(|tx| tombstone::bury(tx, &document(number), &tombstone()).map(drop)).unwrap();
        self.tell_end(space);
        self.session.handle_document_changed(&document(number));
    }

    fn tell_end(&mut self, space: SpaceId) {
        let end = log::end(&*self.store.read().unwrap(), &space).unwrap();
        self.session.handle_end_changed(&space, end);
    }

    fn heads(&self, number: u8) -> Vec<crate::ChangeHash> {
        ledger::heads(&*self.store.read().unwrap(), &document(number)).unwrap()
    }
}

fn store_one(tx: &mut dyn WriteTx, space: &SpaceId, write: Offered) -> Outcome {
    let document = write.document;
    if spaces::put(tx, &document, space).unwrap() != spaces::Placed::There {
        return Outcome::Rejected(crate::codec::v1::Reject::new(Code::DocumentElsewhere));
    }
    let before = log::end(tx, space).unwrap();
    let appended = match write.what {
        OfferedWrite::Change(change) | OfferedWrite::PassedOn(change) => {
            let mut appender = Appender::begin(tx, document).unwrap();
            let appended = appender.append(tx, &change).unwrap();
            appender.finish(tx).unwrap();
            log::append(tx, &document).unwrap();
            appended
        }
        OfferedWrite::Deleted(tombstone) | OfferedWrite::DeletedElsewhere(tombstone) => {
            tombstone::bury(tx, &document, &tombstone).unwrap();
            Appended::Duplicate
        }
    };
    match appended {
        _ if log::end(tx, space).unwrap() > before => Outcome::Stored { first: before + 1 },
        Appended::Duplicate => Outcome::Duplicate,
        Appended::Deleted => Outcome::Rejected(crate::codec::v1::Reject::new(Code::DocumentDeleted)),
        Appended::Rejected(error) => Outcome::Rejected((&error).into()),
        _ => Outcome::Rejected(crate::codec::v1::Reject::new(Code::ChangeMissing)),
    }
}

fn tombstone() -> crate::deletion::Tombstone {
    crate::deletion::Tombstone { kind: crate::deletion::DeletionKind::Deleted, time_seconds: 7, by: "bob".to_owned() }
}

/// Names messages shortly, with the positions in them.
fn told(messages: &[RelayMessage]) -> Vec<String> {
    messages.iter().map(name).collect()
}

fn name(message: &RelayMessage) -> String {
    match message {
        RelayMessage::Subscribed { is_compared, after, end, .. } => {
            format!("subscribed {after}..{end}{}", if *is_compared { " compared" } else { "" })
        }
        RelayMessage::Entries { first, entries, .. } => {
            let last = first + entries.iter().map(Entry::positions).sum::<u64>() - 1;
            let writes = entries.iter().filter(|entry| matches!(entry, Entry::Write(_))).count();
            format!("entries {first}..{last} with {writes}")
        }
        RelayMessage::CaughtUp { position, .. } => format!("caught-up {position}"),
        RelayMessage::Fill { writes, .. } => format!("fill {}", writes.len()),
        RelayMessage::Lacking { documents, is_last, .. } => {
            format!("lacking {}{}", documents.len(), if *is_last { " last" } else { "" })
        }
        RelayMessage::Opened { position, documents, .. } => format!("opened {} at {position}", documents.len()),
        RelayMessage::Listing { position, documents, .. } => format!("listing {} at {position}", documents.len()),
        RelayMessage::Snapshot { position, chunk, .. } => format!("snapshot {} at {position}", chunk.len()),
        RelayMessage::Ack { batch, results } => {
            format!("ack {batch} {}", results.iter().map(run).collect::<Vec<_>>().join(" "))
        }
        RelayMessage::Seen { position, .. } => format!("seen {position}"),
        RelayMessage::Hint { end, .. } => format!("hint {end}"),
        RelayMessage::Error(error) => format!("error {}{}", error.code, if error.is_fatal { " fatal" } else { "" }),
        other => other.name().to_owned(),
    }
}

fn run(run: &crate::codec::v1::AckRun) -> String {
    match &run.outcome {
        Outcome::Stored { first } => format!("{}@{first}", run.count),
        Outcome::Duplicate => format!("{}dup", run.count),
        Outcome::Rejected(reject) => format!("{}{}", run.count, reject.code),
    }
}

#[test]
fn hello_is_answered_once_and_each_subscription_after_it() {
    let wanted = vec![everything(TEAM), everything(HIDDEN), everything(OTHER)];
    let (mut rig, answers) = Rig::greeted(hello(wanted), |tx| drop(write(tx, &TEAM, document(1), b"bob", 3)));
    let expected = [
        "welcome",
        "subscribed 0..3",
        "error space-unknown",
        "subscribed 0..0",
        "entries 1..3 with 3",
        "caught-up 0",
        "caught-up 3",
    ];
    let mut sorted = told(&answers);
    sorted[4..].sort_by_key(|message| (message.starts_with("caught"), message.clone()));
    assert_eq!(sorted, expected);
    assert_eq!(rig.asked, ["follow e1", "follow e2"]);
    assert_eq!(rig.session.peer().unwrap().as_str(), "alice");
    let again = rig.say(ClientMessage::Hello(hello(vec![])));
    assert_eq!(told(&again), ["error unexpected fatal"]);
    assert_eq!(rig.closed, Some(1002));
    assert!(rig.session.is_closed() && !rig.session.wants_frames());
    assert_eq!(rig.say(ClientMessage::Hello(hello(vec![]))), []);
}

#[test]
fn first_message_is_a_hello_of_a_version_we_speak() {
    let mut rig = Rig::new();
    assert_eq!(told(&rig.say(ClientMessage::Credit { bytes: 1 })), ["error unexpected fatal"]);
    let mut rig = Rig::new();
    let mut bytes = ClientMessage::Hello(hello(vec![])).encode().to_vec();
    bytes[1..3].copy_from_slice(&[2, 3]);
    rig.hand_in(&bytes.into());
    assert_eq!(told(&rig.hear()), ["error version fatal"]);
    assert_eq!(rig.closed, Some(1002));
}

#[test]
fn nothing_is_heard_before_the_hello_is_answered_and_a_refusal_closes() {
    let store = MemoryStore::new();
    let tx = store.read().unwrap();
    let mut session = RelaySession::new(identity());
    session.handle_frame(&ClientMessage::Hello(hello(vec![])).encode(), tx.as_ref()).unwrap();
    assert!(matches!(session.poll_output(), Some(RelayOutput::Hello { .. })));
    session.handle_refused(Code::Unauthenticated, "the token is expired: sign in again");
    assert!(matches!(session.poll_output(), Some(RelayOutput::Send(_))));
    assert!(matches!(session.poll_output(), Some(RelayOutput::Close { code: 1008, .. })));
    assert!(session.is_closed() && session.poll_output().is_none());
    let mut session = RelaySession::new(identity());
    session.handle_frame(&ClientMessage::Hello(hello(vec![])).encode(), tx.as_ref()).unwrap();
    session.handle_frame(&ClientMessage::Credit { bytes: 1 }.encode(), tx.as_ref()).unwrap();
    assert!(session.is_closed());
}

#[test]
fn text_closes_and_unknown_messages_that_may_be_missed_are_missed() {
    let (mut rig, _) = Rig::subscribed(vec![], |_| ());
    rig.hand_in(&Bytes::from_static(&[0xf0, 1, 2, 3]));
    assert!(rig.hear().is_empty() && !rig.session.is_closed());
    rig.hand_in(
        &ClientMessage::Error(ErrorMessage {
            code: Code::Internal,
            text: "sorry".to_owned(),
            is_fatal: false,
            about: About::Connection,
        })
        .encode(),
    );
    assert!(rig.hear().is_empty());
    assert_eq!(rig.asked, ["internal: sorry"]);
    rig.session.handle_text();
    assert_eq!(told(&rig.hear()), ["error frame-invalid fatal"]);
    assert_eq!(rig.closed, Some(1003));
}

#[test]
fn cursor_of_another_epoch_or_above_the_end_is_answered_by_comparing() {
    let old = Start::Cursor { epoch: Epoch::from_bytes([9; 16]), position: 1 };
    for start in [old, Start::Cursor { epoch: EPOCH, position: 4 }, Start::Compare] {
        let wanted = vec![want(TEAM, Mode::Everything, start)];
        let (_, answers) = Rig::subscribed(wanted, |tx| drop(write(tx, &TEAM, document(1), b"bob", 3)));
        assert_eq!(told(&answers), ["subscribed 3..3 compared"]);
    }
    let (rig, answers) = Rig::subscribed(vec![behind(TEAM, 2)], |tx| drop(write(tx, &TEAM, document(1), b"bob", 3)));
    assert_eq!(told(&answers), ["subscribed 2..3", "entries 3..3 with 1", "caught-up 3"]);
    assert_eq!(rig.asked, ["follow e1", "cursor e1 2"]);
}

#[test]
fn spaces_on_one_connection_are_bounded_and_can_be_left() {
    let (mut rig, _) = Rig::subscribed(vec![], |_| ());
    let space = |number: u16| {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        SpaceId::from_bytes(bytes)
    };
    let all = (1..=1024).map(|number| everything(space(number))).collect();
    assert_eq!(rig.say(ClientMessage::Subscribe { subscriptions: all }).len(), 2 * SUBSCRIPTIONS_MAX);
    let more = |rig: &mut Rig| told(&rig.say(ClientMessage::Subscribe { subscriptions: vec![everything(TEAM)] }));
    assert_eq!(more(&mut rig), ["error too-many"]);
    assert_eq!(rig.say(ClientMessage::Unsubscribe { spaces: vec![space(7), space(7), HIDDEN] }), []);
    assert_eq!(rig.asked.last().unwrap(), "unfollow 0");
    assert_eq!(more(&mut rig), ["subscribed 0..0", "caught-up 0"]);
}

#[test]
fn space_that_is_subscribed_to_again_begins_anew_and_one_that_is_left_says_nothing() {
    let (mut rig, _) = Rig::subscribed(vec![everything(TEAM)], |_| ());
    rig.others(TEAM, 1, 2);
    assert_eq!(told(&rig.hear()), ["entries 1..2 with 2"]);
    let again = rig.say(ClientMessage::Subscribe { subscriptions: vec![behind(TEAM, 1)] });
    assert_eq!(told(&again), ["subscribed 1..2", "entries 2..2 with 1", "caught-up 2"]);
    assert_eq!(rig.asked, ["follow e1", "cursor e1 1"]);
    rig.say(ClientMessage::Unsubscribe { spaces: vec![TEAM] });
    rig.others(TEAM, 1, 2);
    rig.session.handle_seen(&TEAM, LAPTOP, 3);
    rig.session.handle_presence(&TEAM, Bytes::from_static(b"any"));
    assert_eq!(rig.hear(), []);
}

#[test]
fn right_that_is_taken_away_ends_the_subscription() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    struct Until(Arc<AtomicBool>);
    impl Grants for Until {
        fn access(&self, _: &SpaceId) -> Option<Access> {
            self.0.load(Ordering::Relaxed).then_some(Access::Admin)
        }
    }
    let (mut rig, _) = Rig::subscribed(vec![everything(TEAM)], |_| ());
    let granted = Arc::new(AtomicBool::new(true));
    rig.session.phase = Phase::Admitted(Box::new(Until(Arc::clone(&granted))));
    rig.others(TEAM, 1, 1);
    assert_eq!(told(&rig.hear()), ["entries 1..1 with 1"]);
    granted.store(false, Ordering::Relaxed);
    rig.others(TEAM, 1, 1);
    assert_eq!(told(&rig.hear()), ["error forbidden"]);
    assert_eq!(rig.asked, ["follow e1", "unfollow e1"]);
}
