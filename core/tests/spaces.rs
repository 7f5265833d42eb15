//! Spaces as an application sees them.

#![cfg(feature = "client")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use rejoin::ledger::spaces;
use rejoin::store::{MemoryStore, Store, StoreExt};
use rejoin::{DocumentId, Repo, RepoError, SpaceId};

#[tokio::test]
async fn documents_are_created_in_a_space_and_listed_there() {
    let repo = Repo::in_memory().unwrap();
    let (team, other) = (repo.create_space(), repo.create_space());
    assert_ne!(team.id(), other.id());
    let note = team.create().await.unwrap();
    let own = repo.create().await.unwrap();
    assert_eq!(team.list().await.unwrap(), [note.id()]);
    assert_eq!(other.list().await.unwrap(), []);
    assert_eq!(repo.space(SpaceId::DEFAULT).list().await.unwrap(), [own.id()]);
    assert_eq!((note.space().await.unwrap(), own.space().await.unwrap()), (team.id(), SpaceId::DEFAULT));
    let same = repo.space(team.id().to_string().parse().unwrap());
    assert_eq!(same.list().await.unwrap(), [note.id()]);

    note.set("n", 1).await.unwrap();
    assert_eq!((team.pending(), other.pending(), repo.pending_in(SpaceId::DEFAULT)), (1, 0, 0));
    repo.delete_everywhere(note.id()).await.unwrap();
    assert_eq!((team.list().await.unwrap(), team.pending()), (Vec::new(), 0));
    assert!(matches!(team.open_or_fetch(note.id()).await, Err(RepoError::Deleted)));
}

#[tokio::test]
async fn document_that_is_only_known_is_opened_in_its_space() {
    let store = Arc::new(MemoryStore::new());
    let (document, team) = (DocumentId::from_bytes([1; 16]), SpaceId::from_bytes([7; 16]));
    store.write_with(|tx| spaces::put(tx, &document, &team)).unwrap();
    let repo = Repo::with_store(Arc::clone(&store) as Arc<dyn Store>).unwrap();
    let (team, other) = (repo.space(team), repo.create_space());
    assert_eq!((team.list().await.unwrap(), team.unfetched().await.unwrap()), (Vec::new(), vec![document]));
    let elsewhere = other.open_or_fetch(document).await.unwrap_err();
    assert!(matches!(elsewhere, RepoError::Elsewhere { space } if space == team.id()), "{elsewhere}");
    let mut events = repo.subscribe();
    let opened = team.open_or_fetch(document).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().document, document);
    assert_eq!((team.list().await.unwrap(), team.unfetched().await.unwrap()), (vec![document], Vec::new()));
    assert_eq!(opened.space().await.unwrap(), team.id());
    // One that was never heard of goes where it is asked for.
    let unheard = other.open_or_fetch(DocumentId::from_bytes([2; 16])).await.unwrap();
    assert_eq!(unheard.space().await.unwrap(), other.id());
    // And what is here stays where it is.
    let own = repo.create().await.unwrap();
    assert!(matches!(team.open_or_fetch(own.id()).await, Err(RepoError::Elsewhere { space: SpaceId::DEFAULT })));
}
