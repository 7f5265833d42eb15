//! What is wrong with a configuration, and what is only unwise.

use super::keys::KEYS;
use super::{Config, Source};
use crate::auth::KeySource;

/// Something wrong with a configuration. It is the operator's to correct.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read the configuration file {path}: {why}")]
    File {
        /// Which.
        path: String,
        /// What the operating system said.
        why: String,
    },
    /// The file is no TOML.
    #[error("{place}: {why}")]
    Syntax {
        /// The file and the line.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such key.
    #[error("{place}: there is no key {found}{}", suggestion(nearest.as_deref()))]
    Unknown {
        /// Where it stands.
        place: String,
        /// What was written.
        found: String,
        /// What may have been meant.
        nearest: Option<String>,
    },
    /// A value makes no sense for its key.
    #[error("{place}: {key} {why}")]
    Value {
        /// Where it stands.
        place: String,
        /// Of which key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// No directory for the data.
    #[error(
        "there is no directory for the data: name one with --data DIR, with REJOIN_RELAY_DATA or as data in the file"
    )]
    NoData,
    /// Values that do not fit each other.
    #[error("{0}")]
    Together(String),
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

/// Looks at each value by itself.
pub(super) fn values(config: &Config, source: &dyn Fn(usize) -> Source, found: &mut Vec<ConfigError>) {
    for (index, key) in KEYS.iter().enumerate() {
        let Some((least, most)) = key.range else { continue };
        if !(key.is_within)(config, least, most) {
            let shown = (key.show)(config).unwrap_or_default();
            let why = format!("= {shown} is out of range: choose {least} to {most}");
            found.push(ConfigError::Value { place: source(index).to_string(), key: key.path(), why });
        }
    }
}

/// Looks at values that have to fit each other, and at what they name.
pub(super) fn together(config: &Config, found: &mut Vec<ConfigError>) {
    let mut wrong = |text: String| found.push(ConfigError::Together(text));
    let limits = &config.limits;
    if limits.ping_seconds * 2 >= limits.dead_after_seconds {
        wrong("limits.dead_after_seconds must be more than twice limits.ping_seconds".to_owned());
    }
    if limits.change_bytes_max > limits.v1_frame_bytes_max() {
        wrong(
            "limits.change_bytes_max is greater than limits.frame_bytes_max: such a change could not be sent"
                .to_owned(),
        );
    }
    if limits.bytes_per_second > 0
        && usize::try_from(limits.bytes_burst).is_ok_and(|burst| burst < limits.frame_bytes_max)
    {
        wrong("limits.bytes_burst is less than limits.frame_bytes_max: such a message could not be sent".to_owned());
    }
    if config.tls.cert_file.is_some() != config.tls.key_file.is_some() {
        wrong("tls.cert_file and tls.key_file belong together: set both or none".to_owned());
    }
    if config.admin.enabled && config.admin.listen == config.listen && config.listen.port() != 0 {
        wrong(format!("listen and admin.listen are both {}: choose another port for one", config.listen));
    }
    for origin in &config.origins {
        if let Some(why) = bad_origin(origin) {
            wrong(format!("origins: {origin:?} {why}: write it like https://app.example.org"));
        }
    }
    if let Some(endpoint) = &config.log.otlp_endpoint {
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            wrong("log.otlp_endpoint begins with neither http:// nor https://".to_owned());
        }
        // It is shown wherever the configuration is.
        if endpoint.contains('@') {
            let instead = "let the collector, or a proxy on this machine, know the relay otherwise";
            wrong(format!("log.otlp_endpoint holds a name or a password: {instead}"));
        }
    }
    if let Err(error) = tracing_subscriber::EnvFilter::builder().parse(&config.log.filter) {
        wrong(format!("log.filter {:?}: {error}: write it like info or info,rejoin_relay=debug", config.log.filter));
    }
    if let Some(demo) = &config.demo
        && !demo.join("index.html").is_file()
    {
        let demo = demo.display();
        wrong(format!("demo {demo}: there is no index.html in it; build the demo first (make demo)"));
    }
}

/// Says what is wrong with an origin, if anything: browsers write it with a scheme, in small letters, and without a path.
fn bad_origin(origin: &str) -> Option<&'static str> {
    let Some((scheme, host)) = origin.split_once("://") else { return Some("has no scheme") };
    if scheme.is_empty() || host.is_empty() {
        return Some("has no scheme or no host");
    }
    if host.contains(['/', '?', '#', '@', '*', ' ']) {
        return Some("has more than a scheme, a host and a port");
    }
    if origin.chars().any(|character| character.is_ascii_uppercase() || !character.is_ascii()) {
        return Some("is not in small ASCII letters, as browsers send it");
    }
    let is_usual = scheme == "https" && host.ends_with(":443") || scheme == "http" && host.ends_with(":80");
    is_usual.then_some("has the usual port, which browsers leave out")
}

impl Config {
    /// Returns what is unwise about the configuration, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let is_local = self.listen.ip().is_loopback();
        if self.open && !is_local {
            warnings.push(format!(
                "open = true on {}: EVERYBODY who reaches this address may read, write and delete everything",
                self.listen
            ));
        } else if self.open {
            warnings
                .push("open = true: everybody who reaches the relay may read, write and delete everything".to_owned());
        }
        if self.admin.enabled && !self.admin.listen.ip().is_loopback() {
            warnings.push(format!(
                "admin.listen = {}: the admin API speaks plain HTTP; keep others from this address",
                self.admin.listen
            ));
        }
        let has_inline = self.auth.keys.iter().any(|key| matches!(key.source, KeySource::Inline(_)));
        if has_inline {
            warnings.push("auth.keys holds a secret inline: a file that only the relay may read is safer".to_owned());
        }
        warnings
    }

    /// Returns what is worth knowing about the configuration, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.listen.ip().is_loopback() && self.tls.cert_file.is_none() {
            notes.push(format!("no TLS on {}: have a proxy in front of it do that, or set tls.cert_file", self.listen));
        }
        if !self.open && self.origins.is_empty() {
            notes.push("origins is empty: pages of every origin may connect, if they have a token".to_owned());
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_as_browsers_send_them() {
        for good in ["https://app.example.org", "http://localhost:5173", "https://[::1]:8443", "tauri://localhost"] {
            assert_eq!(bad_origin(good), None, "{good}");
        }
        for bad in
            ["app.example.org", "https://", "https://a/b", "https://A.b", "https://a:443", "http://a:80", "https://*.a"]
        {
            assert!(bad_origin(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn openness_is_warned_of_most_where_others_reach_it() {
        let mut config = Config::new("data", "127.0.0.1:1".parse().expect("an address"));
        assert_eq!(config.warnings().len(), 1);
        config.listen = "0.0.0.0:1".parse().expect("an address");
        assert!(config.warnings()[0].contains("EVERYBODY") && config.notes()[0].contains("TLS"));
        config.open = false;
        assert!(config.warnings().is_empty());
    }
}
