//! The writer: executes writes in order and commits many of them at once. With threads it has one of its own.
//!
//! A commit waits for the disk; while it does, new jobs queue up, and the next commit takes all of them. So the number of
//! flushes follows the disk's speed and not the number of writes, and a lone write waits for nobody. In a browser, where
//! nobody can queue a job meanwhile, a commit takes what was handed in since the last time the event loop came round.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::RepoError;
use crate::runtime;
use crate::store::{Store, StoreError, WriteTx};

#[cfg_attr(target_family = "wasm", path = "writer/tasks.rs")]
#[cfg_attr(not(target_family = "wasm"), path = "writer/threads.rs")]
mod queue;

use queue::Queue;

/// The most jobs that wait; who hands in another one waits too.
const QUEUE_JOBS_MAX: usize = 1_024;

/// The most jobs in one commit: bounds how long the first of them waits for the others.
const COMMIT_JOBS_MAX: usize = 1_024;

/// What to do in the transaction. It returns what to do after the commit, which tells whether that succeeded.
///
/// A job either returns an error before its first put, or all its puts are meant: other jobs share the transaction.
type Job = Box<dyn FnOnce(&mut dyn WriteTx) -> Result<Done, StoreError> + Send>;
type Done = Box<dyn FnOnce(Result<(), Arc<StoreError>>) + Send>;

/// A handle to the writer. It ends when the last handle is dropped and the queue is empty.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    jobs: Queue,
}

/// What a write made, when it is durable.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    outcome: oneshot::Receiver<Result<T, RepoError>>,
    /// Where the write may still be waiting.
    #[cfg_attr(not(target_family = "wasm"), expect(dead_code, reason = "with threads nobody has to help the writer"))]
    jobs: Queue,
}

impl<T> Answer<T> {
    /// Waits for the commit, on a thread that may. In a browser it commits.
    pub(crate) fn wait(self) -> Result<T, RepoError> {
        #[cfg(not(target_family = "wasm"))]
        let outcome = self.outcome.blocking_recv().ok();
        #[cfg(target_family = "wasm")]
        let outcome = {
            let mut outcome = self.outcome;
            self.jobs.commit_all();
            outcome.try_recv().ok()
        };
        outcome.ok_or(RepoError::Closed)?
    }

    /// Waits for the commit as a task does.
    pub(crate) async fn arrived(self) -> Result<T, RepoError> {
        self.outcome.await.map_err(|_| RepoError::Closed)?
    }
}

impl Writer {
    /// Starts the writer. It drops `ended` last of all, when it no longer holds the store.
    pub(crate) fn start(store: Arc<dyn Store>, ended: mpsc::Sender<()>) -> Result<Self, RepoError> {
        let (jobs, mut incoming) = queue::queue(&store);
        runtime::start("rejoin-writer", async move {
            while let Some(jobs) = incoming.next().await {
                commit(store.as_ref(), jobs);
            }
            drop(store);
            drop(ended);
        })?;
        Ok(Self { jobs })
    }

    /// Runs `work` in a transaction and returns what it made, once that is durable. `then` runs right after the commit,
    /// in commit order.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn WriteTx) -> Result<T, StoreError> + Send + 'static,
        then: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, RepoError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.put(job(work, then, reply)).await?;
        answer.await.map_err(|_| RepoError::Closed)?
    }

    /// Queues a write from a thread that may wait, and returns where its outcome will arrive.
    pub(crate) fn write_from_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn WriteTx) -> Result<T, StoreError> + Send + 'static,
        then: impl FnOnce(&T) + Send + 'static,
    ) -> Result<Answer<T>, RepoError> {
        let (reply, outcome) = oneshot::channel();
        self.jobs.put_from_thread(job(work, then, reply))?;
        Ok(Answer { outcome, jobs: self.jobs.clone() })
    }
}

fn job<T: Send + 'static>(
    work: impl FnOnce(&mut dyn WriteTx) -> Result<T, StoreError> + Send + 'static,
    then: impl FnOnce(&T) + Send + 'static,
    reply: oneshot::Sender<Result<T, RepoError>>,
) -> Job {
    Box::new(move |tx| {
        let outcome = work(tx)?;
        Ok(Box::new(move |committed| {
            // Nobody waits any more when the caller's future was dropped; the write stands all the same.
            let _ = match committed {
                Ok(()) => {
                    then(&outcome);
                    reply.send(Ok(outcome))
                }
                Err(error) => reply.send(Err(RepoError::Store(error))),
            };
        }))
    })
}

/// Executes the jobs in one transaction. A job that is dropped unanswered tells its caller so by closing the channel.
fn commit(store: &dyn Store, jobs: Vec<Job>) {
    let mut jobs = Some(jobs);
    let mut done: Vec<Done> = Vec::new();
    let result = store.write(&mut |tx| {
        for job in jobs.take().ok_or(StoreError::CalledTwice)? {
            done.push(job(tx)?);
        }
        Ok(())
    });
    let result = result.map_err(|error| {
        tracing::error!(%error, "failed to commit a batch of writes");
        Arc::new(error)
    });
    for done in done {
        done(result.clone());
    }
}
