//! Receipts of a document whose changes get other positions, because some were taken out.

use super::{Waiting, put, waiting};
use crate::id::DocumentId;
use crate::store::{StoreError, WriteTx};

/// Moves what is known of a document's changes to where they are after those at `removed`, ascending, were taken out.
///
/// A row judges the changes before it, so one that stands at a removed position goes to the last one kept before it.
pub(crate) fn renumber(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    removed: &[u64],
) -> Result<(), StoreError> {
    let kept_below = |position: u64| position - removed.partition_point(|at| *at < position) as u64;
    let before = waiting(tx, document)?;
    let mut after = Waiting { seen_below: kept_below(before.seen_below), ..Waiting::default() };
    for ((position, epoch), log_position) in before.rows.iter().rev() {
        let is_kept = removed.binary_search(position).is_err();
        let moved = kept_below(*position);
        if is_kept {
            after.rows.insert((moved, *epoch), *log_position);
        } else if let Some(last) = moved.checked_sub(1) {
            // A row that stands there judges for itself, and is met after this one.
            after.rows.insert((last, *epoch), *log_position);
        }
    }
    put(tx, document, &before, &after)
}
