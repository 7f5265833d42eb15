//! The server: accepts sockets, answers HTTP, hands WebSockets to connections, and drains when it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CONNECTION, EXPECT, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use rejoin::PeerId;
use rejoin::limits::CREDIT_BYTES;
use rejoin::store::{Store, StoreError, storage_id};
use rejoin::sync::WholeDocuments;
use rejoin::sync::classic::Identity;
use rejoin::sync::v1::RelayIdentity;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::admin::{self, Admin, CredentialError};
use crate::audit::{Audit, Refusals};
use crate::auth::{self, Credentials, Directory, DirectoryError, Refusal};
use crate::config::Config;
use crate::connection;
use crate::demo::Demo;
use crate::door::{self, Door};
use crate::fold::Folding;
use crate::health;
use crate::hub::Hub;
use crate::limits::{
    MISSES_REFUSED_FOR, RETRY_AFTER_SECONDS, SOCKET_READ_BUFFER_BYTES, SOCKET_WRITE_BUFFER_BYTES,
    SOCKET_WRITE_BUFFER_BYTES_MAX,
};
use crate::log::{self, GroupCommit};
use crate::metrics::{Metrics, RefusedConnection, Sources};
use crate::pages;
use crate::quarantine::Quarantine;
use crate::quota::{Meter, Quota};
use crate::registry::Registry;
use crate::shared::Shared;
use crate::socket::{Accept, Activity};
use crate::tls::{self, TlsError};
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
    /// The directory of who may come in cannot be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The admin API has no credential.
    #[error("failed to {0}")]
    Admin(#[from] CredentialError),
    /// The address of the admin API cannot be listened on.
    #[error(
        "failed to listen on {address} for the admin API: {source}; stop what uses it, or choose another with --admin-listen"
    )]
    AdminListen {
        /// Which.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system gives no thread, or no socket.
    #[error("failed to run the server: {0}")]
    Io(#[from] io::Error),
    /// The certificate or its key cannot be used.
    #[error("failed to {0}")]
    Tls(#[from] TlsError),
}

/// What a request is answered from.
#[derive(Clone)]
struct App {
    shared: Arc<Shared>,
    /// How many connections there are; each holds its share until it ends.
    door: Arc<Door>,
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
    let admin = changing.borrow().admin.clone();
    let listening = async |address| {
        let bound = TcpListener::bind(address).await;
        bound.map_err(|source| RunError::AdminListen { address, source })
    };
    let admin = if admin.enabled { Some(listening(admin.listen).await?) } else { None };
    run_with(listener, admin, store, changing, metrics, shutdown).await
}

/// Runs a relay as [`run_reloading`] does, with the admin API on a listener that is there already, or without one.
///
/// # Errors
///
/// As [`run`].
pub async fn run_with(
    listener: TcpListener,
    admin_listener: Option<TcpListener>,
    store: Arc<dyn Store>,
    changing: watch::Receiver<Arc<Config>>,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    let config = Arc::clone(&changing.borrow());
    let (drain, draining) = watch::channel(false);
    let shared = Arc::new(share(store, changing.clone(), metrics, draining.clone())?);
    shared.hold_to(&config);
    let following = tokio::spawn(follow(Arc::clone(&shared), changing.clone()));
    let hub = Arc::clone(&shared.hub);
    // Ends with this function, however that does.
    let mut telling = JoinSet::new();
    telling.spawn(async move { hub.keep_telling().await });
    let admin = match admin_listener {
        Some(listener) => Some((listener, Admin::new(Arc::clone(&shared), &config)?)),
        None => None,
    };
    // It is asked how far the drain is for as long as that lasts.
    let (close_admin, closing) = watch::channel(false);
    let admin = admin.map(|(listener, admin)| tokio::spawn(admin::serve(listener, admin, closing)));
    let door = Door::new(changing.clone());
    let tls = tls::follow(changing.clone())?;
    let demo = config.demo.as_deref().map(Demo::new);
    let app = App { shared: Arc::clone(&shared), door: Arc::clone(&door), demo };
    let accept = Accept { listener, door: Arc::clone(&door), config: changing.clone(), tls };
    let service = router(app).into_make_service_with_connect_info::<Activity>();
    let mut stop = draining.clone();
    let server = axum::serve(accept, service).with_graceful_shutdown(async move {
        // The sender gone means that nobody runs the relay any more.
        let _ = stop.wait_for(|draining| *draining).await;
    });
    let server = tokio::spawn(server.into_future());
    shutdown.await;
    following.abort();
    let deadline = changing.borrow().drain.deadline_seconds;
    tracing::info!(connections = door.connections(), ?deadline, "the relay is stopping");
    // Counted before anybody leaves: each of them is to come back at a time of its own.
    shared.crowd.store(door.connections(), Ordering::Relaxed);
    // The receivers are alive: this function holds one.
    let _ = drain.send(true);
    if let Some(folding) = &shared.folding {
        folding.stop();
    }
    let ended = timeout(deadline, drained(server, (admin, close_admin), &door, deadline, &shared)).await;
    if ended.is_err() {
        tracing::warn!(?deadline, "some connections did not end in time and are cut");
    }
    Ok(())
}

pub(crate) fn share(
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
    let auth = config.directory();
    let directory = Directory::open(Arc::clone(&store), &auth)?;
    let registry = Arc::new(Registry::default());
    let audit = Arc::new(Audit::start(Arc::clone(&store))?);
    let quarantine = Arc::new(Quarantine::open(&*store)?);
    let refusals = Refusals { audit: Arc::clone(&audit), registry: Arc::clone(&registry) };
    let quota = Arc::new(Quota::of(&config, Arc::clone(&directory)));
    let (told, held_to) = (Some(refusals.clone()), Arc::clone(&quota));
    let (written, counted) = (Arc::clone(&store), Arc::clone(&metrics));
    let log = GroupCommit::start_with(written, Arc::clone(&hub), folding.clone(), held_to, told, counted)?;
    let log = Arc::new(log);
    log.set_restored_grace(Duration::from_secs(auth.restored_grace_days.saturating_mul(24 * 3_600)));
    metrics.watch(Sources {
        store: Arc::downgrade(&store),
        directory: Arc::downgrade(&directory),
        quota: Arc::downgrade(&quota),
        data: config.data.clone(),
        draining: draining.clone(),
        epoch_since: log::epoch_since(&*store)?,
    });
    let identity = Identity { peer, storage: Some(storage), epoch: Some(epoch) };
    // Without a child process nobody could take them apart.
    let whole_documents = if folding.is_some() { config.whole_documents } else { WholeDocuments::Refused };
    Ok(Shared {
        store,
        hub,
        log,
        metrics,
        data: config.data.clone(),
        directory,
        folding,
        whole_documents,
        identity,
        v1: RelayIdentity { storage, epoch, limits: config.limits.of_v1(), credit: CREDIT_BYTES },
        quota,
        config: changing,
        registry,
        audit,
        refusals,
        quarantine,
        crowd: AtomicUsize::new(0),
        draining,
        departing: Default::default(),
    })
}

/// Tells those who keep something of the configuration whenever it changes.
async fn follow(shared: Arc<Shared>, mut changing: watch::Receiver<Arc<Config>>) {
    while changing.changed().await.is_ok() {
        let config = Arc::clone(&changing.borrow_and_update());
        shared.hold_to(&config);
        let config = config.directory();
        let directory = Arc::clone(&shared.directory);
        // It may read files.
        let reload = tokio::task::spawn_blocking(move || directory.reload(&config));
        if let Ok(Err(error)) = reload.await {
            tracing::error!(%error, "keys and times of tokens stay as they were");
        }
    }
}

/// Waits until the last socket is closed and the last commit is done.
async fn drained(
    server: tokio::task::JoinHandle<io::Result<()>>,
    (admin, close_admin): (Option<tokio::task::JoinHandle<()>>, watch::Sender<bool>),
    door: &Door,
    deadline: Duration,
    shared: &Shared,
) {
    let closed = async {
        if let Ok(Err(error)) = server.await {
            tracing::warn!(%error, "the server ended with an error");
        }
        door.emptied().await;
        let _ = close_admin.send(true);
        if let Some(admin) = admin {
            // Its panic, if there was one, was reported by itself.
            let _ = admin.await;
        }
    };
    if timeout(deadline.mul_f64(1.0 - COMMIT_RESERVE), closed).await.is_err() {
        tracing::warn!("some connections are still open; their last changes are committed without an answer");
    }
    shared.log.finish().await;
    shared.audit.finish().await;
    if let Some(folding) = &shared.folding {
        folding.finish().await;
    }
}

/// What part of the drain's time is kept for the commits.
const COMMIT_RESERVE: f64 = 0.4;

fn router(app: App) -> Router {
    Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(|State(app): State<App>| async move { health::ready(&app.shared).await }))
        .route("/startupz", get(health::started))
        .merge(auth::routes(Arc::clone(&app.shared)))
        .fallback(any_path)
        .layer(from_fn(without_expectations))
        .layer(map_response(one_request_a_connection))
        .with_state(app)
}

/// Refuses requests whose body comes only after an answer: a socket has to send its request within a time, which ends with the first byte of an
/// answer. Nothing that is sent here is so long that it were worth asking first.
async fn without_expectations(request: Request, next: Next) -> Response {
    if request.headers().contains_key(EXPECT) {
        return (StatusCode::EXPECTATION_FAILED, "send the body with the request, without Expect\n").into_response();
    }
    next.run(request).await
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
        Ok(upgrade) => connect(app, activity, upgrade, &headers, &uri),
        Err(rejection) if headers.contains_key(UPGRADE) => rejection.into_response(),
        Err(_) if let Some(demo) = app.demo => demo.serve(&method, &uri, &headers).await,
        Err(_) if uri.path() != "/" => (StatusCode::NOT_FOUND, "there is nothing here\n").into_response(),
        Err(_) if method != Method::GET && method != Method::HEAD => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        Err(_) => Html(pages::home(app.shared.config().open)).into_response(),
    }
}

/// Answers who is not let in, in one line.
fn refused(refusal: Refusal) -> Response {
    let status = match refusal {
        Refusal::Throttled => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::UNAUTHORIZED,
    };
    (status, [(WWW_AUTHENTICATE, "Bearer")], format!("{refusal}\n")).into_response()
}

/// Says to somebody who does not stop asking for what is not there when to come back.
fn held_back() -> Response {
    let headers = [(RETRY_AFTER, HeaderValue::from(MISSES_REFUSED_FOR.as_secs()))];
    (StatusCode::TOO_MANY_REQUESTS, headers, "too much from this address: come back later\n").into_response()
}

fn connect(app: App, activity: Activity, mut upgrade: WebSocketUpgrade, headers: &HeaderMap, uri: &Uri) -> Response {
    let config = app.shared.config();
    if !door::may_connect_from(headers, &config) {
        app.shared.metrics.connection_refused(RefusedConnection::Origin);
        return (StatusCode::FORBIDDEN, "pages of this origin may not connect here\n").into_response();
    }
    if *app.shared.draining.borrow() {
        app.shared.metrics.connection_refused(RefusedConnection::Stopping);
        return come_back_later("the relay is stopping\n");
    }
    let address = door::client_address(activity.address().ip(), headers, &config.limits);
    let share = match app.door.connect(address, Instant::now()) {
        Ok(share) => share,
        Err(refused) => {
            app.shared.metrics.connection_refused(refused.into());
            return come_back_later(refused.text());
        }
    };
    let Ok(meter) = Meter::enter(&app.shared.quota, address) else { return held_back() };
    let credentials = Credentials::of(headers, uri);
    let permit = match credentials.admit(&app.shared.directory, address) {
        Ok(permit) => permit,
        Err(refusal) => {
            app.shared.metrics.connection_refused(RefusedConnection::Unauthenticated);
            return refused(refusal);
        }
    };
    let activity = activity.of_client(address);
    if let Some(subprotocol) = credentials.subprotocol {
        upgrade.set_selected_protocol(subprotocol);
    }
    let upgrade = upgrade
        .read_buffer_size(SOCKET_READ_BUFFER_BYTES)
        .write_buffer_size(SOCKET_WRITE_BUFFER_BYTES)
        .max_write_buffer_size(SOCKET_WRITE_BUFFER_BYTES_MAX);
    let limits = &config.limits;
    let message_bytes_max = if credentials.is_v1 { limits.v1_frame_bytes_max() } else { limits.frame_bytes_max };
    upgrade.max_message_size(message_bytes_max).max_frame_size(message_bytes_max).on_upgrade(move |socket| {
        let socket = Box::new(socket);
        async move {
            match permit {
                permit if credentials.is_v1 => v1::serve(socket, app.shared, activity, permit, meter).await,
                Some(permit) => connection::serve(socket, app.shared, activity, permit, meter).await,
                // Who comes to the classic protocol without a token was refused.
                None => {}
            }
            drop(share);
        }
    })
}

/// Refuses a WebSocket, and asks each client to come back at another time.
fn come_back_later(text: &'static str) -> Response {
    let seconds = RETRY_AFTER_SECONDS + getrandom::u32().unwrap_or_default() % RETRY_AFTER_SECONDS;
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, HeaderValue::from(seconds))], text).into_response()
}
