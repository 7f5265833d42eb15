//! The writer's queue where there is one thread: whoever cannot wait for the writer's task does its work.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::{COMMIT_JOBS_MAX, Job, QUEUE_JOBS_MAX, commit};
use crate::repo::RepoError;
use crate::store::Store;

/// Where jobs are handed in.
#[derive(Clone)]
pub(super) struct Queue {
    waiting: Arc<Mutex<Vec<Job>>>,
    bell: mpsc::Sender<()>,
    store: Arc<dyn Store>,
}

/// Where they come out.
pub(super) struct Incoming {
    waiting: Arc<Mutex<Vec<Job>>>,
    bell: mpsc::Receiver<()>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

pub(super) fn queue(store: &Arc<dyn Store>) -> (Queue, Incoming) {
    let (bell, rung) = mpsc::channel(1);
    let waiting = Arc::<Mutex<Vec<Job>>>::default();
    (Queue { waiting: Arc::clone(&waiting), bell, store: Arc::clone(store) }, Incoming { waiting, bell: rung })
}

impl Queue {
    /// Hands in a job.
    pub(super) async fn put(&self, job: Job) -> Result<(), RepoError> {
        self.put_from_thread(job)
    }

    /// Hands in a job. If there is no room for it, those before it are committed.
    pub(super) fn put_from_thread(&self, job: Job) -> Result<(), RepoError> {
        let is_full = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(job);
            waiting.len() >= QUEUE_JOBS_MAX
        };
        if is_full {
            self.commit_all();
        } else if let Err(mpsc::error::TrySendError::Closed(())) = self.bell.try_send(()) {
            return Err(RepoError::Closed);
        }
        Ok(())
    }

    /// Commits what waits.
    pub(super) fn commit_all(&self) {
        let jobs = take(&self.waiting);
        if !jobs.is_empty() {
            commit(self.store.as_ref(), jobs);
        }
    }
}

impl Incoming {
    /// Waits for jobs; `None` when the last queue is gone.
    pub(super) async fn next(&mut self) -> Option<Vec<Job>> {
        loop {
            let is_open = self.bell.recv().await.is_some();
            let jobs = take(&self.waiting);
            if !jobs.is_empty() {
                return Some(jobs);
            }
            if !is_open {
                return None;
            }
        }
    }
}

/// Takes what waits, so that nothing is locked while it is committed.
fn take(waiting: &Mutex<Vec<Job>>) -> Vec<Job> {
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let end = waiting.len().min(COMMIT_JOBS_MAX);
    waiting.drain(..end).collect()
}
