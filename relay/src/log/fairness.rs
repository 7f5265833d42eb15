//! Turns at the log: whoever writes without a pause does not keep others waiting. Told by what each commit holds, not by time.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rejoin::gate::{Action, ChangeDraft, DraftObject, DraftOp, encode};
use rejoin::ledger;
use rejoin::store::{MemoryStore, ReadTx, Store, StoreError, WriteTx};
use rejoin::{ActorId, ScalarValue};
use tokio::sync::oneshot;

use super::entrance::Entrance;
use super::inbox::{Inbox, Urgent};
use super::queue::{Answer, Job, Lanes, Left, Slice, bytes_of, weight};
use super::tests::{POISON, chain, offered, standing};
use super::*;
use crate::hub::Hub;
use crate::limits::{
    APPEND_OVERHEAD_BYTES, COMMIT_BUSY_REQUESTS, COMMIT_CHANGES_MAX, COMMIT_ENOUGH_BYTES, COMMIT_INTERVAL,
    COMMIT_REQUESTS_MAX, COMMIT_SHARE_BYTES_MIN, COMMIT_SHARED_BYTES, COMMIT_SHARED_FOR, FOLD_NOTICED_BYTES,
    GATHER_BYTES_MAX,
};

const TEAM: SpaceId = SpaceId::from_bytes([0xe1; 16]);

fn document(number: u16) -> DocumentId {
    let [high, low] = number.to_be_bytes();
    DocumentId::from_bytes([high, low, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9])
}

/// A queue without a thread, and a clock that stands.
struct Table {
    hub: Hub,
    entrance: Entrance,
    lanes: Lanes,
    now: Instant,
}

impl Table {
    fn new() -> Self {
        let now = Instant::now();
        Self { hub: Hub::default(), entrance: Entrance::new(), lanes: Lanes::new(now), now }
    }

    fn author(&self, principal: Option<&str>) -> Author {
        let principal = principal.map(|name| PrincipalId::new(name).unwrap());
        Author { connection: self.hub.next_id(), principal, permit: None }
    }

    /// Queues a push to a document.
    fn push(&mut self, author: &Author, number: u16, changes: Vec<CheckedChange>) {
        self.queue(author, Some(TEAM), number, changes);
    }

    fn queue(&mut self, author: &Author, space: Option<SpaceId>, number: u16, changes: Vec<CheckedChange>) {
        self.lanes.push(self.job(author, space, number, changes));
    }

    fn job(&self, author: &Author, space: Option<SpaceId>, number: u16, changes: Vec<CheckedChange>) -> Job {
        let writes = offered(document(number), changes);
        let left_bytes = writes.iter().map(|write| weight(bytes_of(&write.what))).sum();
        let _room = self.entrance.enter(&author.key(), 0).now_or_never().unwrap().unwrap();
        let (answer, _) = oneshot::channel();
        let answer = Answer::Outcomes(answer);
        Job { author: author.clone(), space, since: self.now, writes, left_bytes, done: Vec::new(), answer, _room }
    }

    /// Carries out the next commit: of each slice, whose it is, of which document, and which writes.
    fn commit(&mut self) -> Vec<(ConnectionId, DocumentId, std::ops::Range<usize>)> {
        let slices = self.lanes.take(self.now);
        let mut told = Vec::new();
        let mut unfinished = Vec::new();
        for Slice { mut job, writes } in slices {
            assert_eq!(job.done.len(), writes.start);
            told.push((job.author.connection, job.writes[0].document, writes.clone()));
            job.done.resize(writes.end, Written::Failed);
            if job.done.len() < job.writes.len() {
                unfinished.push(Left { job, is_untouched: false });
            }
        }
        self.lanes.put_back(unfinished, self.now);
        told
    }
}

/// As many small changes, which no store would take.
fn small(count: usize) -> Vec<CheckedChange> {
    vec![chain(1).remove(0); count]
}

/// A change of at least so many bytes.
fn large(bytes: usize) -> CheckedChange {
    let op = DraftOp {
        object: DraftObject::Root,
        key: "k".to_owned(),
        action: Action::Put,
        value: ScalarValue::Bytes(vec![7; bytes]),
        preds: Vec::new(),
    };
    let draft = ChangeDraft {
        actor: ActorId::from(&b"alice"[..]),
        seq: 1,
        start_op: 1,
        timestamp: 0,
        message: None,
        deps: Vec::new(),
        ops: vec![op],
    };
    encode(&draft).unwrap()
}

fn weight_of_small() -> usize {
    weight(bytes_of(&offered(document(0), small(1))[0].what))
}

#[test]
fn thousands_of_requests_of_one_delay_nobody_beyond_the_next_commit() {
    let mut table = Table::new();
    let (flooder, honest) = (table.author(None), table.author(None));
    for _ in 0..5 {
        for number in 0..1_000 {
            table.push(&flooder, number, small(4));
        }
    }
    // Alone it has the whole commit.
    assert_eq!(table.commit().len(), COMMIT_REQUESTS_MAX);
    table.push(&honest, 7_000, small(3));
    let commit = table.commit();
    assert!(commit.contains(&(honest.connection, document(7_000), 0..3)));
    let of_flooder: usize =
        commit.iter().filter(|(from, ..)| *from == flooder.connection).map(|(.., it)| it.len()).sum();
    let most = COMMIT_SHARED_BYTES / 2 / weight_of_small() + 1;
    assert!((most / 2..=most).contains(&of_flooder), "{of_flooder} of {most}");
    // For a while the commits stay short, since another one may come soon.
    let of_flooder: usize = table.commit().iter().map(|(.., it)| it.len()).sum();
    assert!(of_flooder <= 2 * most, "{of_flooder}");
    table.now += COMMIT_SHARED_FOR;
    assert_eq!(table.commit().len(), COMMIT_REQUESTS_MAX);
}

#[test]
fn who_writes_little_or_beside_others_would_notice_what_keeps_the_store() {
    let mut table = Table::new();
    let (flooder, honest) = (table.author(None), table.author(None));
    let second = Duration::from_secs(1);
    let is_noticed = |table: &mut Table| {
        let slices = table.lanes.take(table.now);
        table.lanes.is_noticed(&slices, table.now)
    };
    let much = FOLD_NOTICED_BYTES / weight_of_small() + 1;
    assert!(!is_noticed(&mut table), "nobody writes");
    table.push(&honest, 1, small(2));
    assert!(is_noticed(&mut table), "one writes little");
    table.now += COMMIT_SHARED_FOR;
    table.push(&flooder, 2, small(much));
    assert!(!is_noticed(&mut table), "one writes much, alone");
    table.now += second;
    table.push(&flooder, 2, small(1));
    assert!(!is_noticed(&mut table), "it did in the second before");
    table.now += 2 * second;
    table.push(&flooder, 2, small(1));
    assert!(is_noticed(&mut table), "it writes little now");
    table.push(&flooder, 2, small(much));
    assert!(!is_noticed(&mut table), "and much again");
    table.push(&honest, 1, small(1));
    assert!(is_noticed(&mut table), "two write");
    table.push(&flooder, 2, small(much));
    assert!(is_noticed(&mut table), "another one wrote just now");
}

#[test]
fn pushes_of_a_connection_keep_their_order_whatever_is_left_of_them() {
    let mut table = Table::new();
    let (one, other) = (table.author(None), table.author(None));
    for number in 0..6 {
        table.push(&one, number, small(500));
    }
    let mut written = Vec::new();
    let mut commits = 0;
    while !table.lanes.is_empty() {
        if commits < 20 {
            table.push(&other, 100 + commits, small(1));
        }
        commits += 1;
        let commit = table.commit();
        assert!(commit.len() > 1 || commits > 20);
        written.extend(commit);
    }
    let of_one: Vec<_> = written.iter().filter(|(from, ..)| *from == one.connection).collect();
    let mut next = (0, 0);
    for (_, of, range) in of_one {
        assert_eq!((*of, range.start), (document(next.0), next.1));
        next = if range.end == 500 { (next.0 + 1, 0) } else { (next.0, range.end) };
    }
    assert_eq!(next, (6, 0));
    let of_other = written.iter().filter(|(from, ..)| *from == other.connection).map(|(_, of, _)| *of);
    assert_eq!(of_other.collect::<Vec<_>>(), (100..120).map(document).collect::<Vec<_>>());
}

#[test]
fn rest_of_what_is_not_pushed_waits_behind_what_came_later() {
    let mut table = Table::new();
    let (one, other) = (table.author(None), table.author(None));
    table.queue(&one, None, 1, small(1_000));
    table.queue(&one, None, 2, small(1));
    table.push(&other, 3, small(1));
    assert!(matches!(&table.commit()[..], [(_, first, _), _] if *first == document(1)));
    assert!(
        matches!(&table.commit()[..], [(_, first, _), (_, second, _)] if (*first, *second) == (document(2), document(1)))
    );
}

#[test]
fn big_request_goes_on_between_those_of_others() {
    let mut table = Table::new();
    let (big, honest) = (table.author(None), table.author(None));
    table.push(&big, 1, small(3 * COMMIT_CHANGES_MAX));
    let mut done = 0;
    let mut commits = 0;
    while done < 3 * COMMIT_CHANGES_MAX {
        table.push(&honest, 2, small(1));
        let commit = table.commit();
        assert!(commit.iter().any(|(from, ..)| *from == honest.connection));
        let of_big = commit.iter().find(|(from, ..)| *from == big.connection).map(|(.., it)| it.clone()).unwrap();
        assert_eq!(of_big.start, done);
        done = of_big.end;
        commits += 1;
    }
    assert!(commits > 3 * COMMIT_CHANGES_MAX * weight_of_small() / COMMIT_SHARED_BYTES, "{commits}");
}

#[test]
fn many_who_write_a_little_are_in_one_commit() {
    let mut table = Table::new();
    for number in 0..1_000 {
        let author = table.author(None);
        table.push(&author, number, small(2));
    }
    assert_eq!(table.commit().len(), 1_000);
    // And those that did not fit are the first in the next.
    let authors: Vec<Author> = (0..COMMIT_REQUESTS_MAX + 10).map(|_| table.author(None)).collect();
    for author in &authors {
        table.push(author, 1, small(2));
    }
    let (first, second) = (table.commit(), table.commit());
    assert_eq!((first.len(), second.len()), (COMMIT_REQUESTS_MAX, 10));
    assert_eq!(second[0].0, authors[COMMIT_REQUESTS_MAX].connection);
}

#[test]
fn connections_of_a_principal_share_its_turn() {
    let mut table = Table::new();
    let honest = table.author(Some("honest"));
    for _ in 0..8 {
        let flooder = table.author(Some("flooder"));
        table.push(&flooder, 1, small(1_000));
    }
    table.push(&honest, 2, small(1_000));
    let commit = table.commit();
    let counts = |mine: bool| -> usize {
        commit.iter().filter(|(from, ..)| (*from == honest.connection) == mine).map(|(.., it)| it.len()).sum()
    };
    assert_eq!(commit.len(), 9);
    assert!(counts(false) <= counts(true) + 8, "{} beside {}", counts(false), counts(true));
    // However many they are, another one is in the next commit, and each of them gets on.
    for _ in 0..256 {
        let flooder = table.author(Some("flooder"));
        table.push(&flooder, 1, small(2));
    }
    let late = table.author(Some("late"));
    table.push(&late, 3, small(COMMIT_SHARE_BYTES_MIN / weight_of_small()));
    let commit = table.commit();
    assert!(commit.iter().any(|(_, of, range)| *of == document(3) && range.start == 0));
    assert!(commit.len() > 256, "{}", commit.len());
}

#[test]
fn write_that_is_heavier_than_its_share_goes_whole_and_is_made_up_for() {
    let mut table = Table::new();
    let (heavy, honest) = (table.author(None), table.author(None));
    let share = COMMIT_SHARED_BYTES / 2;
    table.push(&heavy, 1, vec![large(10 * share); 2]);
    let mut passed = Vec::new();
    for number in 0_u16.. {
        table.push(&honest, 100 + number, small(1));
        let commit = table.commit();
        assert!(commit.iter().any(|(from, ..)| *from == honest.connection));
        if commit.len() == 2 {
            passed.push(number);
        }
        if passed.len() == 2 {
            break;
        }
    }
    assert_eq!(passed[0], 0);
    assert!((9..=11).contains(&passed[1]), "{passed:?}");
    // Where nobody waits, nothing is held back for its sake.
    table.push(&heavy, 1, vec![large(10 * share); 3]);
    for _ in 0..3 {
        assert_eq!(table.commit().len(), 1);
    }
    assert!(table.lanes.is_empty());
}

#[test]
fn who_took_long_is_passed_over_while_others_wait_with_all_its_connections() {
    let mut table = Table::new();
    let honest = table.author(None);
    let [slow, again] = [(); 2].map(|()| table.author(Some("slow")));
    let share = COMMIT_SHARED_BYTES / 2;
    table.push(&slow, 1, small(1));
    table.push(&honest, 2, small(1));
    assert_eq!(table.commit().len(), 2);
    table.lanes.owe(slow.key(), 10 * share);
    table.push(&again, 1, small(1));
    let mut commits = 0;
    while table.lanes.has(&again.connection) {
        table.push(&honest, 2, small(1));
        assert!(table.commit().iter().any(|(from, ..)| *from == honest.connection));
        commits += 1;
    }
    assert_eq!(commits, 11);
    // Where nobody waits, nothing is held back for its sake.
    table.lanes.owe(slow.key(), 10 * share);
    table.push(&slow, 1, small(1));
    assert_eq!(table.commit().len(), 1);
}

#[test]
fn those_for_whom_a_commit_had_no_time_are_the_first_in_the_next() {
    let mut table = Table::new();
    let authors: Vec<Author> = (0..5).map(|_| table.author(None)).collect();
    for (number, author) in (0..).zip(&authors) {
        table.push(author, number, small(2));
        table.push(author, 10 + number, small(1));
    }
    let slices = table.lanes.take(table.now);
    let left = slices.into_iter().enumerate().filter(|(at, _)| *at > 0).map(|(at, Slice { mut job, writes })| {
        // The time was over in the first one's second request, and after the first change of the third connection.
        let is_begun = at == 4;
        let done = if is_begun { 1 } else { 0 };
        job.done.resize(writes.start + done, Written::Failed);
        job.left_bytes = (job.writes.len() - job.done.len()) * weight_of_small();
        Left { job, is_untouched: !is_begun }
    });
    let left = left.collect();
    table.lanes.put_back(left, table.now);
    let commit = table.commit();
    let order: Vec<_> = commit.iter().map(|(from, of, range)| (*from, *of, range.clone())).collect();
    let number = |at: usize| authors[at].connection;
    // The order of each connection's requests stays; the connection that was served comes last.
    assert_eq!(order[0], (number(0), document(10), 0..1));
    assert_eq!(order[1..3], [(number(1), document(1), 0..2), (number(1), document(11), 0..1)]);
    assert_eq!(order[3..5], [(number(3), document(3), 0..2), (number(3), document(13), 0..1)]);
    assert_eq!(order[7..], [(number(2), document(2), 1..2), (number(2), document(12), 0..1)]);
    assert!(table.lanes.is_empty());
}

#[test]
fn commits_wait_for_more_only_while_few_requests_come() {
    let mut table = Table::new();
    let one = table.author(None);
    let start = table.now;
    let last = u32::try_from(COMMIT_BUSY_REQUESTS).unwrap() - 1;
    // As far apart as just fits: the last one comes when the first one has waited for the whole interval.
    for number in 0..=last {
        assert!(!table.lanes.is_busy(table.now), "{number}");
        table.now = start + COMMIT_INTERVAL * number / last;
        table.push(&one, 1, small(1));
    }
    assert!(table.lanes.is_busy(start + COMMIT_INTERVAL));
    assert!(!table.lanes.is_busy(start + COMMIT_INTERVAL + Duration::from_nanos(1)));
    // Those that are committed count too: it is about what comes.
    while !table.lanes.is_empty() {
        table.commit();
    }
    assert!(table.lanes.is_busy(start + COMMIT_INTERVAL));
}

#[test]
fn what_nobody_waits_for_gathers_until_enough_is_there() {
    let mut table = Table::new();
    let one = table.author(None);
    let each = weight(small(1)[0].bytes().len());
    let enough = COMMIT_ENOUGH_BYTES.div_ceil(each);
    (0..enough - 2).for_each(|_| table.queue(&one, None, 1, small(1)));
    table.push(&one, 1, small(1));
    assert!(!table.lanes.is_busy(table.now), "the classic protocol has no acknowledgement");
    table.queue(&one, None, 1, small(1));
    assert!(table.lanes.is_busy(table.now));
    // What is left of a request that is too long for a commit counts, and what was committed does not.
    table.queue(&one, None, 2, small(COMMIT_CHANGES_MAX));
    assert_eq!(table.commit().len(), enough + 1);
    assert!(table.lanes.is_busy(table.now));
    table.commit();
    assert!(!table.lanes.is_busy(table.now) && table.lanes.is_empty());
    // As much as one connection brings at a time.
    table.queue(&one, None, 1, vec![large(GATHER_BYTES_MAX)]);
    assert!(table.lanes.is_busy(table.now));
}

#[test]
fn thread_that_gathers_is_woken_when_enough_is_there() {
    /// Being woken ends it, or a minute that no test has.
    const LONGEST: Duration = Duration::from_secs(60);
    let table = Table::new();
    let one = table.author(None);
    let inbox = Arc::new(Inbox::new(Instant::now));
    let push = |space, changes| {
        let since = Instant::now();
        inbox.push(Job { since, ..table.job(&one, space, 1, small(changes)) }).unwrap();
    };
    push(None, 1);
    let gathers = |ends: &dyn Fn()| {
        let glance = inbox.glance(Instant::now());
        assert!(inbox.has_jobs() && !glance.is_busy);
        std::thread::scope(|scope| {
            let gathering = scope.spawn(|| {
                let since = Instant::now();
                inbox.wait_for_more(glance, LONGEST);
                since.elapsed()
            });
            while !inbox.is_gathering() {
                std::thread::yield_now();
            }
            push(None, 1);
            assert!(inbox.is_gathering(), "one more is not enough");
            ends();
            assert!(gathering.join().unwrap() < LONGEST, "nobody woke it");
        });
    };
    gathers(&|| inbox.tell(Urgent::Probe(oneshot::channel().0)).unwrap());
    assert!(inbox.pop_urgent().is_some());
    // Those that are to be acknowledged, one after the other until so many come within the time that they wait for no more.
    gathers(&|| {
        while inbox.is_gathering() {
            push(Some(TEAM), 1);
        }
    });
    while inbox.has_jobs() {
        inbox.take(Instant::now());
    }
    let busy = Instant::now();
    while inbox.glance(Instant::now()).is_busy {
        assert!(busy.elapsed() < LONGEST);
        std::thread::yield_now();
    }
    push(None, 1);
    gathers(&|| push(None, COMMIT_ENOUGH_BYTES / APPEND_OVERHEAD_BYTES));
    assert!(inbox.glance(Instant::now()).is_busy);
    while inbox.has_jobs() {
        inbox.take(Instant::now());
    }
    push(Some(TEAM), 1);
    gathers(&|| inbox.close());
}

/// Commits only while the gate is open, and notes how many changes each document has after each commit.
struct Gated {
    inner: MemoryStore,
    gate: Mutex<()>,
    commits: Mutex<Vec<BTreeMap<DocumentId, u64>>>,
    watched: Vec<DocumentId>,
}

impl Gated {
    fn new(watched: &[DocumentId]) -> Arc<Self> {
        let (inner, watched) = (MemoryStore::new(), watched.to_vec());
        Arc::new(Self { inner, gate: Mutex::default(), commits: Mutex::default(), watched })
    }
}

impl Store for Gated {
    fn read(&self) -> Result<Box<dyn ReadTx + '_>, StoreError> {
        self.inner.read()
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn WriteTx) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let _open = self.gate.lock().unwrap();
        let mut counts = BTreeMap::new();
        self.inner.write(&mut |tx| {
            work(tx)?;
            if ledger::state(tx, &POISON)?.is_some() {
                return Err(StoreError::Damaged { what: "poison" });
            }
            for document in &self.watched {
                counts.insert(*document, ledger::state(tx, document)?.map_or(0, |state| state.count));
            }
            Ok(())
        })?;
        self.commits.lock().unwrap().push(counts);
        Ok(())
    }
}

/// Queues a push at once: tokio would let a task wait after a hundred of them, to give others a turn.
fn queued<T>(push: impl Future<Output = T>) -> T {
    tokio::task::unconstrained(push).now_or_never().unwrap()
}

#[tokio::test]
async fn what_waits_behind_a_flood_is_in_the_commit_after_the_one_under_way() {
    let [flooded, honest] = [document(1), document(2)];
    let (store, hub) = (Gated::new(&[flooded, honest]), Arc::new(Hub::default()));
    let log = GroupCommit::start_at(Arc::clone(&store) as Arc<dyn Store>, Arc::clone(&hub), standing).unwrap();
    let (flooder, other) = (Author::from(hub.next_id()), Author::from(hub.next_id()));
    let changes = chain(3_000);
    let mut answers = Vec::new();
    {
        // The first commit is held up until everything is queued.
        let closed = store.gate.lock().unwrap();
        answers.push(queued(log.push(flooder.clone(), TEAM, offered(flooded, changes[..1].to_vec()))));
        while log.has_waiting() {
            std::thread::sleep(Duration::from_millis(1));
        }
        for some in changes[1..].chunks(3) {
            answers.push(queued(log.push(flooder.clone(), TEAM, offered(flooded, some.to_vec()))));
        }
        answers.push(queued(log.push(other, TEAM, offered(honest, chain(2)))));
        drop(closed);
    }
    for answer in answers {
        let outcomes = answer.unwrap().await.unwrap().unwrap();
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Stored { .. })));
    }
    let commits = store.commits.lock().unwrap().clone();
    assert_eq!(commits[0], BTreeMap::from([(flooded, 1), (honest, 0)]));
    assert_eq!(commits[1][&honest], 2, "{commits:?}");
    assert!(commits[1][&flooded] > 1 && commits[1][&flooded] < 1_000);
    assert_eq!(commits.last().unwrap()[&flooded], 3_000);
    assert!(commits.len() > 3_000 * weight_of_small() / COMMIT_SHARED_BYTES, "{}", commits.len());
}

#[tokio::test]
async fn what_is_left_of_a_request_comes_before_the_next_also_beside_a_document_that_cannot_be_stored() {
    let long = document(1);
    let (store, hub) = (Gated::new(&[long]), Arc::new(Hub::default()));
    let log = GroupCommit::start_at(Arc::clone(&store) as Arc<dyn Store>, Arc::clone(&hub), hurrying).unwrap();
    let [writer, other] = [(); 2].map(|()| Author::from(hub.next_id()));
    let changes = chain(40);
    let (mut answers, bad) = {
        let closed = store.gate.lock().unwrap();
        // What the thread waits at the gate with.
        let first = queued(log.push(other.clone(), TEAM, offered(document(2), chain(1))));
        let some = changes.chunks(20).map(|some| queued(log.push(writer.clone(), TEAM, offered(long, some.to_vec()))));
        let answers: Vec<_> = std::iter::once(first).chain(some).collect();
        let bad = queued(log.push(other, TEAM, offered(POISON, chain(1))));
        drop(closed);
        (answers, bad)
    };
    for answer in answers.drain(..) {
        for outcome in answer.unwrap().await.unwrap().unwrap() {
            assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
        }
    }
    assert!(!matches!(bad.unwrap().await.unwrap().unwrap()[..], [Outcome::Stored { .. }]));
    assert_eq!(store.commits.lock().unwrap().last().unwrap()[&long], 40);
}

/// A clock that goes on by 5 ms whenever somebody looks at it.
fn hurrying() -> Instant {
    static LOOKED: AtomicU32 = AtomicU32::new(0);
    standing() + Duration::from_millis(5) * LOOKED.fetch_add(1, Ordering::Relaxed)
}

#[tokio::test]
async fn commit_that_takes_long_ends_and_what_is_left_of_it_goes_on() {
    let [long, other, honest] = [document(1), document(2), document(3)];
    let (store, hub) = (Gated::new(&[long, other, honest]), Arc::new(Hub::default()));
    let log = GroupCommit::start_at(Arc::clone(&store) as Arc<dyn Store>, Arc::clone(&hub), hurrying).unwrap();
    let [slow, quick] = [(); 2].map(|()| Author::from(hub.next_id()));
    let (changes, [first, second]) = (chain(40), <[CheckedChange; 2]>::try_from(chain(2)).unwrap());
    let mut answers = Vec::new();
    {
        let closed = store.gate.lock().unwrap();
        for some in changes.chunks(20) {
            answers.push(queued(log.push(slow.clone(), TEAM, offered(long, some.to_vec()))));
        }
        // A commit may end between the two documents, when both changes of one are written.
        let [first, second] = [first, second].map(|change| offered(other, [change]).remove(0));
        let between = offered(document(4), chain(1)).remove(0);
        answers.push(queued(log.push(slow, TEAM, vec![first, between, second])));
        answers.push(queued(log.push(quick, TEAM, offered(honest, chain(2)))));
        drop(closed);
    }
    let mut positions = Vec::new();
    for answer in answers {
        for outcome in answer.unwrap().await.unwrap().unwrap() {
            // One may have been stored by the commit that had no time for the one before it.
            assert!(matches!(outcome, Outcome::Stored { .. } | Outcome::Duplicate), "{outcome:?}");
            positions.extend(match outcome {
                Outcome::Stored { first } => Some(first),
                _ => None,
            });
        }
    }
    let commits = store.commits.lock().unwrap().clone();
    let long: Vec<u64> = commits.iter().map(|counts| counts[&long]).collect();
    // Whoever was first was alone then.
    assert!(long.windows(2).all(|two| two[1] - two[0] <= 5) && long[0] <= 20, "{long:?}");
    assert_eq!(long.last(), Some(&40));
    // Whoever came late was not kept waiting for the others' changes.
    let waited = commits.iter().position(|counts| counts[&honest] == 2).unwrap();
    assert!(long[waited] < long[0] + 15, "{long:?}, {waited}");
    assert!(positions[..40].is_sorted() && positions.len() >= 44, "{positions:?}");
}
