//! A short torture, for every test run; `make torture` makes a long one. `tests/docs/torture.md` says what it is.
//!
//! `REJOIN_SEED` is the seed of the schedule, `REJOIN_TORTURE_SECONDS` how long faults go on.

#![expect(clippy::print_stdout, reason = "the seed and the figures are there to be read")]

use std::time::Duration;

use rejoin::Receipt;
use rejoin_tests::torture::check::{Evidence, Rule, Violation, check};
use rejoin_tests::torture::history::{At, Done, Op, Said};
use rejoin_tests::torture::{Options, Outcome, run};

/// How long faults go on.
const SECONDS: u64 = 45;
/// How long they do where somebody lies.
const CANARY_SECONDS: u64 = 8;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap())
}

async fn torture(options: Options) -> Outcome {
    println!("REJOIN_SEED={} REJOIN_TORTURE_SECONDS={}", options.seed, options.duration.as_secs());
    let outcome = run(options).await;
    println!("{}", outcome.tally);
    if let Some(folder) = &outcome.folder {
        println!("histories, stores and logs: {}", folder.display());
    }
    outcome
}

fn rules(evidence: &Evidence) -> Vec<Rule> {
    let mut rules: Vec<Rule> = check(evidence).into_iter().map(|violation| violation.rule).collect();
    rules.dedup();
    rules
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_acknowledged_is_lost_or_untrue_whatever_is_done_to_clients_network_and_relay() {
    let seed = number("REJOIN_SEED").unwrap_or_else(|| rand::random::<u32>().into());
    let outcome = torture(Options::short(seed, number("REJOIN_TORTURE_SECONDS").unwrap_or(SECONDS))).await;
    assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
    let [_, local, relayed, seen] = outcome.tally.writes;
    assert!(local.min(relayed).min(seen) > 100, "the clients got somewhere: {}", outcome.tally);
    lies_about_it_are_caught(outcome.evidence);
}

/// The same histories with one thing made untrue: the checker has to say so each time.
fn lies_about_it_are_caught(honest: Evidence) {
    let said = |what: &Said, stage| matches!(what, Said::Stage(_, said) if *said == stage);
    // The last one of somebody who kept his disk: nothing that was done excuses that it is gone.
    let kept = |client: &usize| honest.nemesis.iter().all(|at| at.what != Done::RolledBack(*client));
    let theirs = (0..honest.devices.len()).filter(kept).flat_map(|client| &honest.devices[client]);
    let last = theirs.filter(|at| said(&at.what, Receipt::Relayed)).max_by_key(|at| at.time).unwrap();
    let Said::Stage(id, _) = last.what else { unreachable!("it was chosen for that") };

    let mut gone = honest.clone();
    gone.relay.values_mut().for_each(|document| document.writes.retain(|write| *write != id));
    assert!(rules(&gone).contains(&Rule::Lost), "{id} is taken from the relay");

    let mut never = honest.clone();
    never.nemesis.retain(|at| !matches!(at.what, Done::RelayHas(.., Some(has)) if has == id));
    assert!(rules(&never).contains(&Rule::FalseReceipt), "the relay never had {id}");

    let mut alone = honest.clone();
    let seen = honest.devices[0].iter().find(|at| said(&at.what, Receipt::Seen)).map(|at| at.what.clone());
    let Some(Said::Stage(seen, _)) = seen else { unreachable!("somebody saw something") };
    alone.devices[1..].iter_mut().flatten().for_each(|at| without(at, seen.client));
    assert!(rules(&alone).contains(&Rule::FalseReceipt), "nobody had anything of the first client");

    let mut twice = honest.clone();
    let document = twice.stores[0].documents.values_mut().find(|document| document.json["count"].as_u64() > Some(0));
    let count = &mut document.unwrap().json["count"];
    *count = (count.as_u64().unwrap() + 1).into();
    assert!(rules(&twice).contains(&Rule::Count), "a counter counts one more");

    let mut apart = honest.clone();
    apart.stores[1].documents.values_mut().find(|document| document.is_initial).unwrap().heads.clear();
    assert!(rules(&apart).contains(&Rule::Diverged), "a device has other heads");

    let mut allowed = honest;
    let (client, from) = (id.client, allowed.devices[id.client][0].time);
    let first = allowed.devices[client].iter().find(|at| matches!(at.what, Said::Invoked(.., Op::Own))).unwrap().time;
    let window = [
        At { time: from, what: Done::Revoking(client, true) },
        At { time: first - 1, what: Done::Revoked(client, String::new(), 0) },
        At { time: u64::MAX - 1, what: Done::Regranting(client, String::new(), 0) },
    ];
    allowed.nemesis.splice(0..0, window);
    assert!(rules(&allowed).contains(&Rule::Revoked), "c{client} had no right to write");
}

/// Takes out what a device is said to have of a client.
fn without(at: &mut At<Said>, client: usize) {
    if matches!(at.what, Said::Has(of, ..) if of == client) {
        at.what = Said::State("said nothing".to_owned(), 0);
    }
}

/// Makes a short run in which something is broken, and asserts that the checker says that a relayed write is not there.
async fn is_caught(break_it: impl FnOnce(&mut Options)) {
    let mut options = Options::short(number("REJOIN_SEED").unwrap_or(7), CANARY_SECONDS);
    (options.clients, options.patience) = (3, Duration::from_secs(5));
    break_it(&mut options);
    let Outcome { violations, folder, .. } = torture(options).await;
    let told = "was relayed, and the relay does not have it";
    let is_told = |violation: &Violation| violation.rule == Rule::FalseReceipt && violation.text.contains(told);
    assert!(violations.iter().any(is_told), "{violations:#?}");
    folder.into_iter().for_each(|folder| std::fs::remove_dir_all(folder).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_that_says_relayed_of_what_it_never_sent_is_caught() {
    is_caught(|options| options.liar = Some(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_that_acknowledges_what_it_does_not_keep_is_caught() {
    is_caught(|options| options.is_forgetful = true).await;
}
