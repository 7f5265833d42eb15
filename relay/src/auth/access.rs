//! Where a token is taken from, and how many bad ones an address may show.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use axum::http::{HeaderMap, HeaderValue, Uri};
use rejoin::codec::v1::SUBPROTOCOL;

use super::limiter::AddressLimiter;
use super::refusal::Reason;
use super::secret::{SecretText, TICKET_PREFIX};
use super::{Directory, Permit, Refusal, TokenKind};
use crate::limits::{BAD_TOKEN_FORGIVEN, BAD_TOKENS_AT_ONCE, TOKEN_REQUEST_INTERVAL, TOKEN_REQUESTS_AT_ONCE};

/// What stands before a token that is offered as a subprotocol.
const BEARER_SUBPROTOCOL: &str = "rejoin.bearer.";

/// The name of the classic protocol, for those who offer a token as a subprotocol and need another one to be answered with.
pub(crate) const CLASSIC_SUBPROTOCOL: &str = "rejoin.classic";

/// How much may come from one address.
#[derive(Debug)]
pub(crate) struct Guard {
    bad_tokens: AddressLimiter,
    requests: AddressLimiter,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            bad_tokens: AddressLimiter::new(BAD_TOKENS_AT_ONCE, BAD_TOKEN_FORGIVEN),
            requests: AddressLimiter::new(TOKEN_REQUESTS_AT_ONCE, TOKEN_REQUEST_INTERVAL),
        }
    }
}

impl Directory {
    /// Lets somebody in who shows a token, as [`Directory::admit`] does, unless too many bad ones came from that address. A token
    /// that was good once is no bad one.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub fn admit_from(self: &Arc<Self>, address: IpAddr, token: Option<&str>) -> Result<Permit, Refusal> {
        if !self.guard.bad_tokens.has_room(address, self.now()) {
            return Err(self.note(Reason::Throttled));
        }
        self.try_admit(token).map_err(|reason| {
            if reason.may_be_a_guess() {
                self.guard.bad_tokens.count(address, self.now());
            }
            self.note(reason)
        })
    }

    /// Says whether one more request for a ticket or share link may come from an address, and counts it.
    pub(super) fn takes_request(&self, address: IpAddr) -> bool {
        self.guard.requests.take(address, self.now())
    }
}

/// What a request for a WebSocket says of who asks.
#[derive(Debug)]
pub(crate) struct Credentials {
    /// The token, if there is one. Of several, what stands first here counts: header, subprotocol, query.
    token: Option<SecretText>,
    /// What is answered as the chosen subprotocol.
    pub(crate) subprotocol: Option<HeaderValue>,
    /// Whether that is `rejoin.v1`.
    pub(crate) is_v1: bool,
}

impl Credentials {
    /// Reads them.
    pub(crate) fn of(headers: &HeaderMap, uri: &Uri) -> Self {
        let offered: Vec<_> =
            headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok()).collect();
        let offered = || offered.iter().flat_map(|list| list.split(',')).map(str::trim);
        let bearer = offered().find(|name| name.starts_with(BEARER_SUBPROTOCOL));
        let known = [SUBPROTOCOL, CLASSIC_SUBPROTOCOL].into_iter().find(|known| offered().any(|name| name == *known));
        let token = bearer_token(headers)
            .or_else(|| bearer?.strip_prefix(BEARER_SUBPROTOCOL).map(SecretText::new))
            .or_else(|| query_token(uri));
        Self { token, subprotocol: known.or(bearer).and_then(answered), is_v1: known == Some(SUBPROTOCOL) }
    }

    /// Lets in who has them. Who comes without a token to `rejoin.v1` may still show one in the first message: that one gets no
    /// permit yet.
    pub(crate) fn admit(&self, directory: &Arc<Directory>, address: IpAddr) -> Result<Option<Permit>, Refusal> {
        if self.token.is_none() && self.is_v1 && !directory.is_open() {
            return Ok(None);
        }
        directory.admit_from(address, self.token.as_ref().map(SecretText::expose)).map(Some)
    }
}

/// Returns what is answered as the chosen subprotocol: a browser that offered something wants one of it. As it may hold a token,
/// it does not show.
fn answered(name: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(name).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Returns the token of an `Authorization` header. Another scheme than `Bearer` is a token that nobody takes.
pub(super) fn bearer_token(headers: &HeaderMap) -> Option<SecretText> {
    let value = headers.get(AUTHORIZATION)?.to_str().unwrap_or_default();
    let is_bearer = value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer "));
    Some(SecretText::new(if is_bearer { value.get(7..).unwrap_or_default().trim() } else { "-" }))
}

/// Returns the token of a query. URLs are written down in too many places for a token that lasts: one of those is as good as a
/// wrong one.
fn query_token(uri: &Uri) -> Option<SecretText> {
    let value = uri.query()?.split('&').find_map(|pair| pair.strip_prefix("ticket="))?;
    let is_for_urls = value.starts_with(TICKET_PREFIX) || value.starts_with(TokenKind::Link.prefix());
    Some(SecretText::new(if is_for_urls { value } else { "-" }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use axum::http::HeaderName;
    use axum::http::header::COOKIE;

    use super::*;

    fn headers(all: &[(HeaderName, &str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn token(all: &[(HeaderName, &str)], uri: &'static str) -> Option<String> {
        let credentials = Credentials::of(&headers(all), &Uri::from_static(uri));
        assert!(!format!("{credentials:?}").contains("canary"), "{credentials:?}");
        credentials.token.map(|token| token.expose().to_owned())
    }

    #[test]
    fn token_is_found_in_three_places_and_nowhere_else() {
        let found = Some("canary".to_owned());
        assert_eq!(token(&[(AUTHORIZATION, "Bearer canary")], "/"), found);
        assert_eq!(token(&[(AUTHORIZATION, "bearer  canary ")], "/"), found);
        assert_eq!(token(&[(SEC_WEBSOCKET_PROTOCOL, "chat, rejoin.bearer.canary")], "/"), found);
        assert_eq!(token(&[], "/a?b=c&ticket=rjk_canary"), Some("rjk_canary".to_owned()));
        assert_eq!(token(&[], "/a?ticket=rjs_canary"), Some("rjs_canary".to_owned()));
        assert_eq!(token(&[], "/a?ticket=rjt_canary"), Some("-".to_owned()), "not in a URL");
        assert_eq!(token(&[(COOKIE, "canary")], "/canary?token=canary"), None);
        let both = [(AUTHORIZATION, "Bearer canary"), (SEC_WEBSOCKET_PROTOCOL, "rejoin.bearer.other")];
        assert_eq!(token(&both, "/?ticket=rjk_another"), found);
    }
}
