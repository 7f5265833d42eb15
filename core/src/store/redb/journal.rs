//! The journal: what was committed since the database itself reached the disk.
//!
//! A commit of redb's writes every page that it changed and all pages above those, some 20 for a single change, and syncs twice
//! where the store is to open at once after a crash. A commit into the journal appends one record, the rows that it put and
//! deleted, and syncs once; the rows then stand in memory, in front of the database. When the journal is full, one commit of
//! redb's brings all of them there: a checkpoint.
//!
//! # What holds
//!
//! - Nothing is visible before its record is on the disk. A record that is there and was never visible (the power failed between
//!   the two) is a write whose caller heard nothing; it is there as a whole.
//! - Each checkpoint puts a new generation into the database, 16 random bytes, and a record counts only for a database that holds
//!   its generation. So the file is written over from its beginning without being cleared, and the journal of another store, or
//!   of an older copy of this one, counts for nothing.
//! - The first write after opening is a checkpoint: no generation is used by two processes.
//! - Records say what stands in a row, not how it came there. To put them in twice changes nothing.
//! - Where a record is damaged and a later one is not, something that was acknowledged is lost, and opening says so. Where no later
//!   one is there, the power failed while it was written, and nobody was told of it.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
#[cfg(unix)]
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use flate2::Crc;
use redb::StorageBackend;
use redb::backends::FileBackend;

use super::super::delta::Delta;
use super::super::record::{Reader, put_bytes};
use super::super::{StoreError, Table, WriteTx};
use super::{create, error, with_suffix};
use crate::limits::{JOURNAL_BYTES_MAX, JOURNAL_RECORD_BYTES_MAX, JOURNAL_STEP_BYTES};

/// What is added to a store's file name for its journal.
const SUFFIX: &str = ".rejoin-journal";

/// Names the records that belong to one state of the database.
pub(super) type Generation = [u8; 16];

/// Before the rows of a record: checksum, length, number, generation.
const HEADER_BYTES: usize = 4 + 4 + 4 + 16;

const PUT: u8 = 0;
const DELETE: u8 = 1;
/// What no version writes any more: a range was a row of its own once.
const DELETE_RANGE: u8 = 2;

const WHAT: &str = "the store's journal";

/// Makes a generation.
pub(super) fn new_generation() -> Result<Generation, StoreError> {
    let mut generation = [0; 16];
    getrandom::fill(&mut generation).map_err(|error| StoreError::Io(io::Error::other(error.to_string())))?;
    Ok(generation)
}

/// What one transaction did to rows, each key once.
#[derive(Debug)]
pub(super) struct Record {
    /// Room for the header, then the rows.
    bytes: Vec<u8>,
}

impl Record {
    /// Makes the record of a delta; `None` if that would be too long.
    pub(super) fn of(delta: &Delta) -> Option<Self> {
        let mut bytes = vec![0; HEADER_BYTES];
        for (table, key, value) in delta.iter() {
            // Two bytes before the parts, and at most ten for each length.
            let most = key.len().saturating_add(value.map_or(0, <[u8]>::len)).saturating_add(22);
            if bytes.len().saturating_add(most) > JOURNAL_RECORD_BYTES_MAX {
                return None;
            }
            let what = if value.is_some() { PUT } else { DELETE };
            bytes.extend([what, table as u8]);
            [Some(key), value].into_iter().flatten().for_each(|part| put_bytes(&mut bytes, part));
        }
        Some(Self { bytes })
    }

    /// Writes the header, now that all rows are there.
    fn seal(&mut self, generation: Generation, number: u32) -> &[u8] {
        let length = u32::try_from(self.bytes.len() - HEADER_BYTES).unwrap_or(u32::MAX);
        self.bytes[4..8].copy_from_slice(&length.to_le_bytes());
        self.bytes[8..12].copy_from_slice(&number.to_le_bytes());
        self.bytes[12..HEADER_BYTES].copy_from_slice(&generation);
        let checksum = checksum_of(&self.bytes[4..]);
        self.bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        &self.bytes
    }
}

const _: () = assert!(JOURNAL_RECORD_BYTES_MAX <= JOURNAL_BYTES_MAX && JOURNAL_BYTES_MAX <= u32::MAX as usize);

fn checksum_of(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Does what the rows of a record say.
fn apply(rows: &[u8], tx: &mut dyn WriteTx) -> Result<(), StoreError> {
    let mut reader = Reader::new(rows, WHAT);
    while !reader.is_at_end() {
        let (what, number) = (reader.byte()?, usize::from(reader.byte()?));
        let table = *Table::ALL.get(number).ok_or_else(|| reader.damaged())?;
        let key = reader.bytes()?;
        match what {
            PUT => tx.put(table, key, reader.bytes()?)?,
            DELETE => tx.delete(table, key)?,
            DELETE_RANGE => tx.delete_range(table, key..reader.bytes()?)?,
            _ => return Err(reader.damaged()),
        }
    }
    Ok(())
}

/// Returns the rows of the record at the beginning of some bytes, if it is whole, and which number it has.
fn open_record<'j>(bytes: &'j [u8], generation: &Generation) -> Option<(u32, &'j [u8])> {
    let mut header = Reader::new(bytes.get(..HEADER_BYTES)?, WHAT);
    let [checksum, length, number] =
        [header.array().ok()?, header.array().ok()?, header.array().ok()?].map(u32::from_le_bytes);
    let end = HEADER_BYTES.checked_add(usize::try_from(length).ok()?)?;
    let rows = bytes.get(HEADER_BYTES..end)?;
    (header.rest() == generation && checksum_of(&bytes[4..end]) == checksum).then_some((number, rows))
}

/// Returns the rows of all records of a generation, in their order.
fn records<'j>(bytes: &'j [u8], generation: &Generation) -> Result<Vec<&'j [u8]>, StoreError> {
    let (mut all, mut at) = (Vec::new(), 0);
    while let Some((number, rows)) = bytes.get(at..).and_then(|rest| open_record(rest, generation)) {
        if u32::try_from(all.len()) != Ok(number) {
            break;
        }
        all.push(rows);
        at += HEADER_BYTES + rows.len();
    }
    // A record is written when the one before it is on the disk. So if a later one is there, this one was.
    let rest = bytes.get(at..).unwrap_or_default();
    let later =
        rest.windows(generation.len()).enumerate().filter(|(_, found)| *found == generation).any(|(found, _)| {
            let start = (found + generation.len()).checked_sub(HEADER_BYTES);
            let record = start.and_then(|start| open_record(&rest[start..], generation));
            record.is_some_and(|(number, _)| number as usize > all.len())
        });
    if later { Err(StoreError::Damaged { what: WHAT }) } else { Ok(all) }
}

/// Where the records are.
enum Place {
    /// Beside the store's file; made when it is first written to, for those who may read the store.
    File {
        path: PathBuf,
        store: PathBuf,
    },
    Backend(Box<dyn StorageBackend>),
}

/// What of the file counts.
#[derive(Debug, Clone, Copy)]
struct Written {
    generation: Generation,
    /// The number of the next record.
    number: u32,
    /// Where it goes.
    end: usize,
}

/// The journal of a store that is open.
pub(super) struct Journal {
    place: Place,
    /// The file of [`Place::File`] while it is open for writing.
    file: Option<FileBackend>,
    /// What was written since the last checkpoint of this process, if there was one.
    written: Option<Written>,
    /// A record may be appended: nothing failed since the last checkpoint.
    is_ready: bool,
    /// How long the file is: behind its end, space would have to be found for each record.
    length: usize,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("written", &self.written).field("is_ready", &self.is_ready).finish()
    }
}

impl Journal {
    /// Takes the file beside a store's.
    pub(super) fn beside(store: &Path) -> Self {
        Self::new(Place::File { path: with_suffix(store, SUFFIX), store: store.to_owned() })
    }

    pub(super) fn in_backend(backend: impl StorageBackend) -> Self {
        Self::new(Place::Backend(Box::new(backend)))
    }

    fn new(place: Place) -> Self {
        Self { place, file: None, written: None, is_ready: false, length: 0 }
    }

    /// Says whether the next transaction may be written here.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Says whether the database on the disk lacks something that is here, or may stand here: the last record may be on the disk
    /// although it failed.
    pub(super) fn has_records(&self) -> bool {
        self.written.is_some_and(|written| written.number > 0 || !self.is_ready)
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Does everything again that was written since a database of this generation reached the disk. Says whether that was anything.
    pub(super) fn replay(&self, generation: &Generation, tx: &mut dyn WriteTx) -> Result<bool, StoreError> {
        // What this process wrote and could not finish does not count, and is not looked at.
        let known = self.written.filter(|written| written.generation == *generation);
        let bytes = self.read(known.map_or(JOURNAL_BYTES_MAX, |written| written.end)).map_err(error::io_error)?;
        let all = records(&bytes, generation)?;
        if known.is_some_and(|written| written.number as usize != all.len()) {
            return Err(StoreError::Damaged { what: WHAT });
        }
        all.iter().try_for_each(|rows| apply(rows, tx))?;
        Ok(!all.is_empty())
    }

    fn read(&self, most: usize) -> io::Result<Vec<u8>> {
        let opened;
        let backend: &dyn StorageBackend = match (&self.place, &self.file) {
            (Place::Backend(backend), _) => &**backend,
            (Place::File { .. }, Some(file)) => file,
            (Place::File { path, .. }, None) => match fs::File::open(path) {
                Ok(file) => {
                    opened = FileBackend::new(file).map_err(io::Error::other)?;
                    &opened
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            },
        };
        let mut bytes = vec![0; usize::try_from(backend.len()?).unwrap_or(usize::MAX).min(most)];
        backend.read(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Appends a record and brings it to the disk. `false` if there is no room for it, and then nothing happened.
    ///
    /// It counts when [`Journal::advance`] is called.
    pub(super) fn append(&mut self, record: &mut Record) -> Result<bool, StoreError> {
        let Some(written) = self.written.filter(|_| self.is_ready) else { return Ok(false) };
        let end = written.end + record.bytes.len();
        if end > JOURNAL_BYTES_MAX || !self.make_room(end) {
            return Ok(false);
        }
        let bytes = record.seal(written.generation, written.number);
        let outcome = self.backend().and_then(|backend| {
            backend.write(written.end as u64, bytes)?;
            backend.sync_data()
        });
        // After an error nobody knows what is on the disk.
        outcome.inspect_err(|_| self.is_ready = false).map_err(error::io_error)?;
        Ok(true)
    }

    /// Counts the record that was appended last, which is visible now.
    pub(super) fn advance(&mut self, record: &Record) {
        if let Some(written) = &mut self.written {
            written.end += record.bytes.len();
            written.number += 1;
        }
    }

    /// Appends nothing more until the next checkpoint.
    pub(super) fn pause(&mut self) {
        self.is_ready = false;
    }

    /// Begins anew: the database is on the disk, and holds this generation.
    pub(super) fn begin(&mut self, generation: Generation) {
        self.written = Some(Written { generation, number: 0, end: 0 });
        self.is_ready = true;
    }

    /// Makes the file long enough. One that cannot grow is no misfortune: a checkpoint needs no room in it.
    fn make_room(&mut self, end: usize) -> bool {
        if end <= self.length {
            return true;
        }
        let from = self.length;
        let to = end.next_multiple_of(JOURNAL_STEP_BYTES).min(JOURNAL_BYTES_MAX);
        let grown = self.backend().and_then(|backend| {
            backend.set_len(to as u64)?;
            // Space that is only promised is found when it is written to, and noted by the next sync.
            backend.write(from as u64, &vec![0; to - from])
        });
        match grown {
            Ok(()) => self.length = to,
            Err(error) => tracing::warn!(%error, "the store's journal cannot grow: writes are slower without it"),
        }
        end <= self.length
    }

    fn backend(&mut self) -> io::Result<&dyn StorageBackend> {
        match (&self.place, &mut self.file) {
            (Place::Backend(backend), _) => Ok(&**backend),
            (Place::File { .. }, Some(file)) => Ok(file),
            (Place::File { path, store }, none) => {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create(true).truncate(true);
                // Nobody else's until it has the rights of the store.
                #[cfg(unix)]
                options.mode(0o600);
                let file = options.open(path)?;
                file.set_permissions(fs::metadata(store)?.permissions())?;
                create::sync_directory(path).map_err(io::Error::other)?;
                Ok(none.insert(FileBackend::new(file).map_err(io::Error::other)?))
            }
        }
    }

    /// Leaves nothing of it. Only for a database that needs none of it any more; what cannot be removed counts for nothing.
    pub(super) fn discard(&mut self) {
        (self.written, self.is_ready, self.length, self.file) = (None, false, 0, None);
        let outcome = match &self.place {
            Place::Backend(backend) => backend.set_len(0).and_then(|()| backend.sync_data()),
            Place::File { path, .. } => match fs::remove_file(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                outcome => outcome,
            },
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "failed to remove the store's journal, which is not needed any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::JOURNAL_MEMORY_BYTES_MAX;
    use crate::store::{MemoryStore, RedbOptions, RedbStore, Store, StoreExt};

    #[test]
    fn rows_of_a_journal_of_before_may_delete_a_range() {
        let store = MemoryStore::new();
        store
            .write_with(|tx| {
                (0..9_u8).try_for_each(|key| tx.put(Table::Node, &[key], b"value"))?;
                let mut rows = vec![DELETE, Table::Node as u8];
                put_bytes(&mut rows, &[7]);
                rows.extend([DELETE_RANGE, Table::Node as u8]);
                [[2], [6]].iter().for_each(|bound| put_bytes(&mut rows, bound));
                apply(&rows, tx)
            })
            .expect("memory does not fail");
        let tx = store.read().expect("memory does not fail");
        let left = (0..9_u8).filter(|key| tx.contains(Table::Node, &[*key]).expect("memory does not fail"));
        assert_eq!(left.collect::<Vec<_>>(), [0, 1, 6, 8]);
    }

    #[test]
    fn rows_that_take_more_memory_than_room_in_the_journal_are_bounded_too() -> Result<(), StoreError> {
        let memory = redb::backends::InMemoryBackend::new;
        let store = RedbStore::open_backends(memory(), memory(), RedbOptions::new().journal(true))?;
        let (mut most, mut checkpoints, mut before) = (0, 0, 0);
        for round in 0..80_u32 {
            store.write_with(|tx| {
                (0..2_000).try_for_each(|number| tx.put(Table::Member, &(round * 2_000 + number).to_be_bytes(), &[]))
            })?;
            let bytes = store.opened.read().expect("nothing panicked").visible().layers.bytes();
            checkpoints += u32::from(bytes < before);
            (most, before) = (most.max(bytes), bytes);
        }
        assert!((JOURNAL_MEMORY_BYTES_MAX - 200_000..=JOURNAL_MEMORY_BYTES_MAX).contains(&most), "{most}");
        assert_eq!(checkpoints, 1, "the journal alone would have room for more");
        let (tx, mut rows) = (store.read()?, 0);
        tx.scan(Table::Member, &[]..&[u8::MAX], &mut |_, _| {
            rows += 1;
            std::ops::ControlFlow::Continue(())
        })?;
        assert_eq!(rows, 160_000);
        Ok(())
    }
}
