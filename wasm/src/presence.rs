//! Presence, page by page: several pages share one engine, and each shows values of its own.
//!
//! On the wire all of them are values of this engine's one author. So a page's key goes out with a part of its session's name
//! behind it, and comes back without it.

use std::collections::HashSet;
use std::rc::{Rc, Weak};

use futures_util::FutureExt;
use rejoin::repo::PresenceValue;
use rejoin::{DocHandle, DocumentId, Presence};
use serde_json::{Value as Json, json};
use tokio::sync::Notify;
use web_time::UNIX_EPOCH;

use crate::engine::Inner;
use crate::errors::Failure;

/// Between a page's key and what follows of its session's name.
const MARK: char = '#';

/// How much of a session's name goes with a key.
const NAME_CHARS: usize = 8;

/// Who wants to know who is here, about one document.
#[derive(Debug)]
pub(crate) struct Watching {
    sessions: HashSet<String>,
    stop: Rc<Notify>,
}

impl Watching {
    /// Takes a session out; returns whether others are left.
    pub(crate) fn leave(&mut self, session: &str) -> bool {
        self.sessions.remove(session);
        let is_used = !self.sessions.is_empty();
        if !is_used {
            self.stop.notify_one();
        }
        is_used
    }
}

fn short(session: &str) -> &str {
    session.get(..NAME_CHARS).unwrap_or(session)
}

/// Returns a key as it goes out.
pub(crate) fn key_of(session: &str, key: &str) -> String {
    format!("{key}{MARK}{}", short(session))
}

/// Returns the living values as a session sees them.
fn values(presence: &Presence, session: &str) -> Json {
    presence.values().iter().map(|value| value_to_json(value, session)).collect()
}

fn value_to_json(value: &PresenceValue, session: &str) -> Json {
    let author = value.author.to_string();
    let is_local = value.origin == rejoin::engine::Origin::Local;
    let split = value.key.rsplit_once(MARK).filter(|(_, name)| !name.is_empty() && name.len() <= NAME_CHARS);
    let (key, author, is_own) = match split {
        Some((key, name)) => (key, format!("{author}{MARK}{name}"), is_local && name == short(session)),
        None => (value.key.as_str(), author, false),
    };
    let since = value.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    json!({
        "author": author,
        "key": key,
        "value": value.json(),
        "own": is_own,
        "since": u64::try_from(since).unwrap_or(u64::MAX),
    })
}

/// Returns a document that may still be on its way: who comes by a link shows itself before the document is here.
///
/// # Errors
///
/// `deleted`.
pub(crate) async fn awaited(inner: &Inner, document: DocumentId) -> Result<DocHandle, Failure> {
    let repo = inner.repo()?;
    match repo.deletion(document).await? {
        Some(_) => Err(rejoin::RepoError::Deleted.into()),
        None => Ok(repo.handle(document)),
    }
}

/// Tells a session from now on who is here, and returns who is.
pub(crate) async fn watch(inner: &Rc<Inner>, session: &str, document: DocumentId) -> Result<Json, Failure> {
    let presence = awaited(inner, document).await?.presence();
    let first = values(&presence, session);
    let mut all = inner.presences.borrow_mut();
    if let Some(watching) = all.get_mut(&document) {
        watching.sessions.insert(session.to_owned());
        return Ok(first);
    }
    let stop = Rc::new(Notify::new());
    let sessions = [session.to_owned()].into();
    all.insert(document, Watching { sessions, stop: Rc::clone(&stop) });
    drop(all);
    inner.start(tell(Rc::downgrade(inner), presence, document, stop));
    Ok(first)
}

/// Tells the sessions that watch a document who is here, whenever that changes.
async fn tell(inner: Weak<Inner>, presence: Presence, document: DocumentId, stop: Rc<Notify>) {
    let mut events = presence.subscribe();
    loop {
        tokio::select! {
            event = events.next() => if event.is_none() { return },
            () = stop.notified() => return,
        }
        // What is known already goes with it.
        while let Some(Some(_)) = events.next().now_or_never() {}
        let Some(inner) = inner.upgrade() else { return };
        let sessions = inner.presences.borrow().get(&document).map(|watching| watching.sessions.clone());
        for session in sessions.unwrap_or_default() {
            let values = values(&presence, &session);
            let event = json!({ "e": "presence", "doc": document.to_string(), "values": values });
            inner.host.event(&session, &event.to_string());
        }
    }
}
