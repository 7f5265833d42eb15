//! Tortures clients and a relay, and checks what they said: `rejoin-tests-torture --minutes 30 --seed 7 --clients 5`.
//!
//! `tests/docs/torture.md` says what is done and what is checked.

#![allow(clippy::print_stdout, reason = "what came of it is there to be read")]

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rejoin_tests::torture::{Options, run};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "rejoin-tests-torture [--minutes M] [--seed N] [--clients K]";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let Some((minutes, seed, clients)) = arguments() else {
        println!("{USAGE}");
        return ExitCode::FAILURE;
    };
    println!("rejoin-tests-torture --minutes {minutes} --seed {seed} --clients {clients}");
    println!("(the seed gives the same schedule of faults again, not the same interleaving)");
    let mut options = Options::short(seed, 60 * minutes);
    (options.clients, options.longest, options.cuts_in_the_end) = (clients, Duration::from_secs(8), false);
    let interrupted = options.interrupted.clone();
    tokio::spawn(async move {
        let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
        let (Ok(mut interrupt), Ok(mut terminate)) = signals else { return };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        interrupted.store(true, Ordering::Relaxed);
    });
    let begun = Instant::now();
    let outcome = run(options).await;
    println!("{} s: {}", begun.elapsed().as_secs(), outcome.tally);
    outcome.violations.iter().for_each(|violation| println!("{violation}"));
    let Some(folder) = outcome.folder else {
        println!("nothing is broken");
        return ExitCode::SUCCESS;
    };
    println!("histories, stores and logs: {}", folder.display());
    ExitCode::FAILURE
}

/// Returns minutes, seed and clients; nothing if the arguments say something else.
fn arguments() -> Option<(u64, u64, usize)> {
    let (mut minutes, mut seed, mut clients) = (30, rand::random::<u32>().into(), 5);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let number: u64 = arguments.next()?.parse().ok()?;
        match name.as_str() {
            "--minutes" => minutes = number,
            "--seed" => seed = number,
            "--clients" => clients = usize::try_from(number).ok().filter(|clients| (1..=26).contains(clients))?,
            _ => return None,
        }
    }
    Some((minutes, seed, clients))
}
