//! A server of the crate `samod` over WebSockets, for the benchmarks. Prints the port it took.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a helper of benchmarks: its output is its purpose")]

use futures_util::{SinkExt, StreamExt, future};
use samod::Transport;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::{Error, Message};

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
        let (sink, stream) = socket.split();
        let sink = sink.with(|bytes: Vec<u8>| future::ready(Ok::<_, Error>(Message::Binary(bytes.into()))));
        let stream = stream.filter_map(|message| {
            future::ready(match message {
                Ok(Message::Binary(bytes)) => Some(Ok(bytes.to_vec())),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            })
        });
        if acceptor.accept(Transport::new(stream, sink)).is_err() {
            return;
        }
    }
}
