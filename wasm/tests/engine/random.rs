//! Random edits of two pages and of a remote peer: after every flush each page shows what is.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rejoin::repo::Repo;
use rejoin::{DocHandle, DocumentId};
use serde_json::{Value as Json, json};

use crate::page::{Page, World, id};
use crate::run;

/// One step: who, and four numbers that say what.
#[derive(Debug, Clone)]
struct Move {
    who: u8,
    what: u8,
    at: u8,
    value: u8,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = (0_u8..5, 0_u8..16, any::<u8>(), any::<u8>());
    prop::collection::vec(one.prop_map(|(who, what, at, value)| Move { who, what, at, value }), 1..30)
}

fn value(number: u8) -> Json {
    match number % 8 {
        0 => json!({ "$counter": number }),
        1 => json!({ "x": { "y": number } }),
        2 => json!([number, { "z": [number] }]),
        3 => json!({ "$text": "text" }),
        4 => json!({ "$date": number }),
        _ => json!(number),
    }
}

/// Maps alone, of which nothing is ever loaded.
fn map_value(number: u8) -> Json {
    match number % 4 {
        0 => json!({ "$counter": number }),
        1 => json!({ "m": { "m": number, "k": {} } }),
        _ => json!(number),
    }
}

fn key(number: u8) -> &'static str {
    ["k", "m", "$date"][usize::from(number % 3)]
}

/// An operation that fits the document as it is, or nearly so.
fn op(shown: &Json, one: &Move, maps_only: bool) -> Json {
    let (at, number) = (one.at, one.value);
    let value = |number| if maps_only { map_value(number) } else { value(number) };
    let mut path = vec![json!(key(at))];
    if at & 4 > 0 {
        path.push(json!(key(at >> 3)));
    }
    if at & 64 > 0 {
        path.push(json!(key(at >> 5)));
    }
    let what = if maps_only { one.what % 6 } else { one.what };
    let length = |name: &str| match &shown[name] {
        Json::Array(list) => list.len(),
        Json::String(text) => text.encode_utf16().count(),
        _ => 0,
    };
    let (rows, body) = (length("rows"), length("body"));
    let row = usize::from(at) % (rows + 1);
    let column = usize::from(at) % (body + 1);
    match what {
        0..=2 => json!(["set", path, value(number)]),
        3 => json!(["delete", path]),
        4 | 5 => json!(["increment", path, number]),
        6 | 7 => json!(["insert", ["rows"], row, [value(number), number]]),
        8 => json!(["remove", ["rows"], row, usize::from(number) % (rows - row + 1).min(3)]),
        9 => json!(["set", ["rows", row], value(number)]),
        10 => json!(["set", ["rows", row, key(number)], value(number)]),
        11 | 12 => json!(["splice", ["body"], column, usize::from(number) % (body - column + 1).min(3), "ab"]),
        13 => json!(["set", ["body"], "a whole new text"]),
        14 => json!(["increment", ["rows", row], 1]),
        _ => json!(["set", ["rows"], [number]]),
    }
}

/// A peer with a copy of the document.
async fn peer(page: &Page, doc: &str) -> (Repo, DocHandle) {
    let repo = Repo::in_memory().unwrap();
    let bytes = page.ask("export", json!([doc]), None).await.unwrap();
    let rejoin_wasm::Answer::Bytes(bytes) = bytes else { panic!("no bytes") };
    let handle = repo.import(bytes).await.unwrap();
    (repo, handle)
}

async fn play(all: Vec<Move>, maps_only: bool) {
    let world = World::new();
    let (mut first, mut second) = (world.page("a"), world.page("b"));
    let start = if maps_only {
        json!({ "k": { "k": { "m": 1 } }, "m": { "$counter": 1 } })
    } else {
        json!({ "k": { "k": { "m": 1 } }, "rows": [1, { "k": 1 }], "body": { "$text": "text" } })
    };
    let doc = first.create(1, start).await;
    let here = world.repo.find(doc.parse::<DocumentId>().unwrap()).await.unwrap().unwrap();
    // The peer is an engine of its own, so that it edits by the same words.
    let (peer_repo, peer_doc) = peer(&first, &doc).await;
    let away = World::of(peer_repo);
    let remote = away.page("r");
    let remote_id = peer_doc.id().to_string();
    first.open(&doc).await;
    second.open(&doc).await;
    for one in all {
        match one.who {
            0 => {
                let op = op(&first.docs[&doc].value, &one, maps_only);
                drop(first.try_call("edit", json!([doc, null, [op]])).await);
            }
            1 => {
                // A state of before, perhaps.
                let shown = &second.docs[&doc];
                let op = op(&shown.value, &one, maps_only);
                drop(second.try_call("edit", json!([doc, { "heads": shown.heads, "own": [] }, [op]])).await);
            }
            2 => {
                let shown = remote.call("json", json!([remote_id])).await;
                drop(remote.try_call("edit", json!([remote_id, null, [op(&shown, &one, maps_only)]])).await);
            }
            3 => {
                if one.at % 2 == 0 {
                    here.merge_from(&peer_doc).await.unwrap();
                } else {
                    peer_doc.merge_from(&here).await.unwrap();
                }
            }
            _ => {
                first.settle(&doc).await;
                if one.at % 2 == 0 {
                    second.settle(&doc).await;
                }
                if one.at % 16 == 1 {
                    // Memory is short: the trail is gone.
                    world.repo.set_loaded_bytes_max(0);
                    let other = first.create(one.value.max(2), json!({ "t": { "$text": "x" } })).await;
                    first.call("get", json!([other, ["t"]])).await;
                    world.repo.set_loaded_bytes_max(u64::from(u32::MAX));
                }
            }
        }
    }
    here.merge_from(&peer_doc).await.unwrap();
    let value = first.settle(&doc).await;
    assert_eq!(value, second.settle(&doc).await);
    if maps_only {
        let alone = [first, second].iter().all(|page| page.docs[&doc].patches.iter().all(|patch| patch[0] != "all"));
        assert!(alone, "a document of maps is followed field by field");
    }
    let _ = id(1);
}

fn check(maps_only: bool) {
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&moves(), |all| {
        run(play(all, maps_only));
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn pages_show_documents_of_maps_as_they_are() {
    check(true);
}

#[test]
fn pages_show_documents_with_lists_and_texts_as_they_are() {
    check(false);
}
