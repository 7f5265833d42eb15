//! A store in memory: for tests, and for browsers that grant no file. It keeps every law but durability.
//!
//! Committed tables are shared maps behind a lock. A reader takes references to all of them and needs the lock no more;
//! a writer gathers its changes in an overlay and applies them at the end, in place when no reader holds the map,
//! otherwise to a copy of the touched tables. So a transaction costs what it changes, unless somebody is reading.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::delta::{Bytes, Delta, bounds};
use super::{FORMAT_KEY, FORMAT_VERSION, ReadTx, Store, StoreError, Table, Visitor, WriteTx};

/// Keeps everything in memory and forgets it when dropped.
///
/// ```
/// use rejoin::store::{MemoryStore, Store, StoreExt, Table};
///
/// let store = MemoryStore::new();
/// store.write_with(|tx| tx.put(Table::Register, b"key", b"value"))?;
/// assert_eq!(store.read()?.get(Table::Register, b"key")?.as_deref(), Some(&b"value"[..]));
/// # Ok::<(), rejoin::store::StoreError>(())
/// ```
#[derive(Debug)]
pub struct MemoryStore {
    committed: RwLock<Tables>,
    /// Held for as long as a write lasts: there is one writer at a time.
    writer: Mutex<()>,
}

type Map = BTreeMap<Bytes, Bytes>;

/// One map for each table. Cloning it takes references, not copies.
#[derive(Debug, Clone, Default)]
struct Tables([Arc<Map>; Table::ALL.len()]);

impl MemoryStore {
    /// Makes an empty store, which holds nothing but its format version.
    pub fn new() -> Self {
        let mut tables = Tables::default();
        let format = Map::from([(FORMAT_KEY.into(), FORMAT_VERSION.to_le_bytes().as_slice().into())]);
        tables.0[Table::Meta.index()] = Arc::new(format);
        Self { committed: RwLock::new(tables), writer: Mutex::new(()) }
    }

    /// Takes references to the committed tables.
    fn snapshot(&self) -> Tables {
        // A panic cannot leave the tables half changed: the only thing that happens under the lock is the application of
        // a finished overlay, which runs no foreign code. So a poisoned lock is as good as any other.
        self.committed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock_writer(&self) -> MutexGuard<'_, ()> {
        // The lock guards no data: a writer that panicked never reached the committed tables.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self, delta: Delta) {
        let mut committed = self.committed.write().unwrap_or_else(PoisonError::into_inner);
        for (table, key, value) in delta.into_rows() {
            let map = Arc::make_mut(&mut committed.0[table.index()]);
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for MemoryStore {
    fn scrub(&self) -> Result<bool, StoreError> {
        // What was deleted is in no map, and there is no file.
        self.write(&mut |tx| tx.delete(Table::Meta, super::SCRUB_KEY))?;
        Ok(true)
    }

    fn read(&self) -> Result<Box<dyn ReadTx + '_>, StoreError> {
        Ok(Box::new(Reading { tables: self.snapshot() }))
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn WriteTx) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let _writer = self.lock_writer();
        let mut writing = Writing { base: Reading { tables: self.snapshot() }, delta: Delta::default() };
        work(&mut writing)?;
        // The references go first, or the commit would find every map in use and copy it.
        let Writing { base, delta } = writing;
        drop(base);
        self.commit(delta);
        Ok(())
    }
}

struct Reading {
    tables: Tables,
}

impl ReadTx for Reading {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tables.0[table.index()].get(key).map(|value| value.to_vec()))
    }

    fn scan(&self, table: Table, range: Range<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        let Some(bounds) = bounds(&range) else { return Ok(()) };
        for (key, value) in self.tables.0[table.index()].range::<[u8], _>(bounds) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn contains(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.tables.0[table.index()].contains_key(key))
    }
}

struct Writing {
    base: Reading,
    delta: Delta,
}

impl ReadTx for Writing {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.delta.find(table, key) {
            Some(found) => Ok(found.map(<[u8]>::to_vec)),
            None => self.base.get(table, key),
        }
    }

    fn scan(&self, table: Table, range: Range<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        self.delta.scan(table, &range, &mut |visit| self.base.scan(table, range.clone(), visit), visit)
    }

    fn contains(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        match self.delta.find(table, key) {
            Some(found) => Ok(found.is_some()),
            None => self.base.contains(table, key),
        }
    }
}

impl WriteTx for Writing {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.delta.set(table, key.into(), Some(value.into()));
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.delta.set(table, key.into(), None);
        Ok(())
    }

    fn delete_range(&mut self, table: Table, range: Range<&[u8]>) -> Result<(), StoreError> {
        let mut keys: Vec<Bytes> = Vec::new();
        self.scan(table, range, &mut |key, _| {
            keys.push(key.into());
            ControlFlow::Continue(())
        })?;
        keys.into_iter().for_each(|key| self.delta.set(table, key, None));
        Ok(())
    }
}
