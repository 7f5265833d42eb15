//! The budget of a commit: how much more its documents and spaces may hold.
//!
//! How much a document holds stands in the ledger. How much a space does is counted along in its store, in the transaction of
//! each commit, with the end of its log: if the log ends elsewhere by now, somebody else wrote meanwhile (a purge, an import, a
//! version that counts nothing), and the documents are counted anew. So the count is exact at each write, survives a crash,
//! and costs one small row a commit and space. Spaces without a bound are not counted.

use std::collections::HashMap;
use std::ops::ControlFlow;

use rejoin::gate::CheckedChange;
use rejoin::ledger::{self, log, spaces};
use rejoin::store::{ReadTx, StoreError, Table, WriteTx};
use rejoin::{DocumentId, SpaceId};

use super::{Kind, Quota};
use crate::config::QuotaConfig;
use crate::limits::{DENSE_OPS_MAX, OPS_PER_BYTE_FREE};

/// The keys in [`Table::Meta`] that say how much a space holds begin so.
const KEY: &[u8] = b"space-bytes/";

/// The keys in [`Table::Meta`] that say how many dense operations a document has begin so. Most documents have none, and no row.
const DENSE_KEY: &[u8] = b"dense-ops/";

/// How many documents are looked at together when a space is counted.
const DOCUMENTS_AT_ONCE: usize = 1_024;

/// What may be stored, in bytes of changes unless it says otherwise. 0 is no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) document_bytes_max: u64,
    /// Of a space that has no bound of its own.
    pub(crate) space_bytes_max: u64,
    /// Operations of a document that are more than its bytes explain.
    pub(crate) dense_ops_max: u64,
}

impl From<&QuotaConfig> for Bounds {
    fn from(config: &QuotaConfig) -> Self {
        Self {
            document_bytes_max: config.document_bytes_max,
            space_bytes_max: config.space_bytes_max,
            dense_ops_max: DENSE_OPS_MAX,
        }
    }
}

/// What one commit may write.
#[derive(Debug)]
pub(crate) struct Budget<'q> {
    quota: &'q Quota,
    bounds: Bounds,
    /// The spaces that have a bound.
    spaces: HashMap<SpaceId, Used>,
}

#[derive(Debug)]
struct Used {
    bytes: u64,
    bytes_max: u64,
    is_changed: bool,
}

impl<'q> Budget<'q> {
    /// Begins a commit.
    pub(crate) fn new(quota: &'q Quota) -> Self {
        Self { quota, bounds: quota.bounds(), spaces: HashMap::new() }
    }

    /// Learns that the commit is going to write to a space. Call it before anything of it is written there.
    ///
    /// Cost: two lookups for a space that has a bound; where its count does not hold, a lookup for each of its documents.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub(crate) fn begin(&mut self, tx: &dyn WriteTx, space: &SpaceId) -> Result<(), StoreError> {
        if self.spaces.contains_key(space) {
            return Ok(());
        }
        let own = self.quota.space_bytes_max(space);
        let Some(bytes_max) = own.or(Some(self.bounds.space_bytes_max).filter(|bytes| *bytes > 0)) else {
            return Ok(());
        };
        let bytes = match kept(tx, space)? {
            Some((bytes, end)) if end == log::end(tx, space)? => bytes,
            _ => counted(tx, space)?,
        };
        self.spaces.insert(*space, Used { bytes, bytes_max, is_changed: false });
        Ok(())
    }

    /// Says whether a change fits a document that holds so much by now, and its space; if not, which of the two is full.
    ///
    /// Cost: a lookup for a change with dense operations.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub(crate) fn check(
        &self,
        tx: &dyn WriteTx,
        (space, document): (&SpaceId, &DocumentId),
        document_bytes: u64,
        change: &CheckedChange,
    ) -> Result<Result<(), Kind>, StoreError> {
        let dense = dense_ops(change);
        if self.bounds.dense_ops_max > 0
            && dense > 0
            && dense_ops_of(tx, document)?.saturating_add(dense) > self.bounds.dense_ops_max
        {
            return Ok(Err(Kind::DocumentOps));
        }
        Ok(self.check_bytes(space, document_bytes, change.bytes().len() as u64))
    }

    fn check_bytes(&self, space: &SpaceId, document_bytes: u64, change_bytes: u64) -> Result<(), Kind> {
        let is_above = |bytes: u64, bytes_max: u64| bytes.saturating_add(change_bytes) > bytes_max;
        if self.bounds.document_bytes_max > 0 && is_above(document_bytes, self.bounds.document_bytes_max) {
            return Err(Kind::DocumentBytes);
        }
        if self.spaces.get(space).is_some_and(|used| is_above(used.bytes, used.bytes_max)) {
            return Err(Kind::SpaceBytes);
        }
        Ok(())
    }

    /// Counts that a write is refused.
    pub(crate) fn reject(&self, kind: Kind) {
        self.quota.reject(kind);
    }

    /// Takes in that a change is stored.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be written.
    pub(crate) fn add(
        &mut self,
        tx: &mut dyn WriteTx,
        (space, document): (&SpaceId, &DocumentId),
        change: &CheckedChange,
    ) -> Result<(), StoreError> {
        if let Some(used) = self.spaces.get_mut(space) {
            used.bytes = used.bytes.saturating_add(change.bytes().len() as u64);
            used.is_changed = true;
        }
        let dense = dense_ops(change);
        if dense > 0 {
            let all = dense_ops_of(tx, document)?.saturating_add(dense);
            tx.put(Table::Meta, &dense_key(document), &all.to_le_bytes())?;
        }
        Ok(())
    }

    /// Takes in that a document is deleted that held so much.
    pub(crate) fn remove(&mut self, space: &SpaceId, bytes: u64) {
        if let Some(used) = self.spaces.get_mut(space) {
            used.bytes = used.bytes.saturating_sub(bytes);
            used.is_changed = true;
        }
    }

    /// Writes down how much the spaces hold. Call it when all is written.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be written.
    pub(crate) fn finish(self, tx: &mut dyn WriteTx) -> Result<(), StoreError> {
        for (space, used) in self.spaces.iter().filter(|(_, used)| used.is_changed) {
            let mut value = [0; 16];
            value[..8].copy_from_slice(&used.bytes.to_le_bytes());
            value[8..].copy_from_slice(&log::end(tx, space)?.to_le_bytes());
            tx.put(Table::Meta, &key(space), &value)?;
        }
        Ok(())
    }
}

fn key(space: &SpaceId) -> Vec<u8> {
    [KEY, space.as_bytes()].concat()
}

fn dense_key(document: &DocumentId) -> Vec<u8> {
    [DENSE_KEY, document.as_bytes()].concat()
}

/// Returns how many operations a change has that its bytes do not explain.
fn dense_ops(change: &CheckedChange) -> u64 {
    change.op_count().saturating_sub((change.bytes().len() as u64).saturating_mul(OPS_PER_BYTE_FREE))
}

fn dense_ops_of(tx: &dyn WriteTx, document: &DocumentId) -> Result<u64, StoreError> {
    let row = tx.get(Table::Meta, &dense_key(document))?;
    Ok(row.and_then(|row| row.try_into().ok()).map_or(0, u64::from_le_bytes))
}

/// Returns what was written down last of a space: how much it held, and where its log ended.
fn kept(tx: &dyn WriteTx, space: &SpaceId) -> Result<Option<(u64, u64)>, StoreError> {
    let Some(row) = tx.get(Table::Meta, &key(space))? else { return Ok(None) };
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
    // One that does not decode is as good as none.
    Ok(row.split_at_checked(8).and_then(|(bytes, end)| Some((number(bytes)?, number(end)?))))
}

/// Counts what the documents of a space hold.
fn counted(tx: &dyn WriteTx, space: &SpaceId) -> Result<u64, StoreError> {
    let (mut bytes, mut after): (u64, Option<DocumentId>) = (0, None);
    loop {
        let mut some = Vec::with_capacity(DOCUMENTS_AT_ONCE);
        spaces::documents(tx, space, after.as_ref(), &mut |document| {
            some.push(document);
            if some.len() < DOCUMENTS_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        for document in &some {
            bytes = bytes.saturating_add(document_bytes(tx, document)?);
        }
        if some.len() < DOCUMENTS_AT_ONCE {
            return Ok(bytes);
        }
        after = some.last().copied();
    }
}

/// Returns how much a document holds.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub(crate) fn document_bytes(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<u64, StoreError> {
    Ok(ledger::state(tx, document)?.map_or(0, |state| state.bytes))
}
