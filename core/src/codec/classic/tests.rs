//! Golden bytes of real peers, what is forgiven, what is not, and every limit from both sides.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod limits;
mod roundtrip;

use minicbor::Encoder;

use super::*;
use crate::deletion::DeletionKind;
use crate::limits::*;

/// What other implementations wrote.
const GOLDEN: &str = include_str!("golden.txt");
/// What we write for the frames of [`our_frames`].
const GOLDEN_OURS: &str = include_str!("golden_ours.txt");

const DOCUMENT: &str = "BmMDoWpuNPZHkjzRrJ4LFgAymh8";
const ALICE: &str = "peer-alice";
const BOB: &str = "peer-bob";
const SERVER: &str = "storage-server-golden";
const ALICE_STORE: &str = "7762e9ef-43c0-40fc-8926-711bc88849a2";
const SERVER_STORE: &str = "95a77453-709e-42e6-b5a7-fb2f6244794d";
const HEAD: &str = "421e1907beb8d8d42102b50a3236315ec8cec65a39fde0c7c5403f26c1db7ae4";

fn unhex(hex: &str) -> Bytes {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn golden_lines(text: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once(' ').unwrap())
}

fn golden(name: &str) -> Bytes {
    unhex(golden_lines(GOLDEN).find(|line| line.0 == name).unwrap().1)
}

fn peer(text: &str) -> PeerId {
    PeerId::new(text).unwrap()
}

fn document() -> DocumentId {
    DOCUMENT.parse().unwrap()
}

fn head() -> ChangeHash {
    HEAD.parse().unwrap()
}

fn metadata(storage_id: Option<&str>, is_ephemeral: bool) -> PeerMetadata {
    PeerMetadata { storage_id: storage_id.map(str::to_owned), is_ephemeral, rejoin: 0, epoch: None }
}

/// One frame of each type, the ones that `docs/protocol.md` shows.
fn our_frames() -> Vec<(&'static str, Frame)> {
    let frames = our_handshake().into_iter().chain(our_document_frames()).chain(our_gossip()).chain(our_additions());
    frames.map(|frame| (frame.kind(), frame)).collect()
}

fn our_handshake() -> [Frame; 4] {
    let (alice, server) = (peer(ALICE), peer(SERVER));
    [
        Frame::Join {
            sender_id: alice.clone(),
            metadata: PeerMetadata { rejoin: REJOIN_LEVEL, ..metadata(Some(ALICE_STORE), false) },
            versions: vec!["1".to_owned()],
        },
        Frame::Peer {
            sender_id: server.clone(),
            target_id: alice.clone(),
            metadata: PeerMetadata { rejoin: REJOIN_LEVEL, ..metadata(Some(SERVER_STORE), false) },
            selected_version: "1".to_owned(),
        },
        Frame::Error {
            sender_id: Some(server),
            target_id: Some(alice.clone()),
            message: "unsupported protocol version".to_owned(),
        },
        Frame::Leave { sender_id: alice },
    ]
}

fn our_document_frames() -> [Frame; 4] {
    let (alice, bob, target_id, document) = (peer(ALICE), peer(BOB), peer(SERVER), document());
    let nothing = unhex("42000001000000");
    let one_head = unhex(&format!("4201{HEAD}0001000000"));
    let cursor = unhex("a166637572736f7203");
    [
        Frame::Request { sender_id: bob.clone(), target_id: target_id.clone(), document, data: nothing },
        Frame::Sync { sender_id: alice.clone(), target_id: target_id.clone(), document, data: one_head },
        Frame::Ephemeral {
            sender_id: alice,
            target_id: target_id.clone(),
            document,
            count: 1,
            session_id: "6et5zac6qio".to_owned(),
            data: cursor,
        },
        Frame::DocUnavailable { sender_id: target_id, target_id: bob, document },
    ]
}

fn our_gossip() -> [Frame; 2] {
    let (bob, server) = (peer(BOB), peer(SERVER));
    let seen = RemoteHeads { storage_id: ALICE_STORE.to_owned(), heads: vec![head()], timestamp_ms: 1_795_240_300_000 };
    [
        Frame::RemoteSubscriptionChange {
            sender_id: bob.clone(),
            target_id: server.clone(),
            add: vec![ALICE_STORE.to_owned()],
            remove: vec![],
        },
        Frame::RemoteHeadsChanged { sender_id: server, target_id: bob, document: document(), new_heads: vec![seen] },
    ]
}

/// What is spoken between Rejoin peers only.
fn our_additions() -> [Frame; 2] {
    let (alice, server) = (peer(ALICE), peer(SERVER));
    let deleted = Tombstone { kind: DeletionKind::Deleted, time_seconds: 1_795_240_300, by: ALICE_STORE.to_owned() };
    let purged = Tombstone { kind: DeletionKind::Purged, ..deleted.clone() };
    let (document, told) = (document(), server.clone());
    [
        Frame::Delete { sender_id: alice.clone(), target_id: told, document, tombstone: deleted, is_ack: false },
        Frame::Delete { sender_id: server, target_id: alice, document, tombstone: purged, is_ack: true },
    ]
}

#[test]
fn frames_of_other_implementations_decode_and_survive_our_encoding() {
    let mut types = std::collections::BTreeSet::new();
    for (name, line) in golden_lines(GOLDEN) {
        let frame = Frame::decode(&unhex(line)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(Frame::decode(&frame.encode()).as_ref(), Ok(&frame), "{name}");
        types.insert(frame.kind());
    }
    assert_eq!(types.len(), 10, "a golden frame of every type");
}

#[test]
fn handshake_of_a_javascript_client_and_server_reads_right() {
    let join = Frame::Join {
        sender_id: peer(ALICE),
        metadata: metadata(Some(ALICE_STORE), false),
        versions: vec!["1".to_owned()],
    };
    assert_eq!(Frame::decode(&golden("join")), Ok(join));
    let Ok(Frame::Join { metadata: without_storage, .. }) = Frame::decode(&golden("join-without-storage")) else {
        panic!("a join whose storageId is undefined")
    };
    assert_eq!(without_storage, metadata(None, true));
    let Ok(Frame::Join { versions, .. }) = Frame::decode(&golden("join-old-version")) else { panic!("an old join") };
    assert_eq!(versions, ["0"]);
    let answer = Frame::Peer {
        sender_id: peer(SERVER),
        target_id: peer(ALICE),
        metadata: metadata(Some(SERVER_STORE), false),
        selected_version: "1".to_owned(),
    };
    assert_eq!(Frame::decode(&golden("peer")), Ok(answer));
    let error = Frame::Error {
        sender_id: Some(peer(SERVER)),
        target_id: Some(peer("peer-old")),
        message: "unsupported protocol version".to_owned(),
    };
    assert_eq!(Frame::decode(&golden("error")), Ok(error));
}

#[test]
fn messages_of_a_javascript_client_and_server_read_right() {
    let request = Frame::Request {
        sender_id: peer(BOB),
        target_id: peer(SERVER),
        document: document(),
        data: unhex("42000001000000020284"),
    };
    assert_eq!(Frame::decode(&golden("request")), Ok(request));
    let ephemeral = Frame::Ephemeral {
        sender_id: peer(ALICE),
        target_id: peer(BOB),
        document: document(),
        count: 1,
        session_id: "6et5zac6qio".to_owned(),
        data: unhex("b9000166637572736f7203"),
    };
    assert_eq!(Frame::decode(&golden("ephemeral-forwarded")), Ok(ephemeral));
    let subscription = Frame::RemoteSubscriptionChange {
        sender_id: peer(BOB),
        target_id: peer(SERVER),
        add: vec![ALICE_STORE.to_owned()],
        remove: vec![],
    };
    assert_eq!(Frame::decode(&golden("remote-subscription-change")), Ok(subscription));
    let Ok(Frame::RemoteHeadsChanged { new_heads, .. }) = Frame::decode(&golden("remote-heads-changed")) else {
        panic!("a remote-heads-changed")
    };
    assert_eq!(new_heads[0].heads, [head()]);
    assert_eq!(new_heads[0].storage_id, ALICE_STORE);
    assert_eq!(new_heads[0].timestamp_ms as f64, f64::from_bits(0x427a_1fca_b0eb_9000));
    let samod = Frame::Error { sender_id: None, target_id: None, message: "expected a join message".to_owned() };
    assert_eq!(Frame::decode(&golden("samod-error")), Ok(samod));
}

#[test]
fn our_frames_have_their_golden_bytes() {
    let written: Vec<(&str, String)> = our_frames().iter().map(|(name, frame)| (*name, hex(&frame.encode()))).collect();
    let expected: Vec<(&str, String)> = golden_lines(GOLDEN_OURS).map(|(name, hex)| (name, hex.to_owned())).collect();
    assert_eq!(written, expected);
    for (name, frame) in our_frames() {
        assert_eq!(Frame::decode(&frame.encode()), Ok(frame), "{name}");
    }
}

#[test]
fn a_fan_out_gives_each_target_the_frame_it_would_have_got_alone() {
    for (name, frame) in our_frames() {
        if let Some(target_id) = frame.target_id() {
            assert_eq!(FanOut::new(&frame).to(target_id), frame.encode(), "{name}");
        }
    }
    let (alice, server) = (peer(ALICE), peer(SERVER));
    let Some((_, Frame::Sync { data, .. })) = our_frames().into_iter().find(|(name, _)| *name == "sync") else {
        panic!("a sync frame")
    };
    let whole = Frame::Sync { sender_id: alice.clone(), target_id: server.clone(), document: document(), data };
    let Frame::Sync { data, .. } = &whole else { panic!("just made") };
    assert_eq!(encode_sync(&alice, &server, DOCUMENT, data), whole.encode());
    let unavailable =
        Frame::DocUnavailable { sender_id: alice.clone(), target_id: server.clone(), document: document() };
    assert_eq!(encode_doc_unavailable(&alice, &server, DOCUMENT), unavailable.encode());
}

type Build<'a> = &'a mut Encoder<Vec<u8>>;

/// Writes a `sync` frame with one more entry, written by the caller.
fn sync_with(extra: impl FnOnce(Build<'_>)) -> Bytes {
    let mut out = Encoder::new(Vec::new());
    out.begin_map().unwrap();
    out.str("data").unwrap().bytes(&[0x42]).unwrap();
    out.str("senderId").unwrap().str(ALICE).unwrap();
    out.str("targetId").unwrap().str(SERVER).unwrap();
    out.str("documentId").unwrap().str(DOCUMENT).unwrap();
    extra(&mut out);
    out.str("type").unwrap().str("sync").unwrap();
    out.end().unwrap();
    out.into_writer().into()
}

fn plain_sync() -> Frame {
    let data = Bytes::from_static(&[0x42]);
    Frame::Sync { sender_id: peer(ALICE), target_id: peer(SERVER), document: document(), data }
}

#[test]
fn indefinite_maps_any_key_order_and_unknown_entries_are_read() {
    assert_eq!(Frame::decode(&sync_with(|_| ())), Ok(plain_sync()));
    let crowded = sync_with(|out| {
        out.str("nested").unwrap().begin_map().unwrap();
        out.str("list").unwrap().begin_array().unwrap().u8(1).unwrap().array(2).unwrap();
        out.null().unwrap().tag(minicbor::data::Tag::new(1)).unwrap().f64(1.5).unwrap();
        out.end().unwrap().end().unwrap();
        out.u8(7).unwrap().str("a key that is no text").unwrap();
        out.str("chunks").unwrap().begin_bytes().unwrap().bytes(b"ab").unwrap().bytes(b"c").unwrap().end().unwrap();
        out.str("half").unwrap();
        out.writer_mut().extend_from_slice(&[0xf9, 0x3c, 0x00]);
        out.str("simple").unwrap();
        out.writer_mut().extend_from_slice(&[0xf8, 0xff]);
        out.str("negative").unwrap().i64(i64::MIN).unwrap();
        out.str("map").unwrap().map(1).unwrap().str("k").unwrap().map(0).unwrap();
    });
    assert_eq!(Frame::decode(&crowded), Ok(plain_sync()));
}

#[test]
fn map_headers_and_lengths_of_any_width_are_read() {
    let tail = unhex("647479706565 6c65617665 6873656e6465724964 6161".replace(' ', "").as_str());
    for header in ["a2", "b802", "b90002", "ba00000002", "bb0000000000000002"] {
        let bytes: Bytes = [&unhex(header)[..], &tail[..]].concat().into();
        assert_eq!(Frame::decode(&bytes), Ok(Frame::Leave { sender_id: peer("a") }), "{header}");
    }
}

#[test]
fn absent_fields_may_be_null_or_undefined_and_the_last_of_two_counts() {
    let doubled = sync_with(|out| {
        out.str("targetId").unwrap().undefined().unwrap();
        out.str("targetId").unwrap().str(BOB).unwrap();
    });
    assert_eq!(Frame::decode(&doubled).unwrap().target_id(), Some(&peer(BOB)));
    let absent = sync_with(|out| {
        out.str("targetId").unwrap().undefined().unwrap();
    });
    assert_eq!(Frame::decode(&absent), Err(DecodeError::MissingField { field: "targetId" }));
    let absent = sync_with(|out| {
        out.str("documentId").unwrap().null().unwrap();
    });
    assert_eq!(Frame::decode(&absent), Err(DecodeError::MissingField { field: "documentId" }));
    // {type: "join", senderId: "a"}: whoever names no version speaks the first.
    let join = unhex("a26474797065646a6f696e6873656e64657249646161");
    let Ok(Frame::Join { versions, metadata, .. }) = Frame::decode(&join) else { panic!("a bare join") };
    assert_eq!((versions, metadata), (vec!["1".to_owned()], PeerMetadata::default()));
}

#[test]
fn tagged_byte_strings_are_read_and_other_tags_refused() {
    let with_tag = |tag| {
        sync_with(|out| {
            out.str("data").unwrap().tag(tag).unwrap().bytes(&[0x42]).unwrap();
        })
    };
    assert_eq!(Frame::decode(&with_tag(minicbor::data::Tag::new(64))), Ok(plain_sync()));
    let wrong = DecodeError::WrongFieldType { field: "data", expected: "a byte string" };
    assert_eq!(Frame::decode(&with_tag(minicbor::data::Tag::new(65))), Err(wrong));
}

/// Writes an `ephemeral` frame with this count and data.
fn ephemeral_with(count: impl FnOnce(Build<'_>), data: &[u8], session_id: &str) -> Bytes {
    let mut out = Encoder::new(Vec::new());
    out.map(7).unwrap().str("type").unwrap().str("ephemeral").unwrap();
    out.str("senderId").unwrap().str(ALICE).unwrap().str("targetId").unwrap().str(SERVER).unwrap();
    out.str("documentId").unwrap().str(DOCUMENT).unwrap();
    out.str("sessionId").unwrap().str(session_id).unwrap().str("data").unwrap().bytes(data).unwrap();
    out.str("count").unwrap();
    count(&mut out);
    out.into_writer().into()
}

#[test]
fn counts_are_read_from_integers_and_floats_up_to_two_to_the_53() {
    let count_of =
        |value: &str| match Frame::decode(&ephemeral_with(|out| out.writer_mut().extend(unhex(value)), b"x", "s")) {
            Ok(Frame::Ephemeral { count, .. }) => Ok(count),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
    // Integers and floats of 32 and 64 bits; the last two are 2^53.
    for (value, count) in [
        ("00", 0),
        ("1903e8", 1_000),
        ("fa40400000", 3),
        ("fb4008000000000000", 3),
        ("1b0020000000000000", CLASSIC_INTEGER_MAX),
        ("fb4340000000000000", CLASSIC_INTEGER_MAX),
    ] {
        assert_eq!(count_of(value), Ok(count), "{value}");
    }
    // Just above, twice; -1, twice; not a number; infinity.
    for value in [
        "1b0020000000000001",
        "fb4340000000000001",
        "20",
        "fbbff0000000000000",
        "fb7ff8000000000000",
        "fb7ff0000000000000",
    ] {
        assert_eq!(count_of(value), Err(DecodeError::NumberOutOfRange { field: "count" }), "{value}");
    }
    // The text "3", a float of 16 bits, and an absent value.
    for value in ["6133", "f94200"] {
        assert!(matches!(count_of(value), Err(DecodeError::WrongFieldType { field: "count", .. })), "{value}");
    }
    assert_eq!(count_of("f7"), Err(DecodeError::MissingField { field: "count" }));
}

/// Writes a `rejoin-delete` frame with other values under some keys; `None` leaves the key out.
fn delete_with(key: &str, value: Option<&str>) -> Bytes {
    let mut out = Encoder::new(Vec::new());
    out.begin_map().unwrap().str("type").unwrap().str("rejoin-delete").unwrap();
    for (name, text) in [("senderId", ALICE), ("targetId", SERVER), ("documentId", DOCUMENT), ("by", ALICE_STORE)] {
        if name != key {
            out.str(name).unwrap().str(text).unwrap();
        }
    }
    if key != "time" {
        out.str("time").unwrap().u8(7).unwrap();
    }
    if let Some(value) = value {
        out.str(key).unwrap().writer_mut().extend(unhex(value));
    }
    out.end().unwrap();
    out.into_writer().into()
}

#[test]
fn deletion_is_strict_in_what_it_needs_and_lenient_in_what_it_does_not_know() {
    let plain = Frame::Delete {
        sender_id: peer(ALICE),
        target_id: peer(SERVER),
        document: document(),
        tombstone: Tombstone { kind: DeletionKind::Deleted, time_seconds: 7, by: ALICE_STORE.to_owned() },
        is_ack: false,
    };
    // False, null and absent are the same; unknown keys are passed over.
    for (key, value) in [("ack", "f4"), ("purge", "f6"), ("unknown", "a0"), ("time", "fb401c000000000000")] {
        assert_eq!(Frame::decode(&delete_with(key, Some(value))), Ok(plain.clone()), "{key} {value}");
    }
    for key in ["senderId", "targetId", "documentId", "by", "time"] {
        let error = Frame::decode(&delete_with(key, None)).unwrap_err();
        assert!(matches!(error, DecodeError::MissingField { field } if field == key) && error.is_fatal(), "{error}");
    }
    // A number for a truth value, a text for a number, a negative time, one above 2^53, bytes for a text.
    for (key, value) in [("ack", "01"), ("purge", "6130"), ("time", "6137"), ("time", "20"), ("by", "4161")] {
        let error = Frame::decode(&delete_with(key, Some(value))).unwrap_err();
        assert!(error.is_fatal() && error.close_code() == 1002, "{key}: {error}");
    }
    let error = Frame::decode(&delete_with("time", Some("1b0020000000000001"))).unwrap_err();
    assert_eq!(error, DecodeError::NumberOutOfRange { field: "time" });
    // Another implementation's id: nothing that we could have.
    let error = Frame::decode(&delete_with("documentId", Some("63616263"))).unwrap_err();
    assert!(!error.is_fatal(), "{error}");
}

#[test]
fn unknown_types_are_named_and_not_fatal_whatever_their_fields_hold() {
    // {type: "é" x 100, data: {}, senderId: 1}
    let name = "é".repeat(100);
    let mut out = Encoder::new(Vec::new());
    out.map(3).unwrap().str("type").unwrap().str(&name).unwrap();
    out.str("data").unwrap().map(0).unwrap().str("senderId").unwrap().u8(1).unwrap();
    let error = Frame::decode(&out.into_writer().into()).unwrap_err();
    assert_eq!(error, DecodeError::UnknownType("é".repeat(UNKNOWN_TYPE_BYTES_MAX / 2)));
    assert!(!error.is_fatal());
    assert_eq!(error.fault(), Fault::Incompatible);
}

#[test]
fn document_ids_that_are_not_ours_are_reported_with_their_sender() {
    let longer = bs58::encode([9u8; 32]).with_check().into_string();
    for text in [longer.as_str(), "BmMDoWpuNPZHkjzRrJ4LFgAymh9", "", "not base58!"] {
        let bytes = sync_with(|out| {
            out.str("documentId").unwrap().str(text).unwrap();
        });
        let error = Frame::decode(&bytes).unwrap_err();
        let DecodeError::UnsupportedDocumentId { kind, sender_id, document, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*kind, sender_id.as_str(), document.as_str()), ("sync", ALICE, text));
        assert!(!error.is_fatal());
    }
}

#[test]
fn a_head_that_is_no_hash_is_not_fatal() {
    for text in ["", "abc", "ungueltig!", &bs58::encode([1u8; 31]).with_check().into_string()] {
        let mut out = Encoder::new(Vec::new());
        out.map(5).unwrap().str("type").unwrap().str("remote-heads-changed").unwrap();
        out.str("senderId").unwrap().str(ALICE).unwrap().str("targetId").unwrap().str(SERVER).unwrap();
        out.str("documentId").unwrap().str(DOCUMENT).unwrap().str("newHeads").unwrap().map(1).unwrap();
        out.str("s").unwrap().map(2).unwrap().str("heads").unwrap().array(1).unwrap().str(text).unwrap();
        out.str("timestamp").unwrap().u8(1).unwrap();
        let error = Frame::decode(&out.into_writer().into()).unwrap_err();
        assert_eq!(error, DecodeError::UnsupportedHead);
        assert!(!error.is_fatal());
    }
}

#[test]
fn bytes_that_are_no_frame_are_fatal_and_say_why() {
    let error_of = |bytes: &[u8]| Frame::decode(&Bytes::copy_from_slice(bytes)).unwrap_err();
    assert!(matches!(error_of(&[]), DecodeError::Cbor { at: 0, .. }));
    // These one-byte messages stopped the reference server.
    assert_eq!(error_of(&[0xf6]), DecodeError::NotAMap);
    assert_eq!(error_of(&[0x01]), DecodeError::NotAMap);
    assert_eq!(error_of(&[0xa0]), DecodeError::MissingField { field: "type" });
    assert_eq!(error_of(&[0xa0, 0x00]), DecodeError::TrailingBytes { found: 1 });
    // {type: "join"} alone, too.
    assert_eq!(error_of(&unhex("a16474797065646a6f696e")), DecodeError::MissingField { field: "senderId" });
    assert_eq!(error_of(&unhex("a1647479706501")), DecodeError::WrongFieldType { field: "type", expected: "text" });
    for (bytes, close_code) in
        [(&[0xff][..], 1007), (&[0x1c], 1007), (&[0xa1, 0x61, 0xff, 0x00], 1007), (&[0x80], 1002)]
    {
        let error = error_of(bytes);
        assert!(error.is_fatal(), "{error}");
        assert_eq!(error.close_code(), close_code, "{error}");
    }
    let empty = sync_with(|out| {
        out.str("data").unwrap().bytes(&[]).unwrap();
    });
    assert_eq!(error_of(&empty), DecodeError::EmptyData);
}

#[test]
fn a_frame_cut_anywhere_is_refused() {
    for (name, line) in golden_lines(GOLDEN).chain(golden_lines(GOLDEN_OURS)) {
        let whole = unhex(line);
        for length in 0..whole.len() {
            let error = Frame::decode(&whole.slice(..length)).unwrap_err();
            assert!(error.is_fatal(), "{name} cut to {length}");
        }
    }
}

#[test]
fn nesting_is_refused_beyond_its_limit_and_costs_nothing() {
    let nested = |depth: usize, opening: u8| {
        sync_with(|out| {
            out.str("deep").unwrap();
            out.writer_mut().extend(std::iter::repeat_n(opening, depth));
            out.u8(1).unwrap();
        })
    };
    // One level is the message itself.
    assert_eq!(Frame::decode(&nested(CBOR_DEPTH_MAX - 1, 0x81)), Ok(plain_sync()));
    assert!(matches!(Frame::decode(&nested(CBOR_DEPTH_MAX, 0x81)), Err(DecodeError::TooDeep { .. })));
    for opening in [0x81, 0x9f, 0xa1, 0xbf, 0xc1] {
        assert!(matches!(Frame::decode(&nested(100_000, opening)), Err(DecodeError::TooDeep { .. })), "{opening:x}");
        let bare = Bytes::from(vec![opening; 100_000]);
        assert!(matches!(Frame::decode(&bare), Err(DecodeError::TooDeep { .. })), "{opening:x}");
    }
}

#[test]
fn huge_declared_lengths_are_refused() {
    for head in ["5b", "7b", "9b", "bb"] {
        let mut bytes = unhex(&format!("a1647479706 5{head}ffffffffffffffff").replace(' ', "")).to_vec();
        assert!(matches!(Frame::decode(&bytes.clone().into()), Err(DecodeError::Cbor { .. })), "{head}");
        bytes.splice(..6, []);
        assert!(matches!(Frame::decode(&bytes.into()), Err(DecodeError::Cbor { .. })), "{head}");
    }
}

#[test]
fn a_long_error_text_is_cut_between_characters() {
    let frame = Frame::Error { sender_id: None, target_id: None, message: "é".repeat(PEER_ERROR_BYTES_MAX) };
    let Ok(Frame::Error { message, .. }) = Frame::decode(&frame.encode()) else { panic!("an error") };
    assert_eq!(message, "é".repeat(PEER_ERROR_BYTES_MAX / 2));
}

#[test]
fn data_is_not_copied() {
    let bytes = golden("sync-one-change");
    let Ok(Frame::Sync { data, .. }) = Frame::decode(&bytes) else { panic!("a sync") };
    assert!(bytes.as_ptr_range().contains(&data.as_ptr()));
}
