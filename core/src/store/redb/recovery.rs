//! Taking in what a journal has, when the database is opened.

use std::sync::Arc;

use redb::{Database, ReadableDatabase, WriteTransaction};

use super::super::StoreError;
use super::error::{self, contained, storage_error, table_error};
use super::journal::{Generation, Journal};
use super::writing::Tables;
use super::{Definition, RedbOptions};

/// Brings into a database what its journal has and it has not. One that may not be written keeps it in memory.
pub(super) fn recover(
    database: &Database,
    journal: &mut Journal,
    options: &RedbOptions,
    name: &str,
    read_only: bool,
) -> Result<(), StoreError> {
    journal.pause();
    if let Some(generation) = contained(|| generation(database))? {
        let mut transaction = contained(|| database.begin_write().map_err(error::transaction_error))?;
        transaction.set_quick_repair(options.quick_repair);
        let replayed = journal.replay(&generation, &mut Tables::new(&transaction, Arc::default()));
        if replayed.as_ref().is_ok_and(|any| *any) {
            contained(|| {
                // Whoever writes without a journal from here on leaves it behind.
                let mut table = transaction.open_table(JOURNAL).map_err(table_error)?;
                table.remove(GENERATION_KEY).map(drop).map_err(storage_error)?;
                drop(table);
                transaction.commit().map_err(error::commit_error)
            })?;
            tracing::info!(store = %name, "took in what the journal of a store that was not closed had");
        } else {
            contained(|| transaction.abort().map_err(storage_error))?;
            replayed?;
        }
    }
    if !read_only {
        journal.discard();
    }
    Ok(())
}

/// Of redb's own tables the one that is none of the store's: which records of the journal belong to this database.
const JOURNAL: Definition = Definition::new("journal-1");
const GENERATION_KEY: &[u8] = b"generation";

fn generation(database: &Database) -> Result<Option<Generation>, StoreError> {
    let transaction = database.begin_read().map_err(error::transaction_error)?;
    let table = match transaction.open_table(JOURNAL) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(table_error(error)),
    };
    let found = table.get(GENERATION_KEY).map_err(storage_error)?;
    let bytes = found.map(|bytes| bytes.value().try_into());
    bytes.transpose().map_err(|_| StoreError::Damaged { what: "the generation of the store's journal" })
}

pub(super) fn put_generation(transaction: &WriteTransaction, generation: &Generation) -> Result<(), StoreError> {
    let mut table = transaction.open_table(JOURNAL).map_err(table_error)?;
    table.insert(GENERATION_KEY, generation.as_slice()).map(drop).map_err(storage_error)
}
