//! The connection to a relay, and how it stands.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::{Rc, Weak};

use futures_util::FutureExt;
use rejoin::codec::v1::Code;
use rejoin::repo::SignOut;
use rejoin::{ConnectOptions, Connection, ConnectionState, Protocol, Repo};
use serde_json::{Value as Json, json};
use tokio::sync::{Notify, oneshot};

use crate::engine::Inner;
use crate::errors::Failure;

/// The connection, if there is one, and what was told of it last.
#[derive(Debug, Default)]
pub(crate) struct Status {
    wanted: Option<Wanted>,
    running: Option<Running>,
    /// The state without what waits, for which others are asked.
    shown: Option<Json>,
    /// While it is there, nothing can be written.
    signed_out: Option<SignOut>,
}

/// What was asked for, to do it again with another token.
#[derive(Debug, Clone)]
struct Wanted {
    url: String,
    token: Option<String>,
    protocol: Option<Protocol>,
}

#[derive(Debug)]
struct Running {
    stop: Rc<Notify>,
    renewal: Rc<Renewal>,
    ended: oneshot::Receiver<()>,
}

/// A token for the connection that is there.
#[derive(Debug, Default)]
struct Renewal {
    token: RefCell<Option<String>>,
    given: Notify,
}

impl Status {
    /// Keeps writes refused, until the engine is closed.
    pub(crate) fn keep(&mut self, signed_out: SignOut) {
        self.signed_out = Some(signed_out);
    }

    /// Gives back what was kept.
    pub(crate) fn release(&mut self) -> Option<SignOut> {
        self.signed_out.take()
    }

    /// Says whether the relay has let in a connection to what is wanted.
    fn serves(&self, wanted: &Wanted) -> bool {
        let is_same = |known: &Wanted| known.url == wanted.url && known.protocol == wanted.protocol;
        let is_in = |shown: &Json| shown["state"] == "synced" || shown["state"] == "syncing";
        self.running.is_some() && self.wanted.as_ref().is_some_and(is_same) && self.shown.as_ref().is_some_and(is_in)
    }

    /// Says whether there is a connection.
    pub(crate) fn is_shown(&self) -> bool {
        self.shown.is_some()
    }

    /// Ends the connection; the result waits until it has ended.
    pub(crate) fn end(&mut self) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        let running = self.running.take()?;
        self.shown = None;
        running.stop.notify_one();
        Some(Box::pin(running.ended.map(drop)))
    }
}

/// Connects, instead of an earlier connection.
pub(crate) async fn connect(
    inner: &Rc<Inner>,
    url: String,
    token: Option<String>,
    protocol: Option<String>,
) -> Result<(), Failure> {
    let protocol = match protocol.as_deref() {
        None => None,
        Some("rejoin.v1") => Some(Protocol::RejoinV1),
        Some("classic") => Some(Protocol::Classic),
        Some(_) => return Err(Failure::argument("the protocol is one of rejoin.v1 and classic")),
    };
    let wanted = Wanted { url, token, protocol };
    if inner.status.borrow().serves(&wanted) {
        // Another page wants what is there. That must not cost everybody the connection.
        if let Some(token) = wanted.token {
            renew_token(inner, token);
        }
        return Ok(());
    }
    begin(inner, wanted).await
}

/// Connects again with another token, if there is a connection.
pub(crate) async fn set_token(inner: &Rc<Inner>, token: Option<String>) -> Result<(), Failure> {
    let wanted = inner.status.borrow().wanted.clone();
    match wanted {
        Some(wanted) => begin(inner, Wanted { token, ..wanted }).await,
        None => Ok(()),
    }
}

/// Shows the relay another token without a break, if there is a connection, and to those that follow.
pub(crate) fn renew_token(inner: &Inner, token: String) {
    let mut status = inner.status.borrow_mut();
    if let Some(wanted) = &mut status.wanted {
        wanted.token = Some(token.clone());
    }
    if let Some(running) = &status.running {
        running.renewal.token.replace(Some(token));
        running.renewal.given.notify_one();
    }
}

/// Ends the connection.
pub(crate) async fn disconnect(inner: &Rc<Inner>) {
    let ending = {
        let mut status = inner.status.borrow_mut();
        status.wanted = None;
        status.end()
    };
    if let Some(ending) = ending {
        ending.await;
    }
    tell(inner).await;
}

async fn begin(inner: &Rc<Inner>, wanted: Wanted) -> Result<(), Failure> {
    let mut options = ConnectOptions::new();
    if let Some(token) = &wanted.token {
        options = options.token(token.clone());
    }
    if let Some(protocol) = wanted.protocol {
        options = options.protocol(protocol);
    }
    let connection = inner.host.connect(&inner.repo()?, &wanted.url, &options)?;
    let (ended_sender, ended) = oneshot::channel();
    let stop = Rc::new(Notify::new());
    let renewal = Rc::new(Renewal::default());
    let ending = {
        let mut status = inner.status.borrow_mut();
        let ending = status.end();
        status.wanted = Some(wanted);
        status.running = Some(Running { stop: Rc::clone(&stop), renewal: Rc::clone(&renewal), ended });
        status.shown = Some(show(&connection));
        ending
    };
    let weak = Rc::downgrade(inner);
    // Not one of the engine's own tasks: closing waits until the connection has ended.
    inner.host.spawn(Box::pin(async move {
        follow(weak, connection, stop, &renewal).await;
        // Nobody may be waiting.
        let _ = ended_sender.send(());
    }));
    if let Some(ending) = ending {
        ending.await;
    }
    tell(inner).await;
    Ok(())
}

/// Tells how a connection stands whenever that changes, until it is to end.
async fn follow(inner: Weak<Inner>, mut connection: Connection, stop: Rc<Notify>, renewal: &Renewal) {
    loop {
        tokio::select! {
            is_there = connection.changed() => if !is_there { return },
            () = stop.notified() => break,
            () = renewal.given.notified() => {
                if let Some(token) = renewal.token.take() {
                    connection.renew_token(token);
                }
                continue;
            }
        }
        let Some(inner) = inner.upgrade() else { break };
        {
            let mut status = inner.status.borrow_mut();
            let is_current = status.running.as_ref().is_some_and(|running| Rc::ptr_eq(&running.stop, &stop));
            if is_current {
                status.shown = Some(show(&connection));
            }
        }
        tell(&inner).await;
    }
    connection.disconnect().await;
}

fn show(connection: &Connection) -> Json {
    let mut shown = match connection.state() {
        ConnectionState::Connecting => json!({ "state": "connecting" }),
        ConnectionState::Connected => match connection.progress() {
            Some(progress) if progress.is_caught_up => json!({ "state": "synced" }),
            _ => json!({ "state": "syncing" }),
        },
        ConnectionState::Waiting { reason, retry_in, code } => {
            let retry_in = u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX);
            let mut shown = json!({ "state": "waiting", "reason": reason, "retryIn": retry_in });
            if code == Some(Code::Unauthenticated) {
                shown["error"] = json!({ "code": "unauthorized", "message": reason });
            }
            shown
        }
        ConnectionState::Offline => json!({ "state": "offline" }),
        _ => json!({ "state": "closed" }),
    };
    let Some(map) = shown.as_object_mut() else { return shown };
    if let Some(protocol) = connection.protocol() {
        let name = if protocol == Protocol::Classic { "classic" } else { "rejoin.v1" };
        map.insert("protocol".to_owned(), Json::from(name));
    }
    if let Some(ends_in) = connection.permit_ends_in() {
        map.insert("tokenEndsIn".to_owned(), Json::from(u64::try_from(ends_in.as_millis()).unwrap_or(u64::MAX)));
    }
    if let Some(progress) = connection.progress() {
        let progress = json!({
            "done": progress.documents_done,
            "total": progress.documents_total,
            "bytesDone": progress.bytes_done,
            "bytesTotal": progress.bytes_total,
        });
        map.insert("progress".to_owned(), progress);
    }
    shown
}

/// Returns how things stand.
pub(crate) async fn status(inner: &Inner) -> Result<Json, Failure> {
    let repo = inner.repo()?;
    let pending = repo.pending().await?;
    Ok(status_with(inner, &repo, pending))
}

/// Returns how things stand, for who has counted what waits.
pub(crate) fn status_with(inner: &Inner, repo: &Repo, pending: u64) -> Json {
    let none = || json!({ "state": if repo.is_offline() { "offline" } else { "none" } });
    let mut shown = inner.status.borrow().shown.clone().unwrap_or_else(none);
    if let Some(map) = shown.as_object_mut() {
        // Synced is both ways: what waits for the relay is not there yet.
        if pending > 0 && map.get("state").is_some_and(|state| state == "synced") {
            map.insert("state".to_owned(), Json::from("syncing"));
        }
        map.insert("e".to_owned(), Json::from("status"));
        map.insert("pending".to_owned(), Json::from(pending));
    }
    shown
}

/// Tells everybody how things stand.
pub(crate) async fn tell(inner: &Inner) {
    if let Ok(status) = status(inner).await {
        inner.tell_all(&status);
    }
}
