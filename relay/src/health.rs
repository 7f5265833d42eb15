//! Health: what the relay answers to those who decide whether it is restarted, and whether it gets work.
//!
//! | path | good answer means | asked by |
//! |---|---|---|
//! | `/livez` | the process serves requests | who restarts what hangs |
//! | `/readyz` | the store takes writes, there is room, and the relay is not stopping | who chooses where clients go |
//! | `/startupz` | the relay has started: its store is open and its log complete | who waits before asking the others |
//!
//! The answer of `/readyz` names each check and what it found. It is the same for everybody, so it costs at most one write to the
//! disk in [`PROBE_INTERVAL`](crate::limits::PROBE_INTERVAL), however often it is asked for.

use std::fmt::Write as _;
use std::path::Path;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use crate::limits::{READY_DISK_FREE_PERCENT_MIN, READY_FDS_PERCENT_MAX, READY_STORE_DEADLINE};
use crate::metrics::process::{self, Disk};
use crate::shared::Shared;

/// Answers `/livez`: whoever reads this is served.
pub(crate) async fn live() -> &'static str {
    "ok\n"
}

/// Answers `/startupz`: requests are served only when the store is open and its log complete.
pub(crate) async fn started() -> &'static str {
    "ok\n"
}

/// Answers `/readyz`.
pub(crate) async fn ready(shared: &Shared) -> Response {
    let checks = check(shared).await;
    let status = if is_well(&checks) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, show(&checks)).into_response()
}

/// Looks whether the relay is ready, for who reads its metrics.
pub(crate) async fn look(shared: &Shared) {
    check(shared).await;
}

fn is_well(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.failure.is_none())
}

/// What one check found.
struct Check {
    name: &'static str,
    failure: Option<String>,
}

async fn check(shared: &Shared) -> Vec<Check> {
    let stopping = *shared.draining.borrow();
    let data = shared.data.clone();
    // Files and a directory are read, beside the runtime's threads.
    let room = tokio::task::spawn_blocking(move || (disk_failure(&data), fds_failure())).await;
    let (disk, fds) = room.unwrap_or_default();
    let store = if stopping { None } else { store_failure(shared).await };
    let checks = vec![
        Check { name: "draining", failure: stopping.then(|| "the relay is stopping".to_owned()) },
        Check { name: "store", failure: store },
        Check { name: "disk", failure: disk },
        Check { name: "fds", failure: fds },
    ];
    shared.metrics.found_ready(is_well(&checks));
    checks
}

async fn store_failure(shared: &Shared) -> Option<String> {
    match timeout(READY_STORE_DEADLINE, shared.log.probe()).await {
        Ok(true) => None,
        Ok(false) => Some("the store cannot be written: see the log".to_owned()),
        Err(_) => Some(format!("the store takes more than {} ms", READY_STORE_DEADLINE.as_millis())),
    }
}

fn disk_failure(data: &Path) -> Option<String> {
    let Disk { free_bytes, size_bytes } = process::disk(data)?;
    let is_low = u128::from(free_bytes) * 100 <= u128::from(size_bytes) * u128::from(READY_DISK_FREE_PERCENT_MIN);
    is_low
        .then(|| format!("{free_bytes} of {size_bytes} bytes are free, {READY_DISK_FREE_PERCENT_MIN} % is too little"))
}

fn fds_failure() -> Option<String> {
    let (open, max) = (process::open_fds()?, process::max_fds()?);
    let is_high = u128::from(open) * 100 >= u128::from(max) * u128::from(READY_FDS_PERCENT_MAX);
    is_high.then(|| format!("{open} of {max} file descriptors are open, {READY_FDS_PERCENT_MAX} % is too much"))
}

fn show(checks: &[Check]) -> String {
    let mut text = String::new();
    for Check { name, failure } in checks {
        let found = failure.as_deref().unwrap_or("ok");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}: {found}");
    }
    text
}
