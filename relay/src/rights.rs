//! Rights: what the sessions of both protocols ask is asked of the permit that the other side was let in with, and of
//! the quarantine.

use std::sync::Arc;

use rejoin::codec::v1::Access;
use rejoin::sync::v1::Grants;
use rejoin::{DocumentId, SpaceId};

use crate::auth::Permit;
use crate::quarantine::Quarantine;

/// What a permit allows, but for documents that are in quarantine.
pub(crate) struct Allowed {
    pub(crate) permit: Permit,
    pub(crate) quarantine: Arc<Quarantine>,
}

impl Grants for Allowed {
    fn access(&self, space: &SpaceId) -> Option<Access> {
        self.permit.space(space)
    }

    fn document(&self, space: &SpaceId, document: &DocumentId) -> Option<Access> {
        self.permit.document(space, document)
    }

    fn is_held(&self, document: &DocumentId) -> bool {
        self.quarantine.is_quarantined(document)
    }

    fn knows(&self, space: &SpaceId) -> bool {
        self.permit.knows(space)
    }
}
