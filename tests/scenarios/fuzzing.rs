//! The fuzzers find what they are there to find, and what they found stays found.

use std::process::Command;

use rejoin_tests::fuzz::canary::CANARIES;

/// Runs the fuzzer in a directory of its own; returns whether it was satisfied, and what it printed.
fn fuzz(arguments: &[&str]) -> (bool, String) {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(rejoin_tests::binary("rejoin-tests-fuzz"));
    let ended = command.args(arguments).arg("--out").arg(out.path()).output().unwrap();
    let text = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
    (ended.status.success(), text)
}

#[test]
fn every_canary_is_found() {
    for canary in CANARIES {
        // A busy machine is slow without hanging.
        let patience = if canary.ends_with("hang") { "3" } else { "60" };
        let (is_satisfied, text) = fuzz(&["--target", canary, "--inputs", "1000", "--patience", patience]);
        let kind = canary.rsplit('-').next().unwrap();
        assert!(!is_satisfied && text.contains(&format!("FAULT {kind}")), "{canary} lives: {text}");
        let is_told = text.contains("caught by somebody");
        assert_eq!(is_told, canary.contains("caught"), "{canary}: {text}");
    }
}

#[test]
fn inputs_that_are_kept_do_no_harm_any_more() {
    let (is_satisfied, text) = fuzz(&["--corpus"]);
    assert!(is_satisfied, "{text}");
    assert!(!text.starts_with("0 passed"), "nothing is kept: {text}");
}

#[test]
fn same_seed_goes_the_same_way() {
    let run = || {
        let (is_satisfied, text) = fuzz(&["--target", "gate", "--inputs", "3000", "--seed", "9", "--verbose"]);
        assert!(is_satisfied, "{text}");
        // All but the time it took, and memory, which threads share.
        text.lines().filter(|line| !line.starts_with("fuzz")).map(str::to_owned).collect::<Vec<_>>()
    };
    let first = run();
    assert!(first.len() > 20, "{first:?}");
    assert_eq!(first, run());
}
