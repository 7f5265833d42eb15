//! From arguments to what is asked of the API.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::args::{
    AuditList, AuditVerb, BackupVerb, ConfigVerb, ConnectionVerb, DocumentVerb, GrantVerb, JobVerb, Level, List,
    LogVerb, Noun, PrincipalVerb, SpaceVerb, StatsVerb, TokenVerb, VerifyVerb,
};
use super::show::Column;
use crate::clock::now_seconds;

/// What is asked, and how the answer is shown.
#[derive(Debug)]
pub(super) struct Call {
    /// What is being done, after "failed to".
    pub(super) what: &'static str,
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Body,
    pub(super) show: Show,
    /// Of a list: the most items over all its pages.
    pub(super) limit: usize,
    /// Of a job: whether to wait for its end.
    pub(super) waits: bool,
}

/// What is sent.
#[derive(Debug)]
pub(super) enum Body {
    None,
    Json(Json),
    File(File),
}

/// How an answer is shown.
#[derive(Debug)]
pub(super) enum Show {
    /// A list, as a table.
    Table(&'static [Column]),
    /// One thing, a line for each of its parts.
    Record,
    /// What has a secret in it, which is shown alone on its line.
    Secret,
    /// A job.
    Job,
    /// What is written into a file.
    Download(PathBuf),
}

impl Call {
    fn new(what: &'static str, method: &'static str, path: String) -> Self {
        let (query, show) = (Vec::new(), Show::Record);
        Self { what, method, path, query, body: Body::None, show, limit: usize::MAX, waits: true }
    }

    fn get(what: &'static str, path: String) -> Self {
        Self::new(what, "GET", path)
    }

    fn with(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    fn body(mut self, body: Json) -> Self {
        self.body = Body::Json(body);
        self
    }

    fn show(mut self, show: Show) -> Self {
        self.show = show;
        self
    }

    fn job(mut self, no_wait: bool) -> Self {
        (self.show, self.waits) = (Show::Job, !no_wait);
        self
    }

    fn list(mut self, list: &List, columns: &'static [Column]) -> Self {
        self.limit = list.limit;
        self.show(Show::Table(columns)).with("after", list.after.as_ref())
    }
}

const SPACES: &[Column] = &[
    Column::text("id", "ID"),
    Column::text("name", "NAME"),
    Column::text("archived", "ARCHIVED"),
    Column::text("position", "POSITION"),
    Column::bytes("bytes_max", "BYTES MAX"),
    Column::time("created_seconds", "CREATED"),
];
const PRINCIPALS: &[Column] = &[
    Column::text("id", "ID"),
    Column::text("label", "LABEL"),
    Column::text("disabled", "DISABLED"),
    Column::time("created_seconds", "CREATED"),
];
const TOKENS: &[Column] = &[
    Column::text("id", "ID"),
    Column::text("kind", "KIND"),
    Column::text("principal", "PRINCIPAL"),
    Column::text("label", "LABEL"),
    Column::text("revoked", "REVOKED"),
    Column::time("expires_seconds", "EXPIRES"),
    Column::time("created_seconds", "CREATED"),
];
const GRANTS: &[Column] = &[
    Column::text("principal", "PRINCIPAL"),
    Column::text("target", "TARGET"),
    Column::text("access", "ACCESS"),
    Column::time("until_seconds", "UNTIL"),
];
const DOCUMENTS: &[Column] = &[
    Column::text("id", "ID"),
    Column::text("changes", "CHANGES"),
    Column::bytes("bytes", "BYTES"),
    Column::count("heads", "HEADS"),
    Column::time("quarantine/since_seconds", "QUARANTINED"),
];
const QUARANTINE: &[Column] =
    &[Column::text("document", "DOCUMENT"), Column::time("since_seconds", "SINCE"), Column::text("reason", "REASON")];
const CONNECTIONS: &[Column] = &[
    Column::text("number", "NUMBER"),
    Column::text("principal", "PRINCIPAL"),
    Column::text("address", "ADDRESS"),
    Column::text("protocol", "PROTOCOL"),
    Column::text("peer", "PEER"),
    Column::bytes("bytes_in", "IN"),
    Column::bytes("bytes_out", "OUT"),
    Column::text("subscriptions", "SUBSCRIPTIONS"),
    Column::time("since_seconds", "SINCE"),
];
const AUDIT: &[Column] = &[
    Column::text("number", "NUMBER"),
    Column::time("time_seconds", "TIME"),
    Column::text("who", "WHO"),
    Column::text("action", "ACTION"),
    Column::text("target", "TARGET"),
    Column::text("outcome", "OUTCOME"),
    Column::text("count", "COUNT"),
    Column::text("address", "ADDRESS"),
];
const LOG: &[Column] = &[
    Column::text("position", "POSITION"),
    Column::text("document", "DOCUMENT"),
    Column::text("what", "WHAT"),
    Column::text("hash", "HASH"),
    Column::text("actor", "ACTOR"),
    Column::text("seq", "SEQ"),
    Column::bytes("bytes", "BYTES"),
];
const JOBS: &[Column] = &[
    Column::text("id", "ID"),
    Column::text("kind", "KIND"),
    Column::text("state", "STATE"),
    Column::text("progress/documents", "DOCUMENTS"),
    Column::time("started_seconds", "STARTED"),
    Column::time("ended_seconds", "ENDED"),
];

/// Says what is asked of the API.
pub(super) fn of(noun: &Noun) -> Result<Call, String> {
    match noun {
        Noun::Space(verb) => space(verb),
        Noun::Principal(verb) => Ok(principal(verb)),
        Noun::Token(verb) => token(verb),
        Noun::Grant(verb) => Ok(grant(verb)),
        Noun::Document(verb) => document(verb),
        Noun::Connection(verb) => Ok(connection(verb)),
        Noun::Audit(AuditVerb::List(wanted)) => Ok(audit(wanted)),
        Noun::Log(LogVerb::Tail { space, after, limit }) => {
            let last = after.is_none().then_some(*limit);
            let call = Call::get("read the log", path(&["v1", "spaces", space, "log"])).show(Show::Table(LOG));
            Ok(Call { limit: *limit, ..call.with("after", *after).with("last", last) })
        }
        Noun::Config(ConfigVerb::Show) => Ok(Call::get("read the configuration", path(&["v1", "config"]))),
        Noun::Config(ConfigVerb::Reload) => {
            Ok(Call::new("read the configuration again", "POST", path(&["v1", "reload"])))
        }
        Noun::Stats(StatsVerb::Show) => Ok(Call::get("read statistics", path(&["v1", "stats"]))),
        Noun::Stats(StatsVerb::Count { no_wait }) => {
            Ok(Call::new("count what is in the store", "POST", path(&["v1", "stats"])).job(*no_wait))
        }
        Noun::Backup(BackupVerb::Start { to, since, no_wait }) => {
            let call = Call::new("back the store up", "POST", path(&["v1", "backup"]));
            Ok(call.body(json!({ "to": to, "since": since })).job(*no_wait))
        }
        Noun::Verify(VerifyVerb::Start { no_wait }) => {
            Ok(Call::new("check the store", "POST", path(&["v1", "verify"])).job(*no_wait))
        }
        Noun::Job(JobVerb::List(list)) => Ok(Call::get("list jobs", path(&["v1", "jobs"])).list(list, JOBS)),
        Noun::Job(JobVerb::Show { job }) => Ok(Call::get("show a job", path(&["v1", "jobs", &job.to_string()]))),
    }
}

fn space(verb: &SpaceVerb) -> Result<Call, String> {
    let at = |space: &str| path(&["v1", "spaces", space]);
    let patch = |what, space: &str, body| Call::new(what, "PATCH", at(space)).body(body);
    Ok(match verb {
        SpaceVerb::List(list) => Call::get("list spaces", path(&["v1", "spaces"])).list(list, SPACES),
        SpaceVerb::Create { id, name, bytes_max } => {
            let body = object([("id", json!(id)), ("name", json!(name)), ("bytes_max", json!(bytes_max))]);
            Call::new("create a space", "POST", path(&["v1", "spaces"])).body(body)
        }
        SpaceVerb::Show { space, usage } => Call::get("show a space", at(space)).with("usage", usage.then_some(true)),
        SpaceVerb::Set { space, name, bytes_max } => {
            let mut body = Map::new();
            body.extend(name.as_ref().map(|name| ("name".to_owned(), unless(name, String::is_empty))));
            body.extend(bytes_max.as_ref().map(|max| ("bytes_max".to_owned(), unless(max, |max| *max == 0))));
            patch("change a space", space, Json::Object(body))
        }
        SpaceVerb::Archive { space } => Call::new("archive a space", "POST", path(&["v1", "spaces", space, "archive"])),
        SpaceVerb::Unarchive { space } => patch("unarchive a space", space, json!({ "archived": false })),
        SpaceVerb::Delete { space, yes, no_wait } => {
            meant(*yes, "delete the space with all its documents")?;
            Call::new("delete a space", "DELETE", at(space)).job(*no_wait)
        }
        SpaceVerb::Export { space, to } => {
            let call = Call::get("export a space", path(&["v1", "spaces", space, "export"]));
            call.show(Show::Download(to.clone()))
        }
        SpaceVerb::Import { space, from } => {
            let file = File::open(from).map_err(|error| format!("open {}: {error}", from.display()))?;
            let call = Call::new("import a space", "POST", path(&["v1", "spaces", space, "import"]));
            Call { body: Body::File(file), ..call }
        }
    })
}

fn principal(verb: &PrincipalVerb) -> Call {
    let at = |principal: &str| path(&["v1", "principals", principal]);
    let patch = |what, principal: &str, body| Call::new(what, "PATCH", at(principal)).body(body);
    match verb {
        PrincipalVerb::List(list) => Call::get("list principals", path(&["v1", "principals"])).list(list, PRINCIPALS),
        PrincipalVerb::Create { principal, label } => {
            let body = object([("id", json!(principal)), ("label", json!(label))]);
            Call::new("create a principal", "POST", path(&["v1", "principals"])).body(body)
        }
        PrincipalVerb::Show { principal } => Call::get("show a principal", at(principal)),
        PrincipalVerb::Set { principal, label } => {
            patch("change a principal", principal, json!({ "label": unless(label, String::is_empty) }))
        }
        PrincipalVerb::Disable { principal } => patch("disable a principal", principal, json!({ "disabled": true })),
        PrincipalVerb::Enable { principal } => patch("enable a principal", principal, json!({ "disabled": false })),
        PrincipalVerb::Delete { principal } => Call::new("delete a principal", "DELETE", at(principal)),
    }
}

fn token(verb: &TokenVerb) -> Result<Call, String> {
    let at = |token: &str| path(&["v1", "tokens", token]);
    Ok(match verb {
        TokenVerb::List { principal, list } => {
            let call = Call::get("list tokens", path(&["v1", "tokens"])).list(list, TOKENS);
            call.with("principal", principal.as_ref())
        }
        TokenVerb::Create { principal, label, expires_in, scope } => {
            let seconds = expires_in.map(|time| time.as_secs());
            let scope = scope.iter().map(|entry| read_scope(entry)).collect::<Result<Vec<_>, _>>()?;
            let body = object([
                ("principal", json!(principal)),
                ("label", json!(label)),
                ("expires_in_seconds", json!(seconds)),
                ("scope", if scope.is_empty() { Json::Null } else { json!(scope) }),
            ]);
            Call::new("create a token", "POST", path(&["v1", "tokens"])).body(body).show(Show::Secret)
        }
        TokenVerb::Show { token } => Call::get("show a token", at(token)),
        TokenVerb::Rotate { token, grace } => {
            let call = Call::new("rotate a token", "POST", path(&["v1", "tokens", token, "rotate"]));
            call.body(json!({ "grace_seconds": grace.as_secs() })).show(Show::Secret)
        }
        TokenVerb::Revoke { token } => Call::new("revoke a token", "DELETE", at(token)),
    })
}

fn read_scope(entry: &str) -> Result<Json, String> {
    let (target, access) = entry.split_once('=').ok_or_else(|| {
        format!("read the arguments: --scope {entry:?} is no TARGET=ACCESS: write it like space/default=read")
    })?;
    Ok(json!({ "target": target, "access": access }))
}

fn grant(verb: &GrantVerb) -> Call {
    let at = path(&["v1", "grants"]);
    match verb {
        GrantVerb::List { principal, list } => {
            Call::get("list grants", at).list(list, GRANTS).with("principal", principal.as_ref())
        }
        GrantVerb::Put { principal, target, access, how_long } => {
            let access = match access {
                Level::Read => "read",
                Level::Write => "write",
                Level::Admin => "admin",
            };
            let until = how_long.map(|time| now_seconds().saturating_add(Duration::from(time).as_secs()));
            let grant = json!({ "principal": principal, "target": target, "access": access, "until_seconds": until });
            Call::new("grant something", "PUT", at).body(grant)
        }
        GrantVerb::Remove { principal, target } => {
            let call = Call::new("take back a grant", "DELETE", at);
            call.with("principal", Some(principal)).with("target", Some(target))
        }
    }
}

fn document(verb: &DocumentVerb) -> Result<Call, String> {
    let at = |document: &str| path(&["v1", "documents", document]);
    let aside = |document: &str| path(&["v1", "documents", document, "quarantine"]);
    Ok(match verb {
        DocumentVerb::List { space, list } => {
            Call::get("list documents", path(&["v1", "spaces", space, "documents"])).list(list, DOCUMENTS)
        }
        DocumentVerb::Show { document } => Call::get("show a document", at(document)),
        DocumentVerb::Quarantine { document, reason } => {
            Call::new("put a document into quarantine", "PUT", aside(document)).body(json!({ "reason": reason }))
        }
        DocumentVerb::Release { document } => Call::new("release a document", "DELETE", aside(document)),
        DocumentVerb::Quarantined(list) => {
            Call::get("list what is in quarantine", path(&["v1", "quarantine"])).list(list, QUARANTINE)
        }
        DocumentVerb::Delete { document, yes } => {
            meant(*yes, "delete the document everywhere")?;
            Call::new("delete a document", "DELETE", at(document))
        }
        DocumentVerb::Purge { document, yes } => {
            meant(*yes, "purge the document everywhere")?;
            Call::new("purge a document", "POST", path(&["v1", "documents", document, "purge"]))
        }
    })
}

fn connection(verb: &ConnectionVerb) -> Call {
    let all = path(&["v1", "connections"]);
    let at = |number: &u64| path(&["v1", "connections", &number.to_string()]);
    match verb {
        ConnectionVerb::List { principal, list } => {
            Call::get("list connections", all).list(list, CONNECTIONS).with("principal", principal.as_ref())
        }
        ConnectionVerb::Show { number } => Call::get("show a connection", at(number)),
        ConnectionVerb::Kick { number: Some(number), .. } => Call::new("end a connection", "DELETE", at(number)),
        ConnectionVerb::Kick { principal, .. } => {
            Call::new("end connections", "DELETE", all).with("principal", principal.as_ref())
        }
    }
}

fn audit(wanted: &AuditList) -> Call {
    let since = wanted.within.map(|time| now_seconds().saturating_sub(Duration::from(time).as_secs()));
    let call = Call::get("read the audit trail", path(&["v1", "audit"])).show(Show::Table(AUDIT));
    let call = call.with("after", wanted.after).with("last", wanted.after.is_none().then_some(true));
    let call = call.with("kind", wanted.kind.as_ref()).with("action", wanted.action.as_ref());
    let call = call.with("principal", wanted.principal.as_ref()).with("target", wanted.target.as_ref());
    Call { limit: wanted.limit, ..call.with("since_seconds", since) }
}

/// Asks that somebody says that it is meant.
fn meant(yes: bool, what: &str) -> Result<(), String> {
    if yes { Ok(()) } else { Err(format!("{what}: that cannot be undone; say --yes if you mean it")) }
}

/// Makes an object of what is there.
fn object<const N: usize>(entries: [(&str, Json); N]) -> Json {
    let there = entries.into_iter().filter(|(_, value)| !value.is_null());
    Json::Object(there.map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Returns a value, or null where it stands for none.
fn unless<T: serde::Serialize>(value: &T, is_none: impl FnOnce(&T) -> bool) -> Json {
    if is_none(value) { Json::Null } else { json!(value) }
}

/// Makes a path of parts that may hold anything.
fn path(parts: &[&str]) -> String {
    parts.iter().fold(String::new(), |path, part| path + "/" + &encoded(part))
}

/// Encodes a text for a path or a query.
pub(super) fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}
