//! Who owns the actors of documents: the principal for whom an actor's first change was stored.
//!
//! Only a relay that knows who writes keeps these rows. They go with the document.

use automerge::ActorId;

use crate::id::DocumentId;
use crate::store::{ReadTx, StoreError, Table, WriteTx};

/// Returns the name of the principal that an actor belongs to in a document, or `None` if it belongs to nobody. Cost: one lookup.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn get(tx: &(impl ReadTx + ?Sized), document: &DocumentId, actor: &ActorId) -> Result<Option<String>, StoreError> {
    let Some(bytes) = tx.get(Table::Owner, &key(document, actor))? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|_| StoreError::Damaged { what: "the owner of an actor" })
}

/// Notes that an actor belongs to a principal in a document, whomever it belonged to before.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn put(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    actor: &ActorId,
    principal: &str,
) -> Result<(), StoreError> {
    tx.put(Table::Owner, &key(document, actor), principal.as_bytes())
}

fn key(document: &DocumentId, actor: &ActorId) -> Vec<u8> {
    [document.as_bytes(), actor.to_bytes()].concat()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::ledger;
    use crate::store::{MemoryStore, Store, StoreExt};

    #[test]
    fn actor_belongs_to_one_principal_in_each_document_until_that_is_deleted() {
        let store = MemoryStore::new();
        let [here, there] = [1, 2].map(|number| DocumentId::from_bytes([number; 16]));
        let actors = [&b"a"[..], b"ab"].map(ActorId::from);
        store
            .write_with(|tx| {
                put(tx, &here, &actors[0], "alice")?;
                put(tx, &here, &actors[1], "bob")?;
                put(tx, &there, &actors[0], "carol")
            })
            .unwrap();
        let owner = |document, actor| get(&*store.read().unwrap(), document, actor).unwrap();
        assert_eq!(owner(&here, &actors[0]).as_deref(), Some("alice"));
        assert_eq!(owner(&here, &actors[1]).as_deref(), Some("bob"));
        assert_eq!(owner(&there, &actors[1]), None);
        store.write_with(|tx| ledger::delete(tx, &here)).unwrap();
        assert_eq!((owner(&here, &actors[0]), owner(&here, &actors[1])), (None, None));
        assert_eq!(owner(&there, &actors[0]).as_deref(), Some("carol"));
    }
}
