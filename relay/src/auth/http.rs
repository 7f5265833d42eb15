//! What the public listener answers about tokens: tickets, and share links.
//!
//! Pages of an application ask from its own origin, with the token in a header and no cookies, so any page that is allowed may.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    CACHE_CONTROL, CONTENT_TYPE, ORIGIN, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use axum::{Json, Router};
use rejoin::codec::v1::Access;
use rejoin::{DocumentId, SpaceId, ledger};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::access::bearer_token;
use super::directory::DirectoryError;
use super::jwt::{read_access, read_space_target};
use super::record::{NewShare, Target, TokenId, TokenRecord};
use super::secret::{SecretText, TICKET_PREFIX};
use super::share::ShareError;
use super::{Permit, Refusal};
use crate::door::{client_address, may_connect_from};
use crate::limits::SHARE_REQUEST_BYTES_MAX;
use crate::shared::Shared;
use crate::socket::Activity;

/// How long a browser may remember what it may ask for, in seconds.
const MAY_ASK_SECONDS: &str = "600";

/// The paths, and what answers them.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(shared: Arc<Shared>) -> Router<S> {
    Router::new()
        .route("/ticket", post(make_ticket).options(may_ask))
        .route("/share", post(make_share).get(list_shares).options(may_ask))
        .route("/share/{id}", delete(end_share).options(may_ask))
        .layer(DefaultBodyLimit::max(SHARE_REQUEST_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&shared), at_the_door))
        .with_state(shared)
}

/// Why a request was not done, as `application/problem+json`.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    /// Stable: programs may go by it.
    code: &'static str,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into() }
    }

    fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let status = self.status.as_u16();
        let body = json!({
            "type": "about:blank", "title": title, "status": status, "code": self.code, "detail": self.detail,
        });
        let headers = [(CONTENT_TYPE, "application/problem+json"), (CACHE_CONTROL, "no-store")];
        let mut response = (self.status, headers, body.to_string()).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Throttled => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::UNAUTHORIZED,
        };
        Self::new(status, refusal.code(), refusal.to_string())
    }
}

impl From<ShareError> for Problem {
    fn from(error: ShareError) -> Self {
        match error {
            ShareError::Ended(_) => Refusal::Revoked.into(),
            // What is not there and what is not allowed look the same.
            ShareError::Forbidden => Self::new(StatusCode::NOT_FOUND, "not-found", error.to_string()),
            ShareError::Directory(DirectoryError::Invalid { what }) => Self::bad_request(what),
            ShareError::Directory(DirectoryError::Full { .. }) => {
                Self::new(StatusCode::CONFLICT, "too-many", error.to_string())
            }
            ShareError::Directory(error) => failed(&error),
        }
    }
}

fn failed(error: &DirectoryError) -> Problem {
    tracing::error!(%error, "failed to answer a request about tokens");
    let detail = "the store cannot be used: try again later";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", detail)
}

/// Looks at where a request comes from, and says to browsers who may read the answer.
async fn at_the_door(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(activity): ConnectInfo<Activity>,
    request: Request,
    next: Next,
) -> Response {
    let config = shared.config();
    let origin = request.headers().get(ORIGIN).cloned();
    if !may_connect_from(request.headers(), &config) {
        let detail = "pages of this origin may not use the relay";
        return Problem::new(StatusCode::FORBIDDEN, "origin-not-allowed", detail).into_response();
    }
    let address = client_address(activity.address().ip(), request.headers(), &config.limits);
    let mut response = if shared.directory.takes_request(address) {
        let mut request = request;
        request.extensions_mut().insert(ClientAddress(address));
        next.run(request).await
    } else {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "too many requests from here").into_response()
    };
    let headers = response.headers_mut();
    if config.origins.is_empty() {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    } else if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    response
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
struct ClientAddress(IpAddr);

/// Answers a browser that asks what it may ask.
async fn may_ask() -> Response {
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type"),
        (ACCESS_CONTROL_MAX_AGE, MAY_ASK_SECONDS),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Lets in who asks. A ticket gets nobody another one, nor anything that lasts longer than itself.
fn admit(shared: &Shared, ClientAddress(address): ClientAddress, headers: &HeaderMap) -> Result<Permit, Refusal> {
    let token = bearer_token(headers);
    let token = token.as_ref().map(SecretText::expose);
    let token = token.map(|token| if token.starts_with(TICKET_PREFIX) { "-" } else { token });
    shared.directory.admit_from(address, token)
}

async fn make_ticket(
    State(shared): State<Arc<Shared>>,
    axum::Extension(address): axum::Extension<ClientAddress>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let permit = admit(&shared, address, &headers)?;
    if permit.principal().is_none() {
        return Err(Refusal::Missing.into());
    }
    let ticket = shared.directory.ticket(&permit).map_err(|_| Refusal::Revoked)?;
    let body = json!({ "ticket": ticket.text.expose(), "expires": ticket.expires });
    Ok(fresh(StatusCode::OK, body))
}

/// What is asked for when something is to be shared.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShareRequest {
    space: Option<String>,
    document: Option<String>,
    access: String,
    expires_in_seconds: Option<u64>,
    label: Option<String>,
}

/// What is shared.
enum Wanted {
    Space(SpaceId),
    Document(DocumentId),
}

impl ShareRequest {
    fn read(&self) -> Result<(Wanted, Access), Problem> {
        let wanted = match (&self.space, &self.document) {
            (Some(space), None) => match read_space_target(space) {
                Some(Target::Space(space)) => Wanted::Space(space),
                _ => return Err(Problem::bad_request("space: a space id, or default")),
            },
            (None, Some(document)) => {
                let document = document.parse().map_err(|error| Problem::bad_request(format!("document: {error}")))?;
                Wanted::Document(document)
            }
            _ => return Err(Problem::bad_request("one of space and document is needed")),
        };
        let access = read_access(&self.access).filter(|access| *access != Access::Admin);
        Ok((wanted, access.ok_or_else(|| Problem::bad_request("access: read or write"))?))
    }
}

async fn make_share(
    State(shared): State<Arc<Shared>>,
    axum::Extension(address): axum::Extension<ClientAddress>,
    headers: HeaderMap,
    body: Result<Json<ShareRequest>, JsonRejection>,
) -> Result<Response, Problem> {
    let permit = admit(&shared, address, &headers)?;
    let Json(request) = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "a request has up to 4,096 bytes")
        }
        _ => {
            Problem::bad_request("a JSON object with space or document, access, and maybe expires_in_seconds and label")
        }
    })?;
    let (wanted, access) = request.read()?;
    let (expires_in_seconds, label) = (request.expires_in_seconds, request.label);
    beside(move || {
        let (target, space) = match wanted {
            Wanted::Space(space) => (Target::Space(space), space),
            Wanted::Document(document) => match home(&shared, &document)? {
                Some(space) => (Target::Document(document), space),
                // In which space it will be nobody knows, nor who may share it there.
                None => return Err(unknown_document()),
            },
        };
        let new = NewShare { target, space, access, expires_in_seconds, label };
        let (record, text) = shared.directory.share(&permit, new)?;
        let body = json!({ "id": record.id.to_string(), "token": text.expose(), "expires": record.expires });
        Ok(fresh(StatusCode::CREATED, body))
    })
    .await
}

fn unknown_document() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-found", "the relay has no such document yet: share it once it is relayed")
}

/// Looks up in which space a document is, if it is here.
fn home(shared: &Shared, document: &DocumentId) -> Result<Option<SpaceId>, ShareError> {
    let of = || {
        let tx = shared.store.read()?;
        let is_here = ledger::state(&*tx, document)?.is_some();
        if is_here { ledger::spaces::of(&*tx, document).map(Some) } else { Ok(None) }
    };
    of().map_err(|error| ShareError::Directory(error.into()))
}

/// A share link as its maker is shown it.
#[derive(Serialize)]
struct Shown {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    space: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<String>,
    access: &'static str,
    created: u64,
    expires: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
}

impl Shown {
    fn of(record: TokenRecord) -> Option<Self> {
        let scope = *record.scope.as_ref()?.first()?;
        let (space, document) = match scope.target {
            Target::Space(SpaceId::DEFAULT) => (Some("default".to_owned()), None),
            Target::Space(space) => (Some(space.to_string()), None),
            Target::Document(document) => (None, Some(document.to_string())),
            Target::Everything => return None,
        };
        let access = if scope.access == Access::Read { "read" } else { "write" };
        let (created, expires) = (record.created, record.expires);
        Some(Self { id: record.id.to_string(), space, document, access, created, expires, label: record.label })
    }
}

async fn list_shares(
    State(shared): State<Arc<Shared>>,
    axum::Extension(address): axum::Extension<ClientAddress>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let permit = admit(&shared, address, &headers)?;
    let shares: Vec<_> = shared.directory.shares(&permit).into_iter().filter_map(Shown::of).collect();
    Ok(fresh(StatusCode::OK, json!({ "shares": shares })))
}

async fn end_share(
    State(shared): State<Arc<Shared>>,
    axum::Extension(address): axum::Extension<ClientAddress>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let permit = admit(&shared, address, &headers)?;
    let unknown = || Problem::new(StatusCode::NOT_FOUND, "not-found", "you have no such share link");
    let id: TokenId = id.parse().map_err(|_| unknown())?;
    let was_there = beside(move || Ok(shared.directory.unshare(&permit, id)?)).await?;
    if was_there { Ok(StatusCode::NO_CONTENT.into_response()) } else { Err(unknown()) }
}

/// Runs what waits for the disk on a thread of its own.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
    let ended = || Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the request ended early");
    tokio::task::spawn_blocking(work).await.map_err(|_| ended())?
}

/// An answer that no cache may keep.
fn fresh(status: StatusCode, body: serde_json::Value) -> Response {
    debug_assert!(status.is_success(), "errors are problems");
    (status, [(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}
