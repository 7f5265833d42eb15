//! Any frame that can be written reads back the same.

use proptest::prelude::*;

use super::*;

fn any_peer() -> impl Strategy<Value = PeerId> {
    "\\PC{0,40}".prop_map(|text| PeerId::new(text).unwrap())
}

fn any_data() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 1..400).prop_map(Bytes::from)
}

fn any_document() -> impl Strategy<Value = DocumentId> {
    any::<[u8; 16]>().prop_map(DocumentId::from_bytes)
}

fn any_metadata() -> impl Strategy<Value = PeerMetadata> {
    (prop::option::of("\\PC{0,40}"), any::<bool>(), any::<u32>(), prop::option::of(any::<[u8; 16]>())).prop_map(
        |(storage_id, is_ephemeral, rejoin, epoch)| {
            let epoch = epoch.map(Epoch::from_bytes).filter(|_| rejoin > 0);
            PeerMetadata { storage_id, is_ephemeral, rejoin, epoch }
        },
    )
}

fn any_heads() -> impl Strategy<Value = RemoteHeads> {
    let heads = prop::collection::vec(any::<[u8; 32]>().prop_map(ChangeHash), 0..4);
    ("\\PC{0,40}", heads, 0..=CLASSIC_INTEGER_MAX).prop_map(|(storage_id, heads, timestamp_ms)| RemoteHeads {
        storage_id,
        heads,
        timestamp_ms,
    })
}

fn any_tombstone() -> impl Strategy<Value = Tombstone> {
    let kind = prop_oneof![Just(DeletionKind::Deleted), Just(DeletionKind::Purged)];
    (kind, 0..=CLASSIC_INTEGER_MAX, "\\PC{0,40}").prop_map(|(kind, time_seconds, by)| Tombstone {
        kind,
        time_seconds,
        by,
    })
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let texts = || prop::collection::vec("\\PC{0,16}", 0..5);
    let about = || (any_peer(), any_peer(), any_document());
    prop_oneof![
        (any_peer(), any_metadata(), texts()).prop_map(|(sender_id, metadata, versions)| Frame::Join {
            sender_id,
            metadata,
            versions
        }),
        (any_peer(), any_peer(), any_metadata(), "\\PC{0,16}").prop_map(
            |(sender_id, target_id, metadata, selected_version)| Frame::Peer {
                sender_id,
                target_id,
                metadata,
                selected_version
            }
        ),
        (prop::option::of(any_peer()), prop::option::of(any_peer()), "\\PC{0,80}")
            .prop_map(|(sender_id, target_id, message)| Frame::Error { sender_id, target_id, message }),
        any_peer().prop_map(|sender_id| Frame::Leave { sender_id }),
        (about(), any_data()).prop_map(|((sender_id, target_id, document), data)| Frame::Request {
            sender_id,
            target_id,
            document,
            data
        }),
        (about(), any_data()).prop_map(|((sender_id, target_id, document), data)| Frame::Sync {
            sender_id,
            target_id,
            document,
            data
        }),
        (about(), 0..=CLASSIC_INTEGER_MAX, "\\PC{0,40}", any_data()).prop_map(
            |((sender_id, target_id, document), count, session_id, data)| Frame::Ephemeral {
                sender_id,
                target_id,
                document,
                count,
                session_id,
                data
            }
        ),
        about().prop_map(|(sender_id, target_id, document)| Frame::DocUnavailable { sender_id, target_id, document }),
        (any_peer(), any_peer(), texts(), texts()).prop_map(|(sender_id, target_id, add, remove)| {
            Frame::RemoteSubscriptionChange { sender_id, target_id, add, remove }
        }),
        (about(), any_tombstone(), any::<bool>()).prop_map(|((sender_id, target_id, document), tombstone, is_ack)| {
            Frame::Delete { sender_id, target_id, document, tombstone, is_ack }
        }),
        (about(), prop::collection::vec(any_heads(), 0..4)).prop_map(
            |((sender_id, target_id, document), new_heads)| Frame::RemoteHeadsChanged {
                sender_id,
                target_id,
                document,
                new_heads
            }
        ),
    ]
}

proptest! {
    #[test]
    fn every_frame_reads_back(frame in any_frame()) {
        prop_assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Frame::decode(&bytes.into());
    }
}
