//! Automerge's sync message: heads, what is needed, what is there, and changes.

use automerge::ChangeHash;
use bytes::Bytes;

use super::bloom::Bloom;
use crate::gate::leb::{Reader, write_unsigned};
use crate::gate::{GateError, Rule};
use crate::limits::{SYNC_CHANGES_MAX, SYNC_HASHES_MAX, SYNC_HAVES_MAX};

const TYPE_V1: u8 = 0x42;
const TYPE_V2: u8 = 0x43;
/// The byte that says "I read version 2", before the flags proper.
const FLAGS_V2: u8 = 0x02;
/// Marks a byte of the flags section as a bit field.
const FLAGS_FIELD: u8 = 0x80;
const FLAG_RESET: u8 = 1;
const FLAG_READ_ONLY: u8 = 1 << 1;
const FLAG_SUPPORTS_RESET: u8 = 1 << 2;

/// How the changes are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageVersion {
    /// One change chunk an entry.
    V1,
    /// One entry: chunks one after another, a whole document among them perhaps.
    V2,
}

/// A summary of what the sender has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Have {
    /// Heads that both sides are known to have.
    pub last_sync: Vec<ChangeHash>,
    /// The changes that the sender has beyond them.
    pub bloom: Bloom,
}

/// What a sender says of itself at the end of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncFlags {
    /// Forget what you sent me: I did not take it.
    pub reset: bool,
    /// I send changes and take none.
    pub read_only: bool,
    /// I understand `reset`.
    pub supports_reset: bool,
}

/// One sync message about one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncMessage {
    /// How the changes are carried.
    pub version: MessageVersion,
    /// The sender's heads, sorted.
    pub heads: Vec<ChangeHash>,
    /// Changes the sender asks for by name, sorted.
    pub need: Vec<ChangeHash>,
    /// What the sender has; none when it asks by name.
    pub have: Vec<Have>,
    /// Changes for the receiver.
    pub changes: Vec<Bytes>,
    /// The flags, if the sender knows of any. A sender that sends them reads version 2.
    pub flags: Option<SyncFlags>,
}

impl SyncMessage {
    /// Reads a message. The changes are slices of `message`, not copies.
    ///
    /// # Errors
    ///
    /// [`GateError`] if it is truncated or a list is longer than its limit.
    pub fn decode(message: &Bytes) -> Result<Self, GateError> {
        let mut reader = Reader::new(message);
        let version = match reader.byte()? {
            TYPE_V1 => MessageVersion::V1,
            TYPE_V2 => MessageVersion::V2,
            _ => return Err(Rule::MessageType.error()),
        };
        let heads = read_hashes(&mut reader)?;
        let need = read_hashes(&mut reader)?;
        let count = reader.unsigned()?;
        Rule::TooManyHaves.at_most(count, SYNC_HAVES_MAX as u64)?;
        let mut have = Vec::new();
        for _ in 0..count {
            let last_sync = read_hashes(&mut reader)?;
            have.push(Have { last_sync, bloom: Bloom::parse(reader.prefixed()?)? });
        }
        let count = reader.unsigned()?;
        Rule::TooManyChanges.at_most(count, SYNC_CHANGES_MAX as u64)?;
        let mut changes = Vec::new();
        for _ in 0..count {
            changes.push(message.slice_ref(reader.prefixed()?));
        }
        let flags = if reader.is_empty() { None } else { Some(SyncFlags::read(reader.prefixed()?)) };
        Ok(Self { version, heads, need, have, changes, flags })
    }

    /// Writes the message.
    pub fn encode(&self) -> Vec<u8> {
        let changes: usize = self.changes.iter().map(|change| change.len() + 5).sum();
        let mut out = Vec::with_capacity(64 + 32 * (self.heads.len() + self.need.len()) + changes);
        out.push(match self.version {
            MessageVersion::V1 => TYPE_V1,
            MessageVersion::V2 => TYPE_V2,
        });
        write_hashes(&mut out, &self.heads);
        write_hashes(&mut out, &self.need);
        write_unsigned(&mut out, self.have.len() as u64);
        for have in &self.have {
            write_hashes(&mut out, &have.last_sync);
            write_prefixed(&mut out, &have.bloom.to_bytes());
        }
        write_unsigned(&mut out, self.changes.len() as u64);
        for change in &self.changes {
            write_prefixed(&mut out, change);
        }
        if let Some(flags) = self.flags {
            write_prefixed(&mut out, &[FLAGS_V2, FLAGS_FIELD | flags.bits()]);
        }
        out
    }
}

impl SyncFlags {
    /// Reads the section as it has grown: bytes below 0x80 are an older form that says no more than its presence does.
    fn read(bytes: &[u8]) -> Self {
        let bits = bytes.iter().filter(|byte| **byte >= FLAGS_FIELD).fold(0, |bits, byte| bits | byte);
        Self {
            reset: bits & FLAG_RESET != 0,
            read_only: bits & FLAG_READ_ONLY != 0,
            supports_reset: bits & FLAG_SUPPORTS_RESET != 0,
        }
    }

    fn bits(self) -> u8 {
        let bit = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        bit(self.reset, FLAG_RESET)
            | bit(self.read_only, FLAG_READ_ONLY)
            | bit(self.supports_reset, FLAG_SUPPORTS_RESET)
    }
}

/// Reads a list of hashes. Peers sort it; one that does not gets its list sorted here.
fn read_hashes(reader: &mut Reader<'_>) -> Result<Vec<ChangeHash>, GateError> {
    let count = reader.unsigned()?;
    Rule::TooManyHashes.at_most(count, SYNC_HASHES_MAX as u64)?;
    let (hashes, _) = reader.take(count * 32)?.as_chunks::<32>();
    let mut hashes: Vec<_> = hashes.iter().copied().map(ChangeHash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    Ok(hashes)
}

fn write_hashes(out: &mut Vec<u8>, hashes: &[ChangeHash]) {
    write_unsigned(out, hashes.len() as u64);
    hashes.iter().for_each(|hash| out.extend_from_slice(&hash.0));
}

fn write_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    write_unsigned(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use automerge::sync;
    use proptest::prelude::*;

    use super::*;

    fn hashes(max: usize) -> impl Strategy<Value = Vec<ChangeHash>> {
        proptest::collection::btree_set(any::<[u8; 32]>(), 0..max)
            .prop_map(|hashes| hashes.into_iter().map(ChangeHash).collect())
    }

    fn messages() -> impl Strategy<Value = SyncMessage> {
        let have = (hashes(4), hashes(20))
            .prop_map(|(last_sync, entries)| Have { last_sync, bloom: Bloom::from_hashes(entries.iter()) });
        let changes = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..4)
            .prop_map(|changes| changes.into_iter().map(Bytes::from).collect());
        let flags =
            proptest::option::of(
                (any::<bool>(), any::<bool>(), any::<bool>())
                    .prop_map(|(reset, read_only, supports_reset)| SyncFlags { reset, read_only, supports_reset }),
            );
        (any::<bool>(), hashes(4), hashes(4), proptest::collection::vec(have, 0..3), changes, flags).prop_map(
            |(is_v2, heads, need, have, changes, flags)| {
                let version = if is_v2 { MessageVersion::V2 } else { MessageVersion::V1 };
                SyncMessage { version, heads, need, have, changes, flags }
            },
        )
    }

    proptest! {
        #[test]
        fn message_is_automerges_own(message in messages()) {
            let bytes = message.encode();
            prop_assert_eq!(&SyncMessage::decode(&Bytes::from(bytes.clone())).expect("our own"), &message);
            let theirs = sync::Message::decode(&bytes).expect("Automerge reads it");
            prop_assert_eq!(&theirs.heads, &message.heads);
            prop_assert_eq!(&theirs.need, &message.need);
            prop_assert_eq!(theirs.have.len(), message.have.len());
            prop_assert_eq!(theirs.changes.len(), message.changes.len());
            prop_assert_eq!(theirs.flags.is_some(), message.flags.is_some());
            prop_assert_eq!(theirs.encode(), bytes);
        }

        #[test]
        fn mutated_messages_never_panic(message in messages(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let mut bytes = message.encode();
            let index = at.index(bytes.len());
            bytes[index] = byte;
            bytes.truncate(cut.index(bytes.len()) + 1);
            let _ = SyncMessage::decode(&Bytes::from(bytes));
        }
    }

    #[test]
    fn old_flags_say_only_that_they_are_there() {
        let empty = [TYPE_V1, 0, 0, 0, 0];
        let with =
            |tail: &[u8]| SyncMessage::decode(&Bytes::from([&empty[..], tail].concat())).map(|message| message.flags);
        assert_eq!(with(&[]), Ok(None));
        assert_eq!(with(&[1, 2]), Ok(Some(SyncFlags::default())));
        assert_eq!(with(&[2, 2, 0x84]), Ok(Some(SyncFlags { supports_reset: true, ..SyncFlags::default() })));
        assert!(with(&[9, 2]).is_err(), "a section longer than the message");
    }

    #[test]
    fn lists_are_bounded() {
        let message = |count: u64, tail: usize| {
            let mut bytes = vec![TYPE_V1];
            write_unsigned(&mut bytes, count);
            bytes.resize(bytes.len() + tail, 0);
            SyncMessage::decode(&Bytes::from(bytes)).err().map(|error| error.rule())
        };
        let limit = SYNC_HASHES_MAX as u64;
        assert_eq!(message(limit, 32 * SYNC_HASHES_MAX + 3), None);
        assert_eq!(message(limit + 1, 32 * SYNC_HASHES_MAX + 64), Some(Rule::TooManyHashes));
        assert_eq!(message(u64::MAX, 3), Some(Rule::TooManyHashes));
        assert_eq!(message(2, 3), Some(Rule::Truncated));
        let haves = |count: u8| SyncMessage::decode(&Bytes::from([vec![TYPE_V1, 0, 0, count], vec![0; 64]].concat()));
        assert!(haves(16).is_ok());
        assert_eq!(haves(17).err().map(|error| error.rule()), Some(Rule::TooManyHaves));
        assert!(SyncMessage::decode(&Bytes::from_static(&[0x41, 0, 0, 0, 0])).is_err());
        assert!(SyncMessage::decode(&Bytes::new()).is_err());
    }
}
