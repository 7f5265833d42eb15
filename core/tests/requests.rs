//! Writes that are handed in twice are done once.

#![cfg(all(feature = "client", feature = "redb"))]
#![expect(clippy::unwrap_used, reason = "tests")]

use automerge::transaction::Transactable;
use automerge::{ObjType, ROOT};
use rejoin::repo::{ChangeOptions, DocHandle, RequestId};
use rejoin::{Edit, Repo, RepoError, Value};
use serde_json::json;

fn asked(id: u64) -> ChangeOptions {
    ChangeOptions { request: Some(RequestId { session: [9; 16], id }), ..ChangeOptions::default() }
}

async fn type_at(note: &DocHandle, id: u64) -> Result<(), RepoError> {
    let edit = |tx: &mut automerge::transaction::Transaction<'_>| {
        let text = tx.put_object(ROOT, "body", ObjType::Text).unwrap();
        tx.splice_text(&text, 0, 0, "once").unwrap();
        Ok(())
    };
    note.change_written(asked(id), edit).await.map(drop)
}

#[tokio::test]
async fn write_with_the_same_number_is_done_once_over_a_restart_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let repo = Repo::open(&path).await.unwrap();
    let note = repo.create().await.unwrap();
    note.edit_with(asked(1), vec![Edit::set("votes", Value::counter(0))]).await.unwrap();
    let first = note.edit_with(asked(2), vec![Edit::increment("votes", 1)]).await.unwrap();
    let again = note.edit_with(asked(2), vec![Edit::increment("votes", 1)]).await.unwrap();
    assert_eq!(first.change(), again.change());
    let nothing = note.edit_with(asked(3), vec![Edit::delete("absent")]).await.unwrap();
    assert_eq!(nothing.change(), None);
    type_at(&note, 4).await.unwrap();
    assert_eq!(note.to_json().await.unwrap(), json!({ "votes": 1, "body": "once" }));

    let id = note.id();
    drop(note);
    repo.close().await;
    let repo = Repo::open(&path).await.unwrap();
    let note = repo.find(id).await.unwrap().unwrap();
    let again = note.edit_with(asked(2), vec![Edit::increment("votes", 1)]).await.unwrap();
    assert_eq!(first.change(), again.change());
    assert_eq!(note.edit_with(asked(3), vec![Edit::set("absent", 1)]).await.unwrap().change(), None);
    let heads = note.heads().await.unwrap();
    assert!(matches!(type_at(&note, 4).await, Err(RepoError::Repeated { change: Some(change) }) if heads == [change]));
    assert_eq!(note.to_json().await.unwrap(), json!({ "votes": 1, "body": "once" }));

    // Whose answer has arrived is not known any more, and nobody asks again.
    repo.forget_requests(RequestId { session: [9; 16], id: 2 }).await.unwrap();
    note.edit_with(asked(2), vec![Edit::increment("votes", 1)]).await.unwrap();
    assert_eq!(note.get("votes").await.unwrap().unwrap().as_i64(), Some(2));
    assert!(matches!(type_at(&note, 4).await, Err(RepoError::Repeated { .. })));
}
