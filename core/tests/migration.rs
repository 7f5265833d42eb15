//! Stores of every released format are opened, and everything in them is found.
#![cfg(feature = "redb")]
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "migration/fixture.rs"]
mod fixture;

use rejoin::store::{FORMAT_VERSION, RedbOptions, RedbStore};
use tempfile::TempDir;

/// Run by hand, once for each format and never again: `cargo test --test migration -- --ignored keep`.
#[test]
#[ignore = "it writes the fixture of this version's format"]
fn keep_a_store_of_this_format() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
    let expected = fixture::fill(&store);
    similar(&fixture::found(&store), &expected);
    drop(store);
    assert!(!fixture::path(FORMAT_VERSION).with_extension("json").exists(), "a kept store is kept for ever");
    fixture::pack(FORMAT_VERSION, &path, &expected);
}

#[test]
fn store_of_format_1_is_opened_with_everything_in_it() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    fixture::unpack(1, &path);
    let expected = fixture::expected(1);
    for _ in 0..2 {
        let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
        similar(&fixture::found(&store), &expected);
    }
}

/// Compares part by part, so that a failure shows the part and not the whole.
#[track_caller]
fn similar(found: &serde_json::Value, expected: &serde_json::Value) {
    assert_eq!(found["storage_id"], expected["storage_id"]);
    let documents = |of: &serde_json::Value| of["documents"].as_object().unwrap().clone();
    assert_eq!(documents(found).keys().collect::<Vec<_>>(), documents(expected).keys().collect::<Vec<_>>());
    for (document, expected) in documents(expected) {
        for (part, expected) in expected.as_object().unwrap() {
            assert_eq!(found["documents"][&document][part], *expected, "{part} of {document}");
        }
    }
}
