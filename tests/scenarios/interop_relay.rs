//! The main job: two JavaScript clients and a native one share documents through our relay, offline and back.

use std::time::Duration;

use automerge::transaction::Transactable;
use automerge::{ROOT, ReadDoc};
use rejoin::{DocHandle, Repo};
use rejoin_tests::node::Node;
use rejoin_tests::relay::RelayProcess;
use serde_json::{Value as Json, json};

use crate::{PATIENCE, eventually, fetch, heads};

/// Waits until a JavaScript client and the native one show the same document, and returns it.
async fn agree(javascript: &mut Node, handle: &DocHandle) -> Json {
    let mut last = (Json::Null, Json::Null);
    for _ in 0..1_500 {
        last = (javascript.value(&handle.url()).await, handle.to_json().await.unwrap());
        if last.0 == last.1 {
            return last.0;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never the same:\n{}\n{}", last.0, last.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_clients_edit_offline_the_relay_is_killed_and_all_converge() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = RelayProcess::start(&folder.path().join("relay"));
    let mut ada = Node::connected(&relay.url()).await;
    let mut ben = Node::connected(&relay.url()).await;
    let repo = Repo::open(folder.path().join("native.redb")).await.unwrap();
    let mut connection = repo.connect(&relay.url()).unwrap();
    connection.wait_caught_up(PATIENCE).await.unwrap();

    let value = json!({ "title": "paper", "votes": { "$counter": 1 }, "list": ["b", "d"], "when": { "$date": 1_000 },
        "raw": { "$bytes": "0102" }, "map": { "inner": { "n": 1 } } });
    let url = ada.call("create", json!({ "value": value })).await["url"].as_str().unwrap().to_owned();
    ben.find(&url).await;
    let native = fetch_patiently(&repo, &url).await;
    agree(&mut ben, &native).await;

    // Apart: nobody is connected, and the relay is killed in between.
    ada.call("disconnect", json!({})).await;
    ben.call("disconnect", json!({})).await;
    connection.disconnect().await;
    relay.kill();
    ada.change(
        &url,
        json!([
            { "do": "increment", "path": ["votes"], "by": 10 },
            { "do": "splice", "path": ["title"], "index": 0, "del": 0, "text": "a " },
            { "do": "insert", "path": ["list"], "index": 0, "value": "a" },
            { "do": "set", "path": ["when"], "value": { "$date": 2_000 } },
        ]),
    )
    .await;
    ben.change(
        &url,
        json!([
            { "do": "increment", "path": ["votes"], "by": 100 },
            { "do": "splice", "path": ["title"], "index": 5, "del": 0, "text": " b" },
            { "do": "insert", "path": ["list"], "index": 2, "value": "e" },
            { "do": "set", "path": ["map", "inner", "ben"], "value": true },
        ]),
    )
    .await;
    native.increment("votes", 1_000).await.unwrap();
    native.set(["map", "inner", "native"], vec![9_u8]).await.unwrap();
    native.delete("raw").await.unwrap();
    let middle = |tx: &mut automerge::transaction::Transaction<'_>| {
        let (_, list) = tx.get(ROOT, "list")?.unwrap();
        Ok(tx.insert(&list, 1, "c")?)
    };
    native.change(middle).await.unwrap();
    assert!(repo.pending().await.unwrap() >= 4);

    // Together again, with one more kill while they talk.
    relay.restart();
    let mut connection = repo.connect(&relay.url()).unwrap();
    connection.wait_caught_up(PATIENCE).await.unwrap();
    repo.wait_synced(PATIENCE).await.unwrap();
    relay.kill();
    relay.restart();
    ada.call("connect", json!({ "url": relay.url() })).await;
    ben.call("connect", json!({ "url": relay.url() })).await;
    connection.wait_caught_up(PATIENCE).await.unwrap();

    let settled = json!({ "title": "a paper b", "votes": 1_111, "list": ["a", "b", "c", "d", "e"],
        "when": { "$date": 2_000 }, "map": { "inner": { "n": 1, "ben": true, "native": { "$bytes": "09" } } } });
    eventually("everything of everybody is here", || async { native.to_json().await.unwrap() == settled }).await;
    let all = heads(&native).await;
    ada.wait_heads(&url, &all).await;
    ben.wait_heads(&url, &all).await;
    assert_eq!(ada.value(&url).await, settled);
    assert_eq!(ben.value(&url).await, settled);
    connection.disconnect().await;
}

/// Fetches a document that its author may only just be telling the relay.
async fn fetch_patiently(repo: &Repo, url: &str) -> DocHandle {
    fetch(repo, url).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn document_that_nobody_has_is_unavailable_and_arrives_when_somebody_brings_it() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(folder.path());
    // Made while offline, so that the relay does not have it yet.
    let author = Repo::in_memory().unwrap();
    let made = author.create().await.unwrap();
    made.set("late", true).await.unwrap();

    let mut javascript = Node::connected(&relay.url()).await;
    let found = javascript.call("find", json!({ "url": made.url() })).await;
    assert_eq!(found["state"], "unavailable");
    let waiting = Repo::in_memory().unwrap();
    let waiting_connection = waiting.connect(&relay.url()).unwrap();
    let wanted = waiting.open_or_fetch(made.id()).await.unwrap();
    assert!(wanted.wait_for_content(Duration::from_millis(300)).await.is_err());

    let _author_connection = author.connect(&relay.url()).unwrap();
    wanted.wait_for_content(PATIENCE).await.unwrap();
    assert_eq!(wanted.to_json().await.unwrap(), json!({ "late": true }));
    javascript.find(&made.url()).await;
    assert_eq!(javascript.value(&made.url()).await, json!({ "late": true }));
    waiting_connection.disconnect().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ephemeral_messages_reach_everybody_once_and_nobody_twice() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(folder.path());
    let mut ada = Node::connected(&relay.url()).await;
    let mut ben = Node::connected(&relay.url()).await;
    let repo = Repo::in_memory().unwrap();
    let _connection = repo.connect(&relay.url()).unwrap();
    let url = ada.call("create", json!({ "value": { "a": 1 } })).await["url"].as_str().unwrap().to_owned();
    ben.find(&url).await;
    let native = fetch_patiently(&repo, &url).await;
    agree(&mut ben, &native).await;
    let mut received = native.ephemerals();

    ada.call("broadcast", json!({ "url": url, "message": "from ada" })).await;
    let (_, data) = tokio::time::timeout(PATIENCE, received.next()).await.unwrap().unwrap();
    assert_eq!(data.as_ref(), [&[0x68][..], b"from ada"].concat());
    native.broadcast([&[0x6b][..], b"from native"].concat());
    for (client, expected) in [(&mut ada, vec!["from native"]), (&mut ben, vec!["from ada", "from native"])] {
        let arguments = json!({ "url": url, "count": expected.len() });
        let messages = client.call("ephemerals", arguments).await["messages"].take();
        let messages: Vec<_> = messages.as_array().unwrap().iter().map(|message| message["message"].clone()).collect();
        assert_eq!(messages, expected);
    }
    // JavaScript clients send every message they hear back to the server: nobody must hear it again.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let again = ben.call("ephemerals", json!({ "url": url, "count": 2 })).await;
    assert_eq!(again["messages"].as_array().unwrap().len(), 2);
}
