//! The methods that a page can ask for, one by one.

use std::future::poll_fn;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use automerge::ChangeHash;
use futures_util::future::{Either, LocalBoxFuture, ready, select};
use rejoin::document::{Cursor, CursorMove, DocumentError, FieldPath, Reader, Span};
use rejoin::ledger::follow::Following;
use rejoin::ledger::requests::{self, RequestId};
use rejoin::repo::{Access, Branch, ChangeOptions, RejectedWrite, SpaceRights, Written};
use rejoin::value::{from_hex, to_hex};
use rejoin::{DocHandle, DocumentId, Edit, Receipt, RepoError, SpaceId};
use serde_json::{Map, Value as Json, json};
use tokio::sync::oneshot;

use crate::edit::{self, Op};
use crate::engine::{Answer, Inner};
use crate::errors::Failure;
use crate::flush::{note_done, open};
use crate::gate::Way;
use crate::patches::convert;
use crate::presence;
use crate::requests::{Args, hash, hashes_to_json};
use crate::session::{MADE_KEPT, Made};
use crate::status;
use crate::tree::{Look, Stop, path_of_fields};
use crate::values::{from_json, scalar_to_json};

/// What a page asks.
pub(crate) struct Request<'a> {
    pub(crate) session: &'a str,
    pub(crate) id: u64,
    pub(crate) method: &'a str,
    pub(crate) args: Args,
    pub(crate) bytes: Option<Vec<u8>>,
}

/// The methods that change something: each is done once for a session and an id.
const ONCE: [&str; 13] = [
    "create",
    "edit",
    "restore",
    "fork",
    "merge",
    "import",
    "delete",
    "deleteEverywhere",
    "follow",
    "retry",
    "dropRejected",
    "forgetBranch",
    "signOut",
];

/// Says whether a method is to be done once for each id.
pub(crate) fn is_once(method: &str) -> bool {
    ONCE.contains(&method)
}

type Calling<'a> = LocalBoxFuture<'a, Result<Answer, Failure>>;

/// Does what a page asks.
pub(crate) fn run<'a>(inner: &'a Rc<Inner>, request: Request<'a>) -> Calling<'a> {
    let Request { session, id, method, args, bytes } = request;
    match method {
        "create" => Box::pin(create(inner, session, id, args)),
        "open" | "wait" | "close" => Box::pin(opening(inner, session, method, args)),
        "edit" => Box::pin(edit(inner, session, id, args)),
        "get" | "json" | "conflicts" | "heads" | "spans" | "marks" | "cursor" | "position" => {
            Box::pin(read(inner, session, method, args))
        }
        "history" | "at" | "diff" | "restore" | "fork" | "merge" => Box::pin(history(inner, method, args)),
        "receipt" | "reached" | "pending" | "synced" | "signOut" => Box::pin(receipts(inner, method, args)),
        "list" | "delete" | "deleteEverywhere" | "spaceList" | "spaceUnfetched" | "spaceRights" | "follow"
        | "following" => Box::pin(listing(inner, method, args)),
        "rejected" | "retry" | "dropRejected" | "branches" | "exportBranch" | "forgetBranch" => {
            Box::pin(rejected(inner, method, args))
        }
        "presenceSet" | "presenceClear" | "presenceWatch" | "presenceUnwatch" => {
            Box::pin(presences(inner, session, method, args))
        }
        "connect" | "disconnect" | "setOffline" | "setToken" | "renewToken" | "status" => {
            Box::pin(connection(inner, method, args))
        }
        "import" | "export" | "quarantined" | "stats" | "verify" => Box::pin(whole(inner, method, args, bytes)),
        _ => Box::pin(ready(unknown(method))),
    }
}

fn unknown(method: &str) -> Result<Answer, Failure> {
    Err(Failure::new("unsupported", format!("failed to read the request: there is no method {method:?}")))
}

const NULL: Result<Answer, Failure> = Ok(Answer::Json(Json::Null));

fn change_to_json(change: Option<ChangeHash>) -> Json {
    json!({ "change": change.map(|change| change.to_string()) })
}

async fn create(inner: &Rc<Inner>, session: &str, id: u64, mut args: Args) -> Result<Answer, Failure> {
    let (document, space, value) = (args.document()?, args.space_or_null()?, args.json());
    let fields = match value {
        Json::Null => Map::new(),
        Json::Object(fields) => fields,
        _ => return Err(Failure::new("bad_value", "a document is a map")),
    };
    let ops: Vec<Json> = if fields.is_empty() {
        // An empty one needs a change too: without any it would be one that is waited for.
        vec![json!(["set", ["empty"], true]), json!(["delete", ["empty"]])]
    } else {
        fields.into_iter().map(|(key, value)| json!(["set", [unescaped(key)], value])).collect()
    };
    let ops = edit::parse(ops)?;
    let mut options = options(args.json())?;
    let (repo, space) = (inner.repo()?, space.unwrap_or(SpaceId::DEFAULT));
    // Asked for again, of another engine: what it was to hold is there.
    let change = if !repo.handle(document).heads().await?.is_empty() {
        repo.create_as(space, document).await?;
        None
    } else {
        options.creates_in = Some(space);
        write(inner, session, id, Writing { document, ops, base: None, options }).await?
    };
    inner.listed.set(true);
    inner.wake.notify_one();
    Ok(change_to_json(change).into())
}

/// Reads a key of a value's map as that of a path, which has no tags.
fn unescaped(key: String) -> String {
    match from_json(json!({ key.clone(): null })) {
        Ok(rejoin::document::Element::Map(fields)) => fields.into_iter().next().map_or(key, |(key, _)| key),
        _ => key,
    }
}

fn options(json: Json) -> Result<ChangeOptions, Failure> {
    let mut options = ChangeOptions::default();
    if let Some(message) = json.get("message").and_then(Json::as_str) {
        options.message = Some(message.to_owned());
    }
    if let Some(time) = json.get("time").and_then(Json::as_f64) {
        // Milliseconds here, seconds in a change.
        let seconds = (time / 1_000.0).floor();
        if !seconds.is_finite() || seconds.abs() > 1e14 {
            return Err(Failure::argument("the time is out of range"));
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
        let seconds = seconds as i64;
        options.time_seconds = Some(seconds);
    }
    Ok(options)
}

async fn opening(inner: &Rc<Inner>, session: &str, method: &str, mut args: Args) -> Result<Answer, Failure> {
    let document = args.document()?;
    match method {
        "open" => {
            if args.bool() {
                inner.repo()?.open_or_fetch(document).await?;
            }
            Ok(open(inner, session, document).await?.unwrap_or(Json::Null).into())
        }
        "wait" => {
            let limit = args.duration()?;
            inner.document(document).await?.wait_for_content(limit).await?;
            NULL
        }
        _ => {
            let mut all = inner.watched.borrow_mut();
            if let Some(watched) = all.get_mut(&document) {
                watched.viewers.remove(session);
                if watched.viewers.is_empty() {
                    all.remove(&document);
                }
            }
            NULL
        }
    }
}

/// What an edit's indices are meant in.
struct Base {
    heads: Vec<ChangeHash>,
    own: Vec<RangeInclusive<u64>>,
}

fn base(json: &Json) -> Result<Option<Base>, Failure> {
    if json.is_null() {
        return Ok(None);
    }
    let list = |name: &str| json.get(name).and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    let heads = list("heads").iter().map(hash).collect::<Result<_, _>>()?;
    let own = list("own").iter().map(|ids| edit_ids(ids).ok_or_else(|| Failure::argument("an edit's id is no number")));
    Ok(Some(Base { heads, own: own.collect::<Result<_, _>>()? }))
}

/// Reads the id of an edit, or the first and the last of a row of them.
fn edit_ids(json: &Json) -> Option<RangeInclusive<u64>> {
    match json.as_array().map(Vec::as_slice) {
        Some([first, last]) => Some(first.as_u64()?..=last.as_u64()?),
        Some(_) => None,
        None => json.as_u64().map(|id| id..=id),
    }
}

/// An edit that was read.
struct Writing {
    document: DocumentId,
    ops: Vec<Op>,
    base: Option<Base>,
    options: ChangeOptions,
}

async fn edit(inner: &Rc<Inner>, session: &str, id: u64, mut args: Args) -> Result<Answer, Failure> {
    let (document, base) = (args.document()?, base(&args.json())?);
    let ops = edit::parse(args.list()?)?;
    let options = options(args.json())?;
    let change = write(inner, session, id, Writing { document, ops, base, options }).await?;
    Ok(change_to_json(change).into())
}

/// Makes an edit in its turn.
async fn write(inner: &Rc<Inner>, session: &str, id: u64, writing: Writing) -> Result<Option<ChangeHash>, Failure> {
    let document = writing.document;
    let made = inner.session(session, |session| session.made.clone());
    made.note(id, None);
    let (mut options, base) = (writing.options, writing.base);
    options.request = request_of(session, id);
    if let Some(base) = &base {
        remember(inner, session, &made, &base.own).await?;
    }
    let gate = inner.gate(document);
    let turn = gate.turn().await;
    let result = async {
        let handle = inner.repo()?.handle(document);
        let (way, plan) = plan(&handle, &gate, writing.ops, inner).await?;
        if gate.must_wait(way) {
            gate.quiet().await;
        }
        let under_way = gate.enter(way);
        let (begins, begun) = oneshot::channel();
        let written = match plan {
            Plan::Fields(edits) => {
                // It is handed in at the first poll.
                drop(begins);
                Either::Left(async move { handle.edit_with(options, edits).await })
            }
            Plan::Document(ops) => {
                let told = made.clone();
                let known = made.clone();
                Either::Right(async move {
                    let edit = move |tx: &mut automerge::transaction::Transaction<'_>| {
                        // Whoever waits for its turn may have gone.
                        let _ = begins.send(());
                        edit::apply(tx, &ops)
                    };
                    let told = move |change| told.note(id, Some(change));
                    let written: Result<((), Written), RepoError> = match base {
                        Some(base) => match known.changes(&base.own) {
                            Some(_) => {
                                let base = move || {
                                    // In this edit's turn, what the edits before it made is known.
                                    let own = known.changes(&base.own).unwrap_or_default();
                                    Ok(base.heads.into_iter().chain(own).collect())
                                };
                                handle.change_at(options, base, edit, told).await
                            }
                            // Of another engine's time. They were durable before they were answered, so they are in.
                            None => handle.change_written(options, edit).await,
                        },
                        None => handle.change_written(options, edit).await,
                    };
                    written.map(|((), written)| written)
                })
            }
        };
        let mut written = pin!(written);
        // The next edit's turn comes before this one is durable: a field write is handed in at the first poll, one of the
        // document when it begins.
        let first = match way {
            Way::Fields => poll_fn(|context| Poll::Ready(written.as_mut().poll(context))).await,
            Way::Document => match select(written.as_mut(), begun).await {
                Either::Left((written, _)) => Poll::Ready(written),
                Either::Right(_) => Poll::Pending,
            },
        };
        drop(turn);
        let written = match first {
            Poll::Ready(written) => written,
            Poll::Pending => written.await,
        };
        drop(under_way);
        match written {
            Ok(written) => Ok(written.change()),
            // Done by an engine before this one.
            Err(RepoError::Repeated { change }) => Ok(change),
            Err(error) => Err(error.into()),
        }
    };
    let result = result.await;
    let change = result.as_ref().ok().copied().flatten();
    made.note(id, change);
    note_done(inner, session, document, id, change.is_some());
    result
}

/// Returns the name under which the store remembers that an edit was done; sessions with other names are not remembered.
fn request_of(session: &str, id: u64) -> Option<RequestId> {
    let session = from_hex(session)?.try_into().ok()?;
    Some(RequestId { session, id })
}

/// Returns the last request that the store may forget: a page may still name later ones as what its view stands on.
pub(crate) fn forgettable(session: &str, acked: u64) -> Option<RequestId> {
    request_of(session, acked.checked_sub(MADE_KEPT)?)
}

/// Looks up what edits made that another engine did.
async fn remember(inner: &Inner, session: &str, made: &Made, ids: &[RangeInclusive<u64>]) -> Result<(), Failure> {
    let unknown = made.unknown(ids).into_iter();
    let unknown: Vec<RequestId> = unknown.filter_map(|id| request_of(session, id)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let repo = inner.repo()?;
    let found = repo.look(move |tx| {
        let found = unknown.into_iter().map(|request| Ok((request.id, requests::done(tx, &request)?)));
        found.collect::<Result<Vec<_>, rejoin::store::StoreError>>()
    });
    for (id, done) in found.await? {
        if let Some(change) = done {
            made.note(id, change);
        }
    }
    Ok(())
}

/// How an edit is made.
enum Plan {
    Fields(Vec<Edit>),
    Document(Vec<Op>),
}

/// Finds out which way an edit goes. For whoever has the turn.
async fn plan(
    handle: &DocHandle,
    gate: &crate::gate::Gate,
    ops: Vec<Op>,
    inner: &Inner,
) -> Result<(Way, Plan), Failure> {
    if edit::sets_string(&ops) {
        // An edit under way may be making the text.
        if gate.must_wait(Way::Fields) {
            gate.quiet().await;
        }
        let (document, asked) = (handle.id(), ops.clone());
        if inner.repo()?.look(move |tx| edit::meets_text(tx, &document, &asked)).await? {
            return Ok((Way::Document, Plan::Document(ops)));
        }
    }
    Ok(match edit::as_fields(ops) {
        Ok(edits) => (Way::Fields, Plan::Fields(edits)),
        Err(ops) => (Way::Document, Plan::Document(ops)),
    })
}

async fn read(inner: &Rc<Inner>, session: &str, method: &str, mut args: Args) -> Result<Answer, Failure> {
    let document = args.document()?;
    let handle = inner.document(document).await?;
    if method == "heads" {
        return Ok(hashes_to_json(&handle.heads().await?).into());
    }
    let path = if method == "json" { FieldPath::root() } else { args.path()? };
    Ok(match method {
        "get" | "json" => get(inner, &handle, path).await?.unwrap_or(Json::Null),
        "conflicts" => {
            let view = handle.view(move |automerge| {
                let found = Look { automerge, heads: None }.all(path.steps())?;
                let values = found.into_iter().map(|(id, value)| json!({ "id": id.to_string(), "value": value }));
                Ok::<_, DocumentError>(values.collect::<Json>())
            });
            view.await??
        }
        "spans" => handle.spans(path).await?.map_or(Json::Null, |spans| spans.iter().map(span_to_json).collect()),
        "marks" => handle.marks(path).await?.map_or(Json::Null, |marks| {
            let marks = marks.iter().map(|mark| {
                let (start, end) = (mark.range.start, mark.range.end);
                json!({ "start": start, "end": end, "name": mark.name, "value": scalar_to_json(&mark.value) })
            });
            marks.collect()
        }),
        "cursor" => {
            let (index, base) = (args.index()?, base(&args.json())?);
            let moving = match args.string_or_null()?.as_deref() {
                Some("before") => CursorMove::Before,
                _ => CursorMove::After,
            };
            let at = match base {
                Some(base) => {
                    let gate = inner.gate(document);
                    let _turn = gate.turn().await;
                    gate.quiet().await;
                    let own = inner.session(session, |session| session.made.changes(&base.own));
                    own.map(|own| base.heads.into_iter().chain(own).collect::<Vec<_>>())
                }
                None => None,
            };
            let view = handle.view(move |automerge| {
                let reader = match &at {
                    Some(heads) => Reader::at(automerge, heads)?,
                    None => Reader::now(automerge),
                };
                let found = reader.cursor(&path, index, moving)?;
                found.ok_or(DocumentError::Path { path, wanted: "text or list" })
            });
            Json::from(view.await??.to_string())
        }
        _ => {
            let cursor: Cursor = args.string()?.parse().map_err(|error| Failure::argument(&format!("{error}")))?;
            Json::from(handle.cursor_position(path, &cursor).await?)
        }
    }
    .into())
}

/// Returns what stands at a path; loads the document only if a list or text is in it or on the way.
async fn get(inner: &Inner, handle: &DocHandle, path: FieldPath) -> Result<Option<Json>, Failure> {
    if path.is_keys() {
        let (document, asked) = (handle.id(), path.clone());
        let repo = inner.repo()?;
        let read = repo.look(move |tx| match path_of_fields(tx, &document, &asked) {
            Ok(found) => Ok(Some(found)),
            Err(Stop::Store(error)) => Err(error),
            Err(Stop::Sequence | Stop::TooDeep) => Ok(None),
        });
        if let Some(found) = read.await? {
            return Ok(found);
        }
    }
    let view = handle.view(move |automerge| Look { automerge, heads: None }.all(path.steps()));
    Ok(view.await??.into_iter().next().map(|(_, value)| value))
}

fn span_to_json(span: &Span) -> Json {
    match span {
        Span::Text { text, marks } => {
            let marks: Map<String, Json> =
                marks.iter().map(|(name, value)| (name.clone(), scalar_to_json(value))).collect();
            json!({ "text": text, "marks": marks })
        }
        Span::Block(fields) => json!({ "block": fields }),
        _ => Json::Null,
    }
}

async fn history(inner: &Rc<Inner>, method: &str, mut args: Args) -> Result<Answer, Failure> {
    let document = args.document()?;
    let handle = inner.document(document).await?;
    Ok(match method {
        "history" => {
            let entries = handle.history().await?;
            let entries = entries.iter().map(|entry| {
                json!({
                    "hash": entry.hash.to_string(),
                    "deps": hashes_to_json(&entry.deps),
                    "actor": entry.actor.to_string(),
                    "author": entry.author.as_deref().map(to_hex),
                    "seq": entry.seq,
                    "time": entry.time_seconds.saturating_mul(1_000),
                    "message": entry.message,
                    "ops": entry.op_count,
                })
            });
            entries.collect::<Json>()
        }
        "at" => {
            let (heads, path) = (args.hashes()?, args.json());
            let path = if path.is_null() { FieldPath::root() } else { Args::of(vec![path]).path()? };
            handle.at(&heads).await?;
            let view = handle.view(move |automerge| {
                Reader::at(automerge, &heads)?;
                Look { automerge, heads: Some(&heads) }.all(path.steps())
            });
            view.await??.into_iter().next().map_or(Json::Null, |(_, value)| value)
        }
        "diff" => {
            let (from, to) = (args.hashes()?, args.hashes()?);
            let view = handle.view(move |automerge| {
                Reader::at(automerge, &from)?;
                Reader::at(automerge, &to)?;
                convert(&Look { automerge, heads: Some(&to) }, automerge.diff(&from, &to))
            });
            view.await??.into()
        }
        "restore" => {
            let heads = args.hashes()?;
            let options = options(args.json())?;
            let gate = inner.gate(document);
            let _turn = gate.turn().await;
            gate.quiet().await;
            change_to_json(handle.restore_with(options, &heads).await?.change())
        }
        "fork" => {
            let (new, heads) = (args.document()?, args.hashes_or_null()?);
            let heads = match heads {
                Some(heads) => heads,
                None => handle.heads().await?,
            };
            handle.fork_as(new, &heads).await?;
            inner.listed.set(true);
            inner.wake.notify_one();
            Json::Null
        }
        _ => {
            let other = inner.document(args.document()?).await?;
            Json::from(handle.merge_from(&other).await?)
        }
    }
    .into())
}

fn stage_to_json(stage: Receipt) -> Json {
    Json::from(match stage {
        Receipt::Local => "local",
        Receipt::Relayed => "relayed",
        Receipt::Seen => "seen",
    })
}

async fn receipts(inner: &Rc<Inner>, method: &str, mut args: Args) -> Result<Answer, Failure> {
    let repo = inner.repo()?;
    Ok(match method {
        "receipt" => {
            let (document, change) = (args.document()?, args.hash()?);
            match repo.written(document, change).stage().await {
                Ok(stage) => stage_to_json(stage),
                Err(RepoError::Gone) => Json::Null,
                Err(error) => return Err(error.into()),
            }
        }
        "reached" => {
            let (document, change) = (args.document()?, args.hash()?);
            let stage = match args.string()?.as_str() {
                "local" => Receipt::Local,
                "relayed" => Receipt::Relayed,
                "seen" => Receipt::Seen,
                _ => return Err(Failure::argument("a stage is one of local, relayed and seen")),
            };
            repo.written(document, change).wait(stage, args.duration()?).await?;
            Json::Null
        }
        "pending" => match (args.document_or_null()?, args.space_or_null()?) {
            (Some(document), _) => Json::from(repo.pending_of(document)),
            (None, Some(space)) => Json::from(repo.pending_in(space)),
            (None, None) => Json::from(repo.pending().await?),
        },
        "synced" => {
            repo.wait_synced(args.duration()?).await?;
            Json::Null
        }
        _ => {
            // What is refused from now on stays refused: the page is to delete the store.
            let signed_out = repo.sign_out(args.duration()?).await?;
            inner.status.borrow_mut().keep(signed_out);
            Json::Null
        }
    }
    .into())
}

async fn listing(inner: &Rc<Inner>, method: &str, mut args: Args) -> Result<Answer, Failure> {
    let repo = inner.repo()?;
    let ids = |ids: Vec<DocumentId>| ids.iter().map(|id| Json::from(id.to_string())).collect::<Json>();
    Ok(match method {
        "list" => ids(repo.list().await?),
        "delete" => {
            repo.delete(args.document()?).await?;
            Json::Null
        }
        "deleteEverywhere" => {
            repo.delete_everywhere(args.document()?).await?;
            Json::Null
        }
        "spaceList" => ids(repo.space(args.space()?).list().await?),
        "spaceUnfetched" => ids(repo.space(args.space()?).unfetched().await?),
        "spaceRights" => Json::from(match repo.space(args.space()?).rights() {
            SpaceRights::Unknown => "unknown",
            SpaceRights::Denied => "denied",
            SpaceRights::Given(Access::Read) => "read",
            SpaceRights::Given(Access::Write) => "write",
            SpaceRights::Given(Access::Admin) => "admin",
        }),
        "follow" => {
            let space = repo.space(args.space()?);
            match args.string_or_null()?.as_deref() {
                Some("everything") => space.follow().await?,
                Some("listing") => space.follow_listing().await?,
                None => space.unfollow().await?,
                Some(_) => return Err(Failure::argument("a space is followed as everything, listing or null")),
            }
            Json::Null
        }
        _ => match repo.space(args.space()?).following().await? {
            Some(Following::Everything) => Json::from("everything"),
            Some(Following::Listing) => Json::from("listing"),
            None => Json::Null,
        },
    }
    .into())
}

fn branch_to_json(branch: &Branch) -> Json {
    json!({
        "doc": branch.document.to_string(),
        "number": branch.number,
        "change": branch.change.to_string(),
        "code": branch.code.name(),
        "text": branch.text,
        "time": branch.time_seconds.saturating_mul(1_000),
        "changes": branch.changes,
    })
}

async fn rejected(inner: &Rc<Inner>, method: &str, mut args: Args) -> Result<Answer, Failure> {
    let repo = inner.repo()?;
    if method == "rejected" {
        let all = repo.rejected().await?;
        let all = all.iter().map(|write| {
            json!({
                "doc": write.document.to_string(),
                "change": write.change.to_string(),
                "code": write.code.name(),
                "text": write.text,
                "time": write.time_seconds.saturating_mul(1_000),
                "blocked": write.blocked,
            })
        });
        return Ok(all.collect::<Json>().into());
    }
    let document = args.document()?;
    let gone = || Failure::from(RepoError::Gone);
    if matches!(method, "retry" | "dropRejected") {
        let change = args.hash()?;
        let is_it = |write: &RejectedWrite| write.document == document && write.change == change;
        let write = repo.rejected().await?.into_iter().find(is_it).ok_or_else(gone)?;
        if method == "retry" {
            return Ok(Json::from(repo.retry(&write).await?).into());
        }
        let gate = inner.gate(document);
        let _turn = gate.turn().await;
        gate.quiet().await;
        return Ok(branch_to_json(&repo.drop_rejected(&write).await?).into());
    }
    let branches = repo.branches(document).await?;
    if method == "branches" {
        return Ok(branches.iter().map(branch_to_json).collect::<Json>().into());
    }
    let number = args.number()?;
    let branch = branches.into_iter().find(|branch| branch.number == number).ok_or_else(gone)?;
    if method == "exportBranch" {
        return Ok(Answer::Bytes(repo.export_branch(&branch).await?));
    }
    Ok(Json::from(repo.forget_branch(&branch).await?).into())
}

async fn presences(inner: &Rc<Inner>, session: &str, method: &str, mut args: Args) -> Result<Answer, Failure> {
    let document = args.document()?;
    match method {
        "presenceSet" => {
            let (key, value, ttl) = (args.string()?, args.json(), args.json());
            let ttl = if ttl.is_null() { None } else { Some(Args::of(vec![ttl]).duration()?) };
            let handle = presence::awaited(inner, document).await?;
            inner
                .session(session, |state| {
                    let presence = state.presences.entry(document).or_insert_with(|| handle.presence());
                    presence.set(&presence::key_of(session, &key), value, ttl)
                })
                .map_err(RepoError::from)?;
        }
        "presenceClear" => {
            let key = args.string()?;
            inner.session(session, |state| {
                if let Some(presence) = state.presences.get(&document) {
                    presence.clear(&presence::key_of(session, &key));
                }
            });
        }
        "presenceWatch" => return Ok(presence::watch(inner, session, document).await?.into()),
        _ => {
            inner.presences.borrow_mut().retain(|watched, watching| *watched != document || watching.leave(session));
        }
    }
    NULL
}

async fn connection(inner: &Rc<Inner>, method: &str, mut args: Args) -> Result<Answer, Failure> {
    match method {
        "connect" => {
            let (url, token, protocol) = (args.string()?, args.string_or_null()?, args.string_or_null()?);
            status::connect(inner, url, token, protocol).await?;
        }
        "disconnect" => status::disconnect(inner).await,
        "setOffline" => {
            inner.repo()?.set_offline(args.bool());
            status::tell(inner).await;
        }
        "setToken" => status::set_token(inner, args.string_or_null()?).await?,
        "renewToken" => status::renew_token(inner, args.string()?),
        _ => return Ok(status::status(inner).await?.into()),
    }
    NULL
}

async fn whole(inner: &Rc<Inner>, method: &str, mut args: Args, bytes: Option<Vec<u8>>) -> Result<Answer, Failure> {
    let repo = inner.repo()?;
    match method {
        "import" => {
            let document = args.document()?;
            let bytes = bytes.ok_or_else(|| Failure::argument("there are no bytes to import"))?;
            match args.space_or_null()? {
                Some(space) => repo.space(space).import_as(document, bytes).await?,
                None => repo.import_as(document, bytes).await?,
            };
            inner.listed.set(true);
            inner.wake.notify_one();
            NULL
        }
        "export" => Ok(Answer::Bytes(inner.document(args.document()?).await?.export().await?)),
        "quarantined" => {
            let left_out = inner.document(args.document()?).await?.quarantined().await?;
            let left_out = left_out.iter().map(|one| json!({ "change": one.hash.to_string(), "why": one.why }));
            Ok(left_out.collect::<Json>().into())
        }
        "stats" => Ok(repo.stats().await?.to_json().into()),
        _ => {
            let report = repo.verify().await?;
            let findings = report.findings.iter().map(|finding| Json::from(finding.to_string()));
            Ok(json!({
                "documents": report.documents,
                "changes": report.changes,
                "bytes": report.bytes,
                "found": report.found,
                "findings": findings.collect::<Json>(),
            })
            .into())
        }
    }
}
