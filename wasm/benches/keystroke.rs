//! What a keystroke in a text of 100,000 characters costs, from the request to the patch; and a field write.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use rejoin::store::MemoryStore;
use rejoin::{ConnectOptions, Connection, DocumentId, Repo};
use rejoin_wasm::{Engine, Failure, Host, Task};
use serde_json::json;

#[derive(Default)]
struct Counter(Cell<usize>);

impl Host for Counter {
    fn event(&self, _: &str, json: &str) {
        self.0.set(self.0.get() + usize::from(json.contains("\"patch\"")));
    }

    fn spawn(&self, task: Task) {
        tokio::task::spawn_local(task);
    }

    fn connect(&self, _: &Repo, _: &str, _: &ConnectOptions) -> Result<Connection, Failure> {
        Err(Failure::argument("no network"))
    }
}

async fn measure(name: &str, start: serde_json::Value, ops: impl Fn(u64) -> serde_json::Value, is_stale: bool) {
    const ROUNDS: u64 = 200;
    let host = Rc::new(Counter::default());
    let engine = Engine::new(Repo::with_store(Arc::new(MemoryStore::new())).unwrap(), Rc::<Counter>::clone(&host));
    let doc = DocumentId::from_bytes([1; 16]).to_string();
    let call = async |id: u64, method: &str, args: serde_json::Value| {
        engine.call("a", id, id - 1, method, &args.to_string(), None).await.unwrap()
    };
    call(1, "create", json!([doc, null, start])).await;
    let rejoin_wasm::Answer::Json(opened) = call(2, "open", json!([doc, false])).await else { return };
    let base = if is_stale { json!({ "heads": opened["heads"], "own": [] }) } else { json!(null) };
    let rounds = if is_stale { 20 } else { ROUNDS };
    let begin = Instant::now();
    for round in 0..rounds {
        let seen = host.0.get();
        call(3 + round, "edit", json!([doc, base, ops(round)])).await;
        while host.0.get() == seen {
            tokio::task::yield_now().await;
        }
    }
    println!("{name}: {:?} each", begin.elapsed() / u32::try_from(rounds).unwrap());
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let long = json!({ "body": { "$text": "0123456789".repeat(10_000) }, "title": "x" });
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let splice = |round: u64| json!([["splice", ["body"], 50_000 + round, 0, "x"]]);
        measure("keystroke in 100 kB", long.clone(), splice, false).await;
        measure("keystroke at an earlier state in 100 kB", long.clone(), splice, true).await;
        let set = |round: u64| json!([["set", ["title"], round]]);
        measure("field write beside 100 kB", long, set, false).await;
        measure("field write, maps only", json!({ "title": "x" }), set, false).await;
    });
}
