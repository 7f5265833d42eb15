//! In a browser: one thread, and tasks on it.

use std::cell::Cell;
use std::time::Duration;

use gloo_timers::future::TimeoutFuture;
use tokio::sync::Notify;

pub(crate) use super::timeout_at as wait_until;
use super::{Elapsed, Instant, SystemTime, timeout};
use crate::repo::RepoError;

/// Runs a future as a task. What it waits for the disk, everybody waits for.
#[expect(clippy::unnecessary_wraps, reason = "with threads it can fail")]
pub(crate) fn start(_name: &str, work: impl Future<Output = ()> + 'static) -> std::io::Result<()> {
    wasm_bindgen_futures::spawn_local(work);
    Ok(())
}

/// Runs a future as a task.
pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) {
    wasm_bindgen_futures::spawn_local(task);
}

/// Does work that may wait for the disk.
pub(crate) async fn unblock<T>(work: impl FnOnce() -> T) -> Result<T, RepoError> {
    Ok(work())
}

/// Returns the time that never goes back.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Returns what the clock shows.
pub(crate) fn clock() -> SystemTime {
    SystemTime::now()
}

/// Waits that long; at most for 24 days, which is what browsers count up to.
pub(crate) async fn sleep(duration: Duration) {
    let milliseconds = u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).min(i32::MAX.unsigned_abs());
    TimeoutFuture::new(milliseconds).await;
}

/// How long it is quiet before work is done that nobody waits for.
const LULL: Duration = Duration::from_millis(250);

/// Waits for a future until it has been quiet for a while.
pub(crate) async fn lull<T>(future: impl Future<Output = T>) -> Result<T, Elapsed> {
    timeout(LULL, future).await
}

/// How long a task may work before others get a turn, in milliseconds: about a frame.
const TURN: Duration = Duration::from_millis(12);

thread_local! {
    /// When the event loop last came round, as far as is known.
    static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Lets others work, those who wait for a message of the page included, if they have waited for a while.
pub(crate) async fn breathe() {
    if SINCE.get().is_none_or(|since| since.elapsed() > TURN) {
        sleep(Duration::ZERO).await;
        SINCE.set(Some(Instant::now()));
    }
}

/// Wakes whoever waits for something or for a time. One ring is kept for who comes late.
#[derive(Debug, Default)]
pub(crate) struct Bell(Notify);

impl Bell {
    /// Rings.
    pub(crate) fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits for a ring, or until a time.
    pub(crate) async fn wait_until(&self, until: Option<Instant>) {
        match until {
            Some(until) => drop(timeout(until.saturating_duration_since(Instant::now()), self.0.notified()).await),
            None => self.0.notified().await,
        }
    }
}
