//! From bytes to a frame: first where each known key's value lies, then what the message's type needs of them.

use automerge::ChangeHash;
use bytes::Bytes;

use super::cbor::{Value, within};
use super::{DecodeError, Frame, PROTOCOL_VERSION, PeerMetadata, RemoteHeads};
use crate::deletion::{DeletionKind, Tombstone};
use crate::id::{DocumentId, Epoch, PeerId};
use crate::limits::{
    DELETED_BY_BYTES_MAX, DOCUMENT_ID_TEXT_BYTES_MAX, EPHEMERAL_BYTES_MAX, FRAME_BYTES_MAX, GOSSIP_ENTRIES_MAX,
    GOSSIP_HEADS_MAX, PEER_ERROR_BYTES_MAX, PEER_ID_BYTES_MAX, PROTOCOL_VERSION_BYTES_MAX, PROTOCOL_VERSIONS_MAX,
    SESSION_ID_BYTES_MAX, STORAGE_ID_BYTES_MAX, UNKNOWN_TYPE_BYTES_MAX,
};

/// The longest text of a change hash: 36 bytes in base58 are 50 characters.
const HEAD_TEXT_BYTES_MAX: usize = 64;

/// Reads one message.
pub(super) fn frame(message: &Bytes) -> Result<Frame, DecodeError> {
    within("message", "bytes", message.len() as u64, FRAME_BYTES_MAX)?;
    let whole = Value::first(message)?;
    match whole.bytes_after() {
        0 => {}
        found => return Err(DecodeError::TrailingBytes { found }),
    }
    let fields = Fields::find(whole)?;
    match fields.need(Key::Type)?.unbounded_text("type")? {
        "join" => join(&fields),
        "peer" => peer(&fields),
        "error" => error(&fields),
        "leave" => Ok(Frame::Leave { sender_id: fields.sender()? }),
        "request" => {
            let (sender_id, target_id, document) = fields.about("request")?;
            Ok(Frame::Request { sender_id, target_id, document, data: fields.data(message, FRAME_BYTES_MAX)? })
        }
        "sync" => {
            let (sender_id, target_id, document) = fields.about("sync")?;
            Ok(Frame::Sync { sender_id, target_id, document, data: fields.data(message, FRAME_BYTES_MAX)? })
        }
        "ephemeral" => ephemeral(&fields, message),
        "doc-unavailable" => {
            let (sender_id, target_id, document) = fields.about("doc-unavailable")?;
            Ok(Frame::DocUnavailable { sender_id, target_id, document })
        }
        "remote-subscription-change" => Ok(Frame::RemoteSubscriptionChange {
            sender_id: fields.sender()?,
            target_id: fields.target()?,
            add: fields.storage_ids(Key::Add)?,
            remove: fields.storage_ids(Key::Remove)?,
        }),
        "remote-heads-changed" => remote_heads_changed(&fields),
        "rejoin-delete" => delete(&fields),
        unknown => Err(DecodeError::UnknownType(cut(unknown, UNKNOWN_TYPE_BYTES_MAX).to_owned())),
    }
}

fn join(fields: &Fields<'_>) -> Result<Frame, DecodeError> {
    let versions = match fields.get(Key::SupportedProtocolVersions) {
        Some(list) => texts(list, Key::SupportedProtocolVersions, PROTOCOL_VERSIONS_MAX, PROTOCOL_VERSION_BYTES_MAX)?,
        None => vec![PROTOCOL_VERSION.to_owned()],
    };
    Ok(Frame::Join { sender_id: fields.sender()?, metadata: fields.metadata()?, versions })
}

fn peer(fields: &Fields<'_>) -> Result<Frame, DecodeError> {
    let version = fields.need(Key::SelectedProtocolVersion)?;
    Ok(Frame::Peer {
        sender_id: fields.sender()?,
        target_id: fields.target()?,
        metadata: fields.metadata()?,
        selected_version: version.text("selectedProtocolVersion", PROTOCOL_VERSION_BYTES_MAX)?.to_owned(),
    })
}

fn error(fields: &Fields<'_>) -> Result<Frame, DecodeError> {
    let message = fields.need(Key::Message)?.unbounded_text("message")?;
    Ok(Frame::Error {
        sender_id: fields.get(Key::SenderId).map(|value| peer_id(value, Key::SenderId)).transpose()?,
        target_id: fields.get(Key::TargetId).map(|value| peer_id(value, Key::TargetId)).transpose()?,
        message: cut(message, PEER_ERROR_BYTES_MAX).to_owned(),
    })
}

fn ephemeral(fields: &Fields<'_>, message: &Bytes) -> Result<Frame, DecodeError> {
    let (sender_id, target_id, document) = fields.about("ephemeral")?;
    Ok(Frame::Ephemeral {
        sender_id,
        target_id,
        document,
        count: fields.need(Key::Count)?.whole_number("count")?,
        session_id: fields.need(Key::SessionId)?.text("sessionId", SESSION_ID_BYTES_MAX)?.to_owned(),
        data: fields.data(message, EPHEMERAL_BYTES_MAX)?,
    })
}

fn delete(fields: &Fields<'_>) -> Result<Frame, DecodeError> {
    let (sender_id, target_id, document) = fields.about("rejoin-delete")?;
    let kind = if fields.flag(Key::Purge)? { DeletionKind::Purged } else { DeletionKind::Deleted };
    let time_seconds = fields.need(Key::Time)?.whole_number("time")?;
    let by = fields.need(Key::By)?.text("by", DELETED_BY_BYTES_MAX)?.to_owned();
    let tombstone = Tombstone { kind, time_seconds, by };
    Ok(Frame::Delete { sender_id, target_id, document, tombstone, is_ack: fields.flag(Key::Ack)? })
}

fn remote_heads_changed(fields: &Fields<'_>) -> Result<Frame, DecodeError> {
    let (sender_id, target_id, document) = fields.about("remote-heads-changed")?;
    let mut new_heads = Vec::new();
    let mut heads_read = 0;
    fields.need(Key::NewHeads)?.each_entry("newHeads", |storage_id, entry| {
        let storage_id =
            storage_id.ok_or(DecodeError::WrongFieldType { field: "newHeads", expected: "texts as its keys" })?;
        within("newHeads", "bytes in a key", storage_id.len() as u64, STORAGE_ID_BYTES_MAX)?;
        within("newHeads", "entries", new_heads.len() as u64 + 1, GOSSIP_ENTRIES_MAX)?;
        new_heads.push(remote_heads(storage_id, entry, &mut heads_read)?);
        Ok(())
    })?;
    Ok(Frame::RemoteHeadsChanged { sender_id, target_id, document, new_heads })
}

/// Reads the heads of one store, and counts what was read for the whole message.
fn remote_heads(storage_id: &str, entry: Value<'_>, heads_read: &mut u64) -> Result<RemoteHeads, DecodeError> {
    let mut heads = Vec::new();
    let mut timestamp_ms = None;
    entry.each_entry("newHeads", |key, value| {
        match key {
            Some("heads") => {
                heads.clear();
                value.each_item("heads", GOSSIP_HEADS_MAX, |head| {
                    *heads_read += 1;
                    within("heads", "entries", *heads_read, GOSSIP_HEADS_MAX)?;
                    heads.push(change_hash(head.text("heads", HEAD_TEXT_BYTES_MAX)?)?);
                    Ok(())
                })?;
            }
            Some("timestamp") => timestamp_ms = Some(value.whole_number("timestamp")?),
            _ => {}
        }
        Ok(())
    })?;
    let timestamp_ms = timestamp_ms.ok_or(DecodeError::MissingField { field: "timestamp" })?;
    Ok(RemoteHeads { storage_id: storage_id.to_owned(), heads, timestamp_ms })
}

/// Reads a change hash in bs58check.
fn change_hash(text: &str) -> Result<ChangeHash, DecodeError> {
    let bytes = bs58::decode(text).with_check(None).into_vec().map_err(|_| DecodeError::UnsupportedHead)?;
    bytes.try_into().map(ChangeHash).map_err(|_| DecodeError::UnsupportedHead)
}

fn peer_id(value: Value<'_>, key: Key) -> Result<PeerId, DecodeError> {
    let field = key.name();
    let text = value.text(field, PEER_ID_BYTES_MAX)?;
    PeerId::new(text).map_err(|error| DecodeError::LimitExceeded {
        field,
        found: error.found as u64,
        limit: PEER_ID_BYTES_MAX as u64,
        unit: "bytes",
    })
}

fn texts(list: Value<'_>, key: Key, entries_max: usize, bytes_max: usize) -> Result<Vec<String>, DecodeError> {
    let mut texts = Vec::new();
    list.each_item(key.name(), entries_max, |item| {
        texts.push(item.text(key.name(), bytes_max)?.to_owned());
        Ok(())
    })?;
    Ok(texts)
}

/// Cuts a text to at most `limit` bytes, between characters.
fn cut(text: &str, limit: usize) -> &str {
    let limit = limit.min(text.len());
    let end = (0..=limit).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[..end]
}

/// The keys we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Type,
    SenderId,
    TargetId,
    DocumentId,
    Data,
    Count,
    SessionId,
    PeerMetadata,
    SupportedProtocolVersions,
    SelectedProtocolVersion,
    Message,
    Add,
    Remove,
    NewHeads,
    Time,
    By,
    Purge,
    Ack,
}

impl Key {
    const COUNT: usize = 18;

    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "type" => Self::Type,
            "senderId" => Self::SenderId,
            "targetId" => Self::TargetId,
            "documentId" => Self::DocumentId,
            "data" => Self::Data,
            "count" => Self::Count,
            "sessionId" => Self::SessionId,
            // The published description says `metadata`, which one implementation reads too.
            "peerMetadata" | "metadata" => Self::PeerMetadata,
            "supportedProtocolVersions" => Self::SupportedProtocolVersions,
            "selectedProtocolVersion" => Self::SelectedProtocolVersion,
            "message" => Self::Message,
            "add" => Self::Add,
            "remove" => Self::Remove,
            "newHeads" => Self::NewHeads,
            "time" => Self::Time,
            "by" => Self::By,
            "purge" => Self::Purge,
            "ack" => Self::Ack,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::SenderId => "senderId",
            Self::TargetId => "targetId",
            Self::DocumentId => "documentId",
            Self::Data => "data",
            Self::Count => "count",
            Self::SessionId => "sessionId",
            Self::PeerMetadata => "peerMetadata",
            Self::SupportedProtocolVersions => "supportedProtocolVersions",
            Self::SelectedProtocolVersion => "selectedProtocolVersion",
            Self::Message => "message",
            Self::Add => "add",
            Self::Remove => "remove",
            Self::NewHeads => "newHeads",
            Self::Time => "time",
            Self::By => "by",
            Self::Purge => "purge",
            Self::Ack => "ack",
        }
    }
}

/// Where the value of each known key lies. Nothing is read before the type says what it should be.
struct Fields<'b> {
    values: [Option<Value<'b>>; Key::COUNT],
}

impl<'b> Fields<'b> {
    fn find(whole: Value<'b>) -> Result<Self, DecodeError> {
        let mut values = [None; Key::COUNT];
        let found = whole.each_entry("message", |name, value| {
            if let Some(key) = name.and_then(Key::from_name) {
                values[key as usize] = (!value.is_absent()).then_some(value);
            }
            Ok(())
        });
        match found {
            Ok(()) => Ok(Self { values }),
            Err(DecodeError::WrongFieldType { .. }) => Err(DecodeError::NotAMap),
            Err(error) => Err(error),
        }
    }

    fn get(&self, key: Key) -> Option<Value<'b>> {
        self.values[key as usize]
    }

    fn need(&self, key: Key) -> Result<Value<'b>, DecodeError> {
        self.get(key).ok_or(DecodeError::MissingField { field: key.name() })
    }

    /// Reads a truth value that counts as false when it is absent.
    fn flag(&self, key: Key) -> Result<bool, DecodeError> {
        self.get(key).map_or(Ok(false), |value| value.boolean(key.name()))
    }

    fn sender(&self) -> Result<PeerId, DecodeError> {
        peer_id(self.need(Key::SenderId)?, Key::SenderId)
    }

    fn target(&self) -> Result<PeerId, DecodeError> {
        peer_id(self.need(Key::TargetId)?, Key::TargetId)
    }

    /// Reads the three fields of every message about a document.
    fn about(&self, kind: &'static str) -> Result<(PeerId, PeerId, DocumentId), DecodeError> {
        let (sender_id, target_id) = (self.sender()?, self.target()?);
        let text = self.need(Key::DocumentId)?.text("documentId", DOCUMENT_ID_TEXT_BYTES_MAX)?;
        match text.parse() {
            Ok(document) => Ok((sender_id, target_id, document)),
            Err(reason) => {
                Err(DecodeError::UnsupportedDocumentId { kind, sender_id, document: text.to_owned(), reason })
            }
        }
    }

    fn data(&self, message: &Bytes, limit: usize) -> Result<Bytes, DecodeError> {
        let data = self.need(Key::Data)?.bytes("data")?;
        within("data", "bytes", data.len() as u64, limit)?;
        if data.is_empty() {
            return Err(DecodeError::EmptyData);
        }
        Ok(message.slice_ref(data))
    }

    fn metadata(&self) -> Result<PeerMetadata, DecodeError> {
        let mut metadata = PeerMetadata::default();
        let Some(map) = self.get(Key::PeerMetadata) else { return Ok(metadata) };
        map.each_entry("peerMetadata", |key, value| {
            match key {
                _ if value.is_absent() => {}
                Some("storageId") => {
                    metadata.storage_id = Some(value.text("storageId", STORAGE_ID_BYTES_MAX)?.to_owned());
                }
                Some("isEphemeral") => metadata.is_ephemeral = value.boolean("isEphemeral")?,
                Some("rejoin") => {
                    metadata.rejoin = u32::try_from(value.whole_number("rejoin")?).unwrap_or(u32::MAX);
                }
                // Somebody else's key of that name may hold anything.
                Some("epoch") => {
                    let bytes = value.bytes("epoch").ok().and_then(|bytes| bytes.try_into().ok());
                    metadata.epoch = bytes.map(Epoch::from_bytes);
                }
                _ => {}
            }
            Ok(())
        })?;
        metadata.epoch = metadata.epoch.filter(|_| metadata.rejoin > 0);
        Ok(metadata)
    }

    fn storage_ids(&self, key: Key) -> Result<Vec<String>, DecodeError> {
        match self.get(key) {
            Some(list) => texts(list, key, GOSSIP_ENTRIES_MAX, STORAGE_ID_BYTES_MAX),
            None => Ok(Vec::new()),
        }
    }
}
