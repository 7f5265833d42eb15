//! Reading the log from a cursor on.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::{Run, Standing, runs_after, standing};
use crate::id::{DocumentId, SpaceId};
use crate::ledger::{self, spaces};
use crate::limits::{LOG_ENTRY_BYTES, LOG_ROWS_READ};
use crate::store::{ReadTx, StoreError};

/// One entry of a space's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'e> {
    /// Its position.
    pub position: u64,
    /// Which document it is about.
    pub document: DocumentId,
    /// What happened.
    pub what: What<'e>,
}

/// What happened at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum What<'e> {
    /// A change became durable.
    Change {
        /// Its place in the ledger.
        ledger_position: u64,
        /// Its bytes, an uncompressed chunk.
        bytes: &'e [u8],
    },
    /// The document was deleted everywhere: [`tombstone::get`](crate::ledger::tombstone::get) says how.
    Deleted,
    /// The document is damaged: the changes from here to this position cannot be read.
    Lost,
}

/// Gets the entries of a log in their order. Break to stop: the entry it was shown counts as visited.
pub type EntryVisitor<'v> = dyn FnMut(Entry<'_>) -> ControlFlow<()> + 'v;

/// Visits the entries of a space after a position, in order, as many as fit into `bytes_max`; the first one always does.
/// Returns the position to go on after: what is up to there was visited, or means nothing any more. At [`super::end`] the
/// reader has everything.
///
/// An entry counts as its change's bytes and [`LOG_ENTRY_BYTES`]. Cost: one row for each run of changes of a document; what
/// is not packed is one lookup a change, in a run a scan. A pack is opened once for a run, and once in all as long as the
/// packs of the documents that were written at the same time fit into [`PACK_CACHE_BYTES`](crate::limits::PACK_CACHE_BYTES).
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read; [`StoreError::Folded`] if a change is still inside its document's snapshot.
pub fn read(
    tx: &(impl ReadTx + ?Sized),
    space: &SpaceId,
    after: u64,
    bytes_max: u64,
    visit: &mut EntryVisitor<'_>,
) -> Result<u64, StoreError> {
    let mut reading = Reading { tx, space, bytes_max, bytes: 0, at: after, documents: HashMap::new() };
    loop {
        let runs = runs_after(tx, space, reading.at, LOG_ROWS_READ)?;
        if runs.is_empty() {
            return Ok(reading.at);
        }
        for (last, run) in runs {
            if reading.run(last, &run, visit)?.is_break() {
                return Ok(reading.at);
            }
        }
        reading.documents.clear();
    }
}

struct Reading<'r, T: ReadTx + ?Sized> {
    tx: &'r T,
    space: &'r SpaceId,
    bytes_max: u64,
    /// What was visited counts so much.
    bytes: u64,
    /// Up to here everything is visited or skipped.
    at: u64,
    /// What the log knows of the documents met last; `None` for those of another space.
    documents: HashMap<DocumentId, Option<Standing>>,
}

impl<T: ReadTx + ?Sized> Reading<'_, T> {
    fn run(&mut self, last: u64, run: &Run, visit: &mut EntryVisitor<'_>) -> Result<ControlFlow<()>, StoreError> {
        let first = (last + 1).checked_sub(run.positions()).ok_or(StoreError::Damaged { what: super::LOG })?;
        if !self.is_live(first, run)? {
            self.at = last;
            return Ok(ControlFlow::Continue(()));
        }
        if run.changes == 0 {
            return Ok(self.visit(Entry { position: last, document: run.document, what: What::Deleted }, visit));
        }
        // A reader may stop inside a run, and go on there.
        let skipped = (self.at + 1).saturating_sub(first);
        let flow = match self.changes(first, run, skipped, visit) {
            Err(StoreError::Damaged { .. }) => ControlFlow::Continue(()),
            outcome => outcome?,
        };
        if flow.is_continue() && self.at < last {
            let entry = Entry { position: last, document: run.document, what: What::Lost };
            return Ok(self.visit(entry, visit));
        }
        Ok(flow)
    }

    /// Visits the changes of a run, but for the first few.
    fn changes(
        &mut self,
        first: u64,
        run: &Run,
        skipped: u64,
        visit: &mut EntryVisitor<'_>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let document = run.document;
        let (mut position, mut ledger_position) = (first + skipped, run.ledger_first + skipped);
        let end = run.ledger_first + run.changes;
        if ledger_position + 1 == end {
            let bytes = ledger::change(self.tx, &document, ledger_position)?;
            let what = What::Change { ledger_position, bytes: &bytes };
            return Ok(self.visit(Entry { position, document, what }, visit));
        }
        let mut flow = ControlFlow::Continue(());
        let tx = self.tx;
        ledger::export(tx, &document, ledger_position, &mut |bytes| {
            if ledger_position == end {
                return ControlFlow::Break(());
            }
            flow = self.visit(Entry { position, document, what: What::Change { ledger_position, bytes } }, visit);
            position += 1;
            ledger_position += 1;
            flow
        })?;
        Ok(flow)
    }

    /// Visits an entry if it fits.
    fn visit(&mut self, entry: Entry<'_>, visit: &mut EntryVisitor<'_>) -> ControlFlow<()> {
        let length = if let What::Change { bytes, .. } = entry.what { bytes.len() as u64 } else { 0 };
        let bytes = self.bytes.saturating_add(length).saturating_add(LOG_ENTRY_BYTES);
        if self.bytes > 0 && bytes > self.bytes_max {
            return ControlFlow::Break(());
        }
        self.bytes = bytes;
        self.at = entry.position;
        visit(entry)
    }

    /// Says whether what a run tells still holds.
    fn is_live(&mut self, first: u64, run: &Run) -> Result<bool, StoreError> {
        let known = match self.documents.get(&run.document) {
            Some(known) => *known,
            None => {
                let here = spaces::of(self.tx, &run.document)? == *self.space;
                let known = if here { standing(self.tx, &run.document)? } else { None };
                self.documents.insert(run.document, known);
                known
            }
        };
        Ok(known.is_some_and(|standing| {
            let holds = if run.changes > 0 { standing.count > 0 } else { standing.deletion.is_some() };
            holds && first >= standing.void_below
        }))
    }
}
