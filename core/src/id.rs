//! The ids: newtypes, so that a document can never be taken for a peer, and one text form for each.
//!
//! Change hashes and actors are Automerge's own types, re-exported at the crate root: they mean the same thing here.

use std::fmt;
use std::str::FromStr;

use automerge::ActorId;
use uuid::Uuid;

use crate::limits::PEER_ID_BYTES_MAX;

mod label;

pub use label::Label;

/// The scheme of a document URL, as automerge-repo writes it.
const URL_SCHEME: &str = "automerge:";

/// Names a document: 16 bytes, normally a UUIDv4.
///
/// Shown in base58 with a checksum (bs58check), the form automerge-repo uses in its URLs.
///
/// ```
/// use rejoin::DocumentId;
///
/// let id = DocumentId::from_bytes([7; 16]);
/// assert_eq!(id.to_string().parse::<DocumentId>()?, id);
/// assert_eq!(id.to_url().parse::<DocumentId>()?, id);
/// # Ok::<(), rejoin::id::ParseIdError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentId([u8; 16]);

impl DocumentId {
    /// Takes 16 bytes as a document id. The caller brings the randomness: pass a UUIDv4's bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Returns the document's URL, `automerge:<id>`.
    pub fn to_url(&self) -> String {
        format!("{URL_SCHEME}{self}")
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.0).with_check().into_string())
    }
}

impl fmt::Debug for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DocumentId({self})")
    }
}

impl FromStr for DocumentId {
    type Err = ParseIdError;

    /// Reads a document id: bs58check of 16 bytes, with or without `automerge:` before it, or a hyphenated UUID.
    ///
    /// # Errors
    ///
    /// [`ParseIdError`] says which of alphabet, checksum or length was wrong.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_bytes(text.strip_prefix(URL_SCHEME).unwrap_or(text)).map(Self)
    }
}

/// Names a space: a set of documents that are synced and granted together. 16 bytes, normally a UUIDv4.
///
/// Shown as a [`DocumentId`] is, without a URL.
///
/// ```
/// use rejoin::SpaceId;
///
/// let id = SpaceId::from_bytes([7; 16]);
/// assert_eq!(id.to_string().parse::<SpaceId>()?, id);
/// # Ok::<(), rejoin::id::ParseIdError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId([u8; 16]);

impl SpaceId {
    /// The space of every document that was put into no other one, and so of all that classic clients make: 16 zeros.
    pub const DEFAULT: Self = Self([0; 16]);

    /// Makes a space id of 16 random bytes: a UUIDv4.
    pub fn from_random_bytes(bytes: [u8; 16]) -> Self {
        Self(*uuid::Builder::from_random_bytes(bytes).into_uuid().as_bytes())
    }

    /// Takes 16 bytes as a space id.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.0).with_check().into_string())
    }
}

impl fmt::Debug for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpaceId({self})")
    }
}

impl FromStr for SpaceId {
    type Err = ParseIdError;

    /// Reads a space id: bs58check of 16 bytes, or a hyphenated UUID.
    ///
    /// # Errors
    ///
    /// [`ParseIdError`] says which of alphabet, checksum or length was wrong.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_bytes(text).map(Self)
    }
}

/// Reads 16 bytes: bs58check, or a hyphenated UUID.
fn parse_bytes(text: &str) -> Result<[u8; 16], ParseIdError> {
    if text.len() > 64 {
        return Err(ParseIdError::Length { found: text.len() });
    }
    if text.len() == 36
        && let Ok(uuid) = Uuid::parse_str(text)
    {
        return Ok(*uuid.as_bytes());
    }
    let bytes = bs58::decode(text).with_check(None).into_vec().map_err(|error| match error {
        bs58::decode::Error::InvalidChecksum { .. } => ParseIdError::Checksum,
        _ => ParseIdError::Alphabet,
    })?;
    let found = bytes.len();
    bytes.try_into().map_err(|_| ParseIdError::Length { found })
}

/// Names one life of a relay's log: 16 random bytes, new whenever the log may have lost entries that were told.
///
/// A position means something only together with the epoch it was given in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch([u8; 16]);

impl Epoch {
    /// Takes 16 random bytes as an epoch.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Epoch {
    /// Writes 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a text is no id of a document or space.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseIdError {
    /// A character outside the base58 alphabet, or too short to hold a checksum.
    #[error(
        "not base58 text: an id looks like 4NMNnkMhL8jXrdJ9jamS58PAVdXu, a document's URL has automerge: before it"
    )]
    Alphabet,
    /// The checksum does not fit: a character was lost or changed.
    #[error("wrong checksum: a character was lost or mistyped; copy the id again")]
    Checksum,
    /// Not 16 bytes.
    #[error("an id holds 16 bytes, this one holds {found}")]
    Length {
        /// How many bytes, or characters when the text was too long to decode at all.
        found: usize,
    },
}

/// Names one operation of a document: its Lamport counter and the actor that made it.
///
/// Ordered by counter, then by the actor's bytes. That order decides which of several concurrent values wins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId {
    /// The Lamport counter, 1 or more.
    pub counter: u64,
    /// Who made it.
    pub actor: ActorId,
}

impl fmt::Display for OpId {
    /// Writes `counter@actor`, Automerge's own text form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.counter, self.actor)
    }
}

/// Names a peer on a connection: an opaque text that the peer chose for itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(String);

impl PeerId {
    /// Takes a text as a peer id.
    ///
    /// # Errors
    ///
    /// [`PeerIdTooLong`] above [`PEER_ID_BYTES_MAX`] bytes: it comes from the network and is kept per connection.
    pub fn new(text: impl Into<String>) -> Result<Self, PeerIdTooLong> {
        let text = text.into();
        if text.len() > PEER_ID_BYTES_MAX {
            return Err(PeerIdTooLong { found: text.len() });
        }
        Ok(Self(text))
    }

    /// Makes a peer id out of random bytes.
    pub fn random(bytes: [u8; 8]) -> Self {
        Self(format!("peer-{}", bs58::encode(bytes).into_string()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A peer id above its bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a peer id has at most {PEER_ID_BYTES_MAX} bytes, this one has {found}")]
pub struct PeerIdTooLong {
    /// How many bytes it had.
    pub found: usize,
}

/// Names a store, so that the other side can resume where it and this store last agreed: a UUIDv4 in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorageId(Uuid);

impl StorageId {
    /// Takes 16 random bytes as a storage id.
    pub fn from_random_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// Takes the bytes of a storage id as they are, read back from a store.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Returns the 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for StorageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.hyphenated())
    }
}

impl FromStr for StorageId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_url_reads_as_its_uuid() {
        let id: DocumentId = "automerge:4NMNnkMhL8jXrdJ9jamS58PAVdXu".parse().expect("the documentation's own example");
        assert_eq!(id.to_string(), "4NMNnkMhL8jXrdJ9jamS58PAVdXu");
        let uuid = Uuid::from_bytes(*id.as_bytes()).hyphenated().to_string();
        assert_eq!(uuid.parse::<DocumentId>(), Ok(id));
    }

    #[test]
    fn damaged_ids_say_what_is_wrong() {
        assert_eq!("4NMNnkMhL8jXrdJ9jamS58PAVdXv".parse::<DocumentId>(), Err(ParseIdError::Checksum));
        assert_eq!("0OIl".parse::<DocumentId>(), Err(ParseIdError::Alphabet));
        let nine = bs58::encode([1u8; 9]).with_check().into_string();
        assert_eq!(nine.parse::<DocumentId>(), Err(ParseIdError::Length { found: 9 }));
        assert_eq!("1".repeat(65).parse::<DocumentId>(), Err(ParseIdError::Length { found: 65 }));
    }

    #[test]
    fn space_ids_read_as_they_are_shown() {
        for space in [SpaceId::DEFAULT, SpaceId::from_bytes([0xfe; 16])] {
            assert_eq!(space.to_string().parse::<SpaceId>(), Ok(space));
        }
        let uuid = "00000000-0000-0000-0000-000000000000";
        assert_eq!(uuid.parse::<SpaceId>(), Ok(SpaceId::DEFAULT));
        assert_eq!("0OIl".parse::<SpaceId>(), Err(ParseIdError::Alphabet));
    }

    #[test]
    fn peer_ids_are_bounded() {
        assert!(PeerId::new("x".repeat(PEER_ID_BYTES_MAX)).is_ok());
        assert!(PeerId::new("x".repeat(PEER_ID_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn op_ids_order_by_counter_then_actor() {
        let op = |counter, actor: &[u8]| OpId { counter, actor: ActorId::from(actor) };
        assert!(op(2, b"a") > op(1, b"b"));
        assert!(op(1, b"b") > op(1, b"a"));
    }
}
