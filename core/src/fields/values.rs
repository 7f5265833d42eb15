//! The values of a field: the first of them in the register's row, however many there are in rows of their own.
//!
//! Which ones stand where depends on nothing but the values themselves, so that two stores with the same changes have the
//! same rows. A further value costs a row, and what the register's row may hold.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::record::{
    Content, RegisterReader, VisibleOps, encode_register, put_value, read_value, value_key, values_prefix,
};
use crate::id::OpId;
use crate::limits::{REGISTER_ROW_BYTES, REGISTER_ROW_VALUES};
use crate::store::record::prefix_end;
use crate::store::{ReadTx, StoreError, Table, WriteTx};

#[cfg(test)]
mod tests;

/// The values of one register that are in memory: those of its row, and what was asked for of the others.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub(super) ops: VisibleOps,
    /// Where further values have rows of their own, if there are any.
    behind: Option<Box<Behind>>,
}

#[derive(Debug)]
struct Behind {
    /// What their keys begin with.
    prefix: Vec<u8>,
    /// Those that were read.
    read: BTreeSet<OpId>,
}

impl Values {
    /// Reads a register's row.
    pub(super) fn read(register_key: &[u8], row: &[u8]) -> Result<Self, StoreError> {
        let mut reader = RegisterReader::new(row)?;
        let ops = reader.by_ref().collect::<Result<_, _>>()?;
        let behind = || Box::new(Behind { prefix: values_prefix(register_key), read: BTreeSet::new() });
        Ok(Self { ops, behind: reader.has_more().then(behind) })
    }

    /// Says whether there are values besides those of the row.
    pub(super) fn has_more(&self) -> bool {
        self.behind.is_some()
    }

    /// Reads one value if it is not in memory. Returns how many bytes that took. Cost: nothing, or one look-up.
    pub(super) fn load(&mut self, tx: &(impl ReadTx + ?Sized), id: &OpId) -> Result<usize, StoreError> {
        let Some(behind) = &mut self.behind else { return Ok(0) };
        if self.ops.contains_key(id) || behind.read.contains(id) {
            return Ok(0);
        }
        let Some(row) = tx.get(Table::Register, &value_key(&behind.prefix, id))? else { return Ok(0) };
        let (id, content) = read_value(&row)?;
        behind.read.insert(id.clone());
        self.ops.insert(id, content);
        Ok(row.len())
    }

    /// Reads the greatest values until there are `most` in memory.
    pub(super) fn load_greatest(&mut self, tx: &(impl ReadTx + ?Sized), most: usize) -> Result<usize, StoreError> {
        let Some(behind) = &mut self.behind else { return Ok(0) };
        let mut bytes = 0;
        let mut wanted = most.saturating_sub(self.ops.len());
        if wanted > 0 {
            for (id, content, length) in unread(tx, behind, |_| {
                wanted -= 1;
                wanted > 0
            })? {
                bytes += length;
                behind.read.insert(id.clone());
                self.ops.insert(id, content);
            }
        }
        Ok(bytes)
    }

    /// Writes the values as they are now.
    pub(super) fn write(self, tx: &mut (impl WriteTx + ?Sized), register_key: &[u8]) -> Result<(), StoreError> {
        if self.ops.is_empty() && self.behind.is_none() {
            return tx.delete(Table::Register, register_key);
        }
        if self.behind.is_none() && self.ops.len() <= REGISTER_ROW_VALUES {
            let row = encode_register(&self.ops, false);
            // How many they are is a byte.
            if self.ops.len() == 1 || row.len() <= REGISTER_ROW_BYTES + 1 {
                return tx.put(Table::Register, register_key, &row);
            }
        }
        self.write_apart(tx, register_key)
    }

    /// Writes values of which some have, or get, rows of their own.
    #[cold]
    fn write_apart(self, tx: &mut (impl WriteTx + ?Sized), register_key: &[u8]) -> Result<(), StoreError> {
        let behind = match self.behind {
            Some(behind) => *behind,
            None => Behind { prefix: values_prefix(register_key), read: BTreeSet::new() },
        };
        // Of those that were not read, no more can get into the row than fit into it alone, and the one that does not.
        let mut alone = Room::default();
        let not_read = unread(tx, &behind, |length| alone.takes(length))?;
        let mut room = Room::default();
        // Those that stand alone, the greatest first; with what is to be written of those that do not yet.
        let (mut row, mut apart) = (VisibleOps::new(), Vec::new());
        let mut not_read = not_read.into_iter().map(|(id, content, _)| (id, content, true)).peekable();
        let mut in_memory = self.ops.into_iter().rev().map(|(id, content)| (id, content, false)).peekable();
        loop {
            let greater = match (not_read.peek(), in_memory.peek()) {
                (Some((stored, ..)), Some((id, ..))) if stored > id => not_read.next(),
                (Some(_), None) => not_read.next(),
                _ => in_memory.next(),
            };
            let Some((id, content, is_apart)) = greater else { break };
            let mut encoded = Vec::new();
            put_value(&mut encoded, &id, &content);
            if room.takes(encoded.len()) {
                if is_apart {
                    tx.delete(Table::Register, &value_key(&behind.prefix, &id))?;
                }
                row.insert(id, content);
            } else {
                apart.push((id, (!is_apart).then_some(encoded)));
            }
        }
        for id in &behind.read {
            if apart.binary_search_by(|(found, _)| id.cmp(found)).is_err() {
                tx.delete(Table::Register, &value_key(&behind.prefix, id))?;
            }
        }
        let more = !apart.is_empty();
        for (id, encoded) in apart {
            if let Some(encoded) = encoded {
                tx.put(Table::Register, &value_key(&behind.prefix, &id), &encoded)?;
            }
        }
        if row.is_empty() {
            return tx.delete(Table::Register, register_key);
        }
        let row = encode_register(&row, more);
        // A value that is small in every sense must not cost what a large one above it would.
        if tx.get(Table::Register, register_key)?.as_deref() != Some(&row) {
            tx.put(Table::Register, register_key, &row)?;
        }
        Ok(())
    }
}

impl FromIterator<(OpId, Content)> for Values {
    fn from_iter<T: IntoIterator<Item = (OpId, Content)>>(values: T) -> Self {
        Self { ops: values.into_iter().collect(), behind: None }
    }
}

/// What a register's row has room for.
#[derive(Debug, Default)]
struct Room {
    values: usize,
    bytes: usize,
}

impl Room {
    /// Takes a value in, if there is room: the first always, however long it is, and none behind one that did not fit.
    fn takes(&mut self, length: usize) -> bool {
        let fits = self.values < REGISTER_ROW_VALUES && self.bytes + length <= REGISTER_ROW_BYTES;
        self.values += 1;
        self.bytes += length;
        fits || self.values == 1
    }
}

/// Reads the values that have rows of their own and were not read before, the greatest first, while `goes_on` says so of the
/// length of each.
fn unread(
    tx: &(impl ReadTx + ?Sized),
    behind: &Behind,
    mut goes_on: impl FnMut(usize) -> bool,
) -> Result<Vec<(OpId, Content, usize)>, StoreError> {
    let mut found = Vec::new();
    let mut failed = None;
    tx.scan(Table::Register, &behind.prefix..&prefix_end(&behind.prefix), &mut |_, row| match read_value(row) {
        Ok((id, _)) if behind.read.contains(&id) => ControlFlow::Continue(()),
        Ok((id, content)) => {
            found.push((id, content, row.len()));
            if goes_on(row.len()) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(found), Err)
}
