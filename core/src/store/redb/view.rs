//! Reading: a snapshot of the database, and in front of it what is in the journal alone.

use std::ops::{ControlFlow, Range};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use redb::{ReadTransaction, ReadableTable};

use super::super::delta::Delta;
use super::super::{ReadTx, StoreError, Table, Visitor};
use super::error::{storage_error, table_error};
use super::{definition, watched};

type ReadTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

/// What the database has, for all who read it until it has something else.
#[derive(Debug)]
pub(super) struct Snapshot {
    transaction: ReadTransaction,
    /// Each table is opened when it is first asked for, and once: opening is a lookup of its own. `None` inside is a
    /// table that the file has not, because an older version made the file: it reads as empty.
    tables: [OnceLock<Option<ReadTable>>; Table::ALL.len()],
    broken: Arc<AtomicBool>,
    /// Keeps the database open after its file was exchanged.
    _reader: Arc<()>,
}

impl Snapshot {
    pub(super) fn new(transaction: ReadTransaction, broken: Arc<AtomicBool>, reader: Arc<()>) -> Self {
        Self { transaction, tables: Default::default(), broken, _reader: reader }
    }

    fn table(&self, table: Table) -> Result<Option<&ReadTable>, StoreError> {
        let cell = &self.tables[table.index()];
        if let Some(opened) = cell.get() {
            return Ok(opened.as_ref());
        }
        let opened = watched(&self.broken, || match self.transaction.open_table(definition(table)) {
            Ok(opened) => Ok(Some(opened)),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(table_error(error)),
        })?;
        Ok(cell.get_or_init(|| opened).as_ref())
    }
}

/// What was committed into the journal since the last checkpoint: one delta in front of the other, the newest last.
///
/// A commit puts what it did into the one before it, unless somebody reads that: then it stands in front, until the two are about
/// as large. So each row is copied a few times at most, and there are few of them: as many as the journal's rows can be halved.
#[derive(Debug, Clone, Default)]
pub(super) struct Layers(Vec<Arc<Delta>>);

impl Layers {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// About how much memory they take.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|layer| layer.bytes()).sum()
    }

    /// Adds what a commit did. Nobody but those who read earlier states may share them.
    pub(super) fn push(&mut self, mut newest: Delta) {
        while let Some(below) = self.0.pop() {
            let mut together = match Arc::try_unwrap(below) {
                Ok(unshared) => unshared,
                Err(shared) if shared.rows() > 2 * newest.rows() => {
                    self.0.push(shared);
                    break;
                }
                Err(shared) => Delta::clone(&shared),
            };
            together.take_in(newest);
            newest = together;
        }
        self.0.push(Arc::new(newest));
    }

    /// Returns them, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Delta> {
        self.0.iter().map(|layer| &**layer)
    }

    fn find(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.0.iter().rev().find_map(|layer| layer.find(table, key))
    }
}

/// One committed state.
#[derive(Debug)]
pub(super) struct View {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) layers: Layers,
}

impl View {
    fn scan_below(
        &self,
        layers: &[Arc<Delta>],
        table: Table,
        range: &Range<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        let Some((top, below)) = layers.split_last() else {
            let Some(opened) = self.snapshot.table(table)? else { return Ok(()) };
            return scan(&self.snapshot.broken, opened, range.clone(), visit);
        };
        top.scan(table, range, &mut |visit| self.scan_below(below, table, range, visit), visit)
    }
}

impl ReadTx for View {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(found) = self.layers.find(table, key) {
            return Ok(found.map(<[u8]>::to_vec));
        }
        self.snapshot.table(table)?.map_or(Ok(None), |table| get(&self.snapshot.broken, table, key))
    }

    fn scan(&self, table: Table, range: Range<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        self.scan_below(&self.layers.0, table, &range, visit)
    }

    fn contains(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        if let Some(found) = self.layers.find(table, key) {
            return Ok(found.is_some());
        }
        self.snapshot.table(table)?.map_or(Ok(false), |table| contains(&self.snapshot.broken, table, key))
    }
}

/// A view that others read too.
pub(super) struct Reading(pub(super) Arc<View>);

impl ReadTx for Reading {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(table, key)
    }

    fn scan(&self, table: Table, range: Range<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        self.0.scan(table, range, visit)
    }

    fn contains(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        self.0.contains(table, key)
    }
}

pub(super) fn get(
    broken: &AtomicBool,
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<Option<Vec<u8>>, StoreError> {
    watched(broken, || Ok(table.get(key).map_err(storage_error)?.map(|value| value.value().to_vec())))
}

pub(super) fn contains(
    broken: &AtomicBool,
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<bool, StoreError> {
    // The guard lends the page's bytes: nothing is copied.
    watched(broken, || Ok(table.get(key).map_err(storage_error)?.is_some()))
}

pub(super) fn scan(
    broken: &AtomicBool,
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    range: Range<&[u8]>,
    visit: &mut Visitor<'_>,
) -> Result<(), StoreError> {
    // To begin a range costs as much as a look-up, even in an empty table, and many a table is. Cost otherwise: a look at the root.
    if range.start >= range.end || watched(broken, || table.is_empty().map_err(storage_error))? {
        return Ok(());
    }
    // Damaged pages lead anywhere: back to where one came from, or out of the range. Who goes on behind the last key it was shown
    // would never end, so law 5 is held to here. Cost: one comparison and a short copy a row.
    let mut last = range.start.to_vec();
    let mut is_first = true;
    let mut pairs = watched(broken, || table.range(range).map_err(storage_error))?;
    // Only redb's part is contained: a panic of the visitor is the caller's own and goes back to it.
    while let Some((key, value)) = watched(broken, || pairs.next().transpose().map_err(storage_error))? {
        let (key, value) = watched(broken, || Ok((key.value(), value.value())))?;
        if key < last.as_slice() || (key == last && !is_first) {
            return Err(StoreError::Damaged { what: "the order of a table" });
        }
        is_first = false;
        last.clear();
        last.extend_from_slice(key);
        if visit(key, value) == ControlFlow::Break(()) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a delta of one row: this number, in a key that three others have too.
    fn row(number: u16) -> Delta {
        let mut delta = Delta::default();
        delta.set(Table::Node, (number % 1_000).to_be_bytes().into(), Some(number.to_be_bytes().into()));
        delta
    }

    fn newest(layers: &Layers, key: u16) -> Option<u16> {
        let found = layers.find(Table::Node, &key.to_be_bytes())??;
        Some(u16::from_be_bytes(found.try_into().expect("two bytes")))
    }

    #[test]
    fn commits_that_nobody_reads_are_one_layer_and_others_are_few() {
        let (mut alone, mut read) = (Layers::default(), Layers::default());
        let mut readers: Vec<(u16, Layers)> = Vec::new();
        for number in 0..4_000 {
            alone.push(row(number));
            read.push(row(number));
            assert_eq!(alone.0.len(), 1);
            assert!(read.0.len() <= 11, "{} layers of at most 1,000 rows", read.0.len());
            // All states are read, the last few and one in a hundred for long.
            readers.push((number, read.clone()));
            if readers.len() > 60 && !readers[readers.len() - 20].0.is_multiple_of(100) {
                readers.remove(readers.len() - 20);
            }
        }
        assert!(readers.len() > 50);
        readers.push((3_999, alone));
        for (last, layers) in readers {
            for key in 0..1_000 {
                let expected = (0..=last).rev().take(1_000).find(|number| number % 1_000 == key);
                assert_eq!(newest(&layers, key), expected, "{key} of {last}");
            }
        }
    }
}
