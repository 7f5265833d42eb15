//! Branches: local changes that were taken out of a document, kept for whoever wants them back.
//!
//! A branch holds the changes that were dropped, and those below them that no relay had acknowledged then: these may be
//! written anew under other names one day. All others below are in the document for good. So a branch can be put together as a whole
//! document for as long as its document is here; it goes when the document is deleted.

use std::collections::HashSet;
use std::ops::ControlFlow;

use automerge::ChangeHash;

use super::rejected::Rejection;
use super::walk::not_below;
use crate::gate::CheckedChange;
use crate::id::DocumentId;
use crate::store::record::{self, Reader, position_key, position_of_key, prefix_end};
use crate::store::{ReadTx, StoreError, Table, WriteTx};

const BRANCH: &str = "branch-1";

/// The first byte of a branch's record.
const VERSION: u8 = 1;

/// Work that was taken out of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Which one of its document.
    pub number: u64,
    /// The change that was refused, and why.
    pub rejection: Rejection,
    /// When it was taken out, in seconds since the Unix epoch.
    pub time_seconds: u64,
    /// How many changes were taken out: the refused one and those that stood on it.
    pub changes: u64,
}

/// Keeps what is taken out of a document. `below` are those of its local changes that `dropped` stands on and no relay has.
/// Returns the branch's number.
pub(crate) fn put(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    rejection: &Rejection,
    time_seconds: u64,
    below: &[CheckedChange],
    dropped: &[CheckedChange],
) -> Result<u64, StoreError> {
    let number = list(tx, document)?.last().map_or(0, |branch| branch.number + 1);
    let mut out = Vec::with_capacity(64);
    out.push(VERSION);
    out.extend_from_slice(&rejection.hash.0);
    record::put_uint(&mut out, rejection.code.into());
    record::put_uint(&mut out, rejection.time_seconds);
    record::put_bytes(&mut out, rejection.text.as_bytes());
    record::put_uint(&mut out, time_seconds);
    record::put_uint(&mut out, dropped.len() as u64);
    let key = position_key(document, number);
    tx.put(Table::Branch, &key, &out)?;
    for (index, change) in (0_u64..).zip(below.iter().chain(dropped)) {
        tx.put(Table::Branch, &[&key[..], &index.to_be_bytes()].concat(), change.bytes())?;
    }
    Ok(number)
}

/// Returns a document's branches, the oldest first. Cost: one visit for each of their changes.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn list(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<Vec<Branch>, StoreError> {
    let mut found = Vec::new();
    let mut failed = None;
    tx.scan(Table::Branch, document.as_bytes()..&prefix_end(document.as_bytes()), &mut |key, value| {
        if key.len() == 24 {
            match decode(key, value) {
                Ok(branch) => found.push(branch),
                Err(error) => failed = Some(error),
            }
        }
        if failed.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    failed.map_or(Ok(found), Err)
}

/// Returns the document as it is with a branch's changes and without what came beside them, as the bytes of an `.automerge`
/// file: all its changes, one chunk after the other. `None` if there is no such branch.
///
/// Cost: reads what the branch stands on.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read; [`StoreError::Folded`] while the document's history is being unfolded.
pub fn export(tx: &(impl ReadTx + ?Sized), document: &DocumentId, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(changes) = changes(tx, document, number)? else { return Ok(None) };
    let own: HashSet<ChangeHash> = changes.iter().map(CheckedChange::hash).collect();
    let mut deps = Vec::new();
    for dep in changes.iter().flat_map(|change| change.deps()).filter(|dep| !own.contains(dep)) {
        let found = super::position(tx, document, dep)?;
        deps.push(found.ok_or(StoreError::Damaged { what: BRANCH })?);
    }
    deps.sort_unstable();
    deps.dedup();
    let mut bytes = Vec::new();
    for position in not_below(tx, document, deps.into_iter(), Vec::new())? {
        bytes.extend_from_slice(&super::change(tx, document, position)?);
    }
    changes.iter().for_each(|change| bytes.extend_from_slice(change.bytes()));
    Ok(Some(bytes))
}

/// Deletes a branch; returns whether it was there.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn forget(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId, number: u64) -> Result<bool, StoreError> {
    let key = position_key(document, number);
    let is_there = tx.contains(Table::Branch, &key)?;
    tx.delete_range(Table::Branch, &key..&prefix_end(&key))?;
    Ok(is_there)
}

/// Returns the changes of a branch, each after those it depends on.
fn changes(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    number: u64,
) -> Result<Option<Vec<CheckedChange>>, StoreError> {
    let key = position_key(document, number);
    if !tx.contains(Table::Branch, &key)? {
        return Ok(None);
    }
    let mut changes = Vec::new();
    let mut damaged = false;
    tx.scan(Table::Branch, &key..&prefix_end(&key), &mut |key, value| {
        if key.len() > 24 {
            match CheckedChange::parse(value) {
                Ok(change) => changes.push(change),
                Err(_) => damaged = true,
            }
        }
        ControlFlow::Continue(())
    })?;
    if damaged { Err(StoreError::Damaged { what: BRANCH }) } else { Ok(Some(changes)) }
}

fn decode(key: &[u8], value: &[u8]) -> Result<Branch, StoreError> {
    let mut reader = Reader::new(value, BRANCH);
    if reader.byte()? != VERSION {
        return Err(reader.damaged());
    }
    let hash = reader.hash()?;
    let code = u16::try_from(reader.uint()?).map_err(|_| reader.damaged())?;
    let refused_seconds = reader.uint()?;
    let text = String::from_utf8(reader.bytes()?.to_vec()).map_err(|_| reader.damaged())?;
    let rejection = Rejection { hash, code, text, time_seconds: refused_seconds };
    let (time_seconds, changes) = (reader.uint()?, reader.uint()?);
    Ok(Branch { number: position_of_key(key)?, rejection, time_seconds, changes })
}
