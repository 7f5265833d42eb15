//! Merging: of any parts of any history, in any order, the same document comes out.

use std::collections::HashSet;

use automerge::{AutoSerde, Automerge, Change, ChangeHash};
use proptest::prelude::*;
use rejoin::engine::{self, Origin};
use rejoin::fields;
use rejoin::gate::CheckedChange;
use rejoin::ledger;
use rejoin::store::{MemoryStore, Store, StoreExt};
use serde_json::Value as Json;

use crate::histories;
use crate::world::{DOCUMENT, Dice, tables_of};

/// Everything that is the same wherever a document has the same changes.
#[derive(Debug, PartialEq)]
struct Shown {
    heads: Vec<ChangeHash>,
    /// What Automerge shows of the changes.
    json: Json,
    /// What the registers show, if they alone can.
    fields: Option<Json>,
    /// Every register, to the last byte.
    registers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The changes of a history, dependencies first.
fn history(seed: u64) -> Vec<CheckedChange> {
    histories::play(seed).0.changes()
}

/// A part of a history: those that are chosen and whose dependencies are.
fn part(history: &[CheckedChange], chosen: u64) -> Vec<CheckedChange> {
    let mut dice = Dice::new(chosen);
    // Nearly everything, about half, or nearly nothing.
    let of_ten = *dice.pick(&[9, 5, 7, 2]);
    let mut there = HashSet::new();
    let is_in = |change: &&CheckedChange| {
        let is_in = change.deps().iter().all(|dep| there.contains(dep)) && dice.roll(10) < of_ten;
        if is_in {
            there.insert(change.hash());
        }
        is_in
    };
    history.iter().filter(is_in).cloned().collect()
}

/// Makes a store of changes; returns it with how many were new.
fn merged(parts: &[&[CheckedChange]]) -> (MemoryStore, usize) {
    let store = MemoryStore::new();
    store.write_with(|tx| ledger::create(tx, &DOCUMENT)).unwrap();
    let mut stored = 0;
    for part in parts {
        stored = store.write_with(|tx| engine::accept(tx, DOCUMENT, part.to_vec(), Origin::Remote)).unwrap().stored;
    }
    (store, stored)
}

/// What a store has, in the order in which it came to have it.
fn export(store: &MemoryStore) -> Vec<CheckedChange> {
    let mut changes = Vec::new();
    ledger::export(&*store.read().unwrap(), &DOCUMENT, 0, &mut |bytes| {
        changes.push(CheckedChange::parse(bytes).unwrap());
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    changes
}

fn shown(store: &MemoryStore) -> Shown {
    let tx = store.read().unwrap();
    let mut document = Automerge::new();
    let changes = export(store).into_iter().map(|change| Change::from_bytes(change.bytes().to_vec()).unwrap());
    document.apply_changes(changes).unwrap();
    Shown {
        heads: ledger::heads(&*tx, &DOCUMENT).unwrap(),
        json: serde_json::to_value(AutoSerde::from(&document)).unwrap(),
        fields: fields::to_json(&*tx, &DOCUMENT).unwrap().ok().flatten(),
        registers: tables_of(store),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn merge_commutes(seed in 0..1_000_000u64, one: u64, other: u64) {
        let history = history(seed);
        let (one, other) = (part(&history, one), part(&history, other));
        prop_assert_eq!(shown(&merged(&[&one, &other]).0), shown(&merged(&[&other, &one]).0));
    }

    #[test]
    fn merge_associates(seed in 0..1_000_000u64, one: u64, two: u64, three: u64) {
        let history = history(seed);
        let [one, two, three] = [one, two, three].map(|chosen| part(&history, chosen));
        let (first_two, last_two) = (export(&merged(&[&one, &two]).0), export(&merged(&[&two, &three]).0));
        let left = merged(&[&first_two, &three]).0;
        let right = merged(&[&one, &last_two]).0;
        prop_assert_eq!(shown(&left), shown(&right));
    }

    #[test]
    fn merge_is_idempotent(seed in 0..1_000_000u64, one: u64, other: u64) {
        let history = history(seed);
        let (one, other) = (part(&history, one), part(&history, other));
        let (once, _) = merged(&[&one, &other]);
        let all = export(&once);
        for again in [&one, &other, &all] {
            let (twice, stored) = merged(&[&all, again]);
            prop_assert_eq!(stored, 0, "what is there is taken twice");
            prop_assert_eq!(shown(&twice), shown(&once));
        }
        prop_assert_eq!(shown(&merged(&[&all, &[]]).0), shown(&once), "merging with nothing changes something");
    }
}

/// Where parts are always all or nothing, the laws above test nothing.
#[test]
fn parts_of_histories_differ() {
    let (mut alone, mut together, mut apart) = (0, 0, 0);
    for seed in 0..60 {
        let history = history(seed);
        let (one, other) = (part(&history, seed * 2), part(&history, seed * 2 + 1));
        let hashes = |part: &[CheckedChange]| part.iter().map(CheckedChange::hash).collect::<HashSet<_>>();
        let (one, other) = (hashes(&one), hashes(&other));
        alone += usize::from(one.difference(&other).count() > 0 && other.difference(&one).count() > 0);
        together += usize::from(one.intersection(&other).count() > 0);
        apart += usize::from(one.len() < history.len());
    }
    assert!(alone > 10 && together > 10 && apart > 10, "{alone} {together} {apart}");
}
