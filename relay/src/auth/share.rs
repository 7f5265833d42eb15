//! Share links: tokens that somebody makes of what they may do themselves, for less of it and a while.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use rejoin::codec::v1::Access;

use super::acts::{draw, look_at_label, make_room};
use super::directory::{Directory, DirectoryError};
use super::permit::Permit;
use super::record::{NewShare, Scope, StoredToken, Target, TokenId, TokenKind, TokenRecord};
use super::rights::{Layer, Rights};
use super::secret::{SecretHash, SecretText, write_token};
use super::state::Origin;
use super::{Ended, PrincipalId};
use crate::limits::{SHARE_DEPTH_MAX, SHARES_PER_LINK_MAX, SHARES_SWEPT_EVERY, SHARES_SWEPT_MAX};

/// Why nothing was shared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// The permit of who asks is over.
    #[error("the token is over")]
    Ended(Ended),
    /// Who asks may not do that, or there is no such thing.
    #[error("there is no such space or document, or not for you")]
    Forbidden,
    /// It cannot be done.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// What a new share link stands on.
struct Basis {
    parent: Option<TokenId>,
    claimed: bool,
    /// When what it stands on ends, if the link may not last longer.
    expires: Option<u64>,
    /// How many links may stand on it.
    max: usize,
}

impl Directory {
    /// Makes a share link of what the holder of a permit may do, and returns it with its text, which is shown this once.
    ///
    /// # Errors
    ///
    /// [`ShareError`]: among others if the holder may do less, has too many links already, or the link is made of links of links.
    pub fn share(&self, permit: &Permit, new: NewShare) -> Result<(TokenRecord, SecretText), ShareError> {
        permit.check().map_err(ShareError::Ended)?;
        let may = match new.target {
            Target::Everything => None,
            Target::Space(space) => permit.space(&space),
            Target::Document(document) => permit.document(&new.space, &document),
        };
        let invalid = |what| ShareError::Directory(DirectoryError::Invalid { what });
        if new.access == Access::Admin {
            return Err(invalid("a share link allows to read or write"));
        }
        if new.expires_in_seconds == Some(0) {
            return Err(invalid("the link would be over already"));
        }
        if may.is_none_or(|may| may < new.access) {
            return Err(ShareError::Forbidden);
        }
        look_at_label(new.label.as_deref())?;
        let (now_seconds, longest) = (self.now().as_secs(), self.config().share_lifetime_max_seconds);
        let writing = self.writing();
        self.sweep(&writing, now_seconds)?;
        let basis = self.basis(permit, &new, now_seconds)?;
        let maker = permit.principal().cloned();
        let over = make_room(&self.state(), maker.as_ref(), TokenKind::Link, now_seconds, basis.max)?;
        let life = new.expires_in_seconds.map_or(longest, |life| life.min(longest));
        let end = now_seconds.saturating_add(life);
        let (id, secret) = draw()?;
        let record = TokenRecord {
            id,
            kind: TokenKind::Link,
            principal: maker,
            label: new.label,
            created: now_seconds,
            expires: Some(basis.expires.map_or(end, |before| before.min(end))),
            revoked: false,
            scope: Some(vec![Scope { target: new.target, access: new.access }]),
        };
        let token = StoredToken {
            record: record.clone(),
            hash: SecretHash::of(&secret),
            parent: basis.parent,
            claimed: basis.claimed,
            home: Some(new.space),
        };
        self.put_tokens(&writing, over, vec![token])?;
        Ok((record, write_token(TokenKind::Link, id, &secret)))
    }

    /// Lists the share links that the holder of a permit made and that are not over. Those of people without a name are nobody's: one is
    /// not told from another.
    pub fn shares(&self, permit: &Permit) -> Vec<TokenRecord> {
        let now_seconds = self.now().as_secs();
        let is_good = |record: &&TokenRecord| {
            record.kind == TokenKind::Link && !record.revoked && record.expires.is_none_or(|end| end > now_seconds)
        };
        let state = self.state();
        if permit.principal().is_none() {
            return Vec::new();
        }
        state.tokens_of(permit.principal()).map(|token| &token.record).filter(is_good).cloned().collect()
    }

    /// Revokes a share link that the holder of a permit made, and returns whether there was one to revoke. One that was made without a
    /// name is revoked by whoever has its id and no name either.
    ///
    /// # Errors
    ///
    /// [`ShareError`] if the permit is over or the store cannot be written.
    pub fn unshare(&self, permit: &Permit, id: TokenId) -> Result<bool, ShareError> {
        permit.check().map_err(ShareError::Ended)?;
        let is_own =
            |record: &TokenRecord| record.kind == TokenKind::Link && record.principal.as_ref() == permit.principal();
        if !self.token(id).as_ref().is_some_and(is_own) {
            return Ok(false);
        }
        Ok(self.revoke_token(id)?)
    }

    /// Says on what a link stands that the holder of a permit makes.
    fn basis(&self, permit: &Permit, new: &NewShare, now_seconds: u64) -> Result<Basis, ShareError> {
        let max = self.config().shares_per_principal_max;
        let none = Basis { parent: None, claimed: false, expires: None, max };
        let Some(held) = permit.held() else { return Ok(none) };
        let state = self.state();
        match (&held.origin, &held.principal) {
            (Origin::Stored(id), _) => {
                let token = state.tokens.get(id).ok_or(ShareError::Ended(Ended::Revoked))?;
                let parent = Some(*id);
                if token.record.kind == TokenKind::Api {
                    return Ok(Basis { parent, ..none });
                }
                if state.depth(*id) >= SHARE_DEPTH_MAX {
                    return Err(DirectoryError::Invalid { what: "a link cannot be made of a link of a link" }.into());
                }
                Ok(Basis { parent, claimed: false, expires: token.record.expires, max: SHARES_PER_LINK_MAX })
            }
            (Origin::Jwt { .. }, Some(principal)) => {
                // What is stored is asked for again and again; what only the token says cannot be.
                let layers = vec![Layer(vec![state.stored(principal)])];
                let stored = Rights { layers, ..Rights::default() };
                let may = match new.target {
                    Target::Document(document) => stored.document(&new.space, &document, now_seconds),
                    _ => stored.space(&new.space, now_seconds),
                };
                Ok(Basis { claimed: may.is_none_or(|may| may < new.access), ..none })
            }
            _ => Ok(none),
        }
    }

    /// Returns who comes with a stored token, if there is such a token.
    pub(super) fn holder_of(&self, id: TokenId) -> Option<Option<PrincipalId>> {
        let state = self.state();
        let record = &state.tokens.get(&id)?.record;
        Some(match record.kind {
            TokenKind::Api => record.principal.clone(),
            TokenKind::Link => Some(PrincipalId::of_link(id)),
        })
    }

    /// Removes share links that are over from time to time, so that nobody's old links take the room of others.
    fn sweep(&self, writing: &MutexGuard<'_, ()>, now_seconds: u64) -> Result<(), DirectoryError> {
        let last = self.swept_seconds.load(Ordering::Relaxed);
        if now_seconds.saturating_sub(last) < SHARES_SWEPT_EVERY.as_secs() {
            return Ok(());
        }
        self.swept_seconds.store(now_seconds, Ordering::Relaxed);
        let over: Vec<TokenId> = {
            let state = self.state();
            let records = state.tokens.values().map(|token| &token.record);
            let over = records.filter(|record| {
                let is_over = record.revoked || record.expires.is_some_and(|end| end <= now_seconds);
                record.kind == TokenKind::Link && is_over
            });
            over.map(|record| record.id).take(SHARES_SWEPT_MAX).collect()
        };
        if over.is_empty() { Ok(()) } else { self.put_tokens(writing, over, Vec::new()) }
    }
}
