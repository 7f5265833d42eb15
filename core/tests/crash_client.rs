//! Power is cut at the I/O operations of a device's life, and what the engine acknowledged must be there.
//!
//! A script of logical writes (documents made and deleted, fields, counters, text, received changes, acknowledged outbox
//! entries, packing, rejected writes dropped and reused actors replaced) runs on a disk that stops at one operation after the other. The script gives the same bytes each
//! time, so what the store must hold after each step is known from a run in memory: a recovered store has to be, row for
//! row, as the last acknowledged step left it, or as the one under way would have.
//!
//! Every operation is tried; with `REJOIN_CRASH_ALL=1` also many more of the random images of each.
#![cfg(feature = "redb")]
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::print_stdout, reason = "the counts tell what was tried")]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;

use automerge::transaction::Transactable;
use automerge::{ObjType, ROOT};
use rejoin::care::{self, Registers, VerifyOptions};
use rejoin::document::{Commit, DocumentError, Materialised};
use rejoin::engine::{self, Origin, Reused};
use rejoin::fields::{self, Author};
use rejoin::gate::{Action, ChangeDraft, CheckedChange, DraftObject, DraftOp, encode};
use rejoin::ledger::rejected::{self, Rejection};
use rejoin::ledger::{self, outbox};
use rejoin::store::testing::disk::{Chance, CutDisk, Kept};
use rejoin::store::{self, MemoryStore, RedbOptions, RedbStore, Store, StoreError, StoreExt, Table, WriteTx};
use rejoin::{ActorId, ChangeHash, DocumentId, Edit, ScalarValue, Value};

/// How often the random images of a cut are thrown, and how often with `REJOIN_CRASH_ALL`.
const ROLLS: (u64, u64) = (12, 60);

const A: DocumentId = DocumentId::from_bytes([0xa; 16]);
const B: DocumentId = DocumentId::from_bytes([0xb; 16]);

/// One logical write: one transaction, one acknowledgement.
enum Step {
    Identify,
    Create(DocumentId),
    Write(DocumentId, Vec<Edit>),
    Accept(Origin, DocumentId, Vec<CheckedChange>),
    Acknowledge(DocumentId, Vec<ChangeHash>),
    Compact(DocumentId),
    Reject(DocumentId, Rejection),
    Retry(DocumentId, ChangeHash),
    DropRejected(DocumentId, ChangeHash),
    Replay(DocumentId, ChangeHash),
    Delete(DocumentId),
}

impl Step {
    fn apply(&self, tx: &mut dyn WriteTx) -> Result<(), StoreError> {
        match self {
            Self::Identify => unreachable!("it makes a transaction of its own"),
            Self::Create(document) => ledger::create(tx, document).map(drop),
            Self::Write(document, edits) => {
                let actor = ActorId::from(&b"device"[..]);
                let author = Author { actor: &actor, time_seconds: 0, message: None };
                fields::write(tx, document, &author, edits)?.unwrap().expect("it changes something");
                Ok(())
            }
            Self::Accept(origin, document, changes) => {
                let accepted = engine::accept(tx, *document, changes.clone(), *origin)?;
                assert_eq!(accepted.stored, changes.len(), "{:?}", accepted.results);
                Ok(())
            }
            Self::Acknowledge(document, heads) => outbox::acknowledge(tx, document, heads).map(drop),
            Self::Compact(document) => {
                assert!(ledger::compact_within(tx, document, 4, 5, 40)? > 0);
                Ok(())
            }
            Self::Reject(document, rejection) => {
                assert!(rejected::note(tx, document, rejection)? > 0);
                Ok(())
            }
            Self::Retry(document, hash) => rejected::retry(tx, document, hash).map(drop),
            Self::DropRejected(document, hash) => {
                assert!(engine::drop_rejected(tx, *document, hash, 9)?.unwrap().is_some());
                Ok(())
            }
            Self::Replay(document, hash) => {
                let fresh = &mut || ActorId::from(&b"fresh"[..]);
                let replayed = engine::replay(tx, *document, &Reused::Refused(*hash), fresh)?.unwrap().unwrap();
                assert_eq!(replayed.renamed.len(), 2);
                Ok(())
            }
            Self::Delete(document) => ledger::delete(tx, document),
        }
    }

    fn run(&self, store: &dyn Store) -> Result<(), StoreError> {
        match self {
            Self::Identify => store::storage_id(store, [7; 16]).map(drop),
            _ => store.write_with(|tx| self.apply(tx)),
        }
    }
}

/// The steps, and a digest of all rows before the first and after each.
struct Script {
    steps: Vec<Step>,
    states: Vec<u64>,
}

/// Writes the script while running it in memory.
struct Writer {
    store: MemoryStore,
    script: Script,
    text: Materialised,
    remote_seq: u64,
}

impl Writer {
    fn step(&mut self, step: Step) {
        step.run(&self.store).unwrap();
        let state = digest(&self.store).unwrap();
        assert!(!self.script.states.contains(&state), "step {} changes nothing", self.script.steps.len());
        self.script.states.push(state);
        self.script.steps.push(step);
    }

    fn write(&mut self, document: DocumentId, edits: Vec<Edit>) {
        self.step(Step::Write(document, edits));
    }

    fn type_text(&mut self, at: usize, delete: isize, typed: &str) {
        self.text.catch_up(self.store.read().unwrap().as_ref()).unwrap();
        let commit = Commit { message: None, time_seconds: 0 };
        let edit = |tx: &mut automerge::transaction::Transaction<'_>| -> Result<(), DocumentError> {
            let text = match automerge::ReadDoc::get(tx, ROOT, "text").unwrap() {
                Some((_, text)) => text,
                None => tx.put_object(ROOT, "text", ObjType::Text).unwrap(),
            };
            tx.splice_text(&text, at, delete, typed).unwrap();
            Ok(())
        };
        let ((), change) = self.text.edit(&commit, edit).unwrap();
        self.step(Step::Accept(Origin::Local, A, vec![change.unwrap()]));
    }

    /// A batch from another device that has seen what is here now.
    fn receive(&mut self, count: u64) {
        let state = ledger::state(self.store.read().unwrap().as_ref(), &A).unwrap().unwrap();
        let mut deps = state.head_hashes();
        let mut changes: Vec<CheckedChange> = Vec::new();
        for number in 0..count {
            let op = DraftOp {
                object: DraftObject::Root,
                key: if number % 3 == 0 { "title".to_owned() } else { format!("remote {number}") },
                action: Action::Put,
                value: ScalarValue::Str(format!("remote value {number}").into()),
                preds: Vec::new(),
            };
            self.remote_seq += 1;
            let draft = ChangeDraft {
                actor: ActorId::from(&b"remote"[..]),
                seq: self.remote_seq,
                start_op: state.max_op + 1 + number,
                timestamp: 0,
                message: None,
                deps: std::mem::take(&mut deps),
                ops: vec![op],
            };
            let change = encode(&draft).unwrap();
            deps = vec![change.hash()];
            changes.push(change);
        }
        self.step(Step::Accept(Origin::Remote, A, changes));
    }

    /// The last change, which is refused by a relay, dropped, or made again.
    fn last(&self) -> ChangeHash {
        ledger::heads(self.store.read().unwrap().as_ref(), &A).unwrap()[0]
    }

    fn reject(&mut self, hash: ChangeHash, code: u16) {
        let rejection = Rejection { hash, code, text: "no".to_owned(), time_seconds: 8 };
        self.step(Step::Reject(A, rejection));
    }

    fn acknowledge(&mut self, document: DocumentId) {
        let heads = ledger::heads(self.store.read().unwrap().as_ref(), &document).unwrap();
        self.step(Step::Acknowledge(document, heads));
    }
}

impl Script {
    fn new() -> Self {
        let store = MemoryStore::new();
        let script = Script { steps: Vec::new(), states: vec![digest(&store).unwrap()] };
        let text = Materialised::new(A, ActorId::from(&b"typist"[..]));
        let mut writer = Writer { store, script, text, remote_seq: 0 };
        writer.step(Step::Identify);
        writer.step(Step::Create(A));
        writer.write(A, vec![Edit::set("title", "first"), Edit::set("count", Value::counter(0))]);
        writer.write(A, vec![Edit::increment("count", 3), Edit::set("done", false)]);
        writer.step(Step::Create(B));
        writer.write(B, vec![Edit::set("long", "x".repeat(20_000))]);
        writer.write(A, vec![Edit::delete("done")]);
        writer.type_text(0, 0, "a text");
        writer.type_text(2, 4, "longer text than before");
        writer.receive(20);
        writer.acknowledge(A);
        for number in 0..6_i64 {
            writer.write(A, vec![Edit::set("title", format!("title {number}")), Edit::increment("count", number)]);
        }
        writer.step(Step::Compact(A));
        writer.type_text(0, 1, "typed after packing: ");
        writer.receive(9);
        writer.write(A, vec![Edit::set("title", "wins over both"), Edit::set("long", "y".repeat(9_000))]);
        writer.write(A, vec![Edit::delete("long")]);
        writer.acknowledge(B);
        writer.step(Step::Compact(A));
        writer.acknowledge(A);
        writer.write(A, vec![Edit::set("title", "kept")]);
        writer.write(A, vec![Edit::set("title", "refused")]);
        let refused = writer.last();
        writer.write(A, vec![Edit::increment("count", 5)]);
        writer.reject(refused, 80);
        writer.write(A, vec![Edit::set("on top", true)]);
        writer.step(Step::Retry(A, refused));
        writer.reject(refused, 83);
        writer.step(Step::DropRejected(A, refused));
        writer.write(A, vec![Edit::set("map", Value::from_json(serde_json::json!({ "n": 1 })).unwrap())]);
        let reused = writer.last();
        writer.write(A, vec![Edit::increment("count", 6)]);
        writer.step(Step::Replay(A, reused));
        writer.step(Step::Delete(B));
        writer.write(A, vec![Edit::set("last", true)]);
        // Kept for the checks, so that there is always one more to make.
        writer.write(A, vec![Edit::set("spare", true)]);
        writer.script
    }

    /// Returns how many steps the store shows, if it is as one of them left it.
    fn find(&self, store: &dyn Store) -> Result<usize, String> {
        let found = digest(store).map_err(|error| format!("it cannot be read: {error}"))?;
        let step = self.states.iter().position(|state| *state == found);
        step.ok_or_else(|| "a write is there by half".to_owned())
    }

    /// Opens the store and goes on with the script until the power fails. Returns how many steps were acknowledged.
    fn live(&self, disk: &CutDisk, acknowledging: Acknowledging) -> Result<usize, String> {
        let Ok(store) = RedbStore::open_backend(disk.clone(), RedbOptions::new()) else { return Ok(0) };
        // Reading goes on without power; what cannot be read then was never acknowledged.
        let Ok(start) = digest(&store) else { return Ok(0) };
        let start = self.states.iter().position(|state| *state == start).ok_or("a write is there by half")?;
        for number in start..self.steps.len() - 1 {
            if self.steps[number].run(&store).is_err() {
                return Ok(if acknowledging == Acknowledging::Early { number + 1 } else { number });
            }
        }
        Ok(self.steps.len() - 1)
    }

    /// Checks what is found on a disk: it opens, it holds what was acknowledged, it is sound, and it can be written.
    fn check(&self, image: Vec<u8>, acknowledged: usize) -> Result<(), String> {
        let disk = CutDisk::from_image(image);
        let open = |disk: &CutDisk| {
            RedbStore::open_backend(disk.clone(), RedbOptions::new()).map_err(|error| format!("unopenable: {error}"))
        };
        let store = open(&disk)?;
        let found = self.find(&store)?;
        if !(acknowledged..=acknowledged + 1).contains(&found) {
            return Err(format!("{acknowledged} steps were acknowledged, {found} are there"));
        }
        sound(&store)?;
        self.steps[found].run(&store).map_err(|error| format!("it cannot be written: {error}"))?;
        // Not closed: only what the disk was made to keep is there.
        let again = CutDisk::from_image(disk.image(Kept::None, &mut Chance::new(0)));
        let store = open(&again)?;
        match self.find(&store)? {
            step if step == found + 1 => Ok(()),
            step => Err(format!("step {found} was made anew, and {step} are there")),
        }
    }
}

/// When the script takes a step for acknowledged.
#[derive(Clone, Copy, PartialEq)]
enum Acknowledging {
    Durable,
    /// Before it is written: what the checks must notice.
    Early,
}

#[derive(Default)]
struct Tally {
    cuts: usize,
    images: usize,
    second_cuts: usize,
    failures: Vec<String>,
}

/// Runs the script to each cut, and checks several images of each.
fn try_cuts(script: &Script, stride: usize, rolls: u64, lying: bool, acknowledging: Acknowledging) -> Tally {
    let whole = CutDisk::new();
    assert_eq!(script.live(&whole, acknowledging), Ok(script.steps.len() - 1));
    let mut tally = Tally::default();
    for cut in (0..whole.operations()).step_by(stride) {
        let disk = CutDisk::new();
        disk.cut_after(cut);
        disk.set_lying(lying);
        let acknowledged = script.live(&disk, acknowledging).unwrap();
        tally.cuts += 1;
        let mut seen: Vec<Vec<u8>> = Vec::new();
        for (roll, kept) in (0..rolls).flat_map(|roll| Kept::ALL.into_iter().map(move |kept| (roll, kept))) {
            let seed = (cut as u64 * ROLLS.1 + roll) * Kept::ALL.len() as u64 + kept as u64;
            let mut chance = Chance::new(seed);
            let image = disk.image(kept, &mut chance);
            // Of a disk that lies anything may be left; that none of it is there is enough.
            if seen.contains(&image) || (lying && kept != Kept::None) {
                continue;
            }
            seen.push(image.clone());
            let second_cut = (chance.below(3) == 0).then(|| chance.below(24));
            let outcome = match second_cut {
                None => script.check(image, acknowledged),
                Some(second) => {
                    tally.second_cuts += 1;
                    let again = CutDisk::from_image(image);
                    again.cut_after(second);
                    script
                        .live(&again, acknowledging)
                        .and_then(|more| script.check(again.image(kept, &mut chance), acknowledged.max(more)))
                }
            };
            tally.images += 1;
            if let Err(failure) = outcome {
                tally
                    .failures
                    .push(format!("cut at {cut}, kept {kept:?}, seed {seed}, second cut {second_cut:?}: {failure}"));
            }
        }
    }
    println!("{} steps, {} operations", script.steps.len(), whole.operations());
    println!("crash images, device: {} cuts, {} images, {} second cuts", tally.cuts, tally.images, tally.second_cuts);
    tally
}

/// A digest of every row of every table.
fn digest(store: &dyn Store) -> Result<u64, StoreError> {
    let tx = store.read()?;
    let mut hasher = DefaultHasher::new();
    for table in Table::ALL {
        table.hash(&mut hasher);
        tx.scan(table, &[]..&[0xff; 64], &mut |key, value| {
            (key, value).hash(&mut hasher);
            ControlFlow::Continue(())
        })?;
    }
    Ok(hasher.finish())
}

fn sound(store: &dyn Store) -> Result<(), String> {
    let report = care::verify(store, &VerifyOptions::new(Registers::Kept), &mut |_| {});
    let report = report.map_err(|error| format!("it cannot be checked: {error}"))?;
    if report.is_sound() { Ok(()) } else { Err(format!("it is not sound: {}", report.to_json())) }
}

#[test]
fn acknowledged_writes_of_a_device_survive_a_power_cut_at_any_operation() {
    let rolls = if std::env::var_os("REJOIN_CRASH_ALL").is_some() { ROLLS.1 } else { ROLLS.0 };
    let tally = try_cuts(&Script::new(), 1, rolls, false, Acknowledging::Durable);
    let some = &tally.failures[..tally.failures.len().min(20)];
    assert!(tally.failures.is_empty(), "{} failures, among them:\n{}", tally.failures.len(), some.join("\n"));
}

#[test]
fn acknowledgement_before_the_write_is_noticed() {
    let tally = try_cuts(&Script::new(), 97, 1, false, Acknowledging::Early);
    assert!(tally.failures.iter().any(|failure| failure.contains("were acknowledged")), "nobody noticed");
}

#[test]
fn disk_that_only_says_it_synced_is_noticed() {
    let tally = try_cuts(&Script::new(), 97, 1, true, Acknowledging::Durable);
    assert!(tally.failures.iter().any(|failure| failure.contains("were acknowledged")), "nobody noticed");
}
