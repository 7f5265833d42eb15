//! A server of the crate `samod` over WebSockets, for the benchmarks. Prints the port it took.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a helper of benchmarks: its output is its purpose")]

use rejoin_tests::samod::transport;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() {
    let repo = samod::Repo::build_tokio().load().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = repo.make_acceptor(format!("ws://127.0.0.1:{port}").parse().unwrap()).unwrap();
    println!("{port}");
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { continue };
        if acceptor.accept(transport(socket)).is_err() {
            return;
        }
    }
}
