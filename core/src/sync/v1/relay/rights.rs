//! What a client may do in one space at this moment.
//!
//! Who has a right in the space has it for each of its documents, which is known without a look at any. Who was granted single
//! documents has the right where they are: a document that is not there by the store's word is as good as none, so that a
//! grant for a document opens no space.

use super::output::Grants;
use crate::codec::v1::{Access, Code, Content, Write};
use crate::id::{DocumentId, SpaceId};
use crate::ledger::{self, spaces};
use crate::store::{ReadTx, StoreError};

/// The rights of a client in a space.
pub(super) struct Rights<'a> {
    grants: &'a dyn Grants,
    space: &'a SpaceId,
    access: Option<Access>,
}

impl<'a> Rights<'a> {
    pub(super) fn new(grants: &'a dyn Grants, space: &'a SpaceId) -> Self {
        Self { grants, space, access: grants.access(space) }
    }

    /// Says whether the client may know of everything in the space.
    pub(super) fn sees_all(&self) -> bool {
        self.access.is_some()
    }

    /// Says whether the client may read a document that is in the space.
    pub(super) fn may_read(&self, document: &DocumentId) -> bool {
        !self.is_held(document) && (self.sees_all() || self.grants.document(self.space, document).is_some())
    }

    /// Says whether the document is put aside, so that nobody reads or writes it.
    pub(super) fn is_held(&self, document: &DocumentId) -> bool {
        self.grants.is_held(document)
    }

    /// Says whether the client may say something about a document to those who follow the space: about one that it may read and
    /// that is in the space, or nowhere yet. Cost: a lookup or two.
    pub(super) fn may_speak_of(&self, tx: &dyn ReadTx, document: &DocumentId) -> Result<bool, StoreError> {
        if !self.may_read(document) {
            return Ok(false);
        }
        let home = spaces::of(tx, document)?;
        let may_come_here = || self.sees_all() && home == SpaceId::DEFAULT;
        Ok(home == *self.space || may_come_here() && ledger::state(tx, document)?.is_none())
    }

    /// Returns why a write is not taken, if the client has no right to it. It is the same whether the document is there or not.
    pub(super) fn refusal(&self, tx: &dyn ReadTx, write: &Write) -> Result<Option<Code>, StoreError> {
        let is_held = self.is_held(&write.document);
        if !is_held && self.access.is_some_and(Access::may_write) {
            return Ok(None);
        }
        let access = self.grants.document(self.space, &write.document);
        let (may, code) = match write.content {
            Content::Change(_) | Content::PassedOn(_) => (access.is_some_and(Access::may_write), Code::ReadOnly),
            Content::Deleted(_) => (access == Some(Access::Admin), Code::DeleteForbidden),
        };
        Ok(if may && !is_held && self.is_here(tx, &write.document)? { None } else { Some(code) })
    }

    /// Says whether a write, a deletion say, is of a document in another space, and the client has the right to it there. Cost: a
    /// lookup or two.
    pub(super) fn may_elsewhere(&self, tx: &dyn ReadTx, write: &Write) -> Result<bool, StoreError> {
        let Some(home) = spaces::noted(tx, &write.document)?.filter(|home| home != self.space) else {
            return Ok(false);
        };
        Ok(Rights::new(self.grants, &home).refusal(tx, write)?.is_none())
    }

    fn is_here(&self, tx: &dyn ReadTx, document: &DocumentId) -> Result<bool, StoreError> {
        Ok(spaces::of(tx, document)? == *self.space)
    }
}
