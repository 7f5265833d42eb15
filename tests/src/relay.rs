//! A relay in a process of its own, that can be killed and started again.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running relay. Killed when dropped.
pub struct RelayProcess {
    child: Child,
    port: u16,
    data: PathBuf,
    arguments: Vec<String>,
}

impl RelayProcess {
    /// Starts a relay on a free port of the loopback address, where everybody may do everything.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &["--open".to_owned(), "--admin-enabled=false".to_owned()])
    }

    /// Starts a relay on a free port of the loopback address with these arguments and no others.
    pub fn start_with(data: &Path, arguments: &[String]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { child: spawn(data, port, arguments), port, data: data.to_owned(), arguments: arguments.to_owned() }
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
        let asked = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        assert!(asked.success());
        self.child.wait().unwrap();
    }

    /// Starts it again on the same data and port, with the same arguments.
    pub fn restart(&mut self) {
        self.child = spawn(&self.data, self.port, &self.arguments);
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the binary and waits until it listens.
fn spawn(data: &Path, port: u16, arguments: &[String]) -> Child {
    let mut child = Command::new(crate::binary("rejoin-relay"))
        .arg("serve")
        .args(arguments)
        .arg("--data")
        .arg(data)
        .arg("--listen")
        .arg(format!("127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("listening"), "the relay says that it listens, not {line:?}");
    child
}
