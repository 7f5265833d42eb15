//! Comparing a document with what a peer says it has, without a conversation.

use automerge::ChangeHash;

use super::{position, state, tombstone};
use crate::id::DocumentId;
use crate::store::{ReadTx, StoreError};

/// How what is here stands to what a peer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// Both have the same changes.
    Same,
    /// The peer lacks changes that are here.
    TheyLack,
    /// Changes are lacking here that the peer has.
    WeLack,
    /// Changes are lacking here; the peer may lack some too, which shows when its own are here.
    Both,
    /// The document was deleted everywhere.
    Deleted,
}

/// Compares a document with the heads of a peer; a document that is not here has no changes.
///
/// Cost: one lookup for each head that is not one here too, and one of each pack's filter.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn compare(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    their_heads: &[ChangeHash],
) -> Result<Compared, StoreError> {
    let Some(state) = state(tx, document)? else {
        return Ok(match (tombstone::is_buried(tx, document)?, their_heads.is_empty()) {
            (true, _) => Compared::Deleted,
            (false, true) => Compared::Same,
            (false, false) => Compared::WeLack,
        });
    };
    let is_head = |hash: &ChangeHash| state.heads.binary_search_by(|head| head.hash.cmp(hash)).is_ok();
    let mut shown = 0;
    let mut unknown = false;
    for hash in their_heads {
        if is_head(hash) {
            shown += 1;
        } else {
            unknown = unknown || position(tx, document, hash)?.is_none();
        }
    }
    // A peer that names a head twice only makes itself seem to have more, and gets less.
    Ok(match (shown >= state.heads.len(), unknown) {
        (true, false) => Compared::Same,
        (true, true) => Compared::WeLack,
        (false, false) => Compared::TheyLack,
        (false, true) => Compared::Both,
    })
}
