//! Rights: the one place where the relay decides what a peer may do. There are no grants yet, so everybody may.

use rejoin::codec::v1::Access;
use rejoin::sync::v1::Grants;
use rejoin::{DocumentId, PeerId, SpaceId};

/// Says whether a peer may delete a document everywhere. What it may not is not answered.
pub(crate) fn may_delete(_peer: Option<&PeerId>, _document: &DocumentId) -> bool {
    true
}

/// What everybody is granted who speaks `rejoin.v1`: all of every space.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Everything;

impl Grants for Everything {
    fn access(&self, _space: &SpaceId) -> Option<Access> {
        Some(Access::Admin)
    }
}
