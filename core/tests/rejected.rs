//! Rejected writes: read, tried again, taken out, kept as a branch.

#![cfg(all(feature = "client", feature = "redb"))]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use automerge::{Automerge, ReadDoc};
use rejoin::care::{Registers, VerifyOptions, verify};
use rejoin::codec::v1::Code;
use rejoin::gate::CheckedChange;
use rejoin::ledger::receipts::Acknowledged;
use rejoin::repo::testing::ToldBy;
use rejoin::repo::{EventKind, Receipt, Written};
use rejoin::store::{MemoryStore, Store};
use rejoin::{DocHandle, Epoch, Repo, RepoError, Value};
use serde_json::json;

const EPOCH: Epoch = Epoch::from_bytes([0xe; 16]);

fn repo() -> (Arc<MemoryStore>, Repo) {
    let store = Arc::new(MemoryStore::new());
    let repo = Repo::with_store(Arc::clone(&store) as Arc<dyn Store>).unwrap();
    (store, repo)
}

fn assert_sound(store: &MemoryStore) {
    let report = verify(store, &VerifyOptions::new(Registers::Kept), &mut |_| ()).unwrap();
    assert!(report.is_sound(), "{report:?}");
}

async fn reject(repo: &Repo, written: &Written) {
    let (document, change) = (written.document(), written.change().unwrap());
    ToldBy::new(repo).reject(document, change, Code::ReadOnly.number()).await.unwrap();
}

async fn changes(doc: &DocHandle) -> Vec<CheckedChange> {
    let raw = doc.view(|automerge| {
        automerge.get_changes(&[]).iter().map(|change| change.raw_bytes().to_vec()).collect::<Vec<_>>()
    });
    raw.await.unwrap().iter().map(|bytes| CheckedChange::parse(bytes).unwrap()).collect()
}

#[tokio::test]
async fn rejected_write_is_listed_with_what_stands_on_it_and_the_rest_flows_on() {
    let (store, repo) = repo();
    let (note, other) = (repo.create().await.unwrap(), repo.create().await.unwrap());
    let first = note.set("a", 1).await.unwrap();
    let second = note.set("a", 2).await.unwrap();
    let third = note.splice_text("body", 0, 0, "x").await.unwrap();
    other.set("a", 1).await.unwrap();
    reject(&repo, &second).await;
    assert_eq!([note.id(), other.id()].map(|document| repo.pending_of(document)), [1, 1]);
    let fourth = note.set("a", 4).await.unwrap();
    assert_eq!(repo.pending_of(note.id()), 1, "it stands on a rejected one");

    let rejected = repo.rejected().await.unwrap();
    assert_eq!(rejected.len(), 1);
    assert_eq!((rejected[0].document, Some(rejected[0].change)), (note.id(), second.change()));
    assert_eq!((rejected[0].code, rejected[0].blocked), (Code::ReadOnly, 2));
    assert_eq!(rejected[0].text, "refused by a test");
    assert_eq!(first.stage().await.unwrap(), Receipt::Local);
    for held_back in [&second, &third, &fourth] {
        let refused = held_back.wait(Receipt::Relayed, Duration::from_secs(30)).await;
        assert!(matches!(refused, Err(RepoError::Rejected { code: 80, .. })), "{refused:?}");
        let receipt = repo.receipt(note.id(), held_back.change().unwrap()).await.unwrap();
        assert_eq!(receipt, Some(Receipt::Local));
    }

    let mut events = repo.subscribe();
    assert_eq!(repo.retry(&rejected[0]).await.unwrap(), 3);
    assert_eq!(events.next().await.unwrap().unwrap().kind, EventKind::Retried);
    assert_eq!((repo.pending_of(note.id()), repo.rejected().await.unwrap()), (4, Vec::new()));
    assert!(matches!(repo.retry(&rejected[0]).await, Err(RepoError::Gone)));
    assert_eq!(fourth.stage().await.unwrap(), Receipt::Local);
    assert_sound(&store);
}

#[tokio::test]
async fn write_that_another_relay_takes_is_rejected_no_more() {
    let (_, repo) = repo();
    let note = repo.create().await.unwrap();
    let first = note.set("a", 1).await.unwrap();
    let second = note.set("a", 2).await.unwrap();
    reject(&repo, &first).await;
    let taken = vec![Acknowledged { position: 0, log_position: 1 }];
    ToldBy::new(&repo).acknowledge(EPOCH, note.id(), taken).await.unwrap();
    assert_eq!(repo.rejected().await.unwrap(), []);
    assert_eq!((first.stage().await.unwrap(), second.stage().await.unwrap()), (Receipt::Relayed, Receipt::Local));
    assert_eq!(repo.pending_of(note.id()), 1);

    reject(&repo, &second).await;
    ToldBy::new(&repo).show_heads(note.id(), note.heads().await.unwrap()).await.unwrap();
    assert_eq!((repo.rejected().await.unwrap(), repo.pending_of(note.id())), (Vec::new(), 0));
    // What a relay has is not refused by another one in the end.
    reject(&repo, &second).await;
    assert_eq!(second.stage().await.unwrap(), Receipt::Relayed);
}

#[tokio::test]
async fn dropped_write_leaves_the_accepted_state_and_a_branch() {
    let (store, repo) = repo();
    let note = repo.create().await.unwrap();
    let accepted = [
        note.set("title", "one").await.unwrap(),
        note.set("votes", Value::counter(1)).await.unwrap(),
        note.splice_text("body", 0, 0, "hello").await.unwrap(),
    ];
    let relayed = (0..2).map(|position| Acknowledged { position, log_position: position + 1 }).collect();
    let relay = ToldBy::new(&repo);
    relay.acknowledge(EPOCH, note.id(), relayed).await.unwrap();
    // Another device writes on what the relay has.
    let (_, elsewhere) = self::repo();
    let copy = elsewhere.import(note.export().await.unwrap()).await.unwrap();

    let refused = note.set("title", "refused").await.unwrap();
    note.increment("votes", 5).await.unwrap();
    note.splice_text("body", 5, 0, " world").await.unwrap();
    copy.set("other", "device").await.unwrap();
    copy.splice_text("body", 0, 0, "> ").await.unwrap();
    relay.deliver(note.id(), changes(&copy).await).await.unwrap();
    reject(&repo, &refused).await;
    let late = note.set("late", true).await.unwrap();
    let before = note.to_json().await.unwrap();
    assert_eq!(
        before,
        json!({
            "title": "refused", "votes": 6, "body": "> hello world", "other": "device", "late": true,
        })
    );

    let mut events = note.subscribe();
    let rejected = repo.rejected().await.unwrap().remove(0);
    let branch = repo.drop_rejected(&rejected).await.unwrap();
    assert_eq!((branch.changes, branch.change, branch.code), (4, rejected.change, Code::ReadOnly));
    assert_eq!(events.next().await.unwrap().unwrap().kind, EventKind::Rewritten);
    assert_eq!(note.to_json().await.unwrap(), copy.to_json().await.unwrap());
    assert_eq!(note.heads().await.unwrap(), copy.heads().await.unwrap());
    assert_eq!(note.text("body").await.unwrap().as_deref(), Some("> hello"));
    assert_sound(&store);
    assert_eq!((repo.pending_of(note.id()), repo.rejected().await.unwrap()), (1, Vec::new()));
    assert!(matches!(late.stage().await, Err(RepoError::Gone)));
    let stages = [&accepted[0], &accepted[1], &accepted[2]];
    let expected = [Receipt::Relayed, Receipt::Relayed, Receipt::Local];
    for (written, expected) in stages.into_iter().zip(expected) {
        assert_eq!(written.stage().await.unwrap(), expected);
    }

    // Writing goes on under another actor, in both ways.
    let history = note.history().await.unwrap();
    note.set("title", "two").await.unwrap();
    note.splice_text("body", 0, 1, "").await.unwrap();
    for entry in note.history().await.unwrap().iter().skip(history.len()) {
        assert!(entry.seq == 1 && history.iter().all(|old| old.actor != entry.actor));
    }
    copy.set("more", 1).await.unwrap();
    relay.deliver(note.id(), changes(&copy).await).await.unwrap();
    assert_eq!(note.get("more").await.unwrap().unwrap().as_i64(), Some(1));
    assert_sound(&store);

    // The branch is a document for every Automerge.
    let bytes = repo.export_branch(&branch).await.unwrap();
    let stock = Automerge::load(&bytes).unwrap();
    assert_eq!(stock.get(automerge::ROOT, "title").unwrap().unwrap().0.as_str(), Some("refused"));
    let restored = repo.import(bytes).await.unwrap();
    assert_eq!(restored.to_json().await.unwrap(), before);
    assert_eq!(repo.branches(note.id()).await.unwrap(), std::slice::from_ref(&branch));
    assert!(repo.forget_branch(&branch).await.unwrap());
    assert!(!repo.forget_branch(&branch).await.unwrap());
    assert!(matches!(repo.export_branch(&branch).await, Err(RepoError::Gone)));
    assert!(matches!(repo.drop_rejected(&rejected).await, Err(RepoError::Gone)));
}

#[tokio::test]
async fn write_that_somebody_else_has_is_not_taken_out() {
    let (store, repo) = repo();
    let note = repo.create().await.unwrap();
    note.set("a", 1).await.unwrap();
    let refused = note.set("a", 2).await.unwrap();
    reject(&repo, &refused).await;
    // Through another relay it reached a device that wrote on top of it.
    let (_, elsewhere) = self::repo();
    let copy = elsewhere.import(note.export().await.unwrap()).await.unwrap();
    copy.set("a", 3).await.unwrap();
    ToldBy::new(&repo).deliver(note.id(), changes(&copy).await).await.unwrap();
    let before = note.history().await.unwrap();
    let write = repo.rejected().await.unwrap().remove(0);
    assert!(matches!(repo.drop_rejected(&write).await, Err(RepoError::TakeOut { .. })));
    assert_eq!(note.history().await.unwrap(), before);
    assert_eq!(repo.rejected().await.unwrap(), [write]);
    note.set("a", 4).await.unwrap();
    assert_sound(&store);
}

#[tokio::test]
async fn rejection_survives_a_restart_a_repair_and_packing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let repo = Repo::open(&path).await.unwrap();
    let note = repo.create().await.unwrap();
    for number in 0..300 {
        note.set("n", number).await.unwrap();
    }
    ToldBy::new(&repo).show_heads(note.id(), note.heads().await.unwrap()).await.unwrap();
    let refused = note.set("n", "refused").await.unwrap();
    note.set("later", 1).await.unwrap();
    reject(&repo, &refused).await;
    repo.repair(note.id()).await.unwrap();
    repo.compact().await.unwrap();
    let before = repo.rejected().await.unwrap();
    let document = note.id();
    drop(note);
    repo.close().await;

    let repo = Repo::open(&path).await.unwrap();
    let rejected = repo.rejected().await.unwrap();
    assert_eq!((rejected.len(), rejected[0].blocked), (1, 1));
    assert_eq!(rejected, before);
    let branch = repo.drop_rejected(&rejected[0]).await.unwrap();
    let note = repo.find(document).await.unwrap().unwrap();
    assert_eq!(note.to_json().await.unwrap(), json!({ "n": 299 }));
    assert_eq!(repo.pending().await.unwrap(), 0);
    assert!(repo.verify().await.unwrap().is_sound());
    drop(note);
    repo.close().await;
    let repo = Repo::open(&path).await.unwrap();
    assert_eq!(repo.branches(document).await.unwrap(), std::slice::from_ref(&branch));
    let restored = repo.import(repo.export_branch(&branch).await.unwrap()).await.unwrap();
    assert_eq!(restored.to_json().await.unwrap(), json!({ "n": "refused", "later": 1 }));
    repo.delete(document).await.unwrap();
    assert_eq!(repo.branches(document).await.unwrap(), []);
}

#[tokio::test]
async fn taking_out_while_others_write_loses_nothing_that_returned() {
    for round in 0..20_u64 {
        let (store, repo) = repo();
        let note = repo.create().await.unwrap();
        note.splice_text("body", 0, 0, "hello").await.unwrap();
        let refused = note.set("title", "refused").await.unwrap();
        reject(&repo, &refused).await;
        let write = repo.rejected().await.unwrap().remove(0);
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..10 {
            let note = note.clone();
            tasks.spawn(async move {
                let key = format!("field {number}");
                if (number + round).is_multiple_of(2) {
                    note.set(key, number).await
                } else {
                    // It may find that what it stood on has gone.
                    note.splice_text("body", 0, 0, "x").await
                }
            });
        }
        let branch = repo.drop_rejected(&write).await.unwrap();
        let written = tasks.join_all().await;
        let after = note.splice_text("body", 0, 0, ">").await.unwrap();
        note.set("after", 1).await.unwrap();
        assert_eq!(after.stage().await.unwrap(), Receipt::Local);
        let bytes = repo.export_branch(&branch).await.unwrap();
        let taken = Automerge::load(&bytes).unwrap();
        for written in written.into_iter().flatten() {
            let change = written.change().unwrap();
            let stays = repo.receipt(note.id(), change).await.unwrap().is_some();
            assert!(stays != taken.get_change_by_hash(&change).is_some(), "in the document or in the branch");
        }
        let from_document = note.view(|automerge| automerge.keys(automerge::ROOT).count()).await.unwrap();
        assert_eq!(note.keys(rejoin::FieldPath::root()).await.unwrap().len(), from_document);
        assert_sound(&store);
    }
}
