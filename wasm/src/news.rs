//! The task that tells the news: patches of open documents, what waits for a relay, what came and went.

use std::collections::{BTreeSet, HashMap};
use std::rc::{Rc, Weak};

use futures_util::FutureExt;
use rejoin::engine::Origin;
use rejoin::repo::{Event, EventKind, Events, Lagged, PendingNews, RightsNews, SpaceRights};
use rejoin::{DocumentId, Repo, SpaceId};
use serde_json::{Map, Value as Json, json};
use tokio::sync::Notify;

use crate::engine::Inner;
use crate::status;

/// What is to be told.
#[derive(Default)]
struct Turn {
    /// Documents that came or went.
    listed: BTreeSet<DocumentId>,
    /// Whether some came or went that are not named.
    is_listed: bool,
    /// Documents whose counts of what waits may be others.
    counted: BTreeSet<DocumentId>,
    /// Whether any of them may be.
    all_counted: bool,
    /// Whether relays said something else of this device's rights.
    rights_changed: bool,
}

/// Tells the news until the repo is gone.
pub(crate) fn tell(inner: Weak<Inner>, wake: Rc<Notify>, repo: &Repo) -> impl Future<Output = ()> + 'static {
    let sources = (repo.subscribe(), repo.pending_news(), repo.rights_news());
    let counts = repo.pending_documents().into_iter().collect();
    run(inner, wake, sources, counts)
}

async fn run(
    weak: Weak<Inner>,
    wake: Rc<Notify>,
    (mut events, mut pending, mut rights): (Events, PendingNews, RightsNews),
    mut counts: HashMap<DocumentId, u64>,
) {
    let mut known = HashMap::new();
    loop {
        let mut turn = Turn::default();
        let first = {
            tokio::select! {
                event = events.next() => Some(event),
                is_there = pending.next() => {
                    if !is_there {
                        return;
                    }
                    turn.all_counted = true;
                    None
                }
                is_there = rights.next() => {
                    if !is_there {
                        return;
                    }
                    turn.rights_changed = true;
                    None
                }
                () = wake.notified() => None,
            }
        };
        let Some(inner) = weak.upgrade() else { return };
        match first {
            Some(None) => return,
            Some(Some(event)) => hear(&inner, &mut turn, event),
            None => {}
        }
        // One turn for all that is known by now.
        while let Some(Some(event)) = events.next().now_or_never() {
            hear(&inner, &mut turn, event);
        }
        turn.is_listed |= inner.listed.take();
        if turn.rights_changed {
            tell_rights(&inner, &mut known);
        }
        finish(&inner, turn, &mut counts).await;
    }
}

/// Tells of which spaces the rights have changed.
fn tell_rights(inner: &Inner, known: &mut HashMap<SpaceId, SpaceRights>) {
    let Ok(repo) = inner.repo() else { return };
    let now = repo.known_rights();
    for (space, rights) in &now {
        if known.get(space) != Some(rights) {
            inner.tell_all(&json!({ "e": "space", "space": space.to_string() }));
        }
    }
    *known = now;
}

fn hear(inner: &Inner, turn: &mut Turn, event: Result<Event, Lagged>) {
    let Ok(event) = event else {
        // Some are gone: everything may be different.
        inner.watched.borrow_mut().values_mut().for_each(|watched| watched.touch(false));
        (turn.is_listed, turn.all_counted) = (true, true);
        return;
    };
    let document = event.document;
    turn.counted.insert(document);
    let kind = match event.kind {
        EventKind::Deleted => Some("deleted"),
        EventKind::Rejected => Some("rejected"),
        EventKind::Rewritten => Some("rewritten"),
        _ => None,
    };
    if let Some(kind) = kind {
        inner.tell_all(&json!({ "e": "doc", "doc": document.to_string(), "kind": kind }));
    }
    if matches!(event.kind, EventKind::Deleted | EventKind::Opened) || event.is_arrival() {
        turn.listed.insert(document);
    }
    let mut all = inner.watched.borrow_mut();
    if event.kind == EventKind::Deleted {
        all.remove(&document);
    } else if let Some(watched) = all.get_mut(&document) {
        watched.touch(event.origin == Origin::Local);
    }
}

async fn finish(inner: &Rc<Inner>, turn: Turn, counts: &mut HashMap<DocumentId, u64>) {
    let dirty: Vec<DocumentId> = {
        let all = inner.watched.borrow();
        all.iter().filter(|(_, watched)| watched.dirty.is_some()).map(|(document, _)| *document).collect()
    };
    for document in dirty {
        inner.flush(document).await;
    }
    let Ok(repo) = inner.repo() else { return };
    count(inner, &repo, &turn, counts).await;
    if turn.is_listed || !turn.listed.is_empty() {
        inner.tell_all(&json!({ "e": "list" }));
        let documents = turn.listed;
        let spaces = repo.look(move |tx| {
            documents
                .iter()
                .map(|document| rejoin::ledger::spaces::of(tx, document))
                .collect::<Result<BTreeSet<_>, _>>()
        });
        for space in spaces.await.unwrap_or_default() {
            if space != SpaceId::DEFAULT {
                inner.tell_all(&json!({ "e": "space", "space": space.to_string() }));
            }
        }
    }
}

/// Tells which documents have more or less that waits.
async fn count(inner: &Inner, repo: &Repo, turn: &Turn, counts: &mut HashMap<DocumentId, u64>) {
    let mut changed = Map::new();
    let mut see = |document: DocumentId, now: u64| {
        let before = if now > 0 { counts.insert(document, now) } else { counts.remove(&document) };
        if before.unwrap_or(0) != now {
            changed.insert(document.to_string(), Json::from(now));
        }
    };
    if turn.all_counted {
        let now: HashMap<DocumentId, u64> = repo.pending_documents().into_iter().collect();
        let gone: Vec<DocumentId> = turn.counted.iter().copied().collect();
        now.iter().for_each(|(document, count)| see(*document, *count));
        gone.iter().filter(|document| !now.contains_key(document)).for_each(|document| see(*document, 0));
        let empty: Vec<DocumentId> = counts.keys().filter(|document| !now.contains_key(document)).copied().collect();
        for document in empty {
            counts.remove(&document);
            changed.insert(document.to_string(), Json::from(0));
        }
    } else {
        turn.counted.iter().for_each(|document| see(*document, repo.pending_of(*document)));
    }
    if changed.is_empty() {
        return;
    }
    let Ok(total) = repo.pending().await else { return };
    inner.tell_all(&json!({ "e": "pending", "total": total, "docs": changed }));
    if inner.status.borrow().is_shown() {
        inner.tell_all(&status::status_with(inner, repo, total));
    }
}
