//! Whether the log is what it should be: gapless, and made of what is in the ledger.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{LOG, Run, Standing, append, decode_standing, end, put_standing, spaces, standing};
use crate::id::{DocumentId, SpaceId};
use crate::ledger::state;
use crate::store::record::{Reader, position_of_key, prefix_end};
use crate::store::{ReadTx, StoreError, Table, WriteTx};

/// What is wrong with the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken {
    /// In which space, if it is known.
    pub(crate) space: Option<SpaceId>,
    /// Whose entries, if it is about one document's.
    pub(crate) document: Option<DocumentId>,
    /// Where; 0 if it is about no position.
    pub(crate) position: u64,
    /// What; completes "the log ".
    pub(crate) reason: &'static str,
}

/// Goes through the log of every space, and tells what is wrong. Memory: some 50 bytes for each document.
pub(crate) fn check(tx: &(impl ReadTx + ?Sized), tell: &mut dyn FnMut(Broken)) -> Result<(), StoreError> {
    let mut checking = Checking { documents: BTreeMap::new(), space: None, tell };
    checking.read_standings(tx)?;
    tx.scan(Table::Log, &[]..&prefix_end(&[u8::MAX]), &mut |key, value| {
        checking.row(key, value);
        ControlFlow::Continue(())
    })?;
    if let Some(walk) = checking.space.take() {
        walk.finish(checking.tell);
    }
    checking.end_documents(tx)
}

/// Voids what is logged of a document if it is not what the document has, and logs it again. Returns whether it did.
pub(crate) fn mend(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId) -> Result<bool, StoreError> {
    let mut broken = false;
    check(tx, &mut |found| broken |= found.document == Some(*document))?;
    if !broken {
        return Ok(false);
    }
    let deletion = standing(tx, document).ok().flatten().and_then(|standing| standing.deletion);
    let void_below = end(tx, &spaces::of(tx, document)?)? + 1;
    put_standing(tx, document, &Standing { void_below, count: 0, deletion })?;
    append(tx, document)?;
    Ok(true)
}

/// A document while the log is gone through.
struct Followed {
    standing: Standing,
    space: SpaceId,
    /// How many of its changes the live entries hold.
    next: u64,
    broken: bool,
}

/// A space while its log is gone through.
struct Walk {
    space: SpaceId,
    /// `None` if the space does not say it.
    end: Option<u64>,
    at: u64,
}

impl Walk {
    fn finish(&self, tell: &mut dyn FnMut(Broken)) {
        if self.end.is_some_and(|end| end != self.at) {
            let reason = "does not end where it says";
            tell(Broken { space: Some(self.space), document: None, position: self.at, reason });
        }
    }
}

struct Checking<'c> {
    documents: BTreeMap<DocumentId, Followed>,
    space: Option<Walk>,
    tell: &'c mut dyn FnMut(Broken),
}

impl Checking<'_> {
    fn read_standings(&mut self, tx: &(impl ReadTx + ?Sized)) -> Result<(), StoreError> {
        let mut failed = None;
        tx.scan(Table::Logged, &[]..&prefix_end(&[u8::MAX]), &mut |key, value| {
            let document = key.try_into().ok().map(DocumentId::from_bytes);
            match (document, decode_standing(value)) {
                (Some(document), Ok(standing)) => match spaces::of(tx, &document) {
                    Ok(space) => {
                        let followed = Followed { standing, space, next: 0, broken: false };
                        self.documents.insert(document, followed);
                    }
                    Err(error) => failed = Some(error),
                },
                (document, _) => {
                    let reason = "has a record that does not decode";
                    (self.tell)(Broken { space: None, document, position: 0, reason });
                }
            }
            if failed.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        failed.map_or(Ok(()), Err)
    }

    fn row(&mut self, key: &[u8], value: &[u8]) {
        let Some(space) = key.first_chunk::<16>().map(|bytes| SpaceId::from_bytes(*bytes)) else {
            (self.tell)(Broken { space: None, document: None, position: 0, reason: "has a key that is none of ours" });
            return;
        };
        let mut walk = match self.space.take() {
            Some(walk) if walk.space == space => walk,
            other => {
                if let Some(walk) = other {
                    walk.finish(self.tell);
                }
                if key.len() == 16 {
                    let end = Reader::new(value, LOG).count().ok();
                    self.space = Some(Walk { space, end, at: 0 });
                    return;
                }
                self.tell(space, 0, "does not say where it ends");
                Walk { space, end: None, at: 0 }
            }
        };
        match (position_of_key(key), Run::decode(value)) {
            (Ok(last), Ok(run)) => {
                let first = walk.at + 1;
                if walk.at.checked_add(run.positions()) != Some(last) {
                    self.tell(space, first, "has a gap");
                }
                walk.at = last;
                self.run(space, first, &run);
            }
            _ => self.tell(space, walk.at + 1, "has an entry that does not decode"),
        }
        self.space = Some(walk);
    }

    fn tell(&mut self, space: SpaceId, position: u64, reason: &'static str) {
        (self.tell)(Broken { space: Some(space), document: None, position, reason });
    }

    /// Follows a document's entries.
    fn run(&mut self, space: SpaceId, first: u64, run: &Run) {
        let broken = |reason| Broken { space: Some(space), document: Some(run.document), position: first, reason };
        let Some(followed) = self.documents.get_mut(&run.document) else {
            (self.tell)(broken("has an entry of a document that it does not know"));
            return;
        };
        if run.changes == 0 || followed.space != space || first < followed.standing.void_below || followed.broken {
            return;
        }
        if run.ledger_first != followed.next {
            followed.broken = true;
            (self.tell)(broken("has the changes of a document in another order than the ledger"));
        }
        followed.next = run.ledger_first.saturating_add(run.changes);
    }

    fn end_documents(&mut self, tx: &(impl ReadTx + ?Sized)) -> Result<(), StoreError> {
        for (document, followed) in &self.documents {
            let here = match state(tx, document) {
                Ok(state) => state.map_or(0, |state| state.count),
                // The document's own check tells.
                Err(StoreError::Damaged { .. }) => continue,
                Err(error) => return Err(error),
            };
            let reason = if followed.broken {
                continue;
            } else if followed.standing.count > here {
                "has changes that are not there"
            } else if followed.standing.count != followed.next {
                "has more or fewer changes of the document than were logged"
            } else {
                continue;
            };
            let space = Some(followed.space);
            (self.tell)(Broken { space, document: Some(*document), position: 0, reason });
        }
        Ok(())
    }
}
