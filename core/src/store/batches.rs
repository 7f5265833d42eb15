//! A table's rows in batches of bounded size, for copies: each is written in a transaction of its own.

use std::ops::ControlFlow;

use super::record::prefix_end;
use super::{ReadTx, StoreError, Table, WriteTx};
use crate::limits::BACKUP_BATCH_BYTES;

/// Some of a table's rows, in the order of their keys.
pub(crate) struct RowBatch {
    /// Keys and values.
    pub(crate) rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// How many bytes of keys and values.
    pub(crate) bytes: usize,
}

impl RowBatch {
    /// Puts the rows into a table.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be written.
    pub(crate) fn put(&self, tx: &mut dyn WriteTx, table: Table) -> Result<(), StoreError> {
        self.rows.iter().try_for_each(|(key, value)| tx.put(table, key, value))
    }
}

/// Goes through all of a table's rows; each batch ends with the row that reaches [`BACKUP_BATCH_BYTES`]. None is empty.
pub(crate) fn batches(tx: &dyn ReadTx, table: Table) -> impl Iterator<Item = Result<RowBatch, StoreError>> {
    let mut from = Some(Vec::new());
    std::iter::from_fn(move || next_batch(tx, table, &mut from).transpose())
}

/// Reads the batch that begins at a key, and moves the key behind it; there is none after the last.
fn next_batch(tx: &dyn ReadTx, table: Table, from: &mut Option<Vec<u8>>) -> Result<Option<RowBatch>, StoreError> {
    let Some(start) = from.take() else { return Ok(None) };
    let mut batch = RowBatch { rows: Vec::new(), bytes: 0 };
    tx.scan(table, &start..&prefix_end(&[u8::MAX]), &mut |key, value| {
        batch.bytes += key.len() + value.len();
        batch.rows.push((key.to_vec(), value.to_vec()));
        if batch.bytes < BACKUP_BATCH_BYTES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let Some((last, _)) = batch.rows.last() else { return Ok(None) };
    if batch.bytes >= BACKUP_BATCH_BYTES {
        // The next key after it in the order of bytes.
        *from = Some([last.as_slice(), &[0]].concat());
    }
    Ok(Some(batch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, Store, StoreExt};

    #[test]
    fn batches_hold_every_row_once_and_end_with_the_row_that_fills_them() -> Result<(), StoreError> {
        let store = MemoryStore::new();
        let large = vec![7; BACKUP_BATCH_BYTES - 1];
        store.write_with(|tx| {
            tx.put(Table::Node, &[0], &large)?;
            tx.put(Table::Node, &[0, 0], &large[1..])?;
            tx.put(Table::Node, &[1], &[])?;
            tx.put(Table::Node, &[u8::MAX; 40], &[2])?;
            tx.put(Table::Change, &[1], &[])
        })?;
        let tx = store.read()?;
        let batches: Vec<_> = batches(tx.as_ref(), Table::Node).collect::<Result<_, _>>()?;
        let shapes: Vec<_> = batches.iter().map(|batch| (batch.rows.len(), batch.bytes)).collect();
        assert_eq!(shapes, [(1, BACKUP_BATCH_BYTES), (1, BACKUP_BATCH_BYTES), (2, 42)]);
        let copy = MemoryStore::new();
        copy.write_with(|tx| batches.iter().try_for_each(|batch| batch.put(tx, Table::Node)))?;
        assert_eq!(copy.read()?.get(Table::Node, &[0])?, Some(large));
        assert!(copy.read()?.contains(Table::Node, &[u8::MAX; 40])?);
        Ok(())
    }

    #[test]
    fn read_error_ends_the_batches() -> Result<(), StoreError> {
        struct Broken;
        impl ReadTx for Broken {
            fn get(&self, _: Table, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
                Ok(None)
            }
            fn scan(
                &self,
                _: Table,
                _: std::ops::Range<&[u8]>,
                _: &mut super::super::Visitor<'_>,
            ) -> Result<(), StoreError> {
                Err(StoreError::Interrupted)
            }
            fn contains(&self, _: Table, _: &[u8]) -> Result<bool, StoreError> {
                Ok(false)
            }
        }
        let outcomes: Vec<_> = batches(&Broken, Table::Node).collect();
        assert!(matches!(outcomes[..], [Err(StoreError::Interrupted)]));
        Ok(())
    }
}
