//! Share links: never more than their maker has.

use super::*;

const READ: Access = Access::Read;
const WRITE: Access = Access::Write;

#[test]
fn link_gives_what_was_shared_and_no_more() {
    let world = World::new(&AuthConfig::default());
    let ada = world.grant("ada", Target::Space(NOTES), WRITE);
    let maker = world.admit(&world.token(&ada, None).1).unwrap();
    let (link, text) = world.share(&maker, Target::Space(NOTES), READ).unwrap();
    let guest = world.admit(&text).unwrap();
    assert_eq!(guest.principal(), Some(&id(&format!("link:{link}"))));
    assert_eq!((guest.space(&NOTES), guest.space(&TEAM)), (Some(READ), None));
    assert_eq!(guest.expires(), Some(NOW + 1_000));
    let (_, text) = world.share(&maker, Target::Document(PAGE), WRITE).unwrap();
    let guest = world.admit(&text).unwrap();
    assert_eq!((guest.space(&NOTES), guest.document(&NOTES, &PAGE)), (None, Some(WRITE)));
    assert_eq!(guest.document(&TEAM, &PAGE), None, "the maker has nothing in that space");
    assert!(matches!(world.share(&maker, Target::Space(TEAM), READ), Err(ShareError::Forbidden)));
    assert!(matches!(world.share(&maker, Target::Space(NOTES), Access::Admin), Err(ShareError::Directory(_))));
    assert!(matches!(world.share(&maker, Target::Everything, READ), Err(ShareError::Forbidden)));
    let bob = world.grant("bob", Target::Space(NOTES), READ);
    let reader = world.admit(&world.token(&bob, None).1).unwrap();
    assert!(matches!(world.share(&reader, Target::Space(NOTES), WRITE), Err(ShareError::Forbidden)));
}

#[tokio::test]
async fn link_follows_what_its_maker_has() {
    let world = World::new(&AuthConfig::default());
    let ada = world.grant("ada", Target::Space(NOTES), WRITE);
    let maker = world.admit(&world.token(&ada, None).1).unwrap();
    let (_, text) = world.share(&maker, Target::Space(NOTES), WRITE).unwrap();
    let guest = world.admit(&text).unwrap();
    world.grant("ada", Target::Space(NOTES), READ);
    assert_eq!(guest.space(&NOTES), Some(READ));
    world.grant("ada", Target::Space(NOTES), Access::Admin);
    assert_eq!(guest.space(&NOTES), Some(WRITE));
    world.directory.remove_grant(&ada, &Target::Space(NOTES)).unwrap();
    assert_eq!(ended(&guest).await, Ended::Revoked);
    assert_eq!(world.admit(&text).err(), Some(Refusal::Revoked));
    world.grant("ada", Target::Space(NOTES), READ);
    assert_eq!(world.admit(&text).unwrap().space(&NOTES), Some(READ));
    world.directory.put_principal(ada, None, true).unwrap();
    assert_eq!(world.admit(&text).err(), Some(Refusal::Revoked));
}

#[tokio::test]
async fn link_ends_with_the_token_it_was_made_with() {
    let world = World::new(&AuthConfig::default());
    let ada = world.grant("ada", Target::Space(NOTES), WRITE);
    let narrow = vec![Scope { target: Target::Space(NOTES), access: READ }];
    let (stolen, token) = world.token(&ada, Some(narrow));
    let maker = world.admit(&token).unwrap();
    assert!(matches!(world.share(&maker, Target::Space(NOTES), WRITE), Err(ShareError::Forbidden)));
    let (_, text) = world.share(&maker, Target::Space(NOTES), READ).unwrap();
    let guest = world.admit(&text).unwrap();
    world.directory.revoke_token(stolen).unwrap();
    assert_eq!(ended(&guest).await, Ended::Revoked);
}

#[tokio::test]
async fn link_of_a_jwt_lasts_until_its_maker_is_disabled() {
    let world = World::new(&with_ed_key());
    let maker = world.admit(&ed_token(|claims| {
        claims["rejoin"] = json!({ "grants": [{ "space": NOTES.to_string(), "access": "write" }] });
    }));
    let (_, text) = world.share(&maker.unwrap(), Target::Space(NOTES), WRITE).unwrap();
    world.pass(700);
    let guest = world.admit(&text).unwrap();
    assert_eq!(guest.space(&NOTES), Some(WRITE), "the claims are gone, and were enough");
    world.directory.put_principal(id("ada"), None, true).unwrap();
    assert_eq!(ended(&guest).await, Ended::Revoked);
}

#[tokio::test]
async fn link_of_a_link_is_within_it_and_ends_with_it() {
    let world = World::new(&AuthConfig::default());
    let ada = world.grant("ada", Target::Space(NOTES), WRITE);
    let maker = world.admit(&world.token(&ada, None).1).unwrap();
    let (first, text) = world.share(&maker, Target::Space(NOTES), READ).unwrap();
    let guest = world.admit(&text).unwrap();
    assert!(matches!(world.share(&guest, Target::Space(NOTES), WRITE), Err(ShareError::Forbidden)));
    world.pass(10);
    let (_, text) = world.share(&guest, Target::Document(PAGE), READ).unwrap();
    let second = world.admit(&text).unwrap();
    assert_eq!((second.space(&NOTES), second.document(&NOTES, &PAGE)), (None, Some(READ)));
    assert_eq!(second.expires(), guest.expires(), "not longer than the one it was made with");
    assert!(world.share(&second, Target::Document(PAGE), READ).is_err(), "and so not on and on");
    assert!(world.directory.unshare(&maker, first).unwrap());
    assert_eq!(ended(&second).await, Ended::Revoked);
    assert_eq!(guest.check(), Err(Ended::Revoked));
}

#[test]
fn makers_see_and_end_their_own_links_alone() {
    let world = World::new(&AuthConfig { shares_per_principal_max: 2, ..AuthConfig::default() });
    let [ada, bob] = ["ada", "bob"].map(|name| world.grant(name, Target::Space(NOTES), WRITE));
    let [ada, bob] = [ada, bob].map(|maker| world.admit(&world.token(&maker, None).1).unwrap());
    let (first, _) = world.share(&ada, Target::Space(NOTES), READ).unwrap();
    world.share(&ada, Target::Space(NOTES), READ).unwrap();
    assert!(matches!(
        world.share(&ada, Target::Space(NOTES), READ),
        Err(ShareError::Directory(DirectoryError::Full { max: 2, .. }))
    ));
    assert_eq!((world.directory.shares(&ada).len(), world.directory.shares(&bob).len()), (2, 0));
    assert!(!world.directory.unshare(&bob, first).unwrap());
    assert!(world.directory.unshare(&ada, first).unwrap());
    assert_eq!(world.directory.shares(&ada).len(), 1);
    world.share(&ada, Target::Space(NOTES), READ).unwrap();
    world.pass(1_000);
    assert!(world.directory.shares(&ada).is_empty());
    world.share(&ada, Target::Space(NOTES), READ).unwrap();
    let all = world.directory.tokens(ada.principal(), None, 10);
    assert_eq!(all.iter().filter(|token| token.kind == TokenKind::Link).count(), 1, "what is over makes room");
}

#[test]
fn links_of_nobody_end_when_the_relay_is_closed() {
    let world = World::new(&AuthConfig::open());
    let (_, text) = world.share(&world.directory.admit(None).unwrap(), Target::Space(NOTES), READ).unwrap();
    let guest = world.admit(&text).unwrap();
    assert_eq!((guest.space(&NOTES), guest.space(&TEAM)), (Some(READ), None), "a link narrows on an open relay too");
    world.directory.reload(&AuthConfig::default()).unwrap();
    assert_eq!(guest.check(), Err(Ended::Revoked));
    assert_eq!(world.admit(&text).err(), Some(Refusal::Revoked));
}
