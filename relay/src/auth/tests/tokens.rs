//! API tokens and tickets, and what ends them.

use super::*;

#[test]
fn nobody_comes_in_without_a_token_unless_the_relay_is_open() {
    let world = World::new(&AuthConfig::default());
    for nothing in [None, Some("")] {
        assert_eq!(world.directory.admit(nothing).err(), Some(Refusal::Missing));
    }
    for wrong in [
        "x",
        "rjt_",
        "rjs_x",
        "rjk_",
        "rjk_a.b",
        "a.b.c",
        "rjt_0011223344556677_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
    ] {
        assert_eq!(world.admit(wrong).err(), Some(Refusal::Unknown), "{wrong}");
    }
    let open = World::new(&AuthConfig::open());
    let permit = open.directory.admit(None).unwrap();
    assert_eq!((permit.principal(), permit.space(&NOTES), permit.expires()), (None, Some(Access::Admin), None));
    assert_eq!(open.admit("x").err(), Some(Refusal::Unknown), "a wrong token is wrong there too");
    let reader = open.grant("ada", Target::Space(NOTES), Access::Read);
    let (_, token) = open.token(&reader, None);
    let permit = open.admit(&token).unwrap();
    assert_eq!((permit.space(&NOTES), permit.space(&TEAM)), (Some(Access::Read), None), "and a good one says all");
}

#[tokio::test]
async fn relay_that_is_closed_while_it_runs_sends_everybody_away_who_has_no_token() {
    let world = World::new(&AuthConfig::open());
    let permit = world.directory.admit(None).unwrap();
    let waiting = tokio::spawn({
        let permit = permit.clone();
        async move { ended(&permit).await }
    });
    world.directory.reload(&AuthConfig::default()).unwrap();
    assert_eq!(waiting.await.unwrap(), Ended::Revoked);
    assert_eq!(permit.space(&NOTES), None);
}

#[tokio::test]
async fn revoked_token_ends_its_connections_and_cannot_be_shown_again() {
    let world = World::new(&AuthConfig::default());
    let ada = world.grant("ada", Target::Space(NOTES), Access::Write);
    let (revoked, token) = world.token(&ada, None);
    let (_, other) = world.token(&ada, None);
    let (permit, stays) = (world.admit(&token).unwrap(), world.admit(&other).unwrap());
    assert_eq!(permit.space(&NOTES), Some(Access::Write));
    let waiting = tokio::spawn({
        let permit = permit.clone();
        async move { ended(&permit).await }
    });
    assert!(world.directory.revoke_token(revoked).unwrap());
    assert_eq!(waiting.await.unwrap(), Ended::Revoked);
    assert_eq!((permit.space(&NOTES), permit.knows(&NOTES)), (None, false));
    assert_eq!(world.admit(&token).err(), Some(Refusal::Revoked));
    assert_eq!(world.reopened(&AuthConfig::default()).admit(&token).err(), Some(Refusal::Revoked));
    assert_eq!(stays.check(), Ok(()));
    assert!(!world.directory.revoke_token(revoked).unwrap(), "no news");
}

#[tokio::test]
async fn disabled_or_deleted_principal_ends_all_of_its_connections() {
    let world = World::new(&AuthConfig::default());
    for delete in [false, true] {
        let ada = world.grant("ada", Target::Space(NOTES), Access::Write);
        let bob = world.grant("bob", Target::Space(NOTES), Access::Write);
        let (token, others) = (world.token(&ada, None).1, world.token(&bob, None).1);
        let (permit, other) = (world.admit(&token).unwrap(), world.admit(&others).unwrap());
        if delete {
            assert!(world.directory.delete_principal(&ada).unwrap());
        } else {
            world.directory.put_principal(ada.clone(), None, true).unwrap();
        }
        assert_eq!(ended(&permit).await, Ended::Revoked);
        let refusal = if delete { Refusal::Unknown } else { Refusal::Disabled };
        assert_eq!(world.admit(&token).err(), Some(refusal));
        assert_eq!(other.check(), Ok(()));
        world.directory.put_principal(ada, None, false).unwrap();
        assert_eq!(permit.check(), Err(Ended::Revoked));
        assert_eq!(world.admit(&token).is_ok(), !delete, "one that is enabled again has its tokens");
    }
    assert!(world.directory.grants(Some(&id("ada")), None, 10).is_empty(), "a deleted one has no grants");
}

#[tokio::test]
async fn rotated_token_lasts_for_its_grace() {
    let world = World::new(&AuthConfig::default());
    let ada = world.grant("ada", Target::Space(NOTES), Access::Write);
    let scope = vec![Scope { target: Target::Space(NOTES), access: Access::Read }];
    let new =
        NewToken { principal: ada, label: Some("laptop".to_owned()), expires: Some(NOW + 100), scope: Some(scope) };
    let (old, token) = world.directory.create_token(new).unwrap();
    let permit = world.admit(token.expose()).unwrap();
    world.pass(10);
    let (record, fresh) = world.directory.rotate_token(old.id, 20).unwrap();
    assert_eq!((&record.label, &record.scope, record.expires), (&old.label, &old.scope, Some(NOW + 110)));
    assert_eq!(permit.expires(), Some(NOW + 30));
    assert!(world.admit(fresh.expose()).is_ok() && world.admit(token.expose()).is_ok());
    world.pass(20);
    assert_eq!(ended(&permit).await, Ended::Expired);
    assert_eq!(world.admit(token.expose()).err(), Some(Refusal::Expired));
    assert!(world.admit(fresh.expose()).is_ok());
    assert!(world.directory.rotate_token(old.id, 0).is_err(), "what is over stays so");
    world.directory.rotate_token(record.id, 0).unwrap();
    assert_eq!(world.admit(fresh.expose()).err(), Some(Refusal::Expired), "without a grace at once");
}

#[tokio::test]
async fn permit_wakes_when_its_time_is_over() {
    let world = World::new(&AuthConfig::default());
    let ada = world.grant("ada", Target::Everything, Access::Read);
    let new = NewToken { principal: ada, label: None, expires: Some(NOW + 1), scope: None };
    let (_, token) = world.directory.create_token(new).unwrap();
    let permit = world.admit(token.expose()).unwrap();
    // The clock stands a millisecond before the end: the permit sleeps, wakes, and looks again.
    world.clock.store((NOW + 1) * 1_000 - 1, Ordering::Relaxed);
    let waiting = tokio::spawn({
        let permit = permit.clone();
        async move { ended(&permit).await }
    });
    tokio::task::yield_now().await;
    world.pass(1);
    assert_eq!(waiting.await.unwrap(), Ended::Expired);
}

#[test]
fn ticket_ends_soon_and_never_after_its_token() {
    let world = World::new(&with_ed_key());
    let token = ed_token(|claims| {
        claims["exp"] = json!(NOW + 90);
        claims["rejoin"] = json!({ "grants": [{ "space": NOTES.to_string(), "access": "write" }] });
    });
    let permit = world.admit(&token).unwrap();
    let ticket = world.directory.ticket(&permit).unwrap();
    assert_eq!(ticket.expires, NOW + 60);
    let by_ticket = world.admit(ticket.text.expose()).unwrap();
    assert_eq!(by_ticket.principal(), Some(&id("ada")));
    assert_eq!((by_ticket.space(&NOTES), by_ticket.space(&TEAM)), (Some(Access::Write), None));
    assert_eq!(by_ticket.expires(), Some(NOW + 90), "a connection lasts as long as the token");
    assert!(world.admit(ticket.text.expose()).is_ok(), "a client that lost its connection comes again");
    world.pass(50);
    let late = world.directory.ticket(&permit).unwrap();
    assert_eq!(late.expires, NOW + 90, "not longer than the token");
    world.pass(10);
    assert_eq!(world.admit(ticket.text.expose()).err(), Some(Refusal::Expired));
    assert_eq!(by_ticket.check(), Ok(()));
    world.pass(30);
    assert_eq!(world.admit(late.text.expose()).err(), Some(Refusal::Expired));
    assert_eq!(by_ticket.check(), Err(Ended::Expired));
    assert!(world.directory.ticket(&permit).is_err());
}

#[test]
fn ticket_of_a_stored_token_is_over_with_it() {
    let world = World::new(&AuthConfig::default());
    let ada = world.grant("ada", Target::Space(NOTES), Access::Write);
    let (token_id, token) = world.token(&ada, None);
    let ticket = world.directory.ticket(&world.admit(&token).unwrap()).unwrap();
    let by_ticket = world.admit(ticket.text.expose()).unwrap();
    assert_eq!(by_ticket.principal(), Some(&ada));
    assert!(world.reopened(&AuthConfig::default()).admit(ticket.text.expose()).is_ok(), "over a restart too");
    world.directory.revoke_token(token_id).unwrap();
    assert_eq!(by_ticket.check(), Err(Ended::Revoked));
    assert_eq!(world.admit(ticket.text.expose()).err(), Some(Refusal::Revoked));
}

#[test]
fn ticket_of_another_relay_or_with_a_changed_byte_is_refused() {
    let (here, there) = (World::new(&with_ed_key()), World::new(&with_ed_key()));
    let ticket = here.directory.ticket(&here.admit(&ed_token(|_| ())).unwrap()).unwrap();
    let text = ticket.text.expose();
    assert_eq!(there.admit(text).err(), Some(Refusal::Unknown));
    for at in 4..text.len() {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert_eq!(here.admit(&changed).err(), Some(Refusal::Unknown), "{at}");
    }
}

#[test]
fn guesses_from_one_address_are_not_looked_at_for_long() {
    let world = World::new(&AuthConfig::default());
    let ada = world.grant("ada", Target::Space(NOTES), Access::Write);
    let (revoked, token) = world.token(&ada, None);
    let [here, there] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(std::net::IpAddr::from);
    for _ in 0..crate::limits::BAD_TOKENS_AT_ONCE {
        assert_eq!(world.directory.admit_from(here, Some("a guess")).err(), Some(Refusal::Unknown));
    }
    assert_eq!(world.directory.admit_from(here, Some("a guess")).err(), Some(Refusal::Throttled));
    assert_eq!(world.directory.admit_from(here, Some(&token)).err(), Some(Refusal::Throttled));
    assert!(world.directory.admit_from(there, Some(&token)).is_ok());
    world.pass(1);
    assert!(world.directory.admit_from(here, Some(&token)).is_ok());
    // What was good once is no guess: a client that does not know yet harms nobody.
    world.directory.revoke_token(revoked).unwrap();
    for _ in 0..100 {
        assert_eq!(world.directory.admit_from(there, Some(&token)).err(), Some(Refusal::Revoked));
    }
    assert_eq!(world.failures(Reason::Throttled), 2);
}
