//! Filling in one document: what a peer lacks of it, outside of the log's order.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};

use automerge::ChangeHash;
use bytes::Bytes;

use crate::codec::v1::{RelayMessage, WritesBuilder};
use crate::id::{DocumentId, SpaceId};
use crate::ledger::snapshot::{self, SnapshotInfo};
use crate::ledger::{self, tombstone};
use crate::limits::{FILL_POSITIONS_MAX, SNAPSHOT_BYTES_MAX};
use crate::store::{ReadTx, StoreError};

/// What became of an attempt to write.
pub(super) enum Wrote {
    /// Everything is told.
    All,
    /// The message is full; the rest goes into the next.
    Full,
    /// This message goes before the next attempt. Only where the message that was to be written has nothing in it.
    Snapshot(Bytes),
}

/// A document of which a peer lacks something.
pub(super) struct Filling {
    document: DocumentId,
    /// What the peer said it has, for as long as positions are to be found by it.
    have: Vec<ChangeHash>,
    /// From here on positions are still to be found by what the peer has.
    unfound: Option<u64>,
    /// Positions to send, ascending.
    positions: VecDeque<u64>,
    /// Positions to send after those.
    rest: Range<u64>,
    snapshot: Option<SnapshotInfo>,
    is_deleted: bool,
}

impl Filling {
    /// Begins to fill in a document of which the peer has nothing, with a snapshot if it takes one.
    pub(super) fn whole(
        tx: &dyn ReadTx,
        document: DocumentId,
        count: u64,
        takes_snapshots: bool,
    ) -> Result<Self, StoreError> {
        let snapshot = if takes_snapshots { usable(tx, &document)? } else { None };
        let first = snapshot.as_ref().map_or(0, |snapshot| snapshot.count);
        Ok(Self { snapshot, rest: first..count.max(first), ..Self::nothing(document) })
    }

    /// Begins to fill in what is above the heads that the peer has.
    pub(super) fn above(document: DocumentId, have: Vec<ChangeHash>) -> Self {
        Self { have, unfound: Some(0), ..Self::nothing(document) }
    }

    /// Begins to tell that a document was deleted.
    pub(super) fn deletion(document: DocumentId) -> Self {
        Self { is_deleted: true, ..Self::nothing(document) }
    }

    fn nothing(document: DocumentId) -> Self {
        let (have, positions) = (Vec::new(), VecDeque::new());
        Self { document, have, unfound: None, positions, rest: 0..0, snapshot: None, is_deleted: false }
    }

    /// Writes what fits. What cannot be read because it is damaged is left out with all that follows.
    pub(super) fn write(
        &mut self,
        tx: &dyn ReadTx,
        space: &SpaceId,
        fill: &mut WritesBuilder,
    ) -> Result<Wrote, StoreError> {
        if self.is_deleted {
            return self.write_deletion(tx, fill);
        }
        if let Some(info) = self.snapshot.take() {
            if fill.count() > 0 {
                self.snapshot = Some(info);
                return Ok(Wrote::Full);
            }
            match read_snapshot(tx, space, &self.document, &info, 0)? {
                Some(message) => return Ok(Wrote::Snapshot(message)),
                None => self.rest.start = 0,
            }
        }
        match self.write_changes(tx, fill) {
            Err(StoreError::Damaged { .. }) => Ok(Wrote::All),
            outcome => outcome,
        }
    }

    /// Adds what came to be since it began. Returns whether that is nothing: the peer has the document as it is now.
    pub(super) fn extend(&mut self, tx: &dyn ReadTx) -> Result<bool, StoreError> {
        match ledger::state(tx, &self.document)? {
            Some(state) if state.count > self.rest.end => {
                self.rest.end = state.count;
                Ok(false)
            }
            Some(_) => Ok(true),
            None => {
                let told = self.is_deleted;
                self.is_deleted = tombstone::is_buried(tx, &self.document)?;
                Ok(told || !self.is_deleted)
            }
        }
    }

    fn write_deletion(&mut self, tx: &dyn ReadTx, fill: &mut WritesBuilder) -> Result<Wrote, StoreError> {
        let fits = match tombstone::get(tx, &self.document)? {
            Some(tombstone) => fill.deleted(&self.document, &tombstone),
            None => true,
        };
        Ok(if fits { Wrote::All } else { Wrote::Full })
    }

    fn write_changes(&mut self, tx: &dyn ReadTx, fill: &mut WritesBuilder) -> Result<Wrote, StoreError> {
        loop {
            if self.positions.is_empty() && !self.find(tx)? {
                break;
            }
            let Some(run) = self.first_run() else { break };
            let taken = write_run(tx, &self.document, run.clone(), fill)?;
            for _ in run.start..taken {
                self.positions.pop_front();
            }
            if taken < run.end {
                return Ok(Wrote::Full);
            }
        }
        let count = ledger::state(tx, &self.document)?.map_or(0, |state| state.count);
        let end = self.rest.end.min(count);
        if self.rest.start < end {
            self.rest.start = write_run(tx, &self.document, self.rest.start..end, fill)?;
            if self.rest.start < end {
                return Ok(Wrote::Full);
            }
        }
        Ok(Wrote::All)
    }

    /// Finds more positions by what the peer has. Returns whether there are any.
    fn find(&mut self, tx: &dyn ReadTx) -> Result<bool, StoreError> {
        let Some(from) = self.unfound.take() else { return Ok(false) };
        let Some(state) = ledger::state(tx, &self.document)? else { return Ok(false) };
        let missing = ledger::missing_runs(tx, &self.document, &state, &self.have)?;
        let mut missing = missing.into_iter().flat_map(|run| run.start.max(from)..run.end);
        self.positions.extend(missing.by_ref().take(FILL_POSITIONS_MAX));
        self.unfound = missing.next();
        if self.unfound.is_none() {
            self.have = Vec::new();
            // What comes behind is lacking too; it is sent if the document is to be followed.
            self.rest = state.count..state.count;
        }
        Ok(!self.positions.is_empty())
    }

    /// Returns the positions that follow one another at the front.
    fn first_run(&self) -> Option<Range<u64>> {
        let first = *self.positions.front()?;
        let length = self.positions.iter().zip(first..).take_while(|(found, expected)| *found == expected).count();
        Some(first..first + length as u64)
    }
}

/// Writes the changes of a run that fit, and returns the position of the first that does not.
pub(super) fn write_run(
    tx: &dyn ReadTx,
    document: &DocumentId,
    run: Range<u64>,
    fill: &mut WritesBuilder,
) -> Result<u64, StoreError> {
    let mut next = run.start;
    if run.start + 1 == run.end {
        let bytes = ledger::change(tx, document, run.start)?;
        return Ok(if fill.change(document, &bytes) { run.end } else { run.start });
    }
    ledger::export(tx, document, run.start, &mut |bytes| {
        if next == run.end || !fill.change(document, bytes) {
            return ControlFlow::Break(());
        }
        next += 1;
        ControlFlow::Continue(())
    })?;
    // The first change always fits an empty message, so there is none where one should be.
    if next == run.start && run.start < run.end && fill.count() == 0 {
        return Err(StoreError::Damaged { what: "the changes of a document" });
    }
    Ok(next)
}

/// Returns what is known of a document's snapshot, if it may be sent.
pub(super) fn usable(tx: &dyn ReadTx, document: &DocumentId) -> Result<Option<SnapshotInfo>, StoreError> {
    let info = snapshot::info(tx, document)?;
    Ok(info.filter(|info| info.count > 0 && info.bytes <= SNAPSHOT_BYTES_MAX as u64 && !info.heads.is_empty()))
}

/// Returns the message that brings a snapshot, or `None` if it is not there any more.
pub(super) fn read_snapshot(
    tx: &dyn ReadTx,
    space: &SpaceId,
    document: &DocumentId,
    info: &SnapshotInfo,
    position: u64,
) -> Result<Option<Bytes>, StoreError> {
    // It may have been made anew, or be gone, since it was looked at.
    if usable(tx, document)?.as_ref() != Some(info) {
        return Ok(None);
    }
    let Some(chunk) = snapshot::chunk(tx, document)?.filter(|chunk| chunk.len() <= SNAPSHOT_BYTES_MAX) else {
        return Ok(None);
    };
    let (heads, chunk) = (info.heads.clone(), Bytes::from(chunk));
    Ok(Some(RelayMessage::Snapshot { space: *space, document: *document, position, heads, chunk }.encode()))
}
