//! Who may write under which actor: the principal for whom an actor's first change was stored in a document.
//!
//! The first change of an actor that is stored for a named principal binds it, in the same transaction. From then on nobody else
//! writes under it, neither another principal nor somebody without a name.

use std::collections::HashMap;

use rejoin::ledger::owners;
use rejoin::store::{StoreError, WriteTx};
use rejoin::{ActorId, DocumentId};

use crate::auth::PrincipalId;

/// Whose an actor is, as seen by who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    Writer,
    SomebodyElse,
}

/// The owners of the actors in one part of a commit. Cost: one lookup for each actor of it.
pub(super) struct Owners<'a> {
    document: &'a DocumentId,
    principal: Option<&'a PrincipalId>,
    /// Whether owners are asked at all; if not, none come to be either.
    are_asked: bool,
    known: HashMap<ActorId, Owner>,
}

impl<'a> Owners<'a> {
    pub(super) fn new(document: &'a DocumentId, principal: Option<&'a PrincipalId>, are_asked: bool) -> Self {
        Self { document, principal, are_asked, known: HashMap::new() }
    }

    /// Says whether the writer may write under an actor.
    pub(super) fn may_write(&mut self, tx: &dyn WriteTx, actor: &ActorId) -> Result<bool, StoreError> {
        Ok(!self.are_asked || self.owner(tx, actor)? != Owner::SomebodyElse)
    }

    /// Notes that a change of an actor is stored for the writer, who owns it from now on if nobody does.
    pub(super) fn bind(&mut self, tx: &mut dyn WriteTx, actor: &ActorId) -> Result<(), StoreError> {
        let Some(principal) = self.principal.filter(|_| self.are_asked) else { return Ok(()) };
        if self.owner(tx, actor)? == Owner::Nobody {
            owners::put(tx, self.document, actor, principal.as_str())?;
            self.known.insert(actor.clone(), Owner::Writer);
        }
        Ok(())
    }

    /// Forgets what was looked up: the document was deleted meanwhile.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    fn owner(&mut self, tx: &dyn WriteTx, actor: &ActorId) -> Result<Owner, StoreError> {
        if let Some(owner) = self.known.get(actor) {
            return Ok(*owner);
        }
        let owner = match owners::get(tx, self.document, actor)? {
            None => Owner::Nobody,
            Some(name) if self.principal.is_some_and(|principal| principal.as_str() == name) => Owner::Writer,
            Some(_) => Owner::SomebodyElse,
        };
        self.known.insert(actor.clone(), owner);
        Ok(owner)
    }
}
