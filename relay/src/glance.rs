//! A look into the store that begins only when something is asked: most frames need none.

use std::cell::OnceCell;
use std::ops::Range;

use rejoin::store::{ReadTx, Store, StoreError, Table, Visitor};

/// A read transaction, begun at the first question.
pub(crate) struct Glance<'store> {
    store: &'store dyn Store,
    begun: OnceCell<Box<dyn ReadTx + 'store>>,
}

impl<'store> Glance<'store> {
    pub(crate) fn new(store: &'store dyn Store) -> Self {
        Self { store, begun: OnceCell::new() }
    }

    fn tx(&self) -> Result<&(dyn ReadTx + 'store), StoreError> {
        if let Some(tx) = self.begun.get() {
            return Ok(&**tx);
        }
        let tx = self.store.read()?;
        Ok(&**self.begun.get_or_init(|| tx))
    }
}

impl ReadTx for Glance<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.tx()?.get(table, key)
    }

    fn scan(&self, table: Table, range: Range<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        self.tx()?.scan(table, range, visit)
    }

    fn contains(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        self.tx()?.contains(table, key)
    }
}
