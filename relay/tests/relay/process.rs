//! The real binary: starting, stopping, and what it says when it cannot.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rejoin::store::{RedbOptions, RedbStore, StoreExt, Table};

use crate::client::{Client, Raw, document};

pub const BINARY: &str = env!("CARGO_BIN_EXE_rejoin-relay");

pub struct Process {
    child: Child,
    pub url: String,
}

impl Process {
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, |_| ())
    }

    pub fn start_with(data: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = serve(data);
        change(&mut command);
        Self::of(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Waits until a relay listens. Its standard output is to be piped.
    pub fn of(mut child: Child) -> Self {
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim_end().trim_end_matches(')').rsplit(' ').next().unwrap().to_owned();
        assert!(line.starts_with("listening on http://127.0.0.1:") && url.starts_with("ws://127.0.0.1:"), "{line}");
        Self { child, url }
    }

    /// Stops it, and waits for its end.
    pub fn end(mut self) {
        self.signal("TERM");
        self.child.wait().unwrap();
    }

    /// Returns what the relay logs, if that was asked for.
    pub fn log(&mut self) -> std::process::ChildStderr {
        self.child.stderr.take().unwrap()
    }

    /// Returns how much memory it has.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(data: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command
        .args(["serve", "--open", "--admin-enabled=false", "--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .env_remove("RUST_LOG");
    command
}

/// Runs a relay that cannot start, and returns the one line it says.
fn complaint(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(!status.success());
    assert_eq!(stdout, "");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("rejoin-relay: failed to "), "{stderr}");
    stderr
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_relay_says_goodbye_and_finds_its_data_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = Process::start(directory.path());
    let mut alice = Client::connect(&first.url, "alice").await;
    alice.set(document(1), "a", 1);
    alice.open(document(1));
    alice.until(|alice| alice.is_acknowledged(document(1))).await;
    let mut idle = Raw::join(&first.url, "idle").await;
    first.signal("TERM");
    let (_, close) = idle.closed().await;
    assert_eq!(u16::from(close.unwrap().code), 1001);
    drop((alice, idle));
    assert!(first.child.wait().unwrap().success());

    let second = Process::start(directory.path());
    let mut bob = Client::connect(&second.url, "bob").await;
    bob.open(document(1));
    bob.until(|bob| bob.count(document(1)) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_relay_has_kept_what_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let first = Process::start(directory.path());
    let mut alice = Client::connect(&first.url, "alice").await;
    alice.set(document(1), "a", 1);
    alice.open(document(1));
    alice.until(|alice| alice.is_acknowledged(document(1))).await;
    first.signal("KILL");
    drop(first);
    let second = Process::start(directory.path());
    let mut bob = Client::connect(&second.url, "bob").await;
    bob.open(document(1));
    bob.until(|bob| bob.count(document(1)) == 1).await;
}

/// Starts a relay that does not end as long as somebody is half-way through a request, and returns it with that somebody once it
/// was told to stop. A second of the two that it has goes to the commits.
fn stopping(data: &Path, deadline_seconds: &str) -> (Process, BufReader<std::process::ChildStderr>, TcpStream) {
    let mut relay = Process::start_with(data, |command| {
        command.args(["--drain-deadline-seconds", deadline_seconds, "--limits-handshake-seconds", "600"]);
        command.stderr(Stdio::piped());
    });
    let mut somebody = TcpStream::connect(relay.url.trim_start_matches("ws://")).unwrap();
    somebody.write_all(b"GET / HTTP/1.1\r\nhost: relay\r\n").unwrap();
    // The relay has it once it has accepted the next one.
    let mut another = TcpStream::connect(relay.url.trim_start_matches("ws://")).unwrap();
    another.write_all(b"GET /livez HTTP/1.1\r\nhost: relay\r\n\r\n").unwrap();
    another.read_to_end(&mut Vec::new()).unwrap();
    let mut log = BufReader::new(relay.log());
    relay.signal("TERM");
    until(&mut log, "the relay is stopping");
    (relay, log, somebody)
}

/// Reads a log up to a line with these words.
fn until(log: &mut impl BufRead, words: &str) {
    let mut line = String::new();
    while !line.contains(words) {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "{words:?} was never said");
    }
}

#[test]
fn second_signal_ends_a_relay_that_would_wait_for_others() {
    let directory = tempfile::tempdir().unwrap();
    let (mut relay, _log, _somebody) = stopping(directory.path(), "600");
    assert_eq!(relay.child.try_wait().unwrap(), None);
    relay.signal("TERM");
    assert_eq!(relay.child.wait().unwrap().code(), Some(1));
}

#[test]
fn relay_that_stops_cuts_those_who_do_not_end_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let (mut relay, mut log, mut somebody) = stopping(directory.path(), "1");
    until(&mut log, "some connections");
    assert!(relay.child.wait().unwrap().success());
    // Whether it is told so or finds nobody there any more: it is not answered.
    let mut answer = Vec::new();
    let _ = somebody.read_to_end(&mut answer);
    assert_eq!(answer, b"");
}

#[test]
fn store_in_use_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let _running = Process::start(directory.path());
    assert!(complaint(&mut serve(directory.path())).contains("in use by another process"));
}

#[test]
fn foreign_truncated_and_newer_stores_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.redb");
    std::fs::write(&path, b"these are somebody's notes, and no database at all").unwrap();
    assert!(complaint(&mut serve(directory.path())).contains("not a Rejoin store"));
    std::fs::remove_file(&path).unwrap();

    let store = RedbStore::open(&path, RedbOptions::new()).unwrap();
    store.write_with(|tx| tx.put(Table::Meta, b"format", &99u32.to_le_bytes())).unwrap();
    drop(store);
    assert!(complaint(&mut serve(directory.path())).contains("upgrade Rejoin"));

    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let said = complaint(&mut serve(directory.path()));
    assert!(said.contains("damaged") || said.contains("not a Rejoin store"), "{said}");
}

#[test]
fn bad_arguments_and_taken_ports_are_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let running = Process::start(&directory.path().join("one"));
    let taken = running.url.trim_start_matches("ws://").to_owned();
    let mut second = Command::new(BINARY);
    second.args(["serve", "--listen", &taken, "--data"]).arg(directory.path().join("two"));
    assert!(complaint(&mut second).contains("choose another address with --listen"));
    assert!(complaint(Command::new(BINARY).args(["serve"]).env_remove("REJOIN_RELAY_DATA")).contains("--data"));
    assert!(complaint(Command::new(BINARY).args(["serve", "--bogus"])).contains("--bogus"));
    assert!(complaint(&mut Command::new(BINARY)).contains("no command"));
    let nowhere = complaint(Command::new(BINARY).args(["serve", "--data", "x", "--listen", "nowhere"]));
    assert!(nowhere.contains("127.0.0.1:3030"));
}

#[test]
fn log_goes_to_a_file_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("relay.log");
    let run = || {
        let mut relay = Process::start_with(&directory.path().join("data"), |command| {
            command.arg("--log-file").arg(&file).stderr(Stdio::piped());
        });
        relay.signal("TERM");
        let mut said = String::new();
        relay.log().read_to_string(&mut said).unwrap();
        relay.end();
        said
    };
    let first = run();
    assert!(!first.is_empty());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), first);
    let both = first + &run();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), both);

    let nowhere = directory.path().join("missing/relay.log");
    let said = complaint(serve(directory.path()).arg("--log-file").arg(nowhere));
    assert!(said.contains("missing/relay.log") && said.contains("log.file"), "{said}");
}
