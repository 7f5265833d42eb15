//! Counting what is in a store.

use std::collections::BinaryHeap;
use std::fmt;
use std::ops::ControlFlow;

use serde_json::{Value as Json, json};

use super::{Progress, require_format, scan_all};
use crate::id::DocumentId;
use crate::ledger;
use crate::limits::LARGEST_DOCUMENTS;
use crate::store::{Store, StoreError, Table};

/// Every how many rows it is said how far the count is.
const PROGRESS_ROWS: u64 = 65_536;

/// What is in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// How many documents.
    pub documents: u64,
    /// How many changes they have together.
    pub changes: u64,
    /// How many bytes those have, uncompressed.
    pub change_bytes: u64,
    /// How many fields have a value.
    pub registers: u64,
    /// How many changes wait for their acknowledgement.
    pub outbox: u64,
    /// Every table that is not empty.
    pub tables: Vec<TableStats>,
    /// The documents with the most bytes of changes, the largest first: at most [`LARGEST_DOCUMENTS`].
    pub largest: Vec<DocumentStats>,
    /// The size of the file, if there is one; see [`Store::size_bytes`].
    pub file_bytes: Option<u64>,
}

/// What is in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableStats {
    /// Which.
    pub table: Table,
    /// How many rows.
    pub rows: u64,
    /// The bytes of their keys and values. In a file they take more: pages are not full.
    pub bytes: u64,
}

/// What a document has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentStats {
    /// Which.
    pub document: DocumentId,
    /// How many changes.
    pub changes: u64,
    /// Their bytes, uncompressed.
    pub bytes: u64,
}

/// Counts what is in a store. Cost: reads all of it once.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read, or is of another format.
pub fn stats(store: &dyn Store) -> Result<Stats, StoreError> {
    stats_with(store, &mut |_| ())
}

/// Counts what is in a store as [`stats`] does. `progress` is called every 65,536 rows.
///
/// # Errors
///
/// As [`stats`].
pub fn stats_with(store: &dyn Store, progress: &mut dyn FnMut(Progress)) -> Result<Stats, StoreError> {
    let mut done = Progress::default();
    let tx = store.read()?;
    let tx = tx.as_ref();
    require_format(tx)?;
    let mut tables = Vec::new();
    for table in Table::ALL {
        let mut counted = TableStats { table, rows: 0, bytes: 0 };
        scan_all(tx, table, &mut |key, value| {
            counted.rows += 1;
            counted.bytes += (key.len() + value.len()) as u64;
            done.rows += 1;
            done.bytes += (key.len() + value.len()) as u64;
            done.documents += u64::from(table == Table::Document);
            if done.rows.is_multiple_of(PROGRESS_ROWS) {
                progress(done);
            }
            ControlFlow::Continue(())
        })?;
        if counted.rows > 0 {
            tables.push(counted);
        }
    }
    let rows = |of| tables.iter().find(|one| one.table == of).map_or(0, |one| one.rows);
    let registers = rows(Table::Register);
    let outbox = ledger::outbox::count(tx)?;
    let mut stats = Stats {
        documents: 0,
        changes: 0,
        change_bytes: 0,
        registers,
        outbox,
        tables,
        largest: Vec::new(),
        file_bytes: store.size_bytes()?,
    };
    // The smallest of the largest is on top.
    let mut largest = BinaryHeap::new();
    for document in ledger::documents(tx)? {
        let state = ledger::state(tx, &document)?.unwrap_or_default();
        stats.documents += 1;
        stats.changes += state.count;
        stats.change_bytes += state.bytes;
        largest.push(std::cmp::Reverse((state.bytes, document, state.count)));
        if largest.len() > LARGEST_DOCUMENTS {
            largest.pop();
        }
    }
    let named = |std::cmp::Reverse((bytes, document, changes))| DocumentStats { document, changes, bytes };
    stats.largest = largest.into_sorted_vec().into_iter().map(named).collect();
    Ok(stats)
}

impl Stats {
    /// Returns the statistics for programs, under the names of the fields here.
    pub fn to_json(&self) -> Json {
        let tables = self.tables.iter().map(|one| {
            let counted = json!({ "rows": one.rows, "bytes": one.bytes });
            (one.table.name().to_owned(), counted)
        });
        let largest = self
            .largest
            .iter()
            .map(|one| json!({ "document": one.document.to_string(), "changes": one.changes, "bytes": one.bytes }));
        json!({
            "documents": self.documents,
            "changes": self.changes,
            "change_bytes": self.change_bytes,
            "registers": self.registers,
            "outbox": self.outbox,
            "tables": tables.collect::<serde_json::Map<_, _>>(),
            "largest": largest.collect::<Vec<_>>(),
            "file_bytes": self.file_bytes,
        })
    }
}

impl fmt::Display for Stats {
    /// Writes a few lines for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { documents, changes, change_bytes, registers, outbox, .. } = self;
        writeln!(f, "{documents} documents, {changes} changes, {change_bytes} bytes of changes")?;
        writeln!(f, "{registers} registers, {outbox} changes not acknowledged")?;
        if let Some(bytes) = self.file_bytes {
            writeln!(f, "{bytes} bytes in the file")?;
        }
        for TableStats { table, rows, bytes } in &self.tables {
            writeln!(f, "table {:<14} {rows:>12} rows {bytes:>14} bytes", table.name())?;
        }
        for DocumentStats { document, changes, bytes } in &self.largest {
            writeln!(f, "document {document} {changes:>10} changes {bytes:>14} bytes")?;
        }
        Ok(())
    }
}
