//! The OpenAPI document and the server say the same: each operation is called, and each answer, good or bad, is judged by its
//! schema.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::{Administered, OTHER};
use crate::client::document;
use crate::v1::client::{TEAM, V1, chain};

/// Judges answers by the document.
struct Judge<'r> {
    relay: &'r Administered,
    document: Json,
    /// Operations, each with whether it succeeded.
    seen: BTreeSet<(String, bool)>,
}

impl<'r> Judge<'r> {
    fn new(relay: &'r Administered) -> Self {
        let (status, media_type, text) = relay.send_as(None, "GET", "/openapi.json", None);
        assert_eq!((status, media_type.as_str()), (200, "application/json"));
        let mut document: Json = serde_json::from_str(&text).unwrap();
        // What the document does not tell of is not to be sent either.
        for schema in document["components"]["schemas"].as_object_mut().unwrap().values_mut() {
            if schema.get("properties").is_some() {
                schema["additionalProperties"] = json!(false);
            }
        }
        Self { relay, document, seen: BTreeSet::new() }
    }

    fn operation(&self, method: &str, path: &str) -> (String, Json) {
        let path = path.split('?').next().unwrap();
        let is_like = |template: &str| {
            let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
            let same = |(part, found): (&&str, &&str)| part == found || part.starts_with('{');
            template.len() == path.len() && template.iter().zip(&path).all(same)
        };
        let paths = self.document["paths"].as_object().unwrap();
        let (template, operations) = paths.iter().find(|(template, _)| is_like(template)).unwrap();
        let method = method.to_lowercase();
        (format!("{method} {template}"), operations[&method].clone())
    }

    fn call_as(&mut self, token: Option<&str>, method: &str, path: &str, body: Option<Json>) -> (u16, Json) {
        let answer = self.relay.send_as(token, method, path, body.as_ref());
        self.judge(method, path, answer)
    }

    fn import(&mut self, path: &str, bytes: Vec<u8>, wanted: u16) {
        let token = Some(self.relay.token.as_str());
        let answer = self.relay.send_bytes(token, "POST", path, "application/octet-stream", Some(bytes));
        assert_eq!(self.judge("POST", path, answer).0, wanted);
    }

    fn judge(&mut self, method: &str, path: &str, answer: (u16, String, String)) -> (u16, Json) {
        let (name, operation) = self.operation(method, path);
        let (status, media_type, text) = answer;
        let responses = operation["responses"].as_object().unwrap();
        let response = responses.get(&status.to_string()).unwrap_or(&responses["default"]);
        let content = response["content"].as_object().unwrap();
        let media = content.get(&media_type).unwrap_or_else(|| panic!("{name}: {status} {media_type} {text}"));
        let answer: Json =
            if media_type.contains("json") { serde_json::from_str(&text).unwrap() } else { Json::String(text.clone()) };
        let mut schema = media["schema"].clone();
        schema["components"] = self.document["components"].clone();
        let judged = jsonschema::validator_for(&schema).unwrap();
        let faults: Vec<_> = judged.iter_errors(&answer).map(|error| error.to_string()).collect();
        assert!(faults.is_empty(), "{name}: {status} {text}\n{faults:#?}");
        if status >= 400 {
            assert_eq!(answer["status"], status);
        }
        self.seen.insert((name, status < 400));
        (status, answer)
    }

    fn call(&mut self, method: &str, path: &str, body: Option<Json>) -> (u16, Json) {
        let token = self.relay.token.clone();
        self.call_as(Some(&token), method, path, body)
    }

    /// Calls an operation that succeeds.
    fn good(&mut self, method: &str, path: &str, body: Option<Json>) -> Json {
        let (status, answer) = self.call(method, path, body);
        assert!(status < 300, "{method} {path}: {answer}");
        answer
    }

    /// Calls an operation that fails.
    fn bad(&mut self, method: &str, path: &str, body: Option<Json>, code: &str) {
        let (_, answer) = self.call(method, path, body);
        assert_eq!(answer["code"], code, "{method} {path}");
    }

    async fn job(&mut self, job: Json) -> Json {
        self.relay.job(&job).await;
        self.good("GET", &format!("/v1/jobs/{}", job["id"]), None)
    }
}

fn operations(document: &Json) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let each = paths.iter().flat_map(|(path, operations)| {
        operations.as_object().unwrap().keys().map(move |method| (method.clone(), path.clone()))
    });
    each.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_answers_as_the_document_says() {
    let relay = Administered::start().await;
    let mut alice = V1::follow(&relay.url(), "alice", TEAM).await;
    for number in 1..=3 {
        alice.store(TEAM, chain(document(number), "alice", 2, "k")).await;
    }
    let mut judge = Judge::new(&relay);
    watched(&mut judge);
    spaces(&mut judge).await;
    principals(&mut judge);
    documents(&mut judge);
    operate(&mut judge).await;
    let guarded: Vec<_> =
        operations(&judge.document).into_iter().filter(|(_, path)| path.starts_with("/v1/")).collect();
    for (method, path) in &guarded {
        let path = path.replace("{number}", "1").replace("{job}", "1").replace(['{', '}'], "");
        let (status, answer) = judge.call_as(None, &method.to_uppercase(), &path, None);
        assert_eq!((status, &answer["code"]), (401, &json!("unauthorized")), "{method} {path}");
    }
    let missing: Vec<_> = operations(&judge.document)
        .into_iter()
        .map(|(method, path)| (format!("{method} {path}"), true))
        .filter(|wanted| !judge.seen.contains(wanted))
        .collect();
    assert!(missing.is_empty(), "never seen to succeed: {missing:#?}");
    relay.stop().await;
}

fn watched(judge: &mut Judge<'_>) {
    for path in ["/livez", "/readyz", "/startupz", "/metrics", "/openapi.json"] {
        assert_eq!(judge.call_as(None, "GET", path, None).0, 200);
    }
}

async fn spaces(judge: &mut Judge<'_>) {
    let made = judge.good("POST", "/v1/spaces", Some(json!({ "name": "one", "bytes_max": 10 })));
    let path = format!("/v1/spaces/{}", made["id"].as_str().unwrap());
    judge.bad("POST", "/v1/spaces", Some(json!({ "id": made["id"] })), "space-exists");
    judge.good("GET", "/v1/spaces?limit=1", None);
    judge.bad("GET", "/v1/spaces?limit=x", None, "query-invalid");
    judge.good("GET", &format!("{path}?usage=true"), None);
    judge.bad("GET", &format!("/v1/spaces/{OTHER}"), None, "space-unknown");
    judge.good("PATCH", &path, Some(json!({ "name": null, "archived": false })));
    judge.bad("PATCH", &path, Some(json!({ "archived": "no" })), "body-invalid");
    judge.bad("DELETE", &path, None, "space-not-archived");
    judge.good("POST", &format!("{path}/archive"), None);
    judge.bad("POST", &format!("/v1/spaces/{OTHER}/archive"), None, "space-unknown");
    let job = judge.good("DELETE", &path, None);
    assert_eq!(judge.job(job).await["state"], "done");
    judge.good("GET", &format!("/v1/spaces/{TEAM}/export"), None);
    judge.bad("GET", &format!("/v1/spaces/{OTHER}/export"), None, "space-unknown");
    let export = judge.relay.download(&format!("/v1/spaces/{TEAM}/export"));
    judge.import(&format!("/v1/spaces/{TEAM}/import"), export, 200);
    judge.import(&format!("/v1/spaces/{TEAM}/import"), b"nonsense".to_vec(), 422);
    judge.good("GET", &format!("/v1/spaces/{TEAM}/log?last=2"), None);
    judge.bad("GET", &format!("/v1/spaces/{TEAM}/log?last=2&after=1"), None, "query-invalid");
}

fn principals(judge: &mut Judge<'_>) {
    judge.good("POST", "/v1/principals", Some(json!({ "id": "alice@example.org" })));
    judge.bad("POST", "/v1/principals", Some(json!({ "id": "alice@example.org" })), "principal-exists");
    judge.bad("POST", "/v1/principals", Some(json!({ "id": "" })), "body-invalid");
    judge.good("GET", "/v1/principals?limit=1", None);
    judge.good("GET", "/v1/principals/alice@example.org", None);
    judge.bad("GET", "/v1/principals/bob", None, "principal-unknown");
    judge.good("PATCH", "/v1/principals/alice@example.org", Some(json!({ "label": "Alice" })));
    judge.bad("PATCH", "/v1/principals/bob", Some(json!({ "label": "Bob" })), "principal-unknown");
    let scope = json!([{ "target": format!("document/{}", document(1)), "access": "write" }]);
    let token =
        json!({ "principal": "alice@example.org", "expires_in_seconds": 60, "label": "laptop", "scope": scope });
    let made = judge.good("POST", "/v1/tokens", Some(token));
    judge.bad("POST", "/v1/tokens", Some(json!({ "principal": "bob" })), "principal-unknown");
    judge.bad("POST", "/v1/tokens", Some(json!({ "principal": "alice@example.org", "scope": [] })), "refused");
    let path = format!("/v1/tokens/{}", made["token"]["id"].as_str().unwrap());
    judge.good("GET", "/v1/tokens?principal=alice@example.org&limit=1", None);
    judge.good("GET", &path, None);
    judge.bad("GET", "/v1/tokens/0000000000000000", None, "token-unknown");
    judge.good("POST", &format!("{path}/rotate"), Some(json!({})));
    judge.bad("POST", "/v1/tokens/0000000000000000/rotate", Some(json!({})), "token-unknown");
    judge.good("DELETE", &path, None);
    judge.bad("DELETE", "/v1/tokens/0", None, "path-invalid");
    let grant =
        json!({ "principal": "alice@example.org", "target": "everything", "access": "admin", "until_seconds": 1 });
    judge.good("PUT", "/v1/grants", Some(grant));
    judge.bad("PUT", "/v1/grants", Some(json!({ "principal": "a", "target": "x", "access": "read" })), "body-invalid");
    let page = judge.good("GET", "/v1/grants?limit=1", None);
    let after = page["next"].as_str().unwrap().replace(' ', "%20");
    assert_eq!(judge.good("GET", &format!("/v1/grants?after={after}"), None)["items"], json!([]));
    judge.bad("GET", "/v1/grants?after=x", None, "query-invalid");
    judge.good("DELETE", "/v1/grants?principal=alice@example.org&target=everything", None);
    judge.bad("DELETE", "/v1/grants?principal=alice@example.org&target=everything", None, "grant-unknown");
    judge.good("DELETE", "/v1/principals/alice@example.org", None);
    judge.bad("DELETE", "/v1/principals/alice@example.org", None, "principal-unknown");
}

fn documents(judge: &mut Judge<'_>) {
    let path = |number| format!("/v1/documents/{}", document(number));
    judge.good("GET", &format!("/v1/spaces/{TEAM}/documents?limit=1"), None);
    judge.bad("GET", &format!("/v1/spaces/{OTHER}/documents"), None, "space-unknown");
    judge.good("GET", &path(1), None);
    judge.bad("GET", &path(9), None, "document-unknown");
    judge.good("PUT", &format!("{}/quarantine", path(1)), Some(json!({ "reason": "odd" })));
    judge.bad("PUT", &format!("{}/quarantine", path(1)), Some(json!({ "reason": "x".repeat(300) })), "body-invalid");
    judge.good("GET", "/v1/quarantine?limit=1", None);
    judge.bad("GET", "/v1/quarantine?after=x", None, "query-invalid");
    judge.good("GET", &path(1), None);
    judge.good("DELETE", &format!("{}/quarantine", path(1)), None);
    judge.bad("DELETE", &format!("{}/quarantine", path(1)), None, "not-quarantined");
    judge.good("DELETE", &path(1), None);
    judge.bad("DELETE", &path(9), None, "document-unknown");
    judge.good("GET", &path(1), None);
    judge.good("POST", &format!("{}/purge", path(2)), None);
    judge.bad("POST", "/v1/documents/x/purge", None, "path-invalid");
    judge.good("GET", "/v1/audit?last=true&limit=5", None);
    judge.bad("GET", "/v1/audit?kind=other", None, "query-invalid");
}

async fn operate(judge: &mut Judge<'_>) {
    let listed = judge.good("GET", "/v1/connections", None);
    judge.bad("GET", "/v1/connections?principal=", None, "query-invalid");
    let path = format!("/v1/connections/{}", listed["items"][0]["number"]);
    judge.good("GET", &path, None);
    judge.bad("GET", "/v1/connections/999", None, "connection-unknown");
    judge.good("DELETE", &path, None);
    judge.bad("DELETE", "/v1/connections/999", None, "connection-unknown");
    judge.good("DELETE", "/v1/connections?principal=alice", None);
    judge.bad("DELETE", "/v1/connections", None, "query-invalid");
    judge.good("GET", "/v1/config", None);
    judge.good("GET", "/v1/stats", None);
    let job = judge.good("POST", "/v1/stats", None);
    assert_eq!(judge.job(job).await["state"], "done");
    let job = judge.good("POST", "/v1/verify", None);
    assert_eq!(judge.job(job).await["state"], "done");
    judge.good("GET", "/v1/jobs?limit=1", None);
    judge.bad("GET", "/v1/jobs/999", None, "job-unknown");
    let to = judge.relay.data.path().join("backup");
    judge.bad("POST", "/v1/backup", Some(json!({ "to": "relative" })), "body-invalid");
    let job = judge.good("POST", "/v1/backup", Some(json!({ "to": to })));
    assert_eq!(judge.job(job).await["state"], "done");
    judge.good("POST", "/v1/reload", None);
    std::fs::write(judge.relay.data.path().join("relay.toml"), "nonsense").unwrap();
    judge.bad("POST", "/v1/reload", None, "config-invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_paths_take_the_documented_methods_and_no_others() {
    let relay = Administered::start().await;
    let document = rejoin_relay::admin::openapi();
    let all = operations(document);
    for path in document["paths"].as_object().unwrap().keys() {
        for method in ["get", "put", "post", "patch", "delete"] {
            let is_documented = all.contains(&(method.to_owned(), path.clone()));
            let concrete = path.replace(['{', '}'], "");
            let (status, _, text) =
                relay.send("POST".replace("POST", &method.to_uppercase()).as_str(), &concrete, None);
            assert_eq!(status == 405, !is_documented, "{method} {path}: {status} {text}");
        }
    }
    relay.stop().await;
}

#[test]
fn routes_come_from_the_document_alone() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin");
    let mut sources = vec![std::fs::read_to_string(format!("{folder}.rs")).unwrap()];
    for entry in std::fs::read_dir(folder).unwrap() {
        sources.push(std::fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    let routes: Vec<_> =
        sources.iter().flat_map(|source| source.lines()).filter(|line| line.contains(".route(")).collect();
    // The document's own is written by hand, in the document too.
    assert!(routes.iter().all(|line| line.contains("\"/openapi.json\"")), "{routes:?}");
    let handlers = sources.iter().map(|source| source.matches("#[utoipa::path(").count()).sum::<usize>();
    assert_eq!(operations(rejoin_relay::admin::openapi()).len(), handlers + 1);
}

#[test]
fn stored_document_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let text = format!("{}\n", serde_json::to_string_pretty(rejoin_relay::admin::openapi()).unwrap());
    if std::env::var_os("REJOIN_WRITE_DOCS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(stored == text, "relay/docs/openapi.json is stale: run this test with REJOIN_WRITE_DOCS=1");
    assert!(text.contains("\"openapi\": \"3.1.0\""));
}
