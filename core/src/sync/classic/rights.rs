//! What the other side of a connection may do, document by document, asked anew at each frame.
//!
//! Whoever may not read a document is answered as if it were not there. Whoever may read it and not write it gets it, and what
//! that one brings is dropped and not asked for again.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::{CLOSE_POLICY, ClassicSession, Output};
use crate::codec::v1::Access;
use crate::id::{DocumentId, SpaceId};
use crate::ledger::{self, spaces};
use crate::limits::SESSION_DOCUMENTS_MAX;
use crate::store::{ReadTx, StoreError};
use crate::sync::v1::Grants;

/// The rights of the other side; all of them if none were set.
#[derive(Default)]
pub(super) struct Rights {
    grants: Option<Box<dyn Grants>>,
    /// The spaces of documents that are here: one stays in its space as long as it lives.
    homes: HashMap<DocumentId, SpaceId>,
    /// Documents of which it was said that something of them was dropped.
    told: HashSet<DocumentId>,
    /// Documents that were called unavailable because they may not be read.
    denied: HashSet<DocumentId>,
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rights").field("are_limited", &self.grants.is_some()).finish_non_exhaustive()
    }
}

impl Rights {
    /// Returns what may be done with a document. Cost: two lookups the first time, none later.
    fn access(&mut self, document: &DocumentId, tx: &dyn ReadTx) -> Result<Option<Access>, StoreError> {
        let Some(grants) = &self.grants else { return Ok(Some(Access::Admin)) };
        if grants.is_held(document) {
            return Ok(None);
        }
        Ok(grants.document(&home(&mut self.homes, document, tx)?, document))
    }

    fn may_delete(&mut self, document: &DocumentId, tx: &dyn ReadTx) -> Result<bool, StoreError> {
        let Some(grants) = &self.grants else { return Ok(true) };
        let space = home(&mut self.homes, document, tx)?;
        let in_space = grants.access(&space);
        Ok(!grants.is_held(document)
            && (in_space.is_some_and(Access::may_write) || grants.document(&space, document) == Some(Access::Admin)))
    }

    pub(super) fn forget(&mut self, document: &DocumentId) {
        self.homes.remove(document);
        self.told.remove(document);
    }
}

fn home(
    homes: &mut HashMap<DocumentId, SpaceId>,
    document: &DocumentId,
    tx: &dyn ReadTx,
) -> Result<SpaceId, StoreError> {
    if let Some(space) = homes.get(document) {
        return Ok(*space);
    }
    let space = spaces::of(tx, document)?;
    if ledger::state(tx, document)?.is_some() {
        homes.insert(*document, space);
    }
    Ok(space)
}

impl ClassicSession {
    /// Sets what the other side may do. Default: everything.
    ///
    /// Asked anew for each frame in either direction, with the space in which the document is: one that is nowhere yet comes to be
    /// in the default space.
    pub fn set_rights(&mut self, grants: Box<dyn Grants>) {
        self.rights.grants = Some(grants);
    }

    /// Returns what the other side may do with a document, and sees to it that its conversation keeps to that.
    pub(super) fn access(&mut self, document: &DocumentId, tx: &dyn ReadTx) -> Result<Option<Access>, StoreError> {
        let access = self.rights.access(document, tx)?;
        if let Some(conversation) = self.conversations.get_mut(document) {
            conversation.set_asks(access.is_some_and(Access::may_write));
        } else {
            // Of what nobody talks about nothing is remembered.
            self.rights.forget(document);
        }
        Ok(access)
    }

    /// Answers a message about a document that may not be read: each that asks, and of the others the first. Who is told that a
    /// document is not here may well offer it anew, again and again.
    pub(super) fn deny(&mut self, document: DocumentId, is_request: bool) {
        self.forget(&document);
        let is_first = self.rights.denied.insert(document);
        if self.rights.denied.len() > SESSION_DOCUMENTS_MAX {
            self.fail(CLOSE_POLICY, format!("more than {SESSION_DOCUMENTS_MAX} documents on one connection"));
        } else if is_request || is_first {
            self.say_unavailable(document);
        }
    }

    pub(super) fn may_delete(&mut self, document: &DocumentId, tx: &dyn ReadTx) -> Result<bool, StoreError> {
        let may = self.rights.may_delete(document, tx)?;
        if !self.conversations.contains_key(document) {
            self.rights.forget(document);
        }
        Ok(may)
    }

    /// Drops the changes that are being taken in, and tells so once for each document.
    pub(super) fn drop_changes(&mut self, document: DocumentId) {
        if let Some(conversation) = self.conversations.get_mut(&document) {
            conversation.handle_deleted();
        }
        if self.rights.told.insert(document) {
            self.outputs.push_back(Output::Forbidden { document, is_deletion: false });
        }
    }
}

#[cfg(test)]
mod tests;
