//! The commands for a stopped relay's data.

use std::path::Path;
use std::process::{Command, Output};

use rejoin::store::{RedbStore, Store, StoreExt, Table};

use crate::client::{document, set};
use crate::relay::open_store;

pub struct Said {
    pub code: i32,
    pub out: String,
    pub error: String,
}

pub fn run(arguments: &[&str], data: &Path) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rejoin-relay"));
    command.arg(arguments[0]).arg("--data").arg(data).args(&arguments[1..]).env_remove("RUST_LOG");
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (out, error) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    Said { code: status.code().unwrap(), out, error }
}

/// A relay's data with two documents.
fn filled(data: &Path) -> RedbStore {
    let store = open_store(&data.join("relay.redb"));
    for number in 1..=2 {
        for value in 1..=3 {
            set(&store, document(number), "alice", "a", value);
        }
    }
    store
}

#[test]
fn sound_data_is_backed_up_counted_and_restored() {
    let directory = tempfile::tempdir().unwrap();
    drop(filled(directory.path()));
    let said = run(&["verify"], directory.path());
    assert_eq!((said.code, said.error.as_str()), (0, ""), "{}", said.out);
    assert!(
        said.out.starts_with("2 documents, 6 changes, ") && said.out.trim_end().ends_with("all sound"),
        "{}",
        said.out
    );
    assert!(run(&["verify", "--json"], directory.path()).out.contains("\"sound\":true"));

    let copy = directory.path().join("copy.redb");
    let to = ["backup", "--to", copy.to_str().unwrap()];
    let said = run(&to, directory.path());
    assert_eq!(said.code, 0, "{}", said.error);
    assert!(said.out.starts_with("backed up "), "{}", said.out);
    let said = run(&to, directory.path());
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(
        said.error.starts_with("rejoin-relay: failed to back up to ") && said.error.contains("exists already"),
        "{}",
        said.error
    );

    let restored = tempfile::tempdir().unwrap();
    std::fs::rename(copy, restored.path().join("relay.redb")).unwrap();
    assert_eq!(run(&["verify"], restored.path()).code, 0);
    let said = run(&["stats", "--json"], restored.path());
    assert!(said.out.contains("\"documents\":2") && said.out.contains("\"changes\":6"), "{}", said.out);
    assert!(run(&["stats"], restored.path()).out.starts_with("2 documents, 6 changes, "));
}

#[test]
fn damage_ends_with_one_and_is_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path());
    let name = document(1).to_string();
    store.write_with(|tx| tx.delete_range(Table::Actor, &[]..&[0xff; 20])).unwrap();
    drop(store);
    let said = run(&["verify"], directory.path());
    assert_eq!((said.code, said.error.as_str()), (1, ""));
    assert!(said.out.contains(&name) && said.out.contains("repair the document"), "{}", said.out);
    let said = run(&["verify", "--json"], directory.path());
    assert_eq!(said.code, 1);
    assert!(said.out.contains("\"advice\":\"repair\"") && said.out.lines().count() == 1, "{}", said.out);
    for number in 1..=2 {
        let said = run(&["repair", "--document", &document(number).to_string()], directory.path());
        assert_eq!((said.code, said.out.as_str()), (0, "repaired a document of 3 changes\n"), "{}", said.error);
    }
    assert_eq!(run(&["verify"], directory.path()).code, 0);
    let said = run(&["repair", "--document", &document(9).to_string()], directory.path());
    assert!(said.code == 1 && said.error.starts_with("rejoin-relay: failed to find the document"), "{}", said.error);
}

#[test]
fn damage_of_the_directory_and_of_the_audit_trail_is_found() {
    for (table, key) in [(Table::Directory, &[1, b'a'][..]), (Table::Audit, &[1, 0, 0, 0, 0, 0, 0, 0, 1])] {
        let directory = tempfile::tempdir().unwrap();
        let store = filled(directory.path());
        store.write_with(|tx| tx.put(table, key, b"no record")).unwrap();
        drop(store);
        let said = run(&["verify"], directory.path());
        assert_eq!(said.code, 1);
        assert!(said.out.contains(table.name()), "{}", said.out);
    }
}

#[test]
fn nothing_is_made_where_nothing_is_and_a_store_in_use_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    for command in ["verify", "stats"] {
        let said = run(&[command], directory.path());
        assert!(said.code == 1 && said.error.contains("check --data"), "{}", said.error);
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    let _store = filled(directory.path());
    let said = run(&["verify"], directory.path());
    assert!(said.code == 1 && said.error.contains("in use by another process"), "{}", said.error);
}

#[test]
fn data_is_compacted_and_stays_what_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path());
    for value in 0..100 {
        set(&store, document(1), "bob", "b", value);
    }
    drop(store);
    let said = run(&["compact"], directory.path());
    assert_eq!((said.code, said.error.as_str()), (0, ""));
    assert!(said.out.starts_with("packed 103 changes; the file took "), "{}", said.out);
    let said = run(&["verify"], directory.path());
    assert!(said.out.starts_with("2 documents, 106 changes, ") && said.code == 0, "{}", said.out);
    assert!(run(&["compact"], tempfile::tempdir().unwrap().path()).error.contains("check --data"));
}

/// Returns what is on record of a stopped relay: actions and what they were about.
fn recorded(data: &Path) -> Vec<(String, Option<String>)> {
    let store = open_store(&data.join("relay.redb"));
    let mut found = Vec::new();
    let mut note = |_: &[u8], row: &[u8]| {
        let record: serde_json::Value = serde_json::from_slice(row).unwrap();
        assert_eq!((&record["kind"], &record["outcome"]), (&"act".into(), &"ok".into()));
        assert_eq!(record["who"], "command line");
        let text = |name: &str| record[name].as_str().map(str::to_owned);
        found.push((text("action").unwrap(), text("target")));
        std::ops::ControlFlow::Continue(())
    };
    store.read().unwrap().scan(Table::Audit, &[1]..&[2], &mut note).unwrap();
    found
}

#[test]
fn what_is_done_to_a_stopped_relay_is_on_record() {
    let directory = tempfile::tempdir().unwrap();
    drop(filled(directory.path()));
    let (kept, gone) = (document(1).to_string(), document(2).to_string());
    let dump = directory.path().join("dump");
    for arguments in [
        vec!["repair", "--document", &kept],
        vec!["purge", "--document", &gone],
        vec!["compact"],
        vec!["stats"],
        vec!["backup", "--to-dir", dump.to_str().unwrap()],
    ] {
        assert_eq!(run(&arguments, directory.path()).code, 0, "{arguments:?}");
    }
    assert_eq!(run(&["repair", "--document", &document(9).to_string()], directory.path()).code, 1);
    let acts = [
        ("document.repair".to_owned(), Some(format!("document/{kept}"))),
        ("document.purge".to_owned(), Some(format!("document/{gone}"))),
        ("store.compact".to_owned(), None),
    ];
    assert_eq!(recorded(directory.path()), acts);

    let restored = tempfile::tempdir().unwrap();
    let said = run(&["restore", "--from", dump.to_str().unwrap()], restored.path());
    assert_eq!(said.code, 0, "{}", said.error);
    assert_eq!(recorded(restored.path()).last(), Some(&("store.restore".to_owned(), None)));
    assert_eq!(run(&["verify"], restored.path()).code, 0);
}
