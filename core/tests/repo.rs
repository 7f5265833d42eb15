//! The repo as an application uses it: documents in and out, typed values, subscriptions, conflicts, deletion.

#![cfg(all(feature = "client", feature = "redb"))]
#![allow(clippy::unwrap_used, reason = "tests")]

use autosurgeon::{Hydrate, Reconcile};
use rejoin::engine::Origin;
use rejoin::fields::ObjectId;
use rejoin::repo::EventKind;
use rejoin::{DocHandle, FieldPath, Repo, RepoError, Value};
use serde_json::json;

#[derive(Debug, Clone, PartialEq, Reconcile, Hydrate)]
struct Todo {
    title: String,
    done: bool,
    tags: Vec<String>,
}

#[tokio::test]
async fn typed_documents_write_only_what_differs() {
    let repo = Repo::in_memory().unwrap();
    let handle = repo.create().await.unwrap();
    let mut todo = Todo { title: "milk".to_owned(), done: false, tags: vec!["shop".to_owned()] };
    handle.reconcile(todo.clone()).await.unwrap();
    assert_eq!(handle.hydrate::<Todo>().await.unwrap(), todo);
    todo.done = true;
    todo.tags.push("today".to_owned());
    handle.reconcile(todo.clone()).await.unwrap();
    assert_eq!(handle.hydrate::<Todo>().await.unwrap(), todo);
    // The second change: one field, one list element.
    assert_eq!(handle.history().await.unwrap().last().unwrap().op_count, 2);
    // Registers see what the typed value wrote, without the document.
    assert_eq!(handle.get("done").await.unwrap().unwrap().as_bool(), Some(true));
    handle.set("done", "not a boolean").await.unwrap();
    assert!(matches!(handle.hydrate::<Todo>().await, Err(RepoError::Typed(_))));
}

#[tokio::test]
async fn files_go_out_and_come_in() {
    let repo = Repo::in_memory().unwrap();
    let handle = repo.create().await.unwrap();
    handle.set("map", Value::from_json(json!({ "a": { "b": 1 } })).unwrap()).await.unwrap();
    handle.splice_text("text", 0, 0, "wörld 😀").await.unwrap();
    let bytes = handle.export().await.unwrap();
    let copy = repo.import(bytes.clone()).await.unwrap();
    assert_ne!(copy.id(), handle.id());
    assert_eq!(copy.heads().await.unwrap(), handle.heads().await.unwrap());
    assert_eq!(copy.to_json().await.unwrap(), json!({ "map": { "a": { "b": 1 } }, "text": "wörld 😀" }));
    copy.splice_text("text", 8, 0, "!").await.unwrap();
    assert_eq!(copy.text("text").await.unwrap().as_deref(), Some("wörld 😀!"));

    let count = repo.list().await.unwrap().len();
    for damaged in [Vec::new(), b"no document".to_vec(), bytes[..bytes.len() / 2].to_vec()] {
        // Automerge takes an empty file for an empty document; whatever else is broken is said to be.
        match repo.import(damaged.clone()).await {
            Ok(empty) => assert!(damaged.is_empty() && empty.heads().await.unwrap().is_empty()),
            Err(error) => assert!(error.to_string().starts_with("failed to import the file"), "{error}"),
        }
    }
    assert!(repo.list().await.unwrap().len() <= count + 1);
}

#[tokio::test]
async fn subscribers_hear_who_changed_which_field() {
    let repo = Repo::in_memory().unwrap();
    let handle = repo.create().await.unwrap();
    let other = repo.create().await.unwrap();
    let mut events = handle.subscribe();
    other.set("not", "heard").await.unwrap();
    handle.set("title", "a").await.unwrap();
    let event = events.next().await.unwrap().unwrap();
    assert_eq!((event.origin, event.kind), (Origin::Local, EventKind::Changed));
    let touched: Vec<_> = event.touched.fields.iter().map(|field| (field.object.clone(), field.key.as_str())).collect();
    assert_eq!(touched, [(ObjectId::Root, "title")]);
    assert_eq!(event.heads.to_vec(), handle.heads().await.unwrap());
    handle.splice_text("body", 0, 0, "x").await.unwrap();
    assert!(events.next().await.unwrap().unwrap().touched.elements);
    repo.delete(handle.id()).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().kind, EventKind::Deleted);
}

#[tokio::test]
async fn deleted_documents_are_gone_and_say_so() {
    let repo = Repo::in_memory().unwrap();
    let handle = repo.create().await.unwrap();
    handle.set("a", 1).await.unwrap();
    handle.splice_text("text", 0, 0, "x").await.unwrap();
    repo.delete(handle.id()).await.unwrap();
    assert!(repo.find(handle.id()).await.unwrap().is_none());
    assert!(matches!(handle.set("a", 2).await, Err(RepoError::NotFound)));
    assert!(matches!(handle.splice_text("text", 0, 0, "y").await, Err(RepoError::NotFound)));
    assert_eq!(handle.to_json().await.unwrap(), json!({}));
    assert_eq!(repo.pending().await.unwrap(), 0);
}

#[tokio::test]
async fn wrong_edits_say_what_to_do_and_change_nothing() {
    let repo = Repo::in_memory().unwrap();
    let handle = repo.create().await.unwrap();
    handle.set("title", "a").await.unwrap();
    let heads = handle.heads().await.unwrap();
    assert!(matches!(handle.set(["title", "inner"], 1).await, Err(RepoError::Field(_))));
    assert!(matches!(handle.increment("title", 1).await, Err(RepoError::Field(_))));
    assert!(handle.set(FieldPath::root(), 1).await.is_err());
    assert!(matches!(handle.splice_text("title", 0, 0, "x").await, Err(RepoError::Document(_))));
    assert!(matches!(handle.splice_text("body", 5, 0, "x").await, Err(RepoError::Document(_))));
    assert_eq!(handle.heads().await.unwrap(), heads);
    handle.set("title", "a").await.unwrap();
    assert_eq!(handle.heads().await.unwrap(), heads, "what it holds already is not written again");
}

#[tokio::test]
async fn fields_and_edits_of_the_document_see_each_other() {
    let repo = Repo::in_memory().unwrap();
    let handle = repo.create().await.unwrap();
    handle.set("n", Value::counter(1)).await.unwrap();
    handle.splice_text("text", 0, 0, "abc").await.unwrap();
    for round in 0..20 {
        handle.increment("n", 1).await.unwrap();
        handle.splice_text("text", round, 1, "xy").await.unwrap();
    }
    assert_eq!(handle.get("n").await.unwrap().unwrap().as_i64(), Some(21));
    assert_eq!(handle.get_all("n").await.unwrap().len(), 1);
    assert_eq!(handle.heads().await.unwrap().len(), 1, "each write saw the one before");
    let json = handle.to_json().await.unwrap();
    assert_eq!(json["n"], 21);
    assert_eq!(json["text"].as_str().unwrap().len(), 22 + 1);
}

#[tokio::test]
async fn store_is_free_again_when_the_repo_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    for round in 0..3 {
        let repo = Repo::open(&path).await.unwrap();
        assert!(matches!(Repo::open(&path).await, Err(RepoError::Store(_))), "two cannot have it at once");
        let handle = repo.create().await.unwrap();
        handle.set("round", round).await.unwrap();
        assert_eq!(repo.list().await.unwrap().len(), usize::try_from(round).unwrap() + 1);
        drop(handle);
        repo.close().await;
    }
}

#[test]
fn handles_are_send_sync_and_clone() {
    fn check<T: Send + Sync + Clone + 'static>() {}
    check::<Repo>();
    check::<DocHandle>();
}
