//! The log as a reader gets it: frames, own writes, cursors, credit, live frames, snapshots, and what may be lost.

use super::*;
use crate::codec::v1::{EntriesBuilder, Presence};
use crate::ledger::snapshot;

/// Frames that say nothing but who made them.
struct Shared(std::cell::RefCell<Vec<(u64, u64)>>);

impl LiveFrames for Shared {
    fn frame(&self, space: &SpaceId, first: u64, until: u64) -> Option<LiveFrame> {
        self.0.borrow_mut().push((first, until));
        let mut entries = EntriesBuilder::new(space, first);
        entries.skip(until.min(first + 1) - first + 1);
        Some(LiveFrame { last: entries.next_position() - 1, bytes: entries.finish() })
    }
}

#[test]
fn frames_are_about_a_batch_long_and_spaces_take_turns() {
    let (_, answers) = Rig::subscribed(vec![everything(TEAM), everything(OTHER)], |tx| {
        write(tx, &TEAM, document(1), b"bob", 6_000);
        write(tx, &OTHER, document(2), b"bob", 6_000);
    });
    let spaces: Vec<u8> = answers
        .iter()
        .filter_map(|message| match message {
            RelayMessage::Entries { space, entries, .. } => {
                assert!(entries.len() < 6_000);
                Some(space.as_bytes()[0])
            }
            _ => None,
        })
        .collect();
    assert!(spaces.len() >= 4, "{spaces:?}");
    assert!(spaces[..4].windows(2).all(|two| two[0] != two[1]), "{spaces:?}");
    let all: u64 = answers
        .iter()
        .filter_map(|message| match message {
            RelayMessage::Entries { entries, .. } => Some(entries.iter().map(Entry::positions).sum::<u64>()),
            _ => None,
        })
        .sum();
    assert_eq!(all, 12_000);
}

#[test]
fn readers_get_shared_frames_that_end_before_what_they_wrote() {
    let (mut rig, _) = Rig::subscribed(vec![behind(TEAM, 0)], |_| ());
    rig.store.write_with(|tx| Ok(write(tx, &TEAM, document(1), b"bob", 5))).unwrap();
    rig.session.spaces.get_mut(&TEAM).unwrap().tail.own.add(4, 1, 1);
    rig.tell_end(TEAM);
    let shared = Shared(std::cell::RefCell::default());
    let answers = rig.hear_with(&shared);
    assert_eq!(told(&answers), ["entries 1..2 with 0", "entries 3..3 with 0", "entries 5..5 with 0"]);
    assert_eq!(*shared.0.borrow(), [(1, 3), (3, 3), (5, 5)]);
}

#[test]
fn deleted_documents_leave_gaps_that_are_told() {
    let (mut rig, _) = Rig::subscribed(vec![], |tx| {
        write(tx, &TEAM, document(1), b"bob", 3);
        write(tx, &TEAM, document(2), b"bob", 2);
        tombstone::bury(tx, &document(1), &tombstone()).unwrap();
    });
    let answers = rig.say(ClientMessage::Subscribe { subscriptions: vec![everything(TEAM)] });
    assert_eq!(told(&answers), ["subscribed 0..6", "entries 1..6 with 3", "caught-up 6"]);
    let RelayMessage::Entries { entries, .. } = &answers[1] else { panic!() };
    assert_eq!(entries[0], Entry::Skipped { count: 3 });
}

#[test]
fn cursor_moves_up_and_never_above_what_was_told() {
    let (mut rig, _) = Rig::subscribed(vec![everything(TEAM)], |tx| drop(write(tx, &TEAM, document(1), b"bob", 3)));
    for position in [2, 1, 3, 3] {
        assert_eq!(rig.say(ClientMessage::Cursor { space: TEAM, position }), []);
    }
    assert_eq!(rig.asked, ["follow e1", "cursor e1 2", "cursor e1 3"]);
    assert_eq!(told(&rig.say(ClientMessage::Cursor { space: OTHER, position: 1 })), ["error not-subscribed"]);
    assert_eq!(told(&rig.say(ClientMessage::Cursor { space: TEAM, position: 4 })), ["error cursor-ahead fatal"]);
}

#[test]
fn reader_without_credit_gets_one_hint_and_the_rest_when_credit_comes() {
    let mut poor = hello(vec![everything(TEAM)]);
    poor.credit = 1;
    let (mut rig, answers) = Rig::greeted(poor, |tx| drop(write(tx, &TEAM, document(1), b"bob", 3)));
    assert_eq!(told(&answers), ["welcome", "subscribed 0..3", "entries 1..3 with 3", "caught-up 3"]);
    for _ in 0..3 {
        rig.others(TEAM, 1, 1);
    }
    assert_eq!(told(&rig.hear()), ["hint 6"]);
    rig.others(TEAM, 1, 1);
    assert_eq!(rig.hear(), []);
    assert_eq!(told(&rig.say(ClientMessage::Credit { bytes: 1_000 })), ["entries 4..7 with 4"]);
    assert_eq!(told(&rig.say(ClientMessage::Credit { bytes: CREDIT_BYTES_MAX })), ["error credit-overrun fatal"]);
}

#[test]
fn seen_is_told_last_per_store_and_presence_drops_the_oldest() {
    let (mut rig, _) = Rig::subscribed(vec![everything(TEAM)], |_| ());
    for position in [5, 7, 6] {
        rig.session.handle_seen(&TEAM, LAPTOP, position);
        rig.session.handle_seen(&TEAM, PHONE, position);
        rig.session.handle_seen(&OTHER, LAPTOP, position);
    }
    assert_eq!(told(&rig.hear()), ["seen 7"]);
    for number in 0..2 * SEEN_WAITING_MAX as u64 {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        rig.session.handle_seen(&TEAM, StorageId::from_bytes(bytes), number);
    }
    let seen = told(&rig.hear());
    assert_eq!((seen.len(), seen[0].as_str()), (SEEN_WAITING_MAX, "seen 256"));
    let frame = |byte: usize| Bytes::from(vec![byte as u8; 100]);
    (0..2 * PRESENCE_WAITING_MAX).for_each(|byte| rig.session.handle_presence(&TEAM, frame(byte)));
    (0..3).for_each(|_| rig.session.handle_presence(&TEAM, Bytes::from(vec![1; 700_000])));
    let tx = rig.store.read().unwrap();
    let mut left = Vec::new();
    while let Some(frame) = rig.session.poll_transmit(tx.as_ref(), &NoLiveFrames).unwrap() {
        left.push(frame.len());
    }
    assert_eq!(left, [700_000]);
}

#[test]
fn presence_is_passed_on_under_the_name_of_who_sends_it() {
    let (mut rig, _) = Rig::subscribed(vec![everything(TEAM)], |_| ());
    let say = |author: &str, space: SpaceId| ClientMessage::Presence {
        space,
        values: vec![Presence {
            author: PeerId::new(author).unwrap(),
            document: document(1),
            key: "cursor".to_owned(),
            sequence: 1,
            ttl_ms: 1_000,
            data: Bytes::from_static(b"x"),
        }],
    };
    assert_eq!(rig.say(say("alice", TEAM)), []);
    assert_eq!(rig.asked, ["follow e1", "presence 1"]);
    assert_eq!(told(&rig.say(say("alice", OTHER))), ["error not-subscribed"]);
    assert_eq!(told(&rig.say(say("mallory", TEAM))), ["error unexpected fatal"]);
}

fn fold(tx: &mut dyn WriteTx, number: u8) {
    let state = ledger::state(tx, &document(number)).unwrap().unwrap();
    assert!(snapshot::put(tx, &document(number), state.count, &state.head_hashes(), b"chunk").unwrap());
}

#[test]
fn fresh_client_that_takes_snapshots_gets_one_and_gaps_in_the_place_of_its_entries() {
    let prepare = |tx: &mut dyn WriteTx| {
        write(tx, &TEAM, document(1), b"bob", 2);
        write(tx, &TEAM, document(2), b"bob", 4);
        write(tx, &TEAM, document(1), b"bob", 1);
        fold(tx, 2);
        write(tx, &TEAM, document(2), b"bob", 2);
    };
    let mut taking = hello(vec![everything(TEAM)]);
    taking.takes_snapshots = true;
    let (rig, answers) = Rig::greeted(taking.clone(), prepare);
    let expected = ["entries 1..2 with 2", "snapshot 5 at 3", "entries 3..9 with 3", "caught-up 9"];
    assert_eq!(told(&answers)[2..], expected);
    assert_eq!(rig.asked, ["follow e1"]);
    let (_, answers) = Rig::subscribed(vec![everything(TEAM)], prepare);
    assert_eq!(told(&answers)[1..], ["entries 1..9 with 9", "caught-up 9"]);
    taking.subscriptions = vec![behind(TEAM, 1)];
    let (_, answers) = Rig::greeted(taking, prepare);
    assert_eq!(told(&answers)[2..], ["entries 2..9 with 8", "caught-up 9"]);
}
