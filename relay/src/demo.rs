//! The files of a web application, served beside the WebSockets: so that one command shows what the engine does.

use std::io::ErrorKind;
use std::path::Path;

use axum::body::{Body, HttpBody};
use axum::http::header::{CACHE_CONTROL, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tower_http::services::ServeDir;

/// Where a build puts files that are named by their content.
const HASHED: &str = "/assets/";

/// The directory that is served.
#[derive(Debug, Clone)]
pub(crate) struct Demo {
    files: ServeDir,
}

impl Demo {
    /// Serves this directory; files that lie there compressed go out so to whoever takes them.
    pub(crate) fn new(directory: &Path) -> Self {
        Self { files: ServeDir::new(directory).precompressed_br().precompressed_gzip() }
    }

    /// Answers a request for a file.
    pub(crate) async fn serve(mut self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Response {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        let response = match self.files.try_call(request).await {
            Ok(response) => response,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return absent(),
            Err(error) => {
                tracing::warn!(%error, "a file of the demo cannot be read");
                return (StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read: see the log\n").into_response();
            }
        };
        let mut response = response.map(Body::new);
        if response.status() == StatusCode::NOT_FOUND && response.body().size_hint().exact() == Some(0) {
            return absent();
        }
        let is_named_by_content = uri.path().starts_with(HASHED) && response.status().is_success();
        let kept = if is_named_by_content { "public, max-age=31536000, immutable" } else { "no-cache" };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(kept));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}

fn absent() -> Response {
    (StatusCode::NOT_FOUND, "there is nothing here\n").into_response()
}
