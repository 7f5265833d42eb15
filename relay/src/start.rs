//! Starting: from a configuration to a store and a listener, with errors that say what to do.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rejoin::store::{RedbOptions, RedbStore, Store, StoreError};
use tokio::net::TcpListener;

use crate::config::Config;
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
    std::fs::create_dir_all(&config.data)
        .map_err(|source| StartError::Directory { path: config.data.clone(), source })?;
    let path = config.data.join(STORE_FILE);
    let options = RedbOptions::new().cache_bytes(STORE_CACHE_BYTES).quick_repair(true);
    let opened = RedbStore::open(&path, options).and_then(|store| {
        rejoin::migrate::migrate(&store)?;
        Ok(store)
    });
    match opened {
        Ok(store) => Ok(Arc::new(store)),
        Err(StoreError::Io(source)) => Err(StartError::File { path, source }),
        Err(source) => Err(StartError::Store { path, source }),
    }
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
