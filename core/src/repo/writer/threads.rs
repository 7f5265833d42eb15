//! The writer's queue between threads.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{COMMIT_JOBS_MAX, Job, QUEUE_JOBS_MAX};
use crate::repo::{RepoError, in_order};
use crate::runtime;
use crate::store::Store;

/// Where jobs are handed in.
#[derive(Debug, Clone)]
pub(super) struct Queue(mpsc::Sender<Job>);

/// Where they come out.
pub(super) struct Incoming(mpsc::Receiver<Job>);

pub(super) fn queue(_store: &Arc<dyn Store>) -> (Queue, Incoming) {
    let (jobs, queue) = mpsc::channel(QUEUE_JOBS_MAX);
    (Queue(jobs), Incoming(queue))
}

impl Queue {
    /// Hands in a job, and waits while there is no room for it.
    pub(super) async fn put(&self, job: Job) -> Result<(), RepoError> {
        in_order(&self.0, job).await
    }

    /// Hands in a job from a thread that may wait.
    pub(super) fn put_from_thread(&self, job: Job) -> Result<(), RepoError> {
        runtime::send_and_wait(&self.0, job, "rejoin-writer").then_some(()).ok_or(RepoError::Closed)
    }
}

impl Incoming {
    /// Waits for a job, and takes those with it that wait behind it; `None` when the last queue is gone.
    pub(super) async fn next(&mut self) -> Option<Vec<Job>> {
        let mut jobs = vec![self.0.recv().await?];
        while jobs.len() < COMMIT_JOBS_MAX
            && let Ok(job) = self.0.try_recv()
        {
            jobs.push(job);
        }
        Some(jobs)
    }
}
