//! A closed relay in both protocols: who may come in, read and write, whose actors are whose, and how it ends.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rejoin::codec::v1::{
    About, Access, ClientMessage, Code, Content, DocumentHeads, Mode, Outcome, RelayMessage, Start, Subscription,
    Token, Write,
};
use rejoin::deletion::{DeletionKind, Tombstone};
use rejoin::ledger::{self, owners};
use rejoin::store::{MemoryStore, Store};
use rejoin::{ActorId, ConnectOptions, Protocol, Repo, SpaceId};
use rejoin_relay::auth::{AuthConfig, Directory, Grant, NewToken, PrincipalId, Target};

use crate::client::{Client, PATIENCE, document};
use crate::relay::Relay;
use crate::v1::client::{TEAM, V1, all_of, chain, stored};

/// A closed relay, and the directory that it was started with.
struct Closed {
    store: Arc<MemoryStore>,
    directory: Arc<Directory>,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Closed {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let directory = Directory::open(Arc::clone(&store) as Arc<dyn Store>, &AuthConfig::default()).unwrap();
        Self { store, directory }
    }

    fn grant(&self, name: &str, target: Target, access: Access, until: Option<u64>) {
        let principal = PrincipalId::new(name).unwrap();
        self.directory.put_principal(principal.clone(), None, false).unwrap();
        self.directory.put_grant(Grant { principal, target, access, until }).unwrap();
    }

    fn token(&self, name: &str, expires: Option<u64>) -> String {
        let principal = PrincipalId::new(name).unwrap();
        let new = NewToken { principal, label: None, expires, scope: None };
        self.directory.create_token(new).unwrap().1.expose().to_owned()
    }

    /// Grants, and makes a token that does not end.
    fn enter(&self, name: &str, target: Target, access: Access) -> String {
        self.grant(name, target, access, None);
        self.token(name, None)
    }

    async fn start(&self) -> Relay {
        Relay::start_with(Arc::clone(&self.store) as Arc<dyn Store>, |config| config.open = false).await
    }

    fn count(&self, number: u8) -> u64 {
        ledger::state(&*self.store.read().unwrap(), &document(number)).unwrap().map_or(0, |state| state.count)
    }
}

fn chosen(space: SpaceId) -> Subscription {
    Subscription { space, mode: Mode::Chosen, start: Start::Beginning }
}

fn deletion(number: u8) -> Write {
    let tombstone = Tombstone { kind: DeletionKind::Deleted, time_seconds: 1, by: "me".to_owned() };
    Write { document: document(number), content: Content::Deleted(tombstone) }
}

async fn codes(client: &mut V1, space: SpaceId, writes: Vec<Write>) -> Vec<String> {
    let results = client.store(space, writes).await;
    let short = |outcome: &Outcome| match outcome {
        Outcome::Stored { .. } => "stored".to_owned(),
        Outcome::Duplicate => "duplicate".to_owned(),
        Outcome::Rejected(reject) => reject.code.name().to_owned(),
    };
    results.iter().map(|run| format!("{} {}", run.count, short(&run.outcome))).collect()
}

#[tokio::test]
async fn nobody_writes_under_the_actor_of_somebody_else() {
    let closed = Closed::new();
    let team = Target::Space(TEAM);
    let alice = closed.enter("alice", team, Access::Write);
    let mallory = closed.enter("mallory", team, Access::Write);
    let relay = closed.start().await;
    let theirs = chain(document(1), "alice", 3, "k");
    let mut client = V1::greet_as(&relay.url(), "alice", &alice, vec![]).await.0;
    assert_eq!(client.store(TEAM, theirs[..2].to_vec()).await, stored(1, 2));
    let mut forger = V1::greet_as(&relay.url(), "mallory", &mallory, vec![]).await.0;
    // What is there is there, whoever brings it.
    assert_eq!(codes(&mut forger, TEAM, theirs.clone()).await, ["2 duplicate", "1 actor-owned"]);
    let own = chain(document(1), "mallory", 1, "k");
    assert_eq!(codes(&mut forger, TEAM, own.clone()).await, ["1 stored"]);
    assert_eq!(codes(&mut client, TEAM, chain(document(1), "mallory", 2, "k")[1..].to_vec()).await, ["1 actor-owned"]);
    assert_eq!(codes(&mut client, TEAM, theirs[2..].to_vec()).await, ["1 stored"]);
    // In another document it is nobody's yet.
    assert_eq!(codes(&mut forger, TEAM, chain(document(2), "alice", 1, "k")).await, ["1 stored"]);
    assert_eq!(codes(&mut client, TEAM, chain(document(2), "alice", 2, "k")).await, ["1 duplicate", "1 actor-owned"]);
    // The classic protocol has no answer to it: what is forged is not taken, and the rest goes on.
    let mut classic = Client::connect_as(&relay.url(), "alice", &mallory).await;
    classic.open(document(1));
    classic.until(|client| client.count(document(1)) == 4).await;
    classic.set(document(1), "k", 9);
    // What it asks for after that is answered after that.
    classic.open(document(2));
    classic.until(|client| client.count(document(2)) == 1).await;
    let mut other = Client::connect_as(&relay.url(), "bert", &mallory).await;
    other.open(document(1));
    other.until(|client| client.count(document(1)) == 4).await;
    other.set(document(1), "k", 10);
    other.until(|client| client.is_acknowledged(document(1))).await;
    assert_eq!(closed.count(1), 5);
    let tx = closed.store.read().unwrap();
    let owner = |actor: &str| owners::get(&*tx, &document(1), &ActorId::from(actor.as_bytes())).unwrap();
    assert_eq!(owner("alice").as_deref(), Some("alice"));
    assert_eq!(owner("bert").as_deref(), Some("mallory"));
}

/// Makes of writes what somebody else than their author pushes.
fn passed_on(writes: &[Write]) -> Vec<Write> {
    let passed_on = |write: &Write| match &write.content {
        Content::Change(bytes) => Write { content: Content::PassedOn(bytes.clone()), ..write.clone() },
        _ => write.clone(),
    };
    writes.iter().map(passed_on).collect()
}

#[tokio::test]
async fn change_that_is_passed_on_makes_nobody_its_author() {
    let closed = Closed::new();
    let team = Target::Space(TEAM);
    let alice = closed.enter("alice", team, Access::Write);
    let bob = closed.enter("bob", team, Access::Write);
    let carol = closed.enter("carol", team, Access::Read);
    let relay = closed.start().await;
    let enter = async |name: &str, token: &str| V1::greet_as(&relay.url(), name, token, vec![]).await.0;
    let owner = |number: u8, actor: &str| {
        owners::get(&*closed.store.read().unwrap(), &document(number), &ActorId::from(actor.as_bytes())).unwrap()
    };
    let (mut author, mut courier) = (enter("alice", &alice).await, enter("bob", &bob).await);
    let theirs = chain(document(1), "alice", 6, "k");
    // Before the author is here, anybody who may write brings what the author wrote elsewhere.
    assert_eq!(codes(&mut courier, TEAM, passed_on(&theirs[..2])).await, ["2 stored"]);
    assert_eq!(owner(1, "alice"), None);
    assert_eq!(codes(&mut author, TEAM, theirs[..3].to_vec()).await, ["2 duplicate", "1 stored"]);
    assert_eq!(owner(1, "alice").as_deref(), Some("alice"));
    // From now on it is the author alone who brings it, and who may also say that it is passed on.
    assert_eq!(codes(&mut courier, TEAM, passed_on(&theirs[..4])).await, ["3 duplicate", "1 actor-owned"]);
    assert_eq!(codes(&mut courier, TEAM, theirs[3..4].to_vec()).await, ["1 actor-owned"]);
    assert_eq!(codes(&mut author, TEAM, passed_on(&theirs[3..4])).await, ["1 stored"]);
    assert_eq!(owner(1, "alice").as_deref(), Some("alice"));

    // One push holds both: what is its own binds, what is passed on does not.
    let own = chain(document(2), "bob", 3, "k");
    let foreign = chain(document(2), "alice", 2, "other");
    let mut push = vec![own[0].clone(), passed_on(&foreign).remove(0), own[1].clone()];
    push.extend(passed_on(&foreign[1..]));
    // In another document the actor is nobody's yet.
    assert_eq!(codes(&mut courier, TEAM, push).await, ["4 stored"]);
    assert_eq!((owner(2, "bob").as_deref(), owner(2, "alice")), (Some("bob"), None));
    assert_eq!(codes(&mut author, TEAM, passed_on(&own[2..])).await, ["1 actor-owned"]);
    assert_eq!(codes(&mut author, TEAM, passed_on(&foreign)).await, ["2 duplicate"]);
    assert_eq!(owner(2, "alice"), None);

    // What is nobody's is whose who first writes under it. Passed on and own changes of an actor in one push are told apart.
    let stray = chain(document(3), "dave", 3, "k");
    let push = [passed_on(&stray[..1]), stray[1..2].to_vec()].concat();
    assert_eq!(codes(&mut courier, TEAM, push).await, ["2 stored"]);
    assert_eq!(owner(3, "dave").as_deref(), Some("bob"));
    assert_eq!(codes(&mut author, TEAM, passed_on(&stray[2..])).await, ["1 actor-owned"]);

    // Who passes on writes, and needs the right to it.
    let mut reader = enter("carol", &carol).await;
    let fresh = chain(document(4), "alice", 1, "k");
    for forbidden in [passed_on(&theirs[4..5]), passed_on(&theirs[..1]), passed_on(&fresh)] {
        assert_eq!(codes(&mut reader, TEAM, forbidden).await, ["1 read-only"]);
    }
    assert_eq!((closed.count(1), closed.count(2), closed.count(3), closed.count(4)), (4, 4, 2, 0));
    assert_eq!(codes(&mut author, TEAM, theirs[4..].to_vec()).await, ["2 stored"]);
}

#[tokio::test]
async fn each_right_is_kept_to_in_rejoin_v1() {
    let closed = Closed::new();
    let alice = closed.enter("alice", Target::Space(TEAM), Access::Write);
    let bob = closed.enter("bob", Target::Space(TEAM), Access::Read);
    let carol = closed.enter("carol", Target::Document(document(1)), Access::Write);
    let relay = closed.start().await;
    let mut nobody = V1::connect(&relay.url()).await;
    nobody.send(&ClientMessage::Hello(crate::v1::client::hello("nobody", vec![]))).await;
    let (said, close) = nobody.closed().await;
    assert_eq!((said.unwrap().code, u16::from(close.unwrap().code)), (Code::Unauthenticated, 1008));

    let mut writer = V1::greet_as(&relay.url(), "alice", &alice, vec![]).await.0;
    assert_eq!(writer.store(TEAM, chain(document(1), "alice", 2, "k")).await, stored(1, 2));
    assert_eq!(writer.store(TEAM, chain(document(2), "alice", 1, "k")).await, stored(3, 1));
    let beginning = vec![all_of(TEAM, Start::Beginning)];
    let mut reader = V1::greet_as(&relay.url(), "bob", &bob, beginning.clone()).await.0;
    assert_eq!(reader.changes(3).await.len(), 3);
    let forbidden = [1, 2, 7].map(|number| chain(document(number), "bob", 1, "k").remove(0));
    assert_eq!(codes(&mut reader, TEAM, forbidden.to_vec()).await, ["3 read-only"]);
    assert_eq!(codes(&mut reader, TEAM, vec![deletion(1), deletion(7)]).await, ["2 delete-forbidden"]);

    let mut guest = V1::greet_as(&relay.url(), "carol", &carol, beginning).await.0;
    let RelayMessage::Error(error) = guest.next().await else { panic!("no error") };
    assert_eq!((error.code, error.about), (Code::SpaceUnknown, About::Space(TEAM)));
    guest.send(&ClientMessage::Subscribe { subscriptions: vec![chosen(TEAM)] }).await;
    let documents = [1, 2, 7].map(|number| DocumentHeads { document: document(number), heads: vec![] });
    guest.send(&ClientMessage::Open { space: TEAM, documents: documents.to_vec() }).await;
    let opened = guest.until(|message| match message {
        RelayMessage::Opened { documents, position: 0, .. } => Some(documents),
        RelayMessage::Fill { writes, .. } if writes.iter().any(|write| write.document != document(1)) => {
            panic!("{writes:?}")
        }
        _ => None,
    });
    assert_eq!(opened.await.iter().map(|opened| opened.heads.len()).collect::<Vec<_>>(), [1, 0, 0]);
    let writes = [1, 2, 7].map(|number| chain(document(number), "carol", 1, "k").remove(0));
    assert_eq!(codes(&mut guest, TEAM, writes.to_vec()).await, ["1 stored", "2 read-only"]);
    assert_eq!(codes(&mut guest, TEAM, vec![deletion(1), deletion(2)]).await, ["2 delete-forbidden"]);
}

#[tokio::test]
async fn each_right_is_kept_to_in_the_classic_protocol() {
    let closed = Closed::new();
    let alice = closed.enter("alice", Target::Space(SpaceId::DEFAULT), Access::Write);
    let bob = closed.enter("bob", Target::Space(SpaceId::DEFAULT), Access::Read);
    let carol = closed.enter("carol", Target::Document(document(1)), Access::Write);
    let relay = closed.start().await;
    let mut writer = Client::connect_as(&relay.url(), "alice", &alice).await;
    for number in [1, 2] {
        writer.set(document(number), "k", 1);
        writer.open(document(number));
        writer.until(|client| client.is_acknowledged(document(number))).await;
    }
    let mut reader = Client::connect_as(&relay.url(), "bob", &bob).await;
    reader.open(document(1));
    reader.until(|client| client.count(document(1)) == 1).await;
    reader.set(document(1), "k", 2);
    reader.bury(document(2), DeletionKind::Deleted);
    writer.set(document(1), "k", 3);
    // It goes on to get what others write.
    reader.until_beside(&mut writer, |client| client.count(document(1)) == 3).await;
    assert_eq!((closed.count(1), closed.count(2)), (2, 1));
    let mut guest = Client::connect_as(&relay.url(), "carol", &carol).await;
    [1, 2, 7].into_iter().for_each(|number| guest.open(document(number)));
    guest.until(|client| client.unavailable.len() == 2 && client.count(document(1)) == 2).await;
    guest.set(document(1), "k", 4);
    guest.until(|client| client.is_acknowledged(document(1))).await;
    assert_eq!(guest.count(document(2)), 0);
    assert_eq!(closed.count(1), 3);
}

#[tokio::test]
async fn connection_ends_with_its_token_unless_it_is_renewed_by_the_same_principal() {
    let closed = Closed::new();
    closed.grant("alice", Target::Space(TEAM), Access::Write, None);
    let bob = closed.enter("bob", Target::Space(TEAM), Access::Write);
    let short = closed.token("alice", Some(now() + 4));
    let long = closed.token("alice", None);
    let relay = closed.start().await;
    let (mut renewed, welcome) = V1::greet_as(&relay.url(), "alice", &short, vec![]).await;
    assert!((1..=4).contains(&welcome.permit_seconds), "{}", welcome.permit_seconds);
    let mut ended = V1::greet_as(&relay.url(), "alice", &short, vec![]).await.0;
    let mut classic = Client::connect_as(&relay.url(), "alice", &short).await;
    renewed.send(&ClientMessage::Renew { token: Token::new(bob) }).await;
    let RelayMessage::Error(error) = renewed.next().await else { panic!("no error") };
    assert_eq!((error.code, error.is_fatal), (Code::Unauthenticated, false));
    renewed.send(&ClientMessage::Renew { token: Token::new(long) }).await;
    assert_eq!(renewed.next().await, RelayMessage::Renewed { seconds: 0 });
    let (said, close) = ended.closed().await;
    let said = said.unwrap();
    assert_eq!((said.code, said.is_fatal), (Code::Unauthenticated, true));
    assert_eq!(u16::from(close.unwrap().code), 1008);
    assert_eq!(u16::from(classic.closed().await.unwrap().code), 1008);
    assert_eq!(renewed.store(TEAM, chain(document(1), "alice", 1, "k")).await, stored(1, 1));
}

#[tokio::test]
async fn grant_that_ends_takes_the_subscription_with_it_and_not_the_connection() {
    let closed = Closed::new();
    let alice = closed.enter("alice", Target::Space(TEAM), Access::Write);
    closed.grant("bob", Target::Space(TEAM), Access::Read, Some(now() + 3));
    let bob = closed.token("bob", None);
    let relay = closed.start().await;
    let mut reader = V1::greet_as(&relay.url(), "bob", &bob, vec![all_of(TEAM, Start::Beginning)]).await.0;
    let mut writer = V1::greet_as(&relay.url(), "alice", &alice, vec![]).await.0;
    let writes = chain(document(1), "alice", 1_000, "k");
    for (write, position) in writes.into_iter().zip(1..) {
        assert_eq!(writer.store(TEAM, vec![write]).await, stored(position, 1));
        let message = reader.until(|message| match message {
            RelayMessage::Entries { .. } => Some(None),
            RelayMessage::Error(error) => Some(Some(error)),
            _ => None,
        });
        if let Some(error) = message.await {
            assert_eq!((error.code, error.is_fatal, error.about), (Code::Forbidden, false, About::Space(TEAM)));
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the right does not end");
}

#[tokio::test]
async fn device_with_a_single_space_is_caught_up_whatever_else_it_asked_for() {
    let closed = Closed::new();
    let token = closed.enter("ada", Target::Space(TEAM), Access::Read);
    let relay = closed.start().await;
    let repo = Repo::in_memory().unwrap();
    // What is not known to be in a space is asked for in the default one, which this token does not give.
    let before = repo.open_or_fetch(document(8)).await.unwrap();
    repo.space(TEAM).follow().await.unwrap();
    let options = ConnectOptions::new().protocol(Protocol::RejoinV1).token(token);
    let mut connection = repo.connect_with(&relay.url(), &options).unwrap();
    connection.wait_caught_up(PATIENCE).await.unwrap();
    let after = repo.open_or_fetch(document(9)).await.unwrap();
    connection.wait_caught_up(PATIENCE).await.unwrap();
    assert_ne!(before.id(), after.id());
}
