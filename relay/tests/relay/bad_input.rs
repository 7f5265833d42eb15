//! Whatever one client sends, it gets a clear answer, and another client notices nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use rejoin::codec::classic::Frame;
use rejoin::limits::FRAME_BYTES_MAX;
use rejoin::store::MemoryStore;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, Raw, document, peer};
use crate::relay::Relay;

/// Two honest clients that write to each other through the relay.
struct Honest {
    alice: Client,
    bob: Client,
    value: i64,
}

impl Honest {
    async fn meet(relay: &Relay) -> Self {
        let mut alice = Client::connect(&relay.url(), "alice").await;
        let mut bob = Client::connect(&relay.url(), "bob").await;
        alice.set(document(1), "a", 0);
        alice.open(document(1));
        bob.open(document(1));
        alice.send_all().await;
        let expected = alice.heads(document(1));
        bob.until_beside(&mut alice, |bob| bob.heads(document(1)) == expected).await;
        Self { alice, bob, value: 0 }
    }

    async fn still_work(&mut self) {
        self.value += 1;
        self.alice.set(document(1), "a", self.value);
        self.alice.send_all().await;
        let expected = self.alice.heads(document(1));
        self.bob.until(|bob| bob.heads(document(1)) == expected).await;
    }
}

fn sync_frame(target: &str, data: &'static [u8]) -> Bytes {
    let data = Bytes::from_static(data);
    Frame::Sync { sender_id: peer("mallory"), target_id: peer(target), document: document(1), data }.encode()
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_break_the_protocol_close_only_their_own_connection() {
    let relay = Relay::start().await;
    let mut honest = Honest::meet(&relay).await;
    let relay_name = Raw::join(&relay.url(), "mallory").await.relay.unwrap();
    let frames: Vec<(&str, Bytes, u16)> = vec![
        ("truncated", Bytes::from_static(b"\xa1\x64type\x64jo"), 1007),
        ("null", Bytes::from_static(b"\xf6"), 1002),
        ("empty", Bytes::new(), 1007),
        ("second join", join("1"), 1002),
        ("sync for another peer", sync_frame("somebody else", b"\x42\x00\x00\x00\x00"), 1002),
        ("broken sync message", sync_frame(relay_name.as_str(), b"\x42\xff\xff\xff\xff\xff"), 1002),
    ];
    for (what, frame, code) in frames {
        let mut mallory = Raw::join(&relay.url(), "mallory").await;
        mallory.send(frame).await;
        let (said, close) = mallory.closed().await;
        let close = close.unwrap_or_else(|| panic!("{what}: no close frame"));
        assert_eq!(u16::from(close.code), code, "{what}: {}", close.reason);
        assert!(!said.unwrap_or_else(|| panic!("{what}: no error frame")).is_empty());
        honest.still_work().await;
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_frame_is_not_spoken_here() {
    let relay = Relay::start().await;
    let mut mallory = Raw::join(&relay.url(), "mallory").await;
    mallory.socket.send(Message::text("hello")).await.unwrap();
    let (said, close) = mallory.closed().await;
    assert_eq!(u16::from(close.unwrap().code), 1003);
    assert!(said.unwrap().contains("text frames"));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn harmless_oddities_leave_the_connection_open() {
    let relay = Relay::start().await;
    let mut odd = Raw::join(&relay.url(), "odd").await;
    // A frame of a type that is not known.
    odd.send(&b"\xa2\x64type\x66wobble\x68senderId\x63odd"[..]).await;
    let (relay_name, document) = (odd.relay.clone().unwrap(), document(9));
    let data = Bytes::from_static(b"\x42\x00\x00\x01\x00\x00\x00\x02\x02\x84");
    odd.send(Frame::Request { sender_id: peer("odd"), target_id: relay_name, document, data }.encode()).await;
    let Some(Frame::DocUnavailable { document: answered, .. }) = odd.frame().await else { panic!("no answer") };
    assert_eq!(answered, document);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn message_above_the_bound_is_refused_with_its_bound() {
    let relay = Relay::start().await;
    let mut honest = Honest::meet(&relay).await;
    let mut mallory = Raw::join(&relay.url(), "mallory").await;
    // The relay closes before it has all of it, so sending may fail.
    let _ = mallory.socket.feed(Message::Binary(vec![0; FRAME_BYTES_MAX + 1].into())).await;
    let (_, close) = mallory.closed().await;
    let close = close.unwrap();
    assert_eq!(u16::from(close.code), 1009);
    assert!(close.reason.contains(&FRAME_BYTES_MAX.to_string()));
    honest.still_work().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshake_that_fails_says_why() {
    let relay = Relay::start().await;
    let mut old = Raw::connect(&relay.url()).await;
    old.send(join("0")).await;
    let (said, close) = old.closed().await;
    assert!(said.unwrap().contains("version 1"));
    assert_eq!(u16::from(close.unwrap().code), 1002);
    let mut eager = Raw::connect(&relay.url()).await;
    eager.send(sync_frame("relay", b"\x42\x00\x00\x00\x00")).await;
    let (said, close) = eager.closed().await;
    assert!(said.unwrap().contains("first frame must be a join"));
    assert_eq!(u16::from(close.unwrap().code), 1002);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_guest_is_shown_out() {
    let deadline = Duration::from_millis(50);
    let relay =
        Relay::start_with(Arc::new(MemoryStore::new()), |config| config.limits.handshake_seconds = deadline).await;
    let mut silent = Raw::connect(&relay.url()).await;
    let (_, close) = silent.closed().await;
    assert_eq!(close.unwrap().reason.as_str(), "no join in time");
    relay.stop().await;
}

fn join(version: &str) -> Bytes {
    let versions = vec![version.to_owned()];
    Frame::Join { sender_id: peer("mallory"), metadata: Default::default(), versions }.encode()
}
