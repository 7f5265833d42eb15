//! Every limit: one below it, at it, and one above; and the budget of the builders.
#![allow(clippy::cast_possible_truncation, reason = "the limits are far below 2^32")]

use super::*;

/// Asserts that a length up to the limit is taken and one above is refused by name.
fn client_limit(field: &str, limit: usize, build: impl Fn(usize) -> ClientMessage) {
    holds(field, limit, |length| ClientMessage::decode(&build(length).encode()).map(|_| ()));
}

fn relay_limit(field: &str, limit: usize, build: impl Fn(usize) -> RelayMessage) {
    holds(field, limit, |length| RelayMessage::decode(&build(length).encode()).map(|_| ()));
}

fn holds(field: &str, limit: usize, read: impl Fn(usize) -> Result<(), DecodeError>) {
    for length in [limit - 1, limit] {
        assert_eq!(read(length), Ok(()), "{field} of {length}");
    }
    match read(limit + 1) {
        Err(DecodeError::LimitExceeded { field: found, limit: named, .. }) => {
            assert_eq!((found, named), (field, limit as u64));
        }
        other => panic!("{field}: {other:?}"),
    }
}

fn hashes(count: usize) -> Vec<ChangeHash> {
    let hash = |number: usize| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&(number as u64).to_be_bytes());
        ChangeHash(hash)
    };
    (0..count).map(hash).collect()
}

fn push(writes: Vec<Write>) -> ClientMessage {
    ClientMessage::Push { batch: 1, space: SPACE, writes }
}

fn with_presence(edit: impl Fn(&mut Presence)) -> ClientMessage {
    let mut value = presence();
    edit(&mut value);
    ClientMessage::Presence { space: SPACE, values: vec![value] }
}

#[test]
fn texts_byte_strings_and_numbers_have_limits() {
    client_limit("token", TOKEN_BYTES_MAX, |length| {
        ClientMessage::Hello(Hello { token: Token::new("t".repeat(length)), ..hello() })
    });
    client_limit("token", TOKEN_BYTES_MAX, |length| ClientMessage::Renew { token: Token::new("t".repeat(length)) });
    client_limit("change", CHANGE_BYTES_MAX, |length| {
        push(vec![Write { document: NOTE, content: Content::Change(vec![1; length].into()) }])
    });
    client_limit("deleted by", DELETED_BY_BYTES_MAX, |length| {
        let content = Content::Deleted(Tombstone { by: "b".repeat(length), ..tombstone() });
        push(vec![Write { document: NOTE, content }])
    });
    client_limit("presence key", PRESENCE_KEY_BYTES_MAX, |length| {
        with_presence(|value| value.key = "k".repeat(length))
    });
    client_limit("presence data", PRESENCE_BYTES_MAX, |length| {
        with_presence(|value| value.data = vec![1; length].into())
    });
    client_limit("time to live", PRESENCE_TTL_MS_MAX as usize, |ms| with_presence(|value| value.ttl_ms = ms as u64));
    client_limit("credit", CREDIT_BYTES_MAX as usize, |bytes| ClientMessage::Credit { bytes: bytes as u64 });
    relay_limit("chunk", SNAPSHOT_BYTES_MAX, |length| RelayMessage::Snapshot {
        space: SPACE,
        document: NOTE,
        position: 1,
        heads: vec![HEAD],
        chunk: vec![1; length].into(),
    });
}

#[test]
fn a_peer_id_has_a_limit() {
    let hello = ClientMessage::Hello(Hello { peer: PeerId::new("").unwrap(), ..hello() }).encode();
    let with_peer = |length: usize| {
        // Its length takes two bytes from 128 on; the empty one stands in the fourth byte.
        let mut bytes = hello[..3].to_vec();
        bytes.extend([(length % 128) as u8 | 0x80, (length / 128) as u8]);
        bytes.extend(vec![b'p'; length]);
        bytes.extend_from_slice(&hello[4..]);
        ClientMessage::decode(&bytes.into()).map(|_| ())
    };
    holds("peer id", PEER_ID_BYTES_MAX, with_peer);
}

#[test]
fn lists_have_limits() {
    let subscription = hello().subscriptions[0];
    client_limit("subscriptions", SUBSCRIPTIONS_MAX, |length| ClientMessage::Subscribe {
        subscriptions: vec![subscription; length],
    });
    client_limit("spaces", SUBSCRIPTIONS_MAX, |length| ClientMessage::Unsubscribe { spaces: vec![SPACE; length] });
    client_limit("entries", BATCH_ENTRIES_MAX, |length| push(vec![change(NOTE, 1); length]));
    client_limit("documents", DOCUMENT_LIST_MAX, |length| ClientMessage::Compare {
        space: SPACE,
        documents: vec![heads(NOTE, &[]); length],
        is_last: true,
    });
    client_limit("documents", DOCUMENT_LIST_MAX, |length| ClientMessage::Close {
        space: SPACE,
        documents: vec![NOTE; length],
    });
    client_limit("heads", DOCUMENT_HEADS_MAX, |length| ClientMessage::Open {
        space: SPACE,
        documents: vec![heads(NOTE, &hashes(length))],
    });
    client_limit("presence values", PRESENCE_VALUES_MAX, |length| ClientMessage::Presence {
        space: SPACE,
        values: vec![presence(); length],
    });
    relay_limit("documents", DOCUMENT_LIST_MAX, |length| RelayMessage::Listing {
        space: SPACE,
        position: 1,
        documents: vec![Listed { document: TODO, state: ListedState::Deleted(tombstone()) }; length],
    });
}

#[test]
fn all_presence_values_of_a_message_have_a_limit_together() {
    let halves = |bytes: usize| {
        let value = |bytes: usize| Presence { data: vec![1; bytes].into(), ..presence() };
        ClientMessage::Presence { space: SPACE, values: vec![value(bytes / 2), value(bytes - bytes / 2)] }
    };
    client_limit("presence data", PRESENCE_BYTES_MAX, halves);
}

#[test]
fn a_message_has_a_limit_before_anything_is_read() {
    let bytes = Bytes::from(vec![0xff; V1_FRAME_BYTES_MAX + 1]);
    let limit = V1_FRAME_BYTES_MAX as u64;
    let expected = DecodeError::LimitExceeded { field: "message", found: limit + 1, limit };
    assert_eq!(ClientMessage::decode(&bytes), Err(expected.clone()));
    assert_eq!(RelayMessage::decode(&bytes), Err(expected));
    assert_eq!(RelayMessage::decode(&bytes.slice(1..)), Err(DecodeError::UnknownKind { kind: 0xff }));
}

#[test]
fn a_builder_keeps_to_its_budget_and_writes_what_the_message_does() {
    let mut builder = EntriesBuilder::with_budget(&SPACE, 5, 400);
    let mut expected = Vec::new();
    while builder.change(&NOTE, &chunk(1)) {
        expected.push(Entry::Write(change(NOTE, 1)));
        builder.skip(2);
        builder.skip(1);
        expected.push(Entry::Skipped { count: 3 });
    }
    assert_eq!(builder.next_position(), 5 + 2 * expected.len() as u64);
    let frame = builder.finish();
    assert!(expected.len() > 20 && frame.len() <= 400, "{} entries in {} bytes", expected.len(), frame.len());
    let message = RelayMessage::Entries { space: SPACE, first: 5, entries: expected };
    assert_eq!(frame, message.encode());
    assert_eq!(RelayMessage::decode(&frame), Ok(message));
}

#[test]
fn a_builder_takes_one_entry_however_long_it_is() {
    let mut builder = WritesBuilder::push_with_budget(1, &SPACE, 0);
    assert!(builder.change(&NOTE, &vec![1; CHANGE_BYTES_MAX]));
    assert!(!builder.deleted(&TODO, &tombstone()));
    assert_eq!(builder.count(), 1);
    let frame = builder.finish();
    assert!(frame.len() <= V1_FRAME_BYTES_MAX && ClientMessage::decode(&frame).is_ok());
}

#[test]
fn a_builder_never_writes_more_entries_than_are_taken() {
    let mut builder = EntriesBuilder::with_budget(&SPACE, 1, usize::MAX);
    while builder.change(&NOTE, &chunk(1)) {
        builder.skip(1);
    }
    assert!(RelayMessage::decode(&builder.finish()).is_ok());
}

#[test]
fn gaps_alone_are_a_message() {
    let mut builder = EntriesBuilder::new(&SPACE, 9);
    assert!(builder.is_empty());
    builder.skip(4);
    assert!(!builder.is_empty());
    let message = RelayMessage::Entries { space: SPACE, first: 9, entries: vec![Entry::Skipped { count: 4 }] };
    assert_eq!(RelayMessage::decode(&builder.finish()), Ok(message));
}

#[test]
fn a_keystroke_costs_two_bytes_beside_its_change() {
    let frame = |count: u8| push((0..count).map(|byte| change(NOTE, byte)).collect()).encode().len();
    assert_eq!(frame(101) - frame(100), 10 + 2);
}

#[test]
fn a_message_takes_no_more_memory_than_is_said() {
    // Where the least bytes of an item are known before the list is made, six times those.
    assert!(size_of::<Subscription>() <= 6 * 18);
    assert!(size_of::<DocumentHeads>() <= 6 * 17);
    assert!(size_of::<Listed>() <= 6 * 20);
    assert!(size_of::<Presence>() <= 6 * 21);
    // Where a list is short in any case, 2 MiB with what it is grown by.
    assert!(2 * size_of::<Entry>() * BATCH_ENTRIES_MAX <= 2 << 20);
    assert!(size_of::<AckRun>() * BATCH_ENTRIES_MAX <= 2 << 20);
}
