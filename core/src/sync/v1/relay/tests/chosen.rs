//! Documents that are chosen one by one: what is new of them comes, and nothing else costs anything.

use std::cell::Cell;
use std::ops::Range;

use super::*;
use crate::codec::v1::{Content, DocumentHeads, Write};
use crate::store::{ReadTx, Table, Visitor};

/// A transaction that counts what is asked of it.
struct Counting<'t> {
    tx: Box<dyn ReadTx + 't>,
    reads: Cell<usize>,
}

impl ReadTx for Counting<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        assert!(table != Table::Log || key.len() == 16, "the log is read");
        self.reads.set(self.reads.get() + 1);
        self.tx.get(table, key)
    }

    fn contains(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        self.get(table, key).map(|value| value.is_some())
    }

    fn scan(&self, table: Table, range: Range<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        assert_ne!(table, Table::Log, "the log is read");
        self.reads.set(self.reads.get() + 1);
        self.tx.scan(table, range, visit)
    }
}

fn chosen(space: SpaceId) -> Vec<Subscription> {
    vec![want(space, Mode::Chosen, Start::Beginning)]
}

fn open(space: SpaceId, numbers: &[u8]) -> ClientMessage {
    let documents = numbers.iter().map(|number| DocumentHeads { document: document(*number), heads: vec![] });
    ClientMessage::Open { space, documents: documents.collect() }
}

/// A reader of the default space that has document 1 open, with two changes.
fn reader() -> Rig {
    let home = SpaceId::DEFAULT;
    let (mut rig, answers) = Rig::subscribed(chosen(home), |tx| drop(write(tx, &home, document(1), b"bob", 2)));
    assert_eq!(told(&answers), ["subscribed 1..1", "caught-up 1"].map(|told| told.replace('1', "2")));
    assert_eq!(told(&rig.say(open(home, &[1]))), ["fill 2", "opened 1 at 2"]);
    assert_eq!(rig.asked, ["open 1"]);
    rig
}

fn pushed(batch: u64, change: Bytes) -> ClientMessage {
    let write = Write { document: document(1), content: Content::Change(change) };
    ClientMessage::Push { batch, space: SpaceId::DEFAULT, writes: vec![write] }
}

/// Makes a change of alice above what is there, without storing it.
fn own_change(rig: &Rig, seq: u64) -> Bytes {
    let state = ledger::state(&*rig.store.read().unwrap(), &document(1)).unwrap().unwrap();
    encode(&field_draft(b"alice", seq, state.max_op + 1, state.head_hashes())).unwrap().bytes().clone()
}

#[test]
fn changes_of_other_documents_cost_a_reader_no_look_into_the_store() {
    let mut rig = reader();
    for number in 2..=251 {
        rig.others(SpaceId::DEFAULT, number, 4);
    }
    let tx = Counting { tx: rig.store.read().unwrap(), reads: Cell::new(0) };
    assert_eq!(rig.session.poll_transmit(&tx, &NoLiveFrames).unwrap(), None);
    assert_eq!(tx.reads.get(), 0);
    drop(tx);
    rig.others(SpaceId::DEFAULT, 1, 3);
    let tx = Counting { tx: rig.store.read().unwrap(), reads: Cell::new(0) };
    let message = rig.session.poll_transmit(&tx, &NoLiveFrames).unwrap().unwrap();
    assert_eq!(told(&[RelayMessage::decode(&message).unwrap()]), ["fill 3"]);
    let reads = tx.reads.get();
    assert_eq!(rig.session.poll_transmit(&tx, &NoLiveFrames).unwrap(), None);
    assert_eq!(tx.reads.get(), reads);
    assert!(reads < 12, "{reads}");
}

#[test]
fn what_is_new_of_several_documents_shares_a_message_and_closed_ones_are_silent() {
    let mut rig = reader();
    let home = SpaceId::DEFAULT;
    assert_eq!(told(&rig.say(open(home, &[2, 3]))), ["opened 2 at 2"]);
    rig.others(home, 3, 1);
    rig.others(home, 1, 2);
    rig.others(home, 3, 1);
    rig.others(home, 4, 1);
    assert_eq!(told(&rig.hear()), ["fill 4"]);
    let close = |numbers: &[u8]| ClientMessage::Close {
        space: home,
        documents: numbers.iter().map(|number| document(*number)).collect(),
    };
    rig.others(home, 1, 1);
    assert_eq!(rig.say(close(&[1, 9])), []);
    assert_eq!(rig.asked, ["open 1", "open 2", "close 1"]);
    rig.others(home, 1, 1);
    assert_eq!(rig.hear(), []);
    rig.say(ClientMessage::Unsubscribe { spaces: vec![home] });
    assert_eq!(rig.asked[3..], ["close 2"]);
}

#[test]
fn deletion_is_told_once_and_a_document_made_again_begins_anew() {
    let mut rig = reader();
    let home = SpaceId::DEFAULT;
    rig.bury(home, 1);
    let answers = rig.hear();
    assert_eq!(told(&answers), ["fill 1"]);
    let RelayMessage::Fill { writes, .. } = &answers[0] else { panic!() };
    assert!(matches!(writes[0].content, Content::Deleted(_)));
    rig.session.handle_document_changed(&document(1));
    assert_eq!(rig.hear(), []);
    // As many changes as it had, and nobody looked meanwhile.
    rig.store.write_with(|tx| tombstone::expire(tx, u64::MAX)).unwrap();
    rig.others(home, 1, 2);
    assert_eq!(told(&rig.hear()), ["fill 2"]);
    rig.store.write_with(|tx| tombstone::bury(tx, &document(1), &super::tombstone()).map(drop)).unwrap();
    rig.store.write_with(|tx| tombstone::expire(tx, u64::MAX)).unwrap();
    rig.others(home, 1, 3);
    assert_eq!(told(&rig.hear()), ["fill 3"]);
}

#[test]
fn own_changes_do_not_come_back_and_those_of_others_between_them_do() {
    let mut rig = reader();
    let change = own_change(&rig, 1);
    assert_eq!(told(&rig.say(pushed(1, change))), ["ack 1 1@3", "credit"][..1]);
    rig.holds_appends = true;
    let second = own_change(&rig, 2);
    assert_eq!(rig.say(pushed(2, second)), []);
    rig.others(SpaceId::DEFAULT, 1, 1);
    let (batch, space, writes) = rig.held.pop().unwrap();
    rig.append(batch, space, writes);
    rig.others(SpaceId::DEFAULT, 1, 1);
    // The others' two, without the one between them.
    assert_eq!(told(&rig.hear()), ["ack 2 1@5", "fill 2"]);
    // What failed is forgotten.
    let third = own_change(&rig, 3);
    rig.say(pushed(3, third));
    rig.held.clear();
    rig.session.handle_append_failed(3, Code::NotStored, &*rig.store.read().unwrap()).unwrap();
    assert_eq!(told(&rig.hear()), ["error not-stored"]);
    rig.others(SpaceId::DEFAULT, 1, 1);
    assert_eq!(told(&rig.hear()), ["fill 1"]);
}

#[test]
fn document_of_another_space_is_not_told_of() {
    let (mut rig, _) = Rig::subscribed(chosen(SpaceId::DEFAULT), |tx| drop(write(tx, &TEAM, document(1), b"bob", 2)));
    assert_eq!(told(&rig.say(open(SpaceId::DEFAULT, &[1, 2]))), ["opened 2 at 0"]);
    rig.others(TEAM, 1, 1);
    rig.others(TEAM, 2, 1);
    rig.bury(TEAM, 1);
    assert_eq!(rig.hear(), []);
}

#[test]
fn without_credit_nothing_is_read_and_all_of_it_comes_when_there_is_some() {
    let mut said = hello(chosen(SpaceId::DEFAULT));
    said.credit = 1;
    let (mut rig, _) = Rig::greeted(said, |_| ());
    assert_eq!(told(&rig.say(open(SpaceId::DEFAULT, &[1]))), ["opened 1 at 0"]);
    for _ in 0..3 {
        rig.others(SpaceId::DEFAULT, 1, 2_000);
        assert_eq!(rig.hear(), []);
    }
    let answers = rig.say(ClientMessage::Credit { bytes: CREDIT_BYTES });
    let changes = answers.iter().map(|message| match message {
        RelayMessage::Fill { writes, .. } => writes.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(changes.sum::<usize>(), 6_000);
    assert!(answers.len() > 1);
}

#[test]
fn frames_that_all_readers_share_are_sent_as_they_are() {
    struct Commit(Bytes);
    impl LiveFrames for Commit {
        fn frame(&self, _: &SpaceId, _: u64, _: u64) -> Option<LiveFrame> {
            None
        }
        fn fill(&self, _: &SpaceId, of: &DocumentId, first: u64, until: u64) -> Option<LiveFrame> {
            let is_it = *of == document(1) && first == 2 && until >= 3;
            is_it.then(|| LiveFrame { last: 3, bytes: self.0.clone() })
        }
    }
    let mut rig = reader();
    let made = rig.others(SpaceId::DEFAULT, 1, 3);
    let mut fill = crate::codec::v1::WritesBuilder::fill(&SpaceId::DEFAULT);
    assert!(made[..2].iter().all(|change| fill.change(&document(1), change)));
    let answers = rig.hear_with(&Commit(fill.finish()));
    assert_eq!(told(&answers), ["fill 2", "fill 1"]);
}

#[test]
fn space_that_is_chosen_from_is_followed_when_all_of_it_is_wanted() {
    let (mut rig, _) = Rig::subscribed(chosen(TEAM), |_| ());
    rig.say(open(TEAM, &[1]));
    rig.say(ClientMessage::Subscribe { subscriptions: vec![everything(TEAM)] });
    rig.say(ClientMessage::Subscribe { subscriptions: chosen(TEAM) });
    assert_eq!(rig.asked, ["open 1", "close 1", "follow e1", "unfollow e1"]);
}
