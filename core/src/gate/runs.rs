//! Run-length encoded columns: their totals and canonical form in one pass over the bytes, then their rows one by one.
//!
//! A column of 20 bytes can claim 10^9 rows. So rows are only ever walked after [`scan`] summed the run lengths, at a
//! cost that depends on the bytes alone. Decoders copy no value and allocate nothing: a run's value is decoded once.

use super::leb::Reader;
use super::{GateError, Rule};

/// What a column's cell can be.
pub(crate) trait Cell<'a>: Copy + PartialEq {
    /// Reads one value.
    fn read(reader: &mut Reader<'a>) -> Result<Self, GateError>;

    /// Passes over a value that was read before.
    #[inline]
    fn skip(reader: &mut Reader<'a>) -> Result<(), GateError> {
        Self::read(reader).map(drop)
    }
}

impl<'a> Cell<'a> for u64 {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, GateError> {
        reader.unsigned()
    }
}

impl<'a> Cell<'a> for i64 {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, GateError> {
        reader.signed()
    }
}

impl<'a> Cell<'a> for &'a str {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, GateError> {
        std::str::from_utf8(reader.prefixed()?).map_err(|_| Rule::Text.error())
    }

    // That it is UTF-8 was found when it was read: to look one key up among a thousand is not to check them all again.
    #[inline]
    fn skip(reader: &mut Reader<'a>) -> Result<(), GateError> {
        reader.prefixed().map(drop)
    }
}

/// What the previous run of a column was.
#[derive(Clone, Copy, PartialEq)]
enum Previous<T> {
    Start,
    Null,
    Run(T),
    Literal(T),
}

/// Sums the rows of a column and checks that it is written as Automerge would write it.
///
/// `visit` gets each run: its value (none for nulls) and how often it stands. Cost: O(bytes), no allocation.
pub(crate) fn scan<'a, T: Cell<'a>>(
    column: &'a [u8],
    rows_max: u64,
    mut visit: impl FnMut(Option<T>, u64) -> Result<(), GateError>,
) -> Result<u64, GateError> {
    let mut reader = Reader::new(column);
    let mut rows = 0u64;
    let mut previous = Previous::Start;
    let mut values = false;
    while !reader.is_empty() {
        let head = reader.signed()?;
        let length = if head == 0 { reader.unsigned()? } else { head.unsigned_abs() };
        rows = rows.saturating_add(length);
        Rule::ColumnLength.at_most(rows, rows_max)?;
        previous = match head {
            0 => {
                Rule::Runs.require(length > 0 && previous != Previous::Null)?;
                visit(None, length)?;
                Previous::Null
            }
            1 => return Err(Rule::Runs.error()),
            2.. => {
                let value = T::read(&mut reader)?;
                Rule::Runs.require(previous != Previous::Run(value) && previous != Previous::Literal(value))?;
                visit(Some(value), length)?;
                values = true;
                Previous::Run(value)
            }
            ..0 => {
                Rule::Runs.require(!matches!(previous, Previous::Literal(_)))?;
                values = true;
                scan_literals(&mut reader, length, previous, &mut visit)?
            }
        };
    }
    // A column of nothing but nulls is left out.
    Rule::Runs.require(values || column.is_empty())?;
    Ok(rows)
}

/// Reads `length` values of which no two neighbours are equal: equal ones would be a run.
fn scan_literals<'a, T: Cell<'a>>(
    reader: &mut Reader<'a>,
    length: u64,
    mut previous: Previous<T>,
    visit: &mut impl FnMut(Option<T>, u64) -> Result<(), GateError>,
) -> Result<Previous<T>, GateError> {
    for _ in 0..length {
        let value = T::read(reader)?;
        Rule::Runs.require(previous != Previous::Run(value) && previous != Previous::Literal(value))?;
        visit(Some(value), 1)?;
        previous = Previous::Literal(value);
    }
    Ok(previous)
}

/// Sums the rows of a boolean column and checks its canonical form. Returns the rows and how many are true.
pub(crate) fn scan_booleans(column: &[u8], rows_max: u64) -> Result<(u64, u64), GateError> {
    let mut reader = Reader::new(column);
    let (mut rows, mut trues) = (0u64, 0u64);
    let (mut first, mut value) = (true, false);
    while !reader.is_empty() {
        let length = reader.unsigned()?;
        // Only the first count, that of `false`, may be zero, and only because `true` follows.
        Rule::Runs.require(length > 0 || (first && !reader.is_empty()))?;
        rows = rows.saturating_add(length);
        Rule::ColumnLength.at_most(rows, rows_max)?;
        if value {
            trues += length;
        }
        (first, value) = (false, !value);
    }
    Ok((rows, trues))
}

/// Walks the rows of a run-length encoded column. An absent column is nulls without end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Runs<'a, T> {
    reader: Reader<'a>,
    left: u64,
    literal: bool,
    value: Option<T>,
}

impl<'a, T: Cell<'a>> Runs<'a, T> {
    /// Starts before the first row.
    pub(crate) const fn new(column: &'a [u8]) -> Self {
        Self { reader: Reader::new(column), left: 0, literal: false, value: None }
    }

    /// Takes the next row.
    #[inline]
    pub(crate) fn next_row(&mut self) -> Result<Option<T>, GateError> {
        if self.left == 0 {
            if self.reader.is_empty() {
                return Ok(None);
            }
            self.start_run()?;
        }
        self.left = self.left.saturating_sub(1);
        if self.literal { T::read(&mut self.reader).map(Some) } else { Ok(self.value) }
    }

    /// Passes over rows of a column that was scanned. Cost: O(bytes) of the runs passed, however long they are.
    pub(crate) fn skip_rows(&mut self, mut rows: u64) -> Result<(), GateError> {
        while rows > 0 {
            let passed = self.pass(rows)?;
            if passed == 0 {
                return Ok(());
            }
            if self.literal {
                (0..passed).try_for_each(|_| T::skip(&mut self.reader))?;
            }
            rows -= passed;
        }
        Ok(())
    }

    /// Goes on to where rows are left, and returns how many of these are of one run; 0 at the column's end. Of literals, the values
    /// are still to be read.
    fn pass(&mut self, rows: u64) -> Result<u64, GateError> {
        if self.left == 0 && !self.reader.is_empty() {
            self.start_run()?;
        }
        let passed = rows.min(self.left);
        self.left -= passed;
        Ok(passed)
    }

    fn start_run(&mut self) -> Result<(), GateError> {
        let head = self.reader.signed()?;
        self.literal = head < 0;
        self.left = if head == 0 { self.reader.unsigned()? } else { head.unsigned_abs() };
        self.value = if head > 0 { Some(T::read(&mut self.reader)?) } else { None };
        Ok(())
    }
}

/// Walks the rows of a column of differences and adds them up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deltas<'a> {
    runs: Runs<'a, i64>,
    absolute: i64,
}

impl<'a> Deltas<'a> {
    /// Starts before the first row, at zero.
    pub(crate) const fn new(column: &'a [u8]) -> Self {
        Self { runs: Runs::new(column), absolute: 0 }
    }

    /// Takes the next row: a counter, so never below zero.
    #[inline]
    pub(crate) fn next_row(&mut self) -> Result<Option<u64>, GateError> {
        let Some(delta) = self.runs.next_row()? else { return Ok(None) };
        self.add(delta, 1)?;
        u64::try_from(self.absolute).map(Some).map_err(|_| Rule::Reference.error())
    }

    /// Passes over rows. Cost: O(bytes) of the runs passed.
    pub(crate) fn skip_rows(&mut self, mut rows: u64) -> Result<(), GateError> {
        while rows > 0 {
            let passed = self.runs.pass(rows)?;
            if passed == 0 {
                return Ok(());
            }
            if self.runs.literal {
                for _ in 0..passed {
                    let delta = i64::read(&mut self.runs.reader)?;
                    self.add(delta, 1)?;
                }
            } else if let Some(delta) = self.runs.value {
                self.add(delta, passed)?;
            }
            rows -= passed;
        }
        Ok(())
    }

    fn add(&mut self, delta: i64, times: u64) -> Result<(), GateError> {
        let step = i64::try_from(times).ok().and_then(|times| delta.checked_mul(times));
        let absolute = step.and_then(|step| self.absolute.checked_add(step));
        self.absolute = absolute.ok_or_else(|| Rule::Reference.error())?;
        Ok(())
    }
}

/// Walks the rows of a boolean column. An absent column is `false` without end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Booleans<'a> {
    reader: Reader<'a>,
    left: u64,
    value: bool,
}

impl<'a> Booleans<'a> {
    /// Starts before the first row.
    pub(crate) const fn new(column: &'a [u8]) -> Self {
        Self { reader: Reader::new(column), left: 0, value: true }
    }

    /// Takes the next row.
    #[inline]
    pub(crate) fn next_row(&mut self) -> Result<bool, GateError> {
        while self.left == 0 {
            if self.reader.is_empty() {
                return Ok(false);
            }
            self.left = self.reader.unsigned()?;
            self.value = !self.value;
        }
        self.left -= 1;
        Ok(self.value)
    }

    /// Passes over rows. Cost: O(bytes) of the runs passed.
    pub(crate) fn skip_rows(&mut self, mut rows: u64) -> Result<(), GateError> {
        while rows > 0 {
            if self.left == 0 {
                if self.reader.is_empty() {
                    return Ok(());
                }
                self.left = self.reader.unsigned()?;
                self.value = !self.value;
            }
            let passed = rows.min(self.left);
            self.left -= passed;
            rows -= passed;
        }
        Ok(())
    }
}
