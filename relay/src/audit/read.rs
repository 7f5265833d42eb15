//! Reading the audit trail: both kinds in the order of their numbers, as far as they fit a filter.

use std::ops::ControlFlow;

use rejoin::store::{ReadTx, StoreError, Table};

use super::{Header, Kind, Record, key};
use crate::limits::AUDIT_SCAN_ROWS_MAX;

/// What is looked for. Nothing set: everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) kind: Option<Kind>,
    /// The beginning of the action.
    pub(crate) action: Option<String>,
    /// Who did it, or to whom it was done.
    pub(crate) principal: Option<String>,
    /// The beginning of the target.
    pub(crate) target: Option<String>,
    pub(crate) since_seconds: Option<u64>,
    pub(crate) until_seconds: Option<u64>,
}

/// Some of the trail.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// Each with its number, ascending.
    pub(crate) records: Vec<(u64, Record)>,
    /// Where to go on, if there may be more.
    pub(crate) next: Option<u64>,
}

impl Filter {
    fn fits(&self, record: &Record) -> bool {
        let begins = |text: Option<&str>, with: &Option<String>| match with {
            Some(with) => text.is_some_and(|text| text.starts_with(with.as_str())),
            None => true,
        };
        let is_about = |principal: &String| {
            let target = record.target.as_deref().and_then(|target| target.strip_prefix("principal/"));
            record.who == *principal || target == Some(principal)
        };
        self.principal.as_ref().is_none_or(is_about)
            && begins(Some(&record.action), &self.action)
            && begins(record.target.as_deref(), &self.target)
            && self.since_seconds.is_none_or(|since| record.time_seconds >= since)
            && self.until_seconds.is_none_or(|until| record.time_seconds <= until)
    }
}

/// Reads records behind a number, at most `limit`. Cost: at most [`AUDIT_SCAN_ROWS_MAX`] rows of each kind; where they do not
/// suffice the page is short, and says where to go on.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub(crate) fn read(tx: &(impl ReadTx + ?Sized), filter: &Filter, after: u64, limit: usize) -> Result<Page, StoreError> {
    let mut found = Vec::new();
    // Up to this number everything was looked at.
    let mut horizon = u64::MAX;
    for kind in Kind::ALL.into_iter().filter(|kind| filter.kind.is_none_or(|only| only == *kind)) {
        let (some, until) = scan(tx, kind, filter, after, limit)?;
        found.extend(some);
        horizon = horizon.min(until);
    }
    found.retain(|(number, _)| *number <= horizon);
    found.sort_by_key(|(number, _)| *number);
    let mut next = (horizon < u64::MAX).then_some(horizon);
    if found.len() > limit {
        found.truncate(limit);
        next = found.last().map(|(number, _)| *number);
    }
    Ok(Page { records: found, next })
}

/// Reads the newest records, at most `limit`, ascending. `next` goes on behind them. Cost: as [`read`], a few times.
///
/// # Errors
///
/// As [`read`].
pub(crate) fn read_last(tx: &(impl ReadTx + ?Sized), filter: &Filter, limit: usize) -> Result<Page, StoreError> {
    let last = Header::read(tx)?.next - 1;
    let mut window = limit as u64;
    loop {
        let after = last.saturating_sub(window);
        let width = usize::try_from(window).unwrap_or(usize::MAX);
        let mut page = read(tx, filter, after, width)?;
        if page.records.len() >= limit || after == 0 || width >= AUDIT_SCAN_ROWS_MAX {
            let surplus = page.records.len().saturating_sub(limit);
            page.records.drain(..surplus);
            page.next = Some(last);
            return Ok(page);
        }
        window = window.saturating_mul(8).min(AUDIT_SCAN_ROWS_MAX as u64);
    }
}

/// Checks that every record can be read, and that there are as many as the trail's header says. Cost: reads the whole trail.
///
/// # Errors
///
/// [`StoreError::Damaged`] if that is not so; others if the store cannot be read.
pub(crate) fn check(tx: &(impl ReadTx + ?Sized)) -> Result<(), StoreError> {
    let header = Header::read(tx)?;
    for kind in Kind::ALL {
        let (mut count, mut is_sound) = (0, true);
        tx.scan(Table::Audit, &[kind.byte()]..&[kind.byte() + 1], &mut |key, value| {
            let is_numbered = number_of(key).is_some_and(|number| number < header.next);
            is_sound &= is_numbered && serde_json::from_slice::<Record>(value).is_ok();
            count += 1;
            ControlFlow::Continue(())
        })?;
        if !is_sound || count != header.counts[usize::from(kind.byte() - 1)] {
            return Err(StoreError::Damaged { what: "a record in audit-1" });
        }
    }
    Ok(())
}

fn number_of(key: &[u8]) -> Option<u64> {
    key.get(1..).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes)
}

/// Looks through one kind: what fits, and up to which number everything was looked at.
fn scan(
    tx: &(impl ReadTx + ?Sized),
    kind: Kind,
    filter: &Filter,
    after: u64,
    limit: usize,
) -> Result<(Vec<(u64, Record)>, u64), StoreError> {
    let (mut found, mut seen, mut until) = (Vec::new(), 0, u64::MAX);
    let Some(first) = after.checked_add(1) else { return Ok((found, until)) };
    let mut is_damaged = false;
    tx.scan(Table::Audit, &key(kind, first)..&[kind.byte() + 1], &mut |key, value| {
        let (Some(number), Ok(record)) = (number_of(key), serde_json::from_slice::<Record>(value)) else {
            is_damaged = true;
            return ControlFlow::Break(());
        };
        if filter.fits(&record) {
            found.push((number, record));
        }
        seen += 1;
        if found.len() > limit || seen >= AUDIT_SCAN_ROWS_MAX {
            until = number;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    if is_damaged { Err(StoreError::Damaged { what: "a record in audit-1" }) } else { Ok((found, until)) }
}
