//! The server: accepts sockets, answers HTTP, hands WebSockets to connections, and drains when it is told to stop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, UPGRADE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use rejoin::PeerId;
use rejoin::codec::v1::{Limits, SUBPROTOCOL};
use rejoin::limits::{
    BATCH_ENTRIES_MAX, CHANGE_BYTES_MAX, CREDIT_BYTES, FRAME_BYTES_MAX, PRESENCE_BYTES_MAX, V1_FRAME_BYTES_MAX,
};
use rejoin::store::{Store, StoreError, storage_id};
use rejoin::sync::WholeDocuments;
use rejoin::sync::classic::Identity;
use rejoin::sync::v1::RelayIdentity;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::config::Config;
use crate::connection;
use crate::demo::Demo;
use crate::fold::Folding;
use crate::health;
use crate::hub::Hub;
use crate::limits::{
    DRAIN_DEADLINE, RETRY_AFTER_SECONDS, SOCKET_READ_BUFFER_BYTES, SOCKET_WRITE_BUFFER_BYTES,
    SOCKET_WRITE_BUFFER_BYTES_MAX, SOCKETS_SPARE,
};
use crate::log::{self, GroupCommit};
use crate::metrics::{Metrics, RefusedConnection, Sources};
use crate::pages;
use crate::shared::Shared;
use crate::socket::{Accept, Activity};
use crate::v1;

/// Why a relay could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gives no random bytes.
    #[error("failed to get random bytes from the operating system: {0}")]
    Entropy(getrandom::Error),
    /// The operating system gives no thread, or no socket.
    #[error("failed to run the server: {0}")]
    Io(#[from] io::Error),
}

/// What a request is answered from.
#[derive(Clone)]
struct App {
    shared: Arc<Shared>,
    /// How many more WebSockets there may be; a connection holds its share until it ends.
    room: Arc<Semaphore>,
    demo: Option<Demo>,
}

/// Runs a relay until `shutdown` is ready, then closes every connection and finishes what is queued.
///
/// The listener may listen on port 0. Ending takes at most [`DrainConfig::deadline_seconds`](crate::config::DrainConfig).
///
/// # Errors
///
/// [`RunError`] if it cannot start. Once it runs, a failing store shows in `/readyz` and in the log.
pub async fn run(
    listener: TcpListener,
    store: Arc<dyn Store>,
    config: &Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    run_with_metrics(listener, store, config, Arc::default(), shutdown).await
}

/// Runs a relay as [`run`] does, and counts in these metrics, which are no other relay's.
///
/// # Errors
///
/// As [`run`].
pub async fn run_with_metrics(
    listener: TcpListener,
    store: Arc<dyn Store>,
    config: &Config,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    let (_unchanged, config) = watch::channel(Arc::new(config.clone()));
    run_reloading(listener, store, config, metrics, shutdown).await
}

/// Runs a relay as [`run_with_metrics`] does, with a configuration that may change meanwhile.
///
/// # Errors
///
/// As [`run`].
pub async fn run_reloading(
    listener: TcpListener,
    store: Arc<dyn Store>,
    changing: watch::Receiver<Arc<Config>>,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    let config = Arc::clone(&changing.borrow());
    let (drain, draining) = watch::channel(false);
    let shared = Arc::new(share(store, changing, metrics, draining.clone())?);
    let room = Arc::new(Semaphore::new(config.limits.connections_max));
    let demo = config.demo.as_deref().map(Demo::new);
    let app = App { shared: Arc::clone(&shared), room: Arc::clone(&room), demo };
    let accept = Accept {
        listener,
        room: Arc::new(Semaphore::new(config.limits.connections_max + SOCKETS_SPARE)),
        deadline: config.limits.handshake_seconds,
    };
    let service = router(app).into_make_service_with_connect_info::<Activity>();
    let mut stop = draining.clone();
    let server = axum::serve(accept, service).with_graceful_shutdown(async move {
        // The sender gone means that nobody runs the relay any more.
        let _ = stop.wait_for(|draining| *draining).await;
    });
    let server = tokio::spawn(server.into_future());
    shutdown.await;
    tracing::info!("the relay is stopping");
    // The receivers are alive: this function holds one.
    let _ = drain.send(true);
    if let Some(folding) = &shared.folding {
        folding.stop();
    }
    let ended = timeout(DRAIN_DEADLINE, drained(server, &room, config.limits.connections_max, &shared)).await;
    if ended.is_err() {
        tracing::warn!(seconds = DRAIN_DEADLINE.as_secs(), "some connections did not end in time and are cut");
    }
    Ok(())
}

/// What the relay takes by `rejoin.v1`: all that the protocol allows.
const LIMITS: Limits = Limits {
    frame_bytes: V1_FRAME_BYTES_MAX as u64,
    change_bytes: CHANGE_BYTES_MAX as u64,
    batch_entries: BATCH_ENTRIES_MAX as u64,
    presence_bytes: PRESENCE_BYTES_MAX as u64,
};

fn share(
    store: Arc<dyn Store>,
    changing: watch::Receiver<Arc<Config>>,
    metrics: Arc<Metrics>,
    draining: watch::Receiver<bool>,
) -> Result<Shared, RunError> {
    let config = Arc::clone(&changing.borrow());
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(RunError::Entropy)?;
    let storage = storage_id(&*store, random)?;
    let peer = PeerId::new(format!("relay-{storage}")).expect("six characters and a UUID are within the bound");
    let hub = Arc::new(Hub::new(Arc::clone(metrics.backlog())));
    let start = |command| Folding::start(Arc::clone(&store), command, Arc::clone(&metrics));
    let folding = config.fold.clone().map(start);
    let folding = folding.transpose()?.map(Arc::new);
    getrandom::fill(&mut random).map_err(RunError::Entropy)?;
    let epoch = log::open(&*store, random)?;
    let log =
        Arc::new(GroupCommit::start(Arc::clone(&store), Arc::clone(&hub), folding.clone(), Arc::clone(&metrics))?);
    metrics.watch(Sources {
        store: Arc::downgrade(&store),
        data: config.data.clone(),
        draining: draining.clone(),
        epoch_since: log::epoch_since(&*store)?,
    });
    let identity = Identity { peer, storage: Some(storage) };
    // Without a child process nobody could take them apart.
    let whole_documents = if folding.is_some() { config.whole_documents } else { WholeDocuments::Refused };
    Ok(Shared {
        store,
        hub,
        log,
        metrics,
        data: config.data.clone(),
        folding,
        whole_documents,
        identity,
        v1: RelayIdentity { storage, epoch, limits: LIMITS, credit: CREDIT_BYTES },
        config: changing,
        draining,
    })
}

/// Waits until the last socket is closed and the last commit is done.
async fn drained(
    server: tokio::task::JoinHandle<io::Result<()>>,
    room: &Semaphore,
    connections_max: usize,
    shared: &Shared,
) {
    let closed = async {
        if let Ok(Err(error)) = server.await {
            tracing::warn!(%error, "the server ended with an error");
        }
        // Every connection has given its share back when all can be taken.
        let all = u32::try_from(connections_max).unwrap_or(u32::MAX);
        drop(room.acquire_many(all).await);
    };
    if timeout(DRAIN_DEADLINE - COMMIT_RESERVE, closed).await.is_err() {
        tracing::warn!("some connections are still open; their last changes are committed without an answer");
    }
    shared.log.finish().await;
    if let Some(folding) = &shared.folding {
        folding.finish().await;
    }
}

/// How much of the drain's time is kept for the commits.
const COMMIT_RESERVE: Duration = Duration::from_secs(4);

fn router(app: App) -> Router {
    Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(|State(app): State<App>| async move { health::ready(&app.shared).await }))
        .route("/startupz", get(health::started))
        .fallback(any_path)
        .layer(map_response(one_request_a_connection))
        .with_state(app)
}

/// Asks HTTP clients not to keep their connection: only WebSockets stay, and those are counted and watched.
async fn one_request_a_connection(mut response: Response) -> Response {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A WebSocket at any path and query is a connection, classic unless it asks for more: clients are configured with all kinds of
/// URLs.
async fn any_path(
    State(app): State<App>,
    ConnectInfo(activity): ConnectInfo<Activity>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    match upgrade {
        Ok(upgrade) => connect(app, activity, upgrade),
        Err(rejection) if headers.contains_key(UPGRADE) => rejection.into_response(),
        Err(_) if let Some(demo) = app.demo => demo.serve(&method, &uri, &headers).await,
        Err(_) if uri.path() != "/" => (StatusCode::NOT_FOUND, "there is nothing here\n").into_response(),
        Err(_) if method != Method::GET && method != Method::HEAD => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        Err(_) => Html(pages::home()).into_response(),
    }
}

fn connect(app: App, activity: Activity, upgrade: WebSocketUpgrade) -> Response {
    let refusal = if *app.shared.draining.borrow() {
        Some((RefusedConnection::Stopping, "the relay is stopping\n"))
    } else if app.room.available_permits() == 0 {
        Some((RefusedConnection::Full, "too many connections\n"))
    } else {
        None
    };
    let room = match (refusal, app.room.try_acquire_owned()) {
        (None, Ok(room)) => room,
        (refusal, _) => {
            let headers = [
                (RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS)),
                (CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
            ];
            let (reason, text) = refusal.unwrap_or((RefusedConnection::Full, "too many connections\n"));
            app.shared.metrics.connection_refused(reason);
            return (StatusCode::SERVICE_UNAVAILABLE, headers, text).into_response();
        }
    };
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(SOCKET_READ_BUFFER_BYTES)
        .write_buffer_size(SOCKET_WRITE_BUFFER_BYTES)
        .max_write_buffer_size(SOCKET_WRITE_BUFFER_BYTES_MAX);
    let is_classic = upgrade.selected_protocol().is_none();
    let message_bytes_max = if is_classic { FRAME_BYTES_MAX } else { V1_FRAME_BYTES_MAX };
    upgrade.max_message_size(message_bytes_max).max_frame_size(message_bytes_max).on_upgrade(move |socket| async move {
        if is_classic {
            connection::serve(socket, app.shared, activity).await;
        } else {
            v1::serve(socket, app.shared, activity).await;
        }
        drop(room);
    })
}
