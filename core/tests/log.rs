//! The log against a list in memory: what is appended, deleted, purged, packed and read at random, on every store.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests, and one that measures")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rejoin::care::{self, Registers, VerifyOptions};
use rejoin::deletion::{DeletionKind, Tombstone};
use rejoin::gate::{Action, ChangeDraft, DraftObject, DraftOp, encode};
use rejoin::ledger::log::{self, What};
use rejoin::ledger::{self, Appended, Appender, spaces, tombstone};
use rejoin::limits::LOG_ENTRY_BYTES;
use rejoin::store::{MemoryStore, Store, StoreExt, WriteTx};
use rejoin::{ActorId, DocumentId, Epoch, ScalarValue, SpaceId};

const DOCUMENTS: u8 = 7;
const EPOCH: Epoch = Epoch::from_bytes([0xa1; 16]);

fn document(number: u8) -> DocumentId {
    DocumentId::from_bytes([number; 16])
}

/// Two documents in each of three spaces, and one more in the default one.
fn space_of(document: &DocumentId) -> SpaceId {
    match document.as_bytes()[0] % 3 {
        0 => SpaceId::DEFAULT,
        number => SpaceId::from_bytes([0xe0 + number; 16]),
    }
}

/// What the log should hold: the change's bytes, or nothing for a deletion; and whether it still means something.
struct Expected {
    document: DocumentId,
    bytes: Option<Vec<u8>>,
    is_live: bool,
}

struct World<S> {
    store: S,
    rng: SmallRng,
    spaces: BTreeMap<SpaceId, Vec<Expected>>,
    buried: BTreeMap<DocumentId, DeletionKind>,
    context: String,
}

impl<S: Store> World<S> {
    fn new(store: S, seed: u64, name: &str) -> Self {
        store.write_with(|tx| log::set_epoch(tx, &EPOCH)).unwrap();
        let rng = SmallRng::seed_from_u64(seed);
        World { store, rng, spaces: BTreeMap::new(), buried: BTreeMap::new(), context: format!("{name}, seed {seed}") }
    }

    fn any_document(&mut self) -> DocumentId {
        document(self.rng.random_range(1..=DOCUMENTS))
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..60 => self.append(),
            60..63 => self.bury(),
            63..65 => self.delete_here(),
            65..66 => self.expire(),
            66..80 => self.pack(),
            _ => self.read(),
        }
    }

    /// Appends changes to a few documents in one transaction.
    fn append(&mut self) {
        let batches: Vec<(DocumentId, usize)> =
            (0..self.rng.random_range(1..4)).map(|_| (self.any_document(), self.rng.random_range(1..12))).collect();
        let lengths: Vec<usize> = (0..40).map(|_| self.rng.random_range(0..300)).collect();
        let (spaces, buried, context) = (&mut self.spaces, &self.buried, &self.context);
        let appended = self.store.write_with(|tx| {
            for (document, count) in batches {
                let space = space_of(&document);
                // One that was deleted before it was put anywhere stays in the default space.
                let placed = spaces::put(tx, &document, &space)?;
                assert!(placed == spaces::Placed::There || buried.contains_key(&document), "{context}");
                let made = write(tx, document, &lengths[..count]);
                assert_eq!(made.is_empty(), buried.contains_key(&document), "{context}");
                let logged = log::append(tx, &document)?;
                let expected = spaces.entry(space).or_default();
                assert_eq!(logged.map(|logged| logged.first), (!made.is_empty()).then_some(expected.len() as u64 + 1));
                let made = made.into_iter().map(|bytes| Expected { document, bytes: Some(bytes), is_live: true });
                expected.extend(made);
                assert_eq!(log::end(tx, &space)?, expected.len() as u64, "{context}");
            }
            Ok(())
        });
        appended.unwrap();
    }

    fn bury(&mut self) {
        let document = self.any_document();
        let kind = if self.rng.random_bool(0.5) { DeletionKind::Purged } else { DeletionKind::Deleted };
        let news = self.buried.get(&document).is_none_or(|here| *here < kind);
        let tombstone = Tombstone { kind, time_seconds: 5, by: "me".to_owned() };
        let buried = self.store.write_with(|tx| tombstone::bury(tx, &document, &tombstone)).unwrap();
        assert_eq!(buried.is_news, news, "{}", self.context);
        if !news {
            return;
        }
        self.void(&document, true);
        self.void(&document, false);
        // One that was never put anywhere was in the default space.
        let space = spaces::of(&*self.store.read().unwrap(), &document).unwrap();
        self.spaces.entry(space).or_default().push(Expected { document, bytes: None, is_live: true });
        self.buried.insert(document, kind);
    }

    fn delete_here(&mut self) {
        let document = self.any_document();
        self.store.write_with(|tx| ledger::delete(tx, &document)).unwrap();
        self.void(&document, true);
    }

    /// Brings the documents back whose deletion was logged where they belong.
    fn expire(&mut self) {
        let tx = self.store.read().unwrap();
        let settled = self.buried.keys().all(|document| spaces::of(&*tx, document).unwrap() == space_of(document));
        drop(tx);
        if !settled {
            return;
        }
        let expired = self.store.write_with(|tx| tombstone::expire(tx, u64::MAX)).unwrap();
        assert_eq!(expired, self.buried.len() as u64, "{}", self.context);
        for document in std::mem::take(&mut self.buried).into_keys() {
            self.void(&document, false);
        }
    }

    /// What is logged of a document means nothing any more: its changes, or that it was deleted.
    fn void(&mut self, document: &DocumentId, changes: bool) {
        let all = self.spaces.values_mut().flatten().filter(|entry| entry.document == *document);
        all.filter(|entry| entry.bytes.is_some() == changes).for_each(|entry| entry.is_live = false);
    }

    fn pack(&mut self) {
        let (document, keep) = (self.any_document(), self.rng.random_range(0..20));
        self.store.write_with(|tx| ledger::compact_within(tx, &document, keep, 4, 32)).unwrap();
    }

    /// Reads once from anywhere, with any budget.
    fn read(&mut self) {
        let Some(space) = self.spaces.keys().nth(self.rng.random_range(0..3)).copied() else { return };
        let after = self.rng.random_range(0..=self.spaces[&space].len() as u64);
        let bytes_max = [0, 1_000, 20_000, u64::MAX][self.rng.random_range(0..4)];
        let stop_after = if self.rng.random_bool(0.2) { self.rng.random_range(1..20) } else { usize::MAX };
        self.read_from(space, after, bytes_max, stop_after);
    }

    /// Reads, compares with what is expected, and returns where to go on.
    fn read_from(&self, space: SpaceId, after: u64, bytes_max: u64, stop_after: usize) -> u64 {
        let expected = &self.spaces[&space];
        let mut live = (after + 1..).zip(expected.iter().skip(usize::try_from(after).unwrap()));
        let (mut bytes, mut visited) = (0, 0);
        let tx = self.store.read().unwrap();
        let at = log::read(&*tx, &space, after, bytes_max, &mut |entry| {
            let (position, expected) = live.find(|(_, entry)| entry.is_live).unwrap();
            assert_eq!((entry.position, entry.document), (position, expected.document), "{}", self.context);
            match entry.what {
                What::Change { bytes: found, .. } => {
                    assert_eq!(Some(found), expected.bytes.as_deref(), "{}", self.context);
                    bytes += found.len() as u64;
                }
                What::Deleted => assert_eq!(expected.bytes, None, "{}", self.context),
                other => panic!("{}: {other:?}", self.context),
            }
            bytes += LOG_ENTRY_BYTES;
            visited += 1;
            assert!(bytes <= bytes_max || visited == 1, "{}", self.context);
            if visited == stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
        // What was not visited either means nothing, or comes after where it stopped, and would not have fitted.
        let next = live.find(|(_, entry)| entry.is_live);
        match next {
            None => assert!(at == expected.len() as u64 || visited == stop_after, "{}", self.context),
            Some((position, entry)) => {
                let length = entry.bytes.as_ref().map_or(0, Vec::len) as u64 + LOG_ENTRY_BYTES;
                assert!(at < position, "{}", self.context);
                assert!(visited == stop_after || bytes + length > bytes_max, "{}", self.context);
            }
        }
        at
    }

    /// Follows every space from the beginning, and checks the store.
    fn check(&self) {
        for (space, expected) in &self.spaces {
            let mut at = 0;
            while at < expected.len() as u64 {
                let next = self.read_from(*space, at, 3_000, usize::MAX);
                assert!(next > at, "{}", self.context);
                at = next;
            }
        }
        let report = care::verify(&self.store, &VerifyOptions::new(Registers::Absent), &mut |_| ()).unwrap();
        assert!(report.is_sound(), "{}: {report}", self.context);
    }
}

/// Writes changes of these lengths on top of a document; returns what was stored.
fn write(tx: &mut dyn WriteTx, document: DocumentId, lengths: &[usize]) -> Vec<Vec<u8>> {
    let mut appender = Appender::begin(tx, document).unwrap();
    let mut made = Vec::new();
    for length in lengths {
        let state = appender.state().clone();
        let op = DraftOp {
            object: DraftObject::Root,
            key: "k".to_owned(),
            action: Action::Put,
            value: ScalarValue::Bytes(vec![7; *length]),
            preds: vec![],
        };
        let change = encode(&ChangeDraft {
            actor: ActorId::from(&[5; 16][..]),
            seq: state.count + 1,
            start_op: state.max_op + 1,
            timestamp: 0,
            message: None,
            deps: state.head_hashes(),
            ops: vec![op],
        })
        .unwrap();
        match appender.append(tx, &change).unwrap() {
            Appended::Stored { .. } => made.push(change.bytes().to_vec()),
            Appended::Deleted => {}
            other => panic!("{other:?}"),
        }
    }
    appender.finish(tx).unwrap();
    made
}

#[test]
fn log_in_memory_is_what_the_model_says() {
    for seed in 0..60 {
        let mut world = World::new(MemoryStore::new(), seed, "memory");
        (0..250).for_each(|_| world.step());
        world.check();
    }
}

#[cfg(feature = "redb")]
mod on_disk {
    use rejoin::care::{BackupOptions, CopyId};
    use rejoin::ledger::receipts::{self, Receipt};
    use rejoin::store::{RedbOptions, RedbStore, Table};

    use super::*;

    #[test]
    fn log_on_disk_is_what_the_model_says_and_outlives_the_process() {
        for seed in 100..106 {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("store.redb");
            let open = || RedbStore::open(&path, RedbOptions::new()).unwrap();
            let mut world = World::new(open(), seed, "disk");
            for _ in 0..3 {
                (0..50).for_each(|_| world.step());
                let World { store, rng, spaces, buried, context } = world;
                drop(store);
                world = World { store: open(), rng, spaces, buried, context };
                world.check();
            }
        }
    }

    /// A store that was made by a version that had no log, nor spaces or receipts.
    #[test]
    fn store_without_the_tables_reads_them_as_empty_and_gets_a_log() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
        let made = store.write_with(|tx| Ok(write(tx, document(1), &[1, 2])));
        assert_eq!(made.unwrap().len(), 2);
        drop(store);
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let newer =
            [Table::Space, Table::Member, Table::Log, Table::Logged, Table::Cursor, Table::Receipt, Table::Seen];
        for table in newer.into_iter().chain([Table::Rejected, Table::Branch, Table::Request]) {
            let definition = redb::TableDefinition::<&[u8], &[u8]>::new(table.name());
            assert!(transaction.delete_table(definition).unwrap(), "{table:?}");
        }
        transaction.commit().unwrap();
        drop(database);

        let store = RedbStore::open_read_only(&path, RedbOptions::new()).unwrap();
        let tx = store.read().unwrap();
        assert_eq!(log::end(&*tx, &SpaceId::DEFAULT).unwrap(), 0);
        assert_eq!(log::read(&*tx, &SpaceId::DEFAULT, 0, 0, &mut |_| ControlFlow::Continue(())).unwrap(), 0);
        assert_eq!(spaces::of(&*tx, &document(1)).unwrap(), SpaceId::DEFAULT);
        assert_eq!(receipts::get(&*tx, &document(1), 0).unwrap(), Some(Receipt::Relayed));
        drop(tx);
        drop(store);
        let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
        while !store.write_with(|tx| log::backfill(tx, 10)).unwrap() {}
        assert_eq!(log::end(&*store.read().unwrap(), &SpaceId::DEFAULT).unwrap(), 2);
    }

    #[test]
    fn backup_has_the_log_and_no_epoch() {
        let directory = tempfile::tempdir().unwrap();
        let store = MemoryStore::new();
        let made = store.write_with(|tx| {
            log::set_epoch(tx, &EPOCH)?;
            write(tx, document(1), &[1, 2]);
            log::append(tx, &document(1))
        });
        made.unwrap();
        for (id, name) in [(CopyId::New([9; 16]), "new"), (CopyId::Same, "same")] {
            let path = directory.path().join(name);
            care::backup(&store, &path, &BackupOptions::new(id), &mut |_| ()).unwrap();
            let copy = RedbStore::open(&path, RedbOptions::new()).unwrap();
            let tx = copy.read().unwrap();
            assert_eq!(log::epoch(&*tx).unwrap(), None);
            assert_eq!(log::end(&*tx, &SpaceId::DEFAULT).unwrap(), 2);
            assert!(tx.contains(Table::Logged, document(1).as_bytes()).unwrap());
        }
    }
}

/// Opening a pack takes milliseconds: entries that follow one another must not each open one.
#[test]
#[ignore = "a measurement: minutes without --release"]
fn hundred_thousand_packed_entries_are_read() {
    let store = MemoryStore::new();
    let all: BTreeSet<u8> = (1..=4).collect();
    store
        .write_with(|tx| {
            for round in 0..100_000 / 4 / 10 {
                for number in &all {
                    write(tx, document(*number), &[round % 100; 10]);
                    log::append(tx, &document(*number))?;
                }
            }
            for number in &all {
                while ledger::compact_fully(tx, &document(*number))? > 0 {}
            }
            Ok(())
        })
        .unwrap();
    let (start, mut count) = (std::time::Instant::now(), 0);
    let tx = store.read().unwrap();
    let end = log::read(&*tx, &SpaceId::DEFAULT, 0, u64::MAX, &mut |_| {
        count += 1;
        ControlFlow::Continue(())
    });
    println!("{count} packed entries up to {} in {:?}", end.unwrap(), start.elapsed());
}
