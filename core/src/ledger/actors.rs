//! Which change an operation belongs to: one row for each change, in the order its actor's operations go down.
//!
//! A row's key ends with the complements of start op and seq, so that a scan finds an actor's newest change first, and from
//! a counter on the change that has it.

use std::ops::ControlFlow;

use automerge::ActorId;

use super::packs;
use crate::gate::CheckedChange;
use crate::id::DocumentId;
use crate::store::record::{self, COUNT_MAX, Reader, prefix_end};
use crate::store::{ReadTx, StoreError, Table, WriteTx};

/// A change, as its actor's list shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ActorChange {
    pub(crate) position: u64,
    pub(crate) seq: u64,
    pub(crate) start_op: u64,
    pub(crate) op_count: u64,
}

impl ActorChange {
    /// Says whether the change has an operation with this counter.
    pub(crate) fn holds(&self, counter: u64) -> bool {
        counter >= self.start_op && counter - self.start_op < self.op_count
    }
}

fn prefix(document: &DocumentId, actor: &ActorId) -> Vec<u8> {
    let actor = actor.to_bytes();
    let mut key = Vec::with_capacity(16 + 1 + actor.len() + 16);
    key.extend_from_slice(document.as_bytes());
    // The gate bounds actors to 64 bytes. Without the length one actor's rows could stand among another's.
    key.push(u8::try_from(actor.len()).unwrap_or(u8::MAX));
    key.extend_from_slice(actor);
    key
}

/// Notes a change in its actor's list.
pub(super) fn put(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    actor: &ActorId,
    change: &ActorChange,
) -> Result<(), StoreError> {
    let key = key(document, actor, change.start_op, change.seq);
    let mut value = Vec::with_capacity(12);
    record::put_uint(&mut value, change.position);
    record::put_uint(&mut value, change.op_count);
    tx.put(Table::Actor, &key, &value)
}

/// Takes a change out of its actor's list, unless it is the newest, which is always listed.
pub(super) fn remove_unless_last(
    tx: &mut dyn WriteTx,
    document: &DocumentId,
    change: &CheckedChange,
) -> Result<(), StoreError> {
    let newest = last(tx, document, change.actor())?;
    if newest.is_some_and(|newest| newest.seq != change.seq()) {
        tx.delete(Table::Actor, &key(document, change.actor(), change.start_op(), change.seq()))?;
    }
    Ok(())
}

/// Returns the change of an actor that has an operation with this counter. Cost: one look-up; one at each pack if it is
/// packed.
pub(super) fn holding(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    actor: &ActorId,
    counter: u64,
) -> Result<Option<ActorChange>, StoreError> {
    match at_or_below(tx, document, actor, counter)? {
        Some(found) if found.holds(counter) => Ok(Some(found)),
        // What is listed below may have been the actor's newest when it was packed: those after it may be packed since.
        _ => packs::holding_op(tx, document, actor, counter),
    }
}

fn key(document: &DocumentId, actor: &ActorId, start_op: u64, seq: u64) -> Vec<u8> {
    let mut key = prefix(document, actor);
    key.extend_from_slice(&(!start_op).to_be_bytes());
    key.extend_from_slice(&(!seq).to_be_bytes());
    key
}

/// Returns the newest listed change of an actor that starts at or below a counter. Cost: one look-up.
pub(super) fn at_or_below(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    actor: &ActorId,
    counter: u64,
) -> Result<Option<ActorChange>, StoreError> {
    let mut from = prefix(document, actor);
    let end = prefix_end(&from);
    from.extend_from_slice(&(!counter).to_be_bytes());
    let mut found = None;
    tx.scan(Table::Actor, &from..&end, &mut |key, value| {
        found = Some(decode(key, value));
        ControlFlow::Break(())
    })?;
    found.transpose()
}

/// Returns an actor's newest change.
pub(super) fn last(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    actor: &ActorId,
) -> Result<Option<ActorChange>, StoreError> {
    at_or_below(tx, document, actor, u64::MAX)
}

fn decode(key: &[u8], value: &[u8]) -> Result<ActorChange, StoreError> {
    let tail = key.split_last_chunk::<16>().map(|(_, tail)| tail.as_chunks::<8>().0);
    let Some(&[start_op, seq]) = tail else { return Err(StoreError::Damaged { what: "actor-2" }) };
    let mut reader = Reader::new(value, "actor-2");
    let (start_op, seq) = (!u64::from_be_bytes(start_op), !u64::from_be_bytes(seq));
    if start_op.max(seq) > COUNT_MAX {
        return Err(reader.damaged());
    }
    Ok(ActorChange { start_op, seq, position: reader.count()?, op_count: reader.count()? })
}
