//! Power is cut at every I/O operation of a relay that takes pushes: each position that was told must hold what it was told
//! for, and none may be missing before it.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::print_stdout, reason = "the counts tell what was tried")]

use std::ops::ControlFlow;
use std::sync::Arc;

use rejoin::care::{self, Registers, VerifyOptions};
use rejoin::ledger::log::{self, What};
use rejoin::store::testing::disk::{Chance, CutFiles, Images, Kept};
use rejoin::store::{RedbOptions, RedbStore, Store, StoreError};
use rejoin::sync::v1::OfferedWrite;
use rejoin::{Epoch, SpaceId};
use tokio::runtime::Runtime;

use super::tests::{chain, deleted, offered};
use super::*;
use crate::hub::Hub;

const SPACE: SpaceId = SpaceId::from_bytes([0xe1; 16]);
const DOCUMENTS: [DocumentId; 2] = [DocumentId::from_bytes([1; 16]), DocumentId::from_bytes([2; 16])];

/// What a client was told: a position, and the write that is there. Of a document that was deleted since, only the deletion.
type Told = Vec<(u64, OfferedWrite)>;

fn open_disk(disk: &CutFiles) -> Result<RedbStore, StoreError> {
    disk.open(RedbOptions::new().quick_repair(true).journal(true))
}

/// Pushes until the power fails, two batches at once.
fn push_all(runtime: &Runtime, disk: &CutFiles) -> Told {
    let Ok(store) = open_disk(disk) else { return Told::new() };
    let store: Arc<dyn Store> = Arc::new(store);
    let Ok(_) = open(&*store, [7; 16]) else { return Told::new() };
    let hub = Arc::new(Hub::default());
    let log = GroupCommit::start(store, Arc::clone(&hub), None).unwrap();
    let from = hub.next_id();
    let changes = chain(8);
    let mut told = Told::new();
    for some in changes.chunks(2) {
        let batches = some.iter().map(|change| {
            DOCUMENTS.iter().flat_map(|document| offered(*document, [change.clone()])).collect::<Vec<_>>()
        });
        push_together(runtime, &log, from, batches.collect(), &mut told);
    }
    // From here on the cut may fall while the deletion is under way: what came before it holds nothing then.
    let before = told.len();
    push_together(runtime, &log, from, vec![vec![deleted(DOCUMENTS[0])]], &mut told);
    if told.len() > before {
        told.retain(|(position, write)| position % 2 == 0 || matches!(write, OfferedWrite::Deleted(_)));
    }
    runtime.block_on(log.finish());
    told
}

fn push_together(
    runtime: &Runtime,
    log: &GroupCommit,
    from: ConnectionId,
    batches: Vec<Vec<Offered>>,
    told: &mut Told,
) {
    runtime.block_on(async {
        let mut answers = Vec::new();
        for writes in batches {
            answers.push((writes.clone(), log.push(from.into(), SPACE, writes).await.unwrap()));
        }
        for (writes, answer) in answers {
            for (write, outcome) in writes.into_iter().zip(answer.await.unwrap().unwrap()) {
                if let Outcome::Stored { first } = outcome {
                    told.push((first, write.what));
                }
            }
        }
    });
}

/// Checks what is found on a disk. The deletion may be there though nobody heard of it.
fn check(images: Images, told: &Told) -> Result<(), String> {
    let store = open_disk(&CutFiles::from_images(images)).map_err(|error| format!("unopenable: {error}"))?;
    let report = care::verify(&store, &VerifyOptions::new(Registers::Absent), &mut |_| {}).unwrap();
    if !report.is_sound() {
        return Err(format!("it is not sound: {}", report.to_json()));
    }
    let tx = store.read().unwrap();
    if !told.is_empty() && log::epoch(&*tx).unwrap() != Some(Epoch::from_bytes([7; 16])) {
        return Err("the epoch is gone".to_owned());
    }
    let mut found: Vec<(u64, Option<Vec<u8>>)> = Vec::new();
    log::read(&*tx, &SPACE, 0, u64::MAX, &mut |entry| {
        found.push(match entry.what {
            What::Change { bytes, .. } => (entry.position, Some(bytes.to_vec())),
            _ => (entry.position, None),
        });
        ControlFlow::Continue(())
    })
    .unwrap();
    let is_deleted = found.iter().any(|(_, bytes)| bytes.is_none());
    for (position, write) in told {
        let here = found.iter().find(|(other, _)| other == position).map(|(_, bytes)| bytes.as_deref());
        let is_kept = match write {
            OfferedWrite::Change(change) | OfferedWrite::PassedOn(change)
                if here == Some(Some(&change.bytes()[..])) =>
            {
                true
            }
            // The first document's, when its deletion came through unheard.
            OfferedWrite::Change(_) | OfferedWrite::PassedOn(_) => is_deleted && here.is_none(),
            OfferedWrite::Deleted(_) | OfferedWrite::DeletedElsewhere(_) => here == Some(None),
        };
        if !is_kept {
            return Err(format!("position {position} was told and holds something else"));
        }
    }
    let has_gap = (1..).zip(&found).any(|(expected, (position, _))| expected != *position);
    if has_gap && !is_deleted { Err("positions are left out".to_owned()) } else { Ok(()) }
}

#[test]
fn position_that_was_told_survives_a_power_cut_at_any_operation() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let whole = CutFiles::new();
    let all = push_all(&runtime, &whole);
    assert_eq!(all.iter().map(|(position, _)| *position).max(), Some(17));
    let mut failures = Vec::new();
    for cut in 0..whole.operations() {
        let disk = CutFiles::new();
        disk.cut_after(cut);
        let told = push_all(&runtime, &disk);
        for kept in Kept::ALL {
            let images = disk.images(kept, &mut Chance::new(cut as u64));
            if let Err(failure) = check(images, &told) {
                failures.push(format!("cut at {cut}, kept {kept:?}: {failure}"));
            }
        }
    }
    let operations = whole.operations();
    println!("crash images, positions: {operations} cuts, {} images", operations * Kept::ALL.len());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
