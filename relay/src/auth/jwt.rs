//! JSON Web Tokens: signed by somebody else whom the operator trusts, and believed for as long as they say.
//!
//! What a token says is read only after its signature was found good. Whatever is not understood in the part that is ours refuses
//! it: a grant that is misread could be too much.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rejoin::SpaceId;
use rejoin::codec::v1::Access;
use rejoin::limits::TOKEN_BYTES_MAX;
use serde::Deserialize;
use serde_json::{Number, Value};

use super::PrincipalId;
use super::config::{AuthConfig, KeyAlgorithm};
use super::keys::Keys;
use super::record::{Scope, Target};
use super::refusal::Reason;
use super::rights::{GrantMap, grant_map};
use crate::limits::SCOPES_MAX;

/// What a good token says.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) principal: PrincipalId,
    pub(super) claims: Arc<GrantMap>,
    /// When it ends, in seconds since 1970.
    pub(super) expires: u64,
}

/// The part of a token's header that is looked at.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// What must be understood by who takes the token. We understand none of it.
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<Number>,
    nbf: Option<Number>,
    iat: Option<Number>,
    iss: Option<String>,
    aud: Option<Audience>,
    rejoin: Option<OurClaim>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OurClaim {
    grants: Vec<GrantClaim>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantClaim {
    space: Option<String>,
    document: Option<String>,
    access: String,
}

/// Checks a token against keys and configuration, and reads it.
pub(super) fn verify(token: &str, keys: &Keys, config: &AuthConfig, now: Duration) -> Result<Verified, Reason> {
    let claims = signed_claims(token, keys, now)?;
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_| Reason::BadClaims)?;
    let expires = look_at_times(&claims, config, now.as_secs())?;
    look_at_parties(&claims, config)?;
    let principal = claims.sub.as_deref().and_then(PrincipalId::new).filter(|principal| !principal.is_link());
    let principal = principal.ok_or(Reason::BadClaims)?;
    let grants = claims.rejoin.map_or_else(Vec::new, |claim| claim.grants);
    if grants.len() > SCOPES_MAX {
        return Err(Reason::BadClaims);
    }
    let grants = grants.iter().map(GrantClaim::read).collect::<Option<Vec<_>>>().ok_or(Reason::BadClaims)?;
    Ok(Verified { principal, claims: Arc::new(grant_map(&grants)), expires })
}

/// Returns a token's claims as they were signed, if one of the keys did.
fn signed_claims(token: &str, keys: &Keys, now: Duration) -> Result<Vec<u8>, Reason> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Reason::Malformed);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(Reason::Malformed)?;
    let (header, claims) = message.split_once('.').ok_or(Reason::Malformed)?;
    let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| Reason::Malformed);
    let (header, claims) = (decode(header)?, decode(claims)?);
    let header: Header = serde_json::from_slice(&header).map_err(|_| Reason::Malformed)?;
    if header.crit.is_some() {
        return Err(Reason::Malformed);
    }
    let algorithm = KeyAlgorithm::named(&header.alg).ok_or(Reason::UnknownKey)?;
    let mut fitting = keys.fitting(algorithm, header.kid.as_deref(), now);
    if fitting.is_empty() {
        // Whoever signs may have begun to use a key just now.
        keys.look(now);
        fitting = keys.fitting(algorithm, header.kid.as_deref(), now);
    }
    if fitting.is_empty() {
        return Err(Reason::UnknownKey);
    }
    let is_signed = fitting.iter().any(|key| key.signed(message, signature));
    if is_signed { Ok(claims) } else { Err(Reason::BadSignature) }
}

/// Looks at a token's times, and says when it ends.
///
/// It ends when it says, so that nobody stays longer than was allowed; only one that comes just after its end, by a clock that is
/// not quite ours, is let in for the leeway.
fn look_at_times(claims: &Claims, config: &AuthConfig, now_seconds: u64) -> Result<u64, Reason> {
    let leeway = config.leeway_seconds;
    let expires = claims.exp.as_ref().and_then(seconds).ok_or(Reason::BadClaims)?;
    if expires.saturating_add(leeway) <= now_seconds {
        return Err(Reason::Expired);
    }
    if expires > now_seconds.saturating_add(config.jwt_lifetime_max_seconds).saturating_add(leeway) {
        return Err(Reason::TooLong);
    }
    for begins in [&claims.nbf, &claims.iat].into_iter().flatten() {
        if seconds(begins).ok_or(Reason::BadClaims)? > now_seconds.saturating_add(leeway) {
            return Err(Reason::NotYet);
        }
    }
    Ok(if expires > now_seconds { expires } else { expires.saturating_add(leeway) })
}

/// Looks by whom and for whom a token is.
fn look_at_parties(claims: &Claims, config: &AuthConfig) -> Result<(), Reason> {
    let is_among = |name: &String, names: &[String]| names.contains(name);
    if !config.issuer.is_empty() && !claims.iss.as_ref().is_some_and(|issuer| is_among(issuer, &config.issuer)) {
        return Err(Reason::WrongIssuer);
    }
    let is_ours = match &claims.aud {
        // Without an audience of our own, a token that has one is for somebody else.
        None => config.audience.is_empty(),
        Some(Audience::One(audience)) => is_among(audience, &config.audience),
        Some(Audience::Many(audiences)) => audiences.iter().any(|audience| is_among(audience, &config.audience)),
    };
    if is_ours { Ok(()) } else { Err(Reason::WrongAudience) }
}

/// Reads a time in seconds since 1970, which may have a fraction.
fn seconds(number: &Number) -> Option<u64> {
    number.as_u64().or_else(|| number.to_string().split_once('.')?.0.parse().ok())
}

impl GrantClaim {
    fn read(&self) -> Option<Scope> {
        let target = match (self.space.as_deref(), self.document.as_deref()) {
            (Some(space), None) => read_space_target(space)?,
            (None, Some(document)) => Target::Document(document.parse().ok()?),
            _ => return None,
        };
        Some(Scope { target, access: read_access(&self.access)? })
    }
}

/// Reads a space as tokens and requests name it: its id, `default`, or `*` for all of them.
pub(super) fn read_space_target(text: &str) -> Option<Target> {
    match text {
        "*" => Some(Target::Everything),
        "default" => Some(Target::Space(SpaceId::DEFAULT)),
        id => id.parse().ok().map(Target::Space),
    }
}

/// Reads an access by its name.
pub(super) fn read_access(text: &str) -> Option<Access> {
    match text {
        "read" => Some(Access::Read),
        "write" => Some(Access::Write),
        "admin" => Some(Access::Admin),
        _ => None,
    }
}
