//! Fields that messages of both directions have.

use super::wire::{Reader, Writer, at_most};
use super::{About, Code, DecodeError, DocumentHeads, ErrorMessage, Presence, cut, kind};
use crate::id::{PeerId, SpaceId};
use crate::limits::{
    CREDIT_BYTES_MAX, DOCUMENT_LIST_MAX, PEER_ERROR_BYTES_MAX, PEER_ID_BYTES_MAX, PRESENCE_BYTES_MAX,
    PRESENCE_KEY_BYTES_MAX, PRESENCE_TTL_MS_MAX, PRESENCE_VALUES_MAX,
};

/// The least bytes of a presence value: an empty author, document, key and data, a sequence and a time.
const PRESENCE_BYTES_MIN: usize = 1 + 16 + 1 + 1 + 1 + 1;

impl Reader<'_> {
    pub(super) fn peer(&mut self, field: &'static str) -> Result<PeerId, DecodeError> {
        let text = self.text(field, PEER_ID_BYTES_MAX)?;
        PeerId::new(text).map_err(|_| DecodeError::Invalid { field, expected: "a peer id" })
    }

    pub(super) fn credit(&mut self) -> Result<u64, DecodeError> {
        self.number_up_to("credit", CREDIT_BYTES_MAX)
    }

    pub(super) fn document_heads(&mut self) -> Result<Vec<DocumentHeads>, DecodeError> {
        self.list("documents", DOCUMENT_LIST_MAX, 17, |reader| {
            Ok(DocumentHeads { document: reader.document()?, heads: reader.heads()? })
        })
    }

    pub(super) fn presence(&mut self) -> Result<(SpaceId, Vec<Presence>), DecodeError> {
        let space = self.space()?;
        let mut bytes = 0u64;
        let values = self.list("presence values", PRESENCE_VALUES_MAX, PRESENCE_BYTES_MIN, |reader| {
            let value = Presence {
                author: reader.peer("author")?,
                document: reader.document()?,
                key: reader.text("presence key", PRESENCE_KEY_BYTES_MAX)?,
                sequence: reader.number("sequence")?,
                ttl_ms: reader.number_up_to("time to live", PRESENCE_TTL_MS_MAX)?,
                data: reader.bytes("presence data", PRESENCE_BYTES_MAX)?,
            };
            bytes += value.data.len() as u64;
            at_most("presence data", bytes, PRESENCE_BYTES_MAX as u64)?;
            Ok(value)
        })?;
        Ok((space, not_empty("presence values", values)?))
    }

    /// Reads an error. A later version may say more behind it, and says it before a version is agreed on.
    pub(super) fn error(&mut self) -> Result<ErrorMessage, DecodeError> {
        let number = self.number_up_to("code", u16::MAX.into())?;
        let code = Code::from_number(u16::try_from(number).unwrap_or(u16::MAX));
        let text = self.text("error text", PEER_ERROR_BYTES_MAX)?;
        let is_fatal = self.flag("fatal")?;
        let about = match self.byte("about")? {
            0 => About::Connection,
            1 => About::Space(self.space()?),
            2 => About::Document(self.space()?, self.document()?),
            3 => About::Batch(self.number("batch")?),
            // What a later version speaks of we take for the whole.
            _ => About::Connection,
        };
        Ok(ErrorMessage { code, text, is_fatal, about })
    }
}

impl Writer {
    pub(super) fn document_heads(&mut self, documents: &[DocumentHeads]) -> &mut Self {
        self.list(documents, |writer, one| {
            writer.document(&one.document).heads(&one.heads);
        })
    }
}

/// Refuses a list without items.
pub(super) fn not_empty<T>(field: &'static str, items: Vec<T>) -> Result<Vec<T>, DecodeError> {
    if items.is_empty() { Err(DecodeError::Invalid { field, expected: "one or more" }) } else { Ok(items) }
}

/// Bounds the length of a list of documents and heads, as a capacity.
pub(super) fn wire_bytes(documents: &[DocumentHeads]) -> usize {
    documents.iter().map(DocumentHeads::wire_bytes).sum::<usize>() + 64
}

pub(super) fn write_credit(bytes: u64) -> Writer {
    let mut writer = Writer::new(kind::CREDIT, 16);
    writer.number(bytes);
    writer
}

pub(super) fn write_presence(space: &SpaceId, values: &[Presence]) -> Writer {
    let bytes = values.iter().map(|value| 64 + value.author.as_str().len() + value.key.len() + value.data.len());
    let mut writer = Writer::new(kind::PRESENCE, 32 + bytes.sum::<usize>());
    writer.space(space).list(values, |writer, value| {
        writer.text(value.author.as_str()).document(&value.document).text(&value.key);
        writer.number(value.sequence).number(value.ttl_ms).bytes(&value.data);
    });
    writer
}

pub(super) fn write_error(error: &ErrorMessage) -> Writer {
    let mut text = error.text.clone();
    cut(&mut text, PEER_ERROR_BYTES_MAX);
    let mut writer = Writer::new(kind::ERROR, 64 + text.len());
    writer.number(error.code.number().into()).text(&text).flag(error.is_fatal);
    match &error.about {
        About::Connection => writer.byte(0),
        About::Space(space) => writer.byte(1).space(space),
        About::Document(space, document) => writer.byte(2).space(space).document(document),
        About::Batch(batch) => writer.byte(3).number(*batch),
    };
    writer
}
