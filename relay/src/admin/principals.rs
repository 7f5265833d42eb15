//! Principals: who may come in.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{self, Asked, At, Body, PageOf, maybe, page};
use super::problem::{Answer, Code, Problem};
use super::{App, about, text};
use crate::auth::{self, DirectoryError, PrincipalId};

/// Somebody who may come in, as it was written down.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Principal {
    id: String,
    /// What people call it.
    #[schema(required = true)]
    label: Option<String>,
    /// Whether all of its tokens are refused.
    disabled: bool,
    /// When it was written down, in seconds since 1970.
    created_seconds: u64,
}

impl From<auth::Principal> for Principal {
    fn from(principal: auth::Principal) -> Self {
        let auth::Principal { id, label, disabled, created_seconds } = principal;
        Self { id: id.to_string(), label, disabled, created_seconds }
    }
}

page!(PrincipalPage, Principal, String, "principals");

impl From<DirectoryError> for Problem {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Store(error) => Self::from(error),
            DirectoryError::Unknown { what: "principal" } => Self::plain(Code::PrincipalUnknown),
            DirectoryError::Unknown { what: "token" } => Self::plain(Code::TokenUnknown),
            DirectoryError::Invalid { .. } | DirectoryError::Full { .. } | DirectoryError::Unknown { .. } => {
                Self::new(Code::Refused, error.to_string())
            }
            _ => Self::new(Code::Internal, error.to_string()),
        }
    }
}

/// Reads a principal's name, which is at fault where it stands.
pub(super) fn name(text: &str, fault: Code) -> Answer<PrincipalId> {
    let detail = "principal: it has 1 to 128 bytes and no control characters";
    PrincipalId::new(text).ok_or_else(|| Problem::new(fault, detail))
}

/// Lists the principals that are written down, by name. Who comes with a JWT need not be.
#[utoipa::path(get, path = "/v1/principals", params(PageOf), responses((status = 200, body = PrincipalPage)))]
pub(super) async fn principal_list(State(app): State<App>, Asked(page): Asked<PageOf>) -> Answer<Json<PrincipalPage>> {
    let limit = page.limit()?;
    let after = extract::after(page.after.as_deref(), |text| name(text, Code::QueryInvalid))?;
    let found = app.shared.directory.principals(after.as_ref(), limit);
    let next = (found.len() == limit).then(|| found.last().map(|last| last.id.to_string())).flatten();
    Ok(Json(PrincipalPage { items: found.into_iter().map(Principal::from).collect(), next }))
}

/// A principal that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPrincipal {
    /// The application's name for it, such as the `sub` of its tokens: 1 to 128 bytes.
    id: String,
    /// What people call it.
    label: Option<String>,
}

/// Writes a principal down, so that it may have tokens.
#[utoipa::path(post, path = "/v1/principals", request_body = NewPrincipal, responses((status = 201, body = Principal)))]
pub(super) async fn principal_create(State(app): State<App>, Body(new): Body<NewPrincipal>) -> Answer<Response> {
    let id = name(&new.id, Code::BodyInvalid)?;
    let label = new.label.map(|label| text("label", label)).transpose()?;
    let made = app
        .blocking(move |app| {
            if app.shared.directory.principal(&id).is_some() {
                return Err(Problem::plain(Code::PrincipalExists));
            }
            Ok(Principal::from(app.shared.directory.put_principal(id, label, false)?))
        })
        .await?;
    Ok(about(format!("principal/{}", made.id), (StatusCode::CREATED, Json(made)).into_response()))
}

/// Returns one principal.
#[utoipa::path(get, path = "/v1/principals/{principal}", params(("principal" = String, Path)), responses((status = 200, body = Principal)))]
pub(super) async fn principal_get(State(app): State<App>, At(principal): At<String>) -> Answer<Json<Principal>> {
    let found = app.shared.directory.principal(&name(&principal, Code::PathInvalid)?);
    found.map(|found| Json(found.into())).ok_or_else(|| Problem::plain(Code::PrincipalUnknown))
}

/// What is to change. What is absent stays; null takes away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PrincipalPatch {
    /// What people call it.
    #[serde(default, deserialize_with = "maybe")]
    #[schema(value_type = Option<String>)]
    label: Option<Option<String>>,
    /// Whether all of its tokens are refused, JWTs too. Its connections end within a second.
    #[serde(default)]
    disabled: Option<bool>,
}

/// Changes a principal; one that is not written down and is to be disabled is written down.
#[utoipa::path(patch, path = "/v1/principals/{principal}", params(("principal" = String, Path)), request_body = PrincipalPatch, responses((status = 200, body = Principal)))]
pub(super) async fn principal_patch(
    State(app): State<App>,
    At(principal): At<String>,
    Body(patch): Body<PrincipalPatch>,
) -> Answer<Json<Principal>> {
    let id = name(&principal, Code::PathInvalid)?;
    let label = match patch.label {
        Some(Some(label)) => Some(Some(text("label", label)?)),
        other => other,
    };
    app.blocking(move |app| {
        let before = app.shared.directory.principal(&id);
        // Who comes with a JWT is not written down, and may have to be kept out all the same.
        if before.is_none() && patch.disabled != Some(true) {
            return Err(Problem::plain(Code::PrincipalUnknown));
        }
        let disabled = patch.disabled.unwrap_or(before.as_ref().is_some_and(|before| before.disabled));
        let label = label.unwrap_or(before.and_then(|before| before.label));
        Ok(Json(app.shared.directory.put_principal(id, label, disabled)?.into()))
    })
    .await
}

/// What was removed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Removed {
    /// Whether it was there. Always true: what is not there is an error.
    removed: bool,
}

impl Removed {
    pub(super) fn answer(was_there: bool, code: Code) -> Answer<Json<Self>> {
        if was_there { Ok(Json(Self { removed: true })) } else { Err(Problem::plain(code)) }
    }
}

/// Deletes a principal with its tokens, share links and grants. Who has a JWT for it may come in again: to keep somebody out,
/// disable it.
#[utoipa::path(delete, path = "/v1/principals/{principal}", params(("principal" = String, Path)), responses((status = 200, body = Removed)))]
pub(super) async fn principal_delete(State(app): State<App>, At(principal): At<String>) -> Answer<Json<Removed>> {
    let id = name(&principal, Code::PathInvalid)?;
    app.blocking(move |app| Removed::answer(app.shared.directory.delete_principal(&id)?, Code::PrincipalUnknown)).await
}
