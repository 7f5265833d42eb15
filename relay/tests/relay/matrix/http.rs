//! The relay in the test's process, and how it is asked over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rejoin::store::{MemoryStore, Store};
use rejoin_relay::Config;
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub struct Relay {
    pub store: Arc<MemoryStore>,
    pub clients: SocketAddr,
    pub admin: SocketAddr,
    credential: String,
    _data: TempDir,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), rejoin_relay::RunError>>,
    counter: AtomicU32,
}

impl Relay {
    pub async fn start(configure: impl FnOnce(&mut Config)) -> Self {
        crate::relay::listen();
        let store = Arc::new(MemoryStore::new());
        let data = tempfile::tempdir().unwrap();
        let [listener, admin_listener] =
            [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
        let (clients, admin) = (listener.local_addr().unwrap(), admin_listener.local_addr().unwrap());
        let mut config = Config::new(data.path(), clients);
        configure(&mut config);
        let (stop, stopped) = oneshot::channel();
        let kept = Arc::clone(&store) as Arc<dyn Store>;
        let running = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            let (_unchanged, config) = watch::channel(Arc::new(config));
            rejoin_relay::server::run_with(listener, Some(admin_listener), kept, config, Arc::default(), stopped).await
        });
        let path = data.path().join(rejoin_relay::admin::TOKEN_FILE);
        let credential = loop {
            match std::fs::read_to_string(&path) {
                Ok(token) if token.ends_with('\n') => break token.trim().to_owned(),
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        Self { store, clients, admin, credential, _data: data, stop, running, counter: AtomicU32::new(0) }
    }

    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.running.await.unwrap().unwrap();
    }

    /// Returns an address that nobody came from before: none of them asks too often.
    pub fn address(&self) -> String {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).to_string()
    }

    pub fn peer_name(&self) -> String {
        format!("peer {}", self.counter.fetch_add(1, Ordering::Relaxed))
    }

    pub fn ws_url(&self, query: &str) -> String {
        format!("ws://{}/{query}", self.clients)
    }

    /// Asks the clients' listener.
    pub async fn ask(&self, what: &str, token: Option<&str>, body: Option<&Json>) -> (u16, String) {
        request(self.clients, what, token, &self.address(), body).await
    }

    /// Asks the administrator's listener with any credential.
    pub async fn administer_as(&self, what: &str, token: Option<&str>, body: Option<&Json>) -> (u16, String) {
        request(self.admin, what, token, "127.0.0.1", body).await
    }

    /// Asks it with the right one.
    pub async fn administer(&self, what: &str, body: Option<&Json>) -> (u16, Json) {
        let (status, text) = self.administer_as(what, Some(&self.credential), body).await;
        (status, serde_json::from_str(&text).unwrap_or_default())
    }
}

async fn request(to: SocketAddr, what: &str, token: Option<&str>, from: &str, body: Option<&Json>) -> (u16, String) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let body = body.map(Json::to_string).unwrap_or_default();
    let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    let length = body.len();
    let request = format!(
        "{what} HTTP/1.1\r\nhost: relay\r\nconnection: close\r\nx-forwarded-for: {from}\r\n{kind}content-length: {length}\r\n{token}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
