//! Carrying spaces from relay to relay: an export streams out as it is read, an import is taken in as it comes.

use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use futures_util::stream::unfold;
use rejoin::SpaceId;
use rejoin::ledger::{log, spaces};
use rejoin::store::StoreError;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::documents::require_space;
use super::extract::{self, At, space_text};
use super::problem::{Answer, Code, Problem};
use super::{Admin, App};
use crate::backup::{self, Imported, SpaceError, SpaceProgress, WhyRefused};
use crate::limits::{ADMIN_BODY_STALL, ADMIN_CARRY_CHUNK_BYTES, ADMIN_CARRY_CHUNKS};
use crate::socket::Activity;

const BYTES: &str = "application/octet-stream";

/// Writes a space with all its documents and changes, of one moment: for `import` here or on another relay. Who may do what is not
/// in it. An answer that ends early is of no use.
#[utoipa::path(get, path = "/v1/spaces/{space}/export", params(("space" = String, Path)), responses((status = 200, body = String, content_type = "application/octet-stream")))]
pub(super) async fn space_export(State(app): State<App>, At(space): At<String>) -> Answer<Response> {
    let id = extract::space(&space)?;
    app.blocking(move |app| require_space(app, &*app.shared.store.read()?, &id)).await?;
    let (chunks, received) = mpsc::channel(ADMIN_CARRY_CHUNKS);
    tokio::task::spawn_blocking(move || export(&app, &id, &chunks));
    let stream = unfold(received, async |mut received| Some((received.recv().await?, received)));
    let name = format!("attachment; filename=\"space-{}.rejoin\"", space_text(&id));
    Ok(([(CONTENT_TYPE, BYTES.to_owned()), (CONTENT_DISPOSITION, name)], Body::from_stream(stream)).into_response())
}

fn export(app: &Admin, space: &SpaceId, chunks: &mpsc::Sender<io::Result<Bytes>>) {
    let _read = app.shared.metrics.long_read();
    let mut out = BufWriter::with_capacity(ADMIN_CARRY_CHUNK_BYTES, Outgoing { chunks });
    let exported = backup::export_space(&*app.shared.store, space, &mut out, &mut |_| ControlFlow::Continue(()));
    let flushed = out.flush();
    drop(out);
    if let Err(error) = exported.map_err(|error| error.to_string()).and(flushed.map_err(|error| error.to_string())) {
        tracing::warn!(error, "an export of a space ended early");
        // Whoever receives it must not take it for whole.
        let _ = chunks.blocking_send(Err(io::Error::other("the export ended early")));
    }
}

/// Hands on what is written, and waits for who receives it.
struct Outgoing<'c> {
    chunks: &'c mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Outgoing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let some = &bytes[..bytes.len().min(ADMIN_CARRY_CHUNK_BYTES)];
        let sent = self.chunks.blocking_send(Ok(Bytes::copy_from_slice(some)));
        sent.map(|()| some.len()).map_err(|_| ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What an import brought.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImportReport {
    /// The space it was imported into.
    space: String,
    /// How many documents were in it.
    documents: u64,
    /// How many changes.
    changes: u64,
    /// The bytes of those.
    bytes: u64,
    /// How many changes are stored that were not there.
    stored: u64,
    /// How many were there already.
    duplicates: u64,
    /// How many deletions came to be known.
    tombstones: u64,
    /// How many changes, documents and deletions were refused.
    refused: u64,
    /// The first of the documents that they were of.
    refusals: Vec<ImportRefusal>,
}

/// A document of which something was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImportRefusal {
    document: String,
    /// Why.
    reason: String,
}

impl From<Imported> for ImportReport {
    fn from(imported: Imported) -> Self {
        let SpaceProgress { documents, changes, bytes } = imported.done;
        let refusals = imported.refusals.into_iter().map(|refused| ImportRefusal {
            document: refused.document.to_string(),
            reason: match refused.why {
                WhyRefused::Elsewhere => "it is in another space here".to_owned(),
                WhyRefused::Deleted => "it was deleted everywhere".to_owned(),
                WhyRefused::Here => "the file says that it was deleted, and it is here".to_owned(),
                WhyRefused::Rule(rule) => rule,
                WhyRefused::Missing => "a change depends on one that is not there".to_owned(),
            },
        });
        Self {
            space: space_text(&imported.space),
            documents,
            changes,
            bytes,
            stored: imported.stored,
            duplicates: imported.duplicates,
            tombstones: imported.tombstones,
            refused: imported.refused,
            refusals: refusals.collect(),
        }
    }
}

/// Takes in what an export wrote, into this space, which need not be there. Every change is checked as if a client had sent it.
/// What is here already stays; what was imported before an error stays too, and importing again goes on behind it.
#[utoipa::path(post, path = "/v1/spaces/{space}/import", params(("space" = String, Path)), request_body(content = String, content_type = "application/octet-stream"), responses((status = 200, body = ImportReport)))]
pub(super) async fn space_import(
    State(app): State<App>,
    ConnectInfo(activity): ConnectInfo<Activity>,
    At(space): At<String>,
    body: Body,
) -> Answer<Json<ImportReport>> {
    let id = extract::space(&space)?;
    // It takes as long as it takes, as long as something comes.
    activity.be_patient();
    let (chunks, received) = mpsc::channel(ADMIN_CARRY_CHUNKS);
    let importing = tokio::task::spawn_blocking({
        let app = Arc::clone(&app);
        move || {
            let mut input = Incoming { chunks: received, rest: Bytes::new() };
            let store = &*app.shared.store;
            let imported = backup::import_space(store, &mut input, Some(id), &mut |_| ControlFlow::Continue(()));
            // What came before an error stays.
            let told = tell(&app, &id);
            imported.map_err(problem).and_then(|imported| told.map(|()| imported).map_err(Problem::from))
        }
    });
    feed(body, &chunks).await;
    drop(chunks);
    let imported = importing.await.map_err(|_| Problem::plain(Code::Internal))??;
    Ok(Json(imported.into()))
}

/// Tells everybody who takes part in a document of a space, or follows it, that something came.
fn tell(app: &Admin, space: &SpaceId) -> Result<(), StoreError> {
    let (hub, tx) = (&app.shared.hub, app.shared.store.read()?);
    let end = log::end(&*tx, space)?;
    spaces::documents(&*tx, space, None, &mut |document| {
        hub.come_back(&document, Some((*space, end)));
        ControlFlow::Continue(())
    })?;
    // Whoever follows a space in which everything was deleted hears that, too.
    hub.followers().publish_end(space, end);
    Ok(())
}

/// Hands a body on, until it ends or nobody wants it any more.
async fn feed(body: Body, chunks: &mpsc::Sender<io::Result<Bytes>>) {
    let mut body = body.into_data_stream();
    loop {
        let next = match timeout(ADMIN_BODY_STALL, body.next()).await {
            Ok(None) => return,
            Ok(Some(Ok(bytes))) => Ok(bytes),
            Ok(Some(Err(_))) => Err(ErrorKind::UnexpectedEof.into()),
            Err(_) => Err(ErrorKind::TimedOut.into()),
        };
        let is_last = next.is_err();
        if chunks.send(next).await.is_err() || is_last {
            return;
        }
    }
}

/// Reads what comes.
struct Incoming {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Incoming {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.chunks.blocking_recv() {
                Some(next) => self.rest = next?,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(out.len());
        self.rest.copy_to_slice(&mut out[..count]);
        Ok(count)
    }
}

fn problem(error: SpaceError) -> Problem {
    match error {
        SpaceError::Store(error) => error.into(),
        SpaceError::Archive(_) | SpaceError::Foreign => Problem::new(Code::ImportInvalid, error.to_string()),
        _ => Problem::new(Code::Internal, error.to_string()),
    }
}
