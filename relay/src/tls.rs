//! TLS on the public listener: where the certificate comes from, and how a new one takes the old one's place.
//!
//! The files are looked at every few seconds and when the configuration is read again. New connections get what is there then; a
//! file that cannot be used changes nothing but the log.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::Config;
use crate::limits::TLS_LOOK;

/// What new connections are served with; none speaks plain.
pub(crate) type Current = watch::Receiver<Option<Arc<ServerConfig>>>;

/// Why there is no TLS. The text completes "failed to ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or is not what it should be.
    #[error("read {what} {}: {why}", path.display())]
    File {
        /// What should be in it.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The certificate and the key do not fit each other, or cannot be used.
    #[error("use the certificate in {} with the key in {}: {why}", cert.display(), key.display())]
    Unfit {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's.
        key: PathBuf,
        /// What is wrong.
        why: rustls::Error,
    },
}

/// Reads the files that the configuration names.
///
/// # Errors
///
/// [`TlsError`] if they cannot be used.
pub fn load(config: &Config) -> Result<Option<Arc<ServerConfig>>, TlsError> {
    let (Some(cert), Some(key)) = (&config.tls.cert_file, &config.tls.key_file) else { return Ok(None) };
    let fault = |what, path: &Path, error: rustls::pki_types::pem::Error| {
        let why = match error {
            rustls::pki_types::pem::Error::Io(error) => error.to_string(),
            // What is in the file is nobody's business.
            _ => "it is no PEM file with one".to_owned(),
        };
        TlsError::File { what, path: path.to_owned(), why }
    };
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| fault("the certificate", cert, error))?;
    if chain.is_empty() {
        return Err(fault("the certificate", cert, rustls::pki_types::pem::Error::NoItemsFound));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| fault("the private key", key, error))?;
    let unfit = |why| TlsError::Unfit { cert: cert.clone(), key: key.clone(), why };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(unfit)?;
    let mut server = builder.with_no_client_auth().with_single_cert(chain, private).map_err(unfit)?;
    // WebSockets are an upgrade of HTTP/1.1.
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(server)))
}

/// Loads what the configuration names, and keeps it as new as the files are, for as long as somebody holds what is returned.
///
/// # Errors
///
/// [`TlsError`] if it cannot be used now. Later it is only logged.
pub(crate) fn follow(mut config: watch::Receiver<Arc<Config>>) -> Result<Current, TlsError> {
    let now = Arc::clone(&config.borrow_and_update());
    let mut seen = Seen::of(&now);
    let (sender, current) = watch::channel(load(&now)?);
    tokio::spawn(async move {
        loop {
            let is_told = tokio::select! {
                () = sleep(TLS_LOOK) => false,
                changed = config.changed() => match changed {
                    Ok(()) => true,
                    // Nobody can change the configuration any more; the files still change.
                    Err(_) => { sleep(TLS_LOOK).await; false }
                },
                () = sender.closed() => return,
            };
            if sender.is_closed() {
                return;
            }
            let now = Arc::clone(&config.borrow_and_update());
            let files = Seen::of(&now);
            if !is_told && files == seen {
                continue;
            }
            let is_new = files != seen;
            match load(&now) {
                Ok(loaded) => {
                    if is_new {
                        tracing::info!(on = loaded.is_some(), "new connections get the TLS certificate as it is now");
                    }
                    sender.send_replace(loaded);
                    seen = files;
                }
                // It is looked at again when it changes; half of a pair may just have been written.
                Err(error) => {
                    tracing::error!(%error, "the TLS files cannot be used, the certificate stays what it was");
                    seen = files;
                }
            }
        }
    });
    Ok(current)
}

/// When a file was written, how long it is, and which it is: another one differs in something of it.
type Stamp = (SystemTime, u64, u64);

/// By what it is told that a file is another one.
#[derive(PartialEq, Eq)]
struct Seen([Option<(PathBuf, Option<Stamp>)>; 2]);

impl Seen {
    fn of(config: &Config) -> Self {
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| (path.clone(), stamp(path).ok()));
        Self([file(&config.tls.cert_file), file(&config.tls.key_file)])
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    // Opened, so that a name that was moved to another file counts as that one.
    let about = File::open(path).and_then(|file| file.metadata()).or_else(|_| fs::metadata(path))?;
    Ok((about.modified()?, about.len(), about.ino()))
}
