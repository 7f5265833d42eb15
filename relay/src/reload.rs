//! Reading the configuration again while the relay runs.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::config::{Config, ConfigErrors, RawConfig};

/// What a reload came to: the keys that have another value now.
pub type Reloaded = Result<Vec<String>, ConfigErrors>;

/// Asks for the configuration to be read again, from anywhere in the program.
#[derive(Debug, Clone)]
pub struct ReloadHandle(mpsc::Sender<oneshot::Sender<Reloaded>>);

impl ReloadHandle {
    /// Has it read again, and returns what came of that; `None` if the relay is ending.
    pub async fn reload(&self) -> Option<Reloaded> {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.ok()?;
        answered.await.ok()
    }
}

/// Reads the configuration again when it is told to, and tells those who hold the receiver.
#[derive(Debug)]
pub struct Reloader {
    raw: RawConfig,
    current: watch::Sender<Arc<Config>>,
    requests: mpsc::Receiver<oneshot::Sender<Reloaded>>,
}

impl Reloader {
    /// Begins with a configuration that was made of this one. It gets a handle by which its holders ask for a reload.
    pub fn new(raw: RawConfig, mut config: Config) -> Self {
        let (handle, requests) = mpsc::channel(1);
        config.reload = Some(ReloadHandle(handle));
        Self { raw, current: watch::Sender::new(Arc::new(config)), requests }
    }

    /// Waits until somebody asks for a reload; who is to be told what came of it.
    pub async fn requested(&mut self) -> Option<oneshot::Sender<Reloaded>> {
        self.requests.recv().await
    }

    /// Returns where the configuration of now is read.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Config>> {
        self.current.subscribe()
    }

    /// Reads the file again, applies what can be applied, and says in the log what changed.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] if anything is wrong: then everything stays as it was.
    pub fn reload(&self) -> Reloaded {
        let loaded = match self.raw.load() {
            Ok(loaded) => loaded,
            Err(errors) => {
                for error in &errors.0 {
                    tracing::error!(%error, "the configuration stays as it was");
                }
                return Err(errors);
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
        Ok(changed.iter().filter(|key| key.is_live).map(|key| key.path()).collect())
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
        assert!(reloader.reload().is_err());
        assert_eq!(limit(), 5);
        write("data = 'elsewhere'\norigins = ['https://a.example']\n[limits]\nconnections_max = 7");
        assert_eq!(reloader.reload().expect("a sound file"), ["origins", "limits.connections_max"]);
        assert_eq!((limit(), now.borrow().origins.len()), (7, 1));
        assert_eq!(now.borrow().data, std::path::Path::new("data"));
    }
}
