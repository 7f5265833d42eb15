//! Honest traffic, damaged at every depth: nothing panics, and what is taken is sound for Automerge and the registers.
//!
//! `REJOIN_HOSTILE_INPUTS` says how many frames (the long run has 1,000,000 and more), `REJOIN_HOSTILE_SEED` with which
//! seed, `REJOIN_HOSTILE_CASE` repeats a single case.

#![expect(clippy::print_stdout, reason = "what an attack costs is there to be read")]

use rejoin_tests::hostile::{PENDING, run};

/// How many frames `make test` tries.
const INPUTS: u64 = 20_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

#[test]
fn mutants_that_are_taken_are_sound() {
    let seed = number("REJOIN_HOSTILE_SEED").unwrap_or(0x5eed);
    let inputs = number("REJOIN_HOSTILE_INPUTS").unwrap_or(INPUTS);
    let only = number("REJOIN_HOSTILE_CASE");
    println!("seed {seed}");
    let findings = run::run(seed, inputs, only);
    let report = findings.report();
    println!("{report}");
    assert!(findings.holes.is_empty(), "seed {seed}: {report}");
    assert!(findings.unfit.is_empty() || !PENDING.is_empty(), "seed {seed}: {report}");
    // Where nothing is taken, or nothing is refused, the damage tests nothing.
    assert!(only.is_some() || (findings.stored > inputs / 100 && findings.rules.len() > 15), "{report}");
}
