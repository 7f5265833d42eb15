//! A hostile peer on a real WebSocket, connecting or accepting.

use std::time::Duration;

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use rejoin::codec::classic::Frame;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::attacks::{Attack, Scene, Sent};

/// How long an answer may take on a busy machine. It ends a test that waits for ever and measures nothing.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the victim did.
#[derive(Debug, Default)]
pub struct Reaction {
    /// The close code, if it closed.
    pub close: Option<u16>,
    /// The text of its `error` frame.
    pub error: Option<String>,
    /// Whether it answered the question after the attack.
    pub answered: bool,
    /// How many bytes it sent.
    pub bytes: usize,
}

/// Sends an attack over a WebSocket whose handshake is done as far as the attack wants, and waits for the close; where
/// none is expected, it asks a question and waits for the answer.
pub async fn attack<S>(socket: &mut WebSocketStream<S>, scene: &Scene, attack: &Attack, frames: &[Sent]) -> Reaction
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (document, question) = scene.barrier(0);
    let (mut sink, mut stream) = socket.split();
    let send = async {
        for frame in frames {
            let message = match frame {
                Sent::Binary(frame) => Message::Binary(frame.clone()),
                Sent::Text(text) => Message::text(*text),
            };
            // Whoever is closed on can send no more.
            if send_one(&mut sink, message).await.is_err() {
                return;
            }
        }
        // A question that nobody reads any more would reset the connection, and the close frame would be lost with it.
        if attack.expect.close.is_none() {
            let _ = send_one(&mut sink, Message::Binary(question)).await;
        }
    };
    let receive = async {
        let mut reaction = Reaction::default();
        loop {
            let Some(message) = next(&mut stream).await else { return reaction };
            reaction.bytes += message.len();
            match message {
                Message::Close(close) => reaction.close = close.map(|close| close.code.into()),
                Message::Binary(frame) => match Frame::decode(&frame) {
                    Ok(Frame::Error { message, .. }) => reaction.error = Some(message),
                    Ok(Frame::DocUnavailable { document: found, .. }) if found == document => {
                        reaction.answered = true;
                        return reaction;
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    };
    // The socket is read all along: a victim that waits to be read does not read.
    let both = async {
        let ((), reaction) = tokio::join!(send, receive);
        reaction
    };
    timeout(PATIENCE, both).await.unwrap_or_else(|_| panic!("{}: neither an answer nor a close", attack.name))
}

async fn send_one(sink: &mut (impl Sink<Message, Error = Error> + Unpin), message: Message) -> Result<(), Error> {
    sink.send(message).await
}

async fn next(stream: &mut (impl Stream<Item = Result<Message, Error>> + Unpin)) -> Option<Message> {
    stream.next().await.and_then(Result::ok)
}
