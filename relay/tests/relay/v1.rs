//! What a client of `rejoin.v1` sees, and one of the classic protocol beside it.

use std::sync::Arc;

use bytes::Bytes;
use rejoin::codec::v1::{AckRun, ClientMessage, Code, Content, Outcome, Presence, RelayMessage, Start, Write};
use rejoin::deletion::{DeletionKind, Tombstone};
use rejoin::ledger;
use rejoin::store::{MemoryStore, RedbOptions, RedbStore, Store};
use rejoin::{Epoch, StorageId};

use crate::care::run;
use crate::client::{Client, document, peer, set};
use crate::process::Process;
use crate::relay::Relay;

mod bad_input;
pub mod client;
mod leaving;

use client::{HOME, TEAM, V1, all_of, chain, connect, stored};

#[tokio::test(flavor = "multi_thread")]
async fn subprotocol_chooses_the_protocol() {
    let relay = Relay::start().await;
    for (asked, named) in [("rejoin.v1", Some("rejoin.v1")), ("other, rejoin.v1", Some("rejoin.v1")), ("graphql", None)]
    {
        let named_in = |response: &tokio_tungstenite::tungstenite::handshake::client::Response| {
            response.headers().get("sec-websocket-protocol").map(|name| name.to_str().unwrap().to_owned())
        };
        let mut request = http_request(&relay.url());
        request.headers_mut().insert("sec-websocket-protocol", asked.parse().unwrap());
        // The library of this client refuses an answer that names none of what it asked for.
        match tokio_tungstenite::connect_async(request).await {
            Ok((_, response)) => assert_eq!(named_in(&response).as_deref(), named),
            Err(error) => assert!(named.is_none() && error.to_string().to_lowercase().contains("protocol"), "{error}"),
        }
    }
    let (_, response) = connect(&relay.url(), "rejoin.v1").await;
    assert_eq!(response.status(), 101);
    let (client, welcome) = V1::greet(&relay.url(), "alice", Vec::new()).await;
    assert_eq!(welcome.version, 1);
    drop(client);
    relay.stop().await;
}

fn http_request(url: &str) -> tokio_tungstenite::tungstenite::handshake::client::Request {
    tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(url).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn push_is_acknowledged_with_its_position_and_reaches_the_others() {
    let relay = Relay::start().await;
    let mut alice = V1::follow(&relay.url(), "alice", TEAM).await;
    let mut bob = V1::follow(&relay.url(), "bob", TEAM).await;
    let writes = chain(document(1), "alice", 3, "k");
    assert_eq!(alice.store(TEAM, writes[..2].to_vec()).await, stored(1, 2));
    let read = bob.changes(2).await;
    assert_eq!(read, [(1, writes[0].clone()), (2, writes[1].clone())]);
    // Bob's own do not come back to him, and alice hears of them.
    assert_eq!(bob.store(TEAM, writes[2..].to_vec()).await, stored(3, 1));
    assert_eq!(alice.changes(1).await, [(3, writes[2].clone())]);
    // What is there already is a duplicate; what belongs elsewhere is refused, and all else goes on.
    let again = chain(document(2), "alice", 1, "k");
    let mixed = [&writes[..1], &again[..]].concat();
    let expected = [AckRun { count: 1, outcome: Outcome::Duplicate }, stored(4, 1).remove(0)];
    assert_eq!(alice.store(TEAM, mixed).await, expected);
    let elsewhere = alice.store(HOME, writes).await;
    let [AckRun { count: 3, outcome: Outcome::Rejected(reject) }] = &elsewhere[..] else { panic!("{elsewhere:?}") };
    assert_eq!(reject.code, Code::DocumentElsewhere);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_are_sent_ahead_and_answered_in_their_order() {
    let relay = Relay::start().await;
    let mut alice = V1::follow(&relay.url(), "alice", TEAM).await;
    let writes = chain(document(1), "alice", 40, "k");
    let mut batches = Vec::new();
    for write in &writes {
        batches.push(alice.push(TEAM, vec![write.clone()]).await);
    }
    for (batch, position) in batches.into_iter().zip(1..) {
        assert_eq!(alice.ack(batch).await, stored(position, 1));
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_of_one_space_get_each_others_changes_and_not_their_own() {
    let relay = Relay::start().await;
    let names = ["a", "b", "c", "d"];
    let mut writers = Vec::new();
    for name in names {
        writers.push(V1::follow(&relay.url(), name, TEAM).await);
    }
    let tasks = writers.into_iter().zip(1..).map(|(mut writer, number)| {
        tokio::spawn(async move {
            let writes = chain(document(number), names[usize::from(number) - 1], 30, "k");
            for write in writes {
                writer.push(TEAM, vec![write]).await;
            }
            let (mut own, mut others) = (Vec::new(), Vec::new());
            while own.len() < 30 || others.len() < 90 {
                match writer.next().await {
                    RelayMessage::Ack { results, .. } => {
                        for run in results {
                            let Outcome::Stored { first } = run.outcome else { panic!("{run:?}") };
                            own.extend(first..first + run.count);
                        }
                    }
                    RelayMessage::Entries { mut first, entries, .. } => {
                        for entry in entries {
                            let positions = entry.positions();
                            if matches!(entry, rejoin::codec::v1::Entry::Write(_)) {
                                others.push(first);
                            }
                            first += positions;
                        }
                    }
                    RelayMessage::Error(error) => panic!("{error:?}"),
                    _ => {}
                }
            }
            assert!(others.is_sorted());
            let mut all = [own, others].concat();
            all.sort_unstable();
            assert_eq!(all, (1..=120).collect::<Vec<_>>());
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_gets_what_came_behind_its_cursor() {
    let relay = Relay::start().await;
    let (mut alice, welcome) = V1::greet(&relay.url(), "alice", Vec::new()).await;
    let writes = chain(document(1), "alice", 5, "k");
    alice.store(TEAM, writes[..2].to_vec()).await;
    alice.store(TEAM, writes[2..].to_vec()).await;
    let start = Start::Cursor { epoch: welcome.epoch, position: 2 };
    let mut bob = V1::greet(&relay.url(), "bob", vec![all_of(TEAM, start)]).await.0;
    let RelayMessage::Subscribed { is_compared: false, after: 2, end: 5, .. } = bob.next().await else { panic!() };
    let read = bob.changes(3).await;
    assert_eq!(read.iter().map(|(position, _)| *position).collect::<Vec<_>>(), [3, 4, 5]);
    bob.until(|message| matches!(message, RelayMessage::CaughtUp { position: 5, .. }).then_some(())).await;
    // A cursor of another life of the log, or from the future, is worth nothing.
    let foreign = Start::Cursor { epoch: Epoch::from_bytes([9; 16]), position: 2 };
    let future = Start::Cursor { epoch: welcome.epoch, position: 6 };
    for start in [foreign, future] {
        let mut carol = V1::greet(&relay.url(), "carol", vec![all_of(TEAM, start)]).await.0;
        let RelayMessage::Subscribed { is_compared: true, .. } = carol.next().await else { panic!() };
        let last = ClientMessage::Compare { space: TEAM, documents: Vec::new(), is_last: true };
        carol.send(&last).await;
        let filled = carol.until(|message| match message {
            RelayMessage::Fill { writes, .. } => Some(writes),
            _ => None,
        });
        assert_eq!(filled.await, writes);
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cursor_of_one_device_is_told_to_the_others() {
    let relay = Relay::start().await;
    let mut alice = V1::follow(&relay.url(), "alice", TEAM).await;
    let mut bob = V1::follow(&relay.url(), "bob", TEAM).await;
    alice.store(TEAM, chain(document(1), "alice", 2, "k")).await;
    bob.changes(2).await;
    bob.send(&ClientMessage::Cursor { space: TEAM, position: 2 }).await;
    let seen = alice.until(|message| match message {
        RelayMessage::Seen { space, storage, position } => Some((space, storage, position)),
        _ => None,
    });
    assert_eq!(seen.await, (TEAM, StorageId::from_bytes([b'b'; 16]), 2));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn classic_and_v1_clients_share_a_document_and_its_deletion() {
    let relay = Relay::start().await;
    let mut old = Client::connect(&relay.url(), "old").await;
    let (mut new, held) = V1::choose(&relay.url(), "new", &[1, 2]).await;
    assert!(held.is_empty());
    old.set(document(1), "a", 1);
    old.open(document(1));
    old.until(|old| old.is_acknowledged(document(1))).await;
    let write = new.filled(1).await.remove(0);
    assert_eq!(write.document, document(1));

    let store = copy(&write);
    set(&store, document(1), "new", "b", 2);
    let change = ledger::change(&*store.read().unwrap(), &document(1), 1).unwrap();
    let own = Write { document: document(1), content: Content::Change(change.into()) };
    assert_eq!(new.store(HOME, vec![own]).await, stored(2, 1));
    old.until(|old| old.count(document(1)) == 2).await;

    let tombstone = Tombstone { kind: DeletionKind::Deleted, time_seconds: 1, by: "new".to_owned() };
    let deletion = Write { document: document(1), content: Content::Deleted(tombstone) };
    assert_eq!(new.store(HOME, vec![deletion]).await, stored(3, 1));
    old.until(|old| old.deleted.iter().any(|(id, _)| *id == document(1))).await;

    // And the other way round.
    old.set(document(2), "a", 1);
    old.open(document(2));
    old.until(|old| old.is_acknowledged(document(2))).await;
    // Its own change and deletion did not come back.
    assert_eq!(new.filled(1).await.remove(0).document, document(2));
    old.bury(document(2), DeletionKind::Deleted);
    old.send_all().await;
    let write = new.filled(1).await.remove(0);
    assert!(matches!(write.content, Content::Deleted(_)) && write.document == document(2));
    let (_, held) = V1::choose(&relay.url(), "late", &[1]).await;
    assert!(matches!(&held[..], [Write { content: Content::Deleted(_), .. }]));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_chose_documents_gets_every_change_of_them_and_none_of_others() {
    let relay = Relay::start().await;
    let writes = chain(document(1), "alice", 60, "k");
    let (mut alice, _) = V1::choose(&relay.url(), "alice", &[1, 3]).await;
    let (mut bob, _) = V1::choose(&relay.url(), "bob", &[1]).await;
    let pusher = tokio::spawn({
        let writes = writes.clone();
        async move {
            for (number, write) in writes.into_iter().enumerate() {
                let other = chain(document(100 + u8::try_from(number).unwrap()), "alice", 1, "k");
                alice.push(HOME, other).await;
                alice.push(HOME, vec![write]).await;
            }
            // Until all is answered nothing comes but answers: what it wrote itself is not sent back.
            let mut answered = 0;
            while answered < 120 {
                match alice.next().await {
                    RelayMessage::Ack { .. } => answered += 1,
                    RelayMessage::Credit { .. } | RelayMessage::CaughtUp { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
            alice
        }
    });
    // One that comes while it happens lacks nothing either.
    let (mut carol, mut held) = V1::choose(&relay.url(), "carol", &[1]).await;
    assert_eq!(bob.filled(60).await, writes);
    held.extend(carol.filled(60 - held.len()).await);
    assert_eq!(held, writes);
    let mut alice = pusher.await.unwrap();
    let more = chain(document(3), "bob", 2, "k");
    bob.store(HOME, more.clone()).await;
    assert_eq!(alice.filled(2).await, more);
    relay.stop().await;
}

/// A store that has one change.
fn copy(write: &Write) -> MemoryStore {
    use rejoin::store::StoreExt;

    let store = MemoryStore::new();
    let Content::Change(bytes) = &write.content else { panic!("a deletion") };
    let change = rejoin::gate::CheckedChange::parse(bytes).unwrap();
    store
        .write_with(|tx| {
            let mut appender = ledger::Appender::begin(tx, write.document)?;
            appender.append(tx, &change)?;
            appender.finish(tx)
        })
        .unwrap();
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_crosses_the_protocols() {
    let relay = Relay::start().await;
    let mut old = Client::connect(&relay.url(), "old").await;
    old.set(document(1), "a", 1);
    old.open(document(1));
    old.until(|old| old.is_acknowledged(document(1))).await;
    let (mut new, _) = V1::choose(&relay.url(), "new", &[1]).await;
    let (mut other, _) = V1::choose(&relay.url(), "other", &[1]).await;
    let mut values = vec![value("new", 7, 5_000), value("new", 8, 0)];
    values.push(Presence { document: document(9), ..value("new", 9, 5_000) });
    new.send(&ClientMessage::Presence { space: HOME, values: values.clone() }).await;
    let heard = other.until(presence).await;
    // Of the one that it did not open it is told nothing.
    assert_eq!([heard, other.until(presence).await].concat(), values[..2]);
    old.until(|old| !old.ephemeral.is_empty()).await;
    assert_eq!(old.ephemeral, [(peer("new"), 7, Bytes::from_static(&[0x18, 0x2a]))]);

    old.say(document(1), 3, b"\x01");
    old.send_all().await;
    for follower in [&mut new, &mut other] {
        let [value] = &follower.until(presence).await[..] else { panic!("one value") };
        assert_eq!((value.author.as_str(), value.key.as_str(), value.sequence), ("old", "session", 3));
        assert_eq!((value.ttl_ms, &value.data[..]), (30_000, &b"\x01"[..]));
    }
    // An echo of what came from there is dropped.
    old.echo(document(1), &peer("new"), 7, &Bytes::from_static(&[0x18, 0x2a]));
    old.say(document(1), 4, b"\x02");
    old.send_all().await;
    assert_eq!(new.until(presence).await[0].sequence, 4);
    relay.stop().await;
}

fn value(author: &str, sequence: u64, ttl_ms: u64) -> Presence {
    let (document, key) = (document(1), "session".to_owned());
    Presence { author: peer(author), document, key, sequence, ttl_ms, data: Bytes::from_static(&[0x18, 0x2a]) }
}

fn presence(message: RelayMessage) -> Option<Vec<Presence>> {
    match message {
        RelayMessage::Presence { values, .. } => Some(values),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_relay_has_kept_what_it_acknowledged_and_its_epoch() {
    let directory = tempfile::tempdir().unwrap();
    let writes = chain(document(1), "alice", 3, "k");
    let first = Process::start(directory.path());
    let (mut alice, welcome) = V1::greet(&first.url, "alice", Vec::new()).await;
    assert_eq!(alice.store(TEAM, writes.clone()).await, stored(1, 3));
    first.signal("KILL");
    drop((first, alice));
    let second = Process::start(directory.path());
    let start = Start::Cursor { epoch: welcome.epoch, position: 1 };
    let (mut bob, again) = V1::greet(&second.url, "bob", vec![all_of(TEAM, start)]).await;
    assert_eq!((again.epoch, again.storage), (welcome.epoch, welcome.storage));
    assert_eq!(bob.changes(2).await, [(2, writes[1].clone()), (3, writes[2].clone())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_relay_says_so_after_its_last_answer() {
    let relay = Relay::start().await;
    let mut alice = V1::follow(&relay.url(), "alice", TEAM).await;
    alice.store(TEAM, chain(document(1), "alice", 1, "k")).await;
    let stopping = tokio::spawn(relay.stop());
    let (said, close) = alice.closed().await;
    assert_eq!(said.map(|error| error.code), Some(Code::GoingAway));
    assert_eq!(u16::from(close.unwrap().code), 1001);
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_backup_begins_a_new_epoch() {
    let directory = tempfile::tempdir().unwrap();
    let (original, restored) = (directory.path().join("original"), directory.path().join("restored"));
    let relay = Process::start(&original);
    let (mut alice, before) = V1::greet(&relay.url, "alice", Vec::new()).await;
    alice.store(TEAM, chain(document(1), "alice", 2, "k")).await;
    relay.signal("TERM");
    alice.closed().await;
    drop((alice, relay));
    std::fs::create_dir(&restored).unwrap();
    let copy = restored.join("relay.redb");
    let said = run(&["backup", "--to", copy.to_str().unwrap()], &original);
    assert_eq!(said.code, 0, "{}", said.error);
    assert_eq!(epoch(&copy), None);

    let relay = Process::start(&restored);
    let start = Start::Cursor { epoch: before.epoch, position: 2 };
    let (mut alice, after) = V1::greet(&relay.url, "alice", vec![all_of(TEAM, start)]).await;
    assert!(after.epoch != before.epoch && after.storage != before.storage);
    let RelayMessage::Subscribed { is_compared: true, end: 2, .. } = alice.next().await else { panic!() };
}

fn epoch(path: &std::path::Path) -> Option<Epoch> {
    let store: Arc<dyn Store> = Arc::new(RedbStore::open_read_only(path, RedbOptions::new()).unwrap());
    ledger::log::epoch(&*store.read().unwrap()).unwrap()
}
