//! The fuzzers. `tests/docs/fuzzing.md` has the commands.
//!
//! ```text
//! rejoin-tests-fuzz --all --seconds 60 [--jobs 2] [--seed N]      every target in a process of its own
//! rejoin-tests-fuzz --all --smoke [--jobs 2] [--seed N]           so many inputs of each as take about a minute
//! rejoin-tests-fuzz --target gate --seconds 60 [--seed N]         one target, in this process
//! rejoin-tests-fuzz --target gate --inputs 10000000               so many inputs
//! rejoin-tests-fuzz --target gate --replay FILE                   one input
//! rejoin-tests-fuzz --target gate --seconds 60 --keep             and keep the shortest input of each kind of answer
//! rejoin-tests-fuzz --corpus                                      every input that is kept
//! rejoin-tests-fuzz --honest 1000000 [--from N]                   histories that nothing may refuse
//! ```
#![expect(clippy::print_stdout, reason = "what it finds is there to be read")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use rejoin_tests::fuzz::drive::{self, Options};
use rejoin_tests::fuzz::watch::Gauge;
use rejoin_tests::fuzz::{TARGETS, corpus, honest, smoke_inputs};
use rustix::process::{Resource, Rlimit, setrlimit};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What the process may ask the operating system for: a machine with less is not to be brought down by a finding.
const ADDRESS_SPACE_BYTES: u64 = 8 << 30;

/// How long the run goes on that finds out which input ended a process.
const CAREFUL_FACTOR: u64 = 4;

/// The longest input that is kept as a beginning for later runs.
const KEPT_BYTES_MAX: usize = 2 << 10;

const GAUGE: Gauge =
    Gauge { used: || MEMORY.current_usage(), reset: || MEMORY.reset_peak_usage(), peak: || MEMORY.peak_usage() };

/// What was asked for.
#[derive(Debug, Clone)]
struct Asked {
    values: BTreeMap<String, String>,
}

impl Asked {
    fn read() -> Self {
        let mut values = BTreeMap::new();
        let mut arguments = std::env::args().skip(1).peekable();
        while let Some(name) = arguments.next() {
            let name = name.strip_prefix("--").unwrap_or_else(|| panic!("{name}: an option begins with --")).to_owned();
            let value = arguments.next_if(|next| !next.starts_with("--")).unwrap_or_default();
            values.insert(name, value);
        }
        Self { values }
    }

    fn number(&self, name: &str) -> Option<u64> {
        let text = self.values.get(name)?;
        Some(text.parse().unwrap_or_else(|_| panic!("--{name} needs a number, not {text:?}")))
    }

    fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// What is asked of one target.
    fn of(&self, target: &str) -> Self {
        let mut asked = self.clone();
        if asked.values.remove("smoke").is_some() {
            asked.values.insert("inputs".to_owned(), smoke_inputs(target).to_string());
        }
        asked
    }

    fn options(&self, target: &str) -> Options {
        Options {
            target: target.to_owned(),
            seed: self.number("seed").unwrap_or(1),
            time: Duration::from_secs(self.number("seconds").unwrap_or(60)),
            inputs: self.number("inputs"),
            patience: Duration::from_secs(self.number("patience").unwrap_or(60)),
            out: self.out(),
            is_careful: self.has("careful"),
        }
    }

    /// Where inputs with faults are written.
    fn out(&self) -> PathBuf {
        let default = rejoin_tests::package_dir().join("../target/fuzz");
        self.text("out").map_or(default, PathBuf::from)
    }
}

fn main() -> ExitCode {
    let asked = Asked::read();
    if let Some(count) = asked.number("honest") {
        return honest(count, asked.number("from").unwrap_or(0));
    }
    if asked.has("all") {
        return all(&asked);
    }
    // Where it may not be limited, a finding may bring the machine down.
    let limit = Rlimit { current: Some(ADDRESS_SPACE_BYTES), maximum: Some(ADDRESS_SPACE_BYTES) };
    let _ = setrlimit(Resource::As, limit);
    if asked.has("corpus") {
        return replay_corpus(asked.text("target").filter(|target| !target.is_empty()));
    }
    let target = asked.text("target").expect("--target NAME, --all, --corpus or --honest COUNT");
    let summary = match asked.text("replay") {
        Some(file) => drive::replay(target, &std::fs::read(file).expect("the file of --replay"), GAUGE),
        None => drive::run(&asked.options(target), GAUGE),
    };
    println!("{}", summary.line(target));
    if asked.has("verbose") || asked.has("replay") {
        summary.classes.iter().for_each(|(class, count)| println!("  {count:>10} {class}"));
    }
    if asked.has("keep") {
        keep(target, &summary.shortest);
    }
    if summary.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Keeps the shortest input of each kind of answer, where it is short.
fn keep(target: &str, shortest: &BTreeMap<String, Vec<u8>>) {
    let folder = corpus::folder(target);
    std::fs::create_dir_all(&folder).unwrap();
    for (class, input) in shortest.iter().filter(|(_, input)| input.len() <= KEPT_BYTES_MAX) {
        let words: Vec<&str> =
            class.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
        let file = folder.join(words.join("-"));
        let is_shorter = std::fs::metadata(&file).map_or(true, |known| (input.len() as u64) < known.len());
        if is_shorter {
            std::fs::write(file, input).unwrap();
        }
    }
}

/// Feeds every input that is kept.
fn replay_corpus(only: Option<&str>) -> ExitCode {
    let (mut passed, mut failed) = (0, 0);
    for target in TARGETS.iter().filter(|target| only.is_none_or(|only| only == **target)) {
        for (name, input) in corpus::of(target) {
            let summary = drive::replay(target, &input, GAUGE);
            if summary.faults.is_empty() {
                passed += 1;
            } else {
                failed += 1;
                println!("corpus/{target}/{name}: {}", summary.faults.join("; "));
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs every target in a process of its own, a few at a time.
fn all(asked: &Asked) -> ExitCode {
    let jobs = usize::try_from(asked.number("jobs").unwrap_or(2)).unwrap();
    let mut waiting: Vec<&str> = TARGETS.iter().rev().copied().collect();
    let mut running: Vec<(&str, Child)> = Vec::new();
    let (mut passed, mut failed) = (0, 0);
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < jobs {
            let Some(target) = waiting.pop() else { break };
            running.push((target, child(&asked.of(target), target, &[])));
        }
        let ended = running.iter_mut().position(|(_, child)| child.try_wait().unwrap().is_some());
        let Some(at) = ended else {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        let (target, mut child) = running.remove(at);
        let status = child.wait().unwrap();
        if status.success() {
            passed += 1;
            continue;
        }
        failed += 1;
        println!("fuzz {target}: ended with {status}");
        if status.code().is_none() {
            find_what_ended_it(&asked.of(target), target);
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn child(asked: &Asked, target: &str, more: &[&str]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--target", target]).args(more).stdin(Stdio::null());
    for (name, value) in asked.values.iter().filter(|(name, _)| !["all", "jobs", "target"].contains(&name.as_str())) {
        command.arg(format!("--{name}"));
        if !value.is_empty() {
            command.arg(value);
        }
    }
    command.spawn().unwrap()
}

/// Goes the same way once more and writes each input before it is fed: the last one is what ended the process.
fn find_what_ended_it(asked: &Asked, target: &str) {
    let mut longer = asked.clone();
    let seconds = asked.number("seconds").unwrap_or(60).saturating_mul(CAREFUL_FACTOR);
    longer.values.insert("seconds".to_owned(), seconds.to_string());
    let status = child(&longer, target, &["--careful"]).wait().unwrap();
    let file = asked.out().join(format!("{target}-last.bin"));
    if status.code().is_none() {
        println!("FAULT abort: {status}; replay with --target {target} --replay {}", file.display());
    }
}

/// Lets the engine take honest histories, on all cores.
fn honest(count: u64, from: u64) -> ExitCode {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let started = Instant::now();
    let part = |thread: u64| {
        let (mut shapes, mut changes, mut refused) = (BTreeMap::<String, u64>::new(), 0u64, Vec::new());
        let mut number = from + thread;
        while number < from + count && refused.len() < 10 {
            match honest::one(number) {
                Ok((shape, count)) => {
                    *shapes.entry(format!("{shape:?}")).or_default() += 1;
                    changes += count as u64;
                }
                Err(why) if why.ends_with(honest::OF_AUTOMERGE) => {
                    *shapes.entry(format!("{number} is not taken by Automerge alone")).or_default() += 1;
                }
                Err(why) => refused.push(why),
            }
            number += threads;
        }
        (shapes, changes, refused)
    };
    let parts: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(move || part(thread))).collect();
        handles.into_iter().map(|handle| handle.join().expect("a panic is a finding")).collect()
    });
    let (mut shapes, mut changes, mut refused) = (BTreeMap::<String, u64>::new(), 0, Vec::new());
    for (some, more, why) in parts {
        some.into_iter().for_each(|(shape, count)| *shapes.entry(shape).or_default() += count);
        changes += more;
        refused.extend(why);
    }
    let histories: u64 = shapes.values().sum();
    refused.iter().for_each(|why| println!("REFUSED {why}"));
    println!(
        "honest: {histories} histories of {changes} changes in {:.0} s, {} refused; {shapes:?}",
        started.elapsed().as_secs_f64(),
        refused.len()
    );
    if refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
