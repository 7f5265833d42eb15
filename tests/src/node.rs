//! An automerge-repo client or server in Node, driven by lines of JSON.

use std::process::Stdio;

use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A script of `tests/interop` that is running. Killed when dropped.
pub struct Node {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    id: u64,
}

impl Node {
    /// Starts a script.
    pub fn start(script: &str, arguments: &[&str]) -> Self {
        let folder = crate::package_dir().join("interop");
        assert!(folder.join("node_modules").exists(), "run `npm ci` in tests/interop, or `make test`");
        let mut child = Command::new("node")
            .arg(script)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("Node 20 or newer is installed");
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, input, output, id: 0 }
    }

    /// Starts a client and connects it.
    pub async fn connected(url: &str) -> Self {
        let mut client = Self::start("client.mjs", &[]);
        client.call("connect", json!({ "url": url })).await;
        client
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the process runs")
    }

    /// Reads the next line.
    pub async fn line(&mut self) -> Json {
        let line = self.output.next_line().await.unwrap().expect("the script goes on");
        serde_json::from_str(&line).unwrap()
    }

    /// Writes a line as it is.
    pub async fn write_line(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Gives a command and returns its answer, or what went wrong.
    pub async fn try_call(&mut self, op: &str, mut arguments: Json) -> Result<Json, String> {
        self.id += 1;
        arguments["id"] = self.id.into();
        arguments["op"] = op.into();
        self.write_line(&arguments.to_string()).await;
        let answer = self.line().await;
        assert_eq!(answer["id"], self.id, "answers come in order");
        if answer["ok"] == true { Ok(answer) } else { Err(answer["error"].as_str().unwrap_or_default().to_owned()) }
    }

    /// Gives a command that must succeed.
    pub async fn call(&mut self, op: &str, arguments: Json) -> Json {
        let shown = arguments.to_string();
        self.try_call(op, arguments).await.unwrap_or_else(|error| panic!("{op} {shown}: {error}"))
    }

    /// Makes edits.
    pub async fn change(&mut self, url: &str, edits: Json) {
        self.call("change", json!({ "url": url, "edits": edits })).await;
    }

    /// Returns the document.
    pub async fn value(&mut self, url: &str) -> Json {
        self.call("get", json!({ "url": url })).await["value"].take()
    }

    /// Finds a document, however long it takes to be announced.
    pub async fn find(&mut self, url: &str) {
        let found = self.call("find", json!({ "url": url, "patient": true, "timeout_ms": 30_000 })).await;
        assert_eq!(found["state"], "ready", "{found}");
    }

    /// Waits until the document has exactly these heads.
    pub async fn wait_heads(&mut self, url: &str, heads: &[String]) {
        self.call("waitHeads", json!({ "url": url, "heads": heads, "timeout_ms": 30_000 })).await;
    }
}
