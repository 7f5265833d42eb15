//! Every refused write is on record, whatever the reason and the protocol.

use rejoin::codec::v1::{Content, Outcome, Write};

use super::*;

/// Lets somebody in: a principal with a grant for the team's space, and a token.
fn enter(relay: &Administered, name: &str, access: &str) -> String {
    relay.ask("POST", "/v1/principals", Some(&json!({ "id": name })));
    let grant = json!({ "principal": name, "target": format!("space/{TEAM}"), "access": access });
    relay.ask("PUT", "/v1/grants", Some(&grant));
    let made = relay.ask("POST", "/v1/tokens", Some(&json!({ "principal": name })));
    made["secret"].as_str().unwrap().to_owned()
}

/// Pushes, and returns the codes of what was refused.
async fn refused(client: &mut V1, space: SpaceId, writes: Vec<Write>) -> Vec<String> {
    let results = client.store(space, writes).await;
    let codes = results.iter().filter_map(|run| match &run.outcome {
        Outcome::Rejected(reject) => Some(reject.code.name().to_owned()),
        _ => None,
    });
    codes.collect()
}

/// Who was refused what, by the audit trail, in order; what was refused in several commits for one reason is there once.
fn recorded(relay: &Administered) -> Vec<(String, String)> {
    let trail = relay.get("/v1/audit?kind=refusal");
    let items = trail["items"].as_array().unwrap().iter();
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let mut found: Vec<_> = items.map(|one| (text(&one["who"]), text(&one["outcome"]))).collect();
    found.dedup();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refused_write_is_on_record_whatever_the_reason_and_the_protocol() {
    let relay = Administered::start_with(Arc::new(MemoryStore::new()), |config| {
        config.open = false;
        config.quota.document_bytes_max = 20_000;
    })
    .await;
    let [alice, bob, carol] =
        [("alice", "write"), ("bob", "write"), ("carol", "read")].map(|(name, access)| enter(&relay, name, access));
    let url = relay.url();
    let mut writer = V1::greet_as(&url, "alice", &alice, vec![all_of(TEAM, Start::Beginning)]).await.0;
    let mut forger = V1::greet_as(&url, "bob", &bob, vec![]).await.0;
    let mut reader = V1::greet_as(&url, "carol", &carol, vec![]).await.0;
    let writes = chain(document(1), "alice", 3, "k");
    assert_eq!(writer.store(TEAM, writes[..2].to_vec()).await, stored(1, 2));

    let mut expected = Vec::new();
    let mut told = |name: &str, codes: Vec<String>, code: &str| {
        assert_eq!(codes, [code], "{name}");
        expected.push((name.to_owned(), code.to_owned()));
    };
    told("bob", refused(&mut forger, TEAM, writes[2..].to_vec()).await, "actor-owned");
    told("carol", refused(&mut reader, TEAM, chain(document(3), "carol", 1, "k")).await, "read-only");
    told("bob", refused(&mut forger, TEAM, chain(document(4), "bob", 2, "k")[1..].to_vec()).await, "change-missing");
    let junk = Content::Change(bytes::Bytes::from_static(b"these bytes are no change"));
    let malformed = refused(&mut writer, TEAM, vec![Write { document: document(5), content: junk }]).await;
    told("alice", malformed.clone(), &malformed[0]);
    let long = chain(document(6), "alice", 400, "a key that takes some room in every change");
    let full = refused(&mut writer, TEAM, long).await;
    told("alice", full.clone(), &full[0]);
    assert!(full[0].contains("full") || full[0].contains("quota"), "{full:?}");
    assert_eq!(recorded(&relay), expected);

    // The classic protocol has no answer to any of it. What the relay does after that tells that it was there.
    let mut classic = Client::connect_as(&url, "carol", &carol).await;
    classic.open(document(1));
    classic.until(|classic| classic.count(document(1)) == 2).await;
    classic.set(document(1), "k", 9);
    classic.send_all().await;
    let mut forged = Client::connect_as(&url, "alice", &bob).await;
    forged.open(document(1));
    forged.until(|forged| forged.count(document(1)) == 2).await;
    forged.set(document(1), "k", 10);
    forged.send_all().await;
    expected.extend(
        [("carol", "read-only"), ("bob", "actor-owned")].map(|(name, code)| (name.to_owned(), code.to_owned())),
    );
    while recorded(&relay).len() < expected.len() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let found = recorded(&relay);
    assert!(expected.iter().all(|one| found.contains(one)), "{found:?} lacks some of {expected:?}");
    relay.stop().await;
}
