//! What grants mean, against a model that is slow and plain, and that narrowing only takes away.

use proptest::prelude::*;

use super::*;
use crate::auth::rights::{GrantMap, Layer, Right, Rights, grant_map};

const SPACES: u8 = 3;
const DOCUMENTS: u8 = 3;

fn space(number: u8) -> SpaceId {
    SpaceId::from_bytes([number; 16])
}

fn document(number: u8) -> DocumentId {
    DocumentId::from_bytes([number; 16])
}

fn scopes() -> impl Strategy<Value = Vec<Scope>> {
    let target = prop_oneof![
        1 => Just(Target::Everything),
        4 => (0..SPACES).prop_map(|number| Target::Space(space(number))),
        4 => (0..DOCUMENTS).prop_map(|number| Target::Document(document(number))),
    ];
    let access = prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::Admin)];
    proptest::collection::vec((target, access).prop_map(|(target, access)| Scope { target, access }), 0..5)
}

fn grants() -> impl Strategy<Value = GrantMap> {
    (scopes(), proptest::collection::vec(proptest::option::of(0_u64..20), 5)).prop_map(|(scopes, untils)| {
        let right = |(scope, until): (Scope, Option<u64>)| (scope.target, Right { access: scope.access, until });
        scopes.into_iter().zip(untils).map(right).collect()
    })
}

/// What a list of grants says of a document, as RELAY's users are told it: the greatest of those that name it, its space or
/// everything, and have not ended. Of a whole space the same without the document.
fn model(grants: &[GrantMap], space: SpaceId, document: Option<DocumentId>, now: u64) -> Option<Access> {
    let names = |target: &Target| match target {
        Target::Everything => true,
        Target::Space(named) => *named == space,
        Target::Document(named) => Some(*named) == document,
    };
    let all =
        grants.iter().flatten().filter(|(target, right)| names(target) && right.until.is_none_or(|end| now < end));
    all.map(|(_, right)| right.access).max()
}

fn layer(maps: &[GrantMap]) -> Layer {
    Layer(maps.iter().cloned().map(Arc::new).collect())
}

proptest! {
    #[test]
    fn grants_mean_what_the_model_says(
        claims in grants(), stored in grants(), narrowed in proptest::option::of(scopes()),
        archived in proptest::collection::btree_set(0..SPACES, 0..2), now in 0_u64..20,
    ) {
        let mut rights = Rights { layers: vec![layer(&[claims.clone(), stored.clone()])], ..Rights::default() };
        rights.archived = Arc::new(archived.iter().map(|number| space(*number)).collect());
        let narrowed = narrowed.map(|scopes| grant_map(&scopes));
        rights.layers.extend(narrowed.clone().map(|map| layer(&[map])));
        for number in 0..SPACES {
            let at = space(number);
            let expected = |document: Option<DocumentId>| {
                let granted = model(&[claims.clone(), stored.clone()], at, document, now)?;
                let left = match &narrowed {
                    Some(map) => granted.min(model(std::slice::from_ref(map), at, document, now)?),
                    None => granted,
                };
                Some(if archived.contains(&number) { left.min(Access::Read) } else { left })
            };
            prop_assert_eq!(rights.space(&at, now), expected(None));
            for named in 0..DOCUMENTS {
                let named = document(named);
                prop_assert_eq!(rights.document(&at, &named, now), expected(Some(named)));
                // Who may do anything with a document knows its space, or could not choose it.
                prop_assert!(rights.document(&at, &named, now).is_none() || rights.knows(&at, now));
            }
        }
    }

    #[test]
    fn another_layer_only_takes_away(
        layers in proptest::collection::vec(grants(), 1..4), another in grants(), now in 0_u64..20,
    ) {
        let layers: Vec<_> = layers.iter().map(|map| layer(std::slice::from_ref(map))).collect();
        let before = Rights { layers: layers.clone(), ..Rights::default() };
        let after = Rights { layers: [layers, vec![layer(&[another])]].concat(), ..Rights::default() };
        for at in (0..SPACES).map(space) {
            prop_assert!(after.space(&at, now) <= before.space(&at, now));
            prop_assert!(!after.knows(&at, now) || before.knows(&at, now));
            for named in (0..DOCUMENTS).map(document) {
                prop_assert!(after.document(&at, &named, now) <= before.document(&at, &named, now));
            }
        }
    }

    /// The same through the directory: a token with a scope, and a link made with it, never allow more than the principal.
    #[test]
    fn no_token_allows_more_than_its_principal(stored in scopes(), scope in scopes(), shared in scopes()) {
        let world = World::new(&AuthConfig::default());
        let ada = id("ada");
        world.directory.put_principal(ada.clone(), None, false).unwrap();
        for Scope { target, access } in stored {
            world.directory.put_grant(Grant { principal: ada.clone(), target, access, until: None }).unwrap();
        }
        let whole = world.admit(&world.token(&ada, None).1).unwrap();
        let narrow = world.admit(&world.token(&ada, (!scope.is_empty()).then_some(scope)).1).unwrap();
        let mut permits = vec![narrow.clone()];
        for Scope { target, access } in shared {
            if let Ok((_, text)) = world.share(&narrow, target, access) {
                permits.push(world.admit(&text).unwrap());
            }
        }
        for permit in permits {
            for at in (0..SPACES).map(space) {
                prop_assert!(permit.space(&at) <= narrow.space(&at) && narrow.space(&at) <= whole.space(&at));
                for named in (0..DOCUMENTS).map(document) {
                    prop_assert!(permit.document(&at, &named) <= narrow.document(&at, &named));
                    prop_assert!(narrow.document(&at, &named) <= whole.document(&at, &named));
                }
            }
        }
    }
}

#[test]
fn who_has_nothing_may_nothing() {
    let rights = Rights::default();
    assert_eq!(
        (rights.space(&NOTES, 0), rights.document(&NOTES, &PAGE, 0), rights.knows(&NOTES, 0)),
        (None, None, false)
    );
}

#[test]
fn nobody_writes_to_an_archived_space() {
    let world = World::new(&AuthConfig::open());
    let ada = world.grant("ada", Target::Everything, Access::Admin);
    let permits = [world.directory.admit(None).unwrap(), world.admit(&world.token(&ada, None).1).unwrap()];
    let space = SpaceRecord { id: NOTES, name: None, archived: true, created_seconds: 0, bytes_max: None };
    world.directory.put_space(space.clone()).unwrap();
    for permit in &permits {
        assert_eq!((permit.space(&NOTES), permit.document(&NOTES, &PAGE)), (Some(Access::Read), Some(Access::Read)));
        assert_eq!(permit.space(&TEAM), Some(Access::Admin));
    }
    world.directory.put_space(SpaceRecord { archived: false, ..space }).unwrap();
    assert!(permits.iter().all(|permit| permit.space(&NOTES) == Some(Access::Admin)));
}
