//! Bytes that nobody should send.

use proptest::prelude::*;

use super::*;

fn golden_frames() -> Vec<Vec<u8>> {
    let client = client_messages().into_iter().map(|message| message.encode().to_vec());
    client.chain(relay_messages().into_iter().map(|message| message.encode().to_vec())).collect()
}

/// Reads bytes as either side would.
fn read_both(bytes: &[u8]) -> (Result<ClientMessage, DecodeError>, Result<RelayMessage, DecodeError>) {
    let bytes = Bytes::copy_from_slice(bytes);
    (ClientMessage::decode(&bytes), RelayMessage::decode(&bytes))
}

#[test]
fn a_message_cut_off_anywhere_is_refused_or_another_whole_one() {
    for frame in golden_frames() {
        for length in 0..frame.len() {
            let (client, relay) = read_both(&frame[..length]);
            // A batch has no count: cut between two entries, it is a shorter batch.
            let is_batch = [kind::PUSH, kind::ENTRIES, kind::FILL].contains(&frame[0]);
            assert!(is_batch || (client.is_err() && relay.is_err()), "{} of {}", length, hex(&frame));
        }
    }
}

#[test]
fn a_byte_behind_a_message_is_refused() {
    for frame in golden_frames().into_iter().filter(|frame| frame[0] != kind::ERROR) {
        let mut longer = frame.clone();
        longer.push(0);
        let (client, relay) = read_both(&longer);
        assert!(client.is_err() && relay.is_err(), "{}", hex(&frame));
    }
}

#[test]
fn a_byte_changed_anywhere_does_no_harm() {
    for frame in golden_frames() {
        for at in 0..frame.len() {
            for value in [0x00, 0x01, 0x02, 0x7f, 0x80, 0xff, frame[at] ^ 1] {
                let mut changed = frame.clone();
                changed[at] = value;
                let _ = read_both(&changed);
            }
        }
    }
}

/// A count of 2^53 - 1.
const HUGE: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f];

#[test]
fn counts_and_lengths_beyond_the_message_are_refused_before_they_are_allocated() {
    for frame in golden_frames() {
        for at in 1..frame.len() {
            // A count within most limits, and one beyond all of them, with nothing behind either.
            for count in [&[0xff, 0x01][..], &HUGE] {
                let mut cut = frame[..at].to_vec();
                cut.extend_from_slice(count);
                let _ = read_both(&cut);
            }
        }
    }
    let mut documents = vec![kind::COMPARE];
    documents.extend([0; 16]);
    documents.extend([0xff, 0x7f]);
    let expected = DecodeError::Truncated { field: "documents", at: 17 };
    assert_eq!(ClientMessage::decode(&documents.into()), Err(expected));
}

#[test]
fn numbers_have_one_spelling_and_53_bits() {
    let cursor = |number: &[u8]| {
        let mut bytes = vec![kind::CURSOR];
        bytes.extend([0; 16]);
        bytes.extend_from_slice(number);
        ClientMessage::decode(&bytes.into())
    };
    assert!(matches!(cursor(&HUGE), Ok(ClientMessage::Cursor { position: V1_NUMBER_MAX, .. })));
    let refused = Err(DecodeError::Number { field: "position", at: 17 });
    for number in [&[0x80, 0x00][..], &[0xff; 11], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]] {
        assert_eq!(cursor(number), refused);
    }
}

/// Returns an `entries` message: what follows the space.
fn entries(tail: &[u8]) -> Result<RelayMessage, DecodeError> {
    let mut bytes = vec![kind::ENTRIES];
    bytes.extend([0; 16]);
    bytes.extend_from_slice(tail);
    RelayMessage::decode(&bytes.into())
}

#[test]
fn entries_that_mean_nothing_are_refused() {
    let invalid = |tail: &[u8], field: &str| match entries(tail) {
        Err(DecodeError::Invalid { field: found, .. }) => assert_eq!(found, field),
        other => panic!("{tail:?}: {other:?}"),
    };
    invalid(&[0, 0, 1], "first position");
    invalid(&[1, 0, 0], "skipped positions");
    invalid(&[1, 0, 1, 0, 1], "entry");
    invalid(&[1, 3, 10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], "entry");
    invalid(&[1, 0xff, 0xff, 0x03, 10], "entry");
    let mut short = vec![1, 1];
    short.extend([0xd1; 16]);
    short.extend([9, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    invalid(&short, "change");
    assert_eq!(entries(&[1]), Err(DecodeError::Truncated { field: "entries", at: 0 }));
    let beyond: Vec<u8> = HUGE.iter().chain(&[0, 2]).copied().collect();
    assert!(matches!(entries(&beyond), Err(DecodeError::LimitExceeded { field: "last position", .. })));
}

#[test]
fn a_turn_in_a_push_has_a_change_behind_it() {
    let decode = |entries: &[u8]| {
        let mut bytes = vec![kind::PUSH, 1];
        bytes.extend([0; 16]);
        bytes.extend(entries);
        ClientMessage::decode(&bytes.into())
    };
    let change = [&[1u8][..], &[0xd1; 16], &[10], &[7; 10]].concat();
    let deletion = [&[2u8][..], &[0xd1; 16], &[0, 0, 0]].concat();
    assert!(decode(&change).is_ok() && decode(&deletion).is_ok());
    assert!(decode(&[&[0][..], &change].concat()).is_ok());
    for entries in [[&[0, 0][..], &change].concat(), [&[0][..], &deletion].concat()] {
        assert!(matches!(decode(&entries), Err(DecodeError::Invalid { field: "entry", .. })), "{entries:?}");
    }
    assert!(matches!(decode(&[&change[..], &[0]].concat()), Err(DecodeError::Truncated { .. })));
    assert!(decode(&[0]).is_err());
}

#[test]
fn heads_are_sorted_and_named_once() {
    let mut unsorted = vec![kind::OPEN];
    unsorted.extend([0; 16]);
    unsorted.push(1);
    unsorted.extend([0xd1; 16]);
    unsorted.push(2);
    for (one, two, is_fine) in [(1, 2, true), (2, 1, false), (1, 1, false)] {
        let mut bytes = unsorted.clone();
        bytes.extend([one; 32]);
        bytes.extend([two; 32]);
        assert_eq!(ClientMessage::decode(&bytes.into()).is_ok(), is_fine);
    }
}

#[test]
fn results_of_more_writes_than_a_push_may_have_are_refused() {
    let ack = |counts: &[u64]| {
        let results = counts.iter().map(|&count| AckRun { count, outcome: Outcome::Duplicate }).collect();
        RelayMessage::decode(&RelayMessage::Ack { batch: 1, results }.encode())
    };
    let most = BATCH_ENTRIES_MAX as u64;
    assert!(ack(&[most]).is_ok());
    assert!(ack(&[most - 1, 1]).is_ok());
    assert!(ack(&[most, 1]).is_err());
    assert!(ack(&[V1_NUMBER_MAX, V1_NUMBER_MAX]).is_err());
    assert!(ack(&[0]).is_err());
    assert!(ack(&[]).is_err());
}

fn any_kind() -> impl Strategy<Value = u8> {
    prop_oneof![0u8..0x18, 0x80u8..0x84]
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(kind in any_kind(), mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_both(&bytes);
        bytes.insert(0, kind);
        let _ = read_both(&bytes);
    }

    #[test]
    fn small_numbers_never_panic(kind in any_kind(), space: [u8; 16], tail in prop::collection::vec(0u8..6, 0..120)) {
        let mut bytes = vec![kind];
        bytes.extend(space);
        bytes.extend(&tail);
        let _ = read_both(&bytes);
        let mut batch = vec![kind, 1];
        batch.extend(space);
        batch.extend(tail);
        let _ = read_both(&batch);
    }
}
