//! Deleting as an application does it: from this device, everywhere, and down to the last byte.

#![cfg(all(feature = "client", feature = "redb"))]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use rejoin::deletion::DeletionKind;
use rejoin::engine::Origin;
use rejoin::repo::EventKind;
use rejoin::{DocHandle, Repo, RepoError};
use serde_json::json;

/// A text that is looked for in files.
const CANARY: &str = "canary-5f0e1c77-that-nobody-must-find";

async fn filled(repo: &Repo) -> DocHandle {
    let handle = repo.create().await.unwrap();
    handle.set("title", CANARY).await.unwrap();
    handle.splice_text("body", 0, 0, "a text").await.unwrap();
    handle
}

async fn assert_gone(repo: &Repo, handle: &DocHandle) {
    assert!(repo.find(handle.id()).await.unwrap().is_none());
    assert!(!repo.list().await.unwrap().contains(&handle.id()));
    assert!(matches!(repo.open_or_fetch(handle.id()).await, Err(RepoError::Deleted)));
    assert!(matches!(handle.set("title", "again").await, Err(RepoError::Deleted)));
    assert!(matches!(handle.splice_text("body", 0, 0, "x").await, Err(RepoError::Deleted)));
    assert!(matches!(handle.fork().await, Err(RepoError::Deleted)));
    assert!(matches!(handle.merge_from(handle).await, Err(RepoError::Deleted)));
    let other = repo.create().await.unwrap();
    other.set("a", 1).await.unwrap();
    assert!(matches!(handle.merge_from(&other).await, Err(RepoError::Deleted)));
    assert_eq!(handle.to_json().await.unwrap(), json!({}));
    assert_eq!(handle.text("body").await.unwrap(), None);
    repo.delete(other.id()).await.unwrap();
}

#[tokio::test]
async fn document_deleted_everywhere_takes_nothing_more_and_waits_for_a_relay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let repo = Repo::open(&path).await.unwrap();
    let handle = filled(&repo).await;
    let kept = filled(&repo).await;
    let mut events = handle.subscribe();
    repo.delete_everywhere(handle.id()).await.unwrap();
    let event = events.next().await.unwrap().unwrap();
    assert_eq!((event.kind, event.origin), (EventKind::Deleted, Origin::Local));
    assert_gone(&repo, &handle).await;
    // The other document's two changes, and the deletion.
    assert_eq!(repo.pending().await.unwrap(), 3);
    let deletion = repo.deletion(handle.id()).await.unwrap().unwrap();
    assert_eq!((deletion.kind, deletion.by), (DeletionKind::Deleted, repo.storage_id().to_string()));
    assert!(deletion.time_seconds > 1_700_000_000);
    assert!(repo.deletion(kept.id()).await.unwrap().is_none());

    // Also when the repo is opened again.
    let id = handle.id();
    drop((handle, kept, events));
    repo.close().await;
    let repo = Repo::open(&path).await.unwrap();
    assert!(matches!(repo.open_or_fetch(id).await, Err(RepoError::Deleted)));
    assert_eq!((repo.pending().await.unwrap(), repo.list().await.unwrap().len()), (3, 1));
    assert!(repo.verify().await.unwrap().is_sound());
    // To delete it here as well changes nothing; nor does saying it twice.
    repo.delete(id).await.unwrap();
    repo.delete_everywhere(id).await.unwrap();
    assert!(repo.deletion(id).await.unwrap().is_some());
    assert_eq!(repo.pending().await.unwrap(), 3);
}

#[tokio::test]
async fn document_deleted_here_may_be_fetched_again_and_begins_empty() {
    let repo = Repo::in_memory().unwrap();
    let handle = filled(&repo).await;
    repo.delete(handle.id()).await.unwrap();
    assert!(matches!(handle.set("a", 1).await, Err(RepoError::NotFound)));
    let again = repo.open_or_fetch(handle.id()).await.unwrap();
    assert_eq!(again.to_json().await.unwrap(), json!({}));
    again.set("a", 1).await.unwrap();
    assert_eq!(again.to_json().await.unwrap(), json!({ "a": 1 }));
    assert_eq!(repo.pending().await.unwrap(), 1);
}

#[tokio::test]
async fn edit_under_way_while_the_document_is_deleted_is_whole_or_refused() {
    let repo = Repo::in_memory().unwrap();
    let handle = filled(&repo).await;
    let edits = (0..50).map(|number| {
        let handle = handle.clone();
        tokio::spawn(async move {
            let field = handle.set("n", number).await;
            (field, handle.splice_text("body", 0, 0, "x").await)
        })
    });
    let edits: Vec<_> = edits.collect();
    tokio::task::yield_now().await;
    repo.delete_everywhere(handle.id()).await.unwrap();
    for edit in edits {
        let (field, text) = edit.await.unwrap();
        assert!(matches!(field, Ok(_) | Err(RepoError::Deleted)), "{field:?}");
        // An edit of the text may also find that one which it stood on was not stored.
        assert!(matches!(text, Ok(_) | Err(RepoError::Deleted | RepoError::Document(_))), "{text:?}");
    }
    assert_gone(&repo, &handle).await;
}

fn holds_canary(path: &Path) -> bool {
    let bytes = std::fs::read(path).unwrap();
    bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
}

#[tokio::test]
async fn purged_document_has_left_no_byte_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let repo = Repo::open(&path).await.unwrap();
    let kept = repo.create().await.unwrap();
    kept.set("title", "kept").await.unwrap();
    let mut handles = Vec::new();
    for _ in 0..20 {
        handles.push(filled(&repo).await);
    }
    // Deleted alone, they are only out of reach.
    for handle in &handles[1..] {
        repo.delete(handle.id()).await.unwrap();
    }
    assert!(holds_canary(&path));
    repo.purge(handles[0].id()).await.unwrap();
    assert!(!holds_canary(&path));
    assert_gone(&repo, &handles[0]).await;
    assert_eq!(repo.deletion(handles[0].id()).await.unwrap().unwrap().kind, DeletionKind::Purged);
    // The repo goes on in the new file.
    kept.set("more", 1).await.unwrap();
    assert_eq!(kept.to_json().await.unwrap(), json!({ "title": "kept", "more": 1 }));
    drop((kept, handles));
    repo.close().await;
    assert!(!holds_canary(&path));
    let repo = Repo::open(&path).await.unwrap();
    assert_eq!(repo.list().await.unwrap().len(), 1);
    assert!(repo.verify().await.unwrap().is_sound());
}

#[tokio::test]
async fn document_deleted_everywhere_can_be_purged_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let repo = Repo::open(&path).await.unwrap();
    let handle = filled(&repo).await;
    repo.delete_everywhere(handle.id()).await.unwrap();
    repo.purge(handle.id()).await.unwrap();
    assert_eq!(repo.deletion(handle.id()).await.unwrap().unwrap().kind, DeletionKind::Purged);
    assert!(!holds_canary(&path));
    assert_eq!(repo.pending().await.unwrap(), 1);
}

#[tokio::test]
async fn who_waits_for_a_document_hears_that_it_was_deleted() {
    let long = Duration::from_secs(3_600);
    let repo = Repo::in_memory().unwrap();
    for is_everywhere in [false, true] {
        let handle = repo.open_or_fetch(repo.create().await.unwrap().id()).await.unwrap();
        let id = handle.id();
        let waiting = tokio::spawn(async move { handle.wait_for_content(long).await });
        // Of another document it hears nothing.
        let other = filled(&repo).await;
        repo.delete(other.id()).await.unwrap();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        if is_everywhere {
            repo.delete_everywhere(id).await.unwrap();
            assert!(matches!(waiting.await.unwrap(), Err(RepoError::Deleted)));
        } else {
            repo.delete(id).await.unwrap();
            assert!(matches!(waiting.await.unwrap(), Err(RepoError::NotFound)));
        }
    }
}
