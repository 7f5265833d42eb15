//! A client of a run, as seen from outside: its process, its disk, its proxy.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rejoin::{DocumentId, Protocol};

use super::history::{self, Said};
use super::member::{LIE, Orders};
use crate::proxy::Proxy;
use crate::relay::signal;

/// How long a process may take to end when it is asked to. Long, because the machine may be busy.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// A client.
pub(super) struct Device {
    pub(super) name: String,
    pub(super) orders: Orders,
    pub(super) proxy: Proxy,
    /// What it shows to the relay, in whatever way.
    pub(super) token: String,
    /// Which relay is its own.
    pub(super) home: usize,
    is_liar: bool,
    running: Option<Running>,
    standing: Standing,
}

/// A process.
struct Running {
    child: Child,
    /// It ends when this does.
    _input: ChildStdin,
    is_paused: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Device {
    pub(super) fn new(orders: Orders, proxy: Proxy, token: String, home: usize, is_liar: bool) -> Self {
        let (name, standing) = (format!("c{}", orders.client), Standing::of(&orders.history));
        Self { name, orders, proxy, token, home, is_liar, running: None, standing }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn is_classic(&self) -> bool {
        self.orders.protocol == Protocol::Classic
    }

    fn errors_file(&self) -> PathBuf {
        self.orders.history.with_extension("errors")
    }

    fn copy_file(&self) -> PathBuf {
        self.orders.store.with_extension("copy")
    }

    fn spawn(&self, orders: &Orders) -> Running {
        let errors = OpenOptions::new().create(true).append(true).open(self.errors_file()).unwrap();
        let mut command = Command::new(crate::binary("rejoin-tests-member"));
        command.args(orders.arguments()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(errors);
        if self.is_liar {
            command.env(LIE, "1");
        }
        let mut child = command.spawn().unwrap();
        let _input = child.stdin.take().unwrap();
        Running { child, _input, is_paused: false }
    }

    pub(super) fn start(&mut self, seed: u64) {
        if self.running.is_none() {
            self.orders.run += 1;
            self.orders.seed = seed;
            self.running = Some(self.spawn(&self.orders));
        }
    }

    /// Has a process tell what is in its store, and nothing else; what is wrong, if anything is.
    pub(super) fn look(&mut self) -> Option<String> {
        assert!(self.running.is_none());
        self.orders.run += 1;
        let mut looking = self.spawn(&Orders { only_looks: true, ..self.orders.clone() });
        let ended = wait(&mut looking.child);
        (!ended.is_some_and(|ended| ended.success()))
            .then(|| format!("{} could not look into its store: it ended with {ended:?}", self.name))
    }

    pub(super) fn kill(&mut self) {
        drop(self.running.take());
    }

    /// Asks the process to end; what is wrong, if anything is.
    pub(super) fn stop(&mut self) -> Option<String> {
        self.resume();
        let mut running = self.running.take()?;
        signal(running.child.id(), "TERM");
        let ended = wait(&mut running.child);
        // One that has only just begun does not listen yet.
        let is_well = ended.is_some_and(|ended| ended.success() || ended.signal() == Some(15));
        (!is_well).then(|| format!("{} was asked to end, and ended with {ended:?}", self.name))
    }

    pub(super) fn pause(&mut self) {
        if let Some(running) = &mut self.running {
            signal(running.child.id(), "STOP");
            running.is_paused = true;
        }
    }

    pub(super) fn resume(&mut self) {
        if let Some(running) = self.running.as_mut().filter(|running| running.is_paused) {
            signal(running.child.id(), "CONT");
            running.is_paused = false;
        }
    }

    /// Says whether the process ended by itself, and forgets it then.
    pub(super) fn has_died(&mut self) -> bool {
        let ended = self.running.as_mut().is_some_and(|running| running.child.try_wait().unwrap().is_some());
        if ended {
            self.running = None;
        }
        ended
    }

    /// Keeps a copy of the disk, while no process has it.
    pub(super) fn copy_disk(&mut self) {
        assert!(self.running.is_none());
        fs::copy(&self.orders.store, self.copy_file()).unwrap();
    }

    /// Puts the copy back, while no process has the disk. Returns whether there is one.
    pub(super) fn roll_back(&mut self) -> bool {
        assert!(self.running.is_none());
        self.copy_file().exists() && fs::rename(self.copy_file(), &self.orders.store).is_ok()
    }

    /// Returns what its processes complained of that no process may.
    pub(super) fn panics(&self) -> Vec<String> {
        panics(&self.name, &self.errors_file())
    }

    /// Returns how it stands, by its history.
    pub(super) fn standing(&mut self) -> &Standing {
        self.standing.read_on();
        &self.standing
    }
}

/// Returns the lines of a log that tell of a panic.
pub(super) fn panics(name: &str, log: &Path) -> Vec<String> {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().filter(|line| line.contains("panicked at")).take(5).map(|line| format!("{name}: {line}")).collect()
}

/// Waits until a process has ended, and returns how; `None` if it does not.
fn wait(child: &mut Child) -> Option<ExitStatus> {
    let begun = Instant::now();
    while begun.elapsed() < ENDS_WITHIN {
        if let Some(ended) = child.try_wait().unwrap() {
            return Some(ended);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// How a client stands that writes no more, read from its history as that grows.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    history: PathBuf,
    offset: u64,
    /// How many changes wait, and how many are rejected.
    pub(super) waits: Option<(u64, u64)>,
    pub(super) heads: BTreeMap<DocumentId, Vec<String>>,
    /// How its connection stands.
    pub(super) state: String,
}

impl Standing {
    fn of(history: &Path) -> Self {
        Self { history: history.to_owned(), ..Self::default() }
    }

    fn read_on(&mut self) {
        let Ok(mut file) = fs::File::open(&self.history) else { return };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.offset)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        // A line that is being written is read the next time.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.offset += whole as u64;
        for at in history::parse(&String::from_utf8_lossy(&bytes[..whole])) {
            match at.what {
                Said::Run(_) => (self.waits, self.heads) = (None, BTreeMap::new()),
                Said::Standing(pending, rejected) => self.waits = Some((pending, rejected)),
                Said::Heads(document, heads) => drop(self.heads.insert(document, heads)),
                Said::State(state, _) => self.state = state,
                _ => {}
            }
        }
    }
}
