//! What another store is known to have: the heads both had when they last talked. Saves comparing whole histories.

use automerge::ChangeHash;

use crate::id::{DocumentId, StorageId};
use crate::store::record::{self, Reader, tail_key};
use crate::store::{ReadTx, StoreError, Table, WriteTx};

/// Returns the heads shared with a peer's store, empty if none are known.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn get(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    peer: &StorageId,
) -> Result<Vec<ChangeHash>, StoreError> {
    let Some(bytes) = tx.get(Table::Shared, &tail_key(document, peer.as_bytes()))? else { return Ok(Vec::new()) };
    let mut reader = Reader::new(&bytes, "shared-1");
    (0..reader.count()?).map(|_| reader.hash()).collect()
}

/// Remembers the heads shared with a peer's store.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn put(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    peer: &StorageId,
    heads: &[ChangeHash],
) -> Result<(), StoreError> {
    let mut out = Vec::with_capacity(2 + heads.len() * 32);
    record::put_uint(&mut out, heads.len() as u64);
    heads.iter().for_each(|hash| out.extend_from_slice(&hash.0));
    tx.put(Table::Shared, &tail_key(document, peer.as_bytes()), &out)
}
