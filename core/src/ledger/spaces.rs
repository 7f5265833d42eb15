//! Spaces: which documents are synced and granted together.
//!
//! A document is in exactly one space: the one that was noted, or the default one. Once a log knows the document it stays
//! where it is, because those who follow that log would never hear that it left. A document may be noted before anything
//! of it is here: that is how a device knows of documents that it has not fetched.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::{log, tombstone};
use crate::id::{DocumentId, SpaceId};
use crate::store::record::prefix_end;
use crate::store::{ReadTx, StoreError, Table, WriteTx};

/// How many documents of the default space are looked at together.
const DOCUMENTS_AT_ONCE: usize = 1_024;

/// Stands behind the space of a document that is not wanted on this device.
const DISMISSED: u8 = 1;

/// What became of a document that was put into a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It is in that space now, or was already.
    There,
    /// It is in another space, and stays there.
    Elsewhere(SpaceId),
}

/// Puts a document into a space. It need not be here yet. Nothing happens if it is in another one already; where a log is
/// kept, what has changes and was put nowhere is in the default one.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn put(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId, space: &SpaceId) -> Result<Placed, StoreError> {
    let noted = noted(tx, document)?;
    let here = noted.unwrap_or(SpaceId::DEFAULT);
    if here != *space && (noted.is_some() || log::holds(tx, document)?) {
        return Ok(Placed::Elsewhere(here));
    }
    // One that was dismissed is wanted again.
    if *space != SpaceId::DEFAULT {
        note(tx, document, space)?;
        // Who lists a space wants what can be opened.
        if !tombstone::is_buried(tx, document)? {
            tx.put(Table::Member, &member_key(space, document), &[])?;
        }
    }
    Ok(Placed::There)
}

/// Says whether a document that is here is in a space. One that was put nowhere, and of which nothing is here yet, goes
/// there: it was only asked for, by somebody who knew its id and not where it is. Cost: one or two lookups.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub(crate) fn settle(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    is_empty: bool,
    space: &SpaceId,
) -> Result<bool, StoreError> {
    let here = of(tx, document)?;
    if here == *space {
        return Ok(true);
    }
    Ok(is_empty && here == SpaceId::DEFAULT && put(tx, document, space)? == Placed::There)
}

/// Returns the space a document is in, or was in if it was deleted everywhere. Cost: one lookup.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn of(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<SpaceId, StoreError> {
    Ok(noted(tx, document)?.unwrap_or(SpaceId::DEFAULT))
}

/// Visits the documents of a space in the order of their ids, those after `after`, until the visitor breaks. To go on later,
/// pass the last one visited.
///
/// Those that are noted and not here are among them, except in the default space; those that were deleted everywhere are
/// not. Cost: one row a document; in the default space, one row for each document of the store and each that is elsewhere.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn documents(
    tx: &(impl ReadTx + ?Sized),
    space: &SpaceId,
    after: Option<&DocumentId>,
    visit: &mut dyn FnMut(DocumentId) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    if *space == SpaceId::DEFAULT {
        return unnoted(tx, after, visit);
    }
    let start = match after {
        Some(after) => behind(&member_key(space, after)),
        None => space.as_bytes().to_vec(),
    };
    tx.scan(Table::Member, &start..&prefix_end(space.as_bytes()), &mut |key, _| match key.last_chunk::<16>() {
        Some(document) => visit(DocumentId::from_bytes(*document)),
        None => ControlFlow::Continue(()),
    })
}

/// Visits the documents that are here and noted nowhere.
fn unnoted(
    tx: &(impl ReadTx + ?Sized),
    after: Option<&DocumentId>,
    visit: &mut dyn FnMut(DocumentId) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let mut start = after.map_or_else(Vec::new, |after| behind(after.as_bytes()));
    let end = prefix_end(&[u8::MAX]);
    loop {
        let mut some: Vec<[u8; 16]> = Vec::new();
        tx.scan(Table::Document, &start..&end, &mut |key, _| {
            // A longer key, which only a damaged store has, would be met again from behind its first bytes, for ever.
            some.extend(<[u8; 16]>::try_from(key));
            if some.len() < DOCUMENTS_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let Some(last) = some.last() else { return Ok(()) };
        let next = behind(last);
        let mut elsewhere: BTreeSet<[u8; 16]> = BTreeSet::new();
        tx.scan(Table::Space, &start..&next, &mut |key, _| {
            elsewhere.extend(key.first_chunk::<16>());
            ControlFlow::Continue(())
        })?;
        for document in some.iter().filter(|document| !elsewhere.contains(*document)) {
            if visit(DocumentId::from_bytes(*document)).is_break() {
                return Ok(());
            }
        }
        start = next;
    }
}

/// Returns the space that was noted for a document.
pub(crate) fn noted(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<Option<SpaceId>, StoreError> {
    Ok(read_note(tx, document)?.map(|(space, _)| space))
}

/// Visits documents, which are in the order of their ids, each with its space.
///
/// Cost: one visit a document where most of those that are in spaces are wanted, one lookup a document where few are.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub(crate) fn of_each<T: Copy>(
    tx: &(impl ReadTx + ?Sized),
    documents: &[(DocumentId, T)],
    mut visit: impl FnMut(DocumentId, SpaceId, T),
) -> Result<(), StoreError> {
    let (Some((first, _)), Some((last, _))) = (documents.first(), documents.last()) else { return Ok(()) };
    let mut rest = documents;
    let mut visits = documents.len() * VISITS_A_LOOKUP;
    let mut outcome = Ok(());
    tx.scan(Table::Space, first.as_bytes()..&behind(last.as_bytes()), &mut |key, value| {
        while let Some(((document, with), behind)) = rest.split_first()
            && document.as_bytes().as_slice() <= key
        {
            let is_there = document.as_bytes().as_slice() == key;
            match if is_there { read_value(value).map(|(space, _)| space) } else { Ok(SpaceId::DEFAULT) } {
                Ok(space) => visit(*document, space, *with),
                Err(error) => {
                    outcome = Err(error);
                    return ControlFlow::Break(());
                }
            }
            rest = behind;
        }
        visits -= 1;
        if rest.is_empty() || visits == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    outcome?;
    // Where the visits ended early, the others are few among many; where the table ended, they are in no space of their own.
    for (document, with) in rest {
        let space = if visits == 0 { of(tx, document)? } else { SpaceId::DEFAULT };
        visit(*document, space, *with);
    }
    Ok(())
}

/// How many visits of a scan cost what one lookup does: 4, or fewer.
const VISITS_A_LOOKUP: usize = 4;

/// Reads where a document is, and whether it was dismissed.
fn read_note(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<Option<(SpaceId, bool)>, StoreError> {
    tx.get(Table::Space, document.as_bytes())?.map(|bytes| read_value(&bytes)).transpose()
}

/// Reads the value of a row.
fn read_value(bytes: &[u8]) -> Result<(SpaceId, bool), StoreError> {
    let is_dismissed = bytes.len() == 17 && bytes.last() == Some(&DISMISSED);
    let space = if is_dismissed { &bytes[..16] } else { bytes };
    let space = space.try_into().map_err(|_| StoreError::Damaged { what: "space-1" })?;
    Ok((SpaceId::from_bytes(space), is_dismissed))
}

/// Notes of a document that was deleted from this device that it is not wanted here, although its space is followed. In the
/// default space, where only what is asked for comes, nothing is noted. [`put`] takes it back.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used.
pub fn dismiss(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId, space: &SpaceId) -> Result<(), StoreError> {
    if *space == SpaceId::DEFAULT {
        return Ok(());
    }
    tx.delete(Table::Member, &member_key(space, document))?;
    tx.put(Table::Space, document.as_bytes(), &[&space.as_bytes()[..], &[DISMISSED]].concat())
}

/// Says whether a document was deleted from this device and is not wanted here.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn is_dismissed(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<bool, StoreError> {
    Ok(read_note(tx, document)?.is_some_and(|(_, is_dismissed)| is_dismissed))
}

/// Notes where a document is, or was, without listing it there.
pub(super) fn note(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId, space: &SpaceId) -> Result<(), StoreError> {
    tx.put(Table::Space, document.as_bytes(), space.as_bytes())
}

/// Lists a document no more; where it was stays noted.
pub(super) fn unlist(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId) -> Result<(), StoreError> {
    match noted(tx, document)? {
        Some(space) => tx.delete(Table::Member, &member_key(&space, document)),
        None => Ok(()),
    }
}

/// Forgets where a document is.
pub(super) fn forget(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId) -> Result<(), StoreError> {
    unlist(tx, document)?;
    tx.delete(Table::Space, document.as_bytes())
}

fn member_key(space: &SpaceId, document: &DocumentId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(space.as_bytes());
    key[16..].copy_from_slice(document.as_bytes());
    key
}

/// Returns the first key after a key.
fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::ledger;
    use crate::store::{MemoryStore, Store, StoreExt};

    const TEAM: SpaceId = SpaceId::from_bytes([0xe1; 16]);
    const OTHER: SpaceId = SpaceId::from_bytes([0xe2; 16]);

    fn document(number: u16) -> DocumentId {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        DocumentId::from_bytes(bytes)
    }

    fn listed(tx: &dyn ReadTx, space: &SpaceId, at_once: usize) -> Vec<DocumentId> {
        let mut all = Vec::new();
        loop {
            let before = all.len();
            let after = all.last().copied();
            documents(tx, space, after.as_ref(), &mut |document| {
                all.push(document);
                if all.len() - before < at_once { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .unwrap();
            if all.len() == before {
                return all;
            }
        }
    }

    #[test]
    fn document_is_in_one_space_and_listed_there_page_by_page() {
        let store = MemoryStore::new();
        let of_team = |number: &u16| number.is_multiple_of(3);
        store
            .write_with(|tx| {
                for number in 0..3_000 {
                    ledger::create(tx, &document(number))?;
                    if of_team(&number) {
                        assert_eq!(put(tx, &document(number), &TEAM)?, Placed::There);
                    }
                }
                assert_eq!(put(tx, &document(3), &TEAM)?, Placed::There);
                assert_eq!(put(tx, &document(3), &OTHER)?, Placed::Elsewhere(TEAM));
                assert_eq!(put(tx, &document(3), &SpaceId::DEFAULT)?, Placed::Elsewhere(TEAM));
                assert_eq!(put(tx, &document(1), &SpaceId::DEFAULT)?, Placed::There);
                Ok(())
            })
            .unwrap();
        let tx = store.read().unwrap();
        let expected = |team| (0..3_000).filter(|number| of_team(number) == team).map(document).collect::<Vec<_>>();
        for at_once in [1, 700, 10_000] {
            assert_eq!(listed(tx.as_ref(), &TEAM, at_once), expected(true));
            assert_eq!(listed(tx.as_ref(), &SpaceId::DEFAULT, at_once.max(100)), expected(false));
        }
        assert_eq!(listed(tx.as_ref(), &OTHER, 1), []);
        assert_eq!((of(&*tx, &document(3)).unwrap(), of(&*tx, &document(4)).unwrap()), (TEAM, SpaceId::DEFAULT));
    }

    #[test]
    fn document_that_was_dismissed_stays_away_until_it_is_put_again() {
        let store = MemoryStore::new();
        store
            .write_with(|tx| {
                put(tx, &document(1), &TEAM)?;
                ledger::create(tx, &document(1))?;
                ledger::delete(tx, &document(1))?;
                dismiss(tx, &document(1), &TEAM)
            })
            .unwrap();
        let tx = store.read().unwrap();
        assert!(is_dismissed(tx.as_ref(), &document(1)).unwrap());
        assert_eq!(listed(tx.as_ref(), &TEAM, 1), []);
        assert_eq!(of(&*tx, &document(1)).unwrap(), TEAM);
        store.write_with(|tx| put(tx, &document(1), &TEAM)).unwrap();
        let tx = store.read().unwrap();
        assert!(!is_dismissed(tx.as_ref(), &document(1)).unwrap());
        assert_eq!(listed(tx.as_ref(), &TEAM, 1), [document(1)]);
    }

    #[test]
    fn document_that_is_not_here_yet_is_known() {
        let store = MemoryStore::new();
        store.write_with(|tx| put(tx, &document(1), &TEAM)).unwrap();
        assert_eq!(listed(store.read().unwrap().as_ref(), &TEAM, 1), [document(1)]);
        store.write_with(|tx| ledger::delete(tx, &document(1))).unwrap();
        assert_eq!(listed(store.read().unwrap().as_ref(), &TEAM, 1), []);
        assert_eq!(of(&*store.read().unwrap(), &document(1)).unwrap(), SpaceId::DEFAULT);
    }

    #[test]
    fn spaces_of_many_are_those_of_each() {
        let mut random = SmallRng::seed_from_u64(0x5_1CE5);
        for round in 0..300 {
            let store = MemoryStore::new();
            let stored = random.random_range(0..60);
            let wanted = random.random_range(0..12);
            let id = |random: &mut SmallRng| DocumentId::from_bytes([random.random_range(0..40); 16]);
            let space = |random: &mut SmallRng| SpaceId::from_bytes([random.random_range(0..3); 16]);
            store
                .write_with(|tx| {
                    (0..stored).try_for_each(|_| put(tx, &id(&mut random), &space(&mut random)).map(drop))?;
                    dismiss(tx, &id(&mut random), &space(&mut random))
                })
                .unwrap();
            let documents: BTreeSet<DocumentId> = (0..wanted).map(|_| id(&mut random)).collect();
            let documents: Vec<(DocumentId, ())> = documents.into_iter().map(|document| (document, ())).collect();
            let tx = store.read().unwrap();
            let mut found = Vec::new();
            of_each(&*tx, &documents, |document, space, ()| found.push((document, space))).unwrap();
            let each = documents.iter().map(|(document, ())| (*document, of(&*tx, document).unwrap()));
            assert_eq!(found, each.collect::<Vec<_>>(), "round {round}");
        }
    }
}
