//! A long history that the relay has folded: stock clients that have nothing get it as one document, and the tail.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use automerge::transaction::Transactable;
use automerge::{Automerge, AutomergeError, ObjType, ROOT, ReadDoc};
use rejoin::DocumentId;
use rejoin::fold::FoldCommand;
use rejoin::ledger::{self, snapshot};
use rejoin::store::{MemoryStore, Store};
use rejoin_relay::Config;
use rejoin_tests::node::Node;
use rejoin_tests::stored::append;
use samod::BackoffConfig;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::eventually;
use crate::samod::WebSocketDialer;

const DOCUMENT: DocumentId = DocumentId::from_bytes([3; 16]);

/// Lets a connection through to the relay, and counts the bytes that come from there.
async fn counting(relay: SocketAddr) -> (String, Arc<AtomicUsize>) {
    rejoin_tests::said::listen();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_relay, mut to_relay) = TcpStream::connect(relay).await.unwrap().into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_relay).await });
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(read @ 1..) = from_relay.read(&mut bytes).await {
                    counter.fetch_add(read, Ordering::Relaxed);
                    to_client.write_all(&bytes[..read]).await.unwrap();
                }
            });
        }
    });
    (url, count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stock_clients_get_a_folded_history_as_one_document_and_the_tail() {
    let mut document = Automerge::new();
    let edit = |tx: &mut automerge::transaction::Transaction<'_>| tx.put_object(ROOT, "text", ObjType::Text);
    let text = document.transact::<_, _, AutomergeError>(edit).unwrap().result;
    let typed = |document: &mut Automerge, count: usize| {
        for _ in 0..count {
            let length = document.length(&text);
            document.transact::<_, _, AutomergeError>(|tx| tx.splice_text(&text, length, 0, "x")).unwrap();
        }
    };
    typed(&mut document, 2_999);
    let store = Arc::new(MemoryStore::new());
    append(&*store, DOCUMENT, &document);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut config = Config::new("", address);
    config.fold = Some(FoldCommand::new(rejoin_tests::binary("rejoin-relay"), "fold-child"));
    let serving = Arc::clone(&store) as Arc<dyn Store>;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let relay = tokio::spawn(async move {
        let until = async move { drop(stopped.await) };
        rejoin_relay::run(listener, serving, &config, until).await
    });
    let url = format!("automerge:{DOCUMENT}");

    let (raw_url, raw_bytes) = counting(address).await;
    let mut first = Node::connected(&raw_url).await;
    first.find(&url).await;
    eventually("it is folded", || async {
        snapshot::info(&*store.read().unwrap(), &DOCUMENT).unwrap().is_some_and(|snapshot| snapshot.count == 3_000)
    })
    .await;
    typed(&mut document, 10);
    append(&*store, DOCUMENT, &document);
    let heads = ledger::heads(&*store.read().unwrap(), &DOCUMENT).unwrap();
    let heads: Vec<_> = heads.iter().map(ToString::to_string).collect();
    let expected = json!({ "text": "x".repeat(3_009) });

    let (node_url, node_bytes) = counting(address).await;
    let mut fresh = Node::connected(&node_url).await;
    fresh.find(&url).await;
    fresh.wait_heads(&url, &heads).await;
    assert_eq!(fresh.value(&url).await, expected);

    let (samod_url, samod_bytes) = counting(address).await;
    let samod = samod::Repo::build_tokio().load().await;
    let dialed = samod.dial(BackoffConfig::default(), Arc::new(WebSocketDialer(samod_url.parse().unwrap()))).unwrap();
    dialed.established().await.unwrap();
    let found = samod.find(DOCUMENT.to_string().parse().unwrap()).await.unwrap().expect("the relay has it");
    eventually("samod has everything", || async {
        found.with_document(|copy| copy.get_heads() == document.get_heads())
    })
    .await;

    let bytes = [raw_bytes, node_bytes, samod_bytes].map(|count| count.load(Ordering::Relaxed));
    assert!(bytes[0] > 300_000 && bytes[1] < 20_000 && bytes[2] < 20_000, "{bytes:?}");

    // What they make from now on arrives.
    fresh.change(&url, json!([{ "do": "set", "path": ["js"], "value": 1 }])).await;
    eventually("samod sees it", || async { found.with_document(|copy| copy.get(ROOT, "js").unwrap().is_some()) }).await;
    samod.stop().await;
    drop(stop);
    relay.await.unwrap().unwrap();
}
