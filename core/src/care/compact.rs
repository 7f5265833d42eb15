//! Making a store small: every history packed, and a file without free pages.

use super::{Progress, require_format};
use crate::ledger;
use crate::store::{Store, StoreError, StoreExt};

/// What [`compact()`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// How many changes were packed that were not before.
    pub packed: u64,
    /// The store's size before, in bytes; 0 if it is in no file.
    pub bytes_before: u64,
    /// Its size now, in bytes.
    pub bytes_after: u64,
}

/// Makes a store as small as it gets: packs the history of every document, and writes the file anew without the pages that
/// are free. Changes stay what they are, byte for byte; what was deleted is gone from the file for good.
///
/// Old changes are packed without being asked, and free pages are used again: this is for moving a store, and for one
/// that was much larger before. Writes wait while one document is packed, and while the file is written. Cost: 10 to 50 ms
/// for 4,096 changes that were not packed yet, and one copy of everything, for which the disk needs room.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used. Nothing is lost then; what was packed by then stays packed.
pub fn compact(store: &dyn Store, progress: &mut dyn FnMut(Progress)) -> Result<Compacted, StoreError> {
    let documents = {
        let view = store.read()?;
        require_format(view.as_ref())?;
        ledger::documents(view.as_ref())?
    };
    let bytes_before = store.size_bytes()?.unwrap_or(0);
    let mut done = Progress::default();
    for document in documents {
        loop {
            // One pack in each transaction, so that nobody waits long.
            let packed = store.write_with(|tx| ledger::compact_fully(tx, &document))?;
            if packed == 0 {
                break;
            }
            done.rows += packed;
            progress(done);
        }
        done.documents += 1;
        progress(done);
    }
    store.scrub()?;
    let bytes_after = store.size_bytes()?.unwrap_or(0);
    Ok(Compacted { packed: done.rows, bytes_before, bytes_after })
}
