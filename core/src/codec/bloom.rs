//! The Bloom filter of a sync message: which changes the sender already has, with about 1 % false positives.
//!
//! On the wire it is either empty or `entries`, `bits per entry`, `probes` (LEB128 each) and the bits. The parameters
//! come from the peer and would let it buy minutes of our time for 15 bytes, so they are capped before anything is
//! computed with them.

use automerge::ChangeHash;

use super::leb::{Cursor, ReadError, push_number};
use crate::limits::{BLOOM_BITS_PER_ENTRY_MAX, BLOOM_ENTRIES_MAX, BLOOM_PROBES_MAX};

/// What every known implementation uses: 10 bits an entry.
const BITS_PER_ENTRY: u32 = 10;

/// What every known implementation uses: 7 probes.
const PROBES: u32 = 7;

/// A set of change hashes that may claim to hold what it does not, and never denies what it does.
///
/// The default is the empty filter, which holds nothing and encodes to no bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bloom {
    /// `None` is the empty filter. Kept apart so that no arithmetic ever sees zero bits.
    filled: Option<Filled>,
}

/// A filter with at least one entry. `bits` holds exactly `ceil(entries * bits_per_entry / 8)` bytes, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filled<Bits = Vec<u8>> {
    entries: u32,
    bits_per_entry: u32,
    probes: u32,
    bits: Bits,
}

impl Bloom {
    /// Makes a filter that holds these hashes, byte for byte the one Automerge makes.
    ///
    /// Costs 1.25 bytes and 7 memory writes a hash. Above [`BLOOM_ENTRIES_MAX`] hashes the rest is left out: the peer
    /// then sends those changes again, which wastes bytes and loses nothing.
    pub fn from_hashes<'a>(hashes: impl ExactSizeIterator<Item = &'a ChangeHash>) -> Self {
        let entries = u32::try_from(hashes.len()).unwrap_or(u32::MAX).min(BLOOM_ENTRIES_MAX);
        if entries == 0 {
            return Self::default();
        }
        let bits = vec![0; byte_length(entries, BITS_PER_ENTRY)];
        let mut filled = Filled { entries, bits_per_entry: BITS_PER_ENTRY, probes: PROBES, bits };
        for hash in hashes.take(BLOOM_ENTRIES_MAX as usize) {
            filled.insert(hash);
        }
        Self { filled: Some(filled) }
    }

    /// Reads a filter. No bytes at all, or zero entries, are the empty filter.
    ///
    /// # Errors
    ///
    /// [`ParseBloomError`] when a parameter is above its cap or zero, or when the bits are not as long as the parameters
    /// say. Nothing is allocated before that is known.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseBloomError> {
        let filled = Filled::read(bytes)?.map(|Filled { entries, bits_per_entry, probes, bits }| Filled {
            entries,
            bits_per_entry,
            probes,
            bits: bits.to_vec(),
        });
        Ok(Self { filled })
    }

    /// As [`Bloom::parse`] and [`Bloom::contains`], without a copy of the filter.
    pub(crate) fn holds(bytes: &[u8], hash: &ChangeHash) -> Result<bool, ParseBloomError> {
        Ok(Filled::read(bytes)?.is_some_and(|filled| filled.contains(hash)))
    }

    /// Tells whether the filter holds this hash. True may be wrong, false never is.
    ///
    /// Costs at most [`BLOOM_PROBES_MAX`] memory reads.
    pub fn contains(&self, hash: &ChangeHash) -> bool {
        self.filled.as_ref().is_some_and(|filled| filled.contains(hash))
    }

    /// Tells whether the filter holds nothing.
    pub fn is_empty(&self) -> bool {
        self.filled.is_none()
    }

    /// Returns how many hashes went in.
    pub fn entries(&self) -> u32 {
        self.filled.as_ref().map_or(0, |filled| filled.entries)
    }

    /// Returns the wire form: no bytes for the empty filter.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(filled) = &self.filled {
            out.reserve_exact(filled.bits.len() + 15);
            push_number(&mut out, u64::from(filled.entries));
            push_number(&mut out, u64::from(filled.bits_per_entry));
            push_number(&mut out, u64::from(filled.probes));
            out.extend_from_slice(&filled.bits);
        }
        out
    }
}

impl<'b> Filled<&'b [u8]> {
    /// Reads a filter that has entries; `None` is the empty one.
    fn read(bytes: &'b [u8]) -> Result<Option<Self>, ParseBloomError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut cursor = Cursor::new(bytes);
        let entries = cursor.number()?;
        let bits_per_entry = cursor.number()?;
        let probes = cursor.number()?;
        if entries == 0 {
            return match cursor.remaining() {
                0 => Ok(None),
                found => Err(ParseBloomError::Length { expected: 0, found }),
            };
        }
        let entries = within("entries", entries, BLOOM_ENTRIES_MAX)?;
        let bits_per_entry = within("bits per entry", bits_per_entry, BLOOM_BITS_PER_ENTRY_MAX)?;
        let probes = within("probes", probes, BLOOM_PROBES_MAX)?;
        let expected = byte_length(entries, bits_per_entry);
        let found = cursor.remaining();
        if found != expected {
            return Err(ParseBloomError::Length { expected, found });
        }
        Ok(Some(Self { entries, bits_per_entry, probes, bits: &bytes[cursor.position()..] }))
    }
}

impl<Bits: AsRef<[u8]>> Filled<Bits> {
    fn contains(&self, hash: &ChangeHash) -> bool {
        self.probes_of(hash).all(|bit| self.get(bit))
    }

    /// Yields the bits that a hash sets: triple hashing over its first 12 bytes.
    ///
    /// Automerge computes in 32 bits. For every filter that fits into a frame both give the same bits; 64 bits cannot
    /// overflow for the others.
    fn probes_of(&self, hash: &ChangeHash) -> impl Iterator<Item = u64> + use<Bits> {
        let modulo = (8 * self.bits.as_ref().len() as u64).max(1);
        let word = |at: usize| {
            let bytes = [hash.0[at], hash.0[at + 1], hash.0[at + 2], hash.0[at + 3]];
            u64::from(u32::from_le_bytes(bytes)) % modulo
        };
        let (mut x, mut y, z) = (word(0), word(4), word(8));
        let probes = self.probes;
        (0..probes).map(move |_| {
            let probe = x;
            x = (x + y) % modulo;
            y = (y + z) % modulo;
            probe
        })
    }

    fn get(&self, bit: u64) -> bool {
        let byte = usize::try_from(bit >> 3).ok().and_then(|at| self.bits.as_ref().get(at));
        byte.is_some_and(|byte| byte & (1 << (bit & 7)) != 0)
    }
}

impl Filled {
    fn insert(&mut self, hash: &ChangeHash) {
        for bit in self.probes_of(hash) {
            if let Some(byte) = usize::try_from(bit >> 3).ok().and_then(|at| self.bits.get_mut(at)) {
                *byte |= 1 << (bit & 7);
            }
        }
    }
}

/// Why bytes are no Bloom filter that we take. Always the peer's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseBloomError {
    /// A parameter is cut off or no LEB128 number.
    #[error("a bloom filter's parameters are cut off or not numbers")]
    Parameters,
    /// A parameter is zero or above its cap.
    #[error("a bloom filter has {found} {parameter}, allowed are 1 to {limit}")]
    OutOfRange {
        /// Which one.
        parameter: &'static str,
        /// What the peer sent.
        found: u64,
        /// The most we take.
        limit: u32,
    },
    /// The bits are not as long as the parameters say.
    #[error("a bloom filter has {found} bytes of bits, its parameters say {expected}")]
    Length {
        /// What the parameters say, in bytes.
        expected: usize,
        /// What was there, in bytes.
        found: usize,
    },
}

impl From<ReadError> for ParseBloomError {
    fn from(_: ReadError) -> Self {
        Self::Parameters
    }
}

/// Takes a parameter from 1 to its cap.
fn within(parameter: &'static str, found: u64, limit: u32) -> Result<u32, ParseBloomError> {
    match u32::try_from(found) {
        Ok(value) if (1..=limit).contains(&value) => Ok(value),
        _ => Err(ParseBloomError::OutOfRange { parameter, found, limit }),
    }
}

/// How many bytes the bits take. Both arguments are capped: 4,000,000 x 64 bits are 32 MB.
fn byte_length(entries: u32, bits_per_entry: u32) -> usize {
    (entries as usize).saturating_mul(bits_per_entry as usize).div_ceil(8)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use automerge::sync::BloomFilter;
    use proptest::prelude::*;

    use super::*;

    fn any_hashes(most: usize) -> impl Strategy<Value = Vec<ChangeHash>> {
        prop::collection::vec(any::<[u8; 32]>().prop_map(ChangeHash), 0..most)
    }

    /// Writes a filter's parameters before its bits.
    fn wire(entries: u64, bits_per_entry: u64, probes: u64, bits: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        [entries, bits_per_entry, probes].into_iter().for_each(|parameter| push_number(&mut out, parameter));
        out.extend_from_slice(bits);
        out
    }

    proptest! {
        #[test]
        fn a_filter_has_the_bytes_automerge_gives_it(hashes in any_hashes(300), others in any_hashes(50)) {
            let ours = Bloom::from_hashes(hashes.iter());
            let theirs = BloomFilter::from_hashes(hashes.iter());
            prop_assert_eq!(ours.to_bytes(), theirs.to_bytes());
            prop_assert!(hashes.iter().all(|hash| ours.contains(hash)));
            for hash in &others {
                prop_assert_eq!(ours.contains(hash), theirs.contains_hash(hash));
            }
            prop_assert_eq!(Bloom::parse(&ours.to_bytes()), Ok(ours));
        }

        #[test]
        fn a_filter_of_any_parameters_answers_as_automerge_does(
            (entries, bits_per_entry, probes, bits) in (1u32..100, 1u32..=64, 1u32..=32).prop_flat_map(|(e, b, p)| {
                (Just(e), Just(b), Just(p), prop::collection::vec(any::<u8>(), byte_length(e, b)))
            }),
            hashes in any_hashes(50),
        ) {
            let bytes = wire(u64::from(entries), u64::from(bits_per_entry), u64::from(probes), &bits);
            let ours = Bloom::parse(&bytes).unwrap();
            let theirs = BloomFilter::try_from(bytes.as_slice()).unwrap();
            prop_assert_eq!(ours.to_bytes(), bytes);
            for hash in &hashes {
                prop_assert_eq!(ours.contains(hash), theirs.contains_hash(hash));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), hash: [u8; 32]) {
            if let Ok(bloom) = Bloom::parse(&bytes) {
                bloom.contains(&ChangeHash(hash));
            }
        }
    }

    #[test]
    fn empty_filters_hold_nothing() {
        let hash = ChangeHash([0; 32]);
        for bytes in [&[][..], &[0, 10, 7]] {
            let bloom = Bloom::parse(bytes).unwrap();
            assert_eq!(bloom, Bloom::default());
            assert!(bloom.is_empty() && !bloom.contains(&hash) && bloom.to_bytes().is_empty());
        }
        assert_eq!(Bloom::from_hashes([].iter()), Bloom::default());
    }

    #[test]
    fn parameters_that_stop_automerge_are_refused() {
        // One entry of no bits: a remainder by zero there.
        let no_bits = ParseBloomError::OutOfRange { parameter: "bits per entry", found: 0, limit: 64 };
        assert_eq!(Bloom::parse(&wire(1, 0, 7, &[])), Err(no_bits));
        // 20,000,000 probes in 9 bytes: half a minute there.
        let probes = ParseBloomError::OutOfRange { parameter: "probes", found: 20_000_000, limit: 32 };
        assert_eq!(Bloom::parse(&wire(1, 8, 20_000_000, &[0])), Err(probes));
    }

    #[test]
    fn every_parameter_has_its_limit() {
        let probes = |probes| Bloom::parse(&wire(1, 8, probes, &[0]));
        assert!(probes(1).is_ok() && probes(31).is_ok() && probes(32).is_ok());
        assert!(probes(0).is_err() && probes(33).is_err() && probes(u64::MAX).is_err());
        let bits = |bits: u64| Bloom::parse(&wire(1, bits, 1, &vec![0; usize::try_from(bits).unwrap().div_ceil(8)]));
        assert!(bits(1).is_ok() && bits(63).is_ok() && bits(64).is_ok() && bits(65).is_err());
        let entries = |entries: u32| Bloom::parse(&wire(u64::from(entries), 1, 1, &vec![0; byte_length(entries, 1)]));
        assert!(entries(BLOOM_ENTRIES_MAX - 1).is_ok() && entries(BLOOM_ENTRIES_MAX).is_ok());
        assert!(entries(BLOOM_ENTRIES_MAX + 1).is_err());
    }

    #[test]
    fn bits_of_another_length_are_refused() {
        for found in [0, 12, 14] {
            let error = ParseBloomError::Length { expected: 13, found };
            assert_eq!(Bloom::parse(&wire(10, 10, 7, &vec![0; found])), Err(error));
        }
        assert_eq!(Bloom::parse(&[0, 10, 7, 1]), Err(ParseBloomError::Length { expected: 0, found: 1 }));
        assert_eq!(Bloom::parse(&[5]), Err(ParseBloomError::Parameters));
    }
}
