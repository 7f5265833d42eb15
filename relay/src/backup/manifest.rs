//! What a backup says of itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rejoin::care::Standpoint;
use rejoin::store::FORMAT_VERSION;
use rejoin::{Epoch, SpaceId, StorageId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::target::Done;
use super::unhex;
use crate::limits::MANIFEST_BYTES_MAX;
use crate::show::hex;

/// The manifest's file in a backup's directory.
pub const MANIFEST_FILE: &str = "manifest.json";

const FORMAT: &str = "rejoin-backup";
const VERSION: u32 = 1;

/// What a backup is, and what must be there when it is restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `rejoin-backup`.
    pub format: String,
    /// The version of this form: 1.
    pub version: u32,
    /// Names this backup: 16 random bytes, as hexadecimal digits.
    pub id: String,
    /// The backup that this one follows; none if it is full.
    pub since: Option<String>,
    /// When it was made, in seconds since 1970.
    pub made_seconds: u64,
    /// The version of the relay that made it.
    pub made_by: String,
    /// The version of the store's format.
    pub store_format: u32,
    /// The storage id of the store, if it had one.
    pub storage_id: Option<String>,
    /// The epoch of its log, as hexadecimal digits, if it had one.
    pub epoch: Option<String>,
    /// The last log position of each space.
    pub log_ends: BTreeMap<String, u64>,
    /// How many documents there were.
    pub documents: u64,
    /// How many changes.
    pub changes: u64,
    /// How many bytes of changes.
    pub change_bytes: u64,
    /// How many of the changes were packed.
    pub packed: u64,
    /// How many documents were deleted everywhere.
    pub tombstones: u64,
    /// How many rows are in the files.
    pub rows: u64,
    /// How many bytes of keys and values.
    pub bytes: u64,
    /// The files, in the order in which they are read.
    pub files: Vec<PartFile>,
    /// The SHA-256 of this manifest with an empty seal, as hexadecimal digits.
    pub seal: String,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartFile {
    /// Its name in the backup's directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// How many rows are in it.
    pub rows: u64,
    /// Its SHA-256, as hexadecimal digits.
    pub sha256: String,
}

/// The oldest format of a store whose backups are taken: 2. What has changed since is for the loader.
const STORE_FORMAT_MIN: u32 = 2;

/// Why a manifest cannot be used. The text completes "failed to read the backup: ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is not what was written.
    #[error("{} is no manifest, or was altered", path.display())]
    Altered {
        /// Which file.
        path: PathBuf,
    },
    /// A newer version of the relay wrote it.
    #[error("{} was made by version {made_by}, which is newer: upgrade this relay", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// By which version.
        made_by: String,
    },
    /// It is of a store whose rows mean something else.
    #[error("{} is of a store of format {found}, and {STORE_FORMAT_MIN} or more is needed", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// Which format.
        found: u32,
    },
}

impl Manifest {
    /// Reads a backup's manifest.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] if it is not there, or not to be used.
    pub fn read(backup: &Path) -> Result<Self, ManifestError> {
        let path = backup.join(MANIFEST_FILE);
        let io = |source| ManifestError::Io { path: path.clone(), source };
        let mut text = Vec::new();
        File::open(&path).and_then(|file| file.take(MANIFEST_BYTES_MAX).read_to_end(&mut text)).map_err(io)?;
        let altered = || ManifestError::Altered { path: path.clone() };
        let manifest: Self = serde_json::from_slice(&text).map_err(|_| altered())?;
        if manifest.format != FORMAT {
            return Err(altered());
        }
        if manifest.version > VERSION {
            return Err(ManifestError::Newer { path, made_by: manifest.made_by });
        }
        // It is written in one form only: any other byte was altered.
        if manifest.seal != manifest.sealed() || manifest.text() != text || manifest.standpoint().is_none() {
            return Err(altered());
        }
        match manifest.store_format {
            STORE_FORMAT_MIN..=FORMAT_VERSION => Ok(manifest),
            ..STORE_FORMAT_MIN => Err(ManifestError::Format { path, found: manifest.store_format }),
            _ => Err(ManifestError::Newer { path, made_by: manifest.made_by }),
        }
    }

    /// Says whether it is a full backup, which needs no other one.
    pub fn is_full(&self) -> bool {
        self.since.is_none()
    }

    pub(super) fn of(id: [u8; 16], since: Option<&Self>, stands: &Standpoint, made_seconds: u64, done: Done) -> Self {
        let mut manifest = Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            id: hex(&id),
            since: since.map(|since| since.id.clone()),
            made_seconds,
            made_by: env!("CARGO_PKG_VERSION").to_owned(),
            store_format: FORMAT_VERSION,
            storage_id: stands.storage.map(|id| hex(id.as_bytes())),
            epoch: stands.epoch.map(|epoch| hex(epoch.as_bytes())),
            log_ends: stands.ends.iter().map(|(space, end)| (space.to_string(), *end)).collect(),
            documents: stands.documents,
            changes: stands.changes,
            change_bytes: stands.change_bytes,
            packed: stands.packed,
            tombstones: stands.tombstones,
            rows: done.rows,
            bytes: done.bytes,
            files: done.files,
            seal: String::new(),
        };
        manifest.seal = manifest.sealed();
        manifest
    }

    /// Returns the log positions behind which a store has what this backup lacks; `None` if it is of another log.
    pub(super) fn follow(&self, stands: &Standpoint) -> Option<BTreeMap<SpaceId, u64>> {
        let mine = self.standpoint()?;
        let same = mine.epoch.is_some() && mine.epoch == stands.epoch && mine.storage == stands.storage;
        same.then_some(mine.ends)
    }

    /// Says whether this backup follows another one.
    pub(super) fn follows(&self, earlier: &Self) -> bool {
        self.since.as_ref() == Some(&earlier.id)
            && self.epoch.is_some()
            && self.epoch == earlier.epoch
            && self.storage_id == earlier.storage_id
    }

    /// Returns where the store stood.
    pub(super) fn standpoint(&self) -> Option<Standpoint> {
        let id = |text: &Option<String>| text.as_ref().map_or(Some(None), |text| unhex(text).map(Some));
        let ends = self.log_ends.iter().map(|(space, end)| Some((space.parse().ok()?, *end)));
        Some(Standpoint {
            epoch: id(&self.epoch)?.map(Epoch::from_bytes),
            storage: id(&self.storage_id)?.map(StorageId::from_bytes),
            ends: ends.collect::<Option<_>>()?,
            documents: self.documents,
            changes: self.changes,
            change_bytes: self.change_bytes,
            packed: self.packed,
            tombstones: self.tombstones,
        })
    }

    /// Returns its file's content.
    pub(super) fn text(&self) -> Vec<u8> {
        // Strings, numbers and maps with text for keys: nothing in it can fail.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    pub(super) fn sealed(&self) -> String {
        let bare = Self { seal: String::new(), ..self.clone() };
        hex(&Sha256::digest(bare.text()))
    }
}
