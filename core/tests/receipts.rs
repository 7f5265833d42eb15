//! Receipts as an application sees them: how far a write has come, what waits, and when it is safe to sign out.

#![cfg(all(feature = "client", feature = "redb"))]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use rejoin::ledger::receipts::Acknowledged;
use rejoin::repo::testing::ToldBy;
use rejoin::repo::{ChangeOptions, Receipt, Written};
use rejoin::{DocHandle, Epoch, Repo, RepoError, SpaceId};

const EPOCH: Epoch = Epoch::from_bytes([0xe; 16]);
const LONG: Duration = Duration::from_secs(30);

/// Acknowledges the change at a position of the ledger, as entry 10 above it in the log.
async fn acknowledge(repo: &Repo, doc: &DocHandle, positions: impl IntoIterator<Item = u64>) {
    let all = positions.into_iter().map(|position| Acknowledged { position, log_position: position + 10 }).collect();
    ToldBy::new(repo).acknowledge(EPOCH, doc.id(), all).await.unwrap();
}

#[tokio::test]
async fn write_goes_from_local_to_relayed_to_seen() {
    let repo = Repo::in_memory().unwrap();
    let doc = repo.create().await.unwrap();
    let written = doc.set("title", "one").await.unwrap();
    assert_eq!(written.document(), doc.id());
    assert_eq!(written.stage().await.unwrap(), Receipt::Local);
    written.wait(Receipt::Local, Duration::ZERO).await.unwrap();
    assert!(matches!(written.wait(Receipt::Relayed, Duration::ZERO).await, Err(RepoError::Timeout)));

    let relayed = tokio::spawn({
        let written = written.clone();
        async move { written.wait(Receipt::Relayed, LONG).await }
    });
    let seen = tokio::spawn({
        let written = written.clone();
        async move { written.wait(Receipt::Seen, LONG).await }
    });
    acknowledge(&repo, &doc, [0]).await;
    relayed.await.unwrap().unwrap();
    assert_eq!(written.stage().await.unwrap(), Receipt::Relayed);
    let relay = ToldBy::new(&repo);
    relay.see(EPOCH, SpaceId::DEFAULT, 9).await.unwrap();
    assert_eq!(written.stage().await.unwrap(), Receipt::Relayed);
    relay.see(EPOCH, SpaceId::DEFAULT, 10).await.unwrap();
    seen.await.unwrap().unwrap();
    assert_eq!(repo.receipt(doc.id(), written.change().unwrap()).await.unwrap(), Some(Receipt::Seen));
}

#[tokio::test]
async fn every_kind_of_write_has_a_receipt_and_one_that_changes_nothing_is_as_far_as_the_others() {
    let repo = Repo::in_memory().unwrap();
    let doc = repo.create().await.unwrap();
    let empty = doc.delete("title").await.unwrap();
    assert_eq!((empty.change(), empty.stage().await.unwrap()), (None, Receipt::Seen));
    let mut writes: Vec<Written> = vec![
        doc.set("title", "one").await.unwrap(),
        doc.set("votes", rejoin::Value::counter(0)).await.unwrap(),
        doc.increment("votes", 2).await.unwrap(),
        doc.splice_text("body", 0, 0, "hello").await.unwrap(),
        doc.list_push("list", 1).await.unwrap(),
        doc.list_set("list", 0, 2).await.unwrap(),
        doc.delete("title").await.unwrap(),
    ];
    let edit = |tx: &mut automerge::transaction::Transaction<'_>| {
        use automerge::transaction::Transactable;
        tx.put(automerge::ROOT, "by hand", 1)?;
        Ok(7)
    };
    let (seven, written) = doc.change_written(ChangeOptions::message("by hand"), edit).await.unwrap();
    assert_eq!(seven, 7);
    writes.push(written);
    let history = doc.history().await.unwrap();
    assert_eq!(history.len(), writes.len());
    for (entry, written) in history.iter().zip(&writes) {
        assert_eq!((written.change(), written.stage().await.unwrap()), (Some(entry.hash), Receipt::Local));
    }
    assert_eq!(repo.pending_of(doc.id()), writes.len() as u64);
    assert_eq!(empty.stage().await.unwrap(), Receipt::Local);
    let heads = doc.heads().await.unwrap();
    ToldBy::new(&repo).show_heads(doc.id(), heads).await.unwrap();
    assert_eq!(repo.pending_of(doc.id()), 0);
    assert_eq!(writes[0].stage().await.unwrap(), Receipt::Relayed);
}

#[tokio::test]
async fn receipts_and_counts_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let team = SpaceId::from_bytes([7; 16]);
    let repo = Repo::open(&path).await.unwrap();
    let (mine, ours) = (repo.create().await.unwrap(), repo.create_in(team).await.unwrap());
    let first = mine.set("n", 1).await.unwrap();
    let second = mine.set("n", 2).await.unwrap();
    ours.set("n", 1).await.unwrap();
    acknowledge(&repo, &mine, [0]).await;
    let counts = |repo: &Repo| [mine.id(), ours.id()].map(|document| repo.pending_of(document));
    assert_eq!(counts(&repo), [1, 1]);
    let (document, changes) = (mine.id(), [first, second].map(|written| written.change().unwrap()));
    let ids = (mine.id(), ours.id());
    drop((mine, ours));
    repo.close().await;

    let repo = Repo::open(&path).await.unwrap();
    assert_eq!([ids.0, ids.1].map(|document| repo.pending_of(document)), [1, 1]);
    assert_eq!((repo.pending_in(team), repo.pending_in(SpaceId::DEFAULT)), (1, 1));
    assert_eq!(repo.pending().await.unwrap(), 2);
    assert_eq!(repo.receipt(document, changes[0]).await.unwrap(), Some(Receipt::Relayed));
    assert_eq!(repo.receipt(document, changes[1]).await.unwrap(), Some(Receipt::Local));
    let unknown = rejoin::ChangeHash([9; 32]);
    assert_eq!(repo.receipt(document, unknown).await.unwrap(), None);
    repo.delete(ids.1).await.unwrap();
    assert_eq!((repo.pending_in(team), repo.pending().await.unwrap()), (0, 1));
}

#[tokio::test]
async fn counts_follow_writes_from_many_tasks() {
    let repo = Repo::in_memory().unwrap();
    let doc = repo.create().await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200_u64 {
        let doc = doc.clone();
        tasks.spawn(async move {
            if number % 2 == 0 {
                doc.set(format!("field {number}"), 1).await.unwrap();
            } else {
                doc.splice_text("body", 0, 0, "x").await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(repo.pending_of(doc.id()), 200);
    acknowledge(&repo, &doc, 0..150).await;
    acknowledge(&repo, &doc, 100..150).await;
    assert_eq!((repo.pending_of(doc.id()), repo.pending().await.unwrap()), (50, 50));
    repo.repair(doc.id()).await.unwrap();
    assert_eq!(repo.pending_of(doc.id()), 50);
}

#[tokio::test]
async fn signing_out_is_safe_only_when_everything_is_relayed() {
    let repo = Repo::in_memory().unwrap();
    let doc = repo.create().await.unwrap();
    let written = doc.set("title", "one").await.unwrap();
    let refused = repo.sign_out(Duration::ZERO).await;
    assert!(matches!(refused, Err(RepoError::NotSynced { changes: 1, deletions: 0, rejected: 0 })), "{refused:?}");
    // It goes on as before.
    doc.set("title", "two").await.unwrap();

    let relay = ToldBy::new(&repo);
    relay.reject(doc.id(), written.change().unwrap(), 80).await.unwrap();
    let refused = repo.sign_out(LONG).await;
    assert!(matches!(refused, Err(RepoError::NotSynced { changes: 0, deletions: 0, rejected: 2 })), "{refused:?}");
    repo.retry(&repo.rejected().await.unwrap()[0]).await.unwrap();

    let leaving = tokio::spawn({
        let repo = repo.clone();
        async move { repo.sign_out(LONG).await }
    });
    while !matches!(doc.set("title", "three").await, Err(RepoError::SigningOut)) {
        tokio::task::yield_now().await;
    }
    relay.show_heads(doc.id(), doc.heads().await.unwrap()).await.unwrap();
    let signed_out = leaving.await.unwrap().unwrap();
    assert!(matches!(doc.splice_text("body", 0, 0, "x").await, Err(RepoError::SigningOut)));
    assert!(matches!(repo.create().await, Err(RepoError::SigningOut)));
    assert!(matches!(repo.delete_everywhere(doc.id()).await, Err(RepoError::SigningOut)));
    drop(signed_out);
    doc.splice_text("body", 0, 0, "x").await.unwrap();
    assert_eq!(doc.text("body").await.unwrap().as_deref(), Some("x"));
}
