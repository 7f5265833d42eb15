//! What redb reports, in the store's own words.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::super::StoreError;

/// Calls into redb, and makes a panic of its an error.
///
/// redb trusts a file that was closed in good order: of 300 random alterations of such a file's pages (a bit flipped, a
/// page of zeros, a page of noise) 133 made it panic and none made it return an error. One bad sector must not take a
/// process down that holds other stores. Where panics abort (the browser) this changes nothing: the worker restarts.
///
/// What the panic left half done cannot be seen afterwards: redb's locks are poisoned then, a write transaction cannot
/// be committed, and a read one changes nothing. Hence the assertion of unwind safety.
pub(super) fn contained<T>(call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let detail = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        tracing::error!(detail, "redb panicked: the store is damaged");
        Err(StoreError::Damaged { what: "a page of the file" })
    })
}

/// Translates an error of opening the database `name`.
pub(super) fn open_error(error: redb::DatabaseError, name: &str) -> StoreError {
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { path: name.to_owned() },
        redb::DatabaseError::UpgradeRequired(version) => StoreError::Foreign {
            path: name.to_owned(),
            detail: format!("a redb database of the old file format {version}, which no version of Rejoin wrote"),
        },
        redb::DatabaseError::Storage(error) => storage_error(error),
        error => StoreError::Engine(error.to_string()),
    }
}

/// Translates what the operating system says about the file.
pub(super) fn io_error(error: io::Error) -> StoreError {
    match error.kind() {
        // redb asks only for bytes that the file claims to have.
        io::ErrorKind::UnexpectedEof => StoreError::Damaged { what: "a page beyond the end of the file" },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreError::Full(error)
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            StoreError::ReadOnly { detail: error.to_string() }
        }
        _ => StoreError::Io(error),
    }
}

/// Translates what the operating system says when the file is opened.
pub(super) fn file_error(error: io::Error, path: &Path) -> StoreError {
    match io_error(error) {
        StoreError::ReadOnly { detail } => StoreError::ReadOnly { detail: format!("{}: {detail}", path.display()) },
        StoreError::Io(error) => {
            StoreError::Io(io::Error::new(error.kind(), format!("failed to open {}: {error}", path.display())))
        }
        error => error,
    }
}

/// Translates an error of reading or writing the file.
pub(super) fn storage_error(error: redb::StorageError) -> StoreError {
    match error {
        redb::StorageError::Io(error) => io_error(error),
        redb::StorageError::Corrupted(detail) => {
            tracing::error!(detail, "the store is damaged");
            StoreError::Damaged { what: "a page of the file" }
        }
        redb::StorageError::PreviousIo | redb::StorageError::DatabaseClosed => StoreError::Interrupted,
        error => StoreError::Engine(error.to_string()),
    }
}

/// Translates an error of opening a table.
pub(super) fn table_error(error: redb::TableError) -> StoreError {
    match error {
        redb::TableError::Storage(error) => storage_error(error),
        error => StoreError::Engine(error.to_string()),
    }
}

/// Translates an error of beginning a transaction.
pub(super) fn transaction_error(error: redb::TransactionError) -> StoreError {
    match error {
        redb::TransactionError::Storage(error) => storage_error(error),
        error => StoreError::Engine(error.to_string()),
    }
}

/// Translates an error of committing a transaction.
pub(super) fn commit_error(error: redb::CommitError) -> StoreError {
    match error {
        redb::CommitError::Storage(error) => storage_error(error),
        error => StoreError::Engine(error.to_string()),
    }
}
