//! Rights: the one place where the relay decides what a peer may do. There are no grants yet, so everybody may.

use rejoin::{DocumentId, PeerId};

/// Says whether a peer may delete a document everywhere. What it may not is not answered.
pub(crate) fn may_delete(_peer: Option<&PeerId>, _document: &DocumentId) -> bool {
    true
}
