//! What an operator does: look at the configuration, change it while the relay runs, ask whether the relay is well.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use tokio_tungstenite::connect_async;

use crate::process::{BINARY, Process};

/// Runs the binary to its end: whether it went well, what it printed, what it complained about.
fn run(args: &[&str]) -> (bool, String, String) {
    let output = Command::new(BINARY).args(args).env_remove("RUST_LOG").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn write(directory: &Path, text: &str) -> String {
    let path = directory.join("relay.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn config_check_prints_what_counts_and_where_it_comes_from() {
    let directory = tempfile::tempdir().unwrap();
    let text = "data = 'data'\n[auth]\nkeys = [{ id = 'a', alg = 'HS256', secret = 'hunter2' }]";
    let path = write(directory.path(), text);
    let args = ["config", "check", "--config", &path, "--open", "--listen", "0.0.0.0:3030", "--connections-max", "7"];
    let (is_good, out, complaints) = run(&args);
    assert!(is_good, "{complaints}");
    assert!(out.contains("connections_max = 7  # --limits-connections-max"), "{out}");
    assert!(out.contains("relay.toml line 3") && !out.contains("hunter2"), "{out}");
    assert!(complaints.contains("warning: open = true") && complaints.contains("note: no TLS"), "{complaints}");
    // What it prints is a file again.
    let again = write(directory.path(), &out.replace("[redacted]", "hunter2"));
    assert!(run(&["config", "check", "--config", &again]).0);
}

#[test]
fn config_check_names_every_mistake_and_fails() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), "data = 'data'\n[limits]\nconections_max = 1\n[tls]\ncert_file = 'a'");
    let (is_good, out, complaints) = run(&["config", "check", "--config", &path]);
    assert!(!is_good && out.is_empty());
    assert!(
        complaints.contains("line 3") && complaints.contains("did you mean limits.connections_max?"),
        "{complaints}"
    );
    assert!(complaints.contains("both or none"), "{complaints}");
    let (is_good, _, complaints) = run(&["serve", "--config", &path]);
    assert!(!is_good && complaints.lines().count() == 1 && complaints.contains("conections_max"), "{complaints}");
    let (_, _, complaints) = run(&["serve", "--limits-conections-max", "1"]);
    assert!(complaints.contains("--limits-connections-max"), "{complaints}");
}

#[test]
fn page_and_example_are_printed() {
    assert!(run(&["config", "docs"]).1.starts_with("# Configuration"));
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), &run(&["config", "example"]).1);
    assert!(run(&["config", "check", "--config", &path]).0);
}

#[test]
fn healthcheck_tells_a_relay_that_is_ready_from_one_that_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let relay = Process::start(directory.path());
    let address = relay.url.trim_start_matches("ws://").to_owned();
    let (is_well, out, complaints) = run(&["healthcheck", "--url", &format!("http://{address}/readyz")]);
    assert!(is_well && out.starts_with("200"), "{out}{complaints}");
    assert!(run(&["healthcheck", "--admin-enabled=false", "--listen", &address]).0);
    let (is_well, out, _) = run(&["healthcheck", "--url", &format!("http://{address}/nowhere")]);
    assert!(!is_well && out.starts_with("404"), "{out}");
    drop(relay);
    let (is_well, _, complaints) = run(&["healthcheck", "--admin-enabled=false", "--listen", &address]);
    assert!(!is_well && complaints.contains(&address), "{complaints}");
}

/// Passes a child's log lines on until one of them has these words.
fn until(lines: &Receiver<String>, words: &str) -> Vec<String> {
    let mut seen = Vec::new();
    for line in lines {
        seen.push(line);
        if seen.last().unwrap().contains(words) {
            return seen;
        }
    }
    panic!("{words:?} was never said: {seen:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hangup_reads_the_file_again_and_a_mistake_in_it_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), "");
    let mut relay = Process::start_with(&directory.path().join("data"), |command| {
        command.args(["--config", &path]).stderr(Stdio::piped());
    });
    let (sender, lines) = channel();
    let log = relay.log();
    std::thread::spawn(move || {
        BufReader::new(log).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    until(&lines, "open = true");
    let _first = connect_async(&relay.url).await.unwrap();

    write(directory.path(), "[limits]\nconnections_max = 1\nconections_max = 1");
    relay.signal("HUP");
    until(&lines, "did you mean limits.connections_max?");
    let second = connect_async(&relay.url).await.unwrap();
    drop(second);

    write(
        directory.path(),
        "demo = ''\n[limits]\nconnections_max = 1\n[admin]\ntoken_file = 'a'\n[log]\nfilter = 'debug'",
    );
    relay.signal("HUP");
    let said = until(&lines, "log.filter").join("\n");
    assert!(said.contains("limits.connections_max") && said.contains("with the next start"), "{said}");
    while connect_async(&relay.url).await.is_ok() {
        tokio::task::yield_now().await;
    }
    // Lines below "info" are there now.
    until(&lines, "DEBUG");
}
