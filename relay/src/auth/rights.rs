//! Rights: what may be done, evaluated from grants.
//!
//! Rights are layers, each of which must allow a thing: what a principal was granted, what its token is narrowed to, what the maker
//! of a share link may do. So another layer can only take away. Within a layer the greatest grant wins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rejoin::codec::v1::Access;
use rejoin::{DocumentId, SpaceId};

use super::record::{Scope, Target};

/// What is granted for one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Right {
    pub(super) access: Access,
    /// Until when, in seconds since 1970.
    pub(super) until: Option<u64>,
}

impl Right {
    fn at(&self, now_seconds: u64) -> Option<Access> {
        self.until.is_none_or(|until| now_seconds < until).then_some(self.access)
    }
}

/// What is granted, for each thing once.
pub(super) type GrantMap = BTreeMap<Target, Right>;

/// Makes a map of a token's list, the greatest for each thing.
pub(super) fn grant_map<'s>(scopes: impl IntoIterator<Item = &'s Scope>) -> GrantMap {
    let mut map = GrantMap::new();
    for scope in scopes {
        let right = map.entry(scope.target).or_insert(Right { access: scope.access, until: None });
        right.access = right.access.max(scope.access);
    }
    map
}

/// Grants from one or more sources, of which the greatest wins.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer(pub(super) Vec<Arc<GrantMap>>);

impl Layer {
    fn target(&self, target: &Target, now_seconds: u64) -> Option<Access> {
        self.0.iter().filter_map(|map| map.get(target)?.at(now_seconds)).max()
    }

    fn space(&self, space: &SpaceId, now_seconds: u64) -> Option<Access> {
        self.target(&Target::Space(*space), now_seconds).max(self.target(&Target::Everything, now_seconds))
    }

    fn document(&self, space: &SpaceId, document: &DocumentId, now_seconds: u64) -> Option<Access> {
        self.target(&Target::Document(*document), now_seconds).max(self.space(space, now_seconds))
    }

    fn knows(&self, space: &SpaceId, now_seconds: u64) -> bool {
        let first = Target::Document(DocumentId::from_bytes([0; 16]));
        let documents = || self.0.iter().flat_map(|map| map.range(first..));
        self.space(space, now_seconds).is_some() || documents().any(|(_, right)| right.at(now_seconds).is_some())
    }
}

/// What somebody may do, as of one state of the directory. Grants in it end by the clock.
#[derive(Debug, Clone, Default)]
pub(super) struct Rights {
    /// Each must allow a thing. None at all allow nothing.
    pub(super) layers: Vec<Layer>,
    /// Spaces in which nobody writes.
    pub(super) archived: Arc<BTreeSet<SpaceId>>,
    /// When the token ends by itself, in seconds since 1970.
    pub(super) expires: Option<u64>,
}

impl Rights {
    /// Returns what may be done in all of a space. Cost: a look-up or two in each layer.
    pub(super) fn space(&self, space: &SpaceId, now_seconds: u64) -> Option<Access> {
        self.least(space, |layer| layer.space(space, now_seconds))
    }

    /// Returns what may be done with a document of a space.
    pub(super) fn document(&self, space: &SpaceId, document: &DocumentId, now_seconds: u64) -> Option<Access> {
        self.least(space, |layer| layer.document(space, document, now_seconds))
    }

    /// Says whether anything may be done in a space, or with a document that may be in it.
    pub(super) fn knows(&self, space: &SpaceId, now_seconds: u64) -> bool {
        !self.layers.is_empty() && self.layers.iter().all(|layer| layer.knows(space, now_seconds))
    }

    fn least(&self, space: &SpaceId, ask: impl Fn(&Layer) -> Option<Access>) -> Option<Access> {
        let access = self.layers.iter().map(ask).min().flatten()?;
        Some(if self.archived.contains(space) { access.min(Access::Read) } else { access })
    }
}
