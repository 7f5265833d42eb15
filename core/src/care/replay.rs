//! Making a document's records anew from its changes.

use std::ops::ControlFlow;

use super::Registers;
use crate::engine::{self, Origin};
use crate::gate::{CheckedChange, GateError};
use crate::id::DocumentId;
use crate::ledger::{self, Appended, Appender};
use crate::limits::REPLAY_CHANGES;
use crate::store::{MemoryStore, ReadTx, StoreError, StoreExt, WriteTx};

/// Why a document could not be made anew.
pub(super) enum Refusal {
    /// A change does not parse.
    Change { position: u64, reason: String },
    /// A change breaks a rule, or lacks a dependency.
    Refused { position: u64, reason: String },
}

/// Parses every change of a document, in order, and hands them out by the thousand.
///
/// # Errors
///
/// What the store and `take` report; `Ok(Err(..))` at the first change that does not parse.
pub(super) fn changes_of(
    tx: &dyn ReadTx,
    document: &DocumentId,
    mut take: impl FnMut(Vec<CheckedChange>) -> Result<Result<(), Refusal>, StoreError>,
) -> Result<Result<(), Refusal>, StoreError> {
    let mut gathered = Vec::new();
    let mut position = 0;
    let mut outcome = Ok(Ok(()));
    ledger::export(tx, document, 0, &mut |bytes| {
        match CheckedChange::parse(bytes) {
            Ok(change) => gathered.push(change),
            Err(error) => outcome = Ok(Err(Refusal::Change { position, reason: error.to_string() })),
        }
        position += 1;
        if gathered.len() >= REPLAY_CHANGES && matches!(outcome, Ok(Ok(()))) {
            outcome = take(std::mem::take(&mut gathered));
        }
        if matches!(outcome, Ok(Ok(()))) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    match outcome {
        Ok(Ok(())) => take(gathered),
        outcome => outcome,
    }
}

/// Appends changes as if they had just come, from a position on.
pub(super) fn append(
    tx: &mut dyn WriteTx,
    document: DocumentId,
    changes: Vec<CheckedChange>,
    registers: Registers,
    from: u64,
) -> Result<Result<(), Refusal>, StoreError> {
    let fates: Vec<Appended> = match registers {
        Registers::Kept => {
            let accepted = engine::accept(tx, document, changes, Origin::Remote)?;
            accepted.results.into_iter().map(|(_, appended)| appended).collect()
        }
        Registers::Absent => {
            let mut appender = Appender::begin(tx, document)?;
            let fates = changes.iter().map(|change| appender.append(tx, change)).collect::<Result<_, _>>()?;
            appender.finish(tx)?;
            fates
        }
    };
    for (position, fate) in (from..).zip(fates) {
        let reason = match fate {
            Appended::Stored { position: stored } if stored == position => continue,
            Appended::Stored { .. } => "it was stored elsewhere".to_owned(),
            Appended::Duplicate => "it is there twice".to_owned(),
            Appended::Missing { .. } | Appended::Folded => "a change it depends on is not before it".to_owned(),
            Appended::Rejected(error) => reason(&error),
            Appended::Deleted => "its document was deleted".to_owned(),
        };
        return Ok(Err(Refusal::Refused { position, reason }));
    }
    Ok(Ok(()))
}

fn reason(error: &GateError) -> String {
    error.to_string()
}

/// Makes a document anew in memory.
pub(super) fn replay(
    tx: &dyn ReadTx,
    document: DocumentId,
    registers: Registers,
) -> Result<Result<MemoryStore, Refusal>, StoreError> {
    let memory = MemoryStore::new();
    memory.write_with(|tx| ledger::create(tx, &document))?;
    let mut from = 0;
    let outcome = changes_of(tx, &document, |changes| {
        let count = changes.len() as u64;
        let appended = memory.write_with(|tx| append(tx, document, changes, registers, from));
        from += count;
        appended
    })?;
    Ok(outcome.map(|()| memory))
}
