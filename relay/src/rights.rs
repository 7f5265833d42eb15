//! Rights: what the sessions of both protocols ask is asked of the permit that the other side was let in with.

use rejoin::codec::v1::Access;
use rejoin::sync::v1::Grants;
use rejoin::{DocumentId, SpaceId};

use crate::auth::Permit;

impl Grants for Permit {
    fn access(&self, space: &SpaceId) -> Option<Access> {
        self.space(space)
    }

    fn document(&self, space: &SpaceId, document: &DocumentId) -> Option<Access> {
        Permit::document(self, space, document)
    }

    fn knows(&self, space: &SpaceId) -> bool {
        Permit::knows(self, space)
    }
}
