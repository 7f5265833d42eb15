//! The client: the only place with a socket, a clock and entropy. Keeps a repo in step with a relay.
//!
//! A connection is three things. A task owns the socket and reconnects when it breaks. A thread drives the session,
//! because a session reads the store. Between them stand a mailbox and a queue, both bounded: the thread never waits for
//! the socket, so a relay that reads slowly cannot keep us from reading it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::codec::v1::{Code, Token};
use crate::repo::{Inner, Repo, RepoError, random_bytes};
use crate::runtime;

mod backoff;
mod dial;
mod driver;
mod hint;
mod mailbox;
#[cfg(feature = "client")]
mod native;
mod options;
mod permit;
mod progress;
mod socket;
#[cfg(test)]
mod tests;
#[cfg(feature = "client")]
mod tls;
mod v1;

pub use crate::runtime::{BoxFuture, MaybeSend};
pub use dial::{Dial, DialError, Dialed, Heard, Incoming, Outgoing, Said};
pub use options::{ConnectOptions, Protocol};
pub use progress::Progress;

use backoff::Backoff;
use permit::Permit;
use socket::{Ended, Relay};

/// How a connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Trying to reach the relay.
    Connecting,
    /// Connected and greeted: changes flow.
    Connected,
    /// Not connected; the next try comes by itself.
    Waiting {
        /// Why the last one ended, and what to do about it where that is known.
        reason: String,
        /// When the next one begins, from now.
        retry_in: Duration,
        /// What the relay said is wrong, if it said so. [`Code::Unauthenticated`] asks for another token.
        code: Option<Code>,
    },
    /// Not connected, because [`Repo::set_offline`] says so.
    Offline,
    /// Ended by [`Connection::disconnect`] or because the repo is gone.
    Closed,
}

/// A connection to a relay. It reconnects by itself; dropping it disconnects.
#[derive(Debug)]
pub struct Connection {
    state: watch::Receiver<ConnectionState>,
    progress: watch::Receiver<Option<Progress>>,
    protocol: watch::Receiver<Option<Protocol>>,
    permit: watch::Receiver<Permit>,
    tokens: watch::Sender<Token>,
    stop: watch::Sender<bool>,
}

impl Connection {
    /// Returns how the connection stands now.
    pub fn state(&self) -> ConnectionState {
        self.state.borrow().clone()
    }

    /// Waits until the connection is in a state that `is_wanted` accepts, and returns that state.
    pub async fn wait_for(&mut self, mut is_wanted: impl FnMut(&ConnectionState) -> bool) -> ConnectionState {
        let found = self.state.wait_for(|state| is_wanted(state) || *state == ConnectionState::Closed).await;
        found.map_or(ConnectionState::Closed, |state| state.clone())
    }

    /// Waits until the state is another one, and returns it; [`ConnectionState::Closed`] is the last. States that come and go
    /// in between are left out.
    pub async fn next_state(&mut self) -> ConnectionState {
        // An error means that the connection has ended, which its last state says.
        let _ = self.state.changed().await;
        self.state.borrow_and_update().clone()
    }

    /// Waits until the state, the progress, the protocol or the permit is another one; returns false when the connection has ended.
    pub async fn changed(&mut self) -> bool {
        let changed = runtime::select! {
            changed = self.state.changed() => changed,
            changed = self.progress.changed() => changed,
            changed = self.protocol.changed() => changed,
            changed = self.permit.changed() => changed,
        };
        changed.is_ok()
    }

    /// Returns what is spoken with the relay; `None` while not connected.
    pub fn protocol(&self) -> Option<Protocol> {
        *self.protocol.borrow()
    }

    /// Returns after how long what the relay permits ends, unless the token is renewed; `None` if it does not end by itself, or while
    /// not connected. With [`ConnectOptions::token_with`] it is renewed without more ado.
    pub fn permit_ends_in(&self) -> Option<Duration> {
        self.permit.borrow().ends_in()
    }

    /// Shows another token to the relay, on this connection without a break and on those that follow. It has to be of the same
    /// principal: with another one the relay goes on by the token before, until that ends.
    pub fn renew_token(&self, token: impl Into<String>) {
        self.tokens.send_replace(Token::new(token));
    }

    /// Returns how far the first sync of this connection is; `None` while not connected.
    pub fn progress(&self) -> Option<Progress> {
        *self.progress.borrow()
    }

    /// Waits until the progress is another one, and returns it.
    pub async fn next_progress(&mut self) -> Option<Progress> {
        let _ = self.progress.changed().await;
        *self.progress.borrow_and_update()
    }

    /// Waits until everything that the relay had is here, and what of it lacks there is known.
    ///
    /// For the other direction see [`Repo::wait_synced`].
    ///
    /// # Errors
    ///
    /// [`RepoError::Timeout`] if it takes longer; syncing goes on.
    pub async fn wait_caught_up(&mut self, limit: Duration) -> Result<(), RepoError> {
        let is_caught_up = |progress: &Option<Progress>| progress.is_some_and(|progress| progress.is_caught_up);
        let caught_up = runtime::timeout(limit, self.progress.wait_for(is_caught_up)).await;
        caught_up.map_err(|_| RepoError::Timeout)?.map_err(|_| RepoError::Closed)?;
        Ok(())
    }

    /// Ends the connection, and waits until it is closed. What was not sent waits for the next connection.
    pub async fn disconnect(mut self) {
        // Nobody listens any more when the connection has ended already.
        let _ = self.stop.send(true);
        self.wait_for(|state| *state == ConnectionState::Closed).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

impl Repo {
    /// Connects to a relay by sockets of the application's own making. See `Repo::connect`, which brings those of the
    /// operating system.
    pub fn connect_by(&self, dial: Arc<dyn Dial>, options: &ConnectOptions) -> Connection {
        let (state_sender, state) = watch::channel(ConnectionState::Connecting);
        let (stop, stopped) = watch::channel(false);
        let (progress_sender, progress) = watch::channel(None);
        let (protocol_sender, protocol) = watch::channel(None);
        let (permit_sender, permit) = watch::channel(Permit::lasting(0));
        let (tokens, token_receiver) = watch::channel(options.shown_token().clone());
        let shown =
            Shown { state: state_sender, progress: progress_sender, protocol: protocol_sender, permit: permit_sender };
        let relay = Relay::new(dial, options, token_receiver);
        runtime::spawn(keep_connected(Arc::clone(self.inner()), relay, shown, stopped));
        Connection { state, progress, protocol, permit, tokens, stop }
    }

    /// Goes offline, or online again: while offline no connection of this repo is made, and those that are there are ended. What
    /// is written meanwhile waits. Not remembered over restarts. Default: online.
    pub fn set_offline(&self, is_offline: bool) {
        self.inner().offline.send_replace(is_offline);
    }

    /// Lets connections that wait for their next try begin it at once: the network seems to be there again. Those that are
    /// connected, and those that are to stay offline, do not mind.
    pub fn retry_now(&self) {
        self.inner().hurried.send_replace(());
    }

    /// Says whether the repo was told to stay offline.
    pub fn is_offline(&self) -> bool {
        *self.inner().offline.borrow()
    }
}

/// What a connection shows of itself.
struct Shown {
    state: watch::Sender<ConnectionState>,
    progress: watch::Sender<Option<Progress>>,
    protocol: watch::Sender<Option<Protocol>>,
    permit: watch::Sender<Permit>,
}

/// Connects, and connects again, until it is told to stop.
async fn keep_connected(inner: Arc<Inner>, relay: Relay, shown: Shown, mut stopped: watch::Receiver<bool>) {
    let mut backoff = Backoff::default();
    let mut offline = inner.offline.subscribe();
    let mut hurried = inner.hurried.subscribe();
    loop {
        // In this order: what was to be said when it is told to stop, that everything came perhaps, is still said.
        let ended = tokio::select! {
            biased;
            ended = relay.connect_once(&inner, &shown, &mut backoff) => Some(ended),
            () = switched(&mut offline, true) => None,
            () = told_to_stop(&mut stopped) => break,
        };
        shown.progress.send_replace(None);
        shown.protocol.send_replace(None);
        shown.permit.send_replace(Permit::lasting(0));
        // What came while it was being tried was about that try.
        hurried.mark_unchanged();
        let retry_in = match ended {
            Some(Ended { reason, code, after }) => {
                let retry_in = backoff.next_delay(u64::from_le_bytes(random_bytes()));
                // A relay that stops gives each of its clients another time, so that they do not all come back at once.
                let retry_in = retry_in.max(after.unwrap_or_default());
                tracing::info!(%reason, ?retry_in, "the connection to the relay ended");
                shown.state.send_replace(ConnectionState::Waiting { reason, retry_in, code });
                retry_in
            }
            None => Duration::ZERO,
        };
        runtime::select! {
            () = runtime::sleep(retry_in) => {}
            () = switched(&mut offline, true) => {}
            // The sender lives as long as the repo, which this task holds.
            Ok(()) = hurried.changed() => backoff.reset(),
            () = told_to_stop(&mut stopped) => break,
        }
        if *offline.borrow() {
            shown.state.send_replace(ConnectionState::Offline);
            runtime::select! {
                () = switched(&mut offline, false) => {}
                () = told_to_stop(&mut stopped) => break,
            }
            // The user wants it now.
            backoff.reset();
        }
        shown.state.send_replace(ConnectionState::Connecting);
    }
    shown.state.send_replace(ConnectionState::Closed);
}

async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    // An error means that the handle is gone, which means the same.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Waits until the repo is offline, or online.
async fn switched(offline: &mut watch::Receiver<bool>, wanted: bool) {
    // The sender lives as long as the repo, which this task holds.
    if offline.wait_for(|is_offline| *is_offline == wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}
