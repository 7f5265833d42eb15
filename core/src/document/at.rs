//! Editing at an earlier state: what somebody typed at an index who had not seen the latest changes yet.

use std::collections::HashSet;

use automerge::{Automerge, ChangeHash, ReadDoc};

use super::DocumentError;
use super::read::check_heads;

/// Returns the heads of the state that holds these changes and what they stand on, for
/// [`Materialised::edit_at`](super::Materialised::edit_at); `None` if that is the whole document.
///
/// `changes` need be no heads: some may stand on others. Cost: one lookup each.
///
/// # Errors
///
/// [`DocumentError::UnknownHeads`] names those that the document lacks.
pub fn base_of(automerge: &Automerge, changes: &[ChangeHash]) -> Result<Option<Vec<ChangeHash>>, DocumentError> {
    let mut heads: HashSet<ChangeHash> = changes.iter().copied().collect();
    if automerge.get_heads().iter().all(|head| heads.contains(head)) {
        // What the document lacks besides would still be a mistake of the caller.
        check_heads(automerge, changes)?;
        return Ok(None);
    }
    check_heads(automerge, changes)?;
    for change in changes {
        if let Some(change) = automerge.get_change_by_hash(change) {
            for dep in change.deps() {
                heads.remove(dep);
            }
        }
    }
    let mut heads: Vec<ChangeHash> = heads.into_iter().collect();
    heads.sort_unstable();
    Ok(Some(heads))
}
