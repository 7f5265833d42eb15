//! Tickets: what a token is exchanged for by clients that can only give a URL.
//!
//! URLs end up in logs of proxies and histories of browsers, so no token belongs there that lasts. A ticket may be used for a
//! minute, as often as a client connects; what it stands for is in it, so nothing is kept of it here.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rejoin::store::record::{Reader, put_bytes, put_uint};
use rejoin::store::{Store, StoreError, StoreExt, Table};
use std::sync::Arc;

use super::directory::{Directory, DirectoryError};
use super::encoding::{self, Fields as _, TICKET_KEY};
use super::permit::Permit;
use super::record::{Scope, TokenId};
use super::refusal::Reason;
use super::rights::grant_map;
use super::secret::{SecretText, TICKET_PREFIX};
use super::state::Origin;
use super::{Ended, PrincipalId};

/// A ticket, for who showed a token.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// The ticket.
    pub text: SecretText,
    /// Until when it may be used, in seconds since 1970. A connection may last longer: as long as the token.
    pub expires: u64,
}

/// What tickets are sealed with.
pub(super) struct TicketKey {
    seal: EncodingKey,
    check: DecodingKey,
}

/// What is before the payload of each ticket when it is sealed, so that the key's seal means nothing elsewhere.
const SEALED_AS: &str = "rejoin-ticket-1.";

impl TicketKey {
    /// Takes the store's key, and makes it one if it has none. In a store that takes no writes the key ends with the process.
    pub(super) fn open(store: &dyn Store) -> Result<Self, DirectoryError> {
        if let Some(key) = store.read()?.get(Table::Directory, TICKET_KEY)? {
            return Self::read(&key);
        }
        let mut key = [0; 33];
        getrandom::fill(&mut key[1..]).map_err(DirectoryError::Entropy)?;
        key[0] = encoding::VERSION;
        if let Err(error) = store.write_with(|tx| tx.put(Table::Directory, TICKET_KEY, &key)) {
            tracing::warn!(%error, "the key of tickets is not stored: tickets end with this process");
        }
        Self::read(&key)
    }

    fn read(key: &[u8]) -> Result<Self, DirectoryError> {
        let mut reader = Reader::new(key, "the key of tickets");
        reader.version()?;
        let secret: [u8; 32] = reader.array()?;
        reader.end()?;
        Ok(Self { seal: EncodingKey::from_secret(&secret), check: DecodingKey::from_secret(&secret) })
    }

    /// Seals what a ticket stands for.
    fn write(&self, principal: Option<&PrincipalId>, origin: &Origin, expires: u64) -> Option<SecretText> {
        let mut payload = vec![encoding::VERSION];
        put_uint(&mut payload, expires);
        match (origin, principal) {
            (Origin::Stored(id), _) => {
                payload.push(0);
                payload.extend_from_slice(id.as_bytes());
            }
            (Origin::Jwt { claims, expires, .. }, Some(principal)) => {
                payload.push(1);
                put_uint(&mut payload, *expires);
                put_bytes(&mut payload, principal.as_str().as_bytes());
                put_uint(&mut payload, claims.len() as u64);
                for (target, right) in &**claims {
                    encoding::put_target(&mut payload, target);
                    payload.push(encoding::access_byte(right.access));
                }
            }
            _ => return None,
        }
        let payload = URL_SAFE_NO_PAD.encode(payload);
        let seal = crypto::sign(format!("{SEALED_AS}{payload}").as_bytes(), &self.seal, Algorithm::HS256).ok()?;
        Some(SecretText::new(format!("{TICKET_PREFIX}{payload}.{seal}")))
    }

    /// Opens a ticket. Whether what it stands for is still good is looked at elsewhere.
    pub(super) fn open_ticket(&self, text: &str, now_seconds: u64) -> Result<Opened, Reason> {
        let sealed = text.strip_prefix(TICKET_PREFIX).ok_or(Reason::Malformed)?;
        let (payload, seal) = sealed.split_once('.').ok_or(Reason::Malformed)?;
        let message = format!("{SEALED_AS}{payload}");
        match crypto::verify(seal, message.as_bytes(), &self.check, Algorithm::HS256) {
            Ok(true) => {}
            Ok(false) => return Err(Reason::BadSignature),
            Err(_) => return Err(Reason::Malformed),
        }
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| Reason::Malformed)?;
        let opened = read_payload(&payload).map_err(|_| Reason::Malformed)?;
        if opened.expires <= now_seconds { Err(Reason::Expired) } else { Ok(opened) }
    }
}

/// What a ticket stands for.
pub(super) struct Opened {
    expires: u64,
    pub(super) stands_for: StandsFor,
}

pub(super) enum StandsFor {
    Stored(TokenId),
    Jwt { principal: PrincipalId, claims: Vec<Scope>, expires: u64 },
}

fn read_payload(payload: &[u8]) -> Result<Opened, StoreError> {
    let mut reader = Reader::new(payload, "a ticket");
    reader.version()?;
    let expires = reader.uint()?;
    let stands_for = match reader.byte()? {
        0 => StandsFor::Stored(TokenId::from_bytes(reader.array()?)),
        1 => {
            let expires = reader.uint()?;
            let principal = reader.bytes().and_then(|id| reader.principal(id))?;
            StandsFor::Jwt { principal, claims: reader.scopes()?, expires }
        }
        _ => return Err(reader.damaged()),
    };
    reader.end()?;
    Ok(Opened { expires, stands_for })
}

impl Directory {
    /// Makes a ticket for who holds a permit: good for as long as is configured, and never longer than what it stands for.
    ///
    /// # Errors
    ///
    /// [`Ended`] if the permit is over, or nothing that a ticket could stand for.
    pub fn ticket(&self, permit: &Permit) -> Result<Ticket, Ended> {
        permit.check()?;
        let held = permit.held().ok_or(Ended::Revoked)?;
        let expires = self.now().as_secs().saturating_add(self.config().ticket_seconds);
        let expires = permit.expires().map_or(expires, |end| end.min(expires));
        let text = self.tickets.write(held.principal.as_ref(), &held.origin, expires).ok_or(Ended::Revoked)?;
        Ok(Ticket { text, expires })
    }

    /// Lets somebody in who shows a ticket.
    pub(super) fn admit_by_ticket(self: &Arc<Self>, text: &str, now_seconds: u64) -> Result<Permit, Reason> {
        match self.tickets.open_ticket(text, now_seconds)?.stands_for {
            StandsFor::Stored(id) => {
                let principal = self.holder_of(id).ok_or(Reason::Revoked)?;
                self.permit(principal, Origin::Stored(id))
            }
            StandsFor::Jwt { principal, claims, expires } => {
                let known = self.state().principals.contains_key(&principal);
                let origin = Origin::Jwt { claims: Arc::new(grant_map(&claims)), expires, known };
                self.permit(Some(principal), origin)
            }
        }
    }
}
