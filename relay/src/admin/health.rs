//! What watches the relay: is it alive, ready, started?

use axum::extract::State;
use axum::http::StatusCode;

use super::App;

/// Says that the process answers.
#[utoipa::path(get, path = "/livez", responses((status = 200, body = String, content_type = "text/plain; charset=utf-8")))]
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Says whether the relay takes connections and stores what they bring.
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, body = String, content_type = "text/plain; charset=utf-8"),
    (status = 503, body = String, content_type = "text/plain; charset=utf-8"),
))]
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, &'static str) {
    if *app.shared.draining.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the relay is stopping\n");
    }
    if !app.shared.log.is_writable() {
        app.shared.log.probe();
        return (StatusCode::SERVICE_UNAVAILABLE, "the store cannot be written: see the log\n");
    }
    (StatusCode::OK, "ok\n")
}

/// Says that the relay has started: it listens nowhere before.
#[utoipa::path(get, path = "/startupz", responses((status = 200, body = String, content_type = "text/plain; charset=utf-8")))]
pub(super) async fn started() -> &'static str {
    "ok\n"
}
