use proptest::prelude::*;

use super::*;

fn peer(text: &str) -> PeerId {
    PeerId::new(text).expect("short")
}

fn frames() -> impl Strategy<Value = Frame> {
    let ids = ("[a-z0-9-]{1,20}", "[a-z0-9-]{1,20}", any::<[u8; 16]>(), proptest::collection::vec(any::<u8>(), 1..60));
    (ids, any::<u32>(), 0..9_u8, proptest::option::of("[0-9a-f-]{36}")).prop_map(
        |((sender, target, document, data), number, kind, storage_id)| {
            let (sender_id, target_id) = (peer(&sender), peer(&target));
            let (document, data) = (DocumentId::from_bytes(document), Bytes::from(data));
            let metadata = PeerMetadata { storage_id, is_ephemeral: number % 2 == 0 };
            match kind {
                0 => Frame::Join { sender_id, metadata, versions: vec!["1".to_owned(), target] },
                1 => Frame::Peer { sender_id, target_id, metadata, selected_version: "1".to_owned() },
                2 => Frame::Error { sender_id: Some(sender_id), target_id: None, message: target },
                3 => Frame::Leave { sender_id },
                4 => Frame::Request { sender_id, target_id, document, data },
                5 => Frame::Sync { sender_id, target_id, document, data },
                6 => {
                    let count = u64::from(number) << (number % 20);
                    Frame::Ephemeral { sender_id, target_id, document, count, session_id: sender, data }
                }
                7 => Frame::DocUnavailable { sender_id, target_id, document },
                _ => Frame::RemoteSubscriptionChange { sender_id, target_id, add: vec![target], remove: vec![] },
            }
        },
    )
}

proptest! {
    #[test]
    fn frames_come_back(frame in frames()) {
        prop_assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }

    #[test]
    fn every_cut_is_an_error_and_no_mutation_panics(frame in frames(), at: prop::sample::Index, byte: u8) {
        let bytes = frame.encode();
        for end in 0..bytes.len() {
            prop_assert!(Frame::decode(&bytes.slice(..end)).is_err());
        }
        let mut mutated = bytes.to_vec();
        let index = at.index(mutated.len());
        mutated[index] = byte;
        let _ = Frame::decode(&Bytes::from(mutated));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = Frame::decode(&Bytes::from(bytes));
    }
}

/// Builds a frame as JavaScript's encoder does: a map header of 16 bits, `undefined` for what is not there.
fn javascript(fields: u8, write: impl FnOnce(&mut Encoder<Vec<u8>>) -> Written) -> Bytes {
    let mut out = Encoder::new(vec![0xb9, 0, fields]);
    write(&mut out).expect("a vector takes everything");
    out.into_writer().into()
}

#[test]
fn javascripts_own_forms_are_read() {
    let join = javascript(4, |out| {
        out.str("type")?.str("join")?.str("senderId")?.str("peer-x")?.str("peerMetadata")?;
        out.map(2)?.str("storageId")?.undefined()?.str("isEphemeral")?.bool(true)?;
        out.str("supportedProtocolVersions")?.array(1)?.str("1")?.ok()
    });
    let metadata = PeerMetadata { storage_id: None, is_ephemeral: true };
    let expected = Frame::Join { sender_id: peer("peer-x"), metadata, versions: vec!["1".to_owned()] };
    assert_eq!(Frame::decode(&join), Ok(expected));

    let document = DocumentId::from_bytes([3; 16]);
    let ephemeral = javascript(7, |out| {
        out.str("type")?.str("ephemeral")?.str("count")?.f64(5e9)?.str("sessionId")?.str("s")?;
        out.str("senderId")?.str("a")?.str("targetId")?.str("b")?.str("documentId")?.str(&document.to_string())?;
        out.str("data")?.tag(minicbor::data::Tag::new(64))?.bytes(&[1])?.ok()
    });
    let Ok(Frame::Ephemeral { count, data, .. }) = Frame::decode(&ephemeral) else {
        unreachable!("an ephemeral frame")
    };
    assert_eq!((count, data.as_ref()), (5_000_000_000, &[1][..]));
}

#[test]
fn unknown_types_and_foreign_documents_leave_the_stream_intact() {
    let unknown = javascript(1, |out| out.str("type")?.str("shiny")?.ok());
    assert_eq!(Frame::decode(&unknown), Err(DecodeError::UnknownType("shiny".to_owned())));
    assert!(!DecodeError::UnknownType(String::new()).is_fatal());
    let foreign = javascript(4, |out| {
        out.str("type")?.str("doc-unavailable")?.str("senderId")?.str("a")?.str("targetId")?.str("b")?;
        out.str("documentId")?.str("2FZmX7uKGpGJsmBLfBZrL3EkEhCjNDBMvzhqVGu5")?.ok()
    });
    assert_eq!(Frame::decode(&foreign), Err(DecodeError::UnsupportedDocumentId));
}

#[test]
fn bombs_are_cheap_errors() {
    for bytes in [&[0xf6][..], &[0x01], &[], &[0xbb, 255, 255, 255, 255, 255, 255, 255, 255], &[0x9b, 0xff]] {
        assert!(Frame::decode(&Bytes::copy_from_slice(bytes)).is_err_and(|error| error.is_fatal()), "{bytes:?}");
    }
    let mut nested = vec![0xa1, 0x61, b'x'];
    nested.resize(200_000, 0x81);
    assert!(Frame::decode(&Bytes::from(nested)).is_err());
    let long = javascript(2, |out| out.str("type")?.str("leave")?.str("senderId")?.str(&"x".repeat(257))?.ok());
    assert!(matches!(Frame::decode(&long), Err(DecodeError::TooLong { field: "senderId", .. })));
    let many = javascript(2, |out| {
        out.str("type")?.str("join")?.str("supportedProtocolVersions")?.array(100_000)?;
        (0..100_000).try_for_each(|_| out.str("")?.ok())
    });
    assert!(matches!(Frame::decode(&many), Err(DecodeError::TooLong { field: "list", .. })));
}

#[test]
fn empty_data_is_refused() {
    let frame = Frame::Sync {
        sender_id: peer("a"),
        target_id: peer("b"),
        document: DocumentId::from_bytes([0; 16]),
        data: Bytes::new(),
    };
    assert_eq!(Frame::decode(&frame.encode()), Err(DecodeError::Missing("data")));
}

#[test]
fn long_texts_of_peers_are_cut_for_the_log() {
    let text = "ä".repeat(PEER_ERROR_BYTES_MAX);
    let frame = Frame::Error { sender_id: None, target_id: None, message: text };
    let Ok(Frame::Error { message, .. }) = Frame::decode(&frame.encode()) else { unreachable!("an error frame") };
    assert!(message.len() <= PEER_ERROR_BYTES_MAX);
}
