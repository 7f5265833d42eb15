//! Cursors: where to resume in a relay's log. All that a device must remember of it.

use std::ops::ControlFlow;

use crate::id::{Epoch, SpaceId, StorageId};
use crate::store::record::{self, Reader, prefix_end};
use crate::store::{ReadTx, StoreError, Table, WriteTx};

/// Up to where a device has a space of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// In which life of the relay's log.
    pub epoch: Epoch,
    /// The last position whose entry is durable here; 0 before the first.
    pub position: u64,
}

/// Returns where to resume, or `None` if this space of this relay was never followed. Cost: one lookup.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn get(tx: &(impl ReadTx + ?Sized), relay: &StorageId, space: &SpaceId) -> Result<Option<Cursor>, StoreError> {
    let Some(bytes) = tx.get(Table::Cursor, &key(relay, space))? else { return Ok(None) };
    let mut reader = Reader::new(&bytes, "cursor-1");
    let epoch = reader.take(16)?.try_into().map_err(|_| reader.damaged())?;
    Ok(Some(Cursor { epoch: Epoch::from_bytes(epoch), position: reader.uint()? }))
}

/// Remembers where to resume: in the transaction that stores what is before it, so that no crash leaves a gap.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn put(
    tx: &mut (impl WriteTx + ?Sized),
    relay: &StorageId,
    space: &SpaceId,
    cursor: &Cursor,
) -> Result<(), StoreError> {
    let mut value = Vec::with_capacity(20);
    value.extend_from_slice(cursor.epoch.as_bytes());
    record::put_uint(&mut value, cursor.position);
    tx.put(Table::Cursor, &key(relay, space), &value)
}

/// Forgets where to resume: the space is compared as a whole the next time.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn forget(tx: &mut (impl WriteTx + ?Sized), relay: &StorageId, space: &SpaceId) -> Result<(), StoreError> {
    tx.delete(Table::Cursor, &key(relay, space))
}

/// Forgets where to resume a space of any relay.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used.
pub(crate) fn forget_everywhere(tx: &mut (impl WriteTx + ?Sized), space: &SpaceId) -> Result<(), StoreError> {
    let mut keys = Vec::new();
    tx.scan(Table::Cursor, &[]..&prefix_end(&[u8::MAX]), &mut |key, _| {
        if key.get(16..) == Some(space.as_bytes()) {
            keys.push(key.to_vec());
        }
        ControlFlow::Continue(())
    })?;
    keys.iter().try_for_each(|key| tx.delete(Table::Cursor, key))
}

fn key(relay: &StorageId, space: &SpaceId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(relay.as_bytes());
    key[16..].copy_from_slice(space.as_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, Store, StoreExt};

    #[test]
    fn cursor_is_kept_for_each_relay_and_space() -> Result<(), StoreError> {
        let store = MemoryStore::new();
        let (relay, space) = (StorageId::from_bytes([1; 16]), SpaceId::from_bytes([2; 16]));
        let cursor = Cursor { epoch: Epoch::from_bytes([3; 16]), position: 300 };
        store.write_with(|tx| put(tx, &relay, &space, &cursor))?;
        assert_eq!(get(&*store.read()?, &relay, &space)?, Some(cursor));
        assert_eq!(get(&*store.read()?, &relay, &SpaceId::DEFAULT)?, None);
        let golden = [[3; 16].as_slice(), &[0xac, 0x02]].concat();
        assert_eq!(store.read()?.get(Table::Cursor, &[[1; 16], [2; 16]].concat())?, Some(golden));
        store.write_with(|tx| forget(tx, &relay, &space))?;
        assert_eq!(get(&*store.read()?, &relay, &space)?, None);
        Ok(())
    }

    #[test]
    fn space_is_forgotten_with_all_relays_and_no_other_is() -> Result<(), StoreError> {
        let store = MemoryStore::new();
        let (relays, spaces) =
            ([1, 2].map(|n| StorageId::from_bytes([n; 16])), [3, 4].map(|n| SpaceId::from_bytes([n; 16])));
        let cursor = Cursor { epoch: Epoch::from_bytes([3; 16]), position: 300 };
        store.write_with(|tx| {
            for relay in &relays {
                spaces.iter().try_for_each(|space| put(tx, relay, space, &cursor))?;
            }
            forget_everywhere(tx, &spaces[0])
        })?;
        for relay in &relays {
            assert_eq!(get(&*store.read()?, relay, &spaces[0])?, None);
            assert_eq!(get(&*store.read()?, relay, &spaces[1])?, Some(cursor));
        }
        Ok(())
    }
}
