//! Tokens: the API tokens that administrators make, and the share links that principals make.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{self, Asked, At, Body, PageOfPrincipal, page};
use super::grants::{self, Level};
use super::principals::{Removed, name};
use super::problem::{Answer, Code, Problem};
use super::{App, about, text};
use crate::auth::{self, NewToken, SecretText, TokenId, TokenKind, TokenRecord};
use crate::clock::now_seconds;

/// A stored token. Its text is not known to the relay.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Token {
    /// Names it. No secret.
    id: String,
    kind: Kind,
    /// Whose it is; of a share link, who made it.
    #[schema(required = true)]
    principal: Option<String>,
    /// What people call it.
    #[schema(required = true)]
    label: Option<String>,
    /// When it was made, in seconds since 1970.
    created_seconds: u64,
    /// When it ends by itself, in seconds since 1970.
    #[schema(required = true)]
    expires_seconds: Option<u64>,
    /// Whether it was taken back.
    revoked: bool,
    /// What it allows at most; null for all that its principal may.
    #[schema(required = true)]
    scope: Option<Vec<Scope>>,
}

/// What kind a token is of.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = TokenKind)]
pub(super) enum Kind {
    /// An API token, made by an administrator.
    Api,
    /// A share link.
    Link,
}

/// What a token allows at most.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Scope {
    /// For what: `everything`, `space/<id>` or `document/<id>`.
    target: String,
    access: Level,
}

impl From<TokenRecord> for Token {
    fn from(record: TokenRecord) -> Self {
        let scope =
            |scope: auth::Scope| Scope { target: grants::target_text(&scope.target), access: scope.access.into() };
        Self {
            id: record.id.to_string(),
            kind: match record.kind {
                TokenKind::Api => Kind::Api,
                TokenKind::Link => Kind::Link,
            },
            principal: record.principal.map(|principal| principal.to_string()),
            label: record.label,
            created_seconds: record.created,
            expires_seconds: record.expires,
            revoked: record.revoked,
            scope: record.scope.map(|scopes| scopes.into_iter().map(scope).collect()),
        }
    }
}

page!(TokenPage, Token, String, "tokens");

fn token_id(text: &str, fault: Code) -> Answer<TokenId> {
    text.parse().map_err(|error: auth::ParseTokenIdError| Problem::new(fault, format!("token: {error}")))
}

/// Lists tokens and share links, by id.
#[utoipa::path(get, path = "/v1/tokens", params(PageOfPrincipal), responses((status = 200, body = TokenPage)))]
pub(super) async fn token_list(
    State(app): State<App>,
    Asked(which): Asked<PageOfPrincipal>,
) -> Answer<Json<TokenPage>> {
    let limit = extract::limit(which.limit)?;
    let principal = which.principal.as_deref().map(|text| name(text, Code::QueryInvalid)).transpose()?;
    let after = extract::after(which.after.as_deref(), |text| token_id(text, Code::QueryInvalid))?;
    let found = app.shared.directory.tokens(principal.as_ref(), after, limit);
    let next = (found.len() == limit).then(|| found.last().map(|last| last.id.to_string())).flatten();
    Ok(Json(TokenPage { items: found.into_iter().map(Token::from).collect(), next }))
}

/// A token that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewToken)]
pub(super) struct Wanted {
    /// Whose it is to be: a principal that is written down.
    principal: String,
    /// What people call it.
    label: Option<String>,
    /// After how many seconds it ends. Default: when it is revoked.
    expires_in_seconds: Option<u64>,
    /// What it allows at most, 1 to 128 entries. Default: all that its principal may.
    scope: Option<Vec<Scope>>,
}

/// A token that was made, with its text.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeToken {
    token: Token,
    /// The token's text, which is shown this once. Whoever has it may come in.
    secret: String,
}

/// Answers with a token's text, which nobody is to keep on the way.
fn made((record, secret): (TokenRecord, SecretText)) -> Response {
    let target = format!("token/{}", record.id);
    let made = MadeToken { token: record.into(), secret: secret.expose().to_owned() };
    let headers = [(axum::http::header::CACHE_CONTROL, "no-store")];
    about(target, (StatusCode::CREATED, headers, Json(made)).into_response())
}

/// Makes an API token.
#[utoipa::path(post, path = "/v1/tokens", request_body = Wanted, responses((status = 201, body = MadeToken)))]
pub(super) async fn token_create(State(app): State<App>, Body(wanted): Body<Wanted>) -> Answer<Response> {
    let scope = |scope: &Scope| {
        let target = grants::target(&scope.target, Code::BodyInvalid)?;
        Ok(auth::Scope { target, access: scope.access.into() })
    };
    let scopes = wanted.scope.map(|scopes| scopes.iter().map(scope).collect::<Answer<Vec<_>>>()).transpose()?;
    let new = NewToken {
        principal: name(&wanted.principal, Code::BodyInvalid)?,
        label: wanted.label.map(|label| text("label", label)).transpose()?,
        expires: wanted.expires_in_seconds.map(|seconds| now_seconds().saturating_add(seconds)),
        scope: scopes,
    };
    Ok(made(app.blocking(move |app| Ok(app.shared.directory.create_token(new)?)).await?))
}

/// Returns one token or share link.
#[utoipa::path(get, path = "/v1/tokens/{token}", params(("token" = String, Path)), responses((status = 200, body = Token)))]
pub(super) async fn token_get(State(app): State<App>, At(token): At<String>) -> Answer<Json<Token>> {
    let found = app.shared.directory.token(token_id(&token, Code::PathInvalid)?);
    found.map(|found| Json(found.into())).ok_or_else(|| Problem::plain(Code::TokenUnknown))
}

/// Revokes a token or share link. Its connections end within a second.
#[utoipa::path(delete, path = "/v1/tokens/{token}", params(("token" = String, Path)), responses((status = 200, body = Removed)))]
pub(super) async fn token_revoke(State(app): State<App>, At(token): At<String>) -> Answer<Json<Removed>> {
    let id = token_id(&token, Code::PathInvalid)?;
    app.blocking(move |app| {
        // One that was revoked before is as gone as it can be.
        app.shared.directory.revoke_token(id)?;
        Removed::answer(true, Code::TokenUnknown)
    })
    .await
}

/// How a token is replaced.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    /// For how many seconds the old token still works. Default: 3,600, so that what uses it can be changed meanwhile.
    grace_seconds: Option<u64>,
}

/// How long a token that was replaced works on, in seconds: an hour.
const GRACE_SECONDS_DEFAULT: u64 = 3_600;

/// Makes a token that takes the place of an API token, which ends after a grace.
#[utoipa::path(post, path = "/v1/tokens/{token}/rotate", params(("token" = String, Path)), request_body = Rotation, responses((status = 201, body = MadeToken)))]
pub(super) async fn token_rotate(
    State(app): State<App>,
    At(token): At<String>,
    Body(rotation): Body<Rotation>,
) -> Answer<Response> {
    let id = token_id(&token, Code::PathInvalid)?;
    let grace_seconds = rotation.grace_seconds.unwrap_or(GRACE_SECONDS_DEFAULT);
    Ok(made(app.blocking(move |app| Ok(app.shared.directory.rotate_token(id, grace_seconds)?)).await?))
}
