//! The fields of a frame, gathered in one pass before its type decides which are used.

use super::{Bytes, DecodeError, Decoder, GOSSIP_ENTRIES_MAX, PEER_ID_BYTES_MAX, PeerId, PeerMetadata, Type};

/// What a frame held. Unknown keys were skipped; of a key that came twice the last one counts.
#[derive(Default)]
pub(super) struct Fields<'f> {
    texts: [Option<&'f str>; TEXT_KEYS.len()],
    data: Option<Bytes>,
    pub(super) count: Option<u64>,
    pub(super) metadata: PeerMetadata,
    pub(super) versions: Option<Vec<String>>,
    pub(super) add: Vec<String>,
    pub(super) remove: Vec<String>,
}

/// The keys whose value is a text.
const TEXT_KEYS: [&str; 7] =
    ["type", "senderId", "targetId", "documentId", "sessionId", "message", "selectedProtocolVersion"];

impl<'f> Fields<'f> {
    /// Reads a frame's map.
    pub(super) fn read(frame: &'f Bytes) -> Result<Self, DecodeError> {
        let mut fields = Self::default();
        let mut decoder = Decoder::new(frame);
        each_entry(&mut decoder, |decoder, key| {
            if is_absent(decoder)? {
                return Ok(());
            }
            match key {
                "data" => fields.data = Some(frame.slice_ref(byte_string(decoder)?)),
                "count" => fields.count = Some(number(decoder)?),
                "peerMetadata" => fields.metadata = read_metadata(decoder)?,
                "supportedProtocolVersions" => fields.versions = Some(read_texts(decoder)?),
                "add" => fields.add = read_texts(decoder)?,
                "remove" => fields.remove = read_texts(decoder)?,
                _ => match TEXT_KEYS.iter().position(|known| *known == key) {
                    Some(index) => fields.texts[index] = Some(decoder.str()?),
                    None => decoder.skip()?,
                },
            }
            Ok(())
        })?;
        Ok(fields)
    }

    /// Returns a text field.
    pub(super) fn text(&self, key: &'static str) -> Result<&'f str, DecodeError> {
        let index = TEXT_KEYS.iter().position(|known| *known == key);
        index.and_then(|index| self.texts[index]).ok_or(DecodeError::Missing(key))
    }

    /// Returns a text field of at most `max` bytes.
    pub(super) fn bounded_text(&self, key: &'static str, max: usize) -> Result<&'f str, DecodeError> {
        let text = self.text(key)?;
        if text.len() > max { Err(DecodeError::TooLong { field: key, max }) } else { Ok(text) }
    }

    /// Returns a peer id.
    pub(super) fn peer(&self, key: &'static str) -> Result<PeerId, DecodeError> {
        let text = self.bounded_text(key, PEER_ID_BYTES_MAX)?;
        PeerId::new(text).map_err(|_| DecodeError::TooLong { field: key, max: PEER_ID_BYTES_MAX })
    }

    /// Returns the data, which both known implementations never leave empty.
    pub(super) fn data(&self, max: usize) -> Result<Bytes, DecodeError> {
        let data = self.data.clone().filter(|data| !data.is_empty()).ok_or(DecodeError::Missing("data"))?;
        if data.len() > max { Err(DecodeError::TooLong { field: "data", max }) } else { Ok(data) }
    }
}

/// Walks a map, of known length or not; keys must be texts.
fn each_entry<'f>(
    decoder: &mut Decoder<'f>,
    mut visit: impl FnMut(&mut Decoder<'f>, &'f str) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut left = decoder.map()?;
    loop {
        match &mut left {
            Some(0) => return Ok(()),
            Some(left) => *left -= 1,
            None if decoder.datatype()? == Type::Break => {
                decoder.skip()?;
                return Ok(());
            }
            None => {}
        }
        let key = decoder.str()?;
        visit(decoder, key)?;
    }
}

/// Skips `undefined` and `null`, which stand for a field that is not there.
fn is_absent(decoder: &mut Decoder<'_>) -> Result<bool, DecodeError> {
    let absent = matches!(decoder.datatype()?, Type::Undefined | Type::Null);
    if absent {
        decoder.skip()?;
    }
    Ok(absent)
}

/// Reads bytes, with or without the tag that marks a typed array.
fn byte_string<'f>(decoder: &mut Decoder<'f>) -> Result<&'f [u8], DecodeError> {
    if decoder.datatype()? == Type::Tag {
        decoder.tag()?;
    }
    Ok(decoder.bytes()?)
}

/// Reads a count: an integer, or the float that JavaScript makes of a large one.
fn number(decoder: &mut Decoder<'_>) -> Result<u64, DecodeError> {
    match decoder.datatype()? {
        Type::F32 | Type::F64 => {
            let float = decoder.f64()?;
            // The largest integer below which a float is exact.
            if (0.0..=9_007_199_254_740_991.0).contains(&float) {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the range was checked on the line above"
                )]
                return Ok(float as u64);
            }
            Err(DecodeError::Malformed("a count is no whole number".to_owned()))
        }
        _ => Ok(decoder.u64()?),
    }
}

fn read_metadata(decoder: &mut Decoder<'_>) -> Result<PeerMetadata, DecodeError> {
    let mut metadata = PeerMetadata::default();
    each_entry(decoder, |decoder, key| {
        if is_absent(decoder)? {
            return Ok(());
        }
        match key {
            "storageId" => {
                let text = decoder.str()?;
                if text.len() > PEER_ID_BYTES_MAX {
                    return Err(DecodeError::TooLong { field: "storageId", max: PEER_ID_BYTES_MAX });
                }
                metadata.storage_id = Some(text.to_owned());
            }
            "isEphemeral" => metadata.is_ephemeral = decoder.bool()?,
            _ => decoder.skip()?,
        }
        Ok(())
    })?;
    Ok(metadata)
}

fn read_texts(decoder: &mut Decoder<'_>) -> Result<Vec<String>, DecodeError> {
    let mut texts = Vec::new();
    let mut left = decoder.array()?;
    loop {
        match &mut left {
            Some(0) => return Ok(texts),
            Some(left) => *left -= 1,
            None if decoder.datatype()? == Type::Break => {
                decoder.skip()?;
                return Ok(texts);
            }
            None => {}
        }
        if texts.len() >= GOSSIP_ENTRIES_MAX {
            return Err(DecodeError::TooLong { field: "list", max: GOSSIP_ENTRIES_MAX });
        }
        let text = decoder.str()?;
        if text.len() > PEER_ID_BYTES_MAX {
            return Err(DecodeError::TooLong { field: "list", max: PEER_ID_BYTES_MAX });
        }
        texts.push(text.to_owned());
    }
}
