//! Backing a store up while it is used.
//!
//! The copy is made of one read transaction's view, row by row, so it is what stood in the store at one moment, whatever
//! is written meanwhile. It is written under a temporary name and gets its own only when it is whole and on the disk.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::{Progress, require_format};
use crate::id::StorageId;
use crate::ledger::log;
use crate::store::batches::batches;
use crate::store::{ReadTx, RedbOptions, RedbStore, Store, StoreError, StoreExt, Table, put_storage_id};

/// What is added to a backup's file name while it is made.
const TEMPORARY_SUFFIX: &str = ".rejoin-backup";

/// Which storage id the copy gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyId {
    /// A new one, of these random bytes: right for nearly every backup. A peer remembers what it shares with a storage
    /// id; a copy that is put into use later has less, and must not be taken for the one it was made of.
    New([u8; 16]),
    /// The same: for a store that moves, and whose original is never used again.
    Same,
}

/// How a backup is made.
#[derive(Debug, Clone)]
#[must_use]
pub struct BackupOptions {
    id: CopyId,
}

impl BackupOptions {
    /// Makes a copy that gets this storage id.
    pub fn new(id: CopyId) -> Self {
        Self { id }
    }
}

/// What was backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackedUp {
    /// How many rows.
    pub rows: u64,
    /// How many bytes of keys and values.
    pub bytes: u64,
}

/// Why there is no backup. Nothing stands under its name then, or what stood there before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// Something stands there already.
    #[error("failed to back up to {}: it exists already, and is not overwritten", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// Another backup is being made to the same place.
    #[error("failed to back up to {}: another backup to it is under way", path.display())]
    Busy {
        /// Where.
        path: PathBuf,
    },
    /// The copy cannot be written.
    #[error("failed to back up to {}: {source}; check the free space and who may write there", path.display())]
    Target {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        source: StoreError,
    },
    /// The store cannot be read.
    #[error("failed to read the store that is backed up: {0}")]
    Source(StoreError),
}

/// Copies what is in a store into a new file. Writers go on, but pages that they free are kept until it is done, so a
/// busy store's file grows by what is written meanwhile.
///
/// `progress` is called after each [`BACKUP_BATCH_BYTES`](crate::limits::BACKUP_BATCH_BYTES). Cost: reads everything
/// once, and writes it once. To restore, put the file in the place of the store's, while no process has that open.
///
/// # Errors
///
/// [`BackupError`]; what was written of the copy is removed then.
pub fn backup(
    store: &dyn Store,
    into: impl AsRef<Path>,
    options: &BackupOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<BackedUp, BackupError> {
    let target = Target::new(into.as_ref())?;
    let outcome = target.fill(store, options, progress);
    match outcome {
        Ok(copied) => target.finish().map(|()| copied),
        Err(error) => {
            // The error is what matters; a leftover is removed by the next backup to this place.
            let _ = fs::remove_file(&target.temporary);
            Err(error)
        }
    }
}

/// The file that is made.
struct Target {
    path: PathBuf,
    temporary: PathBuf,
}

impl Target {
    fn new(path: &Path) -> Result<Self, BackupError> {
        let mut name = path.as_os_str().to_owned();
        name.push(TEMPORARY_SUFFIX);
        let target = Self { path: path.to_owned(), temporary: PathBuf::from(name) };
        target.refuse_existing()?;
        target.remove_leftover()?;
        Ok(target)
    }

    fn refuse_existing(&self) -> Result<(), BackupError> {
        match fs::symlink_metadata(&self.path) {
            Ok(_) => Err(BackupError::Exists { path: self.path.clone() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.error(error.into())),
        }
    }

    /// Removes what a backup left that was killed. One that is under way holds its lock.
    fn remove_leftover(&self) -> Result<(), BackupError> {
        let file = match OpenOptions::new().read(true).write(true).open(&self.temporary) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.error(error.into())),
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(BackupError::Busy { path: self.path.clone() }),
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        fs::remove_file(&self.temporary).map_err(|error| self.error(error.into()))
    }

    fn fill(
        &self,
        store: &dyn Store,
        options: &BackupOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<BackedUp, BackupError> {
        let view = store.read().map_err(BackupError::Source)?;
        require_format(view.as_ref()).map_err(BackupError::Source)?;
        let copy = RedbStore::open(&self.temporary, RedbOptions::new()).map_err(|error| match error {
            StoreError::Locked { .. } => BackupError::Busy { path: self.path.clone() },
            error => self.error(error),
        })?;
        let mut done = Progress::default();
        for table in Table::ALL {
            self.copy_table(view.as_ref(), &copy, table, &mut done, progress)?;
        }
        let made_its_own = copy.write_with(|tx| {
            // What the original logs from now on is lacking here: no cursor into its log holds for this one, not even if it
            // comes back in the original's place.
            log::forget_epoch(tx)?;
            match options.id {
                CopyId::New(random) => put_storage_id(tx, &StorageId::from_random_bytes(random)),
                _ => Ok(()),
            }
        });
        made_its_own.map_err(|error| self.error(error))?;
        Ok(BackedUp { rows: done.rows, bytes: done.bytes })
    }

    fn copy_table(
        &self,
        view: &dyn ReadTx,
        copy: &RedbStore,
        table: Table,
        done: &mut Progress,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), BackupError> {
        for batch in batches(view, table) {
            let batch = batch.map_err(BackupError::Source)?;
            copy.write_with(|tx| batch.put(tx, table)).map_err(|error| self.error(error))?;
            let rows = batch.rows.len() as u64;
            done.rows += rows;
            done.bytes += batch.bytes as u64;
            done.documents += if table == Table::Document { rows } else { 0 };
            progress(*done);
        }
        Ok(())
    }

    /// Syncs the copy, gives it its name, and syncs that.
    fn finish(&self) -> Result<(), BackupError> {
        let finished = File::open(&self.temporary).and_then(|file| file.sync_all());
        finished.map_err(|error| self.error(error.into()))?;
        // A link, unlike a rename, does not replace what has come to stand there meanwhile.
        match fs::hard_link(&self.temporary, &self.path) {
            Ok(()) => drop(fs::remove_file(&self.temporary)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let _ = fs::remove_file(&self.temporary);
                return Err(BackupError::Exists { path: self.path.clone() });
            }
            // Some file systems have no links.
            Err(_) => {
                self.refuse_existing()?;
                fs::rename(&self.temporary, &self.path).map_err(|error| self.error(error.into()))?;
            }
        }
        if cfg!(unix) {
            let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let synced = File::open(parent.unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all());
            synced.map_err(|error| self.error(error.into()))?;
        }
        Ok(())
    }

    fn error(&self, source: StoreError) -> BackupError {
        BackupError::Target { path: self.path.clone(), source }
    }
}
