//! The Automerge sync message: what a peer has, what it lacks, and changes for the other side.
//!
//! One byte of version, then `heads`, `need`, `have` and `changes`, each a counted list, then optional flags. Lists are
//! bounded before they are read; changes stay slices of the frame they came in and are not looked into.

use automerge::ChangeHash;
use bytes::Bytes;

use super::Fault;
use super::bloom::{Bloom, ParseBloomError};
use super::leb::{Cursor, ReadError, push_length};
use crate::limits::{FRAME_BYTES_MAX, SYNC_CHANGES_MAX, SYNC_HASHES_MAX, SYNC_HAVES_MAX};

/// The shortest chunk: 4 bytes of magic, 4 of checksum, its type and a length.
const CHUNK_BYTES_MIN: usize = 10;

/// One sync message about one document.
///
/// Hash lists are kept sorted and without duplicates: Automerge compares them as lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SyncMessage {
    /// How `changes` are cut.
    pub version: Version,
    /// The sender's heads.
    pub heads: Vec<ChangeHash>,
    /// What the sender asks for by name.
    pub need: Vec<ChangeHash>,
    /// What the sender has. Empty means that it did not say; a default [`Have`] means that it has nothing to show.
    pub have: Vec<Have>,
    /// Changes for the receiver, never empty slices.
    pub changes: Vec<Bytes>,
    /// What the sender can do. Their presence alone says that it reads [`Version::V2`].
    pub flags: Option<Flags>,
}

/// How the changes of a message are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Version {
    /// `0x42`: each entry holds one change chunk.
    #[default]
    V1,
    /// `0x43`: an entry holds any chunks one after the other, whole documents too.
    V2,
}

/// What the sender has: everything up to `last_sync`, and probably what `bloom` holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Have {
    /// The heads that both sides had when they last agreed.
    pub last_sync: Vec<ChangeHash>,
    /// The changes since then.
    pub bloom: Bloom,
}

/// Signals and abilities that Automerge 0.11 and later add to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags {
    bits: u8,
}

impl Flags {
    /// Asks the receiver to forget what it has sent and to begin afresh.
    pub const SYNC_RESET: Self = Self { bits: 1 };
    /// Says that the sender will not apply changes.
    pub const READ_ONLY: Self = Self { bits: 2 };
    /// Says that the sender understands [`Flags::SYNC_RESET`].
    pub const SUPPORTS_SYNC_RESET: Self = Self { bits: 4 };

    /// Marks the byte that holds the bits.
    const MARKER: u8 = 0x80;
    /// What came before the bits, sent first so that older peers understand.
    const LEGACY_V2: u8 = 0x02;

    /// Returns these flags and the others.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self { bits: self.bits | other.bits }
    }

    /// Tells whether all of the other flags are set.
    pub const fn contains(self, other: Self) -> bool {
        self.bits & other.bits == other.bits
    }

    fn parse(bytes: &[u8]) -> Self {
        let marked = bytes.iter().filter(|&&byte| byte & Self::MARKER != 0);
        Self { bits: marked.fold(0, |bits, byte| bits | (byte & !Self::MARKER)) }
    }
}

impl SyncMessage {
    /// Reads a message. Changes are slices of `bytes`, so they keep it alive.
    ///
    /// Hash lists may come unsorted and with duplicates, empty change entries are dropped, flags may be missing, and
    /// bytes after the flags are ignored, as Automerge does. Costs one pass; allocates at most 4 times the input.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] names the place, or the limit.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(DecodeError::TooMany { what: "bytes", found: bytes.len() as u64, limit: FRAME_BYTES_MAX });
        }
        let mut reader = Reader { cursor: Cursor::new(bytes) };
        let version = match reader.read(Cursor::byte)? {
            0x42 => Version::V1,
            0x43 => Version::V2,
            found => return Err(DecodeError::WrongType { found }),
        };
        let heads = reader.hashes("heads")?;
        let need = reader.hashes("need")?;
        let have = reader.haves()?;
        let changes = reader.changes(bytes)?;
        let flags = match reader.cursor.remaining() {
            0 => None,
            _ => Some(Flags::parse(reader.slice()?)),
        };
        Ok(Self { version, heads, need, have, changes, flags })
    }

    /// Returns the wire form. Without flags it has no flags section, and JavaScript peers then answer in
    /// [`Version::V1`] with single changes.
    ///
    /// Costs one allocation and one copy of the changes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_bytes_max());
        out.push(match self.version {
            Version::V1 => 0x42,
            Version::V2 => 0x43,
        });
        push_hashes(&mut out, &self.heads);
        push_hashes(&mut out, &self.need);
        push_length(&mut out, self.have.len());
        for have in &self.have {
            push_hashes(&mut out, &have.last_sync);
            let bloom = have.bloom.to_bytes();
            push_length(&mut out, bloom.len());
            out.extend_from_slice(&bloom);
        }
        push_length(&mut out, self.changes.len());
        for change in &self.changes {
            push_length(&mut out, change.len());
            out.extend_from_slice(change);
        }
        if let Some(flags) = self.flags {
            out.extend_from_slice(&[2, Flags::LEGACY_V2, Flags::MARKER | flags.bits]);
        }
        out
    }

    /// Bounds the wire form's length from above; every length takes at most 10 bytes.
    fn encoded_bytes_max(&self) -> usize {
        let haves = self.have.iter().map(|have| 35 + 32 * have.last_sync.len() + 2 * have.bloom.entries() as usize);
        let changes = self.changes.iter().map(|change| 10 + change.len());
        64 + 32 * (self.heads.len() + self.need.len()) + haves.sum::<usize>() + changes.sum::<usize>()
    }
}

/// Why bytes are no sync message that we take. Always the peer's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The first byte names no version we know.
    #[error("a sync message starts with 0x42 or 0x43, this one with {found:#04x}")]
    WrongType {
        /// The first byte.
        found: u8,
    },
    /// The message ends before its lists do. Also what an empty message is.
    #[error("a sync message is cut off at byte {at}")]
    Truncated {
        /// Where the missing value would start.
        at: usize,
    },
    /// A length that is no minimal LEB128 number of 64 bits.
    #[error("a sync message has no valid number at byte {at}")]
    Number {
        /// Where it starts.
        at: usize,
    },
    /// A list is longer than we take.
    #[error("a sync message has {found} {what}, the limit is {limit}")]
    TooMany {
        /// Which list.
        what: &'static str,
        /// How long it says it is.
        found: u64,
        /// The most we take.
        limit: usize,
    },
    /// A change entry too short to be a chunk.
    #[error("a change in a sync message has {found} bytes, a chunk has at least {CHUNK_BYTES_MIN}")]
    ShortChange {
        /// How many bytes it has.
        found: usize,
    },
    /// The Bloom filter is damaged or its parameters are out of bounds.
    #[error(transparent)]
    Bloom(#[from] ParseBloomError),
}

impl DecodeError {
    /// Returns the stable name of the error, for logs and for the peer.
    pub fn code(&self) -> &'static str {
        match self {
            Self::WrongType { .. } => "sync-version",
            Self::Truncated { .. } | Self::Number { .. } | Self::ShortChange { .. } => "sync-malformed",
            Self::TooMany { .. } => "sync-limit",
            Self::Bloom(_) => "sync-bloom",
        }
    }

    /// Says which side has to change.
    pub fn fault(&self) -> Fault {
        match self {
            Self::WrongType { .. } => Fault::Incompatible,
            _ => Fault::Misbehaved,
        }
    }
}

/// Reads the lists of a message and turns what goes wrong into a place.
struct Reader<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Reader<'a> {
    fn read<T>(&mut self, step: impl FnOnce(&mut Cursor<'a>) -> Result<T, ReadError>) -> Result<T, DecodeError> {
        let at = self.cursor.position();
        step(&mut self.cursor).map_err(|error| match error {
            ReadError::Truncated => DecodeError::Truncated { at },
            ReadError::Number => DecodeError::Number { at },
        })
    }

    /// Reads how long a list is, if that is within its limit and its least bytes are there.
    fn count(&mut self, what: &'static str, limit: usize, bytes_each: usize) -> Result<usize, DecodeError> {
        let at = self.cursor.position();
        let found = self.read(Cursor::number)?;
        let count = usize::try_from(found).unwrap_or(usize::MAX);
        if count > limit {
            return Err(DecodeError::TooMany { what, found, limit });
        }
        // So that a length alone never makes us allocate: 32 bytes claimed are 32 bytes sent.
        if count.saturating_mul(bytes_each) > self.cursor.remaining() {
            return Err(DecodeError::Truncated { at });
        }
        Ok(count)
    }

    fn slice(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.read(Cursor::number)?;
        self.read(|cursor| cursor.take(length))
    }

    fn hashes(&mut self, what: &'static str) -> Result<Vec<ChangeHash>, DecodeError> {
        let count = self.count(what, SYNC_HASHES_MAX, 32)?;
        let mut hashes = (0..count).map(|_| self.read(Cursor::hash)).collect::<Result<Vec<_>, _>>()?;
        hashes.sort_unstable();
        hashes.dedup();
        Ok(hashes)
    }

    fn haves(&mut self) -> Result<Vec<Have>, DecodeError> {
        let count = self.count("have entries", SYNC_HAVES_MAX, 2)?;
        let mut haves = Vec::with_capacity(count);
        for _ in 0..count {
            let last_sync = self.hashes("last sync hashes")?;
            let bloom = Bloom::parse(self.slice()?)?;
            haves.push(Have { last_sync, bloom });
        }
        Ok(haves)
    }

    fn changes(&mut self, whole: &Bytes) -> Result<Vec<Bytes>, DecodeError> {
        let count = self.count("changes", SYNC_CHANGES_MAX, 1)?;
        let mut changes = Vec::with_capacity(count.min(self.cursor.remaining() / CHUNK_BYTES_MIN));
        for _ in 0..count {
            let change = self.slice()?;
            match change.len() {
                0 => {}
                found if found < CHUNK_BYTES_MIN => return Err(DecodeError::ShortChange { found }),
                _ => changes.push(whole.slice_ref(change)),
            }
        }
        Ok(changes)
    }
}

/// Appends a hash list, sorted: the receiver compares it with its own as a list.
fn push_hashes(out: &mut Vec<u8>, hashes: &[ChangeHash]) {
    push_length(out, hashes.len());
    if hashes.is_sorted() {
        hashes.iter().for_each(|hash| out.extend_from_slice(&hash.0));
    } else {
        let mut sorted = hashes.to_vec();
        sorted.sort_unstable();
        sorted.iter().for_each(|hash| out.extend_from_slice(&hash.0));
    }
}

#[cfg(test)]
mod tests;
