//! Who comes in at the door, with what, and what is answered about tokens.

use std::sync::Arc;

use rejoin::codec::v1::Access;
use rejoin::store::{MemoryStore, Store};
use rejoin::{DocumentId, SpaceId};
use rejoin_relay::auth::{AuthConfig, Directory, Grant, NewToken, PrincipalId, Target};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::relay::Relay;

const NOTES: SpaceId = SpaceId::from_bytes([1; 16]);

/// A closed relay, and the token of somebody who may write to one space.
async fn closed(origins: &[&str]) -> (Relay, String) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let directory = Directory::open(Arc::clone(&store), &AuthConfig::default()).unwrap();
    let ada = PrincipalId::new("ada").unwrap();
    directory.put_principal(ada.clone(), None, false).unwrap();
    let target = Target::Space(NOTES);
    directory.put_grant(Grant { principal: ada.clone(), target, access: Access::Write, until: None }).unwrap();
    let new = NewToken { principal: ada, label: None, expires: None, scope: None };
    let (_, token) = directory.create_token(new).unwrap();
    let origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
    let relay = Relay::start_with(store, |config| {
        config.open = false;
        config.origins = origins;
    });
    (relay.await, token.expose().to_owned())
}

/// Opens a WebSocket, and returns the subprotocol that was chosen, or the status of the refusal.
async fn upgrade(relay: &Relay, query: &str, headers: &[(&'static str, &str)]) -> Result<Option<String>, u16> {
    let mut request = format!("ws://{}/any/path{query}", relay.address).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
    }
    match connect_async(request).await {
        Ok((_, answer)) => {
            let chosen = answer.headers().get("sec-websocket-protocol");
            Ok(chosen.map(|chosen| chosen.to_str().unwrap().to_owned()))
        }
        Err(Error::Http(refusal)) => Err(refusal.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

async fn ask(relay: &Relay, what: &str, token: Option<&str>, headers: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = body.len();
    let request = format!(
        "{what} HTTP/1.1\r\nhost: relay\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{token}{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: serde_json::from_str(body).unwrap_or_default() }
}

impl Answer {
    fn is_problem(&self, status: u16, code: &str) -> bool {
        let is_problem = self.head.contains("content-type: application/problem+json");
        is_problem && self.status == status && self.body["status"] == status && self.body["code"] == code
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_relay_takes_tokens_wherever_clients_can_put_them() {
    let (relay, token) = closed(&[]).await;
    let bearer = format!("Bearer {token}");
    let offered = format!("rejoin.bearer.{token}");
    assert_eq!(upgrade(&relay, "", &[]).await, Err(401));
    assert_eq!(upgrade(&relay, "", &[("authorization", "Bearer nonsense")]).await, Err(401));
    assert_eq!(upgrade(&relay, "", &[("authorization", "Basic YTpi")]).await, Err(401));
    assert_eq!(upgrade(&relay, "", &[("authorization", &bearer)]).await, Ok(None));
    let name = "sec-websocket-protocol";
    let both = format!("{offered}, rejoin.classic");
    assert_eq!(upgrade(&relay, "", &[(name, &both)]).await, Ok(Some("rejoin.classic".to_owned())));
    assert_eq!(upgrade(&relay, "", &[(name, &offered)]).await, Ok(Some(offered.clone())));
    let v1 = format!("rejoin.v1, {offered}");
    assert_eq!(upgrade(&relay, "", &[(name, &v1)]).await, Ok(Some("rejoin.v1".to_owned())));
    assert_eq!(upgrade(&relay, "", &[(name, "rejoin.bearer.nonsense")]).await, Err(401));
    // Who speaks rejoin.v1 may still show a token in its first message.
    assert_eq!(upgrade(&relay, "", &[(name, "rejoin.v1")]).await, Ok(Some("rejoin.v1".to_owned())));
    assert_eq!(upgrade(&relay, "", &[(name, "rejoin.v1, rejoin.bearer.nonsense")]).await, Err(401));
    // A token that lasts does not belong into a URL.
    assert_eq!(upgrade(&relay, &format!("?ticket={token}"), &[]).await, Err(401));
    let ticket = ask(&relay, "POST /ticket", Some(&token), "", "").await;
    assert_eq!(ticket.status, 200);
    assert!(ticket.head.contains("cache-control: no-store"), "{}", ticket.head);
    let ticket = ticket.body["ticket"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        assert_eq!(upgrade(&relay, &format!("?x=y&ticket={ticket}"), &[]).await, Ok(None));
    }
    let again = ask(&relay, "POST /ticket", Some(&ticket), "", "").await;
    assert!(again.is_problem(401, "token-unknown"), "a ticket gets nobody another one: {}", again.body);
    assert!(ask(&relay, "POST /ticket", None, "", "").await.is_problem(401, "token-missing"));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn share_link_is_made_used_listed_and_ended() {
    let (relay, token) = closed(&[]).await;
    let token = Some(token.as_str());
    let wish = json!({ "space": NOTES.to_string(), "access": "read", "expires_in_seconds": 60, "label": "for Bob" });
    let made = ask(&relay, "POST /share", token, "", &wish.to_string()).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let (id, link) = (made.body["id"].as_str().unwrap(), made.body["token"].as_str().unwrap());
    assert!(link.starts_with("rjs_") && made.body["expires"].is_u64());
    assert_eq!(upgrade(&relay, &format!("?ticket={link}"), &[]).await, Ok(None));
    let listed = ask(&relay, "GET /share", token, "", "").await;
    let [share] = &listed.body["shares"].as_array().unwrap()[..] else { panic!("one link: {}", listed.body) };
    assert_eq!(
        (&share["id"], &share["space"], &share["access"], &share["label"]),
        (&json!(id), &json!(NOTES.to_string()), &json!("read"), &json!("for Bob"))
    );
    assert!(!listed.body.to_string().contains(link), "its secret is shown once");
    let more = json!({ "space": NOTES.to_string(), "access": "write" }).to_string();
    assert!(ask(&relay, "POST /share", Some(link), "", &more).await.is_problem(404, "not-found"));
    let elsewhere = json!({ "space": "default", "access": "read" }).to_string();
    assert!(ask(&relay, "POST /share", token, "", &elsewhere).await.is_problem(404, "not-found"));
    for wrong in ["", "[]", "{}", r#"{"space":"*","access":"read"}"#, r#"{"space":"default","access":"admin"}"#] {
        assert!(ask(&relay, "POST /share", token, "", wrong).await.is_problem(400, "bad-request"), "{wrong}");
    }
    // Where a document will be that is not here yet nobody knows.
    let unknown = json!({ "document": DocumentId::from_bytes([9; 16]).to_string(), "access": "read" }).to_string();
    assert!(ask(&relay, "POST /share", token, "", &unknown).await.is_problem(404, "not-found"));
    // A body that waits for an answer would have no deadline.
    let waiting = ask(&relay, "POST /share", token, "expect: 100-continue\r\n", &more).await;
    assert_eq!(waiting.status, 417);
    let long = json!({ "space": "default", "access": "read", "label": "x".repeat(5_000) }).to_string();
    assert!(ask(&relay, "POST /share", token, "", &long).await.is_problem(413, "too-large"));
    assert!(ask(&relay, "DELETE /share/nonsense", token, "", "").await.is_problem(404, "not-found"));
    let end = format!("DELETE /share/{id}");
    assert!(ask(&relay, &end, Some(link), "", "").await.is_problem(404, "not-found"), "not its maker");
    assert_eq!(ask(&relay, &end, token, "", "").await.status, 204);
    assert!(ask(&relay, "GET /share", Some(link), "", "").await.is_problem(401, "token-revoked"));
    assert_eq!(upgrade(&relay, &format!("?ticket={link}"), &[]).await, Err(401));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_allowed_origins_alone_may_ask_and_connect() {
    let (relay, token) = closed(&["https://app.example.org"]).await;
    let (good, bad) = ("origin: https://app.example.org\r\n", "origin: https://evil.example.org\r\n");
    let ticket = ask(&relay, "POST /ticket", Some(&token), good, "").await;
    assert_eq!(ticket.status, 200);
    assert!(ticket.head.contains("access-control-allow-origin: https://app.example.org"), "{}", ticket.head);
    assert!(!ticket.head.contains("access-control-allow-credentials"), "there are no cookies: {}", ticket.head);
    let before = ask(&relay, "OPTIONS /ticket", None, good, "").await;
    assert_eq!(before.status, 204);
    assert!(before.head.contains("access-control-allow-headers: authorization, content-type"), "{}", before.head);
    let foreign = ask(&relay, "POST /ticket", Some(&token), bad, "").await;
    assert!(foreign.is_problem(403, "origin-not-allowed") && !foreign.head.contains("access-control-allow-origin"));
    let bearer = format!("Bearer {token}");
    let headers = |origin| [("authorization", bearer.as_str()), ("origin", origin)];
    assert_eq!(upgrade(&relay, "", &headers("https://app.example.org")).await, Ok(None));
    assert_eq!(upgrade(&relay, "", &headers("https://evil.example.org")).await, Err(403));
    assert_eq!(upgrade(&relay, "", &[("authorization", &bearer)]).await, Ok(None), "no browser");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_and_floods_from_one_address_are_stopped() {
    let (relay, token) = closed(&[]).await;
    let mut statuses = Vec::new();
    while statuses.last() != Some(&Err(429)) {
        assert!(statuses.len() < 1_000, "nothing stops them");
        statuses.push(upgrade(&relay, "", &[("authorization", "Bearer a.b.c")]).await);
    }
    assert!(statuses.len() > 20 && statuses[..20].iter().all(|status| *status == Err(401)), "{statuses:?}");
    // A proxy that is trusted says from where somebody comes.
    let other = "x-forwarded-for: 192.0.2.1, 192.0.2.7\r\n";
    assert_eq!(ask(&relay, "POST /ticket", Some(&token), other, "").await.status, 200);
    let mut problems = 0;
    while !ask(&relay, "GET /share", None, "x-forwarded-for: 192.0.2.9\r\n", "")
        .await
        .is_problem(429, "too-many-requests")
    {
        problems += 1;
        assert!(problems < 10_000, "nothing stops them");
    }
    relay.stop().await;
}
