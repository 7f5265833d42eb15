//! Pushes: their numbers, their answers, rights, and credit.

use super::*;
use crate::codec::v1::{Content, Write};

fn change(document: DocumentId, bytes: &Bytes) -> Write {
    Write { document, content: Content::Change(bytes.clone()) }
}

/// Changes of a device that has written nothing elsewhere, each on the one before.
fn own(actor: &[u8], count: u64) -> Vec<Bytes> {
    let mut deps = Vec::new();
    let mut made = Vec::new();
    for seq in 1..=count {
        let change = encode(&field_draft(actor, seq, seq, deps)).unwrap();
        deps = vec![change.hash()];
        made.push(change.bytes().clone());
    }
    made
}

fn push(batch: u64, space: SpaceId, writes: Vec<Write>) -> ClientMessage {
    ClientMessage::Push { batch, space, writes }
}

#[test]
fn writes_are_answered_in_runs_and_do_not_come_back() {
    let (mut rig, _) = Rig::subscribed(vec![everything(TEAM)], |_| ());
    let made = own(b"alice", 3);
    let mut writes: Vec<Write> = made.iter().map(|bytes| change(document(1), bytes)).collect();
    writes.insert(2, change(document(1), &Bytes::from_static(b"no change at all")));
    writes.push(change(document(1), &made[0]));
    assert_eq!(told(&rig.say(push(1, TEAM, writes))), ["ack 1 2@1 1change-malformed 1@3 1dup"]);
    assert_eq!(rig.session.spaces[&TEAM].told(), 3);
    rig.others(TEAM, 2, 1);
    assert_eq!(told(&rig.hear()), ["entries 4..4 with 1"]);
    let text = rig.say(push(2, TEAM, vec![change(document(1), &Bytes::from_static(b"no change at all"))]));
    let RelayMessage::Ack { results, .. } = &text[0] else { panic!() };
    let Outcome::Rejected(reject) = &results[0].outcome else { panic!() };
    assert!(reject.text.contains(": "), "{}", reject.text);
}

#[test]
fn own_writes_ahead_of_the_reader_are_left_out_when_it_comes_to_them() {
    let mut poor = hello(vec![everything(TEAM)]);
    poor.credit = 0;
    let (mut rig, _) = Rig::greeted(poor, |tx| drop(write(tx, &TEAM, document(1), b"bob", 2)));
    let writes = own(b"alice", 2).iter().map(|bytes| change(document(2), bytes)).collect();
    assert_eq!(told(&rig.say(push(1, TEAM, writes))), ["ack 1 2@3"]);
    rig.others(TEAM, 1, 1);
    let answers = rig.say(ClientMessage::Credit { bytes: 10_000 });
    assert_eq!(told(&answers), ["entries 1..5 with 3", "caught-up 5"]);
    let RelayMessage::Entries { entries, .. } = &answers[0] else { panic!() };
    assert_eq!(entries[2], Entry::Skipped { count: 2 });
}

#[test]
fn batches_are_numbered_one_by_one() {
    let (mut rig, _) = Rig::subscribed(vec![], |_| ());
    let made = own(b"alice", 1);
    assert_eq!(told(&rig.say(push(1, TEAM, vec![change(document(1), &made[0])]))), ["ack 1 1@1"]);
    assert_eq!(told(&rig.say(push(3, TEAM, vec![change(document(1), &made[0])]))), ["error unexpected fatal"]);
}

#[test]
fn hidden_space_is_unknown_and_one_that_may_be_read_is_read_only() {
    let (mut rig, _) = Rig::subscribed(vec![], |_| ());
    let writes =
        vec![change(document(1), &own(b"alice", 1)[0]), change(document(1), &Bytes::from_static(b"0123456789"))];
    assert_eq!(told(&rig.say(push(1, HIDDEN, writes.clone()))), ["ack 1 2read-only"]);
    assert_eq!(told(&rig.say(push(2, READABLE, writes.clone()))), ["ack 2 2read-only"]);
    assert_eq!(told(&rig.say(push(3, TEAM, writes))), ["ack 3 1@1 1change-malformed"]);
}

#[test]
fn deletion_is_a_write_and_the_document_takes_no_more() {
    let (mut rig, _) = Rig::subscribed(vec![everything(TEAM)], |tx| drop(write(tx, &TEAM, document(1), b"bob", 1)));
    let deletion = Write { document: document(1), content: Content::Deleted(tombstone()) };
    let late = change(document(1), &own(b"alice", 1)[0]);
    assert_eq!(
        told(&rig.say(push(1, TEAM, vec![deletion.clone(), late, deletion]))),
        ["ack 1 1@2 1document-deleted 1dup"]
    );
}

#[test]
fn batches_are_answered_in_their_order_and_only_so_many_are_under_way() {
    let (mut rig, _) = Rig::subscribed(vec![], |_| ());
    rig.holds_appends = true;
    let made = own(b"alice", BATCHES_UNDER_WAY_MAX as u64 + 1);
    for (batch, bytes) in (1..).zip(&made[..BATCHES_UNDER_WAY_MAX]) {
        assert!(rig.session.wants_frames());
        assert_eq!(rig.say(push(batch, TEAM, vec![change(document(1), bytes)])), []);
    }
    assert!(!rig.session.wants_frames());
    let held = std::mem::take(&mut rig.held);
    assert_eq!(held.len(), BATCHES_UNDER_WAY_MAX);
    let tx = rig.store.read().unwrap();
    rig.session.handle_appended(2, vec![Outcome::Stored { first: 2 }], tx.as_ref()).unwrap();
    drop(tx);
    assert_eq!(rig.hear(), []);
    rig.session.handle_append_failed(1, Code::NotStored, &*rig.store.read().unwrap()).unwrap();
    assert_eq!(told(&rig.hear()), ["error not-stored", "ack 2 1@2"]);
    assert!(rig.session.wants_frames());
}

#[test]
fn batch_that_inflates_is_taken_apart() {
    let (mut rig, _) = Rig::subscribed(vec![], |_| ());
    rig.holds_appends = true;
    let made = own(b"alice", 15_000);
    let writes = made.iter().map(|bytes| change(document(1), bytes)).collect();
    assert_eq!(rig.say(push(1, TEAM, writes)), []);
    assert_eq!(rig.held.len(), 1);
    let (batch, space, first) = rig.held.remove(0);
    assert!(first.len() < 15_000 && first.len() * CHECKED_WRITE_BYTES <= 2 * INTAKE_BYTES_MAX);
    rig.append(batch, space, first);
    assert_eq!(told(&rig.hear()), [] as [&str; 0]);
    let (batch, space, rest) = rig.held.remove(0);
    assert!(rig.held.is_empty());
    rig.append(batch, space, rest);
    assert_eq!(told(&rig.hear())[0], "ack 1 15000@1");
}

#[test]
fn credit_comes_back_when_half_is_worked_off_and_more_than_it_is_fatal() {
    let (mut rig, _) = Rig::subscribed(vec![], |_| ());
    rig.holds_appends = true;
    let big = Bytes::from(vec![7; CREDIT_BYTES as usize / 2]);
    assert_eq!(told(&rig.say(push(1, TEAM, vec![change(document(1), &big)]))), ["ack 1 1change-malformed", "credit"]);
    let small = own(b"alice", 2);
    rig.say(push(2, TEAM, vec![change(document(1), &small[0]), change(document(1), &big), change(document(1), &big)]));
    assert_eq!(told(&rig.say(push(3, TEAM, vec![change(document(1), &small[1])]))), ["error credit-overrun fatal"]);
}

#[test]
fn limits_of_the_relay_are_kept_where_they_are_below_those_of_the_protocol() {
    let strict = || {
        let (mut rig, _) = Rig::subscribed(vec![everything(TEAM)], |_| ());
        let limits = Limits { frame_bytes: 1_000, change_bytes: 20, batch_entries: 2, presence_bytes: 3 };
        rig.session.identity.limits = limits;
        rig.session.pushes = Pushes::new(limits.change_bytes);
        rig
    };
    let writes: Vec<Write> = own(b"alice", 3).iter().map(|bytes| change(document(1), bytes)).collect();
    assert_eq!(told(&strict().say(push(1, TEAM, writes[..2].to_vec()))), ["ack 1 1change-limit 1change-limit"]);
    assert_eq!(told(&strict().say(push(1, TEAM, writes))), ["error frame-limit fatal"]);
    let long = change(document(1), &Bytes::from(vec![7; 1_000]));
    let mut rig = strict();
    assert_eq!(told(&rig.say(push(1, TEAM, vec![long]))), ["error frame-limit fatal"]);
    assert_eq!(rig.closed, Some(1009));
}

#[test]
fn own_writes_above_the_bound_of_ranges_come_back_and_nothing_is_lost() {
    let mut poor = hello(vec![everything(TEAM)]);
    poor.credit = 0;
    let (mut rig, _) = Rig::greeted(poor, |_| ());
    for (batch, bytes) in (1..).zip(own(b"alice", OWN_RANGES_MAX as u64 + 20)) {
        rig.say(push(batch, TEAM, vec![change(document(1), &bytes)]));
        rig.others(TEAM, 2, 1);
    }
    let answers = rig.say(ClientMessage::Credit { bytes: CREDIT_BYTES });
    let end = 2 * (OWN_RANGES_MAX as u64 + 20);
    let RelayMessage::Entries { entries, .. } = &answers[0] else { panic!("{:?}", told(&answers)) };
    let writes = entries.iter().filter(|entry| matches!(entry, Entry::Write(_))).count();
    assert_eq!(writes, OWN_RANGES_MAX + 20 + 19);
    // The first own write was passed over at once, which made room for one more range.
    assert_eq!(told(&answers), [format!("entries 2..{end} with {writes}")]);
}
