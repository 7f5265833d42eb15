//! The frames of the classic automerge-repo protocol, version "1": one CBOR map in one binary WebSocket message.
//!
//! Written so that both of its known readers take it: definite lengths only, integers of at most 32 bits, larger numbers
//! as 64 bit floats, byte strings without a tag, absent fields left out. Read more widely: any width of header, any order
//! of keys, unknown keys, `undefined` for absent, tagged byte strings. See `core/docs/protocol.md`.

use std::convert::Infallible;

use bytes::Bytes;
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use crate::id::{DocumentId, PeerId};
use crate::limits::{
    EPHEMERAL_BYTES_MAX, FRAME_BYTES_MAX, GOSSIP_ENTRIES_MAX, PEER_ERROR_BYTES_MAX, PEER_ID_BYTES_MAX,
};

mod fields;
#[cfg(test)]
mod tests;

use fields::Fields;

/// One frame. `sender` and `target` are peers of this connection, unless it says otherwise.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Frame {
    /// Client to server, first of all.
    Join {
        /// The client.
        sender_id: PeerId,
        /// About its store.
        metadata: PeerMetadata,
        /// The versions it speaks.
        versions: Vec<String>,
    },
    /// Server to client: the answer to a join.
    Peer {
        /// The server.
        sender_id: PeerId,
        /// The client.
        target_id: PeerId,
        /// About the server's store.
        metadata: PeerMetadata,
        /// The version that is spoken from now on.
        selected_version: String,
    },
    /// Something is wrong; the connection usually ends.
    Error {
        /// Who says so, if it says.
        sender_id: Option<PeerId>,
        /// To whom, if it says.
        target_id: Option<PeerId>,
        /// What.
        message: String,
    },
    /// The sender goes.
    Leave {
        /// Who.
        sender_id: PeerId,
    },
    /// A sync message from somebody who lacks the document, and wants to be told if the other lacks it too.
    Request {
        /// Who.
        sender_id: PeerId,
        /// To whom.
        target_id: PeerId,
        /// Which document.
        document: DocumentId,
        /// The sync message.
        data: Bytes,
    },
    /// A sync message.
    Sync {
        /// Who.
        sender_id: PeerId,
        /// To whom.
        target_id: PeerId,
        /// Which document.
        document: DocumentId,
        /// The sync message.
        data: Bytes,
    },
    /// A message for all who have the document open; stored nowhere.
    Ephemeral {
        /// The author, which is not always the other side of the connection.
        sender_id: PeerId,
        /// The next hop.
        target_id: PeerId,
        /// Which document.
        document: DocumentId,
        /// Counts the author's messages in its session.
        count: u64,
        /// The author's session.
        session_id: String,
        /// An application's value in CBOR.
        data: Bytes,
    },
    /// The sender does not have a document that was requested.
    DocUnavailable {
        /// Who.
        sender_id: PeerId,
        /// To whom.
        target_id: PeerId,
        /// Which document.
        document: DocumentId,
    },
    /// Gossip: the sender wants to hear of these stores' heads, or no longer.
    RemoteSubscriptionChange {
        /// Who.
        sender_id: PeerId,
        /// To whom.
        target_id: PeerId,
        /// Storage ids to hear of.
        add: Vec<String>,
        /// Storage ids to hear of no longer.
        remove: Vec<String>,
    },
    /// Gossip: what other stores have of a document. Its contents are not read here.
    RemoteHeadsChanged {
        /// Who.
        sender_id: PeerId,
        /// To whom.
        target_id: PeerId,
        /// Which document.
        document: DocumentId,
    },
}

/// What a peer says of its store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerMetadata {
    /// The store's id, if there is a store.
    pub storage_id: Option<String>,
    /// Whether it forgets when the process ends.
    pub is_ephemeral: bool,
}

/// Why a frame does not decode. The sender is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not CBOR, or not a map of the form a frame has.
    #[error("the frame is no CBOR map of the classic protocol: {0}")]
    Malformed(String),
    /// A field that the frame's type needs is not there.
    #[error("the frame has no usable {0:?} field")]
    Missing(&'static str),
    /// A field is longer than its bound.
    #[error("the frame's {field} field is longer than {max}")]
    TooLong {
        /// Which.
        field: &'static str,
        /// The bound.
        max: usize,
    },
    /// A frame of a type that is not known here. The stream is intact.
    #[error("frames of type {0:?} are not known here")]
    UnknownType(String),
    /// A document id that is not 16 bytes in bs58check. The stream is intact.
    #[error("the document id is not 16 bytes in bs58check: such documents are not served here")]
    UnsupportedDocumentId,
}

impl DecodeError {
    /// Says whether the stream can no longer be trusted.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::UnknownType(_) | Self::UnsupportedDocumentId)
    }
}

impl From<minicbor::decode::Error> for DecodeError {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl Frame {
    /// Reads a frame. Its `data` is a slice of `frame`, not a copy.
    ///
    /// Cost: O(bytes), whatever they hold.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; [`DecodeError::is_fatal`] says whether to close the connection.
    pub fn decode(frame: &Bytes) -> Result<Self, DecodeError> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(DecodeError::TooLong { field: "whole", max: FRAME_BYTES_MAX });
        }
        let fields = Fields::read(frame)?;
        let kind = fields.text("type")?;
        let document = || fields.text("documentId")?.parse().map_err(|_| DecodeError::UnsupportedDocumentId);
        let sender_id = || fields.peer("senderId");
        let target_id = || fields.peer("targetId");
        Ok(match kind {
            "join" => Self::Join {
                sender_id: sender_id()?,
                metadata: fields.metadata.clone(),
                // Old clients do not say; there has only ever been one version.
                versions: fields.versions.clone().unwrap_or_else(|| vec!["1".to_owned()]),
            },
            "peer" => Self::Peer {
                sender_id: sender_id()?,
                target_id: target_id()?,
                metadata: fields.metadata.clone(),
                selected_version: fields.text("selectedProtocolVersion").unwrap_or("1").to_owned(),
            },
            "error" => Self::Error {
                sender_id: sender_id().ok(),
                target_id: target_id().ok(),
                message: clip(fields.text("message").unwrap_or_default()),
            },
            "leave" => Self::Leave { sender_id: sender_id()? },
            "request" => Self::Request {
                sender_id: sender_id()?,
                target_id: target_id()?,
                document: document()?,
                data: fields.data(FRAME_BYTES_MAX)?,
            },
            "sync" => Self::Sync {
                sender_id: sender_id()?,
                target_id: target_id()?,
                document: document()?,
                data: fields.data(FRAME_BYTES_MAX)?,
            },
            "ephemeral" => Self::Ephemeral {
                sender_id: sender_id()?,
                target_id: target_id()?,
                document: document()?,
                count: fields.count.ok_or(DecodeError::Missing("count"))?,
                session_id: fields.bounded_text("sessionId", PEER_ID_BYTES_MAX)?.to_owned(),
                data: fields.data(EPHEMERAL_BYTES_MAX)?,
            },
            "doc-unavailable" => {
                Self::DocUnavailable { sender_id: sender_id()?, target_id: target_id()?, document: document()? }
            }
            "remote-subscription-change" => Self::RemoteSubscriptionChange {
                sender_id: sender_id()?,
                target_id: target_id()?,
                add: fields.add.clone(),
                remove: fields.remove.clone(),
            },
            "remote-heads-changed" => {
                Self::RemoteHeadsChanged { sender_id: sender_id()?, target_id: target_id()?, document: document()? }
            }
            other => return Err(DecodeError::UnknownType(clip(other))),
        })
    }

    /// Writes the frame.
    pub fn encode(&self) -> Bytes {
        let mut out = Encoder::new(Vec::with_capacity(256));
        match self.write(&mut out) {
            Ok(()) => Bytes::from(out.into_writer()),
            Err(error) => match error.into_write() {
                // Writing into a vector has no way to fail; the type says so.
                Some(never) => match never {},
                None => Bytes::new(),
            },
        }
    }

    fn write(&self, out: &mut Encoder<Vec<u8>>) -> Result<(), minicbor::encode::Error<Infallible>> {
        match self {
            Self::Join { sender_id, metadata, versions } => {
                head(out, 4, "join", Some(sender_id), None)?;
                write_metadata(out, metadata)?;
                write_texts(out, "supportedProtocolVersions", versions)
            }
            Self::Peer { sender_id, target_id, metadata, selected_version } => {
                head(out, 5, "peer", Some(sender_id), Some(target_id))?;
                write_metadata(out, metadata)?;
                out.str("selectedProtocolVersion")?.str(selected_version)?.ok()
            }
            Self::Error { sender_id, target_id, message } => {
                let fields = 2 + u64::from(sender_id.is_some()) + u64::from(target_id.is_some());
                head(out, fields, "error", sender_id.as_ref(), target_id.as_ref())?;
                out.str("message")?.str(message)?.ok()
            }
            Self::Leave { sender_id } => head(out, 2, "leave", Some(sender_id), None),
            Self::Request { sender_id, target_id, document, data } => {
                head(out, 5, "request", Some(sender_id), Some(target_id))?;
                write_data(out, document, data)
            }
            Self::Sync { sender_id, target_id, document, data } => {
                head(out, 5, "sync", Some(sender_id), Some(target_id))?;
                write_data(out, document, data)
            }
            Self::Ephemeral { sender_id, target_id, document, count, session_id, data } => {
                head(out, 7, "ephemeral", Some(sender_id), Some(target_id))?;
                out.str("count")?;
                write_number(out, *count)?;
                out.str("sessionId")?.str(session_id)?;
                write_data(out, document, data)
            }
            Self::DocUnavailable { sender_id, target_id, document } => {
                head(out, 4, "doc-unavailable", Some(sender_id), Some(target_id))?;
                out.str("documentId")?.str(&document.to_string())?.ok()
            }
            Self::RemoteSubscriptionChange { sender_id, target_id, add, remove } => {
                head(out, 5, "remote-subscription-change", Some(sender_id), Some(target_id))?;
                write_texts(out, "add", add)?;
                write_texts(out, "remove", remove)
            }
            Self::RemoteHeadsChanged { sender_id, target_id, document } => {
                head(out, 5, "remote-heads-changed", Some(sender_id), Some(target_id))?;
                out.str("documentId")?.str(&document.to_string())?.str("newHeads")?.map(0)?.ok()
            }
        }
    }
}

/// Writes a sync frame. One allocation: the relay makes one for every reader of every change.
pub fn encode_sync(sender: &PeerId, target: &PeerId, document: &DocumentId, data: &[u8]) -> Bytes {
    let mut out = Encoder::new(Vec::with_capacity(160 + sender.as_str().len() + target.as_str().len() + data.len()));
    let written = head(&mut out, 5, "sync", Some(sender), Some(target));
    match written.and_then(|()| write_data(&mut out, document, data)) {
        Ok(()) => Bytes::from(out.into_writer()),
        Err(_) => Bytes::new(),
    }
}

type Written = Result<(), minicbor::encode::Error<Infallible>>;

fn head(
    out: &mut Encoder<Vec<u8>>,
    fields: u64,
    kind: &str,
    sender: Option<&PeerId>,
    target: Option<&PeerId>,
) -> Written {
    out.map(fields)?.str("type")?.str(kind)?;
    for (key, peer) in [("senderId", sender), ("targetId", target)] {
        if let Some(peer) = peer {
            out.str(key)?.str(peer.as_str())?;
        }
    }
    Ok(())
}

fn write_data(out: &mut Encoder<Vec<u8>>, document: &DocumentId, data: &[u8]) -> Written {
    out.str("documentId")?.str(&document.to_string())?.str("data")?.bytes(data)?.ok()
}

fn write_metadata(out: &mut Encoder<Vec<u8>>, metadata: &PeerMetadata) -> Written {
    out.str("peerMetadata")?.map(1 + u64::from(metadata.storage_id.is_some()))?;
    if let Some(storage) = &metadata.storage_id {
        out.str("storageId")?.str(storage)?;
    }
    out.str("isEphemeral")?.bool(metadata.is_ephemeral)?.ok()
}

fn write_texts(out: &mut Encoder<Vec<u8>>, key: &str, texts: &[String]) -> Written {
    out.str(key)?.array(texts.len() as u64)?;
    for text in texts {
        out.str(text)?;
    }
    Ok(())
}

/// Writes an integer as JavaScript's encoder does: above 32 bits as a float, since its decoder makes a BigInt of the rest.
fn write_number(out: &mut Encoder<Vec<u8>>, number: u64) -> Written {
    match u32::try_from(number) {
        Ok(small) => out.u32(small)?.ok(),
        #[expect(clippy::cast_precision_loss, reason = "a JavaScript number has no more bits")]
        Err(_) => out.f64(number as f64)?.ok(),
    }
}

/// Cuts a text that goes into our log.
fn clip(text: &str) -> String {
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= PEER_ERROR_BYTES_MAX).last().unwrap_or(0);
    if text.len() <= PEER_ERROR_BYTES_MAX { text.to_owned() } else { text[..end].to_owned() }
}
