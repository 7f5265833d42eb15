//! `wss://`: the client speaks TLS with a relay behind a proxy that has the certificate, and only if it trusts that.

use std::sync::Arc;

use rejoin::{ConnectOptions, ConnectionState, Repo};
use rejoin_tests::relay::RelayProcess;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::{PATIENCE, eventually, fetch};

/// Puts a proxy with a fresh self-signed certificate for `name` in front of a relay; returns the proxy's port and the
/// certificate.
async fn proxy(relay: &RelayProcess, name: &str) -> (u16, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let behind = relay.url().strip_prefix("ws://").unwrap().to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            tokio::spawn(async move {
                // A client that does not trust the certificate ends the handshake here.
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut relay = TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut relay).await;
            });
        }
    });
    (port, made.cert.pem())
}

fn trusting(pem: &str) -> ConnectOptions {
    ConnectOptions::new().root_certificates(pem.as_bytes()).unwrap()
}

/// Connects, and returns why that failed.
async fn refusal(url: &str, options: &ConnectOptions) -> String {
    let repo = Repo::in_memory().unwrap();
    let mut connection = repo.connect_with(url, options).unwrap();
    let settled = connection.wait_for(|state| *state != ConnectionState::Connecting);
    let state = tokio::time::timeout(PATIENCE, settled).await.unwrap();
    let ConnectionState::Waiting { reason, .. } = state else { panic!("it is {state:?}, and should not be") };
    // Offline it works on, and can be told to give up.
    repo.create().await.unwrap().set("written", "anyway").await.unwrap();
    connection.disconnect().await;
    reason
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trusted_certificate_connects_and_syncs_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(folder.path());
    let (port, pem) = proxy(&relay, "localhost").await;
    let (over_tls, plain) = (Repo::in_memory().unwrap(), Repo::in_memory().unwrap());
    let connection = over_tls.connect_with(&format!("wss://localhost:{port}"), &trusting(&pem)).unwrap();
    let other = plain.connect(&relay.url()).unwrap();
    let ours = over_tls.create().await.unwrap();
    ours.set("from", "the one over TLS").await.unwrap();
    over_tls.wait_synced(PATIENCE).await.unwrap();
    let theirs = fetch(&plain, &ours.id().to_string()).await;
    theirs.set("answer", 42).await.unwrap();
    let both = json!({ "from": "the one over TLS", "answer": 42 });
    eventually("the answer is here", || async { ours.to_json().await.unwrap() == both }).await;
    connection.disconnect().await;
    other.disconnect().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_that_is_not_trusted_is_refused_and_the_state_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(folder.path());
    let (port, pem) = proxy(&relay, "localhost").await;
    let url = format!("wss://localhost:{port}");
    let (_, another) = proxy(&relay, "localhost").await;
    for options in [ConnectOptions::new(), trusting(&another)] {
        let reason = refusal(&url, &options).await;
        assert!(reason.starts_with("failed to connect: the relay's certificate is not trusted: "), "{reason}");
        assert!(reason.contains("ConnectOptions::root_certificates"), "{reason}");
    }
    let by_address = refusal(&format!("wss://127.0.0.1:{port}"), &trusting(&pem)).await;
    assert!(by_address.contains("localhost") && by_address.contains("a name that it is made for"), "{by_address}");
    let without_tls = refusal(&relay.url().replace("ws://", "wss://"), &trusting(&pem)).await;
    assert!(without_tls.contains("no TLS is spoken there"), "{without_tls}");
}
