//! Spaces as an application sees them.

#![cfg(feature = "client")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use automerge::ObjType;
use automerge::transaction::Transactable;
use rejoin::ledger::spaces;
use rejoin::repo::{ChangeOptions, EventKind};
use rejoin::store::{MemoryStore, Store, StoreExt};
use rejoin::{DocumentId, Edit, Repo, RepoError, SpaceId};

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
async fn forks_are_in_the_space_of_what_they_branch_from() {
    let repo = Repo::in_memory().unwrap();
    let team = repo.create_space();
    let note = team.create().await.unwrap();
    note.set("n", 1).await.unwrap();
    let early = note.heads().await.unwrap();
    note.set("n", 2).await.unwrap();
    let mut events = repo.subscribe();
    let branch = note.fork().await.unwrap();
    let opened = events.next().await.unwrap().unwrap();
    assert_eq!((opened.document, opened.kind), (branch.id(), EventKind::Opened));
    let old = note.fork_at(&early).await.unwrap();
    let (named, other) = (DocumentId::from_bytes([3; 16]), DocumentId::from_bytes([4; 16]));
    note.fork_as(named, &early).await.unwrap();
    for fork in [&branch, &old, &repo.find(named).await.unwrap().unwrap()] {
        assert_eq!(fork.space().await.unwrap(), team.id());
    }
    assert_eq!((team.pending(), repo.pending_in(SpaceId::DEFAULT)), (2 + 2 + 1 + 1, 0));
    assert_eq!(repo.space(SpaceId::DEFAULT).list().await.unwrap(), []);

    // One that is here already stays where it is, and takes in what it lacks.
    repo.create_as(SpaceId::DEFAULT, other).await.unwrap();
    let grown = note.fork_as(other, &early).await.unwrap();
    assert_eq!((grown.heads().await.unwrap(), grown.space().await.unwrap()), (early, SpaceId::DEFAULT));
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

#[tokio::test]
async fn document_comes_to_be_with_what_is_written_or_not_at_all() {
    let repo = Repo::in_memory().unwrap();
    let space = repo.create_space();
    let creating = || ChangeOptions { creates_in: Some(space.id()), ..ChangeOptions::default() };
    let [fields, text, refused, refused_text, empty, absent] =
        [1, 2, 3, 4, 5, 6].map(|byte| repo.handle(DocumentId::from_bytes([byte; 16])));
    let mut events = repo.subscribe();

    // What is not taken creates nothing, and nothing is followed.
    let written = refused.edit_with(creating(), vec![Edit::increment("absent", 1)]).await;
    assert!(matches!(written, Err(RepoError::Field(_))), "{written:?}");
    let written = refused_text
        .change_with(creating(), |tx| {
            tx.put(automerge::ROOT, "title", "lost").unwrap();
            Err::<(), _>(RepoError::Typed("no".to_owned()))
        })
        .await;
    assert!(matches!(written, Err(RepoError::Typed(_))), "{written:?}");
    assert_eq!(space.list().await.unwrap(), []);
    assert_eq!(repo.list().await.unwrap(), []);
    assert_eq!(space.following().await.unwrap(), None);

    // By either way it is there with its content, and told as opened before it is told as changed.
    fields.edit_with(creating(), vec![Edit::set("title", "Tea")]).await.unwrap();
    text.change_with(creating(), |tx| {
        tx.put_object(automerge::ROOT, "body", ObjType::Text).unwrap();
        Ok(())
    })
    .await
    .unwrap();
    for document in [&fields, &text] {
        let told = [events.next().await.unwrap().unwrap(), events.next().await.unwrap().unwrap()];
        assert_eq!(told.each_ref().map(|event| event.document), [document.id(); 2]);
        assert!(matches!(told[0].kind, EventKind::Opened) && matches!(told[1].kind, EventKind::Changed), "{told:?}");
    }
    assert_eq!(space.list().await.unwrap(), [fields.id(), text.id()]);
    assert_eq!(fields.to_json().await.unwrap(), serde_json::json!({ "title": "Tea" }));

    // It is written to where it is, and one without anything written is created too.
    fields
        .edit_with(
            ChangeOptions { creates_in: Some(SpaceId::DEFAULT), ..creating() },
            vec![Edit::set("title", "Coffee")],
        )
        .await
        .unwrap();
    assert_eq!(fields.space().await.unwrap(), space.id());
    empty.change_with(creating(), |_| Ok(())).await.unwrap();
    assert!(space.list().await.unwrap().contains(&empty.id()));
    let written = absent.edit_with(ChangeOptions::default(), vec![Edit::set("title", "Tea")]).await;
    assert!(matches!(written, Err(RepoError::NotFound)), "{written:?}");

    // What was deleted everywhere stays that.
    repo.delete_everywhere(fields.id()).await.unwrap();
    let written = fields.edit_with(creating(), vec![Edit::set("title", "Tea")]).await;
    assert!(matches!(written, Err(RepoError::Deleted)), "{written:?}");
}

#[tokio::test]
async fn refused_first_write_leaves_what_was_known_of_a_document() {
    let store = Arc::new(MemoryStore::new());
    let [known, unwanted, other] = [1, 2, 3].map(|byte| DocumentId::from_bytes([byte; 16]));
    let (team, elsewhere) = (SpaceId::from_bytes([7; 16]), SpaceId::from_bytes([8; 16]));
    let noted = |tx: &mut dyn rejoin::store::WriteTx| {
        spaces::put(tx, &known, &team)?;
        spaces::put(tx, &unwanted, &team)?;
        spaces::dismiss(tx, &unwanted, &team)?;
        spaces::put(tx, &other, &elsewhere).map(drop)
    };
    store.write_with(noted).unwrap();
    let repo = Repo::with_store(Arc::clone(&store) as Arc<dyn Store>).unwrap();
    let creating = || ChangeOptions { creates_in: Some(team), ..ChangeOptions::default() };
    for document in [known, unwanted] {
        let written = repo.handle(document).edit_with(creating(), vec![Edit::increment("absent", 1)]).await;
        assert!(matches!(written, Err(RepoError::Field(_))), "{written:?}");
    }
    assert_eq!(repo.space(team).unfetched().await.unwrap(), [known]);
    assert!(spaces::is_dismissed(&*store.read().unwrap(), &unwanted).unwrap());
    let written = repo.handle(other).edit_with(creating(), vec![Edit::set("title", "Tea")]).await;
    assert!(matches!(written, Err(RepoError::Elsewhere { space }) if space == elsewhere), "{written:?}");
    assert_eq!(repo.list().await.unwrap(), []);

    // What is taken is wanted again.
    repo.handle(unwanted).edit_with(creating(), vec![Edit::set("title", "Tea")]).await.unwrap();
    assert_eq!(repo.space(team).list().await.unwrap(), [unwanted]);
}

#[tokio::test]
async fn file_comes_into_the_space_that_is_named() {
    let repo = Repo::in_memory().unwrap();
    let made = repo.create().await.unwrap();
    made.set("title", "Plan").await.unwrap();
    let bytes = made.export().await.unwrap();
    let (team, id) = (SpaceId::from_bytes([5; 16]), DocumentId::from_bytes([6; 16]));
    for _ in 0..2 {
        let handle = repo.space(team).import_as(id, bytes.clone()).await.unwrap();
        assert_eq!(handle.space().await.unwrap(), team);
        assert_eq!(handle.to_json().await.unwrap(), serde_json::json!({ "title": "Plan" }));
    }
    assert_eq!(repo.space(team).list().await.unwrap(), [id]);
    assert!(matches!(
        repo.space(team).import_as(DocumentId::from_bytes([7; 16]), vec![1]).await,
        Err(RepoError::Import { .. })
    ));
    assert_eq!(repo.space(team).list().await.unwrap(), [id]);
}
