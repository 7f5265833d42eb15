//! Grants: what principals may do.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use rejoin::codec::v1::Access;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{self, Asked, Body, PageOfPrincipal, page, space_text};
use super::principals::{Removed, name};
use super::problem::{Answer, Code, Problem};
use super::{App, about};
use crate::auth::{self, PrincipalId, Target};

/// How much may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Level {
    /// Read.
    Read,
    /// Read and write.
    Write,
    /// All there is.
    Admin,
}

impl From<Access> for Level {
    fn from(access: Access) -> Self {
        match access {
            Access::Read => Self::Read,
            Access::Write => Self::Write,
            Access::Admin => Self::Admin,
        }
    }
}

impl From<Level> for Access {
    fn from(level: Level) -> Self {
        match level {
            Level::Read => Self::Read,
            Level::Write => Self::Write,
            Level::Admin => Self::Admin,
        }
    }
}

/// How all spaces together are written.
const EVERYTHING: &str = "everything";

/// Writes what something is granted for.
pub(super) fn target_text(target: &Target) -> String {
    match target {
        Target::Everything => EVERYTHING.to_owned(),
        Target::Space(space) => format!("space/{}", space_text(space)),
        Target::Document(document) => format!("document/{document}"),
    }
}

/// Reads what something is granted for.
pub(super) fn target(text: &str, fault: Code) -> Answer<Target> {
    let at_fault = |problem: Problem| Problem::new(fault, format!("target: {}", problem.detail));
    match text.split_once('/') {
        Some(("space", space)) => extract::space(space).map(Target::Space).map_err(at_fault),
        Some(("document", document)) => extract::document(document).map(Target::Document).map_err(at_fault),
        None if text == EVERYTHING => Ok(Target::Everything),
        _ => Err(Problem::new(fault, "target: it is everything, space/<id> or document/<id>")),
    }
}

/// What a principal may do.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Grant {
    /// Who. It need not be written down: a JWT may name it.
    principal: String,
    /// For what: `everything`, `space/<id>` or `document/<id>`.
    target: String,
    access: Level,
    /// Until when, in seconds since 1970; null or absent: until it is removed.
    #[serde(default)]
    until_seconds: Option<u64>,
}

impl From<auth::Grant> for Grant {
    fn from(grant: auth::Grant) -> Self {
        Self {
            principal: grant.principal.to_string(),
            target: target_text(&grant.target),
            access: grant.access.into(),
            until_seconds: grant.until,
        }
    }
}

page!(GrantPage, Grant, String, "grants");

/// Where a page ended: the target, which holds no space, and the principal, which may.
fn cursor(grant: &auth::Grant) -> String {
    format!("{} {}", target_text(&grant.target), grant.principal)
}

fn read_cursor(text: &str) -> Answer<(PrincipalId, Target)> {
    let wrong = || Problem::new(Code::QueryInvalid, "it is next of the page before");
    let (of, principal) = text.split_once(' ').ok_or_else(wrong)?;
    Ok((name(principal, Code::QueryInvalid)?, target(of, Code::QueryInvalid)?))
}

/// Lists what was granted, by principal.
#[utoipa::path(get, path = "/v1/grants", params(PageOfPrincipal), responses((status = 200, body = GrantPage)))]
pub(super) async fn grant_list(
    State(app): State<App>,
    Asked(which): Asked<PageOfPrincipal>,
) -> Answer<Json<GrantPage>> {
    let limit = extract::limit(which.limit)?;
    let principal = which.principal.as_deref().map(|text| name(text, Code::QueryInvalid)).transpose()?;
    let after = extract::after(which.after.as_deref(), read_cursor)?;
    let found = app.shared.directory.grants(principal.as_ref(), after.as_ref(), limit);
    let next = (found.len() == limit).then(|| found.last().map(cursor)).flatten();
    Ok(Json(GrantPage { items: found.into_iter().map(Grant::from).collect(), next }))
}

/// Grants something, in place of what was granted to the same principal for the same target.
#[utoipa::path(put, path = "/v1/grants", request_body = Grant, responses((status = 200, body = Grant)))]
pub(super) async fn grant_put(State(app): State<App>, Body(grant): Body<Grant>) -> Answer<Response> {
    let grant = auth::Grant {
        principal: name(&grant.principal, Code::BodyInvalid)?,
        target: target(&grant.target, Code::BodyInvalid)?,
        access: grant.access.into(),
        until: grant.until_seconds,
    };
    let put = app.blocking(move |app| Ok(Grant::from(app.shared.directory.put_grant(grant)?))).await?;
    Ok(about(format!("principal/{}", put.principal), Json(put)))
}

/// Which grant is taken back.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Removal {
    /// Whose.
    principal: String,
    /// For what: `everything`, `space/<id>` or `document/<id>`.
    target: String,
}

/// Takes back what was granted. What a connection may do changes within a second.
#[utoipa::path(delete, path = "/v1/grants", params(Removal), responses((status = 200, body = Removed)))]
pub(super) async fn grant_remove(State(app): State<App>, Asked(removal): Asked<Removal>) -> Answer<Response> {
    let principal = name(&removal.principal, Code::QueryInvalid)?;
    let target = target(&removal.target, Code::QueryInvalid)?;
    let about_whom = format!("principal/{principal}");
    let removed = app
        .blocking(move |app| {
            Removed::answer(app.shared.directory.remove_grant(&principal, &target)?, Code::GrantUnknown)
        })
        .await?;
    Ok(about(about_whom, removed))
}
