//! The configuration: what an operator writes ([`RawConfig`]), and what it means ([`Config`]).
//!
//! Every key is a line of a TOML file (`--config`), a variable of the environment that begins with `REJOIN_RELAY_`, and an argument.
//! An argument beats a variable, a variable the file, the file the default. What keys there are stands in one table
//! ([`KEYS`]); `docs/config.md` is made from it.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use rejoin::codec::v1::Limits;
use rejoin::fold::FoldCommand;
use rejoin::limits::V1_FRAME_BYTES_MAX;
use rejoin::sync::WholeDocuments;

use crate::auth::AuthConfig;
use crate::reload::ReloadHandle;

mod check;
mod keys;
mod nearest;
mod read;
mod setting;
mod show;
#[cfg(test)]
mod tests;

pub use check::ConfigError;
pub use keys::{
    AdminConfig, AuthSection, BackupConfig, DrainConfig, KEYS, Key, LimitsConfig, LogConfig, QuotaConfig, TlsConfig,
};
pub use read::{ConfigErrors, Loaded, RawConfig, Source};
pub use show::{documentation, example};

/// Where the relay listens unless the configuration says otherwise.
const LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3030));
/// Where the admin API listens unless the configuration says otherwise.
const ADMIN_LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3031));

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: one line of text an event.
    Human,
    /// For programs: one JSON object an event.
    Json,
}

/// A configuration that makes sense.
#[derive(Debug, Clone)]
pub struct Config {
    /// The directory of the data.
    pub data: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Whether everybody may do everything without a token. Default: in the library yes, in the binary no.
    pub open: bool,
    /// The directory of the web application that is served at `/`. Default: none, a page that says what this is.
    pub demo: Option<PathBuf>,
    /// Web origins whose pages may connect. Default: none, which is all.
    pub origins: Vec<String>,
    /// How much one client, and all together, may use.
    pub limits: LimitsConfig,
    /// How much may be stored.
    pub quota: QuotaConfig,
    /// Who may come in.
    pub auth: AuthSection,
    /// The admin API. Default: in the library off, in the binary on.
    pub admin: AdminConfig,
    /// Backups of the running relay.
    pub backup: BackupConfig,
    /// TLS on the public listener.
    pub tls: TlsConfig,
    /// What is logged.
    pub log: LogConfig,
    /// What happens when the relay is told to stop.
    pub drain: DrainConfig,
    /// How the configuration is read again. Default: not at all.
    pub reload: Option<ReloadHandle>,
    /// How to start the child process that folds long histories; without one, every peer gets changes. Default: none. The
    /// binary starts itself.
    pub fold: Option<FoldCommand>,
    /// What is done with whole documents that peers upload. Without `fold` they are refused. Default:
    /// [`WholeDocuments::Taken`].
    ///
    /// Stock peers send them only where they are asked for. To ask saves 100 bytes a change of a first upload; but a peer
    /// that was asked cannot be asked otherwise on the same connection: it is closed when a document cannot be taken apart,
    /// and the next one asks for changes. One document is taken apart at a time, in a child process under limits.
    pub whole_documents: WholeDocuments,
}

impl Config {
    /// The configuration with every default for programs that embed a relay, for data in this directory: open, and without an admin
    /// API.
    pub fn new(data: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        Self {
            data: data.into(),
            listen,
            open: true,
            admin: AdminConfig { enabled: false, ..AdminConfig::default() },
            ..Self::of_binary()
        }
    }

    /// The configuration of `rejoin-relay serve` if nothing is said.
    fn of_binary() -> Self {
        Self {
            data: PathBuf::new(),
            listen: LISTEN,
            open: false,
            demo: None,
            origins: Vec::new(),
            limits: LimitsConfig::default(),
            quota: QuotaConfig::default(),
            auth: AuthSection::default(),
            admin: AdminConfig::default(),
            backup: BackupConfig::default(),
            tls: TlsConfig::default(),
            log: LogConfig::default(),
            drain: DrainConfig::default(),
            reload: None,
            fold: None,
            whole_documents: WholeDocuments::Taken,
        }
    }
}

impl Config {
    /// Returns what the directory of principals has to know.
    pub fn directory(&self) -> AuthConfig {
        let AuthSection {
            keys,
            jwks_file,
            issuer,
            audience,
            jwt_lifetime_max_seconds,
            leeway_seconds,
            ticket_seconds,
            share_lifetime_max_seconds,
            shares_per_principal_max,
            restored_grace_days,
        } = self.auth.clone();
        AuthConfig {
            open: self.open,
            keys,
            jwks_file,
            issuer,
            audience,
            jwt_lifetime_max_seconds: jwt_lifetime_max_seconds.as_secs(),
            ticket_seconds: ticket_seconds.as_secs(),
            share_lifetime_max_seconds: share_lifetime_max_seconds.as_secs(),
            shares_per_principal_max,
            leeway_seconds: leeway_seconds.as_secs(),
            restored_grace_days: restored_grace_days.into(),
        }
    }
}

impl LimitsConfig {
    /// Returns the longest message of `rejoin.v1`, in bytes.
    pub fn v1_frame_bytes_max(&self) -> usize {
        self.frame_bytes_max.min(V1_FRAME_BYTES_MAX)
    }

    /// Returns what a client of `rejoin.v1` is told.
    pub fn of_v1(&self) -> Limits {
        let wide = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Limits {
            frame_bytes: wide(self.v1_frame_bytes_max()),
            change_bytes: wide(self.change_bytes_max),
            batch_entries: wide(self.batch_entries_max),
            presence_bytes: wide(self.presence_bytes_max),
        }
    }
}
