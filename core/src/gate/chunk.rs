//! Chunks: the frames that Automerge keeps documents and changes in, split off a byte stream.
//!
//! `85 6f 4a 83 | checksum, 4 bytes | type | LEB128 length | body`. The checksum is the start of the SHA-256 over type,
//! length and body; of a compressed change over the uncompressed form, as if it had never been compressed.

use automerge::ChangeHash;
use flate2::{Decompress, FlushDecompress, Status};
use sha2::{Digest, Sha256};

use super::leb::{Reader, write_unsigned};
use super::{GateError, Rule};
use crate::limits::{CHANGE_BYTES_MAX, INFLATED_BYTES_MAX};

/// What every chunk starts with.
pub(crate) const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];

/// The type byte of an uncompressed change.
pub(crate) const CHANGE_TYPE: u8 = 1;

/// The first buffer an inflated body gets; it grows towards the cap only as bytes arrive.
const INFLATE_BYTES_FIRST: usize = 4 << 10;

/// The type of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkKind {
    /// A whole document, its changes interleaved.
    Document,
    /// One change.
    Change,
    /// One change, deflated.
    Compressed,
    /// Several changes, interleaved.
    Bundle,
}

impl ChunkKind {
    fn from_byte(byte: u8) -> Result<Self, GateError> {
        Ok(match byte {
            0 => Self::Document,
            1 => Self::Change,
            2 => Self::Compressed,
            3 => Self::Bundle,
            _ => return Err(Rule::ChunkType.found(byte.into(), 3)),
        })
    }
}

/// One chunk of a stream, whose checksum fits (that of a compressed change is checked when it is inflated).
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    kind: ChunkKind,
    raw: &'a [u8],
    body: &'a [u8],
    checksum: [u8; 4],
    hash: Option<ChangeHash>,
}

impl<'a> Chunk<'a> {
    /// Returns the type.
    pub fn kind(&self) -> ChunkKind {
        self.kind
    }

    /// Returns the whole chunk with its header.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Returns the bytes after the header.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Returns the SHA-256 that names the chunk; none while a compressed change is not inflated.
    pub fn hash(&self) -> Option<ChangeHash> {
        self.hash
    }

    /// Reads the chunk that the bytes start with.
    ///
    /// Cost: one SHA-256 over the chunk, unless it is compressed.
    ///
    /// # Errors
    ///
    /// `truncated`, `magic`, `chunk-type`, `integer`, `checksum`; `change-too-large` before anything is hashed.
    fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), GateError> {
        let mut reader = Reader::new(bytes);
        Rule::Magic.require(reader.array()? == MAGIC)?;
        let checksum = reader.array()?;
        let kind = ChunkKind::from_byte(reader.byte()?)?;
        let length = reader.unsigned()?;
        if matches!(kind, ChunkKind::Change | ChunkKind::Compressed) {
            Rule::ChangeTooLarge.at_most(length, CHANGE_BYTES_MAX as u64)?;
        }
        let body = reader.take(length)?;
        let (raw, rest) = bytes.split_at(bytes.len() - reader.len());
        let hash = if kind == ChunkKind::Compressed {
            None
        } else {
            // Type and length stand right before the body, in the form that is hashed.
            Some(checked_hash(&raw[MAGIC.len() + checksum.len()..], checksum)?)
        };
        Ok((Self { kind, raw, body, checksum, hash }, rest))
    }

    /// Reads exactly one chunk.
    ///
    /// # Errors
    ///
    /// As [`chunks`], and `trailing` if bytes follow.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, GateError> {
        let (chunk, rest) = Self::split(bytes)?;
        Rule::Trailing.require(rest.is_empty())?;
        Ok(chunk)
    }

    /// Makes a chunk of a body, whatever is in it.
    #[cfg(test)]
    pub(super) fn unchecked(kind: ChunkKind, body: &'a [u8]) -> Self {
        Self { kind, raw: body, body, checksum: [0; 4], hash: None }
    }

    /// Inflates a compressed change into the chunk it was before, and returns it with its hash.
    ///
    /// Never holds more than the body and its copy in the chunk, each at most [`INFLATED_BYTES_MAX`], whatever the
    /// bytes claim.
    pub(crate) fn inflate(&self) -> Result<(Vec<u8>, ChangeHash), GateError> {
        let body = inflate(self.body)?;
        frame(&body, Some(self.checksum))
    }
}

/// Splits a byte stream into its chunks.
///
/// After the first error nothing more comes: where the next chunk starts is not known. Cost: one SHA-256 over the bytes.
pub fn chunks(bytes: &[u8]) -> Chunks<'_> {
    Chunks { rest: bytes }
}

/// The chunks of a byte stream, made by [`chunks`].
#[derive(Debug, Clone)]
pub struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<Chunk<'a>, GateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let split = Chunk::split(std::mem::take(&mut self.rest));
        Some(split.map(|(chunk, rest)| {
            self.rest = rest;
            chunk
        }))
    }
}

impl std::iter::FusedIterator for Chunks<'_> {}

/// Puts a change's body into a chunk and names it. With a checksum given, it must fit.
pub(crate) fn frame(body: &[u8], checksum: Option<[u8; 4]>) -> Result<(Vec<u8>, ChangeHash), GateError> {
    let mut chunk = Vec::with_capacity(MAGIC.len() + 4 + 1 + 10 + body.len());
    chunk.extend_from_slice(&MAGIC);
    chunk.extend_from_slice(&[0; 4]);
    chunk.push(CHANGE_TYPE);
    write_unsigned(&mut chunk, body.len() as u64);
    chunk.extend_from_slice(body);
    let hash = sha256(&chunk[8..]);
    let found = [hash.0[0], hash.0[1], hash.0[2], hash.0[3]];
    Rule::Checksum.require(checksum.is_none_or(|expected| expected == found))?;
    chunk[4..8].copy_from_slice(&found);
    Ok((chunk, hash))
}

/// Inflates raw deflate data into at most [`INFLATED_BYTES_MAX`] bytes.
fn inflate(data: &[u8]) -> Result<Vec<u8>, GateError> {
    let mut inflater = Decompress::new(false);
    let mut body = Vec::with_capacity(INFLATE_BYTES_FIRST.min(INFLATED_BYTES_MAX));
    loop {
        let consumed = usize::try_from(inflater.total_in()).map_err(|_| Rule::Inflate.error())?;
        let input = data.get(consumed..).unwrap_or(&[]);
        let before = (inflater.total_in(), inflater.total_out());
        let status =
            inflater.decompress_vec(input, &mut body, FlushDecompress::None).map_err(|_| Rule::Inflate.error())?;
        if status == Status::StreamEnd {
            Rule::Inflate.require(inflater.total_in() == data.len() as u64)?;
            return Ok(body);
        }
        if body.len() == body.capacity() {
            if body.len() >= INFLATED_BYTES_MAX {
                return Err(Rule::InflateTooLarge.found(body.len() as u64, INFLATED_BYTES_MAX as u64));
            }
            body.reserve_exact(body.len().min(INFLATED_BYTES_MAX - body.len()));
        } else if before == (inflater.total_in(), inflater.total_out()) {
            // Room is left and nothing moves: the data ends before the stream does.
            return Err(Rule::Inflate.error());
        }
    }
}

/// Hashes a chunk's type, length and body and compares the start with its checksum.
fn checked_hash(hashed: &[u8], checksum: [u8; 4]) -> Result<ChangeHash, GateError> {
    let hash = sha256(hashed);
    Rule::Checksum.require(hash.0.starts_with(&checksum))?;
    Ok(hash)
}

pub(crate) fn sha256(bytes: &[u8]) -> ChangeHash {
    ChangeHash(Sha256::digest(bytes).into())
}
