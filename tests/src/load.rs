//! What the benchmarks share: small documents, stores that are full of them, and the kernel's account of processor time.

use std::path::Path;

use rejoin::gate::{Action, ChangeDraft, CheckedChange, DraftObject, DraftOp, encode};
use rejoin::ledger::{Appender, log, spaces};
use rejoin::store::{RedbOptions, RedbStore, StoreExt, WriteTx};
use rejoin::{ActorId, DocumentId, ScalarValue, SpaceId};

/// Documents of one transaction while a store is filled.
const BATCH: u32 = 4_096;

/// Returns the id of a numbered document, spread like random ids.
pub fn document(number: u32) -> DocumentId {
    let mut id = [0x1d; 16];
    id[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
    DocumentId::from_bytes(id)
}

/// Makes the first change of a small document: a title.
pub fn first_change(number: u32) -> CheckedChange {
    let op = DraftOp {
        object: DraftObject::Root,
        key: "title".to_owned(),
        action: Action::Put,
        value: ScalarValue::Str(format!("a small document, number {number}").into()),
        preds: Vec::new(),
    };
    let draft = ChangeDraft {
        actor: ActorId::from(&document(number).as_bytes()[..]),
        seq: 1,
        start_op: 1,
        timestamp: 0,
        message: None,
        deps: Vec::new(),
        ops: vec![op],
    };
    encode(&draft).unwrap()
}

/// Makes a store of so many small documents in a space, of one change each, with the log that a relay keeps of them or without.
pub fn fill(path: &Path, space: &SpaceId, count: u32, is_logged: bool) -> RedbStore {
    let store = RedbStore::open(path, RedbOptions::new()).unwrap();
    for first in (0..count).step_by(BATCH as usize) {
        let put = |tx: &mut dyn WriteTx| {
            for number in first..count.min(first + BATCH) {
                let document = document(number);
                spaces::put(tx, &document, space)?;
                let mut appender = Appender::begin(tx, document)?;
                appender.append(tx, &first_change(number))?;
                appender.finish(tx)?;
                if is_logged {
                    log::append(tx, &document)?;
                }
            }
            Ok(())
        };
        store.write_with(put).unwrap();
    }
    store
}

/// Returns the processor time a process has used, user and system, in seconds: in steps of 10 ms.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(") ").unwrap() + 2..].split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

/// Returns the value that a share of all values is below. The values get sorted.
pub fn percentile(values: &mut [f64], share_percent: usize) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[(values.len() * share_percent / 100).min(values.len() - 1)]
}

/// Says whether a target is met.
pub fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}
