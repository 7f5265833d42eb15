//! What waits for a commit, and whose turn it is.
//!
//! Each connection has a lane of its own, in which its requests keep their order. A commit takes from the lanes in turn. While
//! several connections write, each author (a principal with all its connections, or a connection of nobody in particular) gets a
//! share of it by weight: the bytes of its changes, and [`APPEND_OVERHEAD_BYTES`] for each. So a commit is short, whoever has
//! written little is in the next one, and whoever writes without a pause goes on in as many as it takes. A write is never divided:
//! one that is heavier than its share goes whole, and is made up for in the next commits.
//!
//! Where one connection writes alone, there is nobody to be fair to, and a commit holds as much as fits it.
//!
//! It knows no clock: time is an argument.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use rejoin::SpaceId;
use rejoin::codec::v1::Outcome;
use rejoin::sync::v1::{Offered, OfferedWrite};
use tokio::sync::oneshot;

use super::entrance::Room;
use super::{AppendError, Author, AuthorKey, Results, Written};
use crate::hub::ConnectionId;
use crate::limits::{
    APPEND_OVERHEAD_BYTES, COMMIT_BUSY_REQUESTS, COMMIT_BYTES_MAX, COMMIT_CHANGES_MAX, COMMIT_ENOUGH_BYTES,
    COMMIT_INTERVAL, COMMIT_REQUESTS_MAX, COMMIT_SHARE_BYTES_MIN, COMMIT_SHARED_BYTES, COMMIT_SHARED_FOR,
    COMMIT_SHARED_WORK_MAX, COMMIT_WORK_MAX, FOLD_NOTICED_BYTES,
};

/// A request under way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) author: Author,
    /// Where its documents have to be, or come to be.
    pub(super) space: Option<SpaceId>,
    /// When it was queued.
    pub(super) since: Instant,
    pub(super) writes: Vec<Offered>,
    /// How much is still to do of them, by weight.
    pub(super) left_bytes: usize,
    /// What became of the first ones; the rest is still to do.
    pub(super) done: Vec<Written>,
    pub(super) answer: Answer,
    /// The request's room in the queue, given back when it is answered.
    pub(super) _room: Room,
}

/// Who is answered, and how.
#[derive(Debug)]
pub(super) enum Answer {
    Results(oneshot::Sender<Result<Results, AppendError>>),
    Outcomes(oneshot::Sender<Result<Vec<Outcome>, AppendError>>),
}

/// A job that a commit did not finish.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) job: Job,
    /// The commit had no time for any of the writes that it took out.
    pub(super) is_untouched: bool,
}

/// A job and which of its writes go into the next commit.
#[derive(Debug)]
pub(super) struct Slice {
    pub(super) job: Job,
    pub(super) writes: Range<usize>,
}

/// What waits, connection by connection.
#[derive(Debug)]
pub(super) struct Lanes {
    lanes: HashMap<ConnectionId, Lane>,
    /// Whose turn it is, the next first; each lane stands here once.
    turns: VecDeque<ConnectionId>,
    /// How many lanes each author has.
    authors: HashMap<AuthorKey, usize>,
    /// By how much connections had more than their share. One that has nothing waiting pays too, so that coming back saves nothing.
    owed_bytes: HashMap<ConnectionId, usize>,
    /// How much longer than what it weighs what authors wrote took, by weight.
    owed_time: HashMap<AuthorKey, usize>,
    /// When the last requests were queued that wait for an acknowledgement, the oldest first: [`COMMIT_BUSY_REQUESTS`] of them at
    /// most.
    arrivals: VecDeque<Instant>,
    /// How much waits, by weight.
    bytes: usize,
    /// The two connections that wrote last, the later first, and when.
    last: [Option<(ConnectionId, Instant)>; 2],
    pace: Pace,
}

/// How much goes into commits.
#[derive(Debug)]
struct Pace {
    /// When the second began that runs.
    since: Instant,
    /// How much did since, and how much in the second before.
    bytes: usize,
    before_bytes: usize,
}

impl Pace {
    fn note(&mut self, bytes: usize, now: Instant) {
        let since = now.saturating_duration_since(self.since);
        if since >= Duration::from_secs(1) {
            self.before_bytes = if since < Duration::from_secs(2) { self.bytes } else { 0 };
            (self.since, self.bytes) = (now, 0);
        }
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What waits of one connection: never nothing.
#[derive(Debug)]
struct Lane {
    author: AuthorKey,
    jobs: VecDeque<Job>,
}

/// What a commit holds so far.
#[derive(Debug, Default)]
struct Filling {
    requests: usize,
    changes: usize,
    bytes: usize,
}

impl Filling {
    fn has_room(&self, bytes: usize) -> bool {
        self.changes == 0 || self.changes < COMMIT_CHANGES_MAX && self.bytes + bytes <= COMMIT_BYTES_MAX
    }

    fn is_full(&self) -> bool {
        self.requests >= COMMIT_REQUESTS_MAX
    }
}

impl Lanes {
    /// Makes a queue in which nothing waits.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            authors: HashMap::new(),
            owed_bytes: HashMap::new(),
            owed_time: HashMap::new(),
            arrivals: VecDeque::with_capacity(COMMIT_BUSY_REQUESTS),
            bytes: 0,
            last: [None; 2],
            pace: Pace { since: now, bytes: 0, before_bytes: 0 },
        }
    }

    /// Says whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Says whether anything of a connection waits.
    #[cfg(test)]
    pub(super) fn has(&self, connection: &ConnectionId) -> bool {
        self.lanes.contains_key(connection)
    }

    /// Says whether a commit need not wait for more: [`COMMIT_ENOUGH_BYTES`] wait for it, or [`COMMIT_BUSY_REQUESTS`] that are to be
    /// acknowledged came within one [`COMMIT_INTERVAL`], the last one now.
    pub(super) fn is_busy(&self, now: Instant) -> bool {
        if self.bytes >= COMMIT_ENOUGH_BYTES {
            return true;
        }
        let first = self.arrivals.front().filter(|_| self.arrivals.len() == COMMIT_BUSY_REQUESTS);
        first.is_some_and(|first| now.saturating_duration_since(*first) <= COMMIT_INTERVAL)
    }

    /// Says whether more than one connection writes, or did of late.
    fn is_shared(&self, now: Instant) -> bool {
        let is_recent = |at| now.saturating_duration_since(at) < COMMIT_SHARED_FOR;
        self.turns.len() > 1 || self.last[1].is_some_and(|(_, at)| is_recent(at))
    }

    /// Returns for how long a commit takes writes in.
    pub(super) fn longest(&self, now: Instant) -> Duration {
        if self.is_shared(now) { COMMIT_SHARED_WORK_MAX } else { COMMIT_WORK_MAX }
    }

    /// Says whether those who wrote what a commit holds would notice what else keeps the store: several write, or one writes little,
    /// in this second and the one before.
    pub(super) fn is_noticed(&self, slices: &[Slice], now: Instant) -> bool {
        let writes_little = self.pace.bytes.max(self.pace.before_bytes) < FOLD_NOTICED_BYTES;
        !slices.is_empty() && (self.is_shared(now) || writes_little)
    }

    /// Adds a request behind all others of its connection.
    pub(super) fn push(&mut self, job: Job) {
        self.note(job.author.connection, job.since);
        // The classic protocol knows no acknowledgement: nobody waits for its answer.
        if job.space.is_some() {
            if self.arrivals.len() == COMMIT_BUSY_REQUESTS {
                self.arrivals.pop_front();
            }
            self.arrivals.push_back(job.since);
        }
        self.bytes += job.left_bytes;
        self.lane(&job.author).jobs.push_back(job);
    }

    /// Puts back what is not finished, as it was taken out: what is pushed goes on before what its connection pushed later, all else
    /// waits for its next turn. Those for whom the commit had no time are the first in the next one.
    pub(super) fn put_back(&mut self, unfinished: Vec<Left>, now: Instant) {
        let mut first: Vec<ConnectionId> = Vec::new();
        let mut began = HashSet::new();
        for Left { job, is_untouched } in &unfinished {
            let connection = job.author.connection;
            if !is_untouched {
                began.insert(connection);
            } else if first.last() != Some(&connection) && !began.contains(&connection) {
                first.push(connection);
            }
        }
        let (pushed, others): (Vec<_>, Vec<_>) = unfinished.into_iter().partition(|left| left.job.space.is_some());
        for Left { job, .. } in pushed.into_iter().rev().chain(others) {
            self.note(job.author.connection, now);
            self.bytes += job.left_bytes;
            let jobs = &mut self.lane(&job.author).jobs;
            if job.space.is_some() { jobs.push_front(job) } else { jobs.push_back(job) }
        }
        if !first.is_empty() {
            let are_first: HashSet<ConnectionId> = first.iter().copied().collect();
            let others = self.turns.iter().copied().filter(|connection| !are_first.contains(connection));
            self.turns = first.iter().copied().chain(others).collect();
        }
    }

    /// Notes that what an author wrote took longer than its weight explains: as long as so much more does.
    pub(super) fn owe(&mut self, author: AuthorKey, bytes: usize) {
        let owed = self.owed_time.entry(author).or_default();
        *owed = owed.saturating_add(bytes);
    }

    /// Takes out what the next commit holds: from each lane in turn, within the commit's bounds, and at least one write.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Slice> {
        let is_shared = self.is_shared(now);
        let resting = if is_shared {
            let resting = self.resting();
            self.forgive(&resting);
            resting
        } else {
            self.owed_bytes.clear();
            self.owed_time.clear();
            HashSet::new()
        };
        let mut filling = Filling::default();
        let mut slices = Vec::new();
        let mut taken_bytes = 0_usize;
        // Before the first of them is taken from: whose last request is under way has no lane meanwhile.
        let share = |connection| if is_shared { self.share(connection) } else { usize::MAX };
        let shares: Vec<usize> = self.turns.iter().map(share).collect();
        for share in shares {
            let Some(connection) = self.turns.pop_front() else { break };
            let rests = self.lanes.get(&connection).is_some_and(|lane| resting.contains(&lane.author));
            let Some(allowance) = Some(share).filter(|_| !rests).and_then(|share| self.allowance(&connection, share))
            else {
                self.turns.push_back(connection);
                continue;
            };
            let Some(lane) = self.lanes.get_mut(&connection) else { continue };
            let before = slices.len();
            let used = lane.take(allowance, &mut filling, &mut slices);
            taken_bytes = taken_bytes.saturating_add(used);
            if slices.len() == before {
                // The commit is full: in the next one it is the first one's turn.
                self.turns.push_front(connection);
                break;
            }
            if used > allowance {
                self.owed_bytes.insert(connection, used - allowance);
            }
            let is_left = !lane.jobs.is_empty();
            if is_left {
                self.turns.push_back(connection);
            } else {
                self.remove(&connection);
            }
        }
        self.pace.note(taken_bytes, now);
        // What is left of a request comes back with it, or not at all.
        self.bytes -= taken_bytes + slices.iter().map(|slice| slice.job.left_bytes).sum::<usize>();
        slices
    }

    /// Takes out all that waits.
    pub(super) fn clear(&mut self) -> Vec<Job> {
        let lanes = std::mem::replace(self, Self::new(self.pace.since)).lanes;
        lanes.into_values().flat_map(|lane| lane.jobs).collect()
    }

    /// Notes that a connection writes.
    fn note(&mut self, connection: ConnectionId, at: Instant) {
        if self.last[0].is_none_or(|(last, _)| last != connection) {
            self.last[1] = self.last[0];
        }
        self.last[0] = Some((connection, at));
    }

    fn lane(&mut self, author: &Author) -> &mut Lane {
        self.lanes.entry(author.connection).or_insert_with(|| {
            let author_key = author.key();
            *self.authors.entry(author_key.clone()).or_default() += 1;
            self.turns.push_back(author.connection);
            Lane { author: author_key, jobs: VecDeque::new() }
        })
    }

    fn remove(&mut self, connection: &ConnectionId) {
        let Some(lane) = self.lanes.remove(connection) else { return };
        if let Some(count) = self.authors.get_mut(&lane.author) {
            *count -= 1;
            if *count == 0 {
                self.authors.remove(&lane.author);
            }
        }
    }

    /// Returns how much of a commit is an author's: an equal part for each.
    fn share_of_author(&self) -> usize {
        (COMMIT_SHARED_BYTES / self.authors.len().max(1)).max(COMMIT_SHARE_BYTES_MIN)
    }

    /// Returns how much of a commit is a lane's: an equal part of its author's for each of them.
    fn share(&self, connection: &ConnectionId) -> usize {
        let lanes = self.lanes.get(connection).and_then(|lane| self.authors.get(&lane.author)).copied();
        (self.share_of_author() / lanes.unwrap_or(1).max(1)).max(1)
    }

    /// Returns how much of its share a lane may have of this commit, or `None` if it has to make up for what it had before.
    fn allowance(&mut self, connection: &ConnectionId, share: usize) -> Option<usize> {
        let Some(owed) = self.owed_bytes.remove(connection) else { return Some(share) };
        if owed < share {
            return Some(share - owed);
        }
        self.owed_bytes.insert(*connection, owed - share);
        None
    }

    /// Returns the authors whose turn passes because what they wrote took long, though not that of all who wait. Those who have
    /// nothing waiting pay too.
    fn resting(&mut self) -> HashSet<AuthorKey> {
        let (each, mut owed_time) = (self.share_of_author(), std::mem::take(&mut self.owed_time));
        let owed = |author: &AuthorKey| owed_time.get(author).copied().unwrap_or_default();
        let passes = self.authors.keys().map(|author| owed(author) / each).min().unwrap_or(0);
        let mut resting = HashSet::new();
        owed_time.retain(|author, owed| {
            *owed = owed.saturating_sub(each.saturating_mul(passes));
            let waits = self.authors.contains_key(author);
            if waits && *owed < each {
                return *owed > 0;
            }
            if waits {
                resting.insert(author.clone());
            }
            *owed = owed.saturating_sub(each);
            *owed > 0
        });
        self.owed_time = owed_time;
        resting
    }

    /// Lets those pay who have nothing waiting, and then as many turns pass as it takes until one is due of those who do not rest.
    fn forgive(&mut self, resting: &HashSet<AuthorKey>) {
        let mut owed_bytes = std::mem::take(&mut self.owed_bytes);
        let owed = |connection: &ConnectionId| owed_bytes.get(connection).copied().unwrap_or_default();
        let rests =
            |connection: &ConnectionId| self.lanes.get(connection).is_some_and(|it| resting.contains(&it.author));
        let due = self.turns.iter().filter(|connection| resting.is_empty() || !rests(connection));
        let passes = due.map(|connection| owed(connection) / self.share(connection)).min().unwrap_or(0);
        owed_bytes.retain(|connection, owed| {
            let turns = if self.lanes.contains_key(connection) { passes } else { passes + 1 };
            *owed = owed.saturating_sub(self.share(connection).saturating_mul(turns));
            *owed > 0
        });
        self.owed_bytes = owed_bytes;
    }
}

impl Lane {
    /// Takes out what the commit has room for, until it weighs as much as is allowed or more. Returns its weight.
    fn take(&mut self, allowance: usize, filling: &mut Filling, slices: &mut Vec<Slice>) -> usize {
        let mut used = 0;
        while used < allowance
            && !filling.is_full()
            && let Some(mut job) = self.jobs.pop_front()
        {
            let start = job.done.len();
            let mut end = start;
            for write in &job.writes[start..] {
                let bytes = bytes_of(&write.what);
                if used >= allowance || !filling.has_room(bytes) {
                    break;
                }
                filling.changes += 1;
                filling.bytes += bytes;
                used = used.saturating_add(weight(bytes));
                job.left_bytes -= weight(bytes);
                end += 1;
            }
            if end == start && !job.writes.is_empty() {
                self.jobs.push_front(job);
                break;
            }
            filling.requests += 1;
            // Nothing goes before the rest of it.
            let is_whole = end == job.writes.len();
            slices.push(Slice { job, writes: start..end });
            if !is_whole {
                break;
            }
        }
        used
    }
}

/// What a change of this length counts.
pub(super) fn weight(bytes: usize) -> usize {
    bytes.saturating_add(APPEND_OVERHEAD_BYTES)
}

/// Returns how many bytes a write brings.
pub(super) fn bytes_of(write: &OfferedWrite) -> usize {
    match write {
        OfferedWrite::Change(change) | OfferedWrite::PassedOn(change) => change.bytes().len(),
        OfferedWrite::Deleted(tombstone) | OfferedWrite::DeletedElsewhere(tombstone) => tombstone.by.len(),
    }
}
