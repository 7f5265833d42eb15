//! Documents in depth: rich text, lists, history, and what happens when a stored change makes Automerge panic.

#![cfg(all(feature = "client", feature = "redb"))]
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "documents/history.rs"]
mod history;
#[path = "documents/lists.rs"]
mod lists;
#[path = "documents/panics.rs"]
mod panics;
#[path = "documents/rescue.rs"]
mod rescue;
#[path = "documents/text.rs"]
mod text;

use rejoin::{DocHandle, Repo, Value};
use serde_json::Value as Json;

/// A document in two repos, with the history so far in both.
async fn pair(seed: impl AsyncFnOnce(&DocHandle)) -> (DocHandle, DocHandle) {
    let here = Repo::in_memory().unwrap().create().await.unwrap();
    seed(&here).await;
    let there = Repo::in_memory().unwrap().import(here.export().await.unwrap()).await.unwrap();
    (here, there)
}

/// Merges both ways and checks that both hold the same then.
async fn merge(here: &DocHandle, there: &DocHandle) -> Json {
    here.merge_from(there).await.unwrap();
    there.merge_from(here).await.unwrap();
    assert_eq!(here.heads().await.unwrap(), there.heads().await.unwrap());
    let json = here.to_json().await.unwrap();
    assert_eq!(json, there.to_json().await.unwrap());
    json
}

fn value(json: Json) -> Value {
    Value::from_json(json).unwrap()
}
