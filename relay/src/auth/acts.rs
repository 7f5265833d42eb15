//! What an administrator does to the directory, and reads from it.
//!
//! Lists are pages: what comes after something, as many as are wanted, in the order of their ids.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::MutexGuard;

use rejoin::SpaceId;
use rejoin::store::Table;

use super::PrincipalId;
use super::directory::{Directory, DirectoryError, Effect, put};
use super::encoding;
use super::record::{Grant, NewToken, Principal, SpaceRecord, StoredToken, Target, TokenId, TokenKind, TokenRecord};
use super::rights::{GrantMap, Right};
use super::secret::{SecretHash, SecretText, write_token};
use super::state::{Known, State};
use crate::limits::{
    GRANTS_MAX, GRANTS_PER_PRINCIPAL_MAX, LABEL_BYTES_MAX, PRINCIPALS_MAX, SCOPES_MAX, SPACE_RECORDS_MAX, TOKENS_MAX,
    TOKENS_PER_PRINCIPAL_MAX,
};

/// Principals.
impl Directory {
    /// Lists the principals that are written down.
    pub fn principals(&self, after: Option<&PrincipalId>, limit: usize) -> Vec<Principal> {
        let state = self.state();
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        state.principals.range::<PrincipalId, _>(range).take(limit).map(|(_, known)| known.record.clone()).collect()
    }

    /// Returns a principal, if it is written down.
    pub fn principal(&self, id: &PrincipalId) -> Option<Principal> {
        self.state().principals.get(id).map(|known| known.record.clone())
    }

    /// Writes a principal down, or changes it. To disable one ends its connections and share links, and refuses all of its
    /// tokens until it is enabled again.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] if the label is too long, the name is that of a share link, there are too many, or the store cannot be
    /// written.
    pub fn put_principal(
        &self,
        id: PrincipalId,
        label: Option<String>,
        disabled: bool,
    ) -> Result<Principal, DirectoryError> {
        look_at_name(&id)?;
        look_at_label(label.as_deref())?;
        let writing = self.writing();
        let before = self.principal(&id);
        if before.is_none() {
            look_at_room(self.state().principals.len(), PRINCIPALS_MAX, "principals")?;
        }
        let created_seconds = before.as_ref().map_or_else(|| self.now().as_secs(), |before| before.created_seconds);
        let principal = Principal { id, label, disabled, created_seconds };
        let (key, value) = (encoding::principal_key(&principal.id), encoding::write_principal(&principal));
        let record = principal.clone();
        self.commit(
            &writing,
            |tx| put(tx, &key, Some(&value)),
            |state| {
                state.generation += 1;
                let generation = state.generation;
                let known = state.principals.entry(record.id.clone());
                let known = known.or_insert_with(|| Known { record: record.clone(), born: generation, cut: 0 });
                known.record = record;
                if disabled {
                    known.cut = generation;
                }
            },
        )?;
        let changes = before.is_none_or(|before| before.disabled != disabled);
        if changes {
            self.tell(Some(&principal.id), if disabled { Effect::Ended } else { Effect::Changed });
        }
        Ok(principal)
    }

    /// Deletes a principal with its tokens, share links and grants, and returns whether it was there. Who has a JWT for it may
    /// come in again, with what its claims say: to keep somebody out, disable it.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Store`] if the store cannot be written.
    pub fn delete_principal(&self, id: &PrincipalId) -> Result<bool, DirectoryError> {
        let writing = self.writing();
        let (was_there, tokens): (bool, Vec<TokenId>) = {
            let state = self.state();
            let was_there = state.principals.contains_key(id) || state.grants.contains_key(id);
            (was_there, state.tokens_of(Some(id)).map(|token| token.record.id).collect())
        };
        if !was_there && tokens.is_empty() {
            return Ok(false);
        }
        let grants = encoding::grants_prefix(id);
        // No target begins with a byte as great as that.
        let grants_end = [&grants[..], &[u8::MAX]].concat();
        let (key, removed) = (encoding::principal_key(id), &tokens);
        self.commit(
            &writing,
            |tx| {
                tx.delete(Table::Directory, &key)?;
                removed.iter().try_for_each(|id| tx.delete(Table::Directory, &encoding::token_key(*id)))?;
                tx.delete_range(Table::Grant, &grants..&grants_end)
            },
            |state| {
                state.generation += 1;
                state.principals.remove(id);
                removed.iter().for_each(|id| state.remove_token(*id));
                let granted = state.grants.remove(id).map_or(0, |grants| grants.len());
                state.grant_count -= granted;
            },
        )?;
        self.tell(Some(id), Effect::Ended);
        Ok(true)
    }
}

/// Tokens.
impl Directory {
    /// Lists the stored tokens, share links among them: of one principal, or all.
    pub fn tokens(&self, principal: Option<&PrincipalId>, after: Option<TokenId>, limit: usize) -> Vec<TokenRecord> {
        let state = self.state();
        let is_after = |token: &&StoredToken| after.is_none_or(|after| token.record.id > after);
        let record = |token: &StoredToken| token.record.clone();
        match principal {
            Some(_) => state.tokens_of(principal).filter(is_after).take(limit).map(record).collect(),
            None => {
                let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
                state.tokens.range(range).take(limit).map(|(_, token)| record(token)).collect()
            }
        }
    }

    /// Returns a stored token, if it is there.
    pub fn token(&self, id: TokenId) -> Option<TokenRecord> {
        self.state().tokens.get(&id).map(|token| token.record.clone())
    }

    /// Makes an API token, and returns it with its text, which is shown this once.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] if its principal is not written down, it would be over already, there are too many, or the store cannot
    /// be written.
    pub fn create_token(&self, new: NewToken) -> Result<(TokenRecord, SecretText), DirectoryError> {
        look_at_label(new.label.as_deref())?;
        let writing = self.writing();
        self.make_token(&writing, new, None)
    }

    /// Revokes a stored token, and returns whether that was news. Its connections end, and those of share links made with it.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Unknown`] if there is no such token; [`DirectoryError::Store`] if the store cannot be written.
    pub fn revoke_token(&self, id: TokenId) -> Result<bool, DirectoryError> {
        let writing = self.writing();
        let token = self.state().tokens.get(&id).cloned();
        let mut token = token.ok_or(DirectoryError::Unknown { what: "token" })?;
        if token.record.revoked {
            return Ok(false);
        }
        let root = self.root_of(id);
        token.record.revoked = true;
        let (key, value) = (encoding::token_key(id), encoding::write_token(&token));
        self.commit(&writing, |tx| put(tx, &key, Some(&value)), |state| state.put_token(token))?;
        self.tell(root.as_ref(), Effect::Ended);
        Ok(true)
    }

    /// Makes an API token that takes the place of another one: with the same principal, label and scope, and as long a life. The
    /// old one ends after a grace, at once if that is 0.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] as of [`Directory::create_token`]; [`DirectoryError::Invalid`] for a share link, or one that is over.
    pub fn rotate_token(&self, id: TokenId, grace_seconds: u64) -> Result<(TokenRecord, SecretText), DirectoryError> {
        let writing = self.writing();
        let now_seconds = self.now().as_secs();
        let old = self.state().tokens.get(&id).cloned();
        let mut old = old.ok_or(DirectoryError::Unknown { what: "token" })?;
        let is_over = old.record.revoked || old.record.expires.is_some_and(|expires| expires <= now_seconds);
        let principal = match old.record.principal.clone() {
            Some(principal) if old.record.kind == TokenKind::Api && !is_over => principal,
            _ => return Err(DirectoryError::Invalid { what: "only an API token that is not over can be rotated" }),
        };
        let life = old.record.expires.map(|expires| expires.saturating_sub(old.record.created));
        let new = NewToken {
            principal,
            label: old.record.label.clone(),
            expires: life.map(|life| now_seconds.saturating_add(life)),
            scope: old.record.scope.clone(),
        };
        let end = now_seconds.saturating_add(grace_seconds);
        old.record.expires = Some(old.record.expires.map_or(end, |expires| expires.min(end)));
        self.make_token(&writing, new, Some(old))
    }

    /// Makes an API token, and changes another one in the same transaction.
    fn make_token(
        &self,
        writing: &MutexGuard<'_, ()>,
        new: NewToken,
        other: Option<StoredToken>,
    ) -> Result<(TokenRecord, SecretText), DirectoryError> {
        let now_seconds = self.now().as_secs();
        let NewToken { principal, label, expires, scope } = new;
        if expires.is_some_and(|expires| expires <= now_seconds) {
            return Err(DirectoryError::Invalid { what: "the token would be over already" });
        }
        if scope.as_ref().is_some_and(|scope| scope.is_empty() || scope.len() > SCOPES_MAX) {
            return Err(DirectoryError::Invalid { what: "a scope has 1 to 128 entries" });
        }
        let over = {
            let state = self.state();
            if !state.principals.contains_key(&principal) {
                return Err(DirectoryError::Unknown { what: "principal" });
            }
            make_room(&state, Some(&principal), TokenKind::Api, now_seconds, TOKENS_PER_PRINCIPAL_MAX)?
        };
        let (id, secret) = draw()?;
        let record = TokenRecord {
            id,
            kind: TokenKind::Api,
            principal: Some(principal.clone()),
            label,
            created: now_seconds,
            expires,
            revoked: false,
            scope,
        };
        let token = StoredToken {
            record: record.clone(),
            hash: SecretHash::of(&secret),
            parent: None,
            claimed: false,
            home: None,
        };
        let changes_another = other.is_some();
        self.put_tokens(writing, over, [Some(token), other].into_iter().flatten().collect())?;
        if changes_another {
            self.tell(Some(&principal), Effect::Ended);
        }
        Ok((record, write_token(TokenKind::Api, id, &secret)))
    }

    /// Removes some tokens and puts others.
    pub(super) fn put_tokens(
        &self,
        writing: &MutexGuard<'_, ()>,
        removed: Vec<TokenId>,
        put_too: Vec<StoredToken>,
    ) -> Result<(), DirectoryError> {
        self.commit(
            writing,
            |tx| {
                removed.iter().try_for_each(|id| tx.delete(Table::Directory, &encoding::token_key(*id)))?;
                put_too.iter().try_for_each(|token| {
                    put(tx, &encoding::token_key(token.record.id), Some(&encoding::write_token(token)))
                })
            },
            |state| {
                removed.iter().for_each(|id| state.remove_token(*id));
                put_too.iter().for_each(|token| state.put_token(token.clone()));
            },
        )
    }
}

/// Grants.
impl Directory {
    /// Lists the grants of one principal, or of all.
    pub fn grants(
        &self,
        principal: Option<&PrincipalId>,
        after: Option<&(PrincipalId, Target)>,
        limit: usize,
    ) -> Vec<Grant> {
        let state = self.state();
        let start = principal.max(after.map(|(principal, _)| principal));
        let range = (start.map_or(Bound::Unbounded, Bound::Included), Bound::Unbounded);
        let maps = state.grants.range::<PrincipalId, _>(range);
        let maps = maps.take_while(|(of, _)| principal.is_none_or(|principal| *of == principal));
        let mut grants = Vec::new();
        for (of, map) in maps {
            let first = match after {
                Some((principal, target)) if principal == of => Bound::Excluded(*target),
                _ => Bound::Unbounded,
            };
            for (target, right) in map.range((first, Bound::Unbounded)) {
                if grants.len() == limit {
                    return grants;
                }
                let Right { access, until } = *right;
                grants.push(Grant { principal: of.clone(), target: *target, access, until });
            }
        }
        grants
    }

    /// Grants something, in place of what was granted to the same principal for the same thing.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] if the name is that of a share link, there are too many, or the store cannot be written.
    pub fn put_grant(&self, grant: Grant) -> Result<Grant, DirectoryError> {
        look_at_name(&grant.principal)?;
        let writing = self.writing();
        {
            let state = self.state();
            let granted = state.stored(&grant.principal);
            if !granted.contains_key(&grant.target) {
                look_at_room(granted.len(), GRANTS_PER_PRINCIPAL_MAX, "grants of this principal")?;
                look_at_room(state.grant_count, GRANTS_MAX, "grants")?;
            }
        }
        let key = encoding::grant_key(&grant.principal, &grant.target);
        let value = encoding::write_right(&Right { access: grant.access, until: grant.until });
        self.commit(&writing, |tx| tx.put(Table::Grant, &key, &value), |state| state.put_grant(&grant))?;
        // It may be less than before, which ends share links.
        self.tell(Some(&grant.principal), Effect::Ended);
        Ok(grant)
    }

    /// Takes back what was granted, and returns whether it was.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Store`] if the store cannot be written.
    pub fn remove_grant(&self, principal: &PrincipalId, target: &Target) -> Result<bool, DirectoryError> {
        let writing = self.writing();
        if !self.state().stored(principal).contains_key(target) {
            return Ok(false);
        }
        let key = encoding::grant_key(principal, target);
        self.commit(&writing, |tx| tx.delete(Table::Grant, &key), |state| state.remove_grant(principal, target))?;
        self.tell(Some(principal), Effect::Ended);
        Ok(true)
    }
}

/// What is known of spaces.
impl Directory {
    /// Lists the spaces that are written down.
    pub fn spaces(&self, after: Option<&SpaceId>, limit: usize) -> Vec<SpaceRecord> {
        let state = self.state();
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        state.spaces.range::<SpaceId, _>(range).take(limit).map(|(_, space)| space.clone()).collect()
    }

    /// Returns what is known of a space, if it is written down.
    pub fn space(&self, id: &SpaceId) -> Option<SpaceRecord> {
        self.state().spaces.get(id).cloned()
    }

    /// Writes down what is known of a space. When it was written down first stays as it is.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] if the name is too long, there are too many, or the store cannot be written.
    pub fn put_space(&self, mut space: SpaceRecord) -> Result<SpaceRecord, DirectoryError> {
        look_at_label(space.name.as_deref())?;
        let writing = self.writing();
        let before = self.space(&space.id);
        match &before {
            Some(before) => space.created_seconds = before.created_seconds,
            None => look_at_room(self.state().spaces.len(), SPACE_RECORDS_MAX, "spaces")?,
        }
        let (key, value) = (encoding::space_key(&space.id), encoding::write_space(&space));
        self.commit(&writing, |tx| put(tx, &key, Some(&value)), |state| state.put_space(space.clone()))?;
        if before.is_some_and(|before| before.archived) != space.archived {
            self.tell_all(Effect::Changed);
        }
        Ok(space)
    }

    /// Forgets what is known of a space, with all that was granted for it, and returns whether it was known. Its documents stay.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Store`] if the store cannot be written.
    pub fn remove_space(&self, id: &SpaceId) -> Result<bool, DirectoryError> {
        let writing = self.writing();
        let target = Target::Space(*id);
        let (was_known, granted): (bool, BTreeSet<PrincipalId>) = {
            let state = self.state();
            let has_it = |grants: &GrantMap| grants.contains_key(&target);
            let granted = state.grants.iter().filter(|(_, grants)| has_it(grants)).map(|(of, _)| of.clone());
            (state.spaces.contains_key(id), granted.collect())
        };
        let (key, of) = (encoding::space_key(id), &granted);
        self.commit(
            &writing,
            |tx| {
                tx.delete(Table::Directory, &key)?;
                of.iter().try_for_each(|principal| tx.delete(Table::Grant, &encoding::grant_key(principal, &target)))
            },
            |state| {
                state.remove_space(id);
                of.iter().for_each(|principal| state.remove_grant(principal, &target));
            },
        )?;
        self.tell_all(Effect::Ended);
        Ok(was_known || !granted.is_empty())
    }
}

/// Says which tokens of a principal are over and may go, if there is room for one more without them.
pub(super) fn make_room(
    state: &State,
    principal: Option<&PrincipalId>,
    kind: TokenKind,
    now_seconds: u64,
    max: usize,
) -> Result<Vec<TokenId>, DirectoryError> {
    let is_over = |token: &&StoredToken| {
        token.record.revoked || token.record.expires.is_some_and(|expires| expires <= now_seconds)
    };
    let of_kind = || state.tokens_of(principal).filter(|token| token.record.kind == kind);
    let (count, over) = (of_kind().count(), of_kind().filter(is_over).map(|token| token.record.id));
    let is_full = count >= max || state.tokens.len() >= TOKENS_MAX;
    let over: Vec<_> = if is_full { over.collect() } else { Vec::new() };
    look_at_room(count - over.len(), max, "tokens of this principal")?;
    look_at_room(state.tokens.len() - over.len(), TOKENS_MAX, "tokens")?;
    Ok(over)
}

/// Draws a token's id and secret.
pub(super) fn draw() -> Result<(TokenId, [u8; 32]), DirectoryError> {
    let (mut id, mut secret) = ([0; 8], [0; 32]);
    getrandom::fill(&mut id).map_err(DirectoryError::Entropy)?;
    getrandom::fill(&mut secret).map_err(DirectoryError::Entropy)?;
    Ok((TokenId::from_bytes(id), secret))
}

pub(super) fn look_at_label(label: Option<&str>) -> Result<(), DirectoryError> {
    let fits = label.is_none_or(|label| label.len() <= LABEL_BYTES_MAX && !label.chars().any(char::is_control));
    if fits {
        Ok(())
    } else {
        Err(DirectoryError::Invalid { what: "a label or name has up to 256 bytes without control characters" })
    }
}

fn look_at_name(principal: &PrincipalId) -> Result<(), DirectoryError> {
    if principal.is_link() {
        return Err(DirectoryError::Invalid { what: "names that begin with link: are those of share links" });
    }
    Ok(())
}

fn look_at_room(count: usize, max: usize, what: &'static str) -> Result<(), DirectoryError> {
    if count < max { Ok(()) } else { Err(DirectoryError::Full { what, max }) }
}
