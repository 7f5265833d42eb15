//! The rules that need a history, each at its edge.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::limits::START_OP_JUMP_MAX;

fn change(seq: u64, start_op: u64) -> CheckedChange {
    encode(&field_draft(&[1; 16], seq, start_op, vec![])).unwrap()
}

fn verdict(change: &CheckedChange, facts: &Facts) -> &'static str {
    admit(change, facts).map_or_else(|error| error.rule().code(), |()| "ok")
}

fn after(seq: u64) -> Facts {
    Facts {
        deps_max_op: 10,
        own_last_seq: seq,
        own_last_is_ancestor: true,
        first_unknown_actor: None,
        document_max_op: 20,
    }
}

#[test]
fn first_change_has_the_number_one() {
    assert_eq!(verdict(&change(1, 1), &Facts::default()), "ok");
    assert_eq!(verdict(&change(2, 1), &Facts::default()), "seq-gap");
}

#[test]
fn numbers_go_up_by_one() {
    assert_eq!(verdict(&change(4, 11), &after(4)), "seq-reused");
    assert_eq!(verdict(&change(5, 11), &after(4)), "ok");
    assert_eq!(verdict(&change(6, 11), &after(4)), "seq-gap");
    let error = admit(&change(6, 11), &after(4)).unwrap_err();
    assert_eq!((error.found(), error.limit()), (Some(6), Some(5)));
}

#[test]
fn own_previous_change_must_be_an_ancestor() {
    let facts = Facts { own_last_is_ancestor: false, ..after(4) };
    assert_eq!(verdict(&change(5, 11), &facts), "own-dependency");
    assert_eq!(verdict(&change(1, 11), &Facts { own_last_seq: 0, ..facts }), "ok");
}

#[test]
fn first_counter_is_above_the_dependencies_and_not_far_above_all() {
    assert_eq!(verdict(&change(5, 10), &after(4)), "start-op-low");
    assert_eq!(verdict(&change(5, 11), &after(4)), "ok");
    let far = 20 + 1 + START_OP_JUMP_MAX;
    assert_eq!(verdict(&change(5, far - 1), &after(4)), "ok");
    assert_eq!(verdict(&change(5, far), &after(4)), "ok");
    assert_eq!(verdict(&change(5, far + 1), &after(4)), "start-op-jump");
}

#[test]
fn empty_change_starts_right_after_its_dependencies() {
    let empty = |start_op| {
        let forged = Forged::with(|forged| {
            (forged.seq, forged.start_op) = (5, start_op);
            forged.columns.clear();
        });
        CheckedChange::parse(&forged.chunk()).unwrap()
    };
    assert_eq!(verdict(&empty(10), &after(4)), "start-op-low");
    assert_eq!(verdict(&empty(11), &after(4)), "ok");
    assert_eq!(verdict(&empty(12), &after(4)), "start-op-jump");
}

#[test]
fn other_actors_must_be_known() {
    let facts = Facts { first_unknown_actor: Some(ActorId::from(&[2u8; 16][..])), ..after(4) };
    assert_eq!(verdict(&change(5, 11), &facts), "unknown-actor");
}

/// Looks the facts up as a ledger would, in the changes that came before.
fn facts_of(change: &CheckedChange, history: &HashMap<ChangeHash, CheckedChange>) -> Facts {
    let own = history.values().filter(|other| other.actor() == change.actor()).max_by_key(|other| other.seq());
    let mut ancestors = HashSet::new();
    let mut open = change.deps().to_vec();
    while let Some(hash) = open.pop() {
        if ancestors.insert(hash) {
            open.extend(history[&hash].deps());
        }
    }
    let known: HashSet<_> = history.values().map(CheckedChange::actor).collect();
    Facts {
        deps_max_op: change.deps().iter().map(|dep| history[dep].max_op()).max().unwrap_or(0),
        own_last_seq: own.map_or(0, CheckedChange::seq),
        own_last_is_ancestor: own.is_some_and(|own| ancestors.contains(&own.hash())),
        first_unknown_actor: change.other_actors().iter().find(|actor| !known.contains(actor)).cloned(),
        document_max_op: history.values().map(CheckedChange::max_op).max().unwrap_or(0),
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn honest_histories_are_admitted_change_by_change(seed: u64) {
        let mut history = HashMap::new();
        for change in honest_changes(seed) {
            let checked = CheckedChange::parse(change.raw_bytes()).unwrap();
            let facts = facts_of(&checked, &history);
            prop_assert_eq!(admit(&checked, &facts), Ok(()), "{:?} {:?}", checked, facts);
            history.insert(checked.hash(), checked);
        }
    }
}

#[test]
fn codes_are_kebab_case_and_unique() {
    let mut codes: Vec<_> = Rule::ALL.iter().map(Rule::code).collect();
    assert!(codes.iter().all(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
    codes.sort_unstable();
    let count = codes.len();
    codes.dedup();
    assert_eq!(codes.len(), count);
}

#[test]
fn errors_say_the_numbers() {
    let text = Rule::TooManyOps.found(20_000_000, 1_000_000).to_string();
    assert_eq!(text, "the change has too many operations (found 20000000, limit 1000000)");
    assert_eq!(Rule::Magic.error().to_string(), "a chunk does not start with 85 6f 4a 83");
}
