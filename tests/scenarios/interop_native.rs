//! Our client against the library's own WebSocket server.

use automerge::transaction::Transactable;
use automerge::{ObjType, ROOT, ReadDoc};
use rejoin::{Repo, Value};
use rejoin_tests::node::Node;
use serde_json::json;

use crate::{PATIENCE, eventually, fetch, heads};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn native_client_and_a_javascript_client_meet_at_the_librarys_own_server() {
    let mut server = Node::start("server.mjs", &[]);
    let url = format!("ws://127.0.0.1:{}", server.line().await["port"]);
    let mut javascript = Node::connected(&url).await;
    let repo = Repo::in_memory().unwrap();
    let mut connection = repo.connect(&url).unwrap();
    connection.wait_caught_up(PATIENCE).await.unwrap();

    // Made there, seen here.
    let value = json!({ "title": "x", "n": { "$counter": 1 }, "map": { "deep": { "yes": true } }, "list": [1, "two"],
        "when": { "$date": 5 }, "raw": { "$bytes": "00ff" } });
    let made = javascript.call("create", json!({ "value": value })).await;
    let document_url = made["url"].as_str().unwrap().to_owned();
    eventually("the server has the document", || async {
        let handle = repo.open_or_fetch(document_url.parse().unwrap()).await.unwrap();
        if !handle.heads().await.unwrap().is_empty() {
            return true;
        }
        // The server answered "unavailable": ask again on a new connection.
        repo.delete(handle.id()).await.unwrap();
        false
    })
    .await;
    let handle = fetch(&repo, &document_url).await;
    let mut expected = value.clone();
    expected["n"] = json!(1);
    assert_eq!(handle.to_json().await.unwrap(), expected);

    // Edited on both sides at once: fields, counter, text, list.
    handle.set(["map", "deep", "no"], false).await.unwrap();
    handle.increment("n", 10).await.unwrap();
    let edit = |tx: &mut automerge::transaction::Transaction<'_>| {
        let (_, list) = tx.get(ROOT, "list")?.unwrap();
        tx.insert(&list, 0, "zero")?;
        let body = tx.put_object(ROOT, "body", ObjType::Text)?;
        Ok(tx.splice_text(&body, 0, 0, "héllo 😀")?)
    };
    handle.change(edit).await.unwrap();
    javascript
        .change(
            &document_url,
            json!([
                { "do": "increment", "path": ["n"], "by": 100 },
                { "do": "insert", "path": ["list"], "index": 2, "value": "three" },
            ]),
        )
        .await;
    let settled = json!({ "title": "x", "n": 111, "map": { "deep": { "yes": true, "no": false } },
        "list": ["zero", 1, "two", "three"], "when": { "$date": 5 }, "raw": { "$bytes": "00ff" }, "body": "héllo 😀" });
    eventually("both edits are here", || async { handle.to_json().await.unwrap() == settled }).await;
    javascript.wait_heads(&document_url, &heads(&handle).await).await;
    assert_eq!(javascript.value(&document_url).await, settled);

    // Made here, seen there.
    let ours = repo.create().await.unwrap();
    ours.set("from", "rust").await.unwrap();
    ours.set("nested", Value::from_json(json!({ "a": { "b": 1 } })).unwrap()).await.unwrap();
    repo.wait_synced(PATIENCE).await.unwrap();
    javascript.find(&ours.url()).await;
    javascript.wait_heads(&ours.url(), &heads(&ours).await).await;
    assert_eq!(javascript.value(&ours.url()).await, json!({ "from": "rust", "nested": { "a": { "b": 1 } } }));
    connection.disconnect().await;
}
