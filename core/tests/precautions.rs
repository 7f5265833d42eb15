//! What is known of an engine that ended inside Automerge: at what it worked, and what is left out the next time.

#![cfg(all(feature = "client", feature = "redb"))]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use rejoin::repo::Precautions;
use rejoin::store::{MemoryStore, Store};
use rejoin::{ChangeHash, DocumentId, Repo};
use serde_json::json;

type Told = Option<(DocumentId, Option<ChangeHash>)>;

static TOLD: Mutex<Vec<Told>> = Mutex::new(Vec::new());

fn told() -> Vec<Told> {
    std::mem::take(&mut *TOLD.lock().unwrap())
}

#[tokio::test]
async fn what_automerge_works_at_is_told_and_what_it_ended_on_is_left_out() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let watched = Precautions { working: |at| TOLD.lock().unwrap().push(at), ..Precautions::default() };
    let repo = Repo::with_precautions(Arc::clone(&store), watched.clone()).unwrap();
    let note = repo.create().await.unwrap();
    let id = note.id();
    let mut changes = Vec::new();
    for word in ["one ", "two ", "three "] {
        changes.push(note.splice_text("body", 0, 0, word).await.unwrap().change().unwrap());
    }
    let whole = Some((id, None));
    drop(note);
    // Who is answered may hear of it before the end of the work is told.
    repo.close().await;
    assert_eq!(told(), [[whole, None]; 3].concat());

    let suspecting = Precautions { suspect: Some(id), ..watched.clone() };
    let repo = Repo::with_precautions(Arc::clone(&store), suspecting).unwrap();
    let note = repo.find(id).await.unwrap().unwrap();
    assert_eq!(note.to_json().await.unwrap(), json!({ "body": "three two one " }));
    let singly = changes.iter().map(|hash| Some((id, Some(*hash))));
    drop(note);
    repo.close().await;
    assert_eq!(told(), [whole].into_iter().chain(singly).chain([whole, None]).collect::<Vec<_>>());

    let wary = Precautions { quarantined: vec![(id, changes[1])], ..watched };
    let repo = Repo::with_precautions(store, wary).unwrap();
    let note = repo.find(id).await.unwrap().unwrap();
    assert_eq!(note.to_json().await.unwrap(), json!({ "body": "one " }));
    let left_out = note.quarantined().await.unwrap();
    assert_eq!(left_out.iter().map(|one| one.hash).collect::<Vec<_>>(), &changes[1..]);
}
