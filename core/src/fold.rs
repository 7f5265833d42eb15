//! Folding: a document's changes made into one whole-document chunk, a twentieth of their size and often far less.
//!
//! Only Automerge can write that form, and it has to hold the document in memory to do so. No check of single changes
//! can promise that it neither panics nor takes all memory, so it never runs in a process that serves others:
//!
//! * [`fold`] and [`unfold`] do the work, and check it: what was made is loaded again and must hold the same changes.
//! * [`child_main`] is all that a child process does: limits on itself first, then one piece of work from its standard
//!   input to its standard output.
//! * [`Folder`] starts such a child, kills it when it takes too long or says too much, and believes nothing that it says
//!   before it has checked it without Automerge.
//!
//! This chapter is a driver: it knows processes, threads and the clock, as the chapters below it do not.
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     // The host's executable, started a second time with this argument.
//!     if std::env::args().nth(1).as_deref() == Some("fold-child") {
//!         return rejoin::fold::child_main(std::io::stdin().lock(), std::io::stdout().lock());
//!     }
//!     // What the host does otherwise.
//!     std::process::ExitCode::SUCCESS
//! }
//! ```

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::{Automerge, Change, ChangeHash, SaveOptions};

use crate::limits::{FOLD_BYTES_MAX, FOLD_CHANGES_MAX};

mod child;
mod folder;
mod sandbox;
mod wire;

pub use child::child_main;
pub use folder::{FoldCommand, FoldError, Folder};
pub use wire::Input;

/// How many changes are applied together: enough to share the work, few enough to be small beside the document.
const BATCH_CHANGES: usize = 16_384;

/// A document's changes in one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// The whole-document chunk.
    pub chunk: Vec<u8>,
    /// The heads it ends with, ascending.
    pub heads: Vec<ChangeHash>,
    /// How many changes it holds.
    pub count: u64,
}

/// Why changes could not be folded, or a chunk not be taken apart. The text completes "failed to fold: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkError {
    /// Automerge does not take a change or a chunk.
    #[error("automerge refuses it: {0}")]
    Automerge(String),
    /// Automerge panicked.
    #[error("automerge panicked")]
    Panicked,
    /// What was made does not hold what was put in.
    #[error("the result holds other {0} than what was put in")]
    Differs(&'static str),
    /// There is more of something than is taken.
    #[error("there are {found} {what}, the limit is {limit}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much there is.
        found: usize,
        /// How much is taken.
        limit: usize,
    },
}

/// Makes one chunk of changes, given as uncompressed chunks, dependencies first, each once.
///
/// Runs Automerge: call it only where a panic, an endless loop or the end of all memory hurts nobody else. Cost: for
/// 260,000 keystrokes 3 seconds and 310 MB.
///
/// # Errors
///
/// [`WorkError`]; also when what was made does not load, or holds other heads or other changes than were put in.
pub fn fold<'c>(changes: impl Iterator<Item = &'c [u8]>) -> Result<Folded, WorkError> {
    guarded(|| {
        let mut document = Automerge::new();
        let (mut hashes, mut heads) = (HashSet::new(), HashSet::new());
        let mut batch = Vec::new();
        for bytes in changes {
            at_most("changes", hashes.len() + 1, FOLD_CHANGES_MAX)?;
            let change = Change::from_bytes(bytes.to_vec()).map_err(refused)?;
            for dep in change.deps() {
                heads.remove(dep);
            }
            if !hashes.insert(change.hash()) {
                return Err(WorkError::Differs("changes"));
            }
            heads.insert(change.hash());
            batch.push(change);
            if batch.len() >= BATCH_CHANGES {
                document.apply_changes(std::mem::take(&mut batch)).map_err(refused)?;
            }
        }
        document.apply_changes(batch).map_err(refused)?;
        let chunk = document.save_with_options(SaveOptions { deflate: true, retain_orphans: false });
        // What was just made is given back before it is made once more.
        drop(document);
        let loaded = Automerge::load(&chunk).map_err(refused)?;
        let mut heads: Vec<_> = heads.into_iter().collect();
        heads.sort_unstable();
        if loaded.get_heads() != heads {
            return Err(WorkError::Differs("heads"));
        }
        let found: HashSet<_> = loaded.get_changes_meta(&[]).iter().map(|change| change.hash).collect();
        if found != hashes {
            return Err(WorkError::Differs("changes"));
        }
        Ok(Folded { chunk, heads, count: hashes.len() as u64 })
    })
}

/// Takes a whole-document chunk apart into its changes, as uncompressed chunks, dependencies first.
///
/// Runs Automerge on bytes that may be anybody's: see [`fold`].
///
/// # Errors
///
/// [`WorkError`]; also when there are more changes or bytes than [`FOLD_CHANGES_MAX`] and [`FOLD_BYTES_MAX`].
pub fn unfold(chunk: &[u8]) -> Result<Vec<Vec<u8>>, WorkError> {
    guarded(|| {
        let document = Automerge::load(chunk).map_err(refused)?;
        at_most("changes", document.get_changes_meta(&[]).len(), FOLD_CHANGES_MAX)?;
        let mut changes = Vec::new();
        let mut bytes = 0;
        for change in document.get_changes(&[]) {
            bytes += change.raw_bytes().len();
            at_most("bytes", bytes, FOLD_BYTES_MAX)?;
            changes.push(change.raw_bytes().to_vec());
        }
        Ok(changes)
    })
}

fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), WorkError> {
    if found > limit { Err(WorkError::TooMuch { what, found, limit }) } else { Ok(()) }
}

fn refused(error: impl std::fmt::Display) -> WorkError {
    WorkError::Automerge(error.to_string())
}

/// Runs a piece of Automerge; a panic in it becomes an error.
fn guarded<T>(work: impl FnOnce() -> Result<T, WorkError>) -> Result<T, WorkError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(WorkError::Panicked))
}

#[cfg(test)]
mod tests;
