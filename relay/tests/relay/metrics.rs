//! Every metric moves when what it counts happens, and is written down where people look for it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt;
use rejoin::codec::v1::{AckRun, ClientMessage, Code, Content, Hello, Outcome, Presence, Token, Write};
use rejoin::deletion::DeletionKind;
use rejoin::store::testing::{FailingDisk, Failure};
use rejoin::store::{MemoryStore, RedbOptions, RedbStore, Store};
use rejoin_relay::metrics::{FoldResult, Metrics, RefusedConnection, watch_panics};
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, Raw, document, peer};
use crate::folder::script;
use crate::http::ask_at;
use crate::process::{BINARY, Process};
use crate::relay::{Relay, open_store};
use crate::v1::client::{HOME, TEAM, V1, chain, hello};

/// Reads the text as a scraper does: each series with its value.
pub fn series(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parsed = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse::<f64>().unwrap())
    });
    let all: Vec<_> = parsed.collect();
    let found: BTreeMap<_, _> = all.iter().cloned().collect();
    assert_eq!(found.len(), all.len(), "a series is there twice");
    found
}

/// The names of all metrics, as they are registered.
fn families(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

/// The names of all samples: `_total`, `_bucket` and the like included.
fn samples(text: &str) -> BTreeSet<String> {
    series(text).keys().map(|name| name.split('{').next().unwrap().to_owned()).collect()
}

struct Watched {
    metrics: Arc<Metrics>,
    moved: BTreeSet<String>,
    last: BTreeMap<String, f64>,
}

impl Watched {
    fn new(metrics: Arc<Metrics>) -> Self {
        let last = series(&metrics.text());
        Self { metrics, moved: BTreeSet::new(), last }
    }

    /// Notes what is not as it was.
    fn look(&mut self) {
        let now = series(&self.metrics.text());
        let changed = now.iter().filter(|(name, value)| self.last.get(*name) != Some(value));
        self.moved.extend(changed.map(|(name, _)| name.clone()));
        self.last = now;
    }

    /// Waits until a series has moved.
    async fn until(&mut self, name: &str) {
        for _ in 0..3_000 {
            self.look();
            if self.moved.contains(name) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{name} does not move: {:#?}", self.last);
    }
}

/// What moves only where other parts of the relay tell of it, or for values of a label of which one stands for all.
fn stands_for_others(name: &str) -> bool {
    let gate = name.starts_with("rejoin_relay_gate_rejects_total{");
    // Told by the parts that refuse: driven here for one value each.
    let told = [
        "rejoin_relay_connections_refused_total{",
        "rejoin_relay_auth_failures_total{",
        "rejoin_relay_quota_rejects_total{",
    ];
    // Children end in several ways: the counting is the same line for all.
    let folds = ["rejoin_relay_folds_total{", "rejoin_relay_unfolds_total{"];
    // Readers fall behind on either protocol by the same lines.
    let behind = "rejoin_relay_connections_behind{protocol=\"classic\"}";
    let appends = ["owned", "read_only", "quota", "failed"]
        .map(|result| format!("rejoin_relay_appends_total{{result=\"{result}\"}}"));
    gate || name == behind
        || told.iter().chain(&folds).any(|start| name.starts_with(start))
        || appends.iter().any(|known| known == name)
}

/// What stays the same for as long as the relay lives.
const CONSTANT: [&str; 4] =
    ["process_start_time_seconds", "process_max_fds", "rejoin_relay_build_info", "rejoin_relay_disk_size_bytes"];

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_moves() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new());
    let mut watched = Watched::new(Arc::clone(&metrics));
    let store: Arc<dyn Store> = Arc::new(open_store(&folder.path().join("relay.redb")));
    let data = folder.path().to_owned();
    let relay = Relay::start_counting(store, Arc::clone(&metrics), |config| {
        config.data = data;
        config.fold = Some(script("kill -9 $$"));
        config.quota.document_bytes_max = 200_000;
        config.limits.connections_max = 4;
        config.limits.handshake_seconds = std::time::Duration::from_millis(300);
    })
    .await;
    watched.look();
    classic_traffic(&relay, &mut watched).await;
    v1_traffic(&relay, &mut watched).await;
    drive(&metrics, &mut watched);
    let (status, _) = crate::http::get(&relay, "/readyz").await;
    assert_eq!(status, 200);
    watched.until("rejoin_relay_ready").await;
    for name in ["process_cpu_seconds_total", "rejoin_relay_epoch_age_seconds", "rejoin_relay_store_bytes"] {
        watched.until(name).await;
    }
    // Somebody with a token that is none.
    let request = "POST /ticket HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer none\r\ncontent-length: 0\r\n\r\n";
    crate::http::ask(&relay, request).await;
    watched.until("rejoin_relay_auth_failures_total{reason=\"malformed\"}").await;
    let stopping = tokio::spawn(relay.stop());
    watched.until("rejoin_relay_draining").await;
    stopping.await.unwrap();

    let still: Vec<_> = watched.last.keys().filter(|name| !watched.moved.contains(*name)).collect();
    let missed: Vec<_> = still
        .into_iter()
        .filter(|name| !CONSTANT.contains(&name.split('{').next().unwrap()) && !stands_for_others(name))
        // Of a histogram the sum moves; which bucket does depends on the machine.
        .filter(|name| !name.contains("_bucket{"))
        .collect();
    assert!(missed.is_empty(), "these metrics are exported and nothing here moves them: {missed:#?}");
    // One series at least of each metric with labels.
    for family in families(&metrics.text()) {
        let moved = watched.moved.iter().any(|name| name.starts_with(&family));
        assert!(moved || CONSTANT.iter().any(|known| known.starts_with(&family)), "{family}");
    }
}

async fn classic_traffic(relay: &Relay, watched: &mut Watched) {
    let url = relay.url();
    let mut alice = Client::connect(&url, "alice").await;
    let mut bob = Client::connect(&url, "bob").await;
    alice.set(document(1), "a", 1);
    alice.open(document(1));
    bob.open(document(1));
    alice.until(|alice| alice.is_acknowledged(document(1))).await;
    bob.until(|bob| bob.count(document(1)) == 1).await;
    alice.set(document(1), "a", 2);
    alice.send_all().await;
    bob.until(|bob| bob.count(document(1)) == 2).await;
    watched.until("rejoin_relay_deliver_lag_seconds_count{protocol=\"classic\"}").await;
    watched.until("rejoin_relay_ack_seconds_count{protocol=\"classic\"}").await;
    // All places are taken: somebody who never joins, and one more; then one who comes to late.
    let silent = (Raw::connect(&url).await, Raw::connect(&url).await);
    assert!(tokio_tungstenite::connect_async(&url).await.is_err());
    watched.until("rejoin_relay_connections_refused_total{reason=\"full\"}").await;
    watched.until("rejoin_relay_connections_refused_total{reason=\"late\"}").await;
    drop(silent);
    alice.bury(document(1), DeletionKind::Deleted);
    alice.until(|alice| !alice.acknowledged.is_empty()).await;
    watched.until("rejoin_relay_deletions_total").await;
    drop((alice, bob));
    while watched.last["rejoin_relay_connections{protocol=\"classic\"}"] > 0.0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        watched.look();
    }
}

async fn v1_traffic(relay: &Relay, watched: &mut Watched) {
    let url = relay.url();
    let mut alice = V1::follow(&url, "alice", TEAM).await;
    let mut bob = V1::follow(&url, "bob", TEAM).await;
    let mut mallory = V1::connect(&url).await;
    mallory.send(&ClientMessage::Hello(Hello { token: Token::new("none"), ..hello("mallory", Vec::new()) })).await;
    watched.until("rejoin_relay_connections_refused_total{reason=\"unauthenticated\"}").await;
    drop(mallory);
    let writes = chain(document(2), "alice", 2, "k");
    alice.store(TEAM, writes.clone()).await;
    bob.changes(2).await;
    watched.until("rejoin_relay_deliver_lag_seconds_count{protocol=\"v1\"}").await;
    watched.until("rejoin_relay_ack_seconds_count{protocol=\"v1\"}").await;
    // A duplicate; one that is elsewhere; one whose dependency is missing; one that is no change; one of a deleted document.
    alice.store(TEAM, writes[..1].to_vec()).await;
    alice.store(HOME, writes.clone()).await;
    alice.store(TEAM, chain(document(3), "alice", 2, "k")[1..].to_vec()).await;
    let junk = Write {
        document: document(4),
        content: Content::Change(bytes::Bytes::from_static(b"these bytes are no change")),
    };
    alice.store(TEAM, vec![junk]).await;
    alice.store(HOME, chain(document(1), "carol", 1, "k")).await;
    // Another change of the same actor at the same place.
    alice.store(TEAM, chain(document(2), "alice", 1, "other")).await;
    watched.until("rejoin_relay_equivocations_total").await;
    for result in ["stored", "duplicate", "elsewhere", "missing", "rejected", "deleted"] {
        watched.until(&format!("rejoin_relay_appends_total{{result=\"{result}\"}}")).await;
    }
    // A long history is to be folded, by a child that dies of it; and it goes on until the document is full.
    let writes = chain(document(5), "dave", 3_000, "k");
    for some in writes.chunks(200) {
        alice.store(TEAM, some.to_vec()).await;
    }
    watched.until("rejoin_relay_child_crashes_total").await;
    watched.until("rejoin_relay_folds_total{result=\"crashed\"}").await;
    watched.until("rejoin_relay_quota_rejects_total{kind=\"document-bytes\"}").await;
    watched.until("rejoin_relay_appends_total{result=\"quota\"}").await;
    stalled_reader(relay, &mut alice, bob, watched).await;
}

/// One who follows and never reads: what waits for it is seen.
async fn stalled_reader(relay: &Relay, alice: &mut V1, bob: V1, watched: &mut Watched) {
    let values = |sequence| {
        let data = bytes::Bytes::from(vec![7; 200 << 10]);
        let (author, key) = (peer("alice"), "cursor".to_owned());
        vec![Presence { author, document: document(2), key, sequence, ttl_ms: 30_000, data }]
    };
    let _unread = V1::follow(&relay.url(), "eve", TEAM).await;
    for sequence in 1..=100 {
        alice.send(&ClientMessage::Presence { space: TEAM, values: values(sequence) }).await;
    }
    watched.until("rejoin_relay_backlog_bytes").await;
    let writes = chain(document(6), "alice", 1, "k");
    alice.store(TEAM, writes).await;
    watched.until("rejoin_relay_connections_behind{protocol=\"v1\"}").await;
    drop(bob);
}

/// What other tests bring about, because it takes a relay of its own or some time, is told here as the part that notices it tells it:
/// below, and in door.rs, fold.rs and idle.rs.
fn drive(metrics: &Arc<Metrics>, watched: &mut Watched) {
    metrics.connection_refused(RefusedConnection::Origin);
    metrics.log_lines_left_out(3);
    metrics.slow_consumer_closed();
    metrics.silent_peer_closed();
    metrics.commit_failed();
    metrics.unfolded(FoldResult::Done);
    // That backups and exports tell it: admin/watched.rs.
    let read = metrics.long_read();
    watched.look();
    drop(read);
    watched.look();
    watch_panics(metrics);
    let panicked = std::thread::spawn(|| panic!("a fault on purpose")).join();
    assert!(panicked.is_err());
    let _ = std::panic::take_hook();
    watched.look();
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_fail_are_counted_with_the_changes_in_them() {
    let (disk, metrics) = (FailingDisk::new(), Arc::new(Metrics::new()));
    let store = RedbStore::open_backend(disk.clone(), RedbOptions::new().quick_repair(true)).unwrap();
    let relay = Relay::start_counting(Arc::new(store), Arc::clone(&metrics), |_| ()).await;
    let counted = || {
        let found = series(&metrics.text());
        let appends = |result| found[&format!("rejoin_relay_appends_total{{result=\"{result}\"}}")];
        (found["rejoin_relay_commits_failed_total"], appends("failed"), appends("stored"))
    };
    let mut alice = V1::follow(&relay.url(), "alice", TEAM).await;
    let writes = chain(document(1), "alice", 3, "k");
    alice.store(TEAM, writes[..1].to_vec()).await;
    assert_eq!(counted(), (0.0, 0.0, 1.0));
    disk.fail_after(0, Failure::Full);
    let results = alice.store(TEAM, writes[1..].to_vec()).await;
    let [AckRun { count: 2, outcome: Outcome::Rejected(reject) }] = &results[..] else { panic!("{results:?}") };
    assert_eq!(reject.code, Code::NotStored);
    let (commits, failed, stored) = counted();
    assert!(commits >= 1.0, "{commits}");
    assert_eq!((failed, stored), (2.0, 1.0));
    disk.heal();
    while crate::http::get(&relay, "/readyz").await.0 != 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    alice.store(TEAM, writes[1..].to_vec()).await;
    assert_eq!(counted(), (commits, 2.0, 3.0));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_that_are_left_out_are_counted_and_said() {
    const STRANGERS: usize = 120;
    const LOG_LINES_BURST: usize = rejoin_relay::limits::LOG_LINES_BURST as usize;
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(BINARY);
    command.args(["serve", "--open", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.args(["--limits-upgrades-per-second", "0", "--data"]).arg(directory.path()).env_remove("RUST_LOG");
    let mut relay = Process::of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(relay.log());
    let mut until = |words: &str| {
        let (mut line, mut lines_before) = (String::new(), 0);
        while !line.contains(words) {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "{words:?} was never said");
            lines_before += 1;
        }
        (line, lines_before)
    };
    let listens = tokio::task::block_in_place(|| until("the admin API listens").0);
    let admin = listens.trim_end().rsplit("address=").next().unwrap().parse().unwrap();
    let text = "GET /metrics HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n";
    let left_out = async || {
        let (status, answer) = ask_at(admin, text).await;
        assert_eq!(status, 200);
        let line = answer.lines().find_map(|line| line.strip_prefix("rejoin_relay_log_lines_left_out_total "));
        line.unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(left_out().await, 0.0);
    for _ in 0..STRANGERS {
        let mut raw = Raw::join(&relay.url, "raw").await;
        raw.socket.send(Message::text("no frame")).await.unwrap();
        raw.closed().await;
    }
    let (said, lines) = tokio::task::block_in_place(|| until("log lines were left out"));
    assert!(lines < STRANGERS, "{lines}");
    // It is counted before it is said. What comes later may still be reported.
    let counted = left_out().await;
    assert!(counted >= 1.0 && counted <= (STRANGERS - LOG_LINES_BURST) as f64, "{counted}");
    assert!(said.contains("WARN") && said.contains("lines="), "{said}");
    relay.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn text_is_served_with_its_type() {
    let response = rejoin_relay::metrics::render(Arc::new(Metrics::new())).await;
    assert_eq!(response.headers()["content-type"], rejoin_relay::metrics::CONTENT_TYPE_OPENMETRICS);
}

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The names of metrics that a text uses.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    let ours = words.filter(|word| word.starts_with("rejoin_relay_") || word.starts_with("process_"));
    ours.map(str::to_owned).collect()
}

#[test]
fn dashboard_and_alerts_name_only_what_there_is() {
    let there = samples(&Metrics::new().text());
    for path in ["deploy/grafana.json", "deploy/alerts.yml"] {
        let unknown: Vec<_> = named(&read(path)).into_iter().filter(|name| !there.contains(name)).collect();
        assert!(unknown.is_empty(), "{path}: {unknown:?}");
    }
}

#[test]
fn dashboard_can_be_imported() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("deploy/grafana.json")).unwrap();
    assert!(dashboard["title"].is_string() && dashboard["schemaVersion"].is_u64() && dashboard["uid"].is_string());
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(panel["title"].is_string() && panel["gridPos"]["w"].is_u64(), "{panel}");
        assert!(panel["datasource"]["uid"] == "${datasource}", "{panel}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(targets.iter().all(|target| !target["expr"].as_str().unwrap().is_empty()), "{panel}");
    }
}

#[test]
fn every_metric_is_written_down_and_nothing_else() {
    let page = read("docs/observe.md");
    let there = families(&Metrics::new().text());
    let rows: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next())
        .filter(|name| name.starts_with("rejoin_relay_") || name.starts_with("process_"))
        .map(|name| name.trim_end_matches("_total").to_owned())
        .collect();
    let missing: Vec<_> = there.difference(&rows).collect();
    let unknown: Vec<_> = rows.difference(&there).filter(|name| *name != "rejoin_relay_build_info").collect();
    let missing: Vec<_> = missing.into_iter().filter(|name| *name != "rejoin_relay_build").collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:?}, unknown: {unknown:?}");
    let rules = rejoin::gate::Rule::ALL.len();
    assert!(page.contains(&format!("{rules} rules")), "the page counts other rules than the gate's {rules}");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_counted_by_protocol_and_direction() {
    let metrics = Arc::new(Metrics::new());
    let relay = Relay::start_counting(Arc::new(MemoryStore::new()), Arc::clone(&metrics), |_| ()).await;
    let mut raw = Raw::join(&relay.url(), "raw").await;
    raw.socket.send(Message::text("hello")).await.unwrap();
    raw.closed().await;
    let found = series(&metrics.text());
    assert_eq!(found["rejoin_relay_frames_total{protocol=\"classic\",direction=\"in\"}"], 1.0);
    // The peer frame, and the error.
    assert_eq!(found["rejoin_relay_frames_total{protocol=\"classic\",direction=\"out\"}"], 2.0);
    assert_eq!(found["rejoin_relay_frames_total{protocol=\"v1\",direction=\"in\"}"], 0.0);
    assert!(found["rejoin_relay_frame_bytes_total{protocol=\"classic\",direction=\"out\"}"] > 20.0);
    relay.stop().await;
}
