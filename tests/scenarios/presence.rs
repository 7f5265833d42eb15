//! Presence between clients of both protocols through a relay in a process of its own.

use std::time::Duration;

use rejoin::{ConnectOptions, Connection, DocHandle, Presence, Protocol, Receipt, Repo};
use rejoin_tests::relay::RelayProcess;
use serde_json::{Value as Json, json};

use crate::{PATIENCE, eventually, fetch};

/// Far longer than any test waits: what is gone before was not left to run out.
const HOUR: Duration = Duration::from_secs(3_600);

/// Makes a repo in memory that speaks one protocol.
fn device(relay: &RelayProcess, protocol: Protocol) -> (Repo, Connection) {
    let repo = Repo::in_memory().unwrap();
    let connection = repo.connect_with(&relay.url(), &ConnectOptions::new().protocol(protocol)).unwrap();
    (repo, connection)
}

/// What others show.
fn shown(presence: &Presence) -> Vec<(String, Json)> {
    let mut shown: Vec<_> = presence.others().iter().map(|value| (value.key.clone(), value.json().unwrap())).collect();
    shown.sort_by(|(one, _), (other, _)| one.cmp(other));
    shown
}

/// Waits until exactly this is shown by others, of these keys.
async fn shows(presence: &Presence, expected: &[(&str, Json)]) {
    let expected: Vec<_> = expected.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    eventually(&format!("{expected:?} is shown"), || async { shown(presence) == expected }).await;
}

#[tokio::test]
async fn two_clients_of_our_protocol_and_a_classic_one_see_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(&folder.path().join("relay"));
    let (ada, _ada_connection) = device(&relay, Protocol::RejoinV1);
    let (ben, _ben_connection) = device(&relay, Protocol::RejoinV1);
    let (cleo, _cleo_connection) = device(&relay, Protocol::Classic);
    let note = ada.create().await.unwrap();
    note.set("title", "for all").await.unwrap().wait(Receipt::Relayed, PATIENCE).await.unwrap();
    let (of_ben, of_cleo) = (fetch(&ben, &note.url()).await, fetch(&cleo, &note.url()).await);
    let mut heard = of_cleo.ephemerals();
    let [ada, ben, cleo] = [&note, &of_ben, &of_cleo].map(DocHandle::presence);

    ada.set("ada", json!({ "line": 3 }), None).unwrap();
    ben.set("ben", json!([1, 2]), None).unwrap();
    cleo.set("cleo", json!("here"), None).unwrap();
    let (of_ada, of_ben, of_cleo) = (("ada", json!({ "line": 3 })), ("ben", json!([1, 2])), ("cleo", json!("here")));
    shows(&ada, &[of_ben.clone(), of_cleo.clone()]).await;
    shows(&ben, &[of_ada.clone(), of_cleo.clone()]).await;
    shows(&cleo, &[of_ada, of_ben]).await;
    let authors: Vec<_> = cleo.others().into_iter().map(|value| value.author).collect();
    assert!(authors.contains(ada.author()) && authors.contains(ben.author()));
    // To a classic client a value is a message, its bytes as they are.
    let (_, data) = heard.next().await.unwrap();
    assert!(ada.values().iter().any(|value| value.data == data));

    // One that is taken back is gone at once for those who can be told, whether by hand or with its handle.
    ada.set("ada", json!(4), None).unwrap();
    shows(&ben, &[("ada", json!(4)), of_cleo.clone()]).await;
    ada.clear("ada");
    shows(&ben, std::slice::from_ref(&of_cleo)).await;
    drop(ben);
    shows(&ada, &[of_cleo]).await;
}

#[tokio::test]
async fn values_of_a_client_that_is_gone_are_gone_though_they_had_an_hour_to_live_and_come_again_with_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = RelayProcess::start(&folder.path().join("relay"));
    let (ada, _ada_connection) = device(&relay, Protocol::RejoinV1);
    let (ben, ben_connection) = device(&relay, Protocol::RejoinV1);
    let team = ada.create_space();
    ben.space(team.id()).follow().await.unwrap();
    let note = team.create().await.unwrap();
    note.set("title", "for the team").await.unwrap().wait(Receipt::Seen, PATIENCE).await.unwrap();
    let copy = ben.find(note.id()).await.unwrap().unwrap();
    let (of_ada, of_ben) = (note.presence(), copy.presence());
    of_ben.set("cursor", json!(1), HOUR).unwrap();
    shows(&of_ada, &[("cursor", json!(1))]).await;

    // A connection that is cut says nothing of values any more, as a process that is killed.
    ben_connection.disconnect().await;
    shows(&of_ada, &[]).await;
    let _again = ben.connect(&relay.url()).unwrap();
    shows(&of_ada, &[("cursor", json!(1))]).await;

    // Where there is no relay that could tell, it is the silence that does.
    of_ben.set("cursor", json!(2), Duration::from_secs(2)).unwrap();
    shows(&of_ada, &[("cursor", json!(2))]).await;
    relay.kill();
    shows(&of_ada, &[]).await;
    relay.restart();
    shows(&of_ada, &[("cursor", json!(2))]).await;
}

#[tokio::test]
async fn leaver_is_gone_for_all_who_can_be_told_whichever_way_they_have_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(&folder.path().join("relay"));
    let (ada, _ada_connection) = device(&relay, Protocol::RejoinV1);
    let (ben, ben_connection) = device(&relay, Protocol::RejoinV1);
    let (cleo, cleo_connection) = device(&relay, Protocol::Classic);
    let note = ada.create().await.unwrap();
    note.set("title", "for all").await.unwrap().wait(Receipt::Relayed, PATIENCE).await.unwrap();
    let (of_ben, of_cleo) = (fetch(&ben, &note.url()).await, fetch(&cleo, &note.url()).await);
    let [ada, of_ben, of_cleo] = [&note, &of_ben, &of_cleo].map(DocHandle::presence);
    of_ben.set("ben", json!("one"), HOUR).unwrap();
    of_ben.set("more", json!("two"), HOUR).unwrap();
    of_cleo.set("cleo", json!("three"), None).unwrap();
    let of_cleo_shown = [("cleo", json!("three"))];
    shows(&ada, &[("ben", json!("one")), of_cleo_shown[0].clone(), ("more", json!("two"))]).await;
    // Cut, and at once there again: what it shows now is what counts.
    ben_connection.disconnect().await;
    let again = ben.connect(&relay.url()).unwrap();
    of_ben.set("ben", json!("anew"), HOUR).unwrap();
    shows(&ada, &[("ben", json!("anew")), of_cleo_shown[0].clone(), ("more", json!("two"))]).await;
    again.disconnect().await;
    shows(&ada, &of_cleo_shown).await;
    cleo_connection.disconnect().await;
    shows(&ada, &[]).await;
}

#[tokio::test]
async fn whoever_comes_later_sees_who_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(&folder.path().join("relay"));
    let (ada, _ada_connection) = device(&relay, Protocol::RejoinV1);
    let note = ada.create().await.unwrap();
    note.set("title", "for all").await.unwrap().wait(Receipt::Relayed, PATIENCE).await.unwrap();
    let of_ada = note.presence();
    of_ada.set("cursor", json!(1), None).unwrap();
    for protocol in [Protocol::RejoinV1, Protocol::Classic] {
        let (ben, _connection) = device(&relay, protocol);
        let of_ben = fetch(&ben, &note.url()).await.presence();
        of_ben.set("name", json!("Ben"), None).unwrap();
        eventually("the first is seen", || async { shown(&of_ben).contains(&("cursor".to_owned(), json!(1))) }).await;
    }
}
