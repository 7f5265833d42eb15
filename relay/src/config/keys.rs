//! Every key, once: from this table come the structs, the defaults, the file, the variables of the environment, the arguments, the
//! documentation and what is shown, so that none of them can differ from the others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use rejoin::limits::{
    BATCH_ENTRIES_MAX, CHANGE_BYTES_MAX, FRAME_BYTES_MAX, OPEN_DOCUMENTS_MAX, PRESENCE_BYTES_MAX, SUBSCRIPTIONS_MAX,
};
use toml::de::DeValue;

use super::setting::Setting;
use super::{ADMIN_LISTEN, Config, LogFormat};
use crate::auth::KeyConfig;
use crate::limits::{
    APPEND_BYTES_BURST_DEFAULT, APPEND_BYTES_PER_SECOND_DEFAULT, APPENDS_BURST_DEFAULT, APPENDS_PER_SECOND_DEFAULT,
    AUDIT_ROWS_MAX_DEFAULT, BACKUP_DURATION_MAX, BYTES_BURST_DEFAULT, BYTES_PER_SECOND_DEFAULT,
    CONNECTIONS_MAX_DEFAULT, CONNECTIONS_PER_ADDRESS_MAX_DEFAULT, CONNECTIONS_PER_PRINCIPAL_MAX_DEFAULT, DEAD_AFTER,
    DOCUMENT_BYTES_MAX_DEFAULT, DRAIN_DEADLINE, FRAMES_BURST_DEFAULT, FRAMES_PER_SECOND_DEFAULT,
    HANDSHAKE_DEADLINE_DEFAULT, MISSES_PER_MINUTE_DEFAULT, NEWS_INTERVAL_MAX_MILLISECONDS, PING_INTERVAL,
    RECONNECT_AFTER_MAX, SEND_QUEUE_BYTES_MAX, SHARES_PER_PRINCIPAL_MAX_DEFAULT, SOCKETS_SPARE,
    UPGRADES_PER_SECOND_DEFAULT, WRITE_STALL,
};

/// The most connections that can be configured: each may cost a socket and the bookkeeping counts them in 32 bits.
const CONNECTIONS_MAX_CEILING: u64 = 1_000_000;
/// The shortest message bound that leaves room for what every client sends.
const FRAME_BYTES_MAX_FLOOR: u64 = 64 << 10;
/// The most of anything a second: more than any machine does.
const RATE_CEILING: u64 = u32::MAX as u64;
const DAY_SECONDS: u64 = 24 * 60 * 60;
const YEAR_SECONDS: u64 = 366 * DAY_SECONDS;

/// One key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// The section, empty for a key at the top.
    pub section: &'static str,
    /// The name within the section.
    pub name: &'static str,
    /// What it means, in Markdown.
    pub(super) meaning: &'static str,
    /// What kind of value it has.
    pub(super) kind: &'static str,
    /// Whether its value is never quoted.
    pub(super) is_secret: bool,
    /// The least and the greatest value.
    pub(super) range: Option<(u64, u64)>,
    /// Whether a reload applies it.
    pub is_live: bool,
    /// Reads it from TOML.
    pub(super) take: fn(&mut Config, &DeValue<'_>) -> Result<(), String>,
    /// Reads it from plain text.
    pub(super) parse: fn(&mut Config, &str) -> Result<(), String>,
    /// Shows it as TOML, without secrets; `None` if it is not set.
    pub(super) show: fn(&Config) -> Option<String>,
    /// Says whether it is within its range.
    pub(super) is_within: fn(&Config, u64, u64) -> bool,
    /// Says whether two configurations have the same.
    pub(super) is_same: fn(&Config, &Config) -> bool,
    /// Copies it from the second configuration to the first.
    pub(super) copy: fn(&mut Config, &Config),
}

/// What is a number and may be anything.
const fn any() -> Option<(u64, u64)> {
    None
}

/// What is a number from one to another.
const fn from(least: u64, most: u64) -> Option<(u64, u64)> {
    Some((least, most))
}

macro_rules! is_live {
    (live) => {
        true
    };
    (restart) => {
        false
    };
}

macro_rules! key {
    ($section:literal, $name:ident, [$($path:ident).+], $type:ty, $range:expr, $when:ident, $meaning:expr) => {
        Key {
            section: $section,
            name: stringify!($name),
            meaning: $meaning,
            kind: <$type as Setting>::KIND,
            is_secret: <$type as Setting>::SECRET,
            range: $range,
            is_live: is_live!($when),
            take: |config, value| {
                config.$($path).+ = Setting::take(value)?;
                Ok(())
            },
            parse: |config, text| {
                config.$($path).+ = Setting::parse(text)?;
                Ok(())
            },
            show: |config| Setting::show(&config.$($path).+),
            is_within: |config, least, most| Setting::is_within(&config.$($path).+, least, most),
            is_same: |one, other| one.$($path).+ == other.$($path).+,
            copy: |to, from| to.$($path).+.clone_from(&from.$($path).+),
        }
    };
}

/// Each line: what it means, name, type, default, range, and whether a reload applies it (`live`) or only a `restart`.
macro_rules! keys {
    (
        { $($(#[doc = $top_doc:literal])+ $top:ident: $top_type:ty, $top_range:expr, $top_when:ident;)* }
        $($(#[doc = $section_doc:literal])+ [$section:ident] $struct:ident {
            $($(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr, $range:expr, $when:ident;)*
        })*
    ) => {
        /// Every key, in the order of the documentation.
        pub static KEYS: &[Key] = &[
            $(key!("", $top, [$top], $top_type, $top_range, $top_when, concat!($($top_doc),+)),)*
            $($(keys!(@one $section, $field, $type, $range, $when, concat!($($doc),+)),)*)*
        ];

        /// What the sections are about, in the order of the documentation.
        pub(super) static SECTIONS: &[(&str, &str)] = &[
            $((stringify!($section), concat!($($section_doc),+)),)*
        ];

        $(
            $(#[doc = $section_doc])+
            #[derive(Debug, Clone, PartialEq)]
            pub struct $struct {
                $($(#[doc = $doc])+ pub $field: $type,)*
            }

            impl Default for $struct {
                fn default() -> Self {
                    Self { $($field: $default,)* }
                }
            }
        )*
    };
    (@one $section:ident, $field:ident, $type:ty, $range:expr, $when:ident, $meaning:expr) => {
        Key { section: stringify!($section), ..key!("", $field, [$section.$field], $type, $range, $when, $meaning) }
    };
}

keys! {
    {
        /// Directory for the data; it is made if it is not there.
        data: PathBuf, any(), restart;
        /// Address and port to listen on; port 0 takes a free one.
        listen: SocketAddr, any(), restart;
        /// Whether everybody may do everything without a token.
        open: bool, any(), restart;
        /// Directory of a web application, such as the demo's `dist`, to serve at `/`.
        demo: Option<PathBuf>, any(), restart;
        /// Web origins whose pages may connect, such as `https://app.example.org`; empty for all. Clients that are no browsers name none.
        origins: Vec<String>, any(), live;
    }

    /// How much of the relay one client, and all together, may use. A rate of 0 is no bound.
    [limits] LimitsConfig {
        /// The most WebSocket connections at once.
        connections_max: usize = CONNECTIONS_MAX_DEFAULT, from(1, CONNECTIONS_MAX_CEILING), live;
        /// The most of them from one address; IPv6 addresses of one /64 are one.
        connections_per_address_max: usize = CONNECTIONS_PER_ADDRESS_MAX_DEFAULT, from(1, CONNECTIONS_MAX_CEILING), live;
        /// Addresses of proxies in front of the relay: the last address in their `X-Forwarded-For` is the client's.
        trusted_proxies: Vec<IpAddr> = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)], any(), live;
        /// The most of them of one principal.
        connections_per_principal_max: usize = CONNECTIONS_PER_PRINCIPAL_MAX_DEFAULT, from(1, CONNECTIONS_MAX_CEILING), live;
        /// How many sockets may be open beyond the WebSocket connections, for HTTP requests and for those being refused.
        sockets_spare: usize = SOCKETS_SPARE, from(8, CONNECTIONS_MAX_CEILING), live;
        /// The most requests for a WebSocket from one address.
        upgrades_per_second: u32 = UPGRADES_PER_SECOND_DEFAULT, from(0, RATE_CEILING), live;
        /// The longest message from a client; `rejoin.v1` has at most 16 MiB in any case.
        frame_bytes_max: usize = FRAME_BYTES_MAX, from(FRAME_BYTES_MAX_FLOOR, FRAME_BYTES_MAX as u64), live;
        /// The largest change, uncompressed.
        change_bytes_max: usize = CHANGE_BYTES_MAX, from(1 << 10, CHANGE_BYTES_MAX as u64), live;
        /// The most changes in one frame of `rejoin.v1`.
        batch_entries_max: usize = BATCH_ENTRIES_MAX, from(1, BATCH_ENTRIES_MAX as u64), live;
        /// The longest presence data of one frame.
        presence_bytes_max: usize = PRESENCE_BYTES_MAX, from(1 << 10, PRESENCE_BYTES_MAX as u64), live;
        /// The most spaces that one connection follows.
        subscriptions_max: usize = SUBSCRIPTIONS_MAX, from(1, SUBSCRIPTIONS_MAX as u64), live;
        /// The most documents that are open on one connection.
        open_documents_max: usize = OPEN_DOCUMENTS_MAX, from(1, OPEN_DOCUMENTS_MAX as u64), live;
        /// How much may wait for a client that does not read before it is not read from either.
        outbound_queue_bytes_max: usize = SEND_QUEUE_BYTES_MAX, from(FRAME_BYTES_MAX_FLOOR, SEND_QUEUE_BYTES_MAX as u64), live;
        /// How long a client may take from its socket to its first answer, and from there to its `join` or `hello`.
        handshake_seconds: Duration = HANDSHAKE_DEADLINE_DEFAULT, from(1, 600), live;
        /// How often a connection is pinged.
        ping_seconds: Duration = PING_INTERVAL, from(1, 3_600), live;
        /// How long nothing may come from a client before it counts as gone: more than two pings.
        dead_after_seconds: Duration = DEAD_AFTER, from(2, 86_400), live;
        /// How long a client may take no byte of what is sent to it.
        write_stall_seconds: Duration = WRITE_STALL, from(1, 3_600), live;
        /// How long who reads along may wait for what is written, after they were told of something: the more they are, the longer they wait, up to this. Less is sooner, and costs a frame for each of them each time.
        news_interval_max_milliseconds: u32 = NEWS_INTERVAL_MAX_MILLISECONDS, from(1, NEWS_INTERVAL_MAX_MILLISECONDS as u64), live;
        /// The most frames from one connection.
        frames_per_second: u32 = FRAMES_PER_SECOND_DEFAULT, from(0, RATE_CEILING), live;
        /// How many frames it may send at once after it was quiet.
        frames_burst: u32 = FRAMES_BURST_DEFAULT, from(1, RATE_CEILING), live;
        /// The most bytes from one connection.
        bytes_per_second: u32 = BYTES_PER_SECOND_DEFAULT, from(0, RATE_CEILING), live;
        /// How many bytes it may send at once after it was quiet: a longest message at least.
        bytes_burst: u32 = BYTES_BURST_DEFAULT, from(FRAME_BYTES_MAX_FLOOR, RATE_CEILING), live;
        /// The most changes from one principal, over all its connections.
        appends_per_second: u32 = APPENDS_PER_SECOND_DEFAULT, from(0, RATE_CEILING), live;
        /// How many changes it may send at once after it was quiet: what a device wrote offline.
        appends_burst: u32 = APPENDS_BURST_DEFAULT, from(1, RATE_CEILING), live;
        /// The most bytes of changes from one principal, over all its connections.
        append_bytes_per_second: u32 = APPEND_BYTES_PER_SECOND_DEFAULT, from(0, RATE_CEILING), live;
        /// How many bytes of changes it may send at once after it was quiet.
        append_bytes_burst: u32 = APPEND_BYTES_BURST_DEFAULT, from(1, RATE_CEILING), live;
        /// How often one principal, or one address without, may ask for a document that is not there or not for it, against the guessing of ids.
        misses_per_minute: u32 = MISSES_PER_MINUTE_DEFAULT, from(0, RATE_CEILING), live;
    }

    /// How much may be stored.
    [quota] QuotaConfig {
        /// The most bytes of changes of one document.
        document_bytes_max: u64 = DOCUMENT_BYTES_MAX_DEFAULT, from(1 << 10, i64::MAX as u64), live;
        /// The most bytes of changes of one space; 0 is no bound. A space's own bound, set through the admin API, comes first.
        space_bytes_max: u64 = 0, from(0, i64::MAX as u64), live;
    }

    /// Who may come in.
    [auth] AuthSection {
        /// Keys that signed tokens are checked with: `{ id, alg, file }`, or `secret` in place of `file` with what the file would hold; a key without `id` is for tokens without `kid`. `alg` is `EdDSA`, `ES256`, `RS256` (a public key as PEM) or `HS256` (32 bytes or more, as they are).
        keys: Vec<KeyConfig> = Vec::new(), any(), live;
        /// A file with a JSON Web Key Set. It is read again when it changes.
        jwks_file: Option<PathBuf> = None, any(), live;
        /// What `iss` of a signed token must be one of; empty, it may have any or none.
        issuer: Vec<String> = Vec::new(), any(), live;
        /// What `aud` of a signed token must be one of; empty, it must have none.
        audience: Vec<String> = Vec::new(), any(), live;
        /// How long from now a signed token may be good for at most.
        jwt_lifetime_max_seconds: Duration = Duration::from_secs(DAY_SECONDS), from(1, YEAR_SECONDS), live;
        /// How far the clocks of who signs tokens may be off.
        leeway_seconds: Duration = Duration::from_secs(30), from(0, 600), live;
        /// How long a ticket is good for.
        ticket_seconds: Duration = Duration::from_secs(60), from(1, 3_600), live;
        /// How long a share link may be good for at most.
        share_lifetime_max_seconds: Duration = Duration::from_secs(30 * DAY_SECONDS), from(1, 10 * YEAR_SECONDS), live;
        /// The most share links of one principal.
        shares_per_principal_max: usize = SHARES_PER_PRINCIPAL_MAX_DEFAULT, from(0, 1_000_000), live;
        /// For how long after `restore` devices may bring back what others wrote.
        restored_grace_days: u32 = 7, from(0, 3_660), live;
    }

    /// The admin API.
    [admin] AdminConfig {
        /// Whether there is one.
        enabled: bool = true, any(), restart;
        /// Address and port it listens on: loopback, unless something in front of it keeps others out.
        listen: SocketAddr = ADMIN_LISTEN, any(), restart;
        /// A file with its credential; not set, `admin-token` in the directory of the data, made at the first start.
        token_file: Option<PathBuf> = None, any(), restart;
        /// How many acts of administrators are kept on record, and as many refused writes; the oldest go first.
        audit_rows_max: usize = AUDIT_ROWS_MAX_DEFAULT, from(1, 100_000_000), live;
    }

    /// Backups of the running relay, which the admin API makes.
    [backup] BackupConfig {
        /// How fast the store is read for one, so that clients do not wait for the disk; 0 is no bound.
        bytes_per_second: u32 = 0, from(0, RATE_CEILING), live;
        /// How long one may take before it is given up: what is freed meanwhile is not used again, so the store's file grows.
        duration_max_seconds: Duration = BACKUP_DURATION_MAX, from(1, 7 * DAY_SECONDS), live;
    }

    /// TLS on the public listener: both files or none, in which case a proxy in front of the relay does it.
    [tls] TlsConfig {
        /// The certificate chain as PEM, the relay's own first. It is read again when it changes.
        cert_file: Option<PathBuf> = None, any(), live;
        /// Its private key as PEM.
        key_file: Option<PathBuf> = None, any(), live;
    }

    /// What is logged to standard error.
    [log] LogConfig {
        /// `human`: a line of text an event; `json`: an object an event.
        format: LogFormat = LogFormat::Human, any(), restart;
        /// From which level on, as in `info` or `info,rejoin_relay=debug`.
        filter: String = "info".to_owned(), any(), live;
        /// A file that every line is added to as well; not set, none. It is not rotated: let `logrotate` do so by `copytruncate`.
        file: Option<PathBuf> = None, any(), restart;
        /// Where spans are sent to by OTLP over HTTP, such as `http://127.0.0.1:4318`; not set, nowhere.
        otlp_endpoint: Option<String> = None, any(), restart;
    }

    /// What happens when the relay is told to stop.
    [drain] DrainConfig {
        /// How long it takes at most to close every connection and finish the commits.
        deadline_seconds: Duration = DRAIN_DEADLINE, from(1, 3_600), live;
        /// Clients are asked to come back after a random time up to this one.
        reconnect_after_max_seconds: Duration = RECONNECT_AFTER_MAX, from(0, 3_600), live;
    }
}

impl Key {
    /// Returns its name with the section, as in `limits.connections_max`.
    pub fn path(&self) -> String {
        if self.section.is_empty() { self.name.to_owned() } else { format!("{}.{}", self.section, self.name) }
    }

    /// Returns the name of its argument, without the dashes before it.
    pub fn flag(&self) -> String {
        self.path().replace(['.', '_'], "-")
    }

    /// Returns the name of its variable in the environment.
    pub fn variable(&self) -> String {
        format!("REJOIN_RELAY_{}", self.path().replace('.', "_").to_uppercase())
    }

    /// Returns the name it had before there were sections, with underscores.
    pub(super) fn old_name(&self) -> Option<&'static str> {
        (self.section == "limits" && self.name == "connections_max").then_some("connections_max")
    }

    /// Returns its unit or what kind of value it has.
    pub(super) fn unit(&self) -> &'static str {
        let ends = |end: &str| self.name.ends_with(end);
        match self.kind {
            "a whole number" if ends("bytes_per_second") => "bytes per second",
            "a whole number" if self.name.contains("bytes") => "bytes",
            "a whole number" if ends("per_second") => "per second",
            "a whole number" if ends("per_minute") => "per minute",
            "a whole number" if ends("_days") => "days",
            "a whole number" if ends("_milliseconds") => "milliseconds",
            "a whole number" => "count",
            "a number" if ends("_seconds") => "seconds",
            "an address and port, such as 127.0.0.1:3030 or [::]:3030" => "address",
            kind if kind.starts_with("a list of keys") => "list of keys",
            kind => kind.trim_start_matches("a "),
        }
    }

    /// Shows its value in a configuration as TOML, without secrets.
    pub fn shown(&self, config: &Config) -> String {
        (self.show)(config).unwrap_or_else(|| "not set".to_owned())
    }

    /// Returns what it means, in one line.
    pub fn meaning(&self) -> &'static str {
        self.meaning.trim()
    }
}
