//! The crate `samod`, unmodified, as a client of our relay.

use std::convert::Infallible;
use std::sync::Arc;

use automerge::transaction::Transactable;
use automerge::{Automerge, AutomergeError, ROOT, ReadDoc, ScalarValue};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rejoin::Repo;
use rejoin_tests::relay::RelayProcess;
use rejoin_tests::samod::transport;
use samod::{BackoffConfig, DialError, Dialer, Transport};
use serde_json::json;
use url::Url;

use crate::{PATIENCE, eventually, fetch};

/// Dials a WebSocket for samod.
pub(crate) struct WebSocketDialer(pub(crate) Url);

impl Dialer for WebSocketDialer {
    type Error = Infallible;

    fn url(&self) -> Url {
        self.0.clone()
    }

    fn connect(&self) -> BoxFuture<'static, Result<Transport, DialError<Infallible>>> {
        let url = self.0.to_string();
        async move {
            let (socket, _) = tokio_tungstenite::connect_async(url).await.map_err(DialError::transient)?;
            Ok(transport(socket))
        }
        .boxed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samod_client_and_native_client_meet_at_our_relay() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(folder.path());
    let samod = samod::Repo::build_tokio().load().await;
    let dialer = Arc::new(WebSocketDialer(relay.url().parse().unwrap()));
    let dialed = samod.dial(BackoffConfig::default(), dialer).unwrap();
    dialed.established().await.unwrap();

    let mut initial = Automerge::new();
    initial
        .transact::<_, _, AutomergeError>(|tx| {
            tx.put(ROOT, "from", "samod")?;
            tx.put(ROOT, "votes", ScalarValue::counter(1))
        })
        .unwrap();
    let theirs = samod.create(initial).await.unwrap();
    let repo = Repo::in_memory().unwrap();
    let connection = repo.connect(&relay.url()).unwrap();
    let ours = fetch(&repo, &theirs.url().to_string()).await;
    ours.increment("votes", 10).await.unwrap();
    ours.set("ours", true).await.unwrap();
    theirs.with_document(|document| {
        document.transact::<_, _, AutomergeError>(|tx| tx.increment(ROOT, "votes", 100)).unwrap();
    });
    let settled = json!({ "from": "samod", "votes": 111, "ours": true });
    eventually("everything is here", || async { ours.to_json().await.unwrap() == settled }).await;
    eventually("everything is there", || async {
        theirs.with_document(|document| {
            let votes = document.get(ROOT, "votes").unwrap().and_then(|(value, _)| value.as_i64());
            votes == Some(111) && document.get(ROOT, "ours").unwrap().is_some()
        })
    })
    .await;

    // Made here, found there.
    let made = repo.create().await.unwrap();
    made.set("from", "native").await.unwrap();
    repo.wait_synced(PATIENCE).await.unwrap();
    let found = samod.find(made.id().to_string().parse().unwrap()).await.unwrap().expect("the relay has it");
    let from = found.with_document(|document| document.get(ROOT, "from").unwrap().map(|(value, _)| value.to_string()));
    assert_eq!(from.as_deref(), Some("\"native\""));
    connection.disconnect().await;
    samod.stop().await;
}
