//! Devices and relays in one thread, from a seed: 2,000 seeds here, each twice. What fails prints one command that does it again.
//!
//! And what is broken on purpose is found: a checker that finds nothing then proves nothing otherwise.

use rejoin_tests::sim::{Canary, Plan, report, run, run_twice, shrink};

/// How many tests the seeds are spread over, so that all cores have some.
const SHARDS: u64 = 8;

/// How many seeds each of them has.
const SEEDS: u64 = 250;

/// How many seeds a fault may take to be found.
const CANARY_SEEDS: u64 = 120;

/// How often a failing seed is run to make it smaller.
const SHRINK_RUNS: usize = 150;

fn shard(number: u64) {
    assert!(number < SHARDS);
    let mut steps = 0;
    for seed in number * SEEDS..(number + 1) * SEEDS {
        let plan = Plan::of(seed);
        let outcome = run_twice(&plan);
        steps += outcome.steps;
        assert!(outcome.complaints.is_empty(), "{}", report(&plan, &outcome, &shrink(&plan, SHRINK_RUNS)));
    }
    assert!(steps > SEEDS * 100, "next to nothing happened in {SEEDS} seeds: {steps} steps");
}

macro_rules! shards {
    ($($name:ident $number:literal,)+) => {
        $(
            #[test]
            fn $name() {
                shard($number);
            }
        )+
    };
}

shards! {
    devices_come_to_the_same_and_nothing_is_lost_seeds_0_to_249 0,
    devices_come_to_the_same_and_nothing_is_lost_seeds_250_to_499 1,
    devices_come_to_the_same_and_nothing_is_lost_seeds_500_to_749 2,
    devices_come_to_the_same_and_nothing_is_lost_seeds_750_to_999 3,
    devices_come_to_the_same_and_nothing_is_lost_seeds_1000_to_1249 4,
    devices_come_to_the_same_and_nothing_is_lost_seeds_1250_to_1499 5,
    devices_come_to_the_same_and_nothing_is_lost_seeds_1500_to_1749 6,
    devices_come_to_the_same_and_nothing_is_lost_seeds_1750_to_1999 7,
}

/// Breaks something, and looks whether a checker says what.
fn is_found(canary: Canary, expected: &[&str]) {
    for seed in 0..CANARY_SEEDS {
        let plan = Plan { canary: Some(canary), ..Plan::of(seed) };
        let outcome = run(&plan, false);
        if let Some(complaint) = outcome.complaints.first() {
            assert!(expected.iter().any(|some| complaint.contains(some)), "{}: {complaint}", plan.command());
            return;
        }
    }
    panic!("{} is not found in {CANARY_SEEDS} seeds", canary.name());
}

#[test]
fn relay_that_answers_before_it_is_durable_is_found() {
    is_found(
        Canary::EarlyAck,
        &["with its power", "does not open", "come to the same", "is not on relay", "said to be"],
    );
}

#[test]
fn device_whose_disk_lies_is_found() {
    is_found(Canary::LyingDisk, &["with its power", "does not open", "is not on relay"]);
}

#[test]
fn relay_that_does_not_notice_a_revocation_is_found() {
    is_found(Canary::DeafRelay, &["after the right was taken away"]);
}

#[test]
fn cursor_that_moves_past_what_is_not_stored_is_found() {
    is_found(Canary::CursorAhead, &["come to the same", "said to be seen"]);
}

#[test]
fn wrong_winner_in_a_register_is_found() {
    is_found(Canary::LoserWins, &["automerge as"]);
}

#[test]
fn failing_seed_is_made_smaller_and_still_fails() {
    let plan = (0..CANARY_SEEDS)
        .map(|seed| Plan { canary: Some(Canary::DeafRelay), ..Plan::of(seed) })
        .find(|plan| !run(plan, false).complaints.is_empty())
        .unwrap();
    let small = shrink(&plan, SHRINK_RUNS);
    assert!(small.acts().len() < plan.acts().len() / 2, "{}", small.command());
    assert!(!run(&small, false).complaints.is_empty(), "{}", small.command());
    assert!(small.command().contains("rejoin-tests-simulate -- --seed "));
}
