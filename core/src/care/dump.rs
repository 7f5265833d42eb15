//! What a relay's store holds, row by row: all of it, or what came after log positions.
//!
//! What [`load`](super::load) takes in again. All of it is the rows as they stand, but for those that only spare a sync some work.
//! What came after log positions is the log's rows behind them and the changes that those tell of, and the small tables whole: who
//! may come in, what was granted, who owns which actor, what was deleted, where each document is. Last come all documents'
//! records, by which whoever loads it knows that he has what was there, and what went without a trace.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{require_format, scan_all};
use crate::id::{DocumentId, Epoch, SpaceId, StorageId};
use crate::ledger::{self, log};
use crate::store::record::{position_key, prefix_end};
use crate::store::{self, ReadTx, StoreError, Table};

/// Where a store stands: what names it, how far its log is in each space, and how much it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standpoint {
    /// The epoch of its log, if it has one.
    pub epoch: Option<Epoch>,
    /// Its storage id, if it has one.
    pub storage: Option<StorageId>,
    /// The last log position of each space.
    pub ends: BTreeMap<SpaceId, u64>,
    /// How many documents.
    pub documents: u64,
    /// How many changes they have together.
    pub changes: u64,
    /// How many bytes those have, uncompressed.
    pub change_bytes: u64,
    /// How many of the changes are packed.
    pub packed: u64,
    /// How many documents were deleted everywhere.
    pub tombstones: u64,
}

/// Says where a store stands. Cost: one visit a document, a tombstone and a space.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read, or is of another format.
pub fn standpoint(tx: &dyn ReadTx) -> Result<Standpoint, StoreError> {
    require_format(tx)?;
    let mut stands = Standpoint {
        epoch: log::epoch(tx)?,
        storage: store::known_storage_id(tx)?,
        ends: ends(tx)?,
        documents: 0,
        changes: 0,
        change_bytes: 0,
        packed: 0,
        tombstones: 0,
    };
    let mut failed = None;
    scan_all(tx, Table::Document, &mut |_, value| {
        match ledger::decode_state(value) {
            Ok(state) => {
                stands.documents += 1;
                stands.changes += state.count;
                stands.change_bytes += state.bytes;
                stands.packed += state.packed;
            }
            Err(error) => failed = Some(error),
        }
        if failed.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    failed.map_or(Ok(()), Err)?;
    scan_all(tx, Table::Tombstone, &mut |key, _| {
        // Behind a tombstone stand the relays that have it.
        stands.tombstones += u64::from(key.len() == 16);
        ControlFlow::Continue(())
    })?;
    Ok(stands)
}

/// Collects the end of every space's log. Cost: one look-up a space.
fn ends(tx: &dyn ReadTx) -> Result<BTreeMap<SpaceId, u64>, StoreError> {
    let mut ends = BTreeMap::new();
    let mut from = Vec::new();
    loop {
        let mut first = None;
        tx.scan(Table::Log, &from..&prefix_end(&[u8::MAX]), &mut |key, _| {
            first = key.first_chunk::<16>().copied();
            ControlFlow::Break(())
        })?;
        let Some(space) = first else { return Ok(ends) };
        let space = SpaceId::from_bytes(space);
        ends.insert(space, log::end(tx, &space)?);
        from = prefix_end(space.as_bytes());
    }
}

/// Why a store cannot be dumped. The text completes "failed to read the store: ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log is not as far as it was said to be.
    #[error("the log of space {space} ends at {end}, before position {since}: the earlier backup is of another store")]
    Behind {
        /// Which space.
        space: SpaceId,
        /// Where its log ends.
        end: u64,
        /// Where it was said to be.
        since: u64,
    },
    /// The log does not tell of all the changes of a document.
    #[error("the log does not hold all of document {document}: make a full backup")]
    Unlogged {
        /// Which.
        document: DocumentId,
    },
    /// Changes of a document cannot be read.
    #[error("document {document} is damaged: check the store, and make a full backup")]
    Lost {
        /// Which.
        document: DocumentId,
    },
}

/// Is shown a row: its table, key and value. Break to stop.
pub type DumpVisitor<'v> = dyn FnMut(Table, &[u8], &[u8]) -> ControlFlow<()> + 'v;

/// What is not in a dump: hints about peers, and forms that only a migration reads.
const LEFT_OUT: [Table; 4] = [Table::Shared, Table::NodeV1, Table::ActorV1, Table::OutboxV1];

/// The tables that come whole behind the changes that came after log positions.
pub(super) const SMALL: [Table; 7] =
    [Table::Tombstone, Table::Space, Table::Member, Table::Directory, Table::Grant, Table::Owner, Table::Audit];

/// Visits what a store holds, or what came `since` these log positions; says whether the visitor stopped it.
///
/// Cost: all of it reads everything once. What came since reads what is new, and some 150 bytes for each document.
///
/// # Errors
///
/// [`DumpError`]; what was visited before is of no use then.
pub fn dump(
    tx: &dyn ReadTx,
    since: Option<&BTreeMap<SpaceId, u64>>,
    visit: &mut DumpVisitor<'_>,
) -> Result<ControlFlow<()>, DumpError> {
    require_format(tx)?;
    let Some(since) = since else {
        for table in Table::ALL.into_iter().filter(|table| !LEFT_OUT.contains(table)) {
            if dump_table(tx, table, visit)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        return Ok(ControlFlow::Continue(()));
    };
    let ends = ends(tx)?;
    for (space, since) in since {
        let end = ends.get(space).copied().unwrap_or(0);
        if end < *since {
            return Err(DumpError::Behind { space: *space, end, since: *since });
        }
    }
    let after = |space: &SpaceId| since.get(space).copied().unwrap_or(0);
    let mut flow = dump_table(tx, Table::Meta, visit)?;
    if flow.is_continue() {
        flow = dump_table(tx, Table::Logged, visit)?;
    }
    for space in ends.keys() {
        if flow.is_continue() {
            flow = dump_log(tx, space, after(space), visit)?;
        }
    }
    for space in ends.keys() {
        if flow.is_continue() {
            flow = dump_changes(tx, space, after(space), visit)?;
        }
    }
    for table in SMALL {
        if flow.is_continue() {
            flow = dump_table(tx, table, visit)?;
        }
    }
    if flow.is_continue() {
        flow = dump_documents(tx, visit)?;
    }
    Ok(flow)
}

fn dump_table(tx: &dyn ReadTx, table: Table, visit: &mut DumpVisitor<'_>) -> Result<ControlFlow<()>, StoreError> {
    let mut flow = ControlFlow::Continue(());
    scan_all(tx, table, &mut |key, value| {
        flow = visit(table, key, value);
        flow
    })?;
    Ok(flow)
}

/// Dumps the rows of a space's log that end behind a position. The first may have begun before it.
fn dump_log(
    tx: &dyn ReadTx,
    space: &SpaceId,
    after: u64,
    visit: &mut DumpVisitor<'_>,
) -> Result<ControlFlow<()>, StoreError> {
    if let Some(end) = tx.get(Table::Log, space.as_bytes())?
        && visit(Table::Log, space.as_bytes(), &end).is_break()
    {
        return Ok(ControlFlow::Break(()));
    }
    let mut flow = ControlFlow::Continue(());
    let from = position_key(&DocumentId::from_bytes(*space.as_bytes()), after.saturating_add(1));
    tx.scan(Table::Log, &from..&prefix_end(space.as_bytes()), &mut |key, value| {
        flow = visit(Table::Log, key, value);
        flow
    })?;
    Ok(flow)
}

/// Dumps the changes that a space's log tells of behind a position, as rows of [`Table::Change`], also those that are packed by now.
fn dump_changes(
    tx: &dyn ReadTx,
    space: &SpaceId,
    after: u64,
    visit: &mut DumpVisitor<'_>,
) -> Result<ControlFlow<()>, DumpError> {
    let mut flow = ControlFlow::Continue(());
    let mut lost = None;
    log::read(tx, space, after, u64::MAX, &mut |entry| match entry.what {
        log::What::Change { ledger_position, bytes } => {
            flow = visit(Table::Change, &position_key(&entry.document, ledger_position), bytes);
            flow
        }
        log::What::Deleted => ControlFlow::Continue(()),
        log::What::Lost => {
            lost = Some(entry.document);
            ControlFlow::Break(())
        }
    })?;
    match lost {
        Some(document) => Err(DumpError::Lost { document }),
        None => Ok(flow),
    }
}

/// Dumps the records of all documents, each of which must be wholly in the log.
fn dump_documents(tx: &dyn ReadTx, visit: &mut DumpVisitor<'_>) -> Result<ControlFlow<()>, DumpError> {
    let mut flow = ControlFlow::Continue(());
    let mut failed: Option<DumpError> = None;
    scan_all(tx, Table::Document, &mut |key, value| {
        match is_wholly_logged(tx, key, value) {
            Ok(None) => flow = visit(Table::Document, key, value),
            Ok(Some(document)) => failed = Some(DumpError::Unlogged { document }),
            Err(error) => failed = Some(error.into()),
        }
        if failed.is_none() { flow } else { ControlFlow::Break(()) }
    })?;
    failed.map_or(Ok(flow), Err)
}

/// Returns the document if the log does not hold all of it.
fn is_wholly_logged(tx: &dyn ReadTx, key: &[u8], value: &[u8]) -> Result<Option<DocumentId>, StoreError> {
    let document =
        key.try_into().map(DocumentId::from_bytes).map_err(|_| StoreError::Damaged { what: "document-1" })?;
    let count = ledger::decode_state(value)?.count;
    Ok((log::logged(tx, &document)? != count).then_some(document))
}
