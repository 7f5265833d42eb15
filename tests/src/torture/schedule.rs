//! The schedule: what the nemesis does when, from a seed and nothing else.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::proxy::{Fault, Way};

/// Something that the nemesis does. What begins something has its end later in the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Kills a client's process.
    KillClient(usize),
    /// Asks a client's process to end, and waits until it has.
    StopClient(usize),
    /// Starts a client that does not run.
    StartClient(usize),
    /// Stops a client's process where it is.
    PauseClient(usize),
    /// Lets it go on.
    ResumeClient(usize),
    /// Kills the relay, looks into its store and starts it again after that many milliseconds.
    KillRelay(u64),
    /// Has the relay drain and end, looks into its store and starts it again after that many milliseconds.
    StopRelay(u64),
    /// Stops the relay's process where it is.
    PauseRelay,
    /// Lets it go on.
    ResumeRelay,
    /// Does something to a client's connections, or nothing any more.
    Net(usize, Option<Fault>),
    /// Cuts a client's connections.
    Cut(usize),
    /// Copies the disk of a client, which is killed for that.
    CopyDisk(usize),
    /// Kills the client and puts the copy back.
    RollBack(usize),
    /// Backs the relay up: while it runs, or with its command while it does not.
    Backup {
        /// Whether it runs.
        is_online: bool,
    },
    /// Kills the relay and makes it anew of the backup.
    Restore,
    /// Takes a client's right to write; whether it may not connect either.
    Revoke(usize, bool),
    /// Gives it back.
    Regrant(usize),
}

/// A deed, and when it is done, from the beginning of the run.
pub type Due = (Duration, Deed);

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// For how long.
    pub duration: Duration,
    /// To how many clients.
    pub clients: usize,
    /// Whether the last one speaks the classic protocol, which has no word for a refusal.
    pub has_classic: bool,
    /// How long one thing lasts at most.
    pub longest: Duration,
}

/// What is special comes in this order, once in so long.
const EPISODE: Duration = Duration::from_secs(180);

/// Makes the schedule of a seed, in the order of time.
pub fn schedule(seed: u64, measure: &Measure) -> Vec<Due> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut all = Vec::new();
    let episodes = measure.duration.as_secs().div_ceil(EPISODE.as_secs()).max(1);
    let length = measure.duration / u32::try_from(episodes).unwrap_or(u32::MAX);
    for episode in 0..episodes {
        special(&mut random, length * u32::try_from(episode).unwrap_or(u32::MAX), length, measure, &mut all);
    }
    let mut at = Duration::from_millis(500);
    while at < measure.duration {
        usual(&mut random, at, measure, &mut all);
        at += Duration::from_millis(random.random_range(200..2_000));
    }
    all.sort_by_key(|(at, _)| *at);
    all
}

/// A backup and its restore, an old disk, a right to write that is taken: each at its time within an episode, because a backup
/// that was made while somebody had no rights would bring that back.
fn special(random: &mut StdRng, from: Duration, length: Duration, measure: &Measure, all: &mut Vec<Due>) {
    let mut at = |percent: u32, deed| all.push((from + length * percent / 100, deed));
    let by_v1 = measure.clients - usize::from(measure.has_classic && measure.clients > 1);
    let (old, wholly, reader) =
        (random.random_range(0..measure.clients), random.random_range(0..by_v1), random.random_range(0..by_v1));
    at(8, Deed::CopyDisk(old));
    at(12, Deed::Backup { is_online: random.random_ratio(1, 2) });
    at(30, Deed::RollBack(old));
    at(36, Deed::KillRelay(random.random_range(0..500)));
    at(42, Deed::Restore);
    at(55, Deed::Revoke(wholly, true));
    at(67, Deed::Regrant(wholly));
    at(75, Deed::Revoke(reader, false));
    at(90, Deed::Regrant(reader));
}

/// One of what happens all the time.
fn usual(random: &mut StdRng, at: Duration, measure: &Measure, all: &mut Vec<Due>) {
    let client = random.random_range(0..measure.clients);
    let longest = u64::try_from(measure.longest.as_millis()).unwrap_or(u64::MAX);
    let until = at + Duration::from_millis(random.random_range(100..longest));
    let down = random.random_range(0..1_500);
    let mut both = |begin, end| all.extend([(at, begin), (until, end)]);
    match random.random_range(0..100) {
        0..18 => both(Deed::KillClient(client), Deed::StartClient(client)),
        18..24 => both(Deed::StopClient(client), Deed::StartClient(client)),
        24..36 => both(Deed::PauseClient(client), Deed::ResumeClient(client)),
        36..48 => all.push((at, Deed::KillRelay(down))),
        48..52 => all.push((at, Deed::StopRelay(down))),
        52..58 => both(Deed::PauseRelay, Deed::ResumeRelay),
        58..70 => all.push((at, Deed::Cut(client))),
        _ => {
            let fault = match random.random_range(0..6) {
                0 => Fault::Delay(Duration::from_millis(random.random_range(10..800))),
                1 => Fault::Trickle(random.random_range(50..2_000)),
                2 | 3 => Fault::Swallow(Way::Up),
                4 => Fault::Swallow(Way::Down),
                _ => Fault::Refuse,
            };
            both(Deed::Net(client, Some(fault)), Deed::Net(client, None));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::discriminant;

    use super::*;

    fn measure(seconds: u64) -> Measure {
        let (duration, longest) = (Duration::from_secs(seconds), Duration::from_secs(3));
        Measure { duration, clients: 5, has_classic: true, longest }
    }

    #[test]
    fn seed_gives_the_same_schedule_and_another_seed_another() {
        assert_eq!(schedule(1, &measure(60)), schedule(1, &measure(60)));
        assert_ne!(schedule(1, &measure(60)), schedule(2, &measure(60)));
    }

    #[test]
    fn all_kinds_of_deeds_are_done_even_in_a_short_run() {
        let mut kinds = Vec::new();
        for seed in 0..20 {
            for (_, deed) in schedule(seed, &measure(45)) {
                if !kinds.contains(&discriminant(&deed)) {
                    kinds.push(discriminant(&deed));
                }
            }
        }
        assert_eq!(kinds.len(), 17);
        for seed in 0..20 {
            let all = schedule(seed, &measure(45));
            assert!(all.iter().any(|(_, deed)| *deed == Deed::Restore), "what is special is in each");
            assert!(all.is_sorted_by_key(|(at, _)| *at));
        }
    }
}
