//! A relay inside the test's process, on a free port.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rejoin::store::{MemoryStore, RedbOptions, RedbStore, Store, StoreError};
use rejoin_relay::Config;
use rejoin_relay::config::LogFormat;
use rejoin_relay::logging::{LogOptions, Logging};
use rejoin_relay::metrics::Metrics;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub struct Relay {
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), rejoin_relay::RunError>>,
}

impl Relay {
    pub async fn start() -> Self {
        Self::start_with(Arc::new(MemoryStore::new()), |_| ()).await
    }

    pub async fn start_with(store: Arc<dyn Store>, configure: impl FnOnce(&mut Config)) -> Self {
        Self::start_counting(store, Arc::default(), configure).await
    }

    /// Starts one that counts in these metrics.
    pub async fn start_counting(
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        listen();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = Config::new("", address);
        configure(&mut config);
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            rejoin_relay::run_with_metrics(listener, store, &config, metrics, async {
                let _ = stopped.await;
            })
            .await
        });
        Self { address, stop, running }
    }

    pub fn url(&self) -> String {
        format!("ws://{}/any/path?and=query", self.address)
    }

    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.running.await.unwrap().unwrap();
    }
}

/// Lets relays inside of this process log as those in processes of their own do where a file is named: at the finest level. After
/// all tests it is searched for what nobody may hear.
pub fn listen() {
    let Some(file) = std::env::var_os("REJOIN_RELAY_LOG_FILE") else { return };
    let (format, file) = (LogFormat::Human, Some(Path::new(&file)));
    let options = LogOptions { format, filter: "trace", stderr: false, file, otlp_endpoint: None };
    // Another test of this process may have begun.
    let _ = Logging::start(&options, &Arc::default());
}

/// Opens a store's file. A process that another test starts has, for a moment, a share in every open file and its lock.
pub fn open_store(path: &Path) -> RedbStore {
    for _ in 0..1_000 {
        match RedbStore::open(path, RedbOptions::new()) {
            Err(StoreError::Locked { .. }) => std::thread::sleep(Duration::from_millis(5)),
            opened => return opened.unwrap(),
        }
    }
    panic!("the store stays locked");
}
