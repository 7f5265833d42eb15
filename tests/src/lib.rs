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
pub mod samod;
pub mod stored;
pub mod trace;

use std::path::PathBuf;

/// Returns the folder of this package.
pub fn package_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns a binary of this workspace, built beside the tests.
pub fn binary(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().and_then(|deps| deps.parent()).unwrap();
    let path = folder.join(name);
    assert!(path.exists(), "{} is not built: run `cargo build --workspace`, or `make test`", path.display());
    path
}
