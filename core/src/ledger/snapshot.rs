//! Snapshots: the changes below a position once more, as one whole-document chunk, for peers that have nothing.
//!
//! A snapshot is a copy. It may be deleted at any time, and nothing but a first sync is served from it.

use automerge::ChangeHash;

use super::{DocumentState, position, state};
use crate::id::DocumentId;
use crate::limits::{FOLD_BYTES_MAX, FOLD_CHANGES_MAX, FOLD_CHANGES_MIN, FOLD_FAILURES_MAX, FOLD_GROWTH_DIVISOR};
use crate::store::record::{self, Reader, tail_key};
use crate::store::{ReadTx, StoreError, Table, WriteTx};

/// The first byte of each record.
const VERSION: u8 = 1;

/// Ends the key of a document's chunk.
const CHUNK: &[u8] = &[1];
/// Ends the key of what is known of attempts that failed.
const FAILURES: &[u8] = &[2];

/// What is known of a document's snapshot without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// It holds exactly the changes below this position.
    pub count: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The heads it ends with, ascending.
    pub heads: Vec<ChangeHash>,
}

/// Returns what is known of a document's snapshot, or `None` if there is none. Cost: one lookup.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn info(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<Option<SnapshotInfo>, StoreError> {
    let Some(bytes) = tx.get(Table::Snapshot, document.as_bytes())? else { return Ok(None) };
    let mut reader = Reader::new(&bytes, "snapshot-1");
    if reader.byte()? != VERSION {
        // A newer version's snapshot is as good as none: there will be another.
        return Ok(None);
    }
    let (count, bytes) = (reader.count()?, reader.count()?);
    let heads = (0..reader.count()?).map(|_| reader.hash()).collect::<Result<_, _>>()?;
    Ok(Some(SnapshotInfo { count, bytes, heads }))
}

/// Returns the chunk of a document's snapshot. Cost: its size.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn chunk(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<Option<Vec<u8>>, StoreError> {
    tx.get(Table::Snapshot, &tail_key(document, CHUNK))
}

/// Puts a snapshot in the place of the last one, if it holds just the changes below `count` of the ledger; says whether
/// it does. It forgets failures.
///
/// A document that was deleted since the snapshot was begun, and perhaps made again in another order, has other changes
/// there.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used.
pub fn put(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    count: u64,
    heads: &[ChangeHash],
    chunk: &[u8],
) -> Result<bool, StoreError> {
    // The snapshot has as many changes, all of them ancestors of its heads. If no head stands above them, they stand
    // just there.
    for head in heads {
        if position(tx, document, head)?.is_none_or(|position| position >= count) {
            return Ok(false);
        }
    }
    if state(tx, document)?.is_none_or(|state| state.count < count) {
        return Ok(false);
    }
    let mut out = vec![VERSION];
    record::put_uint(&mut out, count);
    record::put_uint(&mut out, chunk.len() as u64);
    record::put_uint(&mut out, heads.len() as u64);
    heads.iter().for_each(|hash| out.extend_from_slice(&hash.0));
    tx.put(Table::Snapshot, document.as_bytes(), &out)?;
    tx.put(Table::Snapshot, &tail_key(document, CHUNK), chunk)?;
    tx.delete(Table::Snapshot, &tail_key(document, FAILURES))?;
    Ok(true)
}

/// Notes that a document of this many changes could not be folded. A snapshot that is there stays.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used.
pub fn note_failure(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId, count: u64) -> Result<(), StoreError> {
    if state(tx, document)?.is_none() {
        return Ok(());
    }
    let (failures, _) = failures(tx, document)?;
    let mut out = vec![VERSION];
    record::put_uint(&mut out, failures + 1);
    record::put_uint(&mut out, count);
    tx.put(Table::Snapshot, &tail_key(document, FAILURES), &out)
}

/// Returns how often a document could not be folded since it last could, and how many changes it had the last time.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn failures(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<(u64, u64), StoreError> {
    let Some(bytes) = tx.get(Table::Snapshot, &tail_key(document, FAILURES))? else { return Ok((0, 0)) };
    let mut reader = Reader::new(&bytes, "snapshot-1");
    if reader.byte()? != VERSION {
        return Ok((0, 0));
    }
    Ok((reader.count()?, reader.count()?))
}

/// Says whether it is time to fold a document: it is long enough, has grown enough since the last time, and has not
/// failed too often. Cost: two lookups.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn is_due(tx: &(impl ReadTx + ?Sized), document: &DocumentId, state: &DocumentState) -> Result<bool, StoreError> {
    let fits = state.bytes <= FOLD_BYTES_MAX as u64 && state.count <= FOLD_CHANGES_MAX as u64;
    if state.count < FOLD_CHANGES_MIN || !fits {
        return Ok(false);
    }
    let folded = info(tx, document)?.map_or(0, |snapshot| snapshot.count);
    if state.count < folded + folded.div_ceil(FOLD_GROWTH_DIVISOR) {
        return Ok(false);
    }
    let (failures, failed_at) = failures(tx, document)?;
    Ok(failures < FOLD_FAILURES_MAX || state.count >= failed_at.saturating_mul(2))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::gate::encode;
    use crate::gate::tests::field_draft;
    use crate::ledger::{self, Appender};
    use crate::store::{MemoryStore, Store, StoreExt};

    const DOCUMENT: DocumentId = DocumentId::from_bytes([1; 16]);

    /// Appends changes, one after the other, until there are this many.
    fn grow(store: &MemoryStore, count: u64) -> DocumentState {
        let work = |tx: &mut dyn WriteTx| {
            let mut appender = Appender::begin(tx, DOCUMENT)?;
            while appender.state().count < count {
                let state = appender.state();
                let draft = field_draft(b"alice", state.count + 1, state.max_op + 1, state.head_hashes());
                appender.append(tx, &encode(&draft).unwrap())?;
            }
            appender.finish(tx)
        };
        store.write_with(work).unwrap()
    }

    fn due(store: &MemoryStore, state: &DocumentState) -> bool {
        is_due(store.read().unwrap().as_ref(), &DOCUMENT, state).unwrap()
    }

    #[test]
    fn snapshot_comes_back_and_is_made_again_after_a_quarter() {
        let store = MemoryStore::new();
        assert!(!due(&store, &grow(&store, FOLD_CHANGES_MIN - 1)));
        let state = grow(&store, FOLD_CHANGES_MIN);
        assert!(due(&store, &state));
        let heads = state.head_hashes();
        let put = store.write_with(|tx| put(tx, &DOCUMENT, state.count, &heads, b"chunk")).unwrap();
        assert!(put);
        let tx = store.read().unwrap();
        let expected = SnapshotInfo { count: state.count, bytes: 5, heads };
        assert_eq!(info(tx.as_ref(), &DOCUMENT).unwrap(), Some(expected));
        assert_eq!(chunk(tx.as_ref(), &DOCUMENT).unwrap().unwrap(), b"chunk");
        let quarter = FOLD_CHANGES_MIN / FOLD_GROWTH_DIVISOR;
        assert!(!due(&store, &grow(&store, FOLD_CHANGES_MIN + quarter - 1)));
        assert!(due(&store, &grow(&store, FOLD_CHANGES_MIN + quarter)));
    }

    #[test]
    fn document_that_fails_twice_is_left_alone_until_it_is_twice_as_long() {
        let store = MemoryStore::new();
        let state = grow(&store, FOLD_CHANGES_MIN);
        for attempt in 1..=FOLD_FAILURES_MAX {
            assert!(due(&store, &state));
            store.write_with(|tx| note_failure(tx, &DOCUMENT, state.count)).unwrap();
            assert_eq!(failures(store.read().unwrap().as_ref(), &DOCUMENT).unwrap(), (attempt, state.count));
        }
        assert!(!due(&store, &grow(&store, 2 * FOLD_CHANGES_MIN - 1)));
        let state = grow(&store, 2 * FOLD_CHANGES_MIN);
        assert!(due(&store, &state));
        store.write_with(|tx| note_failure(tx, &DOCUMENT, state.count)).unwrap();
        assert!(!due(&store, &state));
        store.write_with(|tx| put(tx, &DOCUMENT, state.count, &state.head_hashes(), b"")).unwrap();
        assert_eq!(failures(store.read().unwrap().as_ref(), &DOCUMENT).unwrap(), (0, 0));
    }

    #[test]
    fn snapshot_of_a_document_that_was_deleted_meanwhile_is_dropped() {
        let store = MemoryStore::new();
        let state = grow(&store, 3);
        let offer = |count| store.write_with(|tx| put(tx, &DOCUMENT, count, &state.head_hashes(), b"")).unwrap();
        assert!(!offer(2));
        assert!(!offer(4));
        assert!(offer(3));
        store.write_with(|tx| ledger::delete(tx, &DOCUMENT)).unwrap();
        assert_eq!(info(store.read().unwrap().as_ref(), &DOCUMENT).unwrap(), None);
        assert!(!offer(3));
        store.write_with(|tx| note_failure(tx, &DOCUMENT, 3)).unwrap();
        assert_eq!(failures(store.read().unwrap().as_ref(), &DOCUMENT).unwrap(), (0, 0));
    }
}
