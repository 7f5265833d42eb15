//! Deltas: rows that were put and deleted, in front of those below, which they are not in yet.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow, Range};
use std::sync::Arc;

use super::{StoreError, Table, Visitor};

/// A key or a value, which several deltas may share.
pub(super) type Bytes = Arc<[u8]>;

/// Where a range begins and ends.
type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// New values, and `None` for what was deleted.
type Rows = BTreeMap<Bytes, Option<Bytes>>;

/// About what a row takes in memory besides its key and value.
const ROW_OVERHEAD_BYTES: usize = 80;

/// What was put into the tables and deleted from them since some state, the last of each key.
#[derive(Debug, Clone, Default)]
pub(super) struct Delta {
    tables: Box<[Rows; Table::ALL.len()]>,
    rows: usize,
    bytes: usize,
}

impl Delta {
    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// How many rows it has.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts a value, or deletes what stands below.
    pub(super) fn set(&mut self, table: Table, key: Bytes, value: Option<Bytes>) {
        let length = |value: &Option<Bytes>| value.as_ref().map_or(0, |bytes| bytes.len());
        self.bytes += length(&value);
        let key_bytes = key.len();
        match self.tables[table.index()].insert(key, value) {
            Some(before) => self.bytes -= length(&before),
            None => {
                self.rows += 1;
                self.bytes += key_bytes + ROW_OVERHEAD_BYTES;
            }
        }
    }

    /// Returns what it says of a key: a value, or that it was deleted. `None` if it says nothing.
    pub(super) fn find(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.tables[table.index()].get(key).map(Option::as_deref)
    }

    /// Visits the rows of a range as they are with it, in the order of their keys. `below` visits those that it stands in front of.
    ///
    /// # Errors
    ///
    /// What `below` returns.
    pub(super) fn scan(
        &self,
        table: Table,
        range: &Range<&[u8]>,
        below: &mut dyn FnMut(&mut Visitor<'_>) -> Result<(), StoreError>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        let rows = &self.tables[table.index()];
        if rows.is_empty() {
            return below(visit);
        }
        let Some(bounds) = bounds(range) else { return Ok(()) };
        let mut ours = rows.range::<[u8], _>(bounds).peekable();
        let mut flow = ControlFlow::Continue(());
        below(&mut |key, value| {
            while let Some((our_key, our_value)) = ours.next_if(|(our_key, _)| ***our_key <= *key) {
                if let Some(our_value) = our_value {
                    flow = visit(our_key, our_value);
                }
                if flow.is_break() || **our_key == *key {
                    return flow;
                }
            }
            flow = visit(key, value);
            flow
        })?;
        for (key, value) in ours {
            if flow.is_break() {
                break;
            }
            if let Some(value) = value {
                flow = visit(key, value);
            }
        }
        Ok(())
    }

    /// Does what another one does that came later. Cost: that of the other's rows.
    pub(super) fn take_in(&mut self, later: Self) {
        for (table, key, value) in later.into_rows() {
            self.set(table, key, value);
        }
    }

    /// Returns each key with what it says of it, by table and in the order of keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Table, &[u8], Option<&[u8]>)> {
        let tables = Table::ALL.into_iter().zip(self.tables.iter());
        tables.flat_map(|(table, rows)| rows.iter().map(move |(key, value)| (table, &**key, value.as_deref())))
    }

    /// As [`Delta::iter`], taken apart.
    pub(super) fn into_rows(self) -> impl Iterator<Item = (Table, Bytes, Option<Bytes>)> {
        let tables = Table::ALL.into_iter().zip(*self.tables);
        tables.flat_map(|(table, rows)| rows.into_iter().map(move |(key, value)| (table, key, value)))
    }
}

/// The bounds of a half-open range, or `None` if it is empty or inverted: a `BTreeMap` panics on the latter.
pub(super) fn bounds<'a>(range: &Range<&'a [u8]>) -> Option<Bounds<'a>> {
    (range.start < range.end).then_some((Bound::Included(range.start), Bound::Excluded(range.end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what a scan shows of a delta in front of some rows.
    fn shown(delta: &Delta, below: &[(&[u8], &[u8])], range: Range<&[u8]>, most: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        let mut base = |visit: &mut Visitor<'_>| {
            let mut inside = below.iter().filter(|(key, _)| range.contains(key));
            let _ = inside.try_for_each(|(key, value)| visit(key, value));
            Ok(())
        };
        let mut visit = |key: &[u8], value: &[u8]| {
            found.push((key.to_vec(), value.to_vec()));
            if found.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        delta.scan(Table::Node, &range, &mut base, &mut visit).expect("nothing here fails");
        found
    }

    #[test]
    fn scan_shows_rows_and_those_below_each_once_in_their_order_and_stops_when_told() {
        let mut delta = Delta::default();
        for (key, value) in
            [("a", Some("1")), ("c", None), ("d", Some("2")), ("e", Some("3")), ("g", None), ("i", Some("4"))]
        {
            delta.set(Table::Node, key.as_bytes().into(), value.map(|value| value.as_bytes().into()));
        }
        let below: &[(&[u8], &[u8])] = &[(b"b", b"x"), (b"c", b"x"), (b"d", b"x"), (b"f", b"x"), (b"g", b"x")];
        let row = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
        let all = [row("a", "1"), row("b", "x"), row("d", "2"), row("e", "3"), row("f", "x"), row("i", "4")];
        for most in 1..=all.len() + 1 {
            assert_eq!(shown(&delta, below, b"a"..b"z", most), all[..most.min(all.len())], "{most}");
        }
        assert_eq!(shown(&delta, below, b"b"..b"e", 9), all[1..3]);
        assert_eq!(shown(&delta, &[], b"c"..b"z", 9), [row("d", "2"), row("e", "3"), row("i", "4")]);
        assert!(shown(&delta, below, b"e"..b"b", 9).is_empty() && shown(&delta, below, b"c"..b"d", 9).is_empty());
        assert_eq!(shown(&Delta::default(), below, b"d"..b"g", 9), [row("d", "x"), row("f", "x")]);
    }

    #[test]
    fn rows_and_bytes_are_those_of_the_last_of_each_key() {
        let mut delta = Delta::default();
        assert!(delta.is_empty() && delta.bytes() == 0);
        delta.set(Table::Node, (*b"key").into(), Some([7; 100].into()));
        delta.set(Table::Change, (*b"key").into(), None);
        delta.set(Table::Node, (*b"key").into(), Some([8; 40].into()));
        assert_eq!((delta.rows(), delta.bytes()), (2, 2 * (ROW_OVERHEAD_BYTES + 3) + 40));
        let mut later = Delta::default();
        later.set(Table::Node, (*b"key").into(), None);
        delta.take_in(later);
        assert_eq!((delta.rows(), delta.bytes()), (2, 2 * (ROW_OVERHEAD_BYTES + 3)));
        assert_eq!(delta.find(Table::Node, b"key"), Some(None));
        assert_eq!(delta.find(Table::Hash, b"key"), None);
    }
}
