//! What watches the relay: is it alive, ready, started?

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::App;
use crate::health;

/// Says that the process answers.
#[utoipa::path(get, path = "/livez", responses((status = 200, body = String, content_type = "text/plain; charset=utf-8")))]
pub(super) async fn live() -> &'static str {
    health::live().await
}

/// Says whether the relay takes connections and stores what they bring.
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, body = String, content_type = "text/plain; charset=utf-8"),
    (status = 503, body = String, content_type = "text/plain; charset=utf-8"),
))]
pub(super) async fn ready(State(app): State<App>) -> Response {
    health::ready(&app.shared).await
}

/// Says that the relay has started: it listens nowhere before.
#[utoipa::path(get, path = "/startupz", responses((status = 200, body = String, content_type = "text/plain; charset=utf-8")))]
pub(super) async fn started() -> &'static str {
    health::started().await
}

/// Returns what the relay counts and measures, as OpenMetrics text.
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String, content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8")))]
pub(super) async fn metrics(State(app): State<App>) -> Response {
    health::look(&app.shared).await;
    crate::metrics::render(Arc::clone(&app.shared.metrics)).await
}
