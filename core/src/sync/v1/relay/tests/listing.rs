//! Listings, and documents that are opened and closed.

use super::*;
use crate::codec::v1::{Content, DocumentHeads, ListedState};
use crate::limits::OPEN_DOCUMENTS_MAX;

fn listing(start: Start) -> Vec<Subscription> {
    vec![want(TEAM, Mode::Listing, start)]
}

fn open(documents: Vec<(u8, Vec<crate::ChangeHash>)>) -> ClientMessage {
    let documents = documents.into_iter().map(|(number, heads)| DocumentHeads { document: document(number), heads });
    ClientMessage::Open { space: TEAM, documents: documents.collect() }
}

fn three(tx: &mut dyn WriteTx) {
    (1..=3).for_each(|number| drop(write(tx, &TEAM, document(number), b"bob", 2)));
}

#[test]
fn all_documents_are_listed_and_then_what_changes() {
    let other = Start::Cursor { epoch: Epoch::from_bytes([9; 16]), position: 1 };
    for start in [Start::Beginning, Start::Compare, other] {
        let (mut rig, answers) = Rig::subscribed(listing(start), three);
        assert_eq!(told(&answers), ["subscribed 6..6", "listing 3 at 6", "caught-up 6"]);
        rig.others(TEAM, 2, 2);
        rig.bury(TEAM, 1);
        let answers = rig.hear();
        assert_eq!(told(&answers), ["listing 2 at 9"]);
        let RelayMessage::Listing { documents, .. } = &answers[0] else { panic!() };
        let heads = rig.heads(2);
        assert!(documents.iter().any(|listed| matches!(&listed.state,
            ListedState::Present { heads: listed, changes: 4, .. } if *listed == heads)));
        assert!(documents.iter().any(|listed| matches!(listed.state, ListedState::Deleted(_))));
        assert_eq!(rig.say(ClientMessage::Cursor { space: TEAM, position: 9 }), []);
    }
}

#[test]
fn only_what_changed_is_listed_behind_a_cursor() {
    let (_, answers) = Rig::subscribed(listing(Start::Cursor { epoch: EPOCH, position: 4 }), three);
    assert_eq!(told(&answers), ["subscribed 4..6", "listing 1 at 6", "caught-up 6"]);
}

#[test]
fn open_documents_are_filled_in_and_followed_until_they_are_closed() {
    let (mut rig, _) = Rig::subscribed(listing(Start::Beginning), three);
    let answers = rig.say(open(vec![(1, vec![]), (2, rig.heads(2)), (9, vec![])]));
    assert_eq!(told(&answers), ["fill 2", "opened 3 at 6"]);
    let RelayMessage::Opened { documents, .. } = &answers[1] else { panic!() };
    assert_eq!((&documents[1].heads, documents[2].heads.len()), (&rig.heads(2), 0));
    rig.others(TEAM, 3, 1);
    rig.others(TEAM, 1, 1);
    rig.others(TEAM, 3, 1);
    rig.others(TEAM, 9, 1);
    assert_eq!(told(&rig.hear()), ["entries 8..10 with 2", "listing 3 at 10"]);
    rig.bury(TEAM, 1);
    assert_eq!(told(&rig.hear()), ["entries 11..11 with 1", "listing 1 at 11"]);
    let close = ClientMessage::Close { space: TEAM, documents: vec![document(9), document(2), document(9)] };
    assert_eq!(rig.say(close), []);
    rig.others(TEAM, 9, 1);
    assert_eq!(told(&rig.hear()), ["listing 1 at 12"]);
    let answers = rig.say(open(vec![(1, vec![])]));
    assert_eq!(told(&answers), ["fill 1", "opened 1 at 12"]);
    let RelayMessage::Fill { writes, .. } = &answers[0] else { panic!() };
    assert!(matches!(writes[0].content, Content::Deleted(_)));
}

#[test]
fn document_that_grows_while_it_is_filled_in_is_told_without_a_gap() {
    let (mut rig, _) =
        Rig::subscribed(listing(Start::Beginning), |tx| drop(write(tx, &TEAM, document(1), b"bob", 5_000)));
    rig.hand_in(&open(vec![(1, vec![])]).encode());
    let mut count = 0;
    let mut is_open = false;
    for _ in 0..12 {
        let tx = rig.store.read().unwrap();
        let message = rig.session.poll_transmit(tx.as_ref(), &NoLiveFrames).unwrap();
        drop(tx);
        match message.map(|message| RelayMessage::decode(&message).unwrap()) {
            Some(RelayMessage::Fill { writes, .. }) => count += writes.len(),
            Some(RelayMessage::Opened { .. }) => is_open = true,
            Some(RelayMessage::Entries { entries, .. }) => {
                assert!(is_open);
                count += entries.iter().filter(|entry| matches!(entry, Entry::Write(_))).count();
            }
            _ => {}
        }
        if count < 5_004 {
            rig.others(TEAM, 1, 1);
        }
    }
    rig.hear();
    let state = ledger::state(&*rig.store.read().unwrap(), &document(1)).unwrap().unwrap();
    assert!(is_open);
    assert_eq!(count as u64, state.count);
}

#[test]
fn open_documents_and_their_heads_are_bounded() {
    let (mut rig, _) = Rig::subscribed(vec![want(TEAM, Mode::Listing, Start::Beginning), everything(OTHER)], |_| ());
    let many = |first: u32, count: u32| {
        let named = (first..first + count).map(|number| {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            DocumentHeads { document: DocumentId::from_bytes(bytes), heads: vec![] }
        });
        ClientMessage::Open { space: TEAM, documents: named.collect() }
    };
    for first in (0..OPEN_DOCUMENTS_MAX).step_by(DOCUMENT_LIST_MAX) {
        let count = DOCUMENT_LIST_MAX.min(OPEN_DOCUMENTS_MAX - first);
        let answers = rig.say(many(first as u32, count as u32));
        assert!(told(&answers).iter().all(|message| message.starts_with("opened")), "{:?}", told(&answers));
    }
    assert_eq!(told(&rig.say(many(1 << 20, 1))), ["error too-many"]);
    assert_eq!(rig.say(ClientMessage::Close { space: TEAM, documents: vec![DocumentId::from_bytes([0; 16])] }), []);
    assert_eq!(told(&rig.say(many(1 << 20, 1))), ["opened 1 at 0"]);
    let wrong =
        ClientMessage::Open { space: OTHER, documents: vec![DocumentHeads { document: document(1), heads: vec![] }] };
    assert_eq!(told(&rig.say(wrong)), ["error unexpected fatal"]);
}

#[test]
fn own_writes_to_an_open_document_do_not_come_back() {
    let (mut rig, _) = Rig::subscribed(listing(Start::Beginning), |_| ());
    assert_eq!(told(&rig.say(open(vec![(1, vec![])]))), ["opened 1 at 0"]);
    let change = encode(&field_draft(b"alice", 1, 1, vec![])).unwrap();
    let write = crate::codec::v1::Write { document: document(1), content: Content::Change(change.bytes().clone()) };
    let answers = rig.say(ClientMessage::Push { batch: 1, space: TEAM, writes: vec![write] });
    assert_eq!(told(&answers)[0], "ack 1 1@1");
    assert!(!told(&answers).iter().any(|message| message.starts_with("entries")), "{:?}", told(&answers));
}
