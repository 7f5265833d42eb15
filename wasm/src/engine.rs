//! The engine: a repo, the pages that use it, and what they are told.
//!
//! Everything here runs on one thread; nothing waits but by `await`. Futures need not be `Send`: in a browser nothing is.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::pin::{Pin, pin};
use std::rc::Rc;

use futures_util::future::{Either, select};
use rejoin::{ConnectOptions, Connection, DocHandle, DocumentId, Repo};
use serde_json::Value as Json;
use tokio::sync::{Notify, watch};

use crate::calls;
use crate::errors::Failure;
use crate::flush;
use crate::gate::Gate;
use crate::news;
use crate::presence::Watching;
use crate::requests::Args;
use crate::session::{Once, Session};
use crate::status::Status;
use crate::watch::Watched;

/// Work that goes on by itself.
pub type Task = Pin<Box<dyn Future<Output = ()>>>;

/// What the engine needs of where it runs.
pub trait Host {
    /// Tells a session an event, or all sessions if its name is empty.
    fn event(&self, session: &str, json: &str);

    /// Runs a task to its end, beside everything else.
    fn spawn(&self, task: Task);

    /// Connects to a relay.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the address is none.
    fn connect(&self, repo: &Repo, url: &str, options: &ConnectOptions) -> Result<Connection, Failure>;
}

/// What a request came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// JSON.
    Json(Json),
    /// A file.
    Bytes(Vec<u8>),
}

impl From<Json> for Answer {
    fn from(json: Json) -> Self {
        Self::Json(json)
    }
}

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Rc<Inner>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// What all calls and tasks share.
pub(crate) struct Inner {
    repo: RefCell<Option<Repo>>,
    pub(crate) host: Rc<dyn Host>,
    pub(crate) sessions: RefCell<HashMap<String, Session>>,
    pub(crate) watched: RefCell<HashMap<DocumentId, Watched>>,
    gates: RefCell<HashMap<DocumentId, Rc<Gate>>>,
    pub(crate) presences: RefCell<HashMap<DocumentId, Watching>>,
    pub(crate) status: RefCell<Status>,
    /// Wakes the task that tells the news.
    pub(crate) wake: Rc<Notify>,
    /// Whether documents came or went otherwise than by events of the repo.
    pub(crate) listed: Cell<bool>,
    closed: watch::Sender<bool>,
}

impl Engine {
    /// Makes an engine of a repo, and begins to tell what happens in it.
    pub fn new(repo: Repo, host: Rc<dyn Host>) -> Self {
        let inner = Rc::new(Inner {
            repo: RefCell::new(Some(repo.clone())),
            host,
            sessions: RefCell::default(),
            watched: RefCell::default(),
            gates: RefCell::default(),
            presences: RefCell::default(),
            status: RefCell::default(),
            wake: Rc::default(),
            listed: Cell::new(false),
            closed: watch::Sender::new(false),
        });
        inner.start(news::tell(Rc::downgrade(&inner), Rc::clone(&inner.wake), &repo));
        Self { inner }
    }

    /// Notes that a page came.
    pub fn attach(&self, session: &str) {
        self.inner.sessions.borrow_mut().entry(session.to_owned()).or_default();
    }

    /// Notes that a page went: what it watched and showed of itself ends.
    pub fn detach(&self, session: &str) {
        self.inner.watched.borrow_mut().retain(|_, watched| {
            watched.viewers.remove(session);
            !watched.viewers.is_empty()
        });
        self.inner.presences.borrow_mut().retain(|_, watching| watching.leave(session));
        let gone = self.inner.sessions.borrow_mut().remove(session);
        // Outside of the borrow: values are taken back when they are dropped.
        drop(gone);
    }

    /// Does what a page asks. A request that changes something is done once, however often it is sent under one id; what came
    /// of it is remembered until `acked` says that the answer arrived.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn call(
        &self,
        session: &str,
        id: u64,
        acked: u64,
        method: &str,
        args: &str,
        bytes: Option<Vec<u8>>,
    ) -> Result<Answer, Failure> {
        self.attach(session);
        let must_forget = self.inner.session(session, |session| {
            session.forget(acked);
            session.must_forget(acked)
        });
        if must_forget && let (Ok(repo), Some(last)) = (self.inner.repo(), calls::forgettable(session, acked)) {
            // What is not forgotten now is after a week.
            self.inner.start(async move { drop(repo.forget_requests(last).await) });
        }
        let args = Args::parse(args)?;
        let mut closed = self.inner.closed.subscribe();
        let closed = pin!(closed.wait_for(|closed| *closed));
        let request = calls::Request { session, id, method, args, bytes };
        let done = pin!(self.inner.once(request));
        match select(done, closed).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(Failure::closed()),
        }
    }

    /// Notes that the network came back, or went. It is a hint: where there is none, nothing is lost by trying.
    pub fn online(&self, is_online: bool) {
        let repo = self.inner.repo.borrow().clone();
        if let Some(repo) = repo.filter(|_| is_online) {
            repo.retry_now();
        }
    }

    /// Closes the engine: ends what is under way, disconnects, and waits until the store is released.
    pub async fn close(&self) {
        let Some(repo) = self.inner.repo.borrow_mut().take() else { return };
        self.inner.closed.send_replace(true);
        self.inner.wake.notify_one();
        let ending = self.inner.status.borrow_mut().end();
        let signed_out = self.inner.status.borrow_mut().release();
        drop(signed_out);
        if let Some(ending) = ending {
            ending.await;
        }
        let sessions = std::mem::take(&mut *self.inner.sessions.borrow_mut());
        let presences = std::mem::take(&mut *self.inner.presences.borrow_mut());
        drop((sessions, presences));
        self.inner.watched.borrow_mut().clear();
        repo.close().await;
    }
}

impl Inner {
    /// Returns the repo.
    ///
    /// # Errors
    ///
    /// `closed`.
    pub(crate) fn repo(&self) -> Result<Repo, Failure> {
        self.repo.borrow().clone().ok_or_else(Failure::closed)
    }

    /// Returns a document that is here.
    ///
    /// # Errors
    ///
    /// `not_found` or `deleted`.
    pub(crate) async fn document(&self, document: DocumentId) -> Result<DocHandle, Failure> {
        let repo = self.repo()?;
        match repo.find(document).await? {
            Some(handle) => Ok(handle),
            None if repo.deletion(document).await?.is_some() => Err(rejoin::RepoError::Deleted.into()),
            None => Err(rejoin::RepoError::NotFound.into()),
        }
    }

    /// Returns the order of a document's edits.
    pub(crate) fn gate(&self, document: DocumentId) -> Rc<Gate> {
        let mut gates = self.gates.borrow_mut();
        // Those that nobody uses go when there are many.
        if gates.len() > 1_000 && !gates.contains_key(&document) {
            gates.retain(|_, gate| Rc::strong_count(gate) > 1);
        }
        Rc::clone(gates.entry(document).or_default())
    }

    /// Looks at a session.
    pub(crate) fn session<T>(&self, name: &str, look: impl FnOnce(&mut Session) -> T) -> T {
        look(self.sessions.borrow_mut().entry(name.to_owned()).or_default())
    }

    /// Tells all sessions an event.
    pub(crate) fn tell_all(&self, event: &Json) {
        self.host.event("", &event.to_string());
    }

    /// Runs a task until it ends or the engine is closed.
    pub(crate) fn start(&self, task: impl Future<Output = ()> + 'static) {
        let mut closed = self.closed.subscribe();
        self.host.spawn(Box::pin(async move {
            let closed = pin!(closed.wait_for(|closed| *closed));
            // Whichever ends first, nothing is left to do.
            drop(select(pin!(task), closed).await);
        }));
    }

    /// Does a request, once if it changes something.
    async fn once(self: &Rc<Self>, request: calls::Request<'_>) -> Result<Answer, Failure> {
        if !calls::is_once(request.method) {
            return calls::run(self, request).await;
        }
        let (session, id) = (request.session.to_owned(), request.id);
        loop {
            match self.session(&session, |session| session.once(id)) {
                Some(Once::Done(answer)) => return answer,
                Some(Once::UnderWay(done)) => done.notified().await,
                None => break,
            }
        }
        let done = Rc::new(Notify::new());
        self.session(&session, |session| session.set_once(id, Once::UnderWay(Rc::clone(&done))));
        let guard = GiveUp { inner: self, session: &session, id, done };
        let answer = calls::run(self, request).await;
        // A session that went meanwhile is not brought back.
        if let Some(session) = self.sessions.borrow_mut().get_mut(&session) {
            session.set_once(id, Once::Done(answer.clone()));
        }
        drop(guard);
        answer
    }

    /// Sends what happened to a document to those who have it open.
    pub(crate) async fn flush(self: &Rc<Self>, document: DocumentId) {
        flush::flush(self, document).await;
    }
}

/// Wakes those who wait for a request, and forgets it if it was given up.
struct GiveUp<'a> {
    inner: &'a Inner,
    session: &'a str,
    id: u64,
    done: Rc<Notify>,
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.inner.sessions.borrow_mut().get_mut(self.session) {
            session.give_up(self.id);
        }
        self.done.notify_waiters();
    }
}
