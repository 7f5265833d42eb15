//! Registers and Automerge agree on every document: directed histories first, then thousands of random ones.
//!
//! `REJOIN_HISTORIES=100000` makes a night's run of it, `REJOIN_SEED=...` replays one history.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stderr, reason = "a failing history prints what replays it")]

#[path = "registers/directed.rs"]
mod directed;
#[path = "registers/histories.rs"]
mod histories;
#[path = "registers/world.rs"]
mod world;

/// Names the seed if the history under way fails.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with: REJOIN_SEED={} cargo test -p rejoin --test registers random", self.0);
        }
    }
}

#[test]
fn random_histories_agree() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (first, count) = match number("REJOIN_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("REJOIN_HISTORIES").unwrap_or(1_000)),
    };
    let mut compared = 0;
    for seed in first..first + count {
        let _replay = Replay(seed);
        compared += histories::run(seed);
    }
    eprintln!("{count} histories, {compared} fields compared");
}
