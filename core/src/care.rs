//! Care for a store: backing it up, checking it, repairing it, making it small, counting what is in it.
//!
//! All of it works on one read transaction's view, so the store may be written meanwhile. [`repair()`] and [`compact()`]
//! alone write.
//! What an operator does with these is in `core/docs/storage.md`, under "Care".

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use crate::id::DocumentId;
use crate::store::record::prefix_end;
use crate::store::{self, FORMAT_VERSION, ReadTx, StoreError, Table, Visitor};

pub mod archive;
#[cfg(feature = "redb")]
mod backup;
mod compact;
#[cfg(feature = "redb")]
mod dump;
#[cfg(feature = "redb")]
mod load;
mod repair;
mod replay;
mod report;
mod stats;
mod verify;

#[cfg(feature = "redb")]
pub use backup::{BackedUp, BackupError, BackupOptions, CopyId, backup};
pub use compact::{Compacted, compact};
#[cfg(feature = "redb")]
pub use dump::{DumpError, DumpVisitor, Standpoint, dump, standpoint};
#[cfg(feature = "redb")]
pub use load::{LoadError, LoadMode, Loader, compare_standpoint, restored_at, set_restored_at};
pub use repair::{RepairError, Repaired, repair};
pub use report::{Advice, Fault, Finding, Report, RowFault};
pub use stats::{DocumentStats, Stats, TableStats, stats, stats_with};
pub use verify::{VerifyOptions, verify};

/// How far a piece of work has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Documents that are done.
    pub documents: u64,
    /// Rows of tables, or changes of documents, that are done.
    pub rows: u64,
    /// Their bytes, as they stand in the store.
    pub bytes: u64,
}

/// Whether a store has registers: a device's has, a relay's has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Registers {
    /// The registers of every document are kept.
    #[default]
    Kept,
    /// There are none.
    Absent,
}

/// Refuses a store of another format than this version's: what stands in it cannot be judged.
fn require_format(tx: &dyn ReadTx) -> Result<(), StoreError> {
    let found = store::format(tx)?;
    match found.cmp(&FORMAT_VERSION) {
        std::cmp::Ordering::Less => Err(StoreError::Older { found, supported: FORMAT_VERSION }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(StoreError::Newer { found, supported: FORMAT_VERSION }),
    }
}

/// Visits every row of a table.
fn scan_all(tx: &dyn ReadTx, table: Table, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
    tx.scan(table, &[]..&prefix_end(&[u8::MAX]), visit)
}

/// Collects the documents that a table has rows of. Cost: one look-up a document.
///
/// Returns the first key that no document begins, if there is one; what is behind it is not looked at.
fn documents_in(
    tx: &dyn ReadTx,
    table: Table,
    found: &mut BTreeSet<DocumentId>,
) -> Result<Option<Vec<u8>>, StoreError> {
    let end = prefix_end(&[u8::MAX]);
    let mut from = Vec::new();
    loop {
        let mut first = None;
        tx.scan(table, &from..&end, &mut |key, _| {
            first = Some(key.to_vec());
            ControlFlow::Break(())
        })?;
        let Some(key) = first else { return Ok(None) };
        let Some(document) = key.first_chunk::<16>() else { return Ok(Some(key)) };
        found.insert(DocumentId::from_bytes(*document));
        from = prefix_end(document);
    }
}

/// Shows bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}
