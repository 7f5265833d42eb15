//! The Bloom filter of Automerge's sync messages: a summary of many hashes that errs on the side of "is there".

use automerge::ChangeHash;

use crate::gate::leb::{Reader, write_unsigned};
use crate::gate::{GateError, Rule};
use crate::limits::{BLOOM_BITS_PER_ENTRY_MAX, BLOOM_ENTRIES_MAX, BLOOM_PROBES_MAX};

/// What every known implementation makes: about 1 % false positives.
const BITS_PER_ENTRY: u32 = 10;
const PROBES: u32 = 7;

/// A Bloom filter over change hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bloom {
    entries: u32,
    bits_per_entry: u32,
    probes: u32,
    bits: Vec<u8>,
}

impl Bloom {
    /// Makes a filter of hashes. Cost: 7 probes and 10 bits each.
    pub fn from_hashes<'h>(hashes: impl ExactSizeIterator<Item = &'h ChangeHash>) -> Self {
        let entries = u32::try_from(hashes.len()).unwrap_or(u32::MAX);
        if entries == 0 || entries > BLOOM_ENTRIES_MAX {
            // An empty filter makes the peer send more than it must, and nothing worse.
            return Self::default();
        }
        let bits = vec![0; byte_length(entries, BITS_PER_ENTRY)];
        let mut filter = Self { entries, bits_per_entry: BITS_PER_ENTRY, probes: PROBES, bits };
        for hash in hashes {
            for probe in filter.probes(hash) {
                filter.bits[probe >> 3] |= 1 << (probe & 7);
            }
        }
        filter
    }

    /// Reads a filter; no bytes are the empty filter.
    ///
    /// # Errors
    ///
    /// `bloom` if a parameter is out of bounds or the length does not fit.
    pub fn parse(bytes: &[u8]) -> Result<Self, GateError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader::new(bytes);
        let entries = parameter(&mut reader, BLOOM_ENTRIES_MAX)?;
        let bits_per_entry = parameter(&mut reader, BLOOM_BITS_PER_ENTRY_MAX)?;
        let probes = parameter(&mut reader, BLOOM_PROBES_MAX)?;
        if entries == 0 {
            return Ok(Self::default());
        }
        Rule::Bloom.require(bits_per_entry > 0 && probes > 0)?;
        let bits = reader.rest();
        Rule::Bloom.require(bits.len() == byte_length(entries, bits_per_entry))?;
        Ok(Self { entries, bits_per_entry, probes, bits: bits.to_vec() })
    }

    /// Says whether a hash may be there. "No" is certain.
    pub fn contains(&self, hash: &ChangeHash) -> bool {
        self.entries > 0 && self.probes(hash).all(|probe| self.bits[probe >> 3] & (1 << (probe & 7)) != 0)
    }

    /// Says whether the filter holds nothing.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Writes the filter; the empty one is no bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bits.len() + 12);
        if self.entries > 0 {
            for parameter in [self.entries, self.bits_per_entry, self.probes] {
                write_unsigned(&mut out, u64::from(parameter));
            }
            out.extend_from_slice(&self.bits);
        }
        out
    }

    /// Walks the bits of a hash: triple hashing over its first 12 bytes. Only on a filter that is not empty.
    fn probes(&self, hash: &ChangeHash) -> impl Iterator<Item = usize> + use<> {
        let modulo = (self.bits.len() as u64 * 8).max(1);
        let word = |at: usize| {
            let bytes = [hash.0[at], hash.0[at + 1], hash.0[at + 2], hash.0[at + 3]];
            u64::from(u32::from_le_bytes(bytes)) % modulo
        };
        let (mut x, mut y, z) = (word(0), word(4), word(8));
        (0..self.probes).map(move |index| {
            if index > 0 {
                x = (x + y) % modulo;
                y = (y + z) % modulo;
            }
            usize::try_from(x).unwrap_or(0)
        })
    }
}

fn parameter(reader: &mut Reader<'_>, max: u32) -> Result<u32, GateError> {
    let value = reader.unsigned()?;
    u32::try_from(value).ok().filter(|value| *value <= max).ok_or_else(|| Rule::Bloom.found(value, u64::from(max)))
}

fn byte_length(entries: u32, bits_per_entry: u32) -> usize {
    let bits = u64::from(entries) * u64::from(bits_per_entry);
    usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use automerge::sync::BloomFilter;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn filter_is_automerges_own(hashes in proptest::collection::vec(any::<[u8; 32]>(), 0..60), other: [u8; 32]) {
            let hashes: Vec<_> = hashes.into_iter().map(ChangeHash).collect();
            let ours = Bloom::from_hashes(hashes.iter());
            let theirs = BloomFilter::from_hashes(hashes.iter());
            prop_assert_eq!(ours.to_bytes(), theirs.to_bytes());
            prop_assert_eq!(Bloom::parse(&ours.to_bytes()).expect("our own"), ours.clone());
            prop_assert!(hashes.iter().all(|hash| ours.contains(hash)));
            prop_assert_eq!(ours.contains(&ChangeHash(other)), theirs.contains_hash(&ChangeHash(other)));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, hash: [u8; 32]) {
            if let Ok(filter) = Bloom::parse(&bytes) {
                filter.contains(&ChangeHash(hash));
            }
        }
    }

    #[test]
    fn parameters_are_bounded() {
        let filter = |entries: u32, bits: u32, probes: u32, length: usize| {
            let mut bytes = Vec::new();
            [entries, bits, probes].iter().for_each(|value| write_unsigned(&mut bytes, u64::from(*value)));
            bytes.resize(bytes.len() + length, 0xff);
            Bloom::parse(&bytes).map(|filter| filter.contains(&ChangeHash([7; 32])))
        };
        assert_eq!(filter(1, 64, 32, 8).ok(), Some(true));
        assert!(filter(1, 65, 32, 9).is_err(), "bits");
        assert!(filter(1, 64, 33, 8).is_err(), "probes");
        assert!(filter(1, 0, 7, 0).is_err(), "division by nothing");
        assert!(filter(1, 10, u32::MAX, 2).is_err(), "a probe list of 16 GiB");
        assert!(filter(1, 10, 0, 2).is_err(), "no probe");
        assert!(filter(2, 10, 7, 2).is_err() && filter(2, 10, 7, 4).is_err() && filter(2, 10, 7, 3).is_ok(), "length");
        assert!(filter(BLOOM_ENTRIES_MAX, 10, 7, BLOOM_ENTRIES_MAX as usize * 10 / 8).is_ok());
        assert!(filter(BLOOM_ENTRIES_MAX + 1, 1, 7, BLOOM_ENTRIES_MAX as usize / 8 + 1).is_err());
    }
}
