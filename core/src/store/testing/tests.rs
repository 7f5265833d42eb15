//! Whether the suite notices: stores with one fault each, and the law it must name.

use super::super::{MemoryStore, Visitor};
use super::*;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    KeepsFailedWrites,
    ReadersFollowTheNewestState,
    HidesOwnWrites,
    ScansTheEndToo,
    ScansOnAfterBreak,
    ScansBackwards,
    DeletesTheEndToo,
    LosesEmptyValues,
    SwallowsTheError,
}

/// A memory store with a fault.
struct Faulty {
    inner: MemoryStore,
    fault: Fault,
}

/// A transaction of such a store. What it has no fault for, it hands on.
struct FaultyTx<'a, T> {
    inner: T,
    store: &'a Faulty,
}

impl<T> FaultyTx<'_, T> {
    fn has(&self, fault: Fault) -> bool {
        self.store.fault == fault
    }
}

impl Store for Faulty {
    fn read(&self) -> Result<Box<dyn ReadTx + '_>, StoreError> {
        Ok(Box::new(FaultyTx { inner: self.inner.read()?, store: self }))
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn WriteTx) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let mut refused = None;
        let outcome = self.inner.write(&mut |tx| {
            let outcome = work(&mut FaultyTx { inner: tx, store: self });
            if self.fault == Fault::KeepsFailedWrites {
                refused = outcome.err();
                return Ok(());
            }
            outcome
        });
        if self.fault == Fault::SwallowsTheError { Ok(()) } else { refused.map_or(outcome, Err) }
    }
}

/// What the two kinds of inner transaction have in common.
trait Inner {
    fn tx(&self) -> &dyn ReadTx;
}

impl Inner for Box<dyn ReadTx + '_> {
    fn tx(&self) -> &dyn ReadTx {
        &**self
    }
}

impl Inner for &mut dyn WriteTx {
    fn tx(&self) -> &dyn ReadTx {
        &**self
    }
}

impl<T: Inner> ReadTx for FaultyTx<'_, T> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.store.fault {
            Fault::ReadersFollowTheNewestState | Fault::HidesOwnWrites => self.store.inner.read()?.get(table, key),
            Fault::LosesEmptyValues => Ok(self.inner.tx().get(table, key)?.filter(|value| !value.is_empty())),
            _ => self.inner.tx().get(table, key),
        }
    }

    fn scan(&self, table: Table, range: Range<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        let after = [range.end, &[0]].concat();
        let end = if self.has(Fault::ScansTheEndToo) { &after } else { range.end };
        let mut found = Vec::new();
        self.inner.tx().scan(table, range.start..end, &mut |key, value| {
            found.push(pair(key, value));
            ControlFlow::Continue(())
        })?;
        if self.has(Fault::ScansBackwards) {
            found.reverse();
        }
        for (key, value) in found {
            if visit(&key, &value).is_break() && !self.has(Fault::ScansOnAfterBreak) {
                break;
            }
        }
        Ok(())
    }

    fn contains(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        self.inner.tx().contains(table, key)
    }
}

impl WriteTx for FaultyTx<'_, &mut dyn WriteTx> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.inner.put(table, key, value)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.inner.delete(table, key)
    }

    fn delete_range(&mut self, table: Table, range: Range<&[u8]>) -> Result<(), StoreError> {
        if self.has(Fault::DeletesTheEndToo) && range.start < range.end {
            self.inner.delete(table, range.end)?;
        }
        self.inner.delete_range(table, range)
    }
}

#[test]
fn every_fault_is_noticed_and_named() {
    let faults = [
        (Fault::KeepsFailedWrites, "law 1"),
        (Fault::SwallowsTheError, "law 1"),
        (Fault::ReadersFollowTheNewestState, "law 3"),
        (Fault::HidesOwnWrites, "law"),
        (Fault::ScansTheEndToo, "law 5"),
        (Fault::ScansOnAfterBreak, "law 5"),
        (Fault::ScansBackwards, "law"),
        (Fault::DeletesTheEndToo, "delete_range"),
        (Fault::LosesEmptyValues, "law 7"),
    ];
    for (fault, law) in faults {
        let panic = std::panic::catch_unwind(|| run(|| Faulty { inner: MemoryStore::new(), fault })).unwrap_err();
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap();
        assert!(text.contains(law), "{fault:?} is reported as: {text}");
    }
}
