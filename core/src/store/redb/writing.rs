//! Writing: into a delta, which becomes a record of the journal; or into the database, if it does not fit there.

use std::cell::OnceCell;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use redb::WriteTransaction;

use super::super::delta::{Bytes, Delta};
use super::super::{FORMAT_KEY, ReadTx, StoreError, Table, Visitor, WriteTx};
use super::error::{storage_error, table_error};
use super::view::{View, contains, get, scan};
use super::{RedbStore, definition, watched};
use crate::limits::JOURNAL_RECORD_BYTES_MAX;

type WriteTable<'txn> = redb::Table<'txn, &'static [u8], &'static [u8]>;

/// How much memory a transaction takes at most before it goes into the database: twice what a record may have, since many rows are short.
const DELTA_BYTES_MAX: usize = 2 * JOURNAL_RECORD_BYTES_MAX;

/// A transaction of the database.
pub(super) struct Transaction {
    pub(super) inner: WriteTransaction,
    pub(super) broken: Arc<AtomicBool>,
}

impl Transaction {
    /// Takes it back. What it failed for says why; an error here would hide that.
    pub(super) fn roll_back(self) {
        if let Err(error) = watched(&self.broken, || self.inner.abort().map_err(storage_error)) {
            tracing::warn!(%error, "failed to roll a transaction back");
        }
    }
}

/// Its tables.
pub(super) struct Tables<'txn> {
    transaction: &'txn WriteTransaction,
    /// Opened when first asked for; redb makes a table that is not there.
    tables: [OnceCell<WriteTable<'txn>>; Table::ALL.len()],
    broken: Arc<AtomicBool>,
}

impl<'txn> Tables<'txn> {
    pub(super) fn new(transaction: &'txn WriteTransaction, broken: Arc<AtomicBool>) -> Self {
        Self { transaction, tables: Default::default(), broken }
    }

    /// Does what a delta says.
    pub(super) fn apply(&mut self, delta: &Delta) -> Result<(), StoreError> {
        delta.iter().try_for_each(|(table, key, value)| match value {
            Some(value) => self.put(table, key, value),
            None => self.delete(table, key),
        })
    }

    fn table(&self, table: Table) -> Result<&WriteTable<'txn>, StoreError> {
        let cell = &self.tables[table.index()];
        if let Some(opened) = cell.get() {
            return Ok(opened);
        }
        let opened = watched(&self.broken, || self.transaction.open_table(definition(table)).map_err(table_error))?;
        Ok(cell.get_or_init(|| opened))
    }

    fn table_mut(&mut self, table: Table) -> Result<&mut WriteTable<'txn>, StoreError> {
        self.table(table)?;
        Ok(self.tables[table.index()].get_mut().expect("the line above opened it"))
    }
}

impl ReadTx for Tables<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        get(&self.broken, self.table(table)?, key)
    }

    fn scan(&self, table: Table, range: Range<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        scan(&self.broken, self.table(table)?, range, visit)
    }

    fn contains(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        contains(&self.broken, self.table(table)?, key)
    }
}

impl WriteTx for Tables<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let broken = Arc::clone(&self.broken);
        let table = self.table_mut(table)?;
        watched(&broken, || table.insert(key, value).map(drop).map_err(storage_error))
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        let broken = Arc::clone(&self.broken);
        let table = self.table_mut(table)?;
        watched(&broken, || table.remove(key).map(drop).map_err(storage_error))
    }

    fn delete_range(&mut self, table: Table, range: Range<&[u8]>) -> Result<(), StoreError> {
        if range.start >= range.end {
            return Ok(());
        }
        let broken = Arc::clone(&self.broken);
        let table = self.table_mut(table)?;
        watched(&broken, || table.retain_in(range, |_, _| false).map_err(storage_error))
    }
}

/// A transaction under way.
pub(super) struct Writing<'w> {
    store: &'w RedbStore,
    /// The database's transaction, once there is one.
    transaction: &'w OnceCell<Transaction>,
    place: Place<'w>,
    /// Something that it was to write is missing.
    has_failed: bool,
}

/// Where a transaction puts its rows.
enum Place<'w> {
    /// In front of a view, to be written into the journal.
    Journal {
        view: Arc<View>,
        delta: Delta,
    },
    Database(Box<Tables<'w>>),
}

impl<'w> Writing<'w> {
    /// Begins one in front of a view, or in the database if there is none.
    pub(super) fn begin(
        store: &'w RedbStore,
        view: Option<Arc<View>>,
        transaction: &'w OnceCell<Transaction>,
    ) -> Result<Self, StoreError> {
        let place = match view {
            Some(view) => Place::Journal { view, delta: Delta::default() },
            None => Place::Database(Box::new(open(store, transaction, &Delta::default())?)),
        };
        Ok(Self { store, transaction, place, has_failed: false })
    }

    /// Ends it. Returns what it did, if that is not in the database's transaction.
    ///
    /// # Errors
    ///
    /// [`StoreError::Interrupted`] if a row could not be written and whoever wrote it went on.
    pub(super) fn into_delta(self) -> Result<Option<Delta>, StoreError> {
        match self.place {
            _ if self.has_failed => Err(StoreError::Interrupted),
            Place::Journal { delta, .. } => Ok(Some(delta)),
            Place::Database(_) => Ok(None),
        }
    }

    /// Notes when a row could not be written.
    fn noted<T>(&mut self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        self.has_failed |= outcome.is_err();
        outcome
    }

    /// Goes on in the database, from now on.
    fn database(&mut self) -> Result<&mut Tables<'w>, StoreError> {
        if let Place::Journal { delta, .. } = &self.place {
            self.place = Place::Database(Box::new(open(self.store, self.transaction, delta)?));
        }
        match &mut self.place {
            Place::Database(tables) => Ok(tables),
            Place::Journal { .. } => Err(StoreError::Interrupted),
        }
    }

    fn set(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        // What format the file has, the file says: an older version looks for it nowhere else.
        let is_format = table == Table::Meta && key == FORMAT_KEY;
        let bytes = key.len() + value.map_or(0, <[u8]>::len);
        match &mut self.place {
            Place::Journal { delta, .. } if !is_format && delta.bytes() + bytes <= DELTA_BYTES_MAX => {
                delta.set(table, key.into(), value.map(Bytes::from));
                Ok(())
            }
            _ => match value {
                Some(value) => self.database()?.put(table, key, value),
                None => self.database()?.delete(table, key),
            },
        }
    }
}

/// Begins a transaction of the database, with all that is in the journal alone and in a delta.
pub(super) fn open<'w>(
    store: &RedbStore,
    transaction: &'w OnceCell<Transaction>,
    delta: &Delta,
) -> Result<Tables<'w>, StoreError> {
    if transaction.get().is_some() {
        // That failed before. Whoever goes on all the same is not given a second one, which would wait for the first.
        return Err(StoreError::Interrupted);
    }
    let (begun, layers) = store.begin_write()?;
    let transaction = transaction.get_or_init(|| begun);
    let mut tables = Tables::new(&transaction.inner, Arc::clone(&transaction.broken));
    layers.iter().chain([delta]).try_for_each(|delta| tables.apply(delta))?;
    Ok(tables)
}

impl ReadTx for Writing<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.place {
            Place::Journal { view, delta } => match delta.find(table, key) {
                Some(found) => Ok(found.map(<[u8]>::to_vec)),
                None => view.get(table, key),
            },
            Place::Database(tables) => tables.get(table, key),
        }
    }

    fn scan(&self, table: Table, range: Range<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        match &self.place {
            Place::Journal { view, delta } => {
                delta.scan(table, &range, &mut |visit| view.scan(table, range.clone(), visit), visit)
            }
            Place::Database(tables) => tables.scan(table, range, visit),
        }
    }

    fn contains(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        match &self.place {
            Place::Journal { view, delta } => match delta.find(table, key) {
                Some(found) => Ok(found.is_some()),
                None => view.contains(table, key),
            },
            Place::Database(tables) => tables.contains(table, key),
        }
    }
}

impl WriteTx for Writing<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let outcome = self.set(table, key, Some(value));
        self.noted(outcome)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        let outcome = self.set(table, key, None);
        self.noted(outcome)
    }

    fn delete_range(&mut self, table: Table, range: Range<&[u8]>) -> Result<(), StoreError> {
        let outcome = self.clear(table, range);
        self.noted(outcome)
    }
}

impl Writing<'_> {
    fn clear(&mut self, table: Table, range: Range<&[u8]>) -> Result<(), StoreError> {
        let (mut keys, mut bytes) = (Vec::<Bytes>::new(), 0);
        let has_room = matches!(self.place, Place::Journal { .. });
        if has_room {
            // In a delta a range is its keys, if those are not too many.
            self.scan(table, range.clone(), &mut |key, _| {
                bytes += key.len();
                keys.push(key.into());
                if bytes > JOURNAL_RECORD_BYTES_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        }
        if has_room && bytes <= JOURNAL_RECORD_BYTES_MAX {
            return keys.iter().try_for_each(|key| self.set(table, key, None));
        }
        self.database()?.delete_range(table, range)
    }
}
