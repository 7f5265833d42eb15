//! With threads.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

#[cfg(feature = "testing")]
use super::simulated;
use super::{Elapsed, Instant, SystemTime};
use crate::repo::RepoError;

/// Runs a future on a thread of its own, where it may wait for the disk and for other threads.
pub(crate) fn start(name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
    #[cfg(feature = "testing")]
    if simulated::is_on() {
        simulated::start(name, Box::pin(work));
        return Ok(());
    }
    thread::Builder::new().name(name.to_owned()).spawn(move || block_on(work)).map(drop)
}

/// Runs a future as a task. Call it inside a tokio runtime.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    #[cfg(feature = "testing")]
    if simulated::is_on() {
        return simulated::start("task", Box::pin(task));
    }
    tokio::spawn(task);
}

/// Does work that may wait for the disk.
pub(crate) async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RepoError> {
    #[cfg(feature = "testing")]
    if simulated::is_on() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|_| RepoError::Closed)
}

/// Waits that long.
pub(crate) async fn sleep(duration: Duration) {
    #[cfg(feature = "testing")]
    if simulated::is_on() {
        return simulated::sleep(duration).await;
    }
    tokio::time::sleep(duration).await;
}

/// Returns what is there already. What is done otherwise has a thread of its own and keeps nobody waiting.
pub(crate) async fn lull<T>(future: impl Future<Output = T>) -> Result<T, Elapsed> {
    tokio::select! {
        biased;
        outcome = future => Ok(outcome),
        () = std::future::ready(()) => Err(Elapsed),
    }
}

thread_local! {
    /// When the thread's future is to be polled again, whether it was woken or not.
    static ALARM: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Waits for a future, or until a time, on a thread that [`start`] made.
pub(crate) async fn wait_until<T>(time: Option<Instant>, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    #[cfg(feature = "testing")]
    if simulated::is_on() {
        return super::timeout_at(time, future).await;
    }
    let mut future = pin!(future);
    poll_fn(|context| match (future.as_mut().poll(context), time) {
        (Poll::Ready(outcome), _) => Poll::Ready(Ok(outcome)),
        (Poll::Pending, Some(time)) if time <= Instant::now() => Poll::Ready(Err(Elapsed)),
        (Poll::Pending, time) => {
            ALARM.set(time);
            Poll::Pending
        }
    })
    .await
}

/// Returns the time that never goes back.
pub(crate) fn now() -> Instant {
    #[cfg(feature = "testing")]
    if let Some(now) = simulated::now() {
        return now;
    }
    Instant::now()
}

/// Returns what the clock shows.
pub(crate) fn clock() -> SystemTime {
    #[cfg(feature = "testing")]
    if let Some(clock) = simulated::clock() {
        return clock;
    }
    SystemTime::now()
}

/// Waits for an answer on a thread that may; `worker` is who gives it. `None` if nobody does any more.
#[cfg_attr(not(feature = "testing"), expect(unused_variables, reason = "who works is asked for in a simulation only"))]
#[cfg_attr(not(feature = "testing"), expect(unused_mut, reason = "as above"))]
pub(crate) fn wait_for<T>(mut answer: oneshot::Receiver<T>, worker: &str) -> Option<T> {
    #[cfg(feature = "testing")]
    if simulated::is_on() {
        loop {
            match answer.try_recv() {
                Ok(answer) => return Some(answer),
                Err(oneshot::error::TryRecvError::Empty) if simulated::help(worker) => {}
                Err(_) => return None,
            }
        }
    }
    answer.blocking_recv().ok()
}

/// Queues a message on a thread that may wait for room; `worker` is who makes some. Says whether anybody still takes it.
#[cfg_attr(not(feature = "testing"), expect(unused_variables, reason = "who works is asked for in a simulation only"))]
pub(crate) fn send_and_wait<T>(queue: &mpsc::Sender<T>, message: T, worker: &str) -> bool {
    #[cfg(feature = "testing")]
    if simulated::is_on() {
        return match queue.try_send(message) {
            // Once: where nothing else runs, who has made no room then will not make any.
            Err(mpsc::error::TrySendError::Full(message)) if simulated::help(worker) => queue.try_send(message).is_ok(),
            sent => sent.is_ok(),
        };
    }
    queue.blocking_send(message).is_ok()
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
        match ALARM.take() {
            Some(time) => thread::park_timeout(time.saturating_duration_since(Instant::now())),
            None => thread::park(),
        }
    }
}

/// Wakes whoever waits for something or for a time, on a thread that may. One ring is kept for who comes late.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    has_rung: Mutex<bool>,
    rung: Condvar,
    #[cfg(feature = "testing")]
    simulated: tokio::sync::Notify,
}

impl Bell {
    /// Rings.
    pub(crate) fn ring(&self) {
        *self.has_rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.rung.notify_one();
        #[cfg(feature = "testing")]
        self.simulated.notify_one();
    }

    /// Waits for a ring, or until a time.
    #[cfg_attr(not(feature = "testing"), expect(clippy::unused_async, reason = "without threads it is"))]
    pub(crate) async fn wait_until(&self, until: Option<Instant>) {
        #[cfg(feature = "testing")]
        if simulated::is_on() {
            let _ = super::timeout_at(until, self.simulated.notified()).await;
            return;
        }
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
