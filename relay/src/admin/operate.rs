//! Operating the relay: its configuration, statistics, checks and backups, and the jobs that carry the long ones out.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use rejoin::care;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::extract::{self, Asked, At, Body, page};
use super::jobs::{Job, JobKind, JobProgress, Running};
use super::problem::{Answer, Code, Problem};
use super::{Admin, App, about};
use crate::backup::{self, BackupError, Manifest, OnlineOptions};
use crate::care::check_store;

page!(JobPage, Job, u64, "jobs");

/// Which jobs are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Where to go on: `next` of the page before.
    after: Option<u64>,
    /// The most items, 1 to 1,000. Default: 100.
    limit: Option<usize>,
}

/// Lists the jobs under way and the last ones that ended.
#[utoipa::path(get, path = "/v1/jobs", params(Which), responses((status = 200, body = JobPage)))]
pub(super) async fn job_list(State(app): State<App>, Asked(which): Asked<Which>) -> Answer<Json<JobPage>> {
    let limit = extract::limit(which.limit)?;
    let items = app.jobs.list(which.after.unwrap_or_default(), limit);
    let next = (items.len() == limit).then(|| items.last().map(Job::id)).flatten();
    Ok(Json(JobPage { items, next }))
}

/// Returns one job: how far it is, or what came of it.
#[utoipa::path(get, path = "/v1/jobs/{job}", params(("job" = u64, Path)), responses((status = 200, body = Job)))]
pub(super) async fn job_get(State(app): State<App>, At(job): At<u64>) -> Answer<Json<Job>> {
    app.jobs.get(job).map(Json)
}

/// Begins a job and says so; the work runs beside the runtime's threads.
pub(super) fn start(
    app: &Arc<Admin>,
    kind: JobKind,
    work: impl FnOnce(&Arc<Admin>, &Running) -> Answer<Value> + Send + 'static,
) -> Answer<Response> {
    let (job, running) = app.jobs.begin(kind)?;
    let app = Arc::clone(app);
    tokio::task::spawn_blocking(move || {
        let outcome = work(&app, &running);
        running.end(outcome);
    });
    Ok(about(format!("job/{}", job.id()), (StatusCode::ACCEPTED, Json(job)).into_response()))
}

/// Checks the store while the relay runs, on one state of it: every hash, dependency, head, count and log, the
/// directory and the audit trail. A job; its result
/// is the report.
#[utoipa::path(post, path = "/v1/verify", responses((status = 202, body = Job)))]
pub(super) async fn store_verify(State(app): State<App>) -> Answer<Response> {
    start(&app, JobKind::Verify, |app, running| {
        let report = check_store(&*app.shared.store, &mut |progress| running.progress(progress))?;
        Ok(report.to_json())
    })
}

/// Counts everything that is in the store. A job: all of it is read once.
#[utoipa::path(post, path = "/v1/stats", responses((status = 202, body = Job)))]
pub(super) async fn stats_count(State(app): State<App>) -> Answer<Response> {
    start(&app, JobKind::Stats, |app, _| Ok(care::stats(&*app.shared.store)?.to_json()))
}

/// How the relay is, as far as that costs nothing to know.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stats {
    /// The relay's version.
    version: String,
    /// For how long it has been running.
    uptime_seconds: u64,
    /// How many connections there are.
    connections: usize,
    /// The size of the store's file, if it is in one.
    #[schema(required = true)]
    store_bytes: Option<u64>,
    /// Whether the last commit went well.
    is_writable: bool,
    /// Whether the relay is stopping.
    is_draining: bool,
    /// How many documents are in quarantine.
    quarantined: usize,
    /// How many records of the audit trail were lost since the relay started.
    audit_lost: u64,
}

/// Says how the relay is. `POST` counts what is in the store.
#[utoipa::path(get, path = "/v1/stats", responses((status = 200, body = Stats)))]
pub(super) async fn stats_get(State(app): State<App>) -> Answer<Json<Stats>> {
    let store_bytes = app.blocking(|app| Ok(app.shared.store.size_bytes()?)).await?;
    Ok(Json(Stats {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: app.started.elapsed().as_secs(),
        connections: app.shared.registry.count(),
        store_bytes,
        is_writable: app.shared.log.is_writable(),
        is_draining: *app.shared.draining.borrow(),
        quarantined: app.shared.quarantine.count(),
        audit_lost: app.shared.audit.lost(),
    }))
}

/// The configuration in force.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EffectiveConfig {
    /// Every key with its value, as in the file; secrets are redacted.
    #[schema(value_type = Object)]
    config: Value,
}

/// Returns the configuration in force, without its secrets.
#[utoipa::path(get, path = "/v1/config", responses((status = 200, body = EffectiveConfig)))]
pub(super) async fn config_get(State(app): State<App>) -> Answer<Json<EffectiveConfig>> {
    Ok(Json(EffectiveConfig { config: app.shared.config().to_json() }))
}

/// What a reload did.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Reloaded {
    /// The keys that have another value now.
    changed: Vec<String>,
}

/// Reads the configuration again, as SIGHUP does.
#[utoipa::path(post, path = "/v1/reload", responses((status = 200, body = Reloaded)))]
pub(super) async fn relay_reload(State(app): State<App>) -> Answer<Json<Reloaded>> {
    let Some(handle) = app.shared.config().reload.clone() else {
        return Err(Problem::new(Code::NotAvailable, "this relay is part of another program, which configures it"));
    };
    match handle.reload().await {
        Some(Ok(changed)) => Ok(Json(Reloaded { changed })),
        // What is wrong is told without the values of secrets.
        Some(Err(errors)) => Err(Problem::new(Code::ConfigInvalid, errors.to_string())),
        None => Err(Problem::new(Code::Stopping, "the relay is stopping")),
    }
}

/// Where a backup goes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupTo {
    /// A directory on the relay's machine that is to be made, by its absolute path.
    to: String,
    /// An earlier backup there, by its absolute path: only what came since is copied. Default: everything.
    since: Option<String>,
}

/// Backs the store up while the relay runs, as of one moment, into a new directory on its machine. A job; its result is the
/// backup's manifest.
#[utoipa::path(post, path = "/v1/backup", request_body = BackupTo, responses((status = 202, body = Job)))]
pub(super) async fn backup_start(State(app): State<App>, Body(wanted): Body<BackupTo>) -> Answer<Response> {
    let absolute = |name: &str, text: String| {
        let path = PathBuf::from(text);
        let detail = format!("{name}: it is an absolute path on the relay's machine");
        if path.is_absolute() { Ok(path) } else { Err(Problem::new(Code::BodyInvalid, detail)) }
    };
    let to = absolute("to", wanted.to)?;
    let since = wanted.since.map(|since| absolute("since", since)).transpose()?;
    let since = app
        .blocking(move |_| {
            let read = |path: PathBuf| Manifest::read(&path);
            since.map(read).transpose().map_err(|error| Problem::new(Code::Refused, format!("since: {error}")))
        })
        .await?;
    if to.exists() {
        return Err(Problem::new(Code::FileExists, format!("{} is there already", to.display())));
    }
    start(&app, JobKind::Backup, move |app, running| {
        let options = OnlineOptions::of(&app.shared.config().backup);
        let _read = app.shared.metrics.long_read();
        let manifest = backup::online_with(&*app.shared.store, &to, since.as_ref(), &options, &mut |progress| {
            running.progress(JobProgress { documents: 0, rows: progress.rows, bytes: progress.bytes });
            // A relay that stops waits for nobody.
            if *app.shared.draining.borrow() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let manifest = manifest.map_err(|error| match error {
            BackupError::Exists { .. } => Problem::new(Code::FileExists, error.to_string()),
            _ => Problem::new(Code::Refused, error.to_string()),
        })?;
        serde_json::to_value(&manifest).map_err(|error| Problem::new(Code::Internal, error.to_string()))
    })
}
