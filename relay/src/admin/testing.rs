//! The admin API without a socket, for those who try what it makes of any request.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri};
use rejoin::store::Store;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tower_service::Service;

use super::{Admin, credential_path, router};
use crate::config::Config;
use crate::server::{RunError, share};
use crate::shared::Shared;
use crate::socket::Activity;
use crate::unfinished::Unfinished;

/// From where every request comes.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4_000);

/// The longest answer that is taken: 16 MiB.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A relay of which there is nothing but the admin API, and no listener.
pub struct Unheard {
    router: Router,
    shared: Arc<Shared>,
    token: String,
    runtime: Runtime,
    _draining: watch::Sender<bool>,
    _changing: watch::Sender<Arc<Config>>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The content type, empty if there is none.
    pub media_type: String,
    /// The body.
    pub body: Bytes,
}

impl Unheard {
    /// Makes it over a store; the data directory is that of the configuration.
    ///
    /// # Errors
    ///
    /// [`RunError`], as a relay that starts.
    pub fn new(store: Arc<dyn Store>, config: &Config) -> Result<Self, RunError> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (_draining, draining) = watch::channel(false);
        let (_changing, changing) = watch::channel(Arc::new(config.clone()));
        let entered = runtime.enter();
        let shared = Arc::new(share(store, changing, Arc::default(), draining)?);
        shared.hold_to(config);
        let admin = Admin::new(Arc::clone(&shared), config)?;
        drop(entered);
        let token = std::fs::read_to_string(credential_path(config).0)?.trim().to_owned();
        Ok(Self { router: router(admin), shared, token, runtime, _draining, _changing })
    }

    /// Sends a request and waits for the answer; `None` if it is none that HTTP can carry. With `is_known` it has the
    /// credential.
    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        is_known: bool,
        body: Vec<u8>,
    ) -> Option<Answer> {
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = Method::from_bytes(method.as_bytes()).ok()?;
        *request.uri_mut() = path.parse::<Uri>().ok()?;
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            request.headers_mut().insert(name, HeaderValue::from_str(value).ok()?);
        }
        if is_known {
            let bearer = HeaderValue::from_str(&format!("Bearer {}", self.token)).ok()?;
            request.headers_mut().insert(axum::http::header::AUTHORIZATION, bearer);
        }
        request.extensions_mut().insert(ConnectInfo(Activity::new(ADDRESS, Unfinished::new(Vec::new()))));
        let answered = self.router.call(request);
        self.runtime.block_on(async {
            let Ok(response) = answered.await;
            let status = response.status().as_u16();
            let media_type = response.headers().get(axum::http::header::CONTENT_TYPE);
            let media_type = media_type.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
            // A body that breaks off is an empty one here.
            let body = to_bytes(response.into_body(), ANSWER_BYTES_MAX).await.unwrap_or_default();
            Some(Answer { status, media_type, body })
        })
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        self.runtime.block_on(async {
            self.shared.log.finish().await;
            self.shared.audit.finish().await;
            if let Some(folding) = &self.shared.folding {
                folding.stop();
                folding.finish().await;
            }
        });
    }
}
