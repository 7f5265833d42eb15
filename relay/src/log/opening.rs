//! What a relay does with a store's log before it serves: gives it an epoch, and fills it with what was there before it.

use rejoin::Epoch;
use rejoin::ledger::log;
use rejoin::store::{Store, StoreError, StoreExt};

use crate::limits::BACKFILL_DOCUMENTS;

/// How many steps of filling go by without a word.
const STEPS_A_LINE: usize = 25;

/// Makes a store's log ready and returns its epoch: these random bytes, if it has none. A restored backup has none.
///
/// Cost: two transactions, and one for each [`BACKFILL_DOCUMENTS`] documents of a store that had no log. It may be interrupted
/// at any moment, and goes on the next time.
pub(crate) fn open(store: &dyn Store, random: [u8; 16]) -> Result<Epoch, StoreError> {
    let known = log::epoch(&*store.read()?)?;
    let epoch = match known {
        Some(epoch) => epoch,
        None => {
            let epoch = Epoch::from_bytes(random);
            store.write_with(|tx| log::set_epoch(tx, &epoch))?;
            tracing::info!("the log begins a new life: whoever followed it compares");
            epoch
        }
    };
    let mut steps = 0;
    while !store.write_with(|tx| log::backfill(tx, BACKFILL_DOCUMENTS))? {
        steps += 1;
        if steps % STEPS_A_LINE == 0 {
            tracing::info!(documents = steps * BACKFILL_DOCUMENTS, "the log is filled with what was here before it");
        }
    }
    Ok(epoch)
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
