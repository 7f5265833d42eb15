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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use automerge::transaction::{Transactable, Transaction};
    use automerge::{ActorId, ObjType, ROOT};

    use super::*;
    use crate::document::write::find_or_make;
    use crate::document::{Commit, FieldPath, Materialised};
    use crate::id::DocumentId;

    const COMMIT: Commit = Commit { message: None, time_seconds: 0 };

    fn splice(at: usize, text: &str) -> impl FnOnce(&mut Transaction<'_>) -> Result<(), DocumentError> {
        move |tx| {
            let body = find_or_make(tx, &FieldPath::from("body"), ObjType::Text)?;
            Ok(tx.splice_text(&body, at, 0, text)?)
        }
    }

    fn text(materialised: &Materialised) -> String {
        let (_, body) = materialised.automerge().get(ROOT, "body").unwrap().unwrap();
        materialised.automerge().text(&body).unwrap()
    }

    #[test]
    fn two_who_type_at_indices_of_before_never_garble_each_other() {
        let mut document = Materialised::new(DocumentId::from_bytes([1; 16]), ActorId::from(&[1; 16]));
        document.edit(&COMMIT, splice(0, "[][]")).unwrap();
        let start = document.automerge().get_heads();
        let mut own = [start.clone(), start];
        for at in 0..4 {
            for (who, (place, typed)) in [(1, ["a", "b", "c", "d"]), (3, ["w", "x", "y", "z"])].into_iter().enumerate()
            {
                let base = base_of(document.automerge(), &own[who]).unwrap();
                let (_, change) = document.edit_at(&COMMIT, base.as_deref(), splice(place + at, typed[at])).unwrap();
                let change = change.unwrap();
                assert!(change.deps().len() <= 2, "what stands on another is left out");
                own[who].push(change.hash());
            }
        }
        assert_eq!(text(&document), "[abcd][wxyz]");
    }

    #[test]
    fn the_state_of_now_needs_no_heads_and_an_unknown_one_is_told() {
        let mut document = Materialised::new(DocumentId::from_bytes([1; 16]), ActorId::from(&[1; 16]));
        document.edit(&COMMIT, splice(0, "a")).unwrap();
        let first = document.automerge().get_heads();
        document.edit(&COMMIT, splice(1, "b")).unwrap();
        let all = [first.clone(), document.automerge().get_heads()].concat();
        assert_eq!(base_of(document.automerge(), &all).unwrap(), None);
        assert_eq!(base_of(document.automerge(), &first).unwrap(), Some(first));
        let unknown = base_of(document.automerge(), &[ChangeHash([7; 32])]);
        assert!(matches!(unknown, Err(DocumentError::UnknownHeads { missing }) if missing.len() == 1));
    }
}
