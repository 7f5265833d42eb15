//! Searches what was said while the tests ran: `rejoin-tests-said --log FILE.. --output FILE..`. Ends with a count.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a command of the tests")]

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use regex::bytes::Regex;
use rejoin_tests::said::{Ear, Kind};

/// Searches what was said for secrets, contents and ids.
#[derive(Debug, Parser)]
struct Arguments {
    /// A file with what relays logged.
    #[arg(long)]
    log: Vec<PathBuf>,
    /// A file with what tests and clients printed.
    #[arg(long)]
    output: Vec<PathBuf>,
}

/// Returns how many tests passed by the summaries that Rust's runners print, each in its own way. What one test printed is
/// indented, and a report repeats it.
fn passed_tests(output: &Path) -> std::io::Result<u64> {
    let summary = Regex::new(r"^(?: *Summary \[.*\] \d+ tests? run:|test result: ok\.) (\d+) passed").unwrap();
    let mut passed = 0;
    for line in BufReader::new(File::open(output)?).split(b'\n') {
        let line = line?;
        let count = summary.captures(&line).and_then(|found| std::str::from_utf8(&found[1]).ok()?.parse::<u64>().ok());
        passed += count.unwrap_or(0);
    }
    Ok(passed)
}

fn main() -> ExitCode {
    let (Arguments { log, output }, ear) = (Arguments::parse(), Ear::default());
    let (mut passed, mut failed) = (0, 0);
    let files = log.iter().map(|path| (path, Kind::Log)).chain(output.iter().map(|path| (path, Kind::Output)));
    for (path, kind) in files {
        let shown = path.display();
        match ear.read(path, kind) {
            Err(error) => {
                failed += 1;
                println!("FAIL {shown}: {error}");
            }
            Ok(heard) if heard.lines == 0 => {
                failed += 1;
                println!("FAIL {shown}: nothing was said");
            }
            Ok(heard) => {
                let is_clean = heard.found.is_empty();
                *(if is_clean { &mut passed } else { &mut failed }) += 1;
                let verdict = if is_clean { "PASS" } else { "FAIL" };
                println!("{verdict} {shown}: {} lines, searched for {} things", heard.lines, ear.rules());
                for (line, what) in heard.found.iter().take(20) {
                    println!("     line {line} holds {what}");
                }
            }
        }
    }
    let printed = output.iter().filter(|path| path.extension().is_some_and(|extension| extension == "txt"));
    let tests: u64 = printed.filter_map(|path| passed_tests(path).ok()).sum();
    println!(
        "{tests} tests in Rust and {passed} searches of what was said: {} passed, {failed} failed",
        tests + passed
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
