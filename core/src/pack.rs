//! Packs: many changes of one document, very small, and back to exactly the bytes they were.
//!
//! The archive form of a document's history. It runs no Automerge: a change's parts are stored as how they differ from
//! what the changes before let expect, and the hash of a dependency in the same pack is not stored at all, because
//! unpacking computes it anew. `pack` unpacks what it made and compares every byte before it returns.
//!
//! ```text
//! pack     = 01 | leb changes | leb bytes | streams | check
//! bytes      of all changes together, unpacked
//! streams  = leb count | line* | leb packed, if any stream is together | data
//! line     = leb number x 4 + method | leb length | leb packed, if method is 2
//! method     0 together with others in one block, the last; 1 one byte that repeats; 2 a block of its own
//! data     = the one byte or the block of each line, then the common block
//! block      raw deflate, or as it is if packed = length
//! check    = the first 8 bytes of the SHA-256 of all before it
//! ```
//!
//! Two changes that put null into the field `k` in turn, 124 bytes, are this pack:
//!
//! ```text
//! 01 02 7c                             version, two changes, 124 bytes
//! 11                                   17 streams, all together in one block:
//! 00 06  04 02  08 01                  actors, 6 bytes; dependencies: counts, distances
//! 14 02  18 02  1c 02  20 02           authors, sequence numbers, first counters, times
//! 24 02  2c 02  34 02                  lengths of message and extra, forms
//! 38 02  3c 08                         shapes, their definitions
//! 48 02  4c 01  50 01                  names, their lengths, their bytes
//! 5c 01  60 01                         predecessors: actors, counters
//! 27                                   the block has 39 bytes, not deflated
//! 01 04 01 02 03 04                    one actor of 4 bytes
//! 00 01  01                            no dependency, then one: one change back
//! 00 00  00 00  00 00  00 00           the first actor twice, and all as expected
//! 00 00  00 00  02 02                  no message, nothing extra; one operation each
//! 00 00                                each has a new shape:
//! 02 01 00 00  02 01 00 01             named, put, null, without and with a predecessor
//! 00 01  01  6b                        a new name of one byte, `k`, then the first again
//! 00  00                               the predecessor is the expected one
//! ff c2 ca 78 7a 3c cf 5a              the check
//! ```
//!
//! The numbers of the streams and what each holds: `pack/tape.rs`. How numbers are expected: `pack/header.rs` for what
//! stands around the columns, `pack/model.rs` for the operations of changes of at most
//! [`PACK_ROWS_MAX`] operations. The columns of larger ones are stored as they are.

mod header;
mod model;
mod rows;
mod tape;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use automerge::{ActorId, ChangeHash};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use self::header::{Header, Headers, pass_actors};
use self::model::Model;
use self::rows::Rows;
use self::tape::{Player, Recorder, Stream, Streams, Tape, damaged, usize_of};
use crate::gate::chunk::{CHANGE_TYPE, MAGIC, sha256};
use crate::gate::encode::write_prefixed;
use crate::gate::leb::{Reader, write_signed, write_unsigned};
use crate::gate::{CheckedChange, GateError};
use crate::limits::{CHANGE_ACTORS_MAX, CHANGE_COLUMNS_MAX, PACK_BYTES_MAX, PACK_CHANGES_MAX, PACK_ROWS_MAX};

/// The first byte of a pack.
const VERSION: u8 = 1;

/// How many bytes of the hash are at the end of a pack.
const CHECK_BYTES: usize = 8;

/// Why changes cannot be packed, or bytes cannot be unpacked.
///
/// The text completes "failed to pack: " or "failed to unpack: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// The caller offers too many changes at once: [`PACK_CHANGES_MAX`].
    #[error("a pack holds at most {limit} changes, not {found}")]
    TooManyChanges {
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The caller offers changes of too many bytes at once: [`PACK_BYTES_MAX`].
    #[error("a pack holds at most {limit} bytes, not {found}")]
    TooLarge {
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A fault of this program: a change does not come back as it was. Nothing was lost; keep the changes as they are.
    #[error("change {position} does not come back as it was")]
    Mismatch {
        /// The change's place among those that were offered.
        position: usize,
    },
    /// The pack was made by a later version.
    #[error("version {found} of packs is not known")]
    Version {
        /// The version it claims.
        found: u8,
    },
    /// The bytes are not those that were once made: the disk's fault, or the sender's.
    #[error("the pack is damaged: {what}")]
    Damaged {
        /// What does not fit.
        what: &'static str,
    },
}

impl From<GateError> for PackError {
    fn from(_: GateError) -> Self {
        damaged("a number, or its end")
    }
}

/// Packs changes of one document, a dependency always before what depends on it.
///
/// The order is kept. A dependency that does not come before costs 32 bytes, nothing else. Cost: about 3 us a change of
/// one operation, unpacking included, and memory of about three times the changes' bytes.
///
/// # Errors
///
/// [`PackError::TooManyChanges`], [`PackError::TooLarge`]: offer fewer. [`PackError::Mismatch`] should never happen.
///
/// ```
/// # use rejoin::gate::{Action, ChangeDraft, DraftObject, DraftOp, encode};
/// # let op = DraftOp { object: DraftObject::Root, key: "k".into(), action: Action::Put, value: 1.into(), preds: vec![] };
/// # let actor = rejoin::ActorId::from(&[7; 16][..]);
/// # let draft = ChangeDraft { actor, seq: 1, start_op: 1, timestamp: 0, message: None, deps: vec![], ops: vec![op] };
/// # let change = encode(&draft)?;
/// let packed = rejoin::pack::pack([&change])?;
/// let unpacked = rejoin::pack::unpack(&packed)?;
/// assert_eq!(unpacked.get(0).map(|change| change.bytes()), Some(change.bytes().clone()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pack<'c>(changes: impl IntoIterator<Item = &'c CheckedChange>) -> Result<Vec<u8>, PackError> {
    let mut bytes = 0usize;
    let mut offered = Vec::new();
    for change in changes {
        bytes = bytes.saturating_add(change.bytes().len());
        offered.push(change);
        if offered.len() > PACK_CHANGES_MAX {
            return Err(PackError::TooManyChanges { found: offered.len(), limit: PACK_CHANGES_MAX });
        }
        if bytes > PACK_BYTES_MAX {
            return Err(PackError::TooLarge { found: bytes, limit: PACK_BYTES_MAX });
        }
    }
    let mut out = vec![VERSION];
    write_unsigned(&mut out, offered.len() as u64);
    write_unsigned(&mut out, bytes as u64);
    record(&offered)?.finish(&mut out)?;
    let check = check_of(&out);
    out.extend_from_slice(&check);
    verify(&out, &offered)?;
    Ok(out)
}

fn verify(packed: &[u8], offered: &[&CheckedChange]) -> Result<(), PackError> {
    let unpacked = unpack(packed)?;
    let same = |(position, change): (usize, &&CheckedChange)| {
        unpacked.get(position).is_some_and(|found| {
            found.hash() == change.hash()
                && found.bytes() == *change.bytes()
                && found.actor() == change.actor()
                && (found.seq(), found.start_op(), found.op_count())
                    == (change.seq(), change.start_op(), change.op_count())
        })
    };
    match offered.iter().enumerate().find(|found| !same(*found)) {
        None if unpacked.len() == offered.len() => Ok(()),
        found => Err(PackError::Mismatch { position: found.map_or(offered.len(), |(position, _)| position) }),
    }
}

fn record(changes: &[&CheckedChange]) -> Result<Recorder, PackError> {
    let mut tape = Recorder::default();
    let mut numbers = HashMap::new();
    let mut actors = Vec::new();
    for actor in changes.iter().flat_map(|change| change.actors()) {
        if !numbers.contains_key(actor) {
            let number = u32::try_from(actors.len()).map_err(|_| damaged("the number of actors"))?;
            numbers.insert(actor, number);
            actors.push(actor.clone());
        }
    }
    pass_actors(&mut tape, &actors)?;
    let (mut headers, mut model) = (Headers::new(actors.len()), Model::new(actors.len()));
    let (mut header, mut rows, mut places) = (Header::default(), Rows::default(), HashMap::new());
    let mut own = Vec::new();
    for (position, change) in changes.iter().enumerate() {
        own.clear();
        own.extend(change.actors().iter().filter_map(|actor| numbers.get(actor).copied()));
        let author = own.first().copied().unwrap_or_default();
        header.read(change, author, position as u64, &places);
        header.is_raw = !Rows::fit(change);
        headers.pass(&mut tape, &mut header)?;
        if header.is_raw {
            record_raw(&mut tape, change, &own)?;
        } else {
            rows.read(change, &own)?;
            model.pass(&mut tape, author, header.start_op, &mut rows)?;
        }
        headers.push(change.hash(), &header);
        places.insert(change.hash(), position as u64);
    }
    Ok(tape)
}

/// Records the columns of a change as they are.
fn record_raw(tape: &mut Recorder, change: &CheckedChange, actors: &[u32]) -> Result<(), PackError> {
    let others = actors.get(1..).unwrap_or(&[]);
    tape.unsigned(Stream::RawShape, || others.len() as u64)?;
    for other in others {
        tape.unsigned(Stream::RawShape, || u64::from(*other))?;
    }
    let all = change.columns().all().map(|(number, span)| (number, span.of(change.bytes())));
    let present = || all.iter().filter(|(_, column)| !column.is_empty());
    tape.unsigned(Stream::RawShape, || present().count() as u64)?;
    for (number, column) in present() {
        tape.unsigned(Stream::RawShape, || *number)?;
        tape.prefixed(Stream::RawShape, Stream::Raw, column)?;
    }
    Ok(())
}

/// Unpacks what [`pack`] made.
///
/// Safe on any bytes: it never panics and allocates at most [`PACK_BYTES_MAX`] for the changes,
/// [`PACK_STREAMS_BYTES_MAX`](crate::limits::PACK_STREAMS_BYTES_MAX) twice, and about as much again for what it
/// remembers of them. Each change's hash and checksum are computed from the bytes it gets; the gate's rules are not
/// checked again, because they were before packing. Cost: about 1 us a change of one operation.
///
/// # Errors
///
/// [`PackError::Version`], [`PackError::Damaged`].
pub fn unpack(packed: &[u8]) -> Result<Unpacked, PackError> {
    let (content, check) = packed.split_last_chunk::<CHECK_BYTES>().ok_or_else(|| damaged("it is cut short"))?;
    let mut reader = Reader::new(content);
    let version = reader.byte()?;
    if version != VERSION {
        return Err(PackError::Version { found: version });
    }
    if check_of(content) != *check {
        return Err(damaged("its checksum"));
    }
    let (count, bytes) = (usize_of(reader.unsigned()?)?, usize_of(reader.unsigned()?)?);
    if count > PACK_CHANGES_MAX || bytes > PACK_BYTES_MAX {
        return Err(damaged("its length"));
    }
    let streams = Streams::read(&mut reader)?;
    let mut player = streams.player();
    let unpacked = play(&mut player, count, bytes)?;
    if player.is_at_end() { Ok(unpacked) } else { Err(damaged("a stream that is too long")) }
}

fn play(tape: &mut Player<'_>, count: usize, bytes: usize) -> Result<Unpacked, PackError> {
    let actors = pass_actors(tape, &[])?;
    let (mut headers, mut model) = (Headers::new(actors.len()), Model::new(actors.len()));
    let (mut header, mut rows) = (Header::default(), Rows::default());
    let (mut out, mut entries, mut body) = (Vec::with_capacity(bytes), Vec::with_capacity(count), Vec::new());
    for _ in 0..count {
        headers.pass(tape, &mut header)?;
        body.clear();
        write_header(&header, &actors, &mut body)?;
        if header.is_raw {
            play_raw(tape, &actors, &mut body)?;
        } else {
            let ops = usize_of(header.op_count)?;
            if ops > PACK_ROWS_MAX {
                return Err(damaged("the number of operations"));
            }
            rows.rows.clear();
            rows.preds.clear();
            rows.rows.resize(ops, rows::Row::default());
            model.pass(tape, header.author, header.start_op, &mut rows)?;
            rows.write(header.author, &actors, &mut body);
        }
        body.extend_from_slice(header.extra);
        let (hash, deps_at) = write_chunk(&body, bytes, &mut out)?;
        entries.push(Entry {
            hash,
            end: out.len(),
            deps_at,
            deps: header.deps.len(),
            actor: header.author,
            seq: header.seq,
            start_op: header.start_op,
            op_count: header.op_count,
        });
        headers.push(hash, &header);
    }
    if out.len() != bytes {
        return Err(damaged("the length of the changes"));
    }
    Ok(Unpacked { bytes: out.into(), entries, actors })
}

/// Plays columns that were stored as they are, with the other actors and the column table before them.
fn play_raw(tape: &mut Player<'_>, actors: &[ActorId], body: &mut Vec<u8>) -> Result<(), PackError> {
    let others = tape.unsigned(Stream::RawShape, || 0)?;
    if others > CHANGE_ACTORS_MAX as u64 {
        return Err(damaged("the number of other actors"));
    }
    write_unsigned(body, others);
    for _ in 0..others {
        let other = actors.get(usize_of(tape.unsigned(Stream::RawShape, || 0)?)?);
        write_prefixed(body, other.ok_or_else(|| damaged("the number of an actor"))?.to_bytes());
    }
    let columns = tape.unsigned(Stream::RawShape, || 0)?;
    if columns > CHANGE_COLUMNS_MAX as u64 {
        return Err(damaged("the number of columns"));
    }
    write_unsigned(body, columns);
    let mut data = Vec::new();
    for _ in 0..columns {
        write_unsigned(body, tape.unsigned(Stream::RawShape, || 0)?);
        let column = tape.prefixed(Stream::RawShape, Stream::Raw, &[])?;
        write_unsigned(body, column.len() as u64);
        data.push(column);
    }
    data.iter().for_each(|column| body.extend_from_slice(column));
    Ok(())
}

/// Writes what stands before the other actors.
fn write_header(header: &Header<'_>, actors: &[ActorId], out: &mut Vec<u8>) -> Result<(), PackError> {
    write_unsigned(out, header.deps.len() as u64);
    let start = out.len();
    header.deps.iter().for_each(|(_, hash)| out.extend_from_slice(&hash.0));
    if header.deps.len() > 1 {
        out[start..].as_chunks_mut::<32>().0.sort_unstable();
    }
    let author = actors.get(usize_of(header.author.into())?);
    write_prefixed(out, author.ok_or_else(|| damaged("the number of an author"))?.to_bytes());
    write_unsigned(out, header.seq);
    write_unsigned(out, header.start_op);
    write_signed(out, header.time);
    write_prefixed(out, header.message);
    Ok(())
}

/// Appends a change's chunk, up to `limit` bytes in all; returns its hash and where its dependencies are.
fn write_chunk(body: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(ChangeHash, usize), PackError> {
    let start = out.len();
    if body.len() > limit.saturating_sub(start) {
        return Err(damaged("the length of the changes"));
    }
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.push(CHANGE_TYPE);
    write_unsigned(out, body.len() as u64);
    let body_at = out.len();
    out.extend_from_slice(body);
    let hash = sha256(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&hash.0[..4]);
    let mut deps = Reader::new(body);
    deps.unsigned()?;
    Ok((hash, body_at + body.len() - deps.len()))
}

fn check_of(content: &[u8]) -> [u8; CHECK_BYTES] {
    let digest: [u8; 32] = Sha256::digest(content).into();
    digest.first_chunk().copied().unwrap_or_default()
}

/// The changes of a pack, in their order. Cheap to clone but for the list of what is known of each.
#[derive(Debug, Clone)]
pub struct Unpacked {
    bytes: Bytes,
    entries: Vec<Entry>,
    actors: Vec<ActorId>,
}

#[derive(Debug, Clone)]
struct Entry {
    hash: ChangeHash,
    /// Where the chunk ends; it starts where the one before ends.
    end: usize,
    deps_at: usize,
    deps: usize,
    actor: u32,
    seq: u64,
    start_op: u64,
    op_count: u64,
}

impl Unpacked {
    /// Returns how many changes there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns a change by its place, from 0.
    pub fn get(&self, index: usize) -> Option<UnpackedChange<'_>> {
        let entry = self.entries.get(index)?;
        let start = index.checked_sub(1).and_then(|before| self.entries.get(before)).map_or(0, |before| before.end);
        Some(UnpackedChange { pack: self, entry, start })
    }

    /// Returns the changes in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = UnpackedChange<'_>> {
        let start = |index: usize| if index == 0 { 0 } else { self.entries[index - 1].end };
        self.entries.iter().enumerate().map(move |(index, entry)| UnpackedChange {
            pack: self,
            entry,
            start: start(index),
        })
    }
}

/// One change of a pack.
#[derive(Debug, Clone, Copy)]
pub struct UnpackedChange<'a> {
    pack: &'a Unpacked,
    entry: &'a Entry,
    start: usize,
}

impl<'a> UnpackedChange<'a> {
    /// Returns the uncompressed chunk. No copy: it shares the memory of the whole pack.
    pub fn bytes(&self) -> Bytes {
        self.pack.bytes.slice(self.start..self.entry.end)
    }

    /// Returns the uncompressed chunk, borrowed.
    pub fn as_slice(&self) -> &'a [u8] {
        &self.pack.bytes[self.start..self.entry.end]
    }

    /// Returns the hash that names it.
    pub fn hash(&self) -> ChangeHash {
        self.entry.hash
    }

    /// Returns the changes it follows, sorted.
    pub fn deps(&self) -> impl ExactSizeIterator<Item = ChangeHash> + use<'a> {
        let bytes = &self.pack.bytes[self.entry.deps_at..self.entry.end];
        bytes.as_chunks::<32>().0[..self.entry.deps].iter().copied().map(ChangeHash)
    }

    /// Returns the author.
    pub fn actor(&self) -> &'a ActorId {
        // A u32 always fits the 32 bit and wider targets this crate builds for; every entry names an actor of the table.
        &self.pack.actors[self.entry.actor as usize]
    }

    /// Returns how many changes the author made in the document, this one included; from 1.
    pub fn seq(&self) -> u64 {
        self.entry.seq
    }

    /// Returns the counter of the first operation; from 1.
    pub fn start_op(&self) -> u64 {
        self.entry.start_op
    }

    /// Returns the number of operations.
    pub fn op_count(&self) -> u64 {
        self.entry.op_count
    }

    /// Returns the counter of the last operation; for an empty change the one before [`UnpackedChange::start_op`].
    pub fn max_op(&self) -> u64 {
        self.entry.start_op + self.entry.op_count - 1
    }
}
