//! The mutation run: victims are fed damaged frames, and what they stored is judged.
//!
//! A case is one victim in one recorded state and a few frames. Its number and the seed are all it depends on, so that a
//! finding is repeated with `REJOIN_HOSTILE_SEED` and `REJOIN_HOSTILE_CASE`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rejoin::codec::classic::Frame;
use rejoin::codec::sync_message::SyncMessage;
use rejoin::engine::{self, Origin};
use rejoin::gate::{self, CheckedChange};
use rejoin::store::{MemoryStore, StoreExt};

use super::attacks::{Opening, PENDING, PENDING_COMPLAINTS, Sent};
use super::mutate::Mutator;
use super::oracle::{Complaint, References, check_store};
use super::record::{DOCUMENT, record};
use super::session::{Victim, export, fork};

/// The most frames in one case.
const FRAMES_MAX: usize = 12;

/// Above this many operations, a document is within every limit and too heavy to be judged a thousand times.
const JUDGED_OPS_MAX: u64 = 20_000;

/// How long one case may take before it counts as a hang, and the process is ended with its number.
const HANG: Duration = Duration::from_secs(120);

/// What a run found.
#[derive(Debug, Default)]
pub struct Findings {
    /// How many frames were fed.
    pub inputs: u64,
    /// How many cases there were.
    pub cases: u64,
    /// How many closed the connection.
    pub closed: u64,
    /// How many damaged changes were stored.
    pub stored: u64,
    /// How often each rule refused something.
    pub rules: BTreeMap<&'static str, u64>,
    /// How many frames were not fed because a missing rule would refuse them.
    pub left_out: u64,
    /// How many cases were too heavy to be judged.
    pub heavy: u64,
    /// Changes that were taken though the independent reading of the rules refuses them, by what is wrong.
    pub unfit: BTreeMap<String, Finding>,
    /// Complaints about documents whose changes all fit: holes that no rule covers.
    pub holes: BTreeMap<String, Finding>,
    /// Complaints about documents with a change that does not fit: what the missing rule would prevent.
    pub prevented: BTreeMap<String, Finding>,
}

/// One class of complaints.
#[derive(Debug, Clone)]
pub struct Finding {
    /// How often it was seen.
    pub count: u64,
    /// The first case that showed it.
    pub case: u64,
    /// The change that brought it, in hexadecimal.
    pub change: String,
    /// More about the first.
    pub detail: String,
}

impl Findings {
    /// Writes it for people.
    pub fn report(&self) -> String {
        let mut out = format!(
            "{} inputs in {} cases: {} closed, {} changes stored, {} too heavy to judge, {} left out\nrefused: {:?}\n",
            self.inputs, self.cases, self.closed, self.stored, self.heavy, self.left_out, self.rules
        );
        let lists = [("TAKEN AND UNFIT", &self.unfit), ("HOLE", &self.holes), ("for want of a rule", &self.prevented)];
        for (title, list) in lists {
            for (class, finding) in list {
                let Finding { count, case, change, detail } = finding;
                out.push_str(&format!("{title}: {class}: {count} times, first in case {case}\n    {detail}\n"));
                if title != "TAKEN AND UNFIT" {
                    out.push_str(&format!("    {change}\n"));
                }
            }
        }
        out
    }
}

/// Feeds at least this many frames, or the one case if there is one.
pub fn run(seed: u64, inputs: u64, only: Option<u64>) -> Findings {
    super::oracle::listen_for_panics();
    let mutator = Mutator::new(record(seed));
    let mut findings = Findings::default();
    let watch = Watch::start(seed);
    let mut case = only.unwrap_or(0);
    while findings.inputs < inputs {
        watch.case.store(case, Ordering::Relaxed);
        one_case(&mutator, seed, case, &mut findings);
        findings.cases += 1;
        case += 1;
        if only.is_some() {
            break;
        }
    }
    findings
}

fn one_case(mutator: &Mutator, seed: u64, case: u64, findings: &mut Findings) {
    let mut random = StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(case));
    let recorded = mutator.pick(&mut random);
    let before = export(&recorded.store, DOCUMENT);
    let is_handshake = Opening::Fresh;
    let opening = if recorded.frame[..10] == recorded.scene.hello("1")[..10] { is_handshake } else { Opening::Joined };
    let mut victim = Victim::new(&recorded.scene, opening, fork(&recorded.store));
    let mut history = References::default();
    for chunk in &before {
        history.take(&CheckedChange::parse(chunk).unwrap()).unwrap();
    }
    let mut unfit = None;
    for _ in 0..random.random_range(1..=FRAMES_MAX) {
        let from = if opening == Opening::Fresh { recorded } else { same_direction(mutator, recorded, &mut random) };
        let frame = mutator.mutant(from, &victim.store, &mut random);
        // While rules are missing, most of what breaks them is left out, so that it does not hide other holes.
        if !PENDING.is_empty() && names_what_it_must_not(&frame, &history) && random.random_bool(0.95) {
            findings.left_out += 1;
            continue;
        }
        let known = victim.stored.len();
        victim.feed(&Sent::Binary(frame));
        findings.inputs += 1;
        for (document, change) in &victim.stored[known..] {
            findings.stored += 1;
            if *document == DOCUMENT && unfit.is_none() {
                unfit = history.take(change).err().map(|why| (why, change.clone()));
            }
        }
        if victim.verdict.close.is_some() || unfit.is_some() {
            break;
        }
    }
    findings.closed += u64::from(victim.verdict.close.is_some());
    victim.verdict.rules.iter().for_each(|rule| *findings.rules.entry(rule).or_default() += 1);
    if let Some((why, change)) = &unfit {
        note(&mut findings.unfit, case, why, change, "");
    }
    judge(&victim, &before, case, unfit.is_some(), findings);
}

/// Says whether a change in a frame refers to what does not fit.
fn names_what_it_must_not(frame: &Bytes, history: &References) -> bool {
    let Ok(Frame::Sync { data, .. } | Frame::Request { data, .. }) = Frame::decode(frame) else { return false };
    let Ok(message) = SyncMessage::decode(&data) else { return false };
    let mut history = history.clone();
    message.changes.iter().any(|bytes| {
        let changes = gate::chunks(bytes).filter_map(|chunk| CheckedChange::from_chunk(&chunk.ok()?).ok());
        changes.into_iter().any(|change| !history.knows(&change.hash()) && history.take(&change).is_err())
    })
}

/// Chooses a frame for the same end of the connection, with the same names in it.
fn same_direction<'a>(
    mutator: &'a Mutator,
    recorded: &'a super::record::Recorded,
    random: &mut StdRng,
) -> &'a super::record::Recorded {
    for _ in 0..16 {
        let other = mutator.pick(random);
        if other.scene.victim == recorded.scene.victim {
            return other;
        }
    }
    recorded
}

/// Asks Automerge about what is stored now, and finds out which change brought a complaint.
fn judge(victim: &Victim, before: &[Bytes], case: u64, is_unfit: bool, findings: &mut Findings) {
    if victim.stored.is_empty() {
        return;
    }
    let ops: u64 = victim.stored.iter().map(|(_, change)| change.op_count()).sum();
    if ops > JUDGED_OPS_MAX {
        findings.heavy += 1;
        return;
    }
    let Err(complaint) = check_store(&victim.store, DOCUMENT) else { return };
    let (culprit, complaint) = culprit(victim, before).unwrap_or_else(|| {
        (victim.stored[0].1.clone(), Complaint { class: format!("not repeated: {}", complaint.class), ..complaint })
    });
    let is_pending = is_unfit || PENDING_COMPLAINTS.iter().any(|known| complaint.class.starts_with(known));
    let list = if is_pending { &mut findings.prevented } else { &mut findings.holes };
    note(list, case, &complaint.class, &culprit, &complaint.to_string());
}

/// Appends the stored changes one by one to the history before, until something is wrong.
fn culprit(victim: &Victim, before: &[Bytes]) -> Option<(CheckedChange, Complaint)> {
    let store = MemoryStore::new();
    let accept = |change: CheckedChange| {
        store.write_with(|tx| engine::accept(tx, DOCUMENT, vec![change], Origin::Remote)).unwrap();
    };
    before.iter().for_each(|chunk| accept(CheckedChange::parse(chunk).unwrap()));
    for (document, change) in &victim.stored {
        if *document == DOCUMENT {
            accept(change.clone());
            if let Err(complaint) = check_store(&store, DOCUMENT) {
                return Some((change.clone(), complaint));
            }
        }
    }
    None
}

fn note(list: &mut BTreeMap<String, Finding>, case: u64, class: &str, change: &CheckedChange, detail: &str) {
    let finding = list.entry(class.to_owned()).or_insert_with(|| Finding {
        count: 0,
        case,
        change: change.bytes().iter().map(|byte| format!("{byte:02x}")).collect(),
        detail: detail.to_owned(),
    });
    finding.count += 1;
}

/// Ends the process when a case hangs: nothing else can be done about a loop in another library.
struct Watch {
    case: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Watch {
    #[expect(clippy::print_stderr, reason = "nobody else could say it: the process ends")]
    fn start(seed: u64) -> Self {
        let watch = Self { case: Arc::default(), ended: Arc::default() };
        let (case, ended) = (Arc::clone(&watch.case), Arc::clone(&watch.ended));
        std::thread::spawn(move || {
            let (mut last, mut waited) = (u64::MAX, Duration::ZERO);
            let step = Duration::from_millis(500);
            while !ended.load(Ordering::Relaxed) {
                let now = case.load(Ordering::Relaxed);
                waited = if now == last { waited + step } else { Duration::ZERO };
                last = now;
                if waited > HANG {
                    eprintln!("case {now} of seed {seed} hangs");
                    std::process::exit(101);
                }
                std::thread::sleep(step);
            }
        });
        watch
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}
