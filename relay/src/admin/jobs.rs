//! Jobs: what takes longer than a request waits. One of each kind runs at a time; the last ones that ended are remembered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::Value as Json;
use utoipa::ToSchema;

use super::problem::{Answer, Code, Problem};
use crate::clock::now_seconds;
use crate::limits::ADMIN_JOBS_KEPT;

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum JobKind {
    /// Checks the store.
    Verify,
    /// Counts what is in the store.
    Stats,
    /// Copies the store.
    Backup,
    /// Deletes a space for good.
    SpaceDelete,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum JobState {
    /// Under way.
    Running,
    /// Done.
    Done,
    /// Given up: `error` says why.
    Failed,
}

/// A job, as it is shown.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Job {
    /// Names it.
    id: u64,
    kind: JobKind,
    state: JobState,
    /// When it began, in seconds since 1970.
    started_seconds: u64,
    /// When it ended, in seconds since 1970.
    #[schema(required = true)]
    ended_seconds: Option<u64>,
    progress: JobProgress,
    /// What it found or did, once it is done; what is in it depends on the kind.
    #[schema(required = true, value_type = Option<Object>)]
    result: Option<Json>,
    /// Why it was given up.
    #[schema(required = true)]
    error: Option<Problem>,
}

/// How far a job has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct JobProgress {
    /// Documents that are done.
    pub(super) documents: u64,
    /// Rows or changes that are done.
    pub(super) rows: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

impl From<rejoin::care::Progress> for JobProgress {
    fn from(progress: rejoin::care::Progress) -> Self {
        Self { documents: progress.documents, rows: progress.rows, bytes: progress.bytes }
    }
}

/// All jobs that are remembered.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    jobs: BTreeMap<u64, Job>,
}

/// A job under way, for who carries it out. Dropped without an end, it counts as failed.
pub(super) struct Running {
    inner: Arc<Mutex<Inner>>,
    id: u64,
}

impl Jobs {
    /// Begins a job, unless one of its kind is under way.
    pub(super) fn begin(&self, kind: JobKind) -> Answer<(Job, Running)> {
        let mut inner = lock(&self.inner);
        let runs = |job: &&Job| job.kind == kind && job.state == JobState::Running;
        if let Some(other) = inner.jobs.values().find(runs) {
            return Err(Problem::new(Code::Busy, format!("job {} does that already: wait for its end", other.id)));
        }
        inner.last += 1;
        let id = inner.last;
        let job = Job {
            id,
            kind,
            state: JobState::Running,
            started_seconds: now_seconds(),
            ended_seconds: None,
            progress: JobProgress::default(),
            result: None,
            error: None,
        };
        inner.jobs.insert(id, job.clone());
        while inner.jobs.len() > ADMIN_JOBS_KEPT {
            let Some(oldest) = inner.jobs.values().find(|job| job.state != JobState::Running).map(|job| job.id) else {
                break;
            };
            inner.jobs.remove(&oldest);
        }
        drop(inner);
        Ok((job, Running { inner: Arc::clone(&self.inner), id }))
    }

    pub(super) fn get(&self, id: u64) -> Answer<Job> {
        lock(&self.inner).jobs.get(&id).cloned().ok_or_else(|| Problem::plain(Code::JobUnknown))
    }

    /// Lists those behind a job, by id.
    pub(super) fn list(&self, after: u64, limit: usize) -> Vec<Job> {
        let Some(first) = after.checked_add(1) else { return Vec::new() };
        lock(&self.inner).jobs.range(first..).take(limit).map(|(_, job)| job.clone()).collect()
    }
}

impl Job {
    pub(super) fn id(&self) -> u64 {
        self.id
    }
}

impl Running {
    pub(super) fn progress(&self, progress: impl Into<JobProgress>) {
        self.change(|job| job.progress = progress.into());
    }

    pub(super) fn end(self, outcome: Answer<Json>) {
        self.change(|job| {
            job.ended_seconds = Some(now_seconds());
            match outcome {
                Ok(result) => (job.state, job.result) = (JobState::Done, Some(result)),
                Err(problem) => (job.state, job.error) = (JobState::Failed, Some(problem)),
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Job)) {
        if let Some(job) = lock(&self.inner).jobs.get_mut(&self.id) {
            change(job);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.change(|job| {
            if job.state == JobState::Running {
                job.ended_seconds = Some(now_seconds());
                (job.state, job.error) = (JobState::Failed, Some(Problem::plain(Code::Internal)));
            }
        });
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_kind_runs_and_what_it_did_is_remembered_for_a_while() {
        let jobs = Jobs::default();
        let (first, running) = jobs.begin(JobKind::Verify).expect("none runs");
        assert_eq!(jobs.begin(JobKind::Verify).err().map(|problem| problem.code), Some(Code::Busy));
        let (other, dropped) = jobs.begin(JobKind::Stats).expect("none of its kind runs");
        running.progress(JobProgress { documents: 1, rows: 2, bytes: 3 });
        assert_eq!(jobs.get(first.id).expect("it is there").progress.rows, 2);
        running.end(Ok(Json::from("fine")));
        drop(dropped);
        assert_eq!(jobs.get(first.id).expect("it is there").state, JobState::Done);
        assert_eq!(jobs.get(other.id).expect("it is there").state, JobState::Failed);
        for _ in 0..ADMIN_JOBS_KEPT {
            jobs.begin(JobKind::Verify).expect("none runs").1.end(Ok(Json::Null));
        }
        assert!(jobs.get(first.id).is_err());
        assert_eq!(jobs.list(0, 999).len(), ADMIN_JOBS_KEPT);
        assert_eq!(jobs.list(u64::MAX, 9).len(), 0);
    }
}
