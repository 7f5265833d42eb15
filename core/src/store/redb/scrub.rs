//! Scrubbing: a fresh file of what is there, in the place of one that may hold what is not.
//!
//! redb never writes over a page that a reader or a crash might still need; what was deleted stays in freed pages until
//! they are used again, perhaps for ever. Nor does its own compaction clear them. So all rows are copied into a new file,
//! which then gets the store's name. A crash at any moment leaves the old file or the new one under that name, each whole;
//! as long as it is the old one, the request for the scrub stands in it, and is met when the file is opened the next time.
//!
//! Readers go on in the old file, which has no name any more and is gone with the last of them. What a disk or file system
//! keeps of blocks that were given back (flash memory, snapshots, journals) is beyond a program's reach.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::{Opened, RedbStore, Retired, Visible, create, error, with_suffix};
use crate::store::batches::batches;
use crate::store::{SCRUB_KEY, Store, StoreError, StoreExt, Table, is_scrub_due};

/// What is added to a store's file name while its fresh copy is made.
const TEMPORARY_SUFFIX: &str = ".rejoin-scrub";

impl RedbStore {
    /// Scrubs a store that was just opened, if that was asked for. One that cannot be scrubbed is used as it is.
    pub(super) fn scrub_if_due(&self) {
        let Some(path) = &self.path else { return };
        create::remove_leftover(&with_suffix(path, TEMPORARY_SUFFIX));
        let due = self.read().and_then(|tx| is_scrub_due(tx.as_ref()));
        match due {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(store = %self.name, %error, "failed to look whether a scrub is due");
                return;
            }
        }
        match self.exchange_file() {
            Ok(_) => tracing::info!(store = %self.name, "scrubbed the store: nothing is left of what was purged"),
            Err(error) => tracing::error!(
                store = %self.name, %error,
                "failed to scrub the store: what was purged may still be in its file; tried again at the next opening"
            ),
        }
    }

    /// Puts a fresh copy in the place of the store's file; says no if the store is in no file.
    pub(super) fn exchange_file(&self) -> Result<bool, StoreError> {
        let Some(path) = &self.path else { return Ok(false) };
        let _turn = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.drop_retired();
        let temporary = with_suffix(path, TEMPORARY_SUFFIX);
        create::remove_leftover(&temporary);
        let exchanged = self.fill(path, &temporary).and_then(|fresh| {
            fs::rename(&temporary, path).map_err(|error| error::file_error(error, path))?;
            Ok(fresh)
        });
        let fresh = match exchanged {
            Ok(fresh) => fresh,
            Err(error) => {
                create::remove_leftover(&temporary);
                return Err(error);
            }
        };
        let fresh = fresh.into_opened();
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *opened, fresh);
        drop(opened);
        // What it has is in the copy. While the rename may still be lost, so may not be the journal.
        if let Some(journal) = &mut *self.journal() {
            journal.pause();
        }
        let Opened { readers, database, visible, .. } = old;
        let retired = Retired { readers: Arc::downgrade(&readers), _database: database };
        // Both count as readers, but only those who read still matter.
        drop((readers, visible));
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(retired);
        self.drop_retired();
        self.is_name_unsynced.store(true, Ordering::Release);
        self.sync_name()?;
        // What was deleted stands in it too.
        if let Some(journal) = &mut *self.journal() {
            journal.discard();
        }
        Ok(true)
    }

    /// Sees to it that the disk knows the file by its name, if it was exchanged: what is written after that would be lost with the
    /// name. The caller holds the writer's turn.
    pub(super) fn sync_name(&self) -> Result<(), StoreError> {
        if let Some(path) = self.path.as_ref().filter(|_| self.is_name_unsynced.load(Ordering::Acquire)) {
            create::sync_directory(path)?;
            self.is_name_unsynced.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Closes the databases that nobody reads in any more.
    pub(super) fn drop_retired(&self) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|database| database.readers.strong_count() > 0);
    }

    /// Makes the copy, durable, and leaves it open. The caller holds the writer's turn.
    fn fill(&self, path: &Path, temporary: &Path) -> Result<RedbStore, StoreError> {
        let view = self.read()?;
        // A new store has the rights of a new file, this one has those it was given.
        let rights = fs::metadata(path)?.permissions();
        let mut copy = RedbStore::open(temporary, self.options.clone().journal(false))?;
        fs::set_permissions(temporary, rights)?;
        for table in Table::ALL {
            for batch in batches(view.as_ref(), table) {
                let batch = batch?;
                copy.write_with(|tx| batch.put(tx, table))?;
            }
        }
        copy.write_with(|tx| tx.delete(Table::Meta, SCRUB_KEY))?;
        copy.trim()?;
        Ok(copy)
    }

    fn into_opened(self) -> Opened {
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        let none = Opened::new(Arc::clone(&opened.source), None, opened.read_only);
        std::mem::replace(&mut *opened, none)
    }

    /// Gives the free pages at the file's end back: redb makes a file twice as long whenever it is full.
    fn trim(&mut self) -> Result<(), StoreError> {
        let opened = self.opened.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Nobody compacts under a reader.
        *opened.visible() = Visible::default();
        let database = opened.database.0.as_mut().ok_or(StoreError::Interrupted)?;
        error::contained(|| match database.compact() {
            Ok(_) => Ok(()),
            Err(redb::CompactionError::Storage(error)) => Err(error::storage_error(error)),
            Err(error) => Err(StoreError::Engine(error.to_string())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RedbOptions;

    /// A row that is looked for in files.
    const CANARY: &[u8] = b"the canary that sings in freed pages";

    fn holds_canary(path: &Path) -> bool {
        fs::read(path).is_ok_and(|bytes| bytes.windows(CANARY.len()).any(|window| window == CANARY))
    }

    fn secret(row: u32) -> Vec<u8> {
        [&b"secret"[..], &row.to_be_bytes()].concat()
    }

    fn delete_secrets(tx: &mut dyn crate::store::WriteTx) -> Result<(), StoreError> {
        tx.delete_range(Table::Change, b"secret"..b"secreu")
    }

    fn store_with_canary(path: &Path) -> Result<RedbStore, StoreError> {
        let store = RedbStore::open(path, RedbOptions::new())?;
        store.write_with(|tx| {
            // Many pages of it: closing the file uses some of those that are free.
            (0..200_u32).try_for_each(|row| tx.put(Table::Change, &secret(row), &CANARY.repeat(50)))?;
            (0..2_000_u32).try_for_each(|row| tx.put(Table::Node, &row.to_be_bytes(), &[7; 100]))
        })?;
        Ok(store)
    }

    #[test]
    fn scrubbed_file_holds_what_is_there_and_nothing_else() -> Result<(), StoreError> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("store.redb");
        let store = store_with_canary(&path)?;
        let before = store.read()?;
        store.write_with(delete_secrets)?;
        assert!(holds_canary(&path), "otherwise this shows nothing");
        assert!(store.scrub()?);
        assert!(!holds_canary(&path));
        // Who was reading reads on, who comes now reads and writes the new file.
        assert_eq!(before.get(Table::Change, &secret(7))?, Some(CANARY.repeat(50)));
        assert!(before.contains(Table::Node, &1_999_u32.to_be_bytes())?);
        store.write_with(|tx| tx.put(Table::Node, b"new", b"row"))?;
        drop(before);
        assert!(store.read()?.contains(Table::Node, b"new")?);
        assert!(matches!(RedbStore::open(&path, RedbOptions::new()), Err(StoreError::Locked { .. })));
        drop(store);
        let store = RedbStore::open(&path, RedbOptions::new())?;
        let tx = store.read()?;
        assert!(tx.contains(Table::Node, b"new")? && tx.contains(Table::Node, &0_u32.to_be_bytes())?);
        assert!(!tx.contains(Table::Change, &secret(7))?);
        assert_eq!(fs::read_dir(folder.path())?.count(), 1, "nothing is left beside it");
        Ok(())
    }

    #[test]
    fn scrub_that_was_asked_for_is_made_when_the_file_is_opened() -> Result<(), StoreError> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("store.redb");
        let store = store_with_canary(&path)?;
        store.write_with(|tx| {
            delete_secrets(tx)?;
            crate::store::ask_for_scrub(tx)
        })?;
        // As if the process had been killed before it came to the scrub, or half-way through it.
        drop(store);
        fs::write(with_suffix(&path, TEMPORARY_SUFFIX), CANARY)?;
        assert!(holds_canary(&path));
        let store = RedbStore::open(&path, RedbOptions::new())?;
        assert!(!holds_canary(&path));
        assert!(!is_scrub_due(store.read()?.as_ref())?);
        assert!(store.read()?.contains(Table::Node, &7_u32.to_be_bytes())?);
        assert_eq!(fs::read_dir(folder.path())?.count(), 1);
        Ok(())
    }

    #[test]
    #[cfg(unix)]
    fn file_behind_a_link_is_exchanged_and_the_link_stays() -> Result<(), StoreError> {
        let folder = tempfile::tempdir()?;
        let (path, link) = (folder.path().join("store.redb"), folder.path().join("link.redb"));
        drop(store_with_canary(&path)?);
        std::os::unix::fs::symlink(&path, &link)?;
        let store = RedbStore::open(&link, RedbOptions::new())?;
        store.write_with(delete_secrets)?;
        assert!(store.scrub()?);
        assert!(fs::symlink_metadata(&link)?.is_symlink());
        assert!(!holds_canary(&path));
        Ok(())
    }

    #[test]
    fn scrub_that_fails_changes_nothing() -> Result<(), StoreError> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("store.redb");
        let store = store_with_canary(&path)?;
        // A directory stands in the way.
        fs::create_dir(with_suffix(&path, TEMPORARY_SUFFIX))?;
        assert!(store.scrub().is_err());
        assert!(store.read()?.contains(Table::Change, &secret(7))?);
        store.write_with(|tx| tx.put(Table::Node, b"new", b"row"))?;
        fs::remove_dir(with_suffix(&path, TEMPORARY_SUFFIX))?;
        assert!(store.scrub()?);
        assert!(store.read()?.contains(Table::Node, b"new")?);
        Ok(())
    }

    #[test]
    fn store_without_a_file_says_that_it_cannot() -> Result<(), StoreError> {
        let store = RedbStore::open_backend(redb::backends::InMemoryBackend::new(), RedbOptions::new())?;
        assert!(!store.scrub()?);
        Ok(())
    }
}
