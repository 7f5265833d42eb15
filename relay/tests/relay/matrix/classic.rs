//! A classic client that looks at every byte it is sent.

use std::sync::atomic::{AtomicU64, Ordering};

use rejoin::DocumentId;
use rejoin::codec::classic::Frame;
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::http::Relay;
use super::model::{Kind, Model};
use super::modern::holds;
use crate::client::{Client, PATIENCE};

/// How a client without a token in its protocol shows one.
#[derive(Debug, Clone, Copy)]
pub enum Shows {
    Ticket,
    Subprotocol,
    /// A share link in the place of a ticket.
    Link,
}

pub struct Classic {
    pub client: Client,
    pub token: usize,
    looked_at: usize,
}

impl Classic {
    /// Connects, and comes in if that is allowed.
    pub async fn enter(relay: &Relay, model: &Model, token: usize, shows: Shows) -> Option<Self> {
        let it = &model.tokens[token];
        let may_enter = !model.is_over(token);
        let query = match shows {
            Shows::Link if matches!(it.kind, Kind::Link { .. }) => format!("?ticket={}", it.text),
            Shows::Subprotocol => String::new(),
            Shows::Ticket | Shows::Link => match relay.ask("POST /ticket", Some(&it.text), None).await {
                (200, body) => {
                    assert!(may_enter, "a ticket for {it:?}");
                    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
                    format!("?ticket={}", body["ticket"].as_str().unwrap())
                }
                (status, body) => {
                    assert!(!may_enter && status == 401, "no ticket for {it:?}: {status} {body}");
                    return None;
                }
            },
        };
        let mut request = relay.ws_url(&query).into_client_request().unwrap();
        request.headers_mut().insert("x-forwarded-for", relay.address().parse().unwrap());
        if query.is_empty() {
            let offered = format!("rejoin.bearer.{}, rejoin.classic", it.text);
            request.headers_mut().insert("sec-websocket-protocol", offered.parse().unwrap());
        }
        match connect_async(request).await {
            Ok((socket, _)) => {
                assert!(may_enter, "let in: {it:?}");
                Some(Self { client: Client::of(socket, &relay.peer_name()).await, token, looked_at: 0 })
            }
            Err(Error::Http(refusal)) => {
                assert!(!may_enter && refusal.status().as_u16() == 401, "{}: {it:?}", refusal.status());
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Takes part until something holds.
    pub async fn until(&mut self, model: &Model, what: &str, holds: impl FnMut(&Client) -> bool) {
        // Says what it was about if it does not come to that.
        let _waits = Waits(what);
        self.client.until(holds).await;
        self.look(model);
    }

    /// Takes part until everything has come that was under way.
    pub async fn barrier(&mut self, model: &Model) {
        for _ in 0..2 {
            let ghost = ghost();
            self.client.open(ghost);
            self.until(model, "a barrier", |client| client.unavailable.contains(&ghost)).await;
        }
    }

    /// Waits until the relay has closed because the token is over.
    pub async fn ended(&mut self) {
        let closed = timeout(PATIENCE, self.client.closed()).await.expect("the relay does not close");
        assert_eq!(closed.map(|close| u16::from(close.code)), Some(1008));
    }

    /// Nothing that may not be read is anywhere in a frame; but what was asked for by name may be said not to be there.
    fn look(&mut self, model: &Model) {
        for frame in &self.client.frames[self.looked_at..] {
            let decoded = Frame::decode(frame).unwrap();
            for (number, document) in model.documents.iter().enumerate() {
                if model.may_read(self.token, number) {
                    continue;
                }
                let is_answer = matches!(decoded, Frame::DocUnavailable { .. });
                let names_it = holds(frame, document.id.to_string().as_bytes());
                let tells = names_it && !is_answer || holds(frame, document.canary.as_bytes());
                assert!(!tells, "{:?} is told of {document:?}: {decoded:?}", model.tokens[self.token]);
            }
        }
        self.looked_at = self.client.frames.len();
    }
}

/// Names a document that is nowhere.
fn ghost() -> DocumentId {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = u128::from(LAST.fetch_add(1, Ordering::Relaxed));
    DocumentId::from_bytes((0xeeee_eeee_0000_0000_0000_0000_0000_0000 + number).to_be_bytes())
}

struct Waits<'a>(&'a str);

impl Drop for Waits<'_> {
    #[expect(clippy::print_stderr, reason = "a test that fails says where")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("it waited for this: {}", self.0);
        }
    }
}
