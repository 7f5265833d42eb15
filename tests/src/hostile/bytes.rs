//! The byte level: LEB128 numbers, chunks with repaired checksums, deflate bombs.

use flate2::{Compress, Compression, FlushCompress};
use sha2::{Digest, Sha256};

/// What every chunk starts with.
pub const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];

/// Appends an unsigned LEB128 number.
pub fn unsigned(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let byte = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

/// Appends a signed LEB128 number.
pub fn signed(out: &mut Vec<u8>, mut value: i64) {
    loop {
        let byte = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if (value == 0 && byte & 0x40 == 0) || (value == -1 && byte & 0x40 != 0) {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

/// Appends a length and the bytes.
pub fn prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    unsigned(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads an unsigned LEB128 number from the front.
pub fn read_unsigned(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(7 * at).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

/// Returns the SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Frames a body as a chunk of a type, with the right length and checksum.
pub fn chunk(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = [&MAGIC[..], &[0; 4], &[kind]].concat();
    prefixed(&mut out, body);
    let checksum = sha256(&out[8..]);
    out[4..8].copy_from_slice(&checksum[..4]);
    out
}

/// Returns the hash that names an uncompressed chunk.
pub fn hash(chunk: &[u8]) -> [u8; 32] {
    sha256(&chunk[8..])
}

/// Returns the type and the body of a chunk, if its length fits.
pub fn split(chunk: &[u8]) -> Option<(u8, &[u8])> {
    let (length, body) = read_unsigned(chunk.get(9..)?)?;
    (body.len() as u64 == length).then_some((chunk[8], body))
}

/// Frames deflated bytes as a compressed change with this checksum.
pub fn compressed(checksum: [u8; 4], deflated: &[u8]) -> Vec<u8> {
    let mut out = [&MAGIC[..], &checksum, &[2]].concat();
    prefixed(&mut out, deflated);
    out
}

/// Deflates a body as Automerge does for long changes: the checksum is that of the uncompressed chunk.
pub fn compressed_change(body: &[u8]) -> Vec<u8> {
    let plain = chunk(1, body);
    let mut deflated = Vec::with_capacity(body.len() + 64);
    Compress::new(Compression::best(), false).compress_vec(body, &mut deflated, FlushCompress::Finish).unwrap();
    compressed([plain[4], plain[5], plain[6], plain[7]], &deflated)
}

/// Returns about `megabytes` MiB of zeros, deflated to a thousandth, without ever holding them.
///
/// One mebibyte is deflated up to a full flush, which ends at a byte and refers to nothing before it: so it can be
/// repeated as it is.
pub fn deflated_zeros(megabytes: usize) -> Vec<u8> {
    let zeros = vec![0; 1 << 20];
    let mut one = Vec::with_capacity(1 << 16);
    let mut deflate = Compress::new(Compression::best(), false);
    deflate.compress_vec(&zeros, &mut one, FlushCompress::Full).unwrap();
    let mut all = one.repeat(megabytes);
    // An empty final block.
    all.extend_from_slice(&[3, 0]);
    all
}
