//! What differs between a system with threads and a browser: background work, waiting, time.
//!
//! With threads, what may wait for the disk runs on one of its own. In a browser there is one thread, that of the worker: there
//! everything is a task, and nothing ever waits for another one except by `await`.

#[cfg(all(feature = "testing", not(target_family = "wasm")))]
pub mod simulated;
#[cfg(target_family = "wasm")]
mod tasks;
#[cfg(not(target_family = "wasm"))]
mod threads;

use std::pin::Pin;
use std::time::Duration;

#[cfg(target_family = "wasm")]
pub(crate) use tasks::{Bell, breathe, clock, lull, now, sleep, spawn, start, unblock, wait_until};
#[cfg(not(target_family = "wasm"))]
pub(crate) use threads::{Bell, breathe, clock, lull, now, sleep, spawn, start, unblock, wait_until};
#[cfg(not(target_family = "wasm"))]
pub(crate) use threads::{send_and_wait, wait_for};
pub(crate) use web_time::{Instant, SystemTime, UNIX_EPOCH};

/// `Send` where there are threads to send something to.
#[cfg(not(target_family = "wasm"))]
pub trait MaybeSend: Send {}
#[cfg(not(target_family = "wasm"))]
impl<T: Send + ?Sized> MaybeSend for T {}

/// `Send` where there are threads to send something to.
#[cfg(target_family = "wasm")]
pub trait MaybeSend {}
#[cfg(target_family = "wasm")]
impl<T: ?Sized> MaybeSend for T {}

/// A future that can be sent to where it runs.
#[cfg(not(target_family = "wasm"))]
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A future that can be sent to where it runs.
#[cfg(target_family = "wasm")]
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// The time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// Waits for the first of several things, as `tokio::select!` does. In a simulation they are tried in their order, since chance
/// is not to come from outside there.
#[cfg(all(feature = "testing", not(target_family = "wasm")))]
macro_rules! select {
    ($($branches:tt)*) => {
        if $crate::runtime::simulated::is_on() {
            tokio::select! { biased; $($branches)* }
        } else {
            tokio::select! { $($branches)* }
        }
    };
}

/// Waits for the first of several things, as `tokio::select!` does.
#[cfg(not(all(feature = "testing", not(target_family = "wasm"))))]
macro_rules! select {
    ($($branches:tt)*) => {
        tokio::select! { $($branches)* }
    };
}

pub(crate) use select;

/// Waits for a future, or until a time, where waiting takes no thread.
#[cfg(any(target_family = "wasm", feature = "testing"))]
pub(crate) async fn timeout_at<T>(time: Option<Instant>, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    match time {
        Some(time) => timeout(time.saturating_duration_since(now()), future).await,
        None => Ok(future.await),
    }
}

/// Waits for a future, but not longer than this.
pub(crate) async fn timeout<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    tokio::select! {
        // What is there already is no question of time.
        biased;
        outcome = future => Ok(outcome),
        () = sleep(limit) => Err(Elapsed),
    }
}
