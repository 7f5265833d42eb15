//! The simulator: devices and relays in one thread, with time, network, disks and chance that follow from a seed.
//!
//! Real are the engine, the gate, ledger and registers, the sessions of both protocols, the client's driver with its threads as
//! tasks, the relay's queue and commit, its directory of rights, and redb. Simulated are sockets, clocks, disks and entropy. What
//! must be true is in [`model`] and in the checkers; `docs/simulator.md` says how to use all of this.
//!
//! * [`plan`]: what a seed means, and how a run is made smaller.
//! * [`world`]: everything, and the loop in which it happens; `acts` and `mallory` are what befalls it, `check` judges it.
//! * [`node`], [`station`], [`wire`]: devices, relays, and the lines between them.

use std::collections::BTreeSet;

mod acts;
mod check;
mod mallory;
pub mod model;
pub mod node;
pub mod plan;
pub mod station;
pub mod trail;
pub mod wire;
pub mod world;

pub use plan::{Canary, Kind, Plan};
use world::World;

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// One number for all that happened.
    pub digest: u64,
    /// How many events there were.
    pub steps: u64,
    /// What is wrong.
    pub complaints: Vec<String>,
    /// What happened, if it was kept.
    pub lines: Vec<String>,
}

/// Does a run once.
pub fn run(plan: &Plan, keeps_lines: bool) -> Outcome {
    let _broken = Broken::begin(plan.canary);
    let mut world = World::new(plan, keeps_lines);
    world.run();
    let (steps, complaints) = (world.steps(), std::mem::take(&mut world.complaints));
    let digest = world.trail.digest();
    let trail = std::mem::replace(&mut world.trail, trail::Trail::new(false));
    Outcome { digest, steps, complaints, lines: trail.into_lines() }
}

/// Does a run twice, and complains if anything is different the second time.
pub fn run_twice(plan: &Plan) -> Outcome {
    let mut first = run(plan, false);
    let second = run(plan, false);
    if first != second {
        let (one, other) = (first.digest, second.digest);
        first.complaints.push(format!("the same seed does not do the same: {one:x}, then {other:x}"));
    }
    first.steps += second.steps;
    first
}

/// Makes a failing plan smaller for as long as it fails: fewer kinds of trouble, fewer devices, fewer acts. At most so many runs.
pub fn shrink(plan: &Plan, runs_max: usize) -> Plan {
    let mut left = runs_max;
    let mut fails = |plan: &Plan| {
        left = left.saturating_sub(1);
        left > 0 && !run(plan, false).complaints.is_empty()
    };
    let mut best = plan.clone();
    for kind in Kind::ALL {
        let mut smaller = best.clone();
        smaller.without.insert(kind);
        if smaller.acts().len() < best.acts().len() && fails(&smaller) {
            best = smaller;
        }
    }
    for clients in 2..best.cast().0 {
        let smaller = Plan { clients: Some(clients), ..best.clone() };
        if fails(&smaller) {
            best = smaller;
            break;
        }
    }
    let mut stretch = best.acts().len() / 2;
    while stretch > 0 {
        let numbers: Vec<usize> = best.acts().iter().map(|act| act.number).collect();
        let mut kept: BTreeSet<usize> = numbers.iter().copied().collect();
        for some in numbers.chunks(stretch) {
            let fewer: BTreeSet<usize> = kept.iter().copied().filter(|number| !some.contains(number)).collect();
            let smaller = Plan { only: Some(fewer.clone()), ..best.clone() };
            if fails(&smaller) {
                (kept, best) = (fewer, smaller);
            }
        }
        stretch /= 2;
    }
    best
}

/// Says what is wrong with a seed, how to see it, and how to see it in the fewest acts that were found.
pub fn report(plan: &Plan, outcome: &Outcome, small: &Plan) -> String {
    let complaints = outcome.complaints.join("\n  ");
    format!("seed {} fails:\n  {complaints}\nreplay: {}\nsmaller: {}", plan.seed, plan.command(), small.command())
}

/// Breaks something in the engine for as long as it lives.
struct Broken;

impl Broken {
    fn begin(canary: Option<Canary>) -> Self {
        rejoin::simulation::set_broken(match canary {
            Some(Canary::CursorAhead) => Some(rejoin::simulation::Broken::CursorAhead),
            Some(Canary::LoserWins) => Some(rejoin::simulation::Broken::LoserWins),
            _ => None,
        });
        Self
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        rejoin::simulation::set_broken(None);
    }
}
