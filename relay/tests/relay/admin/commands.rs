//! Every command of `rejoin-relay admin`, for people and for programs, and what it does to those who are connected.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Subcommand as _;
use rejoin::SpaceId;
use rejoin::codec::v1::{ClientMessage, Code, Hello, RelayMessage, Start, Token};
use rejoin_relay::remote::Noun;
use serde_json::{Value as Json, json};
use tokio::time::timeout;

use super::Administered;
use super::cli::{bad, good};
use crate::client::{PATIENCE, document};
use crate::v1::client::{TEAM, V1, all_of, chain, hello};

/// Runs a command for a program.
fn asked(relay: &Administered, arguments: &[&str]) -> Json {
    serde_json::from_str(&good(relay, &[&["--json"], arguments].concat())).unwrap()
}

/// Returns what a record says under a name.
fn field<'a>(record: &'a str, name: &str) -> &'a str {
    let line = record.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name}: {record}"))
}

/// Returns the rows of a table, without its titles.
fn rows<'a>(table: &'a str, titles: &str) -> Vec<Vec<&'a str>> {
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap().first(), Some(&titles), "{table}");
    lines.collect()
}

/// Says why a token lets nobody in, if it does not.
async fn refused(relay: &Administered, secret: &str) -> Option<Code> {
    let mut client = V1::connect(&relay.url()).await;
    client.send(&ClientMessage::Hello(Hello { token: Token::new(secret), ..hello("mallory", Vec::new()) })).await;
    match client.next().await {
        RelayMessage::Error(error) => Some(error.code),
        RelayMessage::Welcome(_) => None,
        other => panic!("{other:?}"),
    }
}

/// Waits until so many connections are listed for a principal, and returns them.
async fn connections(relay: &Administered, principal: &str, count: usize) -> Vec<Json> {
    let listed = timeout(PATIENCE, async {
        loop {
            let listed = asked(relay, &["connection", "list", "--principal", principal])["items"].clone();
            let Json::Array(listed) = listed else { panic!("{listed}") };
            if listed.len() == count && listed.iter().all(|one| one["peer"] != "") {
                return listed;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    listed.await.expect("they are not listed")
}

#[test]
fn every_command_is_run_by_a_test() {
    let admin = Noun::augment_subcommands(clap::Command::new("admin"));
    let verbs = admin.get_subcommands().flat_map(|noun| {
        noun.get_subcommands().map(move |verb| format!("\"{}\", \"{}\"", noun.get_name(), verb.get_name()))
    });
    let tests = [include_str!("cli.rs"), include_str!("commands.rs")].concat();
    let verbs: BTreeSet<_> = verbs.collect();
    assert!(verbs.len() > 40, "{verbs:?}");
    let missing: Vec<_> = verbs.iter().filter(|verb| !tests.contains(verb.as_str())).collect();
    assert!(missing.is_empty(), "no test runs {missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_kicks_one_connection_or_all_of_a_principal() {
    let relay = Administered::start().await;
    good(&relay, &["principal", "create", "alice"]);
    good(&relay, &["principal", "create", "bob"]);
    let secret = |name| asked(&relay, &["token", "create", name])["secret"].as_str().unwrap().to_owned();
    let (alice, bob) = (secret("alice"), secret("bob"));
    let enter = async |name: &str, token: &str| V1::greet_as(&relay.url(), name, token, vec![]).await.0;
    let (mut first, mut second) = (enter("first", &alice).await, enter("second", &alice).await);
    let (mut third, mut other) = (enter("third", &alice).await, enter("other", &bob).await);
    let listed = connections(&relay, "alice", 3).await;
    let number = |peer: &str| listed.iter().find(|one| one["peer"] == peer).unwrap()["number"].to_string();
    let (one, two) = (number("first"), number("second"));
    let shown = good(&relay, &["connection", "show", &one]);
    assert_eq!((field(&shown, "peer"), field(&shown, "principal")), ("first", "alice"));
    assert_eq!(asked(&relay, &["connection", "show", &one])["protocol"], "rejoin.v1");
    assert_eq!(good(&relay, &["connection", "kick", &one]), "kicked: 1\n");
    assert!(first.closed().await.0.unwrap().text.contains("operator"));
    assert_eq!(asked(&relay, &["connection", "kick", &two]), json!({ "kicked": 1 }));
    assert!(second.closed().await.0.unwrap().text.contains("operator"));
    connections(&relay, "alice", 1).await;
    let mut fourth = enter("fourth", &alice).await;
    assert_eq!(good(&relay, &["connection", "kick", "--principal", "alice"]), "kicked: 2\n");
    for kicked in [&mut third, &mut fourth] {
        assert!(kicked.closed().await.0.unwrap().text.contains("operator"));
    }
    connections(&relay, "alice", 0).await;
    assert_eq!(asked(&relay, &["connection", "kick", "--principal", "alice"]), json!({ "kicked": 0 }));
    // Who was not meant is still there, and who was may come back.
    other.store(TEAM, chain(document(1), "bob", 1, "k")).await;
    assert_eq!(refused(&relay, &alice).await, None);
    assert!(bad(&relay, &["connection", "kick", &one]).contains("(connection-unknown)"));
    assert!(bad(&relay, &["connection", "show", &one]).contains("(connection-unknown)"));
    assert!(bad(&relay, &["connection", "kick"]).contains("<NUMBER>"));
    assert!(bad(&relay, &["connection", "kick", &one, "--principal", "alice"]).contains("cannot be used with"));
    let trail = good(&relay, &["audit", "list", "--action", "connection.kick"]);
    assert!(trail.contains(&format!("connection/{one}")) && trail.contains("principal/alice"), "{trail}");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn token_is_rotated_and_revoked_on_the_command_line() {
    let relay = Administered::start().await;
    good(&relay, &["principal", "create", "alice"]);
    let made = asked(&relay, &["token", "create", "alice", "--label", "the printer"]);
    let (id, old) = (made["token"]["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let shown = good(&relay, &["token", "show", id]);
    assert_eq!((field(&shown, "label"), field(&shown, "revoked")), ("the printer", "no"));
    assert_eq!(field(&shown, "expires_seconds"), "-");
    assert!(!shown.contains(&old[21..]), "{shown}");
    let (mut client, _) = V1::greet_as(&relay.url(), "alice", old, vec![]).await;

    // With a grace both are good, and the old one has an end.
    let rotated = good(&relay, &["token", "rotate", id, "--grace", "2h"]);
    let (second_id, second) = (field(&rotated, "id"), rotated.lines().last().unwrap());
    assert!(second.starts_with("rjt_") && second != old && second_id != id, "{rotated}");
    assert_eq!((field(&rotated, "principal"), field(&rotated, "label")), ("alice", "the printer"));
    assert_ne!(field(&good(&relay, &["token", "show", id]), "expires_seconds"), "-");
    assert_eq!((refused(&relay, old).await, refused(&relay, second).await), (None, None));
    client.store(TEAM, chain(document(1), "alice", 1, "k")).await;

    // Without one the old one ends at once, with those who came in with it.
    let (mut replaced, _) = V1::greet_as(&relay.url(), "alice", second, vec![]).await;
    let rotated = asked(&relay, &["token", "rotate", second_id, "--grace", "0s"]);
    let (third_id, third) = (rotated["token"]["id"].as_str().unwrap(), rotated["secret"].as_str().unwrap());
    assert_eq!(refused(&relay, second).await, Some(Code::Unauthenticated));
    assert_eq!(refused(&relay, third).await, None);
    assert_eq!(replaced.closed().await.0.unwrap().code, Code::Unauthenticated);

    let (mut last, _) = V1::greet_as(&relay.url(), "alice", third, vec![]).await;
    assert_eq!(good(&relay, &["token", "revoke", third_id]), "removed: yes\n");
    assert_eq!(last.closed().await.0.unwrap().code, Code::Unauthenticated);
    assert_eq!(refused(&relay, third).await, Some(Code::Unauthenticated));
    assert_eq!(asked(&relay, &["token", "show", third_id])["revoked"], true);
    // The first one is another, and still has its hours.
    client.store(TEAM, chain(document(2), "alice", 1, "k")).await;
    assert_eq!(asked(&relay, &["token", "revoke", id]), json!({ "removed": true }));
    assert_eq!(client.closed().await.0.unwrap().code, Code::Unauthenticated);
    for verb in ["show", "rotate", "revoke"] {
        assert!(bad(&relay, &["token", verb, "0000000000000000"]).contains("(token-unknown)"), "{verb}");
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_is_read_again_on_the_command_line() {
    let relay = Administered::start().await;
    let file = relay.data.path().join("relay.toml");
    let write = |limits: &str| {
        std::fs::write(&file, format!("data = {:?}\n[limits]\n{limits}\n", relay.data.path())).unwrap();
    };
    let in_force = || field(&good(&relay, &["config", "show"]), "config.limits.subscriptions_max").to_owned();
    assert_eq!(good(&relay, &["config", "reload"]), "changed:\n");
    write("subscriptions_max = 1\nping_seconds = 7");
    assert_eq!(good(&relay, &["config", "reload"]), "changed: limits.subscriptions_max, limits.ping_seconds\n");
    assert_eq!(in_force(), "1");
    // It counts for those who come from now on.
    let subscriptions = [1, 2].map(|number| all_of(SpaceId::from_bytes([number; 16]), Start::Beginning));
    let (mut client, _) = V1::greet(&relay.url(), "alice", subscriptions.to_vec()).await;
    let refused = client.until(|message| match message {
        RelayMessage::Error(error) => Some(error.code),
        _ => None,
    });
    assert_eq!(refused.await, Code::TooMany);

    write("subscriptions_max = 0");
    let wrong = bad(&relay, &["config", "reload"]);
    assert!(wrong.contains("(config-invalid)") && wrong.contains("limits.subscriptions_max"), "{wrong}");
    assert!(bad(&relay, &["--json", "config", "reload"]).contains("(config-invalid)"));
    assert_eq!(in_force(), "1");
    write("subscriptions_max = 3\nping_seconds = 7");
    assert_eq!(asked(&relay, &["config", "reload"]), json!({ "changed": ["limits.subscriptions_max"] }));
    assert_eq!(asked(&relay, &["config", "show"])["config"]["limits"]["subscriptions_max"], 3);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn principals_and_grants_come_and_go_on_the_command_line() {
    let relay = Administered::start().await;
    good(&relay, &["principal", "create", "alice"]);
    assert_eq!(asked(&relay, &["principal", "create", "bob", "--label", "Bob"])["label"], "Bob");
    let secret = asked(&relay, &["token", "create", "alice"])["secret"].as_str().unwrap().to_owned();
    assert_eq!(field(&good(&relay, &["principal", "set", "alice", "--label", "Alice"]), "label"), "Alice");
    let shown = good(&relay, &["principal", "show", "alice"]);
    assert_eq!((field(&shown, "label"), field(&shown, "disabled")), ("Alice", "no"));
    assert_eq!(asked(&relay, &["principal", "set", "alice", "--label", ""])["label"], Json::Null);

    let (mut client, _) = V1::greet_as(&relay.url(), "alice", &secret, vec![]).await;
    assert_eq!(field(&good(&relay, &["principal", "disable", "alice"]), "disabled"), "yes");
    assert_eq!(client.closed().await.0.unwrap().code, Code::Unauthenticated);
    assert_eq!(refused(&relay, &secret).await, Some(Code::Unauthenticated));
    let listed = good(&relay, &["principal", "list"]);
    let names: Vec<_> = rows(&listed, "ID").into_iter().map(|row| (row[0], row[2])).collect();
    assert_eq!(names, [("alice", "yes"), ("bob", "no")]);
    assert_eq!(asked(&relay, &["principal", "enable", "alice"])["disabled"], false);
    assert_eq!(refused(&relay, &secret).await, None);

    for target in ["everything", "space/default"] {
        good(&relay, &["grant", "put", "alice", target, "read"]);
    }
    assert_eq!(good(&relay, &["grant", "remove", "alice", "everything"]), "removed: yes\n");
    let left = asked(&relay, &["grant", "list", "--principal", "alice"]);
    assert_eq!((left["items"].as_array().unwrap().len(), &left["items"][0]["target"]), (1, &json!("space/default")));
    assert_eq!(asked(&relay, &["grant", "remove", "alice", "space/default"]), json!({ "removed": true }));
    assert!(bad(&relay, &["grant", "remove", "alice", "space/default"]).contains("(grant-unknown)"));

    assert_eq!(good(&relay, &["principal", "delete", "alice"]), "removed: yes\n");
    assert_eq!(refused(&relay, &secret).await, Some(Code::Unauthenticated));
    assert_eq!(asked(&relay, &["principal", "delete", "bob"]), json!({ "removed": true }));
    assert_eq!(asked(&relay, &["principal", "list"])["items"], json!([]));
    for command in [&["principal", "show", "bob"][..], &["principal", "delete", "bob"]] {
        assert!(bad(&relay, command).contains("(principal-unknown)"), "{command:?}");
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spaces_documents_and_jobs_are_looked_after_on_the_command_line() {
    let relay = Administered::start().await;
    let made = good(&relay, &["space", "create", "--name", "the team", "--bytes-max", "5000000"]);
    assert_eq!((field(&made, "name"), field(&made, "bytes_max")), ("the team", "5000000"));
    assert_ne!(field(&made, "id"), TEAM.to_string());
    let team = TEAM.to_string();
    assert_eq!(asked(&relay, &["space", "create", "--id", &team])["id"], team);
    assert!(bad(&relay, &["space", "create", "--id", &team]).contains("(space-exists)"));
    let mut alice = V1::follow(&relay.url(), "alice", TEAM).await;
    for number in 1..=3 {
        alice.store(TEAM, chain(document(number), "alice", 2, "k")).await;
    }
    good(&relay, &["space", "archive", &team]);
    assert_eq!(field(&good(&relay, &["space", "unarchive", &team]), "archived"), "no");
    asked(&relay, &["space", "archive", &team]);
    assert_eq!(asked(&relay, &["space", "unarchive", &team])["archived"], false);
    alice.store(TEAM, chain(document(4), "alice", 1, "k")).await;

    let (one, two) = (document(1).to_string(), document(2).to_string());
    assert_eq!(field(&good(&relay, &["document", "show", &one]), "changes"), "2");
    assert_eq!(asked(&relay, &["document", "show", &two])["heads"].as_array().unwrap().len(), 1);
    assert!(bad(&relay, &["document", "delete", &one]).contains("--yes"));
    good(&relay, &["document", "delete", &one, "--yes"]);
    asked(&relay, &["document", "delete", &two, "--yes"]);
    for deleted in [&one, &two] {
        assert_eq!(asked(&relay, &["document", "show", deleted])["deleted"]["purged"], false);
    }

    // A list for a program is one page, as long as it is asked for.
    let page = asked(&relay, &["document", "list", &team, "--limit", "1"]);
    assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page}");
    let next = page["next"].as_str().unwrap();
    let rest = asked(&relay, &["document", "list", &team, "--after", next]);
    assert_eq!(rest["items"][0]["id"], document(4).to_string(), "{page} {rest}");

    asked(&relay, &["stats", "count"]);
    good(&relay, &["verify", "start", "--no-wait"]);
    let listed = good(&relay, &["job", "list"]);
    let kinds: Vec<_> = rows(&listed, "ID").into_iter().map(|row| (row[0], row[1])).collect();
    assert_eq!(kinds, [("1", "stats"), ("2", "verify")]);
    assert_eq!(asked(&relay, &["job", "list", "--limit", "1"])["items"].as_array().unwrap().len(), 1);
    assert_eq!(field(&good(&relay, &["job", "show", "1"]), "state"), "done");
    assert_eq!(asked(&relay, &["job", "show", "1"])["result"]["changes"], 3);
    assert!(bad(&relay, &["job", "show", "3"]).contains("(job-unknown)"));
    relay.stop().await;
}
