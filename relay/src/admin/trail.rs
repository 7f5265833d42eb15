//! The audit trail, to be read.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::extract::{self, Asked};
use super::problem::{Answer, Code, Problem};
use crate::audit::{self, Filter, Kind, Page, Record};

/// One act of an administrator, or one write that was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditRecord {
    /// Its number: later ones are greater.
    number: u64,
    /// When, in seconds since 1970.
    time_seconds: u64,
    kind: Kind,
    /// The name of the administrator's credential, or the principal whose write was refused; empty for nobody in particular.
    who: String,
    /// What was done, such as `space.create`; `append` for a write.
    action: String,
    /// To what, such as `document/<id>`.
    #[schema(required = true)]
    target: Option<String>,
    /// `ok`, or the code of an error.
    outcome: String,
    /// Where it came from.
    #[schema(required = true)]
    address: Option<String>,
    /// The first of the changes that were refused, by its hash.
    #[schema(required = true)]
    change: Option<String>,
    /// How many were refused together.
    #[schema(required = true)]
    count: Option<u64>,
}

/// Some of the audit trail.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditPage {
    /// In the order of their numbers.
    items: Vec<AuditRecord>,
    /// `after` of the next page; null if this is the last one. A page may be short or empty and still not be the last.
    #[schema(required = true)]
    next: Option<u64>,
    /// How many records were lost since the relay started, because more came than could be written.
    lost: u64,
}

/// What is looked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Where to go on: `next` of the page before.
    after: Option<u64>,
    /// The most items, 1 to 1,000. Default: 100.
    limit: Option<usize>,
    /// The newest that fit instead of the oldest; `next` then tells what comes after them.
    last: Option<bool>,
    /// Only acts or only refusals.
    kind: Option<Kind>,
    /// The beginning of the action, such as `space.`.
    action: Option<String>,
    /// Who did it, or the principal to whom it was done.
    principal: Option<String>,
    /// The beginning of the target, such as `document/`.
    target: Option<String>,
    /// Not before this time, in seconds since 1970.
    since_seconds: Option<u64>,
    /// Not after this time, in seconds since 1970.
    until_seconds: Option<u64>,
}

/// Reads the audit trail.
#[utoipa::path(get, path = "/v1/audit", params(Wanted), responses((status = 200, body = AuditPage)))]
pub(super) async fn audit_list(State(app): State<App>, Asked(wanted): Asked<Wanted>) -> Answer<Json<AuditPage>> {
    let limit = extract::limit(wanted.limit)?;
    if wanted.after.is_some() && wanted.last == Some(true) {
        return Err(Problem::new(Code::QueryInvalid, "after and last exclude each other"));
    }
    let filter = Filter {
        kind: wanted.kind,
        action: wanted.action,
        principal: wanted.principal,
        target: wanted.target,
        since_seconds: wanted.since_seconds,
        until_seconds: wanted.until_seconds,
    };
    app.shared.audit.flush().await;
    let Page { records, next } = app
        .blocking(move |app| {
            let tx = app.shared.store.read()?;
            match wanted.last {
                Some(true) => Ok(audit::read_last(&*tx, &filter, limit)?),
                _ => Ok(audit::read(&*tx, &filter, wanted.after.unwrap_or_default(), limit)?),
            }
        })
        .await?;
    let items = records.into_iter().map(AuditRecord::from).collect();
    Ok(Json(AuditPage { items, next, lost: app.shared.audit.lost() }))
}

impl From<(u64, Record)> for AuditRecord {
    fn from((number, record): (u64, Record)) -> Self {
        let Record { time_seconds, kind, who, action, target, outcome, address, change, count } = record;
        Self { number, time_seconds, kind, who, action, target, outcome, address, change, count }
    }
}
