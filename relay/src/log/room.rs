//! How much may be stored, at the log of a relay: what there is no room for is refused, and nothing else is.

use std::sync::Arc;

use automerge::transaction::{Transactable as _, Transaction};
use automerge::{Automerge, AutomergeError, ObjType, ScalarValue};
use rejoin::deletion::DeletionKind;
use rejoin::ledger;
use rejoin::store::{MemoryStore, Store};
use rejoin::sync::v1::OfferedWrite;

use super::tests::chain;
use super::*;
use crate::auth::{AuthConfig, Directory, SpaceRecord};
use crate::clock::now_seconds;
use crate::config::Config;
use crate::deletion::purge;
use crate::hub::Hub;
use crate::quota::{Bounds, Quota, Rates};

const TEAM: SpaceId = SpaceId::from_bytes([0xe1; 16]);
const OTHER: SpaceId = SpaceId::from_bytes([0xe2; 16]);

fn document(number: u8) -> DocumentId {
    DocumentId::from_bytes([number; 16])
}

fn bytes_of(changes: &[CheckedChange]) -> u64 {
    changes.iter().map(|change| change.bytes().len() as u64).sum()
}

struct Rig {
    store: Arc<MemoryStore>,
    quota: Arc<Quota>,
    log: GroupCommit,
    from: ConnectionId,
}

impl Rig {
    fn with(store: Arc<MemoryStore>, quota: Quota) -> Self {
        let (hub, quota) = (Arc::new(Hub::default()), Arc::new(quota));
        super::open(&*store, [7; 16]).expect("in memory");
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let log = GroupCommit::start_with(shared, Arc::clone(&hub), None, Arc::clone(&quota), None, Arc::default());
        Self { store, quota, log: log.expect("a thread"), from: hub.enter().id() }
    }

    fn of_document(document_bytes_max: u64) -> Self {
        Self::on(Arc::default(), Bounds { document_bytes_max, ..Bounds::default() })
    }

    fn of_space(space_bytes_max: u64) -> Self {
        Self::on(Arc::default(), Bounds { space_bytes_max, ..Bounds::default() })
    }

    fn on(store: Arc<MemoryStore>, bounds: Bounds) -> Self {
        Self::with(store, Quota::new(Rates::default(), bounds))
    }

    /// Pushes writes and returns what became of each.
    async fn write(&self, space: SpaceId, number: u8, writes: Vec<OfferedWrite>) -> Vec<&'static str> {
        let writes = writes.into_iter().map(|what| Offered { document: document(number), what }).collect();
        let pushed = self.log.push(self.from.into(), space, writes).await.expect("a log that runs");
        let outcomes = pushed.await.expect("an answer").expect("a sound store");
        let name = |outcome| match outcome {
            Outcome::Stored { .. } => "stored",
            Outcome::Duplicate => "duplicate",
            Outcome::Rejected(reject) => reject.code.name(),
        };
        outcomes.into_iter().map(name).collect()
    }

    async fn push(&self, space: SpaceId, number: u8, changes: &[CheckedChange]) -> Vec<&'static str> {
        self.write(space, number, changes.iter().cloned().map(OfferedWrite::Change).collect()).await
    }

    fn stored_bytes(&self, number: u8) -> u64 {
        let tx = self.store.read().expect("in memory");
        ledger::state(&*tx, &document(number)).expect("in memory").map_or(0, |state| state.bytes)
    }
}

#[tokio::test]
async fn document_is_filled_to_its_last_byte_and_no_further() {
    let changes = chain(4);
    let three = bytes_of(&changes[..3]);
    for (bytes_max, taken) in [(three - 1, 2), (three, 3), (three + 1, 3)] {
        let rig = Rig::of_document(bytes_max);
        let outcomes = rig.push(TEAM, 1, &changes).await;
        assert!(outcomes[..taken].iter().all(|outcome| *outcome == "stored"), "{outcomes:?}");
        assert_eq!(outcomes[taken], "quota");
        assert_eq!(rig.stored_bytes(1), bytes_of(&changes[..taken]));
        // Another document has its own room, and what is here is a duplicate in a full one too.
        assert_eq!(rig.push(TEAM, 2, &changes[..taken]).await, vec!["stored"; taken]);
        assert_eq!(rig.push(TEAM, 1, &changes[..taken]).await, vec!["duplicate"; taken]);
        assert!(rig.quota.rejected(Kind::DocumentBytes) > 0 && rig.quota.rejected(Kind::SpaceBytes) == 0);
    }
}

#[tokio::test]
async fn space_is_filled_to_its_last_byte_and_deletion_makes_room() {
    let changes = chain(3);
    let all = bytes_of(&changes);
    for (bytes_max, last) in [(2 * all - 1, "quota"), (2 * all, "stored"), (2 * all + 1, "stored")] {
        let rig = Rig::of_space(bytes_max);
        assert_eq!(rig.push(TEAM, 1, &changes).await, ["stored"; 3]);
        assert_eq!(rig.push(TEAM, 2, &changes).await, ["stored", "stored", last]);
        // A document's first change, which stands on nothing, is the smallest.
        let is_full = last == "stored";
        if is_full {
            assert_eq!(rig.push(TEAM, 3, &changes[..1]).await, ["quota"]);
        }
        // A document of which nothing was taken is not there; other spaces have their own room.
        assert_eq!(rig.push(OTHER, 3, &changes).await, ["stored"; 3]);
        let tombstone = Tombstone { kind: DeletionKind::Deleted, time_seconds: 1, by: "alice".to_owned() };
        assert_eq!(rig.write(TEAM, 1, vec![OfferedWrite::Deleted(tombstone)]).await, ["stored"]);
        assert_eq!(rig.push(TEAM, 2, &changes[2..]).await, [if is_full { "duplicate" } else { "stored" }]);
        assert_eq!(rig.push(TEAM, 4, &changes).await, ["stored", "stored", last]);
        if is_full {
            assert_eq!(rig.push(TEAM, 5, &changes[..1]).await, ["quota"]);
        }
    }
}

#[tokio::test]
async fn classic_writes_are_held_to_it_too_and_named() {
    let changes = chain(3);
    let rig = Rig::of_document(bytes_of(&changes[..2]));
    let results = rig.log.append(rig.from.into(), document(1), changes.clone()).await.expect("a sound store");
    assert_eq!((results.appended.len(), results.full.len()), (2, 1));
    assert_eq!(results.full[0].hash(), changes[2].hash());
}

#[tokio::test]
async fn count_of_a_space_survives_a_restart_and_others_who_write() {
    let changes = chain(4);
    let bounds = Bounds { space_bytes_max: 2 * bytes_of(&changes), ..Bounds::default() };
    let store = Arc::new(MemoryStore::new());
    // What was written without a bound is counted when there is one.
    let free = Rig::on(Arc::clone(&store), Bounds::default());
    assert_eq!(free.push(TEAM, 1, &changes).await, ["stored"; 4]);
    free.log.finish().await;
    let rig = Rig::on(Arc::clone(&store), bounds);
    assert_eq!(rig.push(TEAM, 2, &changes[..3]).await, ["stored"; 3]);
    rig.log.finish().await;
    let rig = Rig::on(Arc::clone(&store), bounds);
    assert_eq!(rig.push(TEAM, 2, &changes[3..]).await, ["stored"]);
    assert_eq!(rig.push(TEAM, 3, &changes[..1]).await, ["quota"]);
    // The operator purges a document behind the log's back.
    purge(&*store, &document(1), "operator").expect("in memory");
    assert_eq!(rig.push(TEAM, 3, &changes).await, ["stored"; 4]);
    assert_eq!(rig.push(TEAM, 4, &changes[..1]).await, ["quota"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bound_is_exact_however_many_write_at_once() {
    let changes = chain(40);
    let all = bytes_of(&changes);
    // What eight documents have, less three bytes: one change of one of them has no room.
    let rig = Arc::new(Rig::of_space(8 * all - 3));
    let writers = (1..=8).map(|number| {
        let (rig, changes) = (Arc::clone(&rig), changes.clone());
        tokio::spawn(async move {
            let mut refused = 0;
            for change in &changes {
                let outcome = rig.push(TEAM, number, std::slice::from_ref(change)).await;
                assert!(refused == 0 && outcome == ["stored"] || outcome == ["quota"], "{outcome:?}");
                refused += usize::from(outcome == ["quota"]);
            }
            refused
        })
    });
    let mut refused = 0;
    for writer in writers.collect::<Vec<_>>() {
        refused += writer.await.expect("a writer");
    }
    assert_eq!(refused, 1);
    let stored: u64 = (1..=8).map(|number| rig.stored_bytes(number)).sum();
    assert!(8 * all - stored > 3 && 8 * all - stored < 3 + all, "{stored} of {}", 8 * all);
}

#[tokio::test]
async fn write_that_had_no_room_is_taken_once_the_operator_makes_some() {
    let changes = chain(3);
    let store = Arc::new(MemoryStore::new());
    let shared: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
    let directory = Directory::open(shared, &AuthConfig::open()).expect("in memory");
    let mut config = Config::new("", "127.0.0.1:0".parse().expect("an address"));
    config.quota.space_bytes_max = 1 << 30;
    let rig = Rig::with(store, Quota::of(&config, Arc::clone(&directory)));
    let bound = |bytes_max| {
        let record = SpaceRecord { id: TEAM, name: None, archived: false, created_seconds: now_seconds(), bytes_max };
        directory.put_space(record).expect("in memory");
    };
    bound(Some(bytes_of(&changes[..2])));
    assert_eq!(rig.push(TEAM, 1, &changes).await, ["stored", "stored", "quota"]);
    assert_eq!(rig.push(TEAM, 1, &changes[2..]).await, ["quota"]);
    bound(Some(bytes_of(&changes)));
    assert_eq!(rig.push(TEAM, 1, &changes).await, ["duplicate", "duplicate", "stored"]);
    assert_eq!(rig.push(TEAM, 2, &changes[..1]).await, ["quota"]);
    // Without a bound of its own it has that of the configuration.
    bound(None);
    assert_eq!(rig.push(TEAM, 2, &changes).await, ["stored"; 3]);
    // A document's bound is reloaded with the configuration.
    config.quota.document_bytes_max = bytes_of(&changes[..1]);
    rig.quota.reload(&config);
    assert_eq!(rig.push(TEAM, 3, &changes).await[..2], ["stored", "quota"]);
    config.quota.document_bytes_max = 0;
    rig.quota.reload(&config);
    assert_eq!(rig.push(TEAM, 3, &changes).await, ["duplicate", "stored", "stored"]);
}

/// Returns a change that makes a list, and changes that insert so many nulls each into it.
fn dense(counts: &[usize]) -> Vec<CheckedChange> {
    let mut document = Automerge::new();
    let make = |tx: &mut Transaction<'_>| tx.put_object(automerge::ROOT, "list", ObjType::List);
    let list = document.transact::<_, _, AutomergeError>(make).expect("a list").result;
    for count in counts {
        let insert = |tx: &mut Transaction<'_>| (0..*count).try_for_each(|at| tx.insert(&list, at, ScalarValue::Null));
        document.transact::<_, _, AutomergeError>(insert).expect("nulls");
    }
    let checked = |change: &automerge::Change| CheckedChange::parse(change.raw_bytes()).expect("an honest change");
    document.get_changes(&[]).iter().map(checked).collect()
}

#[tokio::test]
async fn operations_that_take_no_bytes_are_counted_across_restarts() {
    let changes = dense(&[10_000, 10_000, 400, 10_000]);
    let free = |change: &CheckedChange| change.bytes().len() as u64 * 4;
    assert!(bytes_of(&changes) < 1_000 && free(&changes[3]) > 400, "{}", bytes_of(&changes));
    let two = 20_000 - free(&changes[1]) - free(&changes[2]);
    for (dense_ops_max, taken) in [(two - 1, ["stored", "stored", "quota"]), (two, ["stored"; 3]), (0, ["stored"; 3])] {
        let store = Arc::new(MemoryStore::new());
        let bounds = Bounds { dense_ops_max, ..Bounds::default() };
        let rig = Rig::on(Arc::clone(&store), bounds);
        assert_eq!(rig.push(TEAM, 1, &changes[..2]).await, ["stored"; 2]);
        rig.log.finish().await;
        let rig = Rig::on(store, bounds);
        assert_eq!(rig.push(TEAM, 1, &changes[..3]).await[2], taken[2]);
        // Others have room, and so has a change here that is not dense.
        assert_eq!(rig.push(TEAM, 2, &changes[..2]).await, ["stored"; 2]);
        if taken[2] == "stored" {
            let last = if dense_ops_max == 0 { "stored" } else { "quota" };
            assert_eq!(rig.push(TEAM, 1, &changes[3..]).await, ["stored", last]);
        }
        assert_eq!(rig.quota.rejected(Kind::DocumentOps), u64::from(dense_ops_max > 0));
        assert_eq!(rig.push(TEAM, 1, &changes[..2]).await, ["duplicate"; 2]);
    }
}
