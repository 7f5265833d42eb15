//! What stands in the store comes back as it was, page by page, and is bounded.

use proptest::prelude::*;

use super::*;
use crate::auth::encoding;
use crate::auth::record::StoredToken;
use crate::auth::rights::Right;
use crate::auth::secret::SecretHash;

fn principals() -> impl Strategy<Value = PrincipalId> {
    "[a-zA-Z0-9@.:äß-]{1,40}".prop_filter_map("a name", |name| PrincipalId::new(&name))
}

fn targets() -> impl Strategy<Value = Target> {
    let ids = any::<[u8; 16]>();
    prop_oneof![
        Just(Target::Everything),
        ids.prop_map(|id| Target::Space(SpaceId::from_bytes(id))),
        any::<[u8; 16]>().prop_map(|id| Target::Document(DocumentId::from_bytes(id))),
    ]
}

fn accesses() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::Admin)]
}

fn labels() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("\\PC{0,40}")
}

fn tokens() -> impl Strategy<Value = StoredToken> {
    let scope = (targets(), accesses()).prop_map(|(target, access)| Scope { target, access });
    let who = (any::<[u8; 8]>(), any::<bool>(), proptest::option::of(principals()), labels());
    let what = (any::<u64>(), any::<Option<u64>>(), any::<bool>(), any::<bool>(), any::<[u8; 32]>());
    let rest = (
        any::<Option<[u8; 8]>>(),
        any::<Option<[u8; 16]>>(),
        proptest::option::of(proptest::collection::vec(scope, 0..5)),
    );
    (who, what, rest).prop_map(|((id, is_link, principal, label), what, (parent, home, scope))| {
        let (created, expires, revoked, claimed, hash) = what;
        let kind = if is_link { TokenKind::Link } else { TokenKind::Api };
        let id = TokenId::from_bytes(id);
        let record = TokenRecord { id, kind, principal, label, created, expires, revoked, scope };
        let (parent, home) = (parent.map(TokenId::from_bytes), home.map(SpaceId::from_bytes));
        StoredToken { record, hash: SecretHash::from_bytes(hash), parent, claimed, home }
    })
}

proptest! {
    #[test]
    fn principal_reads_as_it_was_written(
        id in principals(), label in labels(), disabled: bool, created_seconds: u64, cut in any::<prop::sample::Index>(),
    ) {
        let principal = Principal { id, label, disabled, created_seconds };
        let (key, value) = (encoding::principal_key(&principal.id), encoding::write_principal(&principal));
        prop_assert_eq!(encoding::read_principal(&key[1..], &value).unwrap(), principal);
        prop_assert!(encoding::read_principal(&key[1..], &value[..cut.index(value.len())]).is_err());
    }

    #[test]
    fn token_reads_as_it_was_written(token in tokens(), cut in any::<prop::sample::Index>()) {
        let (key, value) = (encoding::token_key(token.record.id), encoding::write_token(&token));
        let read = encoding::read_token(&key[1..], &value).unwrap();
        prop_assert!(read.hash.is(&token.hash));
        prop_assert_eq!((read.parent, read.claimed, read.home), (token.parent, token.claimed, token.home));
        prop_assert_eq!(read.record, token.record);
        prop_assert!(encoding::read_token(&key[1..], &value[..cut.index(value.len())]).is_err());
    }

    #[test]
    fn grant_reads_as_it_was_written(
        principal in principals(), target in targets(), access in accesses(), until: Option<u64>,
    ) {
        let key = encoding::grant_key(&principal, &target);
        prop_assert!(key.starts_with(&encoding::grants_prefix(&principal)));
        let value = encoding::write_right(&Right { access, until });
        prop_assert_eq!(encoding::read_grant(&key, &value).unwrap(), Grant { principal, target, access, until });
    }

    #[test]
    fn space_reads_as_it_was_written(
        id: [u8; 16], name in labels(), archived: bool, created_seconds: u64, bytes_max: Option<u64>,
    ) {
        let space = SpaceRecord { id: SpaceId::from_bytes(id), name, archived, created_seconds, bytes_max };
        let value = encoding::write_space(&space);
        prop_assert_eq!(encoding::read_space(&encoding::space_key(&space.id)[1..], &value).unwrap(), space);
    }

    #[test]
    fn damaged_records_are_errors(bytes: Vec<u8>) {
        // Whatever it is, it does not panic, and takes no memory for what is not there.
        let _ = encoding::read_principal(b"ada", &bytes);
        let _ = encoding::read_token(&[0; 8], &bytes);
        let _ = encoding::read_space(&[0; 16], &bytes);
        let _ = encoding::read_grant(&bytes, &bytes);
    }
}

#[test]
fn everything_is_there_after_a_restart() {
    let world = World::new(&AuthConfig::default());
    let ada = world.grant("ada", Target::Space(NOTES), Access::Write);
    world.directory.put_principal(ada.clone(), Some("Ada".to_owned()), true).unwrap();
    world.grant("bob", Target::Document(PAGE), Access::Read);
    let (kept, token) = world.token(&id("bob"), None);
    let space =
        SpaceRecord { id: TEAM, name: Some("Team".to_owned()), archived: true, created_seconds: 7, bytes_max: Some(1) };
    world.directory.put_space(space.clone()).unwrap();
    let again = world.reopened(&AuthConfig::default());
    assert_eq!(again.directory.principals(None, 10), world.directory.principals(None, 10));
    assert_eq!(
        again.directory.principal(&ada).map(|ada| (ada.label, ada.disabled)),
        Some((Some("Ada".to_owned()), true))
    );
    assert_eq!(again.directory.grants(None, None, 10), world.directory.grants(None, None, 10));
    assert_eq!(again.directory.token(kept), world.directory.token(kept));
    assert_eq!(again.directory.spaces(None, 10), [space]);
    assert_eq!(again.admit(&token).unwrap().document(&NOTES, &PAGE), Some(Access::Read));
    assert!(again.directory.remove_space(&TEAM).unwrap() && !again.directory.remove_space(&TEAM).unwrap());
    assert!(world.reopened(&AuthConfig::default()).directory.spaces(None, 10).is_empty());
}

#[test]
fn lists_are_read_page_by_page() {
    let world = World::new(&AuthConfig::default());
    let names: Vec<_> = (0..5).map(|number| id(&format!("user-{number}"))).collect();
    for name in &names {
        for target in [Target::Everything, Target::Space(NOTES), Target::Document(PAGE)] {
            world.grant(name.as_str(), target, Access::Read);
        }
        world.token(name, None);
    }
    let (mut principals, mut after) = (Vec::new(), None);
    while let [.., last] = &world.directory.principals(after.as_ref(), 2)[..] {
        principals.extend(world.directory.principals(after.as_ref(), 2));
        after = Some(last.id.clone());
    }
    assert_eq!(principals.into_iter().map(|principal| principal.id).collect::<Vec<_>>(), names);
    let (mut grants, mut after) = (Vec::new(), None);
    while let [.., last] = &world.directory.grants(None, after.as_ref(), 2)[..] {
        grants.extend(world.directory.grants(None, after.as_ref(), 2));
        after = Some((last.principal.clone(), last.target));
    }
    assert_eq!(grants.len(), 15);
    assert!(grants.windows(2).all(|pair| (&pair[0].principal, pair[0].target) < (&pair[1].principal, pair[1].target)));
    let own = world.directory.grants(Some(&names[2]), Some(&(names[2].clone(), Target::Everything)), 10);
    assert!(own.len() == 2 && own.iter().all(|grant| grant.principal == names[2]));
    let (mut tokens, mut after) = (Vec::new(), None);
    while let [.., last] = &world.directory.tokens(None, after, 2)[..] {
        tokens.extend(world.directory.tokens(None, after, 2));
        after = Some(last.id);
    }
    assert_eq!(tokens.len(), 5);
    assert_eq!(world.directory.tokens(Some(&names[1]), None, 10).len(), 1);
}

#[test]
fn what_makes_no_sense_is_refused_and_not_stored() {
    let world = World::new(&AuthConfig::default());
    let link = id("link:0011223344556677");
    assert!(world.directory.put_principal(link.clone(), None, false).is_err());
    let grant = Grant { principal: link, target: Target::Everything, access: Access::Read, until: None };
    assert!(world.directory.put_grant(grant).is_err());
    assert!(world.directory.put_principal(id("ada"), Some("x".repeat(257)), false).is_err());
    assert!(world.directory.put_principal(id("ada"), Some("x\u{7}".to_owned()), false).is_err());
    let new = NewToken { principal: id("ada"), label: None, expires: None, scope: None };
    assert!(matches!(world.directory.create_token(new.clone()), Err(DirectoryError::Unknown { .. })));
    world.directory.put_principal(id("ada"), None, false).unwrap();
    assert!(world.directory.create_token(NewToken { expires: Some(NOW), ..new.clone() }).is_err());
    assert!(world.directory.create_token(NewToken { scope: Some(Vec::new()), ..new }).is_err());
    assert!(matches!(
        world.directory.revoke_token(TokenId::from_bytes([0; 8])),
        Err(DirectoryError::Unknown { what: "token" })
    ));
    assert!(!world.directory.remove_grant(&id("ada"), &Target::Everything).unwrap());
    assert!(!world.directory.delete_principal(&id("nobody")).unwrap());
    assert!(world.directory.tokens(None, None, 10).is_empty());
}
