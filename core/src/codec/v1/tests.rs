//! Golden bytes of each message, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod hostile;
mod limits;
mod roundtrip;

use automerge::ChangeHash;

use super::*;
use crate::deletion::{DeletionKind, Tombstone};
use crate::gate::Rule;
use crate::id::{Epoch, PeerId};
use crate::limits::*;

/// One line a message, name and hex: the ones that `docs/protocol-v1.md` shows.
const GOLDEN: &str = include_str!("golden.txt");

const SPACE: SpaceId = SpaceId::from_bytes([0x5a; 16]);
const NOTE: DocumentId = DocumentId::from_bytes([0xd1; 16]);
const TODO: DocumentId = DocumentId::from_bytes([0xd2; 16]);
const EPOCH: Epoch = Epoch::from_bytes([0xe0; 16]);
const ALICE_STORE: StorageId = StorageId::from_bytes([0xa1; 16]);
const RELAY_STORE: StorageId = StorageId::from_bytes([0x4e; 16]);
const HEAD: ChangeHash = ChangeHash([0xc1; 32]);

fn alice() -> PeerId {
    PeerId::new("alice").unwrap()
}

/// Stands for a change: the codec does not look into it.
fn chunk(byte: u8) -> Bytes {
    vec![byte; 10].into()
}

fn change(document: DocumentId, byte: u8) -> Write {
    Write { document, content: Content::Change(chunk(byte)) }
}

fn tombstone() -> Tombstone {
    Tombstone { kind: DeletionKind::Purged, time_seconds: 1_795_240_300, by: "alice".to_owned() }
}

fn deletion(document: DocumentId) -> Write {
    Write { document, content: Content::Deleted(tombstone()) }
}

fn heads(document: DocumentId, heads: &[ChangeHash]) -> DocumentHeads {
    DocumentHeads { document, heads: heads.to_vec() }
}

fn hello() -> Hello {
    Hello {
        lowest: 1,
        highest: 1,
        peer: alice(),
        storage: Some(ALICE_STORE),
        takes_snapshots: true,
        token: Token::new("secret"),
        credit: CREDIT_BYTES,
        subscriptions: vec![
            Subscription { space: SPACE, mode: Mode::Everything, start: Start::Cursor { epoch: EPOCH, position: 300 } },
            Subscription { space: SpaceId::DEFAULT, mode: Mode::Chosen, start: Start::Beginning },
        ],
    }
}

fn presence() -> Presence {
    Presence {
        author: alice(),
        document: NOTE,
        key: "cursor".to_owned(),
        sequence: 7,
        ttl_ms: 30_000,
        data: Bytes::from_static(&[0x18, 0x2a]),
    }
}

fn error(about: About) -> ErrorMessage {
    ErrorMessage { code: Code::Forbidden, text: "no grant".to_owned(), is_fatal: false, about }
}

/// One message of each kind that a client sends.
fn client_messages() -> Vec<ClientMessage> {
    let compare = Subscription { space: SPACE, mode: Mode::Everything, start: Start::Compare };
    vec![
        ClientMessage::Hello(hello()),
        ClientMessage::Subscribe { subscriptions: vec![compare] },
        ClientMessage::Unsubscribe { spaces: vec![SPACE] },
        ClientMessage::Push {
            batch: 1,
            space: SPACE,
            writes: vec![change(NOTE, 1), change(TODO, 2), change(NOTE, 3), deletion(TODO)],
        },
        ClientMessage::Cursor { space: SPACE, position: 305 },
        ClientMessage::Compare { space: SPACE, documents: vec![heads(NOTE, &[HEAD])], is_last: true },
        ClientMessage::Open { space: SPACE, documents: vec![heads(NOTE, &[HEAD]), heads(TODO, &[])] },
        ClientMessage::Close { space: SPACE, documents: vec![NOTE] },
        ClientMessage::Credit { bytes: 65_536 },
        ClientMessage::Presence { space: SPACE, values: vec![presence()] },
        ClientMessage::Renew { token: Token::new("secret") },
        ClientMessage::Error(error(About::Batch(1))),
    ]
}

fn stream_messages() -> [RelayMessage; 6] {
    let entries = vec![
        Entry::Write(change(NOTE, 1)),
        Entry::Skipped { count: 2 },
        Entry::Write(change(NOTE, 3)),
        Entry::Write(deletion(TODO)),
    ];
    let rejected = Outcome::Rejected(Reject::from(&Rule::Dependency.error()));
    let results = vec![
        AckRun { count: 2, outcome: Outcome::Stored { first: 306 } },
        AckRun { count: 1, outcome: Outcome::Duplicate },
        AckRun { count: 1, outcome: rejected },
    ];
    [
        RelayMessage::Subscribed {
            space: SPACE,
            access: Access::Write,
            is_compared: false,
            after: 300,
            end: 305,
            documents: 2,
            bytes: 40,
        },
        RelayMessage::Entries { space: SPACE, first: 301, entries },
        RelayMessage::CaughtUp { space: SPACE, position: 305 },
        RelayMessage::Ack { batch: 1, results },
        RelayMessage::Seen { space: SPACE, storage: ALICE_STORE, position: 305 },
        RelayMessage::Hint { space: SPACE, end: 400 },
    ]
}

fn document_messages() -> [RelayMessage; 5] {
    let present = ListedState::Present { heads: vec![HEAD], changes: 12, bytes: 1_300 };
    [
        RelayMessage::Fill { space: SPACE, writes: vec![change(NOTE, 1), deletion(TODO)] },
        RelayMessage::Snapshot { space: SPACE, document: NOTE, position: 305, heads: vec![HEAD], chunk: chunk(9) },
        RelayMessage::Lacking { space: SPACE, documents: vec![heads(NOTE, &[])], is_last: true },
        RelayMessage::Opened { space: SPACE, position: 305, documents: vec![heads(NOTE, &[HEAD])] },
        RelayMessage::Listing {
            space: SPACE,
            position: 305,
            documents: vec![
                Listed { document: NOTE, state: present },
                Listed { document: TODO, state: ListedState::Deleted(tombstone()) },
            ],
        },
    ]
}

/// One message of each kind that a relay sends.
fn relay_messages() -> Vec<RelayMessage> {
    let welcome = Welcome {
        version: 1,
        storage: RELAY_STORE,
        epoch: EPOCH,
        limits: Limits {
            frame_bytes: V1_FRAME_BYTES_MAX as u64,
            change_bytes: CHANGE_BYTES_MAX as u64,
            batch_entries: BATCH_ENTRIES_MAX as u64,
            presence_bytes: PRESENCE_BYTES_MAX as u64,
        },
        credit: CREDIT_BYTES,
        permit_seconds: 3_600,
    };
    let others = [
        RelayMessage::Renewed { seconds: 3_600 },
        RelayMessage::Credit { bytes: 65_536 },
        RelayMessage::Presence { space: SPACE, values: vec![presence()] },
        RelayMessage::Error(error(About::Space(SPACE))),
    ];
    let welcome = [RelayMessage::Welcome(welcome)];
    welcome.into_iter().chain(stream_messages()).chain(document_messages()).chain(others).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns what the golden file should hold.
fn golden_now() -> String {
    let client = client_messages();
    let client = client.iter().map(|message| format!("client {} {}\n", message.name(), hex(&message.encode())));
    let relay = relay_messages();
    let relay = relay.iter().map(|message| format!("relay {} {}\n", message.name(), hex(&message.encode())));
    client.chain(relay).collect()
}

#[test]
fn each_message_is_written_as_its_golden_bytes() {
    let golden: String = GOLDEN.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let now = golden_now();
    assert_eq!(golden, now, "the golden file should be:\n{now}");
}

#[test]
fn golden_messages_read_back() {
    for message in client_messages() {
        assert_eq!(ClientMessage::decode(&message.encode()), Ok(message));
    }
    for message in relay_messages() {
        assert_eq!(RelayMessage::decode(&message.encode()), Ok(message));
    }
}

#[test]
fn changes_are_slices_of_their_message() {
    let frame = client_messages()[3].encode();
    let Ok(ClientMessage::Push { writes, .. }) = ClientMessage::decode(&frame) else { panic!("a push") };
    let Content::Change(bytes) = &writes[0].content else { panic!("a change") };
    assert!(frame.as_ptr_range().contains(&bytes.as_ptr()));
}

#[test]
fn a_hello_of_later_versions_too_may_have_later_fields() {
    let later = Hello { highest: 2, ..hello() };
    let mut bytes = ClientMessage::Hello(later.clone()).encode().to_vec();
    bytes.extend([1, 2, 3]);
    assert_eq!(ClientMessage::decode(&bytes.into()), Ok(ClientMessage::Hello(later)));

    let mut bytes = ClientMessage::Hello(hello()).encode().to_vec();
    bytes.extend([1, 2, 3]);
    assert_eq!(ClientMessage::decode(&bytes.into()), Err(DecodeError::TrailingBytes { found: 3 }));
}

#[test]
fn a_hello_of_later_versions_only_is_not_read_any_further() {
    let error = ClientMessage::decode(&Bytes::from_static(&[kind::HELLO, 2, 9, 0xff, 0xff])).unwrap_err();
    assert_eq!(error, DecodeError::Version { lowest: 2, highest: 9 });
    assert_eq!(
        (error.code(), error.is_fatal(), error.fault()),
        (Code::Version, true, crate::codec::Fault::Incompatible)
    );
    let welcome = RelayMessage::decode(&Bytes::from_static(&[kind::WELCOME, 2])).unwrap_err();
    assert_eq!(welcome, DecodeError::Version { lowest: 2, highest: 2 });
}

#[test]
fn an_error_of_a_later_version_is_read() {
    let mut bytes = RelayMessage::Error(error(About::Connection)).encode().to_vec();
    let about = bytes.len() - 1;
    bytes[about] = 9;
    bytes.extend([1, 2, 3]);
    assert_eq!(RelayMessage::decode(&bytes.into()), Ok(RelayMessage::Error(error(About::Connection))));
}

#[test]
fn unknown_kinds_are_fatal_below_128_and_ignored_from_there() {
    for (kind, is_fatal) in [(0x00, true), (0x7f, true), (0x83, false), (0xff, false)] {
        let bytes = Bytes::from(vec![kind, 1, 2, 3]);
        let errors = [ClientMessage::decode(&bytes).unwrap_err(), RelayMessage::decode(&bytes).unwrap_err()];
        for error in errors {
            assert_eq!(error, DecodeError::UnknownKind { kind });
            assert_eq!(error.is_fatal(), is_fatal);
        }
    }
}

#[test]
fn messages_of_the_other_side_are_refused() {
    let (client, relay) = (client_messages(), relay_messages());
    let of_both = ["credit", "presence", "error"];
    for message in client.iter().filter(|message| !of_both.contains(&message.name())) {
        let error = RelayMessage::decode(&message.encode()).unwrap_err();
        assert!(matches!(error, DecodeError::WrongDirection { .. }) && error.is_fatal(), "{message:?}");
    }
    for message in relay.iter().filter(|message| !of_both.contains(&message.name())) {
        let error = ClientMessage::decode(&message.encode()).unwrap_err();
        assert!(matches!(error, DecodeError::WrongDirection { .. }) && error.is_fatal(), "{message:?}");
    }
}

#[test]
fn codes_keep_their_numbers_and_have_names_of_their_own() {
    for (at, code) in Code::ALL.iter().enumerate() {
        assert_eq!(Code::from_number(code.number()), *code);
        assert!(Code::ALL[at + 1..].iter().all(|other| other.name() != code.name() && other.number() > code.number()));
    }
    assert_eq!(Code::from_number(999), Code::Other(999));
    assert_eq!(Code::Other(999).number(), 999);
}

#[test]
fn a_rule_of_the_gate_is_named_in_its_refusal() {
    for rule in Rule::ALL {
        let reject = Reject::from(&rule.found(u64::MAX, u64::MAX));
        assert!(reject.text.starts_with(&format!("{}: ", rule.code())), "{reject:?}");
        assert!(reject.text.len() <= REJECT_TEXT_BYTES_MAX, "{reject:?}");
        assert!((64..80).contains(&reject.code.number()), "{reject:?}");
    }
}

#[test]
fn a_token_does_not_show_itself() {
    assert!(!format!("{:?}", ClientMessage::Hello(hello())).contains("secret"));
    assert!(!format!("{:?}", ClientMessage::Renew { token: Token::new("secret") }).contains("secret"));
}

#[test]
fn texts_for_people_are_cut_between_characters() {
    let text = "ä".repeat(PEER_ERROR_BYTES_MAX);
    let message = RelayMessage::Error(ErrorMessage { text: format!("x{text}"), ..error(About::Connection) });
    let Ok(RelayMessage::Error(read)) = RelayMessage::decode(&message.encode()) else { panic!("an error") };
    assert_eq!(read.text.len(), PEER_ERROR_BYTES_MAX - 1);
    let outcome = Outcome::Rejected(Reject { code: Code::Quota, text });
    let message = RelayMessage::Ack { batch: 1, results: vec![AckRun { count: 1, outcome }] };
    assert!(RelayMessage::decode(&message.encode()).is_ok());
}
