//! Receipts: what is known of the changes that were made here.
//!
//! A change that waits in the [`outbox`] is local. Acknowledged by a relay, it has a position in that relay's log; and when
//! the cursor of another device has passed that position, it is seen.
//!
//! What is remembered of a document is a few positions, not one for each change: a change is judged by the first one that
//! is remembered at or after it, so it may be said to be seen late, and never too early, and what was said holds. The local changes of a document
//! follow one another, so who has a later one has the earlier ones. Once seen, all that remains is up to where.
//!
//! Positions stand with the epoch they were given in. A relay that begins a new epoch is another log: what was acknowledged
//! in the former one stays acknowledged, and is seen only when the new one has acknowledged it too.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use automerge::ChangeHash;

use super::{outbox, position, rejected, spaces, state};
use crate::id::{DocumentId, Epoch, SpaceId};
use crate::limits::RECEIPT_ROWS_MAX;
use crate::store::record::{self, Reader, position_key, position_of_key, prefix_end};
use crate::store::{ReadTx, StoreError, Table, WriteTx};

mod renumber;
mod tally;

pub(crate) use renumber::renumber;
pub use tally::Tally;

const RECEIPT: &str = "receipt-1";

/// No epoch is before this one: where the rows of a position begin.
const FIRST_EPOCH: Epoch = Epoch::from_bytes([0; 16]);

/// What is known of a local change. Each stage includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Receipt {
    /// It is durable on this device.
    Local,
    /// It is durable on a relay.
    Relayed,
    /// Another device has it.
    Seen,
}

/// That a relay has a change durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// Where the change is in this store's ledger.
    pub position: u64,
    /// Where it is in the relay's log. A greater number, for one that the relay had before, only delays what is said of it.
    pub log_position: u64,
}

/// That a relay has a change durably, as it answers. It names the change, because what is at a position may be another one by the time
/// the answer comes: one that was refused may have been taken out meanwhile, or a document deleted and fetched anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relayed {
    /// Which change.
    pub hash: ChangeHash,
    /// Where it is in the relay's log, as in [`Acknowledged`].
    pub log_position: u64,
}

impl Relayed {
    /// Finds where changes of a document are. Those that are not here any more are left out. Cost: one lookup for each.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub fn find(
        tx: &(impl ReadTx + ?Sized),
        document: &DocumentId,
        relayed: &[Self],
    ) -> Result<Vec<Acknowledged>, StoreError> {
        let mut found = Vec::with_capacity(relayed.len());
        for Self { hash, log_position } in relayed {
            if let Some(position) = position(tx, document, hash)? {
                found.push(Acknowledged { position, log_position: *log_position });
            }
        }
        Ok(found)
    }
}

/// The acknowledged changes of a document that nobody else is known to have.
#[derive(Debug, Default)]
struct Waiting {
    /// Every local change below this position was seen, as far as it was acknowledged.
    seen_below: u64,
    /// (position, epoch) -> position in that log.
    rows: BTreeMap<(u64, Epoch), u64>,
}

/// Takes acknowledged changes of a document out of the outbox and remembers where they are in the relay's log, of this
/// epoch. Returns by how many fewer wait then. Acknowledging twice does nothing the second time; one that was
/// [`rejected`] before is that no more, and what stood on it waits again.
///
/// Cost: a few lookups, one deletion for each change, and at most [`RECEIPT_ROWS_MAX`] small rows.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used.
pub fn acknowledge(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    epoch: &Epoch,
    acknowledged: &[Acknowledged],
) -> Result<i64, StoreError> {
    let Some(state) = state(tx, document)? else { return Ok(0) };
    let mut taken = 0;
    let any_rejected = rejected::any(tx, document)?;
    let before = waiting(tx, document)?;
    let mut after = Waiting { seen_below: before.seen_below, rows: before.rows.clone() };
    for Acknowledged { position, log_position } in acknowledged.iter().filter(|one| one.position < state.count) {
        if any_rejected {
            taken -= rejected::settle(tx, document, *position)?.cast_signed();
        }
        let waited = outbox::remove(tx, document, *position)?;
        taken += i64::from(waited);
        after.insert(*position, *epoch, *log_position, waited);
    }
    let space = spaces::of(tx, document)?;
    let mut passed = Passed::new(tx, &space);
    after.settle(&mut passed, outbox::first(tx, document)?)?;
    after.thin(epoch, passed.of(epoch)?);
    put(tx, document, &before, &after)?;
    Ok(taken)
}

/// Notes up to where another device, whichever is furthest, has a space in the log of this epoch. Returns whether that is
/// news. Never pass on this device's own cursor.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used.
pub fn note_seen(
    tx: &mut (impl WriteTx + ?Sized),
    epoch: &Epoch,
    space: &SpaceId,
    position: u64,
) -> Result<bool, StoreError> {
    if seen(tx, epoch, space)? >= position {
        return Ok(false);
    }
    let mut value = Vec::with_capacity(10);
    record::put_uint(&mut value, position);
    tx.put(Table::Seen, &seen_key(epoch, space), &value)?;
    Ok(true)
}

/// Returns up to where another device has a space in the log of this epoch; 0 if none is known. Cost: one lookup.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn seen(tx: &(impl ReadTx + ?Sized), epoch: &Epoch, space: &SpaceId) -> Result<u64, StoreError> {
    tx.get(Table::Seen, &seen_key(epoch, space))?.map_or(Ok(0), |bytes| Reader::new(&bytes, "seen-1").uint())
}

/// Returns what is known of a local change, or `None` if there is none at that position. Cost: a few lookups.
///
/// Of a change that was made elsewhere the answer means nothing.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn get(tx: &(impl ReadTx + ?Sized), document: &DocumentId, position: u64) -> Result<Option<Receipt>, StoreError> {
    if state(tx, document)?.is_none_or(|state| position >= state.count) {
        return Ok(None);
    }
    if outbox::is_unacknowledged(tx, document, position)? {
        return Ok(Some(Receipt::Local));
    }
    let waiting = waiting(tx, document)?;
    if position < waiting.seen_below {
        return Ok(Some(Receipt::Seen));
    }
    let space = spaces::of(tx, document)?;
    let mut judged = BTreeSet::new();
    for ((_, epoch), log_position) in waiting.rows.range((position, FIRST_EPOCH)..) {
        if judged.insert(*epoch) && *log_position <= seen(tx, epoch, &space)? {
            return Ok(Some(Receipt::Seen));
        }
    }
    Ok(Some(Receipt::Relayed))
}

/// Drops what need not be remembered any more of at most `documents_max` documents after `after`. Returns where to go on, or
/// `None` at the end. Documents that are written to drop it by themselves; this is for the others, now and then.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used.
pub fn sweep(
    tx: &mut (impl WriteTx + ?Sized),
    after: Option<&DocumentId>,
    documents_max: usize,
) -> Result<Option<DocumentId>, StoreError> {
    let mut last = after.copied();
    for _ in 0..documents_max.max(1) {
        let start = last.map_or_else(Vec::new, |last| prefix_end(last.as_bytes()));
        let mut next = None;
        tx.scan(Table::Receipt, &start..&prefix_end(&[u8::MAX]), &mut |key, _| {
            next = key.first_chunk::<16>().map(|bytes| DocumentId::from_bytes(*bytes));
            ControlFlow::Break(())
        })?;
        let Some(document) = next else { return Ok(None) };
        let before = waiting(tx, &document)?;
        let mut after = Waiting { seen_below: before.seen_below, rows: before.rows.clone() };
        let space = spaces::of(tx, &document)?;
        after.settle(&mut Passed::new(tx, &space), outbox::first(tx, &document)?)?;
        put(tx, &document, &before, &after)?;
        last = Some(document);
    }
    Ok(last)
}

/// Up to where others are in each log, looked up once.
struct Passed<'p, T: ReadTx + ?Sized> {
    tx: &'p T,
    space: &'p SpaceId,
    known: BTreeMap<Epoch, u64>,
}

impl<'p, T: ReadTx + ?Sized> Passed<'p, T> {
    fn new(tx: &'p T, space: &'p SpaceId) -> Self {
        Self { tx, space, known: BTreeMap::new() }
    }

    fn of(&mut self, epoch: &Epoch) -> Result<u64, StoreError> {
        match self.known.get(epoch) {
            Some(seen) => Ok(*seen),
            None => Ok(*self.known.entry(*epoch).or_insert(seen(self.tx, epoch, self.space)?)),
        }
    }
}

impl Waiting {
    /// Takes an acknowledged change in. One that did not wait any more is judged already.
    fn insert(&mut self, position: u64, epoch: Epoch, log_position: u64, waited: bool) {
        let mut later = self.rows.range((position, FIRST_EPOCH)..).filter(|((_, of), _)| *of == epoch);
        let judge = later.next().map(|(_, log_position)| *log_position);
        if position < self.seen_below || (judge.is_some() && !waited) {
            return;
        }
        // Those before this one are judged by the same row as until now.
        if let (Some(judge), Some(before)) = (judge, position.checked_sub(1)) {
            self.rows.entry((before, epoch)).or_insert(judge);
        }
        self.rows.insert((position, epoch), log_position);
    }

    /// Drops what was seen: of each log, what is before the first change that was not.
    fn settle<T: ReadTx + ?Sized>(
        &mut self,
        passed: &mut Passed<'_, T>,
        first_local: Option<u64>,
    ) -> Result<(), StoreError> {
        let mut stopped = BTreeSet::new();
        let mut seen_below = self.seen_below;
        // What still waits will have a position of its own in the log.
        for ((position, epoch), log_position) in self.rows.range(..(first_local.unwrap_or(u64::MAX), FIRST_EPOCH)) {
            if *log_position > passed.of(epoch)? {
                stopped.insert(*epoch);
            } else if !stopped.contains(epoch) {
                seen_below = seen_below.max(position + 1);
            }
        }
        self.seen_below = seen_below;
        self.rows.retain(|(position, _), _| *position >= seen_below);
        Ok(())
    }

    /// Keeps the oldest row of a log, which is seen first, and its newest ones. A change whose row goes is judged by the next
    /// row, so that one must not say less than was said before.
    fn thin(&mut self, epoch: &Epoch, seen: u64) {
        let rows = self.rows.iter().filter(|((_, of), _)| of == epoch);
        let rows: Vec<((u64, Epoch), u64)> = rows.map(|(key, log_position)| (*key, *log_position)).collect();
        let mut surplus = rows.len().saturating_sub(RECEIPT_ROWS_MAX);
        let mut greatest = 0;
        for pair in rows.windows(2).skip(1) {
            let [(key, log_position), (next, next_position)] = pair else { continue };
            greatest = greatest.max(*log_position);
            if surplus == 0 {
                break;
            }
            if (greatest <= seen) == (*next_position <= seen) {
                self.rows.remove(key);
                greatest = greatest.max(*next_position);
                self.rows.insert(*next, greatest);
                surplus -= 1;
            } else {
                greatest = 0;
            }
        }
    }
}

fn waiting(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<Waiting, StoreError> {
    let mut waiting = Waiting::default();
    let mut failed = None;
    tx.scan(Table::Receipt, document.as_bytes()..&prefix_end(document.as_bytes()), &mut |key, value| {
        let mut reader = Reader::new(value, RECEIPT);
        let read = reader.uint().and_then(|number| {
            if key.len() == 16 {
                waiting.seen_below = number;
            } else {
                let epoch = key.get(24..).and_then(|epoch| epoch.try_into().ok()).ok_or_else(|| reader.damaged())?;
                waiting.rows.insert((position_of_key(key)?, Epoch::from_bytes(epoch)), number);
            }
            Ok(())
        });
        failed = read.err();
        if failed.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    failed.map_or(Ok(waiting), Err)
}

/// Writes what differs.
fn put(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    before: &Waiting,
    after: &Waiting,
) -> Result<(), StoreError> {
    let number = |number| {
        let mut out = Vec::with_capacity(10);
        record::put_uint(&mut out, number);
        out
    };
    if before.seen_below != after.seen_below {
        tx.put(Table::Receipt, document.as_bytes(), &number(after.seen_below))?;
    }
    for (position, epoch) in before.rows.keys().filter(|key| !after.rows.contains_key(key)) {
        tx.delete(Table::Receipt, &row_key(document, *position, epoch))?;
    }
    for ((position, epoch), log_position) in &after.rows {
        if before.rows.get(&(*position, *epoch)) != Some(log_position) {
            tx.put(Table::Receipt, &row_key(document, *position, epoch), &number(*log_position))?;
        }
    }
    Ok(())
}

fn row_key(document: &DocumentId, position: u64, epoch: &Epoch) -> [u8; 40] {
    let mut key = [0; 40];
    key[..24].copy_from_slice(&position_key(document, position));
    key[24..].copy_from_slice(epoch.as_bytes());
    key
}

fn seen_key(epoch: &Epoch, space: &SpaceId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(epoch.as_bytes());
    key[16..].copy_from_slice(space.as_bytes());
    key
}

#[cfg(test)]
mod tests;
