//! Archives: rows in a file that shows whether it is whole.
//!
//! What backups and exported spaces are made of. An archive is written and read from front to back, in frames; each holds
//! rows of one kind, deflated, under a checksum that also says which frame of which file it is. So a file that was cut,
//! altered, or put together from others is found out before anything of the frame in question is used.
//!
//! ```text
//! archive = magic | version | purpose | id | part | frame* | end
//! magic     8 bytes: 72 65 6a 6f 69 6e 61 00
//! version   1 byte: 01
//! purpose   1 byte: 01 a backup, 02 a space
//! id        16 bytes, random: which archive
//! part      u32, little-endian: which of its files, from 0
//! frame   = raw length | stored length | check | stored
//!           u32, u32, little-endian: of the rows, and as they stand here
//! check     the first 16 bytes of the SHA-256 of: the file's first 30 bytes, the frame's number from 0 as u64,
//!           raw length, stored length, stored
//! stored    raw deflate of: kind | row*
//! kind      leb length, UTF-8: a table's name, or another word
//! row     = leb length, key | leb length, value
//! end     = a frame of no bytes; nothing follows it
//! ```

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use sha2::{Digest, Sha256};

use crate::limits::ARCHIVE_FRAME_BYTES;
use crate::store::record::{Reader, put_bytes};

const MAGIC: [u8; 8] = *b"rejoina\0";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 30;
const CHECK_BYTES: usize = 16;
const ROWS: &str = "a frame's rows";

/// What an archive is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A part of a backup.
    Backup,
    /// One space.
    Space,
}

impl Purpose {
    const fn byte(self) -> u8 {
        match self {
            Self::Backup => 1,
            Self::Space => 2,
        }
    }
}

/// What stands at the beginning of an archive's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveHeader {
    /// What it is for.
    pub purpose: Purpose,
    /// Which archive: random bytes.
    pub id: [u8; 16],
    /// Which of its files, from 0.
    pub part: u32,
}

impl ArchiveHeader {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8] = VERSION;
        out[9] = self.purpose.byte();
        out[10..26].copy_from_slice(&self.id);
        out[26..].copy_from_slice(&self.part.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, ArchiveError> {
        if bytes[..8] != MAGIC {
            return Err(ArchiveError::Foreign);
        }
        if bytes[8] != VERSION {
            return Err(ArchiveError::Newer { found: bytes[8] });
        }
        let purpose = [Purpose::Backup, Purpose::Space].into_iter().find(|purpose| purpose.byte() == bytes[9]);
        let purpose = purpose.ok_or(ArchiveError::Foreign)?;
        let (mut id, mut part) = ([0; 16], [0; 4]);
        id.copy_from_slice(&bytes[10..26]);
        part.copy_from_slice(&bytes[26..]);
        Ok(Self { purpose, id, part: u32::from_le_bytes(part) })
    }
}

/// Why an archive cannot be read. The text completes "failed to read the archive: ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The operating system said no.
    #[error(transparent)]
    Io(io::Error),
    /// It is no archive, or not of this purpose.
    #[error("it is no archive of this kind")]
    Foreign,
    /// A newer version of Rejoin wrote it.
    #[error("it has version {found}, and this program reads {VERSION}: upgrade Rejoin")]
    Newer {
        /// The version found.
        found: u8,
    },
    /// It ends too early.
    #[error("it was cut off: frame {frame} is not whole")]
    Cut {
        /// In which frame, from 0.
        frame: u64,
    },
    /// A frame is not what was written.
    #[error("frame {frame} is damaged: {what}")]
    Damaged {
        /// Which, from 0.
        frame: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Something follows the end.
    #[error("something follows its end")]
    Trailing,
}

/// How much an archive holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArchiveCounts {
    /// How many rows.
    pub rows: u64,
    /// How many bytes of keys and values.
    pub bytes: u64,
    /// How many bytes the file has.
    pub stored: u64,
}

/// Writes an archive's file. Memory: one frame and its deflated form.
#[derive(Debug)]
pub struct ArchiveWriter<W: Write> {
    out: W,
    header: [u8; HEADER_BYTES],
    kind: &'static str,
    frame: Vec<u8>,
    number: u64,
    counts: ArchiveCounts,
}

impl<W: Write> ArchiveWriter<W> {
    /// Begins a file.
    ///
    /// # Errors
    ///
    /// What writing reports.
    pub fn begin(mut out: W, header: &ArchiveHeader) -> io::Result<Self> {
        let header = header.encode();
        out.write_all(&header)?;
        let counts = ArchiveCounts { stored: HEADER_BYTES as u64, ..ArchiveCounts::default() };
        Ok(Self { out, header, kind: "", frame: Vec::new(), number: 0, counts })
    }

    /// Puts a row. Returns whether a frame was ended with it.
    ///
    /// # Errors
    ///
    /// What writing reports; the file is of no use then.
    pub fn put(&mut self, kind: &'static str, key: &[u8], value: &[u8]) -> io::Result<bool> {
        if kind != self.kind {
            self.end_frame()?;
            self.kind = kind;
        }
        if self.frame.is_empty() {
            put_bytes(&mut self.frame, kind.as_bytes());
        }
        put_bytes(&mut self.frame, key);
        put_bytes(&mut self.frame, value);
        self.counts.rows += 1;
        self.counts.bytes += (key.len() + value.len()) as u64;
        let full = self.frame.len() >= ARCHIVE_FRAME_BYTES;
        if full {
            self.end_frame()?;
        }
        Ok(full)
    }

    /// Returns how much was written so far.
    pub fn counts(&self) -> ArchiveCounts {
        self.counts
    }

    /// Ends the file, and gives back what it was written to; flushing that is the caller's.
    ///
    /// # Errors
    ///
    /// What writing reports.
    pub fn finish(mut self) -> io::Result<(W, ArchiveCounts)> {
        self.end_frame()?;
        self.write_frame(0, &[])?;
        Ok((self.out, self.counts))
    }

    fn end_frame(&mut self) -> io::Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let mut encoder = DeflateEncoder::new(Vec::with_capacity(self.frame.len() / 2), Compression::fast());
        encoder.write_all(&self.frame)?;
        let stored = encoder.finish()?;
        let raw = u32::try_from(self.frame.len()).map_err(|_| io::Error::other("a row is too long for an archive"))?;
        self.frame.clear();
        self.write_frame(raw, &stored)
    }

    fn write_frame(&mut self, raw: u32, stored: &[u8]) -> io::Result<()> {
        let length = u32::try_from(stored.len()).map_err(|_| io::Error::other("a row is too long for an archive"))?;
        self.out.write_all(&raw.to_le_bytes())?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&check(&self.header, self.number, raw, length, stored))?;
        self.out.write_all(stored)?;
        self.number += 1;
        self.counts.stored += (8 + CHECK_BYTES + stored.len()) as u64;
        Ok(())
    }
}

fn check(header: &[u8; HEADER_BYTES], number: u64, raw: u32, length: u32, stored: &[u8]) -> [u8; CHECK_BYTES] {
    let digest = Sha256::new()
        .chain_update(header)
        .chain_update(number.to_le_bytes())
        .chain_update(raw.to_le_bytes())
        .chain_update(length.to_le_bytes())
        .chain_update(stored)
        .finalize();
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&digest[..CHECK_BYTES]);
    check
}

/// Reads an archive's file. Memory: one frame, of at most the bound it is opened with, and its deflated form.
#[derive(Debug)]
pub struct ArchiveReader<R: Read> {
    input: R,
    header: [u8; HEADER_BYTES],
    frame_bytes_max: usize,
    number: u64,
    ended: bool,
}

/// One frame: rows of one kind. All its bytes are what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveFrame {
    bytes: Vec<u8>,
    number: u64,
}

impl<R: Read> ArchiveReader<R> {
    /// Begins to read a file whose frames are of at most so many bytes.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`] if it is no archive.
    pub fn open(mut input: R, frame_bytes_max: usize) -> Result<(Self, ArchiveHeader), ArchiveError> {
        let mut header = [0; HEADER_BYTES];
        read_exact(&mut input, &mut header, 0)?;
        let known = ArchiveHeader::decode(&header)?;
        Ok((Self { input, header, frame_bytes_max, number: 0, ended: false }, known))
    }

    /// Returns the next frame, or `None` behind the last.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`] if it is not what was written.
    pub fn frame(&mut self) -> Result<Option<ArchiveFrame>, ArchiveError> {
        if self.ended {
            return Ok(None);
        }
        let number = self.number;
        let damaged = |what| ArchiveError::Damaged { frame: number, what };
        let mut lengths = [0; 8];
        read_exact(&mut self.input, &mut lengths, number)?;
        let mut expected = [0; CHECK_BYTES];
        read_exact(&mut self.input, &mut expected, number)?;
        let [a, b, c, d, e, f, g, h] = lengths;
        let (raw, length) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let raw_bytes = usize::try_from(raw).unwrap_or(usize::MAX);
        // What cannot be deflated grows by a few bytes in each block.
        let stored_max = self.frame_bytes_max.saturating_add(self.frame_bytes_max / 64).saturating_add(1_024);
        if raw_bytes > self.frame_bytes_max || usize::try_from(length).unwrap_or(usize::MAX) > stored_max {
            return Err(damaged("it is too long"));
        }
        let mut stored = Vec::new();
        // Room is taken as bytes come, not as they are announced.
        self.input.by_ref().take(u64::from(length)).read_to_end(&mut stored).map_err(ArchiveError::Io)?;
        if stored.len() as u64 != u64::from(length) {
            return Err(ArchiveError::Cut { frame: number });
        }
        if check(&self.header, number, raw, length, &stored) != expected {
            return Err(damaged("its bytes are not what its checksum says"));
        }
        self.number += 1;
        if raw == 0 {
            self.ended = true;
            return self.require_end(length).map(|()| None);
        }
        let mut bytes = Vec::new();
        let inflated = DeflateDecoder::new(stored.as_slice()).take(u64::from(raw) + 1).read_to_end(&mut bytes);
        if inflated.is_err() || bytes.len() != raw_bytes {
            return Err(damaged("it does not inflate"));
        }
        Ok(Some(ArchiveFrame { bytes, number }))
    }

    /// Returns what is read from, at the place where reading stopped.
    pub fn get_ref(&self) -> &R {
        &self.input
    }

    /// Gives back what is read from.
    pub fn into_inner(self) -> R {
        self.input
    }

    fn require_end(&mut self, length: u32) -> Result<(), ArchiveError> {
        let mut more = [0];
        let read = self.input.read(&mut more).map_err(ArchiveError::Io)?;
        if length == 0 && read == 0 { Ok(()) } else { Err(ArchiveError::Trailing) }
    }
}

impl ArchiveFrame {
    /// Returns what kind its rows are.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Damaged`] if it does not say so.
    pub fn kind(&self) -> Result<&str, ArchiveError> {
        Reader::new(&self.bytes, ROWS).text().map_err(|_| self.damaged())
    }

    /// Visits its rows, keys and values, in order.
    ///
    /// # Errors
    ///
    /// What the visitor reports, and its form of [`ArchiveError::Damaged`] if a row does not decode.
    pub fn rows<E: From<ArchiveError>>(&self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut reader = Reader::new(&self.bytes, ROWS);
        reader.bytes().map_err(|_| self.damaged())?;
        while !reader.is_at_end() {
            let key = reader.bytes().map_err(|_| self.damaged())?;
            let value = reader.bytes().map_err(|_| self.damaged())?;
            visit(key, value)?;
        }
        Ok(())
    }

    fn damaged(&self) -> ArchiveError {
        ArchiveError::Damaged { frame: self.number, what: "its rows do not decode" }
    }
}

fn read_exact(input: &mut impl Read, into: &mut [u8], frame: u64) -> Result<(), ArchiveError> {
    input.read_exact(into).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::Cut { frame },
        _ => ArchiveError::Io(error),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    const BOUND: usize = 4 << 20;
    const HEADER: ArchiveHeader = ArchiveHeader { purpose: Purpose::Space, id: [7; 16], part: 3 };

    type Row = (&'static str, Vec<u8>, Vec<u8>);

    fn written(rows: &[Row]) -> Vec<u8> {
        let mut writer = ArchiveWriter::begin(Vec::new(), &HEADER).unwrap();
        for (kind, key, value) in rows {
            writer.put(kind, key, value).unwrap();
        }
        let (bytes, counts) = writer.finish().unwrap();
        assert_eq!((counts.rows, counts.stored), (rows.len() as u64, bytes.len() as u64));
        bytes
    }

    /// A row as it is read: its table, its key, its value.
    type Read = (String, Vec<u8>, Vec<u8>);

    fn read(bytes: &[u8]) -> Result<Vec<Read>, ArchiveError> {
        let (mut reader, header) = ArchiveReader::open(bytes, BOUND)?;
        if header != HEADER {
            return Err(ArchiveError::Foreign);
        }
        let mut rows = Vec::new();
        while let Some(frame) = reader.frame()? {
            let kind = frame.kind()?.to_owned();
            frame.rows(|key, value| {
                rows.push((kind.clone(), key.to_vec(), value.to_vec()));
                Ok::<_, ArchiveError>(())
            })?;
        }
        Ok(rows)
    }

    fn some_rows() -> Vec<Row> {
        let noise = (0..ARCHIVE_FRAME_BYTES / 2).map(|at| (at * at / 7).to_le_bytes()[0]).collect::<Vec<_>>();
        vec![
            ("a", vec![1], noise.clone()),
            ("a", vec![2], noise.clone()),
            ("a", vec![3], noise),
            ("b", vec![], vec![]),
            ("a", vec![4; 40], vec![5; 500]),
        ]
    }

    #[test]
    fn rows_come_back_in_their_order() {
        let rows = some_rows();
        let expected: Vec<_> =
            rows.iter().map(|(kind, key, value)| ((*kind).to_owned(), key.clone(), value.clone())).collect();
        assert_eq!(read(&written(&rows)).unwrap(), expected);
        assert_eq!(read(&written(&[])).unwrap(), []);
    }

    #[test]
    fn header_is_as_it_is_drawn() {
        let bytes = written(&[]);
        assert_eq!(&bytes[..10], [0x72, 0x65, 0x6a, 0x6f, 0x69, 0x6e, 0x61, 0, 1, 2]);
        assert_eq!((&bytes[10..26], &bytes[26..30]), (&[7; 16][..], &[3, 0, 0, 0][..]));
        assert_eq!(bytes.len(), HEADER_BYTES + 8 + CHECK_BYTES);
    }

    #[test]
    fn frames_that_change_places_are_found() {
        let bytes = written(&[("a", vec![1], vec![1]), ("b", vec![1], vec![1])]);
        let frame = (bytes.len() - HEADER_BYTES - 8 - CHECK_BYTES) / 2;
        let (first, second) = (HEADER_BYTES, HEADER_BYTES + frame);
        let mut swapped = bytes.clone();
        swapped[first..second].copy_from_slice(&bytes[second..second + frame]);
        swapped[second..second + frame].copy_from_slice(&bytes[first..second]);
        assert!(matches!(read(&swapped), Err(ArchiveError::Damaged { frame: 0, .. })));
        let without = [&bytes[..first], &bytes[second..]].concat();
        assert!(matches!(read(&without), Err(ArchiveError::Damaged { frame: 0, .. })));
        assert!(matches!(read(&[&bytes[..], &[0]].concat()), Err(ArchiveError::Trailing)));
    }

    #[test]
    fn frame_that_says_it_is_longer_than_allowed_costs_nothing() {
        let mut bytes = HEADER.encode().to_vec();
        bytes.extend_from_slice(&u32::MAX.to_le_bytes());
        bytes.extend_from_slice(&[0; 4 + CHECK_BYTES]);
        assert!(matches!(read(&bytes), Err(ArchiveError::Damaged { what: "it is too long", .. })));
    }

    proptest! {
        #[test]
        fn every_altered_byte_and_every_cut_is_found(at: prop::sample::Index, bit in 0_u8..8, cut: prop::sample::Index) {
            let bytes = written(&some_rows()[3..]);
            let mut altered = bytes.clone();
            altered[at.index(bytes.len())] ^= 1 << bit;
            prop_assert!(read(&altered).is_err());
            prop_assert!(read(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn any_bytes_are_an_error_and_never_a_panic(bytes: Vec<u8>, behind in any::<bool>()) {
            let bytes = if behind { [&HEADER.encode()[..], &bytes].concat() } else { bytes };
            let _ = read(&bytes);
        }
    }
}
