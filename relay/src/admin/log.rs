//! The tail of a space's log: what became durable when, never what is in it.

use std::ops::ControlFlow;

use axum::Json;
use axum::extract::State;
use rejoin::ledger::{self, log};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::documents::require_space;
use super::extract::{self, Asked, At};
use super::problem::{Answer, Code, Problem};
use crate::limits::ADMIN_LOG_BYTES_MAX;
use crate::show::hex;

/// What happened at a position.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Happened {
    /// A change became durable.
    Change,
    /// The document was deleted everywhere.
    Deleted,
    /// The document is damaged: changes up to here cannot be read.
    Lost,
}

/// One entry of a log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LogEntry {
    position: u64,
    document: String,
    what: Happened,
    /// The change's hash.
    #[schema(required = true)]
    hash: Option<String>,
    /// Who made it, in hexadecimal digits.
    #[schema(required = true)]
    actor: Option<String>,
    /// Which change of its actor it is, from 1.
    #[schema(required = true)]
    seq: Option<u64>,
    /// Its size, uncompressed.
    #[schema(required = true)]
    bytes: Option<u64>,
}

/// Some of a log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LogPage {
    /// In the order of their positions. What no longer means anything is left out.
    items: Vec<LogEntry>,
    /// `after` of the next page; null if there is nothing behind it yet.
    #[schema(required = true)]
    next: Option<u64>,
    /// The last position of the space.
    end: u64,
}

/// Which part of the log is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Part {
    /// Entries behind this position. Default: 0.
    after: Option<u64>,
    /// The last so many positions instead.
    last: Option<u64>,
    /// The most items, 1 to 1,000. Default: 100.
    limit: Option<usize>,
}

/// Reads a space's log.
#[utoipa::path(get, path = "/v1/spaces/{space}/log", params(("space" = String, Path), Part), responses((status = 200, body = LogPage)))]
pub(super) async fn log_tail(
    State(app): State<App>,
    At(space): At<String>,
    Asked(part): Asked<Part>,
) -> Answer<Json<LogPage>> {
    let space = extract::space(&space)?;
    let limit = extract::limit(part.limit)?;
    if part.after.is_some() && part.last.is_some() {
        return Err(Problem::new(Code::QueryInvalid, "after and last exclude each other"));
    }
    app.blocking(move |app| {
        let tx = app.shared.store.read()?;
        require_space(app, &*tx, &space)?;
        let end = log::end(&*tx, &space)?;
        let after = part.last.map_or(part.after.unwrap_or_default(), |last| end.saturating_sub(last));
        let mut found = Vec::new();
        let at = log::read(&*tx, &space, after, ADMIN_LOG_BYTES_MAX, &mut |entry| {
            let (what, ledger_position) = match entry.what {
                log::What::Change { ledger_position, .. } => (Happened::Change, Some(ledger_position)),
                log::What::Deleted => (Happened::Deleted, None),
                _ => (Happened::Lost, None),
            };
            found.push((entry.position, entry.document, what, ledger_position));
            if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let mut items = Vec::with_capacity(found.len());
        for (position, document, what, ledger_position) in found {
            let node = ledger_position.map(|at| ledger::node(&*tx, &document, at)).transpose()?;
            items.push(LogEntry {
                position,
                document: document.to_string(),
                what,
                hash: node.as_ref().map(|node| hex(&node.hash.0)),
                actor: node.as_ref().map(|node| node.actor.to_hex_string()),
                seq: node.as_ref().map(|node| node.seq),
                bytes: node.as_ref().map(|node| node.bytes),
            });
        }
        Ok(Json(LogPage { items, next: (at < end).then_some(at), end }))
    })
    .await
}
