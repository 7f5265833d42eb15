//! Reading the configuration again while the relay runs.

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::{Config, RawConfig};

/// Reads the configuration again when it is told to, and tells those who hold the receiver.
#[derive(Debug)]
pub struct Reloader {
    raw: RawConfig,
    current: watch::Sender<Arc<Config>>,
}

impl Reloader {
    /// Begins with a configuration that was made of this one.
    pub fn new(raw: RawConfig, config: Config) -> Self {
        Self { raw, current: watch::Sender::new(Arc::new(config)) }
    }

    /// Returns where the configuration of now is read.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Config>> {
        self.current.subscribe()
    }

    /// Reads the file again, applies what can be applied, and says in the log what changed. If anything is wrong, everything stays as
    /// it was, and `false` is returned.
    pub fn reload(&self) -> bool {
        let loaded = match self.raw.load() {
            Ok(loaded) => loaded,
            Err(errors) => {
                for error in errors.0 {
                    tracing::error!(%error, "the configuration stays as it was");
                }
                return false;
            }
        };
        let before = Arc::clone(&self.current.borrow());
        let changed = before.changed(&loaded.config);
        for key in &changed {
            let (name, value) = (key.path(), key.shown(&loaded.config));
            if key.is_live {
                tracing::info!(key = name, value, "the configuration changed");
            } else {
                tracing::warn!(key = name, value, "the configuration changed, this key with the next start");
            }
        }
        if changed.is_empty() {
            tracing::info!("the configuration was read again, nothing in it changed");
        }
        for warning in loaded.config.warnings() {
            tracing::warn!("{warning}");
        }
        // Told even if nothing changed: files that it names may have.
        self.current.send_replace(Arc::new(before.reloaded(&loaded.config)));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistake_changes_nothing_and_what_needs_a_restart_waits() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("relay.toml");
        let write = |text: &str| std::fs::write(&path, text).expect("a writable directory");
        write("data = 'data'\n[limits]\nconnections_max = 5");
        let raw = RawConfig { file: Some(path.clone()), ..RawConfig::default() };
        let config = raw.load().expect("a sound file").config;
        let reloader = Reloader::new(raw, config);
        let now = reloader.subscribe();
        let limit = || now.borrow().limits.connections_max;
        write("data = 'data'\n[limits]\nconnections_max = 7\nframe_bytes = 1");
        assert!(!reloader.reload());
        assert_eq!(limit(), 5);
        write("data = 'elsewhere'\norigins = ['https://a.example']\n[limits]\nconnections_max = 7");
        assert!(reloader.reload());
        assert_eq!((limit(), now.borrow().origins.len()), (7, 1));
        assert_eq!(now.borrow().data, std::path::Path::new("data"));
    }
}
