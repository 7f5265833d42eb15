#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, sink, stream};

use super::{BoxFuture, ConnectOptions, ConnectionState, Dial, DialError, Dialed, Heard};
use crate::Repo;
use crate::codec::v1::Code;

/// A relay that hears nothing and says one thing: that it closes; or one that cannot be reached.
struct Closing {
    close: Option<(u16, &'static str)>,
    dialed: AtomicUsize,
}

impl Dial for Closing {
    fn dial<'a>(&'a self, _: &'a [&'static str]) -> BoxFuture<'a, Result<Dialed, DialError>> {
        self.dialed.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let Some((code, reason)) = self.close else { return Err(DialError::Failed("no route".to_owned())) };
            let close = Heard::Close { code, reason: reason.to_owned() };
            Ok(Dialed {
                subprotocol: None,
                has_pings: true,
                incoming: Box::pin(stream::iter([Ok(close)])),
                outgoing: Box::pin(sink::drain().sink_map_err(|never| match never {})),
            })
        })
    }
}

async fn waiting(dial: &Arc<Closing>) -> (Repo, super::Connection, ConnectionState) {
    let repo = Repo::in_memory().unwrap();
    let mut connection = repo.connect_by(Arc::clone(dial) as Arc<dyn Dial>, &ConnectOptions::new());
    let state = connection.wait_for(|state| matches!(state, ConnectionState::Waiting { .. })).await;
    (repo, connection, state)
}

#[tokio::test]
async fn a_connection_that_waits_can_be_hurried_and_then_begins_anew_with_short_waits() {
    let dial = Arc::new(Closing { close: None, dialed: AtomicUsize::new(0) });
    let (repo, mut connection, _) = waiting(&dial).await;
    let tried_often = async {
        // Twelve waits that double each time take longer than a quarter of an hour.
        for _ in 0..12 {
            let before = dial.dialed.load(Ordering::SeqCst);
            repo.retry_now();
            while dial.dialed.load(Ordering::SeqCst) == before {
                connection.changed().await;
            }
            connection.wait_for(|state| matches!(state, ConnectionState::Waiting { .. })).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), tried_often).await.unwrap();
    let ConnectionState::Waiting { retry_in, code, .. } = connection.state() else { panic!() };
    assert!(retry_in <= Duration::from_millis(500));
    assert_eq!(code, None);
}

#[tokio::test]
async fn one_that_is_to_stay_offline_cannot_be_hurried() {
    let dial = Arc::new(Closing { close: None, dialed: AtomicUsize::new(0) });
    let (repo, mut connection, _) = waiting(&dial).await;
    repo.set_offline(true);
    connection.wait_for(|state| *state == ConnectionState::Offline).await;
    let before = dial.dialed.load(Ordering::SeqCst);
    repo.retry_now();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!((connection.state(), dial.dialed.load(Ordering::SeqCst)), (ConnectionState::Offline, before));
}

#[tokio::test]
async fn what_a_close_frame_says_is_told_as_a_code() {
    for (close, code) in [
        ((1008, "unauthenticated: the token is expired: sign in again"), Some(Code::Unauthenticated)),
        ((3000, ""), Some(Code::Unauthenticated)),
        ((4401, "sign in"), Some(Code::Unauthenticated)),
        ((1013, "busy: later"), Some(Code::Busy)),
        ((1008, "unauthenticated"), None),
        ((1000, "something: else"), None),
        ((1001, ""), None),
    ] {
        let dial = Arc::new(Closing { close: Some(close), dialed: AtomicUsize::new(0) });
        let (_repo, _connection, state) = waiting(&dial).await;
        let ConnectionState::Waiting { code: told, .. } = &state else { panic!("{state:?}") };
        assert_eq!(*told, code, "{state:?}");
    }
}

#[tokio::test]
async fn relay_that_stops_is_left_alone_for_as_long_as_it_asks() {
    for (close, least, most) in [
        ((1001, "reconnect-after=7; the relay is stopping"), 7, 7),
        ((1001, "going-away: reconnect-after=20; the relay is stopping"), 20, 20),
        ((1001, "reconnect-after=4000000000"), 300, 300),
        ((1001, "reconnect-after=0"), 0, 1),
        ((1001, "the relay is stopping"), 0, 1),
    ] {
        let dial = Arc::new(Closing { close: Some(close), dialed: AtomicUsize::new(0) });
        let (_repo, _connection, state) = waiting(&dial).await;
        let ConnectionState::Waiting { retry_in, .. } = &state else { panic!("{state:?}") };
        assert!((least..=most).contains(&retry_in.as_secs()), "{state:?}");
    }
}
