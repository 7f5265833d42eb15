//! Sync messages and classic frames by hand.

use bytes::Bytes;

use super::bytes::{prefixed, unsigned};

/// A sync message before it is encoded.
#[derive(Debug, Clone, Default)]
pub struct RawSync {
    /// The sender's heads.
    pub heads: Vec<[u8; 32]>,
    /// What it asks for.
    pub need: Vec<[u8; 32]>,
    /// What it has: the last heads in common, and a filter's bytes.
    pub have: Vec<(Vec<[u8; 32]>, Vec<u8>)>,
    /// Changes, one an entry.
    pub changes: Vec<Vec<u8>>,
}

impl RawSync {
    /// Offers changes; the heads are the last of them, which is all a receiver needs.
    pub fn offer(changes: Vec<Vec<u8>>) -> Self {
        let heads = changes.last().map(|change| super::bytes::hash(change)).into_iter().collect();
        Self { heads, changes, ..Self::default() }
    }

    /// Encodes it as version 1.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0x42];
        let hashes = |out: &mut Vec<u8>, hashes: &[[u8; 32]]| {
            unsigned(out, hashes.len() as u64);
            out.extend_from_slice(hashes.as_flattened());
        };
        hashes(&mut out, &self.heads);
        hashes(&mut out, &self.need);
        unsigned(&mut out, self.have.len() as u64);
        for (last_sync, bloom) in &self.have {
            hashes(&mut out, last_sync);
            prefixed(&mut out, bloom);
        }
        unsigned(&mut out, self.changes.len() as u64);
        self.changes.iter().for_each(|change| prefixed(&mut out, change));
        out
    }
}

/// Writes a Bloom filter's header, and whatever bits.
pub fn bloom(entries: u64, bits_per_entry: u64, probes: u64, bits: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    unsigned(&mut out, entries);
    unsigned(&mut out, bits_per_entry);
    unsigned(&mut out, probes);
    out.extend_from_slice(bits);
    out
}

/// A CBOR value by hand.
#[derive(Debug, Clone)]
pub enum Cbor {
    /// A text.
    Text(String),
    /// A byte string.
    Bytes(Vec<u8>),
    /// A whole number.
    Uint(u64),
    /// A truth value.
    Bool(bool),
    /// An array.
    Array(Vec<Cbor>),
    /// A map.
    Map(Vec<(&'static str, Cbor)>),
    /// Whatever bytes.
    Raw(Vec<u8>),
}

impl Cbor {
    /// Makes a text.
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// Encodes it.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        self.write(&mut out);
        out.into()
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                head(out, 3, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
            Self::Bytes(bytes) => {
                head(out, 2, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Self::Uint(value) => head(out, 0, *value),
            Self::Bool(value) => out.push(0xf4 + u8::from(*value)),
            Self::Array(values) => {
                head(out, 4, values.len() as u64);
                values.iter().for_each(|value| value.write(out));
            }
            Self::Map(entries) => {
                head(out, 5, entries.len() as u64);
                for (key, value) in entries {
                    Self::text(key).write(out);
                    value.write(out);
                }
            }
            Self::Raw(bytes) => out.extend_from_slice(bytes),
        }
    }
}

/// Appends the head of a value: its major type and a number, in the shortest form.
pub fn head(out: &mut Vec<u8>, major: u8, value: u64) {
    let bytes = value.to_be_bytes();
    let (code, tail) = match value {
        0..24 => (bytes[7], &[][..]),
        24..0x100 => (24, &bytes[7..]),
        0x100..0x1_0000 => (25, &bytes[6..]),
        0x1_0000..0x1_0000_0000 => (26, &bytes[4..]),
        _ => (27, &bytes[..]),
    };
    out.push(major << 5 | code);
    out.extend_from_slice(tail);
}
