//! Old changes are packed without being asked, whoever wrote them and when.

#![cfg(feature = "client")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use rejoin::care::{Registers, VerifyOptions, verify};
use rejoin::store::{MemoryStore, Store};
use rejoin::{DocumentId, Repo, ledger};

/// How many changes one session writes: fewer than are packed together.
const SESSION: u32 = 500;

fn packed(store: &MemoryStore, document: &DocumentId) -> u64 {
    ledger::state(&*store.read().unwrap(), document).unwrap().unwrap().packed
}

async fn write(store: &Arc<MemoryStore>, document: DocumentId, changes: u32) -> Repo {
    let repo = Repo::with_store(Arc::clone(store) as Arc<dyn Store>).unwrap();
    let note = repo.open_or_fetch(document).await.unwrap();
    for number in 0..changes {
        note.set("n", i64::from(number)).await.unwrap();
    }
    repo
}

#[tokio::test]
async fn what_short_sessions_wrote_is_packed_too() {
    let store = Arc::new(MemoryStore::new());
    let document = DocumentId::from_bytes([7; 16]);
    for _ in 0..3 {
        write(&store, document, SESSION).await.close().await;
    }
    assert_eq!(packed(&store, &document), 0, "there are too few of them");
    let repo = write(&store, document, SESSION).await;
    let packs = async {
        while packed(&store, &document) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), packs).await.expect("they are packed");
    // What was packed is there, and it is written on.
    let note = repo.find(document).await.unwrap().unwrap();
    note.set("n", -1).await.unwrap();
    assert_eq!(note.history().await.unwrap().len(), 4 * SESSION as usize + 1);
    drop(note);
    repo.close().await;
    let report = verify(&*store, &VerifyOptions::new(Registers::Kept), &mut |_| ()).unwrap();
    assert!(report.is_sound(), "{report:?}");
}
