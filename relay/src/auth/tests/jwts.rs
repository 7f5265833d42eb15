//! JSON Web Tokens: which are believed, and which are not.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;

use super::*;

fn refused(world: &World, token: &str, reason: Reason) {
    let before = world.failures(reason);
    assert_eq!(world.admit(token).err(), Some(reason.refusal()), "{reason:?}");
    assert_eq!(world.failures(reason), before + 1, "{reason:?}");
}

#[test]
fn token_of_each_algorithm_is_taken_with_its_key_alone() {
    let secret = b"a secret of thirty-two bytes, at least.";
    let keys = [
        (KeyAlgorithm::EdDsa, Algorithm::EdDSA, ed_key(), "eddsa-public.pem"),
        (
            KeyAlgorithm::Es256,
            Algorithm::ES256,
            EncodingKey::from_ec_pem(&fixture("es256-private.pem")).unwrap(),
            "es256-public.pem",
        ),
        (
            KeyAlgorithm::Rs256,
            Algorithm::RS256,
            EncodingKey::from_rsa_pem(&fixture("rs256-private.pem")).unwrap(),
            "rs256-public.pem",
        ),
    ];
    let mut config = AuthConfig::default();
    for (algorithm, _, _, file) in &keys {
        config.keys.push(public_key(Some(algorithm.name()), *algorithm, file));
    }
    let text = std::str::from_utf8(secret).unwrap();
    let source = KeySource::Inline(SecretText::new(text));
    config.keys.push(KeyConfig { id: None, algorithm: KeyAlgorithm::Hs256, source });
    let world = World::new(&config);
    let claims = json!({ "sub": "ada", "exp": NOW + 600 });
    for (name, algorithm, key, _) in &keys {
        let token = signed(*algorithm, key, Some(name.name()), &claims);
        assert_eq!(world.admit(&token).unwrap().principal(), Some(&id("ada")));
        // Without a name all keys of its algorithm are tried.
        assert!(world.admit(&signed(*algorithm, key, None, &claims)).is_ok());
    }
    let hmac = EncodingKey::from_secret(secret);
    assert!(world.admit(&signed(Algorithm::HS256, &hmac, None, &claims)).is_ok());
    refused(&world, &signed(Algorithm::HS256, &hmac, Some("EdDSA"), &claims), Reason::UnknownKey);
    refused(&world, &signed(Algorithm::HS512, &hmac, None, &claims), Reason::UnknownKey);
}

#[test]
fn public_key_is_no_secret() {
    let rsa = AuthConfig {
        keys: vec![public_key(Some("r"), KeyAlgorithm::Rs256, "rs256-public.pem")],
        ..AuthConfig::default()
    };
    let world = World::new(&rsa);
    // The well-known attack: the public key, which everybody has, as the secret of an HMAC.
    let forged = EncodingKey::from_secret(&fixture("rs256-public.pem"));
    let claims = json!({ "sub": "ada", "exp": NOW + 600 });
    refused(&world, &signed(Algorithm::HS256, &forged, Some("r"), &claims), Reason::UnknownKey);
    refused(&world, &signed(Algorithm::HS256, &forged, None, &claims), Reason::UnknownKey);
    // An operator's mistake that would make it work is refused when it is made.
    let keys = vec![public_key(Some("r"), KeyAlgorithm::Hs256, "rs256-public.pem")];
    let mistaken = AuthConfig { keys, ..AuthConfig::default() };
    assert!(Directory::open(Arc::new(MemoryStore::new()), &mistaken).is_err());
}

#[test]
fn unsigned_token_is_refused() {
    let world = World::new(&with_ed_key());
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = part(json!({ "sub": "ada", "exp": NOW + 600 }));
    for name in ["none", "None", "NONE", ""] {
        let header = part(json!({ "alg": name, "typ": "JWT" }));
        refused(&world, &format!("{header}.{claims}."), Reason::UnknownKey);
    }
    let header = part(json!({ "alg": "EdDSA", "kid": "a" }));
    refused(&world, &format!("{header}.{claims}."), Reason::BadSignature);
    let critical = part(json!({ "alg": "EdDSA", "kid": "a", "crit": ["b64"], "b64": false }));
    refused(&world, &format!("{critical}.{claims}.AAAA"), Reason::Malformed);
}

#[test]
fn changed_token_is_refused() {
    let world = World::new(&with_ed_key());
    let token = ed_token(|_| ());
    assert!(world.admit(&token).is_ok());
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let other = URL_SAFE_NO_PAD.encode(json!({ "sub": "eve", "exp": NOW + 600 }).to_string());
    refused(&world, &format!("{header}.{other}.{signature}"), Reason::BadSignature);
    refused(&world, &format!("{header}.{claims}.{signature}.x"), Reason::Malformed);
    refused(&world, &format!("{header}.{claims}"), Reason::Malformed);
    refused(&world, &"x".repeat(100_000), Reason::Malformed);
    let other = EncodingKey::from_ed_pem(&fixture("eddsa-other-private.pem")).unwrap();
    let claims = json!({ "sub": "ada", "exp": NOW + 600 });
    refused(&world, &signed(Algorithm::EdDSA, &other, Some("a"), &claims), Reason::BadSignature);
    refused(&world, &signed(Algorithm::EdDSA, &ed_key(), Some("b"), &claims), Reason::UnknownKey);
}

#[test]
fn times_are_kept_to() {
    let world = World::new(&with_ed_key());
    refused(&world, &ed_token(|claims| claims["exp"] = json!(NOW - 31)), Reason::Expired);
    refused(&world, &ed_token(|claims| claims["exp"] = json!(NOW + 86_400 + 31)), Reason::TooLong);
    refused(&world, &ed_token(|claims| claims["nbf"] = json!(NOW + 31)), Reason::NotYet);
    refused(&world, &ed_token(|claims| claims["iat"] = json!(NOW + 31)), Reason::NotYet);
    refused(&world, &ed_token(|claims| claims["exp"] = json!("soon")), Reason::BadClaims);
    refused(&world, &ed_token(|claims| claims["exp"] = json!(-1)), Reason::BadClaims);
    refused(&world, &ed_token(|claims| drop(claims.as_object_mut().unwrap().remove("exp"))), Reason::BadClaims);
    let late = world.admit(&ed_token(|claims| claims["exp"] = json!(NOW - 29))).unwrap();
    assert_eq!(late.expires(), Some(NOW + 1), "the leeway ends too");
    let good = world.admit(&ed_token(|claims| {
        claims["exp"] = json!(NOW as f64 + 0.5 + 600.0);
        claims["nbf"] = json!(NOW + 29);
    }));
    let good = good.unwrap();
    assert_eq!(good.expires(), Some(NOW + 600), "the leeway lets nobody stay");
    world.pass(599);
    assert_eq!(good.check(), Ok(()));
    world.pass(1);
    assert_eq!((good.check(), good.space(&NOTES)), (Err(Ended::Expired), None));
}

#[test]
fn audience_and_issuer_are_ours() {
    let world = World::new(&with_ed_key());
    refused(&world, &ed_token(|claims| claims["aud"] = json!("somebody else")), Reason::WrongAudience);
    let (audience, issuer) = (vec!["relay".to_owned(), "sync".to_owned()], vec!["https://app".to_owned()]);
    let world = World::new(&AuthConfig { audience, issuer, ..with_ed_key() });
    let token = |aud: Value, iss: Value| {
        ed_token(|claims| {
            claims["aud"] = aud;
            claims["iss"] = iss;
        })
    };
    assert!(world.admit(&token(json!("relay"), json!("https://app"))).is_ok());
    assert!(world.admit(&token(json!(["x", "sync"]), json!("https://app"))).is_ok());
    refused(&world, &token(json!("other"), json!("https://app")), Reason::WrongAudience);
    refused(&world, &token(json!([]), json!("https://app")), Reason::WrongAudience);
    refused(&world, &token(json!("relay"), json!("https://evil")), Reason::WrongIssuer);
    refused(&world, &token(json!("relay"), Value::Null), Reason::WrongIssuer);
    refused(&world, &ed_token(|claims| claims["iss"] = json!("https://app")), Reason::WrongAudience);
}

#[test]
fn grants_in_claims_are_read_exactly_or_not_at_all() {
    let world = World::new(&with_ed_key());
    let with = |grants: Value| ed_token(|claims| claims["rejoin"] = json!({ "grants": grants }));
    let permit = world
        .admit(&with(json!([
            { "space": NOTES.to_string(), "access": "write" },
            { "space": "default", "access": "read" },
            { "document": PAGE.to_string(), "access": "admin" },
        ])))
        .unwrap();
    assert_eq!(permit.space(&NOTES), Some(Access::Write));
    assert_eq!(permit.space(&SpaceId::DEFAULT), Some(Access::Read));
    assert_eq!(permit.space(&TEAM), None);
    assert_eq!(permit.document(&TEAM, &PAGE), Some(Access::Admin));
    let all = world.admit(&with(json!([{ "space": "*", "access": "read" }]))).unwrap();
    assert_eq!(all.space(&TEAM), Some(Access::Read));
    let none = world.admit(&ed_token(|_| ())).unwrap();
    assert_eq!((none.space(&NOTES), none.knows(&NOTES)), (None, false));
    for wrong in [
        json!([{ "space": "*" }]),
        json!([{ "access": "read" }]),
        json!([{ "space": "*", "access": "own" }]),
        json!([{ "space": "nonsense", "access": "read" }]),
        json!([{ "space": "*", "document": PAGE.to_string(), "access": "read" }]),
        json!([{ "space": "*", "access": "read", "until": 3 }]),
        json!({ "space": "*", "access": "read" }),
        Value::Array(vec![json!({ "space": "*", "access": "read" }); 129]),
    ] {
        refused(&world, &with(wrong), Reason::BadClaims);
    }
    for name in ["", "link:0011223344556677", "two\nlines"] {
        refused(&world, &ed_token(|claims| claims["sub"] = json!(name)), Reason::BadClaims);
    }
    refused(&world, &ed_token(|claims| drop(claims.as_object_mut().unwrap().remove("sub"))), Reason::BadClaims);
}

#[test]
fn stored_grants_add_to_claims() {
    let world = World::new(&with_ed_key());
    let permit = world.admit(&ed_token(|claims| {
        claims["rejoin"] = json!({ "grants": [{ "space": NOTES.to_string(), "access": "read" }] });
    }));
    let permit = permit.unwrap();
    let grant = Grant { principal: id("ada"), target: Target::Space(NOTES), access: Access::Admin, until: None };
    world.directory.put_grant(grant.clone()).unwrap();
    assert_eq!(permit.space(&NOTES), Some(Access::Admin), "at once");
    world.directory.put_grant(Grant { until: Some(NOW + 10), ..grant }).unwrap();
    world.pass(10);
    assert_eq!(permit.space(&NOTES), Some(Access::Read), "what has an end ends by the clock");
}

#[tokio::test]
async fn disabled_principal_is_out_with_tokens_of_others_too() {
    let world = World::new(&with_ed_key());
    let permit = world.admit(&ed_token(|_| ())).unwrap();
    world.directory.put_principal(id("ada"), None, true).unwrap();
    assert_eq!(ended(&permit).await, Ended::Revoked);
    refused(&world, &ed_token(|_| ()), Reason::Disabled);
    world.directory.put_principal(id("ada"), None, false).unwrap();
    assert_eq!(permit.check(), Err(Ended::Revoked), "what ended stays so");
    let anew = world.admit(&ed_token(|_| ())).unwrap();
    assert!(world.directory.delete_principal(&id("ada")).unwrap());
    assert_eq!(ended(&anew).await, Ended::Revoked);
    assert!(world.admit(&ed_token(|_| ())).is_ok(), "a deleted one is a stranger, and may come with a token");
}

/// A key set as an issuer publishes it, with keys for others in it.
fn key_set(path: &Path, keys: &[(&str, &EncodingKey, Algorithm)]) {
    let ours = keys.iter().map(|(id, key, algorithm)| {
        let mut jwk = Jwk::from_encoding_key(key, *algorithm).unwrap();
        jwk.common.key_id = Some((*id).to_owned());
        serde_json::to_value(jwk).unwrap()
    });
    let others = json!([
        { "kty": "EC", "crv": "P-384", "x": "AAAA", "y": "AAAA", "kid": "a" },
        { "kty": "oct", "k": "c2hvcnQ", "kid": "b" },
        { "kty": "unheard of", "kid": "c" },
        "nonsense",
    ]);
    let keys: Vec<_> = ours.chain(others.as_array().unwrap().iter().cloned()).collect();
    // As a careful program does: whole or not at all.
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, json!({ "keys": keys }).to_string()).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

#[test]
fn key_set_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let first = ed_key();
    let second = EncodingKey::from_ec_pem(&fixture("es256-private.pem")).unwrap();
    let third = EncodingKey::from_rsa_pem(&fixture("rs256-private.pem")).unwrap();
    key_set(&path, &[("one", &first, Algorithm::EdDSA)]);
    let config = AuthConfig { jwks_file: Some(path.clone()), ..AuthConfig::default() };
    let world = World::new(&config);
    let claims = json!({ "sub": "ada", "exp": NOW + 6_000 });
    let by_first = signed(Algorithm::EdDSA, &first, Some("one"), &claims);
    let by_second = signed(Algorithm::ES256, &second, Some("two"), &claims);
    assert!(world.admit(&by_first).is_ok());
    refused(&world, &by_second, Reason::UnknownKey);
    // A key that comes is there at once, one that goes is gone within seconds.
    key_set(&path, &[("one", &first, Algorithm::EdDSA), ("two", &second, Algorithm::ES256)]);
    assert!(world.admit(&by_second).is_ok() && world.admit(&by_first).is_ok());
    key_set(&path, &[("two", &second, Algorithm::ES256), ("three", &third, Algorithm::RS256)]);
    world.pass(10);
    refused(&world, &by_first, Reason::UnknownKey);
    assert!(world.admit(&signed(Algorithm::RS256, &third, Some("three"), &claims)).is_ok());
    // A file that makes no sense, or is gone, leaves the keys as they were.
    std::fs::write(&path, "{").unwrap();
    world.pass(10);
    assert!(world.admit(&by_second).is_ok());
    std::fs::remove_file(&path).unwrap();
    world.pass(10);
    assert!(world.admit(&by_second).is_ok());
    assert!(world.directory.reload(&config).is_err(), "who asks for it is told");
    assert!(world.admit(&by_second).is_ok());
    key_set(&path, &[]);
    world.directory.reload(&config).unwrap();
    refused(&world, &by_second, Reason::UnknownKey);
}

#[test]
fn unusable_keys_are_named_and_not_shown() {
    let short = KeySource::Inline(SecretText::new("hunter2"));
    let wrong = [
        KeyConfig { id: None, algorithm: KeyAlgorithm::Hs256, source: short },
        public_key(None, KeyAlgorithm::Rs256, "rs256-short-public.pem"),
        public_key(None, KeyAlgorithm::Rs256, "eddsa-public.pem"),
        public_key(None, KeyAlgorithm::EdDsa, "eddsa-private.pem"),
        public_key(None, KeyAlgorithm::Es256, "absent.pem"),
    ];
    for key in wrong {
        let config = AuthConfig { keys: vec![key], ..AuthConfig::default() };
        let error = Directory::open(Arc::new(MemoryStore::new()), &config).err().unwrap();
        let text = format!("{error} {error:?} {config:?}");
        assert!(!text.contains("hunter2") && !text.contains("BEGIN"), "{text}");
    }
}
