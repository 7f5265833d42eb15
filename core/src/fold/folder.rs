//! The parent: starts a child, bounds what it takes and says, and checks every word of it.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use automerge::ChangeHash;

use super::Folded;
use super::wire::{self, Input, Task};
use crate::gate::{Chunk, DocumentHeader};
use crate::limits::{
    FOLD_BYTES_MAX, FOLD_CPU_SECONDS, FOLD_MEMORY_BYTES, FOLD_STDERR_BYTES_MAX, FOLD_TIMEOUT, SNAPSHOT_BYTES_MAX,
};

/// How often a waiting parent looks whether it shall stop, and a child that has closed its output whether it is gone.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How to start a child, and what it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldCommand {
    /// The executable, which calls [`child_main`](super::child_main) when it is started with these arguments.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its address space in bytes. Default: [`FOLD_MEMORY_BYTES`].
    pub memory_bytes: u64,
    /// Its processor time in seconds. Default: [`FOLD_CPU_SECONDS`].
    pub cpu_seconds: u64,
    /// How long it may take by the clock on the wall. Default: [`FOLD_TIMEOUT`].
    pub timeout: Duration,
}

impl FoldCommand {
    /// A child of an executable with one argument, with every default.
    pub fn new(program: impl Into<OsString>, argument: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            arguments: vec![argument.into()],
            memory_bytes: FOLD_MEMORY_BYTES,
            cpu_seconds: FOLD_CPU_SECONDS,
            timeout: FOLD_TIMEOUT,
        }
    }

    /// A child of the executable that runs now, with one argument.
    ///
    /// # Errors
    ///
    /// What the operating system says when it does not tell which executable that is.
    pub fn this_executable(argument: impl Into<OsString>) -> io::Result<Self> {
        // On Linux this name stays good when the file is replaced by an upgrade.
        let itself = std::path::Path::new("/proc/self/exe");
        let program =
            if cfg!(target_os = "linux") && itself.exists() { itself.into() } else { std::env::current_exe()? };
        Ok(Self::new(program, argument))
    }
}

/// Why nothing was folded or taken apart. The text completes "failed to fold: ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FoldError {
    /// The child could not be started. It says nothing about the document.
    #[error("the child process does not start: {0}")]
    Start(io::Error),
    /// The parent was told to stop. It says nothing about the document.
    #[error("it was called off")]
    Stopped,
    /// The child ended on a failure of its own, or by a signal: out of memory or of processor time, mostly.
    #[error("the child process ended early ({status}); it said: {said:?}")]
    Crashed {
        /// How it ended.
        status: ExitStatus,
        /// The beginning of what it wrote to its standard error: hostile text, perhaps.
        said: String,
    },
    /// The child took too long, and was killed.
    #[error("the child process took more than {limit:?} and was killed")]
    TimedOut {
        /// How long it may take.
        limit: Duration,
    },
    /// There is more of something than is taken.
    #[error("there are more {what} than {limit}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How much is taken.
        limit: usize,
    },
    /// The child says that it cannot be done.
    #[error("the child process refuses: {reason:?}")]
    Refused {
        /// Its words: hostile text, perhaps.
        reason: String,
    },
    /// The child's answer is none, or not about what was asked.
    #[error("the child process gave a wrong answer: {what}")]
    WrongAnswer {
        /// What is wrong with it.
        what: &'static str,
    },
}

impl FoldError {
    /// Says whether the document is to blame, so that trying again would end the same.
    pub fn is_about_the_document(&self) -> bool {
        !matches!(self, Self::Start(_) | Self::Stopped)
    }
}

/// Starts children, one for each call. Calls block: give them a thread of their own.
#[derive(Debug)]
pub struct Folder {
    command: FoldCommand,
    stopped: AtomicBool,
}

impl Folder {
    /// Makes a folder that starts its children like this.
    pub fn new(command: FoldCommand) -> Self {
        Self { command, stopped: AtomicBool::new(false) }
    }

    /// Kills every child under way, and starts no other.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Says whether [`Folder::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Makes one chunk of changes, whose heads are known to be these, ascending.
    ///
    /// The child has loaded the chunk and compared every hash; the parent checks form, checksum, size and heads.
    ///
    /// # Errors
    ///
    /// [`FoldError`].
    pub fn fold(&self, input: Input, heads: &[ChangeHash]) -> Result<Folded, FoldError> {
        let count = input.count();
        let answer = self.run(Task::Fold, input, SNAPSHOT_BYTES_MAX)?;
        let [chunk] = wire::items(&answer)
            .as_deref()
            .map(<[&[u8]; 1]>::try_from)
            .and_then(Result::ok)
            .ok_or(FoldError::WrongAnswer { what: "it is not one chunk" })?;
        let header = Chunk::parse(chunk).and_then(|chunk| DocumentHeader::of(&chunk));
        let header = header.map_err(|_| FoldError::WrongAnswer { what: "it is no sound document chunk" })?;
        if header.heads != heads {
            return Err(FoldError::WrongAnswer { what: "the chunk has other heads than the changes" });
        }
        Ok(Folded { chunk: chunk.to_vec(), heads: header.heads, count })
    }

    /// Takes a whole-document chunk apart into its changes, dependencies first. They are as trustworthy as the chunk: each
    /// still has to pass the gate.
    ///
    /// # Errors
    ///
    /// [`FoldError`].
    pub fn unfold(&self, chunk: &[u8]) -> Result<Vec<Vec<u8>>, FoldError> {
        let mut input = Input::new();
        input.push(chunk)?;
        let answer = self.run(Task::Unfold, input, wire::items_bytes_max())?;
        let changes = wire::items(&answer).ok_or(FoldError::WrongAnswer { what: "it is no list of changes" })?;
        Ok(changes.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// Runs a child, and returns its answer's items.
    fn run(&self, task: Task, input: Input, answer_bytes_max: usize) -> Result<Vec<u8>, FoldError> {
        if self.is_stopped() {
            return Err(FoldError::Stopped);
        }
        let deadline = Instant::now() + self.command.timeout;
        let mut running = Running::start(&self.command)?;
        let answer = running.talk(&self.command, task, input, answer_bytes_max).map_err(FoldError::Start)?;
        let answer = self.wait(&answer, deadline)?;
        let Some(mut answer) = answer else {
            return Err(FoldError::TooLarge {
                what: "bytes in the answer",
                limit: answer_bytes_max.min(FOLD_BYTES_MAX),
            });
        };
        let status = self.wait_for_end(&mut running, deadline)?;
        if !status.success() {
            return Err(FoldError::Crashed { status, said: running.said() });
        }
        match answer.first() {
            Some(&wire::DONE) => {
                answer.remove(0);
                Ok(answer)
            }
            Some(&wire::REFUSED) => Err(FoldError::Refused { reason: reason(&answer[1..]) }),
            _ => Err(FoldError::WrongAnswer { what: "it begins like none" }),
        }
    }

    fn wait<T>(&self, news: &Receiver<T>, deadline: Instant) -> Result<T, FoldError> {
        loop {
            match news.recv_timeout(LOOK_EVERY) {
                Ok(news) => return Ok(news),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(FoldError::WrongAnswer { what: "its output cannot be read" });
                }
                Err(RecvTimeoutError::Timeout) => self.check_time(deadline)?,
            }
        }
    }

    fn wait_for_end(&self, running: &mut Running, deadline: Instant) -> Result<ExitStatus, FoldError> {
        // A child that has closed its output is mostly gone a moment later.
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = running.child.try_wait().map_err(FoldError::Start)? {
                return Ok(status);
            }
            self.check_time(deadline)?;
            thread::sleep(pause);
            pause = (pause * 2).min(LOOK_EVERY);
        }
    }

    fn check_time(&self, deadline: Instant) -> Result<(), FoldError> {
        if self.is_stopped() {
            return Err(FoldError::Stopped);
        }
        if Instant::now() >= deadline {
            return Err(FoldError::TimedOut { limit: self.command.timeout });
        }
        Ok(())
    }
}

/// A child that is killed when this is dropped, with whatever it has started itself.
struct Running {
    child: Child,
    said: Option<Receiver<String>>,
}

impl Running {
    fn start(command: &FoldCommand) -> Result<Self, FoldError> {
        let mut child = Command::new(&command.program);
        child.args(&command.arguments).env_clear();
        child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut child, 0);
        let child = child.spawn().map_err(FoldError::Start)?;
        Ok(Self { child, said: None })
    }

    /// Sends the request and gathers the answer, each in a thread that ends when the child is gone. The answer is `None`
    /// when it has more bytes than it may; the child then waits for somebody to read on.
    fn talk(
        &mut self,
        command: &FoldCommand,
        task: Task,
        input: Input,
        answer_bytes_max: usize,
    ) -> io::Result<Receiver<Option<Vec<u8>>>> {
        let pipe_is_missing = || io::Error::other("a pipe is missing");
        let mut stdin = self.child.stdin.take().ok_or_else(pipe_is_missing)?;
        let mut stdout = self.child.stdout.take().ok_or_else(pipe_is_missing)?;
        let mut stderr = self.child.stderr.take().ok_or_else(pipe_is_missing)?;
        let (memory_bytes, cpu_seconds) = (command.memory_bytes, command.cpu_seconds);
        spawn(move || {
            let mut request = Vec::with_capacity(64);
            // That the child does not read on shows in its answer.
            let _ = wire::write_head(&mut request, task, memory_bytes, cpu_seconds)
                .and_then(|()| stdin.write_all(&request))
                .and_then(|()| input.write(&mut stdin));
        })?;
        let (send, said) = mpsc::sync_channel(1);
        spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.by_ref().take(FOLD_STDERR_BYTES_MAX as u64).read_to_end(&mut bytes);
            let _ = send.send(String::from_utf8_lossy(&bytes).into_owned());
            // Whatever else it says is read so that it does not wait, and forgotten.
            let _ = io::copy(&mut stderr, &mut io::sink());
        })?;
        self.said = Some(said);
        let (send, answer) = mpsc::sync_channel(1);
        spawn(move || {
            // The status, the items with their lengths, the end.
            if let Ok(bytes) = wire::read_all(&mut stdout, answer_bytes_max + 16) {
                let _ = send.send(bytes);
            }
        })?;
        Ok(answer)
    }

    /// Returns the beginning of what the child wrote to its standard error. It is over by now, so nobody waits long.
    fn said(&self) -> String {
        self.said.as_ref().and_then(|said| said.recv_timeout(LOOK_EVERY).ok()).unwrap_or_default()
    }

    fn kill(&mut self) {
        #[cfg(unix)]
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // Until it is waited for, nobody else can have its number.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A child that has ended was waited for, and its number may be another's.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("rejoin-fold-pipe".to_owned()).spawn(work).map(drop)
}

fn reason(items: &[u8]) -> String {
    let text = wire::items(items).and_then(|items| items.first().map(|text| text.to_vec())).unwrap_or_default();
    String::from_utf8_lossy(&text[..text.len().min(FOLD_STDERR_BYTES_MAX)]).into_owned()
}
