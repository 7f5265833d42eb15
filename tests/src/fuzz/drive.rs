//! The loop: an input is chosen, damaged and fed; what it does is compared with what it may do.
//!
//! All that happens depends on the seed and the number of inputs, so that a fault that leaves nothing behind (the process is
//! gone) is found again: with [`Options::is_careful`] each input is written to a file before it is fed.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::watch::{Gauge, Watch};
use super::{Seen, Target, corpus, digest, panics};

/// The most inputs in the pool, and the longest that join it.
const POOL_MAX: usize = 4_096;
const POOLED_BYTES_MAX: usize = 128 << 10;

/// After so many faults there are enough to look at.
const FAULTS_MAX: usize = 20;

/// After so many inputs an answer that is always the same is suspicious.
const JUDGED_INPUTS: u64 = 2_000;

/// How long a run goes on, and where it writes.
#[derive(Debug, Clone)]
pub struct Options {
    /// The target's name.
    pub target: String,
    /// What all chance comes from.
    pub seed: u64,
    /// How long, if not for a number of inputs.
    pub time: Duration,
    /// How many inputs, whatever the time.
    pub inputs: Option<u64>,
    /// How long one input may take.
    pub patience: Duration,
    /// Where inputs with faults are written.
    pub out: PathBuf,
    /// Whether each input is written before it is fed.
    pub is_careful: bool,
}

/// What a run found.
#[derive(Debug, Default)]
pub struct Summary {
    /// How many inputs were fed.
    pub inputs: u64,
    /// How many of them were taken.
    pub taken: u64,
    /// How often each class of answer was given.
    pub classes: BTreeMap<String, u64>,
    /// How many ways were seen.
    pub behaviours: usize,
    /// The most bytes that an input made the process grow by, and the longest time that one took.
    pub worst_bytes: usize,
    /// The longest time that one took.
    pub worst_time: Duration,
    /// How long it all took.
    pub time: Duration,
    /// What must not be.
    pub faults: Vec<String>,
    /// The shortest input of each class.
    pub shortest: BTreeMap<String, Vec<u8>>,
}

impl Summary {
    /// Writes it in one line.
    pub fn line(&self, target: &str) -> String {
        let seconds = self.time.as_secs_f64();
        let per_second = self.inputs as f64 / seconds.max(0.001);
        let percent = 100.0 * self.taken as f64 / self.inputs.max(1) as f64;
        format!(
            "fuzz {target}: {} inputs in {seconds:.0} s ({per_second:.0}/s), {percent:.1} % taken, {} classes, {} behaviours, \
             worst {} KiB and {} ms, {} faults",
            self.inputs,
            self.classes.len(),
            self.behaviours,
            self.worst_bytes / 1024,
            self.worst_time.as_millis(),
            self.faults.len()
        )
    }
}

/// A run under way.
struct Drive<'o> {
    options: &'o Options,
    gauge: Gauge,
    target: Box<dyn Target>,
    watch: Watch,
    known: HashSet<(String, u64)>,
    pool: Vec<Vec<u8>>,
    /// Which faults were told, by where they are.
    told: HashSet<u64>,
    summary: Summary,
}

/// Fuzzes a target for as long as the options say.
pub fn run(options: &Options, gauge: Gauge) -> Summary {
    panics::listen();
    std::fs::create_dir_all(&options.out).unwrap();
    let watch = Watch::start(options.patience, options.out.join(format!("{}-hang.bin", options.target)));
    let (target, known, told) = (super::make(&options.target), HashSet::new(), HashSet::new());
    let mut drive = Drive { options, gauge, target, watch, known, pool: Vec::new(), told, summary: Summary::default() };
    let started = Instant::now();
    let kept = corpus::of(&options.target).into_iter().map(|(_, input)| input);
    let seeds: Vec<_> = drive.target.seeds().into_iter().chain(kept).collect();
    for seed in &seeds {
        drive.feed(seed);
    }
    // All seeds are worth damaging, also those that took the same way.
    drive.pool = seeds;
    let mut random = StdRng::seed_from_u64(options.seed);
    while drive.goes_on(started) {
        let input = drive.choose(&mut random);
        drive.feed(&input);
    }
    drive.judge();
    drive.summary.time = started.elapsed();
    drive.summary
}

/// Feeds one input, and says what is wrong with it.
pub fn replay(target: &str, input: &[u8], gauge: Gauge) -> Summary {
    panics::listen();
    let out = std::env::temp_dir();
    let options = Options {
        target: target.to_owned(),
        seed: 0,
        time: Duration::ZERO,
        inputs: None,
        patience: Duration::from_secs(60),
        out: out.clone(),
        is_careful: false,
    };
    let watch = Watch::start(options.patience, out.join("replayed-hang.bin"));
    let (known, told) = (HashSet::new(), HashSet::new());
    let made = super::make(target);
    let mut drive = Drive {
        options: &options,
        gauge,
        target: made,
        watch,
        known,
        pool: Vec::new(),
        told,
        summary: Summary::default(),
    };
    drive.feed(input);
    drive.summary
}

impl Drive<'_> {
    fn goes_on(&self, started: Instant) -> bool {
        let is_time_left = match self.options.inputs {
            Some(inputs) => self.summary.inputs < inputs,
            // The clock is asked seldom: it costs as much as some inputs.
            None => self.summary.inputs % 16 != 0 || started.elapsed() < self.options.time,
        };
        is_time_left && self.summary.faults.len() < FAULTS_MAX
    }

    fn choose(&mut self, random: &mut StdRng) -> Vec<u8> {
        let count = self.pool.len();
        // What joined last leads on more often.
        let at = match random.random_range(0..3) {
            0 => count - 1 - random.random_range(0..count.min(64)),
            _ => random.random_range(0..count),
        };
        let other = random.random_range(0..count);
        let mut input = self.target.mutate(&self.pool[at], &self.pool[other], random);
        while random.random_bool(0.15) {
            input = self.target.mutate(&input, &self.pool[other], random);
        }
        input
    }

    fn feed(&mut self, input: &[u8]) {
        if self.options.is_careful {
            std::fs::write(self.options.out.join(format!("{}-last.bin", self.options.target)), input).unwrap();
        }
        self.summary.inputs += 1;
        self.watch.begin(input);
        let used = (self.gauge.used)();
        (self.gauge.reset)();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.target.run(input)));
        let grown = (self.gauge.peak)().saturating_sub(used);
        let took = self.watch.end();
        self.summary.worst_bytes = self.summary.worst_bytes.max(grown);
        self.summary.worst_time = self.summary.worst_time.max(took);
        let panic = panics::take();
        let bound = self.target.bound_bytes(input);
        if grown > bound {
            self.fault("allocation", &format!("grown by {grown} bytes, the bound is {bound}"), input);
        }
        match outcome {
            Ok(seen) => {
                if let Some(text) = panic.filter(|text| !self.target.is_contained(text)) {
                    self.fault("panic", &format!("caught by somebody: {text}"), input);
                }
                self.note(seen, input);
            }
            Err(_) => {
                self.fault("panic", &panic.unwrap_or_else(|| "nobody heard it".to_owned()), input);
                // Whatever it left half done.
                self.target = super::make(&self.options.target);
            }
        }
    }

    fn note(&mut self, seen: Seen, input: &[u8]) {
        self.summary.taken += u64::from(seen.is_taken);
        *self.summary.classes.entry(seen.class.clone()).or_default() += 1;
        let shortest = &mut self.summary.shortest;
        if shortest.get(&seen.class).is_none_or(|known| input.len() < known.len()) {
            shortest.insert(seen.class.clone(), input.to_vec());
        }
        if !self.known.insert((seen.class, seen.detail)) {
            return;
        }
        self.summary.behaviours += 1;
        if input.len() > POOLED_BYTES_MAX {
            return;
        }
        if self.pool.len() < POOL_MAX {
            self.pool.push(input.to_vec());
        } else {
            let at = usize::try_from(digest(&input) % POOL_MAX as u64).unwrap();
            self.pool[at] = input.to_vec();
        }
    }

    #[expect(clippy::print_stdout, reason = "a fault is told at once")]
    fn fault(&mut self, kind: &str, text: &str, input: &[u8]) {
        // The same place with other numbers is the same fault.
        let place: String = text.chars().take(200).filter(|c| !c.is_ascii_digit()).collect();
        if !self.told.insert(digest(&(kind, place))) {
            return;
        }
        let name = format!("{}-{kind}-{:08x}.bin", self.options.target, digest(&input) & 0xffff_ffff);
        let file = self.options.out.join(name);
        std::fs::write(&file, input).unwrap();
        let (seed, number) = (self.options.seed, self.summary.inputs);
        let short: String = text.chars().take(2_000).collect();
        let target = &self.options.target;
        println!(
            "FAULT {kind}: {short}\n  input {number} of seed {seed}; replay with --target {target} --replay {}",
            file.display()
        );
        self.summary.faults.push(format!("{kind}: {short}"));
    }

    /// Where nothing is taken, or everything, or all is answered alike, the damage tests nothing.
    fn judge(&mut self) {
        let Summary { inputs, taken, classes, .. } = &self.summary;
        if *inputs < JUDGED_INPUTS {
            return;
        }
        let is_telling = *taken > 0 && taken < inputs && classes.len() >= self.target.classes_min();
        if !is_telling {
            let text = format!("the damage tests nothing: {taken} of {inputs} taken, {classes:?}");
            self.fault("void", &text, &[]);
        }
    }
}
