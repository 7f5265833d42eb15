//! A stock automerge-repo client at a relay that wants a token: it shows a ticket in its URL, and its library knows nothing of that.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use rejoin::{ConnectOptions, Protocol, Repo};
use rejoin_tests::node::Node;
use rejoin_tests::relay::RelayProcess;
use serde_json::{Value as Json, json};

use crate::{PATIENCE, eventually, fetch, heads};

const SECRET: &str = "what the application's server signs with, longer than 32 bytes";

/// A closed relay, and the folder that its configuration and data are in.
struct Closed {
    relay: RelayProcess,
    admin: String,
    folder: tempfile::TempDir,
}

impl Closed {
    fn start(ticket_seconds: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = folder.path().join("relay.toml");
        let text = format!(
            "[auth]\nkeys = [{{ alg = \"HS256\", secret = \"{SECRET}\" }}]\nticket_seconds = {ticket_seconds}\n\
             [admin]\nlisten = \"127.0.0.1:{port}\"\n"
        );
        std::fs::write(&config, text).unwrap();
        let arguments = ["--config".to_owned(), config.to_str().unwrap().to_owned()];
        let relay = RelayProcess::start_with(&data(&folder), &arguments);
        Self { relay, admin: format!("http://127.0.0.1:{port}"), folder }
    }

    /// Runs `rejoin-relay admin`, and returns what it answers.
    fn admin(&self, arguments: &[&str]) -> Json {
        let mut command = Command::new(rejoin_tests::binary("rejoin-relay"));
        command.args(["admin", "--json", "--url", &self.admin, "--data"]).arg(data(&self.folder)).args(arguments);
        let output = tokio::task::block_in_place(|| command.output().unwrap());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Gets somebody a ticket, and returns the URL it goes into, and until when it may be used.
    async fn ticket(&self, client: &mut Node, claims: Json) -> (String, u64) {
        let relay = self.relay.url().replace("ws://", "http://");
        let answer = client.call("ticket", json!({ "relay": relay, "secret": SECRET, "claims": claims })).await;
        assert_eq!(answer["status"], 200, "{answer}");
        let ticket = answer["ticket"].as_str().unwrap();
        (format!("{}/?ticket={ticket}", self.relay.url()), answer["expires"].as_u64().unwrap())
    }

    /// Starts a client that comes in with a ticket.
    async fn join(&self, claims: Json) -> Node {
        let mut client = Node::start("client.mjs", &[]);
        let (url, _) = self.ticket(&mut client, claims).await;
        client.call("connect", json!({ "url": url })).await;
        client
    }
}

fn data(folder: &tempfile::TempDir) -> std::path::PathBuf {
    Path::join(folder.path(), "data")
}

/// What Ada's token says: everything in the default space is hers to write.
fn ada_claims() -> Json {
    json!({ "sub": "ada", "rejoin": { "grants": [{ "space": "default", "access": "write" }] } })
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn set(key: &str, value: impl Into<Json>) -> Json {
    json!([{ "do": "set", "path": [key], "value": value.into() }])
}

/// Waits until a client shows this value at a key.
async fn shows(client: &mut Node, url: &str, key: &str, value: impl Into<Json>) {
    let value = value.into();
    let asked = async {
        while client.value(url).await[key] != value {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("never {key} = {value}"));
}

/// Waits until a client was refused with HTTP 401, and asserts that it has nobody to talk to.
async fn is_refused(client: &mut Node) {
    let asked = async {
        loop {
            let answer = client.call("peers", json!({})).await;
            let thrown = answer["thrown"].as_array().unwrap();
            if thrown.iter().any(|error| error.as_str().unwrap().contains("401")) {
                return assert_eq!(answer["count"], 0);
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("never refused with 401"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stock_clients_come_in_with_tickets_and_do_what_they_may() {
    let mut closed = Closed::start(600);
    let mut ada = closed.join(ada_claims()).await;
    let value = json!({ "title": "paper", "by": "ada" });
    let url = ada.call("create", json!({ "value": value })).await["url"].as_str().unwrap().to_owned();
    let document = url.strip_prefix("automerge:").unwrap().to_owned();

    // By a grant on the relay, not by what his token says.
    closed.admin(&["principal", "create", "ben"]);
    closed.admin(&["grant", "put", "ben", &format!("document/{document}"), "read"]);
    let mut ben = closed.join(json!({ "sub": "ben" })).await;
    ben.find(&url).await;
    assert_eq!(ben.value(&url).await, value);

    // Who shows nothing gets nothing, and leaves nothing.
    let mut nobody = Node::start("client.mjs", &[]);
    assert!(nobody.try_call("connect", json!({ "url": closed.relay.url(), "timeout_ms": 1_000 })).await.is_err());
    is_refused(&mut nobody).await;
    nobody.call("create", json!({ "value": { "from": "nobody" } })).await;
    assert_ne!(nobody.call("find", json!({ "url": url, "timeout_ms": 1_000 })).await["state"], "ready");

    // In the same document by the other protocol, with the token itself.
    closed.admin(&["principal", "create", "cleo"]);
    closed.admin(&["grant", "put", "cleo", &format!("document/{document}"), "write"]);
    let token = closed.admin(&["token", "create", "cleo"])["secret"].as_str().unwrap().to_owned();
    let repo = Repo::in_memory().unwrap();
    let options = ConnectOptions::new().protocol(Protocol::RejoinV1).token(token);
    let mut connection = repo.connect_with(&closed.relay.url(), &options).unwrap();
    let native = fetch(&repo, &url).await;
    native.set("native", "was here").await.unwrap();
    shows(&mut ada, &url, "native", "was here").await;
    shows(&mut ben, &url, "native", "was here").await;

    // What a reader writes stays with it; what others write reaches it all the same.
    ben.change(&url, set("ben", "wrote this")).await;
    ada.change(&url, set("ada", "wrote that")).await;
    shows(&mut ben, &url, "ada", "wrote that").await;
    assert_eq!(ben.value(&url).await["ben"], "wrote this");

    // The relay comes back, and so do they, with the URL they have.
    closed.relay.kill();
    ada.change(&url, set("offline", true)).await;
    closed.relay.restart();
    shows(&mut ben, &url, "offline", true).await;
    connection.wait_caught_up(PATIENCE).await.unwrap();
    eventually("the native client has it", || async { native.to_json().await.unwrap()["offline"] == true }).await;
    let all = heads(&native).await;
    ada.wait_heads(&url, &all).await;
    assert_eq!(native.to_json().await.unwrap()["ben"], Json::Null);
    let stored = closed.admin(&["document", "list", "default"]);
    assert_eq!(stored["items"].as_array().unwrap().len(), 1, "nobody else has written a document: {stored}");
    connection.disconnect().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stock_client_that_is_shut_out_is_gone_and_does_not_come_back() {
    let closed = Closed::start(600);
    let mut ada = closed.join(ada_claims()).await;
    let url = ada.call("create", json!({ "value": { "n": 0 } })).await["url"].as_str().unwrap().to_owned();
    closed.admin(&["principal", "create", "ben"]);
    closed.admin(&["grant", "put", "ben", "space/default", "write"]);
    let mut ben = closed.join(json!({ "sub": "ben" })).await;
    ben.find(&url).await;
    ben.change(&url, set("n", 1)).await;
    shows(&mut ada, &url, "n", 1).await;

    closed.admin(&["principal", "disable", "ben"]);
    // It tries again and again, with a ticket whose time is not over.
    is_refused(&mut ben).await;
    is_refused(&mut ben).await;
    ada.change(&url, set("n", 2)).await;
    ben.change(&url, set("secret", true)).await;
    // A third that comes now sees what there is: only one of the two reached the relay.
    let mut cleo = closed.join(ada_claims()).await;
    cleo.find(&url).await;
    shows(&mut cleo, &url, "n", 2).await;
    is_refused(&mut ben).await;
    assert_eq!(ben.value(&url).await["n"], 1);
    assert_eq!(cleo.value(&url).await, json!({ "n": 2 }));
    assert_eq!(ada.value(&url).await, json!({ "n": 2 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticket_whose_time_is_over_is_refused_and_a_fresh_one_brings_what_was_written_meanwhile() {
    let mut closed = Closed::start(4);
    let mut ada = Node::start("client.mjs", &[]);
    // A busy machine may be too slow for the first one.
    let expires = loop {
        let (url, expires) = closed.ticket(&mut ada, ada_claims()).await;
        if ada.try_call("connect", json!({ "url": url, "timeout_ms": 4_000 })).await.is_ok() {
            break expires;
        }
        ada.call("disconnect", json!({})).await;
    };
    let url = ada.call("create", json!({ "value": { "n": 0 } })).await["url"].as_str().unwrap().to_owned();
    let mut ben = closed.join(ada_claims()).await;
    ben.find(&url).await;
    ben.call("disconnect", json!({})).await;

    // The connection outlives its ticket.
    eventually("the ticket's time is over", || async { now_seconds() > expires }).await;
    assert_eq!(ada.call("peers", json!({})).await["count"], 1);
    closed.relay.kill();
    ada.change(&url, set("n", 1)).await;
    closed.relay.restart();
    is_refused(&mut ada).await;

    ada.call("disconnect", json!({})).await;
    let (fresh, _) = closed.ticket(&mut ada, ada_claims()).await;
    ada.call("connect", json!({ "url": fresh })).await;
    let (fresh, _) = closed.ticket(&mut ben, ada_claims()).await;
    ben.call("connect", json!({ "url": fresh })).await;
    shows(&mut ben, &url, "n", 1).await;
}
