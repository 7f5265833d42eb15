//! The least that a server can do to pass messages on: what comes on one WebSocket goes to all, its sender included. Nothing
//! is stored or looked into. Prints the port it took.
//!
//! One task serves a connection and sends message by message, as one would write it. With `--gather` what has gathered for a
//! connection is written at once.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a helper of benchmarks: its output is its purpose")]

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::Sender;
use tokio_tungstenite::tungstenite::Message;

/// How many messages a connection may be behind.
const WAITING_MAX: usize = 4_096;

#[tokio::main]
async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    let messages = Sender::new(WAITING_MAX);
    let gathers = std::env::args().any(|argument| argument == "--gather");
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, messages.clone(), gathers));
    }
}

async fn serve(stream: TcpStream, messages: Sender<Bytes>, gathers: bool) {
    stream.set_nodelay(true).unwrap();
    let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { return };
    let (mut sink, mut stream) = socket.split();
    let mut waiting = messages.subscribe();
    loop {
        tokio::select! {
            message = waiting.recv() => {
                let Ok(message) = message else { return };
                if sink.feed(Message::Binary(message)).await.is_err() {
                    return;
                }
                while gathers && let Ok(message) = waiting.try_recv() {
                    if sink.feed(Message::Binary(message)).await.is_err() {
                        return;
                    }
                }
                if sink.flush().await.is_err() {
                    return;
                }
            }
            frame = stream.next() => match frame {
                // Somebody listens: this connection itself.
                Some(Ok(Message::Binary(frame))) => drop(messages.send(frame)),
                Some(Ok(_)) => {}
                _ => return,
            },
        }
    }
}
