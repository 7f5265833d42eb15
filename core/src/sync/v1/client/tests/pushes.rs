//! Pushes and their answers.

use super::*;
use crate::codec::v1::{AckRun, Outcome};
use crate::engine::{self, Origin};
use crate::ledger::receipts::{self, Receipt};
use crate::ledger::{self, outbox, spaces};
use crate::store::StoreExt;

fn ack(batch: u64, outcomes: &[(u64, Outcome)]) -> RelayMessage {
    let results = outcomes.iter().map(|(count, outcome)| AckRun { count: *count, outcome: outcome.clone() }).collect();
    RelayMessage::Ack { batch, results }
}

fn rejected(code: Code) -> Outcome {
    Outcome::Rejected(Reject::new(code))
}

/// What was pushed since the last time: batch, and its writes' documents.
fn pushed(device: &mut Device) -> Vec<(u64, Vec<DocumentId>)> {
    let push = |message: ClientMessage| match message {
        ClientMessage::Push { batch, writes, .. } => Some((batch, writes.iter().map(|one| one.document).collect())),
        _ => None,
    };
    device.take_sent().into_iter().filter_map(push).collect()
}

fn refusals(device: &mut Device) -> Vec<(DocumentId, u64, Code, bool)> {
    let refusal = |said: ClientOutput| match said {
        ClientOutput::Rejected { document, position, reject, stands_on, .. } => {
            Some((document, position, reject.code, stands_on.is_some()))
        }
        _ => None,
    };
    std::mem::take(&mut device.said).into_iter().filter_map(refusal).collect()
}

#[test]
fn what_waits_is_pushed_once_and_acknowledged_and_moves_the_cursor() {
    let mut device = Device::new(1);
    (0..3).for_each(|_| drop(device.write(document(1))));
    device.write(document(2));
    let mut session = begin(&mut device);
    device.hear(&mut session, &caught_up(0));
    device.carry_out(&mut session);
    // The push may go out with the subscription.
    let mut fresh = Device::new(1);
    (0..3).for_each(|_| drop(fresh.write(document(1))));
    let mut session = fresh.connect();
    session.subscribe(TEAM, Mode::Everything, Start::Beginning);
    fresh.hear(&mut session, &welcome(1 << 20));
    assert_eq!(pushed(&mut fresh), [(1, vec![document(1); 3])]);
    fresh.hear(&mut session, &subscribed(false, 0, 4));
    session.handle_changed(document(1));
    fresh.carry_out(&mut session);
    assert_eq!(pushed(&mut fresh), []);
    assert_eq!(session.progress().batches_in_flight, 1);
    // Two before it are another's, and come later.
    fresh.hear(&mut session, &ack(1, &[(3, Outcome::Stored { first: 3 })]));
    assert_eq!((fresh.waiting(), fresh.cursor()), (0, None));
    fresh.hear(&mut session, &entries(1, vec![Entry::Skipped { count: 2 }]));
    assert_eq!(fresh.cursor().unwrap().position, 5);
    fresh.hear(&mut session, &caught_up(5));
    assert!(session.progress().is_caught_up);
    // A later one alone moves it too.
    fresh.write(document(1));
    session.handle_changed(document(1));
    fresh.carry_out(&mut session);
    assert_eq!(pushed(&mut fresh), [(2, vec![document(1)])]);
    fresh.hear(&mut session, &ack(2, &[(1, Outcome::Stored { first: 6 })]));
    assert_eq!((fresh.waiting(), fresh.cursor().unwrap().position), (0, 6));
    assert_eq!(cursors(&fresh.take_sent()), [6]);
    let receipt = receipts::get(&*fresh.store.read().unwrap(), &document(1), 3).unwrap();
    assert_eq!(receipt, Some(Receipt::Relayed));
}

#[test]
fn pushes_wait_for_credit_and_for_answers() {
    let mut device = Device::new(1);
    for number in 1..200 {
        device.write(document(number));
    }
    let mut session = device.connect();
    device.hear(&mut session, &welcome(0));
    assert_eq!(pushed(&mut device), []);
    device.hear(&mut session, &RelayMessage::Credit { bytes: 1 });
    assert_eq!(pushed(&mut device).len(), 1);
    assert_eq!(session.progress().batches_in_flight, 1);
    device.hear(&mut session, &RelayMessage::Credit { bytes: 1 << 30 });
    // What came before took it below zero.
    assert!(!session.is_closed());
    device.hear(&mut session, &RelayMessage::Credit { bytes: 1 << 30 });
    assert!(session.is_closed());
}

#[test]
fn few_batches_are_under_way() {
    let mut device = Device::new(1);
    let mut session = begin(&mut device);
    for number in 1..=20 {
        device.write(document(number));
        session.handle_changed(document(number));
        device.carry_out(&mut session);
    }
    assert_eq!(pushed(&mut device).len(), crate::limits::PUSHES_MAX);
    device.hear(&mut session, &ack(1, &[(1, Outcome::Stored { first: 1 })]));
    // All that waited fits into the one that may go now.
    assert_eq!(pushed(&mut device).len(), 1);
}

#[test]
fn refused_write_holds_its_document_back_and_no_other() {
    let mut device = Device::new(1);
    (0..3).for_each(|_| drop(device.write(document(1))));
    device.write(document(2));
    let mut session = begin(&mut device);
    device.carry_out(&mut session);
    let answer = [
        (1, Outcome::Stored { first: 1 }),
        (1, rejected(Code::ChangeConflict)),
        (1, rejected(Code::ChangeMissing)),
        (1, Outcome::Stored { first: 2 }),
    ];
    device.take_sent();
    device.hear(&mut session, &ack(1, &answer));
    let expected = [(document(1), 1, Code::ChangeConflict, false), (document(1), 2, Code::ChangeMissing, true)];
    assert_eq!(refusals(&mut device), expected);
    assert_eq!(device.waiting(), 2);
    device.write(document(1));
    device.write(document(2));
    session.handle_changed(document(1));
    session.handle_changed(document(2));
    device.carry_out(&mut session);
    assert_eq!(pushed(&mut device), [(2, vec![document(2)])]);
    session.handle_retry(document(1));
    device.carry_out(&mut session);
    assert_eq!(pushed(&mut device), [(3, vec![document(1); 3])]);
    // The next connection does not know of it, unless it is told.
    let mut session = device.connect();
    session.hold(document(1));
    device.hear(&mut session, &welcome(1 << 20));
    assert_eq!(pushed(&mut device), [(1, vec![document(2)])]);
}

#[test]
fn change_that_lacks_what_nobody_knew_was_lacking_brings_the_whole_document() {
    let (mut device, other) = (Device::new(1), Device::new(2));
    let theirs = other.write(document(1));
    let mut session = begin(&mut device);
    device.hear(&mut session, &entries(1, vec![entry(document(1), &theirs)]));
    device.write(document(1));
    session.handle_changed(document(1));
    device.carry_out(&mut session);
    assert_eq!(pushed(&mut device), [(1, vec![document(1)])]);
    device.hear(&mut session, &ack(1, &[(1, rejected(Code::ChangeMissing))]));
    assert_eq!(refusals(&mut device), []);
    assert_eq!(pushed(&mut device), [(2, vec![document(1); 2])]);
    device.hear(&mut session, &ack(2, &[(2, Outcome::Stored { first: 2 })]));
    assert_eq!((device.waiting(), device.cursor().unwrap().position), (0, 3));
}

#[test]
fn duplicate_is_acknowledged_by_its_entry_or_when_all_is_told() {
    let mut device = Device::new(1);
    let changes = [device.write(document(1)), device.write(document(1))];
    let mut session = begin(&mut device);
    device.take_sent();
    device.hear(&mut session, &ack(1, &[(2, Outcome::Duplicate)]));
    assert_eq!(device.waiting(), 2);
    device.hear(&mut session, &entries(1, vec![entry(document(1), &changes[0])]));
    assert_eq!(device.deliveries[0].own, [(document(1), changes[0].hash(), 1)]);
    assert_eq!(device.waiting(), 1);
    device.hear(&mut session, &caught_up(1));
    assert_eq!(device.waiting(), 0);
    // Afterwards nothing more would come of it.
    device.write(document(1));
    session.handle_changed(document(1));
    device.carry_out(&mut session);
    device.hear(&mut session, &ack(2, &[(1, Outcome::Duplicate)]));
    assert_eq!(device.waiting(), 0);
}

/// A device that was taken for an older copy of itself writes again what it has, with another actor; a refused change is taken out; a
/// document is deleted and made anew: in each case something else stands at the positions of what is under way.
#[test]
fn answer_is_about_the_change_that_was_sent_and_not_about_what_stands_in_its_place() {
    for outcome in [Outcome::Stored { first: 1 }, Outcome::Duplicate, rejected(Code::ActorOwned)] {
        let mut device = Device::new(1);
        (0..2).for_each(|_| drop(device.write(document(1))));
        let mut session = begin(&mut device);
        device.hear(&mut session, &caught_up(0));
        assert_eq!((session.progress().batches_in_flight, pushed(&mut device)), (1, vec![]));
        device.store.write_with(|tx| ledger::delete(tx, &document(1))).unwrap();
        device.actor = [3; 16];
        (0..3).for_each(|_| drop(device.write(document(1))));
        session.handle_retry(document(1));
        device.carry_out(&mut session);
        assert_eq!(pushed(&mut device), [(2, vec![document(1); 3])], "all of them are new");
        device.hear(&mut session, &ack(1, &[(2, outcome)]));
        assert_eq!((device.waiting(), refusals(&mut device)), (3, vec![]));
        device.hear(&mut session, &ack(2, &[(3, Outcome::Stored { first: 3 })]));
        assert_eq!(device.waiting(), 0);
    }
}

#[test]
fn error_about_a_batch_answers_it() {
    let mut device = Device::new(1);
    device.write(document(1));
    let mut session = begin(&mut device);
    let error =
        ErrorMessage { code: Code::NotStored, text: "disk full".to_owned(), is_fatal: false, about: About::Batch(1) };
    device.hear(&mut session, &RelayMessage::Error(error));
    assert_eq!(refusals(&mut device), [(document(1), 0, Code::NotStored, false)]);
    assert_eq!(session.progress().batches_in_flight, 0);
    device.take_sent();
    session.handle_retry(document(1));
    device.carry_out(&mut session);
    assert_eq!(pushed(&mut device), [(2, vec![document(1)])]);
}

#[test]
fn deletions_are_pushed_until_the_relay_has_them() {
    let mut device = Device::new(1);
    device.write(document(1));
    device.write(document(2));
    device.bury(document(1));
    let mut session = begin(&mut device);
    device.take_sent();
    device.hear(&mut session, &ack(1, &[(1, Outcome::Stored { first: 1 }), (1, Outcome::Stored { first: 2 })]));
    assert!(device.said.iter().any(|said| matches!(said, ClientOutput::DeletionAcknowledged { .. })));
    assert_eq!(device.waiting(), 0);
    // A deletion of somebody else is one here too.
    device.write(document(2));
    session.handle_changed(document(2));
    device.carry_out(&mut session);
    device.hear(&mut session, &ack(2, &[(1, rejected(Code::DocumentDeleted))]));
    assert_eq!(refusals(&mut device), []);
    assert_eq!((device.waiting(), device.heads(document(2))), (0, vec![]));
    device.take_sent();
    let mut session = device.connect();
    device.hear(&mut session, &welcome(1 << 20));
    assert_eq!(pushed(&mut device), []);
}

#[test]
fn ack_that_fits_no_push_closes() {
    for answer in [ack(9, &[(1, Outcome::Duplicate)]), ack(1, &[(2, Outcome::Duplicate)])] {
        let mut device = Device::new(1);
        device.write(document(1));
        let mut session = begin(&mut device);
        device.hear(&mut session, &answer);
        assert!(session.is_closed());
    }
}

#[test]
fn duplicate_of_a_space_that_is_left_is_acknowledged() {
    let mut device = Device::new(1);
    device.write(document(1));
    let mut session = begin(&mut device);
    device.hear(&mut session, &ack(1, &[(1, Outcome::Duplicate)]));
    assert_eq!(device.waiting(), 1);
    session.unsubscribe(TEAM);
    device.carry_out(&mut session);
    assert_eq!(device.waiting(), 0);
    // Nobody has passed a position that nobody knows.
    let seen = |tx: &mut dyn crate::store::WriteTx| receipts::note_seen(tx, &EPOCH, &TEAM, 1 << 40);
    crate::store::StoreExt::write_with(&device.store, seen).unwrap();
    let receipt = receipts::get(&*device.store.read().unwrap(), &document(1), 0).unwrap();
    assert_eq!(receipt, Some(Receipt::Relayed));
}

#[test]
fn change_that_is_longer_than_this_relay_takes_is_not_sent() {
    let mut device = Device::new(1);
    device.write(document(1));
    let mut session = device.connect();
    let RelayMessage::Welcome(mut small) = welcome(1 << 20) else { panic!() };
    small.limits.change_bytes = 20;
    device.hear(&mut session, &RelayMessage::Welcome(small));
    assert_eq!(pushed(&mut device), []);
    assert_eq!(refusals(&mut device), [(document(1), 0, Code::ChangeLimit, false)]);
}

#[test]
fn outbox_of_many_documents_is_found_when_the_connection_begins() {
    let mut device = Device::new(1);
    let many = 3 * crate::limits::OUTBOX_DOCUMENTS_AT_ONCE as u64 + 7;
    for number in 0..many {
        let mut id = [1; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        device.write(DocumentId::from_bytes(id));
    }
    let mut session = device.connect();
    device.hear(&mut session, &welcome(1 << 30));
    let pushed: usize = pushed(&mut device).iter().map(|(_, documents)| documents.len()).sum();
    assert_eq!(pushed as u64, many);
}

/// Puts a change of somebody else's into a device's store, as if another relay had brought it.
fn bring(device: &Device, document: DocumentId, change: &CheckedChange) -> Vec<ChangeHash> {
    let bring = |tx: &mut dyn crate::store::WriteTx| {
        let before = ledger::heads(tx, &document)?;
        spaces::put(tx, &document, &TEAM)?;
        engine::accept(tx, document, vec![change.clone()], Origin::Remote)?;
        Ok(before)
    };
    device.store.write_with(bring).unwrap()
}

#[test]
fn what_another_relay_took_meanwhile_is_pushed_again_to_the_one_that_put_it_off() {
    let mut device = Device::new(1);
    device.write(document(1));
    let mut session = begin(&mut device);
    device.take_sent();
    device.hear(&mut session, &ack(1, &[(1, rejected(Code::NotStored))]));
    // Another relay takes it, so that it waits no more, and brings what somebody else wrote.
    let heads = device.heads(document(1));
    device.store.write_with(|tx| outbox::acknowledge(tx, &document(1), &heads)).unwrap();
    let before = bring(&device, document(1), &Device::new(2).write(document(1)));
    session.offer(document(1), Some(before));
    device.carry_out(&mut session);
    assert_eq!(pushed(&mut device), [], "it is held");
    session.handle_resume(document(1));
    device.carry_out(&mut session);
    assert_eq!(pushed(&mut device), [(2, vec![document(1); 2])]);
    // Once is enough.
    device.hear(&mut session, &ack(2, &[(2, Outcome::Stored { first: 1 })]));
    session.handle_resume(document(1));
    device.carry_out(&mut session);
    assert_eq!(pushed(&mut device), []);
}

#[test]
fn what_comes_from_elsewhere_while_an_offer_is_on_its_way_follows_it() {
    let (mut device, other) = (Device::new(1), Device::new(2));
    let mut session = device.connect();
    session.subscribe(TEAM, Mode::Everything, Start::Beginning);
    // One write a message, and credit for one message.
    let RelayMessage::Welcome(mut one) = welcome(1) else { panic!() };
    one.limits.batch_entries = 1;
    device.hear(&mut session, &RelayMessage::Welcome(one));
    device.hear(&mut session, &subscribed(false, 0, 0));
    let before = bring(&device, document(1), &other.write(document(1)));
    bring(&device, document(1), &other.write(document(1)));
    session.offer(document(1), Some(before));
    device.carry_out(&mut session);
    assert_eq!(pushed(&mut device), [(1, vec![document(1)])]);
    for _ in 0..2 {
        let before = bring(&device, document(1), &other.write(document(1)));
        session.offer(document(1), Some(before));
        device.carry_out(&mut session);
    }
    assert_eq!(pushed(&mut device), []);
    device.hear(&mut session, &RelayMessage::Credit { bytes: 1 << 20 });
    let stored = |batch| ack(batch, &[(1, Outcome::Stored { first: batch })]);
    for batch in 1..5 {
        device.hear(&mut session, &stored(batch));
        device.carry_out(&mut session);
    }
    assert_eq!(pushed(&mut device), (2..5).map(|batch| (batch, vec![document(1)])).collect::<Vec<_>>());
}
