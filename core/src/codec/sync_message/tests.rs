//! The sync message against Automerge's own reader and writer, on its golden bytes and on damaged ones.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use automerge::sync::{self, SyncDoc};
use automerge::transaction::Transactable;
use automerge::{AutoCommit, ROOT};
use proptest::prelude::*;

use super::super::classic::Frame;
use super::super::leb::push_number;
use super::*;

const GOLDEN: &str = include_str!("../classic/golden.txt");

fn unhex(hex: &str) -> Bytes {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The sync messages inside the golden frames.
fn golden_messages() -> Vec<(&'static str, Bytes)> {
    let lines = GOLDEN.lines().filter_map(|line| line.split_once(' ')).filter(|(name, _)| *name != "#");
    lines
        .filter_map(|(name, hex)| match Frame::decode(&unhex(hex)).unwrap() {
            Frame::Sync { data, .. } | Frame::Request { data, .. } => Some((name, data)),
            _ => None,
        })
        .collect()
}

/// Asserts that both readers see the same in these bytes.
fn agrees_with_automerge(bytes: &[u8], ours: &SyncMessage) {
    let theirs = sync::Message::decode(bytes).unwrap();
    let sorted = |mut hashes: Vec<ChangeHash>| {
        hashes.sort_unstable();
        hashes.dedup();
        hashes
    };
    assert_eq!(ours.heads, sorted(theirs.heads));
    assert_eq!(ours.need, sorted(theirs.need));
    assert_eq!(ours.version == Version::V2, theirs.version == sync::MessageVersion::V2);
    assert_eq!(ours.have.len(), theirs.have.len());
    for (our_have, their_have) in ours.have.iter().zip(theirs.have) {
        assert_eq!(our_have.last_sync, sorted(their_have.last_sync));
        assert_eq!(our_have.bloom.to_bytes(), their_have.bloom.to_bytes());
    }
    let their_changes: Vec<&[u8]> = theirs.changes.iter().filter(|change| !change.is_empty()).collect();
    assert_eq!(ours.changes, their_changes);
    assert_eq!(ours.flags.is_some(), theirs.flags.is_some());
    if let (Some(our_flags), Some(their_flags)) = (ours.flags, theirs.flags) {
        for bit in 0..7 {
            let flag = 1 << bit;
            assert_eq!(our_flags.contains(Flags { bits: flag }), their_flags.contains(flag));
        }
    }
}

#[test]
fn messages_of_javascript_peers_read_as_automerge_reads_them_and_write_back_the_same() {
    let messages = golden_messages();
    assert_eq!(messages.len(), 9);
    for (name, bytes) in messages {
        let ours = SyncMessage::decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        agrees_with_automerge(&bytes, &ours);
        assert_eq!(ours.encode(), bytes, "{name}");
    }
}

#[test]
fn first_request_of_a_javascript_client_reads_right() {
    let bytes = unhex("42000001000000020284");
    let expected =
        SyncMessage { have: vec![Have::default()], flags: Some(Flags::SUPPORTS_SYNC_RESET), ..SyncMessage::default() };
    assert_eq!(SyncMessage::decode(&bytes), Ok(expected.clone()));
    let plain = SyncMessage { flags: None, ..expected };
    assert_eq!(plain.encode(), unhex("42000001000000")[..]);
}

#[test]
fn a_javascript_peer_that_saw_no_flags_sends_single_changes() {
    let (_, bytes) = golden_messages().into_iter().find(|(name, _)| *name == "sync-v1-one-change").unwrap();
    let message = SyncMessage::decode(&bytes).unwrap();
    assert_eq!(message.version, Version::V1);
    assert_eq!(message.changes.len(), 1);
    // Magic, checksum, and then the type of a single change.
    assert_eq!((&message.changes[0][..4], message.changes[0][8]), (&[0x85, 0x6f, 0x4a, 0x83][..], 1));
}

#[test]
fn flags_are_read_in_all_their_ages() {
    let flags_of = |tail: &str| SyncMessage::decode(&unhex(&format!("4200000000{tail}"))).unwrap().flags;
    assert_eq!(flags_of(""), None);
    assert_eq!(flags_of("00"), Some(Flags::default()));
    assert_eq!(flags_of("0102"), Some(Flags::default()));
    assert_eq!(flags_of("020281"), Some(Flags::SYNC_RESET));
    assert_eq!(flags_of("020286"), Some(Flags::READ_ONLY.with(Flags::SUPPORTS_SYNC_RESET)));
    // What a later version may put after the flags is not ours to judge.
    assert_eq!(flags_of("020284ffff"), Some(Flags::SUPPORTS_SYNC_RESET));
    assert!(matches!(SyncMessage::decode(&unhex("4200000000ff")), Err(DecodeError::Truncated { .. })));
}

#[test]
fn a_whole_conversation_of_automerge_passes_through_unchanged() {
    let (mut left, mut right) = (AutoCommit::new(), AutoCommit::new());
    for turn in 0..40 {
        left.put(ROOT, format!("left {turn}"), turn).unwrap();
        left.commit();
        right.put(ROOT, "shared", turn).unwrap();
        right.commit();
    }
    let (mut left_state, mut right_state) = (sync::State::new(), sync::State::new());
    let pass = |message: sync::Message| {
        let bytes = Bytes::from(message.encode());
        let ours = SyncMessage::decode(&bytes).unwrap();
        agrees_with_automerge(&bytes, &ours);
        assert_eq!(ours.encode(), bytes);
        sync::Message::decode(&ours.encode()).unwrap()
    };
    loop {
        let to_right = left.sync().generate_sync_message(&mut left_state);
        let to_left = right.sync().generate_sync_message(&mut right_state);
        if to_right.is_none() && to_left.is_none() {
            break;
        }
        if let Some(message) = to_right {
            right.sync().receive_sync_message(&mut right_state, pass(message)).unwrap();
        }
        if let Some(message) = to_left {
            left.sync().receive_sync_message(&mut left_state, pass(message)).unwrap();
        }
    }
    assert_eq!(left.get_heads(), right.get_heads());
}

#[test]
fn unsorted_and_doubled_hashes_are_put_in_order() {
    let hashes = [[3; 32], [1; 32], [3; 32]].map(ChangeHash);
    let mut bytes = vec![0x42, 3];
    hashes.iter().for_each(|hash| bytes.extend_from_slice(&hash.0));
    bytes.extend_from_slice(&[0, 0, 0]);
    let message = SyncMessage::decode(&bytes.into()).unwrap();
    assert_eq!(message.heads, [ChangeHash([1; 32]), ChangeHash([3; 32])]);
    let unsorted = SyncMessage { heads: vec![ChangeHash([3; 32]), ChangeHash([1; 32])], ..SyncMessage::default() };
    assert_eq!(unsorted.encode(), message.encode());
}

#[test]
fn changes_are_slices_of_the_message() {
    let (_, bytes) = golden_messages().into_iter().find(|(name, _)| *name == "sync-one-change").unwrap();
    let message = SyncMessage::decode(&bytes).unwrap();
    assert!(bytes.as_ptr_range().contains(&message.changes[0].as_ptr()));
}

#[test]
fn bytes_that_are_no_message_say_why() {
    let error_of = |hex: &str| SyncMessage::decode(&unhex(hex)).unwrap_err();
    assert_eq!(error_of(""), DecodeError::Truncated { at: 0 });
    assert_eq!(error_of("44"), DecodeError::WrongType { found: 0x44 });
    assert_eq!(error_of("42"), DecodeError::Truncated { at: 1 });
    assert_eq!(error_of("428000"), DecodeError::Number { at: 1 });
    assert_eq!(error_of("4201"), DecodeError::Truncated { at: 1 });
    assert_eq!(error_of("420000000109856f4a830000000001"), DecodeError::ShortChange { found: 9 });
    // One entry of no bits, and then of 20,000,000 probes: what stops Automerge.
    assert!(matches!(error_of("42000001000301000700"), DecodeError::Bloom(_)));
    assert!(matches!(error_of("4200000100070108 80dac409 00 00".replace(' ', "").as_str()), DecodeError::Bloom(_)));
}

#[test]
fn every_list_has_its_limit() {
    let hashes = |prefix: &[u8], count: usize, suffix: &[u8]| {
        let mut bytes = prefix.to_vec();
        push_number(&mut bytes, count as u64);
        bytes.resize(bytes.len() + 32 * count, 7);
        bytes.extend_from_slice(suffix);
        SyncMessage::decode(&bytes.into())
    };
    let lists: [(&str, &[u8], &[u8]); 3] = [
        ("heads", &[0x42], &[0, 0, 0]),
        ("need", &[0x42, 0], &[0, 0]),
        ("last sync hashes", &[0x42, 0, 0, 1], &[0, 0]),
    ];
    for (what, prefix, suffix) in lists {
        assert!(hashes(prefix, SYNC_HASHES_MAX - 1, suffix).is_ok(), "{what}");
        assert!(hashes(prefix, SYNC_HASHES_MAX, suffix).is_ok(), "{what}");
        let found = SYNC_HASHES_MAX as u64 + 1;
        let error = DecodeError::TooMany { what, found, limit: SYNC_HASHES_MAX };
        assert_eq!(hashes(prefix, SYNC_HASHES_MAX + 1, suffix), Err(error));
    }
    let repeated = |prefix: &[u8], count: usize, entry: &[u8], suffix: &[u8]| {
        let mut bytes = prefix.to_vec();
        push_number(&mut bytes, count as u64);
        (0..count).for_each(|_| bytes.extend_from_slice(entry));
        bytes.extend_from_slice(suffix);
        SyncMessage::decode(&bytes.into())
    };
    let haves = |count| repeated(&[0x42, 0, 0], count, &[0, 0], &[0]);
    assert!(haves(SYNC_HAVES_MAX - 1).is_ok() && haves(SYNC_HAVES_MAX).is_ok());
    assert!(matches!(haves(SYNC_HAVES_MAX + 1), Err(DecodeError::TooMany { what: "have entries", .. })));
    let changes = |count| repeated(&[0x42, 0, 0, 0], count, &[0], &[]);
    assert!(changes(SYNC_CHANGES_MAX - 1).is_ok() && changes(SYNC_CHANGES_MAX).is_ok());
    assert!(matches!(changes(SYNC_CHANGES_MAX + 1), Err(DecodeError::TooMany { what: "changes", .. })));
    let huge = Bytes::from(vec![0x42; FRAME_BYTES_MAX + 1]);
    assert!(matches!(SyncMessage::decode(&huge), Err(DecodeError::TooMany { what: "bytes", .. })));
}

#[test]
fn a_length_alone_makes_nothing_be_allocated() {
    for prefix in [&[0x42][..], &[0x42, 0], &[0x42, 0, 0], &[0x42, 0, 0, 1], &[0x42, 0, 0, 0]] {
        let bytes = [prefix, &[0x10, 0]].concat();
        assert_eq!(SyncMessage::decode(&bytes.into()), Err(DecodeError::Truncated { at: prefix.len() }));
        let bytes = [prefix, &[0xff; 9], &[1]].concat();
        assert!(matches!(SyncMessage::decode(&bytes.into()), Err(DecodeError::TooMany { .. })));
    }
}

#[test]
fn a_message_cut_anywhere_is_refused_or_lacks_its_flags() {
    for (name, bytes) in golden_messages() {
        let whole = SyncMessage::decode(&bytes).unwrap();
        for length in 0..bytes.len() {
            match SyncMessage::decode(&bytes.slice(..length)) {
                Ok(cut) => assert_eq!(cut, SyncMessage { flags: None, ..whole.clone() }, "{name} cut to {length}"),
                Err(error) => assert_eq!(error.code(), "sync-malformed", "{name} cut to {length}"),
            }
        }
    }
}

fn any_hashes() -> impl Strategy<Value = Vec<ChangeHash>> {
    prop::collection::btree_set(any::<[u8; 32]>(), 0..12)
        .prop_map(|hashes| hashes.into_iter().map(ChangeHash).collect())
}

prop_compose! {
    fn any_have()(last_sync in any_hashes(), hashes in any_hashes()) -> Have {
        Have { last_sync, bloom: Bloom::from_hashes(hashes.iter()) }
    }
}

prop_compose! {
    fn any_message()(
        v2: bool,
        heads in any_hashes(),
        need in any_hashes(),
        have in prop::collection::vec(any_have(), 0..4),
        changes in prop::collection::vec(prop::collection::vec(any::<u8>(), 10..200), 0..6),
        flags in prop::option::of((0u8..0x80).prop_map(|bits| Flags { bits })),
    ) -> SyncMessage {
        let version = if v2 { Version::V2 } else { Version::V1 };
        SyncMessage { version, heads, need, have, changes: changes.into_iter().map(Bytes::from).collect(), flags }
    }
}

proptest! {
    #[test]
    fn every_message_is_written_as_automerge_writes_it(message in any_message()) {
        let bytes = Bytes::from(message.encode());
        agrees_with_automerge(&bytes, &message);
        prop_assert_eq!(sync::Message::decode(&bytes).unwrap().encode(), bytes.to_vec());
        prop_assert_eq!(SyncMessage::decode(&bytes), Ok(message));
    }

    #[test]
    fn a_damaged_message_is_taken_only_if_automerge_reads_the_same(
        message in any_message(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = message.encode();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let bytes = Bytes::from(bytes);
        match SyncMessage::decode(&bytes) {
            Ok(ours) => agrees_with_automerge(&bytes, &ours),
            Err(DecodeError::Bloom(_) | DecodeError::TooMany { .. } | DecodeError::ShortChange { .. }) => {}
            Err(_) => prop_assert!(sync::Message::decode(&bytes).is_err()),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 1..200), v2: bool) {
        bytes[0] = if v2 { 0x43 } else { 0x42 };
        let _ = SyncMessage::decode(&bytes.into());
    }
}
