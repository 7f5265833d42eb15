//! The notebook example: two of them and a relay, as a newcomer would try it.

use std::path::Path;
use std::process::Command;

use rejoin_tests::relay::RelayProcess;

/// Runs the notebook and returns what it printed, or its one line of complaint.
fn notes(store: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(rejoin_tests::binary("examples/notes"))
        .arg("--store")
        .arg(store)
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn two_notebooks_write_apart_and_rejoin() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(&folder.path().join("relay"));
    let (ada, ben) = (folder.path().join("ada.redb"), folder.path().join("ben.redb"));
    let id = notes(&ada, &["add", "Groceries"]).unwrap();
    assert_eq!(notes(&ada, &["sync", &relay.url()]).unwrap(), "1 notes, 0 changes pending");
    notes(&ben, &["sync", &relay.url(), &id]).unwrap();
    assert_eq!(notes(&ben, &["show", &id]).unwrap(), format!("{id} {{\"title\":\"Groceries\"}}"));

    notes(&ada, &["set", &id, "text", "milk"]).unwrap();
    notes(&ben, &["set", &id, "done", "no"]).unwrap();
    for notebook in [&ada, &ben, &ada] {
        notes(notebook, &["sync", &relay.url()]).unwrap();
    }
    let shown = notes(&ada, &["show"]).unwrap();
    assert_eq!(shown, format!("{id} {{\"done\":\"no\",\"text\":\"milk\",\"title\":\"Groceries\"}}"));
    assert_eq!(notes(&ben, &["show"]).unwrap(), shown);
    assert_eq!(notes(&ada, &["log", &id]).unwrap().lines().count(), 3);
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("notes.redb");
    let missing = notes(&store, &["show", "4NMNnkMhL8jXrdJ9jamS58PAVdXu"]).unwrap_err();
    assert!(missing.contains("no note 4NMNnkMhL8jXrdJ9jamS58PAVdXu here"), "{missing}");
    let nobody = notes(&store, &["sync", "ws://127.0.0.1:1"]).unwrap_err();
    assert!(nobody.starts_with("notes: failed to connect") && nobody.lines().count() == 1, "{nobody}");
    let address = notes(&store, &["sync", "http://127.0.0.1:1"]).unwrap_err();
    assert!(address.contains("ws://") && address.lines().count() == 1, "{address}");
    std::fs::write(&store, "no store at all, but a text that somebody wrote").unwrap();
    let foreign = notes(&store, &["show"]).unwrap_err();
    assert!(foreign.contains("is not a Rejoin store") && foreign.lines().count() == 1, "{foreign}");
}
