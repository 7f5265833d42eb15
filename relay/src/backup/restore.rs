//! From backups to a store.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rejoin::care::archive::{ArchiveError, ArchiveReader, Purpose};
use rejoin::care::{self, LoadError, Loader, Report};
use rejoin::limits::ARCHIVE_FRAME_BYTES_MAX;
use rejoin::store::{RedbOptions, RedbStore, Store, StoreError, Table};
use rejoin::{Epoch, StorageId};

use super::target::{Hashing, sync_directory};
use super::{Manifest, ManifestError, PartFile, random, unhex};
use crate::clock::now_seconds;
use crate::limits::{BACKUP_CHAIN_MAX, STORE_CACHE_BYTES};
use crate::show::hex;
use crate::start::{STORE_FILE, make_private_directory};

/// What is added to the store's file name while it is restored.
const TEMPORARY_SUFFIX: &str = ".rejoin-restore";

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The backups' files are read and held against their hashes.
    Checking,
    /// The store is filled.
    Loading,
    /// Every change of the store is checked.
    Verifying,
}

/// How far restoring, or checking, has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RestoreProgress {
    /// What is being done.
    pub step: Step,
    /// How many bytes of files are done, or of changes while those are checked.
    pub bytes: u64,
    /// Which part of this step is done, from 0 to 1.
    pub fraction: f64,
}

/// Is told how far it is, and may give it up.
type Tell<'t> = dyn FnMut(RestoreProgress) -> ControlFlow<()> + 't;

/// How a store is restored.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreOptions {
    /// It keeps its storage id: for a relay that moves, and whose original is never started again. Default: a new one, because clients
    /// remember what they share with a storage id, and a restored store may have less.
    pub same_id: bool,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The manifest of the last backup: what the store has now.
    pub manifest: Manifest,
    /// How many backups were used.
    pub backups: usize,
    /// The store's new epoch.
    pub epoch: Epoch,
    /// Its storage id.
    pub storage: StorageId,
}

/// Why nothing was restored. What was written is removed, or by the next attempt. The text completes "failed to restore: ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// A manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The backups do not belong together.
    #[error("{} {reason}", path.display())]
    Chain {
        /// Which does not belong there.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A backup's file is not what was written.
    #[error("{} is damaged: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: ArchiveError,
    },
    /// A backup's file is sound in itself, and not the one that the manifest names.
    #[error("{} is not the file that the manifest names: {what}", path.display())]
    Other {
        /// Which.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// The rows do not make a store.
    #[error("the rows of {} do not fit: {source}", path.display())]
    Load {
        /// Of which file.
        path: PathBuf,
        /// Why.
        source: LoadError,
    },
    /// The store does not have what was backed up.
    #[error("the store is not what was backed up: {what}")]
    Different {
        /// What differs.
        what: String,
    },
    /// There is something already.
    #[error("{} is not empty: restore into a new directory", path.display())]
    NotEmpty {
        /// Where.
        path: PathBuf,
    },
    /// Another process restores there.
    #[error("{} is being restored by another process", path.display())]
    Busy {
        /// Where.
        path: PathBuf,
    },
    /// The store cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    Target {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: StoreError,
    },
    /// The caller gave it up.
    #[error("it was given up")]
    Cancelled,
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes: {0}")]
    Entropy(getrandom::Error),
}

/// Reads every byte of a full backup and of those that follow it, in their order, and says what they are. Writes nothing.
///
/// # Errors
///
/// [`RestoreError`] if they could not be restored.
pub fn check(chain: &[PathBuf], progress: &mut Tell<'_>) -> Result<Vec<Manifest>, RestoreError> {
    let manifests = manifests(chain)?;
    let mut reading = Reading::new(Step::Checking, &manifests, progress);
    for (path, manifest) in chain.iter().zip(&manifests) {
        for (number, file) in manifest.files.iter().enumerate() {
            reading.file(path, manifest, number, file, &mut |_, _, _| Ok(()))?;
        }
    }
    Ok(manifests)
}

/// Makes a relay's store of a full backup and those that follow it, in their order, in a directory that is empty or not there.
///
/// The backups are wholly checked before anything is written. The store gets its name when it is whole and on the disk. Cost: reads
/// everything twice; what came after the full backup goes through the gate once more.
///
/// # Errors
///
/// [`RestoreError`].
pub fn restore(
    chain: &[PathBuf],
    data: &Path,
    options: &RestoreOptions,
    progress: &mut Tell<'_>,
) -> Result<Restored, RestoreError> {
    let target = Target::prepare(data)?;
    let manifests = check(chain, progress)?;
    let restored = target.fill(chain, manifests, options, progress);
    match restored {
        Ok(restored) => target.finish().map(|()| restored),
        Err(error) => {
            // The error is what matters; a leftover is removed by the next attempt.
            let _ = fs::remove_file(&target.temporary);
            Err(error)
        }
    }
}

/// Restores backups into a new directory in `scratch`, checks every change and record of it, and deletes it again.
///
/// # Errors
///
/// [`RestoreError`] if they cannot be restored. What is wrong in the restored store is no error, but in the report.
pub fn rehearse(
    chain: &[PathBuf],
    scratch: &Path,
    progress: &mut Tell<'_>,
) -> Result<(Restored, Report), RestoreError> {
    let id = random().map_err(RestoreError::Entropy)?;
    let data = scratch.join(format!("rejoin-rehearsal-{}", hex(&id)));
    let rehearsed = restore(chain, &data, &RestoreOptions::default(), progress).and_then(|restored| {
        let path = data.join(STORE_FILE);
        let target = |source| RestoreError::Target { path: path.clone(), source };
        let store = RedbStore::open_read_only(&path, options()).map_err(target)?;
        let all = restored.manifest.change_bytes.max(1);
        let report = crate::care::check_store(&store, &mut |done| {
            let fraction = (done.bytes as f64 / all as f64).min(1.0);
            // A check has no end before its end.
            let _ = progress(RestoreProgress { step: Step::Verifying, bytes: done.bytes, fraction });
        });
        Ok((restored, report.map_err(target)?))
    });
    // What cannot be deleted is only in the way.
    let _ = fs::remove_dir_all(&data);
    rehearsed
}

/// Reads the manifests of backups that must follow one another.
fn manifests(chain: &[PathBuf]) -> Result<Vec<Manifest>, RestoreError> {
    let mut manifests: Vec<Manifest> = Vec::new();
    for path in chain {
        let manifest = Manifest::read(path)?;
        let reason = match manifests.last() {
            None if !manifest.is_full() => Some("is not a full backup: name that one first"),
            Some(_) if manifest.is_full() => Some("is a full backup: it follows no other one"),
            Some(earlier) if !manifest.follows(earlier) => Some("does not follow the backup before it"),
            _ if manifests.len() >= BACKUP_CHAIN_MAX => Some("is one too many: make a full backup now and then"),
            _ => None,
        };
        if let Some(reason) = reason {
            return Err(RestoreError::Chain { path: path.clone(), reason });
        }
        manifests.push(manifest);
    }
    if manifests.is_empty() {
        return Err(RestoreError::Chain { path: PathBuf::new(), reason: "no backup was named" });
    }
    Ok(manifests)
}

/// Takes a row of a table.
type Take<'t> = dyn FnMut(Table, &[u8], &[u8]) -> Result<(), RestoreError> + 't;

/// Goes through the files of backups.
struct Reading<'r, 't> {
    step: Step,
    done: u64,
    all: u64,
    progress: &'r mut Tell<'t>,
}

impl<'r, 't> Reading<'r, 't> {
    fn new(step: Step, manifests: &[Manifest], progress: &'r mut Tell<'t>) -> Self {
        let files = manifests.iter().flat_map(|manifest| &manifest.files);
        let all = files.fold(0_u64, |sum, file| sum.saturating_add(file.bytes));
        Self { step, done: 0, all, progress }
    }

    /// Reads one file to its end, and holds it against what the manifest says.
    fn file(
        &mut self,
        backup: &Path,
        manifest: &Manifest,
        number: usize,
        file: &PartFile,
        take: &mut Take<'_>,
    ) -> Result<(), RestoreError> {
        // A name may not lead anywhere else.
        let path = backup.join(Path::new(&file.name).file_name().unwrap_or_default());
        let damaged = |source| RestoreError::File { path: path.clone(), source };
        let other = |what| Err(RestoreError::Other { path: path.clone(), what });
        let input = File::open(&path).map_err(|error| damaged(ArchiveError::Io(error)))?;
        let input = Hashing::new(BufReader::new(input));
        let (mut reader, header) = ArchiveReader::open(input, ARCHIVE_FRAME_BYTES_MAX).map_err(damaged)?;
        let part = u32::try_from(number).unwrap_or(u32::MAX);
        if header.purpose != Purpose::Backup || Some(header.id) != unhex(&manifest.id) || header.part != part {
            return other("it is of another backup, or another part of it");
        }
        let mut rows = 0;
        let mut seen = reader.get_ref().bytes();
        while let Some(frame) = reader.frame().map_err(damaged)? {
            let kind = frame.kind().map_err(damaged)?;
            let Some(table) = Table::ALL.into_iter().find(|table| table.name() == kind) else {
                return other("it has rows of a table that this relay does not know");
            };
            frame
                .rows(|key, value| {
                    rows += 1;
                    take(table, key, value).map_err(Passed::Row)
                })
                .map_err(|passed| match passed {
                    Passed::Archive(source) => damaged(source),
                    Passed::Row(error) => error,
                })?;
            let read = reader.get_ref().bytes();
            self.tell(read - seen)?;
            seen = read;
        }
        let input = reader.into_inner();
        let bytes = input.bytes();
        self.done += bytes - seen;
        let (_, sha256) = input.end();
        if bytes != file.bytes || rows != file.rows || sha256 != file.sha256 {
            return other("its length, rows or hash differ");
        }
        Ok(())
    }

    fn tell(&mut self, bytes: u64) -> Result<(), RestoreError> {
        self.done += bytes;
        let fraction = (self.done as f64 / self.all.max(1) as f64).min(1.0);
        let progress = RestoreProgress { step: self.step, bytes: self.done, fraction };
        if (self.progress)(progress).is_break() { Err(RestoreError::Cancelled) } else { Ok(()) }
    }
}

/// Tells an archive's error from one of who takes its rows.
enum Passed {
    Archive(ArchiveError),
    Row(RestoreError),
}

impl From<ArchiveError> for Passed {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

/// The directory that a store is made in.
struct Target {
    data: PathBuf,
    temporary: PathBuf,
}

impl Target {
    fn prepare(data: &Path) -> Result<Self, RestoreError> {
        let name = format!("{STORE_FILE}{TEMPORARY_SUFFIX}");
        let target = Self { data: data.to_owned(), temporary: data.join(&name) };
        make_private_directory(data).map_err(|error| target.error(error.into()))?;
        for entry in fs::read_dir(data).map_err(|error| target.error(error.into()))? {
            let entry = entry.map_err(|error| target.error(error.into()))?;
            // What a restore left that was killed.
            if !entry.file_name().to_string_lossy().starts_with(&name) {
                return Err(RestoreError::NotEmpty { path: data.to_owned() });
            }
            let file = OpenOptions::new().write(true).open(entry.path());
            if file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock))) {
                return Err(RestoreError::Busy { path: data.to_owned() });
            }
            fs::remove_file(entry.path()).map_err(|error| target.error(error.into()))?;
        }
        Ok(target)
    }

    fn error(&self, source: StoreError) -> RestoreError {
        RestoreError::Target { path: self.data.clone(), source }
    }

    fn fill(
        &self,
        chain: &[PathBuf],
        mut manifests: Vec<Manifest>,
        wanted: &RestoreOptions,
        progress: &mut Tell<'_>,
    ) -> Result<Restored, RestoreError> {
        let store = RedbStore::open(&self.temporary, options()).map_err(|error| self.error(error))?;
        let load = |path: &Path, source| RestoreError::Load { path: path.to_owned(), source };
        let mut loader = Loader::new(&store).map_err(|error| load(&self.data, error))?;
        let mut reading = Reading::new(Step::Loading, &manifests, progress);
        for (at, (path, manifest)) in chain.iter().zip(&manifests).enumerate() {
            if at > 0 {
                loader.next_dump().map_err(|error| load(path, error))?;
            }
            for (number, file) in manifest.files.iter().enumerate() {
                reading.file(path, manifest, number, file, &mut |table, key, value| {
                    loader.put(table, key, value).map_err(|error| load(path, error))
                })?;
            }
        }
        let backups = manifests.len();
        let Some(manifest) = manifests.pop() else {
            return Err(RestoreError::Chain { path: PathBuf::new(), reason: "no backup was named" });
        };
        let altered = || RestoreError::Different { what: "its manifest does not decode".to_owned() };
        let expected = manifest.standpoint().ok_or_else(altered)?;
        let fresh = || random().map_err(RestoreError::Entropy);
        let epoch = Epoch::from_bytes(fresh()?);
        let storage = match expected.storage.filter(|_| wanted.same_id) {
            Some(storage) => storage,
            None => StorageId::from_random_bytes(fresh()?),
        };
        loader.finish(&epoch, &storage, now_seconds()).map_err(|error| load(&self.data, error))?;
        let view = store.read().map_err(|error| self.error(error))?;
        let compared = care::compare_standpoint(view.as_ref(), &expected).map_err(|error| self.error(error))?;
        compared.map_err(|what| RestoreError::Different { what })?;
        Ok(Restored { manifest, backups, epoch, storage })
    }

    fn finish(&self) -> Result<(), RestoreError> {
        let named = File::open(&self.temporary).and_then(|file| file.sync_all()).and_then(|()| {
            fs::rename(&self.temporary, self.data.join(STORE_FILE))?;
            sync_directory(&self.data)
        });
        named.map_err(|error: io::Error| self.error(error.into()))
    }
}

fn options() -> RedbOptions {
    RedbOptions::new().cache_bytes(STORE_CACHE_BYTES)
}
