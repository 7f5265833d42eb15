//! Disks in memory: one that can be told to fail, and one whose power can be cut.

mod files;
mod power;

pub use files::{CutFiles, Images};
pub use power::{Chance, CutDisk, Kept};

use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

/// How a disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No space is left, not even for what is written over, as on a file system that never writes in place.
    Full,
    /// It was mounted read-only: every write and sync fails.
    ReadOnly,
    /// It answers with errors of input and output: every write and sync fails.
    Broken,
}

impl Failure {
    fn error(self) -> io::Error {
        match self {
            Self::Full => io::ErrorKind::StorageFull.into(),
            Self::ReadOnly => io::ErrorKind::ReadOnlyFilesystem.into(),
            Self::Broken => io::Error::other("the disk failed"),
        }
    }
}

/// A file on a disk in memory. Clones are the same file.
#[derive(Debug, Clone, Default)]
pub struct FailingDisk {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Which failure comes after how many more written bytes, whichever file they are written to.
    failure: Arc<Mutex<Option<(u64, Failure)>>>,
}

impl FailingDisk {
    /// Makes an empty disk that does not fail.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes another file on the same disk.
    pub fn beside(&self) -> Self {
        Self { bytes: Arc::default(), failure: Arc::clone(&self.failure) }
    }

    /// Fails after this many more bytes were written, until [`FailingDisk::heal`].
    pub fn fail_after(&self, bytes: u64, failure: Failure) {
        *self.failure.lock().unwrap() = Some((bytes, failure));
    }

    /// Fails no more.
    pub fn heal(&self) {
        *self.failure.lock().unwrap() = None;
    }

    fn spend(&self, bytes: usize) -> io::Result<()> {
        let mut failure = self.failure.lock().unwrap();
        let Some((left, failure)) = &mut *failure else { return Ok(()) };
        match left.checked_sub(bytes as u64) {
            Some(rest) => {
                *left = rest;
                Ok(())
            }
            None => {
                *left = 0;
                Err(failure.error())
            }
        }
    }
}

impl StorageBackend for FailingDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = self.bytes.lock().unwrap();
        let found = start.checked_add(out.len()).and_then(|end| bytes.get(start..end));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.spend(0)?;
        self.bytes.lock().unwrap().resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        match *self.failure.lock().unwrap() {
            Some((0, failure)) => Err(failure.error()),
            _ => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        self.spend(data.len())?;
        let mut bytes = self.bytes.lock().unwrap();
        let end = start + data.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(data);
        Ok(())
    }
}
