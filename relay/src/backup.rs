//! Backups of a relay that runs, and restoring them anywhere.
//!
//! ```text
//! full       DIR/manifest.json   what it is, how far each log was, what must be there when it is restored
//!            DIR/rows-00000.rjn  rows, in frames with checksums (rejoin::care::archive), 256 MiB each at most
//! since      the same, with what came after the log positions of the manifest before it
//! ```
//!
//! [`online`] reads one moment of the store, whatever is written meanwhile, and writes a directory that gets its name when it is whole
//! and on the disk. [`restore`] takes a full backup and those that follow it, checks every byte of them first, and makes a store
//! with an epoch of its own, so that everybody who followed the original compares. [`check`] looks whether backups could be
//! restored, [`rehearse`] restores them into a directory that is deleted again and checks every change.
//!
//! [`export_space`], [`import_space`] and [`delete_space`] do the like with one space.
//!
//! Everything here blocks; a server calls it beside its runtime's threads.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rejoin::SpaceId;
use rejoin::care::{self, DumpError, Standpoint};
use rejoin::store::{Store, StoreError, Table};

use crate::clock::now_seconds;
use crate::config::BackupConfig;
use crate::limits::{BACKUP_DURATION_MAX, BACKUP_FILE_BYTES};

pub mod command;
mod manifest;
mod restore;
mod space;
mod target;

pub use manifest::{MANIFEST_FILE, Manifest, ManifestError, PartFile};
pub use restore::{RestoreError, RestoreOptions, RestoreProgress, Restored, Step, check, rehearse, restore};
pub use space::{
    Deleted, Exported, Imported, RefusedDocument, SpaceError, SpaceProgress, WhyRefused, delete_space, export_space,
    import_space,
};

use target::{Parts, Target};

/// How far a backup has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Rows that are done.
    pub rows: u64,
    /// Their bytes, as they stand in the store.
    pub bytes: u64,
    /// The bytes that were written.
    pub stored_bytes: u64,
    /// About which part is done, from 0 to 1.
    pub fraction: f64,
    /// For how long the store has been read. What is freed in it meanwhile is not used again before the backup ends.
    pub age: Duration,
}

/// How an online backup is made.
#[derive(Debug, Clone, Copy)]
pub struct OnlineOptions {
    /// After how long it is given up. Default: [`BACKUP_DURATION_MAX`], an hour.
    pub duration_max: Duration,
    /// How many bytes of rows are read in a second at most. Default: as many as the disks allow.
    pub bytes_per_second: Option<NonZeroU64>,
    /// After how many bytes the next file is begun. Default: [`BACKUP_FILE_BYTES`], 256 MiB.
    pub file_bytes: u64,
}

impl Default for OnlineOptions {
    fn default() -> Self {
        Self { duration_max: BACKUP_DURATION_MAX, bytes_per_second: None, file_bytes: BACKUP_FILE_BYTES }
    }
}

impl OnlineOptions {
    /// As it is configured.
    pub fn of(config: &BackupConfig) -> Self {
        let BackupConfig { bytes_per_second, duration_max_seconds } = *config;
        let bytes_per_second = NonZeroU64::new(bytes_per_second.into());
        Self { duration_max: duration_max_seconds, bytes_per_second, ..Self::default() }
    }
}

/// Why there is no backup. Nothing stands under its name then. The text completes "failed to back up: ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// Something stands there already.
    #[error("{} exists already, and is not overwritten", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// Another backup is being made to the same place.
    #[error("another backup to {} is under way", path.display())]
    Busy {
        /// Where.
        path: PathBuf,
    },
    /// The files cannot be written.
    #[error("{} cannot be written: {source}; check the free space and who may write there", path.display())]
    Target {
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The store cannot be read.
    #[error("the store cannot be read: {0}")]
    Source(#[from] DumpError),
    /// The earlier backup is not of this log.
    #[error("the earlier backup is of another store, or of a log before this one's epoch: make a full backup")]
    OtherLog,
    /// The caller gave it up.
    #[error("it was given up")]
    Cancelled,
    /// It took too long.
    #[error("it took longer than {} s, for which the store keeps what is freed: allow more, or make it faster", limit.as_secs())]
    TooLong {
        /// How long it might take.
        limit: Duration,
    },
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes: {0}")]
    Entropy(getrandom::Error),
}

impl From<StoreError> for BackupError {
    fn from(error: StoreError) -> Self {
        Self::Source(error.into())
    }
}

/// Backs a store up into a new directory while it is used, with every default: all of it, or what came `since` an earlier backup.
///
/// # Errors
///
/// As [`online_with`].
pub fn online(
    store: &dyn Store,
    to: &Path,
    since: Option<&Manifest>,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Manifest, BackupError> {
    online_with(store, to, since, &OnlineOptions::default(), progress)
}

/// Backs a store up into a new directory while it is used.
///
/// It is of one moment. Writers go on; pages that they free are kept until it is done, so a busy store's file grows by what is
/// written meanwhile. `progress` is called after each MiB of rows, and may give the backup up. Memory: some MiB.
///
/// # Errors
///
/// [`BackupError`]; what was written is removed then.
pub fn online_with(
    store: &dyn Store,
    to: &Path,
    since: Option<&Manifest>,
    options: &OnlineOptions,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Manifest, BackupError> {
    let begun = Instant::now();
    let view = store.read()?;
    let stands = care::standpoint(view.as_ref())?;
    let ends = since.map(|since| since.follow(&stands).ok_or(BackupError::OtherLog)).transpose()?;
    let id = random().map_err(BackupError::Entropy)?;
    let target = Target::new(to)?;
    let parts = Parts::new(&target, id, options.file_bytes);
    let mut meter = Meter::new(&stands, ends.as_ref());
    let mut copying = Copying { parts, options, begun, failed: None };
    let dumped = care::dump(view.as_ref(), ends.as_ref(), &mut |table, key, value| {
        meter.count(table, key);
        copying.row(table, key, value, &meter, progress)
    });
    drop(view);
    let flow = dumped?;
    if let Some(error) = copying.failed {
        return Err(error);
    }
    if flow.is_break() {
        return Err(BackupError::Cancelled);
    }
    let done = copying.parts.finish()?;
    let manifest = Manifest::of(id, since, &stands, now_seconds(), done);
    target.publish(&manifest)?;
    let (rows, bytes) = (manifest.rows, manifest.bytes);
    let stored_bytes = manifest.files.iter().map(|file| file.bytes).sum();
    // It is there already: nothing can give it up any more.
    let _ = progress(Progress { rows, bytes, stored_bytes, fraction: 1.0, age: begun.elapsed() });
    Ok(manifest)
}

/// Rows on their way into files.
struct Copying<'c> {
    parts: Parts<'c>,
    options: &'c OnlineOptions,
    begun: Instant,
    failed: Option<BackupError>,
}

impl Copying<'_> {
    fn row(
        &mut self,
        table: Table,
        key: &[u8],
        value: &[u8],
        meter: &Meter,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match self.parts.put(table.name(), key, value) {
            Ok(false) => return ControlFlow::Continue(()),
            Ok(true) => {}
            Err(error) => {
                self.failed = Some(error);
                return ControlFlow::Break(());
            }
        }
        let (rows, bytes, stored_bytes) = self.parts.counts();
        if let Some(rate) = self.options.bytes_per_second {
            let due = Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
            // Not beyond the end: then it is the duration that is too short.
            std::thread::sleep(due.saturating_sub(self.begun.elapsed()).min(self.options.duration_max));
        }
        let age = self.begun.elapsed();
        if age > self.options.duration_max {
            self.failed = Some(BackupError::TooLong { limit: self.options.duration_max });
            return ControlFlow::Break(());
        }
        progress(Progress { rows, bytes, stored_bytes, fraction: meter.fraction(), age })
    }
}

/// Counts what is done, in changes.
struct Meter {
    done: u64,
    all: u64,
    is_whole: bool,
    /// The last pack: whose, and its last position.
    pack: Option<([u8; 16], u64)>,
}

impl Meter {
    fn new(stands: &Standpoint, since: Option<&BTreeMap<SpaceId, u64>>) -> Self {
        let all = match since {
            // A change that is not packed has a row in three tables.
            None => 3 * (stands.changes - stands.packed.min(stands.changes)) + stands.packed,
            Some(since) => {
                stands.ends.iter().map(|(space, end)| end.saturating_sub(since.get(space).copied().unwrap_or(0))).sum()
            }
        };
        Self { done: 0, all, is_whole: since.is_none(), pack: None }
    }

    fn count(&mut self, table: Table, key: &[u8]) {
        self.done += match table {
            Table::Change => 1,
            Table::Node | Table::Hash if self.is_whole => 1,
            Table::Pack => self.packed(key).unwrap_or(0),
            _ => 0,
        };
    }

    /// Says how many changes a pack holds, by its place behind the one before it.
    fn packed(&mut self, key: &[u8]) -> Option<u64> {
        let document = *key.first_chunk::<16>()?;
        let last = u64::from_be_bytes(*key.get(16..)?.first_chunk::<8>()?);
        let before = self.pack.replace((document, last));
        let first = before.filter(|(of, _)| *of == document).map_or(0, |(_, before)| before.saturating_add(1));
        last.checked_sub(first)?.checked_add(1)
    }

    fn fraction(&self) -> f64 {
        (self.done as f64 / self.all.max(1) as f64).min(0.99)
    }
}

/// Returns random bytes of the operating system.
fn random() -> Result<[u8; 16], getrandom::Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map(|()| random)
}

/// Reads 16 bytes back from their digits.
fn unhex(text: &str) -> Option<[u8; 16]> {
    let digits = text.as_bytes();
    let mut out = [0; 16];
    if digits.len() != 32 {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests;
