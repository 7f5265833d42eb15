//! Registers and Automerge agree on every document: directed histories first, then thousands of random ones.
//!
//! `REJOIN_SEED=...` replays one history. `REJOIN_HISTORIES=1000000` runs more of them, `REJOIN_HISTORIES=big` never ends,
//! `REJOIN_MINUTES=60` ends after an hour; `REJOIN_FIRST_SEED=...` begins elsewhere.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stderr, reason = "a failing history prints what replays it")]

#[path = "registers/directed.rs"]
mod directed;
#[path = "registers/historic.rs"]
mod historic;
#[path = "registers/histories.rs"]
mod histories;
#[path = "registers/world.rs"]
mod world;

use std::time::{Duration, Instant};

use histories::Seen;

/// How many random histories every run of the tests sees, in four parts that a runner can spread.
const HISTORIES: u64 = 20_000;
const PARTS: u64 = 4;

/// How far apart the progress of a long run is told, in histories.
const PROGRESS: u64 = 50_000;

/// Names the seed if the history under way fails.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with: REJOIN_SEED={} cargo test -p rejoin --test registers random", self.0);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Runs one part of the random histories.
fn run_part(part: u64) {
    let minutes = number("REJOIN_MINUTES");
    let first = number("REJOIN_FIRST_SEED").unwrap_or(0);
    let (mut seed, step, count) = match (number("REJOIN_SEED"), std::env::var("REJOIN_HISTORIES").as_deref()) {
        (Some(_), _) if part > 0 => return,
        (Some(seed), _) => (seed, 1, 1),
        (None, Ok("big")) => (first + part, PARTS, u64::MAX),
        (None, Ok(count)) => (first + part, PARTS, count.parse::<u64>().unwrap().div_ceil(PARTS)),
        (None, Err(_)) if minutes.is_some() => (first + part, PARTS, u64::MAX),
        (None, Err(_)) => (first + part, PARTS, HISTORIES / PARTS),
    };
    let started = Instant::now();
    let late = || minutes.is_some_and(|minutes| started.elapsed() > Duration::from_secs(60 * minutes));
    let mut seen = Seen::default();
    while seen.histories < count && !late() {
        let _replay = Replay(seed);
        seen.add(&histories::run(seed));
        seed += step;
        if seen.histories.is_multiple_of(PROGRESS) {
            eprintln!("part {part}: {seen:?}");
        }
    }
    eprintln!("part {part}: {seen:?}");
    if seen.histories >= 1_000 {
        let Seen { histories, compared, compared_at, synthesised, ordinary, deep_conflicts, .. } = seen;
        let Seen { conflicts, counter_conflicts, lost, restarts, .. } = seen;
        let each = [compared, compared_at, synthesised, ordinary, conflicts, counter_conflicts, lost, restarts];
        assert!(each.iter().all(|seen| *seen as u64 > histories / 10), "too little of something: {seen:?}");
        assert!(deep_conflicts as u64 > histories / 100, "conflicts of five and more are rare: {seen:?}");
    }
}

#[test]
fn random_histories_agree_in_the_first_part() {
    run_part(0);
}

#[test]
fn random_histories_agree_in_the_second_part() {
    run_part(1);
}

#[test]
fn random_histories_agree_in_the_third_part() {
    run_part(2);
}

#[test]
fn random_histories_agree_in_the_fourth_part() {
    run_part(3);
}
