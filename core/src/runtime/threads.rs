//! With threads.

use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use super::Instant;
use crate::repo::RepoError;

/// Runs a future on a thread of its own, where it may wait for the disk and for other threads.
pub(crate) fn start(name: &str, work: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(move || block_on(work)).map(drop)
}

/// Runs a future as a task. Call it inside a tokio runtime.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

/// Does work that may wait for the disk.
pub(crate) async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RepoError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| RepoError::Closed)
}

/// Waits that long.
pub(crate) async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Lets others work: they have threads of their own.
pub(crate) async fn breathe() {}

/// Wakes a thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread.
fn block_on(work: impl Future<Output = ()>) {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut work = pin!(work);
    while work.as_mut().poll(&mut context).is_pending() {
        thread::park();
    }
}

/// Wakes whoever waits for something or for a time, on a thread that may. One ring is kept for who comes late.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    has_rung: Mutex<bool>,
    rung: Condvar,
}

impl Bell {
    /// Rings.
    pub(crate) fn ring(&self) {
        *self.has_rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.rung.notify_one();
    }

    /// Waits for a ring, or until a time.
    #[expect(clippy::unused_async, reason = "without threads it is")]
    pub(crate) async fn wait_until(&self, until: Option<Instant>) {
        let has_rung = self.has_rung.lock().unwrap_or_else(PoisonError::into_inner);
        let mut has_rung = match until {
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                let waited = self.rung.wait_timeout_while(has_rung, left, |has_rung| !*has_rung);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let waited = self.rung.wait_while(has_rung, |has_rung| !*has_rung);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
        };
        *has_rung = false;
    }
}
