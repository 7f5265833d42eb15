//! The admin API: what an operator sees and does, over HTTP on a listener and with a credential of its own.
//!
//! ```text
//! socket (bounded) -> guard: credential, room, deadline -> handler -> problem or answer -> audit trail
//! ```
//!
//! Every operation stands in an OpenAPI document, which is made from the same lines as the routes. What changes something is on
//! record in the audit trail however it ends, even if who asked has gone. `docs/admin.md` is for those who use it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::audit::{Kind, Record};
use crate::config::Config;
use crate::limits::{
    ADMIN_BODY_BYTES_MAX, ADMIN_DEADLINE, ADMIN_REQUESTS_MAX, ADMIN_SOCKETS_MAX, ADMIN_TEXT_BYTES_MAX,
};
use crate::shared::Shared;
use crate::socket::{Accept, Activity};

mod carry;
mod connections;
mod credential;
mod documents;
mod extract;
mod grants;
mod health;
mod jobs;
mod log;
mod openapi;
mod operate;
mod principals;
mod problem;
mod spaces;
#[cfg(feature = "testing")]
pub mod testing;
mod tokens;
mod trail;

pub use credential::{CredentialError, TOKEN_FILE};
pub use openapi::document as openapi;

use credential::{Credential, Verdict};
use jobs::Jobs;
use problem::{Answer, Code, Outcome, Problem};

/// What is an act though nothing changes.
const EXPORT: &str = "space_export";

/// Who has the credential, in the audit trail.
const ADMIN: &str = "admin";

/// What requests are answered from.
pub(crate) struct Admin {
    shared: Arc<Shared>,
    credential: Credential,
    room: Arc<Semaphore>,
    jobs: Jobs,
    started: Instant,
}

type App = Arc<Admin>;

/// Returns where the credential is, and whether the relay makes it.
fn credential_path(config: &Config) -> (PathBuf, bool) {
    match &config.admin.token_file {
        Some(path) => (path.clone(), false),
        None => (config.data.join(TOKEN_FILE), true),
    }
}

impl Admin {
    /// Reads the credential, or makes it.
    ///
    /// # Errors
    ///
    /// [`CredentialError`]; the relay should not start then, since nobody could ask it anything.
    pub(crate) fn new(shared: Arc<Shared>, config: &Config) -> Result<Arc<Self>, CredentialError> {
        let (path, is_ours) = credential_path(config);
        let credential = Credential::open(&path, is_ours)?;
        Ok(Arc::new(Self {
            shared,
            credential,
            room: Arc::new(Semaphore::new(ADMIN_REQUESTS_MAX)),
            jobs: Jobs::default(),
            started: Instant::now(),
        }))
    }

    /// Has blocking work done beside the runtime's threads.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Admin) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let app = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&app)).await;
        done.unwrap_or_else(|_| Err(Problem::plain(Code::Internal)))
    }
}

/// Serves the admin API until the relay has stopped serving everybody else.
pub(crate) async fn serve(listener: TcpListener, admin: Arc<Admin>, mut closing: watch::Receiver<bool>) {
    let config = Config::clone(&admin.shared.config());
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "the admin API listens");
    }
    let accept = Accept::beside(listener, config, ADMIN_SOCKETS_MAX, ADMIN_DEADLINE);
    let service = router(admin).into_make_service_with_connect_info::<Activity>();
    let server = axum::serve(accept, service).with_graceful_shutdown(async move {
        // The sender gone means that nobody runs the relay any more.
        let _ = closing.wait_for(|closing| *closing).await;
    });
    if let Err(error) = server.await {
        tracing::error!(%error, "the admin API ended with an error");
    }
}

/// Every operation that needs the credential.
fn operations() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(spaces::space_list, spaces::space_create))
        .routes(routes!(spaces::space_get, spaces::space_patch, spaces::space_delete))
        .routes(routes!(spaces::space_archive))
        .routes(routes!(carry::space_export))
        .routes(routes!(carry::space_import))
        .routes(routes!(principals::principal_list, principals::principal_create))
        .routes(routes!(principals::principal_get, principals::principal_patch, principals::principal_delete))
        .routes(routes!(tokens::token_list, tokens::token_create))
        .routes(routes!(tokens::token_get, tokens::token_revoke))
        .routes(routes!(tokens::token_rotate))
        .routes(routes!(grants::grant_list, grants::grant_put, grants::grant_remove))
        .routes(routes!(documents::document_list))
        .routes(routes!(documents::document_get, documents::document_delete))
        .routes(routes!(documents::document_purge))
        .routes(routes!(documents::document_quarantine, documents::document_release))
        .routes(routes!(documents::quarantine_list))
        .routes(routes!(connections::connection_list, connections::connection_kick_all))
        .routes(routes!(connections::connection_get, connections::connection_kick))
        .routes(routes!(log::log_tail))
        .routes(routes!(trail::audit_list))
        .routes(routes!(operate::config_get))
        .routes(routes!(operate::relay_reload))
        .routes(routes!(operate::stats_get, operate::stats_count))
        .routes(routes!(operate::store_verify))
        .routes(routes!(operate::backup_start))
        .routes(routes!(operate::job_list))
        .routes(routes!(operate::job_get))
}

/// What needs no credential: for those who watch the relay.
fn watched() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::started))
        .routes(routes!(health::metrics))
}

fn router(admin: App) -> Router {
    let (guarded, _) = operations().split_for_parts();
    let (open, _) = watched().split_for_parts();
    let guarded = guarded
        .fallback(|| async { Problem::plain(Code::PathUnknown) })
        .method_not_allowed_fallback(|| async { Problem::plain(Code::MethodNotAllowed) })
        .layer(DefaultBodyLimit::max(ADMIN_BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&admin), guard));
    open.route("/openapi.json", get(|| async { Json(openapi::document()) }))
        .method_not_allowed_fallback(|| async { Problem::plain(Code::MethodNotAllowed) })
        .merge(guarded)
        .layer(axum::middleware::map_response(one_request_a_connection))
        .with_state(admin)
}

/// Asks clients not to keep their connection, so that none is held for nothing.
async fn one_request_a_connection(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// What a handler says it was about, where the path does not.
#[derive(Debug, Clone)]
struct Target(String);

/// Says in the audit trail what an answer was about.
fn about(target: String, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.extensions_mut().insert(Target(target));
    response
}

/// Lets in who has the credential, as many as there is room for, and records what they do.
async fn guard(
    State(app): State<App>,
    ConnectInfo(activity): ConnectInfo<Activity>,
    request: Request,
    next: Next,
) -> Response {
    let address = activity.address();
    match app.credential.judge(bearer(request.headers()), address.ip()) {
        Verdict::Welcome => {}
        Verdict::Wrong => return refuse(&app, address, Code::Unauthorized),
        Verdict::TooMany => return Problem::plain(Code::TooManyAttempts).into_response(),
    }
    let Ok(room) = Arc::clone(&app.room).try_acquire_owned() else {
        return Problem::plain(Code::Overloaded).into_response();
    };
    let action = action(&request);
    // Whoever takes everything away is on record, though nothing changes.
    if matches!(*request.method(), Method::GET | Method::HEAD) && action != EXPORT {
        let answer = timeout(ADMIN_DEADLINE, next.run(request)).await;
        drop(room);
        return answer.unwrap_or_else(|_| Problem::plain(Code::Timeout).into_response());
    }
    let path = request.uri().path().to_owned();
    // It goes on and is recorded even if who asked goes away meanwhile.
    let act = tokio::spawn(async move {
        let response = next.run(request).await;
        app.shared.audit.act(record(&action, &path, address, &response)).await;
        drop(room);
        response
    });
    act.await.unwrap_or_else(|_| Problem::plain(Code::Internal).into_response())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Records a wrong credential. Who sends many is not even listened to, so there are not many.
fn refuse(app: &App, address: SocketAddr, code: Code) -> Response {
    let record = Record::new(Kind::Refusal, "", "admin.authenticate", code.name());
    app.shared.audit.refused(Record { address: Some(address.to_string()), ..record });
    Problem::plain(code).into_response()
}

/// Names what a request does, as the operation is named in the OpenAPI document.
fn action(request: &Request) -> String {
    openapi::operation_id(request.method().as_str(), request.uri().path()).unwrap_or_else(|| "unknown".to_owned())
}

fn record(action: &str, path: &str, address: SocketAddr, response: &Response) -> Record {
    let outcome = response.extensions().get::<Outcome>().map_or("ok", |Outcome(code)| code.name());
    let target = match response.extensions().get::<Target>() {
        Some(Target(target)) => Some(target.clone()),
        None => target_of(path),
    };
    let address = Some(address.to_string());
    Record { target, address, ..Record::new(Kind::Act, ADMIN, &action.replacen('_', ".", 1), outcome) }
}

/// Returns what a path is about: `/v1/spaces/x/archive` is about `space/x`.
fn target_of(path: &str) -> Option<String> {
    let mut parts = path.strip_prefix("/v1/")?.split('/');
    let (kind, id) = (parts.next()?, parts.next()?);
    // Who is on record is not the relay's word but a path of at most so many characters.
    let id: String = id.chars().take(ADMIN_TEXT_BYTES_MAX).collect();
    Some(format!("{}/{id}", kind.trim_end_matches('s')))
}

/// Checks a text of an administrator.
fn text(what: &str, text: String) -> Answer<String> {
    if text.len() <= ADMIN_TEXT_BYTES_MAX && !text.chars().any(char::is_control) {
        return Ok(text);
    }
    let detail = format!("{what}: it has at most {ADMIN_TEXT_BYTES_MAX} bytes and no control characters");
    Err(Problem::new(Code::BodyInvalid, detail))
}
