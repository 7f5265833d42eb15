//! Runs simulations: one seed with all that happens in it, a range of seeds, or as many as time allows.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's output")]

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rejoin_tests::sim::plan::{Canary, Kind, Plan};
use rejoin_tests::sim::{report, run, run_twice, shrink};

/// How often a failing seed is run to make it smaller.
const SHRINK_RUNS: usize = 200;

const USAGE: &str = "rejoin-tests-simulate --seed N | --seeds A..B | --minutes M
    [--acts N] [--clients N] [--relays N] [--only 1,2,3] [--without kind,kind] [--canary name] [--threads N] [--once]

--seed N       runs one seed and prints what happens
--seeds A..B   runs these, each twice, and prints those that fail, made small
--minutes M    runs seeds for so long, on all cores; from --seeds' begin, or from the clock
--once         runs each seed once
--quiet        prints only what is wrong of one seed";

struct Args {
    plan: Plan,
    one: Option<u64>,
    range: Option<(u64, u64)>,
    minutes: Option<f64>,
    threads: usize,
    is_once: bool,
    is_quiet: bool,
}

fn parse() -> Result<Args, String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut args =
        Args { plan: Plan::of(0), one: None, range: None, minutes: None, threads, is_once: false, is_quiet: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        let number = |text: String| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
        let count = |text: String| text.parse::<usize>().map_err(|error| format!("{text}: {error}"));
        match word.as_str() {
            "--seed" => args.one = Some(number(value()?)?),
            "--seeds" => {
                let text = value()?;
                let (from, to) = text.split_once("..").ok_or("--seeds wants A..B")?;
                args.range = Some((number(from.to_owned())?, number(to.to_owned())?));
            }
            "--minutes" => args.minutes = Some(value()?.parse().map_err(|_| "--minutes wants a number")?),
            "--acts" => args.plan.acts = count(value()?)?,
            "--clients" => args.plan.clients = Some(count(value()?)?),
            "--relays" => args.plan.relays = Some(count(value()?)?),
            "--threads" => args.threads = count(value()?)?,
            "--only" => {
                let text = value()?;
                let numbers = text.split(',').filter(|text| !text.is_empty()).map(str::parse);
                args.plan.only =
                    Some(numbers.collect::<Result<BTreeSet<usize>, _>>().map_err(|error| error.to_string())?);
            }
            "--without" => {
                for name in value()?.split(',') {
                    args.plan.without.insert(Kind::named(name).ok_or(format!("there is no {name}"))?);
                }
            }
            "--canary" => {
                let name = value()?;
                args.plan.canary = Some(Canary::named(&name).ok_or(format!("there is no {name}"))?);
            }
            "--once" => args.is_once = true,
            "--quiet" => args.is_quiet = true,
            other => return Err(format!("{other} is unknown")),
        }
    }
    if args.one.is_none() && args.range.is_none() && args.minutes.is_none() {
        return Err("say which seeds".to_owned());
    }
    Ok(args)
}

fn main() -> ExitCode {
    let args = match parse() {
        Ok(args) => args,
        Err(wrong) => {
            eprintln!("{wrong}\n\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    match args.one {
        Some(seed) => one(Plan { seed, ..args.plan.clone() }, args.is_quiet),
        None => many(&args),
    }
}

fn one(plan: Plan, is_quiet: bool) -> ExitCode {
    let outcome = run(&plan, !is_quiet);
    for line in &outcome.lines {
        println!("{line}");
    }
    println!("seed {}: {} steps, digest {:016x}", plan.seed, outcome.steps, outcome.digest);
    for complaint in &outcome.complaints {
        println!("  {complaint}");
    }
    if outcome.complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn many(args: &Args) -> ExitCode {
    let began = Instant::now();
    let from_clock = || std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs() * 1_000_000);
    let (from, to) = args.range.unwrap_or_else(|| (from_clock(), u64::MAX));
    let until = args.minutes.map(|minutes| began + Duration::from_secs_f64(minutes * 60.0));
    let next = Arc::new(AtomicU64::new(from));
    let (steps, seeds) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stopped = Arc::new(AtomicBool::new(false));
    let failed = Arc::new(Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..args.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let is_late = until.is_some_and(|until| Instant::now() >= until);
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if is_late || seed >= to || stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let plan = Plan { seed, ..args.plan.clone() };
                    let outcome = if args.is_once { run(&plan, false) } else { run_twice(&plan) };
                    steps.fetch_add(outcome.steps, Ordering::Relaxed);
                    seeds.fetch_add(1, Ordering::Relaxed);
                    if !outcome.complaints.is_empty() {
                        let small = shrink(&plan, SHRINK_RUNS);
                        println!("{}", report(&plan, &outcome, &small));
                        let mut failed = failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        failed.push(seed);
                        stopped.store(failed.len() >= 8, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let (steps, seeds) = (steps.load(Ordering::Relaxed), seeds.load(Ordering::Relaxed));
    let failed = failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    println!(
        "{seeds} seeds from {from} on, {steps} steps in {seconds:.0} s on {} threads: {:.0} steps an hour, {} failed {:?}",
        args.threads,
        steps as f64 / seconds * 3_600.0,
        failed.len(),
        *failed
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
