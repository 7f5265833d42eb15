//! A relay in a process of its own, that can be killed and started again.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Arguments of a relay where everybody may do everything, and one address may have as many connections as it likes, as fast as it likes.
pub const CROWDED: [&str; 5] = [
    "--open",
    "--admin-enabled=false",
    "--limits-connections-max=19000",
    "--limits-connections-per-address-max=19000",
    "--limits-upgrades-per-second=0",
];

/// A running relay. Killed when dropped.
pub struct RelayProcess {
    child: Child,
    port: u16,
    data: PathBuf,
    arguments: Vec<String>,
    /// Where its log goes; nowhere by default.
    log: Option<PathBuf>,
}

impl RelayProcess {
    /// Starts a relay on a free port of the loopback address, where everybody may do everything.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &["--open".to_owned(), "--admin-enabled=false".to_owned()])
    }

    /// Starts a relay as [`RelayProcess::start`] does, which takes a crowd from one machine.
    pub fn start_crowded(data: &Path) -> Self {
        Self::start_with(data, &CROWDED.map(str::to_owned))
    }

    /// Starts a relay on a free port of the loopback address with these arguments and no others.
    pub fn start_with(data: &Path, arguments: &[String]) -> Self {
        Self::start_logged(data, arguments, None)
    }

    /// Starts a relay as [`RelayProcess::start_with`] does, whose log is added to a file.
    pub fn start_logged(data: &Path, arguments: &[String], log: Option<&Path>) -> Self {
        crate::said::listen();
        let (port, log) = (free_port(), log.map(Path::to_owned));
        let child = spawn(data, port, arguments, log.as_deref());
        Self { child, port, data: data.to_owned(), arguments: arguments.to_owned(), log }
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Returns the WebSocket address.
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process without a warning.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to stop, and waits until it has.
    pub fn stop(&mut self) {
        signal(self.child.id(), "TERM");
        self.child.wait().unwrap();
    }

    /// Starts it again on the same data and port, with the same arguments.
    pub fn restart(&mut self) {
        self.child = spawn(&self.data, self.port, &self.arguments, self.log.as_deref());
    }

    /// Returns how the process ended, if it has.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a port of the loopback address that nobody listens on, below those that systems give to connections: one of these may
/// have it while a relay is down that is to come back to it.
pub fn free_port() -> u16 {
    let tried = std::iter::repeat_with(|| rand::random_range(12_000..32_000_u16)).take(1_000);
    tried.into_iter().find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// Sends a process a signal by its name, such as `STOP`.
pub fn signal(process: u32, name: &str) {
    let asked = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status().unwrap();
    assert!(asked.success(), "{name} to process {process}");
}

/// Starts the binary and waits until it listens.
fn spawn(data: &Path, port: u16, arguments: &[String], log: Option<&Path>) -> Child {
    let log =
        log.map_or_else(Stdio::null, |log| OpenOptions::new().create(true).append(true).open(log).unwrap().into());
    let mut child = Command::new(crate::binary("rejoin-relay"))
        .arg("serve")
        .args(arguments)
        .arg("--data")
        .arg(data)
        .arg("--listen")
        .arg(format!("127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("listening"), "the relay says that it listens, not {line:?}");
    child
}
