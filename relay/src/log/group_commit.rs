//! The group commit: the writes of many connections in one commit.
//!
//! One thread writes. It takes what has gathered while the last commit was under way, puts it into one transaction, and
//! when that has reached the disk it answers every request and tells the hub which documents changed. A lone change is
//! committed at once. When changes come one after the other, commits begin [`COMMIT_INTERVAL`] apart: whoever reads them gets what
//! has gathered in one message, and to send it costs more than the commit. Where [`COMMIT_BUSY_REQUESTS`](crate::limits::COMMIT_BUSY_REQUESTS)
//! or more that are to be acknowledged come within that time, or [`COMMIT_ENOUGH_BYTES`](crate::limits::COMMIT_ENOUGH_BYTES) wait, commits
//! begin as soon as the last one is done, and [`COMMIT_INTERVAL_MIN`] apart at least.
//!
//! What a commit holds is chosen so that nobody waits for who writes without a pause ([`queue`](super::queue)). A request with more
//! changes than fit a commit, or its author's share of one, is carried out over several, between those of others.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rejoin::care;
use rejoin::deletion::Tombstone;
use rejoin::gate::CheckedChange;
use rejoin::ledger::Appended;
use rejoin::store::{self, Store, StoreError};
use rejoin::sync::v1::{Offered, OfferedWrite};
use rejoin::{ChangeHash, DocumentId, SpaceId};
use tokio::sync::oneshot;

use super::commit::{Done, Part, commit, news, parts};
use super::entrance::Entrance;
use super::inbox::{Deletion, Inbox, Urgent};
use super::queue::{Answer, Job, Left, Slice, bytes_of, weight};
use super::{AppendError, Author, AuthorKey, Log, Pushed, Results, Written};
use crate::audit::Refusals;
use crate::clock::now_seconds;
use crate::fold::Folding;
use crate::hub::{ConnectionId, Hub};
use crate::limits::{
    COMMIT_BYTES_PER_MICROSECOND, COMMIT_INTERVAL, COMMIT_INTERVAL_MIN, PROBE_AGAIN, PROBE_INTERVAL, RESTORED_GRACE,
};
use crate::metrics::{AppendResult, Metrics};
use crate::quota::Quota;

/// Hands writes to the thread that writes.
#[derive(Debug)]
pub(crate) struct GroupCommit {
    inbox: Arc<Inbox>,
    entrance: Arc<Entrance>,
    writable: Arc<AtomicBool>,
    owners_from: Arc<AtomicU64>,
    restored_at_seconds: Option<u64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl GroupCommit {
    /// Starts the thread that writes, where anything may be stored.
    #[cfg(test)]
    pub(crate) fn start(store: Arc<dyn Store>, hub: Arc<Hub>, folding: Option<Arc<Folding>>) -> std::io::Result<Self> {
        Self::start_with(store, hub, folding, Arc::new(Quota::without_bounds()), None, Arc::default())
    }

    /// As [`GroupCommit::start`], with a clock that tells whose turn it is and when a commit has taken long enough.
    #[cfg(test)]
    pub(crate) fn start_at(store: Arc<dyn Store>, hub: Arc<Hub>, clock: fn() -> Instant) -> std::io::Result<Self> {
        let quota = Arc::new(Quota::without_bounds());
        Self::spawn(Self::make(store, hub, None, quota, None, Arc::default(), clock))
    }

    /// Starts the thread that writes as much as there is room for, and has it record what it refuses.
    ///
    /// # Errors
    ///
    /// What the operating system says when it grants no thread.
    pub(crate) fn start_with(
        store: Arc<dyn Store>,
        hub: Arc<Hub>,
        folding: Option<Arc<Folding>>,
        quota: Arc<Quota>,
        refusals: Option<Refusals>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        Self::spawn(Self::make(store, hub, folding, quota, refusals, metrics, Instant::now))
    }

    /// Starts the thread that writes.
    fn spawn(made: Result<(Self, Writer), StoreError>) -> std::io::Result<Self> {
        let (log, writer) = made.map_err(std::io::Error::other)?;
        let thread = std::thread::Builder::new().name("group-commit".to_owned()).spawn(move || writer.run())?;
        *log.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(log)
    }

    /// Makes both ends of the queue, and starts nothing. The clock tells whose turn it is.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub(crate) fn make(
        store: Arc<dyn Store>,
        hub: Arc<Hub>,
        folding: Option<Arc<Folding>>,
        quota: Arc<Quota>,
        refusals: Option<Refusals>,
        metrics: Arc<Metrics>,
        clock: fn() -> Instant,
    ) -> Result<(Self, Writer), StoreError> {
        let restored_at_seconds = care::restored_at(&*store.read()?)?;
        let owners_from = Arc::new(AtomicU64::new(0));
        let inbox = Arc::new(Inbox::new(clock));
        let writable = Arc::new(AtomicBool::new(true));
        let writer = Writer {
            refusals,
            store,
            hub,
            folding,
            metrics,
            quota,
            inbox: Taking(Arc::clone(&inbox)),
            writable: Writable { is: Arc::clone(&writable), since: None },
            owners_from: Arc::clone(&owners_from),
        };
        let (entrance, thread) = (Arc::new(Entrance::new()), Mutex::new(None));
        let log = Self { inbox, entrance, writable, owners_from, restored_at_seconds, thread };
        log.set_restored_grace(RESTORED_GRACE);
        Ok((log, writer))
    }

    /// Sets for how long after a restore the owners of actors are not asked, so that devices bring back under whatever actor what
    /// the backup lacked. Default: [`RESTORED_GRACE`].
    pub(crate) fn set_restored_grace(&self, grace: Duration) {
        let from = self.restored_at_seconds.map_or(0, |restored| restored.saturating_add(grace.as_secs()));
        self.owners_from.store(from, Ordering::Relaxed);
    }
}

impl GroupCommit {
    /// Says whether anything waits for the thread.
    #[cfg(test)]
    pub(super) fn has_waiting(&self) -> bool {
        self.inbox.has_jobs()
    }

    /// Queues a request when there is room for it.
    fn queue(
        &self,
        author: Author,
        space: Option<SpaceId>,
        writes: Vec<Offered>,
        answer: Answer,
    ) -> impl Future<Output = Result<(), AppendError>> + Send + use<> {
        let (inbox, entrance) = (Arc::clone(&self.inbox), Arc::clone(&self.entrance));
        async move {
            let left_bytes = writes.iter().map(|write| weight(bytes_of(&write.what))).sum();
            let room = entrance.enter(&author.key(), left_bytes).await?;
            let done = Vec::with_capacity(writes.len());
            inbox.push(Job { author, space, since: inbox.now(), writes, left_bytes, done, answer, _room: room })
        }
    }
}

impl Drop for GroupCommit {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

impl Log for GroupCommit {
    fn append(
        &self,
        author: Author,
        document: DocumentId,
        changes: Vec<CheckedChange>,
    ) -> BoxFuture<'static, Result<Results, AppendError>> {
        let (answer, answered) = oneshot::channel();
        let writes = changes.into_iter().map(|change| Offered { document, what: OfferedWrite::Change(change) });
        let queued = self.queue(author, None, writes.collect(), Answer::Results(answer));
        Box::pin(async move {
            queued.await?;
            answered.await.map_err(|_| AppendError::Stopped)?
        })
    }

    fn push(
        &self,
        author: Author,
        space: SpaceId,
        writes: Vec<Offered>,
    ) -> BoxFuture<'static, Result<Pushed, AppendError>> {
        let (answer, answered) = oneshot::channel();
        let queued = self.queue(author, Some(space), writes, Answer::Outcomes(answer));
        Box::pin(async move {
            queued.await?;
            Ok(answered)
        })
    }

    fn delete(
        &self,
        author: Author,
        document: DocumentId,
        tombstone: Tombstone,
    ) -> BoxFuture<'static, Result<(), AppendError>> {
        let inbox = Arc::clone(&self.inbox);
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            inbox.tell(Urgent::Delete(Deletion { author, document, tombstone, answer }))?;
            answered.await.map_err(|_| AppendError::Stopped)?
        })
    }

    fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }

    fn probe(&self) -> BoxFuture<'static, bool> {
        let inbox = Arc::clone(&self.inbox);
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            // A thread that is gone writes nothing.
            inbox.tell(Urgent::Probe(answer)).is_ok() && answered.await.unwrap_or(false)
        })
    }

    fn finish(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.inbox.close();
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(thread) = thread {
                // Its panic, if there was one, was reported by itself, and shows to whoever asks for anything.
                let _ = tokio::task::spawn_blocking(move || thread.join()).await;
            }
        })
    }
}

/// The thread that writes.
pub(crate) struct Writer {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    /// Is told what grew.
    folding: Option<Arc<Folding>>,
    metrics: Arc<Metrics>,
    /// Says how much may be stored.
    quota: Arc<Quota>,
    inbox: Taking,
    writable: Writable,
    /// From when on the owners of actors are asked, in seconds since 1970.
    owners_from: Arc<AtomicU64>,
    /// Records what is refused.
    refusals: Option<Refusals>,
}

/// Whether the store takes writes, as far as it was tried.
struct Writable {
    is: Arc<AtomicBool>,
    /// When it was last tried.
    since: Option<Instant>,
}

impl Writable {
    fn get(&self) -> bool {
        self.is.load(Ordering::Relaxed)
    }

    fn note(&mut self, is: bool) {
        self.is.store(is, Ordering::Relaxed);
        self.since = Some(Instant::now());
    }

    /// Says whether it is time to try it again.
    fn is_due(&self) -> bool {
        let interval = if self.get() { PROBE_INTERVAL } else { PROBE_AGAIN };
        self.since.is_none_or(|since| since.elapsed() >= interval)
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        // However the thread ends, nothing is written any more.
        self.is.store(false, Ordering::Relaxed);
    }
}

/// What the thread takes from. However the thread ends, nobody waits for it any more.
struct Taking(Arc<Inbox>);

impl std::ops::Deref for Taking {
    type Target = Inbox;

    fn deref(&self) -> &Inbox {
        &self.0
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Writer {
    fn run(mut self) {
        let mut last = Instant::now().checked_sub(COMMIT_INTERVAL).unwrap_or_else(Instant::now);
        let mut is_left = false;
        loop {
            // What an earlier commit had no room for does not wait.
            if !is_left {
                // Asleep until the next commit may begin, whether anything waits for it yet or not: to be woken costs more than to look.
                self.gather(last);
                if !self.inbox.wait() {
                    return;
                }
            }
            self.do_urgent();
            let now = Instant::now();
            let turn = self.inbox.take(now);
            if let Some(folding) = self.folding.as_ref().filter(|_| turn.is_noticed) {
                folding.give_way(now);
            }
            is_left = turn.is_left;
            if !turn.slices.is_empty() {
                last = now;
                is_left |= self.carry_out(turn.slices);
            }
        }
    }

    /// Says whether nothing waits.
    #[cfg(feature = "testing")]
    pub(crate) fn is_idle(&self) -> bool {
        self.inbox.is_idle()
    }

    /// Does what the thread does once round, with what waits now. Says whether there was anything.
    #[cfg(feature = "testing")]
    pub(crate) fn turn(&mut self) -> bool {
        let is_idle = self.inbox.is_idle();
        self.do_urgent();
        let turn = self.inbox.take(self.inbox.now());
        if !turn.slices.is_empty() {
            self.carry_out(turn.slices);
        }
        !is_idle
    }

    /// Waits until it is time for the next commit. The last one began then.
    fn gather(&mut self, last: Instant) {
        loop {
            self.do_urgent();
            let now = Instant::now();
            let glance = self.inbox.glance(now);
            let interval = if glance.is_busy { COMMIT_INTERVAL_MIN } else { COMMIT_INTERVAL };
            let left = (last + interval).saturating_duration_since(now);
            // The relay's end does not wait.
            if left.is_zero() || glance.is_closed {
                return;
            }
            self.inbox.wait_for_more(glance, left);
        }
    }

    /// Does what does not wait for a commit. A deletion is one: of several, the others wait for those who write.
    fn do_urgent(&mut self) {
        while let Some(urgent) = self.inbox.pop_urgent() {
            match urgent {
                Urgent::Probe(answer) => {
                    // Whoever asked may have lost patience.
                    let _ = answer.send(self.probe());
                }
                Urgent::Delete(deletion) => {
                    self.delete(deletion);
                    if self.inbox.has_jobs() {
                        return;
                    }
                }
            }
        }
    }

    /// Deletes at once: of changes to the document that wait for their commit, none is taken any more.
    fn delete(&mut self, deletion: Deletion) {
        let Deletion { author, document, tombstone, answer } = deletion;
        let what = OfferedWrite::Deleted(tombstone);
        let part = Part { author: &author, space: None, document, writes: vec![&what] };
        let done = self.commit_one(&part);
        let outcome = match &done {
            Some(done) if done.written.contains(&Written::Moved) => Err(AppendError::Moved),
            Some(_) => Ok(()),
            None => Err(AppendError::Store),
        };
        let mut all: Vec<Done> = done.into_iter().collect();
        self.count(std::slice::from_ref(&part), &all);
        self.tell_classic(&[part], &mut all);
        // Whoever asked may have gone; the document stays deleted.
        let _ = answer.send(outcome);
        self.tell_followers(&[(document, author.connection)], &mut all);
    }

    /// Says whether the store takes writes. Of many that ask within a time, the first has it tried.
    fn probe(&mut self) -> bool {
        if self.writable.is_due() {
            let was = self.writable.get();
            let outcome = store::probe(&*self.store);
            self.writable.note(outcome.is_ok());
            match outcome {
                Ok(()) if !was => tracing::info!("the store can be written again"),
                Ok(()) => {}
                Err(error) if was => tracing::error!(%error, "the store cannot be written"),
                Err(error) => tracing::warn!(%error, "the store still cannot be written"),
            }
        }
        self.writable.get()
    }

    /// Commits slices together, tells what is new, and answers the requests that are done. Says whether some are not.
    ///
    /// Who pushed is answered before the followers are told, so that nobody is sent what it wrote itself.
    fn carry_out(&mut self, slices: Vec<Slice>) -> bool {
        let mut all_parts = Vec::new();
        let mut all_places = Vec::with_capacity(slices.len());
        for Slice { job, writes } in &slices {
            let (parts, mut places) = parts(&job.author, job.space, &job.writes[writes.clone()]);
            places.iter_mut().for_each(|(part, _)| *part += all_parts.len());
            all_parts.extend(parts);
            all_places.push(places);
        }
        let mut all = self.commit(&all_parts);
        self.count(&all_parts, &all);
        self.tell_classic(&all_parts, &mut all);
        let touched: Vec<_> = all_parts.iter().map(|part| (part.document, part.author.connection)).collect();
        let owing: Vec<_> = all_parts.iter().zip(&all).filter_map(|(part, done)| owed(part, done)).collect();
        drop(all_parts);
        let mut unfinished = Vec::new();
        for (slice, places) in slices.into_iter().zip(all_places) {
            let written = places.into_iter().map_while(|(part, at)| take_written(&mut all, part, at));
            let written: Vec<_> = written.collect();
            if let Some(refusals) = &self.refusals {
                let first = slice.writes.start;
                tell_refusals(refusals, &slice.job.author, &slice.job.writes[first..], &written);
            }
            unfinished.extend(settle(slice, written));
        }
        let is_left = !unfinished.is_empty();
        self.inbox.put_back(unfinished, owing);
        self.tell_followers(&touched, &mut all);
        is_left
    }

    /// Commits parts together. If that fails, one by one: what is wrong with one document is not the others' fault. What
    /// became of a part that failed is empty.
    fn commit(&mut self, parts: &[Part<'_>]) -> Vec<Done> {
        if let [one] = parts {
            return vec![self.commit_one(one).unwrap_or_default()];
        }
        if let Ok(all) = self.commit_together(parts) {
            return all;
        }
        let (mut is_broken, mut is_cut) = (false, false);
        let mut each = Vec::with_capacity(parts.len());
        for part in parts {
            if is_cut {
                // What is left of a request comes before what its connection asked for later.
                each.push(Done { is_cut, ..Done::default() });
                continue;
            }
            let done = if is_broken { None } else { self.commit_one(part) };
            // A store that takes nothing at all is not tried once more for each document.
            is_broken = is_broken || done.is_none() && store::probe(&*self.store).is_err();
            let done = done.unwrap_or_default();
            is_cut = done.is_cut;
            each.push(done);
        }
        each
    }

    fn commit_one(&mut self, part: &Part<'_>) -> Option<Done> {
        match self.commit_together(std::slice::from_ref(part)) {
            Ok(mut all) => all.pop(),
            Err(error) => {
                self.writable.note(false);
                tracing::error!(document = %part.document.label(), %error, "failed to write to a document");
                None
            }
        }
    }

    fn asks_owners(&self) -> bool {
        let from = self.owners_from.load(Ordering::Relaxed);
        from == 0 || now_seconds() >= from
    }

    fn commit_together(&mut self, parts: &[Part<'_>]) -> Result<Vec<Done>, StoreError> {
        let begun = Instant::now();
        let changes: usize = parts.iter().map(|part| part.writes.len()).sum();
        let _span = tracing::debug_span!("commit", documents = parts.len(), changes).entered();
        let outcome = commit(&*self.store, parts, self.asks_owners(), &self.quota, self.inbox.watch());
        let Ok(all) = &outcome else {
            self.metrics.commit_failed();
            return outcome;
        };
        if all.iter().any(|done| done.recent.is_some() || done.deletion.is_some()) {
            self.writable.note(true);
            self.metrics.committed(begun.elapsed(), changes);
        }
        outcome
    }

    /// Counts what became of writes.
    fn count(&self, parts: &[Part<'_>], all: &[Done]) {
        for (part, done) in parts.iter().zip(all) {
            done.written.iter().for_each(|written| self.count_one(part, written));
            if done.is_cut {
                continue;
            }
            // Of a part that failed nothing is known.
            (done.written.len()..part.writes.len()).for_each(|_| self.metrics.appended(AppendResult::Failed));
            if done.deletion.is_some() {
                self.metrics.deleted();
            }
        }
    }

    fn count_one(&self, part: &Part<'_>, written: &Written) {
        let result = match written {
            Written::Change(Appended::Stored { .. }, _) => AppendResult::Stored,
            Written::Change(Appended::Duplicate, _) => AppendResult::Duplicate,
            Written::Change(Appended::Missing { .. }, _) => AppendResult::Missing,
            Written::Change(Appended::Rejected(error), _) => {
                // A classic session tells its connection of every refusal, and that counts it.
                if part.space.is_some() {
                    self.metrics.gate_rejected(error.rule());
                }
                return;
            }
            Written::Change(Appended::Deleted, _) => AppendResult::Deleted,
            Written::Owned => AppendResult::Owned,
            Written::Moved => AppendResult::ReadOnly,
            Written::Full(_) => AppendResult::Quota,
            Written::Elsewhere => AppendResult::Elsewhere,
            Written::Deleted(_) => return,
            Written::Change(..) | Written::Failed => AppendResult::Failed,
        };
        self.metrics.appended(result);
    }

    /// Tells those who take part in a document what is new in it.
    fn tell_classic(&self, parts: &[Part<'_>], all: &mut [Done]) {
        for (part, done) in parts.iter().zip(all) {
            if let Some(deletion) = done.deletion {
                let (existed, purge) = (deletion.existed, deletion.is_purge);
                tracing::info!(document = %part.document.label(), existed, purge, "a document was deleted everywhere");
                self.hub.publish_deleted(part.document, part.author.connection);
            }
            let Some(recent) = done.recent.take() else { continue };
            self.hub.publish(part.document, part.author.connection, recent);
            if let Some(folding) = &self.folding {
                let appended = done.written.iter().filter_map(|written| match written {
                    Written::Change(appended, _) => Some(appended),
                    _ => None,
                });
                folding.appended(part.document, appended);
            }
        }
    }

    /// Tells those who follow a space or a document what is new in it. `touched` says of each part its document and whose it is.
    fn tell_followers(&self, touched: &[(DocumentId, ConnectionId)], all: &mut [Done]) {
        if !self.hub.followers().are_there() {
            return;
        }
        for ((document, from), done) in touched.iter().zip(all.iter()) {
            if let Some((space, _)) = done.end {
                self.hub.followers().publish_document(&space, document, || done.entries.clone(), *from);
            }
        }
        for (space, (end, entries)) in news(all) {
            self.hub.followers().keep(&space, entries);
            self.hub.followers().publish_end(&space, end);
        }
    }
}

/// Takes out what became of a write, if anything did yet; of those of a part that failed nothing is known.
fn take_written(all: &mut [Done], part: usize, at: usize) -> Option<Written> {
    let done = all.get_mut(part)?;
    match done.written.get_mut(at) {
        Some(written) => Some(std::mem::replace(written, Written::Failed)),
        None if done.is_cut => None,
        None => Some(Written::Failed),
    }
}

/// Returns who owes for a part that took longer than what it weighs explains, and how much, by weight.
fn owed(part: &Part<'_>, done: &Done) -> Option<(AuthorKey, usize)> {
    let microseconds = usize::try_from(done.spent.as_micros()).unwrap_or(usize::MAX);
    let weight: usize = part.writes.iter().take(done.written.len()).map(|write| weight(bytes_of(write))).sum();
    let owed = microseconds.saturating_mul(COMMIT_BYTES_PER_MICROSECOND).saturating_sub(weight);
    (owed > 0).then(|| (part.author.key(), owed))
}

/// Records what was refused: those that follow one another, are of one document and refused for one reason, together.
fn tell_refusals(refusals: &Refusals, author: &Author, writes: &[Offered], written: &[Written]) {
    let mut waiting: Option<(DocumentId, &'static str, Option<ChangeHash>, u64)> = None;
    for (write, written) in writes.iter().zip(written) {
        let Some(code) = written.refusal() else { continue };
        match &mut waiting {
            Some((document, why, _, count)) if *document == write.document && *why == code => *count += 1,
            waiting => {
                let hash = match &write.what {
                    OfferedWrite::Change(change) | OfferedWrite::PassedOn(change) => Some(change.hash()),
                    OfferedWrite::Deleted(_) | OfferedWrite::DeletedElsewhere(_) => None,
                };
                if let Some((document, why, change, count)) = waiting.replace((write.document, code, hash, 1)) {
                    refusals.note(author, &document, why, change, count);
                }
            }
        }
    }
    if let Some((document, why, change, count)) = waiting {
        refusals.note(author, &document, why, change, count);
    }
}

/// Notes what became of a slice, and answers the request if it is done. If not, returns what is left of it.
fn settle(slice: Slice, written: Vec<Written>) -> Option<Left> {
    let mut job = slice.job;
    let has_failed = written.contains(&Written::Failed);
    let has_moved = written.contains(&Written::Moved);
    let is_untouched = written.is_empty();
    job.done.extend(written);
    // What the commit had no time for was taken out of the queue.
    let cut = job.writes.get(job.done.len()..slice.writes.end).unwrap_or_default();
    job.left_bytes += cut.iter().map(|write| weight(bytes_of(&write.what))).sum::<usize>();
    let is_done = job.done.len() >= job.writes.len();
    // Whoever asked may have gone; what it brought stays.
    match job.answer {
        Answer::Results(answer) if has_failed => drop(answer.send(Err(AppendError::Store))),
        Answer::Results(answer) if has_moved => drop(answer.send(Err(AppendError::Moved))),
        answer if !is_done => return Some(Left { job: Job { answer, ..job }, is_untouched }),
        Answer::Results(answer) => {
            let mut results = Results::default();
            for (write, written) in job.writes.into_iter().zip(job.done) {
                match (write.what, written) {
                    (OfferedWrite::Change(change), Written::Change(appended, _)) => {
                        results.appended.push((change, appended));
                    }
                    (OfferedWrite::Change(change), Written::Owned) => results.owned.push(change),
                    (OfferedWrite::Change(change), Written::Full(_)) => results.full.push(change),
                    _ => {}
                }
            }
            drop(answer.send(Ok(results)));
        }
        Answer::Outcomes(answer) => {
            drop(answer.send(Ok(job.done.into_iter().map(Written::into_outcome).collect())));
        }
    }
    None
}
