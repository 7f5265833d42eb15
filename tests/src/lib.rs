//! Helpers of the cross-crate scenarios: relay processes, automerge-repo clients, generated traces.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a helper of tests fails by panicking")]

pub mod crowd;
pub mod fuzz;
pub mod hostile;
pub mod load;
pub mod node;
pub mod proxy;
pub mod raw;
pub mod relay;
pub mod said;
pub mod samod;
pub mod sim;
pub mod stored;
pub mod torture;
pub mod trace;
pub mod wide;

use std::path::PathBuf;

/// Returns the folder of this package.
pub fn package_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns a binary of this workspace, built beside the tests.
pub fn binary(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    // A test is one folder further down than the programs.
    let found = this.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is not built: run `cargo build --workspace`, or `make test`"))
}
