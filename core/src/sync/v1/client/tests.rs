//! The rules of a client, one by one, with hand-made messages of a relay.

#![expect(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod device;
mod model;
mod pushes;
mod rights;

use super::*;
use crate::codec::v1::{Content, DocumentHeads, Entry, Write};
use crate::limits::COMPARED_ANEW_MAX;
use crate::store::Store;
use device::{Device, EPOCH, TEAM, document, subscribed, welcome};

fn entry(document: DocumentId, change: &CheckedChange) -> Entry {
    Entry::Write(write(document, change))
}

fn write(document: DocumentId, change: &CheckedChange) -> Write {
    Write { document, content: Content::Change(change.bytes().clone()) }
}

fn entries(first: u64, entries: Vec<Entry>) -> RelayMessage {
    RelayMessage::Entries { space: TEAM, first, entries }
}

fn caught_up(position: u64) -> RelayMessage {
    RelayMessage::CaughtUp { space: TEAM, position }
}

/// Begins a session that was welcomed and subscribed.
fn subscribe(device: &mut Device, start: Start, answer: &RelayMessage) -> ClientSession {
    let mut session = device.connect();
    session.subscribe(TEAM, Mode::Everything, start);
    device.carry_out(&mut session);
    assert_eq!(device.take_names(), ["hello"]);
    device.hear(&mut session, &welcome(1 << 20));
    assert!(device.take_names().contains(&"subscribe"));
    device.hear(&mut session, answer);
    session
}

fn begin(device: &mut Device) -> ClientSession {
    subscribe(device, Start::Beginning, &subscribed(false, 0, 0))
}

fn cursors(sent: &[ClientMessage]) -> Vec<u64> {
    let position = |message: &ClientMessage| match message {
        ClientMessage::Cursor { position, .. } => Some(*position),
        _ => None,
    };
    sent.iter().filter_map(position).collect()
}

#[test]
fn entries_are_applied_and_the_cursor_is_stored_and_said() {
    let (mut device, other) = (Device::new(1), Device::new(2));
    let changes = [other.write(document(1)), other.write(document(2)), other.write(document(1))];
    let mut session = begin(&mut device);
    device.take_sent();
    let some = vec![entry(document(1), &changes[0]), Entry::Skipped { count: 3 }, entry(document(2), &changes[1])];
    device.hear(&mut session, &entries(1, some));
    assert_eq!(device.cursor(), Some(Cursor { epoch: EPOCH, position: 5 }));
    assert_eq!(cursors(&device.take_sent()), [5]);
    assert!(!session.progress().is_caught_up);
    device.hear(&mut session, &caught_up(5));
    assert!(session.progress().is_caught_up);
    assert!(device.said.iter().any(|said| matches!(said, ClientOutput::CaughtUp { .. })));
    // Positions that were told are as if they had not come again.
    device.deliveries.clear();
    device.hear(&mut session, &entries(4, vec![entry(document(1), &changes[0]), entry(document(2), &changes[1])]));
    assert!(device.deliveries.is_empty());
    device.hear(&mut session, &entries(5, vec![entry(document(2), &changes[1]), entry(document(1), &changes[2])]));
    assert_eq!(device.heads(document(1)), [changes[2].hash()]);
    assert_eq!(device.cursor().unwrap().position, 6);
    assert_eq!(cursors(&device.take_sent()), [6]);
}

#[test]
fn cursors_that_are_held_back_are_stored_and_the_newest_is_said() {
    let (mut device, other) = (Device::new(1), Device::new(2));
    let mut session = begin(&mut device);
    device.hear(&mut session, &caught_up(0));
    device.take_sent();
    assert!(session.take_said_cursor());
    session.hold_cursors(true);
    for position in 1..=3 {
        let change = other.write(document(1));
        device.hear(&mut session, &entries(position, vec![entry(document(1), &change)]));
        assert_eq!(device.cursor(), Some(Cursor { epoch: EPOCH, position }));
    }
    assert_eq!(cursors(&device.take_sent()), [] as [u64; 0]);
    assert!(!session.take_said_cursor());
    session.hold_cursors(false);
    device.carry_out(&mut session);
    assert_eq!(cursors(&device.take_sent()), [3]);
    assert!(session.take_said_cursor());
    device.carry_out(&mut session);
    assert_eq!(cursors(&device.take_sent()), [] as [u64; 0]);
}

#[test]
fn first_cursor_of_an_empty_log_is_stored_when_all_is_told() {
    let mut device = Device::new(1);
    let mut session = begin(&mut device);
    assert_eq!(device.cursor(), None);
    device.hear(&mut session, &caught_up(0));
    assert_eq!(device.cursor(), Some(Cursor { epoch: EPOCH, position: 0 }));
    assert!(session.progress().is_caught_up);
}

#[test]
fn gap_that_no_ack_tells_is_compared_and_a_relay_that_repeats_it_is_left() {
    let (mut device, other) = (Device::new(1), Device::new(2));
    let change = other.write(document(1));
    let mut session = begin(&mut device);
    for _ in 0..COMPARED_ANEW_MAX {
        device.take_sent();
        device.hear(&mut session, &entries(30, vec![entry(document(1), &change)]));
        let sent = device.take_sent();
        let [ClientMessage::Subscribe { subscriptions }] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(subscriptions[0].start, Start::Compare);
        // What comes before the answer belongs to the old subscription.
        device.hear(&mut session, &entries(90, vec![entry(document(1), &change)]));
        assert!(device.deliveries.is_empty() && device.take_sent().is_empty());
        device.hear(&mut session, &subscribed(true, 20, 20));
        assert_eq!(device.take_names(), ["compare"]);
    }
    device.hear(&mut session, &entries(30, vec![entry(document(1), &change)]));
    assert!(session.is_closed());
    assert_eq!(device.close_code(), Some(1002));
}

#[test]
fn what_an_older_subscription_brought_does_not_hold_back_the_cursor_of_the_next() {
    let (mut device, other) = (Device::new(1), Device::new(2));
    let change = other.write(document(1));
    let mut session = begin(&mut device);
    let lacking = RelayMessage::Lacking { space: TEAM, documents: vec![], is_last: true };
    // The driver is in the middle of something: it hears all of this before it applies what the first message brought.
    let mut hear = |message: &RelayMessage| {
        session.handle_frame(&message.encode(), &*device.store.read().unwrap()).unwrap();
        while session.poll_transmit(&*device.store.read().unwrap()).unwrap().is_some() {}
    };
    hear(&entries(1, vec![entry(document(1), &change)]));
    hear(&entries(30, vec![Entry::Skipped { count: 1 }]));
    hear(&subscribed(true, 30, 30));
    hear(&lacking);
    hear(&caught_up(30));
    device.carry_out(&mut session);
    assert_eq!(device.cursor(), Some(Cursor { epoch: EPOCH, position: 30 }));
    assert_eq!(cursors(&device.take_sent()), [30]);
}

#[test]
fn comparing_names_documents_in_order_and_has_a_cursor_only_when_caught_up() {
    let (mut device, other) = (Device::new(1), Device::new(2));
    for number in [9, 3, 7] {
        device.write(document(number));
    }
    let theirs = other.write(document(5));
    let later = other.write(document(5));
    let mut session = subscribe(&mut device, Start::Compare, &subscribed(true, 20, 20));
    let sent = device.take_sent();
    let [ClientMessage::Compare { documents, is_last: true, .. }] = &sent[..] else { panic!("{sent:?}") };
    let named: Vec<DocumentId> = documents.iter().map(|one| one.document).collect();
    assert_eq!(named, [document(3), document(7), document(9)]);
    // What waits here is not pushed before it is known what the relay lacks.
    device.hear(&mut session, &RelayMessage::Fill { space: TEAM, writes: vec![write(document(5), &theirs)] });
    device.hear(&mut session, &entries(21, vec![entry(document(5), &later)]));
    assert_eq!((device.cursor(), device.take_sent().len()), (None, 0));
    let lacking = vec![DocumentHeads { document: document(3), heads: vec![] }];
    device.hear(&mut session, &RelayMessage::Lacking { space: TEAM, documents: lacking, is_last: true });
    let sent = device.take_sent();
    let pushed: usize = sent
        .iter()
        .map(|message| match message {
            ClientMessage::Push { writes, .. } => writes.len(),
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(pushed, 3);
    device.hear(&mut session, &caught_up(21));
    assert_eq!(device.cursor(), Some(Cursor { epoch: EPOCH, position: 21 }));
    assert_eq!(device.heads(document(5)), [later.hash()]);
    assert_eq!(cursors(&device.take_sent()), [21]);
}

#[test]
fn relay_that_is_caught_up_before_it_compared_is_left() {
    let mut device = Device::new(1);
    let mut session = subscribe(&mut device, Start::Compare, &subscribed(true, 20, 20));
    device.hear(&mut session, &caught_up(20));
    assert!(session.is_closed());
}

#[test]
fn entries_wait_for_the_snapshots_before_them() {
    let (mut device, other) = (Device::new(1), Device::new(2));
    let changes = [other.write(document(1)), other.write(document(2))];
    let mut session = begin(&mut device);
    let heads = vec![changes[0].hash()];
    let snapshot = RelayMessage::Snapshot {
        space: TEAM,
        document: document(1),
        position: 1,
        heads,
        chunk: Bytes::from_static(b"0123456789"),
    };
    device.hear(&mut session, &snapshot);
    device.hear(&mut session, &entries(1, vec![Entry::Skipped { count: 1 }, entry(document(2), &changes[1])]));
    device.hear(&mut session, &caught_up(2));
    assert!(device.deliveries.is_empty() && !session.progress().is_caught_up);
    session.handle_snapshot_taken(document(1), true);
    device.carry_out(&mut session);
    assert_eq!(device.cursor().unwrap().position, 2);
    assert!(session.progress().is_caught_up);
}

#[test]
fn snapshot_that_cannot_be_taken_ends_the_connection_without_moving_the_cursor() {
    let mut device = Device::new(1);
    let mut session = begin(&mut device);
    let chunk = Bytes::from_static(b"0123456789");
    let heads = vec![ChangeHash([1; 32])];
    device
        .hear(&mut session, &RelayMessage::Snapshot { space: TEAM, document: document(1), position: 1, heads, chunk });
    device.hear(&mut session, &entries(1, vec![Entry::Skipped { count: 1 }]));
    session.handle_snapshot_taken(document(1), false);
    device.carry_out(&mut session);
    assert!(session.is_closed() && session.is_snapshot_refused());
    assert_eq!((device.cursor(), device.close_code()), (None, Some(1000)));
}

#[test]
fn credit_comes_back_when_what_came_is_applied_and_more_than_that_is_an_overrun() {
    let (mut device, other) = (Device::new(1), Device::new(2));
    let change = other.write(document(1));
    let mut session = begin(&mut device);
    let mut position = 1;
    let mut granted = CREDIT_BYTES as usize;
    // The same change over and over: a few bytes each, in long messages.
    let some: Vec<Entry> = (0..8_000).map(|_| entry(document(1), &change)).collect();
    for _ in 0..8 {
        let message = entries(position, some.clone());
        granted -= message.encode().len();
        position += some.len() as u64;
        device.hear(&mut session, &message);
        for sent in device.take_sent() {
            if let ClientMessage::Credit { bytes } = sent {
                granted += bytes as usize;
            }
        }
    }
    assert!(granted > (CREDIT_BYTES / 2) as usize, "{granted}");
    // Nothing is applied: nothing comes back.
    let store = device.store.read().unwrap();
    let frame = entries(position, some).encode();
    for _ in 0..CREDIT_BYTES as usize / frame.len() + 2 {
        session.handle_frame(&frame, &*store).unwrap();
    }
    assert!(session.is_closed());
}

#[test]
fn bad_change_is_refused_and_the_others_are_taken() {
    let (mut device, other) = (Device::new(1), Device::new(2));
    let change = other.write(document(1));
    let mut session = begin(&mut device);
    let bad = Write { document: document(2), content: Content::Change(Bytes::from_static(b"not a change")) };
    device.hear(&mut session, &entries(1, vec![Entry::Write(bad), entry(document(1), &change)]));
    assert!(device.said.iter().any(|said| matches!(said, ClientOutput::Refused { .. })));
    assert_eq!((device.cursor().unwrap().position, device.heads(document(1))), (2, vec![change.hash()]));
}

#[test]
fn change_of_a_document_that_is_in_another_space_here_is_refused() {
    let (mut device, other) = (Device::new(1), Device::new(2));
    device.write(document(1));
    let change = other.write(document(1));
    let mut session = device.connect();
    let space = SpaceId::from_bytes([9; 16]);
    session.subscribe(space, Mode::Everything, Start::Beginning);
    device.hear(&mut session, &welcome(1 << 20));
    let answer = RelayMessage::Subscribed {
        space,
        access: Access::Read,
        is_compared: false,
        after: 0,
        end: 1,
        documents: 1,
        bytes: 1,
    };
    device.hear(&mut session, &answer);
    let first = 1;
    device.hear(&mut session, &RelayMessage::Entries { space, first, entries: vec![entry(document(1), &change)] });
    assert!(device.said.iter().any(|said| matches!(said, ClientOutput::Refused { .. })));
    assert_ne!(device.heads(document(1)), [change.hash()]);
}

#[test]
fn listing_names_documents_and_opens_some() {
    let (mut device, other) = (Device::new(1), Device::new(2));
    let change = other.write(document(1));
    let mut session = device.connect();
    session.subscribe(TEAM, Mode::Listing, Start::Beginning);
    session.open(TEAM, document(1));
    device.hear(&mut session, &welcome(1 << 20));
    assert_eq!(device.take_names(), ["hello", "subscribe"]);
    device.hear(&mut session, &subscribed(false, 0, 7));
    assert_eq!(device.take_names(), ["open"]);
    let heads = vec![change.hash()];
    let state = crate::codec::v1::ListedState::Present { heads: heads.clone(), changes: 1, bytes: 100 };
    let listing = |position| RelayMessage::Listing {
        space: TEAM,
        position,
        documents: vec![Listed { document: document(1), state: state.clone() }],
    };
    device.hear(&mut session, &listing(7));
    assert_eq!(device.cursor(), None);
    device.hear(&mut session, &RelayMessage::Fill { space: TEAM, writes: vec![write(document(1), &change)] });
    let documents = vec![DocumentHeads { document: document(1), heads }];
    device.hear(&mut session, &RelayMessage::Opened { space: TEAM, position: 7, documents });
    assert!(device.said.iter().any(|said| matches!(said, ClientOutput::Opened { .. })));
    device.hear(&mut session, &caught_up(7));
    assert_eq!(device.cursor().unwrap().position, 7);
    device.hear(&mut session, &listing(9));
    assert_eq!(device.cursor().unwrap().position, 9);
    // Changes of what is open come with gaps, and do not move the cursor.
    let next = other.write(document(1));
    device.take_sent();
    device.hear(&mut session, &entries(40, vec![entry(document(1), &next)]));
    assert_eq!((device.cursor().unwrap().position, device.heads(document(1))), (9, vec![next.hash()]));
    session.close(TEAM, document(1));
    device.carry_out(&mut session);
    assert_eq!(device.take_names(), ["close"]);
}

#[test]
fn refused_space_is_denied_and_messages_about_it_are_ignored() {
    let mut device = Device::new(1);
    let mut session = device.connect();
    session.subscribe(TEAM, Mode::Everything, Start::Beginning);
    device.hear(&mut session, &welcome(1 << 20));
    let error = |about, is_fatal| {
        RelayMessage::Error(ErrorMessage { code: Code::Forbidden, text: "no".to_owned(), is_fatal, about })
    };
    device.hear(&mut session, &error(About::Space(TEAM), false));
    assert!(device.said.iter().any(|said| matches!(said, ClientOutput::Denied { .. })));
    device.hear(&mut session, &caught_up(3));
    assert!(!session.is_closed());
    device.hear(&mut session, &error(About::Connection, true));
    assert!(session.is_closed());
    assert_eq!(device.close_code(), Some(1008));
}

#[test]
fn presence_that_waits_is_bounded_and_the_newest_stands_in_for_the_older() {
    let mut device = Device::new(1);
    let mut session = device.connect();
    let value = |number: u64| Presence {
        author: PeerId::new("device 1").unwrap(),
        document: document(1),
        key: (number % 2_000).to_string(),
        sequence: number,
        ttl_ms: 1_000,
        data: Bytes::from_static(b"1"),
    };
    session.send_presence(TEAM, (0..4_000).map(value).collect());
    device.hear(&mut session, &welcome(1 << 20));
    let sent = device.take_sent();
    let values = sent.iter().flat_map(|message| match message {
        ClientMessage::Presence { values, .. } => values.as_slice(),
        _ => &[],
    });
    let sequences: Vec<u64> = values.map(|value| value.sequence).collect();
    assert_eq!(sequences, (4_000 - crate::limits::PRESENCE_QUEUE_MAX as u64..4_000).collect::<Vec<_>>());
}

#[test]
fn anything_before_welcome_closes_and_so_does_text() {
    let mut device = Device::new(1);
    let mut session = device.connect();
    device.hear(&mut session, &caught_up(1));
    assert!(session.is_closed());
    let mut session = device.connect();
    session.handle_text();
    assert!(session.is_closed());
}
