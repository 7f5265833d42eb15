//! A relay that runs out of something says so before it has run out of it.

use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::PATIENCE;
use crate::http::ask_at;
use crate::process::{BINARY, Process};

const READY: &str = "GET /readyz HTTP/1.1\r\nhost: relay\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn relay_with_hardly_a_file_descriptor_left_is_not_ready_until_some_are_closed() {
    const FILES_MAX: usize = 100;
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {FILES_MAX} && exec \"$@\""), "sh", BINARY]);
    command.args(["serve", "--open", "--admin-enabled=false", "--listen", "127.0.0.1:0"]);
    // Those who say nothing are borne for long, and may come as fast as they do.
    command.args(["--limits-handshake-seconds", "600", "--limits-upgrades-per-second", "0", "--data"]);
    command.arg(directory.path()).stdout(Stdio::piped()).stderr(Stdio::null());
    let relay = Process::of(command.spawn().unwrap());
    let address = relay.url.trim_start_matches("ws://").parse().unwrap();
    assert_eq!(ask_at(address, READY).await.0, 200);
    let mut silent = Vec::new();
    let full = timeout(PATIENCE, async {
        while silent.len() < FILES_MAX {
            silent.push(TcpStream::connect(address).await.unwrap());
            let (status, answer) = ask_at(address, READY).await;
            if status != 200 {
                return (status, answer);
            }
        }
        panic!("it is ready whatever is open");
    });
    let (status, answer) = full.await.expect("it answers nobody any more");
    assert_eq!(status, 503);
    assert!(answer.contains("draining: ok\nstore: ok\ndisk: ok\nfds: "), "{answer}");
    assert!(answer.ends_with(" of 100 file descriptors are open, 90 % is too much\n"), "{answer}");
    drop(silent);
    // It notices in its own time that they are gone.
    let ready = timeout(PATIENCE, async {
        loop {
            let (status, answer) = ask_at(address, READY).await;
            if status == 200 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let answer = ready.await.expect("it does not get ready again");
    assert!(answer.ends_with("fds: ok\n"), "{answer}");
    relay.end();
}
