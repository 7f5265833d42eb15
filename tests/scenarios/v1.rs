//! `rejoin.v1` between native clients and a relay in processes of their own: spaces, receipts, lazy bodies, several relays.

use std::path::Path;

use rejoin::{ConnectOptions, Connection, ConnectionState, DocHandle, Protocol, Receipt, Repo};
use rejoin_tests::relay::RelayProcess;
use serde_json::json;

use crate::{PATIENCE, eventually, fetch, heads};

/// Opens a store and connects it by `rejoin.v1` and nothing else.
async fn device(folder: &Path, name: &str, relay: &RelayProcess) -> (Repo, Connection) {
    let repo = Repo::open(folder.join(name)).await.unwrap();
    let connection = connect(&repo, relay);
    (repo, connection)
}

fn connect(repo: &Repo, relay: &RelayProcess) -> Connection {
    repo.connect_with(&relay.url(), &ConnectOptions::new().protocol(Protocol::RejoinV1)).unwrap()
}

/// Waits until both have the same of a document, and returns it.
async fn agree(one: &DocHandle, other: &DocHandle) -> serde_json::Value {
    eventually("both have the same", || async { heads(one).await == heads(other).await }).await;
    assert_eq!(one.to_json().await.unwrap(), other.to_json().await.unwrap());
    one.to_json().await.unwrap()
}

#[tokio::test]
async fn documents_of_a_followed_space_come_by_themselves_and_every_write_gets_its_receipt() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(&folder.path().join("relay"));
    let (ada, _ada_connection) = device(folder.path(), "ada.redb", &relay).await;
    let (ben, mut ben_connection) = device(folder.path(), "ben.redb", &relay).await;
    let team = ada.create_space();
    ben.space(team.id()).follow().await.unwrap();
    let note = team.create().await.unwrap();
    let written = note.set("title", "Groceries").await.unwrap();
    written.wait(Receipt::Relayed, PATIENCE).await.unwrap();
    ben.wait_synced(PATIENCE).await.unwrap();
    eventually("the document is there", || async { ben.space(team.id()).list().await.unwrap() == [note.id()] }).await;
    written.wait(Receipt::Seen, PATIENCE).await.unwrap();
    assert_eq!(ben_connection.protocol(), Some(Protocol::RejoinV1));
    ben_connection.wait_caught_up(PATIENCE).await.unwrap();

    let copy = ben.find(note.id()).await.unwrap().unwrap();
    assert_eq!(copy.space().await.unwrap(), team.id());
    let (mine, yours) = tokio::join!(note.set("by ada", 1), copy.set("by ben", 2));
    mine.unwrap().wait(Receipt::Seen, PATIENCE).await.unwrap();
    yours.unwrap().wait(Receipt::Seen, PATIENCE).await.unwrap();
    assert_eq!(agree(&note, &copy).await, json!({ "title": "Groceries", "by ada": 1, "by ben": 2 }));
    assert_eq!((ada.pending().await.unwrap(), ben.pending().await.unwrap()), (0, 0));
}

#[tokio::test]
async fn what_was_written_offline_is_merged_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = RelayProcess::start(&folder.path().join("relay"));
    let (ada, mut ada_connection) = device(folder.path(), "ada.redb", &relay).await;
    let (ben, _ben_connection) = device(folder.path(), "ben.redb", &relay).await;
    let team = ada.create_space();
    ben.space(team.id()).follow().await.unwrap();
    let note = team.create().await.unwrap();
    note.set("title", "draft").await.unwrap().wait(Receipt::Seen, PATIENCE).await.unwrap();
    let copy = ben.find(note.id()).await.unwrap().unwrap();

    ada.set_offline(true);
    ada_connection.wait_for(|state| *state == ConnectionState::Offline).await;
    let written = note.set("title", "from the train").await.unwrap();
    copy.set("done", true).await.unwrap().wait(Receipt::Relayed, PATIENCE).await.unwrap();
    assert_eq!(written.stage().await.unwrap(), Receipt::Local);
    assert_eq!((ada.pending_of(note.id()), ada.pending_in(team.id())), (1, 1));
    assert!(ada.wait_synced(std::time::Duration::from_millis(50)).await.is_err());
    relay.kill();
    relay.restart();
    ada.set_offline(false);
    written.wait(Receipt::Seen, PATIENCE).await.unwrap();
    assert_eq!(agree(&note, &copy).await, json!({ "title": "from the train", "done": true }));
}

#[tokio::test]
async fn what_another_device_fetched_meanwhile_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(&folder.path().join("relay"));
    let (ada, ada_connection) = device(folder.path(), "ada.redb", &relay).await;
    let team = ada.create_space();
    let note = team.create().await.unwrap();
    let written = note.set("title", "hello").await.unwrap();
    written.wait(Receipt::Relayed, PATIENCE).await.unwrap();
    ada_connection.disconnect().await;
    let (ben, ben_connection) = device(folder.path(), "ben.redb", &relay).await;
    ben.space(team.id()).follow().await.unwrap();
    eventually("it came", || async { ben.find(note.id()).await.unwrap().is_some() }).await;
    assert_eq!(written.stage().await.unwrap(), Receipt::Relayed);
    let _back = connect(&ada, &relay);
    written.wait(Receipt::Seen, PATIENCE).await.unwrap();
    ben_connection.disconnect().await;
    // It stays so in another life of this device.
    let (document, change) = (note.id(), written.change().unwrap());
    drop((note, team, written, _back));
    ada.close().await;
    let ada = Repo::open(folder.path().join("ada.redb")).await.unwrap();
    assert_eq!(ada.receipt(document, change).await.unwrap(), Some(Receipt::Seen));
}

#[tokio::test]
async fn device_that_leaves_as_soon_as_everything_came_has_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(&folder.path().join("relay"));
    let (ada, _ada_connection) = device(folder.path(), "ada.redb", &relay).await;
    let team = ada.create_space();
    let mut written = Vec::new();
    // More than one message of the relay holds.
    for _ in 0..40 {
        let noise = std::iter::repeat_with(rand::random).take(64 << 10).collect();
        written.push(team.create().await.unwrap().set("noise", rejoin::ScalarValue::Bytes(noise)).await.unwrap());
    }
    for one in &written {
        one.wait(Receipt::Relayed, PATIENCE).await.unwrap();
    }
    let ben = Repo::open(folder.path().join("ben.redb")).await.unwrap();
    ben.space(team.id()).follow().await.unwrap();
    let mut connection = connect(&ben, &relay);
    connection.wait_caught_up(PATIENCE).await.unwrap();
    connection.disconnect().await;
    for one in &written {
        one.wait(Receipt::Seen, PATIENCE).await.unwrap();
    }
}

#[tokio::test]
async fn documents_of_the_default_space_come_to_those_who_know_their_ids_alone() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(&folder.path().join("relay"));
    let (ada, _ada_connection) = device(folder.path(), "ada.redb", &relay).await;
    let (ben, mut ben_connection) = device(folder.path(), "ben.redb", &relay).await;
    let (secret, shared) = (ada.create().await.unwrap(), ada.create().await.unwrap());
    secret.set("pin", 1234).await.unwrap().wait(Receipt::Relayed, PATIENCE).await.unwrap();
    shared.set("title", "for both").await.unwrap().wait(Receipt::Relayed, PATIENCE).await.unwrap();
    let copy = fetch(&ben, &shared.url()).await;
    copy.set("seen", true).await.unwrap();
    assert_eq!(agree(&shared, &copy).await, json!({ "title": "for both", "seen": true }));
    ben_connection.wait_caught_up(PATIENCE).await.unwrap();
    assert_eq!(ben.list().await.unwrap(), [shared.id()]);
}

/// A link tells the ids of a document and its space: whoever opens the one before following the other gets it all the same.
#[tokio::test]
async fn document_that_was_asked_for_before_its_space_was_followed_comes() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(&folder.path().join("relay"));
    let (ada, _ada_connection) = device(folder.path(), "ada.redb", &relay).await;
    let (ben, mut ben_connection) = device(folder.path(), "ben.redb", &relay).await;
    let team = ada.create_space();
    let note = team.create().await.unwrap();
    note.set("title", "Groceries").await.unwrap().wait(Receipt::Relayed, PATIENCE).await.unwrap();
    ben_connection.wait_caught_up(PATIENCE).await.unwrap();
    let copy = ben.open_or_fetch(note.id()).await.unwrap();
    ben.space(team.id()).follow().await.unwrap();
    copy.wait_for_content(PATIENCE).await.unwrap();
    assert_eq!(copy.space().await.unwrap(), team.id());
    copy.set("seen", true).await.unwrap().wait(Receipt::Relayed, PATIENCE).await.unwrap();
    assert_eq!(agree(&note, &copy).await, json!({ "title": "Groceries", "seen": true }));
}

#[tokio::test]
async fn bodies_of_a_listed_space_come_when_they_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(&folder.path().join("relay"));
    let (ada, _ada_connection) = device(folder.path(), "ada.redb", &relay).await;
    let (ben, _ben_connection) = device(folder.path(), "ben.redb", &relay).await;
    let team = ada.create_space();
    let (one, two) = (team.create().await.unwrap(), team.create().await.unwrap());
    one.set("n", 1).await.unwrap().wait(Receipt::Relayed, PATIENCE).await.unwrap();
    two.set("n", 2).await.unwrap().wait(Receipt::Relayed, PATIENCE).await.unwrap();
    let listed = ben.space(team.id());
    listed.follow_listing().await.unwrap();
    eventually("both are known", || async { listed.unfetched().await.unwrap().len() == 2 }).await;
    assert_eq!(listed.list().await.unwrap(), []);
    let copy = listed.open_or_fetch(two.id()).await.unwrap();
    copy.wait_for_content(PATIENCE).await.unwrap();
    two.set("n", 3).await.unwrap();
    assert_eq!(agree(&two, &copy).await, json!({ "n": 3 }));
    assert_eq!(listed.unfetched().await.unwrap(), [one.id()]);
    copy.set("n", 4).await.unwrap().wait(Receipt::Relayed, PATIENCE).await.unwrap();
    assert_eq!(agree(&two, &copy).await, json!({ "n": 4 }));
}

#[tokio::test]
async fn deletion_everywhere_reaches_those_who_follow_and_a_deletion_here_stays_here() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(&folder.path().join("relay"));
    let (ada, _ada_connection) = device(folder.path(), "ada.redb", &relay).await;
    let (ben, ben_connection) = device(folder.path(), "ben.redb", &relay).await;
    let team = ada.create_space();
    ben.space(team.id()).follow().await.unwrap();
    let (gone, hidden) = (team.create().await.unwrap(), team.create().await.unwrap());
    gone.set("n", 1).await.unwrap().wait(Receipt::Seen, PATIENCE).await.unwrap();
    hidden.set("n", 1).await.unwrap().wait(Receipt::Seen, PATIENCE).await.unwrap();
    ben.delete(hidden.id()).await.unwrap();
    ada.delete_everywhere(gone.id()).await.unwrap();
    eventually("it is gone there too", || async { ben.deletion(gone.id()).await.unwrap().is_some() }).await;
    hidden.set("n", 2).await.unwrap().wait(Receipt::Seen, PATIENCE).await.unwrap();
    assert_eq!(ben.list().await.unwrap(), []);
    ada.wait_synced(PATIENCE).await.unwrap();
    ben_connection.disconnect().await;
    assert_eq!(ada.list().await.unwrap(), [hidden.id()]);
}

#[tokio::test]
async fn space_that_was_listed_comes_whole_when_it_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(&folder.path().join("relay"));
    let (ada, _ada_connection) = device(folder.path(), "ada.redb", &relay).await;
    let team = ada.create_space();
    let note = team.create().await.unwrap();
    note.set("n", 1).await.unwrap().wait(Receipt::Relayed, PATIENCE).await.unwrap();
    for (name, is_offline) in [("ben.redb", false), ("carol.redb", true)] {
        let (repo, mut connection) = device(folder.path(), name, &relay).await;
        let space = repo.space(team.id());
        space.follow_listing().await.unwrap();
        eventually("it is known", || async { space.unfetched().await.unwrap() == [note.id()] }).await;
        connection.wait_caught_up(PATIENCE).await.unwrap();
        if is_offline {
            connection.disconnect().await;
            space.unfollow().await.unwrap();
            space.follow().await.unwrap();
            connection = connect(&repo, &relay);
        } else {
            space.follow().await.unwrap();
        }
        eventually("it is here", || async { space.list().await.unwrap() == [note.id()] }).await;
        let copy = repo.find(note.id()).await.unwrap().unwrap();
        copy.wait_for_content(PATIENCE).await.unwrap();
        assert_eq!(agree(&note, &copy).await, json!({ "n": 1 }));
        connection.disconnect().await;
    }
}

#[tokio::test]
async fn document_that_was_deleted_here_comes_back_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(&folder.path().join("relay"));
    let (ada, _ada_connection) = device(folder.path(), "ada.redb", &relay).await;
    let (ben, ben_connection) = device(folder.path(), "ben.redb", &relay).await;
    let mut ben_connection = Some(ben_connection);
    let team = ada.create_space();
    let space = ben.space(team.id());
    space.follow().await.unwrap();
    let note = team.create().await.unwrap();
    note.set("n", 1).await.unwrap().wait(Receipt::Seen, PATIENCE).await.unwrap();
    for (is_offline, is_by_space) in [(false, false), (false, true), (true, false)] {
        if is_offline {
            ben_connection.take().unwrap().disconnect().await;
        }
        ben.delete(note.id()).await.unwrap();
        assert_eq!(space.list().await.unwrap(), []);
        let opened =
            if is_by_space { space.open_or_fetch(note.id()).await } else { ben.open_or_fetch(note.id()).await };
        let _connection = is_offline.then(|| connect(&ben, &relay));
        let copy = opened.unwrap();
        copy.wait_for_content(PATIENCE).await.unwrap();
        assert_eq!(copy.space().await.unwrap(), team.id());
        assert_eq!((space.list().await.unwrap(), agree(&note, &copy).await), (vec![note.id()], json!({ "n": 1 })));
    }
}

#[tokio::test]
async fn several_relays_at_once_get_what_the_others_brought() {
    let folder = tempfile::tempdir().unwrap();
    let (home, work) =
        (RelayProcess::start(&folder.path().join("home")), RelayProcess::start(&folder.path().join("work")));
    let (ada, _ada_connection) = device(folder.path(), "ada.redb", &home).await;
    let (ben, ben_home) = device(folder.path(), "ben.redb", &home).await;
    let ben_work = connect(&ben, &work);
    let (cleo, _cleo_connection) = device(folder.path(), "cleo.redb", &work).await;
    let team = ada.create_space();
    ben.space(team.id()).follow().await.unwrap();
    cleo.space(team.id()).follow().await.unwrap();
    let note = team.create().await.unwrap();
    note.set("title", "from home").await.unwrap();
    eventually("it went over both", || async { cleo.find(note.id()).await.unwrap().is_some() }).await;
    let copy = cleo.find(note.id()).await.unwrap().unwrap();
    copy.set("done", true).await.unwrap();
    assert_eq!(agree(&note, &copy).await, json!({ "title": "from home", "done": true }));

    // What one relay brings while the other is away is passed on when it is back.
    ben_work.disconnect().await;
    note.set("title", "while work was away").await.unwrap();
    let between = ben.find(note.id()).await.unwrap().unwrap();
    agree(&note, &between).await;
    ben_home.disconnect().await;
    copy.set("title", "from work").await.unwrap().wait(Receipt::Relayed, PATIENCE).await.unwrap();
    let _back = (connect(&ben, &home), connect(&ben, &work));
    agree(&note, &copy).await;
    agree(&note, &between).await;
}

#[tokio::test]
async fn server_of_the_classic_protocol_is_spoken_to_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(&folder.path().join("relay"));
    let ada = Repo::open(folder.path().join("ada.redb")).await.unwrap();
    let mut connection = ada.connect_with(&relay.url(), &ConnectOptions::new().protocol(Protocol::Classic)).unwrap();
    connection.wait_for(|state| *state == ConnectionState::Connected).await;
    assert_eq!(connection.protocol(), Some(Protocol::Classic));
    let (ben, _ben_connection) = device(folder.path(), "ben.redb", &relay).await;
    let note = ada.create().await.unwrap();
    note.set("title", "classic").await.unwrap().wait(Receipt::Relayed, PATIENCE).await.unwrap();
    let copy = fetch(&ben, &note.url()).await;
    copy.set("n", 1).await.unwrap();
    note.set("m", 2).await.unwrap();
    assert_eq!(agree(&note, &copy).await, json!({ "title": "classic", "n": 1, "m": 2 }));
}
