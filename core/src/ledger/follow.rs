//! What this device follows: which spaces, how much of each, and from which relays anything ever came.

use std::ops::ControlFlow;

use crate::id::{SpaceId, StorageId};
use crate::store::record::prefix_end;
use crate::store::{ReadTx, StoreError, Table, WriteTx};

/// Begins the keys of followed spaces in [`Table::Meta`].
const FOLLOWED: &[u8] = b"followed-";
/// Begins the keys of relays in [`Table::Meta`].
const RELAY: &[u8] = b"relay-";

/// How much of a space is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Following {
    /// Every document.
    Everything,
    /// Which documents there are, and those of them that were opened here.
    Listing,
}

/// Follows a space from now on, or differently.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn follow(tx: &mut (impl WriteTx + ?Sized), space: &SpaceId, how: Following) -> Result<(), StoreError> {
    let byte = match how {
        Following::Everything => 0,
        Following::Listing => 1,
    };
    tx.put(Table::Meta, &key(FOLLOWED, space.as_bytes()), &[byte])
}

/// Follows a space no more.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn unfollow(tx: &mut (impl WriteTx + ?Sized), space: &SpaceId) -> Result<(), StoreError> {
    tx.delete(Table::Meta, &key(FOLLOWED, space.as_bytes()))
}

/// Returns how a space is followed, or `None` if it is not. Cost: one lookup.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn get(tx: &(impl ReadTx + ?Sized), space: &SpaceId) -> Result<Option<Following>, StoreError> {
    tx.get(Table::Meta, &key(FOLLOWED, space.as_bytes()))?.map(|value| decode(&value)).transpose()
}

/// Returns the followed spaces, by id. Cost: one visit for each.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn all(tx: &(impl ReadTx + ?Sized)) -> Result<Vec<(SpaceId, Following)>, StoreError> {
    let mut found = Vec::new();
    let mut failed = None;
    tx.scan(Table::Meta, FOLLOWED..&prefix_end(FOLLOWED), &mut |key, value| {
        match (key.last_chunk::<16>(), decode(value)) {
            (Some(space), Ok(how)) => found.push((SpaceId::from_bytes(*space), how)),
            _ => failed = Some(StoreError::Damaged { what: "a followed space" }),
        }
        ControlFlow::Continue(())
    })?;
    failed.map_or(Ok(found), Err)
}

/// Notes that this store syncs with a relay. Returns whether that is news.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used.
pub fn note_relay(tx: &mut (impl WriteTx + ?Sized), relay: &StorageId) -> Result<bool, StoreError> {
    let key = key(RELAY, relay.as_bytes());
    let is_news = !tx.contains(Table::Meta, &key)?;
    if is_news {
        tx.put(Table::Meta, &key, &[])?;
    }
    Ok(is_news)
}

/// Says whether this store ever synced with another relay than this one.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn has_other_relay(tx: &(impl ReadTx + ?Sized), relay: &StorageId) -> Result<bool, StoreError> {
    let mut has_other = false;
    tx.scan(Table::Meta, RELAY..&prefix_end(RELAY), &mut |key, _| {
        has_other = has_other || key.last_chunk::<16>() != Some(relay.as_bytes());
        if has_other { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(has_other)
}

fn decode(value: &[u8]) -> Result<Following, StoreError> {
    match value {
        [0] => Ok(Following::Everything),
        [1] => Ok(Following::Listing),
        _ => Err(StoreError::Damaged { what: "a followed space" }),
    }
}

fn key(prefix: &[u8], id: &[u8; 16]) -> Vec<u8> {
    [prefix, id].concat()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::store::{MemoryStore, Store, StoreExt};

    #[test]
    fn what_is_followed_is_listed_until_it_is_not() {
        let store = MemoryStore::new();
        let (a, b) = (SpaceId::from_bytes([1; 16]), SpaceId::from_bytes([0xff; 16]));
        store
            .write_with(|tx| {
                follow(tx, &b, Following::Listing)?;
                follow(tx, &a, Following::Listing)?;
                follow(tx, &a, Following::Everything)
            })
            .unwrap();
        let tx = store.read().unwrap();
        assert_eq!(all(tx.as_ref()).unwrap(), [(a, Following::Everything), (b, Following::Listing)]);
        assert_eq!(get(tx.as_ref(), &b).unwrap(), Some(Following::Listing));
        store.write_with(|tx| unfollow(tx, &a)).unwrap();
        let tx = store.read().unwrap();
        assert_eq!(all(tx.as_ref()).unwrap(), [(b, Following::Listing)]);
        assert_eq!(get(tx.as_ref(), &a).unwrap(), None);
    }

    #[test]
    fn another_relay_is_known_from_then_on() {
        let store = MemoryStore::new();
        let (a, b) = (StorageId::from_bytes([1; 16]), StorageId::from_bytes([2; 16]));
        let has_other = |relay| has_other_relay(store.read().unwrap().as_ref(), relay).unwrap();
        assert!(store.write_with(|tx| note_relay(tx, &a)).unwrap());
        assert!(!store.write_with(|tx| note_relay(tx, &a)).unwrap());
        assert!(!has_other(&a) && has_other(&b));
        store.write_with(|tx| note_relay(tx, &b)).unwrap();
        assert!(has_other(&a) && has_other(&b));
    }
}
