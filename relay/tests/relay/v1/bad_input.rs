//! Whatever one client sends, it gets the stable code of what was wrong, and the others notice nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use rejoin::SpaceId;
use rejoin::codec::v1::{ClientMessage, Code, Content, Outcome, RelayMessage, Start, Write};
use rejoin::limits::{CREDIT_BYTES_MAX, V1_FRAME_BYTES_MAX};
use rejoin::store::MemoryStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::client::{TEAM, V1, all_of, chain, hello, stored};
use crate::client::document;
use crate::relay::Relay;

/// Two honest clients that write to each other through the relay.
struct Honest {
    alice: V1,
    bob: V1,
    writes: Vec<Write>,
    done: usize,
}

impl Honest {
    async fn meet(relay: &Relay) -> Self {
        let alice = V1::follow(&relay.url(), "alice", TEAM).await;
        let bob = V1::follow(&relay.url(), "bob", TEAM).await;
        Self { alice, bob, writes: chain(document(1), "alice", 40, "k"), done: 0 }
    }

    async fn still_work(&mut self) {
        let write = self.writes[self.done].clone();
        self.done += 1;
        let acked = self.alice.store(TEAM, vec![write.clone()]).await;
        assert!(matches!(acked[0].outcome, Outcome::Stored { .. }), "{acked:?}");
        assert_eq!(self.bob.changes(1).await.remove(0).1, write);
    }
}

/// A space that nobody else cares for.
const LAIR: SpaceId = SpaceId::from_bytes([0xe7; 16]);

/// A client that is up to something.
async fn mallory(relay: &Relay) -> V1 {
    V1::greet(&relay.url(), "mallory", vec![all_of(LAIR, Start::Beginning)]).await.0
}

fn push(batch: u64, writes: Vec<Write>) -> Bytes {
    ClientMessage::Push { batch, space: LAIR, writes }.encode()
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_break_the_protocol_close_only_their_own_connection() {
    let relay = Relay::start().await;
    let mut honest = Honest::meet(&relay).await;
    let whole = push(1, chain(document(7), "mallory", 2, "k"));
    let presence = [&[0x80][..], LAIR.as_bytes(), b"\x01\x05alice", &[1; 16], b"\x01k\x01\x01\x00"].concat();
    let cases: Vec<(&str, Vec<Bytes>, Code, u16)> = vec![
        ("truncated", vec![whole.slice(..whole.len() - 1)], Code::FrameMalformed, 1007),
        ("empty", vec![Bytes::new()], Code::FrameMalformed, 1007),
        ("unknown kind", vec![Bytes::from_static(b"\x7f")], Code::FrameUnknownKind, 1002),
        ("of the other side", vec![Bytes::from_static(b"\x02")], Code::FrameUnknownKind, 1002),
        ("a second hello", vec![ClientMessage::Hello(hello("mallory", Vec::new())).encode()], Code::Unexpected, 1002),
        ("a push again", vec![whole.clone(), whole.clone()], Code::Unexpected, 1002),
        ("a push too early", vec![push(2, chain(document(7), "mallory", 1, "k"))], Code::Unexpected, 1002),
        (
            "a text too long",
            vec![Bytes::from([&[0x03, 1, 0x81, 0x08][..], &[b'x'; 1_025]].concat())],
            Code::FrameLimit,
            1009,
        ),
        ("a cursor ahead", vec![ClientMessage::Cursor { space: LAIR, position: 99 }.encode()], Code::CursorAhead, 1002),
        ("somebody else's presence", vec![presence.into()], Code::Unexpected, 1002),
        (
            "too much credit",
            vec![ClientMessage::Credit { bytes: CREDIT_BYTES_MAX }.encode()],
            Code::CreditOverrun,
            1002,
        ),
    ];
    for (what, frames, code, close_code) in cases {
        let mut mallory = mallory(&relay).await;
        for frame in frames {
            mallory.send_bytes(frame).await;
        }
        let (said, close) = mallory.closed().await;
        let said = said.unwrap_or_else(|| panic!("{what}: no error"));
        assert_eq!((said.code, said.is_fatal), (code, true), "{what}: {}", said.text);
        let close = close.unwrap_or_else(|| panic!("{what}: no close frame"));
        assert_eq!(u16::from(close.code), close_code, "{what}: {}", close.reason);
        honest.still_work().await;
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshake_that_fails_says_why() {
    let relay = Relay::start().await;
    let mut eager = V1::connect(&relay.url()).await;
    eager.send(&ClientMessage::Cursor { space: LAIR, position: 0 }).await;
    assert_eq!(eager.closed().await.0.map(|error| error.code), Some(Code::Unexpected));
    let mut young = V1::connect(&relay.url()).await;
    young.send_bytes(&b"\x01\x02\x03"[..]).await;
    let (said, close) = young.closed().await;
    assert_eq!(said.map(|error| error.code), Some(Code::Version));
    assert_eq!(u16::from(close.unwrap().code), 1002);
    let mut wordy = V1::connect(&relay.url()).await;
    wordy.socket.send(Message::text("hello")).await.unwrap();
    let (said, close) = wordy.closed().await;
    assert_eq!(said.map(|error| error.code), Some(Code::FrameInvalid));
    assert_eq!(u16::from(close.unwrap().code), 1003);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn message_of_a_later_version_that_may_be_missed_is_missed() {
    let relay = Relay::start().await;
    let mut odd = mallory(&relay).await;
    odd.send_bytes(&b"\xf0what"[..]).await;
    assert_eq!(odd.store(LAIR, chain(document(7), "odd", 1, "k")).await, stored(1, 1));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_writes_are_refused_one_by_one() {
    let relay = Relay::start().await;
    let mut honest = Honest::meet(&relay).await;
    honest.still_work().await;
    let mut mallory = mallory(&relay).await;
    let good = chain(document(7), "mallory", 3, "k");
    let broken = Write { document: document(7), content: Content::Change(Bytes::from_static(b"no chunk at all")) };
    let orphan = chain(document(8), "mallory", 2, "k").remove(1);
    let foreign = chain(document(1), "mallory", 1, "k").remove(0);
    let writes = vec![good[0].clone(), broken, good[1].clone(), orphan, foreign, good[2].clone()];
    let results = mallory.store(LAIR, writes).await;
    let mut short = Vec::new();
    for run in results {
        for step in 0..run.count {
            short.push(match &run.outcome {
                Outcome::Stored { first } => (first + step).to_string(),
                Outcome::Duplicate => "=".to_owned(),
                Outcome::Rejected(reject) => reject.code.name().to_owned(),
            });
        }
    }
    assert_eq!(short, ["1", "change-malformed", "2", "change-missing", "document-elsewhere", "3"]);
    honest.still_work().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn message_above_the_bound_is_refused_with_its_bound() {
    let relay = Relay::start().await;
    let mut honest = Honest::meet(&relay).await;
    let mut mallory = mallory(&relay).await;
    // The relay closes before it has all of it, so sending may fail.
    let _ = mallory.socket.feed(Message::Binary(vec![0; V1_FRAME_BYTES_MAX + 1].into())).await;
    let (_, close) = mallory.closed().await;
    let close = close.unwrap();
    assert_eq!(u16::from(close.code), 1009);
    assert!(close.reason.contains(&V1_FRAME_BYTES_MAX.to_string()), "{}", close.reason);
    honest.still_work().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_guest_is_shown_out() {
    let deadline = Duration::from_millis(50);
    let relay =
        Relay::start_with(Arc::new(MemoryStore::new()), |config| config.limits.handshake_seconds = deadline).await;
    let mut silent = V1::connect(&relay.url()).await;
    let (said, close) = silent.closed().await;
    assert_eq!(said.map(|error| error.code), Some(Code::Unexpected));
    assert!(close.unwrap().reason.contains("no hello in time"));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_reads_holds_nobody_up() {
    let relay = Relay::start().await;
    let mut greedy = V1::connect(&relay.url()).await;
    let mut words = hello("greedy", vec![all_of(TEAM, Start::Beginning)]);
    words.credit = CREDIT_BYTES_MAX;
    greedy.send(&ClientMessage::Hello(words)).await;
    let mut honest = Honest::meet(&relay).await;
    // 40 MB go by: more than a socket holds, and more than the relay keeps.
    let writes = chain(document(2), "alice", 200, &"k".repeat(200_000));
    let mut last = 0;
    for write in writes {
        let acked = honest.alice.store(TEAM, vec![write]).await;
        last = honest.bob.changes(1).await.remove(0).0;
        assert_eq!(acked, stored(last, 1));
    }
    assert_eq!(last, 200);
    honest.still_work().await;
    drop(greedy);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_grants_no_credit_gets_all_when_it_does() {
    let relay = Relay::start().await;
    let mut stingy = V1::connect(&relay.url()).await;
    let mut words = hello("stingy", vec![all_of(TEAM, Start::Beginning)]);
    words.credit = 1;
    stingy.send(&ClientMessage::Hello(words)).await;
    stingy.until(|message| matches!(message, RelayMessage::CaughtUp { .. }).then_some(())).await;
    let mut alice = V1::follow(&relay.url(), "alice", TEAM).await;
    let writes = chain(document(1), "alice", 50, "k");
    for write in &writes {
        alice.store(TEAM, vec![write.clone()]).await;
    }
    let read: Vec<_> = stingy.changes(50).await.into_iter().map(|(_, write)| write).collect();
    assert_eq!(read, writes);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_byte_by_byte_is_heard_in_the_end_and_holds_nobody_up() {
    let relay = Relay::start().await;
    let mut honest = Honest::meet(&relay).await;
    let mut slow = TcpStream::connect(relay.address).await.unwrap();
    slow.set_nodelay(true).unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: rejoin.v1\r\n\r\n",
        relay.address
    );
    slow.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(slow.read_u8().await.unwrap());
    }
    assert!(String::from_utf8(answer).unwrap().to_lowercase().contains("sec-websocket-protocol: rejoin.v1"));
    let hello = ClientMessage::Hello(hello("slow", Vec::new())).encode();
    // A final binary frame whose mask is zeros.
    let length = u8::try_from(hello.len()).unwrap();
    let frame = [&[0x82, 0x80 | length, 0, 0, 0, 0][..], &hello].concat();
    for (count, byte) in frame.into_iter().enumerate() {
        slow.write_all(&[byte]).await.unwrap();
        if count % 16 == 0 {
            honest.still_work().await;
        }
    }
    let mut head = [0; 3];
    slow.read_exact(&mut head).await.unwrap();
    assert_eq!((head[0], head[2]), (0x82, 0x02), "a binary frame with a welcome");
    relay.stop().await;
}
