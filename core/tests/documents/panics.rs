//! A panic poisons nothing, and memory is bounded.

use std::sync::Arc;

use automerge::ScalarValue;
use rejoin::gate::{Action, ChangeDraft, CheckedChange, DraftObject, DraftOp, encode};
use rejoin::ledger::{self, Appended, Appender};
use rejoin::store::{MemoryStore, RedbOptions, RedbStore, Store, StoreError, StoreExt};
use rejoin::{ActorId, ChangeHash, DocHandle, DocumentId, OpId, Repo, RepoError};
use serde_json::json;

/// A change whose only operation writes into an object that is none: passes the gate's own rules, and Automerge panics.
fn poison(actor: u8, start_op: u64, deps: Vec<ChangeHash>) -> CheckedChange {
    let actor = ActorId::from(&[actor; 16]);
    let put = |object, key: &str| DraftOp {
        object,
        key: key.to_owned(),
        action: Action::Put,
        value: ScalarValue::Int(1),
        preds: vec![],
    };
    let no_object = DraftObject::Op(OpId { counter: start_op, actor: actor.clone() });
    let ops = vec![put(DraftObject::Root, "scalar"), put(no_object, "key")];
    encode(&ChangeDraft { actor, seq: 1, start_op, timestamp: 0, message: None, deps, ops }).unwrap()
}

/// A sound change on top of others.
fn innocent(actor: u8, start_op: u64, deps: Vec<ChangeHash>) -> CheckedChange {
    let op = DraftOp {
        object: DraftObject::Root,
        key: format!("by {actor}"),
        action: Action::Put,
        value: ScalarValue::Int(1),
        preds: vec![],
    };
    let actor = ActorId::from(&[actor; 16]);
    encode(&ChangeDraft { actor, seq: 1, start_op, timestamp: 0, message: None, deps, ops: vec![op] }).unwrap()
}

/// Puts changes into the ledger past the check of what they refer to, as an older version might have.
fn append(store: &dyn Store, document: DocumentId, changes: &[CheckedChange]) {
    let appended: Result<(), StoreError> = store.write_with(|tx| {
        let mut appender = Appender::begin(tx, document)?;
        for change in changes {
            let appended = appender.append_own(tx, change)?;
            assert!(matches!(appended, Appended::Stored { .. }), "{appended:?}");
        }
        appender.finish(tx).map(|_| ())
    });
    appended.unwrap();
}

async fn poisoned(store: Arc<dyn Store>) -> (Repo, DocHandle, CheckedChange, CheckedChange) {
    let repo = Repo::with_store(Arc::clone(&store)).unwrap();
    let doc = repo.create().await.unwrap();
    doc.splice_text("body", 0, 0, "sound").await.unwrap();
    let heads = doc.heads().await.unwrap();
    let max_op = ledger::state(store.read().unwrap().as_ref(), &doc.id()).unwrap().unwrap().max_op;
    let bad = poison(1, max_op + 1, heads.clone());
    let follower = innocent(2, max_op + 3, vec![bad.hash()]);
    let beside = innocent(3, max_op + 1, heads);
    append(store.as_ref(), doc.id(), &[bad.clone(), follower.clone(), beside]);
    (repo, doc, bad, follower)
}

#[tokio::test]
async fn change_that_panics_is_quarantined_with_what_depends_on_it() {
    let (_repo, doc, bad, follower) = poisoned(Arc::new(MemoryStore::new())).await;
    assert_eq!(doc.to_json().await.unwrap_or_default(), json!({ "body": "sound", "by 3": 1 }));
    let quarantined = doc.quarantined().await.unwrap();
    assert_eq!(quarantined.iter().map(|one| one.hash).collect::<Vec<_>>(), [bad.hash(), follower.hash()]);
    assert!(quarantined[0].why.contains("panics"), "{}", quarantined[0].why);
    assert!(quarantined[1].why.contains("depends on"), "{}", quarantined[1].why);

    // Life goes on: reads, edits, and what others make on the sound state.
    doc.splice_text("body", 5, 0, " text").await.unwrap();
    doc.list_push("items", 1).await.unwrap();
    assert_eq!(doc.text("body").await.unwrap().unwrap(), "sound text");
    assert_eq!(doc.quarantined().await.unwrap(), quarantined);
    let error = doc.at(&[bad.hash()]).await.unwrap().to_json().await;
    assert!(matches!(error, Err(RepoError::Document(_))), "its state cannot be shown");
}

#[tokio::test]
async fn quarantine_is_found_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(path.clone(), RedbOptions::new()).unwrap());
    let (repo, doc, bad, follower) = poisoned(store).await;
    doc.splice_text("body", 5, 0, "!").await.unwrap();
    let id = doc.id();
    drop(doc);
    repo.close().await;

    let repo = Repo::open(&path).await.unwrap();
    let doc = repo.find(id).await.unwrap().unwrap();
    assert_eq!(doc.text("body").await.unwrap().unwrap(), "sound!");
    let hashes: Vec<_> = doc.quarantined().await.unwrap().iter().map(|one| one.hash).collect();
    assert_eq!(hashes, [bad.hash(), follower.hash()]);
}

#[tokio::test]
async fn panics_of_views_and_edits_leave_the_document_as_it_was() {
    let repo = Repo::in_memory().unwrap();
    let doc = repo.create().await.unwrap();
    doc.splice_text("body", 0, 0, "abc").await.unwrap();
    let view = doc.view(|_| unreachable!("as a view might")).await;
    assert!(matches!(view, Err::<(), _>(RepoError::Document(_))));
    let edit = doc.change(|tx| {
        automerge::transaction::Transactable::put(tx, automerge::ROOT, "half", 1)?;
        unreachable!("as an edit might")
    });
    assert!(matches!(edit.await, Err::<(), _>(RepoError::Document(_))));
    assert_eq!(doc.to_json().await.unwrap(), json!({ "body": "abc" }));
    doc.splice_text("body", 3, 0, "d").await.unwrap();
    assert_eq!(doc.text("body").await.unwrap().unwrap(), "abcd");
    assert!(doc.quarantined().await.unwrap().is_empty());
}

#[tokio::test]
async fn documents_used_longest_ago_leave_memory_first() {
    let repo = Repo::in_memory().unwrap();
    let mut docs = Vec::new();
    for _ in 0..4 {
        let doc = repo.create().await.unwrap();
        doc.splice_text("body", 0, 0, "x".repeat(1_000)).await.unwrap();
        doc.text("body").await.unwrap();
        docs.push(doc);
    }
    let loaded = async || -> Vec<_> {
        repo.loaded_documents().await.unwrap().into_iter().map(|loaded| loaded.document).collect()
    };
    assert_eq!(loaded().await, [3, 2, 1, 0].map(|index: usize| docs[index].id()));
    let one = repo.loaded_documents().await.unwrap()[0].estimated_bytes;
    assert!((16_000..64_000).contains(&one), "{one}");

    repo.set_loaded_bytes_max(one * 3 - 1);
    docs[0].text("body").await.unwrap();
    assert_eq!(loaded().await, [0, 3].map(|index: usize| docs[index].id()));
    // One that is larger than all may take is kept alone, and works.
    repo.set_loaded_bytes_max(1);
    docs[1].splice_text("body", 0, 0, "y").await.unwrap();
    assert_eq!(loaded().await, [docs[1].id()]);
    assert_eq!(docs[0].text("body").await.unwrap().unwrap().len(), 1_000);
    assert_eq!(loaded().await, [docs[0].id()]);
    repo.delete(docs[0].id()).await.unwrap();
    assert!(loaded().await.is_empty());
}
