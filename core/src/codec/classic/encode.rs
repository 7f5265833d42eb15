//! From a frame to bytes. The target always comes last, so that everything before it is written once for all targets.

use std::convert::Infallible;

use bytes::Bytes;
use minicbor::Encoder;
use minicbor::encode::Error;

use super::{Frame, PeerMetadata, RemoteHeads};
use crate::deletion::{DeletionKind, Tombstone};
use crate::id::{DocumentId, PeerId};

/// One message for many targets: everything but `targetId`, encoded once.
///
/// For each target it costs one allocation and one copy.
#[derive(Debug, Clone)]
pub struct FanOut {
    /// The fields without the map's header, which differs with and without a target.
    fields: Vec<u8>,
    count: u8,
}

impl FanOut {
    /// Encodes everything but the target of a message.
    pub fn new(frame: &Frame) -> Self {
        let mut fields = Fields::new(frame.kind(), data_length(frame));
        fields.frame(frame).expect(INTO_MEMORY);
        fields.finish()
    }

    /// Encodes everything but the target of a sync message, from the document id's text.
    pub fn sync(sender_id: &PeerId, document_text: &str, data: &[u8]) -> Self {
        let mut fields = Fields::new("sync", data.len());
        fields.about(sender_id, document_text).expect(INTO_MEMORY);
        fields.bytes("data", data).expect(INTO_MEMORY);
        fields.finish()
    }

    /// Returns the message for one target.
    pub fn to(&self, target_id: &PeerId) -> Bytes {
        self.whole(Some(target_id))
    }

    /// Returns the message with or without a target.
    pub(super) fn whole(&self, target_id: Option<&PeerId>) -> Bytes {
        let target_bytes = target_id.map_or(0, |target| target.as_str().len() + 16);
        let mut out = Encoder::new(Vec::with_capacity(1 + self.fields.len() + target_bytes));
        out.map(u64::from(self.count) + u64::from(target_id.is_some())).expect(INTO_MEMORY);
        out.writer_mut().extend_from_slice(&self.fields);
        if let Some(target_id) = target_id {
            out.str("targetId").and_then(|out| out.str(target_id.as_str())).expect(INTO_MEMORY);
        }
        out.into_writer().into()
    }
}

/// Encodes one sync message from the document id's text and a message's bytes.
pub fn encode_sync(sender_id: &PeerId, target_id: &PeerId, document_text: &str, data: &[u8]) -> Bytes {
    FanOut::sync(sender_id, document_text, data).to(target_id)
}

/// Encodes a `doc-unavailable` from the document id's text, which may be one that we do not support.
pub fn encode_doc_unavailable(sender_id: &PeerId, target_id: &PeerId, document_text: &str) -> Bytes {
    let mut fields = Fields::new("doc-unavailable", 0);
    fields.about(sender_id, document_text).expect(INTO_MEMORY);
    fields.finish().to(target_id)
}

/// Why encoding cannot fail: it goes into a vector.
const INTO_MEMORY: &str = "writing into a vector cannot fail";

type Written = Result<(), Error<Infallible>>;

/// How much room a frame's data needs.
fn data_length(frame: &Frame) -> usize {
    match frame {
        Frame::Request { data, .. } | Frame::Sync { data, .. } | Frame::Ephemeral { data, .. } => data.len(),
        _ => 0,
    }
}

/// Writes the entries of the map and counts them.
struct Fields {
    out: Encoder<Vec<u8>>,
    count: u8,
}

impl Fields {
    fn new(kind: &str, data_bytes: usize) -> Self {
        let mut fields = Self { out: Encoder::new(Vec::with_capacity(data_bytes + 192)), count: 0 };
        fields.text("type", kind).expect(INTO_MEMORY);
        fields
    }

    fn finish(self) -> FanOut {
        FanOut { fields: self.out.into_writer(), count: self.count }
    }

    fn frame(&mut self, frame: &Frame) -> Written {
        match frame {
            Frame::Join { sender_id, metadata, versions } => {
                self.text("senderId", sender_id.as_str())?;
                self.metadata(metadata)?;
                self.texts("supportedProtocolVersions", versions)
            }
            Frame::Peer { sender_id, metadata, selected_version, .. } => {
                self.text("senderId", sender_id.as_str())?;
                self.metadata(metadata)?;
                self.text("selectedProtocolVersion", selected_version)
            }
            Frame::Error { sender_id, message, .. } => {
                if let Some(sender_id) = sender_id {
                    self.text("senderId", sender_id.as_str())?;
                }
                self.text("message", message)
            }
            Frame::Leave { sender_id } => self.text("senderId", sender_id.as_str()),
            Frame::Request { sender_id, document, data, .. } | Frame::Sync { sender_id, document, data, .. } => {
                self.about_document(sender_id, document)?;
                self.bytes("data", data)
            }
            Frame::Ephemeral { sender_id, document, count, session_id, data, .. } => {
                self.about_document(sender_id, document)?;
                self.key("count")?;
                whole_number(&mut self.out, *count)?;
                self.text("sessionId", session_id)?;
                self.bytes("data", data)
            }
            Frame::DocUnavailable { sender_id, document, .. } => self.about_document(sender_id, document),
            Frame::Delete { sender_id, document, tombstone, is_ack, .. } => {
                self.about_document(sender_id, document)?;
                self.tombstone(tombstone, *is_ack)
            }
            Frame::RemoteSubscriptionChange { sender_id, add, remove, .. } => {
                self.text("senderId", sender_id.as_str())?;
                self.texts("add", add)?;
                self.texts("remove", remove)
            }
            Frame::RemoteHeadsChanged { sender_id, document, new_heads, .. } => {
                self.about_document(sender_id, document)?;
                self.key("newHeads")?;
                self.out.map(new_heads.len() as u64)?;
                new_heads.iter().try_for_each(|entry| remote_heads(&mut self.out, entry))
            }
        }
    }

    fn key(&mut self, name: &str) -> Written {
        self.count += 1;
        self.out.str(name)?.ok()
    }

    fn text(&mut self, name: &str, value: &str) -> Written {
        self.key(name)?;
        self.out.str(value)?.ok()
    }

    fn bytes(&mut self, name: &str, value: &[u8]) -> Written {
        self.key(name)?;
        self.out.bytes(value)?.ok()
    }

    fn texts(&mut self, name: &str, values: &[String]) -> Written {
        self.key(name)?;
        self.out.array(values.len() as u64)?;
        values.iter().try_for_each(|value| self.out.str(value)?.ok())
    }

    fn about(&mut self, sender_id: &PeerId, document_text: &str) -> Written {
        self.text("senderId", sender_id.as_str())?;
        self.text("documentId", document_text)
    }

    fn about_document(&mut self, sender_id: &PeerId, document: &DocumentId) -> Written {
        self.about(sender_id, &document.to_string())
    }

    /// What is false is left out.
    fn tombstone(&mut self, tombstone: &Tombstone, is_ack: bool) -> Written {
        self.key("time")?;
        whole_number(&mut self.out, tombstone.time_seconds)?;
        self.text("by", &tombstone.by)?;
        for (name, holds) in [("purge", tombstone.kind == DeletionKind::Purged), ("ack", is_ack)] {
            if holds {
                self.key(name)?;
                self.out.bool(true)?.ok()?;
            }
        }
        Ok(())
    }

    fn metadata(&mut self, metadata: &PeerMetadata) -> Written {
        self.key("peerMetadata")?;
        let epoch = metadata.epoch.filter(|_| metadata.rejoin > 0);
        let count = 1 + u64::from(metadata.storage_id.is_some()) + u64::from(metadata.rejoin > 0);
        self.out.map(count + u64::from(epoch.is_some()))?;
        if let Some(storage_id) = &metadata.storage_id {
            self.out.str("storageId")?.str(storage_id)?;
        }
        self.out.str("isEphemeral")?.bool(metadata.is_ephemeral)?;
        if metadata.rejoin > 0 {
            self.out.str("rejoin")?.u32(metadata.rejoin)?;
        }
        if let Some(epoch) = epoch {
            self.out.str("epoch")?.bytes(epoch.as_bytes())?;
        }
        Ok(())
    }
}

fn remote_heads(out: &mut Encoder<Vec<u8>>, entry: &RemoteHeads) -> Written {
    out.str(&entry.storage_id)?.map(2)?.str("heads")?.array(entry.heads.len() as u64)?;
    for head in &entry.heads {
        out.str(&bs58::encode(head.0).with_check().into_string())?;
    }
    // Always a float: JavaScript reads a 64-bit integer as a BigInt, which no arithmetic of its accepts.
    out.str("timestamp")?.f64(entry.timestamp_ms as f64)?.ok()
}

/// Writes a small integer as one, a larger one as a float: JavaScript reads a 64-bit integer as a BigInt.
fn whole_number(out: &mut Encoder<Vec<u8>>, number: u64) -> Written {
    match u32::try_from(number) {
        Ok(number) => out.u32(number)?.ok(),
        Err(_) => out.f64(number as f64)?.ok(),
    }
}
