//! The configuration: what an operator writes ([`RawConfig`]), and what it means ([`Config`]).
//!
//! Every argument can also be an environment variable that begins with `REJOIN_RELAY_`; the argument wins.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use rejoin::fold::FoldCommand;
use rejoin::sync::WholeDocuments;

use crate::limits::{CONNECTIONS_MAX_DEFAULT, HANDSHAKE_DEADLINE_DEFAULT};

/// The arguments of `rejoin-relay serve`, as they were given.
#[derive(Debug, Clone, clap::Args)]
pub struct RawConfig {
    /// Directory for the data; it is made if it is not there
    #[arg(long, env = "REJOIN_RELAY_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, env = "REJOIN_RELAY_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:3030")]
    pub listen: String,
    /// The most WebSocket connections at once
    #[arg(long, env = "REJOIN_RELAY_CONNECTIONS_MAX", value_name = "COUNT", default_value_t = CONNECTIONS_MAX_DEFAULT)]
    pub connections_max: usize,
    /// Directory of a web application, such as the demo's `dist`, to serve at `/`
    #[arg(long, env = "REJOIN_RELAY_DEMO", value_name = "DIR")]
    pub demo: Option<PathBuf>,
    /// How log lines are written to standard error
    #[arg(long, env = "REJOIN_RELAY_LOG_FORMAT", value_enum, default_value_t = LogFormat::Human)]
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
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
    /// The most WebSocket connections at once. Default: [`CONNECTIONS_MAX_DEFAULT`].
    pub connections_max: usize,
    /// How long a peer may take to say `join`. Default: [`HANDSHAKE_DEADLINE_DEFAULT`].
    pub handshake_deadline: Duration,
    /// The directory of the web application that is served at `/`. Default: none, a page that says what this is.
    pub demo: Option<PathBuf>,
    /// The admin API. Default: none.
    pub admin: AdminConfig,
    /// How log lines are written.
    pub log_format: LogFormat,
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
    /// The configuration with every default, for data in this directory.
    pub fn new(data: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        Self {
            data: data.into(),
            listen,
            connections_max: CONNECTIONS_MAX_DEFAULT,
            handshake_deadline: HANDSHAKE_DEADLINE_DEFAULT,
            demo: None,
            admin: AdminConfig { enabled: false, listen: ([127, 0, 0, 1], 3031).into(), token_file: None },
            log_format: LogFormat::Human,
            fold: None,
            whole_documents: WholeDocuments::Taken,
        }
    }
}

/// The admin API.
#[derive(Debug, Clone, PartialEq)]
pub struct AdminConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// Address and port it listens on.
    pub listen: SocketAddr,
    /// A file with its credential; not set, `admin-token` in the directory of the data.
    pub token_file: Option<PathBuf>,
}

/// The most connections that can be configured: each may cost a socket and the bookkeeping counts them in 32 bits.
const CONNECTIONS_MAX_CEILING: usize = 1_000_000;

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
        if raw.data.as_os_str().is_empty() {
            return Err(ConfigError::NoData);
        }
        if raw.connections_max == 0 || raw.connections_max > CONNECTIONS_MAX_CEILING {
            return Err(ConfigError::ConnectionsMax { found: raw.connections_max });
        }
        let listen = raw.listen.to_socket_addrs().ok().and_then(|mut found| found.next());
        let listen = listen.ok_or(ConfigError::Listen { found: raw.listen })?;
        let mut config = Self::new(raw.data, listen);
        config.connections_max = raw.connections_max;
        config.log_format = raw.log_format;
        if let Some(demo) = raw.demo {
            if !demo.join("index.html").is_file() {
                return Err(ConfigError::Demo { found: demo });
            }
            config.demo = Some(demo);
        }
        Ok(config)
    }
}

/// What is wrong with a configuration. It is the operator's to correct.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No directory for the data.
    #[error("--data is empty: name a directory")]
    NoData,
    /// The address to listen on is no address.
    #[error("--listen {found:?} is no address and port: write it like 127.0.0.1:3030 or [::]:3030")]
    Listen {
        /// What was written.
        found: String,
    },
    /// There is no web application.
    #[error("--demo {}: there is no index.html in it; build the demo first (make demo)", found.display())]
    Demo {
        /// What was written.
        found: PathBuf,
    },
    /// The number of connections is out of range.
    #[error("--connections-max {found} is out of range: choose 1 to {CONNECTIONS_MAX_CEILING}")]
    ConnectionsMax {
        /// What was written.
        found: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> RawConfig {
        RawConfig {
            data: "data".into(),
            listen: "127.0.0.1:0".to_owned(),
            connections_max: 5,
            demo: None,
            log_format: LogFormat::Human,
        }
    }

    #[test]
    fn sound_arguments_become_a_configuration() {
        let config = Config::try_from(raw()).expect("nothing is wrong with it");
        assert_eq!((config.listen.port(), config.connections_max), (0, 5));
    }

    #[test]
    fn each_bad_argument_is_named() {
        let listen = Config::try_from(RawConfig { listen: "here".to_owned(), ..raw() });
        assert_eq!(listen.expect_err("no port"), ConfigError::Listen { found: "here".to_owned() });
        for connections_max in [0, CONNECTIONS_MAX_CEILING + 1] {
            let count = Config::try_from(RawConfig { connections_max, ..raw() });
            assert_eq!(count.expect_err("out of range"), ConfigError::ConnectionsMax { found: connections_max });
        }
        assert!(Config::try_from(RawConfig { connections_max: CONNECTIONS_MAX_CEILING, ..raw() }).is_ok());
        let data = Config::try_from(RawConfig { data: PathBuf::new(), ..raw() });
        assert_eq!(data.expect_err("no directory"), ConfigError::NoData);
        let demo = Config::try_from(RawConfig { demo: Some("/nowhere".into()), ..raw() });
        assert_eq!(demo.expect_err("no page"), ConfigError::Demo { found: "/nowhere".into() });
    }
}
