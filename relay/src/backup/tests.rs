//! Backups of stores that are written meanwhile, chains of them, and what becomes of damaged ones.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use rejoin::care::{Registers, VerifyOptions, verify};
use rejoin::deletion::{DeletionKind, Tombstone};
use rejoin::gate::{Action, ChangeDraft, CheckedChange, DraftObject, DraftOp, encode};
use rejoin::ledger::{self, Appender, log, spaces, tombstone};
use rejoin::store::{ReadTx, RedbOptions, RedbStore, StoreExt, WriteTx, storage_id};
use rejoin::sync::v1::{Offered, OfferedWrite};
use rejoin::{ActorId, ChangeHash, DocumentId, Epoch, ScalarValue};
use tempfile::TempDir;

use super::*;
use crate::hub::Hub;
use crate::log::{GroupCommit, Log};
use crate::start::STORE_FILE;

mod damage;
mod measure;
mod spaces_alone;

const TEAM: SpaceId = SpaceId::from_bytes([0xe1; 16]);

fn document(number: u8) -> DocumentId {
    DocumentId::from_bytes([number; 16])
}

/// A relay's store in a file, with an epoch and a storage id.
fn open(directory: &Path) -> RedbStore {
    let store = RedbStore::open(directory.join("source.redb"), RedbOptions::new()).unwrap();
    crate::log::open(&store, [1; 16]).unwrap();
    storage_id(&store, [2; 16]).unwrap();
    store
}

/// A change on top of all that a document has.
fn next_change(appender: &Appender, actor: &ActorId, value: i64) -> CheckedChange {
    let state = appender.state();
    let draft = ChangeDraft {
        actor: actor.clone(),
        seq: state.count + 1,
        start_op: state.max_op + 1,
        timestamp: 0,
        message: None,
        deps: state.head_hashes(),
        ops: vec![DraftOp {
            object: DraftObject::Root,
            key: "field".to_owned(),
            action: Action::Put,
            value: ScalarValue::Int(value),
            preds: Vec::new(),
        }],
    };
    encode(&draft).unwrap()
}

/// Writes changes on top of a document, and logs them.
fn write(tx: &mut dyn WriteTx, space: &SpaceId, document: &DocumentId, count: u64) -> Result<(), StoreError> {
    spaces::put(tx, document, space)?;
    let mut appender = Appender::begin(tx, *document)?;
    let actor = ActorId::from(document.as_bytes());
    for value in 0..count {
        let change = next_change(&appender, &actor, i64::try_from(value).unwrap());
        appender.append(tx, &change)?;
    }
    appender.finish(tx)?;
    log::append(tx, document)?;
    Ok(())
}

type Exports = BTreeMap<DocumentId, (SpaceId, Vec<ChangeHash>, Vec<Vec<u8>>)>;

/// Every document: where it is, its heads, and its changes in their order.
fn exports(tx: &dyn ReadTx) -> Exports {
    let each = ledger::documents(tx).unwrap().into_iter().map(|document| {
        let mut changes = Vec::new();
        ledger::export(tx, &document, 0, &mut |bytes| {
            changes.push(bytes.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
        (document, (spaces::of(tx, &document).unwrap(), ledger::heads(tx, &document).unwrap(), changes))
    });
    each.collect()
}

fn rows(tx: &dyn ReadTx, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    tx.scan(table, &[]..&[u8::MAX; 80], &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })
    .unwrap();
    rows
}

fn quiet(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn restore_quietly(chain: &[PathBuf], data: &Path) -> Result<Restored, RestoreError> {
    restore(chain, data, &RestoreOptions::default(), &mut |_| ControlFlow::Continue(()))
}

fn opened(data: &Path) -> RedbStore {
    RedbStore::open(data.join(STORE_FILE), RedbOptions::new()).unwrap()
}

fn assert_sound(store: &dyn Store) {
    let report = verify(store, &VerifyOptions::new(Registers::Absent), &mut |_| ()).unwrap();
    assert!(report.is_sound(), "{report}");
}

/// Remembers what stood in the view that a backup read.
struct Watched {
    inner: RedbStore,
    seen: Mutex<Option<Exports>>,
    watch: std::sync::atomic::AtomicBool,
}

impl Store for Watched {
    fn read(&self) -> Result<Box<dyn ReadTx + '_>, StoreError> {
        let view = self.inner.read()?;
        if std::thread::current().name() == Some("backup")
            && self.watch.swap(false, std::sync::atomic::Ordering::SeqCst)
        {
            *self.seen.lock().unwrap() = Some(exports(view.as_ref()));
        }
        Ok(view)
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn WriteTx) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.inner.write(work)
    }
}

/// Makes a chain of changes of one actor.
fn chain_of(actor: u8, count: u64) -> Vec<CheckedChange> {
    let store = rejoin::store::MemoryStore::new();
    let actor = ActorId::from(&[actor; 16][..]);
    let mut changes = Vec::new();
    store
        .write_with(|tx| {
            let mut appender = Appender::begin(tx, document(1))?;
            for value in 0..count {
                let change = next_change(&appender, &actor, i64::try_from(value).unwrap());
                appender.append(tx, &change)?;
                changes.push(change);
            }
            appender.finish(tx).map(drop)
        })
        .unwrap();
    changes
}

#[test]
fn backup_taken_under_load_is_what_stood_there_at_one_moment() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Watched {
        inner: open(directory.path()),
        seen: Mutex::default(),
        watch: std::sync::atomic::AtomicBool::new(false),
    });
    let hub = Arc::new(Hub::default());
    let shared: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
    let commits = Arc::new(GroupCommit::start(shared, Arc::clone(&hub), None).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let pushed = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let writers: Vec<_> = (1..=4_u8)
        .map(|writer| {
            let (commits, hub) = (Arc::clone(&commits), Arc::clone(&hub));
            let (stop, pushed) = (Arc::clone(&stop), Arc::clone(&pushed));
            runtime.spawn(async move {
                let from = hub.next_id();
                for change in chain_of(writer, 3_000) {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                    let space = if writer % 2 == 0 { TEAM } else { SpaceId::DEFAULT };
                    let offered = Offered { document: document(writer), what: OfferedWrite::Change(change) };
                    commits.push(from.into(), space, vec![offered]).await.unwrap().await.unwrap().unwrap();
                    pushed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            })
        })
        .collect();
    let to = |name: &str| directory.path().join(name);
    let mut chain: Vec<PathBuf> = Vec::new();
    let mut last: Option<Manifest> = None;
    for name in ["full", "first", "second"] {
        let before = pushed.load(std::sync::atomic::Ordering::Relaxed);
        while pushed.load(std::sync::atomic::Ordering::Relaxed) < before + 40
            && !writers.iter().all(|one| one.is_finished())
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        store.watch.store(true, std::sync::atomic::Ordering::SeqCst);
        let (at, shared, since) = (to(name), Arc::clone(&store), last.clone());
        let made = std::thread::Builder::new()
            .name("backup".to_owned())
            .spawn(move || online(&*shared, &at, since.as_ref(), &mut quiet).unwrap());
        last = Some(made.unwrap().join().unwrap());
        chain.push(to(name));
        let seen = store.seen.lock().unwrap().take().unwrap();
        let data = to(&format!("restored-{name}"));
        let restored = restore_quietly(&chain, &data).unwrap();
        assert_eq!(Some(&restored.manifest), last.as_ref());
        let copy = opened(&data);
        assert_eq!(exports(copy.read().unwrap().as_ref()), seen);
        assert_sound(&copy);
        // A new life of the log: every cursor compares.
        let view = copy.read().unwrap();
        assert_eq!(log::epoch(view.as_ref()).unwrap(), Some(restored.epoch));
        assert_ne!(restored.epoch, Epoch::from_bytes([1; 16]));
        assert_eq!(storage_id(&copy, [9; 16]).unwrap(), restored.storage);
        assert!(care::restored_at(view.as_ref()).unwrap().is_some());
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    runtime.block_on(async {
        for writer in writers {
            writer.await.unwrap();
        }
        commits.finish().await;
    });
}

/// What happens to a store between backups.
#[derive(Debug, Clone)]
enum Step {
    Write {
        document: u8,
        count: u64,
    },
    Delete {
        document: u8,
        purge: bool,
    },
    /// Deleted on this store alone.
    Drop {
        document: u8,
    },
    Expire,
    Create {
        document: u8,
    },
    Pack {
        document: u8,
    },
    Small {
        table: u8,
        key: u8,
        value: u8,
    },
    Backup,
}

fn step() -> impl Strategy<Value = Step> {
    let document = 1_u8..6;
    prop_oneof![
        6 => (document.clone(), 1_u64..30).prop_map(|(document, count)| Step::Write { document, count }),
        1 => (document.clone(), any::<bool>()).prop_map(|(document, purge)| Step::Delete { document, purge }),
        1 => document.clone().prop_map(|document| Step::Drop { document }),
        1 => Just(Step::Expire),
        1 => (10_u8..12).prop_map(|document| Step::Create { document }),
        1 => document.prop_map(|document| Step::Pack { document }),
        2 => (0_u8..4, 0_u8..3, any::<u8>()).prop_map(|(table, key, value)| Step::Small { table, key, value }),
        3 => Just(Step::Backup),
    ]
}

fn carry_out(store: &RedbStore, step: &Step) {
    let small = [Table::Directory, Table::Grant, Table::Audit, Table::Directory];
    store
        .write_with(|tx| match step {
            Step::Write { document: number, count } => {
                let space = if number % 2 == 0 { TEAM } else { SpaceId::DEFAULT };
                write(tx, &space, &document(*number), *count)
            }
            Step::Delete { document: number, purge } => {
                let kind = if *purge { DeletionKind::Purged } else { DeletionKind::Deleted };
                let deletion = Tombstone { kind, time_seconds: 7, by: "somebody".to_owned() };
                tombstone::bury(tx, &document(*number), &deletion).map(drop)
            }
            Step::Drop { document: number } => ledger::delete(tx, &document(*number)),
            Step::Expire => tombstone::expire(tx, 100).map(drop),
            Step::Create { document: number } => ledger::create(tx, &document(*number)).map(drop),
            Step::Pack { document: number } => ledger::compact_fully(tx, &document(*number)).map(drop),
            Step::Small { table, key, value } => {
                let table = small[usize::from(*table)];
                if *value < 60 { tx.delete(table, &[*key]) } else { tx.put(table, &[*key], &[*value]) }
            }
            Step::Backup => Ok(()),
        })
        .unwrap();
}

/// The rows of a table.
type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Everything that has to be the same, however it was restored.
fn content(store: &dyn Store) -> (Exports, Vec<Rows>) {
    let view = store.read().unwrap();
    let tables = [
        Table::Tombstone,
        Table::Space,
        Table::Member,
        Table::Log,
        Table::Logged,
        Table::Directory,
        Table::Grant,
        Table::Owner,
        Table::Audit,
    ];
    (exports(view.as_ref()), tables.into_iter().map(|table| rows(view.as_ref(), table)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_follows_a_full_backup_makes_the_same_store_as_a_later_full_one(steps in prop::collection::vec(step(), 1..30)) {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        let to = |name: String| directory.path().join(name);
        let mut chain = vec![to("full".to_owned())];
        carry_out(&store, &Step::Write { document: 1, count: 3 });
        let mut last = online(&store, &chain[0], None, &mut quiet).unwrap();
        for (number, step) in steps.iter().chain([&Step::Backup]).enumerate() {
            carry_out(&store, step);
            if matches!(step, Step::Backup) {
                let at = to(format!("since-{number}"));
                last = online(&store, &at, Some(&last), &mut quiet).unwrap();
                chain.push(at);
            }
        }
        let full = to("later".to_owned());
        online(&store, &full, None, &mut quiet).unwrap();
        let expected = content(&store);
        for (name, chain) in [("of-one", vec![full]), ("of-many", chain)] {
            let data = to(name.to_owned());
            restore_quietly(&chain, &data).unwrap();
            let restored = opened(&data);
            let found = content(&restored);
            prop_assert_eq!(&found.0, &expected.0);
            prop_assert_eq!(&found.1, &expected.1);
            assert_sound(&restored);
        }
    }
}

/// A store with some documents, one of them packed, and its full backup in several files with one that follows.
fn backed_up() -> (TempDir, RedbStore, Vec<PathBuf>) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for number in 1..=3 {
        carry_out(&store, &Step::Write { document: number, count: 40 });
    }
    carry_out(&store, &Step::Pack { document: 1 });
    let chain = vec![directory.path().join("full"), directory.path().join("since")];
    let options = OnlineOptions { file_bytes: 1, ..OnlineOptions::default() };
    // Two frames, and so two files.
    store.write_with(|tx| (0..3).try_for_each(|key| tx.put(Table::Audit, &[key], &vec![key; 600_000]))).unwrap();
    let full = online_with(&store, &chain[0], None, &options, &mut quiet).unwrap();
    assert!(full.files.len() > 1);
    store.write_with(|tx| tx.delete_range(Table::Audit, &[]..&[9])).unwrap();
    carry_out(&store, &Step::Write { document: 2, count: 5 });
    online(&store, &chain[1], Some(&full), &mut quiet).unwrap();
    (directory, store, chain)
}
