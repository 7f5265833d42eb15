//! The directory that a backup is written to.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rejoin::care::archive::{ArchiveHeader, ArchiveWriter, Purpose};
use sha2::{Digest, Sha256};

use super::{BackupError, MANIFEST_FILE, Manifest, PartFile};
use crate::show::hex;

/// What is added to a backup's name while it is made.
const TEMPORARY_SUFFIX: &str = ".rejoin-backup";

/// The file in it whose lock shows that somebody is at work.
const LOCK_FILE: &str = ".lock";

/// A directory that is being filled. Dropping it removes what was not published.
#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    temporary: PathBuf,
    published: bool,
    /// Holds the lock until the end.
    _lock: File,
}

impl Target {
    pub(super) fn new(path: &Path) -> Result<Self, BackupError> {
        let error = |source| BackupError::Target { path: path.to_owned(), source };
        refuse_existing(path)?;
        let mut name = path.as_os_str().to_owned();
        name.push(TEMPORARY_SUFFIX);
        let temporary = PathBuf::from(name);
        remove_leftover(path, &temporary)?;
        make_private(&temporary).map_err(error)?;
        let lock = create(&temporary.join(LOCK_FILE)).map_err(error)?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(BackupError::Busy { path: path.to_owned() }),
            // Some file systems have no locks.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        Ok(Self { path: path.to_owned(), temporary, published: false, _lock: lock })
    }

    pub(super) fn error(&self, source: io::Error) -> BackupError {
        BackupError::Target { path: self.path.clone(), source }
    }

    /// Gives the directory its name, when all of it is on the disk.
    pub(super) fn publish(mut self, manifest: &Manifest) -> Result<(), BackupError> {
        let written = create(&self.temporary.join(MANIFEST_FILE)).and_then(|mut file| {
            file.write_all(&manifest.text())?;
            file.sync_all()
        });
        written.and_then(|()| sync_directory(&self.temporary)).map_err(|error| self.error(error))?;
        refuse_existing(&self.path)?;
        fs::rename(&self.temporary, &self.path).map_err(|error| self.error(error))?;
        self.published = true;
        // A leftover lock harms nobody.
        let _ = fs::remove_file(self.path.join(LOCK_FILE));
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_directory(parent.unwrap_or(Path::new("."))).map_err(|error| self.error(error))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.published {
            // What stays is removed by the next backup to this place.
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

fn refuse_existing(path: &Path) -> Result<(), BackupError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(BackupError::Exists { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(BackupError::Target { path: path.to_owned(), source }),
    }
}

/// Removes what a backup left that was killed. One that is under way holds its lock.
fn remove_leftover(path: &Path, temporary: &Path) -> Result<(), BackupError> {
    if !temporary.exists() {
        return Ok(());
    }
    if let Ok(lock) = OpenOptions::new().write(true).open(temporary.join(LOCK_FILE))
        && matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
    {
        return Err(BackupError::Busy { path: path.to_owned() });
    }
    fs::remove_dir_all(temporary).map_err(|source| BackupError::Target { path: path.to_owned(), source })
}

/// Makes a directory that nobody else may read: what is in it is the users' data.
fn make_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path)
}

/// Makes a file that nobody else may read.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}

pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) files: Vec<PartFile>,
}

/// The files of a backup, one after the other.
#[derive(Debug)]
pub(super) struct Parts<'t> {
    target: &'t Target,
    id: [u8; 16],
    file_bytes: u64,
    open: Option<(String, ArchiveWriter<Hashing<BufWriter<File>>>)>,
    done: Done,
    stored: u64,
}

impl<'t> Parts<'t> {
    pub(super) fn new(target: &'t Target, id: [u8; 16], file_bytes: u64) -> Self {
        Self { target, id, file_bytes, open: None, done: Done::default(), stored: 0 }
    }

    /// Puts a row; says whether a frame was ended with it.
    pub(super) fn put(&mut self, kind: &'static str, key: &[u8], value: &[u8]) -> Result<bool, BackupError> {
        let target = self.target;
        let (_, writer) = match &mut self.open {
            Some(open) => open,
            closed => closed.insert(begin(target, self.id, self.done.files.len())?),
        };
        let ended = writer.put(kind, key, value).map_err(|error| target.error(error))?;
        if ended && writer.counts().stored >= self.file_bytes {
            self.close()?;
        }
        Ok(ended)
    }

    /// Returns rows, bytes and bytes written so far.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let open = self.open.as_ref().map(|(_, writer)| writer.counts()).unwrap_or_default();
        (self.done.rows + open.rows, self.done.bytes + open.bytes, self.stored + open.stored)
    }

    pub(super) fn finish(mut self) -> Result<Done, BackupError> {
        self.close()?;
        Ok(self.done)
    }

    fn close(&mut self) -> Result<(), BackupError> {
        let Some((name, writer)) = self.open.take() else { return Ok(()) };
        let closed = writer.finish().and_then(|(hashing, counts)| {
            let (buffered, digest) = hashing.end();
            buffered.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            Ok((counts, digest))
        });
        let (counts, sha256) = closed.map_err(|error| self.target.error(error))?;
        self.done.rows += counts.rows;
        self.done.bytes += counts.bytes;
        self.stored += counts.stored;
        self.done.files.push(PartFile { name, bytes: counts.stored, rows: counts.rows, sha256 });
        Ok(())
    }
}

type Open = (String, ArchiveWriter<Hashing<BufWriter<File>>>);

fn begin(target: &Target, id: [u8; 16], number: usize) -> Result<Open, BackupError> {
    let name = format!("rows-{number:05}.rjn");
    let part = u32::try_from(number).map_err(|_| target.error(io::Error::other("too many files")))?;
    let header = ArchiveHeader { purpose: Purpose::Backup, id, part };
    let file = create(&target.temporary.join(&name)).map_err(|error| target.error(error))?;
    let hashing = Hashing::new(BufWriter::new(file));
    let writer = ArchiveWriter::begin(hashing, &header).map_err(|error| target.error(error))?;
    Ok((name, writer))
}

/// Hashes what passes, read or written.
#[derive(Debug)]
pub(super) struct Hashing<I> {
    inner: I,
    hasher: Sha256,
    bytes: u64,
}

impl<I> Hashing<I> {
    pub(super) fn new(inner: I) -> Self {
        Self { inner, hasher: Sha256::new(), bytes: 0 }
    }

    /// Returns how many bytes have passed.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the SHA-256 of what has passed.
    pub(super) fn end(self) -> (I, String) {
        (self.inner, hex(&self.hasher.finalize()))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: io::Read> io::Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.hasher.update(into.get(..read).unwrap_or_default());
        self.bytes += read as u64;
        Ok(read)
    }
}
