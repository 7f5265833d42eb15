//! One thread that is a whole world: its tasks, its time and its chance.
//!
//! A [`Simulation`] stands in the place of threads, timers, clocks and entropy, on the thread that began it and nowhere else.
//! What the engine would do on threads of its own is a task here; it runs when the simulation is told to run it, and time passes
//! when it is told to pass. So everything that happens follows from the seeds, and happens again from the same ones.
//!
//! Every task belongs to a *place*: a process on a device. A place has a clock, which may be wrong, and chance of its own; it
//! can be killed, which drops its tasks wherever they are, as a process ends that is killed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::{Instant, SystemTime, UNIX_EPOCH};

/// Something that is broken on purpose in this thread, so that it can be seen whether a simulation finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A cursor moves past a delivery of which nothing is stored.
    CursorAhead,
    /// Of several values of a field the wrong one is shown first.
    LoserWins,
}

/// Breaks something on this thread, or nothing any more.
pub fn set_broken(broken: Option<Broken>) {
    BROKEN.set(broken);
}

/// Says whether this is broken.
pub(crate) fn is_broken(broken: Broken) -> bool {
    BROKEN.get() == Some(broken)
}

/// Names a place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub u64);

/// A task's name within a simulation.
type TaskId = u64;

/// Something that runs.
type Work = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    static BROKEN: Cell<Option<Broken>> = const { Cell::new(None) };
}

struct World {
    /// How long it has lasted.
    now: Duration,
    /// What its instants count from.
    base: Instant,
    /// What a right clock showed when it began.
    began: Duration,
    tasks: BTreeMap<TaskId, Task>,
    next_task: TaskId,
    ready: Arc<Ready>,
    timers: BTreeMap<(Duration, u64), Waker>,
    next_timer: u64,
    places: BTreeMap<Place, Local>,
    /// Where what runs now belongs.
    here: Place,
    polls: u64,
}

struct Task {
    place: Place,
    name: &'static str,
    /// Nothing while it runs.
    work: Option<Work>,
    waker: Waker,
}

/// What is a place's own.
#[derive(Default)]
struct Local {
    chance: u64,
    skew_seconds: i64,
}

/// The tasks that are to run, in the order in which they were woken.
#[derive(Default)]
struct Ready(Mutex<Vec<TaskId>>);

impl Ready {
    fn all(&self) -> MutexGuard<'_, Vec<TaskId>> {
        // A list of numbers is whole at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Alarm {
    task: TaskId,
    ready: Arc<Ready>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.all();
        if !ready.contains(&self.task) {
            ready.push(self.task);
        }
    }
}

/// A world on this thread. It ends when this is dropped, and everything in it.
#[derive(Debug)]
pub struct Simulation {
    _here: std::marker::PhantomData<*const ()>,
}

impl Simulation {
    /// Begins a world whose right clock shows this time since 1970. There is one at a time on a thread: one that is there already
    /// is ended.
    pub fn begin(clock: Duration) -> Self {
        end();
        WORLD.set(Some(World {
            now: Duration::ZERO,
            base: Instant::now(),
            began: clock,
            tasks: BTreeMap::new(),
            next_task: 0,
            ready: Arc::default(),
            timers: BTreeMap::new(),
            next_timer: 0,
            places: BTreeMap::new(),
            here: Place::default(),
            polls: 0,
        }));
        Self { _here: std::marker::PhantomData }
    }

    /// Returns how long the world has lasted.
    pub fn now(&self) -> Duration {
        with(|world| world.now).unwrap_or_default()
    }

    /// Returns how often a task has run so far.
    pub fn polls(&self) -> u64 {
        with(|world| world.polls).unwrap_or_default()
    }

    /// Makes a place, or a new process in it: with this seed of its chance, and a clock that is wrong by so many seconds.
    pub fn settle(&self, place: Place, seed: u64, skew_seconds: i64) {
        with(|world| world.places.insert(place, Local { chance: seed, skew_seconds }));
    }

    /// Does something at a place: what it starts belongs there.
    pub fn at<T>(&self, place: Place, work: impl FnOnce() -> T) -> T {
        let before = go_to(place);
        let done = work();
        go_to(before);
        done
    }

    /// Starts a task at a place.
    pub fn start(&self, place: Place, work: impl Future<Output = ()> + 'static) {
        self.at(place, || start("task", Box::pin(work)));
    }

    /// Returns how many tasks there are at a place.
    pub fn tasks(&self, place: Place) -> usize {
        with(|world| world.tasks.values().filter(|task| task.place == place).count()).unwrap_or_default()
    }

    /// Returns how many tasks are to run.
    pub fn ready(&self) -> usize {
        with(|world| world.ready.all().len()).unwrap_or_default()
    }

    /// Runs one of the tasks that are to run: which, is chosen by this number. Returns where it was, or nothing if none is.
    pub fn run_one(&self, choice: usize) -> Option<Place> {
        let task = with(|world| {
            let mut ready = world.ready.all();
            let index = choice.checked_rem(ready.len())?;
            Some(ready.remove(index))
        })??;
        let place = with(|world| world.tasks.get(&task).map(|task| task.place))?;
        poll(task);
        Some(place.unwrap_or_default())
    }

    /// Returns when the next timer rings.
    pub fn next_timer(&self) -> Option<Duration> {
        with(|world| world.timers.keys().next().map(|(time, _)| *time))?
    }

    /// Lets time pass until then, and rings the timers of that time. Time never goes back.
    pub fn advance(&self, until: Duration) {
        let rung = with(|world| {
            world.now = world.now.max(until);
            let later = world.timers.split_off(&(world.now + Duration::from_nanos(1), 0));
            std::mem::replace(&mut world.timers, later)
        });
        for waker in rung.into_iter().flat_map(BTreeMap::into_values) {
            waker.wake();
        }
    }

    /// Ends a place's process: its tasks go as they are. What else holds on to the place has to be dropped by whoever has it.
    pub fn kill(&self, place: Place) {
        kill(|task| task.place == place, place);
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        end();
    }
}

/// Says whether this thread is a world.
pub(crate) fn is_on() -> bool {
    WORLD.try_with(|world| world.try_borrow().is_ok_and(|world| world.is_some())).unwrap_or(false)
}

/// Returns the time that passes here.
pub(super) fn now() -> Option<Instant> {
    with(|world| world.base + world.now)
}

/// Returns what the clock of this place shows.
pub(super) fn clock() -> Option<SystemTime> {
    with(|world| {
        let right = world.began + world.now;
        let skew_seconds = world.places.get(&world.here).map_or(0, |local| local.skew_seconds);
        let skew = Duration::from_secs(skew_seconds.unsigned_abs());
        let shown = if skew_seconds < 0 { right.saturating_sub(skew) } else { right.saturating_add(skew) };
        UNIX_EPOCH + shown
    })
}

/// Fills bytes from the chance of this place; says whether there is one.
pub(crate) fn fill(bytes: &mut [u8]) -> bool {
    let filled = with(|world| {
        let local = world.places.entry(world.here).or_default();
        for some in bytes.chunks_mut(8) {
            some.copy_from_slice(&next_number(&mut local.chance).to_le_bytes()[..some.len()]);
        }
    });
    filled.is_some()
}

/// The next of a row of numbers that look like chance (splitmix64).
fn next_number(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut number = *state;
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Starts a task here. The name says which those are that [`help`] runs.
pub(super) fn start(name: &'static str, work: Work) {
    with(move |world| {
        let id = world.next_task;
        world.next_task += 1;
        let waker = Waker::from(Arc::new(Alarm { task: id, ready: Arc::clone(&world.ready) }));
        waker.wake_by_ref();
        world.tasks.insert(id, Task { place: world.here, name, work: Some(work), waker });
    });
}

/// Runs the tasks of this place that have a name, each once: what waits for one of them where nothing else can run lets it go on.
/// Says whether there was one.
pub(super) fn help(name: &str) -> bool {
    let found = with(|world| {
        let here = world.here;
        let named = world.tasks.iter().filter(|(_, task)| task.place == here && task.name == name);
        named.filter(|(_, task)| task.work.is_some()).map(|(id, _)| *id).collect::<Vec<_>>()
    });
    let found = found.unwrap_or_default();
    found.iter().for_each(|task| poll(*task));
    !found.is_empty()
}

/// Runs a task until it waits. The world is not borrowed meanwhile.
fn poll(id: TaskId) {
    let taken = with(|world| {
        let task = world.tasks.get_mut(&id)?;
        let work = task.work.take()?;
        world.polls += 1;
        Some((work, task.waker.clone(), std::mem::replace(&mut world.here, task.place)))
    });
    let Some((mut work, waker, before)) = taken.flatten() else { return };
    let is_done = work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
    if is_done {
        drop(work);
    } else {
        // Whoever was killed by what it did itself is not there any more.
        let gone = with(|world| match world.tasks.get_mut(&id) {
            Some(task) => {
                task.work = Some(work);
                None
            }
            None => Some(work),
        });
        drop(gone);
    }
    with(|world| {
        if is_done {
            world.tasks.remove(&id);
        }
        world.here = before;
    });
}

/// Waits until so much time has passed here.
pub(super) struct Sleep {
    until: Duration,
    timer: Option<(Duration, u64)>,
}

/// Waits until so much time has passed here.
pub(super) fn sleep(duration: Duration) -> Sleep {
    let now = with(|world| world.now).unwrap_or_default();
    Sleep { until: now.saturating_add(duration), timer: None }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (until, before) = (self.until, self.timer);
        let waits = with(|world| {
            if let Some(before) = before {
                world.timers.remove(&before);
            }
            if world.now >= until {
                return None;
            }
            let timer = (until, world.next_timer);
            world.next_timer += 1;
            world.timers.insert(timer, context.waker().clone());
            Some(timer)
        });
        self.timer = waits.flatten();
        if self.timer.is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            drop(with(|world| world.timers.remove(&timer)));
        }
    }
}

/// Works on the world of this thread, if it is one. Not to be called from within itself.
fn with<T>(work: impl FnOnce(&mut World) -> T) -> Option<T> {
    // What is dropped while a thread ends may come by here when there is nothing to borrow any more.
    WORLD.try_with(|world| world.try_borrow_mut().ok()?.as_mut().map(work)).ok().flatten()
}

fn go_to(place: Place) -> Place {
    with(|world| std::mem::replace(&mut world.here, place)).unwrap_or_default()
}

fn kill(which: impl Fn(&Task) -> bool, place: Place) {
    let before = go_to(place);
    loop {
        // One at a time, and none under the borrow: what goes may end timers, and start things.
        let gone = with(|world| {
            let id = world.tasks.iter().find(|(_, task)| which(task)).map(|(id, _)| *id)?;
            world.ready.all().retain(|ready| *ready != id);
            world.tasks.remove(&id)
        });
        let Some(Some(task)) = gone else { break };
        drop(task);
    }
    go_to(before);
}

fn end() {
    if is_on() {
        kill(|_| true, Place::default());
    }
    // What is left are timers whose futures somebody else has, and they find no world.
    drop(WORLD.take());
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::Repo;

    /// Runs everything that can run, in an order that the seed says, and lets time pass up to a bound.
    fn run(simulation: &Simulation, seed: u64, until: Duration) {
        let mut chance = seed;
        loop {
            while simulation.run_one(usize::try_from(next_number(&mut chance) >> 33).unwrap()).is_some() {}
            match simulation.next_timer() {
                Some(time) if time <= until => simulation.advance(time),
                _ => return,
            }
        }
    }

    fn heads_of_a_repo(seed: u64) -> (Vec<automerge::ChangeHash>, Duration) {
        let simulation = Simulation::begin(Duration::from_secs(1_700_000_000));
        let place = Place(1);
        simulation.settle(place, 7, -86_400);
        let heads = Arc::new(Mutex::new(Vec::new()));
        let found = Arc::clone(&heads);
        simulation.start(place, async move {
            let repo = Repo::in_memory().unwrap();
            let note = repo.create().await.unwrap();
            note.set("title", "one").await.unwrap();
            note.splice_text("text", 0, 0, "two").await.unwrap();
            super::super::sleep(Duration::from_secs(3)).await;
            note.set("title", "three").await.unwrap();
            *found.lock().unwrap() = note.heads().await.unwrap();
        });
        run(&simulation, seed, Duration::from_secs(60));
        let heads = heads.lock().unwrap().clone();
        assert_eq!(heads.len(), 1);
        (heads, simulation.now())
    }

    #[test]
    fn repo_in_a_world_does_the_same_from_the_same_seed() {
        let (heads, now) = heads_of_a_repo(1);
        assert_eq!((heads.clone(), now), heads_of_a_repo(1));
        assert_eq!(now, Duration::from_secs(3));
        // Which task comes first does not matter to what is written.
        assert_eq!(heads_of_a_repo(2).0, heads);
        assert!(!is_on());
    }

    #[test]
    fn process_that_is_killed_does_nothing_more() {
        let simulation = Simulation::begin(Duration::from_secs(1));
        let place = Place(3);
        let count = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&count);
        simulation.start(place, async move {
            loop {
                super::super::sleep(Duration::from_secs(1)).await;
                *counted.lock().unwrap() += 1;
            }
        });
        run(&simulation, 1, Duration::from_secs(5));
        simulation.kill(place);
        run(&simulation, 1, Duration::from_secs(9));
        assert_eq!((*count.lock().unwrap(), simulation.tasks(place), simulation.next_timer()), (5, 0, None));
    }
}
