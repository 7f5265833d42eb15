//! The writer: one thread that executes writes in order and commits many of them at once.
//!
//! A commit waits for the disk; while it does, new jobs queue up, and the next commit takes all of them. So the number of
//! flushes follows the disk's speed and not the number of writes, and a lone write waits for nobody.

use std::sync::Arc;
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::RepoError;
use crate::store::{Store, StoreError, WriteTx};

/// The most jobs that wait; who hands in another one waits too.
const QUEUE_JOBS_MAX: usize = 1_024;

/// The most jobs in one commit: bounds how long the first of them waits for the others.
const COMMIT_JOBS_MAX: usize = 1_024;

/// What to do in the transaction. It returns what to do after the commit, which tells whether that succeeded.
///
/// A job either returns an error before its first put, or all its puts are meant: other jobs share the transaction.
type Job = Box<dyn FnOnce(&mut dyn WriteTx) -> Result<Done, StoreError> + Send>;
type Done = Box<dyn FnOnce(Result<(), Arc<StoreError>>) + Send>;

/// A handle to the writer thread. The thread ends when the last handle is dropped and the queue is empty.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl Writer {
    /// Starts the thread. It drops `ended` last of all, when it no longer holds the store.
    pub(crate) fn start(store: Arc<dyn Store>, ended: mpsc::Sender<()>) -> Result<Self, RepoError> {
        let (jobs, queue) = mpsc::channel(QUEUE_JOBS_MAX);
        thread::Builder::new().name("rejoin-writer".to_owned()).spawn(move || {
            run(store.as_ref(), queue);
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
        self.jobs.send(job(work, then, reply)).await.map_err(|_| RepoError::Closed)?;
        answer.await.map_err(|_| RepoError::Closed)?
    }

    /// Queues a write from a thread that may wait, and returns where its outcome will arrive.
    pub(crate) fn write_from_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn WriteTx) -> Result<T, StoreError> + Send + 'static,
        then: impl FnOnce(&T) + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, RepoError>>, RepoError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.blocking_send(job(work, then, reply)).map_err(|_| RepoError::Closed)?;
        Ok(answer)
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

fn run(store: &dyn Store, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.blocking_recv() {
        let mut jobs = vec![first];
        while jobs.len() < COMMIT_JOBS_MAX
            && let Ok(job) = queue.try_recv()
        {
            jobs.push(job);
        }
        commit(store, jobs);
    }
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
