//! Documents: how large they are, putting them aside, and deleting them.

use std::ops::ControlFlow;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use rejoin::deletion::{DeletionKind, Tombstone};
use rejoin::ledger::{self, spaces, tombstone};
use rejoin::store::{ReadTx, StoreError, StoreExt};
use rejoin::{DocumentId, SpaceId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{self, Asked, At, Body, PageOf, page, space_text};
use super::problem::{Answer, Code, Problem};
use super::{ADMIN, Admin, App, text};
use crate::clock::now_seconds;
use crate::log::AppendError;
use crate::quarantine::Held;
use crate::show::hex;

/// A document.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Document {
    id: String,
    /// The space it is in, or was in.
    space: String,
    /// How many changes it has.
    changes: u64,
    /// Their bytes, uncompressed.
    bytes: u64,
    /// The hashes of the changes that no other one depends on.
    heads: Vec<String>,
    /// Why nobody may read or write it, if that is so.
    #[schema(required = true)]
    quarantine: Option<Quarantined>,
    /// When and by whom it was deleted everywhere, if it was.
    #[schema(required = true)]
    deleted: Option<Deleted>,
}

/// Why a document is in quarantine.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Quarantined {
    /// Since when, in seconds since 1970.
    since_seconds: u64,
    /// Why.
    reason: String,
}

impl From<Held> for Quarantined {
    fn from(Held { since_seconds, reason }: Held) -> Self {
        Self { since_seconds, reason }
    }
}

/// How a document was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Deleted {
    /// Whether its bytes must be gone everywhere too.
    purged: bool,
    /// When, in seconds since 1970, by the clock of who did it.
    time_seconds: u64,
    /// Who did it, by its own word.
    by: String,
}

impl From<Tombstone> for Deleted {
    fn from(Tombstone { kind, time_seconds, by }: Tombstone) -> Self {
        Self { purged: kind == DeletionKind::Purged, time_seconds, by }
    }
}

page!(DocumentPage, Document, String, "documents of a space");

/// Says whether a space is there: written down, or with documents.
pub(super) fn is_space(app: &Admin, tx: &dyn ReadTx, space: &SpaceId) -> Answer<bool> {
    let is_known = *space == SpaceId::DEFAULT || app.shared.directory.space(space).is_some();
    if is_known {
        return Ok(true);
    }
    let mut has_documents = false;
    spaces::documents(tx, space, None, &mut |_| {
        has_documents = true;
        ControlFlow::Break(())
    })?;
    Ok(has_documents)
}

/// Refuses what is about a space that is not there.
pub(super) fn require_space(app: &Admin, tx: &dyn ReadTx, space: &SpaceId) -> Answer<()> {
    if is_space(app, tx, space)? { Ok(()) } else { Err(Problem::plain(Code::SpaceUnknown)) }
}

fn find(app: &Admin, tx: &dyn ReadTx, document: &DocumentId) -> Result<Option<Document>, StoreError> {
    let (state, deleted) = (ledger::state(tx, document)?, tombstone::get(tx, document)?);
    let quarantine = app.shared.quarantine.get(document);
    if state.is_none() && deleted.is_none() && quarantine.is_none() {
        return Ok(None);
    }
    let state = state.unwrap_or_default();
    Ok(Some(Document {
        id: document.to_string(),
        space: space_text(&spaces::of(tx, document)?),
        changes: state.count,
        bytes: state.bytes,
        heads: state.heads.iter().map(|head| hex(&head.hash.0)).collect(),
        quarantine: quarantine.map(Quarantined::from),
        deleted: deleted.map(Deleted::from),
    }))
}

/// Lists the documents of a space, by id.
#[utoipa::path(get, path = "/v1/spaces/{space}/documents", params(("space" = String, Path), PageOf), responses((status = 200, body = DocumentPage)))]
pub(super) async fn document_list(
    State(app): State<App>,
    At(space): At<String>,
    Asked(page): Asked<PageOf>,
) -> Answer<Json<DocumentPage>> {
    let space = extract::space(&space)?;
    let (limit, after) = (page.limit()?, extract::after(page.after.as_deref(), extract::document)?);
    app.blocking(move |app| {
        let tx = app.shared.store.read()?;
        require_space(app, &*tx, &space)?;
        let mut ids = Vec::new();
        spaces::documents(&*tx, &space, after.as_ref(), &mut |document| {
            ids.push(document);
            if ids.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let next = (ids.len() == limit).then(|| ids.last().map(DocumentId::to_string)).flatten();
        let mut items = Vec::with_capacity(ids.len());
        for id in ids {
            items.extend(find(app, &*tx, &id)?);
        }
        Ok(Json(DocumentPage { items, next }))
    })
    .await
}

/// Returns one document, wherever it is, also one that was deleted everywhere.
#[utoipa::path(get, path = "/v1/documents/{document}", params(("document" = String, Path)), responses((status = 200, body = Document)))]
pub(super) async fn document_get(State(app): State<App>, At(document): At<String>) -> Answer<Json<Document>> {
    let document = extract::document(&document)?;
    app.blocking(move |app| {
        let found = find(app, &*app.shared.store.read()?, &document)?;
        found.map(Json).ok_or_else(|| Problem::plain(Code::DocumentUnknown))
    })
    .await
}

/// Why a document is put into quarantine.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reason {
    /// At most 256 bytes. Default: empty.
    #[serde(default)]
    reason: String,
}

/// Puts a document into quarantine: nobody is sent anything of it and nobody writes to it until it is released. It need not be
/// there.
#[utoipa::path(put, path = "/v1/documents/{document}/quarantine", params(("document" = String, Path)), request_body = Reason, responses((status = 200, body = Quarantined)))]
pub(super) async fn document_quarantine(
    State(app): State<App>,
    At(document): At<String>,
    Body(Reason { reason }): Body<Reason>,
) -> Answer<Json<Quarantined>> {
    let document = extract::document(&document)?;
    let held = Held { since_seconds: now_seconds(), reason: text("reason", reason)? };
    let shown = held.clone();
    let space = app
        .blocking(move |app| {
            app.shared.quarantine.put(&*app.shared.store, &document, held)?;
            Ok(spaces::of(&*app.shared.store.read()?, &document)?)
        })
        .await?;
    // What was on its way to the store is in it behind this, and what is kept for those who follow it is not handed out any more.
    let _ = app.shared.log.append(app.shared.hub.next_id().into(), document, Vec::new()).await;
    app.shared.hub.forget(&space, &document);
    Ok(Json(shown.into()))
}

/// Releases a document from quarantine.
#[utoipa::path(delete, path = "/v1/documents/{document}/quarantine", params(("document" = String, Path)), responses((status = 200, body = Document)))]
pub(super) async fn document_release(State(app): State<App>, At(document): At<String>) -> Answer<Json<Document>> {
    let document = extract::document(&document)?;
    app.blocking(move |app| {
        let shown = find(app, &*app.shared.store.read()?, &document)?;
        if !app.shared.quarantine.release(&*app.shared.store, &document)? {
            return Err(Problem::plain(Code::NotQuarantined));
        }
        // Those who passed it over get it now.
        let logged = app.shared.store.write_with(|tx| ledger::log::repeat(tx, &document))?;
        app.shared.hub.come_back(&document, logged.map(|logged| (logged.space, logged.last())));
        let shown = shown.map(|shown| Json(Document { quarantine: None, ..shown }));
        shown.ok_or_else(|| Problem::plain(Code::NotQuarantined))
    })
    .await
}

page!(QuarantinePage, QuarantineItem, String, "documents that are in quarantine");

/// A document in quarantine.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QuarantineItem {
    document: String,
    /// Since when, in seconds since 1970.
    since_seconds: u64,
    /// Why.
    reason: String,
}

/// Lists what is in quarantine, by id.
#[utoipa::path(get, path = "/v1/quarantine", params(PageOf), responses((status = 200, body = QuarantinePage)))]
pub(super) async fn quarantine_list(
    State(app): State<App>,
    Asked(page): Asked<PageOf>,
) -> Answer<Json<QuarantinePage>> {
    let (limit, after) = (page.limit()?, extract::after(page.after.as_deref(), extract::document)?);
    let held = app.shared.quarantine.list(after.as_ref(), limit);
    let next = (held.len() == limit).then(|| held.last().map(|(id, _)| id.to_string())).flatten();
    let items = held.into_iter().map(|(id, Held { since_seconds, reason })| QuarantineItem {
        document: id.to_string(),
        since_seconds,
        reason,
    });
    Ok(Json(QuarantinePage { items: items.collect(), next }))
}

/// What was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Deletion {
    document: String,
    /// Whether its bytes are gone from the store's file. Of a purge that says no, they go when the relay is started next.
    bytes_gone: bool,
}

/// Deletes a document everywhere: devices hear of it when they connect.
#[utoipa::path(delete, path = "/v1/documents/{document}", params(("document" = String, Path)), responses((status = 200, body = Deletion)))]
pub(super) async fn document_delete(State(app): State<App>, At(document): At<String>) -> Answer<Json<Deletion>> {
    let document = extract::document(&document)?;
    let is_there = app.blocking(move |app| Ok(find(app, &*app.shared.store.read()?, &document)?.is_some())).await?;
    if !is_there {
        return Err(Problem::plain(Code::DocumentUnknown));
    }
    delete(&app, document, DeletionKind::Deleted).await?;
    Ok(Json(Deletion { document: document.to_string(), bytes_gone: false }))
}

/// Deletes a document everywhere and leaves none of its bytes: neither here, where the store's file is written anew, nor on the
/// devices that hear of it. It need not be there any more.
#[utoipa::path(post, path = "/v1/documents/{document}/purge", params(("document" = String, Path)), responses((status = 200, body = Deletion)))]
pub(super) async fn document_purge(State(app): State<App>, At(document): At<String>) -> Answer<Json<Deletion>> {
    let document = extract::document(&document)?;
    delete(&app, document, DeletionKind::Purged).await?;
    let bytes_gone = app.blocking(|app| Ok(app.shared.store.scrub()?)).await?;
    Ok(Json(Deletion { document: document.to_string(), bytes_gone }))
}

/// Deletes a document by way of the log, so that everybody who takes part in it hears of it.
pub(super) async fn delete(app: &Arc<Admin>, document: DocumentId, kind: DeletionKind) -> Answer<()> {
    let tombstone = Tombstone { kind, time_seconds: now_seconds(), by: ADMIN.to_owned() };
    let from = app.shared.hub.next_id();
    app.shared.log.delete(from.into(), document, tombstone).await.map_err(|error| match error {
        AppendError::Stopped => Problem::plain(Code::Stopping),
        _ => Problem::new(Code::Store, "the deletion could not be stored: see the relay's log"),
    })
}
