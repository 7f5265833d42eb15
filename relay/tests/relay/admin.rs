//! What an operator sees and does over the admin API.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rejoin::codec::v1::Start;
use rejoin::store::{MemoryStore, Store, StoreExt as _, Table};
use rejoin::{DocumentId, SpaceId};
use rejoin_relay::reload::Reloader;
use rejoin_relay::{Config, RawConfig};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, block_in_place};

use crate::client::{Client, Raw, document};
use crate::v1::client::{TEAM, V1, all_of, chain, stored};

mod cli;
mod commands;
mod contract;
mod refusals;
mod watched;

/// A space beside the team's.
const OTHER: SpaceId = SpaceId::from_bytes([0xe2; 16]);

/// A relay inside the test's process, with its admin API.
pub struct Administered {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub token: String,
    pub data: TempDir,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), rejoin_relay::RunError>>,
}

impl Administered {
    pub async fn start() -> Self {
        Self::start_with(Arc::new(MemoryStore::new()), |_| ()).await
    }

    pub async fn start_with(store: Arc<dyn Store>, configure: impl FnOnce(&mut Config)) -> Self {
        let data = tempfile::tempdir().unwrap();
        crate::relay::listen();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, admin) = (listener.local_addr().unwrap(), admin_listener.local_addr().unwrap());
        let mut config = Config::new(data.path(), address);
        configure(&mut config);
        let file = data.path().join("relay.toml");
        std::fs::write(&file, format!("data = {:?}\n", data.path())).unwrap();
        let mut raw = RawConfig::default();
        raw.file = Some(file);
        let mut reloader = Reloader::new(raw, config);
        let changing = reloader.subscribe();
        tokio::spawn(async move {
            while let Some(asked) = reloader.requested().await {
                let _ = asked.send(reloader.reload());
            }
        });
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            let metrics = std::sync::Arc::default();
            rejoin_relay::server::run_with(listener, Some(admin_listener), store, changing, metrics, stopped).await
        });
        let path = data.path().join(rejoin_relay::admin::TOKEN_FILE);
        let token = loop {
            match std::fs::read_to_string(&path) {
                Ok(token) if token.ends_with('\n') => break token.trim().to_owned(),
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        Self { address, admin, token, data, stop, running }
    }

    pub fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Sends a request with the credential, and returns status, media type and body.
    pub fn send(&self, method: &str, path: &str, body: Option<&Json>) -> (u16, String, String) {
        self.send_as(Some(&self.token), method, path, body)
    }

    pub fn send_as(&self, token: Option<&str>, method: &str, path: &str, body: Option<&Json>) -> (u16, String, String) {
        let body = body.map(|body| body.to_string().into_bytes());
        self.send_bytes(token, method, path, "application/json", body)
    }

    pub fn send_bytes(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        media_type: &str,
        body: Option<Vec<u8>>,
    ) -> (u16, String, String) {
        let config = ureq::config::Config::builder().http_status_as_error(false).allow_non_standard_methods(true);
        let agent = config.timeout_global(Some(Duration::from_secs(60))).build().new_agent();
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.admin_url()));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = block_in_place(|| match body {
            Some(body) => agent.run(request.header("content-type", media_type).body(body).unwrap()),
            None => agent.run(request.body(()).unwrap()),
        });
        let mut response = response.unwrap();
        let media_type = response.headers().get("content-type").map_or("", |value| value.to_str().unwrap()).to_owned();
        let body = block_in_place(|| response.body_mut().read_to_vec()).unwrap();
        (response.status().as_u16(), media_type, String::from_utf8_lossy(&body).into_owned())
    }

    /// Returns the bytes of a file that the API sends.
    pub fn download(&self, path: &str) -> Vec<u8> {
        let agent = ureq::Agent::new_with_defaults();
        let request = agent.get(format!("{}{path}", self.admin_url()));
        let request = request.header("authorization", format!("Bearer {}", self.token));
        block_in_place(|| request.call().unwrap().body_mut().read_to_vec().unwrap())
    }

    /// Sends a request that succeeds, and returns its JSON.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Json>) -> Json {
        let (status, _, text) = self.send(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub fn get(&self, path: &str) -> Json {
        self.ask("GET", path, None)
    }

    /// Sends a request that fails, and returns the code of its problem.
    pub fn code(&self, method: &str, path: &str, body: Option<&Json>) -> String {
        let (status, media_type, text) = self.send(method, path, body);
        assert_eq!(media_type, "application/problem+json", "{method} {path}: {status} {text}");
        serde_json::from_str::<Json>(&text).unwrap()["code"].as_str().unwrap().to_owned()
    }

    /// Waits for the end of a job, and returns it.
    pub async fn job(&self, started: &Json) -> Json {
        loop {
            let job = self.get(&format!("/v1/jobs/{}", started["id"]));
            if job["state"] != "running" {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.running.await.unwrap().unwrap();
    }
}

fn store_of(relay: &Administered) -> PathBuf {
    relay.data.path().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn credential_is_needed_for_all_but_what_watches_the_relay() {
    let relay = Administered::start().await;
    for path in ["/livez", "/readyz", "/startupz", "/openapi.json"] {
        assert_eq!(relay.send_as(None, "GET", path, None).0, 200, "{path}");
    }
    let mode = std::fs::metadata(store_of(&relay).join("admin-token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for path in ["/v1/stats", "/v1/nothing", "/nothing", "/"] {
        assert_eq!(relay.send_as(None, "GET", path, None).0, 401, "{path}");
    }
    for _ in 0..10 {
        assert_eq!(relay.send_as(Some("rja_wrong"), "GET", "/v1/stats", None).0, 401);
    }
    let (status, _, text) = relay.send("GET", "/v1/stats", None);
    assert!(status == 429 && text.contains("too-many-attempts"), "{text}");
    assert!(!text.contains(&relay.token) && !text.contains("rja_wrong"));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_problems_with_stable_codes() {
    let relay = Administered::start().await;
    let code = |method, path, body: Option<Json>| relay.code(method, path, body.as_ref());
    assert_eq!(code("GET", "/v1/nothing", None), "path-unknown");
    assert_eq!(code("DELETE", "/v1/stats", None), "method-not-allowed");
    assert_eq!(code("POST", "/livez", None), "method-not-allowed");
    assert_eq!(code("GET", "/v1/spaces?limit=0", None), "query-invalid");
    assert_eq!(code("GET", "/v1/spaces?limit=1001", None), "query-invalid");
    assert_eq!(code("GET", "/v1/spaces?bogus=1", None), "query-invalid");
    assert_eq!(code("GET", "/v1/spaces?after=x", None), "query-invalid");
    assert_eq!(code("GET", "/v1/spaces/x", None), "path-invalid");
    assert_eq!(code("GET", "/v1/jobs/x", None), "path-invalid");
    assert_eq!(code("POST", "/v1/spaces", Some(json!({ "bogus": 1 }))), "body-invalid");
    assert_eq!(code("POST", "/v1/spaces", Some(json!({ "name": "a\nb" }))), "body-invalid");
    assert_eq!(code("POST", "/v1/spaces", Some(json!({ "name": "x".repeat(100_000) }))), "body-too-large");
    assert_eq!(code("POST", "/v1/grants", Some(json!({}))), "method-not-allowed");
    let (status, _, text) =
        relay.send_bytes(Some(&relay.token), "POST", "/v1/spaces", "text/plain", Some(b"{}".into()));
    assert!(status == 415 && text.contains("media-type"), "{text}");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn space_is_made_named_archived_and_deleted_for_good() {
    let relay = Administered::start().await;
    let made = relay.ask("POST", "/v1/spaces", Some(&json!({ "id": TEAM.to_string(), "name": "team" })));
    assert_eq!((&made["id"], &made["name"]), (&json!(TEAM.to_string()), &json!("team")));
    assert_eq!(relay.code("POST", "/v1/spaces", Some(&json!({ "id": TEAM.to_string() }))), "space-exists");
    let mut alice = V1::follow(&relay.url(), "alice", TEAM).await;
    assert_eq!(alice.store(TEAM, chain(document(1), "alice", 3, "k")).await, stored(1, 3));
    // One that nobody wrote down is there as soon as somebody writes to it.
    let mut bob = V1::follow(&relay.url(), "bob", OTHER).await;
    bob.store(OTHER, chain(document(2), "bob", 1, "k")).await;
    let listed = relay.get("/v1/spaces");
    let ids: Vec<_> = listed["items"].as_array().unwrap().iter().map(|space| space["id"].clone()).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.contains(&json!("default")) && ids.contains(&json!(OTHER.to_string())), "{ids:?}");
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let page = relay.get(&format!("/v1/spaces?limit=1&after={after}"));
        paged.extend(page["items"].as_array().unwrap().iter().map(|space| space["id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        after = next.to_owned();
    }
    assert_eq!(paged, ids);
    let path = format!("/v1/spaces/{TEAM}");
    let usage = relay.get(&format!("{path}?usage=true"))["usage"].clone();
    assert_eq!((&usage["documents"], &usage["changes"]), (&json!(1), &json!(3)));
    let patched = relay.ask("PATCH", &path, Some(&json!({ "name": null, "bytes_max": 5 })));
    assert_eq!((&patched["name"], &patched["bytes_max"], &patched["position"]), (&Json::Null, &json!(5), &json!(3)));
    assert_eq!(relay.code("DELETE", &path, None), "space-not-archived");
    assert_eq!(relay.code("DELETE", "/v1/spaces/default", None), "space-default");
    assert_eq!(relay.ask("POST", &format!("{path}/archive"), None)["archived"], true);
    let job = relay.job(&relay.ask("DELETE", &path, None)).await;
    assert_eq!((&job["state"], &job["result"]["documents"]), (&json!("done"), &json!(1)), "{job}");
    assert_eq!(relay.code("GET", &path, None), "space-unknown");
    let gone = relay.get(&format!("/v1/documents/{}", document(1)));
    assert_eq!((&gone["deleted"]["purged"], &gone["changes"]), (&json!(true), &json!(0)));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_listed_with_their_heads_and_the_log_without_contents() {
    let relay = Administered::start().await;
    let mut alice = V1::follow(&relay.url(), "alice", TEAM).await;
    let writes = chain(document(1), "alice", 3, "a secret key");
    alice.store(TEAM, writes).await;
    let listed = relay.get(&format!("/v1/spaces/{TEAM}/documents"));
    let one = &listed["items"][0];
    assert_eq!((&one["changes"], one["heads"].as_array().unwrap().len()), (&json!(3), 1));
    assert_eq!(&relay.get(&format!("/v1/documents/{}", document(1))), one);
    let log = relay.get(&format!("/v1/spaces/{TEAM}/log?limit=2"));
    assert_eq!((&log["next"], &log["end"], &log["items"][1]["seq"]), (&json!(2), &json!(3), &json!(2)));
    let tail = relay.get(&format!("/v1/spaces/{TEAM}/log?last=1"));
    assert_eq!((&tail["items"][0]["hash"], &tail["next"]), (&one["heads"][0], &Json::Null));
    assert!(!log.to_string().contains("a secret key"));
    assert_eq!(relay.code("GET", &format!("/v1/spaces/{OTHER}/log"), None), "space-unknown");
    assert_eq!(relay.code("GET", &format!("/v1/documents/{}", document(9)), None), "document-unknown");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_sees_connections_and_ends_them() {
    let relay = Administered::start().await;
    let mut classic = Raw::join(&relay.url(), "classic\n").await;
    let (mut v1, _) = V1::greet(&relay.url(), "modern", Vec::new()).await;
    let listed = loop {
        let listed = relay.get("/v1/connections");
        let items = listed["items"].as_array().unwrap().clone();
        if items.len() == 2 && items.iter().all(|one| one["peer"] != "") {
            break items;
        }
    };
    let of = |protocol: &str| listed.iter().find(|one| one["protocol"] == protocol).unwrap();
    assert_eq!((&of("classic")["peer"], &of("rejoin.v1")["peer"]), (&json!("classic\\n"), &json!("modern")));
    assert!(of("rejoin.v1")["bytes_in"].as_u64().unwrap() > 0 && of("classic")["bytes_out"].as_u64().unwrap() > 0);
    assert!(of("classic")["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    for one in &listed {
        let path = format!("/v1/connections/{}", one["number"]);
        assert_eq!(relay.get(&path)["number"], one["number"]);
        assert_eq!(relay.ask("DELETE", &path, None)["kicked"], 1);
    }
    let (_, close) = classic.closed().await;
    assert!(close.unwrap().reason.contains("operator"));
    let (error, _) = v1.closed().await;
    assert!(error.unwrap().text.contains("operator"));
    while relay.get("/v1/connections")["items"] != json!([]) {}
    assert_eq!(relay.code("DELETE", "/v1/connections/999", None), "connection-unknown");
    assert_eq!(relay.ask("DELETE", "/v1/connections?principal=nobody", None)["kicked"], 0);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_act_is_on_record_and_no_secret_is() {
    let store = Arc::new(MemoryStore::new());
    let relay = Administered::start_with(Arc::clone(&store) as Arc<dyn Store>, |_| ()).await;
    relay.ask("POST", "/v1/principals", Some(&json!({ "id": "alice", "label": "Alice" })));
    let made = relay.ask("POST", "/v1/tokens", Some(&json!({ "principal": "alice" })));
    let secret = made["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("rjt_"));
    let id = made["token"]["id"].as_str().unwrap();
    let rotated = relay.ask("POST", &format!("/v1/tokens/{id}/rotate"), Some(&json!({ "grace_seconds": 0 })));
    assert_ne!(rotated["secret"].as_str().unwrap(), secret);
    relay.ask("PUT", "/v1/grants", Some(&json!({ "principal": "alice", "target": "space/default", "access": "read" })));
    assert_eq!(relay.code("DELETE", "/v1/principals/bob", None), "principal-unknown");
    relay.send_as(Some("rja_wrong"), "GET", "/v1/audit", None);
    let trail = relay.get("/v1/audit");
    let told: Vec<_> = trail["items"].as_array().unwrap().iter().collect();
    let summary: Vec<_> = told
        .iter()
        .map(|one| {
            let target = one["target"].as_str().unwrap_or_default();
            format!("{} {} {}", one["action"].as_str().unwrap(), target, one["outcome"].as_str().unwrap())
        })
        .collect();
    let new_id = rotated["token"]["id"].as_str().unwrap();
    assert_eq!(
        summary,
        [
            "principal.create principal/alice ok".to_owned(),
            format!("token.create token/{id} ok"),
            format!("token.rotate token/{new_id} ok"),
            "grant.put principal/alice ok".to_owned(),
            "principal.delete principal/bob principal-unknown".to_owned(),
            "admin.authenticate  unauthorized".to_owned(),
        ]
    );
    assert!(told.iter().all(|one| one["address"].as_str().unwrap().starts_with("127.0.0.1:")));
    // Neither secret is in any row of the store: not as it is shown, and not as the bytes that it is.
    let secrets = [&secret, rotated["secret"].as_str().unwrap()].map(|secret| secret[21..].to_owned());
    let bytes = secrets.each_ref().map(|secret| URL_SAFE_NO_PAD.decode(secret).unwrap());
    let pieces: Vec<&[u8]> = secrets.iter().map(String::as_bytes).chain(bytes.iter().map(Vec::as_slice)).collect();
    let tx = store.read().unwrap();
    let mut rows = 0;
    for table in Table::ALL {
        tx.scan(table, &[]..&[u8::MAX; 64], &mut |key, value| {
            rows += 1;
            let holds =
                |piece: &&[u8]| [key, value].iter().any(|bytes| bytes.windows(piece.len()).any(|here| here == *piece));
            assert!(!pieces.iter().any(holds), "{table:?} holds a secret");
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    }
    assert!(rows > 5);
    drop(tx);
    let text = trail.to_string();
    assert!(!text.contains(&secret) && !text.contains(&relay.token) && !text.contains("rja_wrong"), "{text}");
    let count = |query: &str| relay.get(&format!("/v1/audit?{query}"))["items"].as_array().unwrap().len();
    assert_eq!((count("principal=alice"), count("action=token."), count("kind=refusal")), (2, 2, 1));
    assert_eq!((count("last=true&limit=2"), count("since_seconds=99999999999"), count("limit=1")), (2, 0, 1));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_write_is_on_record() {
    let relay = Administered::start().await;
    let mut alice = V1::follow(&relay.url(), "alice", TEAM).await;
    let writes = chain(document(1), "alice", 3, "k");
    // Its dependency is missing.
    alice.store(TEAM, writes[2..].to_vec()).await;
    let mut bob = V1::follow(&relay.url(), "bob", TEAM).await;
    bob.store(TEAM, writes[..1].to_vec()).await;
    relay.ask("DELETE", &format!("/v1/documents/{}", document(1)), None);
    bob.store(TEAM, writes[1..2].to_vec()).await;
    let trail = relay.get("/v1/audit?kind=refusal");
    let told: Vec<_> = trail["items"].as_array().unwrap().iter().map(|one| one["outcome"].clone()).collect();
    assert_eq!(told, [json!("change-missing"), json!("document-deleted")], "{trail}");
    let first = &trail["items"][0];
    assert_eq!((&first["action"], &first["count"]), (&json!("append"), &json!(1)));
    assert_eq!(first["target"], format!("document/{}", document(1)));
    assert_eq!(first["change"].as_str().unwrap().len(), 64);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantined_document_is_neither_served_nor_written_until_it_is_released() {
    let relay = Administered::start().await;
    let mut alice = V1::follow(&relay.url(), "alice", TEAM).await;
    let writes = chain(document(1), "alice", 3, "k");
    assert_eq!(alice.store(TEAM, writes[..1].to_vec()).await, stored(1, 1));
    let path = format!("/v1/documents/{}/quarantine", document(1));
    assert_eq!(relay.code("DELETE", &path, None), "not-quarantined");
    relay.ask("PUT", &path, Some(&json!({ "reason": "it looks odd" })));
    assert_eq!(relay.get("/v1/quarantine")["items"][0]["reason"], "it looks odd");
    // A write is refused and may be tried again; what else is in the space goes on.
    let refused = alice.store(TEAM, writes[1..2].to_vec()).await;
    assert_ne!(refused, stored(2, 1));
    assert_eq!(alice.store(TEAM, chain(document(2), "alice", 1, "k")).await, stored(2, 1));
    let (_, mut filled) = V1::choose(&relay.url(), "carol", &[]).await;
    assert!(filled.drain(..).next().is_none());
    let mut bob = V1::greet(&relay.url(), "bob", vec![all_of(TEAM, Start::Beginning)]).await.0;
    let seen = bob.changes(1).await;
    assert!(seen.iter().all(|(_, write)| write.document == document(2)), "{seen:?}");
    relay.ask("DELETE", &path, None);
    // What is in it is logged anew for those who were not told of it.
    let seen = bob.changes(1).await;
    assert!(seen.iter().all(|(position, write)| (*position, write.document) == (3, document(1))), "{seen:?}");
    assert_eq!(alice.store(TEAM, writes[1..2].to_vec()).await, stored(4, 1));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn classic_client_gets_nothing_of_a_quarantined_document() {
    let relay = Administered::start().await;
    let mut alice = Client::connect(&relay.url(), "alice").await;
    alice.set(document(1), "a", 1);
    alice.open(document(1));
    alice.until(|alice| alice.is_acknowledged(document(1))).await;
    relay.ask("PUT", &format!("/v1/documents/{}/quarantine", document(1)), Some(&json!({})));
    let mut bob = Client::connect(&relay.url(), "bob").await;
    bob.open(document(1));
    let waited = tokio::time::timeout(Duration::from_millis(300), bob.until(|bob| bob.count(document(1)) > 0)).await;
    assert!(waited.is_err(), "a document in quarantine was served");
    alice.set(document(1), "b", 2);
    let _ = tokio::time::timeout(Duration::from_millis(300), alice.until(|_| false)).await;
    let held: DocumentId = document(1);
    assert_eq!(relay.get(&format!("/v1/documents/{held}"))["changes"], 1);
    relay.ask("DELETE", &format!("/v1/documents/{held}/quarantine"), None);
    let mut carol = Client::connect(&relay.url(), "carol").await;
    carol.open(document(1));
    carol.until(|carol| carol.count(document(1)) > 0).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn store_is_verified_and_counted_while_the_relay_runs() {
    let relay = Administered::start().await;
    // Reading the metrics looks whether the relay is ready: nobody has to ask that first.
    assert!(relay.send("GET", "/metrics", None).2.contains("rejoin_relay_ready 1\n"));
    let mut alice = V1::follow(&relay.url(), "alice", TEAM).await;
    alice.store(TEAM, chain(document(1), "alice", 3, "k")).await;
    let verified = relay.job(&relay.ask("POST", "/v1/verify", None)).await;
    assert_eq!((&verified["state"], &verified["result"]["sound"]), (&json!("done"), &json!(true)), "{verified}");
    assert_eq!(verified["progress"]["documents"], 1);
    let counted = relay.job(&relay.ask("POST", "/v1/stats", None)).await;
    assert_eq!(counted["result"]["changes"], 3, "{counted}");
    assert_eq!(relay.get("/v1/stats")["connections"], 1);
    assert_eq!(relay.get("/v1/jobs")["items"].as_array().unwrap().len(), 2);
    assert_eq!(relay.get("/v1/jobs?after=1")["items"].as_array().unwrap().len(), 1);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn space_is_carried_from_relay_to_relay() {
    let first = Administered::start().await;
    let mut alice = V1::follow(&first.url(), "alice", TEAM).await;
    let writes = chain(document(1), "alice", 3, "k");
    alice.store(TEAM, writes.clone()).await;
    let export = first.download(&format!("/v1/spaces/{TEAM}/export"));
    let trail = first.get("/v1/audit?action=space.export");
    assert_eq!(trail["items"][0]["target"], format!("space/{TEAM}"));

    let second = Administered::start().await;
    let mut bob = V1::follow(&second.url(), "bob", TEAM).await;
    // Knows the document's id, and waits for it.
    let mut carol = Client::connect(&second.url(), "carol").await;
    carol.open(document(1));
    carol.until(|carol| carol.unavailable.contains(&document(1))).await;
    let path = format!("/v1/spaces/{TEAM}/import");
    let send =
        |bytes: Vec<u8>| second.send_bytes(Some(&second.token), "POST", &path, "application/octet-stream", Some(bytes));
    let (status, _, text) = send(export.clone());
    let report: Json = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &report["stored"], &report["refused"]), (200, &json!(3), &json!(0)), "{text}");
    // Who follows the space hears of it.
    let read = bob.changes(3).await;
    assert_eq!(read.into_iter().map(|(_, write)| write).collect::<Vec<_>>(), writes);
    carol.until(|carol| carol.count(document(1)) == 3).await;
    let again: Json = serde_json::from_str(&send(export.clone()).2).unwrap();
    assert_eq!((&again["stored"], &again["duplicates"]), (&json!(0), &json!(3)));
    for damaged in [export[..export.len() / 2].to_vec(), b"no export".to_vec(), Vec::new()] {
        let (status, _, text) = send(damaged);
        assert!(status == 422 && text.contains("import-invalid"), "{status} {text}");
    }
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn store_is_backed_up_to_the_relays_machine() {
    let relay = Administered::start().await;
    let mut alice = V1::follow(&relay.url(), "alice", TEAM).await;
    alice.store(TEAM, chain(document(1), "alice", 3, "k")).await;
    let to = relay.data.path().join("backup-1");
    let job = relay.job(&relay.ask("POST", "/v1/backup", Some(&json!({ "to": to })))).await;
    assert_eq!((&job["state"], &job["result"]["changes"]), (&json!("done"), &json!(3)), "{job}");
    assert_eq!(relay.code("POST", "/v1/backup", Some(&json!({ "to": to }))), "file-exists");
    let next = json!({ "to": relay.data.path().join("backup-2"), "since": to });
    let job = relay.job(&relay.ask("POST", "/v1/backup", Some(&next))).await;
    assert_eq!(job["state"], "done", "{job}");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_is_given_up_that_takes_longer_than_is_configured() {
    let store = Arc::new(MemoryStore::new());
    let large = vec![7; 600_000];
    store.write_with(|tx| (0..3).try_for_each(|key| tx.put(Table::Register, &[key], &large))).unwrap();
    let relay = Administered::start_with(store, |config| {
        config.backup.bytes_per_second = 1;
        config.backup.duration_max_seconds = Duration::from_millis(10);
    })
    .await;
    let to = relay.data.path().join("backup");
    let job = relay.job(&relay.ask("POST", "/v1/backup", Some(&json!({ "to": to })))).await;
    assert_eq!(job["state"], "failed", "{job}");
    assert!(!to.exists());
    relay.stop().await;
}
