//! Rejected writes: local changes that a relay refused for good, and those that stand on them.
//!
//! Neither waits in the [`outbox`] any more: offered again they would only be refused again, and what is behind
//! them flows on. They stay in the document until the application decides: try again, or take them out.
//!
//! A change stands on another if it depends on it, directly or through others. One that is made later and stands on a
//! refused one never enters the outbox.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use automerge::ChangeHash;

use super::{node, outbox, position, state};
use crate::id::DocumentId;
use crate::limits::REJECT_TEXT_BYTES_MAX;
use crate::store::record::{self, Reader, position_key, position_of_key, prefix_end};
use crate::store::{ReadTx, StoreError, Table, WriteTx};

const REJECTED: &str = "rejected-1";

/// The first byte of the row of a change that was refused itself.
const REFUSED: u8 = 0;

/// The first byte of the row of a change that stands on a refused one.
const BLOCKED: u8 = 1;

/// A local change that a relay refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The change.
    pub hash: ChangeHash,
    /// The number of the relay's code: see [`crate::codec::v1::Code`].
    pub code: u16,
    /// The relay's words, at most [`REJECT_TEXT_BYTES_MAX`] bytes.
    pub text: String,
    /// When it was refused, in seconds since the Unix epoch.
    pub time_seconds: u64,
}

/// A rejection as it stands in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// Of which document.
    pub document: DocumentId,
    /// Where the change is in the ledger.
    pub position: u64,
    /// What was refused, and why.
    pub rejection: Rejection,
    /// How many later local changes stand on it, and are held back with it.
    pub blocked: u64,
}

/// What stands in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Row {
    /// This change was refused.
    Refused(Rejection),
    /// It stands on the refused one at this position.
    Blocked(u64),
}

impl Row {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        match self {
            Self::Refused(rejection) => {
                out.push(REFUSED);
                out.extend_from_slice(&rejection.hash.0);
                record::put_uint(&mut out, rejection.code.into());
                record::put_uint(&mut out, rejection.time_seconds);
                record::put_bytes(&mut out, rejection.text.as_bytes());
            }
            Self::Blocked(by) => {
                out.push(BLOCKED);
                record::put_uint(&mut out, *by);
            }
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut reader = Reader::new(bytes, REJECTED);
        match reader.byte()? {
            REFUSED => {
                let hash = reader.hash()?;
                let code = u16::try_from(reader.count()?).map_err(|_| reader.damaged())?;
                let time_seconds = reader.count()?;
                let text = String::from_utf8(reader.bytes()?.to_vec()).map_err(|_| reader.damaged())?;
                Ok(Self::Refused(Rejection { hash, code, text, time_seconds }))
            }
            BLOCKED => Ok(Self::Blocked(reader.count()?)),
            _ => Err(reader.damaged()),
        }
    }
}

/// Notes that a relay refused a local change: it leaves the outbox, together with those in it that stand on it. Returns how
/// many left. Nothing happens if the change is not here, or waits no more because another relay took it.
///
/// Cost: one visit for each change behind it.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used.
pub fn note(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId, rejection: &Rejection) -> Result<u64, StoreError> {
    let Some(at) = position(tx, document, &rejection.hash)? else { return Ok(0) };
    let is_waiting = outbox::is_pending(tx, document, at)?;
    if !is_waiting && get(tx, document, at)?.is_none() {
        return Ok(0);
    }
    let mut rejection = rejection.clone();
    cut(&mut rejection.text);
    let waiting = outbox::pending(tx, document)?;
    let above = standing_on(tx, document, &BTreeSet::from([at]))?;
    put(tx, document, at, &Row::Refused(rejection))?;
    let mut left = 0;
    for position in waiting.into_iter().filter(|position| above.contains(position)) {
        outbox::remove(tx, document, position)?;
        if position != at {
            put(tx, document, position, &Row::Blocked(at))?;
        }
        left += 1;
    }
    Ok(left)
}

/// Puts a refused change back into the outbox with those that stand on it, except where they stand on another refused one
/// too. Returns how many wait again, or `None` if no such change is noted as refused.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used.
pub fn retry(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    hash: &ChangeHash,
) -> Result<Option<u64>, StoreError> {
    let Some(at) = position(tx, document, hash)? else { return Ok(None) };
    match get(tx, document, at)? {
        Some(Row::Refused(_)) => {}
        _ => return Ok(None),
    }
    let before = rows(tx, document)?;
    for (position, _) in before.iter().filter(|(position, row)| **position == at || **row == Row::Blocked(at)) {
        tx.delete(Table::Rejected, &position_key(document, *position))?;
    }
    let mut waiting = 0;
    for (position, _) in before.iter().filter(|(position, row)| **position == at || **row == Row::Blocked(at)) {
        // In the order of the ledger: each finds what it stands on decided.
        waiting += u64::from(outbox::push(tx, document, *position)?);
    }
    Ok(Some(waiting))
}

/// Notes that a relay took a change after all: another one, or the same that changed its mind. What stood on it waits again.
/// Returns how many do.
pub(super) fn settle(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId, at: u64) -> Result<u64, StoreError> {
    match get(tx, document, at)? {
        None => Ok(0),
        Some(Row::Blocked(_)) => tx.delete(Table::Rejected, &position_key(document, at)).map(|()| 0),
        Some(Row::Refused(rejection)) => {
            let waiting = retry(tx, document, &rejection.hash)?.unwrap_or(0);
            tx.delete(Table::Rejected, &position_key(document, at))?;
            Ok(waiting - u64::from(outbox::remove(tx, document, at)?))
        }
    }
}

/// Returns every refused change of a document, or of all of them. Cost: one visit for each, and for each that stands on one.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn list(tx: &(impl ReadTx + ?Sized), document: Option<&DocumentId>) -> Result<Vec<Noted>, StoreError> {
    let (start, end) = match document {
        Some(document) => (document.as_bytes().to_vec(), prefix_end(document.as_bytes())),
        None => (Vec::new(), prefix_end(&[u8::MAX])),
    };
    let mut found: Vec<Noted> = Vec::new();
    visit(tx, &start, &end, &mut |document, position, row| match row {
        Row::Refused(rejection) => found.push(Noted { document, position, rejection, blocked: 0 }),
        Row::Blocked(by) => {
            let mut newest = found.iter_mut().rev().take_while(|noted| noted.document == document);
            if let Some(noted) = newest.find(|noted| noted.position == by) {
                noted.blocked += 1;
            }
        }
    })?;
    Ok(found)
}

/// Returns how many local changes are held back, the refused ones and those that stand on them. Cost: one visit for each.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn count(tx: &(impl ReadTx + ?Sized)) -> Result<u64, StoreError> {
    let mut count = 0;
    tx.scan(Table::Rejected, &[]..&prefix_end(&[u8::MAX]), &mut |_, _| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(count)
}

/// Says on which refused change one stands, if on any, by what is noted of those it depends on. Cost: one lookup where
/// nothing of the document was refused.
pub(super) fn blocked_by(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    at: u64,
) -> Result<Option<u64>, StoreError> {
    if !any(tx, document)? {
        return Ok(None);
    }
    let deps = node(tx, document, at)?.deps;
    for dep in &deps {
        match get(tx, document, *dep)? {
            Some(Row::Refused(_)) => return Ok(Some(*dep)),
            Some(Row::Blocked(by)) => return Ok(Some(by)),
            None => {}
        }
    }
    // It may stand on one through a change of somebody who has it from elsewhere. What comes after all that it depends on is
    // nothing it stands on; of the others one walk tells the first that each change stands on, however many were refused.
    let Some(last) = deps.iter().max().copied() else { return Ok(None) };
    let refused = rows(tx, document)?.into_iter().filter(|(at, row)| *at < last && matches!(row, Row::Refused(_)));
    let mut stands_on: BTreeMap<u64, u64> = refused.map(|(at, _)| (at, at)).collect();
    let Some(first) = stands_on.keys().next().copied() else { return Ok(None) };
    for position in first + 1..=last {
        let node = node(tx, document, position)?;
        if let Some(root) = node.deps.iter().filter_map(|dep| stands_on.get(dep)).min().copied() {
            let known = stands_on.entry(position).or_insert(root);
            *known = root.min(*known);
        }
    }
    Ok(deps.iter().filter_map(|dep| stands_on.get(dep)).min().copied())
}

/// Notes that a change stands on a refused one.
pub(super) fn block(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    at: u64,
    by: u64,
) -> Result<(), StoreError> {
    put(tx, document, at, &Row::Blocked(by))
}

/// Returns what is noted of a change.
pub(crate) fn get(tx: &(impl ReadTx + ?Sized), document: &DocumentId, at: u64) -> Result<Option<Row>, StoreError> {
    tx.get(Table::Rejected, &position_key(document, at))?.map(|bytes| Row::decode(&bytes)).transpose()
}

/// Returns what is noted of a document's changes, by position.
pub(crate) fn rows(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<BTreeMap<u64, Row>, StoreError> {
    let mut rows = BTreeMap::new();
    let end = prefix_end(document.as_bytes());
    visit(tx, document.as_bytes(), &end, &mut |_, position, row| drop(rows.insert(position, row)))?;
    Ok(rows)
}

pub(crate) fn put(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    at: u64,
    row: &Row,
) -> Result<(), StoreError> {
    tx.put(Table::Rejected, &position_key(document, at), &row.encode())
}

/// Drops what is noted of changes that are not there, and offers again what is held back for no reason.
pub(crate) fn mend(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId) -> Result<(), StoreError> {
    let rows = rows(tx, document)?;
    let mut sound = BTreeSet::new();
    for (at, row) in &rows {
        let fits = match row {
            Row::Refused(rejection) => position(tx, document, &rejection.hash)? == Some(*at),
            // What stands on another comes after it, so that one was judged.
            Row::Blocked(by) => sound.contains(by) && matches!(rows.get(by), Some(Row::Refused(_))),
        };
        if fits {
            sound.insert(*at);
        }
    }
    let broken: Vec<u64> = rows.into_keys().filter(|at| !sound.contains(at)).collect();
    for at in &broken {
        tx.delete(Table::Rejected, &position_key(document, *at))?;
    }
    let count = state(tx, document)?.map_or(0, |state| state.count);
    broken.into_iter().filter(|at| *at < count).try_for_each(|at| outbox::push(tx, document, at).map(drop))
}

/// Returns these positions and those of all changes that stand on them. Cost: one visit for each change behind the first.
pub(crate) fn standing_on(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    roots: &BTreeSet<u64>,
) -> Result<BTreeSet<u64>, StoreError> {
    let mut above = roots.clone();
    let (Some(first), Some(state)) = (roots.first(), state(tx, document)?) else { return Ok(above) };
    for position in first + 1..state.count {
        if !above.contains(&position) && node(tx, document, position)?.deps.iter().any(|dep| above.contains(dep)) {
            above.insert(position);
        }
    }
    Ok(above)
}

/// Says whether anything of a document is held back. Cost: one lookup.
pub(crate) fn any(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<bool, StoreError> {
    let mut any = false;
    tx.scan(Table::Rejected, document.as_bytes()..&prefix_end(document.as_bytes()), &mut |_, _| {
        any = true;
        ControlFlow::Break(())
    })?;
    Ok(any)
}

fn visit(
    tx: &(impl ReadTx + ?Sized),
    start: &[u8],
    end: &[u8],
    visit: &mut dyn FnMut(DocumentId, u64, Row),
) -> Result<(), StoreError> {
    let mut failed = None;
    tx.scan(Table::Rejected, start..end, &mut |key, value| {
        let document = key.first_chunk::<16>().map(|bytes| DocumentId::from_bytes(*bytes));
        let read = document.ok_or(StoreError::Damaged { what: REJECTED });
        match read.and_then(|document| Ok((document, position_of_key(key)?, Row::decode(value)?))) {
            Ok((document, position, row)) => visit(document, position, row),
            Err(error) => failed = Some(error),
        }
        if failed.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    failed.map_or(Ok(()), Err)
}

/// Cuts a text to what a row keeps of it.
fn cut(text: &mut String) {
    let end = (0..=REJECT_TEXT_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests;
