//! The command line: what people and programs see of the admin API.

use std::process::{Command, Output};

use serde_json::Value as Json;
use tokio::task::block_in_place;

use super::Administered;
use crate::client::document;
use crate::v1::client::{TEAM, V1, chain};

/// Runs `rejoin-relay admin`, and returns whether it succeeded, and what it wrote to both outputs.
fn admin(relay: &Administered, arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rejoin-relay"));
    command.args(["admin", "--url", &relay.admin_url(), "--data"]).arg(relay.data.path()).args(arguments);
    let Output { status, stdout, stderr } = block_in_place(|| command.output().unwrap());
    (status.success(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

pub(super) fn good(relay: &Administered, arguments: &[&str]) -> String {
    let (succeeded, stdout, stderr) = admin(relay, arguments);
    assert!(succeeded && stderr.is_empty(), "{arguments:?}: {stdout}{stderr}");
    stdout
}

pub(super) fn bad(relay: &Administered, arguments: &[&str]) -> String {
    let (succeeded, stdout, stderr) = admin(relay, arguments);
    assert!(!succeeded && stdout.is_empty() && stderr.lines().count() == 1, "{arguments:?}: {stdout}{stderr}");
    assert!(stderr.starts_with("rejoin-relay: failed to "), "{stderr}");
    stderr
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_does_the_usual_things_on_the_command_line() {
    let relay = Administered::start().await;
    let mut alice = V1::follow(&relay.url(), "alice", TEAM).await;
    alice.store(TEAM, chain(document(1), "alice", 3, "k")).await;
    let team = TEAM.to_string();
    good(&relay, &["space", "set", &team, "--name", "the team"]);
    let spaces = good(&relay, &["space", "list"]);
    assert!(spaces.starts_with("ID") && spaces.contains("the team") && spaces.contains("default"), "{spaces}");
    assert!(good(&relay, &["space", "show", &team, "--usage"]).contains("usage.changes: 3"));
    good(&relay, &["principal", "create", "alice@example.org", "--label", "Alice"]);
    let made = good(
        &relay,
        &["token", "create", "alice@example.org", "--expires-in", "30days", "--scope", "space/default=read"],
    );
    let secret = made.lines().last().unwrap();
    assert!(secret.starts_with("rjt_"), "{made}");
    assert!(!good(&relay, &["token", "list"]).contains(secret));
    good(&relay, &["grant", "put", "alice@example.org", &format!("space/{team}"), "write", "--for", "1h"]);
    assert!(good(&relay, &["grant", "list"]).contains("write"));
    let id = document(1).to_string();
    assert!(good(&relay, &["document", "list", &team]).contains(&id));
    good(&relay, &["document", "quarantine", &id, "--reason", "odd"]);
    assert!(good(&relay, &["document", "quarantined"]).contains("odd"));
    good(&relay, &["document", "release", &id]);
    assert!(good(&relay, &["connection", "list"]).contains("rejoin.v1"));
    assert!(good(&relay, &["log", "tail", &team, "--limit", "1"]).contains(&id));
    assert!(good(&relay, &["audit", "list"]).contains("document.quarantine"));
    assert!(good(&relay, &["config", "show"]).contains("config.listen"));
    assert!(good(&relay, &["stats", "show"]).contains("connections: 1"));
    assert!(good(&relay, &["stats", "count"]).contains("result.changes: 3"));
    assert!(good(&relay, &["verify", "start"]).contains("result.sound: yes"));
    let file = relay.data.path().join("team.rejoin");
    let file = file.to_str().unwrap();
    good(&relay, &["space", "export", &team, "--to", file]);
    assert!(good(&relay, &["space", "import", &team, "--from", file]).contains("duplicates: 3"));
    let to = relay.data.path().join("copy");
    assert!(good(&relay, &["backup", "start", "--to", to.to_str().unwrap()]).contains("state: done"));
    good(&relay, &["document", "purge", &id, "--yes"]);
    good(&relay, &["space", "archive", &team]);
    assert!(good(&relay, &["space", "delete", &team, "--yes"]).contains("state: done"));
    let json: Json = serde_json::from_str(&good(&relay, &["--json", "space", "list"])).unwrap();
    assert_eq!(json["items"][0]["id"], "default");
    relay.stop().await;
}

/// The script that the page about backups shows does what the page says of it.
#[tokio::test(flavor = "multi_thread")]
async fn script_of_the_page_about_backups_makes_a_chain_that_can_be_restored() {
    let relay = Administered::start().await;
    let mut alice = V1::follow(&relay.url(), "alice", TEAM).await;
    let folder = tempfile::tempdir().unwrap();
    let page = include_str!("../../../docs/backup.md");
    let script = page.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let binary = env!("CARGO_BIN_EXE_rejoin-relay");
    let (url, data) = (relay.admin_url(), relay.data.path().display());
    let asks = format!("{binary} admin --url {url} --data {data}");
    // A second apart in earnest: each backup has a name of its own.
    let script = script
        .replace("dir=/backup", &format!("dir={}", folder.path().display()))
        .replace("rejoin-relay admin", &asks)
        .replace("%H%M%SZ", "%H%M%S%NZ");
    for (argument, actor) in [("full", "one"), ("", "two"), ("", "three")] {
        alice.store(TEAM, chain(document(1), actor, 3, "k")).await;
        let ran =
            block_in_place(|| Command::new("sh").args(["-c", &script, "rejoin-backup", argument]).output().unwrap());
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }
    let links = std::fs::read_to_string(folder.path().join("chain")).unwrap();
    assert_eq!(links.lines().count(), 3, "{links}");
    let restored = folder.path().join("restored");
    let ran =
        Command::new(binary).arg("restore").arg("--from").args(links.lines()).arg("--data").arg(&restored).output();
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(restored.join("relay.redb").exists());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_one_line_that_says_what_to_do() {
    let relay = Administered::start().await;
    let unsure = bad(&relay, &["space", "delete", &TEAM.to_string()]);
    assert!(unsure.contains("--yes"), "{unsure}");
    let unknown = bad(&relay, &["space", "show", &TEAM.to_string()]);
    assert!(unknown.contains("(space-unknown)"), "{unknown}");
    let unknown = bad(&relay, &["token", "create", "nobody"]);
    assert!(unknown.contains("principal create"), "{unknown}");
    let nobody = bad(&relay, &["--url", "http://127.0.0.1:1", "space", "list"]);
    assert!(nobody.contains("is the relay running"), "{nobody}");
    let file = relay.data.path().join("other");
    std::fs::write(&file, "rja_0123456789012345678901234567890123456789012").unwrap();
    let wrong = bad(&relay, &["--token-file", file.to_str().unwrap(), "space", "list"]);
    assert!(wrong.contains("check --token-file") && !wrong.contains("rja_"), "{wrong}");
    relay.stop().await;
}
