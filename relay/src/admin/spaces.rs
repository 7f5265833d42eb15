//! Spaces: naming them, bounding them, archiving them, deleting them for good, and moving them from relay to relay.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use rejoin::deletion::DeletionKind;
use rejoin::ledger::{self, spaces};
use rejoin::store::{ReadTx, StoreError, Table};
use rejoin::{DocumentId, SpaceId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::runtime::Handle;
use utoipa::{IntoParams, ToSchema};

use super::documents::{self, require_space};
use super::extract::{self, Asked, At, Body, PageOf, maybe, page, space_text};
use super::jobs::{JobKind, JobProgress, Running};
use super::problem::{Answer, Code, Problem};
use super::{Admin, App, about, operate, text};
use crate::auth::SpaceRecord;
use crate::clock::now_seconds;

/// A space.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Space {
    /// `default` for the default one.
    id: String,
    /// What people call it.
    #[schema(required = true)]
    name: Option<String>,
    /// Whether nobody may write to it any more.
    archived: bool,
    /// When it was written down, in seconds since 1970; null if it only came to be because somebody wrote to it.
    #[schema(required = true)]
    created_seconds: Option<u64>,
    /// How many bytes of changes it may have; null: as many as the configuration says.
    #[schema(required = true)]
    bytes_max: Option<u64>,
    /// The last position of its log.
    position: u64,
    /// How much is in it, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<SpaceUsage>,
}

/// How much is in a space.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct SpaceUsage {
    /// How many documents.
    documents: u64,
    /// How many changes they have together.
    changes: u64,
    /// The bytes of those, uncompressed.
    bytes: u64,
}

page!(SpacePage, Space, String, "spaces");

/// Makes what is shown of a space.
fn shown(tx: &dyn ReadTx, id: SpaceId, record: Option<SpaceRecord>) -> Result<Space, StoreError> {
    let position = ledger::log::end(tx, &id)?;
    let created_seconds = record.as_ref().map(|record| record.created_seconds);
    let record = record.unwrap_or(SpaceRecord { id, name: None, archived: false, created_seconds: 0, bytes_max: None });
    let SpaceRecord { name, archived, bytes_max, .. } = record;
    Ok(Space { id: space_text(&id), name, archived, created_seconds, bytes_max, position, usage: None })
}

fn find(app: &Admin, id: &SpaceId) -> Answer<Space> {
    let tx = app.shared.store.read()?;
    require_space(app, &*tx, id)?;
    Ok(shown(&*tx, *id, app.shared.directory.space(id))?)
}

/// Returns the spaces behind one that have documents, at most `limit`. Cost: one lookup each.
fn with_documents(tx: &dyn ReadTx, after: Option<&SpaceId>, limit: usize) -> Result<Vec<SpaceId>, StoreError> {
    let mut found: Vec<SpaceId> = Vec::new();
    let mut start = after.map_or_else(Vec::new, behind);
    while found.len() < limit {
        let mut next = None;
        tx.scan(Table::Member, &start..&[u8::MAX; 40], &mut |key, _| {
            next = key.first_chunk::<16>().map(|id| SpaceId::from_bytes(*id));
            ControlFlow::Break(())
        })?;
        let Some(space) = next else { break };
        found.push(space);
        start = behind(&space);
    }
    Ok(found)
}

/// Returns a key behind all that begin with a space.
fn behind(space: &SpaceId) -> Vec<u8> {
    [&space.as_bytes()[..], &[u8::MAX; 17]].concat()
}

/// Lists spaces, by id: those that are written down, and those that have documents.
#[utoipa::path(get, path = "/v1/spaces", params(PageOf), responses((status = 200, body = SpacePage)))]
pub(super) async fn space_list(State(app): State<App>, Asked(page): Asked<PageOf>) -> Answer<Json<SpacePage>> {
    let (limit, after) = (page.limit()?, extract::after(page.after.as_deref(), extract::space)?);
    app.blocking(move |app| {
        let tx = app.shared.store.read()?;
        let mut ids: BTreeSet<SpaceId> = with_documents(&*tx, after.as_ref(), limit)?.into_iter().collect();
        ids.extend(app.shared.directory.spaces(after.as_ref(), limit).into_iter().map(|record| record.id));
        if after.is_none() {
            ids.insert(SpaceId::DEFAULT);
        }
        let ids: Vec<_> = ids.into_iter().take(limit).collect();
        let next = (ids.len() == limit).then(|| ids.last().map(space_text)).flatten();
        let items = ids.into_iter().map(|id| shown(&*tx, id, app.shared.directory.space(&id)));
        Ok(Json(SpacePage { items: items.collect::<Result<_, _>>()?, next }))
    })
    .await
}

/// A space that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSpace {
    /// Its id: a UUID, or as ids are shown. Default: a random one.
    id: Option<String>,
    /// What people call it.
    name: Option<String>,
    /// How many bytes of changes it may have. Default: as many as the configuration says.
    bytes_max: Option<u64>,
}

/// Writes a space down. Devices that were granted it may use it at once.
#[utoipa::path(post, path = "/v1/spaces", request_body = NewSpace, responses((status = 201, body = Space)))]
pub(super) async fn space_create(State(app): State<App>, Body(new): Body<NewSpace>) -> Answer<Response> {
    let id = match &new.id {
        Some(id) => extract::space(id).map_err(|problem| Problem::new(Code::BodyInvalid, problem.detail))?,
        None => {
            let mut random = [0; 16];
            getrandom::fill(&mut random).map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
            SpaceId::from_random_bytes(random)
        }
    };
    let name = new.name.map(|name| text("name", name)).transpose()?;
    let record = SpaceRecord { id, name, archived: false, created_seconds: now_seconds(), bytes_max: new.bytes_max };
    let space = app
        .blocking(move |app| {
            if app.shared.directory.space(&id).is_some() {
                return Err(Problem::plain(Code::SpaceExists));
            }
            let record = app.shared.directory.put_space(record)?;
            Ok(shown(&*app.shared.store.read()?, id, Some(record))?)
        })
        .await?;
    Ok(about(format!("space/{}", space.id), (StatusCode::CREATED, Json(space)).into_response()))
}

/// What is to be told of a space.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Whether to count what is in it, which looks at each of its documents.
    usage: Option<bool>,
}

/// Returns one space.
#[utoipa::path(get, path = "/v1/spaces/{space}", params(("space" = String, Path), Wanted), responses((status = 200, body = Space)))]
pub(super) async fn space_get(
    State(app): State<App>,
    At(space): At<String>,
    Asked(wanted): Asked<Wanted>,
) -> Answer<Json<Space>> {
    let id = extract::space(&space)?;
    app.blocking(move |app| {
        let mut space = find(app, &id)?;
        if wanted.usage == Some(true) {
            space.usage = Some(usage(&*app.shared.store.read()?, &id)?);
        }
        Ok(Json(space))
    })
    .await
}

fn usage(tx: &dyn ReadTx, space: &SpaceId) -> Result<SpaceUsage, StoreError> {
    let (mut usage, mut failed) = (SpaceUsage::default(), None);
    spaces::documents(tx, space, None, &mut |document| match ledger::state(tx, &document) {
        Ok(state) => {
            let state = state.unwrap_or_default();
            usage.documents += 1;
            usage.changes += state.count;
            usage.bytes += state.bytes;
            ControlFlow::Continue(())
        }
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(usage), Err)
}

/// What is to change. What is absent stays; null takes away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SpacePatch {
    /// What people call it.
    #[serde(default, deserialize_with = "maybe")]
    #[schema(value_type = Option<String>)]
    name: Option<Option<String>>,
    /// Whether nobody may write to it any more.
    #[serde(default)]
    archived: Option<bool>,
    /// How many bytes of changes it may have.
    #[serde(default, deserialize_with = "maybe")]
    #[schema(value_type = Option<u64>)]
    bytes_max: Option<Option<u64>>,
}

/// Changes what is known of a space, and writes it down if it was not.
#[utoipa::path(patch, path = "/v1/spaces/{space}", params(("space" = String, Path)), request_body = SpacePatch, responses((status = 200, body = Space)))]
pub(super) async fn space_patch(
    State(app): State<App>,
    At(space): At<String>,
    Body(patch): Body<SpacePatch>,
) -> Answer<Json<Space>> {
    let id = extract::space(&space)?;
    let name = match patch.name {
        Some(Some(name)) => Some(Some(text("name", name)?)),
        other => other,
    };
    change(&app, id, move |record| {
        record.name = name.unwrap_or(record.name.take());
        record.archived = patch.archived.unwrap_or(record.archived);
        record.bytes_max = patch.bytes_max.unwrap_or(record.bytes_max);
    })
    .await
}

/// Archives a space: it may be read, and nobody writes to it any more. `PATCH` with `archived: false` takes it back.
#[utoipa::path(post, path = "/v1/spaces/{space}/archive", params(("space" = String, Path)), responses((status = 200, body = Space)))]
pub(super) async fn space_archive(State(app): State<App>, At(space): At<String>) -> Answer<Json<Space>> {
    change(&app, extract::space(&space)?, |record| record.archived = true).await
}

async fn change(
    app: &Arc<Admin>,
    id: SpaceId,
    change: impl FnOnce(&mut SpaceRecord) + Send + 'static,
) -> Answer<Json<Space>> {
    app.blocking(move |app| {
        find(app, &id)?;
        let fresh = SpaceRecord { id, name: None, archived: false, created_seconds: now_seconds(), bytes_max: None };
        let mut record = app.shared.directory.space(&id).unwrap_or(fresh);
        change(&mut record);
        let record = app.shared.directory.put_space(record)?;
        Ok(Json(shown(&*app.shared.store.read()?, id, Some(record))?))
    })
    .await
}

/// Deletes an archived space for good: purges each of its documents, here and on the devices that hear of it, and takes back
/// what was granted for it. A job.
#[utoipa::path(delete, path = "/v1/spaces/{space}", params(("space" = String, Path)), responses((status = 202, body = super::jobs::Job)))]
pub(super) async fn space_delete(State(app): State<App>, At(space): At<String>) -> Answer<Response> {
    let id = extract::space(&space)?;
    if id == SpaceId::DEFAULT {
        return Err(Problem::plain(Code::SpaceDefault));
    }
    let found = app.blocking(move |app| find(app, &id)).await?;
    if !found.archived {
        return Err(Problem::plain(Code::SpaceNotArchived));
    }
    let runtime = Handle::current();
    operate::start(&app, JobKind::SpaceDelete, move |app, running| {
        let documents = runtime.block_on(delete_documents(app, &id, running))?;
        app.shared.directory.remove_space(&id)?;
        let bytes_gone = app.shared.store.scrub()?;
        Ok(json!({ "space": space_text(&id), "documents": documents, "bytes_gone": bytes_gone }))
    })
}

/// How many documents are looked up at once while a space is deleted.
const DOCUMENTS_AT_ONCE: usize = 256;

async fn delete_documents(app: &Arc<Admin>, space: &SpaceId, running: &Running) -> Answer<u64> {
    let mut progress = JobProgress::default();
    loop {
        // Those that were deleted are not listed any more.
        let some = first_documents(app, space)?;
        if some.is_empty() {
            return Ok(progress.documents);
        }
        for document in some {
            documents::delete(app, document, DeletionKind::Purged).await?;
            progress.documents += 1;
            running.progress(progress);
        }
    }
}

fn first_documents(app: &Admin, space: &SpaceId) -> Result<Vec<DocumentId>, StoreError> {
    let mut some = Vec::new();
    spaces::documents(&*app.shared.store.read()?, space, None, &mut |document| {
        some.push(document);
        if some.len() < DOCUMENTS_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(some)
}
