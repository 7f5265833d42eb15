//! What keeps the bytes, for the databases that are opened on it one after the other.
//!
//! redb takes its backend for itself, and gives it up for good at the first failed operation. So redb gets a handle, and
//! the [`Source`] behind it stays: with its locks, so that nobody comes in between, and with the memory of what was
//! written and not synced.
//!
//! A store that cannot be written must go on being read. redb cannot open a file without writing to it once a commit was
//! cut short, so it gets an [`Overlay`]: it recovers into memory, and the file stays as it is.
//!
//! What an operating system shows after a failed sync may be gone after a power loss. So an overlay begins with the header
//! that the disk is known to have, and a commit that is in doubt does not show: else a relay would tell its clients that
//! it has what it may lose. Only the header matters, because redb never writes over a page that the header leads to.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

type LockRange = (Bound<u64>, Bound<u64>);

/// Where the bytes are.
pub(super) struct Source {
    backend: Box<dyn StorageBackend>,
    writable: bool,
    /// What redb has locked; given back when the source is dropped.
    locked: Mutex<HashSet<LockRange>>,
    /// What was written since the last sync that went well.
    unsynced: Mutex<Vec<Range<u64>>>,
    /// The header as it was at that sync, if it was written over since.
    synced_header: Mutex<Option<Vec<u8>>>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("backend", &self.backend).field("writable", &self.writable).finish()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Err(error) = self.backend.close() {
            tracing::warn!(%error, "failed to close the store's file");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each of them is whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds all of redb's header, which has 320 bytes.
const HEADER_BYTES: u64 = 512;

/// How much of the source is copied at once when it is written again.
const REWRITE_BYTES: u64 = 1 << 20;

impl Source {
    pub(super) fn new(backend: impl StorageBackend, writable: bool) -> Arc<Self> {
        let (locked, unsynced, synced_header) = Default::default();
        Arc::new(Self { backend: Box::new(backend), writable, locked, unsynced, synced_header })
    }

    pub(super) fn is_writable(&self) -> bool {
        self.writable
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    /// Writes once more what was written since the last good sync, and syncs it.
    ///
    /// It shows whether the disk takes writes again. And after a failed sync an operating system may hold that what it
    /// could not write is written: only writing it again brings it to the disk.
    pub(super) fn rewrite_unsynced(&self) -> io::Result<()> {
        let ranges = std::mem::take(&mut *lock(&self.unsynced));
        let outcome = ranges.iter().try_for_each(|range| self.rewrite(range)).and_then(|()| self.sync());
        if outcome.is_err() {
            lock(&self.unsynced).extend(ranges);
        }
        outcome
    }

    fn sync(&self) -> io::Result<()> {
        self.backend.sync_data()?;
        *lock(&self.synced_header) = None;
        Ok(())
    }

    /// Keeps the header that the disk is known to have before it is written over. Cost: a small read after each sync.
    fn keep_header(&self) -> io::Result<()> {
        let mut kept = lock(&self.synced_header);
        if kept.is_none() {
            let length = self.backend.len()?.min(HEADER_BYTES);
            let mut header = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            self.backend.read(0, &mut header)?;
            *kept = Some(header);
        }
        Ok(())
    }

    fn rewrite(&self, range: &Range<u64>) -> io::Result<()> {
        let end = range.end.min(self.backend.len()?);
        let mut at = range.start;
        while at < end {
            let length = (end - at).min(REWRITE_BYTES);
            let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            self.backend.read(at, &mut bytes)?;
            self.backend.write(at, &bytes)?;
            at += length;
        }
        Ok(())
    }

    fn note_written(&self, range: Range<u64>) {
        let mut unsynced = lock(&self.unsynced);
        match unsynced.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => unsynced.push(range),
        }
    }

    /// Locks a range, unless a database before this one has done so. A file that is only read is shared with other
    /// readers.
    fn try_lock(&self, range: LockRange) -> Result<bool, BackendError> {
        if lock(&self.locked).contains(&range) {
            return Ok(true);
        }
        let acquired = if self.writable {
            self.backend.try_lock_range(range.0, range.1)?
        } else {
            self.backend.try_lock_shared_range(range.0, range.1)?
        };
        if acquired {
            lock(&self.locked).insert(range);
        }
        Ok(acquired)
    }
}

/// redb's handle to a source that it writes to.
#[derive(Debug)]
pub(super) struct Direct(pub(super) Arc<Source>);

impl StorageBackend for Direct {
    fn len(&self) -> io::Result<u64> {
        self.0.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.backend.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let pending = std::mem::take(&mut *lock(&self.0.unsynced));
        self.0.sync().inspect_err(|_| lock(&self.0.unsynced).extend(pending))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset < HEADER_BYTES {
            self.0.keep_header()?;
        }
        self.0.note_written(offset..offset.saturating_add(data.len() as u64));
        self.0.backend.write(offset, data)
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock((start, end))
    }

    fn unlock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<(), BackendError> {
        // The source keeps its locks for the next database.
        Ok(())
    }
}

/// The unit in which an overlay keeps what was written.
const BLOCK_BYTES: usize = 4_096;

/// redb's handle to a source that cannot be written: what redb writes stays in memory, and is gone with the handle.
#[derive(Debug)]
pub(super) struct Overlay {
    source: Arc<Source>,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// How much of the source still shows: it was cut to this at some time.
    shown: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    pub(super) fn new(source: Arc<Source>) -> io::Result<Self> {
        let len = source.len()?;
        let header = lock(&source.synced_header).clone();
        let overlay = Self { source, written: Mutex::new(Written { len, shown: len, blocks: BTreeMap::new() }) };
        overlay.write(0, &header.unwrap_or_default())?;
        Ok(overlay)
    }
}

/// Splits a range of bytes into parts of one block each: the block, where in it, and where in the range.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let inside = usize::try_from(at % BLOCK_BYTES as u64).unwrap_or(0);
        let count = (BLOCK_BYTES - inside).min(length - done);
        let part = (at / BLOCK_BYTES as u64, inside..inside + count, done..done + count);
        done += count;
        (count > 0).then_some(part)
    })
}

impl Written {
    /// Reads a part of one block, from the source where nothing was written over it.
    fn read(&self, source: &Source, block: u64, inside: Range<usize>, out: &mut [u8]) -> io::Result<()> {
        if let Some(bytes) = self.blocks.get(&block) {
            out.copy_from_slice(&bytes[inside]);
            return Ok(());
        }
        let at = block * BLOCK_BYTES as u64 + inside.start as u64;
        let there = usize::try_from(self.shown.saturating_sub(at)).unwrap_or(usize::MAX).min(out.len());
        let (there, beyond) = out.split_at_mut(there);
        beyond.fill(0);
        if there.is_empty() { Ok(()) } else { source.backend.read(at, there) }
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.written).len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = lock(&self.written);
        if offset.saturating_add(out.len() as u64) > written.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        parts(offset, out.len())
            .try_for_each(|(block, inside, of)| written.read(&self.source, block, inside, &mut out[of]))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = lock(&self.written);
        if len < written.len {
            written.shown = written.shown.min(len);
            written.blocks.split_off(&len.div_ceil(BLOCK_BYTES as u64));
            let inside = usize::try_from(len % BLOCK_BYTES as u64).unwrap_or(0);
            if let Some(last) = written.blocks.get_mut(&(len / BLOCK_BYTES as u64)) {
                last[inside..].fill(0);
            }
        }
        written.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = lock(&self.written);
        for (block, inside, of) in parts(offset, data.len()) {
            if !written.blocks.contains_key(&block) {
                let mut bytes = vec![0; BLOCK_BYTES];
                written.read(&self.source, block, 0..BLOCK_BYTES, &mut bytes)?;
                written.blocks.insert(block, bytes.into());
            }
            if let Some(bytes) = written.blocks.get_mut(&block) {
                bytes[inside].copy_from_slice(&data[of]);
            }
        }
        written.len = written.len.max(offset.saturating_add(data.len() as u64));
        Ok(())
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.source.try_lock((start, end))
    }

    fn unlock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    /// An overlay behaves as a copy of its source would, and the source never changes.
    #[test]
    fn overlay_is_a_copy_that_costs_what_is_written() -> io::Result<()> {
        let memory = InMemoryBackend::new();
        let bytes: Vec<u8> = (0..20_000_u32).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
        memory.set_len(20_000)?;
        memory.write(0, &bytes)?;
        let source = Source::new(memory, true);
        let overlay = Overlay::new(Arc::clone(&source))?;
        let mut copy = bytes.clone();
        let mut seed = 7_u64;
        let mut dice = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for round in 0..2_000_u64 {
            if round % 50 == 49 {
                let len = 10_000 + dice(20_000);
                overlay.set_len(len)?;
                copy.resize(usize::try_from(len).unwrap_or(0), 0);
            }
            let at = dice(copy.len() as u64);
            let length = usize::try_from(dice(9_000).min(copy.len() as u64 - at)).unwrap_or(0);
            let here = usize::try_from(at).unwrap_or(0)..usize::try_from(at).unwrap_or(0) + length;
            if round % 3 == 0 {
                let data = vec![round.to_le_bytes()[0]; length];
                overlay.write(at, &data)?;
                copy[here.clone()].copy_from_slice(&data);
            }
            let mut out = vec![1; length];
            overlay.read(at, &mut out)?;
            assert!(out == copy[here], "round {round}");
        }
        assert!(overlay.read(copy.len() as u64, &mut [0]).is_err());
        let mut still = vec![0; 20_000];
        source.backend.read(0, &mut still)?;
        assert!(still == bytes);
        Ok(())
    }
}
