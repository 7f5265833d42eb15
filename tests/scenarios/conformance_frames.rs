//! The conformance kit's golden frames mean to our codecs what the kit says, and our codecs write them so.
//!
//! The kit's own runner checks the same frames with codecs that share no code with ours, and were written from the pages.

use std::collections::BTreeMap;

use automerge::ChangeHash;
use bytes::Bytes;
use rejoin::codec::classic::{Frame, PeerMetadata};
use rejoin::codec::sync_message::{Flags, SyncMessage, Version};
use rejoin::codec::v1::{
    About, Access, ClientMessage, Code, Content, DecodeError, DocumentHeads, Entry, ErrorMessage, Hello, Listed,
    ListedState, Mode, Outcome, Presence, RelayMessage, Start, Subscription, Welcome, Write,
};
use rejoin::deletion::{DeletionKind, Tombstone};
use rejoin_tests::package_dir;
use serde_json::{Value as Json, json};

/// What one reading of a frame came to: its meaning and the bytes that it is written as, or the name of what is wrong and the close
/// code, if the connection is to be closed.
type Read = Result<(Json, Bytes), (String, Option<u64>)>;

#[test]
fn classic_frames_of_the_kit_mean_what_it_says() {
    check("classic/frames.json", |_, bytes| match Frame::decode(bytes) {
        Ok(frame) => Ok((classic(&frame), frame.encode())),
        Err(error) => Err((error.code().to_owned(), error.is_fatal().then(|| u64::from(error.close_code())))),
    });
}

#[test]
fn sync_messages_of_the_kit_mean_what_it_says() {
    check("classic/sync-messages.json", |_, bytes| match SyncMessage::decode(bytes) {
        Ok(message) => Ok((sync_message(&message), message.encode().into())),
        Err(error) => Err((error.code().to_owned(), Some(1002))),
    });
}

#[test]
fn v1_frames_of_the_kit_mean_what_it_says() {
    check("v1/frames.json", |frame, bytes| match frame["from"].as_str().unwrap() {
        "client" => match ClientMessage::decode(bytes) {
            Ok(message) => Ok((of_client(&message), message.encode())),
            Err(error) => Err(wrong(&error)),
        },
        _ => match RelayMessage::decode(bytes) {
            Ok(message) => Ok((of_relay(&message), message.encode())),
            Err(error) => Err(wrong(&error)),
        },
    });
}

/// Checks every frame of a file.
fn check(file: &str, read: impl Fn(&Json, &Bytes) -> Read) {
    let path = package_dir().join("conformance").join(file);
    let file: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let frames = file["frames"].as_array().unwrap();
    assert!(frames.len() > 20, "the kit has its frames");
    for frame in frames {
        let name = frame["name"].as_str().unwrap();
        let bytes = Bytes::from(unhex(frame["hex"].as_str().unwrap()));
        match (read(frame, &bytes), frame["valid"] == true) {
            (Ok((meaning, written)), true) => {
                assert_eq!(meaning, frame["meaning"], "{name}: its meaning");
                if frame["canonical"] == true {
                    assert_eq!(hex(&written), hex(&bytes), "{name}: what is written");
                } else {
                    assert_ne!(hex(&written), hex(&bytes), "{name} is canonical, and the kit says otherwise");
                    let again = read(frame, &written).unwrap_or_else(|error| panic!("{name}, written anew: {error:?}"));
                    assert_eq!(again.0, meaning, "{name}: its meaning when written anew");
                }
            }
            (Err((error, close)), false) => {
                assert_eq!(error, frame["error"], "{name}: what is wrong with it");
                assert_eq!(close, frame["receiver"]["code"].as_u64(), "{name}: the close code");
            }
            (Ok((meaning, _)), false) => panic!("{name} is read as {meaning}"),
            (Err(error), true) => panic!("{name} is refused: {error:?}"),
        }
    }
}

fn wrong(error: &DecodeError) -> (String, Option<u64>) {
    if !error.is_fatal() {
        return ("ignore".to_owned(), None);
    }
    let close = match error.code() {
        Code::FrameMalformed => 1007,
        Code::FrameLimit => 1009,
        _ => 1002,
    };
    (error.code().name().to_owned(), Some(close))
}

/// Returns the meaning of a message of the classic protocol.
fn classic(frame: &Frame) -> Json {
    let mut meaning = match frame {
        Frame::Join { metadata, versions, .. } => {
            json!({ "peerMetadata": peer_metadata(metadata), "supportedProtocolVersions": versions })
        }
        Frame::Peer { metadata, selected_version, .. } => {
            json!({ "peerMetadata": peer_metadata(metadata), "selectedProtocolVersion": selected_version })
        }
        Frame::Error { message, .. } => json!({ "message": message }),
        Frame::Request { data, .. } | Frame::Sync { data, .. } => json!({ "data": hex(data) }),
        Frame::Ephemeral { count, session_id, data, .. } => {
            json!({ "count": count, "sessionId": session_id, "data": hex(data) })
        }
        Frame::RemoteSubscriptionChange { add, remove, .. } => json!({ "add": add, "remove": remove }),
        Frame::RemoteHeadsChanged { new_heads, .. } => {
            let entries = new_heads.iter().map(|entry| {
                let meaning = json!({ "heads": hashes(&entry.heads), "timestamp": entry.timestamp_ms });
                (entry.storage_id.clone(), meaning)
            });
            json!({ "newHeads": entries.collect::<BTreeMap<_, _>>() })
        }
        Frame::Delete { tombstone, is_ack, .. } => {
            let mut meaning = tombstone_of(tombstone);
            meaning["ack"] = (*is_ack).into();
            meaning
        }
        _ => json!({}),
    };
    meaning["type"] = frame.kind().into();
    if let Some(sender) = frame.sender_id() {
        meaning["senderId"] = sender.as_str().into();
    }
    if let Some(target) = frame.target_id() {
        meaning["targetId"] = target.as_str().into();
    }
    if let Some(document) = frame.document() {
        meaning["documentId"] = document.to_string().into();
    }
    meaning
}

fn peer_metadata(metadata: &PeerMetadata) -> Json {
    let mut meaning = json!({ "isEphemeral": metadata.is_ephemeral });
    if let Some(storage_id) = &metadata.storage_id {
        meaning["storageId"] = storage_id.as_str().into();
    }
    if metadata.rejoin > 0 {
        meaning["rejoin"] = metadata.rejoin.into();
    }
    if let Some(epoch) = &metadata.epoch {
        meaning["epoch"] = hex(epoch.as_bytes()).into();
    }
    meaning
}

fn sync_message(message: &SyncMessage) -> Json {
    let have = message
        .have
        .iter()
        .map(|have| json!({ "lastSync": hashes(&have.last_sync), "bloom": hex(&have.bloom.to_bytes()) }));
    let mut meaning = json!({
        "version": if message.version == Version::V1 { 1 } else { 2 },
        "heads": hashes(&message.heads),
        "need": hashes(&message.need),
        "have": have.collect::<Vec<_>>(),
        "changes": message.changes.iter().map(|change| hex(change)).collect::<Vec<_>>(),
    });
    if let Some(flags) = message.flags {
        let known = [(Flags::SYNC_RESET, 1), (Flags::READ_ONLY, 2), (Flags::SUPPORTS_SYNC_RESET, 4)];
        let bits: u8 = known.into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, bit)| bit).sum();
        meaning["flags"] = bits.into();
    }
    meaning
}

/// Returns the meaning of what a client says.
fn of_client(message: &ClientMessage) -> Json {
    let fields = match message {
        ClientMessage::Hello(hello) => hello_of(hello),
        ClientMessage::Subscribe { subscriptions } => json!({ "subscriptions": each(subscriptions, subscription) }),
        ClientMessage::Unsubscribe { spaces } => {
            json!({ "spaces": each(spaces, |space| hex(space.as_bytes()).into()) })
        }
        ClientMessage::Push { batch, space, writes } => {
            json!({ "batch": batch, "space": hex(space.as_bytes()), "writes": each(writes, write) })
        }
        ClientMessage::Cursor { space, position } => json!({ "space": hex(space.as_bytes()), "position": position }),
        ClientMessage::Compare { space, documents, is_last } => {
            json!({ "space": hex(space.as_bytes()), "documents": each(documents, document_heads), "last": is_last })
        }
        ClientMessage::Open { space, documents } => {
            json!({ "space": hex(space.as_bytes()), "documents": each(documents, document_heads) })
        }
        ClientMessage::Close { space, documents } => {
            let documents = each(documents, |document| hex(document.as_bytes()).into());
            json!({ "space": hex(space.as_bytes()), "documents": documents })
        }
        ClientMessage::Credit { bytes } => json!({ "bytes": bytes }),
        ClientMessage::Presence { space, values } => {
            json!({ "space": hex(space.as_bytes()), "values": each(values, presence) })
        }
        ClientMessage::Renew { token } => json!({ "token": token.as_str() }),
        ClientMessage::Error(error) => error_of(error),
        other => panic!("the kit does not know {other:?}"),
    };
    named(message.name(), fields)
}

/// Returns the meaning of what a relay says.
fn of_relay(message: &RelayMessage) -> Json {
    let fields = match message {
        RelayMessage::Welcome(welcome) => welcome_of(welcome),
        RelayMessage::Subscribed { space, access, is_compared, after, end, documents, bytes } => {
            let access = match access {
                Access::Read => "read",
                Access::Write => "write",
                Access::Admin => "admin",
            };
            json!({ "space": hex(space.as_bytes()), "access": access, "compared": is_compared, "after": after, "end": end,
                "documents": documents, "bytes": bytes })
        }
        RelayMessage::Entries { space, first, entries } => {
            json!({ "space": hex(space.as_bytes()), "first": first, "entries": each(entries, entry) })
        }
        RelayMessage::CaughtUp { space, position } => json!({ "space": hex(space.as_bytes()), "position": position }),
        RelayMessage::Ack { batch, results } => {
            let results = each(results, |run| match &run.outcome {
                Outcome::Stored { first } => json!({ "count": run.count, "stored": first }),
                Outcome::Duplicate => json!({ "count": run.count, "duplicate": true }),
                Outcome::Rejected(reject) => {
                    json!({ "count": run.count, "rejected": code(reject.code), "text": reject.text })
                }
            });
            json!({ "batch": batch, "results": results })
        }
        RelayMessage::Fill { space, writes } => {
            json!({ "space": hex(space.as_bytes()), "writes": each(writes, write) })
        }
        RelayMessage::Snapshot { space, document, position, heads, chunk } => {
            json!({ "space": hex(space.as_bytes()), "document": hex(document.as_bytes()), "position": position,
                "heads": hashes(heads), "chunk": hex(chunk) })
        }
        RelayMessage::Lacking { space, documents, is_last } => {
            json!({ "space": hex(space.as_bytes()), "documents": each(documents, document_heads), "last": is_last })
        }
        RelayMessage::Opened { space, position, documents } => {
            let documents = each(documents, document_heads);
            json!({ "space": hex(space.as_bytes()), "position": position, "documents": documents })
        }
        RelayMessage::Listing { space, position, documents } => {
            json!({ "space": hex(space.as_bytes()), "position": position, "documents": each(documents, listed) })
        }
        RelayMessage::Credit { bytes } => json!({ "bytes": bytes }),
        RelayMessage::Presence { space, values } => {
            json!({ "space": hex(space.as_bytes()), "values": each(values, presence) })
        }
        RelayMessage::Seen { space, storage, position } => {
            json!({ "space": hex(space.as_bytes()), "store": hex(storage.as_bytes()), "position": position })
        }
        RelayMessage::Hint { space, end } => json!({ "space": hex(space.as_bytes()), "end": end }),
        RelayMessage::Renewed { seconds } => json!({ "seconds": seconds }),
        RelayMessage::Error(error) => error_of(error),
        other => panic!("the kit does not know {other:?}"),
    };
    named(message.name(), fields)
}

fn named(kind: &str, mut fields: Json) -> Json {
    fields["kind"] = kind.into();
    fields
}

fn hello_of(hello: &Hello) -> Json {
    json!({
        "lowest": hello.lowest,
        "highest": hello.highest,
        "peer": hello.peer.as_str(),
        "store": hello.storage.map(|store| hex(store.as_bytes())),
        "takesSnapshots": hello.takes_snapshots,
        "token": hello.token.as_str(),
        "credit": hello.credit,
        "subscriptions": each(&hello.subscriptions, subscription),
    })
}

fn welcome_of(welcome: &Welcome) -> Json {
    json!({
        "version": welcome.version,
        "store": hex(welcome.storage.as_bytes()),
        "epoch": hex(welcome.epoch.as_bytes()),
        "frameBytes": welcome.limits.frame_bytes,
        "changeBytes": welcome.limits.change_bytes,
        "batchEntries": welcome.limits.batch_entries,
        "presenceBytes": welcome.limits.presence_bytes,
        "credit": welcome.credit,
        "permitSeconds": welcome.permit_seconds,
    })
}

fn subscription(subscription: &Subscription) -> Json {
    let mode = match subscription.mode {
        Mode::Everything => "everything",
        Mode::Listing => "listing",
        Mode::Chosen => "chosen",
    };
    let start = match subscription.start {
        Start::Beginning => json!("beginning"),
        Start::Compare => json!("compare"),
        Start::Cursor { epoch, position } => json!({ "epoch": hex(epoch.as_bytes()), "position": position }),
    };
    json!({ "space": hex(subscription.space.as_bytes()), "mode": mode, "start": start })
}

fn write(write: &Write) -> Json {
    let document = hex(write.document.as_bytes());
    match &write.content {
        Content::Change(change) => json!({ "document": document, "change": hex(change) }),
        Content::PassedOn(change) => json!({ "document": document, "change": hex(change), "passedOn": true }),
        Content::Deleted(tombstone) => json!({ "document": document, "deleted": tombstone_of(tombstone) }),
    }
}

fn entry(entry: &Entry) -> Json {
    match entry {
        Entry::Write(one) => write(one),
        Entry::Skipped { count } => json!({ "skipped": count }),
    }
}

fn document_heads(one: &DocumentHeads) -> Json {
    json!({ "document": hex(one.document.as_bytes()), "heads": hashes(&one.heads) })
}

fn listed(one: &Listed) -> Json {
    let document = hex(one.document.as_bytes());
    match &one.state {
        ListedState::Present { heads, changes, bytes } => {
            json!({ "document": document, "heads": hashes(heads), "changes": changes, "bytes": bytes })
        }
        ListedState::Deleted(tombstone) => json!({ "document": document, "deleted": tombstone_of(tombstone) }),
    }
}

fn presence(value: &Presence) -> Json {
    json!({
        "author": value.author.as_str(),
        "document": hex(value.document.as_bytes()),
        "key": value.key,
        "sequence": value.sequence,
        "ttl": value.ttl_ms,
        "data": hex(&value.data),
    })
}

fn error_of(error: &ErrorMessage) -> Json {
    let about = match &error.about {
        About::Connection => json!("connection"),
        About::Space(space) => json!({ "space": hex(space.as_bytes()) }),
        About::Document(space, document) => {
            json!({ "space": hex(space.as_bytes()), "document": hex(document.as_bytes()) })
        }
        About::Batch(batch) => json!({ "batch": batch }),
    };
    json!({ "code": code(error.code), "text": error.text, "fatal": error.is_fatal, "about": about })
}

fn code(code: Code) -> String {
    match code {
        Code::Other(number) => format!("code-{number}"),
        known => known.name().to_owned(),
    }
}

fn tombstone_of(tombstone: &Tombstone) -> Json {
    let is_purged = tombstone.kind == DeletionKind::Purged;
    json!({ "purge": is_purged, "time": tombstone.time_seconds, "by": tombstone.by })
}

fn hashes(hashes: &[ChangeHash]) -> Vec<String> {
    hashes.iter().map(ToString::to_string).collect()
}

fn each<T>(items: &[T], meaning: impl Fn(&T) -> Json) -> Vec<Json> {
    items.iter().map(meaning).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
