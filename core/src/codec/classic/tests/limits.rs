//! Every limit of a frame: one below it, at it, and one above.

use super::*;

/// Asserts that a length up to the limit is taken and one above is refused by name.
fn limit_holds(field: &str, limit: usize, build: impl Fn(usize) -> Bytes) {
    for length in [limit - 1, limit] {
        let result = Frame::decode(&build(length));
        let fine = matches!(result, Ok(_) | Err(DecodeError::UnsupportedDocumentId { .. }));
        assert!(fine, "{field} of {length}: {result:?}");
    }
    match Frame::decode(&build(limit + 1)) {
        Err(DecodeError::LimitExceeded { field: found, limit: named, .. }) => {
            assert_eq!((found, named), (field, limit as u64));
        }
        other => panic!("{field}: {other:?}"),
    }
}

/// Encodes one of our frames after an edit.
fn edited(name: &str, edit: impl Fn(&mut Frame)) -> Bytes {
    let mut frame = our_frames().into_iter().find(|(known, _)| *known == name).unwrap().1;
    edit(&mut frame);
    frame.encode()
}

#[test]
fn every_text_and_byte_string_has_its_limit() {
    let text = |key: &'static str| {
        move |length: usize| {
            sync_with(|out| {
                out.str(key).unwrap().str(&"x".repeat(length)).unwrap();
            })
        }
    };
    limit_holds("senderId", PEER_ID_BYTES_MAX, text("senderId"));
    limit_holds("targetId", PEER_ID_BYTES_MAX, text("targetId"));
    limit_holds("documentId", DOCUMENT_ID_TEXT_BYTES_MAX, text("documentId"));
    let one = |out: Build<'_>| {
        out.u8(1).unwrap();
    };
    limit_holds("sessionId", SESSION_ID_BYTES_MAX, |length| ephemeral_with(one, b"x", &"s".repeat(length)));
    limit_holds("data", EPHEMERAL_BYTES_MAX, |length| ephemeral_with(one, &vec![0; length], "s"));
    limit_holds("message", FRAME_BYTES_MAX, |length| {
        // The envelope has the same length for every data between 64 KiB and 4 GiB.
        let envelope = sync_with(|out| {
            out.str("data").unwrap().bytes(&vec![0; 1 << 16]).unwrap();
        })
        .len()
            - (1 << 16);
        sync_with(|out| {
            out.str("data").unwrap().bytes(&vec![0; length - envelope]).unwrap();
        })
    });
}

#[test]
fn every_list_has_its_limit() {
    limit_holds("supportedProtocolVersions", PROTOCOL_VERSIONS_MAX, |length| {
        edited("join", |frame| {
            if let Frame::Join { versions, .. } = frame {
                *versions = vec!["1".to_owned(); length];
            }
        })
    });
    limit_holds("storageId", STORAGE_ID_BYTES_MAX, |length| {
        edited("join", |frame| {
            if let Frame::Join { metadata, .. } = frame {
                metadata.storage_id = Some("s".repeat(length));
            }
        })
    });
    limit_holds("by", DELETED_BY_BYTES_MAX, |length| {
        edited("rejoin-delete", |frame| {
            if let Frame::Delete { tombstone, .. } = frame {
                tombstone.by = "b".repeat(length);
            }
        })
    });
    limit_holds("selectedProtocolVersion", PROTOCOL_VERSION_BYTES_MAX, |length| {
        edited("peer", |frame| {
            if let Frame::Peer { selected_version, .. } = frame {
                *selected_version = "1".repeat(length);
            }
        })
    });
    limit_holds("add", GOSSIP_ENTRIES_MAX, |length| {
        edited("remote-subscription-change", |frame| {
            if let Frame::RemoteSubscriptionChange { add, .. } = frame {
                *add = vec!["s".to_owned(); length];
            }
        })
    });
    limit_holds("newHeads", GOSSIP_ENTRIES_MAX, |length| {
        edited("remote-heads-changed", |frame| {
            if let Frame::RemoteHeadsChanged { new_heads, .. } = frame {
                *new_heads = vec![new_heads[0].clone(); length];
            }
        })
    });
    limit_holds("heads", GOSSIP_HEADS_MAX, |length| {
        edited("remote-heads-changed", |frame| {
            if let Frame::RemoteHeadsChanged { new_heads, .. } = frame {
                // Two stores share the limit.
                new_heads[0].heads = vec![head(); length - 1];
                new_heads.push(RemoteHeads { heads: vec![head()], ..new_heads[0].clone() });
            }
        })
    });
}
