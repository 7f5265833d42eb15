//! Deadlines of sockets, by a clock that runs when nobody has anything to do.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::limits::{TLS_LOOK, WRITE_STALL};

/// Two ends of a connection: the relay's, and somebody's.
async fn pair(config: Config, tls: tls::Current) -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let config = watch::Sender::new(Arc::new(config)).subscribe();
    let mut accept = Accept { listener, door: Door::new(config.clone()), config, tls };
    let somebody = TcpStream::connect(address).await.expect("it listens");
    (accept.accept().await.0, somebody)
}

fn config() -> Config {
    Config::new("", "127.0.0.1:0".parse().expect("an address"))
}

#[tokio::test(start_paused = true)]
async fn other_side_that_takes_nothing_is_given_up() {
    let (mut socket, _somebody) = pair(config(), watch::Sender::new(None).subscribe()).await;
    let begun = Instant::now();
    let bytes = vec![7; 1 << 16];
    let error = loop {
        if let Err(error) = socket.write_all(&bytes).await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(begun.elapsed() >= WRITE_STALL);
}

/// Writes a certificate with its key where the configuration of the result expects it.
fn certify(directory: &std::path::Path) -> Config {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let mut config = config();
    let write = |name: &str, text: String| {
        let path = directory.join(name);
        std::fs::write(&path, text).expect("the folder is there");
        Some(path)
    };
    config.tls.cert_file = write("cert.pem", made.cert.pem());
    config.tls.key_file = write("key.pem", made.signing_key.serialize_pem());
    config
}

#[tokio::test(start_paused = true)]
async fn who_begins_no_tls_is_given_up_before_a_slow_request_would_be() {
    let directory = tempfile::tempdir().expect("a folder");
    let mut config = certify(directory.path());
    config.limits.handshake_seconds = TLS_HANDSHAKE_DEADLINE * 10;
    let tls = watch::Sender::new(tls::load(&config).expect("they fit")).subscribe();
    let (mut socket, _somebody) = pair(config, tls).await;
    let begun = Instant::now();
    let error = socket.read_u8().await.expect_err("nothing was sent");
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::TimedOut, "no TLS in time"));
    assert!(begun.elapsed() >= TLS_HANDSHAKE_DEADLINE && begun.elapsed() < TLS_HANDSHAKE_DEADLINE * 2);
}

#[tokio::test(start_paused = true)]
async fn files_of_tls_are_looked_at_now_and_then() {
    let directory = tempfile::tempdir().expect("a folder");
    let config = Arc::new(certify(directory.path()));
    let mut current = tls::follow(watch::Sender::new(config).subscribe()).expect("they fit");
    let before = current.borrow_and_update().clone().expect("there is TLS");
    for _ in 0..3 {
        sleep(TLS_LOOK).await;
    }
    assert!(!current.has_changed().expect("it goes on"), "nothing was written");
    let begun = Instant::now();
    certify(directory.path());
    current.changed().await.expect("it goes on");
    assert!(begun.elapsed() <= TLS_LOOK * 2);
    assert!(!Arc::ptr_eq(&before, &current.borrow().clone().expect("there is TLS")));
}
