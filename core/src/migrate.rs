//! Migration: bringing a store that an older version wrote to the format of this one.
//!
//! A store opens files of every released format; whoever works with their contents calls [`migrate`] first, as the repo
//! and the relay do. It stands above the store, because a step may need the ledger.
//!
//! # How to add a step
//!
//! Raise [`FORMAT_VERSION`], append a [`Step`] to [`STEPS`] (without one this file does not compile), keep a store of
//! the new format (`core/tests/migration.rs`), and draw the new records in `core/docs/storage.md`. A step gets the store
//! as the step before it left it, and is never edited again once it is released.
//!
//! # Laws
//!
//! 1. A step is one transaction, which also raises the format number: after a crash it was made whole or not at all.
//! 2. A step that fails leaves the store in the format it had, with everything in it: the older version still opens it.
//! 3. A store of the newest format is not written to.
//!
//! What is too much for one transaction is made of two steps, and two formats.

use crate::ledger;
use crate::store::{self, FORMAT_VERSION, Store, StoreError, StoreExt, WriteTx};

/// What brings a store from one format to the next.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// What it does, for the log: completes "migrating the store: ".
    pub what: &'static str,
    /// Rewrites what the next format has otherwise. The format number is raised after it, in the same transaction.
    pub work: fn(&mut dyn WriteTx) -> Result<(), StoreError>,
}

/// Every step: the first goes from format 1 to 2, the next from 2 to 3, and so on.
pub const STEPS: &[Step] = &[
    Step { what: "rewriting the graph", work: ledger::from_1_to_2 },
    Step { what: "rewriting the outbox", work: ledger::from_2_to_3 },
    // From 3 to 4 no row changes: a journal may stand beside the file, which an older version would leave unread.
    Step { what: "allowing for a journal", work: |_| Ok(()) },
];

const _: () = assert!(STEPS.len() as u64 + 1 == FORMAT_VERSION as u64, "every format but the first has its step");

/// What [`migrate`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The format that was found.
    pub from: u32,
    /// The format that stands there now.
    pub to: u32,
}

/// Brings a store to the format of this version, step by step. Cost: one look-up if it has it already.
///
/// # Errors
///
/// [`StoreError::Newer`] if the store is of a newer version; what a step reports, in which case the steps before it stand
/// and it can be tried again.
pub fn migrate(store: &dyn Store) -> Result<Migrated, StoreError> {
    run(store, STEPS)
}

/// Brings a store to the format after the last of `steps`, as [`migrate`] does with those of this version.
///
/// # Errors
///
/// As [`migrate`].
pub fn run(store: &dyn Store, steps: &[Step]) -> Result<Migrated, StoreError> {
    let supported = u32::try_from(steps.len()).unwrap_or(u32::MAX).saturating_add(1);
    let from = store::format(store.read()?.as_ref())?;
    if from > supported {
        return Err(StoreError::Newer { found: from, supported });
    }
    for (format, step) in (1..supported).zip(steps) {
        if format >= from {
            advance(store, format, step, supported)?;
        }
    }
    Ok(Migrated { from, to: supported })
}

fn advance(store: &dyn Store, format: u32, step: &Step, newest: u32) -> Result<(), StoreError> {
    tracing::info!(from = format, to = format + 1, newest, "migrating the store: {}", step.what);
    let outcome = store.write_with(|tx| {
        // Another opener of the same store may have been first.
        if store::format(tx)? != format {
            return Ok(false);
        }
        (step.work)(tx)?;
        store::set_format(tx, format + 1)?;
        Ok(true)
    });
    match outcome {
        Ok(true) => tracing::info!(format = format + 1, "migrated the store"),
        Ok(false) => {}
        Err(error) => {
            tracing::error!(format, %error, "failed to migrate the store: it is as it was");
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, Table};

    const MARK: Step = Step { what: "marking", work: |tx| tx.put(Table::Snapshot, b"mark", b"made") };
    const REFUSE: Step = Step {
        what: "refusing",
        work: |tx| {
            tx.delete_range(Table::Snapshot, b"a"..b"z")?;
            Err(StoreError::Engine("refused".to_owned()))
        },
    };

    fn format(store: &MemoryStore) -> u32 {
        store::format(store.read().expect("in memory").as_ref()).expect("a format")
    }

    fn first() -> MemoryStore {
        let store = MemoryStore::new();
        store.write_with(|tx| store::set_format(tx, 1)).expect("in memory");
        store
    }

    #[test]
    fn each_step_is_made_once() -> Result<(), StoreError> {
        let store = first();
        assert_eq!(run(&store, &[MARK, MARK])?, Migrated { from: 1, to: 3 });
        store.write_with(|tx| tx.delete(Table::Snapshot, b"mark"))?;
        assert_eq!(run(&store, &[MARK, MARK])?, Migrated { from: 3, to: 3 });
        assert!(!store.read()?.contains(Table::Snapshot, b"mark")?);
        assert!(matches!(run(&store, &[MARK]), Err(StoreError::Newer { found: 3, supported: 2 })));
        Ok(())
    }

    #[test]
    fn failing_step_leaves_what_the_one_before_it_made() -> Result<(), StoreError> {
        let store = first();
        assert!(matches!(run(&store, &[MARK, REFUSE]), Err(StoreError::Engine(_))));
        assert_eq!(format(&store), 2);
        assert!(store.read()?.contains(Table::Snapshot, b"mark")?);
        Ok(())
    }

    #[test]
    fn store_of_this_version_needs_nothing() -> Result<(), StoreError> {
        assert_eq!(migrate(&MemoryStore::new())?, Migrated { from: FORMAT_VERSION, to: FORMAT_VERSION });
        Ok(())
    }
}
