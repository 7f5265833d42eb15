//! The conformance kit of `tests/conformance`, played against our relay, against automerge-repo's own server and against samod; and
//! against relays that are wrong on purpose, to show that it tells.

use std::process::Stdio;
use std::time::Duration;

use rejoin_tests::{binary, package_dir};
use tokio::process::Command;
use tokio::time::timeout;

/// Longer than any part of the kit takes: it only ends a run that hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs a script of the kit, and returns what it printed; it has to end well.
async fn kit(arguments: &[&str]) -> String {
    let mut command = Command::new("node");
    command.args(arguments).current_dir(package_dir().join("conformance"));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output =
        timeout(PATIENCE, command.output()).await.expect("the kit comes to an end").expect("node is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// The command that starts our relay on a free port, where everybody may do everything.
fn relay() -> String {
    let path = binary("rejoin-relay");
    format!("{} serve --open --admin-enabled=false --data {{dir}} --listen 127.0.0.1:0", path.display())
}

/// Plays all sessions of a protocol, those that may be met too, and returns the last line: how many passed.
async fn play(protocol: &str, implementation: &str, server: &str) -> String {
    let arguments =
        ["run.mjs", "--strict", "--protocol", protocol, "--implementation", implementation, "--server", server];
    let said = kit(&arguments).await;
    said.lines().last().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn kit_is_in_order() {
    kit(&["run.mjs", "--frames"]).await;
    kit(&["check.mjs"]).await;
}

#[tokio::test]
async fn our_relay_passes_every_classic_session() {
    let last = play("classic", "rejoin", &relay()).await;
    assert!(last.ends_with("passed, 0 failed"), "without a deviation: {last}");
}

#[tokio::test]
async fn our_relay_passes_every_v1_session() {
    let last = play("v1", "rejoin", &relay()).await;
    assert!(last.ends_with("passed, 0 failed"), "without a deviation: {last}");
}

#[tokio::test]
async fn automerge_repo_deviates_exactly_where_the_kit_says() {
    assert!(package_dir().join("interop/node_modules").exists(), "run `npm ci` in tests/interop, or `make test`");
    play("classic", "automerge-repo", "node ../interop/server.mjs").await;
}

#[tokio::test]
async fn samod_deviates_exactly_where_the_kit_says() {
    play("classic", "samod", &binary("rejoin-tests-samod-server").display().to_string()).await;
}

#[tokio::test]
async fn kit_tells_relays_that_are_wrong_on_purpose() {
    kit(&["mutants.mjs", "--server", &relay()]).await;
}
