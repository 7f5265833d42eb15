//! TLS: for WebSockets and pages alike, with certificates that are renewed while the relay runs.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rejoin::codec::v1::SUBPROTOCOL;
use rejoin::store::MemoryStore;
use rejoin_relay::Config;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{Connector, client_async_tls_with_config};

use crate::client::{Client, PATIENCE, Socket, document};
use crate::v1::client::{HOME, V1, chain, stored};

struct TlsRelay {
    address: SocketAddr,
    config: watch::Sender<Arc<Config>>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), rejoin_relay::RunError>>,
}

impl TlsRelay {
    async fn start(directory: &Path) -> Self {
        crate::relay::listen();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = Config::new("", address);
        config.tls.cert_file = Some(directory.join("cert.pem"));
        config.tls.key_file = Some(directory.join("key.pem"));
        let (config, changing) = watch::channel(Arc::new(config));
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let running = tokio::spawn(rejoin_relay::run_reloading(
            listener,
            Arc::new(MemoryStore::new()),
            changing,
            Arc::default(),
            shutdown,
        ));
        Self { address, config, stop, running }
    }

    /// Does what SIGHUP does when the file is the same.
    fn look_again(&self) {
        self.config.send_modify(|_| ());
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        self.running.await.unwrap().unwrap();
    }
}

/// Writes a new certificate and its key, and returns what trusts it and nothing else.
fn renew(directory: &Path) -> Arc<ClientConfig> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(directory.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(directory.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    trusting(made.cert.der().clone())
}

fn trusting(certificate: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Connects by TLS, and asks for these subprotocols if there are any; `None` if there is no TLS to be had.
async fn wss(relay: &TlsRelay, trust: &Arc<ClientConfig>, protocols: Option<&str>) -> Option<Socket> {
    let tcp = TcpStream::connect(relay.address).await.unwrap();
    let mut request = "wss://localhost/".into_client_request().unwrap();
    if let Some(protocols) = protocols {
        request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
    }
    let connector = Some(Connector::Rustls(Arc::clone(trust)));
    Some(client_async_tls_with_config(request, tcp, None, connector).await.ok()?.0)
}

/// Fetches a page; `None` if there is no TLS to be had.
async fn get(relay: &TlsRelay, trust: &Arc<ClientConfig>, path: &str) -> Option<String> {
    let tcp = TcpStream::connect(relay.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = TlsConnector::from(Arc::clone(trust)).connect(name, tcp).await.ok()?;
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    tls.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The end may come without a farewell.
    let _ = tls.read_to_end(&mut answer).await;
    Some(String::from_utf8(answer).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_and_pages_go_through_tls_and_plain_talk_gets_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let trust = renew(directory.path());
    let relay = TlsRelay::start(directory.path()).await;
    // Somebody who says nothing keeps nobody from coming in.
    let _silent = TcpStream::connect(relay.address).await.unwrap();
    assert!(get(&relay, &trust, "/livez").await.unwrap().starts_with("HTTP/1.1 200"));

    drop(wss(&relay, &trust, None).await.unwrap());

    let mut plain = TcpStream::connect(relay.address).await.unwrap();
    plain.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificate_is_shown_and_a_broken_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let old = renew(directory.path());
    let relay = TlsRelay::start(directory.path()).await;
    assert!(get(&relay, &old, "/livez").await.is_some());
    let new = renew(directory.path());
    relay.look_again();
    while get(&relay, &new, "/livez").await.is_none() {
        tokio::task::yield_now().await;
    }
    assert!(get(&relay, &old, "/livez").await.is_none());
    // Half of a renewal, as it is when the key is not written yet.
    std::fs::write(directory.path().join("key.pem"), "nothing of use").unwrap();
    relay.look_again();
    for _ in 0..20 {
        assert!(get(&relay, &new, "/livez").await.is_some());
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_sync_through_tls_and_go_on_when_the_certificate_is_renewed() {
    let directory = tempfile::tempdir().unwrap();
    let old = renew(directory.path());
    let relay = TlsRelay::start(directory.path()).await;
    let mut classic = Client::of(wss(&relay, &old, None).await.unwrap(), "alice").await;
    classic.set(document(1), "a", 1);
    classic.open(document(1));
    classic.until(|classic| classic.is_acknowledged(document(1))).await;
    let socket = wss(&relay, &old, Some(SUBPROTOCOL)).await.unwrap();
    let (mut modern, held) = V1::of(socket).choosing("bob", &[1]).await;
    assert_eq!(held.len(), 1);
    let writes = chain(document(1), "bob", 2, "b");
    assert_eq!(modern.store(HOME, writes[..1].to_vec()).await, stored(2, 1));
    classic.until(|classic| classic.count(document(1)) == 2).await;

    let new = renew(directory.path());
    relay.look_again();
    let socket = timeout(PATIENCE, async {
        loop {
            if let Some(socket) = wss(&relay, &new, None).await {
                return socket;
            }
            tokio::task::yield_now().await;
        }
    });
    let socket = socket.await.expect("the new certificate is not used");
    assert!(wss(&relay, &old, None).await.is_none());
    assert!(wss(&relay, &old, Some(SUBPROTOCOL)).await.is_none());
    // Those who came by the old one talk on, with each other and with who comes by the new one.
    let mut fresh = Client::of(socket, "carol").await;
    fresh.open(document(1));
    fresh.until(|fresh| fresh.count(document(1)) == 2).await;
    classic.set(document(1), "a", 2);
    classic.until(|classic| classic.is_acknowledged(document(1))).await;
    assert_eq!(modern.filled(1).await.len(), 1);
    assert_eq!(modern.store(HOME, writes[1..].to_vec()).await, stored(4, 1));
    for client in [&mut classic, &mut fresh] {
        client.until(|client| client.count(document(1)) == 4).await;
    }
    relay.stop().await;
}

#[test]
fn files_that_cannot_be_used_are_named_and_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    let mut config = Config::new("", "127.0.0.1:0".parse().unwrap());
    config.tls.cert_file = Some(cert.clone());
    config.tls.key_file = Some(key.clone());
    let said = |config: &Config| rejoin_relay::tls::load(config).unwrap_err().to_string();
    assert!(said(&config).contains("cert.pem"));
    renew(directory.path());
    assert!(rejoin_relay::tls::load(&config).unwrap().is_some());
    std::fs::write(&key, "a canary, and no key").unwrap();
    let error = said(&config);
    assert!(error.contains("key.pem") && !error.contains("canary"), "{error}");
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&key, other.signing_key.serialize_pem()).unwrap();
    assert!(said(&config).contains("use the certificate"));
}
