//! Sending patches: what happened to an open document since it was shown, to each page that has it open.

use std::rc::Rc;

use rejoin::DocumentId;
use serde_json::{Value as Json, json};

use crate::engine::Inner;
use crate::errors::Failure;
use crate::requests::hashes_to_json;
use crate::tree::Parents;
use crate::watch::{News, Source, news, snapshot};

/// Opens a document for a session. All edits that the session asked for before are in what is returned.
pub(crate) async fn open(inner: &Rc<Inner>, session: &str, document: DocumentId) -> Result<Option<Json>, Failure> {
    let gate = inner.gate(document);
    let _turn = gate.turn().await;
    gate.quiet().await;
    let repo = inner.repo()?;
    if let Some(watched) = inner.watched.borrow_mut().get_mut(&document) {
        watched.touch(false);
    }
    // Those who have it open already are brought here first.
    flush_in_turn(inner, document, &gate).await;
    let Some(snapshot) = snapshot(&repo, document).await? else { return Ok(None) };
    let space = repo.look(move |tx| rejoin::ledger::spaces::of(tx, &document)).await?;
    let heads = hashes_to_json(&snapshot.heads);
    let value = snapshot.value;
    let is_behind = inner.watched.borrow().get(&document).is_some_and(|watched| watched.shown != snapshot.heads);
    if is_behind {
        // Something came in between: what the new one is shown, the others are shown too.
        send(
            inner,
            document,
            false,
            vec![json!(["all", value])],
            (snapshot.heads.clone(), Source::Fields(Parents::new())),
        );
    }
    let count = {
        let mut all = inner.watched.borrow_mut();
        let watched = all.entry(document).or_default();
        watched.shown = snapshot.heads;
        watched.source = Some(snapshot.source);
        watched.viewers.insert(session.to_owned(), 0);
        watched.count
    };
    Ok(Some(json!({
        "heads": heads,
        "value": value,
        "space": space.to_string(),
        "pending": repo.pending_of(document),
        "n": count,
    })))
}

/// Notes that an edit of a session was done, for those patches that will have it.
pub(crate) fn note_done(inner: &Inner, session: &str, document: DocumentId, id: u64, is_change: bool) {
    let mut all = inner.watched.borrow_mut();
    let Some(watched) = all.get_mut(&document) else { return };
    let Some(done) = watched.viewers.get_mut(session) else { return };
    *done = (*done).max(id);
    watched.has_done = true;
    if !is_change {
        // No event comes of it, and the page is to drop what it shows of the edit.
        watched.touch(true);
        inner.wake.notify_one();
    }
}

/// Sends what happened to a document, if anything did.
pub(crate) async fn flush(inner: &Rc<Inner>, document: DocumentId) {
    let gate = inner.gate(document);
    let _turn = gate.turn().await;
    flush_in_turn(inner, document, &gate).await;
}

async fn flush_in_turn(inner: &Rc<Inner>, document: DocumentId, gate: &crate::gate::Gate) {
    gate.quiet().await;
    let (Ok(repo), Some((shown, source, is_local))) = (inner.repo(), take(inner, document)) else { return };
    let found = match source {
        Some(source) => news(&repo, document, shown, source).await.ok(),
        None => None,
    };
    let found = match found {
        Some(found) => found,
        // It cannot be told what happened: it is shown afresh. If that fails too, the next event tries it again.
        None => match snapshot(&repo, document).await {
            Ok(Some(snapshot)) => News::All(snapshot),
            Ok(None) | Err(_) => News::Gone,
        },
    };
    let (patches, heads, source) = match found {
        News::Patches(patches, heads, source) => (patches, heads, source),
        News::All(snapshot) => (vec![json!(["all", snapshot.value])], snapshot.heads, snapshot.source),
        News::Gone => return,
    };
    send(inner, document, is_local, patches, (heads, source));
}

/// Takes what is needed to go on, and marks the document as clean.
fn take(inner: &Inner, document: DocumentId) -> Option<(Vec<automerge::ChangeHash>, Option<Source>, bool)> {
    let mut all = inner.watched.borrow_mut();
    let watched = all.get_mut(&document)?;
    let is_local = watched.dirty.take()?;
    Some((watched.shown.clone(), watched.source.take(), is_local))
}

fn send(
    inner: &Inner,
    document: DocumentId,
    is_local: bool,
    patches: Vec<Json>,
    (heads, source): (Vec<automerge::ChangeHash>, Source),
) {
    let mut all = inner.watched.borrow_mut();
    // Everybody may have closed it meanwhile.
    let Some(watched) = all.get_mut(&document) else { return };
    watched.source = Some(source);
    if patches.is_empty() && heads == watched.shown && !watched.has_done {
        return;
    }
    watched.has_done = false;
    watched.shown = heads;
    watched.count += 1;
    let rest = json!({
        "e": "patch",
        "doc": document.to_string(),
        "n": watched.count,
        "heads": hashes_to_json(&watched.shown),
        "origin": if is_local { "local" } else { "remote" },
        "patches": patches,
    })
    .to_string();
    let viewers: Vec<(String, u64)> = watched.viewers.iter().map(|(name, done)| (name.clone(), *done)).collect();
    drop(all);
    for (session, done) in viewers {
        // The patches are written once for all of them.
        let event = format!("{{\"upTo\":{done},{}", rest.get(1..).unwrap_or_default());
        inner.host.event(&session, &event);
    }
}
