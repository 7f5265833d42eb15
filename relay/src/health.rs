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
    answer(&check(shared).await)
}

/// Looks whether the relay is ready, for who reads its metrics.
pub(crate) async fn look(shared: &Shared) {
    check(shared).await;
}

fn answer(checks: &[Check]) -> Response {
    let status = if is_well(checks) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, show(checks)).into_response()
}

fn is_well(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.failure.is_none())
}

/// What one check found.
struct Check {
    name: &'static str,
    failure: Option<String>,
}

/// How much room there is. What the operating system does not tell fails no check.
#[derive(Debug, Clone, Copy, Default)]
struct Room {
    disk: Option<Disk>,
    /// How many file descriptors are open, and how many there may be.
    fds: Option<(u64, u64)>,
}

impl Room {
    fn look(data: &Path) -> Self {
        Self { disk: process::disk(data), fds: process::open_fds().zip(process::max_fds()) }
    }

    fn disk_failure(&self) -> Option<String> {
        let Disk { free_bytes, size_bytes } = self.disk?;
        let is_low = u128::from(free_bytes) * 100 <= u128::from(size_bytes) * u128::from(READY_DISK_FREE_PERCENT_MIN);
        is_low.then(|| {
            format!("{free_bytes} of {size_bytes} bytes are free, {READY_DISK_FREE_PERCENT_MIN} % is too little")
        })
    }

    fn fds_failure(&self) -> Option<String> {
        let (open, max) = self.fds?;
        let is_high = u128::from(open) * 100 >= u128::from(max) * u128::from(READY_FDS_PERCENT_MAX);
        is_high.then(|| format!("{open} of {max} file descriptors are open, {READY_FDS_PERCENT_MAX} % is too much"))
    }
}

async fn check(shared: &Shared) -> Vec<Check> {
    let data = shared.data.clone();
    // Files and a directory are read, beside the runtime's threads.
    let room = tokio::task::spawn_blocking(move || Room::look(&data)).await;
    judge(shared, room.unwrap_or_default()).await
}

async fn judge(shared: &Shared, room: Room) -> Vec<Check> {
    let stopping = *shared.draining.borrow();
    let store = if stopping { None } else { store_failure(shared).await };
    let checks = vec![
        Check { name: "draining", failure: stopping.then(|| "the relay is stopping".to_owned()) },
        Check { name: "store", failure: store },
        Check { name: "disk", failure: room.disk_failure() },
        Check { name: "fds", failure: room.fds_failure() },
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

fn show(checks: &[Check]) -> String {
    let mut text = String::new();
    for Check { name, failure } in checks {
        let found = failure.as_deref().unwrap_or("ok");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}: {found}");
    }
    text
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use rejoin::store::MemoryStore;
    use tokio::sync::watch;

    use super::*;
    use crate::config::Config;
    use crate::server::share;

    #[tokio::test]
    async fn lack_of_room_is_told_until_there_is_room_again() {
        let (_drain, draining) = watch::channel(false);
        let (_change, changing) = watch::channel(Arc::new(Config::new("", ([127, 0, 0, 1], 0).into())));
        let shared = share(Arc::new(MemoryStore::new()), changing, Arc::default(), draining).unwrap();
        let ask = async |room: Room| {
            let response = answer(&judge(&shared, room).await);
            let status = response.status().as_u16();
            let body = axum::body::to_bytes(response.into_body(), 4_096).await.unwrap();
            let is_counted = shared.metrics.text().contains("rejoin_relay_ready 1\n");
            assert_eq!(is_counted, status == 200);
            (status, String::from_utf8(body.to_vec()).unwrap())
        };
        let disk = |free_bytes| Some(Disk { free_bytes, size_bytes: 1_000 });
        let enough = Room { disk: disk(51), fds: Some((899, 1_000)) };
        let well = (200, "draining: ok\nstore: ok\ndisk: ok\nfds: ok\n".to_owned());
        assert_eq!(ask(enough).await, well);
        for free in [50, 0] {
            let text =
                format!("draining: ok\nstore: ok\ndisk: {free} of 1000 bytes are free, 5 % is too little\nfds: ok\n");
            assert_eq!(ask(Room { disk: disk(free), ..enough }).await, (503, text));
        }
        assert_eq!(ask(enough).await, well);
        for open in [900, 1_000] {
            let fds = format!("{open} of 1000 file descriptors are open, 90 % is too much");
            let text = format!("draining: ok\nstore: ok\ndisk: ok\nfds: {fds}\n");
            assert_eq!(ask(Room { fds: Some((open, 1_000)), ..enough }).await, (503, text));
        }
        assert_eq!(ask(enough).await, well);
        assert_eq!(ask(Room::default()).await, well);
    }
}
