//! One room, three implementations, two protocols: two native clients by `rejoin.v1`, automerge-repo in Node and samod by the
//! classic protocol, all in one document at the same time.

use std::collections::BTreeSet;
use std::sync::Arc;

use automerge::transaction::Transactable;
use automerge::{AutomergeError, ROOT, ReadDoc};
use futures_util::{Stream, StreamExt, stream};
use rejoin::codec::v1::Code;
use rejoin::repo::testing::ToldBy;
use rejoin::repo::{EventKind, Receipt};
use rejoin::{ConnectOptions, Connection, DocHandle, Protocol, Repo};
use rejoin_tests::node::Node;
use rejoin_tests::relay::RelayProcess;
use serde_json::{Value as Json, json};

use crate::samod::WebSocketDialer;
use crate::{PATIENCE, eventually, fetch, heads};

#[tokio::test]
async fn classic_server_that_takes_what_a_relay_refused_ends_the_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(folder.path());
    let repo = Repo::in_memory().unwrap();
    let mut events = repo.subscribe();
    let note = repo.create().await.unwrap();
    // Nothing waits but what was refused and what stands on it.
    let refused = note.set("title", "refused by another relay").await.unwrap();
    let behind = note.set("title", "stands on it").await.unwrap();
    ToldBy::new(&repo).reject(note.id(), refused.change().unwrap(), Code::ReadOnly.number()).await.unwrap();
    assert_eq!((repo.rejected().await.unwrap().len(), repo.pending_of(note.id())), (1, 0));

    let _connection = repo.connect_with(&relay.url(), &ConnectOptions::new().protocol(Protocol::Classic)).unwrap();
    eventually("the refusal to end", || async { repo.rejected().await.unwrap().is_empty() }).await;
    behind.wait(Receipt::Relayed, PATIENCE).await.unwrap();
    assert_eq!(repo.pending_of(note.id()), 0);
    let retried = async { while events.next().await.unwrap().unwrap().kind != EventKind::Retried {} };
    tokio::time::timeout(PATIENCE, retried).await.unwrap();
}

/// How many times each of the four edits.
const EDITS: i64 = 20;

/// Four clients that have the same document open.
struct Room {
    ada: DocHandle,
    ben: DocHandle,
    javascript: Node,
    theirs: samod::DocHandle,
    samod: samod::Repo,
    _connections: [Connection; 2],
    _relay: RelayProcess,
    _folder: tempfile::TempDir,
}

impl Room {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let relay = RelayProcess::start(folder.path());
        let mut javascript = Node::connected(&relay.url()).await;
        let value = json!({ "title": "", "votes": { "$counter": 0 } });
        let url = javascript.call("create", json!({ "value": value })).await["url"].as_str().unwrap().to_owned();
        let ((ada, one), (ben, two)) = tokio::join!(native(&relay, &url), native(&relay, &url));
        let samod = samod::Repo::build_tokio().load().await;
        let dialer = Arc::new(WebSocketDialer(relay.url().parse().unwrap()));
        samod.dial(samod::BackoffConfig::default(), dialer).unwrap().established().await.unwrap();
        let theirs = samod.find(ada.id().to_string().parse().unwrap()).await.unwrap().expect("the relay has it");
        let _connections = [one, two];
        Self { ada, ben, javascript, theirs, samod, _connections, _relay: relay, _folder: folder }
    }
}

/// Connects a native client by `rejoin.v1` and nothing else, and opens the document.
async fn native(relay: &RelayProcess, url: &str) -> (DocHandle, Connection) {
    let repo = Repo::in_memory().unwrap();
    let connection = repo.connect_with(&relay.url(), &ConnectOptions::new().protocol(Protocol::RejoinV1)).unwrap();
    (fetch(&repo, url).await, connection)
}

async fn edit_natively(handle: &DocHandle, name: &str) {
    for number in 0..EDITS {
        handle.set(name, number).await.unwrap();
        handle.increment("votes", 1).await.unwrap();
        handle.splice_text("title", 0, 0, &name[..1]).await.unwrap();
        tokio::task::yield_now().await;
    }
}

async fn edit_in_javascript(node: &mut Node, url: &str) {
    for number in 0..EDITS {
        let edits = json!([
            { "do": "set", "path": ["javascript"], "value": number },
            { "do": "increment", "path": ["votes"], "by": 1 },
            { "do": "splice", "path": ["title"], "index": 0, "del": 0, "text": "j" },
        ]);
        node.change(url, edits).await;
    }
}

async fn edit_in_samod(theirs: &samod::DocHandle) {
    for number in 0..EDITS {
        theirs.with_document(|document| {
            let edit = document.transact::<_, _, AutomergeError>(|tx| {
                tx.put(ROOT, "samod", number)?;
                tx.increment(ROOT, "votes", 1)?;
                let (_, title) = tx.get(ROOT, "title")?.expect("it was there from the beginning");
                tx.splice_text(&title, 0, 0, "s")
            });
            edit.unwrap();
        });
        tokio::task::yield_now().await;
    }
}

fn their_heads(theirs: &samod::DocHandle) -> Vec<String> {
    let mut heads: Vec<_> = theirs.with_document(|document| document.get_heads());
    heads.sort();
    heads.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_three_implementations_and_both_protocols_edit_one_document_at_once() {
    let mut room = Room::open().await;
    let url = room.ada.url();
    tokio::join!(
        edit_natively(&room.ada, "ada"),
        edit_natively(&room.ben, "ben"),
        edit_in_javascript(&mut room.javascript, &url),
        edit_in_samod(&room.theirs),
    );
    let last = EDITS - 1;
    eventually("every edit of everybody is here", || async {
        let value = room.ada.to_json().await.unwrap();
        value["votes"] == 4 * EDITS
            && ["ada", "ben", "javascript", "samod"].iter().all(|name| value[*name] == last)
            && value["title"].as_str().is_some_and(|title| title.len() as i64 == 4 * EDITS)
    })
    .await;
    let (value, all) = (room.ada.to_json().await.unwrap(), heads(&room.ada).await);
    eventually("the other native client has it", || async { heads(&room.ben).await == all }).await;
    room.javascript.wait_heads(&url, &all).await;
    eventually("samod has it", || async { their_heads(&room.theirs) == all }).await;
    assert_eq!(room.ben.to_json().await.unwrap(), value);
    assert_eq!(room.javascript.value(&url).await, value);
    let title = room.theirs.with_document(|document| {
        let (_, title) = document.get(ROOT, "title").unwrap().unwrap();
        document.text(&title).unwrap()
    });
    assert_eq!(Json::String(title), value["title"]);
    room.samod.stop().await;
}

/// Makes a short text in CBOR, which is what JavaScript reads.
fn cbor(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x60 | u8::try_from(text.len()).unwrap()];
    assert!(text.len() < 24);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// Waits until all of these were heard, and returns what was heard.
async fn hear(mut messages: impl Stream<Item = Vec<u8>> + Unpin, wanted: &BTreeSet<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut heard = Vec::new();
    let all = async {
        while !wanted.iter().all(|message| heard.contains(message)) {
            heard.push(messages.next().await.unwrap());
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, all).await;
    in_time.unwrap_or_else(|_| panic!("heard {heard:?}, not {wanted:?}"));
    heard
}

fn ephemerals(handle: &DocHandle) -> impl Stream<Item = Vec<u8>> + Unpin + use<> {
    Box::pin(stream::unfold(handle.ephemerals(), |mut ephemerals| async {
        let (_, data) = ephemerals.next().await?;
        Some((data.to_vec(), ephemerals))
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ephemeral_message_of_each_is_heard_once_by_all_others() {
    let mut room = Room::open().await;
    let url = room.ada.url();
    let mut listeners = [ephemerals(&room.ada), ephemerals(&room.ben)];
    let mut in_samod = Box::pin(room.theirs.ephemera());
    let names = ["ada", "ben", "javascript", "samod"];
    let but = |name: &str| names.iter().filter(|other| **other != name).map(|other| cbor(other)).collect();

    // Who listens has to be known to the relay before somebody speaks: all have talked about the document by then.
    room.ada.set("hello", 1).await.unwrap();
    let all = heads(&room.ada).await;
    eventually("all listen", || async { heads(&room.ben).await == all && their_heads(&room.theirs) == all }).await;
    room.javascript.wait_heads(&url, &all).await;

    room.ada.broadcast(cbor("ada"));
    room.ben.broadcast(cbor("ben"));
    room.theirs.broadcast(cbor("samod"));
    room.javascript.call("broadcast", json!({ "url": url, "message": "javascript" })).await;
    let [ada, ben] = &mut listeners;
    for (name, heard) in [
        ("ada", hear(ada, &but("ada")).await),
        ("ben", hear(ben, &but("ben")).await),
        ("samod", hear(&mut in_samod, &but("samod")).await),
    ] {
        assert_eq!(heard.len(), 3, "{name} heard something twice, or itself: {heard:?}");
    }
    let messages = room.javascript.call("ephemerals", json!({ "url": url, "count": 3 })).await["messages"].take();
    let messages: Vec<_> = messages.as_array().unwrap().iter().filter_map(|one| one["message"].as_str()).collect();
    assert_eq!(messages.len(), 3, "{messages:?}");
    assert_eq!(BTreeSet::from_iter(messages), BTreeSet::from(["ada", "ben", "samod"]));
    room.samod.stop().await;
}
