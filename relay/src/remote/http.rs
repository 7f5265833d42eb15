//! Asking the API over HTTP.

use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;
use ureq::http::{Request, Response};
use ureq::{Agent, SendBody};

use super::call::{Body, Call, encoded};
use crate::limits::ADMIN_PAGE_MAX;

/// How long to wait for a connection, and for the answer to what is no file.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest answer that is no file: a page of a thousand documents has 300 kB.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// How often it is looked how far a job is.
const JOB_LOOK: Duration = Duration::from_millis(300);

/// A relay's admin API.
pub(super) struct Remote {
    url: String,
    token: String,
    agent: Agent,
}

impl Remote {
    pub(super) fn new(url: &str, token: String) -> Self {
        let config = ureq::config::Config::builder().http_status_as_error(false).max_redirects(0);
        let config = config.timeout_connect(Some(CONNECT_TIMEOUT)).timeout_recv_response(Some(ANSWER_TIMEOUT));
        Self { url: url.trim_end_matches('/').to_owned(), token, agent: config.build().new_agent() }
    }

    /// Asks, and returns the answer's JSON.
    pub(super) fn ask(&self, call: &Call) -> Result<Json, String> {
        self.ask_with(call, &call.query)
    }

    fn ask_with(&self, call: &Call, query: &[(&str, String)]) -> Result<Json, String> {
        let response = self.send(call, query)?;
        self.read(call.what, response)
    }

    /// Asks for one page of a list, of as many items as its limit says and a page may have.
    pub(super) fn page(&self, call: &Call) -> Result<Json, String> {
        self.page_of(call, &call.query, call.limit)
    }

    fn page_of(&self, call: &Call, query: &[(&'static str, String)], items_max: usize) -> Result<Json, String> {
        let limit = ("limit", items_max.clamp(1, ADMIN_PAGE_MAX).to_string());
        self.ask_with(call, &[query, &[limit]].concat())
    }

    /// Asks for page after page of a list, up to its limit. Returns the items, and where there is more.
    pub(super) fn pages(&self, call: &Call) -> Result<(Vec<Json>, Option<String>), String> {
        let (mut items, mut query) = (Vec::new(), call.query.clone());
        loop {
            let page = self.page_of(call, &query, call.limit.saturating_sub(items.len()))?;
            items.extend(page["items"].as_array().into_iter().flatten().cloned());
            let next = match &page["next"] {
                Json::Null => return Ok((items, None)),
                Json::String(next) => next.clone(),
                next => next.to_string(),
            };
            // Those that end with the newest have all there is.
            if call.query.iter().any(|(name, _)| *name == "last") {
                return Ok((items, None));
            }
            if items.len() >= call.limit {
                return Ok((items, Some(next)));
            }
            query.retain(|(name, _)| *name != "after");
            query.push(("after", next));
        }
    }

    /// Waits for the end of a job, and shows how far it is to whoever looks.
    pub(super) fn wait(&self, mut job: Json) -> Result<Json, String> {
        let is_watched = std::io::stderr().is_terminal();
        let id = job["id"].to_string();
        while job["state"] == "running" {
            std::thread::sleep(JOB_LOOK);
            let request = self.request("GET", &format!("/v1/jobs/{id}"), &[]);
            let request = request.body(()).map_err(|error| self.unreachable("follow the job", &error))?;
            let response = self.agent.run(request).map_err(|error| self.unreachable("follow the job", &error))?;
            job = self.read("follow the job", response)?;
            if is_watched {
                let progress = &job["progress"];
                // A closed pipe is nobody's fault.
                let _ = write!(
                    std::io::stderr(),
                    "\rjob {id}: {} documents, {} rows, {} bytes ",
                    progress["documents"],
                    progress["rows"],
                    progress["bytes"]
                );
            }
        }
        if is_watched {
            let _ = writeln!(std::io::stderr());
        }
        Ok(job)
    }

    /// Writes an answer into a new file that only this user may read, and returns how many bytes it has.
    pub(super) fn download(&self, call: &Call, to: &Path) -> Result<u64, String> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(to)
            .map_err(|error| format!("{}: make the file {}: {error}", call.what, to.display()))?;
        let outcome = self.fill(call, &mut file);
        if outcome.is_err() {
            // Half an export is worth nothing.
            let _ = std::fs::remove_file(to);
        }
        outcome
    }

    fn fill(&self, call: &Call, file: &mut std::fs::File) -> Result<u64, String> {
        let mut response = self.send(call, &call.query)?;
        if !response.status().is_success() {
            return Err(self.complaint(call.what, response));
        }
        let mut body = response.body_mut().as_reader();
        let bytes = std::io::copy(&mut body, file).map_err(|error| format!("{}: {error}", call.what))?;
        file.sync_all().map_err(|error| format!("{}: {error}", call.what))?;
        Ok(bytes)
    }

    fn request(&self, method: &str, path: &str, query: &[(&str, String)]) -> ureq::http::request::Builder {
        let query: Vec<_> = query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let uri = format!("{}{path}{mark}{}", self.url, query.join("&"));
        Request::builder().method(method).uri(uri).header("authorization", format!("Bearer {}", self.token))
    }

    fn send(&self, call: &Call, query: &[(&str, String)]) -> Result<Response<ureq::Body>, String> {
        let request = self.request(call.method, &call.path, query);
        let failed = |error: &dyn std::fmt::Display| self.unreachable(call.what, error);
        let response = match &call.body {
            Body::None => self.agent.run(request.body(()).map_err(|error| failed(&error))?),
            Body::Json(body) => {
                let request = request.header("content-type", "application/json").body(body.to_string());
                self.agent.run(request.map_err(|error| failed(&error))?)
            }
            Body::File(file) => {
                let request = request.header("content-type", "application/octet-stream");
                let mut reader = file;
                let request = request.body(SendBody::from_reader(&mut reader));
                self.agent.run(request.map_err(|error| failed(&error))?)
            }
        };
        response.map_err(|error| failed(&error))
    }

    fn unreachable(&self, what: &str, error: &dyn std::fmt::Display) -> String {
        let hint = "is the relay running, and does its admin API listen there (admin.listen)?";
        format!("{what}: {} does not answer: {error}; {hint}", self.url)
    }

    fn read(&self, what: &str, mut response: Response<ureq::Body>) -> Result<Json, String> {
        if !response.status().is_success() {
            return Err(self.complaint(what, response));
        }
        let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let text = text.map_err(|error| format!("{what}: read the answer: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("{what}: the answer is no JSON: {error}; check --url"))
    }

    /// Says what the relay says is wrong, and what to do about it.
    fn complaint(&self, what: &str, mut response: Response<ureq::Body>) -> String {
        let status = response.status();
        let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().unwrap_or_default();
        let Ok(problem) = serde_json::from_str::<Json>(&text) else {
            return format!("{what}: {} answers {status}; check --url", self.url);
        };
        let of = |key: &str| problem[key].as_str().unwrap_or_default();
        let hint = match of("code") {
            "unauthorized" => "; the credential is not this relay's: check --token-file or --data",
            "too-many-attempts" => "; wait a minute",
            "space-not-archived" => "; archive it first",
            "principal-unknown" => "; write it down first with principal create",
            _ => "",
        };
        let detail = if of("detail") == of("title") { String::new() } else { format!(": {}", of("detail")) };
        format!("{what}: {}{detail} ({}){hint}", of("title"), of("code"))
    }
}
