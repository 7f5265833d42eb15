//! A native client that has nothing gets a folded history whole: it can be read and written at once, and is unfolded
//! afterwards, while everybody goes on writing.

use std::path::Path;
use std::sync::Arc;

use automerge::transaction::Transactable;
use automerge::{Automerge, AutomergeError, ObjType, ROOT, ReadDoc, ScalarValue};
use rejoin::fold::FoldCommand;
use rejoin::ledger::{self, base, snapshot};
use rejoin::repo::EventKind;
use rejoin::store::{MemoryStore, RedbOptions, RedbStore, Store, StoreExt};
use rejoin::{DocHandle, DocumentId, Repo};
use rejoin_relay::Config;
use rejoin_tests::stored::append;
use tokio::net::TcpListener;

use crate::{PATIENCE, eventually, heads};

const DOCUMENT: DocumentId = DocumentId::from_bytes([4; 16]);

/// A board of cards with a note, of 3,000 changes by three actors that met twice.
fn board() -> Automerge {
    let mut document = Automerge::new();
    let edit = |tx: &mut automerge::transaction::Transaction<'_>| {
        let note = tx.put_object(ROOT, "note", ObjType::Text)?;
        let cards = tx.put_object(ROOT, "cards", ObjType::List)?;
        for index in 0..5 {
            let card = tx.insert_object(&cards, index, ObjType::Map)?;
            tx.put(&card, "title", format!("card {index}"))?;
            tx.put(&card, "votes", ScalarValue::counter(1))?;
        }
        Ok::<_, AutomergeError>((note, cards))
    };
    let (note, cards) = document.transact::<_, _, AutomergeError>(edit).unwrap().result;
    for round in 0..2 {
        let mut others = [document.fork(), document.fork()];
        for (number, other) in others.iter_mut().enumerate() {
            for at in 0..500 {
                let edit = |tx: &mut automerge::transaction::Transaction<'_>| {
                    let (_, card) = tx.get(&cards, at % 5)?.unwrap();
                    match at % 3 {
                        0 => tx.put(&card, "title", format!("{number} wrote {at}"))?,
                        1 => tx.increment(&card, "votes", 1)?,
                        _ => tx.splice_text(&note, 0, 0, "x")?,
                    }
                    Ok(())
                };
                other.transact::<_, _, AutomergeError>(edit).unwrap();
            }
        }
        for other in &mut others {
            document.merge(other).unwrap();
        }
        let join = |tx: &mut automerge::transaction::Transaction<'_>| tx.put(ROOT, "round", round);
        document.transact::<_, _, AutomergeError>(join).unwrap();
    }
    for at in 0..1_000 {
        let edit = |tx: &mut automerge::transaction::Transaction<'_>| tx.put(ROOT, format!("field {}", at % 7), at);
        document.transact::<_, _, AutomergeError>(edit).unwrap();
    }
    document
}

fn open(path: &Path) -> (Repo, Arc<dyn Store>) {
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(path, RedbOptions::new()).unwrap());
    (Repo::with_store(Arc::clone(&store)).unwrap(), store)
}

async fn same(one: &DocHandle, other: &DocHandle) {
    eventually("both have the same", || async { heads(one).await == heads(other).await }).await;
    assert_eq!(one.to_json().await.unwrap(), other.to_json().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fresh_native_client_uses_a_whole_document_before_its_history_is_unfolded() {
    let document = board();
    let kept = Arc::new(MemoryStore::new());
    append(&*kept, DOCUMENT, &document);
    rejoin_tests::said::listen();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let mut config = Config::new("", listener.local_addr().unwrap());
    config.fold = Some(FoldCommand::new(rejoin_tests::binary("rejoin-relay"), "fold-child"));
    let serving = Arc::clone(&kept) as Arc<dyn Store>;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let relay =
        tokio::spawn(
            async move { rejoin_relay::run(listener, serving, &config, async move { drop(stopped.await) }).await },
        );

    // Whoever asks first, before it is folded, gets every change.
    let first = Repo::in_memory().unwrap();
    let _first = first.connect(&url).unwrap();
    let author = first.open_or_fetch(DOCUMENT).await.unwrap();
    eventually("the first has it", || async { heads(&author).await.len() == 1 }).await;
    eventually("it is folded", || async { snapshot::info(&*kept.read().unwrap(), &DOCUMENT).unwrap().is_some() }).await;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fresh.redb");
    let (fresh, store) = open(&path);
    let mut events = fresh.subscribe();
    let connection = fresh.connect(&url).unwrap();
    let copy = fresh.open_or_fetch(DOCUMENT).await.unwrap();
    let mut arrived = false;
    loop {
        let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
        match event.kind {
            EventKind::Arrived => {
                arrived = true;
                // At once: read, and write on both sides.
                assert!(copy.get("round").await.unwrap().is_some());
                copy.set("fresh", "was here").await.unwrap();
                copy.splice_text("note", 0, 0, "first ").await.unwrap();
                author.set("author", "goes on").await.unwrap();
                author.list_set("cards", 0, "no card any more").await.unwrap();
            }
            EventKind::Unfolded => break,
            _ => {}
        }
    }
    assert!(arrived, "it came whole");
    same(&copy, &author).await;
    assert_eq!(copy.history().await.unwrap().len(), author.history().await.unwrap().len());
    assert!(base::folded(&*store.read().unwrap()).unwrap().is_empty());
    let report = fresh.verify().await.unwrap();
    assert!(report.is_sound(), "{report}");

    // What refers far back.
    author.increment(("cards", 1, "votes"), 5).await.unwrap();
    copy.set("field 3", "again").await.unwrap();
    same(&copy, &author).await;

    connection.disconnect().await;
    drop(copy);
    fresh.close().await;
    drop(store);
    let (again, _store) = open(&path);
    let copy = again.find(DOCUMENT).await.unwrap().unwrap();
    assert_eq!(copy.to_json().await.unwrap(), author.to_json().await.unwrap());
    drop(stop);
    relay.await.unwrap().unwrap();
}

#[test]
fn packed_relay_serves_every_change_as_it_was() {
    let document = board();
    let store = MemoryStore::new();
    append(&store, DOCUMENT, &document);
    let before = changes(&store);
    store
        .write_with(|tx| {
            while ledger::compact(tx, &DOCUMENT, 100)? > 0 {}
            Ok(())
        })
        .unwrap();
    let state = ledger::state(&*store.read().unwrap(), &DOCUMENT).unwrap().unwrap();
    assert!(state.packed > 1_000 && changes(&store) == before);
}

fn changes(store: &MemoryStore) -> Vec<Vec<u8>> {
    let mut changes = Vec::new();
    ledger::export(&*store.read().unwrap(), &DOCUMENT, 0, &mut |bytes| {
        changes.push(bytes.to_vec());
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    changes
}
