//! The writer: executes writes in order and commits many of them at once. With threads it has one of its own.
//!
//! A commit waits for the disk; while it does, new jobs queue up, and the next commit takes all of them. So the number of
//! flushes follows the disk's speed and not the number of writes, and a lone write waits for nobody. In a browser, where
//! nobody can queue a job meanwhile, a commit takes what was handed in since the last time the event loop came round.

use std::collections::VecDeque;
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
/// Does its work if it is given a transaction, and says how that went and who is to be told what came of it.
type Job = Box<dyn FnOnce(Option<&mut dyn WriteTx>) -> (Result<(), StoreError>, Done) + Send>;
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
        let outcome = runtime::wait_for(self.outcome, "rejoin-writer");
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

impl<T: Send + 'static> Answer<T> {
    /// Waits for nothing, and forgets what the write made: it is looked later whether it failed.
    pub(crate) fn noted(mut self) -> Note {
        Note(Box::new(move || match self.outcome.try_recv() {
            Ok(outcome) => Some(outcome.map(drop)),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(RepoError::Closed)),
        }))
    }
}

/// A write that nobody waits for.
pub(crate) struct Note(Box<dyn FnMut() -> Option<Result<(), RepoError>> + Send>);

/// Writes that nobody waits for, in the order of their commits.
#[derive(Default)]
pub(crate) struct Notes(VecDeque<Note>);

impl Notes {
    /// Keeps one until it is durable.
    pub(crate) fn keep(&mut self, note: Note) {
        self.0.push_back(note);
    }

    /// Lets go of those that are durable.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if one of them failed: what it noted is to be learned again.
    pub(crate) fn check(&mut self) -> Result<(), RepoError> {
        while let Some(outcome) = self.0.front_mut().and_then(|note| note.0()) {
            self.0.pop_front();
            outcome?;
        }
        Ok(())
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
        let (result, outcome) = match tx.map(work) {
            Some(Ok(outcome)) => (Ok(()), Some(outcome)),
            Some(Err(error)) => (Err(error), None),
            None => (Ok(()), None),
        };
        let done: Done = Box::new(move |committed| {
            // Nobody waits any more when the caller's future was dropped; the write stands all the same.
            let _ = match (committed, outcome) {
                (Ok(()), Some(outcome)) => {
                    then(&outcome);
                    reply.send(Ok(outcome))
                }
                (Ok(()), None) => reply.send(Err(RepoError::Closed)),
                (Err(error), _) => reply.send(Err(RepoError::Store(error))),
            };
        });
        (result, done)
    })
}

/// Executes the jobs in one transaction. If one fails, all of them do, and hear why: the disk may be full in the middle of a
/// job as well as at the commit.
fn commit(store: &dyn Store, jobs: Vec<Job>) {
    let mut jobs = Some(jobs);
    let mut left = Vec::new().into_iter();
    let mut done: Vec<Done> = Vec::new();
    let result = store.write(&mut |tx| {
        left = jobs.take().ok_or(StoreError::CalledTwice)?.into_iter();
        for job in left.by_ref() {
            let (result, answer) = job(Some(&mut *tx));
            done.push(answer);
            result?;
        }
        Ok(())
    });
    // Those whose turn never came, because of one before them or since the transaction did not even begin.
    done.extend(left.chain(jobs.into_iter().flatten()).map(|job| job(None).1));
    let result = result.map_err(|error| {
        tracing::error!(%error, "failed to commit a batch of writes");
        Arc::new(error)
    });
    for done in done {
        done(result.clone());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn who_wrote_in_one_batch_with_a_write_that_failed_hears_why() {
        let (ended, _is_over) = mpsc::channel(1);
        let writer = Writer::start(Arc::new(MemoryStore::new()), ended).unwrap();
        let full = || StoreError::Full(std::io::ErrorKind::StorageFull.into());
        let before = writer.write(|_| Ok(1), |_| ());
        let failing = writer.write(move |_| Err::<u8, _>(full()), |_| ());
        let after = writer.write(|_| Ok(3), |_| ());
        let outcomes: [Result<i32, RepoError>; 3] = {
            let (before, failing, after) = tokio::join!(before, failing, after);
            [before, failing.map(i32::from), after]
        };
        for (index, outcome) in outcomes.into_iter().enumerate() {
            // Whether the others were in the same batch is up to the scheduler.
            let is_told = matches!(&outcome, Err(RepoError::Store(error)) if matches!(**error, StoreError::Full(_)));
            assert!(is_told || (index != 1 && outcome.is_ok()), "{index}: {outcome:?}");
        }
        assert_eq!(writer.write(|_| Ok(4), |_| ()).await.unwrap(), 4);
    }
}
