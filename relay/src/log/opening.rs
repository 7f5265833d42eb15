//! What a relay does with a store's log before it serves: gives it an epoch, and fills it with what was there before it.

use rejoin::Epoch;
use rejoin::ledger::log;
use rejoin::store::{Store, StoreError, StoreExt, Table};

use crate::clock::now_seconds;
use crate::limits::BACKFILL_DOCUMENTS;

/// The key in the store's own table under which it stands when the epoch began.
const SINCE_KEY: &[u8] = b"log-epoch-since";

/// How many steps of filling go by without a word.
const STEPS_A_LINE: usize = 25;

/// Makes a store's log ready and returns its epoch: these random bytes, if it has none. A restored backup has none.
///
/// A store that cannot be written, because its disk is full, is served all the same. An epoch that could not be stored ends with
/// the process, so that all who followed the log compare; what is not logged yet is logged the next time.
///
/// Cost: a few lookups; for a store that had no log, one transaction for each [`BACKFILL_DOCUMENTS`] documents. It may be
/// interrupted at any moment.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub(crate) fn open(store: &dyn Store, random: [u8; 16]) -> Result<Epoch, StoreError> {
    let known = log::epoch(&*store.read()?)?;
    let epoch = known.unwrap_or(Epoch::from_bytes(random));
    if known.is_none() {
        if let Err(error) = store.write_with(|tx| {
            tx.put(Table::Meta, SINCE_KEY, &now_seconds().to_le_bytes())?;
            log::set_epoch(tx, &epoch)
        }) {
            tracing::error!(%error, "failed to store the log's epoch: it ends with this process");
            return Ok(epoch);
        }
        tracing::info!("the log begins a new life: whoever followed another one compares");
    }
    if let Err(error) = fill(store) {
        tracing::error!(%error, "failed to log what was here before the log: the next start goes on with it");
    }
    Ok(epoch)
}

/// Returns when this life of the log began, in seconds since 1970, if it is known.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub(crate) fn epoch_since(store: &dyn Store) -> Result<Option<u64>, StoreError> {
    let bytes = store.read()?.get(Table::Meta, SINCE_KEY)?;
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes))
}

/// Logs what was here before the log.
fn fill(store: &dyn Store) -> Result<(), StoreError> {
    let mut steps = 0;
    loop {
        let mut is_done = false;
        let outcome = store.write(&mut |tx| {
            is_done = log::backfill(tx, BACKFILL_DOCUMENTS)?;
            // It was done before: any error rolls the empty transaction back and spares the disk.
            if is_done && steps == 0 { Err(StoreError::NotCalled) } else { Ok(()) }
        });
        if is_done && steps == 0 {
            return Ok(());
        }
        outcome?;
        if is_done {
            return Ok(());
        }
        steps += 1;
        if steps % STEPS_A_LINE == 0 {
            tracing::info!(documents = steps * BACKFILL_DOCUMENTS, "the log is filled with what was here before it");
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use rejoin::deletion::{DeletionKind, Tombstone};
    use rejoin::ledger::{self, tombstone};
    use rejoin::store::MemoryStore;
    use rejoin::{DocumentId, SpaceId};

    use super::*;
    use crate::log::tests::chain;

    #[test]
    fn store_from_before_the_log_gets_one_and_keeps_its_epoch() {
        let store = MemoryStore::new();
        let documents = [1, 2].map(|number| DocumentId::from_bytes([number; 16]));
        store
            .write_with(|tx| {
                for document in documents {
                    let mut appender = ledger::Appender::begin(tx, document)?;
                    for change in chain(3) {
                        appender.append(tx, &change)?;
                    }
                    appender.finish(tx)?;
                }
                let tombstone = Tombstone { kind: DeletionKind::Deleted, time_seconds: 1, by: String::new() };
                tombstone::bury(tx, &documents[1], &tombstone)
            })
            .unwrap();
        assert_eq!(open(&store, [1; 16]).unwrap(), Epoch::from_bytes([1; 16]));
        let end = log::end(&*store.read().unwrap(), &SpaceId::DEFAULT).unwrap();
        assert_eq!(end, 4);
        assert_eq!(open(&store, [2; 16]).unwrap(), Epoch::from_bytes([1; 16]));
        assert_eq!(log::end(&*store.read().unwrap(), &SpaceId::DEFAULT).unwrap(), end);
    }
}
