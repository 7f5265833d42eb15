//! What the directory knows, in memory: everything that stands in the store, and since when.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use rejoin::SpaceId;
use rejoin::codec::v1::Access;
use rejoin::store::{ReadTx, StoreError, Table};

use super::encoding::{self, PRINCIPAL, SPACE, TOKEN};
use super::record::{Grant, Principal, SpaceRecord, StoredToken, Target, TokenId, TokenKind, TokenRecord};
use super::rights::{GrantMap, Layer, Right, Rights, grant_map};
use super::{Ended, PrincipalId};
use crate::limits::SHARE_DEPTH_MAX;

/// What a permit stands on.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// The relay is open.
    Nobody,
    /// A JWT. Its claims are all that is left of it.
    Jwt {
        claims: Arc<GrantMap>,
        expires: u64,
        /// Whether its principal was written down when it came.
        known: bool,
    },
    /// A token that is stored.
    Stored(TokenId),
}

/// A principal that is written down.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) record: Principal,
    /// In which generation it was written down.
    pub(super) born: u64,
    /// Permits from before this generation are over: it was disabled.
    pub(super) cut: u64,
}

/// Everything that stands in the store.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) principals: BTreeMap<PrincipalId, Known>,
    /// Whole maps are handed out to permits, so a change makes a copy while one is in use.
    pub(super) grants: BTreeMap<PrincipalId, Arc<GrantMap>>,
    pub(super) grant_count: usize,
    pub(super) tokens: BTreeMap<TokenId, StoredToken>,
    /// Whose token is which.
    pub(super) tokens_of: BTreeSet<(Option<PrincipalId>, TokenId)>,
    pub(super) spaces: BTreeMap<SpaceId, SpaceRecord>,
    pub(super) archived: Arc<BTreeSet<SpaceId>>,
    /// Grows with all that ends permits or begins principals.
    pub(super) generation: u64,
}

impl State {
    /// Reads everything. Cost: a scan of both tables, about a second for a million records.
    pub(super) fn read(tx: &dyn ReadTx) -> Result<Self, StoreError> {
        let mut state = Self::default();
        let mut outcome = Ok(());
        tx.scan(Table::Directory, &[PRINCIPAL]..&[SPACE + 1], &mut |key, value| {
            outcome = state.take_record(key, value);
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        outcome?;
        let mut outcome = Ok(());
        tx.scan(Table::Grant, &[0]..&[u8::MAX], &mut |key, value| match encoding::read_grant(key, value) {
            Ok(grant) => {
                state.put_grant(&grant);
                ControlFlow::Continue(())
            }
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        })?;
        outcome?;
        Ok(state)
    }

    fn take_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        match key.split_first() {
            Some((&PRINCIPAL, id)) => {
                let record = encoding::read_principal(id, value)?;
                self.principals.insert(record.id.clone(), Known { record, born: 0, cut: 0 });
            }
            Some((&TOKEN, id)) => self.put_token(encoding::read_token(id, value)?),
            Some((&SPACE, id)) => self.put_space(encoding::read_space(id, value)?),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn put_token(&mut self, token: StoredToken) {
        self.tokens_of.insert((token.record.principal.clone(), token.record.id));
        self.tokens.insert(token.record.id, token);
    }

    pub(super) fn remove_token(&mut self, id: TokenId) {
        if let Some(token) = self.tokens.remove(&id) {
            self.tokens_of.remove(&(token.record.principal, id));
        }
    }

    pub(super) fn put_grant(&mut self, grant: &Grant) {
        let map = Arc::make_mut(self.grants.entry(grant.principal.clone()).or_default());
        let right = Right { access: grant.access, until: grant.until };
        self.grant_count += usize::from(map.insert(grant.target, right).is_none());
    }

    pub(super) fn remove_grant(&mut self, principal: &PrincipalId, target: &Target) {
        let Some(map) = self.grants.get_mut(principal) else { return };
        self.grant_count -= usize::from(Arc::make_mut(map).remove(target).is_some());
        if map.is_empty() {
            self.grants.remove(principal);
        }
    }

    pub(super) fn put_space(&mut self, space: SpaceRecord) {
        if space.archived != self.archived.contains(&space.id) {
            let archived = Arc::make_mut(&mut self.archived);
            let _ = if space.archived { archived.insert(space.id) } else { archived.remove(&space.id) };
        }
        self.spaces.insert(space.id, space);
    }

    pub(super) fn remove_space(&mut self, space: &SpaceId) {
        self.spaces.remove(space);
        if self.archived.contains(space) {
            Arc::make_mut(&mut self.archived).remove(space);
        }
    }

    /// Lists the tokens of one principal, or of nobody.
    pub(super) fn tokens_of(&self, principal: Option<&PrincipalId>) -> impl Iterator<Item = &StoredToken> {
        let of = |id| (principal.cloned(), TokenId::from_bytes([id; 8]));
        let range: RangeInclusive<_> = of(0)..=of(u8::MAX);
        self.tokens_of.range(range).filter_map(|(_, id)| self.tokens.get(id))
    }

    /// Returns who is at the beginning of a token: its principal, or who made the first of a chain of share links.
    pub(super) fn root(&self, id: TokenId) -> Option<&PrincipalId> {
        let mut token = self.tokens.get(&id)?;
        for _ in 0..=SHARE_DEPTH_MAX {
            match token.parent {
                Some(parent) => token = self.tokens.get(&parent)?,
                None => break,
            }
        }
        token.record.principal.as_ref()
    }

    /// Says on how many share links one stands, itself included.
    pub(super) fn depth(&self, id: TokenId) -> usize {
        let mut depth = 0;
        let mut next = self.tokens.get(&id);
        while let Some(token) = next.filter(|token| token.record.kind == TokenKind::Link && depth <= SHARE_DEPTH_MAX) {
            depth += 1;
            next = token.parent.and_then(|parent| self.tokens.get(&parent));
        }
        depth
    }

    /// Says what may be done by who was let in for this reason in this generation, or that it is over.
    pub(super) fn rights(
        &self,
        principal: Option<&PrincipalId>,
        origin: &Origin,
        admitted: u64,
        is_open: bool,
    ) -> Result<Rights, Ended> {
        let asked = Asked { admitted, is_open };
        let (layers, expires) = match (origin, principal) {
            (Origin::Nobody, _) if is_open => (vec![Layer(vec![everything()])], None),
            (Origin::Nobody, _) | (Origin::Jwt { .. }, None) => return Err(Ended::Revoked),
            (Origin::Jwt { claims, expires, known }, Some(principal)) => {
                self.look_at(principal, asked, *known)?;
                (vec![Layer(vec![Arc::clone(claims), self.stored(principal)])], Some(*expires))
            }
            (Origin::Stored(id), _) => {
                let token = self.tokens.get(id).ok_or(Ended::Revoked)?;
                (self.token_layers(token, asked, 0)?, token.record.expires)
            }
        };
        let rights = Rights { layers, archived: Arc::clone(&self.archived), expires };
        if let Origin::Stored(id) = origin {
            self.look_at_share(*id, &rights)?;
        }
        Ok(rights)
    }

    /// Ends if a principal is disabled, was so since it came, or is not written down any more.
    fn look_at(&self, principal: &PrincipalId, asked: Asked, must_be_known: bool) -> Result<(), Ended> {
        let is_over = match self.principals.get(principal) {
            Some(known) => {
                known.record.disabled || known.cut > asked.admitted || must_be_known && known.born > asked.admitted
            }
            None => must_be_known,
        };
        if is_over { Err(Ended::Revoked) } else { Ok(()) }
    }

    fn token_layers(&self, token: &StoredToken, asked: Asked, depth: usize) -> Result<Vec<Layer>, Ended> {
        if token.record.revoked || depth > SHARE_DEPTH_MAX {
            return Err(Ended::Revoked);
        }
        let mut layers = match (token.record.kind, token.parent, &token.record.principal) {
            (TokenKind::Api, _, Some(principal)) => {
                self.look_at(principal, asked, true)?;
                vec![Layer(vec![self.stored(principal)])]
            }
            (TokenKind::Link, Some(parent), _) => {
                let parent = self.tokens.get(&parent).ok_or(Ended::Revoked)?;
                self.token_layers(parent, asked, depth + 1)?
            }
            (TokenKind::Link, None, Some(maker)) => {
                self.look_at(maker, asked, false)?;
                if token.claimed { Vec::new() } else { vec![Layer(vec![self.stored(maker)])] }
            }
            (TokenKind::Link, None, None) if asked.is_open => Vec::new(),
            (TokenKind::Link, None, None) | (TokenKind::Api, _, None) => return Err(Ended::Revoked),
        };
        if let Some(scope) = &token.record.scope {
            layers.push(Layer(vec![Arc::new(grant_map(scope))]));
        }
        Ok(layers)
    }

    /// Ends a share link whose maker may not do any more what it shares.
    fn look_at_share(&self, id: TokenId, rights: &Rights) -> Result<(), Ended> {
        let Some(StoredToken { record: TokenRecord { kind: TokenKind::Link, scope, .. }, home, .. }) =
            self.tokens.get(&id)
        else {
            return Ok(());
        };
        let home = home.unwrap_or(SpaceId::DEFAULT);
        let target = scope.as_ref().and_then(|scope| scope.first()).map(|scope| scope.target);
        // What ends by the clock is asked for whenever something is done.
        let now_seconds = 0;
        let access = match target {
            Some(Target::Space(space)) => rights.space(&space, now_seconds),
            Some(Target::Document(document)) => rights.document(&home, &document, now_seconds),
            Some(Target::Everything) | None => None,
        };
        access.map(|_| ()).ok_or(Ended::Revoked)
    }

    /// Returns what is granted to a principal in the store.
    pub(super) fn stored(&self, principal: &PrincipalId) -> Arc<GrantMap> {
        self.grants.get(principal).map(Arc::clone).unwrap_or_default()
    }
}

/// By whom rights are asked for.
#[derive(Clone, Copy)]
struct Asked {
    /// The generation in which the permit came to be.
    admitted: u64,
    is_open: bool,
}

fn everything() -> Arc<GrantMap> {
    Arc::new(GrantMap::from([(Target::Everything, Right { access: Access::Admin, until: None })]))
}
