//! Starting: from a configuration to a store and a listener, with errors that say what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rejoin::store::{RedbOptions, RedbStore, Store, StoreError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;

use crate::config::{Config, LimitsConfig};
use crate::limits::STORE_CACHE_BYTES;

/// The store's file in the directory of the data.
pub const STORE_FILE: &str = "relay.redb";

/// Why a relay could not start. The text completes "failed to ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The directory of the data cannot be made.
    #[error("make the data directory {}: {source}; check --data", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The store's file cannot be opened or made.
    #[error("open the store file {}: {source}; check its permissions and the free space", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// What is in the store's file cannot be used.
    #[error("open the store file {}: {source}", path.display())]
    Store {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: StoreError,
    },
    /// The address cannot be listened on.
    #[error("listen on {address}: {source}; stop what uses it, or choose another address with --listen")]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Opens the relay's store, and makes it and its directory if they are not there. One of an older format is migrated.
///
/// # Errors
///
/// [`StartError`]; a file that is there and cannot be used stays as it is.
pub fn open_store(config: &Config) -> Result<Arc<dyn Store>, StartError> {
    make_private_directory(&config.data)
        .map_err(|source| StartError::Directory { path: config.data.clone(), source })?;
    let path = config.data.join(STORE_FILE);
    let store = open_file(path.clone())?;
    rejoin::migrate::migrate(&store).map_err(|source| StartError::Store { path: path.clone(), source })?;
    warn_if_others_may_read(&path);
    Ok(Arc::new(store))
}

/// Makes a directory for its owner alone, if it is not there: what is in it is everybody's data, and the key of tickets.
///
/// # Errors
///
/// [`io::Error`] of the operating system.
pub(crate) fn make_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Says in the log if a store can be read by others on this machine: older versions left that to the umask.
#[cfg_attr(not(unix), expect(unused_variables, reason = "permissions are not numbers there"))]
fn warn_if_others_may_read(path: &Path) {
    #[cfg(unix)]
    if let Ok(found) = std::fs::metadata(path)
        && std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o004 != 0
    {
        tracing::warn!(
            path = %path.display(),
            "everybody on this machine may read the store: run `chmod 600` on it, and `chmod 700` on its directory"
        );
    }
}

/// Opens a store's file, and makes it if it is not there. One of an older format stays as it is.
///
/// # Errors
///
/// As [`open_store`].
pub(crate) fn open_file(path: PathBuf) -> Result<RedbStore, StartError> {
    open_file_with(path, RedbStore::open)
}

/// Opens a store's file in one of the ways there are, with the relay's options.
pub(crate) fn open_file_with(
    path: PathBuf,
    open: fn(PathBuf, RedbOptions) -> Result<RedbStore, StoreError>,
) -> Result<RedbStore, StartError> {
    let options = RedbOptions::new().cache_bytes(STORE_CACHE_BYTES).quick_repair(true).journal(true);
    open(path.clone(), options).map_err(|error| match error {
        StoreError::Io(source) => StartError::File { path, source },
        source => StartError::Store { path, source },
    })
}

/// How many files the relay needs beside its sockets: the store, the log, timers, what a child process is spoken to through.
const FILES_SPARE: u64 = 64;

/// Raises the number of files that the process may open to what the operating system allows it, since each socket is one. Returns what
/// to tell the operator if that is less than the configured number of connections needs.
pub fn raise_file_limit(limits: &LimitsConfig) -> Option<String> {
    let found = getrlimit(Resource::Nofile);
    let most = found.maximum;
    let wanted = Rlimit { current: most, maximum: most };
    // What cannot be raised stays.
    let current = if setrlimit(Resource::Nofile, wanted).is_ok() { most } else { found.current };
    let sockets = limits.connections_max.saturating_add(limits.sockets_spare);
    let needed = u64::try_from(sockets).unwrap_or(u64::MAX).saturating_add(FILES_SPARE);
    let current = current.filter(|current| *current < needed)?;
    Some(format!(
        "the process may open {current} files, and limits.connections_max = {} needs {needed}: set LimitNOFILE={needed} in its systemd \
         unit or ulimit -Hn {needed} before it starts, or lower limits.connections_max",
        limits.connections_max
    ))
}

/// Listens on the configured address.
///
/// # Errors
///
/// [`StartError::Listen`] if the address is in use or not this host's.
pub async fn bind(config: &Config) -> Result<TcpListener, StartError> {
    let address = config.listen;
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn store_and_its_directory_are_their_owners_alone() {
        let directory = tempfile::tempdir().expect("a folder");
        let data = directory.path().join("var/relay");
        let config = Config::new(&data, "127.0.0.1:0".parse().expect("an address"));
        let store = open_store(&config).expect("a new store");
        for value in [b"one", b"two"] {
            store.write(&mut |tx| tx.put(rejoin::store::Table::Directory, b"key", value)).expect("room");
        }
        let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&data), mode(&directory.path().join("var"))), (0o700, 0o700));
        let files: Vec<_> =
            std::fs::read_dir(&data).expect("a folder").map(|entry| entry.expect("a file").path()).collect();
        assert_eq!(files.len(), 2, "the store and its journal: {files:?}");
        assert!(files.iter().all(|path| mode(path) == 0o600), "{files:?}");
    }
}
