//! Any message that can be written reads back the same.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn number() -> impl Strategy<Value = u64> {
    (0..=V1_NUMBER_MAX, 0u32..53).prop_map(|(number, shift)| number >> shift)
}

fn positive() -> impl Strategy<Value = u64> {
    number().prop_map(|number| number.max(1))
}

fn space() -> impl Strategy<Value = SpaceId> {
    any::<[u8; 16]>().prop_map(SpaceId::from_bytes)
}

/// Few documents, so that they come again in a batch.
fn document() -> impl Strategy<Value = DocumentId> {
    (0u8..200).prop_map(|byte| DocumentId::from_bytes([byte; 16]))
}

fn any_heads() -> impl Strategy<Value = Vec<ChangeHash>> {
    prop::collection::btree_set(any::<[u8; 32]>(), 0..4).prop_map(|heads| heads.into_iter().map(ChangeHash).collect())
}

fn documents() -> impl Strategy<Value = Vec<DocumentHeads>> {
    let one = (document(), any_heads()).prop_map(|(document, heads)| DocumentHeads { document, heads });
    vec(one, 1..5)
}

fn any_tombstone() -> impl Strategy<Value = Tombstone> {
    let kind = prop_oneof![Just(DeletionKind::Deleted), Just(DeletionKind::Purged)];
    (kind, number(), "\\PC{0,40}").prop_map(|(kind, time_seconds, by)| Tombstone { kind, time_seconds, by })
}

fn write() -> impl Strategy<Value = Write> {
    let content = prop_oneof![
        4 => vec(any::<u8>(), 10..200).prop_map(|bytes| Content::Change(bytes.into())),
        1 => any_tombstone().prop_map(Content::Deleted),
    ];
    (document(), content).prop_map(|(document, content)| Write { document, content })
}

/// A write of a `push`: it says whose it is.
fn pushed() -> impl Strategy<Value = Write> {
    (write(), any::<bool>()).prop_map(|(write, is_passed_on)| match write.content {
        Content::Change(bytes) if is_passed_on => Write { content: Content::PassedOn(bytes), ..write },
        content => Write { content, ..write },
    })
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let one = prop_oneof![
        4 => write().prop_map(Entry::Write),
        1 => (1u64..1_000_000).prop_map(|count| Entry::Skipped { count }),
    ];
    vec(one, 1..200).prop_map(|mut entries| {
        let is_gap = |entry: &Entry| matches!(entry, Entry::Skipped { .. });
        entries.dedup_by(|one, before| is_gap(one) && is_gap(before));
        entries
    })
}

fn subscriptions() -> impl Strategy<Value = Vec<Subscription>> {
    let start = prop_oneof![
        Just(Start::Beginning),
        Just(Start::Compare),
        (any::<[u8; 16]>(), number())
            .prop_map(|(epoch, position)| Start::Cursor { epoch: Epoch::from_bytes(epoch), position }),
    ];
    let mode = prop_oneof![Just(Mode::Everything), Just(Mode::Listing), Just(Mode::Chosen)];
    vec((space(), mode, start).prop_map(|(space, mode, start)| Subscription { space, mode, start }), 1..5)
}

fn any_presence() -> impl Strategy<Value = Vec<Presence>> {
    let one = ("\\PC{0,40}", document(), "\\PC{0,40}", number(), 0..=PRESENCE_TTL_MS_MAX, vec(any::<u8>(), 0..99));
    let one = one.prop_map(|(author, document, key, sequence, ttl_ms, data)| {
        let author = PeerId::new(author).unwrap();
        Presence { author, document, key, sequence, ttl_ms, data: data.into() }
    });
    vec(one, 1..5)
}

fn code() -> impl Strategy<Value = Code> {
    any::<u16>().prop_map(|number| Code::from_number(number % 128))
}

fn any_error() -> impl Strategy<Value = ErrorMessage> {
    let about = prop_oneof![
        Just(About::Connection),
        space().prop_map(About::Space),
        (space(), document()).prop_map(|(space, document)| About::Document(space, document)),
        number().prop_map(About::Batch),
    ];
    (code(), "\\PC{0,80}", any::<bool>(), about).prop_map(|(code, text, is_fatal, about)| ErrorMessage {
        code,
        text,
        is_fatal,
        about,
    })
}

fn any_hello() -> impl Strategy<Value = Hello> {
    let storage = prop::option::of(any::<[u8; 16]>().prop_map(StorageId::from_bytes));
    let all = (1..1_000u64, "\\PC{0,40}", storage, any::<bool>(), "\\PC{0,40}", 0..=CREDIT_BYTES_MAX, subscriptions());
    all.prop_map(|(highest, peer, storage, takes_snapshots, token, credit, subscriptions)| Hello {
        lowest: 1,
        highest,
        peer: PeerId::new(peer).unwrap(),
        storage,
        takes_snapshots,
        token: Token::new(token),
        credit,
        subscriptions,
    })
}

fn client_message() -> impl Strategy<Value = ClientMessage> {
    prop_oneof![
        any_hello().prop_map(ClientMessage::Hello),
        subscriptions().prop_map(|subscriptions| ClientMessage::Subscribe { subscriptions }),
        vec(space(), 1..4).prop_map(|spaces| ClientMessage::Unsubscribe { spaces }),
        (positive(), space(), vec(pushed(), 1..300)).prop_map(|(batch, space, writes)| ClientMessage::Push {
            batch,
            space,
            writes
        }),
        (space(), number()).prop_map(|(space, position)| ClientMessage::Cursor { space, position }),
        (space(), documents(), any::<bool>()).prop_map(|(space, documents, is_last)| ClientMessage::Compare {
            space,
            documents,
            is_last
        }),
        (space(), documents()).prop_map(|(space, documents)| ClientMessage::Open { space, documents }),
        (space(), vec(document(), 1..9)).prop_map(|(space, documents)| ClientMessage::Close { space, documents }),
        (0..=CREDIT_BYTES_MAX).prop_map(|bytes| ClientMessage::Credit { bytes }),
        (space(), any_presence()).prop_map(|(space, values)| ClientMessage::Presence { space, values }),
        "\\PC{0,40}".prop_map(|token| ClientMessage::Renew { token: Token::new(token) }),
        any_error().prop_map(ClientMessage::Error),
    ]
}

fn results() -> impl Strategy<Value = Vec<AckRun>> {
    let outcome = prop_oneof![
        (1..V1_NUMBER_MAX / 2).prop_map(|first| Outcome::Stored { first }),
        Just(Outcome::Duplicate),
        (code(), "\\PC{0,60}").prop_map(|(code, text)| Outcome::Rejected(Reject { code, text })),
    ];
    vec((1u64..100, outcome).prop_map(|(count, outcome)| AckRun { count, outcome }), 1..20)
}

fn listed() -> impl Strategy<Value = Listed> {
    let hash = any::<[u8; 32]>().prop_map(|hash| vec![ChangeHash(hash)]);
    let state = prop_oneof![
        (hash, number(), number()).prop_map(|(heads, changes, bytes)| ListedState::Present { heads, changes, bytes }),
        any_tombstone().prop_map(ListedState::Deleted),
    ];
    (document(), state).prop_map(|(document, state)| Listed { document, state })
}

fn welcome() -> impl Strategy<Value = Welcome> {
    let limits = (positive(), positive(), positive(), number());
    let permit = (0..=CREDIT_BYTES_MAX, number());
    (any::<[u8; 16]>(), any::<[u8; 16]>(), limits, permit).prop_map(|(storage, epoch, limits, permit)| {
        let (credit, permit_seconds) = permit;
        let (frame_bytes, change_bytes, batch_entries, presence_bytes) = limits;
        Welcome {
            version: 1,
            storage: StorageId::from_bytes(storage),
            epoch: Epoch::from_bytes(epoch),
            limits: Limits { frame_bytes, change_bytes, batch_entries, presence_bytes },
            credit,
            permit_seconds,
        }
    })
}

fn subscribed() -> impl Strategy<Value = RelayMessage> {
    let access = prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::Admin)];
    (space(), access, any::<bool>(), [number(), number(), number(), number()]).prop_map(
        |(space, access, is_compared, [after, end, documents, bytes])| RelayMessage::Subscribed {
            space,
            access,
            is_compared,
            after,
            end,
            documents,
            bytes,
        },
    )
}

fn snapshot() -> impl Strategy<Value = RelayMessage> {
    (space(), document(), number(), any::<[u8; 32]>(), vec(any::<u8>(), 0..99)).prop_map(
        |(space, document, position, head, chunk)| RelayMessage::Snapshot {
            space,
            document,
            position,
            heads: vec![ChangeHash(head)],
            chunk: chunk.into(),
        },
    )
}

fn relay_message() -> impl Strategy<Value = RelayMessage> {
    let stream = prop_oneof![
        subscribed(),
        (space(), 1..V1_NUMBER_MAX / 2, entries()).prop_map(|(space, first, entries)| RelayMessage::Entries {
            space,
            first,
            entries
        }),
        (space(), number()).prop_map(|(space, position)| RelayMessage::CaughtUp { space, position }),
        (positive(), results()).prop_map(|(batch, results)| RelayMessage::Ack { batch, results }),
        (space(), number()).prop_map(|(space, end)| RelayMessage::Hint { space, end }),
        (space(), any::<[u8; 16]>(), number()).prop_map(|(space, storage, position)| RelayMessage::Seen {
            space,
            storage: StorageId::from_bytes(storage),
            position
        }),
    ];
    prop_oneof![
        welcome().prop_map(RelayMessage::Welcome),
        stream,
        (space(), vec(write(), 1..50)).prop_map(|(space, writes)| RelayMessage::Fill { space, writes }),
        snapshot(),
        (space(), documents(), any::<bool>()).prop_map(|(space, documents, is_last)| RelayMessage::Lacking {
            space,
            documents,
            is_last
        }),
        (space(), number(), documents()).prop_map(|(space, position, documents)| RelayMessage::Opened {
            space,
            position,
            documents
        }),
        (space(), number(), vec(listed(), 1..9)).prop_map(|(space, position, documents)| RelayMessage::Listing {
            space,
            position,
            documents
        }),
        (0..=CREDIT_BYTES_MAX).prop_map(|bytes| RelayMessage::Credit { bytes }),
        (space(), any_presence()).prop_map(|(space, values)| RelayMessage::Presence { space, values }),
        number().prop_map(|seconds| RelayMessage::Renewed { seconds }),
        any_error().prop_map(RelayMessage::Error),
    ]
}

proptest! {
    #[test]
    fn every_client_message_reads_back(message in client_message()) {
        prop_assert_eq!(ClientMessage::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn every_relay_message_reads_back(message in relay_message()) {
        prop_assert_eq!(RelayMessage::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn what_wire_bytes_says_is_enough(one in listed()) {
        let message = |documents| RelayMessage::Listing { space: SPACE, position: 1, documents }.encode().len();
        prop_assert!(message(vec![one.clone(); 2]) - message(vec![one.clone()]) <= one.wire_bytes());
    }
}
