#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::UNIX_EPOCH;

use serde_json::json;
use tokio::task::JoinHandle;

use super::*;
use crate::repo::{Ephemeral, Repo};

/// Two repos with the same document, and what one says the other hears.
struct Pair {
    repos: [Repo; 2],
    handles: [DocHandle; 2],
    lines: [JoinHandle<()>; 2],
}

impl Pair {
    async fn new() -> Self {
        let repos = [Repo::in_memory().unwrap(), Repo::in_memory().unwrap()];
        let made = repos[0].create().await.unwrap();
        let fetched = repos[1].open_or_fetch(made.id()).await.unwrap();
        let lines = [line(&repos[0], &repos[1]), line(&repos[1], &repos[0])];
        Self { repos, handles: [made, fetched], lines }
    }

    /// Closes both.
    async fn close(self) {
        let Self { repos, handles, lines } = self;
        drop(handles);
        for line in lines {
            line.abort();
            let _ = line.await;
        }
        for repo in repos {
            tokio::time::timeout(Duration::from_secs(30), repo.close()).await.unwrap();
        }
    }
}

/// Carries what one repo says to the other, as a relay does.
fn line(from: &Repo, to: &Repo) -> JoinHandle<()> {
    let mut said = from.inner.ephemerals.subscribe();
    let to = to.clone();
    tokio::spawn(async move {
        while let Ok(messages) = said.recv().await {
            let is_own = |message: &&Ephemeral| message.origin == Origin::Local;
            let heard = messages.iter().filter(is_own).cloned();
            to.inner.presences.hear(heard.map(|message| Ephemeral { origin: Origin::Remote, ..message }).collect());
        }
    })
}

async fn next(events: &mut PresenceEvents) -> String {
    let event = tokio::time::timeout(Duration::from_secs(30), events.next()).await.expect("an event").unwrap();
    let show = |value: PresenceValue| format!("{}={}", value.key, value.json().unwrap());
    match event {
        PresenceEvent::Joined(value) => format!("joined {}", show(value)),
        PresenceEvent::Changed(value) => format!("changed {}", show(value)),
        PresenceEvent::Left(value) => format!("left {}", show(value)),
    }
}

fn shown(presence: &Presence) -> Vec<(String, Option<serde_json::Value>)> {
    presence.others().into_iter().map(|value| (value.author.to_string(), value.json())).collect()
}

#[tokio::test]
async fn values_come_and_change_and_go_with_their_handle() {
    let pair = Pair::new().await;
    let (ada, ben) = (pair.handles[0].presence(), pair.handles[1].presence());
    let mut news = ben.subscribe();
    ada.set("cursor", json!(1), None).unwrap();
    ada.set("cursor", json!(2), None).unwrap();
    assert_eq!(next(&mut news).await, "joined cursor=2");
    assert_eq!(shown(&ben), [(ada.author().to_string(), Some(json!(2)))]);
    ada.set("cursor", json!(3), None).unwrap();
    assert_eq!(next(&mut news).await, "changed cursor=3");
    ada.clear("cursor");
    assert_eq!(next(&mut news).await, "left cursor=3");
    ada.set("name", json!("Ada"), None).unwrap();
    assert_eq!(next(&mut news).await, "joined name=\"Ada\"");
    let again = ada.clone();
    drop(ada);
    assert_eq!(again.values().len(), 1);
    drop(again);
    assert_eq!(next(&mut news).await, "left name=\"Ada\"");
    assert!(ben.values().is_empty());
    drop(ben);
    pair.close().await;
    // The subscription outlives everything, and says so.
    assert_eq!(news.next().await, None);
}

#[tokio::test]
async fn value_that_is_not_renewed_runs_out_and_one_that_is_stays() {
    let pair = Pair::new().await;
    let (ada, ben) = (pair.handles[0].presence(), pair.handles[1].presence());
    let mut news = ben.subscribe();
    let second = Duration::from_secs(1);
    ada.set("cursor", json!(1), second).unwrap();
    assert_eq!(next(&mut news).await, "joined cursor=1");
    // It lives on for longer than it was sent for.
    assert!(tokio::time::timeout(2 * second, news.next()).await.is_err());
    pair.lines[0].abort();
    assert_eq!(next(&mut news).await, "left cursor=1");
}

#[tokio::test]
async fn newcomer_is_answered_long_before_the_next_renewal() {
    let pair = Pair::new().await;
    let (ada, ben) = (pair.handles[0].presence(), pair.handles[1].presence());
    pair.lines[0].abort();
    ada.set("cursor", json!(1), Duration::from_secs(3_000)).unwrap();
    // What is said now reaches nobody.
    let mut said = pair.repos[0].inner.ephemerals.subscribe();
    let first = said.recv().await.unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    assert!(u128::from(first[0].count) + 3_600_000 > now && u128::from(first[0].count) < now + 3_600_000);
    tokio::task::yield_now().await;
    assert!(ben.others().is_empty());
    let line = line(&pair.repos[0], &pair.repos[1]);
    ben.set("cursor", json!(2), None).unwrap();
    let answer = said.recv().await.unwrap();
    let answer = if answer[0].origin == Origin::Local { answer } else { said.recv().await.unwrap() };
    assert!(answer[0].origin == Origin::Local && answer[0].count > first[0].count);
    line.abort();
}

#[tokio::test]
async fn values_set_together_go_together_and_our_own_echo_is_nobody() {
    let repo = Repo::in_memory().unwrap();
    let presence = repo.create().await.unwrap().presence();
    let mut said = repo.inner.ephemerals.subscribe();
    for number in 0..10 {
        presence.set(&number.to_string(), json!(number), None).unwrap();
    }
    let messages = said.recv().await.unwrap();
    assert_eq!(messages.len(), 10);
    let echo = messages.iter().cloned().map(|message| Ephemeral { origin: Origin::Remote, ..message });
    repo.inner.presences.hear(echo.collect());
    assert!(presence.others().is_empty());
    assert_eq!(presence.values().len(), 10);
    drop(presence);
    said.recv().await.unwrap();
    let gone = said.recv().await.unwrap();
    assert!(gone.len() == 10 && gone.iter().all(|message| message.ttl_ms == 0));
}

#[tokio::test]
async fn messages_of_others_are_heard_as_before_and_are_values_too() {
    let pair = Pair::new().await;
    let mut messages = pair.handles[1].ephemerals();
    let ben = pair.handles[1].presence();
    pair.handles[0].broadcast(vec![0x18, 0x2a]);
    let (sender, data) = messages.next().await.unwrap();
    assert_eq!(data.as_ref(), [0x18, 0x2a]);
    let value = ben.others().pop().unwrap();
    assert_eq!((value.author.clone(), value.json()), (sender, Some(json!(42))));
    assert_eq!(value.key, pair.repos[0].storage_id().to_string());
}

#[tokio::test]
async fn those_here_are_told_of_a_value_that_ends_before_it_was_sent() {
    let repo = Repo::in_memory().unwrap();
    let note = repo.create().await.unwrap();
    let (one, other) = (note.presence(), note.presence());
    let mut news = other.subscribe();
    one.set("cursor", json!(1), None).unwrap();
    assert!(matches!(news.next().await, Some(PresenceEvent::Joined(_))));
    drop(one);
    let left = tokio::time::timeout(Duration::from_secs(30), news.next()).await.unwrap();
    assert!(matches!(left, Some(PresenceEvent::Left(_))));
}
