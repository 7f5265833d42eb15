//! Histories written by every version of Automerge since the binary format: what is honest passes, and is read as
//! Automerge reads it. `core/tests/fixtures/histories/README.md` says how they were made.
//!
//! `REJOIN_HISTORY_FILES=folder` reads more of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stderr, reason = "the counts are for whoever thinks of a new rule")]

#[path = "registers/historic.rs"]
#[allow(dead_code, reason = "this test asks for no earlier states")]
mod historic;
#[path = "registers/histories.rs"]
#[allow(dead_code, reason = "this test counts other things")]
mod histories;
#[path = "honest_versions/references.rs"]
mod references;
#[path = "registers/world.rs"]
#[allow(dead_code, reason = "this test uses only some of it")]
mod world;

use std::collections::BTreeSet;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use automerge::{Automerge, Change};
use references::{Counts, NEVER, References};
use rejoin::ActorId;
use rejoin::document::Materialised;
use rejoin::document::json::to_json;
use rejoin::engine::{Origin, accept};
use rejoin::fields;
use rejoin::gate::{CheckedChange, Rule, chunks};
use rejoin::ledger::Appended;
use rejoin::store::{MemoryStore, ReadTx, Store, StoreExt};
use serde_json::Value as Json;
use world::{DOCUMENT, Dice, Replica, assert_registers_agree, made_by};

/// What no version of Automerge can live with, though a released one wrote it: the rule that refuses it, and why that is right.
const REFUSED: [(&str, Rule, &str); 6] = [
    ("js-1.0.1-preview.1", Rule::Truncated, "floats of 4 bytes: Automerge does not decode them any more"),
    ("js-1.0.1-preview.4-table", Rule::ObjectKind, "rows of a table: Automerge panics"),
    ("js-1.0.1-preview.7-table", Rule::ObjectKind, "rows of a table: Automerge panics"),
    ("js-3.0.0-empty", Rule::ActorOrder, "empty changes name their author twice: what Automerge saves does not load"),
    ("js-3.1.2-empty", Rule::ActorOrder, "empty changes name their author twice: what Automerge saves does not load"),
    (
        "js-3.5.0-empty-then-change-at",
        Rule::OwnDependency,
        "an edit of heads before the actor's own empty change stands beside that: in another order it is a gap, and a panic",
    ),
];

/// What a version itself showed otherwise than Automerge 0.12 does: the fields, and why.
const SHOWED_OTHERWISE: [(&str, &[&str], &str); 5] = [
    ("js-1.0.1-preview.4", &["counter"], "a second increment in one change names the first, and hides the counter"),
    ("js-2.0.0", &["shared"], OTHER_WINNER),
    ("js-3.1.2", &["attrs", "parents", "type"], "a block that is replaced shows up at the root as well"),
    ("rust-0.2.0", &["n0", "n1", "n2", "n3", "n4", "n5", "n6", "shared", "title"], OTHER_WINNER),
    ("rust-0.3.0", &["n0", "n1", "n2", "n3", "n4", "n5", "n6", "shared", "title"], OTHER_WINNER),
];

const OTHER_WINNER: &str = "another of the conflicting values is shown as the winner";

/// Every history's name and files.
fn stored() -> Vec<(String, PathBuf)> {
    let ours = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/histories"));
    let more = std::env::var_os("REJOIN_HISTORY_FILES").map(PathBuf::from);
    let mut found = Vec::new();
    for folder in [Some(ours), more].into_iter().flatten() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if let Some(name) = name.strip_suffix(".changes").or(name.strip_suffix(".changes.zlib")) {
                found.push((name.to_owned(), path));
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    if path.extension().is_some_and(|extension| extension == "zlib") {
        let mut inflated = Vec::new();
        flate2::read::ZlibDecoder::new(&bytes[..]).read_to_end(&mut inflated).unwrap();
        return inflated;
    }
    bytes
}

fn changes_of(path: &Path) -> Result<Vec<CheckedChange>, Rule> {
    let bytes = read(path);
    let checked = chunks(&bytes)
        .map(|chunk| CheckedChange::from_chunk(&chunk.map_err(|error| error.rule())?).map_err(|error| error.rule()));
    checked.collect()
}

/// The JSON that the version itself saw, if it was kept.
fn json_beside(path: &Path) -> Option<Json> {
    let name = path.to_string_lossy().replace(".changes", ".json");
    Path::new(&name).exists().then(|| serde_json::from_slice(&read(Path::new(&name))).unwrap())
}

/// JavaScript has one type of number.
fn same_json(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Number(left), Json::Number(right)) => left.as_f64() == right.as_f64(),
        (Json::Array(left), Json::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same_json(left, right))
        }
        (Json::Object(left), Json::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, left)| right.get(key).is_some_and(|right| same_json(left, right)))
        }
        _ => left == right,
    }
}

/// The fields of the root that are not the same.
fn differing_keys(ours: &Json, theirs: &Json) -> BTreeSet<String> {
    let (Json::Object(ours), Json::Object(theirs)) = (ours, theirs) else { panic!("a document is an object") };
    let same = |key: &String| match (ours.get(key), theirs.get(key)) {
        (Some(ours), Some(theirs)) => same_json(ours, theirs),
        _ => false,
    };
    ours.keys().chain(theirs.keys()).filter(|key| !same(key)).cloned().collect()
}

/// Takes a history in as from a network, and holds everything against Automerge. Returns how many fields were compared.
fn take_in(name: &str, path: &Path, counts: &mut Counts) -> Result<usize, Rule> {
    let changes = changes_of(path)?;
    let mut references = References::default();
    let mut objects = BTreeSet::from([fields::ObjectId::Root]);
    for change in &changes {
        references.read(change);
        objects.extend(made_by(change));
    }
    let store = MemoryStore::new();
    let accepted = store.write_with(|tx| accept(tx, DOCUMENT, changes.clone(), Origin::Remote)).unwrap();
    for (index, (change, appended)) in accepted.results.iter().enumerate() {
        match appended {
            Appended::Stored { .. } => {}
            Appended::Rejected(error) => return Err(error.rule()),
            other => panic!("{name}: change {index} {change:?}: {other:?}"),
        }
    }
    for (what, count) in references.counts {
        *counts.entry(what).or_default() += count;
        if NEVER.contains(&what) && count > 0 {
            eprintln!("{name}: {what}: {count}");
        }
    }

    let mut doc = Automerge::new();
    doc.apply_changes(changes.iter().map(|change| Change::from_bytes(change.bytes().to_vec()).unwrap())).unwrap();
    let tx = store.read().unwrap();
    let compared = assert_registers_agree(&*tx, &doc, &objects);
    assert_json_agrees(name, path, &*tx, &doc);
    let loaded = Automerge::load(&doc.save()).unwrap();
    assert_eq!(loaded.get_heads(), doc.get_heads(), "{name}: it is saved as another document");
    Ok(compared)
}

/// What an application reads is what Automerge shows, and what the version itself showed.
fn assert_json_agrees(name: &str, path: &Path, tx: &dyn ReadTx, doc: &Automerge) {
    let json = to_json(doc).unwrap();
    if let Some(from_fields) = fields::to_json(tx, &DOCUMENT).unwrap().unwrap() {
        assert!(same_json(&from_fields, &json), "{name}: registers and document show other JSON");
    }
    let mut materialised = Materialised::new(DOCUMENT, ActorId::from(&[1]));
    materialised.catch_up(tx).unwrap();
    let materialised = to_json(materialised.automerge()).unwrap();
    assert!(same_json(&materialised, &json), "{name}: the ledger makes another document");
    if let Some(theirs) = json_beside(path) {
        let differing = differing_keys(&json, &theirs);
        let known = SHOWED_OTHERWISE.iter().find(|(other, ..)| *other == name).map_or(&[][..], |(_, keys, _)| keys);
        assert!(differing.iter().eq(known), "{name}: fields that the version showed otherwise: {differing:?}");
    }
}

#[test]
fn histories_of_every_version_pass_and_registers_agree() {
    let mut counts = Counts::new();
    let mut compared = 0;
    let histories = stored();
    let mut failed = Vec::new();
    for (name, path) in &histories {
        // One that fails says so, and the others are still read.
        let taken = catch_unwind(AssertUnwindSafe(|| take_in(name, path, &mut counts)));
        let refused = REFUSED.iter().find(|(other, ..)| other == name).map(|(_, rule, _)| *rule);
        match (taken, refused) {
            (Ok(Ok(fields)), None) => compared += fields,
            (Ok(Err(rule)), Some(expected)) if rule == expected => {}
            (other, _) => {
                eprintln!("{name}: {other:?}");
                failed.push(name);
            }
        }
    }
    eprintln!("{} histories, {compared} fields compared", histories.len());
    assert_nothing_broken(&counts);
    assert!(failed.is_empty(), "{failed:?} failed");
}

#[test]
fn old_histories_go_on_with_the_fields_and_documents_of_today() {
    for (name, path) in stored() {
        if REFUSED.iter().any(|(other, ..)| *other == name) {
            continue;
        }
        let changes = changes_of(&path).unwrap();
        let mut dice = Dice::new(changes.len() as u64);
        let mut replicas = [Replica::new(&[0xab; 16]), Replica::new(&[0x05; 16])];
        replicas.iter_mut().for_each(|replica| replica.receive(&changes, true));
        for step in 0..40 {
            let replica = &mut replicas[step % 2];
            if dice.roll(2) == 0 {
                histories::write_fields(replica, &mut dice);
            } else {
                histories::edit_document(replica, &mut dice);
            }
        }
        let [one, other] = &mut replicas;
        one.take(other.news_for(one).into_iter(), true);
        assert!(one.log.len() > changes.len() + 5, "{name}: hardly anything was written");
        one.assert_agrees();
        let loaded = Automerge::load(&one.doc().save()).unwrap();
        assert_eq!(loaded.get_heads(), one.heads(), "{name}: it is saved as another document");
    }
}

#[test]
fn random_histories_refer_only_to_what_their_authors_can_know() {
    let count = std::env::var("REJOIN_HISTORIES").ok().and_then(|count| count.parse().ok()).unwrap_or(500);
    let mut counts = Counts::new();
    for seed in 0..count {
        let mut references = References::default();
        for both in histories::play(seed).0.log {
            references.read(&both.checked);
        }
        references.counts.into_iter().for_each(|(what, count)| *counts.entry(what).or_default() += count);
    }
    assert_nothing_broken(&counts);
}

fn assert_nothing_broken(counts: &Counts) {
    counts.iter().for_each(|(what, count)| eprintln!("{count:>8} {what}"));
    let broken: Vec<_> = NEVER.iter().filter(|what| counts.get(*what).is_some_and(|count| *count > 0)).collect();
    assert!(broken.is_empty(), "honest authors do write: {broken:?}");
}
