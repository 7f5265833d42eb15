//! The columns of a change: which there are, how many rows they have, and whether they agree.

use super::leb::Reader;
use super::runs::{scan, scan_booleans};
use super::{GateError, Rule};
use crate::limits::{CHANGE_COLUMNS_MAX, CHANGE_NAME_BYTES_MAX, CHANGE_OPS_MAX, CHANGE_PREDS_MAX};

/// The highest action an operation may have.
const ACTION_MAX: u64 = 7;

/// Where a column's bytes are in a chunk.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Names the bytes `start..end` of a chunk; a chunk is far below 4 GiB.
    pub(crate) fn new(start: usize, end: usize) -> Result<Self, GateError> {
        let narrow = |at: usize| u32::try_from(at).map_err(|_| Rule::ChangeTooLarge.error());
        Ok(Self { start: narrow(start)?, end: narrow(end)? })
    }

    /// Returns the bytes; empty if the column is absent.
    #[inline]
    pub(crate) fn of(self, chunk: &[u8]) -> &[u8] {
        // A u32 always fits the 32 bit and wider targets this crate builds for.
        chunk.get(self.start as usize..self.end as usize).unwrap_or(&[])
    }

    fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// The columns of a change. The number of a column is id x 16 + type.
#[derive(Debug, Clone, Default)]
pub(crate) struct Columns {
    pub(crate) object_actor: Span,
    pub(crate) object_counter: Span,
    pub(crate) key_actor: Span,
    pub(crate) key_counter: Span,
    pub(crate) key_text: Span,
    pub(crate) insert: Span,
    pub(crate) action: Span,
    pub(crate) value_meta: Span,
    pub(crate) value: Span,
    pub(crate) pred_count: Span,
    pub(crate) pred_actor: Span,
    pub(crate) pred_counter: Span,
    pub(crate) expand: Span,
    pub(crate) mark_name: Span,
}

/// The numbers of the columns, as they stand in a change.
pub(crate) mod number {
    pub(crate) const OBJECT_ACTOR: u64 = 0x01;
    pub(crate) const OBJECT_COUNTER: u64 = 0x02;
    pub(crate) const KEY_ACTOR: u64 = 0x11;
    pub(crate) const KEY_COUNTER: u64 = 0x13;
    pub(crate) const KEY_TEXT: u64 = 0x15;
    pub(crate) const INSERT: u64 = 0x34;
    pub(crate) const ACTION: u64 = 0x42;
    pub(crate) const VALUE_META: u64 = 0x56;
    pub(crate) const VALUE: u64 = 0x57;
    pub(crate) const PRED_COUNT: u64 = 0x70;
    pub(crate) const PRED_ACTOR: u64 = 0x71;
    pub(crate) const PRED_COUNTER: u64 = 0x73;
    pub(crate) const EXPAND: u64 = 0x94;
    pub(crate) const MARK_NAME: u64 = 0xa5;
}

impl Columns {
    /// Reads the column table and locates each column; leaves the reader after the last column.
    ///
    /// Unknown columns are refused: Automerge drops them when it saves, and then the change has another hash.
    pub(crate) fn parse(reader: &mut Reader<'_>, chunk_bytes: usize) -> Result<Self, GateError> {
        let count = reader.unsigned()?;
        Rule::Columns.at_most(count, CHANGE_COLUMNS_MAX as u64)?;
        let mut table = *reader;
        let mut last = None;
        for _ in 0..count {
            let (number, length) = (reader.unsigned()?, reader.unsigned()?);
            Rule::Columns.require(length > 0 && last < Some(number))?;
            last = Some(number);
        }
        let mut columns = Self::default();
        for _ in 0..count {
            let (number, length) = (table.unsigned()?, table.unsigned()?);
            let start = chunk_bytes - reader.len();
            reader.take(length)?;
            let slot = columns.slot(number).ok_or_else(|| Rule::Columns.found(number, number::MARK_NAME))?;
            *slot = Span::new(start, chunk_bytes - reader.len())?;
        }
        Ok(columns)
    }

    /// Returns every column that a change can have with its number, in their order; absent ones are empty.
    pub(crate) fn all(&self) -> [(u64, Span); 14] {
        [
            (number::OBJECT_ACTOR, self.object_actor),
            (number::OBJECT_COUNTER, self.object_counter),
            (number::KEY_ACTOR, self.key_actor),
            (number::KEY_COUNTER, self.key_counter),
            (number::KEY_TEXT, self.key_text),
            (number::INSERT, self.insert),
            (number::ACTION, self.action),
            (number::VALUE_META, self.value_meta),
            (number::VALUE, self.value),
            (number::PRED_COUNT, self.pred_count),
            (number::PRED_ACTOR, self.pred_actor),
            (number::PRED_COUNTER, self.pred_counter),
            (number::EXPAND, self.expand),
            (number::MARK_NAME, self.mark_name),
        ]
    }

    fn slot(&mut self, number: u64) -> Option<&mut Span> {
        Some(match number {
            number::OBJECT_ACTOR => &mut self.object_actor,
            number::OBJECT_COUNTER => &mut self.object_counter,
            number::KEY_ACTOR => &mut self.key_actor,
            number::KEY_COUNTER => &mut self.key_counter,
            number::KEY_TEXT => &mut self.key_text,
            number::INSERT => &mut self.insert,
            number::ACTION => &mut self.action,
            number::VALUE_META => &mut self.value_meta,
            number::VALUE => &mut self.value,
            number::PRED_COUNT => &mut self.pred_count,
            number::PRED_ACTOR => &mut self.pred_actor,
            number::PRED_COUNTER => &mut self.pred_counter,
            number::EXPAND => &mut self.expand,
            number::MARK_NAME => &mut self.mark_name,
            _ => return None,
        })
    }

    /// Sums the rows of every column and checks that all agree. Returns the number of operations.
    ///
    /// `used` is told each actor index. Cost: O(bytes), no matter how many rows the runs claim.
    pub(crate) fn check_totals(
        &self,
        chunk: &[u8],
        mut used: impl FnMut(u64) -> Result<(), GateError>,
    ) -> Result<u64, GateError> {
        let ops = self.count_ops(chunk)?;
        let whole = |rows: u64| Rule::ColumnLength.require(rows == ops);
        // A nullable column is left out when it holds nothing, and is as long as the others when it is there.
        let nullable = |span: Span, rows: u64| Rule::ColumnLength.require(span.is_empty() || rows == ops);
        let mut actors = |actor: Option<u64>, _| actor.map_or(Ok(()), &mut used);
        nullable(self.object_actor, scan(self.object_actor.of(chunk), ops, &mut actors)?)?;
        nullable(self.object_counter, scan(self.object_counter.of(chunk), ops, |_: Option<u64>, _| Ok(()))?)?;
        nullable(self.key_actor, scan(self.key_actor.of(chunk), ops, &mut actors)?)?;
        nullable(self.key_counter, scan(self.key_counter.of(chunk), ops, |_: Option<i64>, _| Ok(()))?)?;
        // Automerge copies a name for every operation that has it, however short the run is written.
        let mut name_bytes = 0u64;
        let mut names = |name: Option<&str>, times: u64| {
            let bytes = name.map_or(0, |name| name.len() as u64).saturating_mul(times);
            name_bytes = name_bytes.saturating_add(bytes);
            Rule::NamesTooLong.at_most(name_bytes, CHANGE_NAME_BYTES_MAX)
        };
        nullable(self.key_text, scan(self.key_text.of(chunk), ops, &mut names)?)?;
        nullable(self.mark_name, scan(self.mark_name.of(chunk), ops, &mut names)?)?;
        whole(scan_booleans(self.insert.of(chunk), ops)?.0)?;
        let (rows, trues) = scan_booleans(self.expand.of(chunk), ops)?;
        nullable(self.expand, rows)?;
        Rule::Runs.require(self.expand.is_empty() || trues > 0)?;
        whole(self.check_values(chunk, ops)?)?;
        let (rows, preds) = self.count_preds(chunk, ops)?;
        whole(rows)?;
        let not_null = |value: Option<i64>, _| Rule::ColumnLength.require(value.is_some());
        let rows = scan(self.pred_actor.of(chunk), preds, |actor: Option<u64>, _| {
            actor.map_or(Err(Rule::ColumnLength.error()), &mut used)
        })?;
        Rule::ColumnLength.require(rows == preds)?;
        Rule::ColumnLength.require(scan(self.pred_counter.of(chunk), preds, not_null)? == preds)?;
        Ok(ops)
    }

    fn count_ops(&self, chunk: &[u8]) -> Result<u64, GateError> {
        let mut ops = 0u64;
        scan(self.action.of(chunk), u64::MAX, |action: Option<u64>, length| {
            ops = ops.saturating_add(length);
            Rule::TooManyOps.at_most(ops, CHANGE_OPS_MAX)?;
            Rule::ActionUnknown.at_most(action.unwrap_or(u64::MAX), ACTION_MAX)
        })
    }

    fn count_preds(&self, chunk: &[u8], ops: u64) -> Result<(u64, u64), GateError> {
        let mut preds = 0u64;
        let rows = scan(self.pred_count.of(chunk), ops, |count: Option<u64>, length| {
            let count = count.ok_or_else(|| Rule::ColumnLength.error())?;
            preds = preds.saturating_add(count.saturating_mul(length));
            Rule::TooManyPreds.at_most(preds, CHANGE_PREDS_MAX)
        })?;
        Ok((rows, preds))
    }

    /// Sums the lengths that the metadata claims against the bytes that are there. Returns the rows.
    fn check_values(&self, chunk: &[u8], ops: u64) -> Result<u64, GateError> {
        let bytes = self.value.of(chunk).len() as u64;
        let mut claimed = 0u64;
        let rows = scan(self.value_meta.of(chunk), ops, |meta: Option<u64>, length| {
            let meta = meta.ok_or_else(|| Rule::ColumnLength.error())?;
            claimed = claimed.saturating_add((meta >> 4).saturating_mul(length));
            Rule::Value.at_most(claimed, bytes)
        })?;
        Rule::Value.require(claimed == bytes)?;
        Ok(rows)
    }
}
