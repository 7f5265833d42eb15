//! Who leaves: what they showed is taken back at once for those who stay, however long it was to live.

use bytes::Bytes;
use rejoin::SpaceId;
use rejoin::codec::v1::{ClientMessage, Presence};

use super::client::{TEAM, V1, chain};
use super::presence;
use crate::client::{Client, document, peer};
use crate::relay::Relay;

/// An hour, the longest there is.
const LONG_MS: u64 = 3_600_000;

fn shown(author: &str, key: &str, sequence: u64, ttl_ms: u64) -> Presence {
    let (document, key) = (document(1), key.to_owned());
    Presence { author: peer(author), document, key, sequence, ttl_ms, data: Bytes::from_static(&[0x01]) }
}

fn taken_back(value: &Presence) -> Presence {
    Presence { ttl_ms: 0, data: Bytes::new(), ..value.clone() }
}

async fn show(client: &mut V1, space: SpaceId, values: Vec<Presence>) {
    client.send(&ClientMessage::Presence { space, values }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_a_connection_that_ended_are_taken_back_with_their_numbers() {
    let relay = Relay::start().await;
    let mut staying = V1::follow(&relay.url(), "staying", TEAM).await;
    staying.store(TEAM, chain(document(1), "staying", 1, "k")).await;
    let mut leaving = V1::follow(&relay.url(), "leaving", TEAM).await;
    let values = [shown("leaving", "cursor", 7, LONG_MS), shown("leaving", "name", 8, LONG_MS)];
    show(&mut leaving, TEAM, values.to_vec()).await;
    show(&mut leaving, TEAM, vec![shown("leaving", "typing", 9, LONG_MS)]).await;
    show(&mut leaving, TEAM, vec![shown("leaving", "typing", 10, 0)]).await;
    for _ in 0..3 {
        staying.until(presence).await;
    }
    // As one that is killed.
    drop(leaving);
    let mut heard = staying.until(presence).await;
    heard.sort_by_key(|value| value.sequence);
    assert_eq!(heard, values.each_ref().map(taken_back));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_has_the_last_word() {
    let relay = Relay::start().await;
    let mut staying = V1::follow(&relay.url(), "staying", TEAM).await;
    staying.store(TEAM, chain(document(1), "staying", 1, "k")).await;
    let mut leaving = V1::follow(&relay.url(), "leaving", TEAM).await;
    let first = shown("leaving", "cursor", 7, LONG_MS);
    show(&mut leaving, TEAM, vec![first.clone()]).await;
    assert_eq!(staying.until(presence).await, std::slice::from_ref(&first));
    drop(leaving);
    let mut back = V1::follow(&relay.url(), "leaving", TEAM).await;
    let again = shown("leaving", "cursor", 8, LONG_MS);
    show(&mut back, TEAM, vec![again.clone()]).await;
    // Whichever is told first, the greater number is the one that she shows.
    let mut heard = [staying.until(presence).await, staying.until(presence).await].concat();
    heard.sort_by_key(|value| value.sequence);
    assert_eq!(heard, [taken_back(&first), again]);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_in_a_space_that_is_left_are_taken_back() {
    let relay = Relay::start().await;
    let mut staying = V1::follow(&relay.url(), "staying", TEAM).await;
    staying.store(TEAM, chain(document(1), "staying", 1, "k")).await;
    let mut leaving = V1::follow(&relay.url(), "leaving", TEAM).await;
    let value = shown("leaving", "cursor", 7, LONG_MS);
    show(&mut leaving, TEAM, vec![value.clone()]).await;
    assert_eq!(staying.until(presence).await, std::slice::from_ref(&value));
    leaving.send(&ClientMessage::Unsubscribe { spaces: vec![TEAM] }).await;
    assert_eq!(staying.until(presence).await, [taken_back(&value)]);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn value_of_a_classic_client_that_left_is_taken_back_for_those_who_can_be_told() {
    let relay = Relay::start().await;
    let mut old = Client::connect(&relay.url(), "old").await;
    old.set(document(1), "a", 1);
    old.open(document(1));
    old.until(|old| old.is_acknowledged(document(1))).await;
    let (mut new, _) = V1::choose(&relay.url(), "new", &[1]).await;
    old.say(document(1), 3, b"\x01");
    // What it passes on of somebody else is not its own.
    old.echo(document(1), &peer("friend"), 5, &Bytes::from_static(&[0x02]));
    old.send_all().await;
    let heard = [new.until(presence).await, new.until(presence).await].concat();
    assert_eq!(heard.iter().map(|value| value.author.as_str()).collect::<Vec<_>>(), ["old", "friend"]);
    drop(old);
    assert_eq!(new.until(presence).await, [taken_back(&heard[0])]);
    relay.stop().await;
}
